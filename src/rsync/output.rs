//! What rsync says, understood. Pure: lines in, values out.

use super::{Finished, Progress};
use crate::filter::listing::decode;
use crate::process::{Exit, StopReason};
use crate::ssh;
use crate::tree::RelPath;
use crate::tree::path::escape;
use std::collections::BTreeSet;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Marks an itemised line (`--out-format`). The path comes last: it may hold anything.
const ITEM_MARK: &str = "@ ";

/// Something rsync complained about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The path it is about, as far as that can be told. (What concerns the call as a whole
    /// is in its [`ListOutcome`](super::ListOutcome), unless the call came through.)
    pub path: Option<RelPath>,
    /// The complaint, without the path.
    pub text: String,
    /// A device, fifo or socket that cannot be made there, by this user or at all.
    pub is_unmakeable: bool,
}

impl Message {
    /// If the path may be the temporary name of a special file: that file's path.
    #[must_use]
    pub fn stands_for(&self) -> Option<RelPath> {
        without_pid(self.path.as_ref()?)
    }
}

/// What a line on standard output was.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Bytes have moved.
    Progress,
    /// An itemised entry.
    Item(Item),
    /// A line of the statistics, for people.
    Statistic(String),
    /// Something else, for people.
    Other(String),
    /// Nothing worth showing.
    Nothing,
}

/// What rsync does to an entry; shows itself for people.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Item {
    change: String,
    name: Vec<u8>,
}

impl Item {
    /// The file that rsync begins to carry over with this.
    pub(super) fn begun(&self) -> Option<&[u8]> {
        self.change.starts_with(['<', '>']).then_some(&self.name)
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.change, escape(&self.name))
    }
}

/// Listens to one call.
#[derive(Debug, Default)]
pub(super) struct Listener {
    roots: [Vec<u8>; 2],
    progress: Progress,
    /// rsync names a file when it begins to transfer it: the length of the one it is busy
    /// with.
    busy: Option<u64>,
    /// The lengths of all files before that.
    done: u64,
    messages: Vec<Message>,
    unverified: Vec<Message>,
    left_out: u64,
    words: Vec<String>,
    remarks: Vec<String>,
    in_statistics: bool,
    unknown: Option<UnknownOption>,
}

/// One attempt at a transfer.
#[derive(Debug)]
pub(super) struct Attempt {
    /// All of it but what another attempt may put right.
    finished: Finished,
    /// Complaints about files that were not put together right.
    unverified: Vec<Message>,
    unknown: Option<UnknownOption>,
}

impl Attempt {
    /// Whether it came to nothing because one of the rsyncs does not know this option.
    pub(super) fn lacked(&self, option: &str) -> bool {
        let is_it = |unknown: &UnknownOption| unknown.option == option;
        matches!(self.finished.outcome, ListOutcome::Failed(_))
            && self.unknown.as_ref().is_some_and(is_it)
    }

    /// The files that were not put together right, if another attempt at them is of use.
    pub(super) fn unverified(&self) -> BTreeSet<RelPath> {
        if !self.finished.outcome.is_complete() {
            return BTreeSet::new();
        }
        self.unverified.iter().filter_map(|message| message.path.clone()).collect()
    }

    pub(super) fn progress(&self) -> Progress {
        self.finished.progress
    }

    /// There was no other attempt.
    pub(super) fn alone(self) -> Finished {
        let mut finished = self.finished;
        finished.messages.extend(self.unverified);
        finished
    }

    /// What both came to, if there was another one for some of [`Attempt::unverified`].
    pub(super) fn followed_by(self, again: &BTreeSet<RelPath>, second: Finished) -> Finished {
        let mut first = self.finished;
        let is_open = |message: &Message| !message.path.as_ref().is_some_and(|p| again.contains(p));
        first.messages.extend(self.unverified.into_iter().filter(is_open));
        let is_clean = first.messages.is_empty() && first.left_out == 0;
        Finished {
            outcome: match second.outcome {
                outcome if is_clean || !outcome.is_complete() => outcome,
                _ => first.outcome,
            },
            messages: [first.messages, second.messages].concat(),
            left_out: first.left_out + second.left_out,
            remarks: [first.remarks, second.remarks].concat(),
            progress: first.progress.and_again(second.progress),
        }
    }
}

/// How many lines about a call as a whole are kept.
const MOST_WORDS: usize = 20;
/// How much of one line is kept, in bytes: more is no complaint but rubbish.
const LONGEST_WORDS: usize = 2000;

impl Listener {
    pub(super) fn new(roots: [&Path; 2]) -> Self {
        let roots = roots.map(|root| root.as_os_str().as_bytes().to_vec());
        Listener { roots, ..Listener::default() }
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress
    }

    /// A line of standard output.
    pub(super) fn hear(&mut self, line: &[u8]) -> Heard {
        if let Some(item) = line.strip_prefix(ITEM_MARK.as_bytes()) {
            return match parse_item(item) {
                Some((item, length)) => {
                    self.busy_no_more();
                    if item.begun().is_some() {
                        self.busy = Some(length);
                    } else if !item.name.ends_with(b"/") {
                        self.progress.files += 1;
                    }
                    Heard::Item(item)
                }
                None => Heard::Other(escape(&decode(item))),
            };
        }
        if let Some(bytes) = parse_progress(line) {
            self.progress.bytes = self.progress.bytes.max(bytes);
            return Heard::Progress;
        }
        if line.is_empty() {
            return Heard::Nothing;
        }
        self.in_statistics |= line.starts_with(b"Number of files:");
        let text = escape(&decode(line));
        if self.in_statistics {
            if let Some(bytes) = parse_transferred(&text) {
                self.progress.bytes = bytes;
            }
            return Heard::Statistic(text);
        }
        if is_complaint(line) {
            self.hear_error(line);
            return Heard::Nothing;
        }
        Heard::Other(text)
    }

    /// The file that rsync was busy with is done.
    fn busy_no_more(&mut self) {
        if let Some(length) = self.busy.take() {
            self.progress.files += 1;
            self.done = self.done.saturating_add(length);
            self.progress.bytes = self.progress.bytes.max(self.done);
        }
    }

    /// A line of standard error.
    pub(super) fn hear_error(&mut self, line: &[u8]) {
        if self.unknown.is_none() {
            self.unknown = UnknownOption::parse(line);
        }
        // only rsync knows our paths, whatever a banner has in quotes
        let is_own = is_of_rsync(line);
        let understood = if is_own { parse(line) } else { remark(line) };
        let Some((path, mut text)) = understood else { return };
        shorten(&mut text);
        let path = path.and_then(|path| self.relative(&path));
        if path.is_none() && !ssh::is_noise(line) && self.words.len() < MOST_WORDS {
            self.words.push(text.clone());
        }
        if text.starts_with("rsync error: ") {
            return;
        }
        if !is_own {
            if self.remarks.len() < MOST_WORDS {
                self.remarks.push(text);
            }
            return;
        }
        if self.messages.len() + self.unverified.len() == Finished::MOST_MESSAGES {
            self.left_out += 1;
            return;
        }
        let is_unmakeable = path.is_some() && is_unmakeable(&text);
        let is_unverified = path.is_some() && is_unverified(&text);
        let list = if is_unverified { &mut self.unverified } else { &mut self.messages };
        list.push(Message { path, text, is_unmakeable });
    }

    /// What it all came to.
    pub(super) fn finish(mut self, exit: Exit) -> Attempt {
        let outcome = outcome(exit, self.unknown.as_ref(), &self.words);
        if outcome.is_complete() {
            self.progress.files += u64::from(self.busy.is_some());
        } else {
            // the outcome holds them
            self.messages.retain(|message| message.path.is_some());
            self.remarks.clear();
        }
        if outcome == ListOutcome::Partial && self.unverified.is_empty() {
            // one of them may be the reason
            let remarks = self.remarks.drain(..);
            self.messages.extend(remarks.map(|text| Message {
                path: None,
                text,
                is_unmakeable: false,
            }));
        }
        let finished = Finished {
            outcome,
            messages: self.messages,
            left_out: self.left_out,
            remarks: self.remarks,
            progress: self.progress,
        };
        Attempt { finished, unverified: self.unverified, unknown: self.unknown }
    }

    /// The path below its replica. rsync names files absolutely, or relative to the root.
    fn relative(&self, path: &[u8]) -> Option<RelPath> {
        if path.first() != Some(&b'/') {
            return RelPath::new(path).ok();
        }
        self.roots.iter().find_map(|root| {
            let root = root.strip_suffix(b"/").unwrap_or(root);
            let below = path.strip_prefix(root)?.strip_prefix(b"/")?;
            RelPath::new(below).ok().map(|path| without_temporary(&path))
        })
    }
}

/// A line that is not rsync's.
fn remark(line: &[u8]) -> Option<(Option<Vec<u8>>, String)> {
    let text = String::from_utf8_lossy(line.trim_ascii()).into_owned();
    (!text.is_empty()).then_some((None, text))
}

fn shorten(text: &mut String) {
    if text.len() > LONGEST_WORDS {
        let end = (0..=LONGEST_WORDS).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or_default());
        text.push('…');
    }
}

/// `%i %l %n`: what changed and the path (a directory's ends in a slash), and the length.
fn parse_item(line: &[u8]) -> Option<(Item, u64)> {
    let end = line.iter().position(|b| *b == b' ')?;
    let (change, rest) = line.split_at(end);
    let change = std::str::from_utf8(change).ok()?;
    // what is no such word is shown as all else is
    change.bytes().all(|b| b.is_ascii_graphic()).then_some(())?;
    let rest = rest.trim_ascii_start();
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let name = rest[digits..].strip_prefix(b" ")?;
    let length = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
    let item = || Item { change: change.to_owned(), name: decode(name) };
    (!name.is_empty()).then(|| (item(), length))
}

/// `   3000000  99%    1.00MB/s    0:00:02 (xfr#1, to-chk=4/6)`: the bytes.
fn parse_progress(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line).ok()?;
    let mut words = text.split_ascii_whitespace();
    let bytes = words.next()?.parse().ok()?;
    let percent = words.next()?.strip_suffix('%')?;
    (text.starts_with(' ') && percent.parse::<u8>().is_ok() && words.next()?.contains("B/s"))
        .then_some(bytes)
}

fn parse_transferred(line: &str) -> Option<u64> {
    let text = line.strip_prefix("Total transferred file size: ")?;
    text.strip_suffix(" bytes")?.parse().ok()
}

/// Complaints that rsync writes to standard output.
fn is_complaint(line: &[u8]) -> bool {
    [
        &b"cannot delete non-empty directory: "[..],
        b"could not make way for ",
        b"skipping non-regular file ",
        b"file has vanished: ",
        b"symlink has no referent: ",
        b"WARNING: ",
        b"ERROR: ",
    ]
    .iter()
    .any(|start| line.starts_with(start))
}

/// Whether a line on standard error is rsync's own, and not of the remote shell on the way.
fn is_of_rsync(line: &[u8]) -> bool {
    let own = [&b"rsync: "[..], b"rsync error: ", b"rsync warning: ", b"IO error ", b"@ERROR"];
    is_complaint(line) || own.iter().any(|start| line.starts_with(start))
}

/// A complaint's path, if it names one, and its words without the path; `None` for lines
/// that only repeat the exit status, and for what rsync puts right by itself.
fn parse(line: &[u8]) -> Option<(Option<Vec<u8>>, String)> {
    let line = line.trim_ascii();
    let repeats = [
        &b"rsync error: some files/attrs were not transferred"[..],
        b"rsync warning: some files vanished",
    ];
    if line.is_empty() || repeats.iter().any(|start| line.starts_with(start)) {
        return None;
    }
    // rsync compares blocks by short sums first; where they deceive it (in a log of like lines),
    // it takes the file again by long ones, and says so if that fails too
    if line.starts_with(b"WARNING: ")
        && find(line, b" failed verification -- update ").is_some()
        && line.ends_with(b" (will try again).")
    {
        return None;
    }
    let line = without_role(line);
    // where in rsync's own source
    let line = find(line, b") at ")
        .filter(|_| line.starts_with(b"rsync error: "))
        .map_or(line, |end| &line[..=end]);
    let (before, path, after) = split_path(line);
    let [before, after] = [before, after].map(|text| String::from_utf8_lossy(text).into_owned());
    let words =
        format!("{}{after}", if after.starts_with(':') { before.trim_end() } else { &before });
    Some((path, plain(words.trim())))
}

/// Without `rsync: [sender] `.
fn without_role(line: &[u8]) -> &[u8] {
    let Some(rest) = line.strip_prefix(b"rsync: ") else { return line };
    if rest.first() != Some(&b'[') {
        return rest;
    }
    rest.iter().position(|b| *b == b']').map_or(rest, |end| rest[end + 1..].trim_ascii_start())
}

/// Cuts out what stands between the first and the last quote (the first of two such names),
/// or behind the colon of the complaints that do not quote.
fn split_path(line: &[u8]) -> (&[u8], Option<Vec<u8>>, &[u8]) {
    for start in
        [&b"cannot delete non-empty directory: "[..], b"could not make way for new regular file: "]
    {
        if let Some(path) = line.strip_prefix(start) {
            return (&start[..start.len() - 2], Some(decode(path)), b"");
        }
    }
    if let Some(rest) = line.strip_prefix(b"WARNING: ").or_else(|| line.strip_prefix(b"ERROR: "))
        && let Some(at) = find(rest, b" failed verification -- ")
    {
        return (b"", Some(decode(&rest[..at])), &rest[at..]);
    }
    let first = line.iter().position(|b| *b == b'"');
    let last = line.iter().rposition(|b| *b == b'"');
    match (first, last) {
        (Some(first), Some(last)) if first < last => {
            let quoted = &line[first + 1..last];
            // a link's target, or the name of an extended attribute
            let second: &[u8] =
                if line[..first].ends_with(b"xattr(") { b"\",\"" } else { b"\" -> \"" };
            let name = find(quoted, second).map_or(quoted, |end| &quoted[..end]);
            let before = line[..first].strip_suffix(b": ").unwrap_or(&line[..first]);
            (before, Some(decode(name)), &line[last + 1..])
        }
        _ => (line, None, b""),
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// rsync's words, with the cause in plain ones where we know better.
fn plain(words: &str) -> String {
    const KNOWN: [(&str, &str); 13] = [
        ("file has vanished", "it vanished while it was being transferred"),
        ("symlink has no referent", "the link points at nothing, so there is nothing to copy"),
        (UNVERIFIED, "it changed while it was being read; the next run takes it again"),
        ("cannot delete non-empty directory", "a directory that is not empty is in its place"),
        ("could not make way", "what is in its place cannot be removed"),
        ("skipping non-regular file", "it is not a regular file and was left out"),
        ("No space left on device", "no space left on the receiving side"),
        ("Disk quota exceeded", "the disk quota of the receiving side is used up"),
        ("Read-only file system", "the file system is read-only"),
        ("Permission denied", "permission denied"),
        ("Operation not permitted", "this user may not do that"),
        (
            "Too many levels of symbolic links",
            "a directory above it is a link that leads out of the replica, which this rsync \
             does not follow",
        ),
        ("File name too long", "its name or path is too long"),
    ];
    let words: String = words.split_whitespace().collect::<Vec<_>>().join(" ");
    match KNOWN.iter().find(|(theirs, _)| words.contains(theirs)) {
        Some((_, ours)) => format!("{ours} (rsync: {words})"),
        None => words,
    }
}

/// Whether the words are about a special file that cannot be made: this user may not do
/// that, or the system or file system has no such thing.
fn is_unmakeable(text: &str) -> bool {
    const FOR_GOOD: [&str; 5] = [
        "Operation not permitted",
        "not supported",
        "Function not implemented",
        "Invalid argument",
        // of a socket, on systems where its path must be short
        "File name too long",
    ];
    text.contains("skipping non-regular file")
        || text.contains("mknod failed: ") && FOR_GOOD.iter().any(|why| text.contains(why))
}

const UNVERIFIED: &str = "failed verification -- update";

/// Whether the words are about a file that rsync put together from old and new parts, and
/// that did not become what was sent.
fn is_unverified(text: &str) -> bool {
    text.contains(UNVERIFIED)
}

/// The file that a temporary `.NAME.XXXXXX` stands for.
fn without_temporary(path: &RelPath) -> RelPath {
    let name = path.name();
    let inner = || {
        let body = name.strip_prefix(b".")?;
        let (name, random) = body.split_at(body.len().checked_sub(".XXXXXX".len())?);
        let random = random.strip_prefix(b".")?;
        (!name.is_empty() && random.iter().all(u8::is_ascii_alphanumeric)).then_some(name)
    };
    match (inner(), path.parent()) {
        (Some(name), Some(parent)) => parent.join(name),
        _ => path.clone(),
    }
}

/// The special file that a temporary `.NAME.PID` stands for, if it has such a name.
fn without_pid(path: &RelPath) -> Option<RelPath> {
    let name = path.name().strip_prefix(b".")?;
    let dot = name.iter().rposition(|b| *b == b'.').filter(|dot| *dot > 0)?;
    let pid = &name[dot + 1..];
    (!pid.is_empty() && pid.iter().all(u8::is_ascii_digit)).then_some(())?;
    Some(path.parent()?.join(&name[..dot]))
}

/// What the end of a call means for its list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListOutcome {
    /// All of the list was worked through.
    Done,
    /// All of it, except what vanished on the source in between. No error.
    Vanished,
    /// Some entries failed; the rest of the list was worked through.
    Partial,
    /// The call broke off (disk full, say): what came later in the list is undone and stays
    /// planned. The words say why.
    EndedEarly(String),
    /// The run was stopped, and the call with it.
    Stopped(StopReason),
    /// The call failed: the words say why and what to do about it.
    Failed(String),
}

impl ListOutcome {
    /// Whether the whole list was worked through.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        matches!(self, ListOutcome::Done | ListOutcome::Vanished | ListOutcome::Partial)
    }
}

/// Reads an exit. `words` is what rsync and the remote shell said about the call as a whole.
pub(super) fn outcome(
    exit: Exit,
    unknown: Option<&UnknownOption>,
    words: &[String],
) -> ListOutcome {
    let code = match exit {
        Exit::Stopped(reason) => return ListOutcome::Stopped(reason),
        Exit::Code(code) => code,
        Exit::Signal(signal) => {
            return ListOutcome::Failed(format!("rsync was ended by signal {signal}"));
        }
        Exit::TimedOut => return ListOutcome::Failed("rsync took too long and was ended".into()),
    };
    // the client itself ends with 1; where its server did, with 12 or whatever is left of that
    if let (Some(unknown), 1..=22 | 25..) = (unknown, code) {
        let place = if code == 1 { "the rsync of this machine" } else { "the rsync over there" };
        return ListOutcome::Failed(unknown.meaning(place));
    }
    match code {
        0 => ListOutcome::Done,
        24 => ListOutcome::Vanished,
        23 => ListOutcome::Partial,
        11 => ListOutcome::EndedEarly(described(code, meaning(code, words), words)),
        _ => ListOutcome::Failed(described(code, meaning(code, words), words)),
    }
}

/// The oldest rsync that a run can do with.
const OLDEST: &str = "3.1.2";

/// An option that one of the two rsyncs does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnknownOption {
    /// As rsync writes it, dashes included; openrsync tells a letter only.
    pub option: String,
    /// It is the rsync of OpenBSD and macOS.
    pub is_openrsync: bool,
}

impl UnknownOption {
    /// Reads a line of standard error. (`popt`, which rsync uses, words it in one way, and
    /// `getopt`, which openrsync uses, in two.)
    pub fn parse(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?.trim();
        let words = ["rsync: ", "openrsync: "].iter().find_map(|name| {
            let at = line.find(name).filter(|at| *at == 0 || line[..*at].ends_with('/'))?;
            Some(&line[at + name.len()..])
        })?;
        if let Some(option) = words.strip_suffix(": unknown option") {
            let option = option.rsplit(' ').next()?.to_owned();
            return Some(UnknownOption { option, is_openrsync: false });
        }
        let letter = ["invalid option -- ", "unknown option -- ", "unrecognized option "]
            .iter()
            .find_map(|theirs| words.strip_prefix(theirs))?;
        let option = letter.trim_matches(['\'', '`', '"']).to_owned();
        Some(UnknownOption { option, is_openrsync: true })
    }

    /// Why the call failed, and what to do about it.
    fn meaning(&self, place: &str) -> String {
        if self.is_openrsync {
            return format!(
                "{place} is openrsync, which cannot do what osync needs; install rsync {OLDEST} \
                 or later there and name it (RSYNC_EXECUTABLE, RSYNC_REMOTE_PATH)"
            );
        }
        format!(
            "{place} does not know the option {}: rsync {OLDEST} or later is needed on both sides; \
             if that is what it is, look at RSYNC_OPTIONAL_ARGS",
            self.option
        )
    }
}

const UNKNOWN: &str = "an error that rsync does not explain further";

fn described(code: i32, meaning: &str, words: &[String]) -> String {
    // its last line only repeats the status, which matters where we cannot say more
    let repeats = |line: &str| meaning != UNKNOWN && line.starts_with("rsync error: ");
    let words: Vec<&str> = words.iter().map(String::as_str).filter(|line| !repeats(line)).collect();
    match words[..] {
        [] => format!("rsync ended with status {code}: {meaning}"),
        _ => format!("rsync ended with status {code}: {meaning} ({})", words.join("; ")),
    }
}

fn meaning(code: i32, words: &[String]) -> &'static str {
    let said = |text: &str| words.iter().any(|line| line.contains(text));
    if said("is your shell clean") || said("protocol version mismatch") {
        return "something on the way prints text of its own (a login banner, a start-up file \
                of the shell over there); make it silent for non-interactive sessions";
    }
    if said("(code 127)") || said("command not found") || said(": not found") {
        return "there is no rsync on the other side that can be started; install it there, or set \
                RSYNC_REMOTE_PATH";
    }
    match code {
        // what the other machine had to say of it may be lost when it ends
        11 if !said("No space left") => {
            "it could not write or read a file, perhaps because the disk of the receiving side is full"
        }
        11 => "it could not write or read a file",
        1 => {
            "it does not know one of its options; look at RSYNC_OPTIONAL_ARGS, and whether \
             both sides have rsync 3.1.2 or later"
        }
        2 | 4 => "the two rsyncs do not fit together; update the older one",
        3 => "a replica directory could not be entered",
        5 | 12 | 14 => "the connection between the two rsyncs broke",
        10 | 30 | 35 => "the connection to the other side was lost",
        20 => "somebody ended it",
        22 => "it ran out of memory",
        25 => "a --max-delete limit stopped it",
        126 => "it cannot be run on one of the two sides",
        127 => "it cannot be started here",
        255 => "the remote shell failed",
        _ => UNKNOWN,
    }
}

#[cfg(test)]
mod output_tests {
    use super::*;

    fn listener() -> Listener {
        Listener::new([Path::new("/s"), Path::new("/d/")])
    }

    #[test]
    fn without_progress_lines_the_lengths_of_named_files_tell_how_far_it_came() {
        let mut listener = listener();
        for line in ["@ cd+++++++++ 40 d/", "@ >f+++++++++ 100 d/a", "@ cL+++++++++ 3 d/l"] {
            listener.hear(line.as_bytes());
        }
        assert_eq!(listener.progress(), Progress { files: 2, bytes: 100 });
        listener.hear(b"@ >f+++++++++ 5 d/b");
        // whether the last one came through is not known
        let killed = listener.finish(Exit::Signal(9)).alone();
        assert_eq!(killed.progress, Progress { files: 2, bytes: 100 });
    }

    #[test]
    fn progress_items_and_statistics_are_told_apart() {
        let item = |change: &str, name: &str| {
            Heard::Item(Item { change: change.into(), name: name.into() })
        };
        let mut listener = listener();
        for (line, heard) in [
            ("          32768   1%    0.00kB/s    0:00:00  ", Heard::Progress),
            ("@ >f+++++++++ 3000000 big", item(">f+++++++++", "big")),
            ("@ cd+++++++++ 4096 dir/", item("cd+++++++++", "dir/")),
            ("@ *deleting   0 /bk/f/", item("*deleting", "/bk/f/")),
            (r"@ >f+++++++++ 6  sm\#012all", item(">f+++++++++", " sm\nall")),
            ("@ ?", Heard::Other("?".into())),
            ("@ \x1b[2J 6 a", Heard::Other("\\x1B[2J 6 a".into())),
            ("", Heard::Nothing),
            ("sending incremental file list", Heard::Other("sending incremental file list".into())),
            ("Number of files: 6 (reg: 2)", Heard::Statistic("Number of files: 6 (reg: 2)".into())),
            (
                "Total transferred file size: 3000006 bytes",
                Heard::Statistic("Total transferred file size: 3000006 bytes".into()),
            ),
        ] {
            assert_eq!(listener.hear(line.as_bytes()), heard);
        }
        let Heard::Item(odd) = item(">f+++++++++", " sm\nall") else { panic!() };
        assert_eq!(odd.to_string(), ">f+++++++++  sm\\nall");
        // of two files, the second is under way until the end
        assert_eq!(listener.progress(), Progress { files: 1, bytes: 3_000_006 });
        let finished = listener.finish(Exit::Code(0)).alone();
        assert_eq!(finished.progress, Progress { files: 2, bytes: 3_000_006 });
    }

    #[test]
    fn complaints_are_tied_to_their_path() {
        for (line, path, words) in [
            (
                r#"rsync: [sender] send_files failed to open "/s/a b": Permission denied (13)"#,
                Some("a b"),
                "permission denied (rsync: send_files failed to open: Permission denied (13))",
            ),
            (
                r#"rsync: [receiver] mkstemp "/d/ro/.f.nqhWG1" failed: Permission denied (13)"#,
                Some("ro/f"),
                "permission denied",
            ),
            (
                r#"rsync: [receiver] write failed on "/d/x": No space left on device (28)"#,
                Some("x"),
                "no space left",
            ),
            (r#"file has vanished: "/s/gone""#, Some("gone"), "it vanished"),
            (r#"file has vanished: "/s/d/.git""#, Some("d/.git"), "it vanished"),
            (r#"file has vanished: "/s/.12345""#, Some(".12345"), "it vanished"),
            (r#"file has vanished: "/s/..abcdef""#, Some("..abcdef"), "it vanished"),
            (
                r#"rsync: [receiver] rename "/d/.q"t.a1B2c3" -> "q"t": Is a directory (21)"#,
                Some("q\"t"),
                "rename: Is a directory",
            ),
            (
                "cannot delete non-empty directory: k/l",
                Some("k/l"),
                "a directory that is not empty",
            ),
            ("could not make way for new regular file: k", Some("k"), "what is in its place"),
            (
                "ERROR: a/b failed verification -- update discarded.",
                Some("a/b"),
                "it changed while",
            ),
            (
                "rsync: connection unexpectedly closed (0 bytes received so far) [sender]",
                None,
                "connection unexpectedly closed",
            ),
            (
                r#"rsync: [receiver] mkdir "/elsewhere/x" failed: Permission denied (13)"#,
                None,
                "mkdir",
            ),
        ] {
            let mut listener = listener();
            listener.hear_error(line.as_bytes());
            let finished = listener.finish(Exit::Code(23)).alone();
            let [message] = &finished.messages[..] else { panic!("{line}") };
            let expected = path.map(|path| RelPath::new(path).unwrap());
            assert_eq!(message.path, expected, "{line}");
            assert!(message.text.contains(words), "{}\n{line}", message.text);
        }
    }

    #[test]
    fn special_files_that_cannot_be_made_are_known() {
        for (line, expected) in [
            (r#"rsync: [receiver] mknod "/d/x" failed: Operation not permitted (1)"#, true),
            (r#"rsync: [generator] mknod "/d/x" failed: Operation not supported (95)"#, true),
            (r#"skipping non-regular file "x""#, true),
            (r#"rsync: [receiver] mknod "/d/x" failed: No space left on device (28)"#, false),
            (r#"rsync: [receiver] mknod "/d/x" failed: Permission denied (13)"#, false),
            (r#"rsync: [receiver] chown "/d/x" failed: Operation not permitted (1)"#, false),
            (r#"rsync: [receiver] mknod "/else/x" failed: Operation not permitted (1)"#, false),
        ] {
            let mut listener = listener();
            listener.hear_error(line.as_bytes());
            assert_eq!(listener.messages[0].is_unmakeable, expected, "{line}");
        }
    }

    #[test]
    fn lines_that_only_repeat_the_exit_status_are_no_complaints() {
        let mut listener = listener();
        for line in [
            "rsync error: some files/attrs were not transferred (see previous errors) (code 23) at main.c(1394) [sender=3.5.0]",
            "rsync warning: some files vanished before they could be transferred (code 24) at main.c(1338)",
            "",
        ] {
            listener.hear_error(line.as_bytes());
        }
        assert!(listener.finish(Exit::Code(23)).alone().messages.is_empty());
    }

    #[test]
    fn a_second_attempt_takes_the_place_of_what_was_unverified_in_the_first() {
        let attempt = |lines: &[&str], code| {
            let mut listener = listener();
            for line in lines {
                listener.hear_error(line.as_bytes());
            }
            listener.finish(Exit::Code(code))
        };
        let unverified = "ERROR: a/b failed verification -- update put into partial-dir.";
        let denied = r#"rsync: [sender] send_files failed to open "/s/c": Permission denied (13)"#;
        let lost = "rsync: connection unexpectedly closed (0 bytes received so far) [sender]";
        let again = BTreeSet::from([RelPath::new("a/b").unwrap()]);
        for (first, (second, code), outcome, told) in [
            (&[unverified][..], (&[][..], 0), ListOutcome::Done, 0),
            (&["** Welcome **", unverified], (&["** Welcome **"], 0), ListOutcome::Done, 0),
            (&[unverified], (&[], 24), ListOutcome::Vanished, 0),
            (&[unverified], (&[unverified], 23), ListOutcome::Partial, 1),
            (&[unverified, denied], (&[], 0), ListOutcome::Partial, 1),
            (&[unverified, denied], (&[unverified], 23), ListOutcome::Partial, 2),
        ] {
            let (first, second) = (attempt(first, 23), attempt(second, code));
            assert_eq!(first.unverified(), again);
            let finished = first.followed_by(&again, second.alone());
            assert_eq!((finished.outcome, finished.messages.len()), (outcome, told));
        }
        let finished = attempt(&[unverified], 23).followed_by(&again, attempt(&[lost], 12).alone());
        assert!(matches!(finished.outcome, ListOutcome::Failed(_)), "{finished:?}");
        // without another attempt, or if that was not for it, it is told
        let finished =
            attempt(&[unverified], 23).followed_by(&BTreeSet::new(), attempt(&[], 0).alone());
        assert_eq!((finished.outcome, finished.messages.len()), (ListOutcome::Partial, 1));
        let broken = attempt(&[unverified, lost], 12);
        assert_eq!(broken.unverified(), BTreeSet::new());
        assert_eq!(broken.alone().messages.len(), 1);
    }

    #[test]
    fn a_flood_of_complaints_is_bounded_and_counted() {
        let mut listener = listener();
        for _ in 0..Finished::MOST_MESSAGES + 7 {
            listener.hear_error(b"rsync: oops");
        }
        let finished = listener.finish(Exit::Code(23)).alone();
        assert_eq!((finished.messages.len(), finished.left_out), (Finished::MOST_MESSAGES, 7));
    }

    #[test]
    fn quotes_of_others_are_no_paths() {
        let mut listener = listener();
        for _ in 0..100 {
            listener.hear_error(br#"motd: "a" and "b": be welcome"#);
        }
        let finished = listener.finish(Exit::Code(0)).alone();
        assert!(finished.messages.is_empty());
        assert_eq!(finished.remarks[0], r#"motd: "a" and "b": be welcome"#);
        assert_eq!(finished.remarks.len(), MOST_WORDS);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let mut listener = listener();
        listener.hear_error("ö".repeat(30_000).as_bytes());
        let finished = listener.finish(Exit::Code(0)).alone();
        assert_eq!(finished.remarks, [format!("{}…", "ö".repeat(LONGEST_WORDS / 2))]);
    }

    #[test]
    fn what_the_remote_shell_says_is_no_complaint_unless_the_call_fails() {
        for (exit, remarks, told) in [(0, 3, 2), (24, 3, 2), (23, 0, 5), (255, 0, 1)] {
            let mut listener = listener();
            for line in [
                "** Welcome to h **",
                "Warning: Permanently added '[h]:22' (ED25519) to the list of known hosts.",
                "rsync: [sender] link_stat \"/s/x\" failed: Permission denied (13)",
                ".bashrc: oops",
                "rsync: [Receiver] something of its own",
            ] {
                listener.hear_error(line.as_bytes());
            }
            let finished = listener.finish(Exit::Code(exit)).alone();
            assert_eq!(finished.remarks.len(), remarks, "{exit}");
            assert_eq!(finished.messages.len(), told, "{exit}: {finished:?}");
            if let ListOutcome::Failed(why) = finished.outcome {
                assert!(why.contains(".bashrc: oops") && !why.contains("Permanently"), "{why}");
            }
        }
    }
}

#[cfg(test)]
mod complaint_tests {
    use super::*;

    #[test]
    fn a_path_beside_the_name_of_an_attribute_is_told_by_itself() {
        let denied = b"rsync: [sender] get_xattr_data: lgetxattr(\"/r/a b\",\"user.a\",0) failed: \
            Permission denied (13)";
        let (path, words) = parse(denied).unwrap();
        assert_eq!(path.as_deref(), Some(&b"/r/a b"[..]));
        assert!(words.starts_with("permission denied (rsync: get_xattr_data"), "{words}");
        let plain = parse(b"rsync: rsync_xal_set: lsetxattr(\"/r/f\",\"user.a\") failed: x (1)");
        assert_eq!(plain.unwrap().0.as_deref(), Some(&b"/r/f"[..]));
        let link = parse(b"rsync: symlink \"/r/l\" -> \"t\" failed: x (1)").unwrap();
        assert_eq!(link.0.as_deref(), Some(&b"/r/l"[..]));
    }

    #[test]
    fn what_rsync_tries_again_is_no_complaint_until_that_fails() {
        let said = |line: &str| parse(line.as_bytes());
        assert_eq!(
            said("WARNING: a/b failed verification -- update discarded (will try again)."),
            None
        );
        let failed = said("ERROR: a/b failed verification -- update discarded.").unwrap();
        assert_eq!(failed.0.as_deref(), Some(&b"a/b"[..]));
        assert!(failed.1.starts_with("it changed while it was being read"), "{}", failed.1);
    }

    #[test]
    fn temporary_names_stand_for_their_files() {
        let path = |text: &str| RelPath::new(text).unwrap();
        for (name, file, special) in [
            ("d/.f.a1B2c3", "d/f", None),
            (".f.1", ".f.1", Some("f")),
            ("d/.a.b.12345678", "d/.a.b.12345678", Some("d/a.b")),
            (".k", ".k", None),
            (".", ".", None),
            ("f", "f", None),
            ("..12", "..12", None),
            (".f.", ".f.", None),
        ] {
            let Ok(name) = RelPath::new(name) else { continue };
            assert_eq!(without_temporary(&name), path(file), "{name:?}");
            assert_eq!(without_pid(&name), special.map(path), "{name:?}");
        }
    }
}

#[cfg(test)]
mod exit_tests {
    use super::*;

    #[test]
    fn an_option_that_an_rsync_lacks_is_told_from_all_else() {
        for (line, option, is_openrsync) in [
            ("rsync: -@-1: unknown option", "-@-1", false),
            ("rsync: on remote machine: --outbuf=N: unknown option", "--outbuf=N", false),
            ("rsync: invalid option -- 's'", "s", true),
            ("/usr/bin/openrsync: unknown option -- s", "s", true),
            ("rsync: unrecognized option `--outbuf=N'", "--outbuf=N", true),
        ] {
            let unknown = UnknownOption { option: option.to_owned(), is_openrsync };
            assert_eq!(UnknownOption::parse(line.as_bytes()), Some(unknown), "{line}");
        }
        for line in ["sh: invalid option -- 's'", "rsync: [sender] change_dir failed", ""] {
            assert_eq!(UnknownOption::parse(line.as_bytes()), None, "{line}");
        }
        let unknown = UnknownOption::parse(b"rsync: --outbuf=N: unknown option");
        for (code, place) in [(1, "of this machine"), (12, "over there")] {
            let ListOutcome::Failed(text) = outcome(Exit::Code(code), unknown.as_ref(), &[]) else {
                panic!("it failed")
            };
            assert!(text.contains(place) && text.contains("3.1.2") && text.contains("--outbuf=N"));
        }
        assert_eq!(outcome(Exit::Code(23), unknown.as_ref(), &[]), ListOutcome::Partial);
    }

    #[test]
    fn every_end_has_a_meaning() {
        for (exit, expected) in [
            (Exit::Code(0), ListOutcome::Done),
            (Exit::Code(23), ListOutcome::Partial),
            (Exit::Code(24), ListOutcome::Vanished),
            (Exit::Stopped(StopReason::HardLimit), ListOutcome::Stopped(StopReason::HardLimit)),
        ] {
            assert_eq!(outcome(exit, None, &[]), expected);
        }
        for (code, words, expected) in [
            (11, "No space left on device", "could not write or read a file (No space"),
            (11, "write error: Broken pipe", "the receiving side is full (write"),
            (12, "sh: rsync: not found", "no rsync on the other side"),
            (127, "rsync error: remote command not found (code 127)", "no rsync on the other side"),
            (127, "error while loading shared libraries: librs", "cannot be started here (error"),
            (12, "connection unexpectedly closed", "broke (connection unexpectedly closed)"),
            (2, "protocol version mismatch -- is your shell clean?", "banner"),
            (255, "Permission denied (publickey).", "remote shell failed (Permission denied"),
            (12, "rsync error: error in data (code 12)", "two rsyncs broke"),
            (99, "rsync error: odd (code 99)", "further (rsync error: odd (code 99))"),
            (1, "unknown option", "RSYNC_OPTIONAL_ARGS"),
            (99, "?", "does not explain"),
        ] {
            let result = outcome(Exit::Code(code), None, &[words.to_owned()]);
            assert!(!result.is_complete());
            let (ListOutcome::Failed(text) | ListOutcome::EndedEarly(text)) = &result else {
                panic!("{result:?}")
            };
            assert!(text.contains(expected) && text.contains(&code.to_string()), "{text}");
            assert_eq!(code == 11, matches!(result, ListOutcome::EndedEarly(_)));
        }
    }
}

//! What goes over the line to the shell and back, as bytes: data for the scripts, the records of
//! `find`, and answers, which are whole or refused. Pure.

use crate::replica::digest::cksum;
use crate::tree::{Entry, Extra, Kind, RelPath, Stamp, fold_device, hex};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;

/// Adds one name as a line: as it stands behind `=`, or behind `%` in the form of
/// printf's `%b` where it holds a line end.
pub(super) fn datum(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.contains(&b'\n') {
        out.push(b'%');
        for byte in bytes {
            if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
                out.push(*byte);
            } else {
                out.extend_from_slice(format!("\\0{byte:03o}").as_bytes());
            }
        }
    } else {
        out.push(b'=');
        out.extend_from_slice(bytes);
    }
    out.push(b'\n');
}

/// A name in a form that every shell takes for one plain word between single quotes.
pub(super) fn quoted_datum(bytes: &[u8]) -> String {
    let mut out = String::from("'%");
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
            out.push(char::from(*byte));
        } else {
            out.push_str(&format!("\\0{byte:03o}"));
        }
    }
    out.push('\'');
    out
}

/// The directory that holds a path, and the name in it; the root is `.` in itself.
pub(super) fn split(path: &RelPath) -> (RelPath, &[u8]) {
    match path.parent() {
        Some(parent) => (parent, path.name()),
        None => (RelPath::root(), b"."),
    }
}

/// Adds paths as directories behind `>` and the names in them, and the end of the list.
pub(super) fn paths<'a>(out: &mut Vec<u8>, paths: impl Iterator<Item = &'a RelPath>) {
    let mut here: Option<RelPath> = None;
    for path in paths {
        let (parent, name) = split(path);
        if here.as_ref() != Some(&parent) {
            out.push(b'>');
            datum(out, parent.as_bytes());
            here = Some(parent);
        }
        datum(out, name);
    }
    out.extend_from_slice(b".\n");
}

/// A literal name as a pattern of `find` that matches nothing else.
pub(super) fn literal_pattern(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for byte in name {
        if b"*?[]\\".contains(byte) {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out
}

/// How the other machine looks at files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `find -printf`.
    Gnu,
    /// `stat -c` (BusyBox, toybox).
    Stat,
    /// `stat -f` (the BSDs, macOS).
    Bsd,
}

/// A record that says nothing useful.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Garbled;

/// A record, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// The path, relative to where the listing began; the root is empty.
    pub path: Vec<u8>,
    /// It cannot be read by the remote user.
    pub closed: bool,
    /// What it is among the records of its listing.
    pub place: RecordOrder,
    /// What it looks like, owners in the numbers of the other machine.
    pub entry: Entry,
}

/// What a record is among those of a listing that several walks may have made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordOrder {
    /// All that is told of its entry.
    Only,
    /// Of a first walk, which does not tell where a link leads; another walk does.
    First,
    /// Of a later walk: it counts more than what a first one told.
    Later,
}

/// When directories were made, where that is told apart from the records: by `stat`, of a
/// `find` that does not know. Of files it is not asked for; their contents can be compared.
#[derive(Debug, Default)]
pub(super) struct Births(HashMap<(u32, u64), Stamp>);

impl Births {
    /// Takes in what stands behind the `=` of such a line: device, inode, seconds, and the same
    /// as a date with the digits behind the seconds.
    pub fn learn(&mut self, line: &[u8]) -> Result<(), Garbled> {
        let line = std::str::from_utf8(line).map_err(|_| Garbled)?;
        let mut words = line.splitn(3, ' ');
        let mut word = || words.next().ok_or(Garbled);
        let inode = (fold(number(word()?)?), number(word()?)?);
        self.0.insert(inode, birth(word()?));
        Ok(())
    }

    /// Adds what is told of a directory to its entry.
    pub fn complete(&self, entry: &mut Entry) {
        if entry.kind.is_dir()
            && let Some(birth) = self.0.get(&(entry.dev, entry.ino))
        {
            entry.btime = *birth;
        }
    }
}

impl Style {
    /// From the word of `prepare.sh`.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "gnu" => Some(Style::Gnu),
            "stat" => Some(Style::Stat),
            "bsd" => Some(Style::Bsd),
            _ => None,
        }
    }
}

/// Reads one line of a listing: a record, or behind `+` an escaped one.
pub(super) fn parse_line(line: &[u8], style: Style) -> Result<Record, Garbled> {
    match line.strip_prefix(b"+") {
        Some(escaped) => parse_record(&unescape(escaped)?, style, RecordOrder::Later),
        None if style == Style::Gnu => parse_record(line, style, RecordOrder::Only),
        None => parse_record(line, style, RecordOrder::First),
    }
}

/// Undoes `\n` and `\\`.
fn unescape(text: &[u8]) -> Result<Vec<u8>, Garbled> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'n') => b'\n',
                Some(b'\\') => b'\\',
                _ => return Err(Garbled),
            },
            other => *other,
        });
    }
    Ok(out)
}

/// Reads one record. A plain name without facts (behind `!/`) has an entry of kind file.
pub(super) fn parse(bytes: &[u8], style: Style) -> Result<Record, Garbled> {
    parse_record(bytes, style, RecordOrder::Only)
}

fn parse_record(bytes: &[u8], style: Style, place: RecordOrder) -> Result<Record, Garbled> {
    let (closed, bytes) = match bytes.strip_prefix(b"!") {
        Some(rest) => (true, rest),
        None => (false, bytes),
    };
    let slash = bytes.iter().position(|b| *b == b'/').ok_or(Garbled)?;
    let (facts, rest) = (&bytes[..slash], &bytes[slash + 1..]);
    let (path, link) = match rest.windows(2).position(|pair| pair == b"//") {
        Some(at) => (&rest[..at], Some(&rest[at + 2..])),
        // the root's own path is empty in find's %P, so its three slashes are one too few
        None if rest.starts_with(b"/") => (&rest[..0], None),
        None => (rest, None),
    };
    let path = path.strip_prefix(b"./").unwrap_or(path);
    let path = if path == b"." { b"" } else { path };
    RelPath::new(path).map_err(|_| Garbled)?;
    let facts = std::str::from_utf8(facts).map_err(|_| Garbled)?;
    let mut entry = if closed && facts.is_empty() {
        Entry::new(Kind::File)
    } else {
        match style {
            Style::Gnu => from_find(facts)?,
            Style::Stat | Style::Bsd => from_stat(facts, style)?,
        }
    };
    let place = match (entry.kind, place) {
        (Kind::Symlink, RecordOrder::First) => RecordOrder::First,
        (kind, place) => {
            if kind == Kind::Symlink {
                let target = link.ok_or(Garbled)?;
                entry.set_extra(Extra { link: Some(target.into()), ..Extra::default() });
            }
            if place == RecordOrder::First { RecordOrder::Only } else { place }
        }
    };
    Ok(Record { path: path.to_vec(), closed, place, entry })
}

fn from_find(facts: &str) -> Result<Entry, Garbled> {
    let mut words = facts.split(' ');
    let mut word = || words.next().ok_or(Garbled);
    let kind = match word()? {
        "f" => Kind::File,
        "d" => Kind::Dir,
        "l" => Kind::Symlink,
        "p" => Kind::Fifo,
        "s" => Kind::Socket,
        "c" => Kind::CharDevice,
        "b" => Kind::BlockDevice,
        _ => return Err(Garbled),
    };
    let mut entry = Entry::new(kind);
    entry.mode = u16::from_str_radix(word()?, 8).map_err(|_| Garbled)? & 0o7777;
    common(&mut entry, &mut word)?;
    entry.mtime = time(word()?)?;
    entry.ctime = time(word()?)?;
    entry.btime = birth(word()?);
    Ok(entry)
}

/// Owner, group, device, inode, links, size: the same in all styles.
fn common<'a>(
    entry: &mut Entry,
    word: &mut impl FnMut() -> Result<&'a str, Garbled>,
) -> Result<(), Garbled> {
    entry.uid = number(word()?)?;
    entry.gid = number(word()?)?;
    entry.dev = fold(number(word()?)?);
    entry.ino = number(word()?)?;
    let links: u64 = number(word()?)?;
    let size: u64 = number(word()?)?;
    entry.shared_inode = links > 1 && !entry.kind.is_dir();
    entry.size = if entry.kind == Kind::File { size } else { 0 };
    Ok(())
}

fn from_stat(facts: &str, style: Style) -> Result<Entry, Garbled> {
    let mut parts = facts.split('|');
    let mut words = parts.next().ok_or(Garbled)?.split(' ');
    let mut word = || words.next().ok_or(Garbled);
    let mode = u32::from_str_radix(word()?, 16).map_err(|_| Garbled)?;
    let kind = match mode >> 12 {
        0o10 => Kind::File,
        0o4 => Kind::Dir,
        0o12 => Kind::Symlink,
        0o1 => Kind::Fifo,
        0o14 => Kind::Socket,
        0o2 => Kind::CharDevice,
        0o6 => Kind::BlockDevice,
        _ => return Err(Garbled),
    };
    let mut entry = Entry::new(kind);
    #[allow(clippy::cast_possible_truncation)] // twelve bits are left
    {
        entry.mode = (mode & 0o7777) as u16;
    }
    common(&mut entry, &mut word)?;
    let (mtime, ctime) = (seconds(word()?)?, seconds(word()?)?);
    let (major, minor) = (word()?, word()?);
    let radix = if style == Style::Stat { 16 } else { 10 };
    if matches!(kind, Kind::CharDevice | Kind::BlockDevice) {
        entry.set_extra(Extra { rdev: device(major, minor, radix), ..Extra::default() });
    }
    entry.mtime = Stamp::new(mtime, fraction(parts.next().unwrap_or_default()));
    entry.ctime = Stamp::new(ctime, fraction(parts.next().unwrap_or_default()));
    entry.btime = birth(parts.next().unwrap_or_default());
    Ok(entry)
}

/// A device node's numbers; zero where they were not told.
pub(super) fn device(major: &str, minor: &str, radix: u32) -> u64 {
    let part = |text| u64::from_str_radix(text, radix).unwrap_or(0) & 0xffff_ffff;
    part(major) << 32 | part(minor)
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, Garbled> {
    text.parse().map_err(|_| Garbled)
}

/// Seconds since 1970; toybox prints those before as a number of 64 bits without a sign.
fn seconds(text: &str) -> Result<i64, Garbled> {
    number(text).or_else(|Garbled| number(text).map(u64::cast_signed))
}

/// A device number as the local side folds it, so that a replica keeps its inodes when an osync
/// takes the place of the shell. (Linux packs its parts in one way whatever the machine; with the
/// numbers of other systems this tells them apart just as well.)
fn fold(device: i128) -> u32 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // taken apart
    {
        let device = device as u64;
        let major = (device >> 8 & 0xfff | device >> 32 & !0xfff) as u32;
        let minor = (device & 0xff | device >> 12 & !0xff) as u32;
        fold_device(major, minor)
    }
}

fn time(text: &str) -> Result<Stamp, Garbled> {
    let whole = text.split(['.', ' ']).next().unwrap_or_default();
    Ok(Stamp::new(number(whole)?, fraction(text)))
}

/// Nothing, a dash, zero and negative numbers all mean that it is not known.
fn birth(text: &str) -> Stamp {
    match time(text) {
        Ok(stamp) if stamp.secs() > 0 => stamp,
        _ => Stamp::UNKNOWN,
    }
}

/// Nanoseconds from the digits behind the first dot.
fn fraction(text: &str) -> u32 {
    let Some((_, digits)) = text.split_once('.') else { return 0 };
    let digits = digits.bytes().take_while(u8::is_ascii_digit).map(|b| u32::from(b - b'0'));
    digits.chain(std::iter::repeat(0)).take(9).fold(0, |sum, digit| sum * 10 + digit)
}

/// What the lines of an answer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Form {
    /// The listing, sorted, and kept over there.
    #[default]
    Full,
    /// What differs from the last one.
    Changes,
    /// The listing in any order; the other side keeps nothing.
    Once,
}

/// An answer, in its parts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// What the lines are.
    pub form: Form,
    /// The listing, or the changes.
    pub lines: Vec<u8>,
    /// The checksum of the listing.
    pub sum: String,
    /// `u1000 alice`.
    pub owners: Vec<String>,
    /// What was told of ACLs and extended attributes.
    pub attributes: Vec<u8>,
}

/// How the other machine makes checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checker {
    /// POSIX `cksum`.
    Cksum,
    /// `sha256sum`, where that is missing.
    Sha256,
}

impl Checker {
    /// From the word of `prepare.sh`.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "cksum" => Some(Checker::Cksum),
            "sha256sum" => Some(Checker::Sha256),
            _ => None,
        }
    }

    /// The checksum as one word: checksum and length, or 64 digits.
    pub fn sum(self, bytes: &[u8]) -> String {
        match self {
            Checker::Cksum => cksum(bytes).replace(' ', "-"),
            Checker::Sha256 => hex(&Sha256::digest(bytes)),
        }
    }
}

/// Whether these bytes have this checksum, of whichever kind it is.
pub(super) fn is_sum_of(bytes: &[u8], sum: &str) -> bool {
    let checker = if sum.contains('-') { Checker::Cksum } else { Checker::Sha256 };
    checker.sum(bytes) == sum
}

/// Takes an answer apart; `None` if it is malformed or not whole. Of changes it is not yet known
/// whether they fit.
pub(super) fn take_apart(bytes: &[u8]) -> Option<Answer> {
    let mut rest = bytes;
    let form = match next_line(&mut rest)? {
        b"#full" => Form::Full,
        b"#changes" => Form::Changes,
        b"#once" => Form::Once,
        _ => return None,
    };
    let start = rest;
    let (lines, sum) = loop {
        let behind = rest;
        let line = next_line(&mut rest)?;
        if let Some(sum) = line.strip_prefix(b"#sum ") {
            let lines = &start[..start.len() - behind.len()];
            break (lines, std::str::from_utf8(sum).ok()?);
        }
    };
    let (sum, count) = match *sum.split(' ').collect::<Vec<_>>() {
        [sum] => (sum.to_owned(), None),
        [sum, count] => (sum.to_owned(), Some(count)),
        _ => return None,
    };
    if form != Form::Changes {
        let found = lines.iter().filter(|b| **b == b'\n').count().to_string();
        if !is_sum_of(lines, &sum) || count.is_some_and(|count| count != found) {
            return None;
        }
    }
    let rest = whole_rest(rest)?;
    let mut answer = Answer { form, lines: lines.to_vec(), sum, ..Answer::default() };
    let mut more = rest;
    while !more.is_empty() {
        let line = next_line(&mut more)?;
        if line == b"#attributes" {
            answer.attributes = more.to_vec();
            break;
        }
        match line.strip_prefix(b"#owner ") {
            Some(owner) => answer.owners.push(String::from_utf8_lossy(owner).into_owned()),
            None if line.is_empty() => {}
            None => return None,
        }
    }
    Some(answer)
}

/// What stands behind the listing, without its checksum, which is right.
fn whole_rest(bytes: &[u8]) -> Option<&[u8]> {
    const MARK: &[u8] = b"#rest ";
    let text = bytes.strip_suffix(b"\n")?;
    let last = text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let sum = std::str::from_utf8(text[last..].strip_prefix(MARK)?).ok()?;
    is_sum_of(&bytes[..last], sum).then_some(&bytes[..last])
}

/// A whole listing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Whole<'a> {
    /// Records.
    pub records: Vec<&'a [u8]>,
    /// When directories were made, where the records do not tell.
    pub births: Vec<&'a [u8]>,
    /// What programs over there complained about.
    pub complaints: Vec<&'a [u8]>,
}

/// Why a listing does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotWhole {
    /// Its end is missing.
    #[error("the listing was cut off over there: its end is missing")]
    Cut,
    /// A program did not do its work and did not say why.
    #[error("the programs that list it over there ended with status {0}, and did not say why")]
    Failed(String),
}

/// Reads the lines of a listing.
pub(super) fn whole(text: &[u8]) -> Result<Whole<'_>, NotWhole> {
    let mut whole = Whole::default();
    let text = text.strip_suffix(b"\n").ok_or(NotWhole::Cut)?;
    let mut ended = None;
    for line in text.split(|b| *b == b'\n') {
        if ended.is_some() {
            return Err(NotWhole::Cut);
        }
        if let Some(status) = line.strip_prefix(b"~end ") {
            ended = Some(status);
        } else if let Some(complaint) = line.strip_prefix(b"?") {
            whole.complaints.push(complaint);
        } else if let Some(birth) = line.strip_prefix(b"=") {
            whole.births.push(birth);
        } else {
            whole.records.push(line);
        }
    }
    let status = String::from_utf8_lossy(ended.ok_or(NotWhole::Cut)?).into_owned();
    // above 125 a program was killed or could not be run, whatever else was said
    match status.parse::<u32>() {
        Ok(0) => Ok(whole),
        Ok(1..=125) if !whole.complaints.is_empty() => Ok(whole),
        _ => Err(NotWhole::Failed(status)),
    }
}

fn next_line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|b| *b == b'\n')?;
    let line = &rest[..end];
    *rest = &rest[end + 1..];
    Some(line)
}

/// The new listing from the old one and what differs; `None`: they do not fit.
pub(super) fn apply_changes(old: &[u8], changes: &[u8], sum: &str) -> Option<Vec<u8>> {
    let (mut gone, mut new): (Vec<&[u8]>, Vec<&[u8]>) = (Vec::new(), Vec::new());
    // what diff prints between: '3,4d2', dashes (a record may begin with a digit, and has spaces)
    let is_between =
        |line: &[u8]| line == b"---" || line.iter().all(|byte| b"0123456789,acd".contains(byte));
    // the diff of BusyBox knows no other form
    let is_unified = changes.starts_with(b"--- ");
    let heads = if is_unified { 2 } else { 0 };
    for line in lines(changes).skip(heads) {
        match line {
            [b'\\', ..] => {}
            [b'+', added @ ..] if is_unified => new.push(added),
            [b'-', removed @ ..] if is_unified => gone.push(removed),
            _ if is_unified || is_between(line) => {}
            [b'\t', added @ ..] | [b'>', b' ', added @ ..] => new.push(added),
            [b'<', b' ', removed @ ..] => gone.push(removed),
            removed => gone.push(removed),
        }
    }
    gone.sort_unstable();
    new.sort_unstable();
    let mut listing = Vec::with_capacity(old.len() + changes.len());
    let mut push = |line: &[u8]| {
        listing.extend_from_slice(line);
        listing.push(b'\n');
    };
    let mut new = new.into_iter().peekable();
    for line in lines(old) {
        while let Some(earlier) = new.next_if(|n| *n < line) {
            push(earlier);
        }
        if gone.binary_search(&line).is_err() {
            push(line);
        }
    }
    new.for_each(push);
    is_sum_of(&listing, sum).then_some(listing)
}

/// The lines of a listing, without their ends.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| *b == b'\n').filter(|line| !line.is_empty())
}

/// The path that a complaint of find or stat is about, and the system's words; `None` if it is
/// about no path of the replica, or that is not certain: a complaint laid at the wrong door
/// would leave the right path out of the listing without a word.
pub(super) fn complaint(line: &[u8]) -> Option<(Vec<u8>, String)> {
    let (program, rest) = said_by(line)?;
    let (path, words) = match program {
        Program::Find if rest.starts_with(b"'") || rest.starts_with(LOOP_DETECTED) => {
            // GNU's, which escapes what is in quotes
            let start = rest.iter().position(|b| *b == b'\'')? + 1;
            let (path, used) = unquote(&rest[start..])?;
            (path, &rest[start + used..])
        }
        Program::Find => {
            let colon = rest.windows(2).rposition(|pair| pair == b": ")?;
            (rest[..colon].to_vec(), &rest[colon..])
        }
        Program::Stat => plain_path(rest)?,
    };
    let path = match path.strip_prefix(b"./") {
        Some(below) => below.to_vec(),
        None if path == b"." => Vec::new(),
        None => return None,
    };
    let words = String::from_utf8_lossy(words);
    let words = words.trim_start_matches([':', ' ']).trim_end();
    RelPath::new(path.as_slice()).is_ok().then(|| (path, words.to_owned()))
}

const LOOP_DETECTED: &[u8] = b"File system loop detected";

/// The path in a complaint of stat, which each system words in its own way: only one that
/// needs no quoting.
fn plain_path(rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let begin = rest.windows(2).position(|pair| pair == b"./" || pair == b"'.")?;
    let quoted = rest[begin] == b'\'' || begin > 0 && rest[begin - 1] == b'\'';
    let begin = begin + usize::from(rest[begin] == b'\'');
    let (end, words) = if quoted {
        let end = rest.windows(3).rposition(|three| three == b"': ")?;
        (end, end + 1)
    } else {
        let end = begin + rest[begin..].windows(2).position(|pair| pair == b": ")?;
        (end, end)
    };
    let path = rest.get(begin..end)?;
    (!path.iter().any(|b| b"'\\:".contains(b))).then(|| (path.to_vec(), &rest[words..]))
}

/// Who complains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    Find,
    Stat,
}

/// What find itself says.
pub(super) fn of_find(line: &[u8]) -> Option<&[u8]> {
    said_by(line).filter(|(program, _)| *program == Program::Find).map(|(_, words)| words)
}

/// Some programs are called by their whole path.
fn said_by(line: &[u8]) -> Option<(Program, &[u8])> {
    let end = line.windows(2).position(|pair| pair == b": ")?;
    let program = match line[..end].rsplit(|b| *b == b'/').next()? {
        b"find" => Program::Find,
        b"stat" => Program::Stat,
        _ => return None,
    };
    Some((program, &line[end + 2..]))
}

/// Undoes the quoting of the C locale up to the closing quote; also how much was read.
fn unquote(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut out = Vec::new();
    let mut at = 0;
    loop {
        match *text.get(at)? {
            b'\'' => return Some((out, at + 1)),
            b'\\' => {
                let (byte, used) = escape(text.get(at + 1..)?)?;
                out.push(byte);
                at += 1 + used;
            }
            byte => {
                out.push(byte);
                at += 1;
            }
        }
    }
}

fn escape(text: &[u8]) -> Option<(u8, usize)> {
    let simple = |byte| Some((byte, 1));
    match *text.first()? {
        b'n' => simple(b'\n'),
        b't' => simple(b'\t'),
        b'r' => simple(b'\r'),
        b'a' => simple(7),
        b'b' => simple(8),
        b'v' => simple(11),
        b'f' => simple(12),
        b'0'..=b'7' => {
            let digits = text.get(..3)?;
            let text = std::str::from_utf8(digits).ok()?;
            Some((u8::from_str_radix(text, 8).ok()?, 3))
        }
        other => simple(other),
    }
}

#[cfg(test)]
mod encode_tests {
    use super::*;

    #[test]
    fn names_travel_as_one_line() {
        for (name, expected) in [
            (&b"plain"[..], &b"=plain\n"[..]),
            (b"", b"=\n"),
            (b" a $(b) 'c' \\d\xff", b"= a $(b) 'c' \\d\xff\n"),
            (b"a\nb \\", b"%a\\0012b\\0040\\0134\n"),
        ] {
            let mut out = Vec::new();
            datum(&mut out, name);
            assert_eq!(out, expected);
        }
        assert_eq!(quoted_datum(b"/a'b\n"), "'%/a\\0047b\\0012'");
    }

    #[test]
    fn paths_of_one_directory_name_it_once() {
        let list: Vec<RelPath> = ["", "a", "d/x", "d/y", "b"]
            .iter()
            .map(|p| RelPath::new(p.as_bytes()).unwrap())
            .collect();
        let mut out = Vec::new();
        paths(&mut out, list.iter());
        assert_eq!(out, b">=\n=.\n=a\n>=d\n=x\n=y\n>=\n=b\n.\n");
    }
}

#[cfg(test)]
mod record_tests {
    use super::*;

    #[test]
    fn records_of_find_are_read() {
        let record = parse(
            b"f 4755 1000 100 2049 77 2 12 1700000000.1234567890 1700000001.5000000000 1690000000.0/a b/c d//",
            Style::Gnu,
        )
        .unwrap();
        assert_eq!(record.path, b"a b/c d");
        let e = &record.entry;
        assert_eq!((e.kind, e.mode, e.uid, e.gid), (Kind::File, 0o4755, 1000, 100));
        assert_eq!((e.ino, e.size, e.shared_inode), (77, 12, true));
        assert_eq!(e.mtime, Stamp::new(1_700_000_000, 123_456_789));
        assert_eq!(e.ctime, Stamp::new(1_700_000_001, 500_000_000));
        assert_eq!(e.btime, Stamp::new(1_690_000_000, 0));
    }

    #[test]
    fn the_root_links_and_closed_entries_are_told_apart() {
        let facts = "755 0 0 1 2 1 4096 5.0 6.0 ";
        for (text, path, closed, link) in [
            (format!("d {facts}///"), &b""[..], false, None),
            (format!("d {facts}/.//"), b"", false, None),
            (format!("d {facts}/././/"), b"", false, None),
            (format!("d {facts}/./x//"), b"x", false, None),
            (format!("!d {facts}/x//"), b"x", true, None),
            (format!("l {facts}/x//"), b"x", false, Some(&b""[..])),
            (format!("l {facts}/x////a//b\n"), b"x", false, Some(b"//a//b\n")),
            ("!/./x y".to_owned(), b"x y", true, None),
        ] {
            let record = parse(text.as_bytes(), Style::Gnu).unwrap();
            assert_eq!(
                (&record.path[..], record.closed, record.entry.link()),
                (path, closed, link),
                "{text}"
            );
        }
    }

    #[test]
    fn records_of_stat_are_read() {
        for (text, style) in [
            (
                "81a4 1000 100 2049 77 1 12 1700000000 1700000001 0 0|2023-11-14 22:13:20.123456789 +0000|2023-11-14 22:13:21.5 +0000|/./a//",
                Style::Stat,
            ),
            (
                "81A4 1000 100 2049 77 1 12 1700000000 1700000001 0 0|1700000000.123456789|1700000001.500000000|1690000000.1/./a",
                Style::Bsd,
            ),
        ] {
            let Record { path, entry, .. } = parse(text.as_bytes(), style).unwrap();
            assert_eq!((&path[..], entry.kind, entry.mode), (&b"a"[..], Kind::File, 0o644));
            assert_eq!(entry.mtime, Stamp::new(1_700_000_000, 123_456_789));
            assert_eq!(entry.ctime, Stamp::new(1_700_000_001, 500_000_000));
            assert_eq!(entry.btime.is_known(), style == Style::Bsd);
        }
        let text = "21b6 0 0 5 9 1 0 1 1 1 3|1970-01-01 00:00:01.0 +0000|x|/./null//";
        let entry = parse(text.as_bytes(), Style::Stat).unwrap().entry;
        assert_eq!((entry.kind, entry.extra().rdev), (Kind::CharDevice, 1 << 32 | 3));
    }

    #[test]
    fn what_does_not_fit_a_line_is_escaped_and_what_a_first_walk_tells_of_links_is_not_all() {
        let facts = "777 0 0 1 2 1 4 5.0 6.0 ";
        let line = format!("+l {facts}/./a\\nb//t\\\\o\\n");
        let record = parse_line(line.as_bytes(), Style::Gnu).unwrap();
        assert_eq!((&record.path[..], record.place), (&b"a\nb"[..], RecordOrder::Later));
        assert_eq!(record.entry.link(), Some(&b"t\\o\n"[..]));
        let line = b"a1ff 0 0 5 9 1 4 1 1 0 0|x|x|/./l";
        let record = parse_line(line, Style::Stat).unwrap();
        assert!(record.place == RecordOrder::First && record.entry.link().is_none());
        for line in ["+f 644 0 0 1 2 1 0 5 6 /a\\tb//", "+f 644 0 0 1 2 1 0 5 6 /a\\", "+"] {
            assert_eq!(parse_line(line.as_bytes(), Style::Gnu), Err(Garbled), "{line}");
        }
    }

    #[test]
    fn seconds_before_1970_may_have_no_sign() {
        for (text, expected) in
            [("7", Ok(7)), ("-7", Ok(-7)), ("18446744073709551609", Ok(-7)), ("x", Err(Garbled))]
        {
            assert_eq!(seconds(text), expected);
        }
    }

    #[test]
    fn a_device_is_folded_as_on_this_machine() {
        use std::os::unix::fs::MetadataExt;
        let here = std::fs::metadata("/").unwrap();
        let found = rustix::fs::statx(
            rustix::fs::CWD,
            "/",
            rustix::fs::AtFlags::empty(),
            rustix::fs::StatxFlags::INO,
        );
        let found = found.unwrap();
        let folded = fold_device(found.stx_dev_major, found.stx_dev_minor);
        assert_eq!(fold(here.dev().into()), folded);
        assert_eq!(fold(0x1234_5678_9abc_def0), fold_device(0x1234_5cde, 0x6789_abf0));
    }

    #[test]
    fn births_that_stat_tells_are_those_of_directories() {
        let mut births = Births::default();
        let line = b"2049 77 1690000000 2023-07-22 04:26:40.123456789 +0000";
        births.learn(line).unwrap();
        births.learn(b"2049 78 0 -").unwrap();
        for (text, birth) in [
            ("d 755 0 0 2049 77 1 1 1 1 -1./a//", Stamp::new(1_690_000_000, 123_456_789)),
            ("f 644 0 0 2049 77 1 1 1 1 -1./a//", Stamp::UNKNOWN),
            ("d 755 0 0 2050 77 1 1 1 1 -1./a//", Stamp::UNKNOWN),
            ("d 755 0 0 2049 78 1 1 1 1 -1./a//", Stamp::UNKNOWN),
        ] {
            let mut entry = parse(text.as_bytes(), Style::Gnu).unwrap().entry;
            births.complete(&mut entry);
            assert_eq!(entry.btime, birth, "{text}");
        }
        for line in [&b""[..], b"2049", b"2049 77", b"2049 x 1 -", b"2049 77\xff1 -"] {
            assert!(births.learn(line).is_err());
        }
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for text in [
            "",
            "hello",
            "f 644/x//",
            "? 644 0 0 1 2 1 0 5 6 /x//",
            "f 644 0 0 1 2 1 0 5 6 /../x//",
            "f 644 0 0 1 2 1 -5 5 6 /x//",
            "l 777 0 0 1 2 1 0 5 6 /x",
        ] {
            assert_eq!(parse(text.as_bytes(), Style::Gnu), Err(Garbled), "{text}");
        }
    }

    #[test]
    fn unknown_birth_times_are_unknown() {
        for text in ["", "-", "0", "0.0000000000", "-1.-000000010"] {
            assert!(!birth(text).is_known(), "{text}");
        }
    }
}

#[cfg(test)]
mod answer_tests {
    use super::*;

    fn sum(text: &[u8]) -> String {
        Checker::Cksum.sum(text)
    }

    /// An answer as list.sh gives it.
    fn answer(head: &str, listing: &str, changes: Option<&str>, rest: &str) -> Vec<u8> {
        let count = listing.lines().count();
        let lines = changes.unwrap_or(listing);
        let sums = (sum(listing.as_bytes()), Checker::Sha256.sum(rest.as_bytes()));
        format!("{head}\n{lines}#sum {} {count}\n{rest}#rest {}\n", sums.0, sums.1).into_bytes()
    }

    #[test]
    fn an_answer_is_taken_apart() {
        let listing = "f 1/a//\n~end 0\n";
        let rest = "#owner u1 x\n#owner g2 \n#attributes\n#acl\n# file: x\n#end\n";
        let text = answer("#full", listing, None, rest);
        let taken = take_apart(&text).unwrap();
        assert_eq!((taken.form, &taken.lines[..]), (Form::Full, listing.as_bytes()));
        assert_eq!(taken.sum, sum(listing.as_bytes()));
        assert_eq!(taken.owners, ["u1 x", "g2 "]);
        assert_eq!(taken.attributes, b"#acl\n# file: x\n#end\n");
        let text = answer("#changes", listing, Some("\tf 1/a//\n"), "\n");
        let taken = take_apart(&text).unwrap();
        assert_eq!((taken.form, &taken.lines[..]), (Form::Changes, &b"\tf 1/a//\n"[..]));
        assert_eq!(take_apart(b"find: not found\n"), None);
    }

    #[test]
    fn a_listing_has_one_end_and_a_status_that_is_accounted_for() {
        for (text, fine) in [
            ("f 1/a//\n~end 0\n", true),
            ("?find: './a': oops\nf 1/a//\n~end 1\n", true),
            ("f 1/a//\n~end 1\n", false),
            ("?find: './a': oops\n~end 137\n", false),
            ("?find: './a': oops\n~end 126\n", false),
            ("f 1/a//\n", false),
            ("f 1/a//\n~end 0", false),
            ("~end 0\nf 1/a//\n~end 0\n", false),
            ("~end \n", false),
            ("", false),
        ] {
            assert_eq!(whole(text.as_bytes()).is_ok(), fine, "{text}");
        }
    }

    #[test]
    fn changes_in_all_forms_make_the_new_listing_from_the_old() {
        let old = b"d 1/a//\nf 2/b//\nf 3/c//\n";
        let new = b"d 1/a//\nf 2/aa//\nf 3/c//\nf 9/z//\n";
        let new_sum = sum(new);
        for changes in [
            &b"\tf 2/aa//\nf 2/b//\n\tf 9/z//\n"[..],
            b"2c2\n< f 2/b//\n---\n> f 2/aa//\n3a4\n> f 9/z//\n",
            b"--- old\n+++ new\n@@ -1,3 +1,4 @@\n d 1/a//\n-f 2/b//\n+f 2/aa//\n f 3/c//\n+f 9/z//\n",
        ] {
            assert_eq!(apply_changes(old, changes, &new_sum).as_deref(), Some(&new[..]));
        }
        // stat begins with the mode, in hexadecimal digits
        let old = b"41ed 1/a//\n81a4 2/b//\n";
        let new = b"41ed 1/a//\n81a4 2/c//\n";
        for changes in
            [&b"81a4 2/b//\n\t81a4 2/c//\n"[..], b"2c2\n< 81a4 2/b//\n---\n> 81a4 2/c//\n"]
        {
            assert_eq!(apply_changes(old, changes, &sum(new)).as_deref(), Some(&new[..]));
        }
        let old = b"d 1/a//\nf 2/b//\nf 3/c//\n";
        assert_eq!(apply_changes(old, b"", &sum(old)).as_deref(), Some(&old[..]));
        assert_eq!(apply_changes(old, b"", &new_sum), None);
        assert_eq!(apply_changes(b"", b"\tf 2/b//\n", &new_sum), None);
    }

    #[test]
    fn complaints_name_their_path() {
        for (line, path, words) in [
            ("find: './a b': Permission denied", "a b", "Permission denied"),
            ("find: './a\\'b\\n\\303\\244': Input/output error", "a'b\nä", "Input/output error"),
            ("find: ./a: b: Permission denied", "a: b", "Permission denied"),
            ("find: '.': Permission denied", "", "Permission denied"),
            (
                "stat: can't stat './a b': No such file or directory",
                "a b",
                "No such file or directory",
            ),
            ("stat: ./a: stat: Permission denied", "a", "stat: Permission denied"),
            ("stat: '.': Input/output error", "", "Input/output error"),
            (
                "find: File system loop detected; './a/l' is part of the same file system loop as './a'.",
                "a/l",
                "is part of the same file system loop as './a'.",
            ),
        ] {
            let (found, said) = complaint(line.as_bytes()).unwrap();
            assert_eq!((found.as_slice(), said.as_str()), (path.as_bytes(), words), "{line}");
        }
        assert_eq!(complaint(b"sh: oops"), None);
        for unsure in [
            "find: 'unended",
            "find: cannot open directory './a': Permission denied",
            "stat: can't stat './it's': No such file or directory",
            "stat: cannot statx './a\\'b': Input/output error",
            "stat: write error: No space left on device",
        ] {
            assert_eq!(complaint(unsure.as_bytes()), None, "{unsure}");
        }
        for elsewhere in ["../x", "/etc", "a//b", "a/../b", "a\\000b"] {
            let line = format!("find: '{elsewhere}': Permission denied");
            assert_eq!(complaint(line.as_bytes()), None, "{line}");
        }
    }
}

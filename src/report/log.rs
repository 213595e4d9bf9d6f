//! The log: lines for people, on the screen and in a file (spec 6, "Log lines").

use super::log_file::{LogFile, LogPlace};
use super::progress::ProgressDisplay;
use super::{Event, Level, Lines, Problem, Reporter, Tally};
use crate::config::{Config, Flags, Location, Output, Secret};
use crate::process::Stream;
use crate::ssh;
use crate::tree::path::escape;
use chrono::{DateTime, Local};
use std::collections::VecDeque;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many of the latest lines are kept for mail.
const KEPT_LINES: usize = 1000;

/// How many bytes of a run's log go with a mail.
const TRANSCRIPT: u64 = 8 << 20;
/// The mark of every line of a dry run.
const DRY: &str = "(dry run) ";

/// Writes what a run says. One value serves a whole process; [`Log::begin_run`] starts
/// the count anew for each run of monitor mode.
pub struct Log {
    flags: Flags,
    output: Output,
    prefix: Prefix,
    /// Stands before the text of every line: what a dry run says is marked as such.
    mark: &'static str,
    start: Instant,
    inner: Mutex<Inner>,
}

/// What changes with every line; behind one lock, so that lines stay whole.
struct Inner {
    masks: Masks,
    file: Option<LogFile>,
    /// None with `--silent`.
    screen: Option<Screen>,
    kept: VecDeque<String>,
    /// Stands before the text of every line: the target of a star that the lines are about.
    label: String,
    /// What was said and is not shown yet ([`Log::hold`]).
    held: Option<Vec<HeldLine>>,
    tally: Tally,
}

/// A line with what stood before it when it was said.
struct HeldLine {
    level: Level,
    prefix: String,
    line: String,
}

impl Log {
    /// The log of a task. `start` is when the program began. Secrets of the settings are
    /// masked; those found later are added with [`Log::add_secret`].
    #[must_use]
    pub fn for_task(config: &Config, start: Instant) -> Log {
        let local = |place: &Location| match place {
            Location::Local(dir) => Some(dir.clone()),
            Location::Ssh(_) => None,
        };
        let place = LogPlace {
            wanted: config.output.log_file.clone(),
            name: format!("osync.{}.log", config.instance_id),
            home: std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from),
            replicas: config.places().filter_map(local).collect(),
            dry: config.flags.dry,
        };
        let log = Log::open(&config.flags, &config.output, &place, start);
        let notify = &config.notify;
        let secrets =
            [&config.remote.token, &config.alerts.smtp_password, &notify.ping_url, &notify.url];
        secrets.into_iter().flatten().for_each(|secret| log.add_secret(secret));
        if let Some(password) = config.remote.password_file.as_deref().and_then(ssh::password) {
            log.add_secret(&password);
        }
        log
    }

    /// A log at a place. Warns at once if no file can be written.
    #[must_use]
    pub fn open(flags: &Flags, output: &Output, place: &LogPlace, start: Instant) -> Log {
        Log::with_screen(flags, output, place, start, Screen::standard(flags, output))
    }

    /// A log that shows its lines on the given screen.
    fn with_screen(
        flags: &Flags,
        output: &Output,
        place: &LogPlace,
        start: Instant,
        screen: Screen,
    ) -> Log {
        let prefix = match (flags.no_prefix, output.dated_prefix) {
            (true, _) => Prefix::None,
            (false, true) => Prefix::Dated,
            (false, false) => Prefix::Elapsed,
        };
        let (file, trouble) = LogFile::open(place);
        let inner = Inner {
            masks: Masks::default(),
            file,
            screen: (!flags.silent).then_some(screen),
            kept: VecDeque::new(),
            label: String::new(),
            held: None,
            tally: Tally::default(),
        };
        let mark = if place.dry { DRY } else { "" };
        let log = Log {
            flags: flags.clone(),
            output: output.clone(),
            prefix,
            mark,
            start,
            inner: Mutex::new(inner),
        };
        if let Some(trouble) = trouble {
            log.say(Level::Warn, &trouble);
        }
        log
    }

    /// Masks a secret from now on.
    pub fn add_secret(&self, secret: &Secret) {
        self.inner().masks.add(secret);
    }

    /// Holds lines back from now on, until it is known whether this run does anything.
    pub fn hold(&self) {
        self.inner().held.get_or_insert_default();
    }

    /// Shows what was held back, and everything from now on.
    pub fn release(&self) {
        let mut inner = self.inner();
        for HeldLine { level, prefix, line } in inner.held.take().unwrap_or_default() {
            inner.show(level, &prefix, &line);
        }
        inner.flush();
    }

    /// Forgets what was held back, with what it counted for.
    pub fn forget_held(&self) {
        let mut inner = self.inner();
        if inner.held.take().is_some() {
            inner.tally = Tally::default();
        }
    }

    /// Forgets the problems and lines of the run before. The warning that no log file can
    /// be written belongs to the first run only.
    pub fn begin_run(&self) {
        let mut inner = self.inner();
        inner.tally = Tally::default();
        inner.kept.clear();
        if let Some(file) = &mut inner.file {
            file.mark();
        }
    }

    /// What the lines are about from now on: a target of a star, or (empty) the run as a whole.
    pub fn set_label(&self, target: &str) {
        self.inner().label = match target {
            "" => String::new(),
            target => format!("[{target}] "),
        };
    }

    /// Goes on counting from another tally, and returns the one so far: each target of a star has
    /// one of its own.
    #[must_use]
    pub fn swap_tally(&self, tally: Tally) -> Tally {
        std::mem::replace(&mut self.inner().tally, tally)
    }

    /// What went wrong since the run began.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.inner().tally.clone()
    }

    /// The worst there was since the run began.
    #[must_use]
    pub fn worst(&self) -> Option<Level> {
        self.inner().tally.worst()
    }

    /// The latest lines of this run, at most 1000, as they stand in the log file.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.inner().kept.iter().cloned().collect()
    }

    /// What this run has written to the log file, the latest 8 MiB of it: for the
    /// attachment of a mail. Without a file: the lines that are kept.
    #[must_use]
    pub fn transcript(&self) -> Vec<u8> {
        let mut inner = self.inner();
        let read = inner.file.as_mut().and_then(|file| file.since_mark(TRANSCRIPT).ok());
        read.unwrap_or_else(|| {
            inner.kept.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect()
        })
    }

    /// The log file, if one is open.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        self.inner().file.as_ref().map(|file| file.path().to_owned())
    }

    /// Whether every line begins with date and time.
    #[must_use]
    pub fn is_dated(&self) -> bool {
        self.prefix == Prefix::Dated
    }

    /// The last line of a run. It repeats what is known: it does not count.
    pub fn close_run(&self, worst: Option<Level>) {
        let (level, text) = match worst {
            None => (Level::Notice, "osync finished."),
            Some(Level::Warn) => (Level::Warn, "osync finished with warnings."),
            Some(_) => (Level::Error, "osync finished with errors."),
        };
        self.write(level, text);
    }

    /// A panic elsewhere must not silence the log.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_wanted(&self, level: Level) -> bool {
        match level {
            Level::Critical | Level::Error | Level::Warn | Level::Always => true,
            Level::Notice => !self.flags.errors_only,
            Level::Verbose => self.flags.verbose,
            Level::Debug => self.output.debug,
        }
    }

    fn write(&self, level: Level, text: &str) {
        if self.is_wanted(level) {
            let mut inner = self.inner();
            inner.follow_rotation();
            self.put(&mut inner, level, text);
            inner.flush();
        }
    }

    /// Puts a text on screen and into the file, with a prefix for each line.
    fn put(&self, inner: &mut Inner, level: Level, text: &str) {
        let prefix = self.prefix.show(self.start.elapsed(), Local::now());
        let text = inner.masks.apply(text);
        for line in tidy(&text) {
            let line = format!("{}{}{line}", self.mark, inner.label);
            match &mut inner.held {
                Some(held) => held.push(HeldLine { level, prefix: prefix.clone(), line }),
                None => inner.show(level, &prefix, &line),
            }
        }
    }

    /// Changes the progress display, if there is one.
    fn show(&self, change: impl FnOnce(&mut ProgressDisplay)) {
        if let Some(progress) = self.inner().screen.as_mut().and_then(|s| s.progress.as_mut()) {
            change(progress);
        }
    }

    /// Goes to the file only while the display moves on the screen.
    fn heartbeat(&self, what: &str, since: Duration) {
        if !self.is_wanted(Level::Notice) {
            return;
        }
        let mut inner = self.inner();
        inner.follow_rotation();
        let is_moving =
            |s: &mut Screen| s.progress.as_ref().is_some_and(ProgressDisplay::is_showing);
        let moving = inner.screen.take_if(is_moving);
        self.put(
            &mut inner,
            Level::Notice,
            &format!("{what}: still running after {}", spell(since)),
        );
        inner.screen = moving.or(inner.screen.take());
        inner.flush();
    }

    fn count(&self, problem: &Problem) {
        let mut inner = self.inner();
        let text = inner.masks.apply(&problem.text);
        inner.tally.add(&Problem { text, ..problem.clone() });
    }
}

impl Inner {
    /// Puts a line on the screen and into the file.
    fn show(&mut self, level: Level, prefix: &str, line: &str) {
        let plain = plain(prefix, level, line);
        if let Some(screen) = &mut self.screen {
            screen.show(level, prefix, line, &plain);
        }
        self.keep(plain);
    }

    /// Keeps a line in the file and for mail.
    fn keep(&mut self, plain: String) {
        if let Some(file) = &mut self.file {
            let written = file.line(&plain);
            self.lost(written);
        }
        if self.kept.len() == KEPT_LINES {
            self.kept.pop_front();
        }
        self.kept.push_back(plain);
    }

    /// Flushes screen and file.
    fn flush(&mut self) {
        if let Some(screen) = &mut self.screen {
            screen.flush();
        }
        if let Some(file) = &mut self.file {
            let written = file.flush();
            self.lost(written);
        }
    }

    /// Goes on in a new file if the old one was rotated away.
    fn follow_rotation(&mut self) {
        if let Some(file) = &mut self.file {
            let opened = file.follow_rotation();
            self.lost(opened);
        }
    }

    /// A log that cannot be written any more is given up, with one warning.
    fn lost(&mut self, written: io::Result<()>) {
        let Err(e) = written else { return };
        let Some(file) = self.file.take() else { return };
        let text = format!("cannot write the log file {} any more: {e}", file.path().display());
        let plain = plain("", Level::Warn, &text);
        if let Some(screen) = &mut self.screen {
            screen.show(Level::Warn, "", &text, &plain);
        }
        self.kept.push_back(plain);
        self.tally.add(&Problem { level: Level::Warn, side: None, path: None, text });
    }
}

impl Reporter for Log {
    fn tell(&self, event: Event<'_>) {
        match event {
            Event::Message(level, text) => {
                if level.is_problem() {
                    self.count(&Problem { level, side: None, path: None, text: text.to_owned() });
                }
                self.write(level, text);
            }
            Event::Remark(level, text) => self.write(level, text),
            Event::Problem(problem) => {
                self.count(problem);
                self.write(problem.level, &problem.to_string());
            }
            Event::Heartbeat(what, since) => self.heartbeat(what, since),
            Event::Scanning(side, seen) => self.show(|progress| progress.scanning(side, seen)),
            Event::Comparing(done, all) => self.show(|progress| progress.comparing(done, all)),
            Event::Transferring(now, file) => {
                self.show(|progress| progress.transferring(now, file));
            }
            Event::Quiet => self.show(ProgressDisplay::quiet),
        }
    }

    fn hears(&self, level: Level) -> bool {
        self.is_wanted(level)
    }

    fn shows_progress(&self) -> bool {
        self.inner().screen.as_ref().is_some_and(|screen| screen.progress.is_some())
    }

    fn relay(&self, stream: Stream, line: &str) {
        let mut inner = self.inner();
        if let Some(screen) = &mut inner.screen {
            screen.relay(stream, line);
            screen.flush();
        }
    }

    fn say_all(&self, level: Level, lines: &mut Lines<'_>) {
        if !self.is_wanted(level) {
            return;
        }
        let mut inner = self.inner();
        inner.follow_rotation();
        lines(&mut |text| self.put(&mut inner, level, text));
        inner.flush();
    }
}

/// A length of time for people.
#[must_use]
pub fn spell(time: Duration) -> String {
    let secs = time.as_secs();
    match (secs / 3600, secs / 60 % 60, secs % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

/// A message may have this many lines; of a longer one the middle is left out.
const MAX_LINES: usize = 100;
/// A line may have this many bytes; a path at its longest, escaped, fits.
const MAX_LINE: usize = 32 * 1024;

/// What stands before every line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prefix {
    /// Nothing (`--no-prefix`).
    None,
    /// Seconds since the start.
    Elapsed,
    /// Date and time: monitor mode and batch.
    Dated,
}

impl Prefix {
    /// The prefix of a line that is written now.
    pub(super) fn show(self, elapsed: Duration, now: DateTime<Local>) -> String {
        match self {
            Prefix::None => String::new(),
            Prefix::Elapsed => format!("TIME: {} - ", elapsed.as_secs()),
            Prefix::Dated => format!("{} - ", now.format("%Y-%m-%d %H:%M:%S")),
        }
    }
}

impl Level {
    /// The mark of a line in the log file; ordinary lines have none.
    #[must_use]
    pub fn tag(self) -> &'static str {
        match self {
            Level::Critical => "(CRITICAL):",
            Level::Error => "(ERROR):",
            Level::Warn => "(WARN):",
            Level::Verbose => "(VERBOSE):",
            Level::Debug => "(DEBUG):",
            Level::Notice | Level::Always => "",
        }
    }

    /// Whether it counts against the exit status.
    #[must_use]
    pub fn is_problem(self) -> bool {
        matches!(self, Level::Critical | Level::Error | Level::Warn)
    }

    /// The word in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Level::Critical => "critical",
            Level::Error => "error",
            Level::Warn => "warning",
            Level::Notice => "notice",
            Level::Verbose => "verbose",
            Level::Always => "always",
            Level::Debug => "debug",
        }
    }

    /// What switches a terminal to the colour of the level.
    fn color(self) -> &'static str {
        match self {
            Level::Critical => "\x1b[1;31m",
            Level::Error => "\x1b[31m",
            Level::Warn => "\x1b[33m",
            Level::Debug => "\x1b[36m",
            Level::Verbose => "\x1b[2m",
            Level::Notice | Level::Always => "",
        }
    }
}

/// The line for a file or a pipe.
pub(super) fn plain(prefix: &str, level: Level, line: &str) -> String {
    format!("{prefix}{}{line}", level.tag())
}

/// The line for a terminal: colour instead of a tag.
pub(super) fn colored(prefix: &str, level: Level, line: &str) -> String {
    match level.color() {
        "" => format!("{prefix}{line}"),
        color => format!("{prefix}{color}{line}\x1b[0m"),
    }
}

/// A message as the lines that may be shown: without control characters, and cut with a
/// note of how much where it is longer than anybody reads.
pub(super) fn tidy(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.trim_end_matches(['\n', '\r']).split('\n').collect();
    if lines.len() <= MAX_LINES {
        return lines.into_iter().map(printable_line).collect();
    }
    let half = MAX_LINES / 2;
    let (head, rest) = lines.split_at(half);
    let (middle, tail) = rest.split_at(rest.len() - half);
    let bytes: usize = middle.iter().map(|line| line.len() + 1).sum();
    let note = format!("[... {} lines, {bytes} bytes left out ...]", middle.len());
    let shown = |part: &[&str]| part.iter().map(|line| printable_line(line)).collect::<Vec<_>>();
    [shown(head), vec![note], shown(tail)].concat()
}

/// One line without control characters, cut with a note of how much where it is longer than anybody
/// reads. Backslashes stay: names come escaped already.
#[must_use]
pub fn printable_line(line: &str) -> String {
    let line = line.strip_suffix('\r').unwrap_or(line);
    let end =
        (0..=line.len().min(MAX_LINE)).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
    let (kept, rest) = line.split_at(end);
    let mut out: String = kept
        .split_inclusive(['\\', '\t'])
        .map(|piece| match piece.strip_suffix(['\\', '\t']) {
            Some(text) => escape(text.as_bytes()) + &piece[text.len()..],
            None => escape(piece.as_bytes()),
        })
        .collect();
    if !rest.is_empty() {
        out.push_str(&format!(" [... {} bytes left out ...]", rest.len()));
    }
    out
}

/// What stands in place of a secret.
const MASK: &str = "***";
/// A secret shorter than this is masked only where it is a whole word: masking each `a` of a
/// text would give the password `a` away.
const SHORT: usize = 4;

/// Takes secrets out of texts.
#[derive(Default)]
pub(super) struct Masks {
    /// The longest first, so that a secret holding another one is masked whole.
    needles: Vec<String>,
}

impl Masks {
    /// Adds a secret, also in the form it takes inside a quoted shell word.
    pub(super) fn add(&mut self, secret: &Secret) {
        let plain = secret.reveal();
        let quoted = plain.replace('\'', r"'\''");
        let escaped = crate::tree::path::escape(plain.as_bytes());
        for needle in [plain.to_owned(), quoted, escaped] {
            if !needle.is_empty() && !self.needles.contains(&needle) {
                self.needles.push(needle);
            }
        }
        self.needles.sort_by_key(|needle| std::cmp::Reverse(needle.len()));
    }

    /// The text without the secrets.
    pub(super) fn apply(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for needle in &self.needles {
            if text.contains(needle.as_str()) {
                text = replace(&text, needle);
            }
        }
        text
    }
}

/// Replaces every occurrence, or for short secrets every one that is a whole word.
fn replace(text: &str, needle: &str) -> String {
    if needle.len() >= SHORT {
        return text.replace(needle, MASK);
    }
    let word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for (at, found) in text.match_indices(needle) {
        let (before, after) =
            (text[..at].chars().next_back(), text[at + found.len()..].chars().next());
        if at < from || word(before) || word(after) {
            continue;
        }
        out.push_str(&text[from..at]);
        out.push_str(MASK);
        from = at + found.len();
    }
    out.push_str(&text[from..]);
    out
}

/// The screen.
struct Screen {
    out: OutputStream,
    err: OutputStream,
    progress: Option<ProgressDisplay>,
}

/// One of the two output streams.
struct OutputStream {
    to: Box<dyn Write + Send>,
    /// Whether it is a terminal that wants colours.
    colors: bool,
}

impl Screen {
    /// Our own standard streams.
    fn standard(flags: &Flags, output: &Output) -> Screen {
        let stream = |colors, to| OutputStream { colors: colors && output.color, to };
        Screen {
            out: stream(io::stdout().is_terminal(), Box::new(BufWriter::new(io::stdout()))),
            err: stream(io::stderr().is_terminal(), Box::new(BufWriter::new(io::stderr()))),
            progress: ProgressDisplay::for_flags(flags),
        }
    }

    /// A stream that is gone takes nothing any more; that must not stop a run.
    fn show(&mut self, level: Level, prefix: &str, line: &str, plain: &str) {
        let stream = if level.is_problem() { &mut self.err } else { &mut self.out };
        let print = |stream: &mut OutputStream| {
            let _ = if stream.colors {
                writeln!(stream.to, "{}", colored(prefix, level, line))
            } else {
                writeln!(stream.to, "{plain}")
            };
        };
        match self.progress.as_ref().filter(|progress| progress.is_showing()) {
            Some(progress) => progress.aside(|| {
                print(stream);
                let _ = stream.to.flush();
            }),
            None => print(stream),
        }
    }

    /// A line of another process, unchanged.
    fn relay(&mut self, from: Stream, line: &str) {
        let to = match from {
            Stream::Out => &mut self.out,
            Stream::Err => &mut self.err,
        };
        let _ = writeln!(to.to, "{line}");
    }

    /// Flushes both streams.
    fn flush(&mut self) {
        let _ = self.out.to.flush();
        let _ = self.err.to.flush();
    }
}

/// User, host and process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// The login name of the effective user, or its number.
    pub user: String,
    /// The name of this machine.
    pub host: String,
    /// Our process id.
    pub pid: u32,
}

impl Who {
    /// Ourselves.
    #[must_use]
    pub fn here() -> Who {
        let uid = rustix::process::geteuid().as_raw();
        let passwd = std::fs::read("/etc/passwd").unwrap_or_default();
        let user = login_name(&passwd, uid)
            .or_else(|| std::env::var("USER").ok().filter(|name| !name.is_empty()))
            .unwrap_or_else(|| uid.to_string());
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Who { user, host, pid: std::process::id() }
    }

    /// The first lines of a run (spec 6, "Log lines").
    pub fn open_run(&self, log: &Log, instance_id: &str) {
        let version = env!("CARGO_PKG_VERSION");
        let now = if log.is_dated() {
            String::new()
        } else {
            format!("{} - ", Local::now().format("%Y-%m-%d %H:%M:%S %z"))
        };
        log.say(Level::Notice, &format!("{now}osync {version} starts."));
        let Who { user, host, pid } = self;
        log.say(
            Level::Notice,
            &format!("Sync task [{instance_id}] launched as {user}@{host} (PID {pid})."),
        );
        if log.flags.dry {
            log.say(Level::Notice, "Dry run: nothing will be changed.");
        }
    }
}

/// The name that a passwd file gives to a user.
pub(super) fn login_name(passwd: &[u8], uid: u32) -> Option<String> {
    let wanted = uid.to_string();
    passwd.split(|b| *b == b'\n').find_map(|line| {
        let mut fields = line.split(|b| *b == b':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number == wanted.as_bytes() && !name.is_empty())
            .then(|| String::from_utf8_lossy(name).into_owned())
    })
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod line_tests {
    use super::*;

    #[test]
    fn prefixes_are_seconds_dates_or_nothing() {
        use chrono::TimeZone;
        let now = Local.with_ymd_and_hms(2026, 2, 3, 4, 5, 6).unwrap();
        let elapsed = Duration::from_millis(65_999);
        for (prefix, shown) in [
            (Prefix::None, ""),
            (Prefix::Elapsed, "TIME: 65 - "),
            (Prefix::Dated, "2026-02-03 04:05:06 - "),
        ] {
            assert_eq!(prefix.show(elapsed, now), shown);
        }
    }

    #[test]
    fn levels_are_tagged_in_files_and_coloured_on_terminals() {
        assert_eq!(plain("TIME: 1 - ", Level::Warn, "low"), "TIME: 1 - (WARN):low");
        assert_eq!(plain("", Level::Verbose, "more"), "(VERBOSE):more");
        assert_eq!(plain("", Level::Notice, "so"), "so");
        assert_eq!(colored("P", Level::Error, "bad"), "P\x1b[31mbad\x1b[0m");
        assert_eq!(colored("P", Level::Always, "so"), "Pso");
    }

    #[test]
    fn messages_are_split_into_lines_without_control_characters() {
        for (text, lines) in [
            ("one", vec!["one"]),
            ("one\r\ntwo\n", vec!["one", "two"]),
            ("a\x1b[31mred\x07", vec!["a\\x1B[31mred\\x07"]),
            ("10%\r20%", vec!["10%\\r20%"]),
            ("name\\n stays \\ so\tdo tabs", vec!["name\\n stays \\ so\tdo tabs"]),
            ("", vec![""]),
        ] {
            assert_eq!(tidy(text), lines, "{text:?}");
        }
    }

    #[test]
    fn long_messages_lose_their_middle_and_say_how_much() {
        let text = (0..1000).map(|n| format!("line {n}\n")).collect::<String>();
        let lines = tidy(&text);
        assert_eq!(lines.len(), MAX_LINES + 1);
        assert_eq!((lines[0].as_str(), lines[MAX_LINES].as_str()), ("line 0", "line 999"));
        assert_eq!(lines[50], "[... 900 lines, 8050 bytes left out ...]");
        let wide = tidy(&"ä".repeat(MAX_LINE));
        assert!(wide[0].ends_with(&format!(" [... {MAX_LINE} bytes left out ...]")), "cut");
    }
}

#[cfg(test)]
mod mask_tests {
    use super::*;

    #[test]
    fn secrets_are_masked_in_every_form_they_are_written_in() {
        let mut masks = Masks::default();
        for secret in ["Token9Long", "Token9", "it's", "a", ""] {
            masks.add(&Secret::new(secret));
        }
        for (text, shown) in [
            ("env _REMOTE_TOKEN=Token9 sh", "env _REMOTE_TOKEN=*** sh"),
            ("Token9Long", "***"),
            ("sh -c 'echo it'\\''s'", "sh -c 'echo ***'"),
            ("a cat a", "*** cat ***"),
            ("nothing here", "nothing here"),
        ] {
            assert_eq!(masks.apply(text), shown, "{text:?}");
        }
    }
}

#[cfg(test)]
mod who_tests {
    use super::*;

    #[test]
    fn login_names_come_from_the_passwd_file() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\n\n";
        assert_eq!(login_name(passwd, 1000).as_deref(), Some("me"));
        assert_eq!(login_name(passwd, 0).as_deref(), Some("root"));
        assert_eq!(login_name(passwd, 100), None);
    }
}

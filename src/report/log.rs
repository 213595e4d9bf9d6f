//! The log: lines for people, on the screen and in a file (spec 6, "Log lines").

use super::line::{self, Prefix};
use super::log_file::{LogFile, LogPlace};
use super::mask::Masks;
use super::progress::Progress;
use super::screen::Screen;
use super::{Event, Level, Lines, Problem, Reporter, Tally};
use crate::config::{Config, Flags, Location, Output, Secret};
use crate::process::Stream;
use crate::ssh;
use chrono::Local;
use std::collections::VecDeque;
use std::io;
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
    /// What was said and is not shown yet ([`Log::hold`]).
    held: Option<Vec<Held>>,
    tally: Tally,
}

/// A line with what stood before it when it was said.
struct Held {
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
            replicas: config.replicas.iter().filter_map(|(_, place)| local(place)).collect(),
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

    /// A log at a place. That no file can be written is a warning, and told at once.
    #[must_use]
    pub fn open(flags: &Flags, output: &Output, place: &LogPlace, start: Instant) -> Log {
        Log::with_screen(flags, output, place, start, Screen::standard(flags, output))
    }

    /// A log that shows its lines on the given screen.
    pub(super) fn with_screen(
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

    /// Text that must never be shown from now on.
    pub fn add_secret(&self, secret: &Secret) {
        self.inner().masks.add(secret);
    }

    /// From now on lines are held back, until it is known whether there is a run to speak of.
    pub fn hold(&self) {
        self.inner().held.get_or_insert_default();
    }

    /// Shows what was held back, and everything from now on.
    pub fn release(&self) {
        let mut inner = self.inner();
        for Held { level, prefix, line } in inner.held.take().unwrap_or_default() {
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
        for line in line::tidy(&text) {
            let line = format!("{}{line}", self.mark);
            match &mut inner.held {
                Some(held) => held.push(Held { level, prefix: prefix.clone(), line }),
                None => inner.show(level, &prefix, &line),
            }
        }
    }

    /// Changes the progress display, if there is one.
    fn show(&self, change: impl FnOnce(&mut Progress)) {
        if let Some(progress) = self.inner().screen.as_mut().and_then(|s| s.progress.as_mut()) {
            change(progress);
        }
    }

    /// Who sees the display move needs no line on the screen; the file gets it.
    fn heartbeat(&self, what: &str, since: Duration) {
        if !self.is_wanted(Level::Notice) {
            return;
        }
        let mut inner = self.inner();
        inner.follow_rotation();
        let is_moving = |s: &mut Screen| s.progress.as_ref().is_some_and(Progress::is_showing);
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
        let plain = line::plain(prefix, level, line);
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

    /// LocalExecutor what screen and file got to the system.
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
        let plain = line::plain("", Level::Warn, &text);
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
            Event::Quiet => self.show(Progress::quiet),
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

#[cfg(test)]
mod tests;

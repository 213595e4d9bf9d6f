//! How a run reports: everything below `cli` speaks through a [`Reporter`] (spec 6).

pub use log::{Log, Who, printable_line, spell};
pub use log_file::LogPlace;
pub use run_report::{FileAccess, RunReport, write_whole, written_beside};
pub use summary::{Achievements, ConflictLine, Frame, Listing, conflicts, count, verdicts};

pub use crate::state::journal::Counts;

use crate::process::Stream;
use crate::tree::{Pair, RelPath, Side};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

pub mod failure;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod left_alone;
mod log;
mod log_file;
pub mod mail;
pub mod notify;
mod progress;
pub mod run_report;
pub mod scrub;
pub mod summary;
#[cfg(test)]
pub(crate) mod testing;
pub mod words;

/// How much a message matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub enum Level {
    /// The run cannot go on.
    Critical,
    /// Something was not done: exit 1.
    Error,
    /// Done, but not as it should be: exit 2.
    Warn,
    /// Ordinary.
    Notice,
    /// Only with `--verbose`.
    Verbose,
    /// Also with `--errors-only`.
    Always,
    /// Only with `_DEBUG=yes`.
    Debug,
}

/// Something that went wrong and decides the exit status; the run goes on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// [`Level::Critical`], [`Level::Error`] or [`Level::Warn`].
    pub level: Level,
    /// The side it happened on.
    pub side: Option<Side>,
    /// The path it is about.
    pub path: Option<RelPath>,
    /// What failed, why, and what to do about it. Holds no path: that is added when shown.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(side) = self.side {
            write!(f, "{side}: ")?;
        }
        if let Some(path) = &self.path {
            write!(f, "{path}: ")?;
        }
        f.write_str(&self.text)
    }
}

/// A run may have this many problems listed; the rest is only counted.
const LISTED: usize = 100_000;

/// The problems of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many made the run impossible.
    pub critical: u64,
    /// How many things were not done.
    pub errors: u64,
    /// How many were done, but not as they should be.
    pub warnings: u64,
    /// The problems in the order they came, the first 100,000 of them.
    pub problems: Vec<Problem>,
    /// Of a star: the targets that have any.
    pub targets: BTreeSet<String>,
}

impl Tally {
    /// Counts a problem. Anything below a warning does not count.
    pub fn add(&mut self, problem: &Problem) {
        match problem.level {
            Level::Critical => self.critical += 1,
            Level::Error => self.errors += 1,
            Level::Warn => self.warnings += 1,
            _ => return,
        }
        if self.problems.len() < LISTED {
            self.problems.push(problem.clone());
        }
    }

    /// Takes in the problems of one target of a star.
    pub fn add_of_target(&mut self, target: &str, other: &Tally) {
        if other.total() > 0 {
            self.targets.insert(target.to_owned());
        }
        for problem in &other.problems {
            self.add(&Problem {
                level: problem.level,
                side: None,
                path: None,
                text: format!("{target}: {problem}"),
            });
        }
        let listed = |level| other.problems.iter().filter(|of| of.level == level).count() as u64;
        self.critical += other.critical - listed(Level::Critical);
        self.errors += other.errors - listed(Level::Error);
        self.warnings += other.warnings - listed(Level::Warn);
    }

    /// The problems in the order they came, but warnings last: an error may be the cause of what
    /// ended the run, a warning is not.
    pub fn errors_first(&self) -> impl Iterator<Item = &Problem> {
        let of = |warnings| {
            self.problems.iter().filter(move |one| (one.level == Level::Warn) == warnings)
        };
        of(false).chain(of(true))
    }

    /// The worst level there was; `None` if nothing went wrong.
    #[must_use]
    pub fn worst(&self) -> Option<Level> {
        [
            (self.critical, Level::Critical),
            (self.errors, Level::Error),
            (self.warnings, Level::Warn),
        ]
        .into_iter()
        .find_map(|(count, level)| (count > 0).then_some(level))
    }

    /// How many there were in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.critical + self.errors + self.warnings
    }

    /// How many are counted but not listed.
    #[must_use]
    pub fn unlisted(&self) -> u64 {
        self.total().saturating_sub(self.problems.len() as u64)
    }
}

/// How far a transfer has come, in one direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TransferProgress {
    /// Files done, and of how many.
    pub files: u64,
    /// Files planned.
    pub files_total: u64,
    /// Bytes done.
    pub bytes: u64,
    /// Bytes planned.
    pub bytes_total: u64,
}

/// What rooms have to say while they work.
#[derive(Debug)]
pub enum Event<'a> {
    /// A line for people. A warning counts against the exit status.
    Message(Level, &'a str),
    /// A line of any level that does not count against the exit status, for what happens when
    /// that is known already: mail, notifications.
    Remark(Level, &'a str),
    /// A problem: a line for people, and a point against the exit status.
    Problem(&'a Problem),
    /// A scan has seen this many entries on this side so far.
    Scanning(Side, u64),
    /// Transfers have begun or moved on: one value for each receiving side, and the path of a
    /// file that is begun now.
    Transferring(&'a Pair<TransferProgress>, Option<&'a [u8]>),
    /// The contents of so many files have been compared, of so many that are in doubt.
    Comparing(u64, u64),
    /// Scanning or transferring is over; progress displays go away.
    Quiet,
    /// A child has been running for this long (KEEP_LOGGING).
    Heartbeat(&'a str, Duration),
}

/// Produces lines one by one, into the function it is given.
pub type Lines<'a> = dyn FnMut(&mut dyn FnMut(&str)) + 'a;

/// Receives what is said. Called from several threads at once.
pub trait Reporter: Send + Sync {
    /// Takes one event.
    fn tell(&self, event: Event<'_>);

    /// Whether a line of that level is shown or kept anywhere. Where it is not, whoever has
    /// very many of them need not put them together.
    fn hears(&self, _level: Level) -> bool {
        true
    }

    /// Whether anybody watches [`Event::Transferring`].
    fn shows_progress(&self) -> bool {
        true
    }

    /// A line for people.
    fn say(&self, level: Level, text: &str) {
        self.tell(Event::Message(level, text));
    }

    /// Many lines of one level. `lines` must not speak through this reporter itself.
    fn say_all(&self, level: Level, lines: &mut Lines<'_>) {
        lines(&mut |text| self.say(level, text));
    }

    /// A line of a child that speaks for itself, as it is, for the screen.
    fn relay(&self, _stream: Stream, _line: &str) {}

    /// A problem.
    fn problem(&self, level: Level, side: Option<Side>, path: Option<&RelPath>, text: &str) {
        self.tell(Event::Problem(&Problem {
            level,
            side,
            path: path.cloned(),
            text: text.to_owned(),
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_of_a_target_are_told_with_its_name_and_all_are_counted() {
        let problem = Problem {
            level: Level::Error,
            side: Some(Side::Target),
            path: Some(RelPath::new("a/b").unwrap()),
            text: "denied".into(),
        };
        let mut target = Tally::default();
        target.add(&problem);
        target.errors += 3; // counted, and too many to be listed
        let mut whole = Tally::default();
        whole.add_of_target("/mnt/b", &target);
        assert_eq!((whole.errors, whole.unlisted()), (4, 3));
        assert_eq!(whole.problems[0].to_string(), "/mnt/b: target: a/b: denied");
    }

    #[test]
    fn the_worst_problem_is_known() {
        let mut tally = Tally::default();
        assert_eq!(tally.worst(), None);
        for (level, worst) in [
            (Level::Notice, None),
            (Level::Warn, Some(Level::Warn)),
            (Level::Error, Some(Level::Error)),
            (Level::Warn, Some(Level::Error)),
            (Level::Critical, Some(Level::Critical)),
        ] {
            tally.add(&Problem { level, side: None, path: None, text: "t".into() });
            assert_eq!(tally.worst(), worst, "{level:?}");
        }
        assert_eq!((tally.total(), tally.unlisted(), tally.problems.len()), (4, 0, 4));
        let levels: Vec<_> = tally.errors_first().map(|problem| problem.level).collect();
        assert_eq!(levels, [Level::Error, Level::Critical, Level::Warn, Level::Warn]);
    }
}

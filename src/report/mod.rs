//! Tell: the one way in which anything below `cli` speaks (spec 6).

use crate::process::Stream;
use crate::tree::{Pair, RelPath, Side};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

pub mod closing;
pub mod failure;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod json;
mod line;
mod log;
mod log_file;
pub mod mail;
mod mask;
pub mod metrics;
pub mod notify;
mod progress;
pub mod record;
mod run;
mod screen;
mod summary;
mod tally;
mod tty;
mod who;
pub mod words;

pub use log::{Log, spell};
pub use log_file::LogPlace;
pub use run::{RunReport, write_whole, written_beside};
pub use summary::{
    Achievements, ConflictLine, Counts, Frame, Listing, conflicts, count, summary, verdicts,
};
pub use tally::Tally;
pub use who::{Stamped, Who};

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
    /// A line for people.
    Message(Level, &'a str),
    /// A line of any level that does not count against the exit status: what happens after
    /// that is known.
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

//! How a run ends: the only place that knows exit statuses (spec 1, "Exit status").

use super::intent::Work;
use super::undo::Undone;
use crate::process::StopReason;
use crate::reconcile::guard::Danger;
use crate::replica::ReplicaError;
use crate::report::summary::Reach;
use crate::report::{ConflictLine, Counts, Level};
use crate::state::Baseline;
use crate::state::journal::Done;
use crate::tree::{Pair, Side};
use std::time::SystemTime;

/// Success, nothing to report.
pub const SUCCESS: u8 = 0;
/// Something that should have been done was not.
pub const ERROR: u8 = 1;
/// Done, with warnings; stopped by the user.
pub const WARNING: u8 = 2;

/// Why a run ended before its end.
#[derive(Debug)]
pub enum Halt {
    /// A replica cannot be used, is locked, or was lost.
    Replica(ReplicaError),
    /// The plan is too dangerous.
    Danger(Danger),
    /// Something else that the run needs is missing or broken.
    Fatal {
        /// The side it concerns.
        side: Option<Side>,
        /// What failed, why, and what to do about it.
        what: String,
    },
    /// What it was is reported already.
    Told,
    /// Another run holds a lock, and this one is not to wait nor to fail (`--skip-if-running`).
    Skipped(String),
    /// A limit or a signal.
    Stopped(StopReason),
}

impl Halt {
    /// Something the run needs is missing or broken.
    #[must_use]
    pub fn fatal(what: impl Into<String>) -> Self {
        Halt::Fatal { side: None, what: what.into() }
    }

    /// What it is, for people.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Halt::Replica(error) => error.to_string(),
            Halt::Danger(danger) => danger.to_string(),
            Halt::Fatal { side: Some(side), what } => format!("{side}: {what}"),
            Halt::Fatal { side: None, what } | Halt::Skipped(what) => what.clone(),
            Halt::Stopped(_) => "stopped".to_owned(),
            Halt::Told => "it broke off".to_owned(),
        }
    }

    /// The state of the last run cannot be read or written.
    #[must_use]
    pub fn state(error: &dyn std::error::Error) -> Self {
        Halt::fatal(error.to_string())
    }
}

impl From<ReplicaError> for Halt {
    fn from(error: ReplicaError) -> Self {
        Halt::Replica(error)
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The exit status.
    pub status: u8,
    /// When the run began.
    pub started: SystemTime,
    /// Whether it came to its end: false if it was stopped or could not begin.
    pub complete: bool,
    /// How far it came.
    pub reach: Reach,
    /// How many files were compared: those of the side that has more.
    pub files: u64,
    /// It was skipped, because another run holds a lock.
    pub skipped: bool,
    /// What was done on each side.
    pub counts: Pair<Counts>,
    /// Paths changed on both sides.
    pub conflicts: Vec<ConflictLine>,
    /// What was done, for the journal; `None` if nothing was to be recorded.
    pub done: Option<Done>,
    /// What the plan comes to (`osync plan`).
    pub work: Option<Work>,
    /// What was undone (`osync undo`).
    pub undone: Option<Undone>,
    /// How many paths were compared.
    pub compared: u64,
    /// Bytes of what each side keeps in `backup/` and `deleted/`; `None`: not known.
    pub kept: Pair<Option<u64>>,
    /// What was recorded, for the monitor, which compares with it what it notices.
    pub baseline: Option<Baseline>,
}

impl Outcome {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(started: SystemTime) -> Self {
        Outcome {
            status: SUCCESS,
            started,
            complete: false,
            reach: Reach::Nothing,
            files: 0,
            skipped: false,
            counts: Pair::default(),
            conflicts: Vec::new(),
            done: None,
            work: None,
            undone: None,
            compared: 0,
            kept: Pair::default(),
            baseline: None,
        }
    }
}

/// The exit status of a run from the worst that it reported and why it was stopped.
#[must_use]
pub fn status(worst: Option<Level>, stopped: Option<StopReason>) -> u8 {
    match (worst, stopped) {
        (Some(Level::Critical | Level::Error), _) | (_, Some(StopReason::HardLimit)) => ERROR,
        (Some(Level::Warn), _) | (_, Some(StopReason::Signal(_))) => WARNING,
        _ => SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_decides_the_status() {
        for (worst, stopped, expected) in [
            (None, None, SUCCESS),
            (Some(Level::Warn), None, WARNING),
            (Some(Level::Error), None, ERROR),
            (Some(Level::Critical), None, ERROR),
            (None, Some(StopReason::HardLimit), ERROR),
            (None, Some(StopReason::Signal(15)), WARNING),
            (Some(Level::Error), Some(StopReason::Signal(15)), ERROR),
        ] {
            assert_eq!(status(worst, stopped), expected, "{worst:?} {stopped:?}");
        }
    }
}

//! The state of a task, from what is known of it and the time (spec 10, "status"). Pure.

use crate::state::last_run::{LastRun, LastScrub};

/// No task is overdue sooner than this (in milliseconds), however often it runs.
const LEAST: i64 = 3_600_000;
/// A task is overdue when this many times its usual interval has passed.
const TIMES: i64 = 3;

/// What was found out about a task.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// What its last run recorded; `None` if it has never run.
    pub last: Option<LastRun>,
    /// Why settings or state cannot be read.
    pub trouble: Option<String>,
    /// Whether a run is under way.
    pub lock: Lock,
    /// STATUS_MAX_AGE, in seconds. Where it is not set, the usual time between runs decides.
    pub max_age: Option<u32>,
    /// Conflicts that wait for a decision.
    pub open_conflicts: u64,
    /// Paths that differ since an undo.
    pub differences: u64,
    /// Files that are known to be damaged.
    pub damaged: u64,
    /// What its last scrub recorded.
    pub scrub: Option<LastScrub>,
}

impl Facts {
    /// The last scrub, if that has failed.
    #[must_use]
    pub fn failed_scrub(&self) -> Option<&LastScrub> {
        self.scrub.as_ref().filter(|scrub| scrub.status == 1)
    }
}

/// What its locks say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Lock {
    /// Nothing that concerns this task.
    #[default]
    Free,
    /// A run of it is under way since then, in milliseconds since the epoch.
    Running(i64),
    /// A run of it was killed and has left its lock, or nobody can tell whose lock it is.
    Dead(String),
}

/// The state of a task. What needs a person most comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Its settings or its state cannot be read.
    Unreadable,
    /// Every run since some time has failed.
    Failing,
    /// Files of it are damaged.
    Damaged,
    /// Locked by something dead.
    DeadLock,
    /// No run for too long.
    Overdue,
    /// It has never run.
    NeverRun,
    /// The last run was done, with warnings; or the last scrub has failed.
    Warnings,
    /// A run is under way; the one before was well.
    Running,
    /// All is well.
    Ok,
}

/// What a state asks of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing.
    Well,
    /// To look at it at some time.
    Warns,
    /// To do something.
    Fails,
}

impl State {
    /// The word for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Unreadable => "unreadable",
            State::Failing => "failing",
            State::Damaged => "damaged",
            State::DeadLock => "dead_lock",
            State::Overdue => "overdue",
            State::NeverRun => "never_run",
            State::Warnings => "warnings",
            State::Running => "running",
            State::Ok => "ok",
        }
    }

    /// How much it matters.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            State::Unreadable | State::Failing | State::Damaged | State::DeadLock => {
                Severity::Fails
            }
            State::Overdue | State::NeverRun | State::Warnings => Severity::Warns,
            State::Running | State::Ok => Severity::Well,
        }
    }
}

/// The state of a task at the moment `now`, in milliseconds since the epoch.
#[must_use]
pub fn judge(facts: &Facts, now: i64) -> State {
    if facts.trouble.is_some() {
        return State::Unreadable;
    }
    let running = match &facts.lock {
        Lock::Dead(_) => return State::DeadLock,
        Lock::Running(since) => Some(*since),
        Lock::Free => None,
    };
    let Some(last) = &facts.last else {
        return if running.is_some() { State::Running } else { State::NeverRun };
    };
    if !last.succeeded() {
        return State::Failing;
    }
    if facts.damaged > 0 {
        return State::Damaged;
    }
    // a run that is under way for too long is no better than none
    let quiet_since = running.unwrap_or(last.ended);
    if longest_quiet(facts, last).is_some_and(|longest| now.saturating_sub(quiet_since) > longest) {
        return State::Overdue;
    }
    match (last.status, running) {
        (2, _) => State::Warnings,
        _ if facts.failed_scrub().is_some() => State::Warnings,
        (_, Some(_)) => State::Running,
        (_, None) => State::Ok,
    }
}

/// How many milliseconds may pass without a run; `None` while too few runs are known to tell.
fn longest_quiet(facts: &Facts, last: &LastRun) -> Option<i64> {
    match facts.max_age {
        Some(seconds) => Some(i64::from(seconds) * 1000),
        None => Some(usual_distance(&last.begins)?.saturating_mul(TIMES).max(LEAST)),
    }
}

/// The median of the intervals between runs; of an even number, the longer of the two in the
/// middle.
fn usual_distance(begins: &[i64]) -> Option<i64> {
    let mut distances: Vec<i64> =
        begins.windows(2).map(|pair| pair[1].saturating_sub(pair[0]).max(0)).collect();
    distances.sort_unstable();
    distances.get(distances.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 60 * MINUTE;
    const NOW: i64 = 1_000 * HOUR;

    fn last(status: u8, ended: i64, begins: &[i64]) -> Option<LastRun> {
        Some(LastRun { status, ended, begins: begins.to_vec(), ..LastRun::default() })
    }

    fn every(distance: i64, until: i64) -> Vec<i64> {
        (0..10).rev().map(|back| until - back * distance).collect()
    }

    #[test]
    fn a_scrub_that_failed_is_not_well() {
        for (status, expected) in [(0, State::Ok), (1, State::Warnings), (2, State::Ok)] {
            let scrub = LastScrub { status, ..LastScrub::default() };
            let facts =
                Facts { last: last(0, NOW, &[NOW]), scrub: Some(scrub), ..Facts::default() };
            assert_eq!(judge(&facts, NOW), expected, "{status}");
        }
    }

    #[test]
    fn a_task_is_judged_by_what_needs_a_person_most() {
        let broken = Some("permission denied".to_owned());
        let dead = Lock::Dead("gone".into());
        let running = |ago| Lock::Running(NOW - ago);
        let daily = every(24 * HOUR, NOW - 25 * HOUR);
        let often = every(MINUTE, NOW - 50 * MINUTE);
        let long_ago = every(MINUTE, NOW - 70 * MINUTE);
        let ended = |begins: &[i64]| last(0, begins[9], begins);
        let none = Lock::Free;
        for (what, last, trouble, lock, max_age, expected) in [
            ("never run", None, None, none.clone(), None, State::NeverRun),
            ("its first run is under way", None, None, running(5), None, State::Running),
            ("well", last(0, NOW, &[NOW]), None, none.clone(), None, State::Ok),
            ("warnings", last(2, NOW, &[NOW]), None, none.clone(), None, State::Warnings),
            ("failing", last(1, NOW, &[NOW]), None, none.clone(), None, State::Failing),
            (
                "failing, and trying again",
                last(1, NOW, &[]),
                None,
                running(5),
                None,
                State::Failing,
            ),
            (
                "bad usage is a failure too",
                last(128, NOW, &[]),
                None,
                none.clone(),
                None,
                State::Failing,
            ),
            ("running", last(0, NOW, &[NOW]), None, running(5), None, State::Running),
            ("killed", last(0, NOW, &[NOW]), None, dead.clone(), None, State::DeadLock),
            ("killed in its first run", None, None, dead, None, State::DeadLock),
            (
                "nothing to be read",
                last(0, NOW, &[NOW]),
                broken,
                none.clone(),
                None,
                State::Unreadable,
            ),
            ("daily, a day ago", ended(&daily), None, none.clone(), None, State::Ok),
            ("often, less than an hour ago", ended(&often), None, none.clone(), None, State::Ok),
            (
                "often, more than an hour ago",
                ended(&long_ago),
                None,
                none.clone(),
                None,
                State::Overdue,
            ),
            (
                "overdue counts more than warnings",
                last(2, NOW - 9 * HOUR, &often),
                None,
                none.clone(),
                None,
                State::Overdue,
            ),
            ("it runs, at last", ended(&long_ago), None, running(MINUTE), None, State::Running),
            (
                "it runs, for too long",
                ended(&long_ago),
                None,
                running(61 * MINUTE),
                None,
                State::Overdue,
            ),
            (
                "one run has no rhythm",
                last(0, NOW - 99 * HOUR, &[NOW]),
                None,
                none.clone(),
                None,
                State::Ok,
            ),
            (
                "as old as allowed",
                last(0, NOW - 10_000, &[]),
                None,
                none.clone(),
                Some(10),
                State::Ok,
            ),
            (
                "older than allowed",
                last(0, NOW - 10_001, &[]),
                None,
                none.clone(),
                Some(10),
                State::Overdue,
            ),
            ("allowed to be old", ended(&long_ago), None, none.clone(), Some(9_000), State::Ok),
            ("of the future", last(0, NOW + HOUR, &daily), None, none, Some(10), State::Ok),
        ] {
            let facts = Facts { last, trouble, lock, max_age, ..Facts::default() };
            assert_eq!(judge(&facts, NOW), expected, "{what}");
        }
    }

    #[test]
    fn damaged_files_matter_more_than_warnings_and_less_than_failures() {
        for (status, expected) in [(0, State::Damaged), (2, State::Damaged), (1, State::Failing)] {
            let facts = Facts { last: last(status, NOW, &[NOW]), damaged: 1, ..Facts::default() };
            assert_eq!(judge(&facts, NOW), expected, "status {status}");
        }
    }

    #[test]
    fn the_usual_distance_is_a_median() {
        for (begins, expected) in [
            (vec![], None),
            (vec![5], None),
            (vec![5, 15], Some(10)),
            (vec![0, 10, 30], Some(20)),
            // two retries in a row do not make a daily task one that is overdue soon
            (vec![0, 100, 101, 102, 200, 300, 400], Some(100)),
            (vec![50, 0], Some(0)),
        ] {
            assert_eq!(usual_distance(&begins), expected, "{begins:?}");
        }
    }
}

//! `last-run-ID`: when the last run was and how it ended, for `osync status` (spec 9, 10).
//!
//! One small file that every run replaces, also one that finds nothing to do.

use super::error::{Shown, StateError};
use super::files::Durable;
use super::store::StateStore;
use crate::tree::Side;
use serde::{Deserialize, Serialize};

/// From so many runs the rhythm of a task is told.
const BEGINS: usize = 10;

/// What is known of the last run. Times are milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LastRun {
    /// When it began.
    pub began: i64,
    /// When it ended.
    pub ended: i64,
    /// Its exit status (spec 1).
    pub status: u8,
    /// How many paths it compared.
    pub compared: u64,
    /// When the last run with status 0 or 2 ended; 0 before the first.
    pub last_success: i64,
    /// Since when every run has failed; 0: the last one did not.
    pub failing_since: i64,
    /// How many runs in a row have failed.
    pub failed_runs: u64,
    /// When the last ten runs began, the newest last.
    pub begins: Vec<i64>,
    /// What it did, in a line.
    pub did: String,
    /// What went wrong, one line each; the first ones.
    pub problems: Vec<String>,
    /// How much went wrong in all.
    pub problem_count: u64,
    /// Of how many paths something was not done.
    pub failed_paths: u64,
    /// How many conflicts were open when it ended. Later on only fewer can be: new ones come
    /// with runs. None: not known.
    pub open_conflicts: Option<u64>,
    /// At how many paths both sides differed since an undo, likewise.
    pub differences: Option<u64>,
    /// Bytes of what the initiator and the target keep in `backup/` and `deleted/`, as far as it
    /// is known.
    pub kept: [Option<u64>; 2],
}

impl LastRun {
    /// Whether it did what it is for, with or without warnings.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        matches!(self.status, 0 | 2)
    }

    /// Adds what the runs before tell.
    #[must_use]
    fn after(mut self, before: Option<LastRun>) -> Self {
        let before = before.unwrap_or_default();
        let failed = !self.succeeded();
        self.last_success = if failed { before.last_success } else { self.ended };
        (self.failing_since, self.failed_runs) = match (failed, before.failing_since) {
            (false, _) => (0, 0),
            (true, 0) => (self.began, 1),
            (true, since) => (since, before.failed_runs + 1),
        };
        self.open_conflicts = self.open_conflicts.or(before.open_conflicts);
        self.differences = self.differences.or(before.differences);
        for (kept, before) in self.kept.iter_mut().zip(before.kept) {
            *kept = kept.or(before);
        }
        self.begins = before.begins;
        self.begins.push(self.began);
        let too_many = self.begins.len().saturating_sub(BEGINS);
        self.begins.drain(..too_many);
        self
    }
}

/// What is known of the last scrub. Times are milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LastScrub {
    /// When it began.
    pub began: i64,
    /// When it ended.
    pub ended: i64,
    /// Its exit status (spec 1).
    pub status: u8,
    /// How many files it checked.
    pub checked: u64,
    /// How many files it found damaged and did not heal.
    pub damaged: u64,
    /// What it did, in a line.
    pub did: String,
}

impl StateStore {
    /// What is known of the last scrub; `None` before the first, or if the note is torn.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn last_scrub(&self) -> Result<Option<LastScrub>, StateError> {
        let found = self.files.read(&self.name("last-scrub"))?;
        Ok(found.and_then(|(bytes, _)| serde_json::from_slice(&bytes).ok()))
    }

    /// Notes a scrub that has just ended.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_last_scrub(&self, last: &LastScrub) -> Result<(), StateError> {
        let bytes = serde_json::to_vec(last).unwrap_or_default();
        self.files.replace(&self.name("last-scrub"), Durable::No, &bytes)
    }

    /// What is known of the last run; `None` before the first.
    ///
    /// # Errors
    /// The file cannot be read, or is torn.
    pub fn last_run(&self) -> Result<Option<LastRun>, StateError> {
        let name = self.name("last-run");
        let Some((bytes, _)) = self.files.read(&name)? else { return Ok(None) };
        let path = Shown::new(self.files.path(&name));
        let what = "it is damaged; the next run writes it anew";
        let torn = |_| StateError::Malformed { path, what };
        serde_json::from_slice(&bytes).map(Some).map_err(torn)
    }

    /// What is known of the last run stands somewhere else now.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub(super) fn forget_last_run(&self) -> Result<(), StateError> {
        self.files.remove(&self.name("last-run"))
    }

    /// Notes a run that has just ended; `before` is what was known before it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_last_run(&self, last: LastRun, before: Option<LastRun>) -> Result<(), StateError> {
        // a run that is killed here may have been the last one with a baseline to save
        self.files.sweep(&self.names())?;
        self.write_last_run(&last.after(before))
    }

    /// Notes how many bytes a side keeps since the last run.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub(super) fn set_kept(&self, side: Side, kept: u64) -> Result<(), StateError> {
        let Some(mut last) = self.last_run()? else { return Ok(()) };
        let noted = match side {
            Side::Initiator => &mut last.kept[0],
            Side::Target => &mut last.kept[1],
        };
        if noted.replace(kept) == Some(kept) {
            return Ok(());
        }
        self.write_last_run(&last)
    }

    fn write_last_run(&self, last: &LastRun) -> Result<(), StateError> {
        let bytes = serde_json::to_vec(last).unwrap_or_default();
        self.files.replace(&self.name("last-run"), Durable::No, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(began: i64, status: u8) -> LastRun {
        LastRun { began, ended: began + 1, status, ..LastRun::default() }
    }

    #[test]
    fn failures_are_counted_until_a_run_succeeds() {
        let first = run(10, 0).after(None);
        let failed = run(20, 1).after(Some(first));
        let again = run(30, 1).after(Some(failed));
        assert_eq!((again.last_success, again.failing_since, again.failed_runs), (11, 20, 2));
        let well = run(40, 2).after(Some(again));
        assert_eq!((well.last_success, well.failing_since, well.failed_runs), (41, 0, 0));
        assert_eq!(well.begins, [10, 20, 30, 40]);
    }

    #[test]
    fn the_begins_of_ten_runs_are_kept() {
        let mut last = None;
        for began in 0..25 {
            last = Some(run(began, 0).after(last));
        }
        assert_eq!(last.unwrap().begins, (15..25).collect::<Vec<i64>>());
    }
}

//! The names of osync's own entries in a replica (spec 3), which never take part in a run.

use super::RelPath;
use serde::{Deserialize, Serialize};

/// The work directory, at the root of a replica.
pub const WORK_DIR_NAME: &str = ".osync_workdir";
/// [`WORK_DIR_NAME`], as names are in trees.
pub const WORK_DIR: &[u8] = WORK_DIR_NAME.as_bytes();
/// The trigger file, at the root of the initiator: who writes into it wakes the monitor.
pub const TRIGGER_NAME: &str = ".osync-update.push";
/// [`TRIGGER_NAME`], as names are in trees.
pub const TRIGGER: &[u8] = TRIGGER_NAME.as_bytes();

/// Whether a path never takes part: a work directory, be it this replica's or that of another task
/// whose replica lies inside this one, and at the root the trigger file (spec 3, spec 8).
#[must_use]
pub fn is_ours(path: &RelPath) -> bool {
    path.as_bytes() == TRIGGER || path.components().any(|name| name == WORK_DIR)
}

/// Which part of the work directory keeps something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Keep {
    /// `backup/`: what updates and conflicts replace.
    Backup,
    /// `deleted/`: soft deletions.
    Deleted,
}

impl Keep {
    /// The directory's name in the work directory.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Keep::Backup => "backup",
            Keep::Deleted => "deleted",
        }
    }
}

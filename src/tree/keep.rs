//! The two directories of a work directory in which versions are kept (spec 3).

use serde::{Deserialize, Serialize};

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

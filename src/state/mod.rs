//! The baseline, which says what both replicas had after the last run, and the state files that
//! keep it and what else a task remembers between runs (spec 3).

mod baseline;
mod digests;
mod error;
mod files;
pub(crate) mod format;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod identity;
pub mod journal;
pub mod last_run;
pub mod lists;
mod note_places;
pub mod notes;
pub mod ours;
mod show;
pub mod snapshot;
mod store;
pub mod targets;
#[cfg(test)]
mod testing;
pub mod told;

pub use baseline::{Baseline, BaselineDamaged, BaselineWriter, Cursor, Disorder};
pub use digests::{ContentDigest, DamagedFile, Digests, FileDigests, Held, Integrity};
pub use error::StateError;
pub use files::{StateDir, temporary_file};
pub use format::{Known, KnownRef};
pub use identity::{Identity, IdentityFound, RunMark};
pub use note_places::NotePlaces;
pub use notes::{
    Compared, Inflight, InflightNote, InflightPath, KnownFileSystem, LastAction, Part, Seen,
    Settled,
};
pub use show::{Ask, Form, ShowError, StateHealth, command};
pub use snapshot::FileStamp;
pub use store::{Loaded, Note, NoteLevel, RunLists, Saved, StateStore};

use crate::tree::{Entry, Inode, Pair, RelPath, Side, Stamp};

/// What the baseline says of one path on one side.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Recorded {
    /// The path did not exist after the last run.
    #[default]
    Absent,
    /// osync 1.3's list says that the path existed. The entry is that of an older snapshot of
    /// ours, if there is one; it counts only if the path still matches it.
    Listed(Option<Entry>),
    /// What the path looked like after the last run.
    Seen(Entry),
}

/// What the baseline says of one path.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// What was there on each side.
    pub was: Pair<Recorded>,
    /// Whether a deletion was skipped on this side: the path was deleted on the other side, still
    /// exists here, and is left alone until it changes (spec 4, SKIP_DELETION).
    pub skipped: Pair<bool>,
}

/// Where a baseline came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Origin {
    /// There is no baseline: this is the first run of the task.
    #[default]
    Nothing,
    /// Our snapshot.
    Snapshot,
    /// osync 1.3's lists, with or without an older snapshot beside them.
    Lists,
}

/// What a baseline keeps beside its paths.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Where it came from.
    pub origin: Origin,
    /// The identities of the replicas.
    pub identities: Pair<Option<Identity>>,
    /// When it was written (seconds since the epoch), by the clock of the initiator.
    pub written_at: Stamp,
    /// The version of osync that wrote it.
    pub version: String,
    /// For [`Recorded::Listed`]: the mtime of the list file; what is newer counts as modified.
    pub listed_at: Pair<Stamp>,
    /// The number of the run that wrote it; `None` if an earlier version of osync did.
    pub run: Option<u64>,
    /// The mount points, sorted.
    pub mounts: Pair<Vec<RelPath>>,
    /// Device and inode of the roots. If a root has others now, the replica was copied or restored
    /// as a whole, and inode numbers of the baseline say nothing about it.
    pub roots: Pair<Option<Inode>>,
}

impl Default for Header {
    fn default() -> Self {
        Header {
            origin: Origin::Nothing,
            identities: Pair::default(),
            written_at: Stamp::UNKNOWN,
            version: String::new(),
            listed_at: Pair::new(Stamp::UNKNOWN, Stamp::UNKNOWN),
            run: None,
            mounts: Pair::default(),
            roots: Pair::default(),
        }
    }
}

impl Record {
    /// A path that existed on both sides.
    #[must_use]
    pub fn in_step(initiator: Entry, target: Entry) -> Self {
        Record {
            was: Pair::new(Recorded::Seen(initiator), Recorded::Seen(target)),
            skipped: Pair::default(),
        }
    }

    /// Whether the path existed on neither side.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.was.initiator == Recorded::Absent && self.was.target == Recorded::Absent
    }

    /// Whether the path existed on this side.
    #[must_use]
    pub fn existed(&self, side: Side) -> bool {
        self.was[side] != Recorded::Absent
    }
}

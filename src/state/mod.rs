//! What was there: the baseline of both replicas, and the files that keep it (spec 3).

mod baseline;
mod error;
mod files;
pub(crate) mod format;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod identity;
pub mod journal;
pub mod last_run;
pub mod lists;
pub mod notes;
pub mod ours;
mod show;
mod show_json;
mod show_text;
pub mod snapshot;
mod store;
#[cfg(test)]
mod testing;
pub mod told;

pub use baseline::{Baseline, BaselineWriter, Cursor, Disorder};
pub use error::StateError;
pub use files::StateDir;
pub use format::{Damaged, Known};
pub use identity::{Identity, IdentityFound, RunMark};
pub use notes::{
    Action, Compared, Inflight, InflightNote, InflightPath, KnownFileSystem, Part, Seen, Settled,
};
pub use show::{Ask, Form, ShowError, Verdict, command};
pub use snapshot::FileStamp;
pub use store::{Loaded, Note, RunLists, Saved, StateStore, Weight};

use crate::tree::{Entry, Inode, Pair, RelPath, Side, Stamp};

/// What the baseline says of one path on one side.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Recorded {
    /// Nothing was there after the last run.
    #[default]
    Absent,
    /// osync 1.3's list says that it existed. Where our own snapshot also knew the path,
    /// that entry comes along: it serves only if the path still matches it.
    Listed(Option<Entry>),
    /// This is what it looked like after the last run, as seen on that side.
    Seen(Entry),
}

/// The baseline of one path.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// What was there on each side.
    pub was: Pair<Recorded>,
    /// Marks of skipped deletions: the path was deleted on the other side, is still there
    /// on this one, and is left alone until it changes (spec 4, SKIP_DELETION).
    pub skipped: Pair<bool>,
}

/// Where a baseline came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Origin {
    /// There is none: the first run of this task.
    #[default]
    Nothing,
    /// Our snapshot.
    Snapshot,
    /// osync 1.3's lists, with or without an older snapshot beside them.
    Lists,
}

/// What stands in a baseline beside its paths.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Where it came from.
    pub origin: Origin,
    /// The identities that the replicas had.
    pub identities: Pair<Option<Identity>>,
    /// When it was written (seconds since the epoch), by the clock of the initiator.
    pub written_at: Stamp,
    /// The version of osync that wrote it.
    pub version: String,
    /// For [`Recorded::Listed`]: the mtime of the list file; what is newer counts as modified.
    pub listed_at: Pair<Stamp>,
    /// The number of the run that wrote it; none: an earlier version did.
    pub run: Option<u64>,
    /// Where another file system was mounted, in the order of the paths.
    pub mounts: Pair<Vec<RelPath>>,
    /// Which attributes the digests cover that had to be asked for through rsync.
    pub covers: Covers,
    /// Device and inode of the roots. Where a root has others now, that replica was copied or
    /// restored as a whole, and no inode in it means anything.
    pub roots: Pair<Option<Inode>>,
}

/// Attributes of a remote replica without tools to read them (docs/fidelity.md). All are
/// false where they were read with the scan.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Covers {
    /// Access control lists.
    pub acl: bool,
    /// Extended attributes.
    pub xattr: bool,
    /// Those of all name spaces, and not only of `user`.
    pub all_spaces: bool,
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
            covers: Covers::default(),
            roots: Pair::default(),
        }
    }
}

impl Record {
    /// A path that both sides had in step.
    #[must_use]
    pub fn in_step(initiator: Entry, target: Entry) -> Self {
        Record {
            was: Pair::new(Recorded::Seen(initiator), Recorded::Seen(target)),
            skipped: Pair::default(),
        }
    }

    /// Whether the baseline knows nothing of the path.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.was.initiator == Recorded::Absent && self.was.target == Recorded::Absent
    }

    /// Whether the path was there on that side.
    #[must_use]
    pub fn existed(&self, side: Side) -> bool {
        self.was[side] != Recorded::Absent
    }
}

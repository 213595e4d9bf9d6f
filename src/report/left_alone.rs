//! Why a path is left alone that takes part in a run, and how the user hears of it.
//!
//! What keeps a path out before anything is decided, and what goes wrong while a plan is carried
//! out, has types of its own: docs/architecture.md, "Why a path was left alone", names them all.

use super::Level;
use crate::tree::{Lack, RelPath, Side};
use std::borrow::Cow;

/// Why a path is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeftAlone {
    /// Its copy is known to be damaged, and must not replace the other one.
    Damaged,
    /// It may be the last sound copy of a file.
    LastSoundCopy {
        /// The side with the damaged copy.
        damaged_on: Side,
        /// The name that the damaged copy has now.
        damaged: RelPath,
    },
    /// Both copies are as recorded, and a scrub found one of them damaged.
    DamagedAsRecorded,
    /// Only the contents could tell whether it changed, and they could not be compared.
    NotCompared,
    /// The receiving side of a one-way run has the newer version.
    NewerOnReceiver,
    /// A one-way run would send a file whose end a power failure may have taken.
    TornSource,
    /// A directory that has to make way holds what is excluded or could not be read.
    HidesEntries,
    /// A file system is mounted at or below what has to make way.
    MountInTheWay,
    /// A directory has to make way, and nothing may be deleted on its side.
    DeletionForbidden,
    /// The other side cannot store it.
    CannotBeThere(Lack),
    /// rsync cannot take so long a path.
    TooLong,
    /// Both sides differ as the last run recorded them, and neither has changed since.
    DiffersAsRecorded,
    /// It was deleted on the other side and stays here: SKIP_DELETION, or a mount point.
    DeletionSkipped,
    /// A directory that was deleted on the other side still holds something that stays.
    HoldsWhatStays,
    /// It changed since the plan was made that is carried out now.
    ChangedSincePlan,
    /// It changed since the run that is undone.
    ChangedSinceRun,
    /// It could not be read, for this reason.
    Unread(String),
}

/// How the user hears of a path that is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mention {
    /// Each path by itself, as a problem of this level.
    Each(Level),
    /// One warning for all of a side with the same lack, unless an earlier run has given it;
    /// `--verbose` names each.
    PerLack(Lack),
    /// How many there are; `--verbose` names each.
    Counted,
    /// With `--verbose` only: it was told when it was found out, or is what the settings ask for.
    Verbose,
}

impl LeftAlone {
    /// The reason, and what to do about it.
    #[must_use]
    pub fn words(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            LeftAlone::Damaged => {
                "it is damaged (osync scrub), and was not transferred. Replace it by a sound copy \
                 (osync scrub --heal, osync restore), or settle it with 'osync conflicts … take'"
            }
            LeftAlone::LastSoundCopy { damaged_on, damaged } => {
                return Cow::Owned(format!(
                    "it was kept: the {damaged_on}'s copy of {} is damaged (osync scrub) and has \
                     another name now, and this one may be the last sound one. Give that one its \
                     old name back and heal it ('osync scrub --heal'); if it is deleted, the next \
                     run deletes this one too",
                    damaged.shown()
                ));
            }
            LeftAlone::DamagedAsRecorded => {
                "a copy is damaged (osync scrub), and neither has changed since it was recorded"
            }
            LeftAlone::NotCompared => "the contents of both sides could not be compared",
            LeftAlone::NewerOnReceiver => {
                "it is newer on the receiving side than on the source; it is left as it is \
                 (SYNC_TYPE)"
            }
            LeftAlone::TornSource => {
                "its content did not reach the disk when a run was broken off, and the other side \
                 holds more; both sides were left alone. Copy that one over, or restore it"
            }
            LeftAlone::HidesEntries => {
                "the kind of this path changed, but the directory in the way holds excluded or \
                 unreadable entries; both sides were left alone. Move these entries away or change \
                 the filter"
            }
            LeftAlone::MountInTheWay => {
                "the kind of this path changed, but a file system is mounted at or below what is \
                 in the way; both sides were left alone. Unmount it, or move its content away"
            }
            LeftAlone::DeletionForbidden => {
                "a directory was replaced by something else, but SKIP_DELETION forbids to delete \
                 its content here; both sides were left alone"
            }
            LeftAlone::CannotBeThere(lack) => {
                return Cow::Owned(format!("left out: {}", lack.why()));
            }
            LeftAlone::TooLong => {
                "the path is longer than rsync can handle (4,095 bytes with the replica's own); it \
                 was left out. Shorten a directory name"
            }
            LeftAlone::DiffersAsRecorded => {
                "both sides differ as they did after the last run, and neither has changed since"
            }
            LeftAlone::DeletionSkipped => {
                "it was deleted on the other side, and stays here (SKIP_DELETION, or a mount point)"
            }
            LeftAlone::HoldsWhatStays => {
                "it was deleted on the other side, and stays here for what it still holds"
            }
            LeftAlone::ChangedSincePlan => {
                "it changed since the plan was made; it is left for the next run"
            }
            LeftAlone::ChangedSinceRun => {
                "it, or something below it, was changed since that run; it is left as it is"
            }
            LeftAlone::Unread(why) => {
                return Cow::Owned(format!("{why}; it is left alone on both sides"));
            }
        })
    }

    /// How the user hears of it.
    #[must_use]
    pub fn mention(&self) -> Mention {
        match self {
            LeftAlone::Damaged
            | LeftAlone::LastSoundCopy { .. }
            | LeftAlone::TornSource
            | LeftAlone::HidesEntries
            | LeftAlone::MountInTheWay
            | LeftAlone::DeletionForbidden
            | LeftAlone::ChangedSincePlan
            | LeftAlone::ChangedSinceRun => Mention::Each(Level::Warn),
            LeftAlone::TooLong | LeftAlone::Unread(_) => Mention::Each(Level::Error),
            LeftAlone::CannotBeThere(lack) => Mention::PerLack(*lack),
            LeftAlone::NewerOnReceiver => Mention::Counted,
            // The scrub has told the damage, and the comparison what it could not read.
            LeftAlone::DamagedAsRecorded | LeftAlone::NotCompared => Mention::Verbose,
            LeftAlone::DiffersAsRecorded
            | LeftAlone::DeletionSkipped
            | LeftAlone::HoldsWhatStays => Mention::Verbose,
        }
    }
}

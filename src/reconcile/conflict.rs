//! Who wins a conflict, and why (spec 4, "Deciding one path").

use super::delta::PathId;
use crate::config::Policy;
use crate::tree::{Entry, Pair, Side};
use std::cmp::Ordering;

/// Why a side won.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Its modification time is the newer one.
    Newer,
    /// The times are equal: CONFLICT_PREVALANCE.
    Tie,
    /// FORCE_CONFLICT_PREVALANCE.
    Forced,
    /// The other side deleted what this one changed.
    NewWorkBeatsDeletion,
    /// A directory on one side, something else on the other, both changed.
    Kinds,
    /// Names that are one file on a side were changed in different ways (hard links).
    Links,
    /// The content of the other side had not reached its disk when a run was broken off.
    Whole,
}

impl Reason {
    /// The reason in words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Reason::Newer => "its modification time is newer",
            Reason::Tie => "the modification times are equal and CONFLICT_PREVALANCE names it",
            Reason::Forced => "FORCE_CONFLICT_PREVALANCE is set",
            Reason::NewWorkBeatsDeletion => "it was changed there and deleted on the other side",
            Reason::Kinds => {
                "a directory stands against something else and CONFLICT_PREVALANCE names it"
            }
            Reason::Whole => {
                "the content on the other side did not reach its disk when a run was broken off"
            }
            Reason::Links => "names that are hard links of each other were changed on both sides",
        }
    }
}

/// A path that both sides changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conflict {
    /// The path.
    pub path_id: PathId,
    /// Whose version stays.
    pub winner: Side,
    /// Why.
    pub reason: Reason,
    /// Neither side has a baseline: the replicas meet for the first time here.
    pub first_contact: bool,
}

/// Decides between two contents that both count as changed.
#[must_use]
pub fn winner(entries: Pair<&Entry>, policy: &Policy) -> (Side, Reason) {
    if policy.force_prevalence {
        return (policy.prevalence, Reason::Forced);
    }
    match entries.initiator.mtime.compare_coarsely(entries.target.mtime) {
        Ordering::Greater => (Side::Initiator, Reason::Newer),
        Ordering::Less => (Side::Target, Reason::Newer),
        Ordering::Equal => (policy.prevalence, Reason::Tie),
    }
}

//! What should happen, as data: printing it is the dry run, carrying it out is the run.
//!
//! Lists that are pairs are indexed by the side that is *changed*.

use super::damaged::DamagedNodes;
use super::delta::{Delta, PathId};
use super::spelling::Respelling;
use crate::config::Policy;
use crate::report::Problem;
use crate::report::left_alone::LeftAlone;
use crate::tree::Keep;
use crate::tree::{Entry, NodeId, Pair, RelPath, Side, Stamp, Tree};
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// What happens to the content at a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Act {
    /// Nothing.
    #[default]
    Nothing,
    /// The other side's entry comes to this side.
    Send {
        /// The receiving side.
        to: Side,
    },
    /// The entry is deleted.
    Delete {
        /// The side that loses it.
        on: Side,
    },
}

/// What the next baseline says of a path if the run does all that is planned for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum NextRecord {
    /// Both sides as they are then.
    #[default]
    AsFound,
    /// The old baseline stays; the path is decided anew next time.
    KeepOld,
    /// Nothing: the next run decides as if it had never seen the path.
    Forgotten,
    /// As found, with a mark: deleted on the other side, still there on this one.
    DeletionSkipped(Side),
}

/// All that was decided for one path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// The content.
    pub act: Act,
    /// The metadata alone is set on this side, from the other one.
    pub metadata_on: Option<Side>,
    /// The side where a directory or file of another kind is moved out of the way, with
    /// all that lies below this path there.
    pub makes_way_on: Option<Side>,
    /// The name that it gets there instead of being kept (CONFLICT_COPY=beside).
    pub beside: Option<PathId>,
    /// The side whose file of the same content gets the time of the other one's.
    pub time_on: Option<Side>,
    /// What is recorded.
    pub next_record: NextRecord,
}

/// A path that is left alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeftPath {
    /// The path.
    pub path_id: PathId,
    /// The side that the reason is about; `None`: both.
    pub side: Option<Side>,
    /// Why.
    pub why: LeftAlone,
}

/// Something of another kind that is moved out of the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SetAside {
    /// The path.
    pub path_id: PathId,
    /// The side that loses it.
    pub on: Side,
    /// Where it goes.
    pub to: Aside,
}

/// Where something goes that makes way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Aside {
    /// It is kept in the work directory.
    Kept(Keep),
    /// It gets another name, under which the other side gets it too.
    Beside(PathId),
}

/// A renaming on one side that follows the other side's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Move {
    /// The side that follows; `None` if both sides moved it the same way already.
    pub on: Option<Side>,
    /// The old name.
    pub from: PathId,
    /// The new name.
    pub to: PathId,
    /// Every path that went along with its new place, the top itself included.
    pub carried: Vec<(PathId, PathId)>,
}

/// A file of each side whose contents must be compared before it can be decided (spec 8, "The
/// same"). Mostly both have the same path; of a file without birth time that seems to have
/// moved, one side has the old one.
pub type Doubt = Pair<NodeId>;

/// Names that share an inode on the sending side and go over in one call, so that rsync
/// links them on the receiving side (PRESERVE_HARDLINKS).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkGroup {
    /// The receiving side.
    pub to: Side,
    /// The names, in the order of the delta.
    pub members: Vec<PathId>,
    /// The receiver has the content under one of the names: the others are only linked.
    pub only_names: bool,
}

/// What should happen.
#[derive(Debug, Default)]
pub struct Plan {
    /// The paths that the plan speaks of.
    pub delta: Delta,
    /// What was decided for each, by [`PathId::index`].
    pub verdicts: Vec<Verdict>,
    /// Step 1: out of the way.
    pub set_aside: Vec<SetAside>,
    /// Step 3, in order: renamings, after the missing parents of each new name (step 2).
    pub moves: Vec<Move>,
    /// Step 4: metadata that flows against its file's content.
    pub counter_metadata: Pair<Vec<PathId>>,
    /// Step 5: directories that do not exist on the receiver and go with all below them.
    pub subtrees: Pair<Vec<PathId>>,
    /// Step 5: everything else that is created or replaced, and new directories.
    pub updates: Pair<Vec<PathId>>,
    /// Step 5: names of groups of which the receiver has the content.
    pub links: Pair<Vec<PathId>>,
    /// Step 6: other metadata.
    pub metadata: Pair<Vec<PathId>>,
    /// Step 6: times of files that hold the same on both sides.
    pub file_times: Pair<Vec<(PathId, Stamp)>>,
    /// Step 7: deletions, deepest first.
    pub deletions: Pair<Vec<PathId>>,
    /// Step 8: times of directories.
    pub dir_times: Pair<Vec<(PathId, Stamp)>>,
    /// Names that must go in the same call.
    pub groups: Vec<LinkGroup>,
    /// What both sides changed.
    pub conflicts: Vec<Conflict>,
    /// What the plan leaves alone, and why.
    pub left_alone: Vec<LeftPath>,
    /// What else the user is warned of.
    pub problems: Vec<Problem>,
    /// How many owners or groups differ that this user cannot set.
    pub owners_left: u64,
    /// Step 0: spellings that become those of the other side.
    pub respellings: Vec<Respelling>,
    /// What must be compared before it can be decided; see [`Doubt`].
    pub doubts: Vec<Doubt>,
    /// Sides whose inode numbers are all new and say nothing.
    pub renumbered: Pair<bool>,
    /// What is replaced or deleted at these paths is kept, whatever CONFLICT_BACKUP and SOFT_DELETE
    /// say.
    pub always_kept: BTreeSet<PathId>,
    /// The files that were known to be damaged when it was made.
    pub damaged: DamagedNodes,
}

impl Plan {
    /// A plan to do nothing about some paths.
    #[must_use]
    pub fn new(delta: Delta) -> Self {
        let verdicts = vec![Verdict::default(); delta.len()];
        Plan { delta, verdicts, ..Plan::default() }
    }

    /// Whether nothing at all is to be done on either side.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set_aside.is_empty()
            && self.respellings.is_empty()
            && self.moves.iter().all(|m| m.on.is_none())
            && Side::BOTH.iter().all(|side| {
                self.counter_metadata[*side].is_empty()
                    && self.subtrees[*side].is_empty()
                    && self.updates[*side].is_empty()
                    && self.links[*side].is_empty()
                    && self.metadata[*side].is_empty()
                    && self.file_times[*side].is_empty()
                    && self.deletions[*side].is_empty()
                    && self.dir_times[*side].is_empty()
            })
    }

    /// Whether a side loses what it has at a path.
    #[must_use]
    pub fn is_lost(&self, path_id: PathId, side: Side) -> bool {
        let verdict = self.verdict(path_id);
        verdict.act == (Act::Delete { on: side })
            || (verdict.makes_way_on == Some(side) && verdict.beside.is_none())
    }

    /// What was decided for a path.
    #[must_use]
    pub fn verdict(&self, path_id: PathId) -> &Verdict {
        &self.verdicts[path_id.index()]
    }

    /// The entry that a side has at a path, as scanned.
    #[must_use]
    pub fn entry<'a>(
        &self,
        trees: &'a Pair<Tree>,
        path_id: PathId,
        side: Side,
    ) -> Option<&'a Entry> {
        self.delta.now(path_id, side).map(|id| trees[side].entry(id))
    }

    /// The path with this number.
    #[must_use]
    pub fn path(&self, path_id: PathId) -> RelPath {
        self.delta.path(path_id)
    }

    /// Everything that comes to `to`, top directories sent whole with all below them, in
    /// the order of the paths.
    pub fn sent<'a>(&'a self, to: Side) -> impl Iterator<Item = PathId> + 'a {
        self.delta
            .in_path_order()
            .into_iter()
            .filter(move |path_id| self.verdict(*path_id).act == Act::Send { to })
    }
}

/// Why a side won.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhyItWon {
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

impl WhyItWon {
    /// The reason in words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            WhyItWon::Newer => "its modification time is newer",
            WhyItWon::Tie => "the modification times are equal and CONFLICT_PREVALANCE names it",
            WhyItWon::Forced => "FORCE_CONFLICT_PREVALANCE is set",
            WhyItWon::NewWorkBeatsDeletion => "it was changed there and deleted on the other side",
            WhyItWon::Kinds => {
                "a directory stands against something else and CONFLICT_PREVALANCE names it"
            }
            WhyItWon::Whole => {
                "the content on the other side did not reach its disk when a run was broken off"
            }
            WhyItWon::Links => "names that are hard links of each other were changed on both sides",
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
    pub reason: WhyItWon,
    /// Neither side has a baseline: the replicas meet for the first time here.
    pub first_contact: bool,
}

/// Decides between two contents that both count as changed.
#[must_use]
pub fn winner(entries: Pair<&Entry>, policy: &Policy) -> (Side, WhyItWon) {
    if policy.force_prevalence {
        return (policy.prevalence, WhyItWon::Forced);
    }
    match entries.initiator.mtime.compare_coarsely(entries.target.mtime) {
        Ordering::Greater => (Side::Initiator, WhyItWon::Newer),
        Ordering::Less => (Side::Target, WhyItWon::Newer),
        Ordering::Equal => (policy.prevalence, WhyItWon::Tie),
    }
}

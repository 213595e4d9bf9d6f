//! Plans too dangerous to carry out (spec 4, "Guards").

use super::plan::{Act, Plan};
use crate::config::Policy;
use crate::state::Identity;
use crate::tree::{Pair, Side, Standing, Tree};
use std::fmt;

/// Why a plan is not carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Danger {
    /// One side has nothing left, and the other would lose what it has.
    Emptied {
        /// The side that is empty.
        side: Side,
        /// How many entries would be deleted across from it.
        deletions: usize,
    },
    /// The replica carries no identity, or another one than the snapshot knows.
    Stranger {
        /// The side.
        side: Side,
        /// Whether it carries none at all.
        bare: bool,
    },
    /// More than MAX_DELETE_PERCENT of a replica's files would be deleted.
    TooMany {
        /// The side that would lose them.
        side: Side,
        /// Files that would go.
        deletions: usize,
        /// Files that are there.
        files: usize,
        /// The limit.
        percent: u32,
    },
}

impl fmt::Display for Danger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Danger::Emptied { side, deletions } => write!(
                f,
                "the {side} replica is empty, and {deletions} entries would be deleted on the \
                 {} for that. Is a disk not mounted? Nothing was changed. If it was emptied on \
                 purpose, run once with --force-delete",
                side.other()
            ),
            Danger::Stranger { side, bare } => write!(
                f,
                "the {side} replica {}. Is its disk not mounted, or another one in its place? \
                 Nothing was changed. To start over with what is there now on both sides, run \
                 once with --initialize; to synchronise with another replica beside the known \
                 one, use another --instance-id",
                if *bare {
                    "does not carry the identity that it had after the last run"
                } else {
                    "carries another identity than the one of the last run"
                }
            ),
            Danger::TooMany { side, deletions, files, percent } => write!(
                f,
                "{deletions} of {files} files on the {side} would be deleted, more than \
                 MAX_DELETE_PERCENT={percent}. Nothing was changed. If that is meant, run once \
                 with --force-delete"
            ),
        }
    }
}

/// Guard 2: whether both replicas are those that the snapshot was written for.
#[must_use]
pub fn stranger(known: &Pair<Option<Identity>>, found: &Pair<Option<Identity>>) -> Option<Danger> {
    Side::BOTH.into_iter().find_map(|side| {
        let known = known[side].as_ref()?;
        match &found[side] {
            Some(identity) if identity == known => None,
            found => Some(Danger::Stranger { side, bare: found.is_none() }),
        }
    })
}

/// Guards 1 and 3: whether the plan deletes more than anybody can have meant.
#[must_use]
pub fn mass_deletion(trees: &Pair<Tree>, plan: &Plan, policy: &Policy) -> Option<Danger> {
    if policy.force_delete {
        return None;
    }
    Side::BOTH
        .into_iter()
        .find_map(|side| emptied(trees, plan, policy, side))
        .or_else(|| Side::BOTH.into_iter().find_map(|side| too_many(trees, plan, policy, side)))
}

fn emptied(trees: &Pair<Tree>, plan: &Plan, policy: &Policy, side: Side) -> Option<Danger> {
    let deletions = plan.deletions[side.other()].len();
    let had_entries = || {
        plan.delta.spots().any(|s| plan.delta.record(s).is_some_and(|record| record.existed(side)))
    };
    (deletions > 0
        && trees[side].is_empty()
        // A one-way run deletes what the source lacks even at first contact.
        && (policy.one_way_from == Some(side) || had_entries()))
    .then_some(Danger::Emptied { side, deletions })
}

fn too_many(trees: &Pair<Tree>, plan: &Plan, policy: &Policy, side: Side) -> Option<Danger> {
    let percent = policy.max_delete_percent;
    if percent == 0 {
        return None;
    }
    let tree = &trees[side];
    let is_file = |id| !tree.entry(id).kind.is_dir() && tree.standing(id) == Standing::Present;
    let goes = |spot| {
        let verdict = plan.verdict(spot);
        verdict.act == Act::Delete { on: side } || verdict.lost_on == Some(side)
    };
    let deletions = plan
        .delta
        .spots()
        .filter(|spot| goes(*spot) && plan.delta.now(*spot, side).is_some_and(is_file))
        .count();
    let files = tree.ids().filter(|id| is_file(*id)).count();
    (deletions as u128 * 100 > files as u128 * u128::from(percent)).then_some(Danger::TooMany {
        side,
        deletions,
        files,
        percent,
    })
}

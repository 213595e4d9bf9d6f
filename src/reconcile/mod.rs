//! Decides what should happen: a pure function of both trees, the baseline and the settings.
//!
//! [`reconcile`] is the entry. [`join`](join::join) walks both trees and the baseline, and finds
//! the paths that have to be decided (none if nothing is to do), [`moves`] treats renames as done,
//! [`decide`] gives each path its verdict, [`links`] keeps hard links together, [`beside`] names
//! what lost a conflict, and [`schedule`] sorts the verdicts into the steps of a [`Plan`].
//!
//! The caller then asks [`guard`] whether the plan is too dangerous, and when it has been carried
//! out, [`record`] turns what was achieved into the next baseline.

mod beside;
#[cfg(test)]
mod cases;
pub mod change;
pub mod damaged;
mod decide;
pub mod delta;
pub mod guard;
pub mod join;
mod links;
pub mod mounts;
mod moves;
pub mod plan;
pub mod record;
pub mod saved_plan;
mod schedule;
pub mod scrub;
pub mod spelling;
#[cfg(test)]
mod table;
#[cfg(test)]
mod testing;
pub mod undo;
pub mod versions;

pub use delta::{Delta, PathId};
pub use plan::{Act, Conflict, Doubt, NextRecord, Plan, Verdict};
pub use spelling::{Respelling, SpellingRules};

use crate::config::{Policy, Preserve};
use crate::filter::Filter;
use crate::state::{Baseline, BaselineDamaged, InflightPath};
use crate::tree::same::{Comparison, EqualTimes, Inodes, Sameness, compare_sides};
use crate::tree::{Abilities, Entry, Extra, Pair, RelPath, Side, Tree};
use beside::Grown;
use damaged::DamagedNodes;
use record::Achieved;
use saved_plan::SavedPlan;
use std::collections::{BTreeMap, HashMap};

/// The settings that decisions depend on.
#[derive(Debug, Clone)]
pub struct Rules {
    /// How changes turn into a plan.
    pub policy: Policy,
    /// What is compared.
    pub preserve: Preserve,
    /// What is compared in this run and was not in the last one: that may differ without
    /// anybody having changed it. Only permissions, owner and group.
    pub first_compared: Preserve,
    /// Whether owners can be set, and devices made, on a side.
    pub can_chown: Pair<bool>,
    /// What the file system of each side can do.
    pub abilities: Pair<Abilities>,
    /// The longest relative path, in bytes, that rsync can handle below these replicas.
    pub longest_path: usize,
    /// What an interrupted run was transferring, by path.
    pub was_brought: BTreeMap<RelPath, InflightPath>,
    /// What an earlier run may have taken away on a side, or not brought there yet, when it was
    /// broken off, by path.
    pub explains_absence_at: BTreeMap<RelPath, Vec<InflightPath>>,
    /// Whether all that the interrupted run had written is still there.
    pub writes: Writes,
    /// Files that are known to be damaged: they are not transferred (spec 9, "Scrub").
    pub damaged: DamagedNodes,
    /// The results of comparing contents that an earlier plan asked for.
    pub settled: HashMap<Doubt, Comparison>,
    /// Which paths take part.
    pub filter: Filter,
    /// What stands in the names of copies beside (CONFLICT_COPY): `2026.11.29-15.54.37`.
    pub date: String,
    /// The plan of `osync apply`: nothing else is done.
    pub saved: Option<SavedPlan>,
}

/// Whether what an interrupted run had written is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// It is: the file systems have been mounted ever since.
    Kept,
    /// The power may have failed before it reached the disk.
    MayBeLost,
}

impl Rules {
    /// Whether directories get the times of those on the other side, both ways.
    fn keeps_dir_times(&self) -> bool {
        self.preserve.dir_times && self.abilities.iter().all(|(_, side)| side.sets_times)
    }

    fn is_too_long(&self, delta: &Delta, path_id: PathId) -> bool {
        delta.path_len(path_id) > self.longest_path
    }

    /// Whether an interrupted run explains why a path is missing on a side (spec 8, "An
    /// interrupted run").
    fn explains_absence(&self, path: &RelPath, side: Side) -> bool {
        let mut places = path.ancestors();
        places.any(|place| {
            let noted = self.explains_absence_at.get(&place).into_iter().flatten();
            noted.into_iter().any(|noted| noted.explains_absence(path, side))
        })
    }
}

/// Which of permissions, owner and group are compared now and were not before.
#[must_use]
pub fn newly_compared(now: &Preserve, before: &Preserve) -> Preserve {
    Preserve {
        permissions: now.permissions && !before.permissions,
        owner: now.owner && !before.owner,
        group: now.group && !before.group,
        executability: now.executability && !before.executability && !before.permissions,
        acl: false,
        xattr: false,
        ..*now
    }
}

/// Decides what should happen (spec 4).
///
/// # Errors
/// The baseline cannot be read to its end.
pub fn reconcile(
    trees: &Pair<Tree>,
    baseline: &Baseline,
    rules: &Rules,
) -> Result<Plan, BaselineDamaged> {
    let header = baseline.header();
    if join::unchanged_means_done(rules) && join::is_as_recorded(trees, baseline)? {
        return Ok(Plan::new(Delta::as_recorded()));
    }
    let mut inodes = join::inodes_of_roots(trees, header, rules);
    let mut delta = join::join(trees, baseline, rules, inodes)?;
    let numbered_anew = join::inodes_of_files(trees, &delta, inodes);
    if numbered_anew != inodes {
        inodes = numbered_anew;
        delta = join::join(trees, baseline, rules, inodes)?;
    }
    let mut plan = Plan::new(delta);
    plan.damaged.clone_from(&rules.damaged);
    // Reported only for file systems that normally keep inode numbers.
    plan.renumbered = Pair::from_fn(|side| {
        inodes[side] == Inodes::Meaningless && rules.abilities[side].keeps_inodes
    });
    let facts = decide::Facts::gather(&plan.delta, trees, header, rules, inodes);
    moves::detect(&facts, header, &mut plan);
    let facts = if plan.moves.is_empty() {
        facts
    } else {
        plan.verdicts.resize(plan.delta.len(), Verdict::default());
        decide::Facts::gather(&plan.delta, trees, header, rules, inodes)
    };
    plan.doubts.extend(&facts.doubts);
    decide::decide(&facts, &mut plan);
    links::add_link_groups(&facts, &mut plan);
    let facts = match beside::place(&facts, &mut plan) {
        Grown::No => facts,
        Grown::Yes => decide::Facts::gather(&plan.delta, trees, header, rules, inodes),
    };
    if let Some(saved) = &rules.saved {
        saved.restrict(&mut plan, trees);
    }
    schedule::fill(&facts, &mut plan);
    if let Some(saved) = &rules.saved {
        saved.restrict_times(&mut plan);
    }
    Ok(plan)
}

/// For `--initialize`: a plan that changes nothing and records as in step what agrees on both
/// sides in kind, size, time and link target, or else in content. Everything else counts as never
/// seen, so that the next run decides it as at first contact.
#[must_use]
pub fn initialise(trees: &Pair<Tree>, rules: &Rules) -> (Plan, Achieved) {
    let mut plan = Plan::new(join::everything(trees));
    let mut achieved = Achieved::default();
    let wins = rules.policy.one_way_from.unwrap_or(rules.policy.prevalence);
    for path_id in plan.delta.path_ids() {
        let now = |side| plan.delta.now(path_id, side);
        let both = now(Side::Initiator).zip(now(Side::Target));
        let agrees = both.is_some_and(|(i, t)| {
            let (initiator, target) = (trees.initiator.entry(i), trees.target.entry(t));
            match compare_sides(initiator, target, EqualTimes::Suffice) {
                Sameness::Same => true,
                Sameness::Different => false,
                Sameness::Doubt => {
                    let doubt = Pair::new(i, t);
                    let answer = rules.settled.get(&doubt);
                    if answer.is_none() {
                        plan.doubts.push(doubt);
                    }
                    answer == Some(&Comparison::Same)
                }
            }
        });
        if !agrees {
            plan.verdicts[path_id.index()].next_record = NextRecord::Forgotten;
        } else if let Some(entry) = with_metadata_to_bring(trees, &plan, path_id, wins, rules) {
            achieved.reread[wins].insert(path_id, Some(entry));
        }
    }
    (plan, achieved)
}

/// The entry to record for the prevailing side where the metadata differs: its own, with the other
/// side's metadata. So the next run sees a change on the prevailing side and copies it.
fn with_metadata_to_bring(
    trees: &Pair<Tree>,
    plan: &Plan,
    path_id: PathId,
    wins: Side,
    rules: &Rules,
) -> Option<Entry> {
    let (mine, other) =
        (plan.entry(trees, path_id, wins)?, plan.entry(trees, path_id, wins.other())?);
    if change::same_metadata(mine, other, &rules.preserve) {
        return None;
    }
    let mut entry = mine.clone();
    (entry.mode, entry.uid, entry.gid) = (other.mode, other.uid, other.gid);
    let Extra { acl, xattr, .. } = *other.extra();
    entry.set_extra(Extra { acl, xattr, ..mine.extra().clone() });
    Some(entry)
}

//! Sorts the verdicts of a plan into the lists that each step works through
//! (spec 4, "Order of acting").

use super::decide::Facts;
use super::delta::{Delta, Spot};
use super::plan::{Act, Deletion, Plan};
use crate::state::Was;
use crate::tree::{Entry, Pair, Side, Stamp};
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// Fills the lists of a plan from its verdicts.
pub fn fill(facts: &Facts<'_>, plan: &mut Plan) {
    let linked = linked(plan);
    for (side, links) in linked.names.iter() {
        plan.links[side].clone_from(links);
    }
    let whole = whole_subtrees(facts, plan, &linked.all);
    let touched = touched(plan);
    for spot in plan.delta.spots() {
        let verdict = *plan.verdict(spot);
        let parent = plan.delta.parent(spot).index();
        match verdict.act {
            Act::Send { to } if linked.gets(spot, to) => {}
            Act::Send { to } => {
                if !whole[spot.index()] {
                    plan.updates[to].push(spot);
                } else if !whole[parent] {
                    plan.subtrees[to].push(spot);
                }
            }
            Act::Delete { .. } | Act::Nothing => {}
        }
        if let Some(on) = verdict.metadata_on {
            let to = on.other();
            // rsync sets the mode of a closed directory when it writes below it.
            let flows_against = is_closed(facts, plan, spot, to)
                || verdict.act == Act::Send { to }
                || linked.gets(spot, to);
            let list = if flows_against { &mut plan.counter_metadata } else { &mut plan.metadata };
            list[on].push(spot);
        }
        for side in Side::BOTH {
            if !whole[spot.index()]
                && let Some(time) = dir_time(facts, plan, spot, side, touched[spot.index()][side])
            {
                plan.dir_times[side].push((spot, time));
            }
        }
    }
    for spot in plan.delta.spots().rev() {
        if let Act::Delete { on } = plan.verdict(spot).act {
            // A directory is deleted only when all below it is, so it can go as one.
            let whole = plan.entry(facts.trees, spot, on).is_some_and(|e| e.kind.is_dir());
            plan.deletions[on].push(Deletion { spot, whole });
        }
    }
}

/// The names of groups: those that are only linked, by receiver in the order of the groups,
/// and all.
struct Linked {
    names: Pair<Vec<Spot>>,
    only: BTreeSet<(Spot, Side)>,
    all: BTreeSet<Spot>,
}

impl Linked {
    fn gets(&self, spot: Spot, to: Side) -> bool {
        self.only.contains(&(spot, to))
    }
}

fn linked(plan: &Plan) -> Linked {
    let mut linked = Linked { names: Pair::default(), only: BTreeSet::new(), all: BTreeSet::new() };
    for group in &plan.groups {
        linked.all.extend(&group.members);
        if group.only_names {
            linked.names[group.to].extend(&group.members);
            linked.only.extend(group.members.iter().map(|spot| (*spot, group.to)));
        }
    }
    linked
}

/// Whether a side has a directory there in which nothing may be written.
fn is_closed(facts: &Facts<'_>, plan: &Plan, spot: Spot, on: Side) -> bool {
    let entry = plan.entry(facts.trees, spot, on);
    entry.is_some_and(|entry| entry.kind.is_dir() && entry.mode & 0o200 == 0)
}

/// Directories that do not exist on the receiver and go over with all that is below them,
/// and nothing else; by [`Spot::index`]. Only directories count. What holds names that go
/// together with others is not whole: these go in one call. Nor is what goes into a closed
/// directory: rsync opens only what is listed, and of a subtree's list it carries all.
fn whole_subtrees(facts: &Facts<'_>, plan: &Plan, grouped: &BTreeSet<Spot>) -> Vec<bool> {
    let mut whole = vec![false; plan.delta.len()];
    let mut broken = vec![false; plan.delta.len()];
    let mut children = vec![0_usize; plan.delta.len()];
    for spot in plan.delta.spots().rev() {
        let index = spot.index();
        let parent = plan.delta.parent(spot).index();
        let Act::Send { to } = plan.verdict(spot).act else {
            // What stays as it is on the sending side must not go along; what is gone
            // from both sides is in nobody's way.
            broken[parent] |= Side::BOTH.iter().any(|side| plan.delta.now(spot, *side).is_some());
            continue;
        };
        let from = to.other();
        let is_new = plan.delta.now(spot, to).is_none() || plan.verdict(spot).lost_on == Some(to);
        let is_dir = plan.entry(facts.trees, spot, from).is_some_and(|e| e.kind.is_dir());
        let complete = plan
            .delta
            .now(spot, from)
            .is_some_and(|id| facts.trees[from].children(id).len() == children[index]);
        let fine = is_new && plan.verdict(spot).metadata_on.is_none() && !grouped.contains(&spot);
        if !fine || (is_dir && (broken[index] || !complete || facts.frozen_below[index][from])) {
            broken[parent] = true;
        } else {
            whole[index] = is_dir;
        }
        children[parent] += 1;
    }
    whole[Delta::ROOT.index()] = false;
    let mut in_closed = vec![false; plan.delta.len()];
    for spot in plan.delta.spots() {
        let (index, parent) = (spot.index(), plan.delta.parent(spot));
        if let Act::Send { to } = plan.verdict(spot).act {
            in_closed[index] = in_closed[parent.index()] || is_closed(facts, plan, parent, to);
        }
        // A file below a whole directory goes with it.
        whole[index] = (whole[index] || whole[parent.index()]) && !in_closed[index];
    }
    whole
}

/// Directories whose own time is moved by what the plan does in them; by [`Spot::index`].
fn touched(plan: &Plan) -> Vec<Pair<bool>> {
    let mut touched = vec![Pair::new(false, false); plan.delta.len()];
    for spot in plan.delta.spots() {
        let verdict = plan.verdict(spot);
        let parent = plan.delta.parent(spot).index();
        match verdict.act {
            Act::Send { to: side } | Act::Delete { on: side } => touched[parent][side] = true,
            Act::Nothing => {}
        }
        if let Some(side) = verdict.lost_on {
            touched[parent][side] = true;
        }
    }
    for (side, spots) in plan.links.iter() {
        for spot in spots {
            touched[plan.delta.parent(*spot).index()][side] = true;
        }
    }
    for step in &plan.moves {
        if let Some(side) = step.on {
            for spot in [step.from, step.to] {
                touched[plan.delta.parent(spot).index()][side] = true;
            }
        }
    }
    touched
}

/// The time that a directory gets on a side when all else is done there; none if it
/// already has it and keeps it.
fn dir_time(
    facts: &Facts<'_>,
    plan: &Plan,
    spot: Spot,
    side: Side,
    is_touched: bool,
) -> Option<Stamp> {
    if plan.verdict(spot).lost_on.is_some() {
        let sent_here = plan.verdict(spot).act == Act::Send { to: side };
        let mine = plan.entry(facts.trees, spot, side.other()).filter(|e| e.kind.is_dir());
        return mine.filter(|_| sent_here).map(|e| e.mtime);
    }
    let dir = |side| plan.entry(facts.trees, spot, side).filter(|e| e.kind.is_dir());
    match (dir(side), dir(side.other())) {
        (Some(mine), Some(other)) => {
            let wanted = wanted_time(
                facts,
                plan,
                spot,
                Pair::from_fn(|s| if s == side { mine } else { other }),
            );
            let wanted = wanted.unwrap_or(mine.mtime);
            let differs = mine.mtime.compare_coarsely(wanted) != Ordering::Equal;
            (is_touched || differs).then_some(wanted)
        }
        (None, Some(other)) => {
            (plan.verdict(spot).act == Act::Send { to: side }).then_some(other.mtime)
        }
        (Some(mine), None) => {
            let goes = plan.verdict(spot).act == Act::Delete { on: side };
            (is_touched && !goes).then_some(mine.mtime)
        }
        (None, None) => None,
    }
}

/// The time of the side whose entry changed, the newer one if both did; none: each side
/// keeps its own.
fn wanted_time(facts: &Facts<'_>, plan: &Plan, spot: Spot, dirs: Pair<&Entry>) -> Option<Stamp> {
    if let Some(from) = facts.rules.policy.one_way_from {
        return Some(dirs[from].mtime);
    }
    let changed = Pair::from_fn(|side: Side| {
        let was = plan.delta.record(spot).map(|record| &record.was[side]);
        !matches!(was, Some(Was::Seen(before)) if before.mtime == dirs[side].mtime)
    });
    match (changed.initiator, changed.target) {
        (true, false) => Some(dirs.initiator.mtime),
        (false, true) => Some(dirs.target.mtime),
        (false, false) => None,
        (true, true) => match dirs.initiator.mtime.compare_coarsely(dirs.target.mtime) {
            Ordering::Greater => Some(dirs.initiator.mtime),
            Ordering::Less => Some(dirs.target.mtime),
            Ordering::Equal => None,
        },
    }
}

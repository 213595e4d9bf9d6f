//! Sorts the verdicts of a plan into the lists that each step works through
//! (spec 4, "Order of acting").

use super::decide::Facts;
use super::delta::{Delta, PathId};
use super::plan::{Act, Plan};
use crate::state::Recorded;
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
    for path_id in plan.delta.path_ids() {
        let verdict = *plan.verdict(path_id);
        let parent = plan.delta.parent(path_id).index();
        match verdict.act {
            Act::Send { to } if linked.gets(path_id, to) => {}
            Act::Send { to } => {
                if !whole[path_id.index()] {
                    plan.updates[to].push(path_id);
                } else if !whole[parent] {
                    plan.subtrees[to].push(path_id);
                }
            }
            Act::Delete { .. } | Act::Nothing => {}
        }
        if let Some(on) = verdict.metadata_on {
            let to = on.other();
            // rsync sets the mode of a closed directory when it writes into it. Where nothing is
            // written into it, what is to go the other way has to get in before it is closed.
            let gets = |child: PathId| plan.verdict(child).act == Act::Send { to };
            let is_opened =
                is_closed(facts, plan, path_id, to) && plan.delta.children(path_id).any(gets);
            let flows_against =
                is_opened || verdict.act == Act::Send { to } || linked.gets(path_id, to);
            let list = if flows_against { &mut plan.counter_metadata } else { &mut plan.metadata };
            list[on].push(path_id);
        }
        if let Some(on) = verdict.time_on
            && let Some(source) = plan.entry(facts.trees, path_id, on.other())
        {
            plan.file_times[on].push((path_id, source.mtime));
        }
        for side in Side::BOTH {
            if !whole[path_id.index()]
                && let Some(time) = dir_time(facts, plan, path_id, side, &touched)
            {
                plan.dir_times[side].push((path_id, time));
            }
        }
    }
    for path_id in plan.delta.path_ids().rev() {
        if let Act::Delete { on } = plan.verdict(path_id).act {
            plan.deletions[on].push(path_id);
        }
    }
}

/// The names of groups: those that are only linked, by receiver in the order of the groups,
/// and all.
struct Linked {
    names: Pair<Vec<PathId>>,
    only: BTreeSet<(PathId, Side)>,
    all: BTreeSet<PathId>,
}

impl Linked {
    fn gets(&self, path_id: PathId, to: Side) -> bool {
        self.only.contains(&(path_id, to))
    }
}

fn linked(plan: &Plan) -> Linked {
    let mut linked = Linked { names: Pair::default(), only: BTreeSet::new(), all: BTreeSet::new() };
    for group in &plan.groups {
        linked.all.extend(&group.members);
        if group.only_names {
            linked.names[group.to].extend(&group.members);
            linked.only.extend(group.members.iter().map(|path_id| (*path_id, group.to)));
        }
    }
    linked
}

/// Whether a side has a directory there in which nothing may be written.
fn is_closed(facts: &Facts<'_>, plan: &Plan, path_id: PathId, on: Side) -> bool {
    let entry = plan.entry(facts.trees, path_id, on);
    entry.is_some_and(|entry| entry.kind.is_dir() && entry.mode & 0o200 == 0)
}

/// Directories that do not exist on the receiver and go over with all that is below them,
/// and nothing else; by [`PathId::index`]. Only directories count. What holds names that go
/// together with others is not whole: these go in one call. Nor is what goes into a closed
/// directory: rsync opens only what is listed, and of a subtree's list it carries all.
fn whole_subtrees(facts: &Facts<'_>, plan: &Plan, grouped: &BTreeSet<PathId>) -> Vec<bool> {
    let mut whole = vec![false; plan.delta.len()];
    let mut broken = vec![false; plan.delta.len()];
    let mut children = vec![0_usize; plan.delta.len()];
    for path_id in plan.delta.path_ids().rev() {
        let index = path_id.index();
        let parent = plan.delta.parent(path_id).index();
        let Act::Send { to } = plan.verdict(path_id).act else {
            // What stays as it is on the sending side must not go along; what is gone
            // from both sides is in nobody's way.
            broken[parent] |=
                Side::BOTH.iter().any(|side| plan.delta.now(path_id, *side).is_some());
            continue;
        };
        let from = to.other();
        let is_new =
            plan.delta.now(path_id, to).is_none() || plan.verdict(path_id).makes_way_on == Some(to);
        let is_dir = plan.entry(facts.trees, path_id, from).is_some_and(|e| e.kind.is_dir());
        let complete = plan
            .delta
            .now(path_id, from)
            .is_some_and(|id| facts.trees[from].children(id).len() == children[index]);
        let fine =
            is_new && plan.verdict(path_id).metadata_on.is_none() && !grouped.contains(&path_id);
        if !fine || (is_dir && (broken[index] || !complete || facts.hidden_below[index][from])) {
            broken[parent] = true;
        } else {
            whole[index] = is_dir;
        }
        children[parent] += 1;
    }
    whole[Delta::ROOT.index()] = false;
    let mut in_closed = vec![false; plan.delta.len()];
    for path_id in plan.delta.path_ids() {
        let (index, parent) = (path_id.index(), plan.delta.parent(path_id));
        if let Act::Send { to } = plan.verdict(path_id).act {
            in_closed[index] = in_closed[parent.index()] || is_closed(facts, plan, parent, to);
        }
        // A file below a whole directory goes with it.
        whole[index] = (whole[index] || whole[parent.index()]) && !in_closed[index];
    }
    whole
}

/// Directories whose own time is moved by what the plan does in them; by [`PathId::index`].
fn touched(plan: &Plan) -> Vec<Pair<bool>> {
    let mut touched = vec![Pair::new(false, false); plan.delta.len()];
    for path_id in plan.delta.path_ids() {
        let verdict = plan.verdict(path_id);
        let parent = plan.delta.parent(path_id).index();
        match verdict.act {
            Act::Send { to: side } | Act::Delete { on: side } => touched[parent][side] = true,
            Act::Nothing => {}
        }
        if let Some(side) = verdict.makes_way_on {
            touched[parent][side] = true;
        }
    }
    for (side, path_ids) in plan.links.iter() {
        for path_id in path_ids {
            touched[plan.delta.parent(*path_id).index()][side] = true;
        }
    }
    for step in &plan.moves {
        if let Some(side) = step.on {
            for path_id in [step.from, step.to] {
                touched[plan.delta.parent(path_id).index()][side] = true;
            }
        }
    }
    touched
}

/// The time that a directory gets on a side when all else is done there; `None` if it
/// already has it and keeps it.
fn dir_time(
    facts: &Facts<'_>,
    plan: &Plan,
    path_id: PathId,
    side: Side,
    touched: &[Pair<bool>],
) -> Option<Stamp> {
    if !facts.rules.preserve.dir_times || !facts.rules.abilities[side].sets_times {
        return None;
    }
    if plan.verdict(path_id).makes_way_on.is_some() {
        let sent_here = plan.verdict(path_id).act == Act::Send { to: side };
        let mine = plan.entry(facts.trees, path_id, side.other()).filter(|e| e.kind.is_dir());
        return mine.filter(|_| sent_here).map(|e| e.mtime);
    }
    let is_touched = touched[path_id.index()][side];
    let dir = |side| plan.entry(facts.trees, path_id, side).filter(|e| e.kind.is_dir());
    match (dir(side), dir(side.other())) {
        (Some(mine), Some(other)) => {
            let wanted = wanted_time(
                facts,
                plan,
                path_id,
                Pair::from_fn(|s| if s == side { mine } else { other }),
            );
            let wanted = wanted.unwrap_or(mine.mtime);
            let differs = mine.mtime.compare_coarsely(wanted) != Ordering::Equal;
            (is_touched || differs).then_some(wanted)
        }
        (None, Some(other)) => {
            (plan.verdict(path_id).act == Act::Send { to: side }).then_some(other.mtime)
        }
        (Some(mine), None) => {
            let goes = plan.verdict(path_id).act == Act::Delete { on: side };
            (is_touched && !goes).then_some(mine.mtime)
        }
        (None, None) => None,
    }
}

/// The time of the side whose entry changed, the newer one if both did; `None`: each side
/// keeps its own.
fn wanted_time(
    facts: &Facts<'_>,
    plan: &Plan,
    path_id: PathId,
    dirs: Pair<&Entry>,
) -> Option<Stamp> {
    if let Some(from) = facts.rules.policy.one_way_from {
        return Some(dirs[from].mtime);
    }
    let changed = Pair::from_fn(|side: Side| {
        let was = plan.delta.record(path_id).map(|record| &record.was[side]);
        !matches!(was, Some(Recorded::Seen(before)) if before.mtime == dirs[side].mtime)
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

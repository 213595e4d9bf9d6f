//! Recognises a deletion and a creation that are one rename (spec 4, "Moves").
//!
//! A move that is accepted is treated as done: the baseline of everything that moved, and
//! what the following side has there, are carried over to the new name in the delta.
//! Everything after this decides as if the old name had never been. Anything doubtful is
//! left as it is: a deletion and a creation.

use super::change::{SideChange, change};
use super::decide::Facts;
use super::delta::{Delta, PathId};
use super::plan::{Move, Plan};
use crate::state::{Header, Record, Recorded};
use crate::tree::same::{Comparison, Inodes, Sameness, same_after_rename};
use crate::tree::{Entry, Kind, Pair, Side, Tree};
use std::collections::HashMap;

/// An entry's proof of identity within its replica.
#[derive(PartialEq, Eq, Hash, Clone, Copy)]
struct EntryKey {
    dev: u32,
    ino: u64,
    kind: Kind,
}

/// A pair of names that one entry had and has.
#[derive(Clone, Copy)]
struct Candidate {
    side: Side,
    from: PathId,
    to: PathId,
}

/// Finds moves, carries them out in the delta, and writes them into the plan.
pub fn detect(facts: &Facts<'_>, header: &Header, plan: &mut Plan) {
    let policy = &facts.rules.policy;
    if !policy.detect_moves {
        return;
    }
    // Directories first: what is in them starts from their new names.
    for of in [Moved::Dirs, Moved::Others] {
        let tells = |side: &Side| {
            policy.one_way_from != Some(side.other()) && facts.inodes[*side] == Inodes::Reliable
        };
        for side in Side::BOTH.into_iter().filter(tells) {
            // What was in a directory that moved, and moved out of it, starts from there.
            let mut taken_along: HashMap<PathId, PathId> = HashMap::new();
            for mut candidate in candidates(facts, &plan.delta, side, of) {
                while let Some(now) = taken_along.get(&candidate.from) {
                    candidate.from = *now;
                }
                if let Some(step) = accept(facts, header, plan, candidate) {
                    taken_along.extend(step.carried.iter().copied());
                    plan.moves.push(step);
                }
            }
        }
    }
}

fn was_seen(delta: &Delta, path_id: PathId, side: Side) -> Option<&Entry> {
    match delta.record(path_id).map(|record| &record.was[side]) {
        Some(Recorded::Seen(entry)) => Some(entry),
        _ => None,
    }
}

/// Pairs of a vanished and a new name with the same inode; ambiguous ones are left out.
fn candidates(facts: &Facts<'_>, delta: &Delta, side: Side, of: Moved) -> Vec<Candidate> {
    let tree = &facts.trees[side];
    let mut old: HashMap<EntryKey, Option<PathId>> = HashMap::new();
    for path_id in delta.path_ids() {
        let Some(was) = was_seen(delta, path_id, side) else { continue };
        if delta.now(path_id, side).is_none() && is_movable(was, of) {
            old.entry(key(was)).and_modify(|path_id| *path_id = None).or_insert(Some(path_id));
        }
    }
    if old.is_empty() {
        return Vec::new();
    }
    let mut new: HashMap<EntryKey, Option<PathId>> = HashMap::new();
    for path_id in delta.path_ids() {
        let Some(now) = delta.now(path_id, side).map(|id| tree.entry(id)) else { continue };
        let known = delta.record(path_id).is_some_and(|record| record.existed(side));
        if !known && is_movable(now, of) {
            new.entry(key(now)).and_modify(|path_id| *path_id = None).or_insert(Some(path_id));
        }
    }
    let mut pairs: Vec<Candidate> = new
        .into_iter()
        .filter_map(|(key, to)| {
            let (to, from) = (to?, (*old.get(&key)?)?);
            let now = tree.entry(delta.now(to, side)?);
            let before = was_seen(delta, from, side)?;
            (same_after_rename(now, before) != Sameness::Different).then_some(Candidate {
                side,
                from,
                to,
            })
        })
        .collect();
    // Always in the same order, and nothing before the directory that it moved into: the
    // other side can only follow when that has come to its own new name.
    pairs.sort_by_key(|candidate| candidate.to);
    pairs
}

/// What is looked for among vanished and new names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moved {
    Dirs,
    Others,
}

fn is_movable(entry: &Entry, of: Moved) -> bool {
    entry.kind.is_dir() == (of == Moved::Dirs) && entry.ino != 0 && !entry.shared_inode
}

fn key(entry: &Entry) -> EntryKey {
    EntryKey { dev: entry.dev, ino: entry.ino, kind: entry.kind }
}

/// Carries a candidate out in the delta; `None` if it may not be a move, or the other side cannot
/// follow it.
fn accept(
    facts: &Facts<'_>,
    header: &Header,
    plan: &mut Plan,
    candidate: Candidate,
) -> Option<Move> {
    let Candidate { side, from, to } = candidate;
    let other = side.other();
    // An earlier move may have taken one of the two along.
    let before = was_seen(&plan.delta, from, side).cloned()?;
    let now = plan.entry(facts.trees, to, side).cloned()?;
    if plan.delta.now(from, side).is_some()
        || plan.delta.record(to).is_some_and(|record| !record.is_empty())
        || !ancestors_are_directories(facts.trees, &plan.delta, from)
        || !ancestors_are_directories(facts.trees, &plan.delta, to)
    {
        return None;
    }
    let follows = if both_moved_alike(facts, plan, candidate) {
        None
    } else if !facts.rules.policy.skip_deletion[other] && can_follow(facts, header, plan, candidate)
    {
        Some(other)
    } else {
        return None;
    };
    if same_after_rename(&now, &before) == Sameness::Doubt && follows.is_some() {
        let doubt = facts.doubt(side, plan.delta.now(to, side)?, plan.delta.now(from, other)?);
        match facts.rules.settled.get(&doubt) {
            Some(Comparison::Same) => {}
            Some(Comparison::Different | Comparison::Unknown) => return None,
            None => {
                plan.doubts.push(doubt);
                return None;
            }
        }
    }
    // a saved plan that does not rename it leaves both names alone
    if let (Some(on), Some(saved)) = (follows, &facts.rules.saved) {
        let names = [from, to];
        let entries =
            Pair::from_fn(|at: Side| plan.entry(facts.trees, names[usize::from(at == side)], at));
        if !saved.has_move(&(on, plan.path(from), plan.path(to)), entries) {
            return None;
        }
    }
    let carried = carry(&mut plan.delta, from, to, follows);
    Some(Move { on: follows, from, to, carried })
}

/// Whether everything above a path is a directory, or not there, on both sides.
fn ancestors_are_directories(trees: &Pair<Tree>, delta: &Delta, path_id: PathId) -> bool {
    let mut at = delta.parent(path_id);
    while at != Delta::ROOT {
        for side in Side::BOTH {
            if delta.now(at, side).is_some_and(|id| !trees[side].entry(id).kind.is_dir()) {
                return false;
            }
        }
        at = delta.parent(at);
    }
    true
}

/// The other side has the same old name gone and the same new name, with its own inode.
fn both_moved_alike(facts: &Facts<'_>, plan: &Plan, candidate: Candidate) -> bool {
    let Candidate { side, from, to } = candidate;
    let other = side.other();
    match (was_seen(&plan.delta, from, other), plan.entry(facts.trees, to, other)) {
        (Some(before), Some(now)) => {
            plan.delta.now(from, other).is_none()
                && key(before) == key(now)
                && same_after_rename(now, before) != Sameness::Different
        }
        _ => false,
    }
}

/// Whether the other side's old path is unchanged, with all below it, and the new path
/// is free there.
fn can_follow(facts: &Facts<'_>, header: &Header, plan: &Plan, candidate: Candidate) -> bool {
    let Candidate { side, from, to } = candidate;
    let other = side.other();
    let delta = &plan.delta;
    if facts.trees[other].find(&plan.path(to)).is_some() || delta.now(to, other).is_some() {
        return false;
    }
    if !can_be_named(facts, plan, to, other)
        || !can_follow_unchanged(facts, header, plan, candidate)
    {
        return false;
    }
    let is_unchanged = |path_id: PathId| {
        let entry = plan.entry(facts.trees, path_id, other);
        let Some(record) = delta.record(path_id) else { return entry.is_none() };
        matches!(record.was[other], Recorded::Seen(_) | Recorded::Absent)
            && record.skipped == Pair::default()
            && matches!(
                change(entry, &record.was[other], facts.measure(header, other)),
                Some(SideChange::Unchanged | SideChange::Metadata | SideChange::Absent)
            )
            && delta.now(path_id, side).is_none()
    };
    plan.entry(facts.trees, from, other).is_some()
        && is_unchanged(from)
        // Places that a move of this run has made have nothing below that was scanned.
        && [(from, other), (to, side)].into_iter().all(|(path_id, side)| {
            facts.hidden_below.get(path_id.index()).is_none_or(|hidden| !hidden[side])
        })
        && facts.mounted_within.get(from.index()).is_none_or(|mounted| !mounted[other])
        // An earlier move that went below the new name has it made as a new directory.
        && delta.below(to).into_iter().all(|path_id| delta.now(path_id, other).is_none())
        && delta.below(from).into_iter().all(is_unchanged)
}

/// Whether the other side can make the same move and still have what was scanned. Within one file
/// system it renames. To another one the move is a copy with another inode, which will do for a
/// file that nobody changed; anything else would look as if it had been edited meanwhile, so it is
/// deleted and sent instead.
fn can_follow_unchanged(
    facts: &Facts<'_>,
    header: &Header,
    plan: &Plan,
    candidate: Candidate,
) -> bool {
    let Candidate { side, from, to } = candidate;
    let delta = &plan.delta;
    let file_system = |path_id: PathId| {
        let is_top = |at: &PathId| facts.is_mounted(delta, *at, side.other());
        std::iter::successors(Some(delta.parent(path_id)), |at| {
            (*at != Delta::ROOT).then(|| delta.parent(*at))
        })
        .find(is_top)
    };
    if file_system(from) == file_system(to) {
        return true;
    }
    let now = plan.entry(facts.trees, to, side);
    let is_file = now.is_some_and(|entry| !entry.kind.is_dir());
    let none = Record::default();
    let before = &delta.record(from).unwrap_or(&none).was[side];
    is_file && change(now, before, facts.measure(header, side)) == Some(SideChange::Unchanged)
}

/// Whether a side can have that name, and those above it that it does not have yet.
fn can_be_named(facts: &Facts<'_>, plan: &Plan, path_id: PathId, on: Side) -> bool {
    let delta = &plan.delta;
    let new = |at: &PathId| *at != Delta::ROOT && delta.now(*at, on).is_none();
    std::iter::successors(Some(path_id).filter(new), |at| Some(delta.parent(*at)).filter(new))
        .all(|at| facts.rules.abilities[on].lack(Kind::Dir, delta.name(at)).is_none())
}

/// Carries the baseline, and on the following side the entries, to the new names.
fn carry(
    delta: &mut Delta,
    from: PathId,
    to: PathId,
    follows: Option<Side>,
) -> Vec<(PathId, PathId)> {
    let mut carried = Vec::new();
    let mut stack = vec![(from, to)];
    while let Some((old, new)) = stack.pop() {
        let children: Vec<PathId> = delta.children(old).collect();
        delta.carry(old, new, follows);
        carried.push((old, new));
        // Children come in the order of their names: each is looked for from the one before.
        let mut last = None;
        for child in children {
            if delta.record(child).is_none() {
                continue; // an earlier move took it away
            }
            let name = delta.name(child).to_vec();
            // The same move on both sides: what is not in the delta at the new name is in
            // step there, or gone from both; its old baseline has done its work.
            let place = match follows {
                Some(_) => Some(delta.insert(new, &name, last, Pair::default(), None)),
                None => delta.child_behind(new, &name, last),
            };
            if let Some(place) = place {
                last = Some(place);
                stack.push((child, place));
            }
        }
    }
    carried
}

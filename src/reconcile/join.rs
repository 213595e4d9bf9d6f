//! Walks both trees and the baseline at once and keeps what needs thought.
//!
//! The walk goes directory by directory, in the order in which the baseline's blocks
//! follow each other, so that the baseline is read as a stream.

use super::Rules;
use super::change::same_metadata;
use super::delta::{Delta, PathId};
use super::groups::{OutOfStep, out_of_step};
use crate::state::{Baseline, Damaged, Known, Record, Recorded};
use crate::tree::same::{Across, Inodes, Past, Since, across, looks_alike, since, times_agree};
use crate::tree::{Entry, Kind, NodeId, Pair, Side, Standing, Tree};
use std::cmp::Ordering;

/// Why a path and all below it is not looked at in this run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frozen {
    /// Excluded by the filter on a side: dropped from the baseline, left alone.
    Excluded,
    /// Could not be read on a side: its old baseline stays, left alone.
    Unknown,
}

/// Whether the scans leave a path out of the decisions.
#[must_use]
pub fn frozen(trees: &Pair<Tree>, nodes: Pair<Option<NodeId>>) -> Option<Frozen> {
    let standing = |side: Side| nodes[side].map(|id| trees[side].standing(id));
    let both = [standing(Side::Initiator), standing(Side::Target)];
    if both.contains(&Some(Standing::Unknown)) {
        Some(Frozen::Unknown)
    } else if both.contains(&Some(Standing::Excluded)) {
        Some(Frozen::Excluded)
    } else {
        None
    }
}

/// One name of a directory, with what each source has there.
#[derive(Debug)]
pub struct Joined<'a> {
    /// The bare name.
    pub name: &'a [u8],
    /// The entries of both sides.
    pub now: Pair<Option<NodeId>>,
    /// The index of the baseline's entry in its block.
    pub known: Option<usize>,
}

/// Merges the children of one directory by name. `dirs` holds the directory's own nodes
/// on those sides where it is a directory; `block` is the baseline's part of it.
pub fn merge_block<'a>(
    trees: &'a Pair<Tree>,
    dirs: Pair<Option<NodeId>>,
    block: &'a [Known<'a>],
    mut visit: impl FnMut(Joined<'a>),
) {
    let children = |side: Side| {
        let tree = &trees[side];
        dirs[side].map(|dir| tree.children(dir)).into_iter().flatten().peekable()
    };
    let mut nodes = Pair::from_fn(children);
    let mut known = block.iter().enumerate().peekable();
    loop {
        let names = [
            nodes.initiator.peek().map(|id| trees.initiator.name(*id)),
            nodes.target.peek().map(|id| trees.target.name(*id)),
            known.peek().map(|(_, k)| k.name),
        ];
        let Some((name, takes)) = first(names) else { return };
        let initiator = if takes[0] { nodes.initiator.next() } else { None };
        let target = if takes[1] { nodes.target.next() } else { None };
        let index = if takes[2] { known.next().map(|(index, _)| index) } else { None };
        visit(Joined { name, now: Pair::new(initiator, target), known: index });
    }
}

/// The first of some names, and which of them it is.
fn first(names: [Option<&[u8]>; 3]) -> Option<(&[u8], [bool; 3])> {
    let mut found: Option<(&[u8], [bool; 3])> = None;
    for (at, name) in names.into_iter().enumerate() {
        let Some(name) = name else { continue };
        match found.as_mut().map_or(Ordering::Less, |(first, _)| name.cmp(first)) {
            Ordering::Less => {
                let mut takes = [false; 3];
                takes[at] = true;
                found = Some((name, takes));
            }
            Ordering::Equal => found.iter_mut().for_each(|(_, takes)| takes[at] = true),
            Ordering::Greater => {}
        }
    }
    found
}

/// The nodes of those sides where a path is a directory.
#[must_use]
pub fn as_dirs(trees: &Pair<Tree>, nodes: Pair<Option<NodeId>>) -> Pair<Option<NodeId>> {
    Pair::from_fn(|side| nodes[side].filter(|id| trees[side].entry(*id).kind.is_dir()))
}

struct Dir {
    /// Where the directory's own entry stands in `Walk::dirs`; the root stands at 0.
    parent: usize,
    nodes: Pair<Option<NodeId>>,
    path_id: Option<PathId>,
    record: Option<Record>,
    /// The child that was put into the delta last after the directory's block was done.
    hint: Option<PathId>,
}

/// Every path of both trees, whether it needs thought or not (`--initialize`).
#[must_use]
pub fn everything(trees: &Pair<Tree>) -> Delta {
    let mut delta = Delta::new();
    let mut dirs = vec![(Delta::ROOT, Pair::new(Some(Tree::ROOT), Some(Tree::ROOT)))];
    while let Some((parent, nodes)) = dirs.pop() {
        merge_block(trees, as_dirs(trees, nodes), &[], |joined| {
            if frozen(trees, joined.now).is_none() {
                let path_id = delta.push(parent, joined.name, joined.now, None);
                dirs.push((path_id, joined.now));
            }
        });
    }
    delta
}

enum Step {
    Enter { dir: usize, has_block: bool },
    Skip,
}

struct Walk<'a> {
    trees: &'a Pair<Tree>,
    rules: &'a Rules,
    inodes: Pair<Inodes>,
    delta: Delta,
    dirs: Vec<Dir>,
    /// Hard links that are not in step, whatever their names look like by themselves.
    links: OutOfStep,
    /// For the names of one directory.
    found: Vec<(Pair<Option<NodeId>>, Option<usize>)>,
}

/// Finds every path that is not plainly in step, together with its ancestors.
///
/// # Errors
/// The baseline cannot be read to its end.
pub fn join(
    trees: &Pair<Tree>,
    baseline: &Baseline,
    rules: &Rules,
    inodes: Pair<Inodes>,
) -> Result<Delta, Damaged> {
    let root = Dir {
        parent: 0,
        nodes: Pair::new(Some(Tree::ROOT), Some(Tree::ROOT)),
        path_id: Some(Delta::ROOT),
        record: None,
        hint: None,
    };
    let links = out_of_step(trees, &rules.preserve);
    let mut walk = Walk {
        trees,
        rules,
        inodes,
        delta: Delta::new(),
        dirs: vec![root],
        links,
        found: Vec::new(),
    };
    let mut cursor = baseline.cursor();
    let mut steps = vec![Step::Enter { dir: 0, has_block: true }];
    let mut block: Vec<Known<'_>> = Vec::new();
    let mut next = Vec::new();
    while let Some(step) = steps.pop() {
        match step {
            Step::Skip => cursor.skip_subtree()?,
            Step::Enter { dir, has_block } => {
                block.clear();
                if has_block {
                    cursor.block_into(&mut block)?;
                }
                walk.directory(dir, &mut block, &mut next);
                steps.extend(next.drain(..).rev());
            }
        }
    }
    Ok(walk.delta)
}

impl Walk<'_> {
    fn directory(&mut self, dir: usize, block: &mut [Known<'_>], next: &mut Vec<Step>) {
        let nodes = as_dirs(self.trees, self.dirs[dir].nodes);
        let mut found = std::mem::take(&mut self.found);
        merge_block(self.trees, nodes, block, |joined| {
            found.push((joined.now, joined.known));
        });
        for (now, known) in found.drain(..) {
            let has_block = known.is_some_and(|index| block[index].has_block);
            if frozen(self.trees, now).is_some() {
                if has_block {
                    next.push(Step::Skip);
                }
                continue;
            }
            let enters = has_block || as_dirs(self.trees, now) != Pair::default();
            let record = known.map(|index| &block[index].record);
            let plain = self.is_plainly_in_step(now, record);
            if plain && !enters {
                continue;
            }
            let name = self.name_of(now, known, block);
            let mut record = known.map(|index| std::mem::take(&mut block[index].record));
            let path_id = if plain {
                None
            } else {
                let parent = self.materialise(dir);
                Some(self.delta.push(parent, &name, now, record.take()))
            };
            if enters {
                self.dirs.push(Dir { parent: dir, nodes: now, path_id, record, hint: None });
                next.push(Step::Enter { dir: self.dirs.len() - 1, has_block });
            }
        }
        self.found = found;
    }

    fn name_of(
        &self,
        now: Pair<Option<NodeId>>,
        known: Option<usize>,
        block: &[Known<'_>],
    ) -> Vec<u8> {
        for side in Side::BOTH {
            if let Some(id) = now[side] {
                return self.trees[side].name(id).to_vec();
            }
        }
        known.map(|index| block[index].name.to_vec()).unwrap_or_default()
    }

    /// The path of a directory that was taken for granted until something below it turned
    /// out to need thought.
    fn materialise(&mut self, dir: usize) -> PathId {
        let mut chain = Vec::new();
        let mut at = dir;
        while self.dirs[at].path_id.is_none() {
            chain.push(at);
            at = self.dirs[at].parent;
        }
        for index in chain.into_iter().rev() {
            let parent_dir = self.dirs[index].parent;
            let (now, record) = (self.dirs[index].nodes, self.dirs[index].record.take());
            // Only directories present on both sides are ever taken for granted.
            let name = now.initiator.map(|id| self.trees.initiator.name(id)).unwrap_or_default();
            let parent = self.dirs[parent_dir].path_id.unwrap_or(Delta::ROOT);
            let hint = self.dirs[parent_dir].hint;
            let path_id = self.delta.insert(parent, name, hint, now, record);
            self.dirs[parent_dir].hint = Some(path_id);
            self.dirs[index].path_id = Some(path_id);
        }
        self.dirs[dir].path_id.unwrap_or(Delta::ROOT)
    }

    fn is_plainly_in_step(&self, now: Pair<Option<NodeId>>, record: Option<&Record>) -> bool {
        let (Some(i), Some(t)) = (now.initiator, now.target) else { return false };
        if self.links.initiator.contains(&i) || self.links.target.contains(&t) {
            return false;
        }
        // A run that was broken off may have torn it, or its source: see `torn`.
        let is_suspect = || self.rules.was_on_its_way(&self.trees.initiator.path(i)).is_some();
        let (i, t) = (self.trees.initiator.entry(i), self.trees.target.entry(t));
        let preserve = &self.rules.preserve;
        let agrees_beside_content = || {
            same_metadata(i, t, preserve)
                && (!self.rules.keeps_dir_times() || same_time_of_dirs(i, t))
        };
        let was = record.map(|record| record.was.as_ref());
        let Some(Pair { initiator: Recorded::Seen(was_i), target: Recorded::Seen(was_t) }) = was
        else {
            // Nobody knows who changed it last. Of what is only listed both sides may have been
            // changed, so equal times count there as well.
            let is_news = |side: Side, now: &Entry| match was.map(|was| was[side]) {
                Some(Recorded::Seen(before)) => self.since(side, now, before) != Since::Unchanged,
                _ => false,
            };
            return !is_news(Side::Initiator, i)
                && !is_news(Side::Target, t)
                && across(i, t, Past::Unknown) == Across::InStep
                && times_agree(i, t)
                && agrees_beside_content()
                && !(i.kind == Kind::File && is_suspect());
        };
        if self.since(Side::Initiator, i, was_i) != Since::Unchanged
            || self.since(Side::Target, t, was_t) != Since::Unchanged
        {
            return false;
        }
        if looks_alike(i, t) && agrees_beside_content() {
            return true;
        }
        if !same_metadata(i, t, &self.rules.newly) {
            return false;
        }
        // Recorded as different, and nobody changed anything since. One-way runs bring a tree
        // over even then.
        let is_as_recorded = |now: &Entry, before: &Entry| {
            now.mtime == before.mtime
                && same_metadata(now, before, preserve)
                && (!preserve.checksum || now.extra().content == before.extra().content)
        };
        self.rules.policy.one_way_from.is_none()
            && record.is_some_and(|record| record.skipped == Pair::default())
            && is_as_recorded(i, was_i)
            && is_as_recorded(t, was_t)
    }

    fn since(&self, side: Side, now: &Entry, before: &Entry) -> Since {
        since(now, before, self.inodes[side])
    }
}

fn same_time_of_dirs(a: &Entry, b: &Entry) -> bool {
    !a.kind.is_dir() || times_agree(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::testing::{rules, situation};

    #[test]
    fn paths_are_given_thought_only_where_something_is_to_be_decided() {
        for (what, rows, needs) in [
            ("the same", "a: f1@1 f1@1 f1@1 f1@1", false),
            ("the same, and unknown", "a: - - f1@1 f1@1", false),
            ("recorded as different", "a: f1@1%600 f1@1 f1@1%600 f1@1", false),
            ("a changed mode", "a: f1@1 f1@1 f1@1%600 f1@1", true),
            ("a changed time", "a: f1@1 f1@1 f1@2 f1@1", true),
            ("directories of other times", "d: d@1 d@5 d@1 d@7", true),
            ("directories of the same time", "d: d@1 d@1 d@7 d@7", false),
            ("directories recorded as different", "d: d@1 d@5 d@1 d@5", false),
            ("a mark of a deletion", "a: f1@1! f1@1%600 f1@1 f1@1%600", true),
        ] {
            let situation = situation(rows);
            let delta =
                join(&situation.trees, &situation.baseline, &rules(), Pair::default()).unwrap();
            assert_eq!(delta.len() > 1, needs, "{what}");
        }
        let mut rules = rules();
        rules.preserve.checksum = true;
        let situation = situation("a: f1@1%600 f1@1 f1@1%600 f1@1");
        let delta = join(&situation.trees, &situation.baseline, &rules, Pair::default()).unwrap();
        assert_eq!(delta.len(), 1, "recorded as different, with the same digests");
    }
}

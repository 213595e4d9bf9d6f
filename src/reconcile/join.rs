//! Walks both trees and the baseline at once and keeps the paths that have to be decided. The walk
//! goes directory by directory in the order of the baseline's blocks, so that the baseline is read
//! as a stream.

use super::Rules;
use super::change::same_metadata;
use super::delta::{Delta, PathId};
use crate::config::Preserve;
use crate::state::{Baseline, BaselineDamaged, Cursor, Header, Known, Record, Recorded};
use crate::threads;
use crate::tree::same::{
    ContentChange, EqualTimes, Inodes, Sameness, compare_sides, content_change, looks_alike,
    times_agree,
};
use crate::tree::{Entry, Inode, Kind, NodeId, Pair, Side, Standing, Tree};
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How a path stands on both sides together. It takes part only where it is present: one that is
/// excluded on a side is dropped from the baseline, and one that could not be read keeps its old one.
#[must_use]
pub fn standing(trees: &Pair<Tree>, nodes: Pair<Option<NodeId>>) -> Standing {
    let standing = |side: Side| nodes[side].map(|id| trees[side].standing(id));
    let both = [standing(Side::Initiator), standing(Side::Target)];
    if both.contains(&Some(Standing::Unknown)) {
        Standing::Unknown
    } else if both.contains(&Some(Standing::Excluded)) {
        Standing::Excluded
    } else {
        Standing::Present
    }
}

/// One name of a directory, with what both trees and the baseline have there.
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
    /// The index of its parent in `Walk::dirs`; the root has index 0.
    parent: usize,
    nodes: Pair<Option<NodeId>>,
    path_id: Option<PathId>,
    record: Option<Record>,
    /// The child that was inserted into the delta last, after the directory's block was read.
    hint: Option<PathId>,
}

/// Every path of both trees, whether it has to be decided or not (`--initialize`).
#[must_use]
pub fn everything(trees: &Pair<Tree>) -> Delta {
    let mut delta = Delta::new();
    let mut dirs = vec![(Delta::ROOT, Pair::new(Some(Tree::ROOT), Some(Tree::ROOT)))];
    while let Some((parent, nodes)) = dirs.pop() {
        merge_block(trees, as_dirs(trees, nodes), &[], |joined| {
            if standing(trees, joined.now) == Standing::Present {
                let path_id = delta.push(parent, joined.name, joined.now, None);
                dirs.push((path_id, joined.now));
            }
        });
    }
    delta
}

/// What a walk does below an entry.
pub enum Step<D> {
    /// Goes into it.
    Enter {
        /// What the walk knows of the directory.
        dir: D,
        /// Whether the baseline has a block for it.
        has_block: bool,
    },
    /// Passes what the baseline has below it.
    Skip,
}

/// Goes through a baseline from the root on. `directory` gets every directory that is entered, with
/// its block, and adds what is to be done below it, in the order of the block.
///
/// # Errors
/// The baseline cannot be read to its end.
pub fn each_directory<D>(
    baseline: &Baseline,
    root: D,
    mut directory: impl FnMut(D, &mut [Known<'_>], &mut Vec<Step<D>>),
) -> Result<(), BaselineDamaged> {
    let mut cursor = baseline.cursor();
    let mut steps = vec![Step::Enter { dir: root, has_block: true }];
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
                directory(dir, &mut block, &mut next);
                steps.extend(next.drain(..).rev());
            }
        }
    }
    Ok(())
}

struct Walk<'a> {
    trees: &'a Pair<Tree>,
    rules: &'a Rules,
    inodes: Pair<Inodes>,
    delta: Delta,
    dirs: Vec<Dir>,
    /// Names of hard links that are not in step, even if each name by itself is.
    links: OutOfStep,
    /// A buffer for the names of one directory.
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
) -> Result<Delta, BaselineDamaged> {
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
    each_directory(baseline, 0, |dir, block, next| walk.directory(dir, block, next))?;
    Ok(walk.delta)
}

impl Walk<'_> {
    fn directory(&mut self, dir: usize, block: &mut [Known<'_>], next: &mut Vec<Step<usize>>) {
        let nodes = as_dirs(self.trees, self.dirs[dir].nodes);
        let mut found = std::mem::take(&mut self.found);
        merge_block(self.trees, nodes, block, |joined| {
            found.push((joined.now, joined.known));
        });
        for (now, known) in found.drain(..) {
            let has_block = known.is_some_and(|index| block[index].has_block);
            if standing(self.trees, now) != Standing::Present {
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
                let parent = self.ensure_in_delta(dir);
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

    /// The path of a directory in the delta. It is added, with its ancestors, when the first path
    /// below it has to be decided.
    fn ensure_in_delta(&mut self, dir: usize) -> PathId {
        let mut chain = Vec::new();
        let mut at = dir;
        while self.dirs[at].path_id.is_none() {
            chain.push(at);
            at = self.dirs[at].parent;
        }
        for index in chain.into_iter().rev() {
            let parent_dir = self.dirs[index].parent;
            let (now, record) = (self.dirs[index].nodes, self.dirs[index].record.take());
            // Only directories that exist on both sides are left out of the delta at first.
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
        if self.rules.damaged.any_copy_is_damaged(now) {
            return false;
        }
        // A run that was broken off may have torn it, or its source.
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
            // The baseline does not say which side changed the path last: it has no entry of one
            // side, or only osync 1.3's list. Then the two sides have to agree by themselves, and
            // their times too.
            let has_changed = |side: Side, now: &Entry| match was.map(|was| was[side]) {
                Some(Recorded::Seen(before)) => {
                    self.content_change(side, now, before) != ContentChange::Unchanged
                }
                _ => false,
            };
            return !has_changed(Side::Initiator, i)
                && !has_changed(Side::Target, t)
                && compare_sides(i, t, EqualTimes::Suffice) == Sameness::Same
                && times_agree(i, t)
                && agrees_beside_content()
                && !(i.kind == Kind::File && is_suspect());
        };
        if self.content_change(Side::Initiator, i, was_i) != ContentChange::Unchanged
            || self.content_change(Side::Target, t, was_t) != ContentChange::Unchanged
        {
            return false;
        }
        if looks_alike(i, t) && agrees_beside_content() {
            return true;
        }
        if !same_metadata(i, t, &self.rules.first_compared) {
            return false;
        }
        // The sides differ, but are recorded that way and did not change since. A one-way run
        // copies the difference even then.
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

    fn content_change(&self, side: Side, now: &Entry, before: &Entry) -> ContentChange {
        content_change(now, before, self.inodes[side])
    }
}

fn same_time_of_dirs(a: &Entry, b: &Entry) -> bool {
    !a.kind.is_dir() || times_agree(a, b)
}

// From here on: names that share an inode (PRESERVE_HARDLINKS; spec 4, "Hard links"). A name that
// is in step by itself may belong to a group that is not: another name joined it, left it, or got
// new content. Such names have to be decided too.

/// The inode of a file that may have other names; `None` for everything else. Only regular files
/// are kept linked.
#[must_use]
pub fn shared(entry: &Entry) -> Option<Inode> {
    entry.inode().filter(|_| entry.shared_inode && entry.kind == Kind::File)
}

/// The entries, on each side, of all groups that are not the same on both sides.
pub type OutOfStep = Pair<HashSet<NodeId>>;

struct Groups<'a> {
    trees: &'a Pair<Tree>,
    of: Pair<HashMap<Inode, Vec<NodeId>>>,
}

/// Finds groups whose names or contents are not the same on both sides, with all groups that share
/// a name with them on either side.
#[must_use]
pub fn out_of_step(trees: &Pair<Tree>, preserve: &Preserve) -> OutOfStep {
    let mut found = OutOfStep::default();
    if !preserve.hardlinks {
        return found;
    }
    let groups = Groups { trees, of: Pair::from_fn(|side| groups(&trees[side])) };
    let mut pending: Vec<(Side, Inode)> = Vec::new();
    for side in Side::BOTH {
        let differing = groups.of[side]
            .iter()
            .filter(|(_, names)| !groups.is_in_step(side, names))
            .map(|(inode, _)| (side, *inode));
        pending.extend(differing);
    }
    let mut seen: HashSet<(Side, Inode)> = pending.iter().copied().collect();
    while let Some((side, inode)) = pending.pop() {
        let other = side.other();
        for name in &groups.of[side][&inode] {
            found[side].insert(*name);
            let Some(across) = groups.across(side, *name) else { continue };
            found[other].insert(across);
            let next = shared(trees[other].entry(across))
                .filter(|inode| groups.of[other].contains_key(inode));
            if let Some(next) = next.filter(|next| seen.insert((other, *next))) {
                pending.push((other, next));
            }
        }
    }
    found
}

/// Every inode of a tree with more than one name in it.
fn groups(tree: &Tree) -> HashMap<Inode, Vec<NodeId>> {
    let mut groups: HashMap<Inode, Vec<NodeId>> = HashMap::new();
    for id in tree.ids().filter(|id| tree.standing(*id) == Standing::Present) {
        if let Some(inode) = shared(tree.entry(id)) {
            groups.entry(inode).or_default().push(id);
        }
    }
    groups.retain(|_, names| names.len() > 1);
    groups
}

impl Groups<'_> {
    fn across(&self, side: Side, id: NodeId) -> Option<NodeId> {
        let tree = &self.trees[side.other()];
        tree.find(&self.trees[side].path(id))
            .filter(|across| tree.standing(*across) == Standing::Present)
    }

    fn is_in_step(&self, side: Side, names: &[NodeId]) -> bool {
        let (mine, others) = (&self.trees[side], &self.trees[side.other()]);
        let mut inode = None;
        names.iter().all(|name| {
            let Some(across) = self.across(side, *name) else { return false };
            let (here, there) = (mine.entry(*name), others.entry(across));
            let Some(shared) = shared(there) else { return false };
            *inode.get_or_insert(shared) == shared && looks_alike(here, there)
        }) && inode
            .and_then(|inode| self.of[side.other()].get(&inode))
            .is_some_and(|there| there.len() == names.len())
    }
}

// From here on: whether the inode numbers of a replica can be compared (spec 8, "The same").

/// Up to this number, files in doubt are simply compared by content.
const FEW_DOUBTS: usize = 100;

/// Judges by the roots: if a root is not the directory of the baseline, the replica was copied or
/// restored as a whole, or its device number changed, and so did the numbers of all that is in it.
#[must_use]
pub fn inodes_of_roots(trees: &Pair<Tree>, header: &Header, rules: &Rules) -> Pair<Inodes> {
    Pair::from_fn(|side: Side| {
        if !rules.abilities[side].keeps_inodes {
            return Inodes::Meaningless;
        }
        let root = trees[side].entry(Tree::ROOT).inode();
        match (header.roots[side], root) {
            (Some(before), Some(now)) if before != now => Inodes::Meaningless,
            _ => Inodes::Reliable,
        }
    })
}

/// Judges by the files: if more than half of them have another number than before and nothing else
/// about them changed, the file system assigns new numbers at each mount.
#[must_use]
pub fn inodes_of_files(trees: &Pair<Tree>, delta: &Delta, inodes: Pair<Inodes>) -> Pair<Inodes> {
    Pair::from_fn(|side: Side| {
        if inodes[side] == Inodes::Meaningless {
            return Inodes::Meaningless;
        }
        let tree = &trees[side];
        let is_in_doubt = |path_id: &_| {
            let was = delta.record(*path_id).map(|record| &record.was[side]);
            match (delta.now(*path_id, side), was) {
                (Some(now), Some(Recorded::Seen(before))) => {
                    content_change(tree.entry(now), before, Inodes::Reliable)
                        == ContentChange::Doubt
                }
                _ => false,
            }
        };
        let doubts = delta.path_ids().filter(is_in_doubt).count();
        let is_file =
            |id: &_| tree.standing(*id) == Standing::Present && tree.entry(*id).kind == Kind::File;
        let most = doubts > FEW_DOUBTS && doubts * 2 > tree.ids().filter(is_file).count();
        if most { Inodes::Meaningless } else { Inodes::Reliable }
    })
}

// From here on: whether everything is exactly as the baseline says. It is in most runs, and this
// check takes a fraction of the time of a join. Several threads check parts of the trees.

/// A part has at most this fraction of all paths, so that all threads end at about the same time.
const PARTS: u64 = 32;

/// Below this number of paths, starting threads costs more than it saves.
const FEW_PATHS: u64 = 4000;

/// Whether a run has nothing to do if nothing changed. Not so in three cases: a one-way run copies
/// recorded differences too, groups of hard links may be out of step, and digests of contents may
/// be missing.
pub fn unchanged_means_done(rules: &Rules) -> bool {
    let preserve = &rules.preserve;
    let first = &rules.first_compared;
    let none_is_new = !(first.permissions || first.owner || first.group || first.executability);
    rules.policy.one_way_from.is_none() && !preserve.hardlinks && !preserve.checksum && none_is_new
}

/// A directory of both trees, and a cursor at its block in the baseline.
struct Part<'a> {
    dirs: Pair<NodeId>,
    cursor: Cursor<'a>,
}

/// Whether both sides are exactly as the baseline says, including all metadata, and have nothing
/// else that takes part.
///
/// # Errors
/// The baseline cannot be read to its end.
pub fn is_as_recorded(trees: &Pair<Tree>, baseline: &Baseline) -> Result<bool, BaselineDamaged> {
    if trees.iter().any(|(_, tree)| tree.standing(Tree::ROOT) != Standing::Present) {
        return Ok(false);
    }
    let root = Part { dirs: Pair::new(Tree::ROOT, Tree::ROOT), cursor: baseline.cursor() };
    if baseline.len() < FEW_PATHS {
        whole(trees, root)
    } else {
        side_by_side(trees, root, baseline.len() / PARTS)
    }
}

/// Looks through all below a directory with several threads, which take parts of at most so
/// many paths.
fn side_by_side(trees: &Pair<Tree>, root: Part<'_>, most: u64) -> Result<bool, BaselineDamaged> {
    let queue = Queue::default();
    std::thread::scope(|scope| {
        // A machine out of threads still has this one.
        let help = || threads::start(scope, || queue.work(trees)).ok();
        let others: Vec<_> = (1..threads::most()).map_while(|_| help()).collect();
        let cut = queue.cut(trees, root, most);
        queue.all_is_cut(&cut);
        let mut result = cut.and_then(|same| Ok(same && queue.work(trees)?));
        for other in others {
            let found = threads::joined(other);
            result = result.and_then(|same| Ok(found? && same));
        }
        result
    })
}

/// Parts that wait for a thread.
#[derive(Default)]
struct Queue<'a> {
    waiting: Mutex<Waiting<'a>>,
    news: Condvar,
}

#[derive(Default)]
struct Waiting<'a> {
    parts: Vec<Part<'a>>,
    /// No more will come.
    is_complete: bool,
    /// Something differs, or cannot be read: no other part matters any more.
    is_settled: bool,
}

impl<'a> Queue<'a> {
    /// Cuts what lies below a part into parts of at most so many paths. Directories above
    /// them are looked through on the way; says whether they are as recorded.
    fn cut(&self, trees: &Pair<Tree>, root: Part<'a>, most: u64) -> Result<bool, BaselineDamaged> {
        let mut large = vec![root];
        while let Some(mut part) = large.pop() {
            let Some(below) = recorded_below(trees, part.dirs, &mut part.cursor)? else {
                return Ok(false);
            };
            for dirs in below {
                let (cursor, known) = part.cursor.split_off()?;
                let part = Part { dirs, cursor };
                if known > most {
                    large.push(part);
                } else if !self.push(part) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Adds a part; says whether it matters.
    fn push(&self, part: Part<'a>) -> bool {
        let mut waiting = self.waiting();
        if !waiting.is_settled {
            waiting.parts.push(part);
            self.news.notify_one();
        }
        !waiting.is_settled
    }

    fn all_is_cut(&self, found: &Result<bool, BaselineDamaged>) {
        let mut waiting = self.waiting();
        waiting.is_complete = true;
        waiting.is_settled |= !matches!(found, Ok(true));
        self.news.notify_all();
    }

    /// Looks through parts until no more will come; says whether all were as recorded.
    fn work(&self, trees: &Pair<Tree>) -> Result<bool, BaselineDamaged> {
        while let Some(part) = self.next() {
            let found = whole(trees, part);
            if !matches!(found, Ok(true)) {
                self.waiting().is_settled = true;
                self.news.notify_all();
                return found;
            }
        }
        Ok(true)
    }

    fn next(&self) -> Option<Part<'a>> {
        let mut waiting = self.waiting();
        while !waiting.is_settled {
            let part = waiting.parts.pop();
            if part.is_some() || waiting.is_complete {
                return part;
            }
            waiting = self.news.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<'a>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks through one part.
fn whole(trees: &Pair<Tree>, mut part: Part<'_>) -> Result<bool, BaselineDamaged> {
    let mut pending = vec![part.dirs];
    while let Some(dirs) = pending.pop() {
        let Some(below) = recorded_below(trees, dirs, &mut part.cursor)? else { return Ok(false) };
        pending.extend(below.into_iter().rev());
    }
    Ok(true)
}

/// The directories in a directory, in order; `None` if something differs there from the next block
/// of the baseline.
pub(super) fn recorded_below(
    trees: &Pair<Tree>,
    dirs: Pair<NodeId>,
    cursor: &mut Cursor<'_>,
) -> Result<Option<Vec<Pair<NodeId>>>, BaselineDamaged> {
    let mut block = cursor.open()?;
    let mut children = Pair::from_fn(|side: Side| trees[side].children(dirs[side]));
    let mut known = Known::default();
    let mut below = Vec::new();
    while block.read_into(&mut known)? {
        let [Some(initiator), Some(target)] = Side::BOTH.map(|side| {
            let tree = &trees[side];
            // What is excluded takes no part, and the baseline knows nothing of it.
            let id = children[side].find(|id| tree.standing(*id) != Standing::Excluded)?;
            let is_seen = tree.standing(id) == Standing::Present
                && tree.name(id) == known.name
                && matches!(&known.record.was[side], Recorded::Seen(was) if was == tree.entry(id))
                && known.has_block == tree.entry(id).kind.is_dir();
            is_seen.then_some(id)
        }) else {
            return Ok(None);
        };
        if known.record.skipped != Pair::default() {
            return Ok(None);
        }
        if known.has_block {
            below.push(Pair::new(initiator, target));
        }
    }
    let is_more = Side::BOTH
        .into_iter()
        .any(|side| children[side].any(|id| trees[side].standing(id) != Standing::Excluded));
    Ok((!is_more).then_some(below))
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

#[cfg(test)]
mod groups_tests {
    use super::*;
    use crate::reconcile::testing::{plan, rules, situation, words};

    #[test]
    fn only_regular_files_whose_inode_is_known_can_be_linked() {
        for (kind, shared_inode, ino, expected) in [
            (Kind::File, true, 7, true),
            (Kind::File, false, 7, false),
            (Kind::File, true, 0, false),
            (Kind::Symlink, true, 7, false),
            (Kind::Dir, true, 7, false),
        ] {
            let mut entry = Entry::new(kind);
            (entry.shared_inode, entry.ino) = (shared_inode, ino);
            assert_eq!(shared(&entry).is_some(), expected, "{kind:?} {shared_inode} {ino}");
        }
        let mut rules = rules();
        rules.preserve.hardlinks = true;
        let plan = plan(&situation("a: - - l:x@1&5 -\nb: - - l:x@1&5 -"), &rules);
        assert_eq!(words(&plan), [">> send a", ">> send b"]);
        assert!(plan.groups.is_empty(), "symbolic links are not kept linked");
    }

    #[test]
    fn names_need_thought_only_where_a_group_differs() {
        let hardlinks = Preserve { hardlinks: true, ..Preserve::USUAL };
        for (what, rows, expected) in [
            ("alike", "a: - - f1@1&5 f1@1&6\nb: - - f1@1&5 f1@1&6", ["", ""]),
            ("its other names lie elsewhere", "a: - - f1@1&5 f1@1", ["", ""]),
            ("linked here only", "a: - - f1@1&5 f1@1\nb: - - f1@1&5 f1@1", ["a b", "a b"]),
            ("linked there only", "a: - - f1@1 f1@1&5\nb: - - f1@1 f1@1&5", ["a b", "a b"]),
            (
                "one name more here",
                "a: - - f1@1&5 f1@1&6\nb: - - f1@1&5 f1@1&6\nc: - - f1@1&5 -",
                ["a b c", "a b"],
            ),
            (
                "one name more there, which is another file here",
                "a: - - f1@1&5 f1@1&6\nb: - - f1@1&5 f1@1&6\nc: - - f1@1 f1@1&6",
                ["a b c", "a b c"],
            ),
            ("another content", "a: - - f2@1&5 f1@1&6\nb: - - f2@1&5 f1@1&6", ["a b", "a b"]),
            (
                "two groups that hang together",
                "a: - - f1@1&5 f1@1&6\nb: - - f1@1&5 f1@1&7\nc: - - f1@1 f1@1&7\nd: - - f1 f1",
                ["a b c", "a b c"],
            ),
            ("excluded over there", "a: - - f1@1&5 x\nb: - - f1@1&5 f1@1", ["a b", "b"]),
        ] {
            let trees = situation(rows).trees;
            let found = out_of_step(&trees, &hardlinks);
            let names = Side::BOTH.map(|side| {
                let of = |id: &NodeId| String::from_utf8_lossy(trees[side].name(*id)).into_owned();
                let mut names: Vec<String> = found[side].iter().map(of).collect();
                names.sort();
                names.join(" ")
            });
            assert_eq!(names, expected, "{what}");
            let without = out_of_step(&trees, &Preserve::USUAL);
            assert!(without.initiator.is_empty() && without.target.is_empty(), "{what}");
        }
    }
}

#[cfg(test)]
mod recorded_tests {
    use super::*;
    use crate::reconcile::testing::{rules, situation};

    fn rows(change: Option<usize>) -> String {
        let mut rows = String::new();
        let mut number = 0;
        let mut file = |path: &str, rows: &mut String| {
            let now = if change == Some(number) { "f1@1%600" } else { "f1@1" };
            rows.push_str(&format!("{path}: f1@1 f1@1 {now} f1@1\n"));
            number += 1;
        };
        for dir in 0..70 {
            for path in [format!("d{dir}"), format!("d{dir}/e"), format!("d{dir}/e/f")] {
                rows.push_str(&format!("{path}: d d d d\n"));
            }
            file(&format!("d{dir}/a"), &mut rows);
            file(&format!("d{dir}/e/f/b"), &mut rows);
        }
        rows
    }

    #[test]
    fn one_change_is_found_wherever_it_is() {
        let answer = |rows: &str| {
            let situation = situation(rows);
            let (trees, baseline) = (&situation.trees, &situation.baseline);
            let answer = is_as_recorded(trees, baseline).unwrap();
            for most in [0, 1, 4, 1000] {
                let dirs = Pair::new(Tree::ROOT, Tree::ROOT);
                let root = Part { dirs, cursor: baseline.cursor() };
                assert_eq!(side_by_side(trees, root, most).unwrap(), answer, "{most}");
            }
            answer
        };
        assert!(answer(&rows(None)));
        for change in 0..140 {
            assert!(!answer(&rows(Some(change))), "{change}");
        }
        for more in ["d3/z: - - f1@1 -", "d3/e/f/z: - - - f1@1", "d3/e/f/z: f1@1 f1@1 - -"] {
            assert!(!answer(&format!("{}{more}\n", rows(None))), "{more}");
        }
        assert!(answer(&format!("{}d3/z: - - x -\n", rows(None))));
    }

    #[test]
    fn runs_that_may_act_where_nothing_changed_get_no_quick_answer() {
        assert!(unchanged_means_done(&rules()));
        let with = |change: fn(&mut Rules)| {
            let mut rules = rules();
            change(&mut rules);
            unchanged_means_done(&rules)
        };
        assert!(!with(|rules| rules.policy.one_way_from = Some(Side::Target)));
        assert!(!with(|rules| rules.preserve.hardlinks = true));
        assert!(!with(|rules| rules.preserve.checksum = true));
    }
}

//! The files that a scrub found damaged (spec 9, "Scrub"), as the trees have them now.

use crate::state::{DamagedFile, Recorded, Seen};
use crate::tree::{Inode, Kind, NodeId, Pair, RelPath, Side, Standing, Tree};
use std::collections::HashSet;

/// The files of both trees that are known to be damaged, under all their names.
#[derive(Debug, Clone, Default)]
pub struct DamagedNodes(Pair<DamagedHere>);

/// What is known to be damaged on one side.
#[derive(Debug, Clone, Default)]
struct DamagedHere {
    /// All names in the tree.
    nodes: HashSet<NodeId>,
    /// Those of the list that have such a name.
    files: Vec<DamagedFile>,
    /// The others: they are gone, or were edited.
    gone: Vec<DamagedFile>,
}

impl DamagedNodes {
    /// Finds them. A file is still damaged if it was only renamed or given another mode; it is not
    /// if it has another size or mtime.
    #[must_use]
    pub fn find(trees: &Pair<Tree>, damaged: &[DamagedFile]) -> Self {
        let found = Pair::from_fn(|side: Side| {
            let here: Vec<&DamagedFile> = damaged.iter().filter(|one| one.side == side).collect();
            if here.is_empty() {
                return DamagedHere::default();
            }
            let tree = &trees[side];
            let named = here.iter().filter_map(|one| find_file(tree, &one.seen.path));
            let inodes: HashSet<Inode> =
                here.iter().filter_map(|one| one.seen.look.inode()).collect();
            let is_one = |id: &NodeId| {
                let inode = tree.entry(*id).inode();
                is_file(tree, *id) && inode.is_some_and(|inode| inodes.contains(&inode))
            };
            let all = named.chain(tree.ids().filter(is_one));
            let is = |one: &DamagedFile, id: &NodeId| one.is(&tree.path(*id), tree.entry(*id));
            let nodes: HashSet<NodeId> =
                all.filter(|id| here.iter().any(|one| is(one, id))).collect();
            let is_there = |one: &&&DamagedFile| nodes.iter().any(|id| is(one, id));
            let (files, gone): (Vec<_>, Vec<_>) = here.iter().partition(is_there);
            let owned = |files: Vec<&&DamagedFile>| files.into_iter().copied().cloned().collect();
            DamagedHere { files: owned(files), gone: owned(gone), nodes }
        });
        DamagedNodes(found)
    }

    /// Whether a damaged file is still there, or may be: what cannot be looked at may be there.
    #[must_use]
    pub fn has(&self, trees: &Pair<Tree>, one: &DamagedFile) -> bool {
        let tree = &trees[one.side];
        let is_hidden =
            |dir: RelPath| tree.find(&dir).is_some_and(|id| tree.standing(id) != Standing::Present);
        one.seen.path.ancestors().any(is_hidden) || self.0[one.side].files.contains(one)
    }

    /// All names of damaged files of a side, and what they look like.
    #[must_use]
    pub fn names(&self, side: Side, trees: &Pair<Tree>) -> Vec<Seen> {
        let tree = &trees[side];
        self.0[side].nodes.iter().map(|id| Seen::of(tree.path(*id), tree.entry(*id))).collect()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|(_, here)| here.nodes.is_empty())
    }

    /// Whether what a side has is known to be damaged.
    #[must_use]
    pub fn is_damaged(&self, side: Side, node: Option<NodeId>) -> bool {
        node.is_some_and(|id| self.0[side].nodes.contains(&id))
    }

    /// Whether the file that a side had at a path when this was recorded is known to be damaged, and
    /// is still there under some name.
    #[must_use]
    pub fn is_damaged_elsewhere_too(&self, side: Side, path: &RelPath, was: &Recorded) -> bool {
        let Recorded::Seen(was) = was else { return false };
        self.0[side].files.iter().any(|one| one.is(path, was))
    }

    /// Whether the file that a side had at a path when this was recorded was known to be damaged, and
    /// is gone.
    #[must_use]
    pub fn was_damaged_and_is_gone(&self, side: Side, path: &RelPath, was: &Recorded) -> bool {
        let Recorded::Seen(was) = was else { return false };
        self.0[side].gone.iter().any(|one| one.is(path, was))
    }

    /// Whether a copy of a path is known to be damaged, on either side.
    #[must_use]
    pub fn any_copy_is_damaged(&self, nodes: Pair<Option<NodeId>>) -> bool {
        !self.is_empty() && Side::BOTH.into_iter().any(|side| self.is_damaged(side, nodes[side]))
    }
}

/// The file at a path, if there is one.
pub(super) fn find_file(tree: &Tree, path: &RelPath) -> Option<NodeId> {
    tree.find(path).filter(|id| is_file(tree, *id))
}

fn is_file(tree: &Tree, id: NodeId) -> bool {
    tree.standing(id) == Standing::Present && tree.entry(id).kind == Kind::File
}

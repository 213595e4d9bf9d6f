//! The paths that have to be decided: everything that is not plainly in step, with its ancestors.
//!
//! A [`Delta`] is a tree of paths. A path knows what each side has there now and what the
//! baseline says. Parents always have smaller numbers than their children, so walking the
//! numbers forwards is top-down and walking them backwards is bottom-up: no recursion.

use crate::state::Record;
use crate::tree::{NodeId, Pair, RelPath, Side};
use std::cmp::Ordering;

/// One path of a [`Delta`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PathId(u32);

const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Node {
    parent: u32,
    first_child: u32,
    last_child: u32,
    next: u32,
    /// Where its name begins; it ends where that of the next node begins.
    name_at: u32,
    record: u32,
    now: Pair<Option<NodeId>>,
}

/// Where a name is, or belongs, among the children of a path.
enum ChildPosition {
    Found(PathId),
    Between(u32, u32),
}

/// The paths that have to be decided.
#[derive(Debug)]
pub struct Delta {
    nodes: Vec<Node>,
    names: Vec<u8>,
    records: Vec<Record>,
    is_as_recorded: bool,
}

impl Default for Delta {
    fn default() -> Self {
        Delta::new()
    }
}

impl PathId {
    /// The number of the path, for tables with one value a path.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl Delta {
    /// The root of both replicas; always there, never acted upon.
    pub const ROOT: PathId = PathId(0);

    /// A delta that holds only the root.
    #[must_use]
    pub fn new() -> Self {
        let root = Node {
            parent: 0,
            first_child: NONE,
            last_child: NONE,
            next: NONE,
            name_at: 0,
            record: NONE,
            now: Pair::default(),
        };
        Delta { nodes: vec![root], names: Vec::new(), records: Vec::new(), is_as_recorded: false }
    }

    /// How many paths there are, the root included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether the baseline says exactly what is there now on both sides, to the last piece
    /// of metadata. (Paths that are in step may be so without being recorded like that.)
    #[must_use]
    pub fn is_as_recorded(&self) -> bool {
        self.is_as_recorded
    }

    /// A delta without a path, because the baseline says exactly what is there.
    #[must_use]
    pub fn as_recorded() -> Self {
        Delta { is_as_recorded: true, ..Delta::new() }
    }

    /// Adds a child behind the children that `parent` has already; names must come in
    /// order.
    pub fn push(
        &mut self,
        parent: PathId,
        name: &[u8],
        now: Pair<Option<NodeId>>,
        record: Option<Record>,
    ) -> PathId {
        let last = self.nodes[parent.index()].last_child;
        let new = self.new_node(parent, name, now, record);
        if last == NONE {
            self.nodes[parent.index()].first_child = new;
        } else {
            self.nodes[last as usize].next = new;
        }
        self.nodes[parent.index()].last_child = new;
        PathId(new)
    }

    /// The child of that name, if there is one.
    #[must_use]
    pub fn child(&self, parent: PathId, name: &[u8]) -> Option<PathId> {
        self.child_behind(parent, name, None)
    }

    /// The child of that name, if there is one behind an earlier child: a row of questions in
    /// the order of the names costs no more than one walk.
    #[must_use]
    pub fn child_behind(
        &self,
        parent: PathId,
        name: &[u8],
        hint: Option<PathId>,
    ) -> Option<PathId> {
        match self.place(parent, name, hint) {
            ChildPosition::Found(path_id) => Some(path_id),
            ChildPosition::Between(..) => None,
        }
    }

    /// The number of a path, if the delta speaks of it.
    #[must_use]
    pub fn find(&self, path: &RelPath) -> Option<PathId> {
        path.components().try_fold(Self::ROOT, |at, name| self.child(at, name))
    }

    /// Adds a child at its place in the order. `hint` is an earlier child from where to
    /// look, so that a row of insertions in order costs no more than one walk.
    pub fn insert(
        &mut self,
        parent: PathId,
        name: &[u8],
        hint: Option<PathId>,
        now: Pair<Option<NodeId>>,
        record: Option<Record>,
    ) -> PathId {
        match self.place(parent, name, hint) {
            ChildPosition::Found(path_id) => path_id,
            ChildPosition::Between(before, after) => {
                let new = self.new_node(parent, name, now, record);
                self.link(parent, new, before, after);
                PathId(new)
            }
        }
    }

    fn place(&self, parent: PathId, name: &[u8], hint: Option<PathId>) -> ChildPosition {
        let mut before = hint.map_or(NONE, |path_id| path_id.0);
        let mut at = match hint {
            Some(path_id) => self.nodes[path_id.index()].next,
            None => self.nodes[parent.index()].first_child,
        };
        while at != NONE {
            match self.name(PathId(at)).cmp(name) {
                Ordering::Less => {
                    before = at;
                    at = self.nodes[at as usize].next;
                }
                Ordering::Equal => return ChildPosition::Found(PathId(at)),
                Ordering::Greater => break,
            }
        }
        ChildPosition::Between(before, at)
    }

    fn link(&mut self, parent: PathId, new: u32, before: u32, after: u32) {
        self.nodes[new as usize].next = after;
        if before == NONE {
            self.nodes[parent.index()].first_child = new;
        } else {
            self.nodes[before as usize].next = new;
        }
        if after == NONE {
            self.nodes[parent.index()].last_child = new;
        }
    }

    fn new_node(
        &mut self,
        parent: PathId,
        name: &[u8],
        now: Pair<Option<NodeId>>,
        record: Option<Record>,
    ) -> u32 {
        // A delta has no more entries than the trees and the baseline it came from, which
        // are counted in 32 bits each; beyond that memory has long run out.
        #[allow(clippy::cast_possible_truncation)]
        let (name_at, index) = (self.names.len() as u32, self.nodes.len() as u32);
        self.names.extend_from_slice(name);
        let record = record.map_or(NONE, |record| self.keep(record));
        self.nodes.push(Node {
            parent: parent.0,
            first_child: NONE,
            last_child: NONE,
            next: NONE,
            name_at,
            record,
            now,
        });
        index
    }

    #[allow(clippy::cast_possible_truncation)] // not more records than nodes
    fn keep(&mut self, record: Record) -> u32 {
        self.records.push(record);
        (self.records.len() - 1) as u32
    }

    /// Every path but the root, parents before children.
    pub fn path_ids(&self) -> impl DoubleEndedIterator<Item = PathId> + ExactSizeIterator + use<> {
        #[allow(clippy::cast_possible_truncation)] // see `new_node`
        (1..self.nodes.len() as u32).map(PathId)
    }

    /// Every path but the root in the order of the paths.
    #[must_use]
    pub fn in_path_order(&self) -> Vec<PathId> {
        self.below(Delta::ROOT)
    }

    /// Every path below one, in the order of the paths.
    #[must_use]
    pub fn below(&self, top: PathId) -> Vec<PathId> {
        let mut order = Vec::new();
        let mut stack = vec![self.nodes[top.index()].first_child];
        while let Some(at) = stack.pop() {
            if at == NONE {
                continue;
            }
            order.push(PathId(at));
            stack.push(self.nodes[at as usize].next);
            stack.push(self.nodes[at as usize].first_child);
        }
        order
    }

    /// The children of a path in order of their names.
    pub fn children(&self, path_id: PathId) -> impl Iterator<Item = PathId> + '_ {
        let first = self.nodes[path_id.index()].first_child;
        std::iter::successors((first != NONE).then_some(PathId(first)), |at| {
            let next = self.nodes[at.index()].next;
            (next != NONE).then_some(PathId(next))
        })
    }

    /// The directory that holds this one.
    #[must_use]
    pub fn parent(&self, path_id: PathId) -> PathId {
        PathId(self.nodes[path_id.index()].parent)
    }

    /// The bare name.
    #[must_use]
    pub fn name(&self, path_id: PathId) -> &[u8] {
        let index = path_id.index();
        let end = self.nodes.get(index + 1).map_or(self.names.len(), |next| next.name_at as usize);
        &self.names[self.nodes[index].name_at as usize..end]
    }

    /// The path, assembled from the names of its ancestors.
    #[must_use]
    pub fn path(&self, path_id: PathId) -> RelPath {
        let up = |at: &PathId| Some(self.parent(*at)).filter(|at| *at != Delta::ROOT);
        let chain =
            std::iter::successors(Some(path_id).filter(|path_id| *path_id != Delta::ROOT), up);
        RelPath::from_names_upwards(chain.map(|at| self.name(at)))
    }

    /// The length of the path in bytes.
    #[must_use]
    pub fn path_len(&self, path_id: PathId) -> usize {
        let mut length = 0;
        let mut at = path_id;
        while at != Delta::ROOT {
            length += self.name(at).len() + 1;
            at = self.parent(at);
        }
        length.saturating_sub(1)
    }

    /// What stands there on a side now, as the number it has in that side's tree.
    #[must_use]
    pub fn now(&self, path_id: PathId, side: Side) -> Option<NodeId> {
        self.nodes[path_id.index()].now[side]
    }

    /// What the baseline says.
    #[must_use]
    pub fn record(&self, path_id: PathId) -> Option<&Record> {
        let index = self.nodes[path_id.index()].record;
        (index != NONE).then(|| &self.records[index as usize])
    }

    /// Treats a renaming as done: what the baseline says of `from`, and what `moved` has
    /// there, now stands at `to`.
    pub fn carry(&mut self, from: PathId, to: PathId, moved: Option<Side>) {
        let record = std::mem::replace(&mut self.nodes[from.index()].record, NONE);
        self.nodes[to.index()].record = record;
        if let Some(side) = moved {
            let now = self.nodes[from.index()].now[side].take();
            self.nodes[to.index()].now[side] = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The child of that name, made at its place in the order if it is not there.
    fn child_or_new(delta: &mut Delta, parent: PathId, name: &[u8]) -> PathId {
        match delta.place(parent, name, None) {
            ChildPosition::Found(path_id) => path_id,
            ChildPosition::Between(before, after) => {
                let new = delta.new_node(parent, name, Pair::default(), None);
                delta.link(parent, new, before, after);
                PathId(new)
            }
        }
    }

    #[test]
    fn new_children_find_their_place_in_the_order() {
        let mut delta = Delta::new();
        let dir = delta.push(Delta::ROOT, b"d", Pair::default(), None);
        for name in [b"m", b"z", b"a", b"n"] {
            child_or_new(&mut delta, dir, name);
        }
        let again = child_or_new(&mut delta, dir, b"m");
        delta.push(Delta::ROOT, b"e", Pair::default(), None);
        let names: Vec<String> =
            delta.in_path_order().into_iter().map(|s| delta.path(s).shown()).collect();
        assert_eq!(names, ["d", "d/a", "d/m", "d/n", "d/z", "e"]);
        assert_eq!(delta.path(again).shown(), "d/m");
        assert_eq!(delta.find(&delta.path(again)), Some(again));
        assert_eq!(delta.find(&RelPath::root()), Some(Delta::ROOT));
        assert_eq!(delta.find(&RelPath::new("d/x").unwrap()), None);
    }

    #[test]
    fn children_may_be_added_behind_those_that_found_their_place() {
        let mut delta = Delta::new();
        assert_eq!(delta.len(), 1);
        for name in [b"b", b"a"] {
            child_or_new(&mut delta, Delta::ROOT, name);
        }
        delta.push(Delta::ROOT, b"c", Pair::default(), None);
        let names: Vec<String> =
            delta.children(Delta::ROOT).map(|s| delta.path(s).shown()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(delta.len(), 4);
    }
}

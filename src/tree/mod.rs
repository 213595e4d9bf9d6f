//! One replica as it was scanned, and the vocabulary of all other rooms: paths, entries, sides.
//!
//! A [`Tree`] holds its entries directory by directory: the children of one directory are
//! stored next to each other, sorted by name. Names are stored once and paths are assembled on
//! demand, so a file takes about 110 bytes, and two trees are compared by merging short names.

mod abilities;
mod entry;
pub mod names;
pub mod path;
pub mod same;
mod side;
pub mod work_dir;

pub use abilities::{Abilities, Lack, NameLimit};
pub use entry::{Entry, Extra, Inode, Kind, Stamp, fold_device};
pub use path::RelPath;
pub use side::{Pair, Side};
pub use work_dir::Keep;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::ops::Range;

/// One entry of a [`Tree`]; only meaningful for the tree it came from. The number is the
/// entry's index plus one, so that an `Option<NodeId>` also takes four bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(NonZeroU32);

impl NodeId {
    fn at(index: u32) -> Self {
        // `fill_from` refuses more than u32::MAX nodes, so the sum does not saturate.
        NodeId(NonZeroU32::MIN.saturating_add(index))
    }

    fn index(self) -> usize {
        (self.0.get() - 1) as usize
    }
}

/// Whether an entry takes part in the synchronisation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Standing {
    /// It was read and takes part.
    Present,
    /// It exists, but the filter excludes it: it and all below it are left alone (spec 4).
    Excluded,
    /// It exists, but could not be read: what it holds, and all below it, is unknown.
    Unknown,
}

#[derive(Debug, Clone)]
struct Node {
    entry: Entry,
    /// Where its name begins in [`Tree::names`]; it ends where the next node's name begins.
    name_at: u32,
    /// The number of the [`Group`] of its children, or [`NO_GROUP`].
    children: u32,
}

const NO_GROUP: u32 = u32::MAX;

/// The children of one directory: the nodes from `first` up to the first of the next group.
#[derive(Debug, Clone)]
struct Group {
    dir: NodeId,
    first: u32,
}

/// One child for [`TreeBuilder::fill`].
#[derive(Debug, Clone)]
pub struct Child {
    /// The bare file name.
    pub name: Vec<u8>,
    /// Whether it takes part.
    pub standing: Standing,
    /// What it looks like; for an unknown entry, as much as could be read.
    pub entry: Entry,
}

/// The children of one directory, for [`TreeBuilder::fill_from`]. One buffer serves for all
/// directories, so that no entry needs an allocation of its own on its way into the tree.
#[derive(Debug, Default)]
pub struct Children {
    names: Vec<u8>,
    entries: Vec<(Standing, Entry)>,
    /// One for each entry; `sort` orders them by name.
    order: Vec<Named>,
    /// Known mount points, as indexes into `entries`.
    mounted: Vec<u32>,
}

/// A name among [`Children`]. Its first eight bytes are kept beside it, because they decide most
/// comparisons.
#[derive(Debug, Clone, Copy)]
struct Named {
    prefix: u64,
    at: u32,
    len: u16,
    entry: u32,
}

impl Children {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.names.clear();
        self.entries.clear();
        self.order.clear();
        self.mounted.clear();
    }

    /// Marks the last child as a mount point. Its device number does not always show it: a part
    /// of the same file system can be mounted there (a bind mount).
    pub fn mark_mounted(&mut self) {
        self.mounted
            .extend(self.entries.len().checked_sub(1).and_then(|at| u32::try_from(at).ok()));
    }

    /// Adds a child.
    ///
    /// # Errors
    /// [`TooLarge`] when the 32-bit numbers run out.
    pub fn push(&mut self, name: &[u8], standing: Standing, entry: Entry) -> Result<(), TooLarge> {
        let mut prefix = [0; 8];
        let length = name.len().min(8);
        prefix[..length].copy_from_slice(&name[..length]);
        let at = u32::try_from(self.names.len()).map_err(|_| TooLarge)?;
        let len = u16::try_from(name.len()).map_err(|_| TooLarge)?;
        let number = u32::try_from(self.entries.len()).map_err(|_| TooLarge)?;
        self.names.extend_from_slice(name);
        self.entries.push((standing, entry));
        self.order.push(Named { prefix: u64::from_be_bytes(prefix), at, len, entry: number });
        Ok(())
    }

    fn name(&self, named: Named) -> &[u8] {
        name_in(&self.names, named)
    }

    /// Sorts by name and drops duplicates: a file that is renamed during a listing can be listed
    /// twice.
    fn sort(&mut self) {
        let names = &self.names;
        self.order.sort_unstable_by(|a, b| {
            a.prefix.cmp(&b.prefix).then_with(|| name_in(names, *a).cmp(name_in(names, *b)))
        });
        self.order.dedup_by(|a, b| name_in(names, *a) == name_in(names, *b));
    }
}

fn name_in(names: &[u8], named: Named) -> &[u8] {
    &names[named.at as usize..named.at as usize + usize::from(named.len)]
}

/// All entries of one replica, the root directory being node [`Tree::ROOT`].
#[derive(Debug, Clone)]
pub struct Tree {
    nodes: Vec<Node>,
    standings: Vec<Standing>,
    names: Vec<u8>,
    /// In the order of their first children; no group is empty.
    groups: Vec<Group>,
    /// The mount points, sorted by id.
    mounts: Vec<NodeId>,
}

impl Tree {
    /// The replica's root directory.
    pub const ROOT: NodeId = NodeId(NonZeroU32::MIN);

    /// The mount points, sorted by id: directories whose device differs from that of their
    /// parent, and what the scan marked with [`Children::mark_mounted`].
    #[must_use]
    pub fn mount_points(&self) -> &[NodeId] {
        &self.mounts
    }

    /// Whether something is mounted at the entry.
    #[must_use]
    pub fn is_mount_point(&self, id: NodeId) -> bool {
        self.mounts.binary_search(&id).is_ok()
    }

    /// How many entries there are below the root, excluded and unknown ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len() - 1
    }

    /// Whether no entry below the root takes part in the synchronisation.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.standings[1..].iter().all(|standing| *standing != Standing::Present)
    }

    /// What the entry looks like.
    #[must_use]
    pub fn entry(&self, id: NodeId) -> &Entry {
        &self.nodes[id.index()].entry
    }

    /// The entry, to add what is read after the scan: digests of contents, ACLs, attributes.
    pub fn entry_mut(&mut self, id: NodeId) -> &mut Entry {
        &mut self.nodes[id.index()].entry
    }

    /// Whether the entry takes part, is excluded, or is unknown.
    #[must_use]
    pub fn standing(&self, id: NodeId) -> Standing {
        self.standings[id.index()]
    }

    /// Takes an entry out of the synchronisation after the scan: a left-over of an interrupted
    /// transfer, or an entry that rsync's own listing leaves out.
    pub fn exclude(&mut self, id: NodeId) {
        self.standings[id.index()] = Standing::Excluded;
    }

    /// Marks an entry as unknown after the scan, for example because its ACL is not readable.
    pub fn mark_unknown(&mut self, id: NodeId) {
        self.standings[id.index()] = Standing::Unknown;
    }

    /// The bare file name; empty for the root.
    #[must_use]
    pub fn name(&self, id: NodeId) -> &[u8] {
        let index = id.index();
        let end = self.nodes.get(index + 1).map_or(self.names.len(), |next| next.name_at as usize);
        &self.names[self.nodes[index].name_at as usize..end]
    }

    /// The directory that holds the entry; for the root, the root. This is a binary search: a
    /// walk from the root should keep the parent instead.
    #[must_use]
    pub fn parent(&self, id: NodeId) -> NodeId {
        let behind = self.groups.partition_point(|group| group.first as usize <= id.index());
        behind.checked_sub(1).map_or(Tree::ROOT, |group| self.groups[group].dir)
    }

    /// The entries of a directory, sorted by name as bytes; empty for anything else.
    pub fn children(&self, id: NodeId) -> impl ExactSizeIterator<Item = NodeId> + Clone + use<> {
        self.child_range(id).map(NodeId::at)
    }

    /// The entry with this name in a directory.
    #[must_use]
    pub fn child(&self, dir: NodeId, name: &[u8]) -> Option<NodeId> {
        let range = self.child_range(dir);
        let offset = range.start;
        let (mut low, mut high) = (0, range.end - range.start);
        while low < high {
            let middle = low + (high - low) / 2;
            let id = NodeId::at(offset + middle);
            match self.name(id).cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(id),
            }
        }
        None
    }

    /// The entry at a path, whatever its standing.
    #[must_use]
    pub fn find(&self, path: &RelPath) -> Option<NodeId> {
        path.components().try_fold(Tree::ROOT, |dir, name| self.child(dir, name))
    }

    /// The path of an entry, assembled from the names of its ancestors.
    #[must_use]
    pub fn path(&self, id: NodeId) -> RelPath {
        let up = |at: &NodeId| Some(self.parent(*at)).filter(|at| *at != Tree::ROOT);
        let chain = std::iter::successors(Some(id).filter(|id| *id != Tree::ROOT), up);
        // each parent is searched for once only
        let names: Vec<&[u8]> = chain.map(|at| self.name(at)).collect();
        RelPath::from_names_upwards(names.iter().copied())
    }

    /// The same tree with other names for some entries. The names within a directory must stay
    /// distinct.
    ///
    /// # Errors
    /// [`TooLarge`] when the 32-bit numbers run out.
    pub fn with_names(mut self, names: &BTreeMap<NodeId, Vec<u8>>) -> Result<Tree, TooLarge> {
        if names.is_empty() {
            return Ok(self);
        }
        let take = |tree: &mut Tree, id: NodeId| {
            std::mem::replace(&mut tree.nodes[id.index()].entry, Entry::new(Kind::File))
        };
        let mut builder = TreeBuilder::new(take(&mut self, Tree::ROOT));
        builder.tree.standings[0] = self.standings[0];
        let mut new_ids = vec![Tree::ROOT; self.nodes.len()];
        let mut children = Children::default();
        // Parents come before their children.
        for group in 0..self.groups.len() {
            let dir = self.groups[group].dir;
            let mut named: Vec<(Vec<u8>, NodeId)> = self
                .children(dir)
                .map(|id| (names.get(&id).map_or(self.name(id), Vec::as_slice).to_vec(), id))
                .collect();
            named.sort();
            for (name, id) in &named {
                let standing = self.standing(*id);
                let entry = take(&mut self, *id);
                children.push(name, standing, entry)?;
                if self.is_mount_point(*id) {
                    children.mark_mounted();
                }
            }
            let ids = builder.fill_from(new_ids[dir.index()], &mut children)?;
            for ((_, old), new) in named.iter().zip(ids) {
                new_ids[old.index()] = new;
            }
        }
        Ok(builder.finish())
    }

    /// Every entry below the root, parents before children.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        #[allow(clippy::cast_possible_truncation)] // `fill_from` refuses more than u32::MAX nodes
        (1..self.nodes.len() as u32).map(NodeId::at)
    }

    fn child_range(&self, id: NodeId) -> Range<u32> {
        let number = self.nodes[id.index()].children as usize;
        let Some(group) = self.groups.get(number) else { return 0..0 };
        #[allow(clippy::cast_possible_truncation)] // `fill_from` refuses more than u32::MAX nodes
        let end = self.groups.get(number + 1).map_or(self.nodes.len() as u32, |next| next.first);
        group.first..end
    }
}

/// Builds a [`Tree`] one directory at a time. A parent comes before its children; beyond that
/// the directories may come in any order.
#[derive(Debug)]
pub struct TreeBuilder {
    tree: Tree,
}

/// A replica with more entries, or more bytes of names, than 32-bit numbers can count.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error(
    "it has more than 4,294,967,295 entries or 4 GiB of file names; synchronise parts of it as tasks of their own"
)]
pub struct TooLarge;

impl TreeBuilder {
    /// A tree with nothing but its root.
    #[must_use]
    pub fn new(root: Entry) -> Self {
        let nodes = vec![Node { entry: root, name_at: 0, children: NO_GROUP }];
        let (standings, names, groups) = (vec![Standing::Present], Vec::new(), Vec::new());
        TreeBuilder { tree: Tree { nodes, standings, names, groups, mounts: Vec::new() } }
    }

    /// Adds all entries of one directory, in any order, and returns their ids sorted by name.
    /// A directory may be filled only once. A name that comes twice is added once: POSIX allows a
    /// listing to name a file twice that is replaced meanwhile.
    ///
    /// # Errors
    /// [`TooLarge`] when the 32-bit numbers run out.
    pub fn fill(
        &mut self,
        dir: NodeId,
        children: Vec<Child>,
    ) -> Result<impl ExactSizeIterator<Item = NodeId> + use<>, TooLarge> {
        let mut buffer = Children::default();
        for child in children {
            buffer.push(&child.name, child.standing, child.entry)?;
        }
        self.fill_from(dir, &mut buffer)
    }

    /// Like [`TreeBuilder::fill`]; leaves `children` empty.
    ///
    /// # Errors
    /// [`TooLarge`] when the 32-bit numbers run out.
    pub fn fill_from(
        &mut self,
        dir: NodeId,
        children: &mut Children,
    ) -> Result<impl ExactSizeIterator<Item = NodeId> + use<>, TooLarge> {
        children.sort();
        let tree = &mut self.tree;
        let first = u32::try_from(tree.nodes.len()).map_err(|_| TooLarge)?;
        let count = u32::try_from(children.order.len()).map_err(|_| TooLarge)?;
        let end = first.checked_add(count).ok_or(TooLarge)?;
        let dev = tree.nodes[dir.index()].entry.dev;
        for at in 0..children.order.len() {
            let named = children.order[at];
            let name_at = u32::try_from(tree.names.len()).map_err(|_| TooLarge)?;
            tree.names.extend_from_slice(children.name(named));
            let place = &mut children.entries[named.entry as usize];
            let (standing, entry) =
                std::mem::replace(place, (Standing::Unknown, Entry::new(Kind::File)));
            let is_mount_point =
                children.mounted.contains(&named.entry) || entry.kind.is_dir() && entry.dev != dev;
            if standing == Standing::Present && is_mount_point {
                tree.mounts
                    .push(NodeId::at(u32::try_from(tree.nodes.len()).map_err(|_| TooLarge)?));
            }
            tree.nodes.push(Node { entry, name_at, children: NO_GROUP });
            tree.standings.push(standing);
        }
        children.clear();
        if count > 0 {
            tree.nodes[dir.index()].children =
                u32::try_from(tree.groups.len()).map_err(|_| TooLarge)?;
            tree.groups.push(Group { dir, first });
        }
        Ok((first..end).map(NodeId::at))
    }

    /// Marks a directory as unknown because it could not be listed.
    pub fn mark_unknown(&mut self, id: NodeId) {
        self.tree.mark_unknown(id);
    }

    /// The tree as built so far.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The finished tree.
    #[must_use]
    pub fn finish(mut self) -> Tree {
        self.tree.nodes.shrink_to_fit();
        self.tree.standings.shrink_to_fit();
        self.tree.names.shrink_to_fit();
        self.tree.groups.shrink_to_fit();
        self.tree
    }
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes that [`hex`] wrote.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    (digits.len().is_multiple_of(2) && digits.iter().all(u8::is_ascii_hexdigit))
        .then(|| digits.chunks(2).map(pair).collect())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(name: &str, kind: Kind) -> Child {
        Child { name: name.into(), standing: Standing::Present, entry: Entry::new(kind) }
    }

    #[test]
    fn a_name_that_is_listed_twice_is_one_entry() {
        let mut builder = TreeBuilder::new(Entry::new(Kind::Dir));
        let twice = ["b", "a", "b", "c", "b"].map(|name| child(name, Kind::File)).to_vec();
        let ids: Vec<NodeId> = builder.fill(Tree::ROOT, twice).unwrap().collect();
        let tree = builder.finish();
        let names: Vec<&[u8]> = ids.iter().map(|id| tree.name(*id)).collect();
        assert_eq!(names, [&b"a"[..], b"b", b"c"]);
        assert!(tree.children(Tree::ROOT).eq(ids) && tree.len() == 3);
    }

    #[test]
    fn paths_names_and_look_ups_agree() {
        let mut builder = TreeBuilder::new(Entry::new(Kind::Dir));
        let top: Vec<NodeId> = builder
            .fill(Tree::ROOT, vec![child("b", Kind::Dir), child("a", Kind::File)])
            .unwrap()
            .collect();
        let _ = builder.fill(top[1], vec![child("x", Kind::File)]).unwrap();
        let tree = builder.finish();
        assert_eq!(tree.len(), 3);
        for id in tree.ids() {
            assert_eq!(tree.find(&tree.path(id)), Some(id));
            assert!(tree.children(tree.parent(id)).any(|child| child == id));
        }
        assert_eq!(tree.parent(Tree::ROOT), Tree::ROOT);
        assert_eq!(tree.children(top[1]).len(), 1);
        assert!(tree.find(&RelPath::new(*b"b/y").unwrap()).is_none());
    }

    #[test]
    fn children_are_sorted_by_all_bytes_of_their_names() {
        let names: [&[u8]; 9] = [
            b"b",
            b"a",
            b"a\0",
            b"12345678",
            b"123456789",
            b"12345678\xff",
            b"",
            b"\xff",
            b"1234567",
        ];
        let mut children = Children::default();
        for round in 0..2 {
            for name in names {
                let mut entry = Entry::new(Kind::File);
                entry.size = name.len() as u64;
                children.push(name, Standing::Present, entry).unwrap();
            }
            assert_eq!(children.len(), names.len(), "{round}");
            let mut builder = TreeBuilder::new(Entry::new(Kind::Dir));
            let ids: Vec<NodeId> = builder.fill_from(Tree::ROOT, &mut children).unwrap().collect();
            assert!(children.is_empty());
            let tree = builder.finish();
            let mut sorted = names;
            sorted.sort();
            assert!(ids.iter().map(|id| tree.name(*id)).eq(sorted));
            assert!(ids.iter().all(|id| tree.entry(*id).size == tree.name(*id).len() as u64));
        }
    }

    #[test]
    fn an_entry_with_another_name_keeps_all_else_and_what_lies_below_it() {
        let mut builder = TreeBuilder::new(Entry::new(Kind::Dir));
        let top: Vec<NodeId> = builder
            .fill(Tree::ROOT, vec![child("A", Kind::Dir), child("b", Kind::Dir)])
            .unwrap()
            .collect();
        let _ = builder.fill(top[1], vec![child("x", Kind::File)]).unwrap();
        let _ = builder.fill(top[0], vec![child("y", Kind::Fifo), child("z", Kind::File)]).unwrap();
        let mut tree = builder.finish();
        let y = tree.find(&RelPath::new("A/y").unwrap()).unwrap();
        tree.exclude(y);
        let names = [(top[0], b"c".to_vec()), (y, b"zz".to_vec())].into();
        let tree = tree.with_names(&names).unwrap();
        let mut paths: Vec<String> = tree.ids().map(|id| tree.path(id).shown()).collect();
        paths.sort();
        assert_eq!(paths, ["b", "b/x", "c", "c/z", "c/zz"]);
        let moved = tree.find(&RelPath::new("c/zz").unwrap()).unwrap();
        assert_eq!(tree.entry(moved).kind, Kind::Fifo);
        assert_eq!(tree.standing(moved), Standing::Excluded);
    }

    #[test]
    fn a_node_stays_small() {
        assert!(size_of::<Node>() <= 88, "{}", size_of::<Node>());
        assert_eq!(size_of::<Option<NodeId>>(), 4);
    }
}

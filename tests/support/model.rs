//! What a two-way run must leave behind, worked out as plainly as the specification says
//! it (spec 4, "Deciding one path"): no renaming, no order of acting, no plan. Given both
//! replicas as they are, and each as it was after the last run, it says what both must
//! hold afterwards and what must have been kept of the rest.
#![allow(dead_code)]

use super::trees::{Mtime, Node, Tree, What};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// The settings that decide.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// CONFLICT_PREVALANCE is the target.
    pub target_prevails: bool,
    /// FORCE_CONFLICT_PREVALANCE.
    pub force: bool,
    /// CHECKSUM.
    pub checksum: bool,
    /// SKIP_DELETION names this side.
    pub skip: [bool; 2],
    /// DETECT_MOVES.
    pub moves: bool,
}

/// One of the two replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    A,
    B,
}

/// An entry as a replica must have it.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub what: What,
    pub mode: u32,
    pub mtime: Mtime,
    /// Mode and time that will do as well: a move may take along what the other side did
    /// to the old name.
    pub or: Option<(u32, Mtime)>,
}

/// Where a replaced or removed entry must be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In `backup/`: an update replaced it, or it lost a conflict.
    Backup,
    /// In `deleted/`.
    Deleted,
    /// In one of the two.
    Either,
}

/// A file or link that its replica no longer has at its path.
#[derive(Debug, Clone)]
pub struct Gone {
    pub side: Side,
    pub path: Vec<u8>,
    pub what: What,
    pub place: Place,
}

/// What a run must leave behind.
#[derive(Debug, Default)]
pub struct Expected {
    pub trees: [BTreeMap<Vec<u8>, Wanted>; 2],
    pub gone: Vec<Gone>,
    /// Below these both sides are left alone: something of another kind stands where
    /// nothing may be deleted.
    pub left_alone: Vec<Vec<u8>>,
    /// The run has to warn of one of them.
    pub warns: bool,
}

/// Both replicas now and after the last run (empty before the first).
pub struct Model {
    rules: Rules,
    /// What takes part.
    now: [Tree; 2],
    /// What a pattern excludes.
    excluded: [Tree; 2],
    /// With what both sides moved alike under its new names too.
    base: [Tree; 2],
    /// Where disks are mounted.
    mounts: [Mounts; 2],
}

/// Where disks are mounted on one side.
pub type Mounts = BTreeSet<Vec<u8>>;

impl Expected {
    fn on_both(&mut self, path: &[u8], wanted: Wanted) {
        self.trees[0].insert(path.to_vec(), wanted.clone());
        self.trees[1].insert(path.to_vec(), wanted);
    }

    /// Whether the outcome for a path is open, because it or something above it is left
    /// alone.
    pub fn is_open(&self, path: &[u8]) -> bool {
        self.left_alone.iter().any(|top| is_within(path, top))
    }

    fn on_one(&mut self, side: Side, path: &[u8], wanted: Wanted) {
        self.trees[side.index()].insert(path.to_vec(), wanted);
    }

    fn lengths(&self) -> [usize; 2] {
        self.trees.each_ref().map(BTreeMap::len)
    }
}

impl Model {
    /// `is_out` says of a path, and whether it is a directory, that a pattern excludes it
    /// or a directory above it.
    pub fn new(
        rules: Rules,
        all: [&Tree; 2],
        base: [&Tree; 2],
        mounts: [Mounts; 2],
        is_out: impl Fn(&[u8], bool) -> bool,
    ) -> Self {
        let part = |tree: &Tree, out: bool| -> Tree {
            let wanted = |(path, node): &(&Vec<u8>, &Node)| is_out(path, is_dir(node)) == out;
            tree.iter().filter(wanted).map(|(path, node)| (path.clone(), node.clone())).collect()
        };
        let now = all.map(|tree| part(tree, false));
        let excluded = all.map(|tree| part(tree, true));
        let base = base.map(|tree| part(tree, false));
        let mut model = Model { rules, now, excluded, base: base.clone(), mounts };
        let now = &model.now;
        for path in now[0].keys().filter(|_| rules.moves) {
            let olds = [Side::A, Side::B]
                .map(|side| old_name(&now[side.index()], &base[side.index()], path));
            if let [Some(a), Some(b)] = olds
                && a == b
            {
                (0..2).for_each(|side| rebase(&mut model.base[side], &now[side], a, path));
            }
        }
        model
    }

    pub fn expected(&self) -> Expected {
        let mut expected = Expected::default();
        self.walk(b"", &mut expected);
        expected
    }

    fn walk(&self, dir: &[u8], out: &mut Expected) {
        let [a, b] = &self.now;
        let names: BTreeSet<&[u8]> = children(a, dir).chain(children(b, dir)).collect();
        for path in names {
            self.decide(path, out);
        }
    }

    fn decide(&self, path: &[u8], out: &mut Expected) {
        let [a, b] = self.now.each_ref().map(|tree| tree.get(path));
        let in_the_way = |side: Side, here: Option<&Node>| {
            here.is_none() && self.excluded[side.index()].contains_key(path)
        };
        if in_the_way(Side::A, a) || in_the_way(Side::B, b) {
            out.left_alone.push(path.to_vec());
        }
        match (a, b) {
            (Some(one), None) => self.only_one(Side::A, path, one, out),
            (None, Some(one)) => self.only_one(Side::B, path, one, out),
            (Some(a), Some(b)) => match (is_dir(a), is_dir(b)) {
                (true, true) => {
                    let mtime = self.dir_mtime(path, a, b);
                    let mode = self.mode(path, a, b, None);
                    out.on_both(path, Wanted { what: What::Dir, mode, mtime, or: None });
                    self.walk(path, out);
                }
                (false, false) => self.both_files(path, a, b, out),
                (a_is_dir, _) => self.kinds(path, a_is_dir, out),
            },
            (None, None) => {}
        }
    }

    /// There on one side only: new, deleted on the other side, or left over from a deletion
    /// that was skipped.
    fn only_one(&self, side: Side, path: &[u8], node: &Node, out: &mut Expected) {
        let other = side.other();
        let old = old_name(&self.now[side.index()], &self.base[side.index()], path);
        let followed =
            old.filter(|_| self.rules.moves).and_then(|it| self.now[other.index()].get(it));
        let wanted = |node| Wanted { or: followed.map(|it| (it.mode, it.mtime)), ..wanted(node) };
        let was_there = self.base[other.index()].contains_key(path);
        let known = self.base[side.index()].contains_key(path);
        let left_over = known && !was_there;
        let stays = left_over
            || self.rules.skip[side.index()]
            || self.holds_excluded(side, path)
            || self.holds_mount(side, path);
        if is_dir(node) {
            let before = out.lengths();
            self.walk(path, out);
            let grown = |at: Side| out.lengths()[at.index()] > before[at.index()];
            if grown(other) || !known || self.changed(side, path, node) {
                out.on_both(path, wanted(node));
            } else if grown(side) || stays {
                out.on_one(side, path, wanted(node));
            }
        } else if !known || self.changed(side, path, node) {
            out.on_both(path, wanted(node));
        } else if stays {
            out.on_one(side, path, wanted(node));
        } else {
            out.gone.push(gone(side, path, node, Place::Deleted));
        }
    }

    /// Files and links on both sides.
    fn both_files(&self, path: &[u8], a: &Node, b: &Node, out: &mut Expected) {
        let changed = [self.changed(Side::A, path, a), self.changed(Side::B, path, b)];
        let is_known = [Side::A, Side::B].map(|side| self.base[side.index()].contains_key(path));
        if self.look_the_same(a, b)
            && a.what != b.what
            && changed != [false; 2]
            && is_known != [true; 2]
        {
            // A first contact of the same size and time: nobody reads them.
            out.left_alone.push(path.to_vec());
            return;
        }
        let is_in_step = match changed {
            [true, true] => a.what == b.what,
            [false, false] => self.look_the_same(a, b),
            // Only a side without a past may have come to look like the other.
            _ => is_known != [true; 2] && self.look_the_same(a, b),
        };
        let winner = if is_in_step {
            None
        } else {
            Some(match changed {
                [true, false] => Side::A,
                [false, true] => Side::B,
                _ if self.rules.force => self.prevalent(),
                _ => match compare_coarsely(a.mtime, b.mtime) {
                    Ordering::Greater => Side::A,
                    Ordering::Less => Side::B,
                    Ordering::Equal => self.prevalent(),
                },
            })
        };
        let from = winner.unwrap_or(self.prevalent()).of(a, b);
        let mode = self.mode(path, a, b, winner);
        let mtime = match winner {
            None if compare_coarsely(a.mtime, b.mtime) == Ordering::Less => b.mtime,
            None => a.mtime,
            Some(_) => from.mtime,
        };
        out.on_both(path, Wanted { mode, mtime, ..wanted(from) });
        if let Some(winner) = winner {
            let loser = winner.other();
            if loser.of(a, b).what != from.what {
                out.gone.push(gone(loser, path, loser.of(a, b), Place::Backup));
            }
        }
    }

    /// A directory on one side, a file or link on the other.
    fn kinds(&self, path: &[u8], a_is_dir: bool, out: &mut Expected) {
        let dir_side = if a_is_dir { Side::A } else { Side::B };
        let file = &self.now[dir_side.other().index()][path];
        let dir_changed = self.dir_changed(dir_side, path);
        let file_changed = self.changed(dir_side.other(), path, file);
        let conflict = dir_changed && file_changed;
        let dir_wins = if conflict { self.prevalent() == dir_side } else { dir_changed };

        let forbidden = !conflict && self.rules.skip[dir_side.index()];
        let has_to_stay = self.holds_excluded(dir_side, path) || self.holds_mount(dir_side, path);
        if !dir_wins && (forbidden || has_to_stay) {
            out.left_alone.push(path.to_vec());
            out.warns = true;
        }
        let winner = if dir_wins { dir_side } else { dir_side.other() };
        let place = if conflict { Place::Backup } else { Place::Either };
        for (path, node) in subtree(&self.now[winner.index()], path) {
            out.on_both(path, wanted(node));
        }
        for (path, node) in subtree(&self.now[winner.other().index()], path) {
            if !is_dir(node) {
                out.gone.push(gone(winner.other(), path, node, place));
            }
        }
    }

    fn holds_excluded(&self, side: Side, path: &[u8]) -> bool {
        subtree(&self.excluded[side.index()], path).next().is_some()
    }

    /// A mount point cannot be taken away.
    fn holds_mount(&self, side: Side, path: &[u8]) -> bool {
        self.mounts[side.index()].iter().any(|mount| is_within(mount, path))
    }

    /// A directory counts as changed when it is new, or when something below it was
    /// created or modified.
    fn dir_changed(&self, side: Side, path: &[u8]) -> bool {
        subtree(&self.now[side.index()], path).any(|(path, node)| self.changed(side, path, node))
    }

    /// Created or modified against the side's own baseline; metadata does not count. A file that
    /// looks as it did but is another one is compared with the other side's, if that is unchanged.
    fn changed(&self, side: Side, path: &[u8], node: &Node) -> bool {
        let other = side.other();
        let is_another = |side: Side, node: &Node| {
            let before = self.base[side.index()].get(path);
            matches!(node.what, What::File(_))
                && before.is_some_and(|it| (it.ino, it.born) != (node.ino, node.born))
        };
        if self.looks_changed(side, path, node) || !is_another(side, node) {
            return self.looks_changed(side, path, node);
        }
        let across = self.now[other.index()].get(path).filter(|across| {
            !self.looks_changed(other, path, across) && !is_another(other, across)
        });
        across.is_none_or(|across| across.what != node.what)
    }

    /// By size and time.
    fn looks_changed(&self, side: Side, path: &[u8], node: &Node) -> bool {
        let Some(before) = self.base[side.index()].get(path) else { return true };
        match (&node.what, &before.what) {
            (What::Dir, What::Dir) => false,
            (What::File(now), What::File(then)) => {
                now.len() != then.len()
                    || node.mtime != before.mtime
                    || (self.rules.checksum && now != then)
            }
            (What::Link(now), What::Link(then)) => now != then || node.mtime != before.mtime,
            (now, then) => now != then,
        }
    }

    fn look_the_same(&self, a: &Node, b: &Node) -> bool {
        let content = match (&a.what, &b.what) {
            (What::File(a), What::File(b)) => {
                a.len() == b.len() && (!self.rules.checksum || a == b)
            }
            (a, b) => a == b,
        };
        content && compare_coarsely(a.mtime, b.mtime) == Ordering::Equal
    }

    /// The mode is a field of its own; `winner` gives the content, none if it is the same.
    fn mode(&self, path: &[u8], a: &Node, b: &Node, winner: Option<Side>) -> u32 {
        let same_kind = |x: &Node, y: &Node| kind(&x.what) == kind(&y.what);
        let before = self.base.each_ref().map(|tree| tree.get(path));
        let merged = match before {
            [Some(base_a), Some(base_b)]
                if same_kind(a, b) && same_kind(a, base_a) && same_kind(b, base_b) =>
            {
                match (a.mode != base_a.mode, b.mode != base_b.mode) {
                    (true, false) => Side::A,
                    (false, true) => Side::B,
                    _ => match a.ctime.cmp(&b.ctime) {
                        Ordering::Greater => Side::A,
                        Ordering::Less => Side::B,
                        Ordering::Equal => self.prevalent(),
                    },
                }
            }
            _ => winner.unwrap_or(self.prevalent()),
        };
        merged.of(a, b).mode
    }

    /// The time of a directory follows the side where it changed; both: the newer.
    fn dir_mtime(&self, path: &[u8], a: &Node, b: &Node) -> Mtime {
        let unchanged = |side: Side, node: &Node| {
            let before = self.base[side.index()].get(path);
            before.is_some_and(|before| is_dir(before) && before.mtime == node.mtime)
        };
        match (unchanged(Side::A, a), unchanged(Side::B, b)) {
            (false, true) => a.mtime,
            (true, false) => b.mtime,
            _ => a.mtime.max(b.mtime),
        }
    }

    fn prevalent(&self) -> Side {
        if self.rules.target_prevails { Side::B } else { Side::A }
    }
}

impl Side {
    pub fn other(self) -> Side {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }

    pub fn index(self) -> usize {
        self as usize
    }

    fn of<'n>(self, a: &'n Node, b: &'n Node) -> &'n Node {
        match self {
            Side::A => a,
            Side::B => b,
        }
    }
}

/// The name that an entry had in the baseline of its side, if it has another one now.
fn old_name<'t>(now: &Tree, base: &'t Tree, path: &[u8]) -> Option<&'t Vec<u8>> {
    let node = now.get(path).filter(|_| !base.contains_key(path))?;
    let same = |before: &Node| {
        (before.ino, before.born, kind(&before.what)) == (node.ino, node.born, kind(&node.what))
    };
    base.iter().find(|(old, before)| same(before) && !now.contains_key(*old)).map(|(old, _)| old)
}

/// Gives what a baseline knows of a name, and of all below it that is no longer there, to
/// a new name.
fn rebase(base: &mut Tree, now: &Tree, old: &[u8], new: &[u8]) {
    let moved: Vec<(Vec<u8>, Node)> = subtree(base, old)
        .filter(|(path, _)| !now.contains_key(*path))
        .map(|(path, node)| ([new, &path[old.len()..]].concat(), node.clone()))
        .collect();
    for (path, node) in moved {
        base.entry(path).or_insert(node);
    }
}

/// To the coarser precision of the two: no nanoseconds count as whole seconds.
pub fn compare_coarsely(a: Mtime, b: Mtime) -> Ordering {
    if a.nanos == 0 || b.nanos == 0 { a.secs.cmp(&b.secs) } else { a.cmp(&b) }
}

fn is_dir(node: &Node) -> bool {
    node.what == What::Dir
}

fn kind(what: &What) -> u8 {
    match what {
        What::File(_) => 0,
        What::Dir => 1,
        What::Link(_) => 2,
        What::Special(_) => 3,
    }
}

fn wanted(node: &Node) -> Wanted {
    Wanted { what: node.what.clone(), mode: node.mode, mtime: node.mtime, or: None }
}

fn gone(side: Side, path: &[u8], node: &Node, place: Place) -> Gone {
    Gone { side, path: path.to_vec(), what: node.what.clone(), place }
}

/// The paths right below a directory.
fn children<'t>(tree: &'t Tree, dir: &[u8]) -> impl Iterator<Item = &'t [u8]> {
    let dir = dir.to_vec();
    tree.keys().map(Vec::as_slice).filter(move |path| parent(path) == dir)
}

/// An entry and all below it.
fn subtree<'t>(tree: &'t Tree, top: &[u8]) -> impl Iterator<Item = (&'t Vec<u8>, &'t Node)> {
    let top = top.to_vec();
    let below = [&top, &b"/"[..]].concat();
    tree.iter().filter(move |(path, _)| **path == top || path.starts_with(&below))
}

/// Below which directories of one side nothing is known (spec 8, "Mount points"): a disk went or
/// came there since the baseline, another directory is there than then, and something that the
/// baseline knows is missing in it.
pub fn not_mounted(base: &Tree, now: &Tree, mounts: &Mounts, mounts_then: &Mounts) -> Vec<Vec<u8>> {
    let mut found: Vec<Vec<u8>> = Vec::new();
    for path in mounts.union(mounts_then) {
        let is_same = |before: &Node| {
            now.get(path).is_some_and(|node| (node.ino, node.born) == (before.ino, before.born))
        };
        let is_other = base.get(path).is_some_and(|before| !is_same(before));
        let is_missing = |known: &Vec<u8>| known != path && !now.contains_key(known);
        let lacks = subtree(base, path).any(|(known, _)| is_missing(known));
        if is_other && lacks && !found.iter().any(|top| is_within(path, top)) {
            found.push(path.clone());
        }
    }
    found
}

/// Whether a path is this one, or below it.
pub fn is_within(path: &[u8], top: &[u8]) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// The directory that holds a path.
pub fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|b| *b == b'/').map_or(b"", |at| &path[..at])
}

/// The rows of the specification's table, so that the model itself can be trusted.
#[test]
fn the_model_decides_as_the_table_of_the_specification_says() {
    // (baseline of both, a, b, both afterwards); the initiator prevails
    let cases: &[(&str, &str, &str, &str)] = &[
        ("", "f x a 5", "", "f x a"),
        ("", "", "d e/g", "d e\nd e/g"),
        ("f x o 5", "f x o 5", "f x o 5", "f x o"),
        ("f x old 5", "f x a 3", "f x old 5", "f x a"),
        ("f x old 5", "f x old 5", "f x b 3", "f x b"),
        ("f x old 5", "f x a 6", "f x b 7", "f x b"),
        ("f x old 5", "f x a 7", "f x bb 7.5", "f x a"),
        ("f x old 5", "f x a 7.4", "f x bb 7.5", "f x bb"),
        ("f x old 5", "", "f x old 5", ""),
        ("f x old 5", "", "f x new 6", "f x new"),
        ("f x old 5 644", "", "f x old 5 600", ""),
        ("f x old 5", "", "", ""),
        ("", "f x a 6", "f x b 7", "f x b"),
        ("d e\nf e/x o 5\nf e/y o 5", "", "d e\nf e/x n 6\nf e/y o 5", "d e\nf e/x n"),
        ("d e\nf e/x o 5", "", "d e\nf e/x o 5\nd e/z", "d e\nd e/z"),
        ("d e\nf e/x o 5", "", "d e\nf e/x o 5", ""),
        ("f x o 5", "f x a 6", "d x\nf x/y b 7", "f x a"),
        ("f x o 5", "f x o 5", "d x\nf x/y b 7", "d x\nf x/y b"),
        ("d e\nf e/x o 5", "f e a 6", "d e\nf e/x o 5", "f e a"),
        ("d e\nf e/x o 5\nf e/y o 5", "f e a 6", "d e\nf e/x o 5", "f e a"),
        (
            "d e\nf e/x o 5\nf e/y o 5",
            "d e\nf e/x n 6\nf e/y o 5",
            "f e b 7",
            "d e\nf e/x n\nf e/y o",
        ),
        ("l x o 5", "f x a 6", "l x b 7", "l x b"),
    ];
    for (base, a, b, expected) in cases {
        let [base, mut a, mut b] = [base, a, b].map(|text| {
            let root = tempfile::tempdir().unwrap();
            super::trees::make(root.path(), text);
            super::trees::read(root.path())
        });
        // what nobody touched is the very same file
        for (path, node) in a.iter_mut().chain(b.iter_mut()) {
            if let Some(old) = base.get(path)
                && (&old.what, old.mtime) == (&node.what, node.mtime)
            {
                (node.ino, node.born) = (old.ino, old.born);
            }
        }
        let rules = Rules {
            target_prevails: false,
            force: false,
            checksum: false,
            skip: [false; 2],
            moves: true,
        };
        let found = Model::new(rules, [&a, &b], [&base, &base], Default::default(), |_, _| false)
            .expected();
        assert_eq!(found.lengths()[0], found.lengths()[1]);
        let found: Vec<String> = found.trees[0]
            .iter()
            .map(|(path, wanted)| {
                let path = super::trees::escape(path);
                match &wanted.what {
                    What::File(content) => format!("f {path} {}", super::trees::escape(content)),
                    What::Link(target) => format!("l {path} {}", super::trees::escape(target)),
                    _ => format!("d {path}"),
                }
            })
            .collect();
        assert_eq!(found.join("\n"), *expected, "{base:?} {a:?} {b:?}");
    }
}

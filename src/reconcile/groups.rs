//! Names that share an inode, found in whole trees (PRESERVE_HARDLINKS; spec 4, "Hard
//! links").
//!
//! A name that is in step by itself may belong to a group that is not: another name joined
//! it, left it, or got new content. Such names need thought too.

use crate::config::Preserve;
use crate::tree::same::looks_alike;
use crate::tree::{Entry, Kind, NodeId, Pair, Side, Standing, Tree};
use std::collections::{HashMap, HashSet};

/// What tells that two names of a replica are one file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Inode {
    dev: u32,
    ino: u64,
}

/// The inode of an entry that may have other names; none for all else. Only regular files
/// are kept linked.
#[must_use]
pub fn shared(entry: &Entry) -> Option<Inode> {
    (entry.shared_inode && entry.kind == Kind::File && entry.ino != 0)
        .then_some(Inode { dev: entry.dev, ino: entry.ino })
}

/// The entries, on each side, of all groups that are not the same on both sides.
pub type OutOfStep = Pair<HashSet<NodeId>>;

struct Groups<'a> {
    trees: &'a Pair<Tree>,
    of: Pair<HashMap<Inode, Vec<NodeId>>>,
}

/// Finds groups whose names or contents are not the same on both sides, with all that
/// hangs together with them on either side.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::testing::{plan, preserve_all, rules, situation, words};

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
        let hardlinks = Preserve { hardlinks: true, ..preserve_all() };
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
            let without = out_of_step(&trees, &preserve_all());
            assert!(without.initiator.is_empty() && without.target.is_empty(), "{what}");
        }
    }
}

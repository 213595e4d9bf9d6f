//! Which entries are what an interrupted rsync left behind (spec 4, "Interruption").

use crate::replica::temp;
use crate::state::{Inflight, Part};
use crate::tree::{NodeId, Pair, RelPath, Side, Standing, Tree};
use std::collections::BTreeMap;

/// Finds rsync's temporary files on a side: named after a path that was in flight, in its
/// directory, and younger than the run that was broken off. What the other side has under
/// the same name is somebody's file.
pub fn find(trees: &Pair<Tree>, side: Side, inflight: &Inflight) -> Vec<NodeId> {
    let finder = Finder { trees, side, inflight };
    let mut found = Vec::new();
    let mut names: BTreeMap<RelPath, Vec<Vec<u8>>> = BTreeMap::new();
    for flying in inflight.paths.iter().filter(|flying| brings(flying.part)) {
        if let Some(parent) = flying.path.parent() {
            names.entry(parent).or_default().push(flying.path.name().to_vec());
        }
        if flying.part == Part::Subtree {
            finder.below(&flying.path, &mut found);
        }
    }
    for (dir, names) in names {
        finder.in_dir(&dir, &names, &mut found);
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn brings(part: Part) -> bool {
    matches!(part, Part::Itself | Part::Subtree)
}

struct Finder<'a> {
    trees: &'a Pair<Tree>,
    side: Side,
    inflight: &'a Inflight,
}

impl Finder<'_> {
    fn in_dir(&self, dir: &RelPath, names: &[Vec<u8>], found: &mut Vec<NodeId>) {
        let tree = &self.trees[self.side];
        let other = &self.trees[self.side.other()];
        let across = other.find(dir);
        let Some(here) = tree.find(dir) else { return };
        for child in tree.children(here) {
            let (name, entry) = (tree.name(child), tree.entry(child));
            let is_ours = name.first() == Some(&b'.')
                && tree.standing(child) == Standing::Present
                && entry.ctime > self.inflight.began[self.side]
                && across.is_none_or(|dir| other.child(dir, name).is_none())
                && names.iter().any(|flying| temp::is_left_over(name, entry.kind, flying));
            if is_ours {
                found.push(child);
            }
        }
    }

    /// A whole subtree was in flight: its names are those that the sending side has.
    fn below(&self, top: &RelPath, found: &mut Vec<NodeId>) {
        let source = &self.trees[self.side.other()];
        let Some(top_id) = source.find(top) else { return };
        let mut dirs = vec![(top_id, top.clone())];
        while let Some((dir, path)) = dirs.pop() {
            let names: Vec<Vec<u8>> =
                source.children(dir).map(|id| source.name(id).to_vec()).collect();
            self.in_dir(&path, &names, found);
            for child in source.children(dir) {
                if source.entry(child).kind.is_dir() {
                    dirs.push((child, path.join(source.name(child))));
                }
            }
        }
    }
}

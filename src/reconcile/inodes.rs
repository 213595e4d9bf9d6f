//! Whether the inode numbers of a replica mean anything (spec 8, "The same").

use super::Rules;
use super::delta::Delta;
use crate::state::{Header, Recorded};
use crate::tree::same::{Inodes, Since, since};
use crate::tree::{Kind, Pair, Side, Standing, Tree};

/// So few files in doubt are compared sooner than anything else is found out about them.
const FEW: usize = 100;

/// A root that is another directory than in the baseline was copied or restored as a whole, or
/// mounted anew under another device number: so was all that lies in it.
#[must_use]
pub fn of_roots(trees: &Pair<Tree>, header: &Header, rules: &Rules) -> Pair<Inodes> {
    Pair::from_fn(|side: Side| {
        if !rules.abilities[side].keeps_inodes {
            return Inodes::Meaningless;
        }
        let root = trees[side].entry(Tree::ROOT).inode();
        match (header.roots[side], root) {
            (Some(before), Some(now)) if before != now => Inodes::Meaningless,
            _ => Inodes::Count,
        }
    })
}

/// Where more than half of all files have another number than before and nothing else changed
/// about them, the file system numbers anew at each mount.
#[must_use]
pub fn of_files(trees: &Pair<Tree>, delta: &Delta, inodes: Pair<Inodes>) -> Pair<Inodes> {
    Pair::from_fn(|side: Side| {
        if inodes[side] == Inodes::Meaningless {
            return Inodes::Meaningless;
        }
        let tree = &trees[side];
        let is_in_doubt = |path_id: &_| {
            let was = delta.record(*path_id).map(|record| &record.was[side]);
            match (delta.now(*path_id, side), was) {
                (Some(now), Some(Recorded::Seen(before))) => {
                    since(tree.entry(now), before, Inodes::Count) == Since::Doubt
                }
                _ => false,
            }
        };
        let doubts = delta.path_ids().filter(is_in_doubt).count();
        let is_file =
            |id: &_| tree.standing(*id) == Standing::Present && tree.entry(*id).kind == Kind::File;
        let most = doubts > FEW && doubts * 2 > tree.ids().filter(is_file).count();
        if most { Inodes::Meaningless } else { Inodes::Count }
    })
}

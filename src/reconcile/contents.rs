//! Which contents must be read (CHECKSUM; spec 4, "Deciding one path").
//!
//! A digest holds as long as size, mtime, ctime and inode stay, so an unchanged file is not
//! read again. Read are files that agree in size and time with what the other side has, and
//! files that look as they did but were touched.

use crate::state::{Baseline, Damaged, Recorded};
use crate::tree::same::{stamps_agree, times_agree};
use crate::tree::{Abilities, Entry, Extra, Kind, NodeId, Pair, Side, Stamp, Standing, Tree};
use std::collections::BTreeSet;

/// Gives an entry a digest of a sort.
pub fn set_digest(entry: &mut Entry, sort: u8, mut digest: [u8; 32]) {
    digest[0] = sort;
    entry.set_extra(Extra { content: Some(digest), ..entry.extra().clone() });
}

/// Takes over the digests of the baseline that still hold, and tells which files must be
/// read for one.
///
/// # Errors
/// The baseline cannot be read to its end.
pub fn recall(
    trees: &mut Pair<Tree>,
    baseline: &Baseline,
    sort: u8,
    abilities: &Pair<Abilities>,
) -> Result<Pair<BTreeSet<NodeId>>, Damaged> {
    let mut wanted: Pair<BTreeSet<NodeId>> = Pair::default();
    for item in baseline.records() {
        let (path, record) = item?;
        for side in Side::BOTH {
            let Recorded::Seen(before) = &record.was[side] else { continue };
            let Some(digest) = before.extra().content.filter(|digest| digest[0] == sort) else {
                continue;
            };
            let tree = &mut trees[side];
            let Some(id) = tree.find(&path).filter(|id| is_file(tree, *id)) else { continue };
            let now = tree.entry_mut(id);
            if !stamps_agree(now, before) {
                continue;
            }
            // A ctime that is a copy of the mtime tells nothing.
            let is_untouched = now.ctime == before.ctime && now.ino == before.ino;
            if is_untouched && abilities[side].own_ctime {
                set_digest(now, sort, digest);
            } else {
                wanted[side].insert(id);
            }
        }
    }
    let Pair { initiator, target } = &*trees;
    for id in initiator.ids().filter(|id| is_file(initiator, *id)) {
        let across = target.find(&initiator.path(id)).filter(|id| is_file(target, *id));
        let Some(across) = across else { continue };
        let (a, b) = (initiator.entry(id), target.entry(across));
        if a.size == b.size && times_agree(a, b) {
            for (side, id, entry) in [(Side::Initiator, id, a), (Side::Target, across, b)] {
                if entry.extra().content.is_none() {
                    wanted[side].insert(id);
                }
            }
        }
    }
    Ok(wanted)
}

fn is_file(tree: &Tree, id: NodeId) -> bool {
    tree.standing(id) == Standing::Present && tree.entry(id).kind == Kind::File
}

/// Forgets the digests of files that were touched so lately that a further change might
/// show no other time: they are read again by the next run.
pub fn forget_fresh(tree: &mut Tree, began: Stamp) {
    let fresh: Vec<NodeId> = tree
        .ids()
        .filter(|id| {
            let entry = tree.entry(*id);
            entry.extra().content.is_some() && entry.ctime.secs() >= began.secs().saturating_sub(2)
        })
        .collect();
    for id in fresh {
        let entry = tree.entry_mut(id);
        entry.set_extra(Extra { content: None, ..entry.extra().clone() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::testing::{path, plan, rules, situation, words};
    use crate::state::Record;
    use crate::tree::same::digests_agree;

    const SORT: u8 = 2;

    fn with(text: &str, side: Side, digest: u8, ctime: i64) -> Entry {
        let (_, mut entry) = crate::reconcile::testing::entry(text, &path("a"), side).unwrap();
        if digest > 0 {
            set_digest(&mut entry, SORT, [digest; 32]);
        }
        entry.ctime = Stamp::new(ctime, 0);
        entry
    }

    /// What is read and what is planned for a file of 1 byte that both sides have: its
    /// digest and ctime before and now, by side; 0 is no digest.
    fn case(was: [(u8, i64); 2], now: [(u8, i64); 2]) -> (Vec<Side>, Vec<String>) {
        let mut situation = situation("a: f1@1 f1@1 f1@1 f1@1");
        let seen = |side: Side, (digest, ctime)| Recorded::Seen(with("f1@1", side, digest, ctime));
        let record = Record {
            was: Pair::new(seen(Side::Initiator, was[0]), seen(Side::Target, was[1])),
            ..Record::default()
        };
        situation.baseline =
            Baseline::from_records(situation.baseline.header().clone(), [(path("a"), record)]);
        for (side, (_, ctime)) in [(Side::Initiator, now[0]), (Side::Target, now[1])] {
            let id = situation.trees[side].find(&path("a")).unwrap();
            situation.trees[side].entry_mut(id).ctime = Stamp::new(ctime, 0);
        }
        let wanted =
            recall(&mut situation.trees, &situation.baseline, SORT, &Pair::default()).unwrap();
        let mut read = Vec::new();
        for (side, (digest, _)) in [(Side::Initiator, now[0]), (Side::Target, now[1])] {
            for id in &wanted[side] {
                set_digest(situation.trees[side].entry_mut(*id), SORT, [digest; 32]);
                read.push(side);
            }
        }
        let mut rules = rules();
        rules.preserve.checksum = true;
        (read, words(&plan(&situation, &rules)))
    }

    #[test]
    fn contents_are_read_only_when_something_was_touched_and_decide_then() {
        use Side::{Initiator, Target};
        type Case = (
            &'static str,
            [(u8, i64); 2],
            [(u8, i64); 2],
            &'static [Side],
            &'static [&'static str],
        );
        let cases: [Case; 7] = [
            ("unchanged", [(7, 1), (7, 1)], [(7, 1), (7, 1)], &[], &[]),
            ("touched, the same", [(7, 1), (7, 1)], [(7, 5), (7, 1)], &[Initiator], &[]),
            (
                "edited with its time put back",
                [(7, 1), (7, 1)],
                [(9, 5), (7, 1)],
                &[Initiator],
                &[">> send a", "Warn a"],
            ),
            (
                "likewise on the target",
                [(7, 1), (7, 1)],
                [(7, 1), (9, 5)],
                &[Target],
                &["<< send a", "Warn a"],
            ),
            (
                "never read before, the same",
                [(0, 1), (0, 1)],
                [(7, 1), (7, 1)],
                &[Initiator, Target],
                &[],
            ),
            (
                "never read before, one touched",
                [(0, 1), (0, 1)],
                [(7, 1), (9, 5)],
                &[Initiator, Target],
                &["<< send a"],
            ),
            (
                "never read before, and they differ",
                [(0, 1), (0, 1)],
                [(7, 1), (9, 1)],
                &[Initiator, Target],
                &[">> send a", "conflict a initiator Tie"],
            ),
        ];
        for (what, was, now, read, planned) in cases {
            let (got_read, got) = case(was, now);
            assert_eq!(got_read, read, "{what}: read");
            assert_eq!(got, planned, "{what}: planned");
        }
    }

    #[test]
    fn only_files_that_look_the_same_on_both_sides_are_read() {
        let mut situation = situation(
            "a: - - f1@1 f1@1
             b: - - f1@1 f1@9
             c: - - f1@1 f2@1
             d: - - d@1 d@1
             e: - - x f0@1
             f: - - f0@1 x
             l: - - l:a@1 l:a@1",
        );
        let wanted =
            recall(&mut situation.trees, &situation.baseline, SORT, &Pair::default()).unwrap();
        for side in Side::BOTH {
            let tree = &situation.trees[side];
            let names: Vec<_> = wanted[side].iter().map(|id| tree.name(*id)).collect();
            assert_eq!(names, [b"a"], "{side}");
        }
    }

    #[test]
    fn a_digest_of_another_sort_says_nothing_and_a_fresh_one_is_forgotten() {
        let (mut a, mut b) =
            (with("f1@1", Side::Initiator, 7, 1), with("f1@1", Side::Target, 7, 1));
        assert_eq!(digests_agree(&a, &b), Some(true));
        set_digest(&mut b, SORT, [8; 32]);
        assert_eq!(digests_agree(&a, &b), Some(false));
        set_digest(&mut a, 1, [7; 32]);
        assert_eq!(digests_agree(&a, &b), None);
        let mut situation = situation("a: - - f1@1 -\nb: - - f1@9 -");
        let tree = &mut situation.trees.initiator;
        let ids: Vec<NodeId> = tree.ids().collect();
        for id in &ids {
            set_digest(tree.entry_mut(*id), SORT, [7; 32]);
        }
        forget_fresh(tree, Stamp::new(10, 0));
        let known: Vec<bool> =
            ids.iter().map(|id| tree.entry(*id).extra().content.is_some()).collect();
        assert_eq!(known, [true, false]);
        forget_fresh(tree, Stamp::UNKNOWN);
        assert!(ids.iter().all(|id| tree.entry(*id).extra().content.is_none()), "in doubt, all");
    }
}

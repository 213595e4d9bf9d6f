//! Compares an entry with its own side's baseline (spec 4, "Deciding one path"), and finds out
//! which contents have to be read to do so.

use crate::config::Preserve;
use crate::state::{Baseline, BaselineDamaged, Digests, Recorded};
use crate::tree::same::{ContentChange, Inodes, content_change, stamps_agree, times_agree};
use crate::tree::{Abilities, Entry, Extra, Kind, NodeId, Pair, Side, Stamp, Standing, Tree};
use std::collections::BTreeSet;

/// What happened to a path on one side since the last run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SideChange {
    /// Not there before and not there now.
    Absent,
    /// There before, gone now.
    Deleted,
    /// Not there before, there now.
    Created,
    /// The same as before.
    Unchanged,
    /// Only mode, owner, group, ACL or attributes changed: no new work.
    Metadata,
    /// Content, kind or link target changed.
    Modified,
}

impl SideChange {
    /// Whether the side has new work at the path.
    #[must_use]
    pub fn is_new_work(self) -> bool {
        matches!(self, SideChange::Created | SideChange::Modified)
    }
}

/// The settings of a comparison with a side's own baseline.
#[derive(Clone, Copy, Debug)]
pub struct Measure<'a> {
    /// The date of osync 1.3's list, for paths that only the list knows.
    pub listed_at: Stamp,
    /// Which metadata counts.
    pub preserve: &'a Preserve,
    /// Whether inode numbers can be compared.
    pub inodes: Inodes,
}

/// Compares what a side has with its baseline; `None` if only the content can tell.
#[must_use]
pub fn change(now: Option<&Entry>, was: &Recorded, by: Measure<'_>) -> Option<SideChange> {
    let Some(now) = now else {
        return Some(if *was == Recorded::Absent {
            SideChange::Absent
        } else {
            SideChange::Deleted
        });
    };
    match was {
        Recorded::Absent => Some(SideChange::Created),
        Recorded::Seen(before) => against(now, before, by),
        Recorded::Listed(Some(before))
            if content_change(now, before, by.inodes) == ContentChange::Unchanged =>
        {
            against(now, before, by)
        }
        Recorded::Listed(_) if !now.kind.is_dir() && now.mtime > by.listed_at => {
            Some(SideChange::Modified)
        }
        Recorded::Listed(_) => Some(SideChange::Unchanged),
    }
}

fn against(now: &Entry, before: &Entry, by: Measure<'_>) -> Option<SideChange> {
    match content_change(now, before, by.inodes) {
        ContentChange::Changed => Some(SideChange::Modified),
        ContentChange::Unchanged => Some(metadata_change(now, before, by.preserve)),
        ContentChange::Doubt => None,
    }
}

/// The change of an entry whose content is unchanged.
#[must_use]
pub fn metadata_change(now: &Entry, before: &Entry, preserve: &Preserve) -> SideChange {
    if same_metadata(now, before, preserve) { SideChange::Unchanged } else { SideChange::Metadata }
}

/// Whether two entries of one side, or of both, agree in all metadata that is preserved.
/// The mode of a symbolic link means nothing.
#[must_use]
pub fn same_metadata(a: &Entry, b: &Entry, preserve: &Preserve) -> bool {
    (a.kind == Kind::Symlink || same_mode(a.mode, b.mode, a.kind, preserve))
        && (!preserve.owner || a.uid == b.uid)
        && (!preserve.group || a.gid == b.gid)
        && (!preserve.acl || a.extra().acl == b.extra().acl)
        && (!preserve.xattr || a.extra().xattr == b.extra().xattr)
}

fn same_mode(a: u16, b: u16, kind: Kind, preserve: &Preserve) -> bool {
    if preserve.permissions {
        a == b
    } else if preserve.executability && kind == Kind::File {
        (a & 0o111 == 0) == (b & 0o111 == 0)
    } else {
        true
    }
}

// Which contents have to be read (CHECKSUM; spec 4, "Deciding one path"). A digest is
// valid as long as size, mtime, ctime and inode stay the same, so an unchanged file is not read
// again. Read are files that agree in size and time with the other side's, and files that were
// touched but look the same.

/// Stores a digest of its content in an entry. `sort` names the algorithm.
pub fn set_digest(entry: &mut Entry, sort: u8, mut digest: [u8; 32]) {
    digest[0] = sort;
    entry.set_extra(Extra { content: Some(digest), ..entry.extra().clone() });
}

/// Copies the digests of the baseline that are still valid into the trees, and returns the files
/// that have to be read.
///
/// # Errors
/// The baseline cannot be read to its end.
pub fn recall_digests(
    trees: &mut Pair<Tree>,
    baseline: &Baseline,
    sort: u8,
    abilities: &Pair<Abilities>,
) -> Result<Pair<BTreeSet<NodeId>>, BaselineDamaged> {
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
            // On a file system without a ctime of its own, the ctime proves nothing.
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

/// Takes the digests that a scrub has recorded for those files that else have to be read, and that
/// look exactly as they did then.
pub fn recall_recorded(
    trees: &mut Pair<Tree>,
    wanted: &mut Pair<BTreeSet<NodeId>>,
    recorded: &Digests,
    sort: u8,
    abilities: &Pair<Abilities>,
) {
    for side in Side::BOTH.into_iter().filter(|side| abilities[*side].own_ctime) {
        let tree = &mut trees[side];
        wanted[side].retain(|id| {
            let file = recorded.get(&tree.path(*id)).filter(|file| file.algorithm == sort);
            let held = file.and_then(|file| file.held_by(side, tree.entry(*id)));
            held.inspect(|digest| set_digest(tree.entry_mut(*id), sort, *digest)).is_none()
        });
    }
}

fn is_file(tree: &Tree, id: NodeId) -> bool {
    tree.standing(id) == Standing::Present && tree.entry(id).kind == Kind::File
}

/// Forgets the digests of files that were touched so lately that a further change might
/// show no other time: they are read again by the next run.
pub fn forget_uncertain_digests(tree: &mut Tree, began: Stamp) {
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
    use crate::tree::Extra;

    fn file(size: u64, mtime: i64, mode: u16) -> Entry {
        let mut entry = Entry::new(Kind::File);
        (entry.size, entry.mtime, entry.mode) = (size, Stamp::new(mtime, 5), mode);
        entry
    }

    fn by(listed_at: i64, preserve: &Preserve) -> Measure<'_> {
        Measure { listed_at: Stamp::new(listed_at, 0), preserve, inodes: Inodes::Reliable }
    }

    #[test]
    fn a_side_is_compared_with_its_own_baseline() {
        let now = file(1, 10, 0o644);
        let seen = |size, mtime, mode| Recorded::Seen(file(size, mtime, mode));
        let link = Recorded::Seen(Entry::new(Kind::Symlink));
        for (case, now, was, expected) in [
            ("nothing at all", None, Recorded::Absent, SideChange::Absent),
            ("gone", None, seen(1, 10, 0o644), SideChange::Deleted),
            ("gone, known from a list", None, Recorded::Listed(None), SideChange::Deleted),
            ("new", Some(&now), Recorded::Absent, SideChange::Created),
            ("as it was", Some(&now), seen(1, 10, 0o644), SideChange::Unchanged),
            ("another mode", Some(&now), seen(1, 10, 0o600), SideChange::Metadata),
            ("another size", Some(&now), seen(2, 10, 0o644), SideChange::Modified),
            ("an older time", Some(&now), seen(1, 11, 0o644), SideChange::Modified),
            ("another kind", Some(&now), link, SideChange::Modified),
            ("older than the list", Some(&now), Recorded::Listed(None), SideChange::Unchanged),
            (
                "a snapshot that no longer fits, older than the list",
                Some(&now),
                Recorded::Listed(Some(file(7, 3, 0o644))),
                SideChange::Unchanged,
            ),
            (
                "a snapshot that still fits",
                Some(&now),
                Recorded::Listed(Some(file(1, 10, 0o600))),
                SideChange::Metadata,
            ),
        ] {
            let got = change(now, &was, by(20, &Preserve::USUAL));
            assert_eq!(got, Some(expected), "{case}");
        }
        let listed = change(Some(&now), &Recorded::Listed(None), by(9, &Preserve::USUAL));
        assert_eq!(listed, Some(SideChange::Modified), "newer than the list");
    }

    #[test]
    fn what_is_not_preserved_is_not_compared() {
        let mut preserve = Preserve::USUAL;
        let mut other = file(1, 10, 0o755);
        other.uid = 7;
        let now = file(1, 10, 0o644);
        (preserve.permissions, preserve.owner) = (false, false);
        assert!(!same_metadata(&now, &other, &preserve), "executability differs");
        preserve.executability = false;
        assert!(same_metadata(&now, &other, &preserve));
    }

    #[test]
    fn each_field_of_metadata_counts_only_where_it_is_preserved() {
        let plain = file(1, 10, 0o640);
        let with = |change: fn(&mut Entry)| {
            let mut entry = plain.clone();
            change(&mut entry);
            entry
        };
        let extra = |acl, xattr| Extra { acl, xattr, ..Extra::default() };
        let mut acl = plain.clone();
        acl.set_extra(extra(Some([1; 16]), None));
        let mut xattr = plain.clone();
        xattr.set_extra(extra(None, Some([1; 16])));
        let none = Preserve {
            permissions: false,
            owner: false,
            group: false,
            executability: false,
            ..Preserve::USUAL
        };
        let cases: [(&str, Entry, Preserve); 6] = [
            ("mode", with(|e| e.mode = 0o600), Preserve { permissions: true, ..none }),
            ("x", with(|e| e.mode = 0o740), Preserve { executability: true, ..none }),
            ("owner", with(|e| e.uid = 7), Preserve { owner: true, ..none }),
            ("group", with(|e| e.gid = 7), Preserve { group: true, ..none }),
            ("ACL", acl, Preserve { acl: true, ..none }),
            ("attributes", xattr, Preserve { xattr: true, ..none }),
        ];
        for (i, (what, other, _)) in cases.iter().enumerate() {
            assert!(same_metadata(&plain, other, &none), "{what} is compared without its option");
            for (j, (option, _, preserve)) in cases.iter().enumerate() {
                // a change of the x bits is a change of the mode
                let differs = i == j || (*what == "x" && *option == "mode");
                let same = same_metadata(&plain, other, preserve);
                assert_eq!(same, !differs, "{what} differs, {option} is preserved");
                assert!(same_metadata(&plain, &plain, preserve), "{option}: itself");
            }
        }
        let x = Preserve { executability: true, ..none };
        assert!(
            same_metadata(&file(1, 1, 0o711), &file(1, 1, 0o744), &x),
            "any x bit makes a file executable"
        );
    }

    #[test]
    fn another_file_of_the_same_size_and_time_is_in_doubt() {
        let with = |ino| {
            let mut entry = file(1, 10, 0o644);
            entry.ino = ino;
            entry
        };
        let (now, was) = (with(7), Recorded::Seen(with(8)));
        assert_eq!(change(Some(&now), &was, by(0, &Preserve::USUAL)), None);
        let preserve = Preserve::USUAL;
        let copied = Measure { inodes: Inodes::Meaningless, ..by(0, &preserve) };
        assert_eq!(change(Some(&now), &was, copied), Some(SideChange::Unchanged));
    }

    #[test]
    fn a_file_of_the_very_time_of_the_list_was_in_it() {
        let preserve = Preserve::USUAL;
        let by = Measure { listed_at: Stamp::new(10, 5), ..by(0, &preserve) };
        let change = change(Some(&file(1, 10, 0o644)), &Recorded::Listed(None), by);
        assert_eq!(change, Some(SideChange::Unchanged));
    }
}

#[cfg(test)]
mod contents_tests {
    use super::*;
    use crate::reconcile::testing::{path, plan, rules, situation, words};
    use crate::state::{FileDigests, Held, Record};
    use crate::tree::same::{FileLook, digests_agree};

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
            recall_digests(&mut situation.trees, &situation.baseline, SORT, &Pair::default())
                .unwrap();
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
                &["<< send a", "Warn a"],
            ),
            (
                "never read before, and they differ",
                [(0, 1), (0, 1)],
                [(7, 1), (9, 1)],
                &[Initiator, Target],
                &[">> send a", "conflict a initiator Tie", "Warn a"],
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
            recall_digests(&mut situation.trees, &situation.baseline, SORT, &Pair::default())
                .unwrap();
        for side in Side::BOTH {
            let tree = &situation.trees[side];
            let names: Vec<_> = wanted[side].iter().map(|id| tree.name(*id)).collect();
            assert_eq!(names, [b"a"], "{side}");
        }
    }

    #[test]
    fn what_a_scrub_recorded_is_not_read_unless_it_was_touched_since() {
        use Side::{Initiator, Target};
        let no_ctime = Abilities { own_ctime: false, ..Abilities::default() };
        let touched: fn(&mut Entry) = |entry| entry.ctime = Stamp::new(9, 9);
        let replaced: fn(&mut Entry) = |entry| entry.ino = 777;
        let mounted_anew: fn(&mut Entry) = |entry| entry.dev += 1;
        let same: fn(&mut Entry) = |_| ();
        for (what, sort, since, abilities, read) in [
            ("as it was", SORT, same, Abilities::default(), &[][..]),
            ("mounted anew", SORT, mounted_anew, Abilities::default(), &[]),
            ("touched", SORT, touched, Abilities::default(), &[Target]),
            ("replaced", SORT, replaced, Abilities::default(), &[Target]),
            ("another algorithm", 1, same, Abilities::default(), &[Initiator, Target]),
            ("no ctime there", SORT, same, no_ctime, &[Target]),
        ] {
            let mut situation = situation("a: f1@1 f1@1 f1@1 f1@1");
            let ids = situation.trees.as_ref().map(|tree| tree.find(&path("a")).unwrap());
            let held = Pair::from_fn(|side: Side| {
                let look = FileLook::of(situation.trees[side].entry(ids[side]));
                Some(Held { digest: [7; 32], look })
            });
            let file = FileDigests { algorithm: sort, checked: 1, held };
            let recorded = Digests::from([(path("a"), file)]);
            since(situation.trees.target.entry_mut(ids.target));
            let mut wanted = ids.map(|id| BTreeSet::from([id]));
            let abilities = Pair::new(Abilities::default(), abilities);
            recall_recorded(&mut situation.trees, &mut wanted, &recorded, SORT, &abilities);
            let left: Vec<Side> =
                Side::BOTH.into_iter().filter(|side| !wanted[*side].is_empty()).collect();
            assert_eq!(left, read, "{what}");
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
        forget_uncertain_digests(tree, Stamp::new(10, 0));
        let known: Vec<bool> =
            ids.iter().map(|id| tree.entry(*id).extra().content.is_some()).collect();
        assert_eq!(known, [true, false]);
        forget_uncertain_digests(tree, Stamp::UNKNOWN);
        assert!(ids.iter().all(|id| tree.entry(*id).extra().content.is_none()), "in doubt, all");
    }
}

//! An entry against its own side's baseline (spec 4, "Deciding one path").

use crate::config::Preserve;
use crate::state::Recorded;
use crate::tree::same::{Inodes, Since, since};
use crate::tree::{Entry, Kind, Stamp};

/// What happened to a path on one side since the last run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Not there before and not there now.
    Absent,
    /// There before, gone now.
    Deleted,
    /// Not there before, there now.
    Created,
    /// As it was.
    Unchanged,
    /// Only mode, owner, group, ACL or attributes changed: no new work.
    Metadata,
    /// Content, kind or link target changed.
    Modified,
}

impl Change {
    /// Whether the side has new work at the path.
    #[must_use]
    pub fn is_new_work(self) -> bool {
        matches!(self, Change::Created | Change::Modified)
    }
}

/// What a comparison with a side's own baseline is made with.
#[derive(Clone, Copy, Debug)]
pub struct Measure<'a> {
    /// The date of osync 1.3's list, for paths of which only the list tells.
    pub listed_at: Stamp,
    /// Which metadata counts.
    pub preserve: &'a Preserve,
    /// Whether inode numbers count.
    pub inodes: Inodes,
}

/// Compares what is there with what was there; none: a doubt, which only content can settle.
#[must_use]
pub fn change(now: Option<&Entry>, was: &Recorded, by: Measure<'_>) -> Option<Change> {
    let Some(now) = now else {
        return Some(if *was == Recorded::Absent { Change::Absent } else { Change::Deleted });
    };
    match was {
        Recorded::Absent => Some(Change::Created),
        Recorded::Seen(before) => against(now, before, by),
        Recorded::Listed(Some(before)) if since(now, before, by.inodes) == Since::Unchanged => {
            against(now, before, by)
        }
        Recorded::Listed(_) if !now.kind.is_dir() && now.mtime > by.listed_at => {
            Some(Change::Modified)
        }
        Recorded::Listed(_) => Some(Change::Unchanged),
    }
}

fn against(now: &Entry, before: &Entry, by: Measure<'_>) -> Option<Change> {
    match since(now, before, by.inodes) {
        Since::Changed => Some(Change::Modified),
        Since::Unchanged => Some(with_that_content(now, before, by.preserve)),
        Since::Doubt => None,
    }
}

/// The change of an entry whose content is what it was.
#[must_use]
pub fn with_that_content(now: &Entry, before: &Entry, preserve: &Preserve) -> Change {
    if same_metadata(now, before, preserve) { Change::Unchanged } else { Change::Metadata }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::testing::preserve_all;
    use crate::tree::Extra;

    fn file(size: u64, mtime: i64, mode: u16) -> Entry {
        let mut entry = Entry::new(Kind::File);
        (entry.size, entry.mtime, entry.mode) = (size, Stamp::new(mtime, 5), mode);
        entry
    }

    fn by(listed_at: i64, preserve: &Preserve) -> Measure<'_> {
        Measure { listed_at: Stamp::new(listed_at, 0), preserve, inodes: Inodes::Count }
    }

    #[test]
    fn a_side_is_compared_with_its_own_baseline() {
        let now = file(1, 10, 0o644);
        let seen = |size, mtime, mode| Recorded::Seen(file(size, mtime, mode));
        let link = Recorded::Seen(Entry::new(Kind::Symlink));
        for (case, now, was, expected) in [
            ("nothing at all", None, Recorded::Absent, Change::Absent),
            ("gone", None, seen(1, 10, 0o644), Change::Deleted),
            ("gone, known from a list", None, Recorded::Listed(None), Change::Deleted),
            ("new", Some(&now), Recorded::Absent, Change::Created),
            ("as it was", Some(&now), seen(1, 10, 0o644), Change::Unchanged),
            ("another mode", Some(&now), seen(1, 10, 0o600), Change::Metadata),
            ("another size", Some(&now), seen(2, 10, 0o644), Change::Modified),
            ("an older time", Some(&now), seen(1, 11, 0o644), Change::Modified),
            ("another kind", Some(&now), link, Change::Modified),
            ("older than the list", Some(&now), Recorded::Listed(None), Change::Unchanged),
            (
                "a snapshot that no longer fits, older than the list",
                Some(&now),
                Recorded::Listed(Some(file(7, 3, 0o644))),
                Change::Unchanged,
            ),
            (
                "a snapshot that still fits",
                Some(&now),
                Recorded::Listed(Some(file(1, 10, 0o600))),
                Change::Metadata,
            ),
        ] {
            let got = change(now, &was, by(20, &preserve_all()));
            assert_eq!(got, Some(expected), "{case}");
        }
        let listed = change(Some(&now), &Recorded::Listed(None), by(9, &preserve_all()));
        assert_eq!(listed, Some(Change::Modified), "newer than the list");
    }

    #[test]
    fn what_is_not_preserved_is_not_compared() {
        let mut preserve = preserve_all();
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
            ..preserve_all()
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
        assert_eq!(change(Some(&now), &was, by(0, &preserve_all())), None);
        let preserve = preserve_all();
        let copied = Measure { inodes: Inodes::Meaningless, ..by(0, &preserve) };
        assert_eq!(change(Some(&now), &was, copied), Some(Change::Unchanged));
    }

    #[test]
    fn a_file_of_the_very_time_of_the_list_was_in_it() {
        let preserve = preserve_all();
        let by = Measure { listed_at: Stamp::new(10, 5), ..by(0, &preserve) };
        let change = change(Some(&file(1, 10, 0o644)), &Recorded::Listed(None), by);
        assert_eq!(change, Some(Change::Unchanged));
    }
}

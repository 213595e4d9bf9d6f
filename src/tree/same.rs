//! What "the same" means (spec 8, "The same"). Everything that compares two entries does it with
//! these functions: the reconciliation, the check right before a change, the recording, the
//! detection of renames, and the monitor.
//!
//! Size and time are evidence, not proof. Where they do not suffice, the result is a doubt, and
//! comparing the contents settles it ([`Comparison`]).

use super::{Entry, Inode, Kind, Stamp};
use std::cmp::Ordering;

/// What happened to an entry's content since its own side's baseline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ContentChange {
    /// It has the same content.
    Unchanged,
    /// It looks the same, but another file may have taken its name.
    Doubt,
    /// Its content, kind, link target or device number changed.
    Changed,
}

/// Whether two entries hold the same, as far as can be told without reading them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sameness {
    /// They do.
    Same,
    /// Only comparing the contents can tell.
    Doubt,
    /// They do not.
    Different,
}

/// What equal modification times on both sides of a path say about the contents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EqualTimes {
    /// That they are the same: a side has no baseline, and nothing but a copy gives two files
    /// the same time.
    Suffice,
    /// Nothing, because both sides changed since their baselines.
    ProveNothing,
}

/// The result of comparing two contents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comparison {
    /// They are the same, byte for byte.
    Same,
    /// They differ.
    Different,
    /// They could not be compared, for example because one of them is not readable.
    Unknown,
}

/// Whether the inode numbers of a replica can be compared with those in its baseline.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Inodes {
    /// They can: a file with another number is another file.
    #[default]
    Reliable,
    /// They cannot: the replica was copied or restored as a whole, or its file system assigns new
    /// numbers at each mount.
    Meaningless,
}

/// Compares an entry with its own side's baseline.
#[must_use]
pub fn content_change(now: &Entry, before: &Entry, inodes: Inodes) -> ContentChange {
    if !stamps_agree(now, before) {
        return ContentChange::Changed;
    }
    if now.kind != Kind::File {
        return ContentChange::Unchanged;
    }
    match digests_agree(now, before) {
        Some(true) => return ContentChange::Unchanged,
        Some(false) => return ContentChange::Changed,
        // The file was touched, and is read for the first time: the baseline has no digest to
        // compare with.
        None if now.extra().content.is_some() && now.ctime != before.ctime => {
            return ContentChange::Doubt;
        }
        None => {}
    }
    if is_another(now, before) && inodes == Inodes::Reliable {
        ContentChange::Doubt
    } else {
        ContentChange::Unchanged
    }
}

/// Whether another file has taken the name. A new file may get the inode number of one that was
/// removed; then the birth time tells them apart.
fn is_another(now: &Entry, before: &Entry) -> bool {
    now.ino != 0
        && before.ino != 0
        && now.dev == before.dev
        && (now.ino != before.ino || (birth_times_known(now, before) && now.btime != before.btime))
}

/// Compares both sides of a path where their baselines do not say which content is newer. Two
/// entries with the same content may still have different times.
#[must_use]
pub fn compare_sides(initiator: &Entry, target: &Entry, equal_times: EqualTimes) -> Sameness {
    if initiator.kind != target.kind {
        return Sameness::Different;
    }
    if initiator.kind.is_dir() {
        return Sameness::Same;
    }
    if !contents_may_agree(initiator, target) {
        return Sameness::Different;
    }
    match digests_agree(initiator, target) {
        Some(true) => return Sameness::Same,
        Some(false) => return Sameness::Different,
        None => {}
    }
    let has_copied_time = equal_times == EqualTimes::Suffice
        && times_agree(initiator, target)
        && !is_coincidence(initiator, target);
    // Only regular files have content beyond what was compared above.
    if initiator.kind != Kind::File || has_copied_time { Sameness::Same } else { Sameness::Doubt }
}

/// Whether these equal times were not copied but agree by chance, because both files were written
/// within one tick of the clock. A time that was copied is older than the ctime of the copy.
fn is_coincidence(a: &Entry, b: &Entry) -> bool {
    [a, b].iter().all(|entry| entry.mtime == entry.ctime && entry.mtime.nanos() != 0)
}

/// Whether two entries of both sides look alike: kind, size, link target, device number, mtime to
/// the coarser precision of the two, and digests where both are known. Directories have no
/// content. If neither side changed the path, nothing need be done then.
#[must_use]
pub fn looks_alike(a: &Entry, b: &Entry) -> bool {
    a.kind == b.kind
        && (a.kind.is_dir()
            || (contents_may_agree(a, b)
                && times_agree(a, b)
                && digests_agree(a, b) != Some(false)))
}

/// Whether two mtimes are equal to the coarser precision of the two.
#[must_use]
pub fn times_agree(a: &Entry, b: &Entry) -> bool {
    a.mtime.compare_coarsely(b.mtime) == Ordering::Equal
}

/// Whether two entries of one side agree in kind, size, mtime to the nanosecond, link target and
/// device number. Directories have no content of their own.
#[must_use]
pub fn stamps_agree(now: &Entry, before: &Entry) -> bool {
    now.kind == before.kind
        && (now.kind.is_dir() || (contents_may_agree(now, before) && now.mtime == before.mtime))
}

fn contents_may_agree(a: &Entry, b: &Entry) -> bool {
    a.size == b.size && a.extra().link == b.extra().link && a.extra().rdev == b.extra().rdev
}

/// What a file looked like when its content was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLook {
    /// The file system's number.
    pub dev: u32,
    /// The inode's number; 0 if it is not known.
    pub ino: u64,
    /// Bytes of content.
    pub size: u64,
    /// Last change of the content.
    pub mtime: Stamp,
    /// Last change of content or metadata.
    pub ctime: Stamp,
}

impl FileLook {
    /// A file as it was scanned.
    #[must_use]
    pub fn of(entry: &Entry) -> Self {
        let Entry { dev, ino, size, mtime, ctime, .. } = *entry;
        FileLook { dev, ino, size, mtime, ctime }
    }

    /// Whether a file still looks exactly the same.
    #[must_use]
    pub fn matches(&self, entry: &Entry) -> bool {
        *self == FileLook::of(entry)
    }

    /// Whether a file is still the same one and claims to have the content of then: nothing but
    /// its metadata may have changed.
    #[must_use]
    pub fn claims_content_of(&self, now: &Entry, inodes: Inodes) -> bool {
        let is_same_file =
            inodes == Inodes::Meaningless || self.ino == now.ino || self.ino == 0 || now.ino == 0;
        self.has_time_and_size_of(now) && is_same_file
    }

    /// Whether it is the same file, and nothing of it was touched since. The file system's number may
    /// be another one after a mount.
    #[must_use]
    pub fn is_untouched(&self, now: &Entry) -> bool {
        self.has_time_and_size_of(now) && (self.ctime, self.ino) == (now.ctime, now.ino)
    }

    /// Its device and inode, if they are known.
    #[must_use]
    pub fn inode(&self) -> Option<Inode> {
        let mut entry = Entry::new(Kind::File);
        (entry.dev, entry.ino) = (self.dev, self.ino);
        entry.inode()
    }

    /// Whether a file has the size and the mtime of then, whichever file it is.
    #[must_use]
    pub fn has_time_and_size_of(&self, now: &Entry) -> bool {
        now.kind == Kind::File && (self.size, self.mtime) == (now.size, now.mtime)
    }
}

/// Whether two digests of contents are equal; `None` if one is not known or they were made by
/// different algorithms, which the first byte of a digest names.
#[must_use]
pub fn digests_agree(a: &Entry, b: &Entry) -> Option<bool> {
    match (a.extra().content, b.extra().content) {
        (Some(a), Some(b)) if a[0] == b[0] => Some(a == b),
        _ => None,
    }
}

/// Whether a file's content changed in place although its size and time did not (CHECKSUM): by an
/// edit that restored the time, or by damage on the disk.
#[must_use]
pub fn is_silently_changed(now: &Entry, before: &Entry) -> bool {
    now.kind == Kind::File
        && stamps_agree(now, before)
        && digests_agree(now, before) == Some(false)
        && now.inode() == before.inode()
}

/// Whether the same may hold of a file whose content was never read before: nothing but its change
/// time can tell that something happened to it.
#[must_use]
pub fn may_be_silently_changed(now: &Entry, before: &Entry) -> bool {
    now.kind == Kind::File
        && stamps_agree(now, before)
        && before.extra().content.is_none()
        && now.inode() == before.inode()
}

/// Whether an entry is still as it was scanned: the same inode, and for everything but
/// directories the same size, mtime, link target and device number.
#[must_use]
pub fn is_as_scanned(scanned: &Entry, now: &Entry) -> bool {
    is_same_inode(scanned, now) && stamps_agree(now, scanned)
}

/// Whether it is still the same file or directory, whatever happened to its content: the same
/// kind, and the same inode where both are known.
#[must_use]
pub fn is_same_inode(scanned: &Entry, now: &Entry) -> bool {
    scanned.kind == now.kind && (scanned.ino == now.ino || scanned.ino == 0 || now.ino == 0)
}

/// Whether an entry that has the inode of another name's baseline is that entry, renamed. An equal
/// birth time proves that the inode was not reused. Without birth times, size and mtime of a file
/// must agree and its content has to be compared; a directory has nothing to compare.
#[must_use]
pub fn same_after_rename(now: &Entry, before: &Entry) -> Sameness {
    if birth_times_known(now, before) {
        return if now.btime == before.btime { Sameness::Same } else { Sameness::Different };
    }
    let looks_alike =
        now.kind == Kind::File && now.size == before.size && now.mtime == before.mtime;
    if looks_alike { Sameness::Doubt } else { Sameness::Different }
}

fn birth_times_known(now: &Entry, before: &Entry) -> bool {
    now.btime.is_known() && before.btime.is_known()
}

/// Whether the receiver's entry, read again after the transfer, is what was sent: kind, size, link
/// target, device number, and the mtime as precisely as the receiving file system stores it.
/// Directories get their times later.
///
/// `time_step` is the precision of times there, in nanoseconds; [`COARSEST`] where it is not known.
#[must_use]
pub fn arrived(sent: &Entry, found: &Entry, time_step: u32) -> bool {
    sent.kind == found.kind
        && (sent.kind.is_dir()
            || (contents_may_agree(sent, found)
                && (times_agree(sent, found) || is_rounded(sent.mtime, found.mtime, time_step))))
}

/// Like [`arrived`], but without the mtime, for receivers on which times cannot be set.
#[must_use]
pub fn arrived_without_time(sent: &Entry, found: &Entry) -> bool {
    let mut found = found.clone();
    found.mtime = sent.mtime;
    arrived(sent, &found, 1)
}

/// The source as it was when rsync read it, if it kept growing during the run: the receiver has
/// the size and the time that the source had at that moment. `None` if what the receiver has may
/// be an edit that somebody made there.
///
/// `sent` is the source as scanned, `now` the source after the transfer, `found` what the receiver
/// has.
#[must_use]
pub fn source_when_sent(sent: &Entry, now: &Entry, found: &Entry) -> Option<Entry> {
    let is_source = sent.kind == Kind::File && is_same_inode(sent, now) && found.kind == Kind::File;
    let is_between = sent.mtime <= found.mtime && found.mtime <= now.mtime;
    // An edit sets mtime and ctime at the same time; rsync sets the mtime after it has written.
    let was_set = found.ctime.is_known() && found.mtime < found.ctime;
    let grew = sent.size <= found.size && found.size <= now.size;
    (is_source && is_between && was_set && grew).then(|| {
        let mut then = sent.clone();
        (then.size, then.mtime) = (found.size, found.mtime);
        // The ctime of that moment is not known.
        then.ctime = Stamp::UNKNOWN;
        then
    })
}

/// The precision of times on FAT, in nanoseconds: nothing is coarser.
pub const COARSEST: u32 = 2_000_000_000;

/// Whether the receiving file system, or the rsync there, rounded the time. Some keep 100 ns, 1 µs
/// or 1 ms and cut the rest off, and that is no other time. FAT keeps even seconds only: two
/// versions of a file may be that close, so only a file system with that precision is allowed it.
fn is_rounded(sent: Stamp, found: Stamp, time_step: u32) -> bool {
    let two_seconds = time_step >= COARSEST
        && found.nanos() == 0
        && found.secs() % 2 == 0
        && sent.secs().abs_diff(found.secs()) < 2;
    let cut_off = sent.secs() == found.secs()
        && sent.nanos() > found.nanos()
        && [100, 1_000, 1_000_000, time_step].iter().any(|unit| {
            found.nanos().is_multiple_of(*unit) && sent.nanos() - found.nanos() < *unit
        });
    two_seconds || cut_off
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Extra;

    fn file(size: u64, mtime: i64, ino: u64) -> Entry {
        let mut entry = Entry::new(Kind::File);
        (entry.size, entry.mtime, entry.ino) = (size, Stamp::new(mtime, 5), ino);
        entry.ctime = Stamp::new(1000, 7);
        entry
    }

    fn with(entry: &Entry, digest: u8) -> Entry {
        let mut entry = entry.clone();
        let mut bytes = [2; 32];
        bytes[31] = digest;
        entry.set_extra(Extra { content: Some(bytes), ..Extra::default() });
        entry
    }

    fn changed(entry: &Entry, change: impl FnOnce(&mut Entry)) -> Entry {
        let mut entry = entry.clone();
        change(&mut entry);
        entry
    }

    #[test]
    fn a_side_is_unchanged_changed_or_in_doubt_against_its_own_baseline() {
        let before = file(1, 10, 7);
        let mut dir = Entry::new(Kind::Dir);
        dir.ino = 3;
        for (what, now, before, expected) in [
            ("nothing", before.clone(), &before, ContentChange::Unchanged),
            ("size", file(2, 10, 7), &before, ContentChange::Changed),
            ("an older time", file(1, 9, 7), &before, ContentChange::Changed),
            ("another file of that size and time", file(1, 10, 8), &before, ContentChange::Doubt),
            ("an inode that is not known", file(1, 10, 0), &before, ContentChange::Unchanged),
            (
                "another device",
                changed(&file(1, 10, 8), |e| e.dev = 4),
                &before,
                ContentChange::Unchanged,
            ),
            (
                "a number that was given again",
                changed(&before, |e| e.btime = Stamp::new(9, 9)),
                &changed(&before, |e| e.btime = Stamp::new(8, 8)),
                ContentChange::Doubt,
            ),
            (
                "a birth that was not known",
                changed(&before, |e| e.btime = Stamp::new(9, 9)),
                &before,
                ContentChange::Unchanged,
            ),
            (
                "only touched",
                changed(&before, |e| e.ctime = Stamp::new(2000, 0)),
                &before,
                ContentChange::Unchanged,
            ),
            ("another directory", changed(&dir, |e| e.ino = 4), &dir, ContentChange::Unchanged),
            (
                "another kind",
                changed(&before, |e| e.kind = Kind::Fifo),
                &before,
                ContentChange::Changed,
            ),
            (
                "the same digest",
                with(&file(1, 10, 8), 1),
                &with(&before, 1),
                ContentChange::Unchanged,
            ),
            ("another digest", with(&before, 1), &with(&before, 2), ContentChange::Changed),
            ("read for the first time", with(&before, 1), &before, ContentChange::Unchanged),
            (
                "touched, and read for the first time",
                changed(&with(&before, 1), |e| e.ctime = Stamp::new(2000, 0)),
                &before,
                ContentChange::Doubt,
            ),
        ] {
            assert_eq!(content_change(&now, before, Inodes::Reliable), expected, "{what}");
        }
        assert_eq!(
            content_change(&file(1, 10, 8), &before, Inodes::Meaningless),
            ContentChange::Unchanged
        );
    }

    #[test]
    fn two_sides_are_in_step_in_doubt_or_different() {
        let here = file(1, 10, 7);
        let link = |to: &[u8], mtime| {
            changed(&file(0, mtime, 7), |e| {
                e.kind = Kind::Symlink;
                e.set_extra(Extra { link: Some(to.into()), ..Extra::default() });
            })
        };
        let written = |mtime| changed(&file(1, mtime, 7), |e| e.ctime = e.mtime);
        let whole = changed(&here, |e| e.mtime = Stamp::new(10, 0));
        for (what, a, b, new, both) in [
            ("the same time", here.clone(), file(1, 10, 9), Sameness::Same, Sameness::Doubt),
            ("a coarser time", here.clone(), whole, Sameness::Same, Sameness::Doubt),
            ("another time", here.clone(), file(1, 11, 9), Sameness::Doubt, Sameness::Doubt),
            (
                "another size",
                here.clone(),
                file(2, 10, 9),
                Sameness::Different,
                Sameness::Different,
            ),
            (
                "written at the same moment",
                written(10),
                written(10),
                Sameness::Doubt,
                Sameness::Doubt,
            ),
            ("one of them a copy", written(10), here.clone(), Sameness::Same, Sameness::Doubt),
            ("links", link(b"x", 1), link(b"x", 2), Sameness::Same, Sameness::Same),
            ("other links", link(b"x", 1), link(b"y", 1), Sameness::Different, Sameness::Different),
            (
                "equal digests",
                with(&here, 1),
                with(&file(1, 99, 9), 1),
                Sameness::Same,
                Sameness::Same,
            ),
            (
                "other digests",
                with(&here, 1),
                with(&here, 2),
                Sameness::Different,
                Sameness::Different,
            ),
            (
                "directories",
                Entry::new(Kind::Dir),
                changed(&Entry::new(Kind::Dir), |e| e.mtime = Stamp::new(9, 9)),
                Sameness::Same,
                Sameness::Same,
            ),
            (
                "kinds",
                here.clone(),
                Entry::new(Kind::Dir),
                Sameness::Different,
                Sameness::Different,
            ),
        ] {
            assert_eq!(compare_sides(&a, &b, EqualTimes::Suffice), new, "{what}");
            assert_eq!(compare_sides(&b, &a, EqualTimes::Suffice), new, "{what}, the other way");
            assert_eq!(
                compare_sides(&a, &b, EqualTimes::ProveNothing),
                both,
                "{what}: both changed"
            );
        }
    }

    #[test]
    fn an_entry_that_differs_in_what_matters_is_no_longer_the_scanned_one() {
        let file = file(10, 5, 7);
        let mut dir = Entry::new(Kind::Dir);
        (dir.ino, dir.mtime) = (8, Stamp::new(5, 5));
        type Change = fn(&mut Entry);
        let cases: [(&str, Change, bool, bool); 7] = [
            ("nothing", |_| (), true, true),
            ("mode", |e| e.mode = 0o600, true, true),
            ("ctime", |e| e.ctime = Stamp::new(9, 9), true, true),
            ("mtime", |e| e.mtime = Stamp::new(5, 6), false, true),
            ("inode", |e| e.ino = 99, false, false),
            ("unknown inode", |e| e.ino = 0, true, true),
            ("kind", |e| e.kind = Kind::Symlink, false, false),
        ];
        for (what, change, file_stays, dir_stays) in cases {
            for (before, stays) in [(&file, file_stays), (&dir, dir_stays)] {
                let now = changed(before, change);
                assert_eq!(
                    is_as_scanned(before, &now),
                    stays,
                    "{what} of a {}",
                    before.kind.name()
                );
            }
        }
    }

    #[test]
    fn only_a_change_in_the_same_place_that_nothing_tells_of_is_silent() {
        let before = with(&file(1, 10, 7), 1);
        assert!(is_silently_changed(&with(&file(1, 10, 7), 2), &before));
        for (what, now) in [
            ("the same", with(&file(1, 10, 7), 1)),
            ("a new time", with(&file(1, 11, 7), 2)),
            ("another file", with(&file(1, 10, 8), 2)),
            ("not read", file(1, 10, 7)),
        ] {
            assert!(!is_silently_changed(&now, &before), "{what}");
        }
    }

    #[test]
    fn a_source_that_grew_while_it_was_sent_is_told_from_an_edit_of_the_receiver() {
        let sent = file(10, 50, 7);
        let now = file(30, 60, 7);
        let got = |size, mtime, ctime| {
            changed(&file(size, mtime, 99), |e| e.ctime = Stamp::new(ctime, 0))
        };
        let then = source_when_sent(&sent, &now, &got(20, 55, 70)).unwrap();
        assert_eq!((then.size, then.mtime, then.ino), (20, Stamp::new(55, 5), 7));
        for (what, now, found) in [
            ("edited there", now.clone(), changed(&got(20, 55, 0), |e| e.ctime = e.mtime)),
            ("newer than the source", now.clone(), got(20, 61, 70)),
            ("older than the source", now.clone(), got(20, 49, 70)),
            ("longer than the source", now.clone(), got(31, 55, 70)),
            ("another source", file(30, 60, 8), got(20, 55, 70)),
            ("a source that was cut", file(15, 60, 7), got(20, 55, 70)),
        ] {
            assert_eq!(source_when_sent(&sent, &now, &found), None, "{what}");
        }
    }

    #[test]
    fn arrival_allows_for_coarse_clocks_only() {
        let at = |secs, nanos| changed(&file(1, 0, 1), |e| e.mtime = Stamp::new(secs, nanos));
        let sent = at(11, 123_456_789);
        for (found, expected) in [
            (at(11, 123_456_789), true),
            (at(11, 0), true),
            (at(11, 123_456_700), true),
            (at(11, 123_000_000), true),
            (at(10, 0), true),
            (at(12, 0), true),
            (at(9, 0), false),
            (at(13, 0), false),
            (at(11, 123_456_790), false),
            (at(11, 99), false),
            (at(11, 122_000_000), false),
            (at(11, 123_456_750), false),
        ] {
            assert_eq!(arrived(&sent, &found, COARSEST), expected, "{found:?}");
        }
        let sent = at(12, 123_456_700);
        for (found, expected) in [
            (at(12, 0), true),
            (at(10, 0), false),
            (at(14, 0), false),
            (at(12, 123_456_600), false),
        ] {
            assert_eq!(arrived(&sent, &found, COARSEST), expected, "{found:?}");
        }
        let far = arrived(&at(i64::MAX, 0), &at(i64::MIN, 0), COARSEST);
        assert!(!far, "as far apart as times can be");
    }

    #[test]
    fn a_second_more_or_less_is_another_time_unless_the_file_system_rounds_so() {
        let at = |secs, nanos| changed(&file(1, 0, 1), |e| e.mtime = Stamp::new(secs, nanos));
        for (sent, found, step, expected) in [
            (at(11, 0), at(10, 0), 1, false),
            (at(11, 0), at(12, 0), 1, false),
            (at(11, 0), at(10, 0), 1_000_000_000, false),
            (at(11, 0), at(10, 0), COARSEST, true),
            (at(11, 5), at(11, 0), 1, true),
            (at(11, 123_456_789), at(11, 123_456_000), 1, true),
            (at(11, 123_456_789), at(11, 120_000_000), 1, false),
            (at(11, 123_456_789), at(11, 120_000_000), 10_000_000, true),
        ] {
            assert_eq!(arrived(&sent, &found, step), expected, "{sent:?} {found:?} {step}");
        }
    }
}

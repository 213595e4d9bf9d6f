//! What "the same" means (spec 8, "The same"): the one definition that the comparison, the
//! look again before acting, the recording, the moves and the monitor share.
//!
//! Size and time are evidence and no proof. Where they do not suffice the verdict is a doubt,
//! and a doubt is settled by content ([`Answer`]).

use super::{Entry, Kind, Stamp};
use std::cmp::Ordering;

/// What became of an entry since its own side's baseline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Since {
    /// Its content is what it was.
    Unchanged,
    /// It looks as it did, but another file may have taken its name.
    Doubt,
    /// Its content, kind, link target or device number is another one.
    Changed,
}

/// How the contents of both sides compare.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Across {
    /// They are the same.
    InStep,
    /// They may be the same.
    Doubt,
    /// They differ.
    Different,
}

/// What is known of the two sides of a path before their contents are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Past {
    /// One of them has no baseline: equal times are times that were copied.
    Unknown,
    /// Both changed since their baselines: equal times prove nothing.
    BothChanged,
}

/// What the comparison of two contents said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Byte for byte the same.
    Same,
    /// Not the same.
    Different,
    /// They could not be compared.
    Unknown,
}

/// Whether the inode numbers of a replica say anything about its baseline.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Inodes {
    /// A file with another number is another file.
    #[default]
    Count,
    /// All of them are new: the replica was copied or restored as a whole, or its file system
    /// numbers anew at each mount.
    Meaningless,
}

/// One side against its own baseline.
#[must_use]
pub fn since(now: &Entry, before: &Entry, inodes: Inodes) -> Since {
    if !stamps_agree(now, before) {
        return Since::Changed;
    }
    if now.kind != Kind::File {
        return Since::Unchanged;
    }
    match digests_agree(now, before) {
        Some(true) => return Since::Unchanged,
        Some(false) => return Since::Changed,
        // Read now because it was touched, and never before: there is no digest to compare with.
        None if now.extra().content.is_some() && now.ctime != before.ctime => return Since::Doubt,
        None => {}
    }
    if is_another(now, before) && inodes == Inodes::Count { Since::Doubt } else { Since::Unchanged }
}

/// Whether another file has taken a name. The number of one that was removed is soon given to the
/// next; then the birth time tells.
fn is_another(now: &Entry, before: &Entry) -> bool {
    now.ino != 0
        && before.ino != 0
        && now.dev == before.dev
        && (now.ino != before.ino || (knows_birth(now, before) && now.btime != before.btime))
}

/// Both sides of a path against each other, whose baselines do not tell which content is the
/// newer one. Of two entries in step the times may still differ.
#[must_use]
pub fn across(initiator: &Entry, target: &Entry, past: Past) -> Across {
    if initiator.kind != target.kind {
        return Across::Different;
    }
    if initiator.kind.is_dir() {
        return Across::InStep;
    }
    if !contents_may_agree(initiator, target) {
        return Across::Different;
    }
    match digests_agree(initiator, target) {
        Some(true) => return Across::InStep,
        Some(false) => return Across::Different,
        None => {}
    }
    let has_copied_time = past == Past::Unknown
        && times_agree(initiator, target)
        && !is_coincidence(initiator, target);
    // What is no regular file has no content beside what was compared.
    if initiator.kind != Kind::File || has_copied_time { Across::InStep } else { Across::Doubt }
}

/// Whether nobody set these times, so that they agree by chance: both files were written within
/// one tick of the clock. A time that was copied is older than the ctime of the copy.
fn is_coincidence(a: &Entry, b: &Entry) -> bool {
    [a, b].iter().all(|entry| entry.mtime == entry.ctime && entry.mtime.nanos() != 0)
}

/// Whether both sides look alike now: kind, size, link target, device number, mtime to the
/// coarser precision of the two, and digests where both are known. Directories have no content.
/// This tells that nothing need be done, of a path that neither side changed.
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

/// Whether content agrees as far as a look at one side can tell: kind, size, mtime to the
/// nanosecond, link target, device number. Directories have no content of their own.
#[must_use]
pub fn stamps_agree(now: &Entry, before: &Entry) -> bool {
    now.kind == before.kind
        && (now.kind.is_dir() || (contents_may_agree(now, before) && now.mtime == before.mtime))
}

fn contents_may_agree(a: &Entry, b: &Entry) -> bool {
    a.size == b.size && a.extra().link == b.extra().link && a.extra().rdev == b.extra().rdev
}

/// Whether two digests of contents are equal; none if one is not known or they are of different
/// sorts. The first byte of a digest is its sort.
#[must_use]
pub fn digests_agree(a: &Entry, b: &Entry) -> Option<bool> {
    match (a.extra().content, b.extra().content) {
        (Some(a), Some(b)) if a[0] == b[0] => Some(a == b),
        _ => None,
    }
}

/// Whether a file has another content in the same place, although neither its size nor its time
/// tells (CHECKSUM): an edit that kept the time, or damage on the disk.
#[must_use]
pub fn is_silently_changed(now: &Entry, before: &Entry) -> bool {
    now.kind == Kind::File
        && stamps_agree(now, before)
        && digests_agree(now, before) == Some(false)
        && now.inode() == before.inode()
}

/// Whether what is there is still what was scanned: the same thing, and for everything but
/// directories the same size, mtime, link target and device number.
#[must_use]
pub fn is_still(expect: &Entry, now: &Entry) -> bool {
    is_same_thing(expect, now) && stamps_agree(now, expect)
}

/// Whether the same file or directory is there, whatever happened to its content: kind, and
/// inode where both are known.
#[must_use]
pub fn is_same_thing(expect: &Entry, now: &Entry) -> bool {
    expect.kind == now.kind && (expect.ino == now.ino || expect.ino == 0 || now.ino == 0)
}

/// Whether an entry with the inode of another name's baseline is that entry, renamed. The birth
/// time proves that the inode was not reused. Where there is none, size and mtime must agree,
/// and the contents are compared; directories have none.
#[must_use]
pub fn renamed(now: &Entry, before: &Entry) -> Across {
    let same = if knows_birth(now, before) {
        return if now.btime == before.btime { Across::InStep } else { Across::Different };
    } else {
        now.kind == Kind::File && now.size == before.size && now.mtime == before.mtime
    };
    if same { Across::Doubt } else { Across::Different }
}

fn knows_birth(now: &Entry, before: &Entry) -> bool {
    now.btime.is_known() && before.btime.is_known()
}

/// Whether the receiver's entry, read again, is what was sent: kind, size, link target, device
/// number, and the mtime as exactly as the receiving file system keeps it. Directories get
/// their times later.
#[must_use]
pub fn arrived(sent: &Entry, found: &Entry) -> bool {
    sent.kind == found.kind
        && (sent.kind.is_dir()
            || (contents_may_agree(sent, found)
                && (times_agree(sent, found) || is_rounded(sent.mtime, found.mtime))))
}

/// The same where a time is not kept: what cannot be set is recorded as it came to be.
#[must_use]
pub fn arrived_but_for_its_time(sent: &Entry, found: &Entry) -> bool {
    let mut timed = found.clone();
    timed.mtime = sent.mtime;
    arrived(sent, &timed)
}

/// What a file was when it was sent, if it went on growing: the receiver got the content and
/// the time that the source had then. None if what the receiver has may be somebody's edit.
///
/// `sent` is the source as scanned, `now` the source after the transfer.
#[must_use]
pub fn sent_later(sent: &Entry, now: &Entry, found: &Entry) -> Option<Entry> {
    let is_source = sent.kind == Kind::File && is_same_thing(sent, now) && found.kind == Kind::File;
    let is_between = sent.mtime <= found.mtime && found.mtime <= now.mtime;
    // A write sets both times at once; rsync sets the mtime of what it has written.
    let was_set = found.ctime.is_known() && found.mtime < found.ctime;
    let grew = sent.size <= found.size && found.size <= now.size;
    (is_source && is_between && was_set && grew).then(|| {
        let mut then = sent.clone();
        (then.size, then.mtime) = (found.size, found.mtime);
        // When it looked like that nobody knows.
        then.ctime = Stamp::UNKNOWN;
        then
    })
}

/// File systems with a precision of two seconds (FAT) keep even seconds; others with a
/// precision between that and a nanosecond cut the rest off.
fn is_rounded(sent: Stamp, found: Stamp) -> bool {
    let two_seconds =
        found.nanos() == 0 && found.secs() % 2 == 0 && sent.secs().abs_diff(found.secs()) < 2;
    let cut_off = sent.secs() == found.secs()
        && sent.nanos() > found.nanos()
        && [100, 1_000, 1_000_000].iter().any(|unit| {
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
            ("nothing", before.clone(), &before, Since::Unchanged),
            ("size", file(2, 10, 7), &before, Since::Changed),
            ("an older time", file(1, 9, 7), &before, Since::Changed),
            ("another file of that size and time", file(1, 10, 8), &before, Since::Doubt),
            ("an inode that is not known", file(1, 10, 0), &before, Since::Unchanged),
            ("another device", changed(&file(1, 10, 8), |e| e.dev = 4), &before, Since::Unchanged),
            (
                "a number that was given again",
                changed(&before, |e| e.btime = Stamp::new(9, 9)),
                &changed(&before, |e| e.btime = Stamp::new(8, 8)),
                Since::Doubt,
            ),
            (
                "a birth that was not known",
                changed(&before, |e| e.btime = Stamp::new(9, 9)),
                &before,
                Since::Unchanged,
            ),
            (
                "only touched",
                changed(&before, |e| e.ctime = Stamp::new(2000, 0)),
                &before,
                Since::Unchanged,
            ),
            ("another directory", changed(&dir, |e| e.ino = 4), &dir, Since::Unchanged),
            ("another kind", changed(&before, |e| e.kind = Kind::Fifo), &before, Since::Changed),
            ("the same digest", with(&file(1, 10, 8), 1), &with(&before, 1), Since::Unchanged),
            ("another digest", with(&before, 1), &with(&before, 2), Since::Changed),
            ("read for the first time", with(&before, 1), &before, Since::Unchanged),
            (
                "touched, and read for the first time",
                changed(&with(&before, 1), |e| e.ctime = Stamp::new(2000, 0)),
                &before,
                Since::Doubt,
            ),
        ] {
            assert_eq!(since(&now, before, Inodes::Count), expected, "{what}");
        }
        assert_eq!(since(&file(1, 10, 8), &before, Inodes::Meaningless), Since::Unchanged);
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
            ("the same time", here.clone(), file(1, 10, 9), Across::InStep, Across::Doubt),
            ("a coarser time", here.clone(), whole, Across::InStep, Across::Doubt),
            ("another time", here.clone(), file(1, 11, 9), Across::Doubt, Across::Doubt),
            ("another size", here.clone(), file(2, 10, 9), Across::Different, Across::Different),
            ("written at the same moment", written(10), written(10), Across::Doubt, Across::Doubt),
            ("one of them a copy", written(10), here.clone(), Across::InStep, Across::Doubt),
            ("links", link(b"x", 1), link(b"x", 2), Across::InStep, Across::InStep),
            ("other links", link(b"x", 1), link(b"y", 1), Across::Different, Across::Different),
            (
                "equal digests",
                with(&here, 1),
                with(&file(1, 99, 9), 1),
                Across::InStep,
                Across::InStep,
            ),
            ("other digests", with(&here, 1), with(&here, 2), Across::Different, Across::Different),
            (
                "directories",
                Entry::new(Kind::Dir),
                changed(&Entry::new(Kind::Dir), |e| e.mtime = Stamp::new(9, 9)),
                Across::InStep,
                Across::InStep,
            ),
            ("kinds", here.clone(), Entry::new(Kind::Dir), Across::Different, Across::Different),
        ] {
            assert_eq!(across(&a, &b, Past::Unknown), new, "{what}");
            assert_eq!(across(&b, &a, Past::Unknown), new, "{what}, the other way");
            assert_eq!(across(&a, &b, Past::BothChanged), both, "{what}: both changed");
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
                assert_eq!(is_still(before, &now), stays, "{what} of a {}", before.kind.name());
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
        let then = sent_later(&sent, &now, &got(20, 55, 70)).unwrap();
        assert_eq!((then.size, then.mtime, then.ino), (20, Stamp::new(55, 5), 7));
        for (what, now, found) in [
            ("edited there", now.clone(), changed(&got(20, 55, 0), |e| e.ctime = e.mtime)),
            ("newer than the source", now.clone(), got(20, 61, 70)),
            ("older than the source", now.clone(), got(20, 49, 70)),
            ("longer than the source", now.clone(), got(31, 55, 70)),
            ("another source", file(30, 60, 8), got(20, 55, 70)),
            ("a source that was cut", file(15, 60, 7), got(20, 55, 70)),
        ] {
            assert_eq!(sent_later(&sent, &now, &found), None, "{what}");
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
            assert_eq!(arrived(&sent, &found), expected, "{found:?}");
        }
        let sent = at(12, 123_456_700);
        for (found, expected) in [
            (at(12, 0), true),
            (at(10, 0), false),
            (at(14, 0), false),
            (at(12, 123_456_600), false),
        ] {
            assert_eq!(arrived(&sent, &found), expected, "{found:?}");
        }
        assert!(!arrived(&at(i64::MAX, 0), &at(i64::MIN, 0)), "as far apart as times can be");
    }
}

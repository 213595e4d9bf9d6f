//! Random baselines for the tests of this room.

use super::{Record, Recorded};
use crate::tree::{Entry, Extra, Kind, Pair, RelPath, Stamp};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

pub fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

/// A file of that size, in step.
pub fn seen(size: u64) -> Record {
    let mut entry = Entry::new(Kind::File);
    entry.size = size;
    Record::in_step(entry.clone(), entry)
}

fn any_stamp() -> impl Strategy<Value = Stamp> {
    prop_oneof![
        Just(Stamp::UNKNOWN),
        (0..3_i64).prop_map(|secs| Stamp::new(secs, 0)),
        (any::<i64>(), 0..1_000_000_000_u32).prop_map(|(secs, nanos)| Stamp::new(secs, nanos)),
        Just(Stamp::new(i64::MIN, 1)),
        Just(Stamp::new(i64::MAX, 999_999_999)),
    ]
}

fn any_extra() -> impl Strategy<Value = Extra> {
    (
        option::of(vec(any::<u8>(), 0..9)),
        prop_oneof![Just(0), any::<u64>()],
        option::of(any::<[u8; 16]>()),
        option::of(any::<[u8; 16]>()),
        option::of(any::<[u8; 32]>()),
    )
        .prop_map(|(link, rdev, acl, xattr, content)| Extra {
            link: link.map(Into::into),
            rdev,
            acl,
            xattr,
            content,
        })
}

fn any_number() -> impl Strategy<Value = u64> {
    prop_oneof![0..3_u64, any::<u64>()]
}

fn any_entry() -> BoxedStrategy<Entry> {
    (
        (select(&Kind::ALL[..]), any::<bool>(), any::<u16>(), 0..3_u32, any::<u32>(), 0..2_u32),
        (any_number(), any_number(), any_stamp(), any_stamp(), any_stamp()),
        option::of(any_extra()),
    )
        .prop_map(|((kind, shared_inode, mode, uid, gid, dev), numbers, extra)| {
            let mut entry = Entry::new(kind);
            (entry.shared_inode, entry.mode) = (shared_inode, mode);
            (entry.uid, entry.gid, entry.dev) = (uid, gid, dev);
            (entry.ino, entry.size, entry.mtime, entry.ctime, entry.btime) = numbers;
            entry.set_extra(extra.unwrap_or_default());
            entry
        })
        .boxed()
}

fn any_was() -> BoxedStrategy<Recorded> {
    prop_oneof![
        Just(Recorded::Absent),
        Just(Recorded::Listed(None)),
        any_entry().prop_map(|entry| Recorded::Listed(Some(entry))),
        any_entry().prop_map(Recorded::Seen),
    ]
    .boxed()
}

/// Records of every kind; the two sides are often alike.
pub fn any_record() -> BoxedStrategy<Record> {
    let sides = prop_oneof![
        (any_was(), any_was()),
        any_was().prop_map(|was| (was.clone(), was)),
        any_entry().prop_map(|entry| {
            let mut other = entry.clone();
            (other.ino, other.ctime) = (entry.ino ^ 5, Stamp::new(77, 1));
            (Recorded::Seen(entry), Recorded::Seen(other))
        }),
    ];
    (sides, any::<bool>(), any::<bool>())
        .prop_map(|((initiator, target), one, two)| Record {
            was: Pair::new(initiator, target),
            skipped: Pair::new(one, two),
        })
        .boxed()
}

pub fn any_path() -> impl Strategy<Value = RelPath> {
    let names = [&b"a"[..], b"a b", b"a-", b"a.b", b"a0", b"b", b"\n", b"\xff", b"-x", b"..."];
    vec(select(names.map(<[u8]>::to_vec).to_vec()), 1..5)
        .prop_map(|names| RelPath::new(names.join(&b'/')).unwrap())
}

/// Paths with records, in any order, some of them twice.
pub fn any_records() -> impl Strategy<Value = Vec<(RelPath, Record)>> {
    vec((any_path(), any_record()), 0..25)
}

//! The list files shared with osync 1.3: text, one path a line (spec 3).

use super::baseline::{Baseline, BaselineDamaged, Disorder, Order, PathBuilder, Pick, Walk};
use super::format::{Known, is_name};
use super::snapshot::Digest;
use super::{Header, Origin, Record, Recorded};
use crate::tree::work_dir::WORK_DIR;
use crate::tree::{Entry, Pair, RelPath, Side, Stamp, path};
use std::io::{self, Write};

/// Writes the `tree-after` list of one side: what was there, sorted as `LC_ALL=C sort`
/// does, directories without a final `/`. Only files, directories and symbolic links are
/// listed, and no path that holds a newline. Returns the digest of what was written.
///
/// # Errors
/// Those of `out`, or the baseline is damaged.
pub fn write_tree(baseline: &Baseline, side: Side, out: &mut dyn Write) -> io::Result<Digest> {
    let pick = |known: Known<'_>| {
        let writable = !known.name.contains(&b'\n');
        let keep = (writable && is_listed(&known.record, side)).then_some(());
        Pick { keep, enter: writable }
    };
    let mut walk = Walk::new(baseline, Order::Text, pick).map_err(io::Error::other)?;
    let mut hasher = blake3::Hasher::new();
    let mut line = Vec::new();
    while let Some((path, ())) = walk.next().map_err(io::Error::other)? {
        line.extend_from_slice(path);
        line.push(b'\n');
        if line.len() > 1 << 15 {
            hasher.update(&line);
            out.write_all(&line)?;
            line.clear();
        }
    }
    hasher.update(&line);
    out.write_all(&line)?;
    Ok(*hasher.finalize().as_bytes())
}

/// Whether osync 1.3 would list the path for this side.
fn is_listed(record: &Record, side: Side) -> bool {
    match &record.was[side] {
        Recorded::Absent => false,
        Recorded::Listed(_) => true,
        Recorded::Seen(entry) => entry.kind.is_listed(),
    }
}

/// A list of a run's deletions, or of those that failed: sorted, without paths that hold a
/// newline.
#[must_use]
pub fn encode_paths(paths: &[RelPath]) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = paths
        .iter()
        .map(RelPath::as_bytes)
        .filter(|path| !path.is_empty() && !path.contains(&b'\n'))
        .collect();
    lines.sort_unstable();
    lines.dedup();
    lines.iter().flat_map(|line| [*line, b"\n"].concat()).collect()
}

/// A list as it was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct List<'a> {
    /// Its paths in the order of [`RelPath`], each once.
    pub paths: Vec<&'a [u8]>,
    /// How many lines were not a path below a replica's root, and the first of them.
    pub refused: Option<(u64, &'a [u8])>,
}

/// Reads a list. A line that is absolute, leads out of the replica or is not a path is refused;
/// empty lines and the work directory are ignored.
#[must_use]
pub fn parse(bytes: &[u8]) -> List<'_> {
    let mut list = List::default();
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        if !line.split(|byte| *byte == b'/').all(is_name) {
            list.refused =
                Some(list.refused.map_or((1, line), |(count, first)| (count + 1, first)));
        } else if !line.strip_prefix(WORK_DIR).is_some_and(|rest| matches!(rest, [] | [b'/', ..])) {
            list.paths.push(line);
        }
    }
    list.paths.sort_unstable_by(|a, b| path::compare(a, b));
    list.paths.dedup();
    list
}

// The baseline after osync 1.3 has run: its lists say what existed, and our older snapshot adds
// what it knows of these paths (spec 3, "State files").

/// What osync 1.3 left behind. Paths are in the order of
/// [`RelPath`](crate::tree::RelPath), each once.
#[derive(Debug, Default)]
pub struct Lists<'a> {
    /// Each side's `tree-after` list; `None` where the file is missing.
    pub tree: Pair<Option<Vec<&'a [u8]>>>,
    /// When each was written.
    pub listed_at: Pair<Option<Stamp>>,
    /// Each side's `failed-delete` list.
    pub failed: Pair<Vec<&'a [u8]>>,
}

/// Why the lists and the snapshot could not be merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// The snapshot is damaged.
    #[error(transparent)]
    Damaged(#[from] BaselineDamaged),
    /// A bug in osync.
    #[error(transparent)]
    Disorder(#[from] Disorder),
}

/// Merges the lists with the snapshot. A path in a side's list existed there. A path whose
/// deletion failed counts as having existed on both sides: if only one side has it now, its
/// deletion is still due. Where a side has no list, the snapshot counts.
///
/// # Errors
/// The snapshot is damaged.
pub fn merge(old: Option<&Baseline>, lists: &Lists<'_>) -> Result<Baseline, MergeError> {
    let mut header = old.map(|old| old.header().clone()).unwrap_or_default();
    header.origin = Origin::Lists;
    for side in Side::BOTH {
        header.listed_at[side] = lists.listed_at[side].unwrap_or(header.listed_at[side]);
    }
    match old {
        Some(old) => with_snapshot(old, header, lists),
        None => with_snapshot(&Baseline::empty(), header, lists),
    }
}

fn with_snapshot(
    old: &Baseline,
    header: Header,
    lists: &Lists<'_>,
) -> Result<Baseline, MergeError> {
    let everything = |known: Known<'_>| Pick { keep: Some(known.record), enter: true };
    let mut walk = Walk::new(old, Order::Tree, everything)?;
    let mut snapshot = next_of(&mut walk)?;
    let tree = lists.tree.as_ref().map(Option::as_deref).map(Option::unwrap_or_default);
    let mut heads = [tree.initiator, tree.target, &lists.failed.initiator, &lists.failed.target]
        .map(|list: &[&[u8]]| list.iter().copied().peekable());
    let has_list = lists.tree.as_ref().map(Option::is_some);
    let mut builder = PathBuilder::new();
    loop {
        let listed = heads.iter_mut().filter_map(|head| head.peek().copied());
        let known = snapshot.as_ref().map(|(path, _)| path.as_slice());
        let Some(path) = listed.chain(known).min_by(|a, b| path::compare(a, b)) else { break };
        let path = path.to_vec();
        let [initiator, target, failed_initiator, failed_target] =
            heads.each_mut().map(|head| head.next_if(|next| *next == path).is_some());
        let failed = failed_initiator || failed_target;
        let is_listed = Pair::new(initiator, target);
        let before = match snapshot.take_if(|(known, _)| *known == path) {
            Some((_, record)) => {
                snapshot = next_of(&mut walk)?;
                record
            }
            None => Record::default(),
        };
        let listing = Pair::from_fn(|side| match (has_list[side], is_listed[side] || failed) {
            (_, true) => ListSays::Present,
            (true, false) => ListSays::Absent,
            (false, false) => ListSays::NoList,
        });
        let record = merge_record(&path, before, listing);
        // The builder adds missing parent directories by itself.
        if !record.is_empty() {
            builder.add(&path, record);
        }
    }
    Ok(builder.finish(header)?)
}

/// What a side's list says of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListSays {
    /// It is in the list.
    Present,
    /// It is not in the list.
    Absent,
    /// The side has no list.
    NoList,
}

/// The record of a path, from the snapshot's record and what the lists say.
fn merge_record(path: &[u8], before: Record, listing: Pair<ListSays>) -> Record {
    let unlistable = path.contains(&b'\n');
    let skipped = before.skipped;
    let Pair { initiator, target } = before.was;
    let side = |was: Recorded, listing: ListSays| match listing {
        ListSays::Present => Recorded::Listed(into_entry(was)),
        ListSays::NoList => was,
        // A list never holds such a path, so its absence says nothing.
        ListSays::Absent if unlistable => was,
        ListSays::Absent => match was {
            Recorded::Seen(entry) if !entry.kind.is_listed() => Recorded::Seen(entry),
            _ => Recorded::Absent,
        },
    };
    let was = Pair::new(side(initiator, listing.initiator), side(target, listing.target));
    let mut record = Record { was, skipped: Pair::default() };
    // A deletion stays skipped as long as the path exists on just that side.
    let skipped = Pair::from_fn(|side| {
        skipped[side] && record.existed(side) && !record.existed(side.other())
    });
    record.skipped = skipped;
    record
}

fn into_entry(was: Recorded) -> Option<Entry> {
    match was {
        Recorded::Seen(entry) | Recorded::Listed(Some(entry)) => Some(entry),
        Recorded::Absent | Recorded::Listed(None) => None,
    }
}

fn next_of<'a, P: FnMut(Known<'a>) -> Pick<Record>>(
    walk: &mut Walk<'a, Record, P>,
) -> Result<Option<(Vec<u8>, Record)>, BaselineDamaged> {
    Ok(walk.next()?.map(|(path, record)| (path.to_vec(), record)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::testing::{any_records, path};
    use crate::state::{Header, Record};
    use crate::tree::{Entry, Kind, Pair};
    use proptest::prelude::*;

    fn written(baseline: &Baseline, side: Side) -> Vec<u8> {
        let mut out = Vec::new();
        let digest = write_tree(baseline, side, &mut out).unwrap();
        assert_eq!(&digest, blake3::hash(&out).as_bytes());
        out
    }

    fn of_kind(kind: Kind) -> Record {
        Record::in_step(Entry::new(kind), Entry::new(kind))
    }

    #[test]
    fn a_list_is_sorted_by_the_bytes_of_whole_paths() {
        let dir = |p| (path(p), of_kind(Kind::Dir));
        let file = |p| (path(p), of_kind(Kind::File));
        let records = [
            dir("a"),
            file("a/x"),
            dir("a b"),
            file("a b/y"),
            file("a.txt"),
            file("a0"),
            file("A"),
        ];
        let baseline = Baseline::from_records(Header::default(), records);
        let list = written(&baseline, Side::Initiator);
        assert_eq!(list, b"A\na\na b\na b/y\na.txt\na/x\na0\n");
    }

    #[test]
    fn what_osync_1_3_does_not_list_is_left_out() {
        let mut gone_on_target = of_kind(Kind::File);
        gone_on_target.was.target = Recorded::Absent;
        gone_on_target.skipped.initiator = true;
        let listed = Record {
            was: Pair::new(Recorded::Listed(None), Recorded::Absent),
            ..Record::default()
        };
        let records = [
            ("file", of_kind(Kind::File)),
            ("fifo", of_kind(Kind::Fifo)),
            ("socket", of_kind(Kind::Socket)),
            ("device", of_kind(Kind::CharDevice)),
            ("disk", of_kind(Kind::BlockDevice)),
            ("link", of_kind(Kind::Symlink)),
            ("new\nline", of_kind(Kind::Dir)),
            ("new\nline/below", of_kind(Kind::File)),
            ("skipped", gone_on_target),
            ("listed", listed),
            ("only/below", of_kind(Kind::File)),
        ];
        let records = records.map(|(p, record)| (path(p), record));
        let baseline = Baseline::from_records(Header::default(), records);
        let initiator = written(&baseline, Side::Initiator);
        assert_eq!(initiator, b"file\nlink\nlisted\nonly/below\nskipped\n");
        assert_eq!(written(&baseline, Side::Target), b"file\nlink\nonly/below\n");
    }

    #[test]
    fn lines_that_are_no_paths_are_refused_and_counted() {
        let list =
            parse(b"b\n/etc/passwd\n\na/../../x\na//b\na\n.\n./c\nd/\nb\na b\na/\xff\n-rf *\nz");
        assert_eq!(list.paths, [&b"-rf *"[..], b"a", b"a/\xff", b"a b", b"b", b"z"]);
        assert_eq!(list.refused, Some((6, &b"/etc/passwd"[..])));
        assert_eq!(parse(b"x\0y\n").refused.map(|(count, _)| count), Some(1));
        assert_eq!(parse(b""), List::default());
    }

    #[test]
    fn the_work_directory_in_a_list_is_passed_over() {
        let list =
            parse(b".osync_workdir\n.osync_workdir/deleted/x\n.osync_workdirs\na/.osync_workdir\n");
        assert_eq!(list.paths, [&b".osync_workdirs"[..], b"a/.osync_workdir"]);
        assert_eq!(list.refused, None);
    }

    #[test]
    fn short_lists_are_sorted_and_hold_each_path_once() {
        let paths = ["b", "a/x", "a b", "b", "new\nline"].map(path);
        assert_eq!(encode_paths(&paths), b"a b\na/x\nb\n");
        assert_eq!(encode_paths(&[RelPath::root()]), b"");
    }

    proptest! {
        #[test]
        fn any_bytes_read_as_sorted_paths(bytes in proptest::collection::vec(
            proptest::sample::select(b"\0\n/.ab\xff".to_vec()), 0..60)
        ) {
            let list = parse(&bytes);
            let paths: Vec<_> = list.paths.iter().map(|p| RelPath::new(*p).unwrap()).collect();
            prop_assert!(paths.is_sorted_by(|a, b| a < b) && !paths.contains(&RelPath::root()));
        }

        #[test]
        fn a_written_list_reads_as_what_it_was_written_from(given in any_records()) {
            let baseline = Baseline::from_records(Header::default(), given);
            for side in Side::BOTH {
                let bytes = written(&baseline, side);
                let list = parse(&bytes);
                prop_assert_eq!(list.refused, None);
                let expected: Vec<_> = baseline
                    .records()
                    .map(Result::unwrap)
                    .filter(|(path, record)| {
                        is_listed(record, side) && !path.as_bytes().contains(&b'\n')
                    })
                    .map(|(path, _)| path.as_bytes().to_vec())
                    .collect();
                prop_assert!(list.paths.iter().copied().eq(expected.iter().map(Vec::as_slice)));
                let mut lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
                lines.pop();
                prop_assert!(lines.is_sorted());
            }
        }
    }
}

#[cfg(test)]
#[path = "lists_merge_tests.rs"]
mod merge_tests;

//! What must hold of any bytes in a state file (docs/testing.md).

use super::baseline::Baseline;
use super::lists::{Lists, encode_paths, merge, parse, write_tree};
use super::notes::{count_of, decode_inflight, encode_inflight};
use super::snapshot::{decode, encode};
use super::{BaselineWriter, Origin, Record};
use crate::tree::{Pair, RelPath, Side, Stamp};

/// A snapshot: an error, or a baseline that can be written, copied, and merged. Its checksum
/// is put right, or no damage would ever come past it.
pub(crate) fn snapshot(bytes: &[u8]) {
    one_snapshot(bytes.to_vec());
    one_snapshot([bytes, blake3::hash(bytes).as_bytes()].concat());
}

fn one_snapshot(bytes: Vec<u8>) {
    let Ok((baseline, marks)) = decode(bytes) else { return };
    let records: Result<Vec<(RelPath, Record)>, _> = baseline.records().collect();
    assert_eq!(records.is_ok(), baseline.check().is_ok());
    let copied = copy(&baseline);
    assert_eq!((copied.body(), copied.len()), (baseline.body(), baseline.len()));
    let written = encode(&baseline, &marks);
    let again = decode(written);
    let Ok((again, same_marks)) = again else { panic!("what was written is {again:?}") };
    assert_eq!((again.header(), same_marks), (baseline.header(), marks));
    assert_eq!((again.body(), again.len()), (baseline.body(), baseline.len()));
    let Ok(records) = records else {
        let lists = Lists::default();
        assert!(merge(Some(&baseline), &lists).is_err(), "damage came through a merge");
        return;
    };
    is_sound(&records, &baseline);
    // numbers may be written in longer ways than ours, so bodies may differ
    let rebuilt = Baseline::from_records(baseline.header().clone(), records.clone());
    let same = rebuilt.records().collect::<Result<Vec<_>, _>>();
    assert_eq!(same.as_ref(), Ok(&records));
    for side in Side::BOTH {
        let mut list = Vec::new();
        assert!(write_tree(&baseline, side, &mut list).is_ok());
        assert_eq!(parse(&list).refused, None);
    }
    let merged = merge(Some(&baseline), &Lists::default());
    let Ok(merged) = merged else { panic!("{merged:?}") };
    let known = records.iter().filter(|(_, record)| !record.is_empty()).count();
    assert_eq!(merged.len(), known as u64, "a merge with no lists forgets");
}

fn copy(from: &Baseline) -> Baseline {
    let mut writer = BaselineWriter::new(from.header().clone());
    let copied = from.cursor().copy_subtree(&mut writer);
    match copied.map(|()| writer.finish()) {
        Ok(Ok(copy)) => copy,
        other => panic!("{other:?}"),
    }
}

fn is_sound(records: &[(RelPath, Record)], baseline: &Baseline) {
    assert!(records.is_sorted_by(|(a, _), (b, _)| a < b), "paths are out of order");
    let known = records.iter().filter(|(_, record)| !record.is_empty()).count();
    assert_eq!(known as u64, baseline.len());
}

/// Both sides' lists of osync 1.3, and those of failed deletions, four texts parted by NUL:
/// what is no path is refused, the rest existed.
pub(crate) fn lists(bytes: &[u8]) {
    let texts: Vec<&[u8]> = bytes.splitn(4, |byte| *byte == 0).collect();
    let mut lists = texts.iter().map(|text| {
        let list = parse(text);
        let paths: Vec<_> = list.paths.iter().map(|path| RelPath::new(*path)).collect();
        let Ok(paths) = paths.into_iter().collect::<Result<Vec<_>, _>>() else {
            panic!("{list:?} holds what is no path")
        };
        assert!(paths.is_sorted_by(|a, b| a < b) && !paths.contains(&RelPath::root()));
        assert!(!paths.iter().any(|path| path.as_bytes().starts_with(b".osync_workdir/")));
        assert_eq!(parse(&encode_paths(&paths)).paths, list.paths);
        list.paths
    });
    let tree = Pair::new(lists.next(), lists.next());
    let failed = Pair::new(lists.next().unwrap_or_default(), lists.next().unwrap_or_default());
    let expected: std::collections::BTreeSet<Vec<u8>> = [&tree.initiator, &tree.target]
        .into_iter()
        .flatten()
        .chain([&failed.initiator, &failed.target])
        .flatten()
        .map(|path| path.to_vec())
        .collect();
    let listed_at = Pair::new(Some(Stamp::new(1, 0)), None);
    let merged = merge(None, &Lists { tree, listed_at, failed });
    let Ok(merged) = merged else { panic!("{merged:?}") };
    assert_eq!(merged.len(), expected.len() as u64);
    assert_eq!(merged.header().origin, Origin::Lists);
    let known = merged.records().filter_map(Result::ok).filter(|(_, record)| !record.is_empty());
    assert!(known.map(|(path, _)| path.as_bytes().to_vec()).eq(ordered(expected)));
}

fn ordered(paths: std::collections::BTreeSet<Vec<u8>>) -> impl Iterator<Item = Vec<u8>> {
    let mut paths: Vec<Vec<u8>> = paths.into_iter().collect();
    paths.sort_by(|a, b| crate::tree::path::compare(a, b));
    paths.into_iter()
}

/// What was under way, and how often a run was resumed.
pub(crate) fn progress(bytes: &[u8]) {
    let _ = count_of(bytes);
    if let Some(inflight) = decode_inflight(bytes) {
        assert_eq!(decode_inflight(&encode_inflight(&inflight)), Some(inflight));
    }
}

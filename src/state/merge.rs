//! The baseline after osync 1.3 has run: its lists say what existed, our older snapshot
//! adds what it knew of it (spec 3, "State files"). Pure.

use super::baseline::Baseline;
use super::block::Known;
use super::records::PathBuilder;
use super::walk::{Order, Pick, Walk};
use super::wire::Damaged;
use super::writer::Disorder;
use super::{Header, Origin, Record, Recorded};
use crate::tree::{Entry, Pair, Side, Stamp, path};

/// What osync 1.3 left behind. Paths are in the order of
/// [`RelPath`](crate::tree::RelPath), each once.
#[derive(Debug, Default)]
pub struct Lists<'a> {
    /// Each side's `tree-after` list; none where the file is missing.
    pub tree: Pair<Option<Vec<&'a [u8]>>>,
    /// When each was written.
    pub listed_at: Pair<Option<Stamp>>,
    /// Each side's `failed-delete` list.
    pub failed: Pair<Vec<&'a [u8]>>,
}

/// Why no baseline came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// The snapshot.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// Our own fault.
    #[error(transparent)]
    Disorder(#[from] Disorder),
}

/// Puts the baseline together. A path in a side's list existed there, and so did, on both
/// sides, a path whose deletion failed: if one side still has it the deletion is due.
/// Where a side has no list, the snapshot counts.
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
        let says = Pair::new(initiator, target);
        let before = match snapshot.take_if(|(known, _)| *known == path) {
            Some((_, record)) => {
                snapshot = next_of(&mut walk)?;
                record
            }
            None => Record::default(),
        };
        let word = Pair::from_fn(|side| match (has_list[side], says[side] || failed) {
            (_, true) => Word::Existed,
            (true, false) => Word::Nothing,
            (false, false) => Word::None,
        });
        let record = judge(&path, before, word);
        // directories on the way to a path below come by themselves
        if !record.is_empty() {
            builder.add(&path, record);
        }
    }
    Ok(builder.finish(header)?)
}

/// What a side's list says of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// It existed.
    Existed,
    /// It did not.
    Nothing,
    /// There is no list.
    None,
}

fn judge(path: &[u8], before: Record, word: Pair<Word>) -> Record {
    let unlistable = path.contains(&b'\n');
    let skipped = before.skipped;
    let Pair { initiator, target } = before.was;
    let one = |was: Recorded, word: Word| match word {
        Word::Existed => Recorded::Listed(into_entry(was)),
        Word::None => was,
        // of what a list never holds its silence says nothing
        Word::Nothing if unlistable => was,
        Word::Nothing => match was {
            Recorded::Seen(entry) if !entry.kind.is_listed() => Recorded::Seen(entry),
            _ => Recorded::Absent,
        },
    };
    let was = Pair::new(one(initiator, word.initiator), one(target, word.target));
    let mut record = Record { was, skipped: Pair::default() };
    // the mark of a skipped deletion holds as long as the path is still on just that side
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
) -> Result<Option<(Vec<u8>, Record)>, Damaged> {
    Ok(walk.next()?.map(|(path, record)| (path.to_vec(), record)))
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;

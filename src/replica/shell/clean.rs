//! Removes what `backup/` and `deleted/` have kept long enough (spec 4, "Then cleaning").
//!
//! The other side tells what is old enough by its own dates; what came with a directory
//! that was moved there whole counts from that moment, which stands in `arrivals`.

use super::ShellReplica;
use super::channel::{OnStop, Room};
use super::encode::datum;
use super::record::parse;
use super::scripts::Piece;
use crate::replica::{Cleaned, Op, PathError, Replica as _, ReplicaError, Retention};
use crate::tree::{Entry, RelPath};
use std::collections::{BTreeMap, BTreeSet};

const DAY: i64 = 86_400;
const WORK: &[u8] = b".osync_workdir/";

/// What the other side told: paths begin with `backup/` or `deleted/`.
#[derive(Debug, Default)]
pub(super) struct Aged {
    now: i64,
    pub(super) entries: BTreeMap<RelPath, Entry>,
    arrivals: BTreeMap<RelPath, i64>,
}

impl ShellReplica {
    pub(super) fn clean_kept(&mut self, retention: Retention) -> Result<Cleaned, ReplicaError> {
        let link = self.link()?;
        let nothing = retention.backup_days == 0 && retention.deleted_days == 0;
        // what came in this run is not old
        if nothing || !link.has_kept {
            return Ok(Cleaned::default());
        }
        let style = link.style;
        let words = format!("aged {} {}", retention.backup_days, retention.deleted_days);
        let pieces = [Piece::Look, Piece::List, Piece::Lock, Piece::Clean];
        let (status, answer) =
            self.ask_with(&pieces, &words, b"", OnStop::GiveUp, Room::Records)?;
        let aged =
            read(&answer, style).filter(|_| status == 0).ok_or_else(|| self.garbled("aged"))?;
        let victims = old_enough(&aged, retention);
        let mut cleaned = Cleaned::default();
        let mut parents = BTreeSet::new();
        let mut gone = BTreeSet::new();
        let mut trouble = None;
        let files: Vec<&RelPath> =
            victims.iter().copied().filter(|path| !aged.entries[*path].kind.is_dir()).collect();
        for (path, result) in files.iter().zip(self.remove(&files, &aged)?) {
            match result {
                Ok(()) => {
                    cleaned.entries += 1;
                    cleaned.bytes += aged.entries[*path].size;
                    gone.insert((*path).clone());
                    add_parents(&mut parents, path);
                }
                Err(PathError::Changed | PathError::Vanished) => {}
                Err(error) => trouble = trouble.or(Some(format!("{path}: {error}"))),
            }
        }
        parents.extend(
            victims.iter().filter(|p| aged.entries[**p].kind.is_dir()).map(|p| (*p).clone()),
        );
        self.remove_empty(&parents)?;
        self.forget_arrivals(&aged)?;
        match trouble {
            Some(what) => {
                Err(self.error(format!("cannot remove what was kept long enough: {what}")))
            }
            None => Ok(cleaned),
        }
    }

    fn remove(
        &mut self,
        paths: &[&RelPath],
        aged: &Aged,
    ) -> Result<Vec<Result<(), PathError>>, ReplicaError> {
        let ops: Vec<Op> = paths
            .iter()
            .map(|path| Op::Remove { path: in_work(path), expect: aged.entries[*path].clone() })
            .collect();
        self.apply(&ops)
    }

    /// Removes directories that are empty now, deepest first; others stay without a word.
    fn remove_empty(&mut self, dirs: &BTreeSet<RelPath>) -> Result<(), ReplicaError> {
        let mut paths: Vec<RelPath> = dirs.iter().rev().map(in_work).collect();
        paths.sort_by_key(|path| std::cmp::Reverse(path.depth()));
        let looks = self.look_at(&paths)?;
        let ops: Vec<Op> = paths
            .into_iter()
            .zip(looks)
            .filter_map(|(path, look)| Some(Op::Remove { path, expect: look.ok()?? }))
            .filter(|op| matches!(op, Op::Remove { expect, .. } if expect.kind.is_dir()))
            .collect();
        self.apply(&ops).map(drop)
    }

    /// Takes what is gone out of the record.
    fn forget_arrivals(&mut self, aged: &Aged) -> Result<(), ReplicaError> {
        let paths: Vec<RelPath> = aged.arrivals.keys().map(in_work).collect();
        let looks = self.look_at(&paths)?;
        let mut data = Vec::new();
        let mut kept = 0;
        for ((path, at), look) in aged.arrivals.iter().zip(looks) {
            if !matches!(look, Ok(None)) {
                let mut line = format!("{at} ").into_bytes();
                line.extend_from_slice(path.as_bytes());
                datum(&mut data, &line);
                kept += 1;
            }
        }
        if kept == aged.arrivals.len() {
            return Ok(());
        }
        data.extend_from_slice(b".\n");
        self.ask(&[], "arrivals", &data, OnStop::Finish).map(drop)
    }
}

fn in_work(path: &RelPath) -> RelPath {
    RelPath::new([WORK, path.as_bytes()].concat()).unwrap_or_default()
}

/// The directories above a kept path, `backup` and `deleted` themselves not among them.
fn add_parents(parents: &mut BTreeSet<RelPath>, path: &RelPath) {
    let mut at = path.parent();
    while let Some(dir) = at.filter(|dir| dir.depth() > 1) {
        at = dir.parent();
        if !parents.insert(dir) {
            return;
        }
    }
}

pub(super) fn read(answer: &[u8], style: super::record::Style) -> Option<Aged> {
    let mut aged = Aged::default();
    let mut pieces = answer.split(|b| *b == 0);
    let now = pieces.next()?.strip_prefix(b"=")?;
    aged.now = std::str::from_utf8(now).ok()?.parse().ok()?;
    for piece in pieces.by_ref() {
        if piece == b"#" {
            let arrivals: Vec<&[u8]> = pieces.collect();
            // the end is a record of its own, so that none is missing unnoticed
            let (end, arrivals) = arrivals
                .split_last()
                .filter(|(last, _)| last.is_empty())
                .and_then(|(_, rest)| rest.split_last())?;
            if *end != b"." {
                return None;
            }
            aged.arrivals = arrivals.iter().filter_map(|piece| arrival(piece)).collect();
            return Some(aged);
        }
        let record = parse(piece, style).ok()?;
        aged.entries.insert(RelPath::new(record.path).ok()?, record.entry);
    }
    None
}

/// `SECONDS NAME/PATH`; torn or foreign pieces are passed over.
fn arrival(piece: &[u8]) -> Option<(RelPath, i64)> {
    let space = piece.iter().position(|b| *b == b' ')?;
    let at = std::str::from_utf8(&piece[..space]).ok()?.parse().ok()?;
    let path = RelPath::new(&piece[space + 1..]).ok()?;
    (path.depth() > 1).then_some((path, at))
}

/// What may go: what has not arrived lately, by itself or with a directory above it.
pub(super) fn old_enough(aged: &Aged, retention: Retention) -> Vec<&RelPath> {
    let fresh = |path: &RelPath| {
        let days = if path.as_bytes().starts_with(b"backup/") {
            retention.backup_days
        } else {
            retention.deleted_days
        };
        aged.arrivals.iter().any(|(dir, at)| {
            path.is_within(dir) && aged.now.saturating_sub(*at) / DAY <= i64::from(days)
        })
    };
    aged.entries.keys().filter(|path| !fresh(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::record::Style;
    use super::*;

    const RETENTION: Retention = Retention { backup_days: 10, deleted_days: 30 };

    fn aged(arrivals: &str) -> Aged {
        let facts = "644 0 0 1 2 1 5 5.0 6.0 ";
        let text = format!(
            "=10000000\0f {facts}/./deleted/d/x//\0f {facts}/./backup/y//\0#\0{arrivals}\0.\0"
        );
        read(text.as_bytes(), Style::Gnu).unwrap()
    }

    #[test]
    fn what_came_with_its_directory_counts_from_that_moment() {
        let day = |days: i64| 10_000_000 - days * DAY;
        for (arrivals, expected) in [
            (String::new(), &["backup/y", "deleted/d/x"][..]),
            (format!("{} deleted/d\0", day(30)), &["backup/y"]),
            (format!("{} deleted/d\0", day(31)), &["backup/y", "deleted/d/x"]),
            (
                format!("{} deleted\0garbage\0{} deleted/../x\0", day(0), day(0)),
                &["backup/y", "deleted/d/x"],
            ),
        ] {
            let aged = aged(&arrivals);
            let found: Vec<String> =
                old_enough(&aged, RETENTION).iter().map(|p| p.shown()).collect();
            assert_eq!(found, expected, "{arrivals}");
        }
    }

    #[test]
    fn a_cut_answer_is_none() {
        assert!(read(b"=5\0", Style::Gnu).is_none());
        assert!(read(b"", Style::Gnu).is_none());
        assert!(read(b"=5\0#\x005 deleted/d\0", Style::Gnu).is_none());
        assert!(read(b"=5\0#\0\0.\0", Style::Gnu).is_some());
    }
}

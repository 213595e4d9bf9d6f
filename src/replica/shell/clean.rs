//! Removes what `backup/` and `deleted/` have kept long enough (spec 4, "Then cleaning").
//!
//! The other side tells what is old enough by its own dates. Its records of arrivals, which
//! outrank these, are asked for only where something may go.

use super::ShellReplica;
use super::channel::{OnStop, Room};
use super::record::parse;
use super::scripts::Piece;
use super::versions::Much;
use crate::replica::arrivals::{self, Arrivals, Line};
use crate::replica::{
    Cleaned, Done, Keep, Op, PathError, Replica as _, ReplicaError, Retention, Version, in_work_dir,
};
use crate::tree::{Entry, RelPath};
use std::collections::{BTreeMap, BTreeSet};

/// What the other side told: paths begin with `backup/` or `deleted/`.
#[derive(Debug, Default)]
pub(super) struct Aged {
    now: i64,
    pub(super) entries: BTreeMap<RelPath, Entry>,
    /// The first lines of the two records, which are about the oldest arrivals.
    first: [Arrivals; 2],
    /// There is a record of an older version.
    has_older: bool,
}

/// What is to be done in one of the two directories. Paths are below it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// What has been there long enough.
    pub old: Vec<RelPath>,
    /// What nothing tells the arrival of: it counts from now.
    pub unknown: Vec<RelPath>,
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
        let mut cleaned = Cleaned::default();
        let mut trouble = None;
        for (keep, days) in
            [(Keep::Backup, retention.backup_days), (Keep::Deleted, retention.deleted_days)]
        {
            if days > 0 && may_hold_old(&aged, keep, days) {
                self.clean_one(keep, days, &aged, &mut cleaned, &mut trouble)?;
            }
        }
        if let Some(what) = trouble {
            return Err(self.error(format!("cannot remove what was kept long enough: {what}")));
        }
        if aged.has_older && retention.backup_days > 0 && retention.deleted_days > 0 {
            self.ask(&pieces, "older", b"", OnStop::Finish)?;
        }
        Ok(cleaned)
    }

    fn clean_one(
        &mut self,
        keep: Keep,
        days: u32,
        aged: &Aged,
        cleaned: &mut Cleaned,
        trouble: &mut Option<String>,
    ) -> Result<(), ReplicaError> {
        let record = self.record(keep, Much::All)?.clone();
        let mut entries = below(aged, keep);
        // Setting a version aside has renewed its ctime, so it is not among them.
        let missing: Vec<RelPath> = record
            .iter()
            .filter(|(kept, arrival)| {
                arrivals::is_old(arrival.at, aged.now, days) && !entries.contains_key(*kept)
            })
            .map(|(kept, _)| kept.clone())
            .collect();
        let places: Vec<RelPath> =
            missing.iter().map(|kept| in_work_dir(keep.name(), kept)).collect();
        let mut gone = BTreeSet::new();
        for (kept, found) in missing.into_iter().zip(self.look_plainly(&places)?) {
            match found {
                Ok(Some(found)) => drop(entries.insert(kept, found)),
                Ok(None) => drop(gone.insert(kept)),
                Err(_) => {}
            }
        }
        let due = due(&entries, &record, days, aged.now);
        let files: Vec<&RelPath> =
            due.old.iter().filter(|kept| !entries[*kept].kind.is_dir()).collect();
        let mut parents: BTreeSet<RelPath> =
            due.old.iter().filter(|kept| entries[*kept].kind.is_dir()).cloned().collect();
        for (kept, result) in files.iter().zip(self.remove(keep, &files, &entries)?) {
            match result {
                Ok(_) => {
                    cleaned.entries += 1;
                    cleaned.bytes += entries[*kept].size;
                    gone.insert((*kept).clone());
                    add_parents(&mut parents, kept);
                }
                Err(PathError::Changed | PathError::Vanished) => {}
                Err(error) => drop(trouble.get_or_insert_with(|| format!("{kept}: {error}"))),
            }
        }
        gone.extend(self.remove_empty(keep, &parents)?);
        let now = |kept: RelPath| Line::now(kept, Version::Ordinary, aged.now);
        let unknown: Vec<Line> = due.unknown.into_iter().map(now).collect();
        let record = self.record(keep, Much::All)?;
        let before = record.iter().count();
        record.forget_unless(|kept| !gone.contains(kept));
        if record.iter().count() == before && !record.is_stale() && !aged.has_older {
            return self.add_to_record(keep, &unknown);
        }
        record.add(&unknown);
        self.replace_record(keep)
    }

    fn remove(
        &mut self,
        keep: Keep,
        paths: &[&RelPath],
        entries: &BTreeMap<RelPath, Entry>,
    ) -> Result<Vec<Result<Done, PathError>>, ReplicaError> {
        let ops: Vec<Op> = paths
            .iter()
            .map(|path| Op::Remove {
                path: in_work_dir(keep.name(), path),
                expect: entries[*path].clone(),
            })
            .collect();
        self.apply(&ops)
    }

    /// Removes directories that are empty now, deepest first; others stay without a word.
    /// Returns those that went.
    fn remove_empty(
        &mut self,
        keep: Keep,
        dirs: &BTreeSet<RelPath>,
    ) -> Result<Vec<RelPath>, ReplicaError> {
        let mut dirs: Vec<RelPath> = dirs.iter().rev().cloned().collect();
        dirs.sort_by_key(|path| std::cmp::Reverse(path.depth()));
        let paths: Vec<RelPath> = dirs.iter().map(|dir| in_work_dir(keep.name(), dir)).collect();
        let looks = self.look_plainly(&paths)?;
        let there = dirs.into_iter().zip(paths).zip(looks).filter_map(|((dir, path), look)| {
            let expect = look.ok()?.filter(|entry| entry.kind.is_dir())?;
            Some((dir, Op::Remove { path, expect }))
        });
        let (dirs, ops): (Vec<RelPath>, Vec<Op>) = there.unzip();
        let results = self.apply(&ops)?;
        let went = dirs.into_iter().zip(results).filter(|(_, result)| result.is_ok());
        Ok(went.map(|(dir, _)| dir).collect())
    }
}

/// The directories above a kept path.
fn add_parents(parents: &mut BTreeSet<RelPath>, path: &RelPath) {
    let mut at = path.parent();
    while let Some(dir) = at.filter(|dir| !dir.is_root()) {
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
            aged.first = [Arrivals::read(pieces.next()?), Arrivals::read(pieces.next()?)];
            aged.has_older = pieces.next()?.starts_with(b"older");
            // the end is a record of its own, so that none is missing unnoticed
            if pieces.next()? != b"." {
                return None;
            }
            return Some(aged);
        }
        let record = parse(piece, style).ok()?;
        aged.entries.insert(RelPath::new(record.path).ok()?, record.entry);
    }
    None
}

/// What of the told lies in a directory, below it.
pub(super) fn below(aged: &Aged, keep: Keep) -> BTreeMap<RelPath, Entry> {
    let prefix = [keep.name().as_bytes(), b"/"].concat();
    let inside = aged.entries.iter().filter_map(|(path, entry)| {
        let path = path.as_bytes().strip_prefix(prefix.as_slice())?;
        Some((RelPath::new(path).ok().filter(|path| !path.is_root())?, entry.clone()))
    });
    inside.collect()
}

/// Whether anything may be old enough, by the dates of the other side or the top of the
/// record. A version that was set aside later, and stands further down in it, has to wait for
/// a day at which another one is.
fn may_hold_old(aged: &Aged, keep: Keep, days: u32) -> bool {
    let first = &aged.first[usize::from(keep == Keep::Deleted)];
    below(aged, keep).values().any(|entry| !entry.kind.is_dir())
        || first.iter().any(|(_, arrival)| arrivals::is_old(arrival.at, aged.now, days))
}

/// What is to be done with entries that may be old.
pub(super) fn due(
    entries: &BTreeMap<RelPath, Entry>,
    record: &Arrivals,
    days: u32,
    now: i64,
) -> Due {
    let mut due = Due::default();
    for (kept, entry) in entries {
        let above = std::iter::successors(kept.parent(), RelPath::parent);
        let above = above.filter_map(|dir| record.get(&dir)).map(|arrival| arrival.at).max();
        match arrivals::came(entry, record.get(kept), above) {
            Some(came) if arrivals::is_old(came, now, days) => due.old.push(kept.clone()),
            Some(_) => {}
            None => due.unknown.push(kept.clone()),
        }
    }
    due
}

#[cfg(test)]
mod tests {
    use super::super::record::Style;
    use super::*;

    const DAY: i64 = 86_400;
    const NOW: i64 = 10_000_000;

    fn aged(first: &str) -> Aged {
        let facts = "644 0 0 1 2 1 5 5.0 6.0 ";
        let text = format!(
            "={NOW}\0f {facts}/./deleted/d/x//\0f {facts}/./backup/y//\0#\0\n{first}\0\0older\0.\0"
        );
        read(text.as_bytes(), Style::Gnu).unwrap()
    }

    #[test]
    fn what_came_with_its_directory_counts_from_that_moment() {
        let day = |days: i64| NOW - days * DAY;
        for (record, expected) in [
            (String::new(), &["d/x"][..]),
            (format!("{} o d\n", day(30)), &[]),
            (format!("{} o d\n", day(31)), &["d/x"]),
            (format!("{} o d/x\n", day(30)), &[]),
            (format!("garbage\n{} o ../x\n", day(0)), &["d/x"]),
        ] {
            let entries = below(&aged(""), Keep::Deleted);
            let due = due(&entries, &Arrivals::read(record.as_bytes()), 30, NOW);
            let old: Vec<String> = due.old.iter().map(|path| path.shown()).collect();
            assert_eq!(old, expected, "{record}");
        }
    }

    #[test]
    fn a_ctime_that_is_the_mtime_is_no_reason_to_remove_anything() {
        let mut entries = below(&aged(""), Keep::Backup);
        entries.values_mut().for_each(|entry| entry.ctime = entry.mtime);
        let due = due(&entries, &Arrivals::default(), 30, NOW);
        assert!(due.old.is_empty() && due.unknown.len() == 1);
    }

    #[test]
    fn a_record_is_asked_for_when_something_in_it_may_be_old() {
        let mut aged = aged(&format!("{} o z", NOW - 31 * DAY));
        aged.entries.clear();
        assert!(may_hold_old(&aged, Keep::Backup, 30) && !may_hold_old(&aged, Keep::Backup, 31));
        assert!(!may_hold_old(&aged, Keep::Deleted, 30) && aged.has_older);
    }

    #[test]
    fn a_cut_answer_is_none() {
        for text in ["=5\0", "", "=5\0#\0", "=5\0#\0\0\0", "=5\0#\0\0\0older\0"] {
            assert!(read(text.as_bytes(), Style::Gnu).is_none(), "{text:?}");
        }
        assert!(read(b"=5\0#\0\0\0\0.\0", Style::Gnu).is_some());
    }
}

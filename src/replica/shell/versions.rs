//! What a remote replica keeps: the records of arrivals, and what becomes of kept versions with
//! time (spec 8, "Kept versions").

use super::ShellReplica;
use super::ops::MakesRoom;
use super::protocol::{datum, parse};
use super::session::{OnStop, Piece, Room};
use crate::replica::kept_versions::{
    self, Arrival, Arrivals, LONGEST_NAME, Line, kept_path, with_suffix,
};
use crate::replica::{
    Cleaned, Fate, Keep, Keeping, KeptAt, Older, Op, OpResult, PathError, Replica as _,
    ReplicaError, Retention, Version, in_work_dir, lock_policy,
};
use crate::tree::{Entry, Kind, RelPath};
use std::collections::{BTreeMap, BTreeSet};

/// More than a million arrivals under long names.
const LONGEST_RECORD_OF_ARRIVALS: u64 = 1 << 28;

/// The records of arrivals, as far as they were asked for.
#[derive(Debug, Default)]
pub(super) struct Records {
    backup: Option<Asked>,
    deleted: Option<Asked>,
}

#[derive(Debug)]
struct Asked {
    much: Much,
    arrivals: Arrivals,
}

/// How much of a record is wanted. The whole of it may be long, and the line thin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Much {
    /// Protected versions alone.
    Protected,
    All,
}

impl Records {
    fn of(&mut self, keep: Keep) -> &mut Option<Asked> {
        match keep {
            Keep::Backup => &mut self.backup,
            Keep::Deleted => &mut self.deleted,
        }
    }
}

/// What comes where.
struct Coming {
    kept: RelPath,
    keeping: Keeping,
    kind: Kind,
}

/// What an operation will keep; `None`: nothing, or a copy whose name is no other's.
fn coming(op: &Op) -> Option<Coming> {
    match op {
        Op::SetAside { path, expect, keeping } => {
            Some(Coming { kept: kept_path(path), keeping: *keeping, kind: expect.kind })
        }
        Op::PutAway { found, fate: Fate::Keep { kept, keeping }, .. } => {
            Some(Coming { kept: kept.clone(), keeping: *keeping, kind: found.kind })
        }
        _ => None,
    }
}

impl ShellReplica {
    /// For each operation what stands in the way of what it keeps.
    pub(super) fn what_makes_room(&mut self, ops: &[Op]) -> Result<Vec<MakesRoom>, ReplicaError> {
        let coming: Vec<Option<Coming>> = ops.iter().map(coming).collect();
        let places: Vec<RelPath> = coming
            .iter()
            .flatten()
            .map(|coming| in_work_dir(coming.keeping.keep.name(), &coming.kept))
            .collect();
        let mut there: BTreeMap<RelPath, Entry> = BTreeMap::new();
        for (place, found) in places.iter().zip(self.look_plainly(&places)?) {
            if let Ok(Some(found)) = found {
                there.insert(place.clone(), found);
            }
        }
        let mut makes_room = Vec::with_capacity(ops.len());
        for coming in coming {
            let in_the_way = coming.as_ref().and_then(|coming| {
                there.get(&in_work_dir(coming.keeping.keep.name(), &coming.kept))
            });
            makes_room.push(match (&coming, in_the_way) {
                (Some(coming), Some(there)) => self.room_for(coming, there)?,
                _ => None,
            });
        }
        Ok(makes_room)
    }

    fn room_for(&mut self, coming: &Coming, there: &Entry) -> Result<MakesRoom, ReplicaError> {
        let Keeping { keep, older, .. } = coming.keeping;
        let files = coming.kind == Kind::File && there.kind == Kind::File;
        let may_go = older == Older::Replaced && files;
        // A ctime that is not the mtime tells when it came.
        let is_told = there.ctime != there.mtime && !there.kind.is_dir();
        let much = if may_go || is_told { Much::Protected } else { Much::All };
        let mut own = self.record(keep, much)?.get(&coming.kept);
        if own.is_some_and(|own| own.version == Version::Protected) {
            // An ordinary one may have come there since.
            own = self.record(keep, Much::All)?.get(&coming.kept);
        }
        if may_go && own.is_none_or(|own| own.version == Version::Ordinary) {
            return Ok(None);
        }
        let at = kept_versions::came(there, own, None).unwrap_or_else(lock_policy::now);
        let version = own.map_or(Version::Ordinary, |own| own.version);
        let suffix = kept_versions::dated(at);
        let name = with_suffix(coming.kept.name(), suffix.as_bytes(), LONGEST_NAME - 4);
        Ok(Some((name, Arrival { at, version, is_renamed: true })))
    }

    /// A record, asked for when it is needed first.
    pub(super) fn record(&mut self, keep: Keep, much: Much) -> Result<&mut Arrivals, ReplicaError> {
        let known = self.records.of(keep).as_ref().is_some_and(|asked| asked.much >= much);
        if !known {
            let word = if much == Much::All { "all" } else { "protected" };
            let words = format!("record {} {word}", keep.name());
            let pieces = [Piece::Look, Piece::Lock, Piece::Clean];
            let room = Room::Bytes(LONGEST_RECORD_OF_ARRIVALS);
            let (status, answer) = self.ask_with(&pieces, &words, b"", OnStop::Finish, room)?;
            if status != 0 {
                return Err(self.garbled("record"));
            }
            let end = answer.iter().position(|byte| *byte == 0).unwrap_or(answer.len());
            let (record, older) = answer.split_at(end);
            let mut arrivals = Arrivals::read(record);
            arrivals.read_older(older, keep);
            *self.records.of(keep) = Some(Asked { much, arrivals });
        }
        let asked = self
            .records
            .of(keep)
            .get_or_insert_with(|| Asked { much: Much::Protected, arrivals: Arrivals::default() });
        Ok(&mut asked.arrivals)
    }

    /// What the other side has written down itself while it worked.
    pub(super) fn note_results(&mut self, results: &[Result<OpResult, PathError>]) {
        for result in results {
            let Ok(OpResult::Kept(KeptAt { keep, kept, is_unseen, older })) = result else {
                continue;
            };
            if let Some(link) = &mut self.link {
                link.has_kept = true;
            }
            let Some(asked) = self.records.of(*keep) else { continue };
            if let Some(older) = older
                && let Some(arrival) = asked.arrivals.get(kept)
            {
                let arrival = Arrival { is_renamed: true, ..arrival };
                asked.arrivals.add(&[Line { kept: older.clone(), arrival }]);
            }
            let version = if *is_unseen { Version::Protected } else { Version::Ordinary };
            asked.arrivals.add(&[Line::now(kept.clone(), version, lock_policy::now())]);
        }
    }

    /// Adds to a record over there.
    pub(super) fn add_to_record(&mut self, keep: Keep, lines: &[Line]) -> Result<(), ReplicaError> {
        if lines.is_empty() {
            return Ok(());
        }
        self.send_record(keep, "add", &kept_versions::added(lines))
    }

    /// Writes a record over there anew.
    pub(super) fn replace_record(&mut self, keep: Keep) -> Result<(), ReplicaError> {
        let text = self.record(keep, Much::All)?.to_text();
        self.send_record(keep, "replace", &text)
    }

    fn send_record(&mut self, keep: Keep, how: &str, text: &[u8]) -> Result<(), ReplicaError> {
        let mut data = Vec::new();
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            datum(&mut data, line);
        }
        data.extend_from_slice(b".\n");
        let words = format!("note {} {how}", keep.name());
        let pieces = [Piece::Look, Piece::Lock, Piece::Clean];
        self.ask(&pieces, &words, &data, OnStop::Finish).map(drop)
    }
}

/// What the other side told: paths begin with `backup/` or `deleted/`.
#[derive(Debug, Default)]
pub(super) struct Aged {
    now: i64,
    pub(super) entries: BTreeMap<RelPath, Entry>,
    /// The first lines of the two records, which are about the oldest arrivals.
    first: [Arrivals; 2],
    /// There is a record of an older version.
    has_older: bool,
    /// How many bytes both hold; `None`: not all can be seen.
    bytes: Option<u64>,
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
        if !link.has_kept {
            return Ok(Cleaned { kept: Some(0), ..Cleaned::default() });
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
        cleaned.kept = aged.bytes.map(|bytes| bytes.saturating_sub(cleaned.bytes));
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
                kept_versions::is_old(arrival.at, aged.now, days) && !entries.contains_key(*kept)
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
    ) -> Result<Vec<Result<OpResult, PathError>>, ReplicaError> {
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

pub(super) fn read(answer: &[u8], style: super::protocol::Style) -> Option<Aged> {
    let mut aged = Aged::default();
    let mut pieces = answer.split(|b| *b == 0);
    let now = pieces.next()?.strip_prefix(b"=")?;
    aged.now = std::str::from_utf8(now).ok()?.parse().ok()?;
    for piece in pieces.by_ref() {
        if piece == b"#" {
            aged.first = [Arrivals::read(pieces.next()?), Arrivals::read(pieces.next()?)];
            aged.has_older = pieces.next()?.starts_with(b"older");
            aged.bytes = bytes(pieces.next()?);
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

/// Millions and the rest.
fn bytes(words: &[u8]) -> Option<u64> {
    let (millions, rest) = std::str::from_utf8(words).ok()?.split_once(' ')?;
    let millions: u64 = millions.parse().ok()?;
    millions.checked_mul(1_000_000)?.checked_add(rest.parse().ok()?)
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
        || first.iter().any(|(_, arrival)| kept_versions::is_old(arrival.at, aged.now, days))
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
        let above = kept.ancestors().skip(1);
        let above = above.filter_map(|dir| record.get(&dir)).map(|arrival| arrival.at).max();
        match kept_versions::came(entry, record.get(kept), above) {
            Some(came) if kept_versions::is_old(came, now, days) => due.old.push(kept.clone()),
            Some(_) => {}
            None => due.unknown.push(kept.clone()),
        }
    }
    due
}

#[cfg(test)]
mod tests {
    use super::super::protocol::Style;
    use super::*;

    const DAY: i64 = 86_400;
    const NOW: i64 = 10_000_000;

    fn aged(first: &str) -> Aged {
        let facts = "644 0 0 1 2 1 5 5.0 6.0 ";
        let text = format!(
            "={NOW}\0f {facts}/./deleted/d/x//\0f {facts}/./backup/y//\0#\0\n{first}\0\0older\03 000007\0.\0"
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
        for text in ["=5\0", "", "=5\0#\0", "=5\0#\0\0\0", "=5\0#\0\0\0older\0", "=5\0#\0\0\0\0.\0"]
        {
            assert!(read(text.as_bytes(), Style::Gnu).is_none(), "{text:?}");
        }
        for (said, expected) in [
            ("", None),
            ("0 0", Some(0)),
            ("2147483648 999999", Some(2_147_483_648_999_999)),
            ("99999999999999999999 0", None),
            ("18446744073710 0", None),
        ] {
            let text = format!("=5\0#\0\0\0\0{said}\0.\0");
            assert_eq!(read(text.as_bytes(), Style::Gnu).unwrap().bytes, expected, "{said}");
        }
    }
}

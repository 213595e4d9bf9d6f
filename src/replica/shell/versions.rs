//! What is kept over there: when it came, and how it makes room for another of its name
//! (spec 8, "Kept versions").

use super::ShellReplica;
use super::channel::{OnStop, Room};
use super::encode::datum;
use super::ops::MakesRoom;
use super::scripts::Piece;
use crate::replica::arrivals::{self, Arrival, Arrivals, Line};
use crate::replica::kept_name::{LONGEST_NAME, kept_path, with_suffix};
use crate::replica::{
    Done, Fate, Keep, Keeping, KeptAt, Older, Op, PathError, ReplicaError, Version, host,
    in_work_dir,
};
use crate::tree::{Entry, Kind, RelPath};
use std::collections::BTreeMap;

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
        Op::Settle { found, fate: Fate::Keep { kept, keeping }, .. } => {
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
        let at = arrivals::came(there, own, None).unwrap_or_else(host::now);
        let version = own.map_or(Version::Ordinary, |own| own.version);
        let suffix = arrivals::dated(at);
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
    pub(super) fn note_results(&mut self, results: &[Result<Done, PathError>]) {
        for result in results {
            let Ok(Done::Kept(KeptAt { keep, kept, is_unseen, older })) = result else { continue };
            let Some(asked) = self.records.of(*keep) else { continue };
            if let Some(older) = older
                && let Some(arrival) = asked.arrivals.get(kept)
            {
                let arrival = Arrival { is_renamed: true, ..arrival };
                asked.arrivals.add(&[Line { kept: older.clone(), arrival }]);
            }
            let version = if *is_unseen { Version::Protected } else { Version::Ordinary };
            asked.arrivals.add(&[Line::now(kept.clone(), version, host::now())]);
        }
    }

    /// Adds to a record over there.
    pub(super) fn add_to_record(&mut self, keep: Keep, lines: &[Line]) -> Result<(), ReplicaError> {
        if lines.is_empty() {
            return Ok(());
        }
        self.send_record(keep, "add", &arrivals::added(lines))
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

//! Looking into `backup/` and `deleted/` of both sides, and putting versions back (spec 9,
//! `osync restore`, `osync conflicts`).
//!
//! A version that lies on the side that is to have it is renamed to its place: that takes no
//! space, and it is as it was in every respect. One that lies on the other side is brought over
//! by rsync first, into the private place of this run, and renamed from there. What stands at
//! the place is kept before; nothing happens before all of it is there.

use super::apply::metadata::Owner;
use super::closing::Halt;
use super::{BATCH, RunContext, Task};
use crate::config::{Config, Preserve};
use crate::process::fault;
use crate::reconcile::undo::end_difference;
use crate::reconcile::versions::{self, Choice, Held, NoVersion, Taken};
use crate::replica::kept_versions::{self, KeptVersion, Shelf};
use crate::replica::{
    Access, Keep, Keeping, KeptAt, Op, OpResult, PathError, REPLACED, in_work_dir,
};
use crate::report::Level;
use crate::rsync::{self, End, ListOutcome, Purpose, Transfer};
use crate::state::journal::{
    Action, Journal, JournalError, KeptPlace, Matter, RecordedChange, RecordedConflict, Renamed,
    Wanted,
};
use crate::state::{InflightNote, InflightPath, Part, RunLists, StateDir};
use crate::tree::same::stamps_agree;
use crate::tree::{Entry, Inode, Kind, NodeId, Pair, RelPath, Side, Stamp, Tree};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Both sides, looked into.
pub struct Versions<'a> {
    task: Task<'a>,
    shelves: Pair<Vec<Shelf>>,
    /// What the journal tells; `None`: there is none.
    journal: Option<Journal>,
    /// What the journals of the star's other pairs tell: what the hub keeps is common to all of them.
    other_journals: Vec<Journal>,
}

/// What a journal tells of the versions of a path.
struct JournalRows {
    changes: Vec<RecordedChange>,
    found_by_scrubs: Vec<RecordedConflict>,
}

impl JournalRows {
    fn by(journal: &Journal, path: &RelPath) -> Result<Self, JournalError> {
        let mut found_by_scrubs = journal.conflicts(None)?;
        found_by_scrubs.retain(|one| one.matter == Matter::Damage);
        Ok(JournalRows { changes: journal.changes_of_path(path)?, found_by_scrubs })
    }
}

/// What is kept under a name.
struct KeptUnderName {
    held: Vec<Held>,
    /// See [`former_names`].
    former_names: Vec<(RelPath, i64)>,
}

/// A version, and the path it is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutBack {
    /// The version.
    pub held: Held,
    /// Where it goes.
    pub to: RelPath,
}

/// What is to be put back of a path.
#[derive(Debug)]
pub struct ToPutBack {
    /// The versions that go there.
    pub items: Vec<PutBack>,
    /// Paths whose version of then is damaged, and is left where it is kept.
    pub damaged: BTreeSet<RelPath>,
}

/// What became of one thing that was to be put back; a whole directory is one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The version that was taken; that of the top, for a directory.
    pub held: Held,
    /// Where it is now.
    pub to: RelPath,
    /// How many entries it has below it.
    pub below: u64,
    /// Where what was there before is kept.
    pub aside: Option<RelPath>,
    /// Why it is not there.
    pub failed: Option<PathError>,
}

/// Something that goes in one piece.
struct Piece {
    held: Held,
    to: RelPath,
    below: u64,
    /// It is a directory that is made anew, because not all that it holds goes with it.
    is_made: bool,
}

impl<'a> Versions<'a> {
    /// Looks into both sides without changing anything. A side that cannot be reached counts as
    /// empty, and is told of.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn look(config: &'a Config, around: RunContext<'a>) -> Result<(Self, Vec<String>), String> {
        let mut task = Task::new(config, around, super::Intent::Synchronise);
        let mut unreachable = Vec::new();
        let mut shelves = Pair::default();
        for side in Side::BOTH {
            let looked = task
                .prepare_side(side, Access::ReadOnly)
                .and_then(|_| Ok(kept_versions::look(task.replicas[side].as_mut())?));
            match looked {
                Ok(found) => shelves[side] = found,
                Err(halt) => unreachable.push(halt.words()),
            }
        }
        Ok((Versions::with(task, shelves)?, unreachable))
    }

    /// Looks into both sides, and takes their locks; in a dry run, none.
    ///
    /// # Errors
    /// A side cannot be used, is locked, or its journal cannot be read.
    pub fn open(config: &'a Config, around: RunContext<'a>) -> Result<Self, String> {
        let mut task = Task::new(config, around, super::Intent::Synchronise);
        let begin = |task: &mut Task<'a>| -> Result<Pair<Vec<Shelf>>, Halt> {
            task.prepare()?;
            task.lock()?;
            task.rescue_replaced()?;
            let mut shelves = Pair::default();
            for side in Side::BOTH {
                shelves[side] = kept_versions::look(task.replicas[side].as_mut())?;
            }
            Ok(shelves)
        };
        let shelves = begin(&mut task).map_err(|halt| halt.words())?;
        Versions::with(task, shelves)
    }

    fn with(task: Task<'a>, shelves: Pair<Vec<Shelf>>) -> Result<Self, String> {
        let journal = task.read_journal(&task.config.instance_id)?;
        let dir = task.state_dir_in_place(Side::Initiator).map_err(|error| error.to_string())?;
        let others = task.other_pairs(&dir).map_err(|error| error.to_string())?;
        let read = |instance: &String| task.read_journal(instance).transpose();
        let other_journals = others.iter().filter_map(read).collect::<Result<_, _>>()?;
        Ok(Versions { task, shelves, journal, other_journals })
    }

    /// Every version of a path, and of all below it, with the runs that the journal knows.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn of(&self, path: &RelPath) -> Result<Vec<Held>, String> {
        let KeptUnderName { held: mut found, former_names } = self.of_name(path)?;
        // what it was called before it was renamed, and what was kept of it then
        for (name, until) in former_names {
            let of_then = self.of_name(&name)?.held;
            found
                .extend(of_then.into_iter().filter(|held| held.run.is_some_and(|run| run < until)));
        }
        Ok(found)
    }

    fn of_name(&self, path: &RelPath) -> Result<KeptUnderName, String> {
        let told =
            |journal: &Journal| JournalRows::by(journal, path).map_err(|error| error.to_string());
        let own = self.journal.iter().map(told).collect::<Result<Vec<_>, _>>()?;
        let others = self.other_journals.iter().map(told).collect::<Result<Vec<_>, _>>()?;
        let mut found = Vec::new();
        for (side, shelves) in self.shelves.iter() {
            // the others have targets of their own
            let others = if side == Side::Initiator { others.as_slice() } else { &[] };
            for kept in shelves.iter().flat_map(|shelf| shelf.versions_of(path)) {
                let by = put_there_by(side, &kept, &own);
                let by_other = put_there_by(side, &kept, others);
                // one journal does not know that another pair has put its own version there since
                let latest = by.into_iter().chain(by_other).max_by_key(|change| change.ended);
                let mut found_by_scrubs =
                    own.iter().chain(others).flat_map(|told| &told.found_by_scrubs);
                // a healing that was killed has left no row of what it replaced
                let is_damaged = match latest {
                    Some(latest) => latest.change.was_damaged,
                    None => found_by_scrubs.any(|one| was_found_damaged(side, &kept, one)),
                };
                let by = by.filter(|by| latest.is_some_and(|latest| latest.ended == by.ended));
                let at = by.map(|by| by.ended.div_euclid(1000)).or(kept.came);
                found.push(Held { side, kept, run: by.map(|by| by.run), at, is_damaged });
            }
        }
        let former_names = own.first().map(|own| former_names(path, &own.changes));
        Ok(KeptUnderName { held: found, former_names: former_names.unwrap_or_default() })
    }

    /// What is to be put back of a path.
    ///
    /// # Errors
    /// Nothing of that kind is kept; says why.
    pub fn choose(&self, path: &RelPath, choice: Choice, side: Side) -> Result<ToPutBack, String> {
        let held = self.of(path)?;
        let versions::Chosen { versions: mut chosen, damaged } =
            versions::choose(path, &held, choice, side)
                .map_err(|why| format!("{}: {}", path.shown(), self.explain(path, why)))?;
        let since = match choice {
            Choice::At(at) => Some(at),
            Choice::BeforeRun { began, .. } => Some(began),
            Choice::Newest | Choice::Number(_) => None,
        };
        if let Some(since) = since {
            let created = self.created_after(path, since)?;
            chosen.retain(|path, held| {
                !created.iter().any(|(top, at)| path.is_within(top) && held.came() >= *at)
            });
            if chosen.is_empty() {
                return Err(format!("{}: it was not there then", path.shown()));
            }
        }
        let put_back = |(to, held): (RelPath, &Held)| PutBack { held: held.clone(), to };
        Ok(ToPutBack { items: chosen.into_iter().map(put_back).collect(), damaged })
    }

    /// What came into being at and below a path after a moment, and when, in seconds.
    fn created_after(&self, path: &RelPath, at: i64) -> Result<Vec<(RelPath, i64)>, String> {
        let Some(journal) = &self.journal else { return Ok(Vec::new()) };
        let changes = journal.changes_of_path(path).map_err(|error| error.to_string())?;
        let created = changes.into_iter().filter(|recorded| {
            recorded.change.action == Action::Created && recorded.began.div_euclid(1000) > at
        });
        Ok(created
            .map(|recorded| (recorded.change.path, recorded.ended.div_euclid(1000)))
            .collect())
    }

    /// Why nothing is kept, as far as one can tell.
    fn explain(&self, path: &RelPath, why: NoVersion) -> String {
        if why != NoVersion::None {
            return why.to_string();
        }
        let changes = self.journal.as_ref().and_then(|journal| journal.changes_of_path(path).ok());
        let was_kept = |recorded: &&RecordedChange| recorded.change.kept.is_some();
        if let Some(last) = changes.as_ref().and_then(|all| all.iter().find(was_kept)) {
            return format!(
                "its last version, which run {} replaced or deleted, is no longer kept",
                last.run
            );
        }
        match self.named_like(path).as_slice() {
            [] => why.to_string(),
            [one] => format!("{why}; did you mean {}?", one.shown()),
            [one, two, ..] => format!(
                "{why}; of that name there are several, {} and {} among them: name the whole path",
                one.shown(),
                two.shown()
            ),
        }
    }

    /// When a run began, in seconds since the epoch.
    ///
    /// # Errors
    /// The journal does not know it.
    pub fn began(&self, number: i64) -> Result<i64, String> {
        let runs = match &self.journal {
            Some(journal) => journal
                .runs(&Wanted { number: Some(number), ..Wanted::default() })
                .map_err(|error| error.to_string())?,
            None => Vec::new(),
        };
        let run = runs.first().ok_or_else(|| format!("there is no run {number} in the journal"))?;
        Ok(run.run.began.div_euclid(1000))
    }

    /// Checks that the journal reaches back to a moment, in seconds since the epoch.
    ///
    /// # Errors
    /// It does not, with what to do instead.
    pub fn knows_of(&self, at: i64) -> Result<(), String> {
        let first = match &self.journal {
            Some(journal) => journal.first_began().map_err(|error| error.to_string())?,
            None => None,
        };
        match first {
            Some(first) if first.div_euclid(1000) <= at => Ok(()),
            _ => Err("that is before the journal begins, and what was there then cannot be told; \
                      'osync history' with the path shows every kept version, and --version takes \
                      one"
            .to_owned()),
        }
    }

    /// The paths of all kept things that have this name too; for a hint.
    #[must_use]
    pub fn named_like(&self, path: &RelPath) -> Vec<RelPath> {
        let all = RelPath::root();
        let shelves = self.shelves.iter().flat_map(|(_, shelves)| shelves);
        let found = shelves.flat_map(|shelf| shelf.versions_of(&all));
        let alike = found.filter(|kept| kept.path != *path && kept.path.name() == path.name());
        alike.map(|kept| kept.path).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// A version and all that is kept with it, to be put back under another path or its own.
    #[must_use]
    pub fn with_all_below(&self, top: &Held, to: &RelPath) -> Vec<PutBack> {
        let put_back = |place: RelPath, entry: Entry, to: RelPath| {
            let kept = KeptVersion { place, entry, ..top.kept.clone() };
            PutBack { held: Held { kept, ..top.clone() }, to }
        };
        let mut items = vec![put_back(top.kept.place.clone(), top.kept.entry.clone(), to.clone())];
        let shelf = self.shelves[top.side].iter().find(|shelf| shelf.keep == top.kept.keep);
        for below in shelf.map(|shelf| shelf.below(&top.kept.place)).unwrap_or_default() {
            let under = |at: &RelPath| at.join_path(&below);
            let place = under(&top.kept.place);
            let entry = shelf.and_then(|shelf| Some(shelf.tree.entry(shelf.tree.find(&place)?)));
            items.extend(entry.map(|entry| put_back(place, entry.clone(), under(to))));
        }
        items
    }

    /// Moves what stands at a path of a side into `deleted/`. Says where it is kept; `None`: there
    /// was nothing.
    ///
    /// # Errors
    /// It cannot be moved; the connection is lost.
    pub fn delete(&mut self, side: Side, path: &RelPath) -> Result<Option<RelPath>, String> {
        let Some(expect) = self.now(side, std::slice::from_ref(path))?.pop().flatten() else {
            return Ok(None);
        };
        let keeping = Keeping::protected(Keep::Deleted);
        let op = Op::SetAside { path: path.clone(), expect, keeping };
        let done = self.task.replicas[side].apply(&[op]).map_err(|error| error.to_string())?;
        match done.into_iter().next() {
            Some(Ok(OpResult::Kept(at))) => Ok(Some(at.path())),
            Some(Err(error)) => Err(format!("{}: {error}", path.shown())),
            _ => Ok(None),
        }
    }

    /// Ends a difference that stands after an undo.
    ///
    /// # Errors
    /// The state cannot be read or written; the last run was cut off.
    pub fn end_difference(&mut self, path: &RelPath, taken: Taken) -> Result<(), String> {
        let end = || -> Result<(), Halt> {
            let store = self.task.open_store()?;
            if store.inflight()? != InflightNote::Missing {
                return Err(Halt::fatal(
                    "the last run did not come to its end; let a run finish first",
                ));
            }
            let loaded = store.load()?;
            let next = end_difference(&loaded.baseline, path, taken)
                .map_err(|error| Halt::state(&error))?;
            store.save(&loaded, &next, &RunLists::default())?;
            Ok(())
        };
        end().map_err(|halt| halt.words())
    }

    /// Takes the copies of a path for what they are: whatever a scrub found, runs transfer them.
    ///
    /// # Errors
    /// The state cannot be read or written.
    pub fn accept_damage(&mut self, path: &RelPath) -> Result<(), String> {
        let accept = || -> Result<(), Halt> {
            let store = self.task.open_store()?;
            let mut damaged = self.task.damaged_files(&store)?;
            let at_path = damaged.iter().filter(|one| one.seen.path == *path);
            let accepted: Vec<(Side, Option<Inode>)> =
                at_path.map(|one| (one.side, one.seen.look.inode())).collect();
            // under its other names too
            damaged.retain(|one| {
                let inode = one.seen.look.inode();
                one.seen.path != *path
                    && (inode.is_none() || !accepted.contains(&(one.side, inode)))
            });
            Ok(store.set_damaged_files(&damaged)?)
        };
        accept().map_err(|halt| halt.words())
    }

    /// Gives what stands at a path of a side another name.
    ///
    /// # Errors
    /// It cannot be renamed; the connection is lost.
    pub fn rename(
        &mut self,
        side: Side,
        from: &RelPath,
        to: &RelPath,
        expect: Entry,
    ) -> Result<(), String> {
        let op = Op::Rename { from: from.clone(), to: to.clone(), expect };
        let done = self.task.replicas[side].apply(&[op]).map_err(|error| error.to_string())?;
        match done.into_iter().find_map(Result::err) {
            Some(error) => Err(format!("{}: {error}", from.shown())),
            None => Ok(()),
        }
    }

    /// Gives what stands at a path of a side the name of something else, which is kept in
    /// `backup/` first; says where.
    ///
    /// # Errors
    /// It cannot be renamed: then what was there is there again; the connection is lost.
    pub fn rename_over(
        &mut self,
        side: Side,
        from: &RelPath,
        to: &RelPath,
    ) -> Result<Option<RelPath>, String> {
        let paths = [from.clone(), to.clone()];
        let mut now = self.now(side, &paths)?.into_iter();
        let (Some(Some(expect)), Some(there)) = (now.next(), now.next()) else {
            return Err(format!("{} is not there any more; nothing was changed", from.shown()));
        };
        let Some(there) = there else {
            return self.rename(side, from, to, expect).map(|()| None);
        };
        let mut replace = || -> Result<Result<Option<KeptAt>, PathError>, Halt> {
            let place = std::slice::from_ref(to);
            let before = self.note_making_way(side, place)?;
            let aside = self.set_aside(side, place, &[Ok(Some(there.clone()))])?;
            self.tell_journal(&made_room(side, &aside), &[]);
            let result = match aside.into_iter().next().unwrap_or(Ok(None)) {
                Err(error) => Err(error),
                Ok(at) => {
                    let (from, to_path) = (from.clone(), to.clone());
                    let op = Op::Rename { from, to: to_path, expect: expect.clone() };
                    match (self.task.replicas[side].apply(&[op])?.pop(), &at) {
                        (Some(Err(error)), Some(at)) => {
                            self.undo_aside(side, to, at, there.clone())?;
                            Err(error)
                        }
                        (Some(Err(error)), None) => Err(error),
                        _ => Ok(at),
                    }
                }
            };
            self.note_again(before)?;
            Ok(result)
        };
        match replace().map_err(|halt| halt.words())? {
            Ok(at) => Ok(at.map(|at| at.path())),
            Err(error) => Err(format!("{}: {error}", to.shown())),
        }
    }

    /// Notes what is about to make way on a side. If its place is not taken, because this is
    /// killed, the next run does not take it for deleted. Returns the note from before.
    fn note_making_way(&self, side: Side, paths: &[RelPath]) -> Result<InflightNote, Halt> {
        let store = self.task.open_store()?;
        let before = store.inflight()?;
        let mut inflight = match &before {
            InflightNote::Whole(inflight) => inflight.clone(),
            // of what is missing it says already that it is not deleted
            InflightNote::Torn => return Ok(before),
            InflightNote::Missing | InflightNote::Empty => self.task.inflight(Vec::new()),
        };
        let noted =
            |path: &RelPath| InflightPath { path: path.clone(), part: Part::MakesWay, to: side };
        inflight.paths.extend(paths.iter().map(noted));
        store.set_inflight(&inflight)?;
        Ok(before)
    }

    /// All that made way has come to its end.
    fn note_again(&self, before: InflightNote) -> Result<(), Halt> {
        let store = self.task.open_store()?;
        match before {
            InflightNote::Whole(inflight) => store.set_inflight(&inflight)?,
            InflightNote::Missing | InflightNote::Empty => store.clear_inflight()?,
            InflightNote::Torn => {}
        }
        Ok(())
    }

    /// What stands at some paths of a side.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn now(&mut self, side: Side, paths: &[RelPath]) -> Result<Vec<Option<Entry>>, String> {
        let found = self.task.replicas[side].stat(paths).map_err(|error| error.to_string())?;
        Ok(found.into_iter().map(|found| found.ok().flatten()).collect())
    }

    /// In which pieces things go: a directory in one, if nothing is at its place and all that it
    /// holds goes with it.
    fn pieces(&mut self, side: Side, items: &[PutBack]) -> Result<Vec<Piece>, String> {
        let by_path: BTreeMap<&RelPath, &Held> =
            items.iter().map(|item| (&item.to, &item.held)).collect();
        let paths: Vec<RelPath> = by_path.keys().map(|path| (*path).clone()).collect();
        let now = self.now(side, &paths)?;
        let mut pieces: Vec<Piece> = Vec::new();
        let mut whole: Option<RelPath> = None;
        for ((to, held), now) in by_path.iter().zip(now) {
            if let Some(top) = whole.as_ref().filter(|top| to.is_within(top)) {
                if to != &top
                    && let Some(piece) = pieces.last_mut()
                {
                    piece.below += 1;
                }
                continue;
            }
            let is_dir = held.kept.entry.kind.is_dir();
            let stays = is_dir && now.as_ref().is_some_and(|now| now.kind.is_dir());
            let is_whole = is_dir && !stays && self.goes_whole(held, to, &by_path);
            if is_whole || !is_dir {
                whole = Some((*to).clone());
            }
            if !stays {
                let is_made = is_dir && !is_whole;
                let (held, to) = ((*held).clone(), (*to).clone());
                pieces.push(Piece { held, to, below: 0, is_made });
            }
        }
        Ok(pieces)
    }

    fn goes_whole(&self, top: &Held, to: &RelPath, all: &BTreeMap<&RelPath, &Held>) -> bool {
        let shelves = &self.shelves[top.side];
        let Some(shelf) = shelves.iter().find(|shelf| shelf.keep == top.kept.keep) else {
            return false;
        };
        let below = shelf.below(&top.kept.place);
        let goes = |names: &RelPath| {
            let at = to.join_path(names);
            let place = top.kept.place.join_path(names);
            all.get(&at).is_some_and(|held| {
                held.side == top.side && held.kept.keep == top.kept.keep && held.kept.place == place
            })
        };
        let count =
            all.range::<RelPath, _>(to..).take_while(|(path, _)| path.is_within(to)).count();
        below.iter().all(goes) && count == below.len() + 1
    }

    /// Puts things back on a side. What stands at their places is kept in `backup/` first.
    ///
    /// # Errors
    /// Nothing was put back: what had to be brought over could not be, or a connection was lost.
    pub fn put_back(&mut self, side: Side, items: &[PutBack]) -> Result<Vec<Restored>, String> {
        let pieces = self.pieces(side, items)?;
        if self.task.is_dry() {
            return self.would_put_back(side, pieces);
        }
        let staged = match self.stage(side, &pieces).and_then(|mut staged| {
            staged.extend(self.looked_again(side, &pieces)?);
            Ok(staged)
        }) {
            Ok(staged) => staged,
            Err(why) => {
                self.clear(side);
                return Err(why);
            }
        };
        fault::point("versions brought over");
        let done = self.rename_all(side, pieces, &staged).map_err(|halt| halt.words());
        self.clear(side);
        done
    }

    fn would_put_back(&mut self, side: Side, pieces: Vec<Piece>) -> Result<Vec<Restored>, String> {
        let paths: Vec<RelPath> = pieces.iter().map(|piece| piece.to.clone()).collect();
        let now = self.now(side, &paths)?;
        let would = |(piece, now): (Piece, Option<Entry>)| {
            let aside = now.map(|_| in_work_dir(Keep::Backup.name(), &piece.to));
            let Piece { held, to, below, .. } = piece;
            Restored { held, to, below, aside, failed: None }
        };
        Ok(pieces.into_iter().zip(now).map(would).collect())
    }

    /// Brings over what lies on the other side. Says what came, by its place in the private place.
    fn stage(&mut self, side: Side, pieces: &[Piece]) -> Result<BTreeMap<RelPath, Entry>, String> {
        let comes: Vec<&Piece> =
            pieces.iter().filter(|piece| piece.held.side != side && !piece.is_made).collect();
        if comes.is_empty() {
            return Ok(BTreeMap::new());
        }
        let private = self.task.replicas[side].private_place();
        let replaced = in_work_dir(REPLACED, &RelPath::root());
        let dirs = [replaced, private.clone()];
        let make = |path: &RelPath| Op::MakeDir { path: path.clone(), mode: 0o700 };
        let ops: Vec<Op> = dirs.iter().map(make).collect();
        let made = self.task.replicas[side].apply(&ops).map_err(|error| error.to_string())?;
        if let Some(error) = made.into_iter().find_map(Result::err) {
            return Err(format!("{side}: {}: {error}", private.shown()));
        }
        for keep in [Keep::Backup, Keep::Deleted] {
            let paths: Vec<RelPath> = comes
                .iter()
                .filter(|piece| piece.held.kept.keep == keep)
                .map(|piece| piece.held.kept.place.clone())
                .collect();
            if paths.is_empty() {
                continue;
            }
            let into = private.join(keep.name().as_bytes());
            let made = self.task.replicas[side].apply(&[make(&into)]);
            if let Some(Err(error)) = made.map_err(|error| error.to_string())?.pop() {
                return Err(format!("{side}: {}: {error}", into.shown()));
            }
            let source = below(self.task.replicas[side.other()].rsync_end(), &kept_dir(keep));
            let destination = below(self.task.replicas[side].rsync_end(), &into);
            self.bring(&source, &destination, side, &paths)?;
        }
        let places: Vec<RelPath> =
            comes.iter().map(|piece| staged_at(&private, &piece.held.kept)).collect();
        let found = self.task.replicas[side].stat(&places).map_err(|error| error.to_string())?;
        let mut staged = BTreeMap::new();
        for (place, (piece, found)) in places.into_iter().zip(comes.iter().zip(found)) {
            match found {
                Ok(Some(entry)) => {
                    staged.insert(place, entry);
                }
                _ => {
                    let from = piece.held.kept.at();
                    return Err(format!(
                        "{} of the {} did not come over; nothing was put back",
                        from.shown(),
                        piece.held.side
                    ));
                }
            }
        }
        Ok(staged)
    }

    /// What lies on the side itself, as it is now. It must be what was chosen.
    fn looked_again(
        &mut self,
        side: Side,
        pieces: &[Piece],
    ) -> Result<Vec<(RelPath, Entry)>, String> {
        let here: Vec<&KeptVersion> = pieces
            .iter()
            .filter(|piece| piece.held.side == side && !piece.is_made)
            .map(|piece| &piece.held.kept)
            .collect();
        let places: Vec<RelPath> = here.iter().map(|kept| kept.at()).collect();
        let found = self.task.replicas[side].stat(&places).map_err(|error| error.to_string())?;
        let mut now = Vec::new();
        for (kept, (place, found)) in here.iter().zip(places.into_iter().zip(found)) {
            match found {
                Ok(Some(entry)) if stamps_agree(&entry, &kept.entry) => now.push((place, entry)),
                _ => {
                    let place = place.shown();
                    return Err(format!("{place} changed meanwhile; nothing was put back"));
                }
            }
        }
        Ok(now)
    }

    /// One call of rsync for some kept things and all below them.
    fn bring(
        &self,
        source: &End,
        destination: &End,
        to: Side,
        paths: &[RelPath],
    ) -> Result<(), String> {
        let config = self.task.config;
        let preserve = Preserve {
            permissions: true,
            owner: true,
            group: true,
            times: true,
            dir_times: true,
            copy_symlinks: false,
            keep_dirlinks: false,
            ..config.preserve
        };
        let transfer = Transfer {
            purpose: Purpose::Subtrees,
            source,
            destination,
            to,
            rules: &[],
            backup_dir: None,
            partial_dir: None,
            resumes: false,
            makes_holes: true,
            is_listed_first: false,
            shows_progress: false,
            lacking: &rsync::UnknownOptions::new(),
        };
        let around = &self.task.around;
        let context = rsync::CallContext {
            settings: &config.transfer,
            preserve: &preserve,
            stop: around.stop,
            reporter: around.reporter(),
        };
        let finished = rsync::transfer(context, &transfer, paths.iter().cloned(), &|_, _| ())
            .map_err(|error| error.to_string())?;
        let told = finished.messages.first().map(|message| match &message.path {
            Some(path) => format!("{to}: {}: {}", path.shown(), message.text),
            None => format!("{to}: {}", message.text),
        });
        let why = match finished.outcome {
            ListOutcome::Done => return Ok(()),
            ListOutcome::Vanished => "something of it vanished meanwhile".to_owned(),
            ListOutcome::Stopped(_) => "stopped".to_owned(),
            // what is said of a path is the cause (a full disk, say), the rest follows from it
            ListOutcome::Partial => told.unwrap_or("rsync could not bring all of it".to_owned()),
            ListOutcome::EndedEarly(why) | ListOutcome::Failed(why) => told.unwrap_or(why),
        };
        Err(format!("{why}; nothing was put back"))
    }

    /// Makes room and renames, piece by piece.
    fn rename_all(
        &mut self,
        side: Side,
        pieces: Vec<Piece>,
        staged: &BTreeMap<RelPath, Entry>,
    ) -> Result<Vec<Restored>, Halt> {
        let private = self.task.replicas[side].private_place();
        let mut done = Vec::new();
        let mut made: BTreeSet<RelPath> = BTreeSet::new();
        let mut pieces = pieces.into_iter().peekable();
        let mut dirs = Vec::new();
        while pieces.peek().is_some() {
            self.task.check_stop()?;
            let batch: Vec<Piece> = pieces.by_ref().take(BATCH).collect();
            let paths: Vec<RelPath> = batch.iter().map(|piece| piece.to.clone()).collect();
            let now = self.task.replicas[side].stat(&paths)?;
            self.make_parents(side, &batch, &mut made)?;
            let stands = paths.iter().zip(&now).filter(|(_, now)| matches!(now, Ok(Some(_))));
            let stands: Vec<RelPath> = stands.map(|(path, _)| path.clone()).collect();
            let before = match stands.as_slice() {
                [] => None,
                stands => Some(self.note_making_way(side, stands)?),
            };
            let aside = self.set_aside(side, &paths, &now)?;
            // what made room may be what is to be put back
            let renamed = made_room(side, &aside);
            let made = batch.iter().filter(|piece| piece.is_made);
            dirs.extend(made.map(|piece| (piece.to.clone(), piece.held.kept.entry.clone())));
            let have_room = batch.iter().zip(&aside).filter(|(_, aside)| aside.is_ok());
            let ops: Vec<Op> = have_room
                .map(|(piece, _)| self.op(side, piece, &private, staged, &renamed))
                .collect();
            let mut results = self.task.replicas[side].apply(&ops)?.into_iter();
            let taken: Vec<(Side, KeptPlace)> = batch
                .iter()
                .filter(|piece| piece.held.side == side && !piece.is_made)
                .map(|piece| (side, place_of(&piece.held.kept)))
                .collect();
            self.tell_journal(&renamed, &taken);
            for ((piece, aside), now) in batch.into_iter().zip(aside).zip(now) {
                let failed = match &aside {
                    Err(error) => Some(error.clone()),
                    Ok(_) => results.next().and_then(Result::err),
                };
                let aside = aside.ok().flatten();
                let aside = match (&failed, &aside, now) {
                    (Some(_), Some(at), Ok(Some(now))) => {
                        self.undo_aside(side, &piece.to, at, now)?
                    }
                    _ => aside,
                };
                let Piece { held, to, below, .. } = piece;
                done.push(Restored { held, to, below, aside: aside.map(|at| at.path()), failed });
            }
            if let Some(before) = before {
                self.note_again(before)?;
            }
        }
        self.finish_dirs(side, dirs)?;
        Ok(done)
    }

    /// The journal follows. It is never needed: what goes wrong is a warning.
    fn tell_journal(&mut self, renamed: &[Renamed], taken: &[(Side, KeptPlace)]) {
        if self.journal.is_none() || (renamed.is_empty() && taken.is_empty()) {
            return;
        }
        let follow = |dir: StateDir| {
            let (mut journal, _) = Journal::write(&dir, &self.task.config.instance_id)?;
            journal.follow(renamed, taken)
        };
        let followed = match self.task.state_dir_in_place(Side::Initiator) {
            Ok(dir) => follow(dir).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(what) = followed {
            self.task.around.reporter().problem(Level::Warn, None, None, &what);
        }
    }

    fn op(
        &self,
        side: Side,
        piece: &Piece,
        private: &RelPath,
        staged: &BTreeMap<RelPath, Entry>,
        renamed: &[Renamed],
    ) -> Op {
        let kept = &piece.held.kept;
        let to = piece.to.clone();
        if piece.is_made {
            return Op::MakeDir { path: to, mode: kept.entry.mode | 0o700 };
        }
        let from = if piece.held.side == side { kept.at() } else { staged_at(private, kept) };
        let expect = staged.get(&from).cloned().unwrap_or_else(|| kept.entry.clone());
        let now = renamed.iter().find_map(|renamed| renamed.now(&place_of(kept)));
        let from = match now.filter(|_| piece.held.side == side) {
            Some(at) => in_work_dir(kept.keep.name(), &at),
            None => from,
        };
        Op::Rename { from, to, expect }
    }

    /// Directories above that are not there, with the mode and owner that they have where the
    /// version is kept.
    fn make_parents(
        &mut self,
        side: Side,
        pieces: &[Piece],
        made: &mut BTreeSet<RelPath>,
    ) -> Result<(), Halt> {
        let mut wanted: BTreeMap<RelPath, Entry> = BTreeMap::new();
        for piece in pieces {
            let mut kept = piece.held.kept.place.parent();
            let mut at = piece.to.parent();
            while let Some(dir) = at.filter(|dir| !dir.is_root() && !made.contains(dir)) {
                let like = kept.as_ref().and_then(|kept| self.kept_entry(&piece.held, kept));
                wanted.entry(dir.clone()).or_insert_with(|| like.unwrap_or_else(default_dir));
                kept = kept.and_then(|kept| kept.parent());
                at = dir.parent();
            }
        }
        let paths: Vec<RelPath> = wanted.keys().cloned().collect();
        let now = self.task.replicas[side].stat(&paths)?;
        let missing: Vec<(RelPath, Entry)> = wanted
            .into_iter()
            .zip(now)
            .filter(|(_, now)| matches!(now, Ok(None)))
            .map(|(wanted, _)| wanted)
            .collect();
        let ops: Vec<Op> = missing
            .iter()
            .map(|(path, like)| Op::MakeDir { path: path.clone(), mode: like.mode | 0o700 })
            .collect();
        // what goes wrong here goes wrong with what is to be put there, and is told there
        self.task.replicas[side].apply(&ops)?;
        made.extend(paths);
        let timeless = |(path, mut like): (RelPath, Entry)| {
            like.mtime = Stamp::UNKNOWN;
            (path, like)
        };
        self.finish_dirs(side, missing.into_iter().map(timeless).collect())
    }

    fn kept_entry(&self, held: &Held, place: &RelPath) -> Option<Entry> {
        let shelf = self.shelves[held.side].iter().find(|shelf| shelf.keep == held.kept.keep)?;
        let id = shelf.tree.find(place).filter(|id| *id != Tree::ROOT)?;
        Some(shelf.tree.entry(id).clone()).filter(|entry| entry.kind.is_dir())
    }

    /// Gives directories that were made their owner, mode and time, the deepest first.
    fn finish_dirs(&mut self, side: Side, dirs: Vec<(RelPath, Entry)>) -> Result<(), Halt> {
        if dirs.is_empty() {
            return Ok(());
        }
        let paths: Vec<RelPath> = dirs.iter().map(|(path, _)| path.clone()).collect();
        let now = self.task.replicas[side].stat(&paths)?;
        let mut ops = Vec::new();
        for ((path, like), now) in dirs.into_iter().zip(now).rev() {
            let Ok(Some(expect)) = now else { continue };
            let wanted = (like.uid, like.gid);
            let Owner { uid, gid } = self.task.owner_like(side, wanted, &expect);
            let mode = Some(like.mode);
            ops.push(Op::SetMetadata { path: path.clone(), mode, uid, gid, expect });
            if like.mtime.is_known() {
                ops.push(Op::SetMtime { path, mtime: like.mtime, expect: None });
            }
        }
        // as far as this user may: the entries in them are what was asked for
        self.task.replicas[side].apply(&ops)?;
        Ok(())
    }

    /// Keeps what stands at some places; in their order.
    fn set_aside(
        &mut self,
        side: Side,
        places: &[RelPath],
        now: &[Result<Option<Entry>, PathError>],
    ) -> Result<Vec<Result<Option<KeptAt>, PathError>>, Halt> {
        let mut results: Vec<Result<Option<KeptAt>, PathError>> = Vec::new();
        let mut ops = Vec::new();
        for (place, now) in places.iter().zip(now) {
            match now {
                Ok(Some(now)) => {
                    let (path, expect) = (place.clone(), now.clone());
                    let keeping = Keeping::protected(Keep::Backup);
                    ops.push((results.len(), Op::SetAside { path, expect, keeping }));
                    results.push(Ok(None));
                }
                Ok(None) => results.push(Ok(None)),
                Err(error) => results.push(Err(error.clone())),
            }
        }
        let (numbers, ops): (Vec<usize>, Vec<Op>) = ops.into_iter().unzip();
        let done = self.task.replicas[side].apply(&ops)?;
        for (number, done) in numbers.into_iter().zip(done) {
            results[number] = match done {
                Ok(OpResult::Kept(at)) => Ok(Some(at)),
                Ok(OpResult::Plainly) | Err(PathError::Vanished) => Ok(None),
                Err(error) => Err(error),
            };
        }
        fault::point("room made for a version");
        Ok(results)
    }

    /// What was set aside for a version that did not come goes back. Says where it is kept if
    /// that is not possible.
    fn undo_aside(
        &mut self,
        side: Side,
        to: &RelPath,
        at: &KeptAt,
        expect: Entry,
    ) -> Result<Option<KeptAt>, Halt> {
        let op = Op::Rename { from: at.path(), to: to.clone(), expect };
        let back = self.task.replicas[side].apply(&[op])?.pop();
        Ok(if matches!(back, Some(Ok(_))) { None } else { Some(at.clone()) })
    }

    /// Removes what is left in the private place. What cannot be removed is swept by the next
    /// run.
    fn clear(&mut self, side: Side) {
        let replica = self.task.replicas[side].as_mut();
        let private = replica.private_place();
        if let Ok(found) = replica.look_below(std::slice::from_ref(&private))
            && let Some(Ok(Some(tree))) = found.into_iter().next()
        {
            let ids: Vec<NodeId> = tree.ids().filter(|id| *id != Tree::ROOT).collect();
            let path = |id: &NodeId| private.join_path(&tree.path(*id));
            let remove =
                |id: &NodeId| Op::Remove { path: path(id), expect: tree.entry(*id).clone() };
            let files: Vec<Op> =
                ids.iter().filter(|id| !tree.entry(**id).kind.is_dir()).map(remove).collect();
            let _ = replica.apply(&files);
        }
        let _ = replica.close_private_place();
    }

    /// Gives the locks back.
    ///
    /// # Errors
    /// One cannot be removed.
    pub fn close(mut self) -> Result<(), String> {
        let mut result = Ok(());
        for side in Side::BOTH {
            let unlocked = self.task.replicas[side].unlock();
            result = result.and(unlocked.map_err(|error| error.to_string()));
        }
        result
    }
}

pub use copy::place_of_copy;

mod copy {
    //! `--to DIR`.

    use super::*;
    use crate::system::rename_to_free;
    use rustix::fs::CWD;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    /// What a copy would be called in a directory.
    ///
    /// # Errors
    /// Something of that name is there.
    pub fn place_of_copy(dir: &Path, top: &RelPath) -> Result<PathBuf, String> {
        let name =
            if top.is_root() { OsStr::new("restored") } else { OsStr::from_bytes(top.name()) };
        let to = dir.join(name);
        if to.symlink_metadata().is_ok() {
            return Err(format!("{} is there already; nothing was copied", to.display()));
        }
        Ok(to)
    }

    impl Versions<'_> {
        /// Copies things to a directory of this machine, under their own names; nothing that stands
        /// there is touched. Returns where the top lies.
        ///
        /// # Errors
        /// Nothing was copied: something of that name is there, or it could not be brought.
        pub fn copy_to(
            &mut self,
            dir: &Path,
            top: &RelPath,
            items: &[PutBack],
        ) -> Result<PathBuf, String> {
            let failed = |what: &str, error: &dyn std::fmt::Display| {
                format!("{}: cannot {what}: {error}", dir.display())
            };
            let to = place_of_copy(dir, top)?;
            std::fs::create_dir_all(dir).map_err(|error| failed("make it", &error))?;
            let staging = tempfile::Builder::new()
                .prefix(".osync-restore.")
                .tempdir_in(dir)
                .map_err(|error| failed("write there", &error))?;
            let root = staging.path().canonicalize().map_err(|error| failed("open it", &error))?;
            for side in Side::BOTH {
                for keep in [Keep::Backup, Keep::Deleted] {
                    let of_here =
                        |item: &&PutBack| item.held.side == side && item.held.kept.keep == keep;
                    let paths: Vec<RelPath> = items
                        .iter()
                        .filter(of_here)
                        .map(|item| item.held.kept.place.clone())
                        .collect();
                    if paths.is_empty() {
                        continue;
                    }
                    let into = root.join(side.name()).join(keep.name());
                    std::fs::create_dir_all(&into)
                        .map_err(|error| failed("write there", &error))?;
                    let source =
                        super::below(self.task.replicas[side].rsync_end(), &kept_dir(keep));
                    self.bring(&source, &End::Local { root: into }, side.other(), &paths)?;
                }
            }
            let out = root.join("out");
            let at = |path: &RelPath| {
                let below = path.components().skip(top.depth());
                below.fold(out.clone(), |at, name| at.join(OsStr::from_bytes(name)))
            };
            // parents first; what came with a whole directory is there with it
            let mut sorted: Vec<&PutBack> = items.iter().collect();
            sorted.sort_by(|a, b| a.to.cmp(&b.to));
            for item in &sorted {
                let place = at(&item.to);
                if place.symlink_metadata().is_ok() {
                    continue;
                }
                let kept = &item.held.kept;
                let staged = root.join(item.held.side.name()).join(kept.keep.name());
                let staged = staged.join(kept.place.as_path());
                if let Some(parent) = place.parent() {
                    std::fs::create_dir_all(parent)
                        .map_err(|error| failed("write there", &error))?;
                }
                std::fs::rename(&staged, &place).map_err(|error| failed("write there", &error))?;
            }
            let (from, to_bytes) = (out.as_os_str().as_bytes(), to.as_os_str().as_bytes());
            rename_to_free(CWD, from, CWD, to_bytes)
                .map_err(|error| failed("give it its name", &error))?;
            Ok(to)
        }
    }
}

/// What made room for what was kept, and is called something else now.
fn made_room(side: Side, aside: &[Result<Option<KeptAt>, PathError>]) -> Vec<Renamed> {
    let renamed = |at: &KeptAt| Some(Renamed { side, from: kept_place(at), to: at.older.clone()? });
    aside.iter().flatten().flatten().filter_map(renamed).collect()
}

/// Where something is kept, in the words of the journal.
pub(super) fn kept_place(at: &KeptAt) -> KeptPlace {
    KeptPlace { keep: at.keep, place: at.kept.clone() }
}

/// Where a version is kept, in the words of the journal.
pub(super) fn place_of(kept: &KeptVersion) -> KeptPlace {
    KeptPlace { keep: kept.keep, place: kept.place.clone() }
}

fn default_dir() -> Entry {
    let mut entry = Entry::new(Kind::Dir);
    entry.mode = 0o755;
    entry
}

fn kept_dir(keep: Keep) -> RelPath {
    in_work_dir(keep.name(), &RelPath::root())
}

/// A directory below the root of an end.
fn below(end: End, dir: &RelPath) -> End {
    let within = |root: &Path| root.join(dir.as_path());
    match end {
        End::Local { root } => End::Local { root: within(&root) },
        End::Remote(remote) => {
            let root = within(&remote.root);
            End::Remote(rsync::RemoteEnd { root, ..remote })
        }
    }
}

/// Where something that was brought over lies.
fn staged_at(private: &RelPath, kept: &KeptVersion) -> RelPath {
    private.join(kept.keep.name().as_bytes()).join_path(&kept.place)
}

/// The row of the journal that tells which run put a version where it is kept, if there is one.
fn put_there_by<'c>(
    side: Side,
    kept: &KeptVersion,
    told: &'c [JournalRows],
) -> Option<&'c RecordedChange> {
    let is_it = |change: &&RecordedChange| {
        let change = &change.change;
        change.side == side
            && change.kept.as_ref().is_some_and(|place| {
                let is_same = place.keep == kept.keep && place.place == kept.place;
                let with_above = place.keep == kept.keep
                    && change.before.as_ref().is_some_and(|before| before.kind.is_dir())
                    && kept.place.is_within(&place.place);
                is_same && change.before.as_ref().is_none_or(|b| b.is_of(&kept.entry))
                    || with_above && !is_same
            })
    };
    let changes = told.iter().flat_map(|told| &told.changes);
    changes.filter(is_it).max_by_key(|change| change.ended)
}

/// Whether a version is the copy that a scrub found damaged before it was put there.
fn was_found_damaged(side: Side, kept: &KeptVersion, found: &RecordedConflict) -> bool {
    found.decided.winner != side
        && found.decided.path == kept.path
        && found.looks()[side].is_some_and(|look| look.is_of(&kept.entry))
        && kept.came.is_none_or(|came| came >= found.began.div_euclid(1000))
}

/// The names that a path had before it was renamed, each with the run that renamed it.
fn former_names(path: &RelPath, changes: &[RecordedChange]) -> Vec<(RelPath, i64)> {
    let mut names = Vec::new();
    let (mut name, mut until) = (path.clone(), i64::MAX);
    loop {
        // of one run, the row of the innermost directory tells
        let renamed = changes
            .iter()
            .filter(|recorded| recorded.run < until && recorded.change.action == Action::Moved)
            .filter(|recorded| name.is_within(&recorded.change.path))
            .max_by_key(|recorded| (recorded.run, recorded.change.path.depth()));
        let Some(RecordedChange { run, change, .. }) = renamed else { break };
        let Some(old) = &change.other else { break };
        let Some(before) = name.rebased(&change.path, old) else { break };
        name = before;
        until = *run;
        names.push((name.clone(), until));
    }
    names
}

impl Task<'_> {
    fn read_journal(&self, instance: &str) -> Result<Option<Journal>, String> {
        let dir = self.state_dir_in_place(Side::Initiator).map_err(|error| error.to_string())?;
        Journal::read(&dir, instance).map_err(|error| error.to_string())
    }
}

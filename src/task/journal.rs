//! What a run did, as rows of the journal (spec 9, "The journal").
//!
//! A whole new or deleted subtree is one row: its top and how much lies below it.

use super::Task;
use super::apply::Applied;
use super::closing::ERROR;
use super::versions::kept_place;
use crate::config::Watch;
use crate::process::fault;
use crate::reconcile::plan::Aside;
use crate::reconcile::{Act, Delta, PathId, Plan};
use crate::replica::KeptAt;
use crate::report::{Level, Problem, words};
use crate::state::journal::{
    Action, Change, DamageRow, Decided, Journal, JournalError, KeptPlace, Look, LostAt, Renamed,
    Run, RunRecord, SCRUB, Waiting,
};
use crate::state::last_run::{LastRun, LastScrub};
use crate::state::{NotePlaces, StateStore};
use crate::tree::same::is_same_inode;
use crate::tree::{Entry, Kind, Pair, RelPath, Side, Tree};
use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

/// So many problems of a run are kept.
const PROBLEMS: usize = 100;
/// So many problems of the last run can be told by `osync status`, which reads very many of them.
const NOTED: usize = 20;

const DAY: i64 = 86_400_000;

/// The last run as it was noted.
pub(super) struct Noted {
    places: NotePlaces,
    /// What was noted of the runs before it.
    pub(super) before: Option<LastRun>,
    ended: SystemTime,
    waiting: Option<Waiting>,
    status: Option<u8>,
    /// That it could not be noted was told: the warning changes the status, which is noted again.
    is_told: bool,
}

/// What came of a plan.
pub(super) fn done(plan: &Plan, trees: &Pair<Tree>, applied: &Applied) -> RunRecord {
    let rows = Rows { plan, trees, applied };
    let mut changes: Vec<Change> = Side::BOTH.into_iter().flat_map(|side| rows.of(side)).collect();
    changes.sort_by(|a, b| (&a.path, a.side).cmp(&(&b.path, b.side)));
    RunRecord { changes, decided: rows.decided(), renamed: rows.renamed(), ..RunRecord::default() }
}

struct Rows<'a> {
    plan: &'a Plan,
    trees: &'a Pair<Tree>,
    applied: &'a Applied,
}

impl Rows<'_> {
    fn succeeded(&self, path_id: PathId) -> bool {
        self.applied.achieved.succeeded(path_id)
    }

    fn scanned(&self, path_id: PathId, side: Side) -> Option<&Entry> {
        self.plan.entry(self.trees, path_id, side)
    }

    /// What is there since: as it was read again, else as it was scanned.
    fn now(&self, path_id: PathId, side: Side) -> Option<Look> {
        match self.applied.achieved.reread[side].get(path_id) {
            Some(found) => found.as_ref().map(Look::of),
            None => self.scanned(path_id, side).map(Look::of),
        }
    }

    fn change(&self, path_id: PathId, side: Side, action: Action) -> Change {
        Change {
            before: self.scanned(path_id, side).map(Look::of),
            after: self.now(path_id, side),
            kept: self.kept(path_id, side),
            was_damaged: self.plan.damaged.is_damaged(side, self.plan.delta.now(path_id, side)),
            ..Change::new(side, self.plan.path(path_id), action)
        }
    }

    /// Everything that was done to one side.
    fn of(&self, side: Side) -> Vec<Change> {
        let mut rows: Vec<Change> = Vec::new();
        // for each path of the plan: the row that tells of it, its own or that of its top
        let mut told: Vec<Option<(usize, Action)>> = vec![None; self.plan.delta.len()];
        for path_id in self.plan.delta.path_ids() {
            let Some(action) = self.action(path_id, side) else { continue };
            let above = told[self.plan.delta.parent(path_id).index()];
            let joins = above.filter(|(_, top)| {
                let whole = matches!(action, Action::Created | Action::Deleted);
                let is_kept_alone = self.applied.kept[side].contains_key(&path_id);
                *top == action && whole && path_id != Delta::ROOT && !is_kept_alone
            });
            if let Some((row, _)) = joins {
                rows[row].below += 1;
                told[path_id.index()] = joins;
                continue;
            }
            let attributes = self.applied.attributes[side].get(&path_id);
            rows.push(Change {
                attributes: attributes.and_then(|had| postcard::to_stdvec(had).ok()),
                ..self.change(path_id, side, action)
            });
            told[path_id.index()] = Some((rows.len() - 1, action));
        }
        rows.extend(self.moves(side));
        rows.extend(self.renamed_losers(side));
        rows.extend(self.times(side));
        rows
    }

    fn action(&self, path_id: PathId, side: Side) -> Option<Action> {
        if !self.succeeded(path_id) {
            return None;
        }
        let verdict = self.plan.verdict(path_id);
        let is_renamed = verdict.beside.is_some() && verdict.makes_way_on == Some(side);
        let was_there = self.plan.delta.now(path_id, side).is_some() && !is_renamed;
        let is_linked = || self.plan.links[side].binary_search(&path_id).is_ok();
        match verdict.act {
            Act::Send { to } if to == side && was_there && self.is_same_thing(path_id, side) => {
                Some(Action::Metadata)
            }
            Act::Send { to } if to == side && was_there => Some(Action::Updated),
            Act::Send { to } if to == side => Some(Action::Created),
            Act::Delete { on } if on == side => Some(Action::Deleted),
            Act::Nothing if verdict.makes_way_on == Some(side) && was_there => {
                Some(Action::Deleted)
            }
            _ if is_linked() => Some(if was_there { Action::Updated } else { Action::Created }),
            _ if [verdict.metadata_on, verdict.time_on].contains(&Some(side))
                && !self.applied.refused.contains(&path_id) =>
            {
                Some(Action::Metadata)
            }
            _ => None,
        }
    }

    /// Whether rsync found that it had nothing to replace, but the time of a link to set.
    fn is_same_thing(&self, path_id: PathId, side: Side) -> bool {
        let now = self.applied.achieved.reread[side].get(path_id).and_then(Option::as_ref);
        let (Some(before), Some(now)) = (self.scanned(path_id, side), now) else {
            return false;
        };
        before.kind == Kind::Symlink
            && is_same_inode(before, now)
            && before.extra().link == now.extra().link
            && !self.applied.kept[side].contains_key(&path_id)
    }

    /// Where what was replaced or deleted went: alone, or with a directory above it.
    fn kept(&self, path_id: PathId, side: Side) -> Option<KeptPlace> {
        if let Some(at) = self.applied.kept[side].get(&path_id) {
            return Some(kept_place(at));
        }
        let goes = |path_id: PathId| self.plan.is_lost(path_id, side);
        let parent = self.plan.delta.parent(path_id);
        if path_id == Delta::ROOT || !goes(path_id) || !goes(parent) {
            return None;
        }
        let above = self.kept(parent, side)?;
        let place = above.place.join(self.plan.delta.name(path_id));
        Some(KeptPlace { keep: above.keep, place })
    }

    /// What got another name, because something was to be kept under its own.
    fn renamed(&self) -> Vec<Renamed> {
        let of = |(side, kept): (Side, &std::collections::BTreeMap<PathId, KeptAt>)| {
            let made_room = kept.values().filter_map(|at| Some((at, at.older.clone()?)));
            made_room
                .map(|(at, to)| Renamed { side, from: kept_place(at), to })
                .collect::<Vec<Renamed>>()
        };
        self.applied.kept.iter().flat_map(of).collect()
    }

    /// Renamings, each with the name that the thing had before the run.
    fn moves(&self, side: Side) -> Vec<Change> {
        let failed = &self.applied.achieved.failed_moves;
        let mut rows = Vec::new();
        let mut made: Vec<(RelPath, RelPath)> = Vec::new();
        for (index, step) in self.plan.moves.iter().enumerate() {
            if step.on != Some(side) || failed.contains(&index) {
                continue;
            }
            // what was in a directory that moved, and moved out of it, starts from there
            let mut from = self.plan.path(step.from);
            for (old, new) in made.iter().rev().filter(|(_, new)| !new.is_root()) {
                if let Some(before) = from.rebased(new, old) {
                    from = before;
                }
            }
            made.push((self.plan.path(step.from), self.plan.path(step.to)));
            rows.push(Change {
                other: Some(from),
                below: step.carried.len().saturating_sub(1) as u64,
                ..self.change(step.to, side, Action::Moved)
            });
        }
        rows
    }

    /// What lost a conflict and has a name beside the winner since.
    fn renamed_losers(&self, side: Side) -> impl Iterator<Item = Change> {
        let here = self.plan.set_aside.iter().filter(move |step| step.on == side);
        let renamed = here.filter_map(|step| match step.to {
            Aside::Beside(to) => Some((step.path_id, to)),
            Aside::Kept(_) => None,
        });
        renamed.filter(|(from, _)| self.succeeded(*from)).map(move |(from, to)| Change {
            other: Some(self.plan.path(from)),
            below: self.plan.delta.below(to).len() as u64,
            ..self.change(to, side, Action::Moved)
        })
    }

    /// Times of directories that were set.
    fn times(&self, side: Side) -> impl Iterator<Item = Change> {
        self.plan.dir_times[side]
            .iter()
            .map(|(path_id, _)| *path_id)
            .filter(|path_id| self.succeeded(*path_id))
            .filter(move |path_id| self.action(*path_id, side).is_none())
            .map(move |path_id| self.change(path_id, side, Action::Times))
    }

    fn decided(&self) -> Vec<Decided> {
        let decided = |conflict: &&crate::reconcile::Conflict| self.succeeded(conflict.path_id);
        let row = |conflict: &crate::reconcile::Conflict| {
            let of = |side| self.scanned(conflict.path_id, side).map(Look::of);
            Decided {
                path: self.plan.path(conflict.path_id),
                winner: conflict.winner,
                reason: conflict.reason.words().to_owned(),
                won: of(conflict.winner),
                lost: of(conflict.winner.other()),
                lost_at: match self.plan.verdict(conflict.path_id).beside {
                    Some(copy) => Some(LostAt::Beside(self.plan.path(copy))),
                    None => self.kept(conflict.path_id, conflict.winner.other()).map(LostAt::Kept),
                },
            }
        };
        self.plan.conflicts.iter().filter(decided).map(row).collect()
    }
}

/// Milliseconds since the epoch.
pub(super) fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Task<'_> {
    /// Writes down what the run did. Nothing that goes wrong here changes what it did, or
    /// stops the next one: it is a warning.
    pub(super) fn write_journal(&mut self, summed_up: &str) -> Option<Noted> {
        let has_failed = self.status() == ERROR;
        let places = self.note_places();
        let done = match self.outcome.done.take() {
            Some(done) => done,
            None if self.is_dry() || !(places.has_own() || has_failed) => return None,
            None => RunRecord::default(),
        };
        let store = self.open_store().ok()?;
        let ended = SystemTime::now();
        let (number, replaces) = (self.outcome.number, self.outcome.entry);
        let done = RunRecord { number, replaces, ..done };
        let is_idle = done.is_idle();
        let mut waiting = None;
        // A run that ended before it had a plan makes no state directory to say so: this may be a
        // mount point without its disk.
        if !is_idle || (has_failed && places.has_own()) {
            waiting = self.record_run(&store, done, ended);
            fault::point("journal written");
        }
        if self.intent.is_maintenance() {
            self.note_last_scrub(&store, ended, summed_up);
            return None;
        }
        let before = match &self.lent.earlier {
            Some(earlier) => earlier.before.clone(),
            None => places.last_run().unwrap_or_default(),
        };
        let mut noted = Noted { places, before, ended, waiting, status: None, is_told: false };
        self.note_last_run(&mut noted, summed_up);
        Some(noted)
    }

    fn note_last_scrub(&self, store: &StateStore, ended: SystemTime, summed_up: &str) {
        let Some(scrubbed) = self.outcome.scrub.as_ref().filter(|_| !self.is_dry()) else { return };
        let last = LastScrub {
            began: millis(self.outcome.started),
            ended: millis(ended),
            status: self.status(),
            checked: scrubbed.files,
            damaged: scrubbed.standing(),
            did: summed_up.to_owned(),
        };
        if let Err(error) = store.set_last_scrub(&last) {
            self.tell_unwritten(&error.to_string());
        }
    }

    /// Notes a failure of a target of a star whose state is not known.
    pub(super) fn note_failure_elsewhere(&self, summed_up: &str) -> Option<Noted> {
        let star = self.config.star.as_ref()?;
        if self.is_dry() || self.status() != ERROR {
            return None;
        }
        let places = NotePlaces::of_target(None, star, &self.config.replicas);
        let before = places.last_run().unwrap_or_default();
        let ended = SystemTime::now();
        let mut noted =
            Noted { places, before, ended, waiting: None, status: None, is_told: false };
        self.note_last_run(&mut noted, summed_up);
        Some(noted)
    }

    /// Notes how the run ended, also when the after-commands have changed that.
    pub(super) fn note_last_run(&self, noted: &mut Noted, summed_up: &str) {
        let status = self.status();
        if noted.status == Some(status) {
            return;
        }
        noted.status = Some(status);
        let tally = self.around.log.tally();
        let paths: BTreeSet<_> =
            tally.problems.iter().filter_map(|problem| problem.path.as_ref()).collect();
        let Pair { initiator, target } = self.outcome.kept;
        let began = self.lent.earlier.as_ref().map(|earlier| earlier.began);
        let last = LastRun {
            began: millis(began.unwrap_or(self.outcome.started)),
            ended: millis(noted.ended),
            status,
            compared: self.outcome.compared,
            did: summed_up.to_owned(),
            problems: tally.errors_first().take(NOTED).map(ToString::to_string).collect(),
            problem_count: tally.total(),
            failed_paths: paths.len() as u64,
            open_conflicts: noted.waiting.map(|waiting| waiting.conflicts),
            differences: noted.waiting.map(|waiting| waiting.differences),
            kept: [initiator, target],
            ..LastRun::default()
        };
        match noted.places.set_last_run(last, noted.before.clone()) {
            Ok(()) => {}
            Err(error) if noted.places.has_own() && !noted.is_told => {
                noted.is_told = true;
                self.tell_unwritten(&error.to_string());
            }
            // the run has failed, and what for is told; or this was
            Err(error) => self.say(Level::Verbose, &error.to_string()),
        }
    }

    /// Writes down which damaged files a healing is about to replace. If it is killed, that is what
    /// the journal tells of it; else the entry of the whole run takes its place.
    pub(super) fn note_healing(&mut self, store: &StateStore, damaged: Vec<DamageRow>) {
        let run = Run {
            began: millis(self.outcome.started),
            ended: millis(SystemTime::now()),
            status: ERROR,
            cause: self.cause().to_owned(),
            undoes: None,
            counts: Pair::default(),
            problems: vec!["it was broken off while it healed".to_owned()],
            star: self.lent.star_began,
        };
        let done = RunRecord { damaged, ..RunRecord::default() };
        let entry = Journal::write(store.dir(), store.instance())
            .and_then(|(mut journal, _)| journal.record(&run, &done, None));
        match entry {
            Ok(entry) => self.outcome.entry = Some(entry),
            // the entry of the whole run meets the same, and tells of it
            Err(error) => self.say(Level::Verbose, &error.to_string()),
        }
        fault::point("healing noted");
    }

    /// Writes the run's rows; says what waits for somebody since, if that is known.
    fn record_run(
        &self,
        store: &StateStore,
        done: RunRecord,
        ended: SystemTime,
    ) -> Option<Waiting> {
        let tally = self.around.log.tally();
        // of damaged files there are rows
        let has_row = |problem: &&Problem| {
            done.damaged.iter().any(|row| problem.path.as_ref() == Some(&row.path))
        };
        let problems = tally.errors_first().filter(|problem| !has_row(problem));
        let run = Run {
            began: millis(self.outcome.started),
            ended: millis(ended),
            status: self.status(),
            cause: self.cause().to_owned(),
            undoes: done.undoes,
            counts: self.outcome.counts,
            problems: problems.take(PROBLEMS).map(ToString::to_string).collect(),
            star: self.lent.star_began,
        };
        let days = i64::from(self.config.history_days);
        let forget_before = (days > 0).then(|| millis(ended) - days * DAY);
        let recorded =
            Journal::write(store.dir(), store.instance()).and_then(|(mut journal, note)| {
                if let Some(note) = note {
                    self.around.reporter().problem(Level::Warn, None, None, &note);
                }
                journal.record(&run, &done, forget_before)?;
                self.expire_conflicts(&journal, ended)?;
                journal.waiting()
            });
        recorded
            .map_err(|error| {
                self.tell_unwritten(&format!("{error}; the run is not to be looked up"));
            })
            .ok()
    }

    /// Conflicts whose loser has been kept long enough are no longer open.
    fn expire_conflicts(&self, journal: &Journal, now: SystemTime) -> Result<(), JournalError> {
        let days = i64::from(self.config.policy.backup_days);
        if days == 0 {
            return Ok(());
        }
        // days are whole ones, as in cleaning: the copy of the last one is still there
        let expired = journal.expire_conflicts(millis(now) - (days + 1) * DAY)?;
        if expired > 0 {
            let text = format!(
                "{} closed: what lost was kept for CONFLICT_BACKUP_DAYS and is gone",
                words::counted(expired as u64, "open conflict")
            );
            self.say(Level::Notice, &text);
        }
        Ok(())
    }

    /// What could not be written down. Where the run itself could not be made, the cause is most
    /// likely the one that was told.
    fn tell_unwritten(&self, text: &str) {
        if self.around.log.worst() == Some(Level::Critical) {
            self.say(Level::Verbose, text);
        } else {
            self.around.reporter().problem(Level::Warn, None, None, text);
        }
    }

    /// What made the run begin, as far as one can tell.
    fn cause(&self) -> &'static str {
        if self.intent.is_maintenance() {
            SCRUB
        } else if self.config.flags.watch() != Watch::Off {
            "monitor"
        } else if rustix::termios::isatty(rustix::stdio::stdin()) {
            "command"
        } else {
            "unattended"
        }
    }
}

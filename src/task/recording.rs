//! Carrying a plan out and recording what was achieved (spec 4, "Recording").
//!
//! A baseline never claims more than the disk holds (spec 8, "On the disk"). Both sides are
//! flushed, the source too: what was sent may be in its machine's memory only, and what a power cut
//! took from it would look like somebody's deletion.

use super::apply::{self, Applied};
use super::closing::Halt;
use super::{Task, journal};
use crate::config::Watch;
use crate::process::fault;
use crate::reconcile::record::{Claims, record};
use crate::reconcile::{Act, NextRecord, Plan, Rules, initialise, mounts};
use crate::replica::{Flush, Flushed, ReplicaError, lock_policy};
use crate::report::Level;
use crate::report::summary::Reach;
use crate::report::words::{self, counted};
use crate::state::{
    Baseline, Header, Identity, Inflight, InflightPath, LastAction, Loaded, Origin, RunLists,
    StateError, StateStore,
};
use crate::tree::{Pair, RelPath, Side, Tree};
use std::collections::BTreeSet;
use std::convert::Infallible;

/// What the last runs left, and what this one adds to it.
pub struct History<'a> {
    /// The state files.
    pub store: &'a StateStore,
    /// What they held.
    pub loaded: &'a Loaded,
    /// Who the replicas are.
    pub identities: Pair<Option<Identity>>,
}

impl From<StateError> for Halt {
    fn from(error: StateError) -> Self {
        Halt::state(&error)
    }
}

impl Task<'_> {
    /// Answers whether the last run came to its end. If it did not, counts and tells that this one
    /// resumes it (RESUME_SYNC, RESUME_TRY). The plan is made afresh in any case: the limit is
    /// there so that somebody gets to know.
    pub(super) fn count_resume(&self, store: &StateStore) -> Result<bool, Halt> {
        let unfinished = Side::BOTH.into_iter().any(|side| {
            matches!(store.last_action(side), Ok(Some(word)) if word != LastAction::Synced.name())
        });
        let tried = store.resume_count()?;
        let locking = &self.config.locking;
        let count = if !unfinished {
            0
        } else if locking.resume && tried < locking.resume_try {
            let text = format!(
                "the last run did not come to its end; resuming it (try {} of {})",
                tried + 1,
                locking.resume_try
            );
            self.say(Level::Notice, &text);
            tried + 1
        } else {
            let text = if locking.resume && locking.resume_try > 0 {
                format!(
                    "the last run did not come to its end, nor did {} to resume it; this one goes \
                     on from what they achieved",
                    counted(tried.into(), "try")
                )
            } else {
                "the last run did not come to its end; this one goes on from what it achieved"
                    .to_owned()
            };
            self.say(Level::Notice, &text);
            0
        };
        if !self.is_dry() && count != tried {
            store.set_resume_count(count)?;
        }
        Ok(!unfinished)
    }

    /// Notes for people and for osync 1.3 how far the run has come.
    pub(super) fn note_action(&self, store: &StateStore, action: LastAction) -> Result<(), Halt> {
        if !self.is_dry() {
            for side in Side::BOTH {
                store.set_last_action(side, action)?;
            }
        }
        Ok(())
    }

    /// `--initialize`: the present trees are the baseline, whatever was known before.
    pub(super) fn initialize(
        &mut self,
        store: &StateStore,
        trees: &Pair<Tree>,
        identities: Pair<Option<Identity>>,
    ) -> Result<(), Halt> {
        let decide = |rules: &Rules| Ok::<_, Infallible>(initialise(trees, rules));
        let (plan, achieved) = self.plan_by(trees, store, decide, |(plan, _)| &mut plan.doubts)?;
        let is_forgotten = |path_id| plan.verdict(path_id).next_record == NextRecord::Forgotten;
        let differ = plan.delta.path_ids().filter(|path_id| is_forgotten(*path_id)).count();
        let counts = format!(
            "{} on the initiator, {} on the target{}",
            words::counted(trees.initiator.len() as u64, "entry"),
            words::counted(trees.target.len() as u64, "entry"),
            match differ {
                0 => String::new(),
                1 => "; 1 path does not agree, and is decided by the next run as at a first \
                      contact"
                    .to_owned(),
                n => format!(
                    "; {n} paths do not agree, and are decided by the next run as at a first \
                     contact"
                ),
            }
        );
        if self.is_dry() {
            let text = format!("would record the present trees as the baseline: {counts}");
            self.say(Level::Notice, &text);
            return Ok(());
        }
        let header = self.header(trees, &Baseline::empty(), identities);
        let (next, claims) = record(trees, &Baseline::empty(), &plan, &achieved, header)
            .map_err(|error| Halt::state(&error))?;
        self.flush(trees, &claims)?;
        let number = self.number_run(store, Origin::Nothing, &next.header().identities.clone())?;
        let header = Header { run: number, ..next.header().clone() };
        let next = next.with_header(header);
        let before = store.start_over()?;
        store.save(&before, &next, &RunLists::default())?;
        note_first_recorded(store)?;
        store.clear_inflight()?;
        self.remember_file_systems(store)?;
        self.remember_compared(store)?;
        store.clear_settled()?;
        self.finish(store)?;
        self.outcome.reach = Reach::Recorded;
        self.say(Level::Notice, &format!("recorded the present trees as the baseline: {counts}"));
        Ok(())
    }

    /// Carries the plan out, and records what came of it, however far it came.
    pub(super) fn apply_and_record(
        &mut self,
        history: &History<'_>,
        trees: &mut Pair<Tree>,
        plan: &Plan,
    ) -> Result<(), Halt> {
        let store = history.store;
        let applied = if plan.is_empty() {
            Applied::default()
        } else {
            self.note_action(store, LastAction::UpdateReplica)?;
            apply::carry_out(self, store, trees, plan)
        };
        fault::point("applied");
        let header = self.header(trees, &history.loaded.baseline, history.identities.clone());
        let (next, claims) =
            record(trees, &history.loaded.baseline, plan, &applied.achieved, header)
                .map_err(|error| Halt::state(&error))?;
        if let Err(halt) = self.flush(trees, &claims) {
            self.tell_done(trees, plan, &applied);
            // A connection that was lost on the way was told then.
            let is_told = applied.cut_short && self.around.stop.reason().is_none();
            return Err(if is_told { Halt::Told } else { halt });
        }
        let next = self.numbered(history, next)?;
        store.save(history.loaded, &next, &lists(plan, &applied))?;
        let is_first = history.loaded.baseline.header().origin == Origin::Nothing;
        if is_first {
            note_first_recorded(store)?;
        }
        self.remember_file_systems(store)?;
        // the scan of a first run had no place for its listing
        if (is_first || !plan.is_empty()) && !applied.cut_short {
            self.replicas.initiator.refresh_listing();
            self.replicas.target.refresh_listing();
        }
        if self.config.flags.watch() != Watch::Off {
            self.outcome.baseline = Some(next);
        }
        self.tell_done(trees, plan, &applied);
        self.outcome.done = Some(journal::done(plan, trees, &applied));
        if !self.intent.is_maintenance() {
            let conflicts: String =
                self.conflict_lines().iter().map(|line| format!("{line}\n")).collect();
            store.set_conflicts(conflicts.as_bytes())?;
            let sound = self.forget_damage(store, trees)?;
            if let Some(done) = &mut self.outcome.done {
                done.sound = sound;
            }
        }
        self.check_stop()?;
        if applied.cut_short {
            return Err(Halt::Told);
        }
        fault::point("baseline saved");
        if applied.achieved.failed.is_empty() && !self.intent.is_maintenance() {
            self.remember_compared(store)?;
        }
        store.clear_settled()?;
        self.note_transferred(store, trees, plan, &applied.achieved)?;
        // What an rsync that failed has left behind is found by it.
        if applied.had_failed_call == Pair::default() && !self.temporaries_remain {
            if applied.making_way.is_empty() {
                store.clear_inflight()?;
            } else {
                store.set_inflight(&self.inflight(applied.making_way))?;
            }
        }
        self.finish(store)
    }

    /// A note of what is under way. Temporary files of an earlier run that are still there are
    /// found by when that run began.
    pub(super) fn inflight(&self, paths: Vec<InflightPath>) -> Inflight {
        let began = match &self.interrupted {
            Some(earlier) if self.temporaries_remain => {
                Pair::from_fn(|side: Side| self.began[side].min(earlier.began[side]))
            }
            _ => self.began,
        };
        Inflight { began, mount_sessions: self.noted_sessions(), paths }
    }

    /// For each side the mount that a note of this run names; `None` where an earlier run worked in
    /// another one. Its paths stay in the note, and what it brought over there may be lost.
    pub(super) fn noted_sessions(&self) -> Pair<Option<String>> {
        let stayed = |side: Side| match &self.interrupted {
            Some(earlier) => earlier.mount_sessions[side] == self.mount_sessions[side],
            None => true,
        };
        Pair::from_fn(|side| self.mount_sessions[side].clone().filter(|_| stayed(side)))
    }

    /// Gives the run a number and the baseline that number, if the baseline has to be saved. What
    /// changes nothing uses up no number.
    pub(super) fn numbered(
        &mut self,
        history: &History<'_>,
        next: Baseline,
    ) -> Result<Baseline, Halt> {
        if !history.store.needs_saving(history.loaded, &next) {
            return Ok(next);
        }
        let before = history.loaded.baseline.header();
        let number = self.number_run(history.store, before.origin, &history.identities)?;
        let header = Header { run: number.or(before.run), ..next.header().clone() };
        Ok(next.with_header(header))
    }

    pub(super) fn header(
        &self,
        trees: &Pair<Tree>,
        before: &Baseline,
        identities: Pair<Option<Identity>>,
    ) -> Header {
        Header {
            origin: Origin::Snapshot,
            identities,
            written_at: lock_policy::stamp(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            roots: Pair::from_fn(|side| trees[side].entry(Tree::ROOT).inode()),
            run: before.header().run,
            mounts: mounts::known_next(trees, &before.header().mounts),
            ..Header::default()
        }
    }

    pub(super) fn finish(&self, store: &StateStore) -> Result<(), Halt> {
        self.note_action(store, LastAction::Synced)?;
        if store.resume_count()? != 0 {
            store.set_resume_count(0)?;
        }
        Ok(())
    }
}

/// From now on a snapshot that is missing was lost.
fn note_first_recorded(store: &StateStore) -> Result<(), StateError> {
    match store.first_run_given()? {
        Some(number) => store.set_run_given(number),
        None => Ok(()),
    }
}

/// The lists of this run's deletions, for osync 1.3.
fn lists(plan: &Plan, applied: &Applied) -> RunLists {
    let mut lists = RunLists::default();
    for path_id in plan.delta.path_ids() {
        if let Act::Delete { on } = plan.verdict(path_id).act {
            // Found deleted on the one side, to be deleted on the other.
            lists.deleted[on.other()].push(plan.path(path_id));
            if !applied.achieved.succeeded(path_id) {
                lists.failed_deletes[on].push(plan.path(path_id));
            }
        }
    }
    lists
}

impl Task<'_> {
    /// Waits until what the next baseline says otherwise than the one before is on the disks.
    ///
    /// # Errors
    /// A disk is gone, or a connection. Then nothing may be recorded.
    pub(super) fn flush(&mut self, trees: &Pair<Tree>, claims: &Claims) -> Result<(), Halt> {
        if claims.is_empty() {
            return Ok(());
        }
        self.say(Level::Verbose, "waiting until what was written is on the disk");
        let what = Pair::from_fn(|side| Flush {
            paths: claims.few().map(<[RelPath]>::to_vec),
            file_systems: other_file_systems(&trees[side]),
        });
        let Pair { initiator, target } = &mut self.replicas;
        let flushed = std::thread::scope(|scope| {
            let there = scope.spawn(|| target.flush(&what.target));
            let here = initiator.flush(&what.initiator);
            (here, there.join())
        });
        fault::point("flushed");
        let (initiator, Ok(target)) = flushed else {
            return Err(Halt::fatal("waiting for the disk broke off"));
        };
        for (side, flushed) in Pair::new(initiator, target).iter() {
            match flushed {
                Ok(Flushed::Yes) => {}
                Ok(Flushed::NoTool) => self.say(
                    Level::Notice,
                    &format!(
                        "{side}: its machine has no `sync`, so nobody can tell what is on its disk; \
                         a power cut there may take what was brought over just now"
                    ),
                ),
                Err(error) => return Err(Halt::Replica(nothing_recorded(error))),
            }
        }
        Ok(())
    }
}

fn nothing_recorded(error: &ReplicaError) -> ReplicaError {
    ReplicaError {
        side: error.side,
        location: error.location.clone(),
        what: format!(
            "{}; nothing of this run is recorded, and the next run decides anew",
            error.what
        ),
        trouble: error.trouble,
    }
}

/// A directory on each file system that is mounted below the root.
fn other_file_systems(tree: &Tree) -> Vec<RelPath> {
    let mut seen = BTreeSet::from([tree.entry(Tree::ROOT).dev]);
    let dirs = tree.ids().filter(|id| tree.entry(*id).kind.is_dir());
    dirs.filter(|id| seen.insert(tree.entry(*id).dev)).map(|id| tree.path(id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Child, Entry, Kind, Standing, TreeBuilder};

    #[test]
    fn each_file_system_below_the_root_is_flushed_once() {
        let on = |kind, dev| {
            let mut entry = Entry::new(kind);
            entry.dev = dev;
            entry
        };
        let child =
            |name: &str, entry| Child { name: name.into(), standing: Standing::Present, entry };
        let mut builder = TreeBuilder::new(on(Kind::Dir, 1));
        let children = [
            child("a", on(Kind::Dir, 1)),
            child("file", on(Kind::File, 4)),
            child("one", on(Kind::Dir, 2)),
            child("same", on(Kind::Dir, 2)),
        ];
        let Some(a) = builder.fill(Tree::ROOT, children.into()).unwrap().next() else { panic!() };
        let _ = builder.fill(a, vec![child("two", on(Kind::Dir, 3))]).unwrap();
        let found = other_file_systems(&builder.finish());
        assert_eq!(found, ["one", "a/two"].map(|path| RelPath::new(path).unwrap()));
    }
}

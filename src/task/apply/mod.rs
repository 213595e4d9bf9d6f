//! Make it so: carries a plan out, step by step (spec 4, "Order of acting").
//!
//! A step that fails for one path is reported and counted as not achieved; the others go
//! on. When a replica is lost, or the run is to stop, the remaining steps are left out,
//! and what was done by then is recorded.

pub(super) mod metadata;
mod reread;
mod transfers;
pub(super) mod versions;

use super::{BATCH, Task};
use crate::process::fault;
use crate::reconcile::plan::Aside;
use crate::reconcile::record::Achieved;
use crate::reconcile::{Delta, PathId, Plan, Respelling};
use crate::replica::{Attributes, KeptAt, Op, PathError, ReplicaError};
use crate::report::Level;
use crate::report::words::counted;
use crate::state::{InflightPath, StateError, StateStore};
use crate::tree::{Entry, Pair, RelPath, Side, Stamp, Tree};
use std::collections::{BTreeMap, BTreeSet};

/// What came of it.
#[derive(Debug, Default)]
pub struct Applied {
    /// For the next baseline.
    pub achieved: Achieved,
    /// Bytes that rsync transferred to each side.
    pub bytes: Pair<u64>,
    /// Where what made way on a side is kept: what a later run could put back.
    pub kept: Pair<BTreeMap<PathId, KeptAt>>,
    /// ACLs and extended attributes that a side had where they were changed alone.
    pub attributes: Pair<BTreeMap<PathId, Attributes>>,
    /// Paths whose metadata could not be set because this user, or the file system, may not.
    pub refused: BTreeSet<PathId>,
    /// How many entries have the time of their arrival on a side, because it lets none be set.
    pub untimed: Pair<u64>,
    /// Devices, fifos and sockets that could not be made on a side. They are tried again.
    pub unmade: Pair<BTreeSet<RelPath>>,
    /// The steps were cut short: a replica was lost, or the run was stopped.
    pub cut_short: bool,
    /// What made way and was not replaced, for the next run to know.
    pub making_way: Vec<InflightPath>,
    /// Paths of calls to a side that failed as a whole, which was told for all of them.
    pub of_failed_calls: Pair<BTreeSet<PathId>>,
    /// A call of rsync to a side did not end well: it may have left temporary files behind.
    pub had_failed_call: Pair<bool>,
}

/// Why the remaining steps are left out.
enum Cut {
    Stopped,
    Lost(ReplicaError),
    /// What is about to be begun cannot be noted.
    InflightNotWritten(StateError),
}

impl From<ReplicaError> for Cut {
    fn from(error: ReplicaError) -> Self {
        Cut::Lost(error)
    }
}

/// Gives the directory of a renamed entry its time back. (The root has none of its own.)
fn dir_time(step: &Respelling) -> Option<Op> {
    let path = step.to.parent().filter(|dir| !dir.is_root())?;
    Some(Op::SetMtime { path, mtime: step.dir_mtime, expect: None })
}

/// The steps under way.
struct Steps<'s, 'a> {
    task: &'s mut Task<'a>,
    /// What should happen.
    plan: &'s Plan,
    /// Both replicas as scanned.
    trees: &'s Pair<Tree>,
    /// Where what is under way is noted.
    store: &'s StateStore,
    applied: Applied,
    /// The versions that lost a conflict, by the side that had them.
    losers: Pair<BTreeSet<PathId>>,
    /// Paths whose step was begun, or done: to be read again.
    to_stat: Pair<BTreeSet<PathId>>,
    /// Whole subtrees that were sent: to be read again below too.
    to_list: Pair<BTreeSet<PathId>>,
    /// Paths to which something was renamed.
    moved: Pair<BTreeSet<PathId>>,
    /// Which moves of the plan are known to be done.
    done_moves: BTreeSet<usize>,
}

/// One operation, and the path of the plan that it serves.
struct Job {
    path_id: PathId,
    op: Op,
}

/// Carries a plan out.
pub fn carry_out(
    task: &mut Task<'_>,
    store: &StateStore,
    trees: &Pair<Tree>,
    plan: &Plan,
) -> Applied {
    let losers = Pair::from_fn(|side: Side| {
        let lost = plan.conflicts.iter().filter(|c| c.winner == side.other());
        lost.map(|conflict| conflict.path_id).collect()
    });
    let mut steps = Steps {
        task,
        plan,
        trees,
        store,
        losers,
        applied: Applied::default(),
        to_stat: Pair::default(),
        to_list: Pair::default(),
        moved: Pair::default(),
        done_moves: BTreeSet::new(),
    };
    if let Err(cut) = steps.all() {
        steps.applied.cut_short = true;
        steps.tell_cut(&cut);
        steps.fail_what_was_not_done();
    }
    steps.read_again();
    steps.applied.making_way = steps.still_making_way();
    for side in Side::BOTH {
        // A replica that was lost keeps it for the next run.
        let _ = steps.task.replicas[side].close_private_place();
    }
    if steps.applied.cut_short && !steps.applied.achieved.failed.is_empty() {
        let text = format!(
            "not done of the plan: {}; the next run goes on from there",
            counted(steps.applied.achieved.failed.len() as u64, "path")
        );
        steps.task.say(Level::Notice, &text);
    }
    steps.applied
}

impl<'s> Steps<'s, '_> {
    fn all(&mut self) -> Result<(), Cut> {
        self.note_in_flight()?;
        self.respell()?;
        let moved = self.places_of_moves();
        self.set_aside(|side, path_id| !moved[side].contains(&path_id))?;
        self.moves()?;
        // What stands in the way below a directory that was renamed just now.
        self.set_aside(|side, path_id| moved[side].contains(&path_id))?;
        self.counter_metadata()?;
        self.updates()?;
        self.metadata()?;
        self.file_times()?;
        self.deletions()?;
        self.dir_times()
    }

    fn delta(&self) -> &'s Delta {
        &self.plan.delta
    }

    fn path(&self, path_id: PathId) -> RelPath {
        self.plan.path(path_id)
    }

    fn scanned(&self, path_id: PathId, side: Side) -> Option<&Entry> {
        self.plan.entry(self.trees, path_id, side)
    }

    fn failed(&self, path_id: PathId) -> bool {
        !self.applied.achieved.succeeded(path_id)
    }

    fn paths(&self, path_ids: &[PathId]) -> Vec<RelPath> {
        path_ids.iter().map(|path_id| self.path(*path_id)).collect()
    }

    /// Whether a directory was scanned there.
    fn is_dir(&self, path_id: PathId, side: Side) -> bool {
        self.scanned(path_id, side).is_some_and(|entry| entry.kind.is_dir())
    }

    fn problem(&self, level: Level, side: Side, path_id: PathId, text: &str) {
        self.task.around.reporter().problem(level, Some(side), Some(&self.path(path_id)), text);
    }

    /// A path on which a step failed: reported, and left to the next run.
    fn fail(&mut self, side: Side, path_id: PathId, what: &str, error: &PathError) {
        self.problem(Level::Error, side, path_id, &format!("{what}: {error}"));
        self.applied.achieved.failed.insert(path_id);
    }

    fn tell_cut(&self, cut: &Cut) {
        match cut {
            Cut::Stopped => {}
            Cut::Lost(error) => self.tell_lost(error),
            Cut::InflightNotWritten(error) => {
                let text = format!(
                    "{error}; nothing was carried out, because what a run is about to do has \
                     to be noted before"
                );
                self.task.around.reporter().problem(Level::Critical, None, None, &text);
            }
        }
    }

    /// Tells that a replica cannot be used any more. A connection that is given up because the
    /// run is to stop is no failure.
    fn tell_lost(&self, error: &ReplicaError) {
        let reporter = self.task.around.reporter();
        match self.task.around.stop.reason() {
            Some(_) => reporter.say(Level::Verbose, &error.to_string()),
            None => reporter.problem(Level::Critical, None, None, &error.to_string()),
        }
    }

    fn check_stop(&self) -> Result<(), Cut> {
        if self.task.around.stop.reason().is_some() { Err(Cut::Stopped) } else { Ok(()) }
    }

    /// Carries out operations in batches and hands each result to `done`.
    fn run(
        &mut self,
        side: Side,
        jobs: Vec<Job>,
        mut done: impl FnMut(&mut Self, PathId, Result<(), PathError>),
    ) -> Result<(), Cut> {
        let mut jobs = jobs.into_iter().peekable();
        while jobs.peek().is_some() {
            self.check_stop()?;
            let (path_ids, ops): (Vec<PathId>, Vec<Op>) =
                jobs.by_ref().take(BATCH).map(|job| (job.path_id, job.op)).unzip();
            self.to_stat[side].extend(&path_ids);
            fault::point("before a batch");
            let results = self.task.replicas[side].apply(&ops)?;
            fault::point("after a batch");
            for (path_id, result) in path_ids.into_iter().zip(results) {
                let result = self.note_kept(side, path_id, result);
                done(self, path_id, result);
            }
        }
        Ok(())
    }

    /// Paths that are there only after the moves of a side.
    fn places_of_moves(&self) -> Pair<BTreeSet<PathId>> {
        Pair::from_fn(|side| {
            let moves = self.plan.moves.iter().filter(|step| step.on == Some(side));
            moves.flat_map(|step| step.carried.iter().map(|(_, new)| *new)).collect()
        })
    }

    /// Step 1: what is of another kind goes out of the way.
    fn set_aside(&mut self, when: impl Fn(Side, PathId) -> bool) -> Result<(), Cut> {
        for side in Side::BOTH {
            let steps: Vec<_> = self
                .plan
                .set_aside
                .iter()
                .filter(|step| {
                    step.on == side && when(side, step.path_id) && !self.failed(step.path_id)
                })
                .copied()
                .collect();
            let tops: Vec<PathId> = steps.iter().map(|step| step.path_id).collect();
            let changed = self.changed_below(side, &tops)?;
            let mut jobs = Vec::new();
            for step in steps {
                let Some(expect) = self.scanned(step.path_id, side).cloned() else { continue };
                if changed.contains(&step.path_id) {
                    self.tell_not_aside(side, step.path_id, &PathError::Changed);
                    continue;
                }
                let path = self.path(step.path_id);
                let op = match step.to {
                    Aside::Kept(keep) => {
                        let keeping = self.keeping(side, step.path_id, keep);
                        Op::SetAside { path, expect, keeping }
                    }
                    Aside::Beside(to) => {
                        self.to_stat[side].insert(to);
                        Op::Rename { from: path, to: self.path(to), expect }
                    }
                };
                jobs.push(Job { path_id: step.path_id, op });
            }
            self.run(side, jobs, |steps, path_id, result| {
                if let Err(error) = result {
                    steps.tell_not_aside(side, path_id, &error);
                }
            })?;
            self.look_into_kept(side, &tops)?;
        }
        Ok(())
    }

    /// Before everything else: all paths of the plan are spelled as they will be.
    fn respell(&mut self) -> Result<(), Cut> {
        let plan = self.plan;
        for side in Side::BOTH {
            let steps: Vec<_> = plan.respellings.iter().filter(|step| step.on == side).collect();
            for steps in steps.chunks(BATCH) {
                self.check_stop()?;
                let rename = |step: &&Respelling| Op::Rename {
                    from: step.from.clone(),
                    to: step.to.clone(),
                    expect: step.expect.clone(),
                };
                let ops: Vec<Op> = steps.iter().map(rename).collect();
                fault::point("before a batch");
                let results = self.task.replicas[side].apply(&ops)?;
                fault::point("after a batch");
                let mut times = Vec::new();
                for (step, result) in steps.iter().zip(results) {
                    match result {
                        Ok(_) => times.extend(dir_time(step)),
                        Err(error) => self.fail_respelling(step, &error),
                    }
                }
                // A directory that vanished meanwhile needs no time.
                self.task.replicas[side].apply(&times)?;
            }
        }
        Ok(())
    }

    /// A folding side finds the entry under either spelling. The other one has nothing there
    /// under the new one: what was planned for that cannot be done.
    fn fail_respelling(&mut self, step: &Respelling, error: &PathError) {
        let text = format!("cannot spell it '{}' as on the other side: {error}", step.to.shown());
        let reporter = self.task.around.reporter();
        reporter.problem(Level::Warn, Some(step.on), Some(&step.from), &text);
        if let Some(path_id) = self
            .delta()
            .find(&step.to)
            .filter(|_| !self.task.file_systems.abilities[step.on].naming.folds())
        {
            self.applied.achieved.fail_below(&self.plan.delta, path_id);
        }
    }

    /// What does not make way does not get its new name either.
    fn tell_not_aside(&mut self, side: Side, path_id: PathId, error: &PathError) {
        self.tell_and_fail_below(side, path_id, "cannot move it out of the way", error);
        self.fail_with_new_name(path_id);
    }

    /// Nothing came of what was planned for a path that was to make way.
    fn fail_with_new_name(&mut self, path_id: PathId) {
        let plan = self.plan;
        for top in std::iter::once(path_id).chain(plan.verdict(path_id).beside) {
            self.applied.achieved.fail_below(&plan.delta, top);
        }
    }

    fn tell_and_fail_below(&mut self, side: Side, top: PathId, what: &str, error: &PathError) {
        self.fail(side, top, what, error);
        self.applied.achieved.fail_below(&self.plan.delta, top);
    }

    /// Steps 2 and 3: renamings, each after the directories that its new name needs.
    fn moves(&mut self) -> Result<(), Cut> {
        let plan = self.plan;
        for side in Side::BOTH {
            let mut made: BTreeSet<PathId> = BTreeSet::new();
            let mut jobs = Vec::new();
            let mut index_of = Vec::new();
            for (index, step) in plan.moves.iter().enumerate() {
                if step.on != Some(side) || self.applied.achieved.failed_moves.contains(&index) {
                    continue;
                }
                for parent in self.missing_parents(step.to, side) {
                    if made.insert(parent) {
                        let mode = self.scanned(parent, side.other()).map_or(0o700, |e| e.mode);
                        // Its metadata is set with the updates; until then we can write in it.
                        let op = Op::MakeDir { path: self.path(parent), mode: mode | 0o700 };
                        jobs.push(Job { path_id: parent, op });
                        index_of.push(None);
                    }
                }
                let Some(expect) = self.scanned(step.to, side).cloned() else { continue };
                let (from, to) = (self.path(step.from), self.path(step.to));
                jobs.push(Job { path_id: step.to, op: Op::Rename { from, to, expect } });
                index_of.push(Some(index));
            }
            let mut index_of = index_of.into_iter();
            self.run(side, jobs, |steps, path_id, result| {
                let index = index_of.next().flatten();
                match (result, index) {
                    (Err(error), Some(index)) => {
                        steps.tell_and_fail_below(
                            side,
                            path_id,
                            "cannot follow the move to this name",
                            &error,
                        );
                        steps.applied.achieved.failed_moves.insert(index);
                    }
                    (Err(error), None) => {
                        steps.fail(side, path_id, "cannot make the directory", &error)
                    }
                    (Ok(()), Some(index)) => {
                        steps.done_moves.insert(index);
                        let carried = &steps.plan.moves[index].carried;
                        steps.moved[side].extend(carried.iter().map(|(_, new)| *new));
                    }
                    (Ok(()), None) => {}
                }
            })?;
            self.times_before_moves(side)?;
        }
        Ok(())
    }

    /// Directories out of which something was moved get the times that they had: one that is
    /// to be kept has them in its kept copy then, and in what an undo brings back.
    fn times_before_moves(&mut self, side: Side) -> Result<(), Cut> {
        let moves = self.plan.moves.iter().filter(|step| step.on == Some(side));
        let dirs: BTreeSet<PathId> = moves.map(|step| self.delta().parent(step.from)).collect();
        let times = dirs.into_iter().filter(|dir| *dir != Delta::ROOT);
        let times = times.filter_map(|dir| Some((dir, self.scanned(dir, side)?.mtime))).collect();
        self.set_dir_times(side, times)
    }

    /// Directories above a path that are planned for a side and not there yet, outermost
    /// first. What was no directory there has been set aside.
    fn missing_parents(&self, path_id: PathId, side: Side) -> Vec<PathId> {
        let mut missing = Vec::new();
        let mut at = self.delta().parent(path_id);
        while at != Delta::ROOT && !self.is_dir(at, side) {
            missing.push(at);
            at = self.delta().parent(at);
        }
        missing.reverse();
        missing
    }

    /// Step 8: times of directories, when all their children are done.
    fn dir_times(&mut self) -> Result<(), Cut> {
        let plan = self.plan;
        for side in Side::BOTH {
            // The deepest first: setting a time does not move the parent's, but an order
            // that never depends on that is the safer one.
            let times = plan.dir_times[side].iter().rev().copied();
            self.set_dir_times(
                side,
                times.filter(|(path_id, _)| !self.failed(*path_id)).collect(),
            )?;
        }
        Ok(())
    }

    fn set_dir_times(&mut self, side: Side, times: Vec<(PathId, Stamp)>) -> Result<(), Cut> {
        let op = |(path_id, mtime)| Job {
            path_id,
            op: Op::SetMtime { path: self.path(path_id), mtime, expect: None },
        };
        let jobs = times.into_iter().map(op).collect();
        self.run(side, jobs, |steps, path_id, result| {
            // A directory that vanished meanwhile needs no time.
            if let Err(error) = result
                && error != PathError::Vanished
            {
                let text = format!("cannot set the time of the directory: {error}");
                steps.problem(Level::Warn, side, path_id, &text);
            }
        })
    }

    /// After a cut: paths that no step reached, and moves that are not known to be done, keep their old
    /// baseline.
    fn fail_what_was_not_done(&mut self) {
        let plan = self.plan;
        let begun =
            |steps: &Self, side: Side, path_id: PathId| steps.to_stat[side].contains(&path_id);
        let mut not_begun = Vec::new();
        for side in Side::BOTH {
            let lists = [
                &plan.updates[side],
                &plan.links[side],
                &plan.metadata[side],
                &plan.counter_metadata[side],
            ];
            not_begun.extend(
                lists
                    .into_iter()
                    .flatten()
                    .filter(|path_id| !begun(self, side, **path_id))
                    .copied(),
            );
            not_begun
                .extend(plan.deletions[side].iter().copied().filter(|s| !begun(self, side, *s)));
            for top in &plan.subtrees[side] {
                if !self.to_list[side].contains(top) {
                    self.applied.achieved.fail_below(&plan.delta, *top);
                }
            }
            for step in plan.set_aside.iter().filter(|step| step.on == side) {
                if !begun(self, side, step.path_id) {
                    self.fail_with_new_name(step.path_id);
                }
            }
            for (index, step) in plan.moves.iter().enumerate() {
                // Of one that was begun nobody may know whether it was done. Counted as not done, it is
                // found done, or is done, next time; a move counted as done that is not would look
                // like somebody's move back.
                if step.on == Some(side) && !self.done_moves.contains(&index) {
                    self.applied.achieved.failed_moves.insert(index);
                    self.applied.achieved.fail_below(&plan.delta, step.to);
                }
            }
        }
        self.applied.achieved.failed.extend(not_begun);
    }
}

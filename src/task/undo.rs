//! `osync undo`: both sides back to where they were before a run (spec 9, "Commands").
//!
//! The plan is made of the journal's rows, and named before anything is done. What goes is kept
//! in `deleted/`, what makes way in `backup/`, so that the undo can be undone. The baseline then
//! says what each side has by itself: where they differ, they are meant to, until somebody
//! changes something.

use super::apply::metadata::Owner;
use super::closing::Halt;
use super::recording::History;
use super::versions::{kept_place, place_of};
use super::{BATCH, Task};
use crate::config::Preserve;
use crate::process::fault;
use crate::reconcile::change::{Measure, SideChange, change, same_metadata};
use crate::reconcile::record::{Achieved, record};
use crate::reconcile::undo::{
    CannotRestore, KeptTree, Names, Step, Touched, UndoFacts, UndoPlan, plan,
};
use crate::reconcile::{Act, NextRecord, PathId, Plan, Verdict};
use crate::replica::kept_versions::{self, KeptVersion, Shelf};
use crate::replica::{
    AttributeChange, Attributes, Keep, Keeping, Op, OpResult, PathError, in_work_dir,
};
use crate::report::Level;
use crate::report::left_alone::LeftAlone;
use crate::report::words::counted;
use crate::state::journal::{
    Action, Change, Differs, Journal, KeptPlace, Look, Renamed, RunRecord,
};
use crate::state::{Baseline, InflightPath, Part, RunLists, StateStore};
use crate::tree::same::{Inodes, looks_alike};
use crate::tree::{Entry, Kind, NodeId, Pair, RelPath, Side, Stamp, Standing, Tree};
use std::collections::{BTreeMap, BTreeSet};

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct UndoRequest {
    /// The run; `None`: the last one that changed anything.
    pub run: Option<i64>,
    /// What is done if something can no longer be put back.
    pub unless_whole: UnlessWhole,
    /// How far it goes.
    pub extent: Extent,
}

/// How far an undo goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// It is only looked whether all can be put back.
    Check,
    /// To its end.
    All,
    /// Nothing is put back: it is recorded what the undo of other targets of a star has put back on
    /// the hub since.
    Record,
}

/// What is done if something can no longer be put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnlessWhole {
    /// Nothing.
    Refuse,
    /// The rest.
    DoTheRest,
}

/// What was undone, for people and programs.
#[derive(Debug, Default)]
pub struct Undone {
    /// Of which target of a star, for people; empty: there is only one.
    pub target: String,
    /// Which run.
    pub run: i64,
    /// What was done, as the journal has it; in a dry run what would be.
    pub changes: Vec<Change>,
    /// Paths that something has touched since: they were left.
    pub left: Vec<RelPath>,
    /// What cannot be put back.
    pub lost: Vec<(Side, RelPath, CannotRestore)>,
}

impl Task<'_> {
    /// Undoes a run.
    pub(super) fn undo(
        &mut self,
        request: UndoRequest,
        history: &History<'_>,
        trees: &mut Pair<Tree>,
    ) -> Result<(), Halt> {
        let store = history.store;
        if request.extent == Extent::Record {
            return self.record_hub(history, trees);
        }
        let trees = &*trees;
        if self.config.policy.one_way_from.is_some() {
            return Err(Halt::fatal(
                "a task that goes one way (SYNC_TYPE) would do it again with its next run; put the \
                 source back instead (osync restore)",
            ));
        }
        if self.interrupted.is_some() {
            return Err(Halt::fatal(
                "the last run did not come to its end; let a run finish first, then undo",
            ));
        }
        let (number, rows, later) = self.rows_to_undo(store, request.run)?;
        let shelves = self.shelves()?;
        let mut touched = Touched::default();
        later.iter().for_each(|change| touched.add_change(change));
        let fresh = self.plan(trees, &history.loaded.baseline, store)?;
        self.add_changed(&fresh, trees, &mut touched);
        self.add_changed_alike(&history.loaded.baseline, trees, &mut touched)?;
        let kept = |side: Side, place: &KeptPlace| kept_below(&shelves[side], place);
        let facts = UndoFacts { trees, touched: &touched, kept: &kept };
        let plan = plan(&rows, &facts);
        self.tell_lost(&plan, request.unless_whole)?;
        if request.extent == Extent::Check {
            return Ok(());
        }
        for path in &plan.left {
            self.tell_left_path(None, path, &LeftAlone::ChangedSinceRun);
        }
        let mut undone = Undone {
            target: String::new(),
            run: number,
            changes: Vec::new(),
            left: plan.left.iter().cloned().collect(),
            lost: plan.lost.clone(),
        };
        if self.is_dry() {
            let would = Side::BOTH.into_iter().flat_map(|side| {
                let steps = plan.steps[side].iter();
                steps.filter_map(move |step| would_do(step, side, trees)).collect::<Vec<_>>()
            });
            undone.changes = would.collect();
            self.outcome.undone.push(undone);
            return Ok(());
        }
        let (done, failed) = self.carry_undo_out(store, &plan, trees, &shelves)?;
        fault::point("undone");
        undone.changes.clone_from(&done.changes);
        self.outcome.undone.push(undone);
        self.record_undo(history, &plan, done, &failed, number)
    }

    /// The rows of the run, and those of all runs behind it.
    fn rows_to_undo(
        &self,
        store: &StateStore,
        wanted: Option<i64>,
    ) -> Result<(i64, Vec<Change>, Vec<Change>), Halt> {
        let state = |error: crate::state::journal::JournalError| Halt::state(&error);
        let journal = Journal::read(store.dir(), store.instance()).map_err(state)?;
        let nothing = || Halt::fatal("no run of this task is in the journal: nothing to undo");
        let journal = journal.ok_or_else(nothing)?;
        let number = match wanted {
            Some(number) => number,
            None => journal.last_with_changes().map_err(state)?.ok_or_else(nothing)?,
        };
        let rows = journal.changes_of_run(number).map_err(state)?;
        if rows.is_empty() {
            let known = !journal
                .runs(&crate::state::journal::Wanted { number: Some(number), ..Default::default() })
                .map_err(state)?
                .is_empty();
            let why = if known { "changed nothing" } else { "is not in the journal" };
            return Err(Halt::fatal(format!("run {number} {why}")));
        }
        let later = journal.changes_after(number).map_err(state)?;
        let plain = |rows: Vec<crate::state::journal::RecordedChange>| {
            rows.into_iter().map(|row| row.change).collect()
        };
        Ok((number, plain(rows), plain(later)))
    }

    fn shelves(&mut self) -> Result<Pair<Vec<Shelf>>, Halt> {
        let mut shelves = Pair::default();
        for side in Side::BOTH {
            shelves[side] = kept_versions::look(self.replicas[side].as_mut())?;
        }
        Ok(shelves)
    }

    /// Whether the undo of another target of a star, of which this one is a part, has put the path
    /// back on the hub: nobody else has touched it there.
    fn is_put_back(&self, side: Side, path: &RelPath) -> bool {
        side == Side::Initiator && self.lent.put_back.has(path)
    }

    /// Notes every path that is not as it was recorded, on whichever side.
    fn add_changed(&self, fresh: &Plan, trees: &Pair<Tree>, touched: &mut Touched) {
        let preserve = self.compared();
        let listed_at = Stamp::UNKNOWN;
        let by = Measure { listed_at, preserve: &preserve, inodes: Inodes::Reliable };
        for path_id in fresh.delta.path_ids() {
            let path = fresh.path(path_id);
            let known = fresh.delta.record(path_id);
            let is_same = |side: &Side| {
                let now = fresh.entry(trees, path_id, *side);
                let since = known.map_or_else(
                    || now.is_none().then_some(SideChange::Absent),
                    |known| change(now, &known.was[*side], by),
                );
                matches!(since, Some(SideChange::Absent | SideChange::Unchanged))
            };
            if !Side::BOTH.iter().all(|side| is_same(side) || self.is_put_back(*side, &path)) {
                touched.add(path);
            }
        }
    }

    /// Notes what was changed on both sides in the same way: to a run, that is in step.
    fn add_changed_alike(
        &self,
        baseline: &Baseline,
        trees: &Pair<Tree>,
        touched: &mut Touched,
    ) -> Result<(), Halt> {
        let preserve = self.compared();
        // what another inode means was told with the plan
        let by =
            Measure { listed_at: Stamp::UNKNOWN, preserve: &preserve, inodes: Inodes::Meaningless };
        let mut known: Pair<BTreeSet<NodeId>> = Pair::default();
        let is_present = |side: Side, id: &NodeId| trees[side].standing(*id) == Standing::Present;
        for record in baseline.records() {
            let (path, record) = record.map_err(|error| Halt::state(&error))?;
            for side in Side::BOTH {
                let found = trees[side].find(&path).filter(|id| is_present(side, id));
                known[side].extend(found);
                let now = found.map(|id| trees[side].entry(id));
                let since = change(now, &record.was[side], by);
                let is_same = matches!(since, Some(SideChange::Absent | SideChange::Unchanged));
                if !is_same && !self.is_put_back(side, &path) {
                    touched.add(path.clone());
                }
            }
        }
        for side in Side::BOTH {
            let ids = trees[side].ids().filter(|id| *id != Tree::ROOT && is_present(side, id));
            let new = ids.filter(|id| !known[side].contains(id)).map(|id| trees[side].path(id));
            new.filter(|path| !self.is_put_back(side, path)).for_each(|path| touched.add(path));
        }
        Ok(())
    }

    /// What cannot be put back is named before anything is done.
    fn tell_lost(&self, plan: &UndoPlan, unless_whole: UnlessWhole) -> Result<(), Halt> {
        let reporter = self.around.reporter();
        let level = match unless_whole {
            UnlessWhole::Refuse => Level::Error,
            UnlessWhole::DoTheRest => Level::Warn,
        };
        for (side, path, why) in &plan.lost {
            let text = format!("it cannot be put back: {why}");
            reporter.problem(level, Some(*side), Some(path), &text);
        }
        if plan.lost.is_empty() || unless_whole == UnlessWhole::DoTheRest {
            return Ok(());
        }
        let paths = counted(plan.lost.len() as u64, "path");
        Err(Halt::fatal(format!(
            "{paths} cannot be put back; nothing was undone (--force undoes the rest)"
        )))
    }

    /// Carries the plan out on both sides. Says what was done, and which paths could not be.
    fn carry_undo_out(
        &mut self,
        store: &StateStore,
        plan: &UndoPlan,
        trees: &Pair<Tree>,
        shelves: &Pair<Vec<Shelf>>,
    ) -> Result<(RunRecord, BTreeSet<RelPath>), Halt> {
        let paths = Side::BOTH.into_iter().flat_map(|to| {
            let steps = plan.steps[to].iter();
            let makes_way = steps.filter(|step| {
                matches!(step, Step::Remove { .. } | Step::Replace { .. } | Step::Move { .. })
            });
            makes_way.map(move |step| InflightPath {
                path: step.path().clone(),
                part: Part::MakesWay,
                to,
            })
        });
        store.set_inflight(&self.inflight(paths.collect()))?;
        fault::point("undo noted");
        let mut done = RunRecord::default();
        let mut failed = BTreeSet::new();
        for side in Side::BOTH {
            let steps = &plan.steps[side];
            if steps.is_empty() {
                continue;
            }
            let mut one = Undoing {
                names: Names::of(steps),
                task: self,
                side,
                tree: &trees[side],
                shelves: &shelves[side],
                done: &mut done,
                failed: &mut failed,
                dirs: BTreeSet::new(),
                made: BTreeMap::new(),
            };
            one.all(steps)?;
        }
        Ok((done, failed))
    }

    /// Looks at both sides once more, and records what each has.
    fn record_undo(
        &mut self,
        history: &History<'_>,
        undo: &UndoPlan,
        mut done: RunRecord,
        failed: &BTreeSet<RelPath>,
        number: i64,
    ) -> Result<(), Halt> {
        let (store, baseline) = (history.store, &history.loaded.baseline);
        // what the star has lent was scanned before
        self.lent.hub = None;
        let trees = self.scan()?;
        let (mut trees, _) = self.agree_on_spelling(trees, baseline)?;
        self.read_contents(&mut trees, baseline, store)?;
        self.forget_fresh_contents(&mut trees);
        let plan = self.plan(&trees, baseline, store)?;
        let back = RestoredPaths::of(undo, failed, &Side::BOTH);
        self.lent.put_back = RestoredPaths::of(undo, failed, &[Side::Initiator]);
        done.differs = self.differences(&back, &trees);
        done.undoes = Some(number);
        self.record_as_found(history, &trees, plan, |plan, path_id| back.has(&plan.path(path_id)))?;
        self.count_undone(&done);
        self.outcome.done = Some(done);
        // what is missing because something failed is still not deleted
        if failed.is_empty() {
            store.clear_inflight()?;
        }
        store.clear_settled()?;
        self.replicas.initiator.refresh_listing();
        self.replicas.target.refresh_listing();
        self.finish(store)
    }

    /// Records what the hub has since other targets of a star were put back, where this target is as
    /// it is recorded and has the same: else the next run would bring that over once more.
    fn record_hub(&mut self, history: &History<'_>, trees: &mut Pair<Tree>) -> Result<(), Halt> {
        let (store, baseline) = (history.store, &history.loaded.baseline);
        self.forget_fresh_contents(trees);
        let plan = self.plan(trees, baseline, store)?;
        let back = std::mem::take(&mut self.lent.put_back);
        let preserve = self.compared();
        let by =
            Measure { listed_at: Stamp::UNKNOWN, preserve: &preserve, inodes: Inodes::Reliable };
        let is_in_step = |plan: &Plan, path_id: PathId| {
            let now = Pair::from_fn(|side| plan.entry(trees, path_id, side));
            let is_as_recorded = plan.delta.record(path_id).is_some_and(|known| {
                let since = change(now.target, &known.was.target, by);
                matches!(since, Some(SideChange::Absent | SideChange::Unchanged))
            });
            is_as_recorded
                && match (now.initiator, now.target) {
                    (Some(here), Some(there)) => is_alike(here, there, &preserve),
                    (None, None) => true,
                    _ => false,
                }
        };
        self.record_as_found(history, trees, plan, |plan, path_id| {
            back.has(&plan.path(path_id)) && is_in_step(plan, path_id)
        })?;
        store.clear_settled()?;
        self.finish(store)
    }

    /// Records what each side has at some paths, and leaves all others as they were recorded.
    fn record_as_found(
        &mut self,
        history: &History<'_>,
        trees: &Pair<Tree>,
        mut plan: Plan,
        is_meant: impl Fn(&Plan, PathId) -> bool,
    ) -> Result<(), Halt> {
        let baseline = &history.loaded.baseline;
        for path_id in plan.delta.path_ids() {
            let there = Pair::from_fn(|side| plan.delta.now(path_id, side).is_some());
            let next_record = match (is_meant(&plan, path_id), there.initiator, there.target) {
                (false, ..) => NextRecord::KeepOld,
                (true, true, false) => NextRecord::DeletionSkipped(Side::Initiator),
                (true, false, true) => NextRecord::DeletionSkipped(Side::Target),
                (true, ..) => NextRecord::AsFound,
            };
            plan.verdicts[path_id.index()] =
                Verdict { act: Act::Nothing, next_record, ..Verdict::default() };
        }
        let header = self.header(trees, baseline, history.identities.clone());
        let (next, claims) = record(trees, baseline, &plan, &Achieved::default(), header)
            .map_err(|error| Halt::state(&error))?;
        self.flush(trees, &claims)?;
        let next = self.numbered(history, next)?;
        history.store.save(history.loaded, &next, &RunLists::default())?;
        Ok(())
    }

    /// Where both sides differ now: the tops.
    fn differences(&self, back: &RestoredPaths, trees: &Pair<Tree>) -> Vec<Differs> {
        let preserve = self.compared();
        let mut found: BTreeMap<RelPath, Differs> = BTreeMap::new();
        for side in Side::BOTH {
            for id in trees[side].ids().filter(|id| *id != Tree::ROOT) {
                let path = trees[side].path(id);
                if !back.has(&path) || trees[side].standing(id) != Standing::Present {
                    continue;
                }
                let mine = trees[side].entry(id);
                let other = trees[side.other()].find(&path);
                let other = other.map(|other| trees[side.other()].entry(other));
                let is_same = other.is_some_and(|other| is_alike(mine, other, &preserve));
                let is_below = path
                    .ancestors()
                    .skip(1)
                    .any(|above| found.get(&above).is_some_and(|top| top.is_one_sided()));
                if !is_same && !is_below {
                    let looks = Pair::from_fn(|of: Side| {
                        if of == side { Some(Look::of(mine)) } else { other.map(Look::of) }
                    });
                    found.insert(path.clone(), Differs { path, looks });
                }
            }
        }
        found.into_values().collect()
    }

    fn count_undone(&mut self, done: &RunRecord) {
        for row in &done.changes {
            let counts = &mut self.outcome.counts[row.side];
            let entries = row.below + 1;
            match row.action {
                Action::Created | Action::Updated => counts.updates += entries,
                Action::Deleted => counts.deletions += entries,
                Action::Moved => counts.moves += 1,
                Action::Metadata => counts.metadata += 1,
                Action::Times => {}
            }
        }
    }
}

fn is_alike(one: &Entry, other: &Entry, preserve: &Preserve) -> bool {
    one.kind == other.kind
        && (one.kind.is_dir() || looks_alike(one, other))
        && same_metadata(one, other, preserve)
}

/// Paths that were put back.
#[derive(Debug, Clone, Default)]
pub(super) struct RestoredPaths {
    trees: BTreeSet<RelPath>,
    paths: BTreeSet<RelPath>,
}

impl RestoredPaths {
    fn of(undo: &UndoPlan, failed: &BTreeSet<RelPath>, sides: &[Side]) -> Self {
        let mut back = RestoredPaths::default();
        for side in sides {
            let names = Names::of(&undo.steps[*side]);
            for step in undo.steps[*side].iter().filter(|step| !failed.contains(step.path())) {
                let path = step.path();
                let places = [path.clone(), names.before(path)];
                match step {
                    Step::Metadata { .. } | Step::Time { .. } | Step::Remake { .. } => {
                        back.paths.extend(places);
                    }
                    _ => back.trees.extend(places),
                }
            }
        }
        back
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.trees.is_empty() && self.paths.is_empty()
    }

    /// Adds those of another undo.
    pub(super) fn extend(&mut self, other: RestoredPaths) {
        self.trees.extend(other.trees);
        self.paths.extend(other.paths);
    }

    fn has(&self, path: &RelPath) -> bool {
        self.paths.contains(path) || path.ancestors().any(|above| self.trees.contains(&above))
    }
}

/// One side that is being put back.
struct Undoing<'t, 'a> {
    task: &'t mut Task<'a>,
    side: Side,
    /// As it was scanned before.
    tree: &'t Tree,
    shelves: &'t [Shelf],
    names: Names,
    done: &'t mut RunRecord,
    failed: &'t mut BTreeSet<RelPath>,
    /// Directories whose time our work moves, by the name from before.
    dirs: BTreeSet<RelPath>,
    /// Times of directories that came back, by the name from before.
    made: BTreeMap<RelPath, Stamp>,
}

impl Undoing<'_, '_> {
    fn all(&mut self, steps: &[Step]) -> Result<(), Halt> {
        self.metadata(steps)?;
        let moves: Vec<&RelPath> =
            steps.iter().filter(|step| matches!(step, Step::Move { .. })).map(Step::path).collect();
        // what holds something that is moved back goes when that is out
        let holds = |path: &RelPath| moves.iter().any(|moved| moved.is_within(path));
        self.make_way(steps, |path| !holds(path))?;
        fault::point("undo made way");
        // nor does anything come to its place before
        let comes = |step: &Step| matches!(step, Step::Replace { .. } | Step::Bring { .. });
        let waits = |step: &Step| comes(step) && holds(step.path());
        self.place(steps, |step| !waits(step))?;
        self.make_way(steps, holds)?;
        self.place(steps, waits)?;
        self.times(steps)
    }

    fn scanned(&self, path: &RelPath) -> Option<&Entry> {
        self.tree.find(path).map(|id| self.tree.entry(id))
    }

    /// Carries operations out, and tells what went wrong with a path.
    fn run(
        &mut self,
        what: &str,
        jobs: Vec<(RelPath, Op)>,
    ) -> Result<Vec<(RelPath, Option<OpResult>)>, Halt> {
        let mut results = Vec::new();
        let mut jobs = jobs.into_iter().peekable();
        while jobs.peek().is_some() {
            self.task.check_stop()?;
            let (paths, ops): (Vec<RelPath>, Vec<Op>) = jobs.by_ref().take(BATCH).unzip();
            let done = self.task.replicas[self.side].apply(&ops)?;
            for (path, done) in paths.into_iter().zip(done) {
                let done = match done {
                    Ok(done) => Some(done),
                    Err(error) => {
                        self.fail(&path, what, &error);
                        None
                    }
                };
                results.push((path, done));
            }
        }
        Ok(results)
    }

    fn fail(&mut self, path: &RelPath, what: &str, error: &PathError) {
        let text = format!("{what}: {error}");
        self.task.around.reporter().problem(Level::Error, Some(self.side), Some(path), &text);
        self.failed.insert(path.clone());
    }

    /// The directory of a path will have another time.
    fn moves_time_above(&mut self, path: &RelPath) {
        if let Some(dir) = path.parent().filter(|dir| !dir.is_root()) {
            self.dirs.insert(dir);
        }
    }

    fn row(&self, path: &RelPath, action: Action) -> Change {
        Change {
            before: self.scanned(path).map(Look::of),
            ..Change::new(self.side, self.names.before(path), action)
        }
    }

    fn metadata(&mut self, steps: &[Step]) -> Result<(), Halt> {
        let mut jobs = Vec::new();
        let mut rows = Vec::new();
        for step in steps {
            let Step::Metadata { path, before, attributes } = step else { continue };
            let Some(now) = self.scanned(path).cloned() else { continue };
            let mut row = self.row(path, Action::Metadata);
            row.after = Some(Look { mtime: before.mtime, ..before.clone() });
            if let Some(had) = attributes {
                row.attributes = self.attribute_job(path, &now, had, before, &mut jobs)?;
            }
            let wanted = (before.uid, before.gid);
            let Owner { uid, gid } = self.task.owner_like(self.side, wanted, &now);
            let mode = (before.mode != now.mode || uid.is_some() || gid.is_some())
                .then_some(before.mode)
                .filter(|_| now.kind != Kind::Symlink);
            if mode.is_some() || uid.is_some() || gid.is_some() {
                let (path, expect) = (path.clone(), now.clone());
                jobs.push((path.clone(), Op::SetMetadata { path, expect, mode, uid, gid }));
            }
            if now.kind.is_dir() {
                self.dirs.insert(self.names.before(path));
            } else if before.mtime != now.mtime {
                let (path, mtime) = (path.clone(), before.mtime);
                jobs.push((path.clone(), Op::SetMtime { path, mtime, expect: Some(now) }));
            }
            rows.push((path.clone(), row));
        }
        self.run("cannot set its metadata back", jobs)?;
        let failed = &*self.failed;
        let rows = rows.into_iter().filter(|(path, _)| !failed.contains(path));
        self.done.changes.extend(rows.map(|(_, row)| row));
        Ok(())
    }

    /// Has ACLs and attributes set back. Returns those that are there now.
    fn attribute_job(
        &mut self,
        path: &RelPath,
        now: &Entry,
        had: &[u8],
        before: &Look,
        jobs: &mut Vec<(RelPath, Op)>,
    ) -> Result<Option<Vec<u8>>, Halt> {
        let found = self.task.replicas[self.side].attributes(std::slice::from_ref(path))?;
        let had: Option<Attributes> = postcard::from_bytes(had).ok();
        let (Some(Ok(Some(there))), Some(had)) = (found.into_iter().next(), had) else {
            let error = PathError::Failed {
                action: "read its attributes".into(),
                cause: "nobody tells them there".to_owned(),
            };
            self.fail(path, "cannot set its metadata back", &error);
            return Ok(None);
        };
        let change = AttributeChange::between(&there, &had, before.mode);
        if !change.is_empty() {
            let (path, expect) = (path.clone(), now.clone());
            jobs.push((path.clone(), Op::SetAttributes { path, expect, change }));
        }
        Ok(postcard::to_stdvec(&there).ok())
    }

    /// What the run made goes, and what it brought makes way.
    fn make_way(&mut self, steps: &[Step], when: impl Fn(&RelPath) -> bool) -> Result<(), Halt> {
        let mut jobs = Vec::new();
        let mut times = Vec::new();
        let mut rows: BTreeMap<RelPath, Change> = BTreeMap::new();
        for step in steps.iter().filter(|step| when(step.path())) {
            let (path, action, keep) = match step {
                Step::Remove { path } => (path, Action::Deleted, Keep::Deleted),
                Step::Replace { path, .. } => (path, Action::Updated, Keep::Backup),
                _ => continue,
            };
            let Some(expect) = self.scanned(path).cloned() else { continue };
            let mut row = self.row(path, action);
            let moved: usize =
                moves_within(steps, path).map(|step| self.entries(step.path())).sum();
            row.below = (self.entries(path) - 1).saturating_sub(moved) as u64;
            // once what was in it is moved back, it has the name that it had
            let holds_moves = moves_within(steps, path).next().is_some();
            let at = if holds_moves { self.names.before(path) } else { path.clone() };
            // it is kept with the times that it had before something was moved out of it
            for dir in self.moved_out_of(steps, path) {
                let mtime = self.scanned(&dir).map(|entry| entry.mtime);
                let at = self.names.before(&dir);
                let op = mtime.map(|mtime| Op::SetMtime { path: at, mtime, expect: None });
                times.extend(op.map(|op| (dir, op)));
            }
            self.moves_time_above(&self.names.before(path));
            let keeping = Keeping::dated(keep);
            jobs.push((path.clone(), Op::SetAside { path: at, expect, keeping }));
            rows.insert(path.clone(), row);
        }
        self.run("cannot set the time of the directory back", times)?;
        for (path, came) in self.run("cannot move it out of the way", jobs)? {
            let Some(mut row) = rows.remove(&path) else { continue };
            let Some(came) = came else { continue };
            if let OpResult::Kept(at) = came {
                row.kept = Some(kept_place(&at));
                if let Some(to) = at.older.clone() {
                    let renamed = Renamed { side: self.side, from: kept_place(&at), to };
                    self.follow(&renamed);
                    self.done.renamed.push(renamed);
                }
            }
            self.done.changes.push(row);
        }
        Ok(())
    }

    /// Directories at and below a path out of which something is moved.
    fn moved_out_of(&self, steps: &[Step], path: &RelPath) -> BTreeSet<RelPath> {
        let moves = steps.iter().filter(|step| matches!(step, Step::Move { .. }));
        let from = moves.filter_map(|step| step.path().parent());
        from.filter(|dir| dir.is_within(path)).collect()
    }

    /// What this undo has kept already goes along when a directory that keeps it is renamed.
    fn follow(&mut self, renamed: &Renamed) {
        let rows = self.done.changes.iter_mut().filter(|row| row.side == renamed.side);
        for kept in rows.filter_map(|row| row.kept.as_mut()) {
            if let Some(place) = renamed.now(kept) {
                kept.place = place;
            }
        }
    }

    /// How many entries there are at and below a path.
    fn entries(&self, path: &RelPath) -> usize {
        let Some(top) = self.tree.find(path) else { return 0 };
        let mut count = 0;
        let mut stack = vec![top];
        while let Some(id) = stack.pop() {
            count += 1;
            stack.extend(self.tree.children(id));
        }
        count
    }

    /// Everything comes to where it was, parents first.
    fn place(&mut self, steps: &[Step], when: impl Fn(&Step) -> bool) -> Result<(), Halt> {
        let mut placed: BTreeMap<RelPath, (&Step, Change)> = BTreeMap::new();
        for step in steps.iter().filter(|step| when(step)) {
            let path = step.path();
            let mut row = self.row(path, Action::Created);
            match step {
                Step::Move { other, below, .. } => {
                    row = Change {
                        path: other.clone(),
                        action: Action::Moved,
                        other: Some(path.clone()),
                        below: *below,
                        after: row.before.clone(),
                        ..row
                    };
                }
                Step::Bring { kept, below, .. } => {
                    (row.before, row.after) = (None, Some(Look::of(&kept.entry)));
                    (row.path, row.below) = (self.names.place(path), *below);
                }
                Step::Remake { look, .. } => {
                    (row.before, row.after) = (None, Some(look.clone()));
                    row.path = self.names.place(path);
                }
                Step::Replace { kept, .. } if !self.failed.contains(path) => {
                    row.after = Some(Look::of(&kept.entry));
                }
                _ => continue,
            }
            let to = match step {
                Step::Move { other, .. } => other.clone(),
                Step::Bring { .. } | Step::Remake { .. } => self.names.place(path),
                _ => self.names.before(path),
            };
            placed.insert(to, (step, row));
        }
        let mut jobs = Vec::new();
        let mut moved: Vec<(RelPath, RelPath)> = Vec::new();
        for (to, (step, _)) in &placed {
            let op = match step {
                Step::Move { path, .. } => {
                    let Some(expect) = self.scanned(path).cloned() else { continue };
                    let from = moved.iter().rev().find_map(|(now, old)| path.rebased(now, old));
                    let from = from.unwrap_or_else(|| path.clone());
                    moved.push((path.clone(), to.clone()));
                    self.moves_time_above(&self.names.before(path));
                    self.moves_time_above(path);
                    Op::Rename { from, to: to.clone(), expect }
                }
                Step::Bring { kept, .. } | Step::Replace { kept, .. } => {
                    self.note_times(to, kept);
                    let (from, expect) = (self.kept_now(kept), kept.entry.clone());
                    Op::Rename { from, to: to.clone(), expect }
                }
                Step::Remake { look, .. } => {
                    self.made.insert(to.clone(), look.mtime);
                    self.dirs.insert(to.clone());
                    Op::MakeDir { path: to.clone(), mode: look.mode | 0o700 }
                }
                _ => continue,
            };
            self.moves_time_above(to);
            jobs.push((step.path().clone(), op));
        }
        let mut remade = Vec::new();
        let done: BTreeMap<RelPath, Option<OpResult>> =
            self.run("cannot put it back", jobs)?.into_iter().collect();
        for (to, (step, row)) in placed {
            if done.get(step.path()).is_none_or(Option::is_none) {
                continue;
            }
            match step {
                Step::Remake { look, .. } => remade.push((to, look.clone())),
                Step::Bring { kept, .. } | Step::Replace { kept, .. } => {
                    self.done.taken.push((self.side, place_of(kept)));
                }
                _ => {}
            }
            // a replaced one has its row from when it made way
            match step {
                Step::Replace { .. } => {
                    let is_it = |one: &&mut Change| {
                        one.side == row.side
                            && one.path == row.path
                            && one.action == Action::Updated
                    };
                    if let Some(made_way) = self.done.changes.iter_mut().find(is_it) {
                        made_way.after = row.after;
                    }
                }
                _ => self.done.changes.push(row),
            }
        }
        self.finish_remade(remade)
    }

    /// A directory that was made again has its owner and mode.
    fn finish_remade(&mut self, remade: Vec<(RelPath, Look)>) -> Result<(), Halt> {
        let paths: Vec<RelPath> = remade.iter().map(|(path, _)| path.clone()).collect();
        let found = self.task.replicas[self.side].stat(&paths)?;
        let mut jobs = Vec::new();
        for ((path, look), found) in remade.into_iter().zip(found) {
            let Ok(Some(expect)) = found else { continue };
            let wanted = (look.uid, look.gid);
            let Owner { uid, gid } = self.task.owner_like(self.side, wanted, &expect);
            let mode = Some(look.mode);
            jobs.push((path.clone(), Op::SetMetadata { path, expect, mode, uid, gid }));
        }
        self.run("cannot set its metadata back", jobs).map(drop)
    }

    /// Times of directories that come back, in case something is moved into them.
    fn note_times(&mut self, to: &RelPath, kept: &KeptVersion) {
        if !kept.entry.kind.is_dir() {
            return;
        }
        let place = place_of(kept);
        for (below, kept) in kept_below(self.shelves, &place).unwrap_or_default() {
            if kept.entry.kind.is_dir() {
                let path = to.join_path(&below);
                self.made.insert(path, kept.entry.mtime);
            }
        }
    }

    /// Where a kept version lies now: it may have made room for what was set aside.
    fn kept_now(&self, kept: &KeptVersion) -> RelPath {
        let place = place_of(kept);
        let here = self.done.renamed.iter().filter(|renamed| renamed.side == self.side);
        let now = here.filter_map(|renamed| renamed.now(&place)).next();
        now.map_or_else(|| kept.at(), |at| in_work_dir(place.keep.name(), &at))
    }

    /// Directories get the times that they had.
    fn times(&mut self, steps: &[Step]) -> Result<(), Halt> {
        let mut wanted: BTreeMap<RelPath, Stamp> = BTreeMap::new();
        for dir in std::mem::take(&mut self.dirs) {
            let scanned = self.scanned(&self.names.now(&dir)).map(|entry| entry.mtime);
            if let Some(mtime) = self.made.get(&dir).copied().or(scanned) {
                wanted.insert(dir, mtime);
            }
        }
        for step in steps {
            let (path, before, after) = match step {
                Step::Time { path, before, after } => (path, before, after.as_ref()),
                Step::Metadata { path, before, .. } => (path, before, None),
                _ => continue,
            };
            let Some(now) = self.scanned(path).filter(|now| now.kind.is_dir()) else { continue };
            // somebody's own work in it since gave it the time that it has
            if after.is_none_or(|after| after.mtime == now.mtime) {
                wanted.insert(self.names.before(path), before.mtime);
            }
        }
        let paths: Vec<RelPath> = wanted.keys().cloned().collect();
        let found = self.task.replicas[self.side].stat(&paths)?;
        let mut jobs = Vec::new();
        for ((path, mtime), found) in wanted.into_iter().zip(found) {
            let Ok(Some(found)) = found else { continue };
            if !found.kind.is_dir() {
                continue;
            }
            let before = self.scanned(&self.names.now(&path)).map(Look::of);
            if let Some(before) = before.filter(|before| before.mtime != mtime) {
                let mut row = self.row(&path, Action::Times);
                row.path.clone_from(&path);
                row.after = Some(Look { mtime, ..before.clone() });
                row.before = Some(before);
                self.done.changes.push(row);
            }
            if found.mtime != mtime {
                jobs.push((path.clone(), Op::SetMtime { path, mtime, expect: None }));
            }
        }
        self.run("cannot set the time of the directory back", jobs).map(drop)
    }
}

/// The moves out of what is at and below a path.
fn moves_within<'s>(steps: &'s [Step], path: &RelPath) -> impl Iterator<Item = &'s Step> {
    steps.iter().filter(|step| matches!(step, Step::Move { .. }) && step.path().is_within(path))
}

/// What is kept at a place and below it, the top first.
fn kept_below(shelves: &[Shelf], place: &KeptPlace) -> Option<KeptTree> {
    shelves.iter().find(|shelf| shelf.keep == place.keep)?.at(&place.place)
}

/// A row that would be written.
fn would_do(step: &Step, side: Side, trees: &Pair<Tree>) -> Option<Change> {
    let tree = &trees[side];
    let now = tree.find(step.path()).map(|id| Look::of(tree.entry(id)));
    let row = |action, after| Change {
        before: now.clone(),
        after,
        ..Change::new(side, step.path().clone(), action)
    };
    Some(match step {
        Step::Remove { .. } => row(Action::Deleted, None),
        Step::Replace { kept, .. } => row(Action::Updated, Some(Look::of(&kept.entry))),
        Step::Bring { kept, below, .. } => {
            Change { below: *below, ..row(Action::Created, Some(Look::of(&kept.entry))) }
        }
        Step::Remake { look, .. } => row(Action::Created, Some(look.clone())),
        Step::Move { path, other, below } => Change {
            path: other.clone(),
            other: Some(path.clone()),
            below: *below,
            ..row(Action::Moved, now.clone())
        },
        Step::Metadata { before, .. } => row(Action::Metadata, Some(before.clone())),
        Step::Time { .. } => return None,
    })
}

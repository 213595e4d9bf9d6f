//! Step 7, deletions, and what makes way: how it is kept, and what becomes of what rsync has moved
//! to the private place (spec 4, "Deleting"; spec 8, "Kept versions"). What a run is about to do is
//! noted first (spec 8, "An interrupted run"): the next run takes nothing for deleted that this one
//! was in the middle of.

use super::{BATCH, Cut, Job, Steps};
use crate::reconcile::{Act, Delta, PathId};
use crate::replica::{
    Fate, Keep, Keeping, KeptAt, Op, OpResult, PathError, Version, dated_kept_path, kept_path,
};
use crate::report::Level;
use crate::state::{InflightPath, Part};
use crate::tree::same::{is_as_scanned, is_same_inode, stamps_agree};
use crate::tree::{Entry, Kind, RelPath, Side, Tree};
use std::collections::BTreeSet;

impl Steps<'_, '_> {
    /// What is about to be begun, so that the next run can tell what this one took away, or brought
    /// over without its content having reached the disk. What cannot be noted is not begun.
    pub(super) fn note_in_flight(&mut self) -> Result<(), Cut> {
        let plan = self.plan;
        let mut paths = Vec::new();
        // In this order: of what is said twice of a path, the last counts.
        if let Some(earlier) = &self.task.interrupted {
            paths.extend(earlier.paths.iter().cloned());
        }
        let known = paths.len();
        let respelled = plan.respellings.iter().map(|step| InflightPath {
            path: step.to.clone(),
            part: Part::MakesWay,
            to: step.on,
        });
        paths.extend(respelled);
        let mut add = |path_id: PathId, part: Part, to: Side| {
            paths.push(InflightPath { path: self.path(path_id), part, to });
        };
        for step in &plan.set_aside {
            add(step.path_id, Part::MakesWay, step.on);
        }
        for step in &plan.moves {
            if let Some(on) = step.on {
                add(step.from, Part::MakesWay, on);
            }
        }
        for to in Side::BOTH {
            for path_id in &plan.subtrees[to] {
                let is_dir = self.is_dir(*path_id, to.other());
                add(*path_id, if is_dir { Part::Subtree } else { Part::Itself }, to);
            }
            for path_id in plan.updates[to].iter().chain(&plan.links[to]) {
                add(*path_id, Part::Itself, to);
            }
        }
        for to in Side::BOTH {
            for path_id in plan.metadata[to].iter().chain(&plan.counter_metadata[to]) {
                add(*path_id, Part::Metadata, to);
            }
        }
        if paths.len() == known {
            return Ok(());
        }
        self.write_in_flight(paths)
    }

    /// What made way, in this run or in an earlier one, and was not replaced: what is missing
    /// there is still not deleted.
    pub(super) fn still_making_way(&self) -> Vec<InflightPath> {
        let plan = self.plan;
        let has_failed = |path_id: PathId| {
            self.failed(path_id) || plan.delta.below(path_id).into_iter().any(|id| self.failed(id))
        };
        let set_aside = plan.set_aside.iter().map(|step| (step.path_id, step.path_id, step.on));
        let moved = plan.moves.iter().filter_map(|step| Some((step.from, step.to, step.on?)));
        let mut still: Vec<InflightPath> = set_aside
            .chain(moved)
            .filter(|(_, now, _)| has_failed(*now))
            .map(|(path_id, _, to)| InflightPath {
                path: self.path(path_id),
                part: Part::MakesWay,
                to,
            })
            .collect();
        let earlier = self.task.interrupted.iter().flat_map(|inflight| &inflight.paths);
        let earlier = earlier.filter(|noted| noted.part == Part::MakesWay);
        still.extend(
            earlier.filter(|noted| plan.delta.find(&noted.path).is_some_and(has_failed)).cloned(),
        );
        still
    }

    fn write_in_flight(&self, paths: Vec<InflightPath>) -> Result<(), Cut> {
        self.store.set_inflight(&self.task.inflight(paths)).map_err(Cut::InflightNotWritten)
    }
}

impl Steps<'_, '_> {
    pub(super) fn deletions(&mut self) -> Result<(), Cut> {
        for side in Side::BOTH {
            if self.task.config.policy.soft_delete {
                self.soft_deletions(side)?;
            } else {
                self.hard_deletions(side)?;
            }
        }
        Ok(())
    }

    /// Tops of deleted subtrees are renamed whole, if a second look finds just what the
    /// plan knows; otherwise their entries go one by one, and what is new stays.
    fn soft_deletions(&mut self, side: Side) -> Result<(), Cut> {
        let plan = self.plan;
        let is_deleted = |path_id: PathId| plan.verdict(path_id).act == Act::Delete { on: side };
        let tops: Vec<PathId> = plan.deletions[side]
            .iter()
            .copied()
            .filter(|path_id| {
                let parent = plan.delta.parent(*path_id);
                parent == Delta::ROOT || !is_deleted(parent)
            })
            .collect();
        let changed = self.changed_below(side, &tops)?;
        let mut jobs = Vec::new();
        for top in tops.iter().copied() {
            if changed.contains(&top) {
                let mut below = plan.delta.below(top);
                below.reverse();
                jobs.extend(
                    below.into_iter().filter_map(|path_id| self.deletion_one_by_one(side, path_id)),
                );
                jobs.extend(self.deletion_one_by_one(side, top));
            } else if let Some(expect) = self.scanned(top, side).cloned() {
                let below = plan.delta.below(top);
                self.to_stat[side].extend(below);
                jobs.push(self.soft_deletion(side, top, expect));
            }
        }
        self.run(side, jobs, |steps, path_id, result| steps.deleted(side, path_id, result))?;
        self.look_into_kept(side, &tops)
    }

    fn soft_deletion(&self, side: Side, path_id: PathId, expect: Entry) -> Job {
        let path = self.path(path_id);
        Job {
            path_id,
            op: Op::SetAside { path, expect, keeping: self.keeping(side, path_id, Keep::Deleted) },
        }
    }

    /// Files move away, directories are removed once they are empty.
    fn deletion_one_by_one(&self, side: Side, path_id: PathId) -> Option<Job> {
        let expect = self.scanned(path_id, side)?.clone();
        Some(if expect.kind.is_dir() {
            Job { path_id, op: Op::Remove { path: self.path(path_id), expect } }
        } else {
            self.soft_deletion(side, path_id, expect)
        })
    }

    fn hard_deletions(&mut self, side: Side) -> Result<(), Cut> {
        let plan = self.plan;
        let jobs = plan.deletions[side]
            .iter()
            .filter_map(|path_id| {
                if plan.always_kept.contains(path_id) {
                    return self.deletion_one_by_one(side, *path_id);
                }
                let expect = self.scanned(*path_id, side)?.clone();
                let op = Op::Remove { path: self.path(*path_id), expect };
                Some(Job { path_id: *path_id, op })
            })
            .collect();
        self.run(side, jobs, |steps, path_id, result| steps.deleted(side, path_id, result))
    }

    fn deleted(&mut self, side: Side, path_id: PathId, result: Result<(), PathError>) {
        match result {
            // Somebody was faster.
            Ok(()) | Err(PathError::Vanished) => {}
            // New work since the scan: it stays, and the next run brings it over.
            Err(error @ (PathError::Changed | PathError::NotEmpty)) => {
                self.problem(Level::Warn, side, path_id, &format!("not deleted: {error}"));
                self.applied.achieved.fail_below(&self.plan.delta, path_id);
            }
            Err(error) => self.tell_and_fail_below(side, path_id, "cannot delete it", &error),
        }
    }

    /// Which of some directories no longer hold exactly what was scanned below them.
    pub(super) fn changed_below(
        &mut self,
        side: Side,
        tops: &[PathId],
    ) -> Result<BTreeSet<PathId>, Cut> {
        let dirs: Vec<PathId> =
            tops.iter().copied().filter(|top| self.is_dir(*top, side)).collect();
        if dirs.is_empty() {
            return Ok(BTreeSet::new());
        }
        let paths = self.paths(&dirs);
        let found = self.task.replicas[side].look_below(&paths)?;
        let mut changed = BTreeSet::new();
        for (top, found) in dirs.into_iter().zip(found) {
            let is_same = match found {
                Ok(Some(tree)) => self.holds_just_what_was_scanned(side, top, &tree, is_as_scanned),
                // Gone: the operation itself finds out and says so.
                Ok(None) => true,
                Err(_) => false,
            };
            if !is_same {
                changed.insert(top);
            }
        }
        Ok(changed)
    }

    /// Whether a tree, at `top` or where that was moved to, holds what was scanned below it and
    /// nothing else.
    pub(super) fn holds_just_what_was_scanned(
        &self,
        side: Side,
        top: PathId,
        found: &Tree,
        same: fn(&Entry, &Entry) -> bool,
    ) -> bool {
        let delta = self.delta();
        let mut stack = vec![(top, Tree::ROOT)];
        while let Some((path_id, dir)) = stack.pop() {
            let mut path_ids = delta.children(path_id).filter(|s| delta.now(*s, side).is_some());
            for child in found.children(dir) {
                let Some(known) = path_ids.next() else { return false };
                let entry = found.entry(child);
                let is_same = delta.name(known) == found.name(child)
                    && self.scanned(known, side).is_some_and(|scanned| same(scanned, entry));
                if !is_same {
                    return false;
                }
                if entry.kind.is_dir() {
                    stack.push((known, child));
                }
            }
        }
        true
    }
}

impl Steps<'_, '_> {
    /// How the version of a side is kept when it makes way.
    pub(super) fn keeping(&self, side: Side, path_id: PathId, keep: Keep) -> Keeping {
        let lost = self.losers[side].contains(&path_id);
        // a damaged copy takes the place of no sound version
        let is_damaged = self.plan.damaged.is_damaged(side, self.delta().now(path_id, side));
        let latest_only =
            keep == Keep::Backup && !self.task.config.policy.backup_multiple && !is_damaged;
        let keeping = if latest_only { Keeping::replacing(keep) } else { Keeping::dated(keep) };
        Keeping { version: if lost { Version::Protected } else { Version::Ordinary }, ..keeping }
    }

    /// Notes where something is kept now, and names it if no scan has seen it.
    pub(super) fn note_kept(
        &mut self,
        side: Side,
        path_id: PathId,
        done: Result<OpResult, PathError>,
    ) -> Result<(), PathError> {
        if let OpResult::Kept(at) = done? {
            if at.is_unseen {
                self.name_unseen(side, &self.path(path_id), &at.path());
            }
            self.applied.kept[side].insert(path_id, at);
        }
        Ok(())
    }

    fn name_unseen(&self, side: Side, path: &RelPath, at: &RelPath) {
        let text = format!(
            "it was changed or created while the run was going on, just before it was replaced; \
             that version is kept as {at}"
        );
        self.task.around.reporter().problem(Level::Warn, Some(side), Some(path), &text);
    }

    /// Directories that were moved away as a whole are looked through once more: what somebody
    /// did in them since the last look is kept with them, and named.
    pub(super) fn look_into_kept(&mut self, side: Side, tops: &[PathId]) -> Result<(), Cut> {
        if self.task.config.preserve.follows_links() {
            return Ok(()); // from there, links lead elsewhere
        }
        let moved: Vec<(PathId, RelPath)> = tops
            .iter()
            .filter(|top| self.is_dir(**top, side))
            .filter_map(|top| Some((*top, self.applied.kept[side].get(top)?.path())))
            .collect();
        for moved in moved.chunks(BATCH) {
            let paths: Vec<RelPath> = moved.iter().map(|(_, at)| at.clone()).collect();
            let found = self.task.replicas[side].look_below(&paths)?;
            for ((top, at), found) in moved.iter().zip(found) {
                let is_same = match found {
                    Ok(Some(tree)) => {
                        // what came from another file system was copied: its inodes are new
                        let there = tree.entry(Tree::ROOT).dev;
                        let is_moved = self.scanned(*top, side).is_some_and(|e| e.dev == there);
                        let same = if is_moved { is_as_scanned } else { stamps_agree };
                        self.holds_just_what_was_scanned(side, *top, &tree, same)
                    }
                    Ok(None) | Err(_) => true,
                };
                if !is_same {
                    let text = format!(
                        "something in it was changed or created while it was moved away; all of \
                         it is kept as {at}"
                    );
                    self.problem(Level::Warn, side, *top, &text);
                }
            }
        }
        Ok(())
    }

    /// Decides about everything that rsync has replaced on a side: it lies in the private
    /// place.
    pub(super) fn put_replaced_away(&mut self, side: Side) -> Result<(), Cut> {
        let private = self.task.replicas[side].private_place();
        let found = self.task.replicas[side].look_below(std::slice::from_ref(&private))?.pop();
        let tree = match found {
            None | Some(Ok(None)) => return Ok(()),
            Some(Ok(Some(tree))) => tree,
            Some(Err(error)) => {
                let text = format!("cannot look at what was replaced: {error}");
                self.task.around.reporter().problem(
                    Level::Error,
                    Some(side),
                    Some(&private),
                    &text,
                );
                return Ok(());
            }
        };
        let ids: Vec<_> = tree.ids().filter(|id| !tree.entry(*id).kind.is_dir()).collect();
        let still_named = self.not_replaced_after_all(side, &tree)?;
        for ids in ids.chunks(BATCH) {
            let replaced: Vec<InPrivatePlace> = ids
                .iter()
                .map(|id| (tree.path(*id), tree.entry(*id).clone()))
                .map(|(path, found)| self.fate_of_replaced(side, path, found, &still_named))
                .collect();
            let ops: Vec<Op> = replaced.iter().map(|replaced| replaced.op(&private)).collect();
            let results = self.task.replicas[side].apply(&ops)?;
            for (replaced, result) in replaced.into_iter().zip(results) {
                self.note_put_away(side, replaced, result);
            }
        }
        Ok(())
    }

    /// Where a call of rsync was broken off, it may have come between its two steps, a second
    /// name for the old version and the new version in its place: then nothing was replaced.
    fn not_replaced_after_all(
        &mut self,
        side: Side,
        replaced: &Tree,
    ) -> Result<BTreeSet<RelPath>, Cut> {
        if !self.applied.had_failed_call[side] {
            return Ok(BTreeSet::new());
        }
        Ok(same_files(self.task.replicas[side].as_mut(), replaced)?)
    }

    fn fate_of_replaced(
        &self,
        side: Side,
        path: RelPath,
        found: Entry,
        still_named: &BTreeSet<RelPath>,
    ) -> InPrivatePlace {
        let follows = self.task.config.preserve.follows_links();
        let path_id = self.delta().find(&path);
        let scanned = path_id.and_then(|path_id| self.scanned(path_id, side));
        let is_still_named = still_named.contains(&path);
        // A link that counts as what it points at is a link here.
        let is_seen = scanned.is_some_and(|scanned| {
            stamps_agree(&found, scanned)
                || (follows && found.kind == Kind::Symlink)
                || is_untold_device(&found, scanned)
        });
        // Another file of the same size and time under the name: nothing says that it is the
        // one that was scanned, and nothing that somebody wants it back.
        let is_another = scanned.is_some_and(|scanned| {
            scanned.dev == found.dev && !is_same_inode(scanned, &found) && !follows
        });
        // What may be damaged replaces nothing for good.
        let is_always_kept = path_id.is_some_and(|id| self.plan.always_kept.contains(&id));
        let policy = &self.task.config.policy;
        let fate = if is_still_named {
            Fate::Discard
        } else if !is_seen {
            Fate::Keep { kept: kept_path(&path), keeping: Keeping::protected(Keep::Backup) }
        } else if policy.backup || is_another || is_always_kept {
            let keeping = match path_id {
                Some(path_id) => self.keeping(side, path_id, Keep::Backup),
                None => Keeping::dated(Keep::Backup),
            };
            let kept = if policy.backup_multiple {
                dated_kept_path(&path, &self.task.kept_suffix)
            } else {
                kept_path(&path)
            };
            Fate::Keep { kept, keeping }
        } else {
            Fate::Discard
        };
        InPrivatePlace { path, path_id, found, fate, is_unseen: !is_seen && !is_still_named }
    }

    fn note_put_away(
        &mut self,
        side: Side,
        replaced: InPrivatePlace,
        result: Result<OpResult, PathError>,
    ) {
        match result {
            Ok(OpResult::Plainly) => {}
            Ok(OpResult::Kept(at)) => {
                let at = KeptAt { is_unseen: replaced.is_unseen, ..at };
                if at.is_unseen {
                    self.name_unseen(side, &replaced.path, &at.path());
                }
                if let Some(path_id) = replaced.path_id {
                    self.applied.kept[side].insert(path_id, at);
                }
            }
            Err(error) => {
                let text = format!(
                    "cannot put the version that was replaced where it belongs: {error}; it lies \
                     in .osync_workdir/replaced, and the next run tries again"
                );
                let reporter = self.task.around.reporter();
                reporter.problem(Level::Error, Some(side), Some(&replaced.path), &text);
            }
        }
    }
}

/// Something in the private place.
struct InPrivatePlace {
    path: RelPath,
    path_id: Option<PathId>,
    found: Entry,
    fate: Fate,
    is_unseen: bool,
}

impl InPrivatePlace {
    fn op(&self, private: &RelPath) -> Op {
        let replaced = private.join_path(&self.path);
        Op::PutAway { replaced, found: self.found.clone(), fate: self.fate.clone() }
    }
}

/// The paths in a private place whose file still has its own name too.
pub(in crate::task) fn same_files(
    replica: &mut dyn crate::replica::Replica,
    replaced: &Tree,
) -> Result<BTreeSet<RelPath>, crate::replica::ReplicaError> {
    let ids: Vec<_> = replaced.ids().filter(|id| !replaced.entry(*id).kind.is_dir()).collect();
    let mut same = BTreeSet::new();
    for ids in ids.chunks(BATCH) {
        let paths: Vec<RelPath> = ids.iter().map(|id| replaced.path(*id)).collect();
        let now = replica.stat(&paths)?;
        for ((id, path), now) in ids.iter().zip(paths).zip(now) {
            let old = replaced.entry(*id);
            if matches!(now, Ok(Some(now)) if (now.dev, now.ino) == (old.dev, old.ino)) {
                same.insert(path);
            }
        }
    }
    Ok(same)
}

/// Whether the same device stands there, as far as its kind and time tell: over the bare shell a
/// listing of what is below has no device numbers.
fn is_untold_device(found: &Entry, scanned: &Entry) -> bool {
    matches!(found.kind, Kind::CharDevice | Kind::BlockDevice)
        && found.kind == scanned.kind
        && found.mtime == scanned.mtime
}

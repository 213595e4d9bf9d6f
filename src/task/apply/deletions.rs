//! Step 7: deletions, deepest first; whole directories in one piece where nothing in them
//! is unknown to the plan (spec 4, "Deleting").

use super::{Cut, Job, Steps};
use crate::reconcile::{Act, Delta, PathId};
use crate::replica::{Keep, Op, PathError};
use crate::report::Level;
use crate::tree::same::is_as_scanned;
use crate::tree::{Entry, Side, Tree};
use std::collections::BTreeSet;

impl Steps<'_, '_> {
    pub(super) fn deletions(&mut self) -> Result<(), Cut> {
        for side in Side::BOTH {
            if self.apply.config.policy.soft_delete {
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
        let plan = self.apply.plan;
        let is_deleted = |path_id: PathId| plan.verdict(path_id).act == Act::Delete { on: side };
        let tops: Vec<PathId> = plan.deletions[side]
            .iter()
            .map(|deletion| deletion.path_id)
            .filter(|path_id| {
                let parent = plan.delta.parent(*path_id);
                parent == Delta::ROOT || !is_deleted(parent)
            })
            .collect();
        let dirs: Vec<PathId> = tops
            .iter()
            .copied()
            .filter(|top| self.scanned(*top, side).is_some_and(|e| e.kind.is_dir()))
            .collect();
        let changed = self.changed_below(side, &dirs)?;
        let mut jobs = Vec::new();
        for top in tops {
            if changed.contains(&top) {
                let mut below = plan.delta.below(top);
                below.reverse();
                jobs.extend(
                    below.into_iter().filter_map(|path_id| self.deletion_one_by_one(side, path_id)),
                );
                jobs.extend(self.deletion_one_by_one(side, top));
            } else if let Some(expect) = self.scanned(top, side).cloned() {
                let below = plan.delta.below(top);
                self.touched[side].extend(below);
                jobs.push(self.soft_deletion(side, top, expect));
            }
        }
        self.run(side, jobs, |steps, path_id, result| steps.deleted(side, path_id, result))?;
        self.look_into_kept(side, &dirs)
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
        let plan = self.apply.plan;
        let jobs = plan.deletions[side]
            .iter()
            .filter_map(|deletion| {
                let expect = self.scanned(deletion.path_id, side)?.clone();
                let op = Op::Remove { path: self.path(deletion.path_id), expect };
                Some(Job { path_id: deletion.path_id, op })
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
                self.applied.achieved.fail_below(&self.apply.plan.delta, path_id);
            }
            Err(error) => self.fail_tree(side, path_id, "cannot delete it", &error),
        }
    }

    /// Which of some directories no longer hold exactly what was scanned below them.
    pub(super) fn changed_below(
        &mut self,
        side: Side,
        tops: &[PathId],
    ) -> Result<BTreeSet<PathId>, Cut> {
        let dirs: Vec<PathId> = tops
            .iter()
            .copied()
            .filter(|top| self.scanned(*top, side).is_some_and(|e| e.kind.is_dir()))
            .collect();
        if dirs.is_empty() {
            return Ok(BTreeSet::new());
        }
        let paths: Vec<_> = dirs.iter().map(|path_id| self.path(*path_id)).collect();
        let found = self.apply.replicas[side].look_below(&paths)?;
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

//! What a run is about to move and to bring over, noted before it does anything (spec 8, "An
//! interrupted run"): the next run cleans up behind it, and takes nothing for deleted that it
//! was in the middle of.

use super::Steps;
use crate::reconcile::PathId;
use crate::replica::PathError;
use crate::report::Level;
use crate::state::{Inflight, InflightPath, Part};
use crate::tree::{Pair, Side};

impl Steps<'_, '_> {
    pub(super) fn note_in_flight(&mut self) {
        let plan = self.plan();
        let mut paths = Vec::new();
        // In this order: of what is said twice of a path, the last counts.
        if let Some(earlier) = self.apply.interrupted {
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
                let is_dir = self.scanned(*path_id, to.other()).is_some_and(|e| e.kind.is_dir());
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
            return;
        }
        self.write_in_flight(paths);
    }

    /// What made way, in this run or in an earlier one, and was not replaced: what is missing
    /// there is still not deleted.
    pub(super) fn still_making_way(&self) -> Vec<InflightPath> {
        let plan = self.plan();
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
        let earlier = self.apply.interrupted.iter().flat_map(|inflight| &inflight.paths);
        let earlier = earlier.filter(|noted| noted.part == Part::MakesWay);
        still.extend(
            earlier.filter(|noted| plan.delta.find(&noted.path).is_some_and(has_failed)).cloned(),
        );
        still
    }

    fn write_in_flight(&mut self, paths: Vec<InflightPath>) {
        let mut began = self.apply.began;
        if let Some(earlier) = self.apply.interrupted.filter(|_| self.apply.left_overs) {
            began = Pair::from_fn(|side: Side| began[side].min(earlier.began[side]));
        }
        let mount_sessions = self.apply.mount_sessions.clone();
        let noted = Inflight { began, mount_sessions, paths };
        if let Err(error) = self.apply.store.set_inflight(&noted) {
            let text =
                format!("{error}; if this run is killed, temporary files of rsync may stay behind");
            self.apply.around.reporter().problem(Level::Warn, None, None, &text);
            self.let_nothing_make_way();
        }
    }

    /// Without a note, a run that is killed between making way and replacing would leave what
    /// looks like a deletion.
    fn let_nothing_make_way(&mut self) {
        let plan = self.apply.plan;
        let unnoted = PathError::Failed {
            action: "note in the state directory that it makes way".into(),
            cause: "see above; it was left alone".to_owned(),
        };
        for step in &plan.set_aside {
            self.fail_tree(step.on, step.path_id, "cannot move it out of the way", &unnoted);
        }
        for (index, step) in plan.moves.iter().enumerate() {
            if let Some(on) = step.on {
                self.fail_tree(on, step.to, "cannot follow the move to this name", &unnoted);
                self.applied.achieved.failed_moves.insert(index);
            }
        }
    }
}

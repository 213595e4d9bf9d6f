//! After acting, what was touched is looked at again: only what is really there counts as
//! achieved (spec 4, "Recording").

use super::{BATCH, Steps};
use crate::reconcile::{Act, PathId};
use crate::replica::{Op, ReplicaError};
use crate::report::Level;
use crate::task::contents::is_before;
use crate::tree::same::{self, arrived_without_time, source_when_sent, stamps_agree};
use crate::tree::{Entry, Kind, NodeId, RelPath, Side, Tree};
use std::collections::BTreeMap;

/// About so many entries are looked at in one go: each costs a round trip. All of them would be
/// held twice for a while, which is the most memory that a first run needs.
const ENTRIES: usize = 20_000;

/// What the source of something looks like that did not arrive as it was scanned.
enum SourceNow {
    /// It was not asked, or could not tell.
    NotAsked,
    Gone,
    There(Entry),
}

impl Steps<'_, '_> {
    /// Reads everything that was touched, on each side, and judges what arrived.
    pub(super) fn read_again(&mut self) {
        for side in Side::BOTH {
            if let Err(error) = self.read_side(side) {
                if !self.applied.cut_short {
                    self.tell_lost(&error);
                }
                self.applied.cut_short = true;
                self.forget_side(side);
            }
        }
        for side in Side::BOTH {
            self.set_rounded_times(side);
            self.remove_files_made_of_fifos(side);
        }
        self.judge();
    }

    fn read_side(&mut self, side: Side) -> Result<(), ReplicaError> {
        let mut tops = self.to_list[side].clone().into_iter().peekable();
        while tops.peek().is_some() {
            let (mut portion, mut entries) = (Vec::new(), 0);
            while let Some(top) = tops.next_if(|_| entries < ENTRIES) {
                entries += 1 + self.delta().below(top).len();
                portion.push(top);
            }
            self.read_below(side, portion)?;
        }
        let path_ids: Vec<PathId> = self.to_stat[side].iter().copied().collect();
        for path_ids in path_ids.chunks(ENTRIES) {
            let paths = self.paths(path_ids);
            let entries = self.task.replicas[side].stat(&paths)?;
            for (path_id, entry) in path_ids.iter().zip(entries) {
                match entry {
                    Ok(entry) => {
                        self.applied.achieved.reread[side].insert(*path_id, entry);
                    }
                    Err(error) => self.fail(side, *path_id, "cannot look at it again", &error),
                }
            }
        }
        Ok(())
    }

    /// An rsync before 3.2 compares the times of links and special files by the second: one that
    /// was made in the second of its source's time keeps the time of its making.
    fn set_rounded_times(&mut self, side: Side) {
        if !self.keeps_times(side) || self.applied.cut_short {
            return;
        }
        let plan = self.plan;
        let rounded = |path_id: PathId| {
            let found = self.applied.achieved.reread[side].get(path_id)?.as_ref()?;
            let sent = self.scanned(path_id, side.other())?;
            let is_rounded = plan.verdict(path_id).act == Act::Send { to: side }
                && !matches!(sent.kind, Kind::File | Kind::Dir)
                && sent.mtime.secs() == found.mtime.secs()
                && !self.arrived(side, sent, found)
                && arrived_without_time(sent, found);
            is_rounded.then(|| (path_id, sent.mtime, found.clone()))
        };
        let those: Vec<_> = plan.delta.path_ids().filter_map(rounded).collect();
        for those in those.chunks(BATCH) {
            let ops: Vec<Op> = those
                .iter()
                .map(|(path_id, mtime, found)| Op::SetMtime {
                    path: plan.path(*path_id),
                    mtime: *mtime,
                    expect: Some(found.clone()),
                })
                .collect();
            let paths: Vec<RelPath> = ops.iter().map(|op| op.path().clone()).collect();
            let replica = &mut self.task.replicas[side];
            // What could not be set, or be looked at, counts as not arrived.
            let Ok(found) = replica.apply(&ops).and_then(|_| replica.stat(&paths)) else { return };
            for ((path_id, ..), found) in those.iter().zip(found) {
                if let Ok(found) = found {
                    self.applied.achieved.reread[side].insert(*path_id, found);
                }
            }
        }
    }

    /// Some file systems make an empty file of a fifo, device or socket that they cannot hold.
    /// Those of the roots are known; what is mounted below was not tried. The next run would take
    /// such a file for a new one, and put it in the place of the fifo.
    fn remove_files_made_of_fifos(&mut self, side: Side) {
        if self.applied.cut_short {
            return;
        }
        let plan = self.plan;
        let made_file = |path_id: PathId| {
            let found = self.applied.achieved.reread[side].get(path_id)?.as_ref()?;
            let sent = self.scanned(path_id, side.other())?;
            let is_made_of_it = plan.verdict(path_id).act == Act::Send { to: side }
                && !matches!(sent.kind, Kind::File | Kind::Dir | Kind::Symlink)
                && found.kind == Kind::File
                && found.size == 0
                && self.scanned(path_id, side).is_none();
            is_made_of_it.then(|| (path_id, found.clone()))
        };
        let those: Vec<_> = plan.delta.path_ids().filter_map(made_file).collect();
        for (path_id, expect) in those {
            let path = plan.path(path_id);
            let replica = &mut self.task.replicas[side];
            // what is there afterwards tells whether it could be removed
            let removed = replica.apply(&[Op::Remove { path: path.clone(), expect }]);
            match removed.and_then(|_| replica.stat(&[path])) {
                Ok(found) => {
                    if let Some(Ok(found)) = found.into_iter().next() {
                        self.applied.achieved.reread[side].insert(path_id, found);
                    }
                }
                Err(error) => {
                    self.tell_lost(&error);
                    self.applied.cut_short = true;
                    return;
                }
            }
        }
    }

    fn read_below(&mut self, side: Side, tops: Vec<PathId>) -> Result<(), ReplicaError> {
        let paths = self.paths(&tops);
        let found = self.task.replicas[side].look_below(&paths)?;
        for (top, tree) in tops.into_iter().zip(found) {
            match tree {
                Ok(tree) => self.take_tree(side, top, tree.as_ref()),
                Err(error) => self.fail(side, top, "cannot look at it again", &error),
            }
        }
        Ok(())
    }

    /// Takes over what a whole subtree looks like where it arrived. What appeared there
    /// meanwhile stays out.
    fn take_tree(&mut self, side: Side, top: PathId, found: Option<&Tree>) {
        let plan = self.plan;
        let mut stack = vec![(top, found.map(|tree| (tree, Tree::ROOT)))];
        while let Some((path_id, there)) = stack.pop() {
            let entry = there.map(|(tree, id)| tree.entry(id).clone());
            // both are in the order of the names
            let mut below = there
                .into_iter()
                .flat_map(|(tree, dir)| tree.children(dir).map(move |id| (tree, id)))
                .peekable();
            for child in plan.delta.children(path_id) {
                let name = plan.delta.name(child);
                while below.next_if(|(tree, id)| tree.name(*id) < name).is_some() {}
                let found = below.next_if(|(tree, id)| tree.name(*id) == name);
                stack.push((
                    child,
                    found.or_else(|| self.under_another_spelling(side, there, name)),
                ));
            }
            self.applied.achieved.reread[side].insert(path_id, entry);
        }
    }

    /// What arrived in a directory under a spelling that its file system made of the name.
    fn under_another_spelling<'t>(
        &self,
        side: Side,
        there: Option<(&'t Tree, NodeId)>,
        name: &[u8],
    ) -> Option<(&'t Tree, NodeId)> {
        let naming = self.task.file_systems.abilities[side].naming;
        let (tree, dir) = there.filter(|_| naming.folds())?;
        tree.children(dir).find(|id| naming.same_name(tree.name(*id), name)).map(|id| (tree, id))
    }

    /// The replica cannot be asked any more: nothing touched on it counts as achieved,
    /// except what is known to be safe either way.
    fn forget_side(&mut self, side: Side) {
        let mut path_ids: Vec<PathId> = self.to_stat[side].iter().copied().collect();
        for top in &self.to_list[side] {
            path_ids.push(*top);
            path_ids.extend(self.plan.delta.below(*top));
        }
        for path_id in path_ids {
            self.applied.achieved.reread[side].remove(path_id);
            self.applied.achieved.failed.insert(path_id);
        }
        for step in self.plan.set_aside.iter().filter(|step| step.on == side) {
            self.fail_with_new_name(step.path_id);
        }
    }

    fn judge(&mut self) {
        let plan = self.plan;
        let mut sources = self.sources_of_other_arrivals();
        for path_id in plan.delta.path_ids() {
            if self.failed(path_id) {
                continue;
            }
            match plan.verdict(path_id).act {
                Act::Send { to } => {
                    let source = sources.remove(&path_id).unwrap_or(SourceNow::NotAsked);
                    self.judge_sent(path_id, to, &source);
                }
                Act::Delete { on } => {
                    if matches!(self.applied.achieved.reread[on].get(path_id), Some(Some(_))) {
                        self.problem(
                            Level::Error,
                            on,
                            path_id,
                            "it is still there after it was deleted",
                        );
                        self.applied.achieved.failed.insert(path_id);
                    }
                }
                Act::Nothing => {}
            }
            if let Some(on) = plan.verdict(path_id).metadata_on {
                self.judge_metadata(path_id, on);
            }
        }
        self.judge_links();
    }

    /// Names that went together must be one file on the receiver.
    fn judge_links(&mut self) {
        let plan = self.plan;
        for group in &plan.groups {
            let found = |path_id: &PathId| {
                let entry = self.applied.achieved.reread[group.to].get(*path_id)?.as_ref()?;
                Some((entry.dev, entry.ino))
            };
            let first = group.members.first().and_then(found);
            let together = group.members.iter().all(|path_id| found(path_id) == first);
            if together || group.members.iter().any(|path_id| self.failed(*path_id)) {
                continue;
            }
            if let (Some(path_id), false) = (group.members.last(), self.applied.cut_short) {
                self.problem(
                    Level::Error,
                    group.to,
                    *path_id,
                    "it could not be linked with the other names of the same file; its content \
                     is there. Does the file system have hard links? (PRESERVE_HARDLINKS)",
                );
            }
            self.applied.achieved.failed.extend(&group.members);
        }
    }

    /// What the sources look like now of what did not arrive as it was scanned. They may have gone
    /// on changing, as a log does that grows.
    fn sources_of_other_arrivals(&mut self) -> BTreeMap<PathId, SourceNow> {
        let plan = self.plan;
        let mut now = BTreeMap::new();
        if self.applied.cut_short {
            return now;
        }
        for to in Side::BOTH {
            let is_other = |path_id: &PathId| {
                let found = self.applied.achieved.reread[to].get(*path_id).and_then(Option::as_ref);
                let sent = self.scanned(*path_id, to.other());
                plan.verdict(*path_id).act == Act::Send { to }
                    && !self.failed(*path_id)
                    && !self.applied.of_failed_calls[to].contains(path_id)
                    && !sent.zip(found).is_some_and(|(sent, found)| self.arrived(to, sent, found))
            };
            let path_ids: Vec<PathId> = plan.delta.path_ids().filter(is_other).collect();
            for path_ids in path_ids.chunks(ENTRIES) {
                let paths: Vec<RelPath> = path_ids.iter().map(|id| plan.path(*id)).collect();
                // If it cannot be asked, they count as not arrived.
                let Ok(found) = self.task.replicas[to.other()].stat(&paths) else { break };
                let there = |(path_id, found): (PathId, Result<Option<Entry>, _>)| {
                    Some((path_id, found.ok()?.map_or(SourceNow::Gone, SourceNow::There)))
                };
                now.extend(path_ids.iter().copied().zip(found).filter_map(there));
            }
        }
        now
    }

    fn judge_sent(&mut self, path_id: PathId, to: Side, source: &SourceNow) {
        let Some(sent) = self.scanned(path_id, to.other()).cloned() else { return };
        let found = self.applied.achieved.reread[to].get(path_id).cloned().flatten();
        let then = match (&found, source) {
            (Some(found), SourceNow::There(source)) => source_when_sent(&sent, source, found),
            _ => None,
        };
        match (&found, then) {
            (Some(found), _)
                if self.arrived(to, &sent, found)
                    && self.was_replaced(path_id, to, &sent, found) => {}
            // It is recorded with the time that it came to have.
            (Some(found), _)
                if !self.keeps_times(to)
                    && arrived_without_time(&sent, found)
                    // no time tells it from what somebody else put there
                    && !is_before(found.ctime, self.task.began[to])
                    && self.was_replaced(path_id, to, &sent, found) =>
            {
                self.applied.untimed[to] += u64::from(self.task.preserve.times);
            }
            (Some(found), Some(then)) if self.was_replaced(path_id, to, &sent, found) => {
                self.applied.achieved.sent_as.insert(path_id, then);
                self.problem(
                    Level::Notice,
                    to.other(),
                    path_id,
                    "it went on changing while it was sent; the next run brings over the rest",
                );
            }
            _ => {
                self.explain(path_id, to, &sent, found.as_ref(), source);
                self.applied.achieved.failed.insert(path_id);
            }
        }
    }

    /// Whether what a side has is what was sent there, as precisely as times are kept there.
    pub(super) fn arrived(&self, to: Side, sent: &Entry, found: &Entry) -> bool {
        // what is mounted below a root was not tried
        let is_tried = found.dev == self.trees[to].entry(Tree::ROOT).dev;
        let step =
            if is_tried { self.task.file_systems.abilities[to].time_step } else { same::COARSEST };
        same::arrived(sent, found, step)
    }

    /// Whether what comes to a side gets the time of its source there.
    fn keeps_times(&self, to: Side) -> bool {
        self.task.preserve.times && self.task.file_systems.abilities[to].sets_times
    }

    /// Whether something was written there. Only a receiver that looked just like the sent entry
    /// before leaves that open: it was sent because its content differs (CHECKSUM), or because it
    /// was a file of its own and not another name. Then it must be a new file, or have another
    /// ctime: rsync has put its own in the place, or written in it.
    fn was_replaced(&self, path_id: PathId, to: Side, sent: &Entry, found: &Entry) -> bool {
        self.scanned(path_id, to).filter(|_| sent.kind == Kind::File).is_none_or(|before| {
            !self.arrived(to, sent, before)
                || before.ino != found.ino
                || before.ctime != found.ctime
        })
    }

    /// Why something did not arrive as it was scanned.
    fn explain(
        &mut self,
        path_id: PathId,
        to: Side,
        sent: &Entry,
        found: Option<&Entry>,
        source: &SourceNow,
    ) {
        if self.applied.cut_short || self.applied.of_failed_calls[to].contains(&path_id) {
            return; // said already, for the whole run or call
        }
        if self.applied.unmade[to].contains(&self.path(path_id)) {
            return; // told by one warning for all of them
        }
        let (from, tried_again) = (to.other(), self.task.intent.tried_again());
        match source {
            SourceNow::Gone => {
                self.problem(
                    Level::Notice,
                    from,
                    path_id,
                    "it vanished while the run was going on",
                );
            }
            SourceNow::There(now) if !stamps_agree(now, sent) => self.problem(
                Level::Notice,
                from,
                path_id,
                "it was changed while the run was going on; the next run brings it over",
            ),
            _ if found.is_some_and(|f| {
                f.kind == sent.kind && f.size == sent.size && !f.kind.is_dir()
            }) =>
            {
                let text = format!(
                    "its modification time could not be set, or it was changed meanwhile; it is \
                     tried again {tried_again}"
                );
                self.problem(Level::Error, to, path_id, &text);
            }
            _ => {
                let text = match found {
                    _ if self.applied.had_failed_call[to] => {
                        "it could not be brought over (rsync's own words stand above)"
                    }
                    None => {
                        "it is not there after the transfer, and rsync said nothing: it was \
                         removed or renamed meanwhile, or rsync did not do its work"
                    }
                    Some(_) => {
                        "what is there is not what was sent, and rsync said nothing: it was \
                         changed meanwhile, or rsync did not do its work"
                    }
                };
                let text = format!("{text}; it is tried again {tried_again}");
                self.problem(Level::Error, to, path_id, &text);
            }
        }
    }

    /// What cannot be set without the right to do so is recorded as it is, with one
    /// warning for all.
    fn judge_metadata(&mut self, path_id: PathId, on: Side) {
        let (Some(other), Some(Some(found))) =
            (self.scanned(path_id, on.other()), self.applied.achieved.reread[on].get(path_id))
        else {
            return;
        };
        if !crate::reconcile::change::same_metadata(found, other, &self.task.compared()) {
            self.applied.refused.insert(path_id);
        }
    }
}

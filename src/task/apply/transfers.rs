//! Step 5: updates in both directions, by rsync (spec 4, "Overwriting"; spec 5, "rsync
//! calls").

use super::transfer_scheduler::{Call, Replaced, TransferScheduler};
use super::{Cut, Job, Steps};
use crate::process::fault;
use crate::reconcile::{Delta, PathId};
use crate::replica::{Op, PathError};
use crate::report::words::counted;
use crate::report::{Event, Level};
use crate::rsync::{self, Finished, Purpose};
use crate::tree::same::is_as_scanned;
use crate::tree::{Pair, RelPath, Side};
use std::collections::{BTreeMap, BTreeSet};

/// Calls that failed for one reason.
#[derive(Default)]
struct Failures {
    sides: BTreeSet<Side>,
    paths: usize,
}

impl Steps<'_, '_> {
    pub(super) fn updates(&mut self) -> Result<(), Cut> {
        let mut calls: Pair<Vec<Call>> = Pair::default();
        let scheduler = TransferScheduler::new(self.apply);
        for side in Side::BOTH {
            self.check_stop()?;
            self.look_at_receivers(side)?;
            calls[side] = self.calls(&scheduler, side)?;
        }
        if calls.initiator.is_empty() && calls.target.is_empty() {
            return Ok(());
        }
        for side in Side::BOTH {
            self.make_tops(side, &calls[side])?;
        }
        fault::point("in flight");
        for (side, calls) in calls.iter() {
            for call in calls {
                for path_id in &call.path_ids {
                    let takes_all = self.takes_all(call, *path_id, side);
                    let sent = if takes_all { &mut self.sent_trees } else { &mut self.touched };
                    sent[side].insert(*path_id);
                }
            }
        }
        self.deliver(&scheduler, &calls);
        for side in Side::BOTH {
            if !calls[side].is_empty() {
                self.settle_replaced(side)?;
            }
            let replaced: Vec<PathId> = calls[side]
                .iter()
                .filter(|call| call.replaces())
                .flat_map(|call| call.path_ids.iter().copied())
                .filter(|path_id| self.is_replaced(*path_id, side))
                .collect();
            self.put_owners_back(side, &replaced)?;
        }
        self.check_stop()
    }

    /// Has the calls made, and tells what came of them.
    pub(super) fn deliver(&mut self, scheduler: &TransferScheduler<'_>, calls: &Pair<Vec<Call>>) {
        let delivered = scheduler.deliver(calls);
        fault::point("delivered");
        self.apply.around.reporter().tell(Event::Quiet);
        let mut failures: BTreeMap<String, Failures> = BTreeMap::new();
        for (to, delivered) in delivered.iter() {
            for call in delivered {
                let ended_well = call.result.as_ref().is_ok_and(|finished| {
                    matches!(finished.outcome, rsync::Outcome::Done | rsync::Outcome::Vanished)
                });
                self.applied.unsettled[to] |= !ended_well;
                let Some(words) = self.tell_of_call(to, &call.result) else { continue };
                let failed = failures.entry(words).or_default();
                failed.sides.insert(to);
                for path_id in &call.path_ids {
                    let mut all = vec![*path_id];
                    if call.purpose == Purpose::Subtrees {
                        all.extend(self.delta().below(*path_id));
                    }
                    failed.paths += all.len();
                    self.applied.broken[to].extend(all);
                }
            }
        }
        for (words, failed) in failures {
            let to = Side::BOTH.into_iter().find(|side| failed.sides.iter().eq([side]));
            let paths = match failed.paths {
                1 => "1 path was on its list; if it was not brought over, it".to_owned(),
                n => format!("{n} paths were on its list; those that were not brought over"),
            };
            let verb = if failed.paths == 1 { "is" } else { "are" };
            let text = format!("{words}. {paths} {verb} tried again by the next run");
            self.apply.around.reporter().problem(Level::Error, to, None, &text);
        }
    }

    /// The tops of whole subtrees, with their modes from the first moment. rsync (3.5) makes
    /// all of them closed to others and sets their modes later: killed in between, the next
    /// run would find them on both sides, and could take the closed one for the right one.
    fn make_tops(&mut self, side: Side, calls: &[Call]) -> Result<(), Cut> {
        if !self.apply.preserve.permissions {
            return Ok(());
        }
        let tops = calls.iter().flat_map(|call| {
            call.path_ids.iter().filter(|path_id| self.takes_all(call, **path_id, side))
        });
        let jobs = tops
            .filter_map(|path_id| {
                let mode = self.scanned(*path_id, side.other())?.mode | 0o700;
                Some(Job { path_id: *path_id, op: Op::MakeDir { path: self.path(*path_id), mode } })
            })
            .collect();
        // What is in the way is in rsync's way too, and that is told.
        self.run(side, jobs, |_, _, _| ())
    }

    /// Whether a call carries over all that is below a path.
    fn takes_all(&self, call: &Call, path_id: PathId, to: Side) -> bool {
        call.purpose == Purpose::Subtrees
            && self.scanned(path_id, to.other()).is_some_and(|top| top.kind.is_dir())
    }

    /// Receivers are looked at again right before: what changed since the scan is left
    /// alone, and the next run decides anew.
    fn look_at_receivers(&mut self, side: Side) -> Result<(), Cut> {
        let plan = self.apply.plan;
        let path_ids: Vec<PathId> = plan.updates[side]
            .iter()
            .chain(&plan.links[side])
            .copied()
            .filter(|path_id| !self.failed(*path_id) && self.is_replaced(*path_id, side))
            .collect();
        for path_ids in path_ids.chunks(super::BATCH) {
            let paths: Vec<RelPath> = path_ids.iter().map(|path_id| self.path(*path_id)).collect();
            let found = self.apply.replicas[side].stat(&paths)?;
            for (path_id, found) in path_ids.iter().zip(found) {
                let is_same = match (&found, self.scanned(*path_id, side)) {
                    (Ok(Some(found)), Some(scanned)) => is_as_scanned(scanned, found),
                    // Gone: nothing can be lost any more.
                    (Ok(None), _) => true,
                    _ => false,
                };
                if !is_same {
                    let text = format!("not updated: {}", PathError::Changed);
                    self.problem(Level::Warn, side, *path_id, &text);
                    self.applied.achieved.failed.insert(*path_id);
                }
            }
        }
        Ok(())
    }

    /// Whether an update replaces something that is no directory.
    fn is_replaced(&self, path_id: PathId, side: Side) -> bool {
        self.apply.plan.verdict(path_id).lost_on.is_none()
            && self.scanned(path_id, side).is_some_and(|entry| !entry.kind.is_dir())
    }

    /// Sorts what goes to a side into calls of rsync. A file whose backup rsync could not
    /// name is backed up by the replica and goes in a call of its own.
    fn calls(&mut self, scheduler: &TransferScheduler<'_>, side: Side) -> Result<Vec<Call>, Cut> {
        let plan = self.apply.plan;
        let keeps_backup = self.apply.config.policy.backup;
        let fresh = |steps: &Self, path_id: &PathId| !steps.failed(*path_id);
        let mut subtrees: Vec<PathId> =
            plan.subtrees[side].iter().filter(|path_id| fresh(self, path_id)).copied().collect();
        let joins_subtrees = !subtrees.is_empty();
        let is_odd = |steps: &Self, path_id: PathId| {
            steps.is_replaced(path_id, side) && scheduler.fits(&steps.path(path_id), side).is_err()
        };
        let grouped = self.groups(side, is_odd);
        let links: Vec<PathId> =
            plan.links[side].iter().filter(|path_id| fresh(self, path_id)).copied().collect();
        let (mut ordinary, mut moved, mut odd) = (Vec::new(), Vec::new(), Vec::new());
        for path_id in plan.updates[side].iter().filter(|path_id| !self.failed(**path_id)) {
            let in_group = grouped.get(path_id);
            if in_group.copied().unwrap_or_else(|| is_odd(self, *path_id)) {
                odd.push(*path_id);
            } else if in_group.is_none() && self.moved[side].contains(path_id) {
                // Most of what it replaces may be the same (spec 4, "Moves").
                moved.push(*path_id);
            } else if joins_subtrees && in_group.is_none() && self.is_new_at_the_top(*path_id, side)
            {
                subtrees.push(*path_id);
            } else {
                ordinary.push(*path_id);
            }
        }
        let jobs = odd
            .iter()
            .filter(|path_id| keeps_backup || plan.always_kept.contains(path_id))
            .filter(|path_id| self.is_replaced(**path_id, side))
            .filter_map(|path_id| {
                let expect = self.scanned(*path_id, side)?.clone();
                Some(Job {
                    path_id: *path_id,
                    op: Op::KeepCopy { path: self.path(*path_id), expect },
                })
            })
            .collect();
        self.run(side, jobs, |steps, path_id, result| {
            if let Err(error) = result {
                steps.fail(side, path_id, "cannot back it up before it is replaced", &error);
            }
        })?;
        let mut calls = Vec::new();
        let mut add = |steps: &Self, purpose, path_ids: Vec<PathId>, replaced| {
            let path_ids: Vec<PathId> =
                path_ids.into_iter().filter(|path_id| !steps.failed(*path_id)).collect();
            if !path_ids.is_empty() {
                calls.push(Call { purpose, path_ids, replaced });
            }
        };
        add(self, Purpose::Subtrees, subtrees, Replaced::Seen);
        add(self, Purpose::Content, ordinary, Replaced::Seen);
        add(self, Purpose::Delta, moved, Replaced::Seen);
        add(self, Purpose::Content, odd, Replaced::Copied);
        // Behind the directories that new names may need.
        add(self, Purpose::Links, links, Replaced::Seen);
        Ok(calls)
    }

    /// Whether nothing but a new name comes into the replica's root, with nothing below it.
    /// That may go with subtrees, in one call: each call costs a twentieth of a second.
    fn is_new_at_the_top(&self, path_id: PathId, to: Side) -> bool {
        self.delta().parent(path_id) == Delta::ROOT
            && self.scanned(path_id, to).is_none()
            && self.scanned(path_id, to.other()).is_some_and(|entry| !entry.kind.is_dir())
    }

    /// The names that go to a side in groups, and whether one of their group is odd. A group
    /// of which one name cannot go stays behind as a whole, for the next run to decide.
    fn groups(
        &mut self,
        side: Side,
        is_odd: impl Fn(&Self, PathId) -> bool,
    ) -> BTreeMap<PathId, bool> {
        let plan = self.apply.plan;
        let mut grouped = BTreeMap::new();
        for group in plan.groups.iter().filter(|group| group.to == side) {
            let odd = group.members.iter().any(|path_id| is_odd(self, *path_id));
            if group.members.iter().any(|path_id| self.failed(*path_id)) {
                self.applied.achieved.failed.extend(&group.members);
            }
            grouped.extend(group.members.iter().map(|path_id| (*path_id, odd)));
        }
        grouped
    }

    /// What rsync complained about. Whether a path arrived is judged by looking at it. If the
    /// call failed as a whole, why it did.
    fn tell_of_call(
        &mut self,
        to: Side,
        result: &Result<Finished, rsync::RsyncError>,
    ) -> Option<String> {
        let finished = match result {
            Ok(finished) => finished,
            Err(error) => return Some(error.to_string()),
        };
        for remark in &finished.remarks {
            let text = format!("{to}: said on the way by the other machine: {remark}");
            self.apply.around.reporter().say(Level::Verbose, &text);
        }
        self.applied.bytes[to] += finished.progress.bytes;
        // A vanished source is no error; what rsync says when it is ended is no news.
        let is_stopped = matches!(finished.outcome, rsync::Outcome::Stopped(_));
        if is_stopped || finished.outcome == rsync::Outcome::Vanished {
            return None;
        }
        let reporter = self.apply.around.reporter();
        for message in &finished.messages {
            if let Some(path) = message.path.as_ref().filter(|_| message.is_unmakeable) {
                let is_planned = |path: &RelPath| self.delta().find(path).is_some();
                let special = message.stands_for().filter(|_| !is_planned(path));
                self.applied.unmade[to].insert(special.unwrap_or_else(|| path.clone()));
                continue;
            }
            reporter.problem(Level::Error, Some(to), message.path.as_ref(), &message.text);
        }
        if finished.left_out > 0 {
            let more = counted(finished.left_out, "more complaint");
            let text = format!("rsync had {more} like these");
            reporter.problem(Level::Error, Some(to), None, &text);
        }
        match &finished.outcome {
            rsync::Outcome::EndedEarly(words) | rsync::Outcome::Failed(words) => {
                Some(match self.remote() {
                    Some(there) => format!("the transfer with {there} failed: {words}"),
                    None => words.clone(),
                })
            }
            _ => None,
        }
    }

    /// The replica behind ssh, for errors.
    fn remote(&self) -> Option<String> {
        let (side, _) = self.apply.config.replicas.iter().find(|(_, place)| place.is_remote())?;
        Some(self.apply.replicas[side].location())
    }
}

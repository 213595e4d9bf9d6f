//! Step 5: updates in both directions, by rsync (spec 4, "Overwriting"; spec 5, "rsync calls").
//!
//! Both directions go at the same time. Many new subtrees are divided into shares, so that several
//! rsyncs copy: one alone is mostly busy in one of its processes, and leaves the machine's other
//! processors idle.

use super::{BATCH, Cut, Job, Steps};
use crate::config::{Config, Preserve};
use crate::filter::Filter;
use crate::process::{Stop, fault};
use crate::reconcile::{Delta, PathId, Plan};
use crate::replica::{Op, PathError};
use crate::report::words::counted;
use crate::report::{Event, Level, Reporter, TransferProgress};
use crate::rsync::{
    self, CallContext, End, Finished, Purpose, RsyncError, Transfer, UnknownOptions,
};
use crate::threads;
use crate::tree::same::is_as_scanned;
use crate::tree::{Kind, Pair, RelPath, Side, Tree};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Calls that failed for one reason.
#[derive(Default)]
struct Failures {
    sides: BTreeSet<Side>,
    paths: usize,
}

impl Steps<'_, '_> {
    pub(super) fn updates(&mut self) -> Result<(), Cut> {
        let mut calls: Pair<Vec<Call>> = Pair::default();
        let scheduler = TransferScheduler::new(self);
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
        // rsync finds a local replica by its path
        for side in Side::BOTH {
            self.task.replicas[side].check_in_place()?;
        }
        for (side, calls) in calls.iter() {
            for call in calls {
                for path_id in &call.path_ids {
                    let takes_all = self.takes_all(call, *path_id, side);
                    let sent = if takes_all { &mut self.to_list } else { &mut self.to_stat };
                    sent[side].insert(*path_id);
                }
            }
        }
        self.make_calls_and_tell(&scheduler, &calls);
        for side in Side::BOTH {
            if !calls[side].is_empty() {
                self.put_replaced_away(side)?;
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
    pub(super) fn make_calls_and_tell(
        &mut self,
        scheduler: &TransferScheduler<'_>,
        calls: &Pair<Vec<Call>>,
    ) {
        let delivered = scheduler.run_all(calls);
        fault::point("delivered");
        self.task.around.reporter().tell(Event::Quiet);
        let mut failures: BTreeMap<String, Failures> = BTreeMap::new();
        for (to, delivered) in delivered.iter() {
            for call in delivered {
                let ended_well = call.result.as_ref().is_ok_and(|finished| {
                    matches!(
                        finished.outcome,
                        rsync::ListOutcome::Done | rsync::ListOutcome::Vanished
                    )
                });
                self.applied.had_failed_call[to] |= !ended_well;
                let Some(words) = self.tell_of_call(to, &call.result) else { continue };
                let failed = failures.entry(words).or_default();
                failed.sides.insert(to);
                for path_id in &call.path_ids {
                    let mut all = vec![*path_id];
                    if call.purpose == Purpose::Subtrees {
                        all.extend(self.delta().below(*path_id));
                    }
                    failed.paths += all.len();
                    self.applied.of_failed_calls[to].extend(all);
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
            let tried_again = self.task.intent.tried_again();
            let text = format!("{words}. {paths} {verb} tried again {tried_again}");
            self.task.around.reporter().problem(Level::Error, to, None, &text);
        }
    }

    /// The tops of whole subtrees, with their modes from the first moment. rsync (3.5) makes
    /// all of them closed to others and sets their modes later: killed in between, the next
    /// run would find them on both sides, and could take the closed one for the right one.
    fn make_tops(&mut self, side: Side, calls: &[Call]) -> Result<(), Cut> {
        if !self.task.preserve.permissions {
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
        call.purpose == Purpose::Subtrees && self.is_dir(path_id, to.other())
    }

    /// Receivers are looked at again right before: what changed since the scan is left
    /// alone, and the next run decides anew.
    fn look_at_receivers(&mut self, side: Side) -> Result<(), Cut> {
        let plan = self.plan;
        let path_ids: Vec<PathId> = plan.updates[side]
            .iter()
            .chain(&plan.links[side])
            .copied()
            .filter(|path_id| !self.failed(*path_id) && self.is_replaced(*path_id, side))
            .collect();
        for path_ids in path_ids.chunks(BATCH) {
            let paths = self.paths(path_ids);
            let found = self.task.replicas[side].stat(&paths)?;
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
        self.plan.verdict(path_id).makes_way_on.is_none()
            && self.scanned(path_id, side).is_some_and(|entry| !entry.kind.is_dir())
    }

    /// Sorts what goes to a side into calls of rsync. A file whose backup rsync could not
    /// name is backed up by the replica and goes in a call of its own.
    fn calls(&mut self, scheduler: &TransferScheduler<'_>, side: Side) -> Result<Vec<Call>, Cut> {
        let plan = self.plan;
        let keeps_backup = self.task.config.policy.backup;
        let not_failed = |steps: &Self, path_id: &PathId| !steps.failed(*path_id);
        let mut subtrees: Vec<PathId> = plan.subtrees[side]
            .iter()
            .filter(|path_id| not_failed(self, path_id))
            .copied()
            .collect();
        let joins_subtrees = !subtrees.is_empty();
        let is_odd = |steps: &Self, path_id: PathId| {
            steps.is_replaced(path_id, side) && !scheduler.fits(&steps.path(path_id), side)
        };
        let grouped = self.groups(side, is_odd);
        let links: Vec<PathId> =
            plan.links[side].iter().filter(|path_id| not_failed(self, path_id)).copied().collect();
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
        let mut add = |steps: &Self, purpose, path_ids: Vec<PathId>, old_version| {
            let path_ids: Vec<PathId> =
                path_ids.into_iter().filter(|path_id| !steps.failed(*path_id)).collect();
            if !path_ids.is_empty() {
                calls.push(Call { purpose, path_ids, old_version });
            }
        };
        add(self, Purpose::Subtrees, subtrees, OldVersion::MovedByRsync);
        add(self, Purpose::Content, ordinary, OldVersion::MovedByRsync);
        add(self, Purpose::Delta, moved, OldVersion::MovedByRsync);
        add(self, Purpose::Content, odd, OldVersion::CopiedBefore);
        // Behind the directories that new names may need.
        add(self, Purpose::Links, links, OldVersion::MovedByRsync);
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
        let plan = self.plan;
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
            self.task.around.reporter().say(Level::Verbose, &text);
        }
        self.applied.bytes[to] += finished.progress.bytes;
        // A vanished source is no error; what rsync says when it is ended is no news.
        let is_stopped = matches!(finished.outcome, rsync::ListOutcome::Stopped(_));
        if is_stopped || finished.outcome == rsync::ListOutcome::Vanished {
            return None;
        }
        let reporter = self.task.around.reporter();
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
            rsync::ListOutcome::EndedEarly(words) | rsync::ListOutcome::Failed(words) => {
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
        let (side, _) = self.task.config.replicas.iter().find(|(_, place)| place.is_remote())?;
        Some(self.task.replicas[side].location())
    }
}

/// One call of rsync.
pub struct Call {
    pub purpose: Purpose,
    pub path_ids: Vec<PathId>,
    pub old_version: OldVersion,
}

/// What becomes of what a call replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldVersion {
    /// It is moved to the private place, where it is looked at before anything becomes of it.
    MovedByRsync,
    /// Its path is too long for that: a copy has been made of it.
    CopiedBefore,
}

/// A file that has less to spare on the disk than this is not worth looking for holes in it.
const WORTH_A_HOLE: u64 = 1 << 16;

impl Call {
    /// Whether what the receiver has at these paths makes way.
    pub fn replaces(&self) -> bool {
        self.purpose != Purpose::Subtrees
    }
}

/// Makes the calls of both directions. It has its own references, because a replica may not be
/// shared by the threads.
pub struct TransferScheduler<'a> {
    config: &'a Config,
    preserve: Preserve,
    /// Whether a side lets times be set.
    sets_times: Pair<bool>,
    plan: &'a Plan,
    trees: &'a Pair<Tree>,
    stop: &'a Stop,
    reporter: &'a dyn Reporter,
    ends: Pair<End>,
    /// The filter, as options for rsync.
    rules: Vec<OsString>,
    /// Where what rsync replaces goes.
    private_dirs: Pair<PathBuf>,
    /// Whether we are root on a side, to whom no directory is closed.
    can_chown: Pair<bool>,
    progress: Mutex<Pair<TransferProgress>>,
    /// What the rsyncs of this run turned out to lack.
    lacking: UnknownOptions,
}

/// A call that was made.
pub struct Delivered {
    /// What it was for: of subtrees the tops.
    pub path_ids: Vec<PathId>,
    pub purpose: Purpose,
    /// What came of it.
    pub result: Result<Finished, RsyncError>,
}

impl<'a> TransferScheduler<'a> {
    fn new(steps: &Steps<'a, '_>) -> Self {
        let task = &*steps.task;
        TransferScheduler {
            config: task.config,
            preserve: task.preserve,
            sets_times: task.file_systems.abilities.as_ref().map(|side| side.sets_times),
            plan: steps.plan,
            trees: steps.trees,
            stop: task.around.stop,
            reporter: task.around.reporter(),
            ends: task.replicas.as_ref().map(|replica| replica.rsync_end()),
            rules: Filter::new(&task.config.selection.rules).rsync_args().collect(),
            private_dirs: task.replicas.as_ref().map(|replica| {
                let place = replica.private_place();
                replica.root().join(OsStr::from_bytes(place.as_bytes()))
            }),
            can_chown: task.can_chown,
            progress: Mutex::default(),
            lacking: UnknownOptions::new(),
        }
    }

    /// Directories of the receiver that may not be written: rsync opens those that are
    /// listed for the time being (spec 5, "rsync calls").
    fn closed_parents(&self, path_ids: &[PathId], to: Side) -> BTreeSet<PathId> {
        if self.can_chown[to] {
            return BTreeSet::new();
        }
        let delta = &self.plan.delta;
        let listed: BTreeSet<PathId> = path_ids.iter().copied().collect();
        // Those that were closed on the other side too are closed by now.
        let closed_now: BTreeSet<PathId> = self.plan.counter_metadata[to].iter().copied().collect();
        let is_closed = |dir: &PathId| {
            let entries = Side::BOTH.map(|side| self.plan.entry(self.trees, *dir, side));
            let whose = if closed_now.contains(dir) { to.other() } else { to };
            let mode = self.plan.entry(self.trees, *dir, whose).map(|entry| entry.mode);
            entries.iter().all(|entry| entry.is_some_and(|entry| entry.kind.is_dir()))
                && mode.is_some_and(|mode| mode & 0o200 == 0)
        };
        let parents: BTreeSet<PathId> =
            path_ids.iter().map(|path_id| delta.parent(*path_id)).collect();
        parents
            .into_iter()
            .filter(|dir| *dir != Delta::ROOT && !listed.contains(dir) && is_closed(dir))
            .collect()
    }

    /// Whether rsync can take a path, with its backup.
    pub fn fits(&self, path: &RelPath, side: Side) -> bool {
        let roots = [self.ends.initiator.root(), self.ends.target.root()];
        rsync::fits(path, roots, Some(&self.private_dirs[side]))
    }

    /// Both directions at the same time; within one, call after call, whole subtrees in
    /// shares.
    pub fn run_all(&self, calls: &Pair<Vec<Call>>) -> Pair<Vec<Delivered>> {
        let totals = Pair::from_fn(|side| self.totals(&calls[side], side));
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = totals;
        let one_side = |side: Side| -> Vec<_> {
            calls[side].iter().flat_map(|call| self.in_shares(call, side)).collect()
        };
        std::thread::scope(|scope| {
            let target = scope.spawn(|| one_side(Side::Target));
            let initiator = one_side(Side::Initiator);
            Pair::new(initiator, threads::joined(target))
        })
    }

    /// One call, or several at the same time that have a share of its paths each.
    fn in_shares(&self, call: &Call, to: Side) -> Vec<Delivered> {
        let mut shares = Vec::new();
        if self.may_share(call) {
            let weigh = |path_id: &PathId| (*path_id, self.plan.delta.below(*path_id).len() + 1);
            shares = split(call.path_ids.iter().map(weigh).collect(), most());
        }
        let [first, others @ ..] = shares.as_slice() else {
            let mut path_ids = call.path_ids.clone();
            if call.purpose != Purpose::Subtrees {
                // All that is below a listed one would go along with a subtree, and the plan
                // puts none there.
                path_ids.splice(0..0, self.closed_parents(&call.path_ids, to));
            }
            return vec![self.run_call(call, &Share::alone(path_ids), to)];
        };
        std::thread::scope(|scope| {
            let start = |share| scope.spawn(move || self.run_call(call, share, to));
            let others: Vec<_> = others.iter().map(start).collect();
            let mut results = vec![self.run_call(call, first, to)];
            results.extend(others.into_iter().map(threads::joined));
            results
        })
    }

    /// Whether it makes no difference if several calls have a part of the paths each: no
    /// line to share, no name that belongs to another one, no partial files whose names
    /// could meet.
    fn may_share(&self, call: &Call) -> bool {
        let transfer = &self.config.transfer;
        call.purpose == Purpose::Subtrees
            && self.ends.iter().all(|(_, end)| matches!(end, End::Local { .. }))
            && transfer.bandwidth == 0
            && !transfer.partial
            && !self.preserve.hardlinks
    }

    fn run_call(&self, call: &Call, share: &Share, to: Side) -> Delivered {
        let partial_dir = self
            .config
            .transfer
            .partial
            .then(|| self.ends[to].root().join(".osync_workdir/_partial"));
        let told = Cell::new(rsync::Progress::default());
        let moved_on = |now: rsync::Progress, file: Option<&[u8]>| {
            let before = told.replace(now);
            let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            progress[to].files += now.files.saturating_sub(before.files);
            progress[to].bytes += now.bytes.saturating_sub(before.bytes);
            self.reporter.tell(Event::Transferring(&progress, file));
        };
        let transfer = Transfer {
            purpose: call.purpose,
            source: &self.ends[to.other()],
            destination: &self.ends[to],
            to,
            rules: &self.rules,
            // In a new subtree too: somebody may make a name there after rsync has looked.
            backup_dir: (call.old_version == OldVersion::MovedByRsync)
                .then(|| self.private_dirs[to].clone()),
            resumes: partial_dir.as_deref().is_some_and(holds_something),
            partial_dir,
            makes_holes: self.makes_holes(call, share, to),
            is_listed_first: share.is_listed_first(),
            shows_progress: self.reporter.shows_progress(),
            lacking: &self.lacking,
        };
        let paths = share.path_ids.iter().map(|path_id| self.plan.path(*path_id));
        let times = self.preserve.times && self.sets_times[to];
        let context = CallContext {
            settings: &self.config.transfer,
            preserve: &Preserve { times, ..self.preserve },
            stop: self.stop,
            reporter: self.reporter,
        };
        let result = rsync::transfer(context, &transfer, paths, &moved_on);
        Delivered { path_ids: share.path_ids.clone(), purpose: call.purpose, result }
    }

    /// Whether one of the files has holes where it comes from. What another machine has cannot
    /// be seen from here; there, any file that is long enough may have some.
    fn makes_holes(&self, call: &Call, share: &Share, to: Side) -> bool {
        let carries_content =
            matches!(call.purpose, Purpose::Content | Purpose::Delta | Purpose::Subtrees);
        let has_holes = |path_id: &PathId| {
            let entry = self.plan.entry(self.trees, *path_id, to.other());
            let is_long = entry.is_some_and(|e| e.kind == Kind::File && e.size > WORTH_A_HOLE);
            is_long
                && match &self.ends[to.other()] {
                    End::Remote(_) => true,
                    End::Local { root } => {
                        let path = self.plan.path(*path_id);
                        let file = root.join(OsStr::from_bytes(path.as_bytes()));
                        std::fs::metadata(file).is_ok_and(|file| {
                            file.blocks().saturating_mul(512) + WORTH_A_HOLE <= file.size()
                        })
                    }
                }
        };
        carries_content
            && share.path_ids.iter().any(|path_id| {
                let is_subtree = call.purpose == Purpose::Subtrees;
                has_holes(path_id)
                    || (is_subtree && self.plan.delta.below(*path_id).iter().any(has_holes))
            })
    }

    fn totals(&self, calls: &[Call], to: Side) -> TransferProgress {
        let mut total = TransferProgress::default();
        let mut add = |path_id: PathId| {
            let entry = self.plan.entry(self.trees, path_id, to.other());
            if let Some(entry) = entry.filter(|entry| entry.kind == Kind::File) {
                total.files_total += 1;
                total.bytes_total += entry.size;
            }
        };
        for call in calls {
            for path_id in &call.path_ids {
                add(*path_id);
                if call.purpose == Purpose::Subtrees {
                    self.plan.delta.below(*path_id).into_iter().for_each(&mut add);
                }
            }
        }
        total
    }
}

/// Whether a directory of this machine holds something; on a remote side it does not matter.
fn holds_something(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

/// More at the same time stand in each other's way on most disks.
const MOST_SHARES: usize = 2;

/// Fewer entries than this are not worth another process.
const FEWEST_ENTRIES: usize = 1000;

/// Up to so many entries an rsync makes its whole list before it begins (about 100 bytes each):
/// a tenth quicker than piece by piece, where another one works meanwhile.
const MOST_LISTED: usize = 1_000_000;

/// A part of a call's paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Share {
    /// The tops, in the order in which they were given.
    pub path_ids: Vec<PathId>,
    /// How many entries come with them.
    entries: usize,
    /// No other share is on its way at the same time.
    is_alone: bool,
}

impl Share {
    /// All paths of a call.
    pub fn alone(path_ids: Vec<PathId>) -> Share {
        Share { path_ids, entries: 0, is_alone: true }
    }

    /// Whether it pays to make its whole list first.
    pub fn is_listed_first(&self) -> bool {
        !self.is_alone && self.entries <= MOST_LISTED
    }
}

/// How many shares pay on this machine.
pub fn most() -> usize {
    threads::most().min(MOST_SHARES)
}

/// At most `most` shares of about the same weight (entries), each in the order in which the
/// paths were given; empty where one share is as good.
pub fn split(weighed: Vec<(PathId, usize)>, most: usize) -> Vec<Share> {
    let total: usize = weighed.iter().map(|(_, weight)| weight).sum();
    let count = most.min(weighed.len()).min(total / FEWEST_ENTRIES);
    if count < 2 {
        return Vec::new();
    }
    let mut heaviest_first = weighed;
    heaviest_first.sort_by_key(|(path_id, weight)| (std::cmp::Reverse(*weight), *path_id));
    let mut shares = vec![Share::default(); count];
    for (path_id, weight) in heaviest_first {
        if let Some(share) = shares.iter_mut().min_by_key(|share| share.entries) {
            share.entries += weight;
            share.path_ids.push(path_id);
        }
    }
    shares.iter_mut().for_each(|share| share.path_ids.sort());
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::Delta;
    use crate::tree::Pair;

    fn weighed(weights: &[usize]) -> Vec<(PathId, usize)> {
        let mut delta = Delta::new();
        let mut path_id = |at: usize| {
            delta.push(Delta::ROOT, format!("{at:03}").as_bytes(), Pair::default(), None)
        };
        weights.iter().enumerate().map(|(at, weight)| (path_id(at), *weight)).collect()
    }

    #[test]
    fn every_path_is_in_one_share_and_shares_are_alike() {
        let given = weighed(&[700, 10, 900, 300, 20, 1000, 50]);
        let shares = split(given.clone(), 2);
        let weight =
            |path_id: &PathId| given.iter().find(|(s, _)| s == path_id).map_or(0, |(_, w)| *w);
        for (share, entries) in shares.iter().zip([1380, 1600]) {
            assert_eq!(share.entries, entries);
            assert_eq!(share.path_ids.iter().map(weight).sum::<usize>(), entries);
            assert!(share.path_ids.is_sorted());
        }
        let mut all: Vec<PathId> = shares.into_iter().flat_map(|share| share.path_ids).collect();
        all.sort();
        assert_eq!(all, given.iter().map(|(path_id, _)| *path_id).collect::<Vec<_>>());
    }

    #[test]
    fn a_list_that_takes_much_memory_is_made_piece_by_piece() {
        let shares = split(weighed(&[MOST_LISTED, MOST_LISTED + 1]), 2);
        let mut first: Vec<bool> = shares.iter().map(Share::is_listed_first).collect();
        first.sort();
        assert_eq!(first, [false, true]);
        assert!(!Share::alone(Vec::new()).is_listed_first());
    }

    #[test]
    fn little_is_not_shared() {
        for (weights, most) in [(&[][..], 2), (&[5000], 2), (&[900, 900], 2), (&[5000, 5000], 1)] {
            assert!(split(weighed(weights), most).is_empty(), "{weights:?}");
        }
        assert_eq!(split(weighed(&[1000, 1000]), 2).len(), 2);
    }
}

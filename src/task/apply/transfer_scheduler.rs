//! Hands the calls of a step to rsync, both directions at the same time.

use super::Apply;
use super::shares::{self, Share};
use crate::config::{Config, Preserve};
use crate::filter::Filter;
use crate::process::Stop;
use crate::reconcile::{Delta, PathId, Plan};
use crate::report::{Event, Reporter, TransferProgress};
use crate::rsync::{
    self, Backup, End, Finished, Misfit, Purpose, RsyncError, Transfer, UnknownOptions,
};
use crate::tree::{Kind, Pair, RelPath, Side, Tree};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// One call of rsync.
pub struct Call {
    pub purpose: Purpose,
    pub path_ids: Vec<PathId>,
    pub replaced: Replaced,
}

/// What becomes of what a call replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// It is moved to the private place, where it is looked at before anything becomes of it.
    Seen,
    /// Its path is too long for that: a copy has been made of it.
    Copied,
}

/// A file that has less to spare on the disk than this is not worth looking for holes in it.
const WORTH_A_HOLE: u64 = 1 << 16;

impl Call {
    /// Whether what the receiver has at these paths makes way.
    pub fn replaces(&self) -> bool {
        !matches!(self.purpose, Purpose::Subtrees | Purpose::Metadata)
    }
}

/// What a direction needs; may be used from several threads.
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
    roots: Pair<PathBuf>,
    /// The filter, as options for rsync.
    rules: Vec<OsString>,
    /// Where what rsync replaces goes.
    private: Pair<PathBuf>,
    /// Whether we are root on a side, to whom no directory is closed.
    is_root: Pair<bool>,
    progress: Mutex<Pair<TransferProgress>>,
    lacking: &'a UnknownOptions,
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
    pub fn new(apply: &Apply<'a>) -> Self {
        TransferScheduler {
            config: apply.config,
            preserve: apply.preserve,
            sets_times: apply.abilities.map(|abilities| abilities.sets_times),
            plan: apply.plan,
            trees: apply.trees,
            stop: apply.around.stop,
            reporter: apply.around.reporter(),
            ends: Pair::from_fn(|side| apply.replicas[side].rsync_end()),
            roots: Pair::from_fn(|side| apply.replicas[side].root().to_owned()),
            rules: Filter::new(&apply.config.selection.rules).rsync_args().collect(),
            private: Pair::from_fn(|side| {
                let replica = &apply.replicas[side];
                replica.root().join(OsStr::from_bytes(replica.private_place().as_bytes()))
            }),
            is_root: apply.can_chown,
            progress: Mutex::default(),
            lacking: apply.lacking,
        }
    }

    /// Directories of the receiver that may not be written: rsync opens those that are
    /// listed for the time being (spec 5, "rsync calls").
    fn closed_parents(&self, path_ids: &[PathId], to: Side) -> BTreeSet<PathId> {
        if self.is_root[to] {
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

    /// Where rsync moves what it replaces on a side.
    fn backup(&self, side: Side) -> Backup {
        Backup { dir: self.private[side].clone() }
    }

    /// Whether rsync can take a path, with its backup.
    pub fn fits(&self, path: &RelPath, side: Side) -> Result<(), Misfit> {
        let roots = [self.roots.initiator.as_path(), self.roots.target.as_path()];
        rsync::fits(path, roots, Some(&self.backup(side)))
    }

    /// Both directions at the same time; within one, call after call, whole subtrees in
    /// shares.
    pub fn deliver(&self, calls: &Pair<Vec<Call>>) -> Pair<Vec<Delivered>> {
        let totals = Pair::from_fn(|side| self.totals(&calls[side], side));
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = totals;
        let one_side = |side: Side| -> Vec<_> {
            calls[side].iter().flat_map(|call| self.in_shares(call, side)).collect()
        };
        std::thread::scope(|scope| {
            let target = scope.spawn(|| one_side(Side::Target));
            let initiator = one_side(Side::Initiator);
            match target.join() {
                Ok(target) => Pair::new(initiator, target),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// One call, or several at the same time that have a share of its paths each.
    fn in_shares(&self, call: &Call, to: Side) -> Vec<Delivered> {
        let mut shares = Vec::new();
        if self.may_share(call) {
            let weigh = |path_id: &PathId| (*path_id, self.plan.delta.below(*path_id).len() + 1);
            shares = shares::split(call.path_ids.iter().map(weigh).collect(), shares::most());
        }
        let [first, others @ ..] = shares.as_slice() else {
            let mut path_ids = call.path_ids.clone();
            if call.purpose != Purpose::Subtrees {
                // All that is below a listed one would go along with a subtree, and the plan
                // puts none there.
                path_ids.splice(0..0, self.closed_parents(&call.path_ids, to));
            }
            return vec![self.call(call, &Share::alone(path_ids), to)];
        };
        std::thread::scope(|scope| {
            let start = |share| scope.spawn(move || self.call(call, share, to));
            let others: Vec<_> = others.iter().map(start).collect();
            let mut results = vec![self.call(call, first, to)];
            results.extend(others.into_iter().map(|other| match other.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }));
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

    fn call(&self, call: &Call, share: &Share, to: Side) -> Delivered {
        let partial_dir =
            self.config.transfer.partial.then(|| self.roots[to].join(".osync_workdir/_partial"));
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
            backup: (call.replaced == Replaced::Seen).then(|| self.backup(to)),
            resumes: partial_dir.as_deref().is_some_and(holds_something),
            partial_dir,
            makes_holes: self.makes_holes(call, share, to),
            is_listed_first: share.is_listed_first(),
            shows_progress: self.reporter.shows_progress(),
            lacking: self.lacking,
        };
        let paths = share.path_ids.iter().map(|path_id| self.plan.path(*path_id));
        let result = rsync::transfer(
            &self.config.transfer,
            &Preserve { times: self.preserve.times && self.sets_times[to], ..self.preserve },
            &transfer,
            paths,
            self.stop,
            self.reporter,
            &moved_on,
        );
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

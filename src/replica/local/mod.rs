//! A replica in a directory of this machine.

mod abilities;
pub(super) mod apply;
pub mod compare;
mod copy;
pub(super) mod lock;
pub(super) mod look;
pub(super) mod openat_root;
pub(super) mod scan;
#[cfg(test)]
pub(crate) mod tests;
mod versions;
pub(super) mod work_dir;

use self::apply::{LocalExecutor, failed};
pub(super) use self::lock::Judge;
use self::lock::{LockError, OwnLock};
use self::look::LookRules;
use self::openat_root::{HANDLE, LIST, LastDir, Root};
use self::scan::Walk;
use self::versions::Records;
use self::work_dir::{Durable, IDENTITY, WorkDir};
use super::attributes::{self, Attributes, Wanted};
use super::{
    Access, Arrived, Cleaned, DigestKind, Flush, Flushed, HookResult, Keep, LockRequest, Op,
    OpResult, PathError, Prepared, REPLACED, Replica, ReplicaError, Retention, Scan, ScanRequest,
    TakenLock, Trouble, Unread, digest, in_work_dir, lock_policy, private_name,
};
use crate::config::Preserve;
use crate::process::{Exit, HookShell, Stop};
use crate::replica::WORK_DIR;
use crate::rsync::End;
use crate::state::ours::{self, TooOpen};
use crate::state::{Identity, IdentityFound, RunMark, identity};
use crate::system;
use crate::threads;
use crate::tree::{Abilities, Entry, RelPath, Side, Tree, path};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::AtFlags;
use rustix::io::Errno;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

/// What became of a wish for the lock.
#[derive(Debug)]
pub(super) enum Asked {
    /// It was taken.
    Locked(TakenLock),
    /// It is that of a process that this machine knows nothing of: `lock` and `lock.by`.
    Held {
        #[allow(missing_docs)]
        content: Vec<u8>,
        #[allow(missing_docs)]
        by: Vec<u8>,
    },
}

/// Looks at some paths below a directory of this machine as a scan with these settings does, but
/// for ACLs and extended attributes. In the order of the paths.
///
/// # Errors
/// The directory cannot be opened.
pub fn look_at(
    root: &Path,
    preserve: &Preserve,
    paths: &[RelPath],
) -> Result<Vec<Result<Option<Entry>, PathError>>, ReplicaError> {
    let mut replica = LocalReplica::new(Side::Initiator, root);
    replica.look.copy_symlinks = preserve.copy_symlinks;
    replica.look.keep_dirlinks = preserve.keep_dirlinks;
    let opened = Root::open(root).map_err(|error| replica.error(error.to_string()))?;
    replica.root = Some(opened);
    replica.stat(paths)
}

/// A directory of this machine as one side of a task.
#[derive(Debug)]
pub struct LocalReplica {
    side: Side,
    location: PathBuf,
    real: PathBuf,
    pub(super) root: Option<Root>,
    held: Option<OwnLock>,
    /// This run's lock made the work directory.
    made_work_dir: bool,
    look: LookRules,
    stop: Stop,
    /// The name of this run's private place.
    run: String,
    records: Mutex<Records>,
    /// What becomes of what others may write to in the work directory.
    too_open: TooOpen,
}

impl LocalReplica {
    /// The replica at `location`; nothing is looked at before [`Replica::prepare`].
    #[must_use]
    pub fn new(side: Side, location: &Path) -> Self {
        LocalReplica {
            side,
            location: location.to_owned(),
            real: location.to_owned(),
            root: None,
            held: None,
            made_work_dir: false,
            look: LookRules::default(),
            stop: Stop::new(),
            run: private_name(),
            records: Mutex::default(),
            too_open: TooOpen::Leave,
        }
    }

    /// What ends scans, digests and commands early.
    #[must_use]
    pub fn with_stop(mut self, stop: Stop) -> Self {
        self.stop = stop;
        self
    }

    /// As [`Replica::lock`], for somebody on another machine perhaps.
    ///
    /// # Errors
    /// As there.
    pub(super) fn lock_judged_by(
        &mut self,
        judge: Judge<'_>,
        request: &LockRequest,
    ) -> Result<Asked, ReplicaError> {
        if self.held.is_some() {
            return Err(self.error("this run has locked it already"));
        }
        // somebody may have made one since the replica was prepared
        self.inspect_work_dir(self.open_root()?)?;
        self.made_work_dir = self.open_work_dir()?.is_none();
        let work = WorkDir::open_or_make(self.open_root()?, self.too_open)
            .map_err(|error| self.work_dir_error("make", error))?;
        let (how, held) = match lock::take(&work, request, judge) {
            Ok(taken) => taken,
            Err(LockError::Elsewhere { content, by }) => return Ok(Asked::Held { content, by }),
            Err(error) => {
                let file = self.real.join(".osync_workdir/lock");
                let file = path::escape(file.as_os_str().as_bytes());
                let trouble = match error {
                    LockError::Busy(_) => Trouble::Locked,
                    _ => Trouble::Other,
                };
                return Err(ReplicaError { trouble, ..self.error(format!("{error} ({file})")) });
            }
        };
        let at = held.since;
        self.held = Some(held);
        self.check_kept(&work)?;
        Ok(Asked::Locked(TakenLock { how, at }))
    }

    /// The path of the directory that is open, as the kernel knows it; where it does not tell,
    /// the one by which it was opened.
    ///
    /// # Errors
    /// It has not been prepared.
    pub(super) fn opened(&self) -> Result<PathBuf, ReplicaError> {
        Ok(system::path_of(self.open_root()?).unwrap_or_else(|| self.real.clone()))
    }

    /// Whether this run has locked it.
    pub(super) fn is_locked(&self) -> bool {
        self.held.is_some()
    }

    /// The name of its private place, where the other end of a connection has made one up.
    #[must_use]
    pub fn with_private_name(mut self, run: &str) -> Self {
        run.clone_into(&mut self.run);
        self
    }

    fn error(&self, what: impl Into<String>) -> ReplicaError {
        ReplicaError {
            side: self.side,
            location: self.location(),
            what: what.into(),
            trouble: Trouble::Other,
        }
    }

    fn open_root(&self) -> Result<&Root, ReplicaError> {
        self.root.as_ref().ok_or_else(|| self.error("it has not been prepared"))
    }

    pub(super) fn open_work_dir(&self) -> Result<Option<WorkDir>, ReplicaError> {
        match WorkDir::open(self.open_root()?, self.too_open) {
            Ok(work) => Ok(Some(work)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.work_dir_error("open", error)),
        }
    }

    /// The work directory, its state directory and what is in both must be ours alone. Says what
    /// others could write to, and cannot any more.
    fn inspect_work_dir(&self, root: &Root) -> Result<Option<String>, ReplicaError> {
        let mut closed = Vec::new();
        for dir in [WORK_DIR, b".osync_workdir/state"] {
            let opened = match root.at(dir, LIST) {
                Ok(opened) => opened,
                Err(Errno::NOENT) => break,
                Err(error) => return Err(self.work_dir_error("open", error)),
            };
            let seen = ours::inspect(&opened, &path::escape(dir), &|_| true, self.too_open);
            closed.extend(seen.map_err(|wrong| self.error(wrong.to_string()))?);
        }
        Ok(Some(closed.join(", ")).filter(|closed| !closed.is_empty()))
    }

    fn work_dir_error(&self, action: &str, error: Errno) -> ReplicaError {
        let name = path::escape(WORK_DIR);
        let why = match error {
            Errno::LOOP | Errno::NOTDIR => {
                "it must be a real directory, not a link or a file".to_owned()
            }
            Errno::ACCESS => format!("{error}; give this user access to it"),
            Errno::PERM => "it must belong to this user or to root, and nobody else may write to \
                            it; did somebody exchange it?"
                .to_owned(),
            other => other.to_string(),
        };
        self.error(format!("cannot {action} the work directory {name}: {why}"))
    }

    /// `backup/` and `deleted/` are never followed, by rsync neither: as links they stop
    /// the run before anything goes there.
    fn check_kept(&self, work: &WorkDir) -> Result<(), ReplicaError> {
        for keep in [Keep::Backup, Keep::Deleted] {
            work.keep_if_there(keep).map_err(|error| {
                let name = format!("{}/{}", path::escape(WORK_DIR), keep.name());
                self.error(match error {
                    Errno::LOOP | Errno::NOTDIR => format!(
                        "{name} is not a real directory; links are never followed there: \
                         remove it, or mount what it points at in its place"
                    ),
                    other => format!("cannot open {name}: {other}"),
                })
            })?;
        }
        Ok(())
    }

    /// Where a path is, to look only: links on the way are followed if the scan did so.
    fn place_to_look(&self, root: &Root, dir: &[u8]) -> rustix::io::Result<OwnedFd> {
        if self.look.follows() { root.following(dir, HANDLE) } else { root.handle(dir) }
    }

    fn look_at(
        &self,
        root: &Root,
        path: &RelPath,
        dirs: &mut LastDir,
    ) -> Result<Option<Entry>, PathError> {
        let (dir, name) = openat_root::split(path.as_bytes());
        let dir = match dirs.open(dir, || self.place_to_look(root, dir)) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            result => result.map_err(failed("open the directory that holds it"))?,
        };
        match self.look.at(dir, name) {
            Err(Errno::NOENT) => Ok(None),
            result => result.map(Some).map_err(failed("look at it")),
        }
    }

    fn look_below_one(&self, root: &Root, path: &RelPath) -> Result<Option<Tree>, PathError> {
        let Some(top) = self.look_at(root, path, &mut LastDir::default())? else { return Ok(None) };
        // What lies in the work directory counts as itself.
        let is_ours = path.components().next() == Some(WORK_DIR);
        let look = if is_ours { LookRules::default() } else { self.look };
        if !top.kind.is_dir() {
            return Ok(Some(crate::tree::TreeBuilder::new(top).finish()));
        }
        let walk = Walk {
            root,
            base: path,
            look,
            filter: None,
            hide_ours: true,
            side: self.side,
            seen: &|_| (),
            // A stopped run still records what it has achieved.
            stop: &Stop::new(),
        };
        // What cannot be seen stands as unknown in the tree; that is answer enough.
        let (tree, _problems) = walk.run(top).map_err(|error| PathError::Failed {
            action: "look at all below it".into(),
            cause: error.to_string(),
        })?;
        Ok(Some(tree))
    }
}

impl Replica for LocalReplica {
    fn side(&self) -> Side {
        self.side
    }

    fn location(&self) -> String {
        path::escape(self.location.as_os_str().as_bytes())
    }

    fn root(&self) -> &Path {
        &self.real
    }

    fn local(&self) -> Option<&LocalReplica> {
        Some(self)
    }

    fn rsync_end(&self) -> End {
        End::Local { root: self.real.clone() }
    }

    fn prepare(&mut self, access: Access) -> Result<Prepared, ReplicaError> {
        let found = work_dir::prepare(&self.location, access).map_err(|what| {
            let trouble = match self.location.symlink_metadata() {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Trouble::Missing,
                _ => Trouble::Other,
            };
            ReplicaError { trouble, ..self.error(what) }
        })?;
        self.real = found.real;
        self.too_open = match access {
            Access::ReadOnly => TooOpen::Leave,
            Access::ReadWrite { .. } => TooOpen::Close,
        };
        let closed = self.inspect_work_dir(&found.root)?;
        self.root = Some(found.root);
        Ok(Prepared { closed, ..found.prepared })
    }

    fn check_in_place(&self) -> Result<(), ReplicaError> {
        let Some(root) = &self.root else { return Ok(()) };
        match root.is_at(&self.real) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.error(
                "another directory stands there than when the run began; was its disk unmounted, \
                 or another one mounted? Nothing is written there",
            )),
            Err(error) => Err(self.error(format!("it cannot be found any more: {error}"))),
        }
    }

    fn lock(&mut self, request: &LockRequest) -> Result<TakenLock, ReplicaError> {
        match self.lock_judged_by(Judge::Here, request)? {
            Asked::Locked(locked) => Ok(locked),
            Asked::Held { .. } => Err(self.error("its lock was taken on another machine")),
        }
    }

    fn unlock(&mut self) -> Result<(), ReplicaError> {
        let Some(held) = self.held.take() else { return Ok(()) };
        let Some(work) = self.open_work_dir()? else { return Ok(()) };
        held.release(&work).map_err(|error| self.error(error.to_string()))?;
        if self.made_work_dir {
            // Only an empty one goes: the run was refused, and a mount point can be removed. One
            // that is in use stays.
            let _ = rustix::fs::unlinkat(self.open_root()?, WORK_DIR, AtFlags::REMOVEDIR);
        }
        Ok(())
    }

    fn abilities(&mut self) -> Result<Abilities, ReplicaError> {
        let work = WorkDir::open_or_make(self.open_root()?, self.too_open)
            .map_err(|error| self.work_dir_error("make", error))?;
        abilities::look_up(&work).map_err(|error| {
            self.error(format!("cannot try in .osync_workdir what its file system can do: {error}"))
        })
    }

    fn identity(&mut self) -> Result<IdentityFound, ReplicaError> {
        let Some(work) = self.open_work_dir()? else { return Ok(IdentityFound::Missing) };
        work.identity().map_err(|error| {
            self.error(format!("cannot read its identity in .osync_workdir/{IDENTITY}: {error}"))
        })
    }

    fn runs(&mut self) -> Result<Vec<RunMark>, ReplicaError> {
        let Some(work) = self.open_work_dir()? else { return Ok(Vec::new()) };
        let content = work.read(IDENTITY).map_err(|error| {
            self.error(format!("cannot read its identity in .osync_workdir/{IDENTITY}: {error}"))
        })?;
        Ok(identity::marks_of(&content.unwrap_or_default()))
    }

    fn set_run(&mut self, mark: &RunMark) -> Result<(), ReplicaError> {
        let failed = |error: &dyn std::fmt::Display| {
            self.error(format!(
                "cannot note this run beside its identity .osync_workdir/{IDENTITY}: {error}"
            ))
        };
        let work = self.open_work_dir()?.ok_or_else(|| failed(&"there is no work directory"))?;
        let content = work.read(IDENTITY).map_err(|error| failed(&error))?;
        let content = content.ok_or_else(|| failed(&"there is no such file"))?;
        work.replace(IDENTITY, &identity::with_mark(&content, mark), Durable::Now)
            .map_err(|error| failed(&error))
    }

    fn set_identity(&mut self, identity: &Identity) -> Result<(), ReplicaError> {
        let work = WorkDir::open_or_make(self.open_root()?, self.too_open)
            .map_err(|error| self.work_dir_error("make", error))?;
        work.replace(IDENTITY, format!("{}\n", identity.0).as_bytes(), Durable::Now).map_err(
            |error| {
                self.error(format!("cannot write its identity .osync_workdir/{IDENTITY}: {error}"))
            },
        )
    }

    fn scan(&mut self, request: &ScanRequest<'_>) -> Result<Scan, ReplicaError> {
        let look = request.look;
        self.look = look;
        let root = self.open_root()?;
        let unreadable = |error: Errno| self.error(format!("cannot read the directory: {error}"));
        let mut top = look::of_open(root).map_err(unreadable)?;
        root.at(b"", openat_root::LIST).map_err(unreadable)?;
        if look.attributes.any() {
            top = look.at(root, c".").map_err(unreadable)?;
        }
        let walk = Walk {
            root,
            base: &RelPath::root(),
            look,
            filter: Some(request.filter).filter(|filter| !filter.is_empty()),
            hide_ours: true,
            side: self.side,
            seen: request.seen,
            stop: &self.stop,
        };
        let (tree, problems) = walk.run(top).map_err(|error| self.error(error.to_string()))?;
        let unread = |is_wanted: bool| is_wanted && !system::HAS_ATTRIBUTES;
        let Wanted { acl, xattr, .. } = look.attributes;
        Ok(Scan { tree, problems, unread: Unread { acl: unread(acl), xattr: unread(xattr) } })
    }

    fn look_below(
        &mut self,
        paths: &[RelPath],
    ) -> Result<Vec<Result<Option<Tree>, PathError>>, ReplicaError> {
        let root = self.open_root()?;
        Ok(paths.iter().map(|path| self.look_below_one(root, path)).collect())
    }

    fn stat(
        &mut self,
        paths: &[RelPath],
    ) -> Result<Vec<Result<Option<Entry>, PathError>>, ReplicaError> {
        let replica = &*self;
        let root = replica.open_root()?;
        Ok(threads::map(paths, || {
            let mut dirs = LastDir::default();
            move |path| Some(replica.look_at(root, path, &mut dirs))
        }))
    }

    fn digest(
        &mut self,
        kind: DigestKind,
        scanned: &[(RelPath, Entry)],
    ) -> Result<Vec<Result<[u8; 32], PathError>>, ReplicaError> {
        let root = self.open_root()?;
        let mut buffer = vec![0; digest::BUFFER];
        let mut dirs = LastDir::default();
        let open = |(path, _): &(RelPath, Entry)| {
            let file = self.open_to_read(root, path.as_bytes(), &mut dirs);
            file.inspect(|file| system::expect_to_read(file, 0)).map_err(compare::not_opened)
        };
        let mut files = scanned.iter().map(open);
        let mut next = files.next();
        let mut answers = Vec::with_capacity(scanned.len());
        for (_, expect) in scanned {
            // the disk reads the next file while this one is digested
            let Some(file) = std::mem::replace(&mut next, files.next()) else { break };
            let digest = |fd| digest::of_open(fd, expect, kind, &mut buffer, &self.stop);
            answers.push(file.and_then(digest));
        }
        Ok(answers)
    }

    fn attributes(
        &mut self,
        paths: &[RelPath],
    ) -> Result<Vec<Result<Option<Attributes>, PathError>>, ReplicaError> {
        let root = self.open_root()?;
        let one = |path: &RelPath| {
            let (dir, name) = openat_root::split(path.as_bytes());
            let dir = self.place_to_look(root, dir)?;
            let entry = LookRules { attributes: Wanted::default(), ..self.look }.at(&dir, name)?;
            attributes::read(&entry, dir.as_fd(), name, self.look)
        };
        Ok(paths
            .iter()
            .map(|path| match one(path) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
                result => result.map(Some).map_err(failed("read its attributes")),
            })
            .collect())
    }

    fn apply(&mut self, ops: &[Op]) -> Result<Vec<Result<OpResult, PathError>>, ReplicaError> {
        let root = self.open_root()?;
        let work = WorkDir::open_or_make(root, self.too_open);
        let work = work.as_ref().map_err(|error| *error);
        let look = LookRules { attributes: Wanted::default(), ..self.look };
        let (run, records) = (self.run.as_str(), &self.records);
        Ok(LocalExecutor { root, work, look, run, records }.apply(ops))
    }

    fn private_place(&self) -> RelPath {
        in_work_dir(REPLACED, &RelPath::root().join(self.run.as_bytes()))
    }

    fn has_left_overs(&mut self) -> bool {
        let there = |work: WorkDir| rustix::fs::statat(&work, REPLACED, AtFlags::SYMLINK_NOFOLLOW);
        matches!(self.open_work_dir().map(|work| work.map(there)), Ok(Some(Ok(_))))
    }

    fn close_private_place(&mut self) -> Result<(), ReplicaError> {
        if let Some(work) = self.open_work_dir()? {
            // What cannot go now is found by the next run.
            let _ = versions::close_private(&work, &self.run);
        }
        Ok(())
    }

    fn flush(&mut self, what: &Flush) -> Result<Flushed, ReplicaError> {
        self.flush_to_disk(what).map(|()| Flushed::Yes)
    }

    fn clean(&mut self, retention: Retention) -> Result<Cleaned, ReplicaError> {
        let Some(work) = self.open_work_dir()? else {
            return Ok(Cleaned { kept: Some(0), ..Cleaned::default() });
        };
        versions::clean(&work, retention, lock_policy::now())
            .map_err(|what| self.error(format!("cleaning old backups and deletions: {what}")))
    }

    fn arrivals(&mut self, keep: Keep) -> Result<Vec<Arrived>, ReplicaError> {
        let Some(work) = self.open_work_dir()? else { return Ok(Vec::new()) };
        let name = keep.record_name();
        let arrivals = versions::load(&work, keep);
        arrivals
            .map(|arrivals| arrivals.to_lines())
            .map_err(|error| self.error(format!("cannot read .osync_workdir/{name}: {error}")))
    }

    fn wake(&mut self, line: &str) -> Result<(), ReplicaError> {
        let root = self.open_root()?;
        work_dir::append_to_trigger(root, line)
            .map_err(|error| self.error(format!("cannot write its trigger file: {error}")))
    }

    fn set_stop(&mut self, stop: &Stop) {
        self.stop = stop.clone();
    }

    fn run_hook(
        &mut self,
        command: &str,
        env: &[(String, String)],
        limit: Option<Duration>,
    ) -> Result<HookResult, ReplicaError> {
        let env = env.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let ran = HookShell::of_this_machine().run(command, env, limit, &self.stop);
        let (exit, output) =
            ran.map_err(|error| self.error(format!("cannot run a command: {error}")))?;
        // a signal counts as the shell counts it
        let status = match exit {
            Exit::Code(code) => Some(code),
            Exit::Signal(number) => Some(128 + number),
            Exit::TimedOut => None,
            Exit::Stopped(_) => {
                return Err(self.error("the run was stopped while a command ran".to_owned()));
            }
        };
        Ok(HookResult { status, output })
    }
}

impl Drop for LocalReplica {
    fn drop(&mut self) {
        let _ = self.unlock();
    }
}

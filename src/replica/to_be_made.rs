//! A replica that is not there yet, as a dry run sees it: what CREATE_DIRS would make is an
//! empty directory (spec 1, `--dry`). Nothing is changed by it, and nothing can be.

use super::{
    Access, Agent, Arrived, Attributes, Cleaned, DigestKind, Flush, Flushed, HookResult, Keep,
    LockRequest, Op, OpResult, PathError, Prepared, REPLACED, Replica, ReplicaError, Retention,
    Scan, ScanRequest, TakenLock, Trouble, Unread, in_work_dir, lock_policy,
};
use crate::process::Stop;
use crate::rsync::End;
use crate::state::{Identity, IdentityFound, RunMark};
use crate::tree::{Abilities, Entry, Kind, RelPath, Side, Tree, TreeBuilder};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An empty directory that nobody has made.
pub struct ToBeMade {
    side: Side,
    location: String,
    root: PathBuf,
}

impl ToBeMade {
    /// What stands for the replica of a side. `root` is where it would be, for people.
    #[must_use]
    pub fn new(side: Side, location: String, root: PathBuf) -> Self {
        ToBeMade { side, location, root }
    }

    /// What [`Replica::prepare`] would say of it. Whether owners can be set there is not known
    /// yet: this machine's answer is taken.
    #[must_use]
    pub fn prepared(&self) -> Prepared {
        Prepared {
            free_kib: u64::MAX,
            created: false,
            can_chown: rustix::process::geteuid().is_root(),
            now: lock_policy::stamp(),
            file_system: None,
            mount_session: None,
            agent: Agent::Here,
            closed: None,
        }
    }

    fn refuse<T>(&self) -> Result<T, ReplicaError> {
        Err(ReplicaError {
            side: self.side,
            location: self.location.clone(),
            what: "it is not there yet, and a dry run makes nothing".to_owned(),
            trouble: Trouble::Missing,
        })
    }
}

impl Replica for ToBeMade {
    fn side(&self) -> Side {
        self.side
    }

    fn location(&self) -> String {
        self.location.clone()
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn rsync_end(&self) -> End {
        End::Local { root: self.root.clone() }
    }

    fn prepare(&mut self, _: Access) -> Result<Prepared, ReplicaError> {
        Ok(self.prepared())
    }

    fn lock(&mut self, _: &LockRequest) -> Result<TakenLock, ReplicaError> {
        self.refuse()
    }

    fn unlock(&mut self) -> Result<(), ReplicaError> {
        Ok(())
    }

    fn abilities(&mut self) -> Result<Abilities, ReplicaError> {
        self.refuse()
    }

    fn identity(&mut self) -> Result<IdentityFound, ReplicaError> {
        Ok(IdentityFound::Missing)
    }

    fn runs(&mut self) -> Result<Vec<RunMark>, ReplicaError> {
        Ok(Vec::new())
    }

    fn set_run(&mut self, _: &RunMark) -> Result<(), ReplicaError> {
        self.refuse()
    }

    fn set_identity(&mut self, _: &Identity) -> Result<(), ReplicaError> {
        self.refuse()
    }

    fn scan(&mut self, _: &ScanRequest<'_>) -> Result<Scan, ReplicaError> {
        let tree = TreeBuilder::new(Entry::new(Kind::Dir)).finish();
        Ok(Scan { tree, problems: Vec::new(), unread: Unread::default() })
    }

    fn look_below(
        &mut self,
        paths: &[RelPath],
    ) -> Result<Vec<Result<Option<Tree>, PathError>>, ReplicaError> {
        Ok(paths.iter().map(|_| Ok(None)).collect())
    }

    fn stat(
        &mut self,
        paths: &[RelPath],
    ) -> Result<Vec<Result<Option<Entry>, PathError>>, ReplicaError> {
        Ok(paths.iter().map(|_| Ok(None)).collect())
    }

    fn digest(
        &mut self,
        _: DigestKind,
        scanned: &[(RelPath, Entry)],
    ) -> Result<Vec<Result<[u8; 32], PathError>>, ReplicaError> {
        Ok(scanned.iter().map(|_| Err(PathError::Vanished)).collect())
    }

    fn attributes(
        &mut self,
        paths: &[RelPath],
    ) -> Result<Vec<Result<Option<Attributes>, PathError>>, ReplicaError> {
        Ok(paths.iter().map(|_| Ok(None)).collect())
    }

    fn apply(&mut self, _: &[Op]) -> Result<Vec<Result<OpResult, PathError>>, ReplicaError> {
        self.refuse()
    }

    fn private_place(&self) -> RelPath {
        in_work_dir(REPLACED, &RelPath::root())
    }

    fn has_left_overs(&mut self) -> bool {
        false
    }

    fn close_private_place(&mut self) -> Result<(), ReplicaError> {
        Ok(())
    }

    fn flush(&mut self, _: &Flush) -> Result<Flushed, ReplicaError> {
        self.refuse()
    }

    fn clean(&mut self, _: Retention) -> Result<Cleaned, ReplicaError> {
        Ok(Cleaned::default())
    }

    fn arrivals(&mut self, _: Keep) -> Result<Vec<Arrived>, ReplicaError> {
        Ok(Vec::new())
    }

    fn wake(&mut self, _: &str) -> Result<(), ReplicaError> {
        self.refuse()
    }

    fn set_stop(&mut self, _: &Stop) {}

    fn run_hook(
        &mut self,
        _: &str,
        _: &[(String, String)],
        _: Option<Duration>,
    ) -> Result<HookResult, ReplicaError> {
        self.refuse()
    }
}

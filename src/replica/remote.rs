//! A replica behind ssh: the osync over there does the work, if there is one that speaks with
//! ours; else the bare shell, with the same results (spec 5).

use super::peer::client::PeerReplica;
use super::peer::protocol::VERSION;
use super::shell::session::Reached;
use super::{
    Access, Agent, Arrived, Attributes, Cleaned, DigestKind, Flush, Flushed, HookResult, Keep,
    LockRequest, Op, OpResult, PathError, Prepared, Replica, ReplicaError, Retention, Scan,
    ScanRequest, ShellOptions, ShellReplica, TakenLock, Watched,
};
use crate::config::{Remote, RemoteOsync, SshLocation};
use crate::filter::Filter;
use crate::process::Stop;
use crate::report::Reporter;
use crate::rsync::End;
use crate::state::{Identity, IdentityFound, RunMark};
use crate::tree::{Abilities, Entry, RelPath, Side, Tree};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One side of a task behind ssh.
#[derive(Debug)]
pub struct RemoteReplica {
    shell: ShellReplica,
    /// Whether an osync over there is looked for.
    wants_peer: bool,
    /// It has taken the place of the shell.
    peer: Option<PeerReplica>,
    /// Where copies of listings lie.
    listings: Option<PathBuf>,
    stop: Stop,
}

impl RemoteReplica {
    /// The replica at `to`. Nothing is connected before [`Replica::prepare`]. When `stop`
    /// is requested, what only looks is given up; the connection stays for what closes a
    /// run.
    pub fn new(
        side: Side,
        to: &SshLocation,
        remote: &Remote,
        options: ShellOptions,
        stop: Stop,
        reporter: &dyn Reporter,
    ) -> Self {
        let wants_peer = remote.osync != RemoteOsync::No;
        let shell = ShellReplica::with(side, to, remote, options, stop.clone(), reporter);
        RemoteReplica { shell, wants_peer, peer: None, listings: None, stop }
    }

    /// Which binary `osync rsh` is, where that is not this very program.
    #[must_use]
    pub fn with_own_binary(mut self, binary: &Path) -> Self {
        self.shell = self.shell.with_own_binary(binary);
        self
    }

    /// Bytes that went over the control connection so far: out and back.
    #[must_use]
    pub fn travelled(&self) -> (u64, u64) {
        match &self.peer {
            Some(peer) => peer.travelled(),
            None => self.shell.travelled(),
        }
    }

    /// Whoever does the work over there.
    fn worker(&mut self) -> &mut dyn Replica {
        match &mut self.peer {
            Some(peer) => peer,
            None => &mut self.shell,
        }
    }

    fn known_worker(&self) -> &dyn Replica {
        match &self.peer {
            Some(peer) => peer,
            None => &self.shell,
        }
    }
}

impl Replica for RemoteReplica {
    fn side(&self) -> Side {
        self.shell.side()
    }

    fn location(&self) -> String {
        self.shell.location()
    }

    fn root(&self) -> &Path {
        self.known_worker().root()
    }

    fn rsync_end(&self) -> End {
        self.known_worker().rsync_end()
    }

    fn keep_listing_in(&mut self, dir: &Path) {
        self.listings = Some(dir.to_owned());
        self.worker().keep_listing_in(dir);
    }

    fn refresh_listing(&mut self) {
        self.worker().refresh_listing();
    }

    fn prepare(&mut self, access: Access) -> Result<Prepared, ReplicaError> {
        self.peer = None;
        match self.shell.connect(access, self.wants_peer.then_some(VERSION))? {
            Reached::Shell { mut prepared, other_peer } => {
                prepared.agent = other_peer.map_or(Agent::Shell, Agent::ShellBesideOsync);
                Ok(prepared)
            }
            Reached::Peer(line) => {
                let mut peer = PeerReplica::new(self.shell.peer_settings(), line)?;
                peer.set_stop(&self.stop);
                if let Some(dir) = &self.listings {
                    peer.keep_listing_in(dir);
                }
                let prepared = peer.prepare(access);
                self.peer = Some(peer);
                Ok(Prepared { agent: Agent::Osync, ..prepared? })
            }
        }
    }

    fn lock(&mut self, request: &LockRequest) -> Result<TakenLock, ReplicaError> {
        self.worker().lock(request)
    }

    fn unlock(&mut self) -> Result<(), ReplicaError> {
        self.worker().unlock()
    }

    fn abilities(&mut self) -> Result<Abilities, ReplicaError> {
        self.worker().abilities()
    }

    fn identity(&mut self) -> Result<IdentityFound, ReplicaError> {
        self.worker().identity()
    }

    fn runs(&mut self) -> Result<Vec<RunMark>, ReplicaError> {
        self.worker().runs()
    }

    fn set_run(&mut self, mark: &RunMark) -> Result<(), ReplicaError> {
        self.worker().set_run(mark)
    }

    fn set_identity(&mut self, identity: &Identity) -> Result<(), ReplicaError> {
        self.worker().set_identity(identity)
    }

    fn scan(&mut self, request: &ScanRequest<'_>) -> Result<Scan, ReplicaError> {
        self.worker().scan(request)
    }

    fn look_below(
        &mut self,
        paths: &[RelPath],
    ) -> Result<Vec<Result<Option<Tree>, PathError>>, ReplicaError> {
        self.worker().look_below(paths)
    }

    fn stat(
        &mut self,
        paths: &[RelPath],
    ) -> Result<Vec<Result<Option<Entry>, PathError>>, ReplicaError> {
        self.worker().stat(paths)
    }

    fn digest_kinds(&self) -> &'static [DigestKind] {
        self.known_worker().digest_kinds()
    }

    fn digest(
        &mut self,
        kind: DigestKind,
        scanned: &[(RelPath, Entry)],
    ) -> Result<Vec<Result<[u8; 32], PathError>>, ReplicaError> {
        self.worker().digest(kind, scanned)
    }

    fn lower_priority(&mut self) -> Result<(), ReplicaError> {
        self.worker().lower_priority()
    }

    fn attributes(
        &mut self,
        paths: &[RelPath],
    ) -> Result<Vec<Result<Option<Attributes>, PathError>>, ReplicaError> {
        self.worker().attributes(paths)
    }

    fn apply(&mut self, ops: &[Op]) -> Result<Vec<Result<OpResult, PathError>>, ReplicaError> {
        self.worker().apply(ops)
    }

    fn private_place(&self) -> RelPath {
        self.known_worker().private_place()
    }

    fn has_left_overs(&mut self) -> bool {
        self.worker().has_left_overs()
    }

    fn close_private_place(&mut self) -> Result<(), ReplicaError> {
        self.worker().close_private_place()
    }

    fn flush(&mut self, what: &Flush) -> Result<Flushed, ReplicaError> {
        self.worker().flush(what)
    }

    fn clean(&mut self, retention: Retention) -> Result<Cleaned, ReplicaError> {
        self.worker().clean(retention)
    }

    fn arrivals(&mut self, keep: Keep) -> Result<Vec<Arrived>, ReplicaError> {
        self.worker().arrivals(keep)
    }

    fn wake(&mut self, line: &str) -> Result<(), ReplicaError> {
        self.worker().wake(line)
    }

    fn watch(
        &mut self,
        filter: &Filter,
        tell: &mut dyn FnMut(Watched),
    ) -> Result<(), ReplicaError> {
        self.worker().watch(filter, tell)
    }

    fn set_stop(&mut self, stop: &Stop) {
        self.stop = stop.clone();
        self.shell.set_stop(stop);
        self.worker().set_stop(stop);
    }

    fn run_hook(
        &mut self,
        command: &str,
        env: &[(String, String)],
        limit: Option<Duration>,
    ) -> Result<HookResult, ReplicaError> {
        self.worker().run_hook(command, env, limit)
    }
}

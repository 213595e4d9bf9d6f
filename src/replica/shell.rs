//! A replica behind ssh, without an agent: one `sh` over one connection (spec 5).
//!
//! The scripts are `shell/*.sh`; the other files here are what stands on our side of the line:
//! `session` sends scripts and frames, `protocol` makes data and reads answers, the others are one
//! subject each.

mod abilities;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod listing;
mod locking;
mod looking;
mod ops;
mod protocol;
pub(super) mod session;
mod versions;

use self::protocol::Checker;
use self::protocol::Style;
use self::session::Piece;
use self::session::Reached;
use self::session::{Channel, ChannelError, OnStop, Room};
use self::versions::Records;
use super::attributes::Owners;
use super::peer::client::PeerSettings;
use super::{
    Access, Arrived, Attributes, Cleaned, DigestKind, Flush, Flushed, HookResult, Keep,
    LockRequest, Op, OpResult, PathError, Prepared, REPLACED, Replica, ReplicaError, Retention,
    Scan, ScanRequest, TakenLock, Trouble, Wanted, in_work_dir, kept_versions, lock_policy,
    private_name,
};
use crate::config::{Config, Location, Remote, SshLocation};
use crate::process::Stop;
use crate::report::{Level, Reporter};
use crate::rsync::{End, RemoteEnd};
use crate::ssh::{Ssh, Use};
use crate::state::{Identity, IdentityFound, RunMark};
use crate::tree::{Abilities, Entry, RelPath, Side, Tree};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One side of a task behind ssh.
#[derive(Debug)]
pub struct ShellReplica {
    side: Side,
    location: Location,
    ssh: Ssh,
    stop: Stop,
    options: ShellOptions,
    /// Where our copy of the last listing lies; `None`: nothing is cached.
    cache: Option<PathBuf>,
    read_only: bool,
    root: PathBuf,
    link: Option<Link>,
    /// The ACLs and attributes that the scan asked for and that can be read there.
    wanted: Wanted,
    /// What links count as, since the scan.
    links: Links,
    /// The name of this run's private place.
    run: String,
    /// When things came into `backup/` and `deleted/`.
    records: Records,
    /// What the scan had not entered, as data; nothing before it.
    prunes: Vec<u8>,
}

/// What is known once the connection stands.
#[derive(Debug)]
struct Link {
    channel: Channel,
    style: Style,
    checker: Checker,
    owners: Owners,
    identity: IdentityFound,
    /// Which runs it knows of, as they were when it was locked.
    runs: Vec<RunMark>,
    has_work_dir: bool,
    has_kept: bool,
    has_left_overs: bool,
    has_sha256: bool,
    free_kib: u64,
    locked: bool,
}

/// What symbolic links count as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Links {
    /// Themselves.
    Plain,
    /// Those to directories as the directories (KEEP_DIRLINKS).
    Dirs,
    /// All as what they point at (COPY_SYMLINKS).
    All,
}

impl Links {
    fn of(request: &ScanRequest<'_>) -> Self {
        match (request.look.copy_symlinks, request.look.keep_dirlinks) {
            (true, _) => Links::All,
            (false, true) => Links::Dirs,
            (false, false) => Links::Plain,
        }
    }

    /// The word of a request.
    fn word(self) -> &'static str {
        match self {
            Links::Plain => "plain",
            Links::Dirs => "dirs",
            Links::All => "follow",
        }
    }
}

/// What a remote replica needs to know beside the way to it.
#[derive(Debug, Clone)]
pub struct ShellOptions {
    /// INSTANCE_ID.
    pub instance_id: String,
    /// Its custom state directory, on its own machine.
    pub state_dir: Option<PathBuf>,
    /// The last component of RSYNC_EXECUTABLE.
    pub rsync_name: String,
    /// RSYNC_REMOTE_PATH.
    pub rsync_dir: Option<PathBuf>,
}

impl ShellOptions {
    /// What a task says of it.
    #[must_use]
    pub fn of(config: &Config, side: Side) -> Self {
        let executable = Path::new(&config.transfer.executable);
        let name = executable.file_name().map_or("rsync".into(), |name| name.to_string_lossy());
        ShellOptions {
            instance_id: config.instance_id.clone(),
            state_dir: config.state_dirs[side].clone(),
            rsync_name: name.into_owned(),
            rsync_dir: config.transfer.remote_path.clone(),
        }
    }

    /// The rsync over there: a name, or a path.
    pub(super) fn rsync(&self) -> OsString {
        match &self.rsync_dir {
            Some(dir) => dir.join(&self.rsync_name).into_os_string(),
            None => OsString::from(&self.rsync_name),
        }
    }
}

impl ShellReplica {
    /// A replica behind `to`, worked on through one `sh`.
    pub fn with(
        side: Side,
        to: &SshLocation,
        remote: &Remote,
        options: ShellOptions,
        stop: Stop,
        reporter: &dyn Reporter,
    ) -> Self {
        let location = Location::Ssh(to.clone());
        let ssh = Ssh::new(remote, to);
        if let Some(warning) = ssh.warning() {
            reporter.problem(Level::Warn, Some(side), None, &warning);
        }
        let root = to.path.clone();
        ShellReplica {
            side,
            location,
            ssh,
            stop,
            options,
            cache: None,
            read_only: true,
            root,
            link: None,
            wanted: Wanted::default(),
            links: Links::Plain,
            run: private_name(),
            records: Records::default(),
            prunes: Vec::new(),
        }
    }

    /// Which binary `osync rsh` is, where that is not this very program.
    #[must_use]
    pub fn with_own_binary(mut self, binary: &Path) -> Self {
        self.ssh.use_binary(binary);
        self
    }

    /// The way to the osync over there that has taken the place of the shell.
    pub(super) fn peer_settings(&self) -> PeerSettings {
        PeerSettings {
            side: self.side,
            location: self.location.to_string(),
            path: self.ssh.location().path.as_os_str().as_bytes().to_vec(),
            sudo: self.ssh.uses_sudo(),
            rsync: self.options.rsync().into_encoded_bytes(),
            instance_id: self.options.instance_id.clone(),
            end: self.rsync_end(),
            kept_in: None,
        }
    }

    /// Bytes that went over the control connection so far: out and back.
    #[must_use]
    pub fn travelled(&self) -> (u64, u64) {
        self.link.as_ref().map_or((0, 0), |link| link.channel.travelled())
    }

    fn error(&self, what: impl Into<String>) -> ReplicaError {
        ReplicaError {
            side: self.side,
            location: self.location.to_string(),
            what: what.into(),
            trouble: Trouble::Other,
        }
    }

    fn link(&mut self) -> Result<&mut Link, ReplicaError> {
        let unprepared = self.error("it has not been prepared, or its connection is closed");
        self.link.as_mut().ok_or(unprepared)
    }

    /// One request and its whole answer.
    fn ask(
        &mut self,
        pieces: &[Piece],
        words: &str,
        data: &[u8],
        on_stop: OnStop,
    ) -> Result<(u8, Vec<u8>), ReplicaError> {
        self.ask_with(pieces, words, data, on_stop, Room::AsAsked)
    }

    /// The same with an answer of another length.
    fn ask_with(
        &mut self,
        pieces: &[Piece],
        words: &str,
        data: &[u8],
        on_stop: OnStop,
        room: Room,
    ) -> Result<(u8, Vec<u8>), ReplicaError> {
        let asked = self.link()?.channel.ask(pieces, words, data, on_stop, room);
        asked.map_err(|cause| self.broken(&cause))
    }

    fn broken(&self, cause: &ChannelError) -> ReplicaError {
        self.error(cause.to_string())
    }

    /// The other side answered what it never should.
    fn garbled(&self, to_what: &str) -> ReplicaError {
        self.error(format!(
            "the remote shell's answer to '{to_what}' is not understood; is it a POSIX shell with \
             the usual tools?"
        ))
    }
}

impl Drop for ShellReplica {
    fn drop(&mut self) {
        if let Some(link) = &mut self.link {
            // the remote shell removes its lock when its input closes
            link.channel.close();
        }
    }
}

impl Replica for ShellReplica {
    fn side(&self) -> Side {
        self.side
    }

    fn location(&self) -> String {
        self.location.to_string()
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn rsync_end(&self) -> End {
        let ShellOptions { rsync_name, rsync_dir, .. } = &self.options;
        End::Remote(RemoteEnd {
            shell: self.ssh.words(Use::Transfer),
            env: self.ssh.env(),
            destination: self.ssh.location().destination(),
            root: self.root.clone(),
            rsync_path: self.ssh.rsync_path(rsync_name, rsync_dir.as_deref()).into(),
        })
    }

    fn keep_listing_in(&mut self, dir: &Path) {
        self.cache = Some(dir.join(format!("listing-{}", self.options.instance_id)));
    }

    fn digest_kinds(&self) -> &'static [DigestKind] {
        if self.link.as_ref().is_some_and(|link| link.has_sha256) {
            &[DigestKind::Sha256, DigestKind::Cksum]
        } else {
            &[DigestKind::Cksum]
        }
    }

    fn refresh_listing(&mut self) {
        self.list_again();
    }

    fn prepare(&mut self, access: Access) -> Result<Prepared, ReplicaError> {
        match self.connect(access, None)? {
            Reached::Shell { prepared, .. } => Ok(prepared),
            Reached::Peer(_) => Err(self.garbled("greet")),
        }
    }

    fn lock(&mut self, request: &LockRequest) -> Result<TakenLock, ReplicaError> {
        self.take_lock(request)
    }

    fn unlock(&mut self) -> Result<(), ReplicaError> {
        self.give_lock_back()
    }

    fn abilities(&mut self) -> Result<Abilities, ReplicaError> {
        self.try_abilities()
    }

    fn identity(&mut self) -> Result<IdentityFound, ReplicaError> {
        Ok(self.link()?.identity.clone())
    }

    fn runs(&mut self) -> Result<Vec<RunMark>, ReplicaError> {
        Ok(self.link()?.runs.clone())
    }

    fn set_run(&mut self, mark: &RunMark) -> Result<(), ReplicaError> {
        self.write_run(mark)
    }

    fn set_identity(&mut self, identity: &Identity) -> Result<(), ReplicaError> {
        self.write_identity(identity)
    }

    fn scan(&mut self, request: &ScanRequest<'_>) -> Result<Scan, ReplicaError> {
        self.list_all(request)
    }

    fn look_below(
        &mut self,
        paths: &[RelPath],
    ) -> Result<Vec<Result<Option<Tree>, PathError>>, ReplicaError> {
        self.list_below(paths)
    }

    fn stat(
        &mut self,
        paths: &[RelPath],
    ) -> Result<Vec<Result<Option<Entry>, PathError>>, ReplicaError> {
        self.look_at(paths)
    }

    fn digest(
        &mut self,
        kind: DigestKind,
        scanned: &[(RelPath, Entry)],
    ) -> Result<Vec<Result<[u8; 32], PathError>>, ReplicaError> {
        self.sums_of(kind, scanned)
    }

    fn lower_priority(&mut self) -> Result<(), ReplicaError> {
        // how far that can be done there, the shell does not say
        self.ask(&[Piece::Look], "give_way", b"", OnStop::Finish).map(drop)
    }

    fn attributes(
        &mut self,
        paths: &[RelPath],
    ) -> Result<Vec<Result<Option<Attributes>, PathError>>, ReplicaError> {
        self.attributes_of(paths)
    }

    fn apply(&mut self, ops: &[Op]) -> Result<Vec<Result<OpResult, PathError>>, ReplicaError> {
        if ops.is_empty() {
            return Ok(Vec::new());
        }
        self.learn_numbers(ops)?;
        let makes_room = self.what_makes_room(ops)?;
        let suffix = kept_versions::dated(lock_policy::now());
        let mut pieces = vec![Piece::Look, Piece::Apply];
        if ops.iter().any(|op| matches!(op, Op::SetAttributes { .. })) {
            pieces.push(Piece::Attributes);
        }
        let run = self.run.clone();
        let context = ops::Context { makes_room: &makes_room, suffix: &suffix, run: &run };
        let order = ops::order(ops);
        let data = ops::encode(ops, &order, &mut self.link()?.owners, &context);
        let words = format!("apply {}", self.links.word());
        let (status, answer) = self.ask(&pieces, &words, &data, OnStop::Finish)?;
        let text = String::from_utf8_lossy(&answer);
        let mut results = vec![None; ops.len()];
        for (line, n) in text.lines().zip(order) {
            results[n] = ops::answer(line, &ops[n], makes_room[n].as_ref());
        }
        match results.into_iter().collect::<Option<Vec<_>>>() {
            Some(results) if status == 0 && text.lines().count() == ops.len() => {
                self.note_results(&results);
                Ok(results)
            }
            _ => Err(self.garbled("apply")),
        }
    }

    fn flush(&mut self, what: &Flush) -> Result<Flushed, ReplicaError> {
        self.flush_there(what)
    }

    fn private_place(&self) -> RelPath {
        in_work_dir(REPLACED, &RelPath::root().join(self.run.as_bytes()))
    }

    fn has_left_overs(&mut self) -> bool {
        self.link.as_ref().is_some_and(|link| link.has_left_overs)
    }

    fn close_private_place(&mut self) -> Result<(), ReplicaError> {
        let words = format!("close {}", self.run);
        let pieces = [Piece::Look, Piece::Lock, Piece::Apply];
        self.ask(&pieces, &words, b"", OnStop::Finish).map(drop)
    }

    fn clean(&mut self, retention: Retention) -> Result<Cleaned, ReplicaError> {
        self.clean_kept(retention)
    }

    fn arrivals(&mut self, keep: Keep) -> Result<Vec<Arrived>, ReplicaError> {
        Ok(self.record(keep, versions::Much::All)?.to_lines())
    }

    fn wake(&mut self, line: &str) -> Result<(), ReplicaError> {
        self.append_to_trigger(line)
    }

    fn set_stop(&mut self, stop: &Stop) {
        self.stop = stop.clone();
        if let Some(link) = &mut self.link {
            link.channel.set_stop(stop);
        }
    }

    fn run_hook(
        &mut self,
        command: &str,
        env: &[(String, String)],
        limit: Option<Duration>,
    ) -> Result<HookResult, ReplicaError> {
        self.hook(command, env, limit)
    }
}

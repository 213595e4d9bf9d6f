//! Where it happens: one replica, here or behind ssh, through one trait (spec 3, 4).
//!
//! Operations come in batches, so that a remote replica needs one round trip for many.
//! Each operation on a path looks at the path again right before it changes something,
//! and never follows a symbolic link out of the replica.

mod attributes;
mod connection;
mod digest;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod kept_versions;
pub(crate) mod local;
pub mod lock_policy;
pub mod peer;
mod remote;
mod shell;
pub mod temp;
mod to_be_made;
mod trials;

pub use attributes::{Acl, Whom};
pub use attributes::{AttributeChange, Attributes, Wanted};
pub use kept_versions::{Line as Arrived, Version};
pub use kept_versions::{dated_kept_path, kept_path};
pub use local::compare::{Compared, Couple, compare};
pub use local::lock::{LockSeen, look_at_lock};
pub use local::look::LookRules;
pub use local::work_dir::new_identity;
pub use local::{LocalReplica, look_at};
pub use remote::RemoteReplica;
pub use shell::{ShellOptions, ShellReplica};
pub use to_be_made::ToBeMade;

use crate::config::{Config, Location};
use crate::filter::Filter;
use crate::process::Stop;
use crate::report::{Problem, Reporter};
use crate::rsync::End;
use crate::state::{Identity, IdentityFound, RunMark};
pub use crate::tree::Keep;
pub use crate::tree::work_dir::{TRIGGER, WORK_DIR};
use crate::tree::{Abilities, Entry, RelPath, Side, Stamp, Tree};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A failure that ends the work on this replica: its connection is gone, its root is not
/// there, its work directory cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{side} replica {location}: {what}")]
pub struct ReplicaError {
    /// Which replica.
    pub side: Side,
    /// Where it is, for people.
    pub location: String,
    /// What failed, why, and what to do about it.
    pub what: String,
    /// What kind of failure it is, where the run can do something about it.
    pub trouble: Trouble,
}

/// What a run can do about a failure of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Trouble {
    /// Nothing.
    #[default]
    Other,
    /// The replica's directory is not there: CREATE_DIRS would make it.
    Missing,
    /// Another run holds its lock, and may give it back.
    Locked,
}

/// A failure with one path; the run goes on with the others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum PathError {
    /// The path is no longer what was scanned. It was left alone.
    #[error("it changed since it was scanned and was left alone; the next run decides anew")]
    Changed,
    /// Nothing is there any more.
    #[error("it vanished since it was scanned")]
    Vanished,
    /// Something stands at the place it should go to. Nothing was overwritten.
    #[error("something else is at {0} already; it was left alone")]
    Occupied(RelPath),
    /// A directory still holds something that the plan does not know.
    #[error("the directory is not empty; what it holds was left alone")]
    NotEmpty,
    /// The system refused.
    #[error("cannot {action}: {cause}")]
    Failed {
        /// What was tried.
        action: Cow<'static, str>,
        /// The system's words.
        cause: String,
    },
}

/// What becomes of an ordinary older version of a name when another one is to be kept.
/// A protected one always gets the date of its arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Older {
    /// A file is replaced by a file.
    Replaced,
    /// It gets the date of its arrival.
    Dated,
}

/// How something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keeping {
    /// Where.
    pub keep: Keep,
    /// What it is.
    pub version: Version,
    /// What becomes of an older one of its name.
    pub older: Older,
}

impl Keeping {
    /// As an ordinary version, whose older one gets a date.
    #[must_use]
    pub fn dated(keep: Keep) -> Self {
        Keeping { keep, version: Version::Ordinary, older: Older::Dated }
    }

    /// As an ordinary version that replaces an older one.
    #[must_use]
    pub fn replacing(keep: Keep) -> Self {
        Keeping { older: Older::Replaced, ..Self::dated(keep) }
    }

    /// As a version that no later run replaces.
    #[must_use]
    pub fn protected(keep: Keep) -> Self {
        Keeping { version: Version::Protected, ..Self::dated(keep) }
    }
}

/// What becomes of something that lies in the private place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// It is removed.
    Discard,
    /// It is kept.
    Keep {
        /// The name below `backup/` or `deleted/`.
        kept: RelPath,
        /// How.
        keeping: Keeping,
    },
}

/// What an operation came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpResult {
    /// What was asked for, and nothing was kept.
    Plainly,
    /// Something is kept now that was not before.
    Kept(KeptAt),
}

/// Where something is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptAt {
    /// The directory.
    pub keep: Keep,
    /// The path below it.
    pub kept: RelPath,
    /// It was not what had been scanned.
    pub is_unseen: bool,
    /// The name that an older version of it got to make room.
    pub older: Option<RelPath>,
}

impl KeptAt {
    /// The path from the replica's root.
    #[must_use]
    pub fn path(&self) -> RelPath {
        in_work_dir(self.keep.name(), &self.kept)
    }
}

/// A path in a directory of the work directory, from the replica's root.
#[must_use]
pub fn in_work_dir(dir: &str, path: &RelPath) -> RelPath {
    RelPath::root().join(WORK_DIR).join(dir.as_bytes()).join_path(path)
}

/// The directory in the work directory through which everything goes that is replaced or
/// removed: nothing is destroyed before it has been seen there (spec 8, "Kept versions").
/// Each run has a place of its own in it.
pub const REPLACED: &str = "replaced";

/// A name for a run's own part of [`REPLACED`] that no other run has, nor another turn of this one.
#[must_use]
pub fn private_name() -> String {
    static NAMES: AtomicU64 = AtomicU64::new(0);
    let number = NAMES.fetch_add(1, Ordering::Relaxed);
    format!("{}.{}.{number}", lock_policy::now(), std::process::id())
}

/// What a batch can ask of a replica, one entry each. Paths are never followed through
/// symbolic links.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Make a directory with these permission bits; its parent exists. A directory that
    /// is there already is fine.
    MakeDir {
        /// The new directory.
        path: RelPath,
        /// Permission bits.
        mode: u16,
    },
    /// Rename; nothing may be at the new name ([`PathError::Occupied`]).
    Rename {
        /// The old name.
        from: RelPath,
        /// The new name; its parent exists.
        to: RelPath,
        /// What was scanned at the old name.
        expect: Entry,
    },
    /// Move an entry, with all below it, into `backup/` or `deleted/` under its full path.
    /// What is kept there under that name already gets the date of its arrival as a suffix,
    /// `.YYYY.MM.DD-HH.MM.SS`, or is replaced. If what was moved turns out to be other than
    /// expected, it goes back ([`PathError::Changed`]).
    SetAside {
        /// What goes.
        path: RelPath,
        /// What was scanned there.
        expect: Entry,
        /// How it is kept.
        keeping: Keeping,
    },
    /// Copy a file into `backup/` under a shortened name, because its own would be too
    /// long for rsync to use (spec 4, "Overwriting").
    KeepCopy {
        /// The file.
        path: RelPath,
        /// What was scanned there.
        expect: Entry,
    },
    /// Decide about what lies in the private place of a run.
    PutAway {
        /// Where it lies, from the replica's root.
        replaced: RelPath,
        /// What was found there.
        found: Entry,
        /// What becomes of it.
        fate: Fate,
    },
    /// Remove one entry for good; a directory only when it is empty. It is renamed into the
    /// private place first and looked at there: what is other than expected goes back
    /// ([`PathError::Changed`]), or is kept in `backup/` if its name is taken by then.
    Remove {
        /// What goes.
        path: RelPath,
        /// What was scanned there.
        expect: Entry,
    },
    /// Set permission bits, owner, group; what is none stays.
    SetMetadata {
        /// The entry; links themselves are changed, never what they point at.
        path: RelPath,
        /// What was scanned there (only kind and inode count: metadata may have moved).
        expect: Entry,
        /// Permission bits; ignored for symbolic links.
        mode: Option<u16>,
        /// Owner, in this machine's numbers.
        uid: Option<u32>,
        /// Group, in this machine's numbers.
        gid: Option<u32>,
    },
    /// Change access control lists and extended attributes.
    SetAttributes {
        /// The entry; links themselves are changed, never what they point at.
        path: RelPath,
        /// What was scanned there (only kind and inode count).
        expect: Entry,
        /// What becomes different.
        change: AttributeChange,
    },
    /// Set the modification time of a directory (or any entry, links themselves).
    SetMtime {
        /// The entry.
        path: RelPath,
        /// The time.
        mtime: Stamp,
        /// What was scanned there, if the time may only be set as long as that is unchanged.
        expect: Option<Entry>,
    },
}

impl Op {
    /// What kind of operation it is: the name of its fault point.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Op::MakeDir { .. } => "making a directory",
            Op::Rename { .. } => "renaming",
            Op::SetAside { .. } => "setting aside",
            Op::KeepCopy { .. } => "keeping a copy",
            Op::PutAway { .. } => "settling",
            Op::Remove { .. } => "removing",
            Op::SetMetadata { .. } => "setting metadata",
            Op::SetAttributes { .. } => "setting attributes",
            Op::SetMtime { .. } => "setting a time",
        }
    }

    /// The path that the operation is about.
    #[must_use]
    pub fn path(&self) -> &RelPath {
        match self {
            Op::Rename { from, .. } => from,
            Op::PutAway { replaced: path, .. }
            | Op::MakeDir { path, .. }
            | Op::SetAside { path, .. }
            | Op::KeepCopy { path, .. }
            | Op::Remove { path, .. }
            | Op::SetMetadata { path, .. }
            | Op::SetAttributes { path, .. }
            | Op::SetMtime { path, .. } => path,
        }
    }
}

/// How contents are told apart. Both sides of a comparison must use the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DigestKind {
    /// Ours, and fast.
    Blake3,
    /// What most systems have a tool for.
    Sha256,
    /// The CRC of POSIX `cksum`, which every system has. It shows that contents differ, and
    /// does not prove that they do not.
    Cksum,
}

/// Whether a replica may be changed by this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// A dry run: nothing is created, locked or written.
    ReadOnly,
    /// An ordinary run.
    ReadWrite {
        /// CREATE_DIRS: make a missing replica directory.
        create: bool,
    },
}

/// What [`Replica::prepare`] found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// KiB free for this user where the replica lives.
    pub free_kib: u64,
    /// The replica directory was missing and has been made.
    pub created: bool,
    /// Whether owners can be set there (we are root there).
    pub can_chown: bool,
    /// What time it is there: what this run makes has a later ctime.
    pub now: Stamp,
    /// What tells its file system from another; `None` if that cannot be found out.
    pub file_system: Option<String>,
    /// What tells this mount in this boot of its machine from every other one: as long as it is
    /// the same, no power cut has taken away what was written there. None where it cannot be
    /// told for sure.
    pub mount_session: Option<String>,
    /// What of ours others could write to, and cannot any more (spec 5).
    pub closed: Option<String>,
    /// Who does the work there.
    pub agent: Agent,
}

/// Who does the work on a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Agent {
    /// This program itself.
    Here,
    /// A shell behind ssh.
    Shell,
    /// A shell, although there is an osync over there: it speaks another version of the protocol.
    ShellBesideOsync(u32),
    /// An osync over there.
    Osync,
}

/// What a lock is asked for with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRequest {
    /// INSTANCE_ID.
    pub instance_id: String,
    /// `--force-unlock`.
    pub force: bool,
    /// FORCE_STRANGER_LOCK_RESUME.
    pub stranger_resume: bool,
}

/// A lock that this run has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenLock {
    /// How it was got.
    pub how: Locked,
    /// Its ctime: what time it is by the file system's own clock, which need not be the machine's
    /// ([`Stamp::UNKNOWN`] where that cannot be found out).
    pub at: Stamp,
}

/// How a lock was got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Locked {
    /// It was free.
    Free,
    /// A dead or forced lock was taken over; the words for the log.
    TakenOver {
        /// What was there and why it did not count.
        why: String,
        /// A stranger's lock, or a forced one: worth a warning.
        warn: bool,
    },
}

/// What a scan is to look at.
pub struct ScanRequest<'a> {
    /// What is excluded.
    pub filter: &'a Filter,
    /// What links count as, and which ACLs and extended attributes are read into digests.
    pub look: LookRules,
    /// Called now and then with the number of entries seen so far.
    pub seen: &'a (dyn Fn(u64) + Sync),
}

/// What a scan found.
#[derive(Debug, Clone)]
pub struct Scan {
    /// The entries.
    pub tree: Tree,
    /// What could not be read; each such path stands as unknown in the tree.
    pub problems: Vec<Problem>,
    /// What was asked for and cannot be read there at all: a tool is missing.
    pub unread: Unread,
}

/// Attributes that a replica's machine has no tool to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Unread {
    /// Access control lists.
    pub acl: bool,
    /// Extended attributes.
    pub xattr: bool,
}

/// What has to be on the disk before a baseline claims it (spec 8, "On the disk").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flush {
    /// These alone, each with the directory that holds it; `None`: everything.
    pub paths: Option<Vec<RelPath>>,
    /// A directory on each file system below the root that is not the root's own.
    pub file_systems: Vec<RelPath>,
}

/// What [`Replica::flush`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Flushed {
    /// It is on the disk, as far as the system tells.
    Yes,
    /// That machine has no tool for it.
    NoTool,
}

/// How long `backup/` and `deleted/` keep things (as `find -ctime +N` counts days).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Days; 0 keeps for ever.
    pub backup_days: u32,
    /// Days; 0 keeps for ever.
    pub deleted_days: u32,
}

/// What [`Replica::clean`] removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cleaned {
    /// Files, links and special files removed.
    pub entries: u64,
    /// Bytes they held.
    pub bytes: u64,
    /// Bytes of what is still kept; `None` where not all of it can be seen.
    pub kept: Option<u64>,
}

/// What whoever watches a replica tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Watched {
    /// From now on nothing goes unnoticed.
    Begun,
    /// Something has changed.
    Changed,
}

/// How a hook ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookResult {
    /// Exit status, or none if it was ended for its time limit.
    pub status: Option<i32>,
    /// What it printed on both streams.
    pub output: Vec<u8>,
}

/// The replica at a location. When `stop` is requested, what only looks is given up.
#[must_use]
pub fn at(config: &Config, side: Side, stop: &Stop, reporter: &dyn Reporter) -> Box<dyn Replica> {
    match &config.replicas[side] {
        Location::Local(path) => Box::new(LocalReplica::new(side, path).with_stop(stop.clone())),
        Location::Ssh(to) => {
            let options = ShellOptions::of(config, side);
            Box::new(RemoteReplica::new(side, to, &config.remote, options, stop.clone(), reporter))
        }
    }
}

/// One replica. Methods are called from one thread at a time.
pub trait Replica: Send {
    /// Which side it is.
    fn side(&self) -> Side;

    /// Where it is, for people.
    fn location(&self) -> String;

    /// The resolved absolute root on its own machine; known after [`Replica::prepare`].
    fn root(&self) -> &Path;

    /// The replica itself, if it is a directory of this machine: two of them are compared
    /// directly.
    fn local(&self) -> Option<&LocalReplica> {
        None
    }

    /// The replica as one end of an rsync call; known after [`Replica::prepare`].
    fn rsync_end(&self) -> End;

    /// Where a remote replica may keep a copy of its listing on this machine, so that on a
    /// thin line only changes travel.
    fn keep_listing_in(&mut self, _dir: &Path) {}

    /// Something has changed since the scan, by this run: brings what is kept of the listing up
    /// to date, so that the next run need not be told. What goes wrong with that costs the next
    /// run some time, and nothing else.
    fn refresh_listing(&mut self) {}

    /// Looks whether the replica is there and can be used, and makes it where that is
    /// allowed.
    ///
    /// # Errors
    /// Missing, no directory, not readable, not writable, not reachable.
    fn prepare(&mut self, access: Access) -> Result<Prepared, ReplicaError>;

    /// That its path still leads to the directory that [`Replica::prepare`] opened: since then its
    /// disk may have been unmounted, or another one mounted over it. What works on another machine
    /// has only the open directory, and nothing to check.
    ///
    /// # Errors
    /// It leads to another directory, or nowhere.
    fn check_in_place(&self) -> Result<(), ReplicaError> {
        Ok(())
    }

    /// Makes the work directory (if missing) and takes its lock (spec 3).
    ///
    /// # Errors
    /// Another run holds it, its content is malformed, or it cannot be written.
    fn lock(&mut self, request: &LockRequest) -> Result<TakenLock, ReplicaError>;

    /// Gives the lock back, if this run took it. Also done when the value is dropped.
    ///
    /// # Errors
    /// It cannot be removed.
    fn unlock(&mut self) -> Result<(), ReplicaError>;

    /// What its file system can do, found out by trying in the work directory; that is there
    /// after [`Replica::lock`], or made.
    ///
    /// # Errors
    /// Nothing can be tried there, or the connection is lost.
    fn abilities(&mut self) -> Result<Abilities, ReplicaError>;

    /// The identity this replica carries, if any.
    ///
    /// # Errors
    /// It cannot be read.
    fn identity(&mut self) -> Result<IdentityFound, ReplicaError>;

    /// Which runs this replica knows of; asked for while it is locked.
    ///
    /// # Errors
    /// They cannot be read.
    fn runs(&mut self) -> Result<Vec<RunMark>, ReplicaError>;

    /// Notes a run beside the identity; on the disk when this returns.
    ///
    /// # Errors
    /// It cannot be written, or there is no identity.
    fn set_run(&mut self, mark: &RunMark) -> Result<(), ReplicaError>;

    /// Gives the replica an identity.
    ///
    /// # Errors
    /// It cannot be written.
    fn set_identity(&mut self, identity: &Identity) -> Result<(), ReplicaError>;

    /// Looks at everything once. What cannot be read becomes unknown and a problem.
    ///
    /// # Errors
    /// The root itself cannot be read, or the connection is lost.
    fn scan(&mut self, request: &ScanRequest<'_>) -> Result<Scan, ReplicaError>;

    /// Looks again at everything below some paths, without a filter: one tree for each,
    /// its root being the path itself; `None` where nothing is there.
    ///
    /// # Errors
    /// The connection is lost.
    fn look_below(
        &mut self,
        paths: &[RelPath],
    ) -> Result<Vec<Result<Option<Tree>, PathError>>, ReplicaError>;

    /// Looks again at some paths; `None` where nothing is there. In the order of the paths.
    ///
    /// # Errors
    /// The connection is lost.
    fn stat(
        &mut self,
        paths: &[RelPath],
    ) -> Result<Vec<Result<Option<Entry>, PathError>>, ReplicaError>;

    /// The digests this replica can make, the best first.
    fn digest_kinds(&self) -> &'static [DigestKind] {
        &[DigestKind::Blake3, DigestKind::Sha256, DigestKind::Cksum]
    }

    /// Digests of the contents of regular files, each as it was scanned, in this order.
    /// [`PathError::Changed`] where another file stands by now.
    ///
    /// # Errors
    /// The connection is lost.
    fn digest(
        &mut self,
        kind: DigestKind,
        scanned: &[(RelPath, Entry)],
    ) -> Result<Vec<Result<[u8; 32], PathError>>, ReplicaError>;

    /// From now on lets others go first on its machine, as far as that can be done there; a replica
    /// of this machine has the priority of this process ([`crate::process::lower_priority`]).
    ///
    /// # Errors
    /// The connection is lost.
    fn lower_priority(&mut self) -> Result<(), ReplicaError> {
        Ok(())
    }

    /// ACLs and extended attributes of some paths, those that the scan asked for; `None`
    /// where nothing is there. In the order of the paths.
    ///
    /// # Errors
    /// The connection is lost.
    fn attributes(
        &mut self,
        paths: &[RelPath],
    ) -> Result<Vec<Result<Option<Attributes>, PathError>>, ReplicaError>;

    /// Carries out operations in order; a failed one does not stop the next.
    ///
    /// # Errors
    /// The connection is lost; what was done by then is not known.
    fn apply(&mut self, ops: &[Op]) -> Result<Vec<Result<OpResult, PathError>>, ReplicaError>;

    /// The private place of this run, from the replica's root: rsync moves there what it
    /// replaces, under its full path.
    fn private_place(&self) -> RelPath;

    /// Whether an earlier run may have left something in [`REPLACED`].
    fn has_left_overs(&mut self) -> bool;

    /// Removes what is left of the private place when all in it is settled. What is not
    /// stays, for the next run.
    ///
    /// # Errors
    /// The connection is lost.
    fn close_private_place(&mut self) -> Result<(), ReplicaError>;

    /// Waits until what stands at some paths, or everything, is on the disk: contents, names,
    /// and what was put into `backup/` and `deleted/` on the way. A replica may flush more.
    ///
    /// # Errors
    /// The disk is gone or failed, or the connection is lost.
    fn flush(&mut self, what: &Flush) -> Result<Flushed, ReplicaError>;

    /// Removes what `backup/` and `deleted/` have kept long enough.
    ///
    /// # Errors
    /// They cannot be read, or the connection is lost.
    fn clean(&mut self, retention: Retention) -> Result<Cleaned, ReplicaError>;

    /// What is recorded of when things came into `backup/` or `deleted/`.
    ///
    /// # Errors
    /// It cannot be read, or the connection is lost.
    fn arrivals(&mut self, keep: Keep) -> Result<Vec<Arrived>, ReplicaError>;

    /// Adds a line to the trigger file, which wakes the monitor that watches this replica
    /// (spec 7).
    ///
    /// # Errors
    /// It cannot be written, or the connection is lost.
    fn wake(&mut self, line: &str) -> Result<(), ReplicaError>;

    /// Tells when something changes on a remote replica that takes part by these rules, until it
    /// is to stop; comes back at once where nobody over there can tell.
    ///
    /// # Errors
    /// It cannot be watched, or the connection is lost.
    fn watch(
        &mut self,
        _filter: &Filter,
        _tell: &mut dyn FnMut(Watched),
    ) -> Result<(), ReplicaError> {
        Ok(())
    }

    /// Replaces the [`Stop`] that ends its requests.
    fn set_stop(&mut self, stop: &Stop);

    /// Runs a command with `sh -c` on the replica's machine.
    ///
    /// # Errors
    /// It cannot be started, or the connection is lost.
    fn run_hook(
        &mut self,
        command: &str,
        env: &[(String, String)],
        limit: Option<Duration>,
    ) -> Result<HookResult, ReplicaError>;
}

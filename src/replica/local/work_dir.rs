//! `.osync_workdir` of a local replica (spec 3): finding the replica usable, the small files of the
//! work directory, flushing what was written to the disk (spec 8, "On the disk"), and removing what
//! killed runs left half made (spec 4, "Interruption").
//!
//! To flush a file alone is not enough: its name is in its directory. What replaced it, or took it
//! away, may have put it into `backup/` or `deleted/`, so these directories count too.

use super::openat_root::{HANDLE, LIST, Root, split};
use super::{LocalReplica, copy};
use crate::process::fault;
use crate::replica::{Access, Agent, Flush, Keep, Prepared, ReplicaError};
use crate::state::ours::{self, TooOpen};
use crate::state::{Identity, IdentityFound};
use crate::system;
use crate::tree::path::{self, escape};
use crate::tree::work_dir::{TRIGGER, WORK_DIR};
use crate::tree::{Kind, RelPath, hex};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Access as Permission, AtFlags, Dir, Mode, OFlags};
use rustix::io::{self, Errno};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The lock's name in the work directory.
pub const LOCK: &str = "lock";
/// The name of the file that tells whose process holds the lock.
pub const LOCK_BY: &str = "lock.by";
/// The name of the identity's file.
pub const IDENTITY: &str = "identity";
/// What older versions recorded of directories that were moved whole into `backup/` and
/// `deleted/`; read, and never written.
pub const ARRIVALS: &str = "arrivals";

/// Adds a line to the trigger file of a replica; a link or a fifo there is not written to.
pub(super) fn append_to_trigger(replica: &Root, line: &str) -> std::io::Result<()> {
    let mut file = open_to_append(replica, TRIGGER, Mode::from_raw_mode(0o666))?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    file.write_all(format!("{line}\n").as_bytes())
}

/// Opens a file at the end, and makes it if it is missing. Neither is a link followed nor a fifo
/// waited for.
fn open_to_append(dir: &Root, name: &[u8], mode: Mode) -> std::io::Result<File> {
    let flags = OFlags::WRONLY
        | OFlags::CREATE
        | OFlags::APPEND
        | OFlags::NONBLOCK
        | OFlags::NOFOLLOW
        | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, name, flags, mode)?.into())
}

/// More than any of the small files ever holds; a bigger one is not ours.
const LARGEST: u64 = 1 << 26;

/// When what is written must be on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::replica) enum Durable {
    /// Before the work goes on: a power cut that takes this alone would cost somebody's work.
    Now,
    /// With what the run flushes at its end, or never: it means nothing after a power cut.
    WithTheRun,
}

/// An open work directory.
#[derive(Debug)]
pub(in crate::replica) struct WorkDir {
    root: Root,
}

impl WorkDir {
    /// Opens it; `ENOENT` if there is none, `ELOOP` or `ENOTDIR` if it is not a directory,
    /// `EPERM` if it is not ours alone. That is looked at each time: somebody who may write to
    /// the replica may have put another one there.
    pub fn open(replica: &Root, too_open: TooOpen) -> io::Result<Self> {
        let fd = replica.at(WORK_DIR, HANDLE)?;
        if !ours::is_ours_alone(&fd, too_open)? {
            return Err(Errno::PERM);
        }
        Ok(WorkDir { root: Root::below(fd) })
    }

    /// Opens it whosever it is: only to tell a person what is in it.
    pub fn open_of_anybody(replica: &Root) -> io::Result<Self> {
        Ok(WorkDir { root: Root::below(replica.at(WORK_DIR, HANDLE)?) })
    }

    /// Opens it, or makes it: for this user only, because names of private files get into
    /// it.
    pub fn open_or_make(replica: &Root, too_open: TooOpen) -> io::Result<Self> {
        match rustix::fs::mkdirat(replica, WORK_DIR, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => Self::open(replica, too_open),
            Err(other) => Err(other),
        }
    }

    /// `backup/` or `deleted/`, made if missing; never through a link.
    pub fn keep(&self, keep: Keep) -> io::Result<Root> {
        match self.root.handle(keep.name().as_bytes()) {
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(&self.root, keep.name(), Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(other) => return Err(other),
                }
                self.root.handle(keep.name().as_bytes()).map(Root::below)
            }
            result => result.map(Root::below),
        }
    }

    /// `backup/` or `deleted/`, if it is there.
    pub fn keep_if_there(&self, keep: Keep) -> io::Result<Option<Root>> {
        match self.root.handle(keep.name().as_bytes()) {
            Ok(fd) => Ok(Some(Root::below(fd))),
            Err(Errno::NOENT) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Reads a small file; `None` if it is not there.
    pub fn read(&self, name: &str) -> std::io::Result<Option<Vec<u8>>> {
        Ok(self.read_with_stamp(name)?.map(|(content, _)| content))
    }

    /// Reads a small file, and tells when it was last changed (seconds since the epoch).
    pub fn read_with_stamp(&self, name: &str) -> std::io::Result<Option<(Vec<u8>, i64)>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.root, name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Ok(None),
            Err(other) => return Err(other.into()),
        };
        let seen = super::look::of_open(&file)?;
        if seen.kind != crate::tree::Kind::File {
            return Err(std::io::Error::other(format!("it is a {}, no file", seen.kind.name())));
        }
        let mut content = Vec::new();
        file.take(LARGEST).read_to_end(&mut content)?;
        Ok(Some((content, seen.mtime.secs())))
    }

    /// Writes a new file under a name that nobody else uses, to be renamed or linked into
    /// its place.
    pub fn write_aside(
        &self,
        name: &str,
        content: &[u8],
        durable: Durable,
    ) -> std::io::Result<String> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let aside = format!("{name}.new.{}.{number}", std::process::id());
            let mode = Mode::from_raw_mode(0o644);
            let fd = match rustix::fs::openat(&self.root, &aside, flags, mode) {
                Err(Errno::EXIST) => {
                    // Left over by an earlier process of our number.
                    self.remove(&aside)?;
                    continue;
                }
                fd => fd?,
            };
            let mut file = File::from(fd);
            let written = file.write_all(content).and_then(|()| match durable {
                Durable::Now => file.sync_all(),
                Durable::WithTheRun => Ok(()),
            });
            if let Err(error) = written {
                let _ = self.remove(&aside);
                return Err(error);
            }
            fault::point("small file written");
            return Ok(aside);
        }
    }

    /// Replaces a small file: at every moment it is the old or the new one.
    pub fn replace(&self, name: &str, content: &[u8], durable: Durable) -> std::io::Result<()> {
        let aside = self.write_aside(name, content, durable)?;
        if let Err(error) = rustix::fs::renameat(&self.root, &aside, &self.root, name) {
            let _ = self.remove(&aside);
            return Err(error.into());
        }
        fault::point("small file placed");
        if durable == Durable::Now {
            self.sync();
        }
        Ok(())
    }

    /// Appends to a small file.
    pub fn append(&self, name: &str, content: &[u8], durable: Durable) -> std::io::Result<()> {
        let mut file = open_to_append(&self.root, name.as_bytes(), Mode::from_raw_mode(0o644))?;
        file.write_all(content)?;
        if durable == Durable::Now {
            file.sync_data()?;
        }
        fault::point("small file longer");
        Ok(())
    }

    /// Removes a small file, if it is there.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.root, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(other) => Err(other),
        }
    }

    /// Makes renames in the work directory durable. File systems that cannot are left to
    /// their own devices.
    pub fn sync(&self) {
        if let Ok(dir) = self.list_handle() {
            let _ = rustix::fs::fsync(dir);
        }
    }

    /// The work directory, open for reading.
    pub fn list_handle(&self) -> io::Result<OwnedFd> {
        self.root.at(b"", LIST)
    }

    /// The identity.
    pub fn identity(&self) -> std::io::Result<IdentityFound> {
        let Some(content) = self.read(IDENTITY)? else { return Ok(IdentityFound::Missing) };
        Ok(identity_of(&content).map_or(IdentityFound::Torn, IdentityFound::Known))
    }
}

/// The identity in the first line of its file: one printable word; `None` for anything else.
pub(in crate::replica) fn identity_of(content: &[u8]) -> Option<Identity> {
    let content = content.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let text = String::from_utf8_lossy(content);
    let id = text.trim();
    let sound = (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
    sound.then(|| Identity(id.to_owned()))
}

impl AsFd for WorkDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

/// A new random identity: 128 bits in hexadecimal (spec 3).
///
/// # Errors
/// The system has no random numbers.
pub fn new_identity() -> std::io::Result<Identity> {
    let mut random = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(Identity(hex(&random)))
}

/// A replica that can be used.
pub(super) struct Found {
    /// Its absolute path without links.
    pub real: PathBuf,
    /// The open directory.
    pub root: Root,
    /// What the caller wants to know.
    pub prepared: Prepared,
}

/// Looks at the directory, and makes it where it is missing and that is allowed.
///
/// # Errors
/// What is wrong with it and what to do about that, for people.
pub(super) fn prepare(location: &Path, access: Access) -> Result<Found, String> {
    let created = match std::fs::metadata(location) {
        Ok(found) if found.is_dir() => false,
        Ok(_) => return Err("it is not a directory; name the directory to synchronise".to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make(location, access)?;
            true
        }
        Err(error) => return Err(format!("cannot look at the directory: {error}")),
    };
    let real = std::fs::canonicalize(location)
        .map_err(|error| format!("cannot find out its real path: {error}"))?;
    let root = Root::open(&real).map_err(|error| format!("cannot open the directory: {error}"))?;
    check_readable(&root)?;
    if matches!(access, Access::ReadWrite { .. }) {
        check_writable(&root)?;
    }
    let space = rustix::fs::fstatvfs(&root)
        .map_err(|error| format!("cannot find out the free space: {error}"))?;
    let free_kib = space.f_bavail.saturating_mul(space.f_frsize) / 1024;
    let can_chown = rustix::process::geteuid().is_root();
    let file_system = super::abilities::file_system(&root).ok();
    let mount_session = mount_session(&root);
    let now = crate::replica::lock_policy::stamp();
    let (closed, agent) = (None, Agent::Here);
    let prepared =
        Prepared { free_kib, created, can_chown, now, file_system, mount_session, closed, agent };
    Ok(Found { real, root, prepared })
}

/// The boot, and a number that no two mounts of it have (Linux 6.8 and later; the older numbers
/// are given again).
fn mount_session(root: &Root) -> Option<String> {
    let mount = system::unique_mount_number(root.as_fd(), c".", AtFlags::empty())?;
    Some(format!("{}.{mount:x}", system::boot_id()?))
}

fn make(location: &Path, access: Access) -> Result<(), String> {
    if std::fs::symlink_metadata(location).is_ok() {
        return Err("it is a link that leads nowhere; is something not mounted?".to_owned());
    }
    if let Some(uri) = meant_for_ssh(location) {
        return Err(format!(
            "there is no such directory; if a directory of another machine is meant, write {uri}"
        ));
    }
    match access {
        Access::ReadWrite { create: true } => std::fs::create_dir_all(location)
            .map_err(|error| format!("there is no such directory and it cannot be made: {error}")),
        Access::ReadWrite { create: false } | Access::ReadOnly => {
            Err("there is no such directory; make it, or set CREATE_DIRS=yes if it should be made"
                .to_owned())
        }
    }
}

/// `host:/path`, as rsync and scp write it, has become `HERE/host:/path` by now.
fn meant_for_ssh(location: &Path) -> Option<String> {
    let here = std::env::current_dir().ok()?;
    let typed = location.strip_prefix(here).ok()?.as_os_str().to_str()?;
    let (host, path) = typed.split_once(":/").filter(|(host, _)| !host.contains('/'))?;
    Some(format!("ssh://{host}//{}", escape(path.as_bytes())))
}

fn check_readable(root: &Root) -> Result<(), String> {
    let needed = Permission::READ_OK | Permission::EXEC_OK;
    root.at(b"", LIST)
        .and_then(|dir| rustix::fs::accessat(dir, c".", needed, AtFlags::EACCESS))
        .map_err(|error| {
            format!(
                "cannot read the directory: {error}; this user needs read and search permission"
            )
        })
}

fn check_writable(root: &Root) -> Result<(), String> {
    let needed = Permission::WRITE_OK | Permission::EXEC_OK;
    rustix::fs::accessat(root, c".", needed, AtFlags::EACCESS).map_err(|error| {
        let remedy = match error {
            Errno::ROFS => "remount it for writing",
            _ => "this user needs write permission",
        };
        format!("cannot write to the directory: {error}; {remedy}")
    })
}

/// What single files and directories cannot tell: the whole file system has to be flushed.
enum Single {
    Done,
    NotPossible,
}

impl LocalReplica {
    pub(super) fn flush_to_disk(&self, what: &Flush) -> Result<(), ReplicaError> {
        let root = self.open_root()?;
        let failed = |at: &RelPath, error: Errno| {
            let at = self.real.join(std::ffi::OsStr::from_bytes(at.as_bytes()));
            self.error(format!(
                "what was written cannot be flushed to the disk: {}: {error}",
                path::escape(at.as_os_str().as_bytes())
            ))
        };
        if let Some(paths) = &what.paths {
            let single = self.flush_paths(root, paths);
            if let Single::Done = single.map_err(|(at, error)| failed(&at, error))? {
                return Ok(());
            }
        }
        for dir in std::iter::once(&RelPath::root()).chain(&what.file_systems) {
            match self.dir_to_flush(root, dir) {
                Ok(fd) => system::sync_file_system(fd).map_err(|error| failed(dir, error))?,
                // What is gone since, or cannot be entered, this run has not written to.
                Err(_) if !dir.is_root() => {}
                Err(error) => return Err(failed(dir, error)),
            }
        }
        Ok(())
    }

    fn flush_paths(&self, root: &Root, paths: &[RelPath]) -> Result<Single, (RelPath, Errno)> {
        let mut dirs = BTreeSet::new();
        for path in paths {
            dirs.insert(path.parent().unwrap_or_default());
            for keep in [Keep::Backup, Keep::Deleted] {
                let kept = RelPath::root().join(WORK_DIR).join(keep.name().as_bytes());
                let above = path.ancestors().skip(1);
                dirs.extend(above.map(|dir| kept.join_path(&dir)));
                dirs.insert(kept);
            }
            match self.flush_one(root, path) {
                Ok(Single::Done) => {}
                Ok(Single::NotPossible) => return Ok(Single::NotPossible),
                Err(error) => return Err((path.clone(), error)),
            }
        }
        dirs.insert(RelPath::root().join(WORK_DIR));
        for dir in dirs {
            match self.flush_dir(root, &dir) {
                Ok(Single::Done) => {}
                Ok(Single::NotPossible) => return Ok(Single::NotPossible),
                Err(error) => return Err((dir, error)),
            }
        }
        Ok(Single::Done)
    }

    /// The content of a file, or the names in a directory. Links and special files have
    /// nothing but their name.
    fn flush_one(&self, root: &Root, path: &RelPath) -> io::Result<Single> {
        let (dir, name) = split(path.as_bytes());
        let dir = match self.place_to_look(root, dir) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Single::Done),
            Err(_) => return Ok(Single::NotPossible),
        };
        match self.look.at(&dir, name) {
            // a device must not be opened: that alone may do something
            Ok(entry) if !matches!(entry.kind, Kind::File | Kind::Dir) => return Ok(Single::Done),
            Ok(_) => {}
            Err(Errno::NOENT) => return Ok(Single::Done),
            Err(_) => return Ok(Single::NotPossible),
        }
        let nofollow = if self.look.follows() { OFlags::empty() } else { OFlags::NOFOLLOW };
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | nofollow;
        flush_open(rustix::fs::openat(&dir, name, flags, Mode::empty()))
    }

    fn flush_dir(&self, root: &Root, dir: &RelPath) -> io::Result<Single> {
        flush_open(self.dir_to_flush(root, dir))
    }

    fn dir_to_flush(&self, root: &Root, dir: &RelPath) -> io::Result<OwnedFd> {
        if self.look.follows() {
            let there = root.following(dir.as_bytes(), HANDLE)?;
            return rustix::fs::openat(there.as_fd(), c".", LIST, Mode::empty());
        }
        root.at(dir.as_bytes(), LIST)
    }
}

fn flush_open(opened: io::Result<OwnedFd>) -> io::Result<Single> {
    let fd = match opened {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Single::Done),
        // Not ours to read, though it may be ours to replace.
        Err(_) => return Ok(Single::NotPossible),
    };
    match rustix::fs::fsync(fd) {
        Ok(()) => Ok(Single::Done),
        // File systems that know this for files only, or not at all.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => Ok(Single::NotPossible),
        Err(error) => Err(error),
    }
}

/// How names of unfinished copies in `backup/` and `deleted/` begin; the number of the
/// process follows. Names of kept files stand there too, so it is one that nobody gives.
pub(super) const UNFINISHED: &str = ".osync-copy-9c1f3ab07e5d42868a6b.";

/// Removes left-overs. What cannot be removed does no harm and stays.
pub(super) fn sweep(work: &WorkDir) {
    if let Ok(dir) = work.list_handle() {
        for name in names(&dir, is_left_over) {
            let _ = work.remove(&name);
        }
    }
    for keep in [Keep::Backup, Keep::Deleted] {
        if let Ok(Some(root)) = work.keep_if_there(keep) {
            sweep_copies(&root);
        }
    }
}

fn sweep_copies(root: &Root) {
    let is_copy = |name: &str| name.strip_prefix(UNFINISHED).is_some_and(is_number);
    let Ok(dir) = rustix::fs::openat(root, ".", super::openat_root::LIST, Mode::empty()) else {
        return;
    };
    for name in names(dir, is_copy) {
        copy::remove_unfinished(root.as_fd(), name.as_bytes());
    }
}

fn names(dir: impl AsFd, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let Ok(entries) = Dir::read_from(dir) else { return Vec::new() };
    entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str().ok()?.to_owned()))
        .filter(|name| wanted(name))
        .collect()
}

/// `NAME.new.PID.N`, `NAME.new.PID` and `lock.old.PID` of our small files.
fn is_left_over(name: &str) -> bool {
    let numbers = |rest: &str| rest.split('.').count() <= 2 && rest.split('.').all(is_number);
    let [backup, deleted] = [Keep::Backup, Keep::Deleted].map(Keep::record_name);
    let ours = [LOCK, LOCK_BY, IDENTITY, ARRIVALS, backup, deleted, "lock.mine"];
    let is_new = |ours: &str| {
        name.strip_prefix(ours).and_then(|rest| rest.strip_prefix(".new.")).is_some_and(numbers)
    };
    ours.into_iter().any(is_new) || name.strip_prefix("lock.old.").is_some_and(numbers)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod work_dir_tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn sandbox() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn a_link_is_never_taken_for_the_work_directory_or_what_is_kept_in_it() {
        let elsewhere = tempfile::tempdir().unwrap();
        let (dir, root) = sandbox();
        symlink(elsewhere.path(), dir.path().join(".osync_workdir")).unwrap();
        assert!(WorkDir::open_or_make(&root, TooOpen::Close).is_err());
        std::fs::remove_file(dir.path().join(".osync_workdir")).unwrap();
        let work = WorkDir::open_or_make(&root, TooOpen::Close).unwrap();
        for keep in [Keep::Backup, Keep::Deleted] {
            let at = dir.path().join(".osync_workdir").join(keep.name());
            symlink(elsewhere.path(), &at).unwrap();
            assert!(work.keep(keep).is_err() && work.keep_if_there(keep).is_err());
            std::fs::remove_file(&at).unwrap();
            assert!(work.keep_if_there(keep).unwrap().is_none());
            work.keep(keep).unwrap();
            assert!(work.keep_if_there(keep).unwrap().is_some());
        }
        symlink(elsewhere.path().join("x"), dir.path().join(".osync_workdir/identity")).unwrap();
        assert!(work.identity().is_err());
        assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_identity_can_be_read_again_and_is_new_each_time() {
        let (_dir, root) = sandbox();
        let work = WorkDir::open_or_make(&root, TooOpen::Close).unwrap();
        assert_eq!(work.identity().unwrap(), IdentityFound::Missing);
        let id = new_identity().unwrap();
        assert!(id.0.len() == 32 && id != new_identity().unwrap());
        work.replace(IDENTITY, format!("{}\n", id.0).as_bytes(), Durable::Now).unwrap();
        assert_eq!(work.identity().unwrap(), IdentityFound::Known(id));
        for torn in [&b""[..], b"\n", b"\0\0\0\0", b"two words\n"] {
            work.replace(IDENTITY, torn, Durable::Now).unwrap();
            assert_eq!(work.identity().unwrap(), IdentityFound::Torn, "{torn:?}");
        }
    }
}

#[cfg(test)]
mod flush_tests {
    use super::*;
    use crate::replica::{Access, Replica};
    use crate::tree::Side;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn whatever_is_or_is_not_at_a_path_can_be_flushed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("d/e")).unwrap();
        std::fs::create_dir_all(at(".osync_workdir/backup/d")).unwrap();
        std::fs::write(at("d/e/f"), "x").unwrap();
        std::fs::write(at("closed"), "x").unwrap();
        std::fs::set_permissions(at("closed"), PermissionsExt::from_mode(0o000)).unwrap();
        symlink("/nonexistent", at("l")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), rustix::fs::FileType::Fifo, Mode::RWXU, 0)
            .unwrap();
        let mut replica = LocalReplica::new(Side::Target, dir.path());
        replica.prepare(Access::ReadOnly).unwrap();
        let paths =
            ["d/e/f", "d/e", "gone", "gone/deep/er", "l", "l/below", "fifo", "d/e/f/no", "closed"];
        let paths: Vec<RelPath> = paths.iter().map(|path| RelPath::new(*path).unwrap()).collect();
        let file_systems = vec![paths[1].clone(), paths[2].clone()];
        for paths in [Some(paths), Some(Vec::new()), None] {
            replica.flush(&Flush { paths, file_systems: file_systems.clone() }).unwrap();
        }
    }
}

#[cfg(test)]
mod sweep_tests {
    use super::*;
    use crate::state::ours::TooOpen;
    use std::fs;

    #[test]
    fn left_overs_go_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let work = WorkDir::open_or_make(&Root::open(dir.path()).unwrap(), TooOpen::Close).unwrap();
        let at = dir.path().join(".osync_workdir");
        let copy = format!("backup/{UNFINISHED}4711");
        let goes = [
            "lock.new.12.0",
            "lock.by.new.12.1",
            "identity.new.9.0",
            "arrivals.new.77",
            "lock.old.12",
            &copy,
        ];
        let stays = [
            "lock",
            "lock.by",
            "identity",
            "arrivals",
            "lock.new.12.x",
            "lock.new.",
            "lock.new.1.2.3",
            "notes.new.12.0",
            "backup/.osync-copy.12",
            "backup/lock.new.12.0",
            "deleted/.osync-copy-9c1f3ab07e5d42868a6b.x",
        ];
        for keep in ["backup", "deleted"] {
            fs::create_dir(at.join(keep)).unwrap();
        }
        for name in goes.iter().chain(&stays) {
            fs::write(at.join(name), "x").unwrap();
        }
        // a whole directory was being copied
        let tree = at.join(format!("deleted/{UNFINISHED}5"));
        fs::create_dir_all(tree.join("below")).unwrap();
        fs::write(tree.join("below/f"), "x").unwrap();
        sweep(&work);
        for name in goes {
            assert!(!at.join(name).exists(), "{name}");
        }
        assert!(!tree.exists());
        for name in stays {
            assert!(at.join(name).exists(), "{name}");
        }
    }
}

//! `.osync_workdir` of a local replica, and the small files in it (spec 3).

use super::openat_root::{HANDLE, LIST, Root};
use crate::process::fault;
use crate::replica::Keep;
use crate::state::ours::{self, TooOpen};
use crate::state::{Identity, IdentityFound};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::{Errno, Result};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};

/// The work directory's name at the root of a replica; never synchronised.
pub const WORK_DIR: &[u8] = b".osync_workdir";
/// The trigger file's name at the root of a replica; never synchronised.
pub const TRIGGER: &[u8] = b".osync-update.push";
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
    let flags = OFlags::WRONLY
        | OFlags::CREATE
        | OFlags::APPEND
        | OFlags::NONBLOCK
        | OFlags::NOFOLLOW
        | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(replica, TRIGGER, flags, Mode::from_raw_mode(0o666))?;
    let mut file = File::from(fd);
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    file.write_all(format!("{line}\n").as_bytes())
}

/// More than any of the small files ever holds; a bigger one is not ours.
const LARGEST: u64 = 1 << 26;

/// An open work directory.
#[derive(Debug)]
pub(in crate::replica) struct WorkDir {
    root: Root,
}

impl WorkDir {
    /// Opens it; `ENOENT` if there is none, `ELOOP` or `ENOTDIR` if it is not a directory,
    /// `EPERM` if it is not ours alone. That is looked at each time: somebody who may write to
    /// the replica may have put another one there.
    pub fn open(replica: &Root, too_open: TooOpen) -> Result<Self> {
        let fd = replica.at(WORK_DIR, HANDLE)?;
        if !ours::is_ours_alone(&fd, too_open)? {
            return Err(Errno::PERM);
        }
        Ok(WorkDir { root: Root::below(fd) })
    }

    /// Opens it whosever it is: only to tell a person what is in it.
    pub fn open_of_anybody(replica: &Root) -> Result<Self> {
        Ok(WorkDir { root: Root::below(replica.at(WORK_DIR, HANDLE)?) })
    }

    /// Opens it, or makes it: for this user only, because names of private files get into
    /// it.
    pub fn open_or_make(replica: &Root, too_open: TooOpen) -> Result<Self> {
        match rustix::fs::mkdirat(replica, WORK_DIR, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => Self::open(replica, too_open),
            Err(other) => Err(other),
        }
    }

    /// `backup/` or `deleted/`, made if missing; never through a link.
    pub fn keep(&self, keep: Keep) -> Result<Root> {
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
    pub fn keep_if_there(&self, keep: Keep) -> Result<Option<Root>> {
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
    /// its place. With `sync`, it is on the disk before this returns.
    pub fn write_aside(&self, name: &str, content: &[u8], sync: bool) -> std::io::Result<String> {
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
            let written =
                file.write_all(content).and_then(|()| if sync { file.sync_all() } else { Ok(()) });
            if let Err(error) = written {
                let _ = self.remove(&aside);
                return Err(error);
            }
            fault::point("small file written");
            return Ok(aside);
        }
    }

    /// Replaces a small file: at every moment it is the old or the new one.
    pub fn replace(&self, name: &str, content: &[u8]) -> std::io::Result<()> {
        self.put_in_place(name, self.write_aside(name, content, true)?)?;
        self.sync();
        Ok(())
    }

    /// Replaces a small file that means nothing after a power failure; else as
    /// [`WorkDir::replace`]. Waiting for the disk would cost more than the rest of a small run.
    pub fn replace_for_now(&self, name: &str, content: &[u8]) -> std::io::Result<()> {
        self.put_in_place(name, self.write_aside(name, content, false)?)
    }

    fn put_in_place(&self, name: &str, aside: String) -> std::io::Result<()> {
        if let Err(error) = rustix::fs::renameat(&self.root, &aside, &self.root, name) {
            let _ = self.remove(&aside);
            return Err(error.into());
        }
        fault::point("small file placed");
        Ok(())
    }

    /// Appends to a small file and waits until that is on the disk.
    pub fn append(&self, name: &str, content: &[u8]) -> std::io::Result<()> {
        self.append_to(name, content)?.sync_data()?;
        fault::point("small file longer");
        Ok(())
    }

    /// Appends to a small file that is on the disk soon enough when the run ends.
    pub fn append_for_now(&self, name: &str, content: &[u8]) -> std::io::Result<()> {
        self.append_to(name, content)?;
        fault::point("small file longer");
        Ok(())
    }

    fn append_to(&self, name: &str, content: &[u8]) -> std::io::Result<File> {
        let flags = OFlags::WRONLY
            | OFlags::CREATE
            | OFlags::APPEND
            | OFlags::NONBLOCK
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.root, name, flags, Mode::from_raw_mode(0o644))?;
        let mut file = File::from(fd);
        file.write_all(content)?;
        Ok(file)
    }

    /// Removes a small file, if it is there.
    pub fn remove(&self, name: &str) -> Result<()> {
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
    pub fn list_handle(&self) -> Result<OwnedFd> {
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
    Ok(Identity(random.iter().map(|byte| format!("{byte:02x}")).collect()))
}

#[cfg(test)]
mod tests {
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
        work.replace(IDENTITY, format!("{}\n", id.0).as_bytes()).unwrap();
        assert_eq!(work.identity().unwrap(), IdentityFound::Known(id));
        for torn in [&b""[..], b"\n", b"\0\0\0\0", b"two words\n"] {
            work.replace(IDENTITY, torn).unwrap();
            assert_eq!(work.identity().unwrap(), IdentityFound::Torn, "{torn:?}");
        }
    }
}

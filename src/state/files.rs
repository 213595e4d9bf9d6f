//! The directory that holds the state files. Files are opened relative to it and links
//! are never followed; what is written replaces the old file at once or not at all.

use super::error::StateError;
use crate::tree::Stamp;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Where state files lie (spec 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateDir {
    /// In the work directory of the replica with this root.
    InReplica(PathBuf),
    /// In a directory of the user's choice (INITIATOR_CUSTOM_STATE_DIR).
    Custom(PathBuf),
}

/// The parts of `.osync_workdir/state`.
const WORK_DIR: [&str; 2] = [".osync_workdir", "state"];
const PRIVATE_DIR: Mode = Mode::RWXU;
const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);
const TEMPORARY: &str = ".tmp-";

impl StateDir {
    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match self {
            StateDir::InReplica(root) => {
                WORK_DIR.iter().fold(root.clone(), |at, part| at.join(part))
            }
            StateDir::Custom(dir) => dir.clone(),
        }
    }

    /// Opens the directory; none if it is not there.
    fn open(&self) -> Result<Option<OwnedFd>, StateError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let (top, below): (&Path, &[&str]) = match self {
            StateDir::InReplica(root) => (root, &WORK_DIR),
            StateDir::Custom(dir) => (dir, &[]),
        };
        let mut opened = rustix::fs::open(top, flags, Mode::empty());
        for part in below {
            opened = opened.and_then(|at| {
                rustix::fs::openat(at, *part, flags | OFlags::NOFOLLOW, Mode::empty())
            });
        }
        match opened {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT) => Ok(None),
            Err(cause) => Err(StateError::file("open the state directory", self.path(), cause)),
        }
    }

    /// Opens the directory and makes it where it is missing (not the replica itself).
    fn make(&self) -> Result<OwnedFd, StateError> {
        if let Some(dir) = self.open()? {
            return Ok(dir);
        }
        let failed = |cause| StateError::file("make the state directory", self.path(), cause);
        match self {
            StateDir::Custom(dir) => std::fs::create_dir_all(dir).map_err(failed)?,
            StateDir::InReplica(root) => {
                make_below(root).map_err(|errno| failed(errno.into()))?;
            }
        }
        self.open()?.ok_or_else(|| failed(Errno::NOENT.into()))
    }
}

fn make_below(root: &Path) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = rustix::fs::open(root, flags, Mode::empty())?;
    for part in WORK_DIR {
        match rustix::fs::mkdirat(&at, part, PRIVATE_DIR) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        at = rustix::fs::openat(&at, part, flags | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok(())
}

/// What tells a file from one that was written later, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp {
    /// Inode number.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// When it was written.
    pub mtime: Stamp,
}

impl FileStamp {
    fn of(file: &File) -> io::Result<(FileStamp, FileType)> {
        let stat = rustix::fs::fstat(file)?;
        // the types of these differ between systems
        #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss, clippy::cast_possible_truncation)]
        let (size, nanos) = (stat.st_size as u64, stat.st_mtime_nsec as u32);
        #[allow(clippy::unnecessary_cast)]
        let (ino, secs) = (stat.st_ino as u64, stat.st_mtime as i64);
        let stamp = FileStamp { ino, size, mtime: Stamp::new(secs, nanos) };
        Ok((stamp, FileType::from_raw_mode(stat.st_mode)))
    }
}

/// Whether a file has to survive a power failure right after it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durable {
    /// It has: it is on the disk before it replaces the old one.
    Yes,
    /// It may come up empty then.
    No,
}

/// The state files of a directory.
#[derive(Debug)]
pub(super) struct Files {
    dir: StateDir,
}

/// A new file that has not yet taken its place. Removed if it never does.
#[derive(Debug)]
pub(super) struct Fresh {
    dir: OwnedFd,
    temporary: String,
    path: PathBuf,
    name: String,
    pub(super) stamp: FileStamp,
    placed: bool,
}

impl Fresh {
    /// Puts the file in the place of the old one.
    pub(super) fn place(mut self) -> Result<(), StateError> {
        rustix::fs::renameat(&self.dir, &self.temporary, &self.dir, &self.name)
            .map_err(|cause| StateError::file("replace", &self.path, cause))?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if !self.placed {
            let _ = rustix::fs::unlinkat(&self.dir, &self.temporary, AtFlags::empty());
        }
    }
}

impl Files {
    pub(super) fn new(dir: StateDir) -> Self {
        Files { dir }
    }

    pub(super) fn dir(&self) -> &StateDir {
        &self.dir
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Opens a file for reading; none if it is not there.
    pub(super) fn open(&self, name: &str) -> Result<Option<(File, FileStamp)>, StateError> {
        let Some(dir) = self.dir.open()? else { return Ok(None) };
        let failed = |cause: io::Error| StateError::file("read", self.path(name), cause);
        // a fifo must not make us wait
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(cause) => return Err(failed(cause.into())),
        };
        let (stamp, kind) = FileStamp::of(&file).map_err(failed)?;
        if kind != FileType::RegularFile {
            let what = "it is no regular file. Move it away";
            return Err(StateError::Malformed {
                path: super::error::Shown::new(self.path(name)),
                what,
            });
        }
        Ok(Some((file, stamp)))
    }

    /// Reads a file; none if it is not there.
    pub(super) fn read(&self, name: &str) -> Result<Option<(Vec<u8>, FileStamp)>, StateError> {
        let Some((mut file, stamp)) = self.open(name)? else { return Ok(None) };
        let failed = |cause| StateError::file("read", self.path(name), cause);
        let mut bytes = Vec::new();
        // exactly as much as there is: a vector that grows would take twice the memory
        let size = usize::try_from(stamp.size).unwrap_or(usize::MAX).saturating_add(1);
        bytes.try_reserve_exact(size).map_err(|_| failed(io::ErrorKind::OutOfMemory.into()))?;
        file.read_to_end(&mut bytes).map_err(failed)?;
        Ok(Some((bytes, stamp)))
    }

    /// Writes a file beside the one it is to replace.
    pub(super) fn prepare<T>(
        &self,
        name: &str,
        durable: Durable,
        write: impl FnOnce(&mut dyn Write) -> io::Result<T>,
    ) -> Result<(Fresh, T), StateError> {
        let failed = |cause: io::Error| StateError::file("write", self.path(name), cause);
        let dir = self.dir.make()?;
        let temporary = temporary_name(name, rustix::process::getpid().as_raw_nonzero().get());
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let _ = rustix::fs::unlinkat(&dir, &temporary, AtFlags::empty());
        let file = rustix::fs::openat(&dir, &temporary, flags, PRIVATE_FILE);
        let file = File::from(file.map_err(|errno| failed(errno.into()))?);
        let stamp = FileStamp { ino: 0, size: 0, mtime: Stamp::UNKNOWN };
        let (path, name) = (self.path(name), name.to_owned());
        let mut fresh = Fresh { dir, temporary, path, name, stamp, placed: false };
        let mut out = BufWriter::with_capacity(1 << 16, file);
        let written = write(&mut out).map_err(failed)?;
        let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
        if durable == Durable::Yes {
            file.sync_all().map_err(failed)?;
        }
        fresh.stamp = FileStamp::of(&file).map_err(failed)?.0;
        Ok((fresh, written))
    }

    /// Replaces a file.
    pub(super) fn replace(
        &self,
        name: &str,
        durable: Durable,
        bytes: &[u8],
    ) -> Result<(), StateError> {
        self.prepare(name, durable, |out| out.write_all(bytes))?.0.place()?;
        if durable == Durable::Yes { self.sync() } else { Ok(()) }
    }

    /// Replaces a file, unless it holds just that.
    pub(super) fn update(&self, name: &str, bytes: &[u8]) -> Result<(), StateError> {
        match self.read(name)? {
            Some((old, _)) if old == bytes => Ok(()),
            _ => self.replace(name, Durable::No, bytes),
        }
    }

    /// Removes a file, if it is there.
    pub(super) fn remove(&self, name: &str) -> Result<(), StateError> {
        let Some(dir) = self.dir.open()? else { return Ok(()) };
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(cause) => Err(StateError::file("remove", self.path(name), cause)),
        }
    }

    /// Makes renames last.
    pub(super) fn sync(&self) -> Result<(), StateError> {
        let Some(dir) = self.dir.open()? else { return Ok(()) };
        rustix::fs::fsync(dir)
            .map_err(|cause| StateError::file("write the directory", self.dir.path(), cause))
    }

    /// The names in the directory that are UTF-8.
    pub(super) fn names(&self) -> Result<Vec<String>, StateError> {
        let Some(dir) = self.dir.open()? else { return Ok(Vec::new()) };
        let failed = |cause| StateError::file("list", self.dir.path(), cause);
        let mut names = Vec::new();
        for entry in Dir::read_from(&dir).map_err(failed)? {
            if let Ok(name) = entry.map_err(failed)?.file_name().to_str() {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Removes what runs that were killed left of these files.
    pub(super) fn sweep(&self, names: &[String]) -> Result<(), StateError> {
        let endings: Vec<String> = names.iter().map(|name| ending(name)).collect();
        for name in self.names()? {
            if name.starts_with(TEMPORARY) && endings.iter().any(|end| name.ends_with(end)) {
                self.remove(&name)?;
            }
        }
        Ok(())
    }
}

/// A short name for a new file, whatever the length of the instance id.
fn temporary_name(name: &str, pid: i32) -> String {
    format!("{TEMPORARY}{pid}{}", ending(name))
}

fn ending(name: &str) -> String {
    format!("-{}", &blake3::hash(name.as_bytes()).to_hex()[..16])
}

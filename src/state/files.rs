//! Reads and writes the files of the state directory. They are opened relative to the directory,
//! symbolic links are never followed, and a file is replaced as a whole or not at all.

use super::FileStamp;
use super::error::StateError;
use super::ours::{self, NotOurs, TooOpen};
use crate::config::{Config, Location};
use crate::process::fault;
use crate::tree::Stamp;
use crate::tree::path::escape;
use crate::tree::work_dir::WORK_DIR_NAME;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);
const TEMPORARY: &str = ".tmp-";

fn stamp_of(file: &File) -> io::Result<(FileStamp, FileType)> {
    let stat = rustix::fs::fstat(file)?;
    // the types of these differ between systems
    #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss, clippy::cast_possible_truncation)]
    let (size, nanos) = (stat.st_size as u64, stat.st_mtime_nsec as u32);
    #[allow(clippy::unnecessary_cast)]
    let (ino, secs) = (stat.st_ino as u64, stat.st_mtime as i64);
    let stamp = FileStamp { ino, size, mtime: Stamp::new(secs, nanos) };
    Ok((stamp, FileType::from_raw_mode(stat.st_mode)))
}

/// Whether a file has to survive a power failure right after it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durable {
    /// It has to: it is flushed before it replaces the old one.
    Yes,
    /// It may be empty after a power failure.
    No,
}

/// The state files of a directory.
#[derive(Debug)]
pub(super) struct Files {
    dir: StateDir,
    /// The directory, once it was opened. It stays open, so that nothing is written to a bare mount
    /// point if its disk is unmounted meanwhile.
    opened: OnceLock<OwnedFd>,
}

/// A new file under a temporary name. It is removed on drop unless [`Fresh::place`] was called.
#[derive(Debug)]
pub(super) struct Fresh {
    dir: OwnedFd,
    temporary: String,
    path: PathBuf,
    name: String,
    file: File,
    placed: bool,
}

impl Fresh {
    /// Its stamp, which it keeps when it is put in place.
    pub(super) fn stamp(&self) -> Result<FileStamp, StateError> {
        let stamp = stamp_of(&self.file);
        Ok(stamp.map_err(|cause| StateError::file("read", &self.path, cause))?.0)
    }

    /// Waits until what was written is on the disk.
    pub(super) fn sync(&self) -> Result<(), StateError> {
        self.file.sync_all().map_err(|cause| StateError::file("write", &self.path, cause))
    }

    /// Renames the file onto the old one.
    pub(super) fn place(mut self) -> Result<(), StateError> {
        fault::point("state file written");
        rustix::fs::renameat(&self.dir, &self.temporary, &self.dir, &self.name)
            .map_err(|cause| StateError::file("replace", &self.path, cause))?;
        self.placed = true;
        fault::point("state file placed");
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
        Files { dir, opened: OnceLock::new() }
    }

    fn opened_before(&self) -> Result<Option<OwnedFd>, StateError> {
        let opened = self.opened.get().map(OwnedFd::try_clone).transpose();
        opened.map_err(|cause| StateError::file("open the state directory", self.dir.path(), cause))
    }

    fn remember(&self, dir: OwnedFd) -> Result<OwnedFd, StateError> {
        let opened = self.opened.get_or_init(|| dir).try_clone();
        opened.map_err(|cause| StateError::file("open the state directory", self.dir.path(), cause))
    }

    /// Opens the directory for a run, and says what of it was closed for others.
    pub(super) fn claim(
        &self,
        instance: &str,
        too_open: TooOpen,
    ) -> Result<Vec<String>, StateError> {
        let Some((dir, closed)) = self.dir.claim(instance, too_open)? else {
            return Ok(Vec::new());
        };
        self.remember(dir)?;
        Ok(closed)
    }

    /// The directory; `None` if it does not exist.
    fn open_dir(&self) -> Result<Option<OwnedFd>, StateError> {
        match self.opened_before()? {
            Some(dir) => Ok(Some(dir)),
            None => self.dir.open()?.map(|dir| self.remember(dir)).transpose(),
        }
    }

    /// The directory, made where it is missing.
    fn make_dir(&self) -> Result<OwnedFd, StateError> {
        match self.opened_before()? {
            Some(dir) => Ok(dir),
            None => self.remember(self.dir.make()?),
        }
    }

    pub(super) fn dir(&self) -> &StateDir {
        &self.dir
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Opens a file for reading; `None` if it does not exist.
    pub(super) fn open(&self, name: &str) -> Result<Option<(File, FileStamp)>, StateError> {
        let Some(dir) = self.open_dir()? else { return Ok(None) };
        let failed = |cause: io::Error| StateError::file("read", self.path(name), cause);
        // NONBLOCK, so that opening a fifo does not wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(cause) => return Err(failed(cause.into())),
        };
        let (stamp, kind) = stamp_of(&file).map_err(failed)?;
        if kind != FileType::RegularFile {
            let what = "it is not a regular file. Move it away";
            return Err(StateError::Malformed {
                path: super::error::Shown::new(self.path(name)),
                what,
            });
        }
        Ok(Some((file, stamp)))
    }

    /// Reads a file; `None` if it does not exist.
    pub(super) fn read(&self, name: &str) -> Result<Option<(Vec<u8>, FileStamp)>, StateError> {
        let Some((mut file, stamp)) = self.open(name)? else { return Ok(None) };
        let failed = |cause| StateError::file("read", self.path(name), cause);
        let mut bytes = Vec::new();
        // Reserve exactly its size: a vector that grows would take twice the memory.
        let size = usize::try_from(stamp.size).unwrap_or(usize::MAX).saturating_add(1);
        bytes.try_reserve_exact(size).map_err(|_| failed(io::ErrorKind::OutOfMemory.into()))?;
        file.read_to_end(&mut bytes).map_err(failed)?;
        Ok(Some((bytes, stamp)))
    }

    /// Writes a new file, under a temporary name, beside the one that it is to replace.
    pub(super) fn prepare<T>(
        &self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<T>,
    ) -> Result<(Fresh, T), StateError> {
        let failed = |cause: io::Error| StateError::file("write", self.path(name), cause);
        let dir = self.make_dir()?;
        let temporary = temporary_name(name, rustix::process::getpid().as_raw_nonzero().get());
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let _ = rustix::fs::unlinkat(&dir, &temporary, AtFlags::empty());
        let file = rustix::fs::openat(&dir, &temporary, flags, PRIVATE_FILE);
        let file = File::from(file.map_err(|errno| failed(errno.into()))?);
        let keep = file.try_clone().map_err(failed)?;
        let (path, name) = (self.path(name), name.to_owned());
        // From here on, the temporary file is removed if anything fails.
        let fresh = Fresh { dir, temporary, path, name, file: keep, placed: false };
        let mut out = BufWriter::with_capacity(1 << 16, file);
        let written = write(&mut out).map_err(failed)?;
        out.flush().map_err(failed)?;
        Ok((fresh, written))
    }

    /// Replaces a file.
    pub(super) fn replace(
        &self,
        name: &str,
        durable: Durable,
        bytes: &[u8],
    ) -> Result<(), StateError> {
        let (fresh, ()) = self.prepare(name, |out| out.write_all(bytes))?;
        if durable == Durable::No {
            return fresh.place();
        }
        fresh.sync()?;
        fresh.place()?;
        self.sync()
    }

    /// Adds bytes to a file, or begins it. `end` says where what is whole in it ends: what follows,
    /// because somebody was killed while it was added, is written over.
    pub(super) fn append(
        &self,
        name: &str,
        end: impl FnOnce(&File) -> io::Result<u64>,
        bytes: &[u8],
    ) -> Result<(), StateError> {
        let dir = self.make_dir()?;
        let failed = |cause: io::Error| StateError::file("write", self.path(name), cause);
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&dir, name, flags, PRIVATE_FILE);
        let file = File::from(file.map_err(|errno| failed(errno.into()))?);
        let (stamp, kind) = stamp_of(&file).map_err(failed)?;
        if kind != FileType::RegularFile {
            let path = super::error::Shown::new(self.path(name));
            let what = "it is not a regular file. Move it away";
            return Err(StateError::Malformed { path, what });
        }
        let end = end(&file).map_err(failed)?;
        if stamp.size > end {
            file.set_len(end).map_err(failed)?;
        }
        file.write_all_at(bytes, end).map_err(failed)
    }

    /// Writes over the beginning of a file and truncates the rest. Its only reader takes the first
    /// line, so it does not matter if osync is killed in between. Renaming a new file onto an old
    /// one makes some file systems flush it at once, which costs more than a small run.
    pub(super) fn overwrite(&self, name: &str, line: &[u8]) -> Result<(), StateError> {
        let dir = self.make_dir()?;
        let failed = |cause: io::Error| StateError::file("write", self.path(name), cause);
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&dir, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            // It does not exist, or is a symbolic link.
            Err(_) => return self.replace(name, Durable::No, line),
        };
        let (stamp, kind) = stamp_of(&file).map_err(failed)?;
        if kind != FileType::RegularFile {
            return self.replace(name, Durable::No, line);
        }
        (&file).write_all(line).map_err(failed)?;
        if stamp.size > line.len() as u64 {
            fault::point("state file overwritten");
            file.set_len(line.len() as u64).map_err(failed)?;
        }
        Ok(())
    }

    /// Replaces a file unless it has just this content.
    pub(super) fn update(&self, name: &str, bytes: &[u8]) -> Result<(), StateError> {
        match self.read(name)? {
            Some((old, _)) if old == bytes => Ok(()),
            _ => self.replace(name, Durable::No, bytes),
        }
    }

    /// Removes a file if it exists.
    pub(super) fn remove(&self, name: &str) -> Result<(), StateError> {
        let Some(dir) = self.open_dir()? else { return Ok(()) };
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {
                fault::point("state file removed");
                Ok(())
            }
            Err(cause) => Err(StateError::file("remove", self.path(name), cause)),
        }
    }

    /// Flushes the directory, so that renames survive a power failure.
    pub(super) fn sync(&self) -> Result<(), StateError> {
        let Some(dir) = self.open_dir()? else { return Ok(()) };
        rustix::fs::fsync(dir)
            .map_err(|cause| StateError::file("write the directory", self.dir.path(), cause))
    }

    /// The names in the directory, sorted; names that are not UTF-8 are none of ours.
    pub(super) fn names(&self) -> Result<Vec<String>, StateError> {
        let Some(dir) = self.open_dir()? else { return Ok(Vec::new()) };
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

    /// Removes the temporary files that killed runs left of these files.
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

/// A temporary file beside `path`, a file of a task's state directory that it is to replace: the kept
/// listings are written by the replicas. Only this user can read it. What a killed run leaves of it,
/// the next run removes.
///
/// # Errors
/// What the system says.
pub fn temporary_file(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    let [Some(dir), Some(name)] = [path.parent().map(Path::as_os_str), path.file_name()] else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let ending = ending(&name.to_string_lossy());
    tempfile::Builder::new().prefix(TEMPORARY).suffix(&ending).tempfile_in(dir)
}

/// The temporary name of a new file; short, however long the instance id is.
fn temporary_name(name: &str, pid: i32) -> String {
    format!("{TEMPORARY}{pid}{}", ending(name))
}

fn ending(name: &str) -> String {
    format!("-{}", &blake3::hash(name.as_bytes()).to_hex()[..16])
}

/// Where the state files are (spec 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateDir {
    /// In the work directory of the replica with this root.
    InReplica(PathBuf),
    /// In a directory that the user chose (INITIATOR_CUSTOM_STATE_DIR).
    Custom(PathBuf),
}

/// From the root of a replica to its state directory.
const STATE_DIR: [&str; 2] = [WORK_DIR_NAME, "state"];
const PRIVATE_DIR: Mode = Mode::RWXU;

impl StateDir {
    /// Where the state of a task is: with its initiator. `None` if that is on another machine
    /// (target helper).
    #[must_use]
    pub fn of(config: &Config) -> Option<Self> {
        match (&config.state_dirs.initiator, &config.replicas.initiator) {
            (Some(dir), _) => Some(StateDir::Custom(dir.clone())),
            (None, Location::Local(root)) => Some(StateDir::InReplica(root.clone())),
            (None, Location::Ssh(_)) => None,
        }
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match self {
            StateDir::InReplica(root) => {
                STATE_DIR.iter().fold(root.clone(), |at, part| at.join(part))
            }
            StateDir::Custom(dir) => dir.clone(),
        }
    }

    /// Whether the directory exists and can be opened.
    #[must_use]
    pub fn is_there(&self) -> bool {
        matches!(self.open(), Ok(Some(_)))
    }

    /// Opens the directory, without following links below the replica's root; `None` if it does not
    /// exist.
    pub(super) fn open(&self) -> Result<Option<OwnedFd>, StateError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let (top, below): (&Path, &[&str]) = match self {
            StateDir::InReplica(root) => (root, &STATE_DIR),
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

    /// Opens the directory for a run, if it is there: it and the files of the task in it must be
    /// ours alone. Says what others could write to, and cannot any more.
    pub(super) fn claim(
        &self,
        instance: &str,
        too_open: TooOpen,
    ) -> Result<Option<(OwnedFd, Vec<String>)>, StateError> {
        let Some(dir) = self.open()? else { return Ok(None) };
        let ending = format!("-{instance}");
        let is_used =
            |name: &[u8]| name.windows(ending.len()).any(|part| part == ending.as_bytes());
        let shown = escape(self.path().as_os_str().as_bytes());
        let closed = ours::inspect(&dir, &shown, &is_used, too_open)?;
        Ok(Some((dir, closed)))
    }

    /// What somebody may have put in its place since it was looked for is not ours.
    fn check(&self, dir: OwnedFd) -> Result<OwnedFd, StateError> {
        match ours::is_ours_alone(&dir, TooOpen::Close) {
            Ok(true) => Ok(dir),
            Ok(false) => Err(StateError::NotOurs(NotOurs::Wrong {
                path: escape(self.path().as_os_str().as_bytes()),
                wrong: "belongs to another user, or can be written by others",
            })),
            Err(cause) => Err(StateError::file("look at the state directory", self.path(), cause)),
        }
    }

    /// Makes the directory where it is missing: on the target too, where scripts for osync 1.3
    /// look for it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make_if_missing(&self) -> Result<(), StateError> {
        self.make().map(drop)
    }

    /// Opens the directory and makes it where it is missing (not the replica itself).
    pub(super) fn make(&self) -> Result<OwnedFd, StateError> {
        if let Some(dir) = self.open()? {
            return self.check(dir);
        }
        let failed = |cause| StateError::file("make the state directory", self.path(), cause);
        match self {
            StateDir::Custom(dir) => std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .map_err(failed)?,
            StateDir::InReplica(root) => {
                make_below(root).map_err(|errno| failed(errno.into()))?;
            }
        }
        self.check(self.open()?.ok_or_else(|| failed(Errno::NOENT.into()))?)
    }
}

fn make_below(root: &Path) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = rustix::fs::open(root, flags, Mode::empty())?;
    for part in STATE_DIR {
        match rustix::fs::mkdirat(&at, part, PRIVATE_DIR) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        at = rustix::fs::openat(&at, part, flags | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::Path;

    fn files(dir: &Path) -> Files {
        Files::new(StateDir::Custom(dir.to_owned()))
    }

    fn fifo(at: &Path) {
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, at, FileType::Fifo, mode, 0).unwrap();
    }

    #[test]
    fn a_fifo_is_not_waited_for_whether_or_not_somebody_has_its_other_end() {
        for other_end in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let at = dir.path().join("x");
            fifo(&at);
            let both_ways = || File::options().read(true).write(true).open(&at).unwrap();
            let held = other_end.then(both_ways);
            let error = files(dir.path()).read("x").unwrap_err().to_string();
            assert!(error.contains("not a regular file"), "{error}");
            files(dir.path()).overwrite("x", b"line\n").unwrap();
            assert_eq!(std::fs::read(&at).unwrap(), b"line\n");
            drop(held);
        }
    }

    #[test]
    fn a_line_is_written_over_the_old_one_in_place_and_never_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("x");
        let files = files(dir.path());
        files.overwrite("x", b"a long line\n").unwrap();
        let before = std::fs::metadata(&at).unwrap().ino();
        for line in ["short\n", "a longer line than that\n"] {
            files.overwrite("x", line.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&at).unwrap(), line);
        }
        assert_eq!(std::fs::metadata(&at).unwrap().ino(), before);

        let victim = dir.path().join("victim");
        std::fs::write(&victim, "mine").unwrap();
        std::fs::remove_file(&at).unwrap();
        symlink(&victim, &at).unwrap();
        files.overwrite("x", b"line\n").unwrap();
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "mine");
        assert!(std::fs::symlink_metadata(&at).unwrap().is_file());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}

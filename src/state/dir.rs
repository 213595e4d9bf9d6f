//! Where the state files lie, opened without following links below a replica's root.

use super::error::StateError;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
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

    /// Whether it is there already.
    #[must_use]
    pub fn is_there(&self) -> bool {
        matches!(self.open(), Ok(Some(_)))
    }

    /// Opens the directory; none if it is not there.
    pub(super) fn open(&self) -> Result<Option<OwnedFd>, StateError> {
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

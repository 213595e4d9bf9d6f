//! The errors of the state files. Each names the file, the cause, and what to do.

use super::lists::MergeError;
use super::ours::NotOurs;
use super::snapshot::SnapshotError;
use crate::tree::path::escape;
use rustix::io::Errno;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{fmt, io};

/// A path of this machine, printable for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown(PathBuf);

impl Shown {
    pub(super) fn new(path: impl Into<PathBuf>) -> Self {
        Shown(path.into())
    }

    /// The path itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(self.0.as_os_str().as_bytes()))
    }
}

/// Why the state cannot be used or kept.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The operating system reported an error.
    #[error("cannot {action} {path}: {cause}{remedy}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: Shown,
        /// The error of the operating system.
        cause: io::Error,
        /// What to do about it, as the rest of a sentence; may be empty.
        remedy: &'static str,
    },
    /// The snapshot cannot be used.
    #[error("state file {path}: {why}")]
    Snapshot {
        /// The file.
        path: Shown,
        /// Why.
        why: SnapshotError,
    },
    /// The lists and the snapshot cannot be merged into a baseline.
    #[error("state file {path}: {why}")]
    Merge {
        /// The file.
        path: Shown,
        /// Why.
        why: MergeError,
    },
    /// Another file is not what it should be.
    #[error("state file {path}: {what}")]
    Malformed {
        /// The file.
        path: Shown,
        /// What is wrong and what to do.
        what: &'static str,
    },
    /// Others could write to what only we may.
    #[error("state directory {0}")]
    NotOurs(#[from] NotOurs),
    /// The instance id cannot be part of a file name.
    #[error(
        "instance id {0:?}: it may not be empty and may hold neither '/' nor NUL; choose another INSTANCE_ID"
    )]
    Instance(String),
}

impl StateError {
    pub(super) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
        cause: impl Into<io::Error>,
    ) -> Self {
        let cause = cause.into();
        let remedy = remedy(&cause);
        StateError::File { action, path: Shown::new(path), cause, remedy }
    }
}

fn remedy(cause: &io::Error) -> &'static str {
    match Errno::from_io_error(cause) {
        Some(Errno::ACCESS | Errno::PERM) => {
            ". Run osync as the user who owns the state files, or give this user the right to them"
        }
        Some(Errno::NOSPC | Errno::DQUOT) => ". Free some space; the state before this run is kept",
        Some(Errno::ROFS) => ". Choose a writable directory with INITIATOR_CUSTOM_STATE_DIR",
        Some(Errno::LOOP) => {
            ". It is a symbolic link, and osync follows none among its own files: remove it"
        }
        Some(Errno::NOTDIR) => {
            ". A part of that path is not a directory, or is a symbolic link, which osync does not follow among its own files: move it away"
        }
        Some(Errno::NAMETOOLONG) => ". Choose a shorter INSTANCE_ID",
        _ => "",
    }
}

//! Compares files of two local replicas byte by byte.

use super::LocalReplica;
use super::look;
use super::openat_root::{self, LastDir, Root};
use crate::process::Stop;
use crate::replica::digest::BUFFER;
use crate::replica::{PathError, ReplicaError};
use crate::threads;
use crate::tree::same::is_as_scanned;
use crate::tree::{Entry, Pair, RelPath, Side};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read as _};

/// A file of each side, as it was scanned.
pub struct Couple<'a> {
    /// Where they are.
    pub paths: Pair<RelPath>,
    /// What was scanned there.
    pub expect: Pair<&'a Entry>,
}

/// Why two files could not be compared.
#[derive(Debug)]
pub struct NotCompared {
    /// The side that is to blame.
    pub side: Side,
    /// What is wrong there.
    pub error: PathError,
}

/// Whether both hold the same.
pub type Compared = Result<bool, NotCompared>;

/// Compares files of two replicas of this machine, in the order of the couples. Several threads
/// take part. A run that is stopped ends with fewer answers.
///
/// # Errors
/// A replica has not been prepared.
pub fn compare(
    replicas: Pair<&LocalReplica>,
    couples: &[Couple<'_>],
    stop: &Stop,
) -> Result<Vec<Compared>, ReplicaError> {
    replicas.initiator.open_root()?;
    replicas.target.open_root()?;
    Ok(threads::map(couples, || {
        let mut worker = Worker::new(replicas, stop);
        move |couple| stop.reason().is_none().then(|| worker.compare(couple))
    }))
}

struct Worker<'a> {
    replicas: Pair<&'a LocalReplica>,
    stop: &'a Stop,
    dirs: Pair<LastDir>,
    buffers: Pair<Vec<u8>>,
}

impl<'a> Worker<'a> {
    fn new(replicas: Pair<&'a LocalReplica>, stop: &'a Stop) -> Self {
        let buffers = Pair::from_fn(|_| vec![0; BUFFER]);
        Worker { replicas, stop, dirs: Pair::default(), buffers }
    }

    fn compare(&mut self, couple: &Couple<'_>) -> Compared {
        let mut open = |side| {
            self.open(side, &couple.paths[side], couple.expect[side])
                .map_err(|error| NotCompared { side, error })
        };
        let mut files = Pair::new(open(Side::Initiator)?, open(Side::Target)?);
        if couple.expect.initiator.size != couple.expect.target.size {
            return Ok(false);
        }
        let mut left = couple.expect.initiator.size;
        while left > 0 {
            if self.stop.reason().is_some() {
                let action = "compare it".into();
                let cause = "the run is being stopped".to_owned();
                let error = PathError::Failed { action, cause };
                return Err(NotCompared { side: Side::Initiator, error });
            }
            let size = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
            for side in Side::BOTH {
                let buffer = &mut self.buffers[side][..size];
                files[side].read_exact(buffer).map_err(|error| {
                    let error = match error.kind() {
                        io::ErrorKind::UnexpectedEof => PathError::Changed,
                        _ => {
                            PathError::Failed { action: "read it".into(), cause: error.to_string() }
                        }
                    };
                    NotCompared { side, error }
                })?;
            }
            if self.buffers.initiator[..size] != self.buffers.target[..size] {
                return Ok(false);
            }
            left -= size as u64;
        }
        Ok(true)
    }

    /// Opens a file that is still what was scanned.
    fn open(&mut self, side: Side, path: &RelPath, expect: &Entry) -> Result<File, PathError> {
        let replica = self.replicas[side];
        let not_prepared =
            |error: ReplicaError| PathError::Failed { action: "open it".into(), cause: error.what };
        let root = replica.open_root().map_err(not_prepared)?;
        let fd = replica.open_to_read(root, path.as_bytes(), &mut self.dirs[side]);
        let fd = fd.map_err(not_opened)?;
        let now = look::of_open(&fd).map_err(not_opened)?;
        if is_as_scanned(expect, &now) { Ok(File::from(fd)) } else { Err(PathError::Changed) }
    }
}

/// Why a file could not be opened to be read.
pub(super) fn not_opened(error: Errno) -> PathError {
    match error {
        Errno::NOENT => PathError::Vanished,
        Errno::LOOP | Errno::NOTDIR => PathError::Changed,
        other => PathError::Failed { action: "open it".into(), cause: other.to_string() },
    }
}

impl LocalReplica {
    /// Opens a file for its content.
    pub(super) fn open_to_read(
        &self,
        root: &Root,
        path: &[u8],
        dirs: &mut LastDir,
    ) -> Result<OwnedFd, Errno> {
        let (dir, name) = openat_root::split(path);
        let dir = dirs.open(dir, || self.place_to_look(root, dir))?;
        rustix::fs::openat(dir, name, self.flags_to_read(), Mode::empty())
    }

    /// How files are opened for their content. One behind a link counts as the file
    /// (COPY_SYMLINKS).
    pub(super) fn flags_to_read(&self) -> OFlags {
        let nofollow = if self.look.copy_symlinks { OFlags::empty() } else { OFlags::NOFOLLOW };
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | nofollow
    }
}

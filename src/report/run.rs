//! A run as a value: what the reports for machines are made from (spec 6, "For machines").

use super::{ConflictLine, Counts, Tally};
use crate::tree::Pair;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::{Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A finished run.
#[derive(Debug, Clone)]
pub struct RunReport {
    /// INSTANCE_ID.
    pub task: String,
    /// When the run began.
    pub started: SystemTime,
    /// When it ended.
    pub ended: SystemTime,
    /// Both replicas, for people: a directory or an ssh URI.
    pub replicas: Pair<String>,
    /// The exit status (spec 1).
    pub status: u8,
    /// The run came to its end; false if it was stopped before.
    pub complete: bool,
    /// What it did, in a line.
    pub summed_up: String,
    /// Its log file, if there is one.
    pub log: Option<PathBuf>,
    /// Nothing was changed, only planned.
    pub dry: bool,
    /// What was done on each side.
    pub counts: Pair<Counts>,
    /// What went wrong.
    pub tally: Tally,
    /// Paths that were changed on both sides.
    pub conflicts: Vec<ConflictLine>,
}

impl RunReport {
    /// How long the run took; nothing if the clock was set back meanwhile.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.ended.duration_since(self.started).unwrap_or_default()
    }

    /// Whether the run did what it is for, with or without warnings.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.complete && matches!(self.status, 0 | 2)
    }
}

/// Replaces a file as a whole: readers see the old content or the new one. A new file gets
/// the permission bits any new file gets, as others are meant to read it. Links are
/// followed, and what is no regular file (`/dev/stdout`) is written to, not replaced.
pub fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let (path, there) = match std::fs::metadata(path) {
        Ok(there) if there.is_file() => (path.canonicalize()?, Some(there)),
        Ok(_) => return write_into(path, content),
        Err(_) => (path.to_owned(), None),
    };
    written_beside(&path, content, there.as_ref())?.persist(&path)?;
    Ok(())
}

/// A temporary file beside a path, with its whole content on the disk: to be put in its place at
/// once. It has the mode and, where this user may give files away, the owner of another one.
pub fn written_beside(
    path: &Path,
    content: &[u8],
    like: Option<&Metadata>,
) -> io::Result<tempfile::NamedTempFile> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix(".osync-").permissions(Permissions::from_mode(0o666));
    let mut file = builder.tempfile_in(dir).map_err(without_name)?;
    if let Some(like) = like {
        let _ = std::os::unix::fs::fchown(file.as_file(), Some(like.uid()), Some(like.gid()));
        file.as_file().set_permissions(like.permissions())?;
    }
    file.write_all(content)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Writes to what is no regular file. A pipe that nobody reads is an error, and not waited
/// for: the run would never end.
fn write_into(path: &Path, content: &[u8]) -> io::Result<()> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().write(true).custom_flags(flags).open(path);
    let mut file =
        opened.map_err(|error| match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NXIO) => io::Error::new(error.kind(), "nobody reads from it"),
            _ => error,
        })?;
    // a reader that is there may take its time
    rustix::fs::fcntl_setfl(&file, rustix::fs::fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    file.write_all(content)
}

/// The system's words alone: the name of a temporary file tells nobody anything.
fn without_name(error: io::Error) -> io::Error {
    match error.to_string().split_once(" at path ") {
        Some((words, _)) => io::Error::new(error.kind(), words),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode};
    use std::fs;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_links_stay_links() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        write_whole(&file, b"one").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        write_whole(&link, b"two").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(link.is_symlink());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left behind");
        write_whole(Path::new("/dev/null"), b"three").unwrap();
        assert!(!Path::new("/dev/null").is_file());
        assert!(write_whole(&dir.path().join("no/file"), b"").is_err());
    }

    #[test]
    fn a_pipe_is_written_into_if_somebody_reads() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let error = write_whole(&pipe, b"x").unwrap_err();
        assert_eq!(error.to_string(), "nobody reads from it");
        let (content, from) = (vec![7; 300_000], pipe.clone());
        let reader = std::thread::spawn(move || fs::read(from).unwrap());
        // until the reader has opened it
        while let Err(error) = write_whole(&pipe, &content) {
            assert_eq!(error.to_string(), "nobody reads from it");
            std::thread::yield_now();
        }
        assert!(reader.join().unwrap() == content, "more than a pipe holds arrives whole");
    }
}

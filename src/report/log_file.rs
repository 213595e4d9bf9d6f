//! The log file: which one, and keeping it across rotation (spec 6, "Log file").

use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where a log may go.
#[derive(Debug, Clone, Default)]
pub struct LogPlace {
    /// LOGFILE.
    pub wanted: Option<PathBuf>,
    /// The file's name in the usual places, such as `osync.ID.log`.
    pub name: String,
    /// HOME.
    pub home: Option<PathBuf>,
    /// Local replicas: a log that nobody asked for never lands in one, where it would be
    /// synchronised.
    pub replicas: Vec<PathBuf>,
    /// A dry run marks its lines, and does not write even LOGFILE inside a replica.
    pub dry: bool,
}

/// An open log file.
pub(super) struct LogFile {
    path: PathBuf,
    file: BufWriter<File>,
    /// Device and inode: tells whether `path` still names the open file.
    identity: (u64, u64),
    /// Where this run's part begins.
    begin: u64,
}

impl LogFile {
    /// Opens the first place that can be written. The second value says what was wrong
    /// with the places before it, where that matters.
    pub(super) fn open(place: &LogPlace) -> (Option<LogFile>, Option<String>) {
        let mut trouble = None;
        if let Some(wanted) = &place.wanted {
            let allowed = if place.dry { place.outside_replicas(wanted) } else { Ok(()) };
            match allowed.and_then(|()| LogFile::append(wanted, OFlags::empty())) {
                Ok(log) => return (Some(log), None),
                Err(e) => {
                    trouble = Some(format!("cannot write the log file {}: {e}", show(wanted)))
                }
            }
        }
        for (candidate, flags) in place.usual() {
            let opened = place
                .outside_replicas(&candidate)
                .and_then(|()| LogFile::append(&candidate, flags));
            if let Ok(log) = opened {
                return (
                    Some(log),
                    trouble.map(|t| format!("{t}; logging to {} instead", show(&candidate))),
                );
            }
        }
        let none = "no log file can be written, neither in /var/log, nor in the home directory, \
                    nor here, nor in /tmp; set LOGFILE to a file that can be";
        (None, Some(trouble.map_or_else(|| none.to_owned(), |t| format!("{t}; {none}"))))
    }

    fn append(path: &Path, flags: OFlags) -> io::Result<LogFile> {
        #[allow(clippy::cast_possible_wrap)] // the flags are the system's own bits of an int
        // names of private files stand in it: nothing for everybody
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o640)
            .custom_flags(flags.bits() as i32)
            .open(path)?;
        let metadata = file.metadata()?;
        if flags.contains(OFlags::NOFOLLOW) && metadata.uid() != rustix::process::geteuid().as_raw()
        {
            return Err(io::Error::other("somebody else has put it there"));
        }
        let identity = identity(&metadata);
        let file = BufWriter::new(file);
        Ok(LogFile { path: path.to_owned(), file, identity, begin: metadata.len() })
    }

    /// Where the log is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file anew if it was moved away or removed under us.
    pub(super) fn follow_rotation(&mut self) -> io::Result<()> {
        let now = std::fs::metadata(&self.path).map(|m| identity(&m)).ok();
        if now != Some(self.identity) {
            self.file.flush()?;
            *self = LogFile::append(&self.path, OFlags::empty())?;
        }
        Ok(())
    }

    /// A new run begins here.
    pub(super) fn mark(&mut self) {
        self.begin = self.file.get_ref().metadata().map_or(self.begin, |m| m.len());
    }

    /// What was written since the last mark, the latest `at_most` bytes of it.
    pub(super) fn since_mark(&mut self, at_most: u64) -> io::Result<Vec<u8>> {
        self.file.flush()?;
        let metadata = std::fs::metadata(&self.path)?;
        if !metadata.is_file() {
            return Err(io::Error::other("no regular file"));
        }
        let end = metadata.len();
        // a file that was cut meanwhile holds nothing older than this run
        let begin = if self.begin > end { 0 } else { self.begin };
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(begin.max(end.saturating_sub(at_most))))?;
        let mut bytes = Vec::new();
        file.take(at_most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Adds a line; it is on its way only after [`LogFile::flush`].
    pub(super) fn line(&mut self, line: &str) -> io::Result<()> {
        self.file.write_all(line.as_bytes())?;
        self.file.write_all(b"\n")
    }

    /// Flushes what was added.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl LogPlace {
    /// The usual places. The current directory and /tmp may belong to anybody: no link is
    /// followed there, and nobody else's file is written to.
    fn usual(&self) -> Vec<(PathBuf, OFlags)> {
        let mut places = vec![(Path::new("/var/log").join(&self.name), OFlags::empty())];
        places.extend(self.home.iter().map(|home| (home.join(&self.name), OFlags::empty())));
        places.push((Path::new(".").join(&self.name), OFlags::NOFOLLOW));
        places.push((Path::new("/tmp").join(&self.name), OFlags::NOFOLLOW));
        places
    }

    /// Refuses a place inside a replica.
    fn outside_replicas(&self, file: &Path) -> io::Result<()> {
        let parent = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let Ok(parent) = parent.canonicalize() else { return Ok(()) };
        let inside = self
            .replicas
            .iter()
            .filter_map(|r| r.canonicalize().ok())
            .any(|r| parent.starts_with(r));
        if inside {
            return Err(io::Error::other("it is inside a replica"));
        }
        Ok(())
    }
}

fn identity(metadata: &std::fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// A path for people.
fn show(path: &Path) -> String {
    crate::tree::path::escape(path.as_os_str().as_encoded_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn place(dir: &Path) -> LogPlace {
        // "/" in the name makes the place in /var/log impossible, whoever runs the test
        LogPlace {
            name: "no/osync.t.log".into(),
            home: Some(dir.join("home")),
            ..LogPlace::default()
        }
    }

    #[test]
    fn the_first_place_that_can_be_written_is_used() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("home/no")).unwrap();
        let usual = dir.path().join("home/no/osync.t.log");

        let (log, trouble) = LogFile::open(&place(dir.path()));
        assert_eq!((log.unwrap().path(), trouble), (usual.as_path(), None));

        let wanted = dir.path().join("mine.log");
        let (log, trouble) =
            LogFile::open(&LogPlace { wanted: Some(wanted.clone()), ..place(dir.path()) });
        assert_eq!((log.unwrap().path(), trouble), (wanted.as_path(), None));

        let wanted = Some(dir.path().join("missing/mine.log"));
        let (log, trouble) = LogFile::open(&LogPlace { wanted, ..place(dir.path()) });
        assert_eq!(log.unwrap().path(), usual);
        let trouble = trouble.unwrap();
        assert!(trouble.contains("missing/mine.log") && trouble.contains("instead"), "{trouble}");

        let nowhere = LogPlace { home: None, ..place(dir.path()) };
        let (log, trouble) = LogFile::open(&nowhere);
        assert!(log.is_none() && trouble.unwrap().contains("set LOGFILE"));
    }

    #[test]
    fn no_log_lands_in_a_replica_unasked_or_in_a_dry_run() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        fs::create_dir_all(home.join("no")).unwrap();
        let base = LogPlace { replicas: vec![home.clone()], ..place(dir.path()) };
        assert!(LogFile::open(&base).0.is_none());

        let asked = LogPlace { wanted: Some(home.join("asked.log")), ..base };
        assert!(LogFile::open(&asked).0.is_some());
        fs::remove_file(home.join("asked.log")).unwrap();
        let (log, trouble) = LogFile::open(&LogPlace { dry: true, ..asked });
        assert!(log.is_none() && trouble.unwrap().contains("inside a replica"));
        assert!(!home.join("asked.log").exists());
    }

    #[test]
    fn a_log_that_was_rotated_away_is_opened_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("o.log");
        let mut log = LogFile::append(&path, OFlags::empty()).unwrap();
        let mut write = |line: &str| {
            log.follow_rotation().unwrap();
            log.line(line).unwrap();
            log.flush().unwrap();
        };
        write("one");
        fs::rename(&path, dir.path().join("o.log.1")).unwrap();
        write("two");
        fs::remove_file(&path).unwrap();
        write("three");
        assert_eq!(fs::read_to_string(dir.path().join("o.log.1")).unwrap(), "one\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
    }
}

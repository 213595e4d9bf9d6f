//! Waiting until what was written is on the disk (8-knowing, "On the disk").
//!
//! A file alone is not enough: its name is in its directory. What replaced it, or took it
//! away, may have put it into `backup/` or `deleted/`, so these directories count too.

use super::LocalReplica;
use super::openat_root::{HANDLE, LIST, Root, split};
use super::work_dir::WORK_DIR;
use crate::replica::{Flush, Keep, ReplicaError};
use crate::tree::{Kind, RelPath, path};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, Result};
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;

/// What single files and directories cannot tell: the whole file system has to be flushed.
enum Single {
    Done,
    NotPossible,
}

impl LocalReplica {
    pub(super) fn flush_to_disk(&self, what: &Flush) -> std::result::Result<(), ReplicaError> {
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
                Ok(fd) => rustix::fs::syncfs(fd).map_err(|error| failed(dir, error))?,
                // What is gone since, or cannot be entered, this run has not written to.
                Err(_) if !dir.is_root() => {}
                Err(error) => return Err(failed(dir, error)),
            }
        }
        Ok(())
    }

    fn flush_paths(
        &self,
        root: &Root,
        paths: &[RelPath],
    ) -> std::result::Result<Single, (RelPath, Errno)> {
        let mut dirs = BTreeSet::new();
        for path in paths {
            dirs.insert(path.parent().unwrap_or_default());
            for keep in [Keep::Backup, Keep::Deleted] {
                let kept = RelPath::root().join(WORK_DIR).join(keep.name().as_bytes());
                let mut at = path.parent();
                while let Some(dir) = at {
                    dirs.insert(dir.components().fold(kept.clone(), |at, name| at.join(name)));
                    at = dir.parent();
                }
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
    fn flush_one(&self, root: &Root, path: &RelPath) -> Result<Single> {
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

    fn flush_dir(&self, root: &Root, dir: &RelPath) -> Result<Single> {
        flush_open(self.dir_to_flush(root, dir))
    }

    fn dir_to_flush(&self, root: &Root, dir: &RelPath) -> Result<OwnedFd> {
        if self.look.follows() {
            let there = root.following(dir.as_bytes(), HANDLE)?;
            return rustix::fs::openat(there.as_fd(), c".", LIST, Mode::empty());
        }
        root.at(dir.as_bytes(), LIST)
    }
}

fn flush_open(opened: Result<OwnedFd>) -> Result<Single> {
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

#[cfg(test)]
mod tests {
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

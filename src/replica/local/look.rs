//! What one path looks like, and whether it is still what was scanned.

use crate::replica::attributes::{self, Wanted};
use crate::system::{self, Mount, Stat};
use crate::tree::{Entry, Extra, Kind, Stamp, fold_device};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, FileType};
use rustix::io::Result;
use rustix::path::Arg;
use serde::{Deserialize, Serialize};

/// What to look at beside the entry itself (spec 4, COPY_SYMLINKS and the like).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools)] // one switch a key
pub struct LookRules {
    /// COPY_SYMLINKS: a link is what it points at.
    pub copy_symlinks: bool,
    /// KEEP_DIRLINKS: a link to a directory is that directory.
    pub keep_dirlinks: bool,
    /// Which attributes are digested.
    pub attributes: Wanted,
}

impl LookRules {
    /// Whether any link may be followed to look at what is behind it.
    #[must_use]
    pub fn follows(self) -> bool {
        self.copy_symlinks || self.keep_dirlinks
    }

    /// What `name` in `dir` looks like.
    ///
    /// # Errors
    /// What the system says; `ENOENT` or `ELOOP` also for a link that leads nowhere and is
    /// to be followed.
    pub fn at<N: Arg + Copy>(self, dir: impl AsFd, name: N) -> Result<Entry> {
        self.at_with_mount(dir, name).map(|(entry, _)| entry)
    }

    /// The same, and what is known of whether something is mounted there.
    ///
    /// # Errors
    /// As [`LookRules::at`].
    pub fn at_with_mount<N: Arg + Copy>(self, dir: impl AsFd, name: N) -> Result<(Entry, Mount)> {
        let dir = dir.as_fd();
        // changed where it is, and not moved about: this is done for each file of a replica
        let mut found = system::stat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
            .map(|found| (entry_of(&found), found.mount));
        if let Ok((entry, mount)) = &mut found {
            if entry.kind == Kind::Symlink {
                self.add_what_is_behind(entry, dir, name)?;
                if entry.kind.is_dir() && leads_to_another_mount(dir, name) {
                    *mount = Mount::Root;
                }
            }
            if self.attributes.any() {
                attributes::add(entry, dir, name, self)?;
            }
        }
        found
    }

    /// A link becomes what it points at, or learns where it points.
    fn add_what_is_behind<N: Arg + Copy>(
        self,
        entry: &mut Entry,
        dir: BorrowedFd<'_>,
        name: N,
    ) -> Result<()> {
        // fidelity: what a followed link's owner, times and ACL mean is decided here
        let behind = || stat(dir, name, AtFlags::empty());
        if self.copy_symlinks {
            *entry = behind()?;
        } else if let Some(there) =
            self.keep_dirlinks.then(behind).and_then(Result::ok).filter(|e| e.kind.is_dir())
        {
            *entry = there;
        } else {
            let target = rustix::fs::readlinkat(dir, name, Vec::new())?;
            entry.set_extra(Extra {
                link: Some(target.into_bytes().into_boxed_slice()),
                ..Extra::default()
            });
        }
        Ok(())
    }
}

/// What an open file or directory looks like; works for what is open as a starting point alone.
///
/// # Errors
/// What the system says.
pub fn of_open(fd: impl AsFd) -> Result<Entry> {
    system::stat_open(fd.as_fd()).map(|found| entry_of(&found))
}

/// Whether what a link points at is in another mount than the directory that holds the link: in
/// this tree, the mount begins there. The device does not always show it (a bind mount). False
/// where this system does not tell.
fn leads_to_another_mount<N: Arg + Copy>(dir: BorrowedFd<'_>, name: N) -> bool {
    let here = system::mount_number(dir, c".", AtFlags::empty());
    let there = system::mount_number(dir, name, AtFlags::empty());
    here.zip(there).is_some_and(|(here, there)| here != there)
}

fn stat<N: Arg + Copy>(dir: BorrowedFd<'_>, name: N, flags: AtFlags) -> Result<Entry> {
    system::stat(dir, name, flags).map(|found| entry_of(&found))
}

/// An entry of what the system tells.
#[inline]
pub(super) fn entry_of(found: &Stat) -> Entry {
    let time = |(secs, nanos)| Stamp::new(secs, nanos);
    // the mode's type is not the same on all systems
    #[allow(clippy::cast_possible_truncation, clippy::unnecessary_cast)]
    let kind = kind_of(FileType::from_raw_mode(found.mode as rustix::fs::RawMode));
    let mut entry = Entry::new(kind);
    entry.shared_inode = found.links > 1 && !kind.is_dir();
    #[allow(clippy::cast_possible_truncation)] // twelve bits are left
    {
        entry.mode = (found.mode & 0o7777) as u16;
    }
    entry.uid = found.uid;
    entry.gid = found.gid;
    entry.dev = fold_device(found.dev.0, found.dev.1);
    entry.ino = found.ino;
    entry.size = if kind == Kind::File { found.size } else { 0 };
    entry.mtime = time(found.mtime);
    entry.ctime = time(found.ctime);
    entry.btime = found.btime.map_or(Stamp::UNKNOWN, time);
    set_device(&mut entry, found.rdev.0, found.rdev.1);
    entry
}

fn set_device(entry: &mut Entry, major: u32, minor: u32) {
    if matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice) {
        let rdev = u64::from(major) << 32 | u64::from(minor);
        entry.set_extra(Extra { rdev, ..Extra::default() });
    }
}

/// The kind of a directory entry or a mode; what is not known counts as a file.
#[must_use]
pub fn kind_of(file_type: FileType) -> Kind {
    match file_type {
        FileType::Directory => Kind::Dir,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::RegularFile | FileType::Unknown => Kind::File,
    }
}

#[cfg(test)]
mod tests {
    use super::super::openat_root::Root;
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn an_entry_is_what_the_system_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("file"), "12345").unwrap();
        std::fs::hard_link(path("file"), path("twin")).unwrap();
        symlink("nowhere", path("link")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        let seen = LookRules::default().at(&root, &b"file"[..]).unwrap();
        assert!(seen.shared_inode && seen.size == 5);
        let std = path("file").metadata().unwrap();
        assert_eq!((seen.ino, seen.uid, seen.mtime.secs()), (std.ino(), std.uid(), std.mtime()));
        let seen = LookRules::default().at(&root, &b"link"[..]).unwrap();
        assert_eq!((seen.link(), seen.size), (Some(&b"nowhere"[..]), 0));
    }
}

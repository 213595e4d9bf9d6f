//! What one path looks like, and whether it is still what was scanned.

use crate::replica::attributes::{self, Wanted};
use crate::tree::{Entry, Extra, Kind, Stamp, fold_device};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, FileType, StatxAttributes, StatxFlags, StatxTimestamp};
use rustix::io::{Errno, Result};
use rustix::path::Arg;

/// What to look at beside the entry itself (spec 4, COPY_SYMLINKS and the like).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // one switch a key
pub struct Look {
    /// COPY_SYMLINKS: a link is what it points at.
    pub copy_symlinks: bool,
    /// KEEP_DIRLINKS: a link to a directory is that directory.
    pub keep_dirlinks: bool,
    /// Which attributes are digested.
    pub attributes: Wanted,
}

impl Look {
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
    /// As [`Look::at`].
    pub fn at_with_mount<N: Arg + Copy>(self, dir: impl AsFd, name: N) -> Result<(Entry, Mount)> {
        let dir = dir.as_fd();
        // changed where it is, and not moved about: this is done for each file of a replica
        let mut found = stat_with_mount(dir, name, AtFlags::SYMLINK_NOFOLLOW);
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

/// What an open file or directory looks like; works for `O_PATH` too.
///
/// # Errors
/// What the system says.
pub fn of_open(fd: impl AsFd) -> Result<Entry> {
    stat(fd.as_fd(), c"", AtFlags::EMPTY_PATH)
}

/// Whether an entry is the root of something mounted there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mount {
    /// It is, or it is a link that counts as a directory and that directory is in another mount
    /// than the link: in this tree, the mount begins there.
    Root,
    /// It is not, or this kernel does not tell.
    NotKnown,
}

/// Whether what a link points at is in another mount than the directory that holds the link. The
/// device does not always show it (a bind mount). False where this kernel does not tell.
fn leads_to_another_mount<N: Arg + Copy>(dir: BorrowedFd<'_>, name: N) -> bool {
    let here = mount_number(dir, c"", AtFlags::EMPTY_PATH);
    let there = mount_number(dir, name, AtFlags::empty());
    here.zip(there).is_some_and(|(here, there)| here != there)
}

fn mount_number<N: Arg>(dir: BorrowedFd<'_>, name: N, flags: AtFlags) -> Option<u64> {
    let flags = flags | AtFlags::NO_AUTOMOUNT;
    let found = rustix::fs::statx(dir, name, flags, StatxFlags::MNT_ID).ok()?;
    (found.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(found.stx_mnt_id)
}

fn stat<N: Arg + Copy>(dir: BorrowedFd<'_>, name: N, flags: AtFlags) -> Result<Entry> {
    stat_with_mount(dir, name, flags).map(|(entry, _)| entry)
}

fn stat_with_mount<N: Arg + Copy>(
    dir: BorrowedFd<'_>,
    name: N,
    flags: AtFlags,
) -> Result<(Entry, Mount)> {
    let mask = StatxFlags::TYPE
        | StatxFlags::MODE
        | StatxFlags::NLINK
        | StatxFlags::UID
        | StatxFlags::GID
        | StatxFlags::MTIME
        | StatxFlags::CTIME
        | StatxFlags::INO
        | StatxFlags::SIZE
        | StatxFlags::BTIME;
    let flags = flags | AtFlags::NO_AUTOMOUNT;
    match rustix::fs::statx(dir, name, flags, mask) {
        Ok(found) => {
            let is_root = found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
            let mount = if is_root { Mount::Root } else { Mount::NotKnown };
            Ok((from_statx(&found), mount))
        }
        Err(Errno::NOSYS) => {
            stat_the_old_way(dir, name, flags).map(|entry| (entry, Mount::NotKnown))
        }
        Err(other) => Err(other),
    }
}

#[inline]
fn from_statx(found: &rustix::fs::Statx) -> Entry {
    let time = |t: StatxTimestamp| Stamp::new(t.tv_sec, t.tv_nsec);
    let kind = kind_of(FileType::from_raw_mode(found.stx_mode.into()));
    let mut entry = Entry::new(kind);
    entry.shared_inode = found.stx_nlink > 1 && !kind.is_dir();
    entry.mode = found.stx_mode & 0o7777;
    entry.uid = found.stx_uid;
    entry.gid = found.stx_gid;
    entry.dev = fold_device(found.stx_dev_major, found.stx_dev_minor);
    entry.ino = found.stx_ino;
    entry.size = if kind == Kind::File { found.stx_size } else { 0 };
    entry.mtime = time(found.stx_mtime);
    entry.ctime = time(found.stx_ctime);
    if found.stx_mask & StatxFlags::BTIME.bits() != 0 {
        entry.btime = time(found.stx_btime);
    }
    set_device(&mut entry, found.stx_rdev_major, found.stx_rdev_minor);
    entry
}

/// For kernels and sandboxes without `statx`: the same, but no birth time.
fn stat_the_old_way<N: Arg + Copy>(dir: BorrowedFd<'_>, name: N, flags: AtFlags) -> Result<Entry> {
    let found = rustix::fs::statat(dir, name, flags)?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // nanoseconds fit
    let time = |secs: i64, nanos: i64| Stamp::new(secs, nanos as u32);
    let kind = kind_of(FileType::from_raw_mode(found.st_mode));
    let mut entry = Entry::new(kind);
    entry.shared_inode = found.st_nlink > 1 && !kind.is_dir();
    #[allow(clippy::cast_possible_truncation)] // twelve bits are left
    {
        entry.mode = (found.st_mode & 0o7777) as u16;
    }
    entry.uid = found.st_uid;
    entry.gid = found.st_gid;
    entry.dev = fold_device(rustix::fs::major(found.st_dev), rustix::fs::minor(found.st_dev));
    entry.ino = found.st_ino;
    entry.size = if kind == Kind::File { u64::try_from(found.st_size).unwrap_or(0) } else { 0 };
    #[allow(clippy::cast_possible_wrap, clippy::useless_conversion, clippy::unnecessary_cast)]
    {
        entry.mtime = time(found.st_mtime as i64, found.st_mtime_nsec as i64);
        entry.ctime = time(found.st_ctime as i64, found.st_ctime_nsec as i64);
    }
    let rdev = found.st_rdev;
    set_device(&mut entry, rustix::fs::major(rdev), rustix::fs::minor(rdev));
    Ok(entry)
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
    fn both_ways_of_looking_agree() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("file"), "12345").unwrap();
        std::fs::hard_link(path("file"), path("twin")).unwrap();
        std::fs::create_dir(path("dir")).unwrap();
        symlink("nowhere", path("link")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        for name in ["file", "twin", "dir", "link"] {
            let new = stat(root.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            let mut old = stat_the_old_way(root.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            old.btime = new.btime;
            assert_eq!(new, old, "{name}");
            let std = path(name).symlink_metadata().unwrap();
            assert_eq!((new.ino, new.uid, new.mtime.secs()), (std.ino(), std.uid(), std.mtime()));
        }
        let seen = Look::default().at(&root, &b"file"[..]).unwrap();
        assert!(seen.shared_inode && seen.size == 5);
        let seen = Look::default().at(&root, &b"link"[..]).unwrap();
        assert_eq!((seen.link(), seen.size), (Some(&b"nowhere"[..]), 0));
    }
}

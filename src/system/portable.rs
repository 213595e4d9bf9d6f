//! What every Unix has. Where it promises less than Linux does, the item says so.

use super::{AtLink, Mount, Stat};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Timestamps, Uid};
use rustix::io::{Errno, Result};
use rustix::path::Arg;
use std::ffi::CStr;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Flags that let a directory be a starting point. Here it has to be readable for that.
pub const HANDLE: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Whether changes are noticed only where each directory is watched by itself.
pub const WATCHES_ONE_BY_ONE: bool = false;

/// Whether ACLs and extended attributes can be read and set.
pub const HAS_ATTRIBUTES: bool = false;

/// What a name in a directory looks like.
///
/// # Errors
/// What the system says.
pub fn stat<N: Arg>(dir: BorrowedFd<'_>, name: N, flags: AtFlags) -> Result<Stat> {
    rustix::fs::statat(dir, name, flags).map(|found| stat_of(&found))
}

/// What something open looks like.
///
/// # Errors
/// What the system says.
pub fn stat_open(fd: BorrowedFd<'_>) -> Result<Stat> {
    rustix::fs::fstat(fd).map(|found| stat_of(&found))
}

// the types of these fields differ from system to system
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::unnecessary_cast,
    clippy::useless_conversion
)]
fn stat_of(found: &rustix::fs::Stat) -> Stat {
    let numbers = |dev| (rustix::fs::major(dev), rustix::fs::minor(dev));
    #[cfg(any(target_vendor = "apple", target_os = "freebsd", target_os = "netbsd"))]
    let btime = (found.st_birthtime > 0)
        .then_some((found.st_birthtime as i64, found.st_birthtime_nsec as u32));
    #[cfg(not(any(target_vendor = "apple", target_os = "freebsd", target_os = "netbsd")))]
    let btime = None;
    Stat {
        mode: found.st_mode.into(),
        links: found.st_nlink as u64,
        uid: found.st_uid,
        gid: found.st_gid,
        dev: numbers(found.st_dev),
        ino: found.st_ino as u64,
        size: u64::try_from(found.st_size).unwrap_or(0),
        mtime: (found.st_mtime as i64, found.st_mtime_nsec as u32),
        ctime: (found.st_ctime as i64, found.st_ctime_nsec as u32),
        btime,
        rdev: numbers(found.st_rdev),
        mount: Mount::NotKnown,
    }
}

/// The number of the mount that a name leads to. Here none is known.
#[must_use]
pub fn mount_number<N: Arg>(_dir: BorrowedFd<'_>, _name: N, _flags: AtFlags) -> Option<u64> {
    None
}

/// The same, if no other mount of this boot ever has it.
#[must_use]
pub fn unique_mount_number<N: Arg>(_dir: BorrowedFd<'_>, _name: N, _flags: AtFlags) -> Option<u64> {
    None
}

/// Opens a path, below a directory and through no link: name by name.
///
/// # Errors
/// `ENOTDIR` or `ELOOP` where a component is a link, and what the system says.
pub fn open_beneath(from: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd> {
    let mut at: Option<OwnedFd> = None;
    let mut names = path.split(|b| *b == b'/').peekable();
    while let Some(name) = names.next() {
        let how = if names.peek().is_some() { HANDLE } else { flags };
        let how = how | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let from = at.as_ref().map_or(from, AsFd::as_fd);
        at = Some(rustix::fs::openat(from, name, how, Mode::empty())?);
    }
    at.ok_or(Errno::NOENT)
}

/// Renames, but never onto something: `EEXIST` then. A hard link sees to that; what cannot
/// have one is looked for right before, and an empty directory that appears just then is
/// replaced.
///
/// # Errors
/// What the system says.
pub fn rename_to_free(from: impl AsFd, name: &[u8], to: impl AsFd, new_name: &[u8]) -> Result<()> {
    let (from, to) = (from.as_fd(), to.as_fd());
    let now = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(now.st_mode) != FileType::Directory {
        match rustix::fs::linkat(from, name, to, new_name, AtFlags::empty()) {
            Ok(()) => return rustix::fs::unlinkat(from, name, AtFlags::empty()),
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {}
            Err(other) => return Err(other),
        }
    }
    match rustix::fs::statat(to, new_name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Err(Errno::EXIST),
        Err(Errno::NOENT) => rustix::fs::renameat(from, name, to, new_name),
        Err(other) => Err(other),
    }
}

/// Sets the mode of what is open.
///
/// # Errors
/// What the system says.
pub fn set_mode(fd: impl AsFd, mode: u16) -> Result<()> {
    rustix::fs::fchmod(fd, Mode::from_raw_mode(mode.into()))
}

/// Sets owner and group of what is open.
///
/// # Errors
/// What the system says.
pub fn set_owner(fd: impl AsFd, uid: Option<Uid>, gid: Option<Gid>) -> Result<()> {
    rustix::fs::fchown(fd, uid, gid)
}

/// Sets the times of what is open.
///
/// # Errors
/// What the system says.
pub fn set_times(fd: impl AsFd, times: &Timestamps) -> Result<()> {
    rustix::fs::futimens(fd, times)
}

/// One entry, held so that what is done to it is done to that very entry, whoever renames or
/// replaces it meanwhile. Here only a file or a directory that we may read is held; anything
/// else is its name, and another entry may get that. Links are never followed by it.
#[derive(Debug)]
pub struct Pinned<'p> {
    fd: Option<OwnedFd>,
    dir: BorrowedFd<'p>,
    name: &'p [u8],
    /// What it looked like.
    pub stat: Stat,
}

impl<'p> Pinned<'p> {
    /// Takes hold of a name; of what is behind a link only if that is a directory.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(dir: BorrowedFd<'p>, name: &'p [u8], at_link: AtLink) -> Result<Self> {
        let read = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let (flags, at) = match at_link {
            AtLink::Follow => (read | OFlags::DIRECTORY, AtFlags::empty()),
            AtLink::Stay => (read | OFlags::NOFOLLOW, AtFlags::SYMLINK_NOFOLLOW),
        };
        let found = rustix::fs::statat(dir, name, at)?;
        let stat = stat_of(&found);
        // to open a device may do something by itself
        let kind = FileType::from_raw_mode(found.st_mode);
        if !matches!(kind, FileType::RegularFile | FileType::Directory) {
            return Ok(Pinned { fd: None, dir, name, stat });
        }
        match rustix::fs::openat(dir, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Pinned { stat: stat_open(fd.as_fd())?, fd: Some(fd), dir, name }),
            Err(Errno::ACCESS) if at_link == AtLink::Stay => {
                Ok(Pinned { fd: None, dir, name, stat })
            }
            Err(other) => Err(other),
        }
    }

    /// Sets its mode.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_mode(&self, mode: u16) -> Result<()> {
        match &self.fd {
            Some(fd) => set_mode(fd, mode),
            None => {
                let mode = Mode::from_raw_mode(mode.into());
                rustix::fs::chmodat(self.dir, self.name, mode, AtFlags::SYMLINK_NOFOLLOW)
            }
        }
    }

    /// Sets its owner and group.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_owner(&self, uid: Option<Uid>, gid: Option<Gid>) -> Result<()> {
        match &self.fd {
            Some(fd) => set_owner(fd, uid, gid),
            None => rustix::fs::chownat(self.dir, self.name, uid, gid, AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    /// Its attributes.
    #[must_use]
    pub fn xattrs(&self) -> Xattrs {
        Xattrs
    }
}

/// The ACLs and extended attributes of an entry: none are known here.
#[derive(Debug)]
pub struct Xattrs;

impl Xattrs {
    /// Those of a name in a directory.
    ///
    /// # Errors
    /// None.
    pub fn of<N: Arg>(_dir: BorrowedFd<'_>, _name: N, _at_link: AtLink) -> Result<Self> {
        Ok(Xattrs)
    }

    /// One attribute's value; `None` if it is not there.
    ///
    /// # Errors
    /// None.
    pub fn value(&self, _name: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    /// The names of all, each followed by NUL.
    ///
    /// # Errors
    /// None.
    pub fn names(&self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    /// Makes one, or gives it another value.
    ///
    /// # Errors
    /// It cannot be done here.
    pub fn set(&self, _name: &[u8], _value: &[u8]) -> Result<()> {
        Err(Errno::OPNOTSUPP)
    }

    /// Removes one, if it is there.
    ///
    /// # Errors
    /// It cannot be done here.
    pub fn remove(&self, _name: &[u8]) -> Result<()> {
        Err(Errno::OPNOTSUPP)
    }
}

/// Gives one open file the attributes of another, as far as we may.
pub fn copy_attributes(_from: impl AsFd, _to: impl AsFd) {}

/// Makes a fifo, a socket or a device.
///
/// # Errors
/// What the system says.
#[cfg(not(target_vendor = "apple"))]
pub fn make_node(
    dir: impl AsFd,
    name: &[u8],
    kind: FileType,
    mode: Mode,
    (major, minor): (u32, u32),
) -> Result<()> {
    rustix::fs::mknodat(dir, name, kind, mode, rustix::fs::makedev(major, minor))
}

/// macOS has no call for it.
#[cfg(target_vendor = "apple")]
pub fn make_node(
    _dir: impl AsFd,
    _name: &[u8],
    _kind: FileType,
    _mode: Mode,
    _device: (u32, u32),
) -> Result<()> {
    Err(Errno::OPNOTSUPP)
}

/// A file without a name, for [`give_name`]. Here there is none.
///
/// # Errors
/// `EOPNOTSUPP`.
pub fn make_unnamed(_dir: impl AsFd) -> Result<OwnedFd> {
    Err(Errno::OPNOTSUPP)
}

/// Gives a file of [`make_unnamed`] a name that is free.
///
/// # Errors
/// `EOPNOTSUPP`.
pub fn give_name(_file: impl AsFd, _dir: impl AsFd, _name: &[u8]) -> Result<()> {
    Err(Errno::OPNOTSUPP)
}

/// Calls `each` with the name, inode and kind of each entry of an open directory, `.` and `..`
/// included. `buffer` is used again from one directory to the next.
///
/// # Errors
/// What the system or `each` says.
pub fn each_name(
    dir: &OwnedFd,
    _buffer: &mut Vec<u8>,
    mut each: impl FnMut(&CStr, u64, FileType) -> Result<()>,
) -> Result<()> {
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        #[cfg(not(any(target_os = "illumos", target_os = "solaris")))]
        let kind = entry.file_type();
        #[cfg(any(target_os = "illumos", target_os = "solaris"))]
        let kind = FileType::Unknown;
        each(entry.file_name(), entry.ino(), kind)?;
    }
    Ok(())
}

/// Flushes everything that waits to be written, of all file systems: others than Linux have no
/// call for one of them. Some only begin to write by it.
///
/// # Errors
/// None.
pub fn sync_file_system(_fd: impl AsFd) -> Result<()> {
    rustix::fs::sync();
    Ok(())
}

/// The path of what is open, if the system tells.
#[must_use]
pub fn path_of(_fd: impl AsFd) -> Option<PathBuf> {
    None
}

/// The image that this process runs, and a path by which others reach it, whatever stands at its
/// old path by now.
#[must_use]
pub fn running_image() -> Option<(PathBuf, PathBuf)> {
    None
}

/// What tells this boot from every other one, where the system has such a name (FreeBSD, macOS).
/// The time of the boot is no such thing here: where the clock is set, it moves.
#[must_use]
pub fn boot_id() -> Option<String> {
    ["kern.boot_id", "kern.bootsessionuuid"]
        .into_iter()
        .find_map(|name| said(Command::new("sysctl").args(["-n", name])))
}

/// When this machine started, in seconds since the epoch. Not known here.
#[must_use]
pub fn boot_time() -> Option<i64> {
    None
}

/// Whether a process has ended and only waits for its parent to take notice. Not known here.
#[must_use]
pub fn is_zombie(_pid: u32) -> bool {
    false
}

/// When a process started, in a measure of the system. Not known here.
#[must_use]
pub fn started(_pid: u32) -> Option<u64> {
    None
}

/// Whether a process group consists of nothing but zombies. Not known here.
#[must_use]
pub fn is_dead_group(_group: i32) -> bool {
    false
}

/// The signals that this process was started with as ignored, as a bit mask: by `ps`, where it
/// knows that (FreeBSD, NetBSD, OpenBSD).
#[must_use]
pub fn ignored_signals() -> u64 {
    static MASK: OnceLock<u64> = OnceLock::new();
    *MASK.get_or_init(|| {
        let pid = std::process::id().to_string();
        let mask = said(Command::new("ps").args(["-o", "ignored=", "-p", &pid]));
        mask.and_then(|mask| u64::from_str_radix(&mask, 16).ok()).unwrap_or(0)
    })
}

/// The one word that a program of the system says. Its exit status is not looked at: where
/// SIGCHLD is ignored, there is none.
fn said(program: &mut Command) -> Option<String> {
    let mut child = program
        .env("PATH", "/bin:/usr/bin:/sbin:/usr/sbin")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut text = String::new();
    let read = child.stdout.take()?.read_to_string(&mut text);
    let _ = child.wait();
    read.ok()?;
    Some(text.trim().to_owned()).filter(|word| !word.is_empty())
}

/// How many directories and watchers this user may have, where that is a limit of its own.
#[must_use]
pub fn watch_limits() -> Option<(u64, u64)> {
    None
}

/// From here on nothing that this process starts gains rights. Others than Linux have no such
/// promise.
///
/// # Errors
/// None.
pub fn no_new_privileges() -> io::Result<()> {
    Ok(())
}

/// Lets a process write inside one directory only. There is none here.
#[derive(Debug)]
pub enum Fence {}

impl Fence {
    /// One that leaves a directory open; `None` if the kernel has no such thing.
    #[must_use]
    pub fn around(_dir: &Path) -> Option<Self> {
        None
    }

    /// Shuts it behind this thread and all that it starts, if this user may.
    pub fn shut(self) {
        match self {}
    }
}

/// Keeps a process inside one directory. There is none here.
#[derive(Debug)]
pub enum Cage {}

impl Cage {
    /// One that leaves a directory open, programs that may be started and files that may be
    /// read; `None` if the kernel has no such thing.
    ///
    /// # Errors
    /// None.
    pub fn around(
        _root: &Path,
        _programs: &[PathBuf],
        _readable: &[PathBuf],
    ) -> io::Result<Option<Self>> {
        Ok(None)
    }

    /// Shuts it behind this thread and all that it starts, for good.
    ///
    /// # Errors
    /// The kernel promised it and does not keep it.
    pub fn enter(self) -> std::result::Result<(), String> {
        match self {}
    }
}

/// Tells the system that a file is read from its beginning to its end: nothing here.
pub fn expect_to_read(_fd: impl AsFd, _read: u64) {}

/// The number by which `ionice` knows this thread: only Linux has that program.
pub fn thread_number() -> Option<i32> {
    None
}

//! What Linux has beyond other Unixes.

use super::proc::{ProcessStat, boot_time_in, ignored_in};
use super::{AtLink, Mount, Stat, portable};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    Advice, AtFlags, CWD, FileType, Gid, Mode, OFlags, RawDir, RenameFlags, ResolveFlags,
    StatxAttributes, StatxFlags, StatxTimestamp, Timestamps, Uid, XattrFlags, fadvise,
};
use rustix::io::{Errno, Result};
use rustix::path::Arg;
use std::ffi::CStr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::{fs, io};

pub use super::landlock::{Cage, Fence};
pub use super::portable::make_node;

/// Flags that let a directory be a starting point and nothing else; needs no permission to read
/// it.
pub const HANDLE: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Whether changes are noticed only where each directory is watched by itself.
pub const WATCHES_ONE_BY_ONE: bool = true;

/// Whether ACLs and extended attributes can be read and set.
pub const HAS_ATTRIBUTES: bool = true;

/// What a name in a directory looks like.
///
/// # Errors
/// What the system says.
#[inline]
pub fn stat<N: Arg + Copy>(dir: BorrowedFd<'_>, name: N, flags: AtFlags) -> Result<Stat> {
    const WANTED: StatxFlags = StatxFlags::BASIC_STATS
        .difference(StatxFlags::ATIME)
        .difference(StatxFlags::BLOCKS)
        .union(StatxFlags::BTIME);
    let flags = flags | AtFlags::NO_AUTOMOUNT;
    let found = match rustix::fs::statx(dir, name, flags, WANTED) {
        Ok(found) => found,
        // old kernels, and some sandboxes
        Err(Errno::NOSYS) => return portable::stat(dir, name, flags),
        Err(other) => return Err(other),
    };
    let time = |t: StatxTimestamp| (t.tv_sec, t.tv_nsec);
    let has_btime = found.stx_mask & StatxFlags::BTIME.bits() != 0;
    let is_root = found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
    Ok(Stat {
        mode: found.stx_mode.into(),
        links: found.stx_nlink.into(),
        uid: found.stx_uid,
        gid: found.stx_gid,
        dev: (found.stx_dev_major, found.stx_dev_minor),
        ino: found.stx_ino,
        size: found.stx_size,
        mtime: time(found.stx_mtime),
        ctime: time(found.stx_ctime),
        btime: has_btime.then(|| time(found.stx_btime)),
        rdev: (found.stx_rdev_major, found.stx_rdev_minor),
        mount: if is_root { Mount::Root } else { Mount::NotKnown },
    })
}

/// What something open looks like; works for `O_PATH` too.
///
/// # Errors
/// What the system says.
pub fn stat_open(fd: BorrowedFd<'_>) -> Result<Stat> {
    stat(fd, c"", AtFlags::EMPTY_PATH)
}

/// The number of the mount that a name leads to.
#[must_use]
pub fn mount_number<N: Arg>(dir: BorrowedFd<'_>, name: N, flags: AtFlags) -> Option<u64> {
    mount_numbered(StatxFlags::MNT_ID, dir, name, flags)
}

/// The same, if no other mount of this boot ever has it (Linux 6.8 and later).
#[must_use]
pub fn unique_mount_number<N: Arg>(dir: BorrowedFd<'_>, name: N, flags: AtFlags) -> Option<u64> {
    // STATX_MNT_ID_UNIQUE, not yet among the flags that rustix knows
    mount_numbered(StatxFlags::from_bits_retain(0x4000), dir, name, flags)
}

fn mount_numbered<N: Arg>(
    how: StatxFlags,
    dir: BorrowedFd<'_>,
    name: N,
    flags: AtFlags,
) -> Option<u64> {
    let found = rustix::fs::statx(dir, name, flags | AtFlags::NO_AUTOMOUNT, how).ok()?;
    (found.stx_mask & how.bits() != 0).then_some(found.stx_mnt_id)
}

/// Opens a path, below a directory and through no link: the kernel sees to that.
///
/// # Errors
/// `ENOTDIR` or `ELOOP` where a component is a link, and what the system says.
pub fn open_beneath(from: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd> {
    const BENEATH: ResolveFlags =
        ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
    // Old kernels do not have the call, some sandboxes forbid it.
    static IS_THERE: OnceLock<bool> = OnceLock::new();
    let probe = || rustix::fs::openat2(CWD, c"/", HANDLE, Mode::empty(), ResolveFlags::empty());
    if !IS_THERE.get_or_init(|| probe().is_ok()) {
        return portable::open_beneath(from, path, flags);
    }
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    loop {
        // EAGAIN: a rename elsewhere made the kernel unsure; it asks to try again.
        match rustix::fs::openat2(from, path, flags, Mode::empty(), BENEATH) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Renames, but never onto something: `EEXIST` then. Some file systems cannot do that at once.
///
/// # Errors
/// What the system says.
pub fn rename_to_free(from: impl AsFd, name: &[u8], to: impl AsFd, new_name: &[u8]) -> Result<()> {
    match rustix::fs::renameat_with(&from, name, &to, new_name, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            portable::rename_to_free(from, name, to, new_name)
        }
        result => result,
    }
}

/// Sets the mode of what is open, `O_PATH` included; never of what a link points at, because an
/// open link is refused by the system.
///
/// # Errors
/// What the system says.
pub fn set_mode(fd: impl AsFd, mode: u16) -> Result<()> {
    match portable::set_mode(&fd, mode) {
        Err(Errno::BADF) => {
            let mode = Mode::from_raw_mode(mode.into());
            rustix::fs::chmodat(CWD, by_number(fd.as_fd()), mode, AtFlags::empty())
        }
        result => result,
    }
}

/// Sets owner and group of what is open, `O_PATH` included.
///
/// # Errors
/// What the system says.
pub fn set_owner(fd: impl AsFd, uid: Option<Uid>, gid: Option<Gid>) -> Result<()> {
    rustix::fs::chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH)
}

/// Sets the times of what is open, `O_PATH` included.
///
/// # Errors
/// What the system says.
pub fn set_times(fd: impl AsFd, times: &Timestamps) -> Result<()> {
    match rustix::fs::utimensat(&fd, c"", times, AtFlags::EMPTY_PATH) {
        Err(Errno::INVAL) => {
            rustix::fs::utimensat(CWD, by_number(fd.as_fd()), times, AtFlags::empty())
        }
        result => result,
    }
}

/// A path to what is open, whatever its name is by now.
fn by_number(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// One entry, held so that what is done to it is done to that very entry, whoever renames or
/// replaces it meanwhile. A link is never followed by it.
#[derive(Debug)]
pub struct Pinned<'p> {
    fd: OwnedFd,
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
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let flags = match at_link {
            AtLink::Follow => flags | OFlags::DIRECTORY,
            AtLink::Stay => flags | OFlags::NOFOLLOW,
        };
        let fd = rustix::fs::openat(dir, name, flags, Mode::empty())?;
        let stat = stat_open(fd.as_fd())?;
        Ok(Pinned { fd, dir, name, stat })
    }

    /// Sets its mode.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_mode(&self, mode: u16) -> Result<()> {
        set_mode(&self.fd, mode)
    }

    /// Sets its owner and group.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_owner(&self, uid: Option<Uid>, gid: Option<Gid>) -> Result<()> {
        set_owner(&self.fd, uid, gid)
    }

    /// Its attributes; those of a link by its name.
    #[must_use]
    pub fn xattrs(&self) -> Xattrs {
        if FileType::from_raw_mode(self.stat.mode) == FileType::Symlink {
            return Xattrs { path: below(self.dir, self.name), at_link: AtLink::Stay };
        }
        Xattrs { path: by_number(self.fd.as_fd()).into_bytes(), at_link: AtLink::Follow }
    }
}

/// The ACLs and extended attributes of an entry.
#[derive(Debug)]
pub struct Xattrs {
    path: Vec<u8>,
    at_link: AtLink,
}

/// There are no attribute calls relative to a directory; this path is the directory that is
/// open, whatever its name is by now.
fn below(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    [by_number(dir).as_bytes(), b"/", name].concat()
}

impl Xattrs {
    /// Those of a name in a directory.
    ///
    /// # Errors
    /// The name holds a NUL.
    pub fn of<N: Arg>(dir: BorrowedFd<'_>, name: N, at_link: AtLink) -> Result<Self> {
        Ok(Xattrs { path: below(dir, name.as_cow_c_str()?.to_bytes()), at_link })
    }

    /// One attribute's value; `None` if it is not there.
    ///
    /// # Errors
    /// What the system says; a file system without attributes has none.
    pub fn value(&self, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let path = self.path.as_slice();
        let read = |buffer: &mut [u8]| match self.at_link {
            AtLink::Follow => rustix::fs::getxattr(path, name, buffer),
            AtLink::Stay => rustix::fs::lgetxattr(path, name, buffer),
        };
        match grow(read) {
            Ok(value) => Ok(Some(value)),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// The names of all, each followed by NUL.
    ///
    /// # Errors
    /// What the system says; a file system without attributes has none.
    pub fn names(&self) -> Result<Vec<u8>> {
        let path = self.path.as_slice();
        let read = |buffer: &mut [u8]| match self.at_link {
            AtLink::Follow => rustix::fs::listxattr(path, buffer),
            AtLink::Stay => rustix::fs::llistxattr(path, buffer),
        };
        match grow(read) {
            Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
            result => result,
        }
    }

    /// Makes one, or gives it another value.
    ///
    /// # Errors
    /// What the system says.
    pub fn set(&self, name: &[u8], value: &[u8]) -> Result<()> {
        let (path, flags) = (self.path.as_slice(), XattrFlags::empty());
        match self.at_link {
            AtLink::Follow => rustix::fs::setxattr(path, name, value, flags),
            AtLink::Stay => rustix::fs::lsetxattr(path, name, value, flags),
        }
    }

    /// Removes one, if it is there.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove(&self, name: &[u8]) -> Result<()> {
        let path = self.path.as_slice();
        let removed = match self.at_link {
            AtLink::Follow => rustix::fs::removexattr(path, name),
            AtLink::Stay => rustix::fs::lremovexattr(path, name),
        };
        if removed == Err(Errno::NODATA) { Ok(()) } else { removed }
    }
}

/// Reads into a buffer that grows until the answer fits: it may grow between two calls.
fn grow(read: impl Fn(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    let mut buffer = vec![0; 256];
    loop {
        match read(&mut buffer) {
            Ok(len) => {
                buffer.truncate(len);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 4, 0),
            Err(other) => return Err(other),
        }
    }
}

/// Gives one open file the attributes of another, as far as we may.
pub fn copy_attributes(from: impl AsFd, to: impl AsFd) {
    let mut list = vec![0; 64 * 1024];
    let len = rustix::fs::flistxattr(&from, list.as_mut_slice()).unwrap_or(0);
    let mut value = vec![0; if len > 0 { 64 * 1024 } else { 0 }];
    for name in list[..len].split(|b| *b == 0).filter(|name| !name.is_empty()) {
        if let Ok(len) = rustix::fs::fgetxattr(&from, name, value.as_mut_slice()) {
            let _ = rustix::fs::fsetxattr(&to, name, &value[..len], XattrFlags::empty());
        }
    }
}

/// A file without a name, for [`give_name`].
///
/// # Errors
/// `EOPNOTSUPP` where the file system has no such thing.
pub fn make_unnamed(dir: impl AsFd) -> Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
    rustix::fs::openat(dir, c".", flags, Mode::RUSR | Mode::WUSR)
}

/// Gives a file of [`make_unnamed`] a name that is free.
///
/// # Errors
/// What the system says.
pub fn give_name(file: impl AsFd, dir: impl AsFd, name: &[u8]) -> Result<()> {
    rustix::fs::linkat(CWD, by_number(file.as_fd()), dir, name, AtFlags::SYMLINK_FOLLOW)
}

/// Calls `each` with the name, inode and kind of each entry of an open directory, `.` and `..`
/// included. `buffer` is used again from one directory to the next.
///
/// # Errors
/// What the system or `each` says.
#[inline]
pub fn each_name(
    dir: &OwnedFd,
    buffer: &mut Vec<u8>,
    mut each: impl FnMut(&CStr, u64, FileType) -> Result<()>,
) -> Result<()> {
    let mut listing = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = listing.next() {
        match entry {
            Err(Errno::INTR) => {}
            Err(other) => return Err(other),
            Ok(entry) => each(entry.file_name(), entry.ino(), entry.file_type())?,
        }
    }
    Ok(())
}

/// Flushes everything that waits to be written to the file system of what is open.
///
/// # Errors
/// What the system says.
pub fn sync_file_system(fd: impl AsFd) -> Result<()> {
    rustix::fs::syncfs(fd)
}

/// The path of what is open, if the system tells.
#[must_use]
pub fn path_of(fd: impl AsFd) -> Option<PathBuf> {
    fs::read_link(by_number(fd.as_fd())).ok()
}

/// The image that this process runs, and a path by which others reach it, whatever stands at its
/// old path by now.
#[must_use]
pub fn running_image() -> Option<(PathBuf, PathBuf)> {
    let by_others = format!("/proc/{}/exe", std::process::id());
    Some(("/proc/self/exe".into(), by_others.into()))
}

/// What tells this boot from every other one.
#[must_use]
pub fn boot_id() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// When this machine started, in seconds since the epoch by its present clock.
#[must_use]
pub fn boot_time() -> Option<i64> {
    boot_time_in(&fs::read_to_string("/proc/stat").ok()?)
}

/// Whether a process has ended and only waits for its parent to take notice.
#[must_use]
pub fn is_zombie(pid: u32) -> bool {
    stat_of_process(pid).is_some_and(|stat| stat.is_zombie())
}

/// When a process started, in the kernel's ticks since boot.
#[must_use]
pub fn started(pid: u32) -> Option<u64> {
    stat_of_process(pid)?.started
}

fn stat_of_process(pid: u32) -> Option<ProcessStat> {
    ProcessStat::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Whether a process group consists of nothing but zombies: orphans that the init process has
/// not reaped yet (in many a container it never does). False where there is no `/proc`.
#[must_use]
pub fn is_dead_group(group: i32) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    let mut zombies = 0;
    for process in processes.flatten() {
        let Ok(stat) = fs::read(process.path().join("stat")) else { continue };
        if let Some(stat) = ProcessStat::parse(&stat).filter(|stat| stat.group == group) {
            if !stat.is_zombie() {
                return false;
            }
            zombies += 1;
        }
    }
    zombies > 0
}

/// The signals that are ignored now, as a bit mask; 0 where the system does not tell.
#[must_use]
pub fn ignored_signals() -> u64 {
    ignored_in(&fs::read_to_string("/proc/self/status").unwrap_or_default())
}

/// How many directories and watchers this user may have, where that is a limit of its own.
#[must_use]
pub fn watch_limits() -> Option<(u64, u64)> {
    let value = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?;
        text.trim().parse::<u64>().ok()
    };
    Some((value("max_user_watches")?, value("max_user_instances").unwrap_or(128)))
}

/// From here on nothing that this process starts gains rights, however its name is hidden.
///
/// # Errors
/// What the system says.
pub fn no_new_privileges() -> io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}

/// How far the disk may read ahead of the reader, in bytes.
const AHEAD: NonZeroU64 = NonZeroU64::new(4 << 20).unwrap();
/// How much of that is asked for at a time, in bytes.
const AHEAD_STEP: NonZeroU64 = NonZeroU64::new(1 << 20).unwrap();

/// Tells the system that a file is read from its beginning to its end, and how many bytes of it have
/// been read. That is advice only: without it the same is read, later.
pub fn expect_to_read(fd: impl AsFd, read: u64) {
    let fd = fd.as_fd();
    if read == 0 {
        let _ = fadvise(fd, 0, None, Advice::Sequential);
        let _ = fadvise(fd, 0, Some(AHEAD), Advice::WillNeed);
    } else if read.is_multiple_of(AHEAD_STEP.get()) {
        let asked = read.saturating_add(AHEAD.get() - AHEAD_STEP.get());
        let _ = fadvise(fd, asked, Some(AHEAD_STEP), Advice::WillNeed);
    }
}

/// The number by which `ionice` knows this thread.
pub fn thread_number() -> Option<i32> {
    Some(rustix::thread::gettid().as_raw_nonzero().get())
}

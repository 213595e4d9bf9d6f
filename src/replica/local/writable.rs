//! Directories that we own but may not write: opened for the time of one change, as rsync
//! does it (spec 5, "rsync calls"). And changing modes without following links.

use super::look;
use crate::tree::Stamp;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::fs::{AtFlags, CWD, Mode, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::{Errno, Result};

/// Acts; if that is refused for lack of permission, makes those of `dirs` writable that we
/// own, acts once more, and gives them back their mode and time.
///
/// # Errors
/// What the action says.
pub(super) fn with_access<T>(
    dirs: &[BorrowedFd<'_>],
    mut act: impl FnMut() -> Result<T>,
) -> Result<T> {
    match act() {
        Err(Errno::ACCESS) => {}
        result => return result,
    }
    let opened: Vec<Opened<'_>> = dirs.iter().filter_map(|dir| Opened::open(*dir)).collect();
    if opened.is_empty() { Err(Errno::ACCESS) } else { act() }
}

/// A directory that is writable for as long as this lives.
struct Opened<'d> {
    dir: BorrowedFd<'d>,
    mode: u16,
    mtime: Stamp,
}

impl<'d> Opened<'d> {
    fn open(dir: BorrowedFd<'d>) -> Option<Self> {
        const WANTED: u16 = 0o300;
        let seen = look::of_open(dir).ok()?;
        let ours = seen.uid == rustix::process::geteuid().as_raw();
        if !ours || seen.mode & WANTED == WANTED {
            return None;
        }
        set_mode(dir, seen.mode | WANTED).ok()?;
        Some(Opened { dir, mode: seen.mode, mtime: seen.mtime })
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        let _ = set_mtime_of_open(self.dir, self.mtime);
        let _ = set_mode(self.dir, self.mode);
    }
}

/// Sets the mode of what is open, `O_PATH` included; never of what a link points at,
/// because an open link is refused by the system.
///
/// # Errors
/// What the system says.
pub(in crate::replica) fn set_mode(fd: impl AsFd, mode: u16) -> Result<()> {
    let fd = fd.as_fd();
    let mode = Mode::from_raw_mode(mode.into());
    match rustix::fs::fchmod(fd, mode) {
        Err(Errno::BADF) => {
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            rustix::fs::chmodat(CWD, path, mode, AtFlags::empty())
        }
        result => result,
    }
}

fn set_mtime_of_open(fd: BorrowedFd<'_>, mtime: Stamp) -> Result<()> {
    let times = only_mtime(mtime);
    match rustix::fs::utimensat(fd, c"", &times, AtFlags::EMPTY_PATH) {
        Err(Errno::INVAL) => {
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            rustix::fs::utimensat(CWD, path, &times, AtFlags::empty())
        }
        result => result,
    }
}

/// Times for the system: the time of access stays.
#[must_use]
pub(super) fn only_mtime(mtime: Stamp) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.secs(), tv_nsec: mtime.nanos().into() },
    }
}

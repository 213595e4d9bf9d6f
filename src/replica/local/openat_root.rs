//! Paths below a replica's root, opened name by name so that no link leads out of it, and access to
//! what its owner may not write.

use super::look;
use crate::system::{open_beneath, set_mode, set_times};
use crate::tree::{RelPath, Stamp};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::{Errno, Result};
use std::path::Path;

pub use crate::system::HANDLE;

/// The longest path given to the kernel at once; below its limit of 4,096 bytes with NUL.
const PIECE: usize = 4000;

/// An open directory below which everything is reached.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

/// One entry of an open directory. What is done to it is done in that very directory, even
/// if somebody renames it meanwhile.
#[derive(Debug)]
pub struct Place<'p> {
    /// The directory; may be open for nothing but being one ([`HANDLE`]).
    pub dir: OwnedFd,
    /// The bare file name; `.` for the root itself.
    pub name: &'p [u8],
}

/// The directory that was opened last. Paths come in the order of their directories, so that it
/// serves for many in a row.
#[derive(Debug, Default)]
pub(super) struct LastDir(Option<(Vec<u8>, OwnedFd)>);

impl LastDir {
    /// The directory at `path`, which `open` opens if it is another one than before.
    ///
    /// # Errors
    /// What `open` says.
    pub(super) fn open(
        &mut self,
        path: &[u8],
        open: impl FnOnce() -> Result<OwnedFd>,
    ) -> Result<BorrowedFd<'_>> {
        let last = match self.0.take() {
            Some(last) if last.0 == path => last,
            _ => (path.to_owned(), open()?),
        };
        Ok(self.0.insert(last).1.as_fd())
    }
}

/// Flags to list a directory.
pub const LIST: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Root {
    /// Opens a directory of this machine; links in `path` itself are followed, because the
    /// user named it.
    ///
    /// # Errors
    /// Not there, not a directory, not accessible.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = HANDLE.difference(OFlags::NOFOLLOW);
        Ok(Self::below(rustix::fs::openat(CWD, path, flags, Mode::empty())?))
    }

    /// Whether a path of this machine leads to this directory.
    ///
    /// # Errors
    /// It leads nowhere, or this user may not go that way.
    pub fn is_at(&self, path: &Path) -> Result<bool> {
        let (held, there) = (rustix::fs::fstat(&self.fd)?, rustix::fs::stat(path)?);
        Ok((held.st_dev, held.st_ino) == (there.st_dev, there.st_ino))
    }

    /// Takes an open directory as the root.
    #[must_use]
    pub fn below(fd: OwnedFd) -> Self {
        Root { fd }
    }

    /// As [`Root::below`], for a directory that the caller keeps open.
    ///
    /// # Errors
    /// What the system says.
    pub fn below_of(fd: impl AsFd) -> Result<Self> {
        Ok(Self::below(rustix::fs::openat(fd, ".", HANDLE, Mode::empty())?))
    }

    /// Opens `path` (as in [`RelPath`]; empty: the root) with `flags`.
    ///
    /// # Errors
    /// `ENOTDIR` or `ELOOP` where a component is a link, and what the system says.
    pub fn at(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd> {
        if path.is_empty() {
            return rustix::fs::openat(&self.fd, ".", flags, Mode::empty());
        }
        let mut rest = path;
        let mut above: Option<OwnedFd> = None;
        while rest.len() > PIECE {
            let cut = rest[..PIECE].iter().rposition(|b| *b == b'/').ok_or(Errno::NAMETOOLONG)?;
            let from = above.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
            above = Some(open_beneath(from, &rest[..cut], HANDLE)?);
            rest = &rest[cut + 1..];
        }
        open_beneath(above.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd), rest, flags)
    }

    /// A directory as a starting point.
    ///
    /// # Errors
    /// As [`Root::at`].
    pub fn handle(&self, path: &[u8]) -> Result<OwnedFd> {
        self.at(path, HANDLE)
    }

    /// The directory that holds `path`, and the name there.
    ///
    /// # Errors
    /// As [`Root::at`].
    pub fn place<'p>(&self, path: &'p RelPath) -> Result<Place<'p>> {
        let (dir, name) = split(path.as_bytes());
        Ok(Place { dir: self.handle(dir)?, name })
    }

    /// Opens `path` following links, also out of the replica: only to look, and only where
    /// the user asked for that (COPY_SYMLINKS, KEEP_DIRLINKS).
    ///
    /// # Errors
    /// What the system says.
    pub fn following(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd> {
        let flags = flags.difference(OFlags::NOFOLLOW) | OFlags::CLOEXEC;
        let path = if path.is_empty() { b"." } else { path };
        rustix::fs::openat(&self.fd, path, flags, Mode::empty())
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A path as the directory that holds it and the name there; the root is `.` in itself.
#[must_use]
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None if path.is_empty() => (b"", b"."),
        None => (b"", path),
    }
}

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
        let _ = set_times(self.dir, &only_mtime(self.mtime));
        let _ = set_mode(self.dir, self.mode);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn no_component_of_a_path_is_ever_a_link() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::create_dir(outside.path().join("in")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        symlink(outside.path(), dir.path().join("a/out")).unwrap();
        symlink("b", dir.path().join("a/near")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert!(root.handle(b"a/b").is_ok());
        assert!(root.handle(b"").is_ok());
        for path in [&b"a/out"[..], b"a/out/in", b"a/near", b"a/near/x"] {
            for flags in [HANDLE, LIST] {
                let error = root.at(path, flags).unwrap_err();
                assert!(matches!(error, Errno::LOOP | Errno::NOTDIR), "{path:?} {error}");
            }
        }
    }

    #[test]
    fn paths_beyond_the_limit_of_the_kernel_can_be_opened() {
        let dir = tempfile::tempdir().unwrap();
        let name = [b'n'; 200];
        let mut path = Vec::new();
        let mut at = rustix::fs::open(dir.path(), HANDLE, Mode::empty()).unwrap();
        for _ in 0..30 {
            rustix::fs::mkdirat(&at, &name[..], Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, &name[..], HANDLE, Mode::empty()).unwrap();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
        }
        assert!(path.len() > crate::tree::path::LONGEST_PATH);
        let found = Root::open(dir.path()).unwrap().handle(&path).unwrap();
        let (one, other) = (rustix::fs::fstat(&found).unwrap(), rustix::fs::fstat(&at).unwrap());
        assert_eq!(one.st_ino, other.st_ino);
    }
}

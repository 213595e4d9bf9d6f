//! Moving things into `backup/` and `deleted/` (spec 4, "Deleting", "Overwriting").

use super::arrivals;
use super::look::{self, Look};
use super::openat_root::{HANDLE, LIST, Place, Root, rename_to_free};
use super::work_dir::WorkDir;
use super::writable::{set_mode, with_access};
use crate::replica::kept_name::{LONGEST_NAME, with_suffix};
use crate::replica::{Keep, host};
use crate::tree::{Entry, Kind, RelPath};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Gid, Mode, Uid};
use rustix::io::{Errno, Result};

/// Name limits to try: that of most file systems, and that of eCryptfs.
const LIMITS: [usize; 2] = [LONGEST_NAME, 143];

/// `backup/` or `deleted/`, open.
pub(super) struct VersionStore<'a> {
    replica: &'a Root,
    work: &'a WorkDir,
    keep: Keep,
    /// The directory itself.
    pub root: Root,
}

/// A place in `backup/` or `deleted/` that is free, or holds what may be replaced.
#[derive(Debug)]
pub(super) struct Free {
    /// The directory, made if it was missing.
    pub dir: OwnedFd,
    /// Whether an older backup stands there that is to be replaced.
    pub replace: bool,
}

impl Free {
    /// Makes a copy's name durable.
    pub fn sync(&self) {
        if let Ok(dir) = rustix::fs::openat(&self.dir, ".", LIST, Mode::empty()) {
            let _ = rustix::fs::fsync(dir);
        }
    }
}

impl<'a> VersionStore<'a> {
    /// Opens the directory, made if it was missing; never through a link.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(replica: &'a Root, work: &'a WorkDir, keep: Keep) -> Result<Self> {
        Ok(VersionStore { replica, work, keep, root: work.keep(keep)? })
    }

    /// Makes `kept` free: its parents become directories, and what is kept there under that
    /// name already gets a suffix, unless it is a file, a file comes, and `replace_older`
    /// is set.
    ///
    /// # Errors
    /// What the system says.
    pub fn make_free(&self, kept: &RelPath, comes: Kind, replace_older: bool) -> Result<Free> {
        let parent = kept.parent().unwrap_or_default();
        let dir = self.make_parents(&parent)?;
        let there = match Look::default().at(&dir, kept.name()) {
            Err(Errno::NOENT) => return Ok(Free { dir, replace: false }),
            result => result?,
        };
        let replace = replace_older && there.kind == Kind::File && comes == Kind::File;
        if !replace {
            self.suffix(dir.as_fd(), &parent, kept.name(), there.kind)?;
        }
        Ok(Free { dir, replace })
    }

    /// Opens the directory at `path`, and makes what is missing of it, each with the mode
    /// and owner that the directory of this name has in the replica: what only few may see
    /// stays that way. What stands in the way gets a suffix.
    fn make_parents(&self, path: &RelPath) -> Result<OwnedFd> {
        match self.root.handle(path.as_bytes()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            result => return result,
        }
        let mut above = self.root.handle(b"")?;
        let mut at = RelPath::root();
        for name in path.components() {
            let below = at.join(name);
            above = match rustix::fs::openat(&above, name, HANDLE, Mode::empty()) {
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let there = Look::default().at(&above, name)?;
                    self.suffix(above.as_fd(), &at, name, there.kind)?;
                    self.make_dir(&above, name, &below)?
                }
                Err(Errno::NOENT) => self.make_dir(&above, name, &below)?,
                result => result?,
            };
            at = below;
        }
        Ok(above)
    }

    fn make_dir(&self, above: &OwnedFd, name: &[u8], at: &RelPath) -> Result<OwnedFd> {
        let made = || rustix::fs::mkdirat(above, name, Mode::RWXU);
        match with_access(&[above.as_fd()], made) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(other) => return Err(other),
        }
        let dir = rustix::fs::openat(above, name, HANDLE, Mode::empty())?;
        if let Ok(like) = self.replica.handle(at.as_bytes()).and_then(look::of_open) {
            imitate(dir.as_fd(), &like);
        }
        Ok(dir)
    }

    /// Renames what is kept under `name` in `dir`, which is `at` on this shelf: it gets the
    /// suffix of this moment, and a number if that is taken too. Its stay begins anew, that
    /// of a directory's content by a note.
    fn suffix(&self, dir: BorrowedFd<'_>, at: &RelPath, name: &[u8], kind: Kind) -> Result<()> {
        let moment = chrono::Local::now().format(".%Y.%m.%d-%H.%M.%S").to_string();
        for longest in LIMITS {
            for number in 0..1000 {
                let suffix =
                    if number == 0 { moment.clone() } else { format!("{moment}.{number}") };
                let new = with_suffix(name, suffix.as_bytes(), longest);
                if kind.is_dir() && Look::default().at(dir, new.as_slice()).is_ok() {
                    continue;
                }
                if kind.is_dir() {
                    let kept = at.join(&new);
                    let note = [(self.keep, &kept)].into_iter();
                    arrivals::note(self.work, note, host::now())
                        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
                }
                let rename = || rename_to_free(dir, name, dir, &new, kind.is_dir());
                match with_access(&[dir], rename) {
                    Err(Errno::EXIST) => {}
                    Err(Errno::NAMETOOLONG) => break,
                    result => return result,
                }
            }
        }
        Err(Errno::NAMETOOLONG)
    }
}

/// As far as we may.
fn imitate(dir: BorrowedFd<'_>, like: &Entry) {
    let (uid, gid) = (Uid::from_raw(like.uid), Gid::from_raw(like.gid));
    let owned =
        rustix::fs::chownat(dir, c"", Some(uid), Some(gid), rustix::fs::AtFlags::EMPTY_PATH);
    // Group bits mean the group that we could not set.
    let mode = if owned.is_ok() { like.mode | 0o700 } else { like.mode & 0o7707 | 0o700 };
    let _ = set_mode(dir, mode);
}

/// Moves `place`, which looks like `entry`, to its free place within one file system.
///
/// # Errors
/// `EXDEV` where it is not one, and what else the system says.
pub(super) fn rename_into(
    place: &Place<'_>,
    entry: &Entry,
    free: &Free,
    kept: &RelPath,
) -> Result<()> {
    let rename = || {
        if free.replace {
            rustix::fs::renameat(&place.dir, place.name, &free.dir, kept.name())
        } else {
            rename_to_free(&place.dir, place.name, &free.dir, kept.name(), entry.kind.is_dir())
        }
    };
    with_moved(place, entry.kind, &free.dir, rename)
}

/// Renames with all the access that can be had: a directory that gets another parent must
/// itself be writable, because its `..` changes.
///
/// # Errors
/// What the action says.
pub(super) fn with_moved(
    place: &Place<'_>,
    kind: Kind,
    to: &OwnedFd,
    rename: impl FnMut() -> Result<()>,
) -> Result<()> {
    let moved = if kind.is_dir() {
        rustix::fs::openat(&place.dir, place.name, HANDLE, Mode::empty()).ok()
    } else {
        None
    };
    let mut dirs = vec![place.dir.as_fd(), to.as_fd()];
    dirs.extend(moved.as_ref().map(AsFd::as_fd));
    with_access(&dirs, rename)
}

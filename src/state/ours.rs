//! What osync keeps for itself belongs to nobody else (spec 5, "What another user over there can
//! do"): real files and directories, owned by the user we are or by root, writable by no others.
//! Where others may write to a replica, they could lead us astray otherwise.

use crate::tree::path::escape;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::{Errno, Result};

/// The bits of a mode that let others write.
const WRITABLE: rustix::fs::RawMode = 0o022;

/// What becomes of a file or directory that is ours, and that others may write to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TooOpen {
    /// The right is taken from them.
    #[default]
    Close,
    /// It stays, in a dry run.
    Leave,
}

/// Why something is not ours alone.
#[derive(Debug, thiserror::Error)]
pub enum NotOurs {
    /// It could be exchanged by somebody, or was.
    #[error(
        "{path} {wrong}; what osync keeps there must be real files and directories that belong to \
         the user it runs as, or to root, and that nobody else may write to; look who made it, and \
         move it away or mend it (chown, chmod go-w)"
    )]
    Wrong {
        /// What.
        path: String,
        /// Why, as the rest of a sentence.
        wrong: &'static str,
    },
    /// The system did not let us look.
    #[error("cannot look at {path}: {cause}")]
    Unseen {
        /// What.
        path: String,
        /// The system's words.
        cause: Errno,
    },
}

/// Whether an open directory is one that nobody but us and root may exchange something in.
///
/// # Errors
/// What the system says.
pub fn is_ours_alone(dir: impl AsFd, too_open: TooOpen) -> Result<bool> {
    let dir = dir.as_fd();
    let stat = rustix::fs::fstat(dir)?;
    Ok(what_is_wrong(&stat, too_open).is_none() || !keeps_owners(dir)?)
}

/// Looks at a directory and at those names in it that we use, and closes what is too open. Says
/// what was closed.
///
/// # Errors
/// Something is not ours alone.
pub fn inspect(
    dir: &OwnedFd,
    name: &str,
    is_used: &dyn Fn(&[u8]) -> bool,
    too_open: TooOpen,
) -> std::result::Result<Vec<String>, NotOurs> {
    let unseen = |cause| NotOurs::Unseen { path: name.to_owned(), cause };
    let mut closed = Vec::new();
    let mut keeps = None;
    // INVARIANT: the directory comes first; once it is closed, nobody exchanges what is in it
    let mut stat = rustix::fs::fstat(dir).map_err(unseen)?;
    if too_open == TooOpen::Close && is_too_open(&stat) && close(dir.as_fd(), &stat).is_ok() {
        closed.push(name.to_owned());
        stat = rustix::fs::fstat(dir).map_err(unseen)?;
    }
    if let Some(wrong) = what_is_wrong(&stat, too_open)
        && *keeps.get_or_insert(keeps_owners(dir.as_fd()).map_err(unseen)?)
    {
        return Err(NotOurs::Wrong { path: name.to_owned(), wrong });
    }
    let mut closed_within = false;
    for entry in Dir::read_from(dir).map_err(unseen)? {
        let entry = entry.map_err(unseen)?;
        let child = entry.file_name();
        if matches!(child.to_bytes(), b"." | b"..") || !is_used(child.to_bytes()) {
            continue;
        }
        let path = || format!("{name}/{}", escape(child.to_bytes()));
        let look = || rustix::fs::statat(dir, child, AtFlags::SYMLINK_NOFOLLOW);
        let mut stat = match look() {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(cause) => return Err(NotOurs::Unseen { path: path(), cause }),
        };
        let wrong = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Directory => None,
            FileType::Symlink => Some("is a symbolic link"),
            _ => Some("is neither a file nor a directory"),
        };
        if let Some(wrong) = wrong {
            return Err(NotOurs::Wrong { path: path(), wrong });
        }
        if too_open == TooOpen::Close && is_too_open(&stat) && close_at(dir, child, &stat).is_ok() {
            closed_within = true;
            stat = look().map_err(|cause| NotOurs::Unseen { path: path(), cause })?;
        }
        if let Some(wrong) = what_is_wrong(&stat, too_open) {
            if keeps.is_none() {
                keeps = Some(keeps_owners(dir.as_fd()).map_err(unseen)?);
            }
            if keeps == Some(true) {
                return Err(NotOurs::Wrong { path: path(), wrong });
            }
        }
    }
    if closed_within {
        closed.push(format!("what is in {name}"));
    }
    Ok(closed)
}

fn what_is_wrong(stat: &Stat, too_open: TooOpen) -> Option<&'static str> {
    let is_mine = stat.st_uid == rustix::process::geteuid().as_raw();
    let is_open = stat.st_mode & WRITABLE != 0;
    if !is_mine && stat.st_uid != 0 {
        Some("belongs to another user")
    } else if is_open && !(is_mine && too_open == TooOpen::Leave) {
        Some("can be written by others")
    } else {
        None
    }
}

/// Ours, and others may write to it. A directory with a sticky bit is meant for everybody.
fn is_too_open(stat: &Stat) -> bool {
    let is_mine = stat.st_uid == rustix::process::geteuid().as_raw();
    is_mine && stat.st_mode & WRITABLE != 0 && stat.st_mode & 0o1000 == 0
}

fn close(file: BorrowedFd<'_>, stat: &Stat) -> Result<()> {
    rustix::fs::fchmod(file, Mode::from_raw_mode(stat.st_mode & 0o7777 & !WRITABLE))
}

fn close_at(dir: &OwnedFd, name: &std::ffi::CStr, stat: &Stat) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    close(rustix::fs::openat(dir, name, flags, Mode::empty())?.as_fd(), stat)
}

/// Whether what we make here is ours and has the mode we give it. Where a mount gives all files
/// the same owner or mode (FAT, SMB, NFS that takes everybody for one user), these say nothing
/// of who may write. It is tried, with a file that is gone at once.
fn keeps_owners(dir: BorrowedFd<'_>) -> Result<bool> {
    let name = format!(".whose.{}", std::process::id());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(dir, &name, flags, Mode::RUSR | Mode::WUSR);
    let file = match made {
        Ok(file) => file,
        // nothing can be told: owners count
        Err(_) => return Ok(true),
    };
    let stat = rustix::fs::fstat(&file);
    rustix::fs::unlinkat(dir, &name, AtFlags::empty())?;
    Ok(what_is_wrong(&stat?, TooOpen::Close).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    fn look(dir: &Path, too_open: TooOpen) -> std::result::Result<Vec<String>, String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let dir = rustix::fs::open(dir, flags, Mode::empty()).unwrap();
        let seen = inspect(&dir, "kept", &|_| true, too_open);
        assert_eq!(is_ours_alone(&dir, too_open).unwrap(), seen.is_ok() || !is_about_dir(&seen));
        seen.map_err(|wrong| wrong.to_string())
    }

    fn is_about_dir(seen: &std::result::Result<Vec<String>, NotOurs>) -> bool {
        matches!(seen, Err(NotOurs::Wrong { path, .. }) if path == "kept")
    }

    fn chmod(path: &Path, mode: u32) {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn what_is_ours_and_too_open_is_closed_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        chmod(&file, 0o666);
        chmod(dir.path(), 0o2777);
        assert_eq!(look(dir.path(), TooOpen::Leave), Ok(vec![]));
        assert_eq!((mode(dir.path()), mode(&file)), (0o2777, 0o666), "a dry run changes nothing");
        let closed = look(dir.path(), TooOpen::Close).unwrap();
        assert_eq!(closed, ["kept", "what is in kept"]);
        assert_eq!((mode(dir.path()), mode(&file)), (0o2755, 0o644));
        assert_eq!(look(dir.path(), TooOpen::Close), Ok(vec![]));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left of a look");
    }

    #[test]
    fn links_fifos_and_shared_directories_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/etc", dir.path().join("state")).unwrap();
        let said = look(dir.path(), TooOpen::Close).unwrap_err();
        assert!(said.starts_with("kept/state is a symbolic link;"), "{said}");
        std::fs::remove_file(dir.path().join("state")).unwrap();
        let fifo = rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("lock"),
            FileType::Fifo,
            Mode::RUSR,
            0,
        );
        fifo.unwrap();
        let said = look(dir.path(), TooOpen::Close).unwrap_err();
        assert!(said.starts_with("kept/lock is neither"), "{said}");
        std::fs::remove_file(dir.path().join("lock")).unwrap();
        chmod(dir.path(), 0o1777);
        let said = look(dir.path(), TooOpen::Close).unwrap_err();
        assert!(said.starts_with("kept can be written by others;"), "{said}");
        assert_eq!(mode(dir.path()), 0o1777, "everybody's directory stays everybody's");
    }
}

//! What the file system of a replica can do, found out by trying (spec 8, "What a file system
//! can do").

use super::openat_root::LIST;
use crate::replica::trials;
use crate::system;
use crate::tree::names::{Case, Forms, Naming};
use crate::tree::{Abilities, Entry, Kind, NameLimit};
use filetime::FileTime;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::{Errno, Result};
use std::collections::BTreeSet;
use std::fs::File;

/// The directory in the work directory where this is tried.
const TRIALS: &str = "trials";

const COMPOSED: &[u8] = "\u{e9}".as_bytes();
const DECOMPOSED: &[u8] = "e\u{301}".as_bytes();

/// What file systems of Windows refuse in names.
const SUSPECTS: [u8; 40] = {
    let mut bytes = [0; 40];
    let mut at = 0;
    while at < 31 {
        bytes[at] = at as u8 + 1;
        at += 1;
    }
    let others = *b"\"*:<>?\\|\x7f";
    while at < 40 {
        bytes[at] = others[at - 31];
        at += 1;
    }
    bytes
};

/// What tells one file system from another: its device, this mount of it, its kind; and for
/// whom it was looked up.
///
/// # Errors
/// What the system says.
pub(super) fn file_system(root: impl AsFd) -> Result<String> {
    let root = root.as_fd();
    let mount = system::mount_number(root, c".", AtFlags::empty()).unwrap_or(0);
    let device = rustix::fs::fstat(root)?.st_dev;
    let (kind, volume) = (rustix::fs::fstatfs(root)?.f_type, rustix::fs::fstatvfs(root)?.f_fsid);
    let user = rustix::process::geteuid().as_raw();
    Ok(format!("{device:x} {mount:x} {kind:x} {volume:x} {user}"))
}

/// Tries everything in a directory of its own, which is removed afterwards.
///
/// # Errors
/// Nothing can be tried there: no space, no right to write.
pub(super) fn look_up(work_dir: impl AsFd) -> Result<Abilities> {
    let work_dir = work_dir.as_fd();
    match rustix::fs::mkdirat(work_dir, TRIALS, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(other) => return Err(other),
    }
    let dir = rustix::fs::openat(work_dir, TRIALS, LIST, Mode::empty())?;
    let trials = Trials { dir };
    // what a run that was killed left behind
    trials.clear()?;
    let found = trials.all();
    let cleared = trials.clear();
    let removed = rustix::fs::unlinkat(work_dir, TRIALS, AtFlags::REMOVEDIR);
    let found = found?;
    cleared.and(removed)?;
    Ok(found)
}

struct Trials {
    dir: OwnedFd,
}

impl Trials {
    fn all(&self) -> Result<Abilities> {
        // If not even this can be made, nothing can be found out here.
        self.make(b"Plain")?;
        let fifos = self.is_made(b"fifo", Kind::Fifo, FileType::Fifo);
        Ok(Abilities {
            naming: Naming { case: self.case()?, forms: self.forms()? },
            one_inode: self.is_one_inode(b"Plain", b"pLAIN")
                && self.is_one_inode(COMPOSED, DECOMPOSED),
            longest_name: self.longest_name()?,
            refused_bytes: self.refused_bytes()?,
            any_bytes: self.holds(b"byte\xff")?,
            any_end: self.holds(b"dot.")? && self.holds(b"space ")?,
            device_names: self.holds(b"con")? && self.holds(b"com1.txt")?,
            symlinks: self.comes(b"link", Kind::Symlink, || {
                rustix::fs::symlinkat(c"there", &self.dir, &b"link"[..])
            }),
            hard_links: {
                let plain = &b"Plain"[..];
                let flags = AtFlags::empty();
                rustix::fs::linkat(&self.dir, plain, &self.dir, &b"name"[..], flags).is_ok()
            },
            fifos,
            // Whether this user may make them is another matter, and may change.
            devices: fifos,
            sockets: self.is_made(b"socket", Kind::Socket, FileType::Socket),
            ..self.metadata()?
        })
    }

    /// What is kept of modes, owners and times.
    fn metadata(&self) -> Result<Abilities> {
        let name = &b"metadata"[..];
        let file = self.make(name)?;
        let keeps_mode = |bits: u16| {
            let mode = Mode::from_raw_mode(bits.into());
            rustix::fs::fchmod(&file, mode).is_ok()
                && super::look::of_open(&file).is_ok_and(|now| now.mode == bits)
        };
        let modes = keeps_mode(0o600) && keeps_mode(0o751);
        let owners = !is_root() || {
            let (uid, gid) = (Some(Uid::from_raw(1)), Some(Gid::from_raw(1)));
            rustix::fs::fchown(&file, uid, gid).is_ok()
                && super::look::of_open(&file).is_ok_and(|now| (now.uid, now.gid) == (1, 1))
        };
        let time = Some(FileTime::from_unix_time(trials::TIME.0, trials::TIME.1));
        let set = filetime::set_file_handle_times(&File::from(file), time, time);
        // Looked at by its name: what an open file says may never have been stored.
        let now = self.look(name)?;
        let sets_times = set.is_ok() && trials::is_near(&now);
        let renamed = &b"renamed"[..];
        rustix::fs::renameat(&self.dir, name, &self.dir, renamed)?;
        Ok(Abilities {
            modes,
            owners,
            sets_times,
            time_step: if sets_times {
                trials::step_of(&now)
            } else {
                Abilities::default().time_step
            },
            own_ctime: now.ctime != now.mtime,
            keeps_inodes: now.ino != 0 && self.look(renamed)?.ino == now.ino,
            ..Abilities::default()
        })
    }

    fn case(&self) -> Result<Case> {
        Ok(if !self.is_there(b"pLAIN") {
            Case::Distinct
        } else if self.listed()?.contains(&b"Plain"[..]) {
            Case::Folded
        } else {
            Case::Rewritten
        })
    }

    fn forms(&self) -> Result<Forms> {
        const OTHER: &[u8] = "o\u{308}".as_bytes();
        if self.make(COMPOSED).is_err() || self.make(OTHER).is_err() {
            return Ok(Forms::Distinct);
        }
        let listed = self.listed()?;
        Ok(if !listed.contains(COMPOSED) && listed.contains(DECOMPOSED) {
            Forms::Decomposed
        } else if !listed.contains(OTHER) && listed.contains("\u{f6}".as_bytes()) {
            Forms::Composed
        } else if self.is_there(DECOMPOSED) {
            Forms::Folded
        } else {
            Forms::Distinct
        })
    }

    /// Whether two spellings, if they are one entry, have one inode number.
    fn is_one_inode(&self, a: &[u8], b: &[u8]) -> bool {
        match (self.look(a), self.look(b)) {
            (Ok(a), Ok(b)) => a.ino == b.ino,
            _ => true,
        }
    }

    fn longest_name(&self) -> Result<NameLimit> {
        const MOST: usize = 255;
        if self.holds(&[b'n'; MOST])? {
            let units = self.holds("\u{e9}".repeat(MOST).as_bytes())?;
            return Ok(if units { NameLimit::Utf16(255) } else { NameLimit::Bytes(255) });
        }
        let (mut fits, mut too_long) = (1, MOST);
        while fits + 1 < too_long {
            let middle = fits.midpoint(too_long);
            if self.holds(&vec![b'n'; middle])? {
                fits = middle;
            } else {
                too_long = middle;
            }
        }
        Ok(NameLimit::Bytes(u32::try_from(fits).unwrap_or(255)))
    }

    fn refused_bytes(&self) -> Result<Vec<u8>> {
        if self.holds(&SUSPECTS)? {
            return Ok(Vec::new());
        }
        let mut refused = Vec::new();
        for byte in SUSPECTS {
            if !self.holds(&[b'x', byte, b'y'])? {
                refused.push(byte);
            }
        }
        Ok(refused)
    }

    /// Whether an entry can have just this name.
    fn holds(&self, name: &[u8]) -> Result<bool> {
        match self.make(name) {
            Ok(_) => Ok(self.listed()?.contains(name)),
            // that says nothing about the name
            Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::ROFS | Errno::IO)) => Err(error),
            Err(_) => Ok(false),
        }
    }

    fn make(&self, name: &[u8]) -> Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.dir, name, flags, Mode::RUSR | Mode::WUSR)
    }

    fn is_made(&self, name: &[u8], kind: Kind, file_type: FileType) -> bool {
        let mode = Mode::RUSR | Mode::WUSR;
        self.comes(name, kind, || system::make_node(&self.dir, name, file_type, mode, (0, 0)))
    }

    /// Whether an entry can be made and is of the kind that it should be.
    fn comes(&self, name: &[u8], kind: Kind, make: impl FnOnce() -> Result<()>) -> bool {
        make().is_ok() && self.look(name).is_ok_and(|entry| entry.kind == kind)
    }

    fn look(&self, name: &[u8]) -> Result<Entry> {
        super::look::LookRules::default().at(&self.dir, name)
    }

    fn is_there(&self, name: &[u8]) -> bool {
        rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    fn listed(&self) -> Result<BTreeSet<Vec<u8>>> {
        let mut names = BTreeSet::new();
        for entry in Dir::read_from(&self.dir)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.insert(name);
            }
        }
        Ok(names)
    }

    fn clear(&self) -> Result<()> {
        for name in self.listed()? {
            rustix::fs::unlinkat(&self.dir, name, AtFlags::empty())?;
        }
        Ok(())
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::local::openat_root::Root;

    #[test]
    fn an_ordinary_file_system_can_do_everything_and_nothing_is_left_of_the_trials() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        std::fs::create_dir(dir.path().join(TRIALS)).unwrap();
        std::fs::write(dir.path().join(TRIALS).join("of a run that was killed"), "").unwrap();
        assert_eq!(look_up(&root).unwrap(), Abilities::default());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(file_system(&root).unwrap(), file_system(&root).unwrap());
    }
}

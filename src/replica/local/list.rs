//! Lists one directory: what each entry looks like, whether it takes part, whether it can
//! be read (spec 4, "Scanning").

use super::look;
use super::openat_root::{LIST, LONGEST_PATH, split};
use super::scan::Walk;
use super::work_dir::{TRIGGER, WORK_DIR};
use crate::filter::Inclusion;
use crate::report::{Level, Problem};
use crate::tree::{Children, Entry, Kind, RelPath, Standing};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Access, AtFlags, FileType, Mode, RawDir};
use rustix::io::Errno;
use std::ffi::CStr;

/// One thread's hands: buffers that are used again for each directory.
pub(super) struct Lister<'a> {
    walk: &'a Walk<'a>,
    /// The directory.
    pub path: Vec<u8>,
    /// Device and inode of the directory and of all above it, if links are followed.
    pub ancestors: Vec<(u32, u64)>,
    /// What went wrong so far.
    pub problems: Vec<Problem>,
    /// What the directory holds.
    pub children: Children,
    /// Whether there are directories to be entered among them.
    pub holds_dirs: bool,
    dirents: Vec<u8>,
    /// Names with their NUL, one behind the other.
    names: Vec<u8>,
    found: Vec<Found>,
    euid: u32,
}

struct Found {
    ino: u64,
    name_at: u32,
    name_len: u16,
    file_type: FileType,
}

impl<'a> Lister<'a> {
    pub fn new(walk: &'a Walk<'a>) -> Self {
        Lister {
            walk,
            path: Vec::with_capacity(4096),
            ancestors: Vec::new(),
            problems: Vec::new(),
            children: Children::default(),
            holds_dirs: false,
            dirents: Vec::with_capacity(64 * 1024),
            names: Vec::new(),
            found: Vec::new(),
            euid: rustix::process::geteuid().as_raw(),
        }
    }

    /// Finds out what the directory at `self.path` holds, for `self.children`; `above` is
    /// the directory that holds it, if that is open. `None`, with a problem, if that is not
    /// to be found out.
    pub fn list(&mut self, above: Option<&OwnedFd>) -> Option<OwnedFd> {
        self.children.clear();
        self.holds_dirs = false;
        let dir = match self.open(above) {
            Ok(dir) => dir,
            Err(error) => {
                self.problem(None, &format!("cannot open the directory: {error}"));
                return None;
            }
        };
        if let Err(error) = self.read(&dir) {
            self.problem(None, &format!("cannot list the directory: {error}"));
            return None;
        }
        // In the order of inodes a cold disk is read in one sweep.
        let mut found = std::mem::take(&mut self.found);
        found.sort_unstable_by_key(|f| f.ino);
        let names = std::mem::take(&mut self.names);
        for (count, f) in found.iter().enumerate() {
            if count % 4096 == 4095 && self.walk.stop.reason().is_some() {
                break;
            }
            let at = f.name_at as usize;
            let bytes = &names[at..=at + usize::from(f.name_len)];
            let Ok(name) = CStr::from_bytes_with_nul(bytes) else { continue };
            if let Err(NotKnown(why)) = self.child(dir.as_fd(), name, f) {
                self.problem(None, why);
                return None;
            }
        }
        (self.found, self.names) = (found, names);
        Some(dir)
    }

    fn open(&self, above: Option<&OwnedFd>) -> rustix::io::Result<OwnedFd> {
        match above {
            _ if self.walk.look.follows() => self.walk.root.following(&self.path, LIST),
            Some(above) => rustix::fs::openat(above, split(&self.path).1, LIST, Mode::empty()),
            None => self.walk.root.at(&self.path, LIST),
        }
    }

    /// Reads the names. All of them before the first look, for a directory that is changed
    /// while it is read is read again by nobody.
    fn read(&mut self, dir: &OwnedFd) -> rustix::io::Result<()> {
        self.names.clear();
        self.found.clear();
        let at_top = self.path.is_empty() && self.walk.hide_ours;
        let mut listing = RawDir::new(dir, self.dirents.spare_capacity_mut());
        while let Some(entry) = listing.next() {
            let entry = match entry {
                Err(Errno::INTR) => continue,
                entry => entry?,
            };
            let name = entry.file_name().to_bytes_with_nul();
            let bare = &name[..name.len() - 1];
            if matches!(bare, b"." | b"..") || at_top && matches!(bare, WORK_DIR | TRIGGER) {
                continue;
            }
            let name_at = u32::try_from(self.names.len()).map_err(|_| Errno::NOMEM)?;
            let name_len = u16::try_from(bare.len()).map_err(|_| Errno::NAMETOOLONG)?;
            self.names.extend_from_slice(name);
            let file_type = entry.file_type();
            self.found.push(Found { ino: entry.ino(), name_at, name_len, file_type });
        }
        Ok(())
    }

    /// Adds one entry of the open directory.
    fn child(&mut self, dir: BorrowedFd<'_>, name: &CStr, found: &Found) -> Result<(), NotKnown> {
        let bare = name.to_bytes();
        let unknown = || Entry::new(look::kind_of(found.file_type));
        // The work directory of a task whose replica lies inside this one stays where it is.
        if self.walk.hide_ours && bare == WORK_DIR {
            return self.add(bare, Standing::Excluded, unknown());
        }
        if self.path.len() + 1 + bare.len() > LONGEST_PATH {
            self.problem(
                Some(bare),
                "the path is longer than 4,095 bytes; nothing at or below it is synchronised",
            );
            return self.add(bare, Standing::Unknown, unknown());
        }
        // Most excluded entries need no look: the listing told what they are.
        let told = match found.file_type {
            FileType::Unknown => None,
            FileType::Symlink if self.walk.look.follows() => None,
            other => Some(other == FileType::Directory),
        };
        if told.is_some_and(|is_dir| self.is_excluded(bare, is_dir)) {
            return self.add(bare, Standing::Excluded, unknown());
        }
        let (entry, mount) = match self.walk.look.at_with_mount(dir, name) {
            Ok(found) => found,
            Err(error) => {
                if told.is_none() && self.is_excluded(bare, false) {
                    return self.add(bare, Standing::Excluded, unknown());
                }
                if error == Errno::ACCESS && !self.is_searchable(dir) {
                    return Err(NotKnown("cannot search the directory: Permission denied"));
                }
                let text = if found.file_type == FileType::Symlink
                    && self.walk.look.copy_symlinks
                    && matches!(error, Errno::NOENT | Errno::LOOP)
                {
                    "the link leads nowhere, so there is nothing to copy (COPY_SYMLINKS)".to_owned()
                } else {
                    format!("cannot look at it: {error}")
                };
                self.problem(Some(bare), &text);
                return self.add(bare, Standing::Unknown, unknown());
            }
        };
        if told.is_none() && self.is_excluded(bare, entry.kind.is_dir()) {
            return self.add(bare, Standing::Excluded, entry);
        }
        if self.is_circle(found.file_type, &entry) {
            self.problem(Some(bare), "the link leads back to a directory above it");
            return self.add(bare, Standing::Unknown, entry);
        }
        if self.is_unreadable(dir, name, &entry) {
            self.problem(Some(bare), "cannot read the file: Permission denied");
            return self.add(bare, Standing::Unknown, entry);
        }
        self.add(bare, Standing::Present, entry)?;
        if mount == look::Mount::Root {
            self.children.mark_mounted();
        }
        Ok(())
    }

    fn add(&mut self, name: &[u8], standing: Standing, entry: Entry) -> Result<(), NotKnown> {
        self.holds_dirs |= standing == Standing::Present && entry.kind.is_dir();
        let too_many = |_| NotKnown("the directory holds more than can be counted");
        self.children.push(name, standing, entry).map_err(too_many)
    }

    fn is_excluded(&mut self, name: &[u8], is_dir: bool) -> bool {
        let Some(filter) = self.walk.filter else { return false };
        let len = self.path.len();
        if len > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        let verdict = filter.verdict(&self.path, is_dir);
        self.path.truncate(len);
        verdict == Inclusion::Excluded
    }

    fn is_circle(&self, file_type: FileType, entry: &Entry) -> bool {
        file_type != FileType::Directory
            && entry.kind.is_dir()
            && self.walk.look.follows()
            && self.ancestors.contains(&(entry.dev, entry.ino))
    }

    /// Whether this is a file that we may not read. The mode tells almost always; only
    /// where it says no, the system is asked, because an ACL may say yes.
    fn is_unreadable(&self, dir: BorrowedFd<'_>, name: &CStr, entry: &Entry) -> bool {
        if self.euid == 0 || entry.kind != Kind::File {
            return false;
        }
        let needed = if entry.uid == self.euid { 0o400 } else { 0o444 };
        entry.mode & needed != needed
            && rustix::fs::accessat(dir, name, Access::READ_OK, AtFlags::EACCESS)
                == Err(Errno::ACCESS)
    }

    fn is_searchable(&self, dir: BorrowedFd<'_>) -> bool {
        rustix::fs::accessat(dir, c".", Access::EXEC_OK, AtFlags::EACCESS).is_ok()
    }

    fn problem(&mut self, name: Option<&[u8]>, text: &str) {
        let mut bytes = self.path.clone();
        if let Some(name) = name {
            if !bytes.is_empty() {
                bytes.push(b'/');
            }
            bytes.extend_from_slice(name);
        }
        self.problems.push(Problem {
            level: Level::Error,
            side: Some(self.walk.side),
            path: RelPath::new(bytes).ok(),
            text: format!("{text}; it is left alone on both sides"),
        });
    }
}

/// Why a directory that can be listed is unknown as a whole.
struct NotKnown(&'static str);

#[cfg(test)]
mod tests {
    use super::super::look::Look;
    use super::super::openat_root::{Root, Way};
    use super::*;
    use crate::process::Stop;
    use crate::tree::Side;

    #[test]
    fn a_directory_that_has_become_a_link_is_not_entered() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("f"), "x").unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("was-a-dir")).unwrap();
        for way in [Way::Kernel, Way::Stepwise] {
            let root = Root::with_way(dir.path(), way);
            let open = root.at(b"", LIST).unwrap();
            let walk = Walk {
                root: &root,
                base: &RelPath::root(),
                look: Look::default(),
                filter: None,
                hide_ours: true,
                side: Side::Target,
                seen: &|_| (),
                stop: &Stop::new(),
            };
            for (path, above) in [
                (&b"was-a-dir"[..], None),
                (b"was-a-dir", Some(&open)),
                (b"was-a-dir/f", None),
                (b"gone", None),
                (b"gone", Some(&open)),
            ] {
                let mut lister = Lister::new(&walk);
                lister.path.extend_from_slice(path);
                assert!(lister.list(above).is_none(), "{way:?}");
                assert_eq!(lister.problems[0].path, RelPath::new(path).ok());
            }
        }
    }
}

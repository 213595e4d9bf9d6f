//! Stand-ins on this machine for entries of a remote replica whose machine has no tools to
//! tell of ACLs and extended attributes (docs/fidelity.md): rsync is made to believe that
//! their contents are here, so it brings nothing but attributes.
//!
//! A stand-in has kind and size of what it stands for and, until rsync has dealt with it,
//! another time. It holds no data, and where it lies nobody but us can enter.

use super::Wanted;
use super::attributes::{self, Attributes};
use super::local::look::Look;
use super::local::openat_root::{HANDLE, Root, split};
use crate::rsync::End;
use crate::tree::{Entry, Kind, RelPath};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::{Errno, Result};
use std::path::{Path, PathBuf};

/// Where they lie in the work directory.
pub const STAND_INS: &str = "_attributes";

/// A directory of stand-ins; it is removed when the value is dropped.
#[derive(Debug)]
pub struct AttributeProbe {
    dir: PathBuf,
    root: Root,
}

impl AttributeProbe {
    /// An empty directory for them, below `place`. What a killed run left there goes.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn below(place: &Path) -> std::io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let dir = place.join(STAND_INS);
        remove(&dir)?;
        std::fs::DirBuilder::new().mode(0o700).create(&dir)?;
        Ok(AttributeProbe { root: Root::open(&dir)?, dir })
    }

    /// Makes the stand-ins for entries, and tells for which there is one: not for files that
    /// are too large for the file system here, say. Links and special files are made by rsync.
    ///
    /// # Errors
    /// What the system says.
    pub fn make<'e>(
        &self,
        entries: impl Iterator<Item = &'e (RelPath, Entry)> + Clone,
    ) -> std::io::Result<Vec<bool>> {
        let mut made = Vec::new();
        for (path, entry) in entries.clone() {
            let (parent, name) = split(path.as_bytes());
            let result = match entry.kind {
                Kind::Dir => self.open_or_make(path.as_bytes()).map(drop),
                Kind::File => self
                    .open_or_make(parent)
                    .and_then(|dir| make_file(&dir, name, entry.size))
                    .and_then(|file| rustix::fs::futimens(file, &other_time(entry))),
                _ => self.open_or_make(parent).map(drop),
            };
            made.push(match result {
                Ok(()) => true,
                Err(Errno::FBIG | Errno::INVAL | Errno::NAMETOOLONG) => false,
                Err(error) => return Err(error.into()),
            });
        }
        // behind their children, whose making moved their times
        for ((path, entry), _) in
            entries.zip(&made).filter(|((_, e), made)| **made && e.kind.is_dir())
        {
            let place = self.root.place(path)?;
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::utimensat(&place.dir, place.name, &other_time(entry), flags)?;
        }
        Ok(made)
    }

    /// Where rsync brings the attributes.
    #[must_use]
    pub fn end(&self) -> End {
        End::Local { root: self.dir.clone() }
    }

    /// What rsync brought for an entry; none if it did not get to it, or found something else
    /// in its place.
    ///
    /// # Errors
    /// What the system says.
    pub fn attributes(
        &self,
        path: &RelPath,
        entry: &Entry,
        wanted: Wanted,
    ) -> std::io::Result<Option<Attributes>> {
        match self.read(path, entry, wanted) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            result => Ok(result?),
        }
    }

    fn read(&self, path: &RelPath, entry: &Entry, wanted: Wanted) -> Result<Option<Attributes>> {
        let place = self.root.place(path)?;
        let found = Look::default().at(&place.dir, place.name)?;
        let is_dealt_with = found.kind == entry.kind
            && (!has_stand_in(entry.kind) || found.mtime.secs() == entry.mtime.secs());
        if !is_dealt_with {
            return Ok(None);
        }
        let look = Look { attributes: wanted, ..Look::default() };
        let mut read = attributes::read(&found, place.dir.as_fd(), place.name, look)?;
        if entry.kind.is_dir() {
            // ours is open to us whatever the original says
            read.access = read.access.map(|access| access.with_owner_of(entry.mode));
        }
        Ok(Some(read))
    }

    fn open_or_make(&self, dir: &[u8]) -> Result<OwnedFd> {
        match self.root.at(dir, HANDLE) {
            Err(Errno::NOENT) => {}
            result => return result,
        }
        let ends = dir.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        for end in ends.chain([dir.len()]) {
            let (parent, name) = split(&dir[..end]);
            match rustix::fs::mkdirat(self.root.handle(parent)?, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(other) => return Err(other),
            }
        }
        self.root.at(dir, HANDLE)
    }
}

impl Drop for AttributeProbe {
    fn drop(&mut self) {
        // what cannot be removed goes before the next ones are made
        let _ = remove(&self.dir);
    }
}

fn has_stand_in(kind: Kind) -> bool {
    matches!(kind, Kind::File | Kind::Dir)
}

fn make_file(dir: &OwnedFd, name: &[u8], size: u64) -> Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?;
    match rustix::fs::ftruncate(&file, size) {
        Ok(()) => Ok(file),
        Err(error) => {
            rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
            Err(error)
        }
    }
}

/// A time that shows that rsync has not come to an entry.
fn other_time(entry: &Entry) -> Timestamps {
    let secs = i64::from(entry.mtime.secs() == 0);
    let time = Timespec { tv_sec: secs, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn remove(dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Stamp;
    use std::os::unix::fs::MetadataExt;

    fn entry(path: &str, kind: Kind, size: u64, mtime: i64) -> (RelPath, Entry) {
        let mut entry = Entry::new(kind);
        (entry.size, entry.mtime) = (size, Stamp::new(mtime, 0));
        (RelPath::new(path).unwrap(), entry)
    }

    #[test]
    fn stand_ins_look_like_what_they_stand_for_but_for_the_time_and_go_at_the_end() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join(STAND_INS);
        std::fs::create_dir_all(dir.join("left/over")).unwrap();
        let entries = [
            entry("a/b/c", Kind::File, 1 << 40, 5),
            entry("a/b", Kind::Dir, 0, 0),
            entry("a/link", Kind::Symlink, 0, 5),
            entry("far/too/large", Kind::File, u64::MAX, 5),
            entry("zero", Kind::File, 0, 0),
        ];
        let attribute_probe = AttributeProbe::below(temp.path()).unwrap();
        assert!(!dir.join("left").exists());
        assert_eq!(attribute_probe.make(entries.iter()).unwrap(), [true, true, true, false, true]);
        let large = dir.join("a/b/c").metadata().unwrap();
        assert_eq!((large.size(), large.blocks(), large.mtime()), (1 << 40, 0, 0));
        assert_eq!(dir.join("a/b").metadata().unwrap().mtime(), 1);
        assert!(!dir.join("far/too/large").exists());
        let told = |(path, entry): &(RelPath, Entry)| {
            let wanted = Wanted { acl: true, xattr: true, all_spaces: false };
            attribute_probe.attributes(path, entry, wanted).unwrap()
        };
        assert!(entries.iter().all(|entry| told(entry).is_none()), "rsync was not there");
        for (at, secs) in [("a/b/c", 5), ("a/b", 0), ("zero", 0)] {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(secs);
            std::fs::File::open(dir.join(at)).unwrap().set_modified(time).unwrap();
        }
        std::os::unix::fs::symlink("x", dir.join("a/link")).unwrap();
        let dealt_with = entries.iter().map(|entry| told(entry).is_some());
        assert_eq!(dealt_with.collect::<Vec<_>>(), [true, true, true, false, true]);
        drop(attribute_probe);
        assert!(!dir.exists());
    }
}

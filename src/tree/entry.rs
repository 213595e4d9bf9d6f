//! What a replica has at one path: kind, times, metadata.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// A point in time as a file system stores it, in 12 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C, packed(4))]
pub struct Stamp {
    secs: i64,
    nanos: u32,
}

impl Stamp {
    /// The file system, or the remote tool that was asked, does not give the time. Sorts before
    /// every known time.
    pub const UNKNOWN: Stamp = Stamp { secs: i64::MIN, nanos: 0 };

    /// Seconds and nanoseconds (0 to 999,999,999) since the epoch.
    #[must_use]
    pub fn new(secs: i64, nanos: u32) -> Self {
        Stamp { secs, nanos: nanos.min(999_999_999) }
    }

    /// Whole seconds since the epoch, rounded down.
    #[must_use]
    pub fn secs(self) -> i64 {
        self.secs
    }

    /// Nanoseconds within the second.
    #[must_use]
    pub fn nanos(self) -> u32 {
        self.nanos
    }

    /// Whether the time is known.
    #[must_use]
    pub fn is_known(self) -> bool {
        self != Stamp::UNKNOWN
    }

    /// Compares to the coarser precision of the two: a time with zero nanoseconds
    /// counts as whole seconds (spec 4, "both the same now").
    #[must_use]
    pub fn compare_coarsely(self, other: Stamp) -> std::cmp::Ordering {
        if self.nanos == 0 || other.nanos == 0 {
            { self.secs }.cmp(&{ other.secs })
        } else {
            self.cmp(&other)
        }
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_known() {
            write!(f, "{}.{:09}", self.secs(), self.nanos())
        } else {
            f.write_str("unknown")
        }
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (self.secs(), self.nanos()).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Stamp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (secs, nanos) = <(i64, u32)>::deserialize(from)?;
        Ok(Stamp::new(secs, nanos))
    }
}

/// The kind of an entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl Kind {
    /// Every kind, in the order of its number.
    pub const ALL: [Kind; 7] = [
        Kind::File,
        Kind::Dir,
        Kind::Symlink,
        Kind::Fifo,
        Kind::Socket,
        Kind::CharDevice,
        Kind::BlockDevice,
    ];

    /// Whether this is a directory.
    #[must_use]
    pub fn is_dir(self) -> bool {
        self == Kind::Dir
    }

    /// Whether osync 1.3's lists hold it: files, directories, symbolic links (spec 3).
    #[must_use]
    pub fn is_listed(self) -> bool {
        matches!(self, Kind::File | Kind::Dir | Kind::Symlink)
    }

    /// The kind as shown to people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::File => "file",
            Kind::Dir => "directory",
            Kind::Symlink => "symbolic link",
            Kind::Fifo => "fifo",
            Kind::Socket => "socket",
            Kind::CharDevice => "character device",
            Kind::BlockDevice => "block device",
        }
    }
}

/// Identifies an entry among all that a replica has at one time. After a file is removed, its
/// number is soon given to another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Inode {
    /// The device, as in [`Entry::dev`].
    pub dev: u32,
    /// The number on that device.
    pub ino: u64,
}

/// Properties that few entries have. They are kept in an allocation of their own, so that the
/// other entries stay small.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Extra {
    /// Where a symbolic link points to, byte for byte.
    pub link: Option<Box<[u8]>>,
    /// The device number of a device node (major << 32 | minor).
    pub rdev: u64,
    /// Digest of the access control lists (PRESERVE_ACL); `None` if the mode says it all.
    pub acl: Option<[u8; 16]>,
    /// Digest of the extended attributes (PRESERVE_XATTR); `None` if there are none.
    pub xattr: Option<[u8; 16]>,
    /// Digest of the content (CHECKSUM), valid as long as size, mtime and ctime stay the same.
    pub content: Option<[u8; 32]>,
}

impl Extra {
    fn is_empty(&self) -> bool {
        *self == Extra::default()
    }
}

/// What is kept of one file, directory, link or special file. Its name is kept by the
/// [`Tree`](super::Tree).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// File, directory, link and so on.
    pub kind: Kind,
    /// Whether the link count is above 1, so that other names may share the inode; never for
    /// directories.
    pub shared_inode: bool,
    /// Permission bits with setuid, setgid and sticky (0o7777).
    pub mode: u16,
    /// Owner, in the numbers of the machine that runs osync.
    pub uid: u32,
    /// Group, in the numbers of the machine that runs osync.
    pub gid: u32,
    /// The device it is on; only compared for equality within a replica.
    pub dev: u32,
    /// Inode number on that device; 0 when not known.
    pub ino: u64,
    /// The length of a file in bytes; 0 for everything else.
    pub size: u64,
    /// When the content changed last.
    pub mtime: Stamp,
    /// When content or metadata changed last.
    pub ctime: Stamp,
    /// When the entry was created, or [`Stamp::UNKNOWN`] where the file system does not say.
    pub btime: Stamp,
    extra: Option<Box<Extra>>,
}

/// A device number for [`Entry::dev`], the same however it was read (`stat`, `statx`, or a remote
/// `find`). Linux itself has 12 bits for the major and 20 for the minor number.
#[must_use]
pub fn fold_device(major: u32, minor: u32) -> u32 {
    major << 20 | minor & 0xf_ffff
}

impl Entry {
    /// An entry of a kind with everything else zero or unknown.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Entry {
            kind,
            shared_inode: false,
            mode: 0,
            uid: 0,
            gid: 0,
            dev: 0,
            ino: 0,
            size: 0,
            mtime: Stamp::new(0, 0),
            ctime: Stamp::new(0, 0),
            btime: Stamp::UNKNOWN,
            extra: None,
        }
    }

    /// Device and inode number, if they are known.
    #[must_use]
    pub fn inode(&self) -> Option<Inode> {
        (self.ino != 0).then_some(Inode { dev: self.dev, ino: self.ino })
    }

    /// The rarer properties; all empty for most entries.
    #[must_use]
    pub fn extra(&self) -> &Extra {
        const NONE: Extra = Extra { link: None, rdev: 0, acl: None, xattr: None, content: None };
        static EMPTY: Extra = NONE;
        self.extra.as_deref().unwrap_or(&EMPTY)
    }

    /// Sets the rarer properties.
    pub fn set_extra(&mut self, extra: Extra) {
        self.extra = if extra.is_empty() { None } else { Some(Box::new(extra)) };
    }

    /// Clears the rarer properties.
    #[inline]
    pub fn clear_extra(&mut self) {
        self.extra = None;
    }

    /// Where a symbolic link points to; `None` for other kinds.
    #[must_use]
    pub fn link(&self) -> Option<&[u8]> {
        self.extra().link.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Ordering;

    #[test]
    fn an_entry_stays_small() {
        assert!(size_of::<Entry>() <= 80, "{}", size_of::<Entry>());
    }

    #[test]
    fn times_compare_to_the_coarser_precision() {
        let whole = Stamp::new(10, 0);
        let fine = Stamp::new(10, 7);
        assert_eq!(whole.compare_coarsely(fine), Ordering::Equal);
        assert_eq!(fine.compare_coarsely(Stamp::new(10, 8)), Ordering::Less);
        assert_eq!(fine.compare_coarsely(Stamp::new(9, 0)), Ordering::Greater);
    }
}

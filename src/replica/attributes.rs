//! Access control lists and extended attributes of one entry, as values and as digests
//! (PRESERVE_ACL, PRESERVE_XATTR), and reading and setting them on this machine.
//!
//! Digests are compared between the sides too, so they are made of what is the same on
//! both: lists in this machine's numbers of users and groups, attributes by name.

use super::acl::Acl;
use super::local::look::Look;
use super::local::writable::set_mode;
use crate::tree::{Entry, Kind};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::fs::XattrFlags;
use rustix::io::{Errno, Result};
use rustix::path::Arg;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";

/// What an entry has beyond mode, owner and group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Attributes {
    /// The access control list; `None`: nothing beyond the mode.
    pub access: Option<Acl>,
    /// What new entries of a directory get; `None`: nothing.
    pub default: Option<Acl>,
    /// Extended attributes: values by name.
    pub named: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Which attributes are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Wanted {
    /// Access control lists.
    pub acl: bool,
    /// Extended attributes.
    pub xattr: bool,
    /// Of all name spaces but `system`, and not only of `user`: what rsync carries between
    /// two super-users.
    pub all_spaces: bool,
}

impl Wanted {
    /// Whether there is anything to look at.
    #[must_use]
    pub fn any(self) -> bool {
        self.acl || self.xattr
    }

    /// Whether an extended attribute of this name takes part.
    #[must_use]
    pub fn takes(self, name: &[u8]) -> bool {
        if self.all_spaces {
            !name.is_empty() && !name.starts_with(b"system.")
        } else {
            name.starts_with(b"user.")
        }
    }
}

/// How an entry's attributes become those of its counterpart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AttributeChange {
    /// The access control list, whole; `None`: it stays.
    pub access: Option<Acl>,
    /// The default list of a directory; `None`: it stays, an empty one: it goes.
    pub default: Option<Acl>,
    /// Extended attributes that are made or get another value.
    pub set: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Extended attributes that go.
    pub remove: Vec<Vec<u8>>,
}

impl AttributeChange {
    /// What makes `mine` into `wanted`, whose permission bits are `mode`.
    #[must_use]
    pub fn between(mine: &Attributes, wanted: &Attributes, mode: u16) -> Self {
        let mut change = AttributeChange::default();
        if mine.access != wanted.access {
            change.access = Some(wanted.access.clone().unwrap_or_else(|| Acl::of_mode(mode)));
        }
        if mine.default != wanted.default {
            change.default = Some(wanted.default.clone().unwrap_or_default());
        }
        for (name, value) in &wanted.named {
            if mine.named.get(name) != Some(value) {
                change.set.insert(name.clone(), value.clone());
            }
        }
        let gone = mine.named.keys().filter(|name| !wanted.named.contains_key(*name));
        change.remove = gone.cloned().collect();
        change
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == AttributeChange::default()
    }
}

impl Attributes {
    /// Puts the digests into an entry.
    pub fn digest_into(&self, entry: &mut Entry) {
        let mut extra = entry.extra().clone();
        let list = |name, acl: &Option<Acl>| acl.as_ref().map(|acl| (name, acl.to_bytes()));
        let lists = [list(ACCESS, &self.access), list(DEFAULT, &self.default)];
        extra.acl = digest(lists.iter().flatten().map(|(name, acl)| (*name, acl.as_slice())));
        extra.xattr = digest(self.named.iter().map(|(name, value)| (&name[..], &value[..])));
        entry.set_extra(extra);
    }
}

fn digest<'a>(parts: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Option<[u8; 16]> {
    let mut hasher = blake3::Hasher::new();
    let mut any = false;
    for part in parts.flat_map(|(name, value)| [name, value]) {
        any = true;
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut short = [0; 16];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    any.then_some(short)
}

/// Adds the digests that `look` asks for.
///
/// # Errors
/// What the system says; a file system without attributes has none.
pub(super) fn add<N: Arg + Copy>(
    entry: &mut Entry,
    dir: BorrowedFd<'_>,
    name: N,
    look: Look,
) -> Result<()> {
    read(entry, dir, name, look)?.digest_into(entry);
    Ok(())
}

/// What an entry has, as far as `look` asks for it.
///
/// # Errors
/// As for [`add`].
pub(super) fn read<N: Arg + Copy>(
    entry: &Entry,
    dir: BorrowedFd<'_>,
    name: N,
    look: Look,
) -> Result<Attributes> {
    let path = behind(dir, name)?;
    let follow = look.follows() && entry.kind != Kind::Symlink;
    let mut found = Attributes::default();
    let wanted = look.attributes;
    if wanted.acl && entry.kind != Kind::Symlink {
        let list = |name| -> Result<Option<Acl>> {
            let bytes = value(&path, follow, name)?;
            Ok(bytes.and_then(|bytes| Acl::from_bytes(&bytes)))
        };
        found.access = list(ACCESS)?.filter(|acl| !acl.is_plain());
        if entry.kind.is_dir() {
            found.default = list(DEFAULT)?;
        }
    }
    if wanted.xattr {
        for name in list(&path, follow)?.split(|b| *b == 0).filter(|name| wanted.takes(name)) {
            if let Some(value) = value(&path, follow, name)? {
                found.named.insert(name.to_vec(), value);
            }
        }
    }
    Ok(found)
}

/// Changes the attributes of what is open with `O_PATH`; of a link, by its name in `dir`,
/// only extended attributes.
///
/// # Errors
/// What the system says. Some may have been changed by then.
pub(super) fn change<N: Arg + Copy>(
    now: &Entry,
    fd: BorrowedFd<'_>,
    dir: BorrowedFd<'_>,
    name: N,
    change: &AttributeChange,
) -> Result<()> {
    let path = if now.kind == Kind::Symlink {
        behind(dir, name)?
    } else {
        // this is the open entry itself, whatever has its name by now
        format!("/proc/self/fd/{}", fd.as_raw_fd()).into_bytes()
    };
    let path = Target { path, is_link: now.kind == Kind::Symlink };
    match path.change_named(change) {
        // who may not write a file may not change its attributes, even as its owner
        Err(Errno::ACCESS) if !path.is_link && now.mode & 0o200 == 0 => {
            set_mode(fd, now.mode | 0o200)?;
            let result = path.change_named(change);
            set_mode(fd, now.mode)?;
            result?;
        }
        result => result?,
    }
    if let Some(acl) = change.access.as_ref().filter(|_| !path.is_link) {
        path.set(ACCESS, &acl.to_bytes())?;
    }
    match change.default.as_ref().filter(|_| now.kind.is_dir()) {
        None => Ok(()),
        Some(acl) if *acl == Acl::default() => path.remove(DEFAULT),
        Some(acl) => path.set(DEFAULT, &acl.to_bytes()),
    }
}

struct Target {
    path: Vec<u8>,
    is_link: bool,
}

impl Target {
    fn change_named(&self, change: &AttributeChange) -> Result<()> {
        for name in &change.remove {
            self.remove(name)?;
        }
        change.set.iter().try_for_each(|(name, value)| self.set(name, value))
    }

    fn set(&self, name: &[u8], value: &[u8]) -> Result<()> {
        let (path, flags) = (self.path.as_slice(), XattrFlags::empty());
        if self.is_link {
            rustix::fs::lsetxattr(path, name, value, flags)
        } else {
            rustix::fs::setxattr(path, name, value, flags)
        }
    }

    fn remove(&self, name: &[u8]) -> Result<()> {
        let path = self.path.as_slice();
        let removed = if self.is_link {
            rustix::fs::lremovexattr(path, name)
        } else {
            rustix::fs::removexattr(path, name)
        };
        if removed == Err(Errno::NODATA) { Ok(()) } else { removed }
    }
}

/// There are no attribute calls relative to a directory; this path is the directory that
/// is open, whatever its name is by now.
fn behind<N: Arg + Copy>(dir: BorrowedFd<'_>, name: N) -> Result<Vec<u8>> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.as_cow_c_str()?.to_bytes());
    Ok(path)
}

/// One attribute's value; `None` if it is not there.
pub(super) fn value(path: &[u8], follow: bool, name: &[u8]) -> Result<Option<Vec<u8>>> {
    let read = |buffer: &mut [u8]| {
        if follow {
            rustix::fs::getxattr(path, name, buffer)
        } else {
            rustix::fs::lgetxattr(path, name, buffer)
        }
    };
    match grow(read) {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(other) => Err(other),
    }
}

/// The names of all attributes, each followed by NUL.
pub(super) fn list(path: &[u8], follow: bool) -> Result<Vec<u8>> {
    let read = |buffer: &mut [u8]| {
        if follow {
            rustix::fs::listxattr(path, buffer)
        } else {
            rustix::fs::llistxattr(path, buffer)
        }
    };
    match grow(read) {
        Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
        result => result,
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

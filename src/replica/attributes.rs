//! Digests of access control lists and extended attributes (PRESERVE_ACL, PRESERVE_XATTR).
//!
//! The digests are only ever compared within one replica, so they may be of the bytes as
//! the system stores them.

use super::look::Look;
use crate::tree::{Entry, Kind};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::{Errno, Result};
use rustix::path::Arg;

const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";

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
    let path = behind(dir, name)?;
    let follow = look.follows() && entry.kind != Kind::Symlink;
    let mut extra = entry.extra().clone();
    if look.acl && entry.kind != Kind::Symlink {
        extra.acl = digest(&path, follow, &[ACCESS, DEFAULT])?;
    }
    if look.xattr {
        let all = list(&path, follow)?;
        let as_root = rustix::process::geteuid().is_root();
        let mut carried: Vec<&[u8]> =
            all.split(|b| *b == 0).filter(|name| is_carried(name, as_root)).collect();
        carried.sort_unstable();
        extra.xattr = digest(&path, follow, &carried)?;
    }
    entry.set_extra(extra);
    Ok(())
}

/// The names that rsync `-X` carries over: `user.*`, for root everything but `system.*`.
fn is_carried(name: &[u8], as_root: bool) -> bool {
    if as_root {
        !name.is_empty() && !name.starts_with(b"system.")
    } else {
        name.starts_with(b"user.")
    }
}

/// There are no attribute calls relative to a directory; this path is the directory that
/// is open, whatever its name is by now.
fn behind<N: Arg + Copy>(dir: BorrowedFd<'_>, name: N) -> Result<Vec<u8>> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.as_cow_c_str()?.to_bytes());
    Ok(path)
}

fn digest(path: &[u8], follow: bool, names: &[&[u8]]) -> Result<Option<[u8; 16]>> {
    let mut hasher = blake3::Hasher::new();
    let mut any = false;
    for name in names {
        if let Some(value) = value(path, follow, name)? {
            any = true;
            for part in [name, value.as_slice()] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        }
    }
    let mut short = [0; 16];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    Ok(any.then_some(short))
}

/// One attribute's value; none if it is not there.
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

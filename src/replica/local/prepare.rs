//! Is the replica there, and can it be used? (spec 7, "A run, start to end")

use super::openat_root::{LIST, Root};
use crate::replica::{Access, Prepared, Way};
use crate::tree::path::escape;
use rustix::fs::{Access as Permission, AtFlags, StatxFlags};
use rustix::io::Errno;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Not yet among the flags that rustix knows.
const STATX_MNT_ID_UNIQUE: u32 = 0x4000;

/// A replica that can be used.
pub(super) struct Found {
    /// Its absolute path without links.
    pub real: PathBuf,
    /// The open directory.
    pub root: Root,
    /// What the caller wants to know.
    pub prepared: Prepared,
}

/// Looks at the directory, and makes it where it is missing and that is allowed.
///
/// # Errors
/// What is wrong with it and what to do about that, for people.
pub(super) fn prepare(location: &Path, access: Access) -> Result<Found, String> {
    let created = match std::fs::metadata(location) {
        Ok(found) if found.is_dir() => false,
        Ok(_) => return Err("it is not a directory; name the directory to synchronise".to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make(location, access)?;
            true
        }
        Err(error) => return Err(format!("cannot look at the directory: {error}")),
    };
    let real = std::fs::canonicalize(location)
        .map_err(|error| format!("cannot find out its real path: {error}"))?;
    let root = Root::open(&real).map_err(|error| format!("cannot open the directory: {error}"))?;
    check_readable(&root)?;
    if matches!(access, Access::ReadWrite { .. }) {
        check_writable(&root)?;
    }
    let space = rustix::fs::fstatvfs(&root)
        .map_err(|error| format!("cannot find out the free space: {error}"))?;
    let free_kib = space.f_bavail.saturating_mul(space.f_frsize) / 1024;
    let can_chown = rustix::process::geteuid().is_root();
    let file_system = super::abilities::file_system(&root).ok();
    let mount_session = mount_session(&root);
    let now = crate::replica::host::stamp();
    let (closed, way) = (None, Way::Here);
    let prepared =
        Prepared { free_kib, created, can_chown, now, file_system, mount_session, closed, way };
    Ok(Found { real, root, prepared })
}

/// The boot, and a number that no two mounts of it have (Linux 6.8 and later; the older numbers
/// are given again).
fn mount_session(root: &Root) -> Option<String> {
    let unique = StatxFlags::from_bits_retain(STATX_MNT_ID_UNIQUE);
    let found = rustix::fs::statx(root, c"", AtFlags::EMPTY_PATH, unique).ok()?;
    let boot = crate::replica::host::boot_id()?;
    (found.stx_mask & STATX_MNT_ID_UNIQUE != 0).then(|| format!("{boot}.{:x}", found.stx_mnt_id))
}

fn make(location: &Path, access: Access) -> Result<(), String> {
    if std::fs::symlink_metadata(location).is_ok() {
        return Err("it is a link that leads nowhere; is something not mounted?".to_owned());
    }
    if let Some(uri) = meant_for_ssh(location) {
        return Err(format!(
            "there is no such directory; if a directory of another machine is meant, write {uri}"
        ));
    }
    match access {
        Access::ReadWrite { create: true } => std::fs::create_dir_all(location)
            .map_err(|error| format!("there is no such directory and it cannot be made: {error}")),
        Access::ReadWrite { create: false } | Access::ReadOnly => {
            Err("there is no such directory; make it, or set CREATE_DIRS=yes if it should be made"
                .to_owned())
        }
    }
}

/// `host:/path`, as rsync and scp write it, has become `HERE/host:/path` by now.
fn meant_for_ssh(location: &Path) -> Option<String> {
    let here = std::env::current_dir().ok()?;
    let typed = location.strip_prefix(here).ok()?.as_os_str().to_str()?;
    let (host, path) = typed.split_once(":/").filter(|(host, _)| !host.contains('/'))?;
    Some(format!("ssh://{host}//{}", escape(path.as_bytes())))
}

fn check_readable(root: &Root) -> Result<(), String> {
    let needed = Permission::READ_OK | Permission::EXEC_OK;
    root.at(b"", LIST)
        .and_then(|dir| rustix::fs::accessat(dir, c".", needed, AtFlags::EACCESS))
        .map_err(|error| {
            format!(
                "cannot read the directory: {error}; this user needs read and search permission"
            )
        })
}

fn check_writable(root: &Root) -> Result<(), String> {
    let needed = Permission::WRITE_OK | Permission::EXEC_OK;
    rustix::fs::accessat(root, c".", needed, AtFlags::EACCESS).map_err(|error| {
        let remedy = match error {
            Errno::ROFS => "remount it for writing",
            _ => "this user needs write permission",
        };
        format!("cannot write to the directory: {error}; {remedy}")
    })
}

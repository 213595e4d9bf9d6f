//! Where the replicas and their state are, and what the task is called (spec 2, "Checks").

use super::read::Reading;
use super::{Location, Watch};
use crate::tree::path::escape;
use crate::tree::{Pair, Side};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// INSTANCE_ID: part of file names.
pub(super) fn instance_id(r: &Reading<'_>, from_file: bool) -> String {
    const KEY: &str = "INSTANCE_ID";
    if from_file && !r.is_set(KEY) {
        r.complain(KEY, "not set; give every task a name of its own");
    }
    let id = r.text(KEY);
    if id.contains(['/', '\0', '\n']) || id == "." || id == ".." {
        let shown = escape(id.as_bytes());
        r.complain(KEY, format!("'{shown}' cannot be part of a file name"));
    } else if id.len() > 200 {
        r.complain(KEY, "longer than 200 bytes; file names made of it would be too long");
    }
    id
}

/// INITIATOR_SYNC_DIR and TARGET_SYNC_DIR.
pub(super) fn replicas(r: &Reading<'_>, watch: Watch) -> Pair<Location> {
    let read = Pair::from_fn(|side| location(r, side));
    let may_be_remote = if watch == Watch::Target { Side::Initiator } else { Side::Target };
    let must_be_local = may_be_remote.other();
    if read[must_be_local].as_ref().is_some_and(Location::is_remote) {
        let text = match must_be_local {
            Side::Initiator => "the initiator must be a directory of this machine",
            Side::Target => {
                "with --on-changes-target, the target must be a directory of this machine"
            }
        };
        r.complain(key_of(must_be_local), text);
    }
    if let (Some(Location::Local(initiator)), Some(Location::Local(target))) =
        (&read.initiator, &read.target)
    {
        keep_apart(r, initiator, target);
    }
    read.map(|location| location.unwrap_or_else(|| Location::Local(PathBuf::new())))
}

fn key_of(side: Side) -> &'static str {
    match side {
        Side::Initiator => "INITIATOR_SYNC_DIR",
        Side::Target => "TARGET_SYNC_DIR",
    }
}

fn location(r: &Reading<'_>, side: Side) -> Option<Location> {
    let key = key_of(side);
    match Location::parse(r.bytes(key)) {
        Ok(Location::Local(path)) => {
            let path = r.absolute(&r.with_home(path.as_os_str().as_bytes()));
            Some(Location::Local(path))
        }
        Ok(remote) => Some(remote),
        Err(error) => {
            r.complain(key, error.to_string());
            None
        }
    }
}

/// Two replicas may not share anything.
fn keep_apart(r: &Reading<'_>, initiator: &Path, target: &Path) {
    let (a, b) = (r.surroundings.real_path(initiator), r.surroundings.real_path(target));
    let text = if a == b {
        "initiator and target are the same directory"
    } else if b.starts_with(&a) {
        "the target lies inside the initiator"
    } else if a.starts_with(&b) {
        "the initiator lies inside the target"
    } else {
        return;
    };
    let shown = escape(b.as_os_str().as_bytes());
    r.complain("TARGET_SYNC_DIR", format!("{text} ('{shown}')"));
}

/// INITIATOR_CUSTOM_STATE_DIR and TARGET_CUSTOM_STATE_DIR.
pub(super) fn state_dirs(r: &Reading<'_>, replicas: &Pair<Location>) -> Pair<Option<PathBuf>> {
    let keys = Pair::new("INITIATOR_CUSTOM_STATE_DIR", "TARGET_CUSTOM_STATE_DIR");
    let dirs = Pair::from_fn(|side| {
        let path = match replicas[side].is_remote() {
            true => r.far_path(keys[side]),
            false => r.far_path(keys[side]).map(|p| r.with_home(p.as_os_str().as_bytes())),
        };
        if path.as_ref().is_some_and(|path| !path.is_absolute()) {
            r.complain(keys[side], "must be an absolute path");
        }
        path
    });
    if let (Some(initiator), Some(target)) = (&dirs.initiator, &dirs.target) {
        let local = !replicas.initiator.is_remote() && !replicas.target.is_remote();
        if local && r.surroundings.real_path(initiator) == r.surroundings.real_path(target) {
            r.complain(keys.target, "must be another directory than INITIATOR_CUSTOM_STATE_DIR");
        }
    }
    dirs
}

//! Removes what killed runs have left half made in the work directory of a local replica
//! (spec 4, "Interruption"). Called by the run that has just taken the lock, while it is
//! its turn: nobody else makes such files then.

use super::copy;
use super::openat_root::Root;
use super::work_dir::{ARRIVALS, IDENTITY, LOCK, LOCK_BY, WorkDir};
use crate::replica::Keep;
use rustix::fd::AsFd;
use rustix::fs::{Dir, Mode};

/// How names of unfinished copies in `backup/` and `deleted/` begin; the number of the
/// process follows. Names of kept files stand there too, so it is one that nobody gives.
pub(super) const UNFINISHED: &str = ".osync-copy-9c1f3ab07e5d42868a6b.";

/// Removes left-overs. What cannot be removed does no harm and stays.
pub(super) fn sweep(work: &WorkDir) {
    if let Ok(dir) = work.list_handle() {
        for name in names(&dir, is_left_over) {
            let _ = work.remove(&name);
        }
    }
    for keep in [Keep::Backup, Keep::Deleted] {
        if let Ok(Some(root)) = work.keep_if_there(keep) {
            sweep_copies(&root);
        }
    }
}

fn sweep_copies(root: &Root) {
    let is_copy = |name: &str| name.strip_prefix(UNFINISHED).is_some_and(is_number);
    let Ok(dir) = rustix::fs::openat(root, ".", super::openat_root::LIST, Mode::empty()) else {
        return;
    };
    for name in names(dir, is_copy) {
        copy::remove_unfinished(root.as_fd(), name.as_bytes());
    }
}

fn names(dir: impl AsFd, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let Ok(entries) = Dir::read_from(dir) else { return Vec::new() };
    entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str().ok()?.to_owned()))
        .filter(|name| wanted(name))
        .collect()
}

/// `NAME.new.PID.N`, `NAME.new.PID` and `lock.old.PID` of our small files.
fn is_left_over(name: &str) -> bool {
    let numbers = |rest: &str| rest.split('.').count() <= 2 && rest.split('.').all(is_number);
    let [backup, deleted] = [Keep::Backup, Keep::Deleted].map(Keep::record_name);
    let ours = [LOCK, LOCK_BY, IDENTITY, ARRIVALS, backup, deleted, "lock.mine"];
    let is_new = |ours: &str| {
        name.strip_prefix(ours).and_then(|rest| rest.strip_prefix(".new.")).is_some_and(numbers)
    };
    ours.into_iter().any(is_new) || name.strip_prefix("lock.old.").is_some_and(numbers)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::ours::TooOpen;
    use std::fs;

    #[test]
    fn left_overs_go_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let work = WorkDir::open_or_make(&Root::open(dir.path()).unwrap(), TooOpen::Close).unwrap();
        let at = dir.path().join(".osync_workdir");
        let copy = format!("backup/{UNFINISHED}4711");
        let goes = [
            "lock.new.12.0",
            "lock.by.new.12.1",
            "identity.new.9.0",
            "arrivals.new.77",
            "lock.old.12",
            &copy,
        ];
        let stays = [
            "lock",
            "lock.by",
            "identity",
            "arrivals",
            "lock.new.12.x",
            "lock.new.",
            "lock.new.1.2.3",
            "notes.new.12.0",
            "backup/.osync-copy.12",
            "backup/lock.new.12.0",
            "deleted/.osync-copy-9c1f3ab07e5d42868a6b.x",
        ];
        for keep in ["backup", "deleted"] {
            fs::create_dir(at.join(keep)).unwrap();
        }
        for name in goes.iter().chain(&stays) {
            fs::write(at.join(name), "x").unwrap();
        }
        // a whole directory was being copied
        let tree = at.join(format!("deleted/{UNFINISHED}5"));
        fs::create_dir_all(tree.join("below")).unwrap();
        fs::write(tree.join("below/f"), "x").unwrap();
        sweep(&work);
        for name in goes {
            assert!(!at.join(name).exists(), "{name}");
        }
        assert!(!tree.exists());
        for name in stays {
            assert!(at.join(name).exists(), "{name}");
        }
    }
}

//! What must hold right after a kill, and after the next run.

use crate::properties::{Settings, holds, judge, must_stay};
use crate::support::model::Expected;
use crate::support::sandbox::Replica;
use crate::support::trees::{self, Tree, What, escape};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Both replicas before the run that was killed, and after the one before that.
#[derive(Default)]
pub struct Before {
    pub now: [Tree; 2],
    pub base: [Tree; 2],
}

type Held = Result<(), String>;

/// Every path holds its old or its new content; nothing else has come but rsync's
/// temporary files; no content is lost.
pub fn check_interrupted(
    before: &Before,
    expected: &Expected,
    replicas: [&Replica; 2],
    settings: &Settings,
) -> Held {
    let found = replicas.map(Replica::tree);
    for (side, found) in found.iter().enumerate() {
        let (old, new) = (&before.now[side], &expected.trees[side]);
        for (path, node) in found {
            let is_old = old.get(path).is_some_and(|old| old.what == node.what);
            let is_new = new.get(path).is_some_and(|new| new.what == node.what);
            // a directory on its way out, or one that was made for what is moved into it
            let open = expected.is_open(path);
            let carried = was_carried(path, &node.what, old, new);
            if !is_old && !is_new && !open && !carried && !is_temporary(path, new) {
                return Err(format!("{} of side {side} is neither old nor new", escape(path)));
            }
        }
        for (path, old) in old.iter().filter(|(_, old)| old.what != What::Dir) {
            let stays = new.get(path).is_some_and(|new| same_kind(&new.what, &old.what));
            if stays && !found.contains_key(path) && !expected.is_open(path) {
                return Err(format!("{} of side {side} is not there", escape(path)));
            }
        }
    }
    let kept = replicas.map(kept).concat();
    for old in &before.now {
        let files = old.iter().filter(|(_, node)| node.what != What::Dir);
        for (path, node) in files.filter(|(_, node)| must_stay(expected, &node.what, settings)) {
            if !found.iter().chain(&kept).any(|tree| holds(tree, &node.what)) {
                return Err(format!("the content of {} is lost", escape(path)));
            }
        }
    }
    Ok(())
}

/// Both sides are the merge of what was there before, what was replaced or removed is
/// kept.
pub fn check_completed(
    before: &Before,
    expected: &mut Expected,
    replicas: [&Replica; 2],
    settings: &Settings,
) -> Held {
    let after = replicas.map(Replica::tree);
    for (side, after) in after.iter().enumerate() {
        // What was done before the kill has changed the times of the directories around.
        for (path, wanted) in expected.trees[side].iter_mut() {
            let (What::Dir, Some(node)) = (&wanted.what, after.get(path)) else { continue };
            wanted.mtime = node.mtime;
        }
    }
    judge(expected, &before.now, &after, replicas, settings)
}

/// Nothing that is only of use during a run is left in the work directory. To be asked after
/// one more run: right after a kill its process may still count as there.
pub fn check_work_dir(root: &Path) -> Held {
    let known = ["identity", "state", "backup", "deleted", "backup.arrivals", "deleted.arrivals"];
    let names = |dir: &Path| -> Vec<String> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let work = root.join(".osync_workdir");
    for name in names(&work) {
        // an osync over there keeps the listing that it sent last
        if !known.contains(&name.as_str()) && !name.starts_with("listing.") {
            return Err(format!("{name} is left in {}", work.display()));
        }
    }
    let state = [
        "snapshot-",
        "run-",
        "conflicts-",
        "resume-count-",
        "listing-",
        "last-run-",
        "compared-",
        "file-systems-",
        "history-",
        "initiator-tree-after-",
        "initiator-deleted-list-",
        "initiator-last-action-",
        "target-tree-after-",
        "target-deleted-list-",
        "target-last-action-",
    ];
    for name in names(&work.join("state")) {
        if !state.iter().any(|known| name.starts_with(known)) {
            return Err(format!("{name} is left among the state files"));
        }
    }
    for name in ["backup", "deleted"].iter().flat_map(|keep| names(&work.join(keep))) {
        if name.starts_with(".osync-") {
            return Err(format!("{name} is left in backup or deleted"));
        }
    }
    Ok(())
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let slash = path.iter().rposition(|byte| *byte == b'/');
    slash.map_or((&b""[..], path), |at| (&path[..at], &path[at + 1..]))
}

fn parent(path: &[u8]) -> &[u8] {
    split(path).0
}

/// Whether it was renamed to where it is: what was edited too is brought over after that,
/// and what came along when its directory was renamed is dealt with later.
fn was_carried<T>(path: &[u8], what: &What, old: &Tree, new: &BTreeMap<Vec<u8>, T>) -> bool {
    let same_name = |from: &[u8]| split(from).1 == split(path).1;
    old.iter().filter(|(_, was)| was.what == *what).any(|(from, _)| {
        new.contains_key(path) || new.contains_key(parent(path)) && same_name(from)
    })
}

fn kept(replica: &Replica) -> [Tree; 3] {
    ["backup", "deleted", "replaced"]
        .map(|place| trees::read(&replica.at(format!(".osync_workdir/{place}"))))
}

/// While a path changes its kind it may be absent (spec 4, "Interruption").
fn same_kind(a: &What, b: &What) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

/// Whether rsync may have made this for a file that was to come: `.NAME.XXXXXX`, where a dot
/// at the beginning of its name is not doubled.
fn is_temporary(path: &[u8], new: &BTreeMap<Vec<u8>, impl Sized>) -> bool {
    let split = path.iter().rposition(|b| *b == b'/').map_or(0, |slash| slash + 1);
    let (dir, name) = path.split_at(split);
    let Some(stem) = name.strip_prefix(b".") else { return false };
    let Some(dot) = stem.iter().rposition(|b| *b == b'.') else { return false };
    // of a long name rsync takes as much as fits
    let starts = [&b""[..], b"."].map(|first| [dir, first, &stem[..dot]].concat());
    !stem[..dot].is_empty()
        && new.keys().any(|path| starts.iter().any(|start| path.starts_with(start)))
}

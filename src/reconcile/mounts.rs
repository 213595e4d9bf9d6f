//! File systems that are mounted below a replica's root, and are not there (spec 8, "Mount
//! points"): what a missing disk no longer shows was not deleted.
//!
//! Device numbers change from boot to boot, so they prove nothing between two runs. A directory
//! is known again by its inode and its time of birth. Where these differ, or where a file system
//! tells no birth, what the directory holds decides: as long as nothing that was known is
//! missing, nothing can be taken for deleted, and what has not even another ctime lies where it
//! lay.

use crate::state::{Baseline, BaselineDamaged, Cursor, Known, Record, Recorded};
use crate::tree::{Entry, NodeId, Pair, RelPath, Side, Standing, Tree, same};
use std::fmt;

/// A directory that is not the one that the baseline knows, because a file system is not mounted
/// there, or another one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotMounted {
    /// On which side.
    pub side: Side,
    /// The directory.
    pub path: RelPath,
    /// What is there instead.
    pub instead: Instead,
    /// What was known below it and is missing.
    pub lacking: Lacking,
}

/// What is there instead of what the baseline knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instead {
    /// Nothing is mounted there any more.
    Nothing,
    /// Another file system is.
    Another,
    /// One is mounted over a directory that had content.
    Over,
}

/// How much of what was known is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lacking {
    /// Entries that are missing.
    pub missing: u64,
    /// Entries that were known.
    pub known: u64,
    /// Entries that are there and have not changed since at all.
    pub untouched: u64,
    /// Entries that are there with the content that was recorded.
    pub same_content: u64,
}

impl fmt::Display for NotMounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lacking { missing, known, .. } = self.lacking;
        let what = match self.instead {
            Instead::Nothing => "not mounted: a file system was mounted here after the last run",
            Instead::Another => "another file system is mounted here than after the last run",
            Instead::Over => {
                "another file system is mounted over this directory since the last run"
            }
        };
        write!(
            f,
            "{what}, and {missing} of {known} known entries are missing. Nothing at or below it \
             was touched on either side. Mount the right one; if this is meant to stay so, run \
             once with --force-delete"
        )
    }
}

/// Finds the directories of both sides below which a file system is missing, or another one
/// has come.
///
/// # Errors
/// The baseline cannot be read.
pub fn not_mounted(
    trees: &Pair<Tree>,
    baseline: &Baseline,
) -> Result<Vec<NotMounted>, BaselineDamaged> {
    let mut found: Vec<NotMounted> = Vec::new();
    for side in Side::BOTH {
        let tree = &trees[side];
        let before = &baseline.header().mounts[side];
        let now = tree.mount_points().iter().map(|id| tree.path(*id));
        let mut paths: Vec<RelPath> = before.iter().cloned().chain(now).collect();
        paths.sort();
        paths.dedup();
        for path in paths {
            let is_told = |one: &NotMounted| one.side == side && path.is_within(&one.path);
            if found.iter().any(is_told) || !takes_part(tree, &path) {
                continue;
            }
            if let Some((instead, lacking)) = judge(tree, side, baseline, &path)? {
                found.push(NotMounted { side, path, instead, lacking });
            }
        }
    }
    Ok(found)
}

/// Whether a replica whose identity is torn is the one that the baseline knows: by its root, or
/// because most of its entries are as recorded (spec 8).
///
/// # Errors
/// The baseline cannot be read.
pub fn is_recognised(
    trees: &Pair<Tree>,
    baseline: &Baseline,
    side: Side,
) -> Result<bool, BaselineDamaged> {
    let tree = &trees[side];
    let root = tree.entry(Tree::ROOT).inode();
    if root.is_some() && root == baseline.header().roots[side] {
        return Ok(true);
    }
    let found = lacking(baseline.cursor(), tree, side, Some(Tree::ROOT))?;
    Ok(found.same_content * 2 > found.known)
}

/// The mount points that the next baseline knows: those that are there, and those of before
/// that could not be looked at.
#[must_use]
pub fn known_next(trees: &Pair<Tree>, before: &Pair<Vec<RelPath>>) -> Pair<Vec<RelPath>> {
    Pair::from_fn(|side| {
        let tree = &trees[side];
        // One below what is unknown is not recorded, so it is not known to be mounted either.
        let mounted = tree.mount_points().iter().map(|id| tree.path(*id));
        let present = mounted.filter(|path| takes_part(tree, path));
        let unknown = before[side].iter().filter(|path| {
            trees.iter().any(|(_, tree)| standing_at(tree, path) == Standing::Unknown)
        });
        let mut paths: Vec<RelPath> = present.chain(unknown.cloned()).collect();
        paths.sort();
        paths.dedup();
        paths
    })
}

/// The first standing on the way to a path that is not present; present where all is, or where
/// nothing is there.
fn standing_at(tree: &Tree, path: &RelPath) -> Standing {
    let mut at = Tree::ROOT;
    for name in path.components() {
        let Some(next) = tree.child(at, name) else { break };
        if tree.standing(next) != Standing::Present {
            return tree.standing(next);
        }
        at = next;
    }
    Standing::Present
}

fn takes_part(tree: &Tree, path: &RelPath) -> bool {
    standing_at(tree, path) == Standing::Present
}

fn judge(
    tree: &Tree,
    side: Side,
    baseline: &Baseline,
    path: &RelPath,
) -> Result<Option<(Instead, Lacking)>, BaselineDamaged> {
    let Some((record, below)) = look_up(baseline, path)? else { return Ok(None) };
    let Recorded::Seen(before) = &record.was[side] else { return Ok(None) };
    let id = tree.find(path);
    let now = id.map(|id| tree.entry(id)).filter(|entry| entry.kind.is_dir());
    let was_mounted = baseline.header().mounts[side].contains(path);
    let is_mounted = id.is_some_and(|id| tree.is_mount_point(id));
    let (instead, proof) = match (now, was_mounted, is_mounted) {
        (Some(now), ..) if identity(before, now) == DirMatch::Same => return Ok(None),
        // Renamed along with a directory above it.
        (None, ..) if is_elsewhere(tree, before) => return Ok(None),
        (Some(now), true, true) if identity(before, now) == DirMatch::Unclear => {
            (Instead::Another, Proof::Open)
        }
        (_, true, true) => (Instead::Another, Proof::Given),
        (Some(now), false, true) if identity(before, now) == DirMatch::Unclear => {
            (Instead::Over, Proof::Open)
        }
        (_, false, true) => (Instead::Over, Proof::Given),
        (_, true, false) => (Instead::Nothing, Proof::Given),
        (_, false, false) => return Ok(None),
    };
    let dir = id.filter(|_| now.is_some());
    let lacking = match below {
        Some(cursor) => lacking(cursor, tree, side, dir)?,
        None => Lacking::default(),
    };
    let counts = match proof {
        Proof::Given => lacking.missing > 0,
        // What is copied to another file system changes anew there.
        Proof::Open if lacking.untouched == 0 => lacking.missing > 0,
        // It may be the same one, and somebody has deleted something.
        Proof::Open => lacking.missing * 2 > lacking.known,
    };
    Ok(counts.then_some((instead, lacking)))
}

/// Whether it is proved that another directory is there.
#[derive(Clone, Copy)]
enum Proof {
    Given,
    Open,
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum DirMatch {
    Same,
    Other,
    Unclear,
}

/// Whether a directory is the one that was recorded. Its device number does not count: a disk
/// gets another one at each boot. The root of most file systems has the same inode everywhere, so
/// only the time of birth proves that it is the same; where both differ in what they know, or
/// inodes are given anew at each mount, nothing is proved.
fn identity(before: &Entry, now: &Entry) -> DirMatch {
    let births_known = before.btime.is_known() && now.btime.is_known();
    match (before.ino == now.ino, births_known, before.btime == now.btime) {
        (true, true, true) => DirMatch::Same,
        (_, true, false) => DirMatch::Other,
        _ => DirMatch::Unclear,
    }
}

fn is_elsewhere(tree: &Tree, before: &Entry) -> bool {
    let mut mounts = tree.mount_points().iter().map(|id| tree.entry(*id));
    mounts.any(|entry| identity(before, entry) == DirMatch::Same)
}

/// What the baseline says of a path, and where it tells of what lies below it.
fn look_up<'a>(
    baseline: &'a Baseline,
    path: &RelPath,
) -> Result<Option<(Record, Option<Cursor<'a>>)>, BaselineDamaged> {
    let mut cursor = baseline.cursor();
    let mut names = path.components().peekable();
    while let Some(name) = names.next() {
        let mut found: Option<Known<'_>> = None;
        for known in cursor.block()? {
            if known.name == name {
                found = Some(known);
                break;
            }
            if known.has_block {
                cursor.skip_subtree()?;
            }
        }
        let Some(known) = found else { return Ok(None) };
        if names.peek().is_none() {
            return Ok(Some((known.record, known.has_block.then_some(cursor))));
        }
        if !known.has_block {
            return Ok(None);
        }
    }
    Ok(None)
}

enum Below {
    Look(Option<NodeId>),
    Skip,
}

/// Counts what was there on a side below a directory, and what of that is missing now. What
/// takes no part, or could not be read, is not missing.
fn lacking(
    mut cursor: Cursor<'_>,
    tree: &Tree,
    side: Side,
    dir: Option<NodeId>,
) -> Result<Lacking, BaselineDamaged> {
    let mut lacking = Lacking::default();
    let mut pending = vec![Below::Look(dir)];
    while let Some(step) = pending.pop() {
        let Below::Look(dir) = step else {
            cursor.skip_subtree()?;
            continue;
        };
        let mut next = Vec::new();
        for known in cursor.block()? {
            let node = dir.and_then(|dir| tree.child(dir, known.name));
            if known.record.existed(side) {
                lacking.known += 1;
                lacking.missing += u64::from(node.is_none());
                if let (Recorded::Seen(before), Some(id)) = (&known.record.was[side], node) {
                    let now = tree.entry(id);
                    let is_untouched = now.kind == before.kind && now.ctime == before.ctime;
                    lacking.untouched += u64::from(is_untouched);
                    lacking.same_content += u64::from(same::stamps_agree(now, before));
                }
            }
            if known.has_block {
                let is_closed = node.is_some_and(|id| tree.standing(id) != Standing::Present);
                next.push(if is_closed { Below::Skip } else { Below::Look(node) });
            }
        }
        pending.extend(next.into_iter().rev());
    }
    Ok(lacking)
}

//! What makes way: how it is kept, and what becomes of what rsync has moved to the private
//! place (spec 8, "Kept versions").

use super::{BATCH, Cut, Steps};
use crate::reconcile::PathId;
use crate::replica::{
    Done, Fate, Keep, Keeping, KeptAt, Older, Op, PathError, Version, dated_kept_path, kept_path,
};
use crate::report::Level;
use crate::tree::same::{is_as_scanned, is_same_inode, stamps_agree};
use crate::tree::{Entry, Kind, RelPath, Side, Tree};
use std::collections::BTreeSet;

/// What an operation left behind, without what it tells of kept versions.
pub(super) type Outcome = Result<(), PathError>;

impl Steps<'_, '_> {
    /// How the version of a side is kept when it makes way.
    pub(super) fn keeping(&self, side: Side, path_id: PathId, keep: Keep) -> Keeping {
        let lost = self.losers[side].contains(&path_id);
        let latest_only = keep == Keep::Backup && !self.apply.config.policy.backup_multiple;
        Keeping {
            keep,
            version: if lost { Version::Protected } else { Version::Ordinary },
            older: if latest_only { Older::Replaced } else { Older::Dated },
        }
    }

    /// Notes where something is kept now, and names it if no scan has seen it.
    pub(super) fn kept(
        &mut self,
        side: Side,
        path_id: PathId,
        done: Result<Done, PathError>,
    ) -> Outcome {
        if let Done::Kept(at) = done? {
            if at.is_unseen {
                self.name_unseen(side, &self.path(path_id), &at.path());
            }
            self.applied.kept[side].insert(path_id, at);
        }
        Ok(())
    }

    fn name_unseen(&self, side: Side, path: &RelPath, at: &RelPath) {
        let text = format!(
            "it was changed or created while the run was going on, just before it was replaced; \
             that version is kept as {at}"
        );
        self.apply.around.reporter().problem(Level::Warn, Some(side), Some(path), &text);
    }

    /// Directories that were moved away as a whole are looked through once more: what somebody
    /// did in them since the last look is kept with them, and named.
    pub(super) fn look_into_kept(&mut self, side: Side, tops: &[PathId]) -> Result<(), Cut> {
        let preserve = &self.apply.config.preserve;
        if preserve.copy_symlinks || preserve.keep_dirlinks {
            return Ok(()); // from there, links lead elsewhere
        }
        let is_dir = |top: &PathId| self.scanned(*top, side).is_some_and(|e| e.kind.is_dir());
        let moved: Vec<(PathId, RelPath)> = tops
            .iter()
            .filter(|top| is_dir(top))
            .filter_map(|top| Some((*top, self.applied.kept[side].get(top)?.path())))
            .collect();
        for moved in moved.chunks(BATCH) {
            let paths: Vec<RelPath> = moved.iter().map(|(_, at)| at.clone()).collect();
            let found = self.apply.replicas[side].look_below(&paths)?;
            for ((top, at), found) in moved.iter().zip(found) {
                let is_same = match found {
                    Ok(Some(tree)) => {
                        // what came from another file system was copied: its inodes are new
                        let there = tree.entry(Tree::ROOT).dev;
                        let is_moved = self.scanned(*top, side).is_some_and(|e| e.dev == there);
                        let same = if is_moved { is_as_scanned } else { stamps_agree };
                        self.holds_just_what_was_scanned(side, *top, &tree, same)
                    }
                    Ok(None) | Err(_) => true,
                };
                if !is_same {
                    let text = format!(
                        "something in it was changed or created while it was moved away; all of \
                         it is kept as {at}"
                    );
                    self.problem(Level::Warn, side, *top, &text);
                }
            }
        }
        Ok(())
    }

    /// Decides about everything that rsync has replaced on a side: it lies in the private
    /// place.
    pub(super) fn settle_replaced(&mut self, side: Side) -> Result<(), Cut> {
        let private = self.apply.replicas[side].private_place();
        let found = self.apply.replicas[side].look_below(std::slice::from_ref(&private))?.pop();
        let tree = match found {
            None | Some(Ok(None)) => return Ok(()),
            Some(Ok(Some(tree))) => tree,
            Some(Err(error)) => {
                let text = format!("cannot look at what was replaced: {error}");
                self.apply.around.reporter().problem(
                    Level::Error,
                    Some(side),
                    Some(&private),
                    &text,
                );
                return Ok(());
            }
        };
        let ids: Vec<_> = tree.ids().filter(|id| !tree.entry(*id).kind.is_dir()).collect();
        let unmoved = self.not_replaced_after_all(side, &tree)?;
        for ids in ids.chunks(BATCH) {
            let replaced: Vec<Replaced> = ids
                .iter()
                .map(|id| (tree.path(*id), tree.entry(*id).clone()))
                .map(|(path, found)| self.judge_replaced(side, path, found, &unmoved))
                .collect();
            let ops: Vec<Op> = replaced.iter().map(|replaced| replaced.op(&private)).collect();
            let results = self.apply.replicas[side].apply(&ops)?;
            for (replaced, result) in replaced.into_iter().zip(results) {
                self.settled(side, replaced, result);
            }
        }
        Ok(())
    }

    /// Where a call of rsync was broken off, it may have come between its two steps, a second
    /// name for the old version and the new version in its place: then nothing was replaced.
    fn not_replaced_after_all(
        &mut self,
        side: Side,
        replaced: &Tree,
    ) -> Result<BTreeSet<RelPath>, Cut> {
        if !self.applied.unsettled[side] {
            return Ok(BTreeSet::new());
        }
        Ok(same_files(self.apply.replicas[side].as_mut(), replaced)?)
    }

    fn judge_replaced(
        &self,
        side: Side,
        path: RelPath,
        found: Entry,
        unmoved: &BTreeSet<RelPath>,
    ) -> Replaced {
        let preserve = &self.apply.config.preserve;
        let follows = preserve.copy_symlinks || preserve.keep_dirlinks;
        let path_id = self.delta().find(&path);
        let scanned = path_id.and_then(|path_id| self.scanned(path_id, side));
        let is_unmoved = unmoved.contains(&path);
        // A link that counts as what it points at is a link here.
        let is_seen = scanned.is_some_and(|scanned| {
            stamps_agree(&found, scanned)
                || (follows && found.kind == Kind::Symlink)
                || is_untold_device(&found, scanned)
        });
        // Another file of the same size and time under the name: nothing says that it is the
        // one that was scanned, and nothing that somebody wants it back.
        let is_another = scanned.is_some_and(|scanned| {
            scanned.dev == found.dev && !is_same_inode(scanned, &found) && !follows
        });
        // What may be damaged replaces nothing for good.
        let is_always_kept = path_id.is_some_and(|id| self.plan().always_kept.contains(&id));
        let policy = &self.apply.config.policy;
        let fate = if is_unmoved {
            Fate::Discard
        } else if !is_seen {
            let (version, older) = (Version::Protected, Older::Dated);
            let keeping = Keeping { keep: Keep::Backup, version, older };
            Fate::Keep { kept: kept_path(&path), keeping }
        } else if policy.backup || is_another || is_always_kept {
            let keep = Keep::Backup;
            let keeping = path_id.map(|path_id| self.keeping(side, path_id, keep));
            let (version, older) = (Version::Ordinary, Older::Dated);
            let kept = if policy.backup_multiple {
                dated_kept_path(&path, &self.apply.stamp)
            } else {
                kept_path(&path)
            };
            Fate::Keep { kept, keeping: keeping.unwrap_or(Keeping { keep, version, older }) }
        } else {
            Fate::Discard
        };
        Replaced { path, path_id, found, fate, is_unseen: !is_seen && !is_unmoved }
    }

    fn settled(&mut self, side: Side, replaced: Replaced, result: Result<Done, PathError>) {
        match result {
            Ok(Done::Plainly) => {}
            Ok(Done::Kept(at)) => {
                let at = KeptAt { is_unseen: replaced.is_unseen, ..at };
                if at.is_unseen {
                    self.name_unseen(side, &replaced.path, &at.path());
                }
                if let Some(path_id) = replaced.path_id {
                    self.applied.kept[side].insert(path_id, at);
                }
            }
            Err(error) => {
                let text = format!(
                    "cannot put the version that was replaced where it belongs: {error}; it lies \
                     in .osync_workdir/replaced, and the next run tries again"
                );
                let reporter = self.apply.around.reporter();
                reporter.problem(Level::Error, Some(side), Some(&replaced.path), &text);
            }
        }
    }
}

/// Something in the private place.
struct Replaced {
    path: RelPath,
    path_id: Option<PathId>,
    found: Entry,
    fate: Fate,
    is_unseen: bool,
}

impl Replaced {
    fn op(&self, private: &RelPath) -> Op {
        let replaced = self.path.components().fold(private.clone(), |at, name| at.join(name));
        Op::Settle { replaced, found: self.found.clone(), fate: self.fate.clone() }
    }
}

/// The paths in a private place whose file still has its own name too.
pub(in crate::task) fn same_files(
    replica: &mut dyn crate::replica::Replica,
    replaced: &Tree,
) -> Result<BTreeSet<RelPath>, crate::replica::ReplicaError> {
    let ids: Vec<_> = replaced.ids().filter(|id| !replaced.entry(*id).kind.is_dir()).collect();
    let mut same = BTreeSet::new();
    for ids in ids.chunks(BATCH) {
        let paths: Vec<RelPath> = ids.iter().map(|id| replaced.path(*id)).collect();
        let now = replica.stat(&paths)?;
        for ((id, path), now) in ids.iter().zip(paths).zip(now) {
            let old = replaced.entry(*id);
            if matches!(now, Ok(Some(now)) if (now.dev, now.ino) == (old.dev, old.ino)) {
                same.insert(path);
            }
        }
    }
    Ok(same)
}

/// Whether the same device stands there, as far as its kind and time tell: over the bare shell a
/// listing of what is below has no device numbers.
fn is_untold_device(found: &Entry, scanned: &Entry) -> bool {
    matches!(found.kind, Kind::CharDevice | Kind::BlockDevice)
        && found.kind == scanned.kind
        && found.mtime == scanned.mtime
}

//! What an interrupted run left behind: rsync's temporary files (spec 4, "Interruption"), and
//! what it had replaced or removed and not yet put anywhere (spec 8, "Kept versions").

use super::Task;
use super::apply::versions::same_files;
use super::outcome::Halt;
use crate::process::fault;
use crate::replica::temp::{self, Suffix};
use crate::replica::{Fate, Keep, Keeping, Older, Op, REPLACED, Version, WORK_DIR, kept_path};
use crate::report::Level;
use crate::report::words::counted;
use crate::state::{Inflight, InflightPath, Part};
use crate::tree::{Abilities, Entry, Kind, NodeId, Pair, RelPath, Side, Standing, Tree};
use std::collections::BTreeMap;

/// What may be a temporary file of rsync's, and what becomes of it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftOver {
    /// Where it is in the tree of its side.
    pub id: NodeId,
    /// How sure it is.
    pub proof: Proof,
}

/// How sure it is that rsync left something behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// Its name is one that chance made, and it is no more than what was being brought over: it
    /// is removed.
    Ours,
    /// It may be somebody's own as well: it is kept in `backup/`.
    Doubtful,
}

/// Finds rsync's temporary files on a side: named after a path that was being brought there, in
/// its directory, and younger than the run that was broken off. What the other side has under
/// the same name is somebody's file.
pub fn find(
    trees: &Pair<Tree>,
    side: Side,
    inflight: &Inflight,
    abilities: &Abilities,
) -> Vec<LeftOver> {
    let finder = Finder { trees, side, inflight, abilities };
    let mut found = Vec::new();
    let mut names: BTreeMap<RelPath, Vec<Vec<u8>>> = BTreeMap::new();
    let came = |flying: &&InflightPath| flying.to == side && brings(flying.part);
    for flying in inflight.paths.iter().filter(came) {
        if let Some(parent) = flying.path.parent() {
            names.entry(parent).or_default().push(flying.path.name().to_vec());
        }
        if flying.part == Part::Subtree {
            finder.below(&flying.path, &mut found);
        }
    }
    for (dir, names) in names {
        finder.in_dir(&dir, &names, &mut found);
    }
    // what was found twice counts by the better proof
    found.sort_unstable();
    found.dedup_by_key(|left| left.id);
    found
}

fn brings(part: Part) -> bool {
    matches!(part, Part::Itself | Part::Subtree)
}

/// How many operations go to a replica at once.
const BATCH: usize = 1000;

impl Task<'_> {
    /// What lies in the private places of runs that were broken off is kept in `backup/`:
    /// nobody knows any more whether a scan had seen it. Where the file has its own name
    /// still, nothing had been replaced yet.
    pub(super) fn rescue_replaced(&mut self) -> Result<(), Halt> {
        if self.is_dry() || self.config.flags.no_locks {
            return Ok(()); // it may be the work of a run that is going on
        }
        for side in Side::BOTH {
            if self.replicas[side].has_left_overs() {
                self.rescue_on(side)?;
            }
        }
        Ok(())
    }

    fn rescue_on(&mut self, side: Side) -> Result<(), Halt> {
        let replaced = RelPath::root().join(WORK_DIR).join(REPLACED.as_bytes());
        let found = self.replicas[side].look_below(std::slice::from_ref(&replaced))?.pop();
        let Some(Ok(Some(all))) = found else { return Ok(()) };
        let runs: Vec<RelPath> = all
            .children(Tree::ROOT)
            .filter(|run| all.entry(*run).kind.is_dir())
            .map(|run| replaced.join(all.name(run)))
            .collect();
        let mut kept = 0;
        for (run, tree) in runs.iter().zip(self.replicas[side].look_below(&runs)?) {
            let Ok(Some(tree)) = tree else { continue };
            let unmoved = same_files(self.replicas[side].as_mut(), &tree)?;
            let (mut files, mut dirs) = (Vec::new(), Vec::new());
            for id in tree.ids() {
                let path = tree.path(id);
                let at = path.components().fold(run.clone(), |at, name| at.join(name));
                let entry = tree.entry(id).clone();
                if entry.kind.is_dir() {
                    dirs.push(Op::Remove { path: at, expect: entry });
                    continue;
                }
                let (version, older) = (Version::Protected, Older::Dated);
                let fate = if unmoved.contains(&path) {
                    Fate::Discard
                } else {
                    kept += 1;
                    let keeping = Keeping { keep: Keep::Backup, version, older };
                    Fate::Keep { kept: kept_path(&path), keeping }
                };
                files.push(Op::Settle { replaced: at, found: entry, fate });
            }
            // Parents stand before what they hold.
            dirs.reverse();
            dirs.push(Op::Remove { path: run.clone(), expect: tree.entry(Tree::ROOT).clone() });
            for ops in files.chunks(BATCH).chain(dirs.chunks(BATCH)) {
                for (op, result) in ops.iter().zip(self.replicas[side].apply(ops)?) {
                    if let (Op::Settle { .. }, Err(error)) = (op, result) {
                        let text = format!(
                            "an interrupted run had moved this out of the way, and it cannot be \
                             put into backup/: {error}"
                        );
                        let reporter = self.around.reporter();
                        reporter.problem(Level::Warn, Some(side), Some(op.path()), &text);
                    }
                }
                fault::point("rescued");
            }
        }
        if kept > 0 {
            let text = format!(
                "{side}: kept in .osync_workdir/backup: {} that an interrupted run had moved out of \
                 the way",
                counted(kept, "version")
            );
            self.say(Level::Notice, &text);
        }
        self.replicas[side].close_private_place()?;
        Ok(())
    }
}

struct Finder<'a> {
    trees: &'a Pair<Tree>,
    side: Side,
    inflight: &'a Inflight,
    abilities: &'a Abilities,
}

impl Finder<'_> {
    fn in_dir(&self, dir: &RelPath, names: &[Vec<u8>], found: &mut Vec<LeftOver>) {
        let tree = &self.trees[self.side];
        let other = &self.trees[self.side.other()];
        let across = other.find(dir);
        let Some(here) = tree.find(dir) else { return };
        for child in tree.children(here) {
            let (name, entry) = (tree.name(child), tree.entry(child));
            let may_be_ours = name.first() == Some(&b'.')
                && tree.standing(child) == Standing::Present
                && entry.ctime > self.inflight.began[self.side]
                && across.is_none_or(|dir| other.child(dir, name).is_none());
            if !may_be_ours {
                continue;
            }
            let proof = |flying: &Vec<u8>| {
                let suffix = temp::left_over(name, entry.kind, flying)?;
                let source = across.and_then(|dir| other.child(dir, flying));
                self.proof(suffix, entry, source.map(|id| other.entry(id)))
            };
            if let Some(proof) = names.iter().filter_map(proof).min() {
                found.push(LeftOver { id: child, proof });
            }
        }
    }

    /// What is known of something that has such a name, beside what it may be a copy of. A file
    /// on its way is never larger than its source, and open to its owner only until it is whole.
    fn proof(&self, suffix: Suffix, left: &Entry, source: Option<&Entry>) -> Option<Proof> {
        let source = source.filter(|source| source.kind == left.kind);
        match left.kind {
            Kind::File => {
                let is_like_source = source.is_some_and(|source| {
                    let is_closed = !self.abilities.modes || left.mode & 0o077 == 0;
                    left.size <= source.size && (is_closed || left.mode == source.mode)
                });
                match (suffix, is_like_source) {
                    (Suffix::Chance, true) => Some(Proof::Ours),
                    (Suffix::Chance, false) | (Suffix::Word, true) => Some(Proof::Doubtful),
                    (Suffix::Word, false) => None,
                }
            }
            // All that it says is at its source as well.
            Kind::Symlink => {
                let is_copy = source.is_some_and(|source| source.link() == left.link());
                is_copy.then_some(Proof::Ours)
            }
            _ => source.map(|_| Proof::Doubtful),
        }
    }

    /// A whole subtree was in flight: its names are those that the sending side has.
    fn below(&self, top: &RelPath, found: &mut Vec<LeftOver>) {
        let source = &self.trees[self.side.other()];
        let Some(top_id) = source.find(top) else { return };
        let mut dirs = vec![(top_id, top.clone())];
        while let Some((dir, path)) = dirs.pop() {
            let names: Vec<Vec<u8>> =
                source.children(dir).map(|id| source.name(id).to_vec()).collect();
            self.in_dir(&path, &names, found);
            for child in source.children(dir) {
                if source.entry(child).kind.is_dir() {
                    dirs.push((child, path.join(source.name(child))));
                }
            }
        }
    }
}

//! CHECKSUM: reads the contents that a run must compare (spec 4, "Deciding one path").

use super::Task;
use super::outcome::Halt;
use crate::process::Stop;
use crate::reconcile::change;
use crate::replica::{DigestKind, PathError, Replica, ReplicaError};
use crate::report::words::counted;
use crate::report::{Level, Problem};
use crate::state::Baseline;
use crate::tree::{Entry, NodeId, Pair, RelPath, Side, Tree};

/// How many files are asked for at once; between two batches the run may stop.
const BATCH: usize = 500;

type Read = Vec<(NodeId, Result<[u8; 32], PathError>)>;

impl Task<'_> {
    /// Gives the entries of files their digests, from the baseline or by reading. What
    /// cannot be read is unknown: it is left alone on both sides.
    pub(super) fn read_contents(
        &mut self,
        trees: &mut Pair<Tree>,
        baseline: &Baseline,
    ) -> Result<(), Halt> {
        if !self.config.preserve.checksum {
            return Ok(());
        }
        let Some(kind) = self.common_digest() else { return Ok(()) };
        if kind == DigestKind::Cksum {
            let text = "CHECKSUM: the remote machine has no program for SHA-256 (sha256sum, shasum, \
                        sha256 or openssl), so contents are compared by size and the CRC of cksum";
            self.say(Level::Notice, text);
        }
        let wanted =
            change::recall_digests(trees, baseline, sort(kind), &self.file_systems.abilities)
                .map_err(|e| Halt::state(&e))?;
        let stop = self.around.stop;
        let found = {
            let Pair { initiator, target } = self.replicas.as_mut();
            let ids = Pair::from_fn(|side| wanted[side].iter().copied().collect::<Vec<_>>());
            let trees = &*trees;
            std::thread::scope(|scope| {
                let there =
                    scope.spawn(|| read(target.as_mut(), kind, &trees.target, &ids.target, stop));
                let here = read(initiator.as_mut(), kind, &trees.initiator, &ids.initiator, stop);
                Pair::new(Ok(here), there.join())
            })
        };
        self.check_stop()?;
        for (side, result) in [(Side::Initiator, found.initiator), (Side::Target, found.target)] {
            let read = result.map_err(|_| Halt::fatal("the reading of contents broke off"))??;
            let files = counted(read.len() as u64, "file");
            let text = format!("{side}: read {files} to compare contents");
            self.say(Level::Verbose, &text);
            for (id, digest) in read {
                self.take_digest(&mut trees[side], side, id, sort(kind), digest);
            }
        }
        Ok(())
    }

    fn take_digest(
        &self,
        tree: &mut Tree,
        side: Side,
        id: NodeId,
        sort: u8,
        digest: Result<[u8; 32], PathError>,
    ) {
        match digest {
            Ok(digest) => change::set_digest(tree.entry_mut(id), sort, digest),
            // It is looked at again before anything is done to it.
            Err(PathError::Vanished | PathError::Changed) => {}
            Err(error) => {
                let text = format!(
                    "its content cannot be compared (CHECKSUM): {error}; it is left alone on both \
                     sides"
                );
                let path = Some(tree.path(id));
                let problem = Problem { level: Level::Error, side: Some(side), path, text };
                self.around.reporter().tell(crate::report::Event::Problem(&problem));
                tree.mark_unknown(id);
            }
        }
    }

    /// Before the trees become the next baseline.
    pub(super) fn forget_fresh_contents(&self, trees: &mut Pair<Tree>) {
        if self.config.preserve.checksum {
            for side in Side::BOTH {
                change::forget_fresh(&mut trees[side], self.began[side]);
            }
        }
    }

    /// The best digest that both sides can make.
    pub(super) fn common_digest(&self) -> Option<DigestKind> {
        let kinds = Pair::from_fn(|side| self.replicas[side].digest_kinds());
        kinds.initiator.iter().find(|kind| kinds.target.contains(kind)).copied()
    }
}

fn read(
    replica: &mut dyn Replica,
    kind: DigestKind,
    tree: &Tree,
    ids: &[NodeId],
    stop: &Stop,
) -> Result<Read, ReplicaError> {
    let mut found = Read::new();
    for ids in ids.chunks(BATCH) {
        if stop.reason().is_some() {
            break;
        }
        let scanned = |id: &NodeId| (tree.path(*id), tree.entry(*id).clone());
        let scanned: Vec<(RelPath, Entry)> = ids.iter().map(scanned).collect();
        found.extend(ids.iter().copied().zip(replica.digest(kind, &scanned)?));
    }
    Ok(found)
}

/// The number of a sort of digest in the baseline.
fn sort(kind: DigestKind) -> u8 {
    match kind {
        DigestKind::Blake3 => 1,
        DigestKind::Sha256 => 2,
        DigestKind::Cksum => 3,
    }
}

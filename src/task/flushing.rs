//! A baseline never claims more than the disk holds (8-knowing, "On the disk").
//!
//! Both sides are flushed, the source too: what was sent may be in its machine's memory
//! only, and what a power cut took from it would look like somebody's deletion.

use super::Task;
use super::outcome::Halt;
use crate::process::fault;
use crate::reconcile::record::Claims;
use crate::replica::{Flush, Flushed, ReplicaError};
use crate::report::Level;
use crate::tree::{Pair, RelPath, Tree};
use std::collections::BTreeSet;

impl Task<'_> {
    /// Waits until what the next baseline says otherwise than the one before is on the disks.
    ///
    /// # Errors
    /// A disk is gone, or a connection. Then nothing may be recorded.
    pub(super) fn flush(&mut self, trees: &Pair<Tree>, claims: &Claims) -> Result<(), Halt> {
        if claims.is_empty() {
            return Ok(());
        }
        self.say(Level::Verbose, "waiting until what was written is on the disk");
        let what = Pair::from_fn(|side| Flush {
            paths: claims.few().map(<[RelPath]>::to_vec),
            file_systems: other_file_systems(&trees[side]),
        });
        let Pair { initiator, target } = &mut self.replicas;
        let flushed = std::thread::scope(|scope| {
            let there = scope.spawn(|| target.flush(&what.target));
            let here = initiator.flush(&what.initiator);
            (here, there.join())
        });
        fault::point("flushed");
        let (initiator, Ok(target)) = flushed else {
            return Err(Halt::fatal("waiting for the disk broke off"));
        };
        for (side, flushed) in Pair::new(initiator, target).iter() {
            match flushed {
                Ok(Flushed::Yes) => {}
                Ok(Flushed::NoTool) => self.say(
                    Level::Notice,
                    &format!(
                        "{side}: its machine has no `sync`, so nobody can tell what is on its disk; \
                         a power cut there may take what was brought over just now"
                    ),
                ),
                Err(error) => return Err(Halt::Replica(nothing_recorded(error))),
            }
        }
        Ok(())
    }
}

fn nothing_recorded(error: &ReplicaError) -> ReplicaError {
    ReplicaError {
        side: error.side,
        location: error.location.clone(),
        what: format!(
            "{}; nothing of this run is recorded, and the next run decides anew",
            error.what
        ),
        trouble: error.trouble,
    }
}

/// A directory on each file system that is mounted below the root.
fn other_file_systems(tree: &Tree) -> Vec<RelPath> {
    let mut seen = BTreeSet::from([tree.entry(Tree::ROOT).dev]);
    let dirs = tree.ids().filter(|id| tree.entry(*id).kind.is_dir());
    dirs.filter(|id| seen.insert(tree.entry(*id).dev)).map(|id| tree.path(id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Child, Entry, Kind, Standing, TreeBuilder};

    #[test]
    fn each_file_system_below_the_root_is_flushed_once() {
        let on = |kind, dev| {
            let mut entry = Entry::new(kind);
            entry.dev = dev;
            entry
        };
        let child =
            |name: &str, entry| Child { name: name.into(), standing: Standing::Present, entry };
        let mut builder = TreeBuilder::new(on(Kind::Dir, 1));
        let children = [
            child("a", on(Kind::Dir, 1)),
            child("file", on(Kind::File, 4)),
            child("one", on(Kind::Dir, 2)),
            child("same", on(Kind::Dir, 2)),
        ];
        let Some(a) = builder.fill(Tree::ROOT, children.into()).unwrap().next() else { panic!() };
        let _ = builder.fill(a, vec![child("two", on(Kind::Dir, 3))]).unwrap();
        let found = other_file_systems(&builder.finish());
        assert_eq!(found, ["one", "a/two"].map(|path| RelPath::new(path).unwrap()));
    }
}

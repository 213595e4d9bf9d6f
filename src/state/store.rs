//! The state files of one task: loading the baseline, and keeping the next one (spec 3).

use super::baseline::Baseline;
use super::dir::StateDir;
use super::error::{Shown, StateError};
use super::files::{FileStamp, Files, Fresh};
use super::found::{FoundList, Ours};
use super::snapshot::{self, ListMark, WrittenList};
use super::{Header, lists};
use crate::tree::{Pair, RelPath, Side};
use std::io;
use std::path::PathBuf;

/// How much a note matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// Worth a line.
    Notice,
    /// Something is not as it should be.
    Warning,
}

/// Something to tell about the state that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// How much it matters.
    pub weight: Weight,
    /// What.
    pub text: String,
}

/// The baseline as it was found.
#[derive(Debug)]
pub struct Loaded {
    /// What was there after the last run.
    pub baseline: Baseline,
    /// What to tell about it.
    pub notes: Vec<Note>,
    /// The lists that lie there now.
    lists: Pair<Option<FoundList>>,
    /// Whether all files are there as the last run left them.
    complete: bool,
}

impl Loaded {
    /// Puts the same baseline in its place, with other spellings of some names.
    pub fn respell(&mut self, baseline: Baseline) {
        self.baseline = baseline;
        // the files say something else now
        self.complete = false;
    }
}

/// What a run did beside its baseline.
#[derive(Debug, Default)]
pub struct RunLists {
    /// Paths found deleted on each side.
    pub deleted: Pair<Vec<RelPath>>,
    /// Deletions that could not be made on each side.
    pub failed_deletes: Pair<Vec<RelPath>>,
}

/// Whether a run had anything to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// The baseline is the one before; its files were not touched.
    Unchanged,
    /// Snapshot and lists are new.
    Written,
}

/// The state files of one task.
#[derive(Debug)]
pub struct StateStore {
    pub(super) files: Files,
    instance: String,
}

impl StateStore {
    /// Looks at nothing yet.
    ///
    /// # Errors
    /// The instance id cannot be a part of file names.
    pub fn open(dir: StateDir, instance_id: &str) -> Result<Self, StateError> {
        if instance_id.is_empty() || instance_id.contains(['/', '\0']) {
            return Err(StateError::Instance(instance_id.to_owned()));
        }
        Ok(StateStore { files: Files::new(dir), instance: instance_id.to_owned() })
    }

    /// The instance ids of all tasks that have a baseline in a directory.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn instances(dir: &StateDir) -> Result<Vec<String>, StateError> {
        let names = Files::new(dir.clone()).names()?;
        let starts = ["snapshot-", "initiator-tree-after-", "target-tree-after-"];
        let id = |name: &String| {
            starts.iter().find_map(|start| name.strip_prefix(start)).map(str::to_owned)
        };
        let mut ids: Vec<String> =
            names.iter().filter_map(id).filter(|id| !id.is_empty()).collect();
        ids.sort();
        ids.dedup();
        Ok(ids)
    }

    /// INSTANCE_ID.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Where the files lie.
    #[must_use]
    pub fn dir(&self) -> &StateDir {
        self.files.dir()
    }

    pub(super) fn name(&self, what: &str) -> String {
        format!("{what}-{}", self.instance)
    }

    pub(super) fn side_name(&self, side: Side, what: &str) -> String {
        format!("{side}-{what}-{}", self.instance)
    }

    /// The baseline after the last run, be it ours or one of osync 1.3. Changes nothing.
    ///
    /// # Errors
    /// A file cannot be read, or the snapshot is damaged, foreign or newer. That never
    /// counts as "nothing existed": only [`StateStore::start_over`] does.
    pub fn load(&self) -> Result<Loaded, StateError> {
        let old = self.read_snapshot()?;
        let marks = old.as_ref().map(|(_, marks, _)| *marks).unwrap_or_default();
        let written_at = old.as_ref().map(|(_, _, stamp)| stamp.mtime);
        let lists = self.find_lists(&marks, written_at)?;
        let old = old.map(|(baseline, _, _)| baseline);
        let foreign =
            Side::BOTH.iter().any(|side| lists[*side].is_some_and(|l| l.ours == Ours::No));
        if foreign {
            let listed_at = lists.map(|list| list.map(|list| list.stamp.mtime));
            let (baseline, notes) = self.adopt(old.as_ref(), listed_at)?;
            return Ok(Loaded { baseline, notes, lists, complete: false });
        }
        let complete = old.is_some()
            && Side::BOTH.iter().all(|side| lists[*side].is_some_and(|l| l.ours == Ours::Yes));
        let baseline = old.unwrap_or_else(Baseline::empty);
        Ok(Loaded { baseline, notes: Vec::new(), lists, complete })
    }

    /// For `--initialize`: nothing existed, whatever the files say.
    ///
    /// # Errors
    /// The lists cannot be read.
    pub fn start_over(&self) -> Result<Loaded, StateError> {
        let lists = self.find_lists(&Pair::default(), None)?;
        Ok(Loaded { baseline: Baseline::empty(), notes: Vec::new(), lists, complete: false })
    }

    pub(super) fn snapshot_path(&self) -> PathBuf {
        self.files.path(&self.name("snapshot"))
    }

    pub(super) fn list_path(&self, side: Side) -> PathBuf {
        self.files.path(&self.side_name(side, "tree-after"))
    }

    pub(super) fn read_snapshot(
        &self,
    ) -> Result<Option<(Baseline, Pair<ListMark>, FileStamp)>, StateError> {
        let name = self.name("snapshot");
        let Some((bytes, stamp)) = self.files.read(&name)? else { return Ok(None) };
        let (baseline, marks) = snapshot::decode(bytes).map_err(|why| StateError::Snapshot {
            path: Shown::new(self.files.path(&name)),
            why,
        })?;
        Ok(Some((baseline, marks, stamp)))
    }

    /// Keeps the baseline that a run achieved. Where nothing changed, nothing is written.
    ///
    /// First the snapshot takes its place, then the lists. In between the old lists lie
    /// beside the new snapshot, which knows their digests, so that they are not taken for
    /// lists that osync 1.3 has written since (docs/state-format.md, "Order of writing").
    ///
    /// # Errors
    /// A file cannot be written. Then each file is either its old or its new version.
    pub fn save(
        &self,
        before: &Loaded,
        after: &Baseline,
        run: &RunLists,
    ) -> Result<Saved, StateError> {
        let saved = self.save_baseline(before, after)?;
        for side in Side::BOTH {
            let deleted = lists::encode_paths(&run.deleted[side]);
            self.files.update(&self.side_name(side, "deleted-list"), &deleted)?;
            let failed = lists::encode_paths(&run.failed_deletes[side]);
            let name = self.side_name(side, "failed-delete");
            if failed.is_empty() {
                self.files.remove(&name)?;
            } else {
                self.files.update(&name, &failed)?;
            }
        }
        Ok(saved)
    }

    /// Whether [`StateStore::save`] would write a new baseline.
    #[must_use]
    pub fn is_news(&self, before: &Loaded, after: &Baseline) -> bool {
        !before.complete
            || !says_the_same(&before.baseline, after, &header(&before.baseline, after))
    }

    fn save_baseline(&self, before: &Loaded, after: &Baseline) -> Result<Saved, StateError> {
        let header = header(&before.baseline, after);
        if before.complete && says_the_same(&before.baseline, after, &header) {
            return Ok(Saved::Unchanged);
        }
        self.files.sweep(&self.names())?;
        let (initiator, target) = std::thread::scope(|scope| {
            let target = scope.spawn(|| self.prepare_list(Side::Target, after, before));
            (self.prepare_list(Side::Initiator, after, before), target.join())
        });
        let (initiator, target) = match target {
            Ok(target) => (initiator?, target?),
            Err(panic) => std::panic::resume_unwind(panic),
        };
        let marks = Pair::new(initiator.0, target.0);
        let name = self.name("snapshot");
        let write = |out: &mut dyn io::Write| snapshot::write(&header, after, &marks, out);
        let (fresh, ()) = self.files.prepare(&name, write)?;
        fresh.sync()?;
        fresh.place()?;
        self.files.sync()?;
        for fresh in [initiator.1, target.1].into_iter().flatten() {
            fresh.place()?;
        }
        self.files.sync()?;
        Ok(Saved::Written)
    }

    /// Writes a list beside the one it is to replace; none if that says the same.
    fn prepare_list(
        &self,
        side: Side,
        after: &Baseline,
        before: &Loaded,
    ) -> Result<(ListMark, Option<Fresh>), StateError> {
        let name = self.side_name(side, "tree-after");
        let write = |out: &mut dyn io::Write| lists::write_tree(after, side, out);
        let (fresh, digest) = self.files.prepare(&name, write)?;
        let found = before.lists[side];
        let replaced = found.map(|list| list.digest);
        Ok(match found.filter(|list| list.digest == digest) {
            Some(same) => (
                ListMark { written: Some(WrittenList { digest, stamp: same.stamp }), replaced },
                None,
            ),
            None => {
                fresh.sync()?;
                let written = Some(WrittenList { digest, stamp: fresh.stamp()? });
                (ListMark { written, replaced }, Some(fresh))
            }
        })
    }

    /// All names that files of this task have.
    pub(super) fn names(&self) -> Vec<String> {
        let of_side = ["tree-after", "deleted-list", "failed-delete", "last-action"];
        let of_task = [
            "snapshot",
            "run",
            "inflight",
            "resume-count",
            "conflicts",
            "last-run",
            "told-mail",
            "told-notify",
            "file-systems",
            "compared",
            "settled",
        ];
        let both = Side::BOTH.into_iter();
        both.flat_map(|side| of_side.map(|what| self.side_name(side, what)))
            .chain(of_task.map(|what| self.name(what)))
            .collect()
    }
}

/// What is kept beside the paths. Of a path that was not decided (a failed deletion, say)
/// the word of osync 1.3's list is kept, and with it the time of that list.
fn header(before: &Baseline, after: &Baseline) -> Header {
    let mut header = after.header().clone();
    for side in Side::BOTH {
        let time = &mut header.listed_at[side];
        if !time.is_known() {
            *time = before.header().listed_at[side];
        }
    }
    header
}

/// Whether two baselines differ in nothing but when and by whom they were written.
fn says_the_same(before: &Baseline, after: &Baseline, header: &Header) -> bool {
    let old = before.header();
    before.body() == after.body()
        && old.identities == header.identities
        && old.listed_at == header.listed_at
        && old.mounts == header.mounts
        && old.covers == header.covers
        && old.roots == header.roots
}

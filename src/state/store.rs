//! The state files of one task: loads the baseline before a run and saves the next one after it
//! (spec 3).

use super::baseline::{Baseline, BaselineDamaged};
use super::error::{Shown, StateError};
use super::files::{Files, Fresh, StateDir};
use super::lists::{self, List, Lists, merge, parse};
use super::ours::TooOpen;
use super::snapshot::{self, Digest, ListMark, WrittenList};
use super::{FileStamp, Header};
use crate::threads;
use crate::tree::path::escape;
use crate::tree::{Pair, RelPath, Side, Stamp};
use std::io::{self, Read};
use std::path::PathBuf;

/// The level at which a note is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteLevel {
    /// An ordinary notice.
    Notice,
    /// Something is wrong.
    Warning,
}

/// Something to report about the state files that were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The level.
    pub level: NoteLevel,
    /// The message.
    pub text: String,
}

/// The baseline as it was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// What both sides had after the last run.
    pub baseline: Baseline,
    /// What to report about it.
    pub notes: Vec<Note>,
    /// The lists in the state directory.
    lists: Pair<Option<FoundList>>,
    /// Whether all files are as the last run left them, so that an equal baseline need not be
    /// saved again.
    files_are_current: bool,
}

impl Loaded {
    /// Replaces the baseline by one with other spellings of some names.
    pub fn respell(&mut self, baseline: Baseline) {
        self.baseline = baseline;
        // The files on the disk have the old spellings.
        self.files_are_current = false;
    }
}

/// What else a run records: its deletions.
#[derive(Debug, Default)]
pub struct RunLists {
    /// Paths found deleted on each side.
    pub deleted: Pair<Vec<RelPath>>,
    /// Deletions that could not be made on each side.
    pub failed_deletes: Pair<Vec<RelPath>>,
}

/// Whether a run had anything to save.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// The baseline is the same as before; its files were not touched.
    Unchanged,
    /// The snapshot and the lists were written.
    Written,
}

/// The state files of one task.
#[derive(Debug)]
pub struct StateStore {
    pub(super) files: Files,
    instance: String,
}

impl StateStore {
    /// The state of a task. Reads nothing yet.
    ///
    /// # Errors
    /// The instance id cannot be a part of file names.
    pub fn open(dir: StateDir, instance_id: &str) -> Result<Self, StateError> {
        if instance_id.is_empty() || instance_id.contains(['/', '\0']) {
            return Err(StateError::Instance(instance_id.to_owned()));
        }
        Ok(StateStore { files: Files::new(dir), instance: instance_id.to_owned() })
    }

    /// Makes sure that the state directory, if it is there, is ours alone, before a run believes
    /// what is in it. Says what others could write to, and cannot any more.
    ///
    /// # Errors
    /// It is not, or cannot be opened.
    pub fn claim(&self, too_open: TooOpen) -> Result<Vec<String>, StateError> {
        self.files.claim(&self.instance, too_open)
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

    /// The baseline after the last run, whether it was one of this osync or of osync 1.3. Changes
    /// no file.
    ///
    /// # Errors
    /// A file cannot be read, or the snapshot is damaged, foreign or newer. Such a file never
    /// counts as "nothing existed"; only [`StateStore::start_over`] does that.
    pub fn load(&self) -> Result<Loaded, StateError> {
        let old = self.read_snapshot()?;
        let marks = old.as_ref().map(|(_, marks, _)| *marks).unwrap_or_default();
        let written_at = old.as_ref().map(|(_, _, stamp)| stamp.mtime);
        let lists = self.find_lists(&marks, written_at)?;
        let old = old.map(|(baseline, _, _)| baseline);
        let foreign = Side::BOTH
            .iter()
            .any(|side| lists[*side].is_some_and(|l| l.writer == ListWriter::Osync13));
        if foreign {
            let listed_at = lists.map(|list| list.map(|list| list.stamp.mtime));
            let (baseline, notes) = self.adopt(old.as_ref(), listed_at)?;
            return Ok(Loaded { baseline, notes, lists, files_are_current: false });
        }
        let files_are_current = old.is_some()
            && Side::BOTH
                .iter()
                .all(|side| lists[*side].is_some_and(|l| l.writer == ListWriter::Snapshot));
        let baseline = old.unwrap_or_else(Baseline::empty);
        Ok(Loaded { baseline, notes: Vec::new(), lists, files_are_current })
    }

    /// An empty baseline, whatever the files say (`--initialize`).
    ///
    /// # Errors
    /// The lists cannot be read.
    pub fn start_over(&self) -> Result<Loaded, StateError> {
        let lists = self.find_lists(&Pair::default(), None)?;
        Ok(Loaded {
            baseline: Baseline::empty(),
            notes: Vec::new(),
            lists,
            files_are_current: false,
        })
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

    /// Saves the baseline that a run achieved; writes nothing if nothing changed.
    ///
    /// The snapshot is replaced first, then the lists. If the run is killed in between, the old
    /// lists are beside the new snapshot. The snapshot has their digests, so that they are not
    /// taken for lists that osync 1.3 has written since (docs/state-format.md, "Order of writing").
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
    pub fn needs_saving(&self, before: &Loaded, after: &Baseline) -> bool {
        !before.files_are_current
            || !is_equivalent(&before.baseline, after, &header(&before.baseline, after))
    }

    fn save_baseline(&self, before: &Loaded, after: &Baseline) -> Result<Saved, StateError> {
        if !self.needs_saving(before, after) {
            return Ok(Saved::Unchanged);
        }
        let header = header(&before.baseline, after);
        self.files.sweep(&self.names())?;
        let (initiator, target) = std::thread::scope(|scope| {
            let target = scope.spawn(|| self.prepare_list(Side::Target, after, before));
            (self.prepare_list(Side::Initiator, after, before), threads::joined(target))
        });
        let (initiator, target) = (initiator?, target?);
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

    /// Writes a list to a temporary file beside the one it is to replace; returns no file if the
    /// two are equal.
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

    /// The names of all state files of this task.
    pub(super) fn names(&self) -> Vec<String> {
        let of_side = ["tree-after", "deleted-list", "failed-delete", "last-action"];
        let of_task = [
            "snapshot",
            "run",
            "inflight",
            "resume-count",
            "conflicts",
            "last-run",
            "last-scrub",
            "told-mail",
            "told-notify",
            "told-scrub-mail",
            "told-scrub-notify",
            "file-systems",
            "compared",
            "settled",
            "digests",
            "damaged",
            "targets",
        ];
        let listings = ["", ".peer"].map(|kind| format!("{}{kind}", self.name("listing")));
        let both = Side::BOTH.into_iter();
        both.flat_map(|side| of_side.map(|what| self.side_name(side, what)))
            .chain(of_task.map(|what| self.name(what)))
            .chain(listings)
            .collect()
    }
}

/// The header to save. A path that was not decided, for example because its deletion failed, keeps
/// what osync 1.3's list said of it, so the time of that list is kept too.
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

/// Whether two baselines are equal except for when and by which version they were written.
fn is_equivalent(before: &Baseline, after: &Baseline, header: &Header) -> bool {
    let old = before.header();
    before.body() == after.body()
        && old.identities == header.identities
        && old.listed_at == header.listed_at
        && old.mounts == header.mounts
        && old.roots == header.roots
}

// From here on: whether the lists are ours, or osync 1.3 has run and written them since (spec 3).

/// A list in the state directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct FoundList {
    pub(super) stamp: FileStamp,
    pub(super) digest: Digest,
    pub(super) writer: ListWriter,
}

/// Which run wrote a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListWriter {
    /// The run that wrote the snapshot.
    Snapshot,
    /// An earlier run; the one that wrote the snapshot was killed before it wrote the list.
    EarlierRun,
    /// osync 1.3.
    Osync13,
}

/// The state of a list, for `osync state verify`.
#[derive(Debug)]
pub(super) struct ListState {
    pub(super) status: &'static str,
    pub(super) paths: Option<u64>,
    pub(super) refused: Option<u64>,
}

impl StateStore {
    pub(super) fn find_lists(
        &self,
        marks: &Pair<ListMark>,
        snapshot_at: Option<Stamp>,
    ) -> Result<Pair<Option<FoundList>>, StateError> {
        let mut found = Pair::default();
        for side in Side::BOTH {
            found[side] = self.find_list(side, &marks[side], snapshot_at)?;
        }
        Ok(found)
    }

    /// Finds out which run wrote a list; reads it only if its inode, size and time do not tell.
    fn find_list(
        &self,
        side: Side,
        mark: &ListMark,
        snapshot_at: Option<Stamp>,
    ) -> Result<Option<FoundList>, StateError> {
        let name = self.side_name(side, "tree-after");
        let Some((mut file, stamp)) = self.files.open(&name)? else { return Ok(None) };
        if let Some(written) = mark.written.filter(|written| written.stamp == stamp) {
            return Ok(Some(FoundList {
                stamp,
                digest: written.digest,
                writer: ListWriter::Snapshot,
            }));
        }
        let digest = digest_of(&mut file)
            .map_err(|cause| StateError::file("read", self.files.path(&name), cause))?;
        let writer = list_writer(mark, digest, stamp, snapshot_at);
        Ok(Some(FoundList { stamp, digest, writer }))
    }

    /// Checks the whole snapshot and returns how many paths it has; `None` if there is no snapshot.
    pub(super) fn verify_snapshot(&self) -> Result<Option<u64>, StateError> {
        let Some((baseline, _, _)) = self.read_snapshot()? else { return Ok(None) };
        let wrong = |why: BaselineDamaged| StateError::Snapshot {
            path: Shown::new(self.snapshot_path()),
            why: why.into(),
        };
        baseline.check().map_err(wrong)?;
        Ok(Some(baseline.len()))
    }

    /// Reads a list and compares it with what the snapshot, if it is usable, says of it.
    pub(super) fn verify_list(&self, side: Side) -> Result<ListState, StateError> {
        let Some((bytes, stamp)) = self.files.read(&self.side_name(side, "tree-after"))? else {
            return Ok(ListState { status: "missing", paths: None, refused: None });
        };
        let snapshot = self.read_snapshot().ok().flatten();
        let digest = *blake3::hash(&bytes).as_bytes();
        let status = match snapshot {
            None => "without snapshot",
            Some((_, marks, at)) => {
                match list_writer(&marks[side], digest, stamp, Some(at.mtime)) {
                    ListWriter::Snapshot => "ok",
                    ListWriter::EarlierRun => "left by an interrupted run",
                    ListWriter::Osync13 => "written by osync 1.3 since",
                }
            }
        };
        let list = lists::parse(&bytes);
        let refused = list.refused.map(|(count, _)| count);
        Ok(ListState { status, paths: Some(list.paths.len() as u64), refused })
    }
}

/// Which run wrote a list. A list with the digest of the one that the snapshot's run was to replace
/// was left by a killed run only if it is not newer than the snapshot. If it is newer, osync 1.3
/// has run since, and came to the same list.
fn list_writer(
    mark: &ListMark,
    digest: Digest,
    stamp: FileStamp,
    snapshot_at: Option<Stamp>,
) -> ListWriter {
    let older = snapshot_at.is_some_and(|at| stamp.mtime <= at) && mark.replaced == Some(digest);
    match mark.written {
        Some(written) if written.digest == digest => ListWriter::Snapshot,
        _ if older => ListWriter::EarlierRun,
        _ => ListWriter::Osync13,
    }
}

fn digest_of(file: &mut std::fs::File) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 17];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(*hasher.finalize().as_bytes()),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
    }
}

// From here on: taking over from osync 1.3, by its lists.

impl StateStore {
    /// The baseline that the lists and the snapshot, if there is one, give together; and what to
    /// report about it.
    pub(super) fn adopt(
        &self,
        old: Option<&Baseline>,
        listed_at: Pair<Option<Stamp>>,
    ) -> Result<(Baseline, Vec<Note>), StateError> {
        let trees = self.read_both("tree-after")?;
        let failed = self.read_both("failed-delete")?;
        let trees = trees.as_ref().map(|bytes| bytes.as_deref().map(parse));
        let failed = failed.as_ref().map(|bytes| bytes.as_deref().map(parse));
        let mut notes = vec![came_from(old)];
        for side in Side::BOTH {
            match &trees[side] {
                Some(list) => notes.extend(self.refused(side, "tree-after", list)),
                None => notes.push(self.missing(side, old)),
            }
            let list = failed[side].as_ref();
            notes.extend(list.and_then(|list| self.refused(side, "failed-delete", list)));
        }
        let lists = Lists {
            tree: trees.map(|list| list.map(|list| list.paths)),
            listed_at,
            failed: failed.map(|list| list.map(|list| list.paths).unwrap_or_default()),
        };
        let baseline = merge(old, &lists).map_err(|why| StateError::Merge {
            path: Shown::new(self.files.path(&self.name("snapshot"))),
            why,
        })?;
        Ok((baseline, notes))
    }

    fn read_both(&self, what: &str) -> Result<Pair<Option<Vec<u8>>>, StateError> {
        let mut both = Pair::default();
        for side in Side::BOTH {
            both[side] = self.files.read(&self.side_name(side, what))?.map(|(bytes, _)| bytes);
        }
        Ok(both)
    }

    fn refused(&self, side: Side, what: &str, list: &List<'_>) -> Option<Note> {
        let (count, first) = list.refused?;
        let path = Shown::new(self.files.path(&self.side_name(side, what)));
        let first = escape(first);
        let text = format!(
            "state file {path}: {count} line(s) are not paths below a replica and were \
             ignored; the first is '{first}'"
        );
        Some(Note { level: NoteLevel::Warning, text })
    }

    fn missing(&self, side: Side, old: Option<&Baseline>) -> Note {
        let path = Shown::new(self.files.path(&self.side_name(side, "tree-after")));
        let consequence = match old {
            Some(_) => format!("for the {side} the snapshot says what existed"),
            None => format!("so nothing counts as deleted on the {side}"),
        };
        Note { level: NoteLevel::Warning, text: format!("there is no list {path}: {consequence}") }
    }
}

fn came_from(old: Option<&Baseline>) -> Note {
    let text = match old {
        Some(_) => "osync 1.3 has run since the last run of this osync: its lists say what existed",
        None => "there is no snapshot yet: the lists of osync 1.3 say what existed",
    };
    Note { level: NoteLevel::Notice, text: text.to_owned() }
}

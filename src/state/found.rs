//! Whose the lists are that lie there: ours, or has osync 1.3 run since (spec 3)?

use super::error::{Shown, StateError};
use super::files::FileStamp;
use super::lists;
use super::snapshot::{Digest, ListMark};
use super::store::StateStore;
use super::wire::Damaged;
use crate::tree::{Pair, Side, Stamp};
use std::io::{self, Read};

/// A list that lies there.
#[derive(Debug, Clone, Copy)]
pub(super) struct FoundList {
    pub(super) stamp: FileStamp,
    pub(super) digest: Digest,
    pub(super) ours: Ours,
}

/// Whether we wrote a list that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ours {
    /// It belongs to the snapshot.
    Yes,
    /// It belongs to the snapshot before; the run that wrote the present one was
    /// interrupted before it came to the lists.
    Older,
    /// No: osync 1.3 did.
    No,
}

/// How a list looks.
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

    /// Looks whose a list is; reads it only where its inode, size and time do not tell.
    fn find_list(
        &self,
        side: Side,
        mark: &ListMark,
        snapshot_at: Option<Stamp>,
    ) -> Result<Option<FoundList>, StateError> {
        let name = self.side_name(side, "tree-after");
        let Some((mut file, stamp)) = self.files.open(&name)? else { return Ok(None) };
        if let Some(written) = mark.written.filter(|written| written.stamp == stamp) {
            return Ok(Some(FoundList { stamp, digest: written.digest, ours: Ours::Yes }));
        }
        let digest = digest_of(&mut file)
            .map_err(|cause| StateError::file("read", self.files.path(&name), cause))?;
        let ours = whose(mark, digest, stamp, snapshot_at);
        Ok(Some(FoundList { stamp, digest, ours }))
    }

    /// Looks through the whole snapshot; none if there is none, else how many paths it has.
    pub(super) fn verify_snapshot(&self) -> Result<Option<u64>, StateError> {
        let Some((baseline, _, _)) = self.read_snapshot()? else { return Ok(None) };
        let wrong = |why: Damaged| StateError::Snapshot {
            path: Shown::new(self.snapshot_path()),
            why: why.into(),
        };
        baseline.check().map_err(wrong)?;
        Ok(Some(baseline.len()))
    }

    /// Reads a list, and compares it with what the snapshot, if it can be used, says of it.
    pub(super) fn verify_list(&self, side: Side) -> Result<ListState, StateError> {
        let Some((bytes, stamp)) = self.files.read(&self.side_name(side, "tree-after"))? else {
            return Ok(ListState { status: "missing", paths: None, refused: None });
        };
        let snapshot = self.read_snapshot().ok().flatten();
        let digest = *blake3::hash(&bytes).as_bytes();
        let status = match snapshot {
            None => "without snapshot",
            Some((_, marks, at)) => match whose(&marks[side], digest, stamp, Some(at.mtime)) {
                Ours::Yes => "ok",
                Ours::Older => "left by an interrupted run",
                Ours::No => "written by osync 1.3 since",
            },
        };
        let list = lists::parse(&bytes);
        let refused = list.refused.map(|(count, _)| count);
        Ok(ListState { status, paths: Some(list.paths.len() as u64), refused })
    }
}

/// Who wrote a list. One that was replaced by ours counts as left over only if it is not
/// younger than the snapshot: otherwise osync 1.3 has run, and came to the same list.
fn whose(mark: &ListMark, digest: Digest, stamp: FileStamp, snapshot_at: Option<Stamp>) -> Ours {
    let older = snapshot_at.is_some_and(|at| stamp.mtime <= at) && mark.replaced == Some(digest);
    match mark.written {
        Some(written) if written.digest == digest => Ours::Yes,
        _ if older => Ours::Older,
        _ => Ours::No,
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

//! When directories came whole into `backup/` and `deleted/` (spec 4, "Then cleaning").
//!
//! What is renamed by itself has its ctime for that; what lies below a renamed directory
//! keeps its old one, so the moment is written down: `SECONDS NAME/PATH` and a NUL for
//! each, appended before the rename.

use super::work_dir::{ARRIVALS, WorkDir};
use crate::replica::Keep;
use crate::tree::RelPath;
use std::collections::BTreeMap;
use std::io;

/// The record: seconds since the epoch for paths like `deleted/some/dir`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::replica) struct Arrivals(BTreeMap<Vec<u8>, i64>);

/// The place of a kept directory in the record.
fn key(keep: Keep, kept: &RelPath) -> Vec<u8> {
    [keep.name().as_bytes(), b"/", kept.as_bytes()].concat()
}

/// Writes down that directories arrive now, and waits until that is on the disk.
///
/// # Errors
/// What the system says.
pub(super) fn note<'a>(
    work: &WorkDir,
    what: impl Iterator<Item = (Keep, &'a RelPath)>,
    now: i64,
) -> io::Result<()> {
    let mut text = Vec::new();
    for (keep, kept) in what {
        push(&mut text, &key(keep, kept), now);
    }
    if text.is_empty() { Ok(()) } else { work.append(ARRIVALS, &text) }
}

fn push(text: &mut Vec<u8>, key: &[u8], at: i64) {
    text.extend_from_slice(format!("{at} ").as_bytes());
    text.extend_from_slice(key);
    text.push(0);
}

impl Arrivals {
    /// Reads the record; of several arrivals under one name the last counts. A torn or
    /// foreign piece is passed over.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn load(work: &WorkDir) -> io::Result<Self> {
        Ok(Arrivals::read(&work.read(ARRIVALS)?.unwrap_or_default()))
    }

    /// The record that some text is.
    pub fn read(text: &[u8]) -> Self {
        Arrivals(text.split(|b| *b == 0).filter_map(parse).collect())
    }

    /// What is known of one of the two directories: kept paths and their moments.
    pub fn of(&self, keep: Keep) -> impl Iterator<Item = (RelPath, i64)> {
        self.0.iter().filter_map(move |(key, at)| {
            let path = key.strip_prefix(keep.name().as_bytes())?.strip_prefix(b"/")?;
            Some((RelPath::new(path).ok()?, *at))
        })
    }

    /// Forgets what `is_there` denies, and writes the record anew if that was anything.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn forget_unless(
        mut self,
        work: &WorkDir,
        is_there: impl Fn(&RelPath) -> bool,
    ) -> io::Result<()> {
        let before = self.0.len();
        self.0.retain(|key, _| RelPath::new(key.as_slice()).is_ok_and(|path| is_there(&path)));
        if self.0.len() == before {
            return Ok(());
        }
        if self.0.is_empty() {
            return Ok(work.remove(ARRIVALS)?);
        }
        let mut text = Vec::new();
        for (key, at) in &self.0 {
            push(&mut text, key, *at);
        }
        work.replace(ARRIVALS, &text)
    }
}

fn parse(piece: &[u8]) -> Option<(Vec<u8>, i64)> {
    let space = piece.iter().position(|b| *b == b' ')?;
    let at = std::str::from_utf8(&piece[..space]).ok()?.parse().ok()?;
    Some((piece[space + 1..].to_vec(), at))
}

#[cfg(test)]
mod tests {
    use super::super::openat_root::Root;
    use super::*;

    #[test]
    fn what_is_noted_is_read_again_and_what_is_gone_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let work = WorkDir::open_or_make(&Root::open(dir.path()).unwrap()).unwrap();
        let path = |text: &str| RelPath::new(text).unwrap();
        let (one, two) = (path("a/b\n c"), path("x"));
        note(&work, [(Keep::Deleted, &one), (Keep::Backup, &two)].into_iter(), 100).unwrap();
        work.append(ARRIVALS, b"garbage\0").unwrap();
        note(&work, [(Keep::Deleted, &one)].into_iter(), 200).unwrap();
        work.append(ARRIVALS, b"300 deleted/../../etc\0999 dele").unwrap();
        let read = Arrivals::load(&work).unwrap();
        assert_eq!(read.of(Keep::Deleted).collect::<Vec<_>>(), [(one, 200)]);
        assert_eq!(read.of(Keep::Backup).collect::<Vec<_>>(), [(two.clone(), 100)]);
        read.forget_unless(&work, |p| *p == path("backup/x")).unwrap();
        let read = Arrivals::load(&work).unwrap();
        assert_eq!(read.of(Keep::Deleted).count(), 0);
        assert_eq!(read.of(Keep::Backup).collect::<Vec<_>>(), [(two, 100)]);
        read.forget_unless(&work, |_| false).unwrap();
        assert_eq!(Arrivals::load(&work).unwrap(), Arrivals::default());
    }
}

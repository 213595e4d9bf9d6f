//! Baselines from and to whole paths: for lists, for people, and for tests.

use super::baseline::Baseline;
use super::block::{Head, Known, is_name, put_known};
use super::entry_code::Context;
use super::walk::{Order, Pick, Walk};
use super::wire::Damaged;
use super::writer::{BaselineWriter, Disorder};
use super::{Header, Record};
use crate::tree::RelPath;

impl Baseline {
    /// A baseline of these paths, in any order; of a path given twice the last counts.
    /// Directories that are missing in the input become records that know nothing. The
    /// root has no record and is passed over.
    #[must_use]
    pub fn from_records(
        header: Header,
        records: impl IntoIterator<Item = (RelPath, Record)>,
    ) -> Self {
        let mut records: Vec<(RelPath, Record)> = records.into_iter().collect();
        records.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut builder = PathBuilder::new();
        for (at, (path, record)) in records.iter().enumerate() {
            if records.get(at + 1).is_none_or(|(next, _)| next != path) {
                builder.add(path.as_bytes(), record.clone());
            }
        }
        #[allow(clippy::expect_used)] // sorted paths cannot be out of order
        builder.finish(header).expect("the paths were sorted")
    }

    /// Every path with its record, in the order of [`RelPath`]: a directory, then all that
    /// lies below it. Records that know nothing are among them.
    ///
    /// An item is an error, and the last, where the bytes make no sense.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        let pick: Picker = |known| Pick { keep: Some(known.record), enter: true };
        Records { walk: Walk::new(self, Order::Tree, pick).map(Some) }
    }
}

type Picker = fn(Known<'_>) -> Pick<Record>;

/// The paths of a baseline with their records.
#[derive(Debug)]
pub struct Records<'a> {
    walk: Result<Option<Walk<'a, Record, Picker>>, Damaged>,
}

impl Iterator for Records<'_> {
    type Item = Result<(RelPath, Record), Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = match &mut self.walk {
            Ok(walk) => walk.as_mut()?.next(),
            Err(damage) => Err(*damage),
        };
        let item = found.transpose()?.and_then(|(path, record)| {
            let path = RelPath::new(path).map_err(|_| Damaged { at: 0, what: "a name is none" })?;
            Ok((path, record))
        });
        if item.is_err() {
            self.walk = Ok(None);
        }
        Some(item)
    }
}

/// A directory of which not all entries are known yet.
#[derive(Debug, Default)]
struct OpenDir {
    /// Its name in the directory above.
    name: Vec<u8>,
    /// Its own record; none for one that is only there because something below it is.
    record: Record,
    /// Its entries as they stand in its block.
    entries: Vec<u8>,
    head: Head,
    context: Context,
    /// The blocks below it, finished.
    below: Vec<u8>,
    below_known: u64,
    last: Vec<u8>,
}

impl OpenDir {
    fn named(name: &[u8], record: Record) -> Self {
        OpenDir { name: name.to_vec(), record, ..OpenDir::default() }
    }

    fn is_bare(&self) -> bool {
        self.head.entries == 0
    }

    /// Takes an entry below whose blocks are finished.
    fn take(&mut self, done: OpenDir) -> Result<(), Disorder> {
        if !is_name(&done.name) || done.name <= self.last {
            return Err(Disorder("names of a directory"));
        }
        let has_block = !done.is_bare();
        put_known(&mut self.entries, &mut self.context, &done.name, &done.record, has_block);
        self.head.entries += 1;
        self.head.known += u64::from(!done.record.is_empty());
        self.head.blocks += u64::from(has_block);
        if has_block {
            self.below_known += done.finish_into(&mut self.below);
        }
        self.last = done.name;
        Ok(())
    }

    /// Writes its block and all below it; returns how many known paths they hold.
    fn finish_into(&self, out: &mut Vec<u8>) -> u64 {
        let head = Head { bytes: self.entries.len(), ..self.head };
        head.put(out);
        out.extend_from_slice(&self.entries);
        out.extend_from_slice(&self.below);
        head.known + self.below_known
    }
}

/// Puts a baseline together from paths that come in the order of [`RelPath`]: each
/// directory is followed by all that lies below it. Holds only the directories on the way
/// from the root to the present path, everything else is bytes already.
#[derive(Debug)]
pub(super) struct PathBuilder {
    /// The root first.
    open: Vec<OpenDir>,
    disorder: Option<Disorder>,
}

impl PathBuilder {
    pub(super) fn new() -> Self {
        PathBuilder { open: vec![OpenDir::default()], disorder: None }
    }

    /// The next path: valid bytes of a [`RelPath`].
    pub(super) fn add(&mut self, path: &[u8], record: Record) {
        let mut record = Some(record);
        let mut names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        let Some(mut name) = names.next() else { return };
        let mut depth = 1;
        // the part of the way that is open already
        while self.open.get(depth).is_some_and(|dir| dir.name == name) {
            depth += 1;
            match names.next() {
                Some(next) => name = next,
                None => {
                    self.disorder.get_or_insert(Disorder("paths"));
                    return;
                }
            }
        }
        self.close(depth);
        loop {
            let next = names.next();
            let own =
                if next.is_none() { record.take().unwrap_or_default() } else { Record::default() };
            self.open.push(OpenDir::named(name, own));
            match next {
                Some(next) => name = next,
                None => return,
            }
        }
    }

    pub(super) fn finish(mut self, header: Header) -> Result<Baseline, Disorder> {
        self.close(1);
        if let Some(disorder) = self.disorder {
            return Err(disorder);
        }
        let mut body = Vec::new();
        let known = self.open.first().map_or(0, |root| root.finish_into(&mut body));
        let mut writer = BaselineWriter::new(header);
        writer.append(&body, known, 0);
        writer.finish()
    }

    fn close(&mut self, depth: usize) {
        while self.open.len() > depth.max(1) {
            let (Some(done), Some(above)) = (self.open.pop(), self.open.last_mut()) else { return };
            if let Err(disorder) = above.take(done) {
                self.disorder.get_or_insert(disorder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::testing::{any_records, path, seen};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn all(baseline: &Baseline) -> Vec<(RelPath, Record)> {
        baseline.records().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn paths_come_in_their_order_and_missing_parents_know_nothing() {
        let given = ["b", "a/x/1", "a b", "a", "a.d/y"].map(|p| (path(p), seen(1)));
        let baseline = Baseline::from_records(Header::default(), given);
        let paths: Vec<String> = all(&baseline).iter().map(|(p, _)| p.shown()).collect();
        assert_eq!(paths, ["a", "a/x", "a/x/1", "a b", "a.d", "a.d/y", "b"]);
        assert_eq!(baseline.len(), 5);
        assert!(all(&baseline).iter().filter(|(p, _)| p.name() == b"x").all(|(_, r)| r.is_empty()));
    }

    #[test]
    fn of_a_path_given_twice_the_last_counts() {
        let given = [(path("a"), seen(1)), (RelPath::root(), seen(7)), (path("a"), seen(2))];
        assert_eq!(all(&Baseline::from_records(Header::default(), given)), [(path("a"), seen(2))]);
    }

    #[test]
    fn paths_out_of_order_and_names_that_are_none_are_told_and_never_written() {
        let long = vec![b'x'; usize::from(u16::MAX) + 1];
        for paths in
            [[&b"b"[..], b"a"], [b"a", b"a"], [b"a/b", b"a"], [b"d/b", b"d/a"], [b"a", &long]]
        {
            let mut builder = PathBuilder::new();
            paths.iter().for_each(|path| builder.add(path, seen(1)));
            assert!(builder.finish(Header::default()).is_err(), "{}", paths[0].escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn every_record_comes_back_as_it_was(given in any_records()) {
            let baseline = Baseline::from_records(Header::default(), given.clone());
            let back: BTreeMap<_, _> = all(&baseline).into_iter().collect();
            let given: BTreeMap<_, _> = given.into_iter().collect();
            let unknown = Record::default();
            for (path, record) in &back {
                prop_assert_eq!(record, given.get(path).unwrap_or(&unknown));
            }
            prop_assert!(given.keys().all(|path| back.contains_key(path)));
            let known = given.values().filter(|record| !record.is_empty()).count();
            prop_assert_eq!(baseline.len(), known as u64);
        }
    }
}

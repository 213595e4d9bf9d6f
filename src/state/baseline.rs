//! The baseline: what both replicas looked like after the last run, kept as one buffer of
//! bytes and read as a stream (spec 4, "The idea"; issue of memory and load speed).
//!
//! The buffer is a row of *blocks*, one for each directory: its entries sorted by name as
//! bytes. The block of the root comes first. Behind each block come, for those of its
//! entries that have a block, in the order of their names: that block and behind it in the
//! same manner all blocks below it. A walk in this order needs a stack and nothing else:
//! take a block, then enter those of its entries that have one, in order.

use super::Header;
use super::block::{Head, Known};
use super::cursor::count;
use super::wire::Damaged;
use std::ops::Range;
use std::sync::Arc;

/// What was there on both sides after the last run.
#[derive(Debug, Clone)]
pub struct Baseline {
    header: Header,
    bytes: Arc<Vec<u8>>,
    body: Range<usize>,
    known: u64,
}

impl Baseline {
    /// The baseline of a task that never ran.
    #[must_use]
    pub fn empty() -> Self {
        let mut bytes = Vec::new();
        Head::default().put(&mut bytes);
        Baseline::finished(Header::default(), bytes, 0)
    }

    /// From a body that a [`BaselineWriter`](super::BaselineWriter) has finished.
    pub(super) fn finished(header: Header, bytes: Vec<u8>, known: u64) -> Self {
        let body = 0..bytes.len();
        Baseline { header, bytes: Arc::new(bytes), body, known }
    }

    /// The same paths, in the same memory, with another header.
    #[must_use]
    pub fn with_header(self, header: Header) -> Self {
        Baseline { header, ..self }
    }

    /// Takes over a buffer that holds a body at `body`, after a look at its directories:
    /// that they are all there and nothing else is. Their entries are looked at when they
    /// are read, because reading them twice would cost a run that finds nothing to do a
    /// tenth of its time; [`Baseline::check`] does it.
    ///
    /// # Errors
    /// The directories make no sense; the position counts from the first byte of the body.
    pub fn from_bytes(header: Header, bytes: Vec<u8>, body: Range<usize>) -> Result<Self, Damaged> {
        let slice = bytes.get(body.clone()).ok_or(Damaged { at: 0, what: "it ends too early" })?;
        let known = count(slice)?;
        Ok(Baseline { header, bytes: Arc::new(bytes), body, known })
    }

    /// Looks through all of it: every number, name and entry.
    ///
    /// # Errors
    /// The first thing that makes no sense.
    pub fn check(&self) -> Result<(), Damaged> {
        let mut cursor = self.cursor();
        let mut known = Known::default();
        while !cursor.is_done() {
            let mut block = cursor.open()?;
            while block.read_into(&mut known)? {}
        }
        Ok(())
    }

    /// What stands beside the paths.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// For what is set after the paths: when it was written, identities.
    pub fn header_mut(&mut self) -> &mut Header {
        &mut self.header
    }

    /// How many paths were there on one side at least.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.known
    }

    /// Whether nothing at all was there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known == 0
    }

    /// The blocks as bytes. Equal bytes say the same of the same paths.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.body.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::BaselineWriter;
    use crate::state::testing::{any_records, path, seen};
    use crate::tree::RelPath;
    use proptest::prelude::*;

    /// Copies block by block, or whole subtrees where `whole` says so.
    fn rewritten(from: &Baseline, mut whole: impl FnMut(u64) -> bool) -> Baseline {
        let mut cursor = from.cursor();
        let mut writer = BaselineWriter::new(from.header().clone());
        let (mut pending, mut seen) = (1, 0);
        let mut block = Vec::new();
        while pending > 0 {
            pending -= 1;
            seen += 1;
            if whole(seen) {
                cursor.copy_subtree(&mut writer).unwrap();
                continue;
            }
            cursor.block_into(&mut block).unwrap();
            pending += block.iter().filter(|known| known.has_block).count();
            writer.block(block.iter().map(|k| (k.name, &k.record, k.has_block)));
        }
        writer.finish().unwrap()
    }

    fn sample() -> Baseline {
        let paths = ["a", "a/x", "a/x/1", "a/y", "b", "c", "c/1", "c/2"];
        Baseline::from_records(Header::default(), paths.map(|p| (path(p), seen(p.len() as u64))))
    }

    #[test]
    fn an_empty_baseline_has_a_root_block_and_knows_nothing() {
        let empty = Baseline::empty();
        assert!(empty.is_empty() && empty.cursor().block().unwrap().is_empty());
        assert_eq!(Baseline::from_records(Header::default(), []).body(), empty.body());
        assert!(Baseline::from_bytes(Header::default(), empty.body().to_vec(), 0..4).is_ok());
    }

    #[test]
    fn subtrees_are_copied_and_passed_over() {
        let from = sample();
        for at in 0..6 {
            let copy = rewritten(&from, |seen| seen == at);
            assert_eq!((copy.body(), copy.len()), (from.body(), from.len()), "{at}");
        }
        let mut cursor = from.cursor();
        cursor.block().unwrap();
        cursor.skip_subtree().unwrap();
        let c: Vec<_> = cursor.block().unwrap().iter().map(|known| known.name).collect();
        assert_eq!(c, [b"1", b"2"]);
        assert!(cursor.block().is_err());
    }

    #[test]
    fn a_block_that_is_not_read_to_its_end_does_not_disturb_the_next() {
        let from = sample();
        let mut cursor = from.cursor();
        let mut block = cursor.open().unwrap();
        assert_eq!(block.size_hint(), (0, Some(3)));
        assert_eq!(block.next().unwrap().unwrap().name, b"a");
        assert_eq!(block.size_hint(), (0, Some(2)));
        assert_eq!(cursor.block().unwrap()[0].name, b"x");
    }

    #[test]
    fn damage_is_told_with_its_place_in_the_whole() {
        // the second byte of the last entry's name becomes a slash
        let from = sample();
        let at = from.body().windows(2).rposition(|pair| pair == [1, b'2']).unwrap() + 1;
        let mut bytes = from.body().to_vec();
        bytes[at] = b'/';
        let end = bytes.len();
        let baseline = Baseline::from_bytes(Header::default(), bytes, 0..end).unwrap();
        let damage = baseline.check().unwrap_err();
        assert_eq!((damage.at, damage.what), (at + 1, "a name is none"));
    }

    #[test]
    fn what_is_written_out_of_order_is_never_finished() {
        let record = seen(1);
        for (what, blocks) in [
            ("no root", vec![]),
            ("a missing block", vec![vec![("a", true)]]),
            ("one too many", vec![vec![("a", false)], vec![]]),
            ("unsorted", vec![vec![("b", false), ("a", false)]]),
            ("twice", vec![vec![("a", false), ("a", false)]]),
            ("a path for a name", vec![vec![("a/b", false)]]),
            ("the directory itself", vec![vec![(".", false)]]),
            ("nothing", vec![vec![("", false)]]),
        ] {
            let mut writer = BaselineWriter::new(Header::default());
            for block in blocks {
                writer.block(block.iter().map(|(name, below)| (name.as_bytes(), &record, *below)));
            }
            assert!(writer.finish().is_err(), "{what}");
        }
    }

    #[test]
    fn any_changed_or_missing_byte_is_damage_or_another_sound_baseline() {
        let from = sample();
        let look = |bytes: Vec<u8>| {
            let end = bytes.len();
            if let Ok(baseline) = Baseline::from_bytes(Header::default(), bytes, 0..end) {
                let sound = baseline.check().is_ok();
                assert_eq!(baseline.records().all(|item| item.is_ok()), sound);
                let mut known = baseline.records().flatten();
                assert!(
                    !sound
                        || known.by_ref().filter(|(_, r)| !r.is_empty()).count() as u64
                            == baseline.len()
                );
            }
        };
        for at in 0..from.body().len() {
            for change in 1..=255 {
                let mut bytes = from.body().to_vec();
                bytes[at] ^= change;
                look(bytes);
            }
            assert!(
                Baseline::from_bytes(Header::default(), from.body()[..at].to_vec(), 0..at).is_err()
            );
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let end = bytes.len();
            if let Ok(baseline) = Baseline::from_bytes(Header::default(), bytes, 0..end) {
                let _ = baseline.check();
            }
        }

        #[test]
        fn blocks_and_whole_subtrees_are_copied_alike(given in any_records(), mask: u64) {
            let from = Baseline::from_records(Header::default(), given);
            let copy = rewritten(&from, |seen| mask >> (seen % 64) & 1 == 1);
            prop_assert_eq!(copy.body(), from.body());
            prop_assert_eq!(copy.len(), from.len());
            let end = copy.body().len();
            let checked = Baseline::from_bytes(Header::default(), copy.body().to_vec(), 0..end);
            let checked = checked.and_then(|baseline| baseline.check().map(|()| baseline.len()));
            prop_assert_eq!(checked, Ok(from.len()));
        }
    }

    #[test]
    fn a_very_deep_tree_is_no_trouble() {
        let deep = RelPath::new(vec!["d"; 5_000].join("/")).unwrap();
        let baseline = Baseline::from_records(Header::default(), [(deep.clone(), seen(1))]);
        assert_eq!(baseline.records().last().unwrap().unwrap().0, deep);
    }
}

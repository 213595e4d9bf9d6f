//! The baseline: what both replicas looked like after the last run, kept as one buffer of
//! bytes and read as a stream (spec 4, "The idea"; issue of memory and load speed).
//!
//! The buffer is a row of *blocks*, one for each directory: its entries sorted by name as
//! bytes. The block of the root comes first. Behind each block come, for those of its
//! entries that have a block, in the order of their names: that block and behind it in the
//! same manner all blocks below it. A walk in this order needs a stack and nothing else:
//! take a block, then enter those of its entries that have one, in order.

use super::Header;
use super::Record;
use super::block::{Context, Head, Known, is_name, put_known, read_known};
use super::wire::{Damaged, Reader};
use std::ops::Range;

/// What was there on both sides after the last run.
#[derive(Debug, Clone)]
pub struct Baseline {
    header: Header,
    bytes: Vec<u8>,
    body: Range<usize>,
    known: u64,
}

impl Baseline {
    /// The baseline of a task that never ran.
    #[must_use]
    pub fn empty() -> Self {
        let mut bytes = Vec::new();
        Head::default().put(&mut bytes);
        let body = 0..bytes.len();
        Baseline { header: Header::default(), bytes, body, known: 0 }
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
        let mut cursor = Cursor { reader: Reader::new(slice), context: Context::default() };
        let known = cursor.pass()?;
        if !cursor.reader.is_done() {
            return Err(cursor.reader.damaged("something stands behind the last directory"));
        }
        Ok(Baseline { header, bytes, body, known })
    }

    /// Looks through all of it: every number, name and entry.
    ///
    /// # Errors
    /// The first thing that makes no sense.
    pub fn check(&self) -> Result<(), Damaged> {
        let mut cursor = self.cursor();
        let mut known = Known::default();
        while !cursor.reader.is_done() {
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

    /// Reads from the first block on.
    #[must_use]
    pub fn cursor(&self) -> Cursor<'_> {
        self.cursor_at(0)
    }

    /// Reads from the block on that begins at that byte of the body.
    pub(super) fn cursor_at(&self, at: usize) -> Cursor<'_> {
        Cursor { reader: Reader::new_at(self.body(), at), context: Context::default() }
    }
}

/// Reads a baseline block by block. Whoever walks asks for exactly one block for the root
/// and for each entry with [`Known::has_block`], in the order of the walk that the module
/// describes: by [`block`](Cursor::block) or one of its kin.
#[derive(Debug)]
pub struct Cursor<'a> {
    reader: Reader<'a>,
    context: Context,
}

impl<'a> Cursor<'a> {
    /// The next block, entry by entry: nothing is kept but the entry at hand. Reading on
    /// before the end of the block is fine, the rest of it is skipped.
    ///
    /// # Errors
    /// The bytes make no sense.
    pub fn open(&mut self) -> Result<Block<'_, 'a>, Damaged> {
        let head = Head::read(&mut self.reader)?;
        let start = self.reader.at();
        let reader = Reader::new(self.reader.take(head.bytes)?);
        self.context.clear();
        Ok(Block { reader, context: &mut self.context, head, left: head, previous: b"", start })
    }

    /// The next block as a whole.
    ///
    /// # Errors
    /// The bytes make no sense.
    pub fn block(&mut self) -> Result<Vec<Known<'a>>, Damaged> {
        let mut entries = Vec::new();
        self.block_into(&mut entries)?;
        Ok(entries)
    }

    /// The next block as a whole, into a vector whose content is replaced.
    ///
    /// # Errors
    /// The bytes make no sense.
    pub fn block_into(&mut self, entries: &mut Vec<Known<'a>>) -> Result<(), Damaged> {
        let mut block = self.open()?;
        let mut count = 0;
        loop {
            if count == entries.len() {
                entries.push(Known::default());
            }
            if !block.read_into(&mut entries[count])? {
                break;
            }
            count += 1;
        }
        entries.truncate(count);
        Ok(())
    }

    /// Passes over the next block and all blocks below it.
    ///
    /// # Errors
    /// The bytes make no sense.
    pub fn skip_subtree(&mut self) -> Result<(), Damaged> {
        self.pass().map(|_| ())
    }

    /// Copies the next block and all blocks below it, unread.
    ///
    /// # Errors
    /// The bytes make no sense.
    pub fn copy_subtree(&mut self, out: &mut BaselineWriter) -> Result<(), Damaged> {
        let mut from = self.reader.clone();
        let known = self.pass()?;
        let bytes = from.take(self.reader.at() - from.at())?;
        out.append(bytes, known);
        Ok(())
    }

    fn pass(&mut self) -> Result<u64, Damaged> {
        let (mut pending, mut known) = (1_u64, 0_u64);
        while pending > 0 {
            let head = Head::read(&mut self.reader)?;
            self.reader.take(head.bytes)?;
            pending += head.blocks;
            pending -= 1;
            known += head.known;
        }
        Ok(known)
    }
}

/// The entries of one directory, in the order of their names.
#[derive(Debug)]
pub struct Block<'c, 'a> {
    reader: Reader<'a>,
    context: &'c mut Context,
    head: Head,
    left: Head,
    previous: &'a [u8],
    start: usize,
}

impl<'a> Block<'_, 'a> {
    /// How many entries the block holds, those read already included.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.head.entries
    }

    /// Reads the next entry into `known`, whatever that holds. Says whether there was one.
    /// Faster than the iterator, which has to move each entry.
    ///
    /// # Errors
    /// The bytes make no sense; nothing more comes then.
    #[inline]
    pub fn read_into(&mut self, known: &mut Known<'a>) -> Result<bool, Damaged> {
        if self.left.entries == 0 {
            return Ok(false);
        }
        self.read(known).map_err(|mut damage| {
            self.left.entries = 0;
            damage.at += self.start;
            damage
        })?;
        Ok(true)
    }

    #[inline]
    fn read(&mut self, known: &mut Known<'a>) -> Result<(), Damaged> {
        read_known(&mut self.reader, self.context, self.previous, known)?;
        self.previous = known.name;
        self.left.entries -= 1;
        let contradiction = || Damaged { at: 0, what: "a directory's counts are wrong" };
        let count = |left: u64, one: bool| left.checked_sub(one.into()).ok_or_else(contradiction);
        self.left.known = count(self.left.known, !known.record.is_empty())?;
        self.left.blocks = count(self.left.blocks, known.has_block)?;
        let rest = self.left.known + self.left.blocks + u64::from(!self.reader.is_done());
        if self.left.entries == 0 && rest > 0 { Err(contradiction()) } else { Ok(()) }
    }
}

impl<'a> Iterator for Block<'_, 'a> {
    type Item = Result<Known<'a>, Damaged>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let mut known = Known::default();
        match self.read_into(&mut known) {
            Ok(there) => there.then_some(Ok(known)),
            Err(damage) => Some(Err(damage)),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.left.entries).unwrap_or(usize::MAX);
        (0, Some(left))
    }
}

/// A baseline was written out of order: blocks are missing, too many, or not sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a baseline was put together out of order ({0}); nothing was recorded. This is a fault in osync, please report it"
)]
pub struct Disorder(pub(super) &'static str);

/// Writes a baseline block by block, in the order in which a [`Cursor`] reads it.
#[derive(Debug)]
pub struct BaselineWriter {
    header: Header,
    bytes: Vec<u8>,
    context: Context,
    scratch: Vec<u8>,
    pending: u64,
    known: u64,
    disorder: Option<Disorder>,
}

impl BaselineWriter {
    /// Nothing written yet; the block of the root comes first.
    #[must_use]
    pub fn new(header: Header) -> Self {
        BaselineWriter {
            header,
            bytes: Vec::new(),
            context: Context::default(),
            scratch: Vec::new(),
            pending: 1,
            known: 0,
            disorder: None,
        }
    }

    /// The entries of one directory, sorted by name: name, record, and whether a block of
    /// its own follows. That may turn out empty.
    pub fn block<'r>(&mut self, entries: impl IntoIterator<Item = (&'r [u8], &'r Record, bool)>) {
        self.scratch.clear();
        self.context.clear();
        let mut head = Head::default();
        let mut previous: &[u8] = b"";
        for (name, record, has_block) in entries {
            if !is_name(name) || name <= previous {
                self.disorder.get_or_insert(Disorder("names of a directory"));
                continue;
            }
            previous = name;
            put_known(&mut self.scratch, &mut self.context, name, record, has_block);
            head.entries += 1;
            head.known += u64::from(!record.is_empty());
            head.blocks += u64::from(has_block);
        }
        head.bytes = self.scratch.len();
        if self.take_turn() {
            head.put(&mut self.bytes);
            self.bytes.extend_from_slice(&self.scratch);
            self.known += head.known;
            self.pending += head.blocks;
        }
    }

    /// The finished baseline.
    ///
    /// # Errors
    /// The blocks that were written are not those of one tree: a fault in the caller.
    pub fn finish(mut self) -> Result<Baseline, Disorder> {
        if self.pending > 0 {
            self.disorder.get_or_insert(Disorder("too few directories"));
        }
        if let Some(disorder) = self.disorder {
            return Err(disorder);
        }
        self.bytes.shrink_to_fit();
        let body = 0..self.bytes.len();
        Ok(Baseline { header: self.header, bytes: self.bytes, body, known: self.known })
    }

    /// A whole subtree in its finished form.
    pub(super) fn append(&mut self, bytes: &[u8], known: u64) {
        if self.take_turn() {
            self.bytes.extend_from_slice(bytes);
            self.known += known;
        }
    }

    fn take_turn(&mut self) -> bool {
        if self.pending == 0 {
            self.disorder.get_or_insert(Disorder("too many directories"));
            return false;
        }
        self.pending -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert_eq!(cursor.open().unwrap().next().unwrap().unwrap().name, b"a");
        assert_eq!(cursor.block().unwrap()[0].name, b"x");
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

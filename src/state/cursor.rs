//! Reads a baseline, front to back.

use super::baseline::Baseline;
use super::block::{Head, Known, read_known};
use super::entry_code::Context;
use super::wire::{Damaged, Reader};
use super::writer::BaselineWriter;

impl Baseline {
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

/// How many paths a body knows, from a look at nothing but the heads of its blocks.
pub(super) fn count(body: &[u8]) -> Result<u64, Damaged> {
    let mut cursor = Cursor { reader: Reader::new(body), context: Context::default() };
    let known = cursor.pass()?;
    if cursor.reader.is_done() {
        Ok(known)
    } else {
        Err(cursor.reader.damaged("something stands behind the last directory"))
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
        Ok(Block { reader, context: &mut self.context, left: head, previous: b"", start })
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

    /// Whether all blocks were read.
    pub(super) fn is_done(&self) -> bool {
        self.reader.is_done()
    }

    /// A cursor for the next block and all blocks below it, over which this one passes, and
    /// how many paths those know.
    ///
    /// # Errors
    /// The bytes make no sense.
    pub fn split_off(&mut self) -> Result<(Cursor<'a>, u64), Damaged> {
        let cursor = self.ahead();
        Ok((cursor, self.pass()?))
    }

    /// A cursor of its own that reads on from here.
    #[must_use]
    pub fn ahead(&self) -> Cursor<'a> {
        Cursor { reader: self.reader.clone(), context: Context::default() }
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
        let start = self.reader.clone();
        let known = self.pass()?;
        out.append(self.passed(start)?, known, 0);
        Ok(())
    }

    /// Copies the next block alone, unread.
    ///
    /// # Errors
    /// The bytes make no sense.
    pub fn copy_block(&mut self, out: &mut BaselineWriter) -> Result<(), Damaged> {
        let start = self.reader.clone();
        let head = self.pass_block()?;
        out.append(self.passed(start)?, head.known, head.blocks);
        Ok(())
    }

    /// The bytes that were passed over since.
    fn passed(&self, mut start: Reader<'a>) -> Result<&'a [u8], Damaged> {
        start.take(self.reader.at() - start.at())
    }

    fn pass_block(&mut self) -> Result<Head, Damaged> {
        let head = Head::read(&mut self.reader)?;
        self.reader.take(head.bytes)?;
        Ok(head)
    }

    fn pass(&mut self) -> Result<u64, Damaged> {
        let (mut pending, mut known) = (1_u64, 0_u64);
        while pending > 0 {
            let head = self.pass_block()?;
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
    left: Head,
    previous: &'a [u8],
    start: usize,
}

impl<'a> Block<'_, 'a> {
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

//! Writes a baseline, front to back.

use super::baseline::Baseline;
use super::block::{Head, is_name, put_known};
use super::entry_code::Context;
use super::{Header, Record};

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
        Ok(Baseline::finished(self.header, self.bytes, self.known))
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

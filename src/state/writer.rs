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
    out: Out,
    context: Context,
    scratch: Vec<u8>,
    pending: u64,
    known: u64,
    disorder: Option<Disorder>,
}

/// What has been written. As long as it is what the old baseline begins with, it is only
/// counted: most runs change little, and a second copy of all paths would be their largest
/// piece of memory.
#[derive(Debug)]
enum Out {
    Alike { old: Box<Baseline>, agreed: usize },
    Own(Vec<u8>),
}

impl Out {
    fn put(&mut self, more: &[u8]) {
        if let Out::Alike { old, agreed } = self {
            if old.body()[*agreed..].starts_with(more) {
                *agreed += more.len();
                return;
            }
            // it will not be much longer
            let mut own = Vec::with_capacity(old.body().len() + old.body().len() / 64 + more.len());
            own.extend_from_slice(&old.body()[..*agreed]);
            *self = Out::Own(own);
        }
        if let Out::Own(bytes) = self {
            bytes.extend_from_slice(more);
        }
    }
}

impl BaselineWriter {
    /// Nothing written yet; the block of the root comes first.
    #[must_use]
    pub fn new(header: Header) -> Self {
        Self::to(Out::Own(Vec::new()), header)
    }

    /// The same for a baseline that is likely to be much like `old`.
    #[must_use]
    pub fn like(old: &Baseline, header: Header) -> Self {
        Self::to(Out::Alike { old: Box::new(old.clone()), agreed: 0 }, header)
    }

    fn to(out: Out, header: Header) -> Self {
        BaselineWriter {
            header,
            out,
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
            let mut start = Vec::new();
            head.put(&mut start);
            self.out.put(&start);
            self.out.put(&self.scratch);
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
        Ok(match self.out {
            Out::Alike { old, agreed } if agreed == old.body().len() => {
                old.with_header(self.header)
            }
            Out::Alike { old, agreed } => {
                Baseline::finished(self.header, old.body()[..agreed].to_vec(), self.known)
            }
            Out::Own(mut bytes) => {
                bytes.shrink_to_fit();
                Baseline::finished(self.header, bytes, self.known)
            }
        })
    }

    /// A block in its finished form, with all blocks below it but `missing` ones, which come
    /// next.
    pub(super) fn append(&mut self, bytes: &[u8], known: u64, missing: u64) {
        if self.take_turn() {
            self.out.put(bytes);
            self.known += known;
            self.pending += missing;
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

    /// Writes `new` as it is, over an old baseline; every `copied`th block in its finished form.
    fn written_over(old: &Baseline, new: &Baseline, copied: usize) -> Baseline {
        let mut writer = BaselineWriter::like(old, new.header().clone());
        let (mut cursor, mut pending, mut count) = (new.cursor(), 1, 0);
        while pending > 0 {
            let mut ahead = cursor.ahead();
            let block = cursor.block().unwrap();
            pending += block.iter().filter(|known| known.has_block).count();
            pending -= 1;
            count += 1;
            if count % copied == 0 {
                ahead.copy_block(&mut writer).unwrap();
            } else {
                writer.block(block.iter().map(|k| (k.name, &k.record, k.has_block)));
            }
        }
        writer.finish().unwrap()
    }

    #[test]
    fn what_did_not_change_is_not_held_twice() {
        let paths: [(RelPath, Record); 2] = ["a", "b"].map(|p| (path(p), seen(3)));
        let old = Baseline::from_records(Header::default(), paths);
        let new = written_over(&old, &old.clone(), usize::MAX);
        assert!(std::ptr::eq(old.body(), new.body()));
        assert_eq!(new.len(), 2);
        let mut writer =
            BaselineWriter::like(&old, Header { version: "9".to_owned(), ..Header::default() });
        old.cursor().copy_subtree(&mut writer).unwrap();
        let mut other = writer.finish().unwrap();
        assert!(std::ptr::eq(old.body(), other.body()));
        assert_eq!(other.header().version, "9", "the same paths under a header of their own");
        other.header_mut().version.push('1');
        assert_eq!(other.header().version, "91");
        assert_eq!(old.header().version, "");
    }

    proptest! {
        #[test]
        fn the_old_baseline_does_not_show_in_the_new_one(
            old in any_records(),
            new in any_records(),
            copied in 1usize..4,
        ) {
            let old = Baseline::from_records(Header::default(), old);
            let new = Baseline::from_records(Header::default(), new);
            for old in [&old, &new, &Baseline::empty()] {
                let written = written_over(old, &new, copied);
                prop_assert_eq!(written.body(), new.body());
                prop_assert_eq!(written.len(), new.len());
            }
        }
    }
}

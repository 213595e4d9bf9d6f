//! The baseline: what both replicas looked like after the last run, kept in one compact buffer
//! and read as a stream (spec 4, "The idea").
//!
//! The buffer is a sequence of *blocks*, one for each directory, with its entries sorted by name
//! as bytes. The root's block comes first. After each block come the blocks of those of its
//! entries that have one, in the order of their names, and after each of these, in the same way,
//! all blocks below it. So a walk needs only a stack: read a block, then enter its entries that
//! have a block, in order.

use super::format::{
    ByteReader, Context, DecodeError, Head, Known, KnownRef, is_name, put_known, read_known,
};
use super::{Header, Record};
use crate::tree::RelPath;
use std::ops::Range;
use std::sync::Arc;

/// Where and how a baseline is damaged; the position counts from the first byte of its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the baseline is damaged {0}")]
pub struct BaselineDamaged(#[from] DecodeError);

impl BaselineDamaged {
    fn as_whole(what: &'static str) -> Self {
        BaselineDamaged(DecodeError { at: 0, what })
    }
}

/// What both sides had after the last run.
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

    /// A baseline of a body that a [`BaselineWriter`] has finished.
    pub(super) fn finished(header: Header, bytes: Vec<u8>, known: u64) -> Self {
        let body = 0..bytes.len();
        Baseline { header, bytes: Arc::new(bytes), body, known }
    }

    /// The same paths with another header; the buffer is shared.
    #[must_use]
    pub fn with_header(self, header: Header) -> Self {
        Baseline { header, ..self }
    }

    /// A baseline of a buffer that holds the body at `body`. Checks that all blocks are there and
    /// nothing else. The entries are checked only when they are read: checking them here too would
    /// cost a run with nothing to do a tenth of its time. [`Baseline::check`] checks them all.
    ///
    /// # Errors
    /// The blocks are damaged; the position counts from the first byte of the body.
    pub fn from_bytes(
        header: Header,
        bytes: Vec<u8>,
        body: Range<usize>,
    ) -> Result<Self, BaselineDamaged> {
        let slice =
            bytes.get(body.clone()).ok_or(BaselineDamaged::as_whole("it ends too early"))?;
        let known = count(slice)?;
        Ok(Baseline { header, bytes: Arc::new(bytes), body, known })
    }

    /// Checks every number, name and entry.
    ///
    /// # Errors
    /// The first damage found.
    pub fn check(&self) -> Result<(), BaselineDamaged> {
        let mut cursor = self.cursor();
        let mut known = Known::default();
        while !cursor.is_done() {
            let mut block = cursor.open()?;
            while block.read_into(&mut known)? {}
        }
        Ok(())
    }

    /// What is kept beside the paths.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How many paths existed on at least one side.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.known
    }

    /// Whether no path existed on any side.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known == 0
    }

    /// The blocks as bytes. Two baselines with equal bytes have the same paths and records.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.body.clone()]
    }
}

impl Baseline {
    /// Reads from the first block on.
    #[must_use]
    pub fn cursor(&self) -> Cursor<'_> {
        self.cursor_at(0)
    }

    /// Reads from the block that begins at this byte of the body.
    pub(super) fn cursor_at(&self, at: usize) -> Cursor<'_> {
        Cursor { reader: ByteReader::new_at(self.body(), at), context: Context::default() }
    }
}

/// How many paths a body knows; reads only the heads of its blocks.
pub(super) fn count(body: &[u8]) -> Result<u64, BaselineDamaged> {
    let mut cursor = Cursor { reader: ByteReader::new(body), context: Context::default() };
    let known = cursor.pass()?;
    if cursor.reader.is_done() {
        Ok(known)
    } else {
        Err(cursor.reader.damaged("there are bytes after the last directory").into())
    }
}

/// Reads a baseline block by block, in the order that the module describes. The caller has to
/// take, copy or skip exactly one block for the root and for each entry with
/// [`Known::has_block`].
#[derive(Debug)]
pub struct Cursor<'a> {
    reader: ByteReader<'a>,
    context: Context,
}

impl<'a> Cursor<'a> {
    /// The next block, to be read entry by entry. If it is not read to its end, the rest of it is
    /// skipped.
    ///
    /// # Errors
    /// The bytes are damaged.
    pub fn open(&mut self) -> Result<Block<'_, 'a>, BaselineDamaged> {
        let head = Head::read(&mut self.reader)?;
        let start = self.reader.at();
        let reader = ByteReader::new(self.reader.take(head.bytes)?);
        self.context.clear();
        Ok(Block { reader, context: &mut self.context, left: head, previous: b"", start })
    }

    /// The next block as a whole.
    ///
    /// # Errors
    /// The bytes are damaged.
    pub fn block(&mut self) -> Result<Vec<Known<'a>>, BaselineDamaged> {
        let mut entries = Vec::new();
        self.block_into(&mut entries)?;
        Ok(entries)
    }

    /// The next block as a whole; replaces the content of `entries`.
    ///
    /// # Errors
    /// The bytes are damaged.
    pub fn block_into(&mut self, entries: &mut Vec<Known<'a>>) -> Result<(), BaselineDamaged> {
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

    /// Skips the next block and all blocks below it; returns a cursor that reads them, and how
    /// many paths they know.
    ///
    /// # Errors
    /// The bytes are damaged.
    pub fn split_off(&mut self) -> Result<(Cursor<'a>, u64), BaselineDamaged> {
        let cursor = self.ahead();
        Ok((cursor, self.pass()?))
    }

    /// A second cursor that reads on from here.
    #[must_use]
    pub fn ahead(&self) -> Cursor<'a> {
        Cursor { reader: self.reader.clone(), context: Context::default() }
    }

    /// Skips the next block and all blocks below it.
    ///
    /// # Errors
    /// The bytes are damaged.
    pub fn skip_subtree(&mut self) -> Result<(), BaselineDamaged> {
        self.pass().map(|_| ())
    }

    /// Copies the next block and all blocks below it without decoding them.
    ///
    /// # Errors
    /// The bytes are damaged.
    pub fn copy_subtree(&mut self, out: &mut BaselineWriter) -> Result<(), BaselineDamaged> {
        let start = self.reader.clone();
        let known = self.pass()?;
        out.append(self.passed(start)?, known, 0);
        Ok(())
    }

    /// Copies the next block alone, without decoding it.
    ///
    /// # Errors
    /// The bytes are damaged.
    pub fn copy_block(&mut self, out: &mut BaselineWriter) -> Result<(), BaselineDamaged> {
        let start = self.reader.clone();
        let head = self.pass_block()?;
        out.append(self.passed(start)?, head.known, head.blocks);
        Ok(())
    }

    /// The bytes that were skipped since `start`.
    fn passed(&self, mut start: ByteReader<'a>) -> Result<&'a [u8], BaselineDamaged> {
        Ok(start.take(self.reader.at() - start.at())?)
    }

    fn pass_block(&mut self) -> Result<Head, BaselineDamaged> {
        let head = Head::read(&mut self.reader)?;
        self.reader.take(head.bytes)?;
        Ok(head)
    }

    fn pass(&mut self) -> Result<u64, BaselineDamaged> {
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
    reader: ByteReader<'a>,
    context: &'c mut Context,
    left: Head,
    previous: &'a [u8],
    start: usize,
}

impl<'a> Block<'_, 'a> {
    /// Reads the next entry into `known`, overwriting it; returns whether there was one. Faster
    /// than the iterator, which has to move each entry.
    ///
    /// # Errors
    /// The bytes are damaged; no further entry is returned then.
    #[inline]
    pub fn read_into(&mut self, known: &mut Known<'a>) -> Result<bool, BaselineDamaged> {
        if self.left.entries == 0 {
            return Ok(false);
        }
        self.read(known).map_err(|mut damage| {
            self.left.entries = 0;
            damage.at += self.start;
            BaselineDamaged(damage)
        })?;
        Ok(true)
    }

    #[inline]
    fn read(&mut self, known: &mut Known<'a>) -> Result<(), DecodeError> {
        read_known(&mut self.reader, self.context, self.previous, known)?;
        self.previous = known.name;
        self.left.entries -= 1;
        let contradiction = || DecodeError { at: 0, what: "a directory's counts are wrong" };
        let count = |left: u64, one: bool| left.checked_sub(one.into()).ok_or_else(contradiction);
        self.left.known = count(self.left.known, !known.record.is_empty())?;
        self.left.blocks = count(self.left.blocks, known.has_block)?;
        let rest = self.left.known + self.left.blocks + u64::from(!self.reader.is_done());
        if self.left.entries == 0 && rest > 0 { Err(contradiction()) } else { Ok(()) }
    }
}

impl<'a> Iterator for Block<'_, 'a> {
    type Item = Result<Known<'a>, BaselineDamaged>;

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
    "a baseline was written out of order ({0}), so nothing was recorded. This is a bug in osync, please report it"
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

/// What has been written. As long as it equals the beginning of the old baseline, its bytes are
/// only counted: most runs change little, and a second copy of all paths would be the largest
/// part of their memory.
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
            // The new baseline will hardly be longer than the old one.
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
    /// A writer to which nothing has been written; the root's block comes first.
    #[must_use]
    pub fn new(header: Header) -> Self {
        Self::to(Out::Own(Vec::new()), header)
    }

    /// A writer for a baseline that is likely to resemble `old`.
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

    /// Writes the entries of one directory, sorted by name. A block that follows may be empty.
    pub fn block<'r>(&mut self, entries: impl IntoIterator<Item = KnownRef<'r>>) {
        self.scratch.clear();
        self.context.clear();
        let mut head = Head::default();
        let mut previous: &[u8] = b"";
        for known in entries {
            let KnownRef { name, record, has_block } = known;
            if !is_name(name) || name <= previous {
                self.disorder.get_or_insert(Disorder("names of a directory"));
                continue;
            }
            previous = name;
            put_known(&mut self.scratch, &mut self.context, known);
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

    /// Writes an encoded block and the blocks below it, except `missing` ones that are written
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

// From here on: baselines from and to whole paths, for the lists and for people.

impl Baseline {
    /// A baseline of these paths, in any order; if a path is given twice, the last one counts.
    /// Missing parent directories get empty records. The root has no record and is ignored.
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

    /// Every path with its record, empty records included, in the order of [`RelPath`]: a
    /// directory, then all that lies below it. If the bytes are damaged, the last item is an error.
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
    walk: Result<Option<Walk<'a, Record, Picker>>, BaselineDamaged>,
}

impl Iterator for Records<'_> {
    type Item = Result<(RelPath, Record), BaselineDamaged>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = match &mut self.walk {
            Ok(walk) => walk.as_mut()?.next(),
            Err(damage) => Err(*damage),
        };
        let item = found.transpose()?.and_then(|(path, record)| {
            let is_odd = |_| BaselineDamaged::as_whole("an entry's name is not a file name");
            Ok((RelPath::new(path).map_err(is_odd)?, record))
        });
        if item.is_err() {
            self.walk = Ok(None);
        }
        Some(item)
    }
}

/// A directory whose entries have not all been added yet.
#[derive(Debug, Default)]
struct OpenDir {
    /// Its name in the directory above.
    name: Vec<u8>,
    /// Its own record; empty if only something below it is known.
    record: Record,
    /// Its entries, encoded.
    entries: Vec<u8>,
    head: Head,
    context: Context,
    /// The blocks below it, encoded.
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

    /// Adds an entry whose own blocks are complete.
    fn add(&mut self, done: OpenDir) -> Result<(), Disorder> {
        if !is_name(&done.name) || done.name <= self.last {
            return Err(Disorder("names of a directory"));
        }
        let has_block = !done.is_bare();
        let known = KnownRef { name: &done.name, record: &done.record, has_block };
        put_known(&mut self.entries, &mut self.context, known);
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

/// Builds a baseline from paths in the order of [`RelPath`], in which each directory is followed
/// by all that lies below it. Only the directories above the current path are held decoded.
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
        // Skip the directories that are open already.
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
            if let Err(disorder) = above.add(done) {
                self.disorder.get_or_insert(disorder);
            }
        }
    }
}

// From here on: walks over a baseline in the order of whole paths, without holding all of them.

/// The order of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As [`RelPath`](crate::tree::RelPath) orders them: a directory, then all below it.
    Tree,
    /// As `LC_ALL=C sort` orders them: by the bytes of the whole path. `a b` comes between
    /// `a` and `a/b`.
    Text,
}

/// What a walk does with an entry.
#[derive(Debug)]
pub(super) struct Pick<T> {
    /// What to return for it; `None` to skip it.
    pub(super) keep: Option<T>,
    /// Whether to walk what lies below it.
    pub(super) enter: bool,
}

/// Where a block begins, and the number of the first block that is not below it.
#[derive(Debug, Clone, Copy)]
struct BlockAt {
    at: usize,
    after: usize,
}

#[derive(Debug)]
struct Item<'a, T> {
    name: &'a [u8],
    what: What<T>,
}

#[derive(Debug)]
enum What<T> {
    Entry(T),
    /// What lies below the name: the number of its block.
    Below(usize),
}

impl<T> Item<'_, T> {
    /// The bytes that [`Order::Text`] compares: paths below a name continue with `/`.
    fn text(&self) -> impl Iterator<Item = &u8> {
        self.name.iter().chain(matches!(self.what, What::Below(_)).then_some(&b'/'))
    }
}

#[derive(Debug)]
struct Frame<'a, T> {
    items: std::vec::IntoIter<Item<'a, T>>,
    /// The length of the directory's own path.
    dir: usize,
}

/// A walk. Holds the entries of the directories from the root to the present one.
#[derive(Debug)]
pub(super) struct Walk<'a, T, P> {
    baseline: &'a Baseline,
    blocks: Vec<BlockAt>,
    frames: Vec<Frame<'a, T>>,
    path: Vec<u8>,
    order: Order,
    pick: P,
}

impl<'a, T, P: FnMut(Known<'a>) -> Pick<T>> Walk<'a, T, P> {
    pub(super) fn new(
        baseline: &'a Baseline,
        order: Order,
        pick: P,
    ) -> Result<Self, BaselineDamaged> {
        let blocks = find_blocks(baseline.body())?;
        let (frames, path) = (Vec::new(), Vec::new());
        let mut walk = Walk { baseline, blocks, frames, path, order, pick };
        walk.enter(0)?;
        Ok(walk)
    }

    /// The next path that was picked.
    pub(super) fn next(&mut self) -> Result<Option<(&[u8], T)>, BaselineDamaged> {
        loop {
            let Some(frame) = self.frames.last_mut() else { return Ok(None) };
            self.path.truncate(frame.dir);
            let Some(item) = frame.items.next() else {
                self.frames.pop();
                continue;
            };
            if frame.dir > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(item.name);
            match item.what {
                What::Entry(kept) => return Ok(Some((&self.path, kept))),
                What::Below(block) => self.enter(block)?,
            }
        }
    }

    fn enter(&mut self, block: usize) -> Result<(), BaselineDamaged> {
        let mut items = Vec::new();
        let mut below = block + 1;
        let mut cursor = self.baseline.cursor_at(self.block(block)?.at);
        for known in cursor.open()? {
            let known = known?;
            let (name, has_block) = (known.name, known.has_block);
            let pick = (self.pick)(known);
            if let Some(kept) = pick.keep {
                items.push(Item { name, what: What::Entry(kept) });
            }
            if has_block {
                if pick.enter {
                    items.push(Item { name, what: What::Below(below) });
                }
                below = self.block(below)?.after;
            }
        }
        // If nothing lies below, the entries are in text order already.
        if self.order == Order::Text && below > block + 1 {
            items.sort_by(|a, b| a.text().cmp(b.text()));
        }
        self.frames.push(Frame { items: items.into_iter(), dir: self.path.len() });
        Ok(())
    }

    fn block(&self, number: usize) -> Result<BlockAt, BaselineDamaged> {
        self.blocks.get(number).copied().ok_or(BaselineDamaged::as_whole("a directory is missing"))
    }
}

/// One pass over the heads of all blocks.
fn find_blocks(body: &[u8]) -> Result<Vec<BlockAt>, BaselineDamaged> {
    let mut reader = ByteReader::new(body);
    let mut blocks: Vec<BlockAt> = Vec::new();
    // The blocks that are incomplete: their number, and how many blocks are missing below them.
    let mut open: Vec<(usize, u64)> = Vec::new();
    loop {
        let at = reader.at();
        let head = Head::read(&mut reader)?;
        reader.take(head.bytes)?;
        open.push((blocks.len(), head.blocks));
        blocks.push(BlockAt { at, after: 0 });
        while let Some((number, 0)) = open.last().copied() {
            blocks[number].after = blocks.len();
            open.pop();
        }
        match open.last_mut() {
            Some((_, missing)) => *missing -= 1,
            None => return Ok(blocks),
        }
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
            writer.block(block.iter().map(Known::borrowed));
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
        assert_eq!((damage.0.at, damage.0.what), (at + 1, "an entry's name is not a file name"));
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
                writer.block(block.iter().map(|(name, has_block)| KnownRef {
                    name: name.as_bytes(),
                    record: &record,
                    has_block: *has_block,
                }));
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

#[cfg(test)]
mod writer_tests {
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
                writer.block(block.iter().map(Known::borrowed));
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
        let other = writer.finish().unwrap();
        assert!(std::ptr::eq(old.body(), other.body()));
        assert_eq!(other.header().version, "9", "the same paths under a header of their own");
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

#[cfg(test)]
mod records_tests {
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

#[cfg(test)]
mod walk_tests {
    use super::*;
    use crate::state::Header;
    use crate::state::testing::{any_records, path, seen};
    use crate::tree::RelPath;
    use proptest::prelude::*;

    fn paths(baseline: &Baseline, order: Order) -> Vec<Vec<u8>> {
        let everything = |_: Known<'_>| Pick { keep: Some(()), enter: true };
        let mut walk = Walk::new(baseline, order, everything).unwrap();
        let mut paths = Vec::new();
        while let Some((path, ())) = walk.next().unwrap() {
            paths.push(path.to_vec());
        }
        paths
    }

    #[test]
    fn what_is_not_entered_is_passed_over_with_all_below_it() {
        let given = ["a/b/c", "a/d", "e/f"].map(|p| (path(p), seen(1)));
        let baseline = Baseline::from_records(Header::default(), given);
        let pick = |known: Known<'_>| Pick { keep: Some(()), enter: known.name != b"a" };
        let mut walk = Walk::new(&baseline, Order::Tree, pick).unwrap();
        for expected in ["a", "e", "e/f"] {
            assert_eq!(walk.next().unwrap().unwrap().0, expected.as_bytes());
        }
        assert!(walk.next().unwrap().is_none());
    }

    proptest! {
        #[test]
        fn both_orders_are_those_of_sorted_whole_paths(given in any_records()) {
            let baseline = Baseline::from_records(Header::default(), given);
            let by_tree = paths(&baseline, Order::Tree);
            let mut relative: Vec<_> =
                by_tree.iter().map(|path| RelPath::new(path.clone()).unwrap()).collect();
            relative.sort();
            prop_assert!(relative.iter().map(RelPath::as_bytes).eq(by_tree.iter().map(Vec::as_slice)));
            let mut by_text = by_tree;
            by_text.sort();
            prop_assert_eq!(paths(&baseline, Order::Text), by_text);
        }
    }
}

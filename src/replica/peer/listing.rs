//! A tree as blocks, so that of a tree that both sides know only what has changed must travel.
//!
//! Directories come one behind the other, each before those in it, in the order of their
//! names; so a block need not say which directory it is of. What a directory holds is one
//! block, or several where it holds much: their borders depend on the names beside them, so
//! that a new entry changes one block and not all behind it. A block says the same wherever it
//! stands, and is named by its digest.
//!
//! The last listing of a peer, as the client keeps it in its state directory: the blocks
//! behind each other, and where each begins. It is believed only as far as its blocks add up to
//! the name that the peer gives; without it everything travels.

use super::protocol::{ListingName, MOST_FRAME, Piece, Whole};
use crate::state::format::{ByteReader, Context, DecodeError, put_entry, put_string, read_entry};
use crate::state::temporary_file;
use crate::tree::{
    Children, Entry, Kind, NodeId, RelPath, Side, Standing, TooLarge, Tree, TreeBuilder,
};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// How a block is named.
pub(super) type BlockName = [u8; 16];

/// A block of so many bytes is full.
const FULL: usize = 1 << 16;
/// A block has at least so many entries, if the directory has.
const FEWEST: u64 = 64;
/// One name of so many ends a block.
const BORDER: u32 = 512;

/// The directory goes on in the next block.
const GOES_ON: u8 = 0;
/// It is the last block of the directory.
const ENDS: u8 = 1;

/// Added to the number of an entry's standing: another file system is mounted there.
const MOUNTED: u8 = 4;

/// A block's name.
pub(super) fn name_of(block: &[u8]) -> BlockName {
    let mut name = [0; 16];
    name.copy_from_slice(&blake3::hash(block).as_bytes()[..16]);
    name
}

/// Hands over the blocks of a tree, in order, each with the number of its entries.
///
/// # Errors
/// Those of `take`.
pub(super) fn blocks<E>(
    tree: &Tree,
    mut take: impl FnMut(&[u8], u64) -> Result<(), E>,
) -> Result<(), E> {
    let mut pending = vec![Tree::ROOT];
    pending.retain(|top| is_entered(tree.standing(*top), tree.entry(*top)));
    let (mut block, mut context) = (Vec::new(), Context::default());
    while let Some(dir) = pending.pop() {
        let first = pending.len();
        let mut children = tree.children(dir).peekable();
        loop {
            context.clear();
            block.clear();
            block.push(ENDS);
            let mut count: u64 = 0;
            while let Some(id) = children.next() {
                let (name, entry, standing) = (tree.name(id), tree.entry(id), tree.standing(id));
                let mounted = if tree.is_mount_point(id) { MOUNTED } else { 0 };
                block.push(number_of(standing) | mounted);
                put_string(&mut block, name);
                put_entry(&mut block, &mut context, Side::Target, entry, None);
                if is_entered(standing, entry) {
                    pending.push(id);
                }
                count += 1;
                let is_border = count >= FEWEST && digest(name).is_multiple_of(BORDER);
                if (is_border || block.len() >= FULL) && children.peek().is_some() {
                    block[0] = GOES_ON;
                    break;
                }
            }
            take(&block, count)?;
            if block[0] == ENDS {
                break;
            }
        }
        pending[first..].reverse();
    }
    Ok(())
}

/// Whether a tree has entries below this one.
fn is_entered(standing: Standing, entry: &Entry) -> bool {
    standing == Standing::Present && entry.kind == Kind::Dir
}

/// FNV-1a: the same on every machine, and quick.
fn digest(name: &[u8]) -> u32 {
    name.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn number_of(standing: Standing) -> u8 {
    match standing {
        Standing::Present => 0,
        Standing::Excluded => 1,
        Standing::Unknown => 2,
    }
}

/// Why blocks are no tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoTree {
    #[error("in a block {0}")]
    Damaged(#[from] DecodeError),
    #[error("{0}")]
    Wrong(&'static str),
}

impl From<TooLarge> for NoTree {
    fn from(_: TooLarge) -> Self {
        NoTree::Wrong("it has more entries than there can be")
    }
}

/// Counts and names what goes by.
#[derive(Default)]
pub(super) struct Sum {
    entries: u64,
    names: blake3::Hasher,
}

impl Sum {
    /// One more block.
    pub fn add(&mut self, name: &BlockName, entries: u64) {
        self.names.update(name);
        self.entries += entries;
    }

    /// What all of them amount to.
    pub fn whole(&self) -> Whole {
        Whole { entries: self.entries, name: *self.names.finalize().as_bytes() }
    }
}

/// Makes blocks into a tree again. They come from elsewhere: nothing is taken on trust.
pub(super) struct TreeReader {
    builder: TreeBuilder,
    /// Directories whose blocks are yet to come, the next one last.
    pending: Vec<NodeId>,
    children: Children,
    /// The name before.
    last: Vec<u8>,
    entry: Entry,
    context: Context,
    sum: Sum,
}

impl TreeReader {
    pub fn new(standing: Standing, top: Entry) -> Self {
        let pending = if is_entered(standing, &top) { vec![Tree::ROOT] } else { Vec::new() };
        let mut builder = TreeBuilder::new(top);
        match standing {
            Standing::Present => {}
            Standing::Excluded | Standing::Unknown => builder.mark_unknown(Tree::ROOT),
        }
        TreeReader {
            builder,
            pending,
            children: Children::default(),
            last: Vec::new(),
            entry: Entry::new(Kind::File),
            context: Context::default(),
            sum: Sum::default(),
        }
    }

    /// Takes the next block.
    ///
    /// # Errors
    /// It is none, or there is no directory left that it could be of.
    pub fn take(&mut self, block: &[u8]) -> Result<(), NoTree> {
        let Some(dir) = self.pending.last().copied() else {
            return Err(NoTree::Wrong("it has blocks of no directory"));
        };
        let mut reader = ByteReader::new(block);
        self.context.clear();
        let ends = match reader.byte()? {
            ENDS => true,
            GOES_ON => false,
            _ => return Err(reader.damaged("a block neither ends nor goes on").into()),
        };
        let mut count = 0;
        while !reader.is_done() {
            let about = reader.byte()?;
            let standing = match about & !MOUNTED {
                0 => Standing::Present,
                1 => Standing::Excluded,
                2 => Standing::Unknown,
                _ => return Err(reader.damaged("an entry is in no state").into()),
            };
            let name = reader.string()?;
            // INVARIANT: a name leads nowhere else, and each stands in a directory once
            if name.is_empty() || matches!(name, b"." | b"..") {
                return Err(reader.damaged("a name is not valid").into());
            }
            if name.iter().any(|byte| matches!(byte, 0 | b'/')) {
                return Err(reader.damaged("a name holds a slash or NUL").into());
            }
            if name <= self.last.as_slice() {
                return Err(reader.damaged("names are not in order").into());
            }
            self.last.clear();
            self.last.extend_from_slice(name);
            read_entry(&mut reader, &mut self.context, Side::Target, &mut self.entry, None)?;
            self.children.push(name, standing, self.entry.clone())?;
            if about & MOUNTED != 0 {
                self.children.mark_mounted();
            }
            count += 1;
        }
        self.sum.add(&name_of(block), count);
        if ends {
            self.last.clear();
            self.pending.pop();
            let ids = self.builder.fill_from(dir, &mut self.children)?;
            let tree = self.builder.tree();
            let entered = ids.filter(|id| is_entered(tree.standing(*id), tree.entry(*id)));
            let first = self.pending.len();
            self.pending.extend(entered);
            self.pending[first..].reverse();
        }
        Ok(())
    }

    /// How many entries have come.
    pub fn entries(&self) -> u64 {
        self.sum.entries
    }

    /// The tree, if it is whole and what the other side means.
    ///
    /// # Errors
    /// It is not.
    pub fn finish(self, whole: &Whole) -> Result<Tree, NoTree> {
        if !self.pending.is_empty() || !self.children.is_empty() {
            return Err(NoTree::Wrong("it ends too early"));
        }
        if self.sum.whole() != *whole {
            return Err(NoTree::Wrong("it is not what its check value says"));
        }
        Ok(self.builder.finish())
    }
}

/// The blocks of the last listing by name, for whoever tells what is new.
#[derive(Default)]
pub(super) struct Known {
    names: Vec<BlockName>,
    /// Where each stands; made when it is first needed.
    places: Option<HashMap<BlockName, u32>>,
    /// What stands there is the likeliest to come next.
    next: u32,
}

impl Known {
    pub fn new(names: Vec<BlockName>) -> Self {
        Known { names, places: None, next: 0 }
    }

    fn place(&mut self, name: &BlockName) -> Option<u32> {
        if self.names.get(self.next as usize) == Some(name) {
            return Some(self.next);
        }
        let places = self.places.get_or_insert_with(|| {
            let numbered = self.names.iter().zip(0_u32..);
            numbered.map(|(name, number)| (*name, number)).collect()
        });
        places.get(name).copied()
    }

    /// Adds a block to what is said; a run of known ones is one piece.
    pub fn tell(&mut self, block: &[u8], name: &BlockName, pieces: &mut Vec<Piece>) {
        let Some(place) = self.place(name) else {
            pieces.push(Piece::New(block.to_vec()));
            return;
        };
        self.next = place.saturating_add(1);
        match pieces.last_mut() {
            Some(Piece::Same { from, count }) if from.checked_add(*count) == Some(place) => {
                *count += 1;
            }
            _ => pieces.push(Piece::Same { from: place, count: 1 }),
        }
    }
}

/// The file that keeps the names of the last listing's blocks: the listing's name first.
pub(super) fn names_to_bytes(name: &ListingName, names: &[BlockName]) -> Vec<u8> {
    let mut bytes = name.to_vec();
    names.iter().for_each(|name| bytes.extend_from_slice(name));
    bytes
}

/// Reads such a file; `None` if it is of another listing, or none.
pub(super) fn names_from_bytes(bytes: &[u8], wanted: &ListingName) -> Option<Vec<BlockName>> {
    let rest = bytes.strip_prefix(wanted.as_slice())?;
    let (names, []) = rest.as_chunks::<16>() else { return None };
    let mut sum = blake3::Hasher::new();
    names.iter().for_each(|name| {
        sum.update(name);
    });
    (sum.finalize().as_bytes() == wanted).then(|| names.to_vec())
}

/// Whether a tree holds one of our own names at its top, which no scan lists.
pub(super) fn holds_ours(tree: &Tree, ours: &[&[u8]]) -> bool {
    ours.iter().any(|name| tree.find(&RelPath::root().join(name)).is_some())
}

const BEGIN: &[u8; 16] = b"osync listing 1\n";
/// The number of blocks and the listing's name.
const FOOT: usize = 4 + 32;

/// The one of the last run.
pub(super) struct Last {
    file: BufReader<File>,
    /// Where it stands in the file.
    at: u64,
    /// Where each block begins, and where the last one ends.
    starts: Vec<u64>,
    name: ListingName,
}

impl Last {
    /// Opens it; `None`: there is none that could be used.
    pub fn open(path: &Path) -> Option<Self> {
        Self::read(path).ok().flatten()
    }

    fn read(path: &Path) -> io::Result<Option<Self>> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut begin = [0; BEGIN.len()];
        file.read_exact(&mut begin)?;
        let Some(foot_at) = size.checked_sub(FOOT as u64).filter(|_| begin == *BEGIN) else {
            return Ok(None);
        };
        file.seek(SeekFrom::Start(foot_at))?;
        let (mut count, mut name) = ([0; 4], [0; 32]);
        file.read_exact(&mut count)?;
        file.read_exact(&mut name)?;
        let count = u64::from(u32::from_le_bytes(count));
        let Some(index_at) = foot_at.checked_sub((count + 1) * 8) else { return Ok(None) };
        file.seek(SeekFrom::Start(index_at))?;
        let mut index = Vec::new();
        (&mut file).take((count + 1) * 8).read_to_end(&mut index)?;
        let (starts, []) = index.as_chunks::<8>() else { return Ok(None) };
        let starts: Vec<u64> = starts.iter().map(|at| u64::from_le_bytes(*at)).collect();
        let is_sound = starts.is_sorted() && starts.last() == Some(&index_at);
        if !is_sound || starts[0] != BEGIN.len() as u64 {
            return Ok(None);
        }
        file.seek(SeekFrom::Start(starts[0]))?;
        let at = starts[0];
        Ok(Some(Last { file: BufReader::with_capacity(1 << 17, file), at, starts, name }))
    }

    pub fn name(&self) -> ListingName {
        self.name
    }

    fn blocks(&self) -> u32 {
        u32::try_from(self.starts.len() - 1).unwrap_or(u32::MAX)
    }

    /// Puts a block into `block`; `false`: there is none, or it cannot be read.
    fn block(&mut self, number: u32, block: &mut Vec<u8>) -> bool {
        let place = number as usize;
        let (Some(start), Some(end)) = (self.starts.get(place), self.starts.get(place + 1)) else {
            return false;
        };
        let (start, length) = (*start, end - start);
        if length > MOST_FRAME as u64 {
            return false;
        }
        if self.at != start {
            let step = i64::try_from(start).ok().zip(i64::try_from(self.at).ok());
            let Some((to, from)) = step else { return false };
            if self.file.seek_relative(to - from).is_err() {
                return false;
            }
        }
        block.clear();
        let read = (&mut self.file).take(length).read_to_end(block);
        self.at = start + block.len() as u64;
        read.is_ok_and(|read| read as u64 == length)
    }
}

/// What is written of a new listing.
struct Writing {
    file: BufWriter<NamedTempFile>,
    at: u64,
    starts: Vec<u64>,
}

impl Writing {
    fn begin(path: &Path) -> io::Result<Self> {
        let mut file = BufWriter::with_capacity(1 << 17, temporary_file(path)?);
        file.write_all(BEGIN)?;
        Ok(Writing { file, at: BEGIN.len() as u64, starts: Vec::new() })
    }

    fn add(&mut self, block: &[u8]) -> io::Result<()> {
        self.starts.push(self.at);
        self.at += block.len() as u64;
        self.file.write_all(block)
    }

    fn finish(mut self, path: &Path, name: &ListingName) -> io::Result<()> {
        let count = u32::try_from(self.starts.len()).map_err(io::Error::other)?;
        self.starts.push(self.at);
        for start in &self.starts {
            self.file.write_all(&start.to_le_bytes())?;
        }
        self.file.write_all(&count.to_le_bytes())?;
        self.file.write_all(name)?;
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.persist(path)?;
        Ok(())
    }
}

/// Takes the pieces of a listing, reads what they refer to in the last one, and writes a new
/// one beside it from the first piece on that says something new.
pub(super) struct Keeper {
    last: Option<Last>,
    /// Where the new one goes; `None`: it is not kept.
    path: Option<PathBuf>,
    /// As long as every block was that of the last listing: how many.
    same: u32,
    writing: Option<Writing>,
    block: Vec<u8>,
}

impl Keeper {
    pub fn new(last: Option<Last>, path: Option<PathBuf>) -> Self {
        Keeper { last, path, same: 0, writing: None, block: Vec::new() }
    }

    /// Hands on the blocks of a piece.
    ///
    /// # Errors
    /// Those of `take`; a block of a listing that we do not have.
    pub fn take(
        &mut self,
        piece: Piece,
        take: &mut dyn FnMut(&[u8]) -> Result<(), NoTree>,
    ) -> Result<(), NoTree> {
        const UNKNOWN: NoTree = NoTree::Wrong("it refers to a listing that is not there");
        let Piece::Same { from, count } = piece else {
            let Piece::New(block) = piece else { return Err(UNKNOWN) };
            self.write_from_here();
            self.write(&block);
            return take(&block);
        };
        let end = from.checked_add(count).ok_or(UNKNOWN)?;
        let mut block = std::mem::take(&mut self.block);
        for number in from..end {
            let known = self.last.as_mut().is_some_and(|last| last.block(number, &mut block));
            if !known {
                return Err(UNKNOWN);
            }
            if self.writing.is_none() && number == self.same {
                self.same += 1;
            } else {
                self.write_from_here();
                self.write(&block);
            }
            take(&block)?;
        }
        self.block = block;
        Ok(())
    }

    /// From here on it is another one: what was the same so far is copied.
    fn write_from_here(&mut self) {
        if self.writing.is_some() {
            return;
        }
        let Some(path) = &self.path else { return };
        let mut block = Vec::new();
        let mut copy = || -> io::Result<Writing> {
            let mut writing = Writing::begin(path)?;
            for number in 0..self.same {
                if !self.last.as_mut().is_some_and(|last| last.block(number, &mut block)) {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                writing.add(&block)?;
            }
            Ok(writing)
        };
        match copy() {
            Ok(writing) => self.writing = Some(writing),
            // no room for it: then everything travels the next time
            Err(_) => self.path = None,
        }
    }

    fn write(&mut self, block: &[u8]) {
        if let Some(writing) = &mut self.writing
            && writing.add(block).is_err()
        {
            (self.writing, self.path) = (None, None);
        }
    }

    /// The listing is whole: it takes the place of the last one.
    pub fn keep(mut self, name: &ListingName) {
        let is_last =
            self.last.as_ref().is_some_and(|last| last.name == *name && last.blocks() == self.same);
        if is_last && self.writing.is_none() {
            return;
        }
        self.write_from_here();
        if let (Some(writing), Some(path)) = (self.writing.take(), &self.path) {
            // one that is not kept costs time and nothing else
            let _ = writing.finish(path, name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use super::{Keeper, Last};
    use crate::replica::Unread;
    use crate::replica::peer::protocol::{Response, decode, encode, length};
    use crate::tree::{Child, Stamp};
    use proptest::prelude::*;
    use std::path::Path;

    /// A tree whose shape and names come from numbers.
    fn tree_of(numbers: &[u8]) -> Tree {
        let mut top = Entry::new(Kind::Dir);
        top.mtime = Stamp::new(1, 1);
        let mut builder = TreeBuilder::new(top);
        let mut dirs = vec![Tree::ROOT];
        for chunk in numbers.chunks(5) {
            let Some(dir) = dirs.pop() else { break };
            let children = chunk.iter().enumerate().map(|(at, number)| {
                let kind = if number % 3 == 0 { Kind::Dir } else { Kind::File };
                let mut entry = Entry::new(kind);
                (entry.size, entry.ino) = (u64::from(*number), u64::from(*number) << 9);
                entry.mtime = Stamp::new(i64::from(*number) << 20, u32::from(*number));
                let standing = match number % 11 {
                    1 => Standing::Excluded,
                    2 => Standing::Unknown,
                    _ => Standing::Present,
                };
                Child { name: format!("{number}-{at}").into_bytes(), standing, entry }
            });
            let ids: Vec<NodeId> = builder.fill(dir, children.collect()).unwrap().collect();
            let tree = builder.tree();
            let entered = |id: &NodeId| is_entered(tree.standing(*id), tree.entry(*id));
            dirs.extend(ids.into_iter().filter(entered));
        }
        builder.finish()
    }

    fn wide(entries: u32, but: Option<u32>) -> Tree {
        let mut builder = TreeBuilder::new(Entry::new(Kind::Dir));
        let children = (0..entries).filter(|n| Some(*n) != but).map(|n| Child {
            name: format!("file {n}").into_bytes(),
            standing: Standing::Present,
            entry: Entry::new(Kind::File),
        });
        let _ = builder.fill(Tree::ROOT, children.collect()).unwrap();
        builder.finish()
    }

    fn told(tree: &Tree) -> Vec<String> {
        let one = |id| format!("{} {:?} {:?}", tree.path(id), tree.standing(id), tree.entry(id));
        let mut all: Vec<String> = std::iter::once(Tree::ROOT).chain(tree.ids()).map(one).collect();
        all.sort();
        all
    }

    struct Sent {
        pieces: Vec<Piece>,
        whole: Whole,
        names: Vec<BlockName>,
    }

    fn send(tree: &Tree, known: Vec<BlockName>) -> Sent {
        let (mut sum, mut names, mut pieces) = (Sum::default(), Vec::new(), Vec::new());
        let mut known = Known::new(known);
        blocks(tree, |block, entries| {
            let name = name_of(block);
            sum.add(&name, entries);
            known.tell(block, &name, &mut pieces);
            names.push(name);
            Ok::<(), ()>(())
        })
        .unwrap();
        Sent { pieces, whole: sum.whole(), names }
    }

    fn receive(top: &Tree, sent: &Sent, file: &Path) -> Result<Tree, NoTree> {
        let mut keeper = Keeper::new(Last::open(file), Some(file.to_owned()));
        let (standing, entry) = (top.standing(Tree::ROOT), top.entry(Tree::ROOT).clone());
        let mut reader = TreeReader::new(standing, entry);
        for piece in sent.pieces.clone() {
            keeper.take(piece, &mut |block| reader.take(block))?;
        }
        let tree = reader.finish(&sent.whole)?;
        keeper.keep(&sent.whole.name);
        Ok(tree)
    }

    #[test]
    fn what_did_not_change_does_not_travel() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("listing");
        let tree = wide(20_000, None);
        let first = send(&tree, Vec::new());
        assert!(first.pieces.len() > 10);
        assert_eq!(told(&receive(&tree, &first, &file).unwrap()), told(&tree));
        let again = send(&tree, first.names.clone());
        assert_eq!(again.pieces.len(), 1, "one piece says that all is the same");
        assert_eq!(told(&receive(&tree, &again, &file).unwrap()), told(&tree));
        let changed = wide(20_000, Some(10_000));
        let third = send(&changed, first.names.clone());
        let new = third.pieces.iter().filter(|piece| matches!(piece, Piece::New(_))).count();
        assert_eq!(new, 1, "one block holds the change");
        assert_eq!(told(&receive(&changed, &third, &file).unwrap()), told(&changed));
        assert_eq!(Last::open(&file).unwrap().name(), third.whole.name, "the new one is kept");
        let fourth = send(&tree, third.names);
        assert_eq!(told(&receive(&tree, &fourth, &file).unwrap()), told(&tree));
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1, "nothing is left beside");
    }

    #[test]
    fn a_kept_listing_that_was_cut_or_changed_is_not_believed() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("listing");
        let tree = wide(300, None);
        let first = send(&tree, Vec::new());
        receive(&tree, &first, &file).unwrap();
        let good = std::fs::read(&file).unwrap();
        let again = send(&tree, first.names.clone());
        for at in (0..good.len()).step_by(7) {
            for cut in [true, false] {
                let mut bad = good.clone();
                if cut {
                    bad.truncate(at)
                } else {
                    bad[at] ^= 0x41
                }
                std::fs::write(&file, &bad).unwrap();
                if let Ok(found) = receive(&tree, &again, &file) {
                    assert_eq!(told(&found), told(&tree), "{at}");
                }
            }
        }
    }

    #[test]
    fn a_name_that_leads_elsewhere_or_comes_twice_is_no_name() {
        let names: [&[u8]; 2] = [b"aa", b"bb"];
        let mut children = Children::default();
        for name in names {
            children.push(name, Standing::Present, Entry::new(Kind::File)).unwrap();
        }
        let mut builder = TreeBuilder::new(Entry::new(Kind::Dir));
        let _ = builder.fill_from(Tree::ROOT, &mut children).unwrap();
        let tree = builder.finish();
        let sent = send(&tree, Vec::new());
        let [Piece::New(block)] = &sent.pieces[..] else { panic!() };
        let read = |block: &[u8]| {
            let mut reader = TreeReader::new(Standing::Present, Entry::new(Kind::Dir));
            reader.take(block)
        };
        assert_eq!(read(block), Ok(()));
        let at = block.windows(2).position(|bytes| bytes == b"aa").unwrap();
        for bad in [b"..", b"/x", b"a/", b"a\0", b"bb", b"cc"] {
            let mut block = block.clone();
            block[at..at + 2].copy_from_slice(bad);
            assert!(read(&block).is_err(), "{}", bad.escape_ascii());
        }
    }

    /// The frames of an answer to a scan, each with what a request of that number is answered.
    fn answer(sent: &Sent) -> Vec<Vec<u8>> {
        let top = Response::Top(Standing::Present, Entry::new(Kind::Dir));
        let pieces = sent.pieces.iter().map(|piece| Response::Pieces(vec![piece.clone()]));
        let end =
            [Response::Problems(Vec::new()), Response::Scanned(sent.whole, Unread::default())];
        let all = [top, Response::Progress(3)].into_iter().chain(pieces).chain(end);
        all.map(|response| encode(7, &response).unwrap()).collect()
    }

    /// What a client, which knows `old`, makes of an answer, as it comes over the line.
    fn heard(mut bytes: &[u8], old: &Path) -> Option<Vec<String>> {
        let mut next = || loop {
            let (head, rest) = bytes.split_first_chunk::<4>()?;
            let (frame, behind) = rest.split_at_checked(length(*head).ok()?)?;
            bytes = behind;
            match decode::<Response>(frame).ok()? {
                (7, Response::Progress(_)) => {}
                (7, response) => return Some(response),
                _ => return None,
            }
        };
        let mut keeper = Keeper::new(Last::open(old), None);
        let Response::Top(standing, top) = next()? else { return None };
        let mut reader = TreeReader::new(standing, top);
        let whole = loop {
            match next()? {
                Response::Pieces(pieces) => {
                    for piece in pieces {
                        keeper.take(piece, &mut |block| reader.take(block)).ok()?;
                    }
                }
                Response::Problems(_) => {}
                Response::Scanned(whole, _) => break whole,
                _ => return None,
            }
        };
        // what is said of the top itself is no part of the listing
        reader.finish(&whole).ok().map(|tree| told(&tree).split_off(1))
    }

    #[test]
    fn an_answer_that_is_cut_or_changed_at_any_byte_is_none_or_the_right_tree() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("listing");
        let old = tree_of(&[3, 7, 9, 12, 1, 2, 30, 33, 5]);
        let new = tree_of(&[3, 7, 9, 12, 1, 2, 30, 34, 5, 6, 60]);
        let first = send(&old, Vec::new());
        receive(&old, &first, &file).unwrap();
        for (sent, known) in
            [(send(&new, Vec::new()), "none"), (send(&new, first.names), "listing")]
        {
            let known = temp.path().join(known);
            let frames = answer(&sent);
            let stream = frames.concat();
            let right = heard(&stream, &known);
            assert_eq!(right.as_ref().map(Vec::len), Some(new.len()));
            let check = |mutant: &[u8], what: &str| {
                let heard = heard(mutant, &known);
                assert!(heard.is_none() || heard == right, "{what}: {heard:?}");
            };
            for at in 0..stream.len() {
                assert_eq!(heard(&stream[..at], &known), None, "cut at {at}");
                check(&stream[at..], "beheaded");
                check(&[&stream[..at], &stream[at + 1..]].concat(), "a byte less");
                check(&[&stream[..at], &stream[at.saturating_sub(9)..]].concat(), "repeated");
                for byte in [0, 1, 7, 0x7f, 0xff, stream[at] ^ 1, stream[at] ^ 0x20] {
                    let mut mutant = stream.clone();
                    mutant[at] = byte;
                    check(&mutant, "another byte");
                    check(&[&stream[..at], &[byte], &stream[at..]].concat(), "a byte more");
                }
            }
            for one in 0..frames.len() {
                check(&[&frames[..one], &frames[one + 1..]].concat().concat(), "a frame less");
                for other in 0..frames.len() {
                    let mut mixed = frames.clone();
                    mixed.swap(one, other);
                    check(&mixed.concat(), "frames exchanged");
                    mixed.insert(one, frames[other].clone());
                    check(&mixed.concat(), "a frame more");
                }
            }
            check(&[&stream[..], &stream[..]].concat(), "twice");
        }
    }

    #[test]
    fn names_of_blocks_are_known_by_the_listing_that_they_make() {
        let sent = send(&wide(2000, None), Vec::new());
        let bytes = names_to_bytes(&sent.whole.name, &sent.names);
        assert_eq!(names_from_bytes(&bytes, &sent.whole.name), Some(sent.names));
        assert_eq!(names_from_bytes(&bytes, &[7; 32]), None);
        assert_eq!(names_from_bytes(&bytes[..bytes.len() - 16], &sent.whole.name), None);
        assert_eq!(names_from_bytes(&bytes[..bytes.len() - 1], &sent.whole.name), None);
    }

    proptest! {
        #[test]
        fn a_listing_is_the_tree_or_an_error_whatever_happens_to_its_pieces(
            before in prop::collection::vec(any::<u8>(), 0..120),
            after in prop::collection::vec(any::<u8>(), 0..120),
            harm in (0..6_u8, any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        ) {
            let temp = tempfile::tempdir().unwrap();
            let file = temp.path().join("listing");
            let (old, new) = (tree_of(&before), tree_of(&after));
            let first = send(&old, Vec::new());
            prop_assert_eq!(told(&receive(&old, &first, &file).unwrap()), told(&old));
            let mut second = send(&new, first.names);
            let (kind, one, other) = harm;
            let (one, other) = (one.index(second.pieces.len()), other.index(second.pieces.len()));
            match kind {
                0 => {}
                1 => drop(second.pieces.remove(one)),
                2 => second.pieces.swap(one, other),
                3 => second.pieces.insert(one, second.pieces[other].clone()),
                4 => second.pieces.truncate(one),
                _ => {
                    if let Piece::New(block) = &mut second.pieces[one] {
                        let at = other % block.len();
                        block[at] ^= 0x21;
                    }
                }
            }
            match receive(&new, &second, &file) {
                Ok(found) => prop_assert_eq!(told(&found), told(&new)),
                Err(error) => prop_assert!(kind != 0, "{error}"),
            }
        }
    }
}

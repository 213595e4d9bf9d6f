//! The last listing of a peer, as the client keeps it in its state directory: the blocks
//! behind each other, and where each begins. It is believed only as far as its blocks add up to
//! the name that the peer gives; without it everything travels.

use super::listing::NoTree;
use super::protocol::{ListingName, MOST_FRAME, Piece};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

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
    file: BufWriter<File>,
    aside: PathBuf,
    at: u64,
    starts: Vec<u64>,
}

impl Writing {
    fn begin(path: &Path) -> io::Result<Self> {
        let mut aside = path.as_os_str().to_owned();
        aside.push(format!(".new.{}", std::process::id()));
        let aside = PathBuf::from(aside);
        // a left-over of an earlier process of our number, or what somebody planted
        let _ = std::fs::remove_file(&aside);
        let mut file = BufWriter::with_capacity(1 << 17, private(&aside)?);
        file.write_all(BEGIN)?;
        Ok(Writing { file, aside, at: BEGIN.len() as u64, starts: Vec::new() })
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
        self.file.flush()?;
        std::fs::rename(&self.aside, path)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        // gone already, if it has got its name
        let _ = std::fs::remove_file(&self.aside);
    }
}

/// Names of private files stand in it.
fn private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().write(true).create_new(true).mode(0o600).open(path)
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

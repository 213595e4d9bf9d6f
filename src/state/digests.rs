//! What `osync scrub` remembers of contents (spec 9, "Scrub"; docs/state-format.md): `digests-ID`,
//! the digests of files and when each was checked last, and `damaged-ID`, the files that are known to
//! be damaged.
//!
//! They are two files, because every run reads the second one, and the first only a scrub and a run
//! that else had to read contents.

use super::error::StateError;
use super::files::Durable;
use super::format::{ByteReader, DecodeError, put_number, put_string};
use super::notes::{Seen, path_of, put_look, read_look, seal, unseal};
use super::store::StateStore;
use crate::tree::same::FileLook;
use crate::tree::{Entry, Pair, RelPath, Side};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// A digest of a content. Which algorithm made it stands beside it.
pub type ContentDigest = [u8; 32];

/// What one side's file held when it was sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The digest of its content.
    pub digest: ContentDigest,
    /// What it looked like then.
    pub look: FileLook,
}

/// What is known of the contents at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDigests {
    /// The number of the algorithm that made the digests of both sides.
    pub algorithm: u8,
    /// When it was checked last, in milliseconds since the epoch.
    pub checked: u64,
    /// What each side's file held; `None`: not known.
    pub held: Pair<Option<Held>>,
}

impl FileDigests {
    /// What a side's file holds, if nothing of it was touched since it was read.
    #[must_use]
    pub fn held_by(&self, side: Side, now: &Entry) -> Option<ContentDigest> {
        let held = self.held[side].as_ref()?;
        held.look.is_untouched(now).then_some(held.digest)
    }
}

/// What is known of the contents of all files.
pub type Digests = BTreeMap<RelPath, FileDigests>;

/// A file that is known to be damaged. No run transfers it while it has this size and mtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedFile {
    /// Whose copy it is.
    pub side: Side,
    /// Where it is, and what it looked like when it was read.
    pub seen: Seen,
}

impl DamagedFile {
    /// Whether what stands at a path of that side is this file, as it was found damaged: under its
    /// name of then or another one, whatever its mode is now.
    #[must_use]
    pub fn is(&self, path: &RelPath, now: &Entry) -> bool {
        let look = &self.seen.look;
        let is_same_file = look.inode().is_some() && look.inode() == now.inode();
        look.has_time_and_size_of(now) && (self.seen.path == *path || is_same_file)
    }
}

/// Whether a file of the state could be read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integrity {
    /// It could, or it does not exist.
    Whole,
    /// It is torn or damaged: what follows the first damage is not known.
    Torn,
}

const DIGESTS: &[u8] = b"osync digests 1\n";
const DAMAGED: &[u8] = b"osync damaged 1\n";

impl StateStore {
    /// The digests that are known. Of a damaged file, those before the damage.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn digests(&self) -> Result<(Digests, Integrity), StateError> {
        let found = self.files.read(&self.name("digests"))?;
        Ok(found.map_or((Digests::new(), Integrity::Whole), |(bytes, _)| decode(&bytes)))
    }

    /// Replaces the digests that are known.
    ///
    /// # Errors
    /// The file cannot be written; then the old one is still there.
    pub fn set_digests(&self, digests: &Digests) -> Result<(), StateError> {
        self.files.replace(&self.name("digests"), Durable::No, &encode(digests))
    }

    /// Adds digests to those that are known. Reads none of them, but for now and then, when the file
    /// has grown by many parts and is written anew.
    ///
    /// # Errors
    /// The file cannot be written; then those from before are still there.
    pub fn add_digests(&self, digests: Digests) -> Result<(), StateError> {
        if digests.is_empty() {
            return Ok(());
        }
        let mut parts = 0;
        let whole = |file: &File| {
            let (end, count) = whole_parts(file)?;
            parts = count;
            Ok(end)
        };
        self.files.append(&self.name("digests"), whole, &encode(&digests))?;
        if parts < MOST_PARTS {
            return Ok(());
        }
        let (all, _) = self.digests()?;
        self.set_digests(&all)
    }

    /// The files that are known to be damaged; none, if the file that lists them is damaged itself.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn damaged_files(&self) -> Result<(Vec<DamagedFile>, Integrity), StateError> {
        let Some((bytes, _)) = self.files.read(&self.name("damaged"))? else {
            return Ok((Vec::new(), Integrity::Whole));
        };
        Ok(match decode_damaged(&bytes) {
            Some(files) => (files, Integrity::Whole),
            None => (Vec::new(), Integrity::Torn),
        })
    }

    /// Notes the files that are known to be damaged. The note is on the disk when this returns.
    ///
    /// # Errors
    /// The file cannot be written or removed.
    pub fn set_damaged_files(&self, files: &[DamagedFile]) -> Result<(), StateError> {
        let name = self.name("damaged");
        if files.is_empty() {
            return self.files.remove(&name);
        }
        self.files.replace(&name, Durable::Yes, &encode_damaged(files))
    }
}

/// When a file has so many parts, it is written anew as one.
const MOST_PARTS: u64 = 64;

/// Where the last part that is there to its end ends, and how many parts there are.
fn whole_parts(file: &File) -> io::Result<(u64, u64)> {
    let size = file.metadata()?.len();
    let (mut end, mut count) = (0, 0);
    let mut length = [0; size_of::<u64>()];
    while end + length.len() as u64 <= size {
        file.read_exact_at(&mut length, end)?;
        let next = (end + length.len() as u64).checked_add(u64::from_le_bytes(length));
        match next.filter(|next| *next <= size) {
            Some(next) => (end, count) = (next, count + 1),
            None => break,
        }
    }
    Ok((end, count))
}

/// A part of the file: its length, then the digests with a checksum. Runs add parts (SCRUB=yes), and
/// a later part counts.
fn encode(digests: &Digests) -> Vec<u8> {
    let mut out = DIGESTS.to_vec();
    put_number(&mut out, digests.len() as u64);
    let mut before: &[u8] = &[];
    for (path, file) in digests {
        let shared = path.as_bytes().iter().zip(before).take_while(|(a, b)| a == b).count();
        put_number(&mut out, shared as u64);
        put_string(&mut out, &path.as_bytes()[shared..]);
        before = path.as_bytes();
        put_file(&mut out, file);
    }
    let part = seal(out);
    [&(part.len() as u64).to_le_bytes()[..], &part].concat()
}

/// Which sides are known, and whether both hold the same.
const KNOWN: Pair<u8> = Pair { initiator: 1, target: 2 };
const THE_SAME: u8 = 4;

fn put_file(out: &mut Vec<u8>, file: &FileDigests) {
    let FileDigests { algorithm, checked, held } = file;
    let is_same = match (&held.initiator, &held.target) {
        (Some(i), Some(t)) => i.digest == t.digest,
        _ => false,
    };
    let mut flags = if is_same { THE_SAME } else { 0 };
    for side in Side::BOTH {
        flags |= held[side].as_ref().map_or(0, |_| KNOWN[side]);
    }
    out.extend([*algorithm, flags]);
    put_number(out, *checked);
    for (side, held) in held.iter() {
        let Some(held) = held else { continue };
        if side == Side::Initiator || !is_same {
            out.extend_from_slice(&held.digest);
        }
        put_look(out, &held.look);
    }
}

fn decode(bytes: &[u8]) -> (Digests, Integrity) {
    let mut digests = Digests::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some((part, behind)) = next_part(rest) else { return (digests, Integrity::Torn) };
        digests.extend(part);
        rest = behind;
    }
    (digests, Integrity::Whole)
}

/// The first part, and the bytes behind it; `None` if it is torn.
fn next_part(bytes: &[u8]) -> Option<(Digests, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (part, behind) = rest.split_at_checked(length)?;
    let mut reader = unseal(part, DIGESTS)?;
    let digests = read_digests(&mut reader).ok().filter(|_| reader.is_done())?;
    Some((digests, behind))
}

fn read_digests(reader: &mut ByteReader<'_>) -> Result<Digests, DecodeError> {
    let count = reader.number()?;
    let mut digests = Digests::new();
    let mut name: Vec<u8> = Vec::new();
    for _ in 0..count {
        let shared = reader.small()?;
        if shared > name.len() {
            return Err(reader.damaged("a path begins like a longer one"));
        }
        name.truncate(shared);
        name.extend_from_slice(reader.string()?);
        let path = path_of(reader, &name)?;
        digests.insert(path, read_file(reader)?);
    }
    Ok(digests)
}

fn read_file(reader: &mut ByteReader<'_>) -> Result<FileDigests, DecodeError> {
    let [algorithm, flags] = reader.array()?;
    let checked = reader.number()?;
    let mut held: Pair<Option<Held>> = Pair::default();
    for side in Side::BOTH {
        if flags & KNOWN[side] == 0 {
            continue;
        }
        let digest = match &held.initiator {
            Some(initiator) if side == Side::Target && flags & THE_SAME != 0 => initiator.digest,
            _ => reader.array()?,
        };
        held[side] = Some(Held { digest, look: read_look(reader)? });
    }
    Ok(FileDigests { algorithm, checked, held })
}

fn encode_damaged(files: &[DamagedFile]) -> Vec<u8> {
    let mut out = DAMAGED.to_vec();
    put_number(&mut out, files.len() as u64);
    for DamagedFile { side, seen } in files {
        out.push(u8::from(*side == Side::Target));
        put_string(&mut out, seen.path.as_bytes());
        put_look(&mut out, &seen.look);
    }
    seal(out)
}

fn decode_damaged(bytes: &[u8]) -> Option<Vec<DamagedFile>> {
    let mut reader = unseal(bytes, DAMAGED)?;
    let count = reader.number().ok()?;
    let files: Result<Vec<_>, DecodeError> =
        (0..count).map(|_| read_damaged(&mut reader)).collect();
    files.ok().filter(|_| reader.is_done())
}

fn read_damaged(reader: &mut ByteReader<'_>) -> Result<DamagedFile, DecodeError> {
    let side = if reader.flag()? { Side::Target } else { Side::Initiator };
    let bytes = reader.string()?;
    let path = path_of(reader, bytes)?;
    Ok(DamagedFile { side, seen: Seen { path, look: read_look(reader)? } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::StateDir;
    use crate::tree::{Kind, Stamp};

    fn look(size: u64) -> FileLook {
        let mut entry = Entry::new(Kind::File);
        (entry.size, entry.ino, entry.dev) = (size, 77, 3);
        (entry.mtime, entry.ctime) = (Stamp::new(-5, 1), Stamp::new(9, 999_999_999));
        FileLook::of(&entry)
    }

    fn digests() -> Digests {
        let held = |byte| Some(Held { digest: [byte; 32], look: look(u64::from(byte)) });
        let file = |held| FileDigests { algorithm: 2, checked: 1_700_000_000, held };
        let paths: [(&[u8], FileDigests); 5] = [
            (b"a", file(Pair::new(held(1), held(1)))),
            (b"a/b", file(Pair::new(held(1), held(2)))),
            (b"a/b\xff\n", file(Pair::new(held(1), None))),
            (b"b", file(Pair::new(None, held(3)))),
            (b"-", file(Pair::default())),
        ];
        paths.map(|(path, file)| (RelPath::new(path).unwrap(), file)).into()
    }

    fn store(dir: &std::path::Path) -> StateStore {
        StateStore::open(StateDir::Custom(dir.to_owned()), "id").unwrap()
    }

    #[test]
    fn digests_come_back_as_they_were_kept_and_take_one_digest_a_file_in_step() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        assert_eq!(store.digests().unwrap(), (Digests::new(), Integrity::Whole));
        store.set_digests(&digests()).unwrap();
        assert_eq!(store.digests().unwrap(), (digests(), Integrity::Whole));
        let one = |other: u8| {
            let held = |byte| Some(Held { digest: [byte; 32], look: look(1) });
            let held = Pair::new(held(1), held(other));
            let file = FileDigests { algorithm: 1, checked: 0, held };
            encode(&Digests::from([(RelPath::new("a").unwrap(), file)])).len()
        };
        assert_eq!(one(2) - one(1), 32);
    }

    #[test]
    fn of_a_torn_file_the_parts_before_the_tear_count() {
        let one = encode(&digests());
        let mut two = digests();
        two.retain(|path, _| path.as_bytes() == b"b");
        for file in two.values_mut() {
            file.checked += 1;
        }
        let both = [one.clone(), encode(&two)].concat();
        let mut newer = digests();
        newer.extend(two);
        assert_eq!(decode(&both), (newer, Integrity::Whole), "the later part counts");
        for cut in 1..both.len() {
            let (found, integrity) = decode(&both[..cut]);
            if cut == one.len() {
                continue;
            }
            let expected = if cut > one.len() { digests() } else { Digests::new() };
            assert_eq!((found, integrity), (expected, Integrity::Torn), "cut at {cut}");
        }
        for at in 0..one.len() {
            let mut flipped = one.clone();
            flipped[at] ^= 4;
            assert_eq!(decode(&flipped), (Digests::new(), Integrity::Torn), "flipped at {at}");
        }
    }

    #[test]
    fn what_runs_add_counts_and_a_part_that_was_cut_off_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let one = |checked: u64| {
            let mut digests = digests();
            digests.values_mut().for_each(|file| file.checked = checked);
            digests
        };
        store.add_digests(one(1)).unwrap();
        let file = dir.path().join("digests-id");
        let whole = std::fs::read(&file).unwrap();
        for cut in [1, 7, 8, 9, whole.len() - 1] {
            std::fs::write(&file, [&whole[..], &whole[..cut]].concat()).unwrap();
            store.add_digests(one(2)).unwrap();
            assert_eq!(store.digests().unwrap(), (one(2), Integrity::Whole), "{cut}");
        }
        for checked in 0..2 * MOST_PARTS {
            store.add_digests(one(checked)).unwrap();
            assert_eq!(store.digests().unwrap(), (one(checked), Integrity::Whole));
        }
        let size = std::fs::metadata(&file).unwrap().len();
        assert!(size <= (MOST_PARTS + 1) * whole.len() as u64, "{size}");
    }

    #[test]
    fn damaged_files_are_known_until_there_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let files: Vec<DamagedFile> = Side::BOTH
            .into_iter()
            .map(|side| {
                let path = RelPath::new(&b"a \n\xff"[..]).unwrap();
                DamagedFile { side, seen: Seen { path, look: look(5) } }
            })
            .collect();
        store.set_damaged_files(&files).unwrap();
        assert_eq!(store.damaged_files().unwrap(), (files, Integrity::Whole));
        let file = dir.path().join("damaged-id");
        let bytes = std::fs::read(&file).unwrap();
        for cut in 0..bytes.len() {
            std::fs::write(&file, &bytes[..cut]).unwrap();
            assert_eq!(store.damaged_files().unwrap(), (Vec::new(), Integrity::Torn));
        }
        store.set_damaged_files(&[]).unwrap();
        assert!(!file.exists());
    }
}

//! Contents that were compared, kept until they are recorded: a first contact that was cut off
//! goes on where it was (spec 8, "The same").

use super::error::StateError;
use super::files::Durable;
use super::store::StateStore;
use super::wire::{Damaged, Reader, put_number, put_string};
use crate::tree::{Entry, Pair, RelPath, Side, Stamp};

const MAGIC: &[u8] = b"osync settled 1\n";
const CHECKSUM_BYTES: usize = 32;

/// What a file looked like when it was compared. It holds the same as long as it looks so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Where.
    pub path: RelPath,
    dev: u32,
    ino: u64,
    size: u64,
    mtime: Stamp,
    ctime: Stamp,
}

impl Seen {
    /// A file as it was scanned.
    #[must_use]
    pub fn of(path: RelPath, entry: &Entry) -> Self {
        let Entry { dev, ino, size, mtime, ctime, .. } = *entry;
        Seen { path, dev, ino, size, mtime, ctime }
    }

    /// Whether a file still looks so.
    #[must_use]
    pub fn is(&self, entry: &Entry) -> bool {
        *self == Seen::of(self.path.clone(), entry)
    }
}

/// A file of each side, and whether they held the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The files.
    pub files: Pair<Seen>,
    /// What came of it.
    pub same: bool,
}

impl StateStore {
    /// Keeps what was found out about contents.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_settled(&self, settled: &[Settled]) -> Result<(), StateError> {
        self.files.replace(&self.name("settled"), Durable::No, &encode(settled))
    }

    /// What a run that did not come to its end found out. It only saves time: what makes no
    /// sense counts as nothing.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn settled(&self) -> Result<Vec<Settled>, StateError> {
        let found = self.files.read(&self.name("settled"))?;
        Ok(found.and_then(|(bytes, _)| decode(&bytes)).unwrap_or_default())
    }

    /// All of it is recorded.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn clear_settled(&self) -> Result<(), StateError> {
        self.files.remove(&self.name("settled"))
    }
}

fn encode(settled: &[Settled]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    put_number(&mut out, settled.len() as u64);
    for one in settled {
        out.push(u8::from(one.same));
        let is_moved = one.files.initiator.path != one.files.target.path;
        for side in Side::BOTH {
            let Seen { path, dev, ino, size, mtime, ctime } = &one.files[side];
            if side == Side::Initiator || is_moved {
                put_string(&mut out, path.as_bytes());
            } else {
                put_string(&mut out, b"");
            }
            put_number(&mut out, u64::from(*dev));
            put_number(&mut out, *ino);
            put_number(&mut out, *size);
            for stamp in [mtime, ctime] {
                out.extend_from_slice(&stamp.secs().to_le_bytes());
                out.extend_from_slice(&stamp.nanos().to_le_bytes());
            }
        }
    }
    let sum = blake3::hash(&out);
    out.extend_from_slice(sum.as_bytes());
    out
}

fn decode(bytes: &[u8]) -> Option<Vec<Settled>> {
    let (content, sum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM_BYTES)?)?;
    if !content.starts_with(MAGIC) || blake3::hash(content).as_bytes() != sum {
        return None;
    }
    let mut reader = Reader::new_at(content, MAGIC.len());
    let count = reader.number().ok()?;
    let settled: Result<Vec<_>, Damaged> = (0..count).map(|_| one(&mut reader)).collect();
    settled.ok().filter(|_| reader.is_done())
}

fn one(reader: &mut Reader<'_>) -> Result<Settled, Damaged> {
    let same = reader.flag()?;
    let initiator = seen(reader, None)?;
    let target = seen(reader, Some(&initiator.path))?;
    Ok(Settled { files: Pair::new(initiator, target), same })
}

/// A file; without a path it has that of the other side.
fn seen(reader: &mut Reader<'_>, across: Option<&RelPath>) -> Result<Seen, Damaged> {
    let path = match (reader.string()?, across) {
        (b"", Some(across)) => across.clone(),
        (bytes, _) => RelPath::new(bytes).map_err(|_| reader.damaged("a path is none"))?,
    };
    let (dev, ino, size) = (reader.small()?, reader.number()?, reader.number()?);
    let mut stamp = || -> Result<Stamp, Damaged> {
        let secs = i64::from_le_bytes(reader.array()?);
        Ok(Stamp::new(secs, u32::from_le_bytes(reader.array()?)))
    };
    Ok(Seen { path, dev, ino, size, mtime: stamp()?, ctime: stamp()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Kind;

    fn sample() -> Vec<Settled> {
        let seen = |path: &str, size| {
            let mut entry = Entry::new(Kind::File);
            (entry.size, entry.ino, entry.dev) = (size, 1 << 40, 7);
            (entry.mtime, entry.ctime) = (Stamp::new(-5, 9), Stamp::new(1 << 33, 1));
            Seen::of(RelPath::new(path).unwrap(), &entry)
        };
        vec![
            Settled { files: Pair::new(seen("a/b", 3), seen("a/b", 3)), same: true },
            Settled { files: Pair::new(seen("new", 0), seen("old", 0)), same: false },
        ]
    }

    #[test]
    fn answers_come_back_and_damage_counts_as_none() {
        let bytes = encode(&sample());
        assert_eq!(decode(&bytes), Some(sample()));
        assert_eq!(decode(&encode(&[])), Some(Vec::new()));
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert_eq!(decode(&bytes), None, "{at}");
            assert_eq!(decode(&bytes[..at]), None, "{at}");
        }
    }

    #[test]
    fn an_answer_holds_only_as_long_as_the_file_looks_the_same() {
        let mut entry = Entry::new(Kind::File);
        (entry.size, entry.ino) = (5, 9);
        let seen = Seen::of(RelPath::new("a").unwrap(), &entry);
        entry.mode = 0o600;
        assert!(seen.is(&entry));
        type Change = fn(&mut Entry);
        let changes: [Change; 5] = [
            |e| e.size = 6,
            |e| e.ino = 8,
            |e| e.dev = 1,
            |e| e.mtime = Stamp::new(1, 1),
            |e| e.ctime = Stamp::new(1, 1),
        ];
        for change in changes {
            let mut entry = entry.clone();
            change(&mut entry);
            assert!(!seen.is(&entry), "{entry:?}");
        }
    }
}

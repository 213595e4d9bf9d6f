//! The entries of one directory as bytes (docs/state-format.md, "A block").
//!
//! A block is complete in itself: numbers are written as differences to the entry before
//! them in the same block, never to another block. So a block can be copied from one
//! baseline into the next without being understood.

use super::entry_code::{Context, put_entry, read_entry};
use super::wire::{Damaged, Reader, put_number, put_string};
use super::{Record, Recorded};
use crate::tree::{Entry, Kind, Pair, Side};

/// One path of a baseline: its last component and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known<'a> {
    /// The bare file name, a part of the baseline's own bytes.
    pub name: &'a [u8],
    /// What was there.
    pub record: Record,
    /// Whether a block with what lies below it follows.
    pub has_block: bool,
}

/// What stands in front of a block's entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes of its entries.
    pub(super) bytes: usize,
    /// How many entries.
    pub(super) entries: u64,
    /// How many of them are known on some side.
    pub(super) known: u64,
    /// How many of them have a block of their own.
    pub(super) blocks: u64,
}

impl Head {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Head, Damaged> {
        let bytes = reader.small()?;
        let (entries, known, blocks) = (reader.number()?, reader.number()?, reader.number()?);
        // an entry has a length, a name of at least one byte, and its own first byte
        let fits = entries <= (bytes as u64) / 3 && (entries > 0 || bytes == 0);
        if !fits || known > entries || blocks > entries {
            return Err(reader.damaged("a directory's counts contradict each other"));
        }
        Ok(Head { bytes, entries, known, blocks })
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        for number in [self.bytes as u64, self.entries, self.known, self.blocks] {
            put_number(out, number);
        }
    }
}

// An entry's first byte.
const WAS_ABSENT: u8 = 0;
const WAS_LISTED: u8 = 1;
const WAS_LISTED_ENTRY: u8 = 2;
const WAS_SEEN: u8 = 3;
const SKIPPED_INITIATOR: u8 = 1 << 4;
const SKIPPED_TARGET: u8 = 1 << 5;
const HAS_BLOCK: u8 = 1 << 6;
const UNKNOWN_MARK: u8 = 1 << 7;

/// Whether bytes can be the name of a directory entry.
#[inline]
pub(super) fn is_name(name: &[u8]) -> bool {
    // without a way out in between, many bytes are looked at in one go
    let is_odd = name.iter().fold(false, |found, byte| found | matches!(byte, b'/' | 0));
    !is_odd && !matches!(name, b"" | b"." | b"..") && name.len() <= usize::from(u16::MAX)
}

fn was_code(was: &Recorded) -> u8 {
    match was {
        Recorded::Absent => WAS_ABSENT,
        Recorded::Listed(None) => WAS_LISTED,
        Recorded::Listed(Some(_)) => WAS_LISTED_ENTRY,
        Recorded::Seen(_) => WAS_SEEN,
    }
}

fn entry_of(was: &Recorded) -> Option<&Entry> {
    match was {
        Recorded::Seen(entry) | Recorded::Listed(Some(entry)) => Some(entry),
        Recorded::Absent | Recorded::Listed(None) => None,
    }
}

/// Writes one entry of a block.
pub(super) fn put_known(
    out: &mut Vec<u8>,
    context: &mut Context,
    name: &[u8],
    record: &Record,
    has_block: bool,
) {
    put_string(out, name);
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    out.push(
        was_code(&record.was.initiator)
            | was_code(&record.was.target) << 2
            | flag(record.skipped.initiator, SKIPPED_INITIATOR)
            | flag(record.skipped.target, SKIPPED_TARGET)
            | flag(has_block, HAS_BLOCK),
    );
    let initiator = entry_of(&record.was.initiator);
    if let Some(entry) = initiator {
        put_entry(out, context, Side::Initiator, entry, None);
    }
    if let Some(entry) = entry_of(&record.was.target) {
        put_entry(out, context, Side::Target, entry, initiator);
    }
}

/// Reads one entry of a block into `known`; `previous` is the name before it. (In place,
/// because moving 200 bytes about costs as much as reading them.)
#[inline]
pub(super) fn read_known<'a>(
    reader: &mut Reader<'a>,
    context: &mut Context,
    previous: &[u8],
    known: &mut Known<'a>,
) -> Result<(), Damaged> {
    known.name = reader.string()?;
    if !is_name(known.name) {
        return Err(reader.damaged("a name is none"));
    }
    if known.name <= previous {
        return Err(reader.damaged("names are out of order"));
    }
    let first = reader.byte()?;
    if first & UNKNOWN_MARK != 0 {
        return Err(reader.damaged("an entry has a mark that this version does not know"));
    }
    known.has_block = first & HAS_BLOCK != 0;
    known.record.skipped = Pair::new(first & SKIPPED_INITIATOR != 0, first & SKIPPED_TARGET != 0);
    let Pair { initiator, target } = &mut known.record.was;
    be_of(initiator, first & 3);
    if let Some(entry) = entry_mut_of(initiator) {
        read_entry(reader, context, Side::Initiator, entry, None)?;
    }
    be_of(target, first >> 2 & 3);
    if let Some(entry) = entry_mut_of(target) {
        read_entry(reader, context, Side::Target, entry, entry_of(initiator))?;
    }
    Ok(())
}

/// Makes it what the code says, with whatever entry. One that is there already is used again.
#[inline]
fn be_of(was: &mut Recorded, code: u8) {
    let entry = || Entry::new(Kind::File);
    match (code, &*was) {
        (WAS_ABSENT, _) => *was = Recorded::Absent,
        (WAS_LISTED, _) => *was = Recorded::Listed(None),
        (WAS_LISTED_ENTRY, _) => *was = Recorded::Listed(Some(entry())),
        (_, Recorded::Seen(_)) => {}
        _ => *was = Recorded::Seen(entry()),
    }
}

#[inline]
fn entry_mut_of(was: &mut Recorded) -> Option<&mut Entry> {
    match was {
        Recorded::Seen(entry) | Recorded::Listed(Some(entry)) => Some(entry),
        Recorded::Absent | Recorded::Listed(None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Extra, Stamp};

    fn read(numbers: [u64; 4]) -> Result<Head, Damaged> {
        let mut bytes = Vec::new();
        numbers.into_iter().for_each(|number| put_number(&mut bytes, number));
        Head::read(&mut Reader::new(&bytes))
    }

    #[test]
    fn counts_that_cannot_be_are_damage_before_anything_is_made_room_for() {
        for (bytes, entries, known, blocks, sound) in [
            (0, 0, 0, 0, true),
            (3, 1, 0, 0, true),
            (3, 1, 1, 1, true),
            (6, 2, 2, 2, true),
            (2, 1, 0, 0, false),
            (5, 2, 0, 0, false),
            (0, 1, 0, 0, false),
            (3, 0, 0, 0, false),
            (3, 1, 2, 0, false),
            (3, 1, 0, 2, false),
            (0, 0, 1, 0, false),
            (0, 0, 0, 1, false),
            (9, u64::MAX, 0, 0, false),
        ] {
            let found = read([bytes, entries, known, blocks]);
            assert_eq!(found.is_ok(), sound, "{bytes} {entries} {known} {blocks}: {found:?}");
            if let Ok(head) = found {
                let bytes = usize::try_from(bytes).unwrap();
                assert_eq!(head, Head { bytes, entries, known, blocks });
            }
        }
    }

    #[test]
    fn what_is_read_over_another_entry_keeps_nothing_of_it() {
        let full = |kind| {
            let mut entry = Entry::new(kind);
            (entry.ino, entry.size, entry.shared_inode, entry.mode) = (7, 9, true, 0o4755);
            (entry.uid, entry.gid, entry.dev) = (1, 2, 3);
            (entry.mtime, entry.ctime) = (Stamp::new(5, 5), Stamp::new(6, 6));
            entry.btime = Stamp::new(4, 4);
            entry.set_extra(Extra { link: Some(b"x"[..].into()), ..Extra::default() });
            entry
        };
        let plain = Entry::new(Kind::File);
        let states = [
            Recorded::Absent,
            Recorded::Listed(None),
            Recorded::Listed(Some(plain.clone())),
            Recorded::Listed(Some(full(Kind::Symlink))),
            Recorded::Seen(plain),
            Recorded::Seen(full(Kind::Symlink)),
        ];
        for before in &states {
            for after in &states {
                let was = |state: &Recorded| Pair::new(state.clone(), state.clone());
                let record = Record { was: was(after), ..Record::default() };
                let mut bytes = Vec::new();
                put_known(&mut bytes, &mut Context::default(), b"a", &record, false);
                let mut known = Known { has_block: true, ..Known::default() };
                (known.record.was, known.record.skipped) = (was(before), Pair::new(true, true));
                let (mut reader, mut context) = (Reader::new(&bytes), Context::default());
                read_known(&mut reader, &mut context, b"", &mut known).unwrap();
                assert_eq!(known, Known { name: b"a", record, has_block: false });
            }
        }
    }

    #[test]
    fn a_mark_of_a_later_version_is_damage_and_no_entry() {
        let mut bytes = Vec::new();
        put_string(&mut bytes, b"a");
        for (first, sound) in [(0, true), (HAS_BLOCK, true), (1 << 7, false), (1 << 7 | 1, false)] {
            let bytes = [&bytes[..], &[first]].concat();
            let mut known = Known::default();
            let read =
                read_known(&mut Reader::new(&bytes), &mut Context::default(), b"", &mut known);
            assert_eq!(read.is_ok(), sound, "{first:#b}");
        }
    }
}

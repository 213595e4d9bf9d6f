//! The encoding of a baseline (docs/state-format.md): numbers, entries, and blocks of entries.
//! Every read is checked, so that damaged bytes give an error and never a panic.

use super::{Record, Recorded};
use crate::tree::{Entry, Extra, Kind, Pair, Side, Stamp};

/// Where and how encoded bytes are damaged: those of a baseline, or of what else has this encoding
/// (notes, digests, the trees of the peer protocol).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: {what}")]
pub struct DecodeError {
    /// The position, counted from the first byte of what was read.
    pub at: usize,
    /// What is wrong there.
    pub what: &'static str,
}

/// Reads from a slice, front to back.
#[derive(Debug, Clone)]
pub(crate) struct ByteReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> ByteReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        ByteReader { bytes, at: 0 }
    }

    /// Reads from a position on.
    pub(crate) fn new_at(bytes: &'a [u8], at: usize) -> Self {
        ByteReader { bytes, at }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn is_done(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub(crate) fn damaged(&self, what: &'static str) -> DecodeError {
        DecodeError { at: self.at, what }
    }

    #[inline]
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.get(..count).ok_or_else(|| self.damaged("it ends too early"))?;
        self.at += count;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        let byte = *self.bytes.get(self.at).ok_or_else(|| self.damaged("it ends too early"))?;
        self.at += 1;
        Ok(byte)
    }

    /// A byte that is 0 or 1.
    pub(crate) fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.damaged("a flag is neither 0 nor 1")),
        }
    }

    /// A number of seven bits a byte, the lowest first; the high bit says that more follow.
    #[inline]
    pub(crate) fn number(&mut self) -> Result<u64, DecodeError> {
        let first = self.byte()?;
        if first < 0x80 { Ok(u64::from(first)) } else { self.long_number(first) }
    }

    fn long_number(&mut self, first: u8) -> Result<u64, DecodeError> {
        let mut value = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.damaged("a number is too large"))
    }

    /// A number that has to fit a smaller type.
    #[inline]
    pub(crate) fn small<T: TryFrom<u64>>(&mut self) -> Result<T, DecodeError> {
        T::try_from(self.number()?).map_err(|_| self.damaged("a number is too large"))
    }

    /// A number stored as its difference to `base`, zigzag encoded so that small differences of
    /// either sign are short.
    #[inline]
    pub(crate) fn near(&mut self, base: u64) -> Result<u64, DecodeError> {
        let coded = self.number()?;
        Ok(base.wrapping_add((coded >> 1) ^ (coded & 1).wrapping_neg()))
    }

    /// A length and that many bytes.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.small()?;
        self.take(length)
    }
}

pub(crate) fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        #[allow(clippy::cast_possible_truncation)] // the low seven bits are what is meant
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    #[allow(clippy::cast_possible_truncation)] // below 0x80
    out.push(value as u8);
}

pub(crate) fn put_near(out: &mut Vec<u8>, value: u64, base: u64) {
    let difference = value.wrapping_sub(base);
    let sign = if difference >> 63 == 1 { u64::MAX } else { 0 };
    put_number(out, (difference << 1) ^ sign);
}

pub(crate) fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

// One side's entry (docs/state-format.md, "What a side has"): only what differs from the entry
// before it in the block, or from the other side's entry, is written.

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Owned {
    mode: u16,
    uid: u32,
    gid: u32,
    dev: u32,
}

/// How many combinations of mode, owner, group and device a block names by number.
const OWNED_MAX: usize = 64;

/// What the next entry of a block is encoded relative to.
#[derive(Debug, Default)]
pub(crate) struct Context {
    owned: Vec<Owned>,
    before: Pair<Before>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Before {
    mtime: u64,
    ctime: u64,
    ino: u64,
}

impl Context {
    pub(crate) fn clear(&mut self) {
        self.owned.clear();
        self.before = Pair::default();
    }
}

// The two bytes before each side's entry; the lowest three bits are its kind.
const KIND: u16 = 7;
const SHARED_INODE: u16 = 1 << 3;
const SIZE: u16 = 1 << 4;
const MTIME: u16 = 1 << 5;
const CTIME: u16 = 1 << 6;
const BTIME: u16 = 3 << 7;
const BTIME_AS_CTIME: u16 = 1 << 7;
const BTIME_AS_MTIME: u16 = 2 << 7;
const BTIME_OWN: u16 = 3 << 7;
const EXTRA_OWN: u16 = 1 << 9;
const EXTRA_AS_OTHER: u16 = 1 << 10;
const INO: u16 = 1 << 11;
const MTIME_NANOS: u16 = 1 << 12;
const CTIME_NANOS: u16 = 1 << 13;
const BTIME_NANOS: u16 = 1 << 14;
const UNKNOWN_FLAG: u16 = 1 << 15;

// The byte before the rarer properties of an entry.
const LINK: u8 = 1;
const RDEV: u8 = 2;
const ACL: u8 = 4;
const XATTR: u8 = 8;
const CONTENT: u8 = 16;

/// Writes what one side has at a path. `other` is what the other side has; equal fields are not
/// repeated.
pub(crate) fn put_entry(
    out: &mut Vec<u8>,
    context: &mut Context,
    side: Side,
    entry: &Entry,
    other: Option<&Entry>,
) {
    let flags = flags_of(entry, other);
    let has = |bit: u16| flags & bit != 0;
    out.extend_from_slice(&flags.to_le_bytes());
    put_owned(out, &mut context.owned, entry);
    let before = &mut context.before[side];
    if has(INO) {
        put_near(out, entry.ino, before.ino);
        before.ino = entry.ino;
    }
    if has(SIZE) {
        put_number(out, entry.size);
    }
    if has(MTIME) {
        put_time(out, entry.mtime, before.mtime, Precision::of(flags, MTIME_NANOS));
    }
    before.mtime = known_or(entry.mtime, before.mtime);
    if has(CTIME) {
        put_time(out, entry.ctime, before.ctime, Precision::of(flags, CTIME_NANOS));
    }
    before.ctime = known_or(entry.ctime, before.ctime);
    if flags & BTIME == BTIME_OWN {
        put_time(out, entry.btime, btime_base(entry), Precision::of(flags, BTIME_NANOS));
    }
    if has(EXTRA_OWN) {
        put_extra(out, entry.extra());
    }
}

/// Which fields of an entry are written, and which are taken from the other side's entry.
fn flags_of(entry: &Entry, other: Option<&Entry>) -> u16 {
    let extra = entry.extra();
    let btime = match entry.btime {
        time if !time.is_known() => 0,
        time if time == entry.ctime => BTIME_AS_CTIME,
        time if time == entry.mtime => BTIME_AS_MTIME,
        _ => BTIME_OWN,
    };
    let same_extra = other.is_some_and(|other| other.extra() == extra);
    let mut flags = entry.kind as u16 | btime;
    let mut set = |when: bool, bit: u16| flags |= if when { bit } else { 0 };
    set(entry.shared_inode, SHARED_INODE);
    set(entry.ino != 0, INO);
    set(entry.size != other.map_or(0, |other| other.size), SIZE);
    let mtime = other.is_none_or(|other| other.mtime != entry.mtime);
    set(mtime, MTIME);
    set(mtime && entry.mtime.nanos() != 0, MTIME_NANOS);
    set(entry.ctime != entry.mtime, CTIME);
    set(entry.ctime != entry.mtime && entry.ctime.nanos() != 0, CTIME_NANOS);
    set(btime == BTIME_OWN && entry.btime.nanos() != 0, BTIME_NANOS);
    let plain = *extra == Extra::default();
    set(!plain && same_extra, EXTRA_AS_OTHER);
    set(!plain && !same_extra, EXTRA_OWN);
    flags
}

/// Reads what [`put_entry`] has written; overwrites every field of `entry`.
#[inline]
pub(crate) fn read_entry(
    reader: &mut ByteReader<'_>,
    context: &mut Context,
    side: Side,
    entry: &mut Entry,
    other: Option<&Entry>,
) -> Result<(), DecodeError> {
    let flags = u16::from_le_bytes(reader.array()?);
    let has = |bit: u16| flags & bit != 0;
    if has(UNKNOWN_FLAG) {
        return Err(reader.damaged("an entry has a flag that this version does not know"));
    }
    let kind = Kind::ALL.get(usize::from(flags & KIND)).copied();
    entry.kind = kind.ok_or_else(|| reader.damaged("an entry's kind is unknown"))?;
    entry.shared_inode = has(SHARED_INODE);
    let owned = read_owned(reader, &mut context.owned)?;
    (entry.mode, entry.uid, entry.gid, entry.dev) = (owned.mode, owned.uid, owned.gid, owned.dev);
    let before = &mut context.before[side];
    entry.ino = 0;
    if has(INO) {
        entry.ino = reader.near(before.ino)?;
        before.ino = entry.ino;
    }
    entry.size = if has(SIZE) { reader.number()? } else { other.map_or(0, |other| other.size) };
    entry.mtime = match other {
        _ if has(MTIME) => read_time(reader, before.mtime, Precision::of(flags, MTIME_NANOS))?,
        Some(other) => other.mtime,
        None => return Err(reader.damaged("an entry has no time")),
    };
    before.mtime = known_or(entry.mtime, before.mtime);
    entry.ctime = if has(CTIME) {
        read_time(reader, before.ctime, Precision::of(flags, CTIME_NANOS))?
    } else {
        entry.mtime
    };
    before.ctime = known_or(entry.ctime, before.ctime);
    entry.btime = match flags & BTIME {
        BTIME_AS_CTIME => entry.ctime,
        BTIME_AS_MTIME => entry.mtime,
        BTIME_OWN => read_time(reader, btime_base(entry), Precision::of(flags, BTIME_NANOS))?,
        _ => Stamp::UNKNOWN,
    };
    if has(EXTRA_OWN) {
        entry.set_extra(read_extra(reader)?);
    } else if has(EXTRA_AS_OTHER) {
        let other = other.ok_or_else(|| {
            reader.damaged("an entry refers to one of the other side that is missing")
        })?;
        entry.set_extra(other.extra().clone());
    } else {
        entry.clear_extra();
    }
    Ok(())
}

fn put_owned(out: &mut Vec<u8>, table: &mut Vec<Owned>, entry: &Entry) {
    let owned = Owned { mode: entry.mode, uid: entry.uid, gid: entry.gid, dev: entry.dev };
    if let Some(number) = table.iter().position(|one| *one == owned) {
        put_number(out, number as u64);
        return;
    }
    put_number(out, table.len() as u64);
    for number in [u32::from(owned.mode), owned.uid, owned.gid, owned.dev] {
        put_number(out, number.into());
    }
    if table.len() < OWNED_MAX {
        table.push(owned);
    }
}

#[inline]
fn read_owned(reader: &mut ByteReader<'_>, table: &mut Vec<Owned>) -> Result<Owned, DecodeError> {
    let number: usize = reader.small()?;
    if let Some(owned) = table.get(number) {
        return Ok(*owned);
    }
    if number > table.len() {
        return Err(reader.damaged("an entry refers to an owner that was not given before"));
    }
    let (mode, uid) = (reader.small()?, reader.small()?);
    let owned = Owned { mode, uid, gid: reader.small()?, dev: reader.small()? };
    if table.len() < OWNED_MAX {
        table.push(owned);
    }
    Ok(owned)
}

/// Seconds as a number that can be subtracted without overflow.
fn seconds(time: Stamp) -> u64 {
    time.secs().cast_unsigned()
}

/// The base for the next time: an unknown time would be far from all others.
fn known_or(time: Stamp, before: u64) -> u64 {
    if time.is_known() { seconds(time) } else { before }
}

/// The base that an entry's birth time is encoded relative to.
fn btime_base(entry: &Entry) -> u64 {
    seconds(if entry.ctime.is_known() { entry.ctime } else { entry.mtime })
}

/// How closely a time is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Precision {
    Seconds,
    Nanoseconds,
}

impl Precision {
    /// By the bit of an entry's flags that says so.
    fn of(flags: u16, bit: u16) -> Self {
        if flags & bit != 0 { Precision::Nanoseconds } else { Precision::Seconds }
    }
}

fn put_time(out: &mut Vec<u8>, time: Stamp, base: u64, precision: Precision) {
    put_near(out, seconds(time), base);
    if precision == Precision::Nanoseconds {
        out.extend_from_slice(&time.nanos().to_le_bytes());
    }
}

#[inline]
fn read_time(
    reader: &mut ByteReader<'_>,
    base: u64,
    precision: Precision,
) -> Result<Stamp, DecodeError> {
    let secs = reader.near(base)?.cast_signed();
    let nanos = match precision {
        Precision::Nanoseconds => u32::from_le_bytes(reader.array()?),
        Precision::Seconds => 0,
    };
    if nanos > 999_999_999 {
        return Err(reader.damaged("a time has more than a second of nanoseconds"));
    }
    Ok(Stamp::new(secs, nanos))
}

fn put_extra(out: &mut Vec<u8>, extra: &Extra) {
    let at = out.len();
    out.push(0);
    let mut parts = 0;
    if let Some(link) = &extra.link {
        parts |= LINK;
        put_string(out, link);
    }
    if extra.rdev != 0 {
        parts |= RDEV;
        put_number(out, extra.rdev);
    }
    for (digest, part) in [(&extra.acl, ACL), (&extra.xattr, XATTR)] {
        if let Some(digest) = digest {
            parts |= part;
            out.extend_from_slice(digest);
        }
    }
    if let Some(digest) = &extra.content {
        parts |= CONTENT;
        out.extend_from_slice(digest);
    }
    out[at] = parts;
}

fn read_extra(reader: &mut ByteReader<'_>) -> Result<Extra, DecodeError> {
    let parts = reader.byte()?;
    if parts > LINK | RDEV | ACL | XATTR | CONTENT {
        return Err(reader.damaged("an entry has a part that this version does not know"));
    }
    let has = |part: u8| parts & part != 0;
    Ok(Extra {
        link: if has(LINK) { Some(reader.string()?.into()) } else { None },
        rdev: if has(RDEV) { reader.number()? } else { 0 },
        acl: if has(ACL) { Some(reader.array()?) } else { None },
        xattr: if has(XATTR) { Some(reader.array()?) } else { None },
        content: if has(CONTENT) { Some(reader.array()?) } else { None },
    })
}

// The entries of one directory (docs/state-format.md, "A block"). Differences never refer to
// another block, so a block can be copied from one baseline into the next without being decoded.

/// One entry of a block: a name and what is recorded of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known<'a> {
    /// The bare file name, borrowed from the baseline.
    pub name: &'a [u8],
    /// What was there on each side.
    pub record: Record,
    /// Whether a block with the entries below it follows.
    pub has_block: bool,
}

impl Known<'_> {
    /// The same, to be written.
    #[must_use]
    pub fn borrowed(&self) -> KnownRef<'_> {
        KnownRef { name: self.name, record: &self.record, has_block: self.has_block }
    }
}

/// What precedes the entries of a block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes of its entries.
    pub(super) bytes: usize,
    /// How many entries.
    pub(super) entries: u64,
    /// How many of them existed on at least one side.
    pub(super) known: u64,
    /// How many of them have a block of their own.
    pub(super) blocks: u64,
}

impl Head {
    pub(super) fn read(reader: &mut ByteReader<'_>) -> Result<Head, DecodeError> {
        let bytes = reader.small()?;
        let (entries, known, blocks) = (reader.number()?, reader.number()?, reader.number()?);
        // An entry takes at least three bytes: the length of its name, the name, its flags.
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
    // A fold without an early exit is vectorised.
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

/// A [`Known`] that is to be written, borrowed whole.
#[derive(Debug, Clone, Copy)]
pub struct KnownRef<'a> {
    /// The bare file name.
    pub name: &'a [u8],
    /// What was there on each side.
    pub record: &'a Record,
    /// Whether a block with the entries below it follows.
    pub has_block: bool,
}

/// Writes one entry of a block.
pub(super) fn put_known(out: &mut Vec<u8>, context: &mut Context, known: KnownRef<'_>) {
    let KnownRef { name, record, has_block } = known;
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

/// Reads one entry of a block into `known`; `previous` is the name before it. It is read in place,
/// because moving its 200 bytes would cost as much as reading them.
#[inline]
pub(super) fn read_known<'a>(
    reader: &mut ByteReader<'a>,
    context: &mut Context,
    previous: &[u8],
    known: &mut Known<'a>,
) -> Result<(), DecodeError> {
    known.name = reader.string()?;
    if !is_name(known.name) {
        return Err(reader.damaged("an entry's name is not a file name"));
    }
    if known.name <= previous {
        return Err(reader.damaged("names are out of order"));
    }
    let first = reader.byte()?;
    if first & UNKNOWN_MARK != 0 {
        return Err(reader.damaged("an entry has a flag that this version does not know"));
    }
    known.has_block = first & HAS_BLOCK != 0;
    known.record.skipped = Pair::new(first & SKIPPED_INITIATOR != 0, first & SKIPPED_TARGET != 0);
    let Pair { initiator, target } = &mut known.record.was;
    set_variant(initiator, first & 3);
    if let Some(entry) = entry_mut_of(initiator) {
        read_entry(reader, context, Side::Initiator, entry, None)?;
    }
    set_variant(target, first >> 2 & 3);
    if let Some(entry) = entry_mut_of(target) {
        read_entry(reader, context, Side::Target, entry, entry_of(initiator))?;
    }
    Ok(())
}

/// Sets the variant that the code names. An entry that it already holds is kept, to be overwritten
/// by [`read_entry`].
#[inline]
fn set_variant(was: &mut Recorded, code: u8) {
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

    #[test]
    fn numbers_come_back_whatever_they_are_near() {
        let values = [0, 1, 127, 128, 300, u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) - 1];
        for value in values {
            for base in values {
                let mut out = Vec::new();
                put_number(&mut out, value);
                put_near(&mut out, value, base);
                put_string(&mut out, b"x");
                let mut reader = ByteReader::new(&out);
                assert_eq!(reader.number(), Ok(value));
                assert_eq!(reader.near(base), Ok(value));
                assert_eq!(reader.string(), Ok(&b"x"[..]));
                assert!(reader.is_done());
            }
        }
    }

    #[test]
    fn numbers_that_end_too_early_or_are_too_large_are_damage() {
        for bytes in [
            &b""[..],
            b"\x80",
            &[0xff; 10],
            &[0xff; 11],
            b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02",
        ] {
            assert!(ByteReader::new(bytes).number().is_err(), "{bytes:?}");
        }
        assert!(ByteReader::new(b"\x05abc").string().is_err());
        assert!(
            ByteReader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1])
                .string()
                .is_err()
        );
        assert!(ByteReader::new(b"\x80\x02").small::<u8>().is_err());
    }
}

#[cfg(test)]
#[path = "format_entry_tests.rs"]
mod entry_code_tests;

#[cfg(test)]
mod block_tests {
    use super::*;
    use crate::tree::{Extra, Stamp};

    fn read(numbers: [u64; 4]) -> Result<Head, DecodeError> {
        let mut bytes = Vec::new();
        numbers.into_iter().for_each(|number| put_number(&mut bytes, number));
        Head::read(&mut ByteReader::new(&bytes))
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
                let known = KnownRef { name: b"a", record: &record, has_block: false };
                put_known(&mut bytes, &mut Context::default(), known);
                let mut known = Known { has_block: true, ..Known::default() };
                (known.record.was, known.record.skipped) = (was(before), Pair::new(true, true));
                let (mut reader, mut context) = (ByteReader::new(&bytes), Context::default());
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
                read_known(&mut ByteReader::new(&bytes), &mut Context::default(), b"", &mut known);
            assert_eq!(read.is_ok(), sound, "{first:#b}");
        }
    }
}

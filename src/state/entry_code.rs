//! One side's entry as bytes (docs/state-format.md, "What a side has"): only what differs from
//! the entry before it in the block, or from the other side's.

use super::wire::{Damaged, Reader, put_near, put_number, put_string};
use crate::tree::{Entry, Extra, Kind, Pair, Side, Stamp};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Owned {
    mode: u16,
    uid: u32,
    gid: u32,
    dev: u32,
}

/// How many combinations of mode, owner, group and device a block names by number.
const OWNED_MAX: usize = 64;

/// What the next entry of a block is written relative to.
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

// The byte before what only some entries have.
const LINK: u8 = 1;
const RDEV: u8 = 2;
const ACL: u8 = 4;
const XATTR: u8 = 8;
const CONTENT: u8 = 16;

/// Writes what one side has at a path; `other` is what the other side has, which is
/// often the same.
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
        put_time(out, entry.mtime, before.mtime, has(MTIME_NANOS));
    }
    before.mtime = known_or(entry.mtime, before.mtime);
    if has(CTIME) {
        put_time(out, entry.ctime, before.ctime, has(CTIME_NANOS));
    }
    before.ctime = known_or(entry.ctime, before.ctime);
    if flags & BTIME == BTIME_OWN {
        put_time(out, entry.btime, btime_base(entry), has(BTIME_NANOS));
    }
    if has(EXTRA_OWN) {
        put_extra(out, entry.extra());
    }
}

/// Which parts of an entry are written, and which are those of the other side.
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

/// Reads what [`put_entry`] has written, over whatever the entry says.
#[inline]
pub(crate) fn read_entry(
    reader: &mut Reader<'_>,
    context: &mut Context,
    side: Side,
    entry: &mut Entry,
    other: Option<&Entry>,
) -> Result<(), Damaged> {
    let flags = u16::from_le_bytes(reader.array()?);
    let has = |bit: u16| flags & bit != 0;
    if has(UNKNOWN_FLAG) {
        return Err(reader.damaged("an entry has a mark that this version does not know"));
    }
    let kind = Kind::ALL.get(usize::from(flags & KIND)).copied();
    entry.kind = kind.ok_or_else(|| reader.damaged("an entry is of no kind"))?;
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
        _ if has(MTIME) => read_time(reader, before.mtime, has(MTIME_NANOS))?,
        Some(other) => other.mtime,
        None => return Err(reader.damaged("an entry has no time")),
    };
    before.mtime = known_or(entry.mtime, before.mtime);
    entry.ctime =
        if has(CTIME) { read_time(reader, before.ctime, has(CTIME_NANOS))? } else { entry.mtime };
    before.ctime = known_or(entry.ctime, before.ctime);
    entry.btime = match flags & BTIME {
        BTIME_AS_CTIME => entry.ctime,
        BTIME_AS_MTIME => entry.mtime,
        BTIME_OWN => read_time(reader, btime_base(entry), has(BTIME_NANOS))?,
        _ => Stamp::UNKNOWN,
    };
    if has(EXTRA_OWN) {
        entry.set_extra(read_extra(reader)?);
    } else if has(EXTRA_AS_OTHER) {
        let other = other.ok_or_else(|| reader.damaged("there is no other side's entry"))?;
        entry.set_extra(other.extra().clone());
    } else {
        entry.forget_extra();
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
fn read_owned(reader: &mut Reader<'_>, table: &mut Vec<Owned>) -> Result<Owned, Damaged> {
    let number: usize = reader.small()?;
    if let Some(owned) = table.get(number) {
        return Ok(*owned);
    }
    if number > table.len() {
        return Err(reader.damaged("an entry has the owner of none"));
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

/// An unknown time is far from all others: the next is written relative to a known one.
fn known_or(time: Stamp, before: u64) -> u64 {
    if time.is_known() { seconds(time) } else { before }
}

/// What an entry's time of birth is written relative to.
fn btime_base(entry: &Entry) -> u64 {
    seconds(if entry.ctime.is_known() { entry.ctime } else { entry.mtime })
}

fn put_time(out: &mut Vec<u8>, time: Stamp, base: u64, with_nanos: bool) {
    put_near(out, seconds(time), base);
    if with_nanos {
        out.extend_from_slice(&time.nanos().to_le_bytes());
    }
}

#[inline]
fn read_time(reader: &mut Reader<'_>, base: u64, with_nanos: bool) -> Result<Stamp, Damaged> {
    let secs = reader.near(base)?.cast_signed();
    let nanos = if with_nanos { u32::from_le_bytes(reader.array()?) } else { 0 };
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

fn read_extra(reader: &mut Reader<'_>) -> Result<Extra, Damaged> {
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

#[cfg(test)]
#[path = "entry_code_tests.rs"]
mod tests;

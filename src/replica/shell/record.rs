//! One record of a remote listing: what `find -printf` or a `stat` says of an entry. Pure.
//!
//! ```text
//! f 644 1000 100 2049 77 1 12 1700000000.1234567890 1700000000.5 1690000000.0/dir/name//
//! 81a4 1000 100 2049 77 1 12 1700000000 1700000000 0 0|DATE TIME.NANOS +0000|…/./dir/name//
//! ```
//! Behind the first slash stands the path, behind the first two in a row the target of a
//! link: a path never holds two.

use crate::tree::{Entry, Extra, Kind, RelPath, Stamp, fold_device};
use std::collections::HashMap;

/// How the other machine looks at files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `find -printf`.
    Gnu,
    /// `stat -c` (BusyBox, toybox).
    Stat,
    /// `stat -f` (the BSDs, macOS).
    Bsd,
}

/// A record that says nothing useful.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Garbled;

/// A record, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// The path, relative to where the listing began; the root is empty.
    pub path: Vec<u8>,
    /// It cannot be read by the remote user.
    pub closed: bool,
    /// What it is among the records of its listing.
    pub place: Place,
    /// What it looks like, owners in the numbers of the other machine.
    pub entry: Entry,
}

/// What a record is among those of a listing that several walks may have made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// All that is told of its entry.
    Only,
    /// Of a first walk, which does not tell where a link leads; another walk does.
    First,
    /// Of a later walk: it counts more than what a first one told.
    Later,
}

/// When directories were made, where that is told apart from the records: by `stat`, of a
/// `find` that does not know. Of files it is not asked for; their contents can be compared.
#[derive(Debug, Default)]
pub(super) struct Births(HashMap<(u32, u64), Stamp>);

impl Births {
    /// Takes in what stands behind the `=` of such a line: device, inode, seconds, and the same
    /// as a date with the digits behind the seconds.
    pub fn learn(&mut self, line: &[u8]) -> Result<(), Garbled> {
        let line = std::str::from_utf8(line).map_err(|_| Garbled)?;
        let mut words = line.splitn(3, ' ');
        let mut word = || words.next().ok_or(Garbled);
        let inode = (fold(number(word()?)?), number(word()?)?);
        self.0.insert(inode, birth(word()?));
        Ok(())
    }

    /// Adds what is told of a directory to its entry.
    pub fn complete(&self, entry: &mut Entry) {
        if entry.kind.is_dir()
            && let Some(birth) = self.0.get(&(entry.dev, entry.ino))
        {
            entry.btime = *birth;
        }
    }
}

impl Style {
    /// From the word of `prepare.sh`.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "gnu" => Some(Style::Gnu),
            "stat" => Some(Style::Stat),
            "bsd" => Some(Style::Bsd),
            _ => None,
        }
    }
}

/// Reads one line of a listing: a record, or behind `+` an escaped one.
pub(super) fn parse_line(line: &[u8], style: Style) -> Result<Record, Garbled> {
    match line.strip_prefix(b"+") {
        Some(escaped) => parse_record(&unescape(escaped)?, style, Place::Later),
        None if style == Style::Gnu => parse_record(line, style, Place::Only),
        None => parse_record(line, style, Place::First),
    }
}

/// Undoes `\n` and `\\`.
fn unescape(text: &[u8]) -> Result<Vec<u8>, Garbled> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'n') => b'\n',
                Some(b'\\') => b'\\',
                _ => return Err(Garbled),
            },
            other => *other,
        });
    }
    Ok(out)
}

/// Reads one record. A plain name without facts (behind `!/`) has an entry of kind file.
pub(super) fn parse(bytes: &[u8], style: Style) -> Result<Record, Garbled> {
    parse_record(bytes, style, Place::Only)
}

fn parse_record(bytes: &[u8], style: Style, place: Place) -> Result<Record, Garbled> {
    let (closed, bytes) = match bytes.strip_prefix(b"!") {
        Some(rest) => (true, rest),
        None => (false, bytes),
    };
    let slash = bytes.iter().position(|b| *b == b'/').ok_or(Garbled)?;
    let (facts, rest) = (&bytes[..slash], &bytes[slash + 1..]);
    let (path, link) = match rest.windows(2).position(|pair| pair == b"//") {
        Some(at) => (&rest[..at], Some(&rest[at + 2..])),
        // the root's own path is empty in find's %P, so its three slashes are one too few
        None if rest.starts_with(b"/") => (&rest[..0], None),
        None => (rest, None),
    };
    let path = path.strip_prefix(b"./").unwrap_or(path);
    let path = if path == b"." { b"" } else { path };
    RelPath::new(path).map_err(|_| Garbled)?;
    let facts = std::str::from_utf8(facts).map_err(|_| Garbled)?;
    let mut entry = if closed && facts.is_empty() {
        Entry::new(Kind::File)
    } else {
        match style {
            Style::Gnu => from_find(facts)?,
            Style::Stat | Style::Bsd => from_stat(facts, style)?,
        }
    };
    let place = match (entry.kind, place) {
        (Kind::Symlink, Place::First) => Place::First,
        (kind, place) => {
            if kind == Kind::Symlink {
                let target = link.ok_or(Garbled)?;
                entry.set_extra(Extra { link: Some(target.into()), ..Extra::default() });
            }
            if place == Place::First { Place::Only } else { place }
        }
    };
    Ok(Record { path: path.to_vec(), closed, place, entry })
}

fn from_find(facts: &str) -> Result<Entry, Garbled> {
    let mut words = facts.split(' ');
    let mut word = || words.next().ok_or(Garbled);
    let kind = match word()? {
        "f" => Kind::File,
        "d" => Kind::Dir,
        "l" => Kind::Symlink,
        "p" => Kind::Fifo,
        "s" => Kind::Socket,
        "c" => Kind::CharDevice,
        "b" => Kind::BlockDevice,
        _ => return Err(Garbled),
    };
    let mut entry = Entry::new(kind);
    entry.mode = u16::from_str_radix(word()?, 8).map_err(|_| Garbled)? & 0o7777;
    common(&mut entry, &mut word)?;
    entry.mtime = time(word()?)?;
    entry.ctime = time(word()?)?;
    entry.btime = birth(word()?);
    Ok(entry)
}

/// Owner, group, device, inode, links, size: the same in all styles.
fn common<'a>(
    entry: &mut Entry,
    word: &mut impl FnMut() -> Result<&'a str, Garbled>,
) -> Result<(), Garbled> {
    entry.uid = number(word()?)?;
    entry.gid = number(word()?)?;
    entry.dev = fold(number(word()?)?);
    entry.ino = number(word()?)?;
    let links: u64 = number(word()?)?;
    let size: u64 = number(word()?)?;
    entry.shared_inode = links > 1 && !entry.kind.is_dir();
    entry.size = if entry.kind == Kind::File { size } else { 0 };
    Ok(())
}

fn from_stat(facts: &str, style: Style) -> Result<Entry, Garbled> {
    let mut parts = facts.split('|');
    let mut words = parts.next().ok_or(Garbled)?.split(' ');
    let mut word = || words.next().ok_or(Garbled);
    let mode = u32::from_str_radix(word()?, 16).map_err(|_| Garbled)?;
    let kind = match mode >> 12 {
        0o10 => Kind::File,
        0o4 => Kind::Dir,
        0o12 => Kind::Symlink,
        0o1 => Kind::Fifo,
        0o14 => Kind::Socket,
        0o2 => Kind::CharDevice,
        0o6 => Kind::BlockDevice,
        _ => return Err(Garbled),
    };
    let mut entry = Entry::new(kind);
    #[allow(clippy::cast_possible_truncation)] // twelve bits are left
    {
        entry.mode = (mode & 0o7777) as u16;
    }
    common(&mut entry, &mut word)?;
    let (mtime, ctime): (i64, i64) = (number(word()?)?, number(word()?)?);
    let (major, minor) = (word()?, word()?);
    let radix = if style == Style::Stat { 16 } else { 10 };
    if matches!(kind, Kind::CharDevice | Kind::BlockDevice) {
        entry.set_extra(Extra { rdev: device(major, minor, radix), ..Extra::default() });
    }
    entry.mtime = Stamp::new(mtime, fraction(parts.next().unwrap_or_default()));
    entry.ctime = Stamp::new(ctime, fraction(parts.next().unwrap_or_default()));
    entry.btime = birth(parts.next().unwrap_or_default());
    Ok(entry)
}

/// A device node's numbers; zero where they were not told.
pub(super) fn device(major: &str, minor: &str, radix: u32) -> u64 {
    let part = |text| u64::from_str_radix(text, radix).unwrap_or(0) & 0xffff_ffff;
    part(major) << 32 | part(minor)
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, Garbled> {
    text.parse().map_err(|_| Garbled)
}

/// A device number as the local side folds it, so that a replica keeps its inodes when an osync
/// takes the place of the shell. (Linux packs its parts in one way whatever the machine; with the
/// numbers of other systems this tells them apart just as well.)
fn fold(device: i128) -> u32 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // taken apart
    {
        let device = device as u64;
        let major = (device >> 8 & 0xfff | device >> 32 & !0xfff) as u32;
        let minor = (device & 0xff | device >> 12 & !0xff) as u32;
        fold_device(major, minor)
    }
}

fn time(text: &str) -> Result<Stamp, Garbled> {
    let whole = text.split(['.', ' ']).next().unwrap_or_default();
    Ok(Stamp::new(number(whole)?, fraction(text)))
}

/// Nothing, a dash, zero and negative numbers all mean that it is not known.
fn birth(text: &str) -> Stamp {
    match time(text) {
        Ok(stamp) if stamp.secs() > 0 => stamp,
        _ => Stamp::UNKNOWN,
    }
}

/// Nanoseconds from the digits behind the first dot.
fn fraction(text: &str) -> u32 {
    let Some((_, digits)) = text.split_once('.') else { return 0 };
    let digits = digits.bytes().take_while(u8::is_ascii_digit).map(|b| u32::from(b - b'0'));
    digits.chain(std::iter::repeat(0)).take(9).fold(0, |sum, digit| sum * 10 + digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_find_are_read() {
        let record = parse(
            b"f 4755 1000 100 2049 77 2 12 1700000000.1234567890 1700000001.5000000000 1690000000.0/a b/c d//",
            Style::Gnu,
        )
        .unwrap();
        assert_eq!(record.path, b"a b/c d");
        let e = &record.entry;
        assert_eq!((e.kind, e.mode, e.uid, e.gid), (Kind::File, 0o4755, 1000, 100));
        assert_eq!((e.ino, e.size, e.shared_inode), (77, 12, true));
        assert_eq!(e.mtime, Stamp::new(1_700_000_000, 123_456_789));
        assert_eq!(e.ctime, Stamp::new(1_700_000_001, 500_000_000));
        assert_eq!(e.btime, Stamp::new(1_690_000_000, 0));
    }

    #[test]
    fn the_root_links_and_closed_entries_are_told_apart() {
        let facts = "755 0 0 1 2 1 4096 5.0 6.0 ";
        for (text, path, closed, link) in [
            (format!("d {facts}///"), &b""[..], false, None),
            (format!("d {facts}/.//"), b"", false, None),
            (format!("d {facts}/././/"), b"", false, None),
            (format!("d {facts}/./x//"), b"x", false, None),
            (format!("!d {facts}/x//"), b"x", true, None),
            (format!("l {facts}/x//"), b"x", false, Some(&b""[..])),
            (format!("l {facts}/x////a//b\n"), b"x", false, Some(b"//a//b\n")),
            ("!/./x y".to_owned(), b"x y", true, None),
        ] {
            let record = parse(text.as_bytes(), Style::Gnu).unwrap();
            assert_eq!(
                (&record.path[..], record.closed, record.entry.link()),
                (path, closed, link),
                "{text}"
            );
        }
    }

    #[test]
    fn records_of_stat_are_read() {
        for (text, style) in [
            (
                "81a4 1000 100 2049 77 1 12 1700000000 1700000001 0 0|2023-11-14 22:13:20.123456789 +0000|2023-11-14 22:13:21.5 +0000|/./a//",
                Style::Stat,
            ),
            (
                "81A4 1000 100 2049 77 1 12 1700000000 1700000001 0 0|1700000000.123456789|1700000001.500000000|1690000000.1/./a",
                Style::Bsd,
            ),
        ] {
            let Record { path, entry, .. } = parse(text.as_bytes(), style).unwrap();
            assert_eq!((&path[..], entry.kind, entry.mode), (&b"a"[..], Kind::File, 0o644));
            assert_eq!(entry.mtime, Stamp::new(1_700_000_000, 123_456_789));
            assert_eq!(entry.ctime, Stamp::new(1_700_000_001, 500_000_000));
            assert_eq!(entry.btime.is_known(), style == Style::Bsd);
        }
        let text = "21b6 0 0 5 9 1 0 1 1 1 3|1970-01-01 00:00:01.0 +0000|x|/./null//";
        let entry = parse(text.as_bytes(), Style::Stat).unwrap().entry;
        assert_eq!((entry.kind, entry.extra().rdev), (Kind::CharDevice, 1 << 32 | 3));
    }

    #[test]
    fn what_does_not_fit_a_line_is_escaped_and_what_a_first_walk_tells_of_links_is_not_all() {
        let facts = "777 0 0 1 2 1 4 5.0 6.0 ";
        let line = format!("+l {facts}/./a\\nb//t\\\\o\\n");
        let record = parse_line(line.as_bytes(), Style::Gnu).unwrap();
        assert_eq!((&record.path[..], record.place), (&b"a\nb"[..], Place::Later));
        assert_eq!(record.entry.link(), Some(&b"t\\o\n"[..]));
        let line = b"a1ff 0 0 5 9 1 4 1 1 0 0|x|x|/./l";
        let record = parse_line(line, Style::Stat).unwrap();
        assert!(record.place == Place::First && record.entry.link().is_none());
        for line in ["+f 644 0 0 1 2 1 0 5 6 /a\\tb//", "+f 644 0 0 1 2 1 0 5 6 /a\\", "+"] {
            assert_eq!(parse_line(line.as_bytes(), Style::Gnu), Err(Garbled), "{line}");
        }
    }

    #[test]
    fn a_device_is_folded_as_on_this_machine() {
        use std::os::unix::fs::MetadataExt;
        let here = std::fs::metadata("/").unwrap();
        let found = rustix::fs::statx(
            rustix::fs::CWD,
            "/",
            rustix::fs::AtFlags::empty(),
            rustix::fs::StatxFlags::INO,
        );
        let found = found.unwrap();
        let folded = fold_device(found.stx_dev_major, found.stx_dev_minor);
        assert_eq!(fold(here.dev().into()), folded);
        assert_eq!(fold(0x1234_5678_9abc_def0), fold_device(0x1234_5cde, 0x6789_abf0));
    }

    #[test]
    fn births_that_stat_tells_are_those_of_directories() {
        let mut births = Births::default();
        let line = b"2049 77 1690000000 2023-07-22 04:26:40.123456789 +0000";
        births.learn(line).unwrap();
        births.learn(b"2049 78 0 -").unwrap();
        for (text, birth) in [
            ("d 755 0 0 2049 77 1 1 1 1 -1./a//", Stamp::new(1_690_000_000, 123_456_789)),
            ("f 644 0 0 2049 77 1 1 1 1 -1./a//", Stamp::UNKNOWN),
            ("d 755 0 0 2050 77 1 1 1 1 -1./a//", Stamp::UNKNOWN),
            ("d 755 0 0 2049 78 1 1 1 1 -1./a//", Stamp::UNKNOWN),
        ] {
            let mut entry = parse(text.as_bytes(), Style::Gnu).unwrap().entry;
            births.complete(&mut entry);
            assert_eq!(entry.btime, birth, "{text}");
        }
        for line in [&b""[..], b"2049", b"2049 77", b"2049 x 1 -", b"2049 77\xff1 -"] {
            assert!(births.learn(line).is_err());
        }
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for text in [
            "",
            "hello",
            "f 644/x//",
            "? 644 0 0 1 2 1 0 5 6 /x//",
            "f 644 0 0 1 2 1 0 5 6 /../x//",
            "f 644 0 0 1 2 1 -5 5 6 /x//",
            "l 777 0 0 1 2 1 0 5 6 /x",
        ] {
            assert_eq!(parse(text.as_bytes(), Style::Gnu), Err(Garbled), "{text}");
        }
    }

    #[test]
    fn unknown_birth_times_are_unknown() {
        for text in ["", "-", "0", "0.0000000000", "-1.-000000010"] {
            assert!(!birth(text).is_known(), "{text}");
        }
    }
}

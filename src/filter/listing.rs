//! Reads rsync's own listing of a replica, which is needed where RSYNC_OPTIONAL_ARGS hold filter
//! options that only rsync understands (spec 4, "Scanning").
//!
//! The listing is a dry run of a transfer into a directory that is empty or does not exist,
//! `rsync ARGS SOURCE/ NOWHERE/` with [`ARGUMENTS`]. `--list-only` would not do: it ignores
//! `--max-size` and `--min-size`, and its output does not distinguish a link from a name that
//! holds ` -> `.

use crate::tree::RelPath;
use crate::tree::path::escape;
use std::collections::HashSet;

/// Begins every line that names an entry; rsync's messages begin otherwise.
const MARK: &[u8] = b"osync:";

/// The options of the listing. After them come the task's own rules
/// ([`Filter::rsync_args`](super::Filter::rsync_args)), the options that change the list, the
/// replica with a final `/`, and a directory that is empty or does not exist but whose parent
/// exists.
pub const ARGUMENTS: [&str; 9] =
    ["-n", "-r", "-l", "-D", "-I", "-8", "--out-format=osync:%n", "--stats", "--no-human-readable"];

/// Begins the line of the statistics that says how many entries there are.
const COUNT: &[u8] = b"Number of created files: ";

/// Begins the last line.
const END: &[u8] = b"total size is ";

/// Why a listing is refused. What is missing in it would count as excluded and would be dropped
/// from the baseline, so it must be complete.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Incomplete {
    /// The last line is missing.
    #[error("its list ends too early")]
    NoEnd,
    /// The statistics do not say how many entries there are.
    #[error("it does not say how many entries it listed")]
    NoCount,
    /// The statistics give another number of entries.
    #[error("it listed {listed} entries, but says that there are {stated}")]
    Count {
        /// How many lines name an entry.
        listed: u64,
        /// How many entries there are according to the statistics.
        stated: u64,
    },
    /// A line names something that is not below the root.
    #[error("it listed '{0}', which is not a path below the replica")]
    Name(String),
}

/// The paths that take part according to rsync.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VisibleSet {
    paths: HashSet<RelPath>,
}

impl VisibleSet {
    /// Whether the path takes part; the root always does.
    #[must_use]
    pub fn contains(&self, path: &RelPath) -> bool {
        path.is_root() || self.paths.contains(path)
    }

    /// The number of paths below the root.
    #[must_use]
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether nothing below the root takes part.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }
}

/// Reads what rsync printed for [`ARGUMENTS`]. Lines without the mark are messages and are
/// ignored. The statistics at the end prove that no marked line is missing.
///
/// # Errors
/// The listing is incomplete.
pub fn visible(output: &[u8]) -> Result<VisibleSet, Incomplete> {
    let lines = || output.split(|b| *b == b'\n');
    // The output ends with a newline, so the last piece is empty.
    let [.., last, b""] = lines().collect::<Vec<_>>()[..] else { return Err(Incomplete::NoEnd) };
    if !last.starts_with(END) {
        return Err(Incomplete::NoEnd);
    }
    let mut paths = HashSet::new();
    let mut listed = 0;
    for name in lines().filter_map(|line| line.strip_prefix(MARK)) {
        let path = decode(name.strip_suffix(b"/").unwrap_or(name));
        let path = RelPath::new(if path == b"." { Vec::new() } else { path });
        let path = path.map_err(|_| Incomplete::Name(escape(name)))?;
        if path.is_root() {
            // Listed only if rsync would change something in the root itself.
            continue;
        }
        listed += 1;
        paths.insert(path);
    }
    let stated = lines().find_map(|line| line.strip_prefix(COUNT)).and_then(leading_number);
    let stated = stated.ok_or(Incomplete::NoCount)?;
    if stated != listed || stated != paths.len() as u64 {
        return Err(Incomplete::Count { listed, stated });
    }
    Ok(VisibleSet { paths })
}

/// The number at the beginning: `12 (reg: 6, dir: 6)`.
fn leading_number(text: &[u8]) -> Option<u64> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    std::str::from_utf8(&text[..end]).ok()?.parse().ok()
}

/// Decodes `\#ooo`, which rsync prints in place of a byte that is not printable.
#[must_use]
pub fn decode(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, behind)) = rest.split_first() {
        if let [b'\\', b'#', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] = rest {
            out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = &rest[5..];
        } else {
            out.push(byte);
            rest = behind;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read_byte_for_byte() {
        let output = b"skipping non-regular file \"x\"\nosync:./\nosync:d/\nosync:d/a -> b\n\
            osync:new\\#012line\nosync:back\\#134#012\nosync:\\#\nosync:\\#400\nosync:inv\xff\nosync: lead \n";
        let set = visible(&whole(output, 8)).unwrap();
        let names: &[&[u8]] = &[
            b"d",
            b"d/a -> b",
            b"new\nline",
            b"back\\#012",
            b"\\#",
            b"\\#400",
            b"inv\xff",
            b" lead ",
        ];
        for name in names {
            assert!(set.contains(&RelPath::new(*name).unwrap()), "{name:?}");
        }
        assert!(set.len() == names.len() && !set.is_empty());
        assert!(set.contains(&RelPath::root()));
        assert!(!set.contains(&RelPath::new(&b"x"[..]).unwrap()));
        assert!(visible(&whole(b"", 0)).unwrap().is_empty());
    }

    /// A list with the statistics that rsync prints at the end.
    fn whole(lines: &[u8], count: u64) -> Vec<u8> {
        let end = format!(
            "\nNumber of files: 77 (reg: 6, dir: 3)\nNumber of created files: {count} (reg: {count})\n\
             Total file size: 7 bytes\n\nsent 5 bytes  received 3 bytes  8.00 bytes/sec\n\
             total size is 2,007  speedup is 5.96 (DRY RUN)\n"
        );
        [lines, end.as_bytes()].concat()
    }

    #[test]
    fn a_list_of_which_anything_is_missing_is_refused() {
        let list = whole(b"osync:./\nosync:a\nosync:d/\nosync:d/f\nskipping x\n", 3);
        let set = visible(&list).unwrap();
        assert_eq!(set.len(), 3);
        for end in 0..list.len() {
            let got = visible(&list[..end]);
            assert!(got.is_err(), "cut at {end}: {got:?}");
        }
        let lines: Vec<&[u8]> = list.split_inclusive(|byte| *byte == b'\n').collect();
        for gone in 0..lines.len() {
            let rest = [&lines[..gone], &lines[gone + 1..]].concat().concat();
            match visible(&rest) {
                // A line that says nothing about what takes part.
                Ok(left) => assert_eq!(left, set, "without line {gone}"),
                Err(_) => assert!(!lines[gone].starts_with(b"skipping"), "without line {gone}"),
            }
            // the same line twice
            let twice = [&lines[..=gone], &lines[gone..]].concat().concat();
            assert!(visible(&twice).is_err() || visible(&twice) == Ok(set.clone()), "{gone}");
        }
        for at in 0..list.len() {
            let mut damaged = list.clone();
            damaged[at] = b'\n';
            if let Ok(left) = visible(&damaged) {
                assert_eq!(left, set, "damaged at {at}");
            }
        }
        for (line, why) in [("osync:../up", "../up"), ("osync:/etc", "/etc")] {
            let got = visible(&whole(format!("{line}\n").as_bytes(), 1)).unwrap_err();
            assert!(got.to_string().contains(why), "{got}");
        }
    }
}

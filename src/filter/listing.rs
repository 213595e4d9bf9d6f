//! What rsync itself lists, where RSYNC_OPTIONAL_ARGS hold options that only rsync understands
//! (spec 4, "Scanning"). Pure.
//!
//! The list comes from a dry transfer into a directory that is empty or does not exist,
//! `rsync ARGS SOURCE/ NOWHERE/` with [`ARGUMENTS`], and not from `--list-only`, which
//! knows nothing of `--max-size` and `--min-size` and shows links in a form that cannot
//! be told from names holding ` -> `.

use crate::tree::RelPath;
use crate::tree::path::escape;
use std::collections::HashSet;

/// Begins every line that names an entry; messages of rsync begin otherwise.
const MARK: &[u8] = b"osync:";

/// The options of a listing call. Behind them come the task's own rules
/// ([`Filter::rsync_args`](super::Filter::rsync_args)), the options that change the list, the
/// replica with a final `/`, and a directory that is empty or does not exist (its parent
/// does).
pub const ARGUMENTS: [&str; 9] =
    ["-n", "-r", "-l", "-D", "-I", "-8", "--out-format=osync:%n", "--stats", "--no-human-readable"];

/// The number of entries, among the figures at the end.
const COUNT: &[u8] = b"Number of created files: ";

/// The last line.
const END: &[u8] = b"total size is ";

/// A list that is not whole: what is missing in it would count as excluded, and be forgotten.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Incomplete {
    /// The last line is missing.
    #[error("its list has no end")]
    NoEnd,
    /// The figures do not say how many entries there are.
    #[error("it does not say how many entries it listed")]
    NoCount,
    /// Another number than it says.
    #[error("it listed {listed} entries, and says that there are {told}")]
    Count {
        #[allow(missing_docs)]
        listed: u64,
        #[allow(missing_docs)]
        told: u64,
    },
    /// A line that names nothing below the root.
    #[error("it named an entry that cannot be: {0}")]
    Name(String),
}

/// The paths that rsync would transfer.
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

    /// How many paths there are below the root.
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

/// Reads what rsync printed for [`ARGUMENTS`]. Lines that are not ours are messages and
/// count for nothing; that none of ours is missing, the figures at the end say.
///
/// # Errors
/// The list is not whole.
pub fn visible(output: &[u8]) -> Result<VisibleSet, Incomplete> {
    let lines = || output.split(|b| *b == b'\n');
    // behind the final newline there is nothing more
    let [.., last, b""] = lines().collect::<Vec<_>>()[..] else { return Err(Incomplete::NoEnd) };
    if !last.starts_with(END) {
        return Err(Incomplete::NoEnd);
    }
    let mut paths = HashSet::new();
    let mut listed = 0;
    for name in lines().filter_map(|line| line.strip_prefix(MARK)) {
        let path = decode(name.strip_suffix(b"/").unwrap_or(name));
        let refused = || Incomplete::Name(escape(name));
        let path = RelPath::new(if path == b"." { Vec::new() } else { path });
        let path = path.map_err(|_| refused())?;
        if path.is_root() {
            // of the root rsync tells only what changes in it
            continue;
        }
        listed += 1;
        paths.insert(path);
    }
    let told = lines().find_map(|line| line.strip_prefix(COUNT)).and_then(leading_number);
    let told = told.ok_or(Incomplete::NoCount)?;
    if told != listed || told != paths.len() as u64 {
        return Err(Incomplete::Count { listed, told });
    }
    Ok(VisibleSet { paths })
}

/// The number at the beginning: `12 (reg: 6, dir: 6)`.
fn leading_number(text: &[u8]) -> Option<u64> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    std::str::from_utf8(&text[..end]).ok()?.parse().ok()
}

/// Undoes rsync's `\#ooo` for bytes that it does not print.
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

    /// A list with the figures that rsync tells at the end.
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
                // a line that says nothing of what takes part
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
        for (line, why) in [("osync:../up", "cannot be"), ("osync:/etc", "cannot be")] {
            let got = visible(&whole(format!("{line}\n").as_bytes(), 1)).unwrap_err();
            assert!(got.to_string().contains(why), "{got}");
        }
    }
}

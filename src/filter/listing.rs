//! What rsync itself lists, where RSYNC_OPTIONAL_ARGS hold options that only rsync understands
//! (spec 4, "Scanning"). Pure.
//!
//! The list comes from a dry transfer into a directory that is empty or does not exist,
//! `rsync ARGS SOURCE/ NOWHERE/` with [`ARGUMENTS`], and not from `--list-only`, which
//! knows nothing of `--max-size` and `--min-size` and shows links in a form that cannot
//! be told from names holding ` -> `.

use crate::tree::RelPath;
use std::collections::HashSet;

/// Begins every line that names an entry; messages of rsync begin otherwise.
const MARK: &[u8] = b"osync:";

/// The options of a listing call. Behind them come the task's own rules
/// ([`Filter::rsync_args`](super::Filter::rsync_args)), the options that change the list, the
/// replica with a final `/`, and a directory that is empty or does not exist (its parent
/// does).
pub const ARGUMENTS: [&str; 7] = ["-n", "-r", "-l", "-D", "-I", "-8", "--out-format=osync:%n"];

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
/// count for nothing; rsync's exit status says whether the list is complete.
#[must_use]
pub fn visible(output: &[u8]) -> VisibleSet {
    let names = output.split(|b| *b == b'\n').filter_map(|line| line.strip_prefix(MARK));
    let paths = names.filter_map(|name| {
        let name = name.strip_suffix(b"/").unwrap_or(name);
        RelPath::new(decode(name)).ok().filter(|path| !path.is_root())
    });
    VisibleSet { paths: paths.collect() }
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
        let set = visible(output);
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
        assert!(visible(b"").is_empty());
    }
}

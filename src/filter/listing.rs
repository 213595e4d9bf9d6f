//! When rsync itself has to say what it sees: options among RSYNC_OPTIONAL_ARGS that
//! change its list (spec 4, "Scanning"), and the reading of that list. Pure.
//!
//! The list comes from a dry transfer into a directory that is empty or does not exist,
//! `rsync ARGS SOURCE/ NOWHERE/` with [`ARGUMENTS`], and not from `--list-only`, which
//! knows nothing of `--max-size` and `--min-size` and shows links in a form that cannot
//! be told from names holding ` -> `.

use crate::tree::RelPath;
use std::collections::HashSet;

/// Begins every line that names an entry; messages of rsync begin otherwise.
const MARK: &[u8] = b"osync:";

/// Long options that change what rsync lists, and whether a value follows.
const LONG: &[(&str, Value)] = &[
    ("copy-unsafe-links", Value::No),
    ("cvs-exclude", Value::No),
    ("dirs", Value::No),
    ("exclude", Value::Yes),
    ("exclude-from", Value::Yes),
    ("filter", Value::Yes),
    ("from0", Value::No),
    ("include", Value::Yes),
    ("include-from", Value::Yes),
    ("max-size", Value::Yes),
    ("min-size", Value::Yes),
    ("no-D", Value::No),
    ("no-devices", Value::No),
    ("no-l", Value::No),
    ("no-links", Value::No),
    ("no-r", Value::No),
    ("no-recursive", Value::No),
    ("no-specials", Value::No),
    ("old-d", Value::No),
    ("old-dirs", Value::No),
    ("one-file-system", Value::No),
    ("prune-empty-dirs", Value::No),
    ("safe-links", Value::No),
];

/// Long options that have nothing to do with listing and may take their value from the
/// next argument; it must not be taken for an option itself.
const LONG_WITH_VALUE: &[&str] = &[
    "address",
    "backup-dir",
    "block-size",
    "bwlimit",
    "cc",
    "checksum-choice",
    "checksum-seed",
    "chmod",
    "chown",
    "compare-dest",
    "compress-choice",
    "compress-level",
    "compress-threads",
    "confine-root",
    "contimeout",
    "copy-as",
    "copy-dest",
    "debug",
    "early-input",
    "files-from",
    "groupmap",
    "iconv",
    "info",
    "link-dest",
    "log-file",
    "log-file-format",
    "log-format",
    "max-alloc",
    "max-delete",
    "modify-window",
    "only-write-batch",
    "out-format",
    "outbuf",
    "partial-dir",
    "password-file",
    "port",
    "protocol",
    "read-batch",
    "remote-option",
    "rsh",
    "rsync-path",
    "skip-compress",
    "sockopts",
    "stop-after",
    "stop-at",
    "suffix",
    "temp-dir",
    "time-limit",
    "timeout",
    "usermap",
    "write-batch",
    "zc",
    "zl",
    "zt",
];

/// Short options that change what rsync lists; of these only `f` takes a value.
const SHORT: &[u8] = b"fFCxmd0";

/// Short options whose value is the rest of the cluster, or the next argument.
const SHORT_WITH_VALUE: &[u8] = b"efBTM@";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    No,
    Yes,
}

/// Whether this one argument, alone or in a cluster of short options, changes what rsync
/// lists: `--filter`, `-f`, `-F`, `-C`, `--exclude*`, `--include*`, `-x`, `--max-size`,
/// `--min-size`, `-m`, `--safe-links`, options that leave out links or devices, and the
/// like. Use [`listing_args`] for a whole list, where values may stand by themselves.
#[must_use]
pub fn changes_listing(arg: &str) -> bool {
    !listing_args(&[arg.to_owned()]).is_empty()
}

/// Those of some rsync arguments that change what rsync lists, in order, each with its
/// value.
#[must_use]
pub fn listing_args(args: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let next = if let Some(long) = arg.strip_prefix("--") {
            long_listing(arg, long, &mut kept)
        } else if let Some(cluster) = arg.strip_prefix('-') {
            short_listing(cluster, &mut kept)
        } else {
            Next::Option
        };
        match next {
            Next::Option => {}
            Next::Value => kept.extend(args.next().cloned()),
            Next::ForeignValue => drop(args.next()),
        }
    }
    kept
}

/// Whether [`listing_args`] keep rsync on one file system (`-x`): what is mounted below a replica
/// is excluded then, as a whole.
#[must_use]
pub fn stays_on_one_file_system(listing_args: &[String]) -> bool {
    listing_args.iter().any(|arg| matches!(arg.as_str(), "-x" | "--one-file-system"))
}

/// What the argument behind an option is.
enum Next {
    /// An argument of its own.
    Option,
    /// The value of an option that is kept.
    Value,
    /// The value of an option that is not kept.
    ForeignValue,
}

/// Keeps a long option if it matters.
fn long_listing(arg: &str, long: &str, kept: &mut Vec<String>) -> Next {
    let (name, has_value) = match long.split_once('=') {
        Some((name, _)) => (name, true),
        None => (long, false),
    };
    let listing = LONG.iter().find(|(option, _)| *option == name);
    if listing.is_some() {
        kept.push(arg.to_owned());
    }
    match listing {
        _ if has_value => Next::Option,
        Some((_, Value::Yes)) => Next::Value,
        None if LONG_WITH_VALUE.contains(&name) => Next::ForeignValue,
        _ => Next::Option,
    }
}

/// Keeps what matters of a cluster of short options.
fn short_listing(cluster: &str, kept: &mut Vec<String>) -> Next {
    for (at, option) in cluster.char_indices() {
        let behind = &cluster[at + option.len_utf8()..];
        let byte = u8::try_from(option).unwrap_or(0);
        if SHORT.contains(&byte) {
            let value = if byte == b'f' { behind } else { "" };
            kept.push(format!("-{option}{value}"));
        }
        if SHORT_WITH_VALUE.contains(&byte) {
            return match (behind.is_empty(), byte) {
                (false, _) => Next::Option,
                (true, b'f') => Next::Value,
                (true, _) => Next::ForeignValue,
            };
        }
    }
    Next::Option
}

/// The options of a listing call. Behind them come the task's own rules
/// ([`Filter::rsync_args`](super::Filter::rsync_args)), the [`listing_args`], `--`, the
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

    fn kept(args: &[&str]) -> Vec<String> {
        listing_args(&args.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn options_that_change_the_list_are_found_with_their_values() {
        let cases: &[(&[&str], &[&str])] = &[
            (&[], &[]),
            (&["--bwlimit=3", "-v", "--progress"], &[]),
            (&["--filter=- x"], &["--filter=- x"]),
            (&["--filter", "- x", "-v"], &["--filter", "- x"]),
            (&["-f", "- x"], &["-f", "- x"]),
            (&["-f- x"], &["-f- x"]),
            (&["-vf", "- x"], &["-f", "- x"]),
            (&["-vxCf- x"], &["-x", "-C", "-f- x"]),
            (&["-FF"], &["-F", "-F"]),
            (&["-vaxz"], &["-x"]),
            (&["-e", "ssh -x"], &[]),
            (&["-essh -x"], &[]),
            (&["-e", "-x"], &[]),
            (&["--rsh", "--filter=- x"], &[]),
            (&["--max-size", "1M", "--min-size=1"], &["--max-size", "1M", "--min-size=1"]),
            (&["--exclude-from=a", "--include", "b"], &["--exclude-from=a", "--include", "b"]),
            (&["-@", "-x"], &[]),
            (&["--one-file-system", "--safe-links"], &["--one-file-system", "--safe-links"]),
            (&["--exclude"], &["--exclude"]),
            (&["--executability", "--no-D"], &["--no-D"]),
            (&["x", "-", "--"], &[]),
        ];
        for (args, expected) in cases {
            assert_eq!(kept(args), *expected, "{args:?}");
            if let [one] = args {
                assert_eq!(changes_listing(one), !expected.is_empty(), "{one}");
            }
        }
    }

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

//! Under which names `backup/` and `deleted/` keep things: pure.
//!
//! A kept thing has its full relative path. Where a name with its suffix would pass 255
//! bytes, or a path the limit of the system, it is cut, and a digest of the whole takes
//! the place of what was cut off: readable, unique, and the same each time.

use super::local::openat_root::{LONGEST_PATH, split};
use crate::tree::RelPath;

/// The longest file name that file systems take.
pub(super) const LONGEST_NAME: usize = 255;

/// `.YYYY.MM.DD-HH.MM.SS` and, behind it, a number where that is taken too.
const SUFFIX: usize = 20 + 4;

/// The longest path below `backup/` or `deleted/` that a suffix still fits behind.
const LONGEST_KEPT: usize = LONGEST_PATH - ".osync_workdir/deleted/".len() - SUFFIX;

/// How many bytes of a path that is too long stay readable.
const READABLE: usize = 3600;

/// Where `path` is kept, below `backup/` or `deleted/`.
#[must_use]
pub fn kept_path(path: &RelPath) -> RelPath {
    let bytes = path.as_bytes();
    if bytes.len() <= LONGEST_KEPT {
        return path.clone();
    }
    let (parent, name) = split(bytes);
    let head = &parent[..READABLE];
    let head = head.iter().rposition(|b| *b == b'/').map_or(&b""[..], |cut| &head[..cut]);
    let short = [head, b"/~", digest(parent).as_bytes(), b"/", name].concat();
    let short = if head.is_empty() { short[1..].to_vec() } else { short };
    RelPath::new(short).unwrap_or_else(|_| path.clone())
}

/// Where `path` is kept under a name with a date, `.YYYY.MM.DD-HH.MM.SS`
/// (CONFLICT_BACKUP_MULTIPLE).
#[must_use]
pub fn dated_kept_path(path: &RelPath, date: &str) -> RelPath {
    let kept = kept_path(path);
    let name = with_suffix(kept.name(), date.as_bytes(), LONGEST_NAME);
    kept.parent().unwrap_or_default().join(&name)
}

/// Where a copy of `path` is kept whose own name is too long for a suffix.
#[must_use]
pub(super) fn short_kept_path(path: &RelPath) -> RelPath {
    let kept = kept_path(path);
    let name = with_suffix(kept.name(), b"", LONGEST_NAME - SUFFIX);
    kept.parent().map_or_else(|| kept.clone(), |parent| parent.join(&name))
}

/// `name` with `suffix`, within `longest` bytes.
#[must_use]
pub(super) fn with_suffix(name: &[u8], suffix: &[u8], longest: usize) -> Vec<u8> {
    if name.len() + suffix.len() <= longest {
        return [name, suffix].concat();
    }
    let digest = digest(name);
    let room = longest.saturating_sub(suffix.len() + 1 + digest.len());
    let mut head = &name[..room.min(name.len())];
    // Never through a character: whoever reads names as text would stumble.
    if name.get(head.len()).is_some_and(|byte| byte & 0xc0 == 0x80) {
        let start = head.iter().rposition(|byte| byte & 0xc0 != 0x80).unwrap_or(0);
        if head.len() - start < 4 {
            head = &head[..start];
        }
    }
    [head, b"~", digest.as_bytes(), suffix].concat()
}

fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_paths_are_kept_as_they_are() {
        for path in ["a", "a/b/c", "-x/ y\n"] {
            let path = RelPath::new(path).unwrap();
            assert_eq!(kept_path(&path), path);
            assert_eq!(short_kept_path(&path), path);
        }
        assert_eq!(with_suffix(b"name", b".2026", 255), b"name.2026");
    }

    #[test]
    fn long_names_stay_within_the_limit_readable_and_different() {
        let suffix = b".2026.01.02-03.04.05";
        for name in ["x".repeat(255), "ä".repeat(127), "\u{1f600}".repeat(63), "x".repeat(236)] {
            let one = with_suffix(name.as_bytes(), suffix, LONGEST_NAME);
            let other = with_suffix(format!("{}y", &name[4..]).as_bytes(), suffix, LONGEST_NAME);
            assert!(one.len() <= LONGEST_NAME && one.len() > 245, "{}", one.len());
            assert!(one.ends_with(suffix) && one != other);
            assert!(std::str::from_utf8(&one).is_ok(), "a character was cut");
            assert_eq!(one, with_suffix(name.as_bytes(), suffix, LONGEST_NAME));
        }
        let bytes = with_suffix(&[0xbf; 255], suffix, LONGEST_NAME);
        assert!(bytes.len() > 245);
    }

    #[test]
    fn long_paths_stay_within_the_limit_and_different() {
        let deep = |last: &str| {
            let dirs = vec!["d".repeat(200); 20].join("/");
            RelPath::new(format!("{dirs}/{last}")).unwrap()
        };
        let (one, other) = (kept_path(&deep("sub/x")), kept_path(&deep("bus/x")));
        for kept in [&one, &other] {
            assert!(kept.as_bytes().len() <= LONGEST_KEPT);
            assert_eq!(kept.name(), b"x");
        }
        assert_ne!(one, other);
        let top = RelPath::new("t".repeat(255)).unwrap();
        assert_eq!(kept_path(&top), top);
        assert!(short_kept_path(&top).as_bytes().len() <= LONGEST_NAME - SUFFIX);
    }
}

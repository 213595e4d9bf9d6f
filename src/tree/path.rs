//! Relative paths as bytes. A name may hold any byte but `/` and NUL, and need not be UTF-8.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The longest path, in bytes, that system calls and rsync take: 4,096 with the NUL behind it.
pub const LONGEST_PATH: usize = 4095;

/// A path below a replica's root: bytes, never absolute, never holding `.` or `..`
/// or an empty component. The root itself is the empty path.
///
/// Paths are ordered component by component, so that everything below a directory follows
/// right after it.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct RelPath(Box<[u8]>);

/// Why some bytes are not a relative path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// The path begins with `/`.
    #[error("the path is absolute")]
    Absolute,
    /// A component is empty, `.` or `..`.
    #[error("the path holds an empty, '.' or '..' component")]
    Component,
    /// The path holds a NUL byte.
    #[error("the path holds a NUL byte")]
    Nul,
}

impl Serialize for RelPath {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

/// Checked like any bytes from outside: no message can hold a path that leads out of a replica.
impl<'de> Deserialize<'de> for RelPath {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        RelPath::new(Vec::<u8>::deserialize(from)?).map_err(de::Error::custom)
    }
}

impl RelPath {
    /// The replica's root itself.
    #[must_use]
    pub fn root() -> Self {
        RelPath::default()
    }

    /// Checks bytes that came from outside.
    ///
    /// # Errors
    /// Absolute paths, NUL, and components that are empty, `.` or `..`.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, BadPath> {
        let bytes: Vec<u8> = bytes.into();
        if bytes.is_empty() {
            return Ok(RelPath::root());
        }
        if bytes[0] == b'/' {
            return Err(BadPath::Absolute);
        }
        if bytes.contains(&0) {
            return Err(BadPath::Nul);
        }
        if bytes.split(|b| *b == b'/').any(|c| matches!(c, b"" | b"." | b"..")) {
            return Err(BadPath::Component);
        }
        Ok(RelPath(bytes.into_boxed_slice()))
    }

    /// The bytes, without leading or trailing slash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path as the standard library wants it; the root is `.`.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        if self.is_root() { Path::new(".") } else { Path::new(OsStr::from_bytes(&self.0)) }
    }

    /// Whether this is the replica's root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path of an entry of this directory. `name` must be one real file name.
    #[must_use]
    pub fn join(&self, name: &[u8]) -> RelPath {
        debug_assert!(!name.is_empty() && !name.contains(&b'/'));
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        if !self.is_root() {
            bytes.extend_from_slice(&self.0);
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        RelPath(bytes.into_boxed_slice())
    }

    /// The path made of these names, which come from the last component up to the first.
    #[must_use]
    pub fn from_names_upwards<'n>(upwards: impl Iterator<Item = &'n [u8]> + Clone) -> RelPath {
        let length = upwards.clone().map(|name| name.len() + 1).sum::<usize>().saturating_sub(1);
        let mut bytes = vec![b'/'; length].into_boxed_slice();
        let mut end = length;
        for name in upwards {
            let start = end - name.len();
            bytes[start..end].copy_from_slice(name);
            end = start.saturating_sub(1);
        }
        RelPath(bytes)
    }

    /// The last component; empty for the root.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|b| *b == b'/').next().unwrap_or_default()
    }

    /// A path below this one, given from here.
    #[must_use]
    pub fn join_path(&self, below: &RelPath) -> RelPath {
        match (self.is_root(), below.is_root()) {
            (_, true) => self.clone(),
            (true, false) => below.clone(),
            (false, false) => RelPath([&self.0, &b"/"[..], &below.0].concat().into_boxed_slice()),
        }
    }

    /// The path itself, the directory that holds it, and so on up to the root, like
    /// [`std::path::Path::ancestors`].
    pub fn ancestors(&self) -> impl Iterator<Item = RelPath> + use<> {
        std::iter::successors(Some(self.clone()), RelPath::parent)
    }

    /// The directory that holds this path; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<RelPath> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|b| *b == b'/').unwrap_or(0);
        Some(RelPath(self.0[..end].into()))
    }

    /// The components from the root down; empty for the root.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|c| !c.is_empty())
    }

    /// How many components the path has; 0 for the root.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.components().count()
    }

    /// Whether this is `dir` or lies below it.
    #[must_use]
    pub fn is_within(&self, dir: &RelPath) -> bool {
        dir.is_root()
            || (self.0.starts_with(&dir.0)
                && (self.0.len() == dir.0.len() || self.0[dir.0.len()] == b'/'))
    }

    /// The same path where the directory `from`, which is this path or above it, is called `to`;
    /// `None` where it is not.
    #[must_use]
    pub fn rebased(&self, from: &RelPath, to: &RelPath) -> Option<RelPath> {
        let rest = self.is_within(from).then(|| self.components().skip(from.depth()))?;
        Some(rest.fold(to.clone(), |at, name| at.join(name)))
    }

    /// The path for people: printable, one line, unambiguous (see [`escape`]).
    #[must_use]
    pub fn shown(&self) -> String {
        if self.is_root() { ".".to_owned() } else { escape(&self.0) }
    }
}

/// Bytes for people: valid printable UTF-8 stays as it is; control characters,
/// invalid bytes and the backslash are shown as `\n`, `\t`, `\\` or `\xHH`.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '\r' => out.push_str("\\r"),
                '\\' => out.push_str("\\\\"),
                c if is_unprintable(c) => {
                    let mut buffer = [0; 4];
                    for byte in c.encode_utf8(&mut buffer).bytes() {
                        let _ = write!(out, "\\x{byte:02X}");
                    }
                }
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02X}");
        }
    }
    out
}

/// Bytes as one word of a command to copy: quoted where they have to be, and in the form `$'…'` of
/// bash and zsh where they are not printable.
#[must_use]
pub fn for_shell(bytes: &[u8]) -> String {
    let shown = escape(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) if text == shown => shell_words::quote(text).into_owned(),
        _ => format!("$'{}'", shown.replace('\'', r"\'")),
    }
}

/// Control characters, and those that reorder or hide text on a terminal.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Compares two paths component by component: as bytes, with `/` before every other byte.
#[must_use]
pub fn compare(a: &[u8], b: &[u8]) -> Ordering {
    // most paths that are compared lie in the same directory
    const PIECE: usize = 16;
    let pieces = a.chunks_exact(PIECE).zip(b.chunks_exact(PIECE));
    let skipped = pieces.take_while(|(x, y)| x == y).count() * PIECE;
    let rest = a[skipped..].iter().zip(&b[skipped..]);
    let same = skipped + rest.take_while(|(x, y)| x == y).count();
    let rank = |s: &[u8]| s.get(same).map(|byte| if *byte == b'/' { 0 } else { *byte });
    rank(a).cmp(&rank(b))
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RelPath {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.shown())
    }
}

/// A path with `~` at its beginning replaced by the home directory, where one is known.
#[must_use]
pub fn with_home(path: &Path, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(below), Some(home)) if below.as_os_str().is_empty() => home.to_owned(),
        (Ok(below), Some(home)) => home.join(below),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_path_follows_the_directory_above_it_to_another_name() {
        let path = |text: &str| RelPath::new(text).unwrap();
        for (from, to, expected) in [
            ("a", "x/y", Some("x/y/b/c")),
            ("a/b/c", "z", Some("z")),
            ("", "z", Some("z/a/b/c")),
            ("a/b", "", Some("c")),
            ("a/bb", "z", None),
            ("a/b/c/d", "z", None),
        ] {
            let found = path("a/b/c").rebased(&path(from), &path(to));
            assert_eq!(found, expected.map(path), "{from} -> {to}");
        }
    }

    #[test]
    fn a_word_for_the_shell_comes_back_as_it_was() {
        for bytes in
            [&b"plain"[..], b"it's a <b>", b"a\nb'c\\\xff", "\u{202e}x1".as_bytes(), b"$(x) `y`"]
        {
            let script = format!("printf %s {}", for_shell(bytes));
            let Ok(out) = std::process::Command::new("bash").arg("-c").arg(&script).output() else {
                return; // there is no bash here
            };
            assert_eq!(out.stdout, bytes, "{script}");
        }
    }

    #[test]
    fn what_leaves_the_replica_is_refused() {
        for (bytes, why) in [
            ("/etc", BadPath::Absolute),
            ("a/../b", BadPath::Component),
            ("..", BadPath::Component),
            ("a//b", BadPath::Component),
            ("a/", BadPath::Component),
            ("./a", BadPath::Component),
            ("a\0b", BadPath::Nul),
        ] {
            assert_eq!(RelPath::new(bytes.as_bytes()), Err(why), "{bytes:?}");
        }
        assert!(RelPath::new("...").is_ok());
    }

    #[test]
    fn a_directory_is_followed_by_all_that_lies_below_it() {
        let mut paths = ["a.txt", "a/b", "a", "a0", "a/b/c", "a b"].map(path);
        paths.sort();
        assert_eq!(paths, ["a", "a/b", "a/b/c", "a b", "a.txt", "a0"].map(path));
    }

    #[test]
    fn names_from_the_inside_out_make_a_path() {
        for (names, path) in [(&[][..], ""), (&["a"], "a"), (&["ccc", "b", "aa"], "aa/b/ccc")] {
            let made = RelPath::from_names_upwards(names.iter().map(|name: &&str| name.as_bytes()));
            assert_eq!(made.as_bytes(), path.as_bytes());
        }
    }

    #[test]
    fn parents_names_and_containment() {
        let p = path("a/b/c");
        assert_eq!(p.name(), b"c");
        assert_eq!(p.parent(), Some(path("a/b")));
        assert_eq!(path("a").parent(), Some(RelPath::root()));
        assert_eq!(RelPath::root().parent(), None);
        assert!(p.is_within(&path("a")) && p.is_within(&p) && p.is_within(&RelPath::root()));
        assert!(!path("ab").is_within(&path("a")));
        assert_eq!(RelPath::root().join(b"x").join(b"y"), path("x/y"));
        assert_eq!(p.depth(), 3);
    }

    #[test]
    fn awkward_names_are_shown_on_one_line() {
        let p = RelPath::new(b"a\nb\\\xff\x1b\xe2\x80\xae\xc3\xa4".to_vec()).unwrap();
        assert_eq!(p.shown(), "a\\nb\\\\\\xFF\\x1B\\xE2\\x80\\xAEä");
    }

    #[test]
    fn a_tilde_is_the_home_directory() {
        let home = Some(Path::new("/h"));
        for (path, expected) in [
            ("~/k", "/h/k"),
            ("~//k", "/h/k"),
            ("~", "/h"),
            ("/k", "/k"),
            ("k", "k"),
            ("~x/k", "~x/k"),
        ] {
            assert_eq!(with_home(Path::new(path), home).as_os_str(), expected, "{path}");
        }
        assert_eq!(with_home(Path::new("~/k"), None), Path::new("~/k"));
    }

    #[test]
    fn a_path_below_another_is_put_behind_it() {
        for (base, below, whole) in
            [("a/b", "c/d", "a/b/c/d"), ("", "c", "c"), ("a", "", "a"), ("", "", "")]
        {
            let path = |text: &str| RelPath::new(text.as_bytes()).unwrap();
            assert_eq!(path(base).join_path(&path(below)), path(whole), "{base} {below}");
        }
    }

    #[test]
    fn the_order_is_that_of_the_components_wherever_paths_begin_to_differ() {
        for shared in 0..40 {
            let ordered = ["", "/a", "/a/a", " ", "a", "a/z", "a b", "b"];
            let paths = ordered.map(|end| ["x".repeat(shared), end.to_owned()].concat());
            for (i, a) in paths.iter().enumerate() {
                for (j, b) in paths.iter().enumerate() {
                    assert_eq!(compare(a.as_bytes(), b.as_bytes()), i.cmp(&j), "{a} {b}");
                }
            }
        }
    }
}

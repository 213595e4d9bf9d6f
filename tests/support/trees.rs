//! Trees as text, one entry a line, to make them and to read them back.
//!
//! ```text
//! f PATH CONTENT [MTIME [MODE]]
//! d PATH [MTIME [MODE]]
//! l PATH TARGET [MTIME]
//! ```
//!
//! In paths, contents and targets `\n`, `\t`, `\s` (a space), `\\` and `\xHH` stand for
//! bytes; an empty content is `""`. MTIME is seconds since the epoch, with up to nine
//! digits behind a point; `-` and nothing are [`DEFAULT_MTIME`]. MODE is octal; nothing is
//! 644 for files and 755 for directories. Parents that are not named are made.
#![allow(dead_code)]

use filetime::FileTime;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The time that entries get when a test does not care.
pub const DEFAULT_MTIME: Mtime = Mtime { secs: 1_500_000_000, nanos: 0 };

/// A modification time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mtime {
    pub secs: i64,
    pub nanos: u32,
}

impl Mtime {
    pub fn secs(secs: i64) -> Self {
        Mtime { secs, nanos: 0 }
    }
}

/// What one entry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    File(Vec<u8>),
    Dir,
    Link(Vec<u8>),
    /// A fifo, socket or device, by the letter that `ls` shows.
    Special(char),
}

/// One entry of a tree. Not comparable as a whole: inodes and ctimes of two replicas always
/// differ; compare [`contents`] or [`details`] instead.
#[derive(Debug, Clone)]
pub struct Node {
    pub what: What,
    pub mode: u32,
    pub mtime: Mtime,
    pub ctime: Mtime,
    pub ino: u64,
    /// The time of birth, where the file system knows it.
    pub born: Option<SystemTime>,
}

/// Entries by path, parents before children.
pub type Tree = BTreeMap<Vec<u8>, Node>;

/// The path of an entry below a root, byte for byte.
pub fn at(root: &Path, path: &[u8]) -> PathBuf {
    root.join(OsStr::from_bytes(path))
}

/// Makes the entries of a text below a root. Directories get their times last.
pub fn make(root: &Path, text: &str) {
    let mut dirs = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let path = at(root, &unescape(fields[1]));
        let rest = if fields[0] == "d" { &fields[2..] } else { &fields[3..] };
        let mtime = rest.first().map_or(DEFAULT_MTIME, |field| parse_mtime(field));
        let mode = rest.get(1).map(|mode| u32::from_str_radix(mode, 8).expect(line));
        fs::create_dir_all(path.parent().unwrap()).expect(line);
        match fields[0] {
            "f" => {
                fs::write(&path, unescape(fields[2])).expect(line);
                set_mode(&path, mode.unwrap_or(0o644));
                set_mtime(&path, mtime);
            }
            "d" => {
                fs::create_dir_all(&path).expect(line);
                dirs.push((path, mtime, mode.unwrap_or(0o755)));
            }
            "l" => {
                symlink(OsStr::from_bytes(&unescape(fields[2])), &path).expect(line);
                set_mtime(&path, mtime);
            }
            other => panic!("{other:?} is no kind of entry: {line}"),
        }
    }
    for (path, mtime, mode) in dirs.into_iter().rev() {
        set_mode(&path, mode);
        set_mtime(&path, mtime);
    }
}

/// Reads all entries below a root, the work directory and the trigger file left out.
/// Nothing there is an empty tree.
pub fn read(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut open = vec![Vec::new()];
    while let Some(dir) = open.pop() {
        let Ok(entries) = fs::read_dir(at(root, &dir)) else {
            assert!(dir.is_empty(), "cannot list {:?}", at(root, &dir));
            continue;
        };
        for entry in entries {
            let name = entry.unwrap().file_name();
            if dir.is_empty() && [".osync_workdir", ".osync-update.push"].iter().any(|n| *n == name)
            {
                continue;
            }
            let path = if dir.is_empty() {
                name.as_bytes().to_vec()
            } else {
                [&dir, &b"/"[..], name.as_bytes()].concat()
            };
            let node = look(&at(root, &path)).unwrap();
            if node.what == What::Dir {
                open.push(path.clone());
            }
            tree.insert(path, node);
        }
    }
    tree
}

/// One entry, never through a link; none if nothing is there.
pub fn look(path: &Path) -> Option<Node> {
    let meta = fs::symlink_metadata(path).ok()?;
    let kind = meta.file_type();
    let what = if kind.is_dir() {
        What::Dir
    } else if kind.is_file() {
        What::File(fs::read(path).unwrap())
    } else if kind.is_symlink() {
        What::Link(fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec())
    } else if kind.is_fifo() {
        What::Special('p')
    } else if kind.is_socket() {
        What::Special('s')
    } else if kind.is_block_device() {
        What::Special('b')
    } else {
        What::Special('c')
    };
    let nanos = |nsec: i64| u32::try_from(nsec).unwrap();
    let mtime = Mtime { secs: meta.mtime(), nanos: nanos(meta.mtime_nsec()) };
    let ctime = Mtime { secs: meta.ctime(), nanos: nanos(meta.ctime_nsec()) };
    let born = meta.created().ok();
    Some(Node { what, mode: meta.mode() & 0o7777, mtime, ctime, ino: meta.ino(), born })
}

/// A tree as text: kinds, paths, contents and link targets.
pub fn contents(tree: &Tree) -> String {
    show(tree, false)
}

/// A tree as text with modes, and with times of everything but directories.
pub fn details(tree: &Tree) -> String {
    show(tree, true)
}

/// Names, kinds, contents, modes and times, those of directories too.
pub fn whole(tree: &Tree) -> Vec<String> {
    let line = |(path, node): (&Vec<u8>, &Node)| {
        format!("{} {:?} {:o} {:?}", escape(path), node.what, node.mode, node.mtime)
    };
    tree.iter().map(line).collect()
}

/// The same text as [`contents`] would give for a tree made from it: escapes, order,
/// parents.
pub fn normal(text: &str) -> String {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), text);
    contents(&read(root.path()))
}

fn show(tree: &Tree, all: bool) -> String {
    let mut out = String::new();
    for (path, node) in tree {
        let path = escape(path);
        match &node.what {
            What::File(content) => write!(out, "f {path} {}", escape(content)).unwrap(),
            What::Dir => write!(out, "d {path}").unwrap(),
            What::Link(target) => write!(out, "l {path} {}", escape(target)).unwrap(),
            What::Special(letter) => write!(out, "{letter} {path}").unwrap(),
        }
        if all {
            match node.what {
                What::Dir => write!(out, " - {:o}", node.mode).unwrap(),
                What::Link(_) => write!(out, " {}", show_mtime(node.mtime)).unwrap(),
                _ => write!(out, " {} {:o}", show_mtime(node.mtime), node.mode).unwrap(),
            }
        }
        out.push('\n');
    }
    out
}

/// Bytes as the language writes them.
pub fn escape(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "\"\"".to_owned();
    }
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                ' ' => out.push_str("\\s"),
                '\\' => out.push_str("\\\\"),
                c if c.is_control() || c.is_whitespace() => {
                    for byte in c.to_string().bytes() {
                        write!(out, "\\x{byte:02x}").unwrap();
                    }
                }
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}").unwrap();
        }
    }
    out
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    if text == "\"\"" {
        return out;
    }
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        out.push(match bytes.next() {
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b's') => b' ',
            Some(b'\\') => b'\\',
            Some(b'x') => {
                let hex = [bytes.next().unwrap(), bytes.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap()
            }
            other => panic!("no escape: {other:?} in {text}"),
        });
    }
    out
}

fn parse_mtime(text: &str) -> Mtime {
    if text == "-" {
        return DEFAULT_MTIME;
    }
    let (secs, nanos) = text.split_once('.').unwrap_or((text, "0"));
    Mtime { secs: secs.parse().unwrap(), nanos: format!("{nanos:0<9}").parse().unwrap() }
}

fn show_mtime(mtime: Mtime) -> String {
    if mtime.nanos == 0 {
        return mtime.secs.to_string();
    }
    format!("{}.{:09}", mtime.secs, mtime.nanos).trim_end_matches('0').to_owned()
}

/// Sets a modification time, of a link itself too.
pub fn set_mtime(path: &Path, mtime: Mtime) {
    let time = FileTime::from_unix_time(mtime.secs, mtime.nanos);
    filetime::set_symlink_file_times(path, time, time).unwrap();
}

/// Sets permission bits.
pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_tree_made_from_text_reads_back_as_that_text() {
    let text = "d dir - 750\n\
        d dir/sub - 755\n\
        f dir/sub/file hello\\sworld\\n 1600000000.000000001 600\n\
        f empty \"\" 1500000000 644\n\
        l link dir/nowhere 1600000001\n\
        f odd\\n\\s\\xff\\\\name x 1600000000.5 644\n";
    let root = tempfile::tempdir().unwrap();
    make(root.path(), text);
    assert_eq!(details(&read(root.path())), text);
    assert_eq!(fs::metadata(root.path().join("dir")).unwrap().mtime(), DEFAULT_MTIME.secs);
    assert_eq!(normal("f a/b x"), "d a\nf a/b x\n");
}

//! Random edits of a replica, as people and programs make them, with names that break
//! careless tools. Every write has a time of its own, so that no outcome depends on the clock of
//! the machine; but another file may take a name, and some edits keep the time.
#![allow(dead_code)]

use super::model::{is_within, parent};
use super::trees::{self, Mtime, What};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

/// An entry that no edit touches, so that a replica is never empty.
pub const ANCHOR: &[u8] = b"anchor";

/// A name that leaves no room for a suffix, and one that leaves too little.
const LONGEST: [u8; 255] = [b'L'; 255];
const LONG: [u8; 240] = [b'M'; 240];

/// One edit. An [`Index`] picks one of the entries that are there when it is made; what
/// cannot be done then is not done.
#[derive(Debug, Clone)]
pub enum Edit {
    Write {
        dir: Index,
        name: &'static [u8],
        time: When,
    },
    Overwrite {
        file: Index,
        time: When,
    },
    Append {
        file: Index,
        time: When,
    },
    Touch {
        entry: Index,
        time: When,
    },
    /// Another content with the same size and time.
    Corrupt {
        file: Index,
    },
    /// Another file with the same size and time takes its name.
    Replace {
        file: Index,
    },
    /// More content, and the time put back.
    Grow {
        file: Index,
    },
    /// Two files that differ in nothing but what they hold.
    Twins {
        dir: Index,
        names: [&'static [u8]; 2],
    },
    /// Two files change their names; twins if there are any.
    Swap {
        file: Index,
        other: Index,
    },
    Remove {
        entry: Index,
    },
    Rename {
        entry: Index,
        dir: Index,
        name: &'static [u8],
    },
    MakeDir {
        dir: Index,
        name: &'static [u8],
    },
    Chmod {
        entry: Index,
        mode: u32,
    },
    Link {
        dir: Index,
        name: &'static [u8],
        target: &'static [u8],
        time: When,
    },
    FileToDir {
        entry: Index,
        name: &'static [u8],
        time: When,
    },
    DirToFile {
        entry: Index,
        time: When,
    },
}

/// Which time an edit leaves.
#[derive(Debug, Clone, Copy)]
pub enum When {
    /// Later than all before.
    New,
    /// Long ago.
    Old,
    /// The same second for all, with these nanoseconds.
    Tie(u32),
}

/// One edit of one side, or the same edit of both.
#[derive(Debug, Clone)]
pub struct Step {
    pub sides: &'static [usize],
    pub edit: Edit,
    /// On the second side the same is written so many seconds later.
    pub later: i64,
}

pub fn any_step(with_corruption: bool) -> impl Strategy<Value = Step> {
    let sides: &[&'static [usize]] = &[&[0], &[0], &[0], &[1], &[1], &[1], &[0, 1]];
    let later = prop_oneof![2 => Just(0), 1 => Just(3)];
    let parts = (select(sides), any_edit(with_corruption), later);
    parts.prop_map(|(sides, edit, later)| Step { sides, edit, later })
}

fn any_edit(with_corruption: bool) -> impl Strategy<Value = Edit> {
    let index = any::<Index>;
    let written = || (index(), any_name(), any_time());
    let linked = (index(), any_name(), any_target(), any_time());
    prop_oneof![
        6 => written().prop_map(|(dir, name, time)| Edit::Write { dir, name, time }),
        3 => (index(), any_time()).prop_map(|(file, time)| Edit::Overwrite { file, time }),
        2 => (index(), any_time()).prop_map(|(file, time)| Edit::Append { file, time }),
        1 => (index(), any_time()).prop_map(|(entry, time)| Edit::Touch { entry, time }),
        1 => index().prop_map(move |file| {
            if with_corruption { Edit::Corrupt { file } } else { Edit::Remove { entry: file } }
        }),
        2 => index().prop_map(|file| Edit::Replace { file }),
        1 => index().prop_map(|file| Edit::Grow { file }),
        1 => (index(), any_name(), any_name())
            .prop_map(|(dir, one, two)| Edit::Twins { dir, names: [one, two] }),
        2 => (index(), index()).prop_map(|(file, other)| Edit::Swap { file, other }),
        3 => index().prop_map(|entry| Edit::Remove { entry }),
        4 => (index(), index(), any_name())
            .prop_map(|(entry, dir, name)| Edit::Rename { entry, dir, name }),
        2 => (index(), any_name()).prop_map(|(dir, name)| Edit::MakeDir { dir, name }),
        2 => (index(), any_mode()).prop_map(|(entry, mode)| Edit::Chmod { entry, mode }),
        1 => linked.prop_map(|(dir, name, target, time)| Edit::Link { dir, name, target, time }),
        1 => written().prop_map(|(entry, name, time)| Edit::FileToDir { entry, name, time }),
        1 => (index(), any_time()).prop_map(|(entry, time)| Edit::DirToFile { entry, time }),
    ]
}

fn any_name() -> impl Strategy<Value = &'static [u8]> {
    let plain: &[&'static [u8]] = &[b"a", b"b", b"c", b"d"];
    let hostile: &[&'static [u8]] = &[
        b"new\nline",
        b"-dash",
        b"--delete",
        b"q'uo\"te",
        b"back\\#012",
        b"\\",
        b"[br]",
        b"*",
        b"?x",
        b"a -> b",
        b"$(touch x)",
        b"`x`",
        b"inv\xff\xfe",
        b"#hash",
        b";semi",
        b" lead",
        b"trail ",
        b"tab\t",
        b"cr\r",
        b"\x01\x7f\x1b[0m",
        b"...",
        b"~",
        b"x~",
        b"- x",
        b"+ x",
        b"!",
        b"%n%s",
        b".a.Xy12Zz",
        &LONGEST,
        &LONG,
        b".a.4711",
        b"a.2024.01.02-03.04.05",
        b"backup",
        b"deleted",
        b"\xc3\xa9",
    ];
    prop_oneof![4 => select(plain), 3 => select(hostile)]
}

fn any_target() -> impl Strategy<Value = &'static [u8]> {
    let targets: &[&'static [u8]] =
        &[b"a", b"../b", b"/nowhere", b"d", b".", b"new\nline -> \xff", b"missing/x", b"anchor"];
    select(targets)
}

fn any_mode() -> impl Strategy<Value = u32> {
    select(&[0o700, 0o755, 0o711, 0o750, 0o640, 0o444][..])
}

fn any_time() -> impl Strategy<Value = When> {
    prop_oneof![
        4 => Just(When::New),
        3 => Just(When::Old),
        2 => select(&[0, 500, 900][..]).prop_map(When::Tie),
    ]
}

/// Counts the writes of a history.
#[derive(Debug, Default)]
pub struct Clock {
    writes: u32,
    /// What is written now is written so many seconds later.
    later: i64,
}

impl Clock {
    /// A content and a time, both unlike any other. Contents with a time that others have
    /// too have a length that no other has.
    fn next(&mut self, when: When) -> (Vec<u8>, Mtime) {
        self.writes += 1;
        let number = self.writes;
        let mut content = format!("{number:05}").into_bytes();
        let mut mtime = match when {
            When::New => Mtime { secs: 1_600_000_000 + i64::from(number), nanos: number * 7919 },
            When::Old => Mtime { secs: 1_000_000_000 + i64::from(number), nanos: 0 },
            When::Tie(nanos) => {
                content.resize(10 + number as usize, b'.');
                Mtime { secs: 1_550_000_000, nanos }
            }
        };
        mtime.secs += self.later;
        (content, mtime)
    }

    /// Carries out one step on both, one or the other replica.
    pub fn step(&mut self, roots: [&Path; 2], step: &Step) {
        let start = self.writes;
        for (turn, side) in step.sides.iter().enumerate() {
            self.later = if turn == 0 { 0 } else { step.later };
            // The same edit of both sides writes the same, unless the result depends on what
            // was there.
            if !matches!(step.edit, Edit::Append { .. } | Edit::Touch { .. }) {
                self.writes = start;
            }
            self.edit(roots[*side], &step.edit);
        }
        self.writes = self.writes.max(start + 1);
    }

    fn edit(&mut self, root: &Path, edit: &Edit) {
        let tree = trees::read(root);
        let entries: Vec<&[u8]> = tree.keys().map(Vec::as_slice).filter(|p| *p != ANCHOR).collect();
        // Nobody can rename or remove what something is mounted on, or move a file to another disk.
        let disk = |path: &Path| fs::symlink_metadata(path).unwrap().dev();
        let is_mounted = |p: &&[u8]| disk(&trees::at(root, p)) != disk(&trees::at(root, parent(p)));
        let mounted: Vec<&[u8]> = tree
            .keys()
            .map(Vec::as_slice)
            .filter(|p| tree[*p].what == What::Dir)
            .filter(is_mounted)
            .collect();
        let is_free = |p: &&[u8]| !mounted.iter().any(|at| is_within(at, p));
        let free = || entries.iter().copied().filter(is_free);
        let files = || entries.iter().copied().filter(|p| matches!(tree[*p].what, What::File(_)));
        let dirs = || entries.iter().copied().filter(|p| tree[*p].what == What::Dir);
        let pick = |index: &Index, from: Vec<&[u8]>| {
            (!from.is_empty()).then(|| trees::at(root, index.get::<&[u8]>(&from)))
        };
        let place = |dir: &Index, name: &[u8]| {
            let parents: Vec<&[u8]> = std::iter::once(&b""[..]).chain(dirs()).collect();
            trees::at(root, dir.get::<&[u8]>(&parents)).join(std::ffi::OsStr::from_bytes(name))
        };
        match edit {
            Edit::Write { dir, name, time } => {
                let path = place(dir, name);
                if !path.is_dir() || path.is_symlink() {
                    let _ = fs::remove_file(&path);
                    self.write(&path, *time);
                }
            }
            Edit::Overwrite { file, time } => {
                if let Some(path) = pick(file, files().collect()) {
                    self.write(&path, *time);
                }
            }
            Edit::Append { file, time } => {
                if let Some(path) = pick(file, files().collect()) {
                    let (more, mtime) = self.next(*time);
                    // Appended to a longer one it would lose its own length.
                    let old = fs::read(&path).unwrap();
                    let content = match time {
                        When::Tie(_) => more,
                        _ if old.len() < 2000 => [old, more].concat(),
                        _ => more,
                    };
                    fs::write(&path, content).unwrap();
                    trees::set_mtime(&path, mtime);
                }
            }
            Edit::Touch { entry, time } => {
                let (_, mtime) = self.next(*time);
                let leaves = entries.iter().copied().filter(|p| tree[*p].what != What::Dir);
                if let (Some(path), When::New | When::Old) = (pick(entry, leaves.collect()), time) {
                    trees::set_mtime(&path, mtime);
                }
            }
            Edit::Corrupt { file } => {
                if let Some(path) = pick(file, files().collect()) {
                    let node = trees::look(&path).unwrap();
                    let (content, _) = self.next(When::New);
                    let length = fs::metadata(&path).unwrap().len();
                    let mut changed = content.clone();
                    changed.resize(usize::try_from(length).unwrap(), b'!');
                    fs::write(&path, changed).unwrap();
                    trees::set_mtime(&path, node.mtime);
                }
            }
            Edit::Replace { file } => {
                if let Some(path) = pick(file, files().collect()) {
                    let node = trees::look(&path).unwrap();
                    let (mut content, _) = self.next(When::New);
                    content.resize(fs::read(&path).unwrap().len(), b'?');
                    let new = path.with_file_name(".new");
                    fs::write(&new, content).unwrap();
                    trees::set_mode(&new, node.mode);
                    trees::set_mtime(&new, node.mtime);
                    fs::rename(new, path).unwrap();
                }
            }
            Edit::Grow { file } => {
                if let Some(path) = pick(file, files().collect()) {
                    let node = trees::look(&path).unwrap();
                    let (more, _) = self.next(When::New);
                    fs::write(&path, [fs::read(&path).unwrap(), more].concat()).unwrap();
                    trees::set_mtime(&path, node.mtime);
                }
            }
            Edit::Twins { dir, names } => {
                let (content, mtime) = self.next(When::Old);
                for (name, which) in names.iter().zip(["one", "two"]) {
                    let path = place(dir, name);
                    if path.is_dir() && !path.is_symlink() {
                        continue;
                    }
                    let _ = fs::remove_file(&path);
                    fs::write(&path, [&content, which.as_bytes()].concat()).unwrap();
                    trees::set_mtime(&path, mtime);
                }
            }
            Edit::Swap { file, other } => {
                let Some(one) = pick(file, files().collect()) else { return };
                let node = trees::look(&one).unwrap();
                let length = |what: &What| match what {
                    What::File(content) => content.len(),
                    _ => 0,
                };
                let is_twin = |path: &&[u8]| {
                    let twin = &tree[*path];
                    twin.mtime == node.mtime
                        && twin.what != node.what
                        && length(&twin.what) == length(&node.what)
                };
                let twins: Vec<&[u8]> = files().filter(is_twin).collect();
                let others = if twins.is_empty() { files().collect() } else { twins };
                let two = pick(other, others);
                if let Some(two) = two.filter(|two| *two != one && disk(two) == disk(&one)) {
                    let aside = one.with_file_name(".aside");
                    for (from, to) in [(&one, &aside), (&two, &one), (&aside, &two)] {
                        fs::rename(from, to).unwrap();
                    }
                }
            }
            Edit::Remove { entry } => {
                if let Some(path) = pick(entry, free().collect()) {
                    remove(&path);
                }
            }
            Edit::Rename { entry, dir, name } => {
                let to = place(dir, name);
                if let Some(from) = pick(entry, free().collect())
                    && disk(&from) == disk(to.parent().unwrap())
                    && !to.starts_with(&from)
                    && !from.starts_with(&to)
                    && (!to.is_dir() || to.is_symlink())
                {
                    let _ = fs::remove_file(&to);
                    fs::rename(from, to).unwrap();
                }
            }
            Edit::MakeDir { dir, name } => drop(fs::create_dir(place(dir, name))),
            Edit::Chmod { entry, mode } => {
                let real = entries.iter().filter(|p| !matches!(tree[**p].what, What::Link(_)));
                if let Some(path) = pick(entry, real.copied().collect()) {
                    trees::set_mode(&path, *mode);
                }
            }
            Edit::Link { dir, name, target, time } => {
                let path = place(dir, name);
                if !path.is_dir() || path.is_symlink() {
                    let _ = fs::remove_file(&path);
                    symlink(std::ffi::OsStr::from_bytes(target), &path).unwrap();
                    let (_, mtime) = self.next(*time);
                    trees::set_mtime(&path, mtime);
                }
            }
            Edit::FileToDir { entry, name, time } => {
                let leaves = entries.iter().copied().filter(|p| tree[*p].what != What::Dir);
                if let Some(path) = pick(entry, leaves.collect()) {
                    remove(&path);
                    fs::create_dir(&path).unwrap();
                    self.write(&path.join(std::ffi::OsStr::from_bytes(name)), *time);
                }
            }
            Edit::DirToFile { entry, time } => {
                if let Some(path) = pick(entry, dirs().filter(is_free).collect()) {
                    remove(&path);
                    self.write(&path, *time);
                }
            }
        }
    }

    fn write(&mut self, path: &Path, when: When) {
        let (content, mtime) = self.next(when);
        fs::write(path, content).unwrap();
        trees::set_mtime(path, mtime);
    }
}

fn remove(path: &Path) {
    if path.is_dir() && !path.is_symlink() {
        fs::remove_dir_all(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

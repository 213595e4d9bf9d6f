//! File systems of our own, which only root can mount.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system; it is taken away again when dropped.
pub struct Mounted(PathBuf);

impl Mounted {
    /// A tmpfs with these options.
    pub fn tmpfs(at: &Path, options: &str) -> Option<Self> {
        Self::mount(at, &["-t", "tmpfs", "-o", options, "none"])
    }

    /// What is at one place also at another.
    pub fn bound(from: &Path, at: &Path) -> Option<Self> {
        Self::mount(at, &["--bind", from.to_str()?])
    }

    /// None, with the reason said, where that cannot be.
    fn mount(at: &Path, args: &[&str]) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can mount a file system");
            return None;
        }
        let done = Command::new("mount").args(args).arg(at).output().unwrap();
        if !done.status.success() {
            eprintln!("skipped: cannot mount: {}", String::from_utf8_lossy(&done.stderr));
            return None;
        }
        Some(Mounted(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// A replica's directory with a disk of its own, which can be taken away and come back
/// with all that is on it.
pub struct Disk {
    /// Where the disk can always be seen.
    pub inside: PathBuf,
    at: PathBuf,
    bound: Option<Mounted>,
    _disk: Option<Mounted>,
}

impl Disk {
    /// A new disk at a directory; `inside` is made for it.
    pub fn plug_in(inside: PathBuf, at: &Path) -> Option<Self> {
        std::fs::create_dir(&inside).unwrap();
        let disk = Mounted::tmpfs(&inside, "size=16m,mode=755")?;
        let bound = Some(Mounted::bound(&inside, at)?);
        Some(Disk { inside, at: at.to_owned(), bound, _disk: Some(disk) })
    }

    /// The same, but a part of the file system that `inside` lies on.
    pub fn part_of(inside: PathBuf, at: &Path) -> Option<Self> {
        std::fs::create_dir(&inside).unwrap();
        let bound = Some(Mounted::bound(&inside, at)?);
        Some(Disk { inside, at: at.to_owned(), bound, _disk: None })
    }

    /// The shell command that takes it away.
    pub fn pull_out(&self) -> String {
        format!("umount -l '{}'", self.at.display())
    }

    /// The shell command that makes it read-only; it fails while a file is being written.
    pub fn freeze(&self) -> String {
        format!("mount -o remount,ro '{}'", self.inside.display())
    }

    /// It can be written again.
    pub fn thaw(&self) {
        let mut remount = Command::new("mount");
        let done = remount.args(["-o", "remount,rw"]).arg(&self.inside).status().unwrap();
        assert!(done.success());
    }

    /// It is there again, whether it was away or not.
    pub fn put_back(&mut self) {
        self.bound = None;
        self.bound = Mounted::bound(&self.inside, &self.at);
        assert!(self.bound.is_some(), "it was mounted before");
    }
}

/// Disks of a replica that come and go: one at `disk`, and one on it, at `disk/inner`.
pub struct Nested {
    root: PathBuf,
    disks: [Option<(Disk, State)>; 2],
}

/// Whether a disk is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Mounted,
    Away,
}

impl Nested {
    /// Where the disks are.
    pub const AT: [&'static [u8]; 2] = [b"disk", b"disk/inner"];

    /// Those that are wanted; `plugged` is a directory for them.
    pub fn plug_in(root: &Path, plugged: &Path, wanted: [bool; 2]) -> Option<Self> {
        let mut nested = Nested { root: root.to_owned(), disks: [None, None] };
        for level in (0..2).filter(|level| wanted[*level]) {
            let at = nested.at(level);
            std::fs::create_dir_all(&at).unwrap();
            std::fs::create_dir_all(plugged).unwrap();
            let disk = Disk::plug_in(plugged.join(level.to_string()), &at)?;
            nested.disks[level] = Some((disk, State::Mounted));
        }
        Some(nested)
    }

    fn at(&self, level: usize) -> PathBuf {
        super::trees::at(&self.root, Self::AT[level])
    }

    /// Takes a disk away, with the one on it; or puts it back, where there is something to put it
    /// on.
    pub fn toggle(&mut self, level: usize) {
        let at = self.at(level);
        let is_bare = level == 1 && matches!(self.disks[0], Some((_, State::Away)));
        let Some((disk, state)) = &mut self.disks[level] else { return };
        match *state {
            State::Mounted => {
                let done = Command::new("sh").args(["-c", &disk.pull_out()]).status().unwrap();
                assert!(done.success());
                for (_, state) in self.disks[level..].iter_mut().flatten() {
                    *state = State::Away;
                }
            }
            State::Away => {
                let is_there = std::fs::create_dir_all(&at).is_ok()
                    && at.canonicalize().unwrap()
                        == self
                            .root
                            .canonicalize()
                            .unwrap()
                            .join(at.strip_prefix(&self.root).unwrap());
                if !is_bare && is_there {
                    disk.put_back();
                    *state = State::Mounted;
                }
            }
        }
    }

    /// Where a disk is now.
    pub fn mounted(&self) -> std::collections::BTreeSet<Vec<u8>> {
        let is_there = |level: &usize| matches!(self.disks[*level], Some((_, State::Mounted)));
        (0..2).filter(is_there).map(|level| Self::AT[level].to_vec()).collect()
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        // the inner one first
        self.disks.reverse();
    }
}

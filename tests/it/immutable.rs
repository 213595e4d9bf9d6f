//! What not even root may do: files that are immutable or append-only (`chattr +i`,
//! `+a`), a file size limit, a disk without inodes, a state directory that cannot be
//! written (spec 4, "Interruption"; spec 3). Each is an error that names the path, the rest
//! is done, nothing is lost, and it heals when the cause is gone.

use crate::support::bad_day::BadDay;
use crate::support::mounts::Mounted;
use crate::support::sandbox::Sandbox;
use crate::support::trees;
use rustix::fs::{IFlags, Mode, OFlags, ioctl_getflags, ioctl_setflags};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A file or directory that is immutable, or append-only, until this is dropped.
pub struct Fast(PathBuf, IFlags);

impl Fast {
    /// None where the file system, or this user, cannot do that.
    pub fn make(path: &Path, flag: IFlags) -> Option<Self> {
        match set(path, flag, true) {
            Ok(()) => Some(Fast(path.to_owned(), flag)),
            Err(why) => {
                eprintln!("skipped: {} cannot be made immutable: {why}", path.display());
                None
            }
        }
    }
}

impl Drop for Fast {
    fn drop(&mut self) {
        let _ = set(&self.0, self.1, false);
    }
}

fn set(path: &Path, flag: IFlags, on: bool) -> rustix::io::Result<()> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut flags = ioctl_getflags(&file)?;
    flags.set(flag, on);
    ioctl_setflags(&file, flags)
}

/// What is made fast, and a word of the message.
const PLACES: &[(&str, &str)] = &[
    ("b/edited-a", "edited-a"),
    ("a/edited-b", "edited-b"),
    ("a/fought", "fought"),
    ("b/gone-a", "gone-a"),
    ("a/gone-b", "gone-b"),
    ("b/dir/gone", "dir/gone"),
    ("b/dir", "dir"),
    ("a/moved", "elsewhere"),
    ("b/new", "new/a"),
    ("a/new", "new/b"),
    ("b", "b"),
    ("a/.osync_workdir", ".osync_workdir"),
    ("b/.osync_workdir", ".osync_workdir"),
    ("a/.osync_workdir/state", "state"),
    ("a/.osync_workdir/state/snapshot-quicksync_task", "snapshot"),
    ("b/.osync_workdir/deleted", "gone-a"),
    ("a/.osync_workdir/backup", "edited-b"),
];

fn play(day: &BadDay, place: &str, word: &str, flag: IFlags, what: &str) {
    let path = day.sandbox.path(place);
    let made_for_it = !path.exists();
    if made_for_it {
        fs::create_dir(&path).unwrap();
    }
    let context = format!("{place} is {what}");
    let Some(fast) = Fast::make(&path, flag) else { return };
    let run = day.run().run();
    day.check(&run, &context);
    let must_fail = flag == IFlags::IMMUTABLE;
    if must_fail {
        assert_eq!(run.status, Some(1), "{context}: {run}");
        assert!(run.stderr.contains("not permitted"), "{context}: {run}");
        assert!(run.stderr.contains(word), "{context}: {run}");
    }
    // again, with the cause still there
    let again = day.run().run();
    day.check(&again, &context);
    drop(fast);
    if made_for_it {
        // it was no part of the story
        let _ = fs::remove_dir(&path);
    }
    day.check_heals(&format!("{context}\n{run}{again}"));
}

#[test]
fn what_is_immutable_is_told_and_the_rest_is_done() {
    for (place, word) in PLACES {
        let day = BadDay::local();
        play(&day, place, word, IFlags::IMMUTABLE, "immutable");
    }
}

#[test]
fn what_may_only_grow_costs_nothing() {
    for (place, word) in PLACES.iter().step_by(2) {
        let day = BadDay::local();
        play(&day, place, word, IFlags::APPEND, "append-only");
    }
}

#[test]
fn what_is_immutable_over_there_is_told_and_the_rest_is_done() {
    let there = PLACES.iter().filter(|(place, _)| place.starts_with("b/"));
    for (place, word) in there.step_by(2) {
        let day = BadDay::over_ssh();
        play(&day, place, word, IFlags::IMMUTABLE, "immutable");
    }
}

/// As with a disk quota: no file may grow beyond a size.
#[test]
fn a_limit_for_the_size_of_files_loses_nothing() {
    let day = BadDay::local();
    let (a, b) = (&day.sandbox.a, &day.sandbox.b);
    a.write("large-a", vec![b'a'; 300_000], 1_600_000_000);
    b.write("large-b", vec![b'b'; 300_000], 1_600_000_000);
    let osync = crate::support::osync();
    // in blocks of 512 bytes: enough for what we write ourselves, or not even for that
    for blocks in [200, 2] {
        let limited = format!("ulimit -f {blocks}; exec '{osync}' \"$@\"");
        let run = day
            .sandbox
            .program("sh")
            .args(["-c", &limited, "osync"])
            .arg(format!("--initiator={}", a.root.display()))
            .arg(format!("--target={}", b.root.display()))
            .env("LOGFILE", "/dev/null")
            .run();
        let context = format!("{blocks} blocks");
        assert_eq!(run.status, Some(1), "{context}: {run}");
        day.check(&run, &context);
        assert!(run.stderr.contains("arge"), "File too large: {context}: {run}");
    }
    for name in ["large-a", "large-b"] {
        a.has(name).then(|| a.remove(name));
        b.has(name).then(|| b.remove(name));
    }
    day.check_heals("no limit any more");
}

#[test]
fn a_disk_without_inodes_is_told_and_nothing_is_lost() {
    for is_target in [true, false] {
        let sandbox = Sandbox::new();
        let root = if is_target { &sandbox.b.root } else { &sandbox.a.root };
        let Some(_disk) = Mounted::tmpfs(root, "size=8m,nr_inodes=60,mode=755") else { return };
        let filler = root.join(".osync_workdir/filler");
        let day = BadDay::within(sandbox);
        fs::create_dir(&filler).unwrap();
        let full = (0..100).any(|n| fs::write(filler.join(n.to_string()), "").is_err());
        assert!(full, "there is no inode left");
        let run = day.run().run();
        let context = format!("target: {is_target}");
        day.check(&run, &context);
        assert_eq!(run.status, Some(1), "{context}: {run}");
        assert!(run.stderr.to_lowercase().contains("no space left"), "{context}: {run}");
        fs::remove_dir_all(&filler).unwrap();
        day.check_heals(&format!("{context}\n{run}"));
    }
}

/// The state directory lies elsewhere, and cannot be written, or is full.
#[test]
fn a_state_directory_that_cannot_be_written_is_told_and_nothing_is_lost() {
    let day = BadDay::local();
    let elsewhere = day.sandbox.path("state");
    fs::create_dir(&elsewhere).unwrap();
    // the past is not known there, which else would stop the run before it writes
    let run = || day.run().env("INITIATOR_CUSTOM_STATE_DIR", &elsewhere).arg("--initialize");
    let Some(disk) = Mounted::tmpfs(&elsewhere, "size=64k,mode=755") else { return };
    fs::write(elsewhere.join("filler"), vec![0; 1 << 20]).unwrap_err();
    let full = run().run();
    day.check(&full, "full");
    assert_eq!(full.status, Some(1), "{full}");
    assert!(full.stderr.contains("No space left"), "{full}");
    fs::remove_file(elsewhere.join("filler")).unwrap();
    drop(disk);
    if let Some(_fast) = Fast::make(&elsewhere, IFlags::IMMUTABLE) {
        let closed = run().run();
        day.check(&closed, "immutable");
        assert_eq!(closed.status, Some(1), "{closed}");
        assert!(closed.stderr.contains("not permitted"), "{closed}");
        assert!(closed.stderr.contains(elsewhere.to_str().unwrap()), "{closed}");
    }
    fs::remove_dir(&elsewhere).unwrap();
    fs::write(&elsewhere, "no directory").unwrap();
    let absurd = run().run();
    day.check(&absurd, "a file");
    assert_eq!(absurd.status, Some(1), "{absurd}");
    // with the state where it was, the past is known again
    day.check_heals("the state is where it was");
}

/// An ordinary user who may not write, or not even read, here and there.
#[test]
fn what_an_ordinary_user_may_not_do_is_told_and_nothing_is_lost() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    for (place, mode) in [
        ("b", 0o555),
        ("a/new", 0o555),
        ("b/new", 0o000),
        ("b/dir", 0o555),
        ("b/dir", 0o000),
        ("a/edited-a", 0o000),
        ("b/edited-b", 0o000),
        ("a/.osync_workdir", 0o555),
        ("a/.osync_workdir/state", 0o555),
        ("a/.osync_workdir/state", 0o000),
        ("a/.osync_workdir/state/snapshot-quicksync_task", 0o000),
        ("b/.osync_workdir/identity", 0o000),
    ] {
        let day = BadDay::local();
        give_to(&day.sandbox, 65534);
        let path = day.sandbox.path(place);
        let before = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        // whoever owns a thing can open it; this is somebody else's
        std::os::unix::fs::chown(&path, Some(0), Some(0)).unwrap();
        let context = format!("{place} has mode {mode:o}");
        let run = day.run().user(65534).run();
        day.check(&run, &context);
        assert_eq!(run.status, Some(1), "{context}: {run}");
        let told = ["ermission denied", "permission"].iter().any(|word| run.stderr.contains(word));
        assert!(told, "{context}: {run}");
        fs::set_permissions(&path, before).unwrap();
        // root's own run takes no state from another user
        give_to(&day.sandbox, 0);
        day.check_heals(&format!("{context}\n{run}"));
    }
}

/// Everything belongs to a user, who may get at it.
fn give_to(sandbox: &Sandbox, user: u32) {
    trees::set_mode(sandbox.root(), 0o755);
    let mut open = vec![sandbox.root().to_owned()];
    while let Some(path) = open.pop() {
        std::os::unix::fs::lchown(&path, Some(user), Some(user)).unwrap();
        if path.symlink_metadata().unwrap().is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
}

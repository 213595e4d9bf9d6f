//! Real directories, really watched.

use super::*;
use crate::config::RuleText;
use crate::replica::local::tests::mounts::{mount, with_own_mounts};
use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

struct Place {
    temp: tempfile::TempDir,
    inbox: Arc<Inbox>,
    eyes: Eyes,
    /// How often it was waited until something had been seen.
    waits: usize,
}

impl Place {
    /// A replica with a few directories, watched, with `skip/` and `*.tmp` excluded.
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        for dir in ["a/b", "skip/deep", ".osync_workdir/state"] {
            fs::create_dir_all(temp.path().join(dir)).unwrap();
        }
        let rule = |pattern: &str| RuleText {
            include: false,
            from_file: false,
            pattern: pattern.as_bytes().to_vec(),
        };
        let filter = Filter::new(&[rule("skip/"), rule("*.tmp")]);
        let inbox = Arc::new(Inbox::default());
        let roots = vec![(Side::Initiator, temp.path().to_path_buf())];
        let mut eyes = Eyes::new(roots, filter, Arc::clone(&inbox));
        assert_eq!(eyes.refresh(), Ok(Presence::Watched(3)), "the root, a and a/b");
        assert_eq!(eyes.refresh(), Ok(Presence::Same));
        Place { temp, inbox, eyes, waits: 0 }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.temp.path().join(path)
    }

    /// Waits until these paths have been seen; returns all that were, `end` being the last.
    fn seen_until(&mut self, end: &str) -> BTreeSet<String> {
        let begun = Instant::now();
        let mut seen = BTreeSet::new();
        fs::write(self.at(end), "").unwrap();
        while !seen.contains(end) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{end} not seen, but {seen:?}");
            self.inbox.wait(Duration::from_secs(1));
            let mut found = Vec::new();
            self.eyes.sift(self.inbox.take(), &mut found).unwrap();
            seen.extend(found.iter().map(|sighting| sighting.path.shown()));
        }
        seen
    }

    fn assert_seen(&mut self, expected: &[&str]) {
        // a new name each time: of one file there may be several events
        self.waits += 1;
        let end = format!("end{}", self.waits);
        let mut seen = self.seen_until(&end);
        seen.retain(|path| !path.starts_with("end"));
        // directories that something happened in may or may not be reported with it
        seen.retain(|path| expected.contains(&path.as_str()) || !self.at(path).is_dir());
        let expected: BTreeSet<String> = expected.iter().map(|&path| path.to_owned()).collect();
        assert_eq!(seen, expected);
    }
}

#[test]
fn changes_are_seen_where_they_matter() {
    let mut place = Place::new();
    fs::write(place.at("a/b/file"), "x").unwrap();
    fs::write(place.at("a/b/file.tmp"), "x").unwrap();
    fs::write(place.at("skip/file"), "x").unwrap();
    fs::write(place.at("skip/deep/file"), "x").unwrap();
    fs::write(place.at(".osync_workdir/lock"), "x").unwrap();
    fs::write(place.at(".osync_workdir/state/x"), "x").unwrap();
    fs::write(place.at(".osync-update.push"), "x").unwrap();
    place.assert_seen(&["a/b/file", ".osync-update.push"]);
}

#[test]
fn reading_is_not_seen() {
    let mut place = Place::new();
    fs::write(place.at("a/file"), "x").unwrap();
    place.assert_seen(&["a/file"]);
    let _ = fs::read(place.at("a/file")).unwrap();
    let _ = fs::read_dir(place.at("a/b")).unwrap().count();
    place.assert_seen(&[]);
}

#[test]
fn new_directories_are_watched_and_what_is_in_them_already_is_seen() {
    let mut place = Place::new();
    fs::create_dir_all(place.at("new/deep/deeper")).unwrap();
    fs::write(place.at("new/deep/deeper/early"), "x").unwrap();
    place.assert_seen(&["new", "new/deep", "new/deep/deeper", "new/deep/deeper/early"]);
    fs::write(place.at("new/deep/deeper/late"), "x").unwrap();
    place.assert_seen(&["new/deep/deeper/late"]);
}

#[test]
fn a_directory_that_was_moved_is_seen_at_both_places_and_watched_at_the_new_one() {
    let mut place = Place::new();
    fs::rename(place.at("a"), place.at("moved")).unwrap();
    place.assert_seen(&["a", "moved", "moved/b"]);
    fs::write(place.at("moved/b/file"), "x").unwrap();
    place.assert_seen(&["moved/b/file"]);
}

#[test]
fn deletions_are_seen() {
    let mut place = Place::new();
    fs::write(place.at("a/b/file"), "x").unwrap();
    place.assert_seen(&["a/b/file"]);
    fs::remove_dir_all(place.at("a/b")).unwrap();
    place.assert_seen(&["a/b/file", "a/b"]);
}

#[test]
fn a_root_that_goes_and_comes_back_is_noticed_and_watched_again() {
    let mut place = Place::new();
    let (here, away) = (place.at("a"), place.at("b"));
    let roots = vec![(Side::Target, here.clone())];
    let mut eyes = Eyes::new(roots, Filter::default(), Arc::clone(&place.inbox));
    assert_eq!(eyes.refresh(), Ok(Presence::Watched(2)));
    fs::rename(&here, &away).unwrap();
    assert_eq!(eyes.refresh(), Ok(Presence::Gone(Side::Target)));
    fs::create_dir(&here).unwrap();
    assert_eq!(eyes.refresh(), Ok(Presence::Watched(1)), "another directory of that name");
    fs::remove_dir(&here).unwrap();
    fs::rename(&away, &here).unwrap();
    assert_eq!(eyes.refresh(), Ok(Presence::Watched(2)));
    fs::write(here.join("b/file"), "x").unwrap();
    place.eyes = eyes;
    place.temp.disable_cleanup(false);
    let begun = Instant::now();
    let mut found = Vec::new();
    while !found.iter().any(|seen: &Sighting| seen.path.as_bytes() == b"b/file") {
        assert!(begun.elapsed() < Duration::from_secs(60), "{found:?}");
        place.inbox.wait(Duration::from_secs(1));
        place.eyes.sift(place.inbox.take(), &mut found).unwrap();
    }
}

/// Its watches went with it, and device and inode are the same again.
#[test]
fn a_disk_that_is_unmounted_and_mounted_between_two_looks_is_watched_anew() {
    let name = "monitor::watcher::tests::\
                a_disk_that_is_unmounted_and_mounted_between_two_looks_is_watched_anew";
    with_own_mounts(name, || {
        let temp = tempfile::tempdir().unwrap();
        mount(temp.path(), "1m");
        let inbox = Arc::new(Inbox::default());
        let roots = vec![(Side::Target, temp.path().to_path_buf())];
        let mut eyes = Eyes::new(roots, Filter::new(&[]), Arc::clone(&inbox));
        assert_eq!(eyes.refresh(), Ok(Presence::Watched(1)));
        assert_eq!(eyes.refresh(), Ok(Presence::Same));
        umount(temp.path());
        mount(temp.path(), "1m");
        assert_eq!(eyes.refresh(), Ok(Presence::Watched(1)));
        fs::write(temp.path().join("file"), "x").unwrap();
        inbox.wait(Duration::from_secs(60));
        assert!(inbox.take().paths.contains_key(&temp.path().join("file")));
        umount(temp.path());
    });
}

fn umount(at: &Path) {
    let mut umount = std::process::Command::new("umount");
    assert!(umount.arg(at).status().unwrap().success());
}

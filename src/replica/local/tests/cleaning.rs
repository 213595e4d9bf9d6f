use super::*;
use crate::replica::kept_versions::{Arrival, Arrivals, Line, added, dated};
use crate::replica::local::work_dir::{Durable, WorkDir};
use std::os::unix::fs::MetadataExt;

const DAY: i64 = 86_400;

fn clean_at(sandbox: &Sandbox, days: u32, now: i64) -> Cleaned {
    let root = openat_root::Root::open(sandbox.dir.path()).unwrap();
    let work = WorkDir::open(&root, TooOpen::Close).unwrap();
    versions::clean(&work, Retention { backup_days: days, deleted_days: days }, now).unwrap()
}

fn now() -> i64 {
    lock_policy::now()
}

#[test]
fn whole_days_count_as_find_counts_them() {
    let mut sandbox = Sandbox::new();
    sandbox.write("d/f", "12345");
    sandbox.set_aside("d/f", Keep::Deleted).unwrap();
    let came = sandbox.kept("deleted/d/f");
    let came = came.metadata().unwrap().ctime();
    for (later, days, stays) in [
        (0, 1, true),
        (2 * DAY - 1, 1, true),
        (365 * DAY, 0, true),
        (-5 * DAY, 1, true),
        (2 * DAY, 1, false),
    ] {
        let cleaned = clean_at(&sandbox, days, came + later);
        assert_eq!(sandbox.kept("deleted/d/f").exists(), stays, "{later} {days}");
        assert_eq!(cleaned.bytes, if stays { 0 } else { 5 });
    }
    assert!(sandbox.kept_names("deleted").is_empty(), "empty directories go");
}

fn work(sandbox: &Sandbox) -> WorkDir {
    WorkDir::open(&openat_root::Root::open(sandbox.dir.path()).unwrap(), TooOpen::Close).unwrap()
}

fn record(sandbox: &Sandbox, keep: Keep) -> Arrivals {
    Arrivals::read(&work(sandbox).read(keep.record_name()).unwrap().unwrap_or_default())
}

fn note(sandbox: &Sandbox, keep: Keep, kept: &str, at: i64) {
    let line = Line::now(rel(kept), Version::Ordinary, at);
    work(sandbox).append(keep.record_name(), &added(&[line]), Durable::Now).unwrap();
}

#[test]
fn a_directory_that_came_whole_ages_from_its_coming() {
    for from_older in [false, true] {
        let mut sandbox = Sandbox::new();
        sandbox.write("d/e/f", "x");
        sandbox.set_aside("d", Keep::Deleted).unwrap();
        // As if its content had been there for long: the record is what is younger.
        let later = now() + 100 * DAY;
        if from_older {
            std::fs::remove_file(sandbox.kept("deleted.arrivals")).unwrap();
            let text = format!("{later} deleted/d\0");
            work(&sandbox).append("arrivals", text.as_bytes(), Durable::Now).unwrap();
        } else {
            note(&sandbox, Keep::Deleted, "d", later);
        }
        assert_eq!(clean_at(&sandbox, 30, later + 30 * DAY).entries, 0);
        assert!(sandbox.kept("deleted/d/e/f").exists() && !sandbox.kept("arrivals").exists());
        assert_eq!(record(&sandbox, Keep::Deleted).get(&rel("d")).unwrap().at, later);
        assert_eq!(clean_at(&sandbox, 30, later + 31 * DAY).entries, 1);
        assert!(!sandbox.kept("deleted/d").exists());
        assert!(!sandbox.kept("deleted.arrivals").exists(), "what is gone is forgotten");
    }
}

#[test]
fn a_version_that_makes_room_for_another_of_its_name_gets_no_younger() {
    let mut sandbox = Sandbox::new();
    for content in ["d/f", "f"] {
        sandbox.write(content, "one");
    }
    sandbox.set_aside("d", Keep::Deleted).unwrap();
    sandbox.set_aside("f", Keep::Deleted).unwrap();
    // The directory came then; of the file nothing is known but that.
    let then = now() - 20 * DAY;
    for name in ["d", "f"] {
        note(&sandbox, Keep::Deleted, name, then);
    }
    sandbox.replica.records = Mutex::default();
    for content in ["d/f", "f"] {
        sandbox.write(content, "two");
    }
    sandbox.set_aside("d", Keep::Deleted).unwrap();
    sandbox.set_aside("f", Keep::Deleted).unwrap();
    let names = sandbox.kept_names("deleted");
    assert_eq!(names.len(), 4, "{names:?}");
    for name in names.into_iter().filter(|name| name.len() > 1) {
        let noted = record(&sandbox, Keep::Deleted).get(&rel(&name)).unwrap();
        // the date in the name is that of its arrival, and so is its age
        assert!(noted.is_renamed);
        assert!(name.ends_with(dated(noted.at).as_bytes()), "{name:?} {noted:?}");
    }
}

#[test]
fn a_set_aside_version_is_as_old_as_it_was() {
    let mut sandbox = Sandbox::new();
    sandbox.write("f", "one");
    sandbox.set_aside("f", Keep::Backup).unwrap();
    let renamed = Arrival { at: now() - 40 * DAY, version: Version::Protected, is_renamed: true };
    std::fs::rename(sandbox.kept("backup/f"), sandbox.kept("backup/f.then")).unwrap();
    let line = Line { kept: rel("f.then"), arrival: renamed };
    work(&sandbox).append("backup.arrivals", &added(&[line]), Durable::Now).unwrap();
    assert_eq!(clean_at(&sandbox, 40, now()).entries, 0);
    assert_eq!(clean_at(&sandbox, 39, now()).entries, 1, "its ctime is that of the rename");
}

#[test]
fn where_the_ctime_is_the_mtime_the_record_alone_counts() {
    let mut sandbox = Sandbox::new();
    sandbox.write("f", "x");
    sandbox.set_aside("f", Keep::Backup).unwrap();
    // A file of this name whose two times are one.
    let kept = sandbox.kept("backup/f");
    let came = (0..100).find_map(|_| {
        std::fs::remove_file(&kept).unwrap();
        std::fs::write(&kept, "x").unwrap();
        let seen = kept.metadata().unwrap();
        let (mtime, ctime) = (seen.mtime_nsec(), seen.ctime_nsec());
        (mtime == ctime).then(|| seen.ctime())
    });
    let came = came.expect("a file that was written at once");
    let later = came + 100 * DAY;
    std::fs::remove_file(sandbox.kept("backup.arrivals")).unwrap();
    assert_eq!(clean_at(&sandbox, 30, later).entries, 0, "nothing tells when it came");
    assert_eq!(record(&sandbox, Keep::Backup).get(&rel("f")).unwrap().at, later);
    assert_eq!(clean_at(&sandbox, 30, later + 30 * DAY).entries, 0);
    assert_eq!(clean_at(&sandbox, 30, later + 31 * DAY).entries, 1);
}

#[test]
fn the_loser_of_a_conflict_is_replaced_by_nothing() {
    let mut sandbox = Sandbox::new();
    let keep = |sandbox: &mut Sandbox, content: &str, version| {
        sandbox.write("f", content);
        let expect = sandbox.entry("f");
        let keeping = Keeping { version, ..Keeping::replacing(Keep::Backup) };
        sandbox.apply_and_tell(Op::SetAside { path: rel("f"), expect, keeping }).unwrap()
    };
    let older = |done| match done {
        OpResult::Kept(KeptAt { older, .. }) => older,
        OpResult::Plainly => panic!("it is kept"),
    };
    assert_eq!(older(keep(&mut sandbox, "overwritten", Version::Ordinary)), None);
    assert_eq!(older(keep(&mut sandbox, "lost", Version::Protected)), None);
    assert_eq!(sandbox.kept_names("backup"), [b"f"], "it lies where scripts look for it");
    // another run
    sandbox.replica.records = Mutex::default();
    let moved = older(keep(&mut sandbox, "later", Version::Ordinary)).unwrap();
    assert!(moved.as_bytes().starts_with(b"f."));
    let read = |name: &[u8]| std::fs::read(sandbox.kept([b"backup/", name].concat())).unwrap();
    assert_eq!((read(moved.as_bytes()), read(b"f")), (b"lost".to_vec(), b"later".to_vec()));
    assert_eq!(older(keep(&mut sandbox, "last", Version::Ordinary)), None);
    assert_eq!(sandbox.kept_names("backup").len(), 2, "ordinary ones replace each other");
    let noted = record(&sandbox, Keep::Backup).get(&moved).unwrap();
    assert_eq!((noted.version, noted.is_renamed), (Version::Protected, true));
}

#[test]
fn a_hundred_thousand_arrivals_are_one_line_each_and_few_writes() {
    let mut sandbox = Sandbox::new();
    let ops: Vec<Op> = (0..1000)
        .map(|n| {
            let name = format!("f{n}");
            sandbox.write(&name, "");
            let keeping = Keeping::dated(Keep::Deleted);
            Op::SetAside { path: rel(&name), expect: sandbox.entry(&name), keeping }
        })
        .collect();
    assert!(sandbox.replica.apply(&ops).unwrap().into_iter().all(|done| done.is_ok()));
    let text = std::fs::read(sandbox.kept("deleted.arrivals")).unwrap();
    assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 1001);
    assert!(text.len() < 20_000);
}

#[test]
fn cleaning_ends_at_links_and_at_the_two_directories() {
    let mut sandbox = Sandbox::new();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("f"), "not ours").unwrap();
    std::os::unix::fs::symlink(outside.path(), sandbox.path("link")).unwrap();
    sandbox.write(".osync_workdir/state/s", "state");
    sandbox.write("alive", "x");
    sandbox.set_aside("link", Keep::Deleted).unwrap();
    assert_eq!(
        clean_at(&sandbox, 1, now() + 100 * DAY),
        Cleaned { entries: 1, bytes: 0, kept: Some(0) }
    );
    assert!(outside.path().join("f").exists());
    assert!(sandbox.kept("state/s").exists() && sandbox.path("alive").exists());
    // A link in place of the directory itself is an error, and nothing else.
    std::fs::remove_dir(sandbox.kept("deleted")).unwrap();
    std::os::unix::fs::symlink(outside.path(), sandbox.kept("deleted")).unwrap();
    let days = Retention { backup_days: 1, deleted_days: 1 };
    assert!(sandbox.replica.clean(days).is_err());
    assert!(outside.path().join("f").exists());
}

#[test]
fn closed_directories_and_hostile_names_are_cleaned_too() {
    let mut sandbox = Sandbox::new();
    for name in HOSTILE {
        let inner = [name, b"/", name].concat();
        sandbox.write(&inner, "x");
        let closed = std::os::unix::fs::PermissionsExt::from_mode(0o555);
        std::fs::set_permissions(sandbox.path(name), closed).unwrap();
        sandbox.set_aside(name, Keep::Deleted).unwrap();
    }
    let cleaned = clean_at(&sandbox, 1, now() + 3 * DAY);
    assert_eq!(cleaned.entries, HOSTILE.len() as u64);
    assert_eq!(sandbox.kept_names("deleted").len(), 0);
}

#[test]
fn a_replica_that_kept_nothing_has_nothing_to_clean() {
    let mut sandbox = Sandbox::new();
    let days = Retention { backup_days: 1, deleted_days: 1 };
    let nothing = Cleaned { kept: Some(0), ..Cleaned::default() };
    assert_eq!(sandbox.replica.clean(days).unwrap(), nothing);
    assert!(!sandbox.kept("").exists());
}

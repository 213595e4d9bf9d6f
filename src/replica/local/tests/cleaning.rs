use super::*;
use crate::replica::local::work_dir::WorkDir;

const DAY: i64 = 86_400;

fn clean_at(sandbox: &Sandbox, days: u32, now: i64) -> Cleaned {
    let root = openat_root::Root::open(sandbox.dir.path()).unwrap();
    let work = WorkDir::open(&root).unwrap();
    retention::clean(&work, Retention { backup_days: days, deleted_days: days }, now).unwrap()
}

fn now() -> i64 {
    host::now()
}

#[test]
fn whole_days_count_as_find_counts_them() {
    let mut sandbox = Sandbox::new();
    sandbox.write("d/f", "12345");
    sandbox.set_aside("d/f", Keep::Deleted).unwrap();
    let came = sandbox.kept("deleted/d/f");
    let came = std::os::unix::fs::MetadataExt::ctime(&came.metadata().unwrap());
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

#[test]
fn a_directory_that_came_whole_ages_from_its_coming() {
    let mut sandbox = Sandbox::new();
    sandbox.write("d/e/f", "x");
    sandbox.set_aside("d", Keep::Deleted).unwrap();
    // As if its content had been there for long: the record is what is younger.
    let root = openat_root::Root::open(sandbox.dir.path()).unwrap();
    let work = WorkDir::open(&root).unwrap();
    let later = now() + 100 * DAY;
    arrivals::note(&work, [(Keep::Deleted, &rel("d"))].into_iter(), later).unwrap();
    assert_eq!(clean_at(&sandbox, 30, later + 30 * DAY).entries, 0);
    assert!(sandbox.kept("deleted/d/e/f").exists());
    assert_eq!(clean_at(&sandbox, 30, later + 31 * DAY).entries, 1);
    assert!(!sandbox.kept("deleted/d").exists());
    assert!(!sandbox.kept("arrivals").exists(), "what is gone is forgotten");
}

#[test]
fn a_directory_that_makes_room_for_another_of_its_name_stays_as_long() {
    let mut sandbox = Sandbox::new();
    for round in ["one", "two"] {
        sandbox.write("d/f", round);
        sandbox.set_aside("d", Keep::Deleted).unwrap();
    }
    let names = sandbox.kept_names("deleted");
    assert_eq!(names.len(), 2, "{names:?}");
    let root = openat_root::Root::open(sandbox.dir.path()).unwrap();
    let work = WorkDir::open(&root).unwrap();
    let noted: Vec<_> = arrivals::Arrivals::load(&work).unwrap().of(Keep::Deleted).collect();
    assert_eq!(noted.len(), 2);
    for (path, at) in noted {
        assert!(names.contains(&path.as_bytes().to_vec()), "{path}");
        assert!((now() - at).abs() < 1000);
    }
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
    assert_eq!(clean_at(&sandbox, 1, now() + 100 * DAY), Cleaned { entries: 1, bytes: 0 });
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
    assert_eq!(sandbox.replica.clean(days).unwrap(), Cleaned::default());
    assert!(!sandbox.kept("").exists());
}

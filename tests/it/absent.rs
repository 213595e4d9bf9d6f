//! What counts as deleted (spec 8, "Absent").

use crate::support::mounts::{Disk, Mounted};
use crate::support::over_ssh::until;
use crate::support::sandbox::Sandbox;
use crate::support::trees;
use crate::support::ways::{Way, each};
use std::fs;
use std::os::unix::fs::symlink;

#[test]
fn the_work_directory_of_a_task_inside_the_replica_stays_where_it_is() {
    each("", |way| {
        let (here, there) = (way.here(), way.there());
        here.make("f job/f 1\nf job/.osync_workdir/identity abc\nf job/.osync_workdir/state/s 1");
        here.make("f job/.osync-update.push 1");
        there.make("f other 1");
        way.fine();
        assert!(there.has("job/f") && there.has("job/.osync-update.push"), "{}", way.name);
        assert!(!there.has("job/.osync_workdir"), "{}", way.name);
        // known to both, and changed: neither brought over nor deleted
        there.make("f job/.osync_workdir/identity other");
        here.write("job/.osync_workdir/identity", "changed", 1_700_000_000);
        here.write("job/f", "22", 1_700_000_000);
        way.fine();
        assert_eq!(there.read("job/.osync_workdir/identity").unwrap(), b"other", "{}", way.name);
        // the directory is deleted, but not what another task keeps there
        here.remove("job");
        way.fine();
        assert!(!there.has("job/f"), "{}", way.name);
        assert!(there.has("job/.osync_workdir/identity"), "{}", way.name);
        way.idle();
        assert!(!here.has("job"), "{}", way.name);
    });
}

/// Steps of the run between which a path of another kind makes way and its successor comes.
const MAKING_WAY: &[&str] = &[
    "before a batch",
    "setting aside",
    "an operation is done",
    "after a batch",
    "in flight",
    "rsync named an item",
    "delivered",
    "applied",
    "baseline saved",
];

#[test]
fn a_run_killed_while_a_directory_makes_way_deletes_nothing_of_what_won() {
    if !cfg!(debug_assertions) {
        return println!("skipped: a release build has no fault points");
    }
    each("SOFT_DELETE=no\nCONFLICT_BACKUP=no", |way| {
        let (here, there) = (way.here(), way.there());
        let assert_whole = |dir: &str, context: &str| {
            for side in [here, there] {
                for (name, content) in [("k1", "1"), ("k2", "2"), ("deep/k3", "3"), ("e", "edited")]
                {
                    let found = side.read(format!("{dir}/{name}"));
                    let context = format!("{} {dir}/{name}: {context}", way.name);
                    assert_eq!(found.as_deref(), Some(content.as_bytes()), "{context}");
                }
            }
        };
        for number in 0..MAKING_WAY.len() {
            let dir = format!("d{number}");
            here.make(&format!("f {dir}/k1 1\nf {dir}/k2 2\nf {dir}/deep/k3 3\nf {dir}/e old"));
        }
        way.fine();
        for (number, step) in MAKING_WAY.iter().enumerate() {
            let dir = format!("d{number}");
            here.write(format!("{dir}/e"), "edited", 1_700_000_000);
            there.remove(&dir);
            there.write(&dir, "a file", 1_700_000_000);
            let prevails = way.here_is();
            let killed = way
                .prepare(&[])
                .env("CONFLICT_PREVALANCE", prevails)
                .env("OSYNC_FAULT", format!("{step}:1"))
                .run();
            // what is done behind ssh has no fault points
            let is_met = killed.status.is_none() || (way.is_remote() && number < 4);
            assert!(is_met, "{} {step}: {killed}", way.name);
            let run = way.prepare(&[]).env("CONFLICT_PREVALANCE", prevails).run();
            assert_eq!(run.status, Some(0), "{} {step}: {run}", way.name);
            assert_whole(&dir, &format!("{step}: {killed}{run}"));
        }
        // nor does any later run delete it
        way.fine();
        for number in 0..MAKING_WAY.len() {
            assert_whole(&format!("d{number}"), "at the end");
        }
    });
}

#[test]
fn what_cannot_be_noted_before_is_not_begun() {
    if !cfg!(debug_assertions) {
        return println!("skipped: a release build has no fault points");
    }
    let sandbox = Sandbox::new();
    sandbox.a.make("f f 1\nf d/moved 2\nf kind 3");
    assert_eq!(sandbox.quick().run().status, Some(0));
    sandbox.a.write("f", "edited", 1_700_000_000);
    sandbox.a.rename("d/moved", "moved");
    sandbox.a.remove("kind");
    sandbox.a.make("f kind/below 4");
    sandbox.b.make("f new 5");
    let before = [sandbox.a.details(), sandbox.b.details()];
    let note = sandbox.a.at(".osync_workdir/state/inflight-quicksync_task");
    let fault = format!("planned:1:mkdir '{}'", note.display());
    let run = sandbox.quick().env("OSYNC_FAULT", fault).run();
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stderr.contains("nothing was carried out"), "{run}");
    assert_eq!([sandbox.a.details(), sandbox.b.details()], before, "{run}");
    fs::remove_dir(note).unwrap();
    let next = sandbox.quick().run();
    assert_eq!(next.status, Some(0), "{next}");
    assert_eq!(sandbox.a.contents(), sandbox.b.contents(), "{next}");
    assert_eq!(sandbox.b.read("f").unwrap(), b"edited", "{next}");
}

/// Takes a disk away, and says so if that fails.
fn pull_out(disk: &Disk) {
    let done = std::process::Command::new("sh").args(["-c", &disk.pull_out()]).status().unwrap();
    assert!(done.success());
}

#[test]
fn a_disk_below_the_root_that_is_not_mounted_deletes_nothing() {
    each("SOFT_DELETE=no", |way| {
        let (here, there) = (way.here(), way.there());
        here.make("f f 1\nd disk");
        let Some(mut disk) = Disk::plug_in(way.sandbox.path("plugged"), &here.at("disk")) else {
            return;
        };
        here.make("f disk/one 1\nf disk/sub/two 2");
        way.fine();
        assert!(there.has("disk/sub/two"), "{}", way.name);
        way.idle();
        pull_out(&disk);
        here.write("f", "22", 1_700_000_000);
        there.write("disk/one", "edited", 1_700_000_000);
        for _ in 0..2 {
            let run = way.run();
            assert_eq!(run.status, Some(1), "{}: {run}", way.name);
            assert!(run.stderr.contains("not mounted"), "{}: {run}", way.name);
            assert!(run.stderr.contains(way.here_is()), "{}: {run}", way.name);
            assert_eq!(there.read("f").unwrap(), b"22", "{}: the rest is done", way.name);
            assert!(there.has("disk/sub/two"), "{}: {run}", way.name);
            assert!(!here.has("disk/one"), "{}: {run}", way.name);
        }
        // it is there again, and nothing was forgotten
        disk.put_back();
        way.fine();
        assert_eq!(here.read("disk/one").unwrap(), b"edited", "{}", way.name);
        here.remove("disk/sub/two");
        way.fine();
        assert!(!there.has("disk/sub/two"), "{}: a deletion counts", way.name);
        // taken as it is
        pull_out(&disk);
        let run = way.run_with(&["--force-delete"]);
        assert_eq!(run.status, Some(0), "{}: {run}", way.name);
        assert!(!there.has("disk/one"), "{}: {run}", way.name);
        way.idle();
    });
}

/// Links that count as what they point at lead to disks as well: to one, into one, to a directory
/// that holds one; and a disk is where it always was.
#[test]
fn a_missing_disk_deletes_nothing_where_links_are_followed() {
    for links in ["COPY_SYMLINKS=yes", "KEEP_DIRLINKS=yes"] {
        each(&format!("SOFT_DELETE=no\n{links}"), |way| {
            // find and stat tell nothing of a part of the same file system
            let sort = if way.is_remote() { Plug::OwnFileSystem } else { Plug::SameFileSystem };
            lose_disks_behind_links(way, sort, links);
        });
    }
}

/// What a disk is: a file system, or a part of the one that the replica lies on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Plug {
    OwnFileSystem,
    SameFileSystem,
}

fn lose_disks_behind_links(way: &Way, sort: Plug, links: &str) {
    let about = format!("{}, {links}, {sort:?}", way.name);
    let (here, there) = (way.here(), way.there());
    let outside = way.sandbox.path("outside");
    here.make("f f 1\nd disk\nd dir");
    let links = [("to", "to"), ("dir/into", "into/sub"), ("above", "above")];
    let plugs =
        [here.at("disk"), outside.join("to"), outside.join("into"), outside.join("above/m")];
    let mut disks = Vec::new();
    for (number, at) in plugs.iter().enumerate() {
        fs::create_dir_all(at).unwrap();
        let inside = way.sandbox.path(format!("plugged{number}"));
        let disk = match sort {
            Plug::OwnFileSystem => Disk::plug_in(inside, at),
            Plug::SameFileSystem => Disk::part_of(inside, at),
        };
        let Some(disk) = disk else { return };
        fs::create_dir(at.join("sub")).unwrap();
        fs::write(at.join("sub/one"), "1").unwrap();
        disks.push(disk);
    }
    for (link, to) in links {
        symlink(outside.join(to), here.at(link)).unwrap();
    }
    let behind = ["disk/sub/one", "to/sub/one", "dir/into/one", "above/m/sub/one"];
    way.fine();
    assert!(behind.iter().all(|path| there.has(path)), "{about}");
    disks.iter().for_each(pull_out);
    here.write("f", "22", 1_700_000_000);
    for _ in 0..2 {
        let run = way.run();
        assert_eq!(run.status, Some(1), "{about}: {run}");
        for path in behind {
            assert!(there.has(path), "{about} {path}: {run}");
            assert!(!here.has(path), "{about} {path}: {run}");
        }
        assert_eq!(there.read("f").unwrap(), b"22", "{about}: the rest is done");
    }
    disks.iter_mut().for_each(Disk::put_back);
    way.fine();
    for path in behind {
        assert!(here.has(path) && there.has(path), "{about} {path}");
        here.remove(path);
    }
    way.fine();
    assert!(!behind.iter().any(|path| there.has(path)), "{about}: a deletion counts");
}

#[test]
fn a_mount_point_that_went_with_its_disk_deletes_nothing() {
    each("SOFT_DELETE=no", |way| {
        let (here, there) = (way.here(), way.there());
        here.make("f f 1\nd media/disk");
        let inside = way.sandbox.path("plugged");
        let Some(disk) = Disk::plug_in(inside, &here.at("media/disk")) else { return };
        here.make("f media/disk/one 1");
        way.fine();
        pull_out(&disk);
        here.remove("media/disk");
        let run = way.run();
        assert_eq!(run.status, Some(1), "{}: {run}", way.name);
        assert!(there.has("media/disk/one"), "{}: {run}", way.name);
        assert!(!here.has("media/disk"), "{}: {run}", way.name);
    });
}

#[test]
fn another_disk_in_the_place_of_the_known_one_deletes_nothing_and_takes_nothing() {
    each("SOFT_DELETE=no", |way| {
        let (here, there) = (way.here(), way.there());
        here.make("f f 1\nd disk\nf plain/kept 1");
        let at = here.at("disk");
        let Some(first) = Mounted::tmpfs(&at, "size=1m") else { return };
        here.make("f disk/one 1\nf disk/two 2");
        way.fine();
        drop(first);
        let second = Mounted::tmpfs(&at, "size=1m").unwrap();
        here.make("f disk/one 1\nf disk/stranger 3");
        // and over what is an ordinary directory
        let over = Mounted::tmpfs(&here.at("plain"), "size=1m").unwrap();
        let run = way.run();
        assert_eq!(run.status, Some(1), "{}: {run}", way.name);
        for name in ["disk/two", "plain/kept"] {
            assert!(there.has(name), "{}: {run}", way.name);
        }
        assert!(!there.has("disk/stranger"), "{}: {run}", way.name);
        drop(over);
        // with all that was known it is taken for a new home of the same files
        here.make("f disk/two 2");
        way.fine();
        assert!(there.has("disk/stranger"), "{}", way.name);
        drop(second);
    });
}

#[test]
fn what_is_planned_for_a_mount_point_is_done_below_it() {
    each("", |way| {
        let (here, there) = (way.here(), way.there());
        there.make("f f 1\nd disk");
        let Some(_disk) = Mounted::tmpfs(&there.at("disk"), "size=1m") else { return };
        there.make("f disk/one 1\nf disk/sub/two 2");
        way.fine();
        here.remove("disk");
        way.fine();
        assert!(there.has("disk") && !there.has("disk/one"), "{}", way.name);
        assert!(!there.has("disk/sub"), "{}", way.name);
        way.idle();
        assert!(!here.has("disk"), "{}: it is remembered", way.name);
        // something new below brings it back
        there.make("f disk/three 3");
        way.fine();
        assert_eq!(here.read("disk/three").unwrap(), b"3", "{}", way.name);
        // a renaming becomes one of what is in it
        here.rename("disk", "other");
        way.fine();
        assert!(there.has("other/three") && there.has("disk"), "{}", way.name);
        assert!(!there.has("disk/three"), "{}", way.name);
        way.idle();
        // and nothing takes its place
        here.make("f disk a-file");
        let run = way.run();
        assert_eq!(run.status, Some(2), "{}: {run}", way.name);
        assert!(there.at("disk").is_dir(), "{}: {run}", way.name);
        assert!(here.at("disk").is_file(), "{}: {run}", way.name);
    });
}

#[test]
fn what_moves_onto_a_mounted_disk_and_is_edited_besides_arrives_without_a_warning() {
    each("", |way| {
        let (here, there) = (way.here(), way.there());
        there.make(
            "f touched 1\nf edited 2\nf opened 3\nf kept 4\nf d/e/deep 5\nf d/same 6\nd disk",
        );
        let Some(_disk) = Mounted::tmpfs(&there.at("disk"), "size=1m") else { return };
        way.fine();
        for name in ["touched", "edited", "opened", "kept", "d"] {
            here.rename(name, format!("disk/{name}"));
        }
        trees::set_mtime(&here.at("disk/touched"), trees::Mtime { secs: 1_700_000_000, nanos: 5 });
        here.write("disk/edited", "another", 1_700_000_001);
        trees::set_mode(&here.at("disk/opened"), 0o640);
        here.write("disk/d/e/deep", "deeper", 1_700_000_002);
        let run = way.run();
        assert_eq!(run.status, Some(0), "{}: {run}", way.name);
        assert_eq!(here.details(), there.details(), "{}: {run}", way.name);
        assert_eq!(there.read("disk/d/e/deep").unwrap(), b"deeper", "{}: {run}", way.name);
        assert!(run.stdout.contains("kept -> disk/kept"), "{}: {run}", way.name);
        way.idle();
    });
}

#[test]
fn a_directory_mounted_from_the_same_file_system_is_a_mount_point_too() {
    each("", |way| {
        let (here, there) = (way.here(), way.there());
        if way.is_remote() {
            return; // find and stat tell nothing of it
        }
        there.make("f f 1\nd disk");
        let from = way.sandbox.path("from");
        std::fs::create_dir(&from).unwrap();
        let Some(disk) = Mounted::bound(&from, &there.at("disk")) else { return };
        there.make("f disk/one 1");
        way.fine();
        here.remove("disk");
        way.fine();
        assert!(there.has("disk") && !there.has("disk/one"), "{}", way.name);
        there.make("f disk/two 2");
        way.fine();
        drop(disk);
        let run = way.run();
        assert_eq!(run.status, Some(1), "{}: {run}", way.name);
        assert!(here.has("disk/two"), "{}: {run}", way.name);
    });
}

#[test]
fn what_cannot_leave_a_read_only_mount_is_an_error_and_leaks_no_copy() {
    each("", |way| {
        let (here, there) = (way.here(), way.there());
        there.make("f f 1\nd ro");
        let from = way.sandbox.path("from");
        std::fs::create_dir(&from).unwrap();
        let Some(_bound) = Mounted::bound(&from, &there.at("ro")) else { return };
        there.make("f ro/one 1\nf ro/two 2");
        way.fine();
        let script = format!("mount -o remount,ro,bind '{}'", there.at("ro").display());
        let frozen = std::process::Command::new("sh").args(["-c", &script]).status().unwrap();
        assert!(frozen.success());
        here.remove("ro/one");
        for _ in 0..2 {
            let run = way.run();
            assert_eq!(run.status, Some(1), "{}: {run}", way.name);
            assert!(run.stderr.contains("ead-only"), "{}: {run}", way.name);
            assert!(!there.has(".osync_workdir/deleted/ro/one"), "{}: {run}", way.name);
            assert!(there.has("ro/one"), "{}: {run}", way.name);
        }
    });
}

#[test]
fn with_one_file_system_only_a_mount_that_comes_deletes_nothing() {
    each("SOFT_DELETE=no\nRSYNC_OPTIONAL_ARGS=-x", |way| {
        let (here, there) = (way.here(), way.there());
        here.make("f f 1\nf disk/one 1");
        way.fine();
        let Some(disk) = Mounted::tmpfs(&here.at("disk"), "size=1m") else { return };
        here.make("f disk/two 2");
        here.write("f", "22", 1_700_000_000);
        way.fine();
        assert!(there.has("disk/one") && !there.has("disk/two"), "{}", way.name);
        assert_eq!(there.read("f").unwrap(), b"22", "{}", way.name);
        drop(disk);
        way.fine();
        assert!(here.has("disk/one") && there.has("disk/one"), "{}", way.name);
    });
}

/// 8-knowing, "On the disk": a torn note of our own is said, proves nothing, and blocks no task.
#[test]
fn a_torn_note_of_a_broken_off_run_blocks_nothing_and_makes_nothing_a_deletion() {
    for (left, said, comes_back) in [
        (&b""[..], "is empty, as a power cut", false),
        (&[0; 4096], "is empty, as a power cut", false),
        (b"0123456789abcdef0123456789abcdef\x0017000", "is torn, as a power cut", true),
    ] {
        let sandbox = Sandbox::new();
        sandbox.a.make("f f 1\nf d/g 22");
        assert_eq!(sandbox.quick().run().status, Some(0));
        let state = sandbox.a.root.join(".osync_workdir/state");
        let note = state.join("inflight-quicksync_task");
        std::fs::write(&note, left).unwrap();
        sandbox.b.remove("d/g");
        let run = sandbox.quick().run();
        assert_eq!(run.status, Some(0), "{run}");
        assert_eq!(sandbox.log().matches(said).count(), 1, "{}", sandbox.log());
        assert_eq!(sandbox.a.has("d/g"), comes_back, "{run}");
        assert_eq!(sandbox.a.contents(), sandbox.b.contents(), "{run}");
        assert!(!note.exists(), "{run}");
        // said once, and a deletion counts again
        sandbox.b.remove("f");
        let next = sandbox.quick().run();
        assert_eq!(next.status, Some(0), "{next}");
        assert_eq!(sandbox.log().matches(said).count(), 1, "{}", sandbox.log());
        assert!(!sandbox.a.has("f"), "{next}");
    }
}

/// Copies a directory with everything that tells its files apart.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

/// Puts a directory back from a copy, as somebody who has lost it would.
fn put_back(copy: &std::path::Path, root: &std::path::Path) {
    std::fs::remove_dir_all(root).unwrap();
    self::copy(copy, root);
}

#[test]
fn a_replica_put_back_with_its_work_directory_is_noticed() {
    each("", |way| {
        let (here, there) = (way.here(), way.there());
        here.make("f f old\nf gone 1");
        way.fine();
        let saved = way.sandbox.path("saved");
        copy(&there.root, &saved);
        here.write("f", "newer", 1_700_000_000);
        here.make("f later 1");
        way.fine();
        put_back(&saved, &there.root);
        for _ in 0..2 {
            let run = way.run();
            assert_eq!(run.status, Some(1), "{}: {run}", way.name);
            let side = if way.here_is() == "initiator" { "target" } else { "initiator" };
            assert!(run.stderr.contains(side), "{}: {run}", way.name);
            assert!(run.stderr.contains("--initialize"), "{}: {run}", way.name);
            assert_eq!(here.read("f").unwrap(), b"newer", "{}: {run}", way.name);
            assert!(here.has("later"), "{}: {run}", way.name);
        }
        let run = way.run_with(&["--initialize"]);
        assert_eq!(run.status, Some(0), "{}: {run}", way.name);
        way.fine();
        way.idle();
        assert!(here.has("later"), "{}", way.name);
    });
}

#[test]
fn a_state_directory_that_is_gone_is_no_first_contact() {
    each("", |way| {
        let (here, there) = (way.here(), way.there());
        let state = way.sandbox.path("state-disk");
        std::fs::create_dir(&state).unwrap();
        here.make("f f 1\nf gone 1");
        let run = || way.prepare(&[]).env("INITIATOR_CUSTOM_STATE_DIR", &state).run();
        let fine = || {
            let run = run();
            assert_eq!(run.status, Some(0), "{}: {run}", way.name);
        };
        fine();
        here.remove("gone");
        std::fs::rename(&state, way.sandbox.path("away")).unwrap();
        std::fs::create_dir(&state).unwrap();
        let stopped = run();
        assert_eq!(stopped.status, Some(1), "{}: {stopped}", way.name);
        assert!(!here.has("gone") && there.has("gone"), "{}: {stopped}", way.name);
        let left: Vec<_> = std::fs::read_dir(&state).unwrap().collect();
        assert!(left.iter().flatten().all(|e| !e.file_name().to_string_lossy().contains("snap")));
        std::fs::remove_dir_all(&state).unwrap();
        std::fs::rename(way.sandbox.path("away"), &state).unwrap();
        fine();
        assert!(!there.has("gone"), "{}", way.name);
    });
}

#[test]
fn an_initiator_whose_disk_is_not_mounted_is_not_filled() {
    each("", |way| {
        if way.here_is() != "initiator" {
            return; // the target's identity is missing then, which is told
        }
        let (here, there) = (way.here(), way.there());
        here.make("f f 1\nf g 1");
        way.fine();
        let away = way.sandbox.path("away");
        std::fs::rename(&here.root, &away).unwrap();
        std::fs::create_dir(&here.root).unwrap();
        let run = way.run();
        assert_eq!(run.status, Some(1), "{}: {run}", way.name);
        assert!(!here.has("f") && there.has("f"), "{}: {run}", way.name);
        std::fs::remove_dir_all(&here.root).unwrap();
        std::fs::rename(&away, &here.root).unwrap();
        way.fine();
    });
}

#[test]
fn a_replica_that_is_refused_stays_as_it_was_found() {
    each("", |way| {
        let (here, there) = (way.here(), way.there());
        here.make("f f 1\nf g 1");
        way.fine();
        let away = way.sandbox.path("away");
        std::fs::rename(&here.root, &away).unwrap();
        for alien in [None, Some("alien")] {
            std::fs::create_dir(&here.root).unwrap();
            if let Some(name) = alien {
                here.make(&format!("f {name} x"));
            }
            let run = way.run();
            assert_eq!(run.status, Some(1), "{}: {run}", way.name);
            let names = || {
                let entries = std::fs::read_dir(&here.root).unwrap();
                entries.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>()
            };
            // a shell over there may leave a moment after the run has ended
            until(
                &format!("{}: only {alien:?} is there, of {:?} {run}", way.name, names()),
                || names() == Vec::from_iter(alien),
            );
            std::fs::remove_dir_all(&here.root).unwrap();
        }
        std::fs::rename(&away, &here.root).unwrap();
        way.fine();
        assert!(there.has("f"), "{}", way.name);
    });
}

#[test]
fn an_identity_that_a_power_cut_has_emptied_is_written_anew() {
    each("", |way| {
        let (here, there) = (way.here(), way.there());
        here.make("f f 1\nf g 1");
        way.fine();
        let file = here.at(".osync_workdir/identity");
        let whole = std::fs::read(&file).unwrap();
        for torn in [&b""[..], &[0; 33]] {
            std::fs::write(&file, torn).unwrap();
            there.make("f h 1");
            way.fine();
            assert!(here.has("h"), "{}", way.name);
            let written = std::fs::read(&file).unwrap();
            assert_eq!(written.split(|b| *b == b'\n').next(), whole.split(|b| *b == b'\n').next());
            here.remove("h");
            way.fine();
        }
        // a stranger in its place is none
        let away = way.sandbox.path("away");
        std::fs::rename(&here.root, &away).unwrap();
        here.make("f other 1\nf .osync_workdir/identity \"\"");
        let run = way.run();
        assert_eq!(run.status, Some(1), "{}: {run}", way.name);
        assert!(there.has("f") && !there.has("other"), "{}: {run}", way.name);
    });
}

#[test]
fn a_run_killed_between_its_number_and_its_baseline_blocks_nothing() {
    if !cfg!(debug_assertions) {
        return println!("skipped: a release build has no fault points");
    }
    each("", |way| {
        let (here, there) = (way.here(), way.there());
        here.make("f f 0");
        way.fine();
        for (number, step) in ["run numbered:1", "run noted:1", "run noted:2"].iter().enumerate() {
            for again in 0..2 {
                let time = 1_700_000_000 + number as i64 * 2 + again;
                here.write("f", format!("{number}{again}"), time);
                let run = way.prepare(&[]).env("OSYNC_FAULT", step).run();
                assert_eq!(run.status, None, "{} {step}: {run}", way.name);
            }
            way.fine();
            assert_eq!(there.read("f"), here.read("f"), "{}", way.name);
        }
    });
}

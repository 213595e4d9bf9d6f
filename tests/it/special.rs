//! Devices, fifos and sockets (spec 4, "Deciding one path"): made by root, left out with one
//! warning where they cannot be made.

use crate::support::couple::Couple;
use crate::support::replicas::Sort;
use crate::support::sandbox::{Outcome, Replica};
use crate::support::ways::{each, each_as};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use std::fs;
use std::os::unix::fs::{FileTypeExt, chown};

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("NOT TESTED: only root can make devices");
    }
    is_root
}

fn node(side: &Replica, path: &str, kind: FileType, device: u64) {
    mknodat(CWD, side.at(path), kind, Mode::from_raw_mode(0o640), device).unwrap();
}

fn socket(side: &Replica, path: &str) {
    drop(std::os::unix::net::UnixListener::bind(side.at(path)).unwrap());
}

fn device(side: &Replica, path: &str) {
    node(side, path, FileType::CharacterDevice, makedev(1, 3));
}

#[test]
fn special_files_are_made_by_root() {
    if !is_root() {
        return;
    }
    each("", |way| {
        let here = way.here();
        here.make("f f x\nd d");
        node(here, "d/pipe", FileType::Fifo, 0);
        device(here, "null");
        node(here, "loop", FileType::BlockDevice, makedev(7, 250));
        socket(here, "socket");
        way.fine();
        way.in_step();
        fs::remove_file(here.at("null")).unwrap();
        node(here, "null", FileType::CharacterDevice, makedev(1, 5));
        way.there().remove("d/pipe");
        way.fine();
        let device = rustix::fs::stat(way.there().at("null")).unwrap().st_rdev;
        assert_eq!(rustix::fs::minor(device), 5, "{}", way.name);
        assert!(!here.has("d/pipe"));
        way.in_step();
    });
}

/// One warning, and nothing else, beside the last line that says there was one.
fn one_warning(run: &Outcome, names: &str) {
    assert_eq!(run.status, Some(2), "{run}");
    let lines: Vec<&str> = run.stderr.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("(WARN)"), "{run}");
    assert!(lines[0].contains("left out") && lines[0].contains(names), "{run}");
}

/// What was told before is no warning any more.
fn told_before(run: &Outcome, names: &str) {
    assert_eq!(run.status, Some(0), "{run}");
    assert!(run.stdout.contains("left out as before") && run.stdout.contains(names), "{run}");
}

#[test]
fn fifos_and_sockets_are_made_by_everybody_and_devices_left_out_with_one_warning() {
    const USER: u32 = 65_534;
    if !is_root() {
        return;
    }
    each_as("", Some(USER), |way| {
        let (here, there) = (way.here(), way.there());
        for side in [here, there] {
            chown(&side.root, Some(USER), Some(USER)).unwrap();
        }
        for path in ["home", "tmp", "."] {
            chown(way.sandbox.path(path), Some(USER), Some(USER)).unwrap();
        }
        here.make("f f x\nd d\nd kind\nf kind/f kept");
        node(here, "pipe", FileType::Fifo, 0);
        socket(here, "d/socket");
        for name in ["f", "d", "kind", "kind/f", "pipe", "d/socket"] {
            chown(here.at(name), Some(USER), Some(USER)).unwrap();
        }
        for name in ["one", "two", "d/three", "d/four"] {
            device(here, name);
        }
        one_warning(&way.run(), "left out: 4 ('d/four' and others)");
        told_before(&way.run(), ": 4 ('d/four' and others)");
        assert!(there.at("pipe").symlink_metadata().unwrap().file_type().is_fifo());
        assert!(there.at("d/socket").symlink_metadata().unwrap().file_type().is_socket());
        assert!(!there.has("one") && !there.has("d/four") && there.has("f"));
        way.idle();
        // a device in the place of a directory, and of a file: nothing makes way for it
        here.remove("kind");
        device(here, "kind");
        here.remove("f");
        device(here, "f");
        one_warning(&way.run(), "left out: 6 (");
        assert_eq!(there.read("kind/f").unwrap(), b"kept", "{}", way.name);
        assert_eq!(there.read("f").unwrap(), b"x", "{}", way.name);
        assert_eq!((there.deleted(), there.backup()), (String::new(), String::new()));
        way.idle();
        // what is gone again is no reason to warn any more
        for name in ["one", "two", "d/three", "d/four", "kind", "f"] {
            here.remove(name);
        }
        way.fine();
        assert!(!there.has("f") && !there.has("kind"), "{}", way.name);
        way.in_step();
    });
}

#[test]
fn devices_are_left_out_where_the_remote_user_is_not_root() {
    if !is_root() {
        return;
    }
    let couple = Couple::reached_by(Sort::Nobody);
    let (a, b) = (couple.side(0), couple.side(1));
    fs::set_permissions(couple.sandbox.root(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    chown(&b.root, Some(65_534), Some(65_534)).unwrap();
    a.make("f f x");
    node(a, "pipe", FileType::Fifo, 0);
    socket(a, "socket");
    device(a, "one");
    device(a, "two");
    let settings = "PRESERVE_OWNER=no\nPRESERVE_GROUP=no";
    one_warning(&couple.run(settings).run(), "left out: 2 ('one' and others)");
    told_before(&couple.run(settings).run(), ": 2 ('one' and others)");
    assert_eq!(b.read("f").unwrap(), b"x");
    assert!(b.at("pipe").symlink_metadata().unwrap().file_type().is_fifo());
    assert!(b.at("socket").symlink_metadata().unwrap().file_type().is_socket());
    // the other way: a fifo of the user over there
    node(b, "back", FileType::Fifo, 0);
    chown(b.at("back"), Some(65_534), Some(65_534)).unwrap();
    told_before(&couple.run(settings).run(), ": 2 ('one' and others)");
    assert!(a.at("back").symlink_metadata().unwrap().file_type().is_fifo());
}

#[test]
fn a_root_who_may_not_make_devices_hears_of_them_once_a_run() {
    if !is_root() {
        return;
    }
    let couple = Couple::reached_by(Sort::Local);
    let (a, b) = (couple.side(0), couple.side(1));
    a.make("d d\nf f x");
    device(a, "d/one");
    device(a, "two");
    let config = couple.sandbox.config("couple.conf", "");
    let run = || {
        let caged = couple.sandbox.program("setpriv");
        let caged = caged.args(["--inh-caps", "-mknod", "--bounding-set", "-mknod"]);
        caged.arg(crate::support::osync()).arg(&config).run()
    };
    for _ in 0..2 {
        one_warning(&run(), "left out: 2 (d/one, two)");
    }
    assert!(b.has("f") && b.has("d") && !b.has("two"));
    // in the place of something else: that is kept
    a.remove("f");
    device(a, "f");
    for _ in 0..2 {
        one_warning(&run(), "left out: 3 (d/one, f, two)");
    }
    assert!(b.read("f").or_else(|| b.read(".osync_workdir/backup/f")).is_some());
    // with the right to make them, they come
    couple.sync_twice("");
    assert!(b.has("two") && b.has("d/one"));
    assert!(b.at("f").symlink_metadata().unwrap().file_type().is_char_device());
    assert_eq!(b.backup(), "f f x\n");
}

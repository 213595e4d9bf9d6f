//! Directories with odd modes and times, files that nobody may read (spec 4, 5), here and
//! over ssh; as root and as an ordinary user.

use crate::support::trees::{Mtime, set_mode, set_mtime};
use crate::support::ways::{Way, each, each_as, each_with_ordinary_user};
use std::fs;
use std::os::unix::fs::MetadataExt;

fn dir_mtime(side: &crate::support::sandbox::Replica, path: &str) -> i64 {
    fs::metadata(side.at(path)).unwrap().mtime()
}

fn odd_directories(way: &Way) {
    let (here, there) = (way.here(), way.there());
    here.make("d closed 1400000000 555\nd sticky 1400000001 1777\nd group 1400000002 2750\nd deep 1400000003 555");
    // made before their directories were closed
    for dir in ["closed", "deep"] {
        set_mode(&here.at(dir), 0o755);
    }
    here.make("f closed/f one 1500000000 444\nf closed/g two\nd deep/er\nf deep/er/f x");
    set_mode(&here.at("deep/er"), 0o555);
    for (dir, mtime) in [("closed", 1_400_000_000), ("deep", 1_400_000_003)] {
        set_mode(&here.at(dir), 0o555);
        set_mtime(&here.at(dir), Mtime::secs(mtime));
    }
    way.own();
    way.fine();
    way.in_step();
    for (dir, mtime) in
        [("closed", 1_400_000_000), ("sticky", 1_400_000_001), ("group", 1_400_000_002)]
    {
        assert_eq!(dir_mtime(there, dir), mtime, "{}: {dir}", way.name);
    }
    // children of directories that may not be written change, come and go
    open(here, "closed", |side| {
        fs::write(side.at("closed/new"), "three").unwrap();
        fs::remove_file(side.at("closed/g")).unwrap();
        side.remove("closed/f");
        side.write("closed/f", "changed", 1_600_000_000);
    });
    open(there, "deep/er", |side| side.rename("deep/er/f", "deep/er/moved"));
    way.own();
    way.fine();
    way.in_step();
    assert_eq!(there.read("closed/f").unwrap(), b"changed", "{}", way.name);
    assert!(!there.has("closed/g") && here.has("deep/er/moved"), "{}", way.name);
    // a closed one moves from one closed one to another
    for name in ["from", "to", "from/er"] {
        here.make(&format!("d {name}"));
    }
    here.make("f from/er/g x");
    let close = |side: &crate::support::sandbox::Replica, names: [&str; 3], mode| {
        for name in names {
            set_mode(&side.at(name), mode);
        }
    };
    close(here, ["from/er", "from", "to"], 0o555);
    way.own();
    way.fine();
    way.in_step();
    close(here, ["from", "to", "from/er"], 0o755);
    here.rename("from/er", "to/er");
    close(here, ["to/er", "from", "to"], 0o555);
    way.own();
    way.fine();
    way.in_step();
    assert!(there.has("to/er/g") && !there.has("from/er"), "{}", way.name);
    assert!(!there.deleted().contains("er/g"), "{}: it was renamed", way.name);
    // a whole one goes
    set_mode(&here.at("deep"), 0o755);
    set_mode(&here.at("deep/er"), 0o755);
    here.remove("deep");
    way.fine();
    way.in_step();
    assert!(there.deleted().contains("f deep/er/moved x"), "{}", way.name);
}

fn open(
    side: &crate::support::sandbox::Replica,
    dir: &str,
    act: impl Fn(&crate::support::sandbox::Replica),
) {
    set_mode(&side.at(dir), 0o755);
    act(side);
    set_mode(&side.at(dir), 0o555);
}

#[test]
fn odd_directories_keep_their_modes_and_times_and_their_children_may_change() {
    each("", odd_directories);
}

#[test]
fn an_ordinary_user_may_have_them_too() {
    if !rustix::process::geteuid().is_root() {
        return; // the test above ran as one
    }
    each_as("", Some(65534), odd_directories);
    each_with_ordinary_user("", odd_directories);
}

fn into_a_closed_directory(way: &Way) {
    let (here, there) = (way.here(), way.there());
    here.make("d closed\nf closed/stays x\nf closed/goes x");
    set_mode(&here.at("closed"), 0o555);
    way.own();
    way.fine();
    way.in_step();
    open(here, "closed", |side| {
        side.make("f closed/excluded.tmp x\nd closed/new\nd closed/new/er\nf closed/new/er/f x");
        set_mtime(&side.at("closed/new/er"), Mtime::secs(1_400_000_000));
        set_mtime(&side.at("closed/new"), Mtime::secs(1_400_000_001));
    });
    open(there, "closed", |side| side.remove("closed/goes"));
    way.own();
    way.fine();
    assert_eq!(there.read("closed/new/er/f").as_deref(), Some(&b"x"[..]), "{}", way.name);
    for (dir, mtime) in [("closed/new/er", 1_400_000_000), ("closed/new", 1_400_000_001)] {
        assert_eq!(dir_mtime(there, dir), mtime, "{}: {dir}", way.name);
    }
    assert!(!there.has("closed/excluded.tmp"), "{}: it takes no part", way.name);
    for side in [here, there] {
        assert!(!side.has("closed/goes"), "{}: what was deleted stays deleted", way.name);
        let mode = fs::metadata(side.at("closed")).unwrap().mode() & 0o7777;
        assert_eq!(mode, 0o555, "{}", way.name);
    }
    open(here, "closed", |side| side.remove("closed/excluded.tmp"));
    way.fine();
    way.in_step();
}

#[test]
fn a_new_subtree_in_a_closed_directory_brings_along_nothing_else_from_there() {
    let settings = "RSYNC_EXCLUDE_PATTERN=*.tmp";
    each(settings, into_a_closed_directory);
    if rustix::process::geteuid().is_root() {
        each_as(settings, Some(65534), into_a_closed_directory);
        each_with_ordinary_user(settings, into_a_closed_directory);
    }
}

#[test]
fn a_file_that_nobody_may_read_is_carried_by_root_and_left_alone_by_others() {
    each("", |way| {
        way.here().make("f secret s 1500000000 000\nf plain p");
        if rustix::process::geteuid().is_root() {
            way.fine();
            way.in_step();
            assert!(way.there().details().contains("f secret s 1500000000 0\n"));
            // its content and its mode go on from there
            way.there().write("secret", "edited", 1_600_000_000);
            way.fine();
            way.in_step();
            assert!(way.here().details().contains("f secret edited 1600000000 0\n"));
        } else {
            left_alone(way);
        }
    });
}

#[test]
fn an_ordinary_user_cannot_carry_it_over_and_does_not_take_it_for_deleted() {
    if !rustix::process::geteuid().is_root() {
        return; // the test above ran as one
    }
    each_as("", Some(65534), |way| {
        way.here().make("f secret s 1500000000 000\nf plain p");
        way.own();
        left_alone(way);
        // it was readable once: what is known of it stays on both sides
        set_mode(&way.here().at("secret"), 0o600);
        way.fine();
        assert_eq!(way.there().read("secret").unwrap(), b"s", "{}", way.name);
        set_mode(&way.here().at("secret"), 0);
        way.there().write("plain", "edited", 1_600_000_000);
        way.own();
        for _ in 0..2 {
            assert_eq!(way.run().status, Some(1), "{}", way.name);
        }
        assert_eq!(way.there().read("secret").unwrap(), b"s", "{}", way.name);
        assert_eq!(way.here().read("plain").unwrap(), b"edited", "{}", way.name);
        set_mode(&way.here().at("secret"), 0o600);
        way.fine();
        way.in_step();
    });
}

#[test]
fn nor_does_one_behind_ssh() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    each_with_ordinary_user("", |way| {
        // on the side of root it is read, and made over there
        let on_target = way.here_is() == "target";
        way.here().make("f secret s 1500000000 000\nf plain p");
        way.own();
        if !on_target {
            way.fine();
            assert_eq!(way.there().read("secret").unwrap(), b"s", "{}", way.name);
        }
        // from then on nobody over there can read it, and nothing is made of that
        for _ in 0..2 {
            let run = way.run();
            assert_eq!(run.status, Some(1), "{}: {run}", way.name);
            assert!(run.stderr.contains("secret: cannot read it"), "{}: {run}", way.name);
        }
        assert_eq!(way.here().read("secret").unwrap(), b"s", "{}", way.name);
        assert_eq!(way.there().has("secret"), !on_target, "{}", way.name);
        set_mode(&way.sandbox.b.at("secret"), 0o600);
        way.fine();
        way.fine();
        way.in_step();
        assert_eq!(way.there().read("secret").unwrap(), b"s", "{}", way.name);
    });
}

/// An error each time, and all else is done.
fn left_alone(way: &Way) {
    for _ in 0..2 {
        let run = way.run();
        assert_eq!(run.status, Some(1), "{}: {run}", way.name);
        assert!(run.stderr.contains("secret: cannot read the file"), "{}: {run}", way.name);
    }
    assert!(!way.there().has("secret") && way.there().has("plain"), "{}", way.name);
}

/// A directory is closed, and a file in it edited, by the same hand or by two.
fn closed_and_edited(way: &Way) {
    let (here, there) = (way.here(), way.there());
    for dir in ["same", "two", "new", "gone", "deep/er"] {
        here.make(&format!("d {dir}\nf {dir}/file old\nf {dir}/other old"));
    }
    way.own();
    way.fine();
    way.in_step();
    for dir in ["same", "deep/er"] {
        here.write(format!("{dir}/file"), "edited", 1_600_000_000);
        set_mode(&here.at(dir), 0o555);
    }
    set_mode(&here.at("deep"), 0o555);
    there.write("two/file", "edited", 1_600_000_000);
    set_mode(&here.at("two"), 0o555);
    here.write("new/more", "new", 1_600_000_000);
    set_mode(&here.at("new"), 0o555);
    here.remove("gone/file");
    here.rename("gone/other", "gone/moved");
    set_mode(&here.at("gone"), 0o555);
    way.own();
    way.fine();
    for side in [here, there] {
        for file in ["same/file", "deep/er/file", "two/file"] {
            assert_eq!(side.read(file).unwrap(), b"edited", "{}: {file}", way.name);
        }
        assert!(side.has("new/more") && side.has("gone/moved"), "{}", way.name);
        assert!(!side.has("gone/file"), "{}", way.name);
        for dir in ["same", "two", "new", "gone", "deep", "deep/er"] {
            let mode = fs::metadata(side.at(dir)).unwrap().mode() & 0o7777;
            assert_eq!(mode, 0o555, "{}: {dir}", way.name);
        }
    }
    way.in_step();
}

#[test]
fn what_is_edited_in_a_directory_that_is_closed_goes_over_in_the_same_run() {
    each("", closed_and_edited);
    each("DETECT_MOVES=no", closed_and_edited);
    if rustix::process::geteuid().is_root() {
        each_as("", Some(65534), closed_and_edited);
        each_with_ordinary_user("", closed_and_edited);
    }
}

//! Symbolic links (spec 4; COPY_SYMLINKS, KEEP_DIRLINKS), here and over ssh.

use crate::support::sandbox::Replica;
use crate::support::trees::set_mode;
use crate::support::ways::{Way, each, each_with_ordinary_user};
use std::fs;
use std::os::unix::fs::symlink;

fn link(side: &Replica, to: &str, path: &str) {
    symlink(to, side.at(path)).unwrap();
}

#[test]
fn links_of_every_sort_are_carried_as_they_are() {
    let play = |way: &Way| {
        let here = way.here();
        here.make("d d\nf d/f x\nd e");
        for (to, path) in [
            ("nowhere", "dangling"),
            ("/nowhere/absolute", "d/absolute"),
            ("d", "to a directory"),
            ("../d/f", "e/relative"),
            ("circle", "circle"),
            ("b", "a"),
            ("a", "b"),
            (".", "e/here"),
            ("..", "e/up"),
            (" -> odd\n//x", "-odd -> name"),
        ] {
            link(here, to, path);
        }
        way.fine();
        way.in_step();
        fs::remove_file(way.there().at("dangling")).unwrap();
        link(way.there(), "somewhere else", "dangling");
        fs::remove_file(here.at("circle")).unwrap();
        way.fine();
        assert!(here.contents().contains("l dangling somewhere\\selse"), "{}", way.name);
        assert!(!way.there().has("circle"));
        way.in_step();
    };
    each("", play);
    each_with_ordinary_user("", play);
}

#[test]
fn a_link_and_a_directory_that_change_places_lose_nothing() {
    each("", |way| {
        let (here, there) = (way.here(), way.there());
        here.make("d d\nf d/f one\nd other\nf other/g two\nl l other");
        way.fine();
        // a directory becomes a link, a link a directory
        here.remove("d");
        link(here, "other", "d");
        here.remove("l");
        here.make("f l/new three");
        way.fine();
        way.in_step();
        assert!(there.contents().contains("l d other\n"), "{}", way.name);
        assert!((there.deleted() + &there.backup()).contains("f d/f one"), "{}", way.name);
        // the other side edits below the directory while it becomes a link again
        here.remove("l");
        link(here, "other", "l");
        there.write("l/new", "edited", 1_600_000_000);
        way.fine();
        let all = [here, there].map(|s| s.contents() + &s.backup() + &s.deleted()).concat();
        assert!(all.contains("f l/new edited"), "{}: {all}", way.name);
        assert!(all.contains("f other/g two"), "{}: {all}", way.name);
        way.in_step();
    });
}

#[test]
fn copied_links_are_what_they_point_at_and_stay_links_where_they_are() {
    each("COPY_SYMLINKS=yes", |way| {
        let (here, there) = (way.here(), way.there());
        let outside = way.sandbox.path("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("x"), "x1").unwrap();
        fs::write(outside.join("y"), "y1").unwrap();
        fs::write(way.sandbox.path("file"), "content").unwrap();
        here.make("f own o");
        symlink(&outside, here.at("dir")).unwrap();
        symlink(way.sandbox.path("file"), here.at("f")).unwrap();
        way.fine();
        assert_eq!(
            there.contents(),
            "d dir\nf dir/x x1\nf dir/y y1\nf f content\nf own o\n",
            "{}",
            way.name
        );
        way.idle();
        // what changes behind the link follows
        fs::write(outside.join("x"), "x two").unwrap();
        way.fine();
        assert_eq!(there.read("dir/x").unwrap(), b"x two", "{}", way.name);
        way.idle();
    });
}

#[test]
fn changes_below_a_copied_link_never_take_what_it_points_at_away() {
    each("COPY_SYMLINKS=yes", |way| {
        let (here, there) = (way.here(), way.there());
        let outside = way.sandbox.path("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("x"), "x1").unwrap();
        fs::write(outside.join("y"), "y1").unwrap();
        here.make("f own o");
        symlink(&outside, here.at("dir")).unwrap();
        way.fine();
        there.write("dir/x", "edited", 1_900_000_000);
        there.write("dir/new", "new", 1_900_000_000);
        there.remove("dir/y");
        for _ in 0..3 {
            let run = way.run();
            assert!(run.status.is_some_and(|status| status != 128), "{run}");
        }
        assert_eq!(fs::read(outside.join("y")).unwrap(), b"y1", "{}", way.name);
        assert_eq!(there.read("dir/x").unwrap(), b"edited", "{}", way.name);
        assert_eq!(there.read("dir/new").unwrap(), b"new", "{}", way.name);
        let kept = fs::read(outside.join("x")).unwrap();
        let backup = here.backup();
        assert!(kept == b"x1" || backup.contains("x1"), "{}: {backup}", way.name);
    });
}

#[test]
fn kept_links_to_directories_are_those_directories_both_ways_and_circles_end() {
    each("KEEP_DIRLINKS=yes", |way| {
        let (here, there) = (way.here(), way.there());
        here.make("f real/f one\nf real/sub/g two\nf own o");
        for (to, path) in [("real", "dir"), ("real/f", "file"), ("nowhere", "dangling")] {
            link(here, to, path);
        }
        way.fine();
        assert!(there.at("dir").symlink_metadata().unwrap().is_dir(), "{}", way.name);
        assert_eq!(there.read("dir/sub/g").unwrap(), b"two", "{}", way.name);
        assert!(there.at("file").is_symlink() && there.at("dangling").is_symlink());
        way.idle();
        // edits, new files and modes come back through the link, which stays one
        there.write("dir/f", "edited", 1_700_000_000);
        there.write("dir/sub/new", "new", 1_700_000_001);
        set_mode(&there.at("dir"), 0o750);
        way.fine();
        assert!(here.at("dir").is_symlink(), "{}", way.name);
        assert_eq!(here.read("real/f").unwrap(), b"edited", "{}", way.name);
        assert_eq!(here.read("real/sub/new").unwrap(), b"new", "{}", way.name);
        // what came through the link is news under the directory's own name
        way.fine();
        assert_eq!(there.read("real/f").unwrap(), b"edited", "{}", way.name);
        way.idle();
        // a circle is left alone with an error, and everything else goes on
        link(here, "..", "real/up");
        here.write("own", "edited too", 1_700_000_002);
        for _ in 0..2 {
            let run = way.run();
            assert_eq!(run.status, Some(1), "{}: {run}", way.name);
            assert!(run.stderr.contains("leads back to a directory above it"), "{run}");
        }
        assert_eq!(there.read("own").unwrap(), b"edited too", "{}", way.name);
        assert!(!there.has("real/up") && !there.has("dir/up"), "{}", way.name);
    });
}

#[test]
fn deletions_never_reach_behind_a_kept_link() {
    each("KEEP_DIRLINKS=yes", |way| {
        let (here, there) = (way.here(), way.there());
        let outside = way.sandbox.path("outside");
        fs::create_dir(&outside).unwrap();
        for name in ["x", "y"] {
            fs::write(outside.join(name), name).unwrap();
        }
        here.make("f own o");
        symlink(&outside, here.at("dir")).unwrap();
        way.fine();
        there.remove("dir/x");
        for _ in 0..2 {
            let run = way.run();
            assert_eq!(run.status, Some(1), "{}: {run}", way.name);
            assert!(run.stderr.contains("symbolic link"), "{}: {run}", way.name);
        }
        assert_eq!(fs::read(outside.join("x")).unwrap(), b"x", "{}", way.name);
        // the whole directory: the link goes to deleted/, and nothing else
        there.remove("dir");
        way.fine();
        assert!(!here.has("dir") && here.at(".osync_workdir/deleted/dir").is_symlink());
        assert_eq!(fs::read(outside.join("y")).unwrap(), b"y", "{}", way.name);
        way.idle();
    });
}

#[test]
fn edits_reach_behind_a_kept_link_that_leads_out_as_far_as_rsync_goes() {
    // since 3.5, a receiver that is asked for by another rsync stays within its replica
    let mut asked = std::process::Command::new("rsync");
    let is_strict =
        asked.args(["--insecure-links", "--version"]).output().unwrap().status.success();
    each("KEEP_DIRLINKS=yes", |way| {
        let (here, there) = (way.here(), way.there());
        let outside = way.sandbox.path("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("x"), "x").unwrap();
        symlink(&outside, here.at("dir")).unwrap();
        way.fine();
        there.write("dir/x", "edited", 1_700_000_000);
        there.write("dir/new", "new", 1_700_000_000);
        if is_strict && way.is_remote() && way.here_is() == "target" {
            let run = way.run();
            assert_eq!(run.status, Some(1), "{}: {run}", way.name);
            assert!(run.stderr.contains("a link that leads out of the replica"), "{run}");
            assert_eq!(fs::read(outside.join("x")).unwrap(), b"x", "{}", way.name);
            assert_eq!(there.read("dir/x").unwrap(), b"edited", "{}", way.name);
        } else {
            way.fine();
            assert_eq!(fs::read(outside.join("x")).unwrap(), b"edited", "{}", way.name);
            assert_eq!(fs::read(outside.join("new")).unwrap(), b"new", "{}", way.name);
            way.idle();
        }
        assert!(here.at("dir").is_symlink());
    });
}

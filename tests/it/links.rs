//! Symbolic links (spec 4; COPY_SYMLINKS, KEEP_DIRLINKS), here and over ssh.

use crate::support::sandbox::Replica;
use crate::support::ways::each;
use std::fs;
use std::os::unix::fs::symlink;

fn link(side: &Replica, to: &str, path: &str) {
    symlink(to, side.at(path)).unwrap();
}

#[test]
fn links_of_every_sort_are_carried_as_they_are() {
    each("", |way| {
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
    });
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

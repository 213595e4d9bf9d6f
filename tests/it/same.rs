//! What counts as the same, and what as changed, here and over ssh (spec 8, "The same").

use crate::support::sandbox::{Outcome, Replica, Sandbox};
use crate::support::trees::{Mtime, set_mtime};
use crate::support::ways::{Way, each};
use std::fs;
use std::process::Command;

/// The time of all files that a test does not give another one.
const THEN: i64 = 1_500_000_000;

/// Runs that have nothing to warn of, and no conflict.
fn agrees(way: &Way) {
    let run = way.run_with(&["--log-conflicts"]);
    assert_eq!(run.status, Some(0), "{}: {run}", way.name);
    assert!(run.stdout.contains("There are no conflicts"), "{}: {run}", way.name);
}

/// How many files a run had to compare.
fn compared(run: &Outcome) -> usize {
    let word = "compared the contents of ";
    let line = run.stdout.lines().find_map(|line| line.split(word).nth(1));
    line.map_or(0, |line| line.split(' ').next().unwrap().parse().unwrap())
}

fn rename(side: &Replica, from: &str, to: &str) {
    fs::rename(side.at(from), side.at(to)).unwrap();
}

#[test]
fn another_file_of_the_same_size_and_time_that_took_a_name_is_carried_over() {
    each("", |way| {
        way.here().make("f x AAA\nf y BBB\nf one 111\nf two 222\nf log.1 old\nf log new");
        way.fine();
        let here = way.here();
        rename(here, "y", "x");
        for (from, to) in [("one", "three"), ("two", "one"), ("three", "two")] {
            rename(here, from, to);
        }
        rename(here, "log", "log.1");
        // The number of the inode may be given again at once.
        here.write("log", "fresh", THEN);
        agrees(way);
        let there = way.there().contents();
        assert_eq!(
            there, "f log fresh\nf log.1 new\nf one 222\nf two 111\nf x BBB\n",
            "{}",
            way.name
        );
        way.in_step();
    });
}

#[test]
fn a_directory_that_took_the_name_of_another_is_no_mixture_of_both() {
    each("", |way| {
        way.here().make("f app/1 old1\nf app/2 old2\nf app.new/1 new1\nf app.new/2 new2");
        way.fine();
        rename(way.here(), "app", "app.old");
        rename(way.here(), "app.new", "app");
        agrees(way);
        let there = way.there().contents();
        let expected =
            "d app\nd app.old\nf app.old/1 old1\nf app.old/2 old2\nf app/1 new1\nf app/2 new2\n";
        assert_eq!(there, expected, "{}", way.name);
        way.in_step();
    });
}

#[test]
fn the_same_file_with_another_inode_is_no_change() {
    each("", |way| {
        way.here().make("f x same\nf y other");
        way.fine();
        fs::copy(way.here().at("x"), way.here().at("copy")).unwrap();
        set_mtime(&way.here().at("copy"), Mtime::secs(THEN));
        rename(way.here(), "copy", "x");
        way.there().write("y", "changed", THEN + 5);
        let run = way.run_with(&["--verbose"]);
        assert_eq!((run.status, compared(&run)), (Some(0), 1), "{}: {run}", way.name);
        assert_eq!(way.there().backup() + &way.here().backup(), "f y other\n", "{}", way.name);
        let run = way.run_with(&["--verbose"]);
        assert_eq!(compared(&run), 0, "{}: the new number was not recorded: {run}", way.name);
        way.in_step();
    });
}

#[test]
fn equal_files_with_other_times_that_meet_for_the_first_time_are_no_conflict() {
    each("", |way| {
        let names = ["plain", "d/below", "d/-dash", "new\\nline", "back\\\\slash", "inv\\xff"];
        let all = |times: [i64; 2]| -> String {
            let time = |at: usize| times[at % 2];
            let line = |(at, name)| format!("f {name} same{at} {}\n", time(at));
            names.iter().enumerate().map(line).collect()
        };
        way.here()
            .make(&(all([THEN, THEN + 9]) + "f differs here 1500000005\nl link to 1500000001"));
        way.there()
            .make(&(all([THEN + 9, THEN]) + "f differs over 1500000000\nl link to 1500000009"));
        let run = way.run_with(&["--verbose", "--log-conflicts", "--stats"]);
        assert_eq!((run.status, compared(&run)), (Some(0), 7), "{}: {run}", way.name);
        assert_eq!(way.there().backup(), "f differs over\n", "{}", way.name);
        assert_eq!(way.here().backup(), "", "{}", way.name);
        let time = way.there().tree()[&b"plain"[..]].mtime;
        assert_eq!(time, Mtime::secs(THEN + 9), "{}: the newer time", way.name);
        way.in_step();
    });
}

#[test]
fn the_same_edit_on_both_sides_is_no_conflict() {
    each("", |way| {
        way.here().make("f x old\nf y old");
        way.fine();
        for (side, time) in [(way.here(), THEN + 5), (way.there(), THEN + 7)] {
            side.write("x", "new!", time);
            side.write("y", "new!", THEN + 5);
        }
        agrees(way);
        assert_eq!(way.here().backup() + &way.there().backup(), "", "{}", way.name);
        way.in_step();
    });
}

#[test]
fn two_edits_of_one_size_at_the_same_moment_do_not_count_as_the_same() {
    each("", |way| {
        way.here().make("f x old");
        way.fine();
        way.here().write("x", "one", THEN + 5);
        way.there().write("x", "two", THEN + 5);
        way.fine();
        let [here, there] = [way.here(), way.there()].map(|side| side.read("x").unwrap());
        assert_eq!(here, there, "{}", way.name);
        assert!((way.here().backup() + &way.there().backup()).starts_with("f x "), "{}", way.name);
        way.in_step();
    });
}

#[test]
fn two_new_files_written_within_one_tick_do_not_count_as_the_same() {
    let sandbox = Sandbox::new();
    let written_at = |side: &Replica| side.tree()[&b"x"[..]].mtime;
    // Until both get the same time: a tick takes a few milliseconds.
    while {
        fs::write(sandbox.a.at("x"), "one").unwrap();
        fs::write(sandbox.b.at("x"), "two").unwrap();
        written_at(&sandbox.a) != written_at(&sandbox.b)
    } {}
    let run = sandbox.sync(&[]);
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(sandbox.a.contents(), "f x one\n");
    assert_eq!(
        (sandbox.b.contents(), sandbox.b.backup()),
        ("f x one\n".into(), "f x two\n".into())
    );
}

#[test]
fn an_edit_to_the_whole_second_is_seen() {
    each("", |way| {
        way.here().make("f x old 1500000000.5");
        way.fine();
        way.here().write("x", "new", THEN);
        agrees(way);
        assert_eq!(way.there().read("x").unwrap(), b"new", "{}", way.name);
        way.in_step();
    });
}

#[test]
fn a_replica_that_was_copied_is_not_read_anew() {
    each("", |way| {
        way.here().make("f x 1\nf y 2\nf z 3");
        way.fine();
        let (root, copy) = (&way.here().root, way.sandbox.path("copy"));
        let copied = Command::new("cp").arg("-a").arg(root).arg(&copy).status().unwrap();
        assert!(copied.success());
        fs::remove_dir_all(root).unwrap();
        fs::rename(copy, root).unwrap();
        way.here().write("y", "edited", THEN + 5);
        let run = way.run_with(&["--verbose"]);
        assert_eq!((run.status, compared(&run)), (Some(0), 0), "{}: {run}", way.name);
        let told = run.stdout.matches("have other inode numbers").count();
        assert_eq!(told, 1, "{}: {run}", way.name);
        assert_eq!(way.there().read("y").unwrap(), b"edited", "{}", way.name);
        let run = way.run();
        assert!(!run.stdout.contains("inode numbers"), "{}: {run}", way.name);
        way.in_step();
    });
}

#[test]
fn a_log_that_grows_is_a_change_on_its_own_side_only() {
    each("", |way| {
        let log = way.here().at("log");
        way.here().make("f log start\\n");
        way.fine();
        let grow = |step: &str| {
            let fault = format!("{step}:1:echo more >> '{}'", log.display());
            let run = way.prepare(&["--log-conflicts"]).env("OSYNC_FAULT", fault).run();
            assert_eq!(run.status, Some(0), "{}: {run}", way.name);
            assert!(run.stdout.contains("There are no conflicts"), "{}: {run}", way.name);
        };
        for step in ["in flight", "in flight", "delivered"] {
            fs::write(&log, [fs::read(&log).unwrap(), b"a line\n".to_vec()].concat()).unwrap();
            grow(step);
        }
        // What was put back over there is no conflict either, if the log did not grow since.
        fs::write(&log, [fs::read(&log).unwrap(), b"last\n".to_vec()].concat()).unwrap();
        grow("in flight");
        way.there().write("log", "put back", THEN);
        agrees(way);
        assert_eq!(way.here().read("log").unwrap(), b"put back", "{}", way.name);
        way.in_step();
    });
}

#[test]
fn a_first_contact_that_was_cut_off_goes_on_where_it_was() {
    let sandbox = Sandbox::new();
    for (side, time) in [(&sandbox.a, THEN), (&sandbox.b, THEN + 5)] {
        fs::create_dir(side.at("d")).unwrap();
        for number in 0..2100 {
            side.write(format!("d/{number}"), "same", time);
        }
    }
    let kept = sandbox.a.at(".osync_workdir/state/settled-quicksync_task");
    let run = sandbox.quick().env("OSYNC_FAULT", "compared:1:kill -TERM $PPID").run();
    assert_ne!(run.status, Some(0), "{run}");
    assert!(kept.exists(), "{run}");
    let run = sandbox.sync(&["--verbose", "--log-conflicts"]);
    // What was written right before the run is not trusted.
    assert!(run.status == Some(0) && compared(&run) < 1000, "{run}");
    assert!(run.stdout.contains("There are no conflicts") && !kept.exists(), "{run}");
    assert_eq!(sandbox.a.details(), sandbox.b.details());
}

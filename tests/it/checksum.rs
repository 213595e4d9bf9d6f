//! CHECKSUM=yes: contents are compared where sizes and times agree, here and over ssh.

use crate::support::couple::Couple;
use crate::support::replicas::Sort;
use crate::support::trees::{Mtime, set_mtime};
use crate::support::ways::{Way, each, each_with_ordinary_user};
use std::fs;
use std::time::{Duration, Instant};

const ON: &str = "CHECKSUM=yes";

/// Another content of the same length, with the old time.
fn edit_unseen(side: &crate::support::sandbox::Replica, path: &str, content: &str, mtime: i64) {
    fs::write(side.at(path), content).unwrap();
    set_mtime(&side.at(path), Mtime::secs(mtime));
}

/// How many files each side read in a run.
fn read_counts(way: &Way) -> Vec<String> {
    let run = way.run_with(&["--verbose"]);
    assert_eq!(run.status, Some(0), "{}: {run}", way.name);
    let lines = run.stdout.lines().filter(|line| line.contains("to compare contents"));
    let numbers = lines.map(|line| line.split("read ").nth(1).unwrap().split(' ').next().unwrap());
    let counts: Vec<String> = numbers.map(str::to_owned).collect();
    assert_eq!(counts.len(), 2, "{run}");
    counts
}

/// A run after an edit that only the content shows. It warns of it, if the file was read in an
/// earlier run and had been left alone for two seconds by then.
fn sees_the_edit(way: &Way) {
    let run = way.run();
    assert!(matches!(run.status, Some(0 | 2)), "{}: {run}", way.name);
}

#[test]
fn a_change_that_neither_size_nor_time_shows_is_carried_over() {
    let play = |way: &Way| {
        way.here().make("f f old 1500000000\nf same\\n1 x 1500000000");
        way.fine();
        way.in_step();
        edit_unseen(way.here(), "f", "new", 1_500_000_000);
        sees_the_edit(way);
        assert_eq!(way.there().read("f").unwrap(), b"new", "{}", way.name);
        assert_eq!(way.there().backup(), "f f old\n", "{}", way.name);
        way.in_step();
        // and back
        edit_unseen(way.there(), "f", "two", 1_500_000_000);
        sees_the_edit(way);
        assert_eq!(way.here().read("f").unwrap(), b"two", "{}", way.name);
        way.in_step();
    };
    each(ON, play);
    each_with_ordinary_user(ON, play);
}

#[test]
fn without_the_setting_nothing_is_read_and_the_change_stays_where_it_is() {
    each("", |way| {
        way.here().make("f f old 1500000000");
        way.fine();
        edit_unseen(way.here(), "f", "new", 1_500_000_000);
        way.fine();
        assert_eq!(way.there().read("f").unwrap(), b"old", "{}", way.name);
    });
}

#[test]
fn replicas_that_meet_with_other_contents_are_a_conflict_and_the_loser_is_kept() {
    each(ON, |way| {
        for (side, content) in [(&way.sandbox.a, "aaa"), (&way.sandbox.b, "bbb")] {
            side.write("f", content, 1_500_000_000);
            side.write("same", "s", 1_500_000_000);
        }
        way.fine();
        assert_eq!(way.sandbox.b.contents(), "f f aaa\nf same s\n", "{}", way.name);
        assert_eq!(way.sandbox.b.backup(), "f f bbb\n", "{}", way.name);
        way.in_step();
    });
}

#[test]
fn unseen_changes_on_both_sides_are_a_conflict_and_the_loser_is_kept() {
    each(ON, |way| {
        way.here().make("f f old 1500000000");
        way.fine();
        way.fine();
        edit_unseen(&way.sandbox.a, "f", "aaa", 1_500_000_000);
        edit_unseen(&way.sandbox.b, "f", "bbb", 1_500_000_000);
        sees_the_edit(way);
        assert_eq!(way.sandbox.b.read("f").unwrap(), b"aaa", "{}", way.name);
        assert!(way.sandbox.b.backup().contains("bbb"), "{}", way.name);
        way.in_step();
    });
}

#[test]
fn an_unchanged_file_is_read_again_only_when_it_was_touched() {
    each(ON, |way| {
        way.here().make("f f old 1500000000\nf g text 1500000000");
        way.fine();
        // what was touched within the last seconds is not trusted yet
        let patience = Instant::now();
        while read_counts(way) != ["0", "0"] {
            assert!(patience.elapsed() < Duration::from_secs(60), "{}", way.name);
        }
        fs::rename(way.here().at("g"), way.here().at("h")).unwrap();
        fs::rename(way.here().at("h"), way.here().at("g")).unwrap();
        let expected = if way.here_is() == "initiator" { ["1", "0"] } else { ["0", "1"] };
        assert_eq!(read_counts(way), expected, "{}", way.name);
        way.in_step();
    });
}

#[test]
fn damage_that_only_the_content_shows_is_told_and_replaces_nothing_for_good() {
    each(&format!("{ON}\nCONFLICT_BACKUP=no"), |way| {
        way.here().make("f f good 1500000000");
        way.fine();
        let patience = Instant::now();
        while read_counts(way) != ["0", "0"] {
            assert!(patience.elapsed() < Duration::from_secs(60), "{}", way.name);
        }
        edit_unseen(way.here(), "f", "bad!", 1_500_000_000);
        let run = way.run();
        assert_eq!(run.status, Some(2), "{}: {run}", way.name);
        let told = format!("{}: f: its content changed", way.here_is());
        assert!((run.stdout.clone() + &run.stderr).contains(&told), "{}: {run}", way.name);
        assert_eq!(way.there().read("f").unwrap(), b"bad!", "{}", way.name);
        assert_eq!(way.there().backup(), "f f good\n", "{}", way.name);
        way.in_step();
    });
}

#[test]
fn a_machine_with_nothing_but_cksum_compares_by_it() {
    let couple = Couple::reached_by(Sort::Posix);
    let (a, b) = (couple.side(0), couple.side(1));
    a.make("f f old 1500000000\nf \\n\\\\odd x 1500000000\nf empty \"\" 1500000000");
    couple.sync_twice(ON);
    for (from, to, content) in [(a, b, "new"), (b, a, "two")] {
        edit_unseen(from, "f", content, 1_500_000_000);
        let run = couple.run(ON).run();
        assert!(matches!(run.status, Some(0 | 2)), "{run}");
        couple.sync_twice(ON);
        assert_eq!(to.read("f").unwrap(), content.as_bytes());
        assert!(couple.sandbox.log().contains("the CRC of cksum"));
    }
    assert_eq!(a.contents(), b.contents());
    // a conflict of what nobody ever compared: the loser is kept
    for (side, content) in [(a, "aaa"), (b, "bbb")] {
        side.write("g", content, 1_500_000_000);
    }
    couple.sync_twice(ON);
    assert!(b.backup().contains("f g bbb"), "{}", b.backup());
}

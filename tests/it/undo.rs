//! `osync undo`: both sides back to where they were before a run (spec 9).

use crate::properties::{Keeps, Settings, any_rounds, any_settings, config, quick};
use crate::support::couple::Couple;
use crate::support::history::{ANCHOR, Clock, Step, any_step};
use crate::support::model::is_within;
use crate::support::replicas::Sort;
use crate::support::sandbox::{Outcome, Replica, Run, Sandbox, fine};
use crate::support::trees::{Mtime, Node, Tree, What, escape, set_mode, set_mtime, whole};
use osync::testing::tree::RelPath;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use std::collections::BTreeSet;
use std::fs;

fn both(sides: [&Replica; 2]) -> [Vec<String>; 2] {
    sides.map(|side| whole(&side.tree()))
}

/// A command about the quicksync task, with the settings of its runs.
fn command(sandbox: &Sandbox, settings: Option<&Settings>, word: &str) -> Run {
    let (a, b) = (&sandbox.a.root, &sandbox.b.root);
    let mut run = sandbox.osync().arg(word).arg("--initiator").arg(a).arg("--target").arg(b);
    let of_runs = settings.map(|settings| quick(sandbox, settings).into_command());
    for (name, value) in of_runs.iter().flat_map(|run| run.get_envs()) {
        if let Some(value) = value {
            run = run.env(name, value);
        }
    }
    run
}

fn undo(sandbox: &Sandbox, settings: Option<&Settings>, args: &[&str]) -> Outcome {
    command(sandbox, settings, "undo").args(args).run()
}

/// What is different, for a message.
fn difference(expected: &[Vec<String>; 2], found: &[Vec<String>; 2]) -> String {
    let mut text = String::new();
    for side in [0, 1] {
        for line in expected[side].iter().filter(|line| !found[side].contains(line)) {
            text.push_str(&format!("side {side} lacks   {line}\n"));
        }
        for line in found[side].iter().filter(|line| !expected[side].contains(line)) {
            text.push_str(&format!("side {side} has too {line}\n"));
        }
    }
    text
}

proptest! {
    #![proptest_config(config(12))]

    #[test]
    fn any_run_of_any_history_can_be_undone_and_the_undo_too(
        settings in any_settings(false),
        rounds in any_rounds(false),
        stays in prop::collection::vec(any::<bool>(), 5),
        beside in any::<bool>(),
    ) {
        let keeps = Keeps { deleted: true, replaced: true };
        let settings = Settings { keeps, beside, ..settings };
        follow(&settings, &rounds, &stays)?;
    }

    #[test]
    fn what_was_changed_since_is_named_and_left_and_all_else_is_undone(
        settings in any_settings(false),
        rounds in any_rounds(false),
        edits in prop::collection::vec(prop::collection::vec(any_step(false), 1..4), 5),
    ) {
        let keeps = Keeps { deleted: true, replaced: true };
        let settings = Settings { keeps, detect_moves: false, ..settings };
        drift(&settings, &rounds, &edits)?;
    }

    #[test]
    fn what_was_not_kept_is_named_and_nothing_is_done(
        settings in any_settings(false),
        rounds in any_rounds(false),
    ) {
        let keeps = Keeps { deleted: false, replaced: false };
        let settings = Settings { keeps, ..settings };
        refuse(&settings, &rounds)?;
    }
}

fn begin(sandbox: &Sandbox) -> Clock {
    for replica in [&sandbox.a, &sandbox.b] {
        replica.write(ANCHOR, "anchor", 1_500_000_000);
    }
    Clock::default()
}

/// A random history, run by run.
struct Played<'s> {
    sandbox: Sandbox,
    settings: &'s Settings,
    clock: Clock,
}

/// A run that changed something, and what was there before it and after it.
struct Ran {
    before: [Vec<String>; 2],
    after: [Vec<String>; 2],
    run: Outcome,
}

impl<'s> Played<'s> {
    fn begin(settings: &'s Settings) -> Self {
        let sandbox = Sandbox::new();
        let clock = begin(&sandbox);
        fine(&quick(&sandbox, settings).run());
        Played { sandbox, settings, clock }
    }

    fn both(&self) -> [Vec<String>; 2] {
        both([&self.sandbox.a, &self.sandbox.b])
    }

    fn run(&self) -> Outcome {
        quick(&self.sandbox, self.settings).arg("--force-delete").run()
    }

    /// Edits both sides and runs; none if the run changed nothing.
    fn play(&mut self, round: &[Step]) -> Result<Option<Ran>, TestCaseError> {
        for step in round {
            self.clock.step([&self.sandbox.a.root, &self.sandbox.b.root], step);
        }
        let before = self.both();
        let run = self.run();
        prop_assert!(matches!(run.status, Some(0 | 2)), "{run}");
        let after = self.both();
        Ok((before != after).then_some(Ran { before, after, run }))
    }

    /// Both sides are as expected, and the next run leaves them so.
    fn idle(&self, expected: &[Vec<String>; 2], what: &str) -> Result<(), TestCaseError> {
        let found = self.both();
        prop_assert!(found == *expected, "{what}:\n{}", difference(expected, &found));
        let run = self.run();
        prop_assert!(matches!(run.status, Some(0 | 2)), "{what}: {run}");
        let found = self.both();
        prop_assert!(
            found == *expected,
            "{what}: the next run did something:\n{}\n{run}",
            difference(expected, &found)
        );
        Ok(())
    }
}

fn follow(settings: &Settings, rounds: &[Vec<Step>], stays: &[bool]) -> Result<(), TestCaseError> {
    let mut history = Played::begin(settings);
    for (round, stays) in rounds.iter().zip(stays) {
        let Some(Ran { before, after, run }) = history.play(round)? else { continue };
        let sandbox = &history.sandbox;
        let idle = |expected: &[Vec<String>; 2], what: &str| history.idle(expected, what);
        let undone = undo(sandbox, Some(settings), &[]);
        prop_assert!(undone.status == Some(0), "{undone}");
        idle(&before, &format!("undone: {undone}\nthe run: {run}"))?;
        let again = undo(sandbox, Some(settings), &[]);
        prop_assert!(again.status == Some(0), "{again}");
        idle(&after, &format!("the undo undone: {again}\nthe undo: {undone}\nthe run: {run}"))?;
        if *stays {
            let once_more = undo(sandbox, Some(settings), &[]);
            prop_assert!(once_more.status == Some(0), "{once_more}");
            idle(&before, &format!("undone for good: {once_more}"))?;
        }
    }
    Ok(())
}

fn trees(history: &Played<'_>) -> [Tree; 2] {
    [history.sandbox.a.tree(), history.sandbox.b.tree()]
}

/// Paths that are not the same in two trees.
fn changed(one: &Tree, other: &Tree) -> BTreeSet<Vec<u8>> {
    let alike = |a: &Node, b: &Node| {
        let is_dir = a.what == What::Dir && b.what == What::Dir;
        a.what == b.what && a.mode == b.mode && (is_dir || a.mtime == b.mtime)
    };
    let paths: BTreeSet<&Vec<u8>> = one.keys().chain(other.keys()).collect();
    let differs = |path: &&Vec<u8>| match (one.get(*path), other.get(*path)) {
        (Some(a), Some(b)) => !alike(a, b),
        _ => true,
    };
    paths.into_iter().filter(differs).cloned().collect()
}

/// Paths that somebody has changed, or given another file that looks the same.
fn edited_by_hand(before: &Tree, after: &Tree) -> BTreeSet<Vec<u8>> {
    let is_another = |(path, node): (&Vec<u8>, &Node)| {
        let is_dir = node.what == What::Dir;
        let was = before.get(path).filter(|was| was.ino != node.ino && !is_dir);
        was.map(|_| path.clone())
    };
    let others = after.iter().filter_map(is_another);
    changed(before, after).into_iter().chain(others).collect()
}

/// Somebody edits both sides between a run and its undo.
fn drift(
    settings: &Settings,
    rounds: &[Vec<Step>],
    edits: &[Vec<Step>],
) -> Result<(), TestCaseError> {
    let mut history = Played::begin(settings);
    for (round, edits) in rounds.iter().zip(edits) {
        for step in round {
            history.clock.step([&history.sandbox.a.root, &history.sandbox.b.root], step);
        }
        let before = trees(&history);
        let run = history.run();
        prop_assert!(matches!(run.status, Some(0 | 2)), "{run}");
        let after = trees(&history);
        let did: [BTreeSet<Vec<u8>>; 2] = [0, 1].map(|side| changed(&before[side], &after[side]));
        if did.iter().all(BTreeSet::is_empty) {
            continue;
        }
        for step in edits {
            history.clock.step([&history.sandbox.a.root, &history.sandbox.b.root], step);
        }
        let edited = trees(&history);
        let by_hand: [BTreeSet<Vec<u8>>; 2] =
            [0, 1].map(|side| edited_by_hand(&after[side], &edited[side]));
        let by_hand: BTreeSet<&Vec<u8>> = by_hand.iter().flatten().collect();
        let is_near = |path: &[u8]| {
            by_hand.iter().any(|other| is_within(path, other) || is_within(other, path))
        };
        let undone = undo(&history.sandbox, Some(settings), &["--json"]);
        let named: BTreeSet<String> = undone
            .stdout
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .filter_map(|line| Some(line["left"].as_str()?.to_owned()))
            .collect();
        let expected = if named.is_empty() { 0 } else { 2 };
        prop_assert!(undone.status == Some(expected), "{undone}");
        let found = trees(&history);
        let context = || format!("by hand: {by_hand:?}\n{undone}\nthe run: {run}");
        for path in &named {
            let is_known = |other: &&&Vec<u8>| {
                let other = RelPath::new(other.as_slice()).unwrap().shown();
                is_within(path.as_bytes(), other.as_bytes())
                    || is_within(other.as_bytes(), path.as_bytes())
            };
            prop_assert!(by_hand.iter().any(|other| is_known(&other)), "{path}: {}", context());
        }
        for side in [0, 1] {
            for path in before[side].keys().chain(edited[side].keys()) {
                let shown = escape(path);
                if !is_near(path) {
                    let differ = changed(&before[side], &found[side]);
                    let is_back = !differ.contains(path);
                    prop_assert!(is_back, "{shown} is not back on {side}: {}", context());
                } else if by_hand.contains(path) {
                    let differ = changed(&edited[side], &found[side]);
                    let is_left = !differ.contains(path);
                    prop_assert!(is_left, "{shown} was touched on {side}: {}", context());
                }
            }
        }
        let next = history.run();
        prop_assert!(matches!(next.status, Some(0 | 2)), "{next}");
    }
    Ok(())
}

fn refuse(settings: &Settings, rounds: &[Vec<Step>]) -> Result<(), TestCaseError> {
    let mut history = Played::begin(settings);
    for round in rounds {
        let Some(Ran { before, after, .. }) = history.play(round)? else { continue };
        let undone = undo(&history.sandbox, Some(settings), &[]);
        let found = history.both();
        match undone.status {
            Some(0) => prop_assert!(found == before, "{undone}\n{}", difference(&before, &found)),
            Some(1) => {
                prop_assert!(undone.stderr.contains("cannot be put back"), "{undone}");
                prop_assert!(found == after, "{undone}\n{}", difference(&after, &found));
                let forced = undo(&history.sandbox, Some(settings), &["--force"]);
                prop_assert!(forced.status == Some(2), "{forced}");
            }
            _ => prop_assert!(false, "{undone}"),
        }
        history.idle(&history.both(), "undone as far as that can be")?;
    }
    Ok(())
}

#[test]
fn a_run_is_undone_wherever_the_target_is() {
    for way in [Sort::Local, Sort::Ssh, Sort::BusyBox, Sort::Peer] {
        let couple = Couple::reached_by(way);
        let (a, b) = (couple.side(0), couple.side(1));
        let settings = "MAX_DELETE_PERCENT=0";
        a.make("d dir\nd dir/sub\nf dir/one 1\nf dir/sub/two 22\nf gone g\nf old name\nf both b");
        couple.sync(settings);
        a.write("dir/one", "changed", 1_600_000_000);
        a.remove("gone");
        a.remove("dir/sub");
        a.rename("old", "new \n\u{e4}");
        b.make("d made\nf made/in i");
        set_mode(&a.at("dir"), 0o711);
        a.write("both", "from a", 1_600_000_001);
        b.write("both", "from b", 1_600_000_002);
        for name in ["dir", "made"] {
            for side in [a, b].into_iter().filter(|side| side.has(name)) {
                set_mtime(&side.at(name), Mtime::secs(1_400_000_000));
            }
        }
        let before = both([a, b]);
        couple.sync(settings);
        let after = both([a, b]);
        fine(&couple.command(&["undo", "--dry"], settings).run());
        assert_eq!(both([a, b]), after, "{way:?}: a dry run does nothing");
        let undone = couple.command(&["undo"], settings).run();
        fine(&undone);
        let found = both([a, b]);
        assert!(found == before, "{way:?}: {undone}\n{}", difference(&before, &found));
        couple.sync_twice(settings);
        assert_eq!(both([a, b]), before, "{way:?}: the difference stands");
        let again = couple.command(&["undo"], settings).run();
        fine(&again);
        let found = both([a, b]);
        assert!(found == after, "{way:?}: {again}\n{}", difference(&after, &found));
        couple.sync_twice(settings);
    }
}

#[test]
fn paths_that_were_changed_since_are_named_and_left_and_all_others_are_undone() {
    let sandbox = Sandbox::new();
    let (a, b) = (&sandbox.a, &sandbox.b);
    a.make("f edited 1\nf synced 1\nf gone 1\nf plain 1\nf there 1\nd dir\nf dir/x 1");
    fine(&sandbox.sync(&[]));
    for name in ["edited", "synced", "plain", "there"] {
        a.write(name, "22", 1_600_000_000);
    }
    a.remove("gone");
    a.make("d new\nf new/one 1\nf new/two 2");
    fine(&sandbox.sync(&[]));
    a.write("synced", "333", 1_600_000_100);
    fine(&sandbox.sync(&[]));
    b.write("edited", "mine", 1_600_000_200);
    b.write("gone", "made again", 1_600_000_300);
    b.write("new/two", "mine too", 1_600_000_400);
    let undone = undo(&sandbox, None, &["2"]);
    assert_eq!(undone.status, Some(2), "{undone}");
    let mut named: Vec<&str> = ["edited", "synced", "gone", "new/two", "plain", "there", "new/one"]
        .into_iter()
        .filter(|name| undone.stderr.contains(&format!("{name}: it, or something")))
        .collect();
    named.sort_unstable();
    assert_eq!(named, ["edited", "gone", "new/two", "synced"], "{undone}");
    let read = |name: &str| String::from_utf8(b.read(name).unwrap_or_default()).unwrap();
    for (name, content) in [
        ("edited", "mine"),
        ("synced", "333"),
        ("gone", "made again"),
        ("plain", "1"),
        ("there", "1"),
        ("new/one", ""),
        ("new/two", "mine too"),
    ] {
        assert_eq!(read(name), content, "{name}: {undone}");
    }
    fine(&sandbox.sync(&[]));
    assert_eq!(a.read("edited"), Some(b"mine".to_vec()), "what was left goes on as ever");
    assert_eq!((a.read("plain"), b.read("plain")), (Some(b"22".to_vec()), Some(b"1".to_vec())));
}

#[test]
fn a_difference_after_an_undo_is_listed_until_somebody_changes_something() {
    let sandbox = Sandbox::new();
    let (a, b) = (&sandbox.a, &sandbox.b);
    a.make("f one 1\nf two 1\nf x x");
    fine(&sandbox.sync(&[]));
    a.write("one", "22", 1_600_000_000);
    a.make("f three 3");
    fine(&sandbox.sync(&[]));
    fine(&undo(&sandbox, None, &[]));
    fine(&sandbox.sync(&[]));
    assert!(!b.has("three"), "it stands");
    let listed = || {
        let run = command(&sandbox, None, "conflicts").run();
        fine(&run);
        let lines = run.stdout.lines().filter(|line| line.contains("differs since undo"));
        lines.map(|line| line.split(':').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed(), ["one", "three"]);
    let runs = command(&sandbox, None, "history").run();
    assert!(runs.stdout.contains("2 paths differ since undo"), "{runs}");
    let one = command(&sandbox, None, "history").arg("one").run();
    assert!(one.stdout.contains("both sides differ since undo: one"), "{one}");
    let config = sandbox.config("t.conf", "INSTANCE_ID=quicksync_task\n");
    let status = || sandbox.osync().arg("status").arg(&config).run();
    assert!(status().stdout.contains("2 paths differ since undo"), "{}", status());
    b.write("one", "edited", 1_500_000_000);
    a.write("three", "4", 1_700_000_000);
    fine(&sandbox.sync(&[]));
    assert_eq!(a.read("one"), Some(b"edited".to_vec()), "a later edit goes over");
    assert_eq!(b.read("three"), Some(b"4".to_vec()));
    assert_eq!(listed(), [""; 0]);
    assert!(!status().stdout.contains("since undo"), "{}", status());
}

#[test]
fn a_file_that_was_renamed_and_edited_gets_its_name_and_its_content_back() {
    let sandbox = Sandbox::new();
    let (a, b) = (&sandbox.a, &sandbox.b);
    a.make("f old 1\nf x x");
    fine(&sandbox.sync(&[]));
    let before = whole(&b.tree());
    a.rename("old", "new");
    a.write("new", "22", 1_600_000_000);
    fine(&sandbox.sync(&[]));
    let mine = whole(&a.tree());
    fine(&undo(&sandbox, None, &[]));
    assert_eq!(whole(&b.tree()), before);
    fine(&sandbox.sync(&[]));
    assert_eq!((&whole(&a.tree()), &whole(&b.tree())), (&mine, &before), "it stands");
    fine(&undo(&sandbox, None, &[]));
    assert_eq!(both([a, b]), [mine.clone(), mine], "the undo is undone");
}

#[test]
fn a_difference_after_an_undo_ends_with_the_version_that_is_taken() {
    for way in [Sort::Local, Sort::Ssh, Sort::Peer] {
        let couple = Couple::reached_by(way);
        let (a, b) = (couple.side(0), couple.side(1));
        a.make("f mine 1\nf yours 1\nf both.txt 1\nf mode 1\nf x x");
        couple.sync("");
        for path in ["mine", "yours", "both.txt"] {
            a.write(path, "22", 1_600_000_000);
        }
        set_mode(&a.at("mode"), 0o600);
        a.make("f new/kept k\nf new/* k\nf gone/one g");
        couple.sync("");
        fine(&couple.command(&["undo"], "").run());
        couple.sync("");
        let take =
            |path: &str, which: &str| couple.command(&["conflicts", "take", path, which], "").run();
        if way == Sort::Local {
            let diff = couple.command(&["conflicts", "diff", "mine"], "").run();
            fine(&diff);
            assert!(diff.stdout.contains("-22\n") && diff.stdout.contains("+1\n"), "{diff}");
        }
        let refused = take("new", "both");
        assert_eq!(refused.status, Some(1), "{way:?}: {refused}");
        for (path, which) in [
            ("mine", "initiator"),
            ("yours", "target"),
            ("both.txt", "both"),
            ("mode", "initiator"),
            ("new", "initiator"),
            ("gone", "target"),
        ] {
            fine(&take(path, which));
            let again = take(path, which);
            assert_eq!(again.status, Some(1), "{way:?}: it is closed: {again}");
        }
        couple.sync_twice("");
        assert_eq!(a.contents(), b.contents(), "{way:?}");
        let read = |path: &str| b.read(path).map(|read| String::from_utf8(read).unwrap());
        assert_eq!(read("mine").as_deref(), Some("22"), "{way:?}");
        assert_eq!(read("yours").as_deref(), Some("1"), "{way:?}");
        assert_eq!(read("both.txt").as_deref(), Some("22"), "{way:?}");
        assert_eq!(read("new/kept").as_deref(), Some("k"), "{way:?}");
        assert!(!a.has("gone") && !b.has("gone"), "{way:?}");
        assert_eq!(b.tree()[b"mode".as_slice()].mode & 0o777, 0o600, "{way:?}");
        let names = a.contents();
        assert!(names.contains("both.conflict-target-2"), "{way:?}: {names}");
        let listed = couple.command(&["conflicts", "--json"], "").run();
        assert_eq!(listed.stdout, "", "{way:?}");
    }
}

#[test]
fn what_cannot_be_undone_is_said_in_one_line() {
    let sandbox = Sandbox::new();
    let none = undo(&sandbox, None, &[]);
    assert_eq!(none.status, Some(1), "{none}");
    sandbox.a.make("f one 1\nf x x");
    fine(&sandbox.sync(&[]));
    sandbox.a.write("one", "22", 1_600_000_000);
    fine(&sandbox.sync(&[]));
    for (args, status, said) in [
        (vec!["7"], 1, "run 7 is not in the journal"),
        (vec!["x"], 128, "is not the number of a run"),
        (vec!["1", "2"], 128, "one run at a time"),
    ] {
        let run = undo(&sandbox, None, &args);
        assert_eq!(run.status, Some(status), "{run}");
        assert!(run.stderr.contains(said), "{run}");
    }
    fs::remove_file(sandbox.b.at(".osync_workdir/backup/one")).unwrap();
    let lost = undo(&sandbox, None, &[]);
    assert_eq!(lost.status, Some(1), "{lost}");
    assert!(lost.stderr.contains("one: it cannot be put back"), "{lost}");
    assert_eq!(sandbox.b.read("one"), Some(b"22".to_vec()));
    fine(&sandbox.sync(&[]));
}

#[test]
fn an_undo_that_is_killed_loses_nothing_and_deletes_nothing() {
    for step in ["undo noted", "undo made way", "setting aside", "renaming", "undone"] {
        let sandbox = Sandbox::new();
        let (a, b) = (&sandbox.a, &sandbox.b);
        a.make("f one 1\nf old o\nf gone g\nf x x");
        fine(&sandbox.sync(&[]));
        a.write("one", "22", 1_600_000_000);
        a.rename("old", "new");
        a.remove("gone");
        a.make("f made m");
        fine(&sandbox.sync(&[]));
        let run = command(&sandbox, None, "undo").env("OSYNC_FAULT", format!("{step}:1"));
        let killed = run.run();
        assert_eq!(killed.status, None, "{step}: {killed}");
        let next = sandbox.sync(&[]);
        assert!(matches!(next.status, Some(0 | 2)), "{step}: {next}");
        let kept = crate::support::kept::Kept::by(&sandbox);
        for content in ["22", "o", "m"] {
            assert!(
                a.contents().contains(content) && b.contents().contains(content)
                    || kept.holds(content.as_bytes()),
                "{step}: {content} is lost: {next}"
            );
        }
        for name in ["one", "made"] {
            assert!(a.has(name) && b.has(name), "{step}: {name} was taken for deleted: {next}");
        }
        assert_eq!(a.contents(), b.contents(), "{step}");
    }
}

/// Undoes the last run again and again: after each undo both sides are as expected, and a run
/// finds nothing to do.
fn undo_in_turn(sandbox: &Sandbox, expected: &[&[Vec<String>; 2]]) {
    let sides = [&sandbox.a, &sandbox.b];
    for (turn, expected) in expected.iter().enumerate() {
        let undone = undo(sandbox, None, &[]);
        fine(&undone);
        let found = both(sides);
        assert!(found == **expected, "{turn}: {undone}\n{}", difference(expected, &found));
        fine(&sandbox.sync(&[]));
        assert_eq!(both(sides), **expected, "{turn}");
    }
}

#[test]
fn what_was_moved_into_a_new_directory_and_added_to_comes_back_with_an_undone_undo() {
    let sandbox = Sandbox::new();
    let (a, b) = (&sandbox.a, &sandbox.b);
    a.make("d old\nf old/in 1\nf x x");
    fine(&sandbox.sync(&[]));
    a.make("d made");
    a.rename("old", "made/new");
    a.write("made/new/more", "22", 1_600_000_000);
    for name in ["made/new", "made"] {
        set_mtime(&a.at(name), Mtime::secs(1_400_000_000));
    }
    let before = both([a, b]);
    fine(&sandbox.sync(&[]));
    let after = both([a, b]);
    undo_in_turn(&sandbox, &[&before, &after, &before, &after]);
}

#[test]
fn a_link_whose_time_alone_went_over_gets_its_time_back() {
    let sandbox = Sandbox::new();
    let (a, b) = (&sandbox.a, &sandbox.b);
    a.make("f x x");
    std::os::unix::fs::symlink("x", a.at("link")).unwrap();
    set_mtime(&a.at("link"), Mtime::secs(1_500_000_000));
    fine(&sandbox.sync(&[]));
    set_mtime(&b.at("link"), Mtime::secs(1_400_000_000));
    let before = both([a, b]);
    fine(&sandbox.sync(&[]));
    let after = both([a, b]);
    assert_ne!(before, after, "the time went over");
    undo_in_turn(&sandbox, &[&before, &after]);
}

#[test]
fn what_both_sides_got_alike_since_a_run_is_left_when_it_is_undone() {
    let sandbox = Sandbox::new();
    let (a, b) = (&sandbox.a, &sandbox.b);
    a.make("f one 1\nf x x");
    fine(&sandbox.sync(&[]));
    a.make("d new\nf new/in 1");
    a.write("one", "22", 1_600_000_000);
    fine(&sandbox.sync(&[]));
    for side in [a, b] {
        side.write("new/alike", "mine", 1_600_000_100);
        side.write("one", "333", 1_600_000_200);
    }
    let undone = undo(&sandbox, None, &[]);
    assert_eq!(undone.status, Some(2), "{undone}");
    for side in [a, b] {
        assert_eq!(side.read("new/alike"), Some(b"mine".to_vec()), "{undone}");
        assert_eq!(side.read("one"), Some(b"333".to_vec()), "{undone}");
    }
    assert!(a.has("new/in") && !b.has("new/in"), "{undone}");
}

#[test]
fn a_directory_that_was_deleted_once_something_had_moved_out_of_it_comes_back_with_its_time() {
    for instead in ["nothing", "a file"] {
        let sandbox = Sandbox::new();
        let (a, b) = (&sandbox.a, &sandbox.b);
        a.make("d c\nd c/gone\nf c/gone/moves 1\nf c/gone/goes 2\nf x x");
        fine(&sandbox.sync(&[]));
        b.make("d c/new");
        fs::rename(b.at("c/gone/moves"), b.at("c/new/moves")).unwrap();
        b.remove("c/gone");
        if instead == "a file" {
            b.write("c/gone", "a file", 1_600_000_000);
        }
        let before = both([a, b]);
        fine(&sandbox.sync(&[]));
        assert!(a.has("c/new/moves") && !a.has("c/gone/goes"), "{instead}");
        let undone = undo(&sandbox, None, &[]);
        assert_eq!(undone.status, Some(0), "{instead}: {undone}");
        assert_eq!(both([a, b]), before, "{instead}: {undone}");
    }
}

#[test]
fn what_would_stand_in_a_directory_that_is_gone_since_is_left_when_a_run_is_undone() {
    let sandbox = Sandbox::new();
    let (a, b) = (&sandbox.a, &sandbox.b);
    a.make("d dir\nf dir/one 1\nf dir/two 2\nf out o\nf x x");
    fine(&sandbox.sync(&[]));
    a.remove("dir/one");
    fine(&sandbox.sync(&[]));
    b.remove("dir");
    b.write("dir", "a file now", 1_600_000_000);
    let undone = undo(&sandbox, None, &[]);
    assert_eq!(undone.status, Some(2), "{undone}");
    assert!(undone.stderr.contains("dir/one: it, or something"), "{undone}");
    assert_eq!(b.read("dir"), Some(b"a file now".to_vec()), "{undone}");
}

#[test]
fn what_is_excluded_in_a_directory_that_a_run_made_stays_when_the_run_is_undone() {
    let sandbox = Sandbox::new();
    let (a, b) = (&sandbox.a, &sandbox.b);
    let exclude = |run: Run| run.env("RSYNC_EXCLUDE_PATTERN", "*.own");
    a.make("f x x");
    fine(&exclude(sandbox.quick()).run());
    a.make("d new\nf new/in 1");
    fine(&exclude(sandbox.quick()).run());
    b.write("new/mine.own", "mine", 1_600_000_000);
    let undone = exclude(command(&sandbox, None, "undo")).run();
    assert_eq!(undone.status, Some(2), "{undone}");
    assert_eq!(b.read("new/mine.own"), Some(b"mine".to_vec()), "{undone}");
    assert!(!b.has("new/in") && a.has("new/in"), "{undone}");
}

#[test]
fn what_lay_in_a_directory_whose_name_something_else_has_now_is_left_when_a_run_is_undone() {
    for what in ["a file", "a link"] {
        let sandbox = Sandbox::new();
        let (a, b) = (&sandbox.a, &sandbox.b);
        a.make("d gone\nd gone/sub\nf gone/sub/one 1\nf gone/two 2\nd other\nf plain p\nf x x");
        fine(&sandbox.sync(&[]));
        a.remove("gone");
        a.remove("plain");
        fine(&sandbox.sync(&[]));
        match what {
            "a file" => b.write("gone", "mine", 1_600_000_000),
            _ => std::os::unix::fs::symlink("other", b.at("gone")).unwrap(),
        }
        let there = b.tree()[b"gone".as_slice()].clone();
        let undone = undo(&sandbox, None, &[]);
        assert_eq!(undone.status, Some(2), "{what}: {undone}");
        for path in ["gone/sub/one", "gone/two"] {
            let named = format!("{path}: it, or something");
            assert!(undone.stderr.contains(&named), "{what}: {undone}");
        }
        assert_eq!(b.tree()[b"gone".as_slice()].what, there.what, "{what}: {undone}");
        assert_eq!(b.tree()[b"other".as_slice()].what, What::Dir, "{what}: {undone}");
        assert!(!b.has("other/two"), "{what}: {undone}");
        assert_eq!(b.read("plain"), Some(b"p".to_vec()), "{what}: the rest is undone: {undone}");
    }
}

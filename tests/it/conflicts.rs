//! `osync conflicts show|diff|take`: somebody decides (spec 9).

use crate::support::couple::Couple;
use crate::support::replicas::Sort;
use crate::support::sandbox::{Outcome, Replica, fine};
use crate::support::trees::{escape, set_mode, whole};

/// A task in which the target's version of each path has won against the initiator's.
fn decided(couple: &Couple, paths: &[&str]) {
    for path in paths {
        couple.side(0).write(path, "base\n", 1_500_000_000);
    }
    couple.side(0).make("f other x");
    couple.sync("");
    for path in paths {
        couple.side(0).write(path, "initiator\n", 1_600_000_000);
        couple.side(1).write(path, "target\n", 1_600_000_009);
    }
    couple.sync("");
}

fn conflicts(couple: &Couple, words: &[&str]) -> Outcome {
    couple.command(&[&["conflicts"], words].concat(), "").run()
}

fn open(couple: &Couple) -> Vec<String> {
    let run = conflicts(couple, &["--json"]);
    fine(&run);
    let rows = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap());
    rows.map(|row: serde_json::Value| row["path"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_version_that_is_taken_is_on_both_sides_after_the_next_run() {
    for way in [Sort::Local, Sort::Ssh, Sort::Peer] {
        let couple = Couple::reached_by(way);
        decided(&couple, &["loser.txt", "winner.txt", "both.txt"]);
        assert_eq!(open(&couple), ["both.txt", "loser.txt", "winner.txt"]);
        for words in [
            ["take", "loser.txt", "initiator"],
            ["take", "winner.txt", "target"],
            ["take", "both.txt", "both"],
        ] {
            fine(&conflicts(&couple, &words));
        }
        assert_eq!(open(&couple), [""; 0], "{way:?}");
        couple.sync_twice("");
        for side in [0, 1] {
            let replica = couple.side(side);
            let read =
                |path: &str| String::from_utf8(replica.read(path).unwrap_or_default()).unwrap();
            assert_eq!(read("loser.txt"), "initiator\n", "{way:?}, {side}");
            assert_eq!(read("winner.txt"), "target\n", "{way:?}, {side}");
            assert_eq!(read("both.txt"), "target\n", "{way:?}, {side}");
            let names = replica.contents();
            assert!(names.contains("both.conflict-initiator-20"), "{way:?}, {side}: {names}");
        }
        let again = conflicts(&couple, &["take", "loser.txt", "initiator"]);
        assert!(again.status == Some(1) && again.stderr.contains("no conflict of"), "{again}");
    }
}

#[test]
fn both_versions_are_shown_and_compared() {
    let couple = Couple::reached_by(Sort::Local);
    decided(&couple, &["doc.txt"]);
    let shown = conflicts(&couple, &["show", "doc.txt"]);
    fine(&shown);
    assert!(shown.stdout.contains("the target's version won"), "{shown}");
    let diff = conflicts(&couple, &["diff", "doc.txt"]);
    fine(&diff);
    assert!(diff.stdout.contains("-initiator\n+target"), "{diff}");
    let own = couple.command(&["conflicts", "diff", "doc.txt"], "").env("DIFF", "echo -n").run();
    fine(&own);
    assert!(own.stdout.contains("doc.txt"), "{own}");
    for words in [vec!["take", "doc.txt"], vec!["diff"], vec!["take", "doc.txt", "me"]] {
        assert_eq!(conflicts(&couple, &words).status, Some(128), "{words:?}");
    }
    assert_eq!(open(&couple), ["doc.txt"], "nothing of this closed it");
}

#[test]
fn a_deletion_that_lost_can_be_taken_too() {
    let couple = Couple::reached_by(Sort::Local);
    couple.side(0).make("f doc 1\nf other x");
    couple.sync("");
    couple.side(0).remove("doc");
    couple.side(1).write("doc", "edited", 1_700_000_000);
    couple.sync("");
    assert_eq!(open(&couple), ["doc"]);
    fine(&conflicts(&couple, &["take", "doc", "initiator"]));
    couple.sync("");
    assert!(!couple.side(0).has("doc") && !couple.side(1).has("doc"));
}

#[test]
fn a_loser_that_is_no_longer_kept_is_not_taken_and_the_conflict_stays_open() {
    let couple = Couple::reached_by(Sort::Local);
    decided(&couple, &["doc"]);
    std::fs::remove_file(couple.side(0).at(".osync_workdir/backup/doc")).unwrap();
    let gone = conflicts(&couple, &["take", "doc", "initiator"]);
    assert!(gone.status == Some(1) && gone.stderr.contains("no longer kept"), "{gone}");
    assert_eq!(gone.stderr.lines().count(), 1, "{gone}");
    assert_eq!(open(&couple), ["doc"]);
    assert_eq!(couple.side(0).read("doc"), Some(b"target\n".to_vec()));
}

const BESIDE: &str = "CONFLICT_COPY=beside";

/// The names of a replica that a loser of a path has.
fn copies(replica: &Replica, of: &str) -> Vec<String> {
    let names = replica.tree().into_keys().map(|path| escape(&path));
    names.filter(|name| name.contains(&format!("{of}.conflict-"))).collect()
}

/// A task in which both sides have changed `doc.txt`; the target's version is the newer one.
fn before_a_conflict(couple: &Couple) {
    couple.side(0).write("doc.txt", "base\n", 1_500_000_000);
    couple.side(0).make("f other x");
    couple.sync(BESIDE);
    couple.side(0).write("doc.txt", "initiator\n", 1_600_000_000);
    couple.side(1).write("doc.txt", "target\n", 1_600_000_009);
}

fn beside(couple: &Couple, words: &[&str]) -> Outcome {
    couple.command(&[&["conflicts"], words].concat(), BESIDE).run()
}

fn read(replica: &Replica, path: &str) -> String {
    String::from_utf8(replica.read(path).unwrap_or_default()).unwrap()
}

#[test]
fn what_lost_stands_beside_on_both_sides_if_wanted() {
    for way in [Sort::Local, Sort::Ssh, Sort::BusyBox, Sort::Peer] {
        let couple = Couple::reached_by(way);
        let [a, b] = [couple.side(0), couple.side(1)];
        let hostile = "-q'u\no\"te $(x) \u{e4}\\.t x";
        a.make("d d");
        for path in ["doc.txt", hostile, "d/kind"] {
            a.write(path, "base\n", 1_500_000_000);
        }
        couple.sync(BESIDE);
        for path in ["doc.txt", hostile] {
            a.write(path, "initiator\n", 1_600_000_000);
            b.write(path, "target\n", 1_600_000_009);
        }
        set_mode(&a.at("doc.txt"), 0o640);
        a.write("d/kind", "initiator\n", 1_600_000_000);
        b.remove("d/kind");
        b.make("d d/kind\nf d/kind/in lost\nd d/kind/sub\nf d/kind/sub/in lost");
        let dry = couple.command(&["sync", "--dry"], BESIDE).run();
        assert_eq!(dry.status, Some(0), "{dry}");
        assert!(dry.stdout.contains("doc.conflict-initiator-"), "{dry}");
        couple.sync_twice(BESIDE);
        assert_eq!(a.contents(), b.contents(), "{way:?}");
        assert_eq!(read(a, "doc.txt"), "target\n", "{way:?}");
        assert_eq!(read(a, "d/kind"), "initiator\n", "{way:?}");
        for replica in [a, b] {
            let doc = copies(replica, "doc");
            assert!(doc.len() == 1 && doc[0].ends_with(".txt"), "{way:?}: {doc:?}");
            assert_eq!(read(replica, &doc[0]), "initiator\n", "{way:?}");
            assert_eq!(replica.tree()[doc[0].as_bytes()].mode & 0o777, 0o640, "{way:?}");
            let kind = copies(replica, "d/kind");
            assert_eq!(kind.len(), 4, "{way:?}: {kind:?}");
            assert_eq!(copies(replica, "x").len(), 0);
            assert!(!replica.has(".osync_workdir/backup/doc.txt"), "{way:?}: it is not kept twice");
            let of_all = copies(replica, "").len();
            assert_eq!(of_all, 6, "{way:?}: {}", replica.contents());
        }
        let listed = beside(&couple, &["--json"]);
        fine(&listed);
        assert_eq!(listed.stdout.matches("\"kept_in\":\"beside\"").count(), 3, "{listed}");
        let diff = beside(&couple, &["diff", "doc.txt"]);
        fine(&diff);
        assert!(diff.stdout.contains("-initiator\n+target"), "{diff}");
    }
}

#[test]
fn what_stands_beside_is_decided_like_any_conflict() {
    for way in [Sort::Local, Sort::Ssh, Sort::Peer] {
        for (words, expected, has_copy) in [
            (&["take", "doc.txt", "initiator"][..], "initiator\n", false),
            (&["take", "doc.txt", "target"], "target\n", false),
            (&["take", "doc.txt", "both"], "target\n", true),
            (&["done", "doc.txt"], "target\n", true),
        ] {
            let couple = Couple::reached_by(way);
            before_a_conflict(&couple);
            couple.sync(BESIDE);
            fine(&beside(&couple, words));
            assert_eq!(open(&couple), [""; 0], "{way:?} {words:?}");
            couple.sync_twice(BESIDE);
            for side in [0, 1] {
                let replica = couple.side(side);
                assert_eq!(read(replica, "doc.txt"), expected, "{way:?} {words:?} {side}");
                assert_eq!(!copies(replica, "doc").is_empty(), has_copy, "{way:?} {words:?}");
            }
            let kept = crate::support::kept::Kept::by(&couple.sandbox);
            let other = if expected == "target\n" { "initiator\n" } else { "target\n" };
            assert!(has_copy || kept.holds(other.as_bytes()), "{way:?} {words:?}: it is kept");
        }
    }
}

#[test]
fn a_copy_beside_is_a_file_like_any_other_and_its_deletion_decides_the_conflict() {
    let couple = Couple::reached_by(Sort::Local);
    let [a, b] = [couple.side(0), couple.side(1)];
    before_a_conflict(&couple);
    couple.sync(BESIDE);
    let copy = copies(b, "doc").remove(0);
    b.write(&copy, "edited\n", 1_700_000_000);
    couple.sync(BESIDE);
    assert_eq!(read(a, &copy), "edited\n");
    assert_eq!(open(&couple), ["doc.txt"]);
    b.remove(&copy);
    couple.sync(BESIDE);
    assert!(!a.has(&copy));
    assert_eq!(open(&couple), [""; 0]);
    let late = beside(&couple, &["take", "doc.txt", "initiator"]);
    assert_eq!(late.status, Some(1), "{late}");
}

#[test]
fn a_copy_that_is_gone_is_not_taken_and_nothing_is_changed() {
    let couple = Couple::reached_by(Sort::Local);
    before_a_conflict(&couple);
    couple.sync(BESIDE);
    let copy = copies(couple.side(0), "doc").remove(0);
    couple.side(0).remove(&copy);
    for which in ["initiator", "both"] {
        let gone = beside(&couple, &["take", "doc.txt", which]);
        assert!(gone.status == Some(1) && gone.stderr.contains("is not there any more"), "{gone}");
        assert_eq!(gone.stderr.lines().count(), 1, "{gone}");
    }
    assert_eq!(open(&couple), ["doc.txt"]);
    assert_eq!(read(couple.side(0), "doc.txt"), "target\n");
}

#[test]
fn a_run_that_put_something_beside_is_undone_and_the_undo_too() {
    for way in [Sort::Local, Sort::Ssh, Sort::Peer] {
        let couple = Couple::reached_by(way);
        let [a, b] = [couple.side(0), couple.side(1)];
        a.write("kind", "base\n", 1_500_000_000);
        before_a_conflict(&couple);
        a.write("kind", "initiator\n", 1_600_000_000);
        b.remove("kind");
        b.make("d kind\nf kind/in lost");
        let all = || [a, b].map(|side| whole(&side.tree()));
        let before = all();
        couple.sync(BESIDE);
        let after = all();
        for (turn, expected) in [&before, &after, &before].into_iter().enumerate() {
            fine(&couple.command(&["undo"], BESIDE).run());
            assert_eq!(all(), *expected, "{way:?} {turn}");
            couple.sync_twice(BESIDE);
            assert_eq!(all(), *expected, "{way:?} {turn}: the next run has nothing to do");
        }
    }
}

#[test]
fn a_plan_names_the_copy_and_is_carried_out_with_that_name() {
    let couple = Couple::reached_by(Sort::Local);
    before_a_conflict(&couple);
    let file = couple.sandbox.path("plan");
    let plan = couple.command(&["plan", "-o", file.to_str().unwrap()], BESIDE).run();
    assert_eq!(plan.status, Some(4), "{plan}");
    // the second of the date has passed
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let made = now().as_secs();
    while now().as_secs() == made {
        std::thread::yield_now();
    }
    let apply = couple.sandbox.osync().arg("apply").arg(&file).run();
    fine(&apply);
    let copy = copies(couple.side(0), "doc").remove(0);
    assert!(plan.stdout.contains(&copy), "{copy}: {plan}");
    assert_eq!(couple.side(0).contents(), couple.side(1).contents());
    couple.sync_twice(BESIDE);
}

#[test]
fn a_run_that_is_killed_while_something_goes_beside_loses_nothing() {
    for step in ["before a batch", "renaming", "an operation is done", "after a batch", "applied"] {
        let couple = Couple::reached_by(Sort::Local);
        before_a_conflict(&couple);
        let run = couple.run(BESIDE).env("OSYNC_FAULT", format!("{step}:1")).run();
        assert_eq!(run.status, None, "{step}: {run}");
        let next = couple.run(BESIDE).run();
        assert!(matches!(next.status, Some(0 | 2)), "{step}: {next}");
        couple.sync_twice(BESIDE);
        for side in [0, 1] {
            let replica = couple.side(side);
            assert_eq!(read(replica, "doc.txt"), "target\n", "{step} {side}: {next}");
            let copies = copies(replica, "doc");
            assert_eq!(copies.len(), 1, "{step} {side}: {copies:?}");
            assert_eq!(read(replica, &copies[0]), "initiator\n", "{step} {side}");
        }
    }
}

#[test]
fn a_decision_that_is_killed_deletes_nothing() {
    for step in ["setting aside", "room made for a version", "renaming"] {
        let couple = Couple::reached_by(Sort::Local);
        before_a_conflict(&couple);
        couple.sync(BESIDE);
        let take = couple.command(&["conflicts", "take", "doc.txt", "initiator"], BESIDE);
        let killed = take.env("OSYNC_FAULT", format!("{step}:1")).run();
        assert_eq!(killed.status, None, "{step}: {killed}");
        let next = couple.run(BESIDE).run();
        assert!(matches!(next.status, Some(0 | 2)), "{step}: {next}");
        assert!(couple.side(0).has("doc.txt") && couple.side(1).has("doc.txt"), "{step}: {next}");
        assert_eq!(couple.side(0).contents(), couple.side(1).contents(), "{step}");
    }
}

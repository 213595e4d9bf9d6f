//! `osync conflicts show|diff|take`: somebody decides (spec 9).

use crate::support::couple::Couple;
use crate::support::replicas::Sort;
use crate::support::sandbox::{Outcome, fine};

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

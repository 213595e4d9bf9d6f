//! What the settings of conflicts, deletions, resuming and waiting do to a run (spec 2,
//! "Keys"). `tests/data/key-effects.txt` names these tests.

use crate::support::sandbox::{Outcome, Run, Sandbox};
use std::fs;
use std::time::{Duration, Instant};

fn with(sandbox: &Sandbox, settings: &[(&str, &str)]) -> Run {
    settings.iter().fold(sandbox.quick(), |run, (key, value)| run.env(key, value))
}

fn run(sandbox: &Sandbox, settings: &[(&str, &str)]) -> Outcome {
    let run = with(sandbox, settings).run();
    assert_eq!(run.status, Some(0), "{settings:?} {run}");
    run
}

/// Both sides have changed `f`; the target's is the newer one if `newer` says so.
fn in_conflict(newer: i64) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.a.write("f", "before", 1_500_000_000);
    run(&sandbox, &[]);
    sandbox.a.write("f", "initiator's", 1_600_000_000);
    sandbox.b.write("f", "target's!", 1_600_000_000 + newer);
    sandbox
}

#[test]
fn who_wins_a_conflict_is_decided_by_the_settings() {
    for (newer, settings, winner) in [
        (0, &[][..], "initiator's"),
        (0, &[("CONFLICT_PREVALANCE", "target")], "target's!"),
        (0, &[("CONFLICT_PREVALENCE", "target")], "target's!"),
        (10, &[("CONFLICT_PREVALANCE", "initiator")], "target's!"),
        (10, &[("FORCE_CONFLICT_PREVALANCE", "yes")], "initiator's"),
        (
            -10,
            &[("FORCE_CONFLICT_PREVALANCE", "yes"), ("CONFLICT_PREVALANCE", "target")],
            "target's!",
        ),
    ] {
        let sandbox = in_conflict(newer);
        run(&sandbox, settings);
        for replica in [&sandbox.a, &sandbox.b] {
            assert_eq!(replica.read("f").unwrap(), winner.as_bytes(), "{newer} {settings:?}");
        }
    }
}

#[test]
fn conflicts_are_listed_if_wanted() {
    for (settings, listed) in [
        (&[][..], false),
        (&[("LOG_CONFLICTS", "yes")], true),
        (&[("ALERT_CONFLICTS", "yes")], true),
    ] {
        let sandbox = in_conflict(10);
        let run = run(&sandbox, settings);
        let line = format!("{} << >> {}", sandbox.a.at("f").display(), sandbox.b.at("f").display());
        assert_eq!(run.stdout.contains(&line), listed, "{settings:?} {run}");
    }
}

#[test]
fn what_an_update_overwrites_is_kept_if_wanted() {
    for (settings, kept) in [
        (&[][..], 1),
        (&[("CONFLICT_BACKUP", "no")], 0),
        (&[("CONFLICT_BACKUP_MULTIPLE", "yes")], 2),
    ] {
        let sandbox = Sandbox::new();
        for n in 0..3 {
            sandbox.a.write("f", format!("version {n}"), 1_600_000_000 + n);
            run(&sandbox, settings);
        }
        assert_eq!(sandbox.b.backup().lines().count(), kept, "{settings:?}");
    }
}

#[test]
fn deletions_are_soft_skipped_or_neither() {
    for (settings, there, kept) in [
        (&[][..], false, true),
        (&[("SOFT_DELETE", "no")], false, false),
        (&[("SKIP_DELETION", "target")], true, false),
        (&[("SKIP_DELETION", "initiator")], false, true),
        (&[("SKIP_DELETION", "initiator,target")], true, false),
    ] {
        let sandbox = Sandbox::new();
        sandbox.a.make("f gone x\nf stays y");
        run(&sandbox, settings);
        sandbox.a.remove("gone");
        run(&sandbox, settings);
        assert_eq!(sandbox.b.has("gone"), there, "{settings:?}");
        assert_eq!(sandbox.b.has(".osync_workdir/deleted/gone"), kept, "{settings:?}");
        assert!(!sandbox.a.has("gone"), "{settings:?}");
    }
}

#[test]
fn a_drop_box_may_be_emptied_again_and_again() {
    for (allowed, status) in [("no", 1), ("target", 1), ("initiator", 0), ("both", 0)] {
        let sandbox = Sandbox::new();
        for _ in 0..2 {
            sandbox.a.make("d in\nf in/one 1\nf two 2");
            run(&sandbox, &[]);
            sandbox.a.remove("in");
            sandbox.a.remove("two");
            let run = with(&sandbox, &[("ALLOW_EMPTY", allowed)]).run();
            assert_eq!(run.status, Some(status), "{allowed} {run}");
            assert_eq!(sandbox.b.has("two"), status == 1, "{allowed} {run}");
        }
    }
}

#[test]
fn a_share_of_deletions_stops_a_run() {
    for (percent, stopped) in [("0", false), ("49", true), ("50", false)] {
        let sandbox = Sandbox::new();
        sandbox.a.make("f a 1\nf b 2\nf c 3\nf d 4");
        run(&sandbox, &[]);
        sandbox.a.remove("a");
        sandbox.a.remove("b");
        let run = with(&sandbox, &[("MAX_DELETE_PERCENT", percent)]).run();
        assert_eq!(run.status, Some(i32::from(stopped)), "{percent} {run}");
        assert_eq!(sandbox.b.has("a"), stopped, "{percent}");
    }
}

#[test]
fn a_move_is_followed_if_wanted() {
    for (value, followed) in [("yes", true), ("no", false)] {
        let sandbox = Sandbox::new();
        sandbox.a.make("f old content");
        run(&sandbox, &[]);
        let before = sandbox.b.tree().values().next().unwrap().ino;
        sandbox.a.rename("old", "new");
        run(&sandbox, &[("DETECT_MOVES", value)]);
        let tree = sandbox.b.tree();
        assert_eq!(tree.keys().collect::<Vec<_>>(), [b"new"], "{value}");
        assert_eq!(tree.values().next().unwrap().ino == before, followed, "{value}");
        assert_eq!(sandbox.b.has(".osync_workdir/deleted/old"), !followed, "{value}");
    }
}

#[test]
fn one_way_is_one_way() {
    for (way, at_a, at_b) in
        [("", true, true), ("initiator2target", false, true), ("target2initiator", true, false)]
    {
        let sandbox = Sandbox::new();
        sandbox.a.make("f both x");
        run(&sandbox, &[]);
        sandbox.a.make("f of-a 1");
        sandbox.b.make("f of-b 2");
        run(&sandbox, &[("SYNC_TYPE", way)]);
        assert_eq!(sandbox.a.has("of-b"), at_a, "{way}");
        assert_eq!(sandbox.b.has("of-a"), at_b, "{way}");
    }
}

#[test]
fn what_is_newer_on_the_receiving_side_is_counted_and_named_if_asked() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f here 1\nf there 2\nf last 3");
    run(&sandbox, &[]);
    let newer = |names: &[&str]| {
        for name in names {
            sandbox.b.write(name, "newer there", 1_900_000_000);
        }
        let run = run(&sandbox, &[("SYNC_TYPE", "initiator2target")]);
        assert_eq!(sandbox.b.read(names[0]).unwrap(), b"newer there");
        run
    };
    let one = newer(&["here"]);
    let said = "1 entry newer on the receiving side than on the source, left as it is";
    assert!(one.stdout.contains(said), "{one}");
    let two = newer(&["here", "there"]);
    let said = "2 entries newer on the receiving side than on the source, left as they are";
    assert!(two.stdout.contains(said), "{two}");
    assert!(!two.stdout.contains("target: there: "), "{two}");
    let verbose = sandbox.quick().env("SYNC_TYPE", "initiator2target").arg("--verbose").run();
    for name in ["here", "there"] {
        let said = format!("target: {name}: it is newer on the receiving side than on the source");
        assert!(verbose.stdout.contains(&said), "{verbose}");
    }
    assert!(!verbose.stdout.contains("target: last: "), "{verbose}");
}

#[test]
fn what_a_setting_has_left_alone_is_named_with_the_reason_if_asked() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f gone x\nf stays y");
    run(&sandbox, &[]);
    sandbox.a.remove("gone");
    let skips = |more: &[&str]| {
        let run = sandbox.quick().env("SKIP_DELETION", "target").args(more).run();
        assert_eq!((run.status, sandbox.b.has("gone")), (Some(0), true), "{run}");
        run
    };
    let said = "target: gone: it was deleted on the other side, and stays here";
    let verbose = skips(&["--dry", "--verbose"]);
    assert!(verbose.stdout.contains(said), "{verbose}");
    assert!(!verbose.stdout.contains("target: stays: "), "{verbose}");
    let quiet = skips(&[]);
    assert!(!quiet.to_string().contains("gone"), "{quiet}");
}

#[test]
fn an_unfinished_run_is_resumed_as_often_as_it_may_be() {
    let unfinished = |sandbox: &Sandbox| {
        for side in ["initiator", "target"] {
            let file = format!(".osync_workdir/state/{side}-last-action-quicksync_task");
            fs::write(sandbox.a.at(file), "update-replica\n").unwrap();
        }
    };
    let tried = |sandbox: &Sandbox, times: &str| {
        let file = sandbox.a.at(".osync_workdir/state/resume-count-quicksync_task");
        fs::write(file, times).unwrap();
    };
    let sandbox = Sandbox::new();
    sandbox.a.make("f x y");
    run(&sandbox, &[]);
    for (settings, times, said) in [
        (&[("RESUME_TRY", "2")][..], "0", "resuming it (try 1 of 2)"),
        (&[("RESUME_TRY", "2")], "1", "resuming it (try 2 of 2)"),
        (&[("RESUME_TRY", "2")], "2", "nor did 2 tries to resume it; this one goes on"),
        (
            &[("RESUME_SYNC", "no")],
            "0",
            "did not come to its end; this one goes on from what it achieved",
        ),
        (
            &[("RESUME_TRY", "0")],
            "0",
            "did not come to its end; this one goes on from what it achieved",
        ),
        (&[], "0", "resuming it (try 1 of 1)"),
    ] {
        unfinished(&sandbox);
        tried(&sandbox, times);
        let run = run(&sandbox, settings);
        assert!(run.stdout.contains(said), "{settings:?} {run}");
    }
    unfinished(&sandbox);
    let no_resume = sandbox.quick().env("RESUME_TRY", "9").arg("--no-resume").run();
    assert!(no_resume.stdout.contains("this one goes on"), "{no_resume}");
    let next = run(&sandbox, &[]);
    assert!(!next.stdout.contains("did not come to its end"), "{next}");
}

#[test]
fn old_copies_are_purged_after_the_days_of_the_settings() {
    // As old as the machine's clock says: nothing is older than a day here, so what
    // is tested is that 0 keeps for ever and that fresh copies stay; ages are tested
    // with the replica, where the clock can be chosen.
    for days in ["0", "1", "30"] {
        let sandbox = Sandbox::new();
        sandbox.a.make("f gone x\nf changed y");
        run(&sandbox, &[]);
        sandbox.a.remove("gone");
        sandbox.a.write("changed", "new", 1_600_000_000);
        let settings = [("CONFLICT_BACKUP_DAYS", days), ("SOFT_DELETE_DAYS", days)];
        run(&sandbox, &settings);
        run(&sandbox, &settings);
        assert!(sandbox.b.has(".osync_workdir/deleted/gone"), "{days}");
        assert!(sandbox.b.has(".osync_workdir/backup/changed"), "{days}");
    }
}

#[test]
fn an_after_command_is_ended_after_its_time() {
    let sandbox = Sandbox::new();
    let started = Instant::now();
    let settings = [("LOCAL_RUN_AFTER_CMD", "sleep 1000"), ("MAX_EXEC_TIME_PER_CMD_AFTER", "1")];
    let run = with(&sandbox, &settings).run();
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stderr.contains("MAX_EXEC_TIME_PER_CMD_AFTER"), "{run}");
    assert!(started.elapsed() < Duration::from_secs(100));
}

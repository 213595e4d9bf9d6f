//! The journal and `osync history` (spec 9).

use crate::support::sandbox::{Outcome, Replica, Sandbox, fine};
use crate::support::trees::set_mode;
use std::fs;
use std::path::PathBuf;

fn history(sandbox: &Sandbox, args: &[&str]) -> Outcome {
    let (a, b) = (sandbox.a.root.clone(), sandbox.b.root.clone());
    let mut run = sandbox.osync().arg("history");
    for (flag, root) in [("--initiator", a), ("--target", b)] {
        run = run.arg(flag).arg(root);
    }
    run.args(args).run()
}

fn json(outcome: &Outcome) -> Vec<serde_json::Value> {
    fine(outcome);
    outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Those of the lines that tell of changes.
fn changes(outcome: &Outcome) -> Vec<serde_json::Value> {
    json(outcome).into_iter().filter(|row| row["action"].is_string()).collect()
}

fn journal(sandbox: &Sandbox) -> PathBuf {
    sandbox.path("a/.osync_workdir/state/history-quicksync_task.db")
}

#[test]
fn what_each_run_did_is_told_by_run_and_by_path() {
    let sandbox = Sandbox::new();
    sandbox.a.make("d dir\nf dir/one 1\nf dir/two 22\nf gone 333");
    sandbox.a.write(b"odd\n\xff -> x", "odd", 1_500_000_000);
    fine(&sandbox.sync(&[]));
    fine(&sandbox.sync(&[]));
    sandbox.a.write("dir/one", "changed", 1_600_000_000);
    sandbox.a.remove("gone");
    sandbox.b.rename("dir/two", "moved");
    fine(&sandbox.sync(&[]));
    let runs = json(&history(&sandbox, &["--json"]));
    let numbers: Vec<_> = runs.iter().map(|run| run["run"].as_i64().unwrap()).collect();
    assert_eq!(numbers, [2, 1], "a run with nothing to do leaves the journal alone");
    assert_eq!(runs[0]["target"]["updates"], 1);
    assert_eq!(runs[0]["target"]["deletions"], 1);
    assert_eq!(runs[0]["initiator"]["moves"], 1);
    let of_path = |path: &str| -> Vec<String> {
        let changes = changes(&history(&sandbox, &[path, "--json"]));
        let word = |change: &serde_json::Value| {
            format!("{} {} {}", change["run"], change["side"], change["action"]).replace('"', "")
        };
        changes.iter().map(word).collect()
    };
    assert_eq!(of_path("dir/one"), ["2 target updated", "1 target created"]);
    assert_eq!(of_path("gone"), ["2 target deleted", "1 target created"]);
    let moved = json(&history(&sandbox, &["moved", "--json"]));
    assert_eq!((&moved[0]["from"], &moved[0]["action"]), (&"dir/two".into(), &"moved".into()));
    let odd = history(&sandbox, &["--run", "1"]);
    fine(&odd);
    assert!(odd.stdout.contains("odd\\n\\xFF -> x"), "{odd}");
    let absolute = sandbox.path("a/gone").display().to_string();
    assert_eq!(of_path(&absolute).len(), 2, "an absolute path in a replica");
    let outside = history(&sandbox, &["/etc/passwd"]);
    assert_eq!(outside.status, Some(128), "{outside}");
}

#[test]
fn a_whole_new_tree_is_one_row_of_the_journal() {
    let sandbox = Sandbox::new();
    for i in 0..300 {
        sandbox.a.make(&format!("f top/d{}/f{i} x", i % 7));
    }
    fine(&sandbox.sync(&[]));
    let changes = json(&history(&sandbox, &["--run", "1", "--json"]));
    let created: Vec<_> = changes.iter().filter(|row| row["action"] == "created").collect();
    assert_eq!(created.len(), 1, "{created:?}");
    assert_eq!(created[0]["below"], 307);
    let inside = json(&history(&sandbox, &["top/d1/f1", "--json"]));
    assert_eq!(inside[0]["path"], "top");
}

#[test]
fn a_damaged_journal_is_set_aside_and_stops_no_run() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f one 1");
    fine(&sandbox.sync(&[]));
    fs::write(journal(&sandbox), "no database at all, but long enough to be read as one").unwrap();
    let unreadable = history(&sandbox, &[]);
    assert_eq!(unreadable.status, Some(1), "{unreadable}");
    sandbox.a.make("f two 2");
    let run = sandbox.sync(&[]);
    assert_eq!(run.status, Some(2), "a warning: {run}");
    assert!(sandbox.b.has("two"), "{run}");
    assert!(journal(&sandbox).with_extension("db.damaged").exists());
    assert_eq!(json(&history(&sandbox, &["--json"])).len(), 1, "begun anew");
}

#[test]
fn a_kill_before_the_journal_is_written_leaves_it_one_run_behind() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f one 1");
    fine(&sandbox.sync(&[]));
    sandbox.a.make("f two 2");
    let killed = sandbox.quick().env("OSYNC_FAULT", "recorded:1").run();
    assert_eq!(killed.status, None, "it is killed: {killed}");
    assert!(sandbox.b.has("two"));
    assert_eq!(json(&history(&sandbox, &["--json"])).len(), 1, "behind");
    sandbox.a.make("f three 3");
    fine(&sandbox.sync(&[]));
    let runs = json(&history(&sandbox, &["--json"]));
    assert_eq!(runs.len(), 2, "and it goes on");
}

#[test]
fn runs_older_than_the_days_of_the_settings_are_forgotten() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f one 1");
    fine(&sandbox.sync(&[]));
    let aged = "UPDATE runs SET ended = ended - 3 * 86400000";
    let db = rusqlite::Connection::open(journal(&sandbox)).unwrap();
    db.execute(aged, []).unwrap();
    drop(db);
    sandbox.a.make("f two 2");
    fine(&sandbox.quick().env("HISTORY_DAYS", "0").run());
    assert_eq!(json(&history(&sandbox, &["--json"])).len(), 2, "0 keeps it for ever");
    sandbox.a.make("f three 3");
    fine(&sandbox.quick().env("HISTORY_DAYS", "2").run());
    assert_eq!(json(&history(&sandbox, &["--json"])).len(), 2, "the first one is forgotten");
}

#[test]
fn failed_runs_are_listed_with_their_reason() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f one 1\nf two 2");
    fine(&sandbox.sync(&[]));
    sandbox.a.remove("one");
    sandbox.a.remove("two");
    let refused = sandbox.sync(&[]);
    assert_eq!(refused.status, Some(1), "an emptied replica: {refused}");
    let runs = json(&history(&sandbox, &["--failed", "--json"]));
    assert_eq!(runs.len(), 1);
    assert!(!runs[0]["problems"].as_array().unwrap().is_empty());
}

#[test]
fn open_conflicts_are_listed_until_somebody_settles_them_or_the_path_is_gone() {
    let sandbox = Sandbox::new();
    let conflicts = |args: &[&str]| {
        let (a, b) = (&sandbox.a.root, &sandbox.b.root);
        let run = sandbox.osync().arg("conflicts").arg("--initiator").arg(a);
        run.arg("--target").arg(b).args(args).run()
    };
    fine(&conflicts(&[]));
    sandbox.a.make("f one 1\nf two 2\nf three 3");
    fine(&sandbox.sync(&[]));
    for name in ["one", "two", "three"] {
        sandbox.a.write(name, "initiator", 1_600_000_000);
        sandbox.b.write(name, "target's", 1_600_000_009);
    }
    fine(&sandbox.sync(&[]));
    let open = |args: &[&str]| -> Vec<String> {
        let rows = json(&conflicts(args));
        rows.iter()
            .map(|row| format!("{}: {}", row["path"], row["state"]).replace('"', ""))
            .collect()
    };
    assert_eq!(open(&["--json"]), ["one: open", "three: open", "two: open"]);
    let told = conflicts(&[]);
    assert!(told.stdout.contains("the target's version won in run 2"), "{told}");
    assert!(told.stdout.contains("on the initiator: .osync_workdir/backup/one"), "{told}");
    fine(&conflicts(&["done", "one"]));
    assert_eq!(conflicts(&["done", "one"]).status, Some(1), "it is closed already");
    assert_eq!(conflicts(&["nonsense"]).status, Some(128));
    sandbox.b.remove("two");
    fine(&sandbox.sync(&[]));
    assert_eq!(open(&["--json"]), ["three: open"]);
    let db = rusqlite::Connection::open(journal(&sandbox)).unwrap();
    db.execute("UPDATE runs SET ended = ended - 40 * 86400000", []).unwrap();
    drop(db);
    sandbox.a.make("f four 4");
    fine(&sandbox.sync(&[]));
    assert_eq!(open(&["--json"]), [""; 0]);
    let all = open(&["--json", "--all"]);
    assert_eq!(all, ["one: resolved", "three: expired", "two: resolved"]);
}

#[test]
fn a_row_names_the_place_where_its_version_is_kept_also_when_that_gets_another_name() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f one 1\nd dir\nf dir/in 2");
    fine(&sandbox.sync(&[]));
    let conflict = |content: &str, mtime: i64| {
        sandbox.a.write("one", format!("initiator {content}"), mtime);
        sandbox.b.write("one", format!("target {content}"), mtime + 9);
        fine(&sandbox.sync(&[]));
    };
    conflict("first", 1_600_000_000);
    conflict("second", 1_600_000_100);
    let kept = |path: &str| -> Vec<String> {
        let rows = changes(&history(&sandbox, &[path, "--json"]));
        let kept = rows.iter().filter(|row| row["kept_as"].is_string());
        kept.map(|row| {
            let text = |key: &str| row[key].as_str().unwrap().to_owned();
            format!(".osync_workdir/{}/{}", text("kept_in"), text("kept_as"))
        })
        .collect()
    };
    let places = kept("one");
    assert_eq!(places.len(), 2, "{places:?}");
    let read = |place: &String| String::from_utf8(sandbox.a.read(place).unwrap()).unwrap();
    assert_eq!(
        places.iter().map(read).collect::<Vec<_>>(),
        ["initiator second", "initiator first"]
    );
    sandbox.a.remove("dir");
    fine(&sandbox.sync(&["--force-delete"]));
    let places = kept("dir/in");
    assert_eq!(places, [".osync_workdir/deleted/dir"], "with the directory, as a whole");
    sandbox.a.write("one", "third", 1_600_000_200);
    fine(&sandbox.quick().env("CONFLICT_BACKUP_MULTIPLE", "yes").run());
    let places = kept("one");
    assert_eq!(sandbox.b.read(&places[0]), Some(b"target second".to_vec()), "{places:?}");
}

#[test]
fn a_run_has_the_same_number_in_the_journal_and_in_both_replicas() {
    let sandbox = Sandbox::new();
    let (a, b) = (&sandbox.a, &sandbox.b);
    let newest = || {
        let run = sandbox.osync().arg("history").arg("--json").arg("--initiator").arg(&a.root);
        let run = run.arg("--target").arg(&b.root).run();
        let line: serde_json::Value =
            serde_json::from_str(run.stdout.lines().next().unwrap()).unwrap();
        line["run"].as_u64().unwrap()
    };
    let of = |replica: &Replica| {
        let text = String::from_utf8(replica.read(".osync_workdir/identity").unwrap()).unwrap();
        let last = text.lines().last().unwrap().rsplit(' ').next().unwrap();
        last.parse::<u64>().unwrap()
    };
    for turn in 1..4_u64 {
        a.write("f", turn.to_string(), 1_600_000_000 + i64::try_from(turn).unwrap());
        fine(&sandbox.sync(&[]));
        assert_eq!([newest(), of(a), of(b)], [newest(); 3], "{turn}");
        // a run that fails has a number of its own
        let before = newest();
        let moved = sandbox.path("elsewhere");
        std::fs::rename(&b.root, &moved).unwrap();
        assert_eq!(sandbox.sync(&[]).status, Some(1));
        std::fs::rename(&moved, &b.root).unwrap();
        assert_eq!([newest(), of(a)], [before + 1, before], "{turn}");
    }
}

#[test]
fn what_may_not_be_read_is_not_taken_for_nothing_that_is_recorded() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f f 1");
    fine(&sandbox.sync(&[]));
    let user = rustix::process::geteuid().is_root().then_some(65534);
    let asked = |words: &[&str]| {
        let (a, b) = (sandbox.a.root.clone(), sandbox.b.root.clone());
        let run = sandbox.osync().arg(words[0]).arg("--initiator").arg(a).arg("--target").arg(b);
        let run = run.args(&words[1..]).env("LOGFILE", "/dev/null");
        match user {
            Some(id) => run.user(id).run(),
            None => run.run(),
        }
    };
    let refused = || {
        for words in [
            &["history"][..],
            &["history", "f"],
            &["history", "--json"],
            &["conflicts"],
            &["conflicts", "--json"],
            &["conflicts", "show", "f"],
            &["restore", "f"],
            &["undo"],
            &["plan"],
        ] {
            let run = asked(words);
            let place = sandbox.a.root.display().to_string();
            assert_eq!(run.status, Some(1), "{words:?}: {run}");
            assert!(run.stderr.contains(&place), "{words:?}: {run}");
        }
    };
    set_mode(&sandbox.a.at(".osync_workdir"), 0o000);
    refused();
    set_mode(&sandbox.a.at(".osync_workdir"), 0o755);
    fs::rename(&sandbox.a.root, sandbox.path("away")).unwrap();
    refused();
}

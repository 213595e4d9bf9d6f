//! `osync restore`: what a run replaced or deleted comes back (spec 9).

use crate::support::couple::Couple;
use crate::support::replicas::Sort;
use crate::support::sandbox::{Outcome, Run, Sandbox, fine};
use crate::support::trees::{Mtime, set_mode, set_mtime, whole};
use std::fs;
use std::path::Path;

const WAYS: [Sort; 4] = [Sort::Local, Sort::Ssh, Sort::BusyBox, Sort::Peer];

/// A command about a quicksync task.
fn command(sandbox: &Sandbox, word: &str, args: &[&str]) -> Run {
    let (a, b) = (&sandbox.a.root, &sandbox.b.root);
    let run = sandbox.osync().arg(word).arg("--initiator").arg(a).arg("--target").arg(b);
    run.args(args)
}

fn restore(sandbox: &Sandbox, args: &[&str]) -> Outcome {
    command(sandbox, "restore", args).run()
}

/// The versions of a path as `history --json` numbers them: number, side, content.
fn versions(sandbox: &Sandbox, path: &str) -> Vec<(u64, String, String)> {
    let run = command(sandbox, "history", &[path, "--json"]).run();
    fine(&run);
    let rows = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap());
    let rows = rows.filter(|row: &serde_json::Value| row["version"].is_u64());
    rows.map(|row| {
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        let side = text("side");
        let replica = if side == "initiator" { &sandbox.a } else { &sandbox.b };
        let at = format!(".osync_workdir/{}/{}", text("kept_in"), text("kept_as"));
        let content = String::from_utf8(replica.read(at).unwrap()).unwrap();
        (row["version"].as_u64().unwrap(), side, content)
    })
    .collect()
}

fn version(number: u64, side: &str, content: &str) -> (u64, String, String) {
    (number, side.to_owned(), content.to_owned())
}

#[test]
fn versions_of_both_sides_are_numbered_from_the_newest_and_come_back_by_number() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f doc first\nf other x");
    fine(&sandbox.sync(&[]));
    sandbox.a.write("doc", "second", 1_600_000_000);
    fine(&sandbox.sync(&[]));
    sandbox.b.write("doc", "third", 1_600_000_100);
    fine(&sandbox.sync(&[]));
    sandbox.b.remove("doc");
    fine(&sandbox.sync(&[]));
    assert_eq!(
        versions(&sandbox, "doc"),
        [
            version(1, "initiator", "third"),
            version(2, "initiator", "second"),
            version(3, "target", "first"),
        ]
    );
    fine(&restore(&sandbox, &["doc"]));
    assert_eq!(sandbox.a.read("doc"), Some(b"third".to_vec()), "the newest");
    fine(&sandbox.sync(&[]));
    assert_eq!(sandbox.b.read("doc"), Some(b"third".to_vec()), "the next run carries it over");
    let before: Vec<_> = versions(&sandbox, "doc").into_iter().map(|(_, _, c)| c).collect();
    assert_eq!(before, ["second", "first"]);
    fine(&restore(&sandbox, &["doc", "--version", "2"]));
    assert_eq!(sandbox.a.read("doc"), Some(b"first".to_vec()), "from the other side");
    let now: Vec<_> = versions(&sandbox, "doc").into_iter().map(|(_, _, c)| c).collect();
    assert_eq!(now, ["third", "second", "first"], "what was there is kept, and the newest");
    let refused = restore(&sandbox, &["doc", "--version", "4"]);
    assert_eq!(refused.status, Some(1), "{refused}");
    assert_eq!(refused.stderr.lines().count(), 1, "{refused}");
    fine(&restore(&sandbox, &["doc", "--version", "2", "--side", "target"]));
    assert_eq!(sandbox.b.read("doc"), Some(b"second".to_vec()));
    assert_eq!(sandbox.a.read("doc"), Some(b"first".to_vec()), "the other side is left alone");
}

#[test]
fn a_deleted_directory_comes_back_as_it_was_whatever_the_names_and_wherever_it_lies() {
    for way in WAYS {
        let couple = Couple::reached_by(way);
        let (a, b) = (couple.side(0), couple.side(1));
        a.make("d dir\nd dir/sub\nd dir/empty\nf dir/one 1\nf dir/sub/two 22\nf stays s");
        let odd: &[u8] = b"dir/\xff'\"\n;$(x) *";
        a.write(odd, "odd", 1_500_000_000);
        std::os::unix::fs::symlink("one", a.at("dir/link")).unwrap();
        set_mode(&a.at("dir/one"), 0o4741);
        set_mode(&a.at("dir/sub"), 0o711);
        for name in ["dir/sub", "dir/empty", "dir"] {
            set_mtime(&a.at(name), Mtime::secs(1_400_000_000));
        }
        let settings = "MAX_DELETE_PERCENT=0";
        couple.sync(settings);
        let before = whole(&a.tree());
        a.remove("dir");
        couple.sync(settings);
        assert!(!b.has("dir"), "{way:?}");
        fine(&couple.command(&["restore", "dir", "--dry"], settings).run());
        assert!(!a.has("dir"), "{way:?}: a dry run does nothing");
        let run = couple.command(&["restore", "dir"], settings).run();
        fine(&run);
        assert_eq!(run.stdout.lines().count(), 1, "{run}");
        assert_eq!(whole(&a.tree()), before, "{way:?}: {run}");
        couple.sync_twice(settings);
        assert_eq!(b.details(), a.details(), "{way:?}");
        b.remove("dir/sub");
        couple.sync(settings);
        let run = couple.command(&["restore", "dir/sub/two", "--side", "target"], settings).run();
        fine(&run);
        assert_eq!(b.read("dir/sub/two"), Some(b"22".to_vec()), "{way:?}");
        assert!(b.at(".osync_workdir/replaced").symlink_metadata().is_err(), "{way:?}: swept");
    }
}

#[test]
fn a_directory_is_put_back_to_a_moment_and_what_it_holds_now_is_kept() {
    let sandbox = Sandbox::new();
    sandbox.a.make("d dir\nf dir/changed old\nf dir/deleted gone\nf dir/same same");
    fine(&sandbox.sync(&[]));
    sandbox.a.write("dir/changed", "new", 1_600_000_000);
    sandbox.a.remove("dir/deleted");
    sandbox.a.make("f dir/created later");
    fine(&sandbox.sync(&[]));
    fine(&restore(&sandbox, &["dir", "--before-run", "2"]));
    for (path, content) in
        [("changed", "old"), ("deleted", "gone"), ("same", "same"), ("created", "later")]
    {
        let found = sandbox.a.read(format!("dir/{path}"));
        assert_eq!(found, Some(content.as_bytes().to_vec()), "{path}");
    }
    assert_eq!(sandbox.a.read(".osync_workdir/backup/dir/changed"), Some(b"new".to_vec()));
    let nothing = restore(&sandbox, &["dir", "--before-run", "7"]);
    assert_eq!(nothing.status, Some(1), "{nothing}");
    let early = restore(&sandbox, &["dir", "--at", "1999-01-01"]);
    assert!(early.status == Some(1) && early.stderr.contains("before the journal"), "{early}");
}

#[test]
fn what_osync_1_3_kept_is_listed_and_comes_back() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f doc now");
    fine(&sandbox.sync(&[]));
    sandbox.b.make(
        "d .osync_workdir/deleted/dir\nf .osync_workdir/deleted/dir/gone 1.3\n\
         d .osync_workdir/backup\nf .osync_workdir/backup/doc.2026.01.02-03.04.05 then",
    );
    assert_eq!(versions(&sandbox, "doc"), [version(1, "target", "then")]);
    fine(&restore(&sandbox, &["doc", "dir/gone"]));
    assert_eq!(sandbox.a.read("doc"), Some(b"then".to_vec()));
    assert_eq!(sandbox.a.read("dir/gone"), Some(b"1.3".to_vec()));
}

#[test]
fn versions_from_before_a_rename_are_versions_of_the_new_name() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f old first\nf x x");
    fine(&sandbox.sync(&[]));
    sandbox.a.write("old", "second", 1_600_000_000);
    fine(&sandbox.sync(&[]));
    sandbox.a.rename("old", "new");
    fine(&sandbox.sync(&[]));
    assert_eq!(versions(&sandbox, "new"), [version(1, "target", "first")]);
}

#[test]
fn a_copy_is_made_elsewhere_and_replaces_nothing() {
    for way in [Sort::Local, Sort::Ssh, Sort::Peer] {
        let couple = Couple::reached_by(way);
        couple.side(0).make("d dir\nf dir/one 1\nf dir/two 2\nf x x");
        couple.sync("");
        couple.side(0).remove("dir");
        couple.sync("MAX_DELETE_PERCENT=0");
        let to = couple.sandbox.path("elsewhere");
        let to = to.to_str().unwrap();
        fine(&couple.command(&["restore", "dir", "--to", to], "").run());
        assert_eq!(fs::read(Path::new(to).join("dir/two")).unwrap(), b"2", "{way:?}");
        assert_eq!(fs::read_dir(to).unwrap().count(), 1, "{way:?}: nothing else is left there");
        assert!(!couple.side(0).has("dir"));
        let again = couple.command(&["restore", "dir", "--to", to], "").run();
        assert_eq!(again.status, Some(1), "{way:?}: {again}");
        assert!(again.stderr.contains("there already"), "{again}");
    }
}

#[test]
fn what_cannot_be_restored_is_said_in_one_line_and_nothing_is_touched() {
    let sandbox = Sandbox::new();
    sandbox.a.make("d x\nd y\nf x/doc 1\nf y/doc 2\nf lone 3\nf now 4");
    fine(&sandbox.sync(&[]));
    for gone in ["x/doc", "y/doc", "lone"] {
        sandbox.a.remove(gone);
    }
    fine(&sandbox.sync(&["--force-delete"]));
    let both = || (whole(&sandbox.a.tree()), whole(&sandbox.b.tree()));
    let before = both();
    for (args, said) in [
        (vec!["never"], "no version of it is kept"),
        (vec!["doc"], "of that name there are several"),
        (vec!["now"], "no version of it is kept"),
        (vec!["z/lone"], "did you mean lone?"),
        (vec!["lone", "never"], "no version of it is kept"),
    ] {
        let run = restore(&sandbox, &args);
        assert_eq!(run.status, Some(1), "{run}");
        assert!(run.stderr.lines().count() == 1 && run.stderr.contains(said), "{run}");
    }
    fs::remove_file(sandbox.b.at(".osync_workdir/deleted/lone")).unwrap();
    let expired = restore(&sandbox, &["lone"]);
    assert!(expired.stderr.contains("is no longer kept"), "{expired}");
    for (args, status) in [(vec![], 128), (vec!["../up"], 128), (vec!["x", "--at", "nowhen"], 128)]
    {
        assert_eq!(restore(&sandbox, &args).status, Some(status), "{args:?}");
    }
    assert_eq!(both(), before);
    let journal = sandbox.path("a/.osync_workdir/state/history-quicksync_task.db");
    let db = rusqlite::Connection::open(journal).unwrap();
    db.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(db);
    let newer = restore(&sandbox, &["x/doc"]);
    assert_eq!(newer.status, Some(1), "{newer}");
    assert!(newer.stderr.contains("newer osync"), "{newer}");
    assert_eq!(both(), before);
}

#[test]
fn another_run_that_holds_the_lock_is_waited_for_by_nobody() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f doc 1\nf x x");
    fine(&sandbox.sync(&[]));
    sandbox.a.remove("doc");
    fine(&sandbox.sync(&[]));
    let lock = sandbox.a.at(".osync_workdir/lock");
    fs::write(&lock, format!("{}@quicksync_task", std::process::id())).unwrap();
    let refused = restore(&sandbox, &["doc"]);
    assert_eq!(refused.status, Some(1), "{refused}");
    assert!(!sandbox.a.has("doc"));
    fs::remove_file(lock).unwrap();
    fine(&restore(&sandbox, &["doc"]));
    assert!(!sandbox.a.has(".osync_workdir/lock"), "and the lock is given back");
}

#[test]
fn a_restore_that_is_killed_loses_nothing_and_the_next_run_is_well() {
    for step in
        ["versions brought over", "room made for a version", "renaming", "an operation is done"]
    {
        let sandbox = Sandbox::new();
        sandbox.a.make("f doc first\nf x x");
        fine(&sandbox.sync(&[]));
        sandbox.a.write("doc", "second", 1_600_000_000);
        fine(&sandbox.sync(&[]));
        let run = command(&sandbox, "restore", &["doc"]).env("OSYNC_FAULT", format!("{step}:1"));
        let killed = run.run();
        assert_eq!(killed.status, None, "{step}: {killed}");
        let kept = crate::support::kept::Kept::by(&sandbox);
        for content in ["first", "second"] {
            let is_there = sandbox.a.read("doc") == Some(content.into());
            assert!(is_there || kept.holds(content.as_bytes()), "{step}: {content} is lost");
        }
        let next = sandbox.sync(&[]);
        assert!(matches!(next.status, Some(0 | 2)), "{step}: {next}");
        assert!(sandbox.a.has("doc"), "{step}: it was taken for deleted: {next}");
        assert_eq!(sandbox.a.contents(), sandbox.b.contents(), "{step}");
    }
}

//! Two local replicas in step: whole runs of the binary on real directories.

use crate::support::sandbox::{Outcome, Sandbox, fine};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

fn failed(run: &Outcome, words: &[&str]) {
    assert_eq!(run.status, Some(1), "{run}");
    for word in words {
        assert!(run.stderr.contains(word), "'{word}' is not said:\n{run}");
    }
}

/// A second run has nothing to do and says so by its counters.
fn nothing_to_do(sandbox: &Sandbox) {
    let before = (sandbox.a.details(), sandbox.b.details());
    let run = sandbox.sync(&["--summary"]);
    fine(&run);
    for word in ["UPDATE", "DELETE", "MOVE"] {
        assert!(!run.stdout.contains(word), "a second run does something:\n{run}");
    }
    assert_eq!((sandbox.a.details(), sandbox.b.details()), before);
}

fn in_step(sandbox: &Sandbox) {
    assert_eq!(sandbox.a.details(), sandbox.b.details());
    nothing_to_do(sandbox);
}

#[test]
fn changes_flow_both_ways_and_a_second_run_does_nothing() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f one 1\nd dir\nf dir/two 22 1400000000 600\nl link one");
    sandbox.b.make("f three 333\nd empty 1300000000 700");
    fine(&sandbox.sync(&[]));
    in_step(&sandbox);
    sandbox.a.write("one", "changed", 1_600_000_000);
    sandbox.b.remove("dir/two");
    sandbox.b.write("new", "n", 1_600_000_001);
    fine(&sandbox.sync(&[]));
    in_step(&sandbox);
    assert_eq!(sandbox.b.read("one").unwrap(), b"changed");
    assert!(!sandbox.a.has("dir/two") && sandbox.a.has("new"));
    assert_eq!(sandbox.a.deleted(), "d dir\nf dir/two 22\n", "soft deletion");
    assert_eq!(sandbox.b.backup(), "f one 1\n", "what an update replaced");
}

#[test]
fn a_file_restored_with_an_older_time_is_not_reverted() {
    let sandbox = Sandbox::new();
    sandbox.a.write("f", "new", 1_600_000_000);
    fine(&sandbox.sync(&[]));
    sandbox.a.write("f", "from the archive", 1_200_000_000);
    fine(&sandbox.sync(&[]));
    assert_eq!(sandbox.b.read("f").unwrap(), b"from the archive");
    in_step(&sandbox);
}

#[test]
fn a_conflict_is_decided_by_time_and_the_loser_is_kept() {
    let sandbox = Sandbox::new();
    sandbox.a.write("f", "old", 1_500_000_000);
    fine(&sandbox.sync(&[]));
    sandbox.a.write("f", "initiator", 1_600_000_000);
    sandbox.b.write("f", "target", 1_600_000_009);
    let run = sandbox.sync(&["--log-conflicts", "--verbose"]);
    fine(&run);
    assert!(run.stdout.contains("/a/f << >> "), "{run}");
    assert_eq!(sandbox.a.read("f").unwrap(), b"target");
    assert_eq!(sandbox.a.backup(), "f f initiator\n");
    let conflicts = sandbox.path("a/.osync_workdir/state/conflicts-quicksync_task");
    assert!(fs::read_to_string(conflicts).unwrap().contains("/b/f"));
    in_step(&sandbox);
}

#[test]
fn every_version_is_kept_with_backup_multiple_even_within_one_second() {
    let sandbox = Sandbox::new();
    sandbox.a.write("f", "0", 1_500_000_000);
    fine(&sandbox.sync(&[]));
    for version in 1..4_i64 {
        sandbox.a.write("f", version.to_string(), 1_500_000_000 + version);
        fine(&sandbox.quick().env("CONFLICT_BACKUP_MULTIPLE", "yes").run());
    }
    let kept = sandbox.b.backup();
    for version in 0..3 {
        assert!(kept.contains(&format!(" {version}\n")), "version {version} is lost: {kept}");
    }
}

#[test]
fn without_backup_and_soft_deletion_nothing_is_kept() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f f 1\nd d\nf d/g 2");
    let run = || sandbox.quick().env("CONFLICT_BACKUP", "no").env("SOFT_DELETE", "no").run();
    fine(&run());
    sandbox.a.write("f", "22", 1_600_000_000);
    sandbox.a.remove("d");
    fine(&run());
    assert_eq!((sandbox.b.backup(), sandbox.b.deleted()), (String::new(), String::new()));
    assert!(!sandbox.b.has("d"));
    in_step(&sandbox);
}

const AWKWARD: &[&[u8]] = &[
    b"new\nline",
    b"tab\there",
    b" leading and trailing ",
    b"-rf",
    b"--delete",
    b"#comment",
    b";semicolon",
    b"quote'\"quote",
    b"back\\slash",
    b"\\#012",
    b"[brackets]*?",
    b"a -> b",
    b"$(touch pwned)`x`",
    b"invalid\xff\xfeutf8",
    b"\xe2\x80\xaertl",
    b"...",
    b"~",
    b".hidden.AbCdEf",
    b"trailing\n",
    b"%s%n",
];

#[test]
fn any_name_survives_every_operation() {
    let sandbox = Sandbox::new();
    let long = vec![b'n'; 255];
    let names: Vec<&[u8]> = AWKWARD.iter().copied().chain([long.as_slice()]).collect();
    for (index, name) in names.iter().enumerate() {
        sandbox.a.write(name, format!("content {index}"), 1_500_000_000);
        fs::create_dir(sandbox.a.at([b"dir ".as_slice(), &name[..name.len().min(200)]].concat()))
            .unwrap();
        let inside = [b"dir ", &name[..name.len().min(200)], b"/", name].concat();
        sandbox.a.write(&inside, "inside", 1_500_000_000);
        let link = [b"link ", &name[..name.len().min(200)]].concat();
        std::os::unix::fs::symlink(Path::new(std::ffi::OsStr::new("x")), sandbox.a.at(link))
            .unwrap();
    }
    fine(&sandbox.sync(&["--summary"]));
    in_step(&sandbox);
    // updated on one side, metadata on the other
    for name in &names {
        sandbox.a.write(name, "updated", 1_600_000_000);
        fs::set_permissions(sandbox.b.at(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    fine(&sandbox.sync(&[]));
    in_step(&sandbox);
    for name in &names {
        assert_eq!(sandbox.b.read(name).unwrap(), b"updated");
        assert_eq!(fs::metadata(sandbox.a.at(name)).unwrap().mode() & 0o777, 0o600);
    }
    assert_eq!(sandbox.b.backup().lines().count(), names.len(), "every old version is kept");
    // moved, with its directory
    fs::create_dir(sandbox.a.at("moved")).unwrap();
    for name in &names {
        sandbox.a.rename(name, [b"moved/", *name].concat());
    }
    let run = sandbox.sync(&["--summary"]);
    fine(&run);
    assert_eq!(run.stdout.matches("MOVE >> ").count(), names.len(), "{run}");
    in_step(&sandbox);
    assert_eq!(sandbox.b.deleted(), "", "a move deletes nothing");
    // deleted
    sandbox.b.remove("moved");
    for name in &names {
        sandbox.b.remove([b"dir ".as_slice(), &name[..name.len().min(200)]].concat());
    }
    fine(&sandbox.sync(&["--summary"]));
    in_step(&sandbox);
    assert!(!sandbox.path("pwned").exists() && !sandbox.path("a/pwned").exists());
    let lists =
        fs::read(sandbox.path("a/.osync_workdir/state/initiator-tree-after-quicksync_task"));
    assert!(lists.unwrap().windows(5).all(|w| w != b"moved"));
}

#[test]
fn a_path_too_long_is_an_error_for_that_path_only() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f fine here");
    let script = "cd a; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21; do \
                  mkdir $0 && cd $0; done; echo deep > file";
    let name = "d".repeat(200);
    fine(&sandbox.program("sh").args(["-c", script, &name]).run());
    let run = sandbox.sync(&[]);
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stderr.contains("too long") || run.stderr.contains("longer than"), "{run}");
    assert_eq!(sandbox.b.read("fine").unwrap(), b"here", "{run}");
    let again = sandbox.sync(&[]);
    assert_eq!(again.status, Some(1), "{again}");
    fine(&sandbox.program("rm").args(["-rf", &format!("a/{name}")]).run());
    fine(&sandbox.sync(&[]));
}

#[test]
fn a_dry_run_tells_everything_and_changes_nothing() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f one 1\nf gone 2\nf both 3\nf moved 4");
    fine(&sandbox.sync(&[]));
    sandbox.a.write("both", "from a", 1_600_000_000);
    sandbox.b.write("both", "from b", 1_600_000_001);
    sandbox.b.remove("gone");
    sandbox.a.rename("moved", "renamed");
    fs::set_permissions(sandbox.b.at("one"), fs::Permissions::from_mode(0o640)).unwrap();
    sandbox.b.write("new", "n", 1_600_000_000);
    let everything = || {
        let script = "find a b -printf '%p %s %T@ %C@ %m %i\n' | sort";
        sandbox.program("sh").args(["-c", script]).run().stdout
    };
    let before = everything();
    let run = sandbox.sync(&["--dry"]);
    fine(&run);
    assert_eq!(everything(), before, "a dry run changed something");
    let root = sandbox.root().display();
    for line in [
        format!("UPDATE << {root}/a/both"),
        format!("UPDATE << {root}/a/new"),
        format!("UPDATE << {root}/a/one"),
        format!("DELETE << {root}/a/gone"),
        format!("MOVE >> {root}/b/moved -> {root}/b/renamed"),
        format!("{root}/a/both << >> {root}/b/both"),
    ] {
        assert!(run.stdout.contains(&line), "{line} is missing:\n{run}");
    }
    for line in run.stdout.lines() {
        assert!(line.contains("(dry run)"), "not marked: {line}");
    }
    // on replicas that were never synchronised nothing is made either
    let fresh = Sandbox::new();
    fresh.a.make("f x 1");
    fine(&fresh.sync(&["--dry"]));
    assert!(!fresh.path("a/.osync_workdir").exists() && !fresh.path("b/.osync_workdir").exists());
}

#[test]
fn an_emptied_replica_stops_the_run() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f one 1\nd d\nf d/two 2");
    fine(&sandbox.sync(&[]));
    let before = sandbox.b.details();
    sandbox.a.remove("one");
    sandbox.a.remove("d");
    failed(&sandbox.sync(&[]), &["initiator", "empty", "--force-delete"]);
    assert_eq!(sandbox.b.details(), before);
    fine(&sandbox.sync(&["--force-delete"]));
    assert!(!sandbox.b.has("one"));
    fine(&sandbox.sync(&[]));
}

#[test]
fn another_disk_in_the_place_of_a_replica_stops_the_run() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f one 1\nf two 2");
    fine(&sandbox.sync(&[]));
    fs::rename(sandbox.path("b"), sandbox.path("unmounted")).unwrap();
    fs::create_dir(sandbox.path("b")).unwrap();
    failed(&sandbox.sync(&[]), &["target", "identity", "--initialize"]);
    failed(&sandbox.sync(&["--force-delete"]), &["identity"]);
    assert!(sandbox.a.has("one"));
    assert!(!sandbox.b.has("one"), "nothing is written to what may be the wrong disk");
    // another replica, known elsewhere
    let other = Sandbox::new();
    other.b.make("f x 1");
    fine(&other.sync(&[]));
    fs::remove_dir_all(sandbox.path("b")).unwrap();
    let cp = sandbox.program("cp").arg("-a").arg(other.path("b")).arg(sandbox.path("b")).run();
    fine(&cp);
    failed(&sandbox.sync(&[]), &["another identity"]);
    fine(&sandbox.sync(&["--initialize"]));
    fine(&sandbox.sync(&[]));
    assert!(sandbox.b.has("one") && sandbox.a.has("x"), "both trees are united");
    in_step(&sandbox);
}

#[test]
fn too_many_deletions_stop_the_run() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f a 1\nf b 2\nf c 3\nf d 4");
    fine(&sandbox.sync(&[]));
    for name in ["a", "b", "c"] {
        sandbox.a.remove(name);
    }
    let limited = |args: &[&str]| sandbox.quick().args(args).env("MAX_DELETE_PERCENT", "50").run();
    failed(&limited(&[]), &["3 of 4 files", "MAX_DELETE_PERCENT=50", "--force-delete"]);
    assert!(sandbox.b.has("a"));
    fine(&limited(&["--force-delete"]));
    assert!(!sandbox.b.has("a") && sandbox.b.has("d"));
}

#[test]
fn initialize_takes_what_agrees_as_the_baseline_and_makes_no_difference_invisible() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f differs initiator\nf only-a 1\nf same s");
    sandbox.b.make("f differs target! 1400000000\nf only-b 2\nf same s");
    fine(&sandbox.sync(&["--initialize"]));
    assert_eq!(sandbox.b.read("differs").unwrap(), b"target!", "nothing is synchronised");
    assert!(!sandbox.b.has("only-a"));
    sandbox.a.remove("same");
    fine(&sandbox.sync(&[]));
    assert!(!sandbox.b.has("same"), "it was in step, and then deleted");
    assert_eq!(
        sandbox.b.read("differs").unwrap(),
        b"initiator",
        "the newer one, as at a first contact"
    );
    assert_eq!(sandbox.b.read(".osync_workdir/backup/differs").unwrap(), b"target!");
    assert!(sandbox.b.has("only-a") && sandbox.a.has("only-b"));
    in_step(&sandbox);
}

#[test]
fn an_unreadable_directory_is_not_deleted() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f other 1\nd closed\nf closed/one 1\nd closed/sub\nf closed/sub/two 2");
    for dir in ["a", "b", "home", "tmp"] {
        fine(&sandbox.program("chown").args(["-R", "65534:65534", dir]).run());
    }
    let user = if rustix::process::geteuid().is_root() { Some(65534) } else { None };
    let sync = || match user {
        Some(id) => sandbox.quick().user(id).env("LOGFILE", "/dev/null").run(),
        None => sandbox.sync(&[]),
    };
    fine(&sync());
    fs::set_permissions(sandbox.a.at("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    sandbox.a.write("other", "changed", 1_600_000_000);
    let run = sync();
    failed(&run, &["initiator: closed"]);
    assert!(sandbox.b.has("closed/one") && sandbox.b.has("closed/sub/two"), "{run}");
    assert_eq!(sandbox.b.read("other").unwrap(), b"changed", "the rest goes on: {run}");
    fs::set_permissions(sandbox.a.at("closed"), fs::Permissions::from_mode(0o755)).unwrap();
    sandbox.a.remove("closed/one");
    fine(&sync());
    assert!(!sandbox.b.has("closed/one"), "deleted once it is known to be gone");
}

#[test]
fn what_the_filter_excludes_is_left_alone() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f keep 1\nf x.tmp 2\nd cache\nf cache/y 3");
    fine(&sandbox.sync(&[]));
    sandbox.a.remove("x.tmp");
    sandbox.a.remove("cache/y");
    let filtered = || sandbox.quick().env("RSYNC_EXCLUDE_PATTERN", "*.tmp;cache/").run();
    fine(&filtered());
    assert!(sandbox.b.has("x.tmp") && sandbox.b.has("cache/y"), "newly excluded is not deleted");
    sandbox.a.write("cache.tmp", "n", 1_600_000_000);
    fine(&filtered());
    assert!(!sandbox.b.has("cache.tmp"));
    // with the filter gone they are strangers: nobody deleted them
    fine(&sandbox.sync(&[]));
    assert!(sandbox.a.has("x.tmp") && sandbox.b.has("cache.tmp"));
    in_step(&sandbox);
}

#[test]
fn one_way_runs_bring_one_tree_over() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f same s\nf change 1\nf newer 1");
    let sync = || sandbox.sync(&["--sync-type=initiator2target"]);
    fine(&sync());
    sandbox.a.write("change", "22", 1_600_000_000);
    sandbox.b.write("newer", "by hand", 1_700_000_000);
    sandbox.b.write("extra", "x", 1_700_000_000);
    sandbox.b.remove("same");
    fine(&sync());
    assert_eq!(sandbox.b.contents(), "f change 22\nf newer by\\shand\nf same s\n");
    assert_eq!(sandbox.a.contents(), "f change 22\nf newer 1\nf same s\n");
    assert_eq!(sandbox.b.deleted(), "f extra x\n");
    // the mirror image
    let sandbox = Sandbox::new();
    sandbox.b.make("f one 1");
    sandbox.a.make("f two 2");
    fine(&sandbox.sync(&["--sync-type=target2initiator"]));
    assert_eq!(sandbox.a.contents(), "f one 1\n");
    assert_eq!(sandbox.b.contents(), "f one 1\n");
}

#[test]
fn skipped_deletions_stay_skipped_until_something_changes() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f one 1\nd d\nf d/two 2\nf d/three 3");
    let sync = |args: &[&str]| sandbox.sync(args);
    fine(&sync(&[]));
    sandbox.a.remove("one");
    sandbox.a.remove("d");
    for _ in 0..2 {
        fine(&sync(&["--skip-deletion=target"]));
        assert!(sandbox.b.has("one") && sandbox.b.has("d/two"), "kept");
        assert!(!sandbox.a.has("one") && !sandbox.a.has("d"), "not sent back");
    }
    fine(&sync(&[]));
    assert!(sandbox.b.has("one") && !sandbox.a.has("one"), "the mark outlives the setting");
    sandbox.b.write("one", "changed", 1_600_000_000);
    sandbox.b.write("d/new", "n", 1_600_000_000);
    fine(&sync(&[]));
    assert_eq!(sandbox.a.contents(), "d d\nf d/new n\nf one changed\n");
}

#[test]
fn a_kind_in_conflict_goes_to_backup_with_its_subtree() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f x 1\nf y 2");
    fine(&sandbox.sync(&[]));
    sandbox.a.write("x", "changed too", 1_600_000_000);
    sandbox.b.remove("x");
    sandbox.b.make("d x\nf x/in 1\nd x/sub\nf x/sub/deep 2");
    sandbox.a.write("y", "goes on", 1_600_000_000);
    fine(&sandbox.sync(&[]));
    assert_eq!(sandbox.b.read("x").unwrap(), b"changed too");
    assert_eq!(sandbox.b.read("y").unwrap(), b"goes on");
    let kept = sandbox.b.backup();
    assert!(kept.contains("f x/in 1") && kept.contains("f x/sub/deep 2"), "{kept}");
    in_step(&sandbox);
}

#[test]
fn a_file_that_replaced_a_directory_replaces_it_across() {
    let sandbox = Sandbox::new();
    sandbox.a.make("d x\nf x/in 1\nf y 1");
    fine(&sandbox.sync(&[]));
    sandbox.a.remove("x");
    sandbox.a.write("x", "now a file", 1_600_000_000);
    sandbox.a.remove("y");
    sandbox.a.make("d y\nf y/in 2\nl y/l in");
    fine(&sandbox.sync(&[]));
    in_step(&sandbox);
    assert_eq!(sandbox.b.deleted(), "d x\nf x/in 1\n");
    assert_eq!(sandbox.b.backup(), "f y 1\n");
}

#[test]
fn old_backups_and_deletions_are_purged_by_age() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f changed 1\nf gone 2");
    fine(&sandbox.sync(&[]));
    sandbox.a.write("changed", "22", 1_600_000_000);
    sandbox.a.remove("gone");
    fine(&sandbox.sync(&[]));
    assert_eq!(
        (sandbox.b.backup(), sandbox.b.deleted()),
        ("f changed 1\n".into(), "f gone 2\n".into())
    );
    // whatever its mtime, it came today
    fine(&sandbox.quick().env("CONFLICT_BACKUP_DAYS", "1").env("SOFT_DELETE_DAYS", "1").run());
    assert_eq!(
        (sandbox.b.backup(), sandbox.b.deleted()),
        ("f changed 1\n".into(), "f gone 2\n".into())
    );
}

#[test]
fn a_damaged_snapshot_is_never_taken_for_nothing() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f one 1");
    fine(&sandbox.sync(&[]));
    let snapshot = sandbox.path("a/.osync_workdir/state/snapshot-quicksync_task");
    let good = fs::read(&snapshot).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 0x40;
    sandbox.b.remove("one");
    for content in [bad.as_slice(), b"", b"something else entirely", &good[..good.len() - 1]] {
        fs::write(&snapshot, content).unwrap();
        failed(&sandbox.sync(&[]), &["snapshot", "--initialize"]);
        assert!(sandbox.a.has("one") && !sandbox.b.has("one"), "nothing was done");
        assert!(!sandbox.path("a/.osync_workdir/lock").exists(), "the lock is given back");
    }
    fs::write(&snapshot, good).unwrap();
    fine(&sandbox.sync(&["--force-delete"]));
    assert!(!sandbox.a.has("one"));
}

#[test]
fn bad_input_gets_a_clear_error() {
    let sandbox = Sandbox::new();
    let osync = |args: &[&str]| sandbox.osync().args(args).run();
    let (a, b) = (sandbox.path("a"), sandbox.path("b"));
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    failed(&osync(&["--initiator", a, "--target", "missing"]), &["target", "missing"]);
    std::os::unix::fs::symlink(a, sandbox.path("link")).unwrap();
    let inside = format!("{a}/sub");
    for (target, words) in [(a, "same directory"), (&inside, "inside"), ("link", "same directory")]
    {
        let refused = osync(&["--initiator", a, "--target", target]);
        assert_eq!(refused.status, Some(128), "what flags alone say is bad usage: {refused}");
        assert!(refused.stderr.contains(words), "{refused}");
    }
    let typo = osync(&["--initiator", a, "--target", b, "--sumary"]);
    assert_eq!(typo.status, Some(128), "{typo}");
    assert!(typo.stderr.contains("--summary"), "{typo}");
    fs::create_dir_all(sandbox.path("b/.osync_workdir")).unwrap();
    fs::write(sandbox.path("b/.osync_workdir/lock"), "no lock\n").unwrap();
    failed(&osync(&["--initiator", a, "--target", b]), &["lock", "--force-unlock"]);
    let forced = osync(&["--initiator", a, "--target", b, "--force-unlock"]);
    assert_eq!(forced.status, Some(0), "just what was asked for: {forced}");
    assert!(forced.stdout.contains("forced") || forced.stderr.contains("forced"), "{forced}");
    assert!(sandbox.path("b/.osync_workdir/state").is_dir(), "as osync 1.3 makes it");
    assert!(!sandbox.path("b/.osync_workdir/lock").exists());
}

#[test]
fn the_state_of_osync_1_3_is_taken_over_and_handed_back() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/osync-1.3-state");
    let tree = "f a.txt 1\nl link a.txt\nf docs/b\\s(copy).txt 2\nf docs/old\\sstuff/c 3\n\
                f from\\starget 4\nf ünï/日本.txt 5";
    for (set, id, delete, expected) in [
        ("plain", "plain", Some("docs/old stuff/c"), "docs/old stuff/c"),
        ("failed-deletion", "failed", Some("docs/b (copy).txt"), "docs/b (copy).txt"),
        ("stopped-run", "stopped", Some("a.txt"), "a.txt"),
    ] {
        let sandbox = Sandbox::new();
        sandbox.a.make(tree);
        sandbox.b.make(tree);
        let state = sandbox.path("a/.osync_workdir/state");
        fs::create_dir_all(&state).unwrap();
        for file in fs::read_dir(data.join(set)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), state.join(file.file_name())).unwrap();
        }
        if let Some(name) = delete {
            sandbox.a.remove(name);
        }
        if set == "stopped-run" {
            sandbox.a.write("big", "new", 1_600_000_000);
        }
        let run = sandbox.sync(&["--instance-id", id]);
        fine(&run);
        assert!(!sandbox.b.has(expected), "{set}: the deletion is propagated\n{run}");
        assert!(sandbox.b.deleted().contains("f "), "{set}");
        assert_eq!(sandbox.a.details(), sandbox.b.details(), "{set}");
        let list =
            |side: &str| fs::read_to_string(state.join(format!("{side}-tree-after-{id}"))).unwrap();
        let find = "cd a && LC_ALL=C find . -mindepth 1 -path ./.osync_workdir -prune -o -print \
                    | sed 's|^\\./||' | LC_ALL=C sort | grep -v '^\\.$'";
        let present = sandbox.program("sh").args(["-c", find]).run().stdout;
        assert_eq!(list("initiator"), present, "{set}: what osync 1.3 would have written");
        assert_eq!(list("target"), present, "{set}");
        let action = fs::read_to_string(state.join(format!("initiator-last-action-{id}")));
        assert_eq!(action.unwrap().trim(), "synced");
    }
}

#[test]
fn after_the_old_tool_ran_in_between_its_lists_count() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f one 1\nf two 2");
    fine(&sandbox.sync(&[]));
    // osync 1.3 brings "three" over, and rewrites its lists
    sandbox.a.make("f three 3");
    sandbox.b.make("f three 3");
    for side in ["initiator", "target"] {
        let list = sandbox.path(format!("a/.osync_workdir/state/{side}-tree-after-quicksync_task"));
        fs::write(list, "one\nthree\ntwo\n").unwrap();
    }
    sandbox.b.remove("three");
    fine(&sandbox.sync(&[]));
    assert!(!sandbox.a.has("three"), "deleted since the old tool ran");
    in_step(&sandbox);
}

#[test]
fn a_tree_a_thousand_levels_deep_is_carried_over() {
    let sandbox = Sandbox::new();
    let script =
        "cd a; i=0; while [ $i -lt 1000 ]; do mkdir d && cd d; i=$((i+1)); done; echo x > f";
    fine(&sandbox.program("sh").args(["-c", script]).run());
    fine(&sandbox.sync(&[]));
    let deep = format!("{}f", "d/".repeat(1000));
    assert_eq!(sandbox.b.read(&deep).unwrap(), b"x\n");
    sandbox.a.remove("d");
    fine(&sandbox.sync(&["--force-delete"]));
    assert!(!sandbox.b.has("d"));
}

#[test]
fn directories_that_wait_on_every_level_do_not_all_stay_open() {
    let sandbox = Sandbox::new();
    let mut path = String::from("x");
    for _ in 0..300 {
        for name in ["a", "b/c", "d"] {
            fs::create_dir_all(sandbox.a.at(format!("{path}/{name}"))).unwrap();
        }
        path.push_str("/b");
    }
    fine(&sandbox.sync(&[]));
    // rsync, which needs a descriptor a level, has nothing to do here
    let limited = format!("ulimit -n 220; exec '{}' \"$@\"", crate::support::osync());
    let run = sandbox
        .program("sh")
        .args(["-c", &limited, "osync"])
        .arg(format!("--initiator={}", sandbox.a.root.display()))
        .arg(format!("--target={}", sandbox.b.root.display()));
    fine(&run.run());
}

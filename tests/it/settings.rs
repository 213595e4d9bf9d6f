//! What each setting of a local task does to a run (spec 2, "Keys"): a table of settings,
//! each with a run that shows its effect and one that shows what happens without it.
//! `tests/data/key-effects.txt` names them.

use crate::support::sandbox::{Outcome, Sandbox};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

/// A run with settings from the environment; it must end with this status.
fn run(sandbox: &Sandbox, settings: &[(&str, &str)], status: i32) -> Outcome {
    let set = |run: crate::support::sandbox::Run, (key, value): &(&str, &str)| run.env(key, value);
    let run = settings.iter().fold(sandbox.quick(), set).run();
    assert_eq!(run.status, Some(status), "{settings:?} {run}");
    run
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// An rsync that writes down what it is called with. Returns the program and its notes.
fn listening_rsync(sandbox: &Sandbox) -> (PathBuf, PathBuf) {
    let (program, notes) = (sandbox.path("listening-rsync"), sandbox.path("rsync-calls"));
    let script = format!("#!/bin/sh\necho \"$*\" >>'{}'\nexec rsync \"$@\"\n", notes.display());
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    (program, notes)
}

#[test]
fn settings_of_transfers_reach_rsync() {
    let sandbox = Sandbox::new();
    let (program, notes) = listening_rsync(&sandbox);
    let words = |settings: &[(&str, &str)]| {
        sandbox.a.write("f", format!("{settings:?}"), 1_600_000_000);
        drop(fs::remove_file(&notes));
        run(&sandbox, &[settings, &[("RSYNC_EXECUTABLE", program.to_str().unwrap())]].concat(), 0);
        let calls = fs::read_to_string(&notes).unwrap();
        format!(" {} ", calls.replace('\n', " "))
    };
    let plain = words(&[]);
    for (key, value, option) in [
        ("BANDWIDTH", "7777", " --bwlimit=7777 "),
        ("RSYNC_OPTIONAL_ARGS", "--fuzzy '--out-format=a b'", " --fuzzy --out-format=a b "),
        ("PARTIAL", "yes", "/.osync_workdir/_partial "),
        ("PRESERVE_HARDLINKS", "yes", " -H "),
    ] {
        let found = words(&[(key, value)]);
        assert!(found.contains(option), "{key}={value}: {found}");
        assert!(!plain.contains(option), "without {key}: {plain}");
    }
    assert!(plain.contains(" --whole-file "), "local transfers take whole files: {plain}");
    assert!(!words(&[("RSYNC_COMPRESS", "yes")]).contains(" -zz "), "never compressed here");
}

#[test]
fn names_and_places_of_a_task_are_those_of_its_settings() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f x y");
    fs::remove_dir(&sandbox.b.root).unwrap();
    let refused = run(&sandbox, &[("CREATE_DIRS", "no")], 1);
    assert!(refused.stderr.contains("set CREATE_DIRS=yes"), "{refused}");
    assert!(!sandbox.b.root.exists());
    let (state, log) = (sandbox.path("my state"), sandbox.path("my.log"));
    let settings = [
        ("CREATE_DIRS", "yes"),
        ("INSTANCE_ID", "mine"),
        ("INITIATOR_CUSTOM_STATE_DIR", state.to_str().unwrap()),
        ("LOGFILE", log.to_str().unwrap()),
    ];
    run(&sandbox, &settings, 0);
    assert!(sandbox.b.has("x"));
    assert!(state.join("initiator-tree-after-mine").exists());
    assert!(!sandbox.a.has(".osync_workdir/state/initiator-tree-after-mine"));
    assert!(fs::read_to_string(log).unwrap().contains("[mine]"));
    assert_eq!(sandbox.log().matches("[mine]").count(), 0, "the other log is left alone");
}

#[test]
fn state_directories_must_be_two() {
    let sandbox = Sandbox::new();
    let state = sandbox.path("state");
    let both = [
        ("INITIATOR_CUSTOM_STATE_DIR", state.to_str().unwrap()),
        ("TARGET_CUSTOM_STATE_DIR", state.to_str().unwrap()),
    ];
    let refused = run(&sandbox, &both, 1);
    assert!(refused.stderr.contains("must be another directory"), "{refused}");
    let refused = run(&sandbox, &[("TARGET_CUSTOM_STATE_DIR", "state")], 1);
    assert!(refused.stderr.contains("must be an absolute path"), "{refused}");
}

#[test]
fn a_file_for_another_generation_is_a_warning() {
    let sandbox = Sandbox::new();
    for (revision, status) in [("1.2", 0), ("1.3.0", 0), ("", 0), ("2.0", 2)] {
        let file = sandbox.config("t.conf", &format!("CONFIG_FILE_REVISION={revision}"));
        let run = sandbox.osync().arg(file).run();
        assert_eq!(run.status, Some(status), "{revision} {run}");
    }
}

#[test]
fn too_little_space_is_a_warning_for_each_side() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f x y");
    let run_ = run(&sandbox, &[("MINIMUM_SPACE", "999999999999999")], 2);
    for side in ["initiator: only", "target: only"] {
        assert!(run_.stderr.contains(side), "{run_}");
    }
    assert!(sandbox.b.has("x"), "a warning stops nothing");
    assert_eq!(run(&sandbox, &[("MINIMUM_SPACE", "0")], 0).stderr, "");
}

#[test]
fn patterns_choose_what_takes_part() {
    let files = "f keep.txt 1\nf skip.tmp 2\nf dir/also.txt 3\nf dir/not.tmp 4";
    for (settings, expected) in [
        (vec![("RSYNC_EXCLUDE_PATTERN", "*.tmp")], "dir dir/also.txt keep.txt"),
        (vec![("RSYNC_EXCLUDE_PATTERN", "*.tmp;dir")], "keep.txt"),
        (
            vec![("RSYNC_EXCLUDE_PATTERN", "*.tmp|keep.txt"), ("PATH_SEPARATOR_CHAR", "|")],
            "dir dir/also.txt",
        ),
        (
            vec![("RSYNC_INCLUDE_PATTERN", "not.tmp"), ("RSYNC_EXCLUDE_PATTERN", "*.tmp")],
            "dir dir/also.txt dir/not.tmp keep.txt",
        ),
        (
            vec![
                ("RSYNC_INCLUDE_PATTERN", "not.tmp"),
                ("RSYNC_EXCLUDE_PATTERN", "*.tmp"),
                ("RSYNC_PATTERN_FIRST", "exclude"),
            ],
            "dir dir/also.txt keep.txt",
        ),
        (vec![("RSYNC_EXCLUDE_FROM", "LIST")], "dir dir/also.txt keep.txt"),
        (
            vec![("RSYNC_INCLUDE_FROM", "LIST"), ("RSYNC_EXCLUDE_PATTERN", "*.t*")],
            "dir dir/not.tmp skip.tmp",
        ),
    ] {
        let sandbox = Sandbox::new();
        sandbox.a.make(files);
        let list = sandbox.path("list");
        fs::write(&list, "# a list\n\n*.tmp\n").unwrap();
        let path = |value| if value == "LIST" { list.to_str().unwrap() } else { value };
        let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, path(value))).collect();
        run(&sandbox, &settings, 0);
        let found: Vec<String> =
            sandbox.b.tree().keys().map(|p| String::from_utf8_lossy(p).into_owned()).collect();
        assert_eq!(found.join(" "), expected, "{settings:?}");
    }
}

#[test]
fn modes_are_kept_if_wanted() {
    for (settings, expected) in [
        (&[][..], 0o711),
        (&[("PRESERVE_PERMISSIONS", "no"), ("PRESERVE_EXECUTABILITY", "yes")], 0o755),
        (&[("PRESERVE_PERMISSIONS", "no"), ("PRESERVE_EXECUTABILITY", "no")], 0o644),
    ] {
        let sandbox = Sandbox::new();
        // there already, so that the receiver's own mode is the starting point
        sandbox.b.write("f", "old", 1_500_000_000);
        fs::set_permissions(sandbox.b.at("f"), fs::Permissions::from_mode(0o644)).unwrap();
        sandbox.a.write("f", "newer", 1_600_000_000);
        fs::set_permissions(sandbox.a.at("f"), fs::Permissions::from_mode(0o711)).unwrap();
        run(&sandbox, settings, 0);
        assert_eq!(sandbox.b.read("f").unwrap(), b"newer");
        assert_eq!(mode(&sandbox.b.at("f")), expected, "{settings:?}");
        assert_eq!(mode(&sandbox.a.at("f")), 0o711, "the source is left alone");
    }
}

#[test]
fn owners_and_groups_are_kept_if_wanted() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can give files away");
        return;
    }
    let (me, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    for (settings, expected) in [
        (&[][..], (12345, 23456)),
        (&[("PRESERVE_OWNER", "no")], (me, 23456)),
        (&[("PRESERVE_GROUP", "no")], (12345, group)),
    ] {
        let sandbox = Sandbox::new();
        sandbox.a.make("f x y");
        chown(sandbox.a.at("x"), Some(12345), Some(23456)).unwrap();
        run(&sandbox, settings, 0);
        let found = fs::metadata(sandbox.b.at("x")).unwrap();
        assert_eq!((found.uid(), found.gid()), expected, "{settings:?}");
    }
}

#[test]
fn attributes_and_access_lists_are_kept_if_wanted() {
    for (key, set, get, part) in [
        (
            "PRESERVE_XATTR",
            &["setfattr", "-n", "user.note", "-v", "mine"][..],
            &["getfattr", "-d"][..],
            "user.note=\"mine\"",
        ),
        ("PRESERVE_ACL", &["setfacl", "-m", "u:65534:r--"], &["getfacl", "-cn"], "user:65534:r--"),
    ] {
        for (value, kept) in [("no", false), ("yes", true)] {
            let sandbox = Sandbox::new();
            let tool = |words: &[&str], path: &Path| {
                sandbox.program(words[0]).args(&words[1..]).arg(path).run()
            };
            sandbox.a.make("f x y");
            let done = tool(set, &sandbox.a.at("x"));
            if done.stderr.contains("not supported") {
                eprintln!("skipped: the file system has no such attributes: {done}");
                return;
            }
            assert_eq!(done.status, Some(0), "{done}");
            run(&sandbox, &[(key, value)], 0);
            let found = tool(get, &sandbox.b.at("x"));
            assert_eq!(found.stdout.contains(part), kept, "{key}={value} {found}");
        }
    }
}

#[test]
fn links_are_followed_or_not() {
    for (settings, is_link, below) in [
        (&[][..], true, false),
        (&[("COPY_SYMLINKS", "yes")], false, true),
        (&[("KEEP_DIRLINKS", "yes")], false, true),
    ] {
        let sandbox = Sandbox::new();
        fs::create_dir(sandbox.path("elsewhere")).unwrap();
        fs::write(sandbox.path("elsewhere/in"), "it").unwrap();
        symlink(sandbox.path("elsewhere"), sandbox.a.at("dir")).unwrap();
        run(&sandbox, settings, 0);
        let found = sandbox.b.at("dir").symlink_metadata().unwrap();
        assert_eq!(found.is_symlink(), is_link, "{settings:?}");
        let inside = !found.is_symlink() && sandbox.b.read("dir/in").as_deref() == Some(b"it");
        assert_eq!(inside, below, "{settings:?}");
    }
}

#[test]
fn hard_links_stay_together_if_wanted() {
    for (value, expected) in [("no", 1), ("yes", 2)] {
        let sandbox = Sandbox::new();
        sandbox.a.make("f one y");
        fs::hard_link(sandbox.a.at("one"), sandbox.a.at("two")).unwrap();
        run(&sandbox, &[("PRESERVE_HARDLINKS", value)], 0);
        assert_eq!(fs::metadata(sandbox.b.at("two")).unwrap().nlink(), expected, "{value}");
        assert_eq!(sandbox.b.read("two").unwrap(), b"y");
    }
}

#[test]
fn temporary_files_lie_in_run_dir() {
    let sandbox = Sandbox::new();
    let (program, notes) = listening_rsync(&sandbox);
    sandbox.a.make("f x y");
    let run_dir = sandbox.path("run dir");
    fs::create_dir(&run_dir).unwrap();
    let run_dir = run_dir.to_str().unwrap();
    // with this option the list of what takes part is rsync's: a dry transfer to a temporary place
    let settings = [("RSYNC_OPTIONAL_ARGS", "-C"), ("RSYNC_EXECUTABLE", program.to_str().unwrap())];
    for (name, place) in [("RUN_DIR", run_dir), ("TMPDIR", run_dir)] {
        drop(fs::remove_file(&notes));
        run(&sandbox, &[&settings[..], &[(name, place)]].concat(), 0);
        let calls = fs::read_to_string(&notes).unwrap();
        assert!(calls.contains(&format!(" {place}/")), "{name}: {calls}");
        assert_eq!(fs::read_dir(place).unwrap().count(), 0, "{name}: nothing is left");
    }
    let missing = sandbox.path("missing");
    let failed =
        run(&sandbox, &[&settings[..], &[("RUN_DIR", missing.to_str().unwrap())]].concat(), 1);
    assert!(failed.to_string().contains("temporary directory"), "{failed}");
}

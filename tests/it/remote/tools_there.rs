//! What is taken for granted of the machine over there (spec 5, "No agent needed"), and what is
//! left on it.

use crate::support::over_ssh::OverSsh;
use crate::support::replicas::busybox_tools;
use crate::support::running::Running;
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A task whose shell over there keeps its temporary files in a directory.
fn with_temporary(dir: &Path) -> OverSsh {
    OverSsh::forced(&format!("TMPDIR={} sh -c \"$SSH_ORIGINAL_COMMAND\"", dir.display()))
}

#[test]
fn what_a_killed_shell_over_there_left_goes_with_the_next_run() {
    let temporary = tempfile::tempdir().unwrap();
    let task = with_temporary(temporary.path());
    // the directory is named after the shell that made it
    let kill = format!(
        "for dir in {}/osync.*; do pid=${{dir##*/osync.}}; pid=${{pid#*.}}; kill -9 ${{pid%%.*}}; done",
        temporary.path().display()
    );
    let killed = task.run().env("REMOTE_RUN_BEFORE_CMD", kill).run();
    assert_eq!(killed.status, Some(1), "{killed}");
    let left = names_in(temporary.path());
    assert!(left.len() == 1 && left[0].starts_with("osync."), "{left:?} {killed}");
    // what is not one of ours stays
    let others = [format!("{}.of somebody", left[0].rsplit_once('.').unwrap().0), "osync.x".into()];
    fs::write(temporary.path().join(&others[0]), "").unwrap();
    fs::create_dir(temporary.path().join(&others[1])).unwrap();
    task.fine(task.run().env("REMOTE_RUN_BEFORE_CMD", "true"));
    let mut left = names_in(temporary.path());
    left.sort();
    assert_eq!(left, others, "{killed}");
}

#[test]
fn what_a_killed_run_left_here_goes_with_the_next_one() {
    let task = OverSsh::new();
    let began = task.sandbox.path("began");
    let run = task
        .run()
        .env("SSH_CONTROLMASTER", "yes")
        .env("REMOTE_RUN_BEFORE_CMD", format!("touch '{}'; sleep 60", began.display()));
    let mut running = Running::start(&task.sandbox, run);
    running.until("the command began", || began.exists());
    running.signal(Signal::KILL);
    assert_eq!(running.end(), None);
    let temporary = task.sandbox.path("tmp");
    let left = names_in(&temporary);
    assert_eq!(left.len(), 1, "{left:?}");
    task.fine(task.run().env("SSH_CONTROLMASTER", "yes"));
    assert_eq!(names_in(&temporary), Vec::<String>::new());
}

#[test]
fn a_machine_without_a_place_for_temporary_files_is_served_from_the_work_directory() {
    let task = with_temporary(Path::new("/nowhere"));
    task.sandbox.a.make("f mine here\nd dir\n");
    task.sandbox.a.write(b"new\nline", "x", 1_600_000_000);
    task.sandbox.b.make("f yours there");
    for _ in 0..2 {
        let hook = "echo said by the hook";
        let run = task.run().env("REMOTE_RUN_BEFORE_CMD", hook).arg("--verbose");
        let run = task.fine(run);
        assert!(run.to_string().contains("said by the hook"), "{run}");
        task.assert_in_step();
    }
    let left = names_in(&task.sandbox.b.at(".osync_workdir"));
    assert!(!left.iter().any(|name| name.starts_with("osync.")), "{left:?}");
}

#[test]
fn a_program_that_is_missing_over_there_is_named_and_no_harmful_advice_given() {
    let tools = busybox_tools();
    // that of BusyBox finds its own programs without a name in PATH
    fs::remove_file(tools.path().join("sh")).unwrap();
    symlink(fs::canonicalize("/bin/sh").unwrap(), tools.path().join("sh")).unwrap();
    let path = tools.path().display();
    let task = OverSsh::forced(&format!("PATH={path} sh -c \"$SSH_ORIGINAL_COMMAND\""));
    task.sandbox.a.make("f mine here");
    task.sync();
    let before = [task.sandbox.a.details(), task.sandbox.b.details()];
    for name in ["cat", "sort", "tr", "id", "date", "find", "touch", "mv"] {
        let place = tools.path().join(name);
        let away = tools.path().join("away");
        fs::rename(&place, &away).unwrap();
        let failed = task.run().run();
        assert_eq!(failed.status, Some(1), "{name}: {failed}");
        let named = format!("these programs are not there: {name};");
        assert!(failed.stderr.contains(&named), "{name}: {failed}");
        assert!(!failed.to_string().contains("--initialize"), "{name}: {failed}");
        fs::rename(&away, &place).unwrap();
        assert_eq!(before, [task.sandbox.a.details(), task.sandbox.b.details()], "{name}");
    }
    // not needed
    for name in ["head", "sed", "awk", "grep", "cut", "seq", "xargs"] {
        let _ = fs::remove_file(tools.path().join(name));
    }
    task.sandbox.b.make("f yours there\nf mine changed 1800000000");
    task.sync();
    task.assert_in_step();
}

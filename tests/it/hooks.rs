//! Commands around a run, through the real program (spec 7, "Hooks").

use crate::support::sandbox::Sandbox;
use std::fs;
use std::time::{Duration, Instant};

#[test]
fn before_commands_come_before_the_scan_and_after_commands_know_the_result() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f old x");
    let made = sandbox.a.at("made by the hook");
    let seen = sandbox.path("seen");
    let run = sandbox
        .quick()
        .env("LOCAL_RUN_BEFORE_CMD", format!("echo new > '{}'", made.display()))
        .env("LOCAL_RUN_AFTER_CMD", format!("env | grep ^OSYNC_ > '{}'", seen.display()))
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(sandbox.b.read("made by the hook").as_deref(), Some(&b"new\n"[..]));
    let seen = fs::read_to_string(seen).unwrap();
    for line in [
        "OSYNC_INSTANCE_ID=quicksync_task".to_owned(),
        format!("OSYNC_INITIATOR={}", sandbox.a.root.display()),
        format!("OSYNC_TARGET={}", sandbox.b.root.display()),
        "OSYNC_STATUS=0".to_owned(),
        "OSYNC_UPDATES_INITIATOR=0".to_owned(),
        "OSYNC_UPDATES_TARGET=2".to_owned(),
    ] {
        assert!(seen.lines().any(|l| l == line), "no {line} in {seen}");
    }
}

#[test]
fn commands_written_for_bash_go_on_working() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f one x");
    let run = sandbox
        .quick()
        .env("LOCAL_RUN_BEFORE_CMD", "[[ -d / ]] && a=(x y) && [ ${#a[@]} = 2 ]")
        .env("STOP_ON_CMD_ERROR", "yes")
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(sandbox.b.has("one"));
}

#[test]
fn a_command_for_bash_where_there_is_none_is_told_of() {
    let sandbox = Sandbox::new();
    let bin = sandbox.path("bin");
    fs::create_dir(&bin).unwrap();
    for name in ["sh", "rsync"] {
        let path = std::env::var("PATH").unwrap();
        let mut found = std::env::split_paths(&path).map(|dir| dir.join(name));
        std::os::unix::fs::symlink(found.find(|p| p.exists()).unwrap(), bin.join(name)).unwrap();
    }
    for (command, told) in [("[[ -d / ]] || :", true), ("[ -d / ]", false)] {
        let run = sandbox.quick().env("PATH", &bin).env("LOCAL_RUN_BEFORE_CMD", command).run();
        assert_eq!(run.stdout.contains("There is no bash here"), told, "{run}");
    }
}

#[test]
fn a_failing_before_command_stops_the_run_only_if_asked() {
    for (stop, synchronised) in [("yes", false), ("no", true)] {
        let sandbox = Sandbox::new();
        sandbox.a.make("f one x");
        let run = sandbox
            .quick()
            .env("LOCAL_RUN_BEFORE_CMD", "echo why it failed; exit 9")
            .env("STOP_ON_CMD_ERROR", stop)
            .run();
        assert_eq!(run.status, Some(1), "{run}");
        assert!(run.stderr.contains("status 9") && run.stderr.contains("why it failed"), "{run}");
        assert_eq!(sandbox.b.has("one"), synchronised, "{run}");
        let again = sandbox.sync(&[]);
        assert_eq!(again.status, Some(0), "nothing stands in the way of the next run: {again}");
    }
}

#[test]
fn after_commands_run_after_a_failed_run_only_if_asked() {
    for (before, on_error, ran) in
        [("true", "no", true), ("false", "no", false), ("false", "yes", true)]
    {
        let sandbox = Sandbox::new();
        let mark = sandbox.path("mark");
        let run = sandbox
            .quick()
            .env("LOCAL_RUN_BEFORE_CMD", before)
            .env("LOCAL_RUN_AFTER_CMD", format!("echo $OSYNC_STATUS > '{}'", mark.display()))
            .env("RUN_AFTER_CMD_ON_ERROR", on_error)
            .run();
        assert_eq!(mark.exists(), ran, "{run}");
        if ran {
            let status = fs::read_to_string(mark).unwrap();
            assert_eq!(status, if before == "true" { "0\n" } else { "1\n" }, "{run}");
        }
    }
}

#[test]
fn after_commands_run_even_if_the_run_was_stopped_early_and_that_is_asked() {
    let sandbox = Sandbox::new();
    let mark = sandbox.path("mark");
    let run = sandbox
        .quick()
        .env("LOCAL_RUN_BEFORE_CMD", "false")
        .env("STOP_ON_CMD_ERROR", "yes")
        .env("LOCAL_RUN_AFTER_CMD", format!("echo $OSYNC_STATUS > '{}'", mark.display()))
        .env("RUN_AFTER_CMD_ON_ERROR", "yes")
        .run();
    assert_eq!(run.status, Some(1), "{run}");
    assert_eq!(fs::read_to_string(mark).unwrap(), "1\n", "{run}");
}

#[test]
fn a_failing_after_command_is_an_error() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f one x");
    let run = sandbox.quick().env("LOCAL_RUN_AFTER_CMD", "exit 5").run();
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stderr.contains("after the run ended with status 5"), "{run}");
    assert!(sandbox.b.has("one"));
}

#[test]
fn a_command_that_takes_too_long_is_ended_with_its_children() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f one x");
    let pid = sandbox.path("pid");
    let start = Instant::now();
    let run = sandbox
        .quick()
        .env("LOCAL_RUN_BEFORE_CMD", format!("sleep 1000 & echo $! > '{}'; wait", pid.display()))
        .env("MAX_EXEC_TIME_PER_CMD_BEFORE", "1")
        .run();
    assert_eq!(run.status, Some(1), "{run}");
    assert!(start.elapsed() < Duration::from_secs(60), "{run}");
    assert!(run.stderr.contains("took longer than 1 s"), "{run}");
    assert!(sandbox.b.has("one"), "without STOP_ON_CMD_ERROR the run goes on");
    let child = fs::read_to_string(pid).unwrap();
    assert!(!is_sleeping(child.trim()), "the child of the command is gone, too");
}

/// Whether a process of this number still runs `sleep`.
fn is_sleeping(pid: &str) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.contains("(sleep)") && !state.contains(") Z ")
}

#[test]
fn a_dry_run_leaves_commands_alone_and_says_so() {
    let sandbox = Sandbox::new();
    let mark = sandbox.path("mark");
    let touch = format!("touch '{}'", mark.display());
    let run = sandbox
        .quick()
        .arg("--dry")
        .env("LOCAL_RUN_BEFORE_CMD", &touch)
        .env("LOCAL_RUN_AFTER_CMD", &touch)
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(!mark.exists() && run.stdout.contains("are not run in a dry run"), "{run}");
}

#[test]
fn what_a_command_prints_is_logged_with_verbose() {
    let sandbox = Sandbox::new();
    for (flag, logged) in [("--non-interactive", false), ("--verbose", true)] {
        let run = sandbox.quick().arg(flag).env("LOCAL_RUN_BEFORE_CMD", "echo its words").run();
        assert_eq!(run.status, Some(0), "{run}");
        assert_eq!(run.stdout.contains("(VERBOSE):its words"), logged, "{run}");
    }
}

/// A shell's `trap '' CHLD`, and some service managers, start programs that way. The system then
/// forgets how their children ended, which is no success.
#[test]
fn a_command_that_fails_is_known_to_have_failed_where_sigchld_is_ignored() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f one x");
    let run = sandbox
        .program("bash")
        .args(["-c", "trap '' CHLD; exec \"$0\" \"$@\"", crate::support::osync()])
        .arg(format!("--initiator={}", sandbox.a.root.display()))
        .arg(format!("--target={}", sandbox.b.root.display()))
        .env("LOCAL_RUN_BEFORE_CMD", "exit 3")
        .env("STOP_ON_CMD_ERROR", "yes")
        .run();
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stderr.contains("status 3"), "{run}");
    assert!(!sandbox.b.has("one"), "{run}");
}

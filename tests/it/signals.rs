//! Tests of: time limits, heartbeats and signals at every stage of a run (spec 7, "Limits
//! and signals"; spec 4, "Interruption").
//!
//! Big transfers are slow because of BANDWIDTH; the steps of a run are met at fault points.

use crate::support::installed_rsync::assert_went_on;
use crate::support::over_ssh::OverSsh;
use crate::support::running::{PATIENCE, Running, processes_about};
use crate::support::sandbox::{Run, Sandbox};
use rustix::process::{Signal, kill_process};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

/// Four megabytes that cannot be compressed.
fn big() -> Vec<u8> {
    let numbers = (0..1_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761) ^ (n >> 3));
    numbers.flat_map(u32::to_le_bytes).collect()
}

/// A sandbox in which the initiator has a big file that is slow to transfer, and a small
/// one that is transferred before it; the target has an old version of the big one.
fn slow_sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.b.write("big", "the old version", 1000);
    assert_eq!(sandbox.sync(&[]).status, Some(0));
    sandbox.a.write("big", big(), 2000);
    sandbox.a.write("a small one", "small", 2000);
    sandbox
}

fn slow(sandbox: &Sandbox) -> Run {
    sandbox.quick().env("BANDWIDTH", "1500")
}

/// The name of rsync's temporary file for `big` on the target.
fn temporary(sandbox: &Sandbox) -> Option<String> {
    let names = fs::read_dir(&sandbox.b.root).unwrap().flatten();
    let mut names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.find(|name| name.starts_with(".big."))
}

fn size_of_temporary(sandbox: &Sandbox) -> u64 {
    let path = temporary(sandbox).map(|name| sandbox.b.root.join(name));
    path.and_then(|path| fs::metadata(path).ok()).map_or(0, |found| found.len())
}

fn assert_unlocked(sandbox: &Sandbox) {
    for replica in [&sandbox.a, &sandbox.b] {
        assert!(!replica.has(".osync_workdir/lock"), "locked\n{}", sandbox.log());
    }
}

/// What every stop in the middle of the big transfer leaves, and what the next run makes
/// of it.
fn assert_goes_on(sandbox: &Sandbox) {
    assert_unlocked(sandbox);
    assert_eq!(sandbox.b.read("big").unwrap(), b"the old version", "old or new, never a mixture");
    assert_eq!(temporary(sandbox), None);
    assert_eq!(sandbox.b.read("a small one").unwrap(), b"small", "what was achieved stays");
    // achieved is recorded: what is gone by now was deleted
    sandbox.a.remove("a small one");
    let next = sandbox.sync(&[]);
    assert_eq!(next.status, Some(0), "{next}");
    assert!(!sandbox.b.has("a small one") && !sandbox.a.has("a small one"), "{next}");
    assert!(sandbox.b.read("big").unwrap() == big());
    assert_eq!(sandbox.a.contents(), sandbox.b.contents());
    assert_unlocked(sandbox);
}

#[test]
fn each_signal_stops_a_transfer_and_the_next_run_goes_on() {
    for (signal, name) in
        [(Signal::TERM, "SIGTERM"), (Signal::HUP, "SIGHUP"), (Signal::QUIT, "SIGQUIT")]
    {
        let sandbox = slow_sandbox();
        let mut run = Running::start(&sandbox, slow(&sandbox));
        run.until("the big transfer", || size_of_temporary(&sandbox) > 500_000);
        run.signal(signal);
        assert_eq!(run.end(), Some(2), "{}", sandbox.log());
        assert!(sandbox.log().contains(&format!("stopped by {name}")), "{}", sandbox.log());
        assert_goes_on(&sandbox);
    }
}

#[test]
fn the_first_interrupt_warns_and_the_second_stops() {
    let sandbox = slow_sandbox();
    let mut run = Running::start(&sandbox, slow(&sandbox));
    run.until("the big transfer", || size_of_temporary(&sandbox) > 0);
    run.signal(Signal::INT);
    run.until("the warning", || sandbox.log().contains("a second Ctrl-C stops it"));
    let before = size_of_temporary(&sandbox);
    run.until("the transfer to go on", || size_of_temporary(&sandbox) > before + 100_000);
    run.signal(Signal::INT);
    assert_eq!(run.end(), Some(2), "{}", sandbox.log());
    assert!(sandbox.log().contains("stopped by SIGINT"), "{}", sandbox.log());
    assert_goes_on(&sandbox);
}

#[test]
fn a_run_interrupted_once_comes_to_its_end() {
    let sandbox = slow_sandbox();
    let mut run = Running::start(&sandbox, slow(&sandbox));
    run.until("the big transfer", || size_of_temporary(&sandbox) > 0);
    run.signal(Signal::INT);
    assert_eq!(run.end(), Some(2), "the warning counts\n{}", sandbox.log());
    assert_eq!(sandbox.log().matches("(WARN):interrupted").count(), 1, "{}", sandbox.log());
    assert!(sandbox.log().trim_end().ends_with("osync finished with warnings."));
    assert_eq!(sandbox.a.contents(), sandbox.b.contents());
    assert_unlocked(&sandbox);
}

#[test]
fn a_hang_up_that_was_ignored_from_the_start_stays_ignored() {
    let sandbox = slow_sandbox();
    let program = format!(
        "trap '' HUP; exec '{}' --initiator='{}' --target='{}'",
        crate::support::osync(),
        sandbox.a.root.display(),
        sandbox.b.root.display()
    );
    let run = sandbox.program("sh").args(["-c", &program]).env("BANDWIDTH", "3000");
    let mut run = Running::start(&sandbox, run);
    run.until("the big transfer", || size_of_temporary(&sandbox) > 0);
    run.signal(Signal::HUP);
    assert_eq!(run.end(), Some(0), "{}", sandbox.log());
    assert_eq!(sandbox.a.contents(), sandbox.b.contents());
}

#[test]
fn the_hard_limit_stops_a_transfer_which_then_goes_on_within_the_file() {
    let sandbox = slow_sandbox();
    let run =
        slow(&sandbox).env("BANDWIDTH", "700").env("HARD_MAX_EXEC_TIME", "3").env("PARTIAL", "yes");
    let run = Running::start(&sandbox, run);
    assert_eq!(run.end(), Some(1), "{}", sandbox.log());
    assert!(sandbox.log().contains("HARD_MAX_EXEC_TIME"), "{}", sandbox.log());
    assert_unlocked(&sandbox);
    assert_eq!(sandbox.b.read("big").unwrap(), b"the old version");
    let partial = sandbox.b.read(".osync_workdir/_partial/big").unwrap().len() as u64;
    assert!((100_000..4_000_000).contains(&partial), "{partial}");
    let next = sandbox.quick().env("PARTIAL", "yes").args(["--stats"]).run();
    assert_eq!(next.status, Some(0), "{next}");
    assert!(sandbox.b.read("big").unwrap() == big());
    let matched = next.stdout.split("Matched data: ").nth(1).unwrap();
    let matched: u64 = matched.split(' ').next().unwrap().parse().unwrap();
    assert_went_on(&next.stdout, partial, matched, &sandbox.b.at(".osync_workdir/_partial/big"));
}

#[test]
fn without_partial_nothing_of_a_stopped_transfer_is_kept() {
    let sandbox = slow_sandbox();
    let run = slow(&sandbox).env("BANDWIDTH", "700").env("HARD_MAX_EXEC_TIME", "3");
    assert_eq!(Running::start(&sandbox, run).end(), Some(1), "{}", sandbox.log());
    assert!(!sandbox.b.has(".osync_workdir/_partial/big"));
    assert_goes_on(&sandbox);
}

#[test]
fn no_maxtime_knows_no_limit() {
    let sandbox = slow_sandbox();
    let run = slow(&sandbox).env("HARD_MAX_EXEC_TIME", "1").env("SOFT_MAX_EXEC_TIME", "1");
    let run = Running::start(&sandbox, run.arg("--no-maxtime"));
    assert_eq!(run.end(), Some(0), "{}", sandbox.log());
    assert_eq!(sandbox.a.contents(), sandbox.b.contents());
    assert!(!sandbox.log().contains("MAX_EXEC_TIME"), "{}", sandbox.log());
}

#[test]
fn the_soft_limit_warns_once_and_the_run_comes_to_its_end() {
    let sandbox = slow_sandbox();
    let run = slow(&sandbox).env("SOFT_MAX_EXEC_TIME", "1");
    assert_eq!(Running::start(&sandbox, run).end(), Some(2), "{}", sandbox.log());
    assert_eq!(sandbox.log().matches("SOFT_MAX_EXEC_TIME").count(), 1, "{}", sandbox.log());
    assert_eq!(sandbox.a.contents(), sandbox.b.contents());
}

#[test]
fn a_long_run_gives_signs_of_life() {
    let sandbox = slow_sandbox();
    let run = slow(&sandbox).env("KEEP_LOGGING", "1");
    assert_eq!(Running::start(&sandbox, run).end(), Some(0), "{}", sandbox.log());
    assert!(sandbox.log().matches("still running").count() >= 1, "{}", sandbox.log());
    let quiet = slow_sandbox();
    let run = slow(&quiet).env("KEEP_LOGGING", "0");
    assert_eq!(Running::start(&quiet, run).end(), Some(0), "{}", quiet.log());
    assert!(!quiet.log().contains("still running"), "{}", quiet.log());
}

#[test]
fn both_directions_of_a_transfer_are_stopped() {
    let sandbox = slow_sandbox();
    sandbox.b.write("other", big(), 2000);
    let mut run = Running::start(&sandbox, slow(&sandbox).env("PARTIAL", "yes"));
    let coming_back = || {
        let names = fs::read_dir(&sandbox.a.root).unwrap().flatten();
        names.into_iter().any(|e| e.file_name().as_bytes().starts_with(b".other."))
    };
    run.until("both transfers", || coming_back() && size_of_temporary(&sandbox) > 0);
    run.signal(Signal::TERM);
    assert_eq!(run.end(), Some(2), "{}", sandbox.log());
    assert!(!sandbox.a.has("other"));
    assert!(!coming_back(), "no temporary file is left");
    assert_goes_on(&sandbox);
}

#[test]
fn a_command_before_the_run_is_ended_with_all_it_started() {
    let sandbox = Sandbox::new();
    sandbox.a.write("f", "1", 1000);
    let mark = sandbox.path("mark");
    let lines = format!(
        "LOCAL_RUN_BEFORE_CMD=\"sh -c 'sleep 1000; : {0}' & echo > {0}; sleep 1000\"\n\
         LOCAL_RUN_AFTER_CMD=\"echo \\$OSYNC_STATUS > {0}.after\"\nRUN_AFTER_CMD_ON_ERROR=yes",
        mark.display()
    );
    let config = sandbox.config("task.conf", &lines);
    let mut run = Running::start(&sandbox, sandbox.osync().arg(&config));
    run.until("the command", || mark.exists());
    run.signal(Signal::TERM);
    assert_eq!(run.end(), Some(2), "{}", sandbox.log());
    assert!(!sandbox.b.has("f"));
    assert_unlocked(&sandbox);
    let after = fs::read_to_string(sandbox.path("mark.after")).unwrap_or_default();
    assert_eq!(after.trim(), "2", "the closing steps are done\n{}", sandbox.log());
}

#[test]
fn a_command_after_the_run_is_ended_by_the_next_signal() {
    for stopped_before in [false, true] {
        let sandbox = if stopped_before { slow_sandbox() } else { Sandbox::new() };
        sandbox.a.write("f", "x", 1000);
        let begun = sandbox.path("begun");
        let command = format!("echo $OSYNC_STATUS >'{}'; sleep 1000", begun.display());
        let run =
            slow(&sandbox).env("LOCAL_RUN_AFTER_CMD", command).env("RUN_AFTER_CMD_ON_ERROR", "yes");
        let mut running = Running::start(&sandbox, run);
        if stopped_before {
            running.until("rsync writes", || size_of_temporary(&sandbox) > 0);
            running.signal(Signal::TERM);
        }
        running.until("the command runs", || {
            fs::read_to_string(&begun).is_ok_and(|text| text.ends_with('\n'))
        });
        let status = fs::read_to_string(&begun).unwrap();
        assert_eq!(status, if stopped_before { "2\n" } else { "0\n" });
        running.signal(Signal::TERM);
        assert_eq!(running.end(), Some(2), "{}", sandbox.log());
        assert_unlocked(&sandbox);
        assert!(sandbox.log().contains("with it the local command after the run"));
    }
}

#[test]
fn check_and_upgrade_leave_no_ssh_behind() {
    for command in ["check", "upgrade"] {
        let sandbox = Sandbox::new();
        let (proxy, connecting) = (sandbox.path("proxy"), sandbox.path("connecting"));
        let script = format!("#!/bin/sh\necho x >'{}'\nsleep 1000\n", connecting.display());
        fs::write(&proxy, script).unwrap();
        fs::set_permissions(&proxy, fs::Permissions::from_mode(0o755)).unwrap();
        let temporary = sandbox.path("temporary");
        fs::create_dir(&temporary).unwrap();
        let run = sandbox
            .osync()
            .arg(command)
            .arg(format!("--initiator={}", sandbox.a.root.display()))
            .arg(format!("--target=ssh://root@127.0.0.1:1/{}", sandbox.b.root.display()))
            .env("SSH_OPTIONAL_ARGS", format!("-F none -o ProxyCommand={}", proxy.display()))
            .env("TMPDIR", &temporary);
        let mut running = Running::start(&sandbox, run);
        running.until("ssh connects", || connecting.exists());
        running.signal(Signal::TERM);
        assert_eq!(running.end(), Some(1));
        assert_eq!(fs::read_dir(temporary).unwrap().count(), 0, "{command}");
    }
}

#[test]
fn a_signal_to_a_run_over_ssh_is_no_error_whatever_it_waits_for() {
    let there = OverSsh::new();
    let sandbox = &there.sandbox;
    sandbox.a.write("f", "x", 1000);
    let began = |name: &str| format!("echo x >'{}'", sandbox.path(name).display());
    // while ssh connects
    let proxy = sandbox.path("proxy");
    fs::write(&proxy, format!("#!/bin/sh\n{}\nexec sleep 1000\n", began("connecting"))).unwrap();
    fs::set_permissions(&proxy, fs::Permissions::from_mode(0o755)).unwrap();
    let options = format!("-F none -o ProxyCommand={}", proxy.display());
    let mut running = Running::start(sandbox, there.run().env("SSH_OPTIONAL_ARGS", options));
    running.until("ssh connects", || sandbox.path("connecting").exists());
    running.signal(Signal::TERM);
    assert_eq!(running.end(), Some(2), "{}", sandbox.log());
    // in the command before the run; the one after it runs all the same, and to its end
    let after = sandbox.path("after");
    let run = there
        .run()
        .env("REMOTE_RUN_BEFORE_CMD", format!("{}; sleep 1000", began("before")))
        .env("REMOTE_RUN_AFTER_CMD", format!("sleep 1; echo $OSYNC_STATUS >'{}'", after.display()))
        .env("RUN_AFTER_CMD_ON_ERROR", "yes");
    let mut running = Running::start(sandbox, run);
    running.until("the command before the run", || sandbox.path("before").exists());
    running.signal(Signal::TERM);
    assert_eq!(running.end(), Some(2), "{}", sandbox.log());
    assert_eq!(fs::read_to_string(&after).unwrap(), "2\n", "{}", sandbox.log());
    // in the command after the run
    let run = there.run().env("REMOTE_RUN_AFTER_CMD", format!("{}; sleep 1000", began("closing")));
    let mut running = Running::start(sandbox, run);
    running.until("the command after the run", || sandbox.path("closing").exists());
    running.signal(Signal::TERM);
    assert_eq!(running.end(), Some(2), "{}", sandbox.log());
    there.assert_in_step();
    assert!(!sandbox.log().contains("(ERROR)") && !sandbox.log().contains("CRITICAL"));
}

/// Files that come, go and change on both sides.
fn busy_sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.a.make("d dir");
    for n in 0..20 {
        sandbox.a.write(format!("dir/goes{n}"), "x", 1000);
        sandbox.a.write(format!("dir/changes{n}"), "x", 1000);
    }
    assert_eq!(sandbox.sync(&[]).status, Some(0));
    for n in 0..20 {
        sandbox.a.remove(format!("dir/goes{n}"));
        sandbox.a.write(format!("dir/changes{n}"), "yy", 2000);
        sandbox.b.write(format!("dir/comes{n}"), "z", 2000);
    }
    sandbox
}

#[test]
fn a_signal_at_any_step_leaves_nothing_behind_and_the_next_run_completes_the_work() {
    if !cfg!(debug_assertions) {
        return println!("skipped: a release build has no fault points");
    }
    let whole = busy_sandbox();
    let trace = whole.path("trace");
    let run = whole.quick().env("SOFT_DELETE", "no").env("OSYNC_FAULT_TRACE", &trace).run();
    assert_eq!(run.status, Some(0), "{run}");
    let trace = fs::read_to_string(trace).unwrap();
    let steps: BTreeSet<&str> =
        trace.lines().filter_map(|line| Some(line.split_once(':')?.0)).collect();
    let mut stopped = 0;
    for step in &steps {
        let sandbox = busy_sandbox();
        let run = sandbox.quick().env("SOFT_DELETE", "no");
        let run = run.env("OSYNC_FAULT", format!("{step}:1:kill -TERM $PPID")).run();
        assert!(matches!(run.status, Some(0 | 2)), "{step} {run}");
        stopped += usize::from(run.status == Some(2));
        assert_unlocked(&sandbox);
        let next = sandbox.sync(&[]);
        assert_eq!(next.status, Some(0), "{step}: {next}");
        for side in [&sandbox.a, &sandbox.b] {
            assert_eq!(side.contents(), whole.a.contents(), "{step}");
        }
    }
    assert!(stopped > steps.len() / 2, "{stopped} of {steps:?}");
}

#[test]
fn after_a_kill_the_children_end_and_the_next_run_tidies_up() {
    let sandbox = slow_sandbox();
    let mut run = Running::start(&sandbox, slow(&sandbox));
    run.until("the big transfer", || size_of_temporary(&sandbox) > 200_000);
    // all at the same moment, as when the power goes
    for signal in [Signal::STOP, Signal::KILL] {
        for (pid, _) in processes_about(sandbox.root()) {
            let _ = kill_process(pid, signal);
        }
    }
    assert_eq!(run.end(), None);
    assert!(sandbox.a.has(".osync_workdir/lock"), "nobody could unlock");
    assert!(temporary(&sandbox).is_some(), "nobody could tidy up");
    assert_eq!(sandbox.b.read("big").unwrap(), b"the old version");
    let next = sandbox.sync(&[]);
    assert_eq!(next.status, Some(0), "{next}");
    assert_eq!(temporary(&sandbox), None, "{next}");
    assert!(sandbox.b.read("big").unwrap() == big());
    assert_eq!(sandbox.a.contents(), sandbox.b.contents());
    assert_unlocked(&sandbox);
}

/// Nobody is left to end them: what a killed run started has to end by itself.
fn until_nothing_runs(sandbox: &Sandbox) {
    let started = Instant::now();
    while !processes_about(sandbox.root()).is_empty() {
        assert!(started.elapsed() < PATIENCE, "rsync goes on without us");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn rsync_ends_by_itself_when_only_the_program_is_killed() {
    let sandbox = slow_sandbox();
    let mut run = Running::start(&sandbox, slow(&sandbox));
    run.until("the big transfer", || size_of_temporary(&sandbox) > 200_000);
    run.signal(Signal::KILL);
    assert_eq!(run.end(), None);
    until_nothing_runs(&sandbox);
    assert_eq!(sandbox.b.read("big").unwrap(), b"the old version", "it did not finish alone");
    let next = sandbox.sync(&[]);
    assert_eq!(next.status, Some(0), "{next}");
    assert_eq!(sandbox.a.contents(), sandbox.b.contents());
}

#[test]
fn rsync_ends_by_itself_among_new_files_too() {
    const FILES: usize = 200;
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.a.root.join("new")).unwrap();
    for number in 0..FILES {
        sandbox.a.write(format!("new/{number}"), "x".repeat(20_000), 1_500_000_000);
    }
    let arrived = || fs::read_dir(sandbox.b.root.join("new")).map_or(0, Iterator::count);
    let slow = sandbox.quick().env("BANDWIDTH", "400").env("RSYNC_COMPRESS", "no");
    let mut run = Running::start(&sandbox, slow);
    run.until("some of the files", || arrived() > 3);
    run.signal(Signal::KILL);
    assert_eq!(run.end(), None);
    until_nothing_runs(&sandbox);
    assert!(arrived() < FILES, "it finished alone");
    let next = sandbox.sync(&[]);
    assert_eq!(next.status, Some(0), "{next}");
    assert_eq!(sandbox.a.contents(), sandbox.b.contents());
}

#[test]
fn runs_that_never_come_to_their_end_are_counted() {
    let sandbox = slow_sandbox();
    let count = || {
        let file = sandbox.a.root.join(".osync_workdir/state/resume-count-quicksync_task");
        fs::read_to_string(file).unwrap_or_default().trim().to_owned()
    };
    for (said, counted) in [("", ""), ("(try 1 of 1)", "1"), ("this one goes on", "0")] {
        drop(fs::remove_file(sandbox.path("osync.log")));
        let mut run = Running::start(&sandbox, slow(&sandbox));
        run.until("the big transfer", || size_of_temporary(&sandbox) > 0);
        run.signal(Signal::TERM);
        assert_eq!(run.end(), Some(2), "{}", sandbox.log());
        assert!(sandbox.log().contains(said), "{said}: {}", sandbox.log());
        assert_eq!(count(), counted, "{said}");
    }
    let last = sandbox.sync(&[]);
    assert_eq!(last.status, Some(0), "{last}");
    assert!(last.stdout.contains("(try 1 of 1)"), "{last}");
    assert!(!sandbox.sync(&[]).stdout.contains("did not come to its end"));
}

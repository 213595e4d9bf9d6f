//! Limits of time with a remote target: a hard stop in the middle of a transfer, hooks that
//! do not end.

use crate::support::installed_rsync::assert_went_on;
use crate::support::over_ssh::OverSsh;
use std::fs;
use std::time::{Duration, Instant};

/// Four megabytes that cannot be compressed.
fn big() -> Vec<u8> {
    let numbers = (0..1_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761) ^ (n >> 3));
    numbers.flat_map(u32::to_le_bytes).collect()
}

#[test]
fn a_hard_stop_in_a_transfer_keeps_what_was_achieved_and_the_next_run_goes_on() {
    for shared in ["yes", "no"] {
        let task = OverSsh::new();
        let (a, b) = (&task.sandbox.a, &task.sandbox.b);
        a.write("big", big(), 1_500_000_000);
        let run = || {
            task.run()
                .env("PARTIAL", "yes")
                .env("RSYNC_COMPRESS", "no")
                .env("SSH_CONTROLMASTER", shared)
        };
        let stopped = run().env("HARD_MAX_EXEC_TIME", "4").env("BANDWIDTH", "400").run();
        assert_eq!(stopped.status, Some(1), "{stopped}");
        assert!(stopped.stderr.contains("HARD_MAX_EXEC_TIME"), "{stopped}");
        assert!(!stopped.stderr.contains("rsync ended"), "being stopped is no failure: {stopped}");
        assert!(!b.has("big"));
        task.assert_unlocked();
        let kept = fs::metadata(b.at(".osync_workdir/_partial/big"));
        let kept = kept.unwrap_or_else(|e| panic!("no partial file: {e}\n{stopped}")).len();
        assert!((1..4_000_000).contains(&kept), "{kept} bytes were kept");
        let next = task.fine(run().arg("--stats"));
        let matched = next.stdout.split("Matched data: ").nth(1).unwrap();
        let matched: u64 = matched.split(' ').next().unwrap().parse().unwrap();
        assert!(b.read("big").unwrap() == big());
        task.assert_in_step();
        assert_went_on(&next.stdout, kept, matched, &b.at(".osync_workdir/_partial/big"));
    }
}

#[test]
fn a_remote_command_that_ignores_term_is_ended_with_all_it_started() {
    let task = OverSsh::new();
    task.sandbox.a.make("f mine here");
    let mark = task.sandbox.path("busy");
    let script = task.sandbox.path("hook that stays");
    fs::write(
        &script,
        format!(
            "trap '' TERM HUP INT\n(trap '' TERM HUP; while :; do echo x >> '{0}'; sleep 0.05; done) &\n\
             while :; do echo y >> '{0}'; sleep 0.05; done\n",
            mark.display()
        ),
    )
    .unwrap();
    let started = Instant::now();
    let failed = task
        .run()
        .env("REMOTE_RUN_BEFORE_CMD", format!("sh '{}'", script.display()))
        .env("MAX_EXEC_TIME_PER_CMD_BEFORE", "1")
        .env("STOP_ON_CMD_ERROR", "yes")
        .env("OSYNC_FAULT_HASTE", "4")
        .run();
    assert_eq!(failed.status, Some(1), "{failed}");
    assert!(failed.stderr.contains("took longer than"), "{failed}");
    assert!(started.elapsed() < Duration::from_secs(60));
    assert_quiet(&mark);
    task.assert_unlocked();
    task.sync();
    task.assert_in_step();
}

/// A hard stop, and a lost program, end the remote command too.
#[test]
fn a_remote_command_ends_with_the_run_that_started_it() {
    for how in ["hard limit", "killed"] {
        let task = OverSsh::new();
        let mark = task.sandbox.path("busy");
        let hook = format!("while :; do echo y >> '{}'; sleep 0.05; done", mark.display());
        let run = task.run().env("REMOTE_RUN_BEFORE_CMD", hook);
        if how == "hard limit" {
            let stopped = run.env("HARD_MAX_EXEC_TIME", "2").run();
            assert_eq!(stopped.status, Some(1), "{stopped}");
        } else {
            let mut child = run.into_command().spawn().unwrap();
            let end = Instant::now() + Duration::from_secs(60);
            while !mark.exists() {
                assert!(Instant::now() < end, "the hook does not begin");
                std::thread::sleep(Duration::from_millis(10));
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_quiet(&mark);
        task.assert_unlocked();
        task.sync();
    }
}

/// Nobody writes to a file any more.
fn assert_quiet(mark: &std::path::Path) {
    let size = || fs::metadata(mark).unwrap().len();
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let before = size();
        // many times the period in which the hook writes
        std::thread::sleep(Duration::from_secs(1));
        if size() == before {
            return;
        }
        assert!(Instant::now() < end, "a process of the hook lives on");
    }
}

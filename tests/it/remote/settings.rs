//! Settings of the way: each reaches ssh and rsync, or does what its name says.

use crate::support::over_ssh::OverSsh;
use crate::support::sandbox::Run;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn fill(task: &OverSsh) {
    task.sandbox.a.make("f mine here");
    task.sandbox.b.make("f yours there");
}

fn script(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A directory that comes first in PATH, with a program of this name that writes down its
/// arguments, a line a call, and does this.
fn stand_in(task: &OverSsh, name: &str, then: &str) -> (String, PathBuf) {
    let dir = task.sandbox.path("tools");
    let said = task.sandbox.path(format!("{name} was called"));
    script(&dir.join(name), &format!("echo \" $* \" >> '{}'\n{then}", said.display()));
    let path = std::env::var("PATH").unwrap();
    (format!("{}:{path}", dir.display()), said)
}

fn found(name: &str) -> PathBuf {
    std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|dir| dir.join(name))
        .find(|path| path.exists())
        .unwrap()
}

#[test]
fn each_setting_reaches_every_call_of_ssh() {
    for (key, value, words) in [
        ("KRB5", "yes", " -K "),
        ("SSH_COMPRESSION", "yes", " -C "),
        ("SSH_COMPRESSION", "no", " -o Compression=no "),
        (
            "SSH_IGNORE_KNOWN_HOSTS",
            "yes",
            " -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no ",
        ),
        ("SSH_CONTROLMASTER", "no", " -o BatchMode=yes "),
    ] {
        let task = OverSsh::new();
        fill(&task);
        let real = found("ssh");
        let (path, said) = stand_in(&task, "ssh", &format!("exec '{}' \"$@\"", real.display()));
        let port = task.server.port;
        task.fine(task.run().env("PATH", path).env(key, value));
        task.assert_in_step();
        let said = fs::read_to_string(said).unwrap();
        let calls: Vec<&str> = said.lines().filter(|call| *call != " -V ").collect();
        assert_eq!(calls.len(), 3, "control shell and both directions: {said}");
        for call in calls {
            for words in
                [words, " -F none ", " -i ", &format!(" -p {port} "), " ConnectTimeout=30 "]
            {
                assert!(call.contains(words), "no '{words}' for {key}={value} in {call}");
            }
        }
    }
}

#[test]
fn one_connection_carries_all_and_ends_with_the_run() {
    for (shared, connections) in [("yes", 1), ("no", 3)] {
        let task = OverSsh::new();
        let proxy = task.proxy(Duration::ZERO);
        fill(&task);
        task.fine(task.by(proxy.port).env("SSH_CONTROLMASTER", shared));
        task.assert_in_step();
        assert_eq!(proxy.connections(), connections, "SSH_CONTROLMASTER={shared}");
        let end = Instant::now() + Duration::from_secs(30);
        while proxy.open() > 0 {
            assert!(Instant::now() < end, "a connection outlives the run");
            std::thread::sleep(Duration::from_millis(10));
        }
        let left: Vec<_> = fs::read_dir(task.sandbox.path("tmp")).unwrap().collect();
        assert!(left.is_empty(), "no socket stays behind: {left:?}");
    }
}

#[test]
fn a_server_that_allows_one_session_gets_more_connections() {
    let task = OverSsh::with("MaxSessions 1");
    let proxy = task.proxy(Duration::ZERO);
    fill(&task);
    task.fine(task.by(proxy.port).env("SSH_CONTROLMASTER", "yes"));
    task.assert_in_step();
    assert_eq!(proxy.connections(), 3);
}

#[test]
fn compression_makes_the_line_wider() {
    let mut bytes = Vec::new();
    for compressed in ["yes", "no"] {
        let task = OverSsh::new();
        let proxy = task.proxy(Duration::ZERO);
        task.sandbox.a.write("f", "the same again ".repeat(100_000), 1_500_000_000);
        let run =
            task.by(proxy.port).env("SSH_COMPRESSION", compressed).env("RSYNC_COMPRESS", "no");
        task.fine(run);
        task.assert_in_step();
        bytes.push(proxy.bytes());
    }
    assert!(bytes[0] < 200_000 && bytes[1] > 1_500_000, "{bytes:?}");
}

#[test]
fn sudo_starts_the_control_shell_and_both_rsyncs() {
    let sudo = "echo \"$*\" >> @DIR@/said\nwhile [ \"$1\" = -E ] || [ \"$1\" = -n ]; do shift; done\nexec \"$@\"";
    let (task, tools) = OverSsh::with_programs(&[("sudo", sudo)]);
    fill(&task);
    task.fine(task.run().env("SUDO_EXEC", "yes"));
    task.assert_in_step();
    let said = fs::read_to_string(tools.path().join("said")).unwrap();
    let mut calls: Vec<&str> = said.lines().collect();
    calls.sort_unstable();
    assert_eq!(
        calls[..2],
        ["-n -E sh", "-n -E sh -c :"],
        "the shell, and before it whether it may: {said}"
    );
    assert_eq!(calls.iter().filter(|call| call.starts_with("rsync --server")).count(), 2, "{said}");
    assert_eq!(calls.len(), 4, "{said}");
}

#[test]
fn rsync_may_have_another_name_and_place_on_either_side() {
    let (task, tools) = OverSsh::with_programs(&[]);
    fill(&task);
    let there = tools.path().join("far away/my rsync");
    script(
        &there,
        &format!("echo called >> '{}'\nexec rsync \"$@\"", tools.path().join("said").display()),
    );
    let here = task.sandbox.path("near/my rsync");
    let said_here = task.sandbox.path("said here");
    script(&here, &format!("echo \" $* \" >> '{}'\nexec rsync \"$@\"", said_here.display()));
    let run = task
        .run()
        .env("RSYNC_EXECUTABLE", &here)
        .env("RSYNC_REMOTE_PATH", there.parent().unwrap())
        .env("BANDWIDTH", "4321");
    task.fine(run);
    task.assert_in_step();
    assert_eq!(fs::read_to_string(tools.path().join("said")).unwrap().lines().count(), 2);
    let calls = fs::read_to_string(said_here).unwrap();
    assert!(calls.lines().filter(|c| c.contains("--server")).count() == 0, "{calls}");
    let transfers: Vec<&str> = calls.lines().filter(|call| call.contains("--files-from")).collect();
    assert_eq!(transfers.len(), 2, "{calls}");
    assert!(transfers.iter().all(|call| call.contains(" --bwlimit=4321 ")), "{calls}");
}

#[test]
fn a_host_that_does_not_answer_a_ping_is_not_called() {
    let task = OverSsh::new();
    let proxy = task.proxy(Duration::ZERO);
    fill(&task);
    let (path, said) = stand_in(&task, "ping", "exit 1");
    let run = |wanted: &str| task.by(proxy.port).env("PATH", &path).env("REMOTE_HOST_PING", wanted);
    let failed = run("yes").run();
    assert_eq!(failed.status, Some(1), "{failed}");
    assert!(failed.stderr.contains("127.0.0.1 does not answer a ping"), "{failed}");
    assert_eq!(proxy.connections(), 0);
    assert!(fs::read_to_string(&said).unwrap().contains("127.0.0.1"));
    task.fine(run("no"));
    stand_in(&task, "ping", "exit 0");
    task.fine(run("yes"));
    task.assert_in_step();
}

#[test]
fn third_party_hosts_are_pinged_until_one_answers() {
    let task = OverSsh::new();
    fill(&task);
    let hosts = "one.example two.example";
    let answers = "for host; do :; done\n[ \"$host\" = two.example ]";
    let (path, said) = stand_in(&task, "ping", answers);
    let run = || -> Run { task.run().env("PATH", &path).env("REMOTE_3RD_PARTY_HOSTS", hosts) };
    task.fine(run());
    let calls = fs::read_to_string(&said).unwrap();
    assert!(calls.contains("one.example") && calls.contains("two.example"), "{calls}");
    stand_in(&task, "ping", "exit 1");
    let warned = run().run();
    assert_eq!(warned.status, Some(2), "{warned}");
    assert!(warned.stderr.contains(hosts), "{warned}");
    task.assert_in_step();
}

#[test]
fn a_token_opens_the_filter_and_a_wrong_one_does_not() {
    const TOKEN: &str = "SomeAlphaNumericToken9";
    let osync = crate::support::osync();
    let home = tempfile::tempdir().unwrap();
    let task =
        OverSsh::forced(&format!("HOME={} {osync} ssh-filter {TOKEN}", home.path().display()));
    fill(&task);
    for wrong in ["", "SomeAlphaNumericToken8"] {
        let refused = task.run().env("_REMOTE_TOKEN", wrong).run();
        assert_eq!(refused.status, Some(1), "{refused}");
        assert!(refused.stderr.contains("127.0.0.1"), "{refused}");
        assert_eq!(task.sandbox.b.contents(), "f yours there\n");
        task.assert_unlocked();
    }
    let done =
        task.fine(task.run().env("_REMOTE_TOKEN", TOKEN).env("_DEBUG", "yes").arg("--verbose"));
    task.assert_in_step();
    let written = format!("{}{}{}", done.stdout, done.stderr, task.sandbox.log());
    assert!(!written.contains(TOKEN), "{written}");
}

/// The number of a run is claimed only when it is on the disk over there.
#[test]
fn a_flush_of_the_identity_that_fails_over_there_is_told_with_its_side() {
    let sync = "case $1 in --help) echo ' -f' ;; *) [ ! -f ./identity ] || { echo 'I/O error'; exit 1; } ;; esac";
    let (task, _tools) = OverSsh::with_programs(&[("sync", sync)]);
    fill(&task);
    let run = task.run().run();
    assert_eq!(run.status, Some(2), "{run}");
    let told = |line: &str| line.contains("target") && line.contains("identity: I/O error");
    assert!(run.stderr.lines().any(told), "{run}");
    task.assert_in_step();
}

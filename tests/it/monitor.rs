//! Monitor mode with the real program.

use crate::support::sandbox::{PATIENCE, Replica, Sandbox};
use crate::support::sshd::Sshd;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long something that must not happen is given to happen.
const SPURIOUS: Duration = Duration::from_secs(2);

/// A monitor of the two replicas that runs until it is ended.
struct Monitor<'a> {
    sandbox: &'a Sandbox,
    child: Child,
}

impl<'a> Monitor<'a> {
    fn start(sandbox: &'a Sandbox, lines: &str) -> Self {
        Self::spawn(sandbox, sandbox.osync().into_command(), lines)
    }

    fn spawn(sandbox: &'a Sandbox, command: Command, lines: &str) -> Self {
        Self::spawn_as("--on-changes", sandbox, command, lines)
    }

    fn spawn_as(flag: &str, sandbox: &'a Sandbox, mut command: Command, lines: &str) -> Self {
        let config = sandbox.config(&format!("task{flag}.conf"), lines);
        command.arg(config).arg(flag).stdout(Stdio::null()).stderr(Stdio::null());
        Monitor { sandbox, child: command.spawn().unwrap() }
    }

    /// Waits until something is so.
    #[track_caller]
    fn until(&mut self, what: &str, mut is_so: impl FnMut(&Sandbox) -> bool) {
        let begun = Instant::now();
        while !is_so(self.sandbox) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "the monitor ended: {ended:?}\n{}", self.sandbox.log());
            assert!(begun.elapsed() < PATIENCE, "{what} did not happen\n{}", self.sandbox.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until so many runs have ended, and no other follows.
    #[track_caller]
    fn until_runs(&mut self, count: usize) {
        self.until(&format!("run {count}"), |sandbox| runs(sandbox) >= count);
        std::thread::sleep(SPURIOUS);
        assert_eq!(runs(self.sandbox), count, "{}", self.sandbox.log());
    }

    /// Ends it as a service manager would; its exit status.
    fn stop(&mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Monitor<'_> {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// How many runs have ended.
fn runs(sandbox: &Sandbox) -> usize {
    let log = sandbox.log();
    ["osync finished.", "osync finished with"].iter().map(|end| log.matches(end).count()).sum()
}

#[test]
fn changes_on_either_side_are_synchronised_and_no_run_causes_the_next() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f dir/file one");
    let mut monitor = Monitor::start(&sandbox, "MIN_WAIT=1");
    monitor.until_runs(1);
    assert_eq!(sandbox.b.read("dir/file").as_deref(), Some(&b"one"[..]));
    sandbox.a.make("f dir/new two");
    monitor.until_runs(2);
    assert_eq!(sandbox.b.read("dir/new").as_deref(), Some(&b"two"[..]));
    sandbox.b.make("f from-the-target three");
    monitor.until_runs(3);
    assert_eq!(sandbox.a.read("from-the-target").as_deref(), Some(&b"three"[..]));
    sandbox.a.remove("dir");
    monitor.until_runs(4);
    assert!(!sandbox.b.has("dir"));
    sandbox.a.rename("from-the-target", "renamed");
    monitor.until_runs(5);
    assert!(sandbox.b.has("renamed") && !sandbox.b.has("from-the-target"));
    assert_eq!(monitor.stop(), Some(0), "{}", sandbox.log());
    for side in [&sandbox.a, &sandbox.b] {
        assert!(!side.has(".osync_workdir/lock"), "a lock is left");
    }
}

#[test]
fn a_star_is_watched_at_every_leaf_that_is_there() {
    let sandbox = Sandbox::new();
    let other = Replica { root: sandbox.path("other") };
    fs::create_dir(&other.root).unwrap();
    sandbox.a.make("f old x");
    let lines = format!(
        "MIN_WAIT=1\nTARGET_SYNC_DIR=\nTARGET_SYNC_DIRS=\"{};{}\"",
        sandbox.b.root.display(),
        other.root.display()
    );
    let mut monitor = Monitor::start(&sandbox, &lines);
    monitor.until("the first run", |sandbox| sandbox.b.has("old") && other.has("old"));
    other.make("f from-other y");
    monitor.until("an edit of a leaf", |sandbox| {
        sandbox.a.has("from-other") && sandbox.b.has("from-other")
    });
    sandbox.b.make("f from-b z");
    monitor.until("an edit of another leaf", |_| other.has("from-b"));
    let away = sandbox.path("away");
    fs::rename(&other.root, &away).unwrap();
    sandbox.a.make("f meanwhile w");
    monitor.until("a run without a leaf", |sandbox| sandbox.b.has("meanwhile"));
    fs::rename(&away, &other.root).unwrap();
    monitor.until("the news of the leaf that was away", |_| other.has("meanwhile"));
    assert_eq!(monitor.stop(), Some(0), "{}", sandbox.log());
}

/// Two tasks with one hub: each is woken by what the other brings, and both want its lock.
#[test]
fn two_monitors_on_one_hub_bring_edits_over_without_delay_or_error() {
    const MIN_WAIT: Duration = Duration::from_secs(1);
    let sandbox = Sandbox::new();
    let targets = ["one", "two"].map(|name| sandbox.path(name));
    let mut monitors = targets.clone().map(|target| {
        fs::create_dir(&target).unwrap();
        let name = target.file_name().unwrap().to_str().unwrap();
        let lines = format!(
            "INSTANCE_ID={name}\nTARGET_SYNC_DIR={}\nLOGFILE={}\nMIN_WAIT={}",
            target.display(),
            sandbox.path(format!("{name}.log")).display(),
            MIN_WAIT.as_secs()
        );
        let config = sandbox.config(&format!("{name}.conf"), &lines);
        let mut command = sandbox.osync().into_command();
        command.arg(config).arg("--on-changes").stdout(Stdio::null()).stderr(Stdio::null());
        Monitor { sandbox: &sandbox, child: command.spawn().unwrap() }
    });
    let mut quickest = Duration::MAX;
    for round in 0..4 {
        let name = format!("edit {round}");
        let begun = Instant::now();
        // on the hub, on a leaf, on the hub …
        let from = if round % 2 == 0 { sandbox.a.root.clone() } else { targets[0].clone() };
        fs::write(from.join(&name), "x").unwrap();
        let everywhere = [&sandbox.a.root, &targets[0], &targets[1]];
        for monitor in &mut monitors {
            monitor.until(&name, |_| everywhere.iter().all(|root| root.join(&name).exists()));
        }
        quickest = quickest.min(begun.elapsed());
    }
    // a machine that is busy with other tests makes single rounds slow
    assert!(quickest < MIN_WAIT + Duration::from_secs(5), "{quickest:?}");
    let log = |name: &str| fs::read_to_string(sandbox.path(name)).unwrap();
    let is_idle = |name: &str| {
        let log = log(name);
        log.matches("osync finished").count() == log.matches(" starts.").count()
    };
    let mut idle_since = Instant::now();
    while idle_since.elapsed() < SPURIOUS {
        if !["one.log", "two.log"].into_iter().all(is_idle) {
            idle_since = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    for (monitor, name) in monitors.iter_mut().zip(["one.log", "two.log"]) {
        assert_eq!(monitor.stop(), Some(0));
        let log = log(name);
        for word in ["(CRITICAL)", "(ERROR)", "finished with"] {
            assert!(!log.contains(word), "{log}");
        }
    }
}

#[test]
fn a_log_that_is_rotated_away_is_begun_anew() {
    let sandbox = Sandbox::new();
    let mut monitor = Monitor::start(&sandbox, "MIN_WAIT=0");
    monitor.until("the first run", |sandbox| runs(sandbox) == 1);
    fs::rename(sandbox.path("osync.log"), sandbox.path("osync.log.1")).unwrap();
    sandbox.a.make("f new x");
    monitor.until("a run in the new log", |sandbox| runs(sandbox) == 1);
    let line = sandbox.log().lines().next().unwrap_or_default().to_owned();
    let (date, rest) = line.split_once(" - ").unwrap();
    assert!(date.len() == 19 && date.contains(':') && !rest.is_empty(), "a dated line: {line}");
    assert_eq!(monitor.stop(), Some(0), "{}", sandbox.log());
}

#[test]
fn excluded_paths_wake_nobody() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f cache/file one");
    let mut monitor =
        Monitor::start(&sandbox, "MIN_WAIT=0\nRSYNC_EXCLUDE_PATTERN=\"cache/;*.tmp\"");
    monitor.until_runs(1);
    sandbox.a.make("f cache/another x");
    sandbox.a.make("f file.tmp x");
    monitor.until_runs(1);
    sandbox.a.make("d included");
    monitor.until_runs(2);
    assert!(!sandbox.b.has("cache") && !sandbox.b.has("file.tmp"));
}

#[test]
fn the_trigger_file_wakes_and_is_never_synchronised() {
    let sandbox = Sandbox::new();
    let mut monitor = Monitor::start(&sandbox, "MIN_WAIT=3600");
    monitor.until_runs(1);
    fs::write(sandbox.a.at(".osync-update.push"), "test#1700000000\n").unwrap();
    monitor.until_runs(2);
    assert!(!sandbox.b.has(".osync-update.push"));
}

#[test]
fn a_failing_run_does_not_end_the_monitor() {
    let sandbox = Sandbox::new();
    let hook = sandbox.path("hook");
    fs::write(&hook, "exit 3\n").unwrap();
    let lines = format!(
        "MIN_WAIT=0\nSTOP_ON_CMD_ERROR=yes\nLOCAL_RUN_BEFORE_CMD=\"sh {}\"",
        hook.display()
    );
    let mut monitor = Monitor::start(&sandbox, &lines);
    monitor.until_runs(1);
    sandbox.a.make("f file one");
    monitor.until_runs(2);
    assert!(!sandbox.b.has("file"));
    fs::write(&hook, "exit 0\n").unwrap();
    sandbox.a.make("d another-change");
    monitor.until("the file", |sandbox| sandbox.b.has("file"));
    assert_eq!(monitor.stop(), Some(0));
}

#[test]
fn a_hard_limit_ends_a_run_but_not_the_monitor() {
    let sandbox = Sandbox::new();
    let hook = sandbox.path("hook");
    fs::write(&hook, "sleep 600\n").unwrap();
    let lines =
        format!("MIN_WAIT=0\nHARD_MAX_EXEC_TIME=1\nLOCAL_RUN_BEFORE_CMD=\"sh {}\"", hook.display());
    let mut monitor = Monitor::start(&sandbox, &lines);
    monitor.until("the first run", |sandbox| runs(sandbox) == 1);
    fs::write(&hook, "exit 0\n").unwrap();
    sandbox.a.make("f file one");
    monitor.until("the file", |sandbox| sandbox.b.has("file"));
}

#[test]
fn a_replica_may_go_and_come_back() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f file one");
    let mut monitor = Monitor::start(&sandbox, "MIN_WAIT=0");
    monitor.until_runs(1);
    fs::rename(&sandbox.b.root, sandbox.path("away")).unwrap();
    monitor.until("a warning", |sandbox| sandbox.log().contains("target replica is not there"));
    sandbox.a.make("f file other");
    fs::rename(sandbox.path("away"), &sandbox.b.root).unwrap();
    monitor.until("the change", |sandbox| sandbox.b.read("file").as_deref() == Some(b"other"));
}

#[test]
fn systemd_is_told_when_it_is_ready_and_what_it_does() {
    let sandbox = Sandbox::new();
    let socket = sandbox.path("notify");
    let listener = UnixDatagram::bind(&socket).unwrap();
    listener.set_read_timeout(Some(PATIENCE)).unwrap();
    let command = sandbox.osync().env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "200000");
    let command = command.into_command();
    let mut monitor = Monitor::spawn(&sandbox, command, "MIN_WAIT=3600");
    let hear_until = |end: &str| {
        let mut heard = Vec::new();
        while !heard.iter().any(|line: &String| line == end) {
            let mut buffer = [0; 1024];
            let length = listener.recv(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            heard.extend(text.lines().map(str::to_owned));
        }
        heard
    };
    assert!(hear_until("READY=1").contains(&"STATUS=Setting up watches".to_owned()));
    assert!(hear_until("STATUS=Waiting for changes").contains(&"STATUS=Running".to_owned()));
    fs::rename(&sandbox.b.root, sandbox.path("away")).unwrap();
    hear_until("STATUS=Waiting for the target replica");
    fs::rename(sandbox.path("away"), &sandbox.b.root).unwrap();
    hear_until("STATUS=Waiting for changes");
    hear_until("WATCHDOG=1");
    assert_eq!(monitor.stop(), Some(0));
    hear_until("STOPPING=1");
}

/// What is being stopped has ended well, whatever the run at that moment came to.
#[test]
fn a_stop_in_a_run_that_has_failed_already_is_a_good_end() {
    let sandbox = Sandbox::new();
    let lines = "LOCAL_RUN_BEFORE_CMD=false\nRUN_AFTER_CMD_ON_ERROR=yes\n\
                 LOCAL_RUN_AFTER_CMD=\"touch started; until [ -e go ]; do sleep 0.05; done\"";
    let mut monitor = Monitor::start(&sandbox, lines);
    monitor.until("the hook", |sandbox| sandbox.path("started").exists());
    kill_process(Pid::from_child(&monitor.child), Signal::TERM).unwrap();
    fs::write(sandbox.path("go"), "").unwrap();
    assert_eq!(monitor.child.wait().unwrap().code(), Some(0), "{}", sandbox.log());
    assert!(sandbox.log().contains("osync finished with errors"), "{}", sandbox.log());
    assert!(!sandbox.a.has(".osync_workdir/lock"));
}

#[test]
fn an_interrupt_during_a_run_ends_it_cleanly() {
    let sandbox = Sandbox::new();
    let lines = "LOCAL_RUN_BEFORE_CMD=\"touch started; sleep 600\"";
    let mut monitor = Monitor::start(&sandbox, lines);
    monitor.until("the hook", |sandbox| sandbox.path("started").exists());
    kill_process(Pid::from_child(&monitor.child), Signal::INT).unwrap();
    let status = monitor.child.wait().unwrap().code();
    assert_eq!(status, Some(0), "{}", sandbox.log());
    assert!(!sandbox.a.has(".osync_workdir/lock"));
}

/// In a user namespace of its own, where the limit is three.
#[test]
fn too_few_watches_are_said_and_replaced_by_looking_at_intervals() {
    let sandbox = Sandbox::new();
    for name in ["1", "2", "3", "4"] {
        sandbox.a.make(&format!("d {name}"));
    }
    let mut command = sandbox.program("unshare").into_command();
    command.args(["-U", "-r", "sh", "-c"]);
    command.arg("echo 3 >/proc/sys/user/max_inotify_watches && exec \"$@\"");
    command.arg("sh").arg(crate::support::osync()).process_group(0);
    // owners cannot be kept by somebody who is root only by name
    let lines = "MIN_WAIT=0\nPRESERVE_OWNER=no\nPRESERVE_GROUP=no";
    let mut monitor = Monitor::spawn(&sandbox, command, lines);
    monitor.until("a warning", |sandbox| sandbox.log().contains("max_user_watches"));
    monitor.until("the first run", |sandbox| sandbox.b.has("4"));
    sandbox.a.make("f 4/file one");
    monitor.until("the change", |sandbox| sandbox.b.has("4/file"));
}

#[test]
fn a_run_comes_at_the_latest_after_max_wait() {
    let sandbox = Sandbox::new();
    let mut monitor = Monitor::start(&sandbox, "MIN_WAIT=3600\nMAX_WAIT=1");
    // nothing changes, and no change would be answered within the hour
    monitor.until("a third run", |sandbox| runs(sandbox) >= 3);
}

/// A target helper whose initiator is behind ssh; it logs to a file of its own.
fn helper<'a>(sandbox: &'a Sandbox, server: &Sshd, lines: &str) -> Monitor<'a> {
    let lines = format!(
        "INITIATOR_SYNC_DIR=\"{}\"\nSSH_RSA_PRIVATE_KEY=\"{}\"\nSSH_OPTIONAL_ARGS=\"{}\"\n\
         REMOTE_HOST_PING=no\n{lines}",
        server.uri(&sandbox.a.root),
        server.key().display(),
        server.options().join(" "),
    );
    let command = sandbox.osync().env("LOGFILE", sandbox.path("helper.log")).into_command();
    Monitor::spawn_as("--on-changes-target", sandbox, command, &lines)
}

fn trigger_lines(sandbox: &Sandbox) -> usize {
    let text = sandbox.a.read(".osync-update.push").unwrap_or_default();
    let text = String::from_utf8(text).unwrap();
    for line in text.lines() {
        let (instance, time) = line.rsplit_once('#').unwrap();
        assert!(instance == "test" && time.parse::<u64>().is_ok(), "{line}");
    }
    text.lines().count()
}

/// Waits for so many lines, and until no more follow: one change is seen as several
/// events. Returns how many there are.
fn quiet_lines(helper: &mut Monitor<'_>, at_least: usize) -> usize {
    helper.until(&format!("line {at_least}"), |sandbox| {
        let before = trigger_lines(sandbox);
        std::thread::sleep(SPURIOUS);
        before >= at_least && trigger_lines(sandbox) == before
    });
    trigger_lines(helper.sandbox)
}

#[test]
fn a_target_helper_tells_the_initiator_of_changes_of_the_target() {
    let sandbox = Sandbox::new();
    let server = Sshd::start("");
    sandbox.b.make("f dir/file one");
    let mut helper = helper(&sandbox, &server, "MIN_WAIT=0\nRSYNC_EXCLUDE_PATTERN=\"*.tmp\"");
    let first = quiet_lines(&mut helper, 1);
    sandbox.b.make("f dir/new two");
    let second = quiet_lines(&mut helper, first + 1);
    sandbox.b.make("f excluded.tmp x");
    sandbox.b.make("f .osync_workdir/lock x");
    sandbox.a.make("f not-the-target x");
    std::thread::sleep(SPURIOUS);
    assert_eq!(trigger_lines(&sandbox), second);
    sandbox.b.remove("dir");
    quiet_lines(&mut helper, second + 1);
    assert!(!sandbox.a.has("dir") && !sandbox.a.has(".osync_workdir"), "it only tells");
    assert_eq!(helper.stop(), Some(0));
}

#[test]
fn an_initiator_that_cannot_be_told_is_told_when_the_target_changes_again() {
    let sandbox = Sandbox::new();
    let server = Sshd::start("");
    fs::rename(&sandbox.a.root, sandbox.path("away")).unwrap();
    let mut helper = helper(&sandbox, &server, "MIN_WAIT=0");
    let log =
        |sandbox: &Sandbox| fs::read_to_string(sandbox.path("helper.log")).unwrap_or_default();
    helper.until("a warning", |sandbox| log(sandbox).contains("cannot wake the initiator"));
    fs::rename(sandbox.path("away"), &sandbox.a.root).unwrap();
    sandbox.b.make("f file x");
    helper.until("a line", |sandbox| trigger_lines(sandbox) >= 1);
    assert_eq!(helper.stop(), Some(0));
}

#[test]
fn helper_and_monitor_together_bring_a_change_of_the_target_over() {
    let sandbox = Sandbox::new();
    let server = Sshd::start("");
    // a monitor of the initiator, which cannot see a target behind ssh
    let lines = format!(
        "TARGET_SYNC_DIR=\"{}\"\nSSH_RSA_PRIVATE_KEY=\"{}\"\nSSH_OPTIONAL_ARGS=\"{}\"\n\
         REMOTE_HOST_PING=no\nMIN_WAIT=0",
        server.uri(&sandbox.b.root),
        server.key().display(),
        server.options().join(" "),
    );
    let mut monitor = Monitor::start(&sandbox, &lines);
    monitor.until("the first run", |sandbox| runs(sandbox) == 1);
    let mut helper = helper(&sandbox, &server, "MIN_WAIT=0");
    sandbox.b.make("f from-the-target three");
    monitor.until("the change", |sandbox| sandbox.a.has("from-the-target"));
    // what the monitor's run did to the target wakes it once more, and not for ever
    sandbox.a.make("f from-the-initiator four");
    monitor.until("the other change", |sandbox| sandbox.b.has("from-the-initiator"));
    helper.until("quiet", |sandbox| {
        let before = (runs(sandbox), trigger_lines(sandbox));
        std::thread::sleep(SPURIOUS * 2);
        before == (runs(sandbox), trigger_lines(sandbox))
    });
    assert_eq!(helper.stop(), Some(0));
    assert_eq!(monitor.stop(), Some(0), "{}", sandbox.log());
}

/// The osync over there tells of changes: no helper is needed.
#[test]
fn a_change_of_a_target_behind_ssh_is_told_by_the_osync_over_there() {
    let sandbox = Sandbox::new();
    let server = Sshd::start("");
    let states = sandbox.path("states-there");
    let lines = format!(
        "TARGET_SYNC_DIR=\"{}\"\nSSH_RSA_PRIVATE_KEY=\"{}\"\nSSH_OPTIONAL_ARGS=\"{}\"\n\
         REMOTE_HOST_PING=no\nREMOTE_OSYNC=\"{}\"\nTARGET_CUSTOM_STATE_DIR=\"{}\"\nMIN_WAIT=0\n\
         MAX_WAIT=3600\nRSYNC_EXCLUDE_PATTERN=\"*.tmp\"",
        server.uri(&sandbox.b.root),
        server.key().display(),
        server.options().join(" "),
        crate::support::osync(),
        states.display(),
    );
    sandbox.b.make("f dir/file one");
    let mut monitor = Monitor::start(&sandbox, &lines);
    monitor.until("the first run", |sandbox| sandbox.a.has("dir/file"));
    sandbox.b.make("f dir/new-there two");
    monitor.until("the new file", |sandbox| sandbox.a.has("dir/new-there"));
    sandbox.b.write("dir/file", "edited over there", 1_600_000_000);
    monitor.until("the edit", |sandbox| {
        sandbox.a.read("dir/file").as_deref() == Some(&b"edited over there"[..])
    });
    sandbox.b.remove("dir/new-there");
    monitor.until("the deletion", |sandbox| !sandbox.a.has("dir/new-there"));
    // what is excluded wakes nobody, nor do its own runs
    monitor.until("quiet", |sandbox| {
        let before = runs(sandbox);
        std::thread::sleep(SPURIOUS);
        before == runs(sandbox)
    });
    let before = runs(&sandbox);
    sandbox.b.make("f excluded.tmp x");
    std::thread::sleep(SPURIOUS);
    assert_eq!(runs(&sandbox), before, "{}", sandbox.log());
    assert_eq!(monitor.stop(), Some(0), "{}", sandbox.log());
}

/// An upgrade puts another program in its place, or none. The one that runs goes on, and
/// what ssh and rsync start of it is of its own kind.
#[test]
fn a_monitor_goes_on_when_its_program_is_replaced_or_removed() {
    let sandbox = Sandbox::new();
    let program = sandbox.path("osync");
    fs::copy(crate::support::osync(), &program).unwrap();
    let by_key = Sshd::start("");
    let by_password = Sshd::with_password("correct horse");
    fs::create_dir(sandbox.path("home/.ssh")).unwrap();
    fs::copy(by_key.path("known_hosts"), sandbox.path("home/.ssh/known_hosts")).unwrap();
    let lines = format!(
        "TARGET_SYNC_DIR=\"{}\"\nSSH_RSA_PRIVATE_KEY=\"{}\"\nSSH_TRANSPORT=libssh2\n\
         REMOTE_HOST_PING=no\nMIN_WAIT=0",
        by_key.uri(&sandbox.b.root),
        by_key.key().display(),
    );
    goes_on_without_its_file(&sandbox, &program, "by-key", &lines);
    // only root can make a server with a password
    let Some(server) = by_password else { return };
    let password = sandbox.path("password");
    fs::write(&password, "correct horse\n").unwrap();
    fs::set_permissions(&password, PermissionsExt::from_mode(0o600)).unwrap();
    fs::copy(crate::support::osync(), &program).unwrap();
    let lines = format!(
        "TARGET_SYNC_DIR=\"{}\"\nSSH_PASSWORD_FILE=\"{}\"\nSSH_OPTIONAL_ARGS=\"{}\"\n\
         REMOTE_HOST_PING=no\nMIN_WAIT=0",
        server.uri(&sandbox.b.root),
        password.display(),
        server.options().join(" "),
    );
    goes_on_without_its_file(&sandbox, &program, "by-password", &lines);
}

fn goes_on_without_its_file(sandbox: &Sandbox, program: &Path, name: &str, lines: &str) {
    let _ = fs::remove_file(sandbox.path("osync.log"));
    let at = |step: &str| format!("{name}-{step}");
    let mut monitor = Monitor::spawn(sandbox, sandbox.program(program).into_command(), lines);
    monitor.until("the first run", |sandbox| runs(sandbox) == 1);
    fs::write(sandbox.path("other"), "#!/bin/sh\nexit 1\n").unwrap();
    fs::set_permissions(sandbox.path("other"), PermissionsExt::from_mode(0o755)).unwrap();
    fs::rename(sandbox.path("other"), program).unwrap();
    sandbox.a.make(&format!("f {} x", at("replaced")));
    monitor.until("a run of a replaced program", |sandbox| sandbox.b.has(at("replaced")));
    fs::remove_file(program).unwrap();
    sandbox.a.make(&format!("f {} x", at("removed")));
    monitor.until("a run of a removed program", |sandbox| sandbox.b.has(at("removed")));
    assert_eq!(monitor.stop(), Some(0), "{}", sandbox.log());
}

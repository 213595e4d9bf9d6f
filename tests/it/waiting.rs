//! Waiting instead of failing (spec 10): what becomes of a run while another one has locked a
//! replica.

use crate::support::sandbox::Sandbox;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// A lock of a process that lives: this test's own.
struct Lock(PathBuf);

impl Lock {
    fn on(sandbox: &Sandbox) -> Lock {
        let dir = sandbox.b.at(".osync_workdir");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("lock"), format!("{}@another\n", std::process::id())).unwrap();
        Lock(dir.join("lock"))
    }

    /// Gives it back once a text stands in a file.
    fn give_back_when(self, file: PathBuf, text: &'static str) -> std::thread::JoinHandle<()> {
        std::thread::spawn(move || {
            while !fs::read_to_string(&file).unwrap_or_default().contains(text) {
                std::thread::sleep(Duration::from_millis(20));
            }
            fs::remove_file(self.0).unwrap();
        })
    }
}

#[test]
fn a_run_waits_for_its_turn_if_asked() {
    for (flag, env) in [(Some("--wait=60"), None), (None, Some("60"))] {
        let sandbox = Sandbox::new();
        sandbox.a.make("f one x");
        let lock = Lock::on(&sandbox);
        let other = lock.give_back_when(sandbox.path("osync.log"), "waiting for its turn");
        let run = sandbox.quick().args(flag).env("LOCK_WAIT", env.unwrap_or("0")).run();
        other.join().unwrap();
        assert_eq!((run.status, run.stderr.as_str()), (Some(0), ""), "{run}");
        assert!(sandbox.b.has("one"));
        assert_eq!(run.stdout.matches("waiting for its turn").count(), 1, "said once: {run}");
    }
}

#[test]
fn a_run_that_has_waited_long_enough_fails_and_gives_back_its_own_lock() {
    let sandbox = Sandbox::new();
    let lock = Lock::on(&sandbox);
    let run = sandbox.sync(&["--wait=1"]);
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stderr.contains("already running") && run.stderr.contains("(waited"), "{run}");
    assert!(!sandbox.a.has(".osync_workdir/lock"));
    assert!(lock.0.exists(), "the other's lock is left alone");
    let at_once = sandbox.sync(&[]);
    assert_eq!(at_once.status, Some(1), "without the setting it fails at once: {at_once}");
    assert!(!at_once.stderr.contains("waited"), "{at_once}");
}

#[test]
fn a_run_that_is_to_be_skipped_says_one_line_and_does_nothing() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f one x");
    let hooked = sandbox.path("hooked");
    let run = || {
        sandbox
            .quick()
            .arg("--skip-if-running")
            .env("LOCAL_RUN_BEFORE_CMD", format!("touch '{}'", hooked.display()))
            .run()
    };
    let lock = Lock::on(&sandbox);
    let skipped = run();
    assert_eq!((skipped.status, skipped.stderr.as_str()), (Some(0), ""), "{skipped}");
    assert_eq!(skipped.stdout.lines().count(), 1, "{skipped}");
    assert!(skipped.stdout.contains("skipped, as another run is under way"), "{skipped}");
    assert_eq!(sandbox.log().lines().count(), 1);
    assert!(!sandbox.b.has("one") && !hooked.exists());
    fs::remove_file(&lock.0).unwrap();
    let done = run();
    assert_eq!(done.status, Some(0), "{done}");
    assert!(sandbox.b.has("one") && hooked.exists());
    assert!(done.stdout.contains(" starts.") && done.stdout.contains("osync finished."), "{done}");
}

#[test]
fn a_signal_ends_the_waiting() {
    let sandbox = Sandbox::new();
    let _lock = Lock::on(&sandbox);
    let mut run = sandbox.quick().arg("--wait=100").into_command().spawn().unwrap();
    while !sandbox.log().contains("waiting for its turn") {
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = rustix::process::Pid::from_child(&run);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(2), "{}", sandbox.log());
    assert!(!sandbox.a.has(".osync_workdir/lock"));
}

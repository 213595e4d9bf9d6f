//! Batches with the real program.

use crate::support::sandbox::{Outcome, Sandbox};
use std::fs;
use std::path::PathBuf;

/// A directory of tasks, each with two replicas of its own.
struct Tasks {
    sandbox: Sandbox,
}

impl Tasks {
    fn new(names: &[&str]) -> Self {
        let tasks = Tasks { sandbox: Sandbox::new() };
        for name in names {
            tasks.add(name, "");
        }
        tasks
    }

    fn add(&self, name: &str, lines: &str) {
        for side in ["a", "b"] {
            fs::create_dir_all(self.replica(name, side)).unwrap();
        }
        fs::write(self.replica(name, "a").join("file"), name).unwrap();
        let text = format!(
            "INSTANCE_ID={name}\nINITIATOR_SYNC_DIR=\"{}\"\nTARGET_SYNC_DIR=\"{}\"\nLOGFILE=\"{}\"\n{lines}\n",
            self.replica(name, "a").display(),
            self.replica(name, "b").display(),
            self.sandbox.path(format!("{name}.log")).display(),
        );
        fs::write(self.sandbox.path("etc").join(format!("{name}.conf")), text).unwrap();
    }

    fn replica(&self, name: &str, side: &str) -> PathBuf {
        self.sandbox.path(format!("{name}-{side}"))
    }

    fn run(&self, args: &[&str]) -> Outcome {
        let path = format!("--path={}", self.sandbox.path("etc").display());
        self.sandbox.osync().arg("batch").arg(path).args(args).run()
    }

    fn is_done(&self, name: &str) -> bool {
        fs::read_to_string(self.replica(name, "b").join("file")).is_ok_and(|text| text == name)
    }

    /// How often a task has begun.
    fn begun(&self, name: &str) -> usize {
        let log = fs::read_to_string(self.sandbox.path(format!("{name}.log")));
        log.unwrap_or_default().matches(" starts.").count()
    }
}

#[test]
fn all_tasks_run_one_after_the_other() {
    let tasks = Tasks::new(&["one", "three", "two"]);
    let run = tasks.run(&[]);
    assert_eq!(run.status, Some(0), "{run}");
    for name in ["one", "two", "three"] {
        assert!(tasks.is_done(name), "{name} {run}");
        assert_eq!(tasks.begun(name), 1);
    }
    let position = |text: &str| run.stdout.find(text).unwrap_or_else(|| panic!("{text} {run}"));
    assert!(position("one.conf: has succeeded") < position("three.conf: run 1"));
    assert!(position("three.conf: has succeeded") < position("two.conf: run 1"));
    assert!(!run.stdout.contains("osync finished"), "tasks are silent {run}");
}

#[test]
fn a_task_that_fails_at_first_is_run_again_at_the_end() {
    let tasks = Tasks::new(&["b", "c"]);
    let marker = tasks.sandbox.path("marker");
    let hook = format!("[ -e '{0}' ] || {{ touch '{0}'; exit 1; }}", marker.display());
    tasks.add("a", &format!("STOP_ON_CMD_ERROR=yes\nLOCAL_RUN_BEFORE_CMD=\"{hook}\""));
    let run = tasks.run(&["--max-runs=2"]);
    assert_eq!(run.status, Some(0), "{run}");
    assert!(tasks.is_done("a"));
    assert_eq!([tasks.begun("a"), tasks.begun("b"), tasks.begun("c")], [2, 1, 1]);
    let position = |text: &str| run.stdout.find(text).unwrap_or_else(|| panic!("{text} {run}"));
    assert!(position("c.conf: has succeeded") < position("a.conf: run 2"));
}

#[test]
fn the_worst_task_decides_the_exit_status() {
    let tasks = Tasks::new(&["good"]);
    fs::write(tasks.sandbox.path("etc/bad.conf"), "INSTANCE_ID=bad\n").unwrap();
    let run = tasks.run(&["--max-retries=2"]);
    assert_eq!(run.status, Some(1), "{run}");
    assert!(tasks.is_done("good"));
    assert_eq!(run.stdout.matches("bad.conf: run ").count(), 2, "{run}");
    assert!(run.stderr.contains("bad.conf: has not succeeded in 2 runs"), "{run}");
}

#[test]
fn silence_is_for_the_screen_and_the_log_gets_everything() {
    let tasks = Tasks::new(&["one"]);
    let run = tasks.run(&["--silent"]);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""), "{run}");
    assert_eq!(run.status, Some(0));
    assert!(tasks.is_done("one"));
    assert!(tasks.sandbox.log().contains("one.conf: has succeeded"), "{}", tasks.sandbox.log());
}

#[test]
fn options_are_passed_on_to_every_task() {
    let tasks = Tasks::new(&["one", "two"]);
    let run = tasks.run(&["--dry", "--summary"]);
    assert_eq!(run.status, Some(0), "{run}");
    assert!(!tasks.is_done("one") && !tasks.is_done("two"));
    let run = tasks.run(&["--frobnicate"]);
    assert_eq!(run.status, Some(128), "{run}");
    let run = tasks.run(&["--on-changes"]);
    assert_eq!(run.status, Some(128), "{run}");
}

#[test]
fn tasks_that_share_nothing_run_at_the_same_time() {
    let tasks = Tasks::new(&[]);
    // each waits for the other
    for (own, other) in [("a", "b"), ("b", "a")] {
        let marker = |name: &str| tasks.sandbox.path(format!("began-{name}")).display().to_string();
        let hook = format!(
            "touch '{}'; until [ -e '{}' ]; do sleep 0.1; done",
            marker(own),
            marker(other)
        );
        tasks.add(own, &format!("LOCAL_RUN_BEFORE_CMD=\"{hook}\""));
    }
    let run = tasks.run(&["--parallel=2"]);
    assert_eq!(run.status, Some(0), "{run}");
    assert!(tasks.is_done("a") && tasks.is_done("b"));
}

#[test]
fn tasks_that_share_a_replica_do_not_run_at_the_same_time() {
    let tasks = Tasks::new(&["a"]);
    let shared = tasks.replica("a", "a");
    let text = format!(
        "INSTANCE_ID=b\nINITIATOR_SYNC_DIR=\"{}\"\nTARGET_SYNC_DIR=\"{}\"\nCREATE_DIRS=yes\n",
        shared.display(),
        tasks.replica("b", "b").display()
    );
    fs::write(tasks.sandbox.path("etc/b.conf"), text).unwrap();
    let run = tasks.run(&["--parallel=4", "--max-runs=1"]);
    assert_eq!(run.status, Some(0), "{run}");
    let position = |text: &str| run.stdout.find(text).unwrap_or_else(|| panic!("{text} {run}"));
    assert!(position("a.conf: has succeeded") < position("b.conf: run 1"), "{run}");
}

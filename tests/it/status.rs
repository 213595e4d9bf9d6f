//! What is known of a task when its run is over (spec 10): `last-run-ID`, the report and the
//! journal before the after-commands, `osync status`.

use crate::support::sandbox::{Outcome, Sandbox};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn last_run(sandbox: &Sandbox) -> Value {
    let file = sandbox.a.at(".osync_workdir/state/last-run-quicksync_task");
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

#[test]
fn a_run_that_ends_before_it_has_a_plan_is_known_to_have_failed() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f one x");
    sandbox.sync(&[]);
    assert_eq!(last_run(&sandbox)["failed_runs"], 0);
    fs::rename(&sandbox.b.root, sandbox.path("away")).unwrap();
    for failed in 1..3 {
        assert_eq!(sandbox.sync(&[]).status, Some(1));
        let last = last_run(&sandbox);
        assert_eq!(last["failed_runs"], failed);
        let problem = last["problems"][0].as_str().unwrap();
        assert!(problem.contains("no such directory"), "{problem}");
    }
    fs::rename(sandbox.path("away"), &sandbox.b.root).unwrap();
    assert_eq!(sandbox.sync(&[]).status, Some(0));
    assert_eq!(last_run(&sandbox)["failed_runs"], 0);
}

#[test]
fn a_run_that_fails_makes_no_state_directory_on_an_empty_mount_point() {
    let sandbox = Sandbox::new();
    fs::remove_dir(&sandbox.b.root).unwrap();
    assert_eq!(sandbox.sync(&[]).status, Some(1));
    assert!(!sandbox.a.has(".osync_workdir/state"));
}

/// The warning makes another status of the run's, which is to be noted as well.
#[test]
fn what_cannot_be_noted_of_a_run_is_said_once() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f one x");
    sandbox.sync(&[]);
    let file = sandbox.a.at(".osync_workdir/state/last-run-quicksync_task");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let run = sandbox.sync(&[]);
    assert_eq!(run.status, Some(2), "{run}");
    assert_eq!(run.stderr.matches("last-run-quicksync_task").count(), 1, "{run}");
}

#[test]
fn the_after_commands_find_report_journal_and_last_run_and_what_they_spoil_is_told() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f one x");
    let state = sandbox.a.at(".osync_workdir/state");
    let (report, copy) = (sandbox.path("report.json"), sandbox.path("copy.json"));
    let command = format!(
        "cp '{}' '{}' && test -s '{state}/history-quicksync_task.db' && \
         test -s '{state}/last-run-quicksync_task' || touch '{}'; exit 3",
        report.display(),
        copy.display(),
        sandbox.path("missing").display(),
        state = state.display()
    );
    let run = sandbox
        .quick()
        .arg(format!("--report={}", report.display()))
        .env("LOCAL_RUN_AFTER_CMD", command)
        .run();
    assert_eq!(run.status, Some(1), "{run}");
    assert!(!sandbox.path("missing").exists());
    let read = |file| serde_json::from_slice::<Value>(&fs::read(file).unwrap()).unwrap();
    assert_eq!(read(copy)["status"], 0, "all was well until then");
    assert_eq!(read(report)["status"], 1);
    let last = last_run(&sandbox);
    assert_eq!((&last["status"], last["begins"].as_array().unwrap().len()), (&1.into(), 1));
}

#[test]
fn a_task_whose_first_runs_fail_is_failing_and_not_never_run() {
    let tasks = Tasks::new();
    let file = tasks.add("first", "");
    let target = tasks.0.path("first-b");
    fs::remove_dir(&target).unwrap();
    for failed in 1..3 {
        assert_eq!(tasks.sync(&file), Some(1));
        let run = tasks.status(&["--json"]);
        assert_eq!(run.status, Some(1), "{run}");
        let json: Value = serde_json::from_str(&run.stdout).unwrap();
        let task = &json["tasks"][0];
        assert_eq!(task["state"], "failing", "{json:#}");
        assert_eq!(task["failed_runs"], failed, "{json:#}");
        let problem = task["last_run"]["problems"][0].as_str().unwrap();
        assert!(problem.contains("no such directory"), "{problem}");
    }
    assert!(!tasks.0.path("first-a/.osync_workdir/state").exists(), "perhaps a mount point");
    fs::create_dir(&target).unwrap();
    assert_eq!(tasks.sync(&file), Some(0));
    assert_eq!(tasks.status(&[]).status, Some(0));
    // its disk goes: a mount point is left
    let disk = tasks.0.path("first-a");
    fs::rename(&disk, tasks.0.path("unplugged")).unwrap();
    fs::create_dir(&disk).unwrap();
    fs::rename(&target, tasks.0.path("unplugged-b")).unwrap();
    assert_eq!(tasks.sync(&file), Some(1));
    let run = tasks.status(&[]);
    assert!(run.status == Some(1) && run.stdout.contains("failing for "), "{run}");
}

/// A directory of tasks, and the program that looks at them.
struct Tasks(Sandbox);

impl Tasks {
    fn new() -> Self {
        Tasks(Sandbox::new())
    }

    /// A task of its own pair of replicas.
    fn add(&self, id: &str, lines: &str) -> PathBuf {
        let place = |side| self.0.path(format!("{id}-{side}"));
        for side in ["a", "b"] {
            fs::create_dir_all(place(side)).unwrap();
        }
        let file = self.0.path("etc").join(format!("{id}.conf"));
        let text = format!(
            "INSTANCE_ID={id}\nINITIATOR_SYNC_DIR=\"{}\"\nTARGET_SYNC_DIR=\"{}\"\n{lines}\n",
            place("a").display(),
            place("b").display()
        );
        fs::write(&file, text).unwrap();
        file
    }

    fn sync(&self, file: &Path) -> Option<i32> {
        self.0.osync().arg(file).run().status
    }

    fn state_file(&self, id: &str, name: &str) -> PathBuf {
        self.0.path(format!("{id}-a/.osync_workdir/state/{name}-{id}"))
    }

    fn lock(&self, id: &str, side: &str, content: &str) {
        fs::write(self.0.path(format!("{id}-{side}/.osync_workdir/lock")), content).unwrap();
    }

    fn status(&self, args: &[&str]) -> Outcome {
        self.0.osync().arg("status").args(args).arg(self.0.path("etc")).run()
    }

    /// The tasks in the order in which they are shown, with their states, and the exit status.
    fn states(&self) -> (Vec<(String, String)>, Option<i32>) {
        let run = self.status(&["--json"]);
        let value: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{run}"));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let tasks = value["tasks"].as_array().unwrap();
        (tasks.iter().map(|of| (text(&of["task"]), text(&of["state"]))).collect(), run.status)
    }

    fn state(&self, id: &str) -> String {
        self.states().0.into_iter().find(|(task, _)| task == id).unwrap().1
    }
}

#[test]
fn what_needs_a_person_comes_first_and_decides_the_exit_status() {
    let tasks = Tasks::new();
    let well = tasks.add("aa-well", "");
    assert_eq!(tasks.sync(&well), Some(0));
    assert_eq!(tasks.states(), (vec![("aa-well".into(), "ok".into())], Some(0)));

    tasks.add("bb-never", "");
    let warned = tasks.add("cc-warned", "MINIMUM_SPACE=9999999999999");
    assert_eq!(tasks.sync(&warned), Some(2));
    assert_eq!(tasks.states().1, Some(2));

    let fails = tasks.add("dd-fails", "LOCAL_RUN_BEFORE_CMD=\"exit 1\"\nSTOP_ON_CMD_ERROR=yes");
    fs::create_dir_all(tasks.state_file("dd-fails", "x").parent().unwrap()).unwrap();
    for _ in 0..2 {
        assert_eq!(tasks.sync(&fails), Some(1));
    }
    fs::write(tasks.0.path("etc/ee-wrong.conf"), "INSTANCE_ID=ee\nMIN_WAIT=soon\n").unwrap();
    fs::write(tasks.0.path("etc/target-helper.conf"), "INSTANCE_ID=x\n").unwrap();
    let order = ["ee-wrong.conf", "dd-fails", "bb-never", "cc-warned", "aa-well"];
    let states = ["unreadable", "failing", "never_run", "warnings", "ok"];
    let expected: Vec<_> =
        order.iter().zip(states).map(|(id, state)| (id.to_string(), state.to_owned())).collect();
    assert_eq!(tasks.states(), (expected, Some(1)));

    let run = tasks.status(&[]);
    assert_eq!(run.status, Some(1), "{run}");
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(lines.len(), 6, "one line a task: {run}");
    assert!(lines[2].starts_with("dd-fails ") && lines[2].contains("(2 runs)"), "{run}");
    assert!(lines[2].contains("ended with status 1"), "{run}");
    let failing = tasks.status(&["--failing"]);
    assert_eq!((failing.stdout.lines().count(), failing.status), (3, Some(1)), "{failing}");
    let nagios = tasks.status(&["--nagios"]);
    assert_eq!((nagios.stdout.lines().count(), nagios.status), (1, Some(2)), "{nagios}");
    assert!(nagios.stdout.starts_with("OSYNC CRITICAL - 4 of 5 tasks: "), "{nagios}");
}

#[test]
fn a_task_is_overdue_by_its_setting_or_its_rhythm() {
    let tasks = Tasks::new();
    let file = tasks.add("task", "");
    assert_eq!(tasks.sync(&file), Some(0));
    let last = tasks.state_file("task", "last-run");
    let mut known: Value = serde_json::from_slice(&fs::read(&last).unwrap()).unwrap();
    let now = known["ended"].as_i64().unwrap();
    let (minute, hour) = (60_000, 3_600_000);
    for (ago, distance, setting, expected) in [
        (50 * minute, minute, 0, "ok"),
        (70 * minute, minute, 0, "overdue"),
        (70 * minute, 24 * hour, 0, "ok"),
        (70 * minute, 24 * hour, 4000, "overdue"),
        (70 * minute, minute, 9000, "ok"),
    ] {
        known["ended"] = (now - ago).into();
        known["begins"] = vec![now - ago - distance, now - ago].into();
        fs::write(&last, known.to_string()).unwrap();
        tasks.add("task", &format!("STATUS_MAX_AGE={setting}"));
        assert_eq!(tasks.state("task"), expected, "{ago} {distance} {setting}");
    }
}

#[test]
fn locks_tell_whether_a_task_runs_or_was_killed() {
    let tasks = Tasks::new();
    assert_eq!(tasks.sync(&tasks.add("task", "")), Some(0));
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let (gone, alive) = (child.id(), std::process::id());
    for (lock, expected) in [
        (format!("{alive}@task"), "running"),
        (format!("{gone}@task"), "dead_lock"),
        // of another task of the same hub
        (format!("{alive}@other"), "ok"),
        (format!("{gone}@other"), "ok"),
        ("no lock at all".to_owned(), "dead_lock"),
    ] {
        for side in ["a", "b"] {
            tasks.lock("task", side, &lock);
            assert_eq!(tasks.state("task"), expected, "{lock} on {side}");
            fs::remove_file(tasks.0.path(format!("task-{side}/.osync_workdir/lock"))).unwrap();
        }
    }
    assert_eq!(tasks.state("task"), "ok");
}

#[test]
fn a_run_under_way_is_seen_and_not_disturbed() {
    let tasks = Tasks::new();
    let (go, begun) = (tasks.0.path("go"), tasks.0.path("begun"));
    let quick = tasks.add("quick", "");
    assert_eq!(tasks.sync(&quick), Some(0));
    let line = format!("RSYNC_EXECUTABLE=\"{}\"", tasks.0.path("rsync").display());
    let slow = tasks.add("slow", &line);
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *--version*) ;; *) touch '{begun}'; while ! test -e '{go}'; do sleep 0.02; done;; \
         esac\nexec rsync \"$@\"\n",
        begun = begun.display(),
        go = go.display()
    );
    let rsync = tasks.0.path("rsync");
    fs::write(&rsync, script).unwrap();
    fs::set_permissions(&rsync, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(tasks.0.path("slow-a/file"), "x").unwrap();
    let mut run = tasks.0.osync().arg(&slow).into_command().spawn().unwrap();
    while !begun.exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let states = tasks.states();
    fs::write(&go, "").unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(0), "{}", tasks.0.log());
    let expected = [("slow".into(), "running".into()), ("quick".into(), "ok".into())];
    assert_eq!(states, (expected.to_vec(), Some(0)));
    assert_eq!(tasks.state("slow"), "ok");
    assert_eq!(fs::read(tasks.0.path("slow-b/file")).unwrap(), b"x");
}

#[test]
fn states_that_are_damaged_foreign_or_gone_are_lines_too() {
    type Spoil = fn(&Tasks);
    let cases: [(&str, Spoil); 5] = [
        ("torn", |tasks| fs::write(tasks.state_file("task", "last-run"), "{\"began\":").unwrap()),
        ("no file", |tasks| {
            let file = tasks.state_file("task", "last-run");
            fs::remove_file(&file).unwrap();
            fs::create_dir(file).unwrap();
        }),
        ("a damaged journal", |tasks| {
            fs::remove_file(tasks.state_file("task", "last-run")).unwrap();
            let db = tasks.0.path("task-a/.osync_workdir/state/history-task.db");
            fs::write(db, vec![b'x'; 5000]).unwrap();
        }),
        ("a link in its place", |tasks| {
            let state = tasks.0.path("task-a/.osync_workdir/state");
            fs::rename(&state, tasks.0.path("elsewhere")).unwrap();
            std::os::unix::fs::symlink(tasks.0.path("elsewhere"), state).unwrap();
        }),
        ("no initiator", |tasks| {
            fs::rename(tasks.0.path("task-a"), tasks.0.path("gone")).unwrap();
        }),
    ];
    for (what, spoil) in cases {
        let tasks = Tasks::new();
        assert_eq!(tasks.sync(&tasks.add("task", "")), Some(0));
        assert_eq!(tasks.sync(&tasks.add("well", "")), Some(0));
        spoil(&tasks);
        let expected = [("task".into(), "unreadable".into()), ("well".into(), "ok".into())];
        assert_eq!(tasks.states(), (expected.to_vec(), Some(1)), "{what}");
    }
}

#[test]
fn open_conflicts_are_counted_until_they_are_done() {
    let tasks = Tasks::new();
    let file = tasks.add("task", "");
    let write = |side: &str, content: &str| {
        fs::write(tasks.0.path(format!("task-{side}/both")), content).unwrap();
    };
    write("a", "one");
    assert_eq!(tasks.sync(&file), Some(0));
    write("a", "three");
    write("b", "other");
    assert_eq!(tasks.sync(&file), Some(0));
    let open = || {
        let run = tasks.status(&["--json"]);
        serde_json::from_str::<Value>(&run.stdout).unwrap()["tasks"][0]["open_conflicts"].clone()
    };
    assert_eq!(open(), 1);
    assert_eq!(tasks.sync(&file), Some(0));
    assert_eq!(open(), 1, "also after a run that did nothing");
    let done = tasks.0.osync().arg("conflicts").arg(&file).args(["done", "both"]).run();
    assert_eq!(done.status, Some(0), "{done}");
    assert_eq!(open(), 0);
}

#[test]
fn places_without_tasks_are_told() {
    let sandbox = Sandbox::new();
    let status = |args: &[&str]| sandbox.osync().arg("status").args(args).run();
    let empty = sandbox.path("etc").display().to_string();
    for (args, expected) in [
        (vec![empty.as_str()], 2),
        (vec!["--nagios", &empty], 3),
        (vec!["/no/such/place"], 1),
        (vec!["--nagios", "/no/such/place"], 3),
    ] {
        let run = status(&args);
        assert_eq!(run.status, Some(expected), "{args:?}: {run}");
    }
}

#[test]
fn two_hundred_tasks_are_looked_at_at_once() {
    let tasks = Tasks::new();
    let sample =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("sync.conf.example"));
    let lines: Vec<String> =
        sample.unwrap().lines().filter(|line| line.starts_with('#')).map(str::to_owned).collect();
    let first = tasks.add("task-000", "");
    assert_eq!(tasks.sync(&first), Some(0));
    let last = fs::read(tasks.state_file("task-000", "last-run")).unwrap();
    for number in 0..200 {
        let id = format!("task-{number:03}");
        tasks.add(&id, &lines.join("\n"));
        let file = tasks.state_file(&id, "last-run");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, &last).unwrap();
    }
    let begun = std::time::Instant::now();
    let run = tasks.status(&[]);
    let took = begun.elapsed();
    assert_eq!((run.status, run.stdout.lines().count()), (Some(0), 201), "{run}");
    // a release build takes a small part of this (docs/monitoring.md); the machine may be busy
    assert!(took < Duration::from_secs(5), "{took:?}");
}

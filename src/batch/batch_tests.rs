//! Batches of a program that stands in for osync.

use super::*;
use crate::process::StopReason;
use crate::report::Event;
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Reporter for Heard {
    fn tell(&self, event: Event<'_>) {
        if let Event::Message(level, text) = event {
            self.0.lock().unwrap().push(format!("{level:?}: {text}"));
        }
    }

    fn relay(&self, stream: Stream, line: &str) {
        self.0.lock().unwrap().push(format!("{stream:?}: {line}"));
    }
}

/// A directory with a program that writes the name of each task into `order`, and ends
/// with what the task's file says: one exit status for each run.
struct Stage {
    temp: tempfile::TempDir,
    stop: Stop,
    heard: Heard,
}

const PROGRAM: &str = r#"#!/bin/sh
task=$1; shift
cd "$(dirname "$0")" || exit 9
line="$(basename "$task") $*"
echo "${line%% --usual-wait=*}" >> order
echo "$(basename "$task")" >> runs
run=$(grep -Fcx -- "$(basename "$task")" runs)
. "$task"
eval "exit \${run$run-1}"
"#;

impl Stage {
    fn new(tasks: &[(&str, &str)]) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let program = temp.path().join("program");
        std::fs::write(&program, PROGRAM).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::create_dir(temp.path().join("tasks")).unwrap();
        for (name, text) in tasks {
            std::fs::write(temp.path().join("tasks").join(name), text).unwrap();
        }
        Stage { temp, stop: Stop::new(), heard: Heard::default() }
    }

    fn run(&self, change: impl FnOnce(&mut Options)) -> i32 {
        let mut options = Options {
            path: self.temp.path().join("tasks"),
            retry_delay: Duration::ZERO,
            ..Options::default()
        };
        change(&mut options);
        let around = BatchContext {
            program: &|| self.temp.path().join("program"),
            footprint: &|file| {
                let name = file.file_name().unwrap().to_str().unwrap();
                Footprint::new(name, [crate::config::Location::Local(file.to_owned())])
            },
            is_same_task: &|_, _| true,
            alert: &|_, _, _| (),
            stop: &self.stop,
            reporter: &self.heard,
        };
        run(&options, &around)
    }

    fn order(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.temp.path().join("order")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn heard(&self) -> String {
        self.heard.0.lock().unwrap().join("\n")
    }
}

#[test]
fn tasks_run_in_name_order_with_the_options_passed_on() {
    let stage = Stage::new(&[
        ("b.conf", "run1=0"),
        ("a.toml", "run1=0"),
        ("B.conf", "run1=0"),
        (".hidden.conf", "run1=1"),
        ("sync.conf.example", "run1=1"),
        ("c.conf~", "run1=1"),
    ]);
    std::fs::create_dir(stage.temp.path().join("tasks/dir.conf")).unwrap();
    let status = stage.run(|options| {
        options.passed_on = vec!["--summary".into(), "--silent".into(), "--dry".into()];
    });
    assert_eq!(status, 0, "{}", stage.heard());
    let expected = ["B.conf", "a.toml", "b.conf"].map(|n| format!("{n} --summary --silent --dry"));
    assert_eq!(stage.order(), expected);
}

#[test]
fn the_exit_status_tells_the_worst_end_of_any_task() {
    type Case<'a> = (&'a [(&'a str, &'a str)], i32, usize);
    let cases: &[Case<'_>] = &[
        (&[("a.conf", "run1=0")], 0, 1),
        (&[("a.conf", "run1=1 run2=0"), ("b.conf", "run1=0")], 0, 3),
        (&[("a.conf", "run1=128 run2=0")], 0, 2),
        (&[("a.conf", "run1=2"), ("b.conf", "run1=0")], 2, 2),
        (&[("a.conf", "run1=1 run2=2")], 2, 2),
        (&[("a.conf", "run1=1 run2=1 run3=1 run4=0"), ("b.conf", "run1=2")], 1, 4),
        (&[("a.conf", "kill -9 $$")], 1, 3),
    ];
    for (tasks, status, runs) in cases {
        let stage = Stage::new(tasks);
        assert_eq!(stage.run(|_| ()), *status, "{tasks:?}\n{}", stage.heard());
        assert_eq!(stage.order().len(), *runs, "{tasks:?}");
    }
}

#[test]
fn a_file_can_stand_in_for_the_directory() {
    let stage = Stage::new(&[("a.conf", "run1=0"), ("b.conf", "run1=0")]);
    let status = stage.run(|options| options.path.push("b.conf"));
    assert_eq!((status, stage.order().len()), (0, 1), "{}", stage.heard());
}

#[test]
fn nothing_to_do_and_nothing_to_read_are_said() {
    let stage = Stage::new(&[]);
    assert_eq!(stage.run(|_| ()), 2);
    assert!(stage.heard().contains("Warn: there is no *.conf"), "{}", stage.heard());
    let stage = Stage::new(&[]);
    assert_eq!(stage.run(|options| options.path.push("missing")), 1);
    assert!(stage.heard().contains("Critical: cannot read the tasks"), "{}", stage.heard());
}

#[test]
fn monitor_mode_is_no_batch() {
    let stage = Stage::new(&[("a.conf", "run1=0")]);
    assert_eq!(stage.run(|options| options.passed_on = vec!["--on-changes".into()]), 128);
    assert!(stage.order().is_empty());
}

#[test]
fn what_a_task_says_is_shown_as_it_is_and_is_the_reason_if_it_fails() {
    let stage = Stage::new(&[("a.conf", "echo oh dear >&2; run1=1 run2=0")]);
    assert_eq!(stage.run(|_| ()), 0);
    let heard = stage.heard();
    assert!(heard.contains("\nErr: oh dear"), "{heard}");
    assert!(
        heard.contains("Notice: a.conf: has failed with exit status 1 (0 s): oh dear"),
        "{heard}"
    );
    assert!(!heard.contains("Error"), "a task that succeeds in the end is no error: {heard}");
}

#[test]
fn a_stopped_batch_ends_its_task_and_starts_no_other() {
    let stage = Stage::new(&[("a.conf", "touch here; sleep 60 & wait $!"), ("b.conf", "run1=0")]);
    let here = stage.temp.path().join("here");
    let status = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !here.exists() {
                std::thread::yield_now();
            }
            stage.stop.request(StopReason::Signal(15));
        });
        stage.run(|_| ())
    });
    assert_eq!(status, 2, "{}", stage.heard());
    assert_eq!(stage.order().len(), 1);
}

#[test]
fn disjoint_tasks_run_at_the_same_time() {
    // each waits for the other
    let a = "touch a; until [ -e b ]; do sleep 0.01; done; run1=0";
    let b = "touch b; until [ -e a ]; do sleep 0.01; done; run1=0";
    let stage = Stage::new(&[("a.conf", a), ("b.conf", b)]);
    assert_eq!(stage.run(|options| options.parallel = 2), 0, "{}", stage.heard());
}

#[test]
fn files_of_target_helpers_and_second_files_of_a_task_are_no_tasks() {
    let stage = Stage::new(&[
        ("a.conf", "run1=0"),
        ("a.toml", "run1=0"),
        ("b.conf", "run1=0"),
        ("target-helper.conf", "run1=1"),
        ("c.conf", " export INITIATOR_SYNC_DIR='ssh://h//x'\nrun1=1"),
        ("d.toml", "initiator_sync_dir = \"ssh://h//x\"\nrun1=1"),
        ("e.conf", "TARGET_SYNC_DIR=ssh://h//x\nrun1=0"),
    ]);
    assert_eq!(stage.run(|_| ()), 0, "{}", stage.heard());
    assert_eq!(stage.order(), ["a.toml", "b.conf", "e.conf"]);
}

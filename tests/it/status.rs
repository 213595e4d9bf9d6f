//! What is known of a task when its run is over (spec 10): `last-run-ID`, the report and the
//! journal before the after-commands, `osync status`.

use crate::support::sandbox::Sandbox;
use serde_json::Value;
use std::fs;

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

//! `osync plan` and `osync apply` (spec 9): what was looked at is what is done.

use crate::support::sandbox::{Outcome, Sandbox};
use std::collections::BTreeSet;

fn on(sandbox: &Sandbox, args: &[&str]) -> Outcome {
    let (command, rest) = args.split_first().unwrap();
    let mut run = sandbox.osync().arg(command);
    if *command == "plan" {
        run = run.arg("--initiator").arg(&sandbox.a.root).arg("--target").arg(&sandbox.b.root);
    }
    run.args(rest).run()
}

fn status(outcome: &Outcome, expected: i32) {
    assert_eq!(outcome.status, Some(expected), "{outcome}");
}

/// How many files a plan is made for: OSYNC_PLAN_FILES, else what takes a few seconds.
fn files() -> usize {
    std::env::var("OSYNC_PLAN_FILES").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000)
}

#[test]
fn the_exit_status_of_a_plan_says_whether_there_is_work_and_a_conflict_in_it() {
    let sandbox = Sandbox::new();
    sandbox.a.write("f", "one", 1_500_000_000);
    status(&sandbox.sync(&[]), 0);
    status(&on(&sandbox, &["plan"]), 0);
    sandbox.a.write("f", "two", 1_600_000_000);
    status(&on(&sandbox, &["plan"]), 3);
    sandbox.b.write("f", "three", 1_600_000_001);
    status(&on(&sandbox, &["plan"]), 4);
    assert_eq!(sandbox.b.read("f").unwrap(), b"three", "nothing was changed");
}

#[test]
fn a_plan_does_what_it_says_where_nothing_changed_and_names_the_rest() {
    let sandbox = Sandbox::new();
    let files = files();
    let name = |i: usize| format!("d{}/f{i}", i % 50);
    for i in 0..files {
        sandbox.a.make(&format!("f {} x", name(i)));
    }
    status(&sandbox.sync(&[]), 0);
    for i in 0..files {
        match i % 4 {
            0 => sandbox.a.write(name(i), "edited here", 1_600_000_000),
            1 => sandbox.b.write(name(i), "edited there", 1_600_000_000),
            2 => sandbox.a.remove(name(i)),
            _ => sandbox.b.rename(name(i), format!("d{}/moved{i}", (i + 7) % 50)),
        }
    }
    let file = sandbox.path("plan file");
    status(&on(&sandbox, &["plan", "-o", file.to_str().unwrap()]), 3);
    // one in a hundred is touched by somebody else, on either side
    let drifted: BTreeSet<usize> = (0..files).filter(|i| i % 100 < 4 && i % 4 == i % 100).collect();
    for i in &drifted {
        match i % 4 {
            0 | 3 => sandbox.a.write(name(*i), "somebody else's", 1_650_000_000),
            _ => sandbox.b.write(name(*i), "somebody else's", 1_650_000_000),
        }
    }
    sandbox.a.make("f unplanned new");
    let run = on(&sandbox, &["apply", file.to_str().unwrap()]);
    status(&run, 2);
    let (a, b) = (&sandbox.a, &sandbox.b);
    for i in 0..files {
        let moved = format!("d{}/moved{i}", (i + 7) % 50);
        let is_left = drifted.contains(&i);
        let is_done = match i % 4 {
            0 => b.read(name(i)).unwrap() == b"edited here",
            1 => a.read(name(i)).unwrap() == b"edited there",
            2 => !b.has(name(i)),
            _ => a.has(&moved) && !a.has(name(i)),
        };
        assert_eq!(is_done, !is_left, "{}", name(i));
        if is_left {
            assert!(run.stderr.contains(&name(i)), "{} is not named:\n{run}", name(i));
        }
    }
    assert!(!b.has("unplanned"), "what the plan does not have is not done");
    // the next run brings both sides in step, nothing of anybody's is lost
    sandbox.sync(&[]);
    assert_eq!(a.details(), b.details());
    assert!(b.has("unplanned"));
}

#[test]
fn a_plan_of_another_task_or_from_before_a_run_or_a_damaged_one_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f f 1");
    status(&sandbox.sync(&[]), 0);
    sandbox.a.make("f f 22");
    let file = sandbox.path("plan");
    let apply = || on(&sandbox, &["apply", file.to_str().unwrap()]);
    status(&on(&sandbox, &["plan", "-o", file.to_str().unwrap()]), 3);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 5]).unwrap();
    status(&apply(), 1);
    std::fs::write(&file, "no plan\n").unwrap();
    status(&apply(), 1);
    let text = String::from_utf8(bytes.clone()).unwrap();
    std::fs::write(&file, text.replace("\"quicksync_task\"", "\"another\"")).unwrap();
    status(&apply(), 1);
    assert_eq!(sandbox.b.read("f").unwrap(), b"1", "nothing of it was done");
    std::fs::write(&file, &bytes).unwrap();
    status(&apply(), 0);
    assert_eq!(sandbox.b.read("f").unwrap(), b"22");
    status(&apply(), 1);
}

#[test]
fn a_guard_stops_a_plan_as_it_stops_a_run() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f one 1\nf two 2");
    status(&sandbox.sync(&[]), 0);
    sandbox.b.remove("one");
    let file = sandbox.path("plan");
    status(&on(&sandbox, &["plan", "-o", file.to_str().unwrap()]), 3);
    sandbox.b.remove("two");
    let run = on(&sandbox, &["apply", file.to_str().unwrap()]);
    assert_ne!(run.status, Some(0), "{run}");
    assert!(sandbox.a.has("two"), "{run}");
}

//! Batches played through without running anything.

use super::*;
use crate::config::Location;
use RunEnd::{Failure, Success, Warnings};

fn footprints(directories: &[&str]) -> Vec<Footprint> {
    let of = |(index, directory): (usize, &&str)| {
        Footprint::new(&index.to_string(), [Location::Local((*directory).into())])
    };
    directories.iter().enumerate().map(of).collect()
}

fn allowance(max_runs: u32, max_time: u64, parallel: usize) -> Allowance {
    let max_time = (max_time > 0).then(|| Duration::from_secs(max_time));
    Allowance { max_runs, max_time, parallel, retry_delay: Duration::ZERO }
}

/// Plays a batch of tasks, each with the ends of its runs and ten seconds a run, one
/// after the other. Returns the order of runs and how it ended.
fn play(ends: &[&[RunEnd]], allowance: Allowance) -> (Vec<usize>, Next) {
    let directories: Vec<String> = (0..ends.len()).map(|i| format!("/{i}")).collect();
    let directories: Vec<&str> = directories.iter().map(String::as_str).collect();
    let mut schedule = Schedule::new(footprints(&directories), allowance);
    let mut order = Vec::new();
    loop {
        match schedule.next(Duration::from_secs(10 * order.len() as u64)) {
            Next::Start(index) => {
                schedule.started(index);
                let run = schedule.runs(index) as usize - 1;
                schedule.ended(index, ends[index][run], NOW);
                order.push(index);
            }
            end => return (order, end),
        }
    }
}

/// What is played, the ends of each task's runs, the allowance; the order of runs, the end.
type Case<'a> = (&'a str, &'a [&'a [RunEnd]], Allowance, &'a [usize], Next);

#[test]
fn failing_tasks_run_again_after_all_others_have_had_their_turn() {
    let cases: &[Case<'_>] = &[
        ("no tasks", &[], allowance(3, 0, 1), &[], Next::Done),
        (
            "all good",
            &[&[Success], &[Warnings], &[Success]],
            allowance(3, 3600, 1),
            &[0, 1, 2],
            Next::Done,
        ),
        (
            "the first fails at first",
            &[&[Failure, Success], &[Success], &[Success]],
            allowance(3, 3600, 1),
            &[0, 1, 2, 0],
            Next::Done,
        ),
        (
            "two fail, one for good",
            &[&[Failure, Failure, Failure], &[Success], &[Failure, Success]],
            allowance(3, 3600, 1),
            &[0, 1, 2, 0, 2, 0],
            Next::Done,
        ),
        (
            "warnings are no failure",
            &[&[Warnings], &[Failure, Warnings]],
            allowance(3, 0, 1),
            &[0, 1, 1],
            Next::Done,
        ),
        ("one run each", &[&[Failure], &[Success]], allowance(1, 0, 1), &[0, 1], Next::Done),
        (
            "zero runs count as one",
            &[&[Failure], &[Success]],
            allowance(0, 0, 1),
            &[0, 1],
            Next::Done,
        ),
        (
            "no time for a second run",
            &[&[Failure], &[Success]],
            allowance(3, 20, 1),
            &[0, 1],
            Next::TimeUp,
        ),
        (
            "no time for the last task",
            &[&[Success], &[Success], &[Success]],
            allowance(3, 15, 1),
            &[0, 1],
            Next::TimeUp,
        ),
        (
            "the time is up but nothing is left to do",
            &[&[Success], &[Success]],
            allowance(3, 11, 1),
            &[0, 1],
            Next::Done,
        ),
    ];
    for (name, ends, allowance, order, end) in cases {
        assert_eq!(play(ends, *allowance), (order.to_vec(), *end), "{name}");
    }
}

const NOW: Duration = Duration::ZERO;

#[test]
fn tasks_run_beside_each_other_only_when_they_share_nothing() {
    let mut schedule = Schedule::new(footprints(&["/a", "/a/b", "/c", "/d"]), allowance(3, 0, 2));
    assert_eq!(schedule.next(NOW), Next::Start(0));
    schedule.started(0);
    // 1 lies in 0, so 2 comes first
    assert_eq!(schedule.next(NOW), Next::Start(2));
    schedule.started(2);
    assert_eq!(schedule.next(NOW), Next::Wait, "two at a time");
    schedule.ended(2, Success, NOW);
    assert_eq!(schedule.next(NOW), Next::Start(3));
    schedule.started(3);
    schedule.ended(0, Failure, NOW);
    assert_eq!(schedule.next(NOW), Next::Start(1), "first turns come before second ones");
    schedule.started(1);
    schedule.ended(3, Success, NOW);
    assert_eq!(schedule.next(NOW), Next::Wait, "0 waits until 1 has had its turn");
    schedule.ended(1, Success, NOW);
    assert_eq!(schedule.next(NOW), Next::Start(0));
    schedule.started(0);
    schedule.ended(0, Success, NOW);
    assert_eq!(schedule.next(NOW), Next::Done);
    assert!(schedule.results().all(|end| end == Some(Success)));
}

#[test]
fn running_tasks_are_waited_for_when_the_time_is_up() {
    let mut schedule = Schedule::new(footprints(&["/a", "/b", "/c"]), allowance(3, 5, 2));
    schedule.started(0);
    let late = Duration::from_secs(6);
    assert_eq!(schedule.next(late), Next::Wait);
    schedule.ended(0, Success, NOW);
    assert_eq!(schedule.next(late), Next::TimeUp);
    assert_eq!(schedule.results().collect::<Vec<_>>(), [Some(Success), None, None]);
}

#[test]
fn a_task_that_nobody_can_read_runs_alone() {
    let mut tasks = footprints(&["/a", "/b"]);
    tasks.insert(1, Footprint::unknown());
    let mut schedule = Schedule::new(tasks, allowance(3, 0, 8));
    schedule.started(0);
    assert_eq!(schedule.next(NOW), Next::Start(2));
    schedule.started(2);
    assert_eq!(schedule.next(NOW), Next::Wait);
    schedule.ended(0, Success, NOW);
    schedule.ended(2, Success, NOW);
    assert_eq!(schedule.next(NOW), Next::Start(1));
}

#[test]
fn a_task_runs_again_some_time_after_its_failure_unless_it_is_too_late_then() {
    let seconds = Duration::from_secs;
    let with_delay = |max_time| Allowance { retry_delay: seconds(30), ..allowance(3, max_time, 1) };
    for (max_time, next) in [
        (0, Next::WaitFor(seconds(20))),
        (41, Next::WaitFor(seconds(20))),
        (40, Next::Start(0)),
        (19, Next::TimeUp),
    ] {
        let mut schedule = Schedule::new(footprints(&["/a", "/b"]), with_delay(max_time));
        schedule.started(0);
        schedule.ended(0, Failure, seconds(10));
        assert_eq!(schedule.next(seconds(11)), Next::Start(1), "others come first");
        schedule.started(1);
        schedule.ended(1, Success, seconds(20));
        assert_eq!(schedule.next(seconds(20)), next, "{max_time}");
        if max_time == 0 {
            assert_eq!(schedule.next(seconds(40)), Next::Start(0));
        }
    }
}

//! A look at all tasks in lines for people, as JSON, and as a plugin of Nagios says it.

use super::gather::ShownTask;
use super::judge::{Lock, Severity, State};
use crate::cli::history::iso;
use crate::report::printable_line;
use crate::report::words::{age, counted, differing, grouped, size};
use crate::state::last_run::{LastRun, LastScrub};
use crate::tree::path::escape;
use serde_json::{Value, json};
use std::os::unix::ffi::OsStrExt;

/// One line a task, under a heading.
#[must_use]
pub fn table(tasks: &[&ShownTask], now: i64) -> Vec<String> {
    let heading =
        ["TASK", "STATE", "LAST RUN", "SUCCESS", "CONFLICTS", "FAILED", "KEPT", "WHAT IT DID"];
    let mut rows = vec![heading.map(str::to_owned)];
    rows.extend(tasks.iter().map(|task| row(task, now)));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..heading.len()).map(|at| width(at).unwrap_or(0)).collect();
    let line = |row: &[String; 8]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn row(task: &ShownTask, now: i64) -> [String; 8] {
    let dash = || "-".to_owned();
    let last = task.last();
    let count = |number: u64| if number == 0 { dash() } else { grouped(number) };
    [
        task.name.clone(),
        state(task, now),
        last.map_or_else(dash, |last| format!("{} ago", since(last.ended, now))),
        last.filter(|last| last.last_success > 0)
            .map_or_else(dash, |last| format!("{} ago", since(last.last_success, now))),
        count(task.facts.open_conflicts),
        count(last.map_or(0, |last| last.failed_paths)),
        task.kept().map_or_else(dash, size),
        did(task),
    ]
}

/// The state in words: since when and how often a task has failed, that it runs now.
#[must_use]
pub fn state(task: &ShownTask, now: i64) -> String {
    let running = match task.facts.lock {
        Lock::Running(since_then) => format!("running for {}", since(since_then, now)),
        Lock::Free | Lock::Dead(_) => String::new(),
    };
    let text = match (task.state, task.last()) {
        (State::Running, _) => return running,
        (State::Failing, Some(last)) => {
            let runs = counted(last.failed_runs.max(1), "run");
            format!("failing for {} ({runs})", since(last.failing_since, now))
        }
        (State::Failing, None) => "failing".to_owned(),
        (State::Unreadable, _) => "cannot be read".to_owned(),
        (State::Damaged, _) => format!("{} damaged", counted(task.facts.damaged, "file")),
        (State::DeadLock, _) => "locked by something dead".to_owned(),
        (State::Overdue, _) => "overdue".to_owned(),
        (State::NeverRun, _) => "never run".to_owned(),
        (State::Warnings, _) => "warnings".to_owned(),
        (State::Ok, _) => "ok".to_owned(),
    };
    if running.is_empty() { text } else { format!("{text}, {running}") }
}

/// What the last run did; where that went wrong, the first thing that did.
#[must_use]
pub fn did(task: &ShownTask) -> String {
    if let Some(trouble) = &task.facts.trouble {
        return one_line(trouble);
    }
    if let Lock::Dead(why) = &task.facts.lock {
        return one_line(why);
    }
    let Some(last) = task.last() else { return "-".to_owned() };
    if last.status == 0
        && let Some(scrub) = task.facts.failed_scrub()
    {
        return format!("the last scrub failed: {}", scrub.did);
    }
    let more = match last.problem_count {
        0 | 1 => String::new(),
        count => format!(" (and {} more)", grouped(count - 1)),
    };
    match last.problems.first() {
        Some(problem) if !last.succeeded() => format!("{}{more}", one_line(problem)),
        Some(problem) => format!("{}; {}{more}", last.did, one_line(problem)),
        None => match differing(task.facts.differences) {
            Some(differing) => format!("{}; {differing}", last.did),
            None => last.did.clone(),
        },
    }
}

/// The first line, printable.
fn one_line(text: &str) -> String {
    printable_line(text.lines().next().unwrap_or_default())
}

/// How long ago a moment was, both in milliseconds since the epoch.
#[must_use]
pub fn since(then: i64, now: i64) -> String {
    age(now.saturating_sub(then) / 1000)
}

/// Everything, for other programs.
#[must_use]
pub fn json(tasks: &[&ShownTask], now: i64, status: u8) -> Value {
    json!({
        "format": 1,
        "time": iso(now),
        "status": status,
        "tasks": tasks.iter().map(|task| one(task)).collect::<Vec<_>>(),
    })
}

fn one(task: &ShownTask) -> Value {
    let when = |millis: i64| (millis > 0).then(|| iso(millis)).flatten();
    let side = |side| task.replicas.as_ref().map(|replicas| replicas[side].clone());
    let (running, dead) = match &task.facts.lock {
        Lock::Free => (None, None),
        Lock::Running(since) => (iso(*since), None),
        Lock::Dead(why) => (None, Some(why)),
    };
    let last_run = |last: &LastRun| {
        json!({
            "began": when(last.began),
            "ended": when(last.ended),
            "status": last.status,
            "summary": last.did,
            "problem_count": last.problem_count,
            "problems": last.problems,
        })
    };
    let last_scrub = |last: &LastScrub| {
        json!({
            "began": when(last.began),
            "ended": when(last.ended),
            "status": last.status,
            "summary": last.did,
            "checked_files": last.checked,
            "damaged_files": last.damaged,
        })
    };
    let last = task.last();
    json!({
        "task": task.name,
        "file": escape(task.file.as_os_str().as_bytes()),
        "initiator": side(crate::tree::Side::Initiator),
        "target": side(crate::tree::Side::Target),
        "state": task.state.name(),
        "severity": severity(task.state.severity()),
        "why": task.facts.trouble.as_ref().or(dead),
        "running_since": running,
        "last_run": last.map(last_run),
        "last_success": last.and_then(|last| when(last.last_success)),
        "failing_since": last.and_then(|last| when(last.failing_since)),
        "failed_runs": last.map_or(0, |last| last.failed_runs),
        "open_conflicts": task.facts.open_conflicts,
        "differs_since_undo": task.facts.differences,
        "damaged_files": task.facts.damaged,
        "last_scrub": task.facts.scrub.as_ref().map(last_scrub),
        "failed_paths": last.map_or(0, |last| last.failed_paths),
        "kept_bytes": last.map(|last| {
            json!({ "initiator": last.kept[0], "target": last.kept[1] })
        }),
    })
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Well => "ok",
        Severity::Warns => "warning",
        Severity::Fails => "error",
    }
}

/// One line for Nagios and Icinga, with performance data, and the exit status they want.
#[must_use]
pub fn nagios(tasks: &[&ShownTask], now: i64) -> (String, u8) {
    let of = |severity| tasks.iter().filter(move |task| task.state.severity() == severity);
    let (failing, warning) = (of(Severity::Fails).count(), of(Severity::Warns).count());
    let (word, status) = match (tasks.len(), failing, warning) {
        (0, ..) => ("UNKNOWN", 3),
        (_, 0, 0) => ("OK", 0),
        (_, 0, _) => ("WARNING", 1),
        _ => ("CRITICAL", 2),
    };
    let all = counted(tasks.len() as u64, "task");
    let named: Vec<String> = of(Severity::Fails)
        .chain(of(Severity::Warns))
        .map(|task| format!("{}: {}", task.name, state(task, now)))
        .collect();
    let text = match (tasks.len(), named.is_empty()) {
        (0, _) => "no task was found".to_owned(),
        (_, true) => format!("{all}, all well"),
        (_, false) => format!("{} of {all}: {}", named.len(), named.join("; ")),
    };
    let sum = |value: fn(&ShownTask) -> u64| tasks.iter().map(|task| value(task)).sum::<u64>();
    let conflicts = sum(|task| task.facts.open_conflicts);
    let paths = sum(|task| task.last().map_or(0, |last| last.failed_paths));
    let kept = sum(|task| task.kept().unwrap_or(0));
    let damaged = sum(|task| task.facts.damaged);
    let oldest = tasks.iter().filter_map(|task| task.last()).map(|last| last.last_success);
    let oldest = oldest.min().map_or(0, |success| now.saturating_sub(success) / 1000);
    let line = format!(
        // what stands behind the bar is data
        "OSYNC {word} - {} | tasks={} failing={failing};;0 warning={warning};0 \
         oldest_success={oldest}s conflicts={conflicts} failed_paths={paths} kept={kept}B \
         damaged={damaged};;0",
        text.replace('|', "/"),
        tasks.len(),
    );
    (line, status)
}

#[cfg(test)]
mod tests {
    use super::super::gather::Story;
    use super::super::judge::{Facts, judge};
    use super::*;

    const NOW: i64 = 100_000_000_000;

    fn task(name: &str, status: u8, problems: &[&str]) -> ShownTask {
        let last = LastRun {
            began: NOW - 300_000,
            ended: NOW - 290_000,
            status,
            last_success: if status == 1 { NOW - 200_000_000 } else { NOW - 290_000 },
            failing_since: if status == 1 { NOW - 180_000_000 } else { 0 },
            failed_runs: if status == 1 { 12 } else { 0 },
            did: "1 move in 0.1 s".into(),
            problems: problems.iter().map(|text| (*text).to_owned()).collect(),
            problem_count: problems.len() as u64,
            failed_paths: problems.len() as u64,
            kept: [Some(1 << 20), None],
            ..LastRun::default()
        };
        let facts = Facts { last: Some(last), open_conflicts: 2, ..Facts::default() };
        let state = judge(&facts, NOW);
        let (file, story) = (format!("/etc/osync/{name}.conf").into(), Story::default());
        ShownTask { name: escape(name.as_bytes()), file, replicas: None, facts, state, story }
    }

    #[test]
    fn a_line_tells_what_a_person_wants_to_know_first() {
        let tasks = [task("a|b\n", 1, &["x\\n: no\u{7}\nmore", "y", "z"]), task("ok", 0, &[])];
        let tasks: Vec<&ShownTask> = tasks.iter().collect();
        assert_eq!(
            table(&tasks, NOW),
            [
                "TASK   STATE                         LAST RUN   SUCCESS     CONFLICTS  FAILED  KEPT     WHAT IT DID",
                "a|b\\n  failing for 2 days (12 runs)  4 min ago  2 days ago  2          3       1.0 MiB  x\\n: no\\x07 (and 2 more)",
                "ok     ok                            4 min ago  4 min ago   2          -       1.0 MiB  1 move in 0.1 s",
            ]
        );
    }

    #[test]
    fn nagios_gets_one_line_and_its_own_statuses() {
        let (bad, warned, good) =
            (task("a|b", 1, &["x"]), task("w", 2, &["y"]), task("ok", 0, &[]));
        for (tasks, begins, status) in [
            (vec![], "OSYNC UNKNOWN - no task was found |", 3),
            (vec![&good], "OSYNC OK - 1 task, all well | tasks=1 ", 0),
            (vec![&good, &warned], "OSYNC WARNING - 1 of 2 tasks: w: warnings | ", 1),
            (vec![&bad, &good], "OSYNC CRITICAL - 1 of 2 tasks: a/b: failing for 2 days ", 2),
        ] {
            let (line, found) = nagios(&tasks, NOW);
            assert!(line.starts_with(begins) && line.matches('|').count() == 1, "{line}");
            assert_eq!(found, status, "{line}");
        }
    }
}

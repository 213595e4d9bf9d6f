//! `--html`: the same as one page for a browser, without a script and without anything from
//! elsewhere. `templates/status.html` is its form; names are escaped there.

use super::gather::ShownTask;
use super::judge::Severity;
use super::show;
use crate::cli::history::{self, iso, local};
use crate::report::Counts;
use crate::report::words::{counted, grouped, size, took};
use crate::report::{Who, write_whole};
use crate::state::journal::{RecordedConflict, RecordedRun};
use crate::tree::Pair;
use crate::tree::path::{escape, for_shell};
use askama::Template;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// What is not known.
const DASH: &str = "–";
/// From one bar of a plot to the next, in its own units; a bar takes 7 of them.
const STEP: usize = 10;
/// The height of a plot.
const HIGHEST: f64 = 40.0;
/// A bar of a run that happened is not invisible.
const LOWEST: f64 = 1.0;

#[derive(Template)]
#[template(path = "status.html")]
struct Page {
    headline: String,
    made: String,
    made_iso: String,
    host: String,
    version: &'static str,
    tasks: Vec<Shown>,
}

struct Moment {
    text: String,
    iso: String,
}

struct Shown {
    anchor: String,
    name: String,
    class: &'static str,
    sign: &'static str,
    state: String,
    last_run: Option<Moment>,
    last_success: Option<Moment>,
    open_conflicts: String,
    failed_paths: String,
    kept: String,
    kept_detail: String,
    did: String,
    replicas: Option<Pair<String>>,
    file: String,
    problems_title: String,
    problems: Vec<String>,
    conflicts_title: String,
    conflicts: Vec<Conflict>,
    runs_title: String,
    runs: Vec<Run>,
    plots: Vec<Plot>,
}

struct Conflict {
    path: String,
    text: String,
    command: String,
}

struct Run {
    number: i64,
    began: Moment,
    took: String,
    class: &'static str,
    result: &'static str,
    did: String,
}

/// One measure of the last runs, the oldest at the left.
struct Plot {
    name: &'static str,
    label: String,
    most: String,
    width: usize,
    bars: Vec<Bar>,
}

struct Bar {
    class: &'static str,
    x: usize,
    y: String,
    height: String,
    title: String,
}

/// Writes the page, whole or not at all.
///
/// # Errors
/// It cannot be written.
pub fn write(file: &Path, tasks: &[&ShownTask], now: i64) -> Result<(), String> {
    let cannot = |why: &dyn std::fmt::Display| {
        format!("cannot write the page {}: {why}", escape(file.as_os_str().as_bytes()))
    };
    let text = page(tasks, now).render().map_err(|error| cannot(&error))?;
    write_whole(file, text.as_bytes()).map_err(|error| cannot(&error))
}

fn page(tasks: &[&ShownTask], now: i64) -> Page {
    let needy = tasks.iter().filter(|task| task.state.severity() != Severity::Well).count();
    let all = counted(tasks.len() as u64, "task");
    let headline = match needy {
        0 => format!("osync: {all}, all well"),
        1 => format!("osync: 1 of {all} needs a look"),
        _ => format!("osync: {} of {all} need a look", grouped(needy as u64)),
    };
    let Moment { text, iso } = moment(now);
    Page {
        headline,
        made: text,
        made_iso: iso,
        host: Who::here().host,
        version: env!("CARGO_PKG_VERSION"),
        tasks: tasks.iter().enumerate().map(|(index, task)| shown(index, task, now)).collect(),
    }
}

fn moment(millis: i64) -> Moment {
    Moment { text: local(millis, "%Y-%m-%d %H:%M"), iso: iso(millis).unwrap_or_default() }
}

fn shown(index: usize, task: &ShownTask, now: i64) -> Shown {
    let (class, sign) = match task.state.severity() {
        Severity::Fails => ("fail", "✖"),
        Severity::Warns => ("warn", "▲"),
        Severity::Well => ("well", "●"),
    };
    let last = task.last();
    let problems = match (&task.facts.trouble, last) {
        (Some(trouble), _) => vec![trouble.clone()],
        (None, Some(last)) => last.problems.clone(),
        (None, None) => Vec::new(),
    };
    let problem_count = last.map_or(0, |last| last.problem_count).max(problems.len() as u64);
    let runs = &task.story.runs;
    Shown {
        anchor: format!("task-{}", index + 1),
        name: task.name.clone(),
        class,
        sign,
        state: show::state(task, now),
        last_run: last.map(|last| moment(last.ended)),
        last_success: last
            .filter(|last| last.last_success > 0)
            .map(|last| moment(last.last_success)),
        open_conflicts: grouped(task.facts.open_conflicts),
        failed_paths: grouped(last.map_or(0, |last| last.failed_paths)),
        kept: task.kept().map_or_else(|| DASH.to_owned(), size),
        kept_detail: kept_detail(task),
        did: show::did(task),
        replicas: task.replicas.clone(),
        file: escape(task.file.as_os_str().as_bytes()),
        problems_title: listed_of("What went wrong", problems.len(), problem_count),
        problems,
        conflicts_title: listed_of(
            "Open conflicts",
            task.story.conflicts.len(),
            task.story.conflicts.len() as u64,
        ),
        conflicts: task.story.conflicts.iter().map(|of| conflict(task, of)).collect(),
        runs_title: format!("{} in a table", counted(runs.len() as u64, "run")),
        runs: runs.iter().map(run).collect(),
        plots: plots(runs),
    }
}

fn listed_of(title: &str, listed: usize, all: u64) -> String {
    match all > listed as u64 {
        true => format!("{title} (the first {listed} of {})", grouped(all)),
        false => title.to_owned(),
    }
}

fn kept_detail(task: &ShownTask) -> String {
    let Some(last) = task.last() else { return String::new() };
    let sides = ["initiator", "target"].into_iter().zip(last.kept);
    let known: Vec<String> =
        sides.filter_map(|(side, kept)| Some(format!("{} on the {side}", size(kept?)))).collect();
    match known.is_empty() {
        true => String::new(),
        false => format!("Kept in backup/ and deleted/: {}", known.join(", ")),
    }
}

fn conflict(task: &ShownTask, of: &RecordedConflict) -> Conflict {
    let decided = &of.decided;
    let file = for_shell(task.file.as_os_str().as_bytes());
    Conflict {
        path: decided.path.shown(),
        text: format!(
            "the {}'s version won on {} ({})",
            decided.winner,
            local(of.began, "%Y-%m-%d %H:%M"),
            decided.reason
        ),
        command: format!("osync conflicts {file} done {}", for_shell(decided.path.as_bytes())),
    }
}

fn class_of(status: u8) -> &'static str {
    match status {
        0 => "well",
        2 => "warn",
        _ => "fail",
    }
}

fn duration(run: &RecordedRun) -> Duration {
    Duration::from_millis(u64::try_from(run.run.ended - run.run.began).unwrap_or(0))
}

fn run(of: &RecordedRun) -> Run {
    Run {
        number: of.number,
        began: moment(of.run.began),
        took: took(duration(of)),
        class: class_of(of.run.status),
        result: history::result(of.run.status),
        did: history::did(of),
    }
}

/// Duration, bytes, changes and failures of the last runs.
fn plots(runs: &[RecordedRun]) -> Vec<Plot> {
    let both = |run: &RecordedRun, of: fn(&Counts) -> u64| {
        run.run.counts.iter().map(|(_, side)| of(side)).sum::<u64>()
    };
    let millis = |run: &RecordedRun| u64::try_from(duration(run).as_millis()).unwrap_or(u64::MAX);
    let changes = move |run: &RecordedRun| {
        both(run, |side| side.updates + side.metadata + side.deletions + side.moves)
    };
    vec![
        plot("Duration", runs, millis, |value| took(Duration::from_millis(value))),
        plot("Transferred", runs, move |run| both(run, |side| side.bytes), size),
        plot("Changes", runs, changes, |value| counted(value, "change")),
        plot("Problems", runs, |run| run.run.problems.len() as u64, |n| counted(n, "problem")),
    ]
}

fn plot(
    name: &'static str,
    runs: &[RecordedRun],
    value: impl Fn(&RecordedRun) -> u64,
    words: impl Fn(u64) -> String,
) -> Plot {
    let most = runs.iter().map(&value).max().unwrap_or(0);
    let failed = runs.iter().filter(|run| class_of(run.run.status) == "fail").count();
    let bars = runs.iter().rev().enumerate().map(|(index, run)| {
        let value = value(run);
        #[allow(clippy::cast_precision_loss)] // for the eye
        let height = (value as f64 / most.max(1) as f64 * HIGHEST).max(LOWEST);
        let class = match class_of(run.run.status) {
            "fail" => " fail",
            "warn" => " warn",
            _ => "",
        };
        let result = history::result(run.run.status);
        Bar {
            class,
            x: index * STEP,
            y: format!("{:.1}", HIGHEST - height),
            height: format!("{height:.1}"),
            title: format!("run {}: {}, {result}", run.number, words(value)),
        }
    });
    Plot {
        name,
        label: format!(
            "{name} of the last {}, {failed} of them failed; at most {}",
            counted(runs.len() as u64, "run"),
            words(most)
        ),
        most: if most == 0 { "none".to_owned() } else { format!("at most {}", words(most)) },
        // few runs are no wide bars
        width: runs.len().max(30) * STEP,
        bars: bars.collect(),
    }
}

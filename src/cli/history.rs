//! `osync history`: what runs did, and what happened to a path (spec 9, "Commands").

use super::journal;
use super::kept::{are_where_they_were_put, with_looked};
use super::pager::{Audience, Line, Page, Tone};
use super::task_args::{NamedTarget, Refused, Row, TaskArgs, TaskPair, path_in};
use crate::config::{Config, Environment};
use crate::reconcile::{self, versions::Held};
use crate::replica::Keep;
use crate::report::words;
use crate::state::journal::{
    Action, Change, ConflictState, Decided, Journal, JournalError, KeptPlace, Look, Matter, Only,
    RecordedChange, RecordedConflict, RecordedRun, SCRUB, Wanted,
};
use crate::tree::{Kind, Pair, RelPath, Side, path::escape};
use chrono::{DateTime, Local, TimeZone};
use clap::Args;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  osync history /etc/osync/docs.conf                    the last runs
  osync history /etc/osync/docs.conf --run 12           all that run 12 did
  osync history /etc/osync/docs.conf letters/bank.odt   what happened to a file
  osync history /etc/osync/docs.conf --since '3 days ago' --failed

Exit status: 0, or 1 if the journal cannot be read.";

/// `osync history`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct HistoryArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub task: TaskArgs,
    /// What this run did, path by path
    #[arg(long, value_name = "N")]
    pub run: Option<i64>,
    /// Only runs since then: yesterday, '3 days ago', '2026-11-20 14:00'
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only runs that did not end well
    #[arg(long)]
    pub failed: bool,
    /// At most so many, the newest [default: 30; with --json: all]
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Print JSON lines, for other programs
    #[arg(long)]
    pub json: bool,
}

/// Answers on standard output.
pub fn run(args: &HistoryArgs, environment: &Environment) -> anyhow::Result<ExitCode> {
    let (pairs, rest) = args.task.resolve_all(environment)?;
    let paths = rest.iter().map(|word| path_in(word, &pairs)).collect::<Result<Vec<_>, _>>()?;
    let since = args.since.as_deref().map(|text| moment(text, Local::now())).transpose()?;
    let asked = Asked { args, since, paths: &paths };
    let mut lines = match (paths.as_slice(), args.run) {
        ([], None) => runs(&pairs, &asked)?,
        _ => {
            let mut lines = Vec::new();
            for pair in &pairs {
                lines.extend(pair.lines(details(&pair.config, &asked)?));
            }
            lines
        }
    };
    if !paths.is_empty() {
        for pair in &pairs {
            let rows = kept_versions(&pair.config, &asked).map_err(anyhow::Error::msg)?;
            lines.extend(pair.lines(rows));
        }
    }
    let mut page = Page::open(Audience::of_json(args.json));
    lines.into_iter().for_each(|line| page.line(line));
    Ok(ExitCode::SUCCESS)
}

/// The runs of all pairs, the newest first.
fn runs(pairs: &[TaskPair], asked: &Asked<'_>) -> anyhow::Result<Vec<Line>> {
    let args = asked.args;
    let only = if args.failed { Only::Failed } else { Only::All };
    let wanted = Wanted { number: None, since: asked.since, only, limit: Some(limit(args) as u64) };
    let mut found: Vec<(&TaskPair, RecordedRun)> = Vec::new();
    let mut is_recorded = false;
    for pair in pairs {
        let Some(journal) = journal(&pair.config)? else { continue };
        is_recorded = true;
        found.extend(journal.runs(&wanted)?.into_iter().map(|run| (pair, run)));
    }
    if pairs.len() > 1 {
        found.sort_by_key(|(_, run)| std::cmp::Reverse(run.run.began));
        found.truncate(limit(args));
    }
    if args.json {
        let json =
            |(pair, run): &(&TaskPair, RecordedRun)| pair.lines(vec![Row::Json(run_json(run))]);
        return Ok(found.iter().flat_map(json).collect());
    }
    if !is_recorded {
        let ids = pairs.first().map(|pair| escape(pair.config.instance_id.as_bytes()));
        let none = format!("no run of task {} is recorded yet", ids.unwrap_or_default());
        return Ok(vec![none.into()]);
    }
    if found.is_empty() {
        return Ok(vec!["no such run".to_owned().into()]);
    }
    let mut lines = vec![Line::head("  RUN  BEGAN                   TOOK  RESULT    WHAT IT DID")];
    lines.extend(found.iter().map(|(pair, run)| run_line(run, pair.target.as_ref())));
    Ok(lines)
}

/// The versions that both sides keep of each path.
fn kept_versions(config: &Config, asked: &Asked<'_>) -> Result<Vec<Row>, String> {
    with_looked(config, |versions| {
        let mut rows = Vec::new();
        for path in asked.paths {
            let held = versions.of(path)?;
            let groups = reconcile::versions::versions(path, &held);
            if asked.args.json {
                rows.extend(groups.iter().enumerate().flat_map(|(index, group)| {
                    let json = move |held| version_json(index + 1, held, config);
                    group.iter().copied().map(json).map(Row::Json)
                }));
            } else {
                rows.extend(version_table(path, &groups, config).into_iter().map(Row::Text));
            }
        }
        Ok(rows)
    })
}

/// Until when a version is kept, in milliseconds; `None`: for ever, or nothing tells.
fn kept_until(held: &Held, config: &Config) -> Option<i64> {
    let days = match held.kept.keep {
        Keep::Backup => config.policy.backup_days,
        Keep::Deleted => config.policy.soft_delete_days,
    };
    // days are whole ones, as in cleaning
    let end = held.kept.came?.checked_add((i64::from(days) + 1).checked_mul(86_400)?)?;
    (days > 0).then_some(end.checked_mul(1000)?)
}

fn version_table(path: &RelPath, groups: &[Vec<&Held>], config: &Config) -> Vec<Line> {
    let empty = Line::from(String::new());
    if groups.is_empty() {
        return vec![empty, format!("No version of {} is kept.", path.shown()).into()];
    }
    let mut lines = vec![
        empty,
        Line::head(format!("Kept versions of {} (osync restore --version N):", path.shown())),
        Line::head("    N  KEPT SINCE           SIDE            SIZE  KEPT UNTIL  WHERE"),
    ];
    let line = |(index, group): (usize, &Vec<&Held>)| version_line(index + 1, group, config);
    lines.extend(groups.iter().enumerate().map(line).map(Line::from));
    lines
}

fn version_line(number: usize, group: &[&Held], config: &Config) -> String {
    let Some(first) = group.first() else { return String::new() };
    let since = match first.at {
        Some(at) => local(at * 1000, "%Y-%m-%d %H:%M:%S"),
        None => "unknown".to_owned(),
    };
    let until = group.iter().filter_map(|held| kept_until(held, config)).min();
    let until = until.map_or_else(|| "for ever".to_owned(), |end| local(end, "%Y-%m-%d"));
    let is_file = |held: &&&Held| held.kept.entry.kind == Kind::File;
    let bytes: u64 = group.iter().filter(is_file).map(|held| held.kept.entry.size).sum();
    let top = group.iter().min_by_key(|held| held.kept.path.depth()).unwrap_or(first);
    let side =
        if group.iter().all(|held| held.side == first.side) { first.side.name() } else { "both" };
    let size = if first.kept.entry.kind == Kind::File || group.len() > 1 {
        words::size(bytes)
    } else {
        first.kept.entry.kind.name().to_owned()
    };
    let mut line = format!(
        "{number:>5}  {since:<19}  {side:<9}  {size:>9}  {until:<10}  {}/{}",
        top.kept.keep.name(),
        top.kept.place.shown()
    );
    if group.len() > 1 {
        line.push_str(&format!(" and {}", words::counted(group.len() as u64 - 1, "other")));
    }
    match (group.iter().filter(|held| held.is_damaged).count(), group.len()) {
        (0, _) => {}
        (1, 1) => line.push_str("  damaged"),
        (damaged, _) => line.push_str(&format!("  {damaged} damaged")),
    }
    line
}

fn version_json(number: usize, held: &Held, config: &Config) -> Value {
    let kept = &held.kept;
    json!({
        "version": number,
        "path": kept.path.shown(),
        "side": held.side.name(),
        "kind": kept.entry.kind.name(),
        "size": kept.entry.size,
        "mtime": iso(kept.entry.mtime.secs().saturating_mul(1000)),
        "mode": format!("{:04o}", kept.entry.mode),
        "run": held.run,
        "kept_at": held.at.and_then(|at| iso(at.saturating_mul(1000))),
        "kept_until": kept_until(held, config).and_then(iso),
        "kept_in": kept.keep.name(),
        "kept_as": kept.place.shown(),
        "damaged": held.is_damaged,
    })
}

struct Asked<'a> {
    args: &'a HistoryArgs,
    since: Option<i64>,
    paths: &'a [RelPath],
}

/// What one run did, or what happened to each path.
fn details(config: &Config, asked: &Asked<'_>) -> anyhow::Result<Vec<Row>> {
    let args = asked.args;
    let Some(journal) = journal(config)? else {
        let id = escape(config.instance_id.as_bytes());
        let none = format!("no run of task {id} is recorded yet");
        return Ok(if args.json { Vec::new() } else { vec![none.into()] });
    };
    let mut rows = Vec::new();
    if let (Some(number), []) = (args.run, asked.paths) {
        let runs = journal.runs(&Wanted { number: Some(number), ..Wanted::default() })?;
        let mut changes = journal.changes_of_run(number)?;
        forget_moved(&mut changes, config);
        let mut damaged = journal.conflicts(None)?;
        damaged.retain(|one| one.run == number && one.matter == Matter::Damage);
        match (runs.first(), args.json) {
            (Some(run), true) => {
                rows.push(Row::Json(run_json(run)));
                rows.extend(damaged.iter().map(differing_json).map(Row::Json));
                rows.extend(changes.iter().map(recorded_json).map(Row::Json));
            }
            (Some(run), false) => {
                rows.extend(text_of_run(run, &damaged, &changes).into_iter().map(Row::Text))
            }
            (None, true) => {}
            (None, false) => rows.push(format!("there is no run {number} in the journal").into()),
        }
    }
    for path in asked.paths {
        let mut changes = journal.changes_of_path(path)?;
        changes.retain(|change| asked.since.is_none_or(|since| change.ended >= since));
        changes.truncate(limit(args));
        forget_moved(&mut changes, config);
        let differing = differing(&journal, path)?;
        if args.json {
            rows.extend(differing.iter().map(differing_json).map(Row::Json));
            rows.extend(changes.iter().map(recorded_json).map(Row::Json));
        } else {
            rows.extend(text_of(&differing).into_iter().map(Row::from));
            rows.extend(text_of_path(&changes, path).into_iter().map(Row::from));
        }
    }
    Ok(rows)
}

/// Forgets where versions were kept that are there no more: the journal of one target of a star does
/// not know what the others have moved on the initiator.
fn forget_moved(changes: &mut [RecordedChange], config: &Config) {
    if config.star.is_none() {
        return;
    }
    for side in Side::BOTH {
        let changes = changes.iter_mut().map(|recorded| &mut recorded.change);
        let put: Vec<&mut Change> = changes
            .filter(|change| {
                change.side == side && change.kept.is_some() && change.before.is_some()
            })
            .collect();
        let places: Vec<_> = put
            .iter()
            .filter_map(|change| Some((change.kept.as_ref()?, change.before.as_ref()?)))
            .collect();
        let are_there = are_where_they_were_put(&places, side, config);
        for (change, _) in put.into_iter().zip(are_there).filter(|(_, is_there)| !is_there) {
            change.kept = None;
        }
    }
}

/// Where both sides differ since an undo, or a copy is damaged, at a path or below it.
fn differing(journal: &Journal, path: &RelPath) -> Result<Vec<RecordedConflict>, JournalError> {
    let mut differing = journal.conflicts(None)?;
    let stands = |state| matches!(state, ConflictState::Undone | ConflictState::Damaged);
    differing.retain(|one| stands(one.state) && one.decided.path.is_within(path));
    Ok(differing)
}

fn text_of(differing: &[RecordedConflict]) -> Vec<String> {
    let line = |one: &RecordedConflict| {
        let began = local(one.began, "%Y-%m-%d %H:%M:%S");
        let path = one.decided.path.shown();
        let what = match one.state {
            ConflictState::Damaged => one.decided.reason.as_str(),
            _ => "both sides differ since undo",
        };
        format!("{:>5}  {began}  {what}: {path}", one.run)
    };
    differing.iter().map(line).collect()
}

fn differing_json(one: &RecordedConflict) -> Value {
    json!({
        "run": one.run,
        "began": iso(one.began),
        "path": one.decided.path.shown(),
        "state": one.state.name(),
        "reason": one.decided.reason,
    })
}

fn limit(args: &HistoryArgs) -> usize {
    let usual = if args.json { usize::MAX } else { 30 };
    args.limit.map_or(usual, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

pub(super) fn result(status: u8) -> &'static str {
    match status {
        0 => "ok",
        2 => "warnings",
        _ => "failed",
    }
}

pub(super) fn did(run: &RecordedRun) -> String {
    let done = words::what_was_done(&run.run.counts, run.conflicts);
    let done = match (done, words::differing(run.differs)) {
        (Some(done), Some(differing)) => Some(format!("{done}; {differing}")),
        (done, differing) => done.or(differing),
    };
    if run.run.cause == SCRUB {
        let damaged =
            (run.damaged > 0).then(|| format!("{} damaged", words::counted(run.damaged, "file")));
        let said = run.run.problems.first().filter(|_| done.is_none()).cloned();
        let parts: Vec<String> = [done, damaged, said].into_iter().flatten().collect();
        let parts = if parts.is_empty() { "no damage found".to_owned() } else { parts.join("; ") };
        return format!("scrub: {parts}");
    }
    match (run.run.undoes, done) {
        (Some(number), Some(done)) => format!("undid run {number}: {done}"),
        (Some(number), None) => format!("undid run {number}"),
        (None, Some(done)) => done,
        (None, None) => match run.run.problems.first() {
            Some(problem) => problem.clone(),
            None => "nothing to do".to_owned(),
        },
    }
}

fn run_line(run: &RecordedRun, target: Option<&NamedTarget>) -> Line {
    let took = Duration::from_millis(u64::try_from(run.run.ended - run.run.began).unwrap_or(0));
    let tone = match run.run.status {
        0 => Tone::Plain,
        2 => Tone::Warns,
        _ => Tone::Fails,
    };
    let of_target = target.map(|target| format!("[{}] ", target.name)).unwrap_or_default();
    let text = format!(
        "{:>5}  {}  {:>8}  {:<8}  {of_target}{}",
        run.number,
        local(run.run.began, "%Y-%m-%d %H:%M:%S"),
        words::took(took),
        result(run.run.status),
        did(run)
    );
    Line { text, tone }
}

fn text_of_run(
    run: &RecordedRun,
    damaged: &[RecordedConflict],
    changes: &[RecordedChange],
) -> Vec<Line> {
    let began = local(run.run.began, "%Y-%m-%d %H:%M:%S");
    let mut lines = vec![
        Line::head(format!("Run {}, {began}: {}", run.number, did(run))),
        format!("  result: {}; begun by: {}", result(run.run.status), run.run.cause).into(),
    ];
    let problem = |problem: &String| Line::from(format!("  problem: {problem}"));
    lines.extend(run.run.problems.iter().map(problem));
    let damage = |one: &RecordedConflict| {
        let Decided { path, reason, .. } = &one.decided;
        Line::from(format!("  damaged: {}: {reason}", path.shown()))
    };
    lines.extend(damaged.iter().map(damage));
    let change = |recorded: &RecordedChange| change_line(&recorded.change).map(Line::from);
    lines.extend(changes.iter().filter_map(change));
    lines
}

fn text_of_path(changes: &[RecordedChange], path: &RelPath) -> Vec<String> {
    let line = |recorded: &RecordedChange| {
        let began = local(recorded.began, "%Y-%m-%d %H:%M:%S");
        Some(format!("{:>5}  {began}{}", recorded.run, change_line(&recorded.change)?))
    };
    let lines: Vec<String> = changes.iter().filter_map(line).collect();
    if lines.is_empty() {
        return vec![format!("nothing that happened to {} is recorded", path.shown())];
    }
    lines
}

/// One line about a change; `None` for the time of a directory, which is not shown.
pub(super) fn change_line(change: &Change) -> Option<String> {
    if change.action == Action::Times {
        return None;
    }
    let mut line = format!("  {:<9}  {:<8}  ", change.side.name(), change.action.name());
    if let Some(old) = &change.other {
        line.push_str(&format!("{} -> ", old.shown()));
    }
    line.push_str(&change.path.shown());
    if change.below > 0 {
        line.push_str(&format!(" and {} below", words::counted(change.below, "entry")));
    }
    if let Some(look) = change.after.as_ref().or(change.before.as_ref())
        && !look.kind.is_dir()
    {
        line.push_str(&format!(" ({})", words::size(look.size)));
    }
    match &change.kept {
        Some(KeptPlace { keep: Keep::Backup, place }) => {
            line.push_str(&format!("; the version before is kept as backup/{}", place.shown()));
        }
        Some(KeptPlace { keep: Keep::Deleted, place }) => {
            line.push_str(&format!("; kept as deleted/{}", place.shown()));
        }
        None => {}
    }
    Some(line)
}

fn run_json(run: &RecordedRun) -> Value {
    let Pair { initiator, target } = &run.run.counts;
    json!({
        "run": run.number,
        "began": iso(run.run.began),
        "ended": iso(run.run.ended),
        "status": run.run.status,
        "cause": run.run.cause,
        "undoes": run.run.undoes,
        "conflicts": run.conflicts,
        "differs": run.differs,
        "damaged": run.damaged,
        "initiator": initiator,
        "target": target,
        "problems": run.run.problems,
    })
}

fn recorded_json(recorded: &RecordedChange) -> Value {
    let mut line = change_json(&recorded.change);
    line["run"] = json!(recorded.run);
    line["began"] = json!(iso(recorded.began));
    line
}

/// A change, without the run that made it.
pub(super) fn change_json(change: &Change) -> Value {
    let look = |look: &Option<Look>| {
        look.as_ref().map(|look| {
            json!({
                "kind": look.kind.name(),
                "size": look.size,
                "mtime": iso(look.mtime.secs().saturating_mul(1000)),
                "mode": format!("{:04o}", look.mode),
                "uid": look.uid,
                "gid": look.gid,
            })
        })
    };
    json!({
        "side": change.side.name(),
        "path": change.path.shown(),
        "action": change.action.name(),
        "from": change.other.as_ref().map(RelPath::shown),
        "below": change.below,
        "before": look(&change.before),
        "after": look(&change.after),
        "kept_in": change.kept.as_ref().map(|kept| kept.keep.name()),
        "kept_as": change.kept.as_ref().map(|kept| kept.place.shown()),
    })
}

fn at(millis: i64) -> Option<DateTime<Local>> {
    Local.timestamp_millis_opt(millis).single()
}

/// A moment in the local time zone, for people.
pub(super) fn local(millis: i64, format: &str) -> String {
    at(millis).map_or_else(|| "unknown".to_owned(), |time| time.format(format).to_string())
}

pub(super) fn iso(millis: i64) -> Option<String> {
    Some(at(millis)?.to_rfc3339_opts(chrono::SecondsFormat::Millis, false))
}

/// The moment that a person means, in milliseconds since the epoch.
///
/// # Errors
/// It cannot be understood.
pub(super) fn moment(text: &str, now: DateTime<Local>) -> Result<i64, Refused> {
    interim::parse_date_string(text, now, interim::Dialect::Us)
        .map(|time| time.timestamp_millis())
        .map_err(|why| {
            Refused::Usage(format!(
                "'{text}' is not a time ({why}); examples: yesterday, '3 days ago', '2026-11-20 14:00'"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_understood_as_people_type_them() {
        let now = Local.with_ymd_and_hms(2026, 11, 29, 15, 0, 0).unwrap();
        let at = |text: &str| moment(text, now).map(|millis| local(millis, "%Y-%m-%d %H:%M:%S"));
        for (text, expected) in [
            ("yesterday", "2026-11-28 15:00:00"),
            ("3 days ago", "2026-11-26 15:00:00"),
            ("2 hours ago", "2026-11-29 13:00:00"),
            ("2026-11-20 14:00", "2026-11-20 14:00:00"),
            ("2026-11-20", "2026-11-20 00:00:00"),
            ("2026-11-20T14:00:05", "2026-11-20 14:00:05"),
        ] {
            assert_eq!(at(text).unwrap(), expected, "{text}");
        }
        assert!(at("the day after").is_err());
    }
}

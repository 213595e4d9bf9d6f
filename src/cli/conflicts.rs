//! `osync conflicts`: which conflicts wait for somebody's decision (spec 9, "Commands").

use super::history::{local, refuse};
use super::pager::Page;
use super::task_args::{TaskArgs, replica_path};
use super::{bad_usage, failed, state_dir};
use crate::config::{Config, Environment};
use crate::report::words;
use crate::state::StateDir;
use crate::state::journal::{ConflictState, Journal, JournalError, Look, RecordedConflict};
use crate::tree::RelPath;
use clap::Args;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  osync conflicts /etc/osync/docs.conf                   the open ones
  osync conflicts /etc/osync/docs.conf --all             closed ones too
  osync conflicts /etc/osync/docs.conf done plan.odt     this one is settled

The version that lost lies in .osync_workdir/backup of the side that is named.
Exit status: 0, or 1 if the journal cannot be read or written.";

/// `osync conflicts`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ConflictsArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub task: TaskArgs,
    /// Closed ones too
    #[arg(long)]
    pub all: bool,
    /// Print JSON lines, for other programs
    #[arg(long)]
    pub json: bool,
}

/// What is asked for.
enum Ask {
    List,
    Done(Vec<RelPath>),
}

/// Answers on standard output.
pub fn run(args: &ConflictsArgs, environment: &Environment) -> ExitCode {
    let (config, rest) = match args.task.resolve(environment) {
        Ok(found) => found,
        Err(refused) => return refuse(refused),
    };
    let ask = match asked(rest, &config) {
        Ok(ask) => ask,
        Err(text) => return bad_usage(&text),
    };
    let dir = match state_dir(&config) {
        Ok(dir) => dir,
        Err(text) => return failed(&text),
    };
    let answered = match ask {
        Ask::List => list(args, &dir, &config),
        Ask::Done(paths) => done(&paths, &dir, &config),
    };
    match answered {
        Ok(lines) => {
            let mut page = Page::open();
            lines.iter().for_each(|line| page.line(line));
            ExitCode::SUCCESS
        }
        Err(text) => failed(&text),
    }
}

fn asked(words: &[OsString], config: &Config) -> Result<Ask, String> {
    match words.split_first() {
        None => Ok(Ask::List),
        Some((word, [])) if word == "done" => Err("done: name the path".to_owned()),
        Some((word, paths)) if word == "done" => paths
            .iter()
            .map(|path| replica_path(path, config))
            .collect::<Result<_, _>>()
            .map(Ask::Done),
        Some((word, _)) => Err(format!(
            "'{}' is unknown here; 'done PATH' closes a conflict",
            word.to_string_lossy()
        )),
    }
}

fn list(args: &ConflictsArgs, dir: &StateDir, config: &Config) -> Result<Vec<String>, String> {
    let words = |error: JournalError| error.to_string();
    let Some(journal) = Journal::read(dir, &config.instance_id).map_err(words)? else {
        return Ok(if args.json { Vec::new() } else { vec!["there are no conflicts".to_owned()] });
    };
    let state = (!args.all).then_some(ConflictState::Open);
    let found = journal.conflicts(state).map_err(words)?;
    if args.json {
        return Ok(found.iter().map(|conflict| as_json(conflict).to_string()).collect());
    }
    if found.is_empty() {
        return Ok(vec![
            if args.all { "there are no conflicts" } else { "no conflict is open" }.to_owned(),
        ]);
    }
    Ok(found.iter().flat_map(|conflict| told(conflict, config)).collect())
}

/// Three lines a conflict: what won and why, both versions, where the loser lies.
fn told(conflict: &RecordedConflict, config: &Config) -> Vec<String> {
    let decided = &conflict.decided;
    let (winner, loser) = (decided.winner, decided.winner.other());
    let state = match conflict.state {
        ConflictState::Open => String::new(),
        other => format!(" [{}]", other.name()),
    };
    let mut lines = vec![
        format!(
            "{}{state}: the {winner}'s version won in run {} ({}): {}",
            decided.path.shown(),
            conflict.run,
            local(conflict.began, "%Y-%m-%d %H:%M"),
            decided.reason
        ),
        format!("  {winner:<9}  {}", version(decided.won.as_ref())),
        format!("  {loser:<9}  {}", version(decided.lost.as_ref())),
    ];
    if decided.lost.is_some() && config.policy.backup {
        let until = match config.policy.backup_days {
            0 => "for ever".to_owned(),
            days => {
                let end = conflict.ended.saturating_add(i64::from(days) * 86_400_000);
                format!("until {}", local(end, "%Y-%m-%d"))
            }
        };
        lines.push(format!(
            "  kept {until} on the {loser}: .osync_workdir/backup/{}",
            decided.path.shown()
        ));
    }
    lines
}

fn version(look: Option<&Look>) -> String {
    match look {
        None => "deleted".to_owned(),
        Some(look) if look.kind.is_dir() => "a directory".to_owned(),
        Some(look) => format!(
            "{}, {}",
            words::size(look.size),
            local(look.mtime.secs().saturating_mul(1000), "%Y-%m-%d %H:%M:%S")
        ),
    }
}

fn as_json(conflict: &RecordedConflict) -> Value {
    let decided = &conflict.decided;
    let look = |look: &Option<Look>| {
        look.as_ref().map(|look| json!({ "kind": look.kind.name(), "size": look.size, "mtime": look.mtime.secs() }))
    };
    json!({
        "path": decided.path.shown(),
        "run": conflict.run,
        "state": conflict.state.name(),
        "winner": decided.winner.name(),
        "reason": decided.reason,
        "won": look(&decided.won),
        "lost": look(&decided.lost),
    })
}

fn done(paths: &[RelPath], dir: &StateDir, config: &Config) -> Result<Vec<String>, String> {
    let words = |error: JournalError| error.to_string();
    let Some(journal) = Journal::read(dir, &config.instance_id).map_err(words)? else {
        return Err("no run of this task is recorded yet".to_owned());
    };
    let open = journal.conflicts(Some(ConflictState::Open)).map_err(words)?;
    drop(journal);
    let missing = paths.iter().find(|path| !open.iter().any(|one| one.decided.path == **path));
    if let Some(path) = missing {
        return Err(format!("no conflict of {} is open; nothing was closed", path.shown()));
    }
    let (journal, _) = Journal::write(dir, &config.instance_id).map_err(words)?;
    let mut lines = Vec::new();
    for conflict in open.iter().filter(|one| paths.contains(&one.decided.path)) {
        journal.close_conflict(conflict.id, ConflictState::Resolved).map_err(words)?;
        lines.push(format!("closed: {}", conflict.decided.path.shown()));
    }
    Ok(lines)
}

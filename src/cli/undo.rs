//! `osync undo`: both sides back to where they were before a run (spec 9, "Commands").

use super::history::{change_json, change_line, did, local};
use super::pager::{Audience, Page};
use super::sync::{run_once, run_star};
use super::task_args::{NamedTarget, Refused, TaskArgs, TaskPair, say_which};
use super::{Effect, journal};
use crate::config::Environment;
use crate::report::words;
use crate::state::journal::{RecordedRun, Wanted};
use crate::task::intent::{Intent, StarIntent};
use crate::task::undo::{Extent, UndoRequest, Undone, UnlessWhole};
use crate::tree::RelPath;
use crate::tree::path::escape;
use clap::Args;
use serde_json::json;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use std::time::Instant;

const EXAMPLES: &str = "\
Examples:
  osync undo docs.conf          the last run that changed anything
  osync undo docs.conf 12       run 12, as 'osync history' numbers them
  osync undo docs.conf --dry    what would be done

Each side gets back what it had. Where the sides differed before that run, they differ again; \
the next run leaves that alone until somebody changes something. Undoing the undo is an undo.
Of a task with several targets, the last run with all of them is undone, or that of one (--only).

Exit status: 0, 2 if paths were left because they were changed since, 1 if nothing was undone.";

/// `osync undo`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct UndoArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub task: TaskArgs,
    /// Undo the rest, if something can no longer be put back
    #[arg(long)]
    pub force: bool,
    /// Show what would be done, and change nothing
    #[arg(long)]
    pub dry: bool,
    /// Print JSON lines, for other programs
    #[arg(long)]
    pub json: bool,
}

/// Undoes, and says on standard output what it did.
pub fn run(args: &UndoArgs, environment: &Environment) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let (mut config, rest) = args.task.resolve_whole(environment)?;
    if config.is_star() && !rest.is_empty() {
        // each target numbers its own runs
        let (pairs, _) = args.task.resolve_all(environment)?;
        return Err(say_which(pairs.iter().filter_map(last_run_of)).into());
    }
    let run = match rest {
        [] => None,
        [word] => Some(word.to_str().and_then(|text| text.parse().ok()).ok_or_else(|| {
            Refused::Usage(format!("'{}' is not the number of a run", escape(word.as_bytes())))
        })?),
        _ => return Err(Refused::Usage("one run at a time".to_owned()).into()),
    };
    config.flags.dry |= args.dry;
    (config.flags.errors_only, config.flags.no_prefix) = (true, true);
    let unless_whole = if args.force { UnlessWhole::DoTheRest } else { UnlessWhole::Refuse };
    let outcome = if config.is_star() {
        run_star(&config, started, StarIntent::Undo(unless_whole))
    } else {
        let request = UndoRequest { run, unless_whole, extent: Extent::All };
        run_once(&config, started, Intent::Undo(request))
    };
    if !outcome.undone.is_empty() {
        let effect = Effect::of(&config);
        let mut page = Page::open(Audience::of_json(args.json));
        for undone in &outcome.undone {
            let told = if args.json { as_json(undone, effect) } else { told(undone, effect) };
            told.into_iter().for_each(|line| page.line(line));
        }
    }
    Ok(ExitCode::from(outcome.status))
}

/// What would be undone of one of several targets, for people who have to choose.
fn last_run_of(pair: &TaskPair) -> Option<(NamedTarget, String)> {
    let config = &pair.config;
    let run = || -> anyhow::Result<Option<RecordedRun>> {
        let Some(journal) = journal(config)? else { return Ok(None) };
        let Some(number) = journal.last_with_changes()? else { return Ok(None) };
        Ok(journal.runs(&Wanted { number: Some(number), ..Wanted::default() })?.pop())
    };
    let last = match run() {
        Ok(Some(run)) => {
            let began = local(run.run.began, "%Y-%m-%d %H:%M");
            format!(": run {} ({began}), {}", run.number, did(&run))
        }
        Ok(None) => ": nothing to undo".to_owned(),
        Err(why) => format!(": unknown: {why:#}"),
    };
    Some((pair.target.clone()?, last))
}

fn told(undone: &Undone, effect: Effect) -> Vec<String> {
    let verb = match effect {
        Effect::Planned => "Undoing run",
        Effect::Done => "Undone: run",
    };
    let mut lines = vec![match undone.changes.len() {
        0 => format!("Run {}: nothing of it is left to undo", undone.run),
        _ => format!("{verb} {}", undone.run),
    }];
    lines.extend(undone.changes.iter().filter_map(change_line));
    if !undone.left.is_empty() {
        let left = words::counted(undone.left.len() as u64, "path");
        lines.push(format!("{left} left, changed since that run"));
    }
    if !undone.target.is_empty() {
        lines.iter_mut().for_each(|line| *line = format!("[{}] {line}", undone.target));
    }
    lines
}

fn as_json(undone: &Undone, effect: Effect) -> Vec<String> {
    let changes = undone.changes.iter().map(|change| {
        let mut line = change_json(change);
        line["dry"] = json!(effect.is_planned());
        line
    });
    let left = undone.left.iter().map(|path: &RelPath| json!({ "left": path.shown() }));
    let lost = undone.lost.iter().map(|(side, path, why)| {
        json!({ "lost": path.shown(), "side": side.name(), "why": why.to_string() })
    });
    let lines = changes.chain(left).chain(lost).map(|mut line| {
        line["undoes"] = json!(undone.run);
        if !undone.target.is_empty() {
            line["leaf"] = json!(undone.target);
        }
        line.to_string()
    });
    lines.collect()
}

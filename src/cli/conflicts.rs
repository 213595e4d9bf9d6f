//! `osync conflicts`: which conflicts wait for somebody's decision (spec 9, "Commands").

use super::history::local;
use super::kept::{are_where_they_were_put, with_looked, with_versions};
use super::pager::{Audience, Line, Page};
use super::restore::said;
use super::sync::run_once;
use super::task_args::{Refused, Row, TaskArgs, TaskPair, path_in, say_which};
use super::{ERROR, Effect, journal, state_dir};
use crate::config::{Config, Environment, Location};
use crate::reconcile::versions::{Held, Taken, beside, loser, replaced_winner};
use crate::report::words;
use crate::state::journal::{
    ConflictState, Decided, Journal, KeptPlace, Look, LostAt, Matter, RecordedConflict,
};
use crate::task::intent::Intent;
use crate::task::scrub::Settlement;
use crate::task::versions::Versions;
use crate::tree::{RelPath, Side};
use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

const EXAMPLES: &str = "\
Examples:
  osync conflicts docs.conf                           the open ones
  osync conflicts docs.conf --all                     closed ones too
  osync conflicts docs.conf show plan.odt             all about this one
  osync conflicts docs.conf diff plan.txt             what is different
  osync conflicts docs.conf take plan.odt initiator   that version is right
  osync conflicts docs.conf take plan.odt both        the other beside it
  osync conflicts docs.conf done plan.odt             it is settled

What is taken is new work: the next run carries it over. What it replaces is kept.

Exit status: 0, or 1 if something cannot be read or done.";

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
    Show(Vec<RelPath>),
    Diff(RelPath),
    Take(RelPath, Taken),
    Done(Vec<RelPath>),
}

/// Answers on standard output.
pub fn run(args: &ConflictsArgs, environment: &Environment) -> anyhow::Result<ExitCode> {
    let (pairs, rest) = args.task.resolve_all(environment)?;
    let lines = match asked(rest, &pairs)? {
        Ask::List => list(args, &pairs)?,
        Ask::Show(paths) => show(args, &paths, &pairs)?,
        Ask::Diff(path) => {
            let (pair, conflict) = the_one(&path, Sought::Any, &pairs)?;
            diff(&path, &conflict, &pair.config)?;
            return Ok(ExitCode::SUCCESS);
        }
        Ask::Take(path, taken) => {
            let (pair, conflict) = the_one(&path, Sought::Waiting, &pairs)?;
            let line = take(&conflict, taken, &pair.config)?;
            close(&conflict, &pair.config)?;
            pair.lines(line.split('\n').map(said_of).collect())
        }
        Ask::Done(paths) => done(&paths, &pairs)?,
    };
    let mut page = Page::open(Audience::of_json(args.json));
    lines.into_iter().for_each(|line| page.line(line));
    Ok(ExitCode::SUCCESS)
}

/// A line about a conflict: what is about one stands below its first line.
fn said_of(line: impl Into<String>) -> Row {
    let line = line.into();
    Row::Text(if line.starts_with(' ') { line.into() } else { Line::head(line) })
}

fn asked(words: &[OsString], pairs: &[TaskPair]) -> Result<Ask, Refused> {
    const WHICH: &str = "take: say initiator, target or both behind the path";
    let usage = |text: &str| Refused::Usage(text.to_owned());
    let Some((word, rest)) = words.split_first() else { return Ok(Ask::List) };
    let paths = || -> Result<Vec<RelPath>, Refused> {
        rest.iter().map(|path| path_in(path, pairs)).collect()
    };
    match (word.to_str(), rest) {
        (Some("show" | "diff" | "take" | "done"), []) => {
            Err(usage(&format!("{}: name the path", word.to_string_lossy())))
        }
        (Some("show"), _) => paths().map(Ask::Show),
        (Some("done"), _) => paths().map(Ask::Done),
        (Some("diff"), [path]) => path_in(path, pairs).map(Ask::Diff),
        (Some("take"), [path, which]) => {
            let taken = match which.to_str() {
                Some("initiator") => Taken::Of(Side::Initiator),
                Some("target") => Taken::Of(Side::Target),
                Some("both") => Taken::Both,
                _ => return Err(usage(WHICH)),
            };
            Ok(Ask::Take(path_in(path, pairs)?, taken))
        }
        (Some("take"), [_]) => Err(usage(WHICH)),
        (Some("diff" | "take"), _) => {
            Err(usage(&format!("{}: one path at a time", word.to_string_lossy())))
        }
        _ => Err(usage(&format!(
            "'{}' is unknown here; it is show, diff, take or done, and a path",
            word.to_string_lossy()
        ))),
    }
}

fn list(args: &ConflictsArgs, pairs: &[TaskPair]) -> anyhow::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for pair in pairs {
        let mut found = recorded(&pair.config)?.unwrap_or_default();
        found.retain(|conflict| args.all || conflict.state.waits());
        lines.extend(pair.lines(rows(args, &found, &pair.config)));
    }
    if lines.is_empty() && !args.json {
        let none = if args.all { "there are no conflicts" } else { "no conflict is open" };
        lines.push(Line::head(none));
    }
    Ok(lines)
}

/// All conflicts that the journal of a pair knows, the newest first; `None`: it has none yet.
fn recorded(config: &Config) -> anyhow::Result<Option<Vec<RecordedConflict>>> {
    Ok(journal(config)?.map(|journal| journal.conflicts(None)).transpose()?)
}

fn rows(args: &ConflictsArgs, found: &[RecordedConflict], config: &Config) -> Vec<Row> {
    let rows = |conflict: &RecordedConflict| match args.json {
        true => vec![Row::Json(as_json(conflict, config))],
        false => told(conflict, config).into_iter().map(said_of).collect(),
    };
    found.iter().flat_map(rows).collect()
}

/// Three lines a conflict: what won and why, both versions, where the loser lies.
fn told(conflict: &RecordedConflict, config: &Config) -> Vec<String> {
    let decided = &conflict.decided;
    let (winner, loser) = (decided.winner, decided.winner.other());
    let state = match conflict.state {
        state if state.waits() => String::new(),
        other => format!(" [{}]", other.name()),
    };
    let what = format!("{}{state}: {}", decided.path.shown(), in_words(conflict));
    let when = local(conflict.began, "%Y-%m-%d %H:%M");
    let head = match conflict.matter {
        Matter::Conflict => {
            format!("{what} in run {} ({when}): {}", conflict.run, decided.reason)
        }
        Matter::Difference => format!("{what} (run {})", conflict.run),
        Matter::Damage if conflict.state.waits() => {
            format!("{what} (found {when}); no run transfers it")
        }
        Matter::Damage => format!("{what} (found {when})"),
    };
    if conflict.matter != Matter::Conflict {
        let looks = conflict.looks();
        let of = |side: Side| format!("  {:<9}  {}", side.name(), there(looks[side]));
        return vec![head, of(Side::Initiator), of(Side::Target)];
    }
    let mut lines = vec![
        head,
        format!("  {:<9}  {}", winner.name(), version(decided.won.as_ref())),
        format!("  {:<9}  {}", loser.name(), version(decided.lost.as_ref())),
    ];
    if let Some(LostAt::Beside(copy)) = &decided.lost_at {
        lines.push(format!("  the {loser}'s stands beside it: {}", copy.shown()));
    }
    if let Some(LostAt::Kept(kept)) = &decided.lost_at {
        let until = match config.policy.backup_days {
            0 => "for ever".to_owned(),
            days => {
                let end = conflict.ended.saturating_add((i64::from(days) + 1) * 86_400_000);
                format!("until {}", local(end, "%Y-%m-%d"))
            }
        };
        lines.push(match is_at_its_place(conflict, kept, config) {
            true => format!(
                "  kept {until} on the {loser}: .osync_workdir/{}/{}",
                kept.keep.name(),
                kept.place.shown()
            ),
            false => format!(
                "  kept {until} on the {loser}, under another name by now ('osync history' with the \
                 path shows it)"
            ),
        });
    }
    lines
}

/// What there is to decide, in a few words.
fn in_words(conflict: &RecordedConflict) -> String {
    let decided = &conflict.decided;
    match conflict.matter {
        Matter::Conflict => format!("the {}'s version won", decided.winner),
        Matter::Difference | Matter::Damage => decided.reason.clone(),
    }
}

fn there(look: Option<&Look>) -> String {
    look.map_or_else(|| "nothing".to_owned(), |look| version(Some(look)))
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

fn as_json(conflict: &RecordedConflict, config: &Config) -> Value {
    let decided = &conflict.decided;
    let lost_at = decided.lost_at.as_ref().filter(|at| match at {
        LostAt::Kept(kept) => is_at_its_place(conflict, kept, config),
        LostAt::Beside(_) => true,
    });
    let look = |look: Option<&Look>| {
        let look = look?;
        Some(json!({ "kind": look.kind.name(), "size": look.size, "mtime": look.mtime.secs() }))
    };
    let looks = conflict.looks();
    // nobody has won where a copy is damaged
    let decision = Some(decided).filter(|_| conflict.matter != Matter::Damage);
    json!({
        "path": decided.path.shown(),
        "run": conflict.run,
        "state": conflict.state.name(),
        "winner": decision.map(|decided| decided.winner.name()),
        "reason": decided.reason,
        "won": decision.and_then(|decided| look(decided.won.as_ref())),
        "lost": decision.and_then(|decided| look(decided.lost.as_ref())),
        "initiator": look(looks.initiator),
        "target": look(looks.target),
        "kept_in": lost_at.map(|at| match at {
            LostAt::Kept(kept) => kept.keep.name(),
            LostAt::Beside(_) => "beside",
        }),
        "kept_as": lost_at.map(|at| match at {
            LostAt::Kept(KeptPlace { place, .. }) | LostAt::Beside(place) => place.shown(),
        }),
    })
}

/// Which conflicts are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sought {
    Any,
    Waiting,
}

/// The newest conflict of a path in each pair that has one.
fn find<'p>(
    path: &RelPath,
    sought: Sought,
    pairs: &'p [TaskPair],
) -> anyhow::Result<Vec<(&'p TaskPair, RecordedConflict)>> {
    let mut found = Vec::new();
    let mut is_recorded = false;
    for pair in pairs {
        let Some(all) = recorded(&pair.config)? else { continue };
        is_recorded = true;
        let is_it = |one: &RecordedConflict| {
            (sought == Sought::Any || one.state.waits()) && one.decided.path == *path
        };
        found.extend(all.into_iter().find(is_it).map(|conflict| (pair, conflict)));
    }
    match sought {
        _ if !found.is_empty() => Ok(found),
        _ if !is_recorded => bail!("no run of this task is recorded yet"),
        Sought::Waiting => bail!("no conflict of {} is open; nothing was changed", path.shown()),
        Sought::Any => bail!("no conflict of {} is known", path.shown()),
    }
}

/// The newest conflict of a path.
///
/// # Errors
/// Several targets have one.
fn the_one<'p>(
    path: &RelPath,
    sought: Sought,
    pairs: &'p [TaskPair],
) -> anyhow::Result<(&'p TaskPair, RecordedConflict)> {
    let found = find(path, sought, pairs)?;
    let which = |(pair, conflict): &(&TaskPair, RecordedConflict)| {
        Some((pair.target.clone()?, format!(": {}", in_words(conflict))))
    };
    if found.len() > 1 {
        return Err(say_which(found.iter().filter_map(which)).into());
    }
    found.into_iter().next().context("there is no such conflict")
}

fn show(args: &ConflictsArgs, paths: &[RelPath], pairs: &[TaskPair]) -> anyhow::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for path in paths {
        for (pair, conflict) in find(path, Sought::Any, pairs)? {
            lines.extend(pair.lines(rows(args, &[conflict], &pair.config)));
        }
    }
    Ok(lines)
}

fn close(conflict: &RecordedConflict, config: &Config) -> anyhow::Result<()> {
    let (journal, _) = Journal::write(&state_dir(config)?, &config.instance_id)?;
    Ok(journal.close_conflict(conflict.id, ConflictState::Resolved)?)
}

/// The version that lost, as it is kept.
fn kept_loser(versions: &Versions<'_>, conflict: &RecordedConflict) -> Result<Held, String> {
    let path = &conflict.decided.path;
    let held = versions.of(path)?;
    let found = loser(&held, conflict).map_err(|error| format!("{}: {error}", path.shown()))?;
    Ok(found.clone())
}

/// Whether what lost a conflict lies where the journal says (see [`loser`]).
fn is_at_its_place(conflict: &RecordedConflict, kept: &KeptPlace, config: &Config) -> bool {
    let Some(lost) = &conflict.decided.lost else { return true };
    let loser = conflict.decided.winner.other();
    are_where_they_were_put(&[(kept, lost)], loser, config) == [true]
}

/// Has one version stand, or both. Says what was done.
fn take(conflict: &RecordedConflict, taken: Taken, config: &Config) -> anyhow::Result<String> {
    if conflict.state == ConflictState::Undone {
        return take_difference(conflict, taken, config);
    }
    if conflict.state == ConflictState::Damaged {
        return take_damaged(conflict, taken, config);
    }
    let decided = &conflict.decided;
    let path = &decided.path;
    let (winner, side) = (decided.winner, decided.winner.other());
    if let Some(LostAt::Beside(copy)) = &decided.lost_at {
        return take_beside(conflict, copy, taken, config);
    }
    if taken == Taken::Of(winner) {
        let line = with_versions(config, |versions| take_winner(versions, conflict));
        return line.map_err(anyhow::Error::msg);
    }
    let date = local(conflict.began, "%Y.%m.%d-%H.%M.%S");
    let line = with_versions(config, |versions| {
        if decided.lost.is_none() {
            // it lost as a deletion
            if taken == Taken::Both {
                return Err(format!("{}: it was deleted there; take one side", path.shown()));
            }
            return Ok(match versions.delete(side, path)? {
                Some(at) => format!(
                    "{}: deleted on the {side}, kept as {}; the next run carries that over",
                    path.shown(),
                    at.shown()
                ),
                None => format!("{}: it is not there any more", path.shown()),
            });
        }
        let held = kept_loser(versions, conflict)?;
        let to = match taken {
            Taken::Both => beside(path, side, &date),
            Taken::Of(_) => path.clone(),
        };
        if taken == Taken::Both && versions.now(side, std::slice::from_ref(&to))?[0].is_some() {
            return Err(format!("{} is there already; nothing was changed", to.shown()));
        }
        put_back(versions, &held, &to)
    });
    line.map_err(anyhow::Error::msg)
}

/// Makes sure that the version that won stands: that of another target of a star may have replaced it
/// since.
fn take_winner(versions: &mut Versions<'_>, conflict: &RecordedConflict) -> Result<String, String> {
    let path = &conflict.decided.path;
    let winner = conflict.decided.winner;
    if winner_stands(versions, conflict)? {
        return Ok(format!("{}: the {winner}'s version stands; closed", path.shown()));
    }
    let held = versions.of(path)?;
    match replaced_winner(&held, conflict) {
        Some(held) => put_back(versions, held, path),
        None => Err(no_longer_stands(conflict)),
    }
}

/// Whether the version that won a conflict is what its side has now.
fn winner_stands(versions: &mut Versions<'_>, conflict: &RecordedConflict) -> Result<bool, String> {
    let decided = &conflict.decided;
    let now = versions.now(decided.winner, std::slice::from_ref(&decided.path))?.pop().flatten();
    Ok(match (&decided.won, &now) {
        (Some(won), Some(now)) => won.is_of(now),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    })
}

fn no_longer_stands(conflict: &RecordedConflict) -> String {
    let Decided { path, winner, .. } = &conflict.decided;
    format!(
        "{}: the {winner} has no longer the version that won, and does not keep it; nothing was \
         changed ('osync history' with the path lists what is kept; 'osync conflicts' with done \
         closes this)",
        path.shown()
    )
}

/// Puts a version back on the side that keeps it. Says what was done.
fn put_back(versions: &mut Versions<'_>, held: &Held, to: &RelPath) -> Result<String, String> {
    let items = versions.with_all_below(held, to);
    let done = versions.put_back(held.side, &items)?;
    if let Some(why) = done.iter().find_map(|one| one.failed.as_ref()) {
        return Err(format!("{}: {why}", to.shown()));
    }
    let lines: Vec<String> = done.iter().map(|one| said(one, held.side, Effect::Done)).collect();
    Ok(lines.join("\n"))
}

/// Decides between the winner and the version that stands beside it on both sides.
fn take_beside(
    conflict: &RecordedConflict,
    copy: &RelPath,
    taken: Taken,
    config: &Config,
) -> anyhow::Result<String> {
    let path = &conflict.decided.path;
    let (winner, loser) = (conflict.decided.winner, conflict.decided.winner.other());
    let line = with_versions(config, |versions| {
        let is_there = versions.now(loser, std::slice::from_ref(copy))?.pop().flatten().is_some();
        if !is_there && taken != Taken::Of(winner) {
            return Err(format!(
                "{}: {} is not there any more; nothing was changed",
                path.shown(),
                copy.shown()
            ));
        }
        if taken != Taken::Of(loser) && !winner_stands(versions, conflict)? {
            return Err(no_longer_stands(conflict));
        }
        match taken {
            Taken::Both => {
                Ok(format!("{}: both stand, the other as {}; closed", path.shown(), copy.shown()))
            }
            Taken::Of(side) if side == winner => {
                let kept = match versions.delete(loser, copy)? {
                    Some(at) => format!("; the other is kept as {} on the {loser}", at.shown()),
                    None => String::new(),
                };
                Ok(format!("{}: the {winner}'s version stands{kept}; closed", path.shown()))
            }
            Taken::Of(side) => {
                let aside = versions.rename_over(side, copy, path)?;
                let kept = match aside {
                    Some(at) => format!("; what was there is kept as {}", at.shown()),
                    None => String::new(),
                };
                Ok(format!(
                    "{}: the {side}'s version is back{kept}; the next run carries it over",
                    path.shown()
                ))
            }
        }
    });
    line.map_err(anyhow::Error::msg)
}

/// Decides a path that differs since an undo: both versions stand, each on its own side.
fn take_difference(
    conflict: &RecordedConflict,
    taken: Taken,
    config: &Config,
) -> anyhow::Result<String> {
    let path = &conflict.decided.path;
    let moved = Side::Target;
    let to = beside(path, moved, &local(conflict.began, "%Y.%m.%d-%H.%M.%S"));
    let line = with_versions(config, |versions| {
        if let Taken::Of(side) = taken {
            let has = versions.now(side, std::slice::from_ref(path))?.pop().flatten();
            versions.end_difference(path, Taken::Of(side))?;
            let other = side.other();
            return Ok(match has {
                Some(_) => format!(
                    "{}: the {side}'s version stands; the next run carries it over",
                    path.shown()
                ),
                None => format!(
                    "{}: the {side} has none; the next run deletes it on the {other}",
                    path.shown()
                ),
            });
        }
        stand_apart(versions, path, moved, &to)
    });
    line.map_err(anyhow::Error::msg)
}

/// Gives one side's copy another name, so that the next run carries both over.
fn stand_apart(
    versions: &mut Versions<'_>,
    path: &RelPath,
    moved: Side,
    to: &RelPath,
) -> Result<String, String> {
    let paths = std::slice::from_ref(path);
    let mut now = Vec::new();
    for side in Side::BOTH {
        now.extend(versions.now(side, paths)?);
        if versions.now(side, std::slice::from_ref(to))?.iter().any(Option::is_some) {
            return Err(format!("{} is there already; nothing was changed", to.shown()));
        }
    }
    let [Some(one), Some(other)] = now.as_slice() else {
        return Err(format!("{}: only one side has it; take one side", path.shown()));
    };
    if one.kind.is_dir() || other.kind.is_dir() {
        return Err(format!("{}: it is a directory; take one side", path.shown()));
    }
    let renamed = if moved == Side::Initiator { one } else { other };
    // recorded first: a run must never take what is renamed for deleted
    versions.end_difference(path, Taken::Both)?;
    versions.rename(moved, path, to, renamed.clone())?;
    Ok(format!(
        "{}: the {moved}'s version is {} now; the next run carries both over",
        path.shown(),
        to.shown()
    ))
}

/// Settles what a scrub found damaged: one side gets the other one's copy now, or both stand.
fn take_damaged(
    conflict: &RecordedConflict,
    taken: Taken,
    config: &Config,
) -> anyhow::Result<String> {
    let path = &conflict.decided.path;
    let from = match taken {
        Taken::Of(from) => from,
        Taken::Both => {
            let moved = conflict.decided.winner.other();
            let to = beside(path, moved, &local(conflict.began, "%Y.%m.%d-%H.%M.%S"));
            let line = with_versions(config, |versions| {
                let line = stand_apart(versions, path, moved, &to)?;
                versions.accept_damage(path)?;
                Ok(line)
            });
            return line.map_err(anyhow::Error::msg);
        }
    };
    let looks = conflict.looks();
    let missing = Side::BOTH.into_iter().find(|side| looks[*side].is_none());
    if let Some(only) = missing.map(Side::other) {
        if only != from {
            bail!(
                "{}: the {from} has none; delete it on the {only}, or take that one",
                path.shown()
            );
        }
        with_versions(config, |versions| versions.accept_damage(path))
            .map_err(anyhow::Error::msg)?;
        return Ok(format!("{}: the next run carries the {from}'s copy over", path.shown()));
    }
    let mut quiet = config.clone();
    (quiet.flags.errors_only, quiet.flags.no_prefix) = (true, true);
    let settlement = Settlement { path, from };
    let outcome = run_once(&quiet, Instant::now(), Intent::Settle(settlement));
    if !outcome.complete || outcome.status == ERROR {
        bail!("{}: it was not settled", path.shown());
    }
    let to = from.other();
    Ok(format!("{}: the {to} has the {from}'s copy now; what it had is kept", path.shown()))
}

/// Shows what is different between the version that lost and the one that won, as it is now. Where
/// each side has its own (since an undo, or because one is damaged), these two are compared.
fn diff(path: &RelPath, conflict: &RecordedConflict, config: &Config) -> anyhow::Result<()> {
    if conflict.decided.lost.is_none() || conflict.decided.won.is_none() {
        bail!("{}: one side had deleted it", path.shown());
    }
    let root = local_root(config, Side::Initiator)?;
    let now = root.join(path.as_path());
    if conflict.matter != Matter::Conflict {
        return show_difference(&now, &local_root(config, Side::Target)?.join(path.as_path()));
    }
    let place = tempfile::tempdir().context("cannot make a directory")?;
    let lost = match &conflict.decided.lost_at {
        Some(LostAt::Beside(copy)) => Ok(root.join(copy.as_path())),
        Some(LostAt::Kept(_)) | None => with_looked(config, |versions| {
            let held = kept_loser(versions, conflict)?;
            let items = versions.with_all_below(&held, path);
            versions.copy_to(&place.path().join("lost"), path, &items)
        }),
    };
    show_difference(&lost.map_err(anyhow::Error::msg)?, &now)
}

/// The root of a side of this machine: only what is here is compared.
fn local_root(config: &Config, side: Side) -> anyhow::Result<&Path> {
    match &config.replicas[side] {
        Location::Local(root) => Ok(root),
        Location::Ssh(_) => bail!("the {side} is another machine; compare the two by hand"),
    }
}

/// Runs `diff -u`, or what DIFF names.
fn show_difference(one: &Path, other: &Path) -> anyhow::Result<()> {
    let words = std::env::var("DIFF").ok().filter(|text| !text.trim().is_empty());
    let words = shell_words::split(words.as_deref().unwrap_or("diff -u")).context("DIFF")?;
    let Some((program, args)) = words.split_first() else { return Ok(()) };
    let status = std::process::Command::new(program)
        .args(args)
        .arg(one)
        .arg(other)
        .status()
        .with_context(|| format!("cannot run {program}"))?;
    match status.code() {
        Some(0 | 1) => Ok(()),
        _ => bail!("{program} could not compare them"),
    }
}

/// Closes conflicts, whichever target has them.
fn done(paths: &[RelPath], pairs: &[TaskPair]) -> anyhow::Result<Vec<Line>> {
    let mut open = Vec::new();
    for pair in pairs {
        let all = recorded(&pair.config)?;
        let is_meant = |one: &RecordedConflict| {
            one.state == ConflictState::Open && paths.contains(&one.decided.path)
        };
        open.extend(all.into_iter().flatten().filter(is_meant).map(|one| (pair, one)));
    }
    let is_open = |path: &RelPath| open.iter().any(|(_, one)| one.decided.path == *path);
    if let Some(path) = paths.iter().find(|path| !is_open(path)) {
        bail!("no conflict of {} is open; nothing was closed", path.shown());
    }
    let mut lines = Vec::new();
    for (pair, conflict) in &open {
        close(conflict, &pair.config)?;
        lines.extend(
            pair.lines(vec![said_of(format!("closed: {}", conflict.decided.path.shown()))]),
        );
    }
    Ok(lines)
}

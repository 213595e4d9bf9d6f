//! `osync restore`: brings back what a run replaced or deleted (spec 9, "Commands").

use super::history::{iso, local, moment};
use super::kept::{with_looked, with_versions};
use super::pager::{Audience, Page};
use super::task_args::{Refused, Row, TaskArgs, TaskPair, path_in, say_which};
use super::{ERROR, Effect, complain};
use crate::config::Environment;
use crate::reconcile::versions::{Choice, Held, NoVersion};
use crate::report::words;
use crate::task::versions::{PutBack, Restored, ToPutBack, Versions, place_of_copy};
use crate::tree::{RelPath, Side};
use anyhow::bail;
use chrono::Local;
use clap::{Args, ValueEnum, ValueHint};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  osync restore docs.conf letters/bank.odt              the newest sound version
  osync restore docs.conf letters/bank.odt --version 3  of 'osync history'
  osync restore docs.conf letters --at yesterday        as it was then
  osync restore docs.conf letters --before-run 12       before that run
  osync restore docs.conf letters/bank.odt --to /tmp    a copy, to look at

What is there now is kept in .osync_workdir/backup first. The next run carries what came back \
over to the other side.

Exit status: 0, or 1 if something was not restored.";

/// A side, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum OfSide {
    Initiator,
    Target,
}

impl From<OfSide> for Side {
    fn from(side: OfSide) -> Side {
        match side {
            OfSide::Initiator => Side::Initiator,
            OfSide::Target => Side::Target,
        }
    }
}

/// `osync restore`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RestoreArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub task: TaskArgs,
    /// The version with this number: 1 is the newest, over both sides
    #[arg(long, value_name = "N", conflicts_with_all = ["at", "before_run"])]
    pub version: Option<u64>,
    /// What was there then: yesterday, '3 days ago', '2026-11-20 14:00'
    #[arg(long, value_name = "TIME", conflicts_with = "before_run")]
    pub at: Option<String>,
    /// What was there before this run
    #[arg(long, value_name = "N")]
    pub before_run: Option<i64>,
    /// Copy it to this directory instead, under its own name
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub to: Option<OsString>,
    /// Which side gets it
    #[arg(long, value_enum, default_value = "initiator")]
    pub side: OfSide,
    /// Show what would be done, and change nothing
    #[arg(long)]
    pub dry: bool,
    /// Print JSON lines, for other programs
    #[arg(long)]
    pub json: bool,
}

/// Restores, and says what it did on standard output.
pub fn run(args: &RestoreArgs, environment: &Environment) -> anyhow::Result<ExitCode> {
    let (mut pairs, rest) = args.task.resolve_all(environment)?;
    if rest.is_empty() {
        return Err(Refused::Usage("name what to restore".to_owned()).into());
    }
    let paths = rest.iter().map(|word| path_in(word, &pairs)).collect::<Result<Vec<_>, _>>()?;
    let at = args.at.as_deref().map(|text| moment(text, Local::now())).transpose()?;
    pairs.iter_mut().for_each(|pair| pair.config.flags.dry |= args.dry);
    let asked = match (args.version, at, args.before_run) {
        (Some(number), ..) => Asked::Number(number),
        (_, Some(at), _) => Asked::At(at.div_euclid(1000)),
        (_, _, Some(run)) => Asked::BeforeRun(run),
        _ => Asked::Newest,
    };
    let mut said = Vec::new();
    let mut failed = Vec::new();
    for (pair, paths) in shared_out(&pairs, paths, asked, args)? {
        let effect = Effect::of(&pair.config);
        let work = |versions: &mut Versions<'_>| restore(versions, &paths, asked, effect, args);
        let lines = with_versions(&pair.config, work).map_err(anyhow::Error::msg)?;
        said.extend(pair.lines(lines.said));
        failed.extend(lines.failed);
    }
    let mut page = Page::open(Audience::of_json(args.json));
    said.into_iter().for_each(|line| page.line(line));
    drop(page);
    failed.iter().for_each(|line| complain(line));
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(ERROR) })
}

/// Which pair restores which paths: of several, the one that keeps the newest version, of the
/// first of them if they were kept at the same time.
fn shared_out<'p>(
    pairs: &'p [TaskPair],
    paths: Vec<RelPath>,
    asked: Asked,
    args: &RestoreArgs,
) -> anyhow::Result<Vec<(&'p TaskPair, Vec<RelPath>)>> {
    if let [pair] = pairs {
        return Ok(vec![(pair, paths)]);
    }
    let targets = || pairs.iter().filter_map(|pair| pair.target.clone());
    if !matches!(asked, Asked::Newest) || Side::from(args.side) == Side::Target {
        // numbers of versions and runs are those of one pair
        return Err(say_which(targets().map(|target| (target, String::new()))).into());
    }
    let sought = |path| Sought { path, newest: None, missing: None };
    let mut sought: Vec<Sought<'_>> = paths.into_iter().map(sought).collect();
    for pair in pairs {
        let looked = with_looked(&pair.config, |versions| {
            sought.iter_mut().for_each(|one| one.look(versions, pair));
            Ok(())
        });
        looked.map_err(anyhow::Error::msg)?;
    }
    let mut shared: Vec<(&TaskPair, Vec<RelPath>)> = Vec::new();
    for Sought { path, newest, missing } in sought {
        let Some((_, keeper)) = newest else { bail!(missing.unwrap_or_default()) };
        match shared.iter_mut().find(|(pair, _)| std::ptr::eq(*pair, keeper)) {
            Some((_, paths)) => paths.push(path),
            None => shared.push((keeper, vec![path])),
        }
    }
    Ok(shared)
}

/// A path of which several pairs may keep versions.
struct Sought<'p> {
    path: RelPath,
    /// When the newest version came, in seconds since the epoch, and which pair keeps it.
    newest: Option<(i64, &'p TaskPair)>,
    /// Why a pair has none.
    missing: Option<String>,
}

impl<'p> Sought<'p> {
    fn look(&mut self, versions: &Versions<'_>, pair: &'p TaskPair) {
        match versions.choose(&self.path, Choice::Newest, Side::Initiator) {
            Ok(chosen) => {
                let came = chosen.items.iter().map(|item| item.held.came()).max();
                let is_newer = |came: &i64| self.newest.is_none_or(|(other, _)| *came > other);
                let found = came.filter(is_newer).map(|came| (came, pair));
                self.newest = found.or(self.newest);
            }
            Err(why) => self.missing = Some(why),
        }
    }
}

/// What is asked for, before the journal has been looked at.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Newest,
    Number(u64),
    At(i64),
    BeforeRun(i64),
}

#[derive(Default)]
struct Lines {
    said: Vec<Row>,
    failed: Vec<String>,
}

fn restore(
    versions: &mut Versions<'_>,
    paths: &[RelPath],
    asked: Asked,
    effect: Effect,
    args: &RestoreArgs,
) -> Result<Lines, String> {
    let side = Side::from(args.side);
    let choice = match asked {
        Asked::Newest => Choice::Newest,
        Asked::Number(number) => Choice::Number(number),
        Asked::At(at) => {
            versions.knows_of(at)?;
            Choice::At(at)
        }
        Asked::BeforeRun(number) => Choice::BeforeRun { number, began: versions.began(number)? },
    };
    // all of it is chosen before anything is done
    let mut lines = Lines::default();
    let mut chosen: Vec<(RelPath, Vec<PutBack>)> = Vec::new();
    for path in paths {
        let ToPutBack { items, damaged } = versions.choose(path, choice, side)?;
        chosen.push((path.clone(), items));
        let left =
            |path: &RelPath| format!("{}: not restored: {}", path.shown(), NoVersion::OnlyDamaged);
        lines.failed.extend(damaged.iter().map(left));
    }
    if let Some(dir) = &args.to {
        for (path, items) in &chosen {
            let dir = Path::new(dir);
            let to = match effect {
                Effect::Planned => place_of_copy(dir, path)?,
                Effect::Done => versions.copy_to(dir, path, items)?,
            };
            lines.said.push(match args.json {
                true => Row::Json(json!({
                    "path": path.shown(), "copied_to": to.to_string_lossy(), "dry": effect.is_planned(),
                })),
                false => {
                    let verb = if effect.is_planned() { "would be copied" } else { "copied" };
                    format!("{}: {verb} to {}", path.shown(), to.display()).into()
                }
            });
        }
        return Ok(lines);
    }
    let items: Vec<PutBack> = chosen.into_iter().flat_map(|(_, items)| items).collect();
    for restored in versions.put_back(side, &items)? {
        match &restored.failed {
            Some(why) => lines.failed.push(format!("{}: not restored: {why}", restored.to.shown())),
            None if args.json => lines.said.push(Row::Json(as_json(&restored, side, effect))),
            None => lines.said.push(said(&restored, side, effect).into()),
        }
    }
    if lines.said.is_empty() && lines.failed.is_empty() && !args.json {
        lines.said.push("nothing to restore: all of it is there".to_owned().into());
    }
    Ok(lines)
}

/// One line about something that is back.
pub(super) fn said(restored: &Restored, side: Side, effect: Effect) -> String {
    let Held { side: from, kept, at, is_damaged, .. } = &restored.held;
    let (verb, verb_aside) = match effect {
        Effect::Planned => ("would be restored", "would be kept"),
        Effect::Done => ("restored", "is kept"),
    };
    let mut line = restored.to.shown();
    if restored.below > 0 {
        line.push_str(&format!(" and {} below", words::counted(restored.below, "entry")));
    }
    line.push_str(&format!(
        ": {verb} on the {side} from the {from}'s {}/{}",
        kept.keep.name(),
        kept.place.shown()
    ));
    if let Some(at) = at {
        line.push_str(&format!(" (kept since {})", local(at * 1000, "%Y-%m-%d %H:%M:%S")));
    }
    if *is_damaged {
        line.push_str("; it is a damaged version");
    }
    if let Some(aside) = &restored.aside {
        line.push_str(&format!("; what was there {verb_aside} as {}", aside.shown()));
    }
    line
}

fn as_json(restored: &Restored, side: Side, effect: Effect) -> Value {
    let Held { side: from, kept, run, at, is_damaged } = &restored.held;
    json!({
        "path": restored.to.shown(),
        "side": side.name(),
        "below": restored.below,
        "from": from.name(),
        "kept_in": kept.keep.name(),
        "kept_as": kept.place.shown(),
        "kept_at": at.and_then(|at| iso(at * 1000)),
        "run": run,
        "damaged": is_damaged,
        "aside": restored.aside.as_ref().map(RelPath::shown),
        "dry": effect.is_planned(),
    })
}

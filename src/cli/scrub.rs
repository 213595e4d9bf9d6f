//! `osync scrub`: finds and heals files that are damaged on the disk (spec 9, "Scrub").

use super::pager::{Audience, Page};
use super::sync::run_labelled;
use super::task_args::{Refused, Row, TaskArgs};
use super::{ERROR, complain};
use crate::config::{Config, Environment};
use crate::process;
use crate::reconcile::scrub::Percent;
use crate::report::run_report::scrub_json;
use crate::task::closing::RunOutcome;
use crate::task::intent::Intent;
use crate::task::scrub::{Cure, ScrubRequest};
use clap::{Arg, ArgAction, Args};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const EXAMPLES: &str = "\
Examples:
  osync scrub docs.conf                reads everything, names what is damaged
  osync scrub docs.conf --percent 4    every night: all of it in a month
  osync scrub docs.conf --time 3600    as much as an hour allows
  osync scrub docs.conf --heal         replaces damaged files by sound copies

It goes on where the last one stopped. No run transfers a damaged file until it
is healed, edited, or settled by 'osync conflicts docs.conf take'.

Exit status: 0 no damage, 1 damage or errors, 2 all healed, or warnings.";

/// `osync scrub`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, mut_arg("words", only_the_file))]
#[allow(clippy::struct_excessive_bools)] // one switch a flag
pub struct ScrubArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub task: TaskArgs,
    /// Read this part of all bytes: what was not read for the longest time
    #[arg(long, value_name = "N", conflicts_with = "time",
          value_parser = clap::value_parser!(u8).range(1..=100))]
    pub percent: Option<u8>,
    /// Begin nothing more after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub time: Option<u64>,
    /// Replace damaged files by the other side's sound copies
    #[arg(long)]
    pub heal: bool,
    /// Read at most so many KiB a second on each side
    #[arg(long, value_name = "KIB", value_parser = clap::value_parser!(u64).range(1..))]
    pub bwlimit: Option<u64>,
    /// Read and tell, but write nothing down and change nothing
    #[arg(long)]
    pub dry: bool,
    /// Nothing on the screen; the log file gets everything
    #[arg(long)]
    pub silent: bool,
    /// Of the messages, only warnings and errors
    #[arg(long)]
    pub errors_only: bool,
    /// More about what it does, and every rsync call
    #[arg(long)]
    pub verbose: bool,
    /// Print a line of JSON for each task or target, for other programs
    #[arg(long)]
    pub json: bool,
}

/// A scrub is about a whole task: no paths follow its file.
fn only_the_file(words: Arg) -> Arg {
    let help = "The file of the task (not with --initiator)";
    words.value_name("CONFIG_FILE").help(help).action(ArgAction::Set).num_args(1)
}

/// Scrubs a task, or each target of a star.
pub fn run(args: &ScrubArgs, environment: &Environment) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let (pairs, rest) = args.task.resolve_all(environment)?;
    if !rest.is_empty() {
        return Err(Refused::Usage("a scrub is about a whole task".to_owned()).into());
    }
    if let Err(error) = process::lower_priority() {
        complain(&format!("cannot lower the priority of this process: {error}"));
    }
    let mut worst = 0;
    let mut page = Page::open(Audience::of_json(args.json));
    for mut pair in pairs {
        let config = &mut pair.config;
        config.flags.dry |= args.dry;
        config.flags.no_prefix = true;
        config.flags.silent |= args.silent;
        config.flags.errors_only |= args.errors_only || args.json;
        config.flags.verbose |= args.verbose;
        let target = pair.target.as_ref().map_or("", |target| &target.name);
        let outcome = run_labelled(config, target, started, Intent::Scrub(args.request()));
        if args.json {
            let row = Row::Json(as_json(config, &outcome));
            pair.lines(vec![row]).into_iter().for_each(|line| page.line(line));
        }
        worst = worse(worst, outcome.status);
    }
    Ok(ExitCode::from(worst))
}

/// Of two exit statuses the one that needs a person more.
fn worse(one: u8, other: u8) -> u8 {
    if one == ERROR || other == ERROR { ERROR } else { one.max(other) }
}

impl ScrubArgs {
    fn request(&self) -> ScrubRequest {
        ScrubRequest {
            share: self.percent.and_then(Percent::new).unwrap_or(Percent::ALL),
            time: self.time.map(Duration::from_secs),
            cure: if self.heal { Cure::Heal } else { Cure::NameOnly },
            rate: self.bwlimit.map(|kib| kib.saturating_mul(1024)),
        }
    }
}

fn as_json(config: &Config, outcome: &RunOutcome) -> Value {
    let mut value = outcome.scrub.as_ref().map_or_else(|| json!({}), scrub_json);
    value["task"] = json!(config.instance_id);
    value["status"] = json!(outcome.status);
    value["complete"] = json!(outcome.complete);
    value["dry"] = json!(config.flags.dry);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_worse_than_a_warning_whatever_their_numbers() {
        for (one, other, expected) in [(0, 0, 0), (0, 2, 2), (2, 1, 1), (1, 2, 1), (1, 0, 1)] {
            assert_eq!(worse(one, other), expected);
        }
    }
}

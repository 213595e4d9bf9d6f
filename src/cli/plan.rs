//! `osync plan` and `osync apply`: a plan that is looked at first and carried out later, exactly
//! (spec 9, "Commands").

use super::sync::{run_once, run_star};
use super::task_args::{Refused, TaskArgs};
use crate::config::{Config, Environment};
use crate::reconcile::saved_plan::{SavedPlan, encode_several, word_to_text};
use crate::report::write_whole;
use crate::task::intent::{Intent, KeptPlan, StarIntent, Work};
use crate::tree::from_hex;
use crate::tree::path::escape;
use anyhow::Context;
use clap::{Args, Parser, ValueHint};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

const PLAN_EXAMPLES: &str = "\
Examples:
  osync plan /etc/osync/docs.conf                what the next run would do
  osync plan /etc/osync/docs.conf -o tonight     the same, kept in a file
  osync apply tonight                            does just that

Exit status: 0 nothing to do, 3 there is work, 4 there is work and a conflict in it, \
1 errors, 2 warnings, 128 bad usage.";

/// `osync plan`.
#[derive(Debug, Args)]
#[command(after_help = PLAN_EXAMPLES)]
pub struct PlanArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub task: TaskArgs,
    /// Keep the plan in a file, for 'osync apply'
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<OsString>,
    /// Every kind of change, every path
    #[arg(long)]
    pub verbose: bool,
}

const APPLY_EXAMPLES: &str = "\
Examples:
  osync plan docs.conf -o tonight    keeps a plan
  osync apply tonight --dry          what would be done of it now
  osync apply tonight                does it

What has changed, appeared or gone since the plan was made is named and left for the next run; \
then the exit status is 2. A plan of another task, or from before another run, is refused.

Exit status: 0 all of it was done, 1 errors, 2 something was left, 128 bad usage.";

/// `osync apply`.
#[derive(Debug, Args)]
#[command(after_help = APPLY_EXAMPLES)]
pub struct ApplyArgs {
    /// A file that 'osync plan -o' wrote
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: OsString,
    /// Let the plan pass the guards against mass deletion
    #[arg(long)]
    pub force_delete: bool,
    /// Show what would be done, and change nothing
    #[arg(long)]
    pub dry: bool,
}

/// There is work.
const WORK: u8 = 3;
/// There is work, and a conflict in it.
const CONFLICT: u8 = 4;

/// Shows what the next run would do.
pub fn plan(args: &PlanArgs, environment: &Environment) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let (mut config, rest) = args.task.resolve_whole(environment)?;
    if let Some(word) = rest.first() {
        return Err(Refused::Usage(format!(
            "'{}' is one argument too many",
            escape(word.as_bytes())
        ))
        .into());
    }
    config.flags.dry = true;
    config.flags.verbose |= args.verbose;
    let task = words(&args.task)?;
    let kept = if args.output.is_some() { KeptPlan::For(&task) } else { KeptPlan::No };
    let outcome = if config.is_star() {
        run_star(&config, started, StarIntent::Plan(kept))
    } else {
        run_once(&config, started, Intent::Plan(kept))
    };
    if let Some(file) = args.output.as_deref().map(Path::new) {
        let bytes = match &outcome.plans[..] {
            [] => None,
            [one] if !config.is_star() => Some(one.clone()),
            several => Some(encode_several(several)),
        };
        if let Some(bytes) = bytes {
            write_whole(file, &bytes)
                .with_context(|| format!("cannot write the plan {}", file.display()))?;
        }
    }
    Ok(match (outcome.status, outcome.work) {
        (0, Some(Work::Some)) => ExitCode::from(WORK),
        (0, Some(Work::WithConflict)) => ExitCode::from(CONFLICT),
        (status, _) => ExitCode::from(status),
    })
}

/// The words that name the task, with absolute paths: `apply` may run elsewhere.
fn words(task: &TaskArgs) -> anyhow::Result<Vec<String>> {
    let absolute = |word: &OsStr| {
        std::path::absolute(word)
            .map(std::path::PathBuf::into_os_string)
            .with_context(|| escape(word.as_bytes()))
    };
    let mut words: Vec<OsString> = Vec::new();
    let flags = [
        ("--initiator", &task.initiator),
        ("--target", &task.target),
        ("--instance-id", &task.instance_id),
        ("--initiator-state-dir", &task.initiator_state_dir),
        ("--rsakey", &task.rsakey),
        ("--only", &task.only),
    ];
    for (flag, value) in flags {
        let Some(value) = value else { continue };
        let is_name =
            matches!(flag, "--instance-id" | "--only") || value.as_bytes().starts_with(b"ssh://");
        words.push(flag.into());
        words.push(if is_name { value.clone() } else { absolute(value)? });
    }
    if let (Some(file), None) = (task.words.first(), &task.initiator) {
        words.push("--".into());
        words.push(absolute(file)?);
    }
    Ok(words.iter().map(|word| word_to_text(word.as_bytes())).collect())
}

/// The words of a plan, as they were typed.
#[derive(Debug, Parser)]
struct Named {
    #[command(flatten)]
    task: TaskArgs,
}

/// Carries a saved plan out.
pub fn apply(args: &ApplyArgs, environment: &Environment) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let name = || escape(args.file.as_bytes());
    let bytes = std::fs::read(&args.file).with_context(|| format!("cannot read {}", name()))?;
    let decoded = SavedPlan::decode(&bytes).map_err(anyhow::Error::msg);
    let plans = decoded.with_context(name)?;
    let (plan, origin) = plans.first().with_context(|| format!("{}: it holds no plan", name()))?;
    let mut config = task_of(&origin.task, environment)?;
    config.flags.dry = args.dry;
    config.policy.force_delete |= args.force_delete;
    let outcome = if config.is_star() {
        run_star(&config, started, StarIntent::Apply(&plans))
    } else if plans.len() > 1 {
        anyhow::bail!("{}: the plan is of several targets, and the task has only one", name());
    } else {
        run_once(&config, started, Intent::Apply { plan, origin })
    };
    Ok(ExitCode::from(outcome.status))
}

fn task_of(words: &[String], environment: &Environment) -> anyhow::Result<Config> {
    let words: Option<Vec<OsString>> =
        words.iter().map(|word| from_hex(word).map(OsString::from_vec)).collect();
    let words = std::iter::once(OsString::from("osync")).chain(words.unwrap_or_default());
    // clap's own words are about a command line that nobody typed
    let named = Named::try_parse_from(words).ok();
    let named = named.context("the plan does not say which task it is for")?;
    Ok(named.task.resolve_whole(environment)?.0)
}

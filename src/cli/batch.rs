//! `osync batch`: from the command line to the room that does it.

use super::{settings, status};
use crate::batch::{self, BatchContext, Footprint, Options};
use crate::config::{Environment, Flags, Location, Output, Surroundings as _, ThisMachine};
use crate::process::SignalWatch;
use crate::process::{Stop, own_program};
use crate::report::Log;
use crate::task::closing::tell_given_up;
use anyhow::Context;
use clap::{Args, ValueHint};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const EXAMPLES: &str = "\
Examples:
  osync batch                                 all tasks of /etc/osync
  osync batch --path=tasks --parallel=4       others, four at once
  osync batch --max-runs=5 --retry-delay=300  try longer
  osync batch --dry --summary                 what each of them would do

All other options are passed on to every task.

Exit status: 0, 1 if a task has not succeeded in the end, 2 if there were only warnings, it was \
stopped, or there is no task.";

/// `osync batch` (spec 7).
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct BatchArgs {
    /// A directory of tasks, or one file [default: /etc/osync]
    #[arg(long, value_name = "DIR|FILE", value_hint = ValueHint::AnyPath)]
    pub path: Option<OsString>,
    /// How often a task that fails is run [default: 3]
    #[arg(long, visible_alias = "max-retries", value_name = "N")]
    pub max_runs: Option<u32>,
    /// Seconds after which nothing is started any more, 0 for ever [default: 3600]
    #[arg(long, value_name = "S")]
    pub max_exec_time: Option<u64>,
    /// Seconds after which a task that failed runs again [default: 30]
    #[arg(long, value_name = "S")]
    pub retry_delay: Option<u64>,
    /// How many tasks with different replicas may run at once [default: 1]
    #[arg(long, value_name = "N")]
    pub parallel: Option<usize>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub passed_on: Flags,
}

/// Flags of the batch itself; all others go on to its tasks.
const OWN: &[&str] = &[
    "--path",
    "--max-runs",
    "--max-retries",
    "--max-exec-time",
    "--parallel",
    "--retry-delay",
    "--report",
];

/// Runs the batch; `args` is the whole command line.
pub fn run(
    batch: &BatchArgs,
    args: &[OsString],
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let flags = &batch.passed_on;
    let usual = Options::default();
    let options = Options {
        path: batch.path.as_ref().map_or(usual.path, PathBuf::from),
        max_runs: batch.max_runs.unwrap_or(usual.max_runs),
        max_exec_time: batch.max_exec_time.unwrap_or(usual.max_exec_time),
        parallel: batch.parallel.unwrap_or(usual.parallel),
        retry_delay: batch.retry_delay.map_or(usual.retry_delay, Duration::from_secs),
        report: batch.passed_on.report.as_ref().map(PathBuf::from),
        passed_on: passed_on(args),
    };
    let home = environment.filled("HOME").map(PathBuf::from);
    let wanted = environment.filled("LOGFILE").map(PathBuf::from);
    let place = batch::log_place(wanted, home);
    let log = Log::open(&own_flags(&batch.passed_on), &output(environment), &place, start);
    let stop = Stop::new();
    let watch = SignalWatch::stopping(&stop).context("cannot listen to signals")?;
    let footprint = |file: &Path| footprint(file, flags, environment);
    let gathered =
        |file: &Path| settings::gather(Some(file.as_os_str()), flags, environment).config;
    let is_same_task = |one: &Path, other: &Path| match (gathered(one), gathered(other)) {
        (Some(one), Some(other)) => one.instance_id == other.instance_id,
        _ => false,
    };
    let alert = |file: &Path, lines: &[String], report: Option<&Value>| {
        if let Some(config) = gathered(file) {
            tell_given_up(&config, lines, report, &log);
        }
    };
    let around = BatchContext {
        program: &own_program,
        footprint: &footprint,
        is_same_task: &is_same_task,
        alert: &alert,
        stop: &stop,
        reporter: &log,
    };
    let number = batch::run(&options, &around);
    drop(watch);
    Ok(status(number))
}

/// The arguments behind `batch` without those of the batch itself. The command line has
/// been parsed already, so that every flag is known and has its value.
fn passed_on(args: &[OsString]) -> Vec<OsString> {
    let behind = args.iter().skip_while(|arg| *arg != "batch").skip(1);
    let mut kept = Vec::new();
    let mut is_value = false;
    for arg in behind {
        if std::mem::take(&mut is_value) {
            continue;
        }
        let bytes = arg.as_bytes();
        let equals = bytes.iter().position(|b| *b == b'=');
        let name = OsStr::from_bytes(&bytes[..equals.unwrap_or(bytes.len())]);
        if OWN.iter().any(|own| name == *own) {
            is_value = equals.is_none();
        } else {
            kept.push(arg.clone());
        }
    }
    kept.push("--dated-prefix".into());
    kept
}

/// Where a task works; local directories with their links resolved.
fn footprint(file: &Path, flags: &Flags, environment: &Environment) -> Footprint {
    let Some(config) = settings::gather(Some(file.as_os_str()), flags, environment).config else {
        return Footprint::unknown();
    };
    let resolved = config.places().map(|location| match location {
        Location::Local(path) => Location::Local(ThisMachine.real_path(path)),
        Location::Ssh(ssh) => Location::Ssh(ssh.clone()),
    });
    Footprint::new(&config.instance_id, resolved)
}

/// The batch has no display of its own, and leaves summaries to its tasks.
fn own_flags(flags: &Flags) -> Flags {
    Flags { non_interactive: true, ..flags.clone() }
}

fn output(environment: &Environment) -> Output {
    Output {
        log_file: None,
        log_conflicts: false,
        debug: environment.says_yes("_DEBUG"),
        color: environment.filled("NO_COLOR").is_none(),
        dated_prefix: true,
        report_file: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_flags_but_those_of_the_batch_are_passed_on() {
        for (typed, expected) in [
            ("osync batch", "--dated-prefix"),
            ("osync batch --path=/x --dry", "--dry --dated-prefix"),
            ("osync batch --path /x --dry", "--dry --dated-prefix"),
            ("osync batch --max-retries 3 --summary", "--summary --dated-prefix"),
            ("osync batch --pathx --parallel=2 --report f", "--pathx --dated-prefix"),
        ] {
            let words = |text: &str| -> Vec<OsString> {
                text.split_whitespace().map(OsString::from).collect()
            };
            assert_eq!(passed_on(&words(typed)), words(expected), "{typed}");
        }
    }
}

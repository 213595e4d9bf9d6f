//! `osync`, `osync sync`: one run, or monitor mode.

use super::task_args::Refused;
use super::{ERROR, USAGE, settings, status, usage};
use crate::config::{Config, Environment, Flags, Problem, Watch, WhenLocked};
use crate::monitor::RunResult;
use crate::process::{Interrupt, SignalWatch, Stop, StopReason};
use crate::report::{Level, Log, Reporter, Who};
use crate::task::closing::RunOutcome;
use crate::task::intent::{Intent, StarIntent};
use crate::task::{self, RunContext};
use crate::tree::path::escape;
use clap::{Args, ValueHint};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One run, or monitor mode.
#[derive(Debug, Clone, Default, Args)]
pub struct SyncArgs {
    /// The task: a file that ends in .conf or .toml
    #[arg(value_name = "CONFIG_FILE", value_hint = ValueHint::FilePath)]
    pub config_file: Option<OsString>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub run: Flags,
}

/// One run, or monitor mode.
pub(super) fn run(args: &SyncArgs, environment: &Environment) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    complete(args, environment)?;
    let flags = &args.run;
    let resolution = settings::gather(args.config_file.as_deref(), flags, environment);
    match resolution.config {
        Some(config) => {
            let warnings: Vec<String> =
                resolution.warnings.iter().map(Problem::to_string).collect();
            let settings = if config.flags.verbose {
                settings::not_default(&resolution.settings)
            } else {
                Vec::new()
            };
            Ok(run_task(&config, &warnings, &settings, started))
        }
        None => {
            settings::tell(&resolution, flags, environment, started);
            Ok(ExitCode::from(if resolution.is_bad_usage() { USAGE } else { ERROR }))
        }
    }
}

/// Runs a resolved task, once or, in monitor mode, again and again. `warnings` are about
/// the configuration; they are logged and make the exit status 2 at best. `settings` are the
/// lines about what is not at its default.
fn run_task(
    config: &Config,
    warnings: &[String],
    settings: &[String],
    started: Instant,
) -> ExitCode {
    let log = Arc::new(Log::for_task(config, started));
    let stop = Stop::new();
    let interrupt =
        if config.flags.watch() == Watch::Off { Interrupt::Twice } else { Interrupt::Once };
    let _signals = listen(&log, &stop, interrupt);
    let once = |started, stop: &Stop| {
        open_log(config, &log);
        for line in settings {
            log.say(Level::Verbose, line);
        }
        for warning in warnings {
            log.problem(Level::Warn, None, None, warning);
        }
        task::run(config, RunContext { log: &log, stop, started })
    };
    match config.flags.watch() {
        Watch::Off => ExitCode::from(once(started, &stop).status),
        Watch::Initiator => {
            monitor(config, &log, &stop, &once);
            ExitCode::SUCCESS
        }
        Watch::Target => status(crate::monitor::target_helper::help(config, &stop, log.as_ref())),
    }
}

/// A run of a command that is about one task.
pub(super) fn run_once(config: &Config, started: Instant, intent: Intent<'_>) -> RunOutcome {
    run_labelled(config, "", started, intent)
}

/// A run about one of several targets: each line names it. `target` is empty if it is the only one.
pub(super) fn run_labelled(
    config: &Config,
    target: &str,
    started: Instant,
    intent: Intent<'_>,
) -> RunOutcome {
    let log = Arc::new(Log::for_task(config, started));
    log.set_label(target);
    run_logged(config, &log, started, intent)
}

/// The same with a log of the caller's.
pub(super) fn run_logged(
    config: &Config,
    log: &Arc<Log>,
    started: Instant,
    intent: Intent<'_>,
) -> RunOutcome {
    run_with(config, log, started, |around| task::run_as(config, around, intent))
}

/// A run of a command that is about all targets of a star.
pub(super) fn run_star(config: &Config, started: Instant, intent: StarIntent<'_>) -> RunOutcome {
    let log = Arc::new(Log::for_task(config, started));
    run_with(config, &log, started, |around| task::run_star(config, around, intent))
}

fn run_with(
    config: &Config,
    log: &Arc<Log>,
    started: Instant,
    run: impl FnOnce(RunContext<'_>) -> RunOutcome,
) -> RunOutcome {
    let stop = Stop::new();
    let _signals = listen(log, &stop, Interrupt::Twice);
    open_log(config, log);
    run(RunContext { log, stop: &stop, started })
}

/// The first lines of a run. One that may find its replicas locked, and then leaves no trace, holds
/// them back.
fn open_log(config: &Config, log: &Log) {
    if config.locking.when_locked == WhenLocked::Skip {
        log.hold();
    }
    Who::here().open_run(log, &config.instance_id);
}

/// The first Ctrl-C is answered with a warning (but in monitor mode), the second, or
/// another signal that asks for the end, stops the run (spec 7).
pub(super) fn listen(log: &Arc<Log>, stop: &Stop, interrupt: Interrupt) -> Option<SignalWatch> {
    let for_handler = Arc::clone(log);
    let on_first = move || {
        for_handler.say(
            Level::Warn,
            "interrupted: the run goes on; a second Ctrl-C stops it (the next run goes on from there)",
        );
    };
    match SignalWatch::install(stop, interrupt, on_first) {
        Ok(watch) => Some(watch),
        Err(error) => {
            let text = format!("cannot listen to signals: {error}");
            log.problem(Level::Warn, None, None, &text);
            None
        }
    }
}

/// Refuses a command line that names no task.
pub(super) fn complete(args: &SyncArgs, environment: &Environment) -> Result<(), Refused> {
    if let Some(file) = &args.config_file {
        let is_named_right =
            matches!(Path::new(file).extension(), Some(e) if e == "conf" || e == "toml");
        let word = file.to_str().filter(|word| !word.contains('/'));
        return match word {
            Some(word) if !is_named_right && !Path::new(file).exists() => {
                Err(Refused::Usage(usage::no_command(&escape(word.as_bytes()))))
            }
            _ => Ok(()),
        };
    }
    let given = |flag: &Option<OsString>, key| flag.is_some() || environment.filled(key).is_some();
    let initiator = given(&args.run.initiator, "INITIATOR_SYNC_DIR");
    let target = given(&args.run.target, "TARGET_SYNC_DIR")
        || environment.filled("TARGET_SYNC_DIRS").is_some();
    let missing = match (initiator, target) {
        (true, true) => return Ok(()),
        (true, false) => "--target=DIR is missing",
        (false, true) => "--initiator=DIR is missing",
        (false, false) => {
            "nothing to do: name a configuration file, or give --initiator=DIR and --target=DIR"
        }
    };
    Err(Refused::Usage(missing.to_owned()))
}

/// How often a run's own stop hears of the monitor's.
const FORWARD_EVERY: Duration = Duration::from_millis(100);

/// Runs the task, by `once`, whenever its replicas change, until it is stopped.
fn monitor(config: &Config, log: &Log, stop: &Stop, once: &dyn Fn(Instant, &Stop) -> RunOutcome) {
    let mut run = || {
        log.begin_run();
        let outcome = with_own_stop(stop, |own| once(Instant::now(), own));
        RunResult { status: i32::from(outcome.status), baseline: outcome.baseline }
    };
    crate::monitor::watch(config, &mut run, stop, log);
}

/// A run has a stop of its own: its hard limit must not end the monitor. What ends the
/// monitor ends it too.
fn with_own_stop<T>(stop: &Stop, run: impl FnOnce(&Stop) -> T) -> T {
    let own = Stop::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while own.reason().is_none() {
                if let Some(reason) = stop.wait(FORWARD_EVERY) {
                    own.request(reason);
                }
            }
        });
        let _ended = Ended(&own);
        run(&own)
    })
}

/// Ends the thread that forwards, however the run ends.
struct Ended<'a>(&'a Stop);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.request(StopReason::HardLimit);
    }
}

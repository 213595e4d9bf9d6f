//! What the user typed: one match on the command (spec 1). The only place that wires
//! rooms together.

pub mod args;
mod batch;
mod check;
pub mod conflicts;
pub mod history;
mod monitor;
mod pager;
pub mod plan;
mod serve;
mod settings;
mod state;
pub mod status;
pub mod task_args;
mod upgrade;

use crate::config::{Config, Environment, Location, Problem, Watch, WhenLocked};
use crate::process::{Interrupt, SignalWatch, Stop};
use crate::report::{Level, Log, Reporter, Stamped, Who};
use crate::ssh::libssh2;
use crate::ssh_filter;
use crate::state::StateDir;
use crate::task::intent::Intent;
use crate::task::outcome::Outcome;
use crate::task::{self, Surroundings};
use args::{Cli, Command, SshFilterArgs, SyncArgs};
use clap::Parser;
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

/// Bad usage.
const USAGE: u8 = 128;
/// Something that should have been done was not.
const ERROR: u8 = 1;

/// Does what the command line says and returns the exit status.
#[must_use]
pub fn main(args: impl IntoIterator<Item = OsString>, environment: &Environment) -> ExitCode {
    let args = args::with_command(args.into_iter().collect());
    if let Some(dir) = environment.filled("RUN_DIR") {
        // refused only where it is set already, which is done nowhere else
        let _ = tempfile::env::override_temp_dir(Path::new(dir));
    }
    match Cli::try_parse_from(&args) {
        Ok(cli) => dispatch(cli, &args, environment),
        Err(error) if !error.use_stderr() => {
            print(&error.to_string());
            ExitCode::SUCCESS
        }
        Err(error) => bad_usage(&args::one_line(&error, &args)),
    }
}

fn dispatch(cli: Cli, args: &[OsString], environment: &Environment) -> ExitCode {
    match cli.command {
        None => sync(&cli.sync, environment),
        Some(Command::Sync(args)) => sync(&args, environment),
        Some(Command::Completions { shell }) => {
            print(&args::completions(shell));
            ExitCode::SUCCESS
        }
        Some(Command::Man) => {
            print(&args::manual());
            ExitCode::SUCCESS
        }
        Some(Command::Batch(own)) => match batch::run(&own, args, environment) {
            Ok(number) => status(number),
            Err(problem) => failed(&problem),
        },
        Some(Command::Check(args)) => match complete(&args.sync, environment) {
            Ok(()) => ExitCode::from(check::run(&args, environment)),
            Err(problem) => bad_usage(&problem),
        },
        Some(Command::Upgrade(args)) => {
            let is_complete =
                args.config_file.is_some() || (args.initiator.is_some() && args.target.is_some());
            if !is_complete {
                return bad_usage(
                    "name a configuration file, or give --initiator=DIR and --target=DIR",
                );
            }
            all_or_problems(upgrade::run(&args, environment))
        }
        Some(Command::Plan(args)) => plan::plan(&args, environment),
        Some(Command::Apply(args)) => plan::apply(&args, environment),
        Some(Command::Conflicts(args)) => conflicts::run(&args, environment),
        Some(Command::History(args)) => history::run(&args, environment),
        Some(Command::Status(args)) => status::run(&args, environment),
        Some(Command::State(args)) => state::run(&args.action, environment),
        Some(Command::SshFilter(args)) => filter_ssh(args),
        Some(Command::Serve(args)) => serve::run(&args),
        // as they are: what the remote command's words mean is not ours to judge
        Some(Command::Rsh(_)) => ExitCode::from(libssh2::main(args.get(2..).unwrap_or_default())),
    }
}

/// One run, or monitor mode.
fn sync(args: &SyncArgs, environment: &Environment) -> ExitCode {
    let started = Instant::now();
    if let Err(problem) = complete(args, environment) {
        return bad_usage(&problem);
    }
    let flags = args.run.to_flags();
    let resolution = settings::gather(args.config_file.as_deref(), &flags, environment);
    match resolution.config {
        Some(config) => {
            let warnings: Vec<String> =
                resolution.warnings.iter().map(Problem::to_string).collect();
            let settings = if config.output.verbose {
                settings::not_default(&resolution.settings)
            } else {
                Vec::new()
            };
            run_task(&config, &warnings, &settings, started)
        }
        None => {
            settings::tell(&resolution, &flags, environment, started);
            ExitCode::from(ERROR)
        }
    }
}

/// The forced command.
fn filter_ssh(args: SshFilterArgs) -> ExitCode {
    let SshFilterArgs { token, no_sudo, restrict } = args;
    let options = ssh_filter::Options { token, no_sudo, restrict: restrict.map(Into::into) };
    status(ssh_filter::run(&options, &crate::monitor::far::watch_for))
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
        if config.mode.watch == Watch::Off { Interrupt::Twice } else { Interrupt::Once };
    let _signals = listen(&log, &stop, interrupt);
    let once = |started, stop: &Stop| {
        if config.locking.when_locked == WhenLocked::Skip {
            log.hold();
        }
        let prefix = if log.is_dated() { Stamped::Yes } else { Stamped::No };
        Who::here().open_run(log.as_ref(), &config.instance_id, config.mode.dry, prefix);
        for line in settings {
            log.say(Level::Verbose, line);
        }
        for warning in warnings {
            log.problem(Level::Warn, None, None, warning);
        }
        task::run(config, Surroundings { log: &log, stop, started })
    };
    match config.mode.watch {
        Watch::Off => ExitCode::from(once(started, &stop).status),
        Watch::Initiator => {
            monitor::run(config, &log, &stop, &once);
            ExitCode::SUCCESS
        }
        Watch::Target => status(crate::monitor::target_helper::help(config, &stop, log.as_ref())),
    }
}

/// A run of a command that is about one task.
fn run_once(config: &Config, started: Instant, intent: Intent<'_>) -> Outcome {
    let log = Arc::new(Log::for_task(config, started));
    let stop = Stop::new();
    let _signals = listen(&log, &stop, Interrupt::Twice);
    if config.locking.when_locked == WhenLocked::Skip {
        log.hold();
    }
    let stamped = if log.is_dated() { Stamped::Yes } else { Stamped::No };
    Who::here().open_run(log.as_ref(), &config.instance_id, config.mode.dry, stamped);
    task::run_as(config, Surroundings { log: &log, stop: &stop, started }, intent)
}

/// The first Ctrl-C is answered with a warning (but in monitor mode), the second, or
/// another signal that asks for the end, stops the run (spec 7).
fn listen(log: &Arc<Log>, stop: &Stop, interrupt: Interrupt) -> Option<SignalWatch> {
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

/// Whether there is enough to know what is wanted.
fn complete(args: &SyncArgs, environment: &Environment) -> Result<(), String> {
    if let Some(file) = &args.config_file {
        let is_named_right =
            matches!(Path::new(file).extension(), Some(e) if e == "conf" || e == "toml");
        let word = file.to_str().filter(|word| !word.contains('/'));
        return match word {
            Some(word) if !is_named_right && !Path::new(file).exists() => {
                Err(args::no_command(&crate::tree::path::escape(word.as_bytes())))
            }
            _ => Ok(()),
        };
    }
    let given = |flag: &Option<OsString>, key| flag.is_some() || environment.filled(key).is_some();
    let initiator = given(&args.run.initiator, "INITIATOR_SYNC_DIR");
    let target = given(&args.run.target, "TARGET_SYNC_DIR");
    match (initiator, target) {
        (true, true) => Ok(()),
        (true, false) => Err("--target=DIR is missing".to_owned()),
        (false, true) => Err("--initiator=DIR is missing".to_owned()),
        (false, false) => Err(
            "nothing to do: name a configuration file, or give --initiator=DIR and --target=DIR"
                .to_owned(),
        ),
    }
}

/// Where the state of a task lies. It lies on the initiator, which is this machine.
///
/// # Errors
/// The initiator is another machine (target helper).
fn state_dir(config: &Config) -> Result<StateDir, String> {
    match (&config.state_dirs.initiator, &config.replicas.initiator) {
        (Some(dir), _) => Ok(StateDir::Custom(dir.clone())),
        (None, Location::Local(root)) => Ok(StateDir::InReplica(root.clone())),
        (None, Location::Ssh(_)) => {
            Err("the state lies on the remote initiator; ask there".to_owned())
        }
    }
}

fn bad_usage(problem: &str) -> ExitCode {
    complain(&format!("{problem} (see osync --help)"));
    ExitCode::from(USAGE)
}

fn status(number: i32) -> ExitCode {
    ExitCode::from(u8::try_from(number).unwrap_or(ERROR))
}

fn all_or_problems(done: Result<(), Vec<String>>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problems) => {
            problems.iter().for_each(|problem| complain(problem));
            ExitCode::from(ERROR)
        }
    }
}

fn failed(problem: &str) -> ExitCode {
    complain(problem);
    ExitCode::from(ERROR)
}

/// A reader that goes away is no reason to fail.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

fn complain(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "osync: {text}"));
}

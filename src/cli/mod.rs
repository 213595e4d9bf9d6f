//! What the user typed: one match on the command (spec 1). The only place that wires
//! rooms together.

mod batch;
mod check;
mod complete;
mod completions;
pub mod conflicts;
pub mod history;
mod init;
mod kept;
mod manual;
mod pager;
pub mod plan;
pub mod restore;
pub mod scrub;
mod serve;
mod settings;
mod star_files;
mod state;
pub mod status;
mod sync;
pub mod task_args;
mod task_files;
pub mod undo;
mod upgrade;
mod usage;

use crate::config::{Config, Environment, Location};
use crate::ssh::libssh2;
use crate::ssh_filter;
use crate::state::StateDir;
use crate::state::journal::Journal;
use anyhow::{Context, bail};
use batch::BatchArgs;
use check::CheckArgs;
use clap::{ArgAction, Args, Parser, Subcommand, ValueHint};
use complete::CompleteArgs;
use conflicts::ConflictsArgs;
use history::HistoryArgs;
use init::InitArgs;
use plan::{ApplyArgs, PlanArgs};
use restore::RestoreArgs;
use scrub::ScrubArgs;
use serve::ServeArgs;
use state::StateArgs;
use status::StatusArgs;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use sync::SyncArgs;
use task_args::Refused;
use undo::UndoArgs;
use upgrade::UpgradeArgs;

/// Bad usage.
const USAGE: u8 = 128;
/// Something that should have been done was not.
const ERROR: u8 = 1;

const EXAMPLES: &str = "\
Examples:
  osync /etc/osync/sync.conf --dry --verbose
  osync --initiator=/home/me/data --target=/mnt/disk/data --summary
  osync --initiator=data --target=ssh://me@nas//srv/data --rsakey=~/.ssh/key
  osync batch --path=/etc/osync --max-exec-time=7200
  PRESERVE_ACL=yes osync --initiator=a --target=b

Every key of a configuration file can also be set in the environment.

Exit status: 0 done, 1 errors, 2 done with warnings, 128 bad usage.";

const FILTER_EXAMPLES: &str = "\
Examples:
  osync ssh-filter TOKEN                  any command that has the token
  osync ssh-filter TOKEN --restrict /srv  only osync's work, and only in /srv

It stands before the key in ~/.ssh/authorized_keys on the machine of the target, as in \
command=\"osync ssh-filter TOKEN\". TOKEN is _REMOTE_TOKEN of the task.

Exit status: that of the command that was let in, 1 if it was refused.";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  osync completions bash >/usr/share/bash-completion/completions/osync
  osync completions zsh >~/.zfunc/_osync
  osync completions fish >~/.config/fish/completions/osync.fish

Exit status: 0, 128 bad usage.";

const MAN_EXAMPLES: &str = "\
Examples:
  osync man | man -l -            the page of osync
  osync man history | man -l -    of a command
  osync man conf | man -l -       of the configuration file

Exit status: 0, 128 there is no such command.";

/// Keeps two directories in step, locally or over ssh, unattended
#[derive(Debug, Parser)]
#[command(
    name = "osync",
    version,
    disable_version_flag = true,
    propagate_version = true,
    disable_help_flag = true,
    args_override_self = true,
    args_conflicts_with_subcommands = true,
    subcommand_help_heading = "Other commands",
    override_usage = "osync CONFIG_FILE [OPTIONS]\n       \
                      osync --initiator=DIR --target=DIR|SSH_URI [OPTIONS]\n       \
                      osync COMMAND …",
    after_help = EXAMPLES,
    term_width = 80
)]
pub struct Cli {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub sync: SyncArgs,

    #[command(subcommand)]
    #[allow(missing_docs)]
    pub command: Option<Command>,

    /// Show this help
    #[arg(short, long, action = ArgAction::HelpShort, global = true, display_order = 1000)]
    help: Option<bool>,

    /// Show the version
    #[arg(short = 'v', visible_short_alias = 'V', long, action = ArgAction::Version, global = true, display_order = 1001)]
    version: Option<u64>,
}

/// What else the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Synchronise; the same as no command
    #[command(args_override_self = true, after_help = EXAMPLES)]
    Sync(SyncArgs),
    /// Run every task of a directory, and failed ones again
    #[command(args_override_self = true)]
    Batch(BatchArgs),
    /// Make a task: ask for two directories, try them, write its file
    #[command(args_override_self = true)]
    Init(InitArgs),
    /// Show the effective settings and test the access; change nothing
    #[command(args_override_self = true)]
    Check(CheckArgs),
    /// Rewrite v1.0, v1.1 or v1.2 files, and their state, for today
    #[command(args_override_self = true)]
    Upgrade(UpgradeArgs),
    /// Which conflicts wait for a decision
    #[command(args_override_self = true)]
    Conflicts(ConflictsArgs),
    /// Show what the next run would do, and keep it for 'osync apply'
    #[command(args_override_self = true)]
    Plan(PlanArgs),
    /// Do what a plan says, where nothing has changed since
    Apply(ApplyArgs),
    /// What runs did, and what happened to a path
    #[command(args_override_self = true)]
    History(HistoryArgs),
    /// Bring back what a run replaced or deleted
    #[command(args_override_self = true)]
    Restore(RestoreArgs),
    /// Put both sides back to where they were before a run
    #[command(args_override_self = true)]
    Undo(UndoArgs),
    /// Read everything that is recorded, and find and heal damaged files
    #[command(args_override_self = true)]
    Scrub(ScrubArgs),
    /// One look at all tasks: which of them need something
    #[command(args_override_self = true)]
    Status(StatusArgs),
    /// Show or verify what is recorded of a task
    State(StateArgs),
    /// The forced command for authorized_keys
    #[command(after_help = FILTER_EXAMPLES)]
    SshFilter(SshFilterArgs),
    /// rsync's remote shell over libssh2
    #[command(hide = true, disable_help_flag = true)]
    Rsh(RshArgs),
    /// The other end of an osync that works on a replica of this machine
    #[command(hide = true)]
    Serve(ServeArgs),
    /// Print a completion script for a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print a manual page, in roff
    #[command(after_help = MAN_EXAMPLES)]
    Man {
        /// A command, or conf for the configuration file [default: osync itself]
        #[arg(value_name = "PAGE")]
        page: Option<String>,
    },
    /// What the completion scripts ask for
    #[command(hide = true, disable_help_flag = true)]
    Complete(CompleteArgs),
}

/// Shells that there are completions for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[allow(missing_docs)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// `osync ssh-filter` (spec 7).
#[derive(Debug, Args)]
pub struct SshFilterArgs {
    /// What a command must begin with, as _REMOTE_TOKEN
    pub token: OsString,
    /// Refuse sudo
    #[arg(long)]
    pub no_sudo: bool,
    /// Allow only osync's own work, and only in this directory
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub restrict: Option<OsString>,
}

/// `osync rsh`.
#[derive(Debug, Args)]
pub struct RshArgs {
    /// As rsync calls its remote shell
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<OsString>,
}

/// Does what the command line says and returns the exit status.
#[must_use]
pub fn main(args: impl IntoIterator<Item = OsString>, environment: &Environment) -> ExitCode {
    let args = with_command(args.into_iter().collect());
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
        Err(error) => bad_usage(&usage::one_line(&error, &args)),
    }
}

fn dispatch(cli: Cli, args: &[OsString], environment: &Environment) -> ExitCode {
    match cli.command {
        None => ended(sync::run(&cli.sync, environment)),
        Some(Command::Sync(args)) => ended(sync::run(&args, environment)),
        Some(Command::Completions { shell }) => {
            print(&completions::script(shell));
            ExitCode::SUCCESS
        }
        Some(Command::Man { page }) => ended(manual::page(page.as_deref()).map(|text| {
            print(&text);
            ExitCode::SUCCESS
        })),
        Some(Command::Complete(args)) => {
            complete::run(&args, environment);
            ExitCode::SUCCESS
        }
        Some(Command::Batch(own)) => ended(batch::run(&own, args, environment)),
        Some(Command::Init(args)) => ended(init::run(&args, environment)),
        Some(Command::Check(args)) => ended(check::run(&args, environment)),
        Some(Command::Upgrade(args)) => ended(upgrade::run(&args, environment)),
        Some(Command::Plan(args)) => ended(plan::plan(&args, environment)),
        Some(Command::Apply(args)) => ended(plan::apply(&args, environment)),
        Some(Command::Conflicts(args)) => ended(conflicts::run(&args, environment)),
        Some(Command::History(args)) => ended(history::run(&args, environment)),
        Some(Command::Status(args)) => status::run(&args, environment),
        Some(Command::Undo(args)) => ended(undo::run(&args, environment)),
        Some(Command::Scrub(args)) => ended(scrub::run(&args, environment)),
        Some(Command::Restore(args)) => ended(restore::run(&args, environment)),
        Some(Command::State(args)) => ended(state::run(&args.action, environment)),
        Some(Command::SshFilter(args)) => filter_ssh(args),
        Some(Command::Serve(args)) => ended(serve::run(&args)),
        // as they are: what the remote command's words mean is not ours to judge
        Some(Command::Rsh(_)) => ExitCode::from(libssh2::main(args.get(2..).unwrap_or_default())),
    }
}

/// The forced command.
fn filter_ssh(args: SshFilterArgs) -> ExitCode {
    let SshFilterArgs { token, no_sudo, restrict } = args;
    let options = ssh_filter::Options { token, no_sudo, restrict: restrict.map(Into::into) };
    status(ssh_filter::run(&options, &crate::monitor::far::watch_for))
}

/// Where the state of a task lies. It lies on the initiator, which is this machine.
///
/// # Errors
/// The initiator is another machine (target helper).
fn state_dir(config: &Config) -> anyhow::Result<StateDir> {
    match StateDir::of(config) {
        Some(dir) => Ok(dir),
        None => bail!("the state lies on the remote initiator; ask there"),
    }
}

/// The journal of a pair; `None`: no run of it is recorded.
///
/// # Errors
/// It cannot be read, or its initiator is not there: then nothing is known of the runs.
fn journal(config: &Config) -> anyhow::Result<Option<Journal>> {
    look_at_initiator(config)?;
    Ok(Journal::read(&state_dir(config)?, &config.instance_id)?)
}

/// Fails if an initiator of this machine, where the state lies, cannot be looked at.
fn look_at_initiator(config: &Config) -> anyhow::Result<()> {
    if let Location::Local(root) = &config.replicas.initiator {
        std::fs::metadata(root)
            .with_context(|| format!("cannot look at the initiator {}", task_files::shown(root)))?;
    }
    Ok(())
}

/// Whether what a command tells of was done, or would be (`--dry`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Done,
    Planned,
}

impl Effect {
    fn of(config: &Config) -> Self {
        if config.flags.dry { Effect::Planned } else { Effect::Done }
    }

    fn is_planned(self) -> bool {
        self == Effect::Planned
    }
}

fn bad_usage(problem: &str) -> ExitCode {
    complain(&format!("{problem} (see osync --help)"));
    ExitCode::from(USAGE)
}

fn status(number: i32) -> ExitCode {
    ExitCode::from(u8::try_from(number).unwrap_or(ERROR))
}

/// The exit status of a command. Why it failed is printed here, so that commands only return it.
fn ended(done: anyhow::Result<ExitCode>) -> ExitCode {
    done.unwrap_or_else(|error| match error.downcast::<Refused>() {
        Ok(Refused::Usage(text)) => bad_usage(&text),
        Ok(Refused::Flags(lines)) => refused(&lines, USAGE),
        Ok(Refused::Settings(lines)) => refused(&lines, ERROR),
        Err(error) => failed(&in_words(&error)),
    })
}

fn refused(lines: &[String], status: u8) -> ExitCode {
    lines.iter().for_each(|line| complain(line));
    ExitCode::from(status)
}

/// An error with its context and causes. Many errors of the rooms name their cause themselves; it
/// is not said twice.
fn in_words(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
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

/// Names of programs of osync 1.x that the installer links to ours.
const NAMES: &[(&str, &str)] = &[
    ("osync-batch.sh", "batch"),
    ("osync-batch", "batch"),
    ("ssh_filter.sh", "ssh-filter"),
    ("upgrade-v1.0x-v1.3x.sh", "upgrade"),
    ("upgrade-v1.0x-v1.2x.sh", "upgrade"),
];

/// The command line with the command that the program's name stands for.
#[must_use]
pub fn with_command(mut args: Vec<OsString>) -> Vec<OsString> {
    let name = args.first().and_then(|program| Path::new(program).file_name());
    let command = NAMES.iter().find(|(known, _)| name == Some(OsStr::new(known)));
    if args.is_empty() {
        args.push("osync".into());
    }
    if let Some((_, command)) = command {
        args.insert(1, command.into());
    }
    args[0] = "osync".into();
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_printed_with_its_context_and_each_cause_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read it: {0}")]
        struct NamesItsCause(#[source] std::io::Error);
        let cause = || std::io::Error::other("permission denied");
        let bare = anyhow::Error::from(cause()).context("a.conf: cannot read");
        assert_eq!(in_words(&bare), "a.conf: cannot read: permission denied");
        let named = anyhow::Error::from(NamesItsCause(cause())).context("a.conf");
        assert_eq!(in_words(&named), "a.conf: cannot read it: permission denied");
    }

    #[test]
    fn old_program_names_stand_for_commands() {
        for (typed, meant) in [
            ("/usr/local/bin/osync.sh a.conf", "osync a.conf"),
            ("osync a.conf", "osync a.conf"),
            ("./osync-batch.sh --silent", "osync batch --silent"),
            ("osync-batch", "osync batch"),
            ("/usr/local/bin/ssh_filter.sh TOKEN", "osync ssh-filter TOKEN"),
            ("upgrade-v1.0x-v1.3x.sh f.conf", "osync upgrade f.conf"),
            ("upgrade-v1.0x-v1.2x.sh --master=a", "osync upgrade --master=a"),
            ("another-name --dry", "osync --dry"),
            ("", "osync"),
        ] {
            let typed: Vec<OsString> = typed.split_whitespace().map(OsString::from).collect();
            let meant: Vec<OsString> = meant.split_whitespace().map(OsString::from).collect();
            assert_eq!(with_command(typed), meant);
        }
    }
}

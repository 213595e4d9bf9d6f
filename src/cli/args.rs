//! What can be typed (spec 1). No input or output here, and nothing is resolved.

use super::conflicts::ConflictsArgs;
use super::history::HistoryArgs;
use super::plan::{ApplyArgs, PlanArgs};
use super::run_flags::RunFlags;
use clap::{ArgAction, Args, Parser, Subcommand, ValueHint};
use std::ffi::OsString;

const EXAMPLES: &str = "\
Examples:
  osync /etc/osync/sync.conf --dry --verbose
  osync --initiator=/home/me/data --target=/mnt/disk/data --summary
  osync --initiator=data --target=ssh://me@nas//srv/data --rsakey=~/.ssh/key
  osync batch --path=/etc/osync --max-exec-time=7200
  PRESERVE_ACL=yes osync --initiator=a --target=b

Every key of a configuration file can also be set in the environment.
Exit status: 0 done, 1 errors, 2 done with warnings, 128 bad usage.";

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
    version: Option<bool>,
}

/// One run, or monitor mode.
#[derive(Debug, Clone, Default, Args)]
pub struct SyncArgs {
    /// The task: a file that ends in .conf or .toml
    #[arg(value_name = "CONFIG_FILE", value_hint = ValueHint::FilePath)]
    pub config_file: Option<OsString>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub run: RunFlags,
}

/// What else the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Synchronise; the same as no command
    #[command(args_override_self = true)]
    Sync(SyncArgs),
    /// Run every task of a directory, and failed ones again
    #[command(args_override_self = true)]
    Batch(BatchArgs),
    /// Show the effective settings and test the access; change nothing
    #[command(args_override_self = true)]
    Check(CheckArgs),
    /// Rewrite a v1.0, v1.1 or v1.2 file, and its state, for today
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
    /// Show or verify what is recorded of a task
    State(StateArgs),
    /// The forced command for authorized_keys
    SshFilter(SshFilterArgs),
    /// rsync's remote shell over libssh2
    #[command(hide = true, disable_help_flag = true)]
    Rsh(RshArgs),
    /// The other end of an osync that works on a replica of this machine
    #[command(hide = true)]
    Serve(ServeArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, in roff
    Man,
}

/// Shells that there are completions for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[allow(missing_docs)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// `osync batch` (spec 7).
#[derive(Debug, Args)]
#[command(after_help = "All other options are passed on to every task.")]
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
    pub passed_on: RunFlags,
}

/// `osync check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Print JSON, for other programs
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub sync: SyncArgs,
}

/// `osync upgrade` (spec 7).
#[derive(Debug, Args)]
pub struct UpgradeArgs {
    /// The file to rewrite; FILE.save keeps it as it was
    #[arg(value_name = "CONFIG_FILE", value_hint = ValueHint::FilePath)]
    pub config_file: Option<OsString>,
    /// Write FILE.toml from FILE.conf instead
    #[arg(long, requires = "config_file")]
    pub to_toml: bool,
    /// Quicksync task: the first replica
    #[arg(long, visible_alias = "master", value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with = "config_file")]
    pub initiator: Option<OsString>,
    /// Quicksync task: the second replica
    #[arg(long, visible_alias = "slave", value_name = "DIR|SSH_URI", value_hint = ValueHint::DirPath, conflicts_with = "config_file")]
    pub target: Option<OsString>,
    /// Quicksync task: its name
    #[arg(long, visible_alias = "sync-id", value_name = "ID", conflicts_with = "config_file")]
    pub instance_id: Option<OsString>,
    /// The key for a remote replica
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub rsakey: Option<OsString>,
    /// Show what would be done
    #[arg(long)]
    pub dry: bool,
}

/// `osync state`.
#[derive(Debug, Args)]
pub struct StateArgs {
    #[command(subcommand)]
    #[allow(missing_docs)]
    pub action: StateAction,
}

/// What is done with recorded state.
#[derive(Debug, Subcommand)]
pub enum StateAction {
    /// Print what the last run recorded
    Show(StateTask),
    /// Check that it is readable and whole
    Verify(StateTask),
}

/// Whose state.
#[derive(Debug, Args)]
pub struct StateTask {
    /// The file of a task; with --initiator, INSTANCE_IDs (none: all there are)
    #[arg(value_name = "CONFIG_FILE|ID")]
    pub tasks: Vec<OsString>,
    /// The first replica, where no file is given
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub initiator: Option<OsString>,
    /// Where the state is, if not in the replica
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub initiator_state_dir: Option<OsString>,
    /// Print JSON lines, for other programs
    #[arg(long)]
    pub json: bool,
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

/// `osync serve` (spec 5).
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Print the version of the protocol
    #[arg(long)]
    pub protocol: bool,
}

/// `osync rsh`.
#[derive(Debug, Args)]
pub struct RshArgs {
    /// As rsync calls its remote shell
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<OsString>,
}

//! What can be typed (spec 1). No input or output here, and nothing is resolved.

use super::conflicts::ConflictsArgs;
use super::history::HistoryArgs;
use super::plan::{ApplyArgs, PlanArgs};
use super::status::StatusArgs;
use crate::config::{Flags, Override, Watch};
use clap::builder::PossibleValuesParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueHint};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

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
    /// One look at all tasks: which of them need something
    #[command(args_override_self = true)]
    Status(StatusArgs),
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

const RUN: &str = "What a run does";
const OUTPUT: &str = "What is shown";
const MONITOR: &str = "Monitor mode";
const QUICK: &str = "Quicksync (with a configuration file, these override it)";

/// Flags that every way to start a run takes.
#[derive(Debug, Clone, Default, Args)]
#[allow(clippy::struct_excessive_bools)] // one switch a flag
pub struct RunFlags {
    /// Show everything that would be done, and change nothing
    #[arg(long, help_heading = RUN)]
    pub dry: bool,
    /// Keep partial transfers and go on with them next time
    #[arg(long, help_heading = RUN)]
    pub partial: bool,
    /// Without soft and hard time limits
    #[arg(long, help_heading = RUN)]
    pub no_maxtime: bool,
    /// Take over any lock on both replicas, dead or alive
    #[arg(long, help_heading = RUN)]
    pub force_unlock: bool,
    /// Neither look at locks nor take any
    #[arg(long, help_heading = RUN)]
    pub no_locks: bool,
    /// Wait so many seconds for another run to end that has locked a replica
    #[arg(long, help_heading = RUN, value_name = "SECONDS")]
    pub wait: Option<OsString>,
    /// Do nothing, and be content, while another run has locked a replica
    #[arg(long, help_heading = RUN)]
    pub skip_if_running: bool,
    /// Do not take up an interrupted run
    #[arg(long, help_heading = RUN)]
    pub no_resume: bool,
    /// Take the replicas as they are for the result of a run
    #[arg(long, help_heading = RUN)]
    pub initialize: bool,
    /// Let this run pass the guards against mass deletion
    #[arg(long, help_heading = RUN)]
    pub force_delete: bool,

    /// Nothing on the screen; the log file gets everything
    #[arg(long, help_heading = OUTPUT)]
    pub silent: bool,
    /// Every file, every rsync call, all settings
    #[arg(long, help_heading = OUTPUT)]
    pub verbose: bool,
    /// Of the messages, only warnings and errors
    #[arg(long, help_heading = OUTPUT)]
    pub errors_only: bool,
    /// No time in front of lines
    #[arg(long, help_heading = OUTPUT)]
    pub no_prefix: bool,
    /// No progress display
    #[arg(long, help_heading = OUTPUT)]
    pub non_interactive: bool,
    /// At the end, list what was updated and deleted
    #[arg(long, help_heading = OUTPUT)]
    pub summary: bool,
    /// Show rsync's transfer statistics
    #[arg(long, help_heading = OUTPUT)]
    pub stats: bool,
    /// List the files that were changed on both sides
    #[arg(long, help_heading = OUTPUT)]
    pub log_conflicts: bool,
    /// Send that list by mail too
    #[arg(long, help_heading = OUTPUT)]
    pub alert_conflicts: bool,
    /// Write a report of the run, as JSON (%i the task, %d the day)
    #[arg(long, help_heading = OUTPUT, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub report: Option<OsString>,

    /// Watch the initiator, and run when something changes
    #[arg(long, help_heading = MONITOR, conflicts_with = "on_changes_target")]
    pub on_changes: bool,
    /// Watch the target, and wake the monitor of the initiator
    #[arg(long, help_heading = MONITOR)]
    pub on_changes_target: bool,

    /// The first replica, a directory of this machine
    #[arg(long, help_heading = QUICK, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub initiator: Option<OsString>,
    /// The second replica: ssh://[user@]host[:port]//path if remote
    #[arg(long, help_heading = QUICK, value_name = "DIR|SSH_URI", value_hint = ValueHint::DirPath)]
    pub target: Option<OsString>,
    /// The name of the task [default: quicksync_task]
    #[arg(long, help_heading = QUICK, value_name = "ID")]
    pub instance_id: Option<OsString>,
    /// The private key for ssh
    #[arg(long, help_heading = QUICK, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub rsakey: Option<OsString>,
    /// A file that holds the ssh password
    #[arg(long, help_heading = QUICK, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub password_file: Option<OsString>,
    /// Log in with Kerberos
    #[arg(long, help_heading = QUICK)]
    pub krb5: bool,
    /// Share one connection between all ssh calls
    #[arg(long, help_heading = QUICK)]
    pub ssh_controlmaster: bool,
    /// The token that the other side's ssh filter asks for
    #[arg(long, help_heading = QUICK, value_name = "TOKEN")]
    pub remote_token: Option<OsString>,
    /// Delete nothing there: initiator, target, initiator,target
    #[arg(long, help_heading = QUICK, value_name = "SIDES", value_parser = sides)]
    pub skip_deletion: Option<String>,
    /// One way only: initiator2target or target2initiator
    #[arg(long, help_heading = QUICK, value_name = "WAY", hide_possible_values = true,
        value_parser = PossibleValuesParser::new(["initiator2target", "target2initiator"]))]
    pub sync_type: Option<String>,
    /// Mail addresses for alerts, with blanks between them
    #[arg(long, help_heading = QUICK, value_name = "ADDRESSES")]
    pub destination_mails: Option<OsString>,
    /// Where the state of the initiator is kept
    #[arg(long, help_heading = QUICK, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub initiator_state_dir: Option<OsString>,
    /// Where the state of the target is kept
    #[arg(long, help_heading = QUICK, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub target_state_dir: Option<OsString>,

    /// Lines carry date and time; set by the batch runner
    #[arg(long, hide = true)]
    pub dated_prefix: bool,
    /// How long to wait for locks unless told otherwise; set by the batch runner
    #[arg(long, hide = true)]
    pub usual_wait: Option<u64>,
    /// A report of the run for the batch runner; set by it
    #[arg(long, hide = true)]
    pub batch_report: Option<OsString>,
    /// No mail about errors: this run is made again; set by the batch runner
    #[arg(long, hide = true)]
    pub hold_alert: bool,
}

fn sides(text: &str) -> Result<String, String> {
    let known = |word: &str| matches!(word.trim(), "initiator" | "target");
    if text.split(',').all(known) {
        Ok(text.to_owned())
    } else {
        Err("it is initiator, target, or initiator,target".to_owned())
    }
}

impl RunFlags {
    /// The flags as settings and modes of a run.
    #[must_use]
    pub fn to_flags(&self) -> Flags {
        Flags {
            overrides: self.overrides(),
            dry: self.dry,
            silent: self.silent,
            verbose: self.verbose,
            errors_only: self.errors_only,
            no_prefix: self.no_prefix,
            non_interactive: self.non_interactive,
            summary: self.summary,
            stats: self.stats,
            force_unlock: self.force_unlock,
            no_locks: self.no_locks,
            skip_if_running: self.skip_if_running,
            usual_wait: self.usual_wait,
            initialize: self.initialize,
            force_delete: self.force_delete,
            watch: match (self.on_changes, self.on_changes_target) {
                (_, true) => Watch::Target,
                (true, false) => Watch::Initiator,
                (false, false) => Watch::Off,
            },
            dated_prefix: self.dated_prefix,
            batch_report: self.batch_report.as_ref().map(PathBuf::from),
            hold_alert: self.hold_alert,
        }
    }

    fn overrides(&self) -> Vec<Override> {
        let text = |text: &Option<String>| text.clone().map(OsString::from);
        let when = |given: bool, value: &str| given.then(|| OsString::from(value));
        let log_conflicts = self.log_conflicts || self.alert_conflicts;
        [
            ("INITIATOR_SYNC_DIR", "--initiator", self.initiator.clone()),
            ("TARGET_SYNC_DIR", "--target", self.target.clone()),
            ("INSTANCE_ID", "--instance-id", self.instance_id.clone()),
            ("SSH_RSA_PRIVATE_KEY", "--rsakey", self.rsakey.clone()),
            ("SSH_PASSWORD_FILE", "--password-file", self.password_file.clone()),
            ("KRB5", "--krb5", when(self.krb5, "yes")),
            ("SSH_CONTROLMASTER", "--ssh-controlmaster", when(self.ssh_controlmaster, "yes")),
            ("_REMOTE_TOKEN", "--remote-token", self.remote_token.clone()),
            ("SKIP_DELETION", "--skip-deletion", text(&self.skip_deletion)),
            ("SYNC_TYPE", "--sync-type", text(&self.sync_type)),
            ("DESTINATION_MAILS", "--destination-mails", self.destination_mails.clone()),
            (
                "INITIATOR_CUSTOM_STATE_DIR",
                "--initiator-state-dir",
                self.initiator_state_dir.clone(),
            ),
            ("TARGET_CUSTOM_STATE_DIR", "--target-state-dir", self.target_state_dir.clone()),
            ("PARTIAL", "--partial", when(self.partial, "yes")),
            ("SOFT_MAX_EXEC_TIME", "--no-maxtime", when(self.no_maxtime, "0")),
            ("HARD_MAX_EXEC_TIME", "--no-maxtime", when(self.no_maxtime, "0")),
            ("REPORT", "--report", self.report.clone()),
            ("LOCK_WAIT", "--wait", self.wait.clone()),
            ("RESUME_TRY", "--no-resume", when(self.no_resume, "0")),
            ("LOG_CONFLICTS", "--log-conflicts", when(log_conflicts, "yes")),
            ("ALERT_CONFLICTS", "--alert-conflicts", when(self.alert_conflicts, "yes")),
        ]
        .into_iter()
        .filter_map(|(key, flag, value)| Some(Override { key, flag, value: value? }))
        .collect()
    }
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

/// Flags of v1.0 and what they are now.
const OLD_FLAGS: &[(&str, &str)] =
    &[("--master", "--initiator"), ("--slave", "--target"), ("--sync-id", "--instance-id")];

/// One line about what is wrong with the command line.
#[must_use]
pub fn one_line(error: &clap::Error, args: &[OsString]) -> String {
    let about = context(error, ContextKind::InvalidArg);
    let value = context(error, ContextKind::InvalidValue);
    let about = about.as_deref().unwrap_or("an argument");
    match error.kind() {
        ErrorKind::UnknownArgument => unknown(about, args),
        ErrorKind::InvalidValue if value.as_deref().unwrap_or_default().is_empty() => {
            format!("{} needs a value", flag(about))
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(|why| match why.to_string() {
                text if text.contains("digit") => ": it is a whole number".to_owned(),
                text => format!(": {text}"),
            });
            let near = context(error, ContextKind::SuggestedValue);
            let near = near.map(|near| format!("; did you mean '{near}'?"));
            let known = context(error, ContextKind::ValidValue);
            let known = known.map(|known| format!("; possible are {known}"));
            let help = near.or(why).or(known).unwrap_or_default();
            format!("{}: bad value '{}'{help}", flag(about), value.unwrap_or_default())
        }
        ErrorKind::TooManyValues => format!("{} takes no value", flag(about)),
        ErrorKind::MissingRequiredArgument if about == "<TOKEN>" => {
            "<TOKEN> is missing: in authorized_keys it stands behind the filter, as in \
             command=\"/usr/local/bin/ssh_filter.sh TOKEN\""
                .to_owned()
        }
        ErrorKind::MissingRequiredArgument => format!("{about} is missing"),
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            "a command is missing; it is show or verify".to_owned()
        }
        ErrorKind::InvalidSubcommand => {
            let word = context(error, ContextKind::InvalidSubcommand).unwrap_or_default();
            match nearest_command(&word) {
                Some(near) => format!("unknown command '{word}'; did you mean '{near}'?"),
                None => format!("unknown command '{word}'"),
            }
        }
        ErrorKind::ArgumentConflict => conflict(&first_line(error), args),
        _ => first_line(error),
    }
}

/// The name of the flag without the place-holder of its value.
fn flag(about: &str) -> &str {
    about.split([' ', '=']).next().unwrap_or(about)
}

fn context(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => Some(texts.join(", ")).filter(|text| !text.is_empty()),
        _ => None,
    }
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// clap takes a second name, or a command behind other arguments, for a conflict.
fn conflict(line: &str, args: &[OsString]) -> String {
    let named = line.strip_prefix("the subcommand '").and_then(|rest| rest.split_once('\''));
    let Some((second, _)) = named else { return line.to_owned() };
    let is_word = |arg: &&str| !arg.starts_with('-') && !arg.contains(['.', '/']);
    if let Some(first) = args.get(1).and_then(|arg| arg.to_str()).filter(is_word) {
        return no_command(first);
    }
    match nearest_command(second) {
        Some(command) if command == second => format!("the command '{second}' comes first"),
        _ => format!("unexpected argument '{second}'"),
    }
}

/// A word that is neither a file nor a command.
#[must_use]
pub fn no_command(word: &str) -> String {
    match nearest_command(word) {
        Some(near) => unknown_command(word, &near),
        None => format!(
            "'{word}' is neither a command nor a configuration file, whose name ends in .conf or \
             .toml"
        ),
    }
}

fn unknown_command(word: &str, near: &str) -> String {
    if word == near {
        return format!("the command '{word}' comes first; a file of that name is ./{word}");
    }
    format!("unknown command '{word}'; did you mean '{near}'?")
}

fn unknown(about: &str, args: &[OsString]) -> String {
    // Of a cluster of short options only the first bad letter is named: show the word.
    let typed = args.iter().filter_map(|arg| arg.to_str()).find(|arg| arg.starts_with(about));
    let typed = typed.unwrap_or(about).split('=').next().unwrap_or(about);
    if !typed.starts_with('-') {
        return format!("unexpected argument '{typed}'");
    }
    if let Some((_, now)) = OLD_FLAGS.iter().find(|(old, _)| *old == typed) {
        return format!("unknown option '{typed}'; it is {now} now");
    }
    match nearest_flag(typed) {
        Some(near) if near == typed => format!("the option '{typed}' is of another command"),
        Some(near) => format!("unknown option '{typed}'; did you mean '{near}'?"),
        None => format!("unknown option '{typed}'"),
    }
}

fn nearest_flag(typed: &str) -> Option<String> {
    let bare = typed.trim_start_matches('-').replace('_', "-");
    let cli = Cli::command();
    let command = cli.clone();
    let subcommands = cli.get_subcommands().flat_map(clap::Command::get_arguments);
    let longs = command.get_arguments().chain(subcommands).filter(|arg| !arg.is_hide_set());
    let longs: Vec<&str> = longs.filter_map(|arg| arg.get_long()).collect();
    let near = nearest(&bare, longs.iter().copied());
    near.or_else(|| begun(&bare, &longs)).map(|near| format!("--{near}"))
}

/// The flag that a word goes on from (`dry-run`), or that is the only one to go on from it.
fn begun(word: &str, flags: &[&str]) -> Option<String> {
    const SHORTEST: usize = 3;
    let longer = flags.iter().filter(|flag| flag.len() >= SHORTEST && word.starts_with(**flag));
    let mut shorter = flags.iter().filter(|flag| word.len() > SHORTEST && flag.starts_with(word));
    let found = longer.max_by_key(|flag| flag.len()).or_else(|| {
        let first = shorter.next()?;
        shorter.all(|other| other == first).then_some(first)
    });
    found.map(|flag| (*flag).to_owned())
}

/// The command that was probably meant by a word that is no configuration file.
#[must_use]
pub fn nearest_command(word: &str) -> Option<String> {
    let cli = Cli::command();
    let commands = cli.get_subcommands().filter(|command| !command.is_hide_set());
    nearest(word, commands.map(clap::Command::get_name))
}

fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    known
        .map(|known| (strsim::damerau_levenshtein(word, known), known))
        .min()
        .filter(|(distance, known)| *distance <= known.len().div_ceil(3))
        .map(|(_, known)| known.to_owned())
}

/// In bash `--flag=value` comes as three words; what clap makes knows only two. And the old name
/// of the program is completed as the new one.
const BASH: &str = r#"
_osync_with_values() {
    local cur="$2" prev="$3"
    if [[ "$cur" == "=" ]]; then
        cur=""
        prev="${COMP_WORDS[COMP_CWORD-1]}"
    elif [[ "$prev" == "=" ]]; then
        prev="${COMP_WORDS[COMP_CWORD-2]}"
    fi
    _osync "$1" "$cur" "$prev"
}
complete -F _osync_with_values -o bashdefault -o default osync osync.sh
"#;

/// A completion script.
#[must_use]
pub fn completions(shell: Shell) -> String {
    let made_for = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut out = Vec::new();
    let mut offered =
        offered(&Cli::command()).version(env!("CARGO_PKG_VERSION")).propagate_version(true);
    clap_complete::generate(made_for, &mut offered, "osync", &mut out);
    let script = String::from_utf8_lossy(&out).into_owned();
    match shell {
        Shell::Bash => script + BASH,
        Shell::Zsh => script
            .replace("#compdef osync\n", "#compdef osync osync.sh\n")
            .replace("compdef _osync osync\n", "compdef _osync osync osync.sh\n"),
        Shell::Fish => script + "complete -c osync.sh -w osync\n",
    }
}

/// A command with only what people type: the generators show what is hidden, too.
fn offered(command: &clap::Command) -> clap::Command {
    let flags = command.get_arguments().filter(|flag| !flag.is_hide_set()).cloned();
    let commands = command.get_subcommands().filter(|below| !below.is_hide_set()).map(offered);
    let flags = flags.map(|flag| match flag.get_long() {
        // any list of sides is taken; these are all there are to choose from
        Some("skip-deletion") => flag.value_parser(["initiator", "target", "initiator,target"]),
        _ => flag,
    });
    let about = command.get_about().cloned().unwrap_or_default();
    clap::Command::new(command.get_name().to_owned())
        .about(about)
        .disable_help_flag(command.is_disable_help_flag_set())
        .disable_version_flag(command.is_disable_version_flag_set())
        .args(flags)
        .subcommands(commands)
}

/// The manual page, in roff.
#[must_use]
pub fn manual() -> String {
    let mut out = Vec::new();
    // Writing to memory does not fail.
    drop(clap_mangen::Man::new(Cli::command()).render(&mut out));
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod invocation_tests {
    use super::*;

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

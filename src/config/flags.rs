//! The flags of a run (spec 1, "Options for every mode", "Quicksync options"), as they are typed.
//! Nothing is resolved here: flags that set a key are one source of the settings, the others are
//! read from [`Config::flags`](super::Config::flags).

use super::Watch;
use super::settings::Override;
use clap::builder::PossibleValuesParser;
use clap::{Args, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;

const RUN: &str = "What a run does";
const OUTPUT: &str = "What is shown";
const MONITOR: &str = "Monitor mode";
const QUICK: &str = "Quicksync (with a configuration file, these override it)";

/// Flags that every way to start a run takes.
#[derive(Debug, Clone, Default, Args)]
#[allow(clippy::struct_excessive_bools)] // one switch a flag
pub struct Flags {
    /// Show everything that would be done, and change nothing; of several targets, what each would do
    /// with the initiator as it is now
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
    /// Of a task with several targets, only this one: as the list has it, or its number in it
    #[arg(long, help_heading = RUN, value_name = "NAME|NUMBER")]
    pub only: Option<OsString>,

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
    pub batch_report: Option<PathBuf>,
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

impl Flags {
    /// `--on-changes`, `--on-changes-target`.
    #[must_use]
    pub fn watch(&self) -> Watch {
        match (self.on_changes, self.on_changes_target) {
            (_, true) => Watch::Target,
            (true, false) => Watch::Initiator,
            (false, false) => Watch::Off,
        }
    }

    /// The keys that flags set.
    pub(super) fn overrides(&self) -> Vec<Override> {
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

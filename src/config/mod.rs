//! What the user wants: every setting of a task, typed and resolved (spec 2).

use crate::tree::{Pair, Side};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::PathBuf;

pub mod conf_file;
mod flags;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod keys;
pub mod load;
mod location;
mod resolve;
#[cfg(test)]
mod sample_tests;
mod settings;
pub mod toml_file;
pub mod upgrade;
pub use flags::Flags;
pub use location::{Location, SshLocation};
pub use resolve::{Placeholder, Resolution, Surroundings, ThisMachine, resolve};
pub use settings::{Environment, FileForm, FileSettings, Origin, Problem, Setting, Settings};

/// All settings of one task. Built by `resolve` from defaults, environment, file and
/// flags; nothing in it needs further interpretation.
#[derive(Debug, Clone)]
pub struct Config {
    /// The configuration file, an absolute path; `None` for a quicksync task.
    pub file: Option<PathBuf>,
    /// Names state, lock and log files (INSTANCE_ID).
    pub instance_id: String,
    /// INSTANCE_ID of the star whose target makes this pair with the hub; `None` if it is no part of
    /// one.
    pub star: Option<String>,
    /// INITIATOR_SYNC_DIR and TARGET_SYNC_DIR. Only the target may be remote; for
    /// `--on-changes-target` the initiator is.
    pub replicas: Pair<Location>,
    /// TARGET_SYNC_DIRS: the targets of a star, the first of which stands in `replicas` too. Empty
    /// for a pair of replicas.
    pub targets: Vec<StarTarget>,
    /// `--only`: which of them takes part, from 0; `None` is all.
    pub only: Option<usize>,
    /// INITIATOR_CUSTOM_STATE_DIR, TARGET_CUSTOM_STATE_DIR.
    pub state_dirs: Pair<Option<PathBuf>>,
    /// CREATE_DIRS.
    pub create_dirs: bool,
    /// KiB wanted free on each replica; 0 disables (MINIMUM_SPACE).
    pub minimum_space: u64,
    /// HISTORY_DAYS; 0 keeps the journal for ever.
    pub history_days: u32,
    /// SCRUB: runs note digests of what they transfer.
    pub scrub: bool,
    /// What is looked at.
    pub selection: Selection,
    /// How rsync is called.
    pub transfer: TransferSettings,
    /// What is compared and carried over beside the content.
    pub preserve: Preserve,
    /// How changes turn into a plan.
    pub policy: Policy,
    /// The way to a remote side.
    pub remote: Remote,
    /// Time limits and waiting times.
    pub limits: Limits,
    /// Locks, resuming.
    pub locking: Locking,
    /// What is shown and logged.
    pub output: Output,
    /// Mail and metrics.
    pub alerts: Alerts,
    /// What is told over the network.
    pub notify: Notify,
    /// Commands around a run.
    pub hooks: Hooks,
    /// What was typed on the command line, as it was.
    pub flags: Flags,
}

/// A target of a star.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StarTarget {
    /// As the list has it.
    pub name: OsString,
    /// Where it is.
    pub place: Location,
}

impl Config {
    /// Whether it is a star: one initiator with a list of targets.
    #[must_use]
    pub fn is_star(&self) -> bool {
        !self.targets.is_empty()
    }

    /// Where all replicas are, the initiator first.
    pub fn places(&self) -> impl Iterator<Item = &Location> {
        let target = Some(&self.replicas.target).filter(|_| !self.is_star());
        let targets = self.targets.iter().map(|target| &target.place);
        std::iter::once(&self.replicas.initiator).chain(target).chain(targets)
    }

    /// The targets of a star that take part, by their places in the list.
    pub fn chosen_targets(&self) -> impl Iterator<Item = (usize, &StarTarget)> {
        let all = self.targets.iter().enumerate();
        all.filter(|(index, _)| self.only.is_none_or(|only| only == *index))
    }

    /// The targets of the list, whether they take part or not, for people.
    #[must_use]
    pub fn listed_places(&self) -> Vec<String> {
        self.targets.iter().map(|target| target.place.to_string()).collect()
    }

    /// The settings of each pair that takes part: of a star those of its chosen targets, under
    /// the name of the star, else the task itself.
    #[must_use]
    pub fn pairs(&self) -> Vec<Config> {
        if !self.is_star() {
            return vec![self.clone()];
        }
        let pair = |(_, target)| self.for_target(target, self.instance_id.clone());
        self.chosen_targets().map(pair).collect()
    }

    /// The settings of the pair that the hub of a star makes with a target, under the name of
    /// the pair's state.
    #[must_use]
    pub fn for_target(&self, target: &StarTarget, instance_id: String) -> Config {
        Config {
            instance_id,
            star: Some(self.instance_id.clone()),
            replicas: Pair::new(self.replicas.initiator.clone(), target.place.clone()),
            targets: Vec::new(),
            only: None,
            ..self.clone()
        }
    }
}

/// What is looked at: the four pattern keys, resolved to rules, and options that make
/// rsync itself decide.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Rule texts in rsync's order of precedence; pattern files are already read.
    pub rules: Vec<RuleText>,
    /// Those of RSYNC_OPTIONAL_ARGS that change what rsync lists; if there are any, the
    /// visible set comes from `rsync --list-only` with them.
    pub listing_args: Vec<String>,
}

/// One pattern as configured, before it is parsed by the filter room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleText {
    /// Whether the key it came from includes or excludes.
    pub include: bool,
    /// From a pattern file, where `+ `, `- ` prefixes, `!` and comments count; from a key
    /// value otherwise.
    pub from_file: bool,
    /// The pattern, byte for byte.
    pub pattern: Vec<u8>,
}

/// RSYNC_EXECUTABLE as it is unless set: the rsync of the system, and no program of the
/// user's that takes its place.
pub const RSYNC: &str = "rsync";

/// How rsync is called.
#[derive(Debug, Clone)]
pub struct TransferSettings {
    /// RSYNC_EXECUTABLE.
    pub executable: String,
    /// RSYNC_REMOTE_PATH: the directory of the remote rsync.
    pub remote_path: Option<PathBuf>,
    /// KiB/s, 0 unlimited (BANDWIDTH).
    pub bandwidth: u64,
    /// RSYNC_COMPRESS.
    pub compress: bool,
    /// PARTIAL.
    pub partial: bool,
    /// DELTA_COPIES.
    pub delta_copies: bool,
    /// Whether DELTA_COPIES was asked for, rather than left at its default.
    pub delta_copies_asked: bool,
    /// RSYNC_OPTIONAL_ARGS, split and checked.
    pub optional_args: Vec<String>,
    /// `--stats`.
    pub stats: bool,
}

/// What is compared and carried over beside the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // one switch a key
pub struct Preserve {
    /// PRESERVE_PERMISSIONS.
    pub permissions: bool,
    /// PRESERVE_OWNER.
    pub owner: bool,
    /// PRESERVE_GROUP.
    pub group: bool,
    /// PRESERVE_EXECUTABILITY (matters only without PRESERVE_PERMISSIONS).
    pub executability: bool,
    /// PRESERVE_ACL.
    pub acl: bool,
    /// PRESERVE_XATTR.
    pub xattr: bool,
    /// COPY_SYMLINKS.
    pub copy_symlinks: bool,
    /// KEEP_DIRLINKS.
    pub keep_dirlinks: bool,
    /// PRESERVE_HARDLINKS.
    pub hardlinks: bool,
    /// CHECKSUM.
    pub checksum: bool,
    /// Modification times (RSYNC_OPTIONAL_ARGS may hold `--no-times`).
    pub times: bool,
    /// Those of directories (`--omit-dir-times`).
    pub dir_times: bool,
}

impl Preserve {
    /// What is preserved where no key says otherwise.
    pub const USUAL: Preserve = Preserve {
        permissions: true,
        owner: true,
        group: true,
        executability: true,
        acl: false,
        xattr: false,
        copy_symlinks: false,
        keep_dirlinks: false,
        hardlinks: false,
        checksum: false,
        times: true,
        dir_times: true,
    };
}

impl Preserve {
    /// Whether any link may count as what it points at. What is behind it may lie anywhere.
    #[must_use]
    pub fn follows_links(&self) -> bool {
        self.copy_symlinks || self.keep_dirlinks
    }
}

/// How changes turn into a plan.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)] // one switch a key
pub struct Policy {
    /// CONFLICT_PREVALANCE.
    pub prevalence: Side,
    /// FORCE_CONFLICT_PREVALANCE.
    pub force_prevalence: bool,
    /// SYNC_TYPE: the source of a one-way task; `None` for a two-way one.
    pub one_way_from: Option<Side>,
    /// SKIP_DELETION.
    pub skip_deletion: Pair<bool>,
    /// DETECT_MOVES.
    pub detect_moves: bool,
    /// MAX_DELETE_PERCENT; 0 off.
    pub max_delete_percent: u32,
    /// ALLOW_EMPTY: the side may be emptied, and no guard stops a run for that.
    pub allow_empty: Pair<bool>,
    /// `--force-delete`.
    pub force_delete: bool,
    /// CONFLICT_COPY.
    pub conflict_copy: ConflictCopy,
    /// CONFLICT_BACKUP.
    pub backup: bool,
    /// CONFLICT_BACKUP_MULTIPLE.
    pub backup_multiple: bool,
    /// CONFLICT_BACKUP_DAYS; 0 keeps for ever.
    pub backup_days: u32,
    /// SOFT_DELETE.
    pub soft_delete: bool,
    /// SOFT_DELETE_DAYS; 0 keeps for ever.
    pub soft_delete_days: u32,
}

/// Where the version that lost a conflict goes (CONFLICT_COPY).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConflictCopy {
    /// Into `backup/` of its own side.
    Backup,
    /// Beside the winner, on both sides.
    Beside,
}

/// Which ssh implementation is used (SSH_TRANSPORT).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// OpenSSH where there is an `ssh`, else libssh2.
    Auto,
    /// The OpenSSH client.
    OpenSsh,
    /// The ssh2 crate.
    Libssh2,
}

/// Which osync over there is spoken with (REMOTE_OSYNC).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteOsync {
    /// The one in PATH, if there is one.
    Auto,
    /// None: the bare shell does the work.
    No,
    /// The one at this path, if it is there.
    At(PathBuf),
}

/// The way to a remote side (spec 5).
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)] // one switch a key
pub struct Remote {
    /// SSH_RSA_PRIVATE_KEY, or `~/.ssh/id_rsa` where that exists.
    pub key: Option<PathBuf>,
    /// SSH_PASSWORD_FILE.
    pub password_file: Option<PathBuf>,
    /// KRB5.
    pub krb5: bool,
    /// _REMOTE_TOKEN.
    pub token: Option<Secret>,
    /// SUDO_EXEC.
    pub sudo: bool,
    /// SSH_COMPRESSION.
    pub compression: bool,
    /// SSH_OPTIONAL_ARGS, split.
    pub optional_args: Vec<String>,
    /// SSH_IGNORE_KNOWN_HOSTS.
    pub ignore_known_hosts: bool,
    /// SSH_CONTROLMASTER. Where a quicksync task leaves it open, it is tried, with a fall-back.
    pub control_master: Option<bool>,
    /// SSH_TRANSPORT.
    pub transport: Transport,
    /// REMOTE_OSYNC.
    pub osync: RemoteOsync,
    /// REMOTE_HOST_PING.
    pub ping: bool,
    /// REMOTE_3RD_PARTY_HOSTS.
    pub third_party_hosts: Vec<String>,
}

/// Text that is never shown, not even by a debug print.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The secret itself, for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(not shown)")
    }
}

/// Time limits and waiting times, all in seconds; 0 is off.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// SOFT_MAX_EXEC_TIME.
    pub soft: u64,
    /// HARD_MAX_EXEC_TIME.
    pub hard: u64,
    /// KEEP_LOGGING.
    pub keep_logging: u64,
    /// MIN_WAIT.
    pub min_wait: u64,
    /// MAX_WAIT.
    pub max_wait: u64,
}

/// What a run does while another one holds a lock that it needs (spec 10, "Waiting instead of
/// failing").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenLocked {
    /// It fails.
    Fail,
    /// It waits for its turn, at most this long; `None` is for ever.
    Wait(Option<std::time::Duration>),
    /// It is left out, and that is no failure (`--skip-if-running`).
    Skip,
}

/// Locks and resuming.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools)] // one switch a key
pub struct Locking {
    /// LOCK_WAIT, `--wait`, `--skip-if-running`; monitors and batches wait by themselves.
    pub when_locked: WhenLocked,
    /// FORCE_STRANGER_LOCK_RESUME.
    pub stranger_resume: bool,
    /// RESUME_SYNC.
    pub resume: bool,
    /// RESUME_TRY, 0 with `--no-resume`.
    pub resume_try: u32,
}

/// What is shown and logged (spec 6).
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)] // one switch a flag
pub struct Output {
    /// LOGFILE.
    pub log_file: Option<PathBuf>,
    /// LOG_CONFLICTS, `--log-conflicts`, or implied by ALERT_CONFLICTS.
    pub log_conflicts: bool,
    /// `_DEBUG=yes`, or `DEBUG=yes` with `--verbose`.
    pub debug: bool,
    /// Not NO_COLOR.
    pub color: bool,
    /// Date and time instead of seconds since the start (monitor mode, batch).
    pub dated_prefix: bool,
    /// REPORT, `--report`: `%i` in it is the task, `%d` the day.
    pub report_file: Option<PathBuf>,
}

/// How the connection to the mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SmtpEncryption {
    /// Plain.
    #[default]
    None,
    /// STARTTLS.
    Tls,
    /// TLS from the first byte.
    Ssl,
}

/// Mail, metrics, and how a task is looked at.
#[derive(Debug, Clone, Default)]
#[allow(clippy::struct_excessive_bools)] // one switch a key
pub struct Alerts {
    /// `_DEBUG=yes`: no mail is sent.
    pub muted: bool,
    /// ALERT_REPEAT; `None` mails every failure.
    pub repeat: Option<std::time::Duration>,
    /// DESTINATION_MAILS.
    pub recipients: Vec<String>,
    /// ALWAYS_SEND_MAILS.
    pub always: bool,
    /// ALERT_CONFLICTS.
    pub conflicts: bool,
    /// MAIL_BODY_CHARSET; empty: UTF-8.
    pub charset: String,
    /// SENDER_MAIL.
    pub sender: Option<String>,
    /// SMTP_SERVER; `None` sends through a program of this machine.
    pub smtp_server: Option<String>,
    /// SMTP_PORT.
    pub smtp_port: u16,
    /// SMTP_ENCRYPTION.
    pub smtp_encryption: SmtpEncryption,
    /// SMTP_USER.
    pub smtp_user: Option<String>,
    /// SMTP_PASSWORD.
    pub smtp_password: Option<Secret>,
    /// METRICS_FILE.
    pub metrics_file: Option<PathBuf>,
    /// STATUS_MAX_AGE, in seconds; `None` goes by the usual time between runs.
    pub status_max_age: Option<u32>,
    /// Settings that still hold what a sample file had; they count as unset.
    pub placeholders: Vec<Placeholder>,
}

/// What is told over the network (spec 10, "Being told").
#[derive(Debug, Clone, Default)]
pub struct Notify {
    /// PING_URL.
    pub ping_url: Option<Secret>,
    /// NOTIFY_URL.
    pub url: Option<Secret>,
    /// NOTIFY_FORMAT.
    pub format: NotifyFormat,
    /// NOTIFY_ON.
    pub on: NotifyOn,
}

/// The service that takes notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NotifyFormat {
    /// Any that takes JSON of our own form.
    #[default]
    Json,
    /// ntfy.
    Ntfy,
    /// Slack, and what takes the same: Mattermost, Rocket.Chat, Discord with `/slack`.
    Slack,
    /// A room of Matrix.
    Matrix,
}

/// Which runs are notified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NotifyOn {
    /// Those that fail.
    #[default]
    Error,
    /// Those with warnings too.
    Warning,
    /// Those with conflicts too.
    Conflict,
    /// All.
    Always,
}

/// Commands around a run, for `sh -c`.
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    /// LOCAL_RUN_BEFORE_CMD.
    pub local_before: Option<String>,
    /// LOCAL_RUN_AFTER_CMD.
    pub local_after: Option<String>,
    /// REMOTE_RUN_BEFORE_CMD.
    pub remote_before: Option<String>,
    /// REMOTE_RUN_AFTER_CMD.
    pub remote_after: Option<String>,
    /// MAX_EXEC_TIME_PER_CMD_BEFORE, seconds, 0 unlimited.
    pub max_before: u64,
    /// MAX_EXEC_TIME_PER_CMD_AFTER, seconds, 0 unlimited.
    pub max_after: u64,
    /// STOP_ON_CMD_ERROR.
    pub stop_on_error: bool,
    /// RUN_AFTER_CMD_ON_ERROR.
    pub after_on_error: bool,
}

/// Monitor mode (spec 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Watch {
    /// One run.
    #[default]
    Off,
    /// `--on-changes`.
    Initiator,
    /// `--on-changes-target`.
    Target,
}

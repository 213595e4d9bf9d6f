//! Raw settings to a [`Config`]: default < environment < file < flag, all checks of
//! spec 2, all problems at once. Pure but for the questions to [`Surroundings`].

use super::problem::Origin;
use super::read::{Reading, read_boolean};
use super::settings::{Environment, FileSettings, Override, Settings};
use super::surroundings::Surroundings;
use super::{
    Alerts, Config, Hooks, Limits, Locking, Mode, Output, Policy, Preserve, Problem, Remote,
    RemoteOsync, Secret, Selection, SmtpEncryption, Transfer, Transport, Watch, WhenLocked,
    placeholder, places,
};
use crate::rsync::options;
use crate::tree::{Pair, Side};
use std::cell::RefCell;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the flags of the command line ask for.
#[derive(Debug, Clone, Default)]
#[allow(clippy::struct_excessive_bools)] // one switch a flag
pub struct Flags {
    /// Flags that set a key.
    pub overrides: Vec<Override>,
    /// `--dry`
    pub dry: bool,
    /// `--silent`
    pub silent: bool,
    /// `--verbose`
    pub verbose: bool,
    /// `--errors-only`
    pub errors_only: bool,
    /// `--no-prefix`
    pub no_prefix: bool,
    /// `--non-interactive`
    pub non_interactive: bool,
    /// `--summary`
    pub summary: bool,
    /// `--stats`
    pub stats: bool,
    /// `--force-unlock`
    pub force_unlock: bool,
    /// `--no-locks`
    pub no_locks: bool,
    /// `--skip-if-running`
    pub skip_if_running: bool,
    /// How long a run waits for a lock unless told otherwise, in seconds: one of a batch.
    pub usual_wait: Option<u64>,
    /// `--initialize`
    pub initialize: bool,
    /// `--force-delete`
    pub force_delete: bool,
    /// `--on-changes`, `--on-changes-target`
    pub watch: Watch,
    /// Lines carry date and time: a run inside a batch.
    pub dated_prefix: bool,
    /// `--report`
    pub report_file: Option<OsString>,
    /// Where the batch that started this run wants to read of it.
    pub batch_report: Option<PathBuf>,
    /// No mail about errors: the batch that started this run sees to it.
    pub hold_alert: bool,
}

/// What came of the settings: a configuration, or what is wrong with them.
#[derive(Debug, Clone)]
pub struct Resolution {
    /// The raw values with their origins.
    pub settings: Settings,
    /// The result, if there are no errors.
    pub config: Option<Config>,
    /// Why there is no result.
    pub errors: Vec<Problem>,
    /// What deserves a warning.
    pub warnings: Vec<Problem>,
}

/// Resolves the settings of one task.
#[must_use]
pub fn resolve(
    file: Option<&FileSettings>,
    flags: &Flags,
    environment: &Environment,
    surroundings: &dyn Surroundings,
) -> Resolution {
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    let settings =
        Settings::gather(file, &flags.overrides, environment, &mut errors, &mut warnings);
    let reading = Reading {
        settings: &settings,
        surroundings,
        home: environment.filled("HOME"),
        problems: RefCell::default(),
        asked: RefCell::default(),
    };
    let config = build(&reading, flags, environment, file.is_some());
    warnings.extend(foreign_revision(&reading));
    let broken = file.map(|f| &f.parsed.broken);
    let mut found = reading.problems.into_inner();
    // What could not be read has been complained about already.
    found.retain(|p| !p.key.as_ref().is_some_and(|k| broken.is_some_and(|b| b.contains(k))));
    if errors.iter().any(hides_settings) {
        found.retain(|p| !p.key.as_ref().is_some_and(|key| is_missing(&settings, key)));
    }
    errors.extend(found);
    // Those of the file in its order, the others behind them.
    errors.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
    let config = errors.is_empty().then_some(config);
    Resolution { settings, config, errors, warnings }
}

/// Lines that could not be read, and settings under an older name, may be just those that
/// seem to be missing.
fn hides_settings(error: &Problem) -> bool {
    error.key.as_ref().is_none_or(|key| super::keys::obsolete(key).is_some())
}

fn is_missing(settings: &Settings, key: &str) -> bool {
    settings.get(key).is_none_or(|setting| setting.origin == Origin::Default)
}

/// Any 1.x is fine, and so is none.
fn foreign_revision(r: &Reading<'_>) -> Option<Problem> {
    const KEY: &str = "CONFIG_FILE_REVISION";
    let revision = r.filled(KEY).filter(|text| text != "1" && !text.starts_with("1."))?;
    Some(r.problem(KEY, format!("'{revision}' is unknown; this osync knows 1.x")))
}

fn build(r: &Reading<'_>, flags: &Flags, environment: &Environment, from_file: bool) -> Config {
    let replicas = places::replicas(r, flags.watch);
    Config {
        instance_id: places::instance_id(r, from_file),
        state_dirs: places::state_dirs(r, &replicas),
        replicas,
        create_dirs: r.boolean("CREATE_DIRS"),
        minimum_space: r.number("MINIMUM_SPACE", u64::MAX),
        history_days: r.number("HISTORY_DAYS", u32::MAX.into()),
        selection: Selection { rules: super::patterns::rules(r), listing_args: Vec::new() },
        transfer: transfer(r, flags),
        preserve: preserve(r),
        policy: policy(r, flags),
        remote: remote(r, environment, from_file),
        limits: limits(r),
        locking: Locking {
            use_locks: !flags.no_locks,
            when_locked: when_locked(r, flags),
            force_unlock: flags.force_unlock,
            stranger_resume: r.boolean("FORCE_STRANGER_LOCK_RESUME"),
            resume: r.boolean("RESUME_SYNC"),
            resume_try: r.number("RESUME_TRY", u32::MAX.into()),
        },
        output: output(r, flags, environment),
        alerts: alerts(r, flags, environment),
        hooks: hooks(r),
        mode: Mode { dry: flags.dry, initialize: flags.initialize, watch: flags.watch },
    }
    .with_rsync_arguments(r)
}

impl Config {
    /// RSYNC_OPTIONAL_ARGS, and what follows from them.
    fn with_rsync_arguments(mut self, r: &Reading<'_>) -> Self {
        match options::parse(&r.text("RSYNC_OPTIONAL_ARGS")) {
            Ok(groups) => {
                let kept = options::times(&groups);
                (self.preserve.times, self.preserve.dir_times) = (kept.files, kept.dirs);
                self.selection.listing_args = options::listing(&groups);
                self.transfer.optional_args =
                    groups.into_iter().flat_map(|group| group.words).collect();
            }
            Err(problems) => {
                for problem in problems {
                    r.complain("RSYNC_OPTIONAL_ARGS", problem);
                }
            }
        }
        self
    }
}

/// A monitor waits as long as it would wait for a change, a batch as it says; 0, which sample
/// files hold, is no wish of its own.
fn when_locked(r: &Reading<'_>, flags: &Flags) -> WhenLocked {
    let wanted: u64 = r.number("LOCK_WAIT", u32::MAX.into());
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    match (flags.skip_if_running, wanted, flags.watch, flags.usual_wait) {
        (true, ..) => WhenLocked::Skip,
        (_, 1.., ..) => WhenLocked::Wait(seconds(wanted)),
        (_, 0, Watch::Initiator, _) => {
            let max_wait: u64 = r.number("MAX_WAIT", u32::MAX.into());
            WhenLocked::Wait(seconds(max_wait).filter(|limit| !limit.is_zero()))
        }
        (.., Some(0)) => WhenLocked::Wait(None),
        (.., Some(usual)) => WhenLocked::Wait(seconds(usual)),
        _ => WhenLocked::Fail,
    }
}

fn transfer(r: &Reading<'_>, flags: &Flags) -> Transfer {
    let executable = r.text("RSYNC_EXECUTABLE");
    if executable.starts_with('-') || executable.contains(['\n', '\0']) {
        r.complain("RSYNC_EXECUTABLE", format!("'{executable}' is no name of a program"));
    }
    Transfer {
        executable,
        remote_path: r.far_path("RSYNC_REMOTE_PATH"),
        bandwidth: r.number("BANDWIDTH", u64::MAX / 1024),
        compress: r.boolean("RSYNC_COMPRESS"),
        partial: r.boolean("PARTIAL"),
        delta_copies: r.boolean("DELTA_COPIES"),
        delta_copies_asked: r.is_set("DELTA_COPIES") && r.boolean("DELTA_COPIES"),
        optional_args: Vec::new(),
        stats: flags.stats,
    }
}

fn preserve(r: &Reading<'_>) -> Preserve {
    Preserve {
        permissions: r.boolean("PRESERVE_PERMISSIONS"),
        owner: r.boolean("PRESERVE_OWNER"),
        group: r.boolean("PRESERVE_GROUP"),
        executability: r.boolean("PRESERVE_EXECUTABILITY"),
        acl: r.boolean("PRESERVE_ACL"),
        xattr: r.boolean("PRESERVE_XATTR"),
        copy_symlinks: r.boolean("COPY_SYMLINKS"),
        keep_dirlinks: r.boolean("KEEP_DIRLINKS"),
        hardlinks: r.boolean("PRESERVE_HARDLINKS"),
        checksum: r.boolean("CHECKSUM"),
        times: true,
        dir_times: true,
    }
}

fn policy(r: &Reading<'_>, flags: &Flags) -> Policy {
    Policy {
        prevalence: match r.choice("CONFLICT_PREVALANCE") {
            "target" => Side::Target,
            _ => Side::Initiator,
        },
        force_prevalence: r.boolean("FORCE_CONFLICT_PREVALANCE"),
        one_way_from: match r.choice("SYNC_TYPE") {
            "initiator2target" => Some(Side::Initiator),
            "target2initiator" => Some(Side::Target),
            _ => None,
        },
        skip_deletion: r.sides("SKIP_DELETION"),
        detect_moves: r.boolean("DETECT_MOVES"),
        max_delete_percent: r.number("MAX_DELETE_PERCENT", 100),
        allow_empty: match r.choice("ALLOW_EMPTY") {
            "initiator" => Pair::new(true, false),
            "target" => Pair::new(false, true),
            "both" => Pair::new(true, true),
            _ => Pair::default(),
        },
        force_delete: flags.force_delete,
        backup: r.boolean("CONFLICT_BACKUP"),
        backup_multiple: r.boolean("CONFLICT_BACKUP_MULTIPLE"),
        backup_days: r.number("CONFLICT_BACKUP_DAYS", u32::MAX.into()),
        soft_delete: r.boolean("SOFT_DELETE"),
        soft_delete_days: r.number("SOFT_DELETE_DAYS", u32::MAX.into()),
    }
}

fn remote(r: &Reading<'_>, environment: &Environment, from_file: bool) -> Remote {
    let usual_key = || {
        let home = environment.filled("HOME")?;
        let key = Path::new(home).join(".ssh/id_rsa");
        r.surroundings.is_file(&key).then_some(key)
    };
    let control_master = r.boolean("SSH_CONTROLMASTER");
    Remote {
        key: r.path("SSH_RSA_PRIVATE_KEY").or_else(usual_key),
        password_file: r.path("SSH_PASSWORD_FILE"),
        krb5: r.boolean("KRB5"),
        token: token(r),
        sudo: r.boolean("SUDO_EXEC"),
        compression: r.boolean("SSH_COMPRESSION"),
        optional_args: r.arguments("SSH_OPTIONAL_ARGS"),
        ignore_known_hosts: r.boolean("SSH_IGNORE_KNOWN_HOSTS"),
        control_master: (from_file || r.is_set("SSH_CONTROLMASTER")).then_some(control_master),
        transport: match r.choice("SSH_TRANSPORT") {
            "openssh" => Transport::OpenSsh,
            "libssh2" => Transport::Libssh2,
            _ => Transport::Auto,
        },
        osync: remote_osync(r),
        ping: r.boolean("REMOTE_HOST_PING"),
        third_party_hosts: r.words("REMOTE_3RD_PARTY_HOSTS"),
    }
}

fn remote_osync(r: &Reading<'_>) -> RemoteOsync {
    let text = r.text("REMOTE_OSYNC");
    match (text.trim(), read_boolean(text.as_bytes())) {
        (_, Some(false)) => RemoteOsync::No,
        ("", _) | (_, Some(true)) => RemoteOsync::Auto,
        (word, _) if word.eq_ignore_ascii_case("auto") => RemoteOsync::Auto,
        (path, _) if path.starts_with('/') => RemoteOsync::At(path.into()),
        (word, _) => {
            r.complain("REMOTE_OSYNC", format!("'{word}' is not auto, no or a path from /"));
            RemoteOsync::No
        }
    }
}

/// The token stands in remote command lines and must be one plain word there.
fn token(r: &Reading<'_>) -> Option<Secret> {
    let token = r.filled("_REMOTE_TOKEN")?;
    if token.bytes().any(|b| !(b.is_ascii_alphanumeric() || b"_-.+=:@,%/".contains(&b))) {
        let text = "a token is made of letters, digits and the signs _ - . + = : @ , % /";
        r.complain("_REMOTE_TOKEN", text);
    }
    Some(Secret::new(token))
}

fn limits(r: &Reading<'_>) -> Limits {
    let seconds = |key| r.number(key, u32::MAX.into());
    Limits {
        soft: seconds("SOFT_MAX_EXEC_TIME"),
        hard: seconds("HARD_MAX_EXEC_TIME"),
        keep_logging: seconds("KEEP_LOGGING"),
        min_wait: seconds("MIN_WAIT"),
        max_wait: seconds("MAX_WAIT"),
    }
}

fn output(r: &Reading<'_>, flags: &Flags, environment: &Environment) -> Output {
    Output {
        log_file: r.path("LOGFILE"),
        silent: flags.silent,
        verbose: flags.verbose,
        errors_only: flags.errors_only,
        no_prefix: flags.no_prefix,
        non_interactive: flags.non_interactive,
        summary: flags.summary,
        log_conflicts: r.boolean("LOG_CONFLICTS") || r.boolean("ALERT_CONFLICTS"),
        debug: environment.says_yes("_DEBUG") || flags.verbose && environment.says_yes("DEBUG"),
        color: environment.filled("NO_COLOR").is_none(),
        dated_prefix: flags.dated_prefix || flags.watch != Watch::Off,
        batch_report: flags.batch_report.clone(),
        report_file: flags
            .report_file
            .as_ref()
            .map(|path| r.absolute(&r.with_home(path.as_bytes()))),
    }
}

fn alerts(r: &Reading<'_>, flags: &Flags, environment: &Environment) -> Alerts {
    let smtp_port = r.number("SMTP_PORT", u16::MAX.into());
    if smtp_port == 0 && r.bytes("SMTP_PORT").trim_ascii() == b"0" {
        r.complain("SMTP_PORT", "'0' is no port");
    }
    let mut placeholders = Vec::new();
    let mut meant = |key: &'static str, value: &String| {
        let found = placeholder::find(key, value);
        let is_meant = found.is_none();
        placeholders.extend(found);
        is_meant
    };
    let recipients: Vec<String> = r
        .words("DESTINATION_MAILS")
        .into_iter()
        .filter(|word| meant("DESTINATION_MAILS", word))
        .collect();
    let sender = r.filled("SENDER_MAIL").filter(|text| meant("SENDER_MAIL", text));
    let smtp_server = r.filled("SMTP_SERVER").filter(|text| meant("SMTP_SERVER", text));
    // where nobody is to get a mail, the rest of the samples does no harm
    if recipients.is_empty() {
        placeholders.retain(|placeholder| placeholder.key == "DESTINATION_MAILS");
    }
    Alerts {
        hold_errors: flags.hold_alert,
        muted: environment.says_yes("_DEBUG"),
        recipients,
        placeholders,
        always: r.boolean("ALWAYS_SEND_MAILS"),
        conflicts: r.boolean("ALERT_CONFLICTS"),
        charset: r.text("MAIL_BODY_CHARSET"),
        sender,
        smtp_server,
        smtp_port,
        smtp_encryption: match r.choice("SMTP_ENCRYPTION") {
            "tls" => SmtpEncryption::Tls,
            "ssl" => SmtpEncryption::Ssl,
            _ => SmtpEncryption::None,
        },
        smtp_user: r.filled("SMTP_USER"),
        smtp_password: r.filled("SMTP_PASSWORD").map(Secret::new),
        metrics_file: r.path("METRICS_FILE"),
    }
}

fn hooks(r: &Reading<'_>) -> Hooks {
    Hooks {
        local_before: r.filled("LOCAL_RUN_BEFORE_CMD"),
        local_after: r.filled("LOCAL_RUN_AFTER_CMD"),
        remote_before: r.filled("REMOTE_RUN_BEFORE_CMD"),
        remote_after: r.filled("REMOTE_RUN_AFTER_CMD"),
        max_before: r.number("MAX_EXEC_TIME_PER_CMD_BEFORE", u32::MAX.into()),
        max_after: r.number("MAX_EXEC_TIME_PER_CMD_AFTER", u32::MAX.into()),
        stop_on_error: r.boolean("STOP_ON_CMD_ERROR"),
        after_on_error: r.boolean("RUN_AFTER_CMD_ON_ERROR"),
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;

//! Raw settings to a [`Config`]: default < environment < file < flag, all checks of
//! spec 2, all problems at once. Pure but for the questions to [`Surroundings`].

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;

use super::keys::{self, ValueKind};
use super::settings::{Environment, FileSettings, Override, Settings};
use super::settings::{Origin, Problem};
use super::toml_file::ARRAY_SEPARATOR;
use super::{
    Alerts, Config, ConflictCopy, Flags, Hooks, Limits, Location, Locking, Notify, NotifyFormat,
    NotifyOn, Output, Policy, Preserve, Remote, RemoteOsync, RuleText, Secret, Selection,
    SmtpEncryption, StarTarget, TransferSettings, Transport, Watch, WhenLocked,
};
use crate::rsync::options;
use crate::tree::path::{escape, with_home};
use crate::tree::{Pair, Side};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The settings as a configuration, or what is wrong with them.
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

impl Resolution {
    /// Whether all that is wrong was typed as a flag: then the command line is bad usage (spec 1,
    /// "Exit status").
    #[must_use]
    pub fn is_bad_usage(&self) -> bool {
        let is_flag = |problem: &Problem| matches!(problem.origin, Origin::Flag(_));
        !self.errors.is_empty() && self.errors.iter().all(is_flag)
    }
}

/// Resolves the settings of one task.
#[must_use]
pub fn resolve(
    file: Option<&FileSettings>,
    flags: &Flags,
    environment: &Environment,
    surroundings: &dyn Surroundings,
) -> Resolution {
    resolve_with(&flags.overrides(), file, flags, environment, surroundings)
}

fn resolve_with(
    overrides: &[Override],
    file: Option<&FileSettings>,
    flags: &Flags,
    environment: &Environment,
    surroundings: &dyn Surroundings,
) -> Resolution {
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    let settings = Settings::gather(file, overrides, environment, &mut errors, &mut warnings);
    let reading = Reading {
        settings: &settings,
        surroundings,
        home: environment.filled("HOME"),
        problems: RefCell::default(),
        asked: RefCell::default(),
    };
    let config = build(&reading, flags, environment);
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
    errors.sort_by_key(|problem| problem.line().unwrap_or(usize::MAX));
    let config = errors.is_empty().then_some(config);
    Resolution { settings, config, errors, warnings }
}

/// Lines that could not be read, and settings under an older name, may be just those that
/// seem to be missing.
fn hides_settings(error: &Problem) -> bool {
    error.key.as_ref().is_none_or(|key| keys::obsolete(key).is_some())
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

fn build(r: &Reading<'_>, flags: &Flags, environment: &Environment) -> Config {
    let targets = targets(r, flags.watch());
    let replicas = replicas(r, flags.watch(), &targets);
    Config {
        file: r.settings.file.as_ref().map(|file| r.absolute(file)),
        instance_id: instance_id(r),
        star: None,
        state_dirs: state_dirs(r, &replicas),
        only: only(r, flags, &targets),
        replicas,
        targets,
        create_dirs: r.boolean("CREATE_DIRS"),
        minimum_space: r.number("MINIMUM_SPACE", u64::MAX),
        history_days: r.number("HISTORY_DAYS", u32::MAX.into()),
        scrub: r.boolean("SCRUB"),
        selection: Selection { rules: pattern_rules(r), listing_args: Vec::new() },
        transfer: transfer(r, flags),
        preserve: preserve(r),
        policy: policy(r, flags),
        remote: remote(r, environment),
        limits: limits(r),
        locking: Locking {
            when_locked: when_locked(r, flags),
            stranger_resume: r.boolean("FORCE_STRANGER_LOCK_RESUME"),
            resume: r.boolean("RESUME_SYNC"),
            resume_try: r.number("RESUME_TRY", u32::MAX.into()),
        },
        output: output(r, flags, environment),
        alerts: alerts(r, environment),
        notify: notify(r),
        hooks: hooks(r),
        flags: flags.clone(),
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

/// LOCK_WAIT, where it is set. A 0, which sample files hold, counts as not set: then a monitor
/// waits as long as it would wait for a change, and a batch as it says.
fn when_locked(r: &Reading<'_>, flags: &Flags) -> WhenLocked {
    let wanted: u64 = r.number("LOCK_WAIT", u32::MAX.into());
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    match (flags.skip_if_running, wanted, flags.watch(), flags.usual_wait) {
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

fn transfer(r: &Reading<'_>, flags: &Flags) -> TransferSettings {
    let executable = r.text("RSYNC_EXECUTABLE");
    if executable.starts_with('-') || executable.contains(['\n', '\0']) {
        r.complain("RSYNC_EXECUTABLE", format!("'{executable}' is not the name of a program"));
    }
    TransferSettings {
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
        conflict_copy: match r.choice("CONFLICT_COPY") {
            "beside" => ConflictCopy::Beside,
            _ => ConflictCopy::Backup,
        },
        backup: r.boolean("CONFLICT_BACKUP"),
        backup_multiple: r.boolean("CONFLICT_BACKUP_MULTIPLE"),
        backup_days: r.number("CONFLICT_BACKUP_DAYS", u32::MAX.into()),
        soft_delete: r.boolean("SOFT_DELETE"),
        soft_delete_days: r.number("SOFT_DELETE_DAYS", u32::MAX.into()),
    }
}

#[cfg(test)]
impl Policy {
    /// The policy of a task that sets none of its keys.
    pub fn of_defaults() -> Self {
        let (mut errors, mut warnings) = (Vec::new(), Vec::new());
        let environment = Environment::default();
        let settings = Settings::gather(None, &[], &environment, &mut errors, &mut warnings);
        let reading = Reading {
            settings: &settings,
            surroundings: &ThisMachine,
            home: None,
            problems: RefCell::default(),
            asked: RefCell::default(),
        };
        policy(&reading, &Flags::default())
    }
}

fn remote(r: &Reading<'_>, environment: &Environment) -> Remote {
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
        control_master: (r.settings.file.is_some() || r.is_set("SSH_CONTROLMASTER"))
            .then_some(control_master),
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
    match (text.trim(), keys::read_boolean(text.as_bytes())) {
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
        log_conflicts: r.boolean("LOG_CONFLICTS") || r.boolean("ALERT_CONFLICTS"),
        debug: environment.says_yes("_DEBUG") || flags.verbose && environment.says_yes("DEBUG"),
        color: environment.filled("NO_COLOR").is_none(),
        dated_prefix: flags.dated_prefix || flags.watch() != Watch::Off,
        report_file: r.path("REPORT"),
    }
}

fn alerts(r: &Reading<'_>, environment: &Environment) -> Alerts {
    let smtp_port = r.number("SMTP_PORT", u16::MAX.into());
    if smtp_port == 0 && r.bytes("SMTP_PORT").trim_ascii() == b"0" {
        r.complain("SMTP_PORT", "'0' is not a port");
    }
    let mut placeholders = Vec::new();
    let mut meant = |key: &'static str, value: &String| {
        let found = find(key, value);
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
        muted: environment.says_yes("_DEBUG"),
        recipients,
        placeholders,
        repeat: Some(r.number("ALERT_REPEAT", u32::MAX.into()))
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs),
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
        status_max_age: Some(r.number("STATUS_MAX_AGE", u32::MAX.into())).filter(|age| *age > 0),
    }
}

fn notify(r: &Reading<'_>) -> Notify {
    Notify {
        ping_url: url(r, "PING_URL"),
        url: url(r, "NOTIFY_URL"),
        format: match r.choice("NOTIFY_FORMAT") {
            "ntfy" => NotifyFormat::Ntfy,
            "slack" => NotifyFormat::Slack,
            "matrix" => NotifyFormat::Matrix,
            _ => NotifyFormat::Json,
        },
        on: match r.choice("NOTIFY_ON") {
            "warning" => NotifyOn::Warning,
            "conflict" => NotifyOn::Conflict,
            "always" => NotifyOn::Always,
            _ => NotifyOn::Error,
        },
    }
}

/// A URL. Who knows it can use it, so it is a secret.
fn url(r: &Reading<'_>, key: &str) -> Option<Secret> {
    let text = r.filled(key)?;
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_url = host.is_some_and(|host| !host.is_empty() && !host.starts_with(['/', '?', '#']));
    if !is_url || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        r.complain(key, "the value is not a URL that begins with https:// or http://");
    }
    Some(Secret::new(text))
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

/// INSTANCE_ID: part of file names.
fn instance_id(r: &Reading<'_>) -> String {
    const KEY: &str = "INSTANCE_ID";
    if r.settings.file.is_some() && !r.is_set(KEY) {
        r.complain(KEY, "not set; give every task a name of its own");
    }
    let id = r.text(KEY);
    if id.contains(['/', '\0', '\n']) || id == "." || id == ".." {
        let shown = escape(id.as_bytes());
        r.complain(KEY, format!("'{shown}' cannot be part of a file name"));
    } else if id.len() > 200 {
        r.complain(KEY, "longer than 200 bytes; file names made of it would be too long");
    }
    id
}

const TARGETS: &str = "TARGET_SYNC_DIRS";

/// Whether TARGET_SYNC_DIRS counts: it is not empty, and does not stand in the environment while
/// a stronger source has TARGET_SYNC_DIR.
fn has_list(r: &Reading<'_>) -> bool {
    let (list, origin) = r.raw(TARGETS);
    let is_passed_over =
        origin == Origin::Environment && origin_of_one_target(r) > Origin::Environment;
    !list.trim_ascii().is_empty() && !is_passed_over
}

/// Where TARGET_SYNC_DIR was set. One that is empty in a file or the environment was not set.
fn origin_of_one_target(r: &Reading<'_>) -> Origin {
    match r.raw("TARGET_SYNC_DIR") {
        (_, flag @ Origin::Flag(_)) => flag,
        (value, _) if value.trim_ascii().is_empty() => Origin::Default,
        (_, origin) => origin,
    }
}

/// What TARGET_SYNC_DIRS holds.
fn target_names<'r>(r: &'r Reading<'_>) -> Vec<&'r [u8]> {
    let mut names = r.list(TARGETS);
    if !r.bytes(TARGETS).contains(&ARRAY_SEPARATOR) {
        // a list of a .conf file may go over several lines
        names.iter_mut().for_each(|name| *name = name.trim_ascii());
        names.retain(|name| !name.is_empty());
    }
    names
}

/// TARGET_SYNC_DIRS: the targets of a star.
fn targets(r: &Reading<'_>, watch: Watch) -> Vec<StarTarget> {
    if !has_list(r) {
        return Vec::new();
    }
    let names = target_names(r);
    if names.is_empty() {
        r.complain(TARGETS, "it has separators, and no directory between them");
    }
    let list = r.raw(TARGETS).1;
    match origin_of_one_target(r) {
        Origin::Default => {}
        Origin::Environment if list != Origin::Environment => {}
        Origin::Flag(_) => r.complain(
            TARGETS,
            "this task has a list of targets; choose one of them by --only and not by --target",
        ),
        Origin::Environment | Origin::File(_) => {
            r.complain(TARGETS, "TARGET_SYNC_DIR is set too; remove one of the two");
        }
    }
    if watch == Watch::Target {
        let text = "a target helper watches one target: give it a file with TARGET_SYNC_DIR";
        r.complain(TARGETS, text);
    }
    if r.choice("SYNC_TYPE") == "target2initiator" {
        r.complain(
            "SYNC_TYPE",
            "target2initiator has one source; each target of a list would take away what the \
             others have",
        );
    }
    let mut targets: Vec<StarTarget> = Vec::new();
    for name in names {
        let Some(place) = place(r, TARGETS, name) else { continue };
        let meets = |other: &&StarTarget| meet(r, &place, &other.place);
        if let Some(other) = targets.iter().find(meets) {
            let (one, other) = (escape(name), escape(other.name.as_bytes()));
            let text = format!(
                "'{one}' and '{other}' are the same directory, or one lies inside the other"
            );
            r.complain(TARGETS, text);
        }
        targets.push(StarTarget { name: OsStr::from_bytes(name).to_owned(), place });
    }
    targets
}

/// Whether two places are one, or one lies in the other, as far as their names tell.
fn meet(r: &Reading<'_>, one: &Location, other: &Location) -> bool {
    let nested = |a: &Path, b: &Path| a.starts_with(b) || b.starts_with(a);
    match (one, other) {
        (Location::Local(one), Location::Local(other)) => {
            nested(&r.surroundings.real_path(one), &r.surroundings.real_path(other))
        }
        (Location::Ssh(one), Location::Ssh(other)) => {
            one.host.eq_ignore_ascii_case(&other.host)
                && (&one.user, one.port.unwrap_or(22)) == (&other.user, other.port.unwrap_or(22))
                && nested(&one.path, &other.path)
        }
        _ => false,
    }
}

/// `--only`: a target as the list has it, or its number in it.
fn only(r: &Reading<'_>, flags: &Flags, targets: &[StarTarget]) -> Option<usize> {
    let word = flags.only.as_ref()?;
    let found = find_target(targets, word);
    if found.is_none() {
        let word = escape(word.as_bytes());
        let text = match targets.len() {
            0 => format!("there is no list of targets to choose '{word}' from"),
            1 => format!("'{word}' is neither the one target of the list nor its number"),
            n => format!("'{word}' is no target of the list, and no number from 1 to {n}"),
        };
        r.complain_of_flag("--only", text);
    }
    found
}

/// The place of a target in the list, by its name there, by its number, or as it is shown: that is
/// all that JSON can hold of a name that is no text. A word that is one target's name and shown for
/// another names neither.
fn find_target(targets: &[StarTarget], word: &OsStr) -> Option<usize> {
    let by_name = targets.iter().position(|target| target.name == word);
    let is_shown_so = |target: &StarTarget| {
        word == &*escape(target.name.as_bytes()) || word == &*target.place.to_string()
    };
    let as_shown = targets.iter().position(is_shown_so);
    if let (Some(one), Some(other)) = (by_name, as_shown)
        && one != other
    {
        return None;
    }
    let number = || word.to_str()?.parse::<usize>().ok()?.checked_sub(1);
    by_name.or(as_shown).or_else(|| number().filter(|index| *index < targets.len()))
}

/// INITIATOR_SYNC_DIR and TARGET_SYNC_DIR, or the first one of the list.
fn replicas(r: &Reading<'_>, watch: Watch, targets: &[StarTarget]) -> Pair<Location> {
    let is_star = has_list(r);
    let read = Pair::from_fn(|side| match side {
        Side::Target if is_star => targets.first().map(|target| target.place.clone()),
        side => place(r, key_of(side), r.bytes(key_of(side))),
    });
    let may_be_remote = if watch == Watch::Target { Side::Initiator } else { Side::Target };
    let must_be_local = may_be_remote.other();
    if read[must_be_local].as_ref().is_some_and(Location::is_remote) {
        let text = match must_be_local {
            Side::Initiator => "the initiator must be a directory of this machine",
            Side::Target => {
                "with --on-changes-target, the target must be a directory of this machine"
            }
        };
        r.complain(key_of(must_be_local), text);
    }
    if let Some(Location::Local(initiator)) = &read.initiator {
        if let (false, Some(Location::Local(target))) = (is_star, &read.target) {
            keep_apart(r, "TARGET_SYNC_DIR", initiator, target);
        }
        for target in targets {
            if let Location::Local(target) = &target.place {
                keep_apart(r, TARGETS, initiator, target);
            }
        }
    }
    read.map(|location| location.unwrap_or_else(|| Location::Local(PathBuf::new())))
}

fn key_of(side: Side) -> &'static str {
    match side {
        Side::Initiator => "INITIATOR_SYNC_DIR",
        Side::Target => "TARGET_SYNC_DIR",
    }
}

fn place(r: &Reading<'_>, key: &str, text: &[u8]) -> Option<Location> {
    match Location::parse(text) {
        Ok(Location::Local(path)) => {
            let path = r.absolute(&r.with_home(path.as_os_str().as_bytes()));
            Some(Location::Local(path))
        }
        Ok(remote) => Some(remote),
        Err(error) => {
            r.complain(key, error.to_string());
            None
        }
    }
}

/// Two replicas may not share anything.
fn keep_apart(r: &Reading<'_>, key: &str, initiator: &Path, target: &Path) {
    let (a, b) = (r.surroundings.real_path(initiator), r.surroundings.real_path(target));
    let text = if a == b {
        "initiator and target are the same directory"
    } else if b.starts_with(&a) {
        "the target lies inside the initiator"
    } else if a.starts_with(&b) {
        "the initiator lies inside the target"
    } else {
        return;
    };
    let shown = escape(b.as_os_str().as_bytes());
    r.complain(key, format!("{text} ('{shown}')"));
}

/// INITIATOR_CUSTOM_STATE_DIR and TARGET_CUSTOM_STATE_DIR.
fn state_dirs(r: &Reading<'_>, replicas: &Pair<Location>) -> Pair<Option<PathBuf>> {
    let keys = Pair::new("INITIATOR_CUSTOM_STATE_DIR", "TARGET_CUSTOM_STATE_DIR");
    let dirs = Pair::from_fn(|side| {
        let path = match replicas[side].is_remote() {
            true => r.far_path(keys[side]),
            false => r.far_path(keys[side]).map(|p| r.with_home(p.as_os_str().as_bytes())),
        };
        if path.as_ref().is_some_and(|path| !path.is_absolute()) {
            r.complain(keys[side], "must be an absolute path");
        }
        path
    });
    if let (Some(initiator), Some(target)) = (&dirs.initiator, &dirs.target) {
        let local = !replicas.initiator.is_remote() && !replicas.target.is_remote();
        if local && r.surroundings.real_path(initiator) == r.surroundings.real_path(target) {
            r.complain(keys.target, "must be another directory than INITIATOR_CUSTOM_STATE_DIR");
        }
    }
    dirs
}

/// All rules; a pattern file that cannot be read is a problem.
fn pattern_rules(reading: &Reading<'_>) -> Vec<RuleText> {
    let include_first = reading.choice("RSYNC_PATTERN_FIRST") == "include";
    let mut rules = Vec::new();
    for include in [include_first, !include_first] {
        let (patterns, from) = if include {
            ("RSYNC_INCLUDE_PATTERN", "RSYNC_INCLUDE_FROM")
        } else {
            ("RSYNC_EXCLUDE_PATTERN", "RSYNC_EXCLUDE_FROM")
        };
        for pattern in reading.list(patterns) {
            rules.push(RuleText { include, from_file: false, pattern: pattern.to_vec() });
        }
        for line in lines_of(reading, from) {
            rules.push(RuleText { include, from_file: true, pattern: line });
        }
    }
    rules
}

fn split<'a>(mut text: &'a [u8], separator: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some(at) = text.windows(separator.len().max(1)).position(|w| w == separator) {
        parts.push(&text[..at]);
        text = &text[at + separator.len()..];
    }
    parts.push(text);
    parts.retain(|part| !part.is_empty());
    parts
}

fn lines_of(reading: &Reading<'_>, key: &str) -> Vec<Vec<u8>> {
    let Some(path) = pattern_file(reading, key) else { return Vec::new() };
    match reading.surroundings.read(&path) {
        // rsync, too, ends a line at either byte
        Ok(bytes) => bytes
            .split(|b| matches!(b, b'\n' | b'\r'))
            .filter(|line| !line.is_empty())
            .map(<[u8]>::to_vec)
            .collect(),
        Err(error) => {
            let shown = crate::tree::path::escape(path.as_os_str().as_bytes());
            reading.complain(key, format!("cannot read the pattern file '{shown}': {error}"));
            Vec::new()
        }
    }
}

/// A bare name lies beside the configuration file.
fn pattern_file(reading: &Reading<'_>, key: &str) -> Option<PathBuf> {
    let value = reading.bytes(key);
    if value.is_empty() {
        return None;
    }
    let bare = !value.contains(&b'/') && value != b"~";
    match (&reading.settings.file, bare) {
        (Some(file), true) => {
            let beside = file.parent().map(|dir| dir.join(OsStr::from_bytes(value)));
            beside.map(|path| reading.absolute(&path))
        }
        _ => reading.path(key),
    }
}

/// The settings, and the values of samples that nobody can mean.
const SAMPLES: &[(&str, &[&str])] = &[
    ("DESTINATION_MAILS", &["your@alert.tld", "infrastructure@example.com"]),
    ("SENDER_MAIL", &["alert@your.system.tld", "sender@example.com"]),
    ("SMTP_SERVER", &["smtp.your.isp.tld"]),
];

/// A setting that holds a sample's value and counts as unset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placeholder {
    /// The key.
    pub key: &'static str,
    /// The sample's value.
    pub value: String,
}

impl std::fmt::Display for Placeholder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Placeholder { key, value } = self;
        let then = match *key {
            "DESTINATION_MAILS" => "nobody gets a mail there",
            "SMTP_SERVER" => "mails go through a program of this machine",
            _ => "mails are from this user and host",
        };
        write!(f, "{key}: {value} is only the sample's value and counts as unset: {then}")
    }
}

/// Whether a value of this key is a sample's; the table's spelling of the key.
#[must_use]
pub fn find(key: &str, value: &str) -> Option<Placeholder> {
    let (key, samples) = SAMPLES.iter().find(|(known, _)| *known == key)?;
    let is_sample = samples.iter().any(|sample| value.trim().eq_ignore_ascii_case(sample));
    is_sample.then(|| Placeholder { key, value: value.trim().to_owned() })
}

/// Reads values one by one and collects what is wrong with them.
struct Reading<'a> {
    pub settings: &'a Settings,
    pub surroundings: &'a dyn Surroundings,
    pub home: Option<&'a OsStr>,
    pub problems: RefCell<Vec<Problem>>,
    /// Keys that were asked for: a test compares them with the table.
    pub asked: RefCell<BTreeSet<&'static str>>,
}

impl Reading<'_> {
    fn raw(&self, key: &str) -> (&[u8], Origin) {
        if let Some(known) = keys::find(key) {
            self.asked.borrow_mut().insert(known.name);
        }
        self.settings.get(key).map_or((b"".as_slice(), Origin::Default), |s| (&s.value, s.origin))
    }

    /// Adds a problem at the place where the key was set.
    pub fn complain(&self, key: &str, text: impl Into<String>) {
        let problem = self.problem(key, text);
        self.problems.borrow_mut().push(problem);
    }

    /// Adds a problem with a flag that sets no key.
    pub fn complain_of_flag(&self, flag: &'static str, text: impl Into<String>) {
        let origin = Origin::Flag(flag);
        let place = self.settings.place(origin);
        self.problems.borrow_mut().push(Problem { place, origin, key: None, text: text.into() });
    }

    /// A problem at the place where the key was set.
    pub fn problem(&self, key: &str, text: impl Into<String>) -> Problem {
        let (_, origin) = self.raw(key);
        let place = self.settings.place(origin);
        Problem { place, origin, key: Some(key.to_owned()), text: text.into() }
    }

    fn complain_of_value(&self, key: &str, wanted: &str) {
        let (value, _) = self.raw(key);
        let shown = match keys::find(key).map(|k| k.kind) {
            Some(ValueKind::Secret) => "the value".to_owned(),
            _ => format!("'{}'", escape(value)),
        };
        self.complain(key, format!("{shown} is not {wanted}"));
    }

    /// Whether somebody set the key.
    pub fn is_set(&self, key: &str) -> bool {
        self.raw(key).1 != Origin::Default
    }

    /// The bytes as they are.
    pub fn bytes(&self, key: &str) -> &[u8] {
        self.raw(key).0
    }

    /// `true|false|yes|no` in any case.
    pub fn boolean(&self, key: &str) -> bool {
        let value = self.bytes(key).trim_ascii();
        match keys::read_boolean(value) {
            Some(value) => value,
            None => {
                self.complain_of_value(key, "yes, no, true or false");
                keys::find(key).is_some_and(|k| k.default == "yes")
            }
        }
    }

    /// A whole number that fits its place.
    pub fn number<N: TryFrom<u64> + Default>(&self, key: &str, max: u64) -> N {
        let text = std::str::from_utf8(self.bytes(key)).unwrap_or("x").trim();
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = if digits { text.parse::<u64>().ok() } else { None };
        match number.filter(|n| *n <= max).and_then(|n| N::try_from(n).ok()) {
            Some(number) => number,
            None if digits => {
                self.complain_of_value(key, &format!("{max} or less"));
                N::default()
            }
            None => {
                self.complain_of_value(key, "a whole number (0 or more)");
                N::default()
            }
        }
    }

    /// Text, empty if it is not set.
    pub fn text(&self, key: &str) -> String {
        match std::str::from_utf8(self.bytes(key)) {
            Ok(text) => text.to_owned(),
            Err(_) => {
                self.complain_of_value(key, "UTF-8 text");
                String::new()
            }
        }
    }

    /// Text that is not empty.
    pub fn filled(&self, key: &str) -> Option<String> {
        Some(self.text(key)).filter(|text| !text.is_empty())
    }

    /// Words between blanks and commas.
    pub fn words(&self, key: &str) -> Vec<String> {
        let text = self.text(key);
        let blank = |c: char| c.is_whitespace() || c == ',' || c == ';';
        text.split(blank).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    /// Text split as a shell would.
    pub fn arguments(&self, key: &str) -> Vec<String> {
        shell_words::split(&self.text(key)).unwrap_or_else(|_| {
            self.complain(key, "a quote is not closed");
            Vec::new()
        })
    }

    /// The parts of a list that PATH_SEPARATOR_CHAR separates, or the elements of an array.
    pub fn list(&self, key: &str) -> Vec<&[u8]> {
        let value = self.bytes(key);
        let separator = match value.contains(&ARRAY_SEPARATOR) {
            true => &[ARRAY_SEPARATOR],
            false => self.bytes("PATH_SEPARATOR_CHAR"),
        };
        split(value, separator)
    }

    /// One of the words that the table allows, as the table spells it.
    pub fn choice(&self, key: &str) -> &'static str {
        let Some(ValueKind::Choice(allowed)) = keys::find(key).map(|k| k.kind) else { return "" };
        let value = self.bytes(key).trim_ascii();
        let found = allowed.iter().find(|word| value.eq_ignore_ascii_case(word.as_bytes()));
        found.copied().unwrap_or_else(|| {
            let words: Vec<_> = allowed.iter().filter(|w| !w.is_empty()).copied().collect();
            let (last, others) = words.split_last().unwrap_or((&"", &[]));
            self.complain_of_value(key, &format!("{} or {last}", others.join(", ")));
            allowed[0]
        })
    }

    /// Sides that are named in a list.
    pub fn sides(&self, key: &str) -> Pair<bool> {
        let mut named = Pair::new(false, false);
        for word in self.words(key) {
            match Side::BOTH.into_iter().find(|side| word.eq_ignore_ascii_case(side.name())) {
                Some(side) => named[side] = true,
                None => self.complain_of_value(key, "initiator, target, or initiator,target"),
            }
        }
        named
    }

    /// A path of this machine, absolute, with `~/` replaced.
    pub fn path(&self, key: &str) -> Option<PathBuf> {
        let bytes = self.bytes(key);
        (!bytes.is_empty()).then(|| self.absolute(&self.with_home(bytes)))
    }

    /// A path of another machine, as it is written.
    pub fn far_path(&self, key: &str) -> Option<PathBuf> {
        let bytes = self.bytes(key);
        (!bytes.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(bytes)))
    }

    /// `~/` at the beginning replaced by the home directory.
    pub fn with_home(&self, bytes: &[u8]) -> PathBuf {
        with_home(Path::new(OsStr::from_bytes(bytes)), self.home.map(Path::new))
    }

    /// The path as seen from the root, without touching it.
    pub fn absolute(&self, path: &Path) -> PathBuf {
        if path.is_absolute() {
            path.to_owned()
        } else {
            self.surroundings.current_dir().join(path)
        }
    }
}

/// Questions to the machine. Nothing is changed by asking them.
pub trait Surroundings {
    /// The directory that relative paths begin in.
    fn current_dir(&self) -> PathBuf;

    /// Whether there is a file of this name.
    fn is_file(&self, path: &Path) -> bool;

    /// The path with symbolic links resolved, as far as it exists.
    fn real_path(&self, path: &Path) -> PathBuf;

    /// The content of a pattern file.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
}

/// The machine this program runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThisMachine;

impl Surroundings for ThisMachine {
    fn current_dir(&self) -> PathBuf {
        std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"))
    }

    fn is_file(&self, path: &Path) -> bool {
        path.is_file()
    }

    fn real_path(&self, path: &Path) -> PathBuf {
        let mut missing = Vec::new();
        for present in path.ancestors() {
            if let Ok(real) = present.canonicalize() {
                return missing.iter().rev().fold(real, |path, name| path.join(name));
            }
            missing.extend(present.file_name());
        }
        path.to_owned()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }
}

#[cfg(test)]
mod patterns_tests {
    use super::*;

    #[test]
    fn patterns_are_split_at_the_separator() {
        for (text, separator, expected) in [
            ("tmp;archives;some path", ";", vec!["tmp", "archives", "some path"]),
            (";a;;b;", ";", vec!["a", "b"]),
            ("a;b|c", "|", vec!["a;b", "c"]),
            ("a::b:c", "::", vec!["a", "b:c"]),
            ("", ";", vec![]),
        ] {
            let parts = split(text.as_bytes(), separator.as_bytes());
            let expected: Vec<&[u8]> = expected.iter().map(|s| s.as_bytes()).collect();
            assert_eq!(parts, expected, "{text}");
        }
    }
}

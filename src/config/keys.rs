//! The one table of settings: parsing, checking, environment names, TOML, the sample file
//! and the manual all come from it or are tested against it (spec 2, "Keys").

use super::keys::ValueKind::{
    Arguments, Boolean, Choice, Number, Path, Paths, Patterns, Secret, Sides, Text, Words,
};

/// What a value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// `true|false|yes|no` in any case.
    Boolean,
    /// A whole number, 0 or more.
    Number,
    /// Any text.
    Text,
    /// Text that is never shown.
    Secret,
    /// A file or directory; a leading `~/` is the home directory.
    Path,
    /// One of these words, in any case.
    Choice(&'static [&'static str]),
    /// Words separated by blanks or commas.
    Words,
    /// Arguments of a program, split and quoted as in a shell.
    Arguments,
    /// `initiator`, `target` or both.
    Sides,
    /// Patterns separated by PATH_SEPARATOR_CHAR.
    Patterns,
    /// Directories separated by PATH_SEPARATOR_CHAR.
    Paths,
}

impl ValueKind {
    /// The kind in a word or two, for the manual and for error messages.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            ValueKind::Boolean => "yes or no",
            ValueKind::Number => "number",
            ValueKind::Text => "text",
            ValueKind::Secret => "secret",
            ValueKind::Path => "path",
            ValueKind::Choice(_) => "choice",
            ValueKind::Arguments => "arguments",
            ValueKind::Words | ValueKind::Sides => "list",
            ValueKind::Patterns => "patterns",
            ValueKind::Paths => "paths",
        }
    }
}

/// The sections of a configuration file. They only serve the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// `[GENERAL]`
    General,
    /// `[REMOTE_OPTIONS]`
    Remote,
    /// `[MISC_OPTIONS]`
    Misc,
    /// `[BACKUP_DELETE_OPTIONS]`
    BackupDelete,
    /// `[RESUME_OPTIONS]`
    Resume,
    /// `[ALERT_OPTIONS]`
    Alert,
    /// `[EXECUTION_HOOKS]`
    Hooks,
}

impl Section {
    /// All sections, in the order of the sample file.
    pub const ALL: [Section; 7] = [
        Section::General,
        Section::Remote,
        Section::Misc,
        Section::BackupDelete,
        Section::Resume,
        Section::Alert,
        Section::Hooks,
    ];

    /// The name between the brackets.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Section::General => "GENERAL",
            Section::Remote => "REMOTE_OPTIONS",
            Section::Misc => "MISC_OPTIONS",
            Section::BackupDelete => "BACKUP_DELETE_OPTIONS",
            Section::Resume => "RESUME_OPTIONS",
            Section::Alert => "ALERT_OPTIONS",
            Section::Hooks => "EXECUTION_HOOKS",
        }
    }
}

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// Its name in files and in the environment.
    pub name: &'static str,
    /// Other names that mean the same.
    pub aliases: &'static [&'static str],
    /// Where it stands.
    pub section: Section,
    /// What it holds.
    pub kind: ValueKind,
    /// The value of a setting that nobody sets.
    pub default: &'static str,
    /// The value in the sample file, where that is another one.
    pub sample: Option<&'static str>,
    /// What it does, in a sentence or two.
    pub about: &'static str,
}

/// The key of this name or alias, in upper case.
#[must_use]
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name || key.aliases.contains(&name))
}

/// What became of a key of v1.0 or v1.1, if it is one: the new name or a short advice.
#[must_use]
pub fn obsolete(name: &str) -> Option<&'static Obsolete> {
    OBSOLETE.iter().find(|old| old.name == name)
}

/// A key of an older version that this one no longer has.
#[derive(Debug)]
pub struct Obsolete {
    /// The old name.
    pub name: &'static str,
    /// The key that took its place; `None` where nothing needs it any more.
    pub now: Option<&'static str>,
}

/// The known key that is nearest in spelling, if one is near enough to be meant.
#[must_use]
pub fn nearest(name: &str) -> Option<&'static str> {
    let upper = name.to_ascii_uppercase();
    let names = KEYS.iter().flat_map(|key| std::iter::once(&key.name).chain(key.aliases));
    names
        .map(|known| (strsim::damerau_levenshtein(&upper, known), *known))
        .min()
        .filter(|(distance, known)| *distance <= known.len().max(upper.len()).div_ceil(4).max(1))
        .map(|(_, known)| known)
}

/// Every setting, in the order of the sample file.
#[rustfmt::skip] // a table: one row, two lines
pub static KEYS: &[Key] = &[
    key(Section::General, "CONFIG_FILE_REVISION", Text, "",
        "The version of osync that this file was written for. Any 1.x is understood.").sample("1.3.0"),
    key(Section::General, "INSTANCE_ID", Text, "quicksync_task",
        "Names this task: its state, its locks and its log carry the name. Every task needs one of its own. Required in a file; without a file it is quicksync_task.").sample("sync_test"),
    key(Section::General, "INITIATOR_SYNC_DIR", Path, "",
        "The first replica, a directory of this machine. Required.").sample("/home/syncuser/initiator"),
    key(Section::General, "TARGET_SYNC_DIR", Path, "",
        "The second replica, a directory of this machine or ssh://[user@]host[:port]//absolute/path. With one slash behind the host, the path begins in the login directory. Required, unless TARGET_SYNC_DIRS is set.").sample("/home/syncuser/target"),
    key(Section::General, "TARGET_SYNC_DIRS", Paths, "",
        "Several targets instead of one, separated by PATH_SEPARATOR_CHAR: the initiator is the hub of a star, and a change of any of them comes to all (docs/star.md)."),
    key(Section::General, "SSH_RSA_PRIVATE_KEY", Path, "",
        "The private key for ssh, of any type. Empty: ~/.ssh/id_rsa if there is one, else whatever ssh finds by itself (an agent, other keys, ssh_config)."),
    key(Section::General, "SSH_PASSWORD_FILE", Path, "",
        "A file whose first line is the ssh password, where keys cannot be used. It should be readable by its owner only."),
    key(Section::General, "KRB5", Boolean, "no",
        "Log in with Kerberos (GSSAPI), using the tickets in the credential cache."),
    key(Section::General, "_REMOTE_TOKEN", Secret, "",
        "The token that the ssh filter of the remote machine asks for. Never logged.").sample("SomeAlphaNumericToken9"),
    key(Section::General, "CREATE_DIRS", Boolean, "no",
        "Create a replica directory that does not exist yet. Otherwise a missing one is an error.").sample("yes"),
    key(Section::General, "LOGFILE", Path, "",
        "The log file. Empty: /var/log/osync.INSTANCE_ID.log, else the same name in the home directory, else here."),
    key(Section::General, "MINIMUM_SPACE", Number, "1024",
        "KiB that should be free on each replica; less is a warning. 0 turns the check off.").sample("10240"),
    key(Section::General, "BANDWIDTH", Number, "0",
        "KiB per second that file transfers may use. 0 is unlimited."),
    key(Section::General, "SUDO_EXEC", Boolean, "no",
        "Run the remote commands and the remote rsync through sudo, which must not ask for a password."),
    key(Section::General, "RSYNC_EXECUTABLE", Text, "rsync",
        "Name or path of rsync, on both machines."),
    key(Section::General, "RSYNC_REMOTE_PATH", Path, "",
        "The directory that holds rsync on the remote machine, where it is not in its PATH."),
    key(Section::General, "RSYNC_PATTERN_FIRST", Choice(&["include", "exclude"]), "include",
        "Which patterns are looked at first, include or exclude. The first pattern that matches a path decides."),
    key(Section::General, "RSYNC_INCLUDE_PATTERN", Patterns, "",
        "rsync patterns of what takes part, separated by PATH_SEPARATOR_CHAR."),
    key(Section::General, "RSYNC_EXCLUDE_PATTERN", Patterns, "",
        "rsync patterns of what is left alone, separated by PATH_SEPARATOR_CHAR."),
    key(Section::General, "RSYNC_INCLUDE_FROM", Path, "",
        "A file of include patterns, one a line. A name without a slash lies beside the configuration file."),
    key(Section::General, "RSYNC_EXCLUDE_FROM", Path, "",
        "A file of exclude patterns, one a line. A name without a slash lies beside the configuration file."),
    key(Section::General, "PATH_SEPARATOR_CHAR", Text, ";",
        "What separates the patterns and directories in the settings above that hold several."),
    key(Section::General, "INITIATOR_CUSTOM_STATE_DIR", Path, "",
        "Where the state of the initiator is kept instead of .osync_workdir/state. An absolute path."),
    key(Section::General, "TARGET_CUSTOM_STATE_DIR", Path, "",
        "Where the state of the target is kept instead of .osync_workdir/state. An absolute path, and not the initiator's."),

    key(Section::Remote, "SSH_COMPRESSION", Boolean, "yes",
        "Compress what goes through ssh. Worth it on slow lines only.").sample("no"),
    key(Section::Remote, "SSH_OPTIONAL_ARGS", Arguments, "",
        "Further arguments for ssh, split and quoted as in a shell."),
    key(Section::Remote, "SSH_IGNORE_KNOWN_HOSTS", Boolean, "no",
        "Do not check the host key of the remote machine. Dangerous: anyone on the way can pose as that machine."),
    key(Section::Remote, "SSH_CONTROLMASTER", Boolean, "no",
        "Let all ssh calls of a run share one connection. Quicksync tasks try it unless this is set."),
    key(Section::Remote, "SSH_TRANSPORT", Choice(&["auto", "openssh", "libssh2"]), "auto",
        "Which ssh is used: openssh (the ssh command), libssh2 (built in), or auto (ssh where there is one)."),
    key(Section::Remote, "REMOTE_OSYNC", Text, "auto",
        "The osync over there that does the work on the spot: auto (one in PATH, if there is one), no, or its path."),
    key(Section::Remote, "REMOTE_HOST_PING", Boolean, "no",
        "Ping the remote machine first. If it does not answer, nothing is done and the exit status is 1."),
    key(Section::Remote, "REMOTE_3RD_PARTY_HOSTS", Words, "",
        "Hosts to ping first, to see whether this machine is online. If none answers, a warning is given.").sample("www.kernel.org www.google.com").aliases(&["REMOTE_3RD_PARTY_HOST"]),

    key(Section::Misc, "RSYNC_OPTIONAL_ARGS", Arguments, "",
        "Further arguments for rsync, split and quoted as in a shell. Those that would break the plan of a run are refused."),
    key(Section::Misc, "PRESERVE_PERMISSIONS", Boolean, "yes",
        "Carry over permissions."),
    key(Section::Misc, "PRESERVE_OWNER", Boolean, "yes",
        "Carry over the owner (takes root on the receiving side)."),
    key(Section::Misc, "PRESERVE_GROUP", Boolean, "yes",
        "Carry over the group."),
    key(Section::Misc, "PRESERVE_EXECUTABILITY", Boolean, "yes",
        "Carry over whether a file is executable. Matters only without PRESERVE_PERMISSIONS."),
    key(Section::Misc, "PRESERVE_ACL", Boolean, "no",
        "Carry over access control lists. Both file systems must have them."),
    key(Section::Misc, "PRESERVE_XATTR", Boolean, "no",
        "Carry over extended attributes. Both file systems must have them."),
    key(Section::Misc, "COPY_SYMLINKS", Boolean, "no",
        "Carry over what symbolic links point at, instead of the links."),
    key(Section::Misc, "KEEP_DIRLINKS", Boolean, "no",
        "Take a symbolic link to a directory for that directory. It may lead out of the replica."),
    key(Section::Misc, "PRESERVE_HARDLINKS", Boolean, "no",
        "Keep files that are hard links of each other linked on the other side."),
    key(Section::Misc, "CHECKSUM", Boolean, "no",
        "Compare the contents of files, not only their size and time. Slow: every file is read."),
    key(Section::Misc, "SCRUB", Boolean, "no",
        "Note a digest of what a run transfers, so that osync scrub can tell damage from the first day."),
    key(Section::Misc, "RSYNC_COMPRESS", Boolean, "yes",
        "Let rsync compress what it sends over ssh. Local transfers are never compressed."),
    key(Section::Misc, "SOFT_MAX_EXEC_TIME", Number, "0",
        "Seconds after which a run gives a warning, and goes on. 0 is off.").sample("7200").aliases(&["SOFT_MAX_EXEC_TIME_FILE_TASK", "SOFT_MAX_EXEC_TIME_TOTAL"]),
    key(Section::Misc, "HARD_MAX_EXEC_TIME", Number, "0",
        "Seconds after which a run is stopped; the next one goes on from there. 0 is off.").sample("10600").aliases(&["HARD_MAX_EXEC_TIME_FILE_TASK", "HARD_MAX_EXEC_TIME_TOTAL"]),
    key(Section::Misc, "KEEP_LOGGING", Number, "1801",
        "Seconds between the lines that say that a run is still going on. 0 is off."),
    key(Section::Misc, "MIN_WAIT", Number, "60",
        "Monitor mode: seconds between the first change and the run, so that copying can finish."),
    key(Section::Misc, "MAX_WAIT", Number, "7200",
        "Monitor mode: seconds after which a run is made although nothing changed. 0 waits for ever."),

    key(Section::BackupDelete, "LOG_CONFLICTS", Boolean, "no",
        "List the files that were changed on both sides."),
    key(Section::BackupDelete, "ALERT_CONFLICTS", Boolean, "no",
        "Send that list by mail too; it is then logged as well."),
    key(Section::BackupDelete, "CONFLICT_BACKUP", Boolean, "yes",
        "Keep what an update overwrites in .osync_workdir/backup of that replica."),
    key(Section::BackupDelete, "CONFLICT_BACKUP_MULTIPLE", Boolean, "no",
        "Keep every overwritten version, with its date and time in the name, and not only the last one."),
    key(Section::BackupDelete, "CONFLICT_BACKUP_DAYS", Number, "30",
        "Days after which overwritten versions are removed. 0 keeps them for ever."),
    key(Section::BackupDelete, "CONFLICT_PREVALANCE", Choice(&["initiator", "target"]), "initiator",
        "The side that wins when a file was changed on both sides and the times are equal.").aliases(&["CONFLICT_PREVALENCE"]),
    key(Section::BackupDelete, "FORCE_CONFLICT_PREVALANCE", Boolean, "no",
        "Let that side win every conflict, whatever the times.").aliases(&["FORCE_CONFLICT_PREVALENCE"]),
    key(Section::BackupDelete, "CONFLICT_COPY", Choice(&["backup", "beside"]), "backup",
        "Where the version that lost a conflict goes: backup, or beside: next to the winner on both sides, as NAME.conflict-SIDE-DATE.EXT."),
    key(Section::BackupDelete, "SOFT_DELETE", Boolean, "yes",
        "Move deleted files to .osync_workdir/deleted of that replica instead of removing them."),
    key(Section::BackupDelete, "SOFT_DELETE_DAYS", Number, "30",
        "Days after which deleted files are removed from there. 0 keeps them for ever."),
    key(Section::BackupDelete, "HISTORY_DAYS", Number, "90",
        "Days for which the journal tells what runs did (osync history). 0 keeps it for ever."),
    key(Section::BackupDelete, "SKIP_DELETION", Sides, "",
        "Sides on which nothing is deleted: initiator, target, or both with a comma between."),
    key(Section::BackupDelete, "MAX_DELETE_PERCENT", Number, "0",
        "Stop a run that would delete more than this share of the files of a replica. 0 is off.").sample("50"),
    key(Section::BackupDelete, "ALLOW_EMPTY", Choice(&["no", "initiator", "target", "both"]), "no",
        "A side that may be emptied, a drop box for example: its emptiness stops no run. no, initiator, target or both."),
    key(Section::BackupDelete, "DETECT_MOVES", Boolean, "yes",
        "Recognise renamed files and directories and rename them on the other side too."),
    key(Section::BackupDelete, "SYNC_TYPE", Choice(&["", "initiator2target", "target2initiator"]), "",
        "Empty: changes go both ways. initiator2target or target2initiator: they go one way only."),

    key(Section::Resume, "RESUME_SYNC", Boolean, "yes",
        "Take up a run again that was interrupted."),
    key(Section::Resume, "RESUME_TRY", Number, "1",
        "How often an interrupted run is taken up before a fresh one is made.").sample("2"),
    key(Section::Resume, "FORCE_STRANGER_LOCK_RESUME", Boolean, "no",
        "Take over the dead lock of another task on a remote target. Dangerous where several machines use one target."),
    key(Section::Resume, "LOCK_WAIT", Number, "0",
        "Seconds that a run waits for its turn while another run has locked a replica. 0: it fails at once; in monitor mode and in a batch it waits all the same."),
    key(Section::Resume, "PARTIAL", Boolean, "no",
        "Keep files that were transferred in part and go on from there in the next run."),
    key(Section::Resume, "DELTA_COPIES", Boolean, "yes",
        "Send only the changed parts of files. Without it whole files are sent: more traffic, less work."),

    key(Section::Alert, "DESTINATION_MAILS", Words, "",
        "Mail addresses for alerts, separated by blanks or commas.").sample("your@alert.tld"),
    key(Section::Alert, "ALWAYS_SEND_MAILS", Boolean, "no",
        "Send a mail after every run, not only after warnings and errors."),
    key(Section::Alert, "ALERT_REPEAT", Number, "0",
        "Seconds before the same failure is mailed again; a good run in between begins anew. 0: each failed run sends a mail."),
    key(Section::Alert, "MAIL_BODY_CHARSET", Text, "",
        "The character set of mails, ISO-8859-1 for example. Empty: UTF-8."),
    key(Section::Alert, "REPORT", Path, "",
        "A file that gets a report of every run as JSON (--report). %i in its name is INSTANCE_ID, %d the day (2026-02-03), %% a percent sign."),
    key(Section::Alert, "METRICS_FILE", Path, "",
        "A file that gets the figures of every run in the text format of Prometheus."),
    key(Section::Alert, "STATUS_MAX_AGE", Number, "0",
        "Seconds after which osync status calls a task overdue. 0: three times as long as usual between its last ten runs, at least an hour."),
    key(Section::Alert, "PING_URL", Secret, "",
        "A URL of a service like healthchecks that hears of every run: URL/start, then URL or URL/fail. It notices runs that do not come or do not end. Never logged."),
    key(Section::Alert, "NOTIFY_URL", Secret, "",
        "A URL that gets a notification when a task fails, once, and when it works again. user:password@ or :token@ before the host becomes a header. Never logged."),
    key(Section::Alert, "NOTIFY_FORMAT", Choice(&["json", "ntfy", "slack", "matrix"]), "json",
        "What that service takes: json, ntfy, slack (Mattermost too) or matrix."),
    key(Section::Alert, "NOTIFY_ON", Choice(&["error", "warning", "conflict", "always"]), "error",
        "Which runs are notified: error, warning (errors too), conflict (these too), always (every run)."),
    key(Section::Alert, "SENDER_MAIL", Text, "",
        "The sender address of mails.").sample("alert@your.system.tld"),
    key(Section::Alert, "SMTP_SERVER", Text, "",
        "The mail server. Empty: the sendmail command of this machine."),
    key(Section::Alert, "SMTP_PORT", Number, "25",
        "The port of the mail server."),
    key(Section::Alert, "SMTP_ENCRYPTION", Choice(&["none", "tls", "ssl"]), "none",
        "none, tls (STARTTLS) or ssl (TLS from the first byte)."),
    key(Section::Alert, "SMTP_USER", Text, "",
        "The login name at the mail server, if it asks for one."),
    key(Section::Alert, "SMTP_PASSWORD", Secret, "",
        "The password at the mail server. Never logged."),

    key(Section::Hooks, "LOCAL_RUN_BEFORE_CMD", Text, "",
        "Commands run on this machine before a run, by sh -c."),
    key(Section::Hooks, "LOCAL_RUN_AFTER_CMD", Text, "",
        "Commands run on this machine after a good run."),
    key(Section::Hooks, "REMOTE_RUN_BEFORE_CMD", Text, "",
        "Commands run on the remote machine before a run."),
    key(Section::Hooks, "REMOTE_RUN_AFTER_CMD", Text, "",
        "Commands run on the remote machine after a good run."),
    key(Section::Hooks, "MAX_EXEC_TIME_PER_CMD_BEFORE", Number, "0",
        "Seconds a command before the run may take before it is ended. 0 is unlimited."),
    key(Section::Hooks, "MAX_EXEC_TIME_PER_CMD_AFTER", Number, "0",
        "Seconds a command after the run may take before it is ended. 0 is unlimited."),
    key(Section::Hooks, "STOP_ON_CMD_ERROR", Boolean, "no",
        "Do not run when a command before it fails.").sample("yes"),
    key(Section::Hooks, "RUN_AFTER_CMD_ON_ERROR", Boolean, "no",
        "Run the commands after a run even if it had errors or warnings."),
];

const fn key(
    section: Section,
    name: &'static str,
    kind: ValueKind,
    default: &'static str,
    about: &'static str,
) -> Key {
    Key { name, aliases: &[], section, kind, default, sample: None, about }
}

impl Key {
    const fn sample(self, value: &'static str) -> Key {
        Key { sample: Some(value), ..self }
    }

    const fn aliases(self, aliases: &'static [&'static str]) -> Key {
        Key { aliases, ..self }
    }
}

/// Keys of v1.0 and v1.1 that have another name now, or became part of TARGET_SYNC_DIR. A
/// file that holds one is refused with the advice to run `osync upgrade`.
#[rustfmt::skip]
pub static OBSOLETE: &[Obsolete] = &[
    Obsolete { name: "REMOTE_SYNC", now: None },
    Obsolete { name: "REMOTE_USER", now: None },
    Obsolete { name: "REMOTE_HOST", now: None },
    Obsolete { name: "REMOTE_PORT", now: None },
    Obsolete { name: "REMOTE_RSYNC_PATH", now: Some("RSYNC_REMOTE_PATH") },
    Obsolete { name: "MASTER_SYNC_DIR", now: Some("INITIATOR_SYNC_DIR") },
    Obsolete { name: "SLAVE_SYNC_DIR", now: Some("TARGET_SYNC_DIR") },
    Obsolete { name: "SYNC_ID", now: Some("INSTANCE_ID") },
    Obsolete { name: "MASTER_CUSTOM_STATE_DIR", now: Some("INITIATOR_CUSTOM_STATE_DIR") },
    Obsolete { name: "SLAVE_CUSTOM_STATE_DIR", now: Some("TARGET_CUSTOM_STATE_DIR") },
];

/// The booleans of all configuration: `true|false|yes|no` in any case.
pub(super) fn read_boolean(value: &[u8]) -> Option<bool> {
    let is = |word: &str| value.eq_ignore_ascii_case(word.as_bytes());
    if is("yes") || is("true") {
        Some(true)
    } else if is("no") || is("false") {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod keys_tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_name_means_one_key() {
        let mut seen = BTreeSet::new();
        for key in KEYS {
            for name in std::iter::once(&key.name).chain(key.aliases) {
                assert!(seen.insert(*name), "{name} stands twice");
            }
        }
        for old in OBSOLETE {
            assert!(seen.insert(old.name), "{} is both old and new", old.name);
            assert!(old.now.is_none_or(|now| find(now).is_some()), "{:?}", old.now);
        }
    }

    #[test]
    fn keys_stand_in_the_order_of_their_sections() {
        let mut order: Vec<_> = KEYS.iter().map(|k| k.section.name()).collect();
        order.dedup();
        assert_eq!(order, Section::ALL.map(Section::name));
    }

    #[test]
    fn misspelt_keys_find_their_neighbour() {
        for (typed, meant) in [
            ("SOFT_DELET", Some("SOFT_DELETE")),
            ("PRESERVE_PERMISSION", Some("PRESERVE_PERMISSIONS")),
            ("bandwidht", Some("BANDWIDTH")),
            ("TARGET_SYNCDIR", Some("TARGET_SYNC_DIR")),
            ("SOMETHING_ELSE_ALTOGETHER", None),
            ("X", None),
        ] {
            assert_eq!(nearest(typed), meant, "{typed}");
        }
    }
}

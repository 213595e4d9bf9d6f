use super::*;
use crate::config::conf_file;
use crate::config::fuzzing::Fake;
use crate::config::keys::KEYS;
use crate::config::{Location, Origin, Setting};
use crate::tree::Pair;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;

/// A machine with a few files; `/link` leads to `/a`.
struct Machine;

impl Surroundings for Machine {
    fn current_dir(&self) -> PathBuf {
        "/here".into()
    }

    fn is_file(&self, path: &Path) -> bool {
        path == Path::new("/home/me/.ssh/id_rsa")
    }

    fn real_path(&self, path: &Path) -> PathBuf {
        match path.strip_prefix("/link") {
            Ok(rest) if rest.as_os_str().is_empty() => "/a".into(),
            Ok(rest) => Path::new("/a").join(rest),
            Err(_) => path.to_owned(),
        }
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match path.to_str() {
            Some("/etc/osync/list") => Ok(b"# c\n+ x\n\r\ny\r\nz".to_vec()),
            Some("/here/sub/list") => Ok(b"s".to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

const REQUIRED: &str = "INSTANCE_ID=id\nINITIATOR_SYNC_DIR=/a\nTARGET_SYNC_DIR=/b\n";

fn from_file(text: &str, flags: &Flags, environment: &[(&str, &str)]) -> Resolution {
    let parsed = conf_file::parse(text.as_bytes(), &mut Fake);
    let file = FileSettings { path: "/etc/osync/t.conf".into(), parsed };
    resolve(Some(&file), flags, &environment.iter().copied().collect(), &Machine)
}

/// With a key set by a flag.
fn by_flag(text: &str, key: &'static str, value: &str, environment: &[(&str, &str)]) -> Resolution {
    let parsed = conf_file::parse(text.as_bytes(), &mut Fake);
    let file = FileSettings { path: "/etc/osync/t.conf".into(), parsed };
    let overrides = [Override { key, flag: "--x", value: value.into() }];
    let environment = environment.iter().copied().collect();
    resolve_with(&overrides, Some(&file), &Flags::default(), &environment, &Machine)
}

fn good(resolution: Resolution) -> Config {
    let errors = &resolution.errors;
    resolution.config.unwrap_or_else(|| panic!("{errors:#?}"))
}

fn errors(resolution: &Resolution) -> Vec<String> {
    assert_eq!(resolution.config.is_none(), !resolution.errors.is_empty());
    resolution.errors.iter().map(ToString::to_string).collect()
}

type Look = fn(&Config) -> String;

macro_rules! row {
    ($key:literal = $value:literal: $from:literal to $to:literal at $($field:ident).+) => {
        ($key, $value, $from, $to, (|c: &Config| format!("{:?}", c.$($field).+)) as Look)
    };
}

/// Setting a key to this value in a file changes this part of the configuration.
#[rustfmt::skip] // one row, one line
const EFFECTS: &[(&str, &str, &str, &str, Look)] = &[
    row!("INSTANCE_ID" = "other": "\"id\"" to "\"other\"" at instance_id),
    row!("INITIATOR_SYNC_DIR" = "~/x": "Local(\"/a\")" to "Local(\"/home/me/x\")" at replicas.initiator),
    row!("TARGET_SYNC_DIR" = "rel": "Local(\"/b\")" to "Local(\"/here/rel\")" at replicas.target),
    row!("SSH_RSA_PRIVATE_KEY" = "~/k": "Some(\"/home/me/.ssh/id_rsa\")" to "Some(\"/home/me/k\")" at remote.key),
    row!("SSH_PASSWORD_FILE" = "/p": "None" to "Some(\"/p\")" at remote.password_file),
    row!("KRB5" = "yes": "false" to "true" at remote.krb5),
    row!("_REMOTE_TOKEN" = "t": "None" to "Some((not shown))" at remote.token),
    row!("CREATE_DIRS" = "TRUE": "false" to "true" at create_dirs),
    row!("LOGFILE" = "l": "None" to "Some(\"/here/l\")" at output.log_file),
    row!("MINIMUM_SPACE" = "0": "1024" to "0" at minimum_space),
    row!("BANDWIDTH" = " 7 ": "0" to "7" at transfer.bandwidth),
    row!("SUDO_EXEC" = "yes": "false" to "true" at remote.sudo),
    row!("RSYNC_EXECUTABLE" = "o_rsync": "\"rsync\"" to "\"o_rsync\"" at transfer.executable),
    row!("RSYNC_REMOTE_PATH" = "~/bin": "None" to "Some(\"~/bin\")" at transfer.remote_path),
    row!("INITIATOR_CUSTOM_STATE_DIR" = "/s": "None" to "Some(\"/s\")" at state_dirs.initiator),
    row!("TARGET_CUSTOM_STATE_DIR" = "/s": "None" to "Some(\"/s\")" at state_dirs.target),
    row!("SSH_COMPRESSION" = "no": "true" to "false" at remote.compression),
    row!("SSH_OPTIONAL_ARGS" = "-o 'a b'": "[]" to "[\"-o\", \"a b\"]" at remote.optional_args),
    row!("SSH_IGNORE_KNOWN_HOSTS" = "yes": "false" to "true" at remote.ignore_known_hosts),
    row!("SSH_CONTROLMASTER" = "yes": "Some(false)" to "Some(true)" at remote.control_master),
    row!("SSH_TRANSPORT" = "LibSSH2": "Auto" to "Libssh2" at remote.transport),
    row!("REMOTE_OSYNC" = "NO": "Auto" to "No" at remote.osync),
    row!("REMOTE_OSYNC" = "/opt/osync": "Auto" to "At(\"/opt/osync\")" at remote.osync),
    row!("REMOTE_HOST_PING" = "yes": "false" to "true" at remote.ping),
    row!("REMOTE_3RD_PARTY_HOSTS" = "a b": "[]" to "[\"a\", \"b\"]" at remote.third_party_hosts),
    row!("RSYNC_OPTIONAL_ARGS" = "-v --x=1": "[]" to "[\"-v\", \"--x=1\"]" at transfer.optional_args),
    row!("PRESERVE_PERMISSIONS" = "no": "true" to "false" at preserve.permissions),
    row!("PRESERVE_OWNER" = "no": "true" to "false" at preserve.owner),
    row!("PRESERVE_GROUP" = "no": "true" to "false" at preserve.group),
    row!("PRESERVE_EXECUTABILITY" = "no": "true" to "false" at preserve.executability),
    row!("PRESERVE_ACL" = "yes": "false" to "true" at preserve.acl),
    row!("PRESERVE_XATTR" = "yes": "false" to "true" at preserve.xattr),
    row!("COPY_SYMLINKS" = "yes": "false" to "true" at preserve.copy_symlinks),
    row!("KEEP_DIRLINKS" = "yes": "false" to "true" at preserve.keep_dirlinks),
    row!("PRESERVE_HARDLINKS" = "yes": "false" to "true" at preserve.hardlinks),
    row!("CHECKSUM" = "yes": "false" to "true" at preserve.checksum),
    row!("SCRUB" = "yes": "false" to "true" at scrub),
    row!("RSYNC_COMPRESS" = "no": "true" to "false" at transfer.compress),
    row!("SOFT_MAX_EXEC_TIME" = "5": "0" to "5" at limits.soft),
    row!("HARD_MAX_EXEC_TIME" = "6": "0" to "6" at limits.hard),
    row!("KEEP_LOGGING" = "0": "1801" to "0" at limits.keep_logging),
    row!("MIN_WAIT" = "1": "60" to "1" at limits.min_wait),
    row!("MAX_WAIT" = "0": "7200" to "0" at limits.max_wait),
    row!("LOG_CONFLICTS" = "yes": "false" to "true" at output.log_conflicts),
    row!("ALERT_CONFLICTS" = "yes": "false" to "true" at alerts.conflicts),
    row!("CONFLICT_BACKUP" = "no": "true" to "false" at policy.backup),
    row!("CONFLICT_BACKUP_MULTIPLE" = "yes": "false" to "true" at policy.backup_multiple),
    row!("CONFLICT_BACKUP_DAYS" = "0": "30" to "0" at policy.backup_days),
    row!("CONFLICT_PREVALANCE" = "Target": "Initiator" to "Target" at policy.prevalence),
    row!("FORCE_CONFLICT_PREVALANCE" = "yes": "false" to "true" at policy.force_prevalence),
    row!("CONFLICT_COPY" = "beside": "Backup" to "Beside" at policy.conflict_copy),
    row!("SOFT_DELETE" = "no": "true" to "false" at policy.soft_delete),
    row!("SOFT_DELETE_DAYS" = "1": "30" to "1" at policy.soft_delete_days),
    row!("HISTORY_DAYS" = "7": "90" to "7" at history_days),
    row!("SKIP_DELETION" = "target": "Pair { initiator: false, target: false }" to "Pair { initiator: false, target: true }" at policy.skip_deletion),
    row!("MAX_DELETE_PERCENT" = "50": "0" to "50" at policy.max_delete_percent),
    row!("ALLOW_EMPTY" = "Both": "Pair { initiator: false, target: false }" to "Pair { initiator: true, target: true }" at policy.allow_empty),
    row!("DETECT_MOVES" = "no": "true" to "false" at policy.detect_moves),
    row!("SYNC_TYPE" = "target2initiator": "None" to "Some(Target)" at policy.one_way_from),
    row!("RESUME_SYNC" = "no": "true" to "false" at locking.resume),
    row!("RESUME_TRY" = "9": "1" to "9" at locking.resume_try),
    row!("FORCE_STRANGER_LOCK_RESUME" = "yes": "false" to "true" at locking.stranger_resume),
    row!("LOCK_WAIT" = "5": "Fail" to "Wait(Some(5s))" at locking.when_locked),
    row!("PARTIAL" = "yes": "false" to "true" at transfer.partial),
    row!("DELTA_COPIES" = "no": "true" to "false" at transfer.delta_copies),
    row!("DESTINATION_MAILS" = "a@b, c@d": "[]" to "[\"a@b\", \"c@d\"]" at alerts.recipients),
    row!("ALWAYS_SEND_MAILS" = "yes": "false" to "true" at alerts.always),
    row!("ALERT_REPEAT" = "60": "None" to "Some(60s)" at alerts.repeat),
    row!("MAIL_BODY_CHARSET" = "ISO-8859-1": "\"\"" to "\"ISO-8859-1\"" at alerts.charset),
    row!("METRICS_FILE" = "/m": "None" to "Some(\"/m\")" at alerts.metrics_file),
    row!("REPORT" = "/r/%i.json": "None" to "Some(\"/r/%i.json\")" at output.report_file),
    row!("STATUS_MAX_AGE" = "60": "None" to "Some(60)" at alerts.status_max_age),
    row!("PING_URL" = "https://h/x": "None" to "Some((not shown))" at notify.ping_url),
    row!("NOTIFY_URL" = "http://h": "None" to "Some((not shown))" at notify.url),
    row!("NOTIFY_FORMAT" = "Slack": "Json" to "Slack" at notify.format),
    row!("NOTIFY_ON" = "conflict": "Error" to "Conflict" at notify.on),
    row!("SENDER_MAIL" = "a@b": "None" to "Some(\"a@b\")" at alerts.sender),
    row!("SMTP_SERVER" = "s": "None" to "Some(\"s\")" at alerts.smtp_server),
    row!("SMTP_PORT" = "587": "25" to "587" at alerts.smtp_port),
    row!("SMTP_ENCRYPTION" = "tls": "None" to "Tls" at alerts.smtp_encryption),
    row!("SMTP_USER" = "u": "None" to "Some(\"u\")" at alerts.smtp_user),
    row!("SMTP_PASSWORD" = "p": "None" to "Some((not shown))" at alerts.smtp_password),
    row!("LOCAL_RUN_BEFORE_CMD" = "a; b": "None" to "Some(\"a; b\")" at hooks.local_before),
    row!("LOCAL_RUN_AFTER_CMD" = "a": "None" to "Some(\"a\")" at hooks.local_after),
    row!("REMOTE_RUN_BEFORE_CMD" = "a": "None" to "Some(\"a\")" at hooks.remote_before),
    row!("REMOTE_RUN_AFTER_CMD" = "a": "None" to "Some(\"a\")" at hooks.remote_after),
    row!("MAX_EXEC_TIME_PER_CMD_BEFORE" = "1": "0" to "1" at hooks.max_before),
    row!("MAX_EXEC_TIME_PER_CMD_AFTER" = "1": "0" to "1" at hooks.max_after),
    row!("STOP_ON_CMD_ERROR" = "yes": "false" to "true" at hooks.stop_on_error),
    row!("RUN_AFTER_CMD_ON_ERROR" = "yes": "false" to "true" at hooks.after_on_error),
];

/// Keys whose effect takes more than one of them to show.
const SHOWN_ELSEWHERE: &[&str] = &[
    "TARGET_SYNC_DIRS",
    "CONFIG_FILE_REVISION", // any_1_x_revision_is_understood
    "RSYNC_PATTERN_FIRST",  // these five: patterns_come_in_rsyncs_order
    "RSYNC_INCLUDE_PATTERN",
    "RSYNC_EXCLUDE_PATTERN",
    "RSYNC_INCLUDE_FROM",
    "RSYNC_EXCLUDE_FROM",
    "PATH_SEPARATOR_CHAR",
];

#[test]
fn every_setting_reaches_the_configuration() {
    let shown: BTreeSet<_> =
        EFFECTS.iter().map(|row| row.0).chain(SHOWN_ELSEWHERE.iter().copied()).collect();
    assert_eq!(shown, KEYS.iter().map(|key| key.name).collect());
    let home = [("HOME", "/home/me")];
    for (key, value, from, to, look) in EFFECTS {
        let before = good(from_file(REQUIRED, &Flags::default(), &home));
        assert_eq!(look(&before), *from, "{key} unset");
        let text = format!("{REQUIRED}{key}=\"{value}\"\n");
        let in_file = good(from_file(&text, &Flags::default(), &home));
        assert_eq!(look(&in_file), *to, "{key} in a file");
        if !REQUIRED.contains(key) {
            let environment = [home[0], (*key, *value)];
            let by_environment = good(from_file(REQUIRED, &Flags::default(), &environment));
            assert_eq!(look(&by_environment), *to, "{key} in the environment");
        }
        assert_eq!(look(&good(by_flag(REQUIRED, key, value, &home))), *to, "{key} by a flag");
    }
}

#[test]
fn aliases_set_the_key_they_stand_for() {
    for key in KEYS {
        let Some((_, value, _, to, look)) = EFFECTS.iter().find(|row| row.0 == key.name) else {
            continue;
        };
        for alias in key.aliases {
            let text = format!("{REQUIRED}{alias}=\"{value}\"\n");
            let config = good(from_file(&text, &Flags::default(), &[("HOME", "/home/me")]));
            assert_eq!(look(&config), *to, "{alias}");
        }
    }
}

#[test]
fn every_key_of_the_table_is_asked_for() {
    let settings = Settings::default();
    let reading = Reading {
        settings: &settings,
        surroundings: &Machine,
        home: None,
        problems: RefCell::default(),
        asked: RefCell::default(),
    };
    let _ = build(&reading, &Flags::default(), &Environment::default());
    let _ = foreign_revision(&reading);
    let asked = reading.asked.into_inner();
    assert_eq!(asked, KEYS.iter().map(|key| key.name).collect());
}

#[test]
fn defaults_are_weaker_than_environment_than_file_than_flags() {
    let filled = format!("{REQUIRED}BANDWIDTH=2\n");
    let empty = format!("{REQUIRED}BANDWIDTH=\n");
    for (file, environment, flag, expected, origin) in [
        (REQUIRED, None, None, 0, Origin::Default),
        (REQUIRED, Some("1"), None, 1, Origin::Environment),
        (REQUIRED, Some(""), None, 0, Origin::Default),
        (&filled, Some("1"), None, 2, Origin::File(4)),
        (&empty, Some("1"), None, 0, Origin::Default),
        (&filled, Some("1"), Some("3"), 3, Origin::Flag("--x")),
    ] {
        let environment: Vec<_> = environment.map(|v| ("BANDWIDTH", v)).into_iter().collect();
        let resolution = match flag {
            Some(value) => by_flag(file, "BANDWIDTH", value, &environment),
            None => from_file(file, &Flags::default(), &environment),
        };
        assert_eq!(resolution.settings.get("BANDWIDTH").map(|s| s.origin), Some(origin));
        assert_eq!(good(resolution).transfer.bandwidth, expected, "{file} {environment:?}");
    }
}

#[test]
fn quicksync_needs_no_file_and_has_a_name() {
    let environment = [("INITIATOR_SYNC_DIR", "x"), ("TARGET_SYNC_DIR", "ssh://h//d")];
    let resolution = resolve(None, &Flags::default(), &environment.into_iter().collect(), &Machine);
    let config = good(resolution);
    assert_eq!(config.instance_id, "quicksync_task");
    assert_eq!(config.replicas.initiator, Location::Local("/here/x".into()));
    assert!(config.replicas.target.is_remote());
    assert_eq!(config.remote.control_master, None, "tried, with a fall-back");
    assert_eq!(config.remote.key, None, "there is no home");
}

#[test]
fn flags_and_environment_set_what_no_key_does() {
    let flags =
        Flags { dry: true, verbose: true, no_locks: true, on_changes: true, ..Flags::default() };
    let environment = [("_DEBUG", "yes"), ("NO_COLOR", "1")];
    let config = good(from_file(REQUIRED, &flags, &environment));
    assert!(config.flags.dry && config.flags.verbose && config.output.debug);
    assert!(!config.output.color && config.flags.no_locks);
    assert!(config.output.dated_prefix, "monitor mode shows dates");
    assert_eq!(config.flags.watch(), Watch::Initiator);
    let config = good(from_file(REQUIRED, &Flags::default(), &[]));
    assert!(config.output.color && !config.output.debug && !config.flags.no_locks);
}

#[test]
fn delta_copies_are_asked_for_only_by_who_sets_them() {
    for (line, asked) in [
        ("", false),
        ("DELTA_COPIES=yes", true),
        ("DELTA_COPIES=no", false),
        ("DELTA_COPIES=", false),
    ] {
        let config = good(from_file(&format!("{REQUIRED}{line}\n"), &Flags::default(), &[]));
        assert_eq!(config.transfer.delta_copies_asked, asked, "{line}");
    }
}

const STAR: &str = "INSTANCE_ID=id\nINITIATOR_SYNC_DIR=/a\n";

#[test]
fn a_list_of_targets_makes_a_star() {
    let text = format!("{STAR}TARGET_SYNC_DIRS=\"/c;\n  ~/d e ;ssh://h//f;\"\n");
    let home = [("HOME", "/home/me")];
    let config = good(from_file(&text, &Flags::default(), &home));
    let places: Vec<_> = config.places().map(ToString::to_string).collect();
    assert_eq!(places, ["/a", "/c", "/home/me/d e", "ssh://h//f"]);
    let names: Vec<_> = config.targets.iter().map(|of| of.name.to_str().unwrap()).collect();
    assert_eq!(names, ["/c", "~/d e", "ssh://h//f"]);
    for (only, expected) in
        [("~/d e", Some(1)), ("/home/me/d e", Some(1)), ("3", Some(2)), ("1", Some(0))]
    {
        let flags = Flags { only: Some(only.into()), ..Flags::default() };
        assert_eq!(good(from_file(&text, &flags, &home)).only, expected, "{only}");
    }
    let odd = format!("{STAR}TARGET_SYNC_DIRS=\"/c;/tab\there\"\n");
    let flags = Flags { only: Some("/tab\\there".into()), ..Flags::default() };
    assert_eq!(good(from_file(&odd, &flags, &[])).only, Some(1), "as it is shown");
    let both = format!("{STAR}TARGET_SYNC_DIRS='/tab\there;/tab\\there'\n");
    assert!(!errors(&from_file(&both, &flags, &[])).is_empty(), "it names two");
    let pair = config.for_target(&config.targets[2], "id@3".to_owned());
    assert!(!pair.is_star() && pair.replicas.target.is_remote());
    assert!(!good(from_file(REQUIRED, &Flags::default(), &[])).is_star());
}

#[test]
fn a_list_of_targets_does_not_go_with_everything() {
    let both = format!("{REQUIRED}TARGET_SYNC_DIRS=/c\n");
    let list = format!("{STAR}TARGET_SYNC_DIRS='/c;/d'\n");
    let helper = Flags { on_changes_target: true, ..Flags::default() };
    let target = Flags { target: Some("/c".into()), ..Flags::default() };
    let only = |word: &str| Flags { only: Some(word.into()), ..Flags::default() };
    let none = Flags::default();
    for (text, flags, says) in [
        (&both, &none, "TARGET_SYNC_DIR is set too"),
        (&list, &target, "choose one of them by --only"),
        (&list, &helper, "a target helper watches one target"),
        (&list, &only("3"), "no number from 1 to 2"),
        (&list, &only("0"), "no number from 1 to 2"),
        (&REQUIRED.to_owned(), &only("1"), "there is no list of targets"),
        (&format!("{STAR}TARGET_SYNC_DIRS='/c;/link/x;/a/y'\n"), &none, "'/a/x'"),
        (&format!("{list}SYNC_TYPE=target2initiator\n"), &none, "has one source"),
    ] {
        let told = errors(&from_file(text, flags, &[])).join("\n");
        assert!(told.contains(says), "{says}: {told}");
    }
    for text in [STAR, REQUIRED] {
        let told = errors(&from_file(&format!("{text}TARGET_SYNC_DIRS=' ;; '\n"), &none, &[]));
        let says = |of: &&String| of.contains("TARGET_SYNC_DIRS: it has separators");
        assert!(told.iter().any(|one| says(&one)), "{told:?}");
        assert!(!told.iter().any(|one| one.contains("no directory is given")), "{told:?}");
    }
    // what is empty is not set
    for (text, is_star) in [
        (format!("{REQUIRED}TARGET_SYNC_DIRS=\"\"\n"), false),
        (format!("{REQUIRED}TARGET_SYNC_DIRS='  '\n"), false),
        (format!("{list}TARGET_SYNC_DIR=\"\"\n"), true),
    ] {
        assert_eq!(good(from_file(&text, &none, &[])).is_star(), is_star, "{text}");
    }
    // what is weaker is passed over
    let environment = [("TARGET_SYNC_DIRS", "/x;/y")];
    assert!(!good(from_file(REQUIRED, &none, &environment)).is_star());
    assert!(good(from_file(&list, &none, &[("TARGET_SYNC_DIR", "/x")])).is_star());
}

#[test]
fn patterns_come_in_rsyncs_order() {
    let text = "RSYNC_INCLUDE_PATTERN=\"i1;i 2\"\nRSYNC_EXCLUDE_PATTERN='e1;e2'\n\
                RSYNC_INCLUDE_FROM=list\nRSYNC_EXCLUDE_FROM=sub/list\n";
    let rules = |more: &str| {
        let config = good(from_file(&format!("{REQUIRED}{text}{more}"), &Flags::default(), &[]));
        let shown = config.selection.rules.iter().map(|rule| {
            let sign = if rule.include { "+" } else { "-" };
            let source = if rule.from_file { "f" } else { "k" };
            format!("{sign}{source} {}", String::from_utf8_lossy(&rule.pattern))
        });
        shown.collect::<Vec<_>>().join(", ")
    };
    let (include, exclude) = ("+k i1, +k i 2, +f # c, +f + x, +f y, +f z", "-k e1, -k e2, -f s");
    assert_eq!(rules(""), format!("{include}, {exclude}"));
    assert_eq!(rules("RSYNC_PATTERN_FIRST=exclude"), format!("{exclude}, {include}"));
    let other = rules("RSYNC_INCLUDE_PATTERN='a;b|c'\nPATH_SEPARATOR_CHAR='|'");
    assert!(other.starts_with("+k a;b, +k c, "), "{other}");
}

#[test]
fn any_1_x_revision_is_understood() {
    for (revision, fine) in
        [("1.3.0", true), ("1.0", true), ("1.2", true), ("2.0", false), ("x", false)]
    {
        let text = format!("{REQUIRED}CONFIG_FILE_REVISION={revision}\n");
        let warnings = from_file(&text, &Flags::default(), &[]).warnings;
        assert_eq!(warnings.is_empty(), fine, "{revision}: {warnings:?}");
    }
}

#[test]
fn a_bad_value_is_named_with_its_place() {
    for (line, expected) in [
        ("KRB5=maybe", "t.conf:4: KRB5: 'maybe' is not yes, no, true or false"),
        ("KRB5=1", "t.conf:4: KRB5: '1' is not yes, no, true or false"),
        ("BANDWIDTH=1k", "t.conf:4: BANDWIDTH: '1k' is not a whole number (0 or more)"),
        ("BANDWIDTH=-1", "t.conf:4: BANDWIDTH: '-1' is not a whole number (0 or more)"),
        ("BANDWIDTH=99999999999999999999", "18014398509481983 or less"),
        ("SMTP_PORT=0", "t.conf:4: SMTP_PORT: '0' is not a port"),
        ("SMTP_PORT=65536", "65535 or less"),
        ("MAX_DELETE_PERCENT=101", "100 or less"),
        ("SYNC_TYPE=both", "SYNC_TYPE: 'both' is not initiator2target or target2initiator"),
        ("SSH_TRANSPORT=x", "'x' is not auto, openssh or libssh2"),
        ("SKIP_DELETION=both", "'both' is not initiator, target, or initiator,target"),
        ("RSYNC_OPTIONAL_ARGS=-u", "-u is refused"),
        ("RSYNC_OPTIONAL_ARGS=\\'", "a quote is not closed"),
        ("SSH_OPTIONAL_ARGS=\\'", "a quote is not closed"),
        ("RSYNC_EXCLUDE_FROM=none", "cannot read the pattern file '/etc/osync/none'"),
        ("_REMOTE_TOKEN='a;b'", "a token is made of letters"),
        ("INSTANCE_ID=a/b", "'a/b' cannot be part of a file name"),
        ("INSTANCE_ID=", "INSTANCE_ID: not set"),
        ("TARGET_SYNC_DIR=", "TARGET_SYNC_DIR: no directory is given"),
        ("TARGET_SYNC_DIR=/a", "the same directory"),
        ("TARGET_SYNC_DIR=/link/", "the same directory"),
        ("TARGET_SYNC_DIR=/link/x", "the target lies inside the initiator"),
        ("INITIATOR_SYNC_DIR=/", "the target lies inside the initiator"),
        ("TARGET_SYNC_DIR=/", "the initiator lies inside the target"),
        ("TARGET_SYNC_DIR=ssh://host", "the URI has no path"),
        ("INITIATOR_SYNC_DIR=ssh://h//x", "the initiator must be a directory of this machine"),
        ("INITIATOR_CUSTOM_STATE_DIR=s", "must be an absolute path"),
        ("TARGET_CUSTOM_STATE_DIR=/s\nINITIATOR_CUSTOM_STATE_DIR=/s", "must be another"),
        ("MASTER_SYNC_DIR=/x", "is INITIATOR_SYNC_DIR now; 'osync upgrade /etc/osync/t.conf'"),
        ("RSYNC_EXECUTABLE=-x", "not the name of a program"),
    ] {
        let resolution = from_file(&format!("{REQUIRED}{line}\n"), &Flags::default(), &[]);
        let errors = errors(&resolution);
        assert_eq!(errors.len(), 1, "{line}: {errors:?}");
        assert!(errors[0].contains(expected), "{line}: {errors:?}");
    }
}

#[test]
fn all_problems_come_at_once_in_the_order_of_the_file() {
    let text = "SOFT_DELETE=x\nA=(b)\nBANDWIDTH=y\nKRB5=\"\nPARTIAL=z\n";
    let resolution = from_file(text, &Flags::default(), &[("CHECKSUM", "q")]);
    let errors = errors(&resolution);
    let keys: Vec<_> = resolution.errors.iter().map(|e| e.key.as_deref().unwrap_or("")).collect();
    let expected = [
        "SOFT_DELETE",
        "A",
        "BANDWIDTH",
        "KRB5",
        "INITIATOR_SYNC_DIR",
        "TARGET_SYNC_DIR",
        "INSTANCE_ID",
        "CHECKSUM",
    ];
    assert_eq!(keys, expected, "{errors:#?}");
}

#[test]
fn unknown_settings_are_warned_about_unless_they_are_helpers() {
    let warnings = |text: &str| -> Vec<String> {
        let resolution = from_file(&format!("{REQUIRED}{text}\n"), &Flags::default(), &[]);
        assert_eq!(resolution.errors, [], "{text}");
        resolution.warnings.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        warnings("SOFT_DELET=no"),
        [
            "/etc/osync/t.conf:4: SOFT_DELET: unknown setting, without effect; SOFT_DELETE may be meant"
        ]
    );
    assert_eq!(
        warnings("HELPER=x"),
        ["/etc/osync/t.conf:4: HELPER: unknown setting, without effect"]
    );
    assert_eq!(warnings("HELPER=/x\nLOGFILE=$HELPER/log"), [""; 0]);
}

#[test]
fn the_target_helper_swaps_what_may_be_remote() {
    let flags = Flags { on_changes_target: true, ..Flags::default() };
    let text = "INSTANCE_ID=x\nINITIATOR_SYNC_DIR=ssh://h//a\nTARGET_SYNC_DIR=/b\n";
    assert!(good(from_file(text, &flags, &[])).replicas.initiator.is_remote());
    let text = "INSTANCE_ID=x\nINITIATOR_SYNC_DIR=/a\nTARGET_SYNC_DIR=ssh://h//b\n";
    assert!(errors(&from_file(text, &flags, &[]))[0].contains("--on-changes-target"));
    assert_eq!(errors(&from_file(text, &Flags::default(), &[])).len(), 0);
}

#[test]
fn skip_deletion_names_one_side_or_both() {
    for (value, expected) in [
        ("initiator", Pair::new(true, false)),
        ("initiator,target", Pair::new(true, true)),
        ("Target Initiator", Pair::new(true, true)),
        ("", Pair::new(false, false)),
    ] {
        let text = format!("{REQUIRED}SKIP_DELETION=\"{value}\"\n");
        let config = good(from_file(&text, &Flags::default(), &[]));
        assert_eq!(config.policy.skip_deletion, expected, "{value}");
    }
}

#[test]
fn paths_may_be_any_bytes_and_secrets_are_not_shown() {
    let environment: Environment = [
        ("INITIATOR_SYNC_DIR", OsString::from("/a")),
        ("TARGET_SYNC_DIR", std::os::unix::ffi::OsStringExt::from_vec(b"/b=\xff \n".to_vec())),
        ("SMTP_PASSWORD", "hunter2".into()),
    ]
    .into_iter()
    .collect();
    let config = good(resolve(None, &Flags::default(), &environment, &Machine));
    let Location::Local(path) = &config.replicas.target else { panic!("local") };
    assert_eq!(path.as_os_str().as_bytes(), b"/b=\xff \n");
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn an_overridden_value_is_not_complained_about() {
    let text = format!("{REQUIRED}BANDWIDTH=x\n");
    let resolution = by_flag(&text, "BANDWIDTH", "1", &[("KRB5", "no")]);
    assert_eq!(good(resolution.clone()).transfer.bandwidth, 1);
    let krb5 = resolution.settings.get("KRB5");
    assert_eq!(krb5, Some(&Setting { value: b"no".to_vec(), origin: Origin::Environment }));
}

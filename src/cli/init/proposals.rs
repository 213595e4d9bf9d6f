//! What `osync init` proposes, as text: names, patterns, the line for authorized_keys, and what lets
//! the task run by itself. Pure.

use crate::config::SshLocation;
use crate::tree::path::escape;
use clap::ValueEnum;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The patterns of `exclude.list.example`.
pub(super) fn usual_patterns() -> impl Iterator<Item = &'static str> {
    let lines = include_str!("../../../exclude.list.example").lines();
    lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// A name of letters, digits, dots, dashes and underscores, like this one.
pub(super) fn plain_name(bytes: &[u8]) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = String::from_utf8_lossy(bytes).chars().map(plain).collect();
    let name = name.trim_matches(['.', '-']);
    if name.is_empty() { "task".to_owned() } else { name.chars().take(100).collect() }
}

/// Whether a terminal shows these bytes as they are, on one line.
fn is_shown(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| escape(bytes) == text.replace('\\', "\\\\"))
}

/// A path as one word that every POSIX shell understands, in printable characters. (It does not
/// end in a newline.)
pub(super) fn shell_word(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    if let Some(text) = is_shown(bytes) {
        return shell_words::quote(text).into_owned();
    }
    let mut word = String::from("\"$(printf '");
    for byte in bytes {
        match byte {
            b'/' | b'.' | b'_' | b'-' => word.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => word.push(char::from(*byte)),
            byte => drop(write!(word, "\\{byte:03o}")),
        }
    }
    word + "')\""
}

/// What a key is kept to by the ssh filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Restriction {
    /// _REMOTE_TOKEN.
    pub token: String,
    /// The directory over there, as a word of its shell.
    pub dir: String,
}

impl Restriction {
    /// `None`: the name of the directory cannot stand in `authorized_keys`.
    pub(super) fn new(token: String, to: &SshLocation) -> Option<Self> {
        // forced commands begin in the login directory, and a '~' in quotes means itself
        let path = to.path.strip_prefix("~").unwrap_or(&to.path);
        let text = is_shown(path.as_os_str().as_bytes()).filter(|text| !text.is_empty())?;
        Some(Restriction { token, dir: shell_words::quote(text).into_owned() })
    }
}

/// The line that lets a key in.
pub(super) fn authorized_line(public_key: &str, restriction: Option<&Restriction>) -> String {
    let Some(Restriction { token, dir }) = restriction else {
        return format!("restrict {public_key}");
    };
    let command = format!("osync ssh-filter {token} --restrict {dir}");
    format!("restrict,command=\"{}\" {public_key}", command.replace('"', "\\\""))
}

/// A command that adds a line to `authorized_keys` over there; every login shell understands it.
pub(super) fn adding(line: &str, to: &SshLocation) -> String {
    let port = to.port.map(|port| format!("-p {port} ")).unwrap_or_default();
    let destination = to.destination();
    let destination = shell_words::quote(&destination);
    format!(
        "ssh {port}{destination} \\\n    \
         'umask 077; mkdir -p .ssh; cat >>.ssh/authorized_keys' <<'END'\n{line}\nEND"
    )
}

/// When a task runs by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RunTimes {
    /// A minute after a change
    Changes,
    /// Every ten minutes
    #[value(name = "10min")]
    TenMinutes,
    /// Every hour
    Hourly,
    /// Every night
    Daily,
    /// Only when it is started
    Never,
}

/// Which units of systemd find a task by its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Units {
    /// Those of the system.
    System,
    /// Those of this user.
    User,
    /// None.
    No,
}

/// Who can start a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Starters {
    pub units: Units,
    pub has_crontab: bool,
}

/// A command, or a line of a crontab, and what it is good for.
pub(super) type NextStep = (String, String);

/// What is to be done so that a task runs by itself.
pub(super) fn scheduled(
    schedule: RunTimes,
    program: &Path,
    file: &Path,
    starters: Starters,
) -> Vec<NextStep> {
    let (when, times) = match schedule {
        RunTimes::Changes => ("a minute after each change", "@reboot"),
        RunTimes::TenMinutes => ("every ten minutes", "*/10 * * * *"),
        RunTimes::Hourly => ("every hour", "0 * * * *"),
        RunTimes::Daily => ("every night at three", "0 3 * * *"),
        RunTimes::Never => return Vec::new(),
    };
    let systemd = match starters.units {
        Units::System => Some(("systemctl", "/etc/systemd/system")),
        Units::User => Some(("systemctl --user", "~/.config/systemd/user")),
        Units::No => None,
    };
    match (schedule, systemd) {
        (RunTimes::Changes, Some((systemctl, _))) => {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let enable = format!("{systemctl} enable --now osync-srv@{name}");
            let mut steps = vec![(format!("To run it {when}, as a service"), enable)];
            if starters.units == Units::User {
                let what = "To have that service while you are not logged in";
                steps.push((what.to_owned(), "loginctl enable-linger".to_owned()));
            }
            steps
        }
        (RunTimes::TenMinutes | RunTimes::Hourly | RunTimes::Daily, Some((systemctl, units)))
            if !starters.has_crontab =>
        {
            let enable = format!("{systemctl} enable --now osync-batch.timer");
            let what = format!("To run it {when}, with all tasks of its directory");
            let own_times = match schedule {
                RunTimes::TenMinutes => Some("*:00/10"),
                RunTimes::Daily => Some("03:00"),
                // the timer's own
                _ => None,
            };
            match own_times {
                Some(times) => {
                    vec![(what, timer_drop_in(units, times)), ("and then".to_owned(), enable)]
                }
                None => vec![(what, enable)],
            }
        }
        _ => {
            let flags = if schedule == RunTimes::Changes {
                "--silent --on-changes"
            } else {
                "--silent --skip-if-running"
            };
            let command = format!("{} {} {flags}", shell_word(program), shell_word(file));
            // cron ends a command at a '%'
            let line = format!("{times} {}", command.replace('%', "\\%"));
            vec![(format!("To run it {when}, this line in what 'crontab -e' shows"), line)]
        }
    }
}

/// The command that has osync-batch.timer elapse at these times, and not at its own.
fn timer_drop_in(units: &str, times: &str) -> String {
    let dir = format!("{units}/osync-batch.timer.d");
    format!(
        "mkdir -p {dir} && printf '[Timer]\\nOnCalendar=\\nOnCalendar={times}\\n' >{dir}/times.conf"
    )
}

/// Whether a unit of systemd can have this name behind its `@`: it would read any other sign as
/// something else.
pub(super) fn is_unit_name(name: &[u8]) -> bool {
    name.iter().all(|byte| byte.is_ascii_alphanumeric() || b":_.-".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Location;
    use std::ffi::OsStr;

    fn path(bytes: &[u8]) -> &Path {
        Path::new(OsStr::from_bytes(bytes))
    }

    fn to(uri: &[u8]) -> SshLocation {
        match Location::parse(uri).unwrap() {
            Location::Ssh(to) => to,
            Location::Local(_) => panic!("a local one"),
        }
    }

    #[test]
    fn a_task_gets_a_plain_name() {
        for (bytes, name) in [
            (&b"docs"[..], "docs"),
            (b"my docs", "my-docs"),
            (b"caf\xc3\xa9 $x", "caf---x"),
            (b"..", "task"),
            (b"\xff", "task"),
            (b".hidden", "hidden"),
        ] {
            assert_eq!(plain_name(bytes), name);
        }
    }

    #[test]
    fn the_usual_patterns_are_those_of_the_example() {
        let patterns: Vec<_> = usual_patterns().collect();
        assert!(patterns.contains(&".DS_Store") && patterns.contains(&"~$*"), "{patterns:?}");
        assert!(patterns.iter().all(|pattern| !pattern.contains([';', '\n'])));
    }

    #[test]
    fn a_shell_reads_any_path_as_it_is() {
        for name in [
            &b"/etc/osync/docs.conf"[..],
            b"/a b/c'd\"e$f`g\\h.conf",
            b"/caf\xc3\xa9.conf",
            b"/latin \xe9 100%.conf",
            b"/two\nlines.conf",
            b"/esc\x1b[31m.conf",
        ] {
            let word = shell_word(path(name));
            assert!(!word.contains(|c: char| c.is_control()), "{word:?}");
            let script = format!("printf %s {word}");
            let said = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(said.stdout, name, "{word}");
        }
    }

    #[test]
    fn a_line_of_a_crontab_has_no_bare_percent_sign() {
        let starters = Starters { units: Units::No, has_crontab: true };
        for (schedule, begin, end) in [
            (
                RunTimes::TenMinutes,
                "*/10 * * * * ",
                "'/etc/a 5\\%.conf' --silent --skip-if-running",
            ),
            (RunTimes::Changes, "@reboot ", "'/etc/a 5\\%.conf' --silent --on-changes"),
        ] {
            let steps =
                scheduled(schedule, path(b"/usr/bin/osync"), path(b"/etc/a 5%.conf"), starters);
            assert_eq!(steps.len(), 1);
            assert_eq!(steps[0].1, format!("{begin}/usr/bin/osync {end}"));
        }
    }

    #[test]
    fn units_are_used_where_they_find_the_file() {
        let starters = |units, has_crontab| Starters { units, has_crontab };
        for (schedule, starters, first) in [
            (
                RunTimes::Changes,
                starters(Units::System, true),
                "systemctl enable --now osync-srv@a.conf",
            ),
            (
                RunTimes::Changes,
                starters(Units::User, false),
                "systemctl --user enable --now osync-srv@a.conf",
            ),
            (
                RunTimes::Hourly,
                starters(Units::System, false),
                "systemctl enable --now osync-batch.timer",
            ),
            (
                RunTimes::TenMinutes,
                starters(Units::User, false),
                "mkdir -p ~/.config/systemd/user/osync-batch.timer.d && printf \
                 '[Timer]\\nOnCalendar=\\nOnCalendar=*:00/10\\n' \
                 >~/.config/systemd/user/osync-batch.timer.d/times.conf",
            ),
            (
                RunTimes::Daily,
                starters(Units::System, false),
                "mkdir -p /etc/systemd/system/osync-batch.timer.d && printf \
                 '[Timer]\\nOnCalendar=\\nOnCalendar=03:00\\n' \
                 >/etc/systemd/system/osync-batch.timer.d/times.conf",
            ),
            (
                RunTimes::Hourly,
                starters(Units::System, true),
                "0 * * * * /o /etc/osync/a.conf --silent --skip-if-running",
            ),
        ] {
            let steps = scheduled(schedule, path(b"/o"), path(b"/etc/osync/a.conf"), starters);
            assert_eq!(steps[0].1, first);
            if first.starts_with("mkdir") {
                assert!(steps[1].1.ends_with(" enable --now osync-batch.timer"), "{steps:?}");
            }
        }
        let starters = starters(Units::System, true);
        assert_eq!(scheduled(RunTimes::Never, path(b"/o"), path(b"/a"), starters), []);
        assert!(is_unit_name(b"my-docs.conf") && !is_unit_name(b"my docs.conf"));
    }

    #[test]
    fn a_key_is_kept_to_its_directory_whatever_that_is_called() {
        for (uri, dir) in [
            (&b"ssh://h//data/docs"[..], Some("/data/docs")),
            (b"ssh://h/docs", Some("docs")),
            (b"ssh://h/~/docs", Some("docs")),
            (b"ssh://h//a b's", Some("'/a b'\\''s'")),
            (b"ssh://h//a\"b", Some("'/a\\\"b'")),
            (b"ssh://h//a\\\"b", Some("'/a\\\\\"b'")),
            (b"ssh://h//latin \xe9", None),
            (b"ssh://h//two\nlines", None),
            (b"ssh://h/~/", None),
        ] {
            let line = Restriction::new("T0".to_owned(), &to(uri))
                .map(|restriction| authorized_line("ssh-ed25519 AAAA", Some(&restriction)));
            let expected = dir.map(|dir| {
                format!(
                    "restrict,command=\"osync ssh-filter T0 --restrict {dir}\" ssh-ed25519 AAAA"
                )
            });
            assert_eq!(line, expected);
        }
        assert_eq!(authorized_line("ssh-ed25519 AAAA", None), "restrict ssh-ed25519 AAAA");
        let added = adding("LINE", &to(b"ssh://me@nas:2222//d"));
        assert!(added.starts_with("ssh -p 2222 me@nas ") && added.ends_with("<<'END'\nLINE\nEND"));
    }
}

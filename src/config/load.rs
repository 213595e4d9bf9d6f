//! Reads configuration files from disk; what they mean is decided in pure functions.

use super::Problem;
use super::conf_file::{self, CommandFailure, MAX_FILE, Outside, Parsed};
use super::settings::{Environment, FileForm, FileSettings, Origin};
use super::toml_file;
use crate::process::{
    self, Command, Exit, Interrupt, SignalWatch, Stop, StopReason, end_by, signal_name,
};
use crate::tree::path::{escape, with_home};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// The longest output of a command in a configuration file.
const MAX_OUTPUT: usize = 64 << 10;
/// How long such a command may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A file that was read, and what is wrong with it as a file.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub settings: FileSettings,
    /// What deserves a warning.
    pub warnings: Vec<Problem>,
}

/// Reads a `.conf` or `.toml` file.
///
/// # Errors
/// Another extension, or a file that cannot be read.
pub fn load(path: &Path, environment: &Environment) -> Result<Loaded, Problem> {
    let place = escape(path.as_os_str().as_bytes());
    let problem =
        |text: String| Problem { place: place.clone(), origin: Origin::Default, key: None, text };
    let Some(form) = FileForm::of(path) else {
        let text = "the name of a configuration file ends in .conf or .toml";
        return Err(problem(text.to_owned()));
    };
    let (bytes, metadata) = read_file(path)
        .map_err(|error| problem(format!("cannot read the configuration file: {error}")))?;
    let access = Access::of(&metadata);
    let mut outside = Shell { environment, file: None, no_commands: access.no_commands() };
    let parsed = match form {
        FileForm::Toml => toml_file::parse(&bytes),
        FileForm::Conf => conf_file::parse(&bytes, &mut outside),
    };
    let warnings = access.warnings(&parsed).into_iter().map(problem).collect();
    Ok(Loaded { settings: FileSettings { path: path.to_owned(), parsed }, warnings })
}

/// A file whose text is known.
#[must_use]
pub fn from_text(path: &Path, text: &[u8], environment: &Environment) -> Loaded {
    let parsed = match FileForm::of(path) {
        Some(FileForm::Toml) => toml_file::parse(text),
        Some(FileForm::Conf) | None => {
            conf_file::parse(text, &mut Shell::for_file(environment, path))
        }
    };
    Loaded { settings: FileSettings { path: path.to_owned(), parsed }, warnings: Vec::new() }
}

fn read_file(path: &Path) -> std::io::Result<(Vec<u8>, std::fs::Metadata)> {
    // Looked at before it is opened: a pipe would keep us waiting for somebody to write.
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(std::io::Error::other("it is a directory"));
    }
    if !metadata.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let file = std::fs::File::open(path)?;
    let metadata = file.metadata()?; // of the very file that is read
    let mut bytes = Vec::new();
    file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes, metadata))
}

/// The environment of this process, and `sh`.
pub struct Shell<'a> {
    environment: &'a Environment,
    /// The file whose settings are read.
    file: Option<&'a Path>,
    /// Why its commands must not run.
    no_commands: Option<String>,
}

impl<'a> Shell<'a> {
    /// With the file that is read: pattern files may lie beside it.
    #[must_use]
    pub fn for_file(environment: &'a Environment, file: &'a Path) -> Self {
        let no_commands = std::fs::metadata(file).ok().and_then(|m| Access::of(&m).no_commands());
        Shell { environment, file: Some(file), no_commands }
    }
}

impl Outside for Shell<'_> {
    fn variable(&self, name: &str) -> Option<Vec<u8>> {
        self.environment.get(name).map(|value| value.as_bytes().to_vec())
    }

    fn lacks_pattern_file(&self, value: &[u8]) -> bool {
        let name = Path::new(OsStr::from_bytes(value));
        let home = self.environment.filled("HOME").map(Path::new);
        let place = match self.file.and_then(Path::parent) {
            _ if name.starts_with("~") && home.is_none() => return false,
            Some(beside) if !value.contains(&b'/') => beside.join(name),
            _ => with_home(name, home),
        };
        std::fs::metadata(place).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    }

    fn output_of(
        &mut self,
        command: &[u8],
        variables: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Vec<u8>, CommandFailure> {
        if let Some(why) = &self.no_commands {
            return Err(CommandFailure::Refused(why.clone()));
        }
        let mut shell = Command::new("sh").arg("-c").arg(OsString::from_vec(command.to_vec()));
        shell.env.extend(variables.iter().map(|(k, v)| (k.into(), OsString::from_vec(v.clone()))));
        shell.time_limit = Some(PATIENCE);
        let done = match watched(&shell) {
            Ok(done) => done,
            Err(error) => {
                return Err(CommandFailure::Failed { output: Vec::new(), why: error.to_string() });
            }
        };
        let why = match done.exit {
            Exit::Code(0) => return Ok(done.stdout),
            Exit::Code(number) => format!("the command ended with status {number}"),
            Exit::Signal(number) => format!("the command was ended by {}", signal_name(number)),
            Exit::TimedOut => format!("ended, because it took more than {} s", PATIENCE.as_secs()),
            Exit::Stopped(_) => format!("ended, because it printed more than {MAX_OUTPUT} bytes"),
        };
        let words = escape(done.stderr.trim_ascii());
        let why = if words.is_empty() { why } else { format!("{why} ({words})") };
        Err(CommandFailure::Failed { output: done.stdout, why })
    }
}

/// Runs a command. A signal for this program ends it too, and then this program, as it
/// would without us in between.
fn watched(shell: &Command) -> Result<process::Output, Box<dyn std::error::Error>> {
    let stop = Stop::new();
    let watch = SignalWatch::install(&stop, Interrupt::Once, || ())?;
    let done = process::output_up_to(shell, MAX_OUTPUT, &stop)?;
    drop(watch);
    if let Some(StopReason::Signal(number)) = stop.reason() {
        end_by(number);
    }
    Ok(done)
}

/// The token of the sample files, which everybody knows.
const SAMPLE_TOKEN: &[u8] = b"SomeAlphaNumericToken9";

/// Who may do what with a file, as its user sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Access {
    us: u32,
    owner: u32,
    group: u32,
    mode: u32,
}

impl Access {
    /// Of a file, for the user that this process acts as.
    pub(super) fn of(file: &Metadata) -> Access {
        let us = rustix::process::geteuid().as_raw();
        Access { us, owner: file.uid(), group: file.gid(), mode: file.mode() }
    }

    /// Somebody else than root, its user and, if that is one of these, its owner may write it.
    fn foreign_writers(self) -> Option<String> {
        if self.owner != 0 && self.owner != self.us {
            return Some(format!("it belongs to another user (uid {})", self.owner));
        }
        self.others(0o2).map(|who| format!("{who} may write to it"))
    }

    /// Others than root and its owner that have one of these rights. A group with the number
    /// of the owner is the owner's own, as most systems make one.
    fn others(self, rights: u32) -> Option<String> {
        let is_own_group = self.group == 0 || self.group == self.owner;
        if self.mode & rights != 0 {
            Some("everyone".to_owned())
        } else if self.mode & (rights << 3) != 0 && !is_own_group {
            Some(format!("its group ({})", self.group))
        } else {
            None
        }
    }

    /// Why root must not run the commands in the file.
    pub(super) fn no_commands(self) -> Option<String> {
        let why = self.foreign_writers().filter(|_| self.us == 0)?;
        Some(format!(
            "root does not run the commands of this file, because {why}; let it belong to root \
             alone ('chown root:root' and 'chmod go-w'), or write the value itself"
        ))
    }

    /// What deserves a warning.
    pub(super) fn warnings(self, parsed: &Parsed) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(why) = self.foreign_writers() {
            let whose = if self.us == 0 { "root" } else { "this user" };
            warnings.push(format!(
                "{why}, and {whose} runs what this configuration file says; 'chown' it, or \
                 'chmod go-w' it"
            ));
        }
        if let (Some(who), Some(key)) = (self.others(0o4), secret(parsed)) {
            warnings.push(format!(
                "{who} may read this configuration file, and {key} is secret; 'chmod 600' it"
            ));
        }
        warnings
    }
}

/// A secret that the file holds and the task needs. (A token is of no use without a remote
/// side; samples come with one.)
fn secret(parsed: &Parsed) -> Option<&'static str> {
    let value = |key: &str| {
        let of_key = |a: &&super::conf_file::Assignment| a.key.eq_ignore_ascii_case(key);
        parsed.assignments.iter().rev().find(of_key).map_or(&b""[..], |a| a.value.as_slice())
    };
    let is_remote = ["INITIATOR_SYNC_DIR", "TARGET_SYNC_DIR"]
        .iter()
        .any(|key| value(key).starts_with(b"ssh://"));
    let token = value("_REMOTE_TOKEN");
    let needs_token = is_remote && !token.is_empty() && token != SAMPLE_TOKEN;
    ["SMTP_PASSWORD", "PING_URL", "NOTIFY_URL"]
        .into_iter()
        .find(|key| !value(key).is_empty())
        .or(needs_token.then_some("_REMOTE_TOKEN"))
}

#[cfg(test)]
mod access_tests {
    use super::*;
    use crate::config::conf_file::Assignment;

    fn access(us: u32, owner: u32, group: u32, mode: u32) -> Access {
        Access { us, owner, group, mode: 0o100_000 | mode }
    }

    #[test]
    fn root_runs_commands_only_of_files_that_root_alone_may_write() {
        for (access, refused) in [
            (access(0, 0, 0, 0o644), None),
            (access(0, 0, 0, 0o664), None),
            (access(0, 1000, 1000, 0o600), Some("another user (uid 1000)")),
            (access(0, 0, 100, 0o664), Some("its group (100) may write")),
            (access(0, 0, 0, 0o666), Some("everyone may write")),
            // nobody's rights grow when the file is not root's to run
            (access(1000, 1001, 1001, 0o644), None),
        ] {
            let told = access.no_commands();
            assert_eq!(told.is_some(), refused.is_some(), "{access:?}: {told:?}");
            assert!(told.unwrap_or_default().contains(refused.unwrap_or_default()), "{access:?}");
        }
    }

    #[test]
    fn foreign_files_and_readable_secrets_are_warned_of() {
        let parsed = |settings: &[(&str, &str)]| Parsed {
            assignments: settings
                .iter()
                .map(|(key, value)| Assignment {
                    key: (*key).to_owned(),
                    value: value.as_bytes().to_vec(),
                    line: 1,
                })
                .collect(),
            ..Parsed::default()
        };
        let plain = [("INSTANCE_ID", "x")];
        let password = [("SMTP_PASSWORD", "pw")];
        let remote = [("TARGET_SYNC_DIR", "ssh://h//x"), ("_REMOTE_TOKEN", "abc")];
        let local = [("TARGET_SYNC_DIR", "/x"), ("_REMOTE_TOKEN", "abc")];
        let sample =
            [("TARGET_SYNC_DIR", "ssh://h//x"), ("_REMOTE_TOKEN", "SomeAlphaNumericToken9")];
        let unset = [("SMTP_PASSWORD", "pw"), ("SMTP_PASSWORD", "")];
        for (access, settings, expected) in [
            (access(1000, 1000, 1000, 0o664), &plain[..], &[][..]),
            (access(1000, 1000, 1000, 0o660), &password, &[]),
            (access(1000, 1000, 1000, 0o644), &password, &["everyone may read"]),
            (access(1000, 1000, 100, 0o640), &password, &["its group (100) may read"]),
            (access(1000, 1000, 1000, 0o600), &password, &[]),
            (access(0, 0, 0, 0o640), &remote, &[]),
            (access(0, 0, 0, 0o644), &remote, &["_REMOTE_TOKEN is secret"]),
            (access(0, 0, 0, 0o644), &local, &[]),
            (access(0, 0, 0, 0o644), &sample, &[]),
            (access(0, 0, 0, 0o644), &unset, &[]),
            (access(1000, 0, 0, 0o644), &plain, &[]),
            (access(1000, 1001, 1001, 0o644), &plain, &["another user (uid 1001)"]),
            (access(0, 1001, 1001, 0o644), &plain, &["and root runs what"]),
            (access(0, 0, 0, 0o666), &password, &["everyone may write", "everyone may read"]),
        ] {
            let told = access.warnings(&parsed(settings));
            assert_eq!(told.len(), expected.len(), "{access:?} {settings:?}: {told:?}");
            for (told, part) in told.iter().zip(expected) {
                assert!(told.contains(part), "{access:?} {settings:?}: {told}");
            }
        }
    }
}

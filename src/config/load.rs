//! Reads configuration files from disk. The edge: everything behind it is pure.

use super::Problem;
use super::access::Access;
use super::conf_file::{self, CommandFailure, MAX_FILE, Outside};
use super::settings::{Environment, FileSettings};
use crate::process::signals::{self, Interrupt, SignalWatch};
use crate::process::{self, Command, Exit, Stop, StopReason};
use crate::tree::path::escape;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
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
    let problem = |text: String| Problem { place: place.clone(), line: None, key: None, text };
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    if extension != "conf" && extension != "toml" {
        let text = "the name of a configuration file ends in .conf or .toml";
        return Err(problem(text.to_owned()));
    }
    let (bytes, metadata) = read_file(path)
        .map_err(|error| problem(format!("cannot read the configuration file: {error}")))?;
    let access = Access::of(&metadata);
    let mut outside = Shell { environment, file: None, no_commands: access.no_commands() };
    let parsed = match extension {
        "toml" => super::toml_file::parse(&bytes),
        _ => conf_file::parse(&bytes, &mut outside),
    };
    let warnings = access.warnings(&parsed).into_iter().map(problem).collect();
    Ok(Loaded { settings: FileSettings { path: path.to_owned(), parsed }, warnings })
}

/// A `.conf` file whose text is known.
#[must_use]
pub fn from_text(path: &Path, text: &[u8], environment: &Environment) -> Loaded {
    let parsed = conf_file::parse(text, &mut Shell::for_file(environment, path));
    Loaded { settings: FileSettings { path: path.to_owned(), parsed }, warnings: Vec::new() }
}

fn read_file(path: &Path) -> std::io::Result<(Vec<u8>, std::fs::Metadata)> {
    // Looked at before it is opened: a pipe would keep us waiting for somebody to write.
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(std::io::Error::other("it is a directory"));
    }
    if !metadata.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
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
        let home = || self.environment.filled("HOME").map(Path::new);
        let place = match (value.strip_prefix(b"~/"), self.file.and_then(Path::parent)) {
            (Some(below), _) => match home() {
                Some(home) => home.join(OsStr::from_bytes(below)),
                None => return false,
            },
            (None, Some(beside)) if !value.contains(&b'/') => beside.join(name),
            _ => name.to_owned(),
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
            Exit::Signal(number) => format!("the command was ended by {}", signals::name(number)),
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
        signals::end_by(number);
    }
    Ok(done)
}

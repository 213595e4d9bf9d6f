//! Reads configuration files from disk. The edge: everything behind it is pure.

use super::Problem;
use super::conf_file::{self, CommandFailure, MAX_FILE, Outside};
use super::settings::{Environment, FileSettings};
use crate::tree::path::escape;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// The longest output of a command in a configuration file.
const MAX_OUTPUT: u64 = 64 << 10;

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
    let mut warnings = Vec::new();
    if rustix::process::geteuid().is_root() && metadata.mode() & 0o002 != 0 {
        warnings.push(problem(
            "everyone may write to this configuration file, and root runs what it says; \
             'chmod o-w' it"
                .to_owned(),
        ));
    }
    let mut outside = Shell::new(environment);
    let parsed = match extension {
        "toml" => super::toml_file::parse(&bytes),
        _ => conf_file::parse(&bytes, &mut outside),
    };
    Ok(Loaded { settings: FileSettings { path: path.to_owned(), parsed }, warnings })
}

/// A `.conf` file whose text is known.
#[must_use]
pub fn from_text(path: &Path, text: &[u8], environment: &Environment) -> Loaded {
    let parsed = conf_file::parse(text, &mut Shell::new(environment));
    Loaded { settings: FileSettings { path: path.to_owned(), parsed }, warnings: Vec::new() }
}

fn read_file(path: &Path) -> std::io::Result<(Vec<u8>, std::fs::Metadata)> {
    let file = std::fs::File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(std::io::Error::other("it is a directory"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes, metadata))
}

/// The environment of this process, and `sh`.
pub struct Shell<'a> {
    environment: &'a Environment,
}

impl<'a> Shell<'a> {
    /// With the environment that was read at the start.
    #[must_use]
    pub fn new(environment: &'a Environment) -> Self {
        Shell { environment }
    }
}

impl Outside for Shell<'_> {
    fn variable(&self, name: &str) -> Option<Vec<u8>> {
        self.environment.get(name).map(|value| value.as_bytes().to_vec())
    }

    fn output_of(
        &mut self,
        command: &[u8],
        variables: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Vec<u8>, CommandFailure> {
        let mut output = Vec::new();
        let fail = |output: Vec<u8>, why: String| Err(CommandFailure { output, why });
        let variables = variables.iter().map(|(k, v)| (k, OsStr::from_bytes(v)));
        let spawned = Command::new("sh")
            .arg("-c")
            .arg(std::ffi::OsString::from_vec(command.to_vec()))
            .envs(variables)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => return fail(output, format!("cannot start sh: {error}")),
        };
        let read = match child.stdout.take() {
            Some(stdout) => stdout.take(MAX_OUTPUT).read_to_end(&mut output).map(drop),
            None => Ok(()),
        };
        match (read, child.wait()) {
            (Ok(()), Ok(status)) if status.success() => Ok(output),
            (Ok(()), Ok(status)) => fail(output, format!("the command failed: {status}")),
            (Err(error), _) | (_, Err(error)) => fail(output, format!("cannot read: {error}")),
        }
    }
}

//! Raw values of all keys with where each came from: default, then environment, then
//! file, then flag (spec 2, "Sources").

use super::conf_file::Parsed;
use super::keys::{self, KEYS, Key};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The two forms of a task's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileForm {
    /// `.conf`, as osync 1.3 has it.
    Conf,
    /// TOML.
    Toml,
}

impl FileForm {
    /// The form that the name of a file says.
    #[must_use]
    pub fn of(file: &Path) -> Option<FileForm> {
        [FileForm::Conf, FileForm::Toml]
            .into_iter()
            .find(|form| file.extension().is_some_and(|extension| extension == form.extension()))
    }

    /// How the names of its files end.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            FileForm::Conf => "conf",
            FileForm::Toml => "toml",
        }
    }
}

/// The environment, read once at the edge.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// The environment of this process.
    #[must_use]
    pub fn of_process() -> Self {
        std::env::vars_os().collect()
    }

    /// A variable, if it is set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// A variable that is set and not empty.
    #[must_use]
    pub fn filled(&self, name: &str) -> Option<&OsStr> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Whether a variable is `yes` or `true`.
    #[must_use]
    pub fn says_yes(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|v| v.eq_ignore_ascii_case("yes") || v.eq_ignore_ascii_case("true"))
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Environment(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}

/// A configuration file that was read.
#[derive(Debug, Clone, Default)]
pub struct FileSettings {
    /// The file, as it was named.
    pub path: PathBuf,
    /// What it says.
    pub parsed: Parsed,
}

/// A setting that a flag makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The key.
    pub key: &'static str,
    /// The flag, with its dashes.
    pub flag: &'static str,
    /// The value.
    pub value: OsString,
}

/// One raw value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The bytes, unquoted.
    pub value: Vec<u8>,
    /// Who set it.
    pub origin: Origin,
}

/// The raw values of all keys.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The configuration file, in configuration mode.
    pub file: Option<PathBuf>,
    values: BTreeMap<&'static str, Setting>,
}

impl Settings {
    /// Merges the sources, the strongest last. Problems with names go to `errors` and `warnings`.
    #[must_use]
    pub fn gather(
        file: Option<&FileSettings>,
        overrides: &[Override],
        environment: &Environment,
        errors: &mut Vec<Problem>,
        warnings: &mut Vec<Problem>,
    ) -> Self {
        let mut settings = Settings { file: file.map(|f| f.path.clone()), values: BTreeMap::new() };
        for key in KEYS {
            let names = std::iter::once(&key.name).chain(key.aliases);
            let from_environment = names.into_iter().find_map(|name| environment.filled(name));
            let (value, origin) = match from_environment {
                Some(value) => (value.as_bytes(), Origin::Environment),
                None => (key.default.as_bytes(), Origin::Default),
            };
            settings.set(key, value, origin);
        }
        if let Some(file) = file {
            settings.take_file(file, errors, warnings);
        }
        for one in overrides {
            if let Some(key) = keys::find(one.key) {
                settings.set(key, one.value.as_bytes(), Origin::Flag(one.flag));
            }
        }
        settings
    }

    fn take_file(
        &mut self,
        file: &FileSettings,
        errors: &mut Vec<Problem>,
        warnings: &mut Vec<Problem>,
    ) {
        let name = show_path(&file.path);
        let problem = |line: usize, key: Option<&str>, text: String| Problem {
            place: format!("{name}:{line}"),
            origin: Origin::File(line),
            key: key.map(str::to_owned),
            text,
        };
        for trouble in &file.parsed.errors {
            errors.push(problem(trouble.line, trouble.key.as_deref(), trouble.text.clone()));
        }
        for trouble in &file.parsed.warnings {
            warnings.push(problem(trouble.line, trouble.key.as_deref(), trouble.text.clone()));
        }
        for one in &file.parsed.assignments {
            if let Some(key) = keys::find(&one.key) {
                self.set(key, &one.value, Origin::File(one.line));
            } else if let Some(old) = keys::obsolete(&one.key) {
                let now = match old.now {
                    Some(now) => format!("is {now} now"),
                    None => {
                        "is part of TARGET_SYNC_DIR now (ssh://user@host:port//path)".to_owned()
                    }
                };
                let text = format!(
                    "this setting of an older version {now}; 'osync upgrade {name}' rewrites the file"
                );
                errors.push(problem(one.line, Some(&one.key), text));
            } else if !file.parsed.used.contains(&one.key) {
                let text = match keys::nearest(&one.key) {
                    Some(near) => format!("unknown setting, without effect; {near} may be meant"),
                    None => "unknown setting, without effect".to_owned(),
                };
                warnings.push(problem(one.line, Some(&one.key), text));
            }
        }
    }

    /// An empty value is the default, whatever weaker sources say: as with a file that is
    /// sourced into a shell.
    fn set(&mut self, key: &'static Key, value: &[u8], origin: Origin) {
        let (value, origin) = match value {
            [] => (key.default.as_bytes(), Origin::Default),
            value => (value, origin),
        };
        self.values.insert(key.name, Setting { value: value.to_vec(), origin });
    }

    /// The value of a key of the table.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.values.get(key)
    }

    /// All values, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Key, &Setting)> {
        KEYS.iter().filter_map(|key| Some((key, self.values.get(key.name)?)))
    }

    /// Where a value came from, for people.
    #[must_use]
    pub fn place(&self, origin: Origin) -> String {
        match (origin, &self.file) {
            (Origin::Default, Some(file)) => show_path(file),
            (Origin::Default, None) => String::new(),
            (Origin::Environment, _) => "environment".to_owned(),
            (Origin::File(line), Some(file)) => format!("{}:{line}", show_path(file)),
            (Origin::File(line), None) => format!("line {line}"),
            (Origin::Flag(flag), _) => flag.to_owned(),
        }
    }
}

fn show_path(path: &std::path::Path) -> String {
    crate::tree::path::escape(path.as_os_str().as_bytes())
}

/// Where a value came from, weakest first (spec 2, "Sources").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// An environment variable.
    Environment,
    /// This line of the configuration file, from 1.
    File(usize),
    /// This flag of the command line.
    Flag(&'static str),
}

/// Something that is wrong with a setting, or with the file as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `sync.conf:12`, `environment`, `--sync-type`, or the file alone.
    pub place: String,
    /// Where what is wrong came from; the default: the file as a whole, or nobody.
    pub origin: Origin,
    /// The setting, if it is about one.
    pub key: Option<String>,
    /// What is wrong and what to do about it.
    pub text: String,
}

impl Problem {
    /// The line, if it is one of a file.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        match self.origin {
            Origin::File(line) => Some(line),
            _ => None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.text)
    }
}

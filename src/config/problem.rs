//! What is wrong with the settings of a task, and where.

use std::fmt;

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
    /// The line, if it is one of a file.
    pub line: Option<usize>,
    /// The setting, if it is about one.
    pub key: Option<String>,
    /// What is wrong and what to do about it.
    pub text: String,
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

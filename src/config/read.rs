//! Typed reading of raw settings; what cannot be read becomes a problem, and the default
//! stands in so that all other problems are found too.

use super::keys::{self, Kind};
use super::problem::{Origin, Problem};
use super::settings::Settings;
use super::surroundings::Surroundings;
use crate::tree::path::escape;
use crate::tree::{Pair, Side};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Reads values one by one and collects what is wrong with them.
pub(super) struct Reading<'a> {
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

    /// A problem at the place where the key was set.
    pub fn problem(&self, key: &str, text: impl Into<String>) -> Problem {
        let (_, origin) = self.raw(key);
        let line = match origin {
            Origin::File(line) => Some(line),
            _ => None,
        };
        let place = self.settings.place(origin);
        Problem { place, line, key: Some(key.to_owned()), text: text.into() }
    }

    fn complain_of_value(&self, key: &str, wanted: &str) {
        let (value, _) = self.raw(key);
        let shown = match keys::find(key).map(|k| k.kind) {
            Some(Kind::Secret) => "the value".to_owned(),
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
        match read_boolean(value) {
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

    /// One of the words that the table allows, as the table spells it.
    pub fn choice(&self, key: &str) -> &'static str {
        let Some(Kind::Choice(allowed)) = keys::find(key).map(|k| k.kind) else { return "" };
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
        let below = match bytes {
            b"~" => Some(b"".as_slice()),
            [b'~', b'/', below @ ..] => Some(below),
            _ => None,
        };
        match (self.home, below) {
            (Some(home), Some(below)) => Path::new(home).join(OsStr::from_bytes(below)),
            _ => PathBuf::from(OsStr::from_bytes(bytes)),
        }
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

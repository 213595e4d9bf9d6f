//! Which task a command is about, and which paths of it: shared by `history`, `restore`, `undo`,
//! `conflicts`, `plan` (spec 9, "Commands").

use super::pager::Line;
use super::{complain, settings, state_dir};
use crate::config::{Config, Environment, Flags, Location, Problem, Resolution, StarTarget};
use crate::state::StateStore;
use crate::state::targets::{self, KnownTarget};
use crate::tree::{RelPath, Side, path::escape};
use clap::{Args, ValueHint};
use serde_json::{Value, json};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The task, then what the command is about.
#[derive(Debug, Clone, Args)]
pub struct TaskArgs {
    /// The file of the task (not with --initiator), then paths in it
    #[arg(value_name = "CONFIG_FILE|PATH", value_hint = ValueHint::AnyPath)]
    pub words: Vec<OsString>,
    /// Quicksync task: the first replica
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub initiator: Option<OsString>,
    /// Quicksync task: the second replica
    #[arg(long, value_name = "DIR|SSH_URI", value_hint = ValueHint::DirPath)]
    pub target: Option<OsString>,
    /// Quicksync task: its name [default: quicksync_task]
    #[arg(long, value_name = "ID")]
    pub instance_id: Option<OsString>,
    /// Where the state of the initiator is kept
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub initiator_state_dir: Option<OsString>,
    /// The private key for ssh
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub rsakey: Option<OsString>,
    /// Of a task with several targets, the one that is meant: as the list has it, or its number
    #[arg(long, value_name = "NAME|NUMBER")]
    pub only: Option<OsString>,
}

/// Why a command cannot begin, where that is more than one message and exit status 1.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Something is missing or wrong on the command line: exit status 128.
    #[error("{0}")]
    Usage(String),
    /// Flags have values that they cannot have, one line each: exit status 128.
    #[error("{}", .0.join("\n"))]
    Flags(Vec<String>),
    /// Several things are wrong, in the settings say; one line each.
    #[error("{}", .0.join("\n"))]
    Settings(Vec<String>),
}

impl Refused {
    /// Settings that cannot be understood.
    pub fn unresolved(resolution: &Resolution) -> Self {
        let lines = resolution.errors.iter().map(Problem::to_string).collect();
        if resolution.is_bad_usage() { Refused::Flags(lines) } else { Refused::Settings(lines) }
    }
}

/// A pair of replicas that a command is about.
#[derive(Debug)]
pub struct TaskPair {
    /// Its settings, with the INSTANCE_ID under which its state is kept.
    pub config: Config,
    /// Which target of a task with several ones.
    pub target: Option<NamedTarget>,
}

/// What is known of the pairs that a command is about.
#[derive(Debug)]
pub struct KnownPairs<'a> {
    /// Those that runs have met.
    pub pairs: Vec<TaskPair>,
    /// Why nothing is known of the others.
    pub unknown: Vec<String>,
    /// The words behind the file's name.
    pub rest: &'a [OsString],
}

/// A target of a list.
#[derive(Debug, Clone)]
pub struct NamedTarget {
    /// Its place in the list, from 1.
    pub number: usize,
    /// As the list has it, for people.
    pub name: String,
}

impl NamedTarget {
    fn of((index, target): (usize, &StarTarget)) -> Self {
        NamedTarget { number: index + 1, name: escape(target.name.as_bytes()) }
    }
}

impl TaskArgs {
    /// The settings of the whole task, with all its targets, or of the one pair that is chosen; and
    /// the words behind the file's name.
    ///
    /// # Errors
    /// No task is named, its settings are wrong, or nothing is known of the target that is chosen.
    pub fn resolve_whole(
        &self,
        environment: &Environment,
    ) -> Result<(Config, &[OsString]), Refused> {
        let (config, rest) = self.settings(environment)?;
        let Some(index) = config.only else { return Ok((config, rest)) };
        let pair = Known::of(&config)?.pair(index, &config.targets[index]);
        pair.map(|pair| (pair, rest)).map_err(|why| Refused::Settings(vec![why]))
    }

    /// All pairs of replicas that the command is about, at least one, and the words behind the
    /// file's name. Targets that no run has met are told of and left out.
    ///
    /// # Errors
    /// No task is named, its settings are wrong, or nothing is known of any of its targets.
    pub fn resolve_all(
        &self,
        environment: &Environment,
    ) -> Result<(Vec<TaskPair>, &[OsString]), Refused> {
        let KnownPairs { pairs, unknown, rest } = self.known_pairs(environment)?;
        if pairs.is_empty() {
            return Err(Refused::Settings(unknown));
        }
        unknown.iter().for_each(|why| complain(why));
        Ok((pairs, rest))
    }

    /// The pairs of which something is known.
    ///
    /// # Errors
    /// No task is named, or its settings are wrong.
    pub fn known_pairs(&self, environment: &Environment) -> Result<KnownPairs<'_>, Refused> {
        let (config, rest) = self.settings(environment)?;
        if !config.is_star() {
            let pairs = vec![TaskPair { config, target: None }];
            return Ok(KnownPairs { pairs, unknown: Vec::new(), rest });
        }
        let is_one = config.chosen_targets().count() == 1;
        let known = Known::of(&config)?;
        let (mut pairs, mut unknown) = (Vec::new(), Vec::new());
        for (index, target) in config.chosen_targets() {
            match known.pair(index, target) {
                Ok(config) => {
                    let target = (!is_one).then(|| NamedTarget::of((index, target)));
                    pairs.push(TaskPair { config, target });
                }
                Err(why) => unknown.push(why),
            }
        }
        Ok(KnownPairs { pairs, unknown, rest })
    }

    fn settings(&self, environment: &Environment) -> Result<(Config, &[OsString]), Refused> {
        let is_quick = self.initiator.is_some() || self.target.is_some();
        let (file, rest) = match self.words.split_first() {
            _ if is_quick => (None, self.words.as_slice()),
            Some((file, rest)) => (Some(file.as_os_str()), rest),
            None => {
                let text = "name a configuration file, or give --initiator=DIR and --target=DIR";
                return Err(Refused::Usage(text.to_owned()));
            }
        };
        let flags = Flags {
            initiator: self.initiator.clone(),
            target: self.target.clone(),
            instance_id: self.instance_id.clone(),
            initiator_state_dir: self.initiator_state_dir.clone(),
            rsakey: self.rsakey.clone(),
            only: self.only.clone(),
            ..Flags::default()
        };
        let resolution = settings::gather(file, &flags, environment);
        let refused = Refused::unresolved(&resolution);
        Ok((resolution.config.ok_or(refused)?, rest))
    }
}

/// What runs of a star know of its targets.
struct Known<'a> {
    config: &'a Config,
    places: Vec<String>,
    targets: Vec<KnownTarget>,
}

impl<'a> Known<'a> {
    fn of(config: &'a Config) -> Result<Self, Refused> {
        let unread = |error: &dyn std::fmt::Display| Refused::Settings(vec![error.to_string()]);
        let dir = state_dir(config).map_err(|error| unread(&error))?;
        let store = StateStore::open(dir, &config.instance_id).map_err(|error| unread(&error))?;
        let targets = store.known_targets().map_err(|error| unread(&error))?;
        Ok(Known { config, places: config.listed_places(), targets })
    }

    /// The settings of the hub and one target; says why if it has no state.
    fn pair(&self, index: usize, target: &StarTarget) -> Result<Config, String> {
        let id = &self.config.instance_id;
        match targets::instance_at(id, &self.targets, &self.places, index) {
            Some(instance) => Ok(self.config.for_target(target, instance)),
            None => Err(format!(
                "no run of this task has met the target {} so far, and nothing is known of it",
                escape(target.name.as_bytes())
            )),
        }
    }
}

/// Refuses a command that is about one target: lists them, each with what else is to be said of it.
pub fn say_which(targets: impl IntoIterator<Item = (NamedTarget, String)>) -> Refused {
    let mut lines = vec!["this task has several targets; say by --only which is meant:".to_owned()];
    let line = |(NamedTarget { number, name }, more)| format!("  {number} {name}{more}");
    lines.extend(targets.into_iter().map(line));
    Refused::Settings(lines)
}

/// A part of an answer.
#[derive(Debug)]
pub enum Row {
    /// For people.
    Text(Line),
    /// For programs: an object.
    Json(Value),
}

impl From<String> for Row {
    fn from(text: String) -> Self {
        Row::Text(text.into())
    }
}

impl TaskPair {
    /// The lines of an answer. Of a task with several targets, each names the target.
    pub fn lines(&self, rows: Vec<Row>) -> Vec<Line> {
        let line = |row| match (row, &self.target) {
            (Row::Text(line), _) if line.text.is_empty() => line,
            (Row::Text(line), None) => line,
            (Row::Text(line), Some(target)) => {
                Line { text: format!("[{}] {}", target.name, line.text), ..line }
            }
            (Row::Json(value), None) => value.to_string().into(),
            (Row::Json(mut value), Some(target)) => {
                value["leaf"] = json!(target.name);
                value.to_string().into()
            }
        };
        rows.into_iter().map(line).collect()
    }
}

/// A path in a replica of one of these pairs, as it was typed (see [`replica_path`]).
///
/// # Errors
/// It leads out of all of them.
pub fn path_in(word: &OsStr, pairs: &[TaskPair]) -> Result<RelPath, Refused> {
    let mut paths = pairs.iter().map(|pair| replica_path(word, &pair.config));
    let outside = || Refused::Usage(format!("{} is in no replica", escape(word.as_bytes())));
    let first = paths.next().unwrap_or_else(|| Err(outside()));
    first.or_else(|why| paths.find_map(Result::ok).ok_or(why))
}

/// A path in a replica, as it was typed: relative to the replica's root, or absolute below
/// the root of a local replica.
///
/// # Errors
/// It leads out of the replicas.
pub fn replica_path(word: &OsStr, config: &Config) -> Result<RelPath, Refused> {
    let shown = || escape(word.as_bytes());
    let typed = Path::new(word);
    let relative = if typed.is_absolute() {
        let below = |side: Side| {
            let Location::Local(root) = &config.replicas[side] else { return None };
            let real = root.canonicalize().ok();
            let roots = [Some(root.as_path()), real.as_deref()];
            roots.into_iter().flatten().find_map(|root| typed.strip_prefix(root).ok())
        };
        Side::BOTH
            .into_iter()
            .find_map(below)
            .ok_or_else(|| Refused::Usage(format!("{} is in neither replica", shown())))?
    } else {
        typed
    };
    let mut bytes = relative.as_os_str().as_bytes();
    while let Some(rest) = bytes.strip_prefix(b"./") {
        bytes = rest;
    }
    while let Some(rest) = bytes.strip_suffix(b"/") {
        bytes = rest;
    }
    let bytes = if bytes == b"." { &[][..] } else { bytes };
    RelPath::new(bytes).map_err(|why| Refused::Usage(format!("{}: {why}", shown())))
}

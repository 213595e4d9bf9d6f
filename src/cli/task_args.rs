//! Which task a command is about, and which paths of it: shared by `history`, `restore`, `undo`,
//! `conflicts`, `plan` (spec 9, "Commands").

use super::{complain, settings, state_dir};
use crate::config::{Config, Environment, Flags, Location, Problem, StarTarget};
use crate::state::targets::KnownTarget;
use crate::state::{StateStore, targets};
use crate::tree::{RelPath, Side, path::escape};
use clap::{Args, ValueHint};
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
    /// Several things are wrong, in the settings say; one line each.
    #[error("{}", .0.join("\n"))]
    Settings(Vec<String>),
}

impl TaskArgs {
    /// The task's settings, and the words behind the file's name. Of a star, those of the one target
    /// that is meant.
    ///
    /// # Errors
    /// No task is named, or its settings are wrong.
    pub fn resolve(&self, environment: &Environment) -> Result<(Config, &[OsString]), Refused> {
        let (config, rest) = self.gather(environment)?;
        if config.is_star() { Ok((pair_of(&config)?, rest)) } else { Ok((config, rest)) }
    }

    /// The same for a command that is about each target of a star that is not excluded by `--only`.
    /// Targets that no run has met are told of and left out.
    ///
    /// # Errors
    /// No task is named, its settings are wrong, or no run has met any of these targets.
    pub fn resolve_each(
        &self,
        environment: &Environment,
    ) -> Result<(Vec<Config>, &[OsString]), Refused> {
        let (config, rest) = self.gather(environment)?;
        if !config.is_star() {
            return Ok((vec![config], rest));
        }
        let states = TargetStates::of(&config)?;
        let mut pairs = Vec::new();
        let mut unknown = Vec::new();
        for (index, target) in config.chosen_targets() {
            match states.pair(&config, index, target) {
                Ok(pair) => pairs.push(pair),
                Err(why) => unknown.push(why),
            }
        }
        if pairs.is_empty() {
            return Err(Refused::Settings(unknown));
        }
        unknown.iter().for_each(|why| complain(why));
        Ok((pairs, rest))
    }

    fn gather(&self, environment: &Environment) -> Result<(Config, &[OsString]), Refused> {
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
        let lines = |problems: &[Problem]| problems.iter().map(ToString::to_string).collect();
        match resolution.config {
            Some(config) => Ok((config, rest)),
            None => Err(Refused::Settings(lines(&resolution.errors))),
        }
    }
}

/// The pair of a star that a command is about.
fn pair_of(config: &Config) -> Result<Config, Refused> {
    let mut chosen = config.chosen_targets();
    let (Some((index, target)), None) = (chosen.next(), chosen.next()) else {
        let mut lines = vec!["this task has several targets; say by --only which is meant:".into()];
        lines.extend(
            config.targets.iter().enumerate().map(|(index, target)| {
                format!("  {} {}", index + 1, escape(target.name.as_bytes()))
            }),
        );
        return Err(Refused::Settings(lines));
    };
    let states = TargetStates::of(config)?;
    states.pair(config, index, target).map_err(|why| Refused::Settings(vec![why]))
}

/// Which state each target of a star has.
struct TargetStates {
    known: Vec<KnownTarget>,
    places: Vec<String>,
}

impl TargetStates {
    fn of(config: &Config) -> Result<Self, Refused> {
        let unread = |error: &dyn std::fmt::Display| Refused::Settings(vec![error.to_string()]);
        let dir = state_dir(config).map_err(|error| unread(&error))?;
        let store = StateStore::open(dir, &config.instance_id).map_err(|error| unread(&error))?;
        let known = store.known_targets().map_err(|error| unread(&error))?;
        Ok(TargetStates { known, places: config.listed_places() })
    }

    /// The settings of the hub and one target; says why if it has no state.
    fn pair(&self, config: &Config, index: usize, target: &StarTarget) -> Result<Config, String> {
        match targets::instance_at(&config.instance_id, &self.known, &self.places, index) {
            Some(instance) => Ok(config.for_target(target, instance)),
            None => Err(format!(
                "no run of this task has met the target {} so far, and nothing is known of it",
                escape(target.name.as_bytes())
            )),
        }
    }
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

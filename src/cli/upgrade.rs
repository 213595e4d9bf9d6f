//! `osync upgrade`: reads and writes what `config::upgrade` decides, and renames state
//! files (spec 7, "Upgrade").

use super::task_args::Refused;
use super::task_files::{Task, not_understood, read, resolved, say, shown, write_new};
use super::{ERROR, Effect, complain, in_words, settings, star_files};
use crate::batch;
use crate::config::FileForm;
use crate::config::conf_file::Trouble;
use crate::config::{Config, Environment, Flags, Location, SshLocation, load, toml_file, upgrade};
use crate::process::SignalWatch;
use crate::process::{self, Exit, Input, Stop};
use crate::report::{FileAccess, write_whole};
use crate::ssh::{self, Ssh, Use};
use crate::tree::Side;
use crate::tree::path::escape;
use anyhow::{Context, bail};
use clap::{Args, ValueHint};
use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  osync upgrade old.conf                      rewrites it, keeps old.conf.save
  osync upgrade old.conf --dry                only says what would be done
  osync upgrade docs.conf --to-toml           writes docs.toml beside it
  osync upgrade --initiator=a --target=b      the state of a task without a file
  osync upgrade star.conf --join berlin.conf  with the state of a pair

Exit status: 0 it is up to date now, 1 something could not be done, 128 bad usage.";

/// `osync upgrade` (spec 7).
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct UpgradeArgs {
    /// The files to rewrite, or directories of them; FILE.save keeps each as it was
    #[arg(value_name = "CONFIG_FILE|DIR", value_hint = ValueHint::AnyPath)]
    pub config_files: Vec<OsString>,
    /// Write FILE.toml from FILE.conf instead
    #[arg(long, requires = "config_files")]
    pub to_toml: bool,
    /// Quicksync task: the first replica
    #[arg(long, visible_alias = "master", value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with = "config_files")]
    pub initiator: Option<OsString>,
    /// Quicksync task: the second replica
    #[arg(long, visible_alias = "slave", value_name = "DIR|SSH_URI", value_hint = ValueHint::DirPath, conflicts_with = "config_files")]
    pub target: Option<OsString>,
    /// Quicksync task: its name
    #[arg(long, visible_alias = "sync-id", value_name = "ID", conflicts_with = "config_files")]
    pub instance_id: Option<OsString>,
    /// The key for a remote replica
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub rsakey: Option<OsString>,
    /// Let a task with TARGET_SYNC_DIRS go on with the state of this pair task of the same
    /// initiator
    #[arg(long, value_name = "CONFIG_FILE", value_hint = ValueHint::FilePath,
        requires = "config_files", conflicts_with = "to_toml")]
    pub join: Vec<OsString>,
    /// Write this file: one task with all the targets of these pair tasks of one initiator, which
    /// goes on with their states
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath,
        requires = "config_files", conflicts_with_all = ["to_toml", "join"])]
    pub to_star: Option<OsString>,
    /// Write a file for each target of a task with TARGET_SYNC_DIRS, beside it, each of which goes
    /// on with the state of that target
    #[arg(long, requires = "config_files", conflicts_with_all = ["to_toml", "join", "to_star"])]
    pub to_pairs: bool,
    /// Show what would be done
    #[arg(long)]
    pub dry: bool,
}

/// Upgrades tasks. What fails does not keep the rest from being done.
pub fn run(args: &UpgradeArgs, environment: &Environment) -> anyhow::Result<ExitCode> {
    let effect = if args.dry { Effect::Planned } else { Effect::Done };
    let files = files(&args.config_files)?;
    if let Some(star) = &args.to_star {
        let tasks = files.iter().map(|file| Task::read(file, environment));
        let tasks = tasks.collect::<anyhow::Result<Vec<_>>>()?;
        star_files::to_star(Path::new(star), &tasks, environment, effect)?;
        return Ok(ExitCode::SUCCESS);
    }
    match files.as_slice() {
        [] => quicksync(args, environment, effect)?,
        [file] if args.to_toml => to_toml(file, environment, effect)?,
        [file] if args.to_pairs => {
            star_files::to_pairs(&Task::read(file, environment)?, environment, effect)?;
        }
        [file] if !args.join.is_empty() => {
            let pairs = args.join.iter().map(|file| Task::read(Path::new(file), environment));
            let pairs = pairs.collect::<anyhow::Result<Vec<_>>>()?;
            // nothing is rewritten for what cannot be joined
            let joined = star_files::join(&Task::read(file, environment)?.config, &pairs)?;
            rewritten(file, &flags(args), environment, effect)?;
            joined.carry_out(effect)?;
        }
        [file] => drop(upgraded(file, &flags(args), environment, effect)?),
        _ if args.to_toml || args.to_pairs || !args.join.is_empty() => {
            let text = "--to-toml, --to-pairs and --join are about one file";
            return Err(Refused::Usage(text.to_owned()).into());
        }
        files => return Ok(several(files, &flags(args), environment, effect)),
    }
    Ok(ExitCode::SUCCESS)
}

/// The files that are named; of a directory, all tasks in it.
fn files(named: &[OsString]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in named.iter().map(PathBuf::from) {
        if !path.is_dir() {
            files.push(path);
            continue;
        }
        let found = batch::tasks_in(&path, &|_, _| false);
        let found = found.with_context(|| format!("{}: cannot read", shown(&path)))?;
        if found.is_empty() {
            bail!("{}: there is no .conf or .toml file in it", shown(&path));
        }
        files.extend(found);
    }
    Ok(files)
}

fn quicksync(args: &UpgradeArgs, environment: &Environment, effect: Effect) -> anyhow::Result<()> {
    if args.initiator.is_none() || args.target.is_none() {
        let text = "name a configuration file, or give --initiator=DIR and --target=DIR";
        return Err(Refused::Usage(text.to_owned()).into());
    }
    let config = resolved(settings::gather(None, &flags(args), environment))?;
    rename_state_files(&config, effect)
}

/// Upgrades several tasks, and says which of them could be one.
fn several(
    files: &[PathBuf],
    flags: &Flags,
    environment: &Environment,
    effect: Effect,
) -> ExitCode {
    let mut status = ExitCode::SUCCESS;
    let mut tasks = Vec::new();
    for file in files {
        match upgraded(file, flags, environment, effect) {
            Ok(task) => tasks.push(task),
            Err(error) => {
                complain(&in_words(&error));
                status = ExitCode::from(ERROR);
            }
        }
    }
    star_files::offers(&tasks).iter().for_each(|offer| say(offer));
    status
}

/// Upgrades a file and the state of its task.
fn upgraded(
    file: &Path,
    flags: &Flags,
    environment: &Environment,
    effect: Effect,
) -> anyhow::Result<Task> {
    let task = rewritten(file, flags, environment, effect)?;
    if task.config.is_star() {
        say("no state files to rename: no older version had TARGET_SYNC_DIRS");
    } else {
        rename_state_files(&task.config, effect)?;
    }
    Ok(task)
}

/// Upgrades a file alone.
fn rewritten(
    file: &Path,
    flags: &Flags,
    environment: &Environment,
    effect: Effect,
) -> anyhow::Result<Task> {
    // a dry run has not written the new text
    let text = rewrite(file, environment, effect)?;
    Task::of(file, settings::gather_text(file, &text, flags, environment))
}

fn flags(args: &UpgradeArgs) -> Flags {
    Flags {
        initiator: args.initiator.clone(),
        target: args.target.clone(),
        instance_id: args.instance_id.clone(),
        rsakey: args.rsakey.clone(),
        ..Flags::default()
    }
}

/// Rewrites a `.conf` file and returns its new text; a `.toml` file stays as it is.
fn rewrite(file: &Path, environment: &Environment, effect: Effect) -> anyhow::Result<Vec<u8>> {
    let name = shown(file);
    let old = read(file)?;
    match FileForm::of(file) {
        Some(FileForm::Conf) => {}
        Some(FileForm::Toml) => {
            say(&format!("{name} stays as it is: no older version had TOML files."));
            return Ok(old);
        }
        None => bail!("{name}: the name of a configuration file ends in .conf or .toml"),
    }
    let new = upgrade::upgrade(&old, &mut load::Shell::for_file(environment, file))
        .map_err(|errors| not_understood(&name, &errors))?;
    if new.text == old {
        say(&format!("{name} is up to date."));
        return Ok(old);
    }
    for note in &new.notes {
        say(&format!("{name}: {note}"));
    }
    match effect {
        Effect::Planned => say(&format!("{name} would be rewritten.")),
        Effect::Done => {
            let copy =
                keep_copy(file, &old).with_context(|| format!("{name}: cannot keep a copy"))?;
            write_whole(file, &new.text).with_context(|| format!("{name}: cannot write"))?;
            say(&format!("{name} is rewritten; {} keeps it as it was.", shown(&copy)));
        }
    }
    Ok(new.text)
}

/// Writes `FILE.toml` from `FILE.conf`.
fn to_toml(file: &Path, environment: &Environment, effect: Effect) -> anyhow::Result<()> {
    let name = shown(file);
    if FileForm::of(file) != Some(FileForm::Conf) {
        bail!("{name}: only a .conf file can become a .toml file");
    }
    // A file of an older version first becomes one of today.
    let old = read(file)?;
    let mut shell = load::Shell::for_file(environment, file);
    let errors = |errors: Vec<Trouble>| not_understood(&name, &errors);
    let today = upgrade::upgrade(&old, &mut shell).map_err(errors)?;
    let made = toml_file::to_toml(&today.text, &mut shell).map_err(errors)?;
    for note in &made.notes {
        say(&format!("{name}: {note}"));
    }
    let to = file.with_extension("toml");
    let target = shown(&to);
    match fs::read(&to) {
        Ok(there) if there == made.text.as_bytes() => say(&format!("{target} is up to date.")),
        Ok(_) => bail!("{target} is there already; move it away first"),
        Err(_) if effect == Effect::Planned => say(&format!("{target} would be written.")),
        Err(_) => {
            fs::metadata(file)
                .and_then(|like| write_new(&to, made.text.as_bytes(), FileAccess::Like(&like)))
                .with_context(|| format!("{target}: cannot write"))?;
            say(&format!("{target} is written."));
        }
    }
    Ok(())
}

/// Copies the old text to the first of `FILE.save`, `FILE.save.1` … that is free, or that
/// holds it already.
fn keep_copy(file: &Path, old: &[u8]) -> std::io::Result<PathBuf> {
    let metadata = fs::metadata(file)?;
    for number in 0_u32.. {
        let mut name = file.as_os_str().to_owned();
        name.push(".save");
        if number > 0 {
            name.push(format!(".{number}"));
        }
        let copy = PathBuf::from(name);
        match fs::read(&copy) {
            Ok(there) if there == old => return Ok(copy),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                write_new(&copy, old, FileAccess::Like(&metadata))?;
                return Ok(copy);
            }
            Err(error) => return Err(error),
        }
    }
    Err(std::io::Error::other("there are too many copies"))
}

/// What the sides were called.
const OLD_NAMES: [(&str, &str); 2] = [("master-", "initiator-"), ("slave-", "target-")];

/// Renames the old state files of a task on both replicas. Where a file of the new name
/// is there already, the old one stays.
fn rename_state_files(config: &Config, effect: Effect) -> anyhow::Result<()> {
    let mut problems = Vec::new();
    let stop = Stop::new();
    let _watch = SignalWatch::stopping(&stop).context("cannot listen to signals")?;
    for side in Side::BOTH {
        let (Location::Local(root) | Location::Ssh(SshLocation { path: root, .. })) =
            &config.replicas[side];
        let dir = state_dir(config, side, root);
        let done = match &config.replicas[side] {
            Location::Local(_) => here(&dir, &config.instance_id, effect),
            Location::Ssh(to) => there(config, &dir, to, effect, &stop),
        };
        match done {
            Ok(renamed) if renamed.is_empty() => {
                let dir = escape(dir.as_os_str().as_bytes());
                say(&format!("{side}: no state files to rename in {dir}"));
            }
            Ok(renamed) => renamed.iter().for_each(|line| say(&format!("{side}: {line}"))),
            Err(error) => problems.push(format!("{side}: {}", in_words(&error))),
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Refused::Settings(problems).into()) }
}

fn state_dir(config: &Config, side: Side, root: &Path) -> PathBuf {
    config.state_dirs[side].clone().unwrap_or_else(|| root.join(".osync_workdir/state"))
}

/// Renames them on this machine, and returns a line for each.
fn here(dir: &Path, id: &str, effect: Effect) -> anyhow::Result<Vec<String>> {
    let names = fs::read_dir(dir).and_then(|entries| {
        entries.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<Vec<_>>>()
    });
    let mut names = match names {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        names => names.with_context(|| format!("cannot read {}", shown(dir)))?,
    };
    names.sort();
    let mut done = Vec::new();
    for name in names {
        let Some(new) = new_name(name.as_bytes(), id) else { continue };
        let (from, to) = (dir.join(&name), dir.join(OsStr::from_bytes(&new)));
        if to.symlink_metadata().is_ok() {
            let new = escape(&new);
            done.push(format!("{} stays: {new} is there already", escape(name.as_bytes())));
            continue;
        }
        if effect == Effect::Done {
            fs::rename(&from, &to).with_context(|| format!("cannot rename {}", shown(&from)))?;
        }
        done.push(format!("{} is {} now", escape(name.as_bytes()), escape(&new)));
    }
    Ok(done)
}

/// What a state file of this task is called now, if it has one of the old names.
fn new_name(name: &[u8], id: &str) -> Option<Vec<u8>> {
    let suffix = format!("-{id}");
    let (_, new, rest) = OLD_NAMES
        .iter()
        .find_map(|(old, new)| name.strip_prefix(old.as_bytes()).map(|rest| (old, new, rest)))?;
    rest.ends_with(suffix.as_bytes()).then(|| [new.as_bytes(), rest].concat())
}

/// The same on a remote replica: one small script over one ssh connection. Paths go to it
/// in octal, never as shell text.
fn there(
    config: &Config,
    dir: &Path,
    to: &SshLocation,
    effect: Effect,
    stop: &Stop,
) -> anyhow::Result<Vec<String>> {
    let ssh = Ssh::new(&config.remote, to);
    ssh.check()?;
    let octal =
        |bytes: &[u8]| bytes.iter().map(|byte| format!("\\0{byte:03o}")).collect::<String>();
    let (dir, id) = (octal(dir.as_os_str().as_bytes()), octal(config.instance_id.as_bytes()));
    let action = if effect == Effect::Done { "rename" } else { "say" };
    let input = format!("set -- '{dir}' '{id}' {action}\n{}", include_str!("state_files.sh"));
    let command = ssh.command(Use::Control, &ssh.control_shell(None));
    let output = process::output(&command, Input::Bytes(input.as_bytes()), stop)?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match output.exit {
        Exit::Code(0) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let marked = text.lines().filter_map(|line| line.strip_prefix("osync: "));
            Ok(marked.map(str::to_owned).collect())
        }
        Exit::Stopped(_) => bail!("interrupted; run it again"),
        _ => bail!(
            ssh::explain(&said, to, ssh.login())
                .unwrap_or(format!("cannot rename state files: {said}"))
        ),
    }
}

#[cfg(test)]
mod state_files_tests {
    use super::*;

    #[test]
    fn only_old_names_of_this_task_change() {
        for (name, expected) in [
            ("master-tree-after-id", Some("initiator-tree-after-id")),
            ("slave-deleted-list-id", Some("target-deleted-list-id")),
            ("slave-tree-after-other", None),
            ("initiator-tree-after-id", None),
            ("masterly-id", None),
            ("master-", None),
        ] {
            let new = new_name(name.as_bytes(), "id");
            assert_eq!(new.as_deref(), expected.map(str::as_bytes), "{name}");
        }
    }
}

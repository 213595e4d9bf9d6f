//! `osync state show|verify`: finds the state directory and hands over to `state`.

use super::task_args::Refused;
use super::{ERROR, settings, state_dir};
use crate::config::{Environment, Flags};
use crate::state::{self, Ask, Form, ShowError, StateDir, StateHealth, StateStore};
use clap::{Args, Subcommand, ValueHint};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  osync state show docs.conf                        what the last run recorded
  osync state verify docs.conf                      whether that is whole
  osync state verify --initiator=/srv/docs          of all tasks of a replica
  osync state show --initiator=/srv/docs ID --json  for other programs

Exit status: 0, 1 if the state cannot be read or is damaged, 128 bad usage.";

/// `osync state`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct StateArgs {
    #[command(subcommand)]
    #[allow(missing_docs)]
    pub action: StateAction,
}

/// What is done with recorded state.
#[derive(Debug, Subcommand)]
pub enum StateAction {
    /// Print what the last run recorded
    Show(StateTask),
    /// Check that it is readable and whole
    Verify(StateTask),
}

/// Whose state.
#[derive(Debug, Args)]
pub struct StateTask {
    /// The file of a task; with --initiator, INSTANCE_IDs (none: all there are)
    #[arg(value_name = "CONFIG_FILE|ID")]
    pub tasks: Vec<OsString>,
    /// The first replica, where no file is given
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub initiator: Option<OsString>,
    /// Where the state is, if not in the replica
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub initiator_state_dir: Option<OsString>,
    /// Print JSON lines, for other programs
    #[arg(long)]
    pub json: bool,
}

/// Answers on standard output.
pub fn run(action: &StateAction, environment: &Environment) -> anyhow::Result<ExitCode> {
    let (ask, task) = match action {
        StateAction::Show(task) => (Ask::Show, task),
        StateAction::Verify(task) => (Ask::Verify, task),
    };
    let (dir, ids) = place(task, environment)?;
    let form = if task.json { Form::Json } else { Form::Text };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let answered = state::command(ask, form, &dir, &ids, &mut out);
    match answered.and_then(|verdict| Ok(std::io::Write::flush(&mut out).map(|()| verdict)?)) {
        Ok(StateHealth::Sound) => Ok(ExitCode::SUCCESS),
        Ok(StateHealth::Unsound) => Ok(ExitCode::from(ERROR)),
        // `osync state show | head` is no failure.
        Err(ShowError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(anyhow::Error::msg(error)),
    }
}

/// The directory, and the tasks that are asked about; with none, it is all tasks.
fn place(task: &StateTask, environment: &Environment) -> anyhow::Result<(StateDir, Vec<String>)> {
    let usage = |text: &str| Refused::Usage(text.to_owned());
    let is_file = |name: &&OsString| {
        name.as_bytes().ends_with(b".conf") || name.as_bytes().ends_with(b".toml")
    };
    let custom = task.initiator_state_dir.as_ref().map(|dir| StateDir::Custom(PathBuf::from(dir)));
    let named = || {
        let ids = task.tasks.iter().map(|id| id.to_str().map(str::to_owned));
        ids.collect::<Option<Vec<_>>>().ok_or_else(|| usage("an INSTANCE_ID is UTF-8 text"))
    };
    match (custom, &task.initiator, task.tasks.first().filter(is_file)) {
        (_, _, Some(_)) if task.tasks.len() > 1 => Err(usage("name one configuration file").into()),
        (custom, _, Some(file)) => {
            let resolution =
                settings::gather(Some(Path::new(file).as_os_str()), &Flags::default(), environment);
            let refused = Refused::unresolved(&resolution);
            let config = resolution.config.ok_or(refused)?;
            let dir = match custom {
                Some(dir) => dir,
                None => state_dir(&config)?,
            };
            let mut ids = match config.is_star() {
                true => StateStore::open(dir.clone(), &config.instance_id)?.instances_of_star()?,
                false => Vec::new(),
            };
            if ids.is_empty() {
                ids.push(config.instance_id);
            }
            Ok((dir, ids))
        }
        (Some(dir), _, None) => Ok((dir, named()?)),
        (None, Some(root), None) => Ok((StateDir::InReplica(PathBuf::from(root)), named()?)),
        (None, None, None) => {
            Err(usage("name a configuration file, or give --initiator=DIR").into())
        }
    }
}

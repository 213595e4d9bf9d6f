//! `osync status`: one look at all tasks (spec 10).

mod gather;
mod judge;
mod page;
mod show;

use super::pager::{Audience, Line, Page, Tone};
use super::{complain, settings};
use crate::batch;
use crate::config::{Environment, Flags};
use crate::tree::path::escape;
use clap::{Args, ValueHint};
use gather::{Depth, ShownTask};
use judge::Severity;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  osync status                                  all tasks of /etc/osync
  osync status ~/tasks docs.conf --failing      of these, those that fail
  osync status --json | jq '.tasks[].state'     for other programs
  osync status --nagios                         for Nagios and Icinga
  osync status --html /var/www/html/osync.html  a page for a browser

Only files of this machine are read. What needs a person comes first.

Exit status: 0 all is well, 1 something fails, 2 something warns or is overdue. \
With --nagios: 0 all is well, 1 warns, 2 fails, 3 nothing was found.";

/// `osync status`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct StatusArgs {
    /// Tasks, and directories of tasks [default: /etc/osync]
    #[arg(value_name = "CONF|DIR", value_hint = ValueHint::AnyPath)]
    pub places: Vec<OsString>,
    /// Only tasks that fail
    #[arg(long)]
    pub failing: bool,
    /// Print JSON, for other programs
    #[arg(long, conflicts_with = "nagios")]
    pub json: bool,
    /// Print one line as plugins of Nagios do, and end as they do
    #[arg(long)]
    pub nagios: bool,
    /// Write a page for a browser instead, and print nothing
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath,
        conflicts_with_all = ["json", "nagios"])]
    pub html: Option<OsString>,
}

/// Shows how all tasks do.
pub fn run(args: &StatusArgs, environment: &Environment) -> ExitCode {
    let now = chrono::Local::now().timestamp_millis();
    let depth = if args.html.is_some() { Depth::Story } else { Depth::Line };
    let (tasks, problems) = tasks(&args.places, environment, depth, now);
    problems.iter().for_each(|problem| complain(problem));
    let is_shown = |task: &&ShownTask| !args.failing || task.state.severity() == Severity::Fails;
    let shown: Vec<&ShownTask> = tasks.iter().filter(is_shown).collect();
    if args.nagios {
        let (line, status) = show::nagios(&tasks.iter().collect::<Vec<_>>(), now);
        super::print(&format!("{line}\n"));
        let status = if problems.is_empty() { status } else { status.max(3) };
        return ExitCode::from(status);
    }
    let status = match tasks.iter().map(|task| task.state.severity()).max() {
        _ if !problems.is_empty() => 1,
        Some(Severity::Fails) => 1,
        // that there is nothing to look at is not what anybody wants
        None | Some(Severity::Warns) => 2,
        Some(Severity::Well) => 0,
    };
    if let Some(file) = &args.html {
        if let Err(why) = page::write(Path::new(file), &shown, now) {
            return super::failed(&why);
        }
        return ExitCode::from(status);
    }
    if args.json {
        super::print(&format!("{:#}\n", show::json(&shown, now, status)));
        return ExitCode::from(status);
    }
    let mut page = Page::open(Audience::Person);
    if tasks.is_empty() {
        page.line("there are no tasks".to_owned());
    } else if shown.is_empty() {
        page.line("no task fails".to_owned());
    } else {
        let of_task = |task: &&ShownTask| match task.state.severity() {
            Severity::Well => Tone::Plain,
            Severity::Warns => Tone::Warns,
            Severity::Fails => Tone::Fails,
        };
        let tones = std::iter::once(Tone::Head).chain(shown.iter().map(of_task));
        let lines = show::table(&shown, now).into_iter().zip(tones);
        lines.for_each(|(text, tone)| page.line(Line { text, tone }));
    }
    drop(page);
    ExitCode::from(status)
}

/// All tasks, those that need a person first, and which places cannot be read.
fn tasks(
    places: &[OsString],
    environment: &Environment,
    depth: Depth,
    now: i64,
) -> (Vec<ShownTask>, Vec<String>) {
    let instance = |file: &Path| {
        let found = settings::gather(Some(file.as_os_str()), &Flags::default(), environment);
        found.config.map(|config| config.instance_id)
    };
    let is_same_task =
        |one: &Path, other: &Path| instance(one).is_some_and(|one| Some(one) == instance(other));
    let usual = [OsString::from(batch::TASKS)];
    let places = if places.is_empty() { &usual[..] } else { places };
    let (mut files, mut problems) = (Vec::new(), Vec::new());
    for place in places {
        match batch::tasks_in(Path::new(place), &is_same_task) {
            Ok(found) => files.extend(found),
            Err(error) => {
                let place = escape(place.as_bytes());
                problems.push(format!("cannot read the tasks in {place}: {error}"));
            }
        }
    }
    let look = |file: &PathBuf| gather::look(file, environment, depth, now);
    let mut tasks: Vec<ShownTask> = files.iter().flat_map(look).collect();
    let order = |task: &ShownTask| (task.state, task.facts.open_conflicts == 0, task.name.clone());
    tasks.sort_by_cached_key(order);
    (tasks, problems)
}

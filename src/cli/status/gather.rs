//! What the local files tell of a task: its settings, its state, its locks. Nothing is asked of
//! another machine, and nothing is changed.

use super::judge::{Facts, Lock, State, judge};
use crate::cli::{in_words, look_at_initiator, settings, state_dir};
use crate::config::{Config, Environment, Flags, Location, Problem, StarTarget};
use crate::replica::{LockSeen, look_at_lock};
use crate::state::journal::{Journal, RecordedConflict, RecordedRun, Wanted};
use crate::state::last_run::LastRun;
use crate::state::targets::{self, KnownTarget};
use crate::state::{NotePlaces, StateDir, StateStore};
use crate::tree::path::escape;
use crate::tree::{Pair, RelPath, Side};
use anyhow::Context;
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// So many runs are plotted.
const PLOTTED: u64 = 60;

/// A task with what is known of it.
#[derive(Debug, Clone)]
pub struct ShownTask {
    /// INSTANCE_ID, or the name of the file where that cannot be read; for people.
    pub name: String,
    /// Its configuration file.
    pub file: PathBuf,
    /// Both replicas, for people.
    pub replicas: Option<Pair<String>>,
    /// What is known.
    pub facts: Facts,
    /// What that means.
    pub state: State,
    /// What its journal holds (`--html`).
    pub story: Story,
}

/// What the journal tells beside that.
#[derive(Debug, Clone, Default)]
pub struct Story {
    /// The last runs that changed something or failed, the newest first.
    pub runs: Vec<RecordedRun>,
    /// Open conflicts, the newest first.
    pub conflicts: Vec<RecordedConflict>,
}

/// How much of a task is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What one line can tell.
    Line,
    /// The journal too.
    Story,
}

/// Looks at a task; at a star, target by target.
#[must_use]
pub fn look(file: &Path, environment: &Environment, depth: Depth, now: i64) -> Vec<ShownTask> {
    let resolution = settings::gather(Some(file.as_os_str()), &Flags::default(), environment);
    let file_name = file.file_name().unwrap_or(file.as_os_str());
    let blank = |name: String| ShownTask {
        name,
        file: file.to_owned(),
        replicas: None,
        facts: Facts::default(),
        state: State::Ok,
        story: Story::default(),
    };
    let mut tasks = match &resolution.config {
        Some(config) if config.is_star() => {
            let known = known_targets(config);
            let places = config.listed_places();
            let id = &config.instance_id;
            let one = |(index, target): (usize, &StarTarget)| {
                let name = escape(target.name.as_bytes());
                let mut task = blank(format!("{} [{name}]", escape(id.as_bytes())));
                let instance = match &known {
                    Ok(known) => targets::instance_at(id, known, &places, index),
                    Err(why) => {
                        task.facts.trouble = Some(in_words(why));
                        None
                    }
                };
                let own = StateDir::of(config).zip(instance.as_deref());
                // a name that no state can have: this target has none yet
                let pair = config.for_target(target, instance.clone().unwrap_or(format!("{id}@")));
                let notes = NotePlaces::of_target(own, id, &pair.replicas);
                fill(&mut task, Looked { pair: &pair, run: id, notes: &notes, depth });
                task
            };
            config.targets.iter().enumerate().map(one).collect()
        }
        Some(config) => {
            let mut task = blank(escape(config.instance_id.as_bytes()));
            let (run, notes) = (&config.instance_id, NotePlaces::of(config));
            fill(&mut task, Looked { pair: config, run, notes: &notes, depth });
            vec![task]
        }
        None => {
            let mut task = blank(escape(file_name.as_bytes()));
            let first = resolution.errors.first().map(Problem::to_string);
            task.facts.trouble = Some(first.unwrap_or_else(|| "the settings are wrong".to_owned()));
            vec![task]
        }
    };
    tasks.iter_mut().for_each(|task| task.state = judge(&task.facts, now));
    tasks
}

/// Which state each target of a star has.
fn known_targets(config: &Config) -> anyhow::Result<Vec<KnownTarget>> {
    Ok(StateStore::open(state_dir(config)?, &config.instance_id)?.known_targets()?)
}

/// What is looked at.
#[derive(Clone, Copy)]
struct Looked<'a> {
    pair: &'a Config,
    /// Under whose name its runs lock the initiator.
    run: &'a str,
    /// Where its last run is noted.
    notes: &'a NotePlaces,
    depth: Depth,
}

/// Tells of a pair.
fn fill(task: &mut ShownTask, looked: Looked<'_>) {
    let pair = looked.pair;
    task.replicas = Some(Pair::from_fn(|side| pair.replicas[side].to_string()));
    task.facts.max_age = pair.alerts.status_max_age;
    if let Err(why) = read(looked, task) {
        task.facts.trouble.get_or_insert(in_words(&why));
    }
}

fn read(looked: Looked<'_>, task: &mut ShownTask) -> anyhow::Result<()> {
    let Looked { pair: config, run, notes, depth } = looked;
    // the state lies there; of a target that is not there the runs tell
    look_at_initiator(config)?;
    for side in Side::BOTH {
        let Location::Local(root) = &config.replicas[side] else { continue };
        let seen = look_at_lock(root, &config.instance_id)
            .with_context(|| format!("cannot look at the lock of the {side}"))?;
        let own = if side == Side::Initiator { run } else { &config.instance_id };
        let lock = lock(seen, own, side);
        if task.facts.lock == Lock::Free {
            task.facts.lock = lock;
        }
    }
    let dir = state_dir(config)?;
    task.facts.last = notes.last_run()?;
    let store = StateStore::open(dir.clone(), &config.instance_id)?;
    // both copies of a file may be damaged
    let (damaged, _) = store.damaged_files()?;
    let paths: BTreeSet<&RelPath> = damaged.iter().map(|one| &one.seen.path).collect();
    task.facts.damaged = paths.len() as u64;
    task.facts.scrub = store.last_scrub()?;
    let is_zero =
        |known: fn(&LastRun) -> Option<u64>| task.facts.last.as_ref().and_then(known) == Some(0);
    let nothing_waits = is_zero(|last| last.open_conflicts) && is_zero(|last| last.differences);
    if depth == Depth::Line && nothing_waits {
        return Ok(());
    }
    Ok(read_journal(&dir, &config.instance_id, depth, task)?)
}

fn read_journal(
    dir: &StateDir,
    instance_id: &str,
    depth: Depth,
    task: &mut ShownTask,
) -> Result<(), crate::state::journal::JournalError> {
    let Some(journal) = Journal::read(dir, instance_id)? else { return Ok(()) };
    let waiting = journal.waiting()?;
    task.facts.open_conflicts = waiting.conflicts;
    task.facts.differences = waiting.differences;
    if depth == Depth::Story {
        use crate::state::journal::ConflictState::Open;
        task.story.runs = journal.runs(&Wanted { limit: Some(PLOTTED), ..Wanted::default() })?;
        task.story.conflicts = journal.conflicts(Some(Open))?;
    }
    Ok(())
}

/// What a lock says about this task. A hub that many tasks share is locked by one at a time:
/// that another one is under way, or was killed, is told of that one.
fn lock(seen: LockSeen, own: &str, side: Side) -> Lock {
    match seen {
        LockSeen::Held { instance_id, since, .. } if instance_id == own => {
            Lock::Running(since.saturating_mul(1000))
        }
        LockSeen::Dead { instance_id, why } if instance_id == own || instance_id.is_empty() => {
            Lock::Dead(format!("{side}: {why}"))
        }
        LockSeen::Unclear(why) => Lock::Dead(format!("{side}: {why}")),
        LockSeen::Free | LockSeen::Held { .. } | LockSeen::Dead { .. } => Lock::Free,
    }
}

impl ShownTask {
    /// Its last run, if it has run.
    #[must_use]
    pub fn last(&self) -> Option<&LastRun> {
        self.facts.last.as_ref()
    }

    /// Bytes of what both sides keep, as far as that is known.
    #[must_use]
    pub fn kept(&self) -> Option<u64> {
        let known: Vec<u64> = self.last()?.kept.into_iter().flatten().collect();
        (!known.is_empty()).then(|| known.iter().sum())
    }
}

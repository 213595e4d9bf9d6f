//! Which task runs next. Pure: elapsed time and ends of runs in, decisions out
//! (spec 7, "Batch").

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;

use crate::config::Location;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// What a batch may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// How often a task that fails may run in all; at least 1.
    pub max_runs: u32,
    /// No run begins later than this, if there is a limit. Runs that have begun go on.
    pub max_time: Option<Duration>,
    /// How many tasks may run at the same time; at least 1.
    pub parallel: usize,
    /// How long after its failure a task runs again at the earliest, unless nothing else is
    /// to be done and the time would be up by then.
    pub retry_delay: Duration,
}

/// How a run of a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// Exit status 0.
    Success,
    /// Exit status 2: done, with warnings. Not run again.
    Warnings,
    /// Anything else: it may run again.
    Failure,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Start this task.
    Start(usize),
    /// Wait until a running task ends.
    Wait,
    /// Wait this long, or until a running task ends: then one may run again.
    WaitFor(Duration),
    /// Everything has had its turns.
    Done,
    /// The time is up, and tasks that could still run do not.
    TimeUp,
}

#[derive(Debug, Clone)]
struct Task {
    footprint: Footprint,
    runs: u32,
    running: bool,
    last: Option<RunEnd>,
    /// When it may run (again).
    ready: Duration,
}

/// All tasks of a batch, in the order they are to run.
#[derive(Debug, Clone)]
pub struct Schedule {
    tasks: Vec<Task>,
    allowance: Allowance,
}

impl Schedule {
    /// A batch that has not begun.
    #[must_use]
    pub fn new(tasks: impl IntoIterator<Item = Footprint>, allowance: Allowance) -> Self {
        let tasks = tasks
            .into_iter()
            .map(|footprint| Task {
                footprint,
                runs: 0,
                running: false,
                last: None,
                ready: Duration::ZERO,
            })
            .collect();
        Schedule { tasks, allowance }
    }

    /// What to do, this long after the batch began. A task that failed runs again only
    /// after all others have had their turn; tasks never run beside one they share a
    /// replica with.
    #[must_use]
    pub fn next(&self, elapsed: Duration) -> Next {
        let running = self.tasks.iter().filter(|task| task.running).count();
        let round = self.waiting().map(|(_, task)| task.runs).min();
        let Some(round) = round else {
            return if running > 0 { Next::Wait } else { Next::Done };
        };
        if self.allowance.max_time.is_some_and(|max| elapsed >= max) {
            return if running > 0 { Next::Wait } else { Next::TimeUp };
        }
        // A task that is still in an earlier round has not had its turn yet.
        let earlier = self.tasks.iter().any(|task| task.running && task.runs <= round);
        if running >= self.allowance.parallel || earlier {
            return Next::Wait;
        }
        let mut free = self
            .waiting()
            .filter(|(_, task)| task.runs == round && !self.is_hindered(&task.footprint));
        let Some((first, task)) = free.clone().min_by_key(|(_, task)| task.ready) else {
            return Next::Wait;
        };
        if let Some((index, _)) = free.find(|(_, task)| task.ready <= elapsed) {
            return Next::Start(index);
        }
        let is_too_late = self.allowance.max_time.is_some_and(|max| task.ready >= max);
        if running == 0 && is_too_late {
            return Next::Start(first);
        }
        Next::WaitFor(task.ready.saturating_sub(elapsed))
    }

    /// A task has been started.
    pub fn started(&mut self, index: usize) {
        if let Some(task) = self.tasks.get_mut(index) {
            task.running = true;
            task.runs += 1;
        }
    }

    /// A running task has ended, this long after the batch began.
    pub fn ended(&mut self, index: usize, end: RunEnd, elapsed: Duration) {
        if let Some(task) = self.tasks.get_mut(index) {
            task.running = false;
            task.last = Some(end);
            task.ready = elapsed + self.allowance.retry_delay;
        }
    }

    /// Whether any task runs now.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.tasks.iter().any(|task| task.running)
    }

    /// How often a task has been started.
    #[must_use]
    pub fn runs(&self, index: usize) -> u32 {
        self.tasks.get(index).map_or(0, |task| task.runs)
    }

    /// How the last run of each task ended; `None` for those that had no turn.
    pub fn results(&self) -> impl Iterator<Item = Option<RunEnd>> + '_ {
        self.tasks.iter().map(|task| task.last)
    }

    /// Tasks that are to run (again), in order.
    fn waiting(&self) -> impl Iterator<Item = (usize, &Task)> + Clone {
        let max_runs = self.allowance.max_runs.max(1);
        self.tasks.iter().enumerate().filter(move |(_, task)| {
            let again = matches!(task.last, None | Some(RunEnd::Failure));
            !task.running && again && task.runs < max_runs
        })
    }

    fn is_hindered(&self, footprint: &Footprint) -> bool {
        self.tasks.iter().any(|task| task.running && task.footprint.overlaps(footprint))
    }
}

/// The places a task works in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Footprint {
    /// None: nobody knows (its settings cannot be read), so it runs alone.
    places: Option<Places>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Places {
    instance_id: String,
    directories: Vec<(Machine, PathBuf)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Machine {
    Here,
    There(String),
}

impl Footprint {
    /// Of a task whose settings cannot be read.
    #[must_use]
    pub fn unknown() -> Self {
        Footprint::default()
    }

    /// From the places themselves.
    #[must_use]
    pub fn new(instance_id: &str, locations: impl IntoIterator<Item = Location>) -> Self {
        let directories = locations
            .into_iter()
            .map(|location| match location {
                Location::Local(path) => (Machine::Here, path),
                // The user and the port are left out: they may lead to the same directory.
                Location::Ssh(ssh) => (Machine::There(ssh.host.to_ascii_lowercase()), ssh.path),
            })
            .collect();
        let places = Places { instance_id: instance_id.to_owned(), directories };
        Footprint { places: Some(places) }
    }

    /// Whether two tasks could meet. In doubt they could.
    #[must_use]
    pub fn overlaps(&self, other: &Footprint) -> bool {
        let (Some(ours), Some(theirs)) = (&self.places, &other.places) else { return true };
        // State and log files carry the instance id.
        ours.instance_id == theirs.instance_id
            || ours.directories.iter().any(|(machine, path)| {
                theirs.directories.iter().any(|(other_machine, other_path)| {
                    may_be_the_same(machine, other_machine) && meet(path, other_path)
                })
            })
    }
}

/// Different names may be of one host, and of this one: but whoever writes two names for
/// one machine and nests directories over them is not served by `--parallel`.
fn may_be_the_same(one: &Machine, other: &Machine) -> bool {
    match (one, other) {
        (Machine::There(name), Machine::Here) | (Machine::Here, Machine::There(name)) => {
            matches!(name.as_str(), "localhost" | "127.0.0.1" | "::1")
        }
        _ => one == other,
    }
}

/// Whether one lies in the other. An absolute and a relative path (in the login
/// directory) could.
fn meet(one: &Path, other: &Path) -> bool {
    let unclear = |path: &Path| path.components().any(|part| part == Component::ParentDir);
    if one.is_absolute() != other.is_absolute() || unclear(one) || unclear(other) {
        return true;
    }
    let (one, other) = (in_home(one), in_home(other));
    one.starts_with(&other) || other.starts_with(&one)
}

/// `~/data` and `data` are one directory over ssh.
fn in_home(path: &Path) -> PathBuf {
    path.strip_prefix("~").unwrap_or(path).components().collect()
}

#[cfg(test)]
mod footprint_tests {
    use super::*;

    fn task(id: &str, locations: &[&str]) -> Footprint {
        Footprint::new(id, locations.iter().map(|l| Location::parse(l.as_bytes()).unwrap()))
    }

    #[test]
    fn tasks_meet_where_they_share_a_directory_or_an_instance_id() {
        let cases: &[(&[&str], &[&str], bool)] = &[
            (&["/a", "/b"], &["/c", "/d"], false),
            (&["/a", "/b"], &["/b", "/c"], true),
            (&["/a", "/b"], &["/b/below", "/c"], true),
            (&["/a", "/b/below"], &["/c", "/b"], true),
            (&["/a", "/b"], &["/bb", "/c"], false),
            (&["/a/", "/b"], &["/a", "/c"], true),
            (&["/a", "/b"], &["/x/../a", "/c"], true),
            (&["/a", "ssh://h//x"], &["/b", "ssh://h//y"], false),
            (&["/a", "ssh://h//x"], &["/b", "ssh://u@H:22//x/y"], true),
            (&["/a", "ssh://h//x"], &["/b", "ssh://g//x"], false),
            (&["/a", "ssh://h//x"], &["/b", "ssh://h/x"], true),
            (&["/a", "ssh://h/x"], &["/b", "ssh://h/y"], false),
            (&["/a", "ssh://h/x"], &["/b", "ssh://h/~/x"], true),
            (&["/a", "ssh://h//a"], &["/b", "/c"], false),
            (&["/a", "ssh://localhost//b"], &["/b", "/c"], true),
        ];
        for (one, other, expected) in cases {
            let (one, other) = (task("one", one), task("other", other));
            assert_eq!(one.overlaps(&other), *expected, "{one:?} {other:?}");
            assert_eq!(other.overlaps(&one), *expected, "{other:?} {one:?}");
        }
        assert!(task("same", &["/a", "/b"]).overlaps(&task("same", &["/c", "/d"])));
        assert!(task("known", &["/a", "/b"]).overlaps(&Footprint::unknown()));
    }
}

//! PING_URL and NOTIFY_URL around a run: when something is told, and what was told before
//! (spec 10, "Being told").

use super::Task;
use crate::config::{Config, Location, NotifyOn};
use crate::report::failure::{Failure, News, news};
use crate::report::notify::{self, Note, Ping};
use crate::report::{Event, Level, Log, Problem, Reporter, Tally, Who};
use crate::state::told::{Channel, Told};
use crate::state::{StateDir, StateStore};
use crate::tree::RelPath;
use crate::tree::path::for_shell;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::SystemTime;

/// So many problems are told.
const LISTED: usize = 20;

/// A ping that is under way while the run goes on.
pub(super) type Under = JoinHandle<Result<(), String>>;

impl Task<'_> {
    /// Tells the service that a run begins. Nobody waits for that.
    pub(super) fn ping_start(&mut self) {
        let Some(url) = self.config.notify.ping_url.clone().filter(|_| !self.is_dry()) else {
            return;
        };
        let ping = move || notify::ping(&url, Ping::Start, "");
        self.start_ping = Some(std::thread::spawn(ping));
    }

    /// Tells how the run ended.
    pub(super) fn notify_end(&mut self, summed_up: &str) {
        let log = self.around.log;
        if let Some(start) = self.start_ping.take()
            && let Ok(Err(why)) = start.join()
        {
            remark(log.as_ref(), &why);
        }
        if self.is_dry() {
            return;
        }
        let end = End {
            status: self.outcome.status,
            succeeded: self.outcome.complete && matches!(self.outcome.status, 0 | 2),
            summed_up,
            tally: &log.tally(),
            conflicts: self.outcome.conflicts.iter().map(|of| of.path.clone()).collect(),
        };
        let state = self.open_store().ok();
        tell(self.config, &end, state, log.as_ref());
    }
}

/// How a run ended.
struct End<'a> {
    status: u8,
    succeeded: bool,
    summed_up: &'a str,
    tally: &'a Tally,
    conflicts: Vec<RelPath>,
}

/// Tells of a task that a batch has given up, with what its last run said.
pub fn tell_given_up(config: &Config, lines: &[String], log: &Log) {
    let mut tally = Tally::default();
    for line in lines.iter().filter(|line| line.contains(Level::Error.tag())) {
        tally.add(&Problem { level: Level::Error, side: None, path: None, text: line.clone() });
    }
    let summed_up = lines.iter().rev().nth(1).cloned().unwrap_or_default();
    let conflicts = Vec::new();
    let end = End { status: 1, succeeded: false, summed_up: &summed_up, tally: &tally, conflicts };
    tell(config, &end, state_of(config), log);
}

/// The state of a task that is not under way.
fn state_of(config: &Config) -> Option<StateStore> {
    let dir = match (&config.state_dirs.initiator, &config.replicas.initiator) {
        (Some(dir), _) => StateDir::Custom(dir.clone()),
        (None, Location::Local(root)) => StateDir::InReplica(root.clone()),
        (None, Location::Ssh(_)) => return None,
    };
    StateStore::open(dir, &config.instance_id).ok()
}

fn tell(config: &Config, end: &End<'_>, state: Option<StateStore>, log: &dyn Reporter) {
    if !end.succeeded && config.flags.hold_alert {
        // the batch runs it again, or tells it itself
        return;
    }
    let problems: Vec<String> =
        end.tally.problems.iter().take(LISTED).map(ToString::to_string).collect();
    if let Some(url) = &config.notify.ping_url {
        let ping = if end.succeeded { Ping::Success } else { Ping::Fail };
        let text = notify::ping_text(end.summed_up, &problems);
        if let Err(why) = notify::ping(url, ping, &text) {
            remark(log, &why);
        }
    }
    let Some(url) = &config.notify.url else { return };
    let memory = Memory::of(config, state);
    let on = config.notify.on;
    let failure = if notify::counts_as_failure(on, end.status) {
        let counted = |problem: &&Problem| on != NotifyOn::Error || problem.level != Level::Warn;
        Failure::of(end.status, end.tally.problems.iter().filter(counted))
    } else {
        None
    };
    let now = millis();
    let news = news(memory.told().as_ref(), failure.as_ref(), None, now);
    let Some(happened) = notify::due(on, news, end.status, end.conflicts.len()) else { return };
    let note = Note {
        happened,
        task: config.instance_id.clone(),
        host: Who::here().host,
        status: end.status,
        summed_up: end.summed_up.to_owned(),
        problems,
        problem_count: end.tally.total(),
        conflicts: end.conflicts.iter().map(|path| (path.shown(), settle(config, path))).collect(),
        id: format!("osync-{now}-{}", std::process::id()),
    };
    match notify::notify(url, config.notify.format, &note) {
        // it is told with the next run
        Err(why) => remark(log, &why),
        Ok(()) if news == News::None => {}
        Ok(()) => {
            let told = failure.map(|failure| Told { failure: failure.key().to_owned(), at: now });
            if let Err(why) = memory.remember(told.as_ref()) {
                remark(log, &format!("{why}; what was told may be told again"));
            }
        }
    }
}

/// The command that closes a conflict.
fn settle(config: &Config, path: &RelPath) -> String {
    let task = match &config.file {
        Some(file) => for_shell(file.as_os_str().as_bytes()),
        None => "--initiator=… --target=…".to_owned(),
    };
    format!("osync conflicts {task} done {}", for_shell(path.as_bytes()))
}

/// A warning that leaves the exit status as it is.
fn remark(log: &dyn Reporter, text: &str) {
    log.tell(Event::Remark(Level::Warn, text));
}

fn millis() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// What was told before: with the state of the task, and where there is none (a disk that is not
/// there fails every run) in the user's own state directory.
struct Memory {
    places: Vec<StateStore>,
}

impl Memory {
    fn of(config: &Config, state: Option<StateStore>) -> Self {
        let own = state.filter(|store| store.dir().is_there());
        let elsewhere = user_dir().and_then(|dir| {
            let place = blake3::hash(config.replicas.initiator.to_string().as_bytes());
            let place = &place.to_hex()[..16];
            StateStore::open(StateDir::Custom(dir), &format!("{}.{place}", config.instance_id)).ok()
        });
        Memory { places: own.into_iter().chain(elsewhere).collect() }
    }

    fn told(&self) -> Option<Told> {
        let told = |place: &StateStore| place.told(Channel::Notification).ok().flatten();
        self.places.iter().find_map(told)
    }

    /// Notes it in the first place, and what stands in the others is out of date.
    fn remember(&self, told: Option<&Told>) -> Result<(), String> {
        for (index, place) in self.places.iter().enumerate() {
            let told = told.filter(|_| index == 0);
            place.set_told(Channel::Notification, told).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// `$XDG_STATE_HOME/osync`, `~/.local/state/osync`.
fn user_dir() -> Option<PathBuf> {
    let filled = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || filled("HOME").map(|home| home.join(".local/state"));
    Some(filled("XDG_STATE_HOME").or_else(home)?.join("osync"))
}

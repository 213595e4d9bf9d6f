//! The end of every run, however it ended (spec 7): the only place that knows exit statuses (spec
//! 1, "Exit status"), and PING_URL and NOTIFY_URL around a run (spec 10, "Being told").

use super::intent::Work;
use super::journal::{Noted, millis};
use super::undo::Undone;
use super::{Earlier, Role, Task, hooks, remote};
use crate::config::{Config, NotifyOn};
use crate::process::{StopReason, fault, signal_name};
use crate::reconcile::guard::Danger;
use crate::replica::{Replica, ReplicaError};
use crate::report::failure::{Failure, News, news};
use crate::report::mail::{Delivery, Known, conflict_lines, mail_failure, mail_result};
use crate::report::notify::{self, Note, Ping};
use crate::report::run_report::{rewrite_reports, tally_of, write_reports};
use crate::report::scrub::Scrubbed;
use crate::report::summary::{Reach, sum_up};
use crate::report::words::counted;
use crate::report::{
    Achievements, ConflictLine, Counts, Event, Level, Log, Problem, Reporter, RunReport, Tally, Who,
};
use crate::state::journal::RunRecord;
use crate::state::told::{Channel, Told};
use crate::state::{Baseline, NotePlaces};
use crate::tree::path::for_shell;
use crate::tree::{Pair, RelPath, Side};
use serde_json::Value;
use std::os::unix::ffi::OsStrExt;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

/// Success, nothing to report.
pub const SUCCESS: u8 = 0;
/// Something that should have been done was not.
pub const ERROR: u8 = 1;
/// Done, with warnings; stopped by the user.
pub const WARNING: u8 = 2;

/// Why a run ended before its end.
#[derive(Debug)]
pub enum Halt {
    /// A replica cannot be used, is locked, or was lost.
    Replica(ReplicaError),
    /// The plan is too dangerous.
    Danger(Danger),
    /// Something else that the run needs is missing or broken.
    Fatal {
        /// The side it concerns.
        side: Option<Side>,
        /// What failed, why, and what to do about it.
        what: String,
    },
    /// What it was is reported already.
    Told,
    /// Another run holds a lock, and this one is not to wait nor to fail (`--skip-if-running`).
    Skipped(String),
    /// A limit or a signal.
    Stopped(StopReason),
}

impl Halt {
    /// Something the run needs is missing or broken.
    #[must_use]
    pub fn fatal(what: impl Into<String>) -> Self {
        Halt::Fatal { side: None, what: what.into() }
    }

    /// What it is, for people.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Halt::Replica(error) => error.to_string(),
            Halt::Danger(danger) => danger.to_string(),
            Halt::Fatal { side: Some(side), what } => format!("{side}: {what}"),
            Halt::Fatal { side: None, what } | Halt::Skipped(what) => what.clone(),
            Halt::Stopped(_) => "stopped".to_owned(),
            Halt::Told => "it ended early; why is told above".to_owned(),
        }
    }

    /// The state of the last run cannot be read or written.
    #[must_use]
    pub fn state(error: &dyn std::error::Error) -> Self {
        Halt::fatal(error.to_string())
    }
}

impl From<ReplicaError> for Halt {
    fn from(error: ReplicaError) -> Self {
        Halt::Replica(error)
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct RunOutcome {
    /// The exit status.
    pub status: u8,
    /// When the run began.
    pub started: SystemTime,
    /// Whether it came to its end: false if it was stopped or could not begin.
    pub complete: bool,
    /// How far it came.
    pub reach: Reach,
    /// The number that it has in both replicas; `None`: it recorded nothing.
    pub number: Option<u64>,
    /// How many files were compared: those of the side that has more.
    pub files: u64,
    /// It was skipped, because another run holds a lock.
    pub skipped: bool,
    /// What was done on each side.
    pub counts: Pair<Counts>,
    /// Paths changed on both sides.
    pub conflicts: Vec<ConflictLine>,
    /// What was done, for the journal; `None` if nothing was to be recorded.
    pub done: Option<RunRecord>,
    /// The entry of the journal that was written before the run was over.
    pub entry: Option<i64>,
    /// What the plan comes to (`osync plan`).
    pub work: Option<Work>,
    /// The plans that are to be kept, each as a file would hold it.
    pub plans: Vec<Vec<u8>>,
    /// What was undone (`osync undo`).
    pub undone: Vec<Undone>,
    /// What a scrub found (`osync scrub`).
    pub scrub: Option<Scrubbed>,
    /// How many paths were compared.
    pub compared: u64,
    /// Bytes of what each side keeps in `backup/` and `deleted/`; `None`: not known.
    pub kept: Pair<Option<u64>>,
    /// What was recorded, for the monitor, which compares with it what it notices.
    pub baseline: Option<Baseline>,
}

impl RunOutcome {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(started: SystemTime) -> Self {
        RunOutcome {
            status: SUCCESS,
            started,
            complete: false,
            reach: Reach::Nothing,
            files: 0,
            skipped: false,
            counts: Pair::default(),
            conflicts: Vec::new(),
            done: None,
            entry: None,
            work: None,
            plans: Vec::new(),
            undone: Vec::new(),
            scrub: None,
            number: None,
            compared: 0,
            kept: Pair::default(),
            baseline: None,
        }
    }
}

/// The exit status of a run from the worst that it reported and why it was stopped.
#[must_use]
pub fn status(worst: Option<Level>, stopped: Option<StopReason>) -> u8 {
    match (worst, stopped) {
        (Some(Level::Critical | Level::Error), _) | (_, Some(StopReason::HardLimit)) => ERROR,
        (Some(Level::Warn), _) | (_, Some(StopReason::Signal(_))) => WARNING,
        _ => SUCCESS,
    }
}

/// A run that has ended, but for what is told outside.
pub(super) struct Ended {
    /// What it did, in a line.
    pub summed_up: String,
    /// What was noted of it as the last run.
    pub noted: Option<Noted>,
}

/// Gives the lock of a replica back.
pub(super) fn unlock(replica: &mut dyn Replica) -> Result<(), ReplicaError> {
    fault::point("unlocking");
    replica.unlock()
}

pub(super) fn tell_still_locked(reporter: &dyn Reporter, error: &ReplicaError) {
    let text = format!("cannot take back our lock: {}", error.what);
    reporter.problem(Level::Error, Some(error.side), None, &text);
}

impl Task<'_> {
    /// Unlocks, writes journal and reports, runs the after-commands, sends mail, and decides
    /// the exit status.
    pub(super) fn close(mut self, halted: Option<Halt>) -> RunOutcome {
        let Some(Ended { summed_up, mut noted }) = self.end(halted) else { return self.outcome };
        // before the after-commands, so that these can send them
        let report = self.report(&summed_up);
        write_reports(self.config, &report, self.around.reporter());
        let reported = self.status();
        self.after_hooks();
        self.outcome.status = self.status();
        if self.outcome.status != reported {
            rewrite_reports(self.config, &self.report(&summed_up), self.around.reporter());
        }
        if let Some(noted) = &mut noted {
            self.note_last_run(noted, &summed_up);
        }
        self.send_mail(&summed_up);
        self.notify_end(&summed_up);
        self.outcome.status = self.status();
        self.say(Level::Notice, &summed_up);
        self.around.log.close_run(self.around.log.worst());
        self.outcome
    }

    /// Unlocks, and writes the journal. None: the run was skipped.
    pub(super) fn end(&mut self, halted: Option<Halt>) -> Option<Ended> {
        self.outcome.complete = halted.is_none();
        if let Some(Halt::Skipped(text)) = &halted {
            self.around.log.forget_held();
            self.say(Level::Notice, text);
            self.outcome.skipped = true;
            return None;
        }
        self.around.log.release();
        // what failed was to be done, and was not
        let is_whole = halted.is_none() && self.status() != ERROR;
        if is_whole && self.outcome.reach == Reach::Part {
            self.outcome.reach = Reach::All;
        }
        self.tell_halt(halted);
        let unlocks = |_: &&Side| self.role != Role::Turn;
        for side in self.role.sides().iter().filter(unlocks) {
            if let Err(error) = unlock(self.replicas[*side].as_mut()) {
                tell_still_locked(self.around.reporter(), &error);
            }
        }
        self.outcome.status = self.status();
        let summed_up = self.summed_up();
        // the journals of a star are those of its pairs
        let noted = match self.role {
            Role::Hub => None,
            Role::Whole | Role::Turn => self.write_journal(&summed_up),
        };
        self.outcome.status = self.status();
        Some(Ended { summed_up, noted })
    }

    pub(super) fn status(&self) -> u8 {
        status(self.around.log.worst(), self.around.stop.reason())
    }

    /// After-commands run even after a stop, for they tidy up; the next signal ends them.
    fn after_hooks(&mut self) {
        let stop = self.around.stop.following();
        for side in Side::BOTH {
            self.replicas[side].set_stop(&stop);
        }
        let result = hooks::ResultForHooks {
            status: self.outcome.status,
            counts: self.outcome.counts,
            conflicts: self.outcome.conflicts.len() as u64,
        };
        let remote = remote(&mut self.replicas, self.config);
        hooks::after(self.config, &result, remote, self.around.log.as_ref(), &stop);
    }

    pub(super) fn report(&self, summed_up: &str) -> RunReport {
        let target = match self.role {
            Role::Hub => {
                let chosen = self.config.chosen_targets();
                chosen.map(|(_, target)| target.place.to_string()).collect::<Vec<_>>().join(", ")
            }
            Role::Whole | Role::Turn => self.replicas.target.location(),
        };
        RunReport {
            task: self.config.instance_id.clone(),
            started: self.outcome.started,
            ended: SystemTime::now(),
            replicas: Pair::new(self.replicas.initiator.location(), target),
            status: self.outcome.status,
            complete: self.outcome.complete,
            summed_up: summed_up.to_owned(),
            log: self.around.log.path(),
            dry: self.is_dry(),
            counts: self.outcome.counts,
            tally: self.around.log.tally(),
            conflicts: self.outcome.conflicts.clone(),
            scrub: self.outcome.scrub.clone(),
            targets: self.lent.reports.clone(),
        }
    }

    /// The end of a turn whose target has no state of its own.
    pub(super) fn end_without_state(&mut self, halted: Option<Halt>) -> Ended {
        self.tell_halt(halted);
        self.outcome.status = self.status();
        let summed_up = self.summed_up();
        let noted = self.note_failure_elsewhere(&summed_up);
        Ended { summed_up, noted }
    }

    /// The line that sums the run up (spec 10, "The record of a run"): of a star's target, all its
    /// turns.
    fn summed_up(&self) -> String {
        self.summed_up_after(self.lent.earlier.as_ref())
    }

    /// The line that sums a turn of a star's target up.
    pub(super) fn turn_summed_up(&self) -> String {
        self.summed_up_after(None)
    }

    fn summed_up_after(&self, earlier: Option<&Earlier>) -> String {
        let RunOutcome { counts, conflicts, files, reach, .. } = &self.outcome;
        let time = self.around.started.elapsed();
        if let Some(scrubbed) = &self.outcome.scrub {
            return scrubbed.sum_up(time);
        }
        let (mut counts, mut conflicts) = (*counts, conflicts.len() as u64);
        if let Some(earlier) = earlier {
            counts = Pair::from_fn(|side| counts[side].plus(earlier.counts[side]));
            conflicts += earlier.conflicts;
        }
        let done = sum_up(&counts, conflicts, *files, *reach, time);
        if self.role != Role::Hub {
            return done;
        }
        let failed = |report: &&RunReport| !report.succeeded();
        let failed = self.lent.reports.iter().filter(failed).count();
        let all = counted(self.lent.reports.len() as u64, "target");
        match failed {
            0 => format!("{done}; {all}"),
            failed => format!("{done}; {all}, of which {failed} failed"),
        }
    }

    /// Nobody gets two mails about the same failure within ALERT_REPEAT.
    fn send_mail(&self, summed_up: &str) {
        let conflicts = match self.role {
            Role::Hub => self.lent.conflict_lines.clone(),
            Role::Whole | Role::Turn => self.mailed_conflicts(),
        };
        let log = self.around.log;
        let failure = Failure::of(self.outcome.status, &log.tally(), |_| true);
        let channel =
            if self.intent.is_maintenance() { Channel::MailOfScrub } else { Channel::Mail };
        let memory = MailMemory::of(self.config, channel, failure, || self.note_places());
        let known = memory.known();
        let sent = mail_result(self.config, log.worst(), known, &conflicts, summed_up, log);
        memory.note(sent, log.as_ref());
    }

    /// The conflicts for a mail, if they are to be in it.
    pub(super) fn mailed_conflicts(&self) -> Vec<String> {
        let conflicts = self.outcome.conflicts.clone();
        let listing = Achievements { conflicts, ..Achievements::default() };
        conflict_lines(&self.config.alerts, &listing, &self.frame(Pair::default(), None))
    }

    fn tell_halt(&self, halted: Option<Halt>) {
        let reporter = self.around.reporter();
        match halted {
            None | Some(Halt::Told | Halt::Skipped(_)) => {}
            Some(Halt::Replica(error)) => match self.around.stop.reason() {
                // what was asked of a replica when the word came was given up
                Some(reason) => {
                    reporter.say(Level::Verbose, &error.to_string());
                    self.tell_stop(reason);
                }
                // which target it is stands before all lines of its turn
                None if self.role == Role::Turn && error.side == Side::Target => {
                    reporter.problem(Level::Critical, Some(error.side), None, &error.what);
                }
                None => reporter.problem(Level::Critical, None, None, &error.to_string()),
            },
            Some(Halt::Danger(danger)) => {
                let mut text = danger.to_string();
                if self.role == Role::Turn {
                    text.push_str(
                        ". With --only it holds for this target alone, without it for all",
                    );
                }
                reporter.problem(Level::Critical, None, None, &text);
            }
            Some(Halt::Fatal { side, what }) => {
                reporter.problem(Level::Critical, side, None, &what);
            }
            Some(Halt::Stopped(reason)) => self.tell_stop(reason),
        }
    }

    fn tell_stop(&self, reason: StopReason) {
        let reporter = self.around.reporter();
        match reason {
            StopReason::HardLimit => reporter.problem(
                Level::Error,
                None,
                None,
                &format!(
                    "stopped: {}HARD_MAX_EXEC_TIME ({}) has passed; the next run goes on from here",
                    if self.role == Role::Turn { "its share of " } else { "" },
                    counted(self.config.limits.hard, "second")
                ),
            ),
            StopReason::Signal(number) => reporter.problem(
                Level::Warn,
                None,
                None,
                &format!("stopped by {}; the next run goes on from here", signal_name(number)),
            ),
        }
    }
}

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
        let channel = match self.intent.is_maintenance() {
            true => Channel::NotificationOfScrub,
            false => Channel::Notification,
        };
        let end = End {
            channel,
            status: self.outcome.status,
            succeeded: self.outcome.complete && matches!(self.outcome.status, 0 | 2),
            summed_up,
            tally: &log.tally(),
            conflicts: self.outcome.conflicts.iter().map(|of| of.path.clone()).collect(),
        };
        tell(self.config, &end, &self.note_places(), log.as_ref());
    }
}

/// How a run ended.
struct End<'a> {
    channel: Channel,
    status: u8,
    succeeded: bool,
    summed_up: &'a str,
    tally: &'a Tally,
    conflicts: Vec<RelPath>,
}

/// Tells of a task that a batch has given up: by mail what its last run said, and the report of
/// that run.
pub fn tell_given_up(config: &Config, lines: &[String], report: Option<&Value>, log: &Log) {
    let tally = report.map(tally_of).unwrap_or_default();
    let of_report = |key: &str| report.and_then(|report| report.get(key));
    let status = of_report("status").and_then(Value::as_u64);
    let status = status.and_then(|status| u8::try_from(status).ok()).unwrap_or(ERROR);
    let summed_up = of_report("summary").and_then(Value::as_str).unwrap_or_default();
    let places = || NotePlaces::of(config);
    let failure = Failure::of(status, &tally, |_| true);
    let memory = MailMemory::of(config, Channel::Mail, failure, places);
    let sent = mail_failure(config, memory.known(), lines, &tally, summed_up, log);
    memory.note(sent, log);
    let channel = Channel::Notification;
    let end =
        End { channel, status, succeeded: false, summed_up, tally: &tally, conflicts: Vec::new() };
    tell(config, &end, &places(), log);
}

/// Which failure was mailed last (ALERT_REPEAT).
struct MailMemory {
    channel: Channel,
    /// `None` if it does not matter.
    places: Option<NotePlaces>,
    told: Option<Told>,
    failure: Option<Failure>,
    repeat: Option<Duration>,
    now: i64,
}

impl MailMemory {
    /// For a run that ended with this failure.
    fn of(
        config: &Config,
        channel: Channel,
        failure: Option<Failure>,
        places: impl FnOnce() -> NotePlaces,
    ) -> MailMemory {
        let repeat = config.alerts.repeat;
        let places = (repeat.is_some() && !config.flags.dry).then(places);
        let told = places.as_ref().and_then(|places| places.told(channel));
        MailMemory { channel, places, told, failure, repeat, now: millis(SystemTime::now()) }
    }

    /// Whether a mail about the same failure was sent not long ago.
    fn known(&self) -> Known {
        let news = news(self.told.as_ref(), self.failure.as_ref(), self.repeat, self.now);
        let is_known = self.failure.is_some() && self.told.is_some() && news == News::None;
        if is_known { Known::Yes } else { Known::No }
    }

    /// Notes what became of the mail about it; `None`: there was none.
    fn note(self, sent: Option<Delivery>, log: &dyn Reporter) {
        let Some(places) = self.places else { return };
        let noted = match (self.failure, sent) {
            (None, _) if self.told.is_some() => places.set_told(self.channel, None),
            (Some(failure), Some(Delivery::Sent)) => {
                let told = Told { failure: failure.key().to_owned(), at: self.now };
                places.set_told(self.channel, Some(&told))
            }
            _ => Ok(()),
        };
        if let Err(error) = noted {
            remark(log, &format!("{error}; the next mail about this may come before its time"));
        }
    }
}

fn tell(config: &Config, end: &End<'_>, places: &NotePlaces, log: &dyn Reporter) {
    if !end.succeeded && config.flags.hold_alert {
        // the batch runs it again, or tells it itself
        return;
    }
    let problems: Vec<String> =
        end.tally.errors_first().take(LISTED).map(ToString::to_string).collect();
    if let Some(url) = &config.notify.ping_url {
        let ping = if end.succeeded { Ping::Success } else { Ping::Fail };
        let text = notify::ping_text(end.summed_up, &problems);
        if let Err(why) = notify::ping(url, ping, &text) {
            remark(log, &why);
        }
    }
    let Some(url) = &config.notify.url else { return };
    let on = config.notify.on;
    let failure = if notify::counts_as_failure(on, end.status) {
        let counts = |problem: &Problem| on != NotifyOn::Error || problem.level != Level::Warn;
        Failure::of(end.status, end.tally, counts)
    } else {
        None
    };
    let now = millis(SystemTime::now());
    let news = news(places.told(end.channel).as_ref(), failure.as_ref(), None, now);
    let Some(happened) = notify::due(on, news, end.status, end.conflicts.len()) else { return };
    let note = Note {
        happened,
        task: config.instance_id.clone(),
        host: Who::here().host,
        status: end.status,
        summed_up: end.summed_up.to_owned(),
        problems,
        problem_count: end.tally.total(),
        conflicts: end
            .conflicts
            .iter()
            .map(|path| (path.shown(), close_command(config, path)))
            .collect(),
        id: format!("osync-{now}-{}", std::process::id()),
    };
    match notify::notify(url, config.notify.format, &note) {
        // it is told with the next run
        Err(why) => remark(log, &why),
        Ok(()) if news == News::None => {}
        Ok(()) => {
            let told = failure.map(|failure| Told { failure: failure.key().to_owned(), at: now });
            if let Err(why) = places.set_told(end.channel, told.as_ref()) {
                remark(log, &format!("{why}; what was told may be told again"));
            }
        }
    }
}

/// The command that closes a conflict.
fn close_command(config: &Config, path: &RelPath) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_decides_the_status() {
        for (worst, stopped, expected) in [
            (None, None, SUCCESS),
            (Some(Level::Warn), None, WARNING),
            (Some(Level::Error), None, ERROR),
            (Some(Level::Critical), None, ERROR),
            (None, Some(StopReason::HardLimit), ERROR),
            (None, Some(StopReason::Signal(15)), WARNING),
            (Some(Level::Error), Some(StopReason::Signal(15)), ERROR),
        ] {
            assert_eq!(status(worst, stopped), expected, "{worst:?} {stopped:?}");
        }
    }
}

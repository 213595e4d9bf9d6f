//! Run again on changes (spec 7, "Monitor mode").
//!
//! The [`watcher`] collects what is noticed and reduces it to changes that matter;
//! [`echo_filter`] leaves out what the last run has seen or done itself; [`pace`] decides when to
//! run.

pub mod echo_filter;
pub mod far;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod pace;
pub mod target_helper;
mod trigger;
pub mod watcher;

use crate::config::{Config, Location, StarTarget};
use crate::filter::Filter;
use crate::process::Stop;
use crate::report::words::counted;
use crate::report::{Level, Reporter};
use crate::state::Baseline;
use crate::tree::work_dir::{TRIGGER, is_ours};
use crate::tree::{Pair, RelPath, Side};
use pace::{Next, Pace, RunEnd, Why};
use sd_notify::NotifyState;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use trigger::Trigger;
use watcher::fingerprint;
use watcher::{Eyes, Presence, Sighting, Trouble, limit_advice};
use watcher::{Inbox, Sign};

/// How often it is checked whether the replicas are still there: an unmounted file system
/// reports nothing.
const CHECK_EVERY: Duration = Duration::from_secs(10);
/// The same while a replica is gone.
const CHECK_GONE_EVERY: Duration = Duration::from_secs(2);
/// Changes come in bursts; they are looked at together.
const SETTLE: Duration = Duration::from_millis(200);

/// How a run ended.
#[derive(Debug)]
pub struct RunResult {
    /// Its exit status.
    pub status: i32,
    /// What it recorded, if it got so far. Without it, nothing that changed during the run
    /// counts as news after a failed run (which is tried again anyway), and everything
    /// does after a good one.
    pub baseline: Option<Baseline>,
}

/// Runs the task now and whenever its local replicas change, until it is stopped. Being
/// stopped is its good end, whatever became of the run at that moment: the log has that.
pub fn watch(
    config: &Config,
    run: &mut dyn FnMut() -> RunResult,
    stop: &Stop,
    reporter: &dyn Reporter,
) {
    let limits = config.limits;
    let pace =
        Pace::new(Duration::from_secs(limits.min_wait), Duration::from_secs(limits.max_wait));
    let mut monitor = Monitor::new(config, local_roots(config), pace, stop, reporter);
    monitor.eyes = monitor.eyes.with_targets(local_targets(config));
    let inbox = Arc::clone(&monitor.inbox);
    let pairs = config.pairs();
    std::thread::scope(|scope| {
        // all end when they are to stop
        for pair in &pairs {
            scope.spawn(|| far::follow(pair, &inbox, stop, reporter));
        }
        play(monitor, &WORDS, run);
    });
}

/// What a monitor says of itself.
struct Words {
    ready: &'static str,
    running: &'static str,
    end: &'static str,
    reason: fn(Why) -> &'static str,
}

const WORDS: Words =
    Words { ready: "Watching", running: "Running", end: "The monitor ends.", reason };

/// From the first look to the end; the service manager is told of each step.
fn play(mut monitor: Monitor<'_>, words: &Words, run: &mut dyn FnMut() -> RunResult) {
    answer_watchdog();
    tell_systemd(&[NotifyState::Status("Setting up watches")]);
    monitor.open_eyes();
    tell_systemd(&[NotifyState::Ready, NotifyState::Status(words.ready)]);
    monitor.play(run, words);
    tell_systemd(&[NotifyState::Stopping, NotifyState::Status("Stopping")]);
    monitor.reporter.say(Level::Notice, words.end);
}

/// Tells the service manager (`Type=notify`) our state. That there is none is no error.
fn tell_systemd(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}

/// Sends the service manager the signs of life that it asks for (`WatchdogSec=`), until this
/// process ends. They do not say that a run makes progress: its time limits see to that.
fn answer_watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else {
        return;
    };
    std::thread::spawn(move || {
        loop {
            tell_systemd(&[NotifyState::Watchdog]);
            std::thread::sleep(limit / 2);
        }
    });
}

/// The replicas of this machine without which there is no run.
fn local_roots(config: &Config) -> Vec<(Side, PathBuf)> {
    let is_needed = |side: Side| side == Side::Initiator || !config.is_star();
    let local = |(side, location): (Side, &Location)| match location {
        Location::Local(path) if is_needed(side) => Some((side, path.clone())),
        _ => None,
    };
    config.replicas.iter().filter_map(local).collect()
}

/// The targets of a star on this machine.
fn local_targets(config: &Config) -> Vec<PathBuf> {
    let local = |(_, target): (usize, &StarTarget)| match &target.place {
        Location::Local(path) => Some(path.clone()),
        Location::Ssh(_) => None,
    };
    config.chosen_targets().filter_map(local).collect()
}

struct Monitor<'a> {
    config: &'a Config,
    pace: Pace,
    eyes: Eyes,
    inbox: Arc<Inbox>,
    stop: &'a Stop,
    reporter: &'a dyn Reporter,
    clock: Instant,
    trigger: Option<Trigger>,
    baseline: Option<Baseline>,
    gone: Option<Side>,
    checked_at: Duration,
    rescans: Rescans,
    limit_said: bool,
    /// How the last run ended.
    failed: bool,
}

/// Looking at everything at intervals, where there are too few watches.
#[derive(Debug, Default)]
struct Rescans {
    last: Option<[u64; 2]>,
    due: Duration,
}

/// What becomes of the changes that were noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Changes {
    /// They ask for a run.
    Count,
    /// A failed run made them, and it is tried again anyway.
    Ignored,
}

impl<'a> Monitor<'a> {
    fn new(
        config: &'a Config,
        roots: Vec<(Side, PathBuf)>,
        pace: Pace,
        stop: &'a Stop,
        reporter: &'a dyn Reporter,
    ) -> Self {
        let inbox = Arc::new(Inbox::default());
        let filter = Filter::new(&config.selection.rules);
        let initiator = roots.iter().find(|(side, _)| *side == Side::Initiator);
        let trigger = initiator.map(|(_, root)| Trigger::new(root, &config.instance_id));
        inbox.stop_with(stop);
        Monitor {
            config,
            pace,
            eyes: Eyes::new(roots, filter, Arc::clone(&inbox)),
            inbox,
            stop,
            reporter,
            clock: Instant::now(),
            trigger,
            baseline: None,
            gone: None,
            checked_at: Duration::ZERO,
            rescans: Rescans::default(),
            limit_said: false,
            failed: false,
        }
    }

    fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    /// The first look, before the first run: a replica that is not there yet may be made
    /// by it.
    fn open_eyes(&mut self) {
        match self.eyes.refresh() {
            Ok(Presence::Gone(_) | Presence::Same) => {}
            Ok(Presence::Watched(count)) => self.say_watched(count),
            Err(trouble) => self.say_trouble(&trouble),
        }
    }

    fn play(&mut self, run: &mut dyn FnMut() -> RunResult, words: &Words) {
        let mut told = None;
        while self.stop.reason().is_none() {
            match self.pace.next(self.now()) {
                Next::Run(why) => {
                    told = None;
                    tell_systemd(&[NotifyState::Status(words.running)]);
                    self.reporter.say(Level::Notice, (words.reason)(why));
                    self.run_once(run);
                }
                Next::Wait(until) => {
                    let status = self.status();
                    if told.as_ref() != Some(&status) {
                        tell_systemd(&[NotifyState::Status(&status)]);
                        told = Some(status);
                    }
                    self.wait(until);
                }
            }
            self.look();
        }
    }

    fn run_once(&mut self, run: &mut dyn FnMut() -> RunResult) {
        self.pace.began();
        if self.eyes.is_limited() {
            self.rescans.last = Some(fingerprint(self.eyes.roots(), self.eyes.filter()));
        }
        let RunResult { status, baseline } = run();
        let end = if matches!(status, 0 | 2) { RunEnd::Done } else { RunEnd::Failed };
        let recorded = baseline.is_some();
        if recorded || end == RunEnd::Done {
            self.baseline = baseline;
        }
        // Replicas that the run made are watched from now on.
        self.check_presence();
        let unrecorded = end == RunEnd::Failed && !recorded;
        if unrecorded {
            // Its last writes are reported a little later. Nothing is lost by passing over
            // all of this: a failed run is tried again.
            self.inbox.pause(SETTLE);
        }
        self.take_in(if unrecorded { Changes::Ignored } else { Changes::Count });
        self.failed = end == RunEnd::Failed;
        self.pace.ended(self.now(), end);
    }

    fn wait(&self, until: Option<Duration>) {
        let now = self.now();
        let mut wake = self.check_due();
        if self.eyes.is_limited() {
            wake = wake.min(self.rescans.due);
        }
        let wake = until.map_or(wake, |until| until.min(wake));
        self.inbox.wait(wake.saturating_sub(now));
    }

    /// Takes in what has been noticed since the last look.
    fn look(&mut self) {
        let now = self.now();
        if now >= self.check_due() {
            self.check_presence();
        }
        self.rescan(now);
        if self.take_in(Changes::Count) {
            self.inbox.pause(SETTLE);
        }
    }

    /// Whether there was anything. New directories are watched in any case.
    fn take_in(&mut self, changes: Changes) -> bool {
        let noticed = self.inbox.take();
        let any = !noticed.paths.is_empty() || noticed.far;
        // What a run does over there itself is told too: one more run finds nothing to do.
        if noticed.far && !self.pace.has_change() {
            self.pace.changed(self.now());
        }
        if noticed.missed {
            self.pace.missed(self.now());
            self.rewatch();
        }
        let mut found = Vec::new();
        if let Err(trouble) = self.eyes.sift(noticed, &mut found) {
            self.say_trouble(&trouble);
            self.pace.missed(self.now());
        }
        if found.iter().any(|seen| seen.path.is_root() && seen.sign == Sign::Touched) {
            self.check_presence();
        }
        if found.iter().any(is_trigger) {
            // Whoever makes the file writes into it a moment later.
            self.inbox.pause(SETTLE);
            if self.trigger.as_mut().is_some_and(Trigger::asks) {
                self.pace.triggered();
            }
        }
        if changes == Changes::Count && !self.pace.has_change() && self.holds_news(&found) {
            self.pace.changed(self.now());
        }
        any
    }

    fn holds_news(&self, found: &[Sighting]) -> bool {
        let mut paths: Pair<BTreeSet<RelPath>> = Pair::default();
        for seen in found.iter().filter(|seen| !seen.path.is_root() && !is_ours(&seen.path)) {
            paths[seen.side].insert(seen.path.clone());
        }
        if self.config.is_star() {
            // what a run did itself is news too: one more run finds nothing to do
            return paths.iter().any(|(_, paths)| !paths.is_empty());
        }
        paths.iter().any(|(side, paths)| {
            let Some(root) = self.eyes.root(side) else { return false };
            let in_step = |baseline| {
                echo_filter::all_in_step(baseline, side, root, paths, self.config.preserve)
            };
            !paths.is_empty() && !self.baseline.as_ref().is_some_and(in_step)
        })
    }

    fn check_due(&self) -> Duration {
        self.checked_at + if self.gone.is_some() { CHECK_GONE_EVERY } else { CHECK_EVERY }
    }

    fn check_presence(&mut self) {
        self.checked_at = self.now();
        match self.eyes.refresh() {
            Ok(Presence::Same) => {
                self.gone = None;
                self.pace.back();
            }
            Ok(Presence::Watched(count)) => {
                self.say_watched(count);
                if self.gone.take().is_none() {
                    // A run has made the replica, or something else has taken its place:
                    // what changed before the watches stood was not noticed.
                    self.pace.missed(self.now());
                }
                self.pace.back();
            }
            Ok(Presence::Gone(side)) => {
                if self.gone.replace(side).is_none() {
                    let text = format!("the {side} replica is not there; waiting until it is");
                    self.reporter.say(Level::Warn, &text);
                }
                self.pace.gone();
            }
            Err(trouble) => self.say_trouble(&trouble),
        }
    }

    /// Changes were missed, and with them perhaps new directories.
    fn rewatch(&mut self) {
        if let Err(trouble) = self.eyes.rewatch() {
            self.say_trouble(&trouble);
        }
    }

    /// Where there are too few watches, looks at everything now and then, for at most a tenth of
    /// the time.
    fn rescan(&mut self, now: Duration) {
        if !self.eyes.is_limited() || now < self.rescans.due || self.gone.is_some() {
            return;
        }
        let found = fingerprint(self.eyes.roots(), self.eyes.filter());
        if self.rescans.last.replace(found).is_some_and(|last| last != found) {
            self.pace.changed(now);
        }
        let took = self.now().saturating_sub(now);
        self.rescans.due = self.now() + self.rescan_interval().max(took * 10);
    }

    fn rescan_interval(&self) -> Duration {
        Duration::from_secs(self.config.limits.min_wait.max(5))
    }

    fn status(&self) -> String {
        let waiting = match (self.gone, self.eyes.is_limited()) {
            (Some(side), _) => format!("Waiting for the {side} replica"),
            (None, true) => "Waiting for changes, rescanning at intervals".to_owned(),
            (None, false) => "Waiting for changes".to_owned(),
        };
        if self.failed { format!("{waiting} (the last run failed)") } else { waiting }
    }

    fn say_watched(&self, count: usize) {
        self.reporter
            .say(Level::Notice, &format!("Watching {}.", counted(count as u64, "directory")));
    }

    fn say_trouble(&mut self, trouble: &Trouble) {
        if std::mem::replace(&mut self.limit_said, true) {
            return;
        }
        let cause = match trouble {
            Trouble::Limit => limit_advice(),
            Trouble::Other(cause) => format!("cannot watch: {cause}"),
        };
        let seconds = self.rescan_interval().as_secs();
        let text = format!(
            "{cause}. Until then changes are looked for every {seconds} s or less often; a run \
             that changes something may then be followed by one more"
        );
        self.reporter.say(Level::Warn, &text);
    }
}

fn is_trigger(seen: &Sighting) -> bool {
    seen.side == Side::Initiator && seen.path.as_bytes() == TRIGGER
}

fn reason(why: Why) -> &'static str {
    match why {
        Why::Start => "The monitor begins with a run.",
        Why::Change => "Changes were noticed: running.",
        Why::Trigger => "The trigger file asks for a run.",
        Why::Interval => "MAX_WAIT has passed: running.",
        Why::Again => "Running again: the last run failed, or changes may have been missed.",
        Why::Back => "The replicas are there again: running.",
    }
}

#[cfg(test)]
#[path = "monitor_tests.rs"]
mod tests;

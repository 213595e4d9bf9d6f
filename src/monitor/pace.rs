//! When to run, from what was noticed and the time (spec 7, "Monitor mode"). Pure. Times count
//! from the start of the monitor.

use std::time::Duration;

/// The longest pause before something that failed is tried again, where MAX_WAIT sets none.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// The shortest.
const SHORTEST_PAUSE: Duration = Duration::from_secs(10);

/// Why a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The monitor begins.
    Start,
    /// Something changed, MIN_WAIT ago.
    Change,
    /// The trigger file asks for it.
    Trigger,
    /// MAX_WAIT has passed.
    Interval,
    /// The last run failed, or changes may have been missed.
    Again,
    /// A replica is there again.
    Back,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Run.
    Run(Why),
    /// Wait until something is noticed, at most until this time; `None` is for ever.
    Wait(Option<Duration>),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// All that could be done is done.
    Done,
    /// Something is left to do.
    Failed,
}

/// The waiting times, and what has been noticed since the last run began.
#[derive(Debug, Clone)]
pub struct Pace {
    min_wait: Duration,
    max_wait: Option<Duration>,
    /// An immediate run is due.
    at_once: Option<Why>,
    first_change: Option<Duration>,
    again_at: Option<Duration>,
    /// Failed runs and missed changes in a row: each doubles the pause.
    troubles: u32,
    troubled: bool,
    interval_from: Duration,
    gone: bool,
}

impl Pace {
    /// A monitor that begins with a run. MAX_WAIT 0 waits for ever.
    #[must_use]
    pub fn new(min_wait: Duration, max_wait: Duration) -> Self {
        Pace {
            min_wait,
            max_wait: (!max_wait.is_zero()).then_some(max_wait),
            at_once: Some(Why::Start),
            first_change: None,
            again_at: None,
            troubles: 0,
            troubled: false,
            interval_from: Duration::ZERO,
            gone: false,
        }
    }

    /// Something changed that the last run has not seen.
    pub fn changed(&mut self, now: Duration) {
        self.first_change.get_or_insert(now);
    }

    /// Whether a change is waiting for its run already.
    #[must_use]
    pub fn has_change(&self) -> bool {
        self.first_change.is_some()
    }

    /// The trigger file asks for a run.
    pub fn triggered(&mut self) {
        self.at_once.get_or_insert(Why::Trigger);
    }

    /// Changes may have been missed. They lead to a run, but ever more rarely if every run
    /// makes so much noise that changes are missed again.
    pub fn missed(&mut self, now: Duration) {
        self.trouble(now);
    }

    /// A replica is not there any more: only MAX_WAIT leads to a run, which will say so.
    pub fn gone(&mut self) {
        self.gone = true;
    }

    /// The replicas are there again.
    pub fn back(&mut self) {
        if std::mem::take(&mut self.gone) {
            self.at_once.get_or_insert(Why::Back);
        }
    }

    /// A run begins now: it takes care of what was noticed until now.
    pub fn began(&mut self) {
        self.at_once = None;
        self.first_change = None;
        self.again_at = None;
        self.troubled = false;
    }

    /// The run has ended.
    pub fn ended(&mut self, now: Duration, end: RunEnd) {
        self.interval_from = now;
        // What changed during the run waits from its end on.
        if self.first_change.is_some() {
            self.first_change = Some(now);
        }
        match end {
            RunEnd::Failed => self.trouble(now),
            RunEnd::Done if !self.troubled => self.troubles = 0,
            RunEnd::Done => {}
        }
    }

    fn trouble(&mut self, now: Duration) {
        if !std::mem::replace(&mut self.troubled, true) {
            let base = self.min_wait.max(SHORTEST_PAUSE);
            let pause = base.saturating_mul(1_u32.checked_shl(self.troubles).unwrap_or(u32::MAX));
            let longest = self.max_wait.unwrap_or(LONGEST_PAUSE).max(base);
            self.again_at = Some(now.saturating_add(pause.min(longest)));
            self.troubles = self.troubles.saturating_add(1).min(30);
        }
    }

    /// What to do now.
    #[must_use]
    pub fn next(&self, now: Duration) -> Next {
        let interval =
            self.max_wait.map(|max| (self.interval_from.saturating_add(max), Why::Interval));
        let due = if self.gone {
            interval
        } else {
            let at_once = self.at_once.map(|why| (Duration::ZERO, why));
            let change =
                self.first_change.map(|at| (at.saturating_add(self.min_wait), Why::Change));
            let again = self.again_at.map(|at| (at, Why::Again));
            // Of what is due at the same time the first names the reason.
            [at_once, change, interval, again].into_iter().flatten().min_by_key(|(at, _)| *at)
        };
        match due {
            Some((at, why)) if at <= now => Next::Run(why),
            Some((at, _)) => Next::Wait(Some(at)),
            None => Next::Wait(None),
        }
    }
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;

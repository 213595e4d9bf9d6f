//! Monitor mode: from the settings to the room that does it.

use crate::config::Config;
use crate::monitor::{self, RunResult};
use crate::process::{Stop, StopReason};
use crate::report::Log;
use crate::task::outcome::Outcome;
use std::time::{Duration, Instant};

/// How often a run's own stop hears of the monitor's.
const FORWARD_EVERY: Duration = Duration::from_millis(100);

/// Runs the task, by `once`, whenever its replicas change, until it is stopped.
pub fn run(config: &Config, log: &Log, stop: &Stop, once: &dyn Fn(Instant, &Stop) -> Outcome) {
    let mut run = || {
        log.begin_run();
        let outcome = with_own_stop(stop, |own| once(Instant::now(), own));
        RunResult { status: i32::from(outcome.status), baseline: outcome.baseline }
    };
    monitor::watch(config, &mut run, stop, log);
}

/// A run has a stop of its own: its hard limit must not end the monitor. What ends the
/// monitor ends it too.
fn with_own_stop<T>(stop: &Stop, run: impl FnOnce(&Stop) -> T) -> T {
    let own = Stop::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while own.reason().is_none() {
                if let Some(reason) = stop.wait(FORWARD_EVERY) {
                    own.request(reason);
                }
            }
        });
        let _ended = Ended(&own);
        run(&own)
    })
}

/// Ends the thread that forwards, however the run ends.
struct Ended<'a>(&'a Stop);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.request(StopReason::HardLimit);
    }
}

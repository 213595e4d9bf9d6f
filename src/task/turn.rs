//! Waiting instead of failing: what a run does while another one holds a lock that it needs
//! (spec 10).

use super::outcome::Halt;
use crate::config::WhenLocked;
use crate::replica::ReplicaError;
use crate::report::spell;
use std::time::{Duration, Instant};

/// How long it takes at most until a lock that is given back is noticed.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The wait of one run.
pub struct Turn {
    when_locked: WhenLocked,
    since: Instant,
    tries: u32,
}

/// What is to be done now.
pub enum Wait {
    /// Try again after this time, and say this before.
    For {
        /// How long.
        pause: Duration,
        /// What is to be said, once.
        word: Option<String>,
    },
    /// No more of it.
    Over(Halt),
}

impl Turn {
    /// Begins now.
    pub fn new(when_locked: WhenLocked) -> Self {
        Turn { when_locked, since: Instant::now(), tries: 0 }
    }

    /// After a try that found a lock held.
    pub fn after(&mut self, busy: ReplicaError) -> Wait {
        let limit = match self.when_locked {
            WhenLocked::Fail => return Wait::Over(busy.into()),
            WhenLocked::Skip => {
                let text = format!("skipped, as another run is under way: {busy}");
                return Wait::Over(Halt::Skipped(text));
            }
            WhenLocked::Wait(limit) => limit,
        };
        let waited = self.since.elapsed();
        let left = limit.map(|limit| limit.saturating_sub(waited));
        if left == Some(Duration::ZERO) {
            let what = format!("{} (waited {})", busy.what, spell(waited));
            return Wait::Over(Halt::Replica(ReplicaError { what, ..busy }));
        }
        let word = (self.tries == 0).then(|| match limit {
            Some(limit) => format!("{busy}; waiting for its turn, {} at most", spell(limit)),
            None => format!("{busy}; waiting for its turn"),
        });
        self.tries += 1;
        let pause = Duration::from_millis(100 * u64::from(self.tries)).min(LONGEST_PAUSE);
        Wait::For { pause: left.map_or(pause, |left| pause.min(left)), word }
    }
}

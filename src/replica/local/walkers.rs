//! How many threads walk (spec 4, "Scanning"): one a processor, and more while the disk is waited
//! for.

use crate::threads;
use rustix::time::ClockId;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// So many threads of this process walk now: walks at the same time share the processors.
static WALKING: AtomicUsize = AtomicUsize::new(0);

/// One more of them, as long as it lives.
pub(super) struct Walker;

impl Walker {
    /// This thread walks from now on.
    pub fn new() -> Self {
        WALKING.fetch_add(1, Ordering::Relaxed);
        Walker
    }
}

impl Drop for Walker {
    fn drop(&mut self) {
        WALKING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a thread would be faster with another one beside it.
#[derive(Default)]
pub(super) struct Pace {
    listed: u32,
    /// How many of the directories that were watched last left a processor idle.
    idle: u32,
}

impl Pace {
    /// One directory of so many is watched.
    const EACH: u32 = 8;
    /// So many in a row ask for help.
    const ENOUGH: u32 = 4;

    /// Lists a directory, and now and then takes note of how the time went by.
    pub fn watch<T>(&mut self, list: impl FnOnce() -> T) -> T {
        self.listed += 1;
        if !self.listed.is_multiple_of(Pace::EACH) {
            return list();
        }
        let (began, worked) = (Instant::now(), processor_time());
        let listed = list();
        let (took, worked) = (began.elapsed(), processor_time().saturating_sub(worked));
        self.note(took, worked, WALKING.load(Ordering::Relaxed) < threads::most());
        listed
    }

    /// A processor is idle if the time went by waiting for the disk, or if there are fewer
    /// threads than processors.
    fn note(&mut self, took: Duration, worked: Duration, are_few: bool) {
        let is_idle = are_few || worked < took / 2;
        self.idle = if is_idle { self.idle + 1 } else { 0 };
    }

    /// Says so once.
    pub fn asks_for_help(&mut self) -> bool {
        let asks = self.idle >= Pace::ENOUGH;
        if asks {
            self.idle = 0;
        }
        asks
    }
}

/// How long this thread was on a processor.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_is_asked_for_once_while_a_processor_is_idle() {
        let (took, little) = (Duration::from_micros(90), Duration::from_micros(40));
        let asks = |notes: &[(Duration, bool)]| {
            let mut pace = Pace::default();
            let mut asks = Vec::new();
            for (worked, are_few) in notes {
                pace.note(took, *worked, *are_few);
                asks.push(pace.asks_for_help());
            }
            let asked = asks.iter().enumerate().filter(|(_, asked)| **asked);
            asked.map(|(at, _)| at).collect::<Vec<usize>>()
        };
        let (waits, works, few) = ((little, false), (took, false), (took, true));
        assert!(asks(&[works; 20]).is_empty());
        assert_eq!(asks(&[waits; 9]), [3, 7]);
        assert_eq!(asks(&[few, waits, few, few, works]), [3]);
        assert!(asks(&[waits, waits, waits, works, waits, waits, waits, works]).is_empty());
    }
}

//! Soft limit, hard limit and heartbeat of a run (spec 7, "Limits and signals").

use super::{Stop, StopReason};
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// When things are due, counted from the start of the program. None: never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The start of the program.
    pub started: Instant,
    /// One warning; the run goes on.
    pub soft: Option<Duration>,
    /// The run is stopped.
    pub hard: Option<Duration>,
    /// The time between two heartbeats.
    pub heartbeat: Option<Duration>,
}

impl Limits {
    /// Limits in seconds as they are configured: 0 is never.
    #[must_use]
    pub fn from_seconds(started: Instant, soft: u64, hard: u64, heartbeat: u64) -> Self {
        let some = |seconds| (seconds > 0).then(|| Duration::from_secs(seconds));
        Limits { started, soft: some(soft), hard: some(hard), heartbeat: some(heartbeat) }
    }
}

/// Something that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Soft,
    Hard,
    Heartbeat,
}

/// What is still to come. Pure: it is told how much time has passed.
#[derive(Debug)]
struct Schedule {
    soft: Option<Duration>,
    hard: Option<Duration>,
    next_beat: Option<Duration>,
    every: Duration,
}

impl Schedule {
    fn new(limits: &Limits) -> Self {
        Schedule {
            soft: limits.soft,
            hard: limits.hard,
            next_beat: limits.heartbeat,
            every: limits.heartbeat.unwrap_or_default(),
        }
    }

    /// The next thing that is due by now, if there is one.
    fn take(&mut self, passed: Duration) -> Option<Due> {
        let is_due = |at: &mut Duration| *at <= passed;
        if self.hard.take_if(is_due).is_some() {
            return Some(Due::Hard);
        }
        if self.soft.take_if(is_due).is_some() {
            return Some(Due::Soft);
        }
        if self.next_beat.is_some_and(|at| at <= passed) {
            // a machine that slept gets one heartbeat, not all it has missed
            self.next_beat = passed.checked_add(self.every);
            return Some(Due::Heartbeat);
        }
        None
    }

    /// How long nothing will be due.
    fn pause(&self, passed: Duration) -> Option<Duration> {
        let next = [self.soft, self.hard, self.next_beat].into_iter().flatten().min();
        next.map(|at| at.saturating_sub(passed))
    }
}

/// The clock of a run. It stops ticking when dropped.
#[derive(Debug)]
pub struct Deadlines {
    quit: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Deadlines {
    /// Starts the clock: calls `on_soft` once when the soft limit passes, `on_heartbeat`
    /// with the time since the start at every heartbeat, and requests the end of the run
    /// ([`StopReason::HardLimit`]) when the hard limit passes. Both are called on the
    /// clock's own thread.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(
        limits: Limits,
        stop: &Stop,
        mut on_soft: impl FnMut() + Send + 'static,
        mut on_heartbeat: impl FnMut(Duration) + Send + 'static,
    ) -> io::Result<Self> {
        let (quit, quitting) = mpsc::channel();
        let stop = stop.clone();
        let mut schedule = Schedule::new(&limits);
        let thread = std::thread::Builder::new().name("clock".into()).spawn(move || {
            loop {
                let passed = limits.started.elapsed();
                match schedule.take(passed) {
                    Some(Due::Soft) => on_soft(),
                    Some(Due::Hard) => stop.request(StopReason::HardLimit),
                    Some(Due::Heartbeat) => on_heartbeat(passed),
                    None => {
                        let Some(pause) = schedule.pause(passed) else { return };
                        match quitting.recv_timeout(pause) {
                            Err(RecvTimeoutError::Timeout) => {}
                            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                        }
                    }
                }
            }
        })?;
        Ok(Deadlines { quit: Some(quit), thread: Some(thread) })
    }
}

impl Drop for Deadlines {
    fn drop(&mut self) {
        self.quit = None;
        if let Some(thread) = self.thread.take() {
            // a panic in a callback has been printed already
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_limit_is_due_once_and_heartbeats_come_again() {
        let limits = Limits::from_seconds(Instant::now(), 10, 25, 10);
        let mut schedule = Schedule::new(&limits);
        for (passed, due, pause) in [
            (0, None, Some(10)),
            (10, Some(Due::Soft), Some(0)),
            (10, Some(Due::Heartbeat), Some(10)),
            (12, None, Some(8)),
            (20, Some(Due::Heartbeat), Some(5)),
            (100, Some(Due::Hard), Some(0)),
            (100, Some(Due::Heartbeat), Some(10)),
            (101, None, Some(9)),
        ] {
            assert_eq!(schedule.take(seconds(passed)), due, "after {passed} s");
            assert_eq!(schedule.pause(seconds(passed)), pause.map(seconds), "after {passed} s");
        }
    }

    #[test]
    fn what_is_off_is_never_due() {
        let mut schedule = Schedule::new(&Limits::from_seconds(Instant::now(), 0, 0, 0));
        assert_eq!(schedule.take(seconds(1 << 40)), None);
        assert_eq!(schedule.pause(seconds(0)), None);
    }

    #[test]
    fn the_clock_warns_beats_and_stops_the_run_counted_from_the_start_of_the_program() {
        let stop = Stop::new();
        let (soft, beats) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let limits = Limits {
            started: Instant::now().checked_sub(seconds(3600)).unwrap_or_else(Instant::now),
            soft: Some(seconds(60)),
            hard: Some(seconds(3600) + Duration::from_millis(50)),
            heartbeat: Some(Duration::from_millis(10)),
        };
        let (count_soft, count_beats) = (Arc::clone(&soft), Arc::clone(&beats));
        let clock = Deadlines::start(
            limits,
            &stop,
            move || _ = count_soft.fetch_add(1, Ordering::SeqCst),
            move |_| _ = count_beats.fetch_add(1, Ordering::SeqCst),
        )
        .unwrap();
        assert_eq!(stop.wait(seconds(60)), Some(StopReason::HardLimit));
        drop(clock);
        assert_eq!(soft.load(Ordering::SeqCst), 1);
        assert!(beats.load(Ordering::SeqCst) >= 1);
    }

    #[test]
    fn dropping_the_clock_does_not_wait_for_a_limit() {
        let limits = Limits::from_seconds(Instant::now(), 3600, 7200, 0);
        drop(Deadlines::start(limits, &Stop::new(), || (), |_| ()).unwrap());
    }
}

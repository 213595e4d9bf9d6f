//! The request to end a run early, which everybody who waits hears.

use super::StopReason;
use crate::system;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::{Handle, Signals};
use std::io::{self, PipeReader, PipeWriter};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Whether and why work is to stop. Clones share the request: what one asks for, all see. A
/// request is never taken back.
///
/// Closing steps (unlocking, after-hooks, the control connection that both need) use a
/// `Stop` of their own, so that ending the work does not end them; see [`Stop::following`].
#[derive(Debug, Clone, Default)]
pub struct Stop {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    reason: Option<StopReason>,
    /// Hear what is requested from now on, for as long as somebody has them.
    following: Vec<Weak<Shared>>,
    /// Closed when the end is requested: whoever polls on the other end wakes up.
    wakers: Vec<(u64, PipeWriter)>,
    next: u64,
}

impl Stop {
    /// Nothing has been requested yet.
    #[must_use]
    pub fn new() -> Self {
        Stop::default()
    }

    /// Asks for the end. The first reason stays.
    pub fn request(&self, reason: StopReason) {
        let mut state = self.lock();
        if state.reason.is_none() {
            state.reason = Some(reason);
            state.wakers.clear();
            self.shared.changed.notify_all();
        }
        let following: Vec<Stop> = state
            .following
            .iter()
            .filter_map(Weak::upgrade)
            .map(|shared| Stop { shared })
            .collect();
        drop(state);
        following.iter().for_each(|following| following.request(reason));
    }

    /// A `Stop` of its own for closing steps, or for a part of the work: only what is requested
    /// from now on is meant for it too.
    #[must_use]
    pub fn following(&self) -> Stop {
        let following = Stop::new();
        let mut state = self.lock();
        state.following.retain(|one| one.strong_count() > 0);
        state.following.push(Arc::downgrade(&following.shared));
        following
    }

    /// Why to stop; `None` as long as work goes on.
    #[must_use]
    pub fn reason(&self) -> Option<StopReason> {
        self.lock().reason
    }

    /// Sleeps until the end is requested, at most this long.
    #[must_use]
    pub fn wait(&self, at_most: Duration) -> Option<StopReason> {
        let until = Instant::now().checked_add(at_most);
        let mut state = self.lock();
        while state.reason.is_none() {
            let left = match until {
                Some(until) => until.saturating_duration_since(Instant::now()),
                None => Duration::from_secs(3600),
            };
            if left.is_zero() {
                break;
            }
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        state.reason
    }

    /// Something to poll on that hangs up when the end is requested.
    pub(super) fn waker(&self) -> io::Result<Waker> {
        let (reader, writer) = io::pipe()?;
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        if state.reason.is_none() {
            state.wakers.push((id, writer));
        }
        drop(state);
        Ok(Waker { stop: self.clone(), id, reader })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // nothing in here can panic half-way, so a poisoned lock still guards a whole state
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hangs up when its [`Stop`] is requested.
#[derive(Debug)]
pub(super) struct Waker {
    stop: Stop,
    id: u64,
    pub(super) reader: PipeReader,
}

impl Drop for Waker {
    fn drop(&mut self) {
        self.stop.lock().wakers.retain(|(id, _)| *id != self.id);
    }
}

/// What an interrupt (Ctrl-C) means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    /// The first is answered with a warning, the second stops.
    Twice,
    /// The first stops (monitor mode).
    Once,
}

/// Listens to signals until it is dropped.
#[derive(Debug)]
pub struct SignalWatch {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
    too_large: signal_hook::SigId,
}

impl SignalWatch {
    /// Listens to signals that all request the end, the first interrupt too. Children have
    /// process groups of their own: a signal that killed this process would leave them behind.
    ///
    /// # Errors
    /// The system refuses a handler or a thread.
    pub fn stopping(stop: &Stop) -> io::Result<Self> {
        Self::install(stop, Interrupt::Once, || {})
    }

    /// Listens to INT, TERM, HUP and QUIT; all but a first interrupt (see [`Interrupt`])
    /// request the end with [`StopReason::Signal`]. `on_first` is called for a first
    /// interrupt, on the listener's own thread. A signal that this process was started
    /// with as ignored (`nohup`) stays ignored. A file that passes the limit for its size
    /// (`ulimit -f`) is an error of that write and not the end of the process.
    ///
    /// # Errors
    /// The system refuses a handler or a thread.
    pub fn install(
        stop: &Stop,
        interrupt: Interrupt,
        on_first: impl FnMut() + Send + 'static,
    ) -> io::Result<Self> {
        let ignored = system::ignored_signals();
        let wanted: Vec<i32> = [SIGINT, SIGTERM, SIGHUP, SIGQUIT]
            .into_iter()
            .filter(|signal| ignored >> (signal - 1) & 1 == 0)
            .collect();
        let mut signals = Signals::new(&wanted)?;
        let handle = signals.handle();
        let mut listener = Listener { stop: stop.clone(), interrupt, seen: false, on_first };
        let thread = std::thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                listener.hear(signal);
            }
        })?;
        // nobody reads the flag: a caught signal is enough to make the write fail with an error
        let too_large = signal_hook::flag::register(SIGXFSZ, Arc::default())?;
        Ok(SignalWatch { handle, thread: Some(thread), too_large })
    }
}

impl Drop for SignalWatch {
    fn drop(&mut self) {
        self.handle.close();
        signal_hook::low_level::unregister(self.too_large);
        if let Some(thread) = self.thread.take() {
            // a panic in the callback has been printed already
            let _ = thread.join();
        }
    }
}

/// Ends this process as the signal would have done if nobody had listened.
pub fn end_by(signal: i32) {
    // Where even that is refused, the caller goes on, and its next step tells why.
    let _ = signal_hook::low_level::emulate_default_handler(signal);
}

struct Listener<F> {
    stop: Stop,
    interrupt: Interrupt,
    seen: bool,
    on_first: F,
}

impl<F: FnMut()> Listener<F> {
    fn hear(&mut self, signal: i32) {
        let first = signal == SIGINT && !std::mem::replace(&mut self.seen, true);
        if first && self.interrupt == Interrupt::Twice && self.stop.reason().is_none() {
            (self.on_first)();
        } else {
            self.stop.request(StopReason::Signal(signal));
        }
    }
}

/// Makes sure that the system tells how children end. If this process was started with SIGCHLD
/// ignored (`trap '' CHLD` of a shell, some service managers), it forgets their exit statuses; a
/// handler that does nothing stops that. Children start with the default again.
///
/// # Errors
/// The system refuses the handler.
pub(super) fn keep_exit_statuses() -> io::Result<()> {
    static IS_SEEN_TO: Mutex<bool> = Mutex::new(false);
    let mut is_seen_to = IS_SEEN_TO.lock().unwrap_or_else(PoisonError::into_inner);
    if !*is_seen_to && system::ignored_signals() >> (SIGCHLD - 1) & 1 == 1 {
        signal_hook::flag::register(SIGCHLD, Arc::default())?;
    }
    *is_seen_to = true;
    Ok(())
}

/// The name of a signal for people.
#[must_use]
pub fn signal_name(signal: i32) -> String {
    match signal {
        SIGINT => "SIGINT".into(),
        SIGTERM => "SIGTERM".into(),
        SIGHUP => "SIGHUP".into(),
        SIGQUIT => "SIGQUIT".into(),
        other => format!("signal {other}"),
    }
}

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

/// What is still due. Pure: the caller passes the time that has gone by.
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
mod stop_tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn the_first_reason_stays_and_reaches_every_clone() {
        let stop = Stop::new();
        let other = stop.clone();
        assert_eq!(stop.wait(Duration::from_millis(1)), None);
        other.request(StopReason::HardLimit);
        other.request(StopReason::Signal(15));
        assert_eq!(stop.reason(), Some(StopReason::HardLimit));
        assert_eq!(stop.wait(Duration::from_secs(60)), Some(StopReason::HardLimit));
    }

    #[test]
    fn closing_steps_hear_what_is_requested_after_they_began() {
        for earlier in [None, Some(StopReason::HardLimit)] {
            let stop = Stop::new();
            if let Some(reason) = earlier {
                stop.request(reason);
            }
            let following = stop.following();
            assert_eq!(following.reason(), None);
            stop.request(StopReason::Signal(15));
            assert_eq!(following.reason(), Some(StopReason::Signal(15)));
            assert_eq!(stop.reason(), earlier.or(Some(StopReason::Signal(15))));
        }
    }

    #[test]
    fn waiting_ends_when_somebody_else_requests_the_end() {
        let stop = Stop::new();
        let other = stop.clone();
        let waiting = std::thread::spawn(move || other.wait(Duration::MAX));
        stop.request(StopReason::Signal(1));
        assert_eq!(waiting.join().unwrap(), Some(StopReason::Signal(1)));
    }

    #[test]
    fn wakers_hang_up_and_leave_nothing_behind() {
        let stop = Stop::new();
        drop(stop.waker().unwrap());
        assert!(stop.lock().wakers.is_empty());
        let early = stop.waker().unwrap();
        stop.request(StopReason::HardLimit);
        let late = stop.waker().unwrap();
        for waker in [early, late] {
            assert_eq!((&waker.reader).read(&mut [0]).unwrap(), 0);
        }
    }
}

#[cfg(test)]
mod signals_tests {
    use super::*;

    #[test]
    fn a_first_interrupt_warns_and_everything_else_stops() {
        for (interrupt, signals, warned, reason) in [
            (Interrupt::Twice, &[SIGINT][..], 1, None),
            (Interrupt::Twice, &[SIGINT, SIGINT], 1, Some(SIGINT)),
            (Interrupt::Twice, &[SIGTERM], 0, Some(SIGTERM)),
            (Interrupt::Twice, &[SIGINT, SIGHUP], 1, Some(SIGHUP)),
            (Interrupt::Twice, &[SIGQUIT, SIGINT, SIGINT], 0, Some(SIGQUIT)),
            (Interrupt::Once, &[SIGINT], 0, Some(SIGINT)),
        ] {
            let stop = Stop::new();
            let mut count = 0;
            let mut listener =
                Listener { stop: stop.clone(), interrupt, seen: false, on_first: || count += 1 };
            for signal in signals {
                listener.hear(*signal);
            }
            assert_eq!(stop.reason(), reason.map(StopReason::Signal), "{signals:?}");
            assert_eq!(count, warned, "{signals:?}");
        }
    }
}

#[cfg(test)]
mod deadline_tests {
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

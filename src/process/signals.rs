//! Signals that ask for the end of a run (spec 7, "Limits and signals").

use super::{Stop, StopReason};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::{Handle, Signals};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

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
    /// Listens where each of these signals stops, the first interrupt too. Children have
    /// process groups of their own: unheard, a signal would leave them behind.
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
        let ignored = ignored_signals();
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
        // heard by nobody: that it is caught makes the write fail with an error
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

/// The signals that are ignored now, as a bit mask; none where the system does not tell.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    parse_ignored(&status)
}

pub(super) fn parse_ignored(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

/// The name of a signal for people.
#[must_use]
pub fn name(signal: i32) -> String {
    match signal {
        SIGINT => "SIGINT".into(),
        SIGTERM => "SIGTERM".into(),
        SIGHUP => "SIGHUP".into(),
        SIGQUIT => "SIGQUIT".into(),
        other => format!("signal {other}"),
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn ignored_signals_are_read_from_the_status_file() {
        for (status, mask) in [
            ("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\tff\n", 0x1001),
            ("Name:\tx\n", 0),
            ("SigIgn:\tnonsense\n", 0),
        ] {
            assert_eq!(parse_ignored(status), mask);
        }
    }
}

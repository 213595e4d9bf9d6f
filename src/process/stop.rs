//! The one word that ends a run early, heard by everybody who waits.

use super::StopReason;
use std::io::{self, PipeReader, PipeWriter};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Says whether and why work is to stop. Clones are the same word: what one requests, all
/// hear. Once requested it stays so.
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
    /// Hears what is requested from now on.
    following: Option<Stop>,
    /// Closed when the word comes: whoever polls on the other end wakes up.
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
        let following = state.following.clone();
        drop(state);
        if let Some(following) = following {
            following.request(reason);
        }
    }

    /// A word of its own for closing steps: only what is requested from now on is meant for
    /// them too. The last one asked for counts.
    #[must_use]
    pub fn following(&self) -> Stop {
        let following = Stop::new();
        self.lock().following = Some(following.clone());
        following
    }

    /// Why to stop; none: go on.
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

#[cfg(test)]
mod tests {
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

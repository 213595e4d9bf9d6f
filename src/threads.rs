//! Scoped helper threads: how many are worth starting, and how to start one so that it runs
//! at once.

use std::io;
use std::sync::{OnceLock, mpsc};
use std::thread::{Builder, Scope, ScopedJoinHandle};
use std::time::Duration;

/// More threads than this slow each other down: they wait for the same locks in the kernel and
/// for memory.
const MOST: usize = 4;

/// How long to wait for a new thread to begin. If it has not begun by then, every processor is
/// busy, and the caller should go on working.
const START_WAIT: Duration = Duration::from_micros(200);

/// How many threads, the caller included, should share one piece of work on this machine.
#[must_use]
pub fn most() -> usize {
    // Asked once, because the answer takes several system calls.
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from).min(MOST))
}

/// Starts a thread, and returns when it has begun to run or after a short wait.
///
/// Linux often queues a new thread behind its creator, on the same processor, for milliseconds
/// while another processor is idle. If the creator sleeps instead, the new thread begins right
/// away, and the creator is woken on an idle processor.
///
/// # Errors
/// The system refuses another thread.
pub fn start<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    let (begun, has_begun) = mpsc::channel();
    let thread = Builder::new().spawn_scoped(scope, move || {
        // Fails only if the creator has stopped waiting, which is fine.
        let _ = begun.send(());
        work()
    })?;
    let _ = has_begun.recv_timeout(START_WAIT);
    Ok(thread)
}

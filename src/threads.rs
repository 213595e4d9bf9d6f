//! Threads that help for a while.

use std::io;
use std::sync::{OnceLock, mpsc};
use std::thread::{Builder, Scope, ScopedJoinHandle};
use std::time::Duration;

/// More threads than this at the same work stand in each other's way, in the kernel or in
/// memory.
const MOST: usize = 4;

/// A new thread that has not begun by then waits behind others: every processor is busy, and
/// the old thread has better things to do than to leave one idle.
const SOON: Duration = Duration::from_micros(200);

/// How many threads at the same work pay on this machine.
#[must_use]
pub fn most() -> usize {
    // asked once, for the answer takes several system calls
    static FOUND: OnceLock<usize> = OnceLock::new();
    *FOUND.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from).min(MOST))
}

/// Starts a thread, and comes back when it runs, or when it will not at once.
///
/// Linux often lets a new thread wait on the processor of the one that made it, for
/// milliseconds, while another processor is idle; but one that wakes up is sent to where
/// there is room. So the old thread sleeps until the new one has begun, or a moment.
///
/// # Errors
/// The machine has no room for another thread.
pub fn start<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    let (begins, has_begun) = mpsc::channel();
    let thread = Builder::new().spawn_scoped(scope, move || {
        // nobody who waits for this goes away
        let _ = begins.send(());
        work()
    })?;
    let _ = has_begun.recv_timeout(SOON);
    Ok(thread)
}

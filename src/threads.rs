//! Scoped helper threads: how many are worth starting, how to start one so that it runs at once, how
//! to wait for one, and how to share a list among them.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
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

/// What a thread came to. If it panicked, so does the caller.
pub fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// So many items in a row are one thread's. Files come in the order of their directories, so most of
/// them lie in the same one.
const ROW: usize = 64;

/// Answers each item, in the order of the items. Several threads take part, each with a worker of its
/// own. A worker that has no answer ends the work: then there are answers for the first items only.
pub fn map<T: Sync, A: Send, W: FnMut(&T) -> Option<A>>(
    items: &[T],
    worker: impl Fn() -> W + Sync,
) -> Vec<A> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut worker = worker();
        let mut rows = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(row) = items.chunks(ROW).nth(at) else { return rows };
            let answers: Vec<A> = row.iter().map_while(&mut worker).collect();
            let is_over = answers.len() < row.len();
            rows.push((at, answers));
            if is_over {
                return rows;
            }
        }
    };
    let mut rows = std::thread::scope(|scope| {
        let most = most().min(items.len().div_ceil(ROW));
        // A machine out of threads still has this one.
        let others: Vec<_> = (1..most).map_while(|_| start(scope, work).ok()).collect();
        let mut rows = work();
        rows.extend(others.into_iter().flat_map(joined));
        rows
    });
    rows.sort_by_key(|(at, _)| *at);
    // What follows an item without an answer has no place.
    let mut answers = Vec::with_capacity(items.len());
    for (at, row) in rows {
        if answers.len() < at * ROW {
            break;
        }
        answers.extend(row);
    }
    answers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_the_order_of_the_items_and_end_before_the_first_that_has_none() {
        let items: Vec<usize> = (0..1000).collect();
        assert_eq!(map(&items, || |n| Some(n + 1)), (1..=1000).collect::<Vec<_>>());
        for end in [0, 63, 64, 500] {
            let found = map(&items, || |n| (*n < end || *n > 700).then_some(*n));
            assert_eq!(found, (0..end).collect::<Vec<_>>());
        }
        assert!(map(&[], || |n: &usize| Some(*n)).is_empty());
    }
}

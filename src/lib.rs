//! osync keeps two directories in step, locally or over ssh.
//!
//! The map of the house, in the order a run flows through it (see `docs/architecture.md`):
//!
//! - [`cli`]: what the user typed
//! - [`config`]: what the user wants
//! - [`tree`]: what is there; the vocabulary of everything below
//! - [`filter`]: rsync's patterns
//! - [`state`]: what was there
//! - [`reconcile`]: what should happen; pure
//! - [`replica`]: where it happens, here or over ssh
//! - [`ssh`]: the way to a remote replica
//! - [`rsync`]: a transfer list to one rsync call
//! - [`process`]: the one door for child processes, deadlines, signals
//! - [`task`]: one run, start to end
//! - [`report`]: tell what happened
//! - [`monitor`]: run again on changes
//! - [`batch`]: many tasks, one after the other
//! - [`ssh_filter`]: the forced command on the other side
//! - [`crew`]: threads that help for a while; used by all

pub mod batch;
pub mod cli;
pub mod config;
pub mod filter;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod monitor;
pub mod process;
pub mod reconcile;
pub mod replica;
pub mod report;
pub mod rsync;
pub mod ssh;
pub mod ssh_filter;
pub mod state;
pub mod task;
pub mod threads;
pub mod tree;

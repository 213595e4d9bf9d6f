//! osync keeps two directories in step, locally or over ssh.
//!
//! A library and a thin binary; `docs/architecture.md` is the map of the rooms below. The only
//! item meant for others is [`main`]: what has no user inside the crate is dead, and the
//! compiler says so.

pub(crate) mod batch;
pub(crate) mod cli;
pub(crate) mod config;
pub(crate) mod filter;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub(crate) mod monitor;
pub(crate) mod process;
pub(crate) mod reconcile;
pub(crate) mod replica;
pub(crate) mod report;
pub(crate) mod rsync;
pub(crate) mod ssh;
pub(crate) mod ssh_filter;
pub(crate) mod state;
pub(crate) mod system;
pub(crate) mod task;
#[doc(hidden)]
pub mod testing;
pub(crate) mod threads;
pub(crate) mod tree;

/// The whole program: from its arguments to its exit status.
#[must_use]
pub fn main() -> std::process::ExitCode {
    if let Some(status) = ssh::askpass::main_if_asked() {
        return status;
    }
    cli::main(std::env::args_os(), &config::Environment::of_process())
}

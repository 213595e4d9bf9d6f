//! Looking into what both sides keep, for the commands that list, restore and compare versions.

use super::complain;
use super::sync::listen;
use crate::config::Config;
use crate::process::{Interrupt, Stop};
use crate::report::Log;
use crate::task::RunContext;
use crate::task::versions::Versions;
use std::sync::Arc;
use std::time::Instant;

/// A session with both replicas, with the locks taken where something is changed.
pub(super) fn with_versions<T>(
    config: &Config,
    work: impl FnOnce(&mut Versions<'_>) -> Result<T, String>,
) -> Result<T, String> {
    let mut config = config.clone();
    (config.flags.errors_only, config.flags.no_prefix) = (true, true);
    session(&config, |around| {
        let mut versions = Versions::open(&config, around)?;
        let done = work(&mut versions);
        // what went wrong first is told
        let closed = versions.close();
        done.and_then(|done| closed.map(|()| done))
    })
}

/// A session that only looks.
pub(super) fn with_looked<T>(
    config: &Config,
    work: impl FnOnce(&mut Versions<'_>) -> Result<T, String>,
) -> Result<T, String> {
    let mut quiet = config.clone();
    (quiet.flags.silent, quiet.flags.dry) = (true, true);
    session(&quiet, |around| {
        let (mut versions, unreachable) = Versions::look(&quiet, around)?;
        for why in unreachable {
            complain(&format!("{why}; what is kept there is not known"));
        }
        work(&mut versions)
    })
}

fn session<T>(
    config: &Config,
    work: impl FnOnce(RunContext<'_>) -> Result<T, String>,
) -> Result<T, String> {
    let log = Arc::new(Log::for_task(config, Instant::now()));
    let stop = Stop::new();
    let _signals = listen(&log, &stop, Interrupt::Once);
    work(RunContext { log: &log, stop: &stop, started: Instant::now() })
}

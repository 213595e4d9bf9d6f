//! Looking into what both sides keep, for the commands that list, restore and compare versions.

use super::complain;
use super::sync::listen;
use crate::config::{Config, Location};
use crate::process::{Interrupt, Stop};
use crate::replica::{self, PathError, in_work_dir};
use crate::report::Log;
use crate::state::journal::{KeptPlace, Look};
use crate::task::RunContext;
use crate::task::versions::Versions;
use crate::tree::work_dir::WORK_DIR_NAME;
use crate::tree::{Entry, Side};
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

/// Whether each of these versions that a side keeps still lies where it was put: a later version of
/// that name may have taken the place, from another target of a star, too. Nobody looks at another
/// machine for that, nor at a replica that is not there or keeps nothing.
pub(super) fn are_where_they_were_put(
    put: &[(&KeptPlace, &Look)],
    side: Side,
    config: &Config,
) -> Vec<bool> {
    let all = vec![true; put.len()];
    let Location::Local(root) = &config.replicas[side] else { return all };
    if !root.join(WORK_DIR_NAME).is_dir() {
        return all;
    }
    let place = |(kept, _): &(&KeptPlace, &Look)| in_work_dir(kept.keep.name(), &kept.place);
    let places: Vec<_> = put.iter().map(place).collect();
    let Ok(found) = replica::look_at(root, &config.preserve, &places) else { return all };
    let is_it = |((_, look), found): (&(&KeptPlace, &Look), &Result<Option<Entry>, PathError>)| {
        found.as_ref().map_or(true, |entry| entry.as_ref().is_some_and(|entry| look.is_of(entry)))
    };
    put.iter().zip(&found).map(is_it).collect()
}

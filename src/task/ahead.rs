//! What the targets of a star are asked before their turns, several at the same time (spec 10, "A
//! star in one task"): on a slow line their answers would otherwise be waited for one by one.
//!
//! Nothing is decided here. What was found is what the turn would have found itself, and the turn
//! asks for what is missing.

use super::look::scan_request;
use crate::config::Config;
use crate::filter::Filter;
use crate::replica::{LockRequest, Replica, ReplicaError, Scan, TakenLock, Wanted};
use crate::state::{IdentityFound, RunMark};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A scan that has waited so long for its turn is made again: people go on working meanwhile.
const FRESH: Duration = Duration::from_secs(60);

/// What a target is to be asked.
pub(super) struct Request {
    /// The settings of the pair.
    pub config: Config,
    /// None: the run takes no locks.
    pub lock: Option<LockRequest>,
    pub attributes: Wanted,
    /// Where its listing may be kept.
    pub state_dir: PathBuf,
}

/// What a target has answered; each answer is used once.
#[derive(Default)]
pub(super) struct Ahead {
    /// Its lock, or why it was not got.
    pub locked: Option<Result<TakenLock, ReplicaError>>,
    scanned: Option<Scanned>,
    pub identity: Option<IdentityFound>,
    pub runs: Option<Vec<RunMark>>,
}

struct Scanned {
    began: Instant,
    read: Wanted,
    scan: Result<Scan, ReplicaError>,
}

impl Ahead {
    /// Locks a target and looks at it. Stops where something goes wrong.
    pub(super) fn ask(replica: &mut dyn Replica, request: &Request) -> Self {
        let mut ahead = Ahead::default();
        if let Some(lock) = &request.lock {
            let locked = ahead.locked.insert(replica.lock(lock));
            if locked.is_err() {
                return ahead;
            }
        }
        replica.keep_listing_in(&request.state_dir);
        let began = Instant::now();
        let filter = Filter::new(&request.config.selection.rules);
        let read = request.attributes;
        let scan = replica.scan(&scan_request(&request.config, &filter, read, &|_| {}));
        let is_lost = scan.is_err();
        ahead.scanned = Some(Scanned { began, read, scan });
        if !is_lost {
            // an error is met again in the turn, and told there
            ahead.identity = replica.identity().ok();
            ahead.runs = replica.runs().ok();
        }
        ahead
    }

    /// The scan, if it is not too old and has read these attributes.
    pub(super) fn scan(&mut self, attributes: Wanted) -> Option<Result<Scan, ReplicaError>> {
        let scanned = self.scanned.take()?;
        let is_of_use = scanned.read == attributes && scanned.began.elapsed() < FRESH;
        is_of_use.then_some(scanned.scan)
    }
}

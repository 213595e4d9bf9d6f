//! Watching a replica behind ssh through the osync on its machine (spec 7, "Monitor mode";
//! spec 5, "A peer, where there is one"). Where there is none, the target helper over there
//! does it.

use super::watcher::Inbox;
use super::watcher::{Eyes, Presence, limit_advice};
use super::{CHECK_EVERY, SETTLE};
use crate::config::{Config, RuleText};
use crate::filter::Filter;
use crate::process::Stop;
use crate::replica::{self, Access, Agent, Watched};
use crate::report::{Event, Level, Reporter};
use crate::tree::Side;
use crate::tree::work_dir::is_ours;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long after a failed connection the next one is tried.
const AGAIN: Duration = Duration::from_secs(60);

/// Whether the last connection worked; a change is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connection {
    NotYet,
    Stands,
    Lost,
}

/// Notes in the inbox whenever the remote replica changes, until the monitor ends. Returns at
/// once where there is no remote replica, or no osync over there to watch it.
pub(super) fn follow(config: &Config, inbox: &Inbox, stop: &Stop, reporter: &dyn Reporter) {
    let Some((side, _)) = config.replicas.iter().find(|(_, place)| place.is_remote()) else {
        return;
    };
    let filter = Filter::new(&config.selection.rules);
    let mut connection = Connection::NotYet;
    while stop.reason().is_none() {
        let mut replica = replica::at(config, side, stop, &Silent);
        let ended = match replica.prepare(Access::ReadOnly) {
            Ok(prepared) if prepared.agent == Agent::Osync => replica.watch(&filter, &mut |word| {
                if word == Watched::Begun {
                    if connection != Connection::Stands {
                        let text = format!("Watching the {side} through the osync on its machine.");
                        reporter.say(Level::Notice, &text);
                    }
                    connection = Connection::Stands;
                }
                // what changed before the watches stood was not noticed
                inbox.far_side_changed();
            }),
            Ok(_) => return,
            Err(error) => Err(error),
        };
        drop(replica);
        if let Err(error) = ended
            && stop.reason().is_none()
            && connection == Connection::Stands
        {
            connection = Connection::Lost;
            let text = format!("the {side} is not watched any more: {error}; trying again");
            reporter.say(Level::Warn, &text);
        }
        let _ = stop.wait(AGAIN);
    }
}

/// A run says the same, and better.
struct Silent;

impl Reporter for Silent {
    fn tell(&self, _: Event<'_>) {}
}

/// The other end: watches a directory of this machine until `stop`, and tells when the watches
/// stand and when something has changed that matters.
///
/// # Errors
/// It cannot be watched, or is not there any more.
pub fn watch_for(
    root: &Path,
    rules: &[RuleText],
    tell: &mut dyn FnMut(Watched),
    stop: &Stop,
) -> Result<(), String> {
    let inbox = Arc::new(Inbox::default());
    let roots = vec![(Side::Target, root.to_owned())];
    let mut eyes = Eyes::new(roots, Filter::new(rules), Arc::clone(&inbox));
    inbox.stop_with(stop);
    let mut first = true;
    while stop.reason().is_none() {
        let mut changed = false;
        match eyes.refresh() {
            Ok(Presence::Same) => {}
            Ok(Presence::Watched(_)) => changed = true,
            Ok(Presence::Gone(_)) => return Err("it is not there any more".to_owned()),
            Err(trouble) => return Err(trouble.to_string()),
        }
        if eyes.is_limited() {
            return Err(limit_advice());
        }
        if std::mem::take(&mut first) {
            tell(Watched::Begun);
        } else if changed {
            tell(Watched::Changed);
        }
        inbox.wait(CHECK_EVERY);
        inbox.pause(SETTLE);
        let noticed = inbox.take();
        let mut changed = noticed.missed;
        if noticed.missed {
            eyes.rewatch().map_err(|trouble| trouble.to_string())?;
        }
        let mut found = Vec::new();
        eyes.sift(noticed, &mut found).map_err(|trouble| trouble.to_string())?;
        changed |= found.iter().any(|seen| !seen.path.is_root() && !is_ours(&seen.path));
        if changed && stop.reason().is_none() {
            tell(Watched::Changed);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::StopReason;
    use std::sync::mpsc;

    #[test]
    fn what_matters_is_told_and_what_does_not_is_not() {
        let temp = tempfile::tempdir().unwrap();
        let rules = [RuleText { include: false, from_file: false, pattern: b"*.tmp".to_vec() }];
        let (words, heard) = mpsc::channel();
        let stop = Stop::new();
        std::thread::scope(|scope| {
            let (root, ends) = (temp.path(), stop.clone());
            let watching = scope.spawn(move || {
                watch_for(root, &rules, &mut |word| words.send(word).unwrap(), &ends)
            });
            let next = |within| heard.recv_timeout(Duration::from_secs(within)).ok();
            assert_eq!(next(60), Some(Watched::Begun));
            std::fs::create_dir(root.join(".osync_workdir")).unwrap();
            std::fs::write(root.join("x.tmp"), "").unwrap();
            assert_eq!(next(1), None);
            std::fs::write(root.join("file"), "").unwrap();
            assert_eq!(next(60), Some(Watched::Changed));
            stop.request(StopReason::Signal(15));
            assert_eq!(watching.join().unwrap(), Ok(()));
        });
    }
}

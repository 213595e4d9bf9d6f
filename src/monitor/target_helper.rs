//! On the machine of a remote target: wakes the initiator's monitor when the target
//! changes (spec 7, `--on-changes-target`).

use super::pace::{Pace, Why};
use super::{Monitor, RunResult, Words, play};
use crate::config::{Config, Location};
use crate::process::Stop;
use crate::replica::{self, Access};
use crate::report::{Level, Reporter};
use crate::tree::Side;
use std::time::Duration;

const WORDS: Words = Words {
    ready: "Watching the target",
    running: "Waking the initiator",
    end: "The target helper ends.",
    reason,
};

/// Watches the target, and wakes the initiator MIN_WAIT seconds after a change, until it is
/// stopped; the exit status. It also wakes once at the start, because what changed before
/// went unseen. What could not be told is told again later.
pub fn help(config: &Config, stop: &Stop, reporter: &dyn Reporter) -> i32 {
    let Location::Local(target) = &config.replicas[Side::Target] else {
        reporter.say(Level::Error, "the target must be a directory of this machine");
        return 1;
    };
    // MAX_WAIT is the initiator's business.
    let pace = Pace::new(Duration::from_secs(config.limits.min_wait), Duration::ZERO);
    let roots = vec![(Side::Target, target.clone())];
    let monitor = Monitor::new(config, roots, pace, stop, reporter);
    let mut run = || RunResult { status: i32::from(wake(config, stop, reporter)), baseline: None };
    play(monitor, &WORDS, &mut run);
    0
}

fn reason(why: Why) -> &'static str {
    match why {
        Why::Start => "The target helper begins by waking the initiator.",
        Why::Change => "The target has changed: waking the initiator.",
        Why::Again => {
            "Waking the initiator again: it could not be told, or changes may have been missed."
        }
        Why::Back => "The target is there again: waking the initiator.",
        Why::Trigger | Why::Interval => "Waking the initiator.",
    }
}

/// Exit status of one attempt.
fn wake(config: &Config, stop: &Stop, reporter: &dyn Reporter) -> u8 {
    let line = format!("{}#{}", config.instance_id, chrono::Utc::now().timestamp());
    if config.flags.dry {
        reporter.say(Level::Notice, &format!("Dry run: the initiator would be told '{line}'."));
        return 0;
    }
    let mut initiator = replica::at(config, Side::Initiator, stop, reporter);
    let access = Access::ReadWrite { create: false };
    let told = initiator.prepare(access).and_then(|_| initiator.wake(&line));
    match told {
        Ok(()) => 0,
        // The helper ends; when it begins again, it begins by waking.
        Err(_) if stop.reason().is_some() => 0,
        Err(cause) => {
            reporter.say(Level::Warn, &format!("cannot wake the initiator: {cause}"));
            1
        }
    }
}

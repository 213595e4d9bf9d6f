//! Commands before and after a run (spec 7, "Hooks").
//!
//! The local and the remote command run at the same time, each in `bash` where there is
//! one, else in `sh`, and with its own time limit. What they print is logged when they fail, or
//! with `--verbose`.

use crate::config::{Config, Location};
use crate::process::{Exit, HookShell, Stop};
use crate::replica::{HookResult, Replica, ReplicaError};
use crate::report::{Counts, Level, Reporter, spell};
use crate::threads;
use crate::tree::path::escape;
use crate::tree::{Pair, Side};
use std::ffi::OsString;
use std::time::Duration;

/// A before-command failed, and STOP_ON_CMD_ERROR is set. Why it failed has been told.
#[derive(Debug, thiserror::Error)]
#[error("a command before the run failed, and STOP_ON_CMD_ERROR is set; nothing was synchronised")]
pub struct HookFailed;

/// What after-commands are told about the run.
#[derive(Debug, Clone, Copy, Default)]
pub struct ResultForHooks {
    /// The exit status so far (spec 1).
    pub status: u8,
    /// What was done on each side.
    pub counts: Pair<Counts>,
    /// How many paths were changed on both sides.
    pub conflicts: u64,
}

/// Runs the before-commands. `remote` is the replica behind ssh, if there is one.
///
/// # Errors
/// One failed and STOP_ON_CMD_ERROR is set.
pub fn before(
    config: &Config,
    remote: Option<&mut dyn Replica>,
    log: &dyn Reporter,
    stop: &Stop,
) -> Result<(), HookFailed> {
    if config.flags.dry {
        say_not_run(config, log);
        return Ok(());
    }
    let hooks = &config.hooks;
    let round = Round {
        when: "before",
        local: hooks.local_before.as_deref(),
        remote: hooks.remote_before.as_deref(),
        limit: limit(hooks.max_before),
        env: variables(config, None),
    };
    match with(remote, |there| round.run(there, log, stop)) {
        RoundResult::Failed if hooks.stop_on_error => Err(HookFailed),
        RoundResult::Failed | RoundResult::Fine => Ok(()),
    }
}

/// Runs the after-commands, if this run's end is one for them. Failures are told as errors.
pub fn after(
    config: &Config,
    result: &ResultForHooks,
    remote: Option<&mut dyn Replica>,
    log: &dyn Reporter,
    stop: &Stop,
) {
    let hooks = &config.hooks;
    if config.flags.dry || (hooks.local_after.is_none() && hooks.remote_after.is_none()) {
        return;
    }
    if result.status != 0 && !hooks.after_on_error {
        let text = "The commands after the run are not run, because it ended with errors or \
                    warnings and RUN_AFTER_CMD_ON_ERROR is not set.";
        log.say(Level::Notice, text);
        return;
    }
    let round = Round {
        when: "after",
        local: hooks.local_after.as_deref(),
        remote: hooks.remote_after.as_deref(),
        limit: limit(hooks.max_after),
        env: variables(config, Some(result)),
    };
    with(remote, |there| round.run(there, log, stop));
}

/// Says that a dry run leaves the commands alone, if there are any.
fn say_not_run(config: &Config, log: &dyn Reporter) {
    let hooks = &config.hooks;
    let all = [&hooks.local_before, &hooks.remote_before, &hooks.local_after, &hooks.remote_after];
    if all.into_iter().any(Option::is_some) {
        log.say(Level::Notice, "The commands before and after the run are not run in a dry run.");
    }
}

/// The machine of the remote replica.
struct There<'a> {
    side: Side,
    run: &'a mut RunThere<'a>,
}

/// Runs a command there; see [`Replica::run_hook`].
type RunThere<'a> = dyn FnMut(&str, &[(String, String)], Option<Duration>) -> Result<HookResult, ReplicaError>
    + Send
    + 'a;

/// Does something with the machine of a replica, if there is one.
fn with<T>(replica: Option<&mut dyn Replica>, act: impl FnOnce(Option<There<'_>>) -> T) -> T {
    match replica {
        Some(replica) => act(Some(There {
            side: replica.side(),
            run: &mut |command, env, limit| replica.run_hook(command, env, limit),
        })),
        None => act(None),
    }
}

/// Both commands of one moment.
struct Round<'a> {
    when: &'static str,
    local: Option<&'a str>,
    remote: Option<&'a str>,
    limit: Option<Duration>,
    env: Vec<(String, OsString)>,
}

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RoundResult {
    Fine,
    Failed,
}

impl Round<'_> {
    /// Runs both at the same time, and waits for both whatever becomes of one.
    fn run(&self, there: Option<There<'_>>, log: &dyn Reporter, stop: &Stop) -> RoundResult {
        if self.remote.is_some() && there.is_none() {
            let when = self.when.to_uppercase();
            let text = format!("No replica is remote: REMOTE_RUN_{when}_CMD is not run.");
            log.say(Level::Verbose, &text);
        }
        let there = self.remote.zip(there);
        let (local, remote) = std::thread::scope(|scope| {
            let there = there.map(|(command, There { side, run })| {
                scope.spawn(move || {
                    self.announce("remote", command, log);
                    self.tell("remote", Some(side), self.run_there(command, run, stop), log)
                })
            });
            let here = self.local.map(|command| {
                self.announce("local", command, log);
                if HookShell::of_this_machine().may_not_understand(command) {
                    let when = self.when;
                    let text = format!(
                        "There is no bash here: sh runs the local command {when} the run, which \
                         looks as if it were written for bash."
                    );
                    log.say(Level::Notice, &text);
                }
                self.tell("local", None, self.run_here(command, stop), log)
            });
            (here, there.map(threads::joined))
        });
        if [local, remote].contains(&Some(RoundResult::Failed)) {
            RoundResult::Failed
        } else {
            RoundResult::Fine
        }
    }

    fn run_here(&self, command: &str, stop: &Stop) -> Result<Ended, String> {
        let env = self.env.iter().map(|(name, value)| (name.into(), value.clone())).collect();
        let (exit, said) = HookShell::of_this_machine()
            .run(command, env, self.limit, stop)
            .map_err(|error| error.to_string())?;
        let end = match exit {
            Exit::Code(0) => End::Fine,
            Exit::Code(status) => End::Status(status),
            Exit::Signal(signal) => End::Signal(signal),
            Exit::TimedOut => End::TimedOut,
            Exit::Stopped(_) => End::Stopped,
        };
        Ok(Ended { end, said })
    }

    fn run_there(
        &self,
        command: &str,
        run: &mut RunThere<'_>,
        stop: &Stop,
    ) -> Result<Ended, String> {
        let text = |value: &OsString| match value.to_str() {
            Some(text) => text.to_owned(),
            None => escape(value.as_encoded_bytes()),
        };
        let env: Vec<_> =
            self.env.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        let HookResult { status, output } = match run(command, &env, self.limit) {
            Ok(result) => result,
            Err(_) if stop.reason().is_some() => {
                return Ok(Ended { end: End::Stopped, said: Vec::new() });
            }
            Err(error) => return Err(error.what),
        };
        let end = match status {
            Some(0) => End::Fine,
            Some(status) => End::Status(status),
            None => End::TimedOut,
        };
        Ok(Ended { end, said: output })
    }

    fn announce(&self, place: &str, command: &str, log: &dyn Reporter) {
        let when = self.when;
        log.say(Level::Notice, &format!("Running the {place} command {when} the run."));
        log.say(Level::Verbose, &format!("The {place} command {when} the run: {command}"));
    }

    /// Tells how a command ended. Its text may hold secrets: only `--verbose` shows it.
    fn tell(
        &self,
        place: &str,
        side: Option<Side>,
        ended: Result<Ended, String>,
        log: &dyn Reporter,
    ) -> RoundResult {
        let name = format!("the {place} command {} the run", self.when);
        let Ended { end, said } = match ended {
            Ok(ended) => ended,
            Err(why) => {
                log.problem(Level::Error, side, None, &format!("cannot run {name}: {why}"));
                return RoundResult::Failed;
            }
        };
        let said = String::from_utf8_lossy(&said);
        let said = match said.trim_end() {
            "" => String::new(),
            text => format!("; it said:\n{text}"),
        };
        let what = match end {
            End::Fine => {
                log.say(Level::Verbose, &format!("Done: {name}{said}"));
                return RoundResult::Fine;
            }
            End::Stopped => {
                log.say(Level::Notice, &format!("The run was stopped, and with it {name}{said}"));
                return RoundResult::Fine;
            }
            End::Status(status) => format!("ended with status {status}"),
            End::Signal(signal) => format!("was ended by signal {signal}"),
            End::TimedOut => {
                let limit = spell(self.limit.unwrap_or_default());
                let key = self.when.to_uppercase();
                format!(
                    "was ended, because it took longer than {limit} (MAX_EXEC_TIME_PER_CMD_{key})"
                )
            }
        };
        log.problem(Level::Error, side, None, &format!("{name} {what}{said}"));
        RoundResult::Failed
    }
}

/// A command that has ended, and what it printed.
struct Ended {
    end: End,
    said: Vec<u8>,
}

enum End {
    Fine,
    Status(i32),
    Signal(i32),
    TimedOut,
    /// With the run: that is told elsewhere.
    Stopped,
}

fn limit(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// The variables that commands get (docs/hooks.md).
fn variables(config: &Config, result: Option<&ResultForHooks>) -> Vec<(String, OsString)> {
    let place = |side: Side| match &config.replicas[side] {
        Location::Local(dir) => dir.clone().into_os_string(),
        remote @ Location::Ssh(_) => remote.to_string().into(),
    };
    let target = match config.is_star() {
        // one a line
        true => {
            let places: Vec<String> =
                config.chosen_targets().map(|(_, target)| target.place.to_string()).collect();
            places.join("\n").into()
        }
        false => place(Side::Target),
    };
    let mut env: Vec<(String, OsString)> = vec![
        ("OSYNC_INSTANCE_ID".into(), config.instance_id.clone().into()),
        ("OSYNC_INITIATOR".into(), place(Side::Initiator)),
        ("OSYNC_TARGET".into(), target),
    ];
    let Some(result) = result else { return env };
    let mut number = |name: String, value: u64| env.push((name, value.to_string().into()));
    number("OSYNC_STATUS".into(), result.status.into());
    for (side, counts) in result.counts.iter() {
        let side = side.name().to_uppercase();
        let Counts { updates, metadata, deletions, moves, bytes } = *counts;
        for (what, count) in [
            ("UPDATES", updates),
            ("METADATA", metadata),
            ("DELETIONS", deletions),
            ("MOVES", moves),
            ("BYTES", bytes),
        ] {
            number(format!("OSYNC_{what}_{side}"), count);
        }
    }
    number("OSYNC_CONFLICTS".into(), result.conflicts);
    env
}

#[cfg(test)]
mod tests;

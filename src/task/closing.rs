//! What happens at the end of every run, however it ended (spec 7).

use super::journal::millis;
use super::outcome::{self, Halt, Outcome};
use super::{Task, hooks, remote};
use crate::process::{StopReason, fault, signal_name};
use crate::report::failure::{Failure, News, news};
use crate::report::mail::{Delivery, Known, mail_result};
use crate::report::run_report::{rewrite_reports, write_reports};
use crate::report::summary::{Reach, sum_up};
use crate::report::{Achievements, Event, Level, Reporter, RunReport};
use crate::state::told::{Channel, Told};
use crate::tree::{Pair, Side};
use std::time::SystemTime;

impl Task<'_> {
    /// Unlocks, writes journal and reports, runs the after-commands, sends mail, and decides
    /// the exit status.
    pub(super) fn close(mut self, halted: Option<Halt>) -> Outcome {
        self.outcome.complete = halted.is_none();
        if let Some(Halt::Skipped(text)) = &halted {
            self.around.log.forget_held();
            self.say(Level::Notice, text);
            self.outcome.skipped = true;
            return self.outcome;
        }
        self.around.log.release();
        if halted.is_none() && self.outcome.reach == Reach::Part {
            self.outcome.reach = Reach::All;
        }
        self.tell_halt(halted);
        for side in Side::BOTH {
            fault::point("unlocking");
            if let Err(error) = self.replicas[side].unlock() {
                let text = format!("cannot take back our lock: {error}");
                self.around.reporter().problem(Level::Error, Some(side), None, &text);
            }
        }
        self.outcome.status = self.status();
        let summed_up = self.summed_up();
        let mut noted = self.write_journal(&summed_up);
        self.outcome.status = self.status();
        // before the after-commands, so that these can send them
        let report = self.report(&summed_up);
        write_reports(self.config, &report, self.around.reporter());
        let reported = self.status();
        self.after_hooks();
        self.outcome.status = self.status();
        if self.outcome.status != reported {
            rewrite_reports(self.config, &self.report(&summed_up), self.around.reporter());
        }
        if let Some(noted) = &mut noted {
            self.note_last_run(noted, &summed_up);
        }
        self.send_mail(&summed_up);
        self.notify_end(&summed_up);
        self.outcome.status = self.status();
        self.say(Level::Notice, &summed_up);
        self.around.log.close_run(self.around.log.worst());
        self.outcome
    }

    pub(super) fn status(&self) -> u8 {
        outcome::status(self.around.log.worst(), self.around.stop.reason())
    }

    /// After-commands run even after a stop, for they tidy up; the next signal ends them.
    fn after_hooks(&mut self) {
        let stop = self.around.stop.following();
        for side in Side::BOTH {
            self.replicas[side].set_stop(&stop);
        }
        let result = hooks::RunResult {
            status: self.outcome.status,
            counts: self.outcome.counts,
            conflicts: self.outcome.conflicts.len() as u64,
        };
        let remote = remote(&mut self.replicas, self.config);
        hooks::after(self.config, &result, remote, self.around.log.as_ref(), &stop);
    }

    fn report(&self, summed_up: &str) -> RunReport {
        RunReport {
            task: self.config.instance_id.clone(),
            started: self.outcome.started,
            ended: SystemTime::now(),
            replicas: Pair::from_fn(|side| self.replicas[side].location()),
            status: self.outcome.status,
            complete: self.outcome.complete,
            summed_up: summed_up.to_owned(),
            log: self.around.log.path(),
            dry: self.is_dry(),
            counts: self.outcome.counts,
            tally: self.around.log.tally(),
            conflicts: self.outcome.conflicts.clone(),
        }
    }

    /// The line that sums the run up (spec 10, "The record of a run").
    fn summed_up(&self) -> String {
        let Outcome { counts, conflicts, files, reach, .. } = &self.outcome;
        let time = self.around.started.elapsed();
        sum_up(counts, conflicts.len() as u64, *files, *reach, time)
    }

    /// Nobody gets two mails about the same failure within ALERT_REPEAT. Where the state cannot
    /// be reached, which may be the failure itself, nothing is known of earlier ones.
    fn send_mail(&self, summed_up: &str) {
        let listing =
            Achievements { conflicts: self.outcome.conflicts.clone(), ..Achievements::default() };
        let frame = self.frame(Pair::default(), None);
        let log = self.around.log;
        let failure = Failure::of(self.outcome.status, &log.tally().problems);
        let remembers = self.config.alerts.repeat.is_some() && !self.is_dry();
        let state = (remembers && self.state_dir(Side::Initiator).is_there())
            .then(|| self.open_store().ok())
            .flatten();
        let told = state.as_ref().and_then(|state| state.told(Channel::Mail).ok().flatten());
        let now = millis(SystemTime::now());
        let is_new =
            news(told.as_ref(), failure.as_ref(), self.config.alerts.repeat, now) != News::None;
        let known =
            if failure.is_some() && told.is_some() && !is_new { Known::Yes } else { Known::No };
        let sent = mail_result(self.config, log.worst(), known, &listing, &frame, summed_up, log);
        let Some(state) = state else { return };
        let noted = match (failure, sent) {
            (None, _) if told.is_some() => state.set_told(Channel::Mail, None),
            (Some(failure), Some(Delivery::Sent)) => {
                let told = Told { failure: failure.key().to_owned(), at: now };
                state.set_told(Channel::Mail, Some(&told))
            }
            _ => Ok(()),
        };
        if let Err(error) = noted {
            let text = format!("{error}; the next mail about this may come before its time");
            log.tell(Event::Remark(Level::Warn, &text));
        }
    }

    fn tell_halt(&self, halted: Option<Halt>) {
        let reporter = self.around.reporter();
        match halted {
            None | Some(Halt::Told | Halt::Skipped(_)) => {}
            Some(Halt::Replica(error)) => match self.around.stop.reason() {
                // what was asked of a replica when the word came was given up
                Some(reason) => {
                    reporter.say(Level::Verbose, &error.to_string());
                    self.tell_stop(reason);
                }
                None => reporter.problem(Level::Critical, None, None, &error.to_string()),
            },
            Some(Halt::Danger(danger)) => {
                reporter.problem(Level::Critical, None, None, &danger.to_string());
            }
            Some(Halt::Fatal { side, what }) => {
                reporter.problem(Level::Critical, side, None, &what);
            }
            Some(Halt::Stopped(reason)) => self.tell_stop(reason),
        }
    }

    fn tell_stop(&self, reason: StopReason) {
        let reporter = self.around.reporter();
        match reason {
            StopReason::HardLimit => reporter.problem(
                Level::Error,
                None,
                None,
                &format!(
                    "stopped: HARD_MAX_EXEC_TIME ({} seconds) has passed; the next run goes on \
                     from here",
                    self.config.limits.hard
                ),
            ),
            StopReason::Signal(number) => reporter.problem(
                Level::Warn,
                None,
                None,
                &format!("stopped by {}; the next run goes on from here", signal_name(number)),
            ),
        }
    }
}

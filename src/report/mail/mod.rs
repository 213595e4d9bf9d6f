//! Alert mails (spec 6, "Mail").

use super::{Event, Level, Reporter, Tally, Who};
use crate::config::Alerts;
use lettre::Address;
use std::time::Duration;

mod charset;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod message;
mod sendmail;
mod smtp;

use charset::Charset;

/// How many problems a mail lists before it only counts.
const LISTED: usize = 200;

/// Why a mail is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// The run is over; the worst that happened.
    Finished(Option<Level>),
    /// A soft limit has passed; the run goes on.
    Running,
}

/// What a mail is about.
#[derive(Debug, Clone)]
pub struct Letter<'a> {
    /// INSTANCE_ID.
    pub task: &'a str,
    /// Why it is sent.
    pub occasion: Occasion,
    /// What went wrong.
    pub tally: &'a Tally,
    /// The list of conflicts, line by line, if it is to be in the mail (ALERT_CONFLICTS).
    pub conflicts: &'a [String],
    /// The last lines of this run's log ([`super::Log::lines`]).
    pub lines: &'a [String],
    /// The log to attach ([`super::Log::transcript`]).
    pub transcript: &'a [u8],
}

/// How long a mail server may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For connecting, and for each answer.
    pub step: Duration,
    /// For everything.
    pub total: Duration,
}

impl Default for Patience {
    /// 15 seconds a step, 30 in all.
    fn default() -> Self {
        Patience { step: Duration::from_secs(15), total: Duration::from_secs(30) }
    }
}

/// Tries the way that mails take, without sending one; says which way that is
/// (`osync check`).
///
/// # Errors
/// Why no mail would get through.
pub fn reach(alerts: &Alerts, patience: Patience) -> Result<String, String> {
    match &alerts.smtp_server {
        Some(host) => {
            smtp::reach(host, alerts, patience)?;
            Ok(format!("{host}:{} answers", alerts.smtp_port))
        }
        None => Ok(format!("through {}", sendmail::program()?.display())),
    }
}

/// Whether the end of a run is worth a mail. `conflicts`: whether there were any.
#[must_use]
pub fn is_wanted(alerts: &Alerts, debug: bool, worst: Option<Level>, conflicts: bool) -> bool {
    let reason = worst.is_some() || alerts.always || (alerts.conflicts && conflicts);
    reason && !debug && !alerts.recipients.is_empty()
}

/// Warns of settings with which mails would not arrive as they should. Called once, before
/// a run, so that the warnings are in time for its exit status.
pub fn check(alerts: &Alerts, log: &dyn Reporter) {
    for text in split(&alerts.recipients) {
        if let Err(e) = text.parse::<Address>() {
            log.say(Level::Warn, &format!("DESTINATION_MAILS: {text} is no mail address: {e}"));
        }
    }
    if let Some(text) = &alerts.sender
        && let Err(e) = text.parse::<Address>()
    {
        log.say(Level::Warn, &format!("SENDER_MAIL: {text} is no mail address: {e}"));
    }
    if Charset::named(&alerts.charset).is_none() {
        let name = &alerts.charset;
        log.say(Level::Warn, &format!("MAIL_BODY_CHARSET: {name} is not known; using UTF-8"));
    }
}

/// Sends a mail. Where that fails, the log says so, and nothing else happens: it does not
/// count against the exit status (spec 6). It takes 30 seconds at the most, and a little more for a `sendmail` that has to be ended.
pub fn send(alerts: &Alerts, letter: &Letter<'_>, log: &dyn Reporter) {
    send_within(alerts, letter, log, Patience::default());
}

/// Sends a mail, with a patience of one's own.
pub fn send_within(alerts: &Alerts, letter: &Letter<'_>, log: &dyn Reporter, patience: Patience) {
    let to: Vec<Address> = split(&alerts.recipients).filter_map(|text| text.parse().ok()).collect();
    if to.is_empty() {
        remark(log, Level::Error, "cannot send mail: DESTINATION_MAILS holds no valid address");
        return;
    }
    let from = sender(alerts.sender.as_deref(), &Who::here());
    let charset = Charset::named(&alerts.charset).unwrap_or_default();
    let sent =
        message::build(letter, &from, &to, charset).and_then(|mail| match &alerts.smtp_server {
            Some(server) => smtp::send(server, alerts, &from, &to, mail, patience),
            None => sendmail::send(&from, &to, &mail, patience).map(|()| vec![]),
        });
    let listed = to.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match sent {
        Ok(refused) if refused.is_empty() => {
            remark(log, Level::Notice, &format!("Sent mail to {listed}."));
        }
        Ok(refused) => {
            for why in refused {
                remark(log, Level::Error, &format!("cannot send mail to {why}"));
            }
        }
        Err(why) => remark(log, Level::Error, &format!("cannot send mail to {listed}: {why}")),
    }
}

fn remark(log: &dyn Reporter, level: Level, text: &str) {
    log.tell(Event::Remark(level, text));
}

/// Addresses separated by spaces, commas or semicolons.
fn split(recipients: &[String]) -> impl Iterator<Item = &str> {
    let separator = |c: char| c.is_whitespace() || c == ',' || c == ';';
    recipients.iter().flat_map(move |text| text.split(separator)).filter(|text| !text.is_empty())
}

/// SENDER_MAIL, or our user at this host.
fn sender(wanted: Option<&str>, who: &Who) -> Address {
    let own = format!("{}@{}", who.user, who.host);
    wanted
        .and_then(|text| text.parse().ok())
        .or_else(|| own.parse().ok())
        .unwrap_or_else(|| Address::new_dangerous("osync", "localhost"))
}

/// The subject (spec 6): scripts and mail filters know these.
fn subject(task: &str, occasion: Occasion) -> String {
    match occasion {
        Occasion::Finished(None) => format!("Finished run - Alert for {task}"),
        Occasion::Finished(Some(Level::Warn)) => format!("Finished run - Warning alert for {task}"),
        Occasion::Finished(Some(_)) => format!("Finished run - Error alert for {task}"),
        Occasion::Running => format!("Currently running - Warning alert for {task}"),
    }
}

/// The text: what went wrong first, then the log.
fn body(letter: &Letter<'_>, who: &Who) -> String {
    let mut text = format!("osync task {} on {}: ", letter.task, who.host);
    text.push_str(match letter.occasion {
        Occasion::Finished(None) => "finished.\n",
        Occasion::Finished(Some(Level::Warn)) => "finished with warnings.\n",
        Occasion::Finished(Some(_)) => "finished with errors.\n",
        Occasion::Running => "still running, longer than its soft limit.\n",
    });
    let problems = &letter.tally.problems;
    if !problems.is_empty() {
        text.push_str("\nWhat went wrong:\n");
        for problem in problems.iter().take(LISTED) {
            text.push_str(&format!("{}{problem}\n", problem.level.tag()));
        }
        let more = letter.tally.total() - problems.len().min(LISTED) as u64;
        if more > 0 {
            text.push_str(&format!("... and {more} more.\n"));
        }
    }
    if !letter.conflicts.is_empty() {
        text.push_str(&format!("\n{}\n", letter.conflicts.join("\n")));
    }
    if !letter.lines.is_empty() {
        text.push_str(&format!("\nThe last {} lines of the log:\n", letter.lines.len()));
        text.push_str(&letter.lines.join("\n"));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests;

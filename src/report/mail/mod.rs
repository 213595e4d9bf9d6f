//! Alert mails (spec 6, "Mail").

use super::words::counted;
use super::{Event, Frame, Level, Listing, Log, Reporter, Tally, Who, conflicts, verdicts};
use crate::config::{Alerts, Config};
use crate::process::fault;
use lettre::Address;
use message::Charset;
use std::time::Duration;
use transport::Mailer;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod message;
#[cfg(test)]
mod tests;
mod transport;

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
    /// It is about a dry run.
    pub dry: bool,
    /// What the run did, in a line; empty if it goes on.
    pub summed_up: &'a str,
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
        let [step, total] = [15, 30].map(|seconds| fault::limit(Duration::from_secs(seconds)));
        Patience { step, total }
    }
}

/// Tries the way that mails take, without sending one; says which way that is
/// (`osync check`).
///
/// # Errors
/// Why no mail would get through, or only by another way than the settings say.
pub fn reach(alerts: &Alerts, patience: Patience) -> Result<String, String> {
    let through = |mailer: Mailer| format!("through {}", mailer.program.display());
    let Some(host) = &alerts.smtp_server else {
        return Mailer::of_this_machine().map(through).ok_or_else(|| NO_MAILER.to_owned());
    };
    match transport::reach(host, alerts, patience) {
        Ok(()) => Ok(format!("{host}:{} answers", alerts.smtp_port)),
        Err(why) => Err(match Mailer::of_this_machine() {
            Some(mailer) => format!("{why}; mails would go {} instead", through(mailer)),
            None => why,
        }),
    }
}

const NO_MAILER: &str = "SMTP_SERVER is not set, and there is no sendmail in PATH, /usr/sbin or \
                         /usr/lib, and neither mutt nor mail; set SMTP_SERVER, or install a \
                         program that brings sendmail";

/// Whether the end of a run with so many conflicts is worth a mail.
#[must_use]
pub fn is_wanted(alerts: &Alerts, worst: Option<Level>, conflicts: usize) -> bool {
    let reason = worst.is_some() || alerts.always || (alerts.conflicts && conflicts > 0);
    reason && !alerts.muted && !alerts.recipients.is_empty()
}

/// Warns of settings with which mails would not arrive as they should. Called once, before
/// a run, so that the warnings are in time for its exit status.
pub fn check(alerts: &Alerts, log: &dyn Reporter) {
    // A remark: a task with the settings of the sample still ends with status 0, and sends no
    // mail about them each time.
    for placeholder in &alerts.placeholders {
        remark(log, Level::Warn, &placeholder.to_string());
    }
    for text in split(&alerts.recipients) {
        if let Err(e) = text.parse::<Address>() {
            log.say(Level::Warn, &format!("DESTINATION_MAILS: {text} is not a mail address: {e}"));
        }
    }
    if let Some(text) = &alerts.sender
        && let Err(e) = text.parse::<Address>()
    {
        log.say(Level::Warn, &format!("SENDER_MAIL: {text} is not a mail address: {e}"));
    }
    if Charset::named(&alerts.charset).is_none() {
        let name = &alerts.charset;
        log.say(Level::Warn, &format!("MAIL_BODY_CHARSET: {name} is not known; using UTF-8"));
    }
}

/// What became of a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Somebody gets it.
    Sent,
    /// Nobody gets it; the log says why.
    Failed,
}

/// Sends a mail. Where that fails, the log says so, and nothing else happens: it does not
/// count against the exit status (spec 6). A server may take 30 seconds, and so may a local
/// program, and a little more if it has to be ended.
pub fn send(alerts: &Alerts, letter: &Letter<'_>, log: &dyn Reporter) -> Delivery {
    send_within(alerts, letter, log, Patience::default())
}

/// As [`send`], with other time limits.
pub fn send_within(
    alerts: &Alerts,
    letter: &Letter<'_>,
    log: &dyn Reporter,
    patience: Patience,
) -> Delivery {
    let to: Vec<Address> = split(&alerts.recipients).filter_map(|text| text.parse().ok()).collect();
    if to.is_empty() {
        remark(log, Level::Error, "cannot send mail: DESTINATION_MAILS holds no valid address");
        return Delivery::Failed;
    }
    let listed = to.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match deliver(alerts, letter, &to, log, patience) {
        Ok(refused) if refused.is_empty() => {
            remark(log, Level::Notice, &format!("Sent mail to {listed}."));
            Delivery::Sent
        }
        Ok(refused) => {
            let some_get_it = refused.len() < to.len();
            for why in refused {
                remark(log, Level::Error, &format!("cannot send mail to {why}"));
            }
            if some_get_it { Delivery::Sent } else { Delivery::Failed }
        }
        Err(why) => {
            remark(log, Level::Error, &format!("cannot send mail to {listed}: {why}"));
            Delivery::Failed
        }
    }
}

/// By SMTP_SERVER if it is set, else by a program of this machine; by that too where the
/// server could not be reached, so that no alert is lost to a typing error. Answers with the
/// recipients that were refused, and why.
fn deliver(
    alerts: &Alerts,
    letter: &Letter<'_>,
    to: &[Address],
    log: &dyn Reporter,
    patience: Patience,
) -> Result<Vec<String>, String> {
    let who = Who::here();
    let from = sender(alerts.sender.as_deref(), &who);
    let charset = Charset::named(&alerts.charset).unwrap_or_default();
    let whole = message::build(letter, &from, to, charset)?;
    let by_program = |mailer: &Mailer| {
        let attachment = message::attachment(letter)?;
        let mail = transport::LocalMail {
            from: &from,
            to,
            subject: &message::one_line(&subject(letter, &who.host)),
            text: &body(letter, &who),
            attachment: attachment.as_ref().map(|(name, bytes)| (name.as_str(), bytes.as_slice())),
            whole: &whole,
        };
        mailer.send(&mail, patience).map(|()| Vec::new())
    };
    let Some(server) = &alerts.smtp_server else {
        return by_program(&Mailer::of_this_machine().ok_or(NO_MAILER)?);
    };
    match (
        transport::send(server, alerts, &from, to, whole.clone(), patience),
        Mailer::of_this_machine(),
    ) {
        (Ok(refused), _) => Ok(refused),
        (Err(transport::Failure::NotReached(why)), Some(mailer)) => {
            let program = mailer.program.display();
            remark(log, Level::Warn, &format!("{why}; sending the mail through {program} instead"));
            by_program(&mailer).map_err(|second| format!("{why}; {second}"))
        }
        (Err(transport::Failure::NotReached(why) | transport::Failure::Refused(why)), _) => {
            Err(why)
        }
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

/// The subject (spec 6): scripts and mail filters know how these begin.
fn subject(letter: &Letter<'_>, host: &str) -> String {
    let kind = match letter.occasion {
        Occasion::Running => "Currently running - Warning alert",
        Occasion::Finished(None) => "Finished run - Alert",
        Occasion::Finished(Some(Level::Warn)) => "Finished run - Warning alert",
        Occasion::Finished(Some(_)) => "Finished run - Error alert",
    };
    let dry = if letter.dry { " (dry run)" } else { "" };
    format!("{kind} for {} on {host}{dry}", letter.task)
}

/// The text: what went wrong first, then the log.
fn body(letter: &Letter<'_>, who: &Who) -> String {
    let dry = if letter.dry { "dry run, nothing was changed; it " } else { "" };
    let mut text = format!("osync task {} on {}: {dry}", letter.task, who.host);
    text.push_str(match letter.occasion {
        Occasion::Finished(None) => "finished.\n",
        Occasion::Finished(Some(Level::Warn)) => "finished with warnings.\n",
        Occasion::Finished(Some(_)) => "finished with errors.\n",
        Occasion::Running => "still running, longer than its soft limit.\n",
    });
    if !letter.summed_up.is_empty() {
        let did = if letter.dry { "It would do" } else { "It did" };
        text.push_str(&format!("{did}: {}.\n", letter.summed_up));
    }
    let problems = &letter.tally.problems;
    if !problems.is_empty() {
        text.push_str("\nWhat went wrong:\n");
        for problem in letter.tally.errors_first().take(LISTED) {
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
        let lines = counted(letter.lines.len() as u64, "line");
        text.push_str(&format!("\nThe end of the log ({lines}):\n"));
        text.push_str(&letter.lines.join("\n"));
        text.push('\n');
    }
    text
}

/// Whether the same failure was mailed not long ago (ALERT_REPEAT).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It was.
    Yes,
    /// It was not, or there is none.
    No,
}

/// Sends the mail about a finished run, if it deserves one; else returns `None`. `worst` is the
/// level that its exit status stands for, `summed_up` its line, `conflicts` what
/// [`conflict_lines`] says.
pub fn mail_result(
    config: &Config,
    worst: Option<Level>,
    known: Known,
    conflicts: &[String],
    summed_up: &str,
    log: &Log,
) -> Option<Delivery> {
    let is_failure = worst.is_some_and(|level| level != Level::Warn);
    if is_failure && config.flags.hold_alert {
        // the batch runs it again, or sends the mail itself
        return None;
    }
    if !is_wanted(&config.alerts, worst, conflicts.len()) {
        return None;
    }
    if conflicts.is_empty() && is_held_back(config, known, log) {
        return None;
    }
    Some(post(config, Occasion::Finished(worst), conflicts, summed_up, log))
}

/// Sends the mail about a run that takes longer than its soft limit, if anybody wants it.
/// It may take 30 seconds: not called from the thread that works.
pub fn mail_soft_limit(config: &Config, log: &Log) {
    if is_wanted(&config.alerts, Some(Level::Warn), 0) {
        post(config, Occasion::Running, &[], "", log);
    }
}

/// Sends the mail about a task that a batch has given up, with what its last run said.
pub fn mail_failure(
    config: &Config,
    known: Known,
    lines: &[String],
    tally: &Tally,
    summed_up: &str,
    log: &dyn Reporter,
) -> Option<Delivery> {
    let worst = Some(Level::Error);
    if !is_wanted(&config.alerts, worst, 0) || is_held_back(config, known, log) {
        return None;
    }
    let transcript = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let letter = Letter {
        task: &config.instance_id,
        occasion: Occasion::Finished(worst),
        dry: config.flags.dry,
        summed_up,
        tally,
        conflicts: &[],
        lines,
        transcript: transcript.as_bytes(),
    };
    Some(send(&config.alerts, &letter, log))
}

/// Whether a mail is not sent because the same failure was mailed not long ago.
fn is_held_back(config: &Config, known: Known, log: &dyn Reporter) -> bool {
    let is_held_back = known == Known::Yes && !config.alerts.always;
    if is_held_back {
        log.say(Level::Notice, "No mail: one about the same failure was sent (ALERT_REPEAT).");
    }
    is_held_back
}

/// The conflicts of a run, line by line, if they are to be in the mail (ALERT_CONFLICTS).
#[must_use]
pub fn conflict_lines(alerts: &Alerts, listing: &dyn Listing, frame: &Frame) -> Vec<String> {
    let (mut any, mut lines) = (false, Vec::new());
    listing.conflicts(&mut |_| any = true);
    if alerts.conflicts && any {
        conflicts(listing, frame, &mut |line| lines.push(line.to_owned()));
        verdicts(listing, &mut |line| lines.push(line.to_owned()));
    }
    lines
}

fn post(
    config: &Config,
    occasion: Occasion,
    conflicts: &[String],
    summed_up: &str,
    log: &Log,
) -> Delivery {
    let (tally, lines, transcript): (Tally, _, _) = (log.tally(), log.lines(), log.transcript());
    let letter = Letter {
        task: &config.instance_id,
        occasion,
        dry: config.flags.dry,
        summed_up,
        tally: &tally,
        conflicts,
        lines: &lines,
        transcript: &transcript,
    };
    send(&config.alerts, &letter, log)
}

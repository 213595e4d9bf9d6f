//! The last words of a run: what was changed, reports for machines, mail (spec 6).

use super::mail::{self, Delivery, Letter, Occasion};
use super::{Frame, Level, Listing, Log, Reporter, RunReport, Tally};
use super::{conflicts, json, metrics, record, summary, verdicts};
use crate::config::{Alerts, Config};
use std::io;
use std::path::{Path, PathBuf};

/// Tells what was changed, as far as it was asked for; all of it in a dry run
/// ([`Frame::duration`] is none), which is run for that.
pub fn tell_changes(config: &Config, listing: &dyn Listing, frame: &Frame, log: &dyn Reporter) {
    let dry = frame.duration.is_none();
    if config.flags.summary || dry {
        log.say_all(Level::Always, &mut |line| summary(listing, frame, line));
    } else {
        log.say_all(Level::Notice, &mut |line| record::removals(listing, line));
        log.say_all(Level::Verbose, &mut |line| record::updates(listing, line));
    }
    let wanted = config.output.log_conflicts || dry;
    if wanted {
        log.say_all(Level::Always, &mut |line| conflicts(listing, frame, line));
    }
    let level = if dry { Level::Always } else { Level::Notice };
    log.say_all(level, &mut |line| verdicts(listing, line));
}

/// A report for machines: where it goes, what it is called, who writes it.
type ReportFile = (Option<PathBuf>, &'static str, fn(&Path, &RunReport) -> io::Result<()>);

fn report_files(config: &Config, run: &RunReport) -> [ReportFile; 3] {
    let report = config.output.report_file.as_ref();
    [
        (config.flags.batch_report.clone(), "report for the batch", json::write),
        (report.map(|template| json::file(template, run)), "report file", json::write),
        (config.alerts.metrics_file.clone(), "metrics file", metrics::write),
    ]
}

/// Writes the reports for machines. One that cannot be written is a warning.
pub fn write_reports(config: &Config, run: &RunReport, log: &dyn Reporter) {
    write_those(config, run, log, |_| true);
}

/// Writes them again, as the after-commands have changed how the run ended. What is no file
/// has been read already.
pub fn rewrite_reports(config: &Config, run: &RunReport, log: &dyn Reporter) {
    write_those(config, run, log, Path::is_file);
}

fn write_those(
    config: &Config,
    run: &RunReport,
    log: &dyn Reporter,
    is_wanted: impl Fn(&Path) -> bool,
) {
    for (path, what, write) in report_files(config, run) {
        let Some(path) = path.filter(|path| is_wanted(path)) else { continue };
        if let Err(e) = write(&path, run) {
            let path = crate::tree::path::escape(path.as_os_str().as_encoded_bytes());
            log.say(Level::Warn, &format!("cannot write the {what} {path}: {e}"));
        }
    }
}

/// Whether the same failure was mailed not long ago (ALERT_REPEAT).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It was.
    Yes,
    /// It was not, or there is none.
    No,
}

/// Sends the mail about a finished run, if it deserves one; none: it does not. `worst` is what
/// its exit status says; `summed_up` is its line. With ALERT_CONFLICTS the conflicts of the
/// listing come along.
pub fn mail_result(
    config: &Config,
    worst: Option<Level>,
    known: Known,
    listing: &dyn Listing,
    frame: &Frame,
    summed_up: &str,
    log: &Log,
) -> Option<Delivery> {
    let is_failure = worst.is_some_and(|level| level != Level::Warn);
    if is_failure && config.flags.hold_alert {
        // the batch runs it again, or sends the mail itself
        return None;
    }
    let list = conflict_lines(&config.alerts, listing, frame);
    if !mail::is_wanted(&config.alerts, worst, !list.is_empty()) {
        return None;
    }
    if known == Known::Yes && list.is_empty() && !config.alerts.always {
        log.say(Level::Notice, "No mail: one about the same failure was sent (ALERT_REPEAT).");
        return None;
    }
    Some(post(config, Occasion::Finished(worst), &list, summed_up, log))
}

/// Sends the mail about a run that takes longer than its soft limit, if anybody wants it.
/// It may take 30 seconds: not called from the thread that works.
pub fn mail_soft_limit(config: &Config, log: &Log) {
    if mail::is_wanted(&config.alerts, Some(Level::Warn), false) {
        post(config, Occasion::Running, &[], "", log);
    }
}

/// Sends the mail about a task that a batch has given up, with what its last run said.
pub fn mail_failure(config: &Config, lines: &[String], log: &dyn Reporter) {
    let worst = Some(Level::Error);
    if mail::is_wanted(&config.alerts, worst, false) {
        let transcript = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let letter = Letter {
            task: &config.instance_id,
            occasion: Occasion::Finished(worst),
            dry: config.flags.dry,
            summed_up: "",
            tally: &Tally::default(),
            conflicts: &[],
            lines,
            transcript: transcript.as_bytes(),
        };
        mail::send(&config.alerts, &letter, log);
    }
}

fn conflict_lines(alerts: &Alerts, listing: &dyn Listing, frame: &Frame) -> Vec<String> {
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
    mail::send(&config.alerts, &letter, log)
}

//! METRICS_FILE: a run in Prometheus' text format (spec 6, "For machines";
//! docs/monitoring.md).

use super::run::write_whole;
use super::{Counts, RunReport};
use crate::tree::Side;
use rustix::fs::OFlags;
use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::SystemTime;

const LAST_SUCCESS: &str = "osync_last_success_timestamp_seconds";

/// Writes the metrics as a whole. The time of the last success comes from the file that
/// was there, if this run is none. A dry run is no run and writes nothing.
///
/// # Errors
/// The file cannot be written; what was there before is still there.
pub fn write(path: &Path, run: &RunReport) -> io::Result<()> {
    if run.dry {
        return Ok(());
    }
    let before = before(path);
    let before = String::from_utf8_lossy(&before);
    write_whole(path, to_text(run, last_success(&before, &run.task)).as_bytes())
}

/// What we read of a file that was there; ours has a few kilobytes.
const MOST: u64 = 1 << 20;

/// What the file holds; nothing where it is none: reading a fifo, a terminal or our own
/// standard output would wait for ever.
fn before(path: &Path) -> Vec<u8> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let opened = File::options().read(true).custom_flags(flags).open(path);
    let mut text = Vec::new();
    if let Ok(file) = opened
        && file.metadata().is_ok_and(|meta| meta.is_file())
        && file.take(MOST).read_to_end(&mut text).is_err()
    {
        text.clear();
    }
    text
}

/// The metrics of a run. `last_success`: seconds since the epoch, when it succeeded before.
pub(super) fn to_text(run: &RunReport, last_success: Option<f64>) -> String {
    let mut page = Page { task: escape_label(&run.task), text: String::new() };
    let ended = seconds(run.ended);
    let success = if run.succeeded() { ended } else { last_success.unwrap_or(0.0) };
    page.single("osync_last_run_timestamp_seconds", "When the last run ended.", ended);
    page.single(
        LAST_SUCCESS,
        "When a run last succeeded, with or without warnings; 0 if never.",
        success,
    );
    let duration = run.duration().as_secs_f64();
    page.single("osync_run_duration_seconds", "How long the last run took.", duration);
    let status = f64::from(run.status);
    page.single("osync_exit_status", "0 success, 1 error, 2 warnings.", status);

    let by_side: [(&str, &str, Pick); 5] = [
        ("updates", "Entries made or given new content.", |counts| counts.updates),
        ("metadata", "Entries of which only attributes were set.", |counts| counts.metadata),
        ("deletions", "Entries deleted.", |counts| counts.deletions),
        ("moves", "Entries renamed.", |counts| counts.moves),
        ("bytes", "Bytes of content received.", |counts| counts.bytes),
    ];
    for (what, help, value) in by_side {
        let values = Side::BOTH.map(|side| (side.name(), value(&run.counts[side])));
        page.labelled(&format!("osync_{what}_total_last_run"), help, "side", &values);
    }
    let conflicts = run.conflicts.len() as u64;
    page.labelled(
        "osync_conflicts_total_last_run",
        "Paths changed on both sides.",
        "",
        &[("", conflicts)],
    );
    let tally = &run.tally;
    let problems =
        [("critical", tally.critical), ("error", tally.errors), ("warning", tally.warnings)];
    page.labelled("osync_problems_total_last_run", "What went wrong.", "level", &problems);
    page.text
}

/// Picks one of the counts.
type Pick = fn(&Counts) -> u64;

/// A page of metrics that all carry the task as label `instance`.
struct Page {
    task: String,
    text: String,
}

impl Page {
    fn head(&mut self, name: &str, help: &str) {
        // writing to a String cannot fail
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} gauge");
    }

    fn single(&mut self, name: &str, help: &str, value: f64) {
        self.head(name, help);
        let _ = writeln!(self.text, "{name}{{instance=\"{}\"}} {value}", self.task);
    }

    /// One line for each value of a label; no label where its name is empty.
    fn labelled(&mut self, name: &str, help: &str, label: &str, values: &[(&str, u64)]) {
        self.head(name, help);
        for (label_value, value) in values {
            let more = match label {
                "" => String::new(),
                _ => format!(",{label}=\"{label_value}\""),
            };
            let _ = writeln!(self.text, "{name}{{instance=\"{}\"{more}}} {value}", self.task);
        }
    }
}

/// The time of the last success in a file we wrote, if it is about the same task.
pub(super) fn last_success(text: &str, task: &str) -> Option<f64> {
    let start = format!("{LAST_SUCCESS}{{instance=\"{}\"}} ", escape_label(task));
    let is_time = |seconds: &f64| seconds.is_finite() && *seconds >= 0.0;
    text.lines().find_map(|line| line.strip_prefix(&start)?.trim().parse().ok().filter(is_time))
}

/// A label value: backslash, quote and newline are escaped.
fn escape_label(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Seconds since the epoch, to the millisecond.
fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    (since.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Tally;
    use crate::tree::Pair;
    use std::time::Duration;

    fn run(status: u8, at: u64) -> RunReport {
        let started = SystemTime::UNIX_EPOCH + Duration::from_secs(at);
        RunReport {
            task: "a\"b\\c\nd".into(),
            started,
            ended: started + Duration::from_millis(1_500),
            replicas: Pair::default(),
            status,
            complete: true,
            summed_up: String::new(),
            log: None,
            dry: false,
            counts: Pair::new(Counts { updates: 4, ..Counts::default() }, Counts::default()),
            tally: Tally::default(),
            conflicts: vec![],
        }
    }

    #[test]
    fn the_last_success_is_carried_over_a_failed_run() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("m.prom");
        let label = r#"{instance="a\"b\\c\nd"}"#;
        let stopped = RunReport { complete: false, ..run(2, 400) };
        let dry = RunReport { dry: true, ..run(0, 500) };
        for (name, run, last_run, last_success, status) in [
            ("failed and never succeeded", run(1, 50), "51.5", "0", "1"),
            ("succeeded", run(0, 100), "101.5", "101.5", "0"),
            ("failed", run(1, 200), "201.5", "101.5", "1"),
            ("with warnings", run(2, 300), "301.5", "301.5", "2"),
            ("stopped by the user", stopped, "401.5", "301.5", "2"),
            ("a dry run changes nothing", dry, "401.5", "301.5", "2"),
        ] {
            write(&file, &run).unwrap();
            let text = std::fs::read_to_string(&file).unwrap();
            for line in [
                format!("osync_last_run_timestamp_seconds{label} {last_run}"),
                format!("{LAST_SUCCESS}{label} {last_success}"),
                format!("osync_exit_status{label} {status}"),
            ] {
                assert!(text.lines().any(|l| l == line), "{name}: no {line} in\n{text}");
            }
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_time_that_is_none_is_no_success() {
        let of =
            |value: &str| last_success(&format!("{LAST_SUCCESS}{{instance=\"t\"}} {value}"), "t");
        for (value, expected) in
            [("7.5", Some(7.5)), ("NaN", None), ("inf", None), ("1e999", None), ("-1", None)]
        {
            assert_eq!(of(value), expected, "{value}");
        }
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        // somebody holds the other end, and says nothing
        let reader = File::options().read(true).write(true).open(&fifo).unwrap();
        let (done, over) = std::sync::mpsc::channel();
        std::thread::spawn(move || done.send(write(&fifo, &run(0, 0)).is_ok()));
        assert_eq!(over.recv_timeout(Duration::from_secs(20)), Ok(true));
        drop(reader);
    }

    #[test]
    fn every_metric_has_help_type_and_labels() {
        let text = to_text(&RunReport { task: "t".into(), ..run(0, 0) }, None);
        for line in [
            "# TYPE osync_updates_total_last_run gauge",
            "osync_updates_total_last_run{instance=\"t\",side=\"initiator\"} 4",
            "osync_updates_total_last_run{instance=\"t\",side=\"target\"} 0",
            "osync_run_duration_seconds{instance=\"t\"} 1.5",
            "osync_conflicts_total_last_run{instance=\"t\"} 0",
            "osync_problems_total_last_run{instance=\"t\",level=\"warning\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
        }
        let names = |kind| text.lines().filter(|l| l.starts_with(kind)).count();
        assert_eq!(names("# HELP"), names("# TYPE"));
    }
}

//! A run as a value, and the reports for machines that are made of it: JSON (`--report`, REPORT)
//! and Prometheus' text format (METRICS_FILE) (spec 6, "For machines"; docs/monitoring.md).

use super::scrub::{DamagedPath, Remedy, Scrubbed};
use super::{ConflictLine, Counts, Level, Problem, Reporter, Tally};
use crate::config::Config;
use crate::tree::path::escape;
use crate::tree::{Pair, RelPath, Side, from_hex, hex};
use chrono::{DateTime, Local, SecondsFormat, Utc};
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read as _, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A finished run.
#[derive(Debug, Clone)]
pub struct RunReport {
    /// INSTANCE_ID.
    pub task: String,
    /// When the run began.
    pub started: SystemTime,
    /// When it ended.
    pub ended: SystemTime,
    /// Both replicas, for people: a directory or an ssh URI.
    pub replicas: Pair<String>,
    /// The exit status (spec 1).
    pub status: u8,
    /// The run came to its end; false if it was stopped before.
    pub complete: bool,
    /// What it did, in a line.
    pub summed_up: String,
    /// Its log file, if there is one.
    pub log: Option<PathBuf>,
    /// Nothing was changed, only planned.
    pub dry: bool,
    /// What was done on each side.
    pub counts: Pair<Counts>,
    /// What went wrong.
    pub tally: Tally,
    /// Paths that were changed on both sides.
    pub conflicts: Vec<ConflictLine>,
    /// What a scrub found; `None` if it was no scrub.
    pub scrub: Option<Scrubbed>,
    /// The targets of a star, in the order of the list; empty for a pair.
    pub targets: Vec<RunReport>,
}

impl RunReport {
    /// How long the run took; nothing if the clock was set back meanwhile.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.ended.duration_since(self.started).unwrap_or_default()
    }

    /// Whether the run did what it is for, with or without warnings.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.complete && matches!(self.status, 0 | 2)
    }
}

/// Replaces a file as a whole: readers see the old content or the new one. A new file gets
/// the permission bits any new file gets, as others are meant to read it. Links are
/// followed, and what is no regular file (`/dev/stdout`) is written to, not replaced.
pub fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let (path, there) = match std::fs::metadata(path) {
        Ok(there) if there.is_file() => (path.canonicalize()?, Some(there)),
        Ok(_) => return write_into(path, content),
        Err(_) => (path.to_owned(), None),
    };
    let access = there.as_ref().map_or(FileAccess::Usual, FileAccess::Like);
    written_beside(&path, content, access)?.persist(&path)?;
    Ok(())
}

/// Who may read and write a new file.
#[derive(Debug, Clone, Copy)]
pub enum FileAccess<'a> {
    /// Whoever may with any new file of this user.
    Usual,
    /// This user alone.
    Private,
    /// Whoever may with that one; it gets its owner too, where this user may give files away.
    Like(&'a Metadata),
}

/// A temporary file beside a path, with its whole content on the disk: to be put in its place at
/// once.
pub fn written_beside(
    path: &Path,
    content: &[u8],
    access: FileAccess<'_>,
) -> io::Result<tempfile::NamedTempFile> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    let mode = if matches!(access, FileAccess::Private) { 0o600 } else { 0o666 };
    let builder = builder.prefix(".osync-").permissions(Permissions::from_mode(mode));
    let mut file = builder.tempfile_in(dir).map_err(without_name)?;
    if let FileAccess::Like(like) = access {
        let _ = std::os::unix::fs::fchown(file.as_file(), Some(like.uid()), Some(like.gid()));
        file.as_file().set_permissions(like.permissions())?;
    }
    file.write_all(content)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Writes to what is no regular file. A pipe that nobody reads is an error, and not waited
/// for: the run would never end.
fn write_into(path: &Path, content: &[u8]) -> io::Result<()> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().write(true).custom_flags(flags).open(path);
    let mut file =
        opened.map_err(|error| match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NXIO) => io::Error::new(error.kind(), "nobody reads from it"),
            _ => error,
        })?;
    // a reader that is there may take its time
    rustix::fs::fcntl_setfl(&file, rustix::fs::fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    file.write_all(content)
}

/// The system's words alone: the name of a temporary file tells nobody anything.
fn without_name(error: io::Error) -> io::Error {
    match error.to_string().split_once(" at path ") {
        Some((words, _)) => io::Error::new(error.kind(), words),
        None => error,
    }
}

/// Writes the report as a whole.
///
/// # Errors
/// The file cannot be written; what was there before is still there.
pub fn write_json(path: &Path, run: &RunReport) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(&to_json(run))?;
    text.push(b'\n');
    write_whole(path, &text)
}

/// The file of a run's report: `%i` is the task, `%d` the day on which the run began, `%%` a
/// percent sign.
fn report_file(template: &Path, run: &RunReport) -> PathBuf {
    let day = DateTime::<Local>::from(run.started).format("%Y-%m-%d").to_string();
    let mut out = Vec::new();
    let mut bytes = template.as_os_str().as_bytes().iter();
    while let Some(byte) = bytes.next() {
        match (byte, bytes.as_slice().first()) {
            (b'%', Some(b'i')) => out.extend_from_slice(run.task.as_bytes()),
            (b'%', Some(b'd')) => out.extend_from_slice(day.as_bytes()),
            (b'%', Some(b'%')) => out.push(b'%'),
            (byte, _) => {
                out.push(*byte);
                continue;
            }
        }
        bytes.next();
    }
    OsString::from_vec(out).into()
}

/// Writes the reports of several runs as one list.
///
/// # Errors
/// As [`write_json`].
pub fn write_json_list(path: &Path, runs: &[&Value]) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(runs)?;
    text.push(b'\n');
    write_whole(path, &text)
}

/// The report as a value.
#[must_use]
pub fn to_json(run: &RunReport) -> Value {
    let mut value = json!({
        "format": 1,
        "task": run.task,
        "version": env!("CARGO_PKG_VERSION"),
        "started": stamp(run.started),
        "ended": stamp(run.ended),
        "duration_seconds": run.duration().as_secs_f64(),
        "dry_run": run.dry,
        "status": run.status,
        "result": result(run.status),
        "complete": run.complete,
        "summary": run.summed_up,
        "log": run.log.as_ref().map(|log| log.to_string_lossy()),
        "initiator": side(run, Side::Initiator),
        "target": side(run, Side::Target),
        "conflict_count": run.conflicts.len(),
        "conflicts": run.conflicts.iter().map(conflict).collect::<Vec<_>>(),
        "problem_count": {
            "critical": run.tally.critical,
            "errors": run.tally.errors,
            "warnings": run.tally.warnings,
            "not_listed": run.tally.unlisted(),
        },
        "problems": run.tally.problems.iter().map(problem).collect::<Vec<_>>(),
    });
    if let Some(scrub) = &run.scrub {
        value["scrub"] = scrub_json(scrub);
    }
    if !run.targets.is_empty() {
        value["targets"] = run.targets.iter().map(to_json).collect();
    }
    value
}

/// What a scrub found, as a value.
#[must_use]
pub fn scrub_json(scrub: &Scrubbed) -> Value {
    json!({
        "checked_files": scrub.files,
        "known_files": scrub.known,
        "read_bytes": scrub.bytes,
        "new_files": scrub.new,
        "changed_files": scrub.changed,
        "unread_copies": scrub.unread,
        "damaged_files": scrub.standing(),
        "healed_files": scrub.healed(),
        "damaged": scrub.damaged.iter().map(damaged).collect::<Vec<_>>(),
    })
}

fn damaged(one: &DamagedPath) -> Value {
    let (healed, kept) = match &one.remedy {
        Remedy::Replaced { kept } => (true, kept.as_ref().map(RelPath::shown)),
        Remedy::None | Remedy::Planned => (false, None),
    };
    let mut value = json!({ "damaged": one.damage.name(), "healed": healed, "kept": kept });
    add_path(&mut value, &one.path);
    value
}

/// The status in a word.
fn result(status: u8) -> &'static str {
    match status {
        0 => "success",
        2 => "warning",
        _ => "error",
    }
}

fn side(run: &RunReport, side: Side) -> Value {
    let Counts { updates, metadata, deletions, moves, bytes } = run.counts[side];
    json!({
        "replica": run.replicas[side],
        "updates": updates,
        "metadata": metadata,
        "deletions": deletions,
        "moves": moves,
        "bytes": bytes,
    })
}

fn problem(problem: &Problem) -> Value {
    let mut value = json!({
        "level": problem.level.name(),
        "side": problem.side.map(Side::name),
        "text": problem.text,
    });
    match &problem.path {
        Some(path) => add_path(&mut value, path),
        None => value["path"] = Value::Null,
    }
    value
}

/// What went wrong, as a report tells it.
#[must_use]
pub fn tally_of(report: &Value) -> Tally {
    let count = |what: &str| report["problem_count"][what].as_u64().unwrap_or_default();
    let problems = report["problems"].as_array().into_iter().flatten();
    Tally {
        critical: count("critical"),
        errors: count("errors"),
        warnings: count("warnings"),
        problems: problems.filter_map(problem_of).collect(),
        targets: report["targets"].as_array().into_iter().flatten().filter_map(failed).collect(),
    }
}

/// The target of a star that this is the report of, if it had problems.
fn failed(report: &Value) -> Option<String> {
    let has_problems = report["problems"].as_array().is_some_and(|problems| !problems.is_empty());
    Some(report["target"]["replica"].as_str().filter(|_| has_problems)?.to_owned())
}

fn problem_of(value: &Value) -> Option<Problem> {
    let levels = [Level::Critical, Level::Error, Level::Warn];
    let named = |value: &Value, name: &str| value.as_str() == Some(name);
    Some(Problem {
        level: levels.into_iter().find(|level| named(&value["level"], level.name()))?,
        side: Side::BOTH.into_iter().find(|side| named(&value["side"], side.name())),
        path: path_of(value),
        text: value["text"].as_str()?.to_owned(),
    })
}

fn path_of(value: &Value) -> Option<RelPath> {
    let text = value["path"].as_str()?;
    let bytes = match value["path_bytes"].as_str() {
        Some(digits) => from_hex(digits)?,
        None if text == "." => Vec::new(),
        None => text.as_bytes().to_vec(),
    };
    RelPath::new(bytes).ok()
}

fn conflict(conflict: &ConflictLine) -> Value {
    let mut value = json!({
        "winner": conflict.winner.name(),
        "why": conflict.why,
        "kept_in": conflict.kept_in,
    });
    add_path(&mut value, &conflict.path);
    value
}

/// A path as it is where JSON can hold it; else escaped for people, with its exact bytes
/// in hexadecimal beside it.
fn add_path(value: &mut Value, path: &RelPath) {
    match std::str::from_utf8(path.as_bytes()) {
        Ok(_) if path.is_root() => value["path"] = ".".into(),
        Ok(text) => value["path"] = text.into(),
        Err(_) => {
            value["path"] = path.shown().into();
            value["path_bytes"] = hex(path.as_bytes()).into();
        }
    }
}

/// A time as RFC 3339, in UTC.
fn stamp(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The metric that outlives a run which failed.
const LAST_SUCCESS: &str = "osync_last_success_timestamp_seconds";

/// Writes the metrics as a whole. The time of the last success comes from the file that
/// was there, if this run is none. A dry run is no run and writes nothing.
///
/// # Errors
/// The file cannot be written; what was there before is still there.
fn write_metrics(path: &Path, run: &RunReport) -> io::Result<()> {
    if run.dry {
        return Ok(());
    }
    let before = before(path);
    write_whole(path, metrics_text(run, &String::from_utf8_lossy(&before)).as_bytes())
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

/// The metrics of a run or of a scrub, with those of the other that the file held before.
pub(super) fn metrics_text(run: &RunReport, before: &str) -> String {
    let (of_scrub, of_run): (Vec<&str>, Vec<&str>) =
        before.lines().partition(|line| is_of_scrub(line));
    let kept = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    match &run.scrub {
        Some(scrub) => kept(&of_run) + &scrub_metrics(&labels_of(run, None), scrub, &of_scrub),
        None => run_metrics(run, before) + &kept(&of_scrub),
    }
}

/// Whether a line of the file is about scrubs.
fn is_of_scrub(line: &str) -> bool {
    let name = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
    name.unwrap_or(line).starts_with("osync_scrub_")
}

/// The metrics of a scrub. Those of other targets of the same star, which have other labels, stay.
fn scrub_metrics(labels: &str, scrub: &Scrubbed, before: &[&str]) -> String {
    let mut page = Page { samples: Vec::new(), text: String::new() };
    for (name, help, value) in [
        ("osync_scrub_checked_files", "Files that the last scrub checked.", scrub.files),
        (
            "osync_scrub_damaged_files",
            "Files that the last scrub found damaged and did not heal.",
            scrub.standing(),
        ),
    ] {
        page.head(name, help);
        let (start, own) = (format!("{name}{{"), format!("{name}{{{labels}}} "));
        let others = before.iter().filter(|line| line.starts_with(&start));
        for line in others.filter(|line| !line.starts_with(&own)) {
            let _ = writeln!(page.text, "{line}");
        }
        let _ = writeln!(page.text, "{own}{value}");
    }
    page.text
}

/// The metrics of a run; of a star, those of each target too. `before` is what the file held.
fn run_metrics(run: &RunReport, before: &str) -> String {
    let whole = std::iter::once((labels_of(run, None), run));
    let targets = run.targets.iter();
    let targets = targets.map(|of| (labels_of(run, Some(&of.replicas.target)), of));
    let mut page = Page { samples: whole.chain(targets).collect(), text: String::new() };
    page.single("osync_last_run_timestamp_seconds", "When the last run ended.", |_, run| {
        seconds(run.ended)
    });
    let success = |labels: &str, run: &RunReport| match run.succeeded() {
        true => seconds(run.ended),
        false => last_success(before, labels).unwrap_or(0.0),
    };
    page.single(
        LAST_SUCCESS,
        "When a run last succeeded, with or without warnings; 0 if never.",
        success,
    );
    page.single("osync_run_duration_seconds", "How long the last run took.", |_, run| {
        run.duration().as_secs_f64()
    });
    page.single("osync_exit_status", "0 success, 1 error, 2 warnings.", |_, run| {
        f64::from(run.status)
    });

    let by_side: [(&str, &str, Pick); 5] = [
        ("updates", "Entries made or given new content.", |counts| counts.updates),
        ("metadata", "Entries of which only attributes were set.", |counts| counts.metadata),
        ("deletions", "Entries deleted.", |counts| counts.deletions),
        ("moves", "Entries renamed.", |counts| counts.moves),
        ("bytes", "Bytes of content received.", |counts| counts.bytes),
    ];
    for (what, help, value) in by_side {
        page.labelled(&format!("osync_{what}_total_last_run"), help, "side", |run| {
            Side::BOTH.map(|side| (side.name(), value(&run.counts[side]))).to_vec()
        });
    }
    page.labelled("osync_conflicts_total_last_run", "Paths changed on both sides.", "", |run| {
        vec![("", run.conflicts.len() as u64)]
    });
    page.labelled("osync_problems_total_last_run", "What went wrong.", "level", |run| {
        let tally = &run.tally;
        vec![("critical", tally.critical), ("error", tally.errors), ("warning", tally.warnings)]
    });
    page.text
}

/// The labels of a run as a whole, or of one target of a star.
pub(super) fn labels_of(run: &RunReport, target: Option<&str>) -> String {
    let task = escape_label(&run.task);
    match target {
        None => format!("instance=\"{task}\""),
        Some(target) => format!("instance=\"{task}\",target=\"{}\"", escape_label(target)),
    }
}

/// Picks one of the counts.
type Pick = fn(&Counts) -> u64;

/// A page of metrics.
struct Page<'a> {
    /// What each metric is told of, with its labels.
    samples: Vec<(String, &'a RunReport)>,
    text: String,
}

impl Page<'_> {
    fn head(&mut self, name: &str, help: &str) {
        // writing to a String cannot fail
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} gauge");
    }

    fn single(&mut self, name: &str, help: &str, value: impl Fn(&str, &RunReport) -> f64) {
        self.head(name, help);
        for (labels, run) in &self.samples {
            let _ = writeln!(self.text, "{name}{{{labels}}} {}", value(labels, run));
        }
    }

    /// One line for each value of a label; no label where its name is empty.
    fn labelled(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl Fn(&RunReport) -> Vec<(&'static str, u64)>,
    ) {
        self.head(name, help);
        for (labels, run) in &self.samples {
            for (label_value, value) in values(run) {
                let more = match label {
                    "" => String::new(),
                    _ => format!(",{label}=\"{label_value}\""),
                };
                let _ = writeln!(self.text, "{name}{{{labels}{more}}} {value}");
            }
        }
    }
}

/// The time of the last success in a file we wrote, if it has one with these labels.
pub(super) fn last_success(text: &str, labels: &str) -> Option<f64> {
    let start = format!("{LAST_SUCCESS}{{{labels}}} ");
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

/// Where a report for machines goes, what it is called in messages, and what writes it.
type Destination = (Option<PathBuf>, &'static str, fn(&Path, &RunReport) -> io::Result<()>);

fn destinations(config: &Config, run: &RunReport) -> [Destination; 3] {
    let report = config.output.report_file.as_ref();
    [
        (config.flags.batch_report.clone(), "report for the batch", write_json),
        (report.map(|template| report_file(template, run)), "report file", write_json),
        (config.alerts.metrics_file.clone(), "metrics file", write_metrics),
    ]
}

/// Writes the reports for machines. One that cannot be written is a warning.
pub fn write_reports(config: &Config, run: &RunReport, log: &dyn Reporter) {
    write_those(config, run, log, |_| true);
}

/// Writes them again where an after-command has changed the exit status. A pipe is left out:
/// its reader has the report already.
pub fn rewrite_reports(config: &Config, run: &RunReport, log: &dyn Reporter) {
    write_those(config, run, log, Path::is_file);
}

fn write_those(
    config: &Config,
    run: &RunReport,
    log: &dyn Reporter,
    is_wanted: impl Fn(&Path) -> bool,
) {
    for (path, what, write) in destinations(config, run) {
        let Some(path) = path.filter(|path| is_wanted(path)) else { continue };
        if let Err(e) = write(&path, run) {
            let path = escape(path.as_os_str().as_encoded_bytes());
            log.say(Level::Warn, &format!("cannot write the {what} {path}: {e}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode};
    use std::fs;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_links_stay_links() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        write_whole(&file, b"one").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        write_whole(&link, b"two").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(link.is_symlink());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left behind");
        write_whole(Path::new("/dev/null"), b"three").unwrap();
        assert!(!Path::new("/dev/null").is_file());
        assert!(write_whole(&dir.path().join("no/file"), b"").is_err());
    }

    #[test]
    fn a_pipe_is_written_into_if_somebody_reads() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let error = write_whole(&pipe, b"x").unwrap_err();
        assert_eq!(error.to_string(), "nobody reads from it");
        let (content, from) = (vec![7; 300_000], pipe.clone());
        let reader = std::thread::spawn(move || fs::read(from).unwrap());
        // until the reader has opened it
        while let Err(error) = write_whole(&pipe, &content) {
            assert_eq!(error.to_string(), "nobody reads from it");
            std::thread::yield_now();
        }
        assert!(reader.join().unwrap() == content, "more than a pipe holds arrives whole");
    }
}

#[cfg(test)]
mod json_tests {
    use super::*;
    use crate::report::{Level, Tally};
    use crate::tree::Pair;
    use std::time::Duration;

    #[test]
    fn a_report_holds_counts_problems_and_conflicts() {
        let mut tally = Tally::default();
        let path = RelPath::new(b"a\n\xff".to_vec()).unwrap();
        tally.add(&Problem {
            level: Level::Warn,
            side: Some(Side::Target),
            path: Some(path),
            text: "cannot read it".into(),
        });
        tally.add(&Problem { level: Level::Error, side: None, path: None, text: "bad".into() });
        let started = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
        let run = RunReport {
            task: "t\"1".into(),
            started,
            ended: started + Duration::from_secs(2),
            replicas: Pair::new("/a".into(), "ssh://h//b".into()),
            status: 1,
            complete: true,
            summed_up: "nothing to do".into(),
            log: Some("/var/log/l".into()),
            dry: false,
            counts: Pair::new(
                Counts::default(),
                Counts { updates: 3, bytes: 9, ..Counts::default() },
            ),
            tally,
            conflicts: vec![ConflictLine {
                path: RelPath::new("ä/b\nc").unwrap(),
                winner: Side::Initiator,
                why: "it is newer".into(),
                kept_in: None,
            }],
            scrub: None,
            targets: vec![],
        };
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("report.json");
        write_json(&file, &run).unwrap();
        let value: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        for (pointer, expected) in [
            ("/task", json!("t\"1")),
            ("/started", json!("1970-01-01T00:00:01.500Z")),
            ("/ended", json!("1970-01-01T00:00:03.500Z")),
            ("/duration_seconds", json!(2.0)),
            ("/status", json!(1)),
            ("/result", json!("error")),
            ("/target/replica", json!("ssh://h//b")),
            ("/target/updates", json!(3)),
            ("/target/bytes", json!(9)),
            ("/initiator/updates", json!(0)),
            ("/problem_count/errors", json!(1)),
            ("/problems/0/level", json!("warning")),
            ("/problems/0/side", json!("target")),
            ("/problems/0/path", json!("a\\n\\xFF")),
            ("/problems/0/path_bytes", json!("610aff")),
            ("/problems/1/path", Value::Null),
            ("/conflicts/0/path", json!("ä/b\nc")),
            ("/conflicts/0/winner", json!("initiator")),
        ] {
            assert_eq!(value.pointer(pointer), Some(&expected), "{pointer}");
        }
        assert_eq!(tally_of(&value), run.tally, "and can be read back");
        assert_eq!(tally_of(&Value::Null), Tally::default());
    }
}

#[cfg(test)]
mod metrics_tests {
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
            scrub: None,
            targets: vec![],
        }
    }

    #[test]
    fn runs_and_scrubs_leave_each_other_their_metrics() {
        let at = |seconds| RunReport { task: "t".into(), ..run(0, seconds) };
        let scrub = |task: &str, files| RunReport {
            task: task.into(),
            scrub: Some(Scrubbed { files, ..Scrubbed::default() }),
            ..run(1, 99)
        };
        let first = metrics_text(&at(10), "");
        let scrubbed = metrics_text(&scrub("t", 7), &first);
        assert!(scrubbed.starts_with(&first), "{scrubbed}");
        let line = "osync_scrub_checked_files{instance=\"t\"} 7\n";
        assert!(scrubbed.contains(line), "{scrubbed}");
        let second = metrics_text(&at(20), &scrubbed);
        assert!(second.contains(line) && second != scrubbed, "{second}");
        let other = metrics_text(&scrub("t@2", 8), &second);
        let again = metrics_text(&scrub("t", 9), &other);
        for line in ["{instance=\"t\"} 9", "{instance=\"t@2\"} 8"] {
            let line = format!("\nosync_scrub_checked_files{line}\n");
            assert!(again.contains(&line), "{again}");
        }
        assert_eq!(again.matches("# TYPE osync_scrub_checked_files gauge\n").count(), 1);
        assert!(again.starts_with(&metrics_text(&at(20), &first)), "{again}");
    }

    #[test]
    fn each_target_of_a_star_has_metrics_of_its_own() {
        let of = |place: &str, status| RunReport {
            replicas: Pair::new("/a".into(), place.into()),
            ..run(status, 10)
        };
        let targets = vec![of("/b", 0), of("ssh://h//\"c", 1)];
        let star = RunReport { task: "t".into(), targets, ..run(1, 10) };
        let before = format!("{LAST_SUCCESS}{{instance=\"t\",target=\"ssh://h//\\\"c\"}} 7.5\n");
        let text = metrics_text(&star, &before);
        for line in [
            "osync_exit_status{instance=\"t\"} 1",
            "osync_exit_status{instance=\"t\",target=\"/b\"} 0",
            "osync_exit_status{instance=\"t\",target=\"ssh://h//\\\"c\"} 1",
            "osync_last_success_timestamp_seconds{instance=\"t\"} 0",
            "osync_last_success_timestamp_seconds{instance=\"t\",target=\"/b\"} 11.5",
            "osync_last_success_timestamp_seconds{instance=\"t\",target=\"ssh://h//\\\"c\"} 7.5",
            "osync_updates_total_last_run{instance=\"t\",target=\"/b\",side=\"initiator\"} 4",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
        }
        assert_eq!(text.matches("# HELP osync_exit_status").count(), 1);
        assert_eq!(to_json(&star)["targets"][1]["target"]["replica"], "ssh://h//\"c");
        assert_eq!(to_json(&run(0, 0)).get("targets"), None, "a pair has none");
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
            write_metrics(&file, &run).unwrap();
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
        let of = |value: &str| {
            last_success(&format!("{LAST_SUCCESS}{{instance=\"t\"}} {value}"), "instance=\"t\"")
        };
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
        std::thread::spawn(move || done.send(write_metrics(&fifo, &run(0, 0)).is_ok()));
        assert_eq!(over.recv_timeout(Duration::from_secs(20)), Ok(true));
        drop(reader);
    }

    #[test]
    fn every_metric_has_help_type_and_labels() {
        let text = metrics_text(&RunReport { task: "t".into(), ..run(0, 0) }, "");
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

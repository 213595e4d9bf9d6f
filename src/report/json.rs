//! `--report FILE`: a run as JSON (spec 6, "For machines"; docs/monitoring.md).

use super::run::write_whole;
use super::{ConflictLine, Counts, Problem, RunReport};
use crate::tree::{RelPath, Side};
use chrono::{DateTime, Local, SecondsFormat, Utc};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Writes the report as a whole.
///
/// # Errors
/// The file cannot be written; what was there before is still there.
pub fn write(path: &Path, run: &RunReport) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(&to_json(run))?;
    text.push(b'\n');
    write_whole(path, &text)
}

/// The file of a run's report: `%i` is the task, `%d` the day on which the run began, `%%` a
/// percent sign.
#[must_use]
pub fn file(template: &Path, run: &RunReport) -> PathBuf {
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
/// As [`write`].
pub fn write_list(path: &Path, runs: &[&Value]) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(runs)?;
    text.push(b'\n');
    write_whole(path, &text)
}

/// The report as a value.
#[must_use]
pub fn to_json(run: &RunReport) -> Value {
    json!({
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
    })
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

fn conflict(conflict: &ConflictLine) -> Value {
    let mut value = json!({
        "winner": conflict.winner.map(Side::name),
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
            let hex = path.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            value["path"] = path.shown().into();
            value["path_bytes"] = hex.into();
        }
    }
}

/// A time as RFC 3339, in UTC.
fn stamp(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
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
                winner: Some(Side::Initiator),
                why: "it is newer".into(),
                kept_in: None,
            }],
        };
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("report.json");
        write(&file, &run).unwrap();
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
    }
}

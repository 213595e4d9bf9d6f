//! What `osync check` found, for people and for programs.

use super::{Finding, Verdict};
use crate::config::keys::{Key, Kind, Section};
use crate::config::{Origin, Problem, Resolution, Setting, Settings};
use crate::tree::path::escape;
use serde_json::{Value, json};
use std::fmt::Write;

/// Where the origins begin, if values leave room.
const COLUMN: usize = 56;

/// For people.
pub(super) fn text(resolution: &Resolution, findings: &[Finding], status: u8) -> String {
    let mut out = String::new();
    for section in Section::ALL {
        let of_section = resolution.settings.iter().filter(|(key, _)| key.section == section);
        for (index, (key, setting)) in of_section.enumerate() {
            if index == 0 {
                let _ = writeln!(out, "[{}]", section.name());
            }
            let _ = writeln!(out, "{}", line(&resolution.settings, key, setting));
        }
    }
    let problems = resolution.warnings.iter().map(|problem| ("warning", problem));
    let errors = resolution.errors.iter().map(|problem| ("error", problem));
    for (index, (kind, problem)) in problems.chain(errors).enumerate() {
        if index == 0 {
            out.push_str("\nProblems\n");
        }
        let _ = writeln!(out, "{kind}: {problem}");
    }
    if !findings.is_empty() {
        out.push_str("\nAccess\n");
    }
    for finding in findings {
        let _ = writeln!(out, "{:<8} {}: {}", word(finding.verdict), finding.what, finding.text);
    }
    let verdict = match status {
        0 => "Everything is fine.",
        2 => "A run would work, with warnings.",
        _ => "A run would fail.",
    };
    let _ = writeln!(out, "\n{verdict}");
    out
}

fn line(settings: &Settings, key: &Key, setting: &Setting) -> String {
    let left = format!("{} = {}", key.name, shown(key, setting));
    let origin = match setting.origin {
        Origin::Default => "default".to_owned(),
        origin => settings.place(origin),
    };
    format!("{left:<COLUMN$}  {origin}")
}

/// The value; secrets stay secret.
fn shown(key: &Key, setting: &Setting) -> String {
    match key.kind {
        Kind::Secret if !setting.value.is_empty() => "(not shown)".to_owned(),
        _ => {
            // Lists of TOML carry NULs between their parts.
            let parts = setting.value.split(|b| *b == 0).filter(|part| !part.is_empty());
            parts.map(escape).collect::<Vec<_>>().join(" | ")
        }
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Fine => "ok",
        Verdict::Warning => "warning",
        Verdict::Error => "error",
    }
}

/// For programs.
pub(super) fn json(resolution: &Resolution, findings: &[Finding], status: u8) -> String {
    let settings: Vec<Value> = resolution
        .settings
        .iter()
        .map(|(key, setting)| {
            let (origin, place) = match setting.origin {
                Origin::Default => ("default", Value::Null),
                Origin::Environment => ("environment", Value::Null),
                Origin::File(line) => ("file", json!(line)),
                Origin::Flag(flag) => ("flag", json!(flag)),
            };
            json!({
                "key": key.name,
                "section": key.section.name(),
                "value": shown(key, setting),
                "origin": origin,
                "place": place,
            })
        })
        .collect();
    let problems = |problems: &[Problem]| -> Vec<Value> {
        problems
            .iter()
            .map(|problem| {
                json!({
                    "place": problem.place,
                    "line": problem.line,
                    "key": problem.key,
                    "text": problem.text,
                })
            })
            .collect()
    };
    let access: Vec<Value> = findings
        .iter()
        .map(|f| json!({ "what": f.what, "verdict": word(f.verdict), "text": f.text }))
        .collect();
    let file = resolution.settings.file.as_ref();
    let whole = json!({
        "file": file.map(|file| file.to_string_lossy()),
        "settings": settings,
        "warnings": problems(&resolution.warnings),
        "errors": problems(&resolution.errors),
        "access": access,
        "status": status,
    });
    format!("{whole:#}\n")
}

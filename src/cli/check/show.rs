//! What `osync check` found, for people and for programs.

use super::{Finding, Verdict};
use crate::cli::settings;
use crate::config::keys::Section;
use crate::config::{Origin, Problem, Resolution};
use serde_json::{Value, json};
use std::fmt::Write;

/// How much people want to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// Problems alone (`--errors-only`).
    Problems,
    /// What was tried, and the settings that are not at their defaults.
    Usual,
    /// Every setting (`--verbose`).
    Everything,
}

/// For people: the verdict first, and what speaks against a run.
pub(super) fn text(
    resolution: &Resolution,
    findings: &[Finding],
    status: u8,
    detail: Detail,
) -> String {
    let mut out = String::new();
    let verdict = match status {
        0 => "Everything is fine.",
        2 => "A run would work, with warnings.",
        _ => "A run would fail.",
    };
    if status != 0 || detail != Detail::Problems {
        let _ = writeln!(out, "{verdict}");
    }
    let errors = resolution.errors.iter().map(|problem| ("error", problem));
    let warnings = resolution.warnings.iter().map(|problem| ("warning", problem));
    for (kind, problem) in errors.chain(warnings) {
        let _ = writeln!(out, "{kind:<8} {problem}");
    }
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
    let is_shown =
        |finding: &&&Finding| detail != Detail::Problems || finding.verdict != Verdict::Fine;
    for finding in sorted.iter().filter(is_shown) {
        let _ = writeln!(out, "{:<8} {}: {}", word(finding.verdict), finding.what, finding.text);
    }
    if detail == Detail::Problems {
        return out;
    }
    let all = detail == Detail::Everything;
    out.push_str(match all {
        true => "\nSettings\n",
        false => "\nSettings that are not at their defaults (--verbose shows all)\n",
    });
    for section in Section::ALL {
        let of_section = resolution.settings.iter().filter(|(key, setting)| {
            key.section == section && (all || settings::is_not_default(key, setting))
        });
        for (index, (key, setting)) in of_section.enumerate() {
            if index == 0 {
                let _ = writeln!(out, "[{}]", section.name());
            }
            let _ = writeln!(out, "{}", settings::line(&resolution.settings, key, setting));
        }
    }
    out
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
                "value": settings::shown(key, setting),
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

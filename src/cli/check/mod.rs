//! `osync check`: the effective settings with their origins, what is wrong with them, and
//! whether everything can be reached. Changes nothing (spec 1).

mod access;
mod show;

use super::args::CheckArgs;
use super::{print, settings};
use crate::config::{Environment, Resolution};
use show::Detail;

/// How a finding counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// As it should be.
    Fine,
    /// A run would warn.
    Warning,
    /// A run would fail.
    Error,
}

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// `rsync`, `initiator`, `mail` …
    pub what: &'static str,
    /// How it counts.
    pub verdict: Verdict,
    /// What was found.
    pub text: String,
}

/// Checks a task and returns the exit status that a run would have.
pub fn run(args: &CheckArgs, environment: &Environment) -> u8 {
    let flags = args.sync.run.to_flags();
    let resolution = settings::gather(args.sync.config_file.as_deref(), &flags, environment);
    let findings = resolution.config.as_ref().map(access::try_all).unwrap_or_default();
    let status = status(&resolution, &findings);
    let run = &args.sync.run;
    let detail = match (run.errors_only, run.verbose) {
        (true, _) => Detail::Problems,
        (false, true) => Detail::Everything,
        (false, false) => Detail::Usual,
    };
    if !run.silent {
        print(&match args.json {
            true => show::json(&resolution, &findings, status),
            false => show::text(&resolution, &findings, status, detail),
        });
    }
    status
}

fn status(resolution: &Resolution, findings: &[Finding]) -> u8 {
    let worst = findings.iter().map(|finding| finding.verdict).max();
    if !resolution.errors.is_empty() || worst == Some(Verdict::Error) {
        1
    } else if !resolution.warnings.is_empty() || worst == Some(Verdict::Warning) {
        2
    } else {
        0
    }
}

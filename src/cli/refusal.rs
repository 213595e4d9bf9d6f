//! Tells why a task is not run at all: its settings are wrong.

use super::complain;
use crate::config::{Environment, Flags, Output, Resolution};
use crate::report::{Level, Log, LogPlace, Reporter};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Instant;

/// All problems, on standard error; with `--silent` in the log file, as far as the
/// settings tell where that is.
pub fn tell(resolution: &Resolution, flags: &Flags, environment: &Environment, started: Instant) {
    if !flags.silent {
        for problem in resolution.warnings.iter().chain(&resolution.errors) {
            complain(&problem.to_string());
        }
        return;
    }
    let log = Log::open(&output(flags), &place(resolution, environment, flags.dry), started);
    for warning in &resolution.warnings {
        log.problem(Level::Warn, None, None, &warning.to_string());
    }
    for error in &resolution.errors {
        log.problem(Level::Critical, None, None, &error.to_string());
    }
}

fn place(resolution: &Resolution, environment: &Environment, dry: bool) -> LogPlace {
    let value = |key| resolution.settings.get(key).map(|setting| setting.value.as_slice());
    let id = value("INSTANCE_ID").and_then(|id| std::str::from_utf8(id).ok());
    let name = match id.filter(|id| !id.is_empty() && !id.contains(['/', '\0'])) {
        Some(id) => format!("osync.{id}.log"),
        None => "osync.log".to_owned(),
    };
    let wanted = value("LOGFILE").filter(|file| file.starts_with(b"/"));
    LogPlace {
        wanted: wanted.map(|file| PathBuf::from(OsStr::from_bytes(file))),
        name,
        home: environment.filled("HOME").map(PathBuf::from),
        replicas: Vec::new(),
        dry,
    }
}

fn output(flags: &Flags) -> Output {
    Output {
        log_file: None,
        silent: true,
        verbose: flags.verbose,
        errors_only: flags.errors_only,
        no_prefix: flags.no_prefix,
        non_interactive: true,
        summary: false,
        log_conflicts: false,
        debug: false,
        color: false,
        dated_prefix: flags.dated_prefix,
        report_file: None,
        batch_report: None,
    }
}

//! Reads and resolves the settings of a task: files here, meaning in `config`.

use super::complain;
use crate::config::keys::{Key, ValueKind};
use crate::config::{
    Environment, FileSettings, Flags, Origin, Output, Problem, Resolution, Setting, Settings,
    ThisMachine, load, resolve,
};
use crate::filter::Filter;
use crate::report::{self, Event, Level, Log, LogPlace, Reporter, RunReport, Tally};
use crate::tree::{Pair, path::escape};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

/// Where the origins begin, if values leave room.
const COLUMN: usize = 56;

/// A line for each setting that is not at its default.
#[must_use]
pub fn not_default(settings: &Settings) -> Vec<String> {
    let other = |(key, setting): &(&Key, &Setting)| is_not_default(key, setting);
    settings.iter().filter(other).map(|(key, setting)| line(settings, key, setting)).collect()
}

/// Whether a setting means something else than its default.
#[must_use]
pub fn is_not_default(key: &Key, setting: &Setting) -> bool {
    let bytes = setting.value.trim_ascii();
    let is_on =
        |value: &[u8]| value.eq_ignore_ascii_case(b"yes") || value.eq_ignore_ascii_case(b"true");
    match key.kind {
        ValueKind::Boolean => is_on(bytes) != is_on(key.default.as_bytes()),
        _ => bytes != key.default.as_bytes(),
    }
}

/// A setting, its value and where that comes from.
#[must_use]
pub fn line(settings: &Settings, key: &Key, setting: &Setting) -> String {
    let left = format!("{} = {}", key.name, shown(key, setting));
    let origin = match setting.origin {
        Origin::Default => "default".to_owned(),
        origin => settings.place(origin),
    };
    format!("{left:<COLUMN$}  {origin}")
}

/// The value; secrets stay secret.
#[must_use]
pub fn shown(key: &Key, setting: &Setting) -> String {
    match key.kind {
        ValueKind::Secret if !setting.value.is_empty() => "(not shown)".to_owned(),
        _ => {
            // Lists of TOML carry NULs between their parts.
            let parts = setting.value.split(|b| *b == 0).filter(|part| !part.is_empty());
            parts.map(escape).collect::<Vec<_>>().join(" | ")
        }
    }
}

/// Everything that was typed, set and written, resolved.
#[must_use]
pub fn gather(file: Option<&OsStr>, flags: &Flags, environment: &Environment) -> Resolution {
    let loaded = file.map(|file| load::load(Path::new(file), environment)).transpose();
    resolved(loaded, flags, environment)
}

/// The same for a file that has another text than the disk says.
#[must_use]
pub fn gather_text(
    file: &Path,
    text: &[u8],
    flags: &Flags,
    environment: &Environment,
) -> Resolution {
    let loaded = load::from_text(file, text, environment);
    resolved(Ok(Some(loaded)), flags, environment)
}

fn resolved(
    loaded: Result<Option<load::Loaded>, Problem>,
    flags: &Flags,
    environment: &Environment,
) -> Resolution {
    let (file, warnings): (Option<FileSettings>, _) = match loaded {
        Ok(Some(loaded)) => (Some(loaded.settings), loaded.warnings),
        Ok(None) => (None, Vec::new()),
        Err(problem) => {
            let settings = Settings::default();
            return Resolution { settings, config: None, errors: vec![problem], warnings: vec![] };
        }
    };
    let mut resolution = resolve(file.as_ref(), flags, environment, &ThisMachine);
    resolution.warnings.splice(0..0, warnings);
    ask_the_filter(&mut resolution);
    resolution
}

/// What patterns mean is for `filter` to say, which stands above `config`.
fn ask_the_filter(resolution: &mut Resolution) {
    let Some(config) = &mut resolution.config else { return };
    let filter = Filter::new(&config.selection.rules);
    for problem in filter.problems() {
        let place = resolution.settings.file.as_deref().map(Path::as_os_str);
        let place = place.map(|place| place.to_string_lossy().into_owned()).unwrap_or_default();
        let told = Problem { place, origin: Origin::Default, key: None, text: problem.to_string() };
        if problem.is_error() {
            resolution.errors.push(told);
        } else {
            resolution.warnings.push(told);
        }
    }
    if !resolution.errors.is_empty() {
        resolution.config = None;
    }
}

/// All problems, on standard error; with `--silent` in the log file, as far as the
/// settings tell where that is.
pub fn tell(resolution: &Resolution, flags: &Flags, environment: &Environment, started: Instant) {
    if !flags.silent {
        for problem in resolution.warnings.iter().chain(&resolution.errors) {
            complain(&problem.to_string());
        }
        tell_batch(resolution, flags, None);
        return;
    }
    let log = Log::open(flags, &output(flags), &place(resolution, environment, flags), started);
    for problem in problems(resolution) {
        log.tell(Event::Problem(&problem));
    }
    tell_batch(resolution, flags, log.path());
}

fn problems(resolution: &Resolution) -> impl Iterator<Item = report::Problem> {
    let problem = |level, problem: &Problem| report::Problem {
        level,
        side: None,
        path: None,
        text: problem.to_string(),
    };
    let warnings = resolution.warnings.iter().map(move |warning| problem(Level::Warn, warning));
    warnings.chain(resolution.errors.iter().map(move |error| problem(Level::Critical, error)))
}

/// The batch runner has the reason from a report, as of a task that was run. Without one it has
/// to do with what the task said.
fn tell_batch(resolution: &Resolution, flags: &Flags, log: Option<PathBuf>) {
    let Some(file) = &flags.batch_report else { return };
    let value = |key: &str| {
        resolution.settings.get(key).map_or_else(String::new, |setting| escape(&setting.value))
    };
    let mut tally = Tally::default();
    problems(resolution).for_each(|problem| tally.add(&problem));
    let now = SystemTime::now();
    let run = RunReport {
        task: value("INSTANCE_ID"),
        started: now,
        ended: now,
        replicas: Pair::new(value("INITIATOR_SYNC_DIR"), value("TARGET_SYNC_DIR")),
        status: 1,
        complete: false,
        summed_up: "nothing was done: the settings are wrong".to_owned(),
        log,
        dry: flags.dry,
        counts: Pair::default(),
        tally,
        conflicts: Vec::new(),
        scrub: None,
        targets: Vec::new(),
    };
    let _ = report::run_report::write_json(file, &run);
}

fn place(resolution: &Resolution, environment: &Environment, flags: &Flags) -> LogPlace {
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
        dry: flags.dry,
    }
}

fn output(flags: &Flags) -> Output {
    Output {
        log_file: None,
        log_conflicts: false,
        debug: false,
        color: false,
        dated_prefix: flags.dated_prefix,
        report_file: None,
    }
}

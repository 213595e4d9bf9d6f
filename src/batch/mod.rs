//! Many tasks, one after the other, or beside each other where they share nothing
//! (spec 7, "Batch").
//!
//! Each task is a process of its own: what ends one does not end the others, and each has its
//! own hard limit.

mod schedule;

pub use schedule::{Allowance, Footprint, Next, RunEnd, Schedule};

use crate::process::{self, Command, Exit, Input, Stop, Stream};
use crate::report::words::counted;
use crate::report::{Level, LogPlace, Reporter, run_report};
use crate::tree::path::escape;
use serde_json::Value;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};
use walkdir::WalkDir;

/// Where the tasks of the system lie.
pub const TASKS: &str = "/etc/osync";
/// How long a task is given to end by itself once the batch is stopped: it ends its
/// transfers, records what was achieved and unlocks.
const GRACE: Duration = Duration::from_secs(60);
/// How many lines of a run are kept for a mail.
const KEPT_LINES: usize = 1000;

/// What the command line asks for.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--path`: a directory of configuration files, or one file.
    pub path: PathBuf,
    /// `--max-runs`, `--max-retries`: how often a task that fails runs in all.
    pub max_runs: u32,
    /// `--max-exec-time`: seconds after which no run begins; 0 is no limit.
    pub max_exec_time: u64,
    /// `--parallel`: how many tasks may run at the same time.
    pub parallel: usize,
    /// `--retry-delay`: how long after its failure a task runs again at the earliest.
    pub retry_delay: Duration,
    /// `--report`: where the reports of all tasks go, as a list.
    pub report: Option<PathBuf>,
    /// Options that every task gets.
    pub passed_on: Vec<OsString>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            path: PathBuf::from(TASKS),
            max_runs: 3,
            max_exec_time: 3600,
            parallel: 1,
            retry_delay: Duration::from_secs(30),
            report: None,
            passed_on: Vec::new(),
        }
    }
}

/// Where the batch keeps its own log: LOGFILE of the environment, else the usual places.
#[must_use]
pub fn log_place(wanted: Option<PathBuf>, home: Option<PathBuf>) -> LogPlace {
    LogPlace { wanted, name: "osync-batch.log".to_owned(), home, ..LogPlace::default() }
}

/// Tells of a task (its file) that has failed: gets what its last run said, and its report.
pub type Alert<'a> = dyn Fn(&Path, &[String], Option<&Value>) + Sync + 'a;

/// What running tasks needs beside the options.
pub struct BatchContext<'a> {
    /// Tells where our own program is.
    pub program: &'a (dyn Fn() -> PathBuf + Sync),
    /// Tells where a task works; asked only with `--parallel`.
    pub footprint: &'a (dyn Fn(&Path) -> Footprint + Sync),
    /// Whether two files of one name, `.conf` and `.toml`, are the same task.
    pub is_same_task: &'a (dyn Fn(&Path, &Path) -> bool + Sync),
    /// Tells of a task that has failed, which its own runs were to hold back.
    pub alert: &'a Alert<'a>,
    /// Ends the batch.
    pub stop: &'a Stop,
    /// Takes what is said about every run.
    pub reporter: &'a dyn Reporter,
}

/// Runs all tasks; the exit status is 1 if any has not succeeded in the end, 2 if there
/// were only warnings (or the user stopped it), else 0.
#[must_use]
pub fn run(options: &Options, around: &BatchContext<'_>) -> i32 {
    let say = |level, text: &str| around.reporter.say(level, text);
    if let Some(endless) = options.passed_on.iter().find(|arg| is_endless(arg)) {
        say(
            Level::Critical,
            &format!("{} never ends, so no other task would run", endless.display()),
        );
        return 128;
    }
    let files = match task_files(&options.path) {
        Ok(files) => files,
        Err(cause) => {
            let path = escape(options.path.as_os_str().as_bytes());
            say(Level::Critical, &format!("cannot read the tasks in {path}: {cause}"));
            return 1;
        }
    };
    let files = tasks_among(files, around);
    if files.is_empty() {
        let path = escape(options.path.as_os_str().as_bytes());
        say(Level::Warn, &format!("there is no *.conf and no *.toml in {path}: nothing to do"));
        return 2;
    }
    let reports = tempfile::Builder::new().prefix("osync-batch-").tempdir().ok();
    let told = Mutex::new(vec![Told::default(); files.len()]);
    Batch { options, around, files, begun: Instant::now(), reports, told }.run()
}

/// The files of the tasks in a directory, or the one file: those that a batch would run.
///
/// # Errors
/// The directory cannot be read.
pub fn tasks_in(
    path: &Path,
    is_same_task: &dyn Fn(&Path, &Path) -> bool,
) -> io::Result<Vec<PathBuf>> {
    let files = task_files(path)?;
    if !path.is_dir() {
        return Ok(files);
    }
    Ok(kept_of(&files, is_same_task, &mut |_| {}))
}

/// Monitor mode makes no batch.
fn is_endless(arg: &OsString) -> bool {
    arg == "--on-changes" || arg == "--on-changes-target"
}

/// All `*.conf` and `*.toml` files of a directory, in the order of their names; or the
/// one file. Hidden ones are left out, as a shell's pattern would.
fn task_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    // A path that begins with a dash would be taken for an option.
    let path = match path.as_os_str().as_bytes() {
        [b'-', ..] => Path::new(".").join(path),
        _ => path.to_owned(),
    };
    if !std::fs::metadata(&path)?.is_dir() {
        return Ok(vec![path]);
    }
    let mut files = Vec::new();
    for entry in WalkDir::new(path).min_depth(1).max_depth(1).sort_by_file_name() {
        let entry = entry?;
        let name = entry.file_name().as_bytes();
        let is_task = name.ends_with(b".conf") || name.ends_with(b".toml");
        if is_task && !name.starts_with(b".") && entry.path().is_file() {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

/// Files that are tasks: not those of target helpers, and of a task that has two files only
/// the one that was made from the other.
fn tasks_among(files: Vec<PathBuf>, around: &BatchContext<'_>) -> Vec<PathBuf> {
    let mut say = |text: &str| around.reporter.say(Level::Notice, text);
    kept_of(&files, around.is_same_task, &mut say)
}

fn kept_of(
    files: &[PathBuf],
    is_same_task: &dyn Fn(&Path, &Path) -> bool,
    say: &mut dyn FnMut(&str),
) -> Vec<PathBuf> {
    let name = |file: &Path| escape(file.file_name().unwrap_or(file.as_os_str()).as_bytes());
    let mut kept = Vec::new();
    for file in files {
        if is_of_helper(file) {
            let text = format!("{}: for a target helper, and no task", name(file));
            say(&text);
            continue;
        }
        let toml = file.with_extension("toml");
        let is_conf = file.extension().is_some_and(|extension| extension == "conf");
        if is_conf && files.contains(&toml) && is_same_task(file, &toml) {
            let text = format!("{}: not run, as {} is the same task", name(file), name(&toml));
            say(&text);
            continue;
        }
        kept.push(file.clone());
    }
    kept
}

/// Whether a file is for `--on-changes-target`: by its name, or as its initiator is elsewhere.
/// It is only looked at: what it has in `$(…)` is not for a batch to run.
fn is_of_helper(file: &Path) -> bool {
    let is_named =
        file.file_name().is_some_and(|name| name.as_bytes().starts_with(b"target-helper"));
    let text = std::fs::read(file).unwrap_or_default();
    let names_a_host = |line: &[u8]| {
        let line = line.trim_ascii();
        let line = line.strip_prefix(b"export ").unwrap_or(line).trim_ascii_start();
        const KEY: &[u8] = b"INITIATOR_SYNC_DIR";
        line.len() > KEY.len()
            && line[..KEY.len()].eq_ignore_ascii_case(KEY)
            && line[KEY.len()..]
                .trim_ascii_start()
                .strip_prefix(b"=")
                .map(|value| value.trim_ascii_start())
                .map(|value| {
                    value.strip_prefix(b"\"").or(value.strip_prefix(b"'")).unwrap_or(value)
                })
                .is_some_and(|value| value.starts_with(b"ssh://"))
    };
    is_named || text.split(|byte| *byte == b'\n').any(names_a_host)
}

/// What is known of a task's last run.
#[derive(Debug, Default, Clone)]
struct Told {
    /// Its report, if it got so far.
    report: Option<Value>,
    /// What it said.
    lines: VecDeque<String>,
    /// The last it said on standard error.
    complaint: Option<String>,
    /// It was not to send a mail about its failure.
    held: bool,
}

impl Told {
    /// Why it failed.
    fn reason(&self) -> Option<String> {
        let problems = self.report.as_ref().and_then(|report| report["problems"].as_array());
        let is_worse = |problem: &&Value| problem["level"] != "warning";
        let first = |problems: &Vec<Value>| {
            problems.iter().find(is_worse).or(problems.first())?["text"].as_str().map(str::to_owned)
        };
        problems.and_then(first).or_else(|| self.complaint.clone())
    }

    /// Where to read more.
    fn log(&self) -> Option<&str> {
        self.report.as_ref()?["log"].as_str()
    }

    /// What is told of a task that did not end well.
    fn ending(&self) -> String {
        let reason = self.reason().map(|reason| format!(": {reason}")).unwrap_or_default();
        let log = self.log().map(|log| format!(" (its log is {log})")).unwrap_or_default();
        format!("{reason}{log}")
    }
}

struct Batch<'a> {
    options: &'a Options,
    around: &'a BatchContext<'a>,
    files: Vec<PathBuf>,
    begun: Instant,
    /// Where runs put their reports; `None` if there is no room for that.
    reports: Option<tempfile::TempDir>,
    told: Mutex<Vec<Told>>,
}

impl Batch<'_> {
    fn run(&self) -> i32 {
        let parallel = self.options.parallel.max(1);
        let footprint = |file: &PathBuf| match parallel {
            1 => Footprint::unknown(),
            _ => (self.around.footprint)(file),
        };
        let max_time = self.options.max_exec_time;
        let allowance = Allowance {
            max_runs: self.options.max_runs.max(1),
            max_time: (max_time > 0).then(|| Duration::from_secs(max_time)),
            parallel,
            retry_delay: self.options.retry_delay,
        };
        let mut schedule = Schedule::new(self.files.iter().map(footprint), allowance);
        self.say(
            Level::Notice,
            &format!("Batch of {} begins.", counted(self.files.len() as u64, "task")),
        );
        let last = self.play(&mut schedule);
        self.conclude(&schedule, last)
    }

    /// Runs what the schedule says until there is nothing more to run.
    fn play(&self, schedule: &mut Schedule) -> Next {
        std::thread::scope(|scope| {
            let (ends, ended) = mpsc::channel();
            loop {
                let next = match self.around.stop.reason() {
                    Some(_) if schedule.is_running() => Next::Wait,
                    Some(_) => return Next::TimeUp,
                    None => schedule.next(self.begun.elapsed()),
                };
                match next {
                    Next::Start(index) => {
                        schedule.started(index);
                        let (ends, run) = (ends.clone(), schedule.runs(index));
                        scope.spawn(move || {
                            // The receiver lives as long as this scope.
                            let _ = ends.send((index, self.run_task(index, run)));
                        });
                    }
                    Next::Wait => match ended.recv() {
                        Ok((index, end)) => schedule.ended(index, end, self.begun.elapsed()),
                        // Cannot be: this function holds a sender itself.
                        Err(mpsc::RecvError) => return Next::TimeUp,
                    },
                    Next::WaitFor(time) if schedule.is_running() => {
                        if let Ok((index, end)) = ended.recv_timeout(time) {
                            schedule.ended(index, end, self.begun.elapsed());
                        }
                    }
                    Next::WaitFor(time) => drop(self.around.stop.wait(time)),
                    Next::Done | Next::TimeUp => return next,
                }
            }
        })
    }

    fn run_task(&self, index: usize, run: u32) -> RunEnd {
        let name = self.name(index);
        let begun = Instant::now();
        let max_runs = self.options.max_runs.max(1);
        self.say(Level::Notice, &format!("{name}: run {run} of at most {max_runs}"));
        let report = self.reports.as_ref().map(|dir| dir.path().join(format!("{index}.json")));
        let mut told = Told { held: run < max_runs, ..Told::default() };
        let command = self.command(index, report.as_deref(), &told);
        let is_shared = self.options.parallel > 1;
        let mut heard = |stream: Stream, line: &[u8]| {
            let text = escape(line);
            match is_shared {
                true => self.around.reporter.relay(stream, &format!("{name}: {text}")),
                false => self.around.reporter.relay(stream, &text),
            }
            if told.lines.len() == KEPT_LINES {
                told.lines.pop_front();
            }
            if stream == Stream::Err {
                told.complaint = Some(text.clone());
            }
            told.lines.push_back(text);
        };
        let exit = process::run(&command, Input::Nothing, self.around.stop, &mut heard);
        let seconds = begun.elapsed().as_secs();
        let (end, how) = match exit {
            Ok(Exit::Code(0)) => (RunEnd::Success, "has succeeded".to_owned()),
            Ok(Exit::Code(2)) => (RunEnd::Warnings, "is done, with warnings".to_owned()),
            Ok(Exit::Code(code)) => {
                (RunEnd::Failure, format!("has failed with exit status {code}"))
            }
            Ok(Exit::Signal(signal)) => {
                (RunEnd::Failure, format!("was ended by {}", process::signal_name(signal)))
            }
            Ok(Exit::TimedOut | Exit::Stopped(_)) => (RunEnd::Failure, "was stopped".to_owned()),
            Err(cause) => (RunEnd::Failure, cause.to_string()),
        };
        let written = report.and_then(|file| {
            let text = std::fs::read(&file).ok()?;
            // of the next run there may be none
            let _ = std::fs::remove_file(&file);
            serde_json::from_slice(&text).ok()
        });
        told.report = written;
        let why = if end == RunEnd::Failure { told.ending() } else { String::new() };
        self.say(Level::Notice, &format!("{name}: {how} ({seconds} s){why}"));
        self.told()[index] = told;
        end
    }

    /// A run of a task. LOGFILE of the environment is the batch's own log.
    fn command(&self, index: usize, report: Option<&Path>, told: &Told) -> Command {
        let limit = self.options.max_exec_time;
        let left = match limit {
            0 => 0,
            _ => limit.saturating_sub(self.begun.elapsed().as_secs()).max(1),
        };
        let mut command = Command {
            grace: Some(GRACE),
            env_remove: vec!["LOGFILE".into()],
            ..Command::new((self.around.program)())
                .arg(&self.files[index])
                .args(&self.options.passed_on)
                .arg(format!("--usual-wait={left}"))
        };
        if let Some(report) = report {
            let mut arg = OsString::from("--batch-report=");
            arg.push(report);
            command = command.arg(arg);
        }
        if told.held {
            command = command.arg("--hold-alert");
        }
        command
    }

    fn told(&self) -> MutexGuard<'_, Vec<Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the outcome of every task once, and returns the exit status of the batch.
    fn conclude(&self, schedule: &Schedule, last: Next) -> i32 {
        let (mut failed, mut warned) = (0, 0);
        let told = self.told().clone();
        for (index, (result, told)) in schedule.results().zip(&told).enumerate() {
            let name = self.name(index);
            let runs = schedule.runs(index);
            match result {
                Some(RunEnd::Success) => {}
                Some(RunEnd::Warnings) => {
                    warned += 1;
                    let text = format!("{name}: done, with warnings{}", told.ending());
                    self.say(Level::Warn, &text);
                }
                Some(RunEnd::Failure) => {
                    failed += 1;
                    let runs = counted(runs.into(), "run");
                    let text = format!("{name}: has not succeeded in {runs}{}", told.ending());
                    self.say(Level::Error, &text);
                    if told.held {
                        let lines: Vec<String> = told.lines.iter().cloned().collect();
                        (self.around.alert)(&self.files[index], &lines, told.report.as_ref());
                    }
                }
                None => {
                    failed += 1;
                    self.say(Level::Error, &format!("{name}: has not been run"));
                }
            }
        }
        let stopped = self.around.stop.reason().is_some();
        if stopped {
            self.say(Level::Warn, "the batch was stopped before its end");
        } else if last == Next::TimeUp {
            let seconds = self.options.max_exec_time;
            self.say(Level::Warn, &format!("no run begins after {seconds} s (--max-exec-time)"));
        }
        if let Some(file) = &self.options.report {
            let list: Vec<&Value> = told.iter().filter_map(|told| told.report.as_ref()).collect();
            if let Err(error) = run_report::write_json_list(file, &list) {
                let file = escape(file.as_os_str().as_bytes());
                self.say(Level::Warn, &format!("cannot write the report file {file}: {error}"));
            }
        }
        let good = self.files.len() - failed - warned;
        self.say(
            Level::Notice,
            &format!(
                "Batch of {} ends after {} s: {good} succeeded, {warned} with warnings, {failed} not.",
                counted(self.files.len() as u64, "task"),
                self.begun.elapsed().as_secs()
            ),
        );
        match (failed, warned) {
            _ if stopped => 2,
            (0, 0) => 0,
            (0, _) => 2,
            _ => 1,
        }
    }

    fn name(&self, index: usize) -> String {
        let file = &self.files[index];
        escape(file.file_name().unwrap_or(file.as_os_str()).as_bytes())
    }

    fn say(&self, level: Level, text: &str) {
        self.around.reporter.say(level, text);
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;

//! Many tasks, one after the other, or beside each other where they share nothing
//! (spec 7, "Batch").
//!
//! Each task is a process of its own: what ends one does not end the others, and its hard
//! limit is its own business.

mod footprint;
mod schedule;

pub use footprint::Footprint;
pub use schedule::{Allowance, Next, RunEnd, Schedule};

use crate::process::{self, Command, Exit, Input, Stop, Stream};
use crate::report::{Level, LogPlace, Reporter};
use crate::tree::path::escape;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long a task is given to end by itself once the batch is stopped: it ends its
/// transfers, records what was achieved and unlocks.
const GRACE: Duration = Duration::from_secs(60);

/// What was asked for.
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
    /// Options that every task gets, `--silent` aside.
    pub passed_on: Vec<OsString>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            path: PathBuf::from("/etc/osync"),
            max_runs: 3,
            max_exec_time: 3600,
            parallel: 1,
            passed_on: Vec::new(),
        }
    }
}

/// Where the batch keeps its own log: LOGFILE of the environment, else the usual places.
#[must_use]
pub fn log_place(wanted: Option<PathBuf>, home: Option<PathBuf>) -> LogPlace {
    LogPlace { wanted, name: "osync-batch.log".to_owned(), home, ..LogPlace::default() }
}

/// What running tasks needs beside the options.
pub struct Surroundings<'a> {
    /// Tells where our own program is.
    pub program: &'a (dyn Fn() -> PathBuf + Sync),
    /// Tells where a task works; asked only with `--parallel`.
    pub footprint: &'a (dyn Fn(&Path) -> Footprint + Sync),
    /// Ends the batch.
    pub stop: &'a Stop,
    /// Hears about every run.
    pub reporter: &'a dyn Reporter,
}

/// Runs all tasks; the exit status is 1 if any has not succeeded in the end, 2 if there
/// were only warnings (or the user stopped it), else 0.
#[must_use]
pub fn run(options: &Options, around: &Surroundings<'_>) -> i32 {
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
    if files.is_empty() {
        let path = escape(options.path.as_os_str().as_bytes());
        say(Level::Warn, &format!("there is no *.conf and no *.toml in {path}: nothing to do"));
        return 2;
    }
    Batch { options, around, files, begun: Instant::now() }.run()
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
    for entry in std::fs::read_dir(&path)? {
        let name = entry?.file_name();
        let bytes = name.as_bytes();
        let is_task = bytes.ends_with(b".conf") || bytes.ends_with(b".toml");
        if is_task && !bytes.starts_with(b".") && path.join(&name).is_file() {
            files.push(path.join(name));
        }
    }
    files.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    Ok(files)
}

struct Batch<'a> {
    options: &'a Options,
    around: &'a Surroundings<'a>,
    files: Vec<PathBuf>,
    begun: Instant,
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
        };
        let mut schedule = Schedule::new(self.files.iter().map(footprint), allowance);
        self.say(Level::Notice, &format!("Batch of {} begins.", tasks(self.files.len())));
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
                        Ok((index, end)) => schedule.ended(index, end),
                        // Cannot be: this function holds a sender itself.
                        Err(mpsc::RecvError) => return Next::TimeUp,
                    },
                    Next::Done | Next::TimeUp => return next,
                }
            }
        })
    }

    fn run_task(&self, index: usize, run: u32) -> RunEnd {
        let name = self.name(index);
        let begun = Instant::now();
        self.say(Level::Notice, &format!("{name}: run {run} of at most {}", self.options.max_runs));
        let command = Command {
            grace: Some(GRACE),
            ..Command::new((self.around.program)())
                .arg(&self.files[index])
                .arg("--silent")
                .args(self.options.passed_on.iter().filter(|arg| *arg != "--silent"))
        };
        let mut heard = |_: Stream, line: &[u8]| {
            self.say(Level::Notice, &format!("{name}: {}", escape(line)));
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
                (RunEnd::Failure, format!("was ended by {}", process::signals::name(signal)))
            }
            Ok(Exit::TimedOut | Exit::Stopped(_)) => (RunEnd::Failure, "was stopped".to_owned()),
            Err(cause) => (RunEnd::Failure, cause.to_string()),
        };
        self.say(Level::Notice, &format!("{name}: {how} ({seconds} s)"));
        end
    }

    /// Says what has become of every task, once, and what that makes of the batch.
    fn conclude(&self, schedule: &Schedule, last: Next) -> i32 {
        let (mut failed, mut warned) = (0, 0);
        for (index, result) in schedule.results().enumerate() {
            let name = self.name(index);
            let runs = schedule.runs(index);
            match result {
                Some(RunEnd::Success) => {}
                Some(RunEnd::Warnings) => {
                    warned += 1;
                    self.say(Level::Warn, &format!("{name}: done, with warnings; see its own log"));
                }
                Some(RunEnd::Failure) => {
                    failed += 1;
                    let text = format!("{name}: has not succeeded in {runs} runs; see its own log");
                    self.say(Level::Error, &text.replace(" 1 runs", " 1 run"));
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
        let good = self.files.len() - failed - warned;
        self.say(
            Level::Notice,
            &format!(
                "Batch of {} ends after {} s: {good} succeeded, {warned} with warnings, {failed} not.",
                tasks(self.files.len()),
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

fn tasks(count: usize) -> String {
    if count == 1 { "1 task".to_owned() } else { format!("{count} tasks") }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;

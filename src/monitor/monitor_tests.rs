//! The whole loop, with a stand-in for the run.

use super::*;
use crate::config::{Flags, ThisMachine, resolve};
use crate::process::StopReason;
use crate::report::testing::Ear;
use crate::state::{Header, Record, Recorded};
use echo_filter::tests::entry;
use std::fs;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

const PATIENCE: Duration = Duration::from_secs(60);
/// How long something that must not happen is given to happen.
const SPURIOUS: Duration = Duration::from_millis(600);

struct Stage {
    temp: tempfile::TempDir,
    config: Config,
    stop: Stop,
    ear: Ear,
}

impl Stage {
    fn new(keys: &[(&'static str, &str)]) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let (a, b) = (temp.path().join("a"), temp.path().join("b"));
        fs::create_dir(&a).unwrap();
        fs::create_dir(&b).unwrap();
        let [a, b] = [&a, &b].map(|dir| dir.to_str().unwrap());
        let required = [("INITIATOR_SYNC_DIR", a), ("TARGET_SYNC_DIR", b), ("INSTANCE_ID", "task")];
        let environment = required.iter().chain(keys).copied().collect();
        let resolution = resolve(None, &Flags::default(), &environment, &ThisMachine);
        assert!(resolution.errors.is_empty(), "{:?}", resolution.errors);
        let config = resolution.config.unwrap();
        Stage { temp, config, stop: Stop::new(), ear: Ear::default() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.temp.path().join(path)
    }

    /// Plays a monitor whose every run is `run`, against `script`.
    fn play(&self, run: impl Fn(&Stage, usize) -> RunResult + Sync, script: impl FnOnce(&Runs)) {
        let (begins, begun) = channel();
        std::thread::scope(|scope| {
            let ends_at_last = EndsMonitor(&self.stop);
            let monitor = scope.spawn(|| {
                let begins: Sender<usize> = begins;
                let mut count = 0;
                let mut once = || {
                    count += 1;
                    let result = run(self, count);
                    // nobody listens once the script is over
                    let _ = begins.send(count);
                    result
                };
                watch(&self.config, &mut once, &self.stop, &self.ear)
            });
            script(&Runs { begun });
            drop(ends_at_last);
            monitor.join().unwrap();
        });
    }

    fn heard(&self) -> String {
        self.ear.all().iter().map(|(level, text)| format!("{level:?}: {text}\n")).collect()
    }
}

/// Also when a script fails, so that the test does.
struct EndsMonitor<'a>(&'a Stop);

impl Drop for EndsMonitor<'_> {
    fn drop(&mut self) {
        self.0.request(StopReason::Signal(15));
    }
}

struct Runs {
    begun: Receiver<usize>,
}

impl Runs {
    #[track_caller]
    fn wait_for(&self, number: usize) {
        assert_eq!(self.begun.recv_timeout(PATIENCE), Ok(number));
    }

    #[track_caller]
    fn none_follows(&self) {
        let next = self.begun.recv_timeout(SPURIOUS);
        assert!(next.is_err(), "run {next:?} has no reason");
    }
}

/// What a run does: everything of `a` is copied to `b`, and recorded.
fn mirror(stage: &Stage, _count: usize) -> RunResult {
    let mut records = Vec::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(directory) = pending.pop() {
        for name in fs::read_dir(stage.at("a").join(&directory)).unwrap() {
            let path = directory.join(name.unwrap().file_name());
            let (from, to) = (stage.at("a").join(&path), stage.at("b").join(&path));
            if from.is_dir() {
                fs::create_dir_all(&to).unwrap();
                pending.push(path.clone());
            } else {
                fs::copy(&from, to.with_extension("new")).unwrap();
                fs::rename(to.with_extension("new"), &to).unwrap();
            }
            records.push((path, from, to));
        }
    }
    let record = |(path, from, to): (PathBuf, PathBuf, PathBuf)| {
        let mut record = Record::default();
        record.was[Side::Initiator] = Recorded::Seen(entry(&from));
        record.was[Side::Target] = Recorded::Seen(entry(&to));
        (RelPath::new(path.into_os_string().into_encoded_bytes()).unwrap(), record)
    };
    let records: Vec<_> = records.into_iter().map(record).collect();
    let baseline = Baseline::from_records(Header::default(), records);
    RunResult { status: 0, baseline: Some(baseline) }
}

fn append(path: impl AsRef<Path>, text: &str) {
    use std::io::Write;
    let mut file = fs::File::options().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn a_run_at_the_start_one_for_each_change_and_none_for_what_a_run_writes() {
    let stage = Stage::new(&[("MIN_WAIT", "0"), ("RSYNC_EXCLUDE_PATTERN", "*.tmp;skip/")]);
    fs::create_dir_all(stage.at("a/deep/skip")).unwrap();
    fs::write(stage.at("a/deep/file"), "one").unwrap();
    stage.play(mirror, |runs| {
        runs.wait_for(1);
        runs.none_follows();
        assert!(stage.at("b/deep/file").exists());
        append(stage.at("a/deep/file"), "two");
        runs.wait_for(2);
        runs.none_follows();
        fs::create_dir(stage.at("b/on-the-target")).unwrap();
        runs.wait_for(3);
        fs::remove_file(stage.at("a/deep/file")).unwrap();
        runs.wait_for(4);
        fs::create_dir_all(stage.at("a/new/dir")).unwrap();
        fs::write(stage.at("a/new/dir/file"), "x").unwrap();
        runs.wait_for(5);
        while runs.begun.recv_timeout(SPURIOUS).is_ok() {
            // the directory and the file may have come one after the other
        }
        fs::write(stage.at("a/x.tmp"), "excluded").unwrap();
        fs::write(stage.at("a/deep/skip/x"), "excluded").unwrap();
        fs::create_dir(stage.at("a/.osync_workdir")).unwrap();
        fs::write(stage.at("a/.osync_workdir/lock"), "ours").unwrap();
        runs.none_follows();
    });
    assert!(stage.heard().contains("Watching"), "{}", stage.heard());
}

#[test]
fn what_changes_during_a_run_causes_another() {
    let stage = Stage::new(&[("MIN_WAIT", "0")]);
    for side in ["a", "b"] {
        fs::write(stage.at(side).join("file"), "one").unwrap();
    }
    let run = |stage: &Stage, count: usize| {
        let result = mirror(stage, count);
        if count == 1 {
            // after the scan, into a file that this run has just written
            append(stage.at("b/file"), " and more");
        }
        result
    };
    stage.play(run, |runs| {
        runs.wait_for(1);
        runs.wait_for(2);
        runs.none_follows();
    });
}

#[test]
fn a_failing_run_ends_nothing() {
    let stage = Stage::new(&[("MIN_WAIT", "0")]);
    let run = |stage: &Stage, count: usize| {
        // its writes cause no run: it is tried again anyway, later
        append(stage.at("b/left-over"), "x");
        RunResult { status: [1, 128, 0][(count - 1).min(2)], baseline: None }
    };
    stage.play(run, |runs| {
        runs.wait_for(1);
        runs.none_follows();
        fs::write(stage.at("a/file"), "x").unwrap();
        runs.wait_for(2);
        runs.none_follows();
        fs::write(stage.at("a/file"), "y").unwrap();
        runs.wait_for(3);
    });
}

#[test]
fn the_trigger_file_causes_a_run_at_once() {
    let stage = Stage::new(&[("MIN_WAIT", "3600")]);
    stage.play(mirror, |runs| {
        runs.wait_for(1);
        append(stage.at("a/.osync-update.push"), "another#1700000000\n");
        runs.none_follows();
        append(stage.at("a/.osync-update.push"), "task#1700000000\n");
        runs.wait_for(2);
        runs.none_follows();
    });
}

#[test]
fn max_wait_causes_a_run_without_any_change() {
    let stage = Stage::new(&[("MIN_WAIT", "3600"), ("MAX_WAIT", "1")]);
    stage.play(mirror, |runs| {
        for number in 1..=3 {
            runs.wait_for(number);
        }
    });
}

#[test]
fn a_replica_that_disappears_is_waited_for() {
    let stage = Stage::new(&[("MIN_WAIT", "0")]);
    stage.play(mirror, |runs| {
        runs.wait_for(1);
        fs::rename(stage.at("b"), stage.at("away")).unwrap();
        runs.none_follows();
        fs::write(stage.at("a/file"), "x").unwrap();
        runs.none_follows();
        fs::rename(stage.at("away"), stage.at("b")).unwrap();
        runs.wait_for(2);
        assert!(stage.at("b/file").exists());
        fs::write(stage.at("b/again"), "watched").unwrap();
        runs.wait_for(3);
    });
    let heard = stage.heard();
    assert_eq!(heard.matches("Warn: the target replica is not there").count(), 1, "{heard}");
}

#[test]
fn a_replica_that_the_first_run_makes_is_watched_after_it() {
    let stage = Stage::new(&[("MIN_WAIT", "0")]);
    fs::remove_dir(stage.at("b")).unwrap();
    let run = |stage: &Stage, count: usize| {
        fs::create_dir_all(stage.at("b")).unwrap();
        mirror(stage, count)
    };
    stage.play(run, |runs| {
        runs.wait_for(1);
        runs.none_follows();
        fs::write(stage.at("b/file"), "x").unwrap();
        runs.wait_for(2);
    });
    assert!(!stage.heard().contains("is not there"), "{}", stage.heard());
}

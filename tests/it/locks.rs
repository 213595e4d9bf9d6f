//! Two runs on one replica (spec 3, "Lock"): real processes that want the same lock.

use osync::testing::replica::{Access, LocalReplica, LockRequest, Locked, Replica};
use osync::testing::tree::Side;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

fn replica(dir: &Path) -> LocalReplica {
    let mut replica = LocalReplica::new(Side::Initiator, dir);
    replica.prepare(Access::ReadWrite { create: false }).unwrap();
    replica
}

fn request(instance_id: &str) -> LockRequest {
    LockRequest { instance_id: instance_id.to_owned(), force: false, stranger_resume: false }
}

fn lock_file(dir: &Path) -> PathBuf {
    dir.join(".osync_workdir/lock")
}

/// What the children of these tests do: wait for a word, try, tell, hold until the input
/// ends.
#[test]
#[ignore = "a child of the other tests"]
fn contender() {
    let dir = PathBuf::from(std::env::var_os("OSYNC_TEST_LOCK").unwrap());
    let mut replica = replica(&dir);
    let mut input = std::io::stdin().lock();
    println!("ready");
    let mut word = String::new();
    input.read_line(&mut word).unwrap();
    match replica.lock(&request(word.trim())) {
        Ok(locked) => println!("locked {locked:?}"),
        Err(error) => println!("refused {error}"),
    }
    input.read_to_end(&mut Vec::new()).unwrap();
    replica.unlock().unwrap();
}

struct Contender {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Contender {
    fn start(dir: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "locks::contender", "--ignored", "--nocapture", "--test-threads=1"])
            .env("OSYNC_TEST_LOCK", dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut contender = Contender { child, output };
        contender.wait_for("ready");
        contender
    }

    fn go(&mut self, instance_id: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        writeln!(input, "{instance_id}").unwrap();
    }

    /// The next line that begins with the word, wherever the test runner put it.
    fn wait_for(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "no {word}");
            if let Some(at) = line.find(word) {
                return line[at..].to_owned();
            }
        }
    }

    fn answer(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0);
            if line.starts_with("locked") || line.starts_with("refused") {
                return line;
            }
        }
    }

    /// Ends as a run ends: the lock is given back.
    fn end(mut self) {
        drop(self.child.stdin.take());
        let mut rest = Vec::new();
        self.output.read_to_end(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success());
    }

    fn kill(mut self) -> u32 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child.id()
    }
}

/// Lets all of them loose at once; how many got the lock.
fn race(dir: &Path, contenders: usize) -> usize {
    let mut all: Vec<_> = (0..contenders).map(|_| Contender::start(dir)).collect();
    for contender in &mut all {
        contender.go("task");
    }
    let answers: Vec<_> = all.iter_mut().map(Contender::answer).collect();
    let won = answers.iter().filter(|answer| answer.starts_with("locked")).count();
    for answer in answers.iter().filter(|answer| answer.starts_with("refused")) {
        assert!(answer.contains("already running"), "{answer}");
    }
    all.into_iter().for_each(Contender::end);
    won
}

#[test]
fn of_many_runs_started_at_the_same_moment_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(race(dir.path(), 12), 1);
    assert!(!lock_file(dir.path()).exists());
}

#[test]
fn of_many_runs_that_find_a_dead_lock_one_takes_it_over() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let mut dead = Contender::start(dir.path());
        dead.go("task");
        assert!(dead.answer().starts_with("locked"));
        dead.kill();
        assert!(lock_file(dir.path()).exists());
        assert_eq!(race(dir.path(), 8), 1);
        assert!(!lock_file(dir.path()).exists());
        let left: Vec<_> = std::fs::read_dir(dir.path().join(".osync_workdir")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_killed_run_leaves_a_lock_that_the_next_one_takes_over_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut dead = Contender::start(dir.path());
    dead.go("task");
    assert!(dead.answer().contains("Free"));
    let content = std::fs::read_to_string(lock_file(dir.path())).unwrap();
    let pid = dead.kill();
    assert_eq!(content, format!("{pid}@task\n"));
    let mut next = replica(dir.path());
    let Locked::TakenOver { why, warn } = next.lock(&request("task")).unwrap().how else {
        panic!()
    };
    assert!(why.contains(&pid.to_string()) && !warn, "{why}");
    let content = std::fs::read_to_string(lock_file(dir.path())).unwrap();
    assert_eq!(content, format!("{}@task\n", std::process::id()));
    let by = std::fs::read_to_string(dir.path().join(".osync_workdir/lock.by")).unwrap();
    assert!(by.contains("host=") && by.contains("boot=id:") && by.contains("started="), "{by}");
}

#[test]
fn a_lock_is_given_back_when_the_replica_goes_and_only_if_it_is_still_ours() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = replica(dir.path());
    first.lock(&request("task")).unwrap();
    assert!(first.lock(&request("task")).is_err());
    let error = replica(dir.path()).lock(&request("task")).unwrap_err().to_string();
    assert!(error.contains("already running") && error.contains("task"), "{error}");
    assert!(error.contains("initiator"), "{error}");
    assert!(lock_file(dir.path()).exists(), "a refused run takes no lock away");
    drop(first);
    assert!(!lock_file(dir.path()).exists());

    let mut second = replica(dir.path());
    second.lock(&request("task")).unwrap();
    std::fs::write(lock_file(dir.path()), "1@somebody else\n").unwrap();
    second.unlock().unwrap();
    assert!(lock_file(dir.path()).exists());
}

#[test]
fn locks_that_are_no_locks_stop_the_run_until_it_is_forced() {
    type Make = fn(&Path);
    // links and pipes are refused whatever is forced: tests/it/neighbours.rs
    let cases: [(&str, Make); 2] = [
        ("garbage", |file| std::fs::write(file, b"\xff\0").unwrap()),
        ("a directory", |file| std::fs::create_dir(file).unwrap()),
    ];
    for (what, make) in cases {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".osync_workdir")).unwrap();
        make(&lock_file(dir.path()));
        let mut replica = replica(dir.path());
        let error = replica.lock(&request("task")).unwrap_err().to_string();
        assert!(error.contains(".osync_workdir/lock"), "{what}: {error}");
        assert!(lock_file(dir.path()).symlink_metadata().is_ok(), "{what}");
        let force = LockRequest { force: true, ..request("task") };
        let locked = replica.lock(&force).unwrap();
        assert!(matches!(locked.how, Locked::TakenOver { warn: false, .. }), "{what}: {locked:?}");
        replica.unlock().unwrap();
        assert!(lock_file(dir.path()).symlink_metadata().is_err(), "{what}");
    }
}

#[test]
fn a_lock_of_osync_1_3_counts_while_its_process_lives() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(".osync_workdir")).unwrap();
    let mut sleeper = Command::new("sleep").arg("1000").spawn().unwrap();
    std::fs::write(lock_file(dir.path()), format!("{}@task", sleeper.id())).unwrap();
    let mut replica = replica(dir.path());
    let error = replica.lock(&request("task")).unwrap_err().to_string();
    assert!(error.contains(&sleeper.id().to_string()), "{error}");
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    let how = replica.lock(&request("task")).map(|lock| lock.how);
    assert!(matches!(how, Ok(Locked::TakenOver { warn: false, .. })));
}

#[test]
fn a_lock_of_our_own_number_that_we_did_not_take_is_dead() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(".osync_workdir")).unwrap();
    std::fs::write(lock_file(dir.path()), format!("{}@task\n", std::process::id())).unwrap();
    let mut replica = replica(dir.path());
    let how = replica.lock(&request("task")).map(|lock| lock.how);
    assert!(matches!(how, Ok(Locked::TakenOver { warn: false, .. })));
}

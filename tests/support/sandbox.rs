//! A temporary directory with two replicas, and the binary run in it.
//!
//! ```ignore
//! let sandbox = Sandbox::new();
//! sandbox.a.make("f hello world");
//! let run = sandbox.sync(&[]);
//! assert_eq!(run.status, Some(0), "{run}");
//! assert_eq!(sandbox.b.contents(), sandbox.a.contents());
//! ```
#![allow(dead_code)]

use super::trees::{self, Mtime, Tree};
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use tempfile::TempDir;

/// How long a run may take before it is ended and the test fails. Generous: the machine
/// may be busy.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Two replicas `a` and `b`, a home directory and a temporary directory of their own.
pub struct Sandbox {
    dir: TempDir,
    /// The initiator.
    pub a: Replica,
    /// The target.
    pub b: Replica,
}

/// One replica of a sandbox.
pub struct Replica {
    /// Its root.
    pub root: PathBuf,
}

impl Sandbox {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("osync-test-").tempdir().unwrap();
        for name in ["a", "b", "home", "tmp", "etc"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let replica = |name| Replica { root: dir.path().join(name) };
        Sandbox { a: replica("a"), b: replica("b"), dir }
    }

    /// The directory that holds everything.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// A path in the sandbox.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root().join(name)
    }

    /// What runs log, unless a test sets another LOGFILE.
    pub fn log(&self) -> String {
        let log = fs::read(self.path("osync.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The binary with a clean environment in which nothing outside the sandbox is used.
    /// LOGFILE is set; a configuration file may set another.
    pub fn osync(&self) -> Run {
        self.program(crate::support::osync())
    }

    /// Any program in that environment.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Run {
        let mut command = Command::new(program);
        command.env_clear().current_dir(self.root()).process_group(0).stdin(Stdio::null());
        for name in ["PATH", "PROPTEST_CASES", "LLVM_PROFILE_FILE"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.env("HOME", self.path("home")).env("TMPDIR", self.path("tmp"));
        command.env("LC_ALL", "C.UTF-8").env("LOGFILE", self.path("osync.log"));
        // a test that is not about an osync over there must not meet one that is installed
        command.env("REMOTE_OSYNC", "no");
        Run { command, tmp: self.path("tmp"), patience: PATIENCE }
    }

    /// A quicksync run of the two replicas, to its end.
    pub fn sync(&self, args: &[&str]) -> Outcome {
        self.quick().args(args).run()
    }

    /// A quicksync run of the two replicas, not yet started.
    pub fn quick(&self) -> Run {
        let replica = |flag: &str, root: &Path| {
            let mut arg = OsString::from(flag);
            arg.push(root);
            arg
        };
        let initiator = replica("--initiator=", &self.a.root);
        self.osync().arg(initiator).arg(replica("--target=", &self.b.root))
    }

    /// Writes a configuration file for the two replicas with further lines; the name ends
    /// in `.conf`. Returns its path.
    pub fn config(&self, name: &str, lines: &str) -> PathBuf {
        let path = self.path("etc").join(name);
        let text = format!(
            "INSTANCE_ID=\"test\"\nINITIATOR_SYNC_DIR=\"{}\"\nTARGET_SYNC_DIR=\"{}\"\n{lines}\n",
            self.a.root.display(),
            self.b.root.display()
        );
        fs::write(&path, text).unwrap();
        path
    }
}

impl Replica {
    /// A path in the replica, byte for byte.
    pub fn at(&self, path: impl AsRef<[u8]>) -> PathBuf {
        trees::at(&self.root, path.as_ref())
    }

    /// Makes entries; see [`trees`].
    pub fn make(&self, text: &str) {
        trees::make(&self.root, text);
    }

    /// All entries but the work directory.
    pub fn tree(&self) -> Tree {
        trees::read(&self.root)
    }

    /// Kinds, paths and contents as text.
    pub fn contents(&self) -> String {
        trees::contents(&self.tree())
    }

    /// The same with modes, and with times of everything but directories.
    pub fn details(&self) -> String {
        trees::details(&self.tree())
    }

    /// What `backup/` keeps, as text.
    pub fn backup(&self) -> String {
        trees::contents(&trees::read(&self.at(".osync_workdir/backup")))
    }

    /// What `deleted/` keeps, as text.
    pub fn deleted(&self) -> String {
        trees::contents(&trees::read(&self.at(".osync_workdir/deleted")))
    }

    /// The content of a file; none if there is no such file.
    pub fn read(&self, path: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        fs::read(self.at(path)).ok()
    }

    /// Whether anything is at a path.
    pub fn has(&self, path: impl AsRef<[u8]>) -> bool {
        self.at(path).symlink_metadata().is_ok()
    }

    /// Writes a file with a modification time in seconds; its parent exists.
    pub fn write(&self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>, mtime: i64) {
        let path = self.at(path);
        fs::write(&path, content).unwrap();
        trees::set_mtime(&path, Mtime::secs(mtime));
    }

    /// Removes whatever is at a path, with all below it.
    pub fn remove(&self, path: impl AsRef<[u8]>) {
        let path = self.at(path);
        if path.symlink_metadata().unwrap().is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }

    /// Renames an entry; the new parent exists.
    pub fn rename(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) {
        fs::rename(self.at(from), self.at(to)).unwrap();
    }
}

/// A program that is going to run.
pub struct Run {
    command: Command,
    tmp: PathBuf,
    patience: Duration,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// The exit status; none if a signal ended it.
    pub status: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// It ended well, with nothing to warn of.
#[track_caller]
pub fn fine(run: &Outcome) {
    assert_eq!(run.status, Some(0), "{run}");
}

/// Shows all of it, for the message of a failed assertion.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "status {:?}, signal {:?}", self.status, self.signal)?;
        writeln!(f, "--- stdout\n{}--- stderr\n{}", self.stdout, self.stderr)
    }
}

impl Run {
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Where it runs, if not at the root of the sandbox.
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// The name it is called by.
    pub fn called(mut self, name: &str) -> Self {
        self.command.arg0(name);
        self
    }

    /// As another user and group: only root can do that.
    pub fn user(mut self, id: u32) -> Self {
        self.command.uid(id).gid(id);
        self
    }

    /// Waits no longer than this.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The command itself, for tests that talk to the program while it runs. It leads its
    /// own process group.
    pub fn into_command(self) -> Command {
        self.command
    }

    /// Runs it to its end. Its output goes through files, so that a grandchild that holds
    /// on to it delays nothing. Panics, after ending the whole process group, when it
    /// takes too long.
    pub fn run(mut self) -> Outcome {
        let out = tempfile::NamedTempFile::new_in(&self.tmp).unwrap();
        let err = tempfile::NamedTempFile::new_in(&self.tmp).unwrap();
        let writer =
            |file: &tempfile::NamedTempFile| File::options().append(true).open(file.path());
        self.command.stdout(writer(&out).unwrap()).stderr(writer(&err).unwrap());
        let mut child = self.command.spawn().unwrap();
        let group = Pid::from_child(&child);
        let (ended, end) = mpsc::channel();
        std::thread::spawn(move || {
            let _ = ended.send(child.wait());
        });
        let read = |file: &tempfile::NamedTempFile| {
            String::from_utf8_lossy(&fs::read(file.path()).unwrap()).into_owned()
        };
        let Ok(status) = end.recv_timeout(self.patience) else {
            let _ = kill_process_group(group, Signal::KILL);
            let _ = end.recv();
            panic!(
                "{:?} did not end within {:?}\n{}{}",
                self.command,
                self.patience,
                read(&out),
                read(&err)
            );
        };
        let status = status.unwrap();
        Outcome {
            status: status.code(),
            signal: status.signal(),
            stdout: read(&out),
            stderr: read(&err),
        }
    }
}

#[test]
fn a_sandbox_runs_a_program_and_says_how_it_ended() {
    let sandbox = Sandbox::new();
    let script = "echo out; echo err >&2; echo $HOME; exit 3";
    let run = sandbox.program("sh").args(["-c", script]).run();
    assert_eq!(run.status, Some(3), "{run}");
    assert_eq!(run.stdout, format!("out\n{}\n", sandbox.path("home").display()));
    assert_eq!(run.stderr, "err\n");
}

#[test]
#[should_panic(expected = "did not end within")]
fn a_program_that_hangs_is_ended_with_its_children() {
    let sandbox = Sandbox::new();
    sandbox
        .program("sh")
        .args(["-c", "sleep 100 & wait"])
        .patience(Duration::from_millis(100))
        .run();
}

//! A run under way, which a test watches, signals and waits for.

use crate::support::sandbox::{Run, Sandbox};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// How long a condition is waited for before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A run under way. Its whole group is killed if the test fails.
pub struct Running<'a> {
    sandbox: &'a Sandbox,
    pub child: Child,
}

impl<'a> Running<'a> {
    /// Starts it.
    pub fn start(sandbox: &'a Sandbox, run: Run) -> Self {
        let output = File::create(sandbox.path("output")).unwrap();
        let mut command = run.into_command();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        Running { sandbox, child: command.spawn().unwrap() }
    }

    /// Waits until something is so while the program runs.
    pub fn until(&mut self, what: &str, mut is_so: impl FnMut() -> bool) {
        let started = Instant::now();
        while !is_so() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("ended with {status} before {what}\n{}", self.sandbox.log());
            }
            assert!(started.elapsed() < PATIENCE, "waited for {what}\n{}", self.sandbox.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Its exit status, none if a signal ended it; and no child of it is left.
    pub fn end(mut self) -> Option<i32> {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < PATIENCE, "it does not end\n{}", self.sandbox.log());
            std::thread::sleep(Duration::from_millis(2));
        };
        let left = processes_about(self.sandbox.root());
        assert!(left.is_empty() || status.signal().is_some(), "survivors: {left:?}");
        status.code()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// Live processes whose arguments name this directory.
/// The processes whose arguments name something in a directory.
pub fn processes_about(dir: &Path) -> Vec<(Pid, String)> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let text = String::from_utf8_lossy(&arguments).replace('\0', " ");
        let pid = process.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw);
        if let (Some(pid), true) = (pid, text.contains(&*dir.to_string_lossy())) {
            found.push((pid, text));
        }
    }
    found
}

//! An ssh agent.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// An agent without keys, ended when dropped.
pub struct Agent {
    child: Child,
    _dir: tempfile::TempDir,
    /// What `SSH_AUTH_SOCK` is to name.
    pub socket: PathBuf,
}

impl Agent {
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("osync-agent-").tempdir().unwrap();
        let socket = dir.path().join("s");
        let mut command = Command::new("ssh-agent");
        let child = command.args(["-D", "-a"]).arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        let end = Instant::now() + Duration::from_secs(30);
        while !socket.exists() {
            assert!(Instant::now() < end, "ssh-agent does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        Agent { child, _dir: dir, socket }
    }

    /// Gives it a key.
    pub fn add(&self, key: &Path) {
        let mut command = Command::new("ssh-add");
        command.arg("-q").arg(key).env("SSH_AUTH_SOCK", &self.socket).stdin(Stdio::null());
        assert!(command.status().unwrap().success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

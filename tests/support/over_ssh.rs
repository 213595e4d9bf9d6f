//! A task whose target is behind a real sshd.
#![allow(dead_code)]

use super::replicas::script;
use super::sandbox::{Outcome, Run, Sandbox};
use super::sshd::{Proxy, Sshd};
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

/// Two replicas, and the server that stands before the second one.
pub struct OverSsh {
    pub sandbox: Sandbox,
    pub server: Sshd,
}

impl OverSsh {
    pub fn new() -> Self {
        Self::with("")
    }

    /// With further lines in the server's configuration.
    pub fn with(lines: &str) -> Self {
        OverSsh { sandbox: Sandbox::new(), server: Sshd::start(lines) }
    }

    /// A server at which every command is run by this shell command, which finds the
    /// client's words in `$SSH_ORIGINAL_COMMAND`.
    pub fn forced(command: &str) -> Self {
        Self::with(&format!("ForceCommand {command}"))
    }

    /// A server whose commands find these programs first, and the directory that they are in,
    /// which is `@DIR@` in their text.
    pub fn with_programs(programs: &[(&str, &str)]) -> (Self, tempfile::TempDir) {
        let tools = tempfile::Builder::new().prefix("osync-tools-").tempdir().unwrap();
        for (name, text) in programs {
            let text = text.replace("@DIR@", tools.path().to_str().unwrap());
            script(tools.path(), name, &text);
        }
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", tools.path().display());
        (Self::forced(&format!("PATH={path} sh -c \"$SSH_ORIGINAL_COMMAND\"")), tools)
    }

    /// A quicksync run, not yet started.
    pub fn run(&self) -> Run {
        self.by(self.server.port)
    }

    /// The same through another port.
    pub fn by(&self, port: u16) -> Run {
        self.to(&self.server.uri_by(port, &self.sandbox.b.root))
    }

    /// The same to any URI.
    pub fn to(&self, uri: &str) -> Run {
        let mut initiator = OsString::from("--initiator=");
        initiator.push(&self.sandbox.a.root);
        self.sandbox
            .osync()
            .arg(initiator)
            .arg(format!("--target={uri}"))
            .env("SSH_RSA_PRIVATE_KEY", self.server.key())
            .env("SSH_OPTIONAL_ARGS", self.server.options().join(" "))
    }

    /// A proxy in front of the server, whose host key is known.
    pub fn proxy(&self, delay: Duration) -> Proxy {
        let proxy = Proxy::start(self.server.port, delay);
        self.server.trust(proxy.port);
        proxy
    }

    /// Runs and expects that all is well.
    pub fn sync(&self) -> Outcome {
        self.fine(self.run())
    }

    /// The same with any run.
    pub fn fine(&self, run: Run) -> Outcome {
        let outcome = run.run();
        assert_eq!(outcome.status, Some(0), "{outcome}");
        outcome
    }

    /// Both sides hold the same.
    pub fn assert_in_step(&self) {
        assert_eq!(self.sandbox.a.contents(), self.sandbox.b.contents());
    }

    /// No lock lies on either side. The remote shell takes its lock away when it sees the
    /// end of its input, which may be a moment after the run has ended.
    pub fn assert_unlocked(&self) {
        for replica in [&self.sandbox.a, &self.sandbox.b] {
            for name in ["lock", "lock.by"] {
                let file = replica.at(format!(".osync_workdir/{name}"));
                gone(&file);
            }
        }
    }
}

/// Waits until nothing is at a path.
fn gone(path: &Path) {
    until(&format!("{} is gone", path.display()), || path.symlink_metadata().is_err());
}

/// Waits until something is so.
pub fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < end, "waited for this: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

//! Two replicas and a configuration, the target here or behind ssh: for tests that hold for
//! both.
#![allow(dead_code)]

use super::replicas::{NOBODY, Reached, Sort};
use super::sandbox::{Outcome, Replica, Run, Sandbox};
use super::trees::set_mode;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};

/// Two replicas, and how the target is reached.
pub struct Couple {
    pub sandbox: Sandbox,
    /// For messages: how the target is reached.
    pub way: &'static str,
    reached: Option<Reached>,
    /// The target belongs to a user who is not root: owners cannot be preserved.
    of_nobody: bool,
    /// The osync over there does the work.
    is_peer: bool,
}

impl Couple {
    /// One with a local target, one with a target behind ssh.
    pub fn both() -> [Couple; 2] {
        [Couple::reached_by(Sort::Local), Couple::reached_by(Sort::Ssh)]
    }

    pub fn reached_by(sort: Sort) -> Couple {
        let sandbox = Sandbox::new();
        let reached = (sort != Sort::Local).then(|| sort.reach(&sandbox.b.root));
        let way = if reached.is_some() { "ssh" } else { "local" };
        let of_nobody = matches!(sort, Sort::Nobody | Sort::BusyBoxNobody);
        if of_nobody {
            set_mode(sandbox.root(), 0o755);
        }
        let is_peer = matches!(sort, Sort::Peer | Sort::PeerLibssh2 | Sort::PeerNobody);
        Couple { sandbox, way, reached, of_nobody, is_peer }
    }

    /// Whether the target is behind ssh.
    pub fn is_remote(&self) -> bool {
        self.reached.is_some()
    }

    /// A side, the initiator being 0.
    pub fn side(&self, side: usize) -> &Replica {
        [&self.sandbox.a, &self.sandbox.b][side]
    }

    /// A run with further settings, not yet started.
    pub fn run(&self, lines: &str) -> Run {
        let config = self.config(lines);
        self.sandbox.osync().arg(config)
    }

    /// A command about the task, not yet started.
    pub fn command(&self, words: &[&str], lines: &str) -> Run {
        let config = self.config(lines);
        self.sandbox.osync().arg(words[0]).arg(config).args(&words[1..])
    }

    fn config(&self, lines: &str) -> PathBuf {
        let mut lines = lines.to_owned();
        if self.of_nobody {
            if !lines.contains("PRESERVE_OWNER=") {
                lines.push_str("\nPRESERVE_OWNER=no\nPRESERVE_GROUP=no\n");
            }
            self.give_to_nobody(&self.side(1).root);
        }
        if let Some(server) = self.reached.as_ref().and_then(|reached| reached.server()) {
            lines.push_str(&format!(
                "\nTARGET_SYNC_DIR='{}'\nSSH_RSA_PRIVATE_KEY='{}'\nSSH_OPTIONAL_ARGS='{}'\n",
                server.uri(&self.sandbox.b.root),
                server.key().display(),
                server.options().join(" ")
            ));
        }
        if self.is_remote() && !lines.contains("REMOTE_OSYNC") {
            let osync = if self.is_peer { crate::support::osync() } else { "no" };
            lines.push_str(&format!("\nREMOTE_OSYNC='{osync}'\n"));
        }
        self.sandbox.config("couple.conf", &lines)
    }

    /// What a test has made as root; what is in step already is left alone.
    fn give_to_nobody(&self, path: &Path) {
        let seen = path.symlink_metadata().unwrap();
        if seen.uid() == 0 {
            lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        if seen.is_dir() {
            for entry in std::fs::read_dir(path).unwrap() {
                self.give_to_nobody(&entry.unwrap().path());
            }
        }
    }

    /// A run that must succeed, without a warning.
    pub fn sync(&self, lines: &str) -> Outcome {
        let run = self.run(lines).run();
        assert_eq!(run.status, Some(0), "{}: {run}\n{}", self.way, self.sandbox.log());
        run
    }

    /// A run that must succeed, and another one that must touch nothing on either side.
    pub fn sync_twice(&self, lines: &str) -> Outcome {
        let first = self.sync(lines);
        let before = self.stamps();
        self.sync(lines);
        assert_eq!(before, self.stamps(), "{}: the second run changed something", self.way);
        first
    }

    /// Names, inodes and change times of all entries on both sides: what nobody touches
    /// keeps them.
    pub fn stamps(&self) -> Vec<String> {
        let mut all = Vec::new();
        for side in [0, 1] {
            stamp(&self.side(side).root, &mut all);
        }
        all
    }
}

fn stamp(dir: &Path, all: &mut Vec<String>) {
    let mut entries: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.ends_with(".osync_workdir") {
            continue;
        }
        let seen = path.symlink_metadata().unwrap();
        all.push(format!("{path:?} {} {}.{}", seen.ino(), seen.ctime(), seen.ctime_nsec()));
        if seen.is_dir() {
            stamp(&path, all);
        }
    }
}

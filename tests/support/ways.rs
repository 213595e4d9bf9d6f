//! The same scenario on this machine and over ssh, and with the two sides exchanged.
#![allow(dead_code)]

use super::replicas::{NOBODY, Sort};
use super::sandbox::{Outcome, Replica, Run, Sandbox};
use super::sshd::Sshd;
use super::trees::set_mode;
use std::fs;
use std::process::Command;

/// Two replicas and the way between them. What a scenario does on `here` happens on the
/// initiator, or, mirrored, on the target.
pub struct Way {
    pub name: &'static str,
    pub sandbox: Sandbox,
    server: Option<Sshd>,
    mirrored: bool,
    settings: String,
    /// Run as this user instead of root; only locally.
    pub user: Option<u32>,
    /// The target is behind ssh, and belongs to a user who is not root.
    pub remote_user: bool,
}

/// Plays a scenario in every way, with these lines of configuration.
pub fn each(settings: &str, play: impl Fn(&Way)) {
    each_as(settings, None, play);
}

/// The same, as this user instead of root: then only locally.
pub fn each_as(settings: &str, user: Option<u32>, play: impl Fn(&Way)) {
    for (name, is_remote, mirrored) in [
        ("local", false, false),
        ("local, mirrored", false, true),
        ("ssh", true, false),
        ("ssh, mirrored", true, true),
    ] {
        if is_remote && user.is_some() {
            continue; // the server lets in the user who runs the tests
        }
        eprintln!("--- {name}");
        let server = is_remote.then(|| Sshd::start(""));
        let sandbox = Sandbox::new();
        let settings = settings.to_owned();
        play(&Way { name, sandbox, server, mirrored, settings, user, remote_user: false });
    }
}

/// Plays a scenario between the user who runs the tests and an ordinary user behind ssh, with
/// the tools of this machine and with those of BusyBox. Owners and groups are not preserved:
/// they cannot be.
pub fn each_with_ordinary_user(settings: &str, play: impl Fn(&Way)) {
    for (name, sort, mirrored) in [
        ("ordinary user", Sort::Nobody, false),
        ("ordinary user, mirrored", Sort::Nobody, true),
        ("ordinary user, BusyBox", Sort::BusyBoxNobody, false),
        ("ordinary user, BusyBox, mirrored", Sort::BusyBoxNobody, true),
    ] {
        eprintln!("--- {name}");
        let (server, _tools) = sort.serve();
        let (server, sandbox) = (Some(server), Sandbox::new());
        set_mode(sandbox.root(), 0o755);
        let settings = format!("PRESERVE_OWNER=no\nPRESERVE_GROUP=no\n{settings}");
        play(&Way { name, sandbox, server, mirrored, settings, user: None, remote_user: true });
    }
}

impl Way {
    /// The side that a scenario begins with.
    pub fn here(&self) -> &Replica {
        if self.mirrored { &self.sandbox.b } else { &self.sandbox.a }
    }

    /// The other side.
    pub fn there(&self) -> &Replica {
        if self.mirrored { &self.sandbox.a } else { &self.sandbox.b }
    }

    /// `initiator` or `target`: what the side that a scenario begins with is.
    pub fn here_is(&self) -> &'static str {
        if self.mirrored { "target" } else { "initiator" }
    }

    /// Whether the target is behind ssh.
    pub fn is_remote(&self) -> bool {
        self.server.is_some()
    }

    /// Gives what the scenario made to the user who runs osync, or to the one behind ssh.
    pub fn own(&self) {
        let (user, what) = match self.user {
            Some(user) => (user, self.sandbox.root()),
            None if self.remote_user && rustix::process::geteuid().is_root() => {
                (NOBODY, self.sandbox.b.root.as_path())
            }
            None => return,
        };
        let mut chown = Command::new("chown");
        chown.args(["-hR", &format!("{user}:{user}")]).arg(what);
        assert!(chown.status().unwrap().success());
    }

    /// One run.
    pub fn run(&self) -> Outcome {
        self.run_with(&[])
    }

    /// One run with further flags.
    pub fn run_with(&self, args: &[&str]) -> Outcome {
        self.prepare(args).run()
    }

    /// A run with further flags that is not yet started.
    pub fn prepare(&self, args: &[&str]) -> Run {
        if self.remote_user {
            self.own();
        }
        let Sandbox { a, b, .. } = &self.sandbox;
        let target = match &self.server {
            Some(server) => server.uri(&b.root),
            None => b.root.display().to_string(),
        };
        let mut text = format!(
            "INSTANCE_ID=test\nINITIATOR_SYNC_DIR='{}'\nTARGET_SYNC_DIR='{target}'\n{}\n",
            a.root.display(),
            self.settings
        );
        if let Some(server) = &self.server {
            let key = server.key();
            let options = server.options().join(" ");
            text += &format!(
                "SSH_RSA_PRIVATE_KEY='{}'\nSSH_OPTIONAL_ARGS='{options}'\nSSH_CONTROLMASTER=no\n",
                key.display()
            );
        }
        let file = self.sandbox.path("etc/task.conf");
        fs::write(&file, text).unwrap();
        let mut run = self.sandbox.osync().arg(file).args(args);
        if let Some(user) = self.user {
            run = run.user(user);
        }
        run
    }

    /// A run without warnings or errors.
    pub fn fine(&self) {
        let run = self.run();
        assert_eq!(run.status, Some(0), "{}: {run}", self.name);
    }

    /// A run that does nothing, told by its summary and by both trees.
    pub fn idle(&self) {
        self.idle_but(0);
    }

    /// A run that does nothing and ends with this status.
    pub fn idle_but(&self, status: i32) {
        let Sandbox { a, b, .. } = &self.sandbox;
        let before = (a.details(), b.details());
        let run = self.run_with(&["--summary"]);
        assert_eq!(run.status, Some(status), "{}: {run}", self.name);
        for word in ["UPDATE", "DELETE", "MOVE"] {
            assert!(
                !run.stdout.contains(word),
                "{}: a second run does something:\n{run}",
                self.name
            );
        }
        assert_eq!((a.details(), b.details()), before, "{}", self.name);
    }

    /// Both sides hold the same, and a further run does nothing.
    pub fn in_step(&self) {
        let Sandbox { a, b, .. } = &self.sandbox;
        assert_eq!(a.details(), b.details(), "{}", self.name);
        self.idle();
    }
}

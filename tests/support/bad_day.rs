//! Two replicas with something of everything to do, for tests in which something goes
//! wrong: nothing may be lost, and once the cause is gone two runs complete the work.
#![allow(dead_code)]

use super::kept::Kept;
use super::sandbox::{Outcome, Run, Sandbox};
use super::sshd::{Sshd, user};
use super::trees::{self, Tree};
use std::path::Path;

const END: &str = "f anchor-0 1\nf anchor-1 1\nf anchor-2 1\nd dir\nf dir/more newest\n\
    f edited-a newer\nf edited-b newer\nf elsewhere 12345\nf fought later\nd new\nf new/a 1\n\
    f new/b 2\nf taken 54321\n";

/// What somebody deleted or renamed on one side: it may go on the other, too.
const MAY_GO: &[&str] = &["gone-a", "gone-b", "moved", "carried", "dir/gone", "dir/below"];

/// Two replicas before a run.
pub struct BadDay {
    pub sandbox: Sandbox,
    pub server: Option<Sshd>,
    before: [Tree; 2],
}

impl BadDay {
    /// What both sides must hold in the end.
    pub const END: &str = END;

    /// A target on this machine.
    pub fn local() -> Self {
        Self::begin(Sandbox::new(), None)
    }

    /// In a sandbox that was made ready.
    pub fn within(sandbox: Sandbox) -> Self {
        Self::begin(sandbox, None)
    }

    /// A target behind ssh; what a login does there can be changed.
    pub fn over_ssh() -> Self {
        let sandbox = Sandbox::new();
        let script = sandbox.path("login");
        let server = Sshd::start(&format!("ForceCommand sh '{}'", script.display()));
        Self::begin(sandbox, Some(server))
    }

    fn begin(sandbox: Sandbox, server: Option<Sshd>) -> Self {
        let mut day = BadDay { sandbox, server, before: Default::default() };
        day.honest_login();
        day.sandbox.a.make(
            "f edited-a old\nf edited-b old\nf fought old\nf gone-a 1\nf gone-b 1\n\
             f dir/gone x\nf dir/below y\nf moved 12345\nf carried 54321\nf anchor-0 1\nf anchor-1 1\nf anchor-2 1",
        );
        let first = day.run().run();
        assert_eq!(first.status, Some(0), "{first}");
        let (a, b) = (&day.sandbox.a, &day.sandbox.b);
        a.write("edited-a", "newer", 1_600_000_000);
        b.write("edited-b", "newer", 1_600_000_000);
        a.write("fought", "sooner", 1_600_000_000);
        b.write("fought", "later", 1_600_000_001);
        a.remove("gone-a");
        b.remove("gone-b");
        a.remove("dir");
        b.make("f dir/more newest 1600000000\nf new/b 2");
        a.make("f new/a 1");
        b.rename("moved", "elsewhere");
        a.rename("carried", "taken");
        day.before = [a.tree(), b.tree()];
        day
    }

    /// What a login at the server does from now on: a shell script, with the client's
    /// words in `$SSH_ORIGINAL_COMMAND`.
    pub fn login(&self, script: &str) {
        std::fs::write(self.sandbox.path("login"), script).unwrap();
    }

    /// Logins do as they are told.
    pub fn honest_login(&self) {
        self.login("exec sh -c \"$SSH_ORIGINAL_COMMAND\"");
    }

    /// A run, not yet started.
    pub fn run(&self) -> Run {
        let run = self.sandbox.quick();
        let Some(server) = &self.server else { return run };
        let root = self.sandbox.b.root.display();
        run.arg(format!("--target=ssh://{}@127.0.0.1:{}/{root}", user(), server.port))
            .env("SSH_RSA_PRIVATE_KEY", server.key())
            .env("SSH_OPTIONAL_ARGS", server.options().join(" "))
            .env("SSH_CONTROLMASTER", "no")
            .env("SSH_COMPRESSION", "no")
    }

    /// The run ended by itself, and nothing that was there before is nowhere now.
    pub fn check(&self, run: &Outcome, context: &str) {
        self.check_in([&self.sandbox.a.root, &self.sandbox.b.root], run, context);
    }

    /// The same where the replicas can be seen at these places.
    pub fn check_in(&self, roots: [&Path; 2], run: &Outcome, context: &str) {
        assert!(matches!(run.status, Some(0..=2)), "{context}: {run}");
        for debris in ["panicked", "RUST_BACKTRACE", "Some(", "Err("] {
            assert!(!run.stderr.contains(debris), "{context}: {run}");
        }
        let lost = Kept::below(roots).lost(&self.before);
        assert!(lost.is_empty(), "lost: {lost:?}\n{context}: {run}");
        for (root, before) in roots.iter().zip(&self.before) {
            let now = trees::read(root);
            let stays = |path: &&Vec<u8>| !MAY_GO.iter().any(|gone| gone.as_bytes() == **path);
            for path in before.keys().filter(stays) {
                assert!(now.contains_key(path), "{} went\n{context}: {run}", trees::escape(path));
            }
        }
    }

    /// The cause is gone: two runs complete the work.
    pub fn check_heals(&self, context: &str) {
        self.honest_login();
        let next = self.run().run();
        assert!(matches!(next.status, Some(0 | 2)), "{context}\n{next}");
        let last = self.run().run();
        assert_eq!(last.status, Some(0), "{context}\n{next}{last}");
        for replica in [&self.sandbox.a, &self.sandbox.b] {
            assert_eq!(replica.contents(), END, "{context}\n{next}{last}");
            assert!(!replica.has(".osync_workdir/lock"), "{context}\n{next}{last}");
        }
        self.check(&last, context);
    }
}

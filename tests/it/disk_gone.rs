//! A disk that is taken away, or becomes read-only, in the middle of a run (spec 4,
//! "Guards", "Interruption"): never a deletion that nobody made.

use crate::support::kept::Kept;
use crate::support::mounts::Disk;
use crate::support::sandbox::{Outcome, Replica, Sandbox};
use crate::support::trees::{self, Tree};

/// The steps of a run at which it happens.
const MOMENTS: &[&str] = &[
    "prepared",
    "locked",
    "scanned",
    "left overs removed",
    "planned",
    "before a batch",
    "renaming",
    "setting aside",
    "in flight",
    "rsync named an item",
    "delivered",
    "applied",
    "state file written",
    "baseline saved",
    "recorded",
    "cleaned",
    "unlocking",
];

/// What both sides must hold in the end.
const END: &str = "f anchor-0 1\nf anchor-1 1\nf anchor-2 1\nd dir\nf dir/more newest\n\
    f edited-a newer\nf edited-b newer\nf elsewhere 12345\nf fought later\nd new\nf new/a 1\n\
    f new/b 2\n";

/// Two replicas with something of everything to do, one of them on a disk of its own.
struct Case {
    sandbox: Sandbox,
    disk: Disk,
    is_target: bool,
    before: [Tree; 2],
}

impl Case {
    fn new(is_target: bool) -> Option<Self> {
        let sandbox = Sandbox::new();
        let replica = if is_target { &sandbox.b } else { &sandbox.a };
        let disk = Disk::plug_in(sandbox.path("disk"), &replica.root)?;
        sandbox.a.make(
            "f edited-a old\nf edited-b old\nf fought old\nf gone-a 1\nf gone-b 1\n\
             f dir/gone x\nf dir/below y\nf moved 12345\nf anchor-0 1\nf anchor-1 1\nf anchor-2 1",
        );
        assert_eq!(sandbox.sync(&[]).status, Some(0));
        let (a, b) = (&sandbox.a, &sandbox.b);
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
        let before = [a.tree(), b.tree()];
        Some(Case { sandbox, disk, is_target, before })
    }

    /// A run in which a command is carried out at a step; whether it came to that.
    fn disturbed(&self, moment: &str, command: &str) -> (Outcome, bool) {
        let done = self.sandbox.path("done");
        let fault = format!("{moment}:1:{{ {command}; }} && : > '{}'", done.display());
        let run = self.sandbox.quick().env("OSYNC_FAULT", fault).run();
        assert!(matches!(run.status, Some(0..=2)), "{moment}: {run}");
        assert!(!run.stderr.contains("panicked"), "{moment}: {run}");
        (run, done.exists())
    }

    /// Nothing that was there before is nowhere now.
    fn check_kept(&self, context: &str) {
        let other = if self.is_target { &self.sandbox.a } else { &self.sandbox.b };
        let kept = Kept::below([self.disk.inside.as_path(), &other.root]);
        let lost = kept.lost(&self.before);
        assert!(lost.is_empty(), "lost: {lost:?}\n{context}");
        // and nothing but what somebody deleted or renamed has left the side that stayed
        let gone = ["gone-a", "gone-b", "moved", "dir/gone", "dir/below"];
        let before = &self.before[usize::from(!self.is_target)];
        let now = other.tree();
        for path in before.keys().filter(|path| !gone.iter().any(|gone| gone.as_bytes() == *path)) {
            assert!(now.contains_key(path), "{} went\n{context}", trees::escape(path));
        }
    }

    /// The cause is gone: two runs complete the work, and the third has none.
    fn check_heals(&self, context: &str) {
        let next = self.sandbox.sync(&[]);
        assert!(matches!(next.status, Some(0 | 2)), "{context}{next}");
        let last = self.sandbox.sync(&["--summary"]);
        assert_eq!(last.status, Some(0), "{context}{next}{last}");
        for replica in [&self.sandbox.a, &self.sandbox.b] {
            assert_eq!(Replica::contents(replica), END, "{context}{next}{last}");
            assert!(!replica.has(".osync_workdir/lock"), "{context}{next}{last}");
        }
        self.check_kept(&format!("{context}{next}{last}"));
    }
}

fn each_moment(play: impl Fn(&str, bool)) {
    if !cfg!(debug_assertions) {
        println!("skipped: a release build has no fault points");
        return;
    }
    // each moment with one of the two sides, or with both
    let all = std::env::var_os("OSYNC_FAULT_ROUNDS").is_some();
    for (number, moment) in MOMENTS.iter().enumerate() {
        for is_target in [false, true] {
            if all || (number % 2 == 0) == is_target {
                play(moment, is_target);
            }
        }
    }
}

#[test]
fn a_replica_unmounted_at_any_moment_loses_nothing_and_nothing_is_deleted_for_it() {
    each_moment(|moment, is_target| {
        let Some(mut case) = Case::new(is_target) else { return };
        let (run, done) = case.disturbed(moment, &case.disk.pull_out());
        let context = format!("{moment}, target: {is_target}\n{run}");
        case.check_kept(&context);
        assert!(done, "{context}");
        // it is still away
        let next = case.sandbox.sync(&[]);
        let context = format!("{context}{next}");
        case.check_kept(&context);
        if is_target {
            assert_eq!(next.status, Some(1), "{context}");
        }
        case.disk.put_back();
        case.check_heals(&context);
    });
}

#[test]
fn a_disk_that_becomes_read_only_at_any_moment_is_said_and_the_next_run_completes() {
    each_moment(|moment, is_target| {
        let Some(case) = Case::new(is_target) else { return };
        let (run, done) = case.disturbed(moment, &case.disk.freeze());
        let context = format!("{moment}, target: {is_target}\n{run}");
        case.check_kept(&context);
        if done && run.status == Some(1) {
            assert!(run.stderr.contains("ead-only"), "{context}");
        }
        if done {
            // it still is
            let next = case.sandbox.sync(&[]);
            let context = format!("{context}{next}");
            case.check_kept(&context);
            assert_eq!(next.status, Some(1), "{context}");
            let side = if is_target { "target" } else { "initiator" };
            assert!(next.stderr.contains("ead-only") && next.stderr.contains(side), "{context}");
            case.disk.thaw();
        }
        case.check_heals(&context);
    });
}

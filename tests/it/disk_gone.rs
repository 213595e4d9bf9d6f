//! A disk that is taken away, or becomes read-only, in the middle of a run (spec 4,
//! "Guards", "Interruption"): never a deletion that nobody made.

use crate::support::bad_day::BadDay;
use crate::support::mounts::Disk;
use crate::support::sandbox::{Outcome, Sandbox};

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

/// Two replicas, one of them on a disk of its own.
struct Case {
    day: BadDay,
    disk: Disk,
    is_target: bool,
}

impl Case {
    fn new(is_target: bool) -> Option<Self> {
        let sandbox = Sandbox::new();
        let replica = if is_target { &sandbox.b } else { &sandbox.a };
        let disk = Disk::plug_in(sandbox.path("disk"), &replica.root)?;
        Some(Case { day: BadDay::within(sandbox), disk, is_target })
    }

    /// A run in which a command is carried out at a step; whether it came to that.
    fn disturbed(&self, moment: &str, command: &str) -> (Outcome, bool) {
        let done = self.day.sandbox.path("done");
        let fault = format!("{moment}:1:{{ {command}; }} && : > '{}'", done.display());
        let run = self.day.run().env("OSYNC_FAULT", fault).run();
        (run, done.exists())
    }

    /// What the run had to note went to the disk it began with, or nowhere. (An rsync under way may
    /// find the bare directory by its path, and fill it.)
    fn assert_no_notes_on_the_bare_mount_point(&self, context: &str) {
        let (a, b) = (&self.day.sandbox.a, &self.day.sandbox.b);
        let bare = if self.is_target { b } else { a };
        assert!(!bare.has(".osync_workdir"), "{context}");
    }

    /// What is on the disk counts, whether it is there or away.
    fn check(&self, run: &Outcome, context: &str) {
        let (a, b) = (&self.day.sandbox.a.root, &self.day.sandbox.b.root);
        let inside = &self.disk.inside;
        let roots = if self.is_target { [a, inside] } else { [inside, b] };
        self.day.check_in(roots.map(|root| root.as_path()), run, context);
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
        case.check(&run, &context);
        assert!(done, "{context}");
        case.assert_no_notes_on_the_bare_mount_point(&context);
        // it is still away
        let next = case.day.run().run();
        case.check(&next, &context);
        if is_target {
            assert_eq!(next.status, Some(1), "{context}{next}");
        }
        case.disk.put_back();
        case.day.check_heals(&format!("{context}{next}"));
    });
}

#[test]
fn a_disk_that_becomes_read_only_at_any_moment_is_said_and_the_next_run_completes() {
    each_moment(|moment, is_target| {
        let Some(case) = Case::new(is_target) else { return };
        let (run, done) = case.disturbed(moment, &case.disk.freeze());
        let mut context = format!("{moment}, target: {is_target}\n{run}");
        case.check(&run, &context);
        if done && run.status == Some(1) {
            assert!(run.stderr.contains("ead-only"), "{context}");
        }
        if done {
            // it still is
            let next = case.day.run().run();
            context = format!("{context}{next}");
            case.check(&next, &context);
            assert_eq!(next.status, Some(1), "{context}");
            let side = if is_target { "target" } else { "initiator" };
            assert!(next.stderr.contains("ead-only") && next.stderr.contains(side), "{context}");
            case.disk.thaw();
        }
        case.day.check_heals(&context);
    });
}

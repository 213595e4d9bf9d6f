//! Somebody else writes while runs go on (spec 4, "Deleting", "Overwriting", "Recording";
//! docs/reliability.md): at chosen moments of a run, by its fault points (debug builds
//! only).

use crate::support::sandbox::{Outcome, Sandbox};
use crate::support::trees::{self, What};

/// A sandbox in step, then with one thing of each kind to do.
fn busy() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.a.make("f updated old\nf deleted old\nf dir/below old\nf moved 12345\nf anchor 1");
    assert_eq!(sandbox.sync(&[]).status, Some(0));
    sandbox.a.write("updated", "from a", 1_600_000_000);
    sandbox.a.remove("deleted");
    sandbox.a.remove("dir");
    sandbox.a.rename("moved", "moved there");
    sandbox
}

/// A run in which a shell command is carried out at a step.
fn disturbed(sandbox: &Sandbox, step: &str, command: &str) -> Outcome {
    let fault = format!("{step}:1:{{ {command}; }} && : > done");
    let run = sandbox.quick().env("OSYNC_FAULT", fault).run();
    assert!(matches!(run.status, Some(0..=2)), "{step}, {command}: {run}");
    run
}

/// Whether a content is anywhere: in a replica or in what it keeps.
fn is_kept(sandbox: &Sandbox, content: &[u8]) -> bool {
    let wanted = What::File(content.to_vec());
    [&sandbox.a, &sandbox.b].into_iter().any(|replica| {
        let kept = ["", ".osync_workdir/backup", ".osync_workdir/deleted"];
        kept.iter().any(|at| {
            trees::read(&replica.at(at.as_bytes())).values().any(|node| node.what == wanted)
        })
    })
}

/// What somebody does on the target: what it writes must survive.
const DEEDS: &[(&str, Option<&str>)] = &[
    ("printf newest > b/updated", Some("newest")),
    ("printf newest > b/deleted", Some("newest")),
    ("printf newest > b/dir/below", Some("newest")),
    ("printf newest > b/dir/more", Some("newest")),
    ("printf newest > b/moved", Some("newest")),
    ("printf newest > 'b/moved there'", Some("newest")),
    ("printf newest > a/deleted", Some("newest")),
    ("printf newest > a/updated", Some("newest")),
    ("mv b/dir b/elsewhere", Some("old")),
    ("mv b/updated b/aside", Some("old")),
    ("rm b/updated; mkdir b/updated; printf newest > b/updated/in", Some("newest")),
    ("rm -r b/dir", None),
    ("rm b/moved 'b/moved there'", None),
    ("rm a/updated", None),
];

/// The moments at which it is done.
const MOMENTS: &[&str] =
    &["scanned", "planned", "before a batch", "in flight", "delivered", "setting aside", "applied"];

#[test]
fn what_others_write_at_any_moment_is_not_lost_and_two_runs_converge() {
    if !cfg!(debug_assertions) {
        println!("skipped: a release build has no fault points");
        return;
    }
    let mut done = 0;
    for (number, (deed, content)) in DEEDS.iter().enumerate() {
        let all = std::env::var_os("OSYNC_FAULT_ROUNDS").is_some();
        let moments = MOMENTS.iter().enumerate().filter(|(m, _)| all || (m + number) % 3 == 0);
        for (_, moment) in moments {
            let sandbox = busy();
            let run = disturbed(&sandbox, moment, deed);
            let context = format!("{moment}, {deed}\n{run}");
            // late in a run there may be nothing left to do it to
            let content = content.filter(|_| sandbox.path("done").exists());
            done += usize::from(content.is_some());
            if let Some(content) = content {
                assert!(is_kept(&sandbox, content.as_bytes()), "{content} is lost: {context}");
            }
            let next = sandbox.sync(&[]);
            assert!(matches!(next.status, Some(0 | 2)), "{context}{next}");
            let last = sandbox.sync(&[]);
            assert_eq!(last.status, Some(0), "{context}{next}{last}");
            let (a, b) = (sandbox.a.contents(), sandbox.b.contents());
            assert_eq!(a, b, "{context}{next}{last}");
            if let Some(content) = content {
                assert!(is_kept(&sandbox, content.as_bytes()), "{content}: {context}{next}{last}");
            }
        }
    }
    assert!(done > 10, "{done}");
}

#[test]
fn a_link_swapped_in_for_a_directory_during_a_run_leads_nowhere() {
    if !cfg!(debug_assertions) {
        println!("skipped: a release build has no fault points");
        return;
    }
    for moment in MOMENTS {
        let sandbox = busy();
        let outside = sandbox.path("outside");
        std::fs::create_dir(&outside).unwrap();
        trees::make(&outside, "f below old\nf more 1");
        let before = trees::details(&trees::read(&outside));
        let swap = "mv b/dir b/real; ln -s ../outside b/dir";
        let run = disturbed(&sandbox, moment, swap);
        let next = sandbox.sync(&[]);
        assert!(matches!(next.status, Some(0 | 2)), "{moment}: {run}{next}");
        let after = trees::details(&trees::read(&outside));
        assert_eq!(before, after, "{moment}: the outside was touched\n{run}{next}");
        assert!(is_kept(&sandbox, b"old"), "{moment}: {run}{next}");
    }
}

//! Somebody else writes while runs go on (spec 4, "Deleting", "Overwriting", "Recording";
//! docs/reliability.md): at chosen moments of a run, by its fault points (debug builds
//! only).

use crate::support::installed_rsync;
use crate::support::kept::Kept;
use crate::support::sandbox::{Outcome, Sandbox};
use crate::support::trees;

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
    Kept::by(sandbox).holds(content)
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

/// Every step at which something is looked at or done.
const MORE_MOMENTS: &[&str] = &[
    "locked",
    "scanned",
    "planned",
    "before a batch",
    "after a batch",
    "setting aside",
    "room made",
    "making a directory",
    "directory without mode",
    "renaming",
    "making room",
    "keeping a copy",
    "copied, not named",
    "in flight",
    "rsync named an item",
    "delivered",
    "setting metadata",
    "setting a time",
    "an operation is done",
    "applied",
    "recorded",
    "cleaned",
    "unlocking",
];

/// What happens on the receiving side between the transfer and the look at what came of it
/// is told as it is: rsync has not failed.
#[test]
fn what_is_removed_or_replaced_right_after_its_transfer_is_told_as_that() {
    if !cfg!(debug_assertions) {
        println!("skipped: a release build has no fault points");
        return;
    }
    for (command, words) in [
        ("rm -r DIR", "is not there after the transfer, and rsync said nothing"),
        ("rm DIR/new && mkdir DIR/new", "is not what was sent, and rsync said nothing"),
    ] {
        let sandbox = Sandbox::new();
        sandbox.a.make("f anchor 1\nd dir");
        assert_eq!(sandbox.sync(&[]).status, Some(0));
        sandbox.a.make("f dir/new 22");
        let dir = sandbox.b.at("dir").display().to_string();
        let run = disturbed(&sandbox, "delivered", &command.replace("DIR", &dir));
        assert_eq!(run.status, Some(1), "{run}");
        assert!(run.stderr.contains("target: dir/new: ") && run.stderr.contains(words), "{run}");
        assert!(!run.stderr.contains("stand above"), "{run}");
        assert_eq!(sandbox.a.read("dir/new").unwrap(), b"22");
    }
}

/// Directories with a part in the run: something in them is deleted, comes, is replaced,
/// moves away, moves in, gets another mode; and the places where things are kept.
const SWAPPED: &[&str] = &[
    "dir",
    "full",
    "full/deep",
    "away",
    "into",
    ".osync_workdir/backup",
    ".osync_workdir/deleted",
];

/// A sandbox in which everything that is done is done in a directory.
fn busy_below() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.a.make(
        "f dir/below old\nf full/updated old\nf full/deep/updated old\nf full/deep/mode m\n\
         f away/moved 12345\nf into/stays 1\nf anchor 1\nf full/kind k\nf dir/briefly 1",
    );
    assert_eq!(sandbox.sync(&[]).status, Some(0));
    // something is kept already, so that its place is there
    sandbox.a.write("full/updated", "older", 1_550_000_000);
    sandbox.b.write("full/deep/updated", "elder", 1_550_000_000);
    sandbox.a.remove("dir/briefly");
    assert_eq!(sandbox.sync(&[]).status, Some(0));
    for (here, there) in [(&sandbox.a, "a"), (&sandbox.b, "b")] {
        here.make(&format!("f full/new-{there}/in it\nf full/deep/new-{there} n"));
    }
    sandbox.a.write("full/updated", "from a", 1_600_000_000);
    sandbox.b.write("full/deep/updated", "from b", 1_600_000_000);
    sandbox.a.remove("dir/below");
    sandbox.a.make("f full/bulky 1");
    sandbox.a.rename("away/moved", "into/moved");
    sandbox.b.remove("full/kind");
    sandbox.b.make("f full/kind/in it");
    trees::set_mode(&sandbox.a.at("full/deep/mode"), 0o600);
    sandbox
}

#[test]
fn a_link_swapped_in_for_a_directory_during_a_run_leads_nowhere() {
    if !cfg!(debug_assertions) {
        println!("skipped: a release build has no fault points");
        return;
    }
    if installed_rsync::may_write_through_links() {
        println!("skipped: this rsync follows links, and nothing here keeps it inside");
        return;
    }
    let all = std::env::var_os("OSYNC_FAULT_ROUNDS").is_some();
    let mut swaps = 0;
    for (number, moment) in MORE_MOMENTS.iter().enumerate() {
        for (which, dir) in SWAPPED.iter().enumerate() {
            if !all && (which + number) % 5 != 0 {
                continue;
            }
            let side = ["a", "b"][(which + number / 2) % 2];
            let sandbox = busy_below();
            let before = [sandbox.a.tree(), sandbox.b.tree()];
            let outside = sandbox.path("outside");
            // what lies outside has all the names that something may be done to
            for name in ["", "deep/", "new-a/", "new-b/", "dir/", "full/", "full/deep/"] {
                let names = ["below", "updated", "mode", "moved", "stays", "kind", "in"];
                for file in names {
                    trees::make(&outside, &format!("f {name}{file} outside"));
                }
            }
            let watched = watch(&outside);
            let real = format!("{side}/{}-real", dir.rsplit('/').next().unwrap());
            let swap = format!("mv {side}/{dir} {real} && ln -s \"$PWD/outside\" {side}/{dir}");
            let run = disturbed(&sandbox, moment, &swap);
            let context = format!("{moment}, {side}/{dir}: {run}");
            assert_eq!(watched, watch(&outside), "the outside was touched: {context}");
            if sandbox.path("done").exists() {
                swaps += 1;
                if dir.starts_with('.') {
                    // it stops the runs until it is put right
                    let next = sandbox.sync(&[]);
                    assert!(matches!(next.status, Some(0..=2)), "{context}{next}");
                    assert_eq!(watched, watch(&outside), "{context}{next}");
                    std::fs::remove_file(sandbox.path(format!("{side}/{dir}"))).unwrap();
                    std::fs::rename(sandbox.path(&real), sandbox.path(format!("{side}/{dir}")))
                        .unwrap();
                }
            }
            let next = sandbox.sync(&[]);
            assert!(matches!(next.status, Some(0 | 2)), "{context}{next}");
            let last = sandbox.sync(&[]);
            assert_eq!(last.status, Some(0), "{context}{next}{last}");
            assert_eq!(watched, watch(&outside), "{context}{next}{last}");
            let lost = Kept::by(&sandbox).lost(&before);
            assert!(lost.is_empty(), "lost: {lost:?}. {context}{next}{last}");
            let (a, b) = (sandbox.a.contents(), sandbox.b.contents());
            assert_eq!(a, b, "{context}{next}{last}");
        }
    }
    println!("{swaps} links swapped in");
    assert!(swaps > 15, "{swaps}");
}

/// All that an outsider would see change: names, inodes, contents; modes and times only if this
/// rsync follows no links, for nothing holds those (docs/security.md, "Names").
fn watch(outside: &std::path::Path) -> Vec<String> {
    let follows_links = installed_rsync::follows_links();
    let tree = trees::read(outside);
    let top = std::fs::metadata(outside).unwrap();
    let mut all = vec![format!("{:?} {:?}", top.modified().unwrap(), top.permissions())];
    all.extend(tree.iter().map(|(path, node)| match follows_links {
        true => format!("{path:?} {:?} {}", node.what, node.ino),
        false => format!("{path:?} {node:?}"),
    }));
    all
}

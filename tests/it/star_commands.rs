//! `osync plan`, `apply` and `undo` of all targets of a star at once (spec 9; spec 10, "A star in one
//! task").

use crate::star::Star;
use crate::support::sandbox::{Outcome, fine};
use std::fs;
use std::path::PathBuf;

/// A star whose leaves have news of each other, and a plan of it, made with this status.
fn planned(star: &Star, status: i32) -> PathBuf {
    star.hub().make("f planned p");
    star.leaves[2].make("f from-3 n");
    star.leaves[0].write("old", "edited", 2_000_000_000);
    let file = star.sandbox.path("plan");
    let conf = star.conf(&star.list(), "");
    let run = star.osync().arg("plan").arg(conf).arg("-o").arg(&file).run();
    assert_eq!(run.status, Some(status), "{run}");
    assert!(!star.hub().has("from-3") && !star.leaves[0].has("planned"), "{run}");
    file
}

#[test]
fn a_plan_of_all_targets_is_carried_out_as_it_was_shown_and_what_changed_since_is_left() {
    let star = Star::met(3);
    let apply = |file: &PathBuf| star.osync().arg("apply").arg(file).run();
    let file = planned(&star, 3);
    star.leaves[1].write("planned", "somebody else's", 2_000_000_000);
    star.hub().make("f later l");
    let run = apply(&file);
    assert_eq!(run.status, Some(2), "{run}");
    let left = format!("[{}] ", star.list()[1]);
    let is_named = |line: &str| line.contains(&left) && line.contains("planned");
    assert!(run.stderr.lines().any(is_named), "{run}");
    assert_eq!(star.leaves[1].read("planned").as_deref(), Some(&b"somebody else's"[..]));
    for leaf in [0, 2] {
        assert!(star.leaves[leaf].has("planned") && !star.leaves[leaf].has("later"), "{run}");
    }
    assert_eq!(star.hub().read("old").as_deref(), Some(&b"edited"[..]));
    assert!(star.hub().has("from-3") && !star.leaves[0].has("from-3"), "{run}");
    assert_eq!(star.leaves[2].read("old").as_deref(), Some(&b"x"[..]), "that was not in the plan");
    let again = apply(&file);
    assert_eq!(again.status, Some(1), "{again}");
    assert_eq!(again.stderr.matches("a run has recorded something since").count(), 2, "{again}");
    fine(&star.run(&[]));
    star.assert_all_alike();
    assert!(star.leaves[0].has("from-3") && star.leaves[1].has("later"));
}

#[test]
fn a_plan_leaves_out_a_target_that_is_away_and_an_apply_names_one() {
    let star = Star::met(3);
    let away = star.sandbox.path("away");
    fs::rename(&star.leaves[1].root, &away).unwrap();
    let file = planned(&star, 1);
    fs::rename(&away, &star.leaves[1].root).unwrap();
    fs::rename(&star.leaves[2].root, &away).unwrap();
    let run = star.osync().arg("apply").arg(&file).run();
    assert_eq!(run.status, Some(1), "{run}");
    assert!(
        run.stdout.contains(&format!("[{}] the plan is not about it", star.list()[1])),
        "{run}"
    );
    assert!(run.stderr.contains(&format!("[{}] ", star.list()[2])), "{run}");
    assert!(star.leaves[0].has("planned") && !star.leaves[1].has("planned"), "{run}");
    fs::rename(&away, &star.leaves[2].root).unwrap();
    // what the one that was away missed of it
    let run = star.osync().arg("apply").arg(&file).run();
    assert_eq!(run.status, Some(1), "the first one is behind it: {run}");
    assert!(star.leaves[2].has("planned") && star.hub().has("from-3"), "{run}");
    fine(&star.run(&[]));
    star.assert_all_alike();
}

#[test]
fn an_apply_that_is_killed_between_two_targets_goes_on_with_the_others() {
    let star = Star::met(3);
    let file = planned(&star, 3);
    let apply = || star.osync().arg("apply").arg(&file);
    let run = apply().env("OSYNC_FAULT", "journal written:1").run();
    assert_eq!(run.signal, Some(9), "{run}");
    assert!(star.leaves[0].has("planned") && !star.leaves[2].has("planned"), "{run}");
    let run = apply().run();
    assert_eq!(run.status, Some(1), "{run}");
    assert_eq!(run.stderr.matches("a run has recorded something since").count(), 1, "{run}");
    assert!(star.leaves[1].has("planned") && star.hub().has("from-3"), "{run}");
    fine(&star.run(&[]));
    star.assert_all_alike();
}

#[test]
fn a_plan_has_steps_for_a_target_that_left_the_list() {
    let star = Star::met(3);
    let file = planned(&star, 3);
    star.conf(&star.list()[..2], "");
    let run = star.osync().arg("apply").arg(&file).run();
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stderr.contains("the state star@3, which is not in the list"), "{run}");
    assert!(star.leaves[1].has("planned") && !star.leaves[2].has("planned"), "{run}");
}

/// What every replica holds, the hub last.
fn contents(star: &Star) -> Vec<String> {
    star.leaves.iter().chain([star.hub()]).map(|replica| replica.contents()).collect()
}

fn undo(star: &Star, more: &[&str]) -> Outcome {
    star.osync().arg("undo").arg(star.conf(&star.list(), "")).args(more).run()
}

/// A star after a run that carried something from everywhere to everywhere, and what each replica
/// held before and after it.
fn after_a_run() -> (Star, Vec<String>, Vec<String>) {
    let star = Star::met(3);
    star.leaves[2].make("f dir/new n");
    star.leaves[1].write("old", "edited", 2_000_000_000);
    star.leaves[0].remove("dir/gone");
    star.hub().rename("dir/kept", "moved");
    let before = contents(&star);
    fine(&star.run(&[]));
    star.assert_all_alike();
    let after = contents(&star);
    (star, before, after)
}

#[test]
fn an_undo_puts_the_hub_and_all_targets_back_and_can_be_undone_itself() {
    let (star, before, after) = after_a_run();
    let run = undo(&star, &["--dry"]);
    fine(&run);
    assert_eq!(contents(&star), after, "{run}");
    let run = undo(&star, &[]);
    fine(&run);
    assert_eq!(contents(&star), before, "{run}");
    for leaf in star.list() {
        assert!(run.stdout.contains(&format!("[{leaf}] Undone: run ")), "{run}");
    }
    let idle = star.run(&[]);
    fine(&idle);
    assert_eq!(contents(&star), before, "what differs stands: {idle}");
    assert_eq!(idle.stdout.matches("nothing to do").count(), 4, "{idle}");
    let run = undo(&star, &[]);
    fine(&run);
    assert_eq!(contents(&star), after, "{run}");
    fine(&star.run(&[]));
    assert_eq!(contents(&star), after);
}

#[test]
fn an_undo_that_was_killed_between_two_targets_goes_on() {
    for step in ["turn undone:1", "turn undone:2", "journal written:3"] {
        let (star, before, after) = after_a_run();
        let conf = star.conf(&star.list(), "");
        let run = star.osync().arg("undo").arg(conf).env("OSYNC_FAULT", step).run();
        assert_eq!(run.signal, Some(9), "{step}: {run}");
        let run = undo(&star, &[]);
        fine(&run);
        assert_eq!(contents(&star), before, "{step}: {run}");
        let run = undo(&star, &[]);
        fine(&run);
        assert_eq!(contents(&star), after, "{step}: all of it is one undo: {run}");
    }
}

#[test]
fn nothing_is_undone_while_a_target_of_that_run_is_away_or_has_lost_what_was_kept() {
    let (star, _, after) = after_a_run();
    let away = star.sandbox.path("away");
    fs::rename(&star.leaves[1].root, &away).unwrap();
    let run = undo(&star, &[]);
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stderr.contains(&format!("{} took part in that run", star.list()[1])), "{run}");
    fs::rename(&away, &star.leaves[1].root).unwrap();
    assert_eq!(contents(&star), after, "{run}");

    let kept = star.leaves[0].at(".osync_workdir/backup/old");
    let aside = star.sandbox.path("kept");
    fs::rename(&kept, &aside).unwrap();
    let run = undo(&star, &[]);
    assert_eq!(run.status, Some(1), "{run}");
    let is_named = |line: &str| line.contains(&star.list()[0]) && line.contains("no longer kept");
    assert!(run.stderr.lines().any(is_named), "{run}");
    assert_eq!(contents(&star), after, "{run}");

    let run = undo(&star, &["--force"]);
    assert_eq!(run.status, Some(2), "{run}");
    assert_eq!(star.leaves[0].read("old").as_deref(), Some(&b"edited"[..]), "{run}");
    assert_eq!(star.leaves[2].read("old").as_deref(), Some(&b"x"[..]), "{run}");
    assert_eq!(star.hub().read("old").as_deref(), Some(&b"x"[..]), "{run}");
}

#[test]
fn an_undo_leaves_what_was_changed_since_on_any_target_and_names_it() {
    let (star, _, _) = after_a_run();
    star.leaves[0].write("old", "by hand", 2_000_000_001);
    let run = undo(&star, &[]);
    assert_eq!(run.status, Some(2), "{run}");
    let is_named = |line: &str| line.contains(&star.list()[0]) && line.contains("old");
    assert!(run.stderr.lines().any(is_named), "{run}");
    assert_eq!(star.leaves[0].read("old").as_deref(), Some(&b"by hand"[..]));
    assert_eq!(star.leaves[2].read("old").as_deref(), Some(&b"x"[..]), "{run}");
    assert!(!star.leaves[0].has("dir/new") && star.leaves[0].has("dir/kept"), "{run}");
}

#[test]
fn an_undo_leaves_what_two_turns_of_a_target_have_changed_and_puts_the_rest_back() {
    let star = Star::met(3);
    for (leaf, (text, day)) in star.leaves.iter().zip([("one", 1), ("three", 3), ("two", 2)]) {
        leaf.write("old", text, 2_000_000_000 + day);
    }
    star.leaves[0].make("f dir/new n");
    fine(&star.run(&[]));
    star.assert_all_alike();
    let run = undo(&star, &[]);
    assert_eq!(run.status, Some(2), "{run}");
    let of = |leaf: usize| String::from_utf8(star.leaves[leaf].read("old").unwrap()).unwrap();
    assert_eq!([of(0), of(1), of(2)], ["one", "three", "two"], "{run}");
    let is_named = |line: &str| line.contains(&star.list()[0]) && line.contains("old: ");
    assert!(run.stderr.lines().any(is_named), "{run}");
    assert!(star.leaves[0].has("dir/new") && !star.hub().has("dir/new"), "{run}");
    assert!(!star.leaves[1].has("dir/new") && !star.leaves[2].has("dir/new"), "{run}");
}

#[test]
fn an_undo_after_a_run_with_one_target_takes_back_that_run_alone() {
    let (star, _, after) = after_a_run();
    star.hub().make("f late l");
    fine(&star.run(&["--only", "2"]));
    fine(&undo(&star, &[]));
    star.hub().remove("late");
    assert_eq!(contents(&star), after);
}

#[test]
fn an_undo_needs_a_run_and_every_target_in_the_list() {
    let star = Star::new(2);
    star.hub().make("f one x");
    let run = undo(&star, &[]);
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stderr.contains("nothing to undo"), "{run}");
    fine(&star.run(&[]));
    let conf = star.conf(&star.list()[..1], "");
    let run = star.osync().arg("undo").arg(conf).run();
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stderr.contains("it is not in the list of targets"), "{run}");
    assert!(star.leaves[0].has("one") && star.leaves[1].has("one"), "{run}");
}

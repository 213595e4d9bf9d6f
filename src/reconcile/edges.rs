//! What the decision table does not show: what a plan says about its conflicts, limits,
//! and left-overs that lie deep below.

use super::conflict::Reason;
use super::testing::{afterwards, plan, rules, situation, words};
use super::{Rules, Settle};
use crate::report::Level;
use crate::tree::Side;

#[test]
fn only_where_neither_side_has_a_past_is_it_a_first_contact() {
    for (rows, expected) in [
        ("a: - - f1@1 f2@2", true),
        ("a: f1@1 f1@1 f2@2 f3@3", false),
        ("a: f1@1 - f2@2 f3@3", false),
        ("a: L L f2@50 f1@40", false),
        ("a: - - d f2@9\na/b: - - f1@1 -", true),
        ("a: f1@1 f1@1 d f2@9\na/b: - - f1@1 -", false),
    ] {
        let plan = plan(&situation(rows), &rules());
        let told: Vec<bool> = plan.conflicts.iter().map(|c| c.first_contact).collect();
        assert_eq!(told, [expected], "{rows}");
    }
}

#[test]
fn every_reason_has_words_of_its_own() {
    let reasons =
        [Reason::Newer, Reason::Tie, Reason::Forced, Reason::NewWorkBeatsDeletion, Reason::Kinds];
    for (i, reason) in reasons.iter().enumerate() {
        assert!(reason.words().contains(' '), "{reason:?}");
        for other in &reasons[i + 1..] {
            assert_ne!(reason.words(), other.words());
        }
    }
}

#[test]
fn a_path_that_rsync_cannot_take_is_an_error_and_nothing_else_suffers() {
    let situation = situation("d: - - d -\nd/abc: - - f1@1 -\nd/abcd: - - f1@1 -\nz: - - f1@1 -");
    let mut rules = rules();
    rules.longest_path = "d/abc".len();
    let plan = plan(&situation, &rules);
    assert_eq!(words(&plan), [">> send d", ">> send z", ">> send d/abc", "Error d/abcd"]);
    let settles: Vec<(String, Settle)> =
        plan.delta.path_ids().map(|s| (plan.path(s).shown(), plan.verdict(s).settle)).collect();
    assert!(settles.contains(&("d/abcd".into(), Settle::KeepOld)), "it is tried again");
}

#[test]
fn what_is_excluded_or_unreadable_deep_below_keeps_the_directories_above_it() {
    for (what, deep, settle) in [
        ("excluded content may stay for ever", "x", Settle::Marked(Side::Target)),
        ("what cannot be read is tried again", "u", Settle::KeepOld),
    ] {
        let rows = format!(
            "d: d d - d\nd/e: d d - d\nd/e/f: d d - d\nd/e/f/x: - - - {deep}\nd/a: f1 f1 - f1"
        );
        let before = situation(&rows);
        let first = plan(&before, &rules());
        assert_eq!(words(&first), [">> delete d/a"], "{what}");
        for path_id in first.delta.path_ids() {
            let path = first.path(path_id).shown();
            if path == "d" || path == "d/e" || path == "d/e/f" {
                assert_eq!(first.verdict(path_id).settle, settle, "{what}: {path}");
            }
        }
        let after = afterwards(&before, &first);
        assert_eq!(words(&plan(&after, &rules())), Vec::<String>::new(), "{what}: again");
    }
}

#[test]
fn a_kind_does_not_change_over_what_is_excluded_deep_below() {
    let situation = situation("a: d d f1@5 d\na/s: d d - d\na/s/x: - - - x");
    let plan = plan(&situation, &rules());
    assert_eq!(words(&plan), ["Warn a"]);
    assert_eq!(plan.problems[0].level, Level::Warn);
    assert_eq!(plan.problems[0].side, Some(Side::Target), "the side where it lies is named");
}

#[test]
fn one_way_a_newer_change_of_kind_on_the_receiver_stays() {
    let mut rules = rules();
    rules.policy.one_way_from = Some(Side::Initiator);
    for (what, rows, expected, kept) in [
        ("newer there", "a: d@1 d@1 d@1 f2@9\na/b: f1 f1 f1 -", &[][..], 1),
        ("older there", "a: d@5 d@5 d@5 f2@3\na/b: f1 f1 f1 -", &[">> backup a", ">> tree a"], 0),
        ("as old", "a: d@5 d@5 d@5 f2@5\na/b: f1 f1 f1 -", &[">> backup a", ">> tree a"], 0),
        (
            "newer, but its change was made here",
            "a: f1@9 f1@9 d@5 f1@9",
            &[">> backup a", ">> tree a"],
            0,
        ),
    ] {
        let plan = plan(&situation(rows), &rules);
        assert_eq!(words(&plan), expected, "{what}");
        assert_eq!(plan.kept_newer, kept, "{what}");
        let at = plan.delta.path_ids().find(|s| plan.path(*s).shown() == "a").unwrap();
        let keeps_its_past = plan.verdict(at).settle == Settle::KeepOld;
        assert_eq!(keeps_its_past, kept == 1, "{what}");
    }
}

#[test]
fn devices_go_only_where_they_can_be_made_and_nothing_makes_way_for_others() {
    for (can, rows, expected) in [
        (true, "c: - - c -", &[">> send c"][..]),
        (false, "c: - - c -", &[">> no devices c"]),
        (false, "c: - - f1 -", &[">> send c"]),
        (true, "a: d d c@5 d\na/f: f1 f1 - f1", &[">> deleted a", ">> send a"]),
        (false, "a: d d c@5 d\na/f: f1 f1 - f1", &[">> no devices a"]),
        (false, "a: - - c@5 f2@3", &[">> no devices a"]),
        (
            false,
            "d: - - d -\nd/c: - - c -\nd/f: - - f1 -",
            &[">> send d", ">> send d/f", ">> no devices d/c"],
        ),
    ] {
        let mut rules = rules();
        rules.can_chown.target = can;
        assert_eq!(words(&plan(&situation(rows), &rules)), expected, "{rows}, {can}");
    }
}

/// Which directories get which times, in seconds.
fn dir_times(rows: &str, rules: &Rules) -> Vec<(Side, String, i64)> {
    let plan = plan(&situation(rows), rules);
    let times = |side: Side| plan.dir_times[side].iter().map(move |found| (side, found));
    let both = times(Side::Initiator).chain(times(Side::Target));
    both.map(|(side, (path_id, time))| (side, plan.path(*path_id).shown(), time.secs())).collect()
}

#[test]
fn a_directory_gets_the_time_of_the_side_that_changed_it_unless_it_goes_over_whole() {
    use Side::{Initiator, Target};
    for (what, rows, expected) in [
        ("something new in it", "d: d@1 d@1 d@5 d@1\nd/a: - - f1@5 -", &[(Target, "d", 5)][..]),
        ("something gone from it", "d: d@1 d@1 d@1 d@7\nd/a: f1 f1 f1 -", &[(Initiator, "d", 7)]),
        (
            "something changed in it, which moves no time but that of the receiver",
            "d: d@1 d@1 d@1 d@1\nd/a: f1@1 f1@1 f2@3 f1@1",
            &[(Target, "d", 1)],
        ),
        (
            "changed on both sides, the newer here",
            "d: d@1 d@1 d@9 d@5\nd/a: - - f1@9 -\nd/b: - - - f1@5",
            &[(Initiator, "d", 9), (Target, "d", 9)],
        ),
        (
            "changed on both sides, the newer there",
            "d: d@1 d@1 d@5 d@9\nd/a: - - f1@5 -\nd/b: - - - f1@9",
            &[(Initiator, "d", 9), (Target, "d", 9)],
        ),
        ("a new one, with all that is in it", "d: - - d@5 -\nd/a: - - f1@5 -", &[]),
        ("a new one, without what is excluded", "d: - - d@5 -\nd/x: - - x -", &[(Target, "d", 5)]),
        ("one that goes", "d: d@1 d@1 - d@1\nd/a: f1 f1 - f1", &[]),
        (
            "one that comes back",
            "d: d@1 d@1 - d@3\nd/a: f1 f1 - f1\nd/b: - - - f1",
            &[(Initiator, "d", 3), (Target, "d", 3)],
        ),
    ] {
        let expected: Vec<_> =
            expected.iter().map(|(side, path, at)| (*side, (*path).to_owned(), *at)).collect();
        assert_eq!(dir_times(rows, &rules()), expected, "{what}");
    }
    let mut one_way = rules();
    one_way.policy.one_way_from = Some(Initiator);
    let changed_there = "d: d@1 d@1 d@1 d@7\nd/a: f1 f1 f1 -";
    assert_eq!(dir_times(changed_there, &one_way), [(Target, "d".to_owned(), 1)], "one way");
}

//! What the decision table does not show: what a plan says about its conflicts, limits,
//! and left-overs that lie deep below.

use super::plan::WhyItWon;
use super::record::record;
use super::testing::{
    Files, Situation, afterwards, carry_out, left_for, path, plan, plan_with, rules, situation,
    tree, words,
};
use super::{Act, NextRecord, Plan, Rules, initialise, reconcile};
use crate::report::left_alone::LeftAlone;
use crate::state::{Baseline, Header, Recorded};
use crate::tree::same::Comparison;
use crate::tree::{Inode, Pair, Side, Stamp, Tree};
use proptest::prelude::*;
use std::collections::BTreeMap;

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
    let reasons = [
        WhyItWon::Newer,
        WhyItWon::Tie,
        WhyItWon::Forced,
        WhyItWon::NewWorkBeatsDeletion,
        WhyItWon::Kinds,
    ];
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
    let settles: Vec<(String, NextRecord)> = plan
        .delta
        .path_ids()
        .map(|s| (plan.path(s).shown(), plan.verdict(s).next_record))
        .collect();
    assert!(settles.contains(&("d/abcd".into(), NextRecord::KeepOld)), "it is tried again");
}

#[test]
fn what_is_excluded_or_unreadable_deep_below_keeps_the_directories_above_it() {
    for (what, deep, next_record) in [
        ("excluded content may stay for ever", "x", NextRecord::DeletionSkipped(Side::Target)),
        ("what cannot be read is tried again", "u", NextRecord::KeepOld),
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
                assert_eq!(first.verdict(path_id).next_record, next_record, "{what}: {path}");
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
    let [left] = plan.left_alone.as_slice() else { panic!("{:?}", plan.left_alone) };
    assert_eq!(left.why, LeftAlone::HidesEntries);
    assert_eq!(left.side, Some(Side::Target), "the side where it lies is named");
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
        assert_eq!(left_for(&plan, &LeftAlone::NewerOnReceiver), kept, "{what}");
        let at = plan.delta.path_ids().find(|s| plan.path(*s).shown() == "a").unwrap();
        let keeps_its_past = plan.verdict(at).next_record == NextRecord::KeepOld;
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

// ----------------------------------------------------------------------------
// A target that keeps times in steps of two seconds, and neither owners nor modes, as FAT
// does: modelled, for machines that cannot mount one.

/// What becomes of entries that were written to such a file system.
fn as_kept(files: &mut Files) {
    for (_, entry) in files.values_mut() {
        entry.mtime = Stamp::new(entry.mtime.secs() / 2 * 2, 0);
        entry.mode = 0o755;
        (entry.uid, entry.gid) = (0, 0);
    }
}

/// The situation after a run with such a target.
fn next(before: &Situation, plan: &Plan) -> Situation {
    let (mut files, mut achieved) = carry_out(before, plan);
    as_kept(&mut files.target);
    for path_id in plan.delta.path_ids() {
        let found = files.target.get(&plan.path(path_id)).map(|(_, entry)| entry.clone());
        achieved.reread.target.insert(path_id, found);
    }
    let header = before.baseline.header().clone();
    let (baseline, _) = record(&before.trees, &before.baseline, plan, &achieved, header).unwrap();
    Situation { trees: Pair::new(tree(&files.initiator), tree(&files.target)), files, baseline }
}

#[test]
fn a_coarse_target_without_modes_settles_after_one_run() {
    let mut now = situation(
        "d: - - d@11%750 -
         d/a: - - f1@13%640 -
         b: - - f2@15%600 -
         c: - - - f3@18",
    );
    as_kept(&mut now.files.target);
    now.trees.target = tree(&now.files.target);
    let first = plan(&now, &rules());
    assert!(!first.is_empty());
    now = next(&now, &first);
    for run in 0..3 {
        let idle = plan(&now, &rules());
        assert!(idle.is_empty(), "run {run}: {:?}", words(&idle));
        now = next(&now, &idle);
    }
    // A change on either side is seen as one.
    for (side, name, expected) in
        [(Side::Initiator, "b", ">> send b"), (Side::Target, "d/a", "<< send d/a")]
    {
        let path = super::testing::path(name);
        let entry = &mut now.files[side].get_mut(&path).unwrap().1;
        (entry.size, entry.mtime) = (9, Stamp::new(40, 0));
        now.trees[side] = tree(&now.files[side]);
        let changed = plan(&now, &rules());
        assert_eq!(words(&changed), [expected]);
        now = next(&now, &changed);
        let idle = plan(&now, &rules());
        assert!(idle.is_empty(), "{:?}", words(&idle));
    }
}

// ----------------------------------------------------------------------------
// What is in doubt, how an answer settles it, and what is done where there is no answer (spec 8,
// "The same").

/// What is planned when every doubt gets this answer, and how many there were.
fn with_answer(situation: &Situation, rules: &Rules, answer: Comparison) -> (Vec<String>, usize) {
    let asked = std::cell::Cell::new(0);
    let plan = plan_with(situation, rules, |_, _| {
        asked.set(asked.get() + 1);
        answer
    });
    (lines(&plan), asked.get())
}

fn lines(plan: &Plan) -> Vec<String> {
    let mut lines = words(plan);
    for (side, times) in plan.file_times.iter() {
        for (path_id, time) in times {
            let path = plan.path(*path_id);
            lines.push(format!("{} time {path} {}", side.arrow(), time.secs()));
        }
    }
    lines.sort();
    lines
}

#[test]
fn a_doubt_is_settled_by_content_and_else_by_times_or_not_at_all() {
    type Lines = &'static [&'static str];
    // what, the rows, planned if the same, if not, and if nobody can tell
    let cases: &[(&str, &str, Lines, Lines, Lines)] = &[
        (
            "a first contact, newer there",
            "a: - - f1@1 f1@5",
            &["<< time a 5"],
            &["<< send a", "conflict a target Newer"],
            &["<< send a", "conflict a target Newer"],
        ),
        (
            "the same edit on both sides, later here",
            "a: f1@1 f1@1 f2@9 f2@5",
            &[">> time a 9"],
            &[">> send a", "conflict a initiator Newer"],
            &[">> send a", "conflict a initiator Newer"],
        ),
        (
            "two edits of one size in the same moment",
            "a: f1@1 f1@1 f2@5 f2@5",
            &[],
            &[">> send a", "conflict a initiator Tie"],
            &[],
        ),
        ("another file renamed over it", "a: f1@1#5 f1@1 f1@1#6 f1@1", &[], &[">> send a"], &[]),
        (
            "another file renamed over it, with another mode there",
            "a: f1@1#5 f1@1 f1@1#6 f1@1%600",
            &["<< attr a"],
            &["<< set a", ">> send a"],
            &[],
        ),
        (
            "other files renamed over both",
            "a: f1@1#5 f1@1#7 f1@1#6 f1@1#8",
            &[],
            &[">> send a", "conflict a initiator Tie"],
            &[],
        ),
        (
            "swapped names",
            "a: f1@1#5 f1@1 f1@1#6 f1@1\nb: f1@1#6 f1@1 f1@1#5 f1@1",
            &[],
            &[">> send a", ">> send b"],
            &[],
        ),
        (
            "of a list only",
            "a: L L f1@40 f1@50",
            &["<< time a 50"],
            &["<< send a", "conflict a target Newer"],
            &["<< send a", "conflict a target Newer"],
        ),
    ];
    for (what, rows, same, different, unknown) in cases {
        let situation = situation(rows);
        for (answer, expected) in [
            (Comparison::Same, same),
            (Comparison::Different, different),
            (Comparison::Unknown, unknown),
        ] {
            let (got, asked) = with_answer(&situation, &rules(), answer);
            assert_eq!(got, **expected, "{what}: {answer:?}");
            assert_eq!(asked, rows.lines().count(), "{what}: {answer:?}");
        }
        let first = plan_with(&situation, &rules(), |_, _| Comparison::Same);
        let after = afterwards(&situation, &first);
        let second = plan(&after, &rules());
        assert!(second.is_empty() && second.doubts.is_empty(), "{what}: {:?}", lines(&second));
    }
}

#[test]
fn nothing_is_read_where_nothing_is_in_doubt() {
    for rows in [
        "a: f1@1 f1@1 f1@1 f1@1",
        "a: - - f1@1 f1@1",
        "a: - - f1@1 f2@5",
        "a: f1@1 f1@1 f1@5 f1@1",
        "a: f1@1 f1@1 f2@5 f1@1",
        "a: f1@1#5 f1@1 - f1@1\nb: - - f1@1#5 -",
        "a: f1@1#5 f1@1 f2@1#6 f1@1",
        "a: f1@1#5 - f1@1#6 -",
        "a: f1@1#5 f1@1 f1@1#6 -",
        "a: f1@1#5 f1@1 f1@1#6 f2@3",
        "a: - - l:x@1 l:x@5",
        "d: d@1#5 d@1 d@1#6 d@1",
    ] {
        let Situation { trees, baseline, .. } = situation(rows);
        assert_eq!(reconcile(&trees, &baseline, &rules()).unwrap().doubts, [], "{rows}");
    }
}

#[test]
fn a_side_in_doubt_that_cannot_be_compared_with_its_other_side_counts_as_changed() {
    for (rows, expected) in [
        (
            "a: f1@1#5 f1@1 f1@1#6 -",
            &[">> send a", "conflict a initiator NewWorkBeatsDeletion"][..],
        ),
        ("a: f1@1#5 f1@1 f1@1#6 f2@3", &["<< send a", "conflict a target Newer"]),
    ] {
        assert_eq!(lines(&plan(&situation(rows), &rules())), expected, "{rows}");
    }
}

#[test]
fn what_only_looks_alike_after_one_side_changed_goes_over() {
    let mut situation = situation("a: f1@10 f1@10 f1@10 f1@10");
    let id = situation.trees.initiator.find(&path("a")).unwrap();
    // Edited within the second, to a time without nanoseconds.
    situation.trees.initiator.entry_mut(id).mtime = Stamp::new(10, 0);
    assert_eq!(lines(&plan(&situation, &rules())), [">> send a"]);
}

#[test]
fn files_that_were_written_on_both_sides_within_one_tick_are_in_doubt() {
    let mut situation = situation("a: - - f1@10 f1@10");
    for side in Side::BOTH {
        let id = situation.trees[side].find(&path("a")).unwrap();
        let entry = situation.trees[side].entry_mut(id);
        entry.ctime = entry.mtime;
    }
    let expected = [">> send a", "conflict a initiator Tie"];
    assert_eq!(
        with_answer(&situation, &rules(), Comparison::Different),
        (expected.map(str::to_owned).to_vec(), 1)
    );
    assert_eq!(with_answer(&situation, &rules(), Comparison::Same), (vec![], 1));
}

#[test]
fn links_of_one_target_are_no_conflict_and_get_the_newer_time() {
    let situation = situation("a: - - l:x@1 l:x@5\nb: - - l:x@1 l:y@5");
    let expected = ["<< send b", "<< time a 5", "conflict b target Newer"];
    assert_eq!(lines(&plan(&situation, &rules())), expected);
}

#[test]
fn one_way_the_time_of_the_side_that_is_brought_over_goes_along() {
    let mut rules = rules();
    rules.policy.one_way_from = Some(Side::Initiator);
    let situation = situation("a: - - f1@1 f1@5");
    assert_eq!(
        with_answer(&situation, &rules, Comparison::Same),
        (vec![">> time a 1".to_owned()], 1)
    );
}

#[test]
fn a_replica_whose_root_is_another_directory_has_no_inodes_to_go_by() {
    let rows = "a: f1@1#5 f1@1 f1@1#6 f1@1\nb: f1@1#8 f1@1 - f1@1\nc: - - f1@1#8 -";
    let roots = |ino| Pair::new(Some(Inode { dev: 0, ino }), None);
    for (root, expected) in
        [(7, &[">> delete b", ">> send c"][..]), (9, &[">> move b -> c", ">> send a"])]
    {
        let mut situation = situation(rows);
        let header = Header { roots: roots(9), ..situation.baseline.header().clone() };
        situation.baseline = situation.baseline.with_header(header);
        situation.trees.initiator.entry_mut(Tree::ROOT).ino = root;
        let plan = plan_with(&situation, &rules(), |_, _| Comparison::Different);
        assert_eq!(lines(&plan), expected, "{root}");
        assert_eq!(plan.renumbered, Pair::new(root == 7, false));
        let after = afterwards(&situation, &plan);
        let of_a = after.baseline.records().map(Result::unwrap).find(|(at, _)| *at == path("a"));
        let Some(Recorded::Seen(entry)) = of_a.map(|(_, record)| record.was.initiator) else {
            panic!("a is known")
        };
        assert_eq!(entry.ino, 6, "the new number is recorded");
    }
}

#[test]
fn where_most_files_have_other_numbers_the_file_system_gave_them() {
    let rows = |anew: usize, all: usize| -> String {
        let row = |i| {
            let now = if i <= anew { i + 1000 } else { i };
            format!("f{i:04}: f1@1#{i} f1@1 f1@1#{now} f1@1\n")
        };
        (1..=all).map(row).collect()
    };
    for (anew, all, renumbered) in
        [(101, 200, true), (100, 199, false), (101, 202, false), (3, 3, false)]
    {
        let situation = situation(&rows(anew, all));
        let (got, asked) = with_answer(&situation, &rules(), Comparison::Same);
        assert_eq!((got.len(), asked), (0, if renumbered { 0 } else { anew }), "{anew} of {all}");
        assert_eq!(plan(&situation, &rules()).renumbered.initiator, renumbered);
    }
}

/// What `--initialize` records of each path.
fn initialised(situation: &Situation, answer: Comparison) -> (Vec<String>, Situation) {
    let mut rules = rules();
    let trees = &situation.trees;
    let (plan, achieved) = loop {
        let (plan, achieved) = initialise(trees, &rules);
        if plan.doubts.is_empty() {
            break (plan, achieved);
        }
        rules.settled.extend(plan.doubts.into_iter().map(|doubt| (doubt, answer)));
    };
    let header = situation.baseline.header().clone();
    let baseline = record(trees, &Baseline::empty(), &plan, &achieved, header).unwrap().0;
    let known = baseline.records().map(Result::unwrap).filter(|(_, record)| !record.is_empty());
    let known = known.map(|(at, _)| at.shown()).collect();
    let files = situation.files.clone();
    let trees = Pair::from_fn(|side| super::testing::tree(&files[side]));
    (known, Situation { files, trees, baseline })
}

#[test]
fn only_what_agrees_on_both_sides_is_recorded_where_a_run_initialises() {
    let rows = "a: - - f1@1 f1@1
        b: - - f1@1 f1@5
        c: - - f1@1 f2@1
        d: - - d@1 d@5
        d/b: - - f1@1 -
        d/x: - - x -
        e: - - - d
        e/c: - - - f3@1
        f: - - d f1
        gone: f1@1 f1@1 - -
        l: - - l:x@1 l:x@9
        m: - - f1@1%600 f1@1";
    let rows: String = rows.lines().map(|row| format!("{}\n", row.trim())).collect();
    let before = situation(&rows);
    let (known, after) = initialised(&before, Comparison::Same);
    assert_eq!(known, ["a", "b", "d", "l", "m"]);
    let expected = [
        "<< tree e",
        ">> attr m",
        ">> backup f",
        ">> send c",
        ">> send d/b",
        ">> tree f",
        "conflict c initiator Tie",
        "conflict f initiator Kinds",
    ];
    assert_eq!(lines(&plan(&after, &rules())), expected, "no difference became invisible");
    let (known, _) = initialised(&before, Comparison::Different);
    assert_eq!(known, ["a", "d", "l", "m"]);
}

// ----------------------------------------------------------------------------
// What proves that a name has moved, and what does not: in doubt it is a deletion and a
// creation.

fn planned(rows: &str, rules: &Rules) -> (Vec<String>, Plan) {
    let plan = plan(&situation(rows), rules);
    let mut words = words(&plan);
    words.sort();
    (words, plan)
}

#[test]
fn what_only_looks_like_a_move_is_a_deletion_and_a_creation() {
    for (what, rows, expected) in [
        (
            "the inode was used again, as another birth shows",
            "a: f1@1#5 f1@1 - f1@1\nb: - - f1@1#5^9 -",
            &[">> delete a", ">> send b"][..],
        ),
        (
            "the inode of a directory was used again",
            "d: d#5 d - d\nd/a: f1 f1 - f1\ne: - - d#5^9 -",
            &[">> delete d", ">> delete d/a", ">> tree e"],
        ),
        (
            "the old name was one of several of its file",
            "a: f1@1&5 f1@1 - f1@1\nb: - - f1@1#5 -",
            &[">> delete a", ">> send b"],
        ),
        (
            "the new name is one of several of its file",
            "a: f1@1#5 f1@1 - f1@1\nb: - - f1@1&5 -",
            &[">> delete a", ">> send b"],
        ),
        (
            "the new name has a past on the other side",
            "a: f1@1#5 f1@1 - f1@1\nb: - f9@9 f1@1#5 -",
            &[">> delete a", ">> send b"],
        ),
        (
            "the old name lay below what is a file now",
            "d: d d f9@9 d\nd/a: f1@1#5 f1@1 - f1@1\nb: - - f1@1#5 -",
            &[">> deleted d", ">> send b", ">> send d"],
        ),
        (
            "the new name lies below what is a file there",
            "a: f1@1#5 f1@1 - f1@1\nd: - - d f9@9\nd/b: - - f1@1#5 -",
            &[">> backup d", ">> delete a", ">> tree d", "conflict d initiator Kinds"],
        ),
        (
            "the old name was linked there, not moved",
            "a: f1@1#5 f1@1#6 - f1@1&6\nb: - - f1@1#5 f1@1&6",
            &[">> delete a"],
        ),
        (
            "gone from there, and the new name made anew on the same inode",
            "a: f1@1#5 f1@1#6 - -\nb: - - f2@2#5 f1@1#6^9",
            &[">> send b", "conflict b initiator Newer"],
        ),
    ] {
        assert_eq!(planned(rows, &rules()).0, expected, "{what}");
    }
}

#[test]
fn a_directory_may_be_renamed_in_one_that_was_renamed() {
    let rows = "d: d#5 d - d\nd/x: d#6 d - d\nd/x/a: f1@1#7 f1@1 - f1@1
                e: - - d#5 -\ne/y: - - d#6 -\ne/y/a: - - f1@1#7 -";
    assert_eq!(planned(rows, &rules()).0, [">> move d -> e", ">> move e/x -> e/y"]);
}

#[test]
fn nothing_follows_before_the_directory_that_it_moved_into() {
    let into_renamed = "a: d#5 d - d\nm: d#6 d - d\nz: - - d#6 -\nz/a: - - d#5 -";
    assert_eq!(planned(into_renamed, &rules()).0, [">> move a -> z/a", ">> move m -> z"]);
    assert_eq!(order(into_renamed), ["m -> z", "a -> z/a"]);
    let inside_out = "m: d#5 d - d\nm/s: d#6 d - d\nt: - - d#6 -\nt/m: - - d#5 -";
    assert_eq!(order(inside_out), ["m/s -> t", "m -> t/m"]);
}

#[test]
fn what_must_be_made_for_another_move_is_not_moved_there_too() {
    // What is new in `m` there keeps the move of `m` back until that of its child is known.
    let rows = "a: d#5 d - d\nm: d#6 d#16 - d#16\nm/x: d#7 d#17 - -\nz: - - d#6 -
                z/a: - - d#5 -\ny: - - - d#17";
    let (words, plan) = planned(rows, &rules());
    assert!(words.contains(&">> move a -> z/a".to_owned()), "{words:?}");
    assert_eq!(moved_in_order(&situation(rows).files, &plan), Ok(()), "{words:?}");
}

/// The moves of a plan in the order in which they are carried out.
fn order(rows: &str) -> Vec<String> {
    let plan = plan(&situation(rows), &rules());
    let step = |m: &super::plan::Move| format!("{} -> {}", plan.path(m.from), plan.path(m.to));
    plan.moves.iter().map(step).collect()
}

/// Makes directories and renames as the steps of a run do, and says what cannot be done.
fn moved_in_order(before: &Pair<Files>, plan: &Plan) -> Result<(), String> {
    let names = |side| before[side].keys().map(|path| path.as_bytes().to_vec()).collect();
    let mut there: Pair<Vec<Vec<u8>>> = Pair::from_fn(names);
    for step in &plan.moves {
        let Some(on) = step.on else { continue };
        let (from, to) = (plan.path(step.from), plan.path(step.to));
        let shown = format!("{} -> {}", from.shown(), to.shown());
        if !there[on].contains(&from.as_bytes().to_vec()) {
            return Err(format!("{shown}: there is nothing to rename"));
        }
        if there[on].contains(&to.as_bytes().to_vec()) {
            return Err(format!("{shown}: something is there"));
        }
        let mut parents = Vec::new();
        let mut at = plan.delta.parent(step.to);
        while at != super::Delta::ROOT {
            parents.push(at);
            at = plan.delta.parent(at);
        }
        for parent in parents.into_iter().rev() {
            let path = plan.path(parent).as_bytes().to_vec();
            if !there[on].contains(&path) {
                if plan.verdict(parent).act != (Act::Send { to: on }) {
                    return Err(format!("{shown}: its directory is not there and does not come"));
                }
                there[on].push(path);
            }
        }
        for path in &mut there[on] {
            if *path == from.as_bytes() || path.starts_with(&[from.as_bytes(), b"/"].concat()) {
                *path = [to.as_bytes(), &path[from.as_bytes().len()..]].concat();
            }
        }
    }
    Ok(())
}

/// Where each of some entries is: its directory, if not the root, and its name.
type Places = Vec<(Option<usize>, String)>;

fn path_in(places: &Places, at: usize) -> String {
    match &places[at] {
        (None, name) => name.clone(),
        (Some(parent), name) => format!("{}/{name}", path_in(places, *parent)),
    }
}

fn is_within(places: &Places, at: usize, top: usize) -> bool {
    at == top || places[at].0.is_some_and(|parent| is_within(places, parent, top))
}

/// Gives an entry a name that nothing had before, in another directory; not within itself.
fn rename(places: &mut Places, what: usize, into: Option<usize>, name: String) {
    if into.is_none_or(|into| !is_within(places, into, what)) {
        places[what] = (into, name);
    }
}

/// Two sides that held the same when they were last in step; an entry is a directory or not.
fn renamed(are_dirs: &[bool], before: &Places, now: [&Places; 2]) -> String {
    let mut names: BTreeMap<String, [Option<usize>; 4]> = BTreeMap::new();
    for at in 0..before.len() {
        for (column, places) in [before, before, now[0], now[1]].into_iter().enumerate() {
            names.entry(path_in(places, at)).or_default()[column] = Some(at);
        }
    }
    let word = |at: Option<usize>| match at {
        None => "-".to_owned(),
        Some(at) if are_dirs[at] => format!("d#{}", at + 1),
        Some(at) => format!("f{at}@1#{}", at + 1),
    };
    names.iter().map(|(path, row)| format!("{path}: {}\n", row.map(word).join(" "))).collect()
}

/// An entry of the tree of before: in which directory, if there is one, and whether it is one.
fn any_tree() -> impl Strategy<Value = Vec<(usize, bool)>> {
    prop::collection::vec((0usize..100, prop::bool::weighted(0.7)), 1..8)
}

/// What, into which, and on which side.
fn any_renames() -> impl Strategy<Value = Vec<(usize, usize, usize)>> {
    prop::collection::vec((0usize..100, 0usize..100, 0usize..2), 1..7)
}

/// The tree of before, and what each side made of it.
fn play(
    tree: &[(usize, bool)],
    renames: &[(usize, usize, usize)],
    on_both: bool,
) -> (Vec<bool>, Places, [Places; 2]) {
    let are_dirs: Vec<bool> = tree.iter().map(|(_, is_dir)| *is_dir).collect();
    // the root among them
    let pick = |number: usize, below: usize| {
        let dirs: Vec<usize> = (0..below).filter(|at| are_dirs[*at]).collect();
        dirs.get(number % (dirs.len() + 1)).copied()
    };
    let place = |(at, (into, _)): (usize, &(usize, bool))| {
        // names in no order that goes with depth or age
        (pick(*into, at), format!("{}{at}", ["m", "c", "x"][at % 3]))
    };
    let before: Places = tree.iter().enumerate().map(place).collect();
    let mut now = [before.clone(), before.clone()];
    for (count, (what, into, side)) in renames.iter().enumerate() {
        let name = format!("{}{count}-{side}", ["q", "b", "z"][into % 3]);
        let places = &mut now[if on_both { *side } else { 0 }];
        rename(places, what % tree.len(), pick(*into, tree.len()), name);
    }
    (are_dirs, before, now)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// However one side renamed what it has, into each other and inside out: the other
    /// follows by renaming and does nothing else.
    #[test]
    fn one_side_follows_whatever_the_other_renamed(tree in any_tree(), renames in any_renames()) {
        let (are_dirs, before, now) = play(&tree, &renames, false);
        let rows = renamed(&are_dirs, &before, [&now[0], &now[1]]);
        let situation = situation(&rows);
        let plan = plan(&situation, &rules());
        let words = words(&plan);
        prop_assert!(words.iter().all(|word| word.starts_with(">> move ")), "{rows}{words:?}");
        prop_assert_eq!(moved_in_order(&situation.files, &plan), Ok(()), "{}{:?}", rows, words);
        let after = afterwards(&situation, &plan);
        let paths = Pair::from_fn(|side| after.files[side].keys().cloned().collect::<Vec<_>>());
        prop_assert_eq!(paths.initiator, paths.target, "{}{:?}", rows, words);
    }

    /// Where both renamed, what cannot follow stays a deletion and a creation; each move
    /// of the plan can be made when its turn comes, and a second run has nothing to do.
    #[test]
    fn what_both_sides_renamed_can_be_followed_in_the_order_of_the_plan(
        tree in any_tree(),
        renames in any_renames(),
    ) {
        let (are_dirs, before, now) = play(&tree, &renames, true);
        let rows = renamed(&are_dirs, &before, [&now[0], &now[1]]);
        let situation = situation(&rows);
        let first = plan(&situation, &rules());
        let done = words(&first);
        prop_assert_eq!(moved_in_order(&situation.files, &first), Ok(()), "{}{:?}", rows, done);
        let after = afterwards(&situation, &first);
        let paths = Pair::from_fn(|side| after.files[side].keys().cloned().collect::<Vec<_>>());
        prop_assert_eq!(paths.initiator, paths.target, "{}{:?}", rows, done);
        let second = plan(&after, &rules());
        prop_assert!(second.is_empty(), "{}{:?} then {:?}", rows, done, words(&second));
    }
}

#[test]
fn without_times_of_birth_a_move_is_in_doubt_until_the_contents_are_compared() {
    let as_two = [">> delete a", ">> send b"];
    for (what, rows, in_doubt) in [
        ("none is known", "a: f1@1#5~ f1@1 - f1@1\nb: - - f1@1#5~ -", true),
        ("it was not known then", "a: f1@1#5~ f1@1 - f1@1\nb: - - f1@1#5 -", true),
        ("it is not known now", "a: f1@1#5 f1@1 - f1@1\nb: - - f1@1#5~ -", true),
        ("another size", "a: f1@1#5~ f1@1 - f1@1\nb: - - f2@1#5~ -", false),
        ("another time", "a: f1@1#5~ f1@1 - f1@1\nb: - - f1@2#5~ -", false),
    ] {
        let situation = situation(rows);
        let planned = |rules: &Rules| {
            let plan = reconcile(&situation.trees, &situation.baseline, rules).unwrap();
            let mut words = words(&plan);
            words.sort();
            (words, plan)
        };
        let (words, first) = planned(&rules());
        assert_eq!(words, as_two, "{what}");
        let node = |side: Side, name| situation.trees[side].find(&path(name)).unwrap();
        let doubt = Pair::new(node(Side::Initiator, "b"), node(Side::Target, "a"));
        assert_eq!(first.doubts, if in_doubt { vec![doubt] } else { vec![] }, "{what}");
        for (answer, settled) in [
            (Comparison::Same, &[">> move a -> b"][..]),
            (Comparison::Different, &as_two),
            (Comparison::Unknown, &as_two),
        ] {
            let mut rules = rules();
            rules.settled.insert(doubt, answer);
            let (words, second) = planned(&rules);
            assert_eq!(words, if in_doubt { settled } else { &as_two }, "{what}: {answer:?}");
            assert_eq!(second.doubts, [], "{what}: settled");
        }
    }
    let link = "a: l:x@1#5~ l:x@1 - l:x@1\nb: - - l:x@1#5~ -";
    assert_eq!(planned(link, &rules()).0, as_two, "a link is made anew");
    let dir = "d: d#5~ d - d\ne: - - d#5~ -";
    let (words, plan) = planned(dir, &rules());
    assert_eq!((words, plan.doubts), (vec![">> delete d".into(), ">> tree e".into()], vec![]));
}

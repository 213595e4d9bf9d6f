//! What is in doubt, how an answer settles it, and what is done where there is no answer (spec 8,
//! "The same").

use super::record::record;
use super::testing::{Situation, afterwards, path, plan, plan_with, rules, situation, words};
use super::{Plan, Rules, as_found, reconcile};
use crate::state::{Baseline, Recorded};
use crate::tree::same::Answer;
use crate::tree::{Inode, Pair, Side, Stamp, Tree};

/// What is planned when every doubt gets this answer, and how many there were.
fn with_answer(situation: &Situation, rules: &Rules, answer: Answer) -> (Vec<String>, usize) {
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
        for (answer, expected) in
            [(Answer::Same, same), (Answer::Different, different), (Answer::Unknown, unknown)]
        {
            let (got, asked) = with_answer(&situation, &rules(), answer);
            assert_eq!(got, **expected, "{what}: {answer:?}");
            assert_eq!(asked, rows.lines().count(), "{what}: {answer:?}");
        }
        let first = plan_with(&situation, &rules(), |_, _| Answer::Same);
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
        with_answer(&situation, &rules(), Answer::Different),
        (expected.map(str::to_owned).to_vec(), 1)
    );
    assert_eq!(with_answer(&situation, &rules(), Answer::Same), (vec![], 1));
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
    assert_eq!(with_answer(&situation, &rules, Answer::Same), (vec![">> time a 1".to_owned()], 1));
}

#[test]
fn a_replica_whose_root_is_another_directory_has_no_inodes_to_go_by() {
    let rows = "a: f1@1#5 f1@1 f1@1#6 f1@1\nb: f1@1#8 f1@1 - f1@1\nc: - - f1@1#8 -";
    let roots = |ino| Pair::new(Some(Inode { dev: 0, ino }), None);
    for (root, expected) in
        [(7, &[">> delete b", ">> send c"][..]), (9, &[">> move b -> c", ">> send a"])]
    {
        let mut situation = situation(rows);
        situation.baseline.header_mut().roots = roots(9);
        situation.trees.initiator.entry_mut(Tree::ROOT).ino = root;
        let plan = plan_with(&situation, &rules(), |_, _| Answer::Different);
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
        let (got, asked) = with_answer(&situation, &rules(), Answer::Same);
        assert_eq!((got.len(), asked), (0, if renumbered { 0 } else { anew }), "{anew} of {all}");
        assert_eq!(plan(&situation, &rules()).renumbered.initiator, renumbered);
    }
}

/// What `--initialize` records of each path.
fn initialised(situation: &Situation, answer: Answer) -> (Vec<String>, Situation) {
    let mut rules = rules();
    let trees = &situation.trees;
    let (plan, achieved) = loop {
        let (plan, achieved) = as_found(trees, &rules);
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
    let (known, after) = initialised(&before, Answer::Same);
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
    let (known, _) = initialised(&before, Answer::Different);
    assert_eq!(known, ["a", "d", "l", "m"]);
}

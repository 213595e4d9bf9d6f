//! What proves that a name has moved, and what does not: in doubt it is a deletion and a
//! creation.

use super::testing::{plan, rules, situation, words};
use super::{Doubt, Plan, Rules};
use crate::tree::Side;

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
fn without_times_of_birth_a_move_is_in_doubt_until_the_contents_are_compared() {
    let as_two = [">> delete a", ">> send b"];
    for (what, rows, in_doubt) in [
        ("none is known", "a: f1@1#5~ f1@1 - f1@1\nb: - - f1@1#5~ -", true),
        ("it was not known then", "a: f1@1#5~ f1@1 - f1@1\nb: - - f1@1#5 -", true),
        ("it is not known now", "a: f1@1#5 f1@1 - f1@1\nb: - - f1@1#5~ -", true),
        ("another size", "a: f1@1#5~ f1@1 - f1@1\nb: - - f2@1#5~ -", false),
        ("another time", "a: f1@1#5~ f1@1 - f1@1\nb: - - f1@2#5~ -", false),
    ] {
        let (words, first) = planned(rows, &rules());
        assert_eq!(words, as_two, "{what}");
        let doubt = Doubt {
            moved_on: Side::Initiator,
            from: super::testing::path("a"),
            to: super::testing::path("b"),
        };
        let expected = if in_doubt { vec![doubt.clone()] } else { vec![] };
        assert_eq!(first.doubts, expected, "{what}");
        for (same, settled) in [(true, &[">> move a -> b"][..]), (false, &as_two)] {
            let mut rules = rules();
            rules.settled.insert(doubt.clone(), same);
            let (words, second) = planned(rows, &rules);
            assert_eq!(words, if in_doubt { settled } else { &as_two }, "{what}: {same}");
            assert_eq!(second.doubts, [], "{what}: settled");
        }
    }
    let link = "a: l:x@1#5~ l:x@1 - l:x@1\nb: - - l:x@1#5~ -";
    assert_eq!(planned(link, &rules()).0, as_two, "a link is made anew");
    let dir = "d: d#5~ d - d\ne: - - d#5~ -";
    let (words, plan) = planned(dir, &rules());
    assert_eq!((words, plan.doubts), (vec![">> delete d".into(), ">> tree e".into()], vec![]));
}

use crate::reconcile::Rules;
use crate::reconcile::testing::{Situation, afterwards, plan, rules, situation, words};
use crate::tree::{Pair, RelPath, Side};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn linked() -> Rules {
    let mut rules = rules();
    rules.preserve.hardlinks = true;
    rules
}

/// Names with the size of what they hold, and which of them are one file.
fn linkage(situation: &Situation, side: Side) -> Vec<(u64, Vec<RelPath>)> {
    let mut groups: BTreeMap<u64, (u64, Vec<RelPath>)> = BTreeMap::new();
    for (path, (_, entry)) in &situation.files[side] {
        let group = groups.entry(entry.ino).or_default();
        group.0 = entry.size;
        group.1.push(path.clone());
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by(|a, b| a.1.cmp(&b.1));
    groups
}

#[test]
fn names_of_one_inode_go_together() {
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "in step",
            "a: f1@1&5 f1@1&5 f1@1&5 f1@1&5
             b: f1@1&5 f1@1&5 f1@1&5 f1@1&5",
            &[],
        ),
        (
            "a first run",
            "a: - - f1@1&5 -
             b: - - f1@1&5 -",
            &[">> send a", ">> send b"],
        ),
        (
            "a new name of an unchanged inode is linked",
            "a: f1@1 f1@1 f1@1&5 f1@1
             b: - - f1@1&5 -",
            &[">> link a", ">> link b"],
        ),
        (
            "new content under all names",
            "a: f1@1&5 f1@1&5 f2@9&5 f1@1&5
             b: f1@1&5 f1@1&5 f2@9&5 f1@1&5",
            &[">> send a", ">> send b"],
        ),
        (
            "two files in step are joined on the target",
            "a: f1@1 f1@1 f1@1 f1@1&5
             b: f1@1 f1@1 f1@1 f1@1&5",
            &["<< link a", "<< link b"],
        ),
        (
            "one name leaves with the same content",
            "a: f1@1&5 f1@1&5 f1@1&5 f1@1&5
             b: f1@1&5 f1@1&5 f1@1&5 f1@1&5
             c: f1@1&5 f1@1&5 f1@1#6 f1@1&5",
            &[">> send c"],
        ),
        (
            "one name leaves with new content",
            "a: f1@1&5 f1@1&5 f1@1&5 f1@1&5
             b: f1@1&5 f1@1&5 f2@9#6 f1@1&5",
            &[">> send b"],
        ),
        (
            "a name is deleted",
            "a: f1@1&5 f1@1&5 f1@1&5 f1@1&5
             b: f1@1&5 f1@1&5 - f1@1&5",
            &[">> delete b"],
        ),
        (
            "a name is renamed",
            "a: f1@1&5 f1@1&5 f1@1&5 f1@1&5
             b: f1@1&5 f1@1&5 - f1@1&5
             c: - - f1@1&5 -",
            &[">> delete b", ">> link a", ">> link c"],
        ),
        (
            "a name joins and brings new content",
            "a: f1@1 f1@1 f1@1 f1@1
             b: f1@1 f1@1 f2@9&5 f1@1
             c: f1@1 f1@1 f2@9&5 f1@1",
            &[">> send b", ">> send c"],
        ),
        (
            "each side changed another name: each goes its way, and none is lost",
            "a: f1@1&5 f1@1&5 f2@9#6 f1@1&5
             b: f1@1&5 f1@1&5 f1@1&5 f3@8#7",
            &[">> send a", "<< send b"],
        ),
        (
            "one side edits the file, the other gives it a name",
            "a: f1@1&5 f1@1&5 f2@9&5 f1@1&5
             b: f1@1&5 f1@1&5 f2@9&5 f1@1&5
             c: - - - f1@1&5",
            &[">> send a", ">> send b", "<< send c", "conflict a initiator Links"],
        ),
        (
            "both sides link in different ways: the prevailing one's way",
            "a: f1@1 f1@1 f1@1&5 f1@1
             b: f1@1 f1@1 f1@1&5 f1@1&6
             c: f1@1 f1@1 f1@1 f1@1&6",
            &[">> send a", ">> send b", "conflict a initiator Links"],
        ),
        (
            "whole directories with links between them go name by name",
            "d: - - d -
             d/a: - - f1@1&5 -
             e: - - d -
             e/b: - - f1@1&5 -",
            &[">> send d", ">> send d/a", ">> send e", ">> send e/b"],
        ),
    ];
    for (what, rows, expected) in cases {
        let before = situation(rows);
        let first = plan(&before, &linked());
        let (mut got, mut expected) = (words(&first), expected.to_vec());
        got.sort();
        expected.sort_unstable();
        assert_eq!(got, expected, "{what}");
        let after = afterwards(&before, &first);
        let (i, t) = (linkage(&after, Side::Initiator), linkage(&after, Side::Target));
        assert_eq!(i, t, "{what}");
        let second = plan(&after, &linked());
        assert!(second.is_empty(), "{what}: the second run: {:?}", words(&second));
    }
}

#[test]
fn links_alone_follow_the_side_that_changed_them_whichever_prevails() {
    let linked_here = "a: f1@1 f1@1 f1@1&5 f1@1\nb: f1@1 f1@1 f1@1&5 f1@1";
    let linked_there = "a: f1@1 f1@1 f1@1 f1@1&5\nb: f1@1 f1@1 f1@1 f1@1&5";
    let (over, back) = ([">> link a", ">> link b"], ["<< link a", "<< link b"]);
    // a one-way run brings over how it is there, linked or not
    let (part_over, part_back) = ([">> send b"], ["<< send b"]);
    for (one_way, rows, expected) in [
        (None, linked_here, &over[..]),
        (None, linked_there, &back),
        (Some(Side::Initiator), linked_here, &over),
        (Some(Side::Target), linked_there, &back),
        (Some(Side::Initiator), linked_there, &part_over),
        (Some(Side::Target), linked_here, &part_back),
    ] {
        for prevalence in Side::BOTH {
            let mut rules = linked();
            (rules.policy.prevalence, rules.policy.one_way_from) = (prevalence, one_way);
            let plan = plan(&situation(rows), &rules);
            assert_eq!(words(&plan), expected, "{prevalence}, {one_way:?}\n{rows}");
        }
    }
}

#[test]
fn names_that_go_alone_are_in_no_group() {
    for (what, rows, groups) in [
        (
            "one name leaves",
            "a: f1@1&5 f1@1&5 f1@1&5 f1@1&5
             b: f1@1&5 f1@1&5 f1@1&5 f1@1&5
             c: f1@1&5 f1@1&5 f1@1#6 f1@1&5",
            0,
        ),
        ("two names go", "a: - - f1@1&5 -\nb: - - f1@1&5 -", 1),
    ] {
        assert_eq!(plan(&situation(rows), &linked()).groups.len(), groups, "{what}");
    }
}

#[test]
fn names_from_both_sides_to_a_file_in_step_are_links_and_no_copies() {
    let rows = "a: f1@1 f1@1 f1@1&5 f1@1&6\nb: - - f1@1&5 -\nc: - - - f1@1&6";
    let mut got = words(&plan(&situation(rows), &linked()));
    got.sort();
    assert_eq!(got, ["<< link a", "<< link c", ">> link a", ">> link b"]);
}

#[test]
fn an_opposition_is_told_once_for_each_name_whatever_else_is_told() {
    let rows = "a: f1@1&5 f1@1&5 f2@9&5 f1@1&5
                b: - - f2@9&5 f1@1&5
                c: - - - f1@1&5
                d: - - - f1@1&5
                m: f1@1&8 f1@1&8 f2@9&8 f1@1&8
                n: - - - f1@1&8
                z: f1@1 f1@1 f2@5 f3@4";
    let plan = plan(&situation(rows), &linked());
    let mut told: Vec<_> =
        words(&plan).into_iter().filter(|line| line.starts_with("conflict")).collect();
    assert!(told.contains(&"conflict m initiator Links".to_owned()), "{told:?}");
    assert!(told.contains(&"conflict z initiator Newer".to_owned()), "{told:?}");
    assert!(told.len() > 2, "{told:?}");
    let all = told.len();
    told.sort();
    told.dedup();
    assert_eq!(all, told.len(), "{told:?}");
}

#[test]
fn a_mode_that_goes_along_with_a_file_is_not_set_apart() {
    // c leaves the group and gets its content anew; its new mode comes with it
    let rows = "a: f1@1&5 f1@1&5 f1@1&5 f1@1&5
                b: f1@1&5 f1@1&5 f1@1&5 f1@1&5
                c: f1@1&5 f1@1&5 f1@1%600#6 f1@1&5";
    assert_eq!(words(&plan(&situation(rows), &linked())), [">> send c"]);
    // and where the mode was changed on the other side, it comes back
    let rows = "a: f1@1&5 f1@1&5 f1@1&5 f1@1%600&5
                b: f1@1&5 f1@1&5 f1@1&5 f1@1%600&5
                c: f1@1&5 f1@1&5 f1@1#6 f1@1%600&5";
    let got = words(&plan(&situation(rows), &linked()));
    assert!(got.iter().any(|line| line.ends_with("c") && line.starts_with("<< ")), "{got:?}");
    assert!(got.contains(&">> send c".to_owned()), "{got:?}");
}

#[test]
fn without_the_setting_links_mean_nothing() {
    let before = situation("a: f1@1 f1@1 f1@1 f1@1&5\nb: f1@1 f1@1 f1@1 f1@1&5");
    assert!(plan(&before, &rules()).is_empty());
}

/// Each name's inode on each side, before and now; 0 is absent. Before, all held the same;
/// now each inode may have been edited.
fn rows(names: &[[usize; 4]], edited: &[[i64; 4]; 2]) -> String {
    let mut text = String::new();
    for (at, [was_i, was_t, now_i, now_t]) in names.iter().enumerate() {
        let was = |inode: usize| if inode == 0 { "-".into() } else { format!("f1@1&{inode}") };
        let now = |inode: usize, side: usize| match inode {
            0 => "-".into(),
            inode => {
                let time = edited[side][inode % 4];
                format!("f{time}@{time}&{inode}")
            }
        };
        text += &format!(
            "n{at}: {} {} {} {}\n",
            was(*was_i),
            was(*was_t),
            now(*now_i, 0),
            now(*now_t, 1)
        );
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    /// However names were linked, edited and deleted: both sides end alike, no content is
    /// lost that only an edit on one side had, and a second run does nothing.
    #[test]
    fn any_change_of_links_ends_in_step(
        names in prop::collection::vec([0usize..4, 1usize..4, 0usize..4, 0usize..4], 1..6),
        edited in [[1i64..3, 1..3, 1..3, 1..3], [1i64..4, 1..4, 1..4, 1..4]],
    ) {
        // the same names were there before, linked alike or not (the setting may be new)
        let names: Vec<[usize; 4]> = names
            .into_iter()
            .map(|[was_i, was_t, i, t]| [was_i, if was_i == 0 { 0 } else { was_t }, i, t])
            .collect();
        let before = situation(&rows(&names, &edited));
        let first = plan(&before, &linked());
        let after = afterwards(&before, &first);
        let sides = Pair::from_fn(|side| linkage(&after, side));
        prop_assert_eq!(&sides.initiator, &sides.target, "{:?}", words(&first));
        let second = plan(&after, &linked());
        prop_assert!(second.is_empty(), "{:?} then {:?}", words(&first), words(&second));
    }
}

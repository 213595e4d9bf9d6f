//! What proves that a name has moved, and what does not: in doubt it is a deletion and a
//! creation.

use super::testing::{Files, afterwards, path, plan, rules, situation, words};
use super::{Act, Plan, Rules, reconcile};
use crate::tree::same::Answer;
use crate::tree::{Pair, Side};
use proptest::prelude::*;
use std::collections::BTreeMap;

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
    let step = |m: &super::Move| format!("{} -> {}", plan.path(m.from), plan.path(m.to));
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
            (Answer::Same, &[">> move a -> b"][..]),
            (Answer::Different, &as_two),
            (Answer::Unknown, &as_two),
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

//! The decision table of spec 4 as cases: a row is a path with its baseline and its
//! present state on both sides. After each case the plan is carried out and recorded, and
//! a second run must find nothing to do.

use super::Rules;
use super::testing::{
    afterwards, left_for, path, plan, quick_answer_holds, rules, situation, words,
};
use crate::report::left_alone::LeftAlone;
use crate::state::{InflightPath, Part, Recorded};
use crate::tree::{Pair, Side};

type Case = (&'static str, &'static str, &'static [&'static str]);

fn check(cases: &[Case], rules: &Rules) {
    for (what, rows, expected) in cases {
        let before = situation(rows);
        let first = plan(&before, rules);
        let mut got = words(&first);
        let mut expected: Vec<String> = expected.iter().map(|line| (*line).to_owned()).collect();
        got.sort();
        expected.sort();
        assert_eq!(got, expected, "{what}:{rows}");
        let after = afterwards(&before, &first);
        let second = plan(&after, rules);
        let again: Vec<String> = words(&second)
            .into_iter()
            .filter(|l| !l.starts_with("Warn") && !l.starts_with("Error"))
            .collect();
        assert_eq!(again, Vec::<String>::new(), "{what}: the second run{rows}");
        assert!(second.is_empty(), "{what}: the second run sets times{rows}");
        assert!(quick_answer_holds(&before, rules), "{what}{rows}");
        assert!(quick_answer_holds(&after, rules), "{what}: the second run{rows}");
    }
}

/// The same cases with the two sides exchanged.
fn mirrored(cases: &[Case]) -> Vec<(String, String, Vec<String>)> {
    cases
        .iter()
        .map(|(what, rows, expected)| {
            let rows = rows
                .lines()
                .map(str::trim)
                .filter(|row| !row.is_empty())
                .map(|row| {
                    let (name, rest) = row.split_once(": ").unwrap();
                    let w: Vec<&str> = rest.split_whitespace().collect();
                    format!("\n{name}: {} {} {} {}", w[1], w[0], w[3], w[2])
                })
                .collect();
            let expected = expected
                .iter()
                .map(|line| {
                    line.replace("<<", "§")
                        .replace(">>", "<<")
                        .replace('§', ">>")
                        .replace("initiator", "§")
                        .replace("target", "initiator")
                        .replace('§', "target")
                })
                .collect();
            (format!("{what} (mirrored)"), rows, expected)
        })
        .collect()
}

/// Runs cases as written, and mirrored with the settings mirrored.
fn check_both_ways(cases: &[Case], rules: &Rules) {
    check(cases, rules);
    let mut turned = rules.clone();
    let swap = |pair: Pair<bool>| Pair::new(pair.target, pair.initiator);
    turned.policy.prevalence = rules.policy.prevalence.other();
    turned.policy.skip_deletion = swap(rules.policy.skip_deletion);
    turned.policy.one_way_from = rules.policy.one_way_from.map(Side::other);
    for (what, rows, expected) in mirrored(cases) {
        let before = situation(&rows);
        let first = plan(&before, &turned);
        let (mut got, mut expected) = (words(&first), expected);
        got.sort();
        expected.sort();
        assert_eq!(got, expected, "{what}:{rows}");
        let second = plan(&afterwards(&before, &first), &turned);
        assert!(second.is_empty(), "{what}: the second run {:?}{rows}", words(&second));
    }
}

#[test]
fn one_path() {
    check_both_ways(
        &[
            ("nothing changed", "a: f1@1 f1@1 f1@1 f1@1", &[]),
            ("changed here", "a: f1@1 f1@1 f2@5 f1@1", &[">> send a"]),
            ("changed here to an older time", "a: f1@9 f1@9 f2@5 f1@9", &[">> send a"]),
            ("changed alike on both sides", "a: f1@1 f1@1 f2@5 f2@5", &[]),
            (
                "changed on both sides, newer here",
                "a: f1@1 f1@1 f2@5 f3@4",
                &[">> send a", "conflict a initiator Newer"],
            ),
            (
                "changed on both sides at the same time",
                "a: f1@1 f1@1 f2@5 f3@5",
                &[">> send a", "conflict a initiator Tie"],
            ),
            ("deleted here", "a: f1@1 f1@1 - f1@1", &[">> delete a"]),
            (
                "deleted here, changed there",
                "a: f1@1 f1@1 - f2@5",
                &["<< send a", "conflict a target NewWorkBeatsDeletion"],
            ),
            ("deleted here, another mode there", "a: f1@1 f1@1 - f1@1%600", &[">> delete a"]),
            ("deleted on both sides", "a: f1@1 f1@1 - -", &[]),
            (
                "first contact, newer there",
                "a: - - f1@1 f2@5",
                &["<< send a", "conflict a target Newer"],
            ),
            (
                "first contact at the same time",
                "a: - - f1@5 f2@5",
                &[">> send a", "conflict a initiator Tie"],
            ),
            ("first contact, the same", "a: - - f1@1 f1@1", &[]),
            ("only here", "a: - - f1@1 -", &[">> send a"]),
            ("both unchanged, only one there", "a: f1@1 - f1@1 -", &[">> send a"]),
            ("both unchanged, recorded as different", "a: f1@1 f2@2 f1@1 f2@2", &[]),
            ("a link changed its target", "a: l:x@1 l:x@1 l:y@1 l:x@1", &[">> send a"]),
            ("a file became a link", "a: f1@1 f1@1 l:y@5 f1@1", &[">> send a"]),
            (
                "a file against a link, both changed",
                "a: f1@1 f1@1 l:y@5 f2@6",
                &["<< send a", "conflict a target Newer"],
            ),
            ("deleted here where nothing was there", "a: f1@1 - - f1@7", &["<< send a"]),
        ],
        &rules(),
    );
}

#[test]
fn metadata_is_a_field_of_its_own() {
    check_both_ways(
        &[
            ("changed here", "a: f1@1 f1@1 f1@1%600 f1@1", &[">> attr a"]),
            ("changed there", "a: f1@1 f1@1 f1@1 f1@1%600", &["<< attr a"]),
            ("on both sides alike", "a: f1@1 f1@1 f1@1%600 f1@1%600", &[]),
            ("on both, same ctime", "a: f1@1 f1@1 f1@1%600 f1@1%640", &[">> attr a"]),
            (
                "content one way, metadata the other",
                "a: f1@1 f1@1 f2@5 f1@1%600",
                &["<< set a", ">> send a"],
            ),
            ("content and metadata the same way", "a: f1@1 f1@1 f2@5%600 f1@1", &[">> send a"]),
            ("first contact, equal content", "a: - - f1@1%600 f1@1", &[">> attr a"]),
            ("of a directory", "d: d d d%700 d", &[">> attr d"]),
            ("of a directory that was closed there", "d: d d d d%555", &["<< attr d"]),
            (
                "and into which something goes",
                "d: d d d d%555\nd/a: f1@1 f1@1 f2@5 f1@1",
                &["<< set d", ">> send d/a"],
            ),
            (
                "and in which something was edited",
                "d: d d d d%555\nd/a: f1@1 f1@1 f1@1 f2@5",
                &["<< send d/a", "<< attr d"],
            ),
            ("of a directory that only its owner may write", "d: d d d d%300", &["<< attr d"]),
            ("of files recorded as different", "a: f1@1 f2@2 f1@1%600 f2@2", &[">> attr a"]),
        ],
        &rules(),
    );
}

#[test]
fn what_was_on_its_way_when_a_run_was_broken_off_gets_the_metadata_of_its_sender() {
    let rows = "d: - - d%755 d%755\nd/e: - - d%700 d%755\nf: - - f1@1%600 f1@1";
    let with_rows = |rows: &str, paths: &[(&str, Part, Side)]| {
        let mut rules = rules();
        let inflight = |(name, part, to): &(&str, Part, Side)| {
            (path(name), InflightPath { path: path(name), part: *part, to: *to })
        };
        rules.was_brought = paths.iter().map(inflight).collect();
        let mut words = words(&plan(&situation(rows), &rules));
        words.sort_by_key(|word| word.chars().rev().collect::<String>());
        words
    };
    let with = |paths: &[(&str, Part, Side)]| with_rows(rows, paths);
    let (to_initiator, to_target) = (Side::Initiator, Side::Target);
    assert_eq!(with(&[]), [">> attr d/e", ">> attr f"]);
    assert_eq!(with(&[("d", Part::Subtree, to_initiator)]), ["<< attr d/e", ">> attr f"]);
    assert_eq!(
        with(&[("d", Part::Itself, to_initiator)]),
        [">> attr d/e", ">> attr f"],
        "only d itself"
    );
    assert_eq!(with(&[("f", Part::Itself, to_initiator)]), [">> attr d/e", "<< attr f"]);
    // the innermost says it
    let both = [("d", Part::Subtree, to_initiator), ("d/e", Part::Subtree, to_target)];
    assert_eq!(with(&both), [">> attr d/e", ">> attr f"]);
    // half of the metadata had come: both sides changed, and the receiver later
    let half = "a: f1@1 f1@1 f1@1%600 f1@1%640";
    for (to, expected) in [(to_initiator, "<< attr a"), (to_target, ">> attr a")] {
        for part in [Part::Itself, Part::Metadata] {
            assert_eq!(with_rows(half, &[("a", part, to)]), [expected]);
        }
    }
    // and where only the one changed, that is what counts
    let one = "a: f1@1 f1@1 f1@1%600 f1@1";
    assert_eq!(with_rows(one, &[("a", Part::Metadata, to_initiator)]), [">> attr a"]);
}

#[test]
fn what_a_run_that_was_broken_off_had_taken_away_is_not_deleted() {
    // the directory won against the file on the target, which has made way
    let rows = "d: d d d d@9\nd/e: f1@1 f1@1 f2@5 -\nd/k: f1@1 f1@1 f1@1 -\nd/n: - - f1@5 -";
    let with = |noted: &[(&str, Part, Side)]| {
        let mut rules = rules();
        for (name, part, to) in noted {
            let one = InflightPath { path: path(name), part: *part, to: *to };
            rules.explains_absence_at.entry(path(name)).or_default().push(one);
        }
        let mut words = words(&plan(&situation(rows), &rules));
        words.retain(|word| word.contains("d/k"));
        words
    };
    let (here, there) = (Side::Initiator, Side::Target);
    assert_eq!(with(&[]), ["<< delete d/k"], "nothing of ours explains it");
    for part in [Part::Subtree, Part::MakesWay] {
        assert_eq!(with(&[("d", part, there)]), [">> send d/k"], "{part:?}");
        assert_eq!(with(&[("d", part, here)]), ["<< delete d/k"], "{part:?} on the other side");
        assert_eq!(with(&[("d", Part::Itself, here), ("d", part, there)]), [">> send d/k"]);
        assert_eq!(with(&[("d/other", part, there)]), ["<< delete d/k"], "{part:?}");
    }
    assert_eq!(with(&[("d/k", Part::Itself, there)]), [">> send d/k"]);
    assert_eq!(with(&[("d", Part::Itself, there)]), ["<< delete d/k"], "only d itself");
    // as a whole it has not come back either
    let rows = "d: d d d -\nd/k: f1@1 f1@1 f1@1 -";
    let mut rules = rules();
    let one = InflightPath { path: path("d"), part: Part::MakesWay, to: there };
    rules.explains_absence_at.insert(path("d"), vec![one]);
    assert_eq!(words(&plan(&situation(rows), &rules)), [">> tree d"]);
}

#[test]
fn directories() {
    check_both_ways(
        &[
            ("a new one", "d: - - d -\nd/a: - - f1@1 -", &[">> tree d"]),
            (
                "a new one in a known one",
                "d: d d d@5 d\nd/e: - - d -\nd/e/a: - - f1@1 -\nd/f: - - f1@1 -",
                &[">> tree d/e", ">> send d/f"],
            ),
            (
                "a new one in a known one that is closed",
                "d: d%555 d%555 d@5%555 d%555\nd/e: - - d -\nd/e/g: - - d -\nd/e/g/a: - - f1@1 -",
                &[">> send d/e", ">> send d/e/g", ">> send d/e/g/a"],
            ),
            ("in a new one that is closed", "d: - - d%555 -\nd/e: - - d -", &[">> tree d"]),
            (
                "deleted here",
                "d: d d - d\nd/a: f1@1 f1@1 - f1@1",
                &[">> delete d", ">> delete d/a"],
            ),
            (
                "deleted here, something new there",
                "d: d d - d@3\nd/a: f1@1 f1@1 - f1@1\nd/b: - - - f1@1",
                &["<< send d", "<< send d/b", ">> delete d/a"],
            ),
            (
                "deleted here, something changed there",
                "d: d d - d\nd/a: f1@1 f1@1 - f2@3\nd/e: d d - d\nd/e/c: f1@1 f1@1 - f1@1",
                &[
                    "<< send d",
                    "<< send d/a",
                    ">> delete d/e",
                    ">> delete d/e/c",
                    "conflict d/a target NewWorkBeatsDeletion",
                ],
            ),
            (
                "deleted here, a new empty directory below there",
                "d: d d - d@3\nd/e: - - - d",
                &["<< tree d"],
            ),
            ("only its time changed", "d: d@1 d@1 d@7 d@1", &[]),
        ],
        &rules(),
    );
}

#[test]
fn kinds_in_conflict() {
    check_both_ways(
        &[
            (
                "a directory here against a file there, both changed",
                "a: f1@1 f1@1 d f2@9\na/b: - - f1@1 -",
                &[">> backup a", ">> tree a", "conflict a initiator Kinds"],
            ),
            (
                "a file here against a directory there with something new below",
                "a: d d f1@1 d\na/b: f1@1 f1@1 - f1@1\na/c: - - - f1@1",
                &[">> backup a", ">> send a", "conflict a initiator Kinds"],
            ),
            (
                "a directory became a file here, nothing changed there",
                "a: d d f1@5 d\na/b: f1@1 f1@1 - f1@1",
                &[">> deleted a", ">> send a"],
            ),
            (
                "a file became a directory here, nothing changed there",
                "a: f1@1 f1@1 d f1@1\na/b: - - f1@1 -",
                &[">> backup a", ">> tree a"],
            ),
            (
                "the winner's whole subtree stands, unchanged parts too",
                "a: d d d f1@9\na/b: f1@1 f1@1 f1@1 -\na/n: - - f1@3 -",
                &[">> backup a", ">> tree a", "conflict a initiator Kinds"],
            ),
            (
                "only the file's side changed: the directory goes",
                "a: d d d f1@9\na/b: f1@1 f1@1 f1@1 -",
                &["<< deleted a", "<< send a"],
            ),
            (
                "excluded content stands in the way",
                "a: d d f1@5 d\na/b: f1@1 f1@1 - f1@1\na/x: - - - x",
                &["Warn a"],
            ),
        ],
        &rules(),
    );
}

#[test]
fn excluded_and_unreadable() {
    check_both_ways(
        &[
            ("newly excluded", "a: f1@1 f1@1 x x", &[]),
            ("excluded on one side, gone on the other", "a: d d - xd\na/b: f1@1 f1@1 - -", &[]),
            ("excluded as a directory only", "a: f1@1 f1@1 f1@1 xd", &[]),
            (
                "a deleted directory with excluded content",
                "d: d d - d\nd/a: f1@1 f1@1 - f1@1\nd/x: - - - x",
                &[">> delete d/a"],
            ),
            (
                "a directory in the place of what the other side deleted, with excluded content",
                "d: l:x@1 l:x@1 d -\nd/x: - - x -",
                &[">> send d"],
            ),
            (
                "a new directory with excluded content",
                "d: - - d -\nd/a: - - f1@1 -\nd/x: - - x -",
                &[">> send d", ">> send d/a"],
            ),
        ],
        &rules(),
    );
    let situation = situation(
        "d: d d d u
         d/a: f1@1 f1@1 - -
         d/b: f1@1 f1@1 f2@2 -
         e: d d - d
         e/u: d d - u
         e/u/f: f1@1 f1@1 - -
         e/a: f1@1 f1@1 - f1@1",
    );
    let first = plan(&situation, &rules());
    assert_eq!(words(&first), [">> delete e/a"], "unreadable is not deleted");
    let after = afterwards(&situation, &first);
    let known: Vec<String> = after
        .baseline
        .records()
        .map(|item| item.unwrap())
        .filter(|(_, record)| matches!(record.was.target, Recorded::Seen(_)))
        .map(|(path, _)| path.shown())
        .collect();
    assert_eq!(known, ["d", "d/a", "d/b", "e", "e/u", "e/u/f"], "the baseline stays");
}

#[test]
fn skipped_deletions_are_remembered() {
    let mut rules = rules();
    rules.policy.skip_deletion.target = true;
    check_both_ways(
        &[
            ("skipped", "a: f1@1 f1@1 - f1@1", &[]),
            ("made on the other side", "a: f1@1 f1@1 f1@1 -", &["<< delete a"]),
            ("marked and unchanged", "a: - f1@1! - f1@1", &[]),
            ("marked and changed", "a: - f1@1! - f2@5", &["<< send a"]),
            ("marked and gone", "a: - f1@1! - -", &[]),
            ("marked and made a directory", "a: - f1@1! - d", &["<< tree a"]),
            ("marked and made anew here", "a: - f1@1! f3@4 f1@1", &[">> send a"]),
            (
                "something new below a marked directory",
                "d: - d! - d\nd/a: - f1@1! - f1@1\nd/n: - - - f1@1",
                &["<< send d", "<< send d/n"],
            ),
            ("a whole directory", "d: d d - d\nd/a: f1@1 f1@1 - f1@1", &[]),
            (
                "a move becomes a creation and a skipped deletion",
                "a: f1@1#5 f1@1 - f1@1\nb: - - f1@1#5 -",
                &[">> send b"],
            ),
            (
                "the same move on both sides needs no deletion",
                "a: f1@1#5 f1@1#6 - -\nb: - - f2@2#5 f1@1#6",
                &["== move a -> b", ">> send b"],
            ),
            (
                "a directory cannot give way to a file",
                "a: d d f1@5 d\na/b: f1@1 f1@1 - f1@1",
                &["Warn a"],
            ),
        ],
        &rules,
    );
    rules.policy.skip_deletion.target = false;
    check(&[("a mark outlives the setting", "a: - f1@1! - f1@1", &[])], &rules);
}

#[test]
fn moves() {
    check_both_ways(
        &[
            (
                "a file",
                "a: f1@1#5 f1@1 - f1@1\nb: - - f1@1#5 -",
                &[">> move a -> b"],
            ),
            (
                "a file into a new directory",
                "a: f1@1#5 f1@1 - f1@1\nd: - - d -\nd/b: - - f1@1#5 -",
                &[">> move a -> d/b", ">> send d"],
            ),
            (
                "a file into a directory that the other side deleted",
                "a: f1@1#5 f1@1 - f1@1\nd: d d d -\nd/b: - - f1@1#5 -\nd/c: f2 f2 f2 -",
                &[">> move a -> d/b", ">> send d", "<< delete d/c"],
            ),
            (
                "a directory in place of a file that the other side deleted",
                "s: d#4 d - d\ns/a: f1@1#5 f1@1 - f1@1\nd: d d d -\nd/e: f3 f3 d#4 -
                 d/e/a: - - f1@1#5 -",
                &[">> move s/a -> d/e/a", ">> send d", ">> send d/e", ">> delete s"],
            ),
            (
                "a move and an edit",
                "a: f1@1#5 f1@1 - f1@1\nb: - - f2@9#5 -",
                &[">> move a -> b", ">> send b"],
            ),
            (
                "a move, and another mode there",
                "a: f1@1#5 f1@1 - f1@1%600\nb: - - f1@1#5 -",
                &[">> move a -> b", "<< attr b"],
            ),
            (
                "changed there: deletion and creation",
                "a: f1@1#5 f1@1 - f3@7\nb: - - f1@1#5 -",
                &["<< send a", ">> send b", "conflict a target NewWorkBeatsDeletion"],
            ),
            (
                "the new name is taken there",
                "a: f1@1#5 f1@1 - f1@1\nb: - - f1@1#5 f9@9",
                &["<< send b", ">> delete a", "conflict b target Newer"],
            ),
            (
                "a directory, with a deletion, an edit and something new inside",
                "d: d#5 d - d\nd/a: f1@1#6 f1@1 - f1@1\nd/b: f1@1#7 f1@1 - f1@1\nd/c: f1@1#8 f1@1 - f1@1
                 e: - - d#5 -\ne/a: - - f1@1#6 -\ne/b: - - f2@3#7 -\ne/n: - - f1@1#9 -",
                &[">> move d -> e", ">> send e/b", ">> send e/n", ">> delete e/c"],
            ),
            (
                "a directory with a renamed file inside",
                "d: d#5 d - d\nd/a: f1@1#6 f1@1 - f1@1\ne: - - d#5 -\ne/b: - - f1@1#6 -",
                &[">> move d -> e", ">> move e/a -> e/b"],
            ),
            (
                "a directory that the other side changed below: file by file",
                "d: d#5 d - d\nd/a: f1@1#6 f1@1 - f1@1\nd/b: f1@1#7 f1@1 - f2@4
                 e: - - d#5 -\ne/a: - - f1@1#6 -\ne/b: - - f1@1#7 -",
                &[
                    "<< send d",
                    "<< send d/b",
                    ">> move d/a -> e/a",
                    ">> send e",
                    ">> send e/b",
                    "conflict d/b target NewWorkBeatsDeletion",
                ],
            ),
            (
                "the same move on both sides",
                "a: f1@1#5 f1@1#6 - -\nb: - - f1@1#5 f1@1#6",
                &[],
            ),
            (
                "the same move on both sides, edited here",
                "a: f1@1#5 f1@1#6 - -\nb: - - f2@2#5 f1@1#6",
                &["== move a -> b", ">> send b"],
            ),
            (
                "the same move of a directory on both sides, edited here",
                "d: d#5 d#6 - -\nd/a: f1@1#7 f1@1#8 - -\nd/c: f1@1#9 f1@1#10 - -
                 e: - - d#5 d#6\ne/a: - - f2@1#7 f1@1#8\ne/c: - - f1@1#9 f1@1#10",
                &["== move d -> e", ">> send e/a"],
            ),
            (
                "different moves leave both names",
                "a: f1@1#5 f1@1#6 - -\nb: - - f1@1#5 -\nc: - - - f1@1#6",
                &[">> send b", "<< send c"],
            ),
            (
                "a reused inode is no move",
                "a: f1@1 f1@1 - f1@1\nb: - - f7@9 -",
                &[">> send b", ">> delete a"],
            ),
            (
                "a swap is two updates",
                "a: f1@1#5 f1@1 f2@2#6 f1@1\nb: f2@2#6 f2@2 f1@1#5 f2@2",
                &[">> send a", ">> send b"],
            ),
        ],
        &rules(),
    );
    let mut off = rules();
    off.policy.detect_moves = false;
    check(
        &[(
            "switched off",
            "a: f1@1#5 f1@1 - f1@1\nb: - - f1@1#5 -",
            &[">> send b", ">> delete a"],
        )],
        &off,
    );
}

#[test]
fn forced_prevalence() {
    let mut rules = rules();
    rules.policy.force_prevalence = true;
    check_both_ways(
        &[
            (
                "the older one wins",
                "a: f1@1 f1@1 f2@5 f3@9",
                &[">> send a", "conflict a initiator Forced"],
            ),
            ("no conflict, no force", "a: f1@1 f1@1 f1@1 f3@9", &["<< send a"]),
        ],
        &rules,
    );
}

#[test]
fn lists_of_the_old_tool() {
    check_both_ways(
        &[
            ("deleted here since", "a: L L - f1@50", &[">> delete a"]),
            (
                "deleted here, changed there since",
                "a: L L - f1@150",
                &["<< send a", "conflict a target NewWorkBeatsDeletion"],
            ),
            ("both there and the same", "a: L L f1@50 f1@50", &[]),
            ("changed here since", "a: L L f2@150 f1@50", &[">> send a"]),
            (
                "different, both older than the list",
                "a: L L f2@50 f1@40",
                &[">> send a", "conflict a initiator Newer"],
            ),
            (
                "a directory deleted here",
                "d: L L - d@500\nd/a: L L - f1@3",
                &[">> delete d", ">> delete d/a"],
            ),
            ("new since", "a: - - f1@150 -", &[">> send a"]),
        ],
        &rules(),
    );
}

#[test]
fn one_way() {
    let mut rules = rules();
    rules.policy.one_way_from = Some(Side::Initiator);
    check_both_ways(
        &[
            ("new on the source", "a: - - f1@1 -", &[">> send a"]),
            ("new on the receiver", "a: - - - f1@1", &[">> delete a"]),
            ("deleted on the receiver", "a: f1@1 f1@1 f1@1 -", &[">> send a"]),
            ("deleted on the source", "a: f1@1 f1@1 - f2@9", &[">> delete a"]),
            ("older on the receiver", "a: f1@5 f1@5 f1@5 f2@3", &[">> send a"]),
            ("newer, but not changed on the receiver", "a: f1@1 f2@5 f1@1 f2@5", &[">> send a"]),
            ("another mode on the receiver", "a: f1@1 f1@1 f1@1 f1@1%600", &[">> attr a"]),
            (
                "a file for a directory",
                "a: d d f1@5 d\na/b: f1@1 f1@1 - f1@1",
                &[">> deleted a", ">> send a"],
            ),
            ("a directory new on the source", "d: - - d -\nd/a: - - f1@1 -", &[">> tree d"]),
            (
                "a directory new on the receiver",
                "d: - - - d\nd/a: - - - f1@1",
                &[">> delete d", ">> delete d/a"],
            ),
            (
                "a directory new on the receiver, with excluded content",
                "d: - - - d\nd/a: - - - f1@1\nd/x: - - - x",
                &[">> delete d/a"],
            ),
        ],
        &rules,
    );
    for row in ["a: f1@1 f1@1 f2@5 f3@9", "a: - - f1@1 f2@5"] {
        let situation = situation(row);
        let plan = plan(&situation, &rules);
        let kept = left_for(&plan, &LeftAlone::NewerOnReceiver);
        assert!(plan.is_empty() && kept == 1, "newer on the receiver stays: {row}");
    }
}

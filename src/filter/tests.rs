//! The rules as a table. `tests/it/filter.rs` runs the same lines against rsync.

use super::*;

include!("cases.rs");

fn rules(texts: &[&str]) -> Vec<RuleText> {
    texts
        .iter()
        .map(|text| match text.split_once('=') {
            Some(("ex", pattern)) => (false, false, pattern),
            Some(("in", pattern)) => (true, false, pattern),
            Some(("exf", pattern)) => (false, true, pattern),
            Some(("inf", pattern)) => (true, true, pattern),
            _ => panic!("{text}"),
        })
        .map(|(include, from_file, pattern)| RuleText {
            include,
            from_file,
            pattern: pattern.into(),
        })
        .collect()
}

#[test]
fn the_table_of_patterns_holds() {
    for (texts, excluded, included) in CASES {
        let filter = Filter::new(&rules(texts));
        for (paths, expected) in [(excluded, Verdict::Excluded), (included, Verdict::Included)] {
            for path in paths.split_whitespace() {
                let (path, is_dir) = match path.strip_suffix('/') {
                    Some(dir) => (dir, true),
                    None => (path, false),
                };
                let verdict = filter.verdict_with_parents(path.as_bytes(), is_dir);
                assert_eq!(verdict, expected, "{texts:?} on {path:?}, directory: {is_dir}");
            }
        }
    }
}

#[test]
fn rules_that_mean_something_else_are_told() {
    let cases: &[(&str, Option<RuleFault>)] = &[
        ("ex=plain", None),
        ("ex=", None),
        ("ex=- ", Some(RuleFault::Empty)),
        ("exf=+ ", Some(RuleFault::Empty)),
        ("exf=merge file", Some(RuleFault::FilterSyntax)),
        ("exf=dir-merge,n- file", Some(RuleFault::FilterSyntax)),
        ("exf=. file", Some(RuleFault::FilterSyntax)),
        ("exf=:C file", Some(RuleFault::FilterSyntax)),
        ("exf=-s file", Some(RuleFault::FilterSyntax)),
        ("exf=.hidden file", None),
        ("exf=-file name", None),
        ("exf=merged file", None),
        ("ex=[abc", Some(RuleFault::Malformed(wildmatch::Malformed::OpenBracket))),
    ];
    for (text, expected) in cases {
        let filter = Filter::new(&rules(&[text]));
        assert_eq!(filter.problems().first().map(|p| p.why.clone()), *expected, "{text}");
        let is_error = filter.problems().first().map(RuleProblem::is_error);
        let refused_by_rsync = expected.as_ref().map(|why| *why == RuleFault::Empty);
        assert_eq!(is_error, refused_by_rsync, "{text}");
    }
    let long = format!("ex={}", "x".repeat(4096));
    assert_eq!(Filter::new(&rules(&[&long])).problems()[0].why, RuleFault::TooLong);
    assert!(Filter::new(&rules(&[&long])).is_empty());
    assert!(!Filter::new(&rules(&["ex=a"])).is_empty());
}

#[test]
fn only_rules_that_nothing_overrides_are_pruned() {
    let cases: &[(&[&str], &[Prune<'_>])] = &[
        (&["ex=cache"], &[Prune::Name(b"cache")]),
        (&["ex=cache/"], &[Prune::Name(b"cache")]),
        (&["ex=/a/b"], &[Prune::Path(b"a/b")]),
        (&["ex=a/b", "ex=*.o", "in=x"], &[]),
        (&["in=keep/cache", "ex=cache"], &[]),
        (&["in=/keep/*/cache", "ex=cache"], &[]),
        (&["in=keep/c*", "ex=cache"], &[]),
        (&["in=*.o", "ex=cache"], &[Prune::Name(b"cache")]),
        (&["in=c*", "ex=cache"], &[]),
        (&["in=c**", "ex=cache"], &[]),
        (&["in=a/**", "ex=/b/cache"], &[Prune::Path(b"b/cache")]),
        (&["in=/b/*", "ex=/b/cache"], &[]),
        (&["ex=cache", "in=cache"], &[Prune::Name(b"cache")]),
        (&["ex=cache", "ex=!"], &[]),
        (&["ex=/", "ex=.", "ex=..", "ex=/.", "ex=//a", "ex=/a//b"], &[]),
        (&["ex=a", "ex=a/"], &[Prune::Name(b"a")]),
    ];
    for (texts, expected) in cases {
        assert_eq!(Filter::new(&rules(texts)).prunable(), *expected, "{texts:?}");
    }
}

#[test]
fn options_for_rsync_keep_signs_apart_from_patterns() {
    let filter = Filter::new(&rules(&["ex=- - x", "in=!", "in=+ !", "ex=a/"]));
    let args: Vec<_> = filter.rsync_args().collect();
    let ours = "--exclude=- .osync_workdir";
    assert_eq!(args, [ours, "--include=+ !", "--exclude=- a/"]);
    let filter = Filter::new(&rules(&["ex=- - x", "in=b"]));
    let args: Vec<_> = filter.rsync_args().collect();
    assert_eq!(args, [ours, "--exclude=- - x", "--include=+ b"]);
}

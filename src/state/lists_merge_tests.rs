use super::*;
use crate::state::testing::{any_path, any_records, path};
use crate::tree::{Kind, RelPath};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn entry(kind: Kind) -> Entry {
    Entry::new(kind)
}

fn seen(kind: Kind) -> Recorded {
    Recorded::Seen(entry(kind))
}

fn listed(kind: Kind) -> Recorded {
    Recorded::Listed(Some(entry(kind)))
}

fn file_in_step() -> Record {
    Record::in_step(entry(Kind::File), entry(Kind::File))
}

fn record_of(baseline: &Baseline, at: &str) -> Option<Record> {
    let mut records = baseline.records().map(Result::unwrap);
    records.find(|(known, _)| *known == path(at)).map(|(_, record)| record)
}

struct Case {
    what: &'static str,
    path: &'static str,
    before: Option<Record>,
    /// The lists' words: in the list, not in it, no such list.
    lists: Pair<Option<bool>>,
    failed_on_target: bool,
    expected: Record,
}

fn was(initiator: Recorded, target: Recorded) -> Record {
    Record { was: Pair::new(initiator, target), skipped: Pair::default() }
}

fn skipped_on_initiator(initiator: Recorded, target: Recorded) -> Record {
    Record { was: Pair::new(initiator, target), skipped: Pair::new(true, false) }
}

fn cases() -> Vec<Case> {
    let both = Pair::new(Some(true), Some(true));
    let neither = Pair::new(Some(false), Some(false));
    let first = Pair::new(Some(true), Some(false));
    let case = |what, path, before, lists, expected| Case {
        what,
        path,
        before,
        lists,
        failed_on_target: false,
        expected,
    };
    use Recorded::{Absent, Listed};
    let file = || Some(file_in_step());
    let fifo = || Some(Record::in_step(entry(Kind::Fifo), entry(Kind::Fifo)));
    let gone = || Some(skipped_on_initiator(seen(Kind::File), Absent));
    vec![
        case(
            "a listed path without a snapshot",
            "a/b",
            None,
            both,
            was(Listed(None), Listed(None)),
        ),
        case("a path listed on one side only", "a", None, first, was(Listed(None), Absent)),
        case(
            "our entry comes along",
            "a",
            file(),
            both,
            was(listed(Kind::File), listed(Kind::File)),
        ),
        case("what is listed no more is gone", "a", file(), neither, Record::default()),
        case(
            "devices stand in no list",
            "a",
            fifo(),
            neither,
            was(seen(Kind::Fifo), seen(Kind::Fifo)),
        ),
        case(
            "a fifo that became a file is listed",
            "a",
            fifo(),
            both,
            was(listed(Kind::Fifo), listed(Kind::Fifo)),
        ),
        case("newlines stand in no list", "a\nb", file(), neither, file_in_step()),
        case("below a newline neither", "a\nb/c", file(), neither, file_in_step()),
        case(
            "a side without a list keeps our word",
            "a",
            file(),
            Pair::new(Some(true), None),
            was(listed(Kind::File), seen(Kind::File)),
        ),
        case(
            "a skipped deletion is still one",
            "a",
            gone(),
            first,
            skipped_on_initiator(listed(Kind::File), Absent),
        ),
        case(
            "a skipped deletion that came back is none",
            "a",
            gone(),
            both,
            was(listed(Kind::File), Listed(None)),
        ),
        case("a skipped deletion that was made is none", "a", gone(), neither, Record::default()),
        Case {
            failed_on_target: true,
            ..case(
                "a failed deletion existed on both sides",
                "a",
                None,
                Pair::new(Some(false), Some(false)),
                was(Listed(None), Listed(None)),
            )
        },
        Case {
            failed_on_target: true,
            ..case(
                "a failed deletion without lists beside it",
                "a",
                None,
                Pair::new(None, None),
                was(Listed(None), Listed(None)),
            )
        },
    ]
}

#[test]
fn lists_say_what_existed_and_the_snapshot_what_it_looked_like() {
    for case in cases() {
        let old = case
            .before
            .map(|record| Baseline::from_records(Header::default(), [(path(case.path), record)]));
        let bytes = case.path.as_bytes();
        let lists = Lists {
            tree: case.lists.map(|list| list.map(|is_in| if is_in { vec![bytes] } else { vec![] })),
            failed: Pair::new(vec![], if case.failed_on_target { vec![bytes] } else { vec![] }),
            listed_at: Pair::default(),
        };
        let merged = merge(old.as_ref(), &lists).unwrap();
        assert_eq!(merged.header().origin, Origin::Lists);
        let expected = (!case.expected.is_empty()).then_some(case.expected);
        assert_eq!(record_of(&merged, case.path), expected, "{}", case.what);
    }
}

#[test]
fn the_times_of_the_lists_are_kept() {
    let lists = Lists {
        listed_at: Pair::new(Some(Stamp::new(5, 0)), None),
        tree: Pair::new(Some(vec![b"x"]), None),
        ..Lists::default()
    };
    let merged = merge(None, &lists).unwrap();
    assert_eq!(merged.header().listed_at, Pair::new(Stamp::new(5, 0), Stamp::UNKNOWN));
}

fn sorted(paths: &[RelPath]) -> Vec<&[u8]> {
    let mut paths: Vec<_> = paths.iter().collect();
    paths.sort();
    paths.dedup();
    paths.into_iter().map(RelPath::as_bytes).collect()
}

proptest! {
    #[test]
    fn merging_in_one_pass_is_judging_each_path_alone(
        old in any_records(),
        tree in vec(option::of(vec(any_path(), 0..15)), 2),
        failed in vec(vec(any_path(), 0..3), 2),
    ) {
        let baseline = Baseline::from_records(Header::default(), old.clone());
        let lists = Lists {
            tree: Pair::new(&tree[0], &tree[1]).map(|list| list.as_deref().map(sorted)),
            listed_at: Pair::default(),
            failed: Pair::new(&failed[0], &failed[1]).map(|list| sorted(list)),
        };
        let merged = merge(Some(&baseline), &lists).unwrap();
        merged.check().unwrap();
        let old: BTreeMap<_, _> = old.into_iter().collect();
        let named = tree.iter().flatten().flatten().chain(failed.iter().flatten());
        let mut expected = BTreeMap::new();
        for path in old.keys().chain(named) {
            let listing = Pair::new(&tree[0], &tree[1]).map(|list| match list {
                _ if failed.iter().any(|list| list.contains(path)) => ListSays::Present,
                Some(list) if list.contains(path) => ListSays::Present,
                Some(_) => ListSays::Absent,
                None => ListSays::NoList,
            });
            let before = old.get(path).cloned().unwrap_or_default();
            let record = merge_record(path.as_bytes(), before, listing);
            if !record.is_empty() {
                expected.insert(path.clone(), record);
            }
        }
        let found: BTreeMap<_, _> =
            merged.records().map(Result::unwrap).filter(|(_, r)| !r.is_empty()).collect();
        prop_assert_eq!(found, expected);
    }
}

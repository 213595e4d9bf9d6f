use super::*;
use crate::reconcile::testing::{entry, path, plan, rules, situation, words};
use crate::reconcile::{Rules, Verdict};
use crate::state::Baseline;
use crate::tree::Stamp;

/// Owner, group, mode and ctime of a file.
type Meta = (u32, u32, u16, i64);

const ROOT: Meta = (0, 0, 0o644, 1);

fn with((uid, gid, mode, ctime): Meta, side: Side) -> Entry {
    let (_, mut entry) = entry("f1@1", &path("a"), side).unwrap();
    (entry.uid, entry.gid, entry.mode) = (uid, gid, mode);
    entry.ctime = Stamp::new(ctime, 0);
    entry
}

/// The verdict on a file whose content is the same everywhere, and how many owners are left
/// as they are, with a word.
fn verdict(was: Option<[Meta; 2]>, now: [Meta; 2], rules: &Rules) -> (Verdict, u64) {
    let mut situation = situation("a: - - f1@1 f1@1");
    for (side, meta) in [(Side::Initiator, now[0]), (Side::Target, now[1])] {
        let id = situation.trees[side].find(&path("a")).unwrap();
        *situation.trees[side].entry_mut(id) = with(meta, side);
    }
    if let Some([i, t]) = was {
        let record = Record::in_step(with(i, Side::Initiator), with(t, Side::Target));
        let header = situation.baseline.header().clone();
        situation.baseline = Baseline::from_records(header, [(path("a"), record)]);
    }
    let plan = plan(&situation, rules);
    let path_id = plan.delta.path_ids().find(|path_id| plan.path(*path_id) == path("a"));
    (path_id.map(|path_id| *plan.verdict(path_id)).unwrap_or_default(), plan.owners_left)
}

fn goes_to(was: Option<[Meta; 2]>, now: [Meta; 2], rules: &Rules) -> Option<Side> {
    verdict(was, now, rules).0.metadata_on
}

#[test]
fn whose_owner_group_or_mode_changed_gives_it_to_the_other_side() {
    use Side::{Initiator, Target};
    let in_step = Some([ROOT, ROOT]);
    for (what, now, expected) in [
        ("the owner, here", [(7, 0, 0o644, 5), ROOT], Some(Target)),
        ("the group, there", [ROOT, (0, 7, 0o644, 5)], Some(Initiator)),
        (
            "the mode on both sides, later there",
            [(0, 0, 0o600, 5), (0, 0, 0o640, 6)],
            Some(Initiator),
        ),
        ("the mode on both sides, later here", [(0, 0, 0o600, 7), (0, 0, 0o640, 6)], Some(Target)),
        ("the mode on both sides at once", [(0, 0, 0o600, 6), (0, 0, 0o640, 6)], Some(Target)),
        ("alike on both sides", [(7, 0, 0o600, 5), (7, 0, 0o600, 6)], None),
        ("nothing but the time of change", [(0, 0, 0o644, 5), ROOT], None),
    ] {
        assert_eq!(goes_to(in_step, now, &rules()), expected, "{what}");
    }
    let apart = [(0, 0, 0o600, 1), ROOT];
    assert_eq!(goes_to(Some(apart), apart, &rules()), None, "recorded as different");
}

#[test]
fn at_first_contact_the_prevailing_side_gives_its_metadata_whichever_is_newer() {
    for (prevalence, expected) in [(Side::Initiator, Side::Target), (Side::Target, Side::Initiator)]
    {
        let mut rules = rules();
        rules.policy.prevalence = prevalence;
        for ctimes in [(1, 9), (9, 1)] {
            let now = [(0, 0, 0o600, ctimes.0), (0, 0, 0o644, ctimes.1)];
            assert_eq!(goes_to(None, now, &rules), Some(expected), "{prevalence}, {ctimes:?}");
        }
    }
}

#[test]
fn owners_that_cannot_be_given_are_told_once_and_groups_are_tried_once() {
    let mut rules = rules();
    rules.can_chown.target = false;
    let mut one_way = rules.clone();
    one_way.policy.one_way_from = Some(Side::Initiator);
    let (owner, group, both) = ((7, 0, 0o644, 5), (0, 7, 0o644, 5), (7, 7, 0o644, 5));
    let (tried, left) = (Some(Side::Target), None);
    for (what, was, now, expected) in [
        ("another owner", ROOT, owner, (left, 1)),
        ("another group", ROOT, group, (tried, 0)),
        ("both", ROOT, both, (tried, 0)),
        ("another mode, too", ROOT, (7, 0, 0o600, 5), (tried, 0)),
    ] {
        for rules in [&rules, &one_way] {
            let (verdict, told) = verdict(Some([was, ROOT]), [now, ROOT], rules);
            assert_eq!((verdict.metadata_on, told), expected, "{what}");
        }
    }
    for (what, was, now, expected) in [
        ("the owner as told before", owner, owner, (left, 0)),
        ("the group as tried before", group, group, (left, 0)),
        ("both as tried before", both, both, (left, 0)),
        ("the mode since", owner, (7, 0, 0o600, 5), (tried, 0)),
    ] {
        let (verdict, told) = verdict(Some([was, ROOT]), [now, ROOT], &one_way);
        assert_eq!((verdict.metadata_on, told), expected, "{what}");
    }
    let (verdict, told) = verdict(None, [owner, ROOT], &rules);
    assert_eq!((verdict.metadata_on, told), (left, 1), "a first contact is news");
    rules.can_chown = Pair::new(false, true);
    assert_eq!(goes_to(Some([ROOT, ROOT]), [owner, ROOT], &rules), tried, "root is over there");
}

#[test]
fn what_is_not_preserved_is_not_carried_over() {
    for (preserve, now) in [
        (Preserve { owner: false, ..Preserve::USUAL }, (7, 0, 0o644, 5)),
        (Preserve { group: false, ..Preserve::USUAL }, (0, 7, 0o644, 5)),
    ] {
        let rules = Rules { preserve, ..rules() };
        assert_eq!(goes_to(Some([ROOT, ROOT]), [now, ROOT], &rules), None, "{now:?}");
    }
}

#[test]
fn what_was_something_else_says_nothing_about_a_mode() {
    // both sides made the same file where a directory was, which had the mode of one of them
    let now = situation("a: d d f1@5 f1@5%600");
    assert_eq!(words(&plan(&now, &rules())), [">> attr a"]);
}

#[test]
fn a_one_way_run_sets_nothing_on_directories_that_are_alike() {
    let mut one_way = rules();
    one_way.policy.one_way_from = Some(Side::Initiator);
    let now = situation("d: d d d d\nd/a: f1@1 f1@1 f2@2 f1@1");
    assert_eq!(words(&plan(&now, &one_way)), [">> send d/a"]);
}

#[test]
fn what_is_compared_for_the_first_time_comes_from_the_prevailing_side_or_from_who_changed_it() {
    use Side::{Initiator, Target};
    let (one, other) = ((0, 0, 0o640, 1), (0, 0, 0o604, 1));
    let apart = Some([one, other]);
    let mut switched_on = rules();
    assert_eq!(goes_to(apart, [one, other], &switched_on), None, "recorded as different");
    switched_on.first_compared.permissions = true;
    assert_eq!(goes_to(apart, [one, other], &switched_on), Some(Target));
    assert_eq!(goes_to(apart, [one, (0, 0, 0o600, 9)], &switched_on), Some(Initiator));
    switched_on.policy.prevalence = Target;
    assert_eq!(goes_to(apart, [one, other], &switched_on), Some(Initiator));
    assert_eq!(goes_to(apart, [(0, 0, 0o600, 9), other], &switched_on), Some(Target));
    // another field than the one that differs
    let mut owners = rules();
    owners.first_compared.owner = true;
    assert_eq!(goes_to(apart, [one, other], &owners), None);
}

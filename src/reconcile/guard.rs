//! Refuses plans that are too dangerous to carry out (spec 4, "Guards").

use super::delta::PathId;
use super::plan::Plan;
use crate::config::Policy;
use crate::report::words::counted;
use crate::state::{Identity, Origin};
use crate::tree::{NodeId, Pair, Side, Standing, Tree};
use std::fmt;

/// Why a plan is not carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Danger {
    /// One side has nothing left, and the other would lose what it has.
    Emptied {
        /// The side that is empty.
        side: Side,
        /// How many entries would be deleted across from it.
        deletions: usize,
    },
    /// The replica carries no identity, or another one than the snapshot knows.
    Stranger {
        /// The side.
        side: Side,
        /// Whether it carries none at all.
        has_no_identity: bool,
    },
    /// The replica was last synchronised by an earlier run than the one that was recorded last: it
    /// was put back from an old copy, work directory included.
    Older {
        /// The side.
        side: Side,
        /// The number of its last run; `None` if it records none.
        number: Option<u64>,
        /// The number of the run that was recorded.
        recorded: u64,
    },
    /// The replica was synchronised by a later run than the one that was recorded last: the state
    /// was put back from an old copy.
    Newer {
        /// The side.
        side: Side,
        /// The number of its last run.
        number: u64,
        /// The number of the run that was recorded.
        recorded: u64,
    },
    /// The replica was synchronised by this task, and nothing is recorded of that.
    Forgotten {
        /// The side that knows of it.
        side: Side,
        /// The number of its last run.
        number: u64,
    },
    /// More than MAX_DELETE_PERCENT of a replica's files would be deleted.
    TooMany {
        /// The side that would lose them.
        side: Side,
        /// Files that would go.
        deletions: usize,
        /// Files that are there.
        files: usize,
        /// The limit.
        percent: u32,
    },
}

impl fmt::Display for Danger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Danger::Emptied { side, deletions } => write!(
                f,
                "the {side} replica is empty, and {} would be deleted on the {} for that. Is a disk not \
                 mounted? Nothing was changed. If it was emptied on purpose, run once with \
                 --force-delete; if that is ordinary here (a drop box), set ALLOW_EMPTY={side}",
                counted(*deletions as u64, "entry"),
                side.other()
            ),
            Danger::Stranger { side, has_no_identity } => write!(
                f,
                "the {side} replica {}. Is its disk not mounted, or another one in its place? \
                 Nothing was changed. To start over with what is there now on both sides, run \
                 once with --initialize; to synchronise with another replica beside the known \
                 one, use another --instance-id",
                if *has_no_identity {
                    "does not carry the identity that it had after the last run"
                } else {
                    "carries another identity than the one of the last run"
                }
            ),
            Danger::Older { side, number, recorded } => {
                let last = match number {
                    Some(number) => format!("run {number} of this task"),
                    None => "no run of this task that it knows of".to_owned(),
                };
                write!(
                    f,
                    "the {side} replica went back in time: it was last synchronised by {last}, \
                     and run {recorded} is the last one recorded. Was it put back from an older \
                     copy? Its old content would count as new. Nothing was changed. To start over \
                     with what is there now on both sides, run once with --initialize"
                )
            }
            Danger::Newer { side, number, recorded } => write!(
                f,
                "the {side} replica is newer than what is recorded: it was synchronised by run \
                 {number} of this task, and run {recorded} is the last one recorded. Was the \
                 {}, or the state directory, put back from an older copy? Nothing was changed. To \
                 start over with what is there now on both sides, run once with --initialize",
                if *side == Side::Initiator { "target" } else { "initiator" }
            ),
            Danger::Forgotten { side, number } => write!(
                f,
                "the {side} replica was synchronised by run {number} of this task, but nothing is \
                 recorded of that here. Is the disk of the initiator, or of its state directory, \
                 not mounted? Nothing was changed. If the record is lost, start over with what is \
                 there now on both sides: run once with --initialize"
            ),
            Danger::TooMany { side, deletions, files, percent } => write!(
                f,
                "{deletions} of {} on the {side} would be deleted, more than \
                 MAX_DELETE_PERCENT={percent}. Nothing was changed. --dry shows which; if that is \
                 meant, run once with --force-delete",
                counted(*files as u64, "file")
            ),
        }
    }
}

/// The guard against strangers: whether both replicas are those that the snapshot was written for.
#[must_use]
pub fn stranger(known: &Pair<Option<Identity>>, found: &Pair<Option<Identity>>) -> Option<Danger> {
    Side::BOTH.into_iter().find_map(|side| {
        let known = known[side].as_ref()?;
        match &found[side] {
            Some(identity) if identity == known => None,
            found => Some(Danger::Stranger { side, has_no_identity: found.is_none() }),
        }
    })
}

/// What the replicas and the state say of the runs of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runs {
    /// Where the baseline came from.
    pub origin: Origin,
    /// The run that wrote it; `None` if an earlier version of osync did.
    pub last_recorded: Option<u64>,
    /// The highest number that a run was given.
    pub highest_given: Option<u64>,
    /// That number, if nothing was recorded before it, nor by it.
    pub first_unrecorded: Option<u64>,
    /// The last run that each replica knows of.
    pub last_on_side: Pair<Option<u64>>,
    /// The initiator carries no identity, and the target knows it by its place.
    pub target_knows_place: Option<u64>,
}

/// The guard against replicas that went back in time: whether both are as old as what is recorded of
/// them (spec 8, "A replica that went back in time").
#[must_use]
pub fn out_of_time(runs: &Runs) -> Option<Danger> {
    match (runs.origin, runs.last_recorded) {
        (Origin::Nothing, _) => {
            let known = |side: Side| Some((side, runs.last_on_side[side]?));
            let by_place = || Some((Side::Target, runs.target_knows_place?));
            let (side, number) = Side::BOTH.into_iter().find_map(known).or_else(by_place)?;
            // The first run was killed before it had recorded anything.
            let is_forgotten = runs.first_unrecorded.is_none_or(|given| number > given);
            is_forgotten.then_some(Danger::Forgotten { side, number })
        }
        (Origin::Snapshot, Some(recorded)) => {
            // A run that was killed had given its number to one side or both.
            let latest = runs.highest_given.unwrap_or(recorded).max(recorded);
            Side::BOTH.into_iter().find_map(|side| match runs.last_on_side[side] {
                Some(number) if number > latest => Some(Danger::Newer { side, number, recorded }),
                Some(number) if number >= recorded => None,
                number => Some(Danger::Older { side, number, recorded }),
            })
        }
        // osync 1.3 numbers nothing, and neither did earlier versions.
        (Origin::Lists | Origin::Snapshot, _) => None,
    }
}

/// The guards against an emptied replica and against MAX_DELETE_PERCENT: whether the plan deletes more
/// than anybody can have meant.
#[must_use]
pub fn mass_deletion(trees: &Pair<Tree>, plan: &Plan, policy: &Policy) -> Option<Danger> {
    if policy.force_delete {
        return None;
    }
    Side::BOTH
        .into_iter()
        .find_map(|side| emptied(trees, plan, policy, side))
        .or_else(|| Side::BOTH.into_iter().find_map(|side| too_many(trees, plan, policy, side)))
}

fn emptied(trees: &Pair<Tree>, plan: &Plan, policy: &Policy, side: Side) -> Option<Danger> {
    // Entries of all kinds: one empty directory is as much of a mistake as one file.
    let deletions = plan.deletions[side.other()].len();
    let had_entries = || {
        plan.delta
            .path_ids()
            .any(|s| plan.delta.record(s).is_some_and(|record| record.existed(side)))
    };
    (deletions > 0
        && !policy.allow_empty[side]
        && trees[side].is_empty()
        // A one-way run deletes what the source lacks even at first contact.
        && (policy.one_way_from == Some(side) || had_entries()))
    .then_some(Danger::Emptied { side, deletions })
}

fn too_many(trees: &Pair<Tree>, plan: &Plan, policy: &Policy, side: Side) -> Option<Danger> {
    let percent = policy.max_delete_percent;
    if percent == 0 {
        return None;
    }
    let deletions = lost_files(plan, trees, side);
    let files = trees[side].ids().filter(|id| is_file(&trees[side], *id)).count();
    (deletions as u128 * 100 > files as u128 * u128::from(percent)).then_some(Danger::TooMany {
        side,
        deletions,
        files,
        percent,
    })
}

/// How many files a side loses. What makes way for something of another kind counts like what is
/// deleted, and directories do not count.
fn lost_files(plan: &Plan, trees: &Pair<Tree>, side: Side) -> usize {
    let is_file_there =
        |path_id| plan.delta.now(path_id, side).is_some_and(|id| is_file(&trees[side], id));
    let is_lost_file = |path_id: &PathId| plan.is_lost(*path_id, side) && is_file_there(*path_id);
    plan.delta.path_ids().filter(is_lost_file).count()
}

/// Whether it is something else than a directory, and takes part.
fn is_file(tree: &Tree, id: NodeId) -> bool {
    !tree.entry(id).kind.is_dir() && tree.standing(id) == Standing::Present
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::testing::{plan, rules, situation};

    fn danger(rows: &str, percent: u32) -> Option<Danger> {
        let situation = situation(rows);
        let mut rules = rules();
        rules.policy.max_delete_percent = percent;
        mass_deletion(&situation.trees, &plan(&situation, &rules), &rules.policy)
    }

    #[test]
    fn an_emptied_replica_deletes_nothing_across() {
        let gone = "a: f1@1 f1@1 - f1@1\nd: d d - d\nd/b: f1@1 f1@1 - f1@1";
        let expected = Danger::Emptied { side: Side::Initiator, deletions: 3 };
        assert_eq!(danger(gone, 0), Some(expected));
        for (what, rows) in [
            ("both empty", "a: f1@1 f1@1 - -"),
            ("newly excluded", "a: f1@1 f1@1 x x"),
            ("first contact with an empty side", "a: - - - f1@1"),
            ("one file left", "a: f1@1 f1@1 - f1@1\nb: f1@1 f1@1 f1@1 f1@1"),
            ("everything changed across", "a: f1@1 f1@1 - f2@2"),
        ] {
            assert_eq!(danger(rows, 0), None, "{what}");
        }
    }

    #[test]
    fn a_side_that_may_be_emptied_empties_the_other_and_no_other_side_does() {
        let gone = "a: f1@1 f1@1 - f1@1\nb: f1@1 f1@1 - f1@1";
        let mirrored = "a: f1@1 f1@1 f1@1 -\nb: f1@1 f1@1 f1@1 -";
        for (side, rows) in [(Side::Initiator, gone), (Side::Target, mirrored)] {
            for allowed in [Pair::new(true, false), Pair::new(false, true), Pair::new(true, true)] {
                let situation = situation(rows);
                let mut rules = rules();
                rules.policy.allow_empty = allowed;
                let plan = plan(&situation, &rules);
                let found = mass_deletion(&situation.trees, &plan, &rules.policy);
                let expected = Danger::Emptied { side, deletions: 2 };
                assert_eq!(found, (!allowed[side]).then_some(expected), "{side} {allowed:?}");
                rules.policy.max_delete_percent = 50;
                let found = mass_deletion(&situation.trees, &plan, &rules.policy);
                assert!(found.is_some(), "MAX_DELETE_PERCENT holds all the same");
            }
        }
    }

    #[test]
    fn an_empty_source_of_a_one_way_run_empties_nothing() {
        let situation = situation("a: - - - f1@1");
        let mut rules = rules();
        rules.policy.one_way_from = Some(Side::Initiator);
        let plan = plan(&situation, &rules);
        let expected = Danger::Emptied { side: Side::Initiator, deletions: 1 };
        assert_eq!(mass_deletion(&situation.trees, &plan, &rules.policy), Some(expected));
        rules.policy.force_delete = true;
        assert_eq!(mass_deletion(&situation.trees, &plan, &rules.policy), None);
    }

    #[test]
    fn a_share_of_the_files_may_be_deleted_and_no_more() {
        let rows =
            "a: f1@1 f1@1 - f1@1\nb: f1@1 f1@1 f1@1 f1@1\nc: f1@1 f1@1 f1@1 f1@1\nd: d d d d";
        assert_eq!(danger(rows, 34), None);
        let expected = Danger::TooMany { side: Side::Target, deletions: 1, files: 3, percent: 33 };
        assert_eq!(danger(rows, 33), Some(expected));
        let quarter = format!("{rows}\ne: f1@1 f1@1 f1@1 f1@1");
        assert_eq!(danger(&quarter, 25), None, "just that share is not more");
        let moved = "a: f1@1#5 f1@1 - f1@1\nb: - - f1@1#5 -\nc: f1@1 f1@1 f1@1 f1@1";
        assert_eq!(danger(moved, 10), None, "moves do not count");
        let replaced = "a: d d f1@5 d\na/b: f1@1 f1@1 - f1@1\na/c: f1@1 f1@1 - f1@1";
        assert!(danger(replaced, 50).is_some(), "what goes with a directory counts");
    }

    #[test]
    fn replicas_and_state_must_be_of_the_same_time() {
        let (side, recorded) = (Side::Target, 5);
        let fine = Runs {
            origin: Origin::Snapshot,
            last_recorded: Some(5),
            highest_given: Some(5),
            first_unrecorded: None,
            last_on_side: Pair::new(Some(5), Some(5)),
            target_knows_place: None,
        };
        let with = |change: fn(&mut Runs)| {
            let mut runs = fine.clone();
            change(&mut runs);
            out_of_time(&runs)
        };
        let older = |number| Some(Danger::Older { side, number, recorded });
        assert_eq!(with(|_| ()), None);
        assert_eq!(with(|r| r.last_on_side.target = Some(4)), older(Some(4)));
        assert_eq!(with(|r| r.last_on_side.target = None), older(None));
        let newer = Some(Danger::Newer { side, number: 6, recorded });
        assert_eq!(with(|r| r.last_on_side.target = Some(6)), newer);
        assert_eq!(
            with(|r| (r.last_on_side.target, r.highest_given) = (Some(6), Some(6))),
            None,
            "killed"
        );
        assert_eq!(
            with(|r| (r.last_on_side.target, r.highest_given) = (Some(6), Some(8))),
            None,
            "twice"
        );
        assert!(with(|r| (r.last_on_side.target, r.highest_given) = (Some(9), Some(8))).is_some());
        assert_eq!(
            with(|r| (r.highest_given, r.last_on_side.target) = (None, Some(5))),
            None,
            "never noted"
        );
        assert_eq!(
            with(|r| (r.last_recorded, r.last_on_side.target) = (None, None)),
            None,
            "an old snapshot"
        );
        assert_eq!(with(|r| (r.origin, r.last_on_side.target) = (Origin::Lists, None)), None);
        let forgotten = with(|r| (r.origin, r.last_recorded) = (Origin::Nothing, None));
        assert_eq!(forgotten, Some(Danger::Forgotten { side: Side::Initiator, number: 5 }));
        let killed_first = with(|r| {
            (r.origin, r.last_recorded, r.first_unrecorded) = (Origin::Nothing, None, Some(5))
        });
        assert_eq!(killed_first, None, "it was to record the first baseline");
        let by_another = with(|r| {
            (r.origin, r.last_recorded, r.first_unrecorded) = (Origin::Nothing, None, Some(4))
        });
        assert_eq!(by_another, Some(Danger::Forgotten { side: Side::Initiator, number: 5 }));
        let first = with(|r| {
            (r.origin, r.last_recorded, r.last_on_side) = (Origin::Nothing, None, Pair::default())
        });
        assert_eq!(first, None, "a first contact");
    }

    #[test]
    fn only_the_known_replicas_are_trusted() {
        let id = |text: &str| Some(Identity(text.to_owned()));
        let known = Pair::new(id("a"), id("b"));
        let stranger = |found: Pair<Option<Identity>>| stranger(&known, &found);
        assert_eq!(stranger(known.clone()), None);
        let without = Danger::Stranger { side: Side::Target, has_no_identity: true };
        assert_eq!(stranger(Pair::new(id("a"), None)), Some(without));
        let other = Danger::Stranger { side: Side::Initiator, has_no_identity: false };
        assert_eq!(stranger(Pair::new(id("x"), id("b"))), Some(other));
        assert_eq!(super::stranger(&Pair::default(), &known), None, "nothing is known yet");
    }
}

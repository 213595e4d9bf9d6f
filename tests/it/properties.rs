//! The rules of the whole program on random histories: two replicas are edited at random,
//! the real binary runs on real directories, and what it leaves is compared with a plain
//! model of the specification (`tests/support/model.rs`).

use crate::support::history::{ANCHOR, Clock, Step, any_step};
use crate::support::model::{
    Expected, Gone, Model, Mounts, Place, Rules, compare_coarsely, is_within, not_mounted,
};
use crate::support::mounts::{Mounted, Nested};
use crate::support::sandbox::{Replica, Run, Sandbox};
use crate::support::trees::{self, Mtime, Tree, What, escape};
use osync::testing::config::RuleText;
use osync::testing::filter::{Filter, Inclusion, PathKind};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use std::cell::Cell;
use std::cmp::Ordering;

/// The settings of one history.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) target_prevails: bool,
    pub(crate) force: bool,
    pub(crate) checksum: bool,
    pub(crate) detect_moves: bool,
    pub(crate) multiple: bool,
    pub(crate) keeps: Keeps,
    pub(crate) skip_deletion: [bool; 2],
    pub(crate) exclude: &'static str,
    /// CONFLICT_COPY=beside. The model knows nothing of it.
    pub(crate) beside: bool,
}

/// Whether what goes is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keeps {
    /// SOFT_DELETE.
    pub(crate) deleted: bool,
    /// CONFLICT_BACKUP.
    pub(crate) replaced: bool,
}

proptest! {
    #![proptest_config(config(60))]

    #[test]
    fn any_history_ends_as_the_model_says(
        settings in any_settings(false),
        rounds in any_rounds(false),
    ) {
        follow(&settings, &rounds.iter().map(|round| edits(round)).collect::<Vec<_>>(), None)?;
    }
}

/// A few histories are tried as a rule. More, and others:
///
/// ```sh
/// PROPTEST_CASES=200 PROPTEST_RNG_SEED=5 cargo test --test it disks_that_come_and_go
/// ```
#[test]
fn any_history_with_disks_that_come_and_go_ends_as_the_model_says() {
    let probe = tempfile::tempdir().unwrap();
    let Some(disk) = Mounted::tmpfs(probe.path(), "size=1m") else { return };
    if probe.path().metadata().unwrap().created().is_err() {
        return println!("skipped: a tmpfs of this kernel tells no times of birth");
    }
    drop(disk);
    let histories = (any_settings(false), any_disks(), any_events());
    let mut runner = TestRunner::new(Config { max_shrink_iters: 20, ..config(10) });
    let missed = Cell::new(0);
    let outcome = runner.run(&histories, |(settings, disks, rounds)| {
        missed.set(missed.get() + follow(&settings, &rounds, Some(disks))?);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    println!("{} runs missed a disk", missed.get());
    assert!(missed.get() > 2, "{missed:?}");
}

/// What happens between two runs.
#[derive(Debug, Clone)]
enum Event {
    Edit(Step),
    /// A disk of this side goes, or comes back.
    Toggle {
        side: usize,
        level: usize,
    },
}

fn edits(round: &[Step]) -> Vec<Event> {
    round.iter().cloned().map(Event::Edit).collect()
}

/// Which disks each side has: one below the root, one on it.
fn any_disks() -> impl Strategy<Value = [[bool; 2]; 2]> {
    any::<[[bool; 2]; 2]>().prop_filter("no disk", |disks| *disks != [[false; 2]; 2])
}

fn any_events() -> impl Strategy<Value = Vec<Vec<Event>>> {
    let toggle = (0..2_usize, 0..2_usize).prop_map(|(side, level)| Event::Toggle { side, level });
    let event = prop_oneof![5 => any_step(false).prop_map(Event::Edit), 1 => toggle];
    let first = prop::collection::vec(any_step(false), 10..30);
    let later = prop::collection::vec(prop::collection::vec(event, 1..10), 2..6);
    (first, later).prop_map(|(first, later)| [vec![edits(&first)], later].concat())
}

/// As many cases as PROPTEST_CASES says; always the same ones unless PROPTEST_RNG_SEED
/// says otherwise.
pub(crate) fn config(cases: u32) -> Config {
    let mut config =
        Config { failure_persistence: None, max_shrink_iters: 500, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    if std::env::var_os("PROPTEST_RNG_SEED").is_none() {
        config.rng_seed = RngSeed::Fixed(11);
    }
    config
}

pub(crate) fn any_settings(checksum: bool) -> impl Strategy<Value = Settings> {
    let yes = any::<bool>;
    let skip = prop::sample::select(
        &[[false; 2], [false; 2], [true, false], [false, true], [true; 2]][..],
    );
    let exclude = prop::sample::select(&["", "", "", "b", "/a/*", "d", "a/b;*~", "b/"][..]);
    let keeps = (prop::bool::weighted(0.7), prop::bool::weighted(0.7))
        .prop_map(|(deleted, replaced)| Keeps { deleted, replaced });
    let often = prop::bool::weighted(0.8);
    let all = (yes(), prop::bool::weighted(0.2), often, yes(), keeps, skip, exclude);
    all.prop_map(
        move |(target_prevails, force, detect_moves, multiple, keeps, skip_deletion, exclude)| {
            Settings {
                target_prevails,
                force,
                checksum,
                detect_moves,
                multiple,
                keeps,
                skip_deletion,
                exclude,
                beside: false,
            }
        },
    )
}

pub(crate) fn any_rounds(checksum: bool) -> impl Strategy<Value = Vec<Vec<Step>>> {
    let first = prop::collection::vec(any_step(checksum), 5..25);
    let later = prop::collection::vec(prop::collection::vec(any_step(checksum), 1..10), 0..4);
    (first, later).prop_map(|(first, later)| [vec![first], later].concat())
}

/// One history from empty replicas to its end. How many runs missed a disk.
fn follow(
    settings: &Settings,
    rounds: &[Vec<Event>],
    disks: Option<[[bool; 2]; 2]>,
) -> Result<usize, TestCaseError> {
    let sandbox = Sandbox::new();
    let replicas = [&sandbox.a, &sandbox.b];
    let mut disks = disks.map(|wanted| {
        [0, 1].map(|side| {
            let plugged = sandbox.path(format!("plugged{side}"));
            Nested::plug_in(&replicas[side].root, &plugged, wanted[side]).unwrap()
        })
    });
    let mut mounts_then: [Mounts; 2] = Default::default();
    let mut missed = 0;
    for replica in replicas {
        replica.write(ANCHOR, "anchor", 1_500_000_000);
    }
    let mut clock = Clock::default();
    let mut base = [Tree::new(), Tree::new()];
    let patterns = settings.exclude.split(';').map(|pattern| RuleText {
        include: false,
        from_file: false,
        pattern: pattern.into(),
    });
    let filter = Filter::new(&patterns.collect::<Vec<_>>());
    let is_excluded = |path: &[u8], is_dir| {
        filter.verdict_with_parents(path, PathKind::of(is_dir)) == Inclusion::Excluded
    };
    for (number, round) in rounds.iter().enumerate() {
        for event in round {
            match (event, &mut disks) {
                (Event::Edit(step), _) => clock.step([&sandbox.a.root, &sandbox.b.root], step),
                (Event::Toggle { side, level }, Some(disks)) => disks[*side].toggle(*level),
                (Event::Toggle { .. }, None) => {}
            }
        }
        let now = replicas.map(Replica::tree);
        let mounts = match &disks {
            Some(disks) => disks.each_ref().map(Nested::mounted),
            None => Default::default(),
        };
        let unknown: Vec<Vec<u8>> = (0..2)
            .flat_map(|side| {
                not_mounted(&base[side], &now[side], &mounts[side], &mounts_then[side])
            })
            .collect();
        missed += usize::from(!unknown.is_empty());
        let is_unknown = |path: &[u8]| unknown.iter().any(|top| is_within(path, top));
        let is_out = |path: &[u8], is_dir| is_unknown(path) || is_excluded(path, is_dir);
        let rules = Rules {
            target_prevails: settings.target_prevails,
            force: settings.force,
            checksum: settings.checksum,
            skip: settings.skip_deletion,
            moves: settings.detect_moves,
        };
        let model =
            Model::new(rules, [&now[0], &now[1]], [&base[0], &base[1]], mounts.clone(), is_out);
        let expected = model.expected();

        let run = quick(&sandbox, settings).run();
        let after = replicas.map(Replica::tree);
        let status = |is_known: bool| {
            Some(match (is_known, expected.warns) {
                (false, _) => 1,
                (true, true) => 2,
                (true, false) => 0,
            })
        };
        // A directory that both sides lack by now is missed once.
        let is_there = |top: &Vec<u8>| now.iter().any(|tree| tree.contains_key(top));
        let (status, still_status) =
            (status(unknown.is_empty()), status(!unknown.iter().any(is_there)));
        let found = if run.status == status {
            let part = |tree: &Tree, hidden: bool| -> Tree {
                let wanted = |(path, node): &(&Vec<u8>, &trees::Node)| {
                    is_out(path, node.what == What::Dir) == hidden
                };
                tree.iter().filter(wanted).map(|(p, node)| (p.clone(), node.clone())).collect()
            };
            let untouched = now.iter().zip(&after).all(|(now, after)| {
                every_detail(&part(now, true)) == every_detail(&part(after, true))
            });
            if untouched {
                let [now, after] =
                    [&now, &after].map(|t| t.each_ref().map(|tree| part(tree, false)));
                judge(&expected, &now, &after, replicas, settings)
            } else {
                Err("something that is excluded was touched".to_owned())
            }
        } else {
            Err("the run did not end well".to_owned())
        };
        if let Err(wrong) = found {
            let [a, b] = now.each_ref().map(trees::details);
            let [base_a, base_b] = base.each_ref().map(trees::details);
            return Err(TestCaseError::fail(format!(
                "round {number}, unknown {unknown:?}, mounted {mounts:?}: {wrong}\n--- a before\n{a}--- its baseline\n{base_a}--- b before\n{b}\
                 --- its baseline\n{base_b}--- run\n{run}"
            )));
        }

        let again = quick(&sandbox, settings).run();
        let still = replicas.map(Replica::tree);
        for (side, (after, still)) in after.iter().zip(&still).enumerate() {
            if again.status != still_status || every_detail(after) != every_detail(still) {
                return Err(TestCaseError::fail(format!(
                    "round {number}: a second run changed side {side}\n--- before it\n{}--- after it\n{}{again}",
                    trees::details(after),
                    trees::details(still)
                )));
            }
        }
        if !expected.left_alone.is_empty() {
            return Ok(missed); // what the baseline holds there is nobody's business
        }
        // Where nothing is known, what was known stays; unless nothing at all is there any more.
        let is_kept = |path: &[u8]| unknown.iter().any(|top| is_there(top) && is_within(path, top));
        let known = |tree: Tree| {
            tree.into_iter().filter(|(path, node)| !is_excluded(path, node.what == What::Dir))
        };
        for (side, still) in still.into_iter().enumerate() {
            let before = std::mem::take(&mut base[side]);
            base[side] = known(still).filter(|(path, _)| !is_unknown(path)).collect();
            base[side].extend(before.into_iter().filter(|(path, _)| is_kept(path)));
            let mut then = mounts[side].clone();
            then.retain(|path| !is_unknown(path));
            then.extend(mounts_then[side].iter().filter(|path| is_kept(path)).cloned());
            mounts_then[side] = then;
        }
    }
    Ok(missed)
}

pub(crate) fn quick(sandbox: &Sandbox, settings: &Settings) -> Run {
    let skip: Vec<&str> = ["initiator", "target"]
        .into_iter()
        .zip(settings.skip_deletion)
        .filter_map(|(name, skip)| skip.then_some(name))
        .collect();
    let yes_no = |yes: bool| if yes { "yes" } else { "no" };
    sandbox
        .quick()
        .arg("--verbose")
        .env("CONFLICT_PREVALANCE", if settings.target_prevails { "target" } else { "initiator" })
        .env("FORCE_CONFLICT_PREVALANCE", yes_no(settings.force))
        .env("CONFLICT_COPY", if settings.beside { "beside" } else { "backup" })
        .env("CHECKSUM", yes_no(settings.checksum))
        .env("DETECT_MOVES", yes_no(settings.detect_moves))
        .env("CONFLICT_BACKUP_MULTIPLE", yes_no(settings.multiple))
        .env("SOFT_DELETE", yes_no(settings.keeps.deleted))
        .env("CONFLICT_BACKUP", yes_no(settings.keeps.replaced))
        .env("MINIMUM_SPACE", "0")
        .env("SKIP_DELETION", skip.join(","))
        .env("RSYNC_EXCLUDE_PATTERN", settings.exclude)
}

/// Both sides hold what they must, and all else was kept.
pub(crate) fn judge(
    expected: &Expected,
    before: &[Tree; 2],
    after: &[Tree; 2],
    replicas: [&Replica; 2],
    settings: &Settings,
) -> Result<(), String> {
    for (number, side) in ["a", "b"].iter().enumerate() {
        compare(expected, number, &after[number]).map_err(|wrong| format!("on {side}, {wrong}"))?;
    }
    let kept = replicas.map(|replica| {
        ["backup", "deleted"]
            .map(|place| trees::read(&replica.at(format!(".osync_workdir/{place}"))))
    });
    let is_to_be_kept = |gone: &&Gone| match gone.place {
        Place::Backup => settings.keeps.replaced,
        Place::Deleted => settings.keeps.deleted,
        Place::Either => settings.keeps.replaced && settings.keeps.deleted,
    };
    let gone = expected.gone.iter().filter(is_to_be_kept);
    for gone in gone.filter(|gone| !expected.is_open(&gone.path)) {
        let side = gone.side.index();
        if !is_kept(gone, &kept[side], [&before[side], &after[side]], settings) {
            let path = escape(&gone.path);
            let [backup, deleted] = kept[side].each_ref().map(trees::contents);
            return Err(format!(
                "{path} of {:?} is not kept in {:?}\n--- backup\n{backup}--- deleted\n{deleted}",
                gone.side, gone.place
            ));
        }
    }
    for tree in before {
        let files = tree.iter().filter(|(_, node)| node.what != What::Dir);
        for (path, node) in files.filter(|(_, node)| must_stay(expected, &node.what, settings)) {
            let mut places = after.iter().chain(kept.iter().flatten());
            if !places.any(|tree| holds(tree, &node.what)) {
                return Err(format!("the content of {} is lost", escape(path)));
            }
        }
    }
    for replica in replicas {
        if replica.has(".osync_workdir/lock") {
            return Err("a lock was left behind".to_owned());
        }
    }
    Ok(())
}

/// Whether a content has to be somewhere after the run: kept, or because the run is to leave it.
pub(crate) fn must_stay(expected: &Expected, what: &What, settings: &Settings) -> bool {
    let is_wanted =
        || expected.trees.iter().flat_map(|tree| tree.values()).any(|w| w.what == *what);
    settings.keeps.deleted && settings.keeps.replaced || is_wanted()
}

/// Whether something that left its path is where it must be.
fn is_kept(
    gone: &Gone,
    [backup, deleted]: &[Tree; 2],
    [before, after]: [&Tree; 2],
    settings: &Settings,
) -> bool {
    let at = |tree: &Tree| tree.get(&gone.path).is_some_and(|node| node.what == gone.what);
    // Names that are too long for a suffix or a temporary name are kept under shorter ones.
    let long = gone.path.split(|b| *b == b'/').any(|name| name.len() > 230);
    let in_backup = at(backup) || ((settings.multiple || long) && holds(backup, &gone.what));
    match gone.place {
        Place::Backup => in_backup,
        Place::Either => in_backup || at(deleted) || (long && holds(deleted, &gone.what)),
        // What was deleted may have been moved, alone or with its directory, and its new version
        // replaced it under a name that is new there: CONFLICT_BACKUP=no does not keep it then.
        Place::Deleted => {
            let is_moved = settings.detect_moves && after.keys().any(|at| !before.contains_key(at));
            [deleted, after, backup].into_iter().any(|tree| holds(tree, &gone.what))
                || (is_moved && !settings.keeps.replaced)
        }
    }
}

pub(crate) fn holds(tree: &Tree, what: &What) -> bool {
    tree.values().any(|node| node.what == *what)
}

/// The same paths with the same contents, modes and times.
pub(crate) fn compare(expected: &Expected, side: usize, found: &Tree) -> Result<(), String> {
    let all = &expected.trees[side];
    for (path, node) in found.iter().filter(|(path, _)| !expected.is_open(path)) {
        let Some(wanted) = all.get(path) else {
            return Err(format!("{} should be gone", escape(path)));
        };
        let shown = escape(path);
        if node.what != wanted.what {
            return Err(format!("{shown} is {:?} instead of {:?}", node.what, wanted.what));
        }
        let or = wanted.or.unwrap_or((wanted.mode, wanted.mtime));
        let is_link = matches!(node.what, What::Link(_));
        if !is_link && node.mode != wanted.mode && node.mode != or.0 {
            return Err(format!("{shown} has mode {:o} instead of {:o}", node.mode, wanted.mode));
        }
        let open_below = node.what == What::Dir && !expected.left_alone.is_empty();
        let is_at = |mtime| compare_coarsely(node.mtime, mtime) == Ordering::Equal;
        if !open_below && !is_at(wanted.mtime) && !is_at(or.1) {
            return Err(format!("{shown} has time {:?} instead of {:?}", node.mtime, wanted.mtime));
        }
    }
    match all.keys().find(|path| !found.contains_key(*path) && !expected.is_open(path)) {
        Some(path) => Err(format!("{} is missing", escape(path))),
        None => Ok(()),
    }
}

/// All that a run could change, to see that it changed nothing.
pub(crate) fn every_detail(tree: &Tree) -> Vec<(&[u8], u64, u32, Mtime, Mtime)> {
    tree.iter().map(|(p, n)| (p.as_slice(), n.ino, n.mode, n.mtime, n.ctime)).collect()
}

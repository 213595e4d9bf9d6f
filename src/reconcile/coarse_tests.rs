//! A target that keeps times in steps of two seconds, and neither owners nor modes, as FAT
//! does: modelled, for machines that cannot mount one.

use super::testing::{Files, Situation, carry_out, plan, rules, situation, tree, words};
use super::{plan::Plan, record::record};
use crate::tree::{Pair, Side, Stamp};

/// What becomes of entries that were written to such a file system.
fn as_kept(files: &mut Files) {
    for (_, entry) in files.values_mut() {
        entry.mtime = Stamp::new(entry.mtime.secs() / 2 * 2, 0);
        entry.mode = 0o755;
        (entry.uid, entry.gid) = (0, 0);
    }
}

/// The situation after a run with such a target.
fn next(before: &Situation, plan: &Plan) -> Situation {
    let (mut files, mut achieved) = carry_out(before, plan);
    as_kept(&mut files.target);
    for path_id in plan.delta.path_ids() {
        let found = files.target.get(&plan.path(path_id)).map(|(_, entry)| entry.clone());
        achieved.fresh.target.insert(path_id, found);
    }
    let header = before.baseline.header().clone();
    let (baseline, _) = record(&before.trees, &before.baseline, plan, &achieved, header).unwrap();
    Situation { trees: Pair::new(tree(&files.initiator), tree(&files.target)), files, baseline }
}

#[test]
fn a_coarse_target_without_modes_settles_after_one_run() {
    let mut now = situation(
        "d: - - d@11%750 -
         d/a: - - f1@13%640 -
         b: - - f2@15%600 -
         c: - - - f3@18",
    );
    as_kept(&mut now.files.target);
    now.trees.target = tree(&now.files.target);
    let first = plan(&now, &rules());
    assert!(!first.is_empty());
    now = next(&now, &first);
    for run in 0..3 {
        let idle = plan(&now, &rules());
        assert!(idle.is_empty(), "run {run}: {:?}", words(&idle));
        now = next(&now, &idle);
    }
    // A change on either side is seen as one.
    for (side, name, expected) in
        [(Side::Initiator, "b", ">> send b"), (Side::Target, "d/a", "<< send d/a")]
    {
        let path = super::testing::path(name);
        let entry = &mut now.files[side].get_mut(&path).unwrap().1;
        (entry.size, entry.mtime) = (9, Stamp::new(40, 0));
        now.trees[side] = tree(&now.files[side]);
        let changed = plan(&now, &rules());
        assert_eq!(words(&changed), [expected]);
        now = next(&now, &changed);
        let idle = plan(&now, &rules());
        assert!(idle.is_empty(), "{:?}", words(&idle));
    }
}

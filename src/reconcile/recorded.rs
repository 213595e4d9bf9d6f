//! Whether the baseline says exactly what is there now: the answer of most runs, found in a
//! fraction of the time that it takes to find out what else is the case. Parts of the trees
//! are looked through at the same time.

use super::Rules;
use crate::state::{Baseline, Cursor, Damaged, Known, Was};
use crate::tree::{NodeId, Pair, Side, Standing, Tree};
use std::cmp::Reverse;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Into so many parts a tree is cut, if it has so many directories.
const PARTS: usize = 64;

/// More threads than this wait for memory.
const MOST_THREADS: usize = 4;

/// Whether nothing can be to do where nothing changed. A one-way run brings a tree over even
/// then, groups of hard links may be out of step by themselves, and digests of contents may
/// be missing.
pub fn suffices(rules: &Rules) -> bool {
    let preserve = &rules.preserve;
    rules.policy.one_way_from.is_none() && !preserve.hardlinks && !preserve.checksum
}

/// A directory of both trees, and where the baseline tells of what lies below it.
struct Part<'a> {
    dirs: Pair<NodeId>,
    cursor: Cursor<'a>,
    /// How many paths the baseline knows there.
    known: u64,
}

/// Whether every path is there on both sides just as the baseline says, to the last piece of
/// metadata, and nothing else takes part.
///
/// # Errors
/// The baseline cannot be read to its end.
pub fn is_as_recorded(trees: &Pair<Tree>, baseline: &Baseline) -> Result<bool, Damaged> {
    if trees.iter().any(|(_, tree)| tree.standing(Tree::ROOT) != Standing::Present) {
        return Ok(false);
    }
    let dirs = Pair::new(Tree::ROOT, Tree::ROOT);
    let mut parts = vec![Part { dirs, cursor: baseline.cursor(), known: 0 }];
    while parts.len() < PARTS {
        let largest = (0..parts.len()).max_by_key(|at| parts[*at].known);
        let Some(mut part) = largest.map(|at| parts.swap_remove(at)) else { return Ok(true) };
        let Some(below) = below(trees, part.dirs, &mut part.cursor)? else { return Ok(false) };
        for dirs in below {
            let (cursor, known) = part.cursor.split_off()?;
            parts.push(Part { dirs, cursor, known });
        }
    }
    // The small ones last: so all threads come to an end at about the same time.
    parts.sort_by_key(|part| Reverse(part.known));
    all(trees, parts)
}

/// Looks through all parts, and all that lies below them.
fn all(trees: &Pair<Tree>, parts: Vec<Part<'_>>) -> Result<bool, Damaged> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let parts: Vec<_> = parts.into_iter().map(|part| std::sync::Mutex::new(Some(part))).collect();
    let (next, differs) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = || -> Result<(), Damaged> {
        while let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
            let part = part.lock().ok().and_then(|mut part| part.take());
            if differs.load(Ordering::Relaxed) {
                break;
            }
            if !part.map_or(Ok(true), |part| whole(trees, part))? {
                differs.store(true, Ordering::Relaxed);
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut result = work();
        for other in others {
            let found = match other.join() {
                Ok(found) => found,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            result = result.and(found);
        }
        result
    })?;
    Ok(!differs.into_inner())
}

/// Looks through one part.
fn whole(trees: &Pair<Tree>, mut part: Part<'_>) -> Result<bool, Damaged> {
    let mut pending = vec![part.dirs];
    while let Some(dirs) = pending.pop() {
        let Some(below) = below(trees, dirs, &mut part.cursor)? else { return Ok(false) };
        pending.extend(below.into_iter().rev());
    }
    Ok(true)
}

/// The directories in a directory, in order; none if something differs there from the next block
/// of the baseline.
pub(super) fn below(
    trees: &Pair<Tree>,
    dirs: Pair<NodeId>,
    cursor: &mut Cursor<'_>,
) -> Result<Option<Vec<Pair<NodeId>>>, Damaged> {
    let mut block = cursor.open()?;
    let mut children = Pair::from_fn(|side: Side| trees[side].children(dirs[side]));
    let mut known = Known::default();
    let mut below = Vec::new();
    while block.read_into(&mut known)? {
        let [Some(initiator), Some(target)] = Side::BOTH.map(|side| {
            let tree = &trees[side];
            // What is excluded takes no part, and the baseline knows nothing of it.
            let id = children[side].find(|id| tree.standing(*id) != Standing::Excluded)?;
            let is_seen = tree.standing(id) == Standing::Present
                && tree.name(id) == known.name
                && matches!(&known.record.was[side], Was::Seen(was) if was == tree.entry(id))
                && known.has_block == tree.entry(id).kind.is_dir();
            is_seen.then_some(id)
        }) else {
            return Ok(None);
        };
        if known.record.skipped != Pair::default() {
            return Ok(None);
        }
        if known.has_block {
            below.push(Pair::new(initiator, target));
        }
    }
    let is_more = Side::BOTH
        .into_iter()
        .any(|side| children[side].any(|id| trees[side].standing(id) != Standing::Excluded));
    Ok((!is_more).then_some(below))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::testing::{rules, situation};

    fn rows(change: Option<usize>) -> String {
        let mut rows = String::new();
        let mut number = 0;
        let mut file = |path: &str, rows: &mut String| {
            let now = if change == Some(number) { "f1@1%600" } else { "f1@1" };
            rows.push_str(&format!("{path}: f1@1 f1@1 {now} f1@1\n"));
            number += 1;
        };
        for dir in 0..70 {
            for path in [format!("d{dir}"), format!("d{dir}/e"), format!("d{dir}/e/f")] {
                rows.push_str(&format!("{path}: d d d d\n"));
            }
            file(&format!("d{dir}/a"), &mut rows);
            file(&format!("d{dir}/e/f/b"), &mut rows);
        }
        rows
    }

    #[test]
    fn one_change_is_found_wherever_it_is() {
        let answer = |rows: &str| {
            let situation = situation(rows);
            is_as_recorded(&situation.trees, &situation.baseline).unwrap()
        };
        assert!(answer(&rows(None)));
        for change in 0..140 {
            assert!(!answer(&rows(Some(change))), "{change}");
        }
        for more in ["d3/z: - - f1@1 -", "d3/e/f/z: - - - f1@1", "d3/e/f/z: f1@1 f1@1 - -"] {
            assert!(!answer(&format!("{}{more}\n", rows(None))), "{more}");
        }
        assert!(answer(&format!("{}d3/z: - - x -\n", rows(None))));
    }

    #[test]
    fn runs_that_may_act_where_nothing_changed_get_no_quick_answer() {
        assert!(suffices(&rules()));
        let with = |change: fn(&mut Rules)| {
            let mut rules = rules();
            change(&mut rules);
            suffices(&rules)
        };
        assert!(!with(|rules| rules.policy.one_way_from = Some(Side::Target)));
        assert!(!with(|rules| rules.preserve.hardlinks = true));
        assert!(!with(|rules| rules.preserve.checksum = true));
    }
}

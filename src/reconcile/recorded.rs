//! Whether the baseline says exactly what is there now: the answer of most runs, found in a
//! fraction of the time that it takes to find out what else is the case. Parts of the trees
//! are looked through at the same time.

use super::Rules;
use crate::state::{Baseline, Cursor, Damaged, Known, Recorded};
use crate::threads;
use crate::tree::{NodeId, Pair, Side, Standing, Tree};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A part is at most one of so many of all paths: so all threads end at about the same time.
const PARTS: u64 = 32;

/// Fewer paths than this are looked through sooner than others could help.
const FEW: u64 = 4000;

/// Whether nothing can be to do where nothing changed. A one-way run brings a tree over even
/// then, groups of hard links may be out of step by themselves, and digests of contents may
/// be missing.
pub fn suffices(rules: &Rules) -> bool {
    let preserve = &rules.preserve;
    let newly = &rules.newly;
    let nothing_newly = !(newly.permissions || newly.owner || newly.group || newly.executability);
    rules.policy.one_way_from.is_none()
        && !preserve.hardlinks
        && !preserve.checksum
        && nothing_newly
}

/// A directory of both trees, and where the baseline tells of what lies below it.
struct Part<'a> {
    dirs: Pair<NodeId>,
    cursor: Cursor<'a>,
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
    let root = Part { dirs: Pair::new(Tree::ROOT, Tree::ROOT), cursor: baseline.cursor() };
    if baseline.len() < FEW {
        whole(trees, root)
    } else {
        side_by_side(trees, root, baseline.len() / PARTS)
    }
}

/// Looks through all below a directory with several threads, which take parts of at most so
/// many paths.
fn side_by_side(trees: &Pair<Tree>, root: Part<'_>, most: u64) -> Result<bool, Damaged> {
    let queue = Queue::default();
    std::thread::scope(|scope| {
        // A machine out of threads still has this one.
        let help = || threads::start(scope, || queue.work(trees)).ok();
        let others: Vec<_> = (1..threads::most()).map_while(|_| help()).collect();
        let cut = queue.cut(trees, root, most);
        queue.all_is_cut(&cut);
        let mut result = cut.and_then(|same| Ok(same && queue.work(trees)?));
        for other in others {
            let found = match other.join() {
                Ok(found) => found,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            result = result.and_then(|same| Ok(found? && same));
        }
        result
    })
}

/// Parts that wait for a thread.
#[derive(Default)]
struct Queue<'a> {
    waiting: Mutex<Waiting<'a>>,
    news: Condvar,
}

#[derive(Default)]
struct Waiting<'a> {
    parts: Vec<Part<'a>>,
    /// No more will come.
    is_complete: bool,
    /// Something differs, or cannot be read: no other part matters any more.
    is_settled: bool,
}

impl<'a> Queue<'a> {
    /// Cuts what lies below a part into parts of at most so many paths. Directories above
    /// them are looked through on the way; says whether they are as recorded.
    fn cut(&self, trees: &Pair<Tree>, root: Part<'a>, most: u64) -> Result<bool, Damaged> {
        let mut large = vec![root];
        while let Some(mut part) = large.pop() {
            let Some(below) = below(trees, part.dirs, &mut part.cursor)? else { return Ok(false) };
            for dirs in below {
                let (cursor, known) = part.cursor.split_off()?;
                let part = Part { dirs, cursor };
                if known > most {
                    large.push(part);
                } else if !self.push(part) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Adds a part; says whether it matters.
    fn push(&self, part: Part<'a>) -> bool {
        let mut waiting = self.waiting();
        if !waiting.is_settled {
            waiting.parts.push(part);
            self.news.notify_one();
        }
        !waiting.is_settled
    }

    fn all_is_cut(&self, found: &Result<bool, Damaged>) {
        let mut waiting = self.waiting();
        waiting.is_complete = true;
        waiting.is_settled |= !matches!(found, Ok(true));
        self.news.notify_all();
    }

    /// Looks through parts until no more will come; says whether all were as recorded.
    fn work(&self, trees: &Pair<Tree>) -> Result<bool, Damaged> {
        while let Some(part) = self.next() {
            let found = whole(trees, part);
            if !matches!(found, Ok(true)) {
                self.waiting().is_settled = true;
                self.news.notify_all();
                return found;
            }
        }
        Ok(true)
    }

    fn next(&self) -> Option<Part<'a>> {
        let mut waiting = self.waiting();
        while !waiting.is_settled {
            let part = waiting.parts.pop();
            if part.is_some() || waiting.is_complete {
                return part;
            }
            waiting = self.news.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<'a>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
                && matches!(&known.record.was[side], Recorded::Seen(was) if was == tree.entry(id))
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
            let (trees, baseline) = (&situation.trees, &situation.baseline);
            let answer = is_as_recorded(trees, baseline).unwrap();
            for most in [0, 1, 4, 1000] {
                let dirs = Pair::new(Tree::ROOT, Tree::ROOT);
                let root = Part { dirs, cursor: baseline.cursor() };
                assert_eq!(side_by_side(trees, root, most).unwrap(), answer, "{most}");
            }
            answer
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

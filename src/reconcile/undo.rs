//! What it takes to put both sides back to where they were before a run (spec 9, `osync undo`).
//!
//! The rows of the journal say what the run did to each side. Each is taken back by itself, and
//! only where nothing has touched the path since, on either side. Paths are told by the names
//! that they have now; things that are moved back get the names from before.

use crate::reconcile::versions::Taken;
use crate::replica::kept_versions::KeptVersion;
use crate::state::journal::{Action, Change, KeptPlace, Look};
use crate::state::{Baseline, BaselineDamaged, Record, Recorded};
use crate::tree::{NodeId, Pair, RelPath, Side, Standing, Tree};
use std::collections::{BTreeMap, BTreeSet};

/// What is known beside the rows.
pub struct UndoFacts<'a> {
    /// Both sides as they are.
    pub trees: &'a Pair<Tree>,
    /// Paths that something has touched since the run, on whichever side.
    pub touched: &'a Touched,
    /// What is kept at a place of a side; `None`: nothing is there.
    pub kept: &'a dyn Fn(Side, &KeptPlace) -> Option<KeptTree>,
}

/// Something that is kept, and all below it: each with its path below the top, which comes first.
pub type KeptTree = Vec<(RelPath, KeptVersion)>;

/// Paths that something has touched since a run.
#[derive(Debug, Clone, Default)]
pub struct Touched {
    /// These themselves.
    paths: BTreeSet<RelPath>,
    /// These with all below them.
    trees: BTreeSet<RelPath>,
}

impl Touched {
    /// Notes a path.
    pub fn add(&mut self, path: RelPath) {
        self.paths.insert(path);
    }

    /// Notes what a later run did.
    pub fn add_change(&mut self, change: &Change) {
        let is_tree = change.below > 0 || change.action == Action::Moved;
        for path in std::iter::once(&change.path).chain(&change.other) {
            match change.action {
                Action::Times => {}
                Action::Metadata => self.add(path.clone()),
                _ if is_tree => {
                    self.trees.insert(path.clone());
                }
                _ => self.add(path.clone()),
            }
        }
    }

    /// Whether a path itself was touched.
    #[must_use]
    pub fn has(&self, path: &RelPath) -> bool {
        self.paths.contains(path) || path.ancestors().any(|above| self.trees.contains(&above))
    }

    /// Whether it, or anything below it, was.
    #[must_use]
    pub fn has_within(&self, path: &RelPath) -> bool {
        let within = |paths: &BTreeSet<RelPath>| {
            paths.range::<RelPath, _>(path..).next().is_some_and(|next| next.is_within(path))
        };
        self.has(path) || within(&self.paths) || within(&self.trees)
    }
}

/// One thing that is taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// What the run made goes, with all below it.
    Remove {
        /// Where it is.
        path: RelPath,
    },
    /// What the run brought makes way for what was there.
    Replace {
        /// Where it is.
        path: RelPath,
        /// Where that is kept.
        kept: KeptVersion,
    },
    /// What the run deleted comes back, with all below it.
    Bring {
        /// Where it comes to.
        path: RelPath,
        /// Where it is kept.
        kept: KeptVersion,
        /// How many entries it has below it.
        below: u64,
    },
    /// A directory that the run removed is made again.
    Remake {
        /// Where.
        path: RelPath,
        /// What it was.
        look: Look,
    },
    /// What the run renamed gets its old name.
    Move {
        /// The name that it has.
        path: RelPath,
        /// The one it had.
        other: RelPath,
        /// How many entries it has below it.
        below: u64,
    },
    /// Metadata is set back.
    Metadata {
        /// Of what.
        path: RelPath,
        /// What it was.
        before: Look,
        /// ACLs and extended attributes, as the journal holds them.
        attributes: Option<Vec<u8>>,
    },
    /// The time of a directory is set back.
    Time {
        /// Of which.
        path: RelPath,
        /// What it was.
        before: Look,
        /// What the run gave it.
        after: Option<Look>,
    },
}

impl Step {
    /// The path that it is about, as it is called now.
    #[must_use]
    pub fn path(&self) -> &RelPath {
        match self {
            Step::Remove { path }
            | Step::Replace { path, .. }
            | Step::Bring { path, .. }
            | Step::Remake { path, .. }
            | Step::Move { path, .. }
            | Step::Metadata { path, .. }
            | Step::Time { path, .. } => path,
        }
    }
}

/// Why something cannot be put back at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotRestore {
    /// It was never kept.
    #[error("what was there was not kept (CONFLICT_BACKUP, SOFT_DELETE)")]
    NotKept,
    /// It was, and is gone.
    #[error("what was there is no longer kept")]
    Gone,
    /// Its ACL and attributes are not known.
    #[error("its ACLs and extended attributes from before are not known")]
    Attributes,
}

/// What it takes to go back.
#[derive(Debug, Default)]
pub struct UndoPlan {
    /// What is done on each side.
    pub steps: Pair<Vec<Step>>,
    /// Paths that something has touched since: they are left.
    pub left: BTreeSet<RelPath>,
    /// What cannot be put back.
    pub lost: Vec<(Side, RelPath, CannotRestore)>,
}

/// Plans it.
#[must_use]
pub fn plan(rows: &[Change], facts: &UndoFacts<'_>) -> UndoPlan {
    let mut plan = UndoPlan::default();
    for side in Side::BOTH {
        let rows: Vec<&Change> = rows.iter().filter(|row| row.side == side).collect();
        let mut one = OneSide {
            facts,
            side,
            touched: facts.touched.clone(),
            not_moved_back: BTreeSet::new(),
            steps: Vec::new(),
            restored: Vec::new(),
            replaced: BTreeSet::new(),
            plan: &mut plan,
        };
        one.all(&rows);
        let steps = one.steps;
        plan.steps[side] = steps;
    }
    plan
}

struct OneSide<'a, 'p> {
    facts: &'a UndoFacts<'a>,
    side: Side,
    /// With what stays although the run brought it here.
    touched: Touched,
    /// Names from before to which nothing is moved back.
    not_moved_back: BTreeSet<RelPath>,
    steps: Vec<Step>,
    /// Kept places that come back: what lies in them comes with them.
    restored: Vec<KeptPlace>,
    /// Paths at which something makes way, with all below it.
    replaced: BTreeSet<RelPath>,
    plan: &'p mut UndoPlan,
}

impl OneSide<'_, '_> {
    fn all(&mut self, rows: &[&Change]) {
        // what is not moved back stays, with the directories that hold it
        let mut moved: Vec<&Change> =
            rows.iter().filter(|row| row.action == Action::Moved).copied().collect();
        // a directory before what is moved back into it
        moved.sort_by_key(|row| row.other.as_ref());
        moved.into_iter().for_each(|row| self.moved(row));
        for row in rows.iter().filter(|row| row.action == Action::Updated) {
            self.updated(row);
        }
        for row in rows {
            match row.action {
                Action::Created => self.created(row),
                Action::Deleted => self.deleted(row),
                Action::Metadata => self.metadata(row),
                Action::Times => self.times(row),
                Action::Moved | Action::Updated => {}
            }
        }
    }

    fn leave(&mut self, path: &RelPath) {
        self.plan.left.insert(path.clone());
        self.touched.add(path.clone());
    }

    fn lose(&mut self, path: &RelPath, why: CannotRestore) {
        self.plan.lost.push((self.side, path.clone(), why));
        self.touched.add(path.clone());
    }

    fn now(&self, path: &RelPath) -> Option<NodeId> {
        self.facts.trees[self.side].find(path)
    }

    fn moved(&mut self, row: &Change) {
        let Some(other) = &row.other else { return };
        if self.facts.touched.has_within(&row.path)
            || self.facts.touched.has_within(other)
            || self.has_lost_its_directory(other)
        {
            self.not_moved_back.insert(other.clone());
            return self.leave(&row.path);
        }
        let (path, other) = (row.path.clone(), other.clone());
        self.steps.push(Step::Move { path, other, below: row.below });
    }

    fn updated(&mut self, row: &Change) {
        let holds_others = self.now(&row.path).is_some_and(|top| self.holds_others(top));
        if holds_others || self.touched.has_within(&row.path) {
            return self.leave(&row.path);
        }
        match self.what_is_kept(row) {
            Err(lost) => self.lose(&row.path, lost),
            Ok((place, all)) => {
                let Some((_, kept)) = all.into_iter().next() else { return };
                self.restored.push(place);
                self.replaced.insert(row.path.clone());
                self.steps.push(Step::Replace { path: row.path.clone(), kept });
            }
        }
    }

    /// What was at the path before, if it is still kept.
    fn what_is_kept(&self, row: &Change) -> Result<(KeptPlace, KeptTree), CannotRestore> {
        let place = row.kept.clone().ok_or(CannotRestore::NotKept)?;
        let all = (self.facts.kept)(self.side, &place).ok_or(CannotRestore::Gone)?;
        let is_it = match (&row.before, all.first()) {
            (Some(before), Some((_, top))) => before.is_of(&top.entry),
            _ => false,
        };
        let is_whole = all.len() as u64 > row.below || row.action == Action::Updated;
        if is_it && is_whole { Ok((place, all)) } else { Err(CannotRestore::Gone) }
    }

    fn created(&mut self, row: &Change) {
        if within_any(&row.path, &self.replaced) {
            return;
        }
        match self.now(&row.path) {
            Some(top) => {
                self.remove(top, row.path.clone());
            }
            None => self.leave(&row.path),
        }
        // what is gone of it since was somebody's doing
        let gone: Vec<RelPath> = self
            .facts
            .touched
            .paths
            .range::<RelPath, _>(&row.path..)
            .take_while(|path| path.is_within(&row.path))
            .cloned()
            .collect();
        self.plan.left.extend(gone);
    }

    /// Removes what is untouched of a tree, in as few pieces as can be.
    fn remove(&mut self, top: NodeId, path: RelPath) {
        let holds_others = self.holds_others(top);
        if !holds_others && !self.touched.has_within(&path) {
            self.steps.push(Step::Remove { path });
            return;
        }
        let tree = &self.facts.trees[self.side];
        let is_dir = tree.entry(top).kind.is_dir();
        let takes_part = |child: &NodeId| tree.standing(*child) == Standing::Present;
        if holds_others {
            self.plan.left.insert(path.clone());
        }
        let children: Vec<(NodeId, RelPath)> = tree
            .children(top)
            .filter(takes_part)
            .map(|child| (child, path.join(tree.name(child))))
            .collect();
        if self.touched.has(&path) && !is_dir {
            self.plan.left.insert(path);
            return;
        }
        for (child, path) in children {
            self.remove(child, path);
        }
    }

    /// Whether something lies below that takes no part, as what is excluded: no run brought it.
    fn holds_others(&self, top: NodeId) -> bool {
        let tree = &self.facts.trees[self.side];
        let mut stack = vec![top];
        while let Some(dir) = stack.pop() {
            for child in tree.children(dir) {
                if tree.standing(child) != Standing::Present {
                    return true;
                }
                stack.push(child);
            }
        }
        false
    }

    fn deleted(&mut self, row: &Change) {
        let is_with_another = row.kept.as_ref().is_some_and(|kept| {
            let holds = |above: &KeptPlace| {
                above.keep == kept.keep
                    && kept.place != above.place
                    && kept.place.is_within(&above.place)
            };
            self.restored.iter().any(holds)
        });
        if is_with_another {
            return;
        }
        if self.has_lost_its_directory(&row.path) {
            return self.leave(&row.path);
        }
        let is_there = self.now(&row.path).is_some() && !self.is_moved_away(&row.path);
        if self.touched.has(&row.path) || (is_there && !within_any(&row.path, &self.replaced)) {
            let is_dir = |look: &Look| look.kind.is_dir();
            if !row.before.as_ref().is_some_and(is_dir) || row.below == 0 {
                return self.leave(&row.path);
            }
        }
        let (place, all) = match self.what_is_kept(row) {
            Ok(found) => found,
            Err(lost) => {
                return match &row.before {
                    Some(look) if look.kind.is_dir() && row.below == 0 && row.kept.is_none() => {
                        let (path, look) = (row.path.clone(), look.clone());
                        self.steps.push(Step::Remake { path, look });
                    }
                    _ => self.lose(&row.path, lost),
                };
            }
        };
        if self.touched.has_within(&row.path) || is_there {
            return self.bring_apart(row, &all);
        }
        let Some(below) = all.len().checked_sub(1) else { return };
        let Some((_, kept)) = all.into_iter().next() else { return };
        self.restored.push(place);
        self.steps.push(Step::Bring { path: row.path.clone(), kept, below: below as u64 });
    }

    /// Whether a directory in which a path would stand is none now, and stays as it is: somebody
    /// took it away since the run, or what has its place is left.
    fn has_lost_its_directory(&self, path: &RelPath) -> bool {
        let is_left = |at: &RelPath| self.touched.has(at) || self.not_moved_back.contains(at);
        path.ancestors()
            .skip(1)
            .any(|above| !above.is_root() && is_left(&above) && !self.is_dir_now(&above))
    }

    fn is_dir_now(&self, path: &RelPath) -> bool {
        let tree = &self.facts.trees[self.side];
        self.now(path).is_some_and(|id| tree.entry(id).kind.is_dir())
    }

    /// Whether what is there gets another name by this.
    fn is_moved_away(&self, path: &RelPath) -> bool {
        self.steps
            .iter()
            .any(|step| matches!(step, Step::Move { path: moved, .. } if moved == path))
    }

    /// Brings back what nothing has touched of a directory.
    fn bring_apart(&mut self, row: &Change, all: &[(RelPath, KeptVersion)]) {
        for (below, kept) in all {
            let path = row.path.join_path(below);
            let is_dir = kept.entry.kind.is_dir();
            let is_left = self.now(&path).is_some() || self.touched.has(&path);
            if is_dir && self.is_dir_now(&path) {
                if self.touched.has(&path) && !below.is_root() {
                    self.plan.left.insert(path);
                }
            } else if is_left || self.has_lost_its_directory(&path) {
                self.plan.left.insert(path);
            } else if is_dir {
                self.steps.push(Step::Remake { path, look: Look::of(&kept.entry) });
            } else {
                self.steps.push(Step::Bring { path, kept: kept.clone(), below: 0 });
            }
        }
    }

    fn metadata(&mut self, row: &Change) {
        if self.touched.has(&row.path) || self.now(&row.path).is_none() {
            return self.leave(&row.path);
        }
        let Some(before) = &row.before else { return };
        let is_told =
            row.attributes.is_some() || row.after.as_ref().is_some_and(|after| after != before);
        if !is_told {
            self.lose(&row.path, CannotRestore::Attributes);
            return;
        }
        self.steps.push(Step::Metadata {
            path: row.path.clone(),
            before: before.clone(),
            attributes: row.attributes.clone(),
        });
    }

    fn times(&mut self, row: &Change) {
        if let Some(before) = &row.before {
            let (path, before, after) = (row.path.clone(), before.clone(), row.after.clone());
            self.steps.push(Step::Time { path, before, after });
        }
    }
}

fn within_any(path: &RelPath, tops: &BTreeSet<RelPath>) -> bool {
    path.ancestors().any(|above| tops.contains(&above))
}

/// How names from now become names from before, and back.
#[derive(Debug, Default)]
pub struct Names {
    /// Old names by new ones.
    before: BTreeMap<RelPath, RelPath>,
}

impl Names {
    /// Those that the steps of a side change.
    #[must_use]
    pub fn of(steps: &[Step]) -> Self {
        let moves = steps.iter().filter_map(|step| match step {
            Step::Move { path, other, .. } => Some((path.clone(), other.clone())),
            _ => None,
        });
        Names { before: moves.collect() }
    }

    /// The name from before of what is in something that is moved back.
    #[must_use]
    pub fn before(&self, path: &RelPath) -> RelPath {
        let mut above = Some(path.clone());
        while let Some(at) = above {
            if let Some(before) = self.before.get(&at).and_then(|old| path.rebased(&at, old)) {
                return before;
            }
            above = at.parent();
        }
        path.clone()
    }

    /// Where something comes to that is called so: its directory may be moved back, and what has
    /// its name now may have taken it since.
    #[must_use]
    pub fn place(&self, path: &RelPath) -> RelPath {
        path.parent().map_or_else(RelPath::root, |dir| self.before(&dir).join(path.name()))
    }

    /// The name now of a path from before.
    #[must_use]
    pub fn now(&self, path: &RelPath) -> RelPath {
        let held = self.before.iter().filter(|(_, old)| path.is_within(old));
        let innermost = held.max_by_key(|(_, old)| old.depth());
        innermost.and_then(|(new, old)| path.rebased(old, new)).unwrap_or_else(|| path.clone())
    }
}

/// Ends a difference that stands after an undo. The side whose version is to stand is recorded
/// as if it had had what the other one has: what it has in truth is then a change of its own,
/// which the next run carries over like any other.
///
/// # Errors
/// The baseline cannot be read to its end.
pub fn end_difference(
    old: &Baseline,
    top: &RelPath,
    taken: Taken,
) -> Result<Baseline, BaselineDamaged> {
    let mut records = Vec::new();
    let mut with_below = true;
    for known in old.records() {
        let (path, mut record) = known?;
        if path == *top || (with_below && path.is_within(top)) {
            if path == *top {
                // of a directory on both sides, what lies in it has differences of its own
                let is_dir = |was: &Recorded| matches!(was, Recorded::Seen(e) if e.kind.is_dir());
                with_below = !Side::BOTH.iter().all(|side| is_dir(&record.was[*side]));
            }
            record = match taken {
                Taken::Of(side) => as_on_the_other(record, side),
                Taken::Both => Record::default(),
            };
            if record.is_empty() {
                continue;
            }
        }
        records.push((path, record));
    }
    Ok(Baseline::from_records(old.header().clone(), records))
}

fn as_on_the_other(record: Record, side: Side) -> Record {
    let mut was = record.was;
    was[side] = match &was[side.other()] {
        Recorded::Seen(entry) => {
            // an inode of the other side says nothing here
            let mut entry = entry.clone();
            (entry.dev, entry.ino) = (0, 0);
            Recorded::Seen(entry)
        }
        other => other.clone(),
    };
    Record { was, skipped: Pair::default() }
}

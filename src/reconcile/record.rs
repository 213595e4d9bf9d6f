//! The next baseline, from what was achieved (spec 4, "Recording").

use super::delta::{Delta, PathId};
use super::join::{self, as_dirs, merge_block, standing};
use super::plan::{Act, NextRecord, Plan};
use crate::state::{
    Baseline, BaselineDamaged, BaselineWriter, Disorder, Header, Known, KnownRef, Record, Recorded,
};
use crate::tree::same::{COARSEST, arrived, is_same_inode, stamps_agree};
use crate::tree::{Entry, NodeId, Pair, RelPath, Side, Standing, Tree};
use std::collections::{BTreeMap, BTreeSet};

/// Why no baseline could be written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The old baseline cannot be read to its end.
    #[error(transparent)]
    Damaged(#[from] BaselineDamaged),
    /// The new one was put together wrongly.
    #[error(transparent)]
    Disorder(#[from] Disorder),
}

/// What became of a plan.
#[derive(Debug, Default)]
pub struct Achieved {
    /// Paths where something planned did not come about: their old baseline stays.
    pub failed: BTreeSet<PathId>,
    /// Entries that were touched, as they were read again afterwards; `None`: gone.
    pub reread: Pair<Reread>,
    /// Sources that went on changing, as they were when they were sent.
    pub sent_as: BTreeMap<PathId, Entry>,
    /// Moves of the plan, by their index, that could not be made.
    pub failed_moves: BTreeSet<usize>,
}

/// Entries by path. A first run reads every entry again, so this stays small: a number a
/// path, and the entries side by side.
#[derive(Debug, Default)]
pub struct Reread {
    /// By [`PathId::index`]: 0 where nothing is known, else one more than the entry's place.
    places: Vec<u32>,
    entries: Vec<Option<Entry>>,
}

impl Reread {
    /// What was found when the path was read again: an entry, or nothing there.
    #[must_use]
    pub fn get(&self, path_id: PathId) -> Option<&Option<Entry>> {
        let place = *self.places.get(path_id.index())?;
        self.entries.get(place.checked_sub(1)? as usize)
    }

    /// Notes what was found.
    pub fn insert(&mut self, path_id: PathId, found: Option<Entry>) {
        if self.places.len() <= path_id.index() {
            self.places.resize(path_id.index() + 1, 0);
        }
        let place = &mut self.places[path_id.index()];
        if let Some(entry) = place.checked_sub(1).and_then(|at| self.entries.get_mut(at as usize)) {
            *entry = found;
        } else {
            self.entries.push(found);
            // Not more entries than path_ids, which are counted in 32 bits.
            *place = u32::try_from(self.entries.len()).unwrap_or(0);
        }
    }

    /// Forgets what was found.
    pub fn remove(&mut self, path_id: PathId) {
        if let Some(place) = self.places.get_mut(path_id.index()) {
            *place = 0;
        }
    }
}

impl Achieved {
    /// Counts a path, and every path of the plan below it, as not achieved.
    pub fn fail_below(&mut self, delta: &Delta, top: PathId) {
        self.failed.insert(top);
        self.failed.extend(delta.below(top));
    }

    /// Whether what was planned for the path came about.
    #[must_use]
    pub fn succeeded(&self, path_id: PathId) -> bool {
        !self.failed.contains(&path_id)
    }
}

/// What the next baseline says otherwise than the one before. It must not be written before
/// that is on the disk (spec 8, "On the disk").
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claims {
    paths: Vec<RelPath>,
    too_many_to_name: bool,
}

impl Claims {
    /// More paths than that are not named one by one: a whole file system is flushed faster.
    pub const FEW: usize = 32;

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty() && !self.too_many_to_name
    }

    /// The paths, if they are few.
    #[must_use]
    pub fn few(&self) -> Option<&[RelPath]> {
        (!self.too_many_to_name).then_some(self.paths.as_slice())
    }

    fn add(&mut self, path: impl FnOnce() -> Option<RelPath>) {
        let path = if self.paths.len() < Self::FEW { path() } else { None };
        match path {
            Some(path) if !self.too_many_to_name => self.paths.push(path),
            _ => self.too_many_to_name = true,
        }
    }
}

enum Step {
    Enter { nodes: Pair<Option<NodeId>>, path_id: Option<PathId>, has_block: bool },
    Copy,
    Skip,
}

/// Writes the next baseline: paths in step as scanned, touched ones as achieved, failed
/// ones as before, excluded ones not at all. Tells what is new in it.
///
/// # Errors
/// See [`RecordError`]; nothing was written then.
pub fn record(
    trees: &Pair<Tree>,
    old: &Baseline,
    plan: &Plan,
    achieved: &Achieved,
    header: Header,
) -> Result<(Baseline, Claims), RecordError> {
    if plan.delta.is_as_recorded() {
        return Ok((old.clone().with_header(header), Claims::default()));
    }
    record_anew(trees, old, plan, achieved, header)
}

/// Puts the next baseline together, path by path.
pub(super) fn record_anew(
    trees: &Pair<Tree>,
    old: &Baseline,
    plan: &Plan,
    achieved: &Achieved,
    header: Header,
) -> Result<(Baseline, Claims), RecordError> {
    let recorder = Recorder::new(trees, plan, achieved);
    let mut writer = BaselineWriter::like(old, header);
    let mut cursor = old.cursor();
    let both_roots = Pair::new(Some(Tree::ROOT), Some(Tree::ROOT));
    let mut steps =
        vec![Step::Enter { nodes: both_roots, path_id: Some(Delta::ROOT), has_block: true }];
    let mut block: Vec<Known<'_>> = Vec::new();
    let mut claims = Claims::default();
    while let Some(step) = steps.pop() {
        match step {
            Step::Skip => cursor.skip_subtree()?,
            Step::Copy => cursor.copy_subtree(&mut writer)?,
            Step::Enter { nodes, path_id, has_block } => {
                let may_copy = path_id.is_none() && has_block;
                if let Some(dirs) = may_copy.then(|| on_both(nodes)).flatten()
                    && let Some(below) = join::recorded_below(trees, dirs, &mut cursor.ahead())?
                {
                    // As recorded: copying it takes a fraction of writing it anew.
                    cursor.copy_block(&mut writer)?;
                    let enter = |dirs: Pair<NodeId>| Step::Enter {
                        nodes: dirs.map(Some),
                        path_id: None,
                        has_block: true,
                    };
                    steps.extend(below.into_iter().rev().map(enter));
                    continue;
                }
                block.clear();
                if has_block {
                    cursor.block_into(&mut block)?;
                }
                let mut next = Vec::new();
                let children = recorder.directory(nodes, path_id, &block, &mut next, &mut claims);
                writer.block(children.iter().map(Line::borrowed));
                steps.extend(next.into_iter().rev());
            }
        }
    }
    Ok((writer.finish()?, claims))
}

fn on_both(nodes: Pair<Option<NodeId>>) -> Option<Pair<NodeId>> {
    Some(Pair::new(nodes.initiator?, nodes.target?))
}

struct Line {
    name: Vec<u8>,
    record: Record,
    has_block: bool,
}

impl Line {
    fn borrowed(&self) -> KnownRef<'_> {
        KnownRef { name: &self.name, record: &self.record, has_block: self.has_block }
    }
}

struct Recorder<'a> {
    trees: &'a Pair<Tree>,
    plan: &'a Plan,
    achieved: &'a Achieved,
    /// Old names of moves that failed, with the path that carries their baseline.
    old_of_failed_moves: BTreeMap<PathId, PathId>,
    /// New names of moves that failed.
    new_of_failed_moves: BTreeSet<PathId>,
    /// Whether the path, or something below it, stays in the baseline.
    keeps: Vec<bool>,
}

impl<'a> Recorder<'a> {
    fn new(trees: &'a Pair<Tree>, plan: &'a Plan, achieved: &'a Achieved) -> Self {
        let mut recorder = Recorder {
            trees,
            plan,
            achieved,
            old_of_failed_moves: BTreeMap::new(),
            new_of_failed_moves: BTreeSet::new(),
            keeps: vec![false; plan.delta.len()],
        };
        for index in &achieved.failed_moves {
            for (from, to) in
                plan.moves.get(*index).map(|m| m.carried.as_slice()).unwrap_or_default()
            {
                recorder.old_of_failed_moves.insert(*from, *to);
                recorder.new_of_failed_moves.insert(*to);
            }
        }
        for path_id in plan.delta.path_ids().rev() {
            let keeps = recorder.keeps[path_id.index()] || recorder.stays(path_id);
            recorder.keeps[path_id.index()] = keeps;
            recorder.keeps[plan.delta.parent(path_id).index()] |= keeps;
        }
        recorder
    }

    /// One directory's lines, and what to do with the directories among them.
    fn directory(
        &self,
        nodes: Pair<Option<NodeId>>,
        path_id: Option<PathId>,
        block: &[Known<'_>],
        next: &mut Vec<Step>,
        claims: &mut Claims,
    ) -> Vec<Line> {
        let delta = &self.plan.delta;
        let mut path_ids = path_id.map(|s| delta.children(s)).into_iter().flatten().peekable();
        let mut lines = Vec::new();
        let mut emit = |name: &[u8], now, known: Option<&Known<'_>>, path_id| {
            let written = lines.len();
            self.child(name, now, known, path_id, &mut lines, next);
            let new = lines.get(written).map(|line| &line.record);
            if new != known.map(|known| &known.record) {
                claims.add(|| self.path_of(now, path_id));
            }
        };
        merge_block(self.trees, as_dirs(self.trees, nodes), block, |joined| {
            // Places that only the delta knows: new names of entries that moved.
            while let Some(s) = path_ids.next_if(|s| delta.name(*s) < joined.name) {
                emit(delta.name(s), Pair::default(), None, Some(s));
            }
            let path_id = path_ids.next_if(|s| delta.name(*s) == joined.name);
            emit(joined.name, joined.now, joined.known.map(|index| &block[index]), path_id);
        });
        for s in path_ids {
            emit(delta.name(s), Pair::default(), None, Some(s));
        }
        lines
    }

    /// None where nothing but the old baseline knows the path.
    fn path_of(&self, now: Pair<Option<NodeId>>, path_id: Option<PathId>) -> Option<RelPath> {
        let of_tree = |side: Side| now[side].map(|id| self.trees[side].path(id));
        let of_plan = path_id.map(|path_id| self.plan.path(path_id));
        of_plan.or_else(|| of_tree(Side::Initiator)).or_else(|| of_tree(Side::Target))
    }

    fn child(
        &self,
        name: &[u8],
        now: Pair<Option<NodeId>>,
        known: Option<&Known<'_>>,
        path_id: Option<PathId>,
        lines: &mut Vec<Line>,
        next: &mut Vec<Step>,
    ) {
        let has_old_block = known.is_some_and(|k| k.has_block);
        let mut line = |record: Record, has_block: bool| {
            lines.push(Line { name: name.to_vec(), record, has_block });
        };
        match (path_id, standing(self.trees, now)) {
            (_, Standing::Unknown) => {
                if let Some(known) = known {
                    line(known.record.clone(), has_old_block);
                    if has_old_block {
                        next.push(Step::Copy);
                    }
                }
            }
            (None, Standing::Present) => {
                let entry = |side: Side| now[side].map(|id| self.trees[side].entry(id));
                let both = (entry(Side::Initiator), entry(Side::Target));
                if let (Some(i), Some(t)) = both {
                    line(Record::in_step(i.clone(), t.clone()), i.kind.is_dir());
                }
                match both {
                    (Some(i), Some(_)) if i.kind.is_dir() => next.push(Step::Enter {
                        nodes: now,
                        path_id: None,
                        has_block: has_old_block,
                    }),
                    // It was a directory. Its block has to be passed, or the next directory would
                    // be read from it.
                    _ if has_old_block => next.push(Step::Skip),
                    _ => {}
                }
            }
            (Some(path_id), Standing::Present) if self.keeps[path_id.index()] => {
                let enters = has_old_block
                    || as_dirs(self.trees, now) != Pair::default()
                    || self.plan.delta.children(path_id).next().is_some();
                line(self.record_of(path_id).unwrap_or_default(), enters);
                if enters {
                    next.push(Step::Enter {
                        nodes: now,
                        path_id: Some(path_id),
                        has_block: has_old_block,
                    });
                }
            }
            // Excluded, or gone from both sides.
            _ => {
                if has_old_block {
                    next.push(Step::Skip);
                }
            }
        }
    }

    /// Whether the path has a record of its own in the next baseline.
    fn stays(&self, path_id: PathId) -> bool {
        self.record_of(path_id).is_some_and(|record| !record.is_empty())
    }

    fn record_of(&self, path_id: PathId) -> Option<Record> {
        let delta = &self.plan.delta;
        if let Some(to) = self.old_of_failed_moves.get(&path_id) {
            return delta.record(*to).cloned();
        }
        let verdict = self.plan.verdict(path_id);
        if self.new_of_failed_moves.contains(&path_id)
            || verdict.next_record == NextRecord::Forgotten
        {
            return None;
        }
        if !self.achieved.succeeded(path_id) || verdict.next_record == NextRecord::KeepOld {
            return delta.record(path_id).cloned();
        }
        let was = Pair::from_fn(|side| {
            self.found(path_id, side).map_or(Recorded::Absent, Recorded::Seen)
        });
        let mut record = Record { was, skipped: Pair::default() };
        if let NextRecord::DeletionSkipped(side) = verdict.next_record {
            record.skipped[side] = true;
        }
        Some(record)
    }

    /// What a side has at the path after the run.
    fn found(&self, path_id: PathId, side: Side) -> Option<Entry> {
        let verdict = self.plan.verdict(path_id);
        let is_gone = verdict.act == Act::Delete { on: side } || verdict.makes_way_on == Some(side);
        let scanned = self.plan.entry(self.trees, path_id, side);
        if let (Act::Send { to }, Some(sent)) = (verdict.act, self.achieved.sent_as.get(&path_id))
            && to == side.other()
        {
            return Some(sent.clone());
        }
        match self.achieved.reread[side].get(path_id) {
            Some(reread) if is_gone || verdict.act == (Act::Send { to: side }) => reread.clone(),
            // It was renamed, or given other metadata: what is new in its content is not
            // ours, and the next run has to see it.
            Some(reread) => match (scanned, reread) {
                (Some(scanned), Some(reread)) if stamps_agree(reread, scanned) => {
                    Some(reread.clone())
                }
                (Some(scanned), Some(reread))
                    if verdict.time_on == Some(side) && is_same_inode(scanned, reread) =>
                {
                    let given = self.plan.entry(self.trees, path_id, side.other());
                    let is_given = given.is_some_and(|given| arrived(given, reread, COARSEST));
                    Some(if is_given { reread.clone() } else { scanned.clone() })
                }
                (Some(scanned), _) => Some(scanned.clone()),
                (None, reread) => reread.clone(),
            },
            None if is_gone => None,
            None => scanned.cloned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::testing::{
        Situation, afterwards, carry_out, path, plan, rules, situation, tree, words,
    };
    use crate::tree::Stamp;

    #[test]
    fn the_empty_block_of_a_former_directory_is_passed_and_not_read_for_the_next_one() {
        // A directory that became a file, in a run in which its block was written once more.
        let rows = "c: f1@1 f1@1 f1@1 f1@1\nd: d d d d\nd/e: f2@1 f2@1 u u";
        let situation = situation(rows);
        let mut writer = BaselineWriter::new(Header::default());
        let records: Vec<(RelPath, Record)> =
            situation.baseline.records().collect::<Result<_, _>>().unwrap();
        let line = |at: &str, has_block: bool| {
            let known = records.iter().find(|(known, _)| *known == path(at)).unwrap();
            Line { name: known.0.name().to_vec(), record: known.1.clone(), has_block }
        };
        for block in [vec![line("c", true), line("d", true)], vec![], vec![line("d/e", false)]] {
            writer.block(block.iter().map(Line::borrowed));
        }
        let old = writer.finish().unwrap();
        let plan =
            Plan::new(join::join(&situation.trees, &old, &rules(), Pair::default()).unwrap());
        let achieved = Achieved::default();
        let (next, _) =
            record_anew(&situation.trees, &old, &plan, &achieved, Header::default()).unwrap();
        let next: Vec<(RelPath, Record)> = next.records().collect::<Result<_, _>>().unwrap();
        assert_eq!(next, records);
    }

    /// Plans, carries out, lets some paths fail, and records.
    fn after(situation: &Situation, mut spoil: impl FnMut(&Plan, &mut Achieved)) -> Baseline {
        let plan = plan(situation, &rules());
        let (_, mut achieved) = carry_out(situation, &plan);
        spoil(&plan, &mut achieved);
        let header = situation.baseline.header().clone();
        record(&situation.trees, &situation.baseline, &plan, &achieved, header).unwrap().0
    }

    fn of(baseline: &Baseline, wanted: &str) -> Option<Record> {
        baseline
            .records()
            .map(Result::unwrap)
            .find(|(at, record)| *at == path(wanted) && !record.is_empty())
            .map(|(_, record)| record)
    }

    fn path_id(plan: &Plan, wanted: &str) -> PathId {
        plan.delta.path_ids().find(|path_id| plan.path(*path_id) == path(wanted)).unwrap()
    }

    #[test]
    fn what_failed_keeps_its_old_baseline() {
        let situation = situation(
            "a: f1@1 f1@1 f2@5 f1@1
             b: f1@1 f1@1 - f1@1
             n: - - f1@1 -",
        );
        let baseline = after(&situation, |plan, achieved| {
            achieved.failed = ["a", "b", "n"].iter().map(|name| path_id(plan, name)).collect();
        });
        for name in ["a", "b"] {
            assert_eq!(of(&baseline, name), of(&situation.baseline, name), "{name}");
        }
        assert_eq!(of(&baseline, "n"), None);
    }

    #[test]
    fn an_edit_of_what_was_renamed_or_given_a_mode_meanwhile_is_seen_by_the_next_run() {
        for (rows, name, done) in [
            ("a: f1@1#5 f1@1 - f1@1\nb: - - f1@1#5 -", "b", ">> move a -> b"),
            ("b: f1@1 f1@1 f1@1%600 f1@1", "b", ">> attr b"),
        ] {
            let situation = situation(rows);
            assert_eq!(words(&plan(&situation, &rules())), [done]);
            let mut files = None;
            let baseline = after(&situation, |plan, achieved| {
                let mut after = carry_out(&situation, plan).0;
                let edited = &mut after.target.get_mut(&path(name)).unwrap().1;
                (edited.size, edited.mtime) = (9, Stamp::new(70, 0));
                achieved.reread.target.insert(path_id(plan, name), Some(edited.clone()));
                files = Some(after);
            });
            let files = files.unwrap();
            let trees = Pair::new(tree(&files.initiator), tree(&files.target));
            let next = plan(&Situation { files, trees, baseline }, &rules());
            assert!(words(&next).contains(&"<< send b".to_owned()), "{done}: {:?}", words(&next));
        }
    }

    #[test]
    fn a_move_that_failed_is_decided_again_from_the_old_name() {
        let rows = "d: d#5 d - d\nd/a: f1@1#6 f1@1 - f1@1\ne: - - d#5 -\ne/a: - - f1@1#6 -";
        let situation = situation(rows);
        let first = words(&plan(&situation, &rules()));
        let baseline = after(&situation, |plan, achieved| {
            achieved.failed_moves.insert(0);
            achieved.fail_below(&plan.delta, path_id(plan, "e"));
        });
        for name in ["d", "d/a", "e", "e/a"] {
            assert_eq!(of(&baseline, name), of(&situation.baseline, name), "{name}");
        }
        let again = Situation { baseline, ..situation };
        assert_eq!(words(&plan(&again, &rules())), first);
    }

    #[test]
    fn what_is_recorded_as_it_is_need_not_be_recorded_anew() {
        for (rows, is_as_recorded) in [
            ("", true),
            ("d: d d d d\nd/a: f1@1 f1@1 f1@1 f1@1\nl: l:x@1 l:x@1 l:x@1 l:x@1", true),
            ("x: - - x -\na: f1@1 f1@1 f1@1 f1@1", true),
            ("x: f1@1 f1@1 x f1@1", false),
            ("u: d d u d", false),
            ("a: f1@1#5 f1@1 f1@1#6 f1@1", false),
            ("a: f1@1 f1@1 f1@1 f1@1#8", false),
            ("a: f1@1 f1@1 f1@1 f1@1%600", false),
            ("a: f1@1 f1@1! f1@1 f1@1", false),
            ("a: L L f1@1 f1@1", false),
            ("a: - - f1@1 f1@1", false),
            ("d: d d d d\nd/a: f1@1 f1@1 - -", false),
            ("d: d d d d\nd/a: f1@1 f1@1 f2@2 f1@1", false),
        ] {
            let situation = situation(rows);
            let plan = plan(&situation, &rules());
            assert_eq!(plan.delta.is_as_recorded(), is_as_recorded, "{rows}");
            let (_, achieved) = carry_out(&situation, &plan);
            let (trees, old) = (&situation.trees, &situation.baseline);
            let bodies = [record, record_anew].map(|how| {
                let new = how(trees, old, &plan, &achieved, old.header().clone()).unwrap();
                new.0.body().to_vec()
            });
            assert_eq!(bodies[0], bodies[1], "{rows}");
            assert!(!is_as_recorded || bodies[0] == old.body(), "{rows}");
        }
    }

    #[test]
    fn what_was_not_read_again_is_recorded_as_scanned_and_as_it_was_decided() {
        let situation = situation(
            "d: d d d d
             d/a: f1@1 f1@1 f2@5 f1@1
             g: f1@1 f1@1 - f1@1",
        );
        let baseline = after(&situation, |plan, achieved| {
            for name in ["d", "g"] {
                let path_id = path_id(plan, name);
                achieved.reread.initiator.remove(path_id);
                achieved.reread.target.remove(path_id);
                assert_eq!(achieved.reread.target.get(path_id), None);
            }
        });
        assert!(of(&baseline, "d").is_some_and(|d| d == of(&situation.baseline, "d").unwrap()));
        assert!(of(&baseline, "d/a").is_some());
        let paths: Vec<RelPath> = baseline.records().map(|item| item.unwrap().0).collect();
        assert_eq!(paths, [path("d"), path("d/a")], "what went leaves no line behind");
    }

    #[test]
    fn what_was_given_another_mode_is_recorded_with_it() {
        let situation = situation("b: f1@1 f1@1 f1@1%600 f1@1");
        let recorded = of(&after(&situation, |_, _| {}), "b").unwrap();
        for side in Side::BOTH {
            let Recorded::Seen(entry) = &recorded.was[side] else { panic!("{recorded:?}") };
            assert_eq!(entry.mode, 0o600, "{side}");
        }
    }

    #[test]
    fn what_lies_below_a_failure_failed_too() {
        let situation =
            situation("d: - - d -\nd/a: - - f1@1 -\nd/e: - - d -\nd/e/b: - - f1 -\nf: - - f1 -");
        let baseline = after(&situation, |plan, achieved| {
            achieved.fail_below(&plan.delta, path_id(plan, "d"));
            for (name, succeeded) in
                [("d", false), ("d/a", false), ("d/e", false), ("d/e/b", false), ("f", true)]
            {
                assert_eq!(achieved.succeeded(path_id(plan, name)), succeeded, "{name}");
            }
        });
        let paths: Vec<RelPath> = baseline.records().map(|item| item.unwrap().0).collect();
        assert_eq!(paths, [path("f")]);
    }

    #[test]
    fn the_run_after_a_run_is_answered_quickly() {
        for rows in [
            "d: - - d -",
            "d: - - d d\nd/e: - - - d",
            "d: - - d -\nd/a: - - f1@1 -",
            "d: d d d d\nd/a: f1@1 f1@1 - f1@1",
            "d: d d - d\nd/a: f1@1 f1@1 - f1@1\nb: - - f1@1 -",
            "d: f1@1 f1@1 d f1@1\nd/a: - - f1@1 -",
            "b: f1@1 f1@1 f1@1%600 f1@1",
        ] {
            let before = situation(rows);
            let first = plan(&before, &rules());
            let after = afterwards(&before, &first);
            let next = plan(&after, &rules());
            assert!(next.delta.is_as_recorded(), "{rows}: {:?}", words(&next));
        }
    }

    #[test]
    fn what_is_excluded_now_is_forgotten() {
        let situation = situation("d: d d xd xd\nd/a: f1@1 f1@1 - -\nb: f1@1 f1@1 f1@1 f1@1");
        let baseline = after(&situation, |_, _| {});
        assert_eq!(baseline.len(), 1);
        assert!(of(&baseline, "b").is_some());
    }
}

//! What a scrub decides (spec 9, "Scrub"): which files are looked at, which copy is damaged, and the
//! plan that replaces damaged copies by sound ones.

use super::damaged::find_file;
use super::decide::Facts;
use super::delta::{Delta, PathId};
use super::join::{inodes_of_roots, join, shared};
use super::plan::{Act, NextRecord, Plan, Verdict};
use super::{Rules, change, links, schedule};
use crate::config::Preserve;
use crate::report::scrub::Damage;
use crate::state::{Baseline, BaselineDamaged, ContentDigest, Recorded};
use crate::tree::same::{ContentChange, Inodes, content_change, looks_alike};
use crate::tree::{Entry, Kind, NodeId, Pair, RelPath, Side, Standing, Tree};
use std::collections::BTreeSet;

/// How two copies of a path belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// They were recorded as in step: they have to hold the same.
    InStep,
    /// They were recorded as different, or only one of them was recorded.
    Independent,
}

/// The content of one copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    /// The digest of what it held when it was sound; `None`: not known.
    pub known: Option<ContentDigest>,
    /// The digest of what it holds now.
    pub found: ContentDigest,
}

/// What the contents of a path mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Nothing can be said: neither copy was read.
    NotJudged,
    /// The copies that were read are as they were.
    Sound,
    /// Nothing was known of one of the copies, and nothing speaks against it: from now on it is.
    New,
    /// A copy is damaged.
    Damaged(Damage),
}

impl Finding {
    /// The sides whose copies must not be transferred.
    #[must_use]
    pub fn suspects(self) -> &'static [Side] {
        match self {
            Finding::Damaged(damage) => damage.sides(),
            Finding::NotJudged | Finding::Sound | Finding::New => &[],
        }
    }
}

/// Says which copy of a path is damaged. A copy that was not read is `None`.
#[must_use]
pub fn judge(copies: &Pair<Option<Contents>>, relation: Relation) -> Finding {
    match (copies.initiator, copies.target) {
        (None, None) => Finding::NotJudged,
        (Some(i), Some(t)) if relation == Relation::InStep => judge_together(i, t),
        _ => judge_apart(copies),
    }
}

/// Copies that have to hold the same.
fn judge_together(i: Contents, t: Contents) -> Finding {
    if i.found == t.found {
        // Two disks do not rot alike: what both hold was written by somebody.
        let is_known = i.known == Some(i.found) && t.known == Some(t.found);
        return if is_known { Finding::Sound } else { Finding::New };
    }
    let known = [i.known, t.known];
    let is_sound = |copy: Contents| known.contains(&Some(copy.found));
    match (is_sound(i), is_sound(t)) {
        (true, false) => Finding::Damaged(Damage::One(Side::Target)),
        (false, true) => Finding::Damaged(Damage::One(Side::Initiator)),
        (false, false) if known != [None, None] => Finding::Damaged(Damage::Both),
        _ => Finding::Damaged(Damage::Either),
    }
}

/// Copies that say nothing about each other.
fn judge_apart(copies: &Pair<Option<Contents>>) -> Finding {
    let is_damaged = |side: &Side| {
        copies[*side].is_some_and(|copy| copy.known.is_some_and(|known| known != copy.found))
    };
    let is_new = |side: &Side| copies[*side].is_some_and(|copy| copy.known.is_none());
    let damaged: Vec<Side> = Side::BOTH.into_iter().filter(is_damaged).collect();
    match damaged.as_slice() {
        [] if Side::BOTH.iter().any(is_new) => Finding::New,
        [] => Finding::Sound,
        [on] => Finding::Damaged(Damage::Alone(*on)),
        _ => Finding::Damaged(Damage::Both),
    }
}

/// A path of which at least one copy is as it was recorded by size, time and inode.
#[derive(Debug)]
pub struct RecordedFile {
    /// The path.
    pub path: RelPath,
    /// The copies that are as recorded. What was changed since is the next run's business.
    pub copies: Pair<Option<NodeId>>,
    /// How they belong together.
    pub relation: Relation,
}

/// The files that a scrub can look at.
#[derive(Debug)]
pub struct RecordedFiles {
    /// The files, in the order of the baseline.
    pub files: Vec<RecordedFile>,
    /// Whether inode numbers of a side can be compared with earlier ones.
    pub inodes: Pair<Inodes>,
    /// How many recorded files were changed or deleted since.
    pub changed: u64,
    /// How many recorded copies the scan could not read.
    pub unread_copies: u64,
    /// How many recorded files have no copy that it could read.
    pub unread_files: u64,
}

impl RecordedFiles {
    /// The paths that are in step and of which both copies are as recorded.
    pub fn in_step(&self) -> impl Iterator<Item = &RelPath> {
        let is_whole = |file: &&RecordedFile| {
            file.relation == Relation::InStep && file.copies.iter().all(|(_, copy)| copy.is_some())
        };
        self.files.iter().filter(is_whole).map(|file| &file.path)
    }
}

/// Finds the files that are as the last run recorded them.
///
/// # Errors
/// The baseline cannot be read to its end.
pub fn recorded_files(
    trees: &Pair<Tree>,
    baseline: &Baseline,
    rules: &Rules,
) -> Result<RecordedFiles, BaselineDamaged> {
    let inodes = inodes_of_roots(trees, baseline.header(), rules);
    let (files, changed, unread_copies, unread_files) = (Vec::new(), 0, 0, 0);
    let mut found = RecordedFiles { files, inodes, changed, unread_copies, unread_files };
    for item in baseline.records() {
        let (path, record) = item?;
        let was = record.was.as_ref().map(|was| match was {
            Recorded::Seen(entry) if entry.kind == Kind::File => Some(entry),
            _ => None,
        });
        let copies = Pair::from_fn(|side| {
            let id = find_file(&trees[side], &path)?;
            let change = content_change(trees[side].entry(id), was[side]?, inodes[side]);
            (change == ContentChange::Unchanged).then_some(id)
        });
        let relation = match (was.initiator, was.target) {
            (Some(i), Some(t)) if looks_alike(i, t) => Relation::InStep,
            _ => Relation::Independent,
        };
        let missing = |side: &Side| was[*side].is_some() && copies[*side].is_none();
        let (unread, changed): (Vec<Side>, Vec<Side>) = Side::BOTH
            .into_iter()
            .filter(missing)
            .partition(|side| is_unknown(&trees[*side], &path));
        found.unread_copies += unread.len() as u64;
        found.unread_files += u64::from(!unread.is_empty() && copies == Pair::default());
        found.changed += u64::from(!changed.is_empty());
        if copies != Pair::default() {
            found.files.push(RecordedFile { path, copies, relation });
        }
    }
    Ok(found)
}

/// Whether the scan could not read what stands there, or a directory above it.
fn is_unknown(tree: &Tree, path: &RelPath) -> bool {
    let mut dir = Tree::ROOT;
    for name in path.components() {
        let Some(id) = tree.child(dir, name) else { return false };
        if tree.standing(id) == Standing::Unknown {
            return true;
        }
        dir = id;
    }
    false
}

/// How much of all files one scrub looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percent(u8);

impl Percent {
    /// All of them.
    pub const ALL: Percent = Percent(100);

    /// From 1 to 100; `None` for any other number.
    #[must_use]
    pub fn new(number: u8) -> Option<Self> {
        (1..=100).contains(&number).then_some(Percent(number))
    }
}

/// What decides when a file is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// It is known to be damaged: somebody waits to hear that it is sound again.
    pub is_damaged: bool,
    /// When it was checked last, in milliseconds since the epoch; 0: never.
    pub checked: u64,
    /// Bytes to be read.
    pub bytes: u64,
}

/// To open a file costs about as much as to read so many bytes of it.
const COST_OF_A_FILE: u64 = 16 << 10;

/// The files to look at, by their numbers, in the order in which they are read: what is known to be
/// damaged, then those whose last check is the longest ago. The share is one of the bytes; at least
/// one file is looked at.
#[must_use]
pub fn choose(files: &[Due], share: Percent) -> Vec<usize> {
    let cost = |file: &Due| file.bytes.saturating_add(COST_OF_A_FILE);
    let all = files.iter().fold(0_u128, |sum, file| sum + u128::from(cost(file)));
    let wanted = (all * u128::from(share.0)).div_ceil(100);
    let mut order: Vec<usize> = (0..files.len()).collect();
    order.sort_by_key(|at| (!files[*at].is_damaged, files[*at].checked));
    let mut chosen = 0;
    let is_due = |at: &&usize| {
        let is_room = chosen < wanted || files[**at].is_damaged;
        chosen += u128::from(cost(&files[**at]));
        is_room
    };
    let count = order.iter().take_while(is_due).count();
    order.truncate(count);
    order
}

/// A damaged copy that the other side's copy is to replace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// The path.
    pub path: RelPath,
    /// The side that gets the other one's copy.
    pub to: Side,
}

/// A plan that replaces these copies and does nothing else: whatever else is to be done is left for
/// the next run. What is replaced is kept, whatever CONFLICT_BACKUP says. Every name of a damaged
/// file gets the sound content. `rules` has to know the files as damaged.
///
/// # Errors
/// The baseline cannot be read to its end.
pub fn replace(
    trees: &Pair<Tree>,
    baseline: &Baseline,
    rules: &Rules,
    wanted: &[Replacement],
) -> Result<Plan, BaselineDamaged> {
    let header = baseline.header();
    let inodes = inodes_of_roots(trees, header, rules);
    let mut plan = Plan::new(join(trees, baseline, rules, inodes)?);
    plan.damaged.clone_from(&rules.damaged);
    for verdict in &mut plan.verdicts {
        *verdict = Verdict { next_record: NextRecord::KeepOld, ..Verdict::default() };
    }
    let facts = Facts::gather(&plan.delta, trees, header, rules, inodes);
    let replaced: BTreeSet<(PathId, Side)> = wanted
        .iter()
        .filter_map(|one| Some((plan.delta.find(&one.path)?, one.to)))
        .flat_map(|(path_id, to)| names_of(&plan, trees, path_id, to))
        .collect();
    for (path_id, to) in &replaced {
        let act = Act::Send { to: *to };
        plan.verdicts[path_id.index()] = Verdict { act, ..Verdict::default() };
        plan.always_kept.insert(*path_id);
    }
    links::add_link_groups(&facts, &mut plan);
    schedule::fill(&facts, &mut plan);
    plan.dir_times = Pair::default();
    for (path_id, to) in replaced {
        let dir = plan.delta.parent(path_id);
        let time = plan.entry(trees, dir, to).map(|entry| entry.mtime);
        let is_noted = plan.dir_times[to].iter().any(|(noted, _)| *noted == dir);
        if let Some(time) = time.filter(|_| !is_noted && dir != Delta::ROOT) {
            plan.dir_times[to].push((dir, time));
        }
    }
    Ok(plan)
}

/// All names that a file has on a side, where the other side has a copy.
fn names_of(plan: &Plan, trees: &Pair<Tree>, path_id: PathId, on: Side) -> Vec<(PathId, Side)> {
    let inode_of = |path_id: PathId| plan.entry(trees, path_id, on).and_then(shared);
    let Some(inode) = inode_of(path_id) else { return vec![(path_id, on)] };
    let is_name = |path_id: &PathId| {
        inode_of(*path_id) == Some(inode) && plan.delta.now(*path_id, on.other()).is_some()
    };
    plan.delta.path_ids().filter(is_name).map(|path_id| (path_id, on)).collect()
}

/// Whether a copy may be replaced by the other side's now: not if the metadata of one of them was
/// changed since the last run, because that change would be lost.
#[must_use]
pub fn may_be_replaced(copies: Pair<&Entry>, preserve: &Preserve) -> bool {
    change::same_metadata(copies.initiator, copies.target, preserve)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::damaged::DamagedNodes;
    use crate::reconcile::testing::{Situation, afterwards, path, plan, rules, situation, words};
    use crate::state::{DamagedFile, Seen};
    use Side::{Initiator, Target};

    fn damaged(on: Side) -> Finding {
        Finding::Damaged(Damage::One(on))
    }

    fn damaged_alone(on: Side) -> Finding {
        Finding::Damaged(Damage::Alone(on))
    }

    /// `1=1`: the content 1 is known and was found; `-`: not known, or not read.
    fn contents(text: &str) -> Option<Contents> {
        let (known, found) = text.split_once('=')?;
        let digest = |word: &str| word.parse().ok().map(|byte: u8| [byte; 32]);
        Some(Contents { known: digest(known), found: digest(found)? })
    }

    #[test]
    fn what_the_scan_could_not_read_is_neither_changed_nor_without_a_word() {
        let situation = situation(
            "a: f1@1 f1@1 u f1@1\nb: f1@1 f1@1 u u\nc: f1@1 f1@1 f1@1 f2@2\nd: d d u d\n\
             d/e: f1@1 f1@1 - f1@1",
        );
        let found = recorded_files(&situation.trees, &situation.baseline, &rules()).unwrap();
        let names: Vec<String> = found.files.iter().map(|file| file.path.shown()).collect();
        assert_eq!(names, ["a", "c", "d/e"]);
        assert_eq!((found.changed, found.unread_copies, found.unread_files), (1, 4, 1));
    }

    #[test]
    fn the_contents_of_a_path_are_judged_by_what_is_known_of_them() {
        use Finding::{New, NotJudged, Sound};
        use Relation::{InStep, Independent};
        let (both_damaged, undecided) =
            (Finding::Damaged(Damage::Both), Finding::Damaged(Damage::Either));
        for (what, initiator, target, relation, expected) in [
            ("as they were", "1=1", "1=1", InStep, Sound),
            ("read for the first time", "-=1", "-=1", InStep, New),
            ("one of them replaced by a copy of itself", "1=1", "-=1", InStep, New),
            ("both written anew under the old time", "1=2", "1=2", InStep, New),
            ("flipped here", "1=2", "1=1", InStep, damaged(Initiator)),
            ("flipped there", "1=1", "1=2", InStep, damaged(Target)),
            ("flipped there, known here only", "1=1", "-=2", InStep, damaged(Target)),
            ("flipped here, known here only", "1=2", "-=1", InStep, damaged(Initiator)),
            ("flipped here, known there only", "-=2", "1=1", InStep, damaged(Initiator)),
            ("flipped on both", "1=2", "1=3", InStep, both_damaged),
            ("flipped on both, known here only", "1=2", "-=3", InStep, both_damaged),
            ("nothing is known", "-=1", "-=2", InStep, undecided),
            ("different contents are known", "1=1", "2=2", InStep, undecided),
            ("exchanged", "1=2", "2=1", InStep, undecided),
            ("the other one was changed since", "1=1", "-", InStep, Sound),
            ("new, the other one was changed since", "-=1", "-", InStep, New),
            (
                "flipped, the other one was changed since",
                "1=2",
                "-",
                InStep,
                damaged_alone(Initiator),
            ),
            ("flipped there, this one cannot be read", "-", "1=2", InStep, damaged_alone(Target)),
            ("nothing was read", "-", "-", InStep, NotJudged),
            ("different, and meant to be", "1=1", "2=2", Independent, Sound),
            ("different, read for the first time", "-=1", "2=2", Independent, New),
            ("different, and one flipped", "1=1", "2=3", Independent, damaged_alone(Target)),
            (
                "different, one flipped, one new",
                "1=3",
                "-=2",
                Independent,
                damaged_alone(Initiator),
            ),
            ("different, and both flipped", "1=3", "2=4", Independent, both_damaged),
            ("nothing of different ones was read", "-", "-", Independent, NotJudged),
        ] {
            let copies = Pair::new(contents(initiator), contents(target));
            assert_eq!(judge(&copies, relation), expected, "{what}");
        }
    }

    #[test]
    fn only_copies_that_may_be_damaged_are_suspects() {
        assert_eq!(damaged(Target).suspects(), [Target]);
        assert_eq!(damaged_alone(Initiator).suspects(), [Initiator]);
        assert_eq!(Finding::Damaged(Damage::Both).suspects(), Side::BOTH);
        assert_eq!(Finding::Damaged(Damage::Either).suspects(), Side::BOTH);
        for finding in [Finding::Sound, Finding::New, Finding::NotJudged] {
            assert!(finding.suspects().is_empty(), "{finding:?}");
        }
    }

    /// The rules, when these copies are known to be damaged.
    fn knowing(situation: &Situation, damaged: &[(&str, Side)]) -> Rules {
        let one = |(name, side): &(&str, Side)| {
            let tree = &situation.trees[*side];
            let entry = tree.entry(tree.find(&path(name)).unwrap());
            DamagedFile { side: *side, seen: Seen::of(path(name), entry) }
        };
        let damaged: Vec<DamagedFile> = damaged.iter().map(one).collect();
        Rules { damaged: DamagedNodes::find(&situation.trees, &damaged), ..rules() }
    }

    #[test]
    fn what_is_damaged_is_not_sent_and_what_is_newer_replaces_it() {
        for (what, rows, damaged, expected) in [
            ("nothing changed", "a: f1@1 f1@1 f1@1 f1@1", ("a", Target), &[][..]),
            ("missing on the other side", "a: - - f1@1 -", ("a", Initiator), &[]),
            ("an edit of the sound copy", "a: f1@1 f1@1 f2@2 f1@1", ("a", Target), &[">> send a"]),
            ("edited itself", "a: f1@1 f1@1 f2@2 f1@1", ("a", Target), &[">> send a"]),
            (
                "deleted on the other side",
                "a: f1@1 f1@1 f1@1 -",
                ("a", Initiator),
                &["<< delete a"],
            ),
            (
                "in a new directory",
                "d: - - d -\nd/a: - - f1@1 -\nd/b: - - f1@1 -",
                ("d/a", Initiator),
                &[">> send d", ">> send d/b"],
            ),
            (
                "renamed, not followed",
                "f: f1@1#7 f1@1 - f1@1\ng: - - f1@1#7 -",
                ("g", Initiator),
                &[],
            ),
            (
                "renamed onto another file",
                "f: f1@1#7 f1@1 - f1@1\ng: f3@3#8 f3@3 f1@1#7 f3@3",
                ("g", Initiator),
                &[],
            ),
            (
                "renamed, and another file in its place",
                "f: f1@1#7 f1@1 f2@2#9 f1@1\ng: - - f1@1#7 -",
                ("g", Initiator),
                &[],
            ),
            (
                "renamed, and edited on the other side",
                "f: f1@1#7 f1@1 - f2@2\ng: - - f1@1#7 -",
                ("g", Initiator),
                &["<< send f"],
            ),
            (
                "a directory made of it, which holds it",
                "f: f1@1#7 f1@1 d f1@1\nf/g: - - f1@1#7 -",
                ("f/g", Initiator),
                &[],
            ),
            (
                "its directory renamed",
                "d: d d - d\nd/f: f1@1#7 f1@1 - f1@1\nd/x: f1@1 f1@1 - f1@1\n\
                 e: - - d -\ne/f: - - f1@1#7 -",
                ("e/f", Initiator),
                &[">> send e", ">> delete d/x"],
            ),
            (
                "a file in the place of its directory",
                "d: d d f5@5 d\nd/f: f1@1#7 f1@1 - f1@1\ng: - - f1@1#7 -",
                ("g", Initiator),
                &[],
            ),
            (
                "deleted",
                "f: f1@1#7 f1@1 - f1@1\ng: f1@1#8 f1@1 f1@1#8 f1@1",
                ("g", Initiator),
                &[">> delete f"],
            ),
            (
                "another name of it is new",
                "a: f1@1#7 f1@1 f1@1#7 f1@1\nb: - - f1@1#7 -",
                ("a", Initiator),
                &[],
            ),
        ] {
            let situation = situation(rows);
            let mut rules = knowing(&situation, &[damaged]);
            rules.policy.detect_moves = false;
            let plan = plan(&situation, &rules);
            let mut done = words(&plan);
            done.retain(|word| word.contains("send") || word.contains("delete"));
            assert_eq!(done, expected, "{what}");
        }
    }

    #[test]
    fn copies_are_replaced_and_all_else_is_left_to_the_next_run() {
        let rows = "bad: f1@1 f1@1 f1@1 f1@1\nnew: - - f1@1 -\nedited: f1@1 f1@1 f1@1 f2@2\n\
                    mode: f1@1%600 f1@1%600 f1@1%640 f1@1%600\ngone: f1@1 f1@1 - f1@1\n\
                    d: d d d d\nd/bad: f1@1 f1@1 f1@1 f1@1";
        let before = situation(rows);
        let rules = knowing(&before, &[("bad", Target), ("d/bad", Initiator)]);
        let wanted = [("bad", Target), ("d/bad", Initiator)]
            .map(|(name, to)| Replacement { path: path(name), to });
        let healing = replace(&before.trees, &before.baseline, &rules, &wanted).unwrap();
        let mut done = words(&healing);
        done.retain(|word| !word.contains("time"));
        assert_eq!(done, ["<< send d/bad", ">> send bad"]);
        assert_eq!(healing.always_kept.len(), 2);
        let after = afterwards(&before, &healing);
        let ordinary = super::super::testing::rules();
        assert_eq!(words(&plan(&after, &ordinary)), words(&plan(&before, &ordinary)));
    }

    #[test]
    fn those_are_read_first_that_were_checked_the_longest_ago() {
        let file = |checked, mib: u64| Due { is_damaged: false, checked, bytes: mib << 20 };
        let percent = |number| Percent::new(number).unwrap();
        let files = [file(30, 10), file(0, 40), file(10, 30), file(0, 20)];
        for (number, expected) in [
            (100, &[1, 3, 2, 0][..]),
            (1, &[1]),
            (40, &[1, 3]),
            (59, &[1, 3]),
            (61, &[1, 3, 2]),
            (99, &[1, 3, 2, 0]),
        ] {
            assert_eq!(choose(&files, percent(number)), expected, "{number} %");
        }
        assert_eq!(choose(&[], Percent::ALL), [0; 0]);
        assert_eq!((Percent::new(0), Percent::new(101)), (None, None));
        let mut files = files;
        for at in [0, 2] {
            files[at].is_damaged = true;
        }
        assert_eq!(choose(&files, percent(1)), [2, 0], "damaged ones always, and first");
    }

    #[test]
    fn empty_files_are_spread_over_the_parts_too() {
        let files = [Due { is_damaged: false, checked: 0, bytes: 0 }; 100];
        assert_eq!(choose(&files, Percent(4)).len(), 4);
    }
}

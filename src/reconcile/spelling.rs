//! One spelling for each name, where a side folds case or Unicode forms (spec 8, "Case and
//! Unicode forms").
//!
//! Two names that are one on a folding side get one spelling in both trees and in the
//! baseline, before anything is compared. So everything behind this compares names byte by
//! byte, as on other file systems. A folding side finds an entry under any spelling; a side
//! that does not fold is renamed first of all ([`Respelling`]).

use super::join::{self, Step, as_dirs, each_directory, merge_block, standing};
use crate::report::{Level, Problem};
use crate::state::{Baseline, BaselineDamaged, Known};
use crate::tree::names::{Case, Forms, Naming};
use crate::tree::{Entry, NodeId, Pair, RelPath, Side, Stamp, Standing, TooLarge, Tree};
use std::collections::BTreeMap;

/// A name that is spelled differently on the other side, and gets that spelling.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Respelling {
    /// Where it is renamed.
    pub on: Side,
    /// The path as it is spelled now; directories above it have their new spelling already.
    pub from: RelPath,
    /// The path as it is to be spelled.
    pub to: RelPath,
    /// What was scanned there.
    pub expect: Entry,
    /// The modification time of the directory that holds it, which renaming changes.
    pub dir_mtime: Stamp,
}

/// What came of looking at the spellings.
#[derive(Debug, Default)]
pub struct Spelled {
    /// The baseline in the spelling of the trees; `None` if it is as it was.
    pub baseline: Option<Baseline>,
    /// What is to be renamed for it, directories before what lies below them.
    pub respellings: Vec<Respelling>,
    /// Names that cannot both be on the other side.
    pub problems: Vec<Problem>,
}

/// What decides on a spelling.
#[derive(Debug, Clone)]
pub struct SpellingRules {
    /// Which spellings each side takes for one name.
    pub naming: Pair<Naming>,
    /// The same of what is mounted below the root of each side, by its mount point.
    pub mounted: Pair<BTreeMap<NodeId, Naming>>,
    /// Whether an entry has one inode number under all its spellings.
    pub one_inode: Pair<bool>,
    /// Whose spelling holds where nothing else tells.
    pub prevalence: Side,
    /// The side whose tree is brought over (SYNC_TYPE).
    pub one_way_from: Option<Side>,
}

/// A folding of case alone.
pub const CASE: Naming = Naming { case: Case::Folded, forms: Forms::Distinct };
/// A folding of Unicode forms alone.
pub const FORMS: Naming = Naming { case: Case::Distinct, forms: Forms::Folded };

/// How many entries are looked up to find out whether a file system folds.
const PROBES: usize = 8;

/// Entries on the file system that is mounted at a directory, each with another spelling of its
/// path that nothing is listed under.
#[must_use]
pub fn probes(tree: &Tree, mount: NodeId, folding: Naming) -> Vec<(NodeId, RelPath)> {
    let dev = tree.entry(mount).dev;
    let mut probes = Vec::new();
    let mut dirs = vec![mount];
    while let Some(dir) = dirs.pop() {
        for id in tree.children(dir) {
            if tree.entry(id).dev != dev || tree.standing(id) == Standing::Unknown {
                continue;
            }
            if let Some(other) = folding.other_spelling(tree.name(id))
                && tree.child(dir, &other).is_none()
            {
                probes.push((id, tree.path(dir).join(&other)));
                if probes.len() == PROBES {
                    return probes;
                }
            }
            if tree.entry(id).kind.is_dir() {
                dirs.push(id);
            }
        }
    }
    probes
}

/// What a file system makes of names, by what looking up other spellings has told.
#[must_use]
pub fn naming_by(folds_case: Option<bool>, folds_forms: Option<bool>) -> Naming {
    let case = if folds_case == Some(false) { Case::Distinct } else { Case::Folded };
    // One that keeps case apart keeps forms apart as well, unless it was seen not to.
    let folds_forms = folds_forms.unwrap_or(case == Case::Folded);
    Naming { case, forms: if folds_forms { Forms::Folded } else { Forms::Distinct } }
}

/// Why no spelling could be found.
#[derive(Debug, thiserror::Error)]
pub enum SpellingError {
    /// The baseline cannot be read to its end.
    #[error(transparent)]
    Damaged(#[from] BaselineDamaged),
    /// A tree cannot be put together anew.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

/// Gives both trees and the baseline one spelling for each name.
///
/// # Errors
/// See [`SpellingError`].
pub fn agree(
    trees: Pair<Tree>,
    baseline: &Baseline,
    rules: SpellingRules,
) -> Result<(Pair<Tree>, Spelled), SpellingError> {
    let folds = Side::BOTH.into_iter().any(|side| {
        rules.naming[side].folds() || rules.mounted[side].values().any(|naming| naming.folds())
    });
    if !folds || join::is_as_recorded(&trees, baseline)? {
        return Ok((trees, Spelled::default()));
    }
    let mut walk = Walk { trees: &trees, rules, found: Respelled::default() };
    walk.all(baseline)?;
    let Respelled { names, unknown, excluded, numberless, known_names, respellings, problems } =
        walk.found;
    let Pair { mut initiator, mut target } = trees;
    for (side, tree) in [(Side::Initiator, &mut initiator), (Side::Target, &mut target)] {
        unknown[side].iter().for_each(|id| tree.mark_unknown(*id));
        excluded[side].iter().for_each(|id| tree.exclude(*id));
        for id in &numberless[side] {
            let entry = tree.entry_mut(*id);
            (entry.ino, entry.shared_inode) = (0, false);
        }
    }
    let trees =
        Pair::new(initiator.with_names(&names.initiator)?, target.with_names(&names.target)?);
    let baseline = match known_names.is_empty() {
        true => None,
        false => Some(respell(baseline, &known_names)?),
    };
    Ok((trees, Spelled { baseline, respellings, problems }))
}

/// The baseline with other names for some paths.
fn respell(
    baseline: &Baseline,
    names: &BTreeMap<RelPath, Vec<u8>>,
) -> Result<Baseline, BaselineDamaged> {
    let mut records = Vec::new();
    for item in baseline.records() {
        let (path, record) = item?;
        let (mut old, mut new) = (RelPath::root(), RelPath::root());
        for name in path.components() {
            old = old.join(name);
            new = new.join(names.get(&old).map_or(name, Vec::as_slice));
        }
        records.push((new, record));
    }
    Ok(Baseline::from_records(baseline.header().clone(), records))
}

#[derive(Default)]
struct Respelled {
    /// New names for entries.
    names: Pair<BTreeMap<NodeId, Vec<u8>>>,
    /// Entries that cannot be told apart on the other side.
    unknown: Pair<Vec<NodeId>>,
    /// Entries that would meet an excluded one on the other side.
    excluded: Pair<Vec<NodeId>>,
    /// Entries that have another inode number under their new name.
    numberless: Pair<Vec<NodeId>>,
    /// New names for paths of the baseline, by their old path.
    known_names: BTreeMap<RelPath, Vec<u8>>,
    respellings: Vec<Respelling>,
    problems: Vec<Problem>,
}

struct Walk<'a> {
    trees: &'a Pair<Tree>,
    rules: SpellingRules,
    found: Respelled,
}

/// A directory under its new path, with the path that the baseline has for it.
#[derive(Clone)]
struct Dir {
    path: RelPath,
    known_path: RelPath,
    nodes: Pair<Option<NodeId>>,
    /// Which spellings its file system on each side takes for one name.
    naming: Pair<Naming>,
    /// Whether an entry has one inode number there under all its spellings.
    one_inode: Pair<bool>,
}

/// All spellings of one name in a directory.
#[derive(Default)]
struct Class {
    now: Pair<Vec<NodeId>>,
    known: Vec<usize>,
}

impl<'a> Walk<'a> {
    fn all(&mut self, baseline: &Baseline) -> Result<(), BaselineDamaged> {
        let root = Dir {
            path: RelPath::root(),
            known_path: RelPath::root(),
            nodes: Pair::new(Some(Tree::ROOT), Some(Tree::ROOT)),
            naming: self.rules.naming,
            one_inode: self.rules.one_inode,
        };
        each_directory(baseline, root, |dir, block, next| {
            let mut below = self.directory(&dir, block);
            // blocks follow each other in the order of the old names
            below.sort_by_key(|(known, _)| *known);
            next.extend(below.into_iter().map(|(_, step)| step));
        })
    }

    fn name(&self, side: Side, id: NodeId) -> &'a [u8] {
        let trees = self.trees;
        trees[side].name(id)
    }

    /// What to do below a directory, each with its place in the block.
    fn directory(&mut self, dir: &Dir, block: &[Known<'_>]) -> Vec<(Option<usize>, Step<Dir>)> {
        let mut joined = Vec::new();
        let mut is_plain = true;
        merge_block(self.trees, as_dirs(self.trees, dir.nodes), block, |found| {
            is_plain &= found.now.initiator.is_some() && found.now.target.is_some();
            joined.push((found.now, found.known));
        });
        let mut next = Vec::new();
        if is_plain {
            for (now, known) in joined {
                let name = now.initiator.map(|id| self.name(Side::Initiator, id));
                let name = name.unwrap_or_default().to_vec();
                self.enter(dir, &name, now, known, block, &mut next);
            }
            return next;
        }
        // The folding of both sides.
        let joint = dir.naming.initiator.or(dir.naming.target);
        let mut classes: BTreeMap<Vec<u8>, Class> = BTreeMap::new();
        for (now, known) in joined {
            let name = Side::BOTH
                .into_iter()
                .find_map(|side| now[side].map(|id| self.name(side, id)))
                .or(known.map(|index| block[index].name))
                .unwrap_or_default();
            let class = classes.entry(joint.key(name).into_owned()).or_default();
            for side in Side::BOTH {
                class.now[side].extend(now[side]);
            }
            class.known.extend(known);
        }
        for class in classes.values() {
            self.class(dir, class, block, &mut next);
        }
        next
    }

    /// Goes below an entry, if there is anything below it.
    fn enter(
        &self,
        dir: &Dir,
        name: &[u8],
        now: Pair<Option<NodeId>>,
        known: Option<usize>,
        block: &[Known<'_>],
        next: &mut Vec<(Option<usize>, Step<Dir>)>,
    ) {
        let has_block = known.is_some_and(|index| block[index].has_block);
        if standing(self.trees, now) != Standing::Present {
            if has_block {
                next.push((known, Step::Skip));
            }
            return;
        }
        if has_block || as_dirs(self.trees, now) != Pair::default() {
            let known_name = known.map_or(name, |index| block[index].name);
            let mounted = Pair::from_fn(|side| {
                now[side].and_then(|id| self.rules.mounted[side].get(&id).copied())
            });
            let dir = Dir {
                path: dir.path.join(name),
                known_path: dir.known_path.join(known_name),
                nodes: now,
                naming: Pair::from_fn(|side| mounted[side].unwrap_or(dir.naming[side])),
                // nobody has tried it there
                one_inode: Pair::from_fn(|side| mounted[side].is_none() && dir.one_inode[side]),
            };
            next.push((known, Step::Enter { dir, has_block }));
        }
    }

    fn is_live(&self, side: Side, id: NodeId) -> bool {
        self.trees[side].standing(id) != Standing::Excluded
    }

    fn class(
        &mut self,
        dir: &Dir,
        class: &Class,
        block: &[Known<'_>],
        next: &mut Vec<(Option<usize>, Step<Dir>)>,
    ) {
        let live = Pair::from_fn(|side| -> Vec<NodeId> {
            class.now[side].iter().copied().filter(|id| self.is_live(side, *id)).collect()
        });
        let clash = Side::BOTH.into_iter().find(|side| self.clashes(dir, &live, *side));
        if let Some(side) = clash {
            self.clash(dir, class, &live, side, block);
            return self.skip(&class.known, block, next);
        }
        let is_single = Side::BOTH.into_iter().all(|side| class.now[side].len() <= 1);
        if !is_single {
            self.keep_from_excluded(dir, class, &live);
            return self.each_by_itself(dir, class, block, next);
        }
        let now = Pair::from_fn(|side| class.now[side].first().copied());
        let stored = Pair::from_fn(|side| now[side].map(|id| self.name(side, id)));
        if stored == Pair::default() {
            return self.each_by_itself(dir, class, block, next);
        }
        // What the baseline has under one of the present spellings goes before the rest.
        let known =
            class.known.iter().copied().min_by_key(|index| {
                !Side::BOTH.iter().any(|s| stored[*s] == Some(block[*index].name))
            });
        let name = self.spelling(dir, stored, known.map(|index| block[index].name)).to_vec();
        let others: Vec<usize> =
            class.known.iter().copied().filter(|index| Some(*index) != known).collect();
        self.skip(&others, block, next);
        for side in Side::BOTH {
            if let Some(id) = now[side].filter(|id| self.name(side, *id) != name) {
                self.found.names[side].insert(id, name.clone());
                // What is renamed keeps its number; what is only looked up otherwise may not.
                if !dir.one_inode[side] && !self.is_renamed(dir, side, id, &name) {
                    self.found.numberless[side].push(id);
                }
            }
        }
        if standing(self.trees, now) == Standing::Present
            && stored.initiator.is_some()
            && stored.target.is_some()
        {
            self.rename(dir, now, &name);
        }
        if let Some(index) = known.filter(|index| block[*index].name != name)
            && !others.iter().any(|other| block[*other].name == name)
        {
            self.found.known_names.insert(dir.known_path.join(block[index].name), name.clone());
        }
        self.enter(dir, &name, now, known, block, next);
    }

    /// Notes what is to be renamed so that both sides spell a name alike.
    fn rename(&mut self, dir: &Dir, now: Pair<Option<NodeId>>, name: &[u8]) {
        for side in Side::BOTH {
            let (Some(id), Some(dir_id)) = (now[side], dir.nodes[side]) else { continue };
            if !self.is_renamed(dir, side, id, name) {
                continue;
            }
            let stored = self.name(side, id);
            let respelling = Respelling {
                on: side,
                from: dir.path.join(stored),
                to: dir.path.join(name),
                expect: self.trees[side].entry(id).clone(),
                dir_mtime: self.trees[side].entry(dir_id).mtime,
            };
            self.found.respellings.push(respelling);
        }
    }

    /// Whether an entry has to be renamed to have that name; else its file system spells it so.
    fn is_renamed(&self, dir: &Dir, side: Side, id: NodeId, name: &[u8]) -> bool {
        let naming = dir.naming[side];
        naming.case != Case::Rewritten && !naming.stores(name, self.name(side, id))
    }

    /// The spelling that both sides are to have.
    fn spelling<'n>(
        &self,
        dir: &Dir,
        stored: Pair<Option<&'n [u8]>>,
        known: Option<&'n [u8]>,
    ) -> &'n [u8] {
        let naming = dir.naming;
        // A name that only came back in another form is the name that it was.
        let own = Pair::from_fn(|side| {
            stored[side].map(|stored| {
                known.filter(|was| naming[side].stores(was, stored)).unwrap_or(stored)
            })
        });
        let (initiator, target) = match (own.initiator, own.target) {
            (Some(initiator), Some(target)) => (initiator, target),
            (one, other) => return one.or(other).unwrap_or_default(),
        };
        if naming.target.stores(initiator, target) {
            initiator
        } else if naming.initiator.stores(target, initiator) {
            target
        } else if let Some(from) = self.rules.one_way_from {
            Pair::new(initiator, target)[from]
        } else if known == Some(initiator) {
            target
        } else if known == Some(target) {
            initiator
        } else {
            Pair::new(initiator, target)[self.rules.prevalence]
        }
    }

    /// Whether names of a side cannot all be on the other side. If that has several of them
    /// itself, its folding is another than ours, and they are names as any other.
    fn clashes(&self, dir: &Dir, live: &Pair<Vec<NodeId>>, side: Side) -> bool {
        let across = dir.naming[side.other()];
        let names = live[side].iter().map(|id| self.name(side, *id));
        live[side].len() > 1
            && live[side.other()].len() < 2
            && names.clone().enumerate().any(|(at, name)| {
                names.clone().skip(at + 1).any(|other| across.same_name(name, other))
            })
    }

    fn clash(
        &mut self,
        dir: &Dir,
        class: &Class,
        live: &Pair<Vec<NodeId>>,
        side: Side,
        block: &[Known<'_>],
    ) {
        let across = side.other();
        let path = |id: NodeId| dir.path.join(self.name(side, id));
        let mut paths = live[side].iter().map(|id| path(*id));
        let first = paths.next();
        let others: Vec<String> = paths.map(|path| format!("'{}'", path.shown())).collect();
        let text = format!(
            "the {across}'s file system takes this and {} for one name; they, with all that lies \
             below them, were left alone on both sides. Rename all but one",
            others.join(", ")
        );
        self.found.problems.push(Problem {
            level: Level::Error,
            side: Some(side),
            path: first,
            text,
        });
        // What the baseline knows stays known under the name of an entry that is there.
        let here = live[across].first().map(|id| self.name(across, *id));
        let here = here.or(live[side].first().map(|id| self.name(side, *id))).unwrap_or_default();
        let is_there = |name: &[u8]| {
            Side::BOTH.into_iter().any(|s| class.now[s].iter().any(|id| self.name(s, *id) == name))
        };
        let free = !class.known.iter().any(|index| block[*index].name == here);
        let astray = class.known.iter().find(|index| free && !is_there(block[**index].name));
        if let Some(index) = astray {
            let old = dir.known_path.join(block[*index].name);
            self.found.known_names.insert(old, here.to_vec());
        }
        for side in Side::BOTH {
            self.found.unknown[side].extend(&live[side]);
        }
    }

    /// An entry does not go where an excluded one of another spelling is.
    fn keep_from_excluded(&mut self, dir: &Dir, class: &Class, live: &Pair<Vec<NodeId>>) {
        for side in Side::BOTH {
            let across = side.other();
            let meets = |id: &NodeId| {
                let name = self.name(side, *id);
                class.now[across].iter().any(|other| {
                    let other_name = self.name(across, *other);
                    !self.is_live(across, *other)
                        && other_name != name
                        && dir.naming[across].same_name(name, other_name)
                })
            };
            let met: Vec<NodeId> = live[side].iter().copied().filter(meets).collect();
            self.found.excluded[side].extend(met);
        }
    }

    /// Names that are what they are, byte by byte.
    fn each_by_itself(
        &self,
        dir: &Dir,
        class: &Class,
        block: &[Known<'_>],
        next: &mut Vec<(Option<usize>, Step<Dir>)>,
    ) {
        let mut names: BTreeMap<&[u8], Class> = BTreeMap::new();
        for side in Side::BOTH {
            for id in &class.now[side] {
                names.entry(self.trees[side].name(*id)).or_default().now[side].push(*id);
            }
        }
        for index in &class.known {
            names.entry(block[*index].name).or_default().known.push(*index);
        }
        for (name, Class { now, known }) in names {
            let now = Pair::from_fn(|side| now[side].first().copied());
            self.enter(dir, name, now, known.first().copied(), block, next);
        }
    }

    fn skip(
        &self,
        known: &[usize],
        block: &[Known<'_>],
        next: &mut Vec<(Option<usize>, Step<Dir>)>,
    ) {
        let with_block = known.iter().filter(|index| block[**index].has_block);
        next.extend(with_block.map(|index| (Some(*index), Step::Skip)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::testing::{Situation, rules, situation, words};
    use crate::reconcile::{Plan, reconcile};

    const DECOMPOSED: Naming = Naming { case: Case::Distinct, forms: Forms::Decomposed };

    /// A target that folds.
    fn target(naming: Naming) -> SpellingRules {
        SpellingRules {
            naming: Pair::new(Naming::default(), naming),
            mounted: Pair::default(),
            one_inode: Pair::new(true, false),
            prevalence: Side::Initiator,
            one_way_from: None,
        }
    }

    #[test]
    fn what_is_mounted_below_a_root_folds_by_itself() {
        let rows = "F: - - f1@1 -\nf: - - f2@1 -\nd: d d d d\nd/G: - - f1@1 -\nd/g: - - f2@1 -";
        let mounted = |root: Naming, below: Naming| {
            let Situation { trees, baseline, .. } = situation(rows);
            let id = trees.target.find(&RelPath::new(&b"d"[..]).unwrap()).unwrap();
            let mounted = Pair::new(BTreeMap::new(), BTreeMap::from([(id, below)]));
            let rules = SpellingRules { mounted, ..target(root) };
            let (trees, spelled) = agree(trees, &baseline, rules).unwrap();
            let left: Vec<String> = trees
                .initiator
                .ids()
                .filter(|id| trees.initiator.standing(*id) == Standing::Unknown)
                .map(|id| trees.initiator.path(id).shown().to_string())
                .collect();
            (left, spelled.problems.len())
        };
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(mounted(Naming::default(), CASE), (names(&["d/G", "d/g"]), 1));
        assert_eq!(mounted(CASE, Naming::default()), (names(&["F", "f"]), 1));
        assert_eq!(mounted(CASE, CASE).1, 2);
        assert_eq!(mounted(Naming::default(), Naming::default()), (Vec::new(), 0));
    }

    #[test]
    fn what_a_file_system_folds_is_told_by_what_is_looked_up() {
        for (case, forms, folds) in [
            (None, None, (true, true)),
            (Some(true), None, (true, true)),
            (Some(true), Some(false), (true, false)),
            (Some(false), None, (false, false)),
            (Some(false), Some(true), (false, true)),
        ] {
            let naming = naming_by(case, forms);
            let found = (naming.case != Case::Distinct, naming.forms != Forms::Distinct);
            assert_eq!(found, folds, "{case:?} {forms:?}");
        }
        let situation = situation("d: d d d d\nd/1: - - - f1@1\nd/Ab: - - - f1@1\nd/x: - - - d");
        let tree = &situation.trees.target;
        let mount = tree.find(&RelPath::new(&b"d"[..]).unwrap()).unwrap();
        let probes: Vec<String> =
            probes(tree, mount, CASE).iter().map(|(_, path)| path.shown().to_string()).collect();
        assert_eq!(probes, ["d/aB", "d/X"], "a name without letters tells nothing");
    }

    fn agreed(rows: &str, rules: SpellingRules) -> (Situation, Spelled) {
        let Situation { files, trees, baseline } = situation(rows);
        let (trees, mut spelled) = agree(trees, &baseline, rules).unwrap();
        let baseline = spelled.baseline.take().unwrap_or(baseline);
        (Situation { files, trees, baseline }, spelled)
    }

    /// What is done about the names, and then about all else.
    fn steps(rows: &str, spelling: SpellingRules) -> Vec<String> {
        let (situation, spelled) = agreed(rows, spelling);
        let plan: Plan = reconcile(&situation.trees, &situation.baseline, &rules()).unwrap();
        let mut lines: Vec<String> = spelled
            .respellings
            .iter()
            .map(|step| format!("{} {} => {}", step.on.arrow(), step.from, step.to))
            .collect();
        lines.extend(spelled.problems.iter().map(|problem| {
            format!(
                "{:?} {}",
                problem.level,
                problem.path.as_ref().map_or(String::new(), RelPath::shown)
            )
        }));
        lines.extend(words(&plan));
        lines
    }

    #[test]
    fn names_that_are_one_on_a_folding_side_are_matched() {
        for (what, rows, expected) in [
            ("the same spelling", "a: f1@1 f1@1 f1@1 f1@1", &[][..]),
            (
                "another spelling at first contact",
                "README: - - f1@1 -\nReadme: - - - f1@1",
                &[">> Readme => README"],
            ),
            (
                "renamed on the side that does not fold",
                "readme: f1@1 f1@1 - f1@1\nREADME: - - f1@1 -",
                &[">> readme => README"],
            ),
            (
                "renamed on the folding side",
                "readme: f1@1 f1@1 f1@1 -\nREADME: - - - f1@1",
                &["<< readme => README"],
            ),
            ("renamed on both sides alike", "readme: f1@1 f1@1 - -\nREADME: - - f1@1 f1@1", &[]),
            (
                "renamed differently",
                "readme: f1@1 f1@1 - -\nREADME: - - f1@1 -\nReadMe: - - - f1@1",
                &[">> ReadMe => README"],
            ),
            (
                "renamed and edited",
                "readme: f1@1 f1@1 - f1@1\nREADME: - - f2@9 -",
                &[">> readme => README", ">> send README"],
            ),
            (
                "renamed on one side, edited on the other",
                "readme: f1@1#7 f1@1 - f2@9\nREADME: - - f1@1#7 -",
                &[">> readme => README", "<< send README"],
            ),
            (
                "renamed on one side, deleted on the other",
                "readme: f1@1#7 f1@1 - -\nREADME: - - f1@1#7 -",
                &["<< delete README"],
            ),
            (
                "a directory, and an entry in it",
                "Dir: d d - d\nDir/x: f1@1 f1@1 - f1@1\ndir: - - d -\ndir/X: - - f1@1 -",
                &[">> Dir => dir", ">> dir/x => dir/X"],
            ),
            (
                "one of two is gone, the other renamed to its place",
                "a: f1@1 f1@1 - f1@1\nb: f1@1 f1@1 f1@1 f1@1",
                &[">> delete a"],
            ),
        ] {
            assert_eq!(steps(rows, target(CASE)), expected, "{what}");
        }
    }

    #[test]
    fn two_names_that_are_one_across_are_left_alone_with_all_below_them() {
        for (what, rows, expected) in [
            ("two new files", "File: - - f1@1 -\nfile: - - f2@1 -", &["Error File"][..]),
            (
                "one was there before",
                "File: f1@1 f1@1 f1@1 f1@1\nfile: - - f2@1 -\nz: - - f1 -",
                &["Error File", ">> send z"],
            ),
            (
                "one was there before and is edited",
                "File: f1@1 f1@1 f3@4 f1@1\nfile: - - f2@1 -",
                &["Error File"],
            ),
            (
                "one was there before and is gone across",
                "File: f1@1 f1@1 f1@1 -\nfile: - - f2@1 -",
                &["Error File"],
            ),
            (
                "directories",
                "Dir: d d d d\nDir/a: f1@1 f1@1 f1@1 -\ndir: - - d -\ndir/b: - - f1 -",
                &["Error Dir"],
            ),
        ] {
            assert_eq!(steps(rows, target(CASE)), expected, "{what}");
        }
    }

    #[test]
    fn what_a_clash_leaves_alone_stays_in_the_baseline() {
        use crate::reconcile::testing::afterwards;
        let rows = "Dir: d d d d\nDir/a: f1@1 f1@1 f1@1 -\ndir: - - d -";
        let (situation, _) = agreed(rows, target(CASE));
        let plan = reconcile(&situation.trees, &situation.baseline, &rules()).unwrap();
        let next = afterwards(&situation, &plan).baseline;
        assert_eq!(next.len(), 2, "Dir and Dir/a");
    }

    #[test]
    fn two_names_on_both_sides_are_two_names_whatever_we_think() {
        let rows = "K: f1@1 f1@1 f1@1 f1@1\nk: f1@1 f1@1 f2@2 f1@1";
        assert_eq!(steps(rows, target(CASE)), [">> send k"]);
    }

    #[test]
    fn a_name_that_came_back_in_another_form_is_no_change() {
        let rows = |was: &str, here: &str, there: &str| {
            let mut rows: std::collections::BTreeMap<&str, [&str; 4]> =
                std::collections::BTreeMap::new();
            if !was.is_empty() {
                let row = rows.entry(was).or_insert(["-"; 4]);
                (row[0], row[1]) = ("f1@1", "f1@1");
            }
            rows.entry(here).or_insert(["-"; 4])[2] = "f1@1";
            rows.entry(there).or_insert(["-"; 4])[3] = "f1@1";
            rows.iter()
                .map(|(name, row)| format!("{name}: {}\n", row.join(" ")))
                .collect::<String>()
        };
        let (nfc, nfd) = ("caf\u{e9}", "cafe\u{301}");
        assert!(steps(&rows(nfc, nfc, nfd), target(DECOMPOSED)).is_empty());
        assert!(steps(&rows("", nfc, nfd), target(DECOMPOSED)).is_empty(), "at first contact");
        assert!(steps(&rows(nfd, nfc, nfd), target(DECOMPOSED)).is_empty());
        // a side that keeps forms, and folds them, is renamed
        let folded = Naming { case: Case::Distinct, forms: Forms::Folded };
        let renamed = format!(">> {nfd} => {nfc}");
        assert_eq!(steps(&rows(nfd, nfc, nfd), target(folded)), [renamed]);
    }

    #[test]
    fn prevalence_and_one_way_runs_choose_between_two_spellings() {
        let rows = "README: - - f1@1 -\nReadme: - - - f1@1";
        let prevalence = SpellingRules { prevalence: Side::Target, ..target(CASE) };
        assert_eq!(steps(rows, prevalence), ["<< README => Readme"]);
        let one_way = SpellingRules { one_way_from: Some(Side::Target), ..target(CASE) };
        assert_eq!(steps(rows, one_way)[0], "<< README => Readme");
    }

    #[test]
    fn nothing_goes_where_an_excluded_entry_of_another_spelling_is() {
        assert!(steps("File: - - - x\nfile: - - f1@1 -", target(CASE)).is_empty());
        let both = "File: - - x x\nfile: - - f1@1 -";
        assert!(steps(both, target(CASE)).is_empty());
    }

    #[test]
    fn ordinary_file_systems_have_nothing_of_it() {
        let rows = "readme: f1@1 f1@1 - f1@1\nREADME: - - f1@1 -";
        assert_eq!(steps(rows, target(Naming::default())), [">> send README", ">> delete readme"]);
    }
}

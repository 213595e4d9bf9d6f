//! What the file systems of both sides can do: looked up once, and remembered
//! (spec 8, "What a file system can do").

use super::Task;
use super::closing::Halt;
use crate::config::Preserve;
use crate::reconcile::spelling::{self, SpellingError};
use crate::reconcile::{SpellingRules, newly_compared};
use crate::report::Level;
use crate::state::{Baseline, Compared, KnownFileSystem, StateStore};
use crate::tree::names::Naming;
use crate::tree::{Abilities, Lack, NodeId, Pair, RelPath, Side, Tree};
use std::collections::BTreeMap;

/// The file systems of a run.
#[derive(Debug, Default)]
pub(super) struct FileSystems {
    /// What tells each from another; `None` if it cannot be told.
    pub ids: Pair<Option<String>>,
    /// What each can do.
    pub abilities: Pair<Abilities>,
    /// What an earlier run knew of these very file systems, and this one found out.
    known: Pair<Option<KnownFileSystem>>,
}

impl FileSystems {
    /// Whether an earlier run has told that nothing on a side reads ACLs or extended attributes.
    /// From now on it is told.
    pub fn told_unread(&mut self, side: Side) -> bool {
        let known = self.known[side].as_mut();
        known.is_some_and(|known| std::mem::replace(&mut known.unread_told, true))
    }

    /// Remembers what this run leaves out because a side cannot store it, and returns what was left
    /// out when that was told last.
    pub fn replace_told_lacks(
        &mut self,
        side: Side,
        left_out: BTreeMap<Lack, u64>,
    ) -> BTreeMap<Lack, u64> {
        let known = self.known[side].as_mut();
        known.map(|known| std::mem::replace(&mut known.left_out, left_out)).unwrap_or_default()
    }
}

impl From<SpellingError> for Halt {
    fn from(error: SpellingError) -> Self {
        Halt::state(&error)
    }
}

/// What a side's file system cannot do of what is wanted, for people.
#[must_use]
pub fn limits(side: Side, abilities: &Abilities, wanted: &Preserve) -> Vec<String> {
    let mut lacks = Vec::new();
    if !abilities.modes && (wanted.permissions || wanted.executability) {
        lacks.push("permissions");
    }
    if !abilities.owners && (wanted.owner || wanted.group) {
        lacks.push("owners and groups");
    }
    if !abilities.hard_links && wanted.hardlinks {
        lacks.push("hard links");
    }
    let mut told = Vec::new();
    if !lacks.is_empty() {
        told.push(format!(
            "the {side}'s file system keeps no {}: they are neither compared nor brought over",
            lacks.join(", no ")
        ));
    }
    if abilities.naming.folds() {
        told.push(format!(
            "the {side}'s file system takes names that differ only in case, or in the form of an \
             accented letter, for one; names are compared accordingly"
        ));
    }
    told
}

impl Task<'_> {
    /// Finds out what is not known yet. A dry run writes nothing: it takes what is not known
    /// for an ordinary file system. What was found out is kept when a run records something: the
    /// initiator may be a mount point without its disk.
    pub(super) fn look_up_abilities(&mut self, store: &StateStore) -> Result<(), Halt> {
        let mut remembered = store.file_systems()?;
        for side in Side::BOTH {
            let id = self.file_systems.ids[side].clone();
            let known = remembered[side].take();
            let known = known.filter(|known| id.as_ref() == Some(&known.file_system));
            if known.is_none() && !self.is_dry() {
                match self.replicas[side].abilities() {
                    Ok(abilities) => self.learn(side, id, abilities),
                    // Without them everything is tried, and told where it fails.
                    Err(error) => self.say(Level::Verbose, &error.to_string()),
                }
            } else if let Some(known) = known {
                self.file_systems.abilities[side] = known.abilities.clone();
                self.file_systems.known[side] = Some(known);
            }
        }
        self.restrict_preserved();
        Ok(())
    }

    fn learn(&mut self, side: Side, id: Option<String>, abilities: Abilities) {
        for text in limits(side, &abilities, &self.config.preserve) {
            self.say(Level::Notice, &text);
        }
        self.file_systems.known[side] = id.map(|file_system| KnownFileSystem {
            file_system,
            abilities: abilities.clone(),
            left_out: BTreeMap::new(),
            unread_told: false,
        });
        self.file_systems.abilities[side] = abilities;
    }

    /// What is preserved is what both file systems keep.
    fn restrict_preserved(&mut self) {
        let Pair { initiator, target } = &self.file_systems.abilities;
        let modes = initiator.modes && target.modes;
        let owners = initiator.owners && target.owners;
        let preserve = &mut self.preserve;
        *preserve = Preserve {
            permissions: preserve.permissions && modes,
            executability: preserve.executability && modes,
            owner: preserve.owner && owners,
            group: preserve.group && owners,
            hardlinks: preserve.hardlinks && initiator.hard_links && target.hard_links,
            ..*preserve
        };
    }

    /// What is compared in this run and was not in the last one.
    pub(super) fn newly_compared(&self, store: &StateStore) -> Result<Preserve, Halt> {
        let now = self.compared();
        let before = match store.compared()? {
            Some(Compared { permissions, executability, owner, group }) => {
                Preserve { permissions, executability, owner, group, ..now }
            }
            None => now,
        };
        Ok(newly_compared(&now, &before))
    }

    /// Keeps what this run compared; what failed is compared anew by the next run.
    pub(super) fn remember_compared(&self, store: &StateStore) -> Result<(), Halt> {
        let Preserve { permissions, executability, owner, group, .. } = self.compared();
        Ok(store.set_compared(Compared { permissions, executability, owner, group })?)
    }

    /// Gives both trees and the baseline one spelling for each name, where a side folds.
    pub(super) fn agree_on_spelling(
        &mut self,
        trees: Pair<Tree>,
        baseline: &Baseline,
    ) -> Result<(Pair<Tree>, spelling::Spelled), Halt> {
        let mut mounted = Pair::default();
        for side in Side::BOTH {
            mounted[side] = self.naming_of_mounts(side, &trees[side])?;
        }
        let Pair { initiator, target } = &self.file_systems.abilities;
        let rules = SpellingRules {
            naming: Pair::new(initiator.naming, target.naming),
            mounted,
            one_inode: Pair::new(initiator.one_inode, target.one_inode),
            prevalence: self.config.policy.prevalence,
            one_way_from: self.config.policy.one_way_from,
        };
        Ok(spelling::agree(trees, baseline, rules)?)
    }

    /// What the file systems below the root make of names. Nothing is written there to find out:
    /// names that are there are looked up in another spelling. Where there is none to look up,
    /// they count as folding: two names that differ in nothing else are not brought there, so
    /// that neither takes the other's place.
    fn naming_of_mounts(
        &mut self,
        side: Side,
        tree: &Tree,
    ) -> Result<BTreeMap<NodeId, Naming>, Halt> {
        let root = tree.entry(Tree::ROOT).dev;
        let mut found = BTreeMap::new();
        let mut known: BTreeMap<u32, Naming> = BTreeMap::new();
        for id in tree.mount_points().iter().copied() {
            let dev = tree.entry(id).dev;
            if dev == root || !tree.entry(id).kind.is_dir() {
                continue;
            }
            let naming = match known.get(&dev) {
                Some(naming) => *naming,
                None => {
                    let [case, forms] = [spelling::CASE, spelling::FORMS]
                        .map(|naming| spelling::probes(tree, id, naming));
                    let case = self.is_folding(side, tree, &case)?;
                    let forms = self.is_folding(side, tree, &forms)?;
                    spelling::naming_by(case, forms)
                }
            };
            known.insert(dev, naming);
            found.insert(id, naming);
        }
        Ok(found)
    }

    /// Whether entries are found under their other spellings; `None`: nothing tells.
    fn is_folding(
        &mut self,
        side: Side,
        tree: &Tree,
        probes: &[(NodeId, RelPath)],
    ) -> Result<Option<bool>, Halt> {
        let paths: Vec<RelPath> = probes.iter().map(|(_, path)| path.clone()).collect();
        if paths.is_empty() {
            return Ok(None);
        }
        let mut told = None;
        for ((id, _), found) in probes.iter().zip(self.replicas[side].stat(&paths)?) {
            match found {
                Ok(Some(found)) if found.kind == tree.entry(*id).kind => return Ok(Some(true)),
                Ok(None) => told = Some(false),
                _ => {}
            }
        }
        Ok(told)
    }

    /// Keeps what was found out and what was told.
    pub(super) fn remember_file_systems(&self, store: &StateStore) -> Result<(), Halt> {
        Ok(store.set_file_systems(&self.file_systems.known)?)
    }
}

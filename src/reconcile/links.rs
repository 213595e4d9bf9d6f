//! Hard links: which names of a replica share an inode is content, and follows the side
//! that changed it (PRESERVE_HARDLINKS; spec 4, "Hard links").
//!
//! Contents have been decided name by name. rsync links on the receiver those names of one call
//! that share an inode on the sender. What is left to decide is which names go in one call: all
//! names of an inode that is sent, and names that are in step but not linked as they should be.
//! Names of one inode that go in opposite directions are separated, so that nothing is lost.

use super::decide::Facts;
use super::delta::PathId;
use super::join::shared;
use super::plan::{Act, Conflict, LinkGroup, NextRecord, Plan, WhyItWon};
use crate::state::Recorded;
use crate::tree::{Inode, Pair, Side};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What a name is linked with: its inode, or nothing but itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Class {
    Shared(Inode),
    Alone(PathId),
}

/// Adds to a plan whose contents are decided what keeps links linked.
pub fn add_link_groups(facts: &Facts<'_>, plan: &mut Plan) {
    if !facts.rules.preserve.hardlinks {
        return;
    }
    let mut links = Links::new(facts, plan);
    for component in links.components() {
        for from in Side::BOTH {
            links.send_together(&component, from);
        }
        links.relink(&component);
    }
}

struct Links<'a, 'p> {
    facts: &'a Facts<'a>,
    plan: &'p mut Plan,
    /// The names of each inode that has several, by side.
    names: Pair<BTreeMap<Inode, Vec<PathId>>>,
    /// Names that are in a group already.
    grouped: BTreeSet<PathId>,
    /// Of those, the ones that do not get a new inode.
    stays: BTreeSet<PathId>,
}

impl<'a, 'p> Links<'a, 'p> {
    fn new(facts: &'a Facts<'a>, plan: &'p mut Plan) -> Self {
        let mut names: Pair<BTreeMap<Inode, Vec<PathId>>> = Pair::default();
        for path_id in plan.delta.path_ids() {
            for side in Side::BOTH {
                if let Some(inode) = plan.entry(facts.trees, path_id, side).and_then(shared) {
                    names[side].entry(inode).or_default().push(path_id);
                }
            }
        }
        for side in Side::BOTH {
            names[side].retain(|_, path_ids| path_ids.len() > 1);
        }
        Links { facts, plan, names, grouped: BTreeSet::new(), stays: BTreeSet::new() }
    }

    /// Names that hang together through an inode of either side.
    fn components(&self) -> Vec<Vec<PathId>> {
        let mut seen = BTreeSet::new();
        let mut components = Vec::new();
        for start in self.names.iter().flat_map(|(_, inodes)| inodes.values().flatten()) {
            let mut component = Vec::new();
            let mut pending = vec![*start];
            while let Some(path_id) = pending.pop() {
                if !seen.insert(path_id) {
                    continue;
                }
                component.push(path_id);
                for side in Side::BOTH {
                    if let Class::Shared(inode) = self.class(path_id, side) {
                        pending.extend(self.names[side].get(&inode).into_iter().flatten());
                    }
                }
            }
            if !component.is_empty() {
                component.sort_unstable();
                components.push(component);
            }
        }
        components
    }

    fn class(&self, path_id: PathId, side: Side) -> Class {
        let inode = self.plan.entry(self.facts.trees, path_id, side).and_then(shared);
        inode.map_or(Class::Alone(path_id), Class::Shared)
    }

    fn is_there(&self, path_id: PathId, side: Side) -> bool {
        self.plan.delta.now(path_id, side).is_some()
    }

    fn act(&self, path_id: PathId) -> Act {
        self.plan.verdict(path_id).act
    }

    /// Names by what they are linked with on a side.
    fn classes(&self, path_ids: &[PathId], side: Side) -> Vec<Vec<PathId>> {
        let mut classes: BTreeMap<Class, Vec<PathId>> = BTreeMap::new();
        for path_id in path_ids.iter().filter(|path_id| self.is_there(**path_id, side)) {
            classes.entry(self.class(*path_id, side)).or_default().push(*path_id);
        }
        let mut classes: Vec<Vec<PathId>> = classes.into_values().collect();
        classes.sort_unstable();
        classes
    }

    /// Whether a name has the same content on both sides, and keeps it.
    fn is_idle(&self, path_id: PathId) -> bool {
        let verdict = self.plan.verdict(path_id);
        verdict.act == Act::Nothing
            && verdict.next_record == NextRecord::AsFound
            && verdict.makes_way_on.is_none()
            && !self.facts.is_damaged(&self.plan.delta, path_id)
            && self.facts.holds_the_same(self.plan, path_id)
    }

    /// Whether something that will not get a new inode has one of these on a side and is
    /// not among `members`.
    fn have_outsiders(&self, inodes: &BTreeSet<Class>, members: &[PathId], side: Side) -> bool {
        // Where several become one, a name that goes over from here could be left behind.
        let joins = inodes.len() > 1;
        inodes.iter().any(|class| {
            let Class::Shared(inode) = class else { return false };
            self.names[side].get(inode).into_iter().flatten().any(|path_id| {
                !members.contains(path_id)
                    && (self.is_there(*path_id, side.other())
                        || (joins && self.comes_from(*path_id, side)))
                    && !self.leaves(*path_id, side)
            })
        })
    }

    fn comes_from(&self, path_id: PathId, side: Side) -> bool {
        self.act(path_id) == Act::Send { to: side.other() }
    }

    fn leaves(&self, path_id: PathId, side: Side) -> bool {
        match self.act(path_id) {
            Act::Send { to } => to == side && !self.stays.contains(&path_id),
            Act::Delete { on } => on == side,
            Act::Nothing => false,
        }
    }

    fn inodes(&self, members: &[PathId], side: Side) -> BTreeSet<Class> {
        let there = members.iter().filter(|path_id| self.is_there(**path_id, side));
        there.map(|path_id| self.class(*path_id, side)).collect()
    }

    /// All names of an inode of which some go over go in one call. Names that only have to
    /// be made beside ones that are there already are linked; else all of them get the
    /// content anew.
    fn send_together(&mut self, component: &[PathId], from: Side) {
        let to = from.other();
        for class in self.classes(component, from) {
            let is_sent = |path_id: &&PathId| self.act(**path_id) == Act::Send { to };
            let sent: Vec<PathId> = class.iter().filter(is_sent).copied().collect();
            // Names may come from both sides to a file that is in step.
            let idle: Vec<PathId> = class.iter().filter(|s| self.is_idle(**s)).copied().collect();
            if sent.is_empty() || class.len() < 2 {
                continue;
            }
            self.note_opposition(&class, to);
            let mut members = [sent.as_slice(), &idle].concat();
            members.sort_unstable();
            let is_new = |path_id: &PathId| !self.is_there(*path_id, to);
            let inodes = self.inodes(&idle, to);
            let joined = self.with_those_linked(&members);
            let only_names = !idle.is_empty()
                && sent.iter().all(is_new)
                && !self.have_outsiders(&inodes, &joined, to);
            if only_names {
                self.link_names(to, members);
            } else {
                members.retain(|path_id| !self.stays.contains(path_id));
                self.send_group(to, members);
            }
        }
    }

    /// These names, and those that are linked with one of them in this run.
    fn with_those_linked(&self, members: &[PathId]) -> Vec<PathId> {
        let groups = self.plan.groups.iter().filter(|group| group.only_names);
        let linked = groups.filter(|group| group.members.iter().any(|s| members.contains(s)));
        members.iter().chain(linked.flat_map(|group| &group.members)).copied().collect()
    }

    /// Members planned in opposite directions (spec 4): told, unless that was done already.
    fn note_opposition(&mut self, class: &[PathId], to: Side) {
        let against =
            class.iter().find(|path_id| self.act(**path_id) == Act::Send { to: to.other() });
        if let Some(path_id) = against {
            self.conflict(*path_id, to);
        }
    }

    fn conflict(&mut self, path_id: PathId, winner: Side) {
        if !self.plan.conflicts.iter().any(|conflict| conflict.path_id == path_id) {
            let reason = WhyItWon::Links;
            self.plan.conflicts.push(Conflict { path_id, winner, reason, first_contact: false });
        }
    }

    /// Names with the same contents on both sides that are linked otherwise on one.
    fn relink(&mut self, component: &[PathId]) {
        let is_left =
            |path_id: &&PathId| self.is_idle(**path_id) && !self.grouped.contains(path_id);
        let idle: Vec<PathId> = component.iter().filter(is_left).copied().collect();
        let changed = Pair::from_fn(|side| self.linkage_changed(component, side));
        let policy = &self.facts.rules.policy;
        let winner = match (policy.one_way_from, changed.initiator, changed.target) {
            (Some(from), ..) => from,
            (None, true, false) => Side::Initiator,
            (None, false, true) => Side::Target,
            _ => policy.prevalence,
        };
        let loser = winner.other();
        let mut kept: BTreeSet<Class> = BTreeSet::new();
        let mut acted = None;
        for class in self.classes(&idle, winner) {
            let inodes = self.inodes(&class, loser);
            let outsiders = self.have_outsiders(&inodes, &class, loser);
            match (inodes.len(), outsiders) {
                (1, false) => continue,
                // One of several that must part may stay as it is.
                (1, true) if inodes.iter().all(|inode| kept.insert(*inode)) => continue,
                _ => {}
            }
            acted.get_or_insert(class[0]);
            if outsiders {
                self.send_group(loser, class);
            } else {
                self.link_names(loser, class);
            }
        }
        if let (Some(path_id), true, true) = (acted, changed.initiator, changed.target)
            && policy.one_way_from.is_none()
        {
            self.conflict(path_id, winner);
        }
    }

    /// Whether names were linked otherwise on a side when it was last seen.
    fn linkage_changed(&self, component: &[PathId], side: Side) -> bool {
        let mut now_of: HashMap<Class, Class> = HashMap::new();
        let mut before_of: HashMap<Class, Class> = HashMap::new();
        for path_id in component.iter().filter(|path_id| self.is_there(**path_id, side)) {
            let now = self.class(*path_id, side);
            let was = self.plan.delta.record(*path_id).map(|record| &record.was[side]);
            let Some(Recorded::Seen(before)) = was else {
                let has_others = matches!(now, Class::Shared(inode)
                    if self.names[side].get(&inode).is_some_and(|names| names.len() > 1));
                if has_others {
                    return true;
                }
                continue;
            };
            let before = shared(before).map_or(Class::Alone(*path_id), Class::Shared);
            if *now_of.entry(before).or_insert(now) != now
                || *before_of.entry(now).or_insert(before) != before
            {
                return true;
            }
        }
        false
    }

    /// Has names made, in one call, for a content that is there already.
    fn link_names(&mut self, to: Side, members: Vec<PathId>) {
        self.stays.extend(&members);
        self.grouped.extend(&members);
        self.plan.groups.push(LinkGroup { to, members, only_names: true });
    }

    /// Has a content sent under all these names, in one call.
    fn send_group(&mut self, to: Side, members: Vec<PathId>) {
        for path_id in &members {
            let verdict = &mut self.plan.verdicts[path_id.index()];
            verdict.act = Act::Send { to };
            if verdict.metadata_on == Some(to) {
                verdict.metadata_on = None; // it goes along with the content
            }
        }
        self.grouped.extend(&members);
        if members.len() > 1 {
            self.plan.groups.push(LinkGroup { to, members, only_names: false });
        }
    }
}

#[cfg(test)]
#[path = "links_tests.rs"]
mod tests;

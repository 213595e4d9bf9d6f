//! Decides every path of a delta (spec 4, "Deciding one path").
//!
//! One pass down the tree decides what does not depend on what lies below; one pass up
//! settles directories that exist on one side only, whose fate follows their content.

use super::change::{Measure, SideChange, change, metadata_change, same_metadata};
use super::delta::{Delta, PathId};
use super::plan::{
    Act, Aside, Conflict, Doubt, LeftPath, NextRecord, Plan, SetAside, WhyItWon, winner,
};
use super::{Rules, Writes};
use crate::config::Preserve;
use crate::report::left_alone::LeftAlone;
use crate::report::{Level, Problem};
use crate::state::{Header, InflightPath, Part, Record, Recorded};
use crate::tree::Keep;
use crate::tree::same::{
    Comparison, EqualTimes, Inodes, Sameness, compare_sides, digests_agree, is_silently_changed,
    looks_alike, may_be_silently_changed, times_agree,
};
use crate::tree::{Entry, Kind, Lack, NodeId, Pair, RelPath, Side, Standing, Tree};
use std::collections::HashSet;

/// What is known of every path before anything is decided.
pub struct Facts<'a> {
    /// Both replicas as scanned.
    pub trees: &'a Pair<Tree>,
    /// The settings.
    pub rules: &'a Rules,
    /// Whether the inode numbers of a side count.
    pub inodes: Pair<Inodes>,
    /// Whether only the content could tell if the file is that of the baseline, and it was not or
    /// could not be compared; by [`PathId::index`].
    pub in_doubt: Vec<bool>,
    /// What must be compared to settle these doubts.
    pub doubts: Vec<Doubt>,
    /// What each side did to each path since the last run, by [`PathId::index`].
    pub changes: Vec<Pair<SideChange>>,
    /// Whether something below was created or modified on that side.
    pub fresh_below: Vec<Pair<bool>>,
    /// Whether something below is excluded or unknown on that side.
    pub hidden_below: Vec<Pair<bool>>,
    /// Whether another file system is mounted at the path or below it, and stays there.
    pub mounted_within: Vec<Pair<bool>>,
    /// Whether what is hidden below is unknown rather than excluded.
    pub unknown_below: Vec<Pair<bool>>,
}

impl<'a> Facts<'a> {
    /// Compares every path with the baseline and gathers what lies below it.
    #[must_use]
    pub fn gather(
        delta: &Delta,
        trees: &'a Pair<Tree>,
        header: &Header,
        rules: &'a Rules,
        inodes: Pair<Inodes>,
    ) -> Facts<'a> {
        let nothing = Pair::new(false, false);
        let mut facts = Facts {
            trees,
            rules,
            inodes,
            in_doubt: vec![false; delta.len()],
            doubts: Vec::new(),
            changes: vec![Pair::new(SideChange::Absent, SideChange::Absent); delta.len()],
            fresh_below: vec![nothing; delta.len()],
            hidden_below: vec![nothing; delta.len()],
            mounted_within: vec![nothing; delta.len()],
            unknown_below: vec![nothing; delta.len()],
        };
        for path_id in delta.path_ids().rev() {
            let parent = delta.parent(path_id).index();
            let index = path_id.index();
            facts.changes[index] = facts.changes_of(delta, header, path_id);
            for side in Side::BOTH {
                let mut changed = facts.changes[index][side];
                // What an interrupted run may have taken away does not count as deleted.
                if changed == SideChange::Deleted
                    && !rules.explains_absence_at.is_empty()
                    && rules.explains_absence(&delta.path(path_id), side)
                {
                    changed = SideChange::Absent;
                    facts.changes[index][side] = changed;
                }
                facts.see_hidden_children(delta, path_id, side);
                facts.mounted_within[index][side] |= facts.is_mounted(delta, path_id, side);
                facts.mounted_within[parent][side] |= facts.mounted_within[index][side];
                facts.fresh_below[parent][side] |=
                    changed.is_new_work() || facts.fresh_below[index][side];
                facts.hidden_below[parent][side] |= facts.hidden_below[index][side];
                facts.unknown_below[parent][side] |= facts.unknown_below[index][side];
            }
        }
        facts
    }

    /// Whether something is mounted at a path itself. Where links are followed, what lies behind
    /// one looks the same, and is no mount point.
    pub fn is_mounted(&self, delta: &Delta, path_id: PathId, side: Side) -> bool {
        !self.rules.preserve.follows_links()
            && delta.now(path_id, side).is_some_and(|id| self.trees[side].is_mount_point(id))
    }

    /// What a side's changes are measured with.
    #[must_use]
    pub fn measure(&self, header: &Header, side: Side) -> Measure<'a> {
        Measure {
            listed_at: header.listed_at[side],
            preserve: &self.rules.preserve,
            inodes: self.inodes[side],
        }
    }

    /// What each side did to a path. A side in doubt is compared with the other side's file, if
    /// that one is unchanged; else it counts as changed.
    fn changes_of(&mut self, delta: &Delta, header: &Header, path_id: PathId) -> Pair<SideChange> {
        let none = Record::default();
        let record = delta.record(path_id).unwrap_or(&none);
        let trees = self.trees;
        let entry = |side: Side| delta.now(path_id, side).map(|id| trees[side].entry(id));
        let found = Pair::from_fn(|side| {
            change(entry(side), &record.was[side], self.measure(header, side))
        });
        let Some(doubtful) = Side::BOTH.into_iter().find(|side| found[*side].is_none()) else {
            return found.map(|change| change.unwrap_or(SideChange::Modified));
        };
        let across = found[doubtful.other()];
        let nodes = (delta.now(path_id, Side::Initiator), delta.now(path_id, Side::Target));
        let (Some(SideChange::Unchanged | SideChange::Metadata), (Some(i), Some(t))) =
            (across, nodes)
        else {
            return found.map(|change| change.unwrap_or(SideChange::Modified));
        };
        let settled = match (entry(doubtful), &record.was[doubtful], self.answer(Pair::new(i, t))) {
            (Some(now), Recorded::Seen(before), Some(Comparison::Same)) => {
                metadata_change(now, before, &self.rules.preserve)
            }
            (_, _, Some(Comparison::Different)) => SideChange::Modified,
            (_, _, answer) => {
                self.in_doubt[path_id.index()] = true;
                if answer.is_none() {
                    self.doubts.push(Pair::new(i, t));
                }
                SideChange::Unchanged
            }
        };
        found.map(|change| change.unwrap_or(settled))
    }

    /// Whether a copy of a path is known to be damaged, on either side.
    #[must_use]
    pub fn is_damaged(&self, delta: &Delta, path_id: PathId) -> bool {
        self.rules.damaged.any_copy_is_damaged(Pair::from_fn(|side| delta.now(path_id, side)))
    }

    /// A doubt about the file of one side and the file of the other one.
    #[must_use]
    pub fn doubt(&self, side: Side, here: NodeId, across: NodeId) -> Doubt {
        Pair::from_fn(|of| if of == side { here } else { across })
    }

    /// Whether the contents of two files are the same, as far as is known; `None` if they have not
    /// been compared yet.
    #[must_use]
    pub fn answer(&self, files: Doubt) -> Option<Comparison> {
        let entries = Pair::from_fn(|side: Side| self.trees[side].entry(files[side]));
        let (i, t) = (entries.initiator, entries.target);
        if i.kind != t.kind || i.size != t.size || digests_agree(i, t) == Some(false) {
            return Some(Comparison::Different);
        }
        if digests_agree(i, t) == Some(true) {
            return Some(Comparison::Same);
        }
        self.rules.settled.get(&files).copied()
    }

    /// Whether both sides of a path hold the same: by the look of it, or because they were
    /// compared.
    #[must_use]
    pub fn holds_the_same(&self, plan: &Plan, path_id: PathId) -> bool {
        let (i, t) =
            (plan.delta.now(path_id, Side::Initiator), plan.delta.now(path_id, Side::Target));
        let (Some(i), Some(t)) = (i, t) else { return false };
        looks_alike(self.trees.initiator.entry(i), self.trees.target.entry(t))
            || self.rules.settled.get(&Pair::new(i, t)) == Some(&Comparison::Same)
    }

    fn see_hidden_children(&mut self, delta: &Delta, path_id: PathId, side: Side) {
        let Some(dir) = delta.now(path_id, side) else { return };
        let tree = &self.trees[side];
        for child in tree.children(dir) {
            let standing = tree.standing(child);
            if standing != Standing::Present {
                self.hidden_below[path_id.index()][side] = true;
                self.unknown_below[path_id.index()][side] |= standing == Standing::Unknown;
            }
        }
    }
}

/// How what was decided above a path binds the path itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FromAbove {
    /// It is decided on its own.
    Free,
    /// This side won a conflict of kinds above it, and its whole subtree is sent.
    Won(Side),
    /// A path above it is left alone.
    LeftAlone,
}

/// What is known of the contents of both sides of a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compared {
    Same,
    Different,
    /// Not compared yet, or not to be compared: the path is left alone.
    Unknown,
}

struct Decide<'a, 'p> {
    facts: &'a Facts<'a>,
    plan: &'p mut Plan,
    from_above: Vec<FromAbove>,
    /// Paths that are there on one side only, and stay for the sound content they hold.
    spared: HashSet<PathId>,
}

/// Fills in the verdicts of a plan, its conflicts, and what is set aside.
pub fn decide(facts: &Facts<'_>, plan: &mut Plan) {
    let from_above = vec![FromAbove::Free; plan.delta.len()];
    let mut decide = Decide { facts, plan, from_above, spared: HashSet::new() };
    for path_id in decide.plan.delta.path_ids() {
        decide.downwards(path_id);
    }
    for path_id in decide.plan.delta.path_ids().rev() {
        decide.upwards(path_id);
    }
}

impl<'a> Decide<'a, '_> {
    fn entries(&self, path_id: PathId) -> Pair<Option<&'a Entry>> {
        Pair::from_fn(|side| self.plan.entry(self.facts.trees, path_id, side))
    }

    fn has_baseline(&self, path_id: PathId) -> bool {
        self.plan.delta.record(path_id).is_some_and(|record| !record.is_empty())
    }

    fn set_act(&mut self, path_id: PathId, act: Act) {
        self.plan.verdicts[path_id.index()].act = act;
    }

    fn set_next_record(&mut self, path_id: PathId, next_record: NextRecord) {
        self.plan.verdicts[path_id.index()].next_record = next_record;
    }

    fn downwards(&mut self, path_id: PathId) {
        let above = self.from_above[self.plan.delta.parent(path_id).index()];
        self.from_above[path_id.index()] = above;
        let entries = self.entries(path_id);
        let kinds = Pair::new(entries.initiator.map(|e| e.kind), entries.target.map(|e| e.kind));
        match above {
            FromAbove::LeftAlone => self.set_next_record(path_id, NextRecord::KeepOld),
            FromAbove::Won(side) => {
                if kinds[side].is_some() {
                    self.send(path_id, side.other());
                }
                if kinds[side.other()].is_some() {
                    self.plan.verdicts[path_id.index()].makes_way_on = Some(side.other());
                }
            }
            FromAbove::Free if self.facts.in_doubt[path_id.index()] => {
                self.leave_alone(path_id, None, LeftAlone::NotCompared);
            }
            FromAbove::Free => match (kinds.initiator, kinds.target) {
                (Some(a), Some(b)) if a.is_dir() != b.is_dir() => self.settle_kinds(path_id, kinds),
                (Some(a), Some(_)) if a.is_dir() => self.metadata(path_id),
                (Some(_), Some(_)) => self.decide_both_there(path_id),
                (Some(kind), None) if !kind.is_dir() => {
                    self.decide_one_there(path_id, Side::Initiator)
                }
                (None, Some(kind)) if !kind.is_dir() => {
                    self.decide_one_there(path_id, Side::Target)
                }
                // Directories on one side wait for what lies below, unless they cannot come;
                // what is gone from both sides is forgotten.
                (Some(_), None) => {
                    self.leave_out_if_impossible(path_id, Side::Target);
                }
                (None, Some(_)) => {
                    self.leave_out_if_impossible(path_id, Side::Initiator);
                }
                (None, None) => {}
            },
        }
    }

    /// A directory stands against something else.
    fn settle_kinds(&mut self, path_id: PathId, kinds: Pair<Option<Kind>>) {
        let is_dir = |side: Side| kinds[side].is_some_and(Kind::is_dir);
        let index = path_id.index();
        let changed = |side: Side| {
            self.facts.changes[index][side].is_new_work()
                || (is_dir(side) && self.facts.fresh_below[index][side])
        };
        let policy = &self.facts.rules.policy;
        let both = changed(Side::Initiator) && changed(Side::Target);
        let winner = if let Some(from) = policy.one_way_from {
            if changed(from.other()) && self.is_newer(path_id, from.other()) {
                return self.leave_alone(path_id, from.other(), LeftAlone::NewerOnReceiver);
            }
            from
        } else if both {
            policy.prevalence
        } else if changed(Side::Initiator) {
            Side::Initiator
        } else if changed(Side::Target) {
            Side::Target
        } else {
            return self.leave_alone(path_id, None, LeftAlone::DiffersAsRecorded);
        };
        let loser = winner.other();
        if self.facts.hidden_below[index][loser] {
            return self.leave_alone(path_id, loser, LeftAlone::HidesEntries);
        }
        if self.facts.mounted_within[index][loser] {
            return self.leave_alone(path_id, loser, LeftAlone::MountInTheWay);
        }
        if policy.skip_deletion[loser] && is_dir(loser) && !both {
            return self.leave_alone(path_id, loser, LeftAlone::DeletionForbidden);
        }
        // What cannot be sent must not displace anything.
        if !self.may_come_or_leave_alone(path_id, loser) {
            return;
        }
        let keep = if both || !is_dir(loser) { Keep::Backup } else { Keep::Deleted };
        if both && policy.one_way_from.is_none() {
            let reason = if policy.force_prevalence { WhyItWon::Forced } else { WhyItWon::Kinds };
            let first_contact = !self.has_baseline(path_id);
            self.plan.conflicts.push(Conflict { path_id, winner, reason, first_contact });
        }
        self.plan.set_aside.push(SetAside { path_id, on: loser, to: Aside::Kept(keep) });
        self.from_above[index] = FromAbove::Won(winner);
        self.send(path_id, loser);
        self.plan.verdicts[index].makes_way_on = Some(loser);
    }

    /// Leaves a path, and all below it, to the next run. `side` is the one that the reason is about,
    /// if it is not about both.
    fn leave_alone(&mut self, path_id: PathId, side: impl Into<Option<Side>>, why: LeftAlone) {
        self.from_above[path_id.index()] = FromAbove::LeftAlone;
        self.plan.verdicts[path_id.index()] =
            super::plan::Verdict { next_record: NextRecord::KeepOld, ..Default::default() };
        self.note_left_alone(path_id, side, why);
    }

    /// Notes why nothing is done, where what is recorded of the path follows rules of its own.
    fn note_left_alone(&mut self, path_id: PathId, side: impl Into<Option<Side>>, why: LeftAlone) {
        self.plan.left_alone.push(LeftPath { path_id, side: side.into(), why });
    }

    /// What was deleted on the other side stays on this one for now.
    fn skip_deletion(&mut self, path_id: PathId, on: Side, why: LeftAlone) {
        self.set_next_record(path_id, NextRecord::DeletionSkipped(on));
        self.note_left_alone(path_id, on, why);
    }

    fn warn(&mut self, side: Side, path_id: PathId, text: &str) {
        let path = Some(self.plan.path(path_id));
        let (level, side, text) = (Level::Warn, Some(side), text.to_owned());
        self.plan.problems.push(Problem { level, side, path, text });
    }

    /// Whether `side`'s entry has the newer time.
    fn is_newer(&self, path_id: PathId, side: Side) -> bool {
        let entries = self.entries(path_id);
        match (entries[side], entries[side.other()]) {
            (Some(mine), Some(other)) => mine.mtime.compare_coarsely(other.mtime).is_gt(),
            _ => false,
        }
    }

    /// Two entries, neither of them a directory.
    fn decide_both_there(&mut self, path_id: PathId) {
        let (Some(initiator), Some(target)) =
            (self.entries(path_id).initiator, self.entries(path_id).target)
        else {
            return;
        };
        let entries = Pair::new(initiator, target);
        let rules = self.facts.rules;
        let changes = self.facts.changes[path_id.index()];
        self.look_for_damage(path_id);
        match self.compare(path_id, entries) {
            Compared::Same => {
                self.bring_time_over(path_id);
                return self.metadata(path_id);
            }
            Compared::Unknown => {
                return self.leave_alone(path_id, None, LeftAlone::NotCompared);
            }
            Compared::Different => {}
        }
        if let Some(winner) = self.whole_side(path_id, entries) {
            return self.send_from_whole_side(path_id, winner);
        }
        if let Some(from) = rules.policy.one_way_from {
            let to = from.other();
            if changes[to].is_new_work() && self.is_newer(path_id, to) {
                return self.leave_alone(path_id, to, LeftAlone::NewerOnReceiver);
            }
            self.send(path_id, to);
            return self.metadata(path_id);
        }
        match (changes.initiator.is_new_work(), changes.target.is_new_work()) {
            (true, false) => self.send(path_id, Side::Target),
            (false, true) => self.send(path_id, Side::Initiator),
            // Recorded as different: nobody changed anything since.
            (false, false)
                if !self.is_only_listed(path_id) && !self.differ_unexplained(path_id, entries) =>
            {
                self.note_left_alone(path_id, None, LeftAlone::DiffersAsRecorded);
            }
            // Which copy is sound is known, or somebody has to say so: that is a scrub's business.
            (false, false) if self.facts.is_damaged(&self.plan.delta, path_id) => {
                return self.leave_alone(path_id, None, LeftAlone::DamagedAsRecorded);
            }
            // Both changed; or a list says that both existed, but not what they held.
            (is_new_here, is_new_there) => {
                let (winner, reason) = winner(entries, &rules.policy);
                if !self.may_come_or_leave_alone(path_id, winner.other()) {
                    return;
                }
                if !is_new_here && !is_new_there && self.differ_unexplained(path_id, entries) {
                    self.tell_unexplained_content(path_id, winner);
                }
                let first_contact = !self.has_baseline(path_id);
                self.plan.conflicts.push(Conflict { path_id, winner, reason, first_contact });
                self.send(path_id, winner.other());
            }
        }
        self.metadata(path_id);
    }

    /// The side to which a run was bringing this file when it was broken off.
    fn was_on_its_way(&self, path_id: PathId) -> Option<Side> {
        let rules = self.facts.rules;
        if rules.explains_absence_at.is_empty() {
            None
        } else {
            rules.was_on_its_way(&self.plan.path(path_id))
        }
    }

    /// The side with the whole file, if the other one may be torn.
    fn whole_side(&self, path_id: PathId, entries: Pair<&Entry>) -> Option<Side> {
        let changes = self.facts.changes[path_id.index()];
        // What both baselines know was on the disks.
        if Side::BOTH.iter().all(|side| !changes[*side].is_new_work()) {
            return None;
        }
        side_with_whole_file(entries, self.was_on_its_way(path_id)?)
    }

    fn send_from_whole_side(&mut self, path_id: PathId, winner: Side) {
        if self.facts.rules.policy.one_way_from == Some(winner.other()) {
            return self.leave_alone(path_id, winner.other(), LeftAlone::TornSource);
        }
        if !self.may_come_or_leave_alone(path_id, winner.other()) {
            return;
        }
        let first_contact = !self.has_baseline(path_id);
        // What loses may be somebody's edit after all, of the same second where times are coarse:
        // it is kept whatever CONFLICT_BACKUP says.
        self.plan.always_kept.insert(path_id);
        let reason = WhyItWon::Whole;
        self.plan.conflicts.push(Conflict { path_id, winner, reason, first_contact });
        self.send(path_id, winner.other());
        self.metadata(path_id);
    }

    /// Whether only osync 1.3's list tells of a path, on a side at least: that it existed, and
    /// not what it held.
    fn is_only_listed(&self, path_id: PathId) -> bool {
        self.plan.delta.record(path_id).is_some_and(|record| {
            Side::BOTH.iter().any(|side| matches!(record.was[*side], Recorded::Listed(_)))
        })
    }

    /// Whether both sides hold the same, as far as that matters for what becomes of the path.
    fn compare(&mut self, path_id: PathId, entries: Pair<&Entry>) -> Compared {
        let changes = self.facts.changes[path_id.index()];
        let created = Side::BOTH.iter().any(|side| changes[*side] == SideChange::Created);
        let equal_times = match (changes.initiator.is_new_work(), changes.target.is_new_work()) {
            (true, true) if self.is_known_on_both(path_id) => EqualTimes::ProveNothing,
            (true, true) if self.was_on_its_way(path_id).is_some() => EqualTimes::ProveNothing,
            (true, true) => EqualTimes::Suffice,
            _ if self.is_only_listed(path_id) || created => EqualTimes::Suffice,
            (false, false) => {
                let same = looks_alike(entries.initiator, entries.target);
                return if same { Compared::Same } else { Compared::Different };
            }
            // Only one of them changed. That both look alike now is no proof: a time without
            // nanoseconds agrees with a whole second.
            _ => return Compared::Different,
        };
        let alike = looks_alike(entries.initiator, entries.target);
        match compare_sides(entries.initiator, entries.target, equal_times) {
            Sameness::Same => return Compared::Same,
            Sameness::Different => return Compared::Different,
            Sameness::Doubt => {}
        }
        // If only one side changed, that one is sent.
        let one_changed = changes.initiator.is_new_work() != changes.target.is_new_work();
        if one_changed && !alike {
            return Compared::Different;
        }
        let now = |side| self.plan.delta.now(path_id, side);
        let (Some(i), Some(t)) = (now(Side::Initiator), now(Side::Target)) else {
            return Compared::Different;
        };
        match self.facts.answer(Pair::new(i, t)) {
            Some(Comparison::Same) => Compared::Same,
            Some(Comparison::Different) => Compared::Different,
            // Where the times differ they decide, as they did before contents were compared.
            Some(Comparison::Unknown) if !alike => Compared::Different,
            Some(Comparison::Unknown) => Compared::Unknown,
            None => {
                self.plan.doubts.push(Pair::new(i, t));
                Compared::Unknown
            }
        }
    }

    fn is_known_on_both(&self, path_id: PathId) -> bool {
        let is_seen = |record: &Record, side: Side| matches!(record.was[side], Recorded::Seen(_));
        let record = self.plan.delta.record(path_id);
        record.is_some_and(|record| Side::BOTH.iter().all(|side| is_seen(record, *side)))
    }

    /// Files of the same content get the newer time, or that of the side that is brought over.
    fn bring_time_over(&mut self, path_id: PathId) {
        let (Some(i), Some(t)) = (self.entries(path_id).initiator, self.entries(path_id).target)
        else {
            return;
        };
        if times_agree(i, t) {
            return;
        }
        let newer = if i.mtime > t.mtime { Side::Initiator } else { Side::Target };
        let rules = self.facts.rules;
        let from = rules.policy.one_way_from.unwrap_or(newer);
        if !rules.preserve.times || !rules.abilities[from.other()].sets_times {
            return;
        }
        self.plan.verdicts[path_id.index()].time_on = Some(from.other());
    }

    /// Warns of a file whose content changed although its size and time did not. It is sent,
    /// because somebody may have edited it; but it may also be damage on the disk.
    fn look_for_damage(&mut self, path_id: PathId) {
        for side in Side::BOTH {
            if self.is_changed_silently(path_id, side) && !self.is_damaged(path_id, side) {
                self.plan.always_kept.insert(path_id);
                let text = "its content changed, but neither its size nor its time: an edit that \
                            kept the time, or damage on the disk. What it replaces on the other \
                            side is kept in .osync_workdir/backup; compare the two";
                self.warn(side, path_id, text);
            }
        }
    }

    /// Whether the content is another one than was read before, or, where nothing was read, than
    /// the other side's, though size and time do not say so.
    fn is_changed_silently(&self, path_id: PathId, side: Side) -> bool {
        let was = self.plan.delta.record(path_id).map(|record| &record.was[side]);
        let entries = self.entries(path_id);
        let (Some(now), Some(across), Some(Recorded::Seen(before))) =
            (entries[side], entries[side.other()], was)
        else {
            return false;
        };
        let changes = self.facts.changes[path_id.index()];
        let is_alone = changes[side].is_new_work() && !changes[side.other()].is_new_work();
        is_silently_changed(now, before)
            || (is_alone
                && may_be_silently_changed(now, before)
                && digests_agree(now, across) == Some(false))
    }

    /// Whether the contents are known to differ, and were never compared before: nobody can
    /// tell who changed them (CHECKSUM).
    fn differ_unexplained(&self, path_id: PathId, entries: Pair<&Entry>) -> bool {
        let read_before = |side: Side| match self.plan.delta.record(path_id).map(|r| &r.was[side]) {
            Some(Recorded::Seen(before)) => digests_agree(entries[side], before).is_some(),
            _ => false,
        };
        self.facts.rules.preserve.checksum
            && digests_agree(entries.initiator, entries.target) == Some(false)
            && !Side::BOTH.into_iter().all(read_before)
    }

    /// Neither size nor time says that somebody edited one of the two, so nobody can tell which is
    /// the good one: the one that loses is kept.
    fn tell_unexplained_content(&mut self, path_id: PathId, winner: Side) {
        self.plan.always_kept.insert(path_id);
        let text = "its content differs from the other side's, but neither its size nor its time, \
                    and it had not been compared before: an edit that kept the time, or damage on \
                    the disk. What it replaces on the other side is kept in .osync_workdir/backup; \
                    compare the two";
        self.warn(winner, path_id, text);
    }

    /// Something that is no directory, on one side only.
    fn decide_one_there(&mut self, path_id: PathId, side: Side) {
        let away = side.other();
        if self.leave_out_if_impossible(path_id, away) {
            return;
        }
        let change = self.facts.changes[path_id.index()];
        let policy = &self.facts.rules.policy;
        let marked = self.plan.delta.record(path_id).is_some_and(|record| record.skipped[side]);
        if let Some(from) = policy.one_way_from {
            return if side == from {
                self.send(path_id, away)
            } else {
                self.delete(path_id, side)
            };
        }
        match change[away] {
            _ if marked && !change[side].is_new_work() => {
                self.skip_deletion(path_id, side, LeftAlone::DeletionSkipped);
            }
            SideChange::Deleted if change[side].is_new_work() => {
                let reason = WhyItWon::NewWorkBeatsDeletion;
                // Nothing of it was there before on this side: that is no conflict, only a
                // new file where the other side had deleted an old one.
                if change[side] == SideChange::Modified {
                    let conflict = Conflict { path_id, winner: side, reason, first_contact: false };
                    self.plan.conflicts.push(conflict);
                }
                self.send(path_id, away);
            }
            SideChange::Deleted => self.delete(path_id, side),
            _ => self.send(path_id, away),
        }
    }

    fn delete(&mut self, path_id: PathId, on: Side) {
        // A mount point cannot be deleted; only what is below it is.
        let stays = self.facts.rules.policy.skip_deletion[on]
            || self.facts.is_mounted(&self.plan.delta, path_id, on);
        if stays {
            self.skip_deletion(path_id, on, LeftAlone::DeletionSkipped);
        } else if !self.spare_sound_copy(path_id, on) {
            self.keep_what_may_be_wanted(path_id, on);
            self.set_act(path_id, Act::Delete { on });
        }
    }

    /// Whoever deletes a damaged copy may do so to get the sound one.
    fn keep_what_may_be_wanted(&mut self, path_id: PathId, on: Side) {
        let (away, path) = (on.other(), self.plan.path(path_id));
        let record = self.plan.delta.record(path_id);
        let damaged = &self.facts.rules.damaged;
        if record
            .is_some_and(|record| damaged.was_damaged_and_is_gone(away, &path, &record.was[away]))
        {
            self.plan.always_kept.insert(path_id);
            let text = format!(
                "the {away}'s copy was damaged (osync scrub) and has been deleted there, so this one \
                 is deleted too; it is kept in deleted/, and 'osync restore' brings it back"
            );
            self.warn(on, path_id, &text);
        }
    }

    fn send(&mut self, path_id: PathId, to: Side) {
        if self.may_come_or_leave_alone(path_id, to) {
            self.set_act(path_id, Act::Send { to });
        }
    }

    /// Whether what the other side has cannot be on `on`: then it is left alone, and its
    /// absence there says nothing.
    fn leave_out_if_impossible(&mut self, path_id: PathId, on: Side) -> bool {
        let Some(kind) = self.entries(path_id)[on.other()].map(|entry| entry.kind) else {
            return false;
        };
        let rules = self.facts.rules;
        let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
        let lack = if is_device && !rules.can_chown[on] {
            Some(Lack::Devices)
        } else {
            rules.abilities[on].lack(kind, self.plan.delta.name(path_id))
        };
        if let Some(lack) = lack {
            self.leave_alone(path_id, on, LeftAlone::CannotBeThere(lack));
        }
        lack.is_some()
    }

    /// Whether a side's copy is known to be damaged.
    fn is_damaged(&self, path_id: PathId, side: Side) -> bool {
        self.facts.rules.damaged.is_damaged(side, self.plan.delta.now(path_id, side))
    }

    /// Leaves a path alone if the copy of `on` may be the last sound one of its file: the other side
    /// has that file under another name now, where it is damaged and not transferred.
    fn spare_sound_copy(&mut self, path_id: PathId, on: Side) -> bool {
        if self.facts.rules.damaged.is_empty() {
            return false;
        }
        let Some(lying) = self.sound_copy_within(path_id, on) else { return false };
        let damaged = self.plan.path(lying);
        self.leave_alone(path_id, on, LeftAlone::LastSoundCopy { damaged_on: on.other(), damaged });
        self.spared.insert(path_id);
        true
    }

    /// A path, this one or one below it, at which the copy of `on` may be the last sound one.
    fn sound_copy_within(&self, path_id: PathId, on: Side) -> Option<PathId> {
        let delta = &self.plan.delta;
        std::iter::once(path_id)
            .chain(delta.below(path_id))
            .find(|one| self.is_last_sound(*one, on))
    }

    /// Whether the copy of `on` may be the last sound one: it is as it was recorded, and the other
    /// side's file of then is damaged and has another name now.
    fn is_last_sound(&self, path_id: PathId, on: Side) -> bool {
        let (delta, damaged) = (&self.plan.delta, &self.facts.rules.damaged);
        let has_lost_it = |record: &Record| {
            let side = on.other();
            damaged.is_damaged_elsewhere_too(side, &delta.path(path_id), &record.was[side])
                && !damaged.is_damaged(side, delta.now(path_id, side))
        };
        delta.now(path_id, on).is_some()
            && !self.facts.changes[path_id.index()][on].is_new_work()
            && delta.record(path_id).is_some_and(has_lost_it)
    }

    /// Whether `to` can have what the other side has; if not, the path is left alone.
    fn may_come_or_leave_alone(&mut self, path_id: PathId, to: Side) -> bool {
        if self.from_above[path_id.index()] == FromAbove::LeftAlone {
            return false;
        }
        if self.leave_out_if_impossible(path_id, to) {
            false
        } else if self.is_damaged(path_id, to.other()) {
            self.leave_alone(path_id, to.other(), LeftAlone::Damaged);
            false
        } else if self.spare_sound_copy(path_id, to) {
            false
        } else if self.facts.rules.is_too_long(&self.plan.delta, path_id) {
            self.leave_alone(path_id, to, LeftAlone::TooLong);
            false
        } else {
            true
        }
    }

    fn metadata(&mut self, path_id: PathId) {
        if self.from_above[path_id.index()] != FromAbove::LeftAlone {
            decide_metadata(self.facts, self.plan, path_id);
        }
    }

    /// Directories that are there on one side only.
    fn upwards(&mut self, path_id: PathId) {
        if self.from_above[path_id.index()] != FromAbove::Free {
            return;
        }
        let entries = self.entries(path_id);
        let side = match (entries.initiator, entries.target) {
            (Some(dir), None) if dir.kind.is_dir() => Side::Initiator,
            (None, Some(dir)) if dir.kind.is_dir() => Side::Target,
            _ => return,
        };
        let below = self.below(path_id, side);
        let index = path_id.index();
        let change = self.facts.changes[index];
        let policy = &self.facts.rules.policy;
        let away = side.other();
        // What was marked as a file and is a directory now has changed.
        let marked = !change[side].is_new_work()
            && self.plan.delta.record(path_id).is_some_and(|record| record.skipped[side]);
        if let Some(from) = policy.one_way_from {
            return if side == from {
                self.send(path_id, away);
            } else if below.remains {
                self.keep_dir_for_the_rest(path_id, side);
            } else {
                self.delete(path_id, side);
            };
        }
        let is_wanted =
            change[side].is_new_work() || (!marked && change[away] != SideChange::Deleted);
        if below.comes_back || is_wanted {
            self.send(path_id, away);
        } else if below.remains {
            self.keep_dir_for_the_rest(path_id, side);
        } else if marked {
            self.skip_deletion(path_id, side, LeftAlone::DeletionSkipped);
        } else {
            self.delete(path_id, side);
        }
    }

    /// The directory stays for what it still holds. Excluded content may stay for ever: remembered as
    /// a skipped deletion. What could not be read, or is kept for its sound content, is tried again.
    fn keep_dir_for_the_rest(&mut self, path_id: PathId, side: Side) {
        let unknown = self.facts.unknown_below[path_id.index()][side];
        let is_spared = self.plan.delta.children(path_id).any(|one| self.spared.contains(&one));
        if is_spared {
            self.spared.insert(path_id);
        }
        if unknown || is_spared {
            self.set_next_record(path_id, NextRecord::KeepOld);
            self.note_left_alone(path_id, side, LeftAlone::HoldsWhatStays);
        } else {
            self.skip_deletion(path_id, side, LeftAlone::HoldsWhatStays);
        }
    }

    fn below(&self, path_id: PathId, side: Side) -> Below {
        let mut below =
            Below { comes_back: false, remains: self.facts.hidden_below[path_id.index()][side] };
        for child in self.plan.delta.children(path_id) {
            if self.plan.delta.now(child, side).is_none() {
                continue;
            }
            match self.plan.verdict(child).act {
                Act::Send { to } if to != side => below.comes_back = true,
                // A move brings it there.
                _ if self.plan.delta.now(child, side.other()).is_some() => below.comes_back = true,
                Act::Delete { on } if on == side => {}
                _ => below.remains = true,
            }
        }
        below
    }
}

/// What happens below a directory that is there on one side only.
struct Below {
    /// Something goes over to the other side, so the directory must be there too.
    comes_back: bool,
    /// Something stays on this side.
    remains: bool,
}

// From here on: metadata (mode, owner, group, ACL, attributes), which is merged three-way like a
// field of its own (spec 4, "Metadata").

/// Whether a side's metadata changed since its own baseline.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MetadataChange {
    Yes,
    No,
    NoBaseline,
}

/// Decides whose metadata a path gets that both sides have, after its content was decided.
fn decide_metadata(facts: &Facts<'_>, plan: &mut Plan, path_id: PathId) {
    let (Some(initiator), Some(target)) = (
        plan.entry(facts.trees, path_id, Side::Initiator),
        plan.entry(facts.trees, path_id, Side::Target),
    ) else {
        return;
    };
    let entries = Pair::new(initiator, target);
    let preserve = &facts.rules.preserve;
    let act = plan.verdict(path_id).act;
    if initiator.kind != target.kind || same_metadata(initiator, target, preserve) {
        return;
    }
    let source = match act {
        Act::Send { to } => Some(to.other()),
        _ => None,
    };
    let sender = || interrupted_sender(facts, plan, path_id);
    let Some(winner) = metadata_winner(facts, plan.delta.record(path_id), entries, source, sender)
    else {
        return;
    };
    if source == Some(winner) {
        return; // it is sent with the content
    }
    let on = winner.other();
    if !facts.rules.can_chown[on] {
        // Reported once, when the difference is new, and not by every one-way run. The group is
        // tried once too, because a user may set some groups.
        let is_new = differs_since_last_run(plan.delta.record(path_id), entries, preserve)
            || differs_where_first_compared(facts, entries);
        let owner = Preserve { owner: false, ..*preserve };
        let both = Preserve { group: false, ..owner };
        let alone = |others| same_metadata(entries.initiator, entries.target, others);
        if alone(&owner) || (!is_new && alone(&both)) {
            plan.owners_left += u64::from(is_new);
            return;
        }
    }
    plan.verdicts[path_id.index()].metadata_on = Some(on);
}

fn metadata_winner(
    facts: &Facts<'_>,
    record: Option<&Record>,
    entries: Pair<&Entry>,
    source: Option<Side>,
    sender: impl FnOnce() -> Option<Side>,
) -> Option<Side> {
    let policy = &facts.rules.policy;
    if let Some(from) = policy.one_way_from {
        return Some(from);
    }
    let preserve = &facts.rules.preserve;
    let none = Record::default();
    let record = record.unwrap_or(&none);
    let since = Pair::from_fn(|side| metadata_since(entries[side], &record.was[side], preserve));
    match (since.initiator, since.target) {
        (MetadataChange::NoBaseline, MetadataChange::NoBaseline) => {
            Some(source.or_else(sender).unwrap_or(policy.prevalence))
        }
        // Neither side changed, but the last run did not compare this metadata.
        (MetadataChange::No, MetadataChange::No)
            if differs_where_first_compared(facts, entries) =>
        {
            source.or(Some(policy.prevalence))
        }
        // Recorded as different: nobody changed anything since.
        (MetadataChange::No, MetadataChange::No) => source,
        (_, MetadataChange::No) => Some(Side::Initiator),
        (MetadataChange::No, _) => Some(Side::Target),
        _ => Some(sender().unwrap_or_else(|| {
            let (i, t) = (entries.initiator.ctime, entries.target.ctime);
            match i.cmp(&t) {
                std::cmp::Ordering::Greater => Side::Initiator,
                std::cmp::Ordering::Less => Side::Target,
                std::cmp::Ordering::Equal => policy.prevalence,
            }
        })),
    }
}

/// Whether something differs that is compared for the first time.
fn differs_where_first_compared(facts: &Facts<'_>, entries: Pair<&Entry>) -> bool {
    !same_metadata(entries.initiator, entries.target, &facts.rules.first_compared)
}

/// Whose metadata a run was bringing over when it was broken off: what the receiver has now may
/// be half of it, or what rsync makes a directory with before it sets its mode.
fn interrupted_sender(facts: &Facts<'_>, plan: &Plan, path_id: PathId) -> Option<Side> {
    let was_brought = &facts.rules.was_brought;
    let path = (!was_brought.is_empty()).then(|| plan.path(path_id))?;
    let mut places = path.ancestors();
    let holds = |it: &&InflightPath| it.part == Part::Subtree || it.path == path;
    places.find_map(|place| was_brought.get(&place).filter(holds)).map(|it| it.to.other())
}

/// Whether the difference arose since the last run; otherwise it was reported or tried before.
fn differs_since_last_run(
    record: Option<&Record>,
    entries: Pair<&Entry>,
    preserve: &Preserve,
) -> bool {
    let is_known = |side: Side, was: &Recorded| {
        metadata_since(entries[side], was, preserve) == MetadataChange::No
    };
    !record.is_some_and(|record| Side::BOTH.iter().all(|side| is_known(*side, &record.was[*side])))
}

fn metadata_since(now: &Entry, was: &Recorded, preserve: &Preserve) -> MetadataChange {
    match was {
        Recorded::Seen(before) | Recorded::Listed(Some(before)) if before.kind == now.kind => {
            if same_metadata(now, before, preserve) {
                MetadataChange::No
            } else {
                MetadataChange::Yes
            }
        }
        _ => MetadataChange::NoBaseline,
    }
}

// From here on: files that a power failure may have torn (spec 8, "On the disk").
//
// What a run had brought to a side when it was broken off may not have reached the disk there,
// nor what it read on the other side. Names, sizes and times reach it before contents do: such
// a file is empty, or short, or whole in size and not in content. So where a path was on its
// way, times prove nothing, and who holds less does not win.

impl Rules {
    /// The side to which a file was being brought when an earlier run was broken off. The
    /// latest note counts.
    pub(super) fn was_on_its_way(&self, path: &RelPath) -> Option<Side> {
        if self.explains_absence_at.is_empty() || self.writes == Writes::Kept {
            return None;
        }
        let mut places = path.ancestors();
        places.find_map(|place| {
            let noted = self.explains_absence_at.get(&place)?;
            let carries =
                |part: Part| part == Part::Subtree || (part == Part::Itself && place == *path);
            noted.iter().rev().find(|noted| carries(noted.part)).map(|noted| noted.to)
        })
    }
}

/// Which of two files of different content is the whole one, if a run was broken off while it
/// brought the one to the side `to`; `None`: both may be whole, and the times of edits count.
pub(super) fn side_with_whole_file(entries: Pair<&Entry>, to: Side) -> Option<Side> {
    if entries.iter().any(|(_, entry)| entry.kind != Kind::File) {
        return None;
    }
    let (i, t) = (entries.initiator, entries.target);
    let larger = match i.size.cmp(&t.size) {
        std::cmp::Ordering::Greater => Some(Side::Initiator),
        std::cmp::Ordering::Less => Some(Side::Target),
        std::cmp::Ordering::Equal => None,
    };
    if times_agree(i, t) {
        // The one was made of the other, and one of them has lost its end. An edit that came
        // later would have another time.
        return larger.or(Some(to.other()));
    }
    larger.filter(|larger| entries[larger.other()].size == 0)
}

#[cfg(test)]
#[path = "decide_metadata_tests.rs"]
mod metadata_tests;

#[cfg(test)]
mod torn_tests {
    use crate::reconcile::testing::{path, plan_with, rules, situation, words};
    use crate::reconcile::{Rules, Writes};
    use crate::state::{InflightPath, Part};
    use crate::tree::Side;
    use crate::tree::same::Comparison;

    fn interrupted(noted: &[(&str, Part, Side)]) -> Rules {
        let mut rules = rules();
        for (name, part, to) in noted {
            let one = InflightPath { path: path(name), part: *part, to: *to };
            rules.explains_absence_at.entry(path(name)).or_default().push(one);
        }
        rules
    }

    fn planned(rows: &str, rules: &Rules, answer: Comparison) -> Vec<String> {
        let mut words = words(&plan_with(&situation(rows), rules, |_, _| answer));
        words.retain(|word| word.contains("send"));
        words
    }

    #[test]
    fn an_empty_or_short_file_of_a_run_that_was_broken_off_replaces_no_good_one() {
        type Case = (&'static str, &'static str, [&'static [&'static str]; 2]);
        // what; the rows; what is planned where it was on its way to the target, the initiator
        let cases: &[Case] = &[
            ("new, empty there", "a: - - f7@5 f0@5", [&[">> send a"], &[">> send a"]]),
            ("new, empty there and later", "a: - - f7@5 f0@9", [&[">> send a"], &[">> send a"]]),
            ("new, short there", "a: - - f7@5 f3@5", [&[">> send a"], &[">> send a"]]),
            ("new, its source was torn", "a: - - f3@5 f7@5", [&["<< send a"], &["<< send a"]]),
            ("edited, empty there", "a: f1@1 f1@1 f7@5 f0@5", [&[">> send a"], &[">> send a"]]),
            ("the edit was torn", "a: f1@1 f1@1 f0@5 f7@5", [&["<< send a"], &["<< send a"]]),
            ("the edit is gone", "a: f1@1 f1@1 f1@1 f0@5", [&[">> send a"], &[">> send a"]]),
            ("the edit is there alone", "a: f1@1 f1@1 f1@1 f7@5", [&["<< send a"], &["<< send a"]]),
            ("nobody knows", "a: - - f7@5 f7@5", [&[">> send a"], &["<< send a"]]),
            ("edited after the cut", "a: - - f7@5 f3@9", [&["<< send a"], &["<< send a"]]),
            ("not touched", "a: f1@1 f1@1 f7@5 f1@1", [&[">> send a"], &[">> send a"]]),
        ];
        for (what, rows, expected) in cases {
            for (to, expected) in Side::BOTH.into_iter().rev().zip(expected) {
                for prevalence in Side::BOTH {
                    let mut rules = interrupted(&[("a", Part::Itself, to)]);
                    rules.policy.prevalence = prevalence;
                    let planned = planned(rows, &rules, Comparison::Different);
                    assert_eq!(planned, *expected, "{what}, to {to}, {prevalence} prevails");
                }
            }
        }
    }

    #[test]
    fn what_loses_against_the_whole_file_is_kept_without_backups_too() {
        let mut rules = interrupted(&[("a", Part::Itself, Side::Target)]);
        rules.policy.backup = false;
        for rows in ["a: f1@1 f1@1 f3@5 f7@5", "a: - - f7@5 f0@5"] {
            let plan = plan_with(&situation(rows), &rules, |_, _| Comparison::Different);
            assert_eq!(plan.always_kept.len(), 1, "{rows}");
        }
    }

    #[test]
    fn what_arrived_is_proven_by_its_content_and_not_brought_over_again() {
        let rows = "d: d d d d\nd/a: - - f7@5 f7@5";
        for (part, at) in [(Part::Itself, "d/a"), (Part::Subtree, "d"), (Part::Subtree, "")] {
            let rules = interrupted(&[(at, part, Side::Target)]);
            assert_eq!(planned(rows, &rules, Comparison::Same), [""; 0]);
            assert_eq!(planned(rows, &rules, Comparison::Different), [">> send d/a"], "{at:?}");
        }
        for (part, at) in [(Part::Itself, "d"), (Part::MakesWay, "d/a"), (Part::Metadata, "d/a")] {
            let rules = interrupted(&[(at, part, Side::Target)]);
            assert_eq!(planned(rows, &rules, Comparison::Different), [""; 0], "{part:?}");
        }
        // what is recorded was flushed
        let rules = interrupted(&[("a", Part::Itself, Side::Target)]);
        assert_eq!(planned("a: f7@5 f7@5 f7@5 f7@5", &rules, Comparison::Different), [""; 0]);
    }

    #[test]
    fn what_a_run_had_brought_that_was_only_killed_is_not_in_doubt() {
        let arrived = interrupted(&[("a", Part::Itself, Side::Target)]);
        let killed = Rules { writes: Writes::Kept, ..arrived.clone() };
        // a tie that the initiator wins, and a time of whole seconds on the other side
        for (rules, rows, expected) in [
            (&arrived, "a: - - f7@5 f7@5", &[">> send a"][..]),
            (&killed, "a: - - f7@5 f7@5", &[]),
            (&arrived, "a: f1@1 f1@1 f3@5 f7@5", &["<< send a"]),
            (&killed, "a: f1@1 f1@1 f3@5 f7@5", &[">> send a"]),
        ] {
            assert_eq!(
                planned(rows, rules, Comparison::Different),
                expected,
                "{rows} {:?}",
                rules.writes
            );
        }
    }

    #[test]
    fn a_one_way_run_brings_nothing_back_and_spreads_no_torn_file() {
        for (rows, expected) in
            [("a: - - f7@5 f0@9", &[">> send a"][..]), ("a: - - f0@5 f7@5", &[])]
        {
            let mut rules = interrupted(&[("a", Part::Itself, Side::Target)]);
            rules.policy.one_way_from = Some(Side::Initiator);
            assert_eq!(planned(rows, &rules, Comparison::Different), *expected, "{rows}");
        }
    }
}

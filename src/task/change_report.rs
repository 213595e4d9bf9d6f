//! What a run does, or would do, as the reports want to hear it (spec 6).

use super::Task;
use super::apply::Applied;
use crate::reconcile::plan::LeftPath;
use crate::reconcile::{Act, PathId, Plan};
use crate::replica::{Keep, dated_kept_path, in_work_dir};
use crate::report::left_alone::{LeftAlone, Mention};
use crate::report::summary::tell_changes;
use crate::report::words::counted;
use crate::report::{ConflictLine, Counts, Event, Frame, Level, Listing, Problem, count};
use crate::tree::path::escape;
use crate::tree::{Kind, Lack, Pair, RelPath, Side, Tree};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

/// What a side cannot store, for one reason.
#[derive(Default)]
struct LeftOut {
    count: u64,
    /// The first of them, in the order of the paths.
    first: Option<RelPath>,
}

impl LeftOut {
    fn add(&mut self, path: RelPath) {
        self.count += 1;
        if self.first.as_ref().is_none_or(|first| path < *first) {
            self.first = Some(path);
        }
    }
}

/// A plan, or what was achieved of it.
pub struct PlanListing<'a> {
    plan: &'a Plan,
    trees: &'a Pair<Tree>,
    /// None: all of it, as in a dry run.
    applied: Option<&'a Applied>,
    /// The roots of both replicas.
    roots: Pair<PathBuf>,
    /// Whether what lost is going to be kept, and what will stand behind its name.
    suffix: Option<String>,
    /// In the order of the paths.
    order: Vec<PathId>,
}

impl<'a> PlanListing<'a> {
    fn new(
        plan: &'a Plan,
        trees: &'a Pair<Tree>,
        applied: Option<&'a Applied>,
        task: &Task<'_>,
    ) -> Self {
        let policy = &task.config.policy;
        let suffix =
            || if policy.backup_multiple { task.kept_suffix.clone() } else { String::new() };
        PlanListing {
            plan,
            trees,
            applied,
            roots: Pair::from_fn(|side| task.replicas[side].root().to_owned()),
            suffix: policy.backup.then(suffix),
            order: plan.delta.in_path_order(),
        }
    }

    fn counts(&self, path_id: PathId) -> bool {
        self.applied.is_none_or(|applied| applied.achieved.succeeded(path_id))
    }

    /// Where a side's version of a path is kept, or will be; `None` if it is not.
    fn kept_in(&self, side: Side, path_id: PathId) -> Option<String> {
        if let Some(beside) = self.plan.verdict(path_id).beside {
            let is_seen = |applied: &Applied| {
                matches!(applied.achieved.reread[side].get(beside), Some(Some(_)))
            };
            if !self.counts(path_id) && !self.applied.is_some_and(is_seen) {
                return None;
            }
            let place = self.roots[side].join(self.plan.path(beside).as_path());
            return Some(escape(place.as_os_str().as_bytes()));
        }
        let place = match self.applied {
            Some(applied) => applied.kept[side].get(&path_id)?.path(),
            None => {
                let suffix = self.suffix.as_ref()?;
                in_work_dir(Keep::Backup.name(), &dated_kept_path(&self.plan.path(path_id), suffix))
            }
        };
        let place = self.roots[side].join(OsStr::from_bytes(place.as_bytes()));
        Some(escape(place.as_os_str().as_bytes()))
    }

    fn each(&self, which: impl Fn(PathId) -> bool, each: &mut dyn FnMut(&RelPath)) {
        for path_id in &self.order {
            if self.counts(*path_id) && which(*path_id) {
                each(&self.plan.path(*path_id));
            }
        }
    }

    /// Bytes of the files that go to a side.
    fn bytes(&self, to: Side) -> u64 {
        let size = |path_id: &PathId| {
            self.plan
                .entry(self.trees, *path_id, to.other())
                .filter(|entry| entry.kind == Kind::File)
                .map_or(0, |entry| entry.size)
        };
        self.plan
            .sent(to)
            .filter(|path_id| self.counts(*path_id))
            .map(|path_id| size(&path_id))
            .sum()
    }
}

impl Listing for PlanListing<'_> {
    fn updates(&self, side: Side, each: &mut dyn FnMut(&RelPath)) {
        let linked: BTreeSet<PathId> = self.plan.links[side].iter().copied().collect();
        let comes = |path_id| self.plan.verdict(path_id).act == Act::Send { to: side };
        self.each(|path_id| comes(path_id) || linked.contains(&path_id), each);
    }

    fn metadata(&self, side: Side, each: &mut dyn FnMut(&RelPath)) {
        let is_set = |path_id| {
            let verdict = self.plan.verdict(path_id);
            (verdict.metadata_on == Some(side) || verdict.time_on == Some(side))
                && self.applied.is_none_or(|applied| !applied.refused.contains(&path_id))
        };
        self.each(is_set, each);
    }

    fn deletions(&self, side: Side, each: &mut dyn FnMut(&RelPath)) {
        let goes = |path_id: PathId| {
            let verdict = self.plan.verdict(path_id);
            self.plan.is_lost(path_id, side)
                && matches!(verdict.act, Act::Delete { .. } | Act::Nothing)
                && self.plan.delta.now(path_id, side).is_some()
        };
        self.each(goes, each);
    }

    fn moves(&self, side: Side, each: &mut dyn FnMut(&RelPath, &RelPath)) {
        for step in self.plan.respellings.iter().filter(|step| step.on == side) {
            each(&step.from, &step.to);
        }
        for (index, step) in self.plan.moves.iter().enumerate() {
            let made =
                self.applied.is_none_or(|applied| !applied.achieved.failed_moves.contains(&index));
            if step.on == Some(side) && made {
                each(&self.plan.path(step.from), &self.plan.path(step.to));
            }
        }
    }

    fn conflicts(&self, each: &mut dyn FnMut(&ConflictLine)) {
        for conflict in &self.plan.conflicts {
            let path = self.plan.path(conflict.path_id);
            let loser = conflict.winner.other();
            let was_there = self.plan.delta.now(conflict.path_id, loser).is_some();
            let kept_in = was_there.then(|| self.kept_in(loser, conflict.path_id)).flatten();
            // one that was not carried out comes up again, with both versions where they were
            if kept_in.is_none() && !self.counts(conflict.path_id) {
                continue;
            }
            let mut why = conflict.reason.words().to_owned();
            if conflict.first_contact {
                why.push_str("; the replicas met here for the first time");
            }
            each(&ConflictLine { path, winner: conflict.winner, why, kept_in });
        }
    }
}

impl Task<'_> {
    pub(super) fn frame(&self, bytes: Pair<u64>, duration: Option<Duration>) -> Frame {
        let roots = Pair::from_fn(|side| self.replicas[side].root().to_owned());
        Frame { roots, bytes, duration }
    }

    /// What the plan leaves alone, and what it decided between.
    pub(super) fn tell_of_plan(&mut self, plan: &Plan) {
        for problem in &plan.problems {
            self.around.reporter().tell(Event::Problem(problem));
        }
        self.tell_left_alone(plan);
        for (side, renumbered) in plan.renumbered.iter() {
            if *renumbered {
                let text = format!(
                    "{side}: all files there have other inode numbers than after the last run: the \
                     replica was copied, restored or mounted anew. Size and time tell what \
                     changed, and renames are not followed in this run"
                );
                self.say(Level::Notice, &text);
            }
        }
    }

    /// What the plan leaves alone, and why.
    fn tell_left_alone(&mut self, plan: &Plan) {
        let mut lacks: Pair<BTreeMap<Lack, LeftOut>> = Pair::default();
        let mut newer = 0;
        let is_verbose = self.around.reporter().hears(Level::Verbose);
        for LeftPath { path_id, side, why } in &plan.left_alone {
            let mention = why.mention();
            let is_named = match mention {
                Mention::Each(_) | Mention::PerLack(_) => true,
                Mention::Counted | Mention::Verbose => is_verbose,
            };
            if is_named {
                let path = plan.path(*path_id);
                self.tell_left_path(*side, &path, why);
                if let (Mention::PerLack(lack), Some(side)) = (mention, *side) {
                    lacks[side].entry(lack).or_default().add(path);
                }
            }
            newer += u64::from(mention == Mention::Counted);
        }
        for (side, left_out) in lacks {
            self.tell_lacks(side, &left_out);
        }
        if newer > 0 {
            let (they_are, them) = if newer == 1 { ("it is", "it") } else { ("they are", "them") };
            let text = format!(
                "{} newer on the receiving side than on the source, left as {they_are} (SYNC_TYPE; \
                 --verbose names {them})",
                counted(newer, "entry")
            );
            self.say(Level::Notice, &text);
        }
    }

    /// One path that is left alone.
    pub(super) fn tell_left_path(&self, side: Option<Side>, path: &RelPath, why: &LeftAlone) {
        let reporter = self.around.reporter();
        match why.mention() {
            Mention::Each(level) => reporter.problem(level, side, Some(path), &why.words()),
            Mention::PerLack(_) | Mention::Counted | Mention::Verbose => {
                let place = side.map_or(String::new(), |side| format!("{side}: "));
                reporter.say(Level::Verbose, &format!("{place}{path}: {}", why.words()));
            }
        }
    }

    /// What cannot be on a side: a warning in the run that meets it first, or meets more of it. A
    /// cron job must not fail every night for what cannot change.
    fn tell_lacks(&mut self, side: Side, left_out: &BTreeMap<Lack, LeftOut>) {
        let counts = left_out.iter().map(|(lack, of_lack)| (*lack, of_lack.count)).collect();
        let told = self.file_systems.replace_told_lacks(side, counts);
        for (lack, LeftOut { count, first }) in left_out {
            let Some(first) = first else { continue };
            let others = if *count > 1 { " and others" } else { "" };
            let what = lack.what();
            if *count > told.get(lack).copied().unwrap_or(0) {
                let text = format!(
                    "{what} left out: {count} ('{first}'{others}): {}. They are never taken for \
                     deleted; exclude them to hear no more of them",
                    lack.why()
                );
                self.around.reporter().problem(Level::Warn, Some(side), None, &text);
            } else {
                let text =
                    format!("{side}: {what} left out as before: {count} ('{first}'{others})");
                self.say(Level::Notice, &text);
            }
        }
    }

    /// Devices, fifos and sockets that cannot be made on a side: one warning for all of
    /// them.
    fn tell_unmade(&self, side: Side, paths: &[RelPath], why: &str) {
        const NAMED: usize = 3;
        if paths.is_empty() {
            return;
        }
        let mut names: Vec<String> = paths.iter().take(NAMED).map(RelPath::shown).collect();
        if paths.len() > NAMED {
            names.push(format!("{} more", paths.len() - NAMED));
            for path in paths {
                self.say(Level::Verbose, &format!("{side}: {}: left out: {why}", path.shown()));
            }
        }
        let text = format!(
            "special files left out: {} ({}): {why}. Exclude them to hear no more of them",
            paths.len(),
            names.join(", ")
        );
        self.around.reporter().problem(Level::Warn, Some(side), None, &text);
    }

    /// The complete plan (spec 6, "Dry run").
    pub(super) fn tell_dry(&mut self, trees: &Pair<Tree>, plan: &Plan) {
        let told = PlanListing::new(plan, trees, None, self);
        let bytes = Pair::from_fn(|side| told.bytes(side));
        let frame = self.frame(bytes, None);
        tell_changes(self.config, &told, &frame, self.around.reporter());
        self.remember(&told, bytes);
    }

    /// Summary, conflicts and counters of a run (spec 6).
    pub(super) fn tell_done(&mut self, trees: &Pair<Tree>, plan: &Plan, applied: &Applied) {
        let told = PlanListing::new(plan, trees, Some(applied), self);
        for (side, paths) in applied.unmade.iter() {
            let why = "neither this user nor this file system may be able to make them there";
            self.tell_unmade(side, &paths.iter().cloned().collect::<Vec<_>>(), why);
        }
        for (side, count) in applied.untimed.iter().filter(|(_, count)| **count > 0) {
            let text = format!(
                "the time of arrival stands at {} there, because its file system does not let \
                 times be set; it is taken as it is",
                counted(*count, "entry")
            );
            self.around.reporter().problem(Level::Warn, Some(side), None, &text);
        }
        let left = plan.owners_left + applied.refused.len() as u64;
        if left > 0 {
            let (keep, they) = match left {
                1 => ("keeps", "it is taken as it is"),
                _ => ("keep", "they are taken as they are"),
            };
            let text = format!(
                "{} {keep} other metadata on one side (owner, group, mode, ACL, extended \
                 attributes), because this user may not set it there or the file system has none; \
                 {they}",
                counted(left, "entry")
            );
            self.around.reporter().tell(Event::Problem(&Problem {
                level: Level::Warn,
                side: None,
                path: None,
                text,
            }));
        }
        let frame = self.frame(applied.bytes, Some(self.around.started.elapsed()));
        tell_changes(self.config, &told, &frame, self.around.reporter());
        self.remember(&told, applied.bytes);
    }

    fn remember(&mut self, told: &PlanListing<'_>, bytes: Pair<u64>) {
        let counts = count(told);
        self.outcome.counts = Pair::from_fn(|side| Counts { bytes: bytes[side], ..counts[side] });
        let mut lines = Vec::new();
        told.conflicts(&mut |line| lines.push(line.clone()));
        self.outcome.conflicts = lines;
    }

    /// The lines of the state file `conflicts-ID` (spec 3).
    pub(super) fn conflict_lines(&self) -> Vec<String> {
        let frame = self.frame(Pair::default(), None);
        self.outcome.conflicts.iter().map(|conflict| frame.conflict(&conflict.path)).collect()
    }
}

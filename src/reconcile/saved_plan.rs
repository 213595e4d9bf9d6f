//! A plan that was looked at and is carried out later: exactly what it says, where nothing has
//! changed since (spec 9, `osync plan`, `osync apply`).
//!
//! Both sides are looked at again and decided anew. A step is taken if the saved plan has the
//! same step for the path and rests on the same entries; everything else is left alone. So a
//! saved plan can only ever take steps away.

use super::delta::{Delta, PathId};
use super::plan::{Act, Aside, NextRecord, Plan, Verdict};
use crate::tree::{Entry, Pair, RelPath, Side, Tree, from_hex, hex};
use std::collections::{BTreeMap, BTreeSet};

/// What is to happen at one path, in the words of the file.
pub type StepWords = String;

/// What a step rests on: a digest of the entries of both sides.
pub type Evidence = [u8; 16];

/// A step and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedStep {
    /// What is to happen.
    pub step: StepWords,
    /// What it rests on.
    pub evidence: Evidence,
}

/// A renaming: the side that follows, the old name, the new name.
pub type SavedMove = (Side, RelPath, RelPath);

/// A plan as it was saved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SavedPlan {
    /// Steps by path.
    pub steps: BTreeMap<RelPath, SavedStep>,
    /// Renamings, and what they rest on.
    pub moves: BTreeMap<SavedMove, Evidence>,
    /// Directories whose times are set.
    pub times: BTreeSet<(Side, RelPath)>,
}

impl SavedPlan {
    /// What a plan says.
    #[must_use]
    pub fn of(plan: &Plan, trees: &Pair<Tree>) -> Self {
        let mut saved = SavedPlan::default();
        for path_id in plan.delta.path_ids() {
            if let Some(step) = step(plan.verdict(path_id)) {
                let evidence = evidence(plan, trees, path_id);
                saved.steps.insert(plan.path(path_id), SavedStep { step, evidence });
            }
        }
        for step in &plan.moves {
            if let Some(on) = step.on {
                let name = (on, plan.path(step.from), plan.path(step.to));
                saved.moves.insert(name, evidence(plan, trees, step.to));
            }
        }
        for (side, times) in plan.dir_times.iter() {
            saved.times.extend(times.iter().map(|(path_id, _)| (side, plan.path(*path_id))));
        }
        saved
    }

    /// Whether the plan has this renaming, and it rests on the same entries. Others are not
    /// made, and what they would have done is left alone.
    #[must_use]
    pub fn has_move(&self, name: &SavedMove, entries: Pair<Option<&Entry>>) -> bool {
        self.moves.get(name) == Some(&evidence_of(entries))
    }

    /// Takes away from a fresh plan all that the saved one does not have, before its steps are
    /// sorted into lists.
    pub(super) fn restrict(&self, plan: &mut Plan, trees: &Pair<Tree>) {
        let mut left = vec![false; plan.delta.len()];
        for path_id in plan.delta.path_ids() {
            let Some(step) = step(plan.verdict(path_id)) else { continue };
            let is_saved = self.steps.get(&plan.path(path_id)).is_some_and(|saved| {
                saved.step == step && saved.evidence == evidence(plan, trees, path_id)
            });
            left[path_id.index()] = !is_saved;
        }
        leave_what_depends(plan, &mut left);
        for path_id in plan.delta.path_ids().filter(|path_id| left[path_id.index()]) {
            plan.verdicts[path_id.index()] =
                Verdict { next_record: NextRecord::KeepOld, ..Verdict::default() };
        }
        let stays = |path_id: PathId| !left[path_id.index()];
        plan.set_aside.retain(|step| stays(step.path_id));
        plan.conflicts.retain(|conflict| stays(conflict.path_id));
        plan.groups.retain(|group| group.members.iter().all(|member| stays(*member)));
    }

    /// Takes away times of directories that the saved plan does not set.
    pub(super) fn restrict_times(&self, plan: &mut Plan) {
        for side in Side::BOTH {
            let times = std::mem::take(&mut plan.dir_times[side]);
            plan.dir_times[side] = times
                .into_iter()
                .filter(|(path_id, _)| self.times.contains(&(side, plan.path(*path_id))))
                .collect();
        }
    }

    /// Paths of the saved plan at which a restricted plan does nothing any more: something
    /// changed since, on either side.
    #[must_use]
    pub fn no_longer_done(&self, plan: &Plan) -> Vec<RelPath> {
        let acts: BTreeSet<RelPath> = plan
            .delta
            .path_ids()
            .filter(|path_id| step(plan.verdict(*path_id)).is_some())
            .map(|path_id| plan.path(path_id))
            .collect();
        let moved: BTreeSet<SavedMove> = plan
            .moves
            .iter()
            .filter_map(|step| Some((step.on?, plan.path(step.from), plan.path(step.to))))
            .collect();
        let steps = self.steps.keys().filter(|path| !acts.contains(*path)).cloned();
        let moves = self.moves.keys().filter(|name| !moved.contains(*name));
        let mut left: Vec<RelPath> = steps.chain(moves.map(|(_, from, _)| from.clone())).collect();
        left.sort();
        left.dedup();
        left
    }
}

/// What is left alone takes along what cannot be done without it.
fn leave_what_depends(plan: &Plan, left: &mut [bool]) {
    let mut changed = true;
    while changed {
        changed = false;
        let mut leave = |path_id: PathId, left: &mut [bool]| {
            changed |= !std::mem::replace(&mut left[path_id.index()], true);
        };
        // what made way went as a whole, or does not go at all
        for step in &plan.set_aside {
            let new_name = match step.to {
                Aside::Beside(to) => Some(to),
                Aside::Kept(_) => None,
            };
            let tops = std::iter::once(step.path_id).chain(new_name);
            let tree: Vec<PathId> =
                tops.flat_map(|top| std::iter::once(top).chain(plan.delta.below(top))).collect();
            if tree.iter().any(|path_id| left[path_id.index()]) {
                tree.iter().for_each(|path_id| leave(*path_id, left));
            }
        }
        for group in &plan.groups {
            if group.members.iter().any(|member| left[member.index()]) {
                group.members.iter().for_each(|member| leave(*member, left));
            }
        }
        for path_id in plan.delta.path_ids() {
            let parent = plan.delta.parent(path_id);
            if path_id == Delta::ROOT || parent == path_id {
                continue;
            }
            let verdicts = (plan.verdict(parent).act, plan.verdict(path_id).act);
            match verdicts {
                // a directory that is not emptied is not deleted
                (Act::Delete { .. }, _) if left[path_id.index()] => leave(parent, left),
                // nothing comes into a directory that does not come
                (Act::Send { to }, Act::Send { to: also })
                    if to == also
                        && left[parent.index()]
                        && plan.delta.now(parent, to).is_none() =>
                {
                    leave(path_id, left);
                }
                _ => {}
            }
        }
    }
}

/// The words for a verdict; `None` if nothing is to be done.
fn step(verdict: &Verdict) -> Option<StepWords> {
    let mut words = Vec::new();
    match verdict.act {
        Act::Nothing => {}
        Act::Send { to } => words.push(format!("update {to}")),
        Act::Delete { on } => words.push(format!("delete {on}")),
    }
    words.extend(verdict.metadata_on.map(|side| format!("metadata {side}")));
    words.extend(verdict.time_on.map(|side| format!("time {side}")));
    let way = if verdict.beside.is_some() { "rename" } else { "make way" };
    words.extend(verdict.makes_way_on.map(|side| format!("{way} {side}")));
    (!words.is_empty()).then(|| words.join(", "))
}

/// A digest of all that tells whether the entries of both sides are still the same.
fn evidence(plan: &Plan, trees: &Pair<Tree>, path_id: PathId) -> Evidence {
    evidence_of(Pair::from_fn(|side| plan.entry(trees, path_id, side)))
}

fn evidence_of(entries: Pair<Option<&Entry>>) -> Evidence {
    let mut hasher = blake3::Hasher::new();
    for (_, entry) in entries.iter() {
        match entry {
            Some(entry) => add(&mut hasher, entry),
            None => drop(hasher.update(b"absent")),
        }
    }
    let mut evidence = [0; 16];
    evidence.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    evidence
}

/// Times of directories change with what is in them, which has steps of its own.
fn add(hasher: &mut blake3::Hasher, entry: &Entry) {
    hasher.update(entry.kind.name().as_bytes());
    for number in [u64::from(entry.mode), u64::from(entry.uid), u64::from(entry.gid), entry.ino] {
        hasher.update(&number.to_le_bytes());
    }
    if !entry.kind.is_dir() {
        hasher.update(&entry.size.to_le_bytes());
        for time in [entry.mtime, entry.ctime] {
            hasher.update(&time.secs().to_le_bytes());
            hasher.update(&time.nanos().to_le_bytes());
        }
    }
    let extra = entry.extra();
    hasher.update(extra.link.as_deref().unwrap_or_default());
    hasher.update(&extra.rdev.to_le_bytes());
    hasher.update(extra.acl.as_ref().map_or(&[][..], |digest| digest));
    hasher.update(extra.xattr.as_ref().map_or(&[][..], |digest| digest));
}

/// The version of the file of one plan.
const ONE: u32 = 1;
/// The version of a file that holds several.
const SEVERAL: u32 = 2;

/// What a saved plan is for.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Origin {
    /// INSTANCE_ID.
    pub instance: String,
    /// The identities of the initiator and the target.
    pub identities: [Option<String>; 2],
    /// A digest of the baseline that it was decided against, in hexadecimal.
    pub baseline: String,
    /// When it was made, for people.
    pub made: String,
    /// What stands in the names of copies beside (CONFLICT_COPY).
    #[serde(default)]
    pub date: String,
    /// The words of the command line that name the task, in hexadecimal.
    pub task: Vec<String>,
}

/// Why a file is no plan that can be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPlan {
    /// It is something else.
    #[error("it is no plan of osync")]
    Foreign,
    /// It was made by a newer osync.
    #[error("it was made by a newer osync (version {0} of the format, this one knows {SEVERAL})")]
    Newer(u32),
    /// It is cut off or was changed.
    #[error("it is damaged: it was cut off or changed after it was made")]
    Damaged,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Head {
    format: String,
    version: u32,
    #[serde(flatten)]
    origin: Origin,
    /// Of all that follows.
    checksum: String,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct HeadOfSeveral {
    format: String,
    version: u32,
    /// How many bytes of what follows each plan takes.
    lengths: Vec<usize>,
    /// Of all that follows.
    checksum: String,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Line {
    /// `update target`, `move initiator`, `time target`.
    step: String,
    /// For people; may stand for several names where they are no UTF-8.
    path: String,
    /// The very bytes, in hexadecimal, where `path` does not tell them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<String>,
    /// The old name of a renaming, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// What the step rests on.
    evidence: String,
}

/// A word of the command line as it stands in a file.
#[must_use]
pub fn word_to_text(word: &[u8]) -> String {
    hex(word)
}

impl Line {
    fn new(step: String, path: &RelPath, from: Option<&RelPath>, evidence: Evidence) -> Self {
        let shown = path.shown();
        let bytes = (shown.as_bytes() != path.as_bytes()).then(|| hex(path.as_bytes()));
        let from = from.map(|from| hex(from.as_bytes()));
        Line { step, path: shown, bytes, from, evidence: hex(&evidence) }
    }

    fn path(&self) -> Option<RelPath> {
        match &self.bytes {
            Some(bytes) => RelPath::new(from_hex(bytes)?).ok(),
            None => RelPath::new(self.path.as_bytes()).ok(),
        }
    }
}

/// The content of a file of several plans, each as [`SavedPlan::encode`] has it: a line of JSON
/// about them, then one after the other.
#[must_use]
pub fn encode_several(plans: &[Vec<u8>]) -> Vec<u8> {
    let body = plans.concat();
    let head = HeadOfSeveral {
        format: "osync plan".to_owned(),
        version: SEVERAL,
        lengths: plans.iter().map(Vec::len).collect(),
        checksum: blake3::hash(&body).to_hex().to_string(),
    };
    let mut bytes = serde_json::to_vec(&head).unwrap_or_default();
    bytes.push(b'\n');
    bytes.extend(body);
    bytes
}

fn side_of(word: &str) -> Option<Side> {
    Side::BOTH.into_iter().find(|side| side.name() == word)
}

impl SavedPlan {
    /// The plan as the content of a file: a line of JSON about it, then one a step.
    #[must_use]
    pub fn encode(&self, origin: &Origin) -> Vec<u8> {
        let mut body = Vec::new();
        let mut put = |line: Line| {
            // writing to memory cannot fail, and every value is text
            if let Ok(text) = serde_json::to_string(&line) {
                body.extend_from_slice(text.as_bytes());
                body.push(b'\n');
            }
        };
        for (path, saved) in &self.steps {
            put(Line::new(saved.step.clone(), path, None, saved.evidence));
        }
        for ((on, from, to), evidence) in &self.moves {
            put(Line::new(format!("move {on}"), to, Some(from), *evidence));
        }
        for (side, path) in &self.times {
            put(Line::new(format!("time {side}"), path, None, [0; 16]));
        }
        let head = Head {
            format: "osync plan".to_owned(),
            version: ONE,
            origin: origin.clone(),
            checksum: blake3::hash(&body).to_hex().to_string(),
        };
        let mut bytes = serde_json::to_vec(&head).unwrap_or_default();
        bytes.push(b'\n');
        bytes.append(&mut body);
        bytes
    }

    /// The plans that a file holds, at least one, and what each is for.
    ///
    /// # Errors
    /// See [`BadPlan`].
    pub fn decode(bytes: &[u8]) -> Result<Vec<(Self, Origin)>, BadPlan> {
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(BadPlan::Foreign)?;
        let (head, mut body) = (&bytes[..end], &bytes[end + 1..]);
        let about: serde_json::Value =
            serde_json::from_slice(head).map_err(|_| BadPlan::Foreign)?;
        if about["format"] != "osync plan" {
            return Err(BadPlan::Foreign);
        }
        match about["version"].as_u64().and_then(|version| u32::try_from(version).ok()) {
            Some(version) if version > SEVERAL => return Err(BadPlan::Newer(version)),
            Some(version) if version < SEVERAL => {
                return Ok(vec![SavedPlan::decode_one(about, body)?]);
            }
            Some(_) => {}
            None => return Err(BadPlan::Damaged),
        }
        let head: HeadOfSeveral = serde_json::from_value(about).map_err(|_| BadPlan::Damaged)?;
        if blake3::hash(body).to_hex().as_str() != head.checksum || head.lengths.is_empty() {
            return Err(BadPlan::Damaged);
        }
        let mut plans = Vec::new();
        for length in head.lengths {
            let (one, rest) = body.split_at_checked(length).ok_or(BadPlan::Damaged)?;
            let end = one.iter().position(|byte| *byte == b'\n').ok_or(BadPlan::Damaged)?;
            let about = serde_json::from_slice(&one[..end]).map_err(|_| BadPlan::Damaged)?;
            plans.push(SavedPlan::decode_one(about, &one[end + 1..])?);
            body = rest;
        }
        // the checksum is not of the lengths: what they leave out would be no part of any plan
        if body.is_empty() { Ok(plans) } else { Err(BadPlan::Damaged) }
    }

    fn decode_one(about: serde_json::Value, body: &[u8]) -> Result<(Self, Origin), BadPlan> {
        let head: Head = serde_json::from_value(about).map_err(|_| BadPlan::Damaged)?;
        if blake3::hash(body).to_hex().as_str() != head.checksum {
            return Err(BadPlan::Damaged);
        }
        let mut saved = SavedPlan::default();
        for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            saved.take(line).ok_or(BadPlan::Damaged)?;
        }
        Ok((saved, head.origin))
    }

    fn take(&mut self, line: &[u8]) -> Option<()> {
        let line: Line = serde_json::from_slice(line).ok()?;
        let path = line.path()?;
        let evidence: Evidence = from_hex(&line.evidence)?.try_into().ok()?;
        if let Some(on) = line.step.strip_prefix("move ") {
            let from = RelPath::new(from_hex(line.from.as_deref()?)?).ok()?;
            self.moves.insert((side_of(on)?, from, path), evidence);
        } else if let Some(side) = line.step.strip_prefix("time ") {
            self.times.insert((side_of(side)?, path));
        } else {
            self.steps.insert(path, SavedStep { step: line.step, evidence });
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::testing::{Situation, path, rules, situation};
    use crate::reconcile::{Rules, reconcile};

    fn plan(situation: &Situation, rules: &Rules) -> Plan {
        reconcile(&situation.trees, &situation.baseline, rules).unwrap()
    }

    fn saved(rows: &str) -> SavedPlan {
        let situation = situation(rows);
        SavedPlan::of(&plan(&situation, &rules()), &situation.trees)
    }

    /// What is still done, and what is left, when a plan for some rows meets others.
    fn met(before: &str, now: &str) -> (Vec<String>, Vec<String>) {
        let saved = saved(before);
        let situation = situation(now);
        let plan = plan(&situation, &Rules { saved: Some(saved.clone()), ..rules() });
        let done = SavedPlan::of(&plan, &situation.trees);
        let acts = done.steps.iter().map(|(path, step)| format!("{} {path}", step.step)).collect();
        (acts, saved.no_longer_done(&plan).iter().map(RelPath::shown).collect())
    }

    #[test]
    fn a_plan_is_carried_out_where_nothing_changed_and_nowhere_else() {
        for (case, before, now, acts, left) in [
            (
                "as it was",
                "a: f1@1 f1@1 f1@2 f1@1",
                "a: f1@1 f1@1 f1@2 f1@1",
                vec!["update target a"],
                vec![],
            ),
            (
                "edited since on the sending side",
                "a: f1@1 f1@1 f1@2 f1@1",
                "a: f1@1 f1@1 f2@3 f1@1",
                vec![],
                vec!["a"],
            ),
            (
                "edited since on the receiving side",
                "a: f1@1 f1@1 f1@2 f1@1",
                "a: f1@1 f1@1 f1@2 f2@5",
                vec![],
                vec!["a"],
            ),
            ("done since", "a: f1@1 f1@1 f1@2 f1@1", "a: f1@1 f1@1 f1@2 f1@2", vec![], vec!["a"]),
            (
                "something else appeared",
                "a: f1@1 f1@1 f1@2 f1@1",
                "a: f1@1 f1@1 f1@2 f1@1\nb: - - f1@1 -",
                vec!["update target a"],
                vec![],
            ),
            (
                "a deletion",
                "a: f1@1 f1@1 - f1@1",
                "a: f1@1 f1@1 - f1@1",
                vec!["delete target a"],
                vec![],
            ),
            (
                "what was to be deleted was edited",
                "a: f1@1 f1@1 - f1@1",
                "a: f1@1 f1@1 - f2@2",
                vec![],
                vec!["a"],
            ),
        ] {
            let met = met(before, now);
            assert_eq!(
                met,
                (
                    acts.iter().map(ToString::to_string).collect(),
                    left.iter().map(ToString::to_string).collect()
                ),
                "{case}"
            );
        }
    }

    #[test]
    fn what_is_left_alone_takes_along_what_depends_on_it() {
        // a directory of which one child appeared since is not deleted
        let (acts, left) = met(
            "d: d d - d\nd/a: f1@1 f1@1 - f1@1",
            "d: d d - d\nd/a: f1@1 f1@1 - f1@1\nd/new: - - - f1@1",
        );
        assert_eq!((acts, left), (vec!["delete target d/a".to_owned()], vec!["d".to_owned()]));
        // what made way went with all below it, or stays
        let (acts, left) =
            met("d: d d f2@2 d\nd/a: f1@1 f1@1 - f1@1", "d: d d f2@2 d\nd/a: f1@1 f1@1 - f1@1%600");
        assert_eq!(acts, [""; 0]);
        assert!(left.contains(&"d".to_owned()), "{left:?}");
    }

    #[test]
    fn a_plan_comes_back_from_its_file_whatever_the_names_and_a_changed_one_is_refused() {
        let mut plan = saved("a: f1@1 f1@1 f1@2 f1@1\nd: d@1 d@5 d@1 d@7");
        let odd = RelPath::new(&b"odd\n\xff"[..]).unwrap();
        plan.steps
            .insert(odd.clone(), SavedStep { step: "delete target".into(), evidence: [7; 16] });
        plan.moves.insert((Side::Target, odd.clone(), path("to")), [8; 16]);
        plan.times.insert((Side::Initiator, odd));
        let origin = Origin { instance: "id".into(), ..Origin::default() };
        let bytes = plan.encode(&origin);
        assert_eq!(SavedPlan::decode(&bytes), Ok(vec![(plan.clone(), origin.clone())]));
        let empty = (SavedPlan::default(), Origin { instance: "id@2".into(), ..origin.clone() });
        let several = encode_several(&[empty.0.encode(&empty.1), bytes.clone()]);
        assert_eq!(SavedPlan::decode(&several), Ok(vec![empty, (plan, origin)]));
        let body = several.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for length in body..several.len() {
            assert_eq!(SavedPlan::decode(&several[..length]), Err(BadPlan::Damaged), "{length}");
        }
        let head = String::from_utf8(several[..body].to_vec()).unwrap();
        let fewer = head.replace(&format!(",{}]", bytes.len()), "]");
        assert_ne!(fewer, head);
        let without_one = [fewer.as_bytes(), &several[body..]].concat();
        assert_eq!(SavedPlan::decode(&without_one), Err(BadPlan::Damaged));
        let body = bytes.iter().position(|byte| *byte == b'\n').unwrap();
        for at in body + 1..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(SavedPlan::decode(&damaged), Err(BadPlan::Damaged), "byte {at}");
        }
        assert!(SavedPlan::decode(b"{}\n").is_err());
        let newer = String::from_utf8(bytes).unwrap().replacen("\"version\":1", "\"version\":3", 1);
        assert_eq!(SavedPlan::decode(newer.as_bytes()), Err(BadPlan::Newer(3)));
    }
}

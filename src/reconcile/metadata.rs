//! Metadata (mode, owner, group, ACL, attributes) as a field of its own, merged three-way
//! (spec 4, "Metadata").

use super::change::same_metadata;
use super::decide::Facts;
use super::delta::PathId;
use super::plan::{Act, Plan};
use crate::config::Preserve;
use crate::state::{InflightPath, Part, Record, Recorded};
use crate::tree::{Entry, Pair, RelPath, Side};

/// Whether a side's metadata moved against its own baseline.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moved {
    Yes,
    No,
    NoBaseline,
}

/// Decides whose metadata a path gets that both sides have, after its content was decided.
pub fn decide(facts: &Facts<'_>, plan: &mut Plan, path_id: PathId) {
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
    let Some(winner) = winner(facts, plan.delta.record(path_id), entries, source, sender) else {
        return;
    };
    if source == Some(winner) {
        return; // it goes along with the content
    }
    let on = winner.other();
    if !facts.rules.can_chown[on] {
        // Told when it is news, and not by every one-way run. Groups are tried once: some may
        // be given.
        let is_news =
            is_news(plan.delta.record(path_id), entries, preserve) || differs_newly(facts, entries);
        let owner = Preserve { owner: false, ..*preserve };
        let both = Preserve { group: false, ..owner };
        let alone = |others| same_metadata(entries.initiator, entries.target, others);
        if alone(&owner) || (!is_news && alone(&both)) {
            plan.owners_left += u64::from(is_news);
            return;
        }
    }
    plan.verdicts[path_id.index()].metadata_on = Some(on);
}

fn winner(
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
    let moved = Pair::from_fn(|side| moved(entries[side], &record.was[side], preserve));
    match (moved.initiator, moved.target) {
        (Moved::NoBaseline, Moved::NoBaseline) => {
            Some(source.or_else(sender).unwrap_or(policy.prevalence))
        }
        // Nobody changed anything since, but then it was not compared.
        (Moved::No, Moved::No) if differs_newly(facts, entries) => {
            source.or(Some(policy.prevalence))
        }
        // Recorded as different: nobody changed anything since.
        (Moved::No, Moved::No) => source,
        (_, Moved::No) => Some(Side::Initiator),
        (Moved::No, _) => Some(Side::Target),
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
fn differs_newly(facts: &Facts<'_>, entries: Pair<&Entry>) -> bool {
    !same_metadata(entries.initiator, entries.target, &facts.rules.newly)
}

/// Whose metadata a run was bringing over when it was broken off: what the receiver has now may
/// be half of it, or what rsync makes a directory with before it sets its mode.
fn interrupted_sender(facts: &Facts<'_>, plan: &Plan, path_id: PathId) -> Option<Side> {
    let interrupted = &facts.rules.interrupted;
    let path = (!interrupted.is_empty()).then(|| plan.path(path_id))?;
    let mut places = std::iter::successors(Some(path.clone()), RelPath::parent);
    let holds = |it: &&InflightPath| it.part == Part::Subtree || it.path == path;
    places.find_map(|place| interrupted.get(&place).filter(holds)).map(|it| it.to.other())
}

/// Whether the difference came up since the last run: else it was told, or tried, before.
fn is_news(record: Option<&Record>, entries: Pair<&Entry>, preserve: &Preserve) -> bool {
    let is_known = |side: Side, was: &Recorded| moved(entries[side], was, preserve) == Moved::No;
    !record.is_some_and(|record| Side::BOTH.iter().all(|side| is_known(*side, &record.was[*side])))
}

fn moved(now: &Entry, was: &Recorded, preserve: &Preserve) -> Moved {
    match was {
        Recorded::Seen(before) | Recorded::Listed(Some(before)) if before.kind == now.kind => {
            if same_metadata(now, before, preserve) {
                Moved::No
            } else {
                Moved::Yes
            }
        }
        _ => Moved::NoBaseline,
    }
}

#[cfg(test)]
#[path = "metadata_tests.rs"]
mod tests;

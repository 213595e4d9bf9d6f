//! CONFLICT_COPY=beside: what lost a conflict gets a name beside the winner's, on both sides
//! (spec 9, "Commands").
//!
//! The version that lost is renamed on its own side before the winner comes, and goes to the
//! other side under its new name like any new file. Each of the two keeps its own metadata.
//! What cannot have such a name on both sides goes to `backup/`, as without the setting.

use super::decide::Facts;
use super::delta::{Delta, PathId};
use super::plan::{Act, Aside, Conflict, Plan, SetAside, Verdict, WhyItWon};
use super::versions::beside;
use crate::config::ConflictCopy;
use crate::filter::{Inclusion, PathKind};
use crate::tree::{Kind, NodeId, Pair, RelPath, Side, Standing, Tree};

/// So many names are tried, with a number behind the date, before `backup/` has to do.
const TRIES: u32 = 100;

/// Gives what lost a name beside the winner's, wherever that can be. Says whether the delta has
/// grown by that.
pub fn place(facts: &Facts<'_>, plan: &mut Plan) -> Grown {
    let mut grown = Grown::No;
    if facts.rules.policy.conflict_copy != ConflictCopy::Beside {
        return grown;
    }
    for conflict in plan.conflicts.clone() {
        let on = conflict.winner.other();
        let Some(top) = can_be_renamed(facts, plan, &conflict) else { continue };
        let Some(name) = free_name(facts, plan, conflict.path_id, on, top) else { continue };
        add(facts, plan, &conflict, &name, top);
        grown = Grown::Yes;
    }
    grown
}

/// Whether paths were added to the delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grown {
    Yes,
    No,
}

/// What lost, if it is something that can be renamed, and that a person wants to have beside.
fn can_be_renamed(facts: &Facts<'_>, plan: &Plan, conflict: &Conflict) -> Option<NodeId> {
    let (path_id, on) = (conflict.path_id, conflict.winner.other());
    let node = plan.delta.now(path_id, on)?;
    let is_sent = plan.verdict(path_id).act == Act::Send { to: on };
    // with one of several names the others would stay behind
    let is_linked = plan.groups.iter().any(|group| group.members.contains(&path_id));
    // links that count as what they point at have no version of their own
    let follows = facts.rules.preserve.follows_links();
    let is_whole = conflict.reason != WhyItWon::Whole;
    let is_mounted = facts.mounted_within[path_id.index()][on];
    (is_sent && is_whole && !is_linked && !is_mounted && !follows).then_some(node)
}

/// A name that is free on both sides, and that both can have with all that lies below it.
fn free_name(
    facts: &Facts<'_>,
    plan: &Plan,
    path_id: PathId,
    on: Side,
    top: NodeId,
) -> Option<Vec<u8>> {
    let (path, date) = (plan.path(path_id), &facts.rules.date);
    for turn in 1..=TRIES {
        let date = if turn == 1 { date.clone() } else { format!("{date}-{turn}") };
        let to = beside(&path, on, &date);
        if is_free(facts, plan, plan.delta.parent(path_id), &to) {
            return can_be_there(facts, on, top, &to).then(|| to.name().to_vec());
        }
    }
    None
}

fn is_free(facts: &Facts<'_>, plan: &Plan, parent: PathId, to: &RelPath) -> bool {
    let naming = facts.rules.abilities.initiator.naming.or(facts.rules.abilities.target.naming);
    let stands = |side: Side| {
        let tree = &facts.trees[side];
        // the delta knows what its paths are on each side, but for the root
        let is_root = parent == Delta::ROOT;
        let dir = if is_root { Some(Tree::ROOT) } else { plan.delta.now(parent, side) };
        dir.is_some_and(|dir| {
            tree.children(dir).any(|child| naming.same_name(tree.name(child), to.name()))
        })
    };
    plan.delta.child(parent, to.name()).is_none() && !Side::BOTH.into_iter().any(stands)
}

fn can_be_there(facts: &Facts<'_>, on: Side, top: NodeId, to: &RelPath) -> bool {
    let (rules, tree) = (facts.rules, &facts.trees[on]);
    let mut stack = vec![(top, to.clone())];
    while let Some((node, path)) = stack.pop() {
        let entry = tree.entry(node);
        let is_dir = entry.kind == Kind::Dir;
        let is_ordinary = matches!(entry.kind, Kind::File | Kind::Dir | Kind::Symlink);
        let has_other_names = rules.preserve.hardlinks && entry.shared_inode;
        let lacks = Side::BOTH
            .into_iter()
            .any(|side| rules.abilities[side].lack(entry.kind, path.name()).is_some());
        let is_excluded = rules.filter.verdict_with_parents(path.as_bytes(), PathKind::of(is_dir))
            == Inclusion::Excluded;
        if !is_ordinary
            || has_other_names
            || lacks
            || is_excluded
            || tree.standing(node) != Standing::Present
            || path.as_bytes().len() > rules.longest_path
        {
            return false;
        }
        let below = tree.children(node).map(|child| (child, path.join(tree.name(child))));
        stack.extend(below);
    }
    true
}

/// Writes it into the plan: the renaming on the side that lost, and what goes to the other one.
fn add(facts: &Facts<'_>, plan: &mut Plan, conflict: &Conflict, name: &[u8], top: NodeId) {
    let (path_id, on) = (conflict.path_id, conflict.winner.other());
    let tree = &facts.trees[on];
    let parent = plan.delta.parent(path_id);
    let new_top = insert(&mut plan.delta, parent, name, on, top);
    let mut stack = vec![(path_id, new_top, top)];
    let mut pairs = Vec::new();
    while let Some((old, new, node)) = stack.pop() {
        pairs.push((old, new));
        for child in tree.children(node) {
            let name = tree.name(child);
            if let Some(old) = plan.delta.child(old, name) {
                stack.push((old, insert(&mut plan.delta, new, name, on, child), child));
            }
        }
    }
    plan.verdicts.resize(plan.delta.len(), Verdict::default());
    for (old, new) in pairs {
        let went = &mut plan.verdicts[old.index()];
        (went.makes_way_on, went.beside) = (Some(on), Some(new));
        plan.verdicts[new.index()].act = Act::Send { to: conflict.winner };
    }
    let won = &mut plan.verdicts[path_id.index()];
    (won.metadata_on, won.time_on) = (None, None);
    plan.set_aside.retain(|step| step.path_id != path_id);
    plan.set_aside.push(SetAside { path_id, on, to: Aside::Beside(new_top) });
}

fn insert(delta: &mut Delta, parent: PathId, name: &[u8], on: Side, node: NodeId) -> PathId {
    let now = Pair::from_fn(|side| (side == on).then_some(node));
    delta.insert(parent, name, None, now, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RuleText;
    use crate::filter::Filter;
    use crate::reconcile::Rules;
    use crate::reconcile::testing::{afterwards, path, plan, rules, situation, words};
    use crate::tree::{NameLimit, RelPath};

    fn beside() -> Rules {
        let mut rules = rules();
        rules.policy.conflict_copy = ConflictCopy::Beside;
        rules
    }

    /// What is done, and that both sides have the same after it and nothing is left to do.
    fn done(rows: &str, rules: &Rules) -> Vec<String> {
        let before = situation(rows);
        let plan = plan(&before, rules);
        let after = afterwards(&before, &plan);
        let names = |side: Side| after.files[side].keys().cloned().collect::<Vec<RelPath>>();
        assert_eq!(names(Side::Initiator), names(Side::Target), "{rows}");
        let next = crate::reconcile::testing::plan(&after, rules);
        assert_eq!(words(&next), [""; 0], "{rows}");
        words(&plan)
    }

    #[test]
    fn what_lost_is_renamed_on_its_side_and_goes_to_the_other() {
        assert_eq!(
            done("a.txt: f1@1 f1@1 f2@5 f3@9", &beside()),
            [
                "<< beside a.txt -> a.conflict-initiator-2026.01.02-03.04.05.txt",
                "<< send a.txt",
                ">> send a.conflict-initiator-2026.01.02-03.04.05.txt",
                "conflict a.txt target Newer",
            ]
        );
    }

    #[test]
    fn a_whole_directory_that_lost_is_renamed_too() {
        let rows = "d: f1@1 f1@1 f2@5 d\nd/x: - - - f3@3\nd/s: - - - d\nd/s/y: - - - f4@4";
        assert_eq!(
            done(rows, &beside()),
            [
                ">> beside d -> d.conflict-target-2026.01.02-03.04.05",
                "<< tree d.conflict-target-2026.01.02-03.04.05",
                ">> send d",
                "conflict d initiator Kinds",
            ]
        );
    }

    #[test]
    fn a_deletion_that_lost_leaves_nothing_beside() {
        assert_eq!(
            done("a: f1@1 f1@1 - f3@9", &beside()),
            ["<< send a", "conflict a target NewWorkBeatsDeletion"]
        );
    }

    #[test]
    fn each_version_keeps_its_own_metadata() {
        let rows = "a: f1@1%600 f1@1%600 f2@5%640 f3@9%600";
        let plan = plan(&situation(rows), &beside());
        assert!(plan.metadata.iter().all(|(_, paths)| paths.is_empty()));
        assert!(plan.counter_metadata.iter().all(|(_, paths)| paths.is_empty()));
    }

    #[test]
    fn a_name_that_is_taken_gets_a_number() {
        let rows = "a: f1@1 f1@1 f2@5 f3@9\n\
                    a.conflict-initiator-2026.01.02-03.04.05: - - - f7@7";
        let lines = done(rows, &beside());
        let expected = "<< beside a -> a.conflict-initiator-2026.01.02-03.04.05-2";
        assert!(lines.contains(&expected.to_owned()), "{lines:?}");
    }

    #[test]
    fn a_name_is_taken_too_by_what_is_in_step() {
        let taken = "a.conflict-initiator-2026.01.02-03.04.05: f7@7 f7@7 f7@7 f7@7";
        for rows in [
            format!("a: f1@1 f1@1 f2@5 f3@9\n{taken}"),
            format!("d: d d d d\nd/a: f1@1 f1@1 f2@5 f3@9\nd/{taken}"),
        ] {
            let lines = done(&rows, &beside());
            assert!(lines.iter().any(|line| line.ends_with("03.04.05-2")), "{lines:?}");
        }
    }

    #[test]
    fn what_cannot_stand_beside_goes_to_the_backup() {
        let excluded =
            RuleText { include: false, from_file: false, pattern: "*.conflict-*".into() };
        let mut filtered = beside();
        filtered.filter = Filter::new(&[excluded]);
        let mut short = beside();
        short.abilities.target.longest_name = NameLimit::Bytes(12);
        let mut linked = beside();
        linked.preserve.hardlinks = true;
        for (rows, rules) in [
            ("a: f1@1 f1@1 f2@5 f3@9", &filtered),
            ("a: f1@1 f1@1 f2@5 f3@9", &short),
            ("a: f1@1 f1@1 f2@5&7 f3@9\nb: f1@1 f1@1 f2@5&7 f1@1", &linked),
            ("a: c c f2@5 c\nb: - - f1@1 f1@1", &beside()),
        ] {
            let lines = words(&plan(&situation(rows), rules));
            assert!(!lines.iter().any(|line| line.contains("beside")), "{rows} {lines:?}");
        }
    }

    #[test]
    fn a_renamed_loser_is_no_deletion_for_the_guards() {
        let plan = plan(&situation("a: f1@1 f1@1 f2@5 f3@9"), &beside());
        let a = plan.delta.find(&path("a")).unwrap();
        assert!(Side::BOTH.iter().all(|side| !plan.is_lost(a, *side)));
    }
}

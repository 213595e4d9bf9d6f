//! What the tests of this room share: settings, trees in a few words, and a simulation
//! that carries a plan out in memory.
//!
//! An entry is written `f3@20` (a file, content of 3 bytes, mtime 20), `d`, `d@5`,
//! `l:there@20` (a link), `c` (a device), `-` (nothing), `x` (excluded file), `xd` (excluded
//! directory), `u` (unreadable directory). `#7` gives it the inode 7, `&7` the same inode as
//! other names of the side, `%600` the mode; `^9` another time of birth than this inode else
//! has, `~` none.

use super::damaged::DamagedNodes;
use super::join::{self, join};
use super::plan::{Act, Aside, Plan, SetAside};
use super::record::{Achieved, record, record_anew};
use super::{Rules, Writes, reconcile};
use crate::config::{Policy, Preserve};
use crate::filter::Filter;
use crate::report::left_alone::{LeftAlone, Mention};
use crate::state::{Baseline, Header, Record, Recorded};
use crate::tree::Keep;
use crate::tree::same::{Comparison, times_agree};
use crate::tree::{
    Child, Entry, Extra, Kind, Pair, RelPath, Side, Stamp, Standing, Tree, TreeBuilder,
};
use std::collections::{BTreeMap, HashMap};

/// Nothing is compared for the first time.
fn nothing_for_the_first_time() -> Preserve {
    crate::reconcile::newly_compared(&Preserve::USUAL, &Preserve::USUAL)
}

/// The defaults of the spec, for a user who may change owners.
pub fn rules() -> Rules {
    Rules {
        policy: Policy::of_defaults(),
        preserve: Preserve::USUAL,
        first_compared: nothing_for_the_first_time(),
        can_chown: Pair::new(true, true),
        abilities: Pair::default(),
        longest_path: 4000,
        was_brought: BTreeMap::new(),
        explains_absence_at: BTreeMap::new(),
        writes: Writes::MayBeLost,
        damaged: DamagedNodes::default(),
        settled: HashMap::new(),
        filter: Filter::default(),
        date: "2026.01.02-03.04.05".to_owned(),
        saved: None,
    }
}

/// What one side holds.
pub type Files = BTreeMap<RelPath, (Standing, Entry)>;

pub fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

/// Reads an entry; see the head of this file.
pub fn entry(text: &str, path: &RelPath, side: Side) -> Option<(Standing, Entry)> {
    if text == "-" {
        return None;
    }
    let cut = |text: &str, mark: char| {
        let start = text.find(mark)? + 1;
        let rest = &text[start..];
        Some(rest[..rest.find(['@', '#', '%', '&', '^', '~']).unwrap_or(rest.len())].to_owned())
    };
    let (standing, kind) = match text {
        "x" => (Standing::Excluded, Kind::File),
        "xd" => (Standing::Excluded, Kind::Dir),
        "u" => (Standing::Unknown, Kind::Dir),
        _ if text.starts_with('d') => (Standing::Present, Kind::Dir),
        _ if text.starts_with('c') => (Standing::Present, Kind::CharDevice),
        _ if text.starts_with('l') => (Standing::Present, Kind::Symlink),
        _ => (Standing::Present, Kind::File),
    };
    let mut entry = Entry::new(kind);
    if kind == Kind::File {
        let digits: String = text[1..].chars().take_while(char::is_ascii_digit).collect();
        entry.size = digits.parse().unwrap_or(0);
    }
    if kind == Kind::Symlink {
        let link = cut(text, ':').unwrap().into_bytes().into_boxed_slice();
        entry.set_extra(Extra { link: Some(link), ..Extra::default() });
    }
    let seconds: i64 = cut(text, '@').map_or(1, |t| t.parse().unwrap());
    entry.mtime = Stamp::new(seconds, 500);
    entry.ctime = Stamp::new(seconds, 501);
    entry.mode = cut(text, '%').map_or(0o755, |m| u16::from_str_radix(&m, 8).unwrap());
    let own: u64 = path.as_bytes().iter().fold(1000, |sum, b| sum * 31 % 999_983 + u64::from(*b));
    let offset = if side == Side::Initiator { 0 } else { 2_000_000 };
    let given = cut(text, '#').or(cut(text, '&'));
    entry.ino = offset + given.map_or(own, |i| i.parse().unwrap());
    entry.shared_inode = text.contains('&');
    let born = cut(text, '^').map_or(1, |nanos| nanos.parse().unwrap());
    entry.btime = Stamp::new(entry.ino.try_into().unwrap(), born);
    if text.contains('~') {
        entry.btime = Stamp::UNKNOWN;
    }
    Some((standing, entry))
}

/// A tree from what a side holds.
pub fn tree(files: &Files) -> Tree {
    let mut builder = TreeBuilder::new(Entry::new(Kind::Dir));
    let mut stack = vec![(Tree::ROOT, RelPath::root())];
    while let Some((dir, at)) = stack.pop() {
        let children: Vec<Child> = files
            .iter()
            .filter(|(path, _)| path.parent().as_ref() == Some(&at))
            .map(|(path, (standing, entry))| Child {
                name: path.name().to_vec(),
                standing: *standing,
                entry: entry.clone(),
            })
            .collect();
        for id in builder.fill(dir, children).unwrap() {
            let path = builder.tree().path(id);
            stack.push((id, path));
        }
    }
    builder.finish()
}

/// A situation: what was and what is, on both sides.
pub struct Situation {
    pub files: Pair<Files>,
    pub trees: Pair<Tree>,
    pub baseline: Baseline,
}

/// Rows of `path: baseline initiator, baseline target, initiator now, target now`.
pub fn situation(rows: &str) -> Situation {
    let mut files: Pair<Files> = Pair::default();
    let mut records = Vec::new();
    for row in rows.lines().map(str::trim).filter(|row| !row.is_empty()) {
        let (name, rest) = row.split_once(": ").unwrap();
        let words: Vec<&str> = rest.split_whitespace().collect();
        let at = path(name);
        let was = |word: &str, side| match word {
            "L" => Recorded::Listed(None),
            word => entry(word.trim_end_matches('!'), &at, side)
                .map_or(Recorded::Absent, |(_, entry)| Recorded::Seen(entry)),
        };
        let record = Record {
            was: Pair::new(was(words[0], Side::Initiator), was(words[1], Side::Target)),
            skipped: Pair::new(words[0].ends_with('!'), words[1].ends_with('!')),
        };
        if !record.is_empty() {
            records.push((at.clone(), record));
        }
        for (word, side) in [(words[2], Side::Initiator), (words[3], Side::Target)] {
            if let Some(entry) = entry(word, &at, side) {
                files[side].insert(at.clone(), entry);
            }
        }
    }
    let header = Header {
        listed_at: Pair::new(Stamp::new(100, 0), Stamp::new(100, 0)),
        ..Header::default()
    };
    Situation {
        trees: Pair::new(tree(&files.initiator), tree(&files.target)),
        files,
        baseline: Baseline::from_records(header, records),
    }
}

/// The plan in words, one line a step, in the order of acting.
pub fn words(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    for step in &plan.set_aside {
        let (arrow, path) = (step.on.arrow(), plan.path(step.path_id));
        lines.push(match step.to {
            Aside::Kept(Keep::Backup) => format!("{arrow} backup {path}"),
            Aside::Kept(Keep::Deleted) => format!("{arrow} deleted {path}"),
            Aside::Beside(to) => format!("{arrow} beside {path} -> {}", plan.path(to)),
        });
    }
    for step in &plan.moves {
        let arrow = step.on.map_or("==", Side::arrow);
        lines.push(format!("{arrow} move {} -> {}", plan.path(step.from), plan.path(step.to)));
    }
    let mut list = |verb: &str, path_ids: &Pair<Vec<super::PathId>>| {
        for (side, path_ids) in path_ids.iter() {
            for path_id in path_ids {
                lines.push(format!("{} {verb} {}", side.arrow(), plan.path(*path_id)));
            }
        }
    };
    list("set", &plan.counter_metadata);
    list("tree", &plan.subtrees);
    list("send", &plan.updates);
    list("link", &plan.links);
    list("attr", &plan.metadata);
    for (side, deletions) in plan.deletions.iter() {
        for path_id in deletions {
            lines.push(format!("{} delete {}", side.arrow(), plan.path(*path_id)));
        }
    }
    for conflict in &plan.conflicts {
        let path = plan.path(conflict.path_id);
        lines.push(format!("conflict {path} {} {:?}", conflict.winner, conflict.reason));
    }
    for left in &plan.left_alone {
        let path = plan.path(left.path_id);
        match left.why.mention() {
            Mention::Each(level) => lines.push(format!("{level:?} {path}")),
            Mention::PerLack(lack) => {
                let arrow = left.side.map_or("==", Side::arrow);
                lines.push(format!("{arrow} no {} {path}", lack.what()));
            }
            Mention::Counted | Mention::Verbose => {}
        }
    }
    for problem in &plan.problems {
        let path = problem.path.as_ref().map(RelPath::shown).unwrap_or_default();
        lines.push(format!("{:?} {path}", problem.level));
    }
    lines
}

/// How many paths a plan leaves alone for this reason.
pub fn left_for(plan: &Plan, why: &LeftAlone) -> usize {
    plan.left_alone.iter().filter(|left| left.why == *why).count()
}

/// Carries a plan out on the files of a situation, as a replica would.
pub fn carry_out(situation: &Situation, plan: &Plan) -> (Pair<Files>, Achieved) {
    let mut files = situation.files.clone();
    let mut achieved = Achieved::default();
    let before = situation.files.clone();
    let remove_below = |files: &mut Files, top: &RelPath| files.retain(|p, _| !p.is_within(top));
    let beside = |step: &SetAside| match step.to {
        Aside::Beside(to) => Some((step.on, step.path_id, to)),
        Aside::Kept(_) => None,
    };
    for step in plan.set_aside.iter().filter(|step| beside(step).is_none()) {
        remove_below(&mut files[step.on], &plan.path(step.path_id));
    }
    let moves = plan.moves.iter().filter_map(|step| Some((step.on?, step.from, step.to)));
    for (on, from, to) in plan.set_aside.iter().filter_map(beside).chain(moves) {
        let (from, to) = (plan.path(from), plan.path(to));
        let moved: Vec<RelPath> =
            files[on].keys().filter(|p| p.is_within(&from)).cloned().collect();
        for old in moved {
            let (standing, entry) = files[on].remove(&old).unwrap();
            let rest = &old.as_bytes()[from.as_bytes().len()..];
            let new = RelPath::new([to.as_bytes(), rest].concat()).unwrap();
            files[on].insert(new, (standing, entry));
        }
    }
    let mut next_ino = 5_000_000;
    for path_id in plan.delta.in_path_order() {
        let at = plan.path(path_id);
        let verdict = plan.verdict(path_id);
        if let Act::Send { to } = verdict.act {
            let mut sent = before[to.other()]
                .get(&at)
                .cloned()
                .unwrap_or_else(|| files[to.other()].get(&at).cloned().unwrap());
            if verdict.metadata_on == Some(to.other()) {
                sent.1.mode = files[to][&at].1.mode;
            }
            next_ino += 1;
            let is_dir = sent.1.kind.is_dir();
            match files[to].get(&at) {
                Some((_, old)) if is_dir => sent.1.ino = old.ino,
                _ => sent.1.ino = next_ino,
            }
            sent.1.btime = Stamp::new(next_ino.try_into().unwrap(), 0);
            sent.1.shared_inode = false;
            files[to].insert(at.clone(), sent);
        }
        if let Some(on) = verdict.metadata_on {
            let mode = before[on.other()].get(&at).or(files[on.other()].get(&at)).unwrap().1.mode;
            files[on].get_mut(&at).unwrap().1.mode = mode;
        }
        if let Some(on) = verdict.time_on {
            let time = before[on.other()].get(&at).or(files[on.other()].get(&at)).unwrap().1.mtime;
            files[on].get_mut(&at).unwrap().1.mtime = time;
        }
        if let Act::Delete { on } = verdict.act {
            files[on].remove(&at);
        }
    }
    for group in &plan.groups {
        // What is there already keeps its inode, if it is to be linked only; rsync takes
        // the first.
        let there = group.members.iter().find(|path_id| {
            !group.only_names || before[group.to].contains_key(&plan.path(**path_id))
        });
        let leader = files[group.to][&plan.path(*there.unwrap())].1.clone();
        for path_id in &group.members {
            let entry = &mut files[group.to].get_mut(&plan.path(*path_id)).unwrap().1;
            (entry.ino, entry.btime) = (leader.ino, leader.btime);
            entry.shared_inode = true;
        }
    }
    for (side, times) in plan.dir_times.iter() {
        for (path_id, time) in times {
            files[side].get_mut(&plan.path(*path_id)).unwrap().1.mtime = *time;
        }
    }
    for path_id in plan.delta.path_ids() {
        for side in Side::BOTH {
            let found = files[side].get(&plan.path(path_id)).map(|(_, entry)| entry.clone());
            achieved.reread[side].insert(path_id, found);
        }
    }
    (files, achieved)
}

/// The situation after a plan was carried out and recorded.
pub fn afterwards(situation: &Situation, plan: &Plan) -> Situation {
    let (files, achieved) = carry_out(situation, plan);
    let header = situation.baseline.header().clone();
    let (baseline, _) =
        record(&situation.trees, &situation.baseline, plan, &achieved, header).unwrap();
    Situation { trees: Pair::new(tree(&files.initiator), tree(&files.target)), files, baseline }
}

/// The plan for a situation, when all its doubts are settled: contents are taken for the same
/// where the times are.
pub fn plan(situation: &Situation, rules: &Rules) -> Plan {
    plan_with(situation, rules, |a, b| {
        if times_agree(a, b) { Comparison::Same } else { Comparison::Different }
    })
}

/// The plan for a situation, when all its doubts are settled in some way.
pub fn plan_with(
    situation: &Situation,
    rules: &Rules,
    compare: impl Fn(&Entry, &Entry) -> Comparison,
) -> Plan {
    let mut rules = rules.clone();
    let trees = &situation.trees;
    loop {
        let plan = reconcile(trees, &situation.baseline, &rules).unwrap();
        if plan.doubts.is_empty() {
            return plan;
        }
        for doubt in plan.doubts {
            let entry = |side: Side| trees[side].entry(doubt[side]);
            let before =
                rules.settled.insert(doubt, compare(entry(Side::Initiator), entry(Side::Target)));
            assert_eq!(before, None, "it was asked before");
        }
    }
}

/// Whether the quick answer that nothing changed is given only where the long way says so too.
pub fn quick_answer_holds(situation: &Situation, rules: &Rules) -> bool {
    let Situation { trees, baseline, .. } = situation;
    if !join::unchanged_means_done(rules) || !join::is_as_recorded(trees, baseline).unwrap() {
        return true;
    }
    let plan = Plan::new(join(trees, baseline, rules, Pair::default()).unwrap());
    let header = baseline.header().clone();
    let (next, _) = record_anew(trees, baseline, &plan, &Achieved::default(), header).unwrap();
    plan.delta.len() == 1 && next.body() == baseline.body()
}

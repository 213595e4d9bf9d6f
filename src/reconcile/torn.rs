//! Files that a power cut may have torn (8-knowing, "On the disk").
//!
//! What a run had brought to a side when it was broken off may not have reached the disk there,
//! nor what it read on the other side. Names, sizes and times reach it before contents do: such
//! a file is empty, or short, or whole in size and not in content. So where a path was on its
//! way, times prove nothing, and who holds less does not win.

use super::Rules;
use crate::state::Part;
use crate::tree::same::times_agree;
use crate::tree::{Entry, Kind, Pair, RelPath, Side};

impl Rules {
    /// The side to which a file was being brought when an earlier run was broken off. The
    /// latest note counts.
    pub(super) fn was_on_its_way(&self, path: &RelPath) -> Option<Side> {
        if self.making_way.is_empty() {
            return None;
        }
        let mut places = std::iter::successors(Some(path.clone()), RelPath::parent);
        places.find_map(|place| {
            let noted = self.making_way.get(&place)?;
            let carries =
                |part: Part| part == Part::Subtree || (part == Part::Itself && place == *path);
            noted.iter().rev().find(|noted| carries(noted.part)).map(|noted| noted.to)
        })
    }
}

/// Which of two files of different content is the whole one, if a run was broken off while it
/// brought the one to the side `to`; none: both may be whole, and the times of edits count.
pub(super) fn whole(entries: Pair<&Entry>, to: Side) -> Option<Side> {
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
mod tests {
    use crate::reconcile::Rules;
    use crate::reconcile::testing::{path, plan_with, rules, situation, words};
    use crate::state::{InflightPath, Part};
    use crate::tree::Side;
    use crate::tree::same::Answer;

    fn interrupted(noted: &[(&str, Part, Side)]) -> Rules {
        let mut rules = rules();
        for (name, part, to) in noted {
            let one = InflightPath { path: path(name), part: *part, to: *to };
            rules.making_way.entry(path(name)).or_default().push(one);
        }
        rules
    }

    fn planned(rows: &str, rules: &Rules, answer: Answer) -> Vec<String> {
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
                    let planned = planned(rows, &rules, Answer::Different);
                    assert_eq!(planned, *expected, "{what}, to {to}, {prevalence} prevails");
                }
            }
        }
    }

    #[test]
    fn what_arrived_is_proven_by_its_content_and_not_brought_over_again() {
        let rows = "d: d d d d\nd/a: - - f7@5 f7@5";
        for (part, at) in [(Part::Itself, "d/a"), (Part::Subtree, "d"), (Part::Subtree, "")] {
            let rules = interrupted(&[(at, part, Side::Target)]);
            assert_eq!(planned(rows, &rules, Answer::Same), [""; 0]);
            assert_eq!(planned(rows, &rules, Answer::Different), [">> send d/a"], "{at:?}");
        }
        for (part, at) in [(Part::Itself, "d"), (Part::MakesWay, "d/a"), (Part::Metadata, "d/a")] {
            let rules = interrupted(&[(at, part, Side::Target)]);
            assert_eq!(planned(rows, &rules, Answer::Different), [""; 0], "{part:?}");
        }
        // what is recorded was flushed
        let rules = interrupted(&[("a", Part::Itself, Side::Target)]);
        assert_eq!(planned("a: f7@5 f7@5 f7@5 f7@5", &rules, Answer::Different), [""; 0]);
    }

    #[test]
    fn a_one_way_run_brings_nothing_back_and_spreads_no_torn_file() {
        for (rows, expected) in
            [("a: - - f7@5 f0@9", &[">> send a"][..]), ("a: - - f0@5 f7@5", &[])]
        {
            let mut rules = interrupted(&[("a", Part::Itself, Side::Target)]);
            rules.policy.one_way_from = Some(Side::Initiator);
            assert_eq!(planned(rows, &rules, Answer::Different), *expected, "{rows}");
        }
    }
}

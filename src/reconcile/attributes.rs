//! Whose ACLs and extended attributes must be asked for, where that costs a call of rsync
//! (docs/fidelity.md).
//!
//! A digest holds as long as ctime and inode stay. An unknown ctime in the baseline says that
//! the digests beside it are to be asked for again.

use crate::state::{Baseline, Covers, Damaged, Recorded};
use crate::tree::{Entry, Extra, NodeId, Side, Stamp, Standing, Tree};
use std::collections::BTreeMap;

/// The digests of an entry's ACLs and of its extended attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digests {
    acl: Option<[u8; 16]>,
    xattr: Option<[u8; 16]>,
}

impl Digests {
    /// Those that an entry has.
    #[must_use]
    pub fn of(entry: &Entry) -> Self {
        Digests { acl: entry.extra().acl, xattr: entry.extra().xattr }
    }

    /// Gives them to an entry.
    pub fn put_into(self, entry: &mut Entry) {
        let Digests { acl, xattr } = self;
        if Digests::of(entry) != self {
            entry.set_extra(Extra { acl, xattr, ..entry.extra().clone() });
        }
    }
}

/// What is known of a side's attributes before anybody is asked.
#[derive(Debug, Default)]
pub struct Recalled {
    /// Digests of the baseline that still hold.
    pub holds: Vec<(NodeId, Digests)>,
    /// The other entries that take part, with what the baseline says of them, if anything.
    pub asked: Vec<(NodeId, Option<Digests>)>,
}

/// Looks what the baseline knows of a side's attributes; nothing, if its digests are of others
/// than are wanted now.
///
/// # Errors
/// The baseline cannot be read to its end.
pub fn recall(
    tree: &Tree,
    baseline: &Baseline,
    side: Side,
    wanted: Covers,
) -> Result<Recalled, Damaged> {
    let mut before: BTreeMap<NodeId, (Digests, bool)> = BTreeMap::new();
    let covers = baseline.header().covers == wanted;
    for item in baseline.records().filter(|_| covers) {
        let (path, record) = item?;
        let (Recorded::Seen(was), Some(id)) = (&record.was[side], tree.find(&path)) else {
            continue;
        };
        let now = tree.entry(id);
        let holds = now.kind == was.kind
            && now.ino == was.ino
            && now.ctime == was.ctime
            && was.ctime.is_known();
        before.insert(id, (Digests::of(was), holds));
    }
    let mut recalled = Recalled::default();
    for id in tree.ids().filter(|id| tree.standing(*id) == Standing::Present) {
        match before.get(&id) {
            Some((digests, true)) => recalled.holds.push((id, *digests)),
            other => recalled.asked.push((id, other.map(|(digests, _)| *digests))),
        }
    }
    Ok(recalled)
}

/// Before a tree becomes the next baseline: entries that changed so lately that a further
/// change might show no other ctime are to be asked for again.
pub fn doubt_fresh(tree: &mut Tree, began: Stamp) {
    for id in tree.ids() {
        let entry = tree.entry_mut(id);
        if entry.ctime.secs() >= began.secs().saturating_sub(2) {
            entry.ctime = Stamp::UNKNOWN;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::testing::{path, situation};
    use crate::state::{Header, Record};
    use crate::tree::{Kind, Pair};

    #[test]
    fn only_what_was_touched_or_never_read_is_asked_for() {
        let mut rows = situation("a: - - - f1@1\nb: - - - f2@1\nx: - - - x\n");
        let tree = &mut rows.trees.target;
        let [a, b] = ["a", "b"].map(|name| tree.find(&path(name)).unwrap());
        for (id, secs) in [(a, 10), (b, 11)] {
            tree.entry_mut(id).ctime = Stamp::new(secs, 0);
        }
        let digests = Digests { acl: Some([7; 16]), xattr: Some([8; 16]) };
        let mut entry = tree.entry(a).clone();
        digests.put_into(&mut entry);
        assert_eq!(Digests::of(&entry), digests);
        let lists = Covers { acl: true, ..Covers::default() };
        let both = Covers { xattr: true, ..lists };
        let asked = |change: fn(&mut Entry), wanted: Covers| {
            let record = |id| {
                let mut was = tree.entry(id).clone();
                digests.put_into(&mut was);
                change(&mut was);
                Record {
                    was: Pair::new(Recorded::Absent, Recorded::Seen(was)),
                    ..Record::default()
                }
            };
            let records = [(path("a"), record(a)), (path("b"), record(b))];
            let header = Header { covers: both, ..rows.baseline.header().clone() };
            let baseline = Baseline::from_records(header, records);
            recall(tree, &baseline, Side::Target, wanted).unwrap()
        };
        let all = asked(|_| (), both);
        assert_eq!((all.holds, all.asked), (vec![(a, digests), (b, digests)], vec![]));
        let moved = |entry: &mut Entry| {
            if entry.size == 2 {
                entry.ctime = Stamp::new(9, 0);
            }
        };
        let one = asked(moved, both);
        assert_eq!((one.holds, one.asked), (vec![(a, digests)], vec![(b, Some(digests))]));
        let changes: [fn(&mut Entry); 3] =
            [|e| e.ctime = Stamp::UNKNOWN, |e| e.ino = 9, |e| e.kind = Kind::Fifo];
        for change in changes {
            assert_eq!(asked(change, both).asked, [(a, Some(digests)), (b, Some(digests))]);
        }
        assert_eq!(asked(|_| (), lists).asked, [(a, None), (b, None)], "other attributes");
        // of this second or the last two: the clock may stand still for so long
        doubt_fresh(&mut rows.trees.target, Stamp::new(13, 0));
        let tree = &mut rows.trees.target;
        assert_eq!([a, b].map(|id| tree.entry(id).ctime.is_known()), [true, false]);
        // a tool that tells no ctime says never that nothing was touched
        tree.entry_mut(a).ctime = Stamp::UNKNOWN;
        let was = tree.entry(a).clone();
        let record =
            Record { was: Pair::new(Recorded::Absent, Recorded::Seen(was)), ..Record::default() };
        let baseline =
            Baseline::from_records(rows.baseline.header().clone(), [(path("a"), record)]);
        let asked = recall(tree, &baseline, Side::Target, Covers::default()).unwrap().asked;
        assert_eq!(asked, [(a, Some(Digests::default())), (b, None)]);
    }
}

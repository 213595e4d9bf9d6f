//! Shares of many new subtrees, so that several rsyncs copy at the same time. One alone is
//! mostly busy in one of its processes, and leaves the machine's other processors idle.

use crate::reconcile::PathId;
use crate::threads;

/// More at the same time stand in each other's way on most disks.
const MOST: usize = 2;

/// Fewer entries than this are not worth another process.
const LEAST: usize = 1000;

/// Up to so many entries an rsync makes its whole list before it begins (about 100 bytes each):
/// a tenth quicker than piece by piece, where another one works meanwhile.
const MOST_LISTED: usize = 1_000_000;

/// A share of the paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Share {
    /// The tops, in the order in which they were given.
    pub path_ids: Vec<PathId>,
    /// How many entries come with them.
    entries: usize,
    /// No other share is on its way at the same time.
    is_alone: bool,
}

impl Share {
    /// All paths of a call.
    pub fn alone(path_ids: Vec<PathId>) -> Share {
        Share { path_ids, entries: 0, is_alone: true }
    }

    /// Whether it pays to make its whole list first.
    pub fn is_listed_first(&self) -> bool {
        !self.is_alone && self.entries <= MOST_LISTED
    }
}

/// How many shares pay on this machine.
pub fn most() -> usize {
    threads::most().min(MOST)
}

/// At most `most` shares of about the same weight (entries), each in the order in which the
/// paths were given; `None` where one share is as good.
pub fn split(weighed: Vec<(PathId, usize)>, most: usize) -> Vec<Share> {
    let total: usize = weighed.iter().map(|(_, weight)| weight).sum();
    let count = most.min(weighed.len()).min(total / LEAST);
    if count < 2 {
        return Vec::new();
    }
    let mut heaviest_first = weighed;
    heaviest_first.sort_by_key(|(path_id, weight)| (std::cmp::Reverse(*weight), *path_id));
    let mut shares = vec![Share::default(); count];
    for (path_id, weight) in heaviest_first {
        if let Some(share) = shares.iter_mut().min_by_key(|share| share.entries) {
            share.entries += weight;
            share.path_ids.push(path_id);
        }
    }
    shares.iter_mut().for_each(|share| share.path_ids.sort());
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::Delta;
    use crate::tree::Pair;

    fn weighed(weights: &[usize]) -> Vec<(PathId, usize)> {
        let mut delta = Delta::new();
        let mut path_id = |at: usize| {
            delta.push(Delta::ROOT, format!("{at:03}").as_bytes(), Pair::default(), None)
        };
        weights.iter().enumerate().map(|(at, weight)| (path_id(at), *weight)).collect()
    }

    #[test]
    fn every_path_is_in_one_share_and_shares_are_alike() {
        let given = weighed(&[700, 10, 900, 300, 20, 1000, 50]);
        let shares = split(given.clone(), 2);
        let weight =
            |path_id: &PathId| given.iter().find(|(s, _)| s == path_id).map_or(0, |(_, w)| *w);
        for (share, entries) in shares.iter().zip([1380, 1600]) {
            assert_eq!(share.entries, entries);
            assert_eq!(share.path_ids.iter().map(weight).sum::<usize>(), entries);
            assert!(share.path_ids.is_sorted());
        }
        let mut all: Vec<PathId> = shares.into_iter().flat_map(|share| share.path_ids).collect();
        all.sort();
        assert_eq!(all, given.iter().map(|(path_id, _)| *path_id).collect::<Vec<_>>());
    }

    #[test]
    fn a_list_that_takes_much_memory_is_made_piece_by_piece() {
        let shares = split(weighed(&[MOST_LISTED, MOST_LISTED + 1]), 2);
        let mut first: Vec<bool> = shares.iter().map(Share::is_listed_first).collect();
        first.sort();
        assert_eq!(first, [false, true]);
        assert!(!Share::alone(Vec::new()).is_listed_first());
    }

    #[test]
    fn little_is_not_shared() {
        for (weights, most) in [(&[][..], 2), (&[5000], 2), (&[900, 900], 2), (&[5000, 5000], 1)] {
            assert!(split(weighed(weights), most).is_empty(), "{weights:?}");
        }
        assert_eq!(split(weighed(&[1000, 1000]), 2).len(), 2);
    }
}

//! Shares of many new subtrees, so that several rsyncs copy at the same time. One alone is
//! mostly busy in one of its processes, and leaves the machine's other processors idle.

use crate::reconcile::Spot;

/// More at the same time stand in each other's way on most disks.
const MOST: usize = 2;

/// Fewer entries than this are not worth another process.
const LEAST: usize = 1000;

/// How many shares pay on this machine.
pub fn most() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MOST)
}

/// At most `most` shares of about the same weight (entries), each in the order in which the
/// paths were given; none where one share is as good.
pub fn split(weighed: Vec<(Spot, usize)>, most: usize) -> Vec<Vec<Spot>> {
    let total: usize = weighed.iter().map(|(_, weight)| weight).sum();
    let count = most.min(weighed.len()).min(total / LEAST);
    if count < 2 {
        return Vec::new();
    }
    let mut heaviest_first = weighed;
    heaviest_first.sort_by_key(|(spot, weight)| (std::cmp::Reverse(*weight), *spot));
    let mut shares = vec![(0, Vec::new()); count];
    for (spot, weight) in heaviest_first {
        if let Some((sum, share)) = shares.iter_mut().min_by_key(|(sum, _)| *sum) {
            *sum += weight;
            share.push(spot);
        }
    }
    let sorted = |(_, mut share): (usize, Vec<Spot>)| {
        share.sort();
        share
    };
    shares.into_iter().map(sorted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::Delta;
    use crate::tree::Pair;

    fn weighed(weights: &[usize]) -> Vec<(Spot, usize)> {
        let mut delta = Delta::new();
        let mut spot = |at: usize| {
            delta.push(Delta::ROOT, format!("{at:03}").as_bytes(), Pair::default(), None)
        };
        weights.iter().enumerate().map(|(at, weight)| (spot(at), *weight)).collect()
    }

    #[test]
    fn every_path_is_in_one_share_and_shares_are_alike() {
        let given = weighed(&[700, 10, 900, 300, 20, 1000, 50]);
        let shares = split(given.clone(), 2);
        let weight = |spot: &Spot| given.iter().find(|(s, _)| s == spot).map_or(0, |(_, w)| *w);
        let sums: Vec<usize> = shares.iter().map(|share| share.iter().map(weight).sum()).collect();
        assert_eq!(sums, [1380, 1600]);
        assert!(shares.iter().all(|share| share.is_sorted()));
        let mut all: Vec<Spot> = shares.concat();
        all.sort();
        assert_eq!(all, given.iter().map(|(spot, _)| *spot).collect::<Vec<_>>());
    }

    #[test]
    fn little_is_not_shared() {
        for (weights, most) in [(&[][..], 2), (&[5000], 2), (&[900, 900], 2), (&[5000, 5000], 1)] {
            assert!(split(weighed(weights), most).is_empty(), "{weights:?}");
        }
        assert_eq!(split(weighed(&[1000, 1000]), 2).len(), 2);
    }
}

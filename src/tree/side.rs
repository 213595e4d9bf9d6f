//! The two sides of a run, and a pair with one value for each.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Index, IndexMut};

/// One of the two replicas of a task.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Side {
    /// The replica on the machine that runs osync.
    Initiator,
    /// The other replica, here or behind ssh.
    Target,
}

impl Side {
    /// Both sides, the initiator first.
    pub const BOTH: [Side; 2] = [Side::Initiator, Side::Target];

    /// The opposite side.
    #[must_use]
    pub fn other(self) -> Side {
        match self {
            Side::Initiator => Side::Target,
            Side::Target => Side::Initiator,
        }
    }

    /// `initiator` or `target`: the word in messages, file names and settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Side::Initiator => "initiator",
            Side::Target => "target",
        }
    }

    /// The arrow of summary lines: `>>` acts on the target, `<<` on the initiator (spec 6).
    #[must_use]
    pub fn arrow(self) -> &'static str {
        match self {
            Side::Initiator => "<<",
            Side::Target => ">>",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One value for each side, so that code is written once for both.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Pair<T> {
    /// The initiator's.
    pub initiator: T,
    /// The target's.
    pub target: T,
}

impl<T> Pair<T> {
    /// A pair from its two halves.
    pub const fn new(initiator: T, target: T) -> Self {
        Pair { initiator, target }
    }

    /// Calls `make` once for each side, the initiator first.
    pub fn from_fn(mut make: impl FnMut(Side) -> T) -> Self {
        let initiator = make(Side::Initiator);
        let target = make(Side::Target);
        Pair { initiator, target }
    }

    /// A pair of references.
    pub fn as_ref(&self) -> Pair<&T> {
        Pair::new(&self.initiator, &self.target)
    }

    /// A pair of exclusive references.
    pub fn as_mut(&mut self) -> Pair<&mut T> {
        Pair::new(&mut self.initiator, &mut self.target)
    }

    /// Applies `f` to both halves, the initiator's first.
    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> Pair<U> {
        Pair::new(f(self.initiator), f(self.target))
    }

    /// Both halves with their sides, the initiator first.
    pub fn iter(&self) -> impl Iterator<Item = (Side, &T)> {
        [(Side::Initiator, &self.initiator), (Side::Target, &self.target)].into_iter()
    }
}

/// Both halves with their sides, the initiator first.
impl<T> IntoIterator for Pair<T> {
    type Item = (Side, T);
    type IntoIter = std::array::IntoIter<(Side, T), 2>;

    fn into_iter(self) -> Self::IntoIter {
        [(Side::Initiator, self.initiator), (Side::Target, self.target)].into_iter()
    }
}

impl<T: PartialEq> Pair<T> {
    /// Whether the two halves are equal.
    pub fn agree(&self) -> bool {
        self.initiator == self.target
    }
}

impl<T> Index<Side> for Pair<T> {
    type Output = T;
    fn index(&self, side: Side) -> &T {
        match side {
            Side::Initiator => &self.initiator,
            Side::Target => &self.target,
        }
    }
}

impl<T> IndexMut<Side> for Pair<T> {
    fn index_mut(&mut self, side: Side) -> &mut T {
        match side {
            Side::Initiator => &mut self.initiator,
            Side::Target => &mut self.target,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexing_reaches_the_named_half() {
        let mut pair = Pair::new(1, 2);
        pair[Side::Target] += 5;
        assert_eq!((pair[Side::Initiator], pair[Side::Target]), (1, 7));
        assert_eq!(Side::Initiator.other(), Side::Target);
        assert!(!pair.agree());
    }
}

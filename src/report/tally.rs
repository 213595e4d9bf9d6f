//! What went wrong in a run: counted, and listed for mail and reports.

use super::{Level, Problem};

/// A run may have this many problems listed; the rest is only counted.
const LISTED: usize = 100_000;

/// The problems of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many made the run impossible.
    pub critical: u64,
    /// How many things were not done.
    pub errors: u64,
    /// How many were done, but not as they should be.
    pub warnings: u64,
    /// The problems in the order they came, the first 100,000 of them.
    pub problems: Vec<Problem>,
}

impl Tally {
    /// Counts a problem. Anything below a warning does not count.
    pub fn add(&mut self, problem: &Problem) {
        match problem.level {
            Level::Critical => self.critical += 1,
            Level::Error => self.errors += 1,
            Level::Warn => self.warnings += 1,
            _ => return,
        }
        if self.problems.len() < LISTED {
            self.problems.push(problem.clone());
        }
    }

    /// The worst level there was; none if nothing went wrong.
    #[must_use]
    pub fn worst(&self) -> Option<Level> {
        [
            (self.critical, Level::Critical),
            (self.errors, Level::Error),
            (self.warnings, Level::Warn),
        ]
        .into_iter()
        .find_map(|(count, level)| (count > 0).then_some(level))
    }

    /// How many there were in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.critical + self.errors + self.warnings
    }

    /// How many are counted but not listed.
    #[must_use]
    pub fn unlisted(&self) -> u64 {
        self.total().saturating_sub(self.problems.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_problem_is_known() {
        let mut tally = Tally::default();
        assert_eq!(tally.worst(), None);
        for (level, worst) in [
            (Level::Notice, None),
            (Level::Warn, Some(Level::Warn)),
            (Level::Error, Some(Level::Error)),
            (Level::Warn, Some(Level::Error)),
            (Level::Critical, Some(Level::Critical)),
        ] {
            tally.add(&Problem { level, side: None, path: None, text: "t".into() });
            assert_eq!(tally.worst(), worst, "{level:?}");
        }
        assert_eq!((tally.total(), tally.unlisted(), tally.problems.len()), (4, 0, 4));
    }
}

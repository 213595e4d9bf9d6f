//! rsync's include and exclude patterns as a matcher of our own (spec 4, "Scanning").

use crate::config::RuleText;

/// The rules of a task, ready to be asked.
#[derive(Debug, Clone, Default)]
pub struct Filter {}

/// What the rules say of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It takes part.
    Included,
    /// It is left alone, with all below it.
    Excluded,
}

impl Filter {
    /// Reads rules in order of precedence.
    #[must_use]
    pub fn new(_rules: &[RuleText]) -> Self {
        Filter {}
    }

    /// The first rule that matches decides; `path` is relative to the root of the replica.
    /// Ancestors are not looked at: whoever walks does not enter an excluded directory.
    #[must_use]
    pub fn verdict(&self, _path: &[u8], _is_dir: bool) -> Verdict {
        Verdict::Included
    }
}

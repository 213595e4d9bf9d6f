//! Rules so simple that a remote `find` can leave out what they exclude.

use super::rule::{Rule, Scope, Shape, last_component};
use super::{Filter, Verdict};
use crate::tree::RelPath;

/// Something that is excluded whatever the other rules say. Its entry still has to be
/// listed (a directory that holds excluded entries is treated differently, spec 4); what
/// need not be listed is what lies below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prune<'a> {
    /// Every directory of this name, wherever it stands.
    Name(&'a [u8]),
    /// The directory at this path, relative to the root of the replica.
    Path(&'a [u8]),
}

impl Prune<'_> {
    /// Whether there can be such an entry: never the root, a `.` or a `..`, which a `find`
    /// would take for the whole tree.
    fn names_an_entry(self) -> bool {
        let (Prune::Name(text) | Prune::Path(text)) = self;
        !text.is_empty() && RelPath::new(text).is_ok()
    }
}

impl Filter {
    /// The directories that a listing need not enter, named literally. There may be more
    /// of them: only exclusions without wildcards count for which no earlier rule could
    /// speak.
    #[must_use]
    pub fn prunable(&self) -> Vec<Prune<'_>> {
        let mut found = Vec::new();
        for (at, rule) in self.rules.iter().enumerate() {
            let prune = match &rule.shape {
                _ if rule.verdict == Verdict::Included => continue,
                Shape::Name(name) => Prune::Name(name),
                Shape::Path(path) => Prune::Path(path),
                Shape::Tail(_) | Shape::Wild(_) | Shape::Never => continue,
            };
            if !prune.names_an_entry() {
                continue;
            }
            let mut earlier = self.rules[..at].iter().filter(|r| r.verdict == Verdict::Included);
            if !found.contains(&prune) && !earlier.any(|include| may_match(include, prune)) {
                found.push(prune);
            }
        }
        found
    }
}

/// Whether a rule could match one of the directories; in doubt it could.
fn may_match(rule: &Rule, prune: Prune<'_>) -> bool {
    match prune {
        Prune::Path(path) => rule.matches(path, true),
        Prune::Name(name) => match &rule.shape {
            Shape::Name(text) | Shape::Tail(text) | Shape::Path(text) => {
                last_component(text) == name
            }
            Shape::Wild(wild) if wild.scope == Scope::Name => rule.matches(name, true),
            Shape::Wild(_) => true,
            Shape::Never => false,
        },
    }
}

//! rsync's include and exclude patterns (spec 4, "Scanning"): which paths take part.
//!
//! `docs/patterns.md` says what patterns mean; `tests/it/filter.rs` compares this implementation
//! with the installed rsync.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod listing;
mod rule;
pub mod wildmatch;

pub use rule::RuleFault;

use crate::config::RuleText;
use crate::tree::RelPath;
use crate::tree::path::escape;
use crate::tree::work_dir::WORK_DIR_NAME;
use rule::{Rule, Scope, Shape, last_component};
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// The include and exclude rules of a task.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    rules: Vec<Rule>,
    /// The rules without wildcards, as indexes into `rules`, by the name that all their matches
    /// have.
    literal: HashMap<Box<[u8]>, Vec<usize>>,
    /// The rules with wildcards, as indexes into `rules`.
    wild: Vec<usize>,
    problems: Vec<RuleProblem>,
}

/// What stands at a path, as far as rules tell it apart: some are for directories only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    /// A directory.
    Dir,
    /// Anything else.
    Other,
}

impl PathKind {
    /// From an answer to whether it is a directory.
    #[must_use]
    pub fn of(is_dir: bool) -> Self {
        if is_dir { PathKind::Dir } else { PathKind::Other }
    }
}

/// What the rules decide for a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inclusion {
    /// It takes part.
    Included,
    /// It is left alone, and so is all below it.
    Excluded,
}

/// A directory that is excluded whatever the other rules say, so that a remote `find` need not
/// list what lies below it. Its own entry has to be listed: a directory that holds excluded
/// entries is treated differently (spec 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prune<'a> {
    /// Every directory of this name, at any depth.
    Name(&'a [u8]),
    /// The directory at this path, relative to the root of the replica.
    Path(&'a [u8]),
}

impl Prune<'_> {
    /// Whether an entry can have this name or path. It must never be the root, a `.` or a `..`,
    /// which a `find` would take for the whole tree.
    fn names_an_entry(self) -> bool {
        let (Prune::Name(text) | Prune::Path(text)) = self;
        !text.is_empty() && RelPath::new(text).is_ok()
    }
}

/// A rule that does not mean what its author may expect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pattern '{}': {why}", escape(.rule))]
pub struct RuleProblem {
    /// The rule as configured.
    pub rule: Vec<u8>,
    /// What is wrong with it.
    pub why: RuleFault,
}

impl RuleProblem {
    /// Whether rsync would refuse to run with this rule. All other problems are warnings.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.why == RuleFault::Empty
    }
}

impl Filter {
    /// Reads rules in order of precedence. [`Filter::problems`] then says what is wrong with them.
    /// A faulty rule matches nothing or is left out, as in rsync.
    #[must_use]
    pub fn new(texts: &[RuleText]) -> Self {
        let mut filter = Filter::default();
        for text in texts {
            let key = if text.include { Inclusion::Included } else { Inclusion::Excluded };
            if text.from_file {
                // rsync ends a line at a carriage return too, so CRLF files work.
                let lines = text.pattern.split(|b| matches!(b, b'\n' | b'\r'));
                for line in lines.filter(|line| !matches!(line.first(), Some(b'#' | b';'))) {
                    filter.add(key, line);
                }
            } else {
                filter.add(key, &text.pattern);
            }
        }
        filter.index();
        filter
    }

    /// Reads one rule. An empty one is ignored, a lone `!` removes all rules before it, and a
    /// sign (`+ ` or `- `) overrides the key that the rule came from.
    fn add(&mut self, key: Inclusion, text: &[u8]) {
        // rsync reads a pattern only up to the first NUL.
        let text = text.split(|b| *b == 0).next().unwrap_or_default();
        let (verdict, pattern) = match text {
            b"" => return,
            b"!" => {
                self.rules.clear();
                return;
            }
            [b'+', b' ', pattern @ ..] => (Inclusion::Included, pattern),
            [b'-', b' ', pattern @ ..] => (Inclusion::Excluded, pattern),
            pattern => (key, pattern),
        };
        let fault = match Rule::new(verdict, pattern) {
            Ok((rule, fault)) => {
                self.rules.push(rule);
                fault.or_else(|| looks_like_filter_rule(text).then_some(RuleFault::FilterSyntax))
            }
            Err(fault) => Some(fault),
        };
        if let Some(why) = fault {
            self.problems.push(RuleProblem { rule: text.to_vec(), why });
        }
    }

    fn index(&mut self) {
        for (at, rule) in self.rules.iter().enumerate() {
            match rule.literal_name() {
                Some(name) => self.literal.entry(name.into()).or_default().push(at),
                None => self.wild.push(at),
            }
        }
    }

    /// What the first matching rule says; `path` is relative to the root of the replica. Rules
    /// that exclude a directory above the path do not count here: a walk does not enter such a
    /// directory in the first place.
    #[must_use]
    pub fn verdict(&self, path: &[u8], kind: PathKind) -> Inclusion {
        self.deciding_rule(path, kind).map_or(Inclusion::Included, |rule| rule.verdict)
    }

    /// Like [`Filter::verdict`], but a path below an excluded directory is excluded too.
    #[must_use]
    pub fn verdict_with_parents(&self, path: &[u8], kind: PathKind) -> Inclusion {
        let parents = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        for end in parents {
            if self.verdict(&path[..end], PathKind::Dir) == Inclusion::Excluded {
                return Inclusion::Excluded;
            }
        }
        self.verdict(path, kind)
    }

    fn deciding_rule(&self, path: &[u8], kind: PathKind) -> Option<&Rule> {
        if path.is_empty() {
            return None; // rules do not apply to the root of a transfer
        }
        let matches = |at: &usize| self.rules[*at].matches(path, kind);
        let same_name = self.literal.get(last_component(path)).into_iter().flatten();
        let literal = same_name.copied().find(matches);
        // A rule with wildcards decides only if it comes before the literal one.
        let before = literal.unwrap_or(self.rules.len());
        let wild = self.wild.iter().copied().take_while(|at| *at < before).find(matches);
        wild.or(literal).map(|at| &self.rules[at])
    }

    /// The directories that a listing need not enter. Only exclusions without wildcards count
    /// that no earlier include rule can override, so there may be more such directories.
    #[must_use]
    pub fn prunable(&self) -> Vec<Prune<'_>> {
        let mut found = Vec::new();
        for (at, rule) in self.rules.iter().enumerate() {
            let prune = match &rule.shape {
                _ if rule.verdict == Inclusion::Included => continue,
                Shape::Name(name) => Prune::Name(name),
                Shape::Path(path) => Prune::Path(path),
                Shape::Tail(_) | Shape::Wild(_) | Shape::Never => continue,
            };
            if !prune.names_an_entry() {
                continue;
            }
            let mut earlier = self.rules[..at].iter().filter(|r| r.verdict == Inclusion::Included);
            if !found.contains(&prune) && !earlier.any(|include| may_match(include, prune)) {
                found.push(prune);
            }
        }
        found
    }

    /// Whether there are no rules, so that everything takes part.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What is wrong with the rules.
    #[must_use]
    pub fn problems(&self) -> &[RuleProblem] {
        &self.problems
    }

    /// The rules as texts that [`Filter::new`] reads as the same rules.
    #[must_use]
    pub fn rule_texts(&self) -> Vec<RuleText> {
        let text = |rule: &Rule| {
            let (include, sign) = match rule.verdict {
                Inclusion::Included => (true, b"+ "),
                Inclusion::Excluded => (false, b"- "),
            };
            // The sign keeps a pattern that itself looks like a sign or a `!` from being read as
            // one.
            RuleText { include, from_file: false, pattern: [sign, &rule.text[..]].concat() }
        };
        self.rules.iter().map(text).collect()
    }

    /// The rules as options for rsync: for its transfers, and for its listing of a replica (see
    /// [`listing`]).
    pub fn rsync_args(&self) -> impl Iterator<Item = OsString> + '_ {
        // First, so that no rule of the user can bring a work directory over.
        let work_dir = std::iter::once(OsString::from(format!("--exclude=- {WORK_DIR_NAME}")));
        work_dir.chain(self.rules.iter().map(|rule| {
            // The sign is needed as in `rule_texts`.
            let option: &[u8] = match rule.verdict {
                Inclusion::Included => b"--include=+ ",
                Inclusion::Excluded => b"--exclude=- ",
            };
            OsString::from_vec([option, &rule.text].concat())
        }))
    }
}

/// Whether a rule might match one of the directories; true in doubt.
fn may_match(rule: &Rule, prune: Prune<'_>) -> bool {
    match prune {
        Prune::Path(path) => rule.matches(path, PathKind::Dir),
        Prune::Name(name) => match &rule.shape {
            Shape::Name(text) | Shape::Tail(text) | Shape::Path(text) => {
                last_component(text) == name
            }
            Shape::Wild(wild) if wild.scope == Scope::Name => rule.matches(name, PathKind::Dir),
            Shape::Wild(_) => true,
            Shape::Never => false,
        },
    }
}

/// Whether a rule looks like one of those that work only in rsync's `--filter`: `merge FILE`,
/// `. FILE`, `: FILE`, `-s PATTERN` and so on.
fn looks_like_filter_rule(text: &[u8]) -> bool {
    let Some(space) = text.iter().position(|b| *b == b' ') else { return false };
    let word = text[..space].split(|b| *b == b',').next().unwrap_or_default();
    match &text[..space] {
        _ if matches!(word, b"merge" | b"dir-merge") => true,
        [b'.' | b':', modifiers @ ..] => modifiers.iter().all(|b| b"-+Cenwsrpx/!,".contains(b)),
        [b'-' | b'+', modifiers @ ..] => {
            !modifiers.is_empty() && modifiers.iter().all(|b| b"/!Csrpx,".contains(b))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // `tests/it/filter.rs` runs the same table against rsync.
    include!("cases.rs");

    fn rules(texts: &[&str]) -> Vec<RuleText> {
        texts
            .iter()
            .map(|text| match text.split_once('=') {
                Some(("ex", pattern)) => (false, false, pattern),
                Some(("in", pattern)) => (true, false, pattern),
                Some(("exf", pattern)) => (false, true, pattern),
                Some(("inf", pattern)) => (true, true, pattern),
                _ => panic!("{text}"),
            })
            .map(|(include, from_file, pattern)| RuleText {
                include,
                from_file,
                pattern: pattern.into(),
            })
            .collect()
    }

    #[test]
    fn the_table_of_patterns_holds() {
        for (texts, excluded, included) in CASES {
            let filter = Filter::new(&rules(texts));
            for (paths, expected) in
                [(excluded, Inclusion::Excluded), (included, Inclusion::Included)]
            {
                for path in paths.split_whitespace() {
                    let (path, kind) = match path.strip_suffix('/') {
                        Some(dir) => (dir, PathKind::Dir),
                        None => (path, PathKind::Other),
                    };
                    let verdict = filter.verdict_with_parents(path.as_bytes(), kind);
                    assert_eq!(verdict, expected, "{texts:?} on {path:?}, {kind:?}");
                }
            }
        }
    }

    #[test]
    fn rules_that_mean_something_else_are_reported() {
        let cases: &[(&str, Option<RuleFault>)] = &[
            ("ex=plain", None),
            ("ex=", None),
            ("ex=- ", Some(RuleFault::Empty)),
            ("exf=+ ", Some(RuleFault::Empty)),
            ("exf=merge file", Some(RuleFault::FilterSyntax)),
            ("exf=dir-merge,n- file", Some(RuleFault::FilterSyntax)),
            ("exf=. file", Some(RuleFault::FilterSyntax)),
            ("exf=:C file", Some(RuleFault::FilterSyntax)),
            ("exf=-s file", Some(RuleFault::FilterSyntax)),
            ("exf=.hidden file", None),
            ("exf=-file name", None),
            ("exf=merged file", None),
            ("ex=[abc", Some(RuleFault::Malformed(wildmatch::Malformed::OpenBracket))),
        ];
        for (text, expected) in cases {
            let filter = Filter::new(&rules(&[text]));
            assert_eq!(filter.problems().first().map(|p| p.why.clone()), *expected, "{text}");
            let is_error = filter.problems().first().map(RuleProblem::is_error);
            let refused_by_rsync = expected.as_ref().map(|why| *why == RuleFault::Empty);
            assert_eq!(is_error, refused_by_rsync, "{text}");
        }
        let long = format!("ex={}", "x".repeat(4096));
        assert_eq!(Filter::new(&rules(&[&long])).problems()[0].why, RuleFault::TooLong);
        assert!(Filter::new(&rules(&[&long])).is_empty());
        assert!(!Filter::new(&rules(&["ex=a"])).is_empty());
    }

    #[test]
    fn only_rules_that_nothing_overrides_are_pruned() {
        let cases: &[(&[&str], &[Prune<'_>])] = &[
            (&["ex=cache"], &[Prune::Name(b"cache")]),
            (&["ex=cache/"], &[Prune::Name(b"cache")]),
            (&["ex=/a/b"], &[Prune::Path(b"a/b")]),
            (&["ex=a/b", "ex=*.o", "in=x"], &[]),
            (&["in=keep/cache", "ex=cache"], &[]),
            (&["in=/keep/*/cache", "ex=cache"], &[]),
            (&["in=keep/c*", "ex=cache"], &[]),
            (&["in=*.o", "ex=cache"], &[Prune::Name(b"cache")]),
            (&["in=c*", "ex=cache"], &[]),
            (&["in=c**", "ex=cache"], &[]),
            (&["in=a/**", "ex=/b/cache"], &[Prune::Path(b"b/cache")]),
            (&["in=/b/*", "ex=/b/cache"], &[]),
            (&["ex=cache", "in=cache"], &[Prune::Name(b"cache")]),
            (&["ex=cache", "ex=!"], &[]),
            (&["ex=/", "ex=.", "ex=..", "ex=/.", "ex=//a", "ex=/a//b"], &[]),
            (&["ex=a", "ex=a/"], &[Prune::Name(b"a")]),
        ];
        for (texts, expected) in cases {
            assert_eq!(Filter::new(&rules(texts)).prunable(), *expected, "{texts:?}");
        }
    }

    #[test]
    fn options_for_rsync_keep_signs_apart_from_patterns() {
        let filter = Filter::new(&rules(&["ex=- - x", "in=!", "in=+ !", "ex=a/"]));
        let args: Vec<_> = filter.rsync_args().collect();
        let work_dir = "--exclude=- .osync_workdir";
        assert_eq!(args, [work_dir, "--include=+ !", "--exclude=- a/"]);
        let filter = Filter::new(&rules(&["ex=- - x", "in=b"]));
        let args: Vec<_> = filter.rsync_args().collect();
        assert_eq!(args, [work_dir, "--exclude=- - x", "--include=+ b"]);
    }
}

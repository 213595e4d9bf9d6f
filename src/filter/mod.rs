//! rsync's include and exclude patterns as a matcher of our own (spec 4, "Scanning").
//!
//! Pure: rule texts in, verdicts out. `docs/patterns.md` says what patterns mean;
//! `tests/it/filter.rs` holds this against the installed rsync.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod listing;
mod prune;
mod rule;
pub mod wildmatch;

pub use prune::Prune;
pub use rule::RuleFault;

use crate::config::RuleText;
use crate::tree::path::escape;
use rule::{Rule, last_component};
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// The rules of a task, ready to be asked.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    rules: Vec<Rule>,
    /// Rules without wildcards by the name that every match of theirs has.
    literal: HashMap<Box<[u8]>, Vec<usize>>,
    /// The other rules.
    wild: Vec<usize>,
    problems: Vec<RuleProblem>,
}

/// What the rules say of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It takes part.
    Included,
    /// It is left alone, with all below it.
    Excluded,
}

/// A rule that does not mean what its author may think.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pattern '{}': {why}", escape(.rule))]
pub struct RuleProblem {
    /// The rule as configured.
    pub rule: Vec<u8>,
    /// What is wrong with it.
    pub why: RuleFault,
}

impl RuleProblem {
    /// Whether rsync would refuse to run with this rule; the others are worth a warning.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.why == RuleFault::Empty
    }
}

impl Filter {
    /// Reads rules in order of precedence. What is wrong with them is in
    /// [`Filter::problems`]; a rule with a problem matches nothing or is left out, as in
    /// rsync.
    #[must_use]
    pub fn new(texts: &[RuleText]) -> Self {
        let mut filter = Filter::default();
        for text in texts {
            if text.from_file {
                // A carriage return ends a line as a line feed does, so CRLF files work.
                let lines = text.pattern.split(|b| matches!(b, b'\n' | b'\r'));
                for line in lines.filter(|line| !matches!(line.first(), Some(b'#' | b';'))) {
                    filter.add(text.include, line);
                }
            } else {
                filter.add(text.include, &text.pattern);
            }
        }
        filter.index();
        filter
    }

    /// Reads one rule: an empty one counts for nothing, a lone `!` forgets all before it,
    /// and a sign outranks the key that the rule came from.
    fn add(&mut self, include: bool, text: &[u8]) {
        let key = if include { Verdict::Included } else { Verdict::Excluded };
        // A NUL ends a text for rsync.
        let text = text.split(|b| *b == 0).next().unwrap_or_default();
        let (verdict, pattern) = match text {
            b"" => return,
            b"!" => {
                self.rules.clear();
                return;
            }
            [b'+', b' ', pattern @ ..] => (Verdict::Included, pattern),
            [b'-', b' ', pattern @ ..] => (Verdict::Excluded, pattern),
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

    /// The first rule that matches decides; `path` is relative to the root of the replica.
    /// Ancestors are not looked at: whoever walks does not enter an excluded directory.
    #[must_use]
    pub fn verdict(&self, path: &[u8], is_dir: bool) -> Verdict {
        self.deciding_rule(path, is_dir).map_or(Verdict::Included, |rule| rule.verdict)
    }

    /// What a walk would find out: whether the path itself or a directory above it is
    /// excluded.
    #[must_use]
    pub fn verdict_with_parents(&self, path: &[u8], is_dir: bool) -> Verdict {
        let parents = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        for end in parents {
            if self.verdict(&path[..end], true) == Verdict::Excluded {
                return Verdict::Excluded;
            }
        }
        self.verdict(path, is_dir)
    }

    fn deciding_rule(&self, path: &[u8], is_dir: bool) -> Option<&Rule> {
        if path.is_empty() {
            return None; // the root of the transfer is not subject to rules
        }
        let matches = |at: &usize| self.rules[*at].matches(path, is_dir);
        let named = self.literal.get(last_component(path)).into_iter().flatten();
        let literal = named.copied().find(matches);
        let before = literal.unwrap_or(self.rules.len());
        let wild = self.wild.iter().copied().take_while(|at| *at < before).find(matches);
        wild.or(literal).map(|at| &self.rules[at])
    }

    /// Whether there is no rule at all, so that everything takes part.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What is wrong with the rules.
    #[must_use]
    pub fn problems(&self) -> &[RuleProblem] {
        &self.problems
    }

    /// The rules as they would have to be configured to be these, one by one.
    #[must_use]
    pub fn rule_texts(&self) -> Vec<RuleText> {
        let text = |rule: &Rule| {
            let (include, sign) = match rule.verdict {
                Verdict::Included => (true, b"+ "),
                Verdict::Excluded => (false, b"- "),
            };
            // With its sign a pattern that looks like a sign or a `!` stays a pattern.
            RuleText { include, from_file: false, pattern: [sign, &rule.text[..]].concat() }
        };
        self.rules.iter().map(text).collect()
    }

    /// The rules as options for rsync: for its transfers, and for the case that rsync itself
    /// has to list (see [`listing`]).
    pub fn rsync_args(&self) -> impl Iterator<Item = OsString> + '_ {
        // First, so that no rule of the user outranks it: a work directory stays where it is.
        let ours = std::iter::once(OsString::from("--exclude=- .osync_workdir"));
        ours.chain(self.rules.iter().map(|rule| {
            // With its sign a pattern that looks like a sign or a `!` stays a pattern.
            let option: &[u8] = match rule.verdict {
                Verdict::Included => b"--include=+ ",
                Verdict::Excluded => b"--exclude=- ",
            };
            OsString::from_vec([option, &rule.text].concat())
        }))
    }
}

/// Rules that mean something in rsync's `--filter` only: `merge FILE`, `. FILE`,
/// `: FILE`, `-s PATTERN` and their like.
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
mod tests;

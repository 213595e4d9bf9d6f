//! One rule: a verdict, and the pattern that says for which paths.

use super::wildmatch::{Malformed, Text, Wildmatch};
use super::{Inclusion, PathKind};

/// The longest pattern that rsync accepts, in bytes.
const LONGEST: usize = 4095;

/// One include or exclude rule, compiled.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// What it decides for the paths that it matches.
    pub verdict: Inclusion,
    /// The pattern ends in a slash, so it matches directories only.
    pub dirs_only: bool,
    /// Which paths it matches.
    pub shape: Shape,
    /// The pattern as given, with its slashes.
    pub text: Box<[u8]>,
}

/// A pattern, by what has to be compared.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// No wildcard and no slash: the name.
    Name(Box<[u8]>),
    /// No wildcard, a slash inside: the last components.
    Tail(Box<[u8]>),
    /// No wildcard, a slash at the front: the whole path.
    Path(Box<[u8]>),
    /// Wildcards.
    Wild(Wild),
    /// A malformed pattern, which matches nothing.
    Never,
}

/// A pattern with wildcards, and the part of a path that it is compared with.
#[derive(Debug, Clone)]
pub(super) struct Wild {
    pattern: Wildmatch,
    pub scope: Scope,
    /// The pattern begins with `**`, which also matches the slash before the first component.
    slash_before: bool,
    /// The pattern ends with `***`, which also matches the directory itself.
    slash_after_dirs: bool,
}

/// The part of a path that a wildcard pattern is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The last component.
    Name,
    /// The whole path.
    Whole,
    /// Exactly this number of components at the end.
    Last(usize),
    /// The whole path, or what follows any slash in it.
    AnyTail,
}

/// Why a rule does not mean what its author may expect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleFault {
    /// `- ` or `+ ` and nothing else. rsync refuses to run with it.
    #[error("there is no pattern after the sign")]
    Empty,
    /// rsync drops such a rule.
    #[error("it is longer than {LONGEST} bytes and is left out, as rsync does")]
    TooLong,
    /// A pattern that matches nothing.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A rule for rsync's `--filter`, which is read as an ordinary pattern here.
    #[error(
        "merge files and rules with modifiers work only in rsync's --filter; this is taken as a file name"
    )]
    FilterSyntax,
}

impl Rule {
    /// Reads a pattern without its sign. A malformed one is a rule that matches nothing, and its
    /// fault.
    pub(super) fn new(
        verdict: Inclusion,
        text: &[u8],
    ) -> Result<(Rule, Option<RuleFault>), RuleFault> {
        if text.is_empty() {
            return Err(RuleFault::Empty);
        }
        if text.len() > LONGEST {
            return Err(RuleFault::TooLong);
        }
        let mut pattern = text;
        let mut dirs_only = false;
        if pattern.len() > 1
            && let Some(shorter) = pattern.strip_suffix(b"/")
        {
            pattern = shorter;
            dirs_only = true;
        }
        let (shape, fault) = match Shape::new(pattern) {
            Ok(shape) => (shape, None),
            Err(malformed) => (Shape::Never, Some(malformed.into())),
        };
        Ok((Rule { verdict, dirs_only, shape, text: text.into() }, fault))
    }

    /// Whether the pattern matches this path.
    pub(super) fn matches(&self, path: &[u8], kind: PathKind) -> bool {
        if self.dirs_only && kind != PathKind::Dir {
            return false;
        }
        match &self.shape {
            Shape::Name(name) => last_component(path) == &**name,
            Shape::Path(whole) => path == &**whole,
            Shape::Tail(tail) => path
                .strip_suffix(&**tail)
                .is_some_and(|before| before.is_empty() || before.ends_with(b"/")),
            Shape::Wild(wild) => wild.matches(path, kind),
            Shape::Never => false,
        }
    }

    /// The last component of every match of a rule without wildcards.
    pub(super) fn literal_name(&self) -> Option<&[u8]> {
        match &self.shape {
            Shape::Name(text) | Shape::Tail(text) | Shape::Path(text) => Some(last_component(text)),
            Shape::Wild(_) | Shape::Never => None,
        }
    }
}

impl Shape {
    fn new(pattern: &[u8]) -> Result<Shape, Malformed> {
        let slashes = pattern.iter().filter(|b| **b == b'/').count();
        let anchored = pattern.strip_prefix(b"/");
        if !pattern.iter().any(|b| matches!(b, b'*' | b'?' | b'[')) {
            return Ok(match anchored {
                Some(path) => Shape::Path(path.into()),
                None if slashes == 0 => Shape::Name(pattern.into()),
                None => Shape::Tail(pattern.into()),
            });
        }
        // rsync looks for `**` in the text of the pattern, even where a star is escaped.
        let first_double = pattern.windows(2).position(|pair| pair == b"**");
        let leading_double = first_double == Some(0);
        let scope = match (first_double, anchored) {
            (None, _) if slashes == 0 => Scope::Name,
            (_, Some(_)) => Scope::Whole,
            (None, None) => Scope::Last(slashes + 1),
            (Some(0), None) => Scope::Whole,
            (Some(_), None) => Scope::AnyTail,
        };
        Ok(Shape::Wild(Wild {
            pattern: Wildmatch::compile(anchored.unwrap_or(pattern))?,
            scope,
            slash_before: leading_double,
            slash_after_dirs: first_double.is_some() && pattern.ends_with(b"***"),
        }))
    }
}

impl Wild {
    fn matches(&self, path: &[u8], kind: PathKind) -> bool {
        let whole = || match kind {
            PathKind::Dir if self.slash_after_dirs => Text::new(path).before_slash(),
            _ => Text::new(path),
        };
        match self.scope {
            Scope::Name => self.pattern.matches(Text::new(last_component(path)), 0),
            Scope::Last(count) => last_components(path, count)
                .is_some_and(|tail| self.pattern.matches(Text::new(tail), 0)),
            Scope::Whole => {
                let text = if self.slash_before { whole().behind_slash() } else { whole() };
                self.pattern.matches(text, 0)
            }
            Scope::AnyTail => {
                let text = whole();
                let mut starts = (0..=text.len()).filter(|at| *at == 0 || text.at(at - 1) == b'/');
                starts.any(|start| self.pattern.matches(text, start))
            }
        }
    }
}

/// What follows the last slash.
pub(super) fn last_component(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or_default()
}

/// The last `count` components, if there are that many.
fn last_components(path: &[u8], count: usize) -> Option<&[u8]> {
    let mut left = count;
    for (at, byte) in path.iter().enumerate().rev() {
        if *byte == b'/' {
            left -= 1;
            if left == 0 {
                return Some(&path[at + 1..]);
            }
        }
    }
    (left == 1).then_some(path)
}

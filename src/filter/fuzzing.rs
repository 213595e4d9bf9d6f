//! Properties of patterns on any bytes, checked against simple models (docs/testing.md).

use super::listing::{decode, visible};
use super::wildmatch::{Text, Wildmatch};
use super::{Filter, Inclusion, PathKind, Prune};
use crate::config::RuleText;
use crate::tree::RelPath;

/// A piece of a pattern.
enum Piece<'a> {
    Byte(u8),
    /// `?` or a set: the text of its own pattern.
    OneOf(&'a [u8]),
    Star,
    StarStar,
}

/// The pieces of a pattern that compiles.
fn pieces(mut rest: &[u8]) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    while let Some(first) = rest.first() {
        let (piece, length) = match first {
            b'*' => match rest.iter().take_while(|byte| **byte == b'*').count() {
                1 => (Piece::Star, 1),
                run => (Piece::StarStar, run),
            },
            b'?' => (Piece::OneOf(b"?"), 1),
            b'\\' => (Piece::Byte(rest.get(1).copied().unwrap_or_default()), 2),
            b'[' => {
                let is_set = |end: &usize| Wildmatch::compile(&rest[..*end]).is_ok();
                let end = (2..=rest.len()).find(is_set).unwrap_or(rest.len());
                (Piece::OneOf(&rest[..end]), end)
            }
            byte => (Piece::Byte(*byte), 1),
        };
        pieces.push(piece);
        rest = &rest[length.min(rest.len())..];
    }
    pieces
}

/// Matching by dynamic programming: which prefixes of the text match the pieces so far.
fn model(pieces: &[Piece<'_>], text: &[u8]) -> bool {
    let mut fits = vec![false; text.len() + 1];
    fits[0] = true;
    for piece in pieces {
        let mut next = vec![false; fits.len()];
        let mut matches = false;
        for at in 0..fits.len() {
            let before = at.checked_sub(1).map(|before| text[before]);
            let fitted = at > 0 && fits[at - 1];
            matches = match piece {
                Piece::Star => fits[at] || matches && before != Some(b'/'),
                Piece::StarStar => fits[at] || matches,
                Piece::Byte(wanted) => fitted && before == Some(*wanted),
                Piece::OneOf(set) => {
                    let one = before.map(|byte| [byte]).unwrap_or_default();
                    let set = Wildmatch::compile(set);
                    fitted && set.is_ok_and(|set| set.matches(Text::new(&one), 0))
                }
            };
            next[at] = matches;
        }
        fits = next;
    }
    fits.last() == Some(&true)
}

/// Takes a pattern, a newline and a text: they match exactly if the model says so.
pub(crate) fn wildmatch(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let (pattern, text) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if pattern.len() > 300 || text.len() > 300 || !pattern.iter().any(|b| b"*?[".contains(b)) {
        return;
    }
    let Ok(compiled) = Wildmatch::compile(pattern) else { return };
    let pieces = pieces(pattern);
    for (before, behind) in [(false, false), (true, false), (false, true), (true, true)] {
        let whole = [&b"/"[..usize::from(before)], text, &b"/"[..usize::from(behind)]].concat();
        let view = if before { Text::new(text).behind_slash() } else { Text::new(text) };
        let view = if behind { view.before_slash() } else { view };
        assert!(view.len() == whole.len() && (0..whole.len()).all(|at| view.at(at) == whole[at]));
        for start in (0..=whole.len()).filter(|at| *at == 0 || whole[at - 1] == b'/') {
            assert_eq!(
                compiled.matches(view, start),
                model(&pieces, &whole[start..]),
                "{} on {}",
                pattern.escape_ascii(),
                whole[start..].escape_ascii()
            );
        }
    }
}

/// Takes a pattern file whose last line is a path (of a directory, if it ends in a slash): the
/// index changes no verdict, rsync is given the same rules, and what is pruned is excluded.
pub(crate) fn patterns(bytes: &[u8]) {
    let at = bytes.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
    let (file, line) = bytes.split_at(at);
    let line = line.strip_prefix(b"\n").unwrap_or(line);
    let (path, kind) = match line.strip_suffix(b"/") {
        Some(path) => (path, PathKind::Dir),
        None => (line, PathKind::Other),
    };
    if RelPath::new(path).is_err() || file.len() > 8192 {
        return;
    }
    for include in [false, true] {
        let text = RuleText { include, from_file: true, pattern: file.to_vec() };
        let filter = Filter::new(&[text]);
        let verdict = filter.verdict(path, kind);
        let in_order = filter.rules.iter().find(|rule| rule.matches(path, kind));
        let in_order = in_order.filter(|_| !path.is_empty());
        assert_eq!(verdict, in_order.map_or(Inclusion::Included, |rule| rule.verdict));
        assert_eq!(from_rsync_args(&filter).verdict(path, kind), verdict);
        for prune in filter.prunable() {
            match prune {
                Prune::Path(path) => {
                    assert_eq!(
                        filter.verdict(path, PathKind::Dir),
                        Inclusion::Excluded,
                        "{prune:?}"
                    );
                }
                Prune::Name(name) => {
                    let below = [b"some/where/", name].concat();
                    for place in [name, below.as_slice()] {
                        assert_eq!(
                            filter.verdict(place, PathKind::Dir),
                            Inclusion::Excluded,
                            "{prune:?}"
                        );
                    }
                }
            }
        }
    }
}

/// The filter as read back from the options that rsync is given.
fn from_rsync_args(filter: &Filter) -> Filter {
    use std::os::unix::ffi::OsStrExt;
    let rules = filter.rsync_args().map(|option| {
        let (name, pattern) = option.as_bytes().split_at(10);
        let include = name == b"--include=";
        RuleText { include, from_file: false, pattern: pattern.to_vec() }
    });
    Filter::new(&rules.collect::<Vec<_>>())
}

/// Takes a name: encoded as rsync prints it, it is decoded to the same bytes.
pub(crate) fn rsync_list(bytes: &[u8]) {
    let listed = bytes.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"osync:"));
    if let Ok(set) = visible(bytes) {
        assert!(set.len() <= listed.count() && bytes.ends_with(b"\n"));
    }
    let mut written = Vec::new();
    for byte in bytes {
        match byte {
            // rsync encodes unprintable bytes, and a backslash only if a `#` follows.
            b'\\' => written.extend_from_slice(b"\\#134"),
            b' '..=b'~' => written.push(*byte),
            byte => written.extend_from_slice(format!("\\#{byte:03o}").as_bytes()),
        }
    }
    assert_eq!(decode(&written), bytes);
}

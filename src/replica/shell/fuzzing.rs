//! What must hold whatever a remote machine answers (docs/testing.md).

use super::listing::Rules;
use super::listing::{blocks, listing_from};
use super::protocol::{Form, apply_changes, complaint, is_sum_of, take_apart};
use super::protocol::{Style, device, parse};
use super::{locking, looking, ops, protocol, session, versions};
use crate::filter::Filter;
use crate::replica::attributes;
use crate::replica::connection::{Delimiter, hand_over};
use crate::replica::kept_versions::Arrivals;
use crate::replica::lock_policy::{Holder, LockedBy};
use crate::replica::{DigestKind, Keep, Op, Wanted};
use crate::tree::{Kind, NodeId, RelPath, Side, Tree};

const STYLES: [Style; 3] = [Style::Gnu, Style::Stat, Style::Bsd];

/// A stream, cut into pieces of a length that its first byte gives, and its first line as a
/// delimiter: what comes before the delimiter is the same however the stream was cut.
pub(crate) fn frames(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first() else { return };
    let Some(at) = rest.iter().position(|byte| *byte == b'\n') else { return };
    let (delimiter, stream) = ([b"\n", &rest[..at]].concat(), &rest[at + 1..]);
    let whole = stream.windows(delimiter.len()).position(|window| window == delimiter);
    let (mut buffer, mut passed, mut found) = (Vec::new(), Vec::new(), Delimiter::NotYet);
    let mut pieces = stream.chunks(usize::from(*length).max(1));
    while found == Delimiter::NotYet {
        let Some(piece) = pieces.next() else { break };
        buffer.extend_from_slice(piece);
        found = hand_over(&mut buffer, &delimiter, &mut |bytes| passed.extend_from_slice(bytes));
    }
    assert_eq!(found == Delimiter::Here, whole.is_some());
    match whole {
        Some(at) => assert_eq!(passed, &stream[..at]),
        None => assert_eq!([passed, buffer].concat(), stream),
    }
}

/// The answer to the first question.
pub(crate) fn greeting(bytes: &[u8]) {
    if let Some(greeting) = session::parse(bytes) {
        assert!(format!("{greeting:?}").contains("root"));
    }
    assert!(!session::refusal(bytes).is_empty());
    let _ = session::identity_from(bytes);
}

/// The answer to a scan, behind a NUL perhaps the last listing. Whatever it says, the tree
/// is one: sorted, each name once, and no name that leads elsewhere.
pub(crate) fn listing(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == 1);
    let (answer, old) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let Some(mut answer) = take_apart(answer) else { return };
    if answer.form == Form::Changes {
        match apply_changes(old, &answer.lines, &answer.sum) {
            Some(whole) => answer.lines = whole,
            None => return,
        }
    }
    assert!(is_sum_of(&answer.lines, &answer.sum));
    let _ = looking::parse_attributes(&answer.attributes, wanted());
    lines_of_a_listing(&answer.lines);
}

/// The lines of a listing, however they came.
fn lines_of_a_listing(lines: &[u8]) {
    let _ = blocks(lines);
    for line in lines.split(|byte| *byte == b'\n') {
        let _ = complaint(line);
    }
    for style in STYLES {
        for filter in [None, Some(&Filter::default())] {
            if let Some(tree) = tree_of(lines, style, filter) {
                is_one(&tree);
            }
        }
    }
}

/// The tree that the lines of a listing are; `None`: they are not a whole one.
fn tree_of(lines: &[u8], style: Style, filter: Option<&Filter>) -> Option<Tree> {
    let listing = listing_from(lines, style).ok()?;
    let base = RelPath::root();
    let rules = Rules { filter, copy_symlinks: false, side: Side::Target, base: &base };
    listing.into_tree(&rules).ok().map(|(tree, _)| tree)
}

fn is_one(tree: &Tree) {
    let is_sound = |id: NodeId| {
        let name = tree.name(id);
        !name.is_empty() && !name.contains(&b'/') && RelPath::new(name).is_ok()
    };
    for dir in std::iter::once(Tree::ROOT).chain(tree.ids()) {
        let names: Vec<&[u8]> = tree.children(dir).map(|id| tree.name(id)).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
        assert!(names.is_empty() || tree.entry(dir).kind.is_dir());
    }
    for id in tree.ids() {
        assert!(is_sound(id), "{:?}", tree.name(id));
        assert_eq!(tree.find(&tree.path(id)), Some(id));
    }
}

fn wanted() -> Wanted {
    Wanted { acl: true, xattr: true, all_spaces: true }
}

/// The answers to all other requests.
pub(crate) fn answers(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let op = Op::MakeDir { path: RelPath::root().join(b"x"), mode: 0o755 };
    for line in text.lines() {
        let _ = looking::digest(line, DigestKind::Cksum);
        if let Some(Ok(sum)) = looking::digest(line, DigestKind::Sha256) {
            let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(line.eq_ignore_ascii_case(&hex), "{line}");
        }
        let _ = ops::answer(line, &op, None);
        let (major, minor) = line.split_once(' ').unwrap_or_default();
        let _ = device(major, minor, 16);
    }
    for style in STYLES {
        let asked = [RelPath::root(), RelPath::root().join(b"x")];
        if let Some(told) = looking::told(bytes, &mut asked.iter().cloned(), style) {
            assert!(told.found.keys().all(|path| RelPath::new(path.as_bytes()).is_ok()));
            assert!(told.denied.iter().all(|dir| asked.contains(dir)));
        }
        if let Some(aged) = versions::read(bytes, style) {
            for keep in [Keep::Backup, Keep::Deleted] {
                let entries = versions::below(&aged, keep);
                let due = versions::due(&entries, &Arrivals::read(bytes), 1, i64::MAX);
                assert!(due.old.len() + due.unknown.len() <= entries.len());
            }
        }
        for piece in bytes.split(|byte| *byte == 0) {
            if let Ok(record) = parse(piece, style) {
                assert!(RelPath::new(record.path).is_ok());
                assert_eq!(record.entry.kind == Kind::Symlink, record.entry.link().is_some());
            }
        }
    }
    if let Some((lock, by)) = locking::parse(bytes) {
        for shown in [lock, by] {
            if let locking::Shown::File(content) = shown {
                let _ = (Holder::parse(&content), LockedBy::parse(&content));
            }
        }
    }
    lines_of_a_listing(bytes);
    let _ = looking::parse_attributes(bytes, wanted());
    if let Some(result) = session::split(bytes) {
        assert!(bytes.starts_with(&result.output));
    }
}

/// A name on its way to the other side: one line, whatever it holds.
pub(crate) fn names(bytes: &[u8]) {
    let mut out = Vec::new();
    protocol::datum(&mut out, bytes);
    assert!(out.ends_with(b"\n") && !out[..out.len() - 1].contains(&b'\n'));
    let quoted = protocol::quoted_datum(bytes);
    assert!(quoted.starts_with('\'') && quoted.ends_with('\''));
    assert!(!quoted[1..quoted.len() - 1].contains('\'') && quoted.is_ascii());
    if let Ok(path) = RelPath::new(bytes) {
        let mut out = Vec::new();
        protocol::paths(&mut out, [&path, &path].into_iter());
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 4);
    }
}

/// A name or number in the first line, and lines of `passwd` or `group` behind it: what is
/// found stands in one line with what was asked for, and is the first that does.
pub(crate) fn owners(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (key, lines) = text.split_once('\n').unwrap_or_default();
    let number = attributes::field_in(lines, attributes::named(key), 2);
    let name = attributes::field_in(lines, attributes::numbered(key), 0);
    let mut whole = lines.lines().filter(|line| line.matches(':').count() >= 2);
    let begins = |line: &&str| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':'));
    let found = whole.clone().find(begins).filter(|_| !key.contains(':'));
    assert_eq!(number.is_some(), found.is_some());
    if let (Some(number), Some(line)) = (number, found) {
        let rest = &line[key.len() + 1..];
        assert!(rest[rest.find(':').unwrap_or_default() + 1..].starts_with(&number));
    }
    if let Some(name) = name {
        let line = whole.find(|line| line.split(':').nth(2) == Some(key));
        assert!(line.is_some_and(|line| line.starts_with(&format!("{name}:"))), "{name}");
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::Checker;
    use super::*;
    use proptest::prelude::*;

    fn sums(lines: &str, count: usize) -> String {
        format!("#sum {} {count}\n", Checker::Cksum.sum(lines.as_bytes()))
    }

    /// A listing with all sorts of lines, sorted as bytes.
    fn listing() -> String {
        let facts = "644 1000 100 2049 77 1 12 1700000000.1 1700000000.5 1690000000.0";
        let mut lines: Vec<String> =
            ["", "d", "d/e", "z"].map(|path| format!("d {facts}/{path}//")).into();
        lines.extend(["a", "b c", "d/f", "d/e/g", "z/\u{e4}"].map(|p| format!("f {facts}/{p}//")));
        lines.push(format!("l {facts}/d/l//a//b"));
        lines.push(format!("+f {facts}/./d/new\\nline//"));
        lines.push(format!("!d {facts}/d/closed//"));
        lines.push("?find: './d/closed': Permission denied".to_owned());
        lines.push("~end 1".to_owned());
        lines.sort();
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    fn rest() -> String {
        let rest = "#owner u1000 alice\n#attributes\n#acl\n# file: ./a\nuser::rw-\n#end\n";
        format!("{rest}#rest {}\n", Checker::Sha256.sum(rest.as_bytes()))
    }

    /// What the tree and the rest of an answer hold, as text; `None`: it is no answer.
    fn told(answer: &[u8], old: &str) -> Option<String> {
        let mut answer = take_apart(answer)?;
        if answer.form == Form::Changes {
            answer.lines = apply_changes(old.as_bytes(), &answer.lines, &answer.sum)?;
        }
        let tree = tree_of(&answer.lines, Style::Gnu, Some(&Filter::default()))?;
        let mut all: Vec<String> = tree
            .ids()
            .map(|id| format!("{} {:?} {:?}", tree.path(id), tree.standing(id), tree.entry(id)))
            .collect();
        all.sort();
        Some(format!("{all:?} {:?} {:?}", answer.owners, answer.attributes))
    }

    /// Answers in every form, and the listing that we have.
    fn answers() -> Vec<(Vec<u8>, String)> {
        let whole = listing();
        let count = whole.lines().count();
        let old: String =
            whole.lines().filter(|l| !l.contains("z/")).map(|l| format!("{l}\n")).collect();
        let added: String =
            whole.lines().filter(|l| l.contains("z/")).map(|l| format!("\t{l}\n")).collect();
        let once =
            format!("#once\n{whole}#sum {}\n{}", Checker::Cksum.sum(whole.as_bytes()), rest());
        vec![
            (format!("#full\n{whole}{}{}", sums(&whole, count), rest()).into(), String::new()),
            (format!("#changes\n{added}{}{}", sums(&whole, count), rest()).into(), old),
            (once.into(), String::new()),
        ]
    }

    #[test]
    fn an_answer_that_is_cut_or_changed_anywhere_is_none_or_the_right_tree() {
        for (answer, old) in answers() {
            let right = told(&answer, &old);
            assert!(right.is_some());
            let check = |mutant: &[u8], what: &str| {
                let told = told(mutant, &old);
                assert!(told.is_none() || told == right, "{what}: {told:?}");
            };
            for at in 0..answer.len() {
                check(&answer[..at], "cut");
                check(&answer[at..], "beheaded");
                check(&[&answer[..at], &answer[at + 1..]].concat(), "a byte less");
                check(&[&answer[..at], &answer[at.saturating_sub(9)..]].concat(), "repeated");
                for byte in [b'\n', 0, b'/', b'#', b'x', answer[at] ^ 1] {
                    let mut mutant = answer.clone();
                    mutant[at] = byte;
                    check(&mutant, "another byte");
                    check(&[&answer[..at], &[byte], &answer[at..]].concat(), "a byte more");
                }
            }
            check(&[&answer[..], &answer[..]].concat(), "twice");
        }
    }

    #[test]
    fn a_line_less_or_twice_is_no_listing() {
        let whole = listing();
        let right = tree_of(whole.as_bytes(), Style::Gnu, None);
        assert!(right.is_some());
        let lines: Vec<&str> = whole.lines().collect();
        let join = |lines: &[&str]| lines.iter().map(|l| format!("{l}\n")).collect::<String>();
        for at in 0..lines.len() {
            let twice = [&lines[..=at], &lines[at..]].concat();
            let is_complaint = lines[at].starts_with('?');
            let tree = tree_of(join(&twice).as_bytes(), Style::Gnu, None);
            assert!(tree.is_none() || is_complaint, "{}", lines[at]);
        }
    }

    proptest! {
        #[test]
        fn answers_cut_and_mixed_at_random_are_none_or_the_right_tree(
            which in 0usize..3,
            other in 0usize..3,
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 1..6),
        ) {
            let all = answers();
            let (answer, old) = &all[which];
            let right = told(answer, old);
            let mut mutant = Vec::new();
            for (number, cut) in cuts.iter().enumerate() {
                let from = if number % 2 == 0 { answer } else { &all[other].0 };
                let at = cut.index(from.len());
                if number % 3 == 0 {
                    mutant.extend_from_slice(&from[..at]);
                } else {
                    mutant.extend_from_slice(&from[at..]);
                }
            }
            let told = told(&mutant, old);
            // a mixture may by chance be another whole answer, to the same tree
            prop_assert!(told.is_none() || told == right, "{told:?}");
        }
    }
}

//! What must hold whatever a remote machine answers (docs/testing.md).

use super::answer::{apply_changes, complaint, lines, take_apart};
use super::listing::{Listing, Rules};
use super::record::{Record, Style, device, parse};
use super::{attributes, clean, encode, greeting, hook, locking, looking, ops};
use crate::filter::Filter;
use crate::replica::cksum::cksum;
use crate::replica::connection::{Found, hand_over};
use crate::replica::lock_policy::{Holder, LockedBy};
use crate::replica::owners;
use crate::replica::{DigestKind, Op, Retention, Wanted};
use crate::tree::{Kind, NodeId, RelPath, Side, Tree};

const STYLES: [Style; 3] = [Style::Gnu, Style::Stat, Style::Bsd];

/// A stream, cut into pieces of a length that its first byte gives, and its first line as a
/// delimiter: what comes before the delimiter is the same however the stream was cut.
pub(crate) fn frames(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first() else { return };
    let Some(at) = rest.iter().position(|byte| *byte == b'\n') else { return };
    let (delimiter, stream) = ([b"\n", &rest[..at]].concat(), &rest[at + 1..]);
    let whole = stream.windows(delimiter.len()).position(|window| window == delimiter);
    let (mut buffer, mut passed, mut found) = (Vec::new(), Vec::new(), Found::NotYet);
    let mut pieces = stream.chunks(usize::from(*length).max(1));
    while found == Found::NotYet {
        let Some(piece) = pieces.next() else { break };
        buffer.extend_from_slice(piece);
        found = hand_over(&mut buffer, &delimiter, &mut |bytes| passed.extend_from_slice(bytes));
    }
    assert_eq!(found == Found::Here, whole.is_some());
    match whole {
        Some(at) => assert_eq!(passed, &stream[..at]),
        None => assert_eq!([passed, buffer].concat(), stream),
    }
}

/// The answer to the first question.
pub(crate) fn greeting(bytes: &[u8]) {
    if let Some(greeting) = greeting::parse(bytes) {
        assert!(format!("{greeting:?}").contains("root"));
    }
    assert!(!greeting::refusal(bytes).is_empty());
    let _ = greeting::identity_from(bytes);
}

/// The answer to a scan, behind a NUL perhaps the last listing. Whatever it says, the tree
/// is one: sorted, each name once, and no name that leads elsewhere.
pub(crate) fn listing(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == 1);
    let (answer, old) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let Some(mut answer) = take_apart(answer) else { return };
    if answer.is_changes {
        let sum = answer.sum.clone().unwrap_or_default();
        match apply_changes(old, &answer.lines, &sum) {
            Some(whole) => {
                assert_eq!(cksum(&whole), sum);
                answer.lines = whole;
            }
            None => answer.lines.extend_from_slice(old),
        }
    }
    let _ = attributes::parse(&answer.attributes, wanted());
    for style in STYLES {
        let mut listing = Listing::default();
        let odd = answer.odd.split(|byte| *byte == 0);
        let records: Vec<Record> = lines(&answer.lines)
            .chain(odd)
            .filter_map(|record| parse(record, style).ok())
            .collect();
        listing.records = records;
        listing.closed.extend(answer.complaints.iter().filter_map(|line| complaint(line)));
        let filter = Filter::default();
        let base = RelPath::root();
        for filter in [None, Some(&filter)] {
            let rules = Rules { filter, copy_symlinks: false, side: Side::Target, base: &base };
            let listing =
                Listing { records: listing.records.clone(), closed: listing.closed.clone() };
            if let Ok((tree, _)) = listing.into_tree(&rules) {
                is_one(&tree);
            }
        }
    }
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
        let _ = ops::answer(line, &op);
        let (major, minor) = line.split_once(' ').unwrap_or_default();
        let _ = device(major, minor, 16);
    }
    for style in STYLES {
        let asked = [RelPath::root(), RelPath::root().join(b"x")];
        if let Some(told) = looking::told(bytes, &mut asked.iter().cloned(), style) {
            assert!(told.found.keys().all(|path| RelPath::new(path.as_bytes()).is_ok()));
            assert!(told.denied.iter().all(|dir| asked.contains(dir)));
        }
        if let Some(aged) = clean::read(bytes, style) {
            let all = Retention { backup_days: 1, deleted_days: 1 };
            let old = clean::old_enough(&aged, all);
            assert!(old.iter().all(|path| aged.entries.contains_key(*path)));
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
    let _ = attributes::parse(bytes, wanted());
    if let Some(result) = hook::split(bytes) {
        assert!(bytes.starts_with(&result.output));
    }
}

/// A name on its way to the other side: one line, whatever it holds.
pub(crate) fn names(bytes: &[u8]) {
    let mut out = Vec::new();
    encode::datum(&mut out, bytes);
    assert!(out.ends_with(b"\n") && !out[..out.len() - 1].contains(&b'\n'));
    let quoted = encode::quoted_datum(bytes);
    assert!(quoted.starts_with('\'') && quoted.ends_with('\''));
    assert!(!quoted[1..quoted.len() - 1].contains('\'') && quoted.is_ascii());
    if let Ok(path) = RelPath::new(bytes) {
        let mut out = Vec::new();
        encode::paths(&mut out, [&path, &path].into_iter());
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 4);
    }
}

/// A name or number in the first line, and lines of `passwd` or `group` behind it: what is
/// found stands in one line with what was asked for, and is the first that does.
pub(crate) fn owners(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (key, lines) = text.split_once('\n').unwrap_or_default();
    let number = owners::field_in(lines, owners::named(key), 2);
    let name = owners::field_in(lines, owners::numbered(key), 0);
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

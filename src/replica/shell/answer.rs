//! What `list.sh` answers to a scan, taken apart. Pure.
//!
//! ```text
//! #full | #changes
//! records, one a line          (of changes: behind TAB or '> ' new ones, else old ones)
//! #sum CKSUM LENGTH
//! #owner u1000 alice
//! ?complaint of find
//! #odd
//! records ended by NUL
//! #attributes                  (where they were asked for)
//! what attributes.sh tells
//! ```

use crate::tree::RelPath;

/// An answer, in its parts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Whether the lines are all there is, or what differs from the last listing.
    pub is_changes: bool,
    /// The listing: lines sorted as bytes if there is a sum; or the changes.
    pub lines: Vec<u8>,
    /// `cksum` of the listing; none: nothing was cached.
    pub sum: Option<String>,
    /// `u1000 alice`.
    pub owners: Vec<String>,
    /// What find complained about.
    pub complaints: Vec<Vec<u8>>,
    /// Records that do not fit a line.
    pub odd: Vec<u8>,
    /// What was told of ACLs and extended attributes.
    pub attributes: Vec<u8>,
}

/// Takes an answer apart; none: it is none.
pub(super) fn take_apart(bytes: &[u8]) -> Option<Answer> {
    let mut answer = Answer::default();
    let mut rest = bytes;
    let first = next_line(&mut rest)?;
    answer.is_changes = match first {
        b"#full" => false,
        b"#changes" => true,
        _ => return None,
    };
    let start = rest;
    let mut length = 0;
    loop {
        let line = next_line(&mut rest)?;
        match line.first() {
            Some(b'#') if line == b"#odd" => break,
            Some(b'#') => {
                let text = String::from_utf8_lossy(line);
                if let Some(sum) = text.strip_prefix("#sum ") {
                    answer.sum = Some(sum.to_owned());
                } else if let Some(owner) = text.strip_prefix("#owner ") {
                    answer.owners.push(owner.to_owned());
                }
            }
            Some(b'?') => answer.complaints.push(line[1..].to_vec()),
            _ if answer.sum.is_none() && answer.owners.is_empty() => length += line.len() + 1,
            _ => return None,
        }
    }
    // the records stand together at the beginning, so one piece holds them all
    answer.lines = start.get(..length)?.to_vec();
    (answer.odd, answer.attributes) = without_attributes(rest);
    Some(answer)
}

/// Records never begin with `#`, and what follows them holds no NUL.
fn without_attributes(rest: &[u8]) -> (Vec<u8>, Vec<u8>) {
    const MARK: &[u8] = b"#attributes\n";
    let last = rest.iter().rposition(|b| *b == 0).map_or(0, |at| at + 1);
    match rest[last..].strip_prefix(MARK) {
        Some(attributes) => (rest[..last].to_vec(), attributes.to_vec()),
        None => (rest.to_vec(), Vec::new()),
    }
}

fn next_line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|b| *b == b'\n')?;
    let line = &rest[..end];
    *rest = &rest[end + 1..];
    Some(line)
}

/// The new listing from the old one and what differs; none: they do not fit.
pub(super) fn apply_changes(old: &[u8], changes: &[u8], sum: &str) -> Option<Vec<u8>> {
    let (mut gone, mut new): (Vec<&[u8]>, Vec<&[u8]>) = (Vec::new(), Vec::new());
    for line in lines(changes) {
        match line {
            [b'\t', added @ ..] | [b'>', b' ', added @ ..] => new.push(added),
            [b'<', b' ', removed @ ..] => gone.push(removed),
            // what diff prints between: line numbers, dashes
            [b'0'..=b'9' | b'-' | b'\\', ..] => {}
            removed => gone.push(removed),
        }
    }
    gone.sort_unstable();
    new.sort_unstable();
    let mut listing = Vec::with_capacity(old.len() + changes.len());
    let mut push = |line: &[u8]| {
        listing.extend_from_slice(line);
        listing.push(b'\n');
    };
    let mut new = new.into_iter().peekable();
    for line in lines(old) {
        while let Some(earlier) = new.next_if(|n| *n < line) {
            push(earlier);
        }
        if gone.binary_search(&line).is_err() {
            push(line);
        }
    }
    new.for_each(push);
    (crate::replica::cksum::cksum(&listing) == sum).then_some(listing)
}

/// The lines of a listing, without their ends.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| *b == b'\n').filter(|line| !line.is_empty())
}

/// The path that a complaint of find is about, and the system's words; none if it is about
/// no path of the replica. GNU find quotes and escapes the path, others do not.
pub(super) fn complaint(line: &[u8]) -> Option<(Vec<u8>, String)> {
    let rest = of_find(line)?;
    let (path, words) = match rest.iter().position(|b| *b == b'\'') {
        Some(quote) => {
            let (path, used) = unquote(&rest[quote + 1..])?;
            (path, &rest[quote + 1 + used..])
        }
        None => {
            let colon = rest.windows(2).rposition(|pair| pair == b": ")?;
            (rest[..colon].to_vec(), &rest[colon..])
        }
    };
    let words = String::from_utf8_lossy(words);
    let words = words.trim_start_matches([':', ' ']).trim_end();
    let path = path.strip_prefix(b"./").map_or_else(|| path.clone(), <[u8]>::to_vec);
    let path = if path == b"." { Vec::new() } else { path };
    RelPath::new(path.as_slice()).is_ok().then(|| (path, words.to_owned()))
}

/// What find itself says; some are called by their whole path.
pub(super) fn of_find(line: &[u8]) -> Option<&[u8]> {
    let end = line.windows(2).position(|pair| pair == b": ")?;
    (line[..end].rsplit(|b| *b == b'/').next() == Some(b"find")).then(|| &line[end + 2..])
}

/// Undoes the quoting of the C locale up to the closing quote; also how much was read.
fn unquote(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut out = Vec::new();
    let mut at = 0;
    loop {
        match *text.get(at)? {
            b'\'' => return Some((out, at + 1)),
            b'\\' => {
                let (byte, used) = escape(text.get(at + 1..)?)?;
                out.push(byte);
                at += 1 + used;
            }
            byte => {
                out.push(byte);
                at += 1;
            }
        }
    }
}

fn escape(text: &[u8]) -> Option<(u8, usize)> {
    let simple = |byte| Some((byte, 1));
    match *text.first()? {
        b'n' => simple(b'\n'),
        b't' => simple(b'\t'),
        b'r' => simple(b'\r'),
        b'a' => simple(7),
        b'b' => simple(8),
        b'v' => simple(11),
        b'f' => simple(12),
        b'0'..=b'7' => {
            let digits = text.get(..3)?;
            let text = std::str::from_utf8(digits).ok()?;
            Some((u8::from_str_radix(text, 8).ok()?, 3))
        }
        other => simple(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::cksum::cksum;

    #[test]
    fn an_answer_is_taken_apart() {
        let text = b"#changes\nf 1/a//\n\tf 2/b//\n#sum 1 2\n#owner u1 x\n#owner g2 \n?find: oops\n#odd\nf 3/a\nb//\0";
        let answer = take_apart(text).unwrap();
        assert!(answer.is_changes);
        assert_eq!(answer.lines, b"f 1/a//\n\tf 2/b//\n");
        assert_eq!(answer.sum.as_deref(), Some("1 2"));
        assert_eq!(answer.owners, ["u1 x", "g2 "]);
        assert_eq!(answer.complaints, [b"find: oops"]);
        assert_eq!(answer.odd, b"f 3/a\nb//\0");
        let more = [&text[..], b"#attributes\n#acl\n# file: x\n#end\n"].concat();
        let answer = take_apart(&more).unwrap();
        assert_eq!(answer.odd, b"f 3/a\nb//\0");
        assert_eq!(answer.attributes, b"#acl\n# file: x\n#end\n");
        for cut in [0, 5, 20, 60] {
            assert_eq!(take_apart(&text[..cut]), None, "{cut}");
        }
        assert_eq!(take_apart(b"find: not found\n"), None);
    }

    #[test]
    fn changes_in_all_forms_make_the_new_listing_from_the_old() {
        let old = b"d 1/a//\nf 2/b//\nf 3/c//\n";
        let new = b"d 1/a//\nf 2/aa//\nf 3/c//\nf 9/z//\n";
        let sum = cksum(new);
        for changes in [
            &b"\tf 2/aa//\nf 2/b//\n\tf 9/z//\n"[..],
            b"2c2\n< f 2/b//\n---\n> f 2/aa//\n3a4\n> f 9/z//\n",
        ] {
            assert_eq!(apply_changes(old, changes, &sum).as_deref(), Some(&new[..]));
        }
        assert_eq!(apply_changes(old, b"", &cksum(old)).as_deref(), Some(&old[..]));
        assert_eq!(apply_changes(old, b"", &sum), None);
        assert_eq!(apply_changes(b"", b"\tf 2/b//\n", &sum), None);
    }

    #[test]
    fn complaints_name_their_path() {
        for (line, path, words) in [
            ("find: './a b': Permission denied", "a b", "Permission denied"),
            ("find: './a\\'b\\n\\303\\244': Input/output error", "a'b\nä", "Input/output error"),
            ("find: ./a: b: Permission denied", "a: b", "Permission denied"),
            ("find: '.': Permission denied", "", "Permission denied"),
            (
                "find: File system loop detected; './a/l' is part of the same file system loop as './a'.",
                "a/l",
                "is part of the same file system loop as './a'.",
            ),
        ] {
            let (found, said) = complaint(line.as_bytes()).unwrap();
            assert_eq!((found.as_slice(), said.as_str()), (path.as_bytes(), words), "{line}");
        }
        assert_eq!(complaint(b"sh: oops"), None);
        assert_eq!(complaint(b"find: 'unended"), None);
        for elsewhere in ["../x", "/etc", "a//b", "a/../b", "a\\000b"] {
            let line = format!("find: '{elsewhere}': Permission denied");
            assert_eq!(complaint(line.as_bytes()), None, "{line}");
        }
    }
}

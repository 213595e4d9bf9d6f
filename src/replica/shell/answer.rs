//! What `list.sh` answers to a scan, taken apart. Pure.
//!
//! ```text
//! #full | #changes | #once     (all; what differs from the last; all, and nothing is kept)
//! records, one a line          (of changes: behind TAB or '> ' new ones, else old ones)
//! =birth of a directory        (these two kinds
//! ?complaint of find            of lines too are part of the listing)
//! ~end STATUS
//! #sum CHECKSUM LINES          (of the whole listing)
//! #owner u1000 alice
//! #attributes                  (where they were asked for)
//! what attributes.sh tells
//! #rest CHECKSUM               (of what stands behind '#sum')
//! ```
//! It counts only as a whole: a part that is cut off, changed, doubled or missing makes it
//! no answer (spec 8, "Absent").

use crate::replica::cksum::cksum;
use crate::tree::RelPath;
use sha2::{Digest as _, Sha256};

/// What the lines of an answer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Form {
    /// The listing, sorted, and kept over there.
    #[default]
    Full,
    /// What differs from the last one.
    Changes,
    /// The listing in any order; the other side keeps nothing.
    Once,
}

/// An answer, in its parts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// What the lines are.
    pub form: Form,
    /// The listing, or the changes.
    pub lines: Vec<u8>,
    /// The checksum of the listing.
    pub sum: String,
    /// `u1000 alice`.
    pub owners: Vec<String>,
    /// What was told of ACLs and extended attributes.
    pub attributes: Vec<u8>,
}

/// How the other machine makes checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checker {
    /// POSIX `cksum`.
    Cksum,
    /// `sha256sum`, where that is missing.
    Sha256,
}

impl Checker {
    /// From the word of `prepare.sh`.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "cksum" => Some(Checker::Cksum),
            "sha256sum" => Some(Checker::Sha256),
            _ => None,
        }
    }

    /// The checksum as one word: checksum and length, or 64 digits.
    pub fn sum(self, bytes: &[u8]) -> String {
        match self {
            Checker::Cksum => cksum(bytes).replace(' ', "-"),
            Checker::Sha256 => {
                Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
            }
        }
    }
}

/// Whether these bytes have this checksum, of whichever kind it is.
pub(super) fn is_sum_of(bytes: &[u8], sum: &str) -> bool {
    let checker = if sum.contains('-') { Checker::Cksum } else { Checker::Sha256 };
    checker.sum(bytes) == sum
}

/// Takes an answer apart; `None` if it is malformed or not whole. Of changes it is not yet known
/// whether they fit.
pub(super) fn take_apart(bytes: &[u8]) -> Option<Answer> {
    let mut rest = bytes;
    let form = match next_line(&mut rest)? {
        b"#full" => Form::Full,
        b"#changes" => Form::Changes,
        b"#once" => Form::Once,
        _ => return None,
    };
    let start = rest;
    let (lines, sum) = loop {
        let behind = rest;
        let line = next_line(&mut rest)?;
        if let Some(sum) = line.strip_prefix(b"#sum ") {
            let lines = &start[..start.len() - behind.len()];
            break (lines, std::str::from_utf8(sum).ok()?);
        }
    };
    let (sum, count) = match *sum.split(' ').collect::<Vec<_>>() {
        [sum] => (sum.to_owned(), None),
        [sum, count] => (sum.to_owned(), Some(count)),
        _ => return None,
    };
    if form != Form::Changes {
        let found = lines.iter().filter(|b| **b == b'\n').count().to_string();
        if !is_sum_of(lines, &sum) || count.is_some_and(|count| count != found) {
            return None;
        }
    }
    let rest = whole_rest(rest)?;
    let mut answer = Answer { form, lines: lines.to_vec(), sum, ..Answer::default() };
    let mut more = rest;
    while !more.is_empty() {
        let line = next_line(&mut more)?;
        if line == b"#attributes" {
            answer.attributes = more.to_vec();
            break;
        }
        match line.strip_prefix(b"#owner ") {
            Some(owner) => answer.owners.push(String::from_utf8_lossy(owner).into_owned()),
            None if line.is_empty() => {}
            None => return None,
        }
    }
    Some(answer)
}

/// What stands behind the listing, without its checksum, which is right.
fn whole_rest(bytes: &[u8]) -> Option<&[u8]> {
    const MARK: &[u8] = b"#rest ";
    let text = bytes.strip_suffix(b"\n")?;
    let last = text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let sum = std::str::from_utf8(text[last..].strip_prefix(MARK)?).ok()?;
    is_sum_of(&bytes[..last], sum).then_some(&bytes[..last])
}

/// A whole listing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Whole<'a> {
    /// Records.
    pub records: Vec<&'a [u8]>,
    /// When directories were made, where the records do not tell.
    pub births: Vec<&'a [u8]>,
    /// What programs over there complained about.
    pub complaints: Vec<&'a [u8]>,
}

/// Why a listing does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotWhole {
    /// Its end is missing.
    #[error("the listing was cut off over there: its end is missing")]
    Cut,
    /// A program did not do its work and did not say why.
    #[error("the programs that list it over there ended with status {0}, and did not say why")]
    Failed(String),
}

/// Reads the lines of a listing.
pub(super) fn whole(text: &[u8]) -> Result<Whole<'_>, NotWhole> {
    let mut whole = Whole::default();
    let text = text.strip_suffix(b"\n").ok_or(NotWhole::Cut)?;
    let mut ended = None;
    for line in text.split(|b| *b == b'\n') {
        if ended.is_some() {
            return Err(NotWhole::Cut);
        }
        if let Some(status) = line.strip_prefix(b"~end ") {
            ended = Some(status);
        } else if let Some(complaint) = line.strip_prefix(b"?") {
            whole.complaints.push(complaint);
        } else if let Some(birth) = line.strip_prefix(b"=") {
            whole.births.push(birth);
        } else {
            whole.records.push(line);
        }
    }
    let status = String::from_utf8_lossy(ended.ok_or(NotWhole::Cut)?).into_owned();
    // above 125 a program was killed or could not be run, whatever else was said
    match status.parse::<u32>() {
        Ok(0) => Ok(whole),
        Ok(1..=125) if !whole.complaints.is_empty() => Ok(whole),
        _ => Err(NotWhole::Failed(status)),
    }
}

fn next_line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|b| *b == b'\n')?;
    let line = &rest[..end];
    *rest = &rest[end + 1..];
    Some(line)
}

/// The new listing from the old one and what differs; `None`: they do not fit.
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
    is_sum_of(&listing, sum).then_some(listing)
}

/// The lines of a listing, without their ends.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| *b == b'\n').filter(|line| !line.is_empty())
}

/// The path that a complaint of find or stat is about, and the system's words; `None` if it is
/// about no path of the replica, or that is not certain: a complaint laid at the wrong door
/// would leave the right path out of the listing without a word.
pub(super) fn complaint(line: &[u8]) -> Option<(Vec<u8>, String)> {
    let (program, rest) = said_by(line)?;
    let (path, words) = match program {
        Program::Find if rest.starts_with(b"'") || rest.starts_with(LOOP_DETECTED) => {
            // GNU's, which escapes what is in quotes
            let start = rest.iter().position(|b| *b == b'\'')? + 1;
            let (path, used) = unquote(&rest[start..])?;
            (path, &rest[start + used..])
        }
        Program::Find => {
            let colon = rest.windows(2).rposition(|pair| pair == b": ")?;
            (rest[..colon].to_vec(), &rest[colon..])
        }
        Program::Stat => plain_path(rest)?,
    };
    let path = match path.strip_prefix(b"./") {
        Some(below) => below.to_vec(),
        None if path == b"." => Vec::new(),
        None => return None,
    };
    let words = String::from_utf8_lossy(words);
    let words = words.trim_start_matches([':', ' ']).trim_end();
    RelPath::new(path.as_slice()).is_ok().then(|| (path, words.to_owned()))
}

const LOOP_DETECTED: &[u8] = b"File system loop detected";

/// The path in a complaint of stat, which each system words in its own way: only one that
/// needs no quoting.
fn plain_path(rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let begin = rest.windows(2).position(|pair| pair == b"./" || pair == b"'.")?;
    let quoted = rest[begin] == b'\'' || begin > 0 && rest[begin - 1] == b'\'';
    let begin = begin + usize::from(rest[begin] == b'\'');
    let (end, words) = if quoted {
        let end = rest.windows(3).rposition(|three| three == b"': ")?;
        (end, end + 1)
    } else {
        let end = begin + rest[begin..].windows(2).position(|pair| pair == b": ")?;
        (end, end)
    };
    let path = rest.get(begin..end)?;
    (!path.iter().any(|b| b"'\\:".contains(b))).then(|| (path.to_vec(), &rest[words..]))
}

/// Who complains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    Find,
    Stat,
}

/// What find itself says.
pub(super) fn of_find(line: &[u8]) -> Option<&[u8]> {
    said_by(line).filter(|(program, _)| *program == Program::Find).map(|(_, words)| words)
}

/// Some programs are called by their whole path.
fn said_by(line: &[u8]) -> Option<(Program, &[u8])> {
    let end = line.windows(2).position(|pair| pair == b": ")?;
    let program = match line[..end].rsplit(|b| *b == b'/').next()? {
        b"find" => Program::Find,
        b"stat" => Program::Stat,
        _ => return None,
    };
    Some((program, &line[end + 2..]))
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

    fn sum(text: &[u8]) -> String {
        Checker::Cksum.sum(text)
    }

    /// An answer as list.sh gives it.
    fn answer(head: &str, listing: &str, changes: Option<&str>, rest: &str) -> Vec<u8> {
        let count = listing.lines().count();
        let lines = changes.unwrap_or(listing);
        let sums = (sum(listing.as_bytes()), Checker::Sha256.sum(rest.as_bytes()));
        format!("{head}\n{lines}#sum {} {count}\n{rest}#rest {}\n", sums.0, sums.1).into_bytes()
    }

    #[test]
    fn an_answer_is_taken_apart() {
        let listing = "f 1/a//\n~end 0\n";
        let rest = "#owner u1 x\n#owner g2 \n#attributes\n#acl\n# file: x\n#end\n";
        let text = answer("#full", listing, None, rest);
        let taken = take_apart(&text).unwrap();
        assert_eq!((taken.form, &taken.lines[..]), (Form::Full, listing.as_bytes()));
        assert_eq!(taken.sum, sum(listing.as_bytes()));
        assert_eq!(taken.owners, ["u1 x", "g2 "]);
        assert_eq!(taken.attributes, b"#acl\n# file: x\n#end\n");
        let text = answer("#changes", listing, Some("\tf 1/a//\n"), "\n");
        let taken = take_apart(&text).unwrap();
        assert_eq!((taken.form, &taken.lines[..]), (Form::Changes, &b"\tf 1/a//\n"[..]));
        assert_eq!(take_apart(b"find: not found\n"), None);
    }

    #[test]
    fn a_listing_has_one_end_and_a_status_that_is_accounted_for() {
        for (text, fine) in [
            ("f 1/a//\n~end 0\n", true),
            ("?find: './a': oops\nf 1/a//\n~end 1\n", true),
            ("f 1/a//\n~end 1\n", false),
            ("?find: './a': oops\n~end 137\n", false),
            ("?find: './a': oops\n~end 126\n", false),
            ("f 1/a//\n", false),
            ("f 1/a//\n~end 0", false),
            ("~end 0\nf 1/a//\n~end 0\n", false),
            ("~end \n", false),
            ("", false),
        ] {
            assert_eq!(whole(text.as_bytes()).is_ok(), fine, "{text}");
        }
    }

    #[test]
    fn changes_in_all_forms_make_the_new_listing_from_the_old() {
        let old = b"d 1/a//\nf 2/b//\nf 3/c//\n";
        let new = b"d 1/a//\nf 2/aa//\nf 3/c//\nf 9/z//\n";
        let new_sum = sum(new);
        for changes in [
            &b"\tf 2/aa//\nf 2/b//\n\tf 9/z//\n"[..],
            b"2c2\n< f 2/b//\n---\n> f 2/aa//\n3a4\n> f 9/z//\n",
        ] {
            assert_eq!(apply_changes(old, changes, &new_sum).as_deref(), Some(&new[..]));
        }
        assert_eq!(apply_changes(old, b"", &sum(old)).as_deref(), Some(&old[..]));
        assert_eq!(apply_changes(old, b"", &new_sum), None);
        assert_eq!(apply_changes(b"", b"\tf 2/b//\n", &new_sum), None);
    }

    #[test]
    fn complaints_name_their_path() {
        for (line, path, words) in [
            ("find: './a b': Permission denied", "a b", "Permission denied"),
            ("find: './a\\'b\\n\\303\\244': Input/output error", "a'b\nä", "Input/output error"),
            ("find: ./a: b: Permission denied", "a: b", "Permission denied"),
            ("find: '.': Permission denied", "", "Permission denied"),
            (
                "stat: can't stat './a b': No such file or directory",
                "a b",
                "No such file or directory",
            ),
            ("stat: ./a: stat: Permission denied", "a", "stat: Permission denied"),
            ("stat: '.': Input/output error", "", "Input/output error"),
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
        for unsure in [
            "find: 'unended",
            "find: cannot open directory './a': Permission denied",
            "stat: can't stat './it's': No such file or directory",
            "stat: cannot statx './a\\'b': Input/output error",
            "stat: write error: No space left on device",
        ] {
            assert_eq!(complaint(unsure.as_bytes()), None, "{unsure}");
        }
        for elsewhere in ["../x", "/etc", "a//b", "a/../b", "a\\000b"] {
            let line = format!("find: '{elsewhere}': Permission denied");
            assert_eq!(complaint(line.as_bytes()), None, "{line}");
        }
    }
}

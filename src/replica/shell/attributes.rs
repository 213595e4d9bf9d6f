//! ACLs and extended attributes of a remote replica, as `attributes.sh` tells them.

use super::ShellReplica;
use super::answer::of_find;
use super::channel::OnStop;
use super::encode::{datum, paths as encode_paths, split};
use super::scripts::Piece;
use crate::replica::owners::Whose;
use crate::replica::{
    Acl, AttributeChange, Attributes, Op, PathError, ReplicaError, Unread, Wanted, Whom,
};
use crate::tree::RelPath;
use std::collections::{BTreeSet, HashMap};

type Found = Vec<Result<Option<Attributes>, PathError>>;

/// What an answer told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Tools that are missing.
    pub unread: Unread,
    /// By directory of the question (from 1; 0 in a scan) and path from there.
    pub found: HashMap<(usize, Vec<u8>), Attributes>,
    /// What the tools complained about and matters.
    pub complaint: Option<String>,
}

/// How far a question goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// The entries that are named.
    One,
    /// All below them too.
    Below,
    /// The same, and they are links to directories.
    Behind,
}

/// Complaints about what the listing knows already, or what has no attributes at all.
const FINE: [&str; 3] =
    ["Permission denied", "No such file or directory", "Operation not supported"];

/// Reads an answer; `None` if it is malformed or has no end.
pub(super) fn parse(bytes: &[u8], wanted: Wanted) -> Option<Told> {
    let mut told = Told::default();
    let (mut dir, mut path, mut of_lists) = (0, Vec::new(), true);
    let mut ended = false;
    for line in bytes.split(|b| *b == b'\n') {
        match line {
            b"" => {}
            b"#none acl" => told.unread.acl = true,
            b"#none xattr" => told.unread.xattr = true,
            b"#dir" => dir += 1,
            b"#acl" => of_lists = true,
            b"#xattr" => of_lists = false,
            b"#end" => ended = true,
            _ => {
                if let Some(name) = line.strip_prefix(b"# file: ") {
                    path = from_here(unquote(name)?);
                } else if let Some(words) = line.strip_prefix(b"#error ") {
                    // what find cannot enter, the listing has told
                    let is_told = of_find(words).is_some();
                    let words = String::from_utf8_lossy(words);
                    let is_fine = is_told || FINE.iter().any(|fine| words.ends_with(fine));
                    if !is_fine {
                        told.complaint.get_or_insert(words.into_owned());
                    }
                } else if !line.starts_with(b"#") {
                    let attributes = told.found.entry((dir, path.clone())).or_default();
                    if of_lists {
                        learn(attributes, std::str::from_utf8(line).ok()?)?;
                    } else {
                        let (name, value) = named(line)?;
                        if wanted.takes(&name) {
                            attributes.named.insert(name, value);
                        }
                    }
                }
            }
        }
    }
    for attributes in told.found.values_mut() {
        attributes.access = attributes.access.take().filter(|acl| !acl.is_plain());
    }
    ended.then_some(told)
}

fn from_here(path: Vec<u8>) -> Vec<u8> {
    let path = path.strip_prefix(b"./").map_or(path.clone(), <[u8]>::to_vec);
    if path == b"." { Vec::new() } else { path }
}

fn learn(attributes: &mut Attributes, line: &str) -> Option<()> {
    let (list, entry) = match line.strip_prefix("default:") {
        Some(entry) => (&mut attributes.default, entry),
        None => (&mut attributes.access, line),
    };
    list.get_or_insert_default().learn(entry).then_some(())
}

/// `user.name=0x6162`; nothing behind the name: no value.
fn named(line: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let Some(at) = line.iter().position(|b| *b == b'=') else {
        return Some((unquote(line)?, Vec::new()));
    };
    let digits = std::str::from_utf8(&line[at + 1..]).ok()?.strip_prefix("0x")?;
    // a number may have a sign, these digits not
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let byte = |at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    let value: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(byte).collect();
    Some((unquote(&line[..at])?, value?))
}

/// Both tools write odd bytes as `\012`, and one of them a backslash as two.
fn unquote(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        if *byte != b'\\' {
            out.push(*byte);
        } else if let Some(behind) = rest.strip_prefix(b"\\") {
            out.push(b'\\');
            rest = behind;
        } else {
            let digits = std::str::from_utf8(rest.get(..3)?).ok()?;
            if digits.starts_with('+') {
                return None;
            }
            out.push(u8::from_str_radix(digits, 8).ok()?);
            rest = &rest[3..];
        }
    }
    Some(out)
}

/// The form that `setfattr --restore` reads.
fn quote(text: &[u8]) -> String {
    let mut out = String::new();
    for byte in text {
        if byte.is_ascii_graphic() && !b"\\=".contains(byte) {
            out.push(char::from(*byte));
        } else {
            out.push_str(&format!("\\{byte:03o}"));
        }
    }
    out
}

/// The lines that begin a group of changes, behind its first word.
pub(super) fn head(change: &AttributeChange, out: &mut Vec<u8>, number: impl Fn(Whom) -> Whom) {
    let words = |acl: &Acl| acl.renumbered(&number).to_words();
    if let Some(acl) = &change.access {
        out.push(b'A');
        datum(out, words(acl).as_bytes());
    }
    if let Some(acl) = &change.default {
        let words = if *acl == Acl::default() { "-".to_owned() } else { words(acl) };
        out.push(b'D');
        datum(out, words.as_bytes());
    }
}

/// What `act_attr` reads of one entry's extended attributes.
pub(super) fn further(change: &AttributeChange, name: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for gone in &change.remove {
        out.push(b'-');
        out.extend_from_slice(gone);
        out.push(b'\n');
    }
    if !change.set.is_empty() {
        out.extend_from_slice(format!("# file: ./{}\n", quote(name)).as_bytes());
        for (name, value) in &change.set {
            let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
            out.extend_from_slice(format!("{}=0x{hex}\n", quote(name)).as_bytes());
        }
    }
    out
}

impl Wanted {
    /// The words of a request.
    pub(super) fn words(self) -> String {
        let kinds = match (self.acl, self.xattr) {
            (true, true) => "both",
            (true, false) => "acl",
            (false, true) => "xattr",
            (false, false) => "none",
        };
        format!("{kinds} {}", if self.all_spaces { "all" } else { "user" })
    }
}

impl ShellReplica {
    /// An answer read, with users and groups in this machine's numbers.
    pub(super) fn read_attributes(&mut self, answer: &[u8]) -> Result<Told, ReplicaError> {
        let told = parse(answer, self.wanted).ok_or_else(|| self.garbled("attributes"))?;
        if let Some(words) = told.complaint {
            return Err(self.error(format!("cannot read ACLs or extended attributes: {words}")));
        }
        let mut told = told;
        let ids: BTreeSet<_> = told
            .found
            .values()
            .flat_map(|found| [&found.access, &found.default])
            .flatten()
            .flat_map(Acl::named)
            .filter_map(key)
            .collect();
        let unknown = self.link()?.owners.not_asked(ids);
        self.ask_owners(unknown)?;
        let owners = &self.link()?.owners;
        for found in told.found.values_mut() {
            for list in [&mut found.access, &mut found.default] {
                *list = list.take().map(|acl| acl.renumbered(|whom| owners.whom_here(whom)));
            }
        }
        Ok(told)
    }

    /// What these paths have, or all below them too; nothing of those without any.
    pub(super) fn ask_attributes(
        &mut self,
        paths: &[RelPath],
        reach: Reach,
    ) -> Result<HashMap<RelPath, Attributes>, ReplicaError> {
        if paths.is_empty() || !self.wanted.any() {
            return Ok(HashMap::new());
        }
        let mut data = Vec::new();
        encode_paths(&mut data, paths.iter());
        let (depth, links) = match reach {
            Reach::One => ("one", self.links.word()),
            Reach::Below => ("below", self.links.word()),
            Reach::Behind => ("below", "behind"),
        };
        let words = format!("attributes {} {depth} {links}", self.wanted.words());
        let pieces = [Piece::Look, Piece::List, Piece::Attributes];
        let (status, answer) = self.ask(&pieces, &words, &data, OnStop::Finish)?;
        if status != 0 {
            return Err(self.garbled("attributes"));
        }
        let told = self.read_attributes(&answer)?;
        let mut dirs: Vec<RelPath> = paths.iter().map(|path| split(path).0).collect();
        dirs.dedup();
        let mut found = HashMap::new();
        for ((dir, path), attributes) in told.found {
            let dir = dir.checked_sub(1).and_then(|dir| dirs.get(dir));
            let dir = dir.ok_or_else(|| self.garbled("attributes"))?;
            let path = if path.is_empty() {
                dir.clone()
            } else if dir.is_root() {
                RelPath::new(path).map_err(|_| self.garbled("attributes"))?
            } else {
                let whole = [dir.as_bytes(), b"/", path.as_slice()].concat();
                RelPath::new(whole).map_err(|_| self.garbled("attributes"))?
            };
            found.insert(path, attributes);
        }
        Ok(found)
    }

    pub(super) fn attributes_of(&mut self, paths: &[RelPath]) -> Result<Found, ReplicaError> {
        let mut found = self.ask_attributes(paths, Reach::One)?;
        // looked at afterwards: what is gone now may have been told to have none
        let there = self.look_plainly(paths)?;
        Ok(paths
            .iter()
            .zip(there)
            .map(|(path, there)| Ok(there?.map(|_| found.remove(path).unwrap_or_default())))
            .collect())
    }

    /// Finds out the other machine's numbers for those whom these operations name.
    pub(super) fn learn_numbers(&mut self, ops: &[Op]) -> Result<(), ReplicaError> {
        let lists = ops.iter().filter_map(|op| match op {
            Op::SetAttributes { change, .. } => Some([&change.access, &change.default]),
            _ => None,
        });
        let ids: BTreeSet<_> =
            lists.flatten().flatten().flat_map(Acl::named).filter_map(key).collect();
        let named = self.link()?.owners.names_to_ask(ids);
        if named.is_empty() {
            return Ok(());
        }
        let mut data = Vec::new();
        for ((whose, _), name) in &named {
            data.push(if *whose == Whose::User { b'u' } else { b'g' });
            datum(&mut data, name.as_bytes());
        }
        data.extend_from_slice(b".\n");
        let pieces = [Piece::Attributes];
        let (_, answer) = self.ask(&pieces, "numbers", &data, OnStop::Finish)?;
        let owners = &mut self.link()?.owners;
        for ((who, _), line) in named.into_iter().zip(String::from_utf8_lossy(&answer).lines()) {
            owners.learn_there(who, line.parse().ok());
        }
        Ok(())
    }
}

/// A user or group as the owners' tables know it.
pub(super) fn key(whom: Whom) -> Option<(Whose, u32)> {
    match whom {
        Whom::User(id) => Some((Whose::User, id)),
        Whom::Group(id) => Some((Whose::Group, id)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted = Wanted { acl: true, xattr: true, all_spaces: false };

    #[test]
    fn what_the_tools_print_is_read() {
        let text = b"#acl\n# file: ./a b/q\\\\z\n# owner: 0\n# group: 0\n# flags: -s-\nuser::rwx\n\
            user:12:r--\ngroup::r-x\nmask::r-x\nother::---\ndefault:user::rwx\n\
            default:group::---\ndefault:other::---\n\n# file: .\nuser::rwx\ngroup::r-x\n\
            other::---\n\n#xattr\n# file: ./a b/q\\134z\nuser.empty=0x\nuser.we\\075ird=0x00ff\n\
            security.x=0x61\nuser.none\n\n#error getfacl: x: Permission denied\n#end\n";
        let told = parse(text, WANTED).unwrap();
        assert_eq!((told.unread, &told.complaint), (Unread::default(), &None));
        let found = &told.found[&(0, b"a b/q\\z".to_vec())];
        let words = |acl: &Option<Acl>| acl.as_ref().unwrap().to_words();
        assert_eq!(words(&found.access), "u::rwx,u:12:r--,g::r-x,m::r-x,o::---");
        assert_eq!(words(&found.default), "u::rwx,g::---,o::---");
        let named: Vec<(&[u8], &[u8])> =
            found.named.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        let expected: [(&[u8], &[u8]); 3] =
            [(b"user.empty", b""), (b"user.none", b""), (b"user.we=ird", b"\0\xff")];
        assert_eq!(named, expected);
        assert_eq!(told.found[&(0, Vec::new())].access, None, "no more than a mode");
    }

    #[test]
    fn missing_tools_complaints_and_cut_answers_are_told() {
        let told = parse(b"#none acl\n#none xattr\n#dir\n#end\n", WANTED).unwrap();
        assert_eq!(told.unread, Unread { acl: true, xattr: true });
        let told = parse(b"#error find: './l': Too many levels of symbolic links\n#end\n", WANTED);
        assert_eq!(told.unwrap().complaint, None, "the listing tells of links in a circle");
        let told = parse(b"#error getfattr: out of memory\n#end\n", WANTED).unwrap();
        assert_eq!(told.complaint.as_deref(), Some("getfattr: out of memory"));
        for cut in ["#acl\n# file: a\nuser::rwx\n", "", "#acl\n# file: a\nnonsense\n#end\n"] {
            assert_eq!(parse(cut.as_bytes(), WANTED), None, "{cut}");
        }
    }

    #[test]
    fn changes_are_written_as_setfattr_reads_them() {
        let change = AttributeChange {
            set: [(b"user.a=b".to_vec(), b"\x01\xfe".to_vec())].into(),
            remove: vec![b"user.gone".to_vec()],
            ..AttributeChange::default()
        };
        let expected = "-user.gone\n# file: ./n\\012\\134\\040x\nuser.a\\075b=0x01fe\n";
        assert_eq!(String::from_utf8(further(&change, b"n\n\\ x")).unwrap(), expected);
        assert_eq!(unquote(quote(b"n\n\\ x\xff").as_bytes()).unwrap(), b"n\n\\ x\xff");
    }

    #[test]
    fn digits_are_digits() {
        let value =
            |text: &str| named(format!("user.a=0x{text}").as_bytes()).map(|(_, value)| value);
        for (text, expected) in [("", Some(vec![])), ("0bFF", Some(vec![0x0b, 0xff]))] {
            assert_eq!(value(text), expected, "{text}");
        }
        for text in ["+b", "0", "0x", "zz", "-1"] {
            assert_eq!(value(text), None, "{text}");
        }
        for text in ["\\+12", "\\12", "\\8", "\\400"] {
            assert_eq!(unquote(text.as_bytes()), None, "{text}");
        }
    }
}

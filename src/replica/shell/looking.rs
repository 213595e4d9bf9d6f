//! Looking at single paths over there: entries, digests, ACLs and extended attributes
//! (`look.sh`, `attributes.sh`).

use super::ShellReplica;
use super::ops::failed;
use super::protocol::{
    Births, Record, Style, datum, device, of_find, parse, paths as encode_paths, split,
};
use super::session::{OnStop, Piece};
use crate::replica::attributes::{Owners, Whose};
use crate::replica::{
    Acl, AttributeChange, Attributes, DigestKind, Op, PathError, ReplicaError, Unread, Wanted,
    Whom, digest,
};
use crate::tree::same::is_as_scanned;
use crate::tree::{Entry, Extra, Kind, RelPath, hex};
use std::collections::{BTreeSet, HashMap, HashSet};

type Looks = Vec<Result<Option<Entry>, PathError>>;

/// What an answer to `stat` tells.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// What is there of what was asked for.
    pub found: HashMap<RelPath, Entry>,
    /// What is not there.
    pub gone: HashSet<RelPath>,
    /// Directories that are not there.
    pub gone_dirs: HashSet<RelPath>,
    /// Directories that could not be entered.
    pub denied: Vec<RelPath>,
}

/// Reads an answer to `stat`; `None` if it is malformed. Each of the directories of the question
/// begins one of the answer, and what stands behind it are bare names in it, or itself.
pub(super) fn told(
    answer: &[u8],
    dirs: &mut dyn Iterator<Item = RelPath>,
    style: Style,
) -> Option<Told> {
    let mut told = Told::default();
    let mut here = RelPath::root();
    let mut births = Births::default();
    for piece in answer.split(|b| *b == 0).filter(|piece| !piece.is_empty()) {
        match piece {
            b">" => here = dirs.next()?,
            b"!gone" => {
                here = dirs.next()?;
                told.gone_dirs.insert(here.clone());
            }
            [b'-', name @ ..] => {
                let path = match name {
                    b"." => here.clone(),
                    name if !name.contains(&b'/') => here.join(name),
                    _ => return None,
                };
                told.gone.insert(path);
            }
            b"!denied" => {
                here = dirs.next()?;
                told.denied.push(here.clone());
            }
            [b'=', birth @ ..] => births.learn(birth).ok()?,
            _ => {
                let Record { path, entry, .. } = parse(piece, style).ok()?;
                let path = match path.as_slice() {
                    b"" => here.clone(),
                    name if !name.contains(&b'/') => here.join(name),
                    _ => return None,
                };
                told.found.insert(path, entry);
            }
        }
    }
    told.found.values_mut().for_each(|entry| births.complete(entry));
    dirs.next().is_none().then_some(told)
}

impl ShellReplica {
    pub(super) fn look_at(&mut self, paths: &[RelPath]) -> Result<Looks, ReplicaError> {
        let mut looks = self.look_plainly(paths)?;
        let attributes = self.ask_attributes(paths, Reach::One)?;
        for (path, look) in paths.iter().zip(&mut looks) {
            if let (Ok(Some(entry)), Some(found)) = (look, attributes.get(path)) {
                found.digest_into(entry);
            }
        }
        Ok(looks)
    }

    /// The same without a look at ACLs and extended attributes.
    pub(super) fn look_plainly(&mut self, paths: &[RelPath]) -> Result<Looks, ReplicaError> {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        let mut data = Vec::new();
        encode_paths(&mut data, paths.iter());
        let (status, answer) =
            self.ask(&[Piece::Look], &self.asking("stat"), &data, OnStop::Finish)?;
        let style = self.link()?.style;
        let told = told(&answer, &mut directories(paths), style).filter(|_| status == 0);
        let Told { mut found, gone, gone_dirs, denied } =
            told.ok_or_else(|| self.garbled("stat"))?;
        self.complete(
            &mut found.iter_mut().map(|(path, entry)| (path.clone(), entry)).collect::<Vec<_>>(),
        )?;
        // what is not told of is not gone: something over there did not do its work
        let untold = paths.iter().find(|path| {
            let dir = split(path).0;
            !found.contains_key(*path)
                && !gone.contains(*path)
                && !gone_dirs.contains(&dir)
                && !denied.contains(&dir)
        });
        if let Some(path) = untold {
            return Err(self.error(format!("the programs over there did not tell about {path}")));
        }
        let mut look = |path: &RelPath| match found.remove(path) {
            _ if gone.contains(path) => Ok(None),
            None if denied.contains(&split(path).0) => {
                Err(failed("enter its directory", "Permission denied"))
            }
            entry => Ok(entry),
        };
        // a path asked for twice is answered twice
        let mut answers: HashMap<&RelPath, Result<Option<Entry>, PathError>> = HashMap::new();
        Ok(paths
            .iter()
            .map(|path| answers.entry(path).or_insert_with(|| look(path)).clone())
            .collect())
    }

    /// The words of a request that looks at entries as the scan did.
    pub(super) fn asking(&self, what: &str) -> String {
        format!("{what} {}", self.links.word())
    }

    /// Asks for what the records do not hold: names of owners, numbers of device nodes;
    /// and puts this machine's numbers for owners into the entries.
    pub(super) fn complete(
        &mut self,
        entries: &mut [(RelPath, &mut Entry)],
    ) -> Result<(), ReplicaError> {
        let unknown = self.link()?.owners.unknown(entries.iter().map(|(_, entry)| &**entry));
        self.ask_owners(unknown)?;
        let owners = &self.link()?.owners;
        for (_, entry) in entries.iter_mut() {
            owners.translate(entry);
        }
        let mut devices: Vec<_> = entries
            .iter_mut()
            .filter(|(_, entry)| {
                matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice)
                    && entry.extra().rdev == 0
            })
            .collect();
        if devices.is_empty() {
            return Ok(());
        }
        let mut data = Vec::new();
        encode_paths(&mut data, devices.iter().map(|(path, _)| path));
        let pieces = [Piece::Look, Piece::List];
        let (status, answer) = self.ask(&pieces, &self.asking("devices"), &data, OnStop::Finish)?;
        let text = String::from_utf8_lossy(&answer);
        if status != 0 || text.lines().count() != devices.len() {
            return Err(self.garbled("devices"));
        }
        for (line, (_, entry)) in text.lines().zip(&mut devices) {
            let (major, minor) = line.split_once(' ').unwrap_or_default();
            entry.set_extra(Extra { rdev: device(major, minor, 16), ..entry.extra().clone() });
        }
        Ok(())
    }

    /// Asks for the names of these owners, if there are any.
    pub(super) fn ask_owners(
        &mut self,
        unknown: BTreeSet<(Whose, u32)>,
    ) -> Result<(), ReplicaError> {
        if unknown.is_empty() {
            return Ok(());
        }
        let count = unknown.len();
        let mut data: String = unknown.into_iter().map(Owners::line).collect();
        data.push_str(".\n");
        let pieces = [Piece::Look, Piece::List];
        let (status, answer) = self.ask(&pieces, "owners", data.as_bytes(), OnStop::Finish)?;
        if status != 0 || String::from_utf8_lossy(&answer).lines().count() != count {
            return Err(self.garbled("owners"));
        }
        let owners = &mut self.link()?.owners;
        for line in String::from_utf8_lossy(&answer).lines() {
            if let Some(line) = line.strip_prefix("#owner ") {
                owners.learn(line);
            }
        }
        Ok(())
    }

    pub(super) fn sums_of(
        &mut self,
        kind: DigestKind,
        scanned: &[(RelPath, Entry)],
    ) -> Result<Vec<Result<[u8; 32], PathError>>, ReplicaError> {
        if scanned.is_empty() {
            return Ok(Vec::new());
        }
        let mut data = Vec::new();
        encode_paths(&mut data, scanned.iter().map(|(path, _)| path));
        let sort = if kind == DigestKind::Cksum { "cksum" } else { "sha256" };
        let words = format!("{} {sort}", self.asking("digest"));
        let (status, answer) = self.ask(&[Piece::Look], &words, &data, OnStop::GiveUp)?;
        let text = String::from_utf8_lossy(&answer);
        let sums: Option<Vec<_>> = text.lines().map(|line| digest(line, kind)).collect();
        let mut sums = match sums {
            Some(sums) if status == 0 && sums.len() == scanned.len() => sums,
            _ => return Err(self.garbled("digest")),
        };
        // no shell can look at the very file that it reads: whether it still is the one
        let paths: Vec<RelPath> = scanned.iter().map(|(path, _)| path.clone()).collect();
        for ((sum, now), (_, scanned)) in
            sums.iter_mut().zip(self.look_plainly(&paths)?).zip(scanned)
        {
            let is_same = matches!(&now, Ok(Some(now)) if is_as_scanned(scanned, now));
            if sum.is_ok() && !is_same {
                *sum = Err(PathError::Changed);
            }
        }
        Ok(sums)
    }
}

/// The directories of these paths, as often as they begin anew.
fn directories(paths: &[RelPath]) -> std::vec::IntoIter<RelPath> {
    let mut all: Vec<RelPath> = paths.iter().map(|path| split(path).0).collect();
    all.dedup();
    all.into_iter()
}

/// One line of the answer to `digest`.
pub(super) fn digest(line: &str, kind: DigestKind) -> Option<Result<[u8; 32], PathError>> {
    match line.strip_prefix("- ") {
        Some("gone") => Some(Err(PathError::Vanished)),
        Some("other") => Some(Err(PathError::Changed)),
        Some("denied") => Some(Err(unreadable("Permission denied"))),
        Some(words) => Some(Err(unreadable(words))),
        None if kind == DigestKind::Cksum => {
            let (crc, length) = line.trim().split_once(char::is_whitespace)?;
            Some(Ok(digest::digest((crc.parse().ok()?, length.trim().parse().ok()?))))
        }
        None => {
            let mut sum = [0; 32];
            // a number may have a sign, a digest not
            if line.len() != 64 || !line.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            for (at, byte) in sum.iter_mut().enumerate() {
                *byte = u8::from_str_radix(line.get(2 * at..2 * at + 2)?, 16).ok()?;
            }
            Some(Ok(sum))
        }
    }
}

fn unreadable(words: &str) -> PathError {
    PathError::Failed { action: "read it".into(), cause: words.to_owned() }
}

type Found = Vec<Result<Option<Attributes>, PathError>>;

/// What an answer told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct AttributesTold {
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
pub(super) fn parse_attributes(bytes: &[u8], wanted: Wanted) -> Option<AttributesTold> {
    let mut told = AttributesTold::default();
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
            out.extend_from_slice(format!("{}=0x{}\n", quote(name), hex(value)).as_bytes());
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
    pub(super) fn read_attributes(
        &mut self,
        answer: &[u8],
    ) -> Result<AttributesTold, ReplicaError> {
        let told =
            parse_attributes(answer, self.wanted).ok_or_else(|| self.garbled("attributes"))?;
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
        let ids: BTreeSet<_> = lists.flatten().flatten().flat_map(Acl::named).collect();
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

#[cfg(test)]
mod looking_tests {
    use super::*;

    #[test]
    fn an_answer_to_stat_tells_of_bare_names_in_the_directories_asked_for_and_of_nothing_else() {
        let record = |path: &str| format!("f 644 0 0 1 77 1 12 1.5 2.5 0/{path}//\0");
        let dirs = ["d", "e"].map(|dir| RelPath::new(dir).unwrap());
        let told = |answer: &str| {
            super::told(answer.as_bytes(), &mut dirs.iter().cloned(), Style::Gnu).map(|told| {
                let mut found: Vec<String> = told.found.keys().map(RelPath::shown).collect();
                found.sort();
                (found.join(" "), told.denied)
            })
        };
        let (a, itself) = (record("a"), record(""));
        let answer = format!(">\0{a}{itself}!denied\0");
        assert_eq!(told(&answer), Some(("d d/a".to_owned(), vec![dirs[1].clone()])));
        assert_eq!(told("!gone\0>\0-x\0"), Some((String::new(), Vec::new())));
        for bad in [
            format!(">\0{}>\0", record("a/b")),
            format!(">\0{}>\0", record("..")),
            format!(">\0{}>\0", record("/a")),
            ">\0-a/b\0>\0".to_owned(),
            ">\0".to_owned(),
            ">\0>\0>\0".to_owned(),
            ">\0nonsense\0>\0".to_owned(),
        ] {
            assert_eq!(told(&bad), None, "{bad}");
        }
    }

    #[test]
    fn digests_and_refusals_are_read() {
        let sum = "ab".repeat(32);
        let crc = |line: &str| super::digest(line, DigestKind::Cksum);
        let digest = |line: &str| super::digest(line, DigestKind::Sha256);
        assert_eq!(crc("4294967295 0"), Some(Ok(digest::digest((u32::MAX, 0)))));
        assert_eq!(crc("- gone"), Some(Err(PathError::Vanished)));
        for line in ["", "12", "x 1", "4294967296 1", &sum] {
            assert_eq!(crc(line), None, "{line}");
        }
        assert_eq!(digest(&sum), Some(Ok([0xab; 32])));
        assert_eq!(digest("- gone"), Some(Err(PathError::Vanished)));
        assert_eq!(digest("- No such device"), Some(Err(unreadable("No such device"))));
        let signed = format!("+b{}", &sum[2..]);
        for line in ["", "abc", &sum[1..], &format!("{sum}x"), &"zz".repeat(32), &signed] {
            assert_eq!(digest(line), None, "{line}");
        }
    }
}

#[cfg(test)]
mod attributes_tests {
    use super::*;

    const WANTED: Wanted = Wanted { acl: true, xattr: true, all_spaces: false };

    #[test]
    fn what_the_tools_print_is_read() {
        let text = b"#acl\n# file: ./a b/q\\\\z\n# owner: 0\n# group: 0\n# flags: -s-\nuser::rwx\n\
            user:12:r--\ngroup::r-x\nmask::r-x\nother::---\ndefault:user::rwx\n\
            default:group::---\ndefault:other::---\n\n# file: .\nuser::rwx\ngroup::r-x\n\
            other::---\n\n#xattr\n# file: ./a b/q\\134z\nuser.empty=0x\nuser.we\\075ird=0x00ff\n\
            security.x=0x61\nuser.none\n\n#error getfacl: x: Permission denied\n#end\n";
        let told = parse_attributes(text, WANTED).unwrap();
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
        let told = parse_attributes(b"#none acl\n#none xattr\n#dir\n#end\n", WANTED).unwrap();
        assert_eq!(told.unread, Unread { acl: true, xattr: true });
        let told = parse_attributes(
            b"#error find: './l': Too many levels of symbolic links\n#end\n",
            WANTED,
        );
        assert_eq!(told.unwrap().complaint, None, "the listing tells of links in a circle");
        let told = parse_attributes(b"#error getfattr: out of memory\n#end\n", WANTED).unwrap();
        assert_eq!(told.complaint.as_deref(), Some("getfattr: out of memory"));
        for cut in ["#acl\n# file: a\nuser::rwx\n", "", "#acl\n# file: a\nnonsense\n#end\n"] {
            assert_eq!(parse_attributes(cut.as_bytes(), WANTED), None, "{cut}");
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

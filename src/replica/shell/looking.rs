//! Looking at single paths over there, and digests.

use super::ShellReplica;
use super::attributes::Reach;
use super::channel::OnStop;
use super::encode::{paths as encode_paths, split};
use super::ops::failed;
use super::record::{Births, Record, Style, device, parse};
use super::scripts::Piece;
use crate::replica::owners::{Owners, Whose};
use crate::replica::{DigestKind, PathError, ReplicaError, cksum};
use crate::tree::same::is_as_scanned;
use crate::tree::{Entry, Extra, Kind, RelPath};
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

/// Reads an answer to `stat`; `None` if it is malformed. Each of the directories of the question begins
/// one of the answer, and what stands behind it are bare names in it, or itself.
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
            Some(Ok(cksum::digest((crc.parse().ok()?, length.trim().parse().ok()?))))
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

#[cfg(test)]
mod tests {
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
        assert_eq!(crc("4294967295 0"), Some(Ok(cksum::digest((u32::MAX, 0)))));
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

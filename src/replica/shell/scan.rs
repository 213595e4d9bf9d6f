//! Scanning a remote replica: the whole tree is listed over there, and where both sides
//! have the last listing, only what differs from it travels.

use super::answer::{Answer, Form, apply_changes, complaint, lines, take_apart, whole};
use super::attributes::Reach;
use super::channel::{Excess, OnStop, RecordLength, Room};
use super::encode::{datum, literal_pattern, paths as encode_paths};
use super::listing::{CHANGED, Listing, NoTree, Rules};
use super::record::{Births, Record, Style, parse_line};
use super::scripts::Piece;
use super::{Links, ShellReplica};
use crate::filter::{Filter, Prune};
use crate::replica::owners::Owners;
use crate::replica::{
    Attributes, PathError, ReplicaError, Scan, ScanRequest, Unread, WORK_DIR, Wanted,
};
use crate::tree::path::escape;
use crate::tree::{Entry, RelPath, Tree};
use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// More directories than this are not named to the other side: its command line is finite.
const MOST_PRUNES: usize = 200;

/// How often a tree is listed that changes while it is.
const MOST_TRIES: usize = 3;

/// What came of one listing.
enum Listed {
    /// All of it.
    Whole(Listing, Unread),
    /// It does not count, and why. What we have of the last one may be to blame, or a change
    /// in its midst.
    Not(String),
}

impl ShellReplica {
    /// Lists everything. What is not a whole listing is none: it never becomes a smaller
    /// tree (spec 8, "Absent").
    pub(super) fn list_all(&mut self, request: &ScanRequest<'_>) -> Result<Scan, ReplicaError> {
        (self.wanted, self.links) = (request.attributes, Links::of(request));
        let asked_for = self.wanted;
        let mut old = self.last_listing();
        let mut why = String::new();
        for _ in 0..MOST_TRIES {
            self.wanted = asked_for;
            let (mut listing, unread) = match self.listing_with(request, &old)? {
                Listed::Whole(listing, unread) => (listing, unread),
                Listed::Not(cause) => {
                    why = cause;
                    old.clear();
                    continue;
                }
            };
            self.wanted.acl &= !unread.acl;
            self.wanted.xattr &= !unread.xattr;
            self.add_behind_links(&mut listing, &RelPath::root(), Some(request.filter))?;
            (request.seen)(listing.records.len() as u64);
            let base = RelPath::root();
            let rules = Rules {
                filter: Some(request.filter),
                copy_symlinks: request.copy_symlinks,
                side: self.side,
                base: &base,
            };
            match listing.into_tree(&rules) {
                Ok((tree, problems)) => return Ok(Scan { tree, problems, unread }),
                Err(NoTree::TooLarge(cause)) => return Err(self.error(cause.to_string())),
                Err(cause) => why = cause.to_string(),
            }
        }
        Err(self.error(format!("cannot list it, so nothing is decided and nothing touched: {why}")))
    }

    /// One listing. `old` is what we have of the last one.
    fn listing_with(
        &mut self,
        request: &ScanRequest<'_>,
        old: &[u8],
    ) -> Result<Listed, ReplicaError> {
        self.prunes = prunes(request.filter);
        let mut answer = match self.fetch_listing(self.wanted, old, request.seen)? {
            Ok(answer) => answer,
            Err(cause) => return Ok(Listed::Not(cause)),
        };
        let told = std::mem::take(&mut answer.attributes);
        let mut listing = match self.read_listing(&answer)? {
            Ok(listing) => listing,
            Err(cause) => return Ok(Listed::Not(cause)),
        };
        let mut unread = Unread::default();
        if self.wanted.any() {
            let mut told = self.read_attributes(&told)?;
            unread = told.unread;
            for Record { path, entry, .. } in &mut listing.records {
                // the key is put together only where there is something to find
                if !told.found.is_empty()
                    && let Some(attributes) = told.found.remove(&(0, path.clone()))
                {
                    attributes.digest_into(entry);
                }
            }
        }
        (request.seen)(listing.records.len() as u64);
        Ok(Listed::Whole(listing, unread))
    }

    /// Has what was changed since the scan listed again, so that both copies of the listing are
    /// up to date when the next run begins.
    pub(super) fn list_again(&mut self) {
        if self.cache.is_none() || self.read_only || self.prunes.is_empty() {
            return;
        }
        let old = self.last_listing();
        // without it, the next run is told all, and nothing is lost
        let _ = self.fetch_listing(Wanted::default(), &old, &|_| ());
    }

    /// The answer to one request for a listing, of which the lines are the whole one, and kept;
    /// or why it does not count.
    fn fetch_listing(
        &mut self,
        wanted: Wanted,
        old: &[u8],
        tell: &(dyn Fn(u64) + Sync),
    ) -> Result<std::result::Result<Answer, String>, ReplicaError> {
        let write = if self.read_only { "look" } else { "write" };
        let data = self.scan_data(old)?;
        let pieces = [Piece::Look, Piece::List, Piece::Attributes];
        let words = format!("scan {} {write} {}", self.links.word(), wanted.words());
        let pieces = &pieces[..if wanted.any() { 3 } else { 2 }];
        let mut said = Vec::new();
        let mut seen = 0;
        let mut told = 0;
        let mut order = Order::default();
        let asked =
            self.link()?.channel.request(pieces, &words, &data, OnStop::GiveUp, &mut |bytes| {
                order.pass(bytes)?;
                seen += bytes.iter().filter(|b| **b == b'\n').count() as u64;
                if seen / 4096 != told / 4096 {
                    tell(seen);
                    told = seen;
                }
                said.extend_from_slice(bytes);
                Ok(())
            });
        let status = asked.map_err(|cause| self.broken(&cause))?;
        if status != 0 {
            let said = String::from_utf8_lossy(&said);
            return Err(self.error(format!("cannot list it: {}", said.trim())));
        }
        let Some(mut answer) = take_apart(&said) else {
            return Ok(Err("its answer is not whole".to_owned()));
        };
        drop(said);
        if answer.form == Form::Changes {
            match apply_changes(old, &answer.lines, &answer.sum) {
                Some(whole) => answer.lines = whole,
                None => return Ok(Err("its changes do not fit the last listing".to_owned())),
            }
        }
        if answer.form != Form::Once && answer.lines != old {
            self.keep_listing(&answer.lines);
        }
        Ok(Ok(answer))
    }

    fn scan_data(&mut self, old: &[u8]) -> Result<Vec<u8>, ReplicaError> {
        let mut data = Vec::new();
        let cached = self.remote_cache().filter(|_| self.cache.is_some());
        datum(&mut data, &cached.unwrap_or_default());
        let checker = self.link()?.checker;
        let known = if old.is_empty() { String::new() } else { checker.sum(old) };
        datum(&mut data, known.as_bytes());
        for who in self.owners_in(old)? {
            data.extend_from_slice(Owners::line(who).as_bytes());
        }
        data.extend_from_slice(&self.prunes);
        data.extend_from_slice(b".\n");
        Ok(data)
    }

    /// Where the other side keeps its listing.
    fn remote_cache(&mut self) -> Option<Vec<u8>> {
        // a dry run makes nothing; without a work directory there is no listing to use
        if self.read_only && !self.link().is_ok_and(|link| link.has_work_dir) {
            return None;
        }
        let dir = match &self.options.state_dir {
            Some(dir) => dir.clone(),
            None => self.root.join(Path::new(std::ffi::OsStr::from_bytes(WORK_DIR))).join("state"),
        };
        let file = dir.join(format!("listing-{}", self.options.instance_id));
        Some(file.into_os_string().as_bytes().to_vec())
    }

    /// The owners of the last listing: their names come along with the new one.
    fn owners_in(
        &mut self,
        old: &[u8],
    ) -> Result<std::collections::BTreeSet<(crate::replica::owners::Whose, u32)>, ReplicaError>
    {
        let link = self.link()?;
        let style = link.style;
        let records: Vec<Entry> =
            lines(old).filter_map(|line| parse_line(line, style).ok()).map(|r| r.entry).collect();
        Ok(link.owners.unknown(records.iter()))
    }

    fn last_listing(&self) -> Vec<u8> {
        self.cache.as_ref().and_then(|file| std::fs::read(file).ok()).unwrap_or_default()
    }

    /// A copy that cannot be kept only makes the next run slower.
    fn keep_listing(&self, lines: &[u8]) {
        let Some(file) = self.cache.as_ref().filter(|_| !self.read_only) else { return };
        let Some(dir) = file.parent() else { return };
        // a temporary file is for this user only: the listing names private files
        if let Ok(mut new) = tempfile::NamedTempFile::new_in(dir)
            && new.write_all(lines).is_ok()
        {
            let _ = new.persist(file);
        }
    }

    /// Records and complaints of an answer, owners in this machine's numbers; or why it does
    /// not count.
    fn read_listing(
        &mut self,
        answer: &Answer,
    ) -> Result<std::result::Result<Listing, String>, ReplicaError> {
        let link = self.link()?;
        let style = link.style;
        for owner in &answer.owners {
            link.owners.learn(owner);
        }
        let mut listing = match listing_from(&answer.lines, style) {
            Ok(listing) => listing,
            Err(cause) => return Ok(Err(cause)),
        };
        self.complete_listing(&mut listing)?;
        Ok(Ok(listing))
    }

    fn complete_listing(&mut self, listing: &mut Listing) -> Result<(), ReplicaError> {
        let mut entries: Vec<(RelPath, &mut Entry)> = Vec::new();
        let mut plain: Vec<&mut Entry> = Vec::new();
        let link = self.link()?;
        let unknown = link.owners.unknown(listing.records.iter().map(|r| &r.entry));
        for Record { path, entry, .. } in &mut listing.records {
            let special = matches!(
                entry.kind,
                crate::tree::Kind::CharDevice | crate::tree::Kind::BlockDevice
            );
            let new_owner = unknown.iter().any(|(_, id)| *id == entry.uid || *id == entry.gid);
            if special || new_owner {
                let path = RelPath::new(path.as_slice()).unwrap_or_default();
                entries.push((path, entry));
            } else {
                plain.push(entry);
            }
        }
        for entry in plain {
            link.owners.translate(entry);
        }
        self.complete(&mut entries)
    }

    pub(super) fn list_below(
        &mut self,
        paths: &[RelPath],
    ) -> Result<Vec<Result<Option<Tree>, PathError>>, ReplicaError> {
        let found = self.listings_below(paths, Reach::Below)?;
        let side = self.side;
        paths
            .iter()
            .zip(found)
            .map(|(base, found)| match found {
                Err(error) => Ok(Err(error)),
                Ok(None) => Ok(Ok(None)),
                Ok(Some(mut listing)) => {
                    self.add_behind_links(&mut listing, base, None)?;
                    let copy_symlinks = self.links == Links::All;
                    let rules = Rules { filter: None, copy_symlinks, side, base };
                    let tree = listing.into_tree(&rules);
                    let (tree, _) = tree.map_err(|cause| self.error(cause.to_string()))?;
                    Ok(Ok(Some(tree)))
                }
            })
            .collect()
    }

    /// What there is at and below some paths, relative to each; `None` where nothing is.
    pub(super) fn listings_below(
        &mut self,
        paths: &[RelPath],
        reach: Reach,
    ) -> Result<Vec<Result<Option<Listing>, PathError>>, ReplicaError> {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        let mut data = Vec::new();
        encode_paths(&mut data, paths.iter());
        let pieces = [Piece::Look, Piece::List];
        let words = match reach {
            Reach::Behind => "below behind".to_owned(),
            _ => self.asking("below"),
        };
        let (status, answer) =
            self.ask_with(&pieces, &words, &data, OnStop::GiveUp, Room::Records)?;
        let found = blocks(&answer).filter(|found| status == 0 && found.len() == paths.len());
        let found = found.ok_or_else(|| self.garbled("below"))?;
        let attributes = self.ask_attributes(paths, reach)?;
        let mut listings = Vec::new();
        for (path, records) in paths.iter().zip(found) {
            listings.push(match records {
                Block::Told(lines) => Ok(self.listing_of(path, lines, reach, &attributes)?),
                Block::Gone => Ok(None),
                Block::Denied => {
                    Err(super::ops::failed("enter its directory", "Permission denied"))
                }
            });
        }
        Ok(listings)
    }

    /// The listing of one path from its lines, whose paths all begin with its name.
    fn listing_of(
        &mut self,
        path: &RelPath,
        lines: &[u8],
        reach: Reach,
        attributes: &HashMap<RelPath, Attributes>,
    ) -> Result<Option<Listing>, ReplicaError> {
        let style = self.link()?.style;
        let name = super::encode::split(path).1.to_vec();
        let strip = |found: &[u8]| -> Option<Vec<u8>> {
            if name == b"." || found == name {
                return Some(if name == b"." { found.to_vec() } else { Vec::new() });
            }
            found.strip_prefix(name.as_slice())?.strip_prefix(b"/").map(<[u8]>::to_vec)
        };
        let found = listing_from(lines, style);
        let found = found.map_err(|cause| self.error(format!("cannot list {path}: {cause}")))?;
        let mut listing = Listing::default();
        for mut record in found.records {
            record.path = strip(&record.path).ok_or_else(|| self.garbled("below"))?;
            listing.records.push(record);
        }
        for (path, words) in found.closed {
            // the record of the link itself is known already
            if reach == Reach::Behind && path == name && words == CHANGED {
                continue;
            }
            let path = strip(&path).ok_or_else(|| self.garbled("below"))?;
            listing.closed.insert(path, words);
        }
        if !listing.records.iter().any(|record| record.path.is_empty()) {
            return Ok(None);
        }
        self.complete_listing(&mut listing)?;
        for record in listing.records.iter_mut().filter(|_| !attributes.is_empty()) {
            let at = record.path.split(|b| *b == b'/').filter(|name| !name.is_empty());
            if let Some(found) = attributes.get(&at.fold(path.clone(), |at, name| at.join(name))) {
                found.digest_into(&mut record.entry);
            }
        }
        Ok(Some(listing))
    }
}

/// What need not be entered over there. What another task keeps in its work directory need not
/// be listed either.
fn prunes(filter: &Filter) -> Vec<u8> {
    let mut data = Vec::new();
    let nested = std::iter::once(Prune::Name(WORK_DIR));
    for prune in nested.chain(filter.prunable()).take(MOST_PRUNES) {
        match prune {
            Prune::Name(name) => datum(&mut data, &literal_pattern(name)),
            Prune::Path(path) => {
                data.push(b'>');
                let mut place = b"./".to_vec();
                place.extend_from_slice(&literal_pattern(path));
                datum(&mut data, &place);
            }
        }
    }
    data
}

/// The listing that these lines are; or why they are none.
pub(super) fn listing_from(text: &[u8], style: Style) -> Result<Listing, String> {
    let whole = whole(text).map_err(|cause| cause.to_string())?;
    let mut listing = Listing::default();
    let not_understood =
        |line: &[u8]| format!("a line of its listing is not understood: {}", escape(line));
    let parsed = |line: &&[u8]| parse_line(line, style).map_err(|_| not_understood(line));
    let mut records = whole.records.iter().map(parsed).collect::<Result<Vec<Record>, String>>()?;
    let mut births = Births::default();
    for line in whole.births {
        births.learn(line).map_err(|_| not_understood(line))?;
    }
    records.iter_mut().for_each(|record| births.complete(&mut record.entry));
    listing.take_all(records.into_iter());
    for line in whole.complaints {
        if let Some((path, words)) = complaint(line) {
            listing.closed.entry(path).or_insert(words);
        } else if !line.starts_with(b"find: warning") {
            // what cannot be laid at any path's door concerns them all
            return Err(String::from_utf8_lossy(line).into_owned());
        }
    }
    Ok(listing)
}

/// What was told of one path of a request for what is below.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Block<'a> {
    /// The lines of its listing.
    Told(&'a [u8]),
    /// Its directory is not there.
    Gone,
    /// Its directory cannot be entered.
    Denied,
}

/// The answer to such a request; `None` if it is malformed or not whole.
pub(super) fn blocks(answer: &[u8]) -> Option<Vec<Block<'_>>> {
    let mut found = Vec::new();
    let mut rest = answer;
    while !rest.is_empty() {
        let end = rest.iter().position(|b| *b == b'\n')?;
        let head = &rest[..end];
        rest = &rest[end + 1..];
        match head {
            b"<gone" => found.push(Block::Gone),
            b"<denied" => found.push(Block::Denied),
            b">" => {
                let mut length = 0;
                loop {
                    let line = rest[length..].iter().position(|b| *b == b'\n')?;
                    let is_last = rest[length..].starts_with(b"~end ");
                    length += line + 1;
                    if is_last {
                        break;
                    }
                }
                found.push(Block::Told(&rest[..length]));
                rest = &rest[length..];
            }
            _ => return None,
        }
    }
    Some(found)
}

/// Watches a listing as it comes: its lines are no longer than any can be, and a sorted one
/// never says the same again, so no other side can go on for ever.
#[derive(Debug, Default)]
struct Order {
    length: RecordLength,
    line: Vec<u8>,
    last: Vec<u8>,
    part: Part,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Head,
    Sorted,
    Other,
}

impl Order {
    fn pass(&mut self, bytes: &[u8]) -> Result<(), Excess> {
        self.length.pass(bytes)?;
        if self.part == Part::Other {
            return Ok(());
        }
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.last() != Some(&b'\n') {
                continue;
            }
            match self.part {
                Part::Head if self.line == b"#full\n" => self.part = Part::Sorted,
                Part::Sorted if !self.line.starts_with(b"#") => {
                    if self.line <= self.last {
                        return Err(Excess("sends a listing that is not in order"));
                    }
                    std::mem::swap(&mut self.last, &mut self.line);
                }
                _ => {
                    self.part = Part::Other;
                    return Ok(());
                }
            }
            self.line.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_is_told_whole_or_not_at_all() {
        let text = b">\nf x/a//\n~end 0\n<denied\n>\n~end 0\n<gone\n";
        let expected = [
            Block::Told(b"f x/a//\n~end 0\n"),
            Block::Denied,
            Block::Told(b"~end 0\n"),
            Block::Gone,
        ];
        assert_eq!(blocks(text).unwrap(), expected);
        for bad in [&b">\n"[..], b">\nf x/a//\n", b"f x/a//\n~end 0\n", b">\n~end 0", b"<\n"] {
            assert_eq!(blocks(bad), None);
        }
    }

    #[test]
    fn a_sorted_listing_that_goes_back_is_given_up_while_it_comes() {
        for (text, fine) in [
            ("#full\na\nb\n~end 0\n#sum x\na\n", true),
            ("#full\nb\na\n", false),
            ("#full\na\na\n", false),
            ("#once\nb\na\n", true),
            ("#changes\nb\na\n", true),
        ] {
            for size in [1, 3, 100] {
                let mut order = Order::default();
                let all = text.as_bytes().chunks(size).all(|piece| order.pass(piece).is_ok());
                assert_eq!(all, fine, "{text} {size}");
            }
        }
    }
}

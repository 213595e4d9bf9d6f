//! Scanning a remote replica: the whole tree is listed over there, and where both sides
//! have the last listing, only what differs from it travels.

use super::answer::{Answer, apply_changes, complaint, lines, take_apart};
use super::attributes::Reach;
use super::channel::OnStop;
use super::encode::{datum, literal_pattern, paths as encode_paths};
use super::listing::{Listing, Rules};
use super::record::{Record, Style, parse};
use super::scripts::Piece;
use super::{Links, ShellReplica};
use crate::filter::Prune;
use crate::replica::cksum::cksum;
use crate::replica::owners::Owners;
use crate::replica::{Attributes, PathError, ReplicaError, Scan, ScanRequest, Unread, WORK_DIR};
use crate::tree::{Entry, RelPath, Tree};
use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// More directories than this are not named to the other side: its command line is finite.
const MOST_PRUNES: usize = 200;

impl ShellReplica {
    pub(super) fn list_all(&mut self, request: &ScanRequest<'_>) -> Result<Scan, ReplicaError> {
        (self.wanted, self.links) = (request.attributes, Links::of(request));
        let old = self.last_listing();
        let mut listing = self.listing_with(request, &old)?;
        if listing.is_none() {
            listing = self.listing_with(request, &[])?;
        }
        let (mut listing, unread) = listing.ok_or_else(|| self.garbled("scan"))?;
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
        let (tree, problems) =
            listing.into_tree(&rules).map_err(|cause| self.error(cause.to_string()))?;
        Ok(Scan { tree, problems, unread })
    }

    /// One listing. `old` is what we have of the last one; none: it does not fit what the
    /// other side sent, so everything has to be asked for.
    fn listing_with(
        &mut self,
        request: &ScanRequest<'_>,
        old: &[u8],
    ) -> Result<Option<(Listing, Unread)>, ReplicaError> {
        let write = if self.read_only { "look" } else { "write" };
        let data = self.scan_data(request, old)?;
        let pieces = [Piece::Look, Piece::List, Piece::Attributes];
        let words = format!("scan {} {write} {}", self.links.word(), self.wanted.words());
        let pieces = &pieces[..if self.wanted.any() { 3 } else { 2 }];
        let mut said = Vec::new();
        let mut seen = 0;
        let mut told = 0;
        let asked =
            self.link()?.channel.request(pieces, &words, &data, OnStop::GiveUp, &mut |bytes| {
                seen += bytes.iter().filter(|b| **b == b'\n').count() as u64;
                if seen / 4096 != told / 4096 {
                    (request.seen)(seen);
                    told = seen;
                }
                said.extend_from_slice(bytes);
            });
        let status = asked.map_err(|cause| self.broken(&cause))?;
        if status != 0 {
            let said = String::from_utf8_lossy(&said);
            return Err(self.error(format!("cannot list it: {}", said.trim())));
        }
        let mut answer = take_apart(&said).ok_or_else(|| self.garbled("scan"))?;
        drop(said);
        if answer.is_changes {
            let sum = answer.sum.as_deref().unwrap_or_default();
            match apply_changes(old, &answer.lines, sum) {
                Some(whole) => answer.lines = whole,
                None => return Ok(None),
            }
        }
        if answer.sum.is_some() && answer.lines != old {
            self.keep_listing(&answer.lines);
        }
        let told = std::mem::take(&mut answer.attributes);
        let mut listing = self.read_listing(answer)?;
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
        Ok(Some((listing, unread)))
    }

    fn scan_data(
        &mut self,
        request: &ScanRequest<'_>,
        old: &[u8],
    ) -> Result<Vec<u8>, ReplicaError> {
        let mut data = Vec::new();
        let cached = self.remote_cache().filter(|_| self.cache.is_some());
        datum(&mut data, &cached.unwrap_or_default());
        let known = if old.is_empty() { String::new() } else { cksum(old) };
        datum(&mut data, known.as_bytes());
        for who in self.owners_in(old)? {
            data.extend_from_slice(Owners::line(who).as_bytes());
        }
        // What another task keeps in its work directory need not be listed.
        let nested = std::iter::once(Prune::Name(WORK_DIR));
        for prune in nested.chain(request.filter.prunable()).take(MOST_PRUNES) {
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
            lines(old).filter_map(|line| parse(line, style).ok()).map(|r| r.entry).collect();
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

    /// Records and complaints of an answer, owners in this machine's numbers.
    fn read_listing(&mut self, answer: Answer) -> Result<Listing, ReplicaError> {
        let link = self.link()?;
        let style = link.style;
        for owner in &answer.owners {
            link.owners.learn(owner);
        }
        let mut listing = Listing::default();
        for line in lines(&answer.lines) {
            let record = parse(line, style).map_err(|_| self.garbled("scan"))?;
            listing.records.push(record);
        }
        for piece in answer.odd.split(|b| *b == 0).filter(|piece| !piece.is_empty()) {
            self.add_odd(&mut listing, piece, style)?;
        }
        for line in &answer.complaints {
            if let Some((path, words)) = complaint(line) {
                listing.closed.entry(path).or_insert(words);
            } else if !line.is_empty() && !line.starts_with(b"find: warning") {
                // what cannot be laid at any path's door concerns them all
                let said = String::from_utf8_lossy(line);
                return Err(self.error(format!("cannot list it: {said}")));
            }
        }
        self.complete_listing(&mut listing)?;
        Ok(listing)
    }

    fn add_odd(
        &mut self,
        listing: &mut Listing,
        piece: &[u8],
        style: Style,
    ) -> Result<(), ReplicaError> {
        let record = parse(piece, style).map_err(|_| self.garbled("scan"))?;
        if piece.starts_with(b"!/") {
            listing.closed.entry(record.path).or_insert_with(|| "Permission denied".to_owned());
        } else {
            listing.records.push(record);
        }
        Ok(())
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

    /// What there is at and below some paths, relative to each; none where nothing is.
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
        let (status, answer) = self.ask(&pieces, &words, &data, OnStop::GiveUp)?;
        let mut found = Vec::new();
        for piece in answer.split(|b| *b == 0).filter(|piece| !piece.is_empty()) {
            match piece {
                b">" | b"!gone" => found.push(Ok(Vec::new())),
                b"!denied" => {
                    found.push(Err(super::ops::failed("enter its directory", "Permission denied")));
                }
                record => {
                    if let Some(Ok(list)) = found.last_mut() {
                        list.push(record);
                    }
                }
            }
        }
        if status != 0 || found.len() != paths.len() {
            return Err(self.garbled("below"));
        }
        let attributes = self.ask_attributes(paths, reach)?;
        let mut listings = Vec::new();
        for (path, records) in paths.iter().zip(found) {
            listings.push(match records {
                Ok(records) => Ok(self.listing_of(path, &records, &attributes)?),
                Err(error) => Err(error),
            });
        }
        Ok(listings)
    }

    /// The listing of one path from its records, which all begin with its name.
    fn listing_of(
        &mut self,
        path: &RelPath,
        records: &[&[u8]],
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
        let mut listing = Listing::default();
        for piece in records {
            if let Some(said) = piece.strip_prefix(b"?") {
                let about = complaint(said).and_then(|(path, words)| Some((strip(&path)?, words)));
                let (path, words) =
                    about.unwrap_or_else(|| (Vec::new(), String::from_utf8_lossy(said).into()));
                listing.closed.entry(path).or_insert(words);
                continue;
            }
            let mut one = Listing::default();
            self.add_odd(&mut one, piece, style)?;
            for mut record in one.records {
                record.path = strip(&record.path).ok_or_else(|| self.garbled("below"))?;
                listing.records.push(record);
            }
            for (path, words) in one.closed {
                listing.closed.extend(strip(&path).map(|path| (path, words)));
            }
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

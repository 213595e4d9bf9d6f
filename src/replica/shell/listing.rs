//! Scanning a remote replica over the shell: the whole tree is listed over there, and where both
//! sides have the last listing, only what differs from it travels. The records are put together to
//! a tree.
//!
//! Links that count as what they point at (COPY_SYMLINKS, KEEP_DIRLINKS): what lies behind them is
//! added to a listing that was made without following any.

use super::looking::Reach;
use super::protocol::{
    Answer, Births, Form, Record, RecordOrder, Style, apply_changes, complaint, datum, lines,
    literal_pattern, parse_line, paths as encode_paths, take_apart, whole,
};
use super::session::{Excess, OnStop, Piece, RecordLength, Room};
use super::{Links, ShellReplica};
use crate::filter::{Filter, Inclusion, PathKind, Prune};
use crate::replica::attributes::Owners;
use crate::replica::{
    Attributes, PathError, ReplicaError, Scan, ScanRequest, TRIGGER, Unread, WORK_DIR, Wanted,
};
use crate::report::left_alone::LeftAlone;
use crate::report::{Level, Problem};
use crate::state::temporary_file;
use crate::tree::path::escape;
use crate::tree::{
    Child, Entry, Kind, NodeId, RelPath, Side, Standing, TooLarge, Tree, TreeBuilder,
};
use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What a listing found, not yet in order.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Everything that was seen; the root has an empty path.
    pub records: Vec<Record>,
    /// Paths that could not be looked at, and the system's words.
    pub closed: HashMap<Vec<u8>, String>,
}

/// How a listing is turned into a tree.
pub(super) struct Rules<'a> {
    /// What is excluded; `None`: nothing is, and nothing of ours is there.
    pub filter: Option<&'a Filter>,
    /// COPY_SYMLINKS: a link in the listing leads nowhere.
    pub copy_symlinks: bool,
    /// For problems.
    pub side: Side,
    /// What the paths of problems begin with.
    pub base: &'a RelPath,
}

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoTree {
    /// The listing does not begin with the root.
    #[error("the listing does not hold the directory itself")]
    NoRoot,
    /// A record without the directory it stands in, or two of one entry.
    #[error("the listing is not sound: {0}")]
    Unsound(String),
    /// Too many entries.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

type Children = HashMap<Vec<u8>, Vec<Child>>;

/// After so many records their memory is given back.
const RECORDS_GIVEN_BACK: usize = 1 << 16;

impl Listing {
    /// Takes in the records of a listing. Where several walks made it, a later one may tell of
    /// an entry again, and then counts more than the first.
    ///
    /// # Errors
    /// The first one among the records; what was taken in by then is not sound.
    pub fn take_all<E>(
        &mut self,
        records: impl Iterator<Item = Result<Record, E>>,
    ) -> Result<(), E> {
        let mut later: HashMap<Vec<u8>, Record> = HashMap::new();
        let first = self.records.len();
        for record in records {
            let record = record?;
            // told without facts: only that it is there and closed
            if record.closed && record.entry.kind == Kind::File && record.entry.ino == 0 {
                self.closed.entry(record.path).or_insert_with(closed_words);
            } else if record.place == RecordOrder::Later {
                // one more of the same is one too many: it will be noticed
                self.records.extend(later.insert(record.path.clone(), record));
            } else {
                self.records.push(record);
            }
        }
        let mut at = 0;
        self.records.retain(|record| {
            at += 1;
            at <= first || record.place == RecordOrder::Later || !later.contains_key(&record.path)
        });
        for record in &self.records[first..] {
            if record.place == RecordOrder::First {
                self.closed.entry(record.path.clone()).or_insert_with(|| CHANGED.to_owned());
            }
        }
        self.records.extend(later.into_values());
        Ok(())
    }

    /// Builds the tree. What cannot be read becomes unknown and a problem.
    pub fn into_tree(self, rules: &Rules<'_>) -> Result<(Tree, Vec<Problem>), NoTree> {
        let Listing { mut records, mut closed } = self;
        let mut children = Children::new();
        let mut root = None;
        // from the end, so that records give their memory back to what is made of them
        while let Some(Record { path, closed: is_closed, entry, .. }) = records.pop() {
            if records.len().is_multiple_of(RECORDS_GIVEN_BACK) {
                records.shrink_to_fit();
            }
            if is_closed {
                closed.entry(path.clone()).or_insert_with(closed_words);
            }
            if path.is_empty() {
                if root.replace(entry).is_some() {
                    return Err(unsound("the directory itself stands in it twice", &path));
                }
            } else {
                add(&mut children, &path, entry);
            }
        }
        add_unseen(&mut children, &closed);
        let root = root.filter(|root| root.kind.is_dir() || children.is_empty());
        let builder = TreeBuilder::new(root.ok_or(NoTree::NoRoot)?);
        let mut building = Building { builder, children, closed, rules, problems: Vec::new() };
        building.fill_all()?;
        building.check_left()?;
        let mut problems = building.problems;
        problems.sort_by(|a, b| a.path.cmp(&b.path));
        Ok((building.builder.finish(), problems))
    }
}

fn closed_words() -> String {
    "Permission denied".to_owned()
}

fn unsound(what: &str, path: &[u8]) -> NoTree {
    NoTree::Unsound(format!("{what}: {}", crate::tree::path::escape(path)))
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

fn add(children: &mut Children, path: &[u8], entry: Entry) {
    let (parent, name) = split(path);
    let child = Child { name: name.to_vec(), standing: Standing::Present, entry };
    match children.get_mut(parent) {
        Some(list) => list.push(child),
        None => {
            children.insert(parent.to_vec(), vec![child]);
        }
    }
}

/// What was only heard of through a complaint is there, but nothing else is known of it.
fn add_unseen(children: &mut Children, closed: &HashMap<Vec<u8>, String>) {
    for path in closed.keys().filter(|path| !path.is_empty()) {
        let (parent, name) = split(path);
        let seen = children.get(parent).is_some_and(|list| list.iter().any(|c| c.name == name));
        if !seen {
            add(children, path, Entry::new(Kind::File));
        }
    }
}

struct Building<'a> {
    builder: TreeBuilder,
    children: Children,
    closed: HashMap<Vec<u8>, String>,
    rules: &'a Rules<'a>,
    problems: Vec<Problem>,
}

impl Building<'_> {
    /// What is left stands below directories that were not entered, and these are there.
    fn check_left(&self) -> Result<(), NoTree> {
        let is_there = |dir: &[u8]| {
            let (parent, name) = split(dir);
            let beside = self.children.get(parent);
            beside.is_some_and(|list| list.iter().any(|child| child.name == name))
                || RelPath::new(dir).is_ok_and(|dir| self.builder.tree().find(&dir).is_some())
        };
        match self.children.keys().find(|dir| !dir.is_empty() && !is_there(dir)) {
            Some(dir) => Err(unsound("a directory is missing", dir)),
            None => Ok(()),
        }
    }

    fn fill_all(&mut self) -> Result<(), NoTree> {
        if let Some(words) = self.closed.get(&b""[..]).cloned() {
            self.problem(b"", &cannot_list(&words));
            self.builder.mark_unknown(Tree::ROOT);
            return Ok(());
        }
        let mut pending = vec![(Tree::ROOT, Vec::new())];
        while let Some((dir, path)) = pending.pop() {
            let Some(mut children) = self.children.remove(&path) else { continue };
            children.retain(|child| !self.is_ours(&path, &child.name));
            for child in &mut children {
                self.judge(&path, child);
            }
            let expected = children.len();
            let ids: Vec<NodeId> = self.builder.fill(dir, children)?.collect();
            if ids.len() != expected {
                return Err(unsound("an entry stands in it twice, in the directory", &path));
            }
            for id in ids {
                let tree = self.builder.tree();
                if tree.entry(id).kind.is_dir() && tree.standing(id) == Standing::Present {
                    pending.push((id, join(&path, tree.name(id))));
                }
            }
        }
        Ok(())
    }

    fn is_ours(&self, dir: &[u8], name: &[u8]) -> bool {
        self.rules.filter.is_some() && dir.is_empty() && matches!(name, WORK_DIR | TRIGGER)
    }

    fn judge(&mut self, dir: &[u8], child: &mut Child) {
        let path = join(dir, &child.name);
        let kind = PathKind::of(child.entry.kind.is_dir());
        let verdict = self.rules.filter.map(|filter| filter.verdict(&path, kind));
        // The work directory of a task whose replica lies inside this one stays where it is.
        let is_nested = verdict.is_some() && child.name == WORK_DIR;
        if is_nested || verdict == Some(Inclusion::Excluded) {
            child.standing = Standing::Excluded;
        } else if self.rules.copy_symlinks && child.entry.kind == Kind::Symlink {
            child.standing = Standing::Unknown;
            self.problem(
                &path,
                "the link leads nowhere, so there is nothing to copy (COPY_SYMLINKS)",
            );
        } else if let Some(words) = self.closed.get(&path).cloned() {
            child.standing = Standing::Unknown;
            let text = match child.entry.kind {
                Kind::Dir => cannot_list(&words),
                _ if words.contains(LOOP) => {
                    "the link leads back to a directory above it".to_owned()
                }
                _ => format!("cannot read it: {words}"),
            };
            self.problem(&path, &text);
        }
    }

    fn problem(&mut self, path: &[u8], text: &str) {
        let path = join(self.rules.base.as_bytes(), path);
        self.problems.push(Problem {
            level: Level::Error,
            side: Some(self.rules.side),
            path: RelPath::new(path).ok(),
            text: LeftAlone::Unread(text.to_owned()).words().into_owned(),
        });
    }
}

/// What is said of a link whose target no walk told.
pub(super) const CHANGED: &str = "it changed while it was looked at";

/// What find says of a link in a circle.
pub(super) const LOOP: &str = "file system loop";

fn cannot_list(words: &str) -> String {
    format!("cannot list the directory: {words}")
}

pub(super) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    match (dir, name) {
        (b"", name) => name.to_vec(),
        (dir, b"") => dir.to_vec(),
        (dir, name) => [dir, b"/", name].concat(),
    }
}

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
        (self.wanted, self.links) = (request.look.attributes, Links::of(request));
        let asked_for = self.wanted;
        let mut old = self.last_listing();
        let mut why = String::new();
        for _ in 0..MOST_TRIES {
            self.wanted = asked_for;
            // a second try does without it
            let last = std::mem::take(&mut old);
            let (mut listing, unread) = match self.listing_with(request, last)? {
                Listed::Whole(listing, unread) => (listing, unread),
                Listed::Not(cause) => {
                    why = cause;
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
                copy_symlinks: request.look.copy_symlinks,
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
        old: Vec<u8>,
    ) -> Result<Listed, ReplicaError> {
        self.prunes = prunes(request.filter);
        let mut answer = match self.fetch_listing(self.wanted, old, request.seen)? {
            Ok(answer) => answer,
            Err(cause) => return Ok(Listed::Not(cause)),
        };
        let told = std::mem::take(&mut answer.attributes);
        let mut listing = match self.read_listing(answer)? {
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
        let _ = self.fetch_listing(Wanted::default(), old, &|_| ());
    }

    /// The answer to one request for a listing, of which the lines are the whole one, and kept;
    /// or why it does not count. The last listing is taken, because there may be no room for many
    /// of them.
    fn fetch_listing(
        &mut self,
        wanted: Wanted,
        old: Vec<u8>,
        tell: &(dyn Fn(u64) + Sync),
    ) -> Result<std::result::Result<Answer, String>, ReplicaError> {
        let write = if self.read_only { "look" } else { "write" };
        let data = self.scan_data(&old)?;
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
            match apply_changes(&old, &answer.lines, &answer.sum) {
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
    ) -> Result<std::collections::BTreeSet<(crate::replica::attributes::Whose, u32)>, ReplicaError>
    {
        let link = self.link()?;
        let style = link.style;
        let records = lines(old).filter_map(|line| parse_line(line, style).ok());
        Ok(link.owners.unknown(records.map(|record| record.entry)))
    }

    fn last_listing(&self) -> Vec<u8> {
        self.cache.as_ref().and_then(|file| std::fs::read(file).ok()).unwrap_or_default()
    }

    /// A copy that cannot be kept only makes the next run slower.
    fn keep_listing(&self, lines: &[u8]) {
        let Some(file) = self.cache.as_ref().filter(|_| !self.read_only) else { return };
        if let Ok(mut new) = temporary_file(file)
            && new.write_all(lines).is_ok()
        {
            let _ = new.persist(file);
        }
    }

    /// Records and complaints of an answer, owners in this machine's numbers; or why it does
    /// not count.
    fn read_listing(
        &mut self,
        answer: Answer,
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
        drop(answer);
        self.complete_listing(&mut listing)?;
        Ok(Ok(listing))
    }

    fn complete_listing(&mut self, listing: &mut Listing) -> Result<(), ReplicaError> {
        let mut entries: Vec<(RelPath, &mut Entry)> = Vec::new();
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
                link.owners.translate(entry);
            }
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
        let name = super::protocol::split(path).1.to_vec();
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
    let mut births = Births::default();
    for line in whole.births {
        births.learn(line).map_err(|_| not_understood(line))?;
    }
    listing.records.reserve_exact(whole.records.len());
    listing.take_all(whole.records.into_iter().map(|line| {
        let mut record = parse_line(line, style).map_err(|_| not_understood(line))?;
        births.complete(&mut record.entry);
        Ok::<Record, String>(record)
    }))?;
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

/// Device and inode of each directory of a listing, to notice links in a circle.
type Dirs = HashMap<Vec<u8>, (u32, u64)>;

impl ShellReplica {
    /// Adds to a listing whose paths begin at `base` what lies behind its links, and behind
    /// those found there. A link that leads back to a directory above it ends the way, so
    /// this comes to an end.
    pub(super) fn add_behind_links(
        &mut self,
        listing: &mut Listing,
        base: &RelPath,
        filter: Option<&Filter>,
    ) -> Result<(), ReplicaError> {
        let is_done = match self.links {
            Links::Plain => true,
            Links::Dirs => false,
            // other finds notice circles, and have followed links themselves
            Links::All => self.link()?.style != Style::Stat,
        };
        if is_done {
            return Ok(());
        }
        let mut dirs = Dirs::new();
        let mut begin = 0;
        loop {
            let records = &listing.records[begin..];
            let takes_part = |filter: &Filter, dir: &[u8]| {
                filter.verdict_with_parents(dir, PathKind::Dir) == Inclusion::Included
            };
            let is_open = |dir: &[u8]| filter.is_none_or(|filter| takes_part(filter, dir));
            let links: Vec<usize> = (begin..)
                .zip(records)
                .filter(|(_, record)| record.entry.kind == Kind::Symlink && is_open(&record.path))
                .map(|(index, _)| index)
                .collect();
            if links.is_empty() {
                return Ok(());
            }
            for record in records.iter().filter(|record| record.entry.kind.is_dir()) {
                dirs.insert(record.path.clone(), number(&record.entry));
            }
            begin = listing.records.len();
            let tops = self.look_behind(listing, base, &links, &mut dirs)?;
            let paths: Vec<RelPath> = tops.iter().map(|top| path_below(base, top)).collect();
            let found = self.listings_below(&paths, Reach::Behind)?;
            for (top, found) in tops.iter().zip(found) {
                match found {
                    Ok(Some(found)) => add_below(listing, top, found),
                    // vanished since; what is not there is not listed
                    Ok(None) => {}
                    Err(error) => {
                        listing.closed.entry(top.clone()).or_insert_with(|| error.to_string());
                    }
                }
            }
        }
    }

    /// The records of these links become those of what they point at. The paths of those that
    /// lead to directories.
    fn look_behind(
        &mut self,
        listing: &mut Listing,
        base: &RelPath,
        links: &[usize],
        dirs: &mut Dirs,
    ) -> Result<Vec<Vec<u8>>, ReplicaError> {
        let paths: Vec<RelPath> =
            links.iter().map(|index| path_below(base, &listing.records[*index].path)).collect();
        let behind = self.look_at(&paths)?;
        let mut tops = Vec::new();
        for (index, behind) in links.iter().zip(behind) {
            let Ok(Some(there)) = behind else { continue };
            let record = &mut listing.records[*index];
            if !there.kind.is_dir() {
                record.entry = there;
            } else if is_circle(dirs, &record.path, number(&there)) {
                // whatever it is: it will be unknown
                record.entry = Entry::new(Kind::File);
                listing.closed.insert(record.path.clone(), LOOP.to_owned());
            } else {
                dirs.insert(record.path.clone(), number(&there));
                record.entry = there;
                tops.push(record.path.clone());
            }
        }
        Ok(tops)
    }
}

fn number(entry: &Entry) -> (u32, u64) {
    (entry.dev, entry.ino)
}

fn path_below(base: &RelPath, rest: &[u8]) -> RelPath {
    let names = rest.split(|b| *b == b'/').filter(|name| !name.is_empty());
    names.fold(base.clone(), |at, name| at.join(name))
}

/// Puts what lies behind a link below its path. Its own record stands there already.
fn add_below(listing: &mut Listing, top: &[u8], found: Listing) {
    for mut record in found.records {
        if !record.path.is_empty() {
            record.path = join(top, &record.path);
            listing.records.push(record);
        }
    }
    for (path, words) in found.closed {
        listing.closed.entry(join(top, &path)).or_insert(words);
    }
}

/// Whether a link at `path` leads to a directory above it.
fn is_circle(dirs: &Dirs, path: &[u8], to: (u32, u64)) -> bool {
    let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
    let mut above = ends.chain([0]).map(|end| &path[..end]);
    above.any(|dir| dirs.get(dir) == Some(&to))
}

#[cfg(test)]
mod listing_tests {
    use super::*;
    use crate::config::RuleText;

    fn entry(kind: Kind) -> Entry {
        let mut entry = Entry::new(kind);
        entry.ino = 7;
        entry
    }

    fn record(path: &str, kind: Kind, closed: bool) -> Record {
        Record { path: path.into(), closed, place: RecordOrder::Only, entry: entry(kind) }
    }

    fn build(listing: Listing, filter: &Filter) -> Vec<(String, Standing)> {
        let rules = Rules {
            filter: Some(filter),
            copy_symlinks: false,
            side: Side::Target,
            base: &RelPath::root(),
        };
        let (tree, _) = listing.into_tree(&rules).unwrap();
        let mut all: Vec<_> =
            tree.ids().map(|id| (tree.path(id).shown(), tree.standing(id))).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    #[test]
    fn excluded_unknown_and_our_own_are_told_apart_whatever_the_order() {
        let rule = RuleText { include: false, from_file: false, pattern: b"skip".to_vec() };
        let filter = Filter::new(&[rule]);
        let listing = Listing {
            records: vec![
                record("d/skip/deep", Kind::File, false),
                record("d/f", Kind::File, false),
                record("closed/inside", Kind::File, false),
                record("closed", Kind::Dir, true),
                record("d", Kind::Dir, false),
                record("d/skip", Kind::Dir, false),
                record(".osync_workdir", Kind::Dir, false),
                record(".osync-update.push", Kind::File, false),
                record("d/.osync_workdir", Kind::Dir, false),
                record("", Kind::Dir, false),
            ],
            closed: HashMap::from([
                (b"d/vanished".to_vec(), "No such file or directory".into()),
                (b"d/skip/x".to_vec(), "Permission denied".into()),
                (b"closed/y".to_vec(), "Permission denied".into()),
            ]),
        };
        let expected = [
            ("closed", Standing::Unknown),
            ("d", Standing::Present),
            ("d/.osync_workdir", Standing::Excluded),
            ("d/f", Standing::Present),
            ("d/skip", Standing::Excluded),
            ("d/vanished", Standing::Unknown),
        ];
        assert_eq!(build(listing, &filter), expected.map(|(p, s)| (p.to_owned(), s)));
    }

    #[test]
    fn each_unknown_path_is_one_problem_and_excluded_ones_are_none() {
        let listing = Listing {
            records: vec![record("", Kind::Dir, false), record("f", Kind::File, true)],
            closed: HashMap::new(),
        };
        let base = RelPath::new("below/here").unwrap();
        let rules = Rules { filter: None, copy_symlinks: false, side: Side::Target, base: &base };
        let (_, problems) = listing.into_tree(&rules).unwrap();
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].path, RelPath::new("below/here/f").ok());
        assert_eq!(problems[0].level, Level::Error);
    }

    #[test]
    fn a_record_too_many_or_without_its_directory_makes_it_no_listing() {
        let rules = Rules {
            filter: None,
            copy_symlinks: false,
            side: Side::Target,
            base: &RelPath::root(),
        };
        let dir = |path| record(path, Kind::Dir, false);
        let file = |path| record(path, Kind::File, false);
        for records in [
            vec![dir(""), dir("d"), file("d/f"), file("d/f")],
            vec![dir(""), file("d/f")],
            vec![dir(""), dir("d"), file("d/e/f")],
            vec![dir(""), dir(""), dir("d")],
        ] {
            let listing = Listing { records, closed: HashMap::new() };
            assert!(matches!(listing.into_tree(&rules), Err(NoTree::Unsound(_))));
        }
    }

    #[test]
    fn a_later_walk_counts_more_and_what_only_a_first_one_saw_of_a_link_is_not_known() {
        let of = |path: &str, kind, place| Record { place, ..record(path, kind, false) };
        let mut listing = Listing::default();
        let records = [
            of("", Kind::Dir, RecordOrder::Only),
            of("a", Kind::Symlink, RecordOrder::First),
            of("b", Kind::Symlink, RecordOrder::First),
            of("c", Kind::File, RecordOrder::Only),
            of("a", Kind::Symlink, RecordOrder::Later),
            of("c", Kind::Symlink, RecordOrder::Later),
        ];
        listing.take_all(records.into_iter().map(Ok::<Record, ()>)).unwrap();
        let filter = Filter::new(&[]);
        let kinds: Vec<(String, Kind)> = listing
            .records
            .iter()
            .map(|r| (String::from_utf8_lossy(&r.path).into(), r.entry.kind))
            .collect();
        assert!(kinds.contains(&("c".into(), Kind::Symlink)) && kinds.len() == 4, "{kinds:?}");
        let expected =
            [("a", Standing::Present), ("b", Standing::Unknown), ("c", Standing::Present)];
        assert_eq!(build(listing, &filter), expected.map(|(p, s)| (p.to_owned(), s)));
    }

    #[test]
    fn a_listing_without_its_root_is_none() {
        let rules = Rules {
            filter: None,
            copy_symlinks: false,
            side: Side::Target,
            base: &RelPath::root(),
        };
        assert!(matches!(Listing::default().into_tree(&rules), Err(NoTree::NoRoot)));
        let records = vec![record("", Kind::File, false), record("f", Kind::File, false)];
        let below_a_file = Listing { records, closed: HashMap::new() };
        assert!(matches!(below_a_file.into_tree(&rules), Err(NoTree::NoRoot)));
    }
}

#[cfg(test)]
mod scan_tests {
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

#[cfg(test)]
mod behind_links_tests {
    use super::*;
    use crate::config::RuleText;

    #[test]
    fn a_circle_is_a_link_to_a_directory_above_it_and_no_other() {
        let dirs: Dirs = [("", 1), ("a", 2), ("a/b", 3), ("ab", 4)]
            .map(|(path, ino)| (path.into(), (0, ino)))
            .into();
        for (path, to, expected) in [
            ("l", 1, true),
            ("l", 2, false),
            ("a/l", 1, true),
            ("a/l", 2, true),
            ("a/l", 3, false),
            ("a/b/l", 3, true),
            ("a/b/l", 4, false),
            ("", 1, true),
        ] {
            assert_eq!(is_circle(&dirs, path.as_bytes(), (0, to)), expected, "{path} {to}");
        }
        assert!(!is_circle(&dirs, b"l", (1, 1)), "another device");
    }

    #[test]
    fn what_a_filter_hides_is_not_followed() {
        let rules = [&b"/d"[..], b"x/"].map(|pattern| RuleText {
            include: false,
            from_file: false,
            pattern: pattern.to_vec(),
        });
        let filter = Filter::new(&rules);
        for (path, expected) in [("d", true), ("d/e/l", true), ("e/d", false), ("e/x", true)] {
            let verdict = filter.verdict_with_parents(path.as_bytes(), PathKind::Dir);
            assert_eq!(verdict == Inclusion::Excluded, expected, "{path}");
        }
    }
}

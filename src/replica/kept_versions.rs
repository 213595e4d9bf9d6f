//! What `backup/` and `deleted/` keep: under which names, since when, and which versions of a path
//! there are. Pure but for [`look`] (spec 8, "Kept versions"; spec 9, `osync history`, `osync
//! restore`).
//!
//! A kept thing has its full relative path. Where a name with its suffix would pass 255
//! bytes, or a path the limit of the system, it is cut, and a digest of the whole takes
//! the place of what was cut off: readable, unique, and the same each time.
//!
//! Each of the two directories has a record beside it, `backup.arrivals` and
//! `deleted.arrivals`: a line for each arrival, `SECONDS KIND PATH`. Lines are only ever
//! added, a batch at a time; of several for one path the last counts. Cleaning writes the
//! record anew when much of it is about what is gone.
//!
//! A version lies under the full path of what it was. Where that name was needed again, or
//! CONFLICT_BACKUP_MULTIPLE wants it, a date stands behind the name; where a directory was
//! moved away as a whole, what is in it has its own names.

use super::local::openat_root::split;
use super::{Arrived, Keep, PathError, Replica, ReplicaError, in_work_dir};
use crate::tree::path::LONGEST_PATH;
use crate::tree::{Entry, NodeId, RelPath, Tree};
use chrono::{Local, TimeZone as _};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// The longest file name that file systems take.
pub(super) const LONGEST_NAME: usize = 255;

/// `.YYYY.MM.DD-HH.MM.SS` and, behind it, a number where that is taken too.
const SUFFIX: usize = 20 + 4;

/// The longest path below `backup/` or `deleted/` that a suffix still fits behind.
const LONGEST_KEPT: usize = LONGEST_PATH - ".osync_workdir/deleted/".len() - SUFFIX;

/// How many bytes of a path that is too long stay readable.
const READABLE: usize = 3600;

/// Where `path` is kept, below `backup/` or `deleted/`.
#[must_use]
pub fn kept_path(path: &RelPath) -> RelPath {
    let bytes = path.as_bytes();
    if bytes.len() <= LONGEST_KEPT {
        return path.clone();
    }
    let (parent, name) = split(bytes);
    let head = &parent[..READABLE];
    let head = head.iter().rposition(|b| *b == b'/').map_or(&b""[..], |cut| &head[..cut]);
    let short = [head, b"/~", digest(parent).as_bytes(), b"/", name].concat();
    let short = if head.is_empty() { short[1..].to_vec() } else { short };
    RelPath::new(short).unwrap_or_else(|_| path.clone())
}

/// Where `path` is kept under a name with a date, `.YYYY.MM.DD-HH.MM.SS`
/// (CONFLICT_BACKUP_MULTIPLE).
#[must_use]
pub fn dated_kept_path(path: &RelPath, date: &str) -> RelPath {
    let kept = kept_path(path);
    let name = with_suffix(kept.name(), date.as_bytes(), LONGEST_NAME);
    kept.parent().unwrap_or_default().join(&name)
}

/// Where a copy of `path` is kept whose own name is too long for a suffix.
#[must_use]
pub(super) fn short_kept_path(path: &RelPath) -> RelPath {
    let kept = kept_path(path);
    let name = with_suffix(kept.name(), b"", LONGEST_NAME - SUFFIX);
    kept.parent().map_or_else(|| kept.clone(), |parent| parent.join(&name))
}

/// `name` with `suffix`, within `longest` bytes.
#[must_use]
pub(super) fn with_suffix(name: &[u8], suffix: &[u8], longest: usize) -> Vec<u8> {
    if name.len() + suffix.len() <= longest {
        return [name, suffix].concat();
    }
    let digest = digest(name);
    let room = longest.saturating_sub(suffix.len() + 1 + digest.len());
    let mut head = &name[..room.min(name.len())];
    // Never through a character: whoever reads names as text would stumble.
    if name.get(head.len()).is_some_and(|byte| byte & 0xc0 == 0x80) {
        let start = head.iter().rposition(|byte| byte & 0xc0 != 0x80).unwrap_or(0);
        if head.len() - start < 4 {
            head = &head[..start];
        }
    }
    [head, b"~", digest.as_bytes(), suffix].concat()
}

fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_owned()
}

const DAY: i64 = 86_400;

/// What a kept version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// Replaced or deleted as planned. The next one of its name may replace it.
    Ordinary,
    /// It lost a conflict, or no scan has seen it: this may be the only copy of somebody's
    /// work. No run replaces it before its days are over.
    Protected,
}

/// How one kept entry came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// Seconds since the epoch.
    pub at: i64,
    /// What it is.
    pub version: Version,
    /// It was given a name with a date later. That renewed its ctime, which therefore says
    /// nothing about its arrival.
    pub is_renamed: bool,
}

/// A line of the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The path below `backup/` or `deleted/`.
    pub kept: RelPath,
    /// How it came.
    pub arrival: Arrival,
}

impl Line {
    /// Something comes now.
    pub fn now(kept: RelPath, version: Version, now: i64) -> Line {
        Line { kept, arrival: Arrival { at: now, version, is_renamed: false } }
    }

    fn write(&self, text: &mut Vec<u8>) {
        let kind = match (self.arrival.version, self.arrival.is_renamed) {
            (Version::Ordinary, false) => 'o',
            (Version::Protected, false) => 'p',
            (Version::Ordinary, true) => 'O',
            (Version::Protected, true) => 'P',
        };
        text.extend_from_slice(format!("{} {kind} ", self.arrival.at).as_bytes());
        for byte in self.kept.as_bytes() {
            match byte {
                b'\n' => text.extend_from_slice(b"\\n"),
                b'\\' => text.extend_from_slice(b"\\\\"),
                other => text.push(*other),
            }
        }
        text.push(b'\n');
    }
}

/// Lines as they are added to a record. They begin on a line of their own, whatever a power
/// cut has left at its end.
pub(super) fn added(lines: &[Line]) -> Vec<u8> {
    let mut text = vec![b'\n'];
    lines.iter().for_each(|line| line.write(&mut text));
    text
}

impl Keep {
    /// The name of its record in the work directory.
    #[must_use]
    pub fn record_name(self) -> &'static str {
        match self {
            Keep::Backup => "backup.arrivals",
            Keep::Deleted => "deleted.arrivals",
        }
    }
}

/// The record of one of the two directories.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Arrivals {
    of: BTreeMap<RelPath, Arrival>,
    /// How many lines it was read from.
    lines: usize,
}

impl Arrivals {
    /// Reads a record. What is torn or foreign is passed over; a kind that this version does
    /// not know is an ordinary one.
    pub fn read(text: &[u8]) -> Self {
        let mut arrivals = Arrivals::default();
        for piece in text.split(|byte| *byte == b'\n').filter(|piece| !piece.is_empty()) {
            arrivals.lines += 1;
            if let Some(line) = parse(piece) {
                arrivals.of.insert(line.kept, line.arrival);
            }
        }
        arrivals
    }

    /// Adds what an older version recorded, for directories alone: `SECONDS NAME/PATH` and a
    /// NUL for each, in one file for both. What is known already counts more.
    pub fn read_older(&mut self, text: &[u8], keep: Keep) {
        for piece in text.split(|byte| *byte == 0) {
            let Some((at, path)) = numbered(piece) else { continue };
            let path = path.strip_prefix(keep.name().as_bytes());
            let Some(path) = path.and_then(|path| path.strip_prefix(b"/")) else { continue };
            if let Ok(kept) = RelPath::new(path) {
                let line = Line::now(kept, Version::Ordinary, at);
                self.lines += 1;
                let known = self.of.get(&line.kept).is_some_and(|known| known.at >= at);
                if !known {
                    self.of.insert(line.kept, line.arrival);
                }
            }
        }
    }

    /// What is known of a kept entry.
    pub fn get(&self, kept: &RelPath) -> Option<Arrival> {
        self.of.get(kept).copied()
    }

    /// All that is known.
    pub fn iter(&self) -> impl Iterator<Item = (&RelPath, Arrival)> {
        self.of.iter().map(|(kept, arrival)| (kept, *arrival))
    }

    /// All that is known, as lines.
    pub fn to_lines(&self) -> Vec<Line> {
        self.iter().map(|(kept, arrival)| Line { kept: kept.clone(), arrival }).collect()
    }

    /// Takes over lines that were added.
    pub fn add(&mut self, lines: &[Line]) {
        self.lines += lines.len();
        self.of.extend(lines.iter().map(|line| (line.kept.clone(), line.arrival)));
    }

    /// Forgets what `is_there` denies.
    pub fn forget_unless(&mut self, is_there: impl Fn(&RelPath) -> bool) {
        self.of.retain(|kept, _| is_there(kept));
    }

    /// Whether so many lines are about nothing any more that the record should be written
    /// anew.
    pub fn is_stale(&self) -> bool {
        let stale = self.lines.saturating_sub(self.of.len());
        stale > 0 && (self.of.is_empty() || stale > 100 + self.of.len() / 4)
    }

    /// The whole record; empty if it holds nothing. In the order of arrival, so that who
    /// cannot read all of it finds at its top how old the oldest is.
    pub fn to_text(&self) -> Vec<u8> {
        let mut lines = self.to_lines();
        lines.sort_by_key(|line| line.arrival.at);
        let mut text = Vec::new();
        lines.iter().for_each(|line| line.write(&mut text));
        text
    }
}

fn parse(line: &[u8]) -> Option<Line> {
    let (at, rest) = numbered(line)?;
    let [kind, b' ', path @ ..] = rest else { return None };
    let mut plain = Vec::with_capacity(path.len());
    let mut bytes = path.iter();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => match bytes.next()? {
                b'n' => b'\n',
                b'\\' => b'\\',
                _ => return None,
            },
            other => *other,
        });
    }
    let version = if matches!(kind, b'p' | b'P') { Version::Protected } else { Version::Ordinary };
    let kept = RelPath::new(plain).ok().filter(|kept| !kept.is_root())?;
    Some(Line { kept, arrival: Arrival { at, version, is_renamed: kind.is_ascii_uppercase() } })
}

/// A number, a space, and what follows.
fn numbered(piece: &[u8]) -> Option<(i64, &[u8])> {
    let space = piece.iter().position(|byte| *byte == b' ')?;
    let at = std::str::from_utf8(&piece[..space]).ok()?.parse().ok()?;
    Some((at, &piece[space + 1..]))
}

/// When a kept entry came, from what is recorded of it and when a directory above it came
/// whole; `None`: nothing tells.
///
/// Whoever puts something there without a record (osync 1.3, an older version) leaves a ctime
/// that is later than what is recorded of an earlier one of the name: the later counts. A
/// ctime that is the mtime is no evidence: some file systems have nothing but the mtime, and
/// a file put there by its own rename or link always got a later ctime.
pub(super) fn came(entry: &Entry, own: Option<Arrival>, above: Option<i64>) -> Option<i64> {
    if let Some(own) = own.filter(|own| own.is_renamed) {
        return Some(own.at);
    }
    let is_evidence = entry.ctime != entry.mtime || entry.kind.is_dir();
    let by_ctime = is_evidence.then(|| entry.ctime.secs());
    [own.map(|own| own.at), above, by_ctime].into_iter().flatten().max()
}

/// Whether something that came at `came` has been there for more than `days` days, as
/// `find -ctime +days` counts them: whole ones.
pub(super) fn is_old(came: i64, now: i64, days: u32) -> bool {
    now.saturating_sub(came) / DAY > i64::from(days)
}

/// The date that the name of a kept entry gets, `.YYYY.MM.DD-HH.MM.SS`: when it came.
pub(super) fn dated(came: i64) -> String {
    let date = Local.timestamp_opt(came, 0).earliest().unwrap_or_else(Local::now);
    date.format(".%Y.%m.%d-%H.%M.%S").to_string()
}

/// What one of the two directories of a replica holds.
#[derive(Debug)]
pub struct Shelf {
    /// Which one.
    pub keep: Keep,
    /// All that is in it.
    pub tree: Tree,
    came: HashMap<NodeId, Came>,
}

/// How an entry came.
#[derive(Debug, Clone, Copy)]
struct Came {
    /// Seconds since the epoch; `None`: nothing tells.
    at: Option<i64>,
    version: Version,
    /// With a directory that was moved there as a whole.
    with_above: bool,
    /// It is something that was kept, and not a directory made for what is in it.
    is_kept: bool,
}

/// A kept version of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptVersion {
    /// Which directory keeps it.
    pub keep: Keep,
    /// The path below that.
    pub place: RelPath,
    /// What it was in the replica.
    pub path: RelPath,
    /// What it is.
    pub entry: Entry,
    /// When it came, in seconds since the epoch; `None`: nothing tells.
    pub came: Option<i64>,
    /// Whether no run may replace it.
    pub version: Version,
}

impl KeptVersion {
    /// Where it lies, from the replica's root.
    #[must_use]
    pub fn at(&self) -> RelPath {
        in_work_dir(self.keep.name(), &self.place)
    }
}

/// Looks at what a replica keeps.
///
/// # Errors
/// It cannot be read, or the connection is lost.
pub fn look(replica: &mut dyn Replica) -> Result<Vec<Shelf>, ReplicaError> {
    let mut shelves = Vec::new();
    for keep in [Keep::Backup, Keep::Deleted] {
        let place = in_work_dir(keep.name(), &RelPath::root());
        let found = replica.look_below(std::slice::from_ref(&place))?.pop();
        let tree = match found {
            None | Some(Ok(None)) => continue,
            Some(Ok(Some(tree))) => tree,
            Some(Err(error)) => return Err(unreadable(replica, &place, &error)),
        };
        let arrivals = replica.arrivals(keep)?;
        shelves.push(Shelf::new(keep, tree, &arrivals));
    }
    Ok(shelves)
}

fn unreadable(replica: &dyn Replica, place: &RelPath, error: &PathError) -> ReplicaError {
    ReplicaError {
        side: replica.side(),
        location: replica.location(),
        what: format!("cannot look into {}: {error}", place.shown()),
        trouble: super::Trouble::Other,
    }
}

impl Shelf {
    fn new(keep: Keep, tree: Tree, arrivals: &[Arrived]) -> Self {
        let own: HashMap<NodeId, Arrival> = arrivals
            .iter()
            .filter_map(|line| Some((tree.find(&line.kept)?, line.arrival)))
            .collect();
        let mut arrived: HashMap<NodeId, Came> = HashMap::new();
        let mut whole: HashMap<NodeId, Arrival> = HashMap::new();
        // parents stand before their children
        for id in tree.ids() {
            let above = whole.get(&tree.parent(id)).copied();
            let own = own.get(&id).copied();
            let entry = tree.entry(id);
            let is_dir = entry.kind.is_dir();
            let newest = [above, own].into_iter().flatten().max_by_key(|arrival| arrival.at);
            if let Some(newest) = newest {
                whole.insert(id, newest);
            }
            let is_empty = tree.children(id).len() == 0;
            let is_kept = !is_dir || newest.is_some() || is_empty;
            let version = own.or(above).map_or(Version::Ordinary, |arrival| arrival.version);
            let at = came(entry, own, above.map(|above| above.at));
            arrived.insert(
                id,
                Came { at, version, with_above: own.is_none() && above.is_some(), is_kept },
            );
        }
        Shelf { keep, tree, came: arrived }
    }

    /// Every kept version of a path, and of all below it.
    #[must_use]
    pub fn versions_of(&self, path: &RelPath) -> Vec<KeptVersion> {
        let mut found = Vec::new();
        for top in self.places_of(path) {
            self.collect(top, path.clone(), &mut found);
        }
        found
    }

    /// The entries that can be versions of a path.
    fn places_of(&self, path: &RelPath) -> Vec<NodeId> {
        let mut tops = self.by_name(&kept_path(path));
        let short = short_kept_path(path);
        if short != kept_path(path) {
            tops.extend(self.by_name(&short));
        }
        tops
    }

    /// What is kept at a place and below it, the top first, each with its path below the place;
    /// none: nothing is there.
    #[must_use]
    pub fn at(&self, place: &RelPath) -> Option<Vec<(RelPath, KeptVersion)>> {
        let top = self.tree.find(place)?;
        let mut below = self.below(place);
        below.sort();
        let kept = |below: RelPath| {
            let at = place.join_path(&below);
            let id = if below.is_root() { top } else { self.tree.find(&at)? };
            let came = self.came.get(&id);
            let version = KeptVersion {
                keep: self.keep,
                place: at.clone(),
                path: at,
                entry: self.tree.entry(id).clone(),
                came: came.and_then(|came| came.at),
                version: came.map_or(Version::Ordinary, |came| came.version),
            };
            Some((below, version))
        };
        Some(std::iter::once(RelPath::root()).chain(below).filter_map(kept).collect())
    }

    /// The paths of all that is kept below a place, relative to that.
    #[must_use]
    pub fn below(&self, place: &RelPath) -> Vec<RelPath> {
        let Some(top) = self.tree.find(place) else { return Vec::new() };
        let mut found = Vec::new();
        let mut stack = vec![(top, RelPath::root())];
        while let Some((id, path)) = stack.pop() {
            for child in self.tree.children(id) {
                let below = path.join(self.tree.name(child));
                found.push(below.clone());
                stack.push((child, below));
            }
        }
        found
    }

    fn by_name(&self, kept: &RelPath) -> Vec<NodeId> {
        let mut at = vec![Tree::ROOT];
        for name in kept.components() {
            let mut next = Vec::new();
            for dir in at {
                for child in self.tree.children(dir) {
                    let there = self.tree.name(child);
                    let is_version = there == name
                        || (!self.is_exact(child) && without_date(there) == Some(name));
                    if is_version {
                        next.push(child);
                    }
                }
            }
            at = next;
        }
        at
    }

    /// Whether an entry came with a directory above it, under its own name.
    fn is_exact(&self, id: NodeId) -> bool {
        self.came.get(&id).is_some_and(|came| came.with_above)
    }

    fn collect(&self, id: NodeId, path: RelPath, found: &mut Vec<KeptVersion>) {
        let mut stack = vec![(id, path)];
        while let Some((id, path)) = stack.pop() {
            for child in self.tree.children(id) {
                let name = self.tree.name(child);
                let plain =
                    if self.is_exact(child) { name } else { without_date(name).unwrap_or(name) };
                stack.push((child, path.join(plain)));
            }
            let Some(came) = self.came.get(&id).filter(|came| came.is_kept) else { continue };
            if id == Tree::ROOT {
                continue;
            }
            found.push(KeptVersion {
                keep: self.keep,
                place: self.tree.path(id),
                path,
                entry: self.tree.entry(id).clone(),
                came: came.at,
                version: came.version,
            });
        }
    }
}

/// A name without the date behind it, `.YYYY.MM.DD-HH.MM.SS` and perhaps a number; `None`: there
/// is no date.
fn without_date(name: &[u8]) -> Option<&[u8]> {
    const FORM: &[u8] = b".dddd.dd.dd-dd.dd.dd";
    let is_date = |tail: &[u8]| {
        tail.len() == FORM.len()
            && tail.iter().zip(FORM).all(|(byte, form)| match form {
                b'd' => byte.is_ascii_digit(),
                form => byte == form,
            })
    };
    let dated = |name: &'_ [u8]| {
        let cut = name.len().checked_sub(FORM.len()).filter(|cut| *cut > 0)?;
        is_date(&name[cut..]).then_some(cut)
    };
    if let Some(cut) = dated(name) {
        return Some(&name[..cut]);
    }
    let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let dot = name.len().checked_sub(digits + 1)?;
    if !(1..=3).contains(&digits) || name[dot] != b'.' {
        return None;
    }
    dated(&name[..dot]).map(|cut| &name[..cut])
}

#[cfg(test)]
mod kept_name_tests {
    use super::*;

    #[test]
    fn ordinary_paths_are_kept_as_they_are() {
        for path in ["a", "a/b/c", "-x/ y\n"] {
            let path = RelPath::new(path).unwrap();
            assert_eq!(kept_path(&path), path);
            assert_eq!(short_kept_path(&path), path);
        }
        assert_eq!(with_suffix(b"name", b".2026", 255), b"name.2026");
    }

    #[test]
    fn long_names_stay_within_the_limit_readable_and_different() {
        let suffix = b".2026.01.02-03.04.05";
        for name in ["x".repeat(255), "ä".repeat(127), "\u{1f600}".repeat(63), "x".repeat(236)] {
            let one = with_suffix(name.as_bytes(), suffix, LONGEST_NAME);
            let other = with_suffix(format!("{}y", &name[4..]).as_bytes(), suffix, LONGEST_NAME);
            assert!(one.len() <= LONGEST_NAME && one.len() > 245, "{}", one.len());
            assert!(one.ends_with(suffix) && one != other);
            assert!(std::str::from_utf8(&one).is_ok(), "a character was cut");
            assert_eq!(one, with_suffix(name.as_bytes(), suffix, LONGEST_NAME));
        }
        let bytes = with_suffix(&[0xbf; 255], suffix, LONGEST_NAME);
        assert!(bytes.len() > 245);
    }

    #[test]
    fn long_paths_stay_within_the_limit_and_different() {
        let deep = |last: &str| {
            let dirs = vec!["d".repeat(200); 20].join("/");
            RelPath::new(format!("{dirs}/{last}")).unwrap()
        };
        let (one, other) = (kept_path(&deep("sub/x")), kept_path(&deep("bus/x")));
        for kept in [&one, &other] {
            assert!(kept.as_bytes().len() <= LONGEST_KEPT);
            assert_eq!(kept.name(), b"x");
        }
        assert_ne!(one, other);
        let top = RelPath::new("t".repeat(255)).unwrap();
        assert_eq!(kept_path(&top), top);
        assert!(short_kept_path(&top).as_bytes().len() <= LONGEST_NAME - SUFFIX);
    }
}

#[cfg(test)]
mod arrivals_tests {
    use super::*;
    use crate::tree::{Kind, Stamp};

    fn path(text: &str) -> RelPath {
        RelPath::new(text).unwrap()
    }

    #[test]
    fn what_is_added_is_read_again_and_the_last_line_counts() {
        let odd = path("a/b\n c\\n");
        let lost = Line::now(path("x"), Version::Protected, 200);
        let renamed = Arrival { at: 7, version: Version::Protected, is_renamed: true };
        let mut text = added(&[Line::now(odd.clone(), Version::Ordinary, 100), lost.clone()]);
        text.extend(b"garbage\n300 o ../../etc\n5 q later\n99 o tor");
        text.extend(added(&[Line { kept: path("y"), arrival: renamed }]));
        text.extend(added(&[Line::now(odd.clone(), Version::Ordinary, 300)]));
        let read = Arrivals::read(&text);
        assert_eq!(read.get(&odd).unwrap().at, 300);
        assert_eq!(read.get(&path("x")), Some(lost.arrival));
        assert_eq!(read.get(&path("y")), Some(renamed));
        assert_eq!(read.get(&path("later")).unwrap().version, Version::Ordinary);
        assert_eq!(Arrivals::read(&read.to_text()).of, read.of);
    }

    #[test]
    fn what_an_older_version_recorded_is_read_too() {
        let mut read = Arrivals::read(b"500 p d\n");
        read.read_older(
            b"100 deleted/d\x00200 backup/e\x00300 deleted/f/g\x00junk\x005 deleted",
            Keep::Deleted,
        );
        assert_eq!(read.get(&path("d")).unwrap().at, 500);
        assert_eq!(read.get(&path("f/g")).unwrap().at, 300);
        assert_eq!(read.iter().count(), 2);
    }

    #[test]
    fn a_record_is_written_anew_when_much_of_it_is_about_nothing() {
        let lines: Vec<Line> =
            (0..1000).map(|n| Line::now(path(&format!("f{n}")), Version::Ordinary, n)).collect();
        let mut read = Arrivals::read(&added(&lines));
        assert!(!read.is_stale());
        read.forget_unless(|kept| *kept != path("f5"));
        assert!(!read.is_stale(), "one line more is no reason");
        read.forget_unless(|kept| kept.as_bytes().len() < 4);
        assert!(read.is_stale());
        assert!(read.to_text().starts_with(b"0 o f0\n1 o f1\n"));
    }

    #[test]
    fn an_arrival_is_taken_from_what_is_evidence() {
        let entry = |mtime, ctime| {
            let mut entry = Entry::new(Kind::File);
            (entry.mtime, entry.ctime) = (Stamp::new(mtime, 0), Stamp::new(ctime, 0));
            entry
        };
        let own = |at, is_renamed| Some(Arrival { at, version: Version::Ordinary, is_renamed });
        for (entry, own, above, expected) in [
            (entry(10, 50), None, None, Some(50)),
            (entry(10, 50), own(60, false), None, Some(60)),
            (entry(10, 50), own(40, false), None, Some(50)),
            (entry(10, 50), own(40, true), None, Some(40)),
            (entry(10, 50), None, Some(70), Some(70)),
            (entry(10, 10), None, None, None),
            (entry(10, 10), own(90, false), None, Some(90)),
            (entry(10, 10), None, Some(90), Some(90)),
        ] {
            assert_eq!(came(&entry, own, above), expected, "{entry:?} {own:?} {above:?}");
        }
    }

    #[test]
    fn whole_days_count() {
        assert!(!is_old(0, 2 * DAY - 1, 1) && is_old(0, 2 * DAY, 1) && !is_old(5, 0, 1));
    }
}

#[cfg(test)]
mod kept_versions_tests {
    use super::*;
    use crate::tree::{Child, Kind, Stamp, Standing, TreeBuilder};
    use Line;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).unwrap()
    }

    /// A tree of one level of directories: `dir/file` or `file`, and `dir/` for an empty one.
    fn tree(names: &[&str]) -> Tree {
        let mut entry = Entry::new(Kind::File);
        (entry.mtime, entry.ctime) = (Stamp::new(10, 0), Stamp::new(50, 0));
        let mut builder = TreeBuilder::new(Entry::new(Kind::Dir));
        let mut tops: Vec<&str> = names.iter().map(|n| n.split('/').next().unwrap()).collect();
        tops.sort_unstable();
        tops.dedup();
        let is_dir = |top: &str| names.iter().any(|name| name.starts_with(&format!("{top}/")));
        let mut children = Vec::new();
        for top in &tops {
            let child = if is_dir(top) { Entry::new(Kind::Dir) } else { entry.clone() };
            let name = top.as_bytes().to_vec();
            children.push(Child { name, standing: Standing::Present, entry: child });
        }
        drop(builder.fill(Tree::ROOT, children).unwrap());
        for top in tops.iter().filter(|top| is_dir(top)) {
            let id = builder.tree().find(&path(top)).unwrap();
            let mut below: Vec<&str> =
                names.iter().filter_map(|name| name.strip_prefix(&format!("{top}/"))).collect();
            below.sort_unstable();
            let mut children = Vec::new();
            for name in below.iter().filter(|name| !name.is_empty()) {
                let (name, entry) = (name.as_bytes().to_vec(), entry.clone());
                children.push(Child { name, standing: Standing::Present, entry });
            }
            drop(builder.fill(id, children).unwrap());
        }
        builder.finish()
    }

    fn shelf(names: &[&str], lines: &[(&str, i64, bool)]) -> Shelf {
        let lines: Vec<Line> = lines
            .iter()
            .map(|(kept, at, is_renamed)| Line {
                kept: path(kept),
                arrival: Arrival { at: *at, version: Version::Ordinary, is_renamed: *is_renamed },
            })
            .collect();
        Shelf::new(Keep::Backup, tree(names), &lines)
    }

    fn found(shelf: &Shelf, wanted: &str) -> Vec<(String, String, Option<i64>)> {
        let mut found: Vec<_> = shelf
            .versions_of(&path(wanted))
            .into_iter()
            .map(|kept| (kept.path.shown(), kept.place.shown(), kept.came))
            .collect();
        found.sort();
        found
    }

    fn row(path: &str, place: &str, came: i64) -> (String, String, Option<i64>) {
        (path.to_owned(), place.to_owned(), Some(came))
    }

    #[test]
    fn a_file_has_its_plain_and_its_dated_versions() {
        let date = "a.2026.11.29-15.54.37";
        let again = "a.2026.11.29-15.54.37.1";
        let shelf = shelf(&["a", date, again, "ab"], &[("a", 90, false), (date, 70, true)]);
        assert_eq!(
            found(&shelf, "a"),
            [row("a", "a", 90), row("a", date, 70), row("a", again, 50)]
        );
        assert_eq!(found(&shelf, date), [row(date, date, 70)], "somebody's own name");
    }

    #[test]
    fn what_is_in_a_directory_that_was_moved_there_has_its_own_names() {
        let odd = "x.2026.11.29-15.54.37";
        let names = [format!("d/{odd}"), "d/y".to_owned()];
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let whole = shelf(&names, &[("d", 80, false)]);
        assert_eq!(
            found(&whole, "d"),
            [
                row("d", "d", 80),
                row(&format!("d/{odd}"), &format!("d/{odd}"), 80),
                row("d/y", "d/y", 80)
            ]
        );
        assert!(found(&whole, "d/x").is_empty());
        let apart = shelf(&names, &[]);
        assert_eq!(found(&apart, "d/x"), [row("d/x", &format!("d/{odd}"), 50)]);
        assert_eq!(found(&apart, "d").len(), 2, "the directory itself was made for them");
    }

    #[test]
    fn names_without_a_date_are_themselves() {
        for (name, plain) in [
            ("a.2026.11.29-15.54.37", Some("a")),
            ("a.2026.11.29-15.54.37.12", Some("a")),
            ("a.2026.11.29-15.54.3x", None),
            (".2026.11.29-15.54.37", None),
            ("a.12", None),
            ("", None),
        ] {
            assert_eq!(without_date(name.as_bytes()), plain.map(str::as_bytes), "{name}");
        }
    }
}

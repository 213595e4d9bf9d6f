//! Which versions of a path `backup/` and `deleted/` keep, and when each came there: pure but
//! for [`look`] (spec 9, `osync history`, `osync restore`).
//!
//! A version lies under the full path of what it was. Where that name was needed again, or
//! CONFLICT_BACKUP_MULTIPLE wants it, a date stands behind the name; where a directory was
//! moved away as a whole, what is in it has its own names.

use super::arrivals::{self, Arrival};
use super::kept_name::{kept_path, short_kept_path};
use super::{Arrived, Keep, PathError, Replica, ReplicaError, Version, in_work_dir};
use crate::tree::{Entry, NodeId, RelPath, Tree};
use std::collections::HashMap;

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
        let mut came: HashMap<NodeId, Came> = HashMap::new();
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
            let at = arrivals::came(entry, own, above.map(|above| above.at));
            came.insert(
                id,
                Came { at, version, with_above: own.is_none() && above.is_some(), is_kept },
            );
        }
        Shelf { keep, tree, came }
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
            let at = below.components().fold(place.clone(), |at, name| at.join(name));
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
mod tests {
    use super::*;
    use crate::replica::arrivals::Line;
    use crate::tree::{Child, Kind, Stamp, Standing, TreeBuilder};

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

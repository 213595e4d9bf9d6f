//! The records of a remote listing put together to a tree. Pure.

use super::record::{Place, Record};
use crate::filter::{Filter, Inclusion};
use crate::replica::{TRIGGER, WORK_DIR};
use crate::report::{Level, Problem};
use crate::tree::{
    Child, Entry, Kind, NodeId, RelPath, Side, Standing, TooLarge, Tree, TreeBuilder,
};
use std::collections::HashMap;

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

impl Listing {
    /// Takes in the records of a listing. Where several walks made it, a later one may tell of
    /// an entry again, and then counts more than the first.
    pub fn take_all(&mut self, records: impl Iterator<Item = Record>) {
        let mut later: HashMap<Vec<u8>, Record> = HashMap::new();
        let first = self.records.len();
        for record in records {
            // told without facts: only that it is there and closed
            if record.closed && record.entry.kind == Kind::File && record.entry.ino == 0 {
                self.closed.entry(record.path).or_insert_with(closed_words);
            } else if record.place == Place::Later {
                // one more of the same is one too many: it will be noticed
                self.records.extend(later.insert(record.path.clone(), record));
            } else {
                self.records.push(record);
            }
        }
        let mut at = 0;
        self.records.retain(|record| {
            at += 1;
            at <= first || record.place == Place::Later || !later.contains_key(&record.path)
        });
        for record in &self.records[first..] {
            if record.place == Place::First {
                self.closed.entry(record.path.clone()).or_insert_with(|| CHANGED.to_owned());
            }
        }
        self.records.extend(later.into_values());
    }

    /// Builds the tree. What cannot be read becomes unknown and a problem.
    pub fn into_tree(self, rules: &Rules<'_>) -> Result<(Tree, Vec<Problem>), NoTree> {
        let Listing { records, mut closed } = self;
        let mut children = Children::new();
        let mut root = None;
        for Record { path, closed: is_closed, entry, .. } in records {
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
        let is_dir = child.entry.kind.is_dir();
        let verdict = self.rules.filter.map(|filter| filter.verdict(&path, is_dir));
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
            text: format!("{text}; it is left alone on both sides"),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RuleText;

    fn entry(kind: Kind) -> Entry {
        let mut entry = Entry::new(kind);
        entry.ino = 7;
        entry
    }

    fn record(path: &str, kind: Kind, closed: bool) -> Record {
        Record { path: path.into(), closed, place: Place::Only, entry: entry(kind) }
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
        listing.take_all(
            [
                of("", Kind::Dir, Place::Only),
                of("a", Kind::Symlink, Place::First),
                of("b", Kind::Symlink, Place::First),
                of("c", Kind::File, Place::Only),
                of("a", Kind::Symlink, Place::Later),
                of("c", Kind::Symlink, Place::Later),
            ]
            .into_iter(),
        );
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

//! Links that count as what they point at (COPY_SYMLINKS, KEEP_DIRLINKS): what lies behind
//! them is added to a listing that was made without following any.

use super::attributes::Reach;
use super::listing::{LOOP, Listing, join};
use super::record::Style;
use super::{Links, ShellReplica};
use crate::filter::{Filter, Inclusion};
use crate::replica::ReplicaError;
use crate::tree::{Entry, Kind, RelPath};
use std::collections::HashMap;

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
            let is_open = |path: &[u8]| filter.is_none_or(|filter| !is_excluded(filter, path));
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
            let paths: Vec<RelPath> = tops.iter().map(|top| whole(base, top)).collect();
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
            links.iter().map(|index| whole(base, &listing.records[*index].path)).collect();
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

fn whole(base: &RelPath, below: &[u8]) -> RelPath {
    let names = below.split(|b| *b == b'/').filter(|name| !name.is_empty());
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

/// Whether a directory at `path` would not take part, or one above it does not.
fn is_excluded(filter: &Filter, path: &[u8]) -> bool {
    let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
    let mut all = ends.chain([path.len()]).map(|end| &path[..end]);
    all.any(|dir| filter.verdict(dir, true) == Inclusion::Excluded)
}

#[cfg(test)]
mod tests {
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
            assert_eq!(is_excluded(&filter, path.as_bytes()), expected, "{path}");
        }
    }
}

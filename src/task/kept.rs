//! Versions that are kept in `backup/` and `deleted/` of both replicas, as what they once were:
//! a path, a date, a place (spec 9, "Commands").
//!
//! Found by looking: so the copies of osync 1.3 and those from before the journal are among them.

use crate::replica::{Keep, Replica, ReplicaError, WORK_DIR};
use crate::tree::{Entry, Pair, RelPath, Side, Tree};

/// One kept version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptVersion {
    /// The replica that keeps it.
    pub side: Side,
    /// In which of the two directories.
    pub keep: Keep,
    /// Where it lies, from the replica's root.
    pub at: RelPath,
    /// The path that it was a version of.
    pub path: RelPath,
    /// What it looks like.
    pub entry: Entry,
    /// When it was put there, in seconds since the epoch.
    pub arrived: i64,
}

/// All kept versions of a path and of what was below it, the newest first.
///
/// # Errors
/// A replica cannot be read.
pub fn versions(
    replicas: &mut Pair<Box<dyn Replica>>,
    of: &RelPath,
) -> Result<Vec<KeptVersion>, ReplicaError> {
    let mut found = Vec::new();
    for side in Side::BOTH {
        for keep in [Keep::Backup, Keep::Deleted] {
            let top = RelPath::root().join(WORK_DIR).join(keep.name().as_bytes());
            let trees = replicas[side].look_below(std::slice::from_ref(&top))?;
            let Some(Ok(Some(tree))) = trees.into_iter().next() else { continue };
            collect(side, keep, &top, &tree, of, &mut found);
        }
    }
    found.sort_by(|a, b| (b.arrived, &a.path, &a.at).cmp(&(a.arrived, &b.path, &b.at)));
    Ok(found)
}

fn collect(
    side: Side,
    keep: Keep,
    top: &RelPath,
    tree: &Tree,
    of: &RelPath,
    found: &mut Vec<KeptVersion>,
) {
    for id in tree.ids().filter(|id| *id != Tree::ROOT) {
        let kept = tree.path(id);
        let Some(path) = original(&kept).into_iter().find(|path| path.is_within(of)) else {
            continue;
        };
        let entry = tree.entry(id).clone();
        let arrived = entry.ctime.secs();
        let at = kept.components().fold(top.clone(), |at, name| at.join(name));
        found.push(KeptVersion { side, keep, at, path, entry, arrived });
    }
}

/// What a kept path may have been called: as it is, and without the dates in its names.
fn original(kept: &RelPath) -> [RelPath; 2] {
    let plain = kept
        .components()
        .fold(RelPath::root(), |path, name| path.join(without_date(name).unwrap_or(name)));
    [kept.clone(), plain]
}

/// A name without the `.YYYY.MM.DD-HH.MM.SS`, and perhaps a number, that keeping gave to it.
fn without_date(name: &[u8]) -> Option<&[u8]> {
    let text_end = name.len();
    let number = name.rsplit(|b| *b == b'.').next()?;
    let short = text_end.checked_sub(number.len() + 1)?;
    [text_end, short].into_iter().find_map(|end| {
        let start = end.checked_sub(DATE.len())?;
        let is_date = name[start..end].iter().zip(DATE).all(|(byte, wanted)| match wanted {
            b'0' => byte.is_ascii_digit(),
            sign => byte == sign,
        });
        (is_date && start > 0 && (end == text_end || number.iter().all(u8::is_ascii_digit)))
            .then(|| &name[..start])
    })
}

const DATE: &[u8] = b".0000.00.00-00.00.00";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_name_is_read_without_its_date() {
        for (name, expected) in [
            ("a.txt.2026.11.29-10.11.12", Some("a.txt")),
            ("a.txt.2026.11.29-10.11.12.3", Some("a.txt")),
            ("a.txt", None),
            (".2026.11.29-10.11.12", None),
            ("a.2026.11.29-10.11.1x", None),
            ("a.2026.11.29-10.11.12.x", None),
        ] {
            let found = without_date(name.as_bytes());
            assert_eq!(found, expected.map(str::as_bytes), "{name}");
        }
    }
}

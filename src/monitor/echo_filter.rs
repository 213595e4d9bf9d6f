//! Whether what is there now is what the last run recorded: tells our own writes, and
//! changes that the last run has seen already, from news.

use crate::config::Preserve;
use crate::reconcile::change::same_metadata;
use crate::replica;
use crate::state::{Baseline, Recorded};
use crate::tree::same::{ContentChange, Inodes, content_change};
use crate::tree::{Entry, Kind, RelPath, Side};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::Path;

/// Whether all these paths of one side are as the baseline has them. What cannot be read
/// is news.
#[must_use]
pub fn all_in_step(
    baseline: &Baseline,
    side: Side,
    root: &Path,
    paths: &BTreeSet<RelPath>,
    preserve: Preserve,
) -> bool {
    let Some(recorded) = look_up(baseline, side, paths) else { return false };
    let asked: Vec<RelPath> = paths.iter().cloned().collect();
    let Ok(found) = replica::look_at(root, &preserve, &asked) else { return false };
    asked.iter().zip(found).all(|(path, now)| match (now, recorded.get(path)) {
        (Ok(Some(now)), Some(was)) => is_same(&now, was, &preserve),
        (Ok(None), None) => true,
        _ => false,
    })
}

/// What the baseline holds of some paths on one side; `None` if it cannot be read. Only the
/// directories on the way to them are read.
fn look_up(
    baseline: &Baseline,
    side: Side,
    paths: &BTreeSet<RelPath>,
) -> Option<BTreeMap<RelPath, Entry>> {
    let mut found = BTreeMap::new();
    let mut cursor = baseline.cursor();
    let mut pending = vec![RelPath::root()];
    while let Some(directory) = pending.pop() {
        if !has_any_below(paths, &directory) {
            cursor.skip_subtree().ok()?;
            continue;
        }
        let first = pending.len();
        for known in cursor.open().ok()? {
            let known = known.ok()?;
            let path = directory.join(known.name);
            if let (true, Recorded::Seen(entry) | Recorded::Listed(Some(entry))) =
                (paths.contains(&path), known.record.was[side].clone())
            {
                found.insert(path.clone(), entry);
            }
            if known.has_block {
                pending.push(path);
            }
        }
        pending[first..].reverse();
    }
    Some(found)
}

/// Paths sort with a directory right before all that lies below it.
fn has_any_below(paths: &BTreeSet<RelPath>, directory: &RelPath) -> bool {
    paths
        .range((Bound::Excluded(directory), Bound::Unbounded))
        .next()
        .is_some_and(|path| path.is_within(directory))
}

/// Everything that a run would act upon; the mtime of a directory follows what is in it
/// and is no news of its own. A doubt is news: the run settles it.
fn is_same(now: &Entry, was: &Entry, preserve: &Preserve) -> bool {
    // ACLs and attributes, contents and links are not looked at here; when they change, so does
    // the ctime.
    let is_hidden = match was.kind {
        Kind::Dir => false,
        Kind::File if preserve.checksum || preserve.hardlinks => true,
        _ => preserve.acl || preserve.xattr,
    };
    let shown = Preserve { acl: false, xattr: false, ..*preserve };
    content_change(now, was, Inodes::Reliable) == ContentChange::Unchanged
        && same_metadata(now, was, &shown)
        && (!is_hidden || now.ctime == was.ctime)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::state::{Header, Record};
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    /// What a scan would record.
    pub fn entry(path: &Path) -> Entry {
        let name = RelPath::new(path.file_name().unwrap().as_encoded_bytes()).unwrap();
        let found = replica::look_at(path.parent().unwrap(), &Preserve::USUAL, &[name]);
        found.unwrap().remove(0).unwrap().unwrap()
    }

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    struct Place {
        temp: tempfile::TempDir,
        baseline: Baseline,
    }

    const PATHS: [&str; 5] = ["dir", "dir/file", "dir/link", "dir/sub", "other"];

    impl Place {
        fn new() -> Self {
            let temp = tempfile::tempdir().unwrap();
            let root = temp.path();
            fs::create_dir_all(root.join("dir/sub")).unwrap();
            fs::write(root.join("dir/file"), "content").unwrap();
            symlink("file", root.join("dir/link")).unwrap();
            fs::write(root.join("other"), "").unwrap();
            let record = |name: &str| {
                let mut record = Record::default();
                record.was[Side::Target] = Recorded::Seen(entry(&root.join(name)));
                (path(name), record)
            };
            let baseline = Baseline::from_records(Header::default(), PATHS.map(record));
            Place { temp, baseline }
        }

        fn in_step(&self, names: &[&str], preserve: Preserve) -> bool {
            let paths = names.iter().map(|name| path(name)).collect();
            all_in_step(&self.baseline, Side::Target, self.temp.path(), &paths, preserve)
        }
    }

    #[test]
    fn what_the_last_run_left_is_in_step() {
        let place = Place::new();
        assert!(place.in_step(&PATHS, Preserve::USUAL));
        assert!(
            place.in_step(&["missing", "dir/missing", "other/below", "no/where"], Preserve::USUAL)
        );
        assert!(place.in_step(&[], Preserve::USUAL));
        let paths = BTreeSet::from([path("other")]);
        let other_side = Side::Initiator;
        assert!(!all_in_step(
            &place.baseline,
            other_side,
            place.temp.path(),
            &paths,
            Preserve::USUAL
        ));
    }

    #[test]
    fn everything_a_run_would_act_upon_is_news() {
        type Change = fn(&Path);
        let cases: &[(&str, &str, Change)] = &[
            ("content", "dir/file", |root| fs::write(root.join("dir/file"), "content!").unwrap()),
            ("time", "dir/file", |root| {
                let file = fs::File::options().write(true).open(root.join("dir/file")).unwrap();
                file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
            }),
            ("mode", "dir/file", |root| {
                fs::set_permissions(root.join("dir/file"), PermissionsExt::from_mode(0o700))
                    .unwrap();
            }),
            ("mode of a directory", "dir", |root| {
                fs::set_permissions(root.join("dir"), PermissionsExt::from_mode(0o700)).unwrap();
            }),
            ("deleted", "other", |root| fs::remove_file(root.join("other")).unwrap()),
            ("created", "new", |root| fs::write(root.join("new"), "").unwrap()),
            ("another kind", "other", |root| {
                fs::remove_file(root.join("other")).unwrap();
                fs::create_dir(root.join("other")).unwrap();
            }),
            ("another link", "dir/link", |root| {
                fs::remove_file(root.join("dir/link")).unwrap();
                symlink("other", root.join("dir/link")).unwrap();
            }),
            ("another file of that size and time", "dir/file", |root| {
                let (file, new) = (root.join("dir/file"), root.join("new"));
                fs::write(&new, "CONTENT").unwrap();
                let time = fs::metadata(&file).unwrap().modified().unwrap();
                fs::File::options().write(true).open(&new).unwrap().set_modified(time).unwrap();
                fs::set_permissions(&new, fs::metadata(&file).unwrap().permissions()).unwrap();
                fs::rename(new, file).unwrap();
            }),
        ];
        for (name, about, change) in cases {
            let place = Place::new();
            change(place.temp.path());
            assert!(!place.in_step(&[about], Preserve::USUAL), "{name}");
            assert!(!place.in_step(&["dir/sub", about], Preserve::USUAL), "{name}, with another");
        }
    }

    #[test]
    fn what_no_run_would_act_upon_is_no_news() {
        let place = Place::new();
        let dir = place.temp.path().join("dir");
        fs::write(dir.join("new"), "").unwrap();
        assert!(place.in_step(&["dir"], Preserve::USUAL), "a directory's mtime");
        let mode = |mode| fs::set_permissions(dir.join("file"), PermissionsExt::from_mode(mode));
        mode(0o600).unwrap();
        let careless = Preserve { permissions: false, executability: false, ..Preserve::USUAL };
        assert!(place.in_step(&["dir/file"], careless), "a mode that is not preserved");
        let now = fs::metadata(dir.join("file")).unwrap().mode() & 0o777;
        mode(0o644).unwrap();
        mode(now).unwrap();
        let with_acls = Preserve { acl: true, ..careless };
        assert!(!place.in_step(&["dir/file"], with_acls), "the ctime stands in for ACLs");
    }

    #[test]
    fn where_contents_or_links_count_a_touched_file_is_news() {
        let place = Place::new();
        let file = place.temp.path().join("dir/file");
        let time = fs::metadata(&file).unwrap().modified().unwrap();
        fs::write(&file, "CONTENT").unwrap();
        fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        assert!(place.in_step(&["dir/file"], Preserve::USUAL), "nothing tells");
        assert!(!place.in_step(&["dir/file"], Preserve { checksum: true, ..Preserve::USUAL }));
        let place = Place::new();
        fs::hard_link(place.temp.path().join("other"), place.temp.path().join("twin")).unwrap();
        assert!(place.in_step(&["other"], Preserve::USUAL));
        assert!(!place.in_step(&["other"], Preserve { hardlinks: true, ..Preserve::USUAL }));
    }
}

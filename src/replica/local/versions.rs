//! What a local replica keeps: `backup/`, `deleted/`, the record of when things came there,
//! the private place through which everything goes that is replaced or removed, and what
//! becomes of it all with time (spec 4, "Deleting", "Overwriting", "Then cleaning"; spec 8,
//! "Kept versions").

use super::look::{self, LookRules};
use super::openat_root::{HANDLE, LIST, Place, Root, with_access};
use super::scan::everything;
use super::work_dir::{ARRIVALS, Durable, WorkDir};
use crate::process::fault;
use crate::replica::kept_versions::{self, Arrival, Arrivals, Line};
use crate::replica::kept_versions::{LONGEST_NAME, with_suffix};
use crate::replica::{Cleaned, Keep, Older, REPLACED, Retention, Version, lock_policy};
use crate::system::{rename_to_free, set_mode, set_owner};
use crate::tree::same::is_as_scanned;
use crate::tree::{Entry, Kind, NodeId, RelPath, Tree};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Gid, Mode, Uid};
use rustix::io::{Errno, Result};
use std::collections::{HashMap, HashSet};
use std::io;

/// Name limits to try: that of most file systems, and that of eCryptfs.
const LIMITS: [usize; 2] = [LONGEST_NAME, 143];

/// The records of arrivals, read when something is asked of them.
#[derive(Debug, Default)]
pub(super) struct Records {
    backup: Option<Arrivals>,
    deleted: Option<Arrivals>,
    /// What has come since the record was written last.
    pending: Vec<(Keep, Line)>,
}

impl Records {
    fn of(&mut self, work: &WorkDir, keep: Keep) -> io::Result<&mut Arrivals> {
        let loaded = match keep {
            Keep::Backup => &mut self.backup,
            Keep::Deleted => &mut self.deleted,
        };
        Ok(match loaded {
            Some(arrivals) => arrivals,
            None => loaded.insert(load(work, keep)?),
        })
    }

    /// What is recorded of a kept entry, and when a directory above it came whole.
    fn look_up(
        &mut self,
        work: &WorkDir,
        keep: Keep,
        kept: &RelPath,
    ) -> io::Result<(Option<Arrival>, Option<i64>)> {
        for (keep, line) in std::mem::take(&mut self.pending) {
            append(work, keep, std::slice::from_ref(&line), Durable::WithTheRun)?;
            self.of(work, keep)?.add(&[line]);
        }
        let arrivals = self.of(work, keep)?;
        let above = kept.ancestors().skip(1);
        let above = above.filter_map(|dir| arrivals.get(&dir)).map(|arrival| arrival.at).max();
        Ok((arrivals.get(kept), above))
    }

    /// Writes lines down now.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn note(
        &mut self,
        work: &WorkDir,
        keep: Keep,
        lines: &[Line],
        durable: Durable,
    ) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        append(work, keep, lines, durable)?;
        let loaded = match keep {
            Keep::Backup => &mut self.backup,
            Keep::Deleted => &mut self.deleted,
        };
        if let Some(arrivals) = loaded {
            arrivals.add(lines);
        }
        Ok(())
    }

    /// Has a line written with the others of its batch.
    pub fn note_with_the_batch(&mut self, keep: Keep, line: Line) {
        self.pending.push((keep, line));
    }

    /// Writes what the batch has brought.
    ///
    /// # Errors
    /// A record cannot be written.
    pub fn end_batch(&mut self, work: &WorkDir) -> io::Result<()> {
        let pending = std::mem::take(&mut self.pending);
        for keep in [Keep::Backup, Keep::Deleted] {
            let lines = pending.iter().filter(|(of, _)| *of == keep);
            let lines: Vec<Line> = lines.map(|(_, line)| line.clone()).collect();
            self.note(work, keep, &lines, Durable::WithTheRun)?;
        }
        Ok(())
    }
}

fn append(work: &WorkDir, keep: Keep, lines: &[Line], durable: Durable) -> io::Result<()> {
    work.append(keep.record_name(), &kept_versions::added(lines), durable)
}

/// Reads the record of a directory, that of an older version included.
///
/// # Errors
/// It cannot be read.
pub(super) fn load(work: &WorkDir, keep: Keep) -> io::Result<Arrivals> {
    let mut arrivals = Arrivals::read(&work.read(keep.record_name())?.unwrap_or_default());
    if let Some(older) = work.read(ARRIVALS)? {
        arrivals.read_older(&older, keep);
    }
    Ok(arrivals)
}

/// `backup/` or `deleted/`, open.
pub(super) struct VersionStore<'a> {
    replica: &'a Root,
    work: &'a WorkDir,
    keep: Keep,
    /// The directory itself.
    pub root: Root,
}

/// A place in `backup/` or `deleted/` that is free, or holds what may be replaced.
#[derive(Debug)]
pub(super) struct Free {
    /// The directory, made if it was missing.
    pub dir: OwnedFd,
    /// Whether an older backup stands there that is to be replaced.
    pub replace: bool,
    /// The name that an older version got to make room.
    pub older: Option<RelPath>,
}

impl Free {
    /// Makes a copy's name durable.
    pub fn sync(&self) {
        if let Ok(dir) = rustix::fs::openat(&self.dir, ".", LIST, Mode::empty()) {
            let _ = rustix::fs::fsync(dir);
        }
    }
}

impl<'a> VersionStore<'a> {
    /// Opens the directory, made if it was missing; never through a link.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(replica: &'a Root, work: &'a WorkDir, keep: Keep) -> Result<Self> {
        Ok(VersionStore { replica, work, keep, root: work.keep(keep)? })
    }

    /// Makes `kept` free: its parents become directories, and what is kept there under that
    /// name already gets the date of its arrival, unless it is an ordinary file that a file
    /// may replace.
    ///
    /// # Errors
    /// What the system says.
    pub fn make_free(
        &self,
        records: &mut Records,
        kept: &RelPath,
        comes: Kind,
        older: Older,
    ) -> Result<Free> {
        let parent = kept.parent().unwrap_or_default();
        let dir = self.make_parents(records, &parent)?;
        let there = match LookRules::default().at(&dir, kept.name()) {
            Err(Errno::NOENT) => return Ok(Free { dir, replace: false, older: None }),
            result => result?,
        };
        // A record that cannot be read protects everything.
        let known = records.look_up(self.work, self.keep, kept);
        let is_ordinary = known
            .as_ref()
            .is_ok_and(|(own, _)| own.is_none_or(|arrival| arrival.version == Version::Ordinary));
        let files = there.kind == Kind::File && comes == Kind::File;
        if older == Older::Replaced && files && is_ordinary {
            return Ok(Free { dir, replace: true, older: None });
        }
        let moved = self.date(records, dir.as_fd(), kept, &there, known.unwrap_or_default())?;
        Ok(Free { dir, replace: false, older: Some(moved) })
    }

    /// Opens the directory at `path`, and makes what is missing of it, each with the mode
    /// and owner that the directory of this name has in the replica: what only few may see
    /// stays that way. What stands in the way gets the date of its arrival.
    fn make_parents(&self, records: &mut Records, path: &RelPath) -> Result<OwnedFd> {
        match self.root.handle(path.as_bytes()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            result => return result,
        }
        let mut above = self.root.handle(b"")?;
        let mut at = RelPath::root();
        for name in path.components() {
            let below = at.join(name);
            above = match rustix::fs::openat(&above, name, HANDLE, Mode::empty()) {
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let there = LookRules::default().at(&above, name)?;
                    let known = records.look_up(self.work, self.keep, &below).unwrap_or_default();
                    self.date(records, above.as_fd(), &below, &there, known)?;
                    self.make_dir(&above, name, &below)?
                }
                Err(Errno::NOENT) => self.make_dir(&above, name, &below)?,
                result => result?,
            };
            at = below;
        }
        Ok(above)
    }

    fn make_dir(&self, above: &OwnedFd, name: &[u8], at: &RelPath) -> Result<OwnedFd> {
        let made = || rustix::fs::mkdirat(above, name, Mode::RWXU);
        match with_access(&[above.as_fd()], made) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(other) => return Err(other),
        }
        let dir = rustix::fs::openat(above, name, HANDLE, Mode::empty())?;
        if let Ok(like) = self.replica.handle(at.as_bytes()).and_then(look::of_open) {
            imitate(dir.as_fd(), &like);
        }
        Ok(dir)
    }

    /// Renames what is kept as `kept` in `dir`: its name gets the date of its arrival, and a
    /// number if that is taken too. That moment is written down first: the rename renews its
    /// ctime, and does not make it younger.
    fn date(
        &self,
        records: &mut Records,
        dir: BorrowedFd<'_>,
        kept: &RelPath,
        there: &Entry,
        (own, above): (Option<Arrival>, Option<i64>),
    ) -> Result<RelPath> {
        let came = kept_versions::came(there, own, above).unwrap_or_else(lock_policy::now);
        let date = kept_versions::dated(came);
        let version = own.map_or(Version::Ordinary, |arrival| arrival.version);
        let arrival = Arrival { at: came, version, is_renamed: true };
        let is_dir = there.kind.is_dir();
        let durable = if is_dir || version == Version::Protected {
            Durable::Now
        } else {
            Durable::WithTheRun
        };
        let parent = kept.parent().unwrap_or_default();
        for longest in LIMITS {
            for number in 0..1000 {
                let suffix = if number == 0 { date.clone() } else { format!("{date}.{number}") };
                let new = parent.join(&with_suffix(kept.name(), suffix.as_bytes(), longest));
                if LookRules::default().at(dir, new.name()).is_ok() {
                    continue;
                }
                records
                    .note(self.work, self.keep, &[Line { kept: new.clone(), arrival }], durable)
                    .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
                fault::point("its date is noted");
                let rename = || rename_to_free(dir, kept.name(), dir, new.name());
                match with_access(&[dir], rename) {
                    Err(Errno::EXIST) => {}
                    Err(Errno::NAMETOOLONG) => break,
                    result => return result.map(|()| new),
                }
            }
        }
        Err(Errno::NAMETOOLONG)
    }
}

/// As far as we may.
fn imitate(dir: BorrowedFd<'_>, like: &Entry) {
    let (uid, gid) = (Uid::from_raw(like.uid), Gid::from_raw(like.gid));
    let owned = set_owner(dir, Some(uid), Some(gid));
    // Group bits mean the group that we could not set.
    let mode = if owned.is_ok() { like.mode | 0o700 } else { like.mode & 0o7707 | 0o700 };
    let _ = set_mode(dir, mode);
}

/// Moves `place`, which looks like `entry`, to its free place within one file system.
///
/// # Errors
/// `EXDEV` where it is not one, and what else the system says.
pub(super) fn rename_into(
    place: &Place<'_>,
    entry: &Entry,
    free: &Free,
    kept: &RelPath,
) -> Result<()> {
    let rename = || {
        if free.replace {
            rustix::fs::renameat(&place.dir, place.name, &free.dir, kept.name())
        } else {
            rename_to_free(&place.dir, place.name, &free.dir, kept.name())
        }
    };
    with_moved(place, entry.kind, &free.dir, rename)
}

/// Renames with all the access that can be had: a directory that gets another parent must
/// itself be writable, because its `..` changes.
///
/// # Errors
/// What the action says.
pub(super) fn with_moved(
    place: &Place<'_>,
    kind: Kind,
    to: &OwnedFd,
    rename: impl FnMut() -> Result<()>,
) -> Result<()> {
    let moved = if kind.is_dir() {
        rustix::fs::openat(&place.dir, place.name, HANDLE, Mode::empty()).ok()
    } else {
        None
    };
    let mut dirs = vec![place.dir.as_fd(), to.as_fd()];
    dirs.extend(moved.as_ref().map(AsFd::as_fd));
    with_access(&dirs, rename)
}

/// The directory of a run's private place that stands for `parent`, made if it is missing.
/// Nobody but this user gets into it.
///
/// # Errors
/// What the system says.
pub(super) fn private_dir(work: &WorkDir, run: &str, parent: &[u8]) -> Result<OwnedFd> {
    let path = [REPLACED.as_bytes(), b"/", run.as_bytes(), b"/", parent].concat();
    let path = path.strip_suffix(b"/").unwrap_or(&path);
    let work = Root::below_of(work)?;
    match work.handle(path) {
        Err(Errno::NOENT) => {}
        result => return result,
    }
    let mut above = work.handle(b"")?;
    for name in path.split(|byte| *byte == b'/') {
        match rustix::fs::mkdirat(&above, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(other) => return Err(other),
        }
        above = rustix::fs::openat(&above, name, HANDLE, Mode::empty())?;
    }
    Ok(above)
}

/// Removes the directories of a run's private place that are empty, and it itself.
///
/// # Errors
/// Something of it is not empty, or what the system says.
pub(super) fn close_private(work: &WorkDir, run: &str) -> Result<()> {
    let work = Root::below_of(work)?;
    let replaced = match work.handle(REPLACED.as_bytes()) {
        Err(Errno::NOENT) => return Ok(()),
        result => Root::below(result?),
    };
    let private = match replaced.handle(run.as_bytes()) {
        Err(Errno::NOENT) => None,
        result => Some(Root::below(result?)),
    };
    let mut result = Ok(());
    if let Some(private) = private {
        let (tree, _) = everything(&private, look::of_open(&private)?).map_err(|_| Errno::IO)?;
        let ids: Vec<NodeId> = tree.ids().filter(|id| tree.entry(*id).kind.is_dir()).collect();
        for id in ids.into_iter().rev() {
            let path = tree.path(id);
            let place = private.place(&path)?;
            let removed = with_access(&[place.dir.as_fd()], || {
                rustix::fs::unlinkat(&place.dir, place.name, AtFlags::REMOVEDIR)
            });
            result = result.and(removed);
        }
        let removed = rustix::fs::unlinkat(&replaced, run, AtFlags::REMOVEDIR);
        result = result.and(removed);
    }
    // That of another run, or what a killed one has left, keeps it there.
    let _ = rustix::fs::unlinkat(&work, REPLACED, AtFlags::REMOVEDIR);
    result
}

/// Removes what both directories have kept long enough. What cannot be removed does not stop
/// the rest.
///
/// # Errors
/// The first thing that went wrong, for people.
pub(super) fn clean(
    work: &WorkDir,
    retention: Retention,
    now: i64,
) -> std::result::Result<Cleaned, String> {
    let mut cleaned = Cleaned { kept: Some(0), ..Cleaned::default() };
    let mut trouble = None;
    let mut is_older_read = true;
    for (keep, days) in
        [(Keep::Backup, retention.backup_days), (Keep::Deleted, retention.deleted_days)]
    {
        if days == 0 {
            // What is kept for ever needs its record for its name only.
            is_older_read = false;
            let bytes = bytes_in(work, keep);
            cleaned.kept = cleaned.kept.zip(bytes).map(|(kept, more)| kept + more);
            continue;
        }
        let done = work
            .keep_if_there(keep)
            .map_err(|error| format!("cannot open {}: {error}", keep.name()))
            .and_then(|root| clean_one(work, root.as_ref(), keep, days, now, &mut cleaned));
        is_older_read &= done.is_ok();
        trouble = trouble.or(done.err());
    }
    if trouble.is_none() && is_older_read {
        // All of it that still means something stands in the records now.
        let gone = work.remove(ARRIVALS);
        trouble = gone.err().map(|error| format!("cannot remove {ARRIVALS}: {error}"));
    }
    trouble.map_or(Ok(cleaned), Err)
}

fn clean_one(
    work: &WorkDir,
    root: Option<&Root>,
    keep: Keep,
    days: u32,
    now: i64,
    cleaned: &mut Cleaned,
) -> std::result::Result<(), String> {
    let name = keep.record_name();
    let mut arrivals =
        load(work, keep).map_err(|error| format!("cannot read arrivals ({name}): {error}"))?;
    let from_older = work.read(ARRIVALS).is_ok_and(|older| older.is_some());
    let mut trouble = None;
    let mut unknown = Vec::new();
    if let Some(root) = root {
        let top =
            look::of_open(root).map_err(|e| format!("cannot look at {}: {e}", keep.name()))?;
        let (tree, problems) = everything(root, top).map_err(|e| e.to_string())?;
        let shown = |path: &RelPath| format!("{}/{path}", keep.name());
        trouble = problems.first().map(|problem| {
            format!("{}: {}", shown(&problem.path.clone().unwrap_or_default()), problem.text)
        });
        let mut gone = HashSet::new();
        let removed = cleaned.bytes;
        let mut sweep = Sweep { root, tree: &tree, days, now, gone: &mut gone, cleaned };
        unknown = sweep.all(&arrivals, &mut trouble);
        let left = bytes_of_files(&tree).saturating_sub(cleaned.bytes - removed);
        cleaned.kept = cleaned.kept.filter(|_| trouble.is_none()).map(|kept| kept + left);
        // What could not be seen is not gone.
        if trouble.is_none() {
            arrivals.forget_unless(|kept| tree.find(kept).is_some_and(|id| !gone.contains(&id)));
        }
    } else {
        arrivals.forget_unless(|_| false);
    }
    let written = if arrivals.is_stale() || from_older {
        arrivals.add(&unknown);
        match arrivals.to_text() {
            text if text.is_empty() => work.remove(name).map_err(io::Error::from),
            text => work.replace(name, &text, Durable::Now),
        }
    } else if unknown.is_empty() {
        Ok(())
    } else {
        append(work, keep, &unknown, Durable::WithTheRun)
    };
    trouble = trouble.or(written.err().map(|e| format!("cannot write arrivals ({name}): {e}")));
    trouble.map_or(Ok(()), Err)
}

/// Bytes of all files in one of the two directories; `None`: not all of it can be seen.
fn bytes_in(work: &WorkDir, keep: Keep) -> Option<u64> {
    let Some(root) = work.keep_if_there(keep).ok()? else { return Some(0) };
    let (tree, problems) = everything(&root, look::of_open(&root).ok()?).ok()?;
    problems.is_empty().then(|| bytes_of_files(&tree))
}

fn bytes_of_files(tree: &Tree) -> u64 {
    let is_file = |id: &NodeId| tree.entry(*id).kind == Kind::File;
    tree.ids().filter(is_file).map(|id| tree.entry(id).size).sum()
}

/// One of the two directories while it is cleaned.
struct Sweep<'a> {
    root: &'a Root,
    tree: &'a Tree,
    days: u32,
    now: i64,
    /// What is not there any more.
    gone: &'a mut HashSet<NodeId>,
    cleaned: &'a mut Cleaned,
}

impl Sweep<'_> {
    /// Removes what is old. Returns what nothing tells the arrival of: it counts from now.
    fn all(&mut self, arrivals: &Arrivals, trouble: &mut Option<String>) -> Vec<Line> {
        let tree = self.tree;
        let own: HashMap<NodeId, Arrival> = arrivals
            .iter()
            .filter_map(|(kept, arrival)| Some((tree.find(kept)?, arrival)))
            .collect();
        let ids: Vec<NodeId> = tree.ids().collect();
        // Parents stand before their children: each knows when a directory above it came.
        let mut whole: HashMap<NodeId, i64> = HashMap::new();
        for id in &ids {
            let above: Option<i64> = whole.get(&tree.parent(*id)).copied();
            if let Some(at) = above.max(own.get(id).map(|own| own.at)) {
                whole.insert(*id, at);
            }
        }
        let mut unknown = Vec::new();
        let mut removed_below: HashMap<NodeId, usize> = HashMap::new();
        for id in ids.iter().rev() {
            let entry = tree.entry(*id);
            let above = whole.get(&tree.parent(*id)).copied();
            let came = kept_versions::came(entry, own.get(id).copied(), above);
            let children = tree.children(*id).len();
            let goes = match came {
                _ if children > 0 => removed_below.get(id) == Some(&children),
                Some(came) => kept_versions::is_old(came, self.now, self.days),
                None => {
                    unknown.push(Line::now(tree.path(*id), Version::Ordinary, self.now));
                    false
                }
            };
            if !goes {
                continue;
            }
            let path = tree.path(*id);
            match remove(self.root, &path, entry) {
                Ok(()) => {
                    *removed_below.entry(tree.parent(*id)).or_default() += 1;
                    self.gone.insert(*id);
                    if !entry.kind.is_dir() {
                        self.cleaned.entries += 1;
                        self.cleaned.bytes += entry.size;
                    }
                }
                Err(Errno::NOENT | Errno::NOTEMPTY) => {}
                Err(error) => {
                    trouble.get_or_insert_with(|| format!("cannot remove {path}: {error}"));
                }
            }
        }
        unknown
    }
}

fn remove(root: &Root, path: &RelPath, entry: &Entry) -> Result<()> {
    let place = root.place(path)?;
    let now = LookRules::default().at(&place.dir, place.name)?;
    // Somebody put something new there: it is not old enough.
    if !is_as_scanned(entry, &now) {
        return Err(Errno::NOENT);
    }
    fault::point("purging");
    let flags = if entry.kind.is_dir() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    with_access(&[AsFd::as_fd(&place.dir)], || rustix::fs::unlinkat(&place.dir, place.name, flags))
}

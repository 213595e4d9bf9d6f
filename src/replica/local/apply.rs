//! Carries out operations on a local replica (spec 4, "Deleting", "Order of acting").
//!
//! Each looks at its path again right before, in the open directory that holds it, and
//! then changes that very name in that very directory.

use super::copy::{self, Appear, Copied};
use super::look::{self, LookRules};
use super::openat_root::{HANDLE, LastDir, Place, Root, only_mtime, split, with_access};
use super::versions::{Free, Records, VersionStore, private_dir, rename_into, with_moved};
use super::work_dir::{Durable, WorkDir};
use crate::process::fault;
use crate::replica::WORK_DIR;
use crate::replica::kept_versions::Line;
use crate::replica::{
    AttributeChange, Fate, Keep, Keeping, KeptAt, Op, OpResult, PathError, Version, attributes,
    kept_versions, lock_policy,
};
use crate::system::{AtLink, Pinned, rename_to_free, set_mode};
use crate::threads;
use crate::tree::names::{Case, Forms, Naming};
use crate::tree::same::{is_as_scanned, is_same_inode};
use crate::tree::{Entry, Kind, RelPath, Stamp};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Access, AtFlags, Gid, Mode, Uid};
use rustix::io::Errno;
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

type OpOutcome = Result<OpResult, PathError>;

/// What operations work with.
pub(super) struct LocalExecutor<'a> {
    pub root: &'a Root,
    /// The work directory; an error if it could not be opened.
    pub work: Result<&'a WorkDir, Errno>,
    /// How the scan looked, so that looking again sees the same.
    pub look: LookRules,
    /// The name of this run's private place.
    pub run: &'a str,
    /// When things came into `backup/` and `deleted/`.
    pub records: &'a Mutex<Records>,
}

/// The same words as those of `apply.sh`.
const BEHIND_A_LINK: &str = "a directory above it is a symbolic link, and nothing is changed \
                             behind one but by rsync";

fn of_the_root() -> PathError {
    PathError::Failed {
        action: "change the root of the replica".into(),
        cause: "only what is in it is synchronised".to_owned(),
    }
}

fn not_noted(error: std::io::Error) -> PathError {
    PathError::Failed {
        action: "note in the work directory when it is set aside".into(),
        cause: error.to_string(),
    }
}

pub(super) fn failed(action: &'static str) -> impl Fn(Errno) -> PathError {
    move |error| PathError::Failed { action: action.into(), cause: error.to_string() }
}

/// Whether what is at the new name is the entry itself, because the file system takes both
/// spellings for one: then only one of them is listed. (Inode numbers do not tell: some file
/// systems make one up for each spelling.)
fn is_itself(old: &Place<'_>, new: &Place<'_>) -> bool {
    const EVERY: Naming = Naming { case: Case::Folded, forms: Forms::Folded };
    if !EVERY.same_name(old.name, new.name) {
        return false;
    }
    let id = |dir: &OwnedFd| rustix::fs::fstat(dir).map(|stat| (stat.st_dev, stat.st_ino)).ok();
    let is_same_dir = id(&old.dir).is_some_and(|dir| Some(dir) == id(&new.dir));
    is_same_dir && is_listed(&old.dir, old.name) && !is_listed(&new.dir, new.name)
}

/// Whether a directory has an entry of just this spelling.
fn is_listed(dir: &OwnedFd, name: &[u8]) -> bool {
    let list = || -> rustix::io::Result<bool> {
        let dir = rustix::fs::openat(dir, c".", super::openat_root::LIST, Mode::empty())?;
        for entry in rustix::fs::Dir::new(dir)? {
            if entry?.file_name().to_bytes() == name {
                return Ok(true);
            }
        }
        Ok(false)
    };
    list().unwrap_or(false)
}

/// Gives an entry another spelling of its own name. Some file systems do nothing when both
/// names are one entry; there it takes a way over a third name.
fn respell(place: &Place<'_>, new: &[u8]) -> rustix::io::Result<()> {
    let Place { dir, name } = place;
    rustix::fs::renameat(dir, *name, dir, new)?;
    if is_listed(dir, new) {
        return Ok(());
    }
    let between = [new, b".osync-renames"].concat();
    rename_to_free(dir, name, dir, &between)?;
    fault::point("between two spellings");
    rename_to_free(dir, &between, dir, new).inspect_err(|_| {
        let _ = rename_to_free(dir, &between, dir, name);
    })
}

/// Whether something that makes way is what a scan has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KnownToScan {
    Yes,
    No,
}

impl LocalExecutor<'_> {
    /// What errors of the way to a path that was scanned mean: it is no longer as it was, or
    /// lies behind a link that the scan followed.
    fn on_the_way(&self, error: Errno) -> PathError {
        match error {
            Errno::NOENT => PathError::Vanished,
            Errno::NOTDIR | Errno::LOOP if self.look.follows() => {
                PathError::Failed { action: "reach it".into(), cause: BEHIND_A_LINK.to_owned() }
            }
            Errno::NOTDIR | Errno::LOOP => PathError::Changed,
            other => failed("open the directory that holds it")(other),
        }
    }

    /// Whether a name is a link that counts as what it points at.
    fn is_followed(&self, dir: BorrowedFd<'_>, name: &[u8]) -> bool {
        let look = LookRules::default().at(dir, name);
        let is_link = look.is_ok_and(|entry| entry.kind == Kind::Symlink);
        let there = || self.look.at(dir, name);
        is_link && there().is_ok_and(|entry| entry.kind != Kind::Symlink)
    }

    /// Carries out operations in order. Where they do nothing but set times, of different paths, no
    /// order matters, and several threads take part.
    pub fn apply(&self, ops: &[Op]) -> Vec<OpOutcome> {
        let mut paths = HashSet::new();
        if ops.iter().all(|op| matches!(op, Op::SetMtime { .. }) && paths.insert(op.path())) {
            return threads::map(ops, || {
                let mut dirs = LastDir::default();
                move |op| Some(self.one(op, &mut dirs))
            });
        }
        let noted = self.note_directories(ops);
        let done: Vec<OpOutcome> = ops
            .iter()
            .map(|op| match (op, &noted) {
                (Op::SetAside { expect, .. }, Err(error)) if expect.kind.is_dir() => {
                    Err(error.clone())
                }
                _ => self.one(op, &mut LastDir::default()),
            })
            .collect();
        // Without a line, its ctime tells when something came: no reason to call the work
        // undone.
        if let Ok(work) = self.work {
            let _ = self.records().end_batch(work);
        }
        done
    }

    fn one(&self, op: &Op, dirs: &mut LastDir) -> OpOutcome {
        fault::point(op.name());
        let outcome = self.carry_out(op, dirs);
        fault::point("an operation is done");
        outcome
    }

    fn carry_out(&self, op: &Op, dirs: &mut LastDir) -> OpOutcome {
        let plainly = |outcome: Result<(), PathError>| outcome.map(|()| OpResult::Plainly);
        match op {
            Op::MakeDir { path, mode } => plainly(self.make_dir(path, *mode)),
            Op::Rename { from, to, expect } => plainly(self.rename(from, to, expect)),
            Op::SetAside { path, expect, keeping } => self.set_aside(path, expect, *keeping),
            Op::KeepCopy { path, expect } => self.keep_copy(path, expect),
            Op::PutAway { replaced, found, fate } => self.put_away(replaced, found, fate),
            Op::Remove { path, expect } => self.remove(path, expect),
            Op::SetMetadata { path, expect, mode, uid, gid } => {
                plainly(self.set_metadata(path, expect, *mode, *uid, *gid))
            }
            Op::SetAttributes { path, expect, change } => {
                plainly(self.set_attributes(path, expect, change))
            }
            Op::SetMtime { path, mtime, expect } => {
                plainly(self.set_mtime(path, *mtime, expect.as_ref(), dirs))
            }
        }
    }

    /// Directories that will be kept are noted, and on the disk, before the first of them
    /// moves: what lies in them has ctimes that say nothing, and a record of something that
    /// did not come does no harm. Where something of that name is kept already it would: that
    /// one is noted when the old one has made room.
    fn note_directories(&self, ops: &[Op]) -> Result<(), PathError> {
        let kept: Vec<(Keeping, RelPath)> = ops
            .iter()
            .filter_map(|op| match op {
                Op::SetAside { path, expect, keeping } if expect.kind.is_dir() => {
                    Some((*keeping, kept_versions::kept_path(path)))
                }
                _ => None,
            })
            .collect();
        if kept.is_empty() {
            return Ok(());
        }
        let work = self.work()?;
        for keep in [Keep::Backup, Keep::Deleted] {
            let there = work.keep_if_there(keep).ok().flatten();
            let is_free = |kept: &RelPath| {
                let place = there.as_ref().map(|root| root.place(kept));
                !matches!(place, Some(Ok(place)) if LookRules::default().at(&place.dir, place.name).is_ok())
            };
            let lines: Vec<Line> = kept
                .iter()
                .filter(|(keeping, kept)| keeping.keep == keep && is_free(kept))
                .map(|(keeping, kept)| Line::now(kept.clone(), keeping.version, lock_policy::now()))
                .collect();
            let mut records = self.records();
            records.note(work, keep, &lines, Durable::Now).map_err(not_noted)?;
        }
        Ok(())
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) -> Result<&WorkDir, PathError> {
        self.work.map_err(failed("open the work directory"))
    }

    fn shelf(&self, keep: Keep) -> Result<VersionStore<'_>, PathError> {
        VersionStore::open(self.root, self.work()?, keep)
            .map_err(failed("open the directory that keeps it"))
    }

    /// The place of a path, and what is there, if that is still what was scanned.
    fn look_again<'p>(
        &self,
        path: &'p RelPath,
        expect: &Entry,
        same: fn(&Entry, &Entry) -> bool,
    ) -> Result<(Place<'p>, Entry), PathError> {
        if path.is_root() {
            return Err(of_the_root());
        }
        let place = self.root.place(path).map_err(|error| self.on_the_way(error))?;
        let now = self.look_in(place.dir.as_fd(), place.name, expect, same)?;
        Ok((place, now))
    }

    /// The directory of a path whose metadata is set. That takes nothing away, so it also reaches
    /// behind links that count as directories (KEEP_DIRLINKS).
    fn dir_of_metadata(&self, dir: &[u8]) -> Result<OwnedFd, Errno> {
        if self.look.keep_dirlinks && !self.look.copy_symlinks {
            self.root.following(dir, HANDLE)
        } else {
            self.root.handle(dir)
        }
    }

    /// [`Self::look_again`] in a directory that is open already.
    fn look_in(
        &self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        expect: &Entry,
        same: fn(&Entry, &Entry) -> bool,
    ) -> Result<Entry, PathError> {
        let now = match self.look.at(dir, name) {
            Err(Errno::NOENT) => return Err(PathError::Vanished),
            result => result.map_err(failed("look at it again"))?,
        };
        if same(expect, &now) { Ok(now) } else { Err(PathError::Changed) }
    }

    fn make_dir(&self, path: &RelPath, mode: u16) -> Result<(), PathError> {
        let place = self.root.place(path).map_err(failed("open the directory for it"))?;
        // With its bits from the first moment, as far as the umask lets them through: if we
        // are killed here, the next run finds it on both sides and must choose one mode.
        let bits = Mode::from_raw_mode(mode.into()) & Mode::from_raw_mode(0o777);
        let made = with_access(&[place.dir.as_fd()], || {
            rustix::fs::mkdirat(&place.dir, place.name, bits | Mode::RWXU)
        });
        match made {
            Ok(()) => fault::point("directory without mode"),
            Err(Errno::EXIST) => {
                let there = self.look.at(&place.dir, place.name);
                let there = there.map_err(failed("look at what is there"))?;
                let fine = there.kind.is_dir();
                return if fine { Ok(()) } else { Err(PathError::Occupied(path.clone())) };
            }
            Err(other) => return Err(failed("make the directory")(other)),
        }
        let flags = HANDLE;
        rustix::fs::openat(&place.dir, place.name, flags, Mode::empty())
            .and_then(|dir| set_mode(dir, mode))
            .map_err(failed("set the mode of the new directory"))
    }

    fn rename(&self, from: &RelPath, to: &RelPath, expect: &Entry) -> Result<(), PathError> {
        let (place, now) = self.look_again(from, expect, is_as_scanned)?;
        let new = self.root.place(to).map_err(failed("open the directory it should go to"))?;
        let rename = || rename_to_free(&place.dir, place.name, &new.dir, new.name);
        match with_moved(&place, now.kind, &new.dir, rename) {
            Err(Errno::EXIST | Errno::NOTEMPTY) if is_itself(&place, &new) => {
                respell(&place, new.name).map_err(failed("spell its name anew"))
            }
            Err(Errno::EXIST | Errno::NOTEMPTY) => Err(PathError::Occupied(to.clone())),
            Err(Errno::XDEV) => self.move_across(&place, &now, to, &new),
            result => result.map_err(failed("rename it")),
        }
    }

    /// A move to another file system inside the replica. Each file appears complete; what
    /// is broken off in between merges with the other side's in the next run.
    fn move_across(
        &self,
        place: &Place<'_>,
        entry: &Entry,
        to: &RelPath,
        new: &Place<'_>,
    ) -> Result<(), PathError> {
        match self.look.at(&new.dir, new.name) {
            Err(Errno::NOENT) => {}
            Ok(_) => return Err(PathError::Occupied(to.clone())),
            Err(error) => return Err(failed("look at where it should go")(error)),
        }
        let copied = copy::tree(place, entry, new.dir.as_fd(), new.name, Appear::Complete)?;
        fault::point("copied, not removed");
        copy::remove_copied(place, &copied)
    }

    fn set_aside(&self, path: &RelPath, expect: &Entry, keeping: Keeping) -> OpOutcome {
        let (place, now) = self.look_again(path, expect, is_as_scanned)?;
        let shelf = self.shelf(keeping.keep)?;
        let kept = kept_versions::kept_path(path);
        let free = self.make_free(&shelf, &kept, now.kind, keeping)?;
        fault::point("room made");
        let before = self.as_itself(&place, &now)?;
        match rename_into(&place, &now, &free, &kept) {
            Err(Errno::XDEV) => {
                self.set_aside_across(&place, &now, &shelf, &free, &kept)?;
                return Ok(self.came(kept, keeping, free.older, KnownToScan::Yes));
            }
            result => result.map_err(failed("move it to where it is kept"))?,
        }
        fault::point("set aside, not looked at");
        let seen = self.judge_moved(&place, &before, &free.dir, kept.name())?;
        Ok(self.came(kept, keeping, free.older, seen))
    }

    /// To another file system: a copy first, then what was copied goes.
    fn set_aside_across(
        &self,
        place: &Place<'_>,
        now: &Entry,
        shelf: &VersionStore<'_>,
        free: &Free,
        kept: &RelPath,
    ) -> Result<(), PathError> {
        // A copy of what cannot be removed would be one more at each run.
        let is_writable =
            rustix::fs::accessat(&place.dir, c".", Access::WRITE_OK, AtFlags::empty());
        if is_writable == Err(Errno::ROFS) {
            return Err(failed("remove it")(Errno::ROFS));
        }
        let copied = self.copy_into(place, now, &shelf.root, free, kept)?;
        fault::point("copied, not removed");
        if now.kind.is_dir() {
            return copy::remove_copied(place, &copied);
        }
        copy::remove(place, now).map_err(|error| {
            if error == Errno::STALE {
                return PathError::Changed;
            }
            let _ = rustix::fs::unlinkat(&free.dir, kept.name(), AtFlags::empty());
            failed("remove it")(error)
        })
    }

    /// Room for something that is to be kept. A directory, and what must not be replaced, is
    /// noted here if it could not be noted before.
    fn make_free(
        &self,
        shelf: &VersionStore<'_>,
        kept: &RelPath,
        comes: Kind,
        keeping: Keeping,
    ) -> Result<Free, PathError> {
        let mut records = self.records();
        let free = shelf
            .make_free(&mut records, kept, comes, keeping.older)
            .map_err(failed("make the place where it is kept"))?;
        let had_another = free.older.is_some() || free.replace;
        if (comes.is_dir() && had_another) || keeping.version == Version::Protected {
            let line = Line::now(kept.clone(), keeping.version, lock_policy::now());
            records.note(self.work()?, keeping.keep, &[line], Durable::Now).map_err(not_noted)?;
        }
        Ok(free)
    }

    /// Where something is kept now, which is written down with the rest of its batch.
    fn came(
        &self,
        kept: RelPath,
        keeping: Keeping,
        older: Option<RelPath>,
        known: KnownToScan,
    ) -> OpResult {
        let is_unseen = known == KnownToScan::No;
        let version = if is_unseen { Version::Protected } else { keeping.version };
        // A protected one was noted before it came.
        if is_unseen || version == Version::Ordinary {
            let line = Line::now(kept.clone(), version, lock_policy::now());
            self.records().note_with_the_batch(keeping.keep, line);
        }
        OpResult::Kept(KeptAt { keep: keeping.keep, kept, is_unseen, older })
    }

    /// How an entry looks by itself: a link that counts as what it points at may point at
    /// nothing from elsewhere.
    fn as_itself(&self, place: &Place<'_>, now: &Entry) -> Result<Entry, PathError> {
        if !self.look.follows() {
            return Ok(now.clone());
        }
        LookRules::default().at(&place.dir, place.name).map_err(failed("look at it again"))
    }

    /// Looks at what was moved: somebody may have replaced or edited it in the instant
    /// between our look and the move. Then it goes back to its name, and if that has been
    /// taken by then, it stays.
    fn judge_moved(
        &self,
        place: &Place<'_>,
        before: &Entry,
        dir: &OwnedFd,
        name: &[u8],
    ) -> Result<KnownToScan, PathError> {
        let moved = LookRules::default().at(dir, name).map_err(failed("look at what was moved"))?;
        if is_as_scanned(before, &moved) {
            return Ok(KnownToScan::Yes);
        }
        let back = || rename_to_free(dir, name, &place.dir, place.name);
        match with_access(&[place.dir.as_fd()], back) {
            Ok(()) => Err(PathError::Changed),
            Err(_) => Ok(KnownToScan::No),
        }
    }

    fn keep_copy(&self, path: &RelPath, expect: &Entry) -> OpOutcome {
        let (place, now) = self.look_again(path, expect, is_as_scanned)?;
        let shelf = self.shelf(Keep::Backup)?;
        let kept = kept_versions::short_kept_path(path);
        let keeping = Keeping::dated(Keep::Backup);
        let free = self.make_free(&shelf, &kept, now.kind, keeping)?;
        self.copy_into(&place, &now, &shelf.root, &free, &kept)?;
        Ok(self.came(kept, keeping, free.older, KnownToScan::Yes))
    }

    fn put_away(&self, replaced: &RelPath, found: &Entry, fate: &Fate) -> OpOutcome {
        let place = self.root.place(replaced).map_err(|error| self.on_the_way(error))?;
        let now = LookRules::default().at(&place.dir, place.name);
        let now = now.map_err(|error| self.on_the_way(error))?;
        if !is_as_scanned(found, &now) {
            return Err(PathError::Changed);
        }
        match fate {
            Fate::Discard => {
                let removed = rustix::fs::unlinkat(&place.dir, place.name, AtFlags::empty());
                removed.map_err(failed("remove what was replaced"))?;
                Ok(OpResult::Plainly)
            }
            Fate::Keep { kept, keeping } => {
                let shelf = self.shelf(keeping.keep)?;
                let free = self.make_free(&shelf, kept, now.kind, *keeping)?;
                fault::point("room made");
                match rename_into(&place, &now, &free, kept) {
                    // Another disk is mounted where versions are kept.
                    Err(Errno::XDEV) => {
                        let copied = self.copy_into(&place, &now, &shelf.root, &free, kept)?;
                        copy::remove_copied(&place, &copied)?;
                    }
                    result => result.map_err(failed("move it to where it is kept"))?,
                }
                Ok(self.came(kept.clone(), *keeping, free.older, KnownToScan::Yes))
            }
        }
    }

    /// Copies to a name of ours first: what has the real name is complete.
    fn copy_into(
        &self,
        place: &Place<'_>,
        entry: &Entry,
        keep: &Root,
        free: &Free,
        kept: &RelPath,
    ) -> Result<Copied, PathError> {
        let aside = format!("{}{}", super::work_dir::UNFINISHED, std::process::id()).into_bytes();
        copy::remove_unfinished(keep.as_fd(), &aside);
        let made =
            copy::tree(place, entry, keep.as_fd(), &aside, Appear::Anyhow).and_then(|copied| {
                fault::point("copied, not named");
                let temporary =
                    Place { dir: keep.handle(b"").map_err(failed("copy it"))?, name: &aside };
                rename_into(&temporary, entry, free, kept).map_err(failed("name its copy"))?;
                Ok(copied)
            });
        if made.is_err() {
            copy::remove_unfinished(keep.as_fd(), &aside);
        } else {
            free.sync();
        }
        made
    }

    fn remove(&self, path: &RelPath, expect: &Entry) -> OpOutcome {
        let (place, now) = self.look_again(path, expect, is_as_scanned)?;
        // An empty directory holds nothing that could be lost, and in the work directory
        // nobody else works.
        let is_ours = path.components().next() == Some(WORK_DIR);
        if now.kind.is_dir() || is_ours {
            return self.remove_at_once(&place, now.kind);
        }
        let before = self.as_itself(&place, &now)?;
        let (parent, name) = split(path.as_bytes());
        let private = match private_dir(self.work()?, self.run, parent) {
            // A full disk must not keep anybody from making room.
            Err(Errno::NOSPC | Errno::DQUOT) => return self.remove_at_once(&place, now.kind),
            result => result.map_err(failed("make a place for it in the work directory"))?,
        };
        let rename = || rename_to_free(&place.dir, place.name, &private, name);
        match with_access(&[place.dir.as_fd()], rename) {
            // Another file system inside the replica, without a private place.
            Err(Errno::XDEV | Errno::NOSPC | Errno::DQUOT) => {
                return self.remove_at_once(&place, now.kind);
            }
            Err(Errno::NOENT) => return Err(PathError::Vanished),
            result => result.map_err(failed("remove it"))?,
        }
        fault::point("taken away, not looked at");
        if self.judge_moved(&place, &before, &private, name)? == KnownToScan::Yes {
            fault::point("taken away, not removed");
            let removed = rustix::fs::unlinkat(&private, name, AtFlags::empty());
            return removed.map(|()| OpResult::Plainly).map_err(failed("remove it"));
        }
        let shelf = self.shelf(Keep::Backup)?;
        let keeping = Keeping::protected(Keep::Backup);
        let kept = kept_versions::kept_path(path);
        let moved = LookRules::default().at(&private, name).map_err(failed("look at it again"))?;
        let free = self.make_free(&shelf, &kept, moved.kind, keeping)?;
        rename_into(&Place { dir: private, name }, &moved, &free, &kept)
            .map_err(failed("move it to where it is kept"))?;
        Ok(self.came(kept, keeping, free.older, KnownToScan::No))
    }

    fn remove_at_once(&self, place: &Place<'_>, kind: Kind) -> OpOutcome {
        let flags = if kind.is_dir() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        let removed = with_access(&[place.dir.as_fd()], || {
            rustix::fs::unlinkat(&place.dir, place.name, flags)
        });
        match removed {
            Err(Errno::NOTEMPTY | Errno::EXIST) => Err(PathError::NotEmpty),
            Err(Errno::NOENT) => Err(PathError::Vanished),
            Err(Errno::ISDIR | Errno::NOTDIR) => Err(PathError::Changed),
            result => result.map(|()| OpResult::Plainly).map_err(failed("remove it")),
        }
    }

    /// Opens the very entry that was scanned, so that nothing can come in between. A link that
    /// counts as a directory is that directory (KEEP_DIRLINKS); what a copied one points at
    /// is left as it is.
    fn with_pinned(
        &self,
        path: &RelPath,
        expect: &Entry,
        act: impl FnOnce(&Pinned<'_>, &Entry) -> Result<(), PathError>,
    ) -> Result<(), PathError> {
        if path.is_root() {
            return Err(of_the_root());
        }
        let (dir, name) = split(path.as_bytes());
        let dir = self.dir_of_metadata(dir).map_err(|error| self.on_the_way(error))?;
        let dir = dir.as_fd();
        self.look_in(dir, name, expect, is_same_inode)?;
        let mut at_link = AtLink::Stay;
        if self.look.follows() && self.is_followed(dir, name) {
            if self.look.copy_symlinks {
                return Err(PathError::Failed {
                    action: "change what a link points at".into(),
                    cause: "Operation not supported (COPY_SYMLINKS)".to_owned(),
                });
            }
            at_link = AtLink::Follow;
        }
        let pinned = Pinned::open(dir, name, at_link);
        let pinned = pinned.map_err(|error| self.on_the_way(error))?;
        let now = look::entry_of(&pinned.stat);
        if is_same_inode(expect, &now) { act(&pinned, &now) } else { Err(PathError::Changed) }
    }

    fn set_metadata(
        &self,
        path: &RelPath,
        expect: &Entry,
        mode: Option<u16>,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> Result<(), PathError> {
        self.with_pinned(path, expect, |pinned, now| {
            // The owner first: a new owner takes setuid and setgid away. They come back behind it.
            let gets_owner = uid.is_some() || gid.is_some();
            if gets_owner {
                let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
                pinned.set_owner(uid, gid).map_err(failed("set its owner and group"))?;
            }
            let stays = gets_owner.then_some(now.mode & 0o6000);
            let mode = mode.or(stays.filter(|bits| *bits != 0).map(|_| now.mode));
            match mode {
                Some(mode) if now.kind != Kind::Symlink => {
                    pinned.set_mode(mode).map_err(failed("set its permissions"))
                }
                _ => Ok(()),
            }
        })
    }

    fn set_attributes(
        &self,
        path: &RelPath,
        expect: &Entry,
        change: &AttributeChange,
    ) -> Result<(), PathError> {
        self.with_pinned(path, expect, |pinned, now| {
            attributes::change(now, pinned, change)
                .map_err(failed("set its ACL or extended attributes"))
        })
    }

    fn set_mtime(
        &self,
        path: &RelPath,
        mtime: Stamp,
        expect: Option<&Entry>,
        dirs: &mut LastDir,
    ) -> Result<(), PathError> {
        let (dir, name) = split(path.as_bytes());
        let dir = dirs.open(dir, || self.dir_of_metadata(dir));
        let dir = dir.map_err(|error| self.on_the_way(error))?;
        if let Some(expect) = expect {
            self.look_in(dir, name, expect, is_as_scanned)?;
        }
        let times = only_mtime(mtime);
        let mut flags = AtFlags::SYMLINK_NOFOLLOW;
        if self.look.follows() && self.is_followed(dir, name) {
            if self.look.copy_symlinks {
                return Ok(());
            }
            flags = AtFlags::empty();
        }
        rustix::fs::utimensat(dir, name, &times, flags).map_err(|error| match error {
            Errno::NOENT => PathError::Vanished,
            other => failed("set its time")(other),
        })
    }
}

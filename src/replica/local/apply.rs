//! Carries out operations on a local replica (spec 4, "Deleting", "Order of acting").
//!
//! Each looks at its path again right before, in the open directory that holds it, and
//! then changes that very name in that very directory.
//!
//! Copies for `backup/` and `deleted/` where a rename cannot do it: across file systems,
//! and of files that must stay (spec 4, "Deleting", "Overwriting").
//!
//! Content, mode, owner, times, attributes where they can be had. Iterative: depth costs
//! no stack. The kernel shares blocks where it can.

use super::look::{self, Look};
use super::openat_root::{
    HANDLE, LIST, Place, Root, only_mtime, rename_to_free, set_mode, with_access,
};
use super::scan::everything;
use super::versions::{Free, Records, VersionStore, private_dir, rename_into, with_moved};
use super::work_dir::{Durable, WORK_DIR, WorkDir};
use crate::process::fault;
use crate::replica::kept_versions::Line;
use crate::replica::{
    AttributeChange, Done, Fate, Keep, Keeping, KeptAt, Older, Op, PathError, Version, attributes,
    kept_versions, lock_policy,
};
use crate::tree::names::{Case, Forms, Naming};
use crate::tree::same::{is_as_scanned, is_same_inode};
use crate::tree::{Entry, Kind, NodeId, RelPath, Stamp, Tree, TreeBuilder};
use filetime::FileTime;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Access, AtFlags, CWD, FileType, Gid, Mode, OFlags, SeekFrom, Uid, XattrFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

type Outcome = Result<(), PathError>;
type Came = Result<Done, PathError>;

/// What operations work with.
pub(super) struct LocalExecutor<'a> {
    pub root: &'a Root,
    /// The work directory; an error if it could not be opened.
    pub work: Result<&'a WorkDir, Errno>,
    /// How the scan looked, so that looking again sees the same.
    pub look: Look,
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

fn failed(action: &'static str) -> impl Fn(Errno) -> PathError {
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
    rename_to_free(dir, name, dir, &between, true)?;
    fault::point("between two spellings");
    rename_to_free(dir, &between, dir, new, true).inspect_err(|_| {
        let _ = rename_to_free(dir, &between, dir, name, true);
    })
}

/// Whether something that makes way is what a scan has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Before,
    Never,
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
    fn is_followed(&self, place: &Place<'_>) -> bool {
        let look = Look::default().at(&place.dir, place.name);
        let is_link = look.is_ok_and(|entry| entry.kind == Kind::Symlink);
        let there = || self.look.at(&place.dir, place.name);
        is_link && there().is_ok_and(|entry| entry.kind != Kind::Symlink)
    }

    /// Carries out operations in order.
    pub fn apply(&self, ops: &[Op]) -> Vec<Came> {
        let noted = self.note_directories(ops);
        let done: Vec<Came> = ops
            .iter()
            .map(|op| match (op, &noted) {
                (Op::SetAside { expect, .. }, Err(error)) if expect.kind.is_dir() => {
                    Err(error.clone())
                }
                _ => self.one(op),
            })
            .collect();
        // Without a line, its ctime tells when something came: no reason to call the work
        // undone.
        if let Ok(work) = self.work {
            let _ = self.records().end_batch(work);
        }
        done
    }

    fn one(&self, op: &Op) -> Came {
        fault::point(op.name());
        let outcome = self.carry_out(op);
        fault::point("an operation is done");
        outcome
    }

    fn carry_out(&self, op: &Op) -> Came {
        let plainly = |outcome: Outcome| outcome.map(|()| Done::Plainly);
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
                plainly(self.set_mtime(path, *mtime, expect.as_ref()))
            }
        }
    }

    /// Directories that will be kept are noted, and on the disk, before the first of them
    /// moves: what lies in them has ctimes that say nothing, and a record of something that
    /// did not come does no harm. Where something of that name is kept already it would: that
    /// one is noted when the old one has made room.
    fn note_directories(&self, ops: &[Op]) -> Outcome {
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
                !matches!(place, Some(Ok(place)) if Look::default().at(&place.dir, place.name).is_ok())
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
        self.look_in(place, expect, same)
    }

    /// The place of a path whose metadata is set. That takes nothing away, so it also reaches
    /// behind links that count as directories (KEEP_DIRLINKS).
    fn place_of_metadata<'p>(&self, path: &'p RelPath) -> Result<Place<'p>, PathError> {
        let place = if self.look.keep_dirlinks && !self.look.copy_symlinks {
            let (dir, name) = super::openat_root::split(path.as_bytes());
            self.root.following(dir, HANDLE).map(|dir| Place { dir, name })
        } else {
            self.root.place(path)
        };
        place.map_err(|error| self.on_the_way(error))
    }

    /// [`Self::look_again`] in a directory that is open already.
    fn look_in<'p>(
        &self,
        place: Place<'p>,
        expect: &Entry,
        same: fn(&Entry, &Entry) -> bool,
    ) -> Result<(Place<'p>, Entry), PathError> {
        let now = match self.look.at(&place.dir, place.name) {
            Err(Errno::NOENT) => return Err(PathError::Vanished),
            result => result.map_err(failed("look at it again"))?,
        };
        if same(expect, &now) { Ok((place, now)) } else { Err(PathError::Changed) }
    }

    fn make_dir(&self, path: &RelPath, mode: u16) -> Outcome {
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

    fn rename(&self, from: &RelPath, to: &RelPath, expect: &Entry) -> Outcome {
        let (place, now) = self.look_again(from, expect, is_as_scanned)?;
        let new = self.root.place(to).map_err(failed("open the directory it should go to"))?;
        let rename =
            || rename_to_free(&place.dir, place.name, &new.dir, new.name, now.kind.is_dir());
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
    ) -> Outcome {
        match self.look.at(&new.dir, new.name) {
            Err(Errno::NOENT) => {}
            Ok(_) => return Err(PathError::Occupied(to.clone())),
            Err(error) => return Err(failed("look at where it should go")(error)),
        }
        let copied = tree(place, entry, new.dir.as_fd(), new.name, Appear::Complete)?;
        fault::point("copied, not removed");
        remove_copied(place, &copied)
    }

    fn set_aside(&self, path: &RelPath, expect: &Entry, keeping: Keeping) -> Came {
        let (place, now) = self.look_again(path, expect, is_as_scanned)?;
        let shelf = self.shelf(keeping.keep)?;
        let kept = kept_versions::kept_path(path);
        let free = self.make_free(&shelf, &kept, now.kind, keeping)?;
        fault::point("room made");
        let before = self.as_itself(&place, &now)?;
        match rename_into(&place, &now, &free, &kept) {
            Err(Errno::XDEV) => {
                self.set_aside_across(&place, &now, &shelf, &free, &kept)?;
                return Ok(self.came(kept, keeping, free.older, Seen::Before));
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
    ) -> Outcome {
        // A copy of what cannot be removed would be one more at each run.
        let is_writable =
            rustix::fs::accessat(&place.dir, c".", Access::WRITE_OK, AtFlags::empty());
        if is_writable == Err(Errno::ROFS) {
            return Err(failed("remove it")(Errno::ROFS));
        }
        let copied = self.copy_into(place, now, &shelf.root, free, kept)?;
        fault::point("copied, not removed");
        if now.kind.is_dir() {
            return remove_copied(place, &copied);
        }
        remove(place, now).map_err(|error| {
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
    fn came(&self, kept: RelPath, keeping: Keeping, older: Option<RelPath>, seen: Seen) -> Done {
        let is_unseen = seen == Seen::Never;
        let version = if is_unseen { Version::Protected } else { keeping.version };
        // A protected one was noted before it came.
        if is_unseen || version == Version::Ordinary {
            let line = Line::now(kept.clone(), version, lock_policy::now());
            self.records().note_with_the_batch(keeping.keep, line);
        }
        Done::Kept(KeptAt { keep: keeping.keep, kept, is_unseen, older })
    }

    /// How an entry looks by itself: a link that counts as what it points at may point at
    /// nothing from elsewhere.
    fn as_itself(&self, place: &Place<'_>, now: &Entry) -> Result<Entry, PathError> {
        if !self.look.follows() {
            return Ok(now.clone());
        }
        Look::default().at(&place.dir, place.name).map_err(failed("look at it again"))
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
    ) -> Result<Seen, PathError> {
        let moved = Look::default().at(dir, name).map_err(failed("look at what was moved"))?;
        if is_as_scanned(before, &moved) {
            return Ok(Seen::Before);
        }
        let is_dir = moved.kind.is_dir();
        let back = || rename_to_free(dir, name, &place.dir, place.name, is_dir);
        match with_access(&[place.dir.as_fd()], back) {
            Ok(()) => Err(PathError::Changed),
            Err(_) => Ok(Seen::Never),
        }
    }

    fn keep_copy(&self, path: &RelPath, expect: &Entry) -> Came {
        let (place, now) = self.look_again(path, expect, is_as_scanned)?;
        let shelf = self.shelf(Keep::Backup)?;
        let kept = kept_versions::short_kept_path(path);
        let keeping =
            Keeping { keep: Keep::Backup, version: Version::Ordinary, older: Older::Dated };
        let free = self.make_free(&shelf, &kept, now.kind, keeping)?;
        self.copy_into(&place, &now, &shelf.root, &free, &kept)?;
        Ok(self.came(kept, keeping, free.older, Seen::Before))
    }

    fn put_away(&self, replaced: &RelPath, found: &Entry, fate: &Fate) -> Came {
        let place = self.root.place(replaced).map_err(|error| self.on_the_way(error))?;
        let now = Look::default().at(&place.dir, place.name);
        let now = now.map_err(|error| self.on_the_way(error))?;
        if !is_as_scanned(found, &now) {
            return Err(PathError::Changed);
        }
        match fate {
            Fate::Discard => {
                let removed = rustix::fs::unlinkat(&place.dir, place.name, AtFlags::empty());
                removed.map_err(failed("remove what was replaced"))?;
                Ok(Done::Plainly)
            }
            Fate::Keep { kept, keeping } => {
                let shelf = self.shelf(keeping.keep)?;
                let free = self.make_free(&shelf, kept, now.kind, *keeping)?;
                fault::point("room made");
                match rename_into(&place, &now, &free, kept) {
                    // Another disk is mounted where versions are kept.
                    Err(Errno::XDEV) => {
                        let copied = self.copy_into(&place, &now, &shelf.root, &free, kept)?;
                        remove_copied(&place, &copied)?;
                    }
                    result => result.map_err(failed("move it to where it is kept"))?,
                }
                Ok(self.came(kept.clone(), *keeping, free.older, Seen::Before))
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
        remove_unfinished(keep.as_fd(), &aside);
        let made = tree(place, entry, keep.as_fd(), &aside, Appear::Anyhow).and_then(|copied| {
            fault::point("copied, not named");
            let temporary =
                Place { dir: keep.handle(b"").map_err(failed("copy it"))?, name: &aside };
            rename_into(&temporary, entry, free, kept).map_err(failed("name its copy"))?;
            Ok(copied)
        });
        if made.is_err() {
            remove_unfinished(keep.as_fd(), &aside);
        } else {
            free.sync();
        }
        made
    }

    fn remove(&self, path: &RelPath, expect: &Entry) -> Came {
        let (place, now) = self.look_again(path, expect, is_as_scanned)?;
        // An empty directory holds nothing that could be lost, and in the work directory
        // nobody else works.
        let is_ours = path.components().next() == Some(WORK_DIR);
        if now.kind.is_dir() || is_ours {
            return self.remove_at_once(&place, now.kind);
        }
        let before = self.as_itself(&place, &now)?;
        let (parent, name) = super::openat_root::split(path.as_bytes());
        let private = match private_dir(self.work()?, self.run, parent) {
            // A full disk must not keep anybody from making room.
            Err(Errno::NOSPC | Errno::DQUOT) => return self.remove_at_once(&place, now.kind),
            result => result.map_err(failed("make a place for it in the work directory"))?,
        };
        let rename = || rename_to_free(&place.dir, place.name, &private, name, false);
        match with_access(&[place.dir.as_fd()], rename) {
            // Another file system inside the replica, without a private place.
            Err(Errno::XDEV | Errno::NOSPC | Errno::DQUOT) => {
                return self.remove_at_once(&place, now.kind);
            }
            Err(Errno::NOENT) => return Err(PathError::Vanished),
            result => result.map_err(failed("remove it"))?,
        }
        fault::point("taken away, not looked at");
        if self.judge_moved(&place, &before, &private, name)? == Seen::Before {
            fault::point("taken away, not removed");
            let removed = rustix::fs::unlinkat(&private, name, AtFlags::empty());
            return removed.map(|()| Done::Plainly).map_err(failed("remove it"));
        }
        let shelf = self.shelf(Keep::Backup)?;
        let keeping =
            Keeping { keep: Keep::Backup, version: Version::Protected, older: Older::Dated };
        let kept = kept_versions::kept_path(path);
        let moved = Look::default().at(&private, name).map_err(failed("look at it again"))?;
        let free = self.make_free(&shelf, &kept, moved.kind, keeping)?;
        rename_into(&Place { dir: private, name }, &moved, &free, &kept)
            .map_err(failed("move it to where it is kept"))?;
        Ok(self.came(kept, keeping, free.older, Seen::Never))
    }

    fn remove_at_once(&self, place: &Place<'_>, kind: Kind) -> Came {
        let flags = if kind.is_dir() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        let removed = with_access(&[place.dir.as_fd()], || {
            rustix::fs::unlinkat(&place.dir, place.name, flags)
        });
        match removed {
            Err(Errno::NOTEMPTY | Errno::EXIST) => Err(PathError::NotEmpty),
            Err(Errno::NOENT) => Err(PathError::Vanished),
            Err(Errno::ISDIR | Errno::NOTDIR) => Err(PathError::Changed),
            result => result.map(|()| Done::Plainly).map_err(failed("remove it")),
        }
    }

    /// Opens the very entry that was scanned, so that nothing can come in between. A link that
    /// counts as a directory is that directory (KEEP_DIRLINKS); what a copied one points at
    /// is left as it is.
    fn open_again<'p>(
        &self,
        path: &'p RelPath,
        expect: &Entry,
    ) -> Result<(Place<'p>, OwnedFd, Entry), PathError> {
        if path.is_root() {
            return Err(of_the_root());
        }
        let (place, _) = self.look_in(self.place_of_metadata(path)?, expect, is_same_inode)?;
        let mut flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if self.look.follows() && self.is_followed(&place) {
            if self.look.copy_symlinks {
                return Err(PathError::Failed {
                    action: "change what a link points at".into(),
                    cause: "Operation not supported (COPY_SYMLINKS)".to_owned(),
                });
            }
            flags = flags.difference(OFlags::NOFOLLOW) | OFlags::DIRECTORY;
        }
        let fd = rustix::fs::openat(&place.dir, place.name, flags, Mode::empty());
        let fd = fd.map_err(|error| self.on_the_way(error))?;
        let now = look::of_open(&fd).map_err(failed("look at it again"))?;
        if is_same_inode(expect, &now) { Ok((place, fd, now)) } else { Err(PathError::Changed) }
    }

    fn set_metadata(
        &self,
        path: &RelPath,
        expect: &Entry,
        mode: Option<u16>,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> Outcome {
        let (_, fd, now) = self.open_again(path, expect)?;
        // The owner first: a new owner takes setuid and setgid away. They come back behind it.
        if uid.is_some() || gid.is_some() {
            let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
            rustix::fs::chownat(&fd, c"", uid, gid, AtFlags::EMPTY_PATH)
                .map_err(failed("set its owner and group"))?;
        }
        let stays = (uid.is_some() || gid.is_some()).then_some(now.mode & 0o6000);
        let mode = mode.or(stays.filter(|bits| *bits != 0).map(|_| now.mode));
        match mode {
            Some(mode) if now.kind != Kind::Symlink => {
                set_mode(&fd, mode).map_err(failed("set its permissions"))
            }
            _ => Ok(()),
        }
    }

    fn set_attributes(&self, path: &RelPath, expect: &Entry, change: &AttributeChange) -> Outcome {
        let (place, fd, now) = self.open_again(path, expect)?;
        attributes::change(&now, fd.as_fd(), place.dir.as_fd(), place.name, change)
            .map_err(failed("set its ACL or extended attributes"))
    }

    fn set_mtime(&self, path: &RelPath, mtime: Stamp, expect: Option<&Entry>) -> Outcome {
        let mut place = self.place_of_metadata(path)?;
        if let Some(expect) = expect {
            (place, _) = self.look_in(place, expect, is_as_scanned)?;
        }
        let times = only_mtime(mtime);
        let mut flags = AtFlags::SYMLINK_NOFOLLOW;
        if self.look.follows() && self.is_followed(&place) {
            if self.look.copy_symlinks {
                return Ok(());
            }
            flags = AtFlags::empty();
        }
        rustix::fs::utimensat(&place.dir, place.name, &times, flags).map_err(|error| match error {
            Errno::NOENT => PathError::Vanished,
            other => failed("set its time")(other),
        })
    }
}

/// What has been copied: the entries below the top, in a tree whose root it is.
#[derive(Debug)]
pub(super) struct Copied(Tree);

/// How files get their name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Appear {
    /// At once: nobody else looks at the copy before it is complete.
    Anyhow,
    /// With their whole content, or not at all.
    Complete,
}

fn open_dir(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Root, PathError> {
    rustix::fs::openat(dir, name, HANDLE, Mode::empty()).map(Root::below).map_err(failed("copy it"))
}

/// Copies `place`, which looks like `top`, with all below it, to the free name `name` in
/// `to`, and waits until the copy is on the disk.
///
/// # Errors
/// [`PathError::Changed`] if something changes while it is copied; what the system says.
/// An unfinished copy is left to the caller.
pub(super) fn tree(
    place: &Place<'_>,
    top: &Entry,
    to: BorrowedFd<'_>,
    name: &[u8],
    appear: Appear,
) -> Result<Copied, PathError> {
    if !top.kind.is_dir() {
        one(place.dir.as_fd(), place.name, top, to, name, appear)?;
        return Ok(Copied(TreeBuilder::new(top.clone()).finish()));
    }
    let from_root = open_dir(place.dir.as_fd(), place.name)?;
    let found = everything_in(&from_root, top)?;
    rustix::fs::mkdirat(to, name, Mode::RWXU).map_err(failed("copy it"))?;
    let to_root = open_dir(to, name)?;
    // Parents stand before their children.
    for id in found.ids() {
        let path = found.path(id);
        let (from, to) = (from_root.place(&path), to_root.place(&path));
        let (from, to) = (from.map_err(failed("copy it"))?, to.map_err(failed("copy it"))?);
        one(from.dir.as_fd(), from.name, found.entry(id), to.dir.as_fd(), to.name, appear)?;
    }
    // A directory gets its times when nothing more comes into it.
    for id in dirs_up(&found) {
        let path = found.path(id);
        let from = from_root.at(path.as_bytes(), LIST).map_err(failed("copy it"))?;
        let to = to_root.at(path.as_bytes(), LIST).map_err(failed("copy it"))?;
        let to = File::from(to);
        finish(from.as_fd(), &to, found.entry(id));
        rustix::fs::fsync(&to).map_err(failed("copy it"))?;
    }
    Ok(Copied(found))
}

/// All below a directory; an error if anything of it cannot be seen.
fn everything_in(root: &Root, top: &Entry) -> Result<Tree, PathError> {
    let unseen =
        |cause: String| PathError::Failed { action: "look at all that is in it".into(), cause };
    let (tree, problems) = everything(root, top.clone()).map_err(|e| unseen(e.to_string()))?;
    match problems.first() {
        Some(problem) => Err(unseen(problem.text.clone())),
        None => Ok(tree),
    }
}

/// The directories of a tree, each behind all that is below it; the root is the last.
fn dirs_up(tree: &Tree) -> impl Iterator<Item = NodeId> {
    let mut ids: Vec<NodeId> = tree.ids().filter(|id| tree.entry(*id).kind.is_dir()).collect();
    ids.reverse();
    ids.push(Tree::ROOT);
    ids.into_iter()
}

/// Copies one entry; of a directory nothing but itself.
fn one(
    from: BorrowedFd<'_>,
    name: &[u8],
    entry: &Entry,
    to: BorrowedFd<'_>,
    new_name: &[u8],
    appear: Appear,
) -> Result<(), PathError> {
    match entry.kind {
        Kind::File => return file(from, name, entry, to, new_name, appear),
        Kind::Dir => {
            return rustix::fs::mkdirat(to, new_name, Mode::RWXU).map_err(failed("copy it"));
        }
        Kind::Symlink => rustix::fs::symlinkat(entry.link().unwrap_or_default(), to, new_name),
        Kind::Fifo => make_node(to, new_name, FileType::Fifo, 0),
        Kind::Socket => make_node(to, new_name, FileType::Socket, 0),
        Kind::CharDevice => make_node(to, new_name, FileType::CharacterDevice, entry.extra().rdev),
        Kind::BlockDevice => make_node(to, new_name, FileType::BlockDevice, entry.extra().rdev),
    }
    .map_err(failed("copy it"))?;
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    // As far as we may: the copy is worth keeping without.
    let _ = rustix::fs::chownat(to, new_name, Some(uid), Some(gid), nofollow);
    if entry.kind != Kind::Symlink {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Ok(node) = rustix::fs::openat(to, new_name, flags, Mode::empty()) {
            let _ = set_mode(node, entry.mode);
        }
    }
    let _ = rustix::fs::utimensat(to, new_name, &only_mtime(entry.mtime), nofollow);
    Ok(())
}

#[allow(clippy::cast_possible_truncation)] // major and minor are 32 bits each
fn make_node(to: BorrowedFd<'_>, name: &[u8], what: FileType, rdev: u64) -> Result<(), Errno> {
    let device = rustix::fs::makedev((rdev >> 32) as u32, rdev as u32);
    rustix::fs::mknodat(to, name, what, Mode::RUSR | Mode::WUSR, device)
}

fn file(
    from: BorrowedFd<'_>,
    name: &[u8],
    entry: &Entry,
    to: BorrowedFd<'_>,
    new_name: &[u8],
    appear: Appear,
) -> Result<(), PathError> {
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source =
        File::from(rustix::fs::openat(from, name, read, Mode::empty()).map_err(failed("copy it"))?);
    let copy = File::from(match appear {
        Appear::Anyhow => named(to, new_name),
        Appear::Complete => nameless(to),
    }?);
    let io = |error: std::io::Error| PathError::Failed {
        action: "copy it".into(),
        cause: error.to_string(),
    };
    let unchanged = || look::of_open(&source).is_ok_and(|now| is_as_scanned(entry, &now));
    if !unchanged() {
        return Err(PathError::Changed);
    }
    content(&source, &copy).map_err(io)?;
    if !unchanged() {
        return Err(PathError::Changed);
    }
    finish(source.as_fd(), &copy, entry);
    copy.sync_all().map_err(io)?;
    if appear == Appear::Complete {
        let open = format!("/proc/self/fd/{}", copy.as_raw_fd());
        rustix::fs::linkat(CWD, open, to, new_name, AtFlags::SYMLINK_FOLLOW)
            .map_err(failed("copy it"))?;
    }
    Ok(())
}

/// Copies what a file holds. Holes stay holes: a file of many gigabytes may take a few
/// kilobytes on the disk, and its copy must not fill it.
fn content(mut source: &File, mut copy: &File) -> std::io::Result<()> {
    let metadata = source.metadata()?;
    let mut at = 0;
    while metadata.blocks().saturating_mul(512) < metadata.size() && at < metadata.size() {
        let data = match rustix::fs::seek(source, SeekFrom::Data(at)) {
            Ok(data) => data,
            // nothing but a hole follows
            Err(Errno::NXIO) => return copy.set_len(metadata.size()),
            // the file system keeps no account of holes
            Err(_) => break,
        };
        let hole = rustix::fs::seek(source, SeekFrom::Hole(data))?;
        rustix::fs::seek(source, SeekFrom::Start(data))?;
        rustix::fs::seek(copy, SeekFrom::Start(data))?;
        std::io::copy(&mut source.take(hole - data), &mut copy)?;
        at = hole;
    }
    rustix::fs::seek(source, SeekFrom::Start(at))?;
    rustix::fs::seek(copy, SeekFrom::Start(at))?;
    std::io::copy(&mut source, &mut copy)?;
    Ok(())
}

fn named(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, PathError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR).map_err(failed("copy it"))
}

/// A file that gets its name when it is complete.
fn nameless(dir: BorrowedFd<'_>) -> Result<OwnedFd, PathError> {
    let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
    rustix::fs::openat(dir, ".", flags, Mode::RUSR | Mode::WUSR).map_err(failed("copy it"))
}

/// Owner before mode, because a new owner takes setuid away; attributes and ACLs behind
/// both. As far as we may: the copy is worth keeping without.
fn finish(from: BorrowedFd<'_>, to: &File, entry: &Entry) {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    if rustix::fs::fchown(to, Some(uid), Some(gid)).is_err() {
        let _ = rustix::fs::fchown(to, None, Some(gid));
    }
    let _ = set_mode(to, entry.mode);
    let mut list = vec![0; 64 * 1024];
    let len = rustix::fs::flistxattr(from, list.as_mut_slice()).unwrap_or(0);
    let mut value = vec![0; if len > 0 { 64 * 1024 } else { 0 }];
    for name in list[..len].split(|b| *b == 0).filter(|name| !name.is_empty()) {
        if let Ok(len) = rustix::fs::fgetxattr(from, name, value.as_mut_slice()) {
            let _ = rustix::fs::fsetxattr(to, name, &value[..len], XattrFlags::empty());
        }
    }
    let mtime = FileTime::from_unix_time(entry.mtime.secs(), entry.mtime.nanos());
    let _ = filetime::set_file_handle_times(to, None, Some(mtime));
}

/// Removes what has been copied, deepest first, and nothing else: what has changed or come
/// since stays.
///
/// # Errors
/// [`PathError::Changed`] if something stayed.
pub(super) fn remove_copied(place: &Place<'_>, copied: &Copied) -> Result<(), PathError> {
    let tree = &copied.0;
    let mut stayed = false;
    if tree.entry(Tree::ROOT).kind.is_dir() {
        let root = open_dir(place.dir.as_fd(), place.name)?;
        let mut ids: Vec<NodeId> = tree.ids().collect();
        ids.reverse();
        for id in ids {
            let path = tree.path(id);
            let removed = root.place(&path).and_then(|place| remove(&place, tree.entry(id)));
            stayed |= removed.is_err();
        }
    }
    stayed |= remove(place, tree.entry(Tree::ROOT)).is_err();
    if stayed { Err(PathError::Changed) } else { Ok(()) }
}

/// Removes one entry that still looks like `entry`.
///
/// # Errors
/// `ESTALE` if it looks otherwise; what the system says.
pub(super) fn remove(place: &Place<'_>, entry: &Entry) -> Result<(), Errno> {
    let now = Look::default().at(&place.dir, place.name)?;
    if !is_as_scanned(entry, &now) {
        return Err(Errno::STALE);
    }
    let flags = if entry.kind.is_dir() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    with_access(&[place.dir.as_fd()], || rustix::fs::unlinkat(&place.dir, place.name, flags))
}

/// Removes an unfinished copy that this process made.
pub(super) fn remove_unfinished(dir: BorrowedFd<'_>, name: &[u8]) {
    let Ok(dir) = rustix::fs::openat(dir, ".", HANDLE, Mode::empty()) else { return };
    let Ok(top) = Look::default().at(&dir, name) else { return };
    let place = Place { dir, name };
    let found = if top.kind.is_dir() {
        open_dir(place.dir.as_fd(), name).and_then(|root| everything_in(&root, &top))
    } else {
        Ok(TreeBuilder::new(top).finish())
    };
    if let Ok(found) = found {
        let _ = remove_copied(&place, &Copied(found));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn holes_stay_holes_and_bytes_stay_where_they_are() {
        const MIB: u64 = 1 << 20;
        let block = [7_u8; 4096];
        for (size, at) in [
            (64 * MIB, &[][..]),
            (64 * MIB + 5, &[0]),
            (64 * MIB, &[0, MIB, 64 * MIB - 4096]),
            (64 * MIB, &[32 * MIB]),
            (4096, &[0]),
            (0, &[]),
        ] {
            let (source, copy) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
            source.set_len(size).unwrap();
            at.iter().for_each(|at| source.write_all_at(&block, *at).unwrap());
            content(&source, &copy).unwrap();
            let (before, after) = (source.metadata().unwrap(), copy.metadata().unwrap());
            assert_eq!(after.size(), size);
            assert!(after.blocks() <= before.blocks() + 64, "{size} {at:?}: {}", after.blocks());
            let mut there = vec![0; usize::try_from(size).unwrap()];
            copy.read_exact_at(&mut there, 0).unwrap();
            for at in at {
                let at = usize::try_from(*at).unwrap();
                assert_eq!(there[at..at + 4096], block);
                there[at..at + 4096].fill(0);
            }
            assert!(there.iter().all(|byte| *byte == 0), "{size} {at:?}");
        }
    }
}

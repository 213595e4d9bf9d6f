//! Carries out operations on a local replica (spec 4, "Deleting", "Order of acting").
//!
//! Each looks at its path again right before, in the open directory that holds it, and
//! then changes that very name in that very directory.

use super::copy::Appear;
use super::look::{self, Look};
use super::openat_root::{Place, Root, rename_to_free};
use super::set_aside::{Free, VersionStore, rename_into, with_moved};
use super::work_dir::WorkDir;
use super::writable::{only_mtime, set_mode, with_access};
use super::{arrivals, copy};
use crate::process::fault;
use crate::replica::{AttributeChange, Keep, Op, PathError, attributes, host, kept_name};
use crate::tree::names::{Case, Forms, Naming};
use crate::tree::same::{is_same_thing, is_still};
use crate::tree::{Entry, Kind, RelPath, Stamp};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Access, AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

type Outcome = Result<(), PathError>;

/// What operations work with.
pub(super) struct LocalExecutor<'a> {
    pub root: &'a Root,
    /// The work directory; an error if it could not be opened.
    pub work: Result<&'a WorkDir, Errno>,
    /// How the scan looked, so that looking again sees the same.
    pub look: Look,
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

fn failed(action: &'static str) -> impl Fn(Errno) -> PathError {
    move |error| PathError::Failed { action: action.into(), cause: error.to_string() }
}

/// Whether what is at the new name is the entry itself, because the file system takes both
/// spellings for one: then only one of them is listed. (Inode numbers do not tell: some file
/// systems make one up for each spelling.)
fn is_itself(old: &Place<'_>, new: &Place<'_>) -> bool {
    const EVERY: Naming = Naming { case: Case::Folded, forms: Forms::Folded };
    if !EVERY.is_one(old.name, new.name) {
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
    pub fn apply(&self, ops: &[Op]) -> Vec<Outcome> {
        let noted = self.note_arrivals(ops);
        ops.iter()
            .map(|op| match (op, &noted) {
                (Op::SetAside { expect, .. }, Err(error)) if expect.kind.is_dir() => {
                    Err(error.clone())
                }
                _ => self.one(op),
            })
            .collect()
    }

    fn one(&self, op: &Op) -> Outcome {
        fault::point(op.name());
        let outcome = self.carry_out(op);
        fault::point("an operation is done");
        outcome
    }

    fn carry_out(&self, op: &Op) -> Outcome {
        match op {
            Op::MakeDir { path, mode } => self.make_dir(path, *mode),
            Op::Rename { from, to, expect } => self.rename(from, to, expect),
            Op::SetAside { path, keep, expect, replace_older } => {
                self.set_aside(path, *keep, expect, *replace_older)
            }
            Op::KeepCopy { path, expect } => self.keep_copy(path, expect),
            Op::MakeRoom { kept, comes, replace_older } => {
                self.make_room(kept, *comes, *replace_older)
            }
            Op::Remove { path, expect } => self.remove(path, expect),
            Op::SetMetadata { path, expect, mode, uid, gid } => {
                self.set_metadata(path, expect, *mode, *uid, *gid)
            }
            Op::SetAttributes { path, expect, change } => self.set_attributes(path, expect, change),
            Op::SetMtime { path, mtime, expect } => self.set_mtime(path, *mtime, expect.as_ref()),
        }
    }

    /// Directories that will be kept are noted before the first of them moves: a record of
    /// something that did not come does no harm.
    fn note_arrivals(&self, ops: &[Op]) -> Result<(), PathError> {
        let mut kept = ops
            .iter()
            .filter_map(|op| match op {
                Op::SetAside { path, keep, expect, .. } if expect.kind.is_dir() => {
                    Some((*keep, kept_name::kept_path(path)))
                }
                _ => None,
            })
            .peekable();
        if kept.peek().is_none() {
            return Ok(());
        }
        let kept: Vec<_> = kept.collect();
        let what = kept.iter().map(|(keep, path)| (*keep, path));
        arrivals::note(self.work()?, what, host::now()).map_err(|error| PathError::Failed {
            action: "note in the work directory when it is set aside".into(),
            cause: error.to_string(),
        })
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
            self.root.following(dir, super::openat_root::HANDLE).map(|dir| Place { dir, name })
        } else {
            self.root.place(path)
        };
        place.map_err(|error| self.on_the_way(error))
    }

    /// The same of an open place.
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

    fn make_room(&self, kept: &RelPath, comes: Kind, replace_older: bool) -> Outcome {
        let why = failed("make room for it in backup/");
        let shelf = self.shelf(Keep::Backup)?;
        shelf.make_free(kept, comes, replace_older).map(|_| ()).map_err(why)
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
        let flags = super::openat_root::HANDLE;
        rustix::fs::openat(&place.dir, place.name, flags, Mode::empty())
            .and_then(|dir| set_mode(dir, mode))
            .map_err(failed("set the mode of the new directory"))
    }

    fn rename(&self, from: &RelPath, to: &RelPath, expect: &Entry) -> Outcome {
        let (place, now) = self.look_again(from, expect, is_still)?;
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
        let copied = copy::tree(place, entry, new.dir.as_fd(), new.name, Appear::Complete)?;
        fault::point("copied, not removed");
        copy::remove_copied(place, &copied)
    }

    fn set_aside(&self, path: &RelPath, keep: Keep, expect: &Entry, replace: bool) -> Outcome {
        let (place, now) = self.look_again(path, expect, is_still)?;
        let shelf = self.shelf(keep)?;
        let kept = kept_name::kept_path(path);
        let free = shelf.make_free(&kept, now.kind, replace);
        let free = free.map_err(failed("make the place where it is kept"))?;
        fault::point("room made");
        match rename_into(&place, &now, &free, &kept) {
            Err(Errno::XDEV) => {}
            result => return result.map_err(failed("move it to where it is kept")),
        }
        // A copy of what cannot be removed would be one more at each run.
        let is_writable =
            rustix::fs::accessat(&place.dir, c".", Access::WRITE_OK, AtFlags::empty());
        if is_writable == Err(Errno::ROFS) {
            return Err(failed("remove it")(Errno::ROFS));
        }
        let copied = self.copy_into(&place, &now, &shelf.root, &free, &kept)?;
        fault::point("copied, not removed");
        if now.kind.is_dir() {
            return copy::remove_copied(&place, &copied);
        }
        copy::remove(&place, &now).map_err(|error| {
            if error == Errno::STALE {
                return PathError::Changed;
            }
            let _ = rustix::fs::unlinkat(&free.dir, kept.name(), AtFlags::empty());
            failed("remove it")(error)
        })
    }

    fn keep_copy(&self, path: &RelPath, expect: &Entry) -> Outcome {
        let (place, now) = self.look_again(path, expect, is_still)?;
        let shelf = self.shelf(Keep::Backup)?;
        let kept = kept_name::short_kept_path(path);
        let free = shelf.make_free(&kept, now.kind, false);
        let free = free.map_err(failed("make the place where it is kept"))?;
        self.copy_into(&place, &now, &shelf.root, &free, &kept).map(|_| ())
    }

    /// Copies to a name of ours first: what has the real name is complete.
    fn copy_into(
        &self,
        place: &Place<'_>,
        entry: &Entry,
        keep: &Root,
        free: &Free,
        kept: &RelPath,
    ) -> Result<copy::Copied, PathError> {
        let aside = format!("{}{}", super::sweep::UNFINISHED, std::process::id()).into_bytes();
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

    fn remove(&self, path: &RelPath, expect: &Entry) -> Outcome {
        let (place, now) = self.look_again(path, expect, is_still)?;
        let flags = if now.kind.is_dir() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        let removed = with_access(&[place.dir.as_fd()], || {
            rustix::fs::unlinkat(&place.dir, place.name, flags)
        });
        match removed {
            Err(Errno::NOTEMPTY | Errno::EXIST) => Err(PathError::NotEmpty),
            Err(Errno::NOENT) => Err(PathError::Vanished),
            Err(Errno::ISDIR | Errno::NOTDIR) => Err(PathError::Changed),
            result => result.map_err(failed("remove it")),
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
        let (place, _) = self.look_in(self.place_of_metadata(path)?, expect, is_same_thing)?;
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
        if is_same_thing(expect, &now) { Ok((place, fd, now)) } else { Err(PathError::Changed) }
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
            (place, _) = self.look_in(place, expect, is_still)?;
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

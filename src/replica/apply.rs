//! Carries out operations on a local replica (spec 4, "Deleting", "Order of acting").
//!
//! Each looks at its path again right before, in the open directory that holds it, and
//! then changes that very name in that very directory.

use super::beneath::{Place, Root, rename_to_free};
use super::copy::Appear;
use super::look::{self, Look, is_same_thing, is_still};
use super::set_aside::{Free, Shelf, rename_into, with_moved};
use super::work_dir::WorkDir;
use super::writable::{only_mtime, set_mode, with_access};
use super::{AttributeChange, Keep, Op, PathError, arrivals, attributes, copy, host, kept_name};
use crate::process::fault;
use crate::tree::{Entry, Kind, RelPath, Stamp};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

type Outcome = Result<(), PathError>;

/// What operations work with.
pub(super) struct Hands<'a> {
    pub root: &'a Root,
    /// The work directory; an error if it could not be opened.
    pub work: Result<&'a WorkDir, Errno>,
    /// How the scan looked, so that looking again sees the same.
    pub look: Look,
}

fn failed(action: &'static str) -> impl Fn(Errno) -> PathError {
    move |error| PathError::Failed { action, cause: error.to_string() }
}

/// Errors of the way to a path that was scanned: it is no longer as it was.
fn on_the_way(error: Errno) -> PathError {
    match error {
        Errno::NOENT => PathError::Vanished,
        Errno::NOTDIR | Errno::LOOP => PathError::Changed,
        other => failed("open the directory that holds it")(other),
    }
}

impl Hands<'_> {
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
            Op::SetMtime { path, mtime } => self.set_mtime(path, *mtime),
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
            action: "note in the work directory when it is set aside",
            cause: error.to_string(),
        })
    }

    fn work(&self) -> Result<&WorkDir, PathError> {
        self.work.map_err(failed("open the work directory"))
    }

    fn shelf(&self, keep: Keep) -> Result<Shelf<'_>, PathError> {
        Shelf::open(self.root, self.work()?, keep)
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
            return Err(PathError::Failed {
                action: "change the root of the replica",
                cause: "only what is in it is synchronised".to_owned(),
            });
        }
        let place = self.root.place(path).map_err(on_the_way)?;
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
        let flags = super::beneath::HANDLE;
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
        let copied = self.copy_into(&place, &now, &shelf.root, &free, &kept)?;
        fault::point("copied, not removed");
        copy::remove_copied(&place, &copied)
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

    /// Opens the very entry that was scanned, so that nothing can come in between.
    fn open_again<'p>(
        &self,
        path: &'p RelPath,
        expect: &Entry,
    ) -> Result<(Place<'p>, OwnedFd, Entry), PathError> {
        let (place, _) = self.look_again(path, expect, is_same_thing)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&place.dir, place.name, flags, Mode::empty());
        let fd = fd.map_err(on_the_way)?;
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

    fn set_mtime(&self, path: &RelPath, mtime: Stamp) -> Outcome {
        let place = self.root.place(path).map_err(on_the_way)?;
        let times = only_mtime(mtime);
        rustix::fs::utimensat(&place.dir, place.name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(
            |error| match error {
                Errno::NOENT => PathError::Vanished,
                other => failed("set its time")(other),
            },
        )
    }
}

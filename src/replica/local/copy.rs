//! Copies for `backup/` and `deleted/` where a rename cannot do it: across file systems,
//! and of files that must stay (spec 4, "Deleting", "Overwriting").
//!
//! Content, mode, owner, times, attributes where they can be had. Iterative: depth costs
//! no stack. The kernel shares blocks where it can.

use super::look::{self, LookRules};
use super::openat_root::{HANDLE, LIST, Place, Root, only_mtime, with_access};
use super::scan::everything;
use super::work_dir::UNFINISHED;
use crate::replica::PathError;
use crate::system::{self, AtLink, Pinned, rename_to_free};
use crate::tree::same::is_as_scanned;
use crate::tree::{Entry, Kind, NodeId, Tree, TreeBuilder};
use filetime::FileTime;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Uid};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;

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

fn failed(error: Errno) -> PathError {
    PathError::Failed { action: "copy it".into(), cause: error.to_string() }
}

fn open_dir(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Root, PathError> {
    rustix::fs::openat(dir, name, HANDLE, Mode::empty()).map(Root::below).map_err(failed)
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
        let (from, new_name) = (place.dir.as_fd(), name);
        one(Copying { from, name: place.name, entry: top, to, new_name, appear })?;
        return Ok(Copied(TreeBuilder::new(top.clone()).finish()));
    }
    let from_root = open_dir(place.dir.as_fd(), place.name)?;
    let found = everything_in(&from_root, top)?;
    rustix::fs::mkdirat(to, name, Mode::RWXU).map_err(failed)?;
    let to_root = open_dir(to, name)?;
    // Parents stand before their children.
    for id in found.ids() {
        let path = found.path(id);
        let (from, to) = (from_root.place(&path), to_root.place(&path));
        let (from, to) = (from.map_err(failed)?, to.map_err(failed)?);
        one(Copying {
            from: from.dir.as_fd(),
            name: from.name,
            entry: found.entry(id),
            to: to.dir.as_fd(),
            new_name: to.name,
            appear,
        })?;
    }
    // A directory gets its times when nothing more comes into it.
    for id in dirs_up(&found) {
        let path = found.path(id);
        let from = from_root.at(path.as_bytes(), LIST).map_err(failed)?;
        let to = to_root.at(path.as_bytes(), LIST).map_err(failed)?;
        let to = File::from(to);
        finish(from.as_fd(), &to, found.entry(id));
        rustix::fs::fsync(&to).map_err(failed)?;
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

/// An entry that is copied.
#[derive(Clone, Copy)]
struct Copying<'a> {
    /// The directory that holds it, and its name there.
    from: BorrowedFd<'a>,
    name: &'a [u8],
    /// As it was scanned.
    entry: &'a Entry,
    /// The directory of the copy, and the copy's name.
    to: BorrowedFd<'a>,
    new_name: &'a [u8],
    appear: Appear,
}

/// Copies one entry; of a directory nothing but itself.
fn one(copy: Copying<'_>) -> Result<(), PathError> {
    let Copying { entry, to, new_name, .. } = copy;
    match entry.kind {
        Kind::File => return file(copy),
        Kind::Dir => return rustix::fs::mkdirat(to, new_name, Mode::RWXU).map_err(failed),
        Kind::Symlink => rustix::fs::symlinkat(entry.link().unwrap_or_default(), to, new_name),
        Kind::Fifo => make_node(to, new_name, FileType::Fifo, 0),
        Kind::Socket => make_node(to, new_name, FileType::Socket, 0),
        Kind::CharDevice => make_node(to, new_name, FileType::CharacterDevice, entry.extra().rdev),
        Kind::BlockDevice => make_node(to, new_name, FileType::BlockDevice, entry.extra().rdev),
    }
    .map_err(failed)?;
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    // As far as we may: the copy is worth keeping without.
    let _ = rustix::fs::chownat(to, new_name, Some(uid), Some(gid), nofollow);
    if entry.kind != Kind::Symlink
        && let Ok(node) = Pinned::open(to, new_name, AtLink::Stay)
    {
        let _ = node.set_mode(entry.mode);
    }
    let _ = rustix::fs::utimensat(to, new_name, &only_mtime(entry.mtime), nofollow);
    Ok(())
}

#[allow(clippy::cast_possible_truncation)] // major and minor are 32 bits each
fn make_node(to: BorrowedFd<'_>, name: &[u8], what: FileType, rdev: u64) -> Result<(), Errno> {
    let device = ((rdev >> 32) as u32, rdev as u32);
    system::make_node(to, name, what, Mode::RUSR | Mode::WUSR, device)
}

fn file(what: Copying<'_>) -> Result<(), PathError> {
    let Copying { from, name, entry, to, new_name, appear } = what;
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = File::from(rustix::fs::openat(from, name, read, Mode::empty()).map_err(failed)?);
    let copy = match appear {
        Appear::Anyhow => New::Named(named(to, new_name)?),
        Appear::Complete => New::to_be_named(to)?,
    };
    let io = |error: std::io::Error| PathError::Failed {
        action: "copy it".into(),
        cause: error.to_string(),
    };
    let unchanged = || {
        let is_same = look::of_open(&source).is_ok_and(|now| is_as_scanned(entry, &now));
        if is_same { Ok(()) } else { Err(PathError::Changed) }
    };
    let copied = || {
        unchanged()?;
        content(&source, copy.file()).map_err(io)?;
        unchanged()?;
        finish(source.as_fd(), copy.file(), entry);
        copy.file().sync_all().map_err(io)?;
        copy.give_name(to, new_name).map_err(failed)
    };
    copied().inspect_err(|_| copy.discard(to))
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

/// A file that is being written.
enum New {
    /// It has its name already.
    Named(File),
    /// It has none yet.
    Unnamed(File),
    /// It has one that nobody gives (a file system or a system without files that have none).
    Aside(File, Vec<u8>),
}

impl New {
    fn to_be_named(dir: BorrowedFd<'_>) -> Result<Self, PathError> {
        match system::make_unnamed(dir) {
            Ok(file) => Ok(New::Unnamed(file.into())),
            // older kernels take it for a directory that is to be written
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let aside = format!("{UNFINISHED}{}", std::process::id()).into_bytes();
                // left over by an earlier process of our number
                let _ = rustix::fs::unlinkat(dir, &aside, AtFlags::empty());
                Ok(New::Aside(named(dir, &aside)?, aside))
            }
            Err(other) => Err(failed(other)),
        }
    }

    fn file(&self) -> &File {
        match self {
            New::Named(file) | New::Unnamed(file) | New::Aside(file, _) => file,
        }
    }

    /// Gives it the name that it should have, if that is free.
    fn give_name(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
        match self {
            New::Named(_) => Ok(()),
            New::Unnamed(file) => system::give_name(file, dir, name),
            New::Aside(_, aside) => rename_to_free(dir, aside, dir, name),
        }
    }

    /// Takes away what would be in the way of nobody but us.
    fn discard(&self, dir: BorrowedFd<'_>) {
        if let New::Aside(_, aside) = self {
            let _ = rustix::fs::unlinkat(dir, aside, AtFlags::empty());
        }
    }
}

fn named(dir: BorrowedFd<'_>, name: &[u8]) -> Result<File, PathError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR);
    made.map(File::from).map_err(failed)
}

/// Owner before mode, because a new owner takes setuid away; attributes and ACLs behind
/// both. As far as we may: the copy is worth keeping without.
fn finish(from: BorrowedFd<'_>, to: &File, entry: &Entry) {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    if rustix::fs::fchown(to, Some(uid), Some(gid)).is_err() {
        let _ = rustix::fs::fchown(to, None, Some(gid));
    }
    let _ = system::set_mode(to, entry.mode);
    system::copy_attributes(from, to);
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
    let now = LookRules::default().at(&place.dir, place.name)?;
    if !is_as_scanned(entry, &now) {
        return Err(Errno::STALE);
    }
    let flags = if entry.kind.is_dir() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    with_access(&[place.dir.as_fd()], || rustix::fs::unlinkat(&place.dir, place.name, flags))
}

/// Removes an unfinished copy that this process made.
pub(super) fn remove_unfinished(dir: BorrowedFd<'_>, name: &[u8]) {
    let Ok(dir) = rustix::fs::openat(dir, ".", HANDLE, Mode::empty()) else { return };
    let Ok(top) = LookRules::default().at(&dir, name) else { return };
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

    #[test]
    fn a_file_that_waits_for_its_name_replaces_nothing_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let top = rustix::fs::open(dir.path(), HANDLE, Mode::empty()).unwrap();
        let aside = || New::Aside(named(top.as_fd(), b"aside").unwrap(), b"aside".to_vec());
        let unnamed = || New::to_be_named(top.as_fd()).unwrap();
        for (name, is_aside_first) in [("one", true), ("two", false)] {
            let (first, second) =
                if is_aside_first { (aside(), unnamed()) } else { (unnamed(), aside()) };
            first.give_name(top.as_fd(), name.as_bytes()).unwrap();
            assert_eq!(second.give_name(top.as_fd(), name.as_bytes()), Err(Errno::EXIST));
            second.discard(top.as_fd());
        }
        let mut names: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["one", "two"]);
    }
}

//! Looks at everything below a directory, once (spec 4, "Scanning").
//!
//! Several threads list directories; what each has found goes into one tree. A directory
//! is opened by its path from the root when its turn comes, so depth costs no descriptors
//! and no stack.

use super::beneath::{LIST, LONGEST_PATH, Root};
use super::look::{self, Look};
use super::work_dir::{TRIGGER, WORK_DIR};
use crate::filter::{Filter, Verdict};
use crate::process::Stop;
use crate::report::{Level, Problem};
use crate::tree::{
    Child, Entry, Kind, NodeId, RelPath, Side, Standing, TooLarge, Tree, TreeBuilder,
};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Access, AtFlags, FileType, RawDir};
use rustix::io::Errno;
use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Beyond this number threads stand in each other's way in the kernel.
const MOST_THREADS: usize = 4;

/// What a walk needs to know.
pub(super) struct Walk<'a> {
    /// Where paths begin.
    pub root: &'a Root,
    /// The directory to walk, from there.
    pub base: &'a RelPath,
    /// What to look at.
    pub look: Look,
    /// What is excluded; none: nothing is.
    pub filter: Option<&'a Filter>,
    /// Whether osync's own two names at the very root are passed over.
    pub hide_ours: bool,
    /// For problems.
    pub side: Side,
    /// Told now and then how many entries were seen.
    pub seen: &'a (dyn Fn(u64) + Sync),
    /// Ends it early.
    pub stop: &'a Stop,
}

/// Why there is no tree.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub(super) enum NoTree {
    /// The numbers ran out.
    #[error(transparent)]
    TooLarge(TooLarge),
    /// The run is to end.
    #[error("the run was stopped while it was looked at")]
    Stopped,
}

struct Shared {
    builder: TreeBuilder,
    pending: Vec<NodeId>,
    /// Threads that list a directory; what they find may be more work.
    busy: usize,
    /// Threads that wait for work. Nobody is woken in vain: that costs a system call.
    idle: usize,
    problems: Vec<Problem>,
    none: Option<NoTree>,
}

/// Everything below a directory, as it is: no filter, no following, nothing hidden.
///
/// # Errors
/// [`NoTree::TooLarge`].
pub(super) fn everything(root: &Root, top: Entry) -> Result<(Tree, Vec<Problem>), NoTree> {
    let base = RelPath::root();
    let look = Look::default();
    let side = Side::Initiator;
    let (hide_ours, seen, stop) = (false, &|_| (), &Stop::new());
    Walk { root, base: &base, look, filter: None, hide_ours, side, seen, stop }.run(top, 1)
}

impl Walk<'_> {
    /// Walks everything below `base`, whose own look is `top`.
    ///
    /// # Errors
    /// [`NoTree`]. All else becomes a problem, and the path unknown.
    pub fn run(&self, top: Entry, threads: usize) -> Result<(Tree, Vec<Problem>), NoTree> {
        let shared = Mutex::new(Shared {
            builder: TreeBuilder::new(top),
            pending: vec![Tree::ROOT],
            busy: 0,
            idle: 0,
            problems: Vec::new(),
            none: None,
        });
        let wake = Condvar::new();
        let counter = AtomicU64::new(0);
        let work = || self.work(&shared, &wake, &counter);
        if threads <= 1 {
            work();
        } else {
            std::thread::scope(|scope| {
                for _ in 1..threads {
                    // A machine out of threads still has this one.
                    let _ = std::thread::Builder::new().spawn_scoped(scope, work);
                }
                work();
            });
        }
        (self.seen)(counter.into_inner());
        let shared = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(none) = shared.none {
            return Err(none);
        }
        let mut problems = shared.problems;
        problems.sort_by(|a, b| a.path.cmp(&b.path));
        Ok((shared.builder.finish(), problems))
    }

    /// Takes directories that wait, lists them, adds what they hold, until none is left.
    fn work(&self, shared: &Mutex<Shared>, wake: &Condvar, counter: &AtomicU64) {
        let mut lister = Lister::new(self);
        let mut state = lock(shared);
        loop {
            let Some(dir) = state.pending.pop() else {
                if state.busy == 0 {
                    wake.notify_all();
                    return;
                }
                state.idle += 1;
                state = wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                continue;
            };
            state.busy += 1;
            lister.path.clear();
            path_of(state.builder.tree(), dir, self.base, &mut lister.path);
            lister.ancestors.clear();
            if self.look.follows() {
                ancestors(state.builder.tree(), dir, &mut lister.ancestors);
            }
            drop(state);
            let children = lister.list();
            let count = children.as_ref().map_or(0, |c| c.len() as u64);
            let before = counter.fetch_add(count, Ordering::Relaxed);
            if before / 2048 != (before + count) / 2048 {
                (self.seen)(before + count);
            }
            state = lock(shared);
            state.busy -= 1;
            state.problems.append(&mut lister.problems);
            if state.none.is_some() || self.stop.reason().is_some() {
                state.give_up(NoTree::Stopped);
            } else {
                state.add(dir, children);
            }
            if state.idle > 0 && (state.busy == 0 || !state.pending.is_empty()) {
                wake.notify_all();
            }
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn give_up(&mut self, why: NoTree) {
        self.none = Some(why);
        self.pending.clear();
    }

    fn add(&mut self, dir: NodeId, children: Option<Vec<Child>>) {
        let Some(children) = children else {
            self.builder.mark_unknown(dir);
            return;
        };
        let ids = match self.builder.fill(dir, children) {
            Ok(ids) => ids,
            Err(error) => return self.give_up(NoTree::TooLarge(error)),
        };
        let tree = self.builder.tree();
        let enter =
            |id: &NodeId| tree.entry(*id).kind.is_dir() && tree.standing(*id) == Standing::Present;
        self.pending.extend(ids.filter(enter));
    }
}

/// Puts the path of an entry together from the names above it.
fn path_of(tree: &Tree, id: NodeId, base: &RelPath, path: &mut Vec<u8>) {
    path.extend_from_slice(base.as_bytes());
    let mut chain = Vec::new();
    let mut at = id;
    while at != Tree::ROOT {
        chain.push(at);
        at = tree.parent(at);
    }
    for id in chain.into_iter().rev() {
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(tree.name(id));
    }
}

/// Device and inode of a directory and of all above it, to notice links in a circle.
fn ancestors(tree: &Tree, id: NodeId, found: &mut Vec<(u32, u64)>) {
    let mut at = id;
    loop {
        found.push((tree.entry(at).dev, tree.entry(at).ino));
        if at == Tree::ROOT {
            return;
        }
        at = tree.parent(at);
    }
}

/// One thread's hands: buffers that are used again for each directory.
struct Lister<'a> {
    walk: &'a Walk<'a>,
    path: Vec<u8>,
    ancestors: Vec<(u32, u64)>,
    problems: Vec<Problem>,
    dirents: Vec<u8>,
    /// Names with their NUL, one behind the other.
    names: Vec<u8>,
    found: Vec<Found>,
    euid: u32,
}

struct Found {
    ino: u64,
    name_at: u32,
    name_len: u16,
    file_type: FileType,
}

impl<'a> Lister<'a> {
    fn new(walk: &'a Walk<'a>) -> Self {
        Lister {
            walk,
            path: Vec::with_capacity(4096),
            ancestors: Vec::new(),
            problems: Vec::new(),
            dirents: Vec::with_capacity(64 * 1024),
            names: Vec::new(),
            found: Vec::new(),
            euid: rustix::process::geteuid().as_raw(),
        }
    }

    /// What the directory at `self.path` holds; none, with a problem, if that is not to be
    /// found out.
    fn list(&mut self) -> Option<Vec<Child>> {
        let dir = match self.open() {
            Ok(dir) => dir,
            Err(error) => {
                self.problem(None, &format!("cannot open the directory: {error}"));
                return None;
            }
        };
        if let Err(error) = self.read(&dir) {
            self.problem(None, &format!("cannot list the directory: {error}"));
            return None;
        }
        // In the order of inodes a cold disk is read in one sweep.
        let mut found = std::mem::take(&mut self.found);
        found.sort_unstable_by_key(|f| f.ino);
        let names = std::mem::take(&mut self.names);
        let mut children = Vec::with_capacity(found.len());
        for (count, f) in found.iter().enumerate() {
            if count % 4096 == 4095 && self.walk.stop.reason().is_some() {
                break;
            }
            let at = f.name_at as usize;
            let bytes = &names[at..=at + usize::from(f.name_len)];
            let Ok(name) = CStr::from_bytes_with_nul(bytes) else { continue };
            match self.child(dir.as_fd(), name, f) {
                Ok(child) => children.extend(child),
                Err(Closed) => {
                    self.problem(None, "cannot search the directory: Permission denied");
                    return None;
                }
            }
        }
        (self.found, self.names) = (found, names);
        Some(children)
    }

    fn open(&self) -> rustix::io::Result<OwnedFd> {
        if self.walk.look.follows() {
            self.walk.root.following(&self.path, LIST)
        } else {
            self.walk.root.at(&self.path, LIST)
        }
    }

    /// Reads the names. All of them before the first look, for a directory that is changed
    /// while it is read is read again by nobody.
    fn read(&mut self, dir: &OwnedFd) -> rustix::io::Result<()> {
        self.names.clear();
        self.found.clear();
        let at_top = self.path.is_empty() && self.walk.hide_ours;
        let mut listing = RawDir::new(dir, self.dirents.spare_capacity_mut());
        while let Some(entry) = listing.next() {
            let entry = match entry {
                Err(Errno::INTR) => continue,
                entry => entry?,
            };
            let name = entry.file_name().to_bytes_with_nul();
            let bare = &name[..name.len() - 1];
            if matches!(bare, b"." | b"..") || at_top && is_ours(bare) {
                continue;
            }
            let name_at = u32::try_from(self.names.len()).map_err(|_| Errno::NOMEM)?;
            let name_len = u16::try_from(bare.len()).map_err(|_| Errno::NAMETOOLONG)?;
            self.names.extend_from_slice(name);
            let file_type = entry.file_type();
            self.found.push(Found { ino: entry.ino(), name_at, name_len, file_type });
        }
        Ok(())
    }

    /// One entry of the open directory; none if it is not to be spoken of.
    fn child(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        found: &Found,
    ) -> Result<Option<Child>, Closed> {
        let bare = name.to_bytes();
        let child = |standing, entry| Some(Child { name: bare.to_vec(), standing, entry });
        let unknown = || Entry::new(look::kind_of(found.file_type));
        if self.path.len() + 1 + bare.len() > LONGEST_PATH {
            self.problem(
                Some(bare),
                "the path is longer than 4,095 bytes; nothing at or below it is synchronised",
            );
            return Ok(child(Standing::Unknown, unknown()));
        }
        // Most excluded entries need no look: the listing told what they are.
        let told = match found.file_type {
            FileType::Unknown => None,
            FileType::Symlink if self.walk.look.follows() => None,
            other => Some(other == FileType::Directory),
        };
        if told.is_some_and(|is_dir| self.is_excluded(bare, is_dir)) {
            return Ok(child(Standing::Excluded, unknown()));
        }
        let entry = match self.walk.look.at(dir, name) {
            Ok(entry) => entry,
            Err(error) => {
                if told.is_none() && self.is_excluded(bare, false) {
                    return Ok(child(Standing::Excluded, unknown()));
                }
                if error == Errno::ACCESS && !self.is_searchable(dir) {
                    return Err(Closed);
                }
                let text = if found.file_type == FileType::Symlink
                    && self.walk.look.copy_symlinks
                    && matches!(error, Errno::NOENT | Errno::LOOP)
                {
                    "the link leads nowhere, so there is nothing to copy (COPY_SYMLINKS)".to_owned()
                } else {
                    format!("cannot look at it: {error}")
                };
                self.problem(Some(bare), &text);
                return Ok(child(Standing::Unknown, unknown()));
            }
        };
        if told.is_none() && self.is_excluded(bare, entry.kind.is_dir()) {
            return Ok(child(Standing::Excluded, entry));
        }
        if self.is_circle(found.file_type, &entry) {
            self.problem(Some(bare), "the link leads back to a directory above it");
            return Ok(child(Standing::Unknown, entry));
        }
        if self.is_unreadable(dir, name, &entry) {
            self.problem(Some(bare), "cannot read the file: Permission denied");
            return Ok(child(Standing::Unknown, entry));
        }
        Ok(child(Standing::Present, entry))
    }

    fn is_excluded(&mut self, name: &[u8], is_dir: bool) -> bool {
        let Some(filter) = self.walk.filter else { return false };
        let len = self.path.len();
        if len > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        let verdict = filter.verdict(&self.path, is_dir);
        self.path.truncate(len);
        verdict == Verdict::Excluded
    }

    fn is_circle(&self, file_type: FileType, entry: &Entry) -> bool {
        file_type != FileType::Directory
            && entry.kind.is_dir()
            && self.walk.look.follows()
            && self.ancestors.contains(&(entry.dev, entry.ino))
    }

    /// Whether this is a file that we may not read. The mode tells almost always; only
    /// where it says no, the system is asked, because an ACL may say yes.
    fn is_unreadable(&self, dir: BorrowedFd<'_>, name: &CStr, entry: &Entry) -> bool {
        if self.euid == 0 || entry.kind != Kind::File {
            return false;
        }
        let needed = if entry.uid == self.euid { 0o400 } else { 0o444 };
        entry.mode & needed != needed
            && rustix::fs::accessat(dir, name, Access::READ_OK, AtFlags::EACCESS)
                == Err(Errno::ACCESS)
    }

    fn is_searchable(&self, dir: BorrowedFd<'_>) -> bool {
        rustix::fs::accessat(dir, c".", Access::EXEC_OK, AtFlags::EACCESS).is_ok()
    }

    fn problem(&mut self, name: Option<&[u8]>, text: &str) {
        let mut bytes = self.path.clone();
        if let Some(name) = name {
            if !bytes.is_empty() {
                bytes.push(b'/');
            }
            bytes.extend_from_slice(name);
        }
        self.problems.push(Problem {
            level: Level::Error,
            side: Some(self.walk.side),
            path: RelPath::new(bytes).ok(),
            text: format!("{text}; it is left alone on both sides"),
        });
    }
}

/// The directory can be listed but not searched: it is unknown as a whole.
struct Closed;

/// The two names at the root of a replica that belong to osync.
fn is_ours(name: &[u8]) -> bool {
    name == WORK_DIR || name == TRIGGER
}

/// How many threads pay on this machine.
pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS)
}

//! Looks at everything below a directory, once (spec 4, "Scanning").
//!
//! Several threads list directories; what each has found goes into one tree. A walk begins
//! alone, and gets help while a processor is idle, or while it waits for the disk. A directory
//! is opened in the one above it when its turn comes; where too many of those would have to
//! stay open, by its path from the root. So depth costs few descriptors and no stack.

use super::look::{self, LookRules};
use super::openat_root::{LIST, Root, split};
use crate::filter::{Filter, Inclusion, PathKind};
use crate::process::Stop;
use crate::replica::{TRIGGER, WORK_DIR};
use crate::report::left_alone::LeftAlone;
use crate::report::{Level, Problem};
use crate::system::{self, Mount};
use crate::threads;
use crate::tree::path::LONGEST_PATH;
use crate::tree::{
    Children, Entry, Kind, NodeId, RelPath, Side, Standing, TooLarge, Tree, TreeBuilder,
};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Access, AtFlags, FileType, Mode};
use rustix::io::Errno;
use rustix::time::ClockId;
use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

/// A walk has at most so many threads for each processor: one works while others wait for
/// the disk.
const THREADS: usize = 2;

/// So many directories about stay open for those below them.
const MOST_OPEN: usize = 64;

/// What a walk needs to know.
pub(super) struct Walk<'a> {
    /// Where paths begin.
    pub root: &'a Root,
    /// The directory to walk, from there.
    pub base: &'a RelPath,
    /// What to look at.
    pub look: LookRules,
    /// What is excluded; `None`: nothing is.
    pub filter: Option<&'a Filter>,
    /// Whether osync's own two names at the very root are passed over, and work directories
    /// deeper down excluded.
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

/// A directory that has been listed, for the directories in it.
struct Above {
    path: Vec<u8>,
    /// Its handle, with one more hold on what counts the handles.
    open: Option<(OwnedFd, Arc<()>)>,
}

/// A directory that waits to be listed.
struct Pending {
    dir: NodeId,
    /// None: it is the top of the walk.
    above: Option<Arc<Above>>,
}

struct Shared {
    builder: TreeBuilder,
    pending: Vec<Pending>,
    /// Threads that list a directory; what they find may be more work.
    busy: usize,
    /// Threads that wait for work. Nobody is woken in vain: that costs a system call.
    idle: usize,
    /// Threads that were started, the first one included.
    threads: usize,
    problems: Vec<Problem>,
    none: Option<NoTree>,
}

/// Everything below a directory, as it is: no filter, no following, nothing hidden.
///
/// # Errors
/// [`NoTree::TooLarge`].
pub(super) fn everything(root: &Root, top: Entry) -> Result<(Tree, Vec<Problem>), NoTree> {
    let base = RelPath::root();
    let look = LookRules::default();
    let side = Side::Initiator;
    let (hide_ours, seen, stop) = (false, &|_| (), &Stop::new());
    Walk { root, base: &base, look, filter: None, hide_ours, side, seen, stop }.run(top)
}

impl Walk<'_> {
    /// Walks everything below `base`, whose own look is `top`, with as many threads as pay.
    ///
    /// # Errors
    /// [`NoTree`]. All else becomes a problem, and the path unknown.
    pub fn run(&self, top: Entry) -> Result<(Tree, Vec<Problem>), NoTree> {
        let shared = Mutex::new(Shared {
            builder: TreeBuilder::new(top),
            pending: vec![Pending { dir: Tree::ROOT, above: None }],
            busy: 0,
            idle: 0,
            threads: 1,
            problems: Vec::new(),
            none: None,
        });
        let seen = AtomicU64::new(0);
        let workers =
            Workers { walk: self, shared, wake: Condvar::new(), seen, handles: Arc::new(()) };
        std::thread::scope(|scope| workers.work(scope));
        (self.seen)(workers.seen.into_inner());
        let shared = workers.shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(none) = shared.none {
            return Err(none);
        }
        let mut problems = shared.problems;
        problems.sort_by(|a, b| a.path.cmp(&b.path));
        Ok((shared.builder.finish(), problems))
    }

    /// The path of a directory of that name.
    fn put_path(&self, name: &[u8], above: Option<&Above>, path: &mut Vec<u8>) {
        path.clear();
        path.extend_from_slice(above.map_or(self.base.as_bytes(), |above| &above.path));
        if above.is_some() {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        }
    }
}

/// The threads of one walk.
struct Workers<'a> {
    walk: &'a Walk<'a>,
    shared: Mutex<Shared>,
    wake: Condvar,
    /// How many entries were seen.
    seen: AtomicU64,
    /// Held once more for each directory that stays open.
    handles: Arc<()>,
}

impl Workers<'_> {
    /// Takes directories that wait, lists them, adds what they hold, until none is left.
    fn work<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        let _walker = Walker::new();
        let walk = self.walk;
        let mut lister = Lister::new(walk);
        let mut pace = Pace::default();
        let mut state = self.lock();
        loop {
            let Some(Pending { dir, above }) = state.pending.pop() else {
                if state.busy == 0 {
                    self.wake.notify_all();
                    return;
                }
                state.idle += 1;
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                continue;
            };
            state.busy += 1;
            walk.put_path(state.builder.tree().name(dir), above.as_deref(), &mut lister.path);
            lister.ancestors.clear();
            if walk.look.follows() {
                ancestors(state.builder.tree(), dir, &mut lister.ancestors);
            }
            drop(state);
            let open = above.as_deref().and_then(|above| above.open.as_ref());
            let listed = pace.watch(|| lister.list(open.map(|(open, _)| open)));
            drop(above);
            let is_known = listed.is_some();
            let above = listed.filter(|_| lister.holds_dirs).map(|open| {
                let is_kept = Arc::strong_count(&self.handles) <= MOST_OPEN;
                let open = is_kept.then(|| (open, Arc::clone(&self.handles)));
                Arc::new(Above { path: lister.path.clone(), open })
            });
            let count = if is_known { lister.children.len() as u64 } else { 0 };
            let before = self.seen.fetch_add(count, Ordering::Relaxed);
            if before / 2048 != (before + count) / 2048 {
                (walk.seen)(before + count);
            }
            state = self.lock();
            state.busy -= 1;
            if state.none.is_some() || walk.stop.reason().is_some() {
                state.give_up(NoTree::Stopped);
            } else if is_known {
                state.add(dir, &mut lister.children, above.as_ref());
            } else {
                state.builder.mark_unknown(dir);
            }
            state.problems.append(&mut lister.problems);
            if state.idle > 0 && (state.busy == 0 || !state.pending.is_empty()) {
                self.wake.notify_all();
            }
            if pace.asks_for_help() && state.may_grow() {
                state.threads += 1;
                drop(state);
                // A machine out of threads still has this one.
                let _ = threads::start(scope, || self.work(scope));
                state = self.lock();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Whether another thread would find something to do.
    fn may_grow(&self) -> bool {
        !self.pending.is_empty() && self.threads < threads::most() * THREADS
    }

    fn give_up(&mut self, why: NoTree) {
        self.none = Some(why);
        self.pending.clear();
    }

    /// Adds what a directory holds; `above` is that directory, if others are in it.
    fn add(&mut self, dir: NodeId, children: &mut Children, above: Option<&Arc<Above>>) {
        let ids = match self.builder.fill_from(dir, children) {
            Ok(ids) => ids,
            Err(error) => return self.give_up(NoTree::TooLarge(error)),
        };
        let Some(above) = above else { return };
        let tree = self.builder.tree();
        let enter =
            |id: &NodeId| tree.entry(*id).kind.is_dir() && tree.standing(*id) == Standing::Present;
        let pending = |dir| Pending { dir, above: Some(Arc::clone(above)) };
        self.pending.extend(ids.filter(enter).map(pending));
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
pub(super) struct Lister<'a> {
    walk: &'a Walk<'a>,
    /// The directory.
    pub path: Vec<u8>,
    /// Device and inode of the directory and of all above it, if links are followed.
    pub ancestors: Vec<(u32, u64)>,
    /// What went wrong so far.
    pub problems: Vec<Problem>,
    /// What the directory holds.
    pub children: Children,
    /// Whether there are directories to be entered among them.
    pub holds_dirs: bool,
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
    pub fn new(walk: &'a Walk<'a>) -> Self {
        Lister {
            walk,
            path: Vec::with_capacity(4096),
            ancestors: Vec::new(),
            problems: Vec::new(),
            children: Children::default(),
            holds_dirs: false,
            dirents: Vec::with_capacity(64 * 1024),
            names: Vec::new(),
            found: Vec::new(),
            euid: rustix::process::geteuid().as_raw(),
        }
    }

    /// Finds out what the directory at `self.path` holds, for `self.children`; `above` is
    /// the directory that holds it, if that is open. `None`, with a problem, if that is not
    /// to be found out.
    pub fn list(&mut self, above: Option<&OwnedFd>) -> Option<OwnedFd> {
        self.children.clear();
        self.holds_dirs = false;
        let dir = match self.open(above) {
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
        for (count, f) in found.iter().enumerate() {
            if count % 4096 == 4095 && self.walk.stop.reason().is_some() {
                break;
            }
            let at = f.name_at as usize;
            let bytes = &names[at..=at + usize::from(f.name_len)];
            let Ok(name) = CStr::from_bytes_with_nul(bytes) else { continue };
            if let Err(NotKnown(why)) = self.child(dir.as_fd(), name, f) {
                self.problem(None, why);
                return None;
            }
        }
        (self.found, self.names) = (found, names);
        Some(dir)
    }

    fn open(&self, above: Option<&OwnedFd>) -> rustix::io::Result<OwnedFd> {
        match above {
            _ if self.walk.look.follows() => self.walk.root.following(&self.path, LIST),
            Some(above) => rustix::fs::openat(above, split(&self.path).1, LIST, Mode::empty()),
            None => self.walk.root.at(&self.path, LIST),
        }
    }

    /// Reads the names. All of them before the first look, for a directory that is changed
    /// while it is read is read again by nobody.
    fn read(&mut self, dir: &OwnedFd) -> rustix::io::Result<()> {
        self.names.clear();
        self.found.clear();
        let at_top = self.path.is_empty() && self.walk.hide_ours;
        let Lister { dirents, names, found, .. } = self;
        system::each_name(dir, dirents, |name, ino, file_type| {
            let bare = name.to_bytes();
            if matches!(bare, b"." | b"..") || at_top && matches!(bare, WORK_DIR | TRIGGER) {
                return Ok(());
            }
            let name_at = u32::try_from(names.len()).map_err(|_| Errno::NOMEM)?;
            let name_len = u16::try_from(bare.len()).map_err(|_| Errno::NAMETOOLONG)?;
            names.extend_from_slice(name.to_bytes_with_nul());
            found.push(Found { ino, name_at, name_len, file_type });
            Ok(())
        })
    }

    /// Adds one entry of the open directory.
    fn child(&mut self, dir: BorrowedFd<'_>, name: &CStr, found: &Found) -> Result<(), NotKnown> {
        let bare = name.to_bytes();
        let unknown = || Entry::new(look::kind_of(found.file_type));
        // The work directory of a task whose replica lies inside this one stays where it is.
        if self.walk.hide_ours && bare == WORK_DIR {
            return self.add(bare, Standing::Excluded, unknown());
        }
        if self.path.len() + 1 + bare.len() > LONGEST_PATH {
            self.problem(
                Some(bare),
                "the path is longer than 4,095 bytes; nothing at or below it is synchronised",
            );
            return self.add(bare, Standing::Unknown, unknown());
        }
        // Most excluded entries need no look: the listing told what they are.
        let told = match found.file_type {
            FileType::Unknown => None,
            FileType::Symlink if self.walk.look.follows() => None,
            other => Some(PathKind::of(other == FileType::Directory)),
        };
        if told.is_some_and(|kind| self.is_excluded(bare, kind)) {
            return self.add(bare, Standing::Excluded, unknown());
        }
        let (entry, mount) = match self.walk.look.at_with_mount(dir, name) {
            Ok(found) => found,
            Err(error) => {
                if told.is_none() && self.is_excluded(bare, PathKind::Other) {
                    return self.add(bare, Standing::Excluded, unknown());
                }
                if error == Errno::ACCESS && !self.is_searchable(dir) {
                    return Err(NotKnown("cannot search the directory: Permission denied"));
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
                return self.add(bare, Standing::Unknown, unknown());
            }
        };
        if told.is_none() && self.is_excluded(bare, PathKind::of(entry.kind.is_dir())) {
            return self.add(bare, Standing::Excluded, entry);
        }
        if self.is_circle(found.file_type, &entry) {
            self.problem(Some(bare), "the link leads back to a directory above it");
            return self.add(bare, Standing::Unknown, entry);
        }
        if self.is_unreadable(dir, name, &entry) {
            self.problem(Some(bare), "cannot read the file: Permission denied");
            return self.add(bare, Standing::Unknown, entry);
        }
        self.add(bare, Standing::Present, entry)?;
        if mount == Mount::Root {
            self.children.mark_mounted();
        }
        Ok(())
    }

    fn add(&mut self, name: &[u8], standing: Standing, entry: Entry) -> Result<(), NotKnown> {
        self.holds_dirs |= standing == Standing::Present && entry.kind.is_dir();
        let too_many = |_| NotKnown("the directory holds more than can be counted");
        self.children.push(name, standing, entry).map_err(too_many)
    }

    fn is_excluded(&mut self, name: &[u8], kind: PathKind) -> bool {
        let Some(filter) = self.walk.filter else { return false };
        let len = self.path.len();
        if len > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        let verdict = filter.verdict(&self.path, kind);
        self.path.truncate(len);
        verdict == Inclusion::Excluded
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
            text: LeftAlone::Unread(text.to_owned()).words().into_owned(),
        });
    }
}

/// Why a directory that can be listed is unknown as a whole.
struct NotKnown(&'static str);

/// So many threads of this process walk now: walks at the same time share the processors.
static WALKING: AtomicUsize = AtomicUsize::new(0);

/// One more of them, as long as it lives.
pub(super) struct Walker;

impl Walker {
    /// This thread walks from now on.
    pub fn new() -> Self {
        WALKING.fetch_add(1, Ordering::Relaxed);
        Walker
    }
}

impl Drop for Walker {
    fn drop(&mut self) {
        WALKING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a thread would be faster with another one beside it.
#[derive(Default)]
pub(super) struct Pace {
    listed: u32,
    /// How many of the directories that were watched last left a processor idle.
    idle: u32,
}

impl Pace {
    /// One directory of so many is watched.
    const EACH: u32 = 8;
    /// So many in a row ask for help.
    const ENOUGH: u32 = 4;

    /// Lists a directory, and now and then takes note of how the time went by.
    pub fn watch<T>(&mut self, list: impl FnOnce() -> T) -> T {
        self.listed += 1;
        if !self.listed.is_multiple_of(Pace::EACH) {
            return list();
        }
        let (began, worked) = (Instant::now(), processor_time());
        let listed = list();
        let (took, worked) = (began.elapsed(), processor_time().saturating_sub(worked));
        self.note(took, worked, WALKING.load(Ordering::Relaxed));
        listed
    }

    /// A processor is idle if the time went by waiting for the disk, or if there are fewer
    /// threads than processors.
    fn note(&mut self, took: Duration, worked: Duration, walking: usize) {
        let is_idle = walking < threads::most() || worked < took / 2;
        self.idle = if is_idle { self.idle + 1 } else { 0 };
    }

    /// Says so once.
    pub fn asks_for_help(&mut self) -> bool {
        let asks = self.idle >= Pace::ENOUGH;
        if asks {
            self.idle = 0;
        }
        asks
    }
}

/// How long this thread was on a processor.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod list_tests {
    use super::super::look::LookRules;
    use super::super::openat_root::Root;
    use super::*;
    use crate::process::Stop;
    use crate::tree::Side;

    #[test]
    fn a_directory_that_has_become_a_link_is_not_entered() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("f"), "x").unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("was-a-dir")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        let open = root.at(b"", LIST).unwrap();
        let walk = Walk {
            root: &root,
            base: &RelPath::root(),
            look: LookRules::default(),
            filter: None,
            hide_ours: true,
            side: Side::Target,
            seen: &|_| (),
            stop: &Stop::new(),
        };
        for (path, above) in [
            (&b"was-a-dir"[..], None),
            (b"was-a-dir", Some(&open)),
            (b"was-a-dir/f", None),
            (b"gone", None),
            (b"gone", Some(&open)),
        ] {
            let mut lister = Lister::new(&walk);
            lister.path.extend_from_slice(path);
            assert!(lister.list(above).is_none());
            assert_eq!(lister.problems[0].path, RelPath::new(path).ok());
        }
    }
}

#[cfg(test)]
mod walkers_tests {
    use super::*;

    #[test]
    fn help_is_asked_for_once_while_a_processor_is_idle() {
        let (took, little) = (Duration::from_micros(90), Duration::from_micros(40));
        let asks = |notes: &[(Duration, usize)]| {
            let mut pace = Pace::default();
            let mut asks = Vec::new();
            for (worked, walking) in notes {
                pace.note(took, *worked, *walking);
                asks.push(pace.asks_for_help());
            }
            let asked = asks.iter().enumerate().filter(|(_, asked)| **asked);
            asked.map(|(at, _)| at).collect::<Vec<usize>>()
        };
        let most = threads::most();
        let (waits, works, few) = ((little, most), (took, most), (took, most - 1));
        assert!(asks(&[works; 20]).is_empty());
        assert_eq!(asks(&[waits; 9]), [3, 7]);
        assert_eq!(asks(&[few, waits, few, few, works]), [3]);
        assert!(asks(&[waits, waits, waits, works, waits, waits, waits, works]).is_empty());
    }
}

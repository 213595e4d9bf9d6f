//! Looks at everything below a directory, once (spec 4, "Scanning").
//!
//! Several threads list directories; what each has found goes into one tree. A walk begins
//! alone, and gets help while a processor is idle, or while it waits for the disk. A directory
//! is opened in the one above it when its turn comes; where too many of those would have to
//! stay open, by its path from the root. So depth costs few descriptors and no stack.

use super::list::Lister;
use super::look::Look;
use super::openat_root::Root;
use super::walkers::{Pace, Walker};
use crate::filter::Filter;
use crate::process::Stop;
use crate::report::Problem;
use crate::threads;
use crate::tree::{Children, Entry, NodeId, RelPath, Side, Standing, TooLarge, Tree, TreeBuilder};
use rustix::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;

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
    pub look: Look,
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
    let look = Look::default();
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

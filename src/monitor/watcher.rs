//! Watches replicas through the `notify` crate.
//!
//! On Linux every directory gets a watch of its own, so that excluded directories and the
//! work directory cost nothing, and so that a new directory can be looked through right
//! after its watch stands: what was put into it before would go unnoticed otherwise.

#[cfg(test)]
#[path = "watcher_tests.rs"]
mod tests;

use crate::filter::{Filter, Inclusion, PathKind};
use crate::process::Stop;
use crate::system::{WATCHES_ONE_BY_ONE, mount_number, unique_mount_number, watch_limits};
use crate::tree::work_dir::{WORK_DIR, is_ours};
use crate::tree::{RelPath, Side};
use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Config, ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use rustix::fs::{AtFlags, CWD};
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use walkdir::{DirEntry, WalkDir};

/// How many paths are remembered one by one. Where more change at once (a first run that
/// fills a replica), only that there were too many is.
const MAX_PATHS: usize = 200_000;

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sign {
    /// It changed or went away.
    Touched,
    /// It was created or renamed to: if it is a directory, it is not watched yet.
    Appeared,
}

/// What has been noticed since the last look.
#[derive(Debug, Default)]
pub struct Noticed {
    /// Absolute paths.
    pub paths: HashMap<PathBuf, Sign>,
    /// There was more than could be remembered, here or in the kernel.
    pub missed: bool,
    /// A directory could not be watched for want of watches.
    pub limited: bool,
    /// A replica behind ssh has changed.
    pub far: bool,
}

impl Noticed {
    fn is_empty(&self) -> bool {
        self.paths.is_empty() && !self.missed && !self.limited && !self.far
    }
}

/// The inbox itself.
#[derive(Debug, Default)]
pub struct Inbox {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    noticed: Noticed,
    stopped: bool,
}

impl Inbox {
    /// Takes an event of the watcher. Called on its thread for every single event, so that
    /// the kernel's queue does not run over.
    pub fn receive(&self, event: notify::Result<Event>) {
        let mut state = self.lock();
        let was_empty = state.noticed.is_empty();
        match event {
            Ok(event) => state.noticed.add(event),
            Err(error) => match error.kind {
                ErrorKind::MaxFilesWatch => state.noticed.limited = true,
                ErrorKind::PathNotFound | ErrorKind::WatchNotFound => {}
                _ => state.noticed.missed = true,
            },
        }
        if was_empty && !state.noticed.is_empty() {
            self.changed.notify_all();
        }
    }

    /// Whoever watches the replica behind ssh has seen something.
    pub fn far_side_changed(&self) {
        self.lock().noticed.far = true;
        self.changed.notify_all();
    }

    /// Wakes whoever waits here when the end is requested. The thread that does so ends with the
    /// process: the end may never be requested.
    pub fn stop_with(self: &Arc<Self>, stop: &Stop) {
        let (inbox, stop) = (Arc::clone(self), stop.clone());
        std::thread::spawn(move || {
            let _ = stop.wait(Duration::MAX);
            inbox.lock().stopped = true;
            inbox.changed.notify_all();
        });
    }

    /// Waits until something is noticed or the monitor is to end, at most this long.
    pub fn wait(&self, at_most: Duration) {
        self.wait_while(at_most, |state| state.noticed.is_empty() && !state.stopped);
    }

    /// Waits this long, less if the monitor is to end.
    pub fn pause(&self, time: Duration) {
        self.wait_while(time, |state| !state.stopped);
    }

    /// Hands over what has been noticed.
    pub fn take(&self) -> Noticed {
        std::mem::take(&mut self.lock().noticed)
    }

    fn wait_while(&self, at_most: Duration, waiting: impl Fn(&State) -> bool) {
        let until = Instant::now() + at_most.min(Duration::from_secs(24 * 3600));
        let mut state = self.lock();
        while waiting(&state) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let woken = self.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // nothing in here can panic half-way
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Noticed {
    fn add(&mut self, event: Event) {
        if event.need_rescan() {
            self.missed = true;
        }
        let Some(sign) = sign(event.kind) else { return };
        if self.paths.len() + event.paths.len() > MAX_PATHS {
            self.paths = HashMap::new();
            self.missed = true;
        }
        for path in event.paths {
            let known = self.paths.entry(path).or_insert(sign);
            *known = sign.max(*known);
        }
    }
}

/// Reading is no change. Our own scans cause a great many of such events.
fn sign(kind: EventKind) -> Option<Sign> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Sign::Touched),
        EventKind::Access(_) => None,
        EventKind::Create(_) => Some(Sign::Appeared),
        EventKind::Modify(ModifyKind::Name(RenameMode::From)) => Some(Sign::Touched),
        EventKind::Modify(ModifyKind::Name(_)) => Some(Sign::Appeared),
        EventKind::Any | EventKind::Other => Some(Sign::Appeared),
        EventKind::Modify(_) | EventKind::Remove(_) => Some(Sign::Touched),
    }
}

/// One replica that is watched, or should be.
#[derive(Debug)]
pub struct Root {
    /// Which one.
    pub side: Side,
    /// Its directory, as configured.
    pub path: PathBuf,
    need: Need,
    /// Where that leads, and which directory it is, since watches stand there.
    watched: Option<(PathBuf, DirIdentity)>,
}

/// What it means that a replica is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// No run can be made.
    Required,
    /// It is one target of several.
    OneOfMany,
}

/// A directory that is watched. The mount counts: a disk that is unmounted takes its
/// watches with it, and when it is there again, device and inode are what they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DirIdentity {
    dev: u64,
    ino: u64,
    /// 0 where the system does not tell. Before Linux 6.8 another mount may get the
    /// number of one that is gone.
    mount: u64,
}

/// What a look at the roots has shown.
#[derive(Debug, PartialEq, Eq)]
pub enum Presence {
    /// All are there and watched, as before.
    Same,
    /// Watches were set (anew), on so many directories.
    Watched(usize),
    /// This one is not there.
    Gone(Side),
}

/// Why watching does not work, or not everywhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The system allows no more watches.
    #[error("the system allows no more watched directories")]
    Limit,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// A change below a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// On which side.
    pub side: Side,
    /// Where.
    pub path: RelPath,
    /// What there may be.
    pub sign: Sign,
}

/// Watches all roots.
pub struct Eyes {
    inbox: Arc<Inbox>,
    filter: Filter,
    roots: Vec<Root>,
    watcher: Option<RecommendedWatcher>,
    /// There were too few watches: some directories have none.
    limited: bool,
}

impl Eyes {
    /// A watcher that watches nothing yet.
    #[must_use]
    pub fn new(roots: Vec<(Side, PathBuf)>, filter: Filter, inbox: Arc<Inbox>) -> Self {
        let need = Need::Required;
        let root = |(side, path)| Root { side, path, need, watched: None };
        Eyes {
            inbox,
            filter,
            roots: roots.into_iter().map(root).collect(),
            watcher: None,
            limited: false,
        }
    }

    /// Watches further targets, while they are there.
    #[must_use]
    pub fn with_targets(mut self, paths: Vec<PathBuf>) -> Self {
        let (side, need) = (Side::Target, Need::OneOfMany);
        self.roots.extend(paths.into_iter().map(|path| Root { side, path, need, watched: None }));
        self
    }

    /// Whether some directories go unwatched.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.limited
    }

    /// The replicas.
    #[must_use]
    pub fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// What takes part.
    #[must_use]
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Where the root of a side really is.
    #[must_use]
    pub fn root(&self, side: Side) -> Option<&Path> {
        let root = self.roots.iter().find(|root| root.side == side)?;
        root.watched.as_ref().map(|(path, _)| path.as_path())
    }

    /// Looks whether the roots are there, and are the ones that are watched; sets all
    /// watches where they are not.
    ///
    /// # Errors
    /// Watching does not work (everywhere); it is not tried again before a root changes.
    pub fn refresh(&mut self) -> Result<Presence, Trouble> {
        let mut now = Vec::with_capacity(self.roots.len());
        for root in &self.roots {
            match (identity(&root.path), root.need) {
                (None, Need::Required) => return Ok(Presence::Gone(root.side)),
                (found, _) => now.push(found),
            }
        }
        if self.roots.iter().zip(&now).all(|(root, now)| root.watched == *now) {
            return Ok(Presence::Same);
        }
        for (root, now) in self.roots.iter_mut().zip(now) {
            root.watched = now;
        }
        self.rewatch().map(Presence::Watched)
    }

    /// Sets all watches anew; the count of directories.
    ///
    /// # Errors
    /// Watching does not work, or not everywhere.
    pub fn rewatch(&mut self) -> Result<usize, Trouble> {
        self.limited = false;
        // The old watches go first: there may be too few for both.
        self.watcher = None;
        let inbox = Arc::clone(&self.inbox);
        let config = Config::default().with_follow_symlinks(false);
        let watcher = RecommendedWatcher::new(move |event| inbox.receive(event), config);
        self.watcher = Some(watcher.map_err(|error| self.trouble(&error))?);
        let tops: Vec<(Side, PathBuf)> = self
            .roots
            .iter()
            .filter_map(|root| Some((root.side, root.watched.as_ref()?.0.clone())))
            .collect();
        let mut count = 0;
        for (side, top) in tops {
            count += self.watch_below(side, &top, &RelPath::root(), &mut |_| ())?;
        }
        Ok(count)
    }

    fn trouble(&mut self, error: &notify::Error) -> Trouble {
        // EMFILE: the limit of inotify instances.
        let instances = matches!(&error.kind, ErrorKind::Io(cause)
            if cause.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()));
        self.limited = true;
        if instances || matches!(error.kind, ErrorKind::MaxFilesWatch) {
            Trouble::Limit
        } else {
            Trouble::Other(error.to_string())
        }
    }

    /// Watches a directory and those below it that take part, then reports everything in
    /// them; the count of directories.
    fn watch_below(
        &mut self,
        side: Side,
        top: &Path,
        directory: &RelPath,
        found: &mut dyn FnMut(Sighting),
    ) -> Result<usize, Trouble> {
        let mut pending = vec![directory.clone()];
        let mut count = 0;
        while let Some(directory) = pending.pop() {
            let full = top.join(directory.as_path());
            if !self.watch_one(&full, &directory)? {
                continue;
            }
            count += 1;
            // A directory that cannot be listed is the run's business, not ours.
            for entry in std::fs::read_dir(&full).into_iter().flatten().flatten() {
                let path = directory.join(entry.file_name().as_bytes());
                let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let verdict = self.filter.verdict(path.as_bytes(), PathKind::of(is_dir));
                if is_ours(&path) || verdict == Inclusion::Excluded {
                    continue;
                }
                if is_dir {
                    pending.push(path.clone());
                }
                found(Sighting { side, path, sign: Sign::Touched });
            }
        }
        Ok(count)
    }

    /// Whether the directory is (still) there.
    fn watch_one(&mut self, full: &Path, directory: &RelPath) -> Result<bool, Trouble> {
        let Some(watcher) = &mut self.watcher else { return Ok(true) };
        if !WATCHES_ONE_BY_ONE && !directory.is_root() {
            return Ok(true);
        }
        let mode =
            if WATCHES_ONE_BY_ONE { RecursiveMode::NonRecursive } else { RecursiveMode::Recursive };
        match watcher.watch(full, mode) {
            Ok(()) => Ok(true),
            Err(error) => match &error.kind {
                ErrorKind::PathNotFound => Ok(false),
                // It cannot be entered, or went away meanwhile.
                ErrorKind::Io(cause)
                    if cause.raw_os_error() != Some(rustix::io::Errno::MFILE.raw_os_error()) =>
                {
                    Ok(false)
                }
                _ => Err(self.trouble(&error)),
            },
        }
    }

    /// Reduces what was noticed to what matters: changes below the roots that the
    /// filter does not exclude. New directories are watched and looked through.
    ///
    /// # Errors
    /// New directories cannot be watched. What was found by then is in `found`.
    pub fn sift(&mut self, noticed: Noticed, found: &mut Vec<Sighting>) -> Result<(), Trouble> {
        let mut result = Ok(());
        for (full, sign) in noticed.paths {
            let Some((side, top, path)) = self.place(&full) else { continue };
            if path.is_root() {
                found.push(Sighting { side, path, sign });
                continue;
            }
            let now = std::fs::symlink_metadata(&full).ok();
            let kind = now.map(|now| PathKind::of(now.is_dir()));
            if !self.takes_part(&path, kind) {
                continue;
            }
            if kind == Some(PathKind::Dir) && sign == Sign::Appeared && result.is_ok() {
                let mut below = Vec::new();
                let watched = self.watch_below(side, &top, &path, &mut |seen| below.push(seen));
                found.append(&mut below);
                result = watched.map(|_| ());
            }
            found.push(Sighting { side, path, sign });
        }
        if noticed.limited {
            self.limited = true;
            return Err(Trouble::Limit);
        }
        result
    }

    /// The replica and the path in it.
    fn place(&self, full: &Path) -> Option<(Side, PathBuf, RelPath)> {
        self.roots.iter().find_map(|root| {
            let (top, _) = root.watched.as_ref()?;
            let below = full.strip_prefix(top).ok()?;
            let path = match below.as_os_str().as_bytes() {
                b"" => RelPath::root(),
                bytes => RelPath::new(bytes).ok()?,
            };
            Some((root.side, top.clone(), path))
        })
    }

    /// Whether a path matters. The trigger file does; the work directory does not. What is
    /// gone may have been a directory or not.
    fn takes_part(&self, path: &RelPath, kind: Option<PathKind>) -> bool {
        let first = path.components().next().unwrap_or_default();
        if first == WORK_DIR {
            return false;
        }
        let is_included =
            |kind| self.filter.verdict_with_parents(path.as_bytes(), kind) == Inclusion::Included;
        match kind {
            _ if is_ours(path) => true,
            Some(kind) => is_included(kind),
            None => is_included(PathKind::Dir) || is_included(PathKind::Other),
        }
    }
}

fn identity(path: &Path) -> Option<(PathBuf, DirIdentity)> {
    let resolved = path.canonicalize().ok()?;
    let now = std::fs::metadata(&resolved).ok().filter(std::fs::Metadata::is_dir)?;
    let (path, flags) = (resolved.as_path(), AtFlags::empty());
    let mount = unique_mount_number(CWD, path, flags);
    let mount = mount.or_else(|| mount_number(CWD, path, flags)).unwrap_or(0);
    Some((resolved, DirIdentity { dev: now.dev(), ino: now.ino(), mount }))
}

/// What to do about too few watches; `directories` is how many there are at least.
#[must_use]
pub fn limit_advice() -> String {
    match watch_limits() {
        Some((watches, watchers)) => format!(
            "the system allows {watches} watched directories (and {watchers} watchers) for all \
             programs of this user, which is too little; raise it with: sysctl -w \
             fs.inotify.max_user_watches={} (for good: a line in /etc/sysctl.d/)",
            (watches * 2).max(524_288)
        ),
        None => "the system allows no more watched directories; raise the limit of open files \
                 (ulimit -n, kern.maxfiles)"
            .to_owned(),
    }
}

/// Looks at everything below the roots that takes part. Two results are the same only if
/// nothing that a run would look at has changed in between (not even back again).
#[must_use]
pub fn fingerprint(roots: &[Root], filter: &Filter) -> [u64; 2] {
    let mut sum = [0_u64; 2];
    for root in roots {
        let path = |entry: &DirEntry| {
            RelPath::new(entry.path().strip_prefix(&root.path).ok()?.as_os_str().as_bytes()).ok()
        };
        let takes_part = |entry: &DirEntry| {
            let kind = PathKind::of(entry.file_type().is_dir());
            path(entry).is_some_and(|path| {
                path.is_root()
                    || !is_ours(&path)
                        && filter.verdict(path.as_bytes(), kind) == Inclusion::Included
            })
        };
        let walk = WalkDir::new(&root.path).min_depth(1).into_iter().filter_entry(takes_part);
        for entry in walk.flatten() {
            let (Some(path), Ok(now)) = (path(&entry), entry.metadata()) else { continue };
            // The order in which a directory is read says nothing, so sums are taken.
            for (sum, part) in sum.iter_mut().zip(digest(root, &path, &now)) {
                *sum = sum.wrapping_add(part);
            }
        }
    }
    sum
}

fn digest(root: &Root, path: &RelPath, now: &std::fs::Metadata) -> [u64; 2] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[u8::from(root.side == crate::tree::Side::Target)]);
    for number in [now.ino(), now.size(), u64::from(now.mode())] {
        hasher.update(&number.to_le_bytes());
    }
    // The ctime moves with everything: content, mode, owner, attributes, links.
    for number in [now.ctime(), now.ctime_nsec()] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(path.as_bytes());
    let hash = hasher.finalize();
    let (first, rest) = hash.as_bytes().split_at(8);
    let number = |bytes: &[u8]| bytes.iter().take(8).fold(0, |n, b| n << 8 | u64::from(*b));
    [number(first), number(rest)]
}

#[cfg(test)]
mod inbox_tests {
    use super::*;
    use crate::process::StopReason;
    use notify::event::{CreateKind, DataChange, Flag, MetadataKind, RemoveKind};

    #[test]
    fn reading_is_no_change_and_everything_else_is() {
        let cases = [
            (EventKind::Access(AccessKind::Open(AccessMode::Any)), None),
            (EventKind::Access(AccessKind::Close(AccessMode::Read)), None),
            (EventKind::Access(AccessKind::Close(AccessMode::Write)), Some(Sign::Touched)),
            (EventKind::Create(CreateKind::File), Some(Sign::Appeared)),
            (EventKind::Create(CreateKind::Folder), Some(Sign::Appeared)),
            (EventKind::Modify(ModifyKind::Data(DataChange::Any)), Some(Sign::Touched)),
            (EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)), Some(Sign::Touched)),
            (EventKind::Modify(ModifyKind::Name(RenameMode::From)), Some(Sign::Touched)),
            (EventKind::Modify(ModifyKind::Name(RenameMode::To)), Some(Sign::Appeared)),
            (EventKind::Modify(ModifyKind::Name(RenameMode::Both)), Some(Sign::Appeared)),
            (EventKind::Remove(RemoveKind::File), Some(Sign::Touched)),
            (EventKind::Any, Some(Sign::Appeared)),
        ];
        for (kind, expected) in cases {
            assert_eq!(sign(kind), expected, "{kind:?}");
        }
    }

    #[test]
    fn a_path_that_appeared_stays_so_whatever_happens_to_it_then() {
        let inbox = Inbox::default();
        for kind in [
            EventKind::Create(CreateKind::Folder),
            EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)),
        ] {
            inbox.receive(Ok(Event::new(kind).add_path("/x".into())));
        }
        let noticed = inbox.take();
        assert_eq!(noticed.paths, HashMap::from([("/x".into(), Sign::Appeared)]));
        assert!(!noticed.missed && inbox.take().is_empty());
    }

    #[test]
    fn more_than_can_be_remembered_is_remembered_as_such() {
        let inbox = Inbox::default();
        for n in 0..=MAX_PATHS {
            let event = Event::new(EventKind::Create(CreateKind::File));
            inbox.receive(Ok(event.add_path(format!("/{n}").into())));
        }
        let noticed = inbox.take();
        assert!(noticed.missed && noticed.paths.len() == 1);
        inbox.receive(Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan)));
        assert!(inbox.take().missed, "the kernel's queue ran over");
        inbox.receive(Err(notify::Error::new(ErrorKind::MaxFilesWatch)));
        assert!(inbox.take().limited);
    }

    #[test]
    fn waiting_ends_for_news_and_for_the_end_but_a_pause_only_for_the_end() {
        let (inbox, stop) = (Arc::new(Inbox::default()), Stop::new());
        inbox.receive(Ok(Event::new(EventKind::Create(CreateKind::File)).add_path("/x".into())));
        inbox.wait(Duration::from_secs(600));
        inbox.pause(Duration::from_millis(1));
        inbox.stop_with(&stop);
        stop.request(StopReason::Signal(15));
        inbox.pause(Duration::from_secs(600));
        let _ = inbox.take();
        inbox.wait(Duration::from_secs(600));
    }
}

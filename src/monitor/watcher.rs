//! Watches replicas through the `notify` crate: the edge of the monitor.
//!
//! On Linux every directory gets a watch of its own, so that excluded directories and the
//! work directory cost nothing, and so that a new directory can be looked through right
//! after its watch stands: what was put into it before would go unnoticed otherwise.

use super::inbox::{Inbox, Noticed, Sign};
use crate::config::is_ours;
use crate::filter::{Filter, Verdict};
use crate::tree::{RelPath, Side};
use notify::{Config, ErrorKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whether the kernel wants a watch for every directory.
const ONE_BY_ONE: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// One replica that is watched, or should be.
#[derive(Debug)]
pub struct Root {
    /// Which one.
    pub side: Side,
    /// Its directory, as configured.
    pub path: PathBuf,
    /// Where that leads, and which directory it is, since watches stand there.
    watched: Option<(PathBuf, Identity)>,
}

/// A directory that is watched. The mount counts: a disk that is unmounted takes its
/// watches with it, and when it is there again, device and inode are what they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
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
    /// Eyes that are still closed.
    #[must_use]
    pub fn new(roots: Vec<(Side, PathBuf)>, filter: Filter, inbox: Arc<Inbox>) -> Self {
        let root = |(side, path)| Root { side, path, watched: None };
        Eyes {
            inbox,
            filter,
            roots: roots.into_iter().map(root).collect(),
            watcher: None,
            limited: false,
        }
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
            match identity(&root.path) {
                Some(found) => now.push(Some(found)),
                None => return Ok(Presence::Gone(root.side)),
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
            if !self.watch_one(&full, directory.is_root())? {
                continue;
            }
            count += 1;
            // A directory that cannot be listed is the run's business, not ours.
            for entry in std::fs::read_dir(&full).into_iter().flatten().flatten() {
                let path = directory.join(entry.file_name().as_bytes());
                let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if is_ours(&path)
                    || self.filter.verdict(path.as_bytes(), is_dir) == Verdict::Excluded
                {
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
    fn watch_one(&mut self, full: &Path, is_root: bool) -> Result<bool, Trouble> {
        let Some(watcher) = &mut self.watcher else { return Ok(true) };
        if !ONE_BY_ONE && !is_root {
            return Ok(true);
        }
        let mode = if ONE_BY_ONE { RecursiveMode::NonRecursive } else { RecursiveMode::Recursive };
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

    /// Brings what was noticed down to what matters: changes below the roots that the
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
            let is_dir = match std::fs::symlink_metadata(&full) {
                Ok(now) => Some(now.is_dir()),
                Err(_) => None,
            };
            if !self.takes_part(&path, is_dir) {
                continue;
            }
            if is_dir == Some(true) && sign == Sign::Appeared && result.is_ok() {
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
    fn takes_part(&self, path: &RelPath, is_dir: Option<bool>) -> bool {
        let first = path.components().next().unwrap_or_default();
        if first == b".osync_workdir" {
            return false;
        }
        let verdict = |is_dir| self.filter.verdict_with_parents(path.as_bytes(), is_dir);
        match is_dir {
            _ if is_ours(path) => true,
            Some(is_dir) => verdict(is_dir) == Verdict::Included,
            None => verdict(true) == Verdict::Included || verdict(false) == Verdict::Included,
        }
    }
}

fn identity(path: &Path) -> Option<(PathBuf, Identity)> {
    let resolved = path.canonicalize().ok()?;
    let now = std::fs::metadata(&resolved).ok().filter(std::fs::Metadata::is_dir)?;
    let mount = mount(&resolved);
    Some((resolved, Identity { dev: now.dev(), ino: now.ino(), mount }))
}

/// A number of the mount that a directory lies on.
#[cfg(target_os = "linux")]
fn mount(directory: &Path) -> u64 {
    use rustix::fs::{AtFlags, CWD, StatxFlags};
    // STATX_MNT_ID_UNIQUE: a number that is never given again.
    let wanted = StatxFlags::MNT_ID | StatxFlags::from_bits_retain(0x4000);
    rustix::fs::statx(CWD, directory, AtFlags::empty(), wanted).map_or(0, |now| now.stx_mnt_id)
}

#[cfg(not(target_os = "linux"))]
fn mount(_directory: &Path) -> u64 {
    0
}

/// What to do about too few watches; `directories` is how many there are at least.
#[must_use]
pub fn limit_advice() -> String {
    let value = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}"));
        text.ok().and_then(|text| text.trim().parse::<u64>().ok())
    };
    match value("max_user_watches") {
        Some(watches) => format!(
            "the system allows {watches} watched directories (and {} watchers) for all programs \
             of this user, which is too little; raise it with: sysctl -w \
             fs.inotify.max_user_watches={} (for good: a line in /etc/sysctl.d/)",
            value("max_user_instances").unwrap_or(128),
            (watches * 2).max(524_288)
        ),
        None => "the system allows no more watched directories; raise the limit of open files \
                 (ulimit -n, kern.maxfiles)"
            .to_owned(),
    }
}

#[cfg(test)]
#[path = "watcher_tests.rs"]
mod tests;

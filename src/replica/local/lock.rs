//! The lock of a local replica (spec 3, "Lock"). What a lock that is there already means
//! is decided in [`crate::replica::lock_policy`].
//!
//! `lock` appears with its whole content at once, by a hard link or a rename that replaces
//! nothing. Runs that start or end at the same moment take turns, by a kernel lock on the
//! work directory that a dying process cannot leave behind; so a dead lock is taken over
//! by one run only, and `lock.by` always belongs to `lock`. Nothing of it waits for the disk:
//! after a power failure no lock of this machine counts.

use super::look::LookRules;
use super::openat_root::Root;
use super::work_dir::sweep;
use super::work_dir::{Durable, LOCK, LOCK_BY, WorkDir};
use crate::process::fault;
use crate::replica::lock_policy::{
    self, Content, FoundLock, Holder, LockDecision, LockPlace, LockedBy, Origin,
    PATIENCE_WITH_EMPTY, Process,
};
use crate::replica::{LockRequest, Locked};
use crate::system::{self, rename_to_free};
use crate::tree::Stamp;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long another run may take to take or give back its lock.
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes turns where directories cannot be locked (NFS).
const TURN: &str = "lock.turn";

/// A lock taken by this process; [`OwnLock::release`] gives it back.
#[derive(Debug)]
pub(super) struct OwnLock {
    content: String,
    /// The ctime of the lock as it was made; unknown if it could not be looked at.
    pub since: Stamp,
}

/// Why a lock could not be taken: it is held, or the work directory fails us.
#[derive(Debug, thiserror::Error)]
pub(super) enum LockError {
    /// It is not understood, or only a person can tell whether it counts.
    #[error("{0}")]
    Stop(String),
    /// It says nothing of a process of this machine: `lock` and `lock.by`, which whoever asks
    /// for it may know more of.
    #[error("the lock was taken on another machine")]
    Elsewhere {
        #[allow(missing_docs)]
        content: Vec<u8>,
        #[allow(missing_docs)]
        by: Vec<u8>,
    },
    /// Another run has it, and may give it back.
    #[error("{0}")]
    Busy(String),
    /// The system refused.
    #[error("cannot {0} the lock: {1}")]
    Failed(&'static str, io::Error),
}

/// Who judges a lock that is there.
#[derive(Debug, Clone, Copy)]
pub(in crate::replica) enum Judge<'a> {
    /// This machine alone.
    Here,
    /// Whoever asks from another machine judges a lock that is not of this one, and has found
    /// that a lock of this content does not count.
    Client(Option<&'a [u8]>),
}

impl Judge<'_> {
    /// Whether somebody else has to look at this lock.
    fn leaves(self, found: &FoundLock, here: &Origin, content: &[u8]) -> bool {
        let Judge::Client(judged) = self else { return false };
        // one that names no process is the same wherever it is judged
        let Content::Of(holder) = &found.content else { return false };
        let by = found.by.as_ref().filter(|by| by.holder == *holder);
        judged != Some(content) && by.is_none_or(|by| by.origin.host != here.host)
    }

    fn has_judged(self, content: &[u8]) -> bool {
        matches!(self, Judge::Client(Some(judged)) if judged == content)
    }
}

/// Takes the lock for this process.
///
/// # Errors
/// It is held by another run, malformed, or cannot be read or written.
pub(super) fn take(
    work: &WorkDir,
    request: &LockRequest,
    judge: Judge<'_>,
) -> Result<(Locked, OwnLock), LockError> {
    let pid = std::process::id();
    let holder = Holder { pid, instance_id: request.instance_id.clone() };
    let here = lock_policy::origin();
    let started = system::started(pid);
    let by = LockedBy { holder: holder.clone(), origin: here.clone(), started }.to_text();
    let content = holder.to_text();
    let turn = Turn::take(work).map_err(|e| LockError::Failed("take", e))?;
    let failed = |error| LockError::Failed("write", error);

    // Another try is needed only if somebody who does not take turns (osync 1.3) comes
    // between our look and our link.
    let mut waited = false;
    for _ in 0..10 {
        let (locked, judged) = match find(work, &here, &request.instance_id) {
            Ok(None) => (Locked::Free, None),
            // somebody may be writing it just now
            Ok(Some((found, ..))) if found.content == Content::Empty && !waited => {
                waited = true;
                std::thread::sleep(PATIENCE_WITH_EMPTY);
                continue;
            }
            Ok(Some((_, _, content))) if judge.has_judged(&content) => {
                (Locked::Free, Some(Judged::Content(content)))
            }
            Ok(Some((found, _, content)))
                if !request.force && judge.leaves(&found, &here, &content) =>
            {
                let by = work.read(LOCK_BY).ok().flatten().unwrap_or_default();
                return Err(LockError::Elsewhere { content, by });
            }
            Ok(Some((found, process, content))) => {
                match lock_policy::decide(&found, process, &here, LockPlace::Here, request) {
                    LockDecision::TakeOver(locked) => (locked, Some(Judged::Content(content))),
                    LockDecision::Stop(why) => return Err(LockError::Stop(why)),
                    LockDecision::Busy(why) => return Err(LockError::Busy(why)),
                }
            }
            Err(error) if request.force => {
                let why = format!("there was a lock that cannot be read: {error} (forced)");
                (Locked::TakenOver { why, warn: false }, Some(Judged::Whatever))
            }
            Err(error) => return Err(LockError::Failed("read", error)),
        };
        // With turns, nobody looks before both files are there, and a crash in between
        // leaves a `lock.by` that fits no lock. Without, the lock itself must come first.
        if turn.is_exclusive() {
            work.replace(LOCK_BY, by.as_bytes(), Durable::WithTheRun).map_err(failed)?;
        }
        if let Some(judged) = judged {
            remove_judged(work, &judged).map_err(|e| LockError::Failed("take over", e))?;
        }
        let aside =
            work.write_aside(LOCK, content.as_bytes(), Durable::WithTheRun).map_err(failed)?;
        let appeared = appear(work, &aside);
        fault::point("lock appeared");
        let _ = work.remove(&aside);
        match appeared {
            Ok(()) => {
                if !turn.is_exclusive() {
                    work.replace(LOCK_BY, by.as_bytes(), Durable::WithTheRun).map_err(failed)?;
                }
                if turn.is_exclusive() {
                    sweep(work);
                }
                let since = LookRules::default().at(work, LOCK);
                let since = since.map_or(Stamp::UNKNOWN, |lock| lock.ctime);
                return Ok((locked, OwnLock { content, since }));
            }
            Err(Errno::EXIST) => {}
            Err(other) => return Err(failed(other.into())),
        }
    }
    Err(LockError::Busy("other runs keep taking the lock at the same moment".to_owned()))
}

/// Gives `aside` its name, unless that is taken.
fn appear(work: &WorkDir, aside: &str) -> Result<(), Errno> {
    match rustix::fs::linkat(work, aside, work, LOCK, AtFlags::empty()) {
        // File systems without hard links.
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {
            rename_to_free(work, aside.as_bytes(), work, LOCK.as_bytes())
        }
        result => result,
    }
}

/// What a lock was that does not count.
enum Judged {
    /// It had this content.
    Content(Vec<u8>),
    /// It cannot be read; it goes whatever it is (`--force-unlock`).
    Whatever,
}

/// Takes a lock that does not count out of the way. It is renamed first, and looked at
/// again: if it has become another one meanwhile, it goes back.
fn remove_judged(work: &WorkDir, judged: &Judged) -> io::Result<()> {
    let aside = format!("{LOCK}.old.{}", std::process::id());
    match rustix::fs::renameat(work, LOCK, work, &aside) {
        Err(Errno::NOENT) => return Ok(()),
        result => result?,
    }
    fault::point("old lock aside");
    match (work.read(&aside), judged) {
        (Ok(Some(content)), Judged::Content(judged)) if content != *judged => {
            rename_to_free(work, aside.as_bytes(), work, LOCK.as_bytes())?;
            Ok(())
        }
        (Ok(_), _) => Ok(work.remove(&aside)?),
        // Not a file: a forced lock. A directory stays under its new name.
        (Err(_), _) => work.remove(&aside).or(Ok(())),
    }
}

/// The lock that is there, with what is known of its process and its very content.
fn find(
    work: &WorkDir,
    here: &Origin,
    instance_id: &str,
) -> io::Result<Option<(FoundLock, Process, Vec<u8>)>> {
    let Some((bytes, changed)) = work.read_with_stamp(LOCK)? else { return Ok(None) };
    let content = Content::parse(&bytes, instance_id);
    let by = work.read(LOCK_BY).ok().flatten().and_then(|text| LockedBy::parse(&text));
    let before_boot = system::boot_time().is_some_and(|boot| changed < boot);
    let process = match &content {
        // Our own number, but we did not write it: its process is long gone.
        Content::Of(holder)
            if holder.pid == std::process::id()
                && !by.as_ref().is_some_and(|by| by.holder == *holder && by.origin == *here) =>
        {
            Process::Gone
        }
        Content::Of(holder) => lock_policy::process(holder.pid),
        Content::Empty | Content::Malformed(_) => Process::Gone,
    };
    Ok(Some((FoundLock { content, by, before_boot }, process, bytes)))
}

/// A lock as somebody sees it who only looks (`osync status`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockSeen {
    /// There is none, or one that a run is just making.
    Free,
    /// Of a process that lives, or may live on another machine.
    Held {
        /// The task it works for.
        instance_id: String,
        /// Since when, in seconds since the epoch.
        since: i64,
        /// In words.
        why: String,
    },
    /// Of a process that is gone: its run was killed. The next run takes it over.
    Dead {
        /// The task it worked for; empty if the lock does not tell.
        instance_id: String,
        /// In words.
        why: String,
    },
    /// Only a person can tell.
    Unclear(String),
}

/// Looks at the lock of a replica and takes nothing.
///
/// # Errors
/// It cannot be read.
pub fn look_at_lock(root: &Path, instance_id: &str) -> io::Result<LockSeen> {
    let here = lock_policy::origin();
    let request =
        LockRequest { instance_id: instance_id.to_owned(), force: false, stranger_resume: false };
    let work = match Root::open(root).and_then(|root| WorkDir::open_of_anybody(&root)) {
        Ok(work) => work,
        Err(Errno::NOENT) => return Ok(LockSeen::Free),
        Err(error) => return Err(error.into()),
    };
    loop {
        let Some((found, process, content)) = find(&work, &here, instance_id)? else {
            return Ok(LockSeen::Free);
        };
        let holder = match &found.content {
            Content::Of(holder) => holder.instance_id.clone(),
            Content::Empty | Content::Malformed(_) => String::new(),
        };
        let seen = match lock_policy::decide(&found, process, &here, LockPlace::Here, &request) {
            LockDecision::TakeOver(Locked::TakenOver { why, .. }) => {
                LockSeen::Dead { instance_id: holder, why }
            }
            LockDecision::TakeOver(Locked::Free) => LockSeen::Free,
            LockDecision::Stop(why) => LockSeen::Unclear(why),
            LockDecision::Busy(why) => {
                let since = work.read_with_stamp(LOCK)?.map_or(0, |(_, since)| since);
                LockSeen::Held { instance_id: holder, since, why }
            }
        };
        // A run gives its lock back before it ends: one that is still there is nobody's.
        match work.read_with_stamp(LOCK)? {
            None => return Ok(LockSeen::Free),
            Some((now, _)) if now != content => {}
            Some((_, since)) if found.content == Content::Empty && is_fresh(since) => {
                return Ok(LockSeen::Free);
            }
            Some(_) => return Ok(seen),
        }
    }
}

/// Whether something happened within the time that a lock may be empty while it is written.
fn is_fresh(since: i64) -> bool {
    let patience = i64::try_from(PATIENCE_WITH_EMPTY.as_secs()).unwrap_or(i64::MAX);
    lock_policy::now().saturating_sub(since) <= patience
}

impl OwnLock {
    /// Removes the lock, if it is still ours.
    ///
    /// # Errors
    /// It cannot be read or removed.
    pub fn release(self, work: &WorkDir) -> Result<(), LockError> {
        let _turn = Turn::take(work).map_err(|e| LockError::Failed("give back", e))?;
        let found = work.read(LOCK).map_err(|e| LockError::Failed("read", e))?;
        if found.as_deref() != Some(self.content.as_bytes()) {
            return Ok(());
        }
        let remove = |name| work.remove(name).map_err(|e| LockError::Failed("remove", e.into()));
        remove(LOCK_BY)?;
        fault::point("lock half removed");
        remove(LOCK)
    }
}

/// The right to look at the lock and change it. Ends when the value goes.
struct Turn(Option<OwnedFd>);

impl Turn {
    fn take(work: &WorkDir) -> io::Result<Self> {
        let fd = work.list_handle()?;
        if wait_for(&fd)? {
            return Ok(Turn(Some(fd)));
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(work, TURN, flags, Mode::from_raw_mode(0o644))?;
        Ok(Turn(wait_for(&fd)?.then_some(fd)))
    }

    /// Whether the file system really keeps others out.
    fn is_exclusive(&self) -> bool {
        self.0.is_some()
    }
}

/// Waits for the kernel's lock; `false` if this file cannot have one.
fn wait_for(fd: &OwnedFd) -> io::Result<bool> {
    let end = Instant::now() + PATIENCE;
    loop {
        match rustix::fs::flock(fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(Errno::WOULDBLOCK) => {
                return Err(io::Error::other("another run is taking or giving back its lock"));
            }
            Err(_) => return Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::ours::TooOpen;
    use std::path::PathBuf;
    use std::time::{SystemTime, UNIX_EPOCH};

    fn work() -> (tempfile::TempDir, WorkDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let work = WorkDir::open_or_make(&Root::open(dir.path()).unwrap(), TooOpen::Close).unwrap();
        let lock = dir.path().join(".osync_workdir").join(LOCK);
        (dir, work, lock)
    }

    fn written(lock: &Path, content: &str, at: SystemTime) {
        std::fs::write(lock, content).unwrap();
        std::fs::File::options().write(true).open(lock).unwrap().set_modified(at).unwrap();
    }

    #[test]
    fn only_the_very_lock_that_was_judged_is_taken_out_of_the_way() {
        for (judged, there, stays) in [
            (Judged::Content(b"41@task\n".to_vec()), "41@task\n", false),
            (Judged::Content(b"41@task\n".to_vec()), "42@other\n", true),
            (Judged::Content(Vec::new()), "", false),
            (Judged::Content(Vec::new()), "42@other\n", true),
            (Judged::Whatever, "42@other\n", false),
        ] {
            let (_dir, work, lock) = work();
            std::fs::write(&lock, there).unwrap();
            remove_judged(&work, &judged).unwrap();
            let left = std::fs::read_to_string(&lock).ok();
            assert_eq!(left.as_deref(), stays.then_some(there), "{there:?}");
            let others = std::fs::read_dir(lock.parent().unwrap()).unwrap().count();
            assert_eq!(others, usize::from(stays), "nothing else is left");
        }
        let (_dir, work, lock) = work();
        remove_judged(&work, &Judged::Content(b"41@task\n".to_vec())).unwrap();
        assert!(!lock.exists(), "one that is gone needs no removing");
    }

    fn of_task() -> LockRequest {
        LockRequest { instance_id: "task".to_owned(), force: false, stranger_resume: false }
    }

    #[test]
    fn runs_take_turns_at_looking_and_changing() {
        let (_dir, work, lock) = work();
        let turn = Turn::take(&work).unwrap();
        assert!(turn.is_exclusive(), "the file systems that tests run on have locks");
        let given_up = std::sync::atomic::AtomicBool::new(false);
        let after = |result: &dyn std::fmt::Debug| {
            assert!(given_up.load(std::sync::atomic::Ordering::SeqCst), "out of turn: {result:?}");
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(150));
                given_up.store(true, std::sync::atomic::Ordering::SeqCst);
                drop(turn);
            });
            let (locked, held) = take(&work, &of_task(), Judge::Here).unwrap();
            after(&locked);
            given_up.store(false, std::sync::atomic::Ordering::SeqCst);
            let turn = Turn::take(&work).unwrap();
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(150));
                given_up.store(true, std::sync::atomic::Ordering::SeqCst);
                drop(turn);
            });
            held.release(&work).unwrap();
            after(&"given back");
        });
        assert!(!lock.exists());
    }

    #[test]
    fn a_lock_with_our_number_is_ours_only_with_the_lock_by_that_we_wrote() {
        let pid = std::process::id();
        let here = lock_policy::origin();
        let by = |holder: &str, boot: &str| {
            let (pid, instance) = holder.split_once('@').unwrap();
            format!("host={}\nboot={boot}\npid={pid}\ninstance={instance}\n", here.host)
        };
        let ours = format!("{pid}@task");
        for (what, by, dead) in [
            ("ours", by(&ours, &here.boot), false),
            ("of another lock of this boot", by("1@other", &here.boot), true),
            ("of another boot", by(&ours, "id:before"), true),
            ("none", String::new(), true),
        ] {
            let (_dir, work, lock) = work();
            written(&lock, &format!("{ours}\n"), SystemTime::now());
            std::fs::write(lock.with_file_name(LOCK_BY), by).unwrap();
            let taken = take(&work, &of_task(), Judge::Here);
            assert_eq!(taken.is_ok(), dead, "{what}: {taken:?}");
        }
    }

    #[test]
    fn a_lock_has_its_lock_by_and_leaves_nothing_behind() {
        let (_dir, work, lock) = work();
        let (_, held) = take(&work, &of_task(), Judge::Here).unwrap();
        let by = std::fs::read(lock.with_file_name(LOCK_BY)).unwrap();
        let by = LockedBy::parse(&by).unwrap();
        assert_eq!((by.holder.pid, by.origin), (std::process::id(), lock_policy::origin()));
        held.release(&work).unwrap();
        assert_eq!(std::fs::read_dir(lock.parent().unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn a_lock_that_a_power_cut_emptied_and_a_bare_number_do_not_block_for_ever() {
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        for content in ["".to_owned(), "\0\0\0\0".to_owned(), format!("{}\n", gone.id())] {
            let (_dir, work, lock) = work();
            std::fs::write(&lock, &content).unwrap();
            let (locked, held) = take(&work, &of_task(), Judge::Here).unwrap();
            assert!(
                matches!(locked, Locked::TakenOver { warn: false, .. }),
                "{content:?}: {locked:?}"
            );
            held.release(&work).unwrap();
        }
        let (_dir, work, lock) = work();
        std::fs::write(&lock, "1\n").unwrap();
        let stop = take(&work, &of_task(), Judge::Here).unwrap_err().to_string();
        assert!(stop.contains("already running: process 1 of instance task"), "{stop}");
    }

    #[test]
    fn a_lock_that_is_being_written_is_waited_for() {
        let (_dir, work, lock) = work();
        std::fs::write(&lock, "").unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(PATIENCE_WITH_EMPTY / 4);
                std::fs::write(&lock, "1@task\n").unwrap();
            });
            let stop = take(&work, &of_task(), Judge::Here).unwrap_err().to_string();
            assert!(stop.contains("process 1"), "{stop}");
        });
    }

    #[test]
    fn a_zombie_holds_no_lock() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let (_dir, work, lock) = work();
        std::fs::write(&lock, format!("{}@task\n", child.id())).unwrap();
        // not waited for, so it stays a zombie
        while !std::fs::read_to_string(format!("/proc/{}/stat", child.id()))
            .unwrap()
            .contains(") Z")
        {
            std::thread::yield_now();
        }
        let (locked, held) = take(&work, &of_task(), Judge::Here).unwrap();
        assert!(matches!(locked, Locked::TakenOver { warn: false, .. }), "{locked:?}");
        held.release(&work).unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_lock_from_before_the_boot_is_dead_though_its_number_is_in_use_again() {
        let request = of_task();
        // process 1 always runs; without `lock.by` only the age of the lock tells
        for (at, dead) in [(UNIX_EPOCH, true), (SystemTime::now(), false)] {
            let (_dir, work, lock) = work();
            written(&lock, "1@task\n", at);
            match take(&work, &request, Judge::Here) {
                Ok((Locked::TakenOver { why, warn: false }, _)) => {
                    assert!(dead && why.contains("before the last boot"), "{why}");
                }
                Err(LockError::Busy(why)) => assert!(!dead && why.contains("process 1"), "{why}"),
                other => panic!("{other:?}"),
            }
        }
    }
}

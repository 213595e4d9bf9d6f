//! What has been noticed and not yet looked at: filled by the watcher's thread, emptied
//! by the monitor.

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{ErrorKind, Event, EventKind};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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
    /// Takes what the watcher says. Called on its thread for every single event, so that
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

    /// The monitor is to end.
    pub fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    /// Waits until something is noticed or the monitor is to end, at most this long.
    pub fn wait(&self, at_most: Duration) {
        self.wait_while(at_most, |state| state.noticed.is_empty() && !state.stopped);
    }

    /// Waits this long, less if the monitor is to end.
    pub fn pause(&self, time: Duration) {
        self.wait_while(time, |state| !state.stopped);
    }

    /// LocalExecutor over what has been noticed.
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

#[cfg(test)]
mod tests {
    use super::*;
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
        let inbox = Inbox::default();
        inbox.receive(Ok(Event::new(EventKind::Create(CreateKind::File)).add_path("/x".into())));
        inbox.wait(Duration::from_secs(600));
        inbox.pause(Duration::from_millis(1));
        inbox.stop();
        inbox.pause(Duration::from_secs(600));
        let _ = inbox.take();
        inbox.wait(Duration::from_secs(600));
    }
}

//! The lock of a remote replica, and its identity (spec 3, "Lock").
//!
//! What a lock means is decided by the same rules as a local one; its process number
//! belongs to the machine that wrote it.

use super::ShellReplica;
use super::protocol::datum;
use super::session::OnStop;
use super::session::Piece;
use crate::replica::lock_policy;
use crate::replica::lock_policy::{
    Content, FoundLock, Holder, LockDecision, LockPlace, LockedBy, Malformed, PATIENCE_WITH_EMPTY,
    Process, decide,
};
use crate::replica::{LockRequest, Locked, ReplicaError, TakenLock, Trouble};
use crate::state::{Identity, IdentityFound, RunMark, identity};
use crate::system;
use crate::tree::Stamp;

/// Two small files, in blocks of any size.
const ROOM_FOR_A_LOCK_KIB: u64 = 128;

/// A file as `show` of `lock.sh` tells it.
pub(super) enum Shown {
    Absent,
    File(Vec<u8>),
    NoFile,
}

impl Shown {
    fn is_empty_file(&self) -> bool {
        matches!(self, Shown::File(content) if words_of(content).is_empty())
    }
}

/// A lock's content as the shell compares it: it keeps no NUL (shown as 1) and no line end.
fn words_of(content: &[u8]) -> &[u8] {
    let blank = |byte: &u8| [1, b'\n'].contains(byte);
    let end = content.iter().rposition(|byte| !blank(byte)).map_or(0, |last| last + 1);
    let start = content.iter().position(|byte| *byte != 1).unwrap_or(end).min(end);
    content[start..end].trim_ascii_end()
}

impl ShellReplica {
    pub(super) fn take_lock(&mut self, request: &LockRequest) -> Result<TakenLock, ReplicaError> {
        let pid = std::process::id();
        let holder = Holder { pid, instance_id: request.instance_id.clone() };
        let origin = lock_policy::origin();
        let by = LockedBy {
            holder: holder.clone(),
            origin: origin.clone(),
            started: system::started(pid),
        };
        let (content, by) = (holder.to_text(), by.to_text());
        let mut judged: Option<(Vec<u8>, Locked)> = None;
        let mut waited = false;
        // another try is needed only if somebody else takes over the same dead lock
        for _ in 0..6 {
            let mut data = Vec::new();
            datum(&mut data, content.trim_end().as_bytes());
            datum(&mut data, by.trim_end().as_bytes());
            if let Some((content, _)) = &judged {
                datum(&mut data, content);
            }
            data.extend_from_slice(b".\n");
            let (status, answer) = self.ask(&[Piece::Lock], "lock", &data, OnStop::Finish)?;
            if status != 0 {
                let said = String::from_utf8_lossy(&answer);
                // not every shell knows the system's words for a full disk
                let full = if self.link()?.free_kib < ROOM_FOR_A_LOCK_KIB {
                    "; the file system there is full"
                } else {
                    ""
                };
                let said = said.trim();
                return Err(
                    self.error(format!("cannot take its lock in .osync_workdir: {said}{full}"))
                );
            }
            if let Some((at, identity)) = parse_taken(&answer) {
                let runs = identity::marks_of(identity);
                let link = self.link()?;
                (link.locked, link.has_work_dir) = (true, true);
                link.runs = runs;
                let how = judged.map_or(Locked::Free, |(_, locked)| locked);
                return Ok(TakenLock { how, at });
            }
            let (lock, lock_by) = parse(&answer).ok_or_else(|| self.garbled("lock"))?;
            // somebody may be writing it just now
            if lock.is_empty_file() && !std::mem::replace(&mut waited, true) {
                std::thread::sleep(PATIENCE_WITH_EMPTY);
                continue;
            }
            match self.decide(&lock, &lock_by, request, &holder) {
                LockDecision::TakeOver(locked) => {
                    let content = match lock {
                        Shown::File(content) if !request.force => {
                            let mut judged = b"lock ".to_vec();
                            judged.extend_from_slice(words_of(&content));
                            judged
                        }
                        _ => b"forced".to_vec(),
                    };
                    judged = Some((content, locked));
                }
                LockDecision::Stop(why) => {
                    return Err(self.error(format!("{why} ({})", self.lock_path())));
                }
                LockDecision::Busy(why) => {
                    let text = format!("{why} ({})", self.lock_path());
                    return Err(ReplicaError { trouble: Trouble::Locked, ..self.error(text) });
                }
            }
        }
        Err(self.error("other runs keep taking its lock at the same moment"))
    }

    fn lock_path(&self) -> String {
        self.root.join(".osync_workdir/lock").display().to_string()
    }

    fn decide(
        &self,
        lock: &Shown,
        lock_by: &Shown,
        request: &LockRequest,
        ours: &Holder,
    ) -> LockDecision {
        let content = match lock {
            Shown::File(content) if words_of(content).is_empty() => Content::Empty,
            Shown::File(content) => Content::parse(content, &request.instance_id),
            Shown::NoFile => Content::Malformed(Malformed),
            // gone between the two looks
            Shown::Absent => return LockDecision::TakeOver(Locked::Free),
        };
        let by = match lock_by {
            Shown::File(text) => LockedBy::parse(text),
            Shown::NoFile | Shown::Absent => None,
        };
        let here = lock_policy::origin();
        let process = match &content {
            Content::Of(holder) if holder.pid == ours.pid => {
                let is_ours = |by: &LockedBy| {
                    by.holder == *holder
                        && holder.instance_id != request.instance_id
                        && by.origin == here
                        && by.started.is_some()
                        && by.started == system::started(ours.pid)
                };
                // our own number, but another process or another run of this one had it: it is gone
                if by.as_ref().is_some_and(is_ours) { Process::Us } else { Process::Gone }
            }
            Content::Of(holder) => lock_policy::process(holder.pid),
            Content::Empty | Content::Malformed(_) => Process::Gone,
        };
        let found = FoundLock { content, by, before_boot: false };
        decide(&found, process, &here, LockPlace::Remote, request)
    }

    pub(super) fn give_lock_back(&mut self) -> Result<(), ReplicaError> {
        let Some(link) = &mut self.link else { return Ok(()) };
        if !std::mem::take(&mut link.locked) {
            return Ok(());
        }
        if !link.channel.is_open() {
            // the remote shell has removed it when its input closed
            return Ok(());
        }
        let (status, answer) = self.ask(&[], "unlock", b"", OnStop::Finish)?;
        if status == 0 {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&answer);
        Err(self.error(format!("cannot remove its lock {}: {}", self.lock_path(), said.trim())))
    }

    pub(super) fn append_to_trigger(&mut self, line: &str) -> Result<(), ReplicaError> {
        let mut data = Vec::new();
        datum(&mut data, line.as_bytes());
        data.extend_from_slice(b".\n");
        let (status, answer) = self.ask(&[Piece::Wake], "wake", &data, OnStop::Finish)?;
        if status != 0 {
            let said = String::from_utf8_lossy(&answer);
            return Err(self.error(format!("cannot write its trigger file: {}", said.trim())));
        }
        Ok(())
    }

    pub(super) fn write_identity(&mut self, identity: &Identity) -> Result<(), ReplicaError> {
        let mut data = Vec::new();
        datum(&mut data, identity.0.as_bytes());
        data.extend_from_slice(b".\n");
        let (status, answer) = self.ask(&[Piece::Lock], "set_identity", &data, OnStop::Finish)?;
        if status != 0 {
            let said = String::from_utf8_lossy(&answer);
            return Err(self.error(format!("cannot write its identity: {}", said.trim())));
        }
        let link = self.link()?;
        (link.identity, link.runs) = (IdentityFound::Known(identity.clone()), Vec::new());
        Ok(())
    }

    pub(super) fn write_run(&mut self, mark: &RunMark) -> Result<(), ReplicaError> {
        let mut data = Vec::new();
        datum(&mut data, mark.key().as_bytes());
        datum(&mut data, mark.to_line().as_bytes());
        data.extend_from_slice(b".\n");
        let (status, answer) =
            self.ask(&[Piece::Lock, Piece::Flush], "set_run", &data, OnStop::Finish)?;
        if status != 0 {
            let said = String::from_utf8_lossy(&answer);
            let said = said.trim();
            return Err(self.error(format!("cannot note this run beside its identity: {said}")));
        }
        let runs = &mut self.link()?.runs;
        runs.retain(|known| known.key() != mark.key());
        runs.push(mark.clone());
        Ok(())
    }
}

/// `taken`, the lock's ctime in seconds if that can be told there, and the identity.
fn parse_taken(answer: &[u8]) -> Option<(Stamp, &[u8])> {
    let rest = answer.strip_prefix(b"taken")?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let seconds = std::str::from_utf8(&rest[..end]).ok().map(str::trim);
    let seconds = seconds.and_then(|text| text.split('.').next()?.parse().ok());
    Some((seconds.map_or(Stamp::UNKNOWN, |at| Stamp::new(at, 0)), &rest[end + 1..]))
}

pub(super) fn parse(answer: &[u8]) -> Option<(Shown, Shown)> {
    let mut parts = answer.strip_prefix(b"found\n")?.split(|b| *b == 0);
    let mut shown = || {
        let part = parts.next()?;
        Some(match part.strip_prefix(b"file") {
            Some(content) => Shown::File(content.to_vec()),
            None if part.is_empty() => Shown::Absent,
            None => Shown::NoFile,
        })
    };
    Some((shown()?, shown()?))
}

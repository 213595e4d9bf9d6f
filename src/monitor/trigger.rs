//! The trigger file at the root of the initiator: who writes into it wakes the monitor.

use crate::tree::work_dir::TRIGGER_NAME;
use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file that has grown beyond this is removed: its lines have been read.
const MAX_BYTES: u64 = 64 * 1024;

/// Watches the content of a trigger file. Several tasks may share an initiator, so the
/// file is read, not taken.
#[derive(Debug)]
pub struct Trigger {
    file: PathBuf,
    instance_id: Vec<u8>,
    read: Option<TriggerStamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TriggerStamp {
    ino: u64,
    len: u64,
    mtime: (i64, i64),
}

impl Trigger {
    /// The trigger file of a replica; what is in it now counts as read.
    #[must_use]
    pub fn new(root: &Path, instance_id: &str) -> Self {
        let file = root.join(TRIGGER_NAME);
        let read = std::fs::symlink_metadata(&file).ok().map(|now| stamp(&now));
        Trigger { file, instance_id: instance_id.as_bytes().to_vec(), read }
    }

    /// Whether the file asks for a run of this task since it was last asked: a new line
    /// `INSTANCE_ID#…`, any line without a `#`, or a mere touch.
    #[must_use]
    pub fn asks(&mut self) -> bool {
        let Ok(now) = std::fs::symlink_metadata(&self.file) else {
            self.read = None;
            return false;
        };
        let (now, before) = (stamp(&now), self.read);
        if before == Some(now) {
            return false;
        }
        self.read = Some(now);
        let from = before.filter(|was| was.ino == now.ino && was.len <= now.len);
        let new = self.lines_from(from.map_or(0, |was| was.len)).unwrap_or_default();
        if now.len > MAX_BYTES && std::fs::remove_file(&self.file).is_ok() {
            self.read = None;
        }
        asks_for(&new, &self.instance_id)
    }

    fn lines_from(&self, position: u64) -> std::io::Result<Vec<u8>> {
        use std::io::{Seek, SeekFrom};
        use std::os::unix::fs::OpenOptionsExt;
        // A link or a fifo that somebody put there must neither be followed nor waited for.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        let mut file = std::fs::File::options().read(true).custom_flags(flags).open(&self.file)?;
        file.seek(SeekFrom::Start(position))?;
        let mut lines = Vec::new();
        file.take(MAX_BYTES * 16).read_to_end(&mut lines)?;
        Ok(lines)
    }
}

pub(super) fn asks_for(lines: &[u8], instance_id: &[u8]) -> bool {
    let mut lines = lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).peekable();
    lines.peek().is_none()
        || lines.any(|line| match line.iter().rposition(|&byte| byte == b'#') {
            Some(at) => &line[..at] == instance_id,
            None => true,
        })
}

fn stamp(now: &Metadata) -> TriggerStamp {
    TriggerStamp { ino: now.ino(), len: now.len(), mtime: (now.mtime(), now.mtime_nsec()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    #[test]
    fn lines_ask_for_their_task() {
        let cases: &[(&str, bool)] = &[
            ("task#1700000000\n", true),
            ("other#1700000000\n", false),
            ("other#1\ntask#2\n", true),
            ("task", true),
            ("\n", true),
            ("", true),
            ("task2#1\n", false),
            ("a#b#1\n", false),
        ];
        for (lines, expected) in cases {
            assert_eq!(asks_for(lines.as_bytes(), b"task"), *expected, "{lines:?}");
        }
        assert!(asks_for(b"a#b#1\n", b"a#b"));
    }

    #[test]
    fn only_what_is_new_counts() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join(TRIGGER_NAME);
        let append = |line: &str| {
            let mut file = fs::File::options().append(true).create(true).open(&file).unwrap();
            writeln!(file, "{line}").unwrap();
        };
        append("task#1");
        let mut trigger = Trigger::new(temp.path(), "task");
        assert!(!trigger.asks(), "what was there when the monitor began");
        append("task#2");
        assert!(trigger.asks());
        assert!(!trigger.asks());
        append("other#3");
        assert!(!trigger.asks());
        let touched = fs::File::options().write(true).open(&file).unwrap();
        touched.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert!(trigger.asks(), "a touch");
        fs::write(&file, "").unwrap();
        assert!(trigger.asks(), "emptied");
        fs::remove_file(&file).unwrap();
        assert!(!trigger.asks());
        append("task#4");
        assert!(trigger.asks());
        fs::write(&file, "other#5\n".repeat(20_000)).unwrap();
        assert!(!trigger.asks());
        assert!(!file.exists(), "a file that has grown too big is removed");
    }

    #[test]
    fn a_fifo_or_a_link_does_no_harm() {
        let temp = tempfile::tempdir().unwrap();
        let mut trigger = Trigger::new(temp.path(), "task");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            temp.path().join(TRIGGER_NAME),
            rustix::fs::FileType::Fifo,
            mode,
            0,
        )
        .unwrap();
        let _ = trigger.asks();
        fs::remove_file(temp.path().join(TRIGGER_NAME)).unwrap();
        std::os::unix::fs::symlink("/dev/zero", temp.path().join(TRIGGER_NAME)).unwrap();
        let _ = trigger.asks();
    }
}

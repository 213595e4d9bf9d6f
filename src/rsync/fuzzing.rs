//! What must hold whatever an rsync prints (docs/testing.md).

use super::Finished;
use super::output::{Heard, Listener};
use crate::process::Exit;
use std::path::Path;

/// Lines of standard output, those of standard error behind a `!`: every path that is named
/// lies in a replica, people get printable lines, and what is kept is bounded.
pub(crate) fn output(bytes: &[u8]) {
    let mut listener = Listener::new([Path::new("/s"), Path::new("/d/")]);
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Some(error) = line.strip_prefix(b"!") {
            listener.hear_error(error);
            continue;
        }
        let text = match listener.hear(line) {
            Heard::Item(item) => item.to_string(),
            Heard::Statistic(text) | Heard::Other(text) => text,
            Heard::Progress | Heard::Nothing => continue,
        };
        assert!(!text.contains(char::is_control), "{text:?}");
    }
    let code = i32::from(bytes.first().copied().unwrap_or_default());
    let finished = listener.finish(Exit::Code(code)).alone();
    assert!(finished.messages.len() <= Finished::MOST_MESSAGES + 20);
    assert!(finished.outcome.is_complete() || finished.remarks.is_empty());
}

//! What must hold of any output of a child, and of what Linux says of processes
//! (docs/testing.md).

use super::child::state_and_group;
use super::child::{Excerpt, Lines};
use super::stop::parse_ignored;

/// A stream, cut into pieces of a length that its first byte gives: its lines are the same
/// however it was cut, and nothing of it is lost but line ends.
pub(crate) fn lines(bytes: &[u8]) {
    let Some((length, stream)) = bytes.split_first() else { return };
    let cut = |length: usize| {
        let mut found: Vec<Vec<u8>> = Vec::new();
        let mut lines = Lines::default();
        for piece in stream.chunks(length.max(1)) {
            lines.push(piece, &mut |line| found.push(line.to_vec()));
        }
        lines.finish(&mut |line| found.push(line.to_vec()));
        found
    };
    let found = cut(stream.len());
    assert_eq!(cut(usize::from(*length)), found);
    let is_end = |byte: &&u8| matches!(byte, b'\n' | b'\r');
    assert!(!found.iter().any(|line| line.iter().any(|byte| is_end(&byte))));
    let content: Vec<u8> = stream.iter().filter(|byte| !is_end(byte)).copied().collect();
    assert_eq!(found.concat(), content);
    let mut excerpt = Excerpt::default();
    stream.chunks(usize::from(*length).max(1)).for_each(|piece| excerpt.push(piece));
    let kept = excerpt.bytes();
    assert!(kept == stream || kept.len() < stream.len() + 100);
}

/// What Linux says of a process: a part of [`crate::fuzzing::proc_stat`].
pub(crate) fn stat(bytes: &[u8]) {
    if let Some((state, _)) = state_and_group(bytes) {
        assert!(bytes.contains(&b')') && !state.is_ascii_whitespace());
    }
    let text = String::from_utf8_lossy(bytes);
    let says = text.lines().any(|line| line.starts_with("SigIgn:"));
    assert!(says || parse_ignored(&text) == 0);
}

/// A line whose state and process group are known.
pub(crate) fn stat_of(line: &[u8], state: u8, group: i32) {
    assert_eq!(state_and_group(line), Some((state, group)));
}

//! What must hold of any output of a child (docs/testing.md).

use super::child::{Excerpt, Lines};

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

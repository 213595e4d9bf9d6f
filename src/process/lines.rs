//! Bytes from a child, cut into lines; and a bounded memory of what it said.

use std::collections::VecDeque;

/// A longer line comes in pieces of this size.
const LONGEST: usize = 64 * 1024;

/// Cuts a stream at `\n`, `\r\n` and `\r` (progress displays overwrite their line).
#[derive(Debug, Default)]
pub(super) struct Lines {
    rest: Vec<u8>,
    after_return: bool,
}

impl Lines {
    /// Takes more of the stream and hands on each line that is complete.
    pub(super) fn push(&mut self, mut bytes: &[u8], line: &mut dyn FnMut(&[u8])) {
        while let Some(first) = bytes.first() {
            if std::mem::take(&mut self.after_return) && *first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|b| matches!(b, b'\n' | b'\r'));
            let (text, next) = match end {
                Some(end) => {
                    self.after_return = bytes[end] == b'\r';
                    (&bytes[..end], &bytes[end + 1..])
                }
                None => (bytes, &bytes[bytes.len()..]),
            };
            self.add(text, line);
            // an empty line before '\r' is only a cursor going home
            if end.is_some() && !(self.after_return && self.rest.is_empty()) {
                line(&self.rest);
                self.rest.clear();
            }
            bytes = next;
        }
    }

    /// LocalExecutor on what is left without an end of line.
    pub(super) fn finish(&mut self, line: &mut dyn FnMut(&[u8])) {
        if !self.rest.is_empty() {
            line(&self.rest);
            self.rest.clear();
        }
    }

    fn add(&mut self, mut text: &[u8], line: &mut dyn FnMut(&[u8])) {
        while self.rest.len() + text.len() > LONGEST {
            let (now, later) = text.split_at(LONGEST - self.rest.len());
            self.rest.extend_from_slice(now);
            line(&self.rest);
            self.rest.clear();
            text = later;
        }
        self.rest.extend_from_slice(text);
    }
}

/// The beginning and the end of what somebody said, with a note of what was left out
/// between: causes stand at the beginning, verdicts at the end.
#[derive(Debug, Clone, Default)]
pub struct Excerpt {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    left_out: u64,
}

impl Excerpt {
    const HEAD: usize = 16 * 1024;
    const TAIL: usize = 48 * 1024;

    /// Adds to the end.
    pub fn push(&mut self, bytes: &[u8]) {
        let (head, tail) = bytes.split_at(bytes.len().min(Self::HEAD - self.head.len()));
        self.head.extend_from_slice(head);
        self.tail.extend(tail);
        let excess = self.tail.len().saturating_sub(Self::TAIL);
        self.tail.drain(..excess);
        self.left_out += excess as u64;
    }

    /// What was kept.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut all = self.head.clone();
        if self.left_out > 0 {
            all.extend_from_slice(format!("\n[{} bytes left out]\n", self.left_out).as_bytes());
        }
        all.extend(&self.tail);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let mut lines = Lines::default();
        for piece in pieces {
            lines.push(piece, &mut |line| found.push(line.to_vec()));
        }
        lines.finish(&mut |line| found.push(line.to_vec()));
        found
    }

    #[test]
    fn lines_are_the_same_however_the_stream_is_cut() {
        for (text, expected) in [
            (&b"a\nb\n"[..], &[&b"a"[..], b"b"][..]),
            (b"a\nb", &[b"a", b"b"]),
            (b"a\r\nb\r\n", &[b"a", b"b"]),
            (b"\r 1%\r 2%\n\nend\n", &[b" 1%", b" 2%", b"", b"end"]),
            (b"", &[]),
        ] {
            assert_eq!(cut(&[text]), expected);
            let single: Vec<&[u8]> = text.chunks(1).collect();
            assert_eq!(cut(&single), expected);
        }
    }

    #[test]
    fn a_line_without_end_comes_in_bounded_pieces_and_nothing_is_lost() {
        let long = vec![b'x'; 3 * LONGEST + 5];
        let pieces = cut(&[&long[..100], &long[100..], b"\n"]);
        assert!(pieces.iter().all(|piece| piece.len() <= LONGEST));
        assert_eq!(pieces.concat(), long);
    }

    #[test]
    fn an_excerpt_keeps_both_ends_and_counts_what_it_left_out() {
        let mut excerpt = Excerpt::default();
        excerpt.push(b"short");
        assert_eq!(excerpt.bytes(), b"short");
        excerpt.push(&vec![b'.'; 100_000]);
        excerpt.push(b"the end");
        let kept = excerpt.bytes();
        assert!(kept.starts_with(b"short.") && kept.ends_with(b".the end"));
        let note = format!("[{} bytes left out]", 100_012 - Excerpt::HEAD - Excerpt::TAIL);
        assert!(String::from_utf8_lossy(&kept).contains(&note));
        assert!(kept.len() < 66_000);
    }
}

//! The terminal that progress is drawn on.

use indicatif::TermLike;
use rustix::termios::tcgetwinsize;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Columns left free at the right: the terminal writes `^C` there when it is typed. In a
/// full line that would wrap, and the next drawing would miss a line.
const MARGIN: u16 = 4;

/// Standard output as a terminal. What is drawn goes out in one piece.
#[derive(Debug, Default)]
pub(super) struct Tty {
    drawing: Mutex<Drawing>,
}

/// What has been drawn and not yet sent.
#[derive(Debug, Default)]
struct Drawing {
    text: String,
    /// Where the cursor stands in its line.
    column: usize,
}

impl Drawing {
    /// Text of one column a character. It goes on in the next line at the width given: the
    /// drawing counts on a terminal that does so at its edge, which is further right.
    fn write(&mut self, text: &str, width: usize) {
        for c in text.chars() {
            match c {
                '\r' | '\n' => self.column = 0,
                _ if self.column == width => {
                    self.text.push_str("\r\n");
                    self.column = 1;
                }
                _ => self.column += 1,
            }
            self.text.push(c);
        }
    }
}

impl Tty {
    fn drawing(&self) -> MutexGuard<'_, Drawing> {
        self.drawing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn jump(&self, steps: usize, direction: char) -> io::Result<()> {
        if steps > 0 {
            self.drawing().text.push_str(&format!("\x1b[{steps}{direction}"));
        }
        Ok(())
    }
}

/// Rows and columns; a usual size where the terminal does not know its own.
fn size() -> (u16, u16) {
    match tcgetwinsize(rustix::stdio::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_row, size.ws_col),
        _ => (24, 80),
    }
}

impl TermLike for Tty {
    fn width(&self) -> u16 {
        size().1.saturating_sub(MARGIN).max(1)
    }

    fn height(&self) -> u16 {
        size().0
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.jump(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.jump(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.jump(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.jump(n, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(text)?;
        self.write_str("\n")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        let width = usize::from(self.width());
        self.drawing().write(text, width);
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        let mut drawing = self.drawing();
        drawing.text.push_str("\r\x1b[2K");
        drawing.column = 0;
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let text = std::mem::take(&mut self.drawing().text);
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_wrap_before_the_edge_and_only_when_they_go_on() {
        let mut drawing = Drawing::default();
        drawing.write("abc", 4);
        drawing.write(" ", 4);
        assert_eq!(drawing.text, "abc ", "a full line does not wrap by itself");
        drawing.write("defgh", 4);
        assert_eq!(drawing.text, "abc \r\ndefg\r\nh");
    }
}

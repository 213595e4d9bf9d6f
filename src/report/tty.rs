//! The terminal that progress is drawn on.

use indicatif::TermLike;
use rustix::termios::tcgetwinsize;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns left free at the right: the terminal writes `^C` there when it is typed. In a
/// full line that would wrap, and the next drawing would miss a line.
const MARGIN: u16 = 4;

/// Standard output as a terminal. What is drawn goes out in one piece.
///
/// Where the cursor goes is decided here, not by who draws: a terminal that has become narrower
/// meanwhile has wrapped the lines that stand on it, and only the rows they take now tell how
/// far up the last drawing begins.
#[derive(Debug, Default)]
pub(super) struct Tty {
    drawing: Mutex<Drawing>,
}

#[derive(Debug, Default)]
struct Drawing {
    /// What is to be shown from the next flush on.
    text: String,
    /// Where the cursor stands in its line.
    column: usize,
    /// The widths of the lines that stand on the terminal.
    lines: Vec<usize>,
}

impl Drawing {
    /// Text that goes on in the next line at the width given: who draws fills the last line up
    /// and counts on a terminal that wraps there.
    fn write(&mut self, text: &str, width: usize) {
        for c in text.chars() {
            let wide = c.width().unwrap_or(0);
            if c == '\r' {
                continue;
            }
            if c == '\n' {
                self.column = 0;
            } else if self.column + wide > width {
                self.text.push('\n');
                self.column = wide;
            } else {
                self.column += wide;
            }
            self.text.push(c);
        }
    }

    /// What puts the new text in the place of the old one, on a terminal of so many columns.
    fn replace(&mut self, columns: usize) -> String {
        let rows: usize =
            self.lines.iter().map(|width| width.div_ceil(columns.max(1)).max(1)).sum();
        let mut out = "\r".to_owned();
        if rows > 1 {
            out.push_str(&format!("\x1b[{}A", rows - 1));
        }
        out.push_str("\x1b[J");
        let text = std::mem::take(&mut self.text);
        self.column = 0;
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        self.lines = match text.trim().is_empty() {
            true => Vec::new(),
            false => lines.iter().map(|line| line.width()).collect(),
        };
        if !self.lines.is_empty() {
            out.push_str(&lines.join("\r\n"));
        }
        out
    }
}

impl Tty {
    fn drawing(&self) -> MutexGuard<'_, Drawing> {
        self.drawing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rows and columns; a usual size where the terminal does not know its own.
fn size() -> (u16, u16) {
    match tcgetwinsize(rustix::stdio::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_row, size.ws_col),
        _ => (24, 80),
    }
}

/// How many columns a line may have.
pub(super) fn columns() -> usize {
    usize::from(size().1.saturating_sub(MARGIN).max(8))
}

impl TermLike for Tty {
    fn width(&self) -> u16 {
        u16::try_from(columns()).unwrap_or(u16::MAX)
    }

    fn height(&self) -> u16 {
        size().0
    }

    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(text)?;
        self.write_str("\n")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.drawing().write(text, columns());
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let text = self.drawing().replace(usize::from(size().1));
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
        assert_eq!(drawing.text, "abc \ndefg\nh");
        let mut wide = Drawing::default();
        wide.write("a漢字b", 4);
        assert_eq!(wide.text, "a漢\n字b");
    }

    #[test]
    fn a_drawing_goes_where_the_last_one_stands_by_now() {
        let mut drawing = Drawing::default();
        let mut draw = |text: &str, columns| {
            drawing.write(text, 40);
            drawing.replace(columns)
        };
        assert_eq!(draw("one line        \ntwo", 80), "\r\x1b[Jone line\r\ntwo");
        assert_eq!(draw("x", 80), "\r\x1b[1A\x1b[Jx");
        assert_eq!(draw("12345678 12345678", 80), "\r\x1b[Jx".replace('x', "12345678 12345678"));
        // the terminal has wrapped it into three rows
        assert_eq!(draw("ab", 8), "\r\x1b[2A\x1b[Jab");
        assert_eq!(draw("", 8), "\r\x1b[J");
        assert_eq!(draw("", 8), "\r\x1b[J", "nothing stands there any more");
    }
}

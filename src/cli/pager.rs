//! Lines for people: straight to standard output, or through a pager where they would run off
//! the screen, as git does it. On a terminal, long lines are broken between words, under the
//! column that they stand in, and some stand out.

use rustix::termios::tcgetwinsize;
use std::io::{IsTerminal, Write};
use std::process::{Child, Command, Stdio};

/// The last column has at least so much room, or begins further left.
const LEAST: usize = 20;

/// Where lines go.
pub struct Page {
    pager: Option<Child>,
    /// How they look; `None`: as they are.
    look: Option<Look>,
}

/// Who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    Person,
    Program,
}

impl Audience {
    /// The reader of `--json`, or of what is printed without it.
    #[must_use]
    pub fn of_json(is_json: bool) -> Self {
        if is_json { Audience::Program } else { Audience::Person }
    }
}

/// How much a line stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    #[default]
    Plain,
    Head,
    Warns,
    Fails,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Tone::Plain => "",
            Tone::Head => "\x1b[1m",
            Tone::Warns => "\x1b[33m",
            Tone::Fails => "\x1b[31m",
        }
    }
}

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What it says.
    pub text: String,
    /// How much it stands out.
    pub tone: Tone,
}

impl Line {
    /// A heading.
    #[must_use]
    pub fn head(text: impl Into<String>) -> Self {
        Line { text: text.into(), tone: Tone::Head }
    }
}

impl From<String> for Line {
    fn from(text: String) -> Self {
        Line { text, tone: Tone::Plain }
    }
}

/// How lines look on a terminal.
#[derive(Debug, Clone, Copy)]
struct Look {
    width: usize,
    colours: Colours,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colours {
    On,
    Off,
}

impl Look {
    fn of_terminal() -> Self {
        let size = tcgetwinsize(rustix::stdio::stdout());
        let width = size.ok().map(|size| usize::from(size.ws_col)).filter(|width| *width > 0);
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colours = if is_dumb || is_set("NO_COLOR") { Colours::Off } else { Colours::On };
        Look { width: width.unwrap_or(80), colours }
    }

    fn dressed(self, line: &Line) -> String {
        let text = broken(&line.text, self.width);
        match (self.colours, line.tone) {
            (Colours::Off, _) | (_, Tone::Plain) => text,
            (Colours::On, tone) => {
                let paint = |part: &str| format!("{}{part}\x1b[0m", tone.code());
                text.split('\n').map(paint).collect::<Vec<_>>().join("\n")
            }
        }
    }
}

/// A line in several, none wider than that, unless a word is. Those behind the first begin under
/// the last column: what stands behind two blanks.
fn broken(text: &str, width: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= width {
        return text.to_owned();
    }
    let furthest = width.saturating_sub(LEAST);
    let is_column = |at: &usize| chars[at - 2..*at] == [' ', ' '] && chars[*at] != ' ';
    let indent = (2..=furthest.min(chars.len() - 1)).rev().find(is_column).unwrap_or(2);
    let (first, rest) = chars.split_at(indent.min(chars.len()));
    let mut out: String = first.iter().collect();
    let mut column = indent;
    let rest: String = rest.iter().collect();
    for (turn, word) in rest.split(' ').enumerate() {
        let length = word.chars().count();
        if turn > 0 && column + 1 + length > width {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else if turn > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out
}

impl Page {
    /// Opens the pager that PAGER names, or `less`, if a person looks at a terminal. `less`
    /// ends by itself where everything fits on the screen.
    #[must_use]
    pub fn open(reader: Audience) -> Self {
        if !std::io::stdout().is_terminal() {
            return Page { pager: None, look: None };
        }
        let look = (reader == Audience::Person).then(Look::of_terminal);
        let program = std::env::var("PAGER").ok().filter(|name| !name.is_empty());
        let program = program.unwrap_or_else(|| "less".to_owned());
        if program == "cat" {
            return Page { pager: None, look };
        }
        let mut command = Command::new("sh");
        command.arg("-c").arg(program).stdin(Stdio::piped());
        if std::env::var_os("LESS").is_none() {
            command.env("LESS", "FRX");
        }
        Page { pager: command.spawn().ok(), look }
    }

    /// Shows a line. A reader that goes away is no failure.
    pub fn line(&mut self, line: impl Into<Line>) {
        let line = line.into();
        let text = self.look.map_or_else(|| line.text.clone(), |look| look.dressed(&line));
        let written = match self.pager.as_mut().and_then(|pager| pager.stdin.as_mut()) {
            Some(input) => writeln!(input, "{text}"),
            None => writeln!(std::io::stdout().lock(), "{text}"),
        };
        drop(written);
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if let Some(pager) = &mut self.pager {
            drop(pager.stdin.take());
            let _ = pager.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_goes_on_under_its_last_column() {
        for (text, expected) in [
            ("  2  ok  one two", "  2  ok  one two"),
            (
                "  2  ok  one two three four five six",
                "  2  ok  one two three four\n         five six",
            ),
            ("a: one two three four five six seven", "a: one two three four five six\n  seven"),
            (
                "  a  b  a-word-that-is-longer-than-the-line x",
                "  a  b  a-word-that-is-longer-than-the-line\n        x",
            ),
            ("äääääääääääääääää  ö  ü", "äääääääääääääääää  ö  ü"),
        ] {
            assert_eq!(broken(text, 30), expected);
        }
        assert_eq!(broken("", 0), "");
        assert_eq!(broken("a b c", 1), "a b\n  c");
    }

    #[test]
    fn what_stands_out_does_so_in_each_of_its_lines() {
        let line = Line { text: "a one two three".into(), tone: Tone::Fails };
        let look = Look { width: 10, colours: Colours::On };
        assert_eq!(look.dressed(&line), "\x1b[31ma one two\x1b[0m\n\x1b[31m  three\x1b[0m");
        let plain = Look { colours: Colours::Off, ..look };
        assert_eq!(plain.dressed(&line), "a one two\n  three");
    }
}

//! What a log line looks like: pure text in, text out (spec 6, "Log lines").

use super::Level;
use crate::tree::path::escape;
use chrono::{DateTime, Local};
use std::time::Duration;

/// A message may have this many lines; of a longer one the middle is left out.
const MAX_LINES: usize = 100;
/// A line may have this many bytes; a path at its longest, escaped, fits.
const MAX_LINE: usize = 32 * 1024;

/// What stands before every line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prefix {
    /// Nothing (`--no-prefix`).
    None,
    /// Seconds since the start.
    Elapsed,
    /// Date and time: monitor mode and batch.
    Dated,
}

impl Prefix {
    /// The prefix of a line that is written now.
    pub(super) fn show(self, elapsed: Duration, now: DateTime<Local>) -> String {
        match self {
            Prefix::None => String::new(),
            Prefix::Elapsed => format!("TIME: {} - ", elapsed.as_secs()),
            Prefix::Dated => format!("{} - ", now.format("%Y-%m-%d %H:%M:%S")),
        }
    }
}

impl Level {
    /// The mark of a line in the log file; ordinary lines have none.
    #[must_use]
    pub fn tag(self) -> &'static str {
        match self {
            Level::Critical => "(CRITICAL):",
            Level::Error => "(ERROR):",
            Level::Warn => "(WARN):",
            Level::Verbose => "(VERBOSE):",
            Level::Debug => "(DEBUG):",
            Level::Notice | Level::Always => "",
        }
    }

    /// Whether it counts against the exit status.
    #[must_use]
    pub fn is_problem(self) -> bool {
        matches!(self, Level::Critical | Level::Error | Level::Warn)
    }

    /// The word in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Level::Critical => "critical",
            Level::Error => "error",
            Level::Warn => "warning",
            Level::Notice => "notice",
            Level::Verbose => "verbose",
            Level::Always => "always",
            Level::Debug => "debug",
        }
    }

    /// What switches a terminal to the colour of the level.
    fn color(self) -> &'static str {
        match self {
            Level::Critical => "\x1b[1;31m",
            Level::Error => "\x1b[31m",
            Level::Warn => "\x1b[33m",
            Level::Debug => "\x1b[36m",
            Level::Verbose => "\x1b[2m",
            Level::Notice | Level::Always => "",
        }
    }
}

/// The line for a file or a pipe.
pub(super) fn plain(prefix: &str, level: Level, line: &str) -> String {
    format!("{prefix}{}{line}", level.tag())
}

/// The line for a terminal: colour instead of a tag.
pub(super) fn colored(prefix: &str, level: Level, line: &str) -> String {
    match level.color() {
        "" => format!("{prefix}{line}"),
        color => format!("{prefix}{color}{line}\x1b[0m"),
    }
}

/// A message as the lines that may be shown: without control characters, and cut with a
/// note of how much where it is longer than anybody reads.
pub(super) fn tidy(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.trim_end_matches(['\n', '\r']).split('\n').collect();
    if lines.len() <= MAX_LINES {
        return lines.into_iter().map(tidy_line).collect();
    }
    let half = MAX_LINES / 2;
    let (head, rest) = lines.split_at(half);
    let (middle, tail) = rest.split_at(rest.len() - half);
    let bytes: usize = middle.iter().map(|line| line.len() + 1).sum();
    let note = format!("[... {} lines, {bytes} bytes left out ...]", middle.len());
    let shown = |part: &[&str]| part.iter().map(|line| tidy_line(line)).collect::<Vec<_>>();
    [shown(head), vec![note], shown(tail)].concat()
}

/// One line without control characters. Backslashes stay: names come escaped already.
fn tidy_line(line: &str) -> String {
    let line = line.strip_suffix('\r').unwrap_or(line);
    let end =
        (0..=line.len().min(MAX_LINE)).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
    let (kept, rest) = line.split_at(end);
    let mut out: String = kept
        .split_inclusive(['\\', '\t'])
        .map(|piece| match piece.strip_suffix(['\\', '\t']) {
            Some(text) => escape(text.as_bytes()) + &piece[text.len()..],
            None => escape(piece.as_bytes()),
        })
        .collect();
    if !rest.is_empty() {
        out.push_str(&format!(" [... {} bytes left out ...]", rest.len()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_seconds_dates_or_nothing() {
        use chrono::TimeZone;
        let now = Local.with_ymd_and_hms(2026, 2, 3, 4, 5, 6).unwrap();
        let elapsed = Duration::from_millis(65_999);
        for (prefix, shown) in [
            (Prefix::None, ""),
            (Prefix::Elapsed, "TIME: 65 - "),
            (Prefix::Dated, "2026-02-03 04:05:06 - "),
        ] {
            assert_eq!(prefix.show(elapsed, now), shown);
        }
    }

    #[test]
    fn levels_are_tagged_in_files_and_coloured_on_terminals() {
        assert_eq!(plain("TIME: 1 - ", Level::Warn, "low"), "TIME: 1 - (WARN):low");
        assert_eq!(plain("", Level::Verbose, "more"), "(VERBOSE):more");
        assert_eq!(plain("", Level::Notice, "so"), "so");
        assert_eq!(colored("P", Level::Error, "bad"), "P\x1b[31mbad\x1b[0m");
        assert_eq!(colored("P", Level::Always, "so"), "Pso");
    }

    #[test]
    fn messages_are_split_into_lines_without_control_characters() {
        for (text, lines) in [
            ("one", vec!["one"]),
            ("one\r\ntwo\n", vec!["one", "two"]),
            ("a\x1b[31mred\x07", vec!["a\\x1B[31mred\\x07"]),
            ("10%\r20%", vec!["10%\\r20%"]),
            ("name\\n stays \\ so\tdo tabs", vec!["name\\n stays \\ so\tdo tabs"]),
            ("", vec![""]),
        ] {
            assert_eq!(tidy(text), lines, "{text:?}");
        }
    }

    #[test]
    fn long_messages_lose_their_middle_and_say_how_much() {
        let text = (0..1000).map(|n| format!("line {n}\n")).collect::<String>();
        let lines = tidy(&text);
        assert_eq!(lines.len(), MAX_LINES + 1);
        assert_eq!((lines[0].as_str(), lines[MAX_LINES].as_str()), ("line 0", "line 999"));
        assert_eq!(lines[50], "[... 900 lines, 8050 bytes left out ...]");
        let wide = tidy(&"ä".repeat(MAX_LINE));
        assert!(wide[0].ends_with(&format!(" [... {MAX_LINE} bytes left out ...]")), "cut");
    }
}

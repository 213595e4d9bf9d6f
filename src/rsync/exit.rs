//! What rsync's end means (spec 5, "rsync calls").

use crate::process::{Exit, StopReason};

/// What the end of a call means for its list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All of the list was worked through.
    Done,
    /// All of it, except what vanished on the source in between. No error.
    Vanished,
    /// Some entries failed; the rest of the list was worked through.
    Partial,
    /// The call broke off (disk full, say): what came later in the list is undone and stays
    /// planned. The words say why.
    EndedEarly(String),
    /// The run was stopped, and the call with it.
    Stopped(StopReason),
    /// The call failed: the words say why and what to do about it.
    Failed(String),
}

impl Outcome {
    /// Whether the whole list was worked through.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        matches!(self, Outcome::Done | Outcome::Vanished | Outcome::Partial)
    }
}

/// Reads an exit. `words` is what rsync and the remote shell said about the call as a whole.
pub(super) fn outcome(exit: Exit, words: &[String]) -> Outcome {
    let code = match exit {
        Exit::Stopped(reason) => return Outcome::Stopped(reason),
        Exit::Code(code) => code,
        Exit::Signal(signal) => {
            return Outcome::Failed(format!("rsync was ended by signal {signal}"));
        }
        Exit::TimedOut => return Outcome::Failed("rsync took too long and was ended".into()),
    };
    match code {
        0 => Outcome::Done,
        24 => Outcome::Vanished,
        23 => Outcome::Partial,
        11 => Outcome::EndedEarly(described(code, "it could not write or read a file", words)),
        _ => Outcome::Failed(described(code, meaning(code, words), words)),
    }
}

const UNKNOWN: &str = "an error that rsync does not explain further";

fn described(code: i32, meaning: &str, words: &[String]) -> String {
    // its last line only repeats the status, which matters where we cannot say more
    let repeats = |line: &str| meaning != UNKNOWN && line.starts_with("rsync error: ");
    let words: Vec<&str> = words.iter().map(String::as_str).filter(|line| !repeats(line)).collect();
    match words[..] {
        [] => format!("rsync ended with status {code}: {meaning}"),
        _ => format!("rsync ended with status {code}: {meaning} ({})", words.join("; ")),
    }
}

fn meaning(code: i32, words: &[String]) -> &'static str {
    let said = |text: &str| words.iter().any(|line| line.contains(text));
    if said("is your shell clean") || said("protocol version mismatch") {
        return "something on the way prints text of its own (a login banner, a start-up file \
                of the shell over there); make it silent for non-interactive sessions";
    }
    if code == 127 || said("command not found") || said(": not found") {
        return "there is no rsync on the other side; install it there, or set \
                RSYNC_REMOTE_PATH";
    }
    match code {
        1 => {
            "it does not know one of its options; look at RSYNC_OPTIONAL_ARGS, and whether \
             both sides have rsync 3.1.3 or later"
        }
        2 | 4 => "the two rsyncs do not fit together; update the older one",
        3 => "a replica directory could not be entered",
        5 | 12 | 14 => "the connection between the two rsyncs broke",
        10 | 30 | 35 => "the connection to the other side was lost",
        20 => "somebody ended it",
        22 => "it ran out of memory",
        25 => "a --max-delete limit stopped it",
        126 => "the rsync on the other side cannot be run",
        255 => "the remote shell failed",
        _ => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_a_meaning() {
        for (exit, expected) in [
            (Exit::Code(0), Outcome::Done),
            (Exit::Code(23), Outcome::Partial),
            (Exit::Code(24), Outcome::Vanished),
            (Exit::Stopped(StopReason::HardLimit), Outcome::Stopped(StopReason::HardLimit)),
        ] {
            assert_eq!(outcome(exit, &[]), expected);
        }
        for (code, words, expected) in [
            (11, "No space left on device", "could not write or read a file (No space"),
            (12, "sh: rsync: not found", "no rsync on the other side"),
            (12, "connection unexpectedly closed", "broke (connection unexpectedly closed)"),
            (2, "protocol version mismatch -- is your shell clean?", "banner"),
            (255, "Permission denied (publickey).", "remote shell failed (Permission denied"),
            (12, "rsync error: error in data (code 12)", "two rsyncs broke"),
            (99, "rsync error: odd (code 99)", "further (rsync error: odd (code 99))"),
            (1, "unknown option", "RSYNC_OPTIONAL_ARGS"),
            (99, "?", "does not explain"),
        ] {
            let result = outcome(Exit::Code(code), &[words.to_owned()]);
            assert!(!result.is_complete());
            let (Outcome::Failed(text) | Outcome::EndedEarly(text)) = &result else {
                panic!("{result:?}")
            };
            assert!(text.contains(expected) && text.contains(&code.to_string()), "{text}");
            assert_eq!(code == 11, matches!(result, Outcome::EndedEarly(_)));
        }
    }
}

//! What a replica itself records of the runs that synchronised it, by which a replica that was
//! restored from a backup is noticed (spec 8, "A replica that went back in time").
//!
//! The file `identity` in the work directory:
//!
//! ```text
//! IDENTITY
//! run PEER INSTANCE PLACE NUMBER
//! ```
//! There is one line `run` for each task of this replica: the identity of the other replica, the
//! INSTANCE_ID, a digest of where the initiator is, and the number of the last run that recorded
//! anything. Files of earlier versions have only the first line.

use crate::tree::path::escape;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The random id that a replica got when it was first synchronised (`identity`).
#[derive(Clone, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub struct Identity(pub String);

/// The last run of one task with a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunMark {
    /// The identity of the other replica.
    pub peer: String,
    /// INSTANCE_ID, without spaces and control characters.
    pub instance: String,
    /// Where the initiator is: a digest of its host and directory.
    pub place: String,
    /// The number of the run.
    pub number: u64,
}

/// INSTANCE_ID as one word.
#[must_use]
pub fn instance_word(instance: &str) -> String {
    escape(instance.as_bytes()).replace(' ', "\\x20")
}

/// Where an initiator is, as a digest that does not reveal its host or path.
#[must_use]
pub fn place_word(host: &str, root: &Path) -> String {
    let text = [host.as_bytes(), b"\0", root.as_os_str().as_encoded_bytes()].concat();
    blake3::hash(&text).to_hex()[..16].to_owned()
}

impl RunMark {
    /// The beginning of its line, which differs from task to task.
    #[must_use]
    pub fn key(&self) -> String {
        format!("run {} {} ", self.peer, self.instance)
    }

    /// Its line, without the end.
    #[must_use]
    pub fn to_line(&self) -> String {
        format!("{}{} {}", self.key(), self.place, self.number)
    }

    /// Reads a line; `None` if it is another kind of line, or incomplete.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(line).ok()?;
        let mut words = text.strip_prefix("run ")?.split(' ').map(str::to_owned);
        let (peer, instance, place) = (words.next()?, words.next()?, words.next()?);
        let number = words.next()?.parse().ok()?;
        words.next().is_none().then_some(RunMark { peer, instance, place, number })
    }
}

/// All marks of an identity file.
#[must_use]
pub fn marks_of(content: &[u8]) -> Vec<RunMark> {
    content.split(|byte| *byte == b'\n').skip(1).filter_map(RunMark::parse).collect()
}

/// The identity file with this mark in place of the task's old one; all other lines are kept.
#[must_use]
pub fn with_mark(content: &[u8], mark: &RunMark) -> Vec<u8> {
    let key = mark.key();
    let mut lines = content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut out = lines.next().unwrap_or_default().to_vec();
    out.push(b'\n');
    for line in lines.filter(|line| !line.starts_with(key.as_bytes())) {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.extend_from_slice(mark.to_line().as_bytes());
    out.push(b'\n');
    out
}

/// The identity that was found in a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdentityFound {
    /// There is no identity file.
    Missing,
    /// The file holds no identity, as after a power failure.
    Torn,
    /// The identity.
    Known(Identity),
}

impl IdentityFound {
    /// The identity, if there is one.
    #[must_use]
    pub fn known(&self) -> Option<&Identity> {
        match self {
            IdentityFound::Known(identity) => Some(identity),
            IdentityFound::Missing | IdentityFound::Torn => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(peer: &str, instance: &str, number: u64) -> RunMark {
        RunMark { peer: peer.into(), instance: instance_word(instance), place: "p".into(), number }
    }

    #[test]
    fn each_task_has_a_mark_of_its_own_and_what_is_not_known_stays() {
        let old = b"abc\n";
        let one = with_mark(old, &mark("x", "my task\n", 1));
        let two = with_mark(&one, &mark("y", "my task\n", 7));
        let three = with_mark(&two, &mark("x", "my task\n", 2));
        assert_eq!(marks_of(&three), [mark("y", "my task\n", 7), mark("x", "my task\n", 2)]);
        assert!(three.starts_with(b"abc\n") && three.iter().filter(|b| **b == b'\n').count() == 3);
        let with_more = [&three[..], b"later thing\n"].concat();
        let kept = with_mark(&with_more, &mark("z", "t", 1));
        assert!(kept.windows(11).any(|part| part == b"later thing"));
        assert_eq!(marks_of(&kept).len(), 3);
    }

    #[test]
    fn what_is_no_mark_is_passed_over() {
        for line in ["", "run", "run a b c", "run a b c x", "run a b c 1 2", "ran a b c 1"] {
            assert_eq!(RunMark::parse(line.as_bytes()), None, "{line}");
        }
        assert_eq!(marks_of(b"run a b c 1\n"), [], "the first line is the identity");
        assert_eq!(marks_of(b""), []);
    }
}

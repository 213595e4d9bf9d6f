//! What a scrub found, for people and for machines (spec 9, "Scrub").

use super::words::{counted, grouped, size};
use crate::tree::{RelPath, Side};
use std::time::Duration;

/// What a scrub came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Paths of which at least one copy was read and judged.
    pub files: u64,
    /// Paths that could have been.
    pub known: u64,
    /// Bytes that were read on both sides.
    pub bytes: u64,
    /// Of those that were judged, how many were read for the first time.
    pub new: u64,
    /// Recorded paths that were changed since the last run, on either side.
    pub changed: u64,
    /// Copies that could not be read, or were being written.
    pub unread: u64,
    /// What is damaged, or was.
    pub damaged: Vec<DamagedPath>,
}

/// A path with a damaged copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedPath {
    /// The path.
    pub path: RelPath,
    /// Which copy.
    pub damage: Damage,
    /// What was done about it.
    pub remedy: Remedy,
}

/// Which copy of a path is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// This side's; the other side's is sound.
    One(Side),
    /// This side's; nothing is known of the other side's.
    Alone(Side),
    /// Both.
    Both,
    /// One of them, and nothing tells which.
    Either,
}

/// What was done about a damaged copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing: it still stands.
    None,
    /// Nothing yet: with `--heal` and without `--dry` it is replaced.
    Planned,
    /// It was replaced by the other side's copy.
    Replaced {
        /// Where the damaged one is kept.
        kept: Option<RelPath>,
    },
}

impl Damage {
    /// The word for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Damage::One(side) | Damage::Alone(side) => side.name(),
            Damage::Both => "both",
            Damage::Either => "undecided",
        }
    }

    /// Whose copies may not be transferred.
    #[must_use]
    pub fn sides(self) -> &'static [Side] {
        match self {
            Damage::One(Side::Initiator) | Damage::Alone(Side::Initiator) => &[Side::Initiator],
            Damage::One(Side::Target) | Damage::Alone(Side::Target) => &[Side::Target],
            Damage::Both | Damage::Either => &Side::BOTH,
        }
    }

    /// The finding in a few words.
    #[must_use]
    pub fn reason(self) -> String {
        match self {
            Damage::One(side) | Damage::Alone(side) => format!("the {side}'s copy is damaged"),
            Damage::Both => "both copies are damaged".to_owned(),
            Damage::Either => "the copies differ, and one of them is damaged".to_owned(),
        }
    }

    /// What it means, in words.
    #[must_use]
    pub fn words(self) -> String {
        const LOOKS: &str = "its content is not the recorded one, although its size and time are";
        match self {
            Damage::One(side) => {
                format!("it is damaged: {LOOKS}. The {}'s copy is sound", side.other())
            }
            Damage::Alone(_) => format!(
                "it is damaged: {LOOKS}, and the other side has no copy to compare it with. \
                 'osync history' shows which versions are kept"
            ),
            Damage::Both => "both copies are damaged: their contents are not the recorded one, \
                             although their sizes and times are. Neither was touched; 'osync \
                             history' shows which versions are kept"
                .to_owned(),
            Damage::Either => "the two copies differ, although their sizes and times do not, and \
                               nothing tells which one is sound. Neither was touched; compare them, \
                               then say which one is right: osync conflicts … take"
                .to_owned(),
        }
    }
}

impl Scrubbed {
    /// How many damaged files there are still.
    #[must_use]
    pub fn standing(&self) -> u64 {
        self.damaged.len() as u64 - self.healed()
    }

    /// How many damaged files were replaced.
    #[must_use]
    pub fn healed(&self) -> u64 {
        let is_healed = |one: &&DamagedPath| matches!(one.remedy, Remedy::Replaced { .. });
        self.damaged.iter().filter(is_healed).count() as u64
    }

    /// The line that sums the scrub up.
    #[must_use]
    pub fn sum_up(&self, time: Duration) -> String {
        let mut text = format!(
            "{} of {} checked, {} read in {:.1} s",
            grouped(self.files),
            counted(self.known, "file"),
            size(self.bytes),
            time.as_secs_f64()
        );
        let damaged = self.damaged.len() as u64;
        match (damaged, self.healed()) {
            (0, _) => text.push_str("; no damage found"),
            (_, 0) => text.push_str(&format!("; {} damaged", counted(damaged, "file"))),
            (1, _) => text.push_str("; 1 file damaged, and healed"),
            (_, healed) if healed == damaged => {
                text.push_str(&format!("; {} damaged, all healed", counted(damaged, "file")));
            }
            (_, healed) => text.push_str(&format!(
                "; {} damaged, {} healed",
                counted(damaged, "file"),
                grouped(healed)
            )),
        }
        if self.unread > 0 {
            let copies = counted(self.unread, "copy");
            text.push_str(&format!("; {copies} not readable or being written"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrubbed(remedies: &[Remedy]) -> Scrubbed {
        let one = |remedy: &Remedy| DamagedPath {
            path: RelPath::new("a").unwrap(),
            damage: Damage::One(Side::Target),
            remedy: remedy.clone(),
        };
        let damaged = remedies.iter().map(one).collect();
        Scrubbed { files: 1200, known: 3000, bytes: 5 << 20, damaged, ..Scrubbed::default() }
    }

    #[test]
    fn a_scrub_is_summed_up_in_a_line() {
        let healed = Remedy::Replaced { kept: None };
        for (remedies, expected) in [
            (vec![], "no damage found"),
            (vec![Remedy::None], "1 file damaged"),
            (vec![Remedy::None, Remedy::Planned], "2 files damaged"),
            (vec![healed.clone()], "1 file damaged, and healed"),
            (vec![healed.clone(), healed.clone()], "2 files damaged, all healed"),
            (vec![healed, Remedy::None], "2 files damaged, 1 healed"),
        ] {
            let said = scrubbed(&remedies).sum_up(Duration::from_millis(2345));
            let expected =
                format!("1,200 of 3,000 files checked, 5.0 MiB read in 2.3 s; {expected}");
            assert_eq!(said, expected);
        }
        let unread = Scrubbed { unread: 2, ..scrubbed(&[]) };
        assert!(
            unread.sum_up(Duration::ZERO).ends_with("; 2 copies not readable or being written")
        );
    }
}

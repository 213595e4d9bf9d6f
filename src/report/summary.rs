//! What was done, or in a dry run would be, as lines for people and scripts (spec 6,
//! "Summary", "Conflicts", "Dry run"; spec 10, "The record of a run").

use super::words::{counted, what_was_done};
use super::{Counts, Level, Reporter};
use crate::config::Config;
use crate::tree::path::escape;
use crate::tree::{Pair, RelPath, Side};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

/// What a run did or plans to do. Sides are the ones that are changed. Paths come one by
/// one: a first run may have a million.
pub trait Listing {
    /// Files, links and directories that were made or got new content.
    fn updates(&self, side: Side, each: &mut dyn FnMut(&RelPath));
    /// Entries of which only permissions, owners or times were set.
    fn metadata(&self, side: Side, each: &mut dyn FnMut(&RelPath));
    /// Entries that were deleted, softly or for good.
    fn deletions(&self, side: Side, each: &mut dyn FnMut(&RelPath));
    /// Entries that were renamed: the old name, the new name.
    fn moves(&self, side: Side, each: &mut dyn FnMut(&RelPath, &RelPath));
    /// Paths that were changed on both sides.
    fn conflicts(&self, each: &mut dyn FnMut(&ConflictLine));
}

/// A path that was changed on both sides, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConflictLine {
    /// The path.
    pub path: RelPath,
    /// Whose version is on both sides now.
    pub winner: Side,
    /// Why that side won: `it is newer`.
    pub why: String,
    /// Where the other version is kept, for people; `None` if it was not kept.
    pub kept_in: Option<String>,
}

/// A [`Listing`] held in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Achievements {
    /// Made or given new content.
    pub updates: Pair<Vec<RelPath>>,
    /// Only permissions, owners or times set.
    pub metadata: Pair<Vec<RelPath>>,
    /// Deleted.
    pub deletions: Pair<Vec<RelPath>>,
    /// Renamed: old, new.
    pub moves: Pair<Vec<(RelPath, RelPath)>>,
    /// Changed on both sides.
    pub conflicts: Vec<ConflictLine>,
}

impl Listing for Achievements {
    fn updates(&self, side: Side, each: &mut dyn FnMut(&RelPath)) {
        self.updates[side].iter().for_each(each);
    }
    fn metadata(&self, side: Side, each: &mut dyn FnMut(&RelPath)) {
        self.metadata[side].iter().for_each(each);
    }
    fn deletions(&self, side: Side, each: &mut dyn FnMut(&RelPath)) {
        self.deletions[side].iter().for_each(each);
    }
    fn moves(&self, side: Side, each: &mut dyn FnMut(&RelPath, &RelPath)) {
        self.moves[side].iter().for_each(|(old, new)| each(old, new));
    }
    fn conflicts(&self, each: &mut dyn FnMut(&ConflictLine)) {
        self.conflicts.iter().for_each(each);
    }
}

/// Counts a listing, all but the bytes.
#[must_use]
pub fn count(listing: &dyn Listing) -> Pair<Counts> {
    Pair::from_fn(|side| {
        let mut counts = Counts::default();
        listing.updates(side, &mut |_| counts.updates += 1);
        listing.metadata(side, &mut |_| counts.metadata += 1);
        listing.deletions(side, &mut |_| counts.deletions += 1);
        listing.moves(side, &mut |_, _| counts.moves += 1);
        counts
    })
}

/// Where and how a summary is to be told.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The roots of both replicas, each on its own machine.
    pub roots: Pair<PathBuf>,
    /// Bytes of content that went, or would go, to each side.
    pub bytes: Pair<u64>,
    /// How long the run took; `None` in a dry run.
    pub duration: Option<Duration>,
}

impl Frame {
    /// A path with its root, for people.
    fn full(&self, side: Side, path: &RelPath) -> String {
        let mut bytes = self.roots[side].as_os_str().as_bytes().to_vec();
        if !path.is_root() {
            if !bytes.ends_with(b"/") {
                bytes.push(b'/');
            }
            bytes.extend_from_slice(path.as_bytes());
        }
        escape(&bytes)
    }

    /// The line of a conflict, also in the state file `conflicts-ID` (spec 3).
    #[must_use]
    pub fn conflict(&self, path: &RelPath) -> String {
        format!("{} << >> {}", self.full(Side::Initiator, path), self.full(Side::Target, path))
    }
}

/// The sides in the order of the summary.
const ORDER: [Side; 2] = [Side::Target, Side::Initiator];

/// The summary, line by line.
pub fn summary(listing: &dyn Listing, frame: &Frame, line: &mut dyn FnMut(&str)) {
    line("Attributes only updates: INITIATOR << >> TARGET");
    for side in ORDER {
        listing.metadata(side, &mut |path| line(&act("UPDATE", side, frame, path)));
    }
    line(
        "File transfers and simple deletions: INITIATOR << >> TARGET \
         (may include file ownership and timestamp attributes)",
    );
    for side in ORDER {
        listing.updates(side, &mut |path| line(&act("UPDATE", side, frame, path)));
    }
    line("File deletions: INITIATOR << >> TARGET");
    for side in ORDER {
        listing.deletions(side, &mut |path| line(&act("DELETE", side, frame, path)));
    }
    let counts = count(listing);
    if has_moves(&counts) {
        line("File moves: INITIATOR << >> TARGET");
    }
    for side in ORDER {
        listing.moves(side, &mut |old, new| {
            line(&format!("{} -> {}", act("MOVE", side, frame, old), frame.full(side, new)));
        });
    }
    counters(&counts, line);
    line(&closing(frame));
}

/// The counters. Setting attributes is an update, as the lines say.
fn counters(counts: &Pair<Counts>, line: &mut dyn FnMut(&str)) {
    for (side, counts) in counts.iter() {
        line(&format!("{} has {} updates.", title(side), counts.updates + counts.metadata));
    }
    for (side, counts) in counts.iter() {
        line(&format!("{} has {} deletions.", title(side), counts.deletions));
    }
    if has_moves(counts) {
        for (side, counts) in counts.iter() {
            line(&format!("{} has {} moves.", title(side), counts.moves));
        }
    }
}

fn has_moves(counts: &Pair<Counts>) -> bool {
    counts.iter().any(|(_, counts)| counts.moves > 0)
}

fn act(verb: &str, side: Side, frame: &Frame, path: &RelPath) -> String {
    format!("{verb} {} {}", side.arrow(), frame.full(side, path))
}

fn closing(frame: &Frame) -> String {
    let Pair { initiator, target } = frame.bytes;
    // ungrouped, for scripts
    let bytes = |count: u64| format!("{count} {}", if count == 1 { "byte" } else { "bytes" });
    let amounts =
        format!("{} to the initiator and {} to the target", bytes(initiator), bytes(target));
    match frame.duration {
        Some(time) => format!("Transferred {amounts} in {:.1} s.", time.as_secs_f64()),
        None => format!("To be transferred: {amounts}."),
    }
}

fn title(side: Side) -> &'static str {
    match side {
        Side::Initiator => "Initiator",
        Side::Target => "Target",
    }
}

/// The list of conflicts, line by line, with a heading and how many there are.
pub fn conflicts(listing: &dyn Listing, frame: &Frame, line: &mut dyn FnMut(&str)) {
    let mut count = 0_u64;
    line("Conflicts: INITIATOR << >> TARGET");
    listing.conflicts(&mut |conflict| {
        count += 1;
        line(&frame.conflict(&conflict.path));
    });
    line(&match count {
        0 => "There are no conflicts.".to_owned(),
        1 => "There is 1 conflict.".to_owned(),
        n => format!("There are {n} conflicts."),
    });
}

/// What became of each conflict, line by line: who won, why, where the other copy is.
pub fn verdicts(listing: &dyn Listing, line: &mut dyn FnMut(&str)) {
    listing.conflicts(&mut |conflict| line(&verdict(conflict)));
}

/// What became of a conflict.
#[must_use]
pub fn verdict(conflict: &ConflictLine) -> String {
    let ConflictLine { path, winner, why, kept_in } = conflict;
    let kept = match kept_in {
        Some(place) => format!("the {}'s version is kept in {place}", winner.other()),
        None => format!("the {}'s version is not kept", winner.other()),
    };
    format!("conflict on {path}: the {winner}'s version wins: {why}; {kept}")
}

/// A line for each deletion and each move.
pub fn removals(listing: &dyn Listing, line: &mut dyn FnMut(&str)) {
    for side in Side::BOTH {
        listing.deletions(side, &mut |path| line(&format!("deleted on the {side}: {path}")));
    }
    for side in Side::BOTH {
        listing.moves(side, &mut |old, new| {
            line(&format!("moved on the {side}: {old} -> {new}"));
        });
    }
}

/// A line for each update and each change of metadata.
pub fn updates(listing: &dyn Listing, line: &mut dyn FnMut(&str)) {
    for side in Side::BOTH {
        listing.updates(side, &mut |path| line(&format!("updated on the {side}: {path}")));
        listing.metadata(side, &mut |path| {
            line(&format!("attributes set on the {side}: {path}"));
        });
    }
}

/// How far a run came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It ended before both replicas were compared.
    Nothing,
    /// It was stopped after that, or something failed; what it did is counted.
    Part,
    /// To its end, and nothing failed.
    All,
    /// It took the replicas as they are (`--initialize`).
    Recorded,
}

/// The line that sums a run up.
#[must_use]
pub fn sum_up(
    counts: &Pair<Counts>,
    conflicts: u64,
    files: u64,
    reach: Reach,
    time: Duration,
) -> String {
    let time = format!("in {:.1} s", time.as_secs_f64());
    let files = counted(files, "file");
    match reach {
        Reach::Nothing => return format!("nothing was done {time}"),
        Reach::Recorded => return format!("recorded as it is; {files} looked at {time}"),
        Reach::Part | Reach::All => {}
    }
    let stopped = if reach == Reach::Part { "; not all was done" } else { "" };
    match (what_was_done(counts, conflicts), reach) {
        (Some(done), _) => format!("{done} {time}{stopped}"),
        (None, Reach::All) => format!("nothing to do; {files} compared {time}"),
        (None, _) => format!("nothing was done {time}; {files} compared"),
    }
}

/// Tells what was changed, as far as it was asked for. A dry run ([`Frame::duration`] is `None`)
/// tells all of it.
pub fn tell_changes(config: &Config, listing: &dyn Listing, frame: &Frame, log: &dyn Reporter) {
    let dry = frame.duration.is_none();
    if config.flags.summary || dry {
        log.say_all(Level::Always, &mut |line| summary(listing, frame, line));
    } else {
        log.say_all(Level::Notice, &mut |line| removals(listing, line));
        log.say_all(Level::Verbose, &mut |line| updates(listing, line));
    }
    let wanted = config.output.log_conflicts || dry;
    if wanted {
        log.say_all(Level::Always, &mut |line| conflicts(listing, frame, line));
    }
    let level = if dry { Level::Always } else { Level::Notice };
    log.say_all(level, &mut |line| verdicts(listing, line));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    fn frame() -> Frame {
        Frame {
            roots: Pair::new("/a".into(), "/".into()),
            bytes: Pair::new(1, 1234),
            duration: Some(Duration::from_millis(2345)),
        }
    }

    fn collect(produce: impl FnOnce(&mut dyn FnMut(&str))) -> Vec<String> {
        let mut lines = Vec::new();
        produce(&mut |line| lines.push(line.to_owned()));
        lines
    }

    #[test]
    fn a_run_without_changes_has_headings_and_counters_only() {
        let lines = collect(|line| summary(&Achievements::default(), &frame(), line));
        assert_eq!(
            lines,
            [
                "Attributes only updates: INITIATOR << >> TARGET",
                "File transfers and simple deletions: INITIATOR << >> TARGET (may include file ownership and timestamp attributes)",
                "File deletions: INITIATOR << >> TARGET",
                "Initiator has 0 updates.",
                "Target has 0 updates.",
                "Initiator has 0 deletions.",
                "Target has 0 deletions.",
                "Transferred 1 byte to the initiator and 1234 bytes to the target in 2.3 s.",
            ]
        );
    }

    #[test]
    fn every_change_is_one_line_with_the_root_of_its_side() {
        let done = Achievements {
            updates: Pair::new(vec![path("from target")], vec![path("x/new"), path("a\nb")]),
            metadata: Pair::new(vec![], vec![path("mode")]),
            deletions: Pair::new(vec![path("gone")], vec![]),
            moves: Pair::new(vec![], vec![(path("old"), path("d/new"))]),
            conflicts: vec![],
        };
        let plan = Frame { duration: None, ..frame() };
        assert_eq!(
            collect(|line| summary(&done, &plan, line)),
            [
                "Attributes only updates: INITIATOR << >> TARGET",
                "UPDATE >> /mode",
                "File transfers and simple deletions: INITIATOR << >> TARGET (may include file ownership and timestamp attributes)",
                "UPDATE >> /x/new",
                "UPDATE >> /a\\nb",
                "UPDATE << /a/from target",
                "File deletions: INITIATOR << >> TARGET",
                "DELETE << /a/gone",
                "File moves: INITIATOR << >> TARGET",
                "MOVE >> /old -> /d/new",
                "Initiator has 1 updates.",
                "Target has 3 updates.",
                "Initiator has 1 deletions.",
                "Target has 0 deletions.",
                "Initiator has 0 moves.",
                "Target has 1 moves.",
                "To be transferred: 1 byte to the initiator and 1234 bytes to the target.",
            ]
        );
    }

    #[test]
    fn conflicts_are_listed_and_explained() {
        let conflict = |name: &str, winner, kept_in: Option<&str>| ConflictLine {
            path: path(name),
            winner,
            why: "it is newer".into(),
            kept_in: kept_in.map(str::to_owned),
        };
        let done = Achievements {
            conflicts: vec![
                conflict("one", Side::Target, Some("backup/one")),
                conflict("two", Side::Initiator, None),
                conflict("three", Side::Target, None),
            ],
            ..Achievements::default()
        };
        assert_eq!(
            collect(|line| conflicts(&done, &frame(), line)),
            [
                "Conflicts: INITIATOR << >> TARGET",
                "/a/one << >> /one",
                "/a/two << >> /two",
                "/a/three << >> /three",
                "There are 3 conflicts.",
            ]
        );
        assert_eq!(
            collect(|line| verdicts(&done, line)),
            [
                "conflict on one: the target's version wins: it is newer; the initiator's version is kept in backup/one",
                "conflict on two: the initiator's version wins: it is newer; the target's version is not kept",
                "conflict on three: the target's version wins: it is newer; the initiator's version is not kept",
            ]
        );
    }
}

#[cfg(test)]
mod record_tests {
    use super::*;
    use crate::report::Achievements;
    use crate::tree::RelPath;

    #[test]
    fn a_run_is_summed_up_in_one_line() {
        let counts = |updates, metadata, deletions, moves, bytes| Counts {
            updates,
            metadata,
            deletions,
            moves,
            bytes,
        };
        let nothing = Counts::default();
        let mebi = 1 << 20;
        let ms = Duration::from_millis;
        for (target, initiator, conflicts, files, reach, time, line) in [
            (
                counts(3, 1, 1, 0, 3 * mebi),
                counts(2, 0, 0, 1, mebi / 10),
                1,
                9,
                Reach::All,
                2_400,
                "4 updates to the target, 2 to the initiator, 1 deletion, 1 move, 1 conflict, \
                 3.1 MiB in 2.4 s",
            ),
            (
                nothing,
                nothing,
                0,
                12_345,
                Reach::All,
                100,
                "nothing to do; 12,345 files compared in 0.1 s",
            ),
            (nothing, nothing, 0, 1, Reach::All, 99, "nothing to do; 1 file compared in 0.1 s"),
            (
                nothing,
                counts(1, 0, 0, 0, 5),
                0,
                1,
                Reach::All,
                0,
                "1 update to the initiator, 5 bytes in 0.0 s",
            ),
            (
                counts(1_000, 0, 2, 0, 0),
                nothing,
                2,
                1,
                Reach::All,
                0,
                "1,000 updates to the target, 2 deletions, 2 conflicts in 0.0 s",
            ),
            (nothing, nothing, 0, 0, Reach::Nothing, 0, "nothing was done in 0.0 s"),
            (nothing, nothing, 0, 7, Reach::Part, 0, "nothing was done in 0.0 s; 7 files compared"),
            (
                counts(0, 0, 1, 0, 0),
                nothing,
                0,
                7,
                Reach::Part,
                0,
                "1 deletion in 0.0 s; not all was done",
            ),
            (
                nothing,
                nothing,
                0,
                2,
                Reach::Recorded,
                0,
                "recorded as it is; 2 files looked at in 0.0 s",
            ),
        ] {
            let counts = Pair::new(initiator, target);
            assert_eq!(sum_up(&counts, conflicts, files, reach, ms(time)), line);
        }
    }

    #[test]
    fn every_change_is_one_line() {
        let path = |text: &str| RelPath::new(text.as_bytes()).unwrap();
        let done = Achievements {
            updates: Pair::new(vec![path("u")], vec![]),
            metadata: Pair::new(vec![], vec![path("m")]),
            deletions: Pair::new(vec![path("a\nb")], vec![path("gone")]),
            moves: Pair::new(vec![], vec![(path("old"), path("d/new"))]),
            conflicts: vec![],
        };
        let mut lines = Vec::new();
        removals(&done, &mut |line| lines.push(line.to_owned()));
        updates(&done, &mut |line| lines.push(line.to_owned()));
        assert_eq!(
            lines,
            [
                "deleted on the initiator: a\\nb",
                "deleted on the target: gone",
                "moved on the target: old -> d/new",
                "updated on the initiator: u",
                "attributes set on the target: m",
            ]
        );
    }
}

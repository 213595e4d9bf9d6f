//! The record of a run: what its log tells without any flag (spec 10, "The record of a run").

use super::summary::{Counts, Listing};
use super::words::{counted, what_was_done};
use crate::tree::{Pair, Side};
use std::time::Duration;

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
    /// It was stopped after that; what it did is counted.
    Part,
    /// To its end.
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

#[cfg(test)]
mod tests {
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

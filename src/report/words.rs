//! Numbers, sizes, times and what a run did, as people say them (spec 10, "The record of a
//! run").

use super::Counts;
use crate::tree::Pair;
use std::time::Duration;

/// `1 update`, `4 updates`, `2 entries`.
#[must_use]
pub fn counted(count: u64, noun: &str) -> String {
    let number = grouped(count);
    match (count, noun.strip_suffix('y')) {
        (1, _) => format!("{number} {noun}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        (_, None) => format!("{number} {noun}s"),
    }
}

/// `12,345`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `512 bytes`, `3.1 MiB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    if bytes < 1024 {
        return counted(bytes, "byte");
    }
    #[allow(clippy::cast_precision_loss)] // for people, one digit
    let mut number = bytes as f64;
    let mut unit = "KiB";
    number /= 1024.0;
    for next in ["MiB", "GiB", "TiB", "PiB"] {
        // 1023.95 would be shown as 1024.0
        if number < 1023.95 {
            break;
        }
        number /= 1024.0;
        unit = next;
    }
    format!("{number:.1} {unit}")
}

/// How long something took: `2.4 s`, `3 min 20 s`, `5 h 2 min`.
#[must_use]
pub fn took(time: Duration) -> String {
    match time.as_secs() {
        0..100 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 100..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// How long ago something was: `5 s`, `3 min`, `2 h`, `11 days`.
#[must_use]
pub fn age(seconds: i64) -> String {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    match seconds {
        0..100 => format!("{seconds} s"),
        100..6000 => format!("{} min", seconds / 60),
        6000..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// What a run did: `4 updates to the target, 2 to the initiator, 1 deletion, 1 move,
/// 1 conflict, 3.1 MiB`; `None` if it did nothing.
#[must_use]
pub fn what_was_done(counts: &Pair<Counts>, conflicts: u64) -> Option<String> {
    let mut parts = Vec::new();
    let updates = counts.map(|side| side.updates + side.metadata);
    for (to, count) in [("target", updates.target), ("initiator", updates.initiator)] {
        match (count, parts.is_empty()) {
            (0, _) => {}
            (_, true) => parts.push(format!("{} to the {to}", counted(count, "update"))),
            (_, false) => parts.push(format!("{} to the {to}", grouped(count))),
        }
    }
    let both = |of: fn(&Counts) -> u64| of(&counts.initiator) + of(&counts.target);
    for (count, noun) in [
        (both(|side| side.deletions), "deletion"),
        (both(|side| side.moves), "move"),
        (conflicts, "conflict"),
    ] {
        if count > 0 {
            parts.push(counted(count, noun));
        }
    }
    let bytes = both(|side| side.bytes);
    if bytes > 0 {
        parts.push(size(bytes));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// At how many paths both sides differ since an undo; `None` if at none.
#[must_use]
pub fn differing(paths: u64) -> Option<String> {
    let verb = if paths == 1 { "differs" } else { "differ" };
    (paths > 0).then(|| format!("{} {verb} since undo", counted(paths, "path")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_sizes_and_times_read_as_people_say_them() {
        assert_eq!([counted(1, "path"), counted(12_345, "path")], ["1 path", "12,345 paths"]);
        assert_eq!([counted(1, "entry"), counted(2, "entry")], ["1 entry", "2 entries"]);
        let sizes = [0, 1, 1023, 1024, 3_250_586, 1_073_741_823, u64::MAX].map(size);
        let expected =
            ["0 bytes", "1 byte", "1,023 bytes", "1.0 KiB", "3.1 MiB", "1.0 GiB", "16384.0 PiB"];
        assert_eq!(sizes, expected);
        let times = [2400, 99_960, 200_000, 18_120_000].map(|ms| took(Duration::from_millis(ms)));
        assert_eq!(times, ["2.4 s", "100.0 s", "3 min 20 s", "5 h 2 min"]);
        let ages = [5, 180, 7200, 1_000_000, -3].map(age);
        assert_eq!(ages, ["5 s", "3 min", "2 h", "11 days", "0 s"]);
    }

    #[test]
    fn a_run_is_summed_up_in_one_line() {
        let side =
            |updates, deletions, bytes| Counts { updates, deletions, bytes, ..Counts::default() };
        let line = |initiator, target, conflicts| {
            what_was_done(&Pair::new(initiator, target), conflicts).unwrap_or_default()
        };
        assert_eq!(
            line(side(2, 0, 0), Counts { moves: 1, ..side(4, 1, 3_250_586) }, 1),
            "4 updates to the target, 2 to the initiator, 1 deletion, 1 move, 1 conflict, 3.1 MiB"
        );
        assert_eq!(line(side(1, 0, 0), side(0, 0, 0), 0), "1 update to the initiator");
        assert_eq!(line(side(0, 0, 0), side(0, 0, 0), 0), "");
    }
}

//! What trials with a file tell of its file system, here and behind ssh.

use crate::tree::Entry;

/// The time that is set: an odd second, and no zero in the fraction, so that every coarser
/// step shows.
pub const TIME: (i64, u32) = (1_500_000_001, 123_456_789);

/// Whether a file has that time, as closely as any file system keeps times.
#[must_use]
pub fn is_near(entry: &Entry) -> bool {
    entry.mtime.secs().abs_diff(TIME.0) <= 2
}

/// The step in which that time was stored, in nanoseconds.
#[must_use]
pub fn step_of(entry: &Entry) -> u32 {
    let nanos = entry.mtime.nanos();
    let steps = [1, 100, 1_000, 1_000_000, 10_000_000, 1_000_000_000];
    match steps.into_iter().find(|step| nanos == TIME.1 / step * step) {
        Some(1_000_000_000) if entry.mtime.secs() % 2 == 0 => 2_000_000_000,
        Some(step) => step,
        None => 2_000_000_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Kind, Stamp};

    #[test]
    fn the_step_of_a_time_shows_in_what_is_stored() {
        for (secs, nanos, step) in [
            (1_500_000_001, 123_456_789, 1),
            (1_500_000_001, 123_456_700, 100),
            (1_500_000_001, 123_456_000, 1_000),
            (1_500_000_001, 123_000_000, 1_000_000),
            (1_500_000_001, 120_000_000, 10_000_000),
            (1_500_000_001, 0, 1_000_000_000),
            (1_500_000_000, 0, 2_000_000_000),
            (1_500_000_002, 0, 2_000_000_000),
        ] {
            let mut entry = Entry::new(Kind::File);
            entry.mtime = Stamp::new(secs, nanos);
            assert_eq!(step_of(&entry), step, "{secs}.{nanos}");
            assert!(is_near(&entry));
        }
    }
}

//! What the files of Linux's `/proc` say.

/// What `/proc/PID/stat` says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProcessStat {
    state: u8,
    /// Its process group.
    pub group: i32,
    /// When it started, in ticks since the boot.
    pub started: Option<u64>,
}

impl ProcessStat {
    /// Reads it; the second field, the program's name in parentheses, may hold anything.
    pub fn parse(stat: &[u8]) -> Option<Self> {
        let name_end = stat.iter().rposition(|b| *b == b')')?;
        let mut fields = std::str::from_utf8(&stat[name_end + 1..]).ok()?.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let group = fields.nth(1)?.parse().ok()?;
        let started = fields.nth(16).and_then(|ticks| ticks.parse().ok());
        Some(ProcessStat { state, group, started })
    }

    /// Whether it has ended, and only waits for its parent to take notice.
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// When the machine started, from `/proc/stat`.
pub(super) fn boot_time_in(stat: &str) -> Option<i64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

/// The mask of signals that a process ignores, from `/proc/PID/status`.
pub(super) fn ignored_in(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_behind_any_name() {
        let of = |state, group, started| Some(ProcessStat { state, group, started });
        let numbers = "5 ".repeat(16);
        for (stat, expected) in [
            ("12 (sh) S 1 12 12 0 -1".to_owned(), of(b'S', 12, None)),
            ("13 (a) Z 1 (b) Z 7 99 99 0".to_owned(), of(b'Z', 99, None)),
            (format!("13 (a) S 7 99 {numbers}4242 1"), of(b'S', 99, Some(4242))),
            ("13 (a".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(ProcessStat::parse(stat.as_bytes()), expected, "{stat}");
        }
    }

    #[test]
    fn ignored_signals_are_read_from_the_status_file() {
        for (status, mask) in [
            ("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\tff\n", 0x1001),
            ("Name:\tx\n", 0),
            ("SigIgn:\tnonsense\n", 0),
        ] {
            assert_eq!(ignored_in(status), mask);
        }
    }
}

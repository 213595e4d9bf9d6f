//! The fault points that a local run has. The story of `trial` comes to all of them.

/// Every step at which a run can be killed, in about the order of a run.
pub const ALL: &[&str] = &[
    "prepared",
    "small file written",
    "lock appeared",
    "locked",
    "state file written",
    "state file placed",
    "state file overwritten",
    "scanned",
    "left overs removed",
    "planned",
    "before a batch",
    "after a batch",
    "small file longer",
    "setting aside",
    "room made",
    "set aside, not looked at",
    "renaming",
    "making a directory",
    "directory without mode",
    "setting metadata",
    "in flight",
    "rsync named an item",
    "delivered",
    "settling",
    "setting a time",
    "an operation is done",
    "applied",
    "flushed",
    "run noted",
    "run numbered",
    "baseline saved",
    "state file removed",
    "recorded",
    "cleaned",
    "unlocking",
    "lock half removed",
];

/// Steps that only some runs come to: the first, one after a kill, one that purges, one
/// that deletes for good, one across a mount point.
const OTHERS: &[&str] = &[
    "small file placed",
    "old lock aside",
    "purging",
    "removing",
    "taken away, not looked at",
    "taken away, not removed",
    "its date is noted",
    "journal written",
    "keeping a copy",
    "copied, not named",
    "rescued",
    "setting attributes",
    "copied, not removed",
    "asking",
    "asked",
    "compared",
    "answered",
];

/// Whether a step is in one of the lists.
pub fn is_known(step: &str) -> bool {
    ALL.iter().chain(OTHERS).any(|known| *known == step)
}

//! Whole runs with a target behind a real sshd (spec 5).

mod failures;
mod lost_line;
mod thin_line;

//! What this machine is and which processes it runs, for locks.

use super::lock_policy::{Origin, Process};
use crate::tree::Stamp;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// This machine, in its present boot.
#[must_use]
pub fn origin() -> Origin {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let boot = match boot_id() {
        Some(id) => format!("id:{id}"),
        None => boot_time().map(|at| format!("at:{at}")).unwrap_or_default(),
    };
    Origin { host, boot }
}

/// What tells this boot from every other one.
#[must_use]
pub fn boot_id() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// When this machine started, in seconds since the epoch by its present clock.
#[must_use]
pub fn boot_time() -> Option<i64> {
    boot_time_in(&fs::read_to_string("/proc/stat").ok()?)
}

/// What `/proc/stat` says of it.
pub(super) fn boot_time_in(stat: &str) -> Option<i64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

/// What is known of a process of this machine.
#[must_use]
pub fn process(pid: u32) -> Process {
    let Some(id) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else {
        return Process::Gone;
    };
    match rustix::process::test_kill_process(id) {
        Err(rustix::io::Errno::SRCH) => Process::Gone,
        // It has ended, and only waits for its parent to take notice.
        Ok(()) | Err(_) if is_zombie(pid) => Process::Gone,
        // EPERM: it runs, as another user.
        Ok(()) | Err(_) => Process::Runs(started(pid)),
    }
}

fn is_zombie(pid: u32) -> bool {
    let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    state_in(&stat).is_some_and(|state| matches!(state, b'Z' | b'X' | b'x'))
}

/// The letter of a process's state, from what `/proc/PID/stat` says of it.
fn state_in(stat: &[u8]) -> Option<u8> {
    // The second field is the program's name in parentheses and may hold anything.
    let end = stat.iter().rposition(|b| *b == b')')?;
    stat[end + 1..].trim_ascii_start().first().copied()
}

/// When a process started, in the kernel's ticks since boot.
#[must_use]
pub fn started(pid: u32) -> Option<u64> {
    started_in(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// What `/proc/PID/stat` says of it.
pub(super) fn started_in(stat: &[u8]) -> Option<u64> {
    // The second field is the program's name in parentheses and may hold anything.
    let end = stat.iter().rposition(|b| *b == b')')?;
    let fields = std::str::from_utf8(&stat[end + 1..]).ok()?;
    // The 22nd field of all is the 20th behind the name.
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Seconds since the epoch.
#[must_use]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// This moment by our clock.
#[must_use]
pub fn stamp() -> Stamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Stamp::new(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_runs_and_an_ended_child_does_not() {
        let Process::Runs(Some(since)) = process(std::process::id()) else { panic!() };
        assert_eq!(Some(since), started(std::process::id()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert_eq!(process(child.id()), Process::Gone);
        assert_eq!(process(0), Process::Gone);
        assert_eq!(process(u32::MAX), Process::Gone);
    }

    #[test]
    fn this_machine_has_a_name_and_a_boot() {
        let here = origin();
        assert!(!here.host.is_empty() && !here.boot.is_empty());
        assert_eq!(here, origin());
        assert!(boot_time().unwrap() <= now());
    }
}

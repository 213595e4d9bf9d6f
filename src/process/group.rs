//! A child and all that it starts: one process group, ended as one.

use super::{Command, Exit, ProcessError, fence};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, test_kill_process_group,
    waitid, waitpgid,
};
use std::io::{self, PipeReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ChildStderr, ChildStdin, ChildStdout, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long TERM is given before KILL, unless the command says otherwise.
const GRACE: Duration = Duration::from_secs(10);
/// How long what a child left running in its group may go on after it has ended.
const LINGER: Duration = Duration::from_secs(1);
/// How long we wait for what was killed; only a process stuck in the kernel takes longer.
const GIVE_UP: Duration = Duration::from_secs(5);
/// How often a group without its leader is looked at: nothing tells us of its end.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Our ends of a child's pipes.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    pub(super) stdin: Option<ChildStdin>,
    pub(super) stdout: Option<ChildStdout>,
    pub(super) stderr: Option<ChildStderr>,
}

/// A child with its process group. When the value goes, so does the group.
#[derive(Debug)]
pub(super) struct Group {
    child: std::process::Child,
    pid: Pid,
    /// Hangs up when the leader has ended.
    exited: PipeReader,
    /// Set when the leader has been reaped.
    status: Option<ExitStatus>,
    grace: Duration,
    limit: Option<Instant>,
    phase: Phase,
    ended_as: Option<Exit>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// The leader has ended by itself; the rest is asked to end at that time.
    Lingering(Instant),
    /// TERM has been sent, KILL follows at that time.
    Asked(Instant),
    /// KILL has been sent; at that time we stop waiting.
    Killed(Instant),
    Gone,
}

impl Group {
    /// Starts a child in a group of its own.
    pub(super) fn start(command: &Command, stdin: Stdio) -> Result<(Self, Pipes), ProcessError> {
        let mut builder = std::process::Command::new(&command.program);
        builder.args(&command.args);
        for name in &command.env_remove {
            builder.env_remove(name);
        }
        builder.envs(command.env.iter().map(|(name, value)| (name, value)));
        if let Some(dir) = &command.dir {
            builder.current_dir(dir);
        }
        builder.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let (exited, tell) = io::pipe().map_err(|e| ProcessError::io(command, "watch", e))?;
        let child = match &command.writes_inside {
            Some(dir) => fence::spawn_inside(dir, &mut builder),
            None => builder.spawn(),
        };
        let mut child = child.map_err(|e| ProcessError::starting(command, e))?;
        let pid = Pid::from_child(&child);
        // The leader is waited for without being reaped: as long as it is a zombie, its
        // number cannot belong to anybody else when the group is signalled.
        let waiter = std::thread::Builder::new().name("wait".into()).spawn(move || {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while matches!(waitid(WaitId::Pid(pid), options), Err(Errno::INTR)) {}
            drop(tell);
        });
        if let Err(cause) = waiter {
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = child.wait();
            return Err(ProcessError::io(command, "watch", cause));
        }
        let pipes = Pipes {
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
        };
        let group = Group {
            child,
            pid,
            exited,
            status: None,
            grace: command.grace.unwrap_or(GRACE),
            limit: command.time_limit.and_then(|limit| Instant::now().checked_add(limit)),
            phase: Phase::Running,
            ended_as: None,
        };
        Ok((group, pipes))
    }

    /// Hangs up when the leader has ended; of no more interest once it is reaped.
    pub(super) fn exited(&self) -> Option<&PipeReader> {
        self.status.is_none().then_some(&self.exited)
    }

    /// One more end of the pipe that hangs up when the leader has ended.
    pub(super) fn exited_clone(&self) -> io::Result<PipeReader> {
        self.exited.try_clone()
    }

    /// Whether nobody has asked the group to end yet, and its leader has not ended.
    pub(super) fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    /// Whether every process of the group has ended (or cannot be ended by anybody).
    pub(super) fn is_gone(&self) -> bool {
        self.phase == Phase::Gone
    }

    /// Asks the group to end: TERM now, KILL after the grace. `as_` is what it ended as;
    /// none: whatever its leader says itself.
    pub(super) fn end(&mut self, as_: Option<Exit>, grace: Option<Duration>) {
        if matches!(self.phase, Phase::Running | Phase::Lingering(_)) {
            if self.status.is_none() {
                self.ended_as = as_;
            }
            self.ask(grace.unwrap_or(self.grace));
        } else if let (Phase::Asked(until), Some(grace)) = (self.phase, grace) {
            self.phase = Phase::Asked(until.min(Instant::now() + grace));
        }
    }

    /// Takes note that the leader has ended.
    pub(super) fn leader_ended(&mut self) {
        if self.status.is_some() {
            return;
        }
        // a failure means that somebody else has reaped it, which is an end as well
        self.status = Some(self.child.wait().unwrap_or_default());
        if self.phase == Phase::Running {
            self.phase = Phase::Lingering(Instant::now() + LINGER);
        }
    }

    /// Does what is due, and says how long nothing else will be.
    pub(super) fn advance(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if self.phase == Phase::Running && self.limit.is_some_and(|limit| limit <= now) {
            self.end(Some(Exit::TimedOut), None);
        }
        if self.status.is_some() && !self.has_members() {
            self.phase = Phase::Gone;
        }
        let due = match self.phase {
            Phase::Running => self.limit,
            Phase::Lingering(at) | Phase::Asked(at) | Phase::Killed(at) => Some(at),
            Phase::Gone => return None,
        };
        if due.is_some_and(|at| at <= now) {
            self.escalate(now);
        }
        let until = due.map(|at| at.saturating_duration_since(now));
        // without a leader nothing tells us that the last one has gone
        if self.status.is_some() { Some(LOOK_AGAIN) } else { until }
    }

    /// How the leader ended; only to be asked when the group is gone.
    pub(super) fn exit(&self) -> Exit {
        let by_status = self.status.map_or(Exit::Signal(Signal::KILL.as_raw()), |status| {
            match (status.code(), status.signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, signal) => Exit::Signal(signal.unwrap_or(0)),
            }
        });
        self.ended_as.unwrap_or(by_status)
    }

    fn escalate(&mut self, now: Instant) {
        match self.phase {
            Phase::Lingering(_) => self.ask(self.grace),
            Phase::Asked(_) => {
                self.signal(Signal::KILL);
                self.phase = Phase::Killed(now + GIVE_UP);
            }
            Phase::Killed(_) => self.phase = Phase::Gone,
            Phase::Running | Phase::Gone => {}
        }
    }

    fn ask(&mut self, grace: Duration) {
        self.signal(Signal::TERM);
        // a stopped process would hear TERM only when it goes on
        self.signal(Signal::CONT);
        self.phase = Phase::Asked(Instant::now() + grace);
    }

    fn signal(&self, signal: Signal) {
        // it may have ended just now
        let _ = kill_process_group(self.pid, signal);
    }

    /// Whether somebody is left in the group; only to be asked when the leader is reaped.
    fn has_members(&self) -> bool {
        // in a container we may be the process that inherits orphans
        while matches!(waitpgid(self.pid, WaitOptions::NOHANG), Ok(Some(_))) {}
        test_kill_process_group(self.pid) != Err(Errno::SRCH) && !is_dead(self.pid)
    }
}

/// Whether a group consists of nothing but zombies: orphans that the init process has not
/// reaped yet (in many a container it never does). False where there is no `/proc`.
fn is_dead(group: Pid) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    let mut zombies = 0;
    for process in processes.flatten() {
        let Ok(stat) = std::fs::read(process.path().join("stat")) else { continue };
        if let Some((state, of)) = state_and_group(&stat)
            && of == group.as_raw_nonzero().get()
        {
            if !matches!(state, b'Z' | b'X') {
                return false;
            }
            zombies += 1;
        }
    }
    zombies > 0
}

/// The third and the fifth field of `/proc/PID/stat`; the second, a name in parentheses,
/// may hold anything.
pub(super) fn state_and_group(stat: &[u8]) -> Option<(u8, i32)> {
    let name_end = stat.iter().rposition(|b| *b == b')')?;
    let mut fields = std::str::from_utf8(&stat[name_end + 1..]).ok()?.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    Some((state, fields.nth(1)?.parse().ok()?))
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.phase == Phase::Gone {
            return;
        }
        // only on the way out of a panic: everybody else waits until the group is gone
        self.signal(Signal::KILL);
        if self.status.is_none() {
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_and_group_are_found_behind_any_name() {
        for (stat, expected) in [
            (&b"12 (sh) S 1 12 12 0 -1"[..], Some((b'S', 12))),
            (b"13 (a) Z 1 (b) Z 7 99 99 0", Some((b'Z', 99))),
            (b"13 (a", None),
            (b"", None),
        ] {
            assert_eq!(state_and_group(stat), expected);
        }
    }
}

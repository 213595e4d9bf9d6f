//! A child that lives beside us: a control shell, a watcher, a remote shell for rsync.

use super::stop::{self, Waker};
use super::{Command, Exit, ProcessError, Stop, StopReason, Stream, fault, landlock};
use crate::system;
use crate::threads;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, test_kill_process_group,
    waitid, waitpgid,
};
use std::collections::VecDeque;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ChildStderr, ChildStdin, ChildStdout, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
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
        stop::keep_exit_statuses().map_err(|e| ProcessError::io(command, "watch", e))?;
        let (exited, tell) = io::pipe().map_err(|e| ProcessError::io(command, "watch", e))?;
        let child = match &command.writes_inside {
            Some(dir) => landlock::spawn_inside(dir, &mut builder),
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
            grace: command.grace.unwrap_or_else(|| fault::limit(GRACE)),
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
        // If its status cannot be read, it has ended all the same, but not known to be well.
        let unknown = ExitStatus::from_raw(Signal::KILL.as_raw());
        self.status = Some(self.child.wait().unwrap_or(unknown));
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
        test_kill_process_group(self.pid) != Err(Errno::SRCH)
            && !system::is_dead_group(self.pid.as_raw_nonzero().get())
    }
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

/// A longer line comes in pieces of this size.
const LONGEST: usize = 64 * 1024;

/// Cuts a stream at `\n`, `\r\n` and `\r` (progress displays overwrite their line).
#[derive(Debug, Default)]
pub(super) struct Lines {
    rest: Vec<u8>,
    after_return: bool,
}

impl Lines {
    /// Takes more of the stream and hands on each line that is complete.
    pub(super) fn push(&mut self, mut bytes: &[u8], line: &mut dyn FnMut(&[u8])) {
        while let Some(first) = bytes.first() {
            if std::mem::take(&mut self.after_return) && *first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|b| matches!(b, b'\n' | b'\r'));
            let (text, next) = match end {
                Some(end) => {
                    self.after_return = bytes[end] == b'\r';
                    (&bytes[..end], &bytes[end + 1..])
                }
                None => (bytes, &bytes[bytes.len()..]),
            };
            self.add(text, line);
            // an empty line before '\r' is only a cursor going home
            if end.is_some() && !(self.after_return && self.rest.is_empty()) {
                line(&self.rest);
                self.rest.clear();
            }
            bytes = next;
        }
    }

    /// Hands on what is left without an end of line.
    pub(super) fn finish(&mut self, line: &mut dyn FnMut(&[u8])) {
        if !self.rest.is_empty() {
            line(&self.rest);
            self.rest.clear();
        }
    }

    fn add(&mut self, mut text: &[u8], line: &mut dyn FnMut(&[u8])) {
        while self.rest.len() + text.len() > LONGEST {
            let (now, later) = text.split_at(LONGEST - self.rest.len());
            self.rest.extend_from_slice(now);
            line(&self.rest);
            self.rest.clear();
            text = later;
        }
        self.rest.extend_from_slice(text);
    }
}

/// The beginning and the end of what somebody said, with a note of what was left out
/// between: causes stand at the beginning, verdicts at the end.
#[derive(Debug, Clone, Default)]
pub struct Excerpt {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    left_out: u64,
}

impl Excerpt {
    const HEAD: usize = 16 * 1024;
    const TAIL: usize = 48 * 1024;

    /// Adds to the end.
    pub fn push(&mut self, bytes: &[u8]) {
        let (head, tail) = bytes.split_at(bytes.len().min(Self::HEAD - self.head.len()));
        self.head.extend_from_slice(head);
        self.tail.extend(tail);
        let excess = self.tail.len().saturating_sub(Self::TAIL);
        self.tail.drain(..excess);
        self.left_out += excess as u64;
    }

    /// What was kept.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut all = self.head.clone();
        if self.left_out > 0 {
            all.extend_from_slice(format!("\n[{} bytes left out]\n", self.left_out).as_bytes());
        }
        all.extend(&self.tail);
        all
    }
}

/// What a child reads on its standard input.
pub enum Input<'a> {
    /// Nothing.
    Nothing,
    /// These bytes.
    Bytes(&'a [u8]),
    /// What this function writes, on a thread of its own, while the child runs.
    Writer(InputWriter<'a>),
}

/// Writes a child's input.
pub type InputWriter<'a> = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'a>;

/// A child's end and everything it said.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// Standard output, whole.
    pub stdout: Vec<u8>,
    /// Standard error: the beginning and the end, if it was long (see [`Excerpt`]).
    pub stderr: Vec<u8>,
}

/// Runs a child to its end and hands over what it says line by line, without line ends
/// (a `\r` ends a line too; a line of more than 64 KiB comes in pieces).
///
/// # Errors
/// It cannot be started, or its input cannot be made. How a started child ended is no error.
pub fn run(
    command: &Command,
    input: Input<'_>,
    stop: &Stop,
    sink: &mut dyn FnMut(Stream, &[u8]),
) -> Result<Exit, ProcessError> {
    let mut lines = [Lines::default(), Lines::default()];
    let exit = run_raw(command, input, stop, &mut |stream, bytes| {
        lines[stream as usize].push(bytes, &mut |line| sink(stream, line));
    })?;
    for stream in [Stream::Out, Stream::Err] {
        lines[stream as usize].finish(&mut |line| sink(stream, line));
    }
    Ok(exit)
}

/// Runs a child to its end and collects what it says.
///
/// # Errors
/// As [`run`].
pub fn output(command: &Command, input: Input<'_>, stop: &Stop) -> Result<Output, ProcessError> {
    let mut stdout = Vec::new();
    let mut stderr = Excerpt::default();
    let exit = run_raw(command, input, stop, &mut |stream, bytes| match stream {
        Stream::Out => stdout.extend_from_slice(bytes),
        Stream::Err => stderr.push(bytes),
    })?;
    Ok(Output { exit, stdout, stderr: stderr.bytes() })
}

/// Runs a child to its end and collects what it says, up to a number of bytes on standard
/// output. A child that says more is ended: its exit is then [`Exit::Stopped`].
///
/// # Errors
/// As [`run`].
pub fn output_up_to(command: &Command, most: usize, stop: &Stop) -> Result<Output, ProcessError> {
    let mut stdout = Vec::new();
    let mut stderr = Excerpt::default();
    let exit = run_raw(command, Input::Nothing, stop, &mut |stream, bytes| match stream {
        Stream::Out => {
            let room = most - stdout.len();
            stdout.extend_from_slice(&bytes[..bytes.len().min(room)]);
            if bytes.len() > room {
                stop.request(StopReason::HardLimit);
            }
        }
        Stream::Err => stderr.push(bytes),
    })?;
    Ok(Output { exit, stdout, stderr: stderr.bytes() })
}

fn run_raw(
    command: &Command,
    input: Input<'_>,
    stop: &Stop,
    sink: &mut dyn FnMut(Stream, &[u8]),
) -> Result<Exit, ProcessError> {
    if let Some(reason) = stop.reason() {
        return Ok(Exit::Stopped(reason));
    }
    let failed = |action| move |cause| ProcessError::io(command, action, cause);
    let waker = stop.waker().map_err(failed("watch"))?;
    let stdin = if matches!(input, Input::Nothing) { Stdio::null() } else { Stdio::piped() };
    let (group, mut pipes) = Group::start(command, stdin)?;
    let to_child = match pipes.stdin.take() {
        Some(pipe) => {
            let gone = group.exited_clone().map_err(failed("watch"))?;
            Some(ChildInput::new(pipe, gone).map_err(failed("write to"))?)
        }
        None => None,
    };
    std::thread::scope(|scope| {
        let writer = to_child.map(|pipe| scope.spawn(move || feed(input, pipe)));
        // moved in, so that a panic of the sink ends the child before the writer is waited for
        let mut group = group;
        let asked = || Some((Some(Exit::Stopped(stop.reason()?)), None));
        let ended = Supervisor::new(pipes).watch(&mut group, &asked, [Some(&waker), None], sink);
        let fed = writer.map_or(Ok(()), threads::joined);
        ended.map_err(failed("read from"))?;
        fed.map_err(failed("make the input of"))?;
        Ok(group.exit())
    })
}

/// Writes a child's input. A child that ends without having read all of it is no failure
/// here: its exit status tells.
fn feed(input: Input<'_>, mut pipe: ChildInput) -> io::Result<()> {
    let result = match input {
        Input::Nothing => Ok(()),
        Input::Bytes(bytes) => pipe.write_all(bytes),
        Input::Writer(write) => {
            let mut buffered = io::BufWriter::with_capacity(64 * 1024, &mut pipe);
            write(&mut buffered).and_then(|()| buffered.flush())
        }
    };
    match result {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Notices a child that says something all the time. Being woken for each of its words
/// costs it and us more than the words: it is let talk for a while, then read at once.
#[derive(Default)]
struct Chatter {
    last: Option<Instant>,
    in_a_row: u32,
}

impl Chatter {
    /// Words that come faster than this are chatter …
    const QUICK: Duration = Duration::from_millis(1);
    /// … once so many have come.
    const PATIENCE: u32 = 100;
    /// How long a chatterer is let talk.
    const REST: Duration = Duration::from_millis(5);
    /// Who says so many bytes at once, half of what fits into a pipe, might have to wait for us.
    const MUCH: usize = 32 * 1024;

    /// So many bytes were read from the child: whether it can wait now.
    fn heard(&mut self, bytes: usize, now: Instant) -> bool {
        let is_quick = bytes < Self::MUCH
            && self.last.is_some_and(|last| now - last < Self::QUICK + Self::REST);
        self.in_a_row = if is_quick { self.in_a_row.saturating_add(1) } else { 0 };
        self.last = Some(now);
        self.in_a_row > Self::PATIENCE
    }
}

/// Whether a child is to end now: what it counts as having ended as, and how long TERM is given
/// before KILL, where that is not the command's own choice.
type Asked<'a> = dyn Fn() -> Option<(Option<Exit>, Option<Duration>)> + 'a;

/// The one loop around every child: reads what it says until its group is gone, and ends the
/// group when that is asked for or its time is up.
struct Supervisor {
    pipes: Pipes,
    buffer: Vec<u8>,
    chatter: Chatter,
}

impl Supervisor {
    fn new(pipes: Pipes) -> Self {
        Supervisor { pipes, buffer: vec![0; 64 * 1024], chatter: Chatter::default() }
    }

    /// Comes back when the group is gone. A group that cannot be watched is killed.
    fn watch(
        &mut self,
        group: &mut Group,
        asked: &Asked<'_>,
        wakers: [Option<&Waker>; 2],
        sink: &mut dyn FnMut(Stream, &[u8]),
    ) -> io::Result<()> {
        let ended = self.until_gone(group, asked, wakers, sink);
        if ended.is_err() {
            group.end(None, Some(Duration::ZERO));
            let _ = self.until_gone(group, &|| None, [None, None], &mut |_, _| ());
        }
        ended
    }

    fn until_gone(
        &mut self,
        group: &mut Group,
        asked: &Asked<'_>,
        wakers: [Option<&Waker>; 2],
        sink: &mut dyn FnMut(Stream, &[u8]),
    ) -> io::Result<()> {
        let mut rests = false;
        loop {
            if group.is_running()
                && let Some((as_, grace)) = asked()
            {
                group.end(as_, grace);
            }
            let pause = group.advance();
            if group.is_gone() {
                return self.drain(sink);
            }
            let [first, second] = wakers.map(|waker| {
                waker.filter(|_| group.is_running()).map(|waker| waker.reader.as_fd())
            });
            let [stdout, stderr] = [
                self.pipes.stdout.as_ref().map(AsFd::as_fd),
                self.pipes.stderr.as_ref().map(AsFd::as_fd),
            ]
            .map(|fd| fd.filter(|_| !rests));
            let rest =
                |pause: Option<Duration>| pause.map_or(Chatter::REST, |p| p.min(Chatter::REST));
            let pause = if rests { Some(rest(pause)) } else { pause };
            let [out, err, exited, ..] =
                ready([stdout, stderr, group.exited().map(AsFd::as_fd), first, second], pause)?;
            let mut bytes = 0;
            if out {
                bytes += self.read(Stream::Out, sink)?;
            }
            if err {
                bytes += self.read(Stream::Err, sink)?;
            }
            rests = bytes > 0 && self.chatter.heard(bytes, Instant::now());
            if exited {
                group.leader_ended();
            }
        }
    }

    /// What the group wrote before it went is in the pipes. Somebody outside the group may
    /// still hold them open (a daemon it started): that one is not waited for.
    fn drain(&mut self, sink: &mut dyn FnMut(Stream, &[u8])) -> io::Result<()> {
        for _ in 0..64 {
            let [out, err] = ready(
                [
                    self.pipes.stdout.as_ref().map(AsFd::as_fd),
                    self.pipes.stderr.as_ref().map(AsFd::as_fd),
                ],
                Some(Duration::ZERO),
            )?;
            if out {
                self.read(Stream::Out, sink)?;
            }
            if err {
                self.read(Stream::Err, sink)?;
            }
            if !out && !err {
                break;
            }
        }
        Ok(())
    }

    /// Reads what there is, and says how many bytes that was.
    fn read(&mut self, stream: Stream, sink: &mut dyn FnMut(Stream, &[u8])) -> io::Result<usize> {
        let result = match stream {
            Stream::Out => self.pipes.stdout.as_mut().map(|pipe| pipe.read(&mut self.buffer)),
            Stream::Err => self.pipes.stderr.as_mut().map(|pipe| pipe.read(&mut self.buffer)),
        };
        match result {
            None => {}
            Some(Ok(0)) => match stream {
                Stream::Out => self.pipes.stdout = None,
                Stream::Err => self.pipes.stderr = None,
            },
            Some(Ok(count)) => {
                sink(stream, &self.buffer[..count]);
                return Ok(count);
            }
            Some(Err(e)) if e.kind() == io::ErrorKind::Interrupted => {}
            Some(Err(e)) => return Err(e),
        }
        Ok(0)
    }
}

/// Waits until one of these can be read (or has hung up), at most this long.
pub(super) fn ready<const N: usize>(
    fds: [Option<BorrowedFd<'_>>; N],
    at_most: Option<Duration>,
) -> io::Result<[bool; N]> {
    let mut polled: Vec<PollFd<'_>> =
        fds.iter().flatten().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    wait_for(&mut polled, at_most)?;
    let mut found = polled.iter().map(|fd| !fd.revents().is_empty());
    Ok(fds.map(|fd| fd.is_some() && found.next().unwrap_or(false)))
}

/// `poll`, at most this long; an interrupting signal counts as nothing ready.
pub(super) fn wait_for(fds: &mut [PollFd<'_>], at_most: Option<Duration>) -> io::Result<()> {
    // an upper bound keeps every kernel content; callers loop
    let at_most = at_most.map_or(Duration::from_secs(3600), |d| d.min(Duration::from_secs(3600)));
    // cannot fail for at most an hour
    let timeout = Timespec::try_from(at_most).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
    match poll(fds, Some(&timeout)) {
        Ok(_) => Ok(()),
        Err(rustix::io::Errno::INTR) => {
            for fd in fds {
                fd.clear_revents();
            }
            Ok(())
        }
        Err(e) => Err(e.into()),
    }
}

/// The writing end of a child's standard input. Writing fails with a broken pipe when the
/// child has ended, whoever else may hold its input open. Closed when dropped.
#[derive(Debug)]
pub struct ChildInput {
    pipe: ChildStdin,
    gone: PipeReader,
}

impl ChildInput {
    pub(super) fn new(pipe: ChildStdin, gone: PipeReader) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(ChildInput { pipe, gone })
    }
}

impl Write for ChildInput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.pipe.write(bytes) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            let mut fds =
                [PollFd::new(&self.pipe, PollFlags::OUT), PollFd::new(&self.gone, PollFlags::IN)];
            wait_for(&mut fds, None)?;
            if fds[0].revents().is_empty() && !fds[1].revents().is_empty() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The reading end of a child's standard output. It ends when the child's process group
/// has ended, whoever else may hold its output open.
#[derive(Debug)]
pub struct ChildOutput {
    pipe: ChildStdout,
    gone: PipeReader,
}

impl Read for ChildOutput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let [out, gone] = ready([Some(self.pipe.as_fd()), Some(self.gone.as_fd())], None)?;
            if out {
                return self.pipe.read(buffer);
            }
            if gone {
                return Ok(0);
            }
        }
    }
}

/// Takes lines, on another thread than the one that gave it.
pub type OnLine = Box<dyn FnMut(&[u8]) + Send>;

/// A running child. It is ended when dropped.
#[derive(Debug)]
pub struct Child {
    stdin: Option<ChildInput>,
    stdout: Option<ChildOutput>,
    shared: Arc<Shared>,
    /// Requested when the owner wants it to end.
    ending: Stop,
    supervisor: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    exit: Option<Exit>,
    stderr: Excerpt,
    grace: Option<Duration>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // nothing done under the lock can panic half-way
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts a child that lives until it ends by itself, the run is stopped, it passes its own
/// time limit, or its owner ends or drops it. Each line on its standard error is handed to
/// `on_stderr` (on another thread) and kept within bounds.
///
/// # Errors
/// It cannot be started.
pub fn spawn(command: &Command, stop: &Stop, mut on_stderr: OnLine) -> Result<Child, ProcessError> {
    let failed = |action| move |cause| ProcessError::io(command, action, cause);
    let ending = Stop::new();
    let wakers = [stop.waker().map_err(failed("watch"))?, ending.waker().map_err(failed("watch"))?];
    let (gone, tell_gone) = io::pipe().map_err(failed("watch"))?;
    let gone_too = gone.try_clone().map_err(failed("watch"))?;
    let (group, pipes) = Group::start(command, Stdio::piped())?;
    let stdin = match pipes.stdin {
        Some(pipe) => Some(ChildInput::new(pipe, gone).map_err(failed("write to"))?),
        None => None,
    };
    let stdout = pipes.stdout.map(|pipe| ChildOutput { pipe, gone: gone_too });
    let shared = Arc::new(Shared::default());
    let (stop, told, kept) = (stop.clone(), ending.clone(), Arc::clone(&shared));
    let thread = std::thread::Builder::new()
        .name("child".into())
        .spawn(move || {
            let (mut group, mut lines) = (group, Lines::default());
            let asked = || match (told.reason(), stop.reason()) {
                (Some(_), _) => Some((None, kept.lock().grace)),
                (None, Some(reason)) => Some((Some(Exit::Stopped(reason)), None)),
                (None, None) => None,
            };
            let [first, second] = &wakers;
            let pipes = Pipes { stderr: pipes.stderr, ..Pipes::default() };
            let wakers = [Some(first), Some(second)];
            // a child that cannot be watched has been killed, which its exit tells
            let _ = Supervisor::new(pipes).watch(&mut group, &asked, wakers, &mut |_, bytes| {
                kept.lock().stderr.push(bytes);
                lines.push(bytes, &mut on_stderr);
            });
            lines.finish(&mut on_stderr);
            drop(tell_gone);
            kept.lock().exit = Some(group.exit());
            kept.ended.notify_all();
        })
        .map_err(failed("watch"))?;
    Ok(Child { stdin, stdout, shared, ending, supervisor: Some(thread) })
}

impl Child {
    /// The writing end of its standard input; only once.
    pub fn take_stdin(&mut self) -> Option<ChildInput> {
        self.stdin.take()
    }

    /// The reading end of its standard output; only once.
    pub fn take_stdout(&mut self) -> Option<ChildOutput> {
        self.stdout.take()
    }

    /// What it said on standard error so far.
    #[must_use]
    pub fn stderr(&self) -> Vec<u8> {
        self.shared.lock().stderr.bytes()
    }

    /// Waits for its end, at most this long.
    #[must_use]
    pub fn wait(&self, at_most: Duration) -> Option<Exit> {
        let until = Instant::now() + at_most;
        let mut state = self.shared.lock();
        while state.exit.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.shared.ended.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.exit
    }

    /// Ends it now: TERM to its group, KILL after `grace`; returns when the group is gone.
    pub fn end(&mut self, grace: Duration) -> Exit {
        self.finish_with(Some(grace))
    }

    /// Closes its input (unless that was taken: then the taker drops it first) and lets it
    /// end by itself for so long; then ends it.
    pub fn finish(&mut self, patience: Duration, grace: Duration) -> Exit {
        self.stdin = None;
        match self.wait(patience) {
            Some(_) => self.finish_with(None),
            None => self.end(grace),
        }
    }

    fn finish_with(&mut self, grace: Option<Duration>) -> Exit {
        self.stdin = None;
        self.shared.lock().grace = grace;
        // the reason is for our own supervisor only; nobody sees it
        self.ending.request(StopReason::HardLimit);
        if let Some(thread) = self.supervisor.take() {
            // a panic there has been printed; its group was killed while unwinding
            let _ = thread.join();
        }
        self.shared.lock().exit.unwrap_or(Exit::Signal(rustix::process::Signal::KILL.as_raw()))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.supervisor.is_some() {
            self.finish_with(None);
        }
    }
}

#[cfg(test)]
mod lines_tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let mut lines = Lines::default();
        for piece in pieces {
            lines.push(piece, &mut |line| found.push(line.to_vec()));
        }
        lines.finish(&mut |line| found.push(line.to_vec()));
        found
    }

    #[test]
    fn lines_are_the_same_however_the_stream_is_cut() {
        for (text, expected) in [
            (&b"a\nb\n"[..], &[&b"a"[..], b"b"][..]),
            (b"a\nb", &[b"a", b"b"]),
            (b"a\r\nb\r\n", &[b"a", b"b"]),
            (b"\r 1%\r 2%\n\nend\n", &[b" 1%", b" 2%", b"", b"end"]),
            (b"", &[]),
        ] {
            assert_eq!(cut(&[text]), expected);
            let single: Vec<&[u8]> = text.chunks(1).collect();
            assert_eq!(cut(&single), expected);
        }
    }

    #[test]
    fn a_line_without_end_comes_in_bounded_pieces_and_nothing_is_lost() {
        let long = vec![b'x'; 3 * LONGEST + 5];
        let pieces = cut(&[&long[..100], &long[100..], b"\n"]);
        assert!(pieces.iter().all(|piece| piece.len() <= LONGEST));
        assert_eq!(pieces.concat(), long);
    }

    #[test]
    fn an_excerpt_keeps_both_ends_and_counts_what_it_left_out() {
        let mut excerpt = Excerpt::default();
        excerpt.push(b"short");
        assert_eq!(excerpt.bytes(), b"short");
        excerpt.push(&vec![b'.'; 100_000]);
        excerpt.push(b"the end");
        let kept = excerpt.bytes();
        assert!(kept.starts_with(b"short.") && kept.ends_with(b".the end"));
        let note = format!("[{} bytes left out]", 100_012 - Excerpt::HEAD - Excerpt::TAIL);
        assert!(String::from_utf8_lossy(&kept).contains(&note));
        assert!(kept.len() < 66_000);
    }
}

#[cfg(test)]
mod run_tests {
    use super::*;

    /// How often of 1000 times a chatterer may wait, who says so many bytes while it is let
    /// talk, 80 otherwise, and whose words come so fast.
    fn rests(bytes: usize, pause: Duration) -> usize {
        let (mut chatter, mut now, mut waited, mut rests) =
            (Chatter::default(), Instant::now(), false, 0);
        for _ in 0..1000 {
            now += if waited { Chatter::REST } else { pause };
            waited = chatter.heard(if waited { bytes } else { 80 }, now);
            rests += usize::from(waited);
        }
        rests
    }

    #[test]
    fn who_talks_all_the_time_is_let_talk_until_the_pipe_could_be_full() {
        let (quick, slow) = (Duration::from_micros(50), Duration::from_millis(20));
        assert!(rests(80, quick) > 890);
        assert!(rests(20 * 1024, quick) > 890);
        assert!(rests(40 * 1024, quick) < 20);
        assert_eq!(rests(80, slow), 0);
    }
}

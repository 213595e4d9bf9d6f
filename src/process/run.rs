//! A child that is run to its end.

use super::child::ChildInput;
use super::group::{Group, Pipes};
use super::lines::{Excerpt, Lines};
use super::stop::Waker;
use super::{Command, Exit, ProcessError, Stop, StopReason, Stream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::Stdio;
use std::time::{Duration, Instant};

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
        let (mut pump, mut group) = (Pump::new(pipes), group);
        let ended = pump.until_gone(&mut group, stop, &waker, sink);
        if ended.is_err() {
            group.end(None, Some(Duration::ZERO));
            let _ = pump.until_gone(&mut group, stop, &waker, &mut |_, _| ());
        }
        let fed = match writer.map(std::thread::ScopedJoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        };
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

/// Reads both streams of a child until its group is gone.
struct Pump {
    pipes: Pipes,
    buffer: Vec<u8>,
    chatter: Chatter,
}

impl Pump {
    fn new(pipes: Pipes) -> Self {
        Pump { pipes, buffer: vec![0; 64 * 1024], chatter: Chatter::default() }
    }

    fn until_gone(
        &mut self,
        group: &mut Group,
        stop: &Stop,
        waker: &Waker,
        sink: &mut dyn FnMut(Stream, &[u8]),
    ) -> io::Result<()> {
        let mut rests = false;
        loop {
            if group.is_running()
                && let Some(reason) = stop.reason()
            {
                group.end(Some(Exit::Stopped(reason)), None);
            }
            let pause = group.advance();
            if group.is_gone() {
                return self.drain(sink);
            }
            let waker = group.is_running().then_some(&waker.reader);
            let [stdout, stderr] = [
                self.pipes.stdout.as_ref().map(AsFd::as_fd),
                self.pipes.stderr.as_ref().map(AsFd::as_fd),
            ]
            .map(|fd| fd.filter(|_| !rests));
            let rest =
                |pause: Option<Duration>| pause.map_or(Chatter::REST, |p| p.min(Chatter::REST));
            let pause = if rests { Some(rest(pause)) } else { pause };
            let [out, err, exited, _] = ready(
                [stdout, stderr, group.exited().map(AsFd::as_fd), waker.map(AsFd::as_fd)],
                pause,
            )?;
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

#[cfg(test)]
mod tests {
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

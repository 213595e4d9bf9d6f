//! The remote command under way: bytes between its streams and ours.
//!
//! Everything is tried until it would block, then one poll waits for whatever comes next:
//! the line, our input, our output. Each direction holds at most one piece, so a reader
//! that does not read stops whoever sends, here or over there, and nobody else.
//!
//! An operation of libssh2 that would block may have sent half a packet, and nothing else
//! can be sent until the same operation has been tried again; every round tries each.

use super::options::Options;
use super::{AGAIN, Failure, Line, code};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::stdio::{stderr, stdin, stdout};
use ssh2::{BlockDirections, Channel, Session, Stream};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// The largest piece that is held in a direction.
const PIECE: usize = 64 * 1024;
/// What a pipe that can be written to takes without blocking: a page, on any system.
const SURE: usize = 4096;

/// A remote command under way.
pub(super) struct Pump {
    session: Session,
    channel: Channel,
    errors: Stream,
    line: Line,
    /// From our input, for the command.
    input: Chunk,
    output: Chunk,
    complaints: Chunk,
    input_is_open: bool,
    end_is_sent: bool,
    alive: Alive,
}

/// A piece on its way.
#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    done: usize,
}

impl Chunk {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.done..]
    }

    fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    fn advance(&mut self, count: usize) {
        self.done += count;
    }

    /// Takes a new piece; the old one is through. Returns its size.
    fn fill<E>(&mut self, read: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<usize, E> {
        self.bytes.resize(PIECE, 0);
        self.done = 0;
        let filled = read(&mut self.bytes);
        self.bytes.truncate(*filled.as_ref().unwrap_or(&0));
        filled
    }
}

/// Whether more may come from the other side.
struct Alive {
    interval: Duration,
    most: u32,
    heard: Instant,
    asked: u32,
}

impl Alive {
    fn hear(&mut self) {
        self.heard = Instant::now();
        self.asked = 0;
    }

    /// When the next keep-alive question is due; `None` is never.
    fn due(&self) -> Option<Instant> {
        (!self.interval.is_zero()).then(|| self.heard + self.interval * (self.asked + 1))
    }
}

/// What a poll has found.
struct Ready {
    input: bool,
    output: bool,
    complaints: bool,
}

/// Whether a poll waits.
#[derive(Clone, Copy)]
enum Pause {
    /// Something has just moved: more may be done at once.
    None,
    UntilReady,
}

impl Pump {
    /// Takes over a session whose command runs.
    pub fn new(
        session: Session,
        channel: Channel,
        line: Line,
        options: &Options,
    ) -> Result<Self, Failure> {
        session.set_blocking(false);
        // libssh2 would send by its own clock as well; ours is never faster than this
        session.set_keepalive(true, 2);
        let alive = Alive {
            interval: options.alive_interval,
            most: options.alive_count,
            heard: Instant::now(),
            asked: 0,
        };
        Ok(Pump {
            errors: channel.stderr(),
            session,
            channel,
            line,
            input: Chunk::default(),
            output: Chunk::default(),
            complaints: Chunk::default(),
            input_is_open: true,
            end_is_sent: false,
            alive,
        })
    }

    /// Passes everything on until the command has ended; returns its exit status.
    pub fn run(mut self) -> Result<u8, Failure> {
        let _unblocked = Unblocked::stdout();
        loop {
            let moved = self.send()? | self.fetch()?;
            if self.is_over()? {
                return self.exit_status();
            }
            let ready = self.wait(if moved { Pause::None } else { Pause::UntilReady })?;
            self.flush(&ready)?;
            if ready.input {
                self.take_input()?;
            }
            self.keep_alive()?;
        }
    }

    /// Our input, to the command.
    fn send(&mut self) -> Result<bool, Failure> {
        let mut moved = false;
        while !self.input.is_empty() {
            match self.channel.write(self.input.rest()) {
                Ok(0) => break,
                Ok(count) => self.input.advance(count),
                Err(cause) if is_wait(&cause) => break,
                Err(cause) => return Err(self.line.broken(&cause.to_string())),
            }
            moved = true;
        }
        if self.input.is_empty() && !self.input_is_open && !self.end_is_sent {
            match self.channel.send_eof() {
                Ok(()) => self.end_is_sent = true,
                Err(cause) if code(&cause) == AGAIN => {}
                Err(cause) => return Err(self.line.broken(cause.message())),
            }
        }
        Ok(moved)
    }

    /// What the command says, as far as there is room for it.
    fn fetch(&mut self) -> Result<bool, Failure> {
        let mut moved = self.fetch_both()?;
        // Whichever stream is read, libssh2 takes in what has come for both. What came for the
        // first while the second was read is in its hands, where no poll of the line sees it.
        if !moved && self.has_room_for_both() && self.channel.read_window().available > 0 {
            moved = self.fetch_both()?;
        }
        if moved {
            self.alive.hear();
        }
        Ok(moved)
    }

    /// Reads each stream once, if there is room for it.
    fn fetch_both(&mut self) -> Result<bool, Failure> {
        let mut moved = false;
        let streams: [(&mut Chunk, &mut dyn Read); 2] =
            [(&mut self.output, &mut self.channel), (&mut self.complaints, &mut self.errors)];
        for (held, stream) in streams {
            if !held.is_empty() {
                continue;
            }
            match held.fill(|buffer| stream.read(buffer)) {
                Ok(0) => {}
                Ok(_) => moved = true,
                Err(cause) if is_wait(&cause) => {}
                Err(cause) => return Err(self.line.broken(&cause.to_string())),
            }
        }
        Ok(moved)
    }

    fn has_room_for_both(&self) -> bool {
        self.output.is_empty() && self.complaints.is_empty()
    }

    /// Whether the command has ended and all it said has been passed on.
    fn is_over(&mut self) -> Result<bool, Failure> {
        if !self.has_room_for_both() || !self.channel.eof() {
            return Ok(false);
        }
        match self.channel.wait_close() {
            // what came with the end is still to be read
            Ok(()) => Ok(self.channel.eof()),
            Err(cause) if code(&cause) == AGAIN => Ok(false),
            Err(cause) => Err(self.line.broken(cause.message())),
        }
    }

    fn exit_status(&self) -> Result<u8, Failure> {
        if let Ok(ended) = self.channel.exit_signal()
            && let Some(signal) = ended.exit_signal
        {
            let host = &self.line.host;
            return Err(Failure(format!("osync rsh: SIG{signal} ended the command on {host}")));
        }
        let status = self.channel.exit_status().unwrap_or(i32::from(super::FAILED));
        Ok(u8::try_from(status & 0xff).unwrap_or(super::FAILED))
    }

    /// Looks for the next thing that can be done, or waits for it.
    fn wait(&mut self, pause: Pause) -> Result<Ready, Failure> {
        let reads_line = self.output.is_empty() || self.complaints.is_empty();
        let is_stuck = matches!(
            self.session.block_directions(),
            BlockDirections::Outbound | BlockDirections::Both
        );
        let now = Instant::now();
        if !reads_line {
            // nobody listens to the line while our own readers are slow
            self.alive.heard = now;
        }
        let mut line_events = PollFlags::empty();
        line_events.set(PollFlags::IN, reads_line);
        line_events.set(PollFlags::OUT, is_stuck);
        let takes_input = self.input_is_open && self.input.is_empty();
        let (input, output, complaints) = (stdin(), stdout(), stderr());
        // one that is not waited for stays out: a hang-up would be reported over and over
        let wanted = [
            (self.line.socket.as_fd(), line_events, !line_events.is_empty()),
            (input, PollFlags::IN, takes_input),
            (output, PollFlags::OUT, !self.output.is_empty()),
            (complaints, PollFlags::OUT, !self.complaints.is_empty()),
        ];
        let mut found = [PollFlags::empty(); 4];
        let (places, mut fds): (Vec<usize>, Vec<PollFd<'_>>) = wanted
            .iter()
            .enumerate()
            .filter(|(_, (_, _, is_wanted))| *is_wanted)
            .map(|(place, (fd, events, _))| (place, PollFd::from_borrowed_fd(*fd, *events)))
            .unzip();
        let limit = match pause {
            Pause::None => Some(Duration::ZERO),
            Pause::UntilReady => self.patience(now),
        };
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        match poll(&mut fds, limit.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return self.wait(Pause::None),
            Err(cause) => return Err(Failure(format!("osync rsh: cannot wait: {cause}"))),
        }
        for (place, fd) in places.into_iter().zip(&fds) {
            found[place] = fd.revents();
        }
        if found[0].intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            self.alive.hear();
        }
        Ok(Ready {
            input: !found[1].is_empty(),
            output: !found[2].is_empty(),
            complaints: !found[3].is_empty(),
        })
    }

    /// How long to wait for something to happen; `None` is for ever.
    fn patience(&self, now: Instant) -> Option<Duration> {
        Some(self.alive.due()?.saturating_duration_since(now))
    }

    /// What the command said, to our output and standard error.
    fn flush(&mut self, ready: &Ready) -> Result<(), Failure> {
        if ready.output {
            put(&mut self.output, stdout(), PIECE)?;
        }
        if ready.complaints {
            // shared with others, so it must stay a blocking one
            put(&mut self.complaints, stderr(), SURE)?;
        }
        Ok(())
    }

    fn take_input(&mut self) -> Result<(), Failure> {
        match self.input.fill(|buffer| rustix::io::read(stdin(), buffer)) {
            Ok(0) => self.input_is_open = false,
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(cause) => {
                return Err(Failure(format!("osync rsh: cannot read standard input: {cause}")));
            }
        }
        Ok(())
    }

    /// Sends a silent server a keep-alive question, and gives up after too many without an answer.
    fn keep_alive(&mut self) -> Result<(), Failure> {
        if self.alive.due().is_none_or(|due| due > Instant::now()) {
            return Ok(());
        }
        self.alive.asked += 1;
        if self.alive.asked > self.alive.most {
            return Err(self.line.silent());
        }
        // Only where the line takes it whole: half a question would block all that follows.
        // A line that takes nothing is asked by what is stuck in it.
        if self.line_takes() {
            self.session.keepalive_send().map_err(|cause| self.line.broken(cause.message()))?;
        }
        Ok(())
    }

    /// Whether the line has room for a small packet now.
    fn line_takes(&self) -> bool {
        let mut fds = [PollFd::new(&self.line.socket, PollFlags::OUT)];
        let asked = poll(&mut fds, Some(&Timespec::default()));
        asked.is_ok() && fds[0].revents().contains(PollFlags::OUT)
    }
}

/// Writes as much as goes at once.
fn put(held: &mut Chunk, to: BorrowedFd<'_>, most: usize) -> Result<(), Failure> {
    let piece = &held.rest()[..held.rest().len().min(most)];
    match rustix::io::write(to, piece) {
        Ok(count) => held.advance(count),
        Err(Errno::AGAIN | Errno::INTR) => {}
        Err(cause) => return Err(Failure(format!("osync rsh: cannot write: {cause}"))),
    }
    Ok(())
}

fn is_wait(cause: &io::Error) -> bool {
    cause.kind() == io::ErrorKind::WouldBlock
}

/// Our standard output does not block while this lives, if it is a pipe or a socket; it is
/// as it was afterwards.
struct Unblocked(Option<OFlags>);

impl Unblocked {
    fn stdout() -> Self {
        let kind = rustix::fs::fstat(stdout())
            .map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode));
        let is_ours = matches!(kind, Ok(kind) if kind.is_fifo() || kind.is_socket());
        let flags = rustix::fs::fcntl_getfl(stdout()).ok().filter(|_| is_ours);
        if let Some(flags) = flags {
            let _ = rustix::fs::fcntl_setfl(stdout(), flags | OFlags::NONBLOCK);
        }
        Unblocked(flags)
    }
}

impl Drop for Unblocked {
    fn drop(&mut self) {
        if let Some(flags) = self.0 {
            let _ = rustix::fs::fcntl_setfl(stdout(), flags);
        }
    }
}

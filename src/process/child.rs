//! A child that lives beside us: a control shell, a watcher, a remote shell for rsync.

use super::group::Group;
use super::lines::{Excerpt, Lines};
use super::run::{ready, wait_for};
use super::stop::Waker;
use super::{Command, Exit, ProcessError, Stop, StopReason};
use rustix::event::{PollFd, PollFlags};
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

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

impl ChildOutput {}

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
pub fn spawn(command: &Command, stop: &Stop, on_stderr: OnLine) -> Result<Child, ProcessError> {
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
    let mut supervisor = Supervisor {
        group,
        stderr: pipes.stderr,
        lines: Lines::default(),
        on_stderr,
        stop: stop.clone(),
        ending: ending.clone(),
        wakers,
        shared: Arc::clone(&shared),
    };
    let thread = std::thread::Builder::new()
        .name("child".into())
        .spawn(move || {
            let exit = supervisor.watch();
            drop(tell_gone);
            supervisor.shared.lock().exit = Some(exit);
            supervisor.shared.ended.notify_all();
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

/// Watches a child from a thread of its own.
struct Supervisor {
    group: Group,
    stderr: Option<ChildStderr>,
    lines: Lines,
    on_stderr: OnLine,
    stop: Stop,
    ending: Stop,
    wakers: [Waker; 2],
    shared: Arc<Shared>,
}

impl Supervisor {
    fn watch(&mut self) -> Exit {
        let mut buffer = vec![0; 8 * 1024];
        loop {
            self.obey();
            let pause = self.group.advance();
            let gone = self.group.is_gone();
            let listening = self.group.is_running();
            let result = ready(
                [
                    self.stderr.as_ref().map(AsFd::as_fd),
                    self.group.exited().map(AsFd::as_fd).filter(|_| !gone),
                    listening.then_some(self.wakers[0].reader.as_fd()),
                    listening.then_some(self.wakers[1].reader.as_fd()),
                ],
                if gone { Some(Duration::ZERO) } else { pause },
            );
            let Ok([said, exited, ..]) = result else {
                // never seen: end it rather than watch it blindly
                self.group.end(None, Some(Duration::ZERO));
                self.group.leader_ended();
                return self.group.exit();
            };
            if said {
                self.hear(&mut buffer);
            } else if gone {
                self.lines.finish(&mut self.on_stderr);
                return self.group.exit();
            }
            if exited {
                self.group.leader_ended();
            }
        }
    }

    fn obey(&mut self) {
        if !self.group.is_running() {
            return;
        }
        if self.ending.reason().is_some() {
            let grace = self.shared.lock().grace;
            self.group.end(None, grace);
        } else if let Some(reason) = self.stop.reason() {
            self.group.end(Some(Exit::Stopped(reason)), None);
        }
    }

    fn hear(&mut self, buffer: &mut [u8]) {
        match self.stderr.as_mut().map(|pipe| pipe.read(buffer)) {
            Some(Ok(count)) if count > 0 => {
                self.shared.lock().stderr.push(&buffer[..count]);
                self.lines.push(&buffer[..count], &mut self.on_stderr);
            }
            Some(Err(e)) if e.kind() == io::ErrorKind::Interrupted => {}
            _ => self.stderr = None,
        }
    }
}

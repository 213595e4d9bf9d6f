//! The one door for child processes.
//!
//! Every child gets its own process group, is watched while it runs, and is ended (TERM,
//! then KILL) when the run is to stop. No child survives us: what a child leaves behind in
//! its group is ended too, soon after the child itself. (A kill -9 of this very process
//! cannot be handled; rsync and ssh then end by themselves because their pipes are gone.)

mod child;
pub mod fault;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod landlock;
mod program;
mod stop;
#[cfg(test)]
mod tests;

pub use child::{Child, ChildInput, Excerpt, Input, Output, output, output_up_to, run, spawn};
pub use program::{HookShell, find_program, own_program, programs};
pub use stop::{Deadlines, Interrupt, Limits, SignalWatch, Stop, end_by, signal_name};

use crate::system;
use crate::tree::path::escape;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

/// Lets other processes go first, for this thread and for all threads and children that it starts
/// from now on: at the processor, and where there is `ionice` (Linux), at the disk too.
///
/// # Errors
/// The system does not allow it.
pub fn lower_priority() -> io::Result<()> {
    rustix::process::setpriority_process(None, LOWEST_PRIORITY)?;
    if let (Some(thread), Some(ionice)) = (system::thread_number(), find_program("ionice")) {
        let thread = thread.to_string();
        let command = Command::new(ionice).args(["-c", "3", "-p", thread.as_str()]);
        let said = output(&command, Input::Nothing, &Stop::new()).map_err(io::Error::other)?;
        if !said.exit.is_success() {
            let why = String::from_utf8_lossy(&said.stderr).trim().to_owned();
            return Err(io::Error::other(why));
        }
    }
    Ok(())
}

const LOWEST_PRIORITY: i32 = 19;

/// What to run. The child's standard input is nothing unless something is given to it; it
/// has no controlling terminal to read from.
#[derive(Debug, Clone, Default)]
pub struct Command {
    /// The program, looked up in PATH.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables added to the environment.
    pub env: Vec<(OsString, OsString)>,
    /// Variables taken out of the environment, before others are added.
    pub env_remove: Vec<OsString>,
    /// Its working directory; `None` is ours.
    pub dir: Option<PathBuf>,
    /// The directory that it is not to write out of, as far as the kernel can see to that
    /// (Linux with Landlock, for root). `None` lets it write wherever its user may.
    pub writes_inside: Option<PathBuf>,
    /// How long it may take before it is ended; `None` is as long as the run.
    pub time_limit: Option<Duration>,
    /// How long after TERM comes KILL; `None` is 10 seconds.
    pub grace: Option<Duration>,
}

impl Command {
    /// A program without arguments.
    pub fn new(program: impl Into<OsString>) -> Self {
        Command { program: program.into(), ..Command::default() }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// One more variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
}

/// Why a run is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The hard time limit has passed.
    HardLimit,
    /// The user interrupted it twice, or a signal (by number) asked for the end.
    Signal(i32),
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It passed its own time limit and was ended.
    TimedOut,
    /// The run was stopped and the child ended with it (or was not even started).
    Stopped(StopReason),
}

impl Exit {
    /// Whether it ended by itself with status 0.
    #[must_use]
    pub fn is_success(self) -> bool {
        self == Exit::Code(0)
    }
}

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// A child that could not be run at all.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// There is no such program.
    #[error("{program} is not installed, or not in PATH; {remedy}")]
    Missing {
        /// What was looked for.
        program: String,
        /// What to install.
        remedy: &'static str,
    },
    /// The directory it was to run in cannot be used.
    #[error("cannot run {program} in {dir}: {cause}")]
    Dir {
        /// The program.
        program: String,
        /// Where.
        dir: String,
        /// The system's words.
        cause: io::Error,
    },
    /// The system refused.
    #[error("cannot {action} {program}: {cause}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which program.
        program: String,
        /// The system's words.
        cause: io::Error,
    },
}

impl ProcessError {
    fn io(command: &Command, action: &'static str, cause: io::Error) -> Self {
        ProcessError::Io { action, program: shown(&command.program), cause }
    }

    fn starting(command: &Command, cause: io::Error) -> Self {
        let program = shown(&command.program);
        if let Some(dir) = command.dir.as_ref().filter(|dir| !dir.is_dir()) {
            return ProcessError::Dir { program, dir: shown(dir.as_os_str()), cause };
        }
        if cause.kind() == io::ErrorKind::NotFound {
            let remedy = remedy(&command.program);
            return ProcessError::Missing { program, remedy };
        }
        ProcessError::Io { action: "start", program, cause }
    }
}

fn shown(name: &OsStr) -> String {
    escape(name.as_bytes())
}

fn remedy(program: &OsStr) -> &'static str {
    match program.as_bytes().rsplit(|b| *b == b'/').next() {
        Some(b"rsync") => {
            "install the package 'rsync' (apt, dnf, zypper, apk, pkg or brew install rsync), \
             or set RSYNC_EXECUTABLE"
        }
        Some(b"ssh") => {
            "install the package 'openssh-client' (Debian, Ubuntu, Alpine) or 'openssh-clients' \
             (Fedora, RHEL, SUSE), or set SSH_TRANSPORT=libssh2"
        }
        Some(b"sendmail") => {
            "install a mail transfer agent (postfix, exim, msmtp-mta), or set SMTP_SERVER"
        }
        _ => "install it with the system's package manager, or correct its path",
    }
}

//! The one door for child processes.
//!
//! Every child gets its own process group, is watched while it runs, and is ended (TERM,
//! then KILL) when the run is to stop. No child survives us.

use std::ffi::OsString;

use std::path::PathBuf;

use std::time::Duration;

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct Command {
    /// The program, looked up in PATH.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables added to the environment.
    pub env: Vec<(OsString, OsString)>,
    /// Variables taken out of the environment.
    pub env_remove: Vec<OsString>,
    /// Where it runs; none: here.
    pub dir: Option<PathBuf>,
    /// How long it may take before it is ended; none: as long as the run.
    pub time_limit: Option<Duration>,
    /// How long TERM is given before KILL.
    pub grace: Option<Duration>,
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
    /// The run was stopped and the child ended with it.
    Stopped(StopReason),
}

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

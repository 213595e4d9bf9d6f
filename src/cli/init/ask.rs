//! Questions on the terminal. With `--yes` nobody is asked, and each has its usual answer.

use crate::cli::print;
use crate::cli::task_args::Refused;
use crate::process::{SignalWatch, Stop, StopReason, end_by};
use crate::tree::path::escape;
use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answerer {
    /// A person at a terminal.
    Person,
    /// Nobody: what is not said by options has its usual value (`--yes`).
    Nobody,
}

/// The answer to a question that wants a yes or a no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum YesOrNo {
    Yes,
    No,
}

/// Asks, and hears signals: nothing that is being made is cut off in the middle.
pub(super) struct Interview {
    whom: Answerer,
    stop: Stop,
    _watch: SignalWatch,
    /// What was typed behind the last line.
    typed: Vec<u8>,
}

/// How often it is looked up whether somebody has typed Ctrl-C.
const LOOK_UP: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

impl Interview {
    /// # Errors
    /// Somebody is to be asked, and there is no terminal; or signals cannot be listened to.
    pub(super) fn new(whom: Answerer) -> anyhow::Result<Self> {
        let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        if whom == Answerer::Person && !is_terminal {
            let text = "init asks questions, and there is no terminal; with --yes it asks none";
            return Err(Refused::Usage(text.to_owned()).into());
        }
        let stop = Stop::new();
        let watch = SignalWatch::stopping(&stop).context("cannot listen to signals")?;
        Ok(Interview { whom, stop, _watch: watch, typed: Vec::new() })
    }

    pub(super) fn whom(&self) -> Answerer {
        self.whom
    }

    /// Requested by Ctrl-C and other signals.
    pub(super) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Ends this program if a signal has asked for it.
    ///
    /// # Errors
    /// The signal could not end it.
    pub(super) fn go_on(&self) -> anyhow::Result<()> {
        let Some(reason) = self.stop.reason() else { return Ok(()) };
        if let StopReason::Signal(signal) = reason {
            end_by(signal);
        }
        bail!("interrupted")
    }

    /// What somebody types, byte for byte, or, if that is nothing, the usual answer.
    ///
    /// # Errors
    /// The terminal is gone, or its user says that this was all (Ctrl-D).
    pub(super) fn text(&mut self, question: &str, usual: &OsStr) -> anyhow::Result<OsString> {
        if self.whom == Answerer::Nobody {
            return Ok(usual.to_owned());
        }
        match usual.as_bytes() {
            [] => print(&format!("{question}: ")),
            usual => print(&format!("{question} [{}]: ", escape(usual))),
        }
        let line = self.line()?;
        Ok(if line.is_empty() { usual.to_owned() } else { line })
    }

    /// Asks until the answer is a yes or a no.
    ///
    /// # Errors
    /// As of [`Interview::text`].
    pub(super) fn agrees(&mut self, question: &str, usual: YesOrNo) -> anyhow::Result<bool> {
        if self.whom == Answerer::Nobody {
            return Ok(usual == YesOrNo::Yes);
        }
        let choice = if usual == YesOrNo::Yes { "Y/n" } else { "y/N" };
        loop {
            print(&format!("{question} [{choice}] "));
            match self.line()?.to_ascii_lowercase().as_bytes().trim_ascii() {
                b"" => return Ok(usual == YesOrNo::Yes),
                b"y" | b"yes" => return Ok(true),
                b"n" | b"no" => return Ok(false),
                _ => {}
            }
        }
    }

    /// The next line, without its end.
    fn line(&mut self) -> anyhow::Result<OsString> {
        loop {
            if let Some(end) = self.typed.iter().position(|byte| *byte == b'\n') {
                let rest = self.typed.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.typed, rest);
                line.pop();
                return Ok(OsString::from_vec(line));
            }
            if self.stop.reason().is_some() {
                print("\n");
            }
            self.go_on()?;
            let stdin = std::io::stdin();
            let mut ends = [PollFd::new(&stdin, PollFlags::IN)];
            match poll(&mut ends, Some(&LOOK_UP)) {
                Ok(0) | Err(Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(error).context("cannot wait for the terminal"),
            }
            let mut buffer = [0; 4096];
            match rustix::io::read(&stdin, &mut buffer) {
                Ok(0) => {
                    print("\n");
                    bail!("that was all; no task was made");
                }
                Ok(count) => self.typed.extend(&buffer[..count]),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(error).context("cannot read from the terminal"),
            }
        }
    }
}

//! The two output streams, and the progress that lines must not tear.

use super::Level;
use super::line;
use super::progress::Progress;
use crate::config::{Flags, Output};
use crate::process;
use std::io::{self, BufWriter, IsTerminal, Write};

/// Where people look.
pub(super) struct Screen {
    pub(super) out: Stream,
    pub(super) err: Stream,
    pub(super) progress: Option<Progress>,
}

/// One of the two output streams.
pub(super) struct Stream {
    pub(super) to: Box<dyn Write + Send>,
    /// Whether it is a terminal that wants colours.
    pub(super) colors: bool,
}

impl Screen {
    /// Our own standard streams.
    pub(super) fn standard(flags: &Flags, output: &Output) -> Screen {
        let stream = |colors, to| Stream { colors: colors && output.color, to };
        Screen {
            out: stream(io::stdout().is_terminal(), Box::new(BufWriter::new(io::stdout()))),
            err: stream(io::stderr().is_terminal(), Box::new(BufWriter::new(io::stderr()))),
            progress: Progress::for_flags(flags),
        }
    }

    /// A stream that is gone takes nothing any more; that must not stop a run.
    pub(super) fn show(&mut self, level: Level, prefix: &str, line: &str, plain: &str) {
        let stream = if level.is_problem() { &mut self.err } else { &mut self.out };
        let print = |stream: &mut Stream| {
            let _ = if stream.colors {
                writeln!(stream.to, "{}", line::colored(prefix, level, line))
            } else {
                writeln!(stream.to, "{plain}")
            };
        };
        match self.progress.as_ref().filter(|progress| progress.is_showing()) {
            Some(progress) => progress.aside(|| {
                print(stream);
                let _ = stream.to.flush();
            }),
            None => print(stream),
        }
    }

    /// A line of somebody else's, as it is.
    pub(super) fn relay(&mut self, from: process::Stream, line: &str) {
        let to = match from {
            process::Stream::Out => &mut self.out,
            process::Stream::Err => &mut self.err,
        };
        let _ = writeln!(to.to, "{line}");
    }

    /// Gives everything to the system.
    pub(super) fn flush(&mut self) {
        let _ = self.out.to.flush();
        let _ = self.err.to.flush();
    }
}

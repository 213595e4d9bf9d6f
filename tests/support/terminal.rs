//! A terminal, and somebody who looks at it and types.
#![allow(dead_code)]

use super::sandbox::{PATIENCE, Run, Sandbox};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Child;
use std::time::Instant;

/// Both ends of a new terminal: ours, and that of a program.
pub fn open(columns: u16) -> (File, File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&master, size).unwrap();
    let name = PathBuf::from(ptsname(&master, Vec::new()).unwrap().into_string().unwrap());
    let slave = File::options().read(true).write(true).open(name).unwrap();
    (File::from(master), slave)
}

/// A program that talks with a person.
pub struct Talk {
    child: Child,
    master: File,
    shown: Vec<u8>,
    /// How much of it has been looked for.
    read: usize,
}

impl Talk {
    /// osync on a terminal of 80 columns that it is the foreground of, so that Ctrl-C reaches it.
    pub fn start(sandbox: &Sandbox, arrange: impl FnOnce(Run) -> Run) -> Self {
        let (master, slave) = open(80);
        let run = sandbox.program("setsid").args(["-c", "-w", crate::support::osync()]);
        let mut command = arrange(run).env("TERM", "xterm").into_command();
        command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
        Talk { child: command.spawn().unwrap(), master, shown: Vec::new(), read: 0 }
    }

    /// Everything that was shown.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown).replace('\r', "")
    }

    /// Waits until this is shown, behind what was waited for before.
    #[track_caller]
    pub fn sees(&mut self, text: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let new = &self.shown[self.read..];
            let found = new.windows(text.len()).position(|here| here == text.as_bytes());
            if let Some(at) = found {
                self.read += at + text.len();
                return;
            }
            assert!(self.read_on(end), "'{text}' was never shown:\n{}", self.shown());
        }
    }

    /// Types bytes; `\n` is the return key, `\x03` Ctrl-C, `\x04` Ctrl-D.
    pub fn types(&mut self, bytes: impl AsRef<[u8]>) {
        self.master.write_all(bytes.as_ref()).unwrap();
    }

    /// Waits for a question, and answers it.
    #[track_caller]
    pub fn answers(&mut self, question: &str, answer: impl AsRef<[u8]>) {
        self.sees(question);
        self.types(answer);
        self.types("\n");
    }

    /// Waits for the end, and returns the exit status.
    pub fn ends(&mut self) -> Option<i32> {
        let end = Instant::now() + PATIENCE;
        while self.read_on(end) {}
        self.child.wait().unwrap().code()
    }

    /// Reads what comes next; false when the program has ended.
    #[track_caller]
    fn read_on(&mut self, end: Instant) -> bool {
        let left = end.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "nothing more came:\n{}", self.shown());
        let left = Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap(), tv_nsec: 1 };
        let mut ends = [PollFd::new(&self.master, PollFlags::IN)];
        if poll(&mut ends, Some(&left)).unwrap() == 0 {
            return true;
        }
        let mut buffer = [0; 4096];
        // an error: the program has closed its end
        let count = self.master.read(&mut buffer).unwrap_or(0);
        self.shown.extend(&buffer[..count]);
        count > 0
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

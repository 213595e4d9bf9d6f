//! Lines for people: straight to standard output, or through a pager where they would run off
//! the screen, as git does it.

use std::io::{IsTerminal, Write};
use std::process::{Child, Command, Stdio};

/// Where lines go.
pub struct Page {
    pager: Option<Child>,
}

impl Page {
    /// Opens the pager that PAGER names, or `less`, if a person looks at a terminal. `less`
    /// ends by itself where everything fits on the screen.
    #[must_use]
    pub fn open() -> Self {
        if !std::io::stdout().is_terminal() {
            return Page { pager: None };
        }
        let program = std::env::var("PAGER").ok().filter(|name| !name.is_empty());
        let program = program.unwrap_or_else(|| "less".to_owned());
        if program == "cat" {
            return Page { pager: None };
        }
        let mut command = Command::new("sh");
        command.arg("-c").arg(program).stdin(Stdio::piped());
        if std::env::var_os("LESS").is_none() {
            command.env("LESS", "FRX");
        }
        Page { pager: command.spawn().ok() }
    }

    /// Shows a line. A reader that goes away is no failure.
    pub fn line(&mut self, text: &str) {
        let written = match self.pager.as_mut().and_then(|pager| pager.stdin.as_mut()) {
            Some(input) => writeln!(input, "{text}"),
            None => writeln!(std::io::stdout().lock(), "{text}"),
        };
        drop(written);
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if let Some(pager) = &mut self.pager {
            drop(pager.stdin.take());
            let _ = pager.wait();
        }
    }
}

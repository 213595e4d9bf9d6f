//! The manual page and completions, made from the definitions of the command line.

use super::args::{Cli, Shell};
use clap::CommandFactory;

/// A completion script.
#[must_use]
pub fn completions(shell: Shell) -> String {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "osync", &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// The manual page, in roff.
#[must_use]
pub fn manual() -> String {
    let mut out = Vec::new();
    // Writing to memory does not fail.
    drop(clap_mangen::Man::new(Cli::command()).render(&mut out));
    String::from_utf8_lossy(&out).into_owned()
}

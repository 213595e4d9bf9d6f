//! `osync serve`: works on a replica of this machine for an osync on another one, over standard
//! input and output (spec 5, "A peer, where there is one").

use super::print;
use crate::monitor::far::watch_for;
use crate::replica::peer::{protocol::VERSION, serve};
use anyhow::Context;
use clap::Args;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

/// `osync serve` (spec 5).
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Print the version of the protocol
    #[arg(long)]
    pub protocol: bool,
}

/// Serves until the other side closes the connection.
pub fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    if args.protocol {
        print(&format!("{VERSION}\n"));
    } else {
        serve().context("serve")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn serve() -> anyhow::Result<()> {
    // Not through the buffers of the standard library: they are made for lines.
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut input = BufReader::new(input);
    // Where sudo starts us in place of a shell, the client greets us as it greets a shell. Where
    // a shell has become us by `exec`, it has answered that greeting already.
    let mut first = [0; 5];
    input.read_exact(&mut first).context("there is no client on standard input")?;
    let mut input = io::Cursor::new(first).chain(input);
    if first == *b"mark=" {
        serve::greet_like_a_shell(&mut input, &mut output)?;
    }
    let place = |path: &Path| Ok(path.to_owned());
    serve::serve(
        input,
        output,
        &serve::Limits { place: &place, no_hooks: None, no_following: None, watch: &watch_for },
    )
    .map_err(anyhow::Error::msg)
}

//! `osync serve`: works on a replica of this machine for an osync on another one, over standard
//! input and output (spec 5, "A peer, where there is one").

use super::{ERROR, complain, print};
use crate::monitor::far::watch_for;
use crate::replica::peer::{protocol::VERSION, serve};
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

pub fn run(args: &ServeArgs) -> ExitCode {
    if args.protocol {
        print(&format!("{VERSION}\n"));
        return ExitCode::SUCCESS;
    }
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            complain(&format!("serve: {why}"));
            ExitCode::from(ERROR)
        }
    }
}

fn serve() -> Result<(), String> {
    // without the buffers of the standard library, which know lines only
    let own = |fd: io::Result<_>| fd.map(File::from).map_err(|cause| cause.to_string());
    let input = own(io::stdin().as_fd().try_clone_to_owned())?;
    let mut output = own(io::stdout().as_fd().try_clone_to_owned())?;
    let mut input = BufReader::new(input);
    // Started by sudo in the place of a shell, it is greeted like one. Behind a shell that made
    // way comes the rest of a script, and no second mark.
    let mut first = [0; 5];
    input.read_exact(&mut first).map_err(|cause| format!("nobody speaks: {cause}"))?;
    let mut input = io::Cursor::new(first).chain(input);
    if first == *b"mark=" {
        serve::greet_like_a_shell(&mut input, &mut output).map_err(|cause| cause.to_string())?;
    }
    let place = |path: &Path| Ok(path.to_owned());
    serve::serve(
        input,
        output,
        &serve::Limits { place: &place, no_hooks: None, no_following: None, watch: &watch_for },
    )
}

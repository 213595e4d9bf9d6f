//! What rsync itself would look at, for filters that only rsync understands.

use super::{End, RsyncError, args};
use crate::config;
use crate::process::{Input, Output, Stop, output};
use std::ffi::OsString;

/// Lists everything below a root as rsync sees it with these extra arguments
/// (`rsync --list-only -r`), a line an entry, names escaped as rsync does it.
///
/// # Errors
/// rsync cannot be started. Its exit is part of the result.
pub fn list(
    settings: &config::Transfer,
    listing_args: &[String],
    root: &End,
    stop: &Stop,
) -> Result<Output, RsyncError> {
    let mut command = args::bare_command(settings)
        .args(["--list-only", "-r", "-l", "-D", "-8", "-s"].map(OsString::from))
        .args(listing_args)
        .arg("--no-human-readable");
    if let End::Remote(remote) = root {
        command = command.args(args::remote_args(remote));
        command.env.extend(remote.env.iter().cloned());
    }
    Ok(output(&command.arg(args::place(root)), Input::Nothing, stop)?)
}

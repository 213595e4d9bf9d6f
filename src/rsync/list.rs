//! What rsync itself would look at, for filters that only rsync understands (spec 4,
//! "Scanning").

use super::{End, Outcome, RsyncError, args, exit};
use crate::config;
use crate::filter::listing::{self, VisibleSet};
use crate::process::{Input, Stop, output};
use crate::tree::path::escape;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// Asks rsync which paths below a root take part under the task's own rules
/// ([`Filter::rsync_args`](crate::filter::Filter::rsync_args)) and, behind them, these arguments
/// ([`config::Selection::listing_args`]). What rsync cannot read is missing in the set.
///
/// # Errors
/// rsync cannot be started, or could not finish its list.
pub fn visible(
    settings: &config::Transfer,
    rules: impl IntoIterator<Item = OsString>,
    listing_args: &[String],
    root: &End,
    stop: &Stop,
) -> Result<VisibleSet, RsyncError> {
    let failed =
        |why: String| RsyncError::Listing { root: escape(root.root().as_os_str().as_bytes()), why };
    // the list comes from a dry transfer, which wants somewhere to go to
    let nowhere =
        tempfile::tempdir().map_err(|e| failed(format!("no temporary directory: {e}")))?;
    let mut command = args::bare_command(settings).args(listing::ARGUMENTS).arg("-s");
    command = command.args(rules).args(listing_args);
    if let End::Remote(remote) = root {
        command = command.args(args::remote_args(remote));
        command.env.extend(remote.env.iter().cloned());
    }
    command = command.arg(args::place(root)).arg(nowhere.path());
    let result = output(&command, Input::Nothing, stop)?;
    let words: Vec<String> = result
        .stderr
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .take(20)
        .map(escape)
        .collect();
    match exit::outcome(result.exit, &words) {
        Outcome::Done | Outcome::Vanished | Outcome::Partial => {
            Ok(listing::visible(&result.stdout))
        }
        Outcome::Stopped(_) => Err(failed("the run was stopped".into())),
        Outcome::EndedEarly(why) | Outcome::Failed(why) => Err(failed(why)),
    }
}

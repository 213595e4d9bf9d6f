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
/// ([`config::Selection::listing_args`]).
///
/// # Errors
/// rsync cannot be started, or its list is not whole: what it could not read would count as
/// excluded.
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
        Outcome::Partial if !is_only_about_links(&result.stderr) => {
            let words = words.join("; ");
            Err(failed(format!("it could not read everything, so its list is not whole ({words})")))
        }
        Outcome::Done | Outcome::Vanished | Outcome::Partial => {
            listing::visible(&result.stdout).map_err(|why| failed(why.to_string()))
        }
        Outcome::Stopped(_) => Err(failed("the run was stopped".into())),
        Outcome::EndedEarly(why) | Outcome::Failed(why) => Err(failed(why)),
    }
}

/// With `--copy-unsafe-links` a link that leads nowhere has nothing to be copied: it takes no part,
/// and nothing else is missing.
fn is_only_about_links(stderr: &[u8]) -> bool {
    let lines = stderr.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let harmless = [&b"symlink has no referent: "[..], b"rsync error: "];
    lines.clone().next().is_some()
        && lines.into_iter().all(|line| harmless.iter().any(|start| line.starts_with(start)))
}

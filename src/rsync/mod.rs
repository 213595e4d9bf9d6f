//! A transfer list to one rsync call (spec 5, "rsync calls").
//!
//! [`transfer`] takes exactly the planned paths and hands them to one rsync. What it
//! returns explains; whether a path arrived is judged by reading it again.

mod args;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod options;
mod output;

pub use args::{fits, visible};
pub use output::{ListOutcome, Message};

use crate::config;
use crate::process::{Command, Input, ProcessError, Stop, Stream, fault, output as ask, run};
use crate::report::{Level, Reporter};
use crate::tree::{RelPath, Side};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// One end of a transfer.
#[derive(Debug, Clone)]
pub enum End {
    /// A replica of this machine.
    Local {
        /// Its resolved absolute root.
        root: PathBuf,
    },
    /// A replica behind a remote shell.
    Remote(RemoteEnd),
}

/// A replica behind a remote shell.
#[derive(Debug, Clone)]
pub struct RemoteEnd {
    /// The remote shell and its options, without user, host and command.
    pub shell: Vec<OsString>,
    /// Variables the remote shell needs (a helper that answers for the password).
    pub env: Vec<(OsString, OsString)>,
    /// `user@host` or `host`; an IPv6 address without brackets.
    pub destination: String,
    /// The resolved absolute root over there.
    pub root: PathBuf,
    /// What starts rsync over there, as shell text
    /// (`env LC_ALL=C env _REMOTE_TOKEN=… rsync`).
    pub rsync_path: OsString,
}

impl End {
    /// The root directory, on its own machine.
    #[must_use]
    pub fn root(&self) -> &Path {
        match self {
            End::Local { root } => root,
            End::Remote(remote) => &remote.root,
        }
    }
}

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The listed entries differ: they are carried over whatever their times say.
    /// Directories must be listed themselves; they are made and get their metadata, but
    /// neither their content nor their times.
    Content,
    /// Only the tops of whole subtrees are listed, and what they hold comes with them,
    /// with the times of directories; files may be among them. Only for what does not exist on
    /// the receiver; files that have appeared there meanwhile are left alone.
    Subtrees,
    /// Names of one file of which the receiver has the content already: they are linked, and
    /// nothing is carried over. All names of the file must be listed.
    Links,
    /// As [`Purpose::Content`], where the receiver has something similar under the same
    /// name: a file that was moved, then edited.
    Delta,
}

/// Options that an rsync of this run turned out not to know, and that are left out since: the
/// result is the same, or is put right afterwards.
#[derive(Debug, Default)]
pub struct UnknownOptions(AtomicBool);

impl UnknownOptions {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        UnknownOptions(AtomicBool::new(false))
    }

    /// Whether this one is left out.
    fn has(&self, option: &str) -> bool {
        option == args::NANOSECONDS && self.0.load(Ordering::Relaxed)
    }

    fn leave_out_nanoseconds(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One rsync call.
#[derive(Debug, Clone)]
pub struct Transfer<'a> {
    /// What it is for.
    pub purpose: Purpose,
    /// Where the entries are.
    pub source: &'a End,
    /// Where they go.
    pub destination: &'a End,
    /// Which side the destination is.
    pub to: Side,
    /// The task's own filter as options
    /// ([`Filter::rsync_args`](crate::filter::Filter::rsync_args)). What appears in a subtree after
    /// the scan is held to it too.
    pub rules: &'a [OsString],
    /// An absolute directory of the receiver for what is overwritten, if that is kept.
    pub backup_dir: Option<PathBuf>,
    /// An absolute directory of the receiver for partial files (used only with PARTIAL).
    pub partial_dir: Option<PathBuf>,
    /// Whether that directory holds something to go on from. Matters only for a transfer
    /// on this machine, which otherwise takes whole files.
    pub resumes: bool,
    /// Whether rsync makes the whole list of a subtree before it begins. Quicker, for the
    /// memory of that list.
    pub is_listed_first: bool,
    /// Whether the receiver leaves holes where there is nothing but zeros. Without need it only
    /// costs time.
    pub makes_holes: bool,
    /// Whether somebody watches bytes while files are on their way.
    pub shows_progress: bool,
    /// What the rsyncs of this run are known to lack.
    pub lacking: &'a UnknownOptions,
}

/// What all calls of a run have in common.
#[derive(Clone, Copy)]
pub struct CallContext<'a> {
    /// How rsync is called.
    pub settings: &'a config::TransferSettings,
    /// What it brings over beside contents.
    pub preserve: &'a config::Preserve,
    /// When it is to stop.
    pub stop: &'a Stop,
    /// Where to speak.
    pub reporter: &'a dyn Reporter,
}

/// How far a call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Entries that are no directories and have been dealt with.
    pub files: u64,
    /// Bytes of files that have been carried over.
    pub bytes: u64,
}

impl Progress {
    /// Adds the bytes of a second attempt at files that are counted already.
    fn and_again(self, second: Progress) -> Self {
        Progress { bytes: self.bytes.saturating_add(second.bytes), ..self }
    }
}

/// Is told how far a call has come, and the path of a file when that is begun.
pub type OnProgress<'a> = dyn Fn(Progress, Option<&[u8]>) + 'a;

/// What a transfer came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Whether the whole list was worked through.
    pub outcome: ListOutcome,
    /// What rsync complained about, in order; at most [`Finished::MOST_MESSAGES`].
    pub messages: Vec<Message>,
    /// How many more complaints there were.
    pub left_out: u64,
    /// What was said on standard error beside rsync's own words, in a call that came
    /// through: banners, chatter of the remote shell's start-up files.
    pub remarks: Vec<String>,
    /// How far it came.
    pub progress: Progress,
}

impl Finished {
    /// How many complaints are kept.
    pub const MOST_MESSAGES: usize = 10_000;
}

/// A call that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RsyncError {
    /// rsync cannot be run here.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// rsync could not say what takes part.
    #[error("rsync cannot list {root} with the filters of RSYNC_OPTIONAL_ARGS: {why}")]
    Listing {
        /// The replica's root.
        root: String,
        /// How it ended.
        why: String,
    },
}

/// Carries the listed paths over in one call. Files that rsync did not put together right go over
/// whole in a second one.
///
/// Paths that rsync cannot take ([`fits`]) and the root itself must not be among them.
/// `progress` is called as the transfer goes on, with the path of a file when it is begun. What
/// rsync itemises goes to the reporter at [`Level::Verbose`], and its statistics at
/// [`Level::Notice`] with `--stats`.
///
/// # Errors
/// rsync cannot be started. How a started rsync ended is in [`Finished::outcome`].
pub fn transfer(
    context: CallContext<'_>,
    transfer: &Transfer<'_>,
    paths: impl Iterator<Item = RelPath> + Clone + Send,
    progress: &OnProgress<'_>,
) -> Result<Finished, RsyncError> {
    let CallContext { settings, preserve, stop, reporter } = context;
    let confined_root = args::confined_root(settings, preserve, transfer);
    let must_ask_version = preserve.keep_dirlinks || confined_root.is_some();
    let confines_itself = must_ask_version && knows(settings, FOLLOW_LINKS_OUT, stop)?;
    let attempt = |sends, paths: &mut (dyn Iterator<Item = RelPath> + Send), progress: &_| {
        let args = args::transfer_args(settings, preserve, transfer, sends);
        let mut command = command(settings, transfer, args);
        if preserve.keep_dirlinks && confines_itself {
            command.args.insert(0, FOLLOW_LINKS_OUT.into());
        }
        command.writes_inside = confined_root.filter(|_| !confines_itself).map(Path::to_owned);
        run_rsync(context, &command, transfer, paths, progress)
    };
    let mut first = attempt(Sends::Delta, &mut paths.clone(), progress)?;
    if first.lacked(args::NANOSECONDS) {
        // it looks at its options before it does anything
        transfer.lacking.leave_out_nanoseconds();
        first = attempt(Sends::Delta, &mut paths.clone(), progress)?;
    }
    let again = to_send_again(&first.unverified(), paths, transfer.purpose);
    if again.is_empty() {
        return Ok(first.alone());
    }
    for path in &again {
        let text = format!(
            "{}: {}: rsync could not put it together from what was there already; it is sent \
             again, whole",
            transfer.to,
            path.shown()
        );
        reporter.say(Level::Notice, &text);
    }
    let so_far = first.progress();
    let progress = |now: Progress, file: Option<&[u8]>| progress(so_far.and_again(now), file);
    let second = attempt(Sends::Whole, &mut again.iter().cloned(), &progress)?;
    Ok(first.followed_by(&again, second.alone()))
}

/// The ones of these files that were in the list of the call. (rsync's words come from the other
/// machine too, and could name anything.)
fn to_send_again(
    files: &BTreeSet<RelPath>,
    list: impl Iterator<Item = RelPath>,
    purpose: Purpose,
) -> BTreeSet<RelPath> {
    let mut found = BTreeSet::new();
    if files.is_empty() {
        return found;
    }
    for listed in list {
        let from_there = files.range(&listed..);
        let those = from_there.take_while(|file| match purpose {
            Purpose::Subtrees => file.is_within(&listed),
            _ => **file == listed,
        });
        found.extend(those.cloned());
    }
    found
}

/// How much of a file is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sends {
    /// What the receiver does not have, where looking for that is worth it.
    Delta,
    /// All of it. A receiving rsync with the security fixes of January 2025 may be unable to
    /// open what is in an absolute partial directory, or behind a link (rsync issue 715), and
    /// would try in vain in every run. When the whole file is there, it removes the partial one.
    Whole,
}

/// One call.
fn run_rsync(
    context: CallContext<'_>,
    command: &Command,
    transfer: &Transfer<'_>,
    paths: &mut (dyn Iterator<Item = RelPath> + Send),
    progress: &OnProgress<'_>,
) -> Result<output::Attempt, RsyncError> {
    let CallContext { settings, stop, reporter, .. } = context;
    reporter.say(Level::Verbose, &args::shown(command));
    let list = Input::Writer(Box::new(move |to| {
        for path in paths.filter(|path| !path.is_root()) {
            to.write_all(b"./")?;
            to.write_all(path.as_bytes())?;
            to.write_all(b"\0")?;
        }
        Ok(())
    }));
    let roots = [transfer.source.root(), transfer.destination.root()];
    let mut listener = output::Listener::new(roots);
    let tells_items = reporter.hears(Level::Verbose);
    let exit = run(command, list, stop, &mut |stream, line| match stream {
        Stream::Err => listener.hear_error(line),
        Stream::Out => match listener.hear(line) {
            output::Heard::Progress => progress(listener.progress(), None),
            output::Heard::Item(item) => {
                fault::point("rsync named an item");
                if tells_items {
                    reporter.say(Level::Verbose, &item.to_string());
                }
                progress(listener.progress(), item.begun());
            }
            output::Heard::Statistic(text) if settings.stats => {
                reporter.say(Level::Notice, &text);
            }
            output::Heard::Statistic(_) | output::Heard::Nothing => {}
            output::Heard::Other(text) => reporter.say(Level::Verbose, &text),
        },
    })?;
    let attempt = listener.finish(exit);
    progress(attempt.progress(), None);
    Ok(attempt)
}

/// Since 3.5, rsync's receiver follows links out of its root only with this. With
/// KEEP_DIRLINKS the user wants it to. An older one, which does not know it, follows them
/// anyway, and is held inside where that can be. It holds for the rsync of this machine only.
const FOLLOW_LINKS_OUT: &str = "--insecure-links";

/// Whether the rsync of this machine has an option.
fn knows(
    settings: &config::TransferSettings,
    option: &str,
    stop: &Stop,
) -> Result<bool, RsyncError> {
    let command = args::bare_command(settings).args([option, "--version"]);
    Ok(ask(&command, Input::Nothing, stop)?.exit.is_success())
}

/// The command of a call, with a clean environment.
fn command(
    settings: &config::TransferSettings,
    transfer: &Transfer<'_>,
    args: Vec<OsString>,
) -> Command {
    let mut command = args::bare_command(settings).args(args);
    for end in [transfer.source, transfer.destination] {
        if let End::Remote(remote) = end {
            command.env.extend(remote.env.iter().cloned());
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_on_the_list_or_below_it_is_sent_again() {
        let paths = |text: &str| -> BTreeSet<RelPath> {
            text.split_terminator(' ').map(|path| RelPath::new(path).unwrap()).collect()
        };
        for (files, list, itself, below) in [
            ("a b", "a c", "a", "a"),
            ("a/x a.x b/x/y", "a b", "", "a/x b/x/y"),
            ("a a/x", "a", "a", "a a/x"),
            ("", "a", "", ""),
            ("a", "", "", ""),
            ("x/a", "a", "", ""),
        ] {
            let (files, list) = (paths(files), paths(list));
            for (purpose, expected) in
                [(Purpose::Content, itself), (Purpose::Delta, itself), (Purpose::Subtrees, below)]
            {
                let found = to_send_again(&files, list.iter().cloned(), purpose);
                assert_eq!(found, paths(expected), "{files:?} {list:?} {purpose:?}");
            }
        }
    }
}

//! The arguments of an rsync call, from settings alone.

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;

use super::output::{ListOutcome, UnknownOption, outcome};
use super::{End, Purpose, RemoteEnd, RsyncError, Sends, Transfer};
use crate::config;
use crate::filter::listing::{self, VisibleSet};
use crate::process::{Command, Input, Stop, output};
use crate::tree::RelPath;
use crate::tree::path::{LONGEST_PATH, escape};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

const ITEM_FORMAT: &str = "--out-format=@ %i %l %n";

/// Times that differ by nanoseconds differ. An rsync before 3.1.3 does not know this (in its long
/// form it takes it, and takes all times for different). Without it only a link that is made in
/// the second of its source's time keeps the time of its making, and gets the right one from us.
pub(super) const NANOSECONDS: &str = "-@-1";

/// Compressing these again costs time and saves nothing.
const COMPRESSED: &str = "3gp/7z/aac/ace/apk/avi/br/bz2/cab/deb/dmg/docx/epub/ez/flac/flv/gif/gpg/gz/heic/iso/jar/jp2/\
jpeg/jpg/lz/lz4/lzma/lzo/m4a/m4v/mkv/mov/mp3/mp4/mpeg/mpg/odp/ods/odt/oga/ogg/ogm/ogv/opus/pdf/png/\
pptx/rar/rpm/rzip/squashfs/svgz/tbz/tbz2/tgz/tlz/txz/tzo/vob/webm/webp/whl/wma/wmv/xlsx/xpi/xz/z/zip/zst";

/// Variables that would change what a call does behind our back.
const MEDDLING: [&str; 6] = [
    "RSYNC_ICONV",
    "RSYNC_OLD_ARGS",
    "RSYNC_PARTIAL_DIR",
    "RSYNC_PROTECT_ARGS",
    "RSYNC_RSH",
    "CVSIGNORE",
];

/// rsync with an environment in which it says and does the same for everybody.
pub(super) fn bare_command(settings: &config::TransferSettings) -> Command {
    let mut command = Command::new(&settings.executable).env("LC_ALL", "C");
    command.env_remove = MEDDLING.map(OsString::from).into();
    command
}

/// All arguments of a transfer.
pub(super) fn transfer_args(
    settings: &config::TransferSettings,
    preserve: &config::Preserve,
    transfer: &Transfer<'_>,
    sends: Sends,
) -> Vec<OsString> {
    let mut args = Args::default();
    // -s: no shell over there takes part in splitting arguments
    args.add(["-l", "-t", "-D", "-8", "-s", "--files-from=-", "--from0"]);
    args.add(["--no-implied-dirs", "--ignore-missing-args"]);
    add_purpose(&mut args, transfer.purpose);
    args.add((!transfer.lacking.has(NANOSECONDS)).then_some(NANOSECONDS));
    args.add(transfer.is_listed_first.then_some("--no-inc-recursive"));
    metadata(&mut args, preserve);
    speed(&mut args, settings, transfer);
    keeping(&mut args, settings, transfer);
    // the other side's file system lets nobody set them, or the user wants none
    args.add((!preserve.times).then_some("--no-times"));
    // the first rule that matches decides, and the keys come first
    args.0.extend_from_slice(transfer.rules);
    args.0.extend(settings.optional_args.iter().map(OsString::from));
    args.add((sends == Sends::Whole).then_some("--whole-file"));
    // last, so that nothing before changes the form of what we read
    args.add(["--stats", "--no-human-readable"]);
    // unbuffered, so that an rsync that outlives us (kill -9) fails at its next word instead
    // of replacing files behind the back of a later run (what fails in a buffer it does not
    // see). A subtree replaces nothing: there a word for each file is enough, and the lines
    // about progress, two more, are for people only
    let replaces = transfer.purpose != Purpose::Subtrees;
    args.add((replaces || transfer.shows_progress).then_some("--info=progress2"));
    args.add([ITEM_FORMAT, "--outbuf=N"]);
    for end in [transfer.source, transfer.destination] {
        if let End::Remote(remote) = end {
            args.0.extend(remote_args(remote));
        }
    }
    args.0.push(place(transfer.source));
    args.0.push(place(transfer.destination));
    args.0
}

/// The receiver's root, if a call has no business outside of it: no remote shell writes here,
/// no setting leads out, what is kept is kept inside, and no program of the user's takes
/// rsync's place, with a log of its own maybe.
pub(super) fn confined_root<'t>(
    settings: &config::TransferSettings,
    preserve: &config::Preserve,
    transfer: &Transfer<'t>,
) -> Option<&'t Path> {
    let (End::Local { .. }, End::Local { root }) = (transfer.source, transfer.destination) else {
        return None;
    };
    let kept = [transfer.backup_dir.as_ref(), transfer.partial_dir.as_ref()];
    let leads_out = preserve.keep_dirlinks
        || settings.optional_args.iter().any(|arg| arg.contains('/'))
        || kept.iter().flatten().any(|dir| !dir.starts_with(root));
    (!leads_out && settings.executable == config::RSYNC).then_some(root)
}

/// How the other side is reached.
pub(super) fn remote_args(remote: &RemoteEnd) -> [OsString; 3] {
    let mut path = OsString::from("--rsync-path=");
    path.push(&remote.rsync_path);
    [path, "-e".into(), remote_shell(&remote.shell)]
}

/// A command for the debug log, without what may hold the token.
pub(super) fn shown(command: &Command) -> String {
    let mut text = escape(command.program.as_bytes());
    for arg in &command.args {
        text.push(' ');
        match arg.as_bytes() {
            arg if arg.starts_with(b"--rsync-path=") => text.push_str("--rsync-path=(not shown)"),
            arg => text.push_str(&escape(arg)),
        }
    }
    text
}

#[derive(Default)]
struct Args(Vec<OsString>);

impl Args {
    fn add<'a>(&mut self, args: impl IntoIterator<Item = &'a str>) {
        self.0.extend(args.into_iter().map(OsString::from));
    }

    fn set(&mut self, name: &str, value: &OsStr) {
        let mut arg = OsString::from(name);
        arg.push(value);
        self.0.push(arg);
    }
}

fn add_purpose(args: &mut Args, purpose: Purpose) {
    match purpose {
        // -O: a directory is listed to be made or opened; its times are set after its
        // children, and not always to those of the source
        Purpose::Content | Purpose::Delta => args.add(["--ignore-times", "--dirs", "-O"]),
        // what has appeared there since the scan is not ours to replace: the next run decides
        Purpose::Subtrees => args.add(["--ignore-existing", "-r"]),
        Purpose::Links => args.add(["--dirs", "-O"]),
    }
}

fn metadata(args: &mut Args, preserve: &config::Preserve) {
    args.add(preserve.permissions.then_some("-p"));
    args.add((preserve.executability && !preserve.permissions).then_some("--executability"));
    args.add(preserve.owner.then_some("-o"));
    args.add(preserve.group.then_some("-g"));
    args.add(preserve.acl.then_some("-A"));
    args.add(preserve.xattr.then_some("-X"));
    args.add(preserve.hardlinks.then_some("-H"));
    args.add(preserve.copy_symlinks.then_some("-L"));
    // a link to a directory counts as that directory, on the sending side (-k) too
    args.add(preserve.keep_dirlinks.then_some("-k"));
    args.add(preserve.keep_dirlinks.then_some("-K"));
}

fn speed(args: &mut Args, settings: &config::TransferSettings, transfer: &Transfer<'_>) {
    let is_remote =
        [transfer.source, transfer.destination].iter().any(|end| matches!(end, End::Remote(_)));
    if settings.bandwidth > 0 {
        args.0.push(format!("--bwlimit={}", settings.bandwidth).into());
    }
    if is_remote && settings.compress {
        args.add(["-zz"]);
        args.0.push(format!("--skip-compress={COMPRESSED}").into());
    }
    // Here, reading the old file costs more than writing all of the new one, unless "here" is
    // a network drive: then it is asked for. And only the delta algorithm goes on with a
    // partial file.
    let replaces = matches!(transfer.purpose, Purpose::Content | Purpose::Delta);
    let asked = settings.delta_copies_asked && replaces;
    let delta = settings.delta_copies && (is_remote || asked)
        || settings.partial && (is_remote || transfer.resumes);
    args.add([if delta { "--no-whole-file" } else { "--whole-file" }]);
    args.add(transfer.makes_holes.then_some("--sparse"));
}

fn keeping(args: &mut Args, settings: &config::TransferSettings, transfer: &Transfer<'_>) {
    if let (true, Some(dir)) = (settings.partial, &transfer.partial_dir) {
        args.add(["--partial"]);
        args.set("--partial-dir=", dir.as_os_str());
    }
    if let Some(backup_dir) = &transfer.backup_dir {
        args.add(["--backup"]);
        // rsync stands in the replica: if its disk is taken away, a relative path does not lead
        // to what is under the mount point then. (The ssh filter takes absolute ones only.)
        let dir = match transfer.destination {
            End::Local { root } => backup_dir.strip_prefix(root).unwrap_or(backup_dir),
            End::Remote(_) => backup_dir,
        };
        args.set("--backup-dir=", dir.as_os_str());
    }
}

/// The source or destination argument. Roots are absolute, so a local one is never taken
/// for `host:path` or an option.
pub(super) fn place(end: &End) -> OsString {
    match end {
        End::Local { root } => with_slash(root.as_os_str().as_bytes().to_vec()),
        End::Remote(remote) => {
            let (user, host) = match remote.destination.rsplit_once('@') {
                Some((user, host)) => (Some(user), host),
                None => (None, remote.destination.as_str()),
            };
            let mut place = user.map(|user| format!("{user}@")).unwrap_or_default();
            if host.contains(':') {
                place.push_str(&format!("[{host}]"));
            } else {
                place.push_str(host);
            }
            place.push(':');
            let mut place = place.into_bytes();
            place.extend(unglobbed(&remote.root));
            with_slash(place)
        }
    }
}

fn with_slash(mut place: Vec<u8>) -> OsString {
    if place.last() != Some(&b'/') {
        place.push(b'/');
    }
    OsString::from_vec(place)
}

/// With -s no shell expands the path over there, but rsync itself does: a root `a[bc]`
/// would be taken for `ab`. A backslash protects, but only where there is a wildcard at all.
fn unglobbed(root: &Path) -> Vec<u8> {
    let bytes = root.as_os_str().as_bytes();
    if !bytes.iter().any(|b| b"*?[".contains(b)) {
        return bytes.to_vec();
    }
    let mut protected = Vec::with_capacity(bytes.len() + 8);
    for byte in bytes {
        if b"*?[]\\".contains(byte) {
            protected.push(b'\\');
        }
        protected.push(*byte);
    }
    protected
}

/// The words of a remote shell as the one argument that rsync splits again: at spaces only,
/// with quotes that are doubled inside quotes, and no backslashes.
fn remote_shell(words: &[OsString]) -> OsString {
    let mut line = Vec::new();
    for (n, word) in words.iter().enumerate() {
        if n > 0 {
            line.push(b' ');
        }
        let word = word.as_bytes();
        if !word.is_empty() && !word.iter().any(|b| b" '\"".contains(b)) {
            line.extend_from_slice(word);
            continue;
        }
        line.push(b'\'');
        for byte in word {
            if *byte == b'\'' {
                line.push(b'\'');
            }
            line.push(*byte);
        }
        line.push(b'\'');
    }
    OsString::from_vec(line)
}

/// Asks rsync which paths below a root take part under the task's own rules
/// ([`Filter::rsync_args`](crate::filter::Filter::rsync_args)) and, behind them, these arguments
/// ([`config::Selection::listing_args`]).
///
/// # Errors
/// rsync cannot be started, or its list is not whole: what it could not read would count as
/// excluded.
pub fn visible(
    settings: &config::TransferSettings,
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
    let mut command = bare_command(settings).args(listing::ARGUMENTS).arg("-s");
    command = command.args(rules).args(listing_args);
    if let End::Remote(remote) = root {
        command = command.args(remote_args(remote));
        command.env.extend(remote.env.iter().cloned());
    }
    command = command.arg(place(root)).arg(nowhere.path());
    let result = output(&command, Input::Nothing, stop)?;
    let words: Vec<String> = result
        .stderr
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .take(20)
        .map(escape)
        .collect();
    let unknown = result.stderr.split(|b| *b == b'\n').find_map(UnknownOption::parse);
    match outcome(result.exit, unknown.as_ref(), &words) {
        ListOutcome::Partial if !is_only_about_links(&result.stderr) => {
            let words = words.join("; ");
            Err(failed(format!("it could not read everything, so its list is not whole ({words})")))
        }
        ListOutcome::Done | ListOutcome::Vanished | ListOutcome::Partial => {
            listing::visible(&result.stdout).map_err(|why| failed(why.to_string()))
        }
        ListOutcome::Stopped(_) => Err(failed("the run was stopped".into())),
        ListOutcome::EndedEarly(why) | ListOutcome::Failed(why) => Err(failed(why)),
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

/// Whether the path, and in that directory the path of its backup, is short enough for rsync.
#[must_use]
pub fn fits(path: &RelPath, roots: [&Path; 2], backup_dir: Option<&Path>) -> bool {
    let length = path.as_bytes().len();
    let fits_below = |dir: &Path| dir.as_os_str().len() + 1 + length <= LONGEST_PATH;
    // listed as "./path"
    length + 2 <= LONGEST_PATH
        && roots.into_iter().all(fits_below)
        && backup_dir.is_none_or(fits_below)
}

#[cfg(test)]
mod fit_tests {
    use super::*;

    #[test]
    fn lengths_are_judged_to_the_byte() {
        let long = |length: usize| {
            let text: Vec<u8> = (1..=length)
                .map(|n| if n % 100 == 0 && n < length { b'/' } else { b'x' })
                .collect();
            RelPath::new(text).unwrap()
        };
        let backup_dir = Some(Path::new("/backup"));
        for (path, root, backup, expected) in [
            (long(4093), "/", None, true),
            (long(4094), "/", None, false),
            (long(4090), "/dir", None, true),
            (long(4091), "/dir", None, false),
            (long(4087), "/dir", backup_dir, true),
            (long(4088), "/dir", backup_dir, false),
        ] {
            let length = path.as_bytes().len();
            assert_eq!(
                fits(&path, [Path::new("/"), Path::new(root)], backup),
                expected,
                "{length}"
            );
            assert_eq!(
                fits(&path, [Path::new(root), Path::new("/")], backup),
                expected,
                "{length}"
            );
        }
    }
}

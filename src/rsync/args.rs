//! The arguments of an rsync call, from settings alone.

use super::{End, Purpose, RemoteEnd, Transfer};
use crate::config;
use crate::process::Command;
use crate::tree::path::escape;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// Marks an itemised line. The path comes last: it may hold anything.
pub(super) const ITEM_MARK: &str = "@ ";
const ITEM_FORMAT: &str = "--out-format=@ %i %l %n";

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
pub(super) fn bare_command(settings: &config::Transfer) -> Command {
    let mut command = Command::new(&settings.executable).env("LC_ALL", "C");
    command.env_remove = MEDDLING.map(OsString::from).into();
    command
}

/// All arguments of a transfer.
pub(super) fn transfer_args(
    settings: &config::Transfer,
    preserve: &config::Preserve,
    transfer: &Transfer<'_>,
) -> Vec<OsString> {
    let mut args = Args::default();
    // -s: no shell over there takes part in splitting arguments
    args.add(&["-l", "-t", "-D", "-8", "-s", "--files-from=-", "--from0"]);
    args.add(&["--no-implied-dirs", "--ignore-missing-args"]);
    purpose(&mut args, preserve, transfer.purpose);
    metadata(&mut args, preserve);
    speed(&mut args, settings, transfer);
    keeping(&mut args, settings, transfer);
    args.0.extend(settings.optional_args.iter().map(OsString::from));
    // last, so that nothing before changes the form of what we read
    args.add(&["--stats", "--no-human-readable", "--info=progress2", ITEM_FORMAT]);
    // unbuffered, so that an rsync that outlives us (kill -9) fails at its next word instead
    // of replacing files behind the back of a later run
    args.add(&["--outbuf=N"]);
    for end in [transfer.source, transfer.destination] {
        if let End::Remote(remote) = end {
            args.0.extend(remote_args(remote));
        }
    }
    args.0.push(place(transfer.source));
    args.0.push(place(transfer.destination));
    args.0
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
    fn add(&mut self, args: &[&str]) {
        self.0.extend(args.iter().map(OsString::from));
    }

    fn add_if(&mut self, wanted: bool, arg: &str) {
        if wanted {
            self.0.push(arg.into());
        }
    }

    fn set(&mut self, name: &str, value: &OsStr) {
        let mut arg = OsString::from(name);
        arg.push(value);
        self.0.push(arg);
    }
}

fn purpose(args: &mut Args, preserve: &config::Preserve, purpose: Purpose) {
    match purpose {
        // -1: times that differ by nanoseconds differ; else a link made in the second of its
        // source's time would keep the time of its making
        // -O: a directory is listed to be made or opened; its times are set after its
        // children, and not always to those of the source
        Purpose::Content | Purpose::Delta => {
            args.add(&["--ignore-times", "--modify-window=-1", "--dirs", "-O"]);
        }
        Purpose::Subtrees => args.add(&["--ignore-times", "--modify-window=-1", "-r"]),
        Purpose::Metadata => {
            args.add(&["--modify-window=-1", "--dirs", "-O"]);
            // elsewhere the plan knows already that contents differ: reading every file
            // once more would tell nothing new
            args.add_if(preserve.checksum, "--checksum");
        }
    }
}

fn metadata(args: &mut Args, preserve: &config::Preserve) {
    args.add_if(preserve.permissions, "-p");
    args.add_if(preserve.executability && !preserve.permissions, "--executability");
    args.add_if(preserve.owner, "-o");
    args.add_if(preserve.group, "-g");
    args.add_if(preserve.acl, "-A");
    args.add_if(preserve.xattr, "-X");
    args.add_if(preserve.hardlinks, "-H");
    args.add_if(preserve.copy_symlinks, "-L");
    // a link to a directory counts as that directory, on the sending side (-k) too
    args.add_if(preserve.keep_dirlinks, "-k");
    args.add_if(preserve.keep_dirlinks, "-K");
}

fn speed(args: &mut Args, settings: &config::Transfer, transfer: &Transfer<'_>) {
    let is_remote =
        [transfer.source, transfer.destination].iter().any(|end| matches!(end, End::Remote(_)));
    if settings.bandwidth > 0 {
        args.0.push(format!("--bwlimit={}", settings.bandwidth).into());
    }
    if is_remote && settings.compress {
        args.add(&["-zz"]);
        args.0.push(format!("--skip-compress={COMPRESSED}").into());
    }
    // Here, reading the old file costs more than writing all of the new one. But only the
    // delta algorithm goes on with a partial file.
    let asked = settings.delta_copies_asked && transfer.purpose == Purpose::Delta;
    let delta = settings.delta_copies && (is_remote || asked)
        || settings.partial && (is_remote || transfer.resumes);
    args.add(&[if delta { "--no-whole-file" } else { "--whole-file" }]);
}

fn keeping(args: &mut Args, settings: &config::Transfer, transfer: &Transfer<'_>) {
    if let (true, Some(dir)) = (settings.partial, &transfer.partial_dir) {
        args.add(&["--partial"]);
        args.set("--partial-dir=", dir.as_os_str());
    }
    if let Some(backup) = &transfer.backup {
        args.add(&["--backup"]);
        args.set("--backup-dir=", backup.dir.as_os_str());
        if let Some(suffix) = &backup.suffix {
            args.set("--suffix=", OsStr::new(suffix));
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rsync::Backup;
    use crate::tree::Side;

    fn settings() -> config::Transfer {
        config::Transfer {
            executable: "rsync".into(),
            remote_path: None,
            bandwidth: 0,
            compress: true,
            partial: false,
            delta_copies: true,
            delta_copies_asked: false,
            optional_args: Vec::new(),
            stats: false,
        }
    }

    const NOTHING: config::Preserve = config::Preserve {
        permissions: false,
        owner: false,
        group: false,
        executability: false,
        acl: false,
        xattr: false,
        copy_symlinks: false,
        keep_dirlinks: false,
        hardlinks: false,
        checksum: false,
    };

    fn local(root: &str) -> End {
        End::Local { root: root.into() }
    }

    fn remote() -> End {
        End::Remote(RemoteEnd {
            shell: ["ssh", "-o", "A B", "-p", "22"].map(OsString::from).into(),
            env: Vec::new(),
            destination: "me@fe80::1".into(),
            root: "/data/x".into(),
            rsync_path: "env LC_ALL=C rsync".into(),
        })
    }

    fn call<'a>(purpose: Purpose, source: &'a End, destination: &'a End) -> Transfer<'a> {
        Transfer {
            purpose,
            source,
            destination,
            to: Side::Target,
            backup: None,
            partial_dir: None,
            resumes: false,
        }
    }

    fn line(
        settings: &config::Transfer,
        preserve: config::Preserve,
        transfer: &Transfer<'_>,
    ) -> String {
        let args = transfer_args(settings, &preserve, transfer);
        args.iter().map(|arg| arg.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    const ALWAYS: &str =
        "-l -t -D -8 -s --files-from=- --from0 --no-implied-dirs --ignore-missing-args";
    const LAST: &str =
        "--stats --no-human-readable --info=progress2 --out-format=@ %i %l %n --outbuf=N";

    #[test]
    fn every_purpose_has_its_own_rules() {
        let (a, b) = (local("/a"), local("/"));
        for (purpose, own) in [
            (Purpose::Content, "--ignore-times --modify-window=-1 --dirs -O"),
            (Purpose::Delta, "--ignore-times --modify-window=-1 --dirs -O"),
            (Purpose::Subtrees, "--ignore-times --modify-window=-1 -r"),
            (Purpose::Metadata, "--modify-window=-1 --dirs -O"),
        ] {
            assert_eq!(
                line(&settings(), NOTHING, &call(purpose, &a, &b)),
                format!("{ALWAYS} {own} --whole-file {LAST} /a/ /"),
            );
        }
    }

    #[test]
    fn a_remote_end_brings_its_shell_and_compression() {
        let (a, b) = (local("/a"), remote());
        let tail = "--rsync-path=env LC_ALL=C rsync -e ssh -o 'A B' -p 22";
        for (source, destination, places) in
            [(&a, &b, "/a/ me@[fe80::1]:/data/x/"), (&b, &a, "me@[fe80::1]:/data/x/ /a/")]
        {
            let text = line(&settings(), NOTHING, &call(Purpose::Content, source, destination));
            assert!(text.ends_with(&format!("{LAST} {tail} {places}")), "{text}");
            assert!(text.contains(" -zz --skip-compress=3gp/7z/"), "{text}");
            assert!(text.contains(" --no-whole-file "), "{text}");
        }
    }

    type Change = fn(&mut config::Transfer, &mut config::Preserve, &mut Transfer<'_>);

    #[test]
    fn every_setting_reaches_rsync() {
        let cases: [(Change, Purpose, &str); 21] = [
            (|_, p, _| p.permissions = true, Purpose::Content, " -p "),
            (|_, p, _| p.owner = true, Purpose::Content, " -o "),
            (|_, p, _| p.group = true, Purpose::Content, " -g "),
            (|_, p, _| p.executability = true, Purpose::Content, " --executability "),
            (|_, p, _| p.acl = true, Purpose::Content, " -A "),
            (|_, p, _| p.xattr = true, Purpose::Content, " -X "),
            (|_, p, _| p.copy_symlinks = true, Purpose::Content, " -L "),
            (|_, p, _| p.keep_dirlinks = true, Purpose::Content, " -k -K "),
            (|_, p, _| p.hardlinks = true, Purpose::Content, " -H "),
            (|_, p, _| p.checksum = true, Purpose::Metadata, " --checksum "),
            (|s, _, _| s.bandwidth = 99, Purpose::Content, " --bwlimit=99 "),
            (|s, _, _| s.delta_copies_asked = true, Purpose::Delta, " --no-whole-file "),
            (|s, _, _| s.delta_copies_asked = true, Purpose::Content, " --whole-file "),
            (|s, _, _| s.delta_copies = false, Purpose::Delta, " --whole-file "),
            (
                |s, _, _| s.optional_args = vec!["--fsync".into()],
                Purpose::Content,
                " --fsync --stats",
            ),
            (
                |s, _, t| {
                    s.partial = true;
                    t.partial_dir = Some("/w/_partial".into());
                },
                Purpose::Content,
                " --whole-file --partial --partial-dir=/w/_partial ",
            ),
            (
                |s, _, t| {
                    s.partial = true;
                    t.partial_dir = Some("/w/_partial".into());
                    t.resumes = true;
                },
                Purpose::Content,
                " --no-whole-file --partial ",
            ),
            (
                |_, _, t| t.backup = Some(Backup { dir: "/w/backup".into(), suffix: None }),
                Purpose::Content,
                " --backup --backup-dir=/w/backup --stats",
            ),
            (
                |_, _, t| {
                    t.backup = Some(Backup { dir: "/b".into(), suffix: Some(".2026".into()) });
                },
                Purpose::Metadata,
                " --backup --backup-dir=/b --suffix=.2026 ",
            ),
            (|s, _, _| s.executable = "other".into(), Purpose::Content, ALWAYS),
            (|_, p, _| p.hardlinks = true, Purpose::Subtrees, " -H "),
        ];
        let (a, b) = (local("/a"), local("/b"));
        for (change, purpose, expected) in cases {
            let (mut s, mut p, mut t) = (settings(), NOTHING, call(purpose, &a, &b));
            change(&mut s, &mut p, &mut t);
            let text = line(&s, p, &t);
            assert!(text.contains(expected), "{text}\nlacks {expected}");
        }
    }

    #[test]
    fn what_is_off_or_does_not_fit_is_left_out() {
        let (a, b) = (local("/a"), local("/b"));
        let mut transfer = call(Purpose::Content, &a, &b);
        transfer.partial_dir = Some("/w".into());
        let preserve =
            config::Preserve { permissions: true, executability: true, checksum: true, ..NOTHING };
        let text = line(&settings(), preserve, &transfer);
        for absent in ["--partial", "--executability", "-zz", "--bwlimit", "--backup", "--checksum"]
        {
            assert!(!text.contains(absent), "{text}\nholds {absent}");
        }
    }

    #[test]
    fn wildcards_in_a_remote_root_are_protected_and_nothing_else_is() {
        for (root, expected) in [
            ("/data", "/data"),
            (r"/b\k", r"/b\k"),
            ("/r*", r"/r\*"),
            (r"/a\[b]?", r"/a\\\[b\]\?"),
            ("/{x} $y ~", "/{x} $y ~"),
        ] {
            assert_eq!(unglobbed(Path::new(root)), expected.as_bytes(), "{root}");
        }
    }

    #[test]
    fn words_of_a_remote_shell_survive_the_splitting_of_rsync() {
        for (words, expected) in [
            (&["ssh", "-p", "22"][..], "ssh -p 22"),
            (&["ssh", "-i", "/my key"], "ssh -i '/my key'"),
            (&["a", "", "it's", "say \"x\""], "a '' 'it''s' 'say \"x\"'"),
            (&["a\tb", r"c\d"], "a\tb c\\d"),
        ] {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            assert_eq!(remote_shell(&words), expected);
        }
    }

    #[test]
    fn the_debug_log_does_not_see_the_token() {
        let (a, b) = (local("/a"), remote());
        let args = transfer_args(&settings(), &NOTHING, &call(Purpose::Content, &a, &b));
        let text = shown(&bare_command(&settings()).args(args));
        assert!(text.starts_with("rsync -l ") && !text.contains("env LC_ALL"), "{text}");
    }
}

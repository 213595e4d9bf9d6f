use super::*;
use crate::rsync::UnknownOptions;
use crate::tree::Side;

fn settings() -> config::TransferSettings {
    config::TransferSettings {
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
    ..config::Preserve::USUAL
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

static NOTHING_LACKS: UnknownOptions = UnknownOptions::new();

fn call<'a>(purpose: Purpose, source: &'a End, destination: &'a End) -> Transfer<'a> {
    Transfer {
        purpose,
        source,
        destination,
        to: Side::Target,
        rules: &[],
        backup_dir: None,
        partial_dir: None,
        resumes: false,
        is_listed_first: false,
        makes_holes: false,
        shows_progress: false,
        lacking: &NOTHING_LACKS,
    }
}

fn line(
    settings: &config::TransferSettings,
    preserve: config::Preserve,
    transfer: &Transfer<'_>,
) -> String {
    let args = transfer_args(settings, &preserve, transfer, Sends::Delta);
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
        (Purpose::Content, "--ignore-times --dirs -O -@-1"),
        (Purpose::Delta, "--ignore-times --dirs -O -@-1"),
        (Purpose::Subtrees, "--ignore-existing -r -@-1"),
    ] {
        let mut call = call(purpose, &a, &b);
        let expected = format!("{ALWAYS} {own} --whole-file {LAST} /a/ /");
        let mut quiet = expected.clone();
        if purpose == Purpose::Subtrees {
            quiet = quiet.replace("--info=progress2 ", "");
        }
        assert_eq!(line(&settings(), NOTHING, &call), quiet);
        call.shows_progress = true;
        assert_eq!(line(&settings(), NOTHING, &call), expected);
        let lacking = UnknownOptions::new();
        lacking.leave_out_nanoseconds();
        call.lacking = &lacking;
        assert_eq!(line(&settings(), NOTHING, &call), expected.replace(" -@-1", ""));
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

type Change = fn(&mut config::TransferSettings, &mut config::Preserve, &mut Transfer<'_>);

#[test]
fn every_setting_reaches_rsync() {
    let cases: [(Change, Purpose, &str); 20] = [
        (|_, p, _| p.permissions = true, Purpose::Content, " -p "),
        (|_, p, _| p.owner = true, Purpose::Content, " -o "),
        (|_, p, _| p.group = true, Purpose::Content, " -g "),
        (|_, p, _| p.executability = true, Purpose::Content, " --executability "),
        (|_, p, _| p.acl = true, Purpose::Content, " -A "),
        (|_, p, _| p.xattr = true, Purpose::Content, " -X "),
        (|_, p, _| p.copy_symlinks = true, Purpose::Content, " -L "),
        (|_, p, _| p.keep_dirlinks = true, Purpose::Content, " -k -K "),
        (|_, p, _| p.hardlinks = true, Purpose::Content, " -H "),
        (|s, _, _| s.bandwidth = 99, Purpose::Content, " --bwlimit=99 "),
        (|s, _, _| s.delta_copies_asked = true, Purpose::Delta, " --no-whole-file "),
        (|s, _, _| s.delta_copies_asked = true, Purpose::Content, " --no-whole-file "),
        (|s, _, _| s.delta_copies = false, Purpose::Delta, " --whole-file "),
        (|s, _, _| s.optional_args = vec!["--fsync".into()], Purpose::Content, " --fsync --stats"),
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
            |_, _, t| t.backup_dir = Some("/w/backup".into()),
            Purpose::Content,
            " --backup --backup-dir=/w/backup --stats",
        ),
        (|s, _, _| s.executable = "other".into(), Purpose::Content, ALWAYS),
        (|_, p, _| p.hardlinks = true, Purpose::Subtrees, " -H "),
        (|_, _, t| t.is_listed_first = true, Purpose::Subtrees, " -r -@-1 --no-inc-recursive "),
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
fn a_second_attempt_takes_everything_whatever_else_was_asked_for() {
    let (a, b) = (local("/a"), remote());
    let mut settings = config::TransferSettings { partial: true, ..settings() };
    settings.optional_args = vec!["--no-whole-file".into()];
    let partial_dir = Some("/w/_partial".into());
    let transfer = Transfer { partial_dir, resumes: true, ..call(Purpose::Content, &a, &b) };
    let [first, second] = [Sends::Delta, Sends::Whole].map(|sends| {
        let args = transfer_args(&settings, &NOTHING, &transfer, sends);
        let args = args.iter().map(|arg| arg.to_str().unwrap());
        args.filter(|arg| arg.contains("whole-file") || arg.contains("partial-dir"))
            .collect::<Vec<_>>()
            .join(" ")
    });
    assert_eq!(first, "--no-whole-file --partial-dir=/w/_partial --no-whole-file");
    assert_eq!(second, format!("{first} --whole-file"));
}

#[test]
fn a_call_is_held_inside_its_receiver_unless_it_has_business_outside() {
    let (a, b, there) = (local("/a"), local("/b"), remote());
    let confined_root = |change: Change, source, destination| {
        let mut transfer = call(Purpose::Content, source, destination);
        let (mut settings, mut preserve) = (settings(), NOTHING);
        change(&mut settings, &mut preserve, &mut transfer);
        super::confined_root(&settings, &preserve, &transfer).map(Path::to_owned)
    };
    let inside: [Change; 3] = [
        |_, _, _| (),
        |s, _, _| s.optional_args = vec!["--fsync".into()],
        |_, _, t| t.partial_dir = Some("/b/w/_partial".into()),
    ];
    for change in inside {
        assert_eq!(confined_root(change, &a, &b), Some("/b".into()));
    }
    let outside: [Change; 5] = [
        |_, _, t| t.partial_dir = Some("/w/_partial".into()),
        |_, _, t| t.backup_dir = Some("/w/backup".into()),
        |_, p, _| p.keep_dirlinks = true,
        |s, _, _| s.optional_args = vec!["--log-file=/var/log/rsync".into()],
        |s, _, _| s.executable = "/opt/rsync".into(),
    ];
    for change in outside {
        assert_eq!(confined_root(change, &a, &b), None);
    }
    for (source, destination) in [(&a, &there), (&there, &b)] {
        assert_eq!(confined_root(|_, _, _| (), source, destination), None);
    }
}

#[test]
fn backups_stay_on_the_disk_that_rsync_stands_on() {
    let (a, b, there) = (local("/a"), local("/b"), remote());
    let dir = |root: &str| Some(format!("{root}/w/backup").into());
    for (destination, root, expected) in [
        (&b, "/b", " --backup-dir=w/backup "),
        (&b, "/bb", " --backup-dir=/bb/w/backup "),
        (&there, "/data/x", " --backup-dir=/data/x/w/backup "),
    ] {
        let transfer =
            Transfer { backup_dir: dir(root), ..call(Purpose::Content, &a, destination) };
        let text = line(&settings(), NOTHING, &transfer);
        assert!(text.contains(expected), "{text}");
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
    for absent in ["--partial", "--executability", "-zz", "--bwlimit", "--backup", "--checksum"] {
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
    let transfer = call(Purpose::Content, &a, &b);
    let args = transfer_args(&settings(), &NOTHING, &transfer, Sends::Delta);
    let text = shown(&bare_command(&settings()).args(args));
    assert!(text.starts_with("rsync -l ") && !text.contains("env LC_ALL"), "{text}");
}

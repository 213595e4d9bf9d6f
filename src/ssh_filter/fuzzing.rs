//! What must hold whatever a client sends (docs/testing.md). /data is the directory.

use super::decision::split;
use super::decision::{Decision, Policy, Reach, Sudo, decide};
use super::rsync_args::{Confinement, announces_more, check};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const TOKEN: &[u8] = b"SomeToken9";

/// Stands in for the real resolver: nothing is a link.
fn lexical(path: &Path) -> Result<PathBuf, String> {
    if is_inside(path.as_os_str().as_bytes()) {
        Ok(path.to_owned())
    } else {
        Err("outside".to_owned())
    }
}

fn is_inside(path: &[u8]) -> bool {
    let below = path.strip_prefix(b"/data").is_some_and(|rest| matches!(rest, [] | [b'/', ..]));
    below && !path.split(|byte| *byte == b'/').any(|name| name == b"..")
}

/// A command as sshd hands it over: none passes without the token in its place, and with
/// `--restrict` nothing but our own two programs does.
pub(crate) fn decision(bytes: &[u8]) {
    let of = |sudo, reach| decide(bytes, &Policy { token: TOKEN.to_vec(), sudo, reach });
    let spaced: Vec<&[u8]> =
        bytes.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).collect();
    let token = [b"_REMOTE_TOKEN=", TOKEN].concat();
    let is_ours = spaced.starts_with(&[b"env", &token])
        || spaced.starts_with(&[b"env", b"LC_ALL=C", b"env", &token]);
    for (sudo, reach) in [
        (Sudo::Allowed, Reach::Everything),
        (Sudo::Refused, Reach::Everything),
        (Sudo::Allowed, Reach::OneDirectory),
    ] {
        let decision = of(sudo, reach);
        assert!(is_ours || matches!(decision, Decision::Refuse(_)), "{decision:?}");
        match (&decision, reach) {
            (Decision::Shell { command }, Reach::Everything) => {
                // the line as it came, without the token
                let of_env = command.strip_prefix(b"env LC_ALL=C env ");
                let behind = of_env.or_else(|| command.strip_prefix(b"env ")).unwrap_or_default();
                assert!(!behind.is_empty() && bytes.ends_with(behind), "{command:?}");
            }
            (Decision::Shell { .. }, Reach::OneDirectory) => panic!("a free shell"),
            (Decision::Rsync { .. } | Decision::Peer, Reach::Everything) => panic!("restricted"),
            (Decision::Rsync { args }, Reach::OneDirectory) => {
                assert_eq!(args.first().map(Vec::as_slice), Some(&b"--server"[..]));
                judged(args);
            }
            _ => {}
        }
    }
    let line = super::line("now", "there", "why", bytes, TOKEN);
    assert!(!line.as_bytes().windows(TOKEN.len()).any(|window| window == TOKEN), "{line}");
    assert_eq!(line.lines().count(), 1);
    if let (Some(ours), Ok(text)) = (split(bytes), std::str::from_utf8(bytes)) {
        let theirs = shell_words::split(text).unwrap_or_default();
        let ours: Vec<_> = ours.iter().map(|word| String::from_utf8_lossy(word)).collect();
        assert_eq!(ours, theirs);
    }
}

/// The arguments of an `rsync --server`, parted by NUL: whatever passes names only places in
/// the directory, and no option that is not known to stay there.
pub(crate) fn rsync_server(bytes: &[u8]) {
    judged(&bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect::<Vec<_>>());
}

fn judged(args: &[Vec<u8>]) {
    let _ = announces_more(args);
    for confinement in [Confinement::Kernel, Confinement::ArgumentsOnly] {
        let Ok(argv) = check(args, confinement, &lexical) else { continue };
        let argv: Vec<&[u8]> = argv.iter().map(|arg| OsStr::as_bytes(arg)).collect();
        assert_eq!(argv.first(), Some(&&b"--server"[..]));
        let Some(dot) = argv.iter().position(|arg| *arg == b".") else { panic!("{argv:?}") };
        let (options, paths) = (&argv[1..dot], &argv[dot + 1..]);
        assert!(!paths.is_empty() && paths.iter().all(|path| is_inside(path)), "{argv:?}");
        for option in options {
            assert!(option.len() > 1 && option[0] == b'-', "{argv:?}");
            stays_inside(option, confinement);
        }
        // what was put together means the same when it is read once more
        let again: Vec<Vec<u8>> = argv.iter().map(|arg| arg.to_vec()).collect();
        let again = check(&again, confinement, &lexical);
        let Ok(again) = again else { panic!("{again:?} of {argv:?}") };
        assert!(again.iter().map(|arg| arg.as_bytes()).eq(argv.iter().copied()), "{again:?}");
    }
}

fn stays_inside(option: &[u8], confinement: Confinement) {
    let shown = option.escape_ascii();
    let Some(long) = option.strip_prefix(b"--") else {
        let letters = option.split(|byte| b"e@B".contains(byte)).next().unwrap_or_default();
        assert!(!letters.iter().any(|letter| b"sTMf".contains(letter)), "{shown}");
        if confinement == Confinement::ArgumentsOnly {
            assert!(!letters.iter().any(|letter| b"LKk".contains(letter)), "{shown}");
        }
        return;
    };
    let name = long.split(|byte| *byte == b'=').next().unwrap_or_default();
    let value = long.get(name.len() + 1..);
    let opens: [&[u8]; 14] = [
        b"log-file",
        b"temp-dir",
        b"daemon",
        b"config",
        b"rsh",
        b"rsync-path",
        b"write-devices",
        b"copy-devices",
        b"dparam",
        b"copy-unsafe-links",
        b"no-munge-links",
        b"include-from",
        b"exclude-from",
        b"filter",
    ];
    assert!(!opens.contains(&name) && !name.ends_with(b"batch"), "{shown}");
    assert!(!name.starts_with(b"delete") && !name.starts_with(b"remove"), "{shown}");
    if name == b"files-from" {
        assert_eq!(value, Some(&b"-"[..]));
    }
    if name.ends_with(b"-dest") || name.ends_with(b"-dir") {
        assert!(value.is_some_and(is_inside), "{shown}");
    }
    if name == b"suffix" {
        assert!(value.is_some_and(|value| !value.contains(&b'/')), "{shown}");
    }
}

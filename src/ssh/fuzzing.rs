//! What must hold whatever ssh says, and whatever lies in the files for it (docs/testing.md).

pub(crate) use super::libssh2::fuzzing::{account, known_hosts, private_key, rsh};

use super::askpass::{asks_for_password, first_line};
use super::{Login, Use, explain, options};
use crate::config::{Remote, SshLocation, Transport};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A prompt, or a password file, or ssh's last words: a password answers a question for one
/// only, and is one line.
pub(crate) fn askpass(bytes: &[u8]) {
    let asked = asks_for_password(bytes, OsStr::new(""));
    let text = String::from_utf8_lossy(bytes).to_lowercase();
    if ["yes/no", "passphrase", "authenticity"].iter().any(|other| text.contains(other)) {
        assert!(!asked, "{text:?}");
    }
    assert!(!asks_for_password(bytes, OsStr::new("confirm")));
    let line = first_line(bytes);
    assert!(bytes.starts_with(line) && !line.contains(&b'\n'));
    let to = SshLocation {
        user: Some("{known}".to_owned()),
        host: "{user}".to_owned(),
        port: None,
        path: "/".into(),
    };
    let _ = explain(&text, &to, Login::Keys);
    let _ = explain(&text, &to, Login::Password);
}

/// SSH_OPTIONAL_ARGS: refused, or ssh still goes where it should, and the first value that
/// it finds for an option is the user's where there is one.
pub(crate) fn ssh_options(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(args) = shell_words::split(text) else { return };
    let mut remote = Remote {
        key: Some(PathBuf::from("/k")),
        password_file: None,
        krb5: true,
        token: None,
        sudo: false,
        compression: false,
        optional_args: args.clone(),
        ignore_known_hosts: true,
        control_master: None,
        transport: Transport::OpenSsh,
        osync: crate::config::RemoteOsync::No,
        ping: false,
        third_party_hosts: Vec::new(),
    };
    let to = SshLocation { user: None, host: "h".to_owned(), port: Some(22), path: "/".into() };
    let whole = |words: &[OsString]| [words, &["h".into(), "command".into()]].concat();
    let theirs: Vec<OsString> = args.iter().map(OsString::from).collect();
    let alone = as_ssh_reads(&whole(&theirs));
    let goes_there = alone.as_ref().is_some_and(|(_, at)| *at == theirs.len());
    assert_eq!(options::objection(&args).is_none(), goes_there, "{args:?}");
    let Some((set, _)) = alone.filter(|_| goes_there) else { return };
    for for_what in [Use::Control, Use::Transfer] {
        remote.compression = !remote.compression;
        let version = options::Version(9, 2);
        let words = options::openssh(version, &remote, &to, for_what, Some("/s".as_ref()));
        assert!(words.ends_with(&[&theirs[..], &["-T".into()]].concat()));
        let read = as_ssh_reads(&whole(&words[1..]));
        let Some((all, at)) = read else { panic!("{words:?} lead nowhere") };
        assert_eq!(at, words.len() - 1, "{words:?} lead elsewhere");
        let first = |values: &[(String, String)], name: &str| {
            values.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone())
        };
        for (name, ours) in
            [("connecttimeout", "30"), ("serveraliveinterval", "15"), ("serveralivecountmax", "4")]
        {
            let wanted = first(&set, name).unwrap_or_else(|| ours.to_owned());
            assert_eq!(first(&all, name), Some(wanted), "{name} in {words:?}");
        }
    }
}

/// Names in lower case, and values, of `-o`; and the number of the word that is the host.
type Reading = (Vec<(String, String)>, usize);

/// Reads words as the manual of ssh says: none if there is no host, or no command is run on it.
fn as_ssh_reads(words: &[OsString]) -> Option<Reading> {
    let mut values = Vec::new();
    let mut at = 0;
    while let Some(letters) = words.get(at)?.as_bytes().strip_prefix(b"-") {
        // a single dash is a host, and two end the options: rsync's own `-l` would come after
        if letters.is_empty() || letters == b"-" {
            return None;
        }
        at += 1;
        let mut letters = letters.iter();
        while let Some(letter) = letters.next() {
            if b"fGNnOQsVW".contains(letter) {
                return None;
            }
            if !b"BbcDEeFIiJLlmOoPpQRSWw".contains(letter) {
                continue;
            }
            let mut value = letters.as_slice();
            if value.is_empty() {
                value = words.get(at)?.as_bytes();
                at += 1;
            }
            if *letter == b'o' {
                let text = String::from_utf8_lossy(value).to_ascii_lowercase();
                let text = text.trim_ascii_start();
                let text = text.strip_prefix('"').unwrap_or(text);
                let end = text.find(['=', ' ', '\t', '"']).unwrap_or(text.len());
                values.push((text[..end].to_owned(), text[end..].trim_matches('=').to_owned()));
            }
            break;
        }
    }
    Some((values, at))
}

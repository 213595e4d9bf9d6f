//! What must hold of the words and files that `osync rsh` reads (docs/testing.md).

use super::host_key::kind_of;
use super::host_key::{HostKeyStatus, base64, judge, listed_name, matches, of_host, read};
use super::login::{is_encrypted, public_key};
use super::options::Options;
use super::{listed, objection};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// A line `HOST KEY`, and a known_hosts file behind it: a key is known only by a line that
/// holds it and is not revoked.
pub(crate) fn known_hosts(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let question = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let file = parts.next().unwrap_or_default();
    let (host, key) = question.split_once(' ').unwrap_or((question.as_str(), ""));
    let entries = read(Path::new("/f"), file);
    let lines = String::from_utf8_lossy(file).lines().count();
    assert!(entries.iter().all(|entry| (1..=lines).contains(&entry.number)));
    for port in [22, 2222] {
        let found = of_host(&entries, &listed_name(host, port), &|_, _| false);
        let bare = |key: &str| key.trim_end_matches('=').to_owned();
        let same = || found.iter().filter(|entry| bare(&entry.key) == bare(key));
        match judge(&found, "ssh-ed25519", key) {
            HostKeyStatus::Known => {
                assert!(same().any(|entry| entry.kind == "ssh-ed25519"));
                assert!(!same().any(|entry| entry.revoked));
            }
            HostKeyStatus::Revoked(_, line) => {
                assert!(same().any(|entry| entry.revoked && entry.number == line));
            }
            HostKeyStatus::Changed(..) => assert!(!same().any(|entry| entry.revoked)),
            HostKeyStatus::Unknown => assert!(!same().any(|entry| entry.kind == "ssh-ed25519")),
        }
    }
    if host.len() < 100 && key.len() < 100 {
        let lower = host.to_lowercase();
        assert_eq!(matches(host, key), model(lower.as_bytes(), key.as_bytes()), "{host} {key}");
    }
    if let Some(kind) = kind_of(bytes) {
        assert_eq!(bytes.get(4..4 + kind.len()), Some(kind.as_bytes()));
    }
    let text = base64(bytes);
    assert_eq!(text.len(), bytes.len().div_ceil(3) * 4);
}

/// Which beginnings of a name the pattern so far fits.
fn model(pattern: &[u8], name: &[u8]) -> bool {
    let mut fits = vec![false; name.len() + 1];
    fits[0] = true;
    for letter in pattern {
        let mut next = vec![false; fits.len()];
        for at in 0..fits.len() {
            next[at] = match letter {
                b'*' => fits[at] || at > 0 && next[at - 1],
                b'?' => at > 0 && fits[at - 1],
                letter => at > 0 && fits[at - 1] && name[at - 1] == *letter,
            };
        }
        fits = next;
    }
    fits.last() == Some(&true)
}

/// The words behind `osync rsh`, one a line: an error, or there is a host and something to do
/// there; what stands before the host counts before what comes later; and settings without
/// an objection leave the host alone.
pub(crate) fn rsh(bytes: &[u8]) {
    let word = |line: &[u8]| OsStr::from_bytes(line).to_owned();
    let words: Vec<OsString> = bytes.split(|byte| *byte == b'\n').map(word).collect();
    match Options::parse(&words) {
        Ok(options) => {
            let is_word = |text: &str| !text.is_empty() && !text.contains('\0');
            assert!(is_word(&options.host) && !options.host.starts_with('-'));
            assert!(is_word(&options.command) && options.user.as_deref().is_none_or(is_word));
            assert!(options.port > 0 && options.connect_timeout >= Duration::from_secs(1));
            let first = ["-p7", "-C", "-oServerAliveInterval=3"].map(OsString::from);
            let with = Options::parse(&[&first[..], &words].concat());
            let alive_interval = Duration::from_secs(3);
            assert_eq!(with, Ok(Options { port: 7, compress: true, alive_interval, ..options }));
        }
        Err(why) => assert!(!why.is_empty()),
    }
    if objection(&words).is_none() {
        let whole = [&words[..], &["h".into(), "c".into()]].concat();
        let read = Options::parse(&whole);
        assert!(
            read.as_ref().is_ok_and(|read| read.host == "h" && read.command == "c"),
            "{read:?}"
        );
    }
}

/// A number in the first line, and a passwd file behind it: whoever is found has that number,
/// a name that is one, and a home that is no place below wherever we are.
pub(crate) fn account(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let number = parts.next().map(String::from_utf8_lossy).unwrap_or_default();
    let Ok(uid) = number.parse::<u32>() else { return };
    let passwd = parts.next().unwrap_or_default();
    let found = listed(passwd, uid);
    assert!(found.home.as_ref().is_none_or(|home| home.is_absolute()));
    if let Some(name) = &found.name {
        let begins = format!("{name}:");
        let line = passwd.split(|byte| *byte == b'\n').find(|line| {
            line.starts_with(begins.as_bytes())
                && line.split(|byte| *byte == b':').nth(2) == Some(uid.to_string().as_bytes())
        });
        assert!(!name.is_empty() && line.is_some(), "{name:?}");
    }
}

/// A private key, or the public one beside it: a public key is one word, and how lines end
/// makes no difference.
pub(crate) fn private_key(bytes: &[u8]) {
    if let Some(key) = public_key(bytes) {
        assert!(!key.is_empty() && !key.contains(|c: char| c.is_ascii_whitespace()));
        assert!(bytes.windows(key.len()).any(|part| part == key.as_bytes()));
    }
    if !bytes.contains(&b'\r') {
        let foreign: Vec<u8> = bytes
            .iter()
            .flat_map(|byte| if *byte == b'\n' { vec![b'\r', b'\n'] } else { vec![*byte] })
            .collect();
        assert_eq!(is_encrypted(&foreign), is_encrypted(bytes));
    }
}

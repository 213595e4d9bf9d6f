//! What must hold of any known_hosts file (docs/testing.md).

use super::host_key::kind_of;
use super::known_hosts::{Verdict, base64, judge, matches, name, of_host, read};
use std::path::Path;

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
        let found = of_host(&entries, &name(host, port), &|_, _| false);
        let bare = |key: &str| key.trim_end_matches('=').to_owned();
        let same = || found.iter().filter(|entry| bare(&entry.key) == bare(key));
        match judge(&found, "ssh-ed25519", key) {
            Verdict::Known => {
                assert!(same().any(|entry| entry.kind == "ssh-ed25519"));
                assert!(!same().any(|entry| entry.revoked));
            }
            Verdict::Revoked(_, line) => {
                assert!(same().any(|entry| entry.revoked && entry.number == line));
            }
            Verdict::Changed(..) => assert!(!same().any(|entry| entry.revoked)),
            Verdict::Unknown => assert!(!same().any(|entry| entry.kind == "ssh-ed25519")),
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

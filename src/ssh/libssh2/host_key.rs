//! Whether the host is the one that is meant: its key against the known_hosts files, as
//! strictly as ssh does it where it may not ask.

use super::Failure;
use super::account::Account;
use super::known_hosts::{self, Entry, Verdict, base64};
use super::options::Options;
use ssh2::{CheckResult, HashType, KnownHostFileKind, Session};
use std::path::{Path, PathBuf};

/// Kinds of host keys that are understood, the best first, and what an exchange of keys
/// calls each. (SHA-1 signatures are not accepted, as with ssh.)
const KINDS: &[(&str, &[&str])] = &[
    ("ssh-ed25519", &["ssh-ed25519"]),
    ("ecdsa-sha2-nistp256", &["ecdsa-sha2-nistp256"]),
    ("ecdsa-sha2-nistp384", &["ecdsa-sha2-nistp384"]),
    ("ecdsa-sha2-nistp521", &["ecdsa-sha2-nistp521"]),
    ("ssh-rsa", &["rsa-sha2-512", "rsa-sha2-256"]),
];

/// Which hosts are known.
#[derive(Debug)]
pub(super) struct Trust {
    entries: Vec<Entry>,
    /// The file that a new host would be added to.
    own_file: Option<PathBuf>,
    host: String,
    port: u16,
    blind: bool,
}

impl Trust {
    /// Reads the known_hosts files. One that is not there knows nobody.
    pub fn load(options: &Options, account: &Account) -> Self {
        let own = match &options.user_known_hosts {
            Some(files) => files.iter().map(|file| account.expand(file)).collect(),
            None => {
                let names = ["known_hosts", "known_hosts2"];
                names.iter().filter_map(|name| account.dot_ssh(name)).collect::<Vec<_>>()
            }
        };
        let global = options.global_known_hosts.clone().unwrap_or_else(|| {
            ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"].map(PathBuf::from).into()
        });
        let entries = own
            .iter()
            .chain(&global)
            .filter_map(|file| Some(known_hosts::read(file, &std::fs::read(file).ok()?)))
            .flatten()
            .collect();
        Trust {
            entries,
            own_file: own.into_iter().next(),
            host: options.host.clone(),
            port: options.port,
            blind: options.ignore_known_hosts,
        }
    }

    /// The kinds of keys to ask the server for: those it is known by stand first, so that
    /// a host with several keys shows the one we can check.
    pub fn wanted_kinds(&self, session: &Session) -> String {
        let known = self.of_host(session, &self.name());
        let is_known = |kind: &str| known.iter().any(|e| !e.revoked && e.kind == kind);
        let (first, then): (Vec<_>, Vec<_>) = KINDS.iter().partition(|(kind, _)| is_known(kind));
        let words: Vec<&str> =
            first.iter().chain(&then).flat_map(|(_, algorithms)| *algorithms).copied().collect();
        words.join(",")
    }

    /// Judges the key that the server has shown.
    pub fn verify(&self, session: &Session) -> Result<(), Failure> {
        if self.blind {
            return Ok(());
        }
        let name = self.name();
        let Some((blob, _)) = session.host_key() else {
            return Err(Failure(format!("Host key verification failed: {name} has shown none.")));
        };
        let kind = kind_of(blob).unwrap_or("unknown");
        let key = base64(blob);
        let mut verdict = known_hosts::judge(&self.of_host(session, &name), kind, &key);
        if verdict == Verdict::Unknown && self.port != 22 {
            // as ssh does it: a key that is known for the host will do for its other ports
            let bare = known_hosts::name(&self.host, 22);
            match known_hosts::judge(&self.of_host(session, &bare), kind, &key) {
                Verdict::Changed(..) => {}
                other => verdict = other,
            }
        }
        let print = fingerprint(session);
        match verdict {
            Verdict::Known => Ok(()),
            Verdict::Unknown => Err(Failure(self.unknown(&name, kind, &key, &print))),
            Verdict::Changed(file, line) => Err(Failure(format!(
                "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! {name} shows the {} key {print}, \
                 and not the one of {}:{line}.\nHost key verification failed.",
                short(kind),
                file.display()
            ))),
            Verdict::Revoked(file, line) => Err(Failure(format!(
                "The {} key {print} of {name} is marked as revoked in {}:{line}.\n\
                 Host key verification failed.",
                short(kind),
                file.display()
            ))),
        }
    }

    fn unknown(&self, name: &str, kind: &str, key: &str, print: &str) -> String {
        let file = self.own_file.as_deref().unwrap_or(Path::new("~/.ssh/known_hosts"));
        format!(
            "No {} host key is known for {name}. It shows {print}; if that is the right one, add \
             this line to {}: {name} {kind} {key}\nHost key verification failed.",
            short(kind),
            file.display()
        )
    }

    fn name(&self) -> String {
        known_hosts::name(&self.host, self.port)
    }

    fn of_host(&self, session: &Session, name: &str) -> Vec<&Entry> {
        known_hosts::of_host(&self.entries, name, &|entry, name| is_hash_of(session, entry, name))
    }
}

/// Whether the hashed name of an entry is this one; libssh2 knows how it is made.
fn is_hash_of(session: &Session, entry: &Entry, name: &str) -> bool {
    let Ok(mut known) = session.known_hosts() else { return false };
    let line = format!("{} {} {}", entry.names, entry.kind, entry.key);
    known.read_str(&line, KnownHostFileKind::OpenSSH).is_ok()
        && matches!(known.check(name, b"no key"), CheckResult::Match | CheckResult::Mismatch)
}

/// The kind of a key, which is the first text in it.
pub(super) fn kind_of(blob: &[u8]) -> Option<&str> {
    let length = u32::from_be_bytes(blob.get(..4)?.try_into().ok()?) as usize;
    std::str::from_utf8(blob.get(4..)?.get(..length)?).ok()
}

/// What ssh calls a kind in its messages.
fn short(kind: &str) -> &str {
    match kind {
        "ssh-ed25519" => "ED25519",
        "ssh-rsa" => "RSA",
        kind if kind.starts_with("ecdsa-") => "ECDSA",
        kind => kind,
    }
}

fn fingerprint(session: &Session) -> String {
    let hash = session.host_key_hash(HashType::Sha256).unwrap_or_default();
    format!("SHA256:{}", base64(hash).trim_end_matches('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_stands_at_the_beginning_of_a_key() {
        assert_eq!(kind_of(b"\0\0\0\x0bssh-ed25519\0\0\0\x01k"), Some("ssh-ed25519"));
        for damaged in [&b""[..], b"\0\0", b"\0\0\0\x0bssh", b"\xff\xff\xff\xffssh"] {
            assert_eq!(kind_of(damaged), None);
        }
    }

    /// Lines that `ssh-keygen -H` made of `[127.0.0.1]:2222`, `example.com`.
    #[test]
    fn hashed_names_are_recognised() {
        let key = "AAAAC3NzaC1lZDI1NTE5AAAAIMyUAkqIWn5pBCMwBGbGSQQYe6JTpjRpyzYoQaBTZk7C";
        let entry = |names: &str| Entry {
            file: "/f".into(),
            number: 1,
            revoked: false,
            names: names.into(),
            kind: "ssh-ed25519".into(),
            key: key.into(),
        };
        let session = Session::new().unwrap();
        let hashed = HASHED;
        for (name, expected) in [("[127.0.0.1]:2222", 0), ("example.com", 1)] {
            for (i, names) in hashed.iter().enumerate() {
                assert_eq!(is_hash_of(&session, &entry(names), name), i == expected, "{name}");
            }
        }
        assert!(!is_hash_of(&session, &entry("|1|damaged"), "example.com"));
    }

    const HASHED: [&str; 2] = [
        "|1|6clBsSv5BMTIuZNxbyX7Q/mcnv0=|0yTnj3PieJ+bDsy8kfucmoJw3A0=",
        "|1|PSMKnrr4enQYl3Ty8v30q+6RiVo=|6jtqcHwsw4pwB1krPVW48eZvlwc=",
    ];
}

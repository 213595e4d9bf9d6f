//! Whether the host is the one that is meant: its key against the known_hosts files, as
//! strictly as ssh does it where it may not ask.

use super::options::Options;
use super::{Account, Failure};
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
    entries: Vec<KnownHost>,
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
            .filter_map(|file| Some(read(file, &std::fs::read(file).ok()?)))
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
        let mut verdict = judge(&self.of_host(session, &name), kind, &key);
        if verdict == HostKeyStatus::Unknown && self.port != 22 {
            // as ssh does it: a key that is known for the host will do for its other ports
            let bare = listed_name(&self.host, 22);
            match judge(&self.of_host(session, &bare), kind, &key) {
                HostKeyStatus::Changed(..) => {}
                other => verdict = other,
            }
        }
        let print = fingerprint(session);
        match verdict {
            HostKeyStatus::Known => Ok(()),
            HostKeyStatus::Unknown => Err(Failure(self.unknown(&name, kind, &key, &print))),
            HostKeyStatus::Changed(file, line) => Err(Failure(format!(
                "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! {name} shows the {} key {print}, \
                 and not the one of {}:{line}.\nHost key verification failed.",
                short(kind),
                file.display()
            ))),
            HostKeyStatus::Revoked(file, line) => Err(Failure(format!(
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
        listed_name(&self.host, self.port)
    }

    fn of_host(&self, session: &Session, name: &str) -> Vec<&KnownHost> {
        of_host(&self.entries, name, &|entry, name| is_hash_of(session, entry, name))
    }
}

/// Whether the hashed name of an entry is this one; libssh2 knows how it is made.
fn is_hash_of(session: &Session, entry: &KnownHost, name: &str) -> bool {
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

/// One line that names a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KnownHost {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub number: usize,
    /// `@revoked`
    pub revoked: bool,
    /// Names and patterns separated by commas, or one hashed name.
    pub names: String,
    /// `ssh-ed25519` …
    pub kind: String,
    /// The key in base64.
    pub key: String,
}

/// What the files say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HostKeyStatus {
    /// This key is the host's.
    Known,
    /// There is no key of this kind.
    Unknown,
    /// There is another key of this kind: in which file and line.
    Changed(PathBuf, usize),
    /// The key must not be trusted any more: by which file and line.
    Revoked(PathBuf, usize),
}

/// The entries of a file. Lines of authorities are left out: certificates are not
/// understood here, so such a line never makes a host known.
pub(super) fn read(file: &Path, text: &[u8]) -> Vec<KnownHost> {
    let text = String::from_utf8_lossy(text);
    let entry = |(number, line): (usize, &str)| {
        let mut words = line.split_ascii_whitespace();
        let mut names = words.next()?;
        let revoked = names == "@revoked";
        if revoked {
            names = words.next()?;
        }
        if names.starts_with(['#', '@']) {
            return None;
        }
        Some(KnownHost {
            file: file.to_owned(),
            number: number + 1,
            revoked,
            names: names.to_owned(),
            kind: words.next()?.to_owned(),
            key: words.next()?.to_owned(),
        })
    };
    text.lines().enumerate().filter_map(entry).collect()
}

/// The name under which a host stands in the files.
pub(super) fn listed_name(host: &str, port: u16) -> String {
    let host = host.to_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

/// Entries of a host.
pub(super) fn of_host<'e>(
    entries: &'e [KnownHost],
    name: &str,
    is_hash_of: &dyn Fn(&KnownHost, &str) -> bool,
) -> Vec<&'e KnownHost> {
    let names_it = |entry: &&KnownHost| match entry.names.starts_with('|') {
        true => is_hash_of(entry, name),
        false => is_listed(&entry.names, name),
    };
    entries.iter().filter(names_it).collect()
}

/// Judges a key by the entries of its host. One line that knows it is enough; a
/// revocation outweighs it.
pub(super) fn judge(of_host: &[&KnownHost], kind: &str, key: &str) -> HostKeyStatus {
    let place = |entry: &KnownHost| (entry.file.clone(), entry.number);
    let same_key = |entry: &KnownHost| entry.key.trim_end_matches('=') == key.trim_end_matches('=');
    if let Some(entry) = of_host.iter().find(|entry| entry.revoked && same_key(entry)) {
        let (file, number) = place(entry);
        return HostKeyStatus::Revoked(file, number);
    }
    let mut trusted = of_host.iter().filter(|entry| !entry.revoked && entry.kind == kind);
    if trusted.clone().any(|entry| same_key(entry)) {
        return HostKeyStatus::Known;
    }
    match trusted.next() {
        Some(entry) => {
            let (file, number) = place(entry);
            HostKeyStatus::Changed(file, number)
        }
        None => HostKeyStatus::Unknown,
    }
}

/// Whether a list of patterns names a host: one must match, and none with a `!`.
fn is_listed(names: &str, name: &str) -> bool {
    let mut found = false;
    for pattern in names.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches(pattern, name) => return false,
            Some(_) => {}
            None => found |= matches(pattern, name),
        }
    }
    found
}

/// `*` stands for any text, `?` for one character.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_lowercase(), name.as_bytes());
    let pattern = pattern.as_bytes();
    let (mut p, mut n) = (0, 0);
    // where the last star stands, and how much of the name it has taken
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, n));
            p += 1;
        } else if pattern.get(p).is_some_and(|c| *c == b'?' || *c == name[n]) {
            p += 1;
            n += 1;
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            p = at + 1;
            n = taken + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

/// Base64 with padding (RFC 4648).
pub(super) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let number = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..4 {
            let letter = LETTERS[(number >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= group.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod host_key_tests {
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
        let entry = |names: &str| KnownHost {
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

#[cfg(test)]
mod known_hosts_tests {
    use super::*;

    const FILE: &str = "# comment\n\
        h,10.0.0.1 ssh-ed25519 AAAA1 me@there\n\
        [h]:2222 ssh-ed25519 AAAA2\n\
        *.example.com,!bad.example.com ssh-rsa AAAA3==\n\
        @cert-authority * ssh-ed25519 CA\n\
        @revoked * ssh-ed25519 OLD\n\
        |1|salt|hash ssh-ed25519 AAAA4\n\
        short ssh-rsa\n\
        \n\
        two ssh-ed25519 ONE\n\
        two ssh-ed25519 TWO\n";

    fn verdict(host: &str, port: u16, kind: &str, key: &str) -> HostKeyStatus {
        let entries = read(Path::new("/f"), FILE.as_bytes());
        let found = of_host(&entries, &listed_name(host, port), &|_, name| name == "hidden");
        judge(&found, kind, key)
    }

    #[test]
    fn a_key_is_judged_by_the_lines_of_its_host() {
        let changed = |number| HostKeyStatus::Changed("/f".into(), number);
        for (host, port, kind, key, expected) in [
            ("h", 22, "ssh-ed25519", "AAAA1", HostKeyStatus::Known),
            ("H", 22, "ssh-ed25519", "AAAA1", HostKeyStatus::Known),
            ("10.0.0.1", 22, "ssh-ed25519", "AAAA1", HostKeyStatus::Known),
            ("h", 22, "ssh-ed25519", "AAAA9", changed(2)),
            ("h", 22, "ssh-rsa", "AAAA1", HostKeyStatus::Unknown),
            ("h", 2222, "ssh-ed25519", "AAAA2", HostKeyStatus::Known),
            ("h", 2222, "ssh-ed25519", "AAAA1", changed(3)),
            ("h", 23, "ssh-ed25519", "AAAA1", HostKeyStatus::Unknown),
            ("a.example.com", 22, "ssh-rsa", "AAAA3", HostKeyStatus::Known),
            ("bad.example.com", 22, "ssh-rsa", "AAAA3", HostKeyStatus::Unknown),
            ("h", 22, "ssh-ed25519", "CA", changed(2)),
            ("new", 22, "ssh-ed25519", "CA", HostKeyStatus::Unknown),
            ("h", 22, "ssh-ed25519", "OLD", HostKeyStatus::Revoked("/f".into(), 6)),
            ("hidden", 22, "ssh-ed25519", "AAAA4", HostKeyStatus::Known),
            ("hidden", 22, "ssh-ed25519", "AAAA5", changed(7)),
            ("two", 22, "ssh-ed25519", "TWO", HostKeyStatus::Known),
            ("short", 22, "ssh-rsa", "", HostKeyStatus::Unknown),
        ] {
            assert_eq!(verdict(host, port, kind, key), expected, "{host}:{port} {kind} {key}");
        }
    }

    #[test]
    fn patterns_match_as_in_the_manual() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "h", true),
            ("a*c", "abbc", true),
            ("a*b*c", "aXbYbc", true),
            ("a*c", "abcd", false),
            ("h?", "h1", true),
            ("h?", "h", false),
            ("[h]:22*", "[h]:2222", true),
            ("h", "[h]:2222", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn base64_is_what_others_write() {
        for (bytes, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), expected);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }
}

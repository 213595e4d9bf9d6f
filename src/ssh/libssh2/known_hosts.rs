//! Lines of known_hosts files, and what they say about a key (sshd(8), "SSH_KNOWN_HOSTS
//! FILE FORMAT"). Pure, but for hashed names, which somebody else compares.

use std::path::{Path, PathBuf};

/// One line that names a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
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
pub(super) enum Verdict {
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
pub(super) fn read(file: &Path, text: &[u8]) -> Vec<Entry> {
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
        Some(Entry {
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
pub(super) fn name(host: &str, port: u16) -> String {
    let host = host.to_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

/// Entries of a host.
pub(super) fn of_host<'e>(
    entries: &'e [Entry],
    name: &str,
    is_hash_of: &dyn Fn(&Entry, &str) -> bool,
) -> Vec<&'e Entry> {
    let names_it = |entry: &&Entry| match entry.names.starts_with('|') {
        true => is_hash_of(entry, name),
        false => is_listed(&entry.names, name),
    };
    entries.iter().filter(names_it).collect()
}

/// Judges a key by the entries of its host. One line that knows it is enough; a
/// revocation outweighs it.
pub(super) fn judge(of_host: &[&Entry], kind: &str, key: &str) -> Verdict {
    let place = |entry: &Entry| (entry.file.clone(), entry.number);
    let same_key = |entry: &Entry| entry.key.trim_end_matches('=') == key.trim_end_matches('=');
    if let Some(entry) = of_host.iter().find(|entry| entry.revoked && same_key(entry)) {
        let (file, number) = place(entry);
        return Verdict::Revoked(file, number);
    }
    let mut trusted = of_host.iter().filter(|entry| !entry.revoked && entry.kind == kind);
    if trusted.clone().any(|entry| same_key(entry)) {
        return Verdict::Known;
    }
    match trusted.next() {
        Some(entry) => {
            let (file, number) = place(entry);
            Verdict::Changed(file, number)
        }
        None => Verdict::Unknown,
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
mod tests {
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

    fn verdict(host: &str, port: u16, kind: &str, key: &str) -> Verdict {
        let entries = read(Path::new("/f"), FILE.as_bytes());
        let found = of_host(&entries, &name(host, port), &|_, name| name == "hidden");
        judge(&found, kind, key)
    }

    #[test]
    fn a_key_is_judged_by_the_lines_of_its_host() {
        let changed = |number| Verdict::Changed("/f".into(), number);
        for (host, port, kind, key, expected) in [
            ("h", 22, "ssh-ed25519", "AAAA1", Verdict::Known),
            ("H", 22, "ssh-ed25519", "AAAA1", Verdict::Known),
            ("10.0.0.1", 22, "ssh-ed25519", "AAAA1", Verdict::Known),
            ("h", 22, "ssh-ed25519", "AAAA9", changed(2)),
            ("h", 22, "ssh-rsa", "AAAA1", Verdict::Unknown),
            ("h", 2222, "ssh-ed25519", "AAAA2", Verdict::Known),
            ("h", 2222, "ssh-ed25519", "AAAA1", changed(3)),
            ("h", 23, "ssh-ed25519", "AAAA1", Verdict::Unknown),
            ("a.example.com", 22, "ssh-rsa", "AAAA3", Verdict::Known),
            ("bad.example.com", 22, "ssh-rsa", "AAAA3", Verdict::Unknown),
            ("h", 22, "ssh-ed25519", "CA", changed(2)),
            ("new", 22, "ssh-ed25519", "CA", Verdict::Unknown),
            ("h", 22, "ssh-ed25519", "OLD", Verdict::Revoked("/f".into(), 6)),
            ("hidden", 22, "ssh-ed25519", "AAAA4", Verdict::Known),
            ("hidden", 22, "ssh-ed25519", "AAAA5", changed(7)),
            ("two", 22, "ssh-ed25519", "TWO", Verdict::Known),
            ("short", 22, "ssh-rsa", "", Verdict::Unknown),
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

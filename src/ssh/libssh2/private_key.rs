//! Private key files, as far as it must be known before libssh2 reads one. The texts are
//! looked at by pure functions.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A key file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyFile {
    /// The private key.
    pub path: PathBuf,
    /// The public key in base64, if `PATH.pub` stands beside it.
    pub public: Option<String>,
    /// Why it is of no use without an agent; none: it can be used.
    pub objection: Option<String>,
}

impl KeyFile {
    /// Looks at a file; none: it cannot be read.
    pub fn look(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let unreadable =
            |cause: std::io::Error| format!("cannot read the private key {shown}: {cause}");
        let meta = std::fs::metadata(path).map_err(unreadable)?;
        let text = std::fs::read(path).map_err(unreadable)?;
        let mut beside = path.as_os_str().to_owned();
        beside.push(".pub");
        let public = std::fs::read(beside).ok().and_then(|text| public_key(&text));
        let is_ours = meta.uid() == rustix::process::getuid().as_raw();
        let mode = meta.permissions().mode() & 0o777;
        let objection = if is_ours && mode & 0o077 != 0 {
            Some(format!(
                "WARNING: UNPROTECTED PRIVATE KEY FILE! The permissions {mode:04o} of {shown} are \
                 too open; the key is not used."
            ))
        } else if is_encrypted(&text) {
            Some(format!(
                "the private key {shown} has a passphrase, nobody is here to type it, and no agent \
                 has opened it"
            ))
        } else {
            None
        };
        Ok(KeyFile { path: path.to_owned(), public, objection })
    }
}

/// The base64 part of a public key file.
pub(super) fn public_key(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    text.split_ascii_whitespace().nth(1).map(str::to_owned)
}

/// Whether a private key can only be read with a passphrase.
pub(super) fn is_encrypted(text: &[u8]) -> bool {
    /// The beginning of every OpenSSH key whose cipher is "none", in base64.
    const OPEN: &str = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU";
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines().map(str::trim).skip_while(|line| !line.starts_with("-----BEGIN"));
    let first = lines.next().unwrap_or_default();
    if first.contains("OPENSSH PRIVATE KEY") {
        let body: String = lines.take_while(|line| !line.starts_with('-')).collect();
        return !body.is_empty() && !body.starts_with(OPEN);
    }
    first.contains("ENCRYPTED")
        || lines.any(|line| line.starts_with("Proc-Type:") && line.contains("ENCRYPTED"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_with_a_passphrase_are_told_by_their_beginning() {
        for (text, expected) in [
            (
                "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAA\n",
                false,
            ),
            (
                "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAG\n",
                true,
            ),
            ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n", false),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: x\n\nMIIE\n",
                true,
            ),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIE\n", true),
            ("-----BEGIN PRIVATE KEY-----\nMIIE\n", false),
            ("no key at all", false),
            ("", false),
        ] {
            assert_eq!(is_encrypted(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        std::fs::write(&path, "-----BEGIN PRIVATE KEY-----\n").unwrap();
        std::fs::write(dir.path().join("k.pub"), "ssh-ed25519 AAAA me\n").unwrap();
        for (mode, usable) in [(0o600, true), (0o400, true), (0o640, false), (0o644, false)] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let key = KeyFile::look(&path).unwrap();
            assert_eq!(key.objection.is_none(), usable, "{mode:o}");
            assert_eq!(key.public.as_deref(), Some("AAAA"));
        }
        assert!(KeyFile::look(&dir.path().join("none")).unwrap_err().contains("cannot read"));
    }
}

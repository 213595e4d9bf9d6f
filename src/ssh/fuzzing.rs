//! What must hold whatever ssh says, and whatever lies in the files for it (docs/testing.md).

pub(crate) use super::libssh2::fuzzing::known_hosts;

use super::askpass::{asks_for_password, first_line};
use super::explain;
use crate::config::SshLocation;
use std::ffi::OsStr;

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
    let _ = explain(&text, &to);
}

//! The log of refusals, for whoever wonders why a client cannot get in, or who tried.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Past this many bytes the log becomes `ssh_filter.log.1`: whoever has the key but not
/// the token must not be able to fill the disk.
const MAX_BYTES: u64 = 1024 * 1024;
/// How much of a command is shown.
const MAX_SHOWN: usize = 500;

/// One line, without any token: neither the right one nor the one that was tried.
#[must_use]
pub fn line(time: &str, from: &str, reason: &str, original: &[u8], token: &[u8]) -> String {
    let command = without_tokens(original, token);
    let shown = &command[..command.len().min(MAX_SHOWN)];
    let more = if command.len() > MAX_SHOWN { "…" } else { "" };
    format!("{time} - refused, {reason}; from {from}: {}{more}\n", shown.escape_ascii())
}

/// Replaces what stands behind `_REMOTE_TOKEN=`, and the token wherever else it stands.
fn without_tokens(original: &[u8], token: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b"_REMOTE_TOKEN=";
    let mut shown = Vec::with_capacity(original.len());
    let mut rest = original;
    while let Some(&byte) = rest.first() {
        if let Some(after) = rest.strip_prefix(NAME) {
            shown.extend_from_slice(NAME);
            shown.extend_from_slice(b"***");
            let end = after.iter().position(|byte| byte.is_ascii_whitespace());
            rest = &after[end.unwrap_or(after.len())..];
        } else if let Some(after) = rest.strip_prefix(token).filter(|_| !token.is_empty()) {
            shown.extend_from_slice(b"***");
            rest = after;
        } else {
            shown.push(byte);
            rest = &rest[1..];
        }
    }
    shown
}

/// Appends a line to `~/.ssh/ssh_filter.log`. A log that cannot be written changes
/// nothing about the refusal.
pub fn append(home: &Path, line: &str) {
    let log = home.join(".ssh/ssh_filter.log");
    if std::fs::symlink_metadata(&log).is_ok_and(|log| log.len() > MAX_BYTES) {
        let _ = std::fs::rename(&log, home.join(".ssh/ssh_filter.log.1"));
    }
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(no_follow)
        .open(log);
    if let Ok(mut file) = file {
        let _ = file.write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_shows_the_command_but_no_token() {
        let cases: &[(&[u8], &str)] = &[
            (b"sh", "sh"),
            (b"env _REMOTE_TOKEN=wrong sh", "env _REMOTE_TOKEN=*** sh"),
            (b"env _REMOTE_TOKEN=Right9; id", "env _REMOTE_TOKEN=*** id"),
            (b"echo Right9 x", "echo *** x"),
            (b"_REMOTE_TOKEN=", "_REMOTE_TOKEN=***"),
            (b"a\nb\x1b[0m\xff", r"a\nb\x1b[0m\xff"),
        ];
        for (original, shown) in cases {
            let line = line("NOW", "192.0.2.1", "why", original, b"Right9");
            assert_eq!(line, format!("NOW - refused, why; from 192.0.2.1: {shown}\n"));
        }
    }

    #[test]
    fn the_log_is_private_follows_no_link_and_does_not_grow_for_ever() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let home = tempfile::tempdir().unwrap();
        append(home.path(), "no .ssh: nothing happens\n");
        std::fs::create_dir(home.path().join(".ssh")).unwrap();
        let log = home.path().join(".ssh/ssh_filter.log");
        append(home.path(), "one\n");
        append(home.path(), "two\n");
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&log, vec![b'x'; 2 * 1024 * 1024]).unwrap();
        append(home.path(), "three\n");
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "three\n");
        std::fs::remove_file(&log).unwrap();
        symlink(home.path().join("elsewhere"), &log).unwrap();
        append(home.path(), "four\n");
        assert!(!home.path().join("elsewhere").exists());
    }

    proptest! {
        #[test]
        fn no_command_brings_the_token_into_the_log(
            before in "[ -~]{0,40}", after in "[ -~]{0,40}"
        ) {
            let original = format!("{before}Tok3nOfSixteen99{after}");
            let line = line("NOW", "x", "why", original.as_bytes(), b"Tok3nOfSixteen99");
            prop_assert!(!line.contains("Tok3nOfSixteen99"));
            prop_assert_eq!(line.lines().count(), 1);
        }
    }
}

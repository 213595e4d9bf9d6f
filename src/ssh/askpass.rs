//! Our binary as ssh's SSH_ASKPASS: it prints the first line of a password file (spec 5).
//!
//! The environment names the file, never the password.

use crate::process::own_program;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

/// Names the password file to the hidden invocation.
const FILE: &str = "OSYNC_ASKPASS_FILE";

/// The variables that make ssh ask us.
pub(super) fn environment(file: &Path) -> Vec<(OsString, OsString)> {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
    let mut variables = vec![
        ("SSH_ASKPASS".into(), own_program().into_os_string()),
        ("SSH_ASKPASS_REQUIRE".into(), "force".into()),
        (FILE.into(), file.into_os_string()),
    ];
    if std::env::var_os("DISPLAY").is_none() {
        // ssh before 8.4 asks SSH_ASKPASS only where there seems to be a display
        variables.push(("DISPLAY".into(), ":0".into()));
    }
    variables
}

/// The hidden invocation: if ssh started us as its SSH_ASKPASS, answers and returns the
/// exit status; `None` for an ordinary start. Called first in `main`.
#[must_use]
pub fn main_if_asked() -> Option<ExitCode> {
    let file = std::env::var_os(FILE)?;
    let mut arguments = std::env::args_os().skip(1);
    let prompt = arguments.next().unwrap_or_default();
    let kind = std::env::var_os("SSH_ASKPASS_PROMPT").unwrap_or_default();
    if !asks_for_password(prompt.as_bytes(), &kind) {
        return Some(ExitCode::FAILURE);
    }
    let answered = read_password(Path::new(&file)).and_then(|mut password| {
        password.push(b'\n');
        io::stdout().write_all(&password)
    });
    match answered {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(cause) => {
            eprintln!("osync: cannot read the password file {}: {cause}", file.display());
            Some(ExitCode::FAILURE)
        }
    }
}

/// ssh asks for host key confirmations, key passphrases and PINs in the same way as for
/// passwords; only a password may be answered with the password.
pub(super) fn asks_for_password(prompt: &[u8], kind: &OsStr) -> bool {
    let prompt = prompt.to_ascii_lowercase();
    let holds = |text: &[u8]| prompt.windows(text.len()).any(|part| part == text);
    let other: [&[u8]; 5] = [b"yes/no", b"passphrase", b"pin for", b"authenticity", b"allow use"];
    kind.is_empty() && !other.iter().any(|text| holds(text))
}

/// The first line of the file, without its end.
pub(super) fn read_password(file: &Path) -> io::Result<Vec<u8>> {
    let content = std::fs::read(file)?;
    match first_line(&content) {
        b"" => Err(io::Error::new(io::ErrorKind::InvalidData, "its first line is empty")),
        line => Ok(line.to_vec()),
    }
}

/// What stands before the first line end.
pub(super) fn first_line(content: &[u8]) -> &[u8] {
    let line = content.split(|b| *b == b'\n').next().unwrap_or_default();
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_password_is_answered_with_the_password() {
        for (prompt, kind, expected) in [
            ("u@h's password: ", "", true),
            ("(u@h) Password: ", "", true),
            ("(u@h) Mot de passe : ", "", true),
            ("Are you sure you want to continue connecting (yes/no/[fingerprint])? ", "", false),
            ("Enter passphrase for key '/home/u/.ssh/id_rsa': ", "", false),
            ("Enter PIN for ED25519-SK key: ", "", false),
            ("u@h's password: ", "confirm", false),
        ] {
            let got = asks_for_password(prompt.as_bytes(), OsStr::new(kind));
            assert_eq!(got, expected, "{prompt}");
        }
    }

    #[test]
    fn the_first_line_is_the_password() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (content, expected) in [
            ("pw\n", Some("pw")),
            ("pw", Some("pw")),
            (" p w \r\nmore\n", Some(" p w ")),
            ("", None),
            ("\npw\n", None),
        ] {
            std::fs::write(file.path(), content).unwrap();
            let got = read_password(file.path()).ok();
            assert_eq!(got.as_deref(), expected.map(str::as_bytes), "{content:?}");
        }
    }
}

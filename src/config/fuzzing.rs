//! What must hold of any bytes that this room reads (docs/testing.md).

use super::conf_file::{self, CommandFailure, Outside, Parsed};
use super::location::LocationError;
use super::{Location, toml_file, upgrade};
use crate::rsync::options;
use std::collections::BTreeMap;

/// A world in which HOME is set, and every command prints itself.
pub(super) struct Fake;

impl Outside for Fake {
    fn variable(&self, name: &str) -> Option<Vec<u8>> {
        (name == "HOME").then(|| b"/home/me".to_vec())
    }

    fn output_of(
        &mut self,
        command: &[u8],
        _: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Vec<u8>, CommandFailure> {
        Ok(command.to_vec())
    }
}

fn has_true_lines(parsed: &Parsed, text: &[u8]) {
    let lines = text.iter().filter(|byte| **byte == b'\n').count() + 1;
    for trouble in parsed.errors.iter().chain(&parsed.warnings) {
        assert!((1..=lines).contains(&trouble.line), "{trouble:?} of {lines} lines");
    }
    for one in &parsed.assignments {
        assert!((1..=lines).contains(&one.line), "{one:?} of {lines} lines");
    }
}

/// A `.conf` file: what is found stands where it is said to stand, and TOML can say it too.
pub(crate) fn conf(bytes: &[u8]) {
    let parsed = conf_file::parse(bytes, &mut Fake);
    let text = conf_file::normalised(bytes);
    has_true_lines(&parsed, &text);
    assert_eq!(parsed.assignments.len(), parsed.sources.len());
    for (one, source) in parsed.assignments.iter().zip(&parsed.sources) {
        assert_eq!(&text[source.name.clone()], one.key.as_bytes());
        assert_eq!(text[source.name.end], b'=');
        assert!(source.value.start == source.name.end + 1 && source.value.end <= text.len());
    }
    assert!(parsed.headings.iter().all(|heading| text[heading.clone()].starts_with(b"[")));
    let Ok(made) = toml_file::to_toml(bytes, &mut Fake) else { return };
    assert!(parsed.errors.is_empty());
    let again = toml_file::parse(made.text.as_bytes());
    assert!(again.errors.is_empty(), "{:?}\n{}", again.errors, made.text);
    for one in &again.assignments {
        let of_key = |known: &conf_file::Assignment| {
            super::keys::find(&known.key).is_some_and(|key| key.name == one.key)
        };
        assert!(parsed.assignments.iter().any(of_key), "{} came from nowhere", one.key);
    }
}

/// A `.toml` file.
pub(crate) fn toml(bytes: &[u8]) {
    let parsed = toml_file::parse(bytes);
    has_true_lines(&parsed, bytes);
    assert!(parsed.broken.is_empty() || !parsed.errors.is_empty(), "{:?}", parsed.broken);
    assert_eq!(parsed.assignments.len(), parsed.sources.len());
    if !parsed.errors.is_empty() {
        return;
    }
    for (one, source) in parsed.assignments.iter().zip(&parsed.sources) {
        assert!(source.name.end < source.value.start && source.value.end <= bytes.len());
        let name = String::from_utf8_lossy(&bytes[source.name.clone()]).to_uppercase();
        assert!(name == one.key || name.starts_with(['"', '\'']), "{name}: {one:?}");
    }
}

/// An older configuration: what comes out is sound, and of today.
pub(crate) fn upgrade(bytes: &[u8]) {
    let Ok(first) = upgrade::upgrade(bytes, &mut Fake) else { return };
    match upgrade::upgrade(&first.text, &mut Fake) {
        Ok(second) => {
            assert_eq!(
                String::from_utf8_lossy(&second.text),
                String::from_utf8_lossy(&first.text),
                "a second upgrade changes more: {:?}",
                second.notes
            );
            assert!(second.notes.is_empty(), "{:?}", second.notes);
        }
        Err(errors) => panic!("{errors:?}\n{}", String::from_utf8_lossy(&first.text)),
    }
}

/// RSYNC_OPTIONAL_ARGS: nothing is lost, and what breaks a run's plan does not pass.
pub(crate) fn optional_args(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(groups) = options::parse(text) else { return };
    let words = shell_words::split(text).unwrap_or_default();
    assert!(groups.iter().flat_map(|group| &group.words).eq(&words));
    // what is kept of them is kept again
    let kept = options::listing(&groups);
    let again = options::parse(&shell_words::join(&kept)).map(|groups| options::listing(&groups));
    assert_eq!(again, Ok(kept));
    for option in groups.iter().filter_map(|group| group.words.first()) {
        let Some(name) = option.strip_prefix("--") else {
            let letters = option.split(['e', 'B', 'f', 'M', '@']).next().unwrap_or_default();
            assert!(letters.len() > 1 || option.len() > 1, "{option:?} names a file");
            assert!(option.starts_with('-') && !letters.contains(['u', 'n', 'R', 'T', 'b']));
            continue;
        };
        let name = name.split('=').next().unwrap_or_default();
        let broken = ["inplace", "update", "dry-run", "relative", "existing", "files-from"];
        let broken = broken.contains(&name) || ["append", "delete"].contains(&name);
        assert!(!broken && !name.starts_with("backup") && !name.starts_with("delete-"), "{name}");
    }
}

/// A replica's place: no host or user can be taken for an option of ssh, and what is shown
/// is what was meant.
pub(crate) fn location(bytes: &[u8]) {
    let location = match Location::parse(bytes) {
        Ok(location) => location,
        Err(error) => {
            assert_eq!(error == LocationError::Empty, bytes.is_empty());
            return;
        }
    };
    if let Location::Ssh(ssh) = &location {
        let is_word = |text: &str| !text.is_empty() && !text.starts_with('-');
        assert!(is_word(&ssh.host) && ssh.user.as_deref().is_none_or(is_word));
        assert!(!ssh.destination().starts_with('-') && ssh.port != Some(0));
    }
    let shown = location.to_string();
    // what people see stands for the bytes only where nothing had to be escaped
    if shown.as_bytes() == bytes {
        assert_eq!(Location::parse(shown.as_bytes()), Ok(location));
    }
}

//! The four pattern settings as one list of rules, in the order in which rsync would see
//! them (spec 2, "Keys"; spec 4, "Scanning").

use super::RuleText;
use super::read::Reading;
use super::toml_file::ARRAY_SEPARATOR;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// All rules; a pattern file that cannot be read is a problem.
pub(super) fn rules(reading: &Reading<'_>) -> Vec<RuleText> {
    let include_first = reading.choice("RSYNC_PATTERN_FIRST") == "include";
    let mut rules = Vec::new();
    for include in [include_first, !include_first] {
        let (patterns, from) = if include {
            ("RSYNC_INCLUDE_PATTERN", "RSYNC_INCLUDE_FROM")
        } else {
            ("RSYNC_EXCLUDE_PATTERN", "RSYNC_EXCLUDE_FROM")
        };
        let value = reading.bytes(patterns);
        let separator = match value.contains(&ARRAY_SEPARATOR) {
            true => &[ARRAY_SEPARATOR],
            false => reading.bytes("PATH_SEPARATOR_CHAR"),
        };
        for pattern in split(value, separator) {
            rules.push(RuleText { include, from_file: false, pattern: pattern.to_vec() });
        }
        for line in lines_of(reading, from) {
            rules.push(RuleText { include, from_file: true, pattern: line });
        }
    }
    rules
}

fn split<'a>(mut text: &'a [u8], separator: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some(at) = text.windows(separator.len().max(1)).position(|w| w == separator) {
        parts.push(&text[..at]);
        text = &text[at + separator.len()..];
    }
    parts.push(text);
    parts.retain(|part| !part.is_empty());
    parts
}

fn lines_of(reading: &Reading<'_>, key: &str) -> Vec<Vec<u8>> {
    let Some(path) = pattern_file(reading, key) else { return Vec::new() };
    match reading.surroundings.read(&path) {
        // rsync, too, ends a line at either byte
        Ok(bytes) => bytes
            .split(|b| matches!(b, b'\n' | b'\r'))
            .filter(|line| !line.is_empty())
            .map(<[u8]>::to_vec)
            .collect(),
        Err(error) => {
            let shown = crate::tree::path::escape(path.as_os_str().as_bytes());
            reading.complain(key, format!("cannot read the pattern file '{shown}': {error}"));
            Vec::new()
        }
    }
}

/// A bare name lies beside the configuration file.
fn pattern_file(reading: &Reading<'_>, key: &str) -> Option<PathBuf> {
    let value = reading.bytes(key);
    if value.is_empty() {
        return None;
    }
    let bare = !value.contains(&b'/') && value != b"~";
    match (&reading.settings.file, bare) {
        (Some(file), true) => {
            let beside = file.parent().map(|dir| dir.join(OsStr::from_bytes(value)));
            beside.map(|path| reading.absolute(&path))
        }
        _ => reading.path(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_split_at_the_separator() {
        for (text, separator, expected) in [
            ("tmp;archives;some path", ";", vec!["tmp", "archives", "some path"]),
            (";a;;b;", ";", vec!["a", "b"]),
            ("a;b|c", "|", vec!["a;b", "c"]),
            ("a::b:c", "::", vec!["a", "b:c"]),
            ("", ";", vec![]),
        ] {
            let parts = split(text.as_bytes(), separator.as_bytes());
            let expected: Vec<&[u8]> = expected.iter().map(|s| s.as_bytes()).collect();
            assert_eq!(parts, expected, "{text}");
        }
    }
}

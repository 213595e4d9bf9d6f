//! The sample files, made from the table of keys: what ships is compared with this.

use super::keys::{Key, Kind};
use std::fmt::Write;

/// How wide comments get.
const WIDTH: usize = 78;

/// One setting with its comment, as it stands in a `.conf` file.
#[must_use]
pub fn entry(key: &Key, value: &str) -> String {
    let told = match key.sample {
        Some(_) if key.default.is_empty() || key.about.contains(key.default) => String::new(),
        Some(sample) if value == sample => format!(" Default: {}.", key.default),
        _ => String::new(),
    };
    let mut out = comment(&format!("{}{told}", key.about));
    let _ = writeln!(out, "{}={}", key.name, in_conf(key.kind, value));
    out
}

/// A value with the quotes it needs or usually has.
#[must_use]
pub fn in_conf(kind: Kind, value: &str) -> String {
    match kind {
        Kind::Boolean | Kind::Number if !value.is_empty() => value.to_owned(),
        _ => {
            let mut quoted = String::from("\"");
            for character in value.chars() {
                if matches!(character, '"' | '\\' | '$' | '`') {
                    quoted.push('\\');
                }
                quoted.push(character);
            }
            quoted + "\""
        }
    }
}

/// A value in TOML's own types; `separator` stands between patterns.
#[must_use]
pub fn in_toml(kind: Kind, value: &str, separator: &str) -> String {
    let text = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let list = |words: Vec<&str>| {
        let words: Vec<_> = words.into_iter().filter(|w| !w.is_empty()).map(text).collect();
        format!("[{}]", words.join(", "))
    };
    let trimmed = value.trim();
    match kind {
        Kind::Boolean => match super::read::read_boolean(trimmed.as_bytes()) {
            Some(value) => value.to_string(),
            None => text(value),
        },
        Kind::Number if trimmed.parse::<u32>().is_ok() => {
            trimmed.parse::<u32>().unwrap_or_default().to_string()
        }
        Kind::Words | Kind::Sides => {
            list(value.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';')).collect())
        }
        Kind::Patterns if separator.is_empty() => list(vec![value]),
        Kind::Patterns => list(value.split(separator).collect()),
        _ => text(value),
    }
}

/// Text as comment lines.
fn comment(text: &str) -> String {
    let mut out = String::new();
    let mut line = String::from("#");
    for word in text.split(' ') {
        if line.len() + 1 + word.len() > WIDTH && line != "#" {
            out.push_str(&line);
            out.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    out + &line + "\n"
}

#[cfg(test)]
#[path = "sample_tests.rs"]
mod tests;

//! A `.conf` file as TOML: the settings that it makes, with their values worked out. Pure.

use super::conf_file::{self, Outside, Trouble};
use super::keys::{self, KEYS, Key, Section};
use super::sample;
use std::collections::BTreeMap;
use std::fmt::Write;

/// A TOML file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its text.
    pub text: String,
    /// What its author should know, each in a line.
    pub notes: Vec<String>,
}

/// Writes the settings of a `.conf` file as TOML.
///
/// # Errors
/// The file cannot be understood, or a value is not UTF-8.
pub fn to_toml(conf: &[u8], outside: &mut dyn Outside) -> Result<Made, Vec<Trouble>> {
    let parsed = conf_file::parse(conf, outside);
    if !parsed.errors.is_empty() {
        return Err(parsed.errors);
    }
    let text = conf_file::normalised(conf);
    let (mut values, mut errors, mut notes) = (BTreeMap::new(), Vec::new(), Vec::new());
    for (one, source) in parsed.assignments.iter().zip(&parsed.sources) {
        let Some(key) = keys::find(&one.key) else {
            notes.push(format!("{} is no setting and is left out", one.key));
            continue;
        };
        match std::str::from_utf8(&one.value) {
            Ok(value) => drop(values.insert(key.name, value)),
            Err(_) => errors.push(Trouble {
                line: one.line,
                key: Some(one.key.clone()),
                text: "TOML is UTF-8, and this value is not".to_owned(),
            }),
        }
        let raw = &text[source.value.clone()];
        let is_single_quoted = raw.first() == Some(&b'\'');
        if !is_single_quoted && raw.iter().any(|byte| matches!(byte, b'$' | b'`')) {
            notes.push(format!(
                "{}: the value is fixed now, as nothing is expanded in TOML",
                one.key
            ));
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Made { text: document(&values), notes })
}

fn document(values: &BTreeMap<&str, &str>) -> String {
    let mut out = String::from("# A task of osync; examples/sync.toml shows every setting.\n");
    let separator = values.get("PATH_SEPARATOR_CHAR").copied().filter(|text| !text.is_empty());
    for section in Section::ALL {
        let of_section = KEYS.iter().filter(|key| key.section == section);
        let set: Vec<(&Key, &&str)> =
            of_section.filter_map(|key| Some((key, values.get(key.name)?))).collect();
        if set.is_empty() {
            continue;
        }
        let _ = writeln!(out, "\n[{}]", section.name().to_lowercase());
        for (key, value) in set {
            let value = sample::in_toml(key.kind, value, separator.unwrap_or(";"));
            let _ = writeln!(out, "{} = {value}", key.name.to_lowercase());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::conf_file::CommandFailure;
    use crate::config::toml_file;

    struct Home;

    impl Outside for Home {
        fn variable(&self, name: &str) -> Option<Vec<u8>> {
            (name == "HOME").then(|| b"/home/me".to_vec())
        }

        fn output_of(
            &mut self,
            _: &[u8],
            _: &BTreeMap<String, Vec<u8>>,
        ) -> Result<Vec<u8>, CommandFailure> {
            Ok(b"host".to_vec())
        }
    }

    #[test]
    fn toml_says_what_the_conf_file_said() {
        let conf = "INSTANCE_ID=\"a \\\"b\\\" \\\\ $(hostname)\"\nLOGFILE=$HOME/x\nX=$HOME\n\
                    BANDWIDTH=010\nKRB5=YES\nPARTIAL=\nRSYNC_EXCLUDE_PATTERN='a;b|c'\n\
                    PATH_SEPARATOR_CHAR='|'\nSKIP_DELETION=target\nLOCAL_RUN_AFTER_CMD='a\nb'\n\
                    RSYNC_OPTIONAL_ARGS=\"-x 'a b'\"\nDESTINATION_MAILS='a@b c@d'\n";
        let made = to_toml(conf.as_bytes(), &mut Home).unwrap();
        let toml = toml_file::parse(made.text.as_bytes());
        assert_eq!(toml.errors, [], "{}", made.text);
        let value = |key: &str| {
            let found = toml.assignments.iter().find(|one| one.key == key).unwrap();
            String::from_utf8_lossy(&found.value).replace('\0', "<")
        };
        for (key, expected) in [
            ("INSTANCE_ID", "a \"b\" \\ host"),
            ("LOGFILE", "/home/me/x"),
            ("BANDWIDTH", "10"),
            ("KRB5", "yes"),
            ("PARTIAL", ""),
            ("RSYNC_EXCLUDE_PATTERN", "a;b<c<"),
            ("SKIP_DELETION", "target"),
            ("LOCAL_RUN_AFTER_CMD", "a\nb"),
            ("RSYNC_OPTIONAL_ARGS", "-x 'a b'"),
            ("DESTINATION_MAILS", "a@b c@d"),
        ] {
            assert_eq!(value(key), expected, "{key}\n{}", made.text);
        }
        assert_eq!(
            made.notes.len(),
            3,
            "two values that were fixed, one that is unknown: {:?}",
            made.notes
        );
    }

    #[test]
    fn a_value_that_is_no_text_is_refused() {
        let errors = to_toml(b"A=1\nINITIATOR_SYNC_DIR=\xff", &mut Home).unwrap_err();
        assert_eq!(errors[0].line, 2);
    }
}

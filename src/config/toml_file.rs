//! The same settings in TOML: keys in lower or upper case, under their sections or at the
//! top level, with TOML's own types (spec 2, "`.toml` files").

use super::conf_file::{self, Assignment, MAX_FILE, Outside, Parsed, Source, Trouble};
use super::keys::{self, KEYS, Key, Section, ValueKind};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Separates the patterns of an array: unlike any character, it cannot be part of one.
pub const ARRAY_SEPARATOR: u8 = 0;

/// Reads a whole file.
#[must_use]
pub fn parse(bytes: &[u8]) -> Parsed {
    let mut reader = TomlReader::default();
    match std::str::from_utf8(bytes) {
        _ if bytes.len() > MAX_FILE => {
            reader.complain(
                1,
                None,
                "the file is longer than 1 MiB, too long for a configuration file",
            );
        }
        Err(error) => {
            let line = line_at(bytes, error.valid_up_to());
            reader.complain(line, None, "TOML is UTF-8, and this is not");
        }
        Ok(text) => {
            let document = text.strip_prefix('\u{feff}').unwrap_or(text);
            reader.begin = text.len() - document.len();
            reader.document(document);
        }
    }
    let TomlReader { mut parsed, mut settings, .. } = reader;
    settings.sort_by_key(|(one, _)| one.line);
    (parsed.assignments, parsed.sources) = settings.into_iter().unzip();
    parsed.errors.sort_by_key(|one| one.line);
    parsed
}

fn line_at(bytes: &[u8], at: usize) -> usize {
    bytes.iter().take(at).filter(|b| **b == b'\n').count() + 1
}

#[derive(Default)]
struct TomlReader {
    parsed: Parsed,
    /// Where the document begins in the file.
    begin: usize,
    /// What is set, and where it stands.
    settings: Vec<(Assignment, Source)>,
    /// The line in which each key was set.
    seen: BTreeMap<String, usize>,
}

impl TomlReader {
    fn document(&mut self, text: &str) {
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let line = line_at(text.as_bytes(), error.span().map_or(0, |span| span.start));
            self.complain(line, None, &format!("no TOML: {}", error.message()));
        }
        for (name, value) in table.get_ref().iter() {
            match value.get_ref() {
                DeValue::Table(inner) => {
                    let line = line_at(text.as_bytes(), name.span().start);
                    self.section(line, name.get_ref(), inner, text);
                }
                _ => self.setting(name, value, text),
            }
        }
    }

    fn section(&mut self, line: usize, name: &str, table: &DeTable<'_>, text: &str) {
        if !Section::ALL.iter().any(|known| known.name().eq_ignore_ascii_case(name)) {
            let known = Section::ALL.map(|s| s.name().to_lowercase()).join("], [");
            self.complain(line, None, &format!("[{name}] is not a section; there are [{known}]"));
        }
        for (name, value) in table.iter() {
            self.setting(name, value, text);
        }
    }

    fn setting(
        &mut self,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        text: &str,
    ) {
        let line = line_at(text.as_bytes(), name.span().start);
        let key = name.get_ref().to_uppercase();
        if let Some(before) = self.seen.insert(key.clone(), line) {
            self.complain(line, Some(&key), &format!("already set in line {before}"));
            return;
        }
        match plain(value.get_ref(), keys::find(&key).map(|key| key.kind)) {
            Ok(plain) => {
                let range = |span: Range<usize>| span.start + self.begin..span.end + self.begin;
                let source = Source { name: range(name.span()), value: range(value.span()) };
                self.settings.push((Assignment { key, value: plain, line }, source));
            }
            Err(problem) => self.complain(line, Some(&key), problem),
        }
    }

    fn complain(&mut self, line: usize, key: Option<&str>, text: &str) {
        if let Some(key) = key {
            self.parsed.broken.insert(key.to_owned());
        }
        let key = key.map(str::to_owned);
        self.parsed.errors.push(Trouble { line, key, text: text.to_owned() });
    }
}

/// The value as it would be written in a `.conf` file, unquoted.
fn plain(value: &DeValue<'_>, kind: Option<ValueKind>) -> Result<Vec<u8>, &'static str> {
    let text = match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Boolean(value) => if *value { "yes" } else { "no" }.to_owned(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Datetime(_) => return Err("a date means nothing here"),
        DeValue::Table(_) => return Err("a table means nothing here"),
        DeValue::Array(items) => {
            let words = items.iter().map(|item| match item.get_ref() {
                DeValue::String(word) if !word.contains('\0') => Ok(word.to_string()),
                _ => Err("a list holds texts only, in quotes"),
            });
            return join(&words.collect::<Result<Vec<_>, _>>()?, kind);
        }
    };
    if text.contains('\0') {
        return Err("the value holds a NUL");
    }
    Ok(text.into_bytes())
}

fn join(words: &[String], kind: Option<ValueKind>) -> Result<Vec<u8>, &'static str> {
    let joined = match kind {
        Some(ValueKind::Words | ValueKind::Sides) => words.join(" "),
        Some(ValueKind::Patterns | ValueKind::Paths) => {
            // Even one element is a list: it is not to be split any more.
            words.iter().map(|word| format!("{word}\0")).collect()
        }
        Some(ValueKind::Arguments) => shell_words::join(words),
        None => String::new(),
        Some(_) => return Err("a list means nothing here; write one value"),
    };
    Ok(joined.into_bytes())
}

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
            notes.push(format!("{} is not a setting and is left out", one.key));
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
            let value = in_toml(key.kind, value, separator.unwrap_or(";"));
            let _ = writeln!(out, "{} = {value}", key.name.to_lowercase());
        }
    }
    out
}

/// The value of a key in TOML's own types; NULs stand between the parts of a list.
pub(super) fn value_of(key: &str, value: &str) -> Vec<u8> {
    let kind = keys::find(key).map_or(ValueKind::Text, |key| key.kind);
    in_toml(kind, value, "\0").into_bytes()
}

/// A value in TOML's own types; `separator` stands between patterns.
pub(super) fn in_toml(kind: ValueKind, value: &str, separator: &str) -> String {
    let text = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let list = |words: Vec<&str>| {
        let words: Vec<_> = words.into_iter().filter(|w| !w.is_empty()).map(text).collect();
        format!("[{}]", words.join(", "))
    };
    let trimmed = value.trim();
    match kind {
        ValueKind::Boolean => match keys::read_boolean(trimmed.as_bytes()) {
            Some(value) => value.to_string(),
            None => text(value),
        },
        ValueKind::Number if trimmed.parse::<u32>().is_ok() => {
            trimmed.parse::<u32>().unwrap_or_default().to_string()
        }
        ValueKind::Words | ValueKind::Sides => {
            list(value.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';')).collect())
        }
        ValueKind::Patterns | ValueKind::Paths if separator.is_empty() => list(vec![value]),
        // blanks and line ends around a path of a .conf file do not count
        ValueKind::Paths if separator != "\0" => {
            list(value.split(separator).map(str::trim).collect())
        }
        ValueKind::Patterns | ValueKind::Paths => list(value.split(separator).collect()),
        _ => text(value),
    }
}

#[cfg(test)]
mod toml_file_tests {
    use super::*;

    fn read(text: &str) -> Vec<(usize, String, String)> {
        let parsed = parse(text.as_bytes());
        assert_eq!(parsed.errors, [], "{text}");
        let shown = |value: &[u8]| String::from_utf8_lossy(value).replace('\0', "|");
        parsed.assignments.into_iter().map(|a| (a.line, a.key, shown(&a.value))).collect()
    }

    #[test]
    fn toml_values_become_plain_ones() {
        for (text, key, value) in [
            ("instance_id = \"x y\"", "INSTANCE_ID", "x y"),
            ("INSTANCE_ID = 'x'", "INSTANCE_ID", "x"),
            ("[general]\ncreate_dirs = true", "CREATE_DIRS", "yes"),
            ("[GENERAL]\ncreate_dirs = false", "CREATE_DIRS", "no"),
            ("bandwidth = 1_000", "BANDWIDTH", "1000"),
            ("bandwidth = -1", "BANDWIDTH", "-1"),
            ("skip_deletion = [\"initiator\", \"target\"]", "SKIP_DELETION", "initiator target"),
            ("rsync_exclude_pattern = [\"a;b\", \"c\"]", "RSYNC_EXCLUDE_PATTERN", "a;b|c|"),
            ("rsync_exclude_pattern = \"a;b\"", "RSYNC_EXCLUDE_PATTERN", "a;b"),
            ("ssh_optional_args = [\"-o\", \"a b\"]", "SSH_OPTIONAL_ARGS", "-o 'a b'"),
            ("_remote_token = \"t\"", "_REMOTE_TOKEN", "t"),
            ("local_run_before_cmd = '''\na\nb'''", "LOCAL_RUN_BEFORE_CMD", "a\nb"),
        ] {
            let read = read(text);
            let line = text.lines().filter(|line| line.starts_with('[')).count() + 1;
            assert_eq!(read, [(line, key.to_owned(), value.to_owned())], "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_an_error_with_its_line() {
        for (text, line, part) in [
            ("a = 1\nb = = 2\n", 2, "no TOML"),
            ("instance_id = x", 1, "no TOML"),
            ("[genral]\n", 1, "not a section"),
            ("partial = true\n[resume_options]\npartial = true", 3, "line 1"),
            ("partial = 2020-01-01", 1, "date"),
            ("bandwidth = [\"1\"]", 1, "list"),
            ("skip_deletion = [1]", 1, "quotes"),
            ("[general]\n[general.partial]\nx=1", 2, "table"),
            ("instance_id = \"a\\u0000\"", 1, "NUL"),
        ] {
            let errors = parse(text.as_bytes()).errors;
            let first = errors.first().unwrap_or_else(|| panic!("no error: {text}"));
            assert_eq!(first.line, line, "{text}: {errors:?}");
            assert!(first.text.contains(part), "{text}: {errors:?}");
        }
        assert_eq!(parse(b"a=1\nb='\xff'").errors[0].line, 2);
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_crash() {
        let text = format!("a = {}", "[".repeat(100_000));
        assert!(!parse(text.as_bytes()).errors.is_empty());
        let text = format!("{}=1", "a.".repeat(100_000) + "a");
        assert!(parse(text.as_bytes()).errors.len() < 10);
    }
}

#[cfg(test)]
mod to_toml_tests {
    use super::*;
    use crate::config::fuzzing::Fake;
    use crate::config::toml_file;

    #[test]
    fn toml_says_what_the_conf_file_said() {
        let conf = "INSTANCE_ID=\"a \\\"b\\\" \\\\ $(hostname)\"\nLOGFILE=$HOME/x\nX=$HOME\n\
                    BANDWIDTH=010\nKRB5=YES\nPARTIAL=\nRSYNC_EXCLUDE_PATTERN='a;b|c'\n\
                    PATH_SEPARATOR_CHAR='|'\nSKIP_DELETION=target\nLOCAL_RUN_AFTER_CMD='a\nb'\n\
                    RSYNC_OPTIONAL_ARGS=\"-x 'a b'\"\nTARGET_SYNC_DIRS='/c|\n  /d e |'\nDESTINATION_MAILS='a@b c@d'\n";
        let made = to_toml(conf.as_bytes(), &mut Fake).unwrap();
        let toml = toml_file::parse(made.text.as_bytes());
        assert_eq!(toml.errors, [], "{}", made.text);
        let value = |key: &str| {
            let found = toml.assignments.iter().find(|one| one.key == key).unwrap();
            String::from_utf8_lossy(&found.value).replace('\0', "<")
        };
        for (key, expected) in [
            ("INSTANCE_ID", "a \"b\" \\ hostname"),
            ("LOGFILE", "/home/me/x"),
            ("BANDWIDTH", "10"),
            ("KRB5", "yes"),
            ("PARTIAL", ""),
            ("RSYNC_EXCLUDE_PATTERN", "a;b<c<"),
            ("SKIP_DELETION", "target"),
            ("TARGET_SYNC_DIRS", "/c</d e<"),
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
        let errors = to_toml(b"A=1\nINITIATOR_SYNC_DIR=\xff", &mut Fake).unwrap_err();
        assert_eq!(errors[0].line, 2);
    }
}

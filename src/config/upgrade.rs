//! Older configuration files, text to text (spec 7, "Upgrade"). Pure. What the user wrote
//! stays where it is: only names, a few values and missing settings change.

use std::collections::BTreeSet;
use std::ops::Range;
#[cfg(test)]
#[path = "upgrade_tests.rs"]
mod tests;

use super::conf_file::{self, Outside, Parsed, Source, Trouble};
use super::keys::{self, KEYS, Key, Section, ValueKind};
use super::settings::FileForm;
use super::toml_file;

/// The revision that an upgraded file has.
const REVISION: &str = "1.3.0";

/// A file for today.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgraded {
    /// The new text; the old one where nothing was to be done.
    pub text: Vec<u8>,
    /// What was done, each in a line.
    pub notes: Vec<String>,
}

/// Replaces a range of the old text.
struct Edit {
    range: Range<usize>,
    text: Vec<u8>,
}

/// Rewrites a file of v1.0, v1.1 or v1.2; one of today stays as it is.
///
/// # Errors
/// The file cannot be understood.
pub fn upgrade(original: &[u8], outside: &mut dyn Outside) -> Result<Upgraded, Vec<Trouble>> {
    let mut parsed = conf_file::parse(original, outside);
    let is_stray = |error: &Trouble| parsed.strays.iter().any(|(line, _)| error.line == *line);
    if !parsed.errors.iter().all(is_stray) {
        parsed.errors.retain(|error| !parsed.strays.iter().any(|(line, _)| error.line == *line));
        return Err(parsed.errors);
    }
    let text = conf_file::normalised(original);
    let mut work = Work { text: &text, parsed: &parsed, edits: Vec::new(), notes: Vec::new() };
    work.rewrite_settings(outside);
    work.add_missing();
    // last, so that the mark stands right before its line, behind what is added there
    work.comment_strays();
    if work.edits.is_empty() {
        return Ok(Upgraded { text: original.to_vec(), notes: Vec::new() });
    }
    let notes = std::mem::take(&mut work.notes);
    let mut new = apply(&text, work.edits);
    if original.windows(2).any(|pair| pair == b"\r\n") {
        new = with_carriage_returns(&new);
    }
    Ok(Upgraded { text: new, notes })
}

/// A setting that a file gets in the place of one that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// The key that it has.
    pub old: &'static str,
    /// The key that it gets.
    pub new: &'static str,
    /// The value, unquoted; the parts of an array of TOML have NULs between them.
    pub value: Vec<u8>,
}

/// Gives settings of a file of today other values. If the file has both names of one, the new one
/// gets the value, and the old one becomes empty. All else stays as it is.
///
/// # Errors
/// The file cannot be understood, does not have one of them, or cannot say a value.
pub fn with_settings(
    form: FileForm,
    original: &[u8],
    replacements: &[Replacement],
    outside: &mut dyn Outside,
) -> Result<Vec<u8>, Vec<Trouble>> {
    let (text, parsed) = match form {
        FileForm::Conf => (conf_file::normalised(original), conf_file::parse(original, outside)),
        FileForm::Toml => (original.to_vec(), toml_file::parse(original)),
    };
    if !parsed.errors.is_empty() {
        return Err(parsed.errors);
    }
    let mut edits = Vec::new();
    for Replacement { old, new, value } in replacements {
        let trouble = |text: String| {
            vec![Trouble { line: 1, key: Some((*old).to_owned()), text: format!("{old} {text}") }]
        };
        let (value, empty) = match form {
            FileForm::Conf => (quoted(value), quoted(b"")),
            FileForm::Toml => {
                let value = std::str::from_utf8(value)
                    .map_err(|_| trouble("would not be UTF-8, and TOML is".to_owned()))?;
                (toml_file::value_of(new, value), toml_file::value_of(old, ""))
            }
        };
        let has = |key: &str| parsed.assignments.iter().any(|one| one.key == key);
        if !has(old) {
            let more = match form {
                FileForm::Conf => "; osync upgrade gives it today's names",
                FileForm::Toml => "",
            };
            return Err(trouble(format!("is not set in this file{more}")));
        }
        let has_new = has(new);
        for (one, source) in parsed.assignments.iter().zip(&parsed.sources) {
            let mut edit = |range: &Range<usize>, text: &[u8]| {
                edits.push(Edit { range: range.clone(), text: text.to_vec() });
            };
            if one.key == *new {
                edit(&source.value, &value);
            } else if one.key == *old && has_new {
                edit(&source.value, &empty);
            } else if one.key == *old {
                let is_lower = text[source.name.clone()].iter().any(u8::is_ascii_lowercase);
                let new = if is_lower { new.to_ascii_lowercase() } else { (*new).to_owned() };
                edit(&source.name, new.as_bytes());
                edit(&source.value, &value);
            }
        }
    }
    let new = apply(&text, edits);
    let had_returns = form == FileForm::Conf && original.windows(2).any(|pair| pair == b"\r\n");
    Ok(if had_returns { with_carriage_returns(&new) } else { new })
}

struct Work<'a> {
    text: &'a [u8],
    parsed: &'a Parsed,
    edits: Vec<Edit>,
    notes: Vec<String>,
}

impl Work<'_> {
    /// A line that sets nothing was no obstacle to osync 1.3; here it is an error.
    fn comment_strays(&mut self) {
        for (line, range) in &self.parsed.strays {
            self.edits.push(Edit { range: range.start..range.start, text: b"# ".to_vec() });
            self.notes.push(format!("line {line} is not a setting; it is a comment now"));
        }
    }

    fn rewrite_settings(&mut self, outside: &dyn Outside) {
        let far = self.remote_prefix();
        for (one, source) in self.parsed.assignments.iter().zip(&self.parsed.sources) {
            if keys::obsolete(&one.key).is_some_and(|old| old.now.is_none()) {
                self.notes.push(format!("{} is part of TARGET_SYNC_DIR now", one.key));
                self.comment_out(source);
                continue;
            }
            let is_pattern_file = matches!(&*one.key, "RSYNC_INCLUDE_FROM" | "RSYNC_EXCLUDE_FROM");
            if is_pattern_file && !one.value.is_empty() && outside.lacks_pattern_file(&one.value) {
                let file = shown(&one.value);
                self.notes.push(format!(
                    "{}: there is no {file}; it is empty now, as osync 1.3 went on without it",
                    one.key
                ));
                self.edit(source.value.clone(), b"\"\"");
                continue;
            }
            let key = self.new_name(&one.key);
            if key != one.key {
                self.notes.push(format!("{} is {key} now", one.key));
                self.edit(source.name.clone(), key.as_bytes());
            }
            let raw = &self.text[source.value.clone()];
            let mut new = with_new_references(raw);
            if new != raw {
                self.notes.push(format!("{key}: its value uses new names"));
            }
            if let Some(value) = new_value(&key, &new, &one.value) {
                self.notes.push(format!("{key}: {} is {} now", shown(&new), shown(&value)));
                new = value;
            }
            if key == "TARGET_SYNC_DIR"
                && !one.value.starts_with(b"ssh://")
                && let Some(far) = &far
            {
                new = joined(far, &new);
                self.notes.push(format!("{key} is {} now", shown(&new)));
            }
            if new != raw {
                self.edit(source.value.clone(), &new);
            }
        }
    }

    /// Today's name of a key; an alias stays where the file has the key itself, too.
    fn new_name(&self, name: &str) -> String {
        if let Some(now) = keys::obsolete(name).and_then(|old| old.now) {
            return now.to_owned();
        }
        let Some(key) = keys::find(name) else { return name.to_owned() };
        let same =
            |one: &&conf_file::Assignment| keys::find(&one.key).is_some_and(|k| k.name == key.name);
        let names: BTreeSet<_> =
            self.parsed.assignments.iter().filter(same).map(|one| &one.key).collect();
        if names.len() == 1 { key.name.to_owned() } else { name.to_owned() }
    }

    /// Of a v1.0 task with REMOTE_SYNC=yes, what stands before the path.
    fn remote_prefix(&self) -> Option<String> {
        let value = |key: &str| {
            let found = self.parsed.assignments.iter().rev().find(|one| one.key == key)?;
            let text = String::from_utf8(found.value.clone()).ok()?;
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-:[]".contains(&b);
            (!text.is_empty() && text.bytes().all(plain)).then_some(text)
        };
        if !value("REMOTE_SYNC")?.eq_ignore_ascii_case("yes") {
            return None;
        }
        let user = value("REMOTE_USER").map(|user| format!("{user}@")).unwrap_or_default();
        let port = value("REMOTE_PORT").map(|port| format!(":{port}")).unwrap_or_default();
        Some(format!("ssh://{user}{}{port}/", value("REMOTE_HOST")?))
    }

    fn comment_out(&mut self, source: &Source) {
        let begin = line_begin(self.text, source.name.start);
        let comment = |setting: &[u8]| [b"#", &replaced(setting, b"\n", b"\n#")[..]].concat();
        if self.shares_its_line(source) {
            let mut text = comment(&self.text[source.name.start..source.value.end]);
            text.push(b'\n');
            let above = self.above(begin);
            self.edit(above..above, &text);
            self.edit(self.with_what_joins_it(source), b"");
        } else {
            let text = comment(&self.text[begin..source.value.end]);
            self.edit(begin..source.value.end, &text);
        }
    }

    /// The beginning of a line, or of an earlier one if this one is part of a value.
    fn above(&self, begin: usize) -> usize {
        let mut sources = self.parsed.sources.iter();
        match sources.find(|other| other.name.start < begin && begin < other.value.end) {
            Some(other) => self.above(line_begin(self.text, other.name.start)),
            None => begin,
        }
    }

    /// Whether something that stays stands on the same lines.
    fn shares_its_line(&self, source: &Source) -> bool {
        let begin = line_begin(self.text, source.name.start);
        let rest = self.text[source.value.end..].iter().position(|b| *b == b'\n');
        let end = rest.map_or(self.text.len(), |at| source.value.end + at);
        let stays = |key: &str| keys::obsolete(key).is_none_or(|old| old.now.is_some());
        let settings = self.parsed.assignments.iter().zip(&self.parsed.sources);
        settings.into_iter().any(|(one, other)| {
            let is_another = other.name.start != source.name.start;
            is_another && stays(&one.key) && other.name.start < end && other.value.end > begin
        })
    }

    /// A setting with the `;` and the `export` that would be left over without it.
    fn with_what_joins_it(&self, source: &Source) -> Range<usize> {
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let behind =
            |at: usize| at + self.text[at..].iter().take_while(|byte| is_blank(byte)).count();
        let before =
            |at: usize| at - self.text[..at].iter().rev().take_while(|byte| is_blank(byte)).count();
        let (mut begin, mut end) = (source.name.start, source.value.end);
        let next = behind(end);
        let is_last = matches!(self.text.get(next), None | Some(b';' | b'\n' | b'\r' | b'#'));
        if is_last && let Some(rest) = self.text[..before(begin)].strip_suffix(b"export") {
            // the word, and not the end of another setting's value
            let is_word = rest.last().is_none_or(|byte| is_blank(byte) || b";\n".contains(byte));
            begin = if is_word { rest.len() } else { begin };
        }
        if self.text.get(next) == Some(&b';') {
            end = behind(next + 1);
        } else if let Some(joined) = self.text[..before(begin)].strip_suffix(b";") {
            begin = joined.len();
        }
        begin..end
    }

    /// Settings that the file does not have, behind the others of their section.
    fn add_missing(&mut self) {
        let present: BTreeSet<&str> = self
            .parsed
            .assignments
            .iter()
            .filter_map(|one| keys::find(&self.new_name(&one.key)).map(|key| key.name))
            .collect();
        let required = ["INSTANCE_ID", "INITIATOR_SYNC_DIR", "TARGET_SYNC_DIR"];
        for section in Section::ALL {
            let missing: Vec<_> = KEYS
                .iter()
                .filter(|key| key.section == section && !present.contains(key.name))
                .filter(|key| !required.contains(&key.name))
                .collect();
            if missing.is_empty() {
                continue;
            }
            let (at, heading) = self.end_of(section);
            let mut text = Vec::new();
            if at > 0 && self.text[at - 1] != b'\n' {
                text.push(b'\n');
            }
            if heading {
                text.extend(format!("\n[{}]\n", section.name()).into_bytes());
            }
            for key in missing {
                let value = match (key.name, key.kind, key.default) {
                    ("CONFIG_FILE_REVISION", _, _) => REVISION,
                    (_, ValueKind::Boolean, "yes") => "true",
                    (_, ValueKind::Boolean, _) => "false",
                    (_, _, default) => default,
                };
                text.push(b'\n');
                text.extend(entry(key, value.as_bytes()));
                self.notes.push(format!("{} is new, with its default", key.name));
            }
            self.edit(at..at, &text);
        }
    }

    /// Where settings of a section are added, and whether its heading is missing.
    fn end_of(&self, section: Section) -> (usize, bool) {
        let headings = &self.parsed.headings;
        let wanted = format!("[{}]", section.name());
        let is_wanted =
            |range: &Range<usize>| self.text[range.clone()].starts_with(wanted.as_bytes());
        let sources = &self.parsed.sources;
        if let Some(index) = headings.iter().position(is_wanted) {
            let begin = headings[index].end;
            let end = headings.get(index + 1).map_or(self.text.len(), |next| next.start);
            let inside = |source: &&Source| (begin..end).contains(&source.name.start);
            let last = sources.iter().rfind(inside).map_or(begin, |source| source.value.end);
            return (line_end(self.text, last), false);
        }
        let of_section =
            |name: &str| keys::find(&self.new_name(name)).is_some_and(|key| key.section == section);
        let mut named = self.parsed.assignments.iter().zip(sources);
        match named.rfind(|(one, _)| of_section(&one.key)) {
            Some((_, last)) => (line_end(self.text, last.value.end), false),
            None => (self.text.len(), true),
        }
    }

    fn edit(&mut self, range: Range<usize>, text: &[u8]) {
        self.edits.push(Edit { range, text: text.to_vec() });
    }
}

/// What a setting's value is today, if it is another one; `raw` with its quotes.
fn new_value(key: &str, raw: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    let kind = keys::find(key)?.kind;
    let word = |old: &str| -> Option<&str> {
        match (key, kind, old.to_ascii_lowercase().as_str()) {
            ("CONFIG_FILE_REVISION", _, REVISION) => None,
            ("CONFIG_FILE_REVISION", _, _) => Some(REVISION),
            (_, ValueKind::Boolean, "yes") => Some("true"),
            (_, ValueKind::Boolean, "no") => Some("false"),
            ("CONFLICT_PREVALANCE", _, "master") => Some("initiator"),
            ("CONFLICT_PREVALANCE", _, "slave") => Some("target"),
            _ => None,
        }
    };
    let holds = |word: &[u8]| value.windows(word.len()).any(|part| part == word);
    if kind == ValueKind::Sides && (holds(b"master") || holds(b"slave")) {
        let half = replaced(raw, b"master", b"initiator");
        return Some(replaced(&half, b"slave", b"target"));
    }
    let new = word(std::str::from_utf8(value).ok()?.trim())?.as_bytes();
    // Keep the quotes, if the value is nothing but a quoted word.
    Some(match raw {
        [quote @ (b'"' | b'\''), bare @ .., end] if bare == value && end == quote => {
            [&[*quote], new, &[*quote]].concat()
        }
        _ => new.to_vec(),
    })
    .filter(|changed| !value.is_empty() && changed != raw)
}

/// Every `old` replaced by `new`; not empty.
fn replaced(text: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.first() {
        match rest.strip_prefix(old) {
            Some(behind) => {
                out.extend_from_slice(new);
                rest = behind;
            }
            None => {
                out.push(*first);
                rest = &rest[1..];
            }
        }
    }
    out
}

fn shown(text: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(text)
}

/// `$OLD` and `${OLD` under their new names.
fn with_new_references(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = raw;
    while let Some(at) = rest.iter().position(|b| *b == b'$') {
        let (before, dollar) = rest.split_at(at);
        let behind = dollar.strip_prefix(b"${").unwrap_or(&dollar[1..]);
        let is_of_name = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
        let end = behind.iter().position(|b| !is_of_name(b)).unwrap_or(behind.len());
        let (name, after) = behind.split_at(end);
        let now = std::str::from_utf8(name).ok().and_then(keys::obsolete).and_then(|old| old.now);
        out.extend_from_slice(before);
        out.extend_from_slice(&dollar[..dollar.len() - behind.len()]);
        out.extend_from_slice(now.map_or(name, str::as_bytes));
        rest = after;
    }
    out.extend_from_slice(rest);
    out
}

/// Puts text before a raw value, inside its quotes if it begins with one.
fn joined(prefix: &str, raw: &[u8]) -> Vec<u8> {
    let inside = usize::from(matches!(raw.first(), Some(b'"' | b'\'')));
    [&raw[..inside], prefix.as_bytes(), &raw[inside..]].concat()
}

fn line_begin(text: &[u8], at: usize) -> usize {
    text[..at].iter().rposition(|b| *b == b'\n').map_or(0, |newline| newline + 1)
}

fn line_end(text: &[u8], at: usize) -> usize {
    text[at..].iter().position(|b| *b == b'\n').map_or(text.len(), |newline| at + newline + 1)
}

fn apply(text: &[u8], mut edits: Vec<Edit>) -> Vec<u8> {
    edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    for edit in edits {
        // Two settings of one line cannot both be commented out by lines.
        let start = edit.range.start.max(at);
        out.extend_from_slice(&text[at..start]);
        out.extend_from_slice(&edit.text);
        at = edit.range.end.max(start);
    }
    out.extend_from_slice(&text[at..]);
    out
}

fn with_carriage_returns(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 16);
    for byte in text {
        if *byte == b'\n' {
            out.push(b'\r');
        }
        out.push(*byte);
    }
    out
}

/// How wide comments get.
const WIDTH: usize = 78;

/// A `.conf` file with these settings, each under the heading of its section. All others have
/// their defaults.
#[must_use]
pub fn new_file(settings: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = b"# A task of osync. Every setting that is not here has its default: \
                    man osync.conf\n"
        .to_vec();
    for section in Section::ALL {
        let of_section = KEYS.iter().filter(|key| key.section == section);
        let set = of_section
            .filter_map(|key| Some((key, settings.iter().find(|(name, _)| *name == key.name)?)));
        for (index, (key, (_, value))) in set.enumerate() {
            if index == 0 {
                out.extend(format!("\n[{}]\n", section.name()).into_bytes());
            }
            out.push(b'\n');
            out.extend(entry(key, value));
        }
    }
    out
}

/// One setting with its comment, as it stands in a `.conf` file.
#[must_use]
pub fn entry(key: &Key, value: &[u8]) -> Vec<u8> {
    let told = match key.sample {
        Some(_) if key.default.is_empty() || key.about.contains(key.default) => String::new(),
        Some(sample) if value == sample.as_bytes() => format!(" Default: {}.", key.default),
        _ => String::new(),
    };
    let mut out = comment(&format!("{}{told}", key.about)).into_bytes();
    out.extend([key.name.as_bytes(), b"=", &in_conf(key.kind, value), b"\n"].concat());
    out
}

/// A value with the quotes it needs or usually has.
fn in_conf(kind: ValueKind, value: &[u8]) -> Vec<u8> {
    match kind {
        ValueKind::Boolean | ValueKind::Number if !value.is_empty() => value.to_vec(),
        _ => quoted(value),
    }
}

/// A value in double quotes.
fn quoted(value: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'"'];
    for byte in value {
        if matches!(byte, b'"' | b'\\' | b'$' | b'`') {
            quoted.push(b'\\');
        }
        quoted.push(*byte);
    }
    quoted.push(b'"');
    quoted
}

/// Text as comment lines.
pub(super) fn comment(text: &str) -> String {
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

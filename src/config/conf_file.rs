//! Reads shell-style assignments the way `sh` would, without being a shell (spec 2,
//! "`.conf` files"). Pure: the environment and the output of commands come from
//! [`Outside`]. Any input ends in bounded time and memory.

#[cfg(test)]
#[path = "conf_file_tests.rs"]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The longest file that is read, in bytes.
pub const MAX_FILE: usize = 1 << 20;
/// All values of a file together may not grow beyond this, in bytes.
const MAX_EXPANDED: usize = 4 << 20;
/// How many commands a file may run.
const MAX_COMMANDS: usize = 200;
/// How many problems are kept: nobody reads more.
const MAX_TROUBLES: usize = 100;

/// What the reader needs from its surroundings.
pub trait Outside {
    /// The value of an environment variable.
    fn variable(&self, name: &str) -> Option<Vec<u8>>;

    /// Whether a pattern file that a setting names is not there.
    fn lacks_pattern_file(&self, _value: &[u8]) -> bool {
        false
    }

    /// What `sh -c command` prints, with `variables` beside the environment.
    ///
    /// # Errors
    /// Why there is no output; a command that fails has printed what is in the pair, too.
    fn output_of(
        &mut self,
        command: &[u8],
        variables: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Vec<u8>, CommandFailure>;
}

/// A command in a configuration file that has no output to rely on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandFailure {
    /// It ran.
    Failed {
        /// What it printed before; a shell would use that.
        output: Vec<u8>,
        /// What happened.
        why: String,
    },
    /// It must not run, for this reason. A value without its output could mean another task.
    Refused(String),
}

/// `KEY=value`, expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The name before the `=`.
    pub key: String,
    /// The value, quotes removed and variables replaced.
    pub value: Vec<u8>,
    /// The line it begins in, from 1.
    pub line: usize,
}

/// Where an assignment stands: byte ranges of what [`normalised`] returns, or of the file if that is
/// TOML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The name before the `=`; in TOML with its quotes.
    pub name: Range<usize>,
    /// The value, with its quotes.
    pub value: Range<usize>,
}

/// A problem in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Where, from 1.
    pub line: usize,
    /// The setting that is affected.
    pub key: Option<String>,
    /// What is wrong and what to do about it.
    pub text: String,
}

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Its assignments in order; of one name, the last counts.
    pub assignments: Vec<Assignment>,
    /// What makes the file unusable.
    pub errors: Vec<Trouble>,
    /// What its author should know.
    pub warnings: Vec<Trouble>,
    /// Names that were used by `$NAME`: helpers, not misspelt settings.
    pub used: BTreeSet<String>,
    /// Names whose value could not be read.
    pub broken: BTreeSet<String>,
    /// Where each assignment stands.
    pub sources: Vec<Source>,
    /// Where each `[HEADING]` stands.
    pub headings: Vec<Range<usize>>,
    /// Lines that set nothing and are no shell code that others depend on, with their
    /// numbers: osync 1.3 goes on behind them.
    pub strays: Vec<(usize, Range<usize>)>,
}

/// The text of a file as the reader sees it: without a byte order mark, with `\n` at the
/// end of lines.
#[must_use]
pub fn normalised(bytes: &[u8]) -> Vec<u8> {
    without_carriage_returns(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes))
}

/// Reads a whole file.
pub fn parse(bytes: &[u8], outside: &mut dyn Outside) -> Parsed {
    let mut parsed = Parsed::default();
    if let Err(text) = plain_text(bytes) {
        parsed.errors.push(Trouble { line: 1, key: None, text: text.to_owned() });
        return parsed;
    }
    let unix = normalised(bytes);
    let mut reader = ConfReader {
        text: &unix,
        at: 0,
        line: 1,
        start: 1,
        key: None,
        broken: false,
        live: true,
        depth: 0,
        left: MAX_EXPANDED,
        commands_left: MAX_COMMANDS,
        suspect: None,
        value_start: 0,
        variables: BTreeMap::new(),
        outside,
        parsed,
    };
    reader.file();
    reader.parsed
}

fn plain_text(bytes: &[u8]) -> Result<(), &'static str> {
    if bytes.len() > MAX_FILE {
        return Err("the file is longer than 1 MiB, too long for a configuration file");
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err("the file is UTF-16; save it as UTF-8");
    }
    if bytes.contains(&0) {
        return Err("the file holds NUL bytes, so it is not a text file");
    }
    Ok(())
}

fn without_carriage_returns(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for (index, byte) in bytes.iter().enumerate() {
        let next = bytes.get(index + 1);
        if *byte != b'\r' || !matches!(next, None | Some(b'\n')) {
            out.push(*byte);
        }
    }
    out
}

/// Where a word ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Where words end.
    Well,
    /// At something that makes the rest of the line unreadable.
    Badly,
}

/// The state of reading one file.
struct ConfReader<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
    /// The line in which the present statement began.
    start: usize,
    /// The setting that is being read.
    key: Option<String>,
    /// Whether the present value is unusable.
    broken: bool,
    /// Whether what is read counts; a default that is not needed is only skipped.
    live: bool,
    /// How many `${…:-` are open.
    depth: usize,
    /// How many bytes of values there may still be.
    left: usize,
    /// How many commands may still be run.
    commands_left: usize,
    /// The first value that swallowed something that looks like a setting.
    suspect: Option<(usize, String)>,
    /// Where the present value begins.
    value_start: usize,
    variables: BTreeMap<String, Vec<u8>>,
    outside: &'a mut dyn Outside,
    parsed: Parsed,
}

impl ConfReader<'_> {
    fn file(&mut self) {
        while let Some(byte) = self.after_blanks() {
            self.start = self.line;
            self.key = None;
            self.broken = false;
            match byte {
                b'\n' => self.skip(1),
                b'#' => self.skip_line(),
                b'[' if self.is_heading() => {
                    let begin = self.at;
                    self.skip_line();
                    self.parsed.headings.push(begin..self.at);
                }
                _ => {
                    let (begin, before) = (self.at, self.parsed.sources.len());
                    if self.statement() == Ended::Badly {
                        self.skip_line();
                        if self.parsed.sources.len() == before {
                            self.keep_stray(begin..self.at);
                        }
                    }
                }
            }
        }
    }

    fn keep_stray(&mut self, range: Range<usize>) {
        const CODE: [&str; 16] = [
            "if", "then", "else", "elif", "fi", "for", "while", "until", "do", "done", "case",
            "esac", "function", "source", "select", "export",
        ];
        let line = &self.text[range.clone()];
        let is_single = !line.contains(&b'\n');
        let is_code = CODE.contains(&name_at(line).as_str())
            || line.contains(&b'{')
            || line.contains(&b'}')
            || line.windows(2).any(|pair| pair == b"()" || pair == b";;")
            || line.contains(&b'(')
            || line.starts_with(b".");
        let is_own = self.parsed.errors.last().is_some_and(|error| error.line == self.start);
        if is_single && !is_code && is_own && self.key.is_none() {
            self.parsed.strays.push((self.start, range));
        }
    }

    /// One line's worth: assignments, perhaps behind `export`, up to a line end, a `;` or
    /// a comment.
    fn statement(&mut self) -> Ended {
        let mut any = false;
        let mut export = false;
        let mut last = None;
        loop {
            match self.after_blanks() {
                None | Some(b'\n') => return Ended::Well,
                Some(b'#') => {
                    self.skip_line();
                    return Ended::Well;
                }
                Some(b';') if any => {
                    self.skip(1);
                    return Ended::Well;
                }
                Some(_) => {}
            }
            let name = self.name_here();
            let behind = self.peek_at(name.len());
            if name == "export" && !any && matches!(behind, Some(b' ' | b'\t')) {
                export = true;
                any = true;
                self.skip(name.len());
            } else if !name.is_empty() && behind == Some(b'=') {
                any = true;
                last = Some(name.clone());
                if self.assignment(name) == Ended::Badly {
                    return Ended::Badly;
                }
            } else if export && !name.is_empty() && is_word_end(behind) {
                self.skip(name.len());
            } else {
                self.key = last;
                self.complain_of_code(&name, behind);
                return Ended::Badly;
            }
        }
    }

    fn assignment(&mut self, name: String) -> Ended {
        let line = self.line;
        self.start = line;
        self.broken = false;
        self.key = Some(name.clone());
        let name_at = self.at..self.at + name.len();
        self.skip(name.len() + 1);
        self.value_start = self.at;
        let value = self.word();
        if self.line > line {
            self.look_for_swallowed_settings(line);
        }
        if let (Some(value), false) = (value, self.broken) {
            self.variables.insert(name.clone(), value.clone());
            self.parsed.assignments.push(Assignment { key: name, value, line });
            let source = Source { name: name_at, value: self.value_start..self.at };
            self.parsed.sources.push(source);
            self.key = None;
            return Ended::Well;
        }
        self.key = None;
        self.parsed.broken.insert(name);
        if self.broken && self.at_word_end() { Ended::Well } else { Ended::Badly }
    }

    /// A quote that was forgotten ends at the next one, and settings become text.
    fn look_for_swallowed_settings(&mut self, line: usize) {
        if self.suspect.as_ref().is_some_and(|(known, _)| *known == line) {
            return;
        }
        let source = &self.text[self.value_start..self.at];
        let swallowed = source.split(|b| *b == b'\n').skip(1).find_map(|line| {
            let name = name_at(line.trim_ascii_start());
            let behind = line.trim_ascii_start().get(name.len());
            (behind == Some(&b'=')).then(|| super::keys::find(&name)).flatten()
        });
        if let (Some(swallowed), Some(key)) = (swallowed, self.key.clone()) {
            let name = swallowed.name;
            self.warn(format!("the value holds the line '{name}=…'; is a closing quote missing?"));
            self.suspect.get_or_insert((line, key));
        }
    }

    /// Reports something that is not an assignment.
    fn complain_of_code(&mut self, name: &str, behind: Option<u8>) {
        if let Some(key) = &self.key {
            self.parsed.broken.insert(key.clone());
        }
        let text = match (name.is_empty(), behind) {
            _ if self.key.is_some() => {
                "the value seems to hold blanks; put it into quotes: KEY=\"several words\"".into()
            }
            (false, Some(b'[')) | (false, Some(b'+')) => {
                format!("{name}: arrays and += are not supported; write one KEY=\"value\"")
            }
            (false, Some(b' ' | b'\t')) if self.text[self.at + name.len()..].trim_ascii_start().starts_with(b"=") => {
                format!("no blanks may stand around the '=' of {name}")
            }
            (true, Some(b';')) => "comments begin with '#'".into(),
            _ => "this is neither a setting (KEY=value) nor a comment; other shell code is not supported".into(),
        };
        self.complain(text);
    }

    /// `[ANYTHING]`, alone in its line.
    fn is_heading(&self) -> bool {
        let rest = &self.text[self.at..];
        let line = rest.split(|b| *b == b'\n').next().unwrap_or_default();
        let Some(close) = line.iter().position(|b| *b == b']') else { return false };
        let behind = line[close + 1..].trim_ascii_start();
        !matches!(line.get(1), Some(b' ' | b'\t' | b'['))
            && matches!(behind.first(), None | Some(b'#'))
    }

    fn complain(&mut self, text: impl Into<String>) {
        self.complain_at(self.start, text);
    }

    fn complain_at(&mut self, line: usize, text: impl Into<String>) {
        self.broken = true;
        if self.parsed.errors.len() < MAX_TROUBLES {
            self.parsed.errors.push(Trouble { line, key: self.key.clone(), text: text.into() });
        }
    }

    fn warn(&mut self, text: impl Into<String>) {
        if self.parsed.warnings.len() < MAX_TROUBLES {
            let (line, key) = (self.start, self.key.clone());
            self.parsed.warnings.push(Trouble { line, key, text: text.into() });
        }
    }

    fn peek(&self) -> Option<u8> {
        self.peek_at(0)
    }

    fn peek_at(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn skip(&mut self, count: usize) {
        let end = (self.at + count).min(self.text.len());
        self.line += self.text[self.at..end].iter().filter(|b| **b == b'\n').count();
        self.at = end;
    }

    fn skip_line(&mut self) {
        let rest = &self.text[self.at..];
        self.skip(rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()));
    }

    /// The next byte that is neither a blank nor part of a continued line.
    fn after_blanks(&mut self) -> Option<u8> {
        loop {
            match (self.peek(), self.peek_at(1)) {
                (Some(b' ' | b'\t'), _) => self.skip(1),
                (Some(b'\\'), Some(b'\n')) => self.skip(2),
                (byte, _) => return byte,
            }
        }
    }

    /// The identifier that begins here, or nothing.
    fn name_here(&self) -> String {
        name_at(&self.text[self.at..])
    }

    fn at_word_end(&self) -> bool {
        is_word_end(self.peek())
    }
}

fn is_word_end(byte: Option<u8>) -> bool {
    matches!(byte, None | Some(b' ' | b'\t' | b'\n' | b';'))
}

/// The identifier at the beginning of `text`, or nothing.
fn name_at(text: &[u8]) -> String {
    let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let name: Vec<u8> = text.iter().take_while(|b| word(b)).copied().collect();
    if name.first().is_some_and(u8::is_ascii_digit) {
        return String::new();
    }
    String::from_utf8(name).unwrap_or_default()
}

/// How deep `${A:-${B:-…}}` may be nested.
const MAX_DEPTH: usize = 16;

/// What surrounds the text that is being read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Around {
    /// Nothing: the word ends at a blank or an operator.
    Nothing,
    /// `${NAME:-` outside of quotes: the word ends at `}`.
    Braces,
    /// `"${NAME:-`: likewise, and only `\`, `$` and `` ` `` are special.
    QuotedBraces,
}

/// The quotes in which a substitution stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    None,
    Double,
}

impl Around {
    fn quotes(self) -> Quotes {
        match self {
            Around::Nothing | Around::Braces => Quotes::None,
            Around::QuotedBraces => Quotes::Double,
        }
    }
}

impl ConfReader<'_> {
    /// Reads the value behind `=`; `None` if the rest of the line cannot be read either.
    fn word(&mut self) -> Option<Vec<u8>> {
        let mut value = Vec::new();
        self.bare(Around::Nothing, &mut value)?;
        Some(value)
    }

    fn bare(&mut self, around: Around, out: &mut Vec<u8>) -> Option<()> {
        let mut tilde_may_come = around != Around::QuotedBraces;
        loop {
            let Some(byte) = self.peek() else {
                return (around == Around::Nothing).then_some(());
            };
            let tilde = std::mem::take(&mut tilde_may_come);
            match (byte, around) {
                (b' ' | b'\t' | b'\n' | b';', Around::Nothing) => return Some(()),
                (b'}', Around::Braces | Around::QuotedBraces) => return Some(()),
                (b'(', Around::Nothing) if out.is_empty() => {
                    self.complain("arrays are not supported; write one KEY=\"value\"");
                    return None;
                }
                (b'&' | b'|' | b'<' | b'>' | b'(' | b')', Around::Nothing) => {
                    let sign = char::from(byte);
                    self.complain(format!("a value that holds '{sign}' needs quotes around it"));
                    return None;
                }
                (b'\\', _) => {
                    tilde_may_come = tilde && self.peek_at(1) == Some(b'\n');
                    self.escaped(around, out);
                }
                (b'\'', Around::Nothing | Around::Braces) => self.single_quoted(out)?,
                (b'"', Around::Nothing | Around::Braces) => self.double_quoted(out)?,
                // shells differ here
                (b'"' | b'\'', Around::QuotedBraces) => {
                    self.complain("quotes inside \"${NAME:-…}\" are not supported");
                    return None;
                }
                (b'$', _) => self.dollar(around.quotes(), out)?,
                (b'`', _) => self.backquoted(around.quotes(), out)?,
                (b'~', _) if tilde => self.tilde(out),
                _ => {
                    tilde_may_come = byte == b':' && around == Around::Nothing;
                    self.skip(1);
                    self.push(out, &[byte]);
                }
            }
        }
    }

    fn escaped(&mut self, around: Around, out: &mut Vec<u8>) {
        let next = self.peek_at(1);
        let plain = match around {
            Around::QuotedBraces => matches!(next, Some(b'$' | b'`' | b'"' | b'\\' | b'}')),
            _ => next.is_some(),
        };
        match next {
            Some(b'\n') => {}
            Some(byte) if plain => self.push(out, &[byte]),
            Some(byte) => self.push(out, &[b'\\', byte]),
            None => self.push(out, b"\\"),
        }
        self.skip(2);
    }

    fn single_quoted(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let line = self.line;
        let rest = &self.text[self.at + 1..];
        let Some(length) = rest.iter().position(|b| *b == b'\'') else {
            return self.never_closed(line, "'");
        };
        self.push(out, &rest[..length]);
        self.skip(length + 2);
        Some(())
    }

    fn double_quoted(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let line = self.line;
        self.skip(1);
        loop {
            match (self.peek(), self.peek_at(1)) {
                (None, _) => return self.never_closed(line, "\""),
                (Some(b'"'), _) => {
                    self.skip(1);
                    return Some(());
                }
                (Some(b'\\'), Some(b'\n')) => self.skip(2),
                (Some(b'\\'), Some(next @ (b'$' | b'`' | b'"' | b'\\'))) => {
                    self.push(out, &[next]);
                    self.skip(2);
                }
                (Some(b'$'), _) => self.dollar(Quotes::Double, out)?,
                (Some(b'`'), _) => self.backquoted(Quotes::Double, out)?,
                (Some(byte), _) => {
                    self.push(out, &[byte]);
                    self.skip(1);
                }
            }
        }
    }

    /// What is left of the file cannot be told from the open quote.
    fn never_closed(&mut self, line: usize, what: &str) -> Option<()> {
        self.look_for_swallowed_settings(self.start);
        let hint = match &self.suspect {
            Some((other, key)) if *other != line => {
                format!("; perhaps it is the one of {key} in line {other}")
            }
            _ => String::new(),
        };
        self.complain_at(line, format!("the {what} that is opened here is never closed{hint}"));
        self.skip(self.text.len());
        None
    }

    fn dollar(&mut self, quotes: Quotes, out: &mut Vec<u8>) -> Option<()> {
        match self.peek_at(1) {
            Some(b'{') => self.braces(quotes, out),
            Some(b'(') => self.command(out),
            Some(b'\'' | b'"') if quotes == Quotes::None => {
                self.complain("$'…' and $\"…\" are not supported; use ordinary quotes");
                self.skip(1);
                Some(())
            }
            Some(sign @ (b'0'..=b'9' | b'@' | b'*' | b'#' | b'?' | b'$' | b'!' | b'-' | b'[')) => {
                let sign = char::from(sign);
                self.complain(format!("${sign} means nothing here; write \\$ for a dollar sign"));
                self.skip(2);
                Some(())
            }
            _ => {
                let name = name_at(&self.text[self.at + 1..]);
                self.skip(name.len() + 1);
                if self.text[self.at..].starts_with(b"\\\n") {
                    self.complain("a line cannot be continued right behind '$' or $NAME");
                }
                if name.is_empty() {
                    self.push(out, b"$");
                } else {
                    let value = self.value_or_warning(&name);
                    self.push(out, &value);
                }
                Some(())
            }
        }
    }

    /// `${NAME}`, `${NAME-default}` or `${NAME:-default}`.
    fn braces(&mut self, quotes: Quotes, out: &mut Vec<u8>) -> Option<()> {
        let line = self.line;
        let name = name_at(&self.text[self.at + 2..]);
        let behind = &self.text[self.at + 2 + name.len()..];
        let (operator, unset_only) = match behind {
            [b'}', ..] => (0, false),
            [b':', b'-', ..] => (2, false),
            [b'-', ..] => (1, true),
            _ => (usize::MAX, false),
        };
        if name.is_empty() || operator == usize::MAX {
            self.complain("of ${…}, only ${NAME} and ${NAME:-default} are supported");
            self.skip(2);
            return Some(());
        }
        self.skip(2 + name.len() + operator);
        if operator == 0 {
            self.skip(1);
            let value = self.value_or_warning(&name);
            self.push(out, &value);
            return Some(());
        }
        let value = self.value(&name).filter(|value| unset_only || !value.is_empty());
        if self.depth == MAX_DEPTH {
            self.complain("${…} is nested too deeply");
            return None;
        }
        self.depth += 1;
        let live = self.live;
        self.live &= value.is_none();
        let around = match quotes {
            Quotes::Double => Around::QuotedBraces,
            Quotes::None => Around::Braces,
        };
        let mut default = Vec::new();
        let read = self.bare(around, &mut default);
        self.live = live;
        self.depth -= 1;
        if read.is_none() && self.peek().is_none() && !self.broken {
            self.never_closed(line, "${")?;
        }
        read?;
        self.skip(1);
        match value {
            Some(value) => self.push(out, &value),
            None => out.append(&mut default),
        }
        Some(())
    }

    /// `~/` and `~` become the home directory; `~name` is not looked up.
    fn tilde(&mut self, out: &mut Vec<u8>) {
        match self.peek_at(1) {
            None | Some(b'/' | b':' | b' ' | b'\t' | b'\n' | b';' | b'}') => {
                let home = self.value("HOME").unwrap_or_else(|| b"~".to_vec());
                self.push(out, &home);
            }
            Some(byte) if byte.is_ascii_alphanumeric() || b"_+-".contains(&byte) => {
                self.complain(
                    "only ~/ is replaced by a home directory; \
                     write the other path in full, or put a '~' that means itself into quotes",
                );
            }
            Some(b'\\') if self.peek_at(2) == Some(b'\n') => {
                self.complain("a line cannot be continued right behind '~'");
            }
            Some(_) => self.push(out, b"~"),
        }
        self.skip(1);
    }

    fn value_or_warning(&mut self, name: &str) -> Vec<u8> {
        let value = self.value(name);
        if value.is_none() && self.live {
            self.warn(format!("${name} is not set, so nothing stands in its place"));
        }
        value.unwrap_or_default()
    }

    /// The value set above in the file, else that of the environment.
    fn value(&mut self, name: &str) -> Option<Vec<u8>> {
        if !self.parsed.used.contains(name) {
            self.parsed.used.insert(name.to_owned());
        }
        if !self.live {
            return None;
        }
        self.variables.get(name).cloned().or_else(|| self.outside.variable(name))
    }

    /// Adds to a value, unless all values together have grown too large.
    fn push(&mut self, out: &mut Vec<u8>, bytes: &[u8]) {
        if !self.live {
            return;
        }
        if let Some(left) = self.left.checked_sub(bytes.len()) {
            self.left = left;
            out.extend_from_slice(bytes);
        } else if self.left > 0 {
            self.left = 0;
            self.complain("the values of this file grow too large");
            // What follows could make us copy such values over and over.
            self.skip(self.text.len());
        } else {
            self.broken = true;
        }
    }
}

/// What is open inside a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    /// `(` or `$(`
    Paren,
    /// `"`
    Quote,
}

impl ConfReader<'_> {
    /// `$(command)`, beginning at the `$`.
    fn command(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let line = self.line;
        let rest = &self.text[self.at + 2..];
        let Some(length) = closing_paren(rest) else {
            return self.never_closed(line, "$(");
        };
        let command = rest[..length].to_vec();
        self.skip(length + 3);
        if command.starts_with(b"(") {
            self.complain("$((…)) is not supported");
            return Some(());
        }
        self.run(&command, out);
        Some(())
    }

    /// `` `command` ``, where `\` escapes `` ` ``, `$`, `\`, and inside quotes `"`.
    fn backquoted(&mut self, quotes: Quotes, out: &mut Vec<u8>) -> Option<()> {
        let line = self.line;
        let rest = &self.text[self.at + 1..];
        let mut command = Vec::new();
        let mut at = 0;
        loop {
            match (rest.get(at), rest.get(at + 1)) {
                (None, _) => return self.never_closed(line, "`"),
                (Some(b'`'), _) => break,
                (Some(b'\\'), Some(next @ (b'`' | b'$' | b'\\'))) => {
                    command.push(*next);
                    at += 2;
                }
                (Some(b'\\'), Some(b'"')) if quotes == Quotes::Double => {
                    command.push(b'"');
                    at += 2;
                }
                (Some(byte), _) => {
                    command.push(*byte);
                    at += 1;
                }
            }
        }
        self.skip(at + 2);
        self.run(&command, out);
        Some(())
    }

    /// The output without the newlines at its end, as in a shell.
    fn run(&mut self, command: &[u8], out: &mut Vec<u8>) {
        if !self.live || self.broken {
            return;
        }
        if self.commands_left == 0 {
            self.complain("too many commands in one file");
            return;
        }
        self.commands_left -= 1;
        let mut output = match self.outside.output_of(command, &self.variables) {
            Ok(output) => output,
            Err(CommandFailure::Failed { output, why }) => {
                let shown = crate::tree::path::escape(command);
                self.warn(format!("$({shown}): {why}"));
                output
            }
            Err(CommandFailure::Refused(why)) => {
                let shown = crate::tree::path::escape(command);
                self.complain(format!("$({shown}): {why}"));
                return;
            }
        };
        output.retain(|byte| *byte != 0);
        let end = output.iter().rposition(|byte| *byte != b'\n').map_or(0, |last| last + 1);
        self.push(out, &output[..end]);
    }
}

/// How many bytes stand before the `)` that closes what begins with `text`.
fn closing_paren(text: &[u8]) -> Option<usize> {
    let mut open = vec![Open::Paren];
    let mut at = 0;
    let mut word_begins = true;
    while let Some(byte) = text.get(at) {
        let inside_quotes = open.last() == Some(&Open::Quote);
        let began = std::mem::replace(&mut word_begins, b" \t\n;&|(".contains(byte));
        match byte {
            b'\\' => at += 1,
            b'$' if text.get(at + 1) == Some(&b'(') => {
                open.push(Open::Paren);
                word_begins = true;
                at += 1;
            }
            b'"' if inside_quotes => {
                open.pop();
            }
            b'"' => open.push(Open::Quote),
            _ if inside_quotes => {}
            b'\'' => at += 1 + text[at + 1..].iter().position(|b| *b == b'\'')?,
            b'#' if began => at += text[at..].iter().position(|b| *b == b'\n')? - 1,
            b'(' => open.push(Open::Paren),
            b')' => {
                open.pop();
                if open.is_empty() {
                    return Some(at);
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod commands_tests {
    use super::*;

    #[test]
    fn the_end_of_a_command_is_found_behind_quotes_parens_and_comments() {
        for (text, expected) in [
            ("hostname)", Some("hostname")),
            ("a (b) c) d)", Some("a (b) c")),
            ("echo ')')", Some("echo ')'")),
            ("echo \")\")", Some("echo \")\"")),
            ("echo \"$(echo \")\")\")", Some("echo \"$(echo \")\")\"")),
            ("echo \\))", Some("echo \\)")),
            ("echo # )\n)", Some("echo # )\n")),
            ("echo a#b)", Some("echo a#b")),
            ("#\n)", Some("#\n")),
            ("echo", None),
            ("echo ')", None),
            ("\\", None),
        ] {
            let found = closing_paren(text.as_bytes()).map(|end| &text[..end]);
            assert_eq!(found, expected, "{text:?}");
        }
    }
}

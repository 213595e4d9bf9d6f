//! One word of a shell: quotes, escapes, `$NAME`, `${NAME:-default}`, `~/`.

use super::{Reader, name_at};

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

impl Reader<'_> {
    /// Reads the value behind `=`; none if the rest of the line makes no sense either.
    pub(super) fn word(&mut self) -> Option<Vec<u8>> {
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
                // Here shells differ among each other.
                (b'"' | b'\'', Around::QuotedBraces) => {
                    self.complain("quotes inside \"${NAME:-…}\" are not supported");
                    return None;
                }
                (b'$', _) => self.dollar(around == Around::QuotedBraces, out)?,
                (b'`', _) => self.backquoted(around == Around::QuotedBraces, out)?,
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
                (Some(b'$'), _) => self.dollar(true, out)?,
                (Some(b'`'), _) => self.backquoted(true, out)?,
                (Some(byte), _) => {
                    self.push(out, &[byte]);
                    self.skip(1);
                }
            }
        }
    }

    /// What is left of the file cannot be told from the open quote.
    pub(super) fn never_closed(&mut self, line: usize, what: &str) -> Option<()> {
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

    fn dollar(&mut self, quoted: bool, out: &mut Vec<u8>) -> Option<()> {
        match self.peek_at(1) {
            Some(b'{') => self.braces(quoted, out),
            Some(b'(') => self.command(out),
            Some(b'\'' | b'"') if !quoted => {
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
    fn braces(&mut self, quoted: bool, out: &mut Vec<u8>) -> Option<()> {
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
        let around = if quoted { Around::QuotedBraces } else { Around::Braces };
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
    pub(super) fn push(&mut self, out: &mut Vec<u8>, bytes: &[u8]) {
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

//! `$(command)` and `` `command` `` inside values.

use super::{CommandFailure, Reader};

/// What is open inside a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    /// `(` or `$(`
    Paren,
    /// `"`
    Quote,
}

impl Reader<'_> {
    /// `$(command)`, beginning at the `$`.
    pub(super) fn command(&mut self, out: &mut Vec<u8>) -> Option<()> {
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
    pub(super) fn backquoted(&mut self, quoted: bool, out: &mut Vec<u8>) -> Option<()> {
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
                (Some(b'\\'), Some(b'"')) if quoted => {
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
mod tests {
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

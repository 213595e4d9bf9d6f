//! A manual page in roff, with the macros of man(7).

use std::fmt::Write;

/// Lines of text are no longer: checkers of pages ask for 80 bytes.
const WIDTH: usize = 78;

/// A piece of text in one font.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Span {
    /// Ordinary text.
    Roman(String),
    /// What is typed as it stands.
    Bold(String),
    /// What stands for something else, and names of files.
    Italic(String),
}

pub(super) fn roman(text: impl Into<String>) -> Span {
    Span::Roman(text.into())
}

pub(super) fn bold(text: impl Into<String>) -> Span {
    Span::Bold(text.into())
}

pub(super) fn italic(text: impl Into<String>) -> Span {
    Span::Italic(text.into())
}

impl Span {
    /// The text without its font.
    pub(super) fn text(&self) -> &str {
        match self {
            Span::Roman(text) | Span::Bold(text) | Span::Italic(text) => text,
        }
    }
}

/// What a page is called.
pub(super) struct Title<'a> {
    /// Its name, as `man NAME` finds it.
    pub name: &'a str,
    /// The section of the manual: 1 for commands, 5 for files.
    pub section: u8,
    /// What it is about, in one line.
    pub about: &'a str,
    /// When it was last looked through.
    pub date: &'a str,
    /// The program and its version.
    pub source: &'a str,
}

/// A page that is being written.
pub(super) struct Page {
    out: String,
}

impl Page {
    pub(super) fn new(title: &Title<'_>) -> Self {
        let Title { name, section, about, date, source } = title;
        let mut out = String::new();
        let upper = name.to_uppercase();
        let _ = writeln!(out, ".TH \"{}\" {section} {date} \"{source}\"", argument(&upper));
        let mut page = Page { out };
        page.section("NAME");
        page.text(&[roman(format!("{name} - {about}"))]);
        page
    }

    pub(super) fn section(&mut self, name: &str) {
        let _ = writeln!(self.out, ".SH \"{}\"", argument(name));
    }

    pub(super) fn subsection(&mut self, name: &str) {
        let _ = writeln!(self.out, ".SS \"{}\"", argument(name));
    }

    /// Text that is filled. Right below a heading no space goes before it.
    pub(super) fn paragraph(&mut self, spans: &[Span]) {
        if !self.is_below_heading() {
            self.out.push_str(".PP\n");
        }
        self.text(spans);
    }

    /// A term, and behind it what it means.
    pub(super) fn item(&mut self, term: &[Span], meaning: &[Span]) {
        let _ = writeln!(self.out, ".TP\n{}", in_fonts(term));
        self.text(meaning);
    }

    /// One point of a list.
    pub(super) fn bullet(&mut self, spans: &[Span]) {
        self.out.push_str(".IP \\(bu 2\n");
        self.text(spans);
    }

    /// Lines that stay as they are.
    pub(super) fn verbatim<'a>(&mut self, lines: impl IntoIterator<Item = &'a str>) {
        if !self.is_below_heading() {
            self.out.push_str(".PP\n");
        }
        self.out.push_str(".RS 4\n.nf\n");
        for line in lines {
            let _ = writeln!(self.out, "{}", no_request(&escape(line)));
        }
        self.out.push_str(".fi\n.RE\n");
    }

    pub(super) fn finish(self) -> String {
        self.out
    }

    fn text(&mut self, spans: &[Span]) {
        let mut line = String::new();
        for word in in_fonts(spans).split_ascii_whitespace() {
            if !line.is_empty() && width(&line) + 1 + width(word) > WIDTH {
                let _ = writeln!(self.out, "{}", no_request(&line));
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        if !line.is_empty() {
            let _ = writeln!(self.out, "{}", no_request(&line));
        }
    }

    fn is_below_heading(&self) -> bool {
        let last = self.out.lines().next_back().unwrap_or_default();
        last.starts_with(".SH ") || last.starts_with(".SS ")
    }
}

/// How long readers of pages take a text for: they turn what is not ASCII into `\[uXXXX]` first.
fn width(text: &str) -> usize {
    text.chars().map(|c| if c.is_ascii() { 1 } else { 8 }).sum()
}

fn in_fonts(spans: &[Span]) -> String {
    let mut out = String::new();
    for span in spans {
        let text = escape(span.text());
        match span {
            Span::Roman(_) => out.push_str(&text),
            Span::Bold(_) => out.push_str(&format!("\\fB{text}\\fR")),
            Span::Italic(_) => out.push_str(&format!("\\fI{text}\\fR")),
        }
    }
    out
}

/// Characters that mean something to roff, or that it would print as others.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '\'' => out.push_str("\\(aq"),
            '`' => out.push_str("\\(ga"),
            '~' => out.push_str("\\(ti"),
            '^' => out.push_str("\\(ha"),
            c => out.push(c),
        }
    }
    out
}

/// The same inside the quotes of a macro's argument.
fn argument(text: &str) -> String {
    escape(text).replace('"', "\\(dq")
}

/// A line that begins with a full stop would be a request.
fn no_request(line: &str) -> String {
    if line.starts_with('.') { format!("\\&{line}") } else { line.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(write: impl FnOnce(&mut Page)) -> String {
        let about = "does it";
        let title = Title { name: "a-b", section: 1, about, date: "2026-01-02", source: "a 1" };
        let mut page = Page::new(&title);
        write(&mut page);
        let begin = ".TH \"A\\-B\" 1 2026-01-02 \"a 1\"\n.SH \"NAME\"\na\\-b \\- does it\n";
        page.finish().strip_prefix(begin).unwrap().to_owned()
    }

    #[test]
    fn what_means_something_to_roff_is_printed_as_it_is() {
        let made = page(|page| {
            page.section("SAY \"HI\"");
            page.paragraph(&[roman(".TH is a 'macro', \\ too; "), bold("--flag"), italic("~/x")]);
            page.verbatim([".conf", "  $(a) `b` ^"]);
        });
        assert_eq!(
            made,
            ".SH \"SAY \\(dqHI\\(dq\"\n\
             \\&.TH is a \\(aqmacro\\(aq, \\e too; \\fB\\-\\-flag\\fR\\fI\\(ti/x\\fR\n\
             .PP\n.RS 4\n.nf\n\\&.conf\n  $(a) \\(gab\\(ga \\(ha\n.fi\n.RE\n"
        );
    }

    #[test]
    fn text_is_broken_into_short_lines_none_of_which_is_a_request() {
        let words = [".conf "; 40].concat();
        let made = page(|page| page.bullet(&[roman(words)]));
        let lines: Vec<&str> = made.lines().skip(1).collect();
        assert!(lines.len() > 2, "{made}");
        for line in lines {
            assert!(line.len() <= 80 && line.starts_with("\\&.conf"), "{line}");
        }
    }
}

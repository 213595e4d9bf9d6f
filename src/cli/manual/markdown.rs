//! The part of Markdown that our pages in `docs/` are written in, as part of a manual page: so
//! that what both say is written once.

use super::roff::{Page, Span, bold, italic, roman};

/// The text below a heading, to the next one of the same or a higher level.
pub(super) fn below<'a>(text: &'a str, heading: &str) -> Option<&'a str> {
    let level = heading.bytes().take_while(|byte| *byte == b'#').count();
    let (_, rest) = text.split_once(&format!("{heading}\n"))?;
    let mut is_code = false;
    let mut end = 0;
    for line in rest.split_inclusive('\n') {
        let marks = line.bytes().take_while(|byte| *byte == b'#').count();
        is_code ^= line.starts_with("```");
        if !is_code && (1..=level).contains(&marks) {
            break;
        }
        end += line.len();
    }
    rest.get(..end)
}

/// Adds the text to a page: `##` is a section of it, `###` a part of one. The first column of a
/// table becomes the term, the others what it means. Pages that a link leads to are named.
pub(super) fn add(page: &mut Page, text: &str) {
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let mut more_while = |belongs: fn(&str) -> bool| {
            let mut block = vec![line];
            while let Some(next) = lines.next_if(|next| belongs(next)) {
                block.push(next);
            }
            block
        };
        if line.trim().is_empty() || line.starts_with("<!--") {
            continue;
        }
        if let Some(heading) = line.strip_prefix("## ") {
            page.section(&upper(&spans(heading)));
        } else if let Some(heading) = line.strip_prefix("### ") {
            page.subsection(&plain(&spans(heading)));
        } else if line.starts_with("```") {
            let code = more_while(|next| !next.starts_with("```"));
            page.verbatim(code.into_iter().skip(1));
            lines.next();
        } else if line.starts_with("    ") {
            let code = more_while(|next| next.starts_with("    "));
            page.verbatim(code.iter().map(|line| line.trim_start()));
        } else if line.starts_with('|') {
            let rows = more_while(|next| next.starts_with('|'));
            // behind the head and the line below it
            for row in rows.into_iter().skip(2) {
                add_row(page, row);
            }
        } else if let Some(first) = line.strip_prefix("- ") {
            let rest = more_while(|next| next.starts_with("  "));
            let point = [&[first], rest.get(1..).unwrap_or_default()].concat();
            page.bullet(&spans(&point.join(" ")));
        } else {
            page.paragraph(&spans(&more_while(continues_paragraph).join(" ")));
        }
    }
}

fn continues_paragraph(line: &str) -> bool {
    !line.trim().is_empty() && !line.starts_with(['#', '|', '`', '<']) && !line.starts_with("- ")
        || line.starts_with('`') && !line.starts_with("```")
}

fn add_row(page: &mut Page, row: &str) {
    let row = row.replace("\\|", "\0");
    let cells = row.trim_matches('|').split('|').map(|cell| cell.trim().replace('\0', "|"));
    let mut cells = cells.filter(|cell| !cell.is_empty());
    let Some(term) = cells.next() else { return };
    let meaning: Vec<String> = cells.collect();
    page.item(&spans(&term), &spans(&meaning.join("; ")));
}

/// Code, emphasis, links and escapes within a text.
fn spans(text: &str) -> Vec<Span> {
    let mut found = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let code = enclosed(rest, "`` ", " ``").or_else(|| enclosed(rest, "`", "`"));
        let marked = if let Some((code, after)) = code {
            Some((bold(code), after))
        } else if let Some((strong, after)) = enclosed(rest, "**", "**") {
            Some((bold(strong), after))
        } else if let Some((stressed, after)) = enclosed(rest, "*", "*") {
            Some((italic(stressed), after))
        } else {
            link(rest).map(|(text, after)| (italic(named(text)), after))
        };
        if let Some((span, after)) = marked {
            found.push(roman(std::mem::take(&mut plain)));
            found.push(span);
            rest = after;
            continue;
        }
        let after = rest.get(first.len_utf8()..).unwrap_or_default();
        match after.chars().next() {
            Some(next) if first == '\\' && next.is_ascii_punctuation() => {
                plain.push(next);
                rest = after.get(next.len_utf8()..).unwrap_or_default();
            }
            _ => {
                plain.push(first);
                rest = after;
            }
        }
    }
    found.push(roman(plain));
    found.retain(|span| !span.text().is_empty());
    found
}

/// What stands between two marks at the beginning of a text, and what follows.
fn enclosed<'a>(text: &'a str, open: &str, close: &str) -> Option<(&'a str, &'a str)> {
    let (inside, after) = text.strip_prefix(open)?.split_once(close)?;
    let is_marked = !inside.is_empty() && !inside.starts_with(' ') && !inside.ends_with(' ');
    is_marked.then_some((inside, after))
}

/// The text of a link at the beginning of a text, and what follows.
fn link(text: &str) -> Option<(&str, &str)> {
    let (shown, after) = enclosed(text, "[", "](")?;
    let (_, after) = after.split_once(')')?;
    (!shown.contains(['[', ']'])).then_some((shown, after))
}

/// How a manual page names another one.
fn named(link: &str) -> String {
    match link {
        "configuration.md" => "osync.conf(5)".to_owned(),
        "command-line.md" => "osync(1)".to_owned(),
        other => other.replace('`', ""),
    }
}

/// In capitals, but for what is typed as it stands.
fn upper(spans: &[Span]) -> String {
    let in_capitals = spans.iter().map(|span| match span {
        Span::Bold(code) => code.clone(),
        other => other.text().to_uppercase(),
    });
    in_capitals.collect()
}

fn plain(spans: &[Span]) -> String {
    spans.iter().map(Span::text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::manual::roff::Title;

    fn made(text: &str) -> String {
        let title = Title { name: "x", section: 5, about: "x", date: "", source: "" };
        let mut page = Page::new(&title);
        let head = page.finish();
        page = Page::new(&title);
        add(&mut page, text);
        page.finish().strip_prefix(&head).unwrap().to_owned()
    }

    #[test]
    fn each_kind_of_block_has_its_macro() {
        for (text, expected) in [
            ("## `.conf` files\n", ".SH \".conf FILES\"\n"),
            ("### [MISC]\n", ".SS \"[MISC]\"\n"),
            ("a\n`b` c\n\nd\n", ".PP\na \\fBb\\fR c\n.PP\nd\n"),
            ("- a\n  b\n- c\n", ".IP \\(bu 2\na b\n.IP \\(bu 2\nc\n"),
            ("```sh\na  b\n\n```\n", ".PP\n.RS 4\n.nf\na  b\n\n.fi\n.RE\n"),
            ("    a b\n", ".PP\n.RS 4\n.nf\na b\n.fi\n.RE\n"),
            ("| k | v |\n|---|---|\n| `A\\|B` | x, y |\n", ".TP\n\\fBA|B\\fR\nx, y\n"),
        ] {
            assert_eq!(made(text), expected, "{text}");
        }
    }

    #[test]
    fn marks_within_a_line_become_fonts() {
        for (text, expected) in [
            ("`a` *b* **c**", vec![bold("a"), roman(" "), italic("b"), roman(" "), bold("c")]),
            ("see [star.md](star.md#x).", vec![roman("see "), italic("star.md"), roman(".")]),
            ("\\_TOKEN * 2 [x]", vec![roman("_TOKEN * 2 [x]")]),
            ("[x] `` `a` `` [b](c)", vec![roman("[x] "), bold("`a`"), roman(" "), italic("b")]),
        ] {
            assert_eq!(spans(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_below_a_heading_ends_at_the_next_of_its_level() {
        let text = "# A\nx\n## B\ny\n```\n# no heading\n```\n### C\nz\n## D\n";
        assert_eq!(below(text, "## B"), Some("y\n```\n# no heading\n```\n### C\nz\n"));
        assert_eq!(below(text, "## D"), Some(""));
        assert_eq!(below(text, "## E"), None);
    }
}

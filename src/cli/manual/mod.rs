//! `osync man`: the manual pages. Options come from the definitions of the command line, keys from
//! the table of settings, and what `docs/` says already from there.

mod markdown;
mod roff;

use super::Cli;
use super::task_args::Refused;
use crate::config::keys::{KEYS, Key, Section, ValueKind};
use clap::{Arg, Command, CommandFactory};
use roff::{Page, Span, Title, bold, italic, roman};

/// What only the page of osync itself says.
const OSYNC: &str = include_str!("osync.md");
/// What osync.conf(5) says around the keys.
const CONFIGURATION: &str = include_str!("../../../docs/configuration.md");
/// Where environment and exit statuses are described.
const COMMAND_LINE: &str = include_str!("../../../docs/command-line.md");

/// When the pages were last looked through: a page without a date is no sound one.
const DATE: &str = "2026-11-30";
const SOURCE: &str = concat!("osync ", env!("CARGO_PKG_VERSION"));

/// The words for the page of the configuration file.
const CONF: [&str; 2] = ["conf", "osync.conf"];

/// A manual page in roff: of osync, of one of its commands, or of its configuration file.
///
/// # Errors
/// There is no such command.
pub fn page(name: Option<&str>) -> anyhow::Result<String> {
    let mut cli = Cli::command();
    // only then commands know that they are called osync-NAME
    cli.build();
    match name {
        None => Ok(of_osync(&mut cli)),
        Some(name) if CONF.contains(&name) => Ok(of_configuration()),
        Some(name) => {
            let named = cli.find_subcommand(name).filter(|command| !command.is_hide_set());
            let unknown = || Refused::Usage(format!("there is no command '{name}'"));
            Ok(of_command(&mut named.ok_or_else(unknown)?.clone()))
        }
    }
}

fn of_osync(cli: &mut Command) -> String {
    let mut page = begun("osync", 1, &about(cli));
    add_usage(&mut page, cli);
    page.section("DESCRIPTION");
    add_part(&mut page, OSYNC, "## Description");
    page.section("OPTIONS");
    add_options(&mut page, cli);
    page.section("COMMANDS");
    page.paragraph(&[roman("Each has a page of its own: "), bold("man osync-COMMAND"), roman(".")]);
    let run: Vec<&Arg> = cli.get_arguments().collect();
    for command in shown_commands(cli) {
        let is_of_a_run = |arg: &Arg| run.iter().any(|of_run| of_run.get_id() == arg.get_id());
        let own = arguments(command).filter(|arg| !arg.is_positional() && !is_of_a_run(arg));
        let own: Vec<Vec<Span>> = own.map(term).collect();
        let mut meaning = vec![roman(format!("{}.", about(command)))];
        if !own.is_empty() {
            meaning.push(roman(" Options of its own: "));
            meaning.extend(own.join(&roman(", ")));
            meaning.push(roman("."));
        }
        page.item(&[bold(format!("osync {}", command.get_name()))], &meaning);
    }
    for heading in ["Environment", "Exit status"] {
        page.section(&heading.to_uppercase());
        add_part(&mut page, COMMAND_LINE, &format!("## {heading}"));
    }
    for heading in ["Files", "Examples"] {
        page.section(&heading.to_uppercase());
        add_part(&mut page, OSYNC, &format!("## {heading}"));
    }
    let pages = shown_commands(cli).map(|command| (format!("osync-{}", command.get_name()), 1));
    let others = [("osync.conf", 5), ("rsync", 1), ("ssh", 1), ("sshd", 8), ("crontab", 5)];
    let others = others.map(|(name, section)| (name.to_owned(), section));
    add_see_also(&mut page, pages.chain(others));
    page.finish()
}

fn of_command(command: &mut Command) -> String {
    let name = command.get_name().to_owned();
    let mut page = begun(&format!("osync-{name}"), 1, &about(command));
    add_usage(&mut page, command);
    let epilogue = Epilogue::of(command);
    page.section("DESCRIPTION");
    page.paragraph(&[roman(format!("{}.", about(command)))]);
    for text in &epilogue.notes {
        page.paragraph(&[roman(text)]);
    }
    page.section("OPTIONS");
    add_options(&mut page, command);
    let parts: Vec<&Command> = shown_commands(command).collect();
    if let Some(first) = parts.first() {
        page.section("COMMANDS");
        for part in &parts {
            let term = format!("osync {name} {}", part.get_name());
            page.item(&[bold(term)], &[roman(format!("{}.", about(part)))]);
        }
        page.subsection("Options of these");
        add_options(&mut page, first);
    }
    page.section("EXIT STATUS");
    for text in &epilogue.exit_status {
        page.paragraph(&[roman(text)]);
    }
    page.section("EXAMPLES");
    for (example, meaning) in &epilogue.examples {
        page.item(&[bold(example)], &[roman(meaning)]);
    }
    let others = [("osync", 1), ("osync.conf", 5)];
    add_see_also(&mut page, others.map(|(name, section)| (name.to_owned(), section)));
    page.finish()
}

fn of_configuration() -> String {
    let mut page = begun("osync.conf", 5, "the settings of a task of osync");
    page.section("SYNOPSIS");
    page.paragraph(&[italic("/etc/osync/NAME.conf"), roman(", "), italic("/etc/osync/NAME.toml")]);
    page.section("DESCRIPTION");
    let (introduction, rest) = CONFIGURATION.split_once("\n## ").unwrap_or_default();
    let introduction = introduction.split_once('\n').unwrap_or_default().1;
    markdown::add(&mut page, introduction);
    let (before, after) = rest.split_once("<!-- keys: begin -->").unwrap_or_default();
    markdown::add(&mut page, &format!("## {before}"));
    for section in Section::ALL {
        page.subsection(&format!("[{}]", section.name()));
        for key in KEYS.iter().filter(|key| key.section == section) {
            page.item(&key_term(key), &[roman(key.about)]);
        }
    }
    let (after, _) = after.split_once("## The table behind").unwrap_or((after, ""));
    markdown::add(&mut page, after);
    add_see_also(&mut page, [("osync".to_owned(), 1), ("osync-check".to_owned(), 1)]);
    page.finish()
}

/// The names of a key, what it takes, and what it is when nobody sets it.
fn key_term(key: &Key) -> Vec<Span> {
    let mut term = vec![bold(key.name)];
    for alias in key.aliases {
        term.extend([roman(" or "), bold(*alias)]);
    }
    let kind = match key.kind {
        ValueKind::Choice(words) => {
            let words: Vec<&str> = words.iter().copied().filter(|word| !word.is_empty()).collect();
            words.join("|")
        }
        kind => kind.describe().to_owned(),
    };
    term.extend([roman("="), italic(kind)]);
    if !key.default.is_empty() {
        term.push(roman(format!(" ({})", key.default)));
    }
    term
}

fn begun(name: &str, section: u8, about: &str) -> Page {
    Page::new(&Title { name, section, about, date: DATE, source: SOURCE })
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

fn shown_commands(command: &Command) -> impl Iterator<Item = &Command> {
    let shown = command.get_subcommands().filter(|below| !below.is_hide_set());
    shown.filter(|below| below.get_name() != "help")
}

fn arguments(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !arg.is_hide_set())
}

/// The lines that `--help` shows behind "Usage".
fn add_usage(page: &mut Page, command: &mut Command) {
    page.section("SYNOPSIS");
    let usage = command.render_usage().to_string();
    for line in usage.trim_start_matches("Usage: ").lines() {
        page.paragraph(&[roman(line.trim())]);
    }
}

/// What can be typed behind a command, under the headings that `--help` has. Those without one
/// come first.
fn add_options(page: &mut Page, command: &Command) {
    let mut headings = vec![None];
    for arg in arguments(command) {
        if !headings.contains(&arg.get_help_heading()) {
            headings.push(arg.get_help_heading());
        }
    }
    for heading in headings {
        if let Some(heading) = heading {
            page.subsection(heading);
        }
        for arg in arguments(command).filter(|arg| arg.get_help_heading() == heading) {
            let help = arg.get_long_help().or_else(|| arg.get_help());
            let mut meaning = help.map(ToString::to_string).unwrap_or_default();
            let words = arg.get_possible_values();
            let words: Vec<&str> = words.iter().map(|word| word.get_name()).collect();
            let is_listed = !arg.is_hide_possible_values_set() && !words.is_empty();
            if arg.get_action().takes_values() && is_listed {
                meaning = format!("{meaning}: {}", words.join(", "));
            }
            page.item(&term(arg), &[roman(format!("{meaning}."))]);
        }
    }
}

/// An option with its names and its value, or a word that stands by itself.
fn term(arg: &Arg) -> Vec<Span> {
    let value = arg.get_value_names().map(|names| names.join(" "));
    if arg.is_positional() {
        return vec![italic(value.unwrap_or_default())];
    }
    let short = arg.get_short_and_visible_aliases().unwrap_or_default();
    let long = arg.get_long_and_visible_aliases().unwrap_or_default();
    let short = short.into_iter().map(|name| bold(format!("-{name}")));
    let long = long.into_iter().map(|name| bold(format!("--{name}")));
    let mut term = Vec::new();
    for name in short.chain(long) {
        if !term.is_empty() {
            term.push(roman(", "));
        }
        term.push(name);
    }
    if let Some(value) = value.filter(|_| arg.get_action().takes_values()) {
        term.extend([roman("="), italic(value)]);
    }
    term
}

fn add_part(page: &mut Page, text: &str, heading: &str) {
    markdown::add(page, markdown::below(text, heading).unwrap_or_default());
}

fn add_see_also(page: &mut Page, pages: impl IntoIterator<Item = (String, u8)>) {
    page.section("SEE ALSO");
    let mut spans = Vec::new();
    for (name, section) in pages {
        if !spans.is_empty() {
            spans.push(roman(", "));
        }
        spans.extend([bold(name), roman(format!("({section})"))]);
    }
    page.paragraph(&spans);
    page.paragraph(&[
        roman("Pages about each task and each part of osync are installed in "),
        italic("/usr/local/share/doc/osync"),
        roman(", or from a package in "),
        italic("/usr/share/doc/osync"),
        roman("."),
    ]);
}

/// What `--help` of a command shows behind its options: examples, each with what it does, exit
/// statuses, and other things worth knowing.
#[derive(Debug, Default)]
struct Epilogue {
    examples: Vec<(String, String)>,
    exit_status: Vec<String>,
    notes: Vec<String>,
}

impl Epilogue {
    fn of(command: &Command) -> Self {
        let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let mut epilogue = Epilogue::default();
        for paragraph in text.split("\n\n") {
            if let Some(examples) = paragraph.strip_prefix("Examples:\n") {
                let halves = examples
                    .lines()
                    .map(|line| line.trim().split_once("  ").unwrap_or((line.trim(), "")));
                let halves = halves.map(|(typed, does)| (typed.to_owned(), does.trim().to_owned()));
                epilogue.examples.extend(halves);
            } else if let Some(status) = paragraph.strip_prefix("Exit status: ") {
                epilogue.exit_status.push(status.to_owned());
            } else {
                epilogue.notes.push(paragraph.to_owned());
            }
        }
        epilogue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_of_a_command_has_examples_and_exit_statuses() {
        let mut cli = Cli::command();
        cli.build();
        for command in shown_commands(&cli) {
            let epilogue = Epilogue::of(command);
            let name = command.get_name();
            assert!(!epilogue.examples.is_empty(), "{name} has no examples");
            assert!(!epilogue.exit_status.is_empty(), "{name} has no exit status");
        }
    }

    #[test]
    fn the_page_of_osync_is_whole() {
        let page = page(None).unwrap();
        let ways = page.matches("initiator2target or target2initiator").count();
        assert_eq!((ways, page.matches("initiator2target, target2initiator").count()), (1, 0));
        for heading in [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "COMMANDS",
            "ENVIRONMENT",
            "EXIT STATUS",
            "FILES",
            "EXAMPLES",
            "SEE ALSO",
        ] {
            let line = format!("\n.SH \"{heading}\"\n");
            let (_, below) = page.split_once(&line).unwrap_or_else(|| panic!("no {heading}"));
            assert!(!below.starts_with(".SH"), "{heading} is empty");
        }
    }

    #[test]
    fn the_page_of_the_configuration_has_every_key_with_its_default() {
        let page = page(Some("conf")).unwrap();
        for key in KEYS {
            assert!(page.contains(&format!("\n\\fB{}\\fR", key.name)), "{}", key.name);
        }
        assert!(page.contains("\\fBSOFT_DELETE_DAYS\\fR=\\fInumber\\fR (30)\n"), "{page}");
        assert!(page.contains(".SH \".conf FILES\""), "{page}");
        assert!(!page.contains("keys.rs"), "{page}");
    }
}

//! `docs/command-line.md` says what the program understands: all of it, and nothing else.

use clap::{Arg, ArgAction, Command, CommandFactory};
use osync::testing::cli::Cli;
use std::collections::BTreeSet;

fn page() -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/command-line.md");
    std::fs::read_to_string(path).unwrap()
}

/// What stands between two headings.
fn part<'a>(page: &'a str, heading: &str) -> &'a str {
    let (_, rest) = page.split_once(heading).unwrap_or_else(|| panic!("no part {heading}"));
    rest.split("\n## ").next().unwrap()
}

/// All long flags that a text names.
fn flags_in(text: &str) -> BTreeSet<String> {
    let is_flag = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.split('`')
        .filter_map(|code| code.strip_prefix("--"))
        .map(|code| code.chars().take_while(|c| is_flag(*c)).collect())
        .collect()
}

fn visible(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !arg.is_hide_set())
}

fn longs(command: &Command) -> BTreeSet<String> {
    let is_common = |arg: &&Arg| !matches!(arg.get_action(), ArgAction::Version);
    let names = visible(command).filter(is_common).flat_map(|arg| {
        let other = arg.get_visible_aliases().unwrap_or_default();
        arg.get_long().into_iter().chain(other).map(str::to_owned).collect::<Vec<_>>()
    });
    names.filter(|name| name != "help").collect()
}

/// A command with all that stands below it.
fn deep(command: &Command) -> BTreeSet<String> {
    let below = command.get_subcommands().flat_map(deep);
    longs(command).into_iter().chain(below).collect()
}

#[test]
fn the_page_names_every_flag_of_a_run_and_no_other() {
    let page = page();
    let named = flags_in(part(&page, "## Flags of a run"));
    assert_eq!(named, longs(&Cli::command()));
}

#[test]
fn the_page_names_every_flag_of_the_other_commands_and_no_other() {
    let (page, cli) = (page(), Cli::command());
    let rows = part(&page, "## Flags of the other commands");
    let of_a_run = longs(&cli);
    for command in cli.get_subcommands().filter(|command| !command.is_hide_set()) {
        let begin = format!("| `{}` |", command.get_name());
        let row = rows.lines().filter(|line| line.starts_with(&begin)).collect::<String>();
        let mut wanted = deep(command);
        // those that take the flags of a run have them from there
        if of_a_run.is_subset(&wanted) {
            wanted = wanted.difference(&of_a_run).cloned().collect();
        }
        assert_eq!(flags_in(&row), wanted, "{}", command.get_name());
    }
}

#[test]
fn the_page_names_every_command_and_value() {
    let (page, cli) = (page(), Cli::command());
    let commands = part(&page, "## Commands");
    for command in cli.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = format!("`osync {}", command.get_name());
        assert!(commands.contains(&name), "{name}");
    }
    for named in commands.split("`osync ").skip(1) {
        let end = named.find([' ', '`']).unwrap();
        let is_one = cli.find_subcommand(&named[..end]).is_some() || &named[..end] == "help";
        assert!(is_one, "{} is no command", &named[..end]);
    }
    let takes_value = |arg: &Arg| arg.get_action().takes_values();
    for arg in visible(&cli).filter(|arg| arg.get_long().is_some() && takes_value(arg)) {
        let value = arg.get_value_names().unwrap().join(" ").replace('|', "\\|");
        let shown = format!("`--{} {value}`", arg.get_long().unwrap());
        assert!(page.contains(&shown), "{shown}");
    }
}

#[test]
fn the_page_and_the_program_agree_on_names_and_statuses() {
    let page = page();
    for (called, acts_as) in [
        ("osync.sh", "`osync`"),
        ("osync-batch.sh", "`osync batch`"),
        ("osync-batch", "`osync batch`"),
        ("ssh_filter.sh", "`osync ssh-filter`"),
        ("upgrade-v1.0x-v1.3x.sh", "`osync upgrade`"),
        ("upgrade-v1.0x-v1.2x.sh", "`osync upgrade`"),
    ] {
        let mut rows = part(&page, "## Program names").lines();
        let row = rows.find(|row| row.contains(&format!("`{called}`")));
        assert!(row.is_some_and(|row| row.contains(acts_as)), "{called}: {row:?}");
        let args = osync::testing::cli::with_command(vec![called.into()]);
        let command = acts_as.trim_matches('`').strip_prefix("osync ").unwrap_or_default();
        let found = args.get(1).map_or("", |arg| arg.to_str().unwrap());
        assert_eq!(found, command, "{called}");
    }
    for status in ["| 0 |", "| 1 |", "| 2 |", "| 128 |"] {
        assert!(part(&page, "## Exit status").contains(status), "{status}");
    }
}

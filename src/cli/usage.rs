//! Bad usage in one line, with what was probably meant (spec 1, "Exit status").

use super::Cli;
use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::ffi::OsString;

/// Flags of v1.0 and what they are now.
const OLD_FLAGS: &[(&str, &str)] =
    &[("--master", "--initiator"), ("--slave", "--target"), ("--sync-id", "--instance-id")];

/// One line about what is wrong with the command line.
#[must_use]
pub fn one_line(error: &clap::Error, args: &[OsString]) -> String {
    let about = context(error, ContextKind::InvalidArg);
    let value = context(error, ContextKind::InvalidValue);
    let about = about.as_deref().unwrap_or("an argument");
    match error.kind() {
        ErrorKind::UnknownArgument => unknown(about, args),
        ErrorKind::InvalidValue if value.as_deref().unwrap_or_default().is_empty() => {
            format!("{} needs a value", flag(about))
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(|why| match why.to_string() {
                text if text.contains("digit") => ": it is a whole number".to_owned(),
                text => format!(": {text}"),
            });
            let near = context(error, ContextKind::SuggestedValue);
            let near = near.map(|near| format!("; did you mean '{near}'?"));
            let known = context(error, ContextKind::ValidValue);
            let known = known.map(|known| format!("; possible are {known}"));
            let help = near.or(why).or(known).unwrap_or_default();
            format!("{}: bad value '{}'{help}", flag(about), value.unwrap_or_default())
        }
        ErrorKind::TooManyValues => format!("{} takes no value", flag(about)),
        ErrorKind::MissingRequiredArgument if about == "<TOKEN>" => {
            "<TOKEN> is missing: in authorized_keys it stands behind the filter, as in \
             command=\"/usr/local/bin/ssh_filter.sh TOKEN\""
                .to_owned()
        }
        ErrorKind::MissingRequiredArgument => format!("{about} is missing"),
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            "a command is missing; it is show or verify".to_owned()
        }
        ErrorKind::InvalidSubcommand => {
            let word = context(error, ContextKind::InvalidSubcommand).unwrap_or_default();
            match nearest_command(&word) {
                Some(near) => format!("unknown command '{word}'; did you mean '{near}'?"),
                None => format!("unknown command '{word}'"),
            }
        }
        ErrorKind::ArgumentConflict => conflict(&first_line(error), args),
        _ => first_line(error),
    }
}

/// The name of the flag without the place-holder of its value.
fn flag(about: &str) -> &str {
    about.split([' ', '=']).next().unwrap_or(about)
}

fn context(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => Some(texts.join(", ")).filter(|text| !text.is_empty()),
        _ => None,
    }
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// clap takes a second name, or a command behind other arguments, for a conflict.
fn conflict(line: &str, args: &[OsString]) -> String {
    let named = line.strip_prefix("the subcommand '").and_then(|rest| rest.split_once('\''));
    let Some((second, _)) = named else { return line.to_owned() };
    let is_word = |arg: &&str| !arg.starts_with('-') && !arg.contains(['.', '/']);
    if let Some(first) = args.get(1).and_then(|arg| arg.to_str()).filter(is_word) {
        return no_command(first);
    }
    match nearest_command(second) {
        Some(command) if command == second => format!("the command '{second}' comes first"),
        _ => format!("unexpected argument '{second}'"),
    }
}

/// A word that is neither a file nor a command.
#[must_use]
pub fn no_command(word: &str) -> String {
    match nearest_command(word) {
        Some(near) => unknown_command(word, &near),
        None => format!(
            "'{word}' is neither a command nor a configuration file, whose name ends in .conf or \
             .toml"
        ),
    }
}

fn unknown_command(word: &str, near: &str) -> String {
    if word == near {
        return format!("the command '{word}' comes first; a file of that name is ./{word}");
    }
    format!("unknown command '{word}'; did you mean '{near}'?")
}

fn unknown(about: &str, args: &[OsString]) -> String {
    // Of a cluster of short options only the first bad letter is named: show the word.
    let typed = args.iter().filter_map(|arg| arg.to_str()).find(|arg| arg.starts_with(about));
    let typed = typed.unwrap_or(about).split('=').next().unwrap_or(about);
    if !typed.starts_with('-') {
        return format!("unexpected argument '{typed}'");
    }
    if let Some((_, now)) = OLD_FLAGS.iter().find(|(old, _)| *old == typed) {
        return format!("unknown option '{typed}'; it is {now} now");
    }
    match nearest_flag(typed) {
        Some(near) if near == typed => format!("the option '{typed}' is of another command"),
        Some(near) => format!("unknown option '{typed}'; did you mean '{near}'?"),
        None => format!("unknown option '{typed}'"),
    }
}

fn nearest_flag(typed: &str) -> Option<String> {
    let bare = typed.trim_start_matches('-').replace('_', "-");
    let cli = Cli::command();
    let command = cli.clone();
    let subcommands = cli.get_subcommands().flat_map(clap::Command::get_arguments);
    let longs = command.get_arguments().chain(subcommands).filter(|arg| !arg.is_hide_set());
    let longs: Vec<&str> = longs.filter_map(|arg| arg.get_long()).collect();
    let near = nearest(&bare, longs.iter().copied());
    near.or_else(|| begun(&bare, &longs)).map(|near| format!("--{near}"))
}

/// The flag that a word goes on from (`dry-run`), or that is the only one to go on from it.
fn begun(word: &str, flags: &[&str]) -> Option<String> {
    const SHORTEST: usize = 3;
    let longer = flags.iter().filter(|flag| flag.len() >= SHORTEST && word.starts_with(**flag));
    let mut shorter = flags.iter().filter(|flag| word.len() > SHORTEST && flag.starts_with(word));
    let found = longer.max_by_key(|flag| flag.len()).or_else(|| {
        let first = shorter.next()?;
        shorter.all(|other| other == first).then_some(first)
    });
    found.map(|flag| (*flag).to_owned())
}

/// The command that was probably meant by a word that is no configuration file.
#[must_use]
pub fn nearest_command(word: &str) -> Option<String> {
    let cli = Cli::command();
    let commands = cli.get_subcommands().filter(|command| !command.is_hide_set());
    nearest(word, commands.map(clap::Command::get_name))
}

fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    known
        .map(|known| (strsim::damerau_levenshtein(word, known), known))
        .min()
        .filter(|(distance, known)| *distance <= known.len().div_ceil(3))
        .map(|(_, known)| known.to_owned())
}

//! `osync complete`: what the completion scripts of the shells ask for: paths and run numbers
//! from the journal of the task that is typed (spec 9). Whatever goes wrong, nothing is offered.

use super::task_args::{TaskArgs, TaskPair};
use super::{Cli, state_dir};
use crate::config::{Config, Environment, Location};
use crate::state::journal::{Journal, RecordedRun, Wanted};
use crate::tree::RelPath;
use crate::tree::work_dir::WORK_DIR_NAME;
use clap::{Args, CommandFactory};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// So many are looked through, and so many offered.
const MANY: usize = 10_000;
const OFFERED: usize = 1000;

/// `osync complete`.
#[derive(Debug, Args)]
pub struct CompleteArgs {
    /// The words behind the program's name, as typed, the one that is to be completed last
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<OsString>,
}

/// Prints what may stand in the place of the last word, one a line.
pub fn run(args: &CompleteArgs, environment: &Environment) {
    let mut out = std::io::stdout().lock();
    for offer in offers(&args.words, environment).unwrap_or_default() {
        // a reader that goes away wants no more
        if out.write_all(&[&offer[..], b"\n"].concat()).is_err() {
            return;
        }
    }
}

/// What the word that is to be completed stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WordKind {
    Run,
    Path,
    Conflict,
    OneOf(&'static [&'static str]),
}

/// A command line, cut off at the word that is to be completed.
#[derive(Debug, Default)]
struct Typed {
    /// Words that are neither flags nor their values.
    plain: Vec<OsString>,
    /// Flags with their values, without the dashes.
    flags: Vec<(String, OsString)>,
    /// The flag whose value is to be completed.
    wants_value: Option<String>,
    last: Vec<u8>,
}

fn offers(words: &[OsString], environment: &Environment) -> Option<Vec<Vec<u8>>> {
    let (command, rest) = words.split_first()?;
    let command = command.to_str()?;
    let typed = Typed::read(command, rest)?;
    let pairs = typed.pairs(environment)?;
    let place = typed.place(command)?;
    let offers = pairs.iter().flat_map(|pair| offers_of(place, &typed.last, &pair.config));
    let is_offered = |offer: &Vec<u8>| offer.starts_with(&typed.last) && !offer.contains(&b'\n');
    let offers: BTreeSet<Vec<u8>> = offers.filter(is_offered).collect();
    Some(offers.into_iter().take(OFFERED).collect())
}

fn offers_of(place: WordKind, typed: &[u8], config: &Config) -> Vec<Vec<u8>> {
    match place {
        WordKind::OneOf(words) => words.iter().map(|word| word.as_bytes().to_vec()).collect(),
        WordKind::Run => {
            let wanted = Wanted { limit: Some(OFFERED as u64), ..Wanted::default() };
            let runs = journal(config).and_then(|journal| journal.runs(&wanted).ok());
            let number = |run: RecordedRun| run.number.to_string().into_bytes();
            runs.unwrap_or_default().into_iter().map(number).collect()
        }
        WordKind::Conflict => {
            let known = journal(config).and_then(|journal| journal.conflicts(None).ok());
            let open = known.into_iter().flatten().filter(|conflict| conflict.state.waits());
            open.map(|conflict| conflict.decided.path.as_bytes().to_vec()).collect()
        }
        WordKind::Path => paths(typed, config),
    }
}

impl Typed {
    fn read(command: &str, words: &[OsString]) -> Option<Self> {
        let cli = Cli::command();
        let command = cli.find_subcommand(command)?;
        let takes_value = |flag: &str| {
            let arg = command.get_arguments().find(|arg| arg.get_long() == Some(flag));
            arg.is_some_and(|arg| arg.get_action().takes_values())
        };
        // bash gives the sign between a flag and its value as a word of its own
        let words: Vec<OsString> =
            words.iter().filter(|word| *word != "=").map(|word| unquoted(word)).collect();
        let (last, before) = words.split_last()?;
        let mut typed = Typed { last: last.as_bytes().to_vec(), ..Typed::default() };
        let mut before = before.iter();
        while let Some(word) = before.next() {
            let text = word.to_string_lossy();
            let Some(flag) = text.strip_prefix("--") else {
                typed.plain.push(word.clone());
                continue;
            };
            match flag.split_once('=') {
                Some((flag, value)) => typed.flags.push((flag.to_owned(), value.into())),
                None if takes_value(flag) => match before.next() {
                    Some(value) => typed.flags.push((flag.to_owned(), value.clone())),
                    None => typed.wants_value = Some(flag.to_owned()),
                },
                None => {}
            }
        }
        Some(typed)
    }

    fn flag(&self, name: &str) -> Option<OsString> {
        let (_, value) = self.flags.iter().rev().find(|(flag, _)| flag == name)?;
        Some(value.clone())
    }

    fn is_quick(&self) -> bool {
        self.flag("initiator").is_some() || self.flag("target").is_some()
    }

    fn pairs(&self, environment: &Environment) -> Option<Vec<TaskPair>> {
        let task = TaskArgs {
            words: self.plain.clone(),
            initiator: self.flag("initiator"),
            target: self.flag("target"),
            instance_id: self.flag("instance-id"),
            initiator_state_dir: self.flag("initiator-state-dir"),
            rsakey: self.flag("rsakey"),
            only: self.flag("only"),
        };
        task.known_pairs(environment).ok().map(|known| known.pairs)
    }

    /// What is to be completed; `None`: nothing that the journal knows.
    fn place(&self, command: &str) -> Option<WordKind> {
        if let Some(flag) = &self.wants_value {
            return matches!(flag.as_str(), "run" | "before-run").then_some(WordKind::Run);
        }
        let behind_task = if self.is_quick() { &self.plain[..] } else { self.plain.get(1..)? };
        if self.last.starts_with(b"-") || self.plain.is_empty() && !self.is_quick() {
            return None;
        }
        let words: Vec<&str> = behind_task.iter().map(|w| w.to_str().unwrap_or_default()).collect();
        match (command, words.as_slice()) {
            ("history" | "restore", _) => Some(WordKind::Path),
            ("undo", []) => Some(WordKind::Run),
            ("conflicts", []) => Some(WordKind::OneOf(&["diff", "done", "show", "take"])),
            ("conflicts", ["take", _]) => Some(WordKind::OneOf(&["both", "initiator", "target"])),
            ("conflicts", ["take" | "diff"]) => Some(WordKind::Conflict),
            ("conflicts", ["show" | "done", ..]) => Some(WordKind::Conflict),
            _ => None,
        }
    }
}

fn journal(config: &Config) -> Option<Journal> {
    Journal::read(&state_dir(config).ok()?, &config.instance_id).ok().flatten()
}

/// Paths that begin so: what the journal tells of, and what the initiator has, one name further.
fn paths(typed: &[u8], config: &Config) -> Vec<Vec<u8>> {
    let known = journal(config).and_then(|journal| journal.paths_with(typed, MANY).ok());
    let one_further = |path: RelPath| {
        let bytes = path.as_bytes();
        let end = bytes.iter().skip(typed.len()).position(|byte| *byte == b'/');
        end.map_or_else(|| bytes.to_vec(), |end| bytes[..=typed.len() + end].to_vec())
    };
    let mut found: Vec<Vec<u8>> = known.unwrap_or_default().into_iter().map(one_further).collect();
    let dir = typed.iter().rposition(|byte| *byte == b'/').map_or(&b""[..], |at| &typed[..=at]);
    let Location::Local(root) = &config.replicas.initiator else { return found };
    let Ok(entries) = std::fs::read_dir(root.join(OsStr::from_bytes(dir))) else { return found };
    for entry in entries.flatten().take(MANY) {
        let name = entry.file_name();
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if name != WORK_DIR_NAME {
            let end: &[u8] = if is_dir { b"/" } else { b"" };
            found.push([dir, name.as_bytes(), end].concat());
        }
    }
    // a directory is offered once
    let dirs: BTreeSet<Vec<u8>> =
        found.iter().filter_map(|path| path.strip_suffix(b"/")).map(<[u8]>::to_vec).collect();
    found.retain(|path| !dirs.contains(path));
    found
}

/// A word as the shell will understand it. The last one may be unfinished.
fn unquoted(word: &OsStr) -> OsString {
    let bytes = word.as_bytes();
    if let Some(text) = word.to_str()
        && let Ok(words) = shell_words::split(text)
        && let [word] = words.as_slice()
    {
        return OsString::from(word);
    }
    let bytes = bytes.strip_prefix(b"'").or_else(|| bytes.strip_prefix(b"\"")).unwrap_or(bytes);
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter().copied();
    while let Some(byte) = rest.next() {
        out.push(if byte == b'\\' { rest.next().unwrap_or(byte) } else { byte });
    }
    OsString::from_vec(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(line: &[&str]) -> Option<WordKind> {
        let words: Vec<OsString> = line[1..].iter().map(OsString::from).collect();
        Typed::read(line[0], &words)?.place(line[0])
    }

    #[test]
    fn the_place_of_a_word_tells_what_it_may_be() {
        for (line, expected) in [
            (&["history", "a.conf", ""][..], Some(WordKind::Path)),
            (&["history", ""], None),
            (&["history", "a.conf", "--run", ""], Some(WordKind::Run)),
            (&["history", "a.conf", "--run", "=", "1"], Some(WordKind::Run)),
            (&["history", "a.conf", "--since", ""], None),
            (&["history", "--since", "yesterday", "a.conf", "x"], Some(WordKind::Path)),
            (&["history", "a.conf", "--f"], None),
            (&["restore", "--initiator", "a", "--target=b", ""], Some(WordKind::Path)),
            (&["undo", "a.conf", ""], Some(WordKind::Run)),
            (&["undo", "a.conf", "1", ""], None),
            (
                &["conflicts", "a.conf", "ta"],
                Some(WordKind::OneOf(&["diff", "done", "show", "take"])),
            ),
            (&["conflicts", "a.conf", "show", ""], Some(WordKind::Conflict)),
            (&["plan", "a.conf", ""], None),
        ] {
            assert_eq!(place(line), expected, "{line:?}");
        }
    }

    #[test]
    fn words_come_as_they_are_typed() {
        for (typed, word) in [
            ("a\\ b", "a b"),
            ("'a b'", "a b"),
            ("'a b", "a b"),
            ("\"it's", "it's"),
            ("x\\", "x\\"),
            ("", ""),
        ] {
            assert_eq!(unquoted(OsStr::new(typed)), OsString::from(word), "{typed}");
        }
    }
}

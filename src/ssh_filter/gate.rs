//! What a client may say to the control shell of a restricted key. Pure.
//!
//! The control shell learns its script from its client (spec 5). A restricted key must not
//! be a way to any other script: so the filter runs the pieces it knows itself, all of
//! them, and a shell that can learn no others; it lets in only requests for them, and data
//! that names nothing above or outside; and the replica that is asked for must lie in the
//! directory. Client and filter therefore have to be of one version.

use super::decision::Refusal;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// More than any piece or line of data is long.
const MAX_LINE: usize = 1024 * 1024;

/// What the shell does with a piece that the client sends: it knows them all already. So
/// nothing that comes over the line is ever evaluated.
const LEARN_NOTHING: &str = "\
do_load() {
while next_line && [ \"$line\" != \"$mark\" ]; do :; done
}
";

/// The scripts of the control shell, as they travel.
#[derive(Debug, Clone)]
pub struct Scripts {
    /// What comes first, up to the greeting.
    pub first: String,
    /// What may be loaded later, in an order in which each finds what it builds upon.
    pub loadable: Vec<String>,
    /// The one that runs commands of the client's: never allowed.
    pub hook: String,
}

/// What a client has asked for to begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The script that the shell is to run, whole.
    pub script: Vec<u8>,
}

/// What is to be passed on.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    More,
    /// The shell can be started.
    Open(Opening),
    /// These bytes go to the shell.
    Pass(Vec<u8>),
}

/// Judges what comes, line by line.
pub struct Gate<'a> {
    scripts: &'a Scripts,
    resolve: &'a dyn Fn(&Path) -> Result<PathBuf, String>,
    /// Whether requests may follow links (only where the kernel keeps them inside).
    follow: bool,
    line: Vec<u8>,
    state: State,
}

enum State {
    MarkLeft,
    MarkRight(Vec<u8>),
    /// So many bytes of the first script have come.
    First(Vec<u8>, usize),
    Requests(Vec<u8>),
    /// The next line is where a listing is to be kept.
    Cache(Vec<u8>),
    /// The line that asks for it, and what has come of the piece.
    Loading(Vec<u8>, Vec<u8>, Vec<u8>),
}

impl<'a> Gate<'a> {
    /// A gate through which nothing has come.
    #[must_use]
    pub fn new(
        scripts: &'a Scripts,
        follow: bool,
        resolve: &'a dyn Fn(&Path) -> Result<PathBuf, String>,
    ) -> Self {
        Gate { scripts, resolve, follow, line: Vec::new(), state: State::MarkLeft }
    }

    /// Takes bytes as they come, up to the point where something is to be done; returns
    /// how many it took.
    ///
    /// # Errors
    /// Something that a client of ours does not say.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(usize, Step), Refusal> {
        let mut passed = Vec::new();
        for (at, &byte) in bytes.iter().enumerate() {
            // A shell passes over NUL and so would read another line than we do.
            if byte == 0 || self.line.len() > MAX_LINE {
                return Err(unknown());
            }
            self.line.push(byte);
            if byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                match self.line(line)? {
                    Step::More => {}
                    Step::Pass(bytes) => passed.extend_from_slice(&bytes),
                    open @ Step::Open(_) => return Ok((at + 1, open)),
                }
            }
        }
        let step = if passed.is_empty() { Step::More } else { Step::Pass(passed) };
        Ok((bytes.len(), step))
    }

    /// One line, with its end.
    fn line(&mut self, line: Vec<u8>) -> Result<Step, Refusal> {
        let state = std::mem::replace(&mut self.state, State::MarkLeft);
        let (state, step) = match state {
            State::MarkLeft => {
                (State::MarkRight(mark_part(&line, b"mark=").ok_or_else(unknown)?), Step::More)
            }
            State::MarkRight(mut mark) => {
                mark.extend(mark_part(&line, b"mark=${mark}").ok_or_else(unknown)?);
                (State::First(mark, 0), Step::More)
            }
            State::First(mark, done) => self.first(mark, done, &line)?,
            State::Requests(mark) => self.request(mark, line)?,
            State::Cache(mark) => self.cache(mark, line)?,
            State::Loading(mark, head, text) => self.loading(mark, head, text, line)?,
        };
        self.state = state;
        Ok(step)
    }

    fn first(&self, mark: Vec<u8>, done: usize, line: &[u8]) -> Result<(State, Step), Refusal> {
        let rest = &self.scripts.first.as_bytes()[done..];
        if rest.is_empty() {
            let script = self.whole_script(&mark, &self.greeting(line)?);
            return Ok((State::Requests(mark), Step::Open(Opening { script })));
        }
        if !rest.starts_with(line) {
            return Err(Refusal::Setup(
                "the control shell's script is not the one of this version of osync; restricted \
                 keys need the same version on both sides"
                    .to_owned(),
            ));
        }
        Ok((State::First(mark, done + line.len()), Step::More))
    }

    /// `greet PATH RSYNC find|create look|write plain; serve`, the names as octal data in
    /// quotes. The path is replaced by where it leads, rsync by ours.
    fn greeting(&self, line: &[u8]) -> Result<Vec<u8>, Refusal> {
        let text = std::str::from_utf8(line).map_err(|_| unknown())?;
        let question = text.strip_suffix("; serve\n").ok_or_else(unknown)?;
        let words: Vec<&str> = question.split(' ').collect();
        let ["greet", path, rsync, create, write, how] = words.as_slice() else {
            return Err(unknown());
        };
        let path = undatum(path).ok_or_else(unknown)?;
        undatum(rsync).ok_or_else(unknown)?;
        if *how == "sudo" {
            return Err(Refusal::Sudo);
        }
        let known = matches!(*create, "find" | "create") && matches!(*write, "look" | "write");
        if !known || *how != "plain" {
            return Err(unknown());
        }
        let resolved = self.inside(&path)?;
        let datum = datum(resolved.as_os_str().as_bytes());
        Ok(format!("greet {datum} '%rsync' {create} {write} plain\n").into_bytes())
    }

    fn whole_script(&self, mark: &[u8], greet: &[u8]) -> Vec<u8> {
        let mut script = [b"mark=", mark, b"\n", self.scripts.first.as_bytes(), greet].concat();
        for piece in &self.scripts.loadable {
            script.extend_from_slice(piece.as_bytes());
        }
        script.extend_from_slice(LEARN_NOTHING.as_bytes());
        script.extend_from_slice(b"serve\n");
        script
    }

    fn request(&self, mark: Vec<u8>, line: Vec<u8>) -> Result<(State, Step), Refusal> {
        let behind = line.strip_prefix(mark.as_slice()).and_then(|l| l.strip_prefix(b" "));
        let Some(behind) = behind else {
            self.check_data(&mark, &line)?;
            return Ok((State::Requests(mark), Step::Pass(line)));
        };
        let text = std::str::from_utf8(behind).map_err(|_| unknown())?;
        let mut words = text.trim_end_matches('\n').split(' ');
        let is_plain =
            |word: &str| word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        let number = words.next().unwrap_or_default();
        let request = words.next().unwrap_or_default();
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(unknown());
        }
        match request {
            "load" if words.next().is_none() => {
                return Ok((State::Loading(mark, line, Vec::new()), Step::More));
            }
            "hook" => return Err(no_hooks()),
            "load" | "" => return Err(unknown()),
            _ => {}
        }
        let arguments: Vec<&str> = words.collect();
        if !request.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
            || !arguments.iter().all(|word| is_plain(word))
        {
            return Err(unknown());
        }
        let follows = |word: &&str| matches!(*word, "follow" | "dirs" | "behind");
        if arguments.iter().any(follows) && !self.follow {
            return Err(Refusal::Setup(
                "following links is not allowed: this system has no Landlock to keep them inside"
                    .to_owned(),
            ));
        }
        let next = if request == "scan" { State::Cache(mark) } else { State::Requests(mark) };
        Ok((next, Step::Pass(line)))
    }

    /// Data, or what the shell takes for noise: names of entries and directories of the
    /// replica, its own small files' text, and a few words. None may lead up or out.
    fn check_data(&self, mark: &[u8], line: &[u8]) -> Result<(), Refusal> {
        // Shells drop some odd bytes from what they read. What could become a request by
        // that is none of our client's data: its mark is 128 random bits.
        let sound: Vec<u8> = line.iter().copied().filter(u8::is_ascii_alphanumeric).collect();
        if sound.windows(mark.len()).any(|window| window == mark) {
            return Err(unknown());
        }
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let name = match line {
            [b'=', ..] | [b'%', ..] => line,
            [b'>' | b'K' | b'U' | b'G' | b'@', name @ ..] => name,
            // access control lists
            [b'A' | b'D', list @ ..] if matches!(list, [b'=' | b'%', ..]) => list,
            words => return if is_words(words) { Ok(()) } else { Err(unknown()) },
        };
        let name = decoded(name).ok_or_else(unknown)?;
        if name.split(|byte| *byte == b'/').any(|part| part == b"..") {
            return Err(leads_out());
        }
        match name.first() {
            Some(b'/') => self.inside(&name).map(drop),
            _ => Ok(()),
        }
    }

    /// Where a listing is to be kept (spec 5): nowhere, or inside.
    fn cache(&self, mark: Vec<u8>, line: Vec<u8>) -> Result<(State, Step), Refusal> {
        self.check_data(&mark, &line)?;
        let name = decoded(line.strip_suffix(b"\n").unwrap_or(&line)).ok_or_else(unknown)?;
        match name.first() {
            None | Some(b'/') => Ok((State::Requests(mark), Step::Pass(line))),
            Some(_) => Err(unknown()),
        }
    }

    fn inside(&self, name: &[u8]) -> Result<PathBuf, Refusal> {
        (self.resolve)(Path::new(std::ffi::OsStr::from_bytes(name))).map_err(Refusal::Setup)
    }

    fn loading(
        &self,
        mark: Vec<u8>,
        head: Vec<u8>,
        mut text: Vec<u8>,
        line: Vec<u8>,
    ) -> Result<(State, Step), Refusal> {
        let end = [mark.as_slice(), b"\n"].concat();
        if line != end {
            text.extend_from_slice(&line);
            let limit = self.scripts.loadable.iter().map(String::len).max().unwrap_or(0);
            if text.len() > limit.max(self.scripts.hook.len()) {
                return Err(unknown());
            }
            return Ok((State::Loading(mark, head, text), Step::More));
        }
        if text == self.scripts.hook.as_bytes() {
            return Err(no_hooks());
        }
        if !self.scripts.loadable.iter().any(|piece| piece.as_bytes() == text) {
            return Err(unknown());
        }
        Ok((State::Requests(mark), Step::Pass([head, text, end].concat())))
    }
}

fn unknown() -> Refusal {
    Refusal::Setup("this is not what osync's control shell is asked by its client".to_owned())
}

fn leads_out() -> Refusal {
    Refusal::Setup("a name with '..' leads out of the directory this key is for".to_owned())
}

fn no_hooks() -> Refusal {
    Refusal::Setup("a restricted key runs no commands (REMOTE_RUN_*_CMD)".to_owned())
}

/// Numbers, kinds, times, and the words of an operation.
fn is_words(text: &[u8]) -> bool {
    let sound = |b: &u8| b.is_ascii_alphanumeric() || b" .:*_-".contains(b);
    text.iter().all(sound) && !text.split(|b| *b == b' ').any(|word| word == b"..")
}

/// A name as it travels on a line of its own: as it stands behind `=`, or in the form of
/// printf's `%b` behind `%`.
fn decoded(name: &[u8]) -> Option<Vec<u8>> {
    match name {
        [b'=', name @ ..] => Some(name.to_vec()),
        [b'%', octal @ ..] => from_octal(octal),
        _ => None,
    }
}

fn mark_part(line: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let part = line.strip_prefix(name)?.strip_suffix(b"\n")?;
    let sound = (4..=64).contains(&part.len()) && part.iter().all(u8::is_ascii_alphanumeric);
    sound.then(|| part.to_vec())
}

/// A name as one word in single quotes, in the form of printf's `%b`.
fn datum(bytes: &[u8]) -> String {
    let octal = bytes.iter().map(|byte| {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
            char::from(*byte).to_string()
        } else {
            format!("\\0{byte:03o}")
        }
    });
    format!("'%{}'", octal.collect::<String>())
}

/// The reverse; none if it is anything else.
fn undatum(word: &str) -> Option<Vec<u8>> {
    from_octal(word.strip_prefix("'%")?.strip_suffix('\'')?.as_bytes())
}

fn from_octal(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'\\' {
            let digits = after.get(..4)?;
            let value = digits.iter().try_fold(0_u16, |value, digit| {
                (b'0'..=b'7').contains(digit).then(|| value * 8 + u16::from(digit - b'0'))
            })?;
            bytes.push(u8::try_from(value).ok().filter(|byte| *byte != 0)?);
            rest = &after[4..];
        } else if byte.is_ascii_alphanumeric() || b"/._-".contains(&byte) {
            bytes.push(byte);
            rest = after;
        } else {
            return None;
        }
    }
    Some(bytes)
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;

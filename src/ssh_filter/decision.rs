//! What a command that arrives over ssh is allowed to do. Pure (spec 7, "ssh filter").

#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;

use crate::replica::peer::protocol::VERSION;

/// What the line in `authorized_keys` says.
#[derive(Clone, PartialEq, Eq)]
pub struct Policy {
    /// The token that every command must carry.
    pub token: Vec<u8>,
    /// Whether commands may ask for sudo.
    pub sudo: Sudo,
    /// Whether anything beside our own traffic is allowed.
    pub reach: Reach,
}

/// Whether commands may ask for sudo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sudo {
    /// They may.
    Allowed,
    /// `--no-sudo`.
    Refused,
}

/// How much a command with the right token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Whatever the user may: hooks and osync 1.3 need a shell.
    Everything,
    /// `--restrict`: the protocol between two osyncs and `rsync --server`, without a shell.
    OneDirectory,
}

/// What is to happen with a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// A shell runs it: the command as it came, without the token.
    Shell {
        /// The command.
        command: Vec<u8>,
    },
    /// The filter itself is the other end of the client's osync.
    Peer,
    /// An `rsync --server`; its arguments have yet to be checked.
    Rsync {
        /// The arguments behind the program's name.
        args: Vec<Vec<u8>>,
    },
    /// It is refused.
    Refuse(Refusal),
}

/// Why a command is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A login, without a command.
    #[error("this key opens no shell")]
    NoCommand,
    /// No `env _REMOTE_TOKEN=…` where it belongs.
    #[error("the command does not begin with a token")]
    NoToken,
    /// Another token.
    #[error("the token is wrong")]
    WrongToken,
    /// The token alone, or something that no program's name begins with.
    #[error("no command stands behind the token")]
    NothingAfterToken,
    /// `--no-sudo`, or `--restrict`.
    #[error("sudo is not allowed with this key")]
    Sudo,
    /// `--restrict`.
    #[error("with --restrict, only osync itself and its rsync --server are allowed")]
    NotOurs,
    /// `--restrict`, and a client without our protocol, or told not to use it.
    #[error(
        "with --restrict, no shell is opened for osync any more: the other side needs an osync \
         that speaks protocol {VERSION}, and must not be told REMOTE_OSYNC=no"
    )]
    BareShell,
    /// `--restrict`, and a client of another version.
    #[error(
        "the other side speaks osync's protocol {0}, this one {VERSION}: install the same version \
         of osync on both"
    )]
    OtherVersion(String),
    /// The client does not speak our protocol.
    #[error("it does not speak osync's protocol: {0}")]
    Protocol(String),
    /// The arguments of rsync leave the directory, or cannot be judged.
    #[error("rsync: {0}")]
    Rsync(String),
    /// The filter cannot be set up.
    #[error("{0}")]
    Setup(String),
}

/// Decides on one command, byte for byte as sshd hands it over.
///
/// The token counts only as a whole word in one of the two places where osync puts it:
/// `env _REMOTE_TOKEN=… COMMAND` and `env LC_ALL=C env _REMOTE_TOKEN=… COMMAND`.
#[must_use]
pub fn decide(original: &[u8], policy: &Policy) -> Decision {
    match behind_token(original, &policy.token) {
        Ok((before, command)) => match policy.reach {
            Reach::Everything => with_shell(before, command, policy.sudo),
            Reach::OneDirectory => without_shell(command),
        },
        Err(refusal) => Decision::Refuse(refusal),
    }
}

/// What stands before the word with the right token, and what behind it.
fn behind_token<'a>(
    original: &'a [u8],
    token: &[u8],
) -> Result<(&'static [u8], &'a [u8]), Refusal> {
    // An empty token would be matched by an empty word; a token with blanks by none.
    if token.is_empty() || token.iter().any(|&byte| byte <= b' ' || byte == 0x7f) {
        return Err(Refusal::Setup(
            "the token in authorized_keys is empty, or holds blanks: nothing is allowed".to_owned(),
        ));
    }
    if original.is_empty() {
        return Err(Refusal::NoCommand);
    }
    let (word, mut rest) = next_word(original);
    if word != b"env" {
        return Err(Refusal::NoToken);
    }
    let mut before: &[u8] = b"env ";
    let (mut word, after) = next_word(rest);
    rest = after;
    if word == b"LC_ALL=C" {
        before = b"env LC_ALL=C env ";
        let (env, after) = next_word(rest);
        if env != b"env" {
            return Err(Refusal::NoToken);
        }
        (word, rest) = next_word(after);
    }
    let given = word.strip_prefix(b"_REMOTE_TOKEN=").ok_or(Refusal::NoToken)?;
    // Digests are compared in constant time, and their length says nothing of the token's.
    if blake3::hash(given) != blake3::hash(token) {
        return Err(Refusal::WrongToken);
    }
    Ok((before, rest))
}

/// The word that the text begins with, and what follows the blanks behind it. Only spaces
/// part words: a newline or a tab belongs to the word and so makes it a wrong one.
fn next_word(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|&byte| byte == b' ').unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let blanks = rest.iter().take_while(|&&byte| byte == b' ').count();
    (word, &rest[blanks..])
}

/// Only the token is taken out, so that a command fares as it would without the filter:
/// `env` starts it, with what it needs of redirections and further commands around.
fn with_shell(before: &[u8], command: &[u8], sudo: Sudo) -> Decision {
    if !begins_like_a_command(command) {
        return Decision::Refuse(Refusal::NothingAfterToken);
    }
    if sudo == Sudo::Refused && asks_for_other_rights(command) {
        return Decision::Refuse(Refusal::Sudo);
    }
    Decision::Shell { command: [before, command].concat() }
}

/// Whether `env` would have found a program's name here. Refuses what would chain, group,
/// redirect or substitute before any command, and what `sh` could take for an option.
fn begins_like_a_command(command: &[u8]) -> bool {
    match command {
        [] | [b'$', b'(', ..] => false,
        [first, ..] => !first.is_ascii_control() && !b" ;&|<>()`#!{}-+=*?[]%^,:".contains(first),
    }
}

/// Whether a program that changes the user is named anywhere. Names can be hidden from
/// this (the kernel's `no_new_privs` is what holds); it serves for a plain answer.
fn asks_for_other_rights(command: &[u8]) -> bool {
    command
        .split(|&byte| !(byte.is_ascii_alphanumeric() || b"_-.+".contains(&byte)))
        .any(|name| matches!(name, b"sudo" | b"doas" | b"su" | b"pkexec" | b"run0"))
}

fn without_shell(command: &[u8]) -> Decision {
    if command.is_empty() {
        return Decision::Refuse(Refusal::NothingAfterToken);
    }
    let Some(words) = split(command) else {
        return Decision::Refuse(Refusal::NotOurs);
    };
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    match words.as_slice() {
        [b"sudo", ..] => Decision::Refuse(Refusal::Sudo),
        [b"sh"] => Decision::Refuse(Refusal::BareShell),
        [b"sh", b"-s", version] if version.starts_with(PEER) => {
            let version = String::from_utf8_lossy(&version[PEER.len()..]).into_owned();
            if version == VERSION.to_string() {
                Decision::Peer
            } else {
                Decision::Refuse(Refusal::OtherVersion(version))
            }
        }
        [program, b"--server", ..] if base_name(program) == b"rsync" => {
            Decision::Rsync { args: words[1..].iter().map(|word| word.to_vec()).collect() }
        }
        _ => Decision::Refuse(Refusal::NotOurs),
    }
}

/// What stands before the version in the argument of a shell that is to make way.
const PEER: &[u8] = b"osync-peer-";

/// RSYNC_REMOTE_PATH puts a directory before the name. It is dropped: which rsync runs is
/// never for the client to say.
fn base_name(program: &[u8]) -> &[u8] {
    program.rsplit(|&byte| byte == b'/').next().unwrap_or(program)
}

/// Splits on blanks, undoing quotes and backslashes as `sh` would. Anything that a shell
/// would do more with (expansions, patterns, redirections, further commands) gives `None`.
#[must_use]
pub fn split(text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' => words.extend(word.take()),
            b'\'' => single_quoted(&mut bytes, word.get_or_insert_default())?,
            b'"' => double_quoted(&mut bytes, word.get_or_insert_default())?,
            b'\\' => match bytes.next()? {
                b'\n' => return None,
                escaped => word.get_or_insert_default().push(escaped),
            },
            _ if is_special(byte) => return None,
            _ => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    Some(words)
}

fn single_quoted(bytes: &mut impl Iterator<Item = u8>, word: &mut Vec<u8>) -> Option<()> {
    loop {
        match bytes.next()? {
            b'\'' => return Some(()),
            byte => word.push(byte),
        }
    }
}

fn double_quoted(bytes: &mut impl Iterator<Item = u8>, word: &mut Vec<u8>) -> Option<()> {
    loop {
        match bytes.next()? {
            b'"' => return Some(()),
            b'$' | b'`' => return None,
            b'\\' => match bytes.next()? {
                byte @ (b'"' | b'\\' | b'$' | b'`') => word.push(byte),
                b'\n' => return None,
                byte => word.extend([b'\\', byte]),
            },
            byte => word.push(byte),
        }
    }
}

fn is_special(byte: u8) -> bool {
    byte.is_ascii_control() || b";&|<>()$`*?[]{}#!".contains(&byte)
}

#[cfg(test)]
mod words_tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_what_a_shell_would_make_of_them_or_nothing() {
        let cases: &[(&str, Option<&[&str]>)] = &[
            ("", Some(&[])),
            ("  a   b ", Some(&["a", "b"])),
            (r"a\ b c", Some(&["a b", "c"])),
            (r#"'a b' "c d" e'f'"g""#, Some(&["a b", "c d", "efg"])),
            (r"'' a", Some(&["", "a"])),
            (r#""a\"b\\c\d""#, Some(&[r#"a"b\c\d"#])),
            (r"\$x \; \*", Some(&["$x", ";", "*"])),
            ("'$(x) ; `y`'", Some(&["$(x) ; `y`"])),
            ("a;b", None),
            ("a\nb", None),
            ("a\tb", None),
            ("a $x", None),
            (r#""$x""#, None),
            ("\"`x`\"", None),
            ("a *", None),
            ("a > b", None),
            ("'a", None),
            ("\"a", None),
            ("a\\", None),
        ];
        for (text, expected) in cases {
            let words = split(text.as_bytes());
            let expected = expected
                .map(|words| words.iter().map(|w| w.as_bytes().to_vec()).collect::<Vec<_>>());
            assert_eq!(words, expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn quoted_words_come_back_whole(words in prop::collection::vec("[^\u{0}']{0,8}", 0..5)) {
            let text = words.iter().map(|w| format!("'{w}'")).collect::<Vec<_>>().join(" ");
            let expected = words.iter().map(|w| w.as_bytes().to_vec()).collect::<Vec<_>>();
            prop_assert_eq!(split(text.as_bytes()), Some(expected));
        }

        #[test]
        fn no_input_makes_it_panic(text in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = split(&text);
        }
    }
}

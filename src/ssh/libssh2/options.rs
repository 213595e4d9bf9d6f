//! The words behind `osync rsh`: the few options of ssh that mean something here, the
//! host, and the remote command. As with ssh the first value given for an option counts.
//! An option that this transport cannot honour is refused, never ignored. Pure.

use crate::ssh::options::{NoOption, OptionWords};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

/// Which addresses of a host are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// All that it has.
    Any,
    /// `-4`
    V4,
    /// `-6`
    V6,
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    /// Host name or address, without brackets.
    pub host: String,
    /// The remote command line.
    pub command: String,
    /// The login name; `None` is that of our own user.
    pub user: Option<String>,
    /// The port.
    pub port: u16,
    /// Key files, in the order they are tried; empty for the usual ones.
    pub keys: Vec<PathBuf>,
    /// Only the keys of `keys` are tried, none else that an agent holds.
    pub only_these_keys: bool,
    /// The file whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// Any host key will do.
    pub ignore_known_hosts: bool,
    /// Files of known hosts; `None` is `~/.ssh/known_hosts`.
    pub user_known_hosts: Option<Vec<PathBuf>>,
    /// Files of known hosts; `None` is `/etc/ssh/ssh_known_hosts`.
    pub global_known_hosts: Option<Vec<PathBuf>>,
    /// Compresses what travels.
    pub compress: bool,
    /// Which addresses are tried.
    pub family: Family,
    /// How long an address, and after that each step of the login, may take.
    pub connect_timeout: Duration,
    /// After this long without a word from the server it is asked for one; zero: never.
    pub alive_interval: Duration,
    /// After this many questions without an answer the line is dead.
    pub alive_count: u32,
}

/// What has been given so far.
#[derive(Debug, Default)]
struct Given {
    user: Option<String>,
    port: Option<u16>,
    keys: Vec<PathBuf>,
    only_these_keys: Option<bool>,
    password_file: Option<PathBuf>,
    ignore_known_hosts: Option<bool>,
    user_known_hosts: Option<Vec<PathBuf>>,
    global_known_hosts: Option<Vec<PathBuf>>,
    compress: Option<bool>,
    family: Option<Family>,
    connect_timeout: Option<u64>,
    alive_interval: Option<u64>,
    alive_count: Option<u32>,
}

impl Options {
    /// Reads the words.
    ///
    /// # Errors
    /// Which word cannot be honoured, or what is missing.
    pub fn parse(words: &[OsString]) -> Result<Self, String> {
        let mut given = Given::default();
        let mut words = OptionWords::new(words);
        let host = text(given.options(&mut words)?.ok_or("no host is given")?)?;
        // rsync, and people, put options behind the host as well
        let first = given.options(&mut words)?;
        let rest = std::iter::from_fn(|| words.word());
        let command: Vec<String> =
            first.into_iter().chain(rest).map(text).collect::<Result<_, _>>()?;
        let command = command.join(" ");
        if command.is_empty() {
            return Err("no remote command is given".to_owned());
        }
        let (user, host) = match host.rsplit_once('@') {
            Some((user, host)) => (Some(user.to_owned()), host.to_owned()),
            None => (None, host),
        };
        let user = user.or_else(|| given.user.take());
        if host.is_empty() || host.starts_with('-') || user.as_deref() == Some("") {
            return Err("no host or no user is given, or the host is not valid".to_owned());
        }
        Ok(given.resolve(user, host, command))
    }
}

impl Given {
    fn resolve(self, user: Option<String>, host: String, command: String) -> Options {
        Options {
            host,
            command,
            user,
            port: self.port.unwrap_or(22),
            keys: self.keys,
            only_these_keys: self.only_these_keys.unwrap_or(false),
            password_file: self.password_file,
            ignore_known_hosts: self.ignore_known_hosts.unwrap_or(false),
            user_known_hosts: self.user_known_hosts,
            global_known_hosts: self.global_known_hosts,
            compress: self.compress.unwrap_or(false),
            family: self.family.unwrap_or(Family::Any),
            connect_timeout: Duration::from_secs(self.connect_timeout.unwrap_or(30)),
            alive_interval: Duration::from_secs(self.alive_interval.unwrap_or(15)),
            alive_count: self.alive_count.unwrap_or(4),
        }
    }

    /// All options up to the first word that is none; that word.
    fn options<'w>(
        &mut self,
        words: &mut OptionWords<'w, OsString>,
    ) -> Result<Option<&'w OsStr>, String> {
        while let Some(found) = words.next() {
            match found {
                Ok((letter, value)) => self.option(letter, OsStr::from_bytes(value))?,
                Err(NoOption::Word(word)) => match word.as_bytes() {
                    b"--ignore-known-hosts" => set(&mut self.ignore_known_hosts, true)?,
                    b"--password-file" => {
                        let file = words.word().ok_or("--password-file needs a value")?;
                        set(&mut self.password_file, file.into())?;
                    }
                    [b'-', ..] => return Err(unknown(&word.to_string_lossy())),
                    _ => return Ok(Some(word)),
                },
                Err(NoOption::LacksValue(letter)) => {
                    return Err(format!("-{} needs a value", char::from(letter)));
                }
            }
        }
        Ok(None)
    }

    fn option(&mut self, letter: u8, value: &OsStr) -> Result<(), String> {
        match letter {
            // there is never a terminal, nor anything forwarded
            b'T' | b'x' | b'a' => Ok(()),
            b'C' => set(&mut self.compress, true),
            b'4' => set(&mut self.family, Family::V4),
            b'6' => set(&mut self.family, Family::V6),
            b'i' => self.named("identityfile", value),
            b'p' => self.named("port", value),
            b'l' => self.named("user", value),
            b'F' if value == "none" => Ok(()),
            b'o' => {
                let (name, value) = split(value)?;
                self.named(&name, &value)
            }
            b'F' => Err(unknown(&format!("-F {}", value.to_string_lossy()))),
            _ => Err(unknown(&format!("-{}", char::from(letter)))),
        }
    }

    /// `-o NAME=VALUE`
    fn named(&mut self, name: &str, value: &OsStr) -> Result<(), String> {
        let refused = || unknown(&format!("-o {name}={}", value.to_string_lossy()));
        let number = || text(value)?.parse::<u32>().map_err(|_| refused());
        let switch = || match value.as_bytes() {
            b"yes" => Ok(true),
            b"no" => Ok(false),
            _ => Err(refused()),
        };
        match name.to_ascii_lowercase().as_str() {
            "port" => {
                let port = text(value)?.parse().ok().filter(|port| *port > 0);
                set(&mut self.port, port.ok_or_else(refused)?)
            }
            "user" => set(&mut self.user, text(value)?),
            "identityfile" => {
                self.keys.push(value.into());
                Ok(())
            }
            "identitiesonly" => set(&mut self.only_these_keys, switch()?),
            "compression" => set(&mut self.compress, switch()?),
            "connecttimeout" => set(&mut self.connect_timeout, number()?.max(1).into()),
            "serveraliveinterval" => set(&mut self.alive_interval, number()?.into()),
            "serveralivecountmax" => set(&mut self.alive_count, number()?),
            "userknownhostsfile" => set(&mut self.user_known_hosts, files(value)),
            "globalknownhostsfile" => set(&mut self.global_known_hosts, files(value)),
            "stricthostkeychecking" => set(&mut self.ignore_known_hosts, !switch()?),
            "addressfamily" => {
                let family = match value.as_bytes() {
                    b"any" => Family::Any,
                    b"inet" => Family::V4,
                    b"inet6" => Family::V6,
                    _ => return Err(refused()),
                };
                set(&mut self.family, family)
            }
            // nobody is ever asked anything
            "batchmode" if switch()? => Ok(()),
            _ => Err(refused()),
        }
    }
}

/// The first value counts.
#[allow(clippy::unnecessary_wraps)] // so that every arm above ends in the same way
fn set<T>(place: &mut Option<T>, value: T) -> Result<(), String> {
    place.get_or_insert(value);
    Ok(())
}

fn unknown(what: &str) -> String {
    format!(
        "libssh2 cannot honour the option '{what}' (SSH_OPTIONAL_ARGS); leave it out, or install \
         the OpenSSH client and set SSH_TRANSPORT=openssh"
    )
}

/// `NAME=VALUE` or `NAME VALUE`.
fn split(word: &OsStr) -> Result<(String, OsString), String> {
    let bytes = word.as_bytes().trim_ascii();
    let is_end = |b: &u8| *b == b'=' || b.is_ascii_whitespace();
    let end = bytes.iter().position(is_end).ok_or_else(|| unknown(&word.to_string_lossy()))?;
    let value = bytes[end..].trim_ascii_start();
    let value = value.strip_prefix(b"=").unwrap_or(value).trim_ascii_start();
    let name = String::from_utf8_lossy(&bytes[..end]).into_owned();
    Ok((name, OsStr::from_bytes(value).to_owned()))
}

/// File names separated by spaces; one with spaces stands in quotes.
fn files(value: &OsStr) -> Vec<PathBuf> {
    let whole = || vec![PathBuf::from(value)];
    let Some(text) = value.to_str() else { return whole() };
    let Ok(words) = shell_words::split(text) else { return whole() };
    words.into_iter().filter(|word| word != "none").map(PathBuf::from).collect()
}

fn text(word: &OsStr) -> Result<String, String> {
    let text = word.to_str().filter(|text| !text.contains('\0'));
    text.map(str::to_owned).ok_or_else(|| format!("'{}' is not UTF-8 text", word.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        let words: Vec<OsString> =
            shell_words::split(line).unwrap().into_iter().map(OsString::from).collect();
        Options::parse(&words)
    }

    fn plain() -> Options {
        Given::default().resolve(None, "h".into(), "cmd".into())
    }

    #[test]
    fn options_of_ssh_mean_what_they_mean_there() {
        let seconds = Duration::from_secs;
        for (line, expected) in [
            ("h cmd", plain()),
            ("h cmd -a 'b  c'", Options { command: "cmd -a b  c".into(), ..plain() }),
            ("u@h cmd", Options { user: Some("u".into()), ..plain() }),
            ("-l u h cmd", Options { user: Some("u".into()), ..plain() }),
            (
                "h -l u cmd -l v",
                Options { user: Some("u".into()), command: "cmd -l v".into(), ..plain() },
            ),
            ("a@b@h cmd", Options { user: Some("a@b".into()), ..plain() }),
            ("-p 2222 h cmd", Options { port: 2222, ..plain() }),
            ("-p2222 -p 23 h cmd", Options { port: 2222, ..plain() }),
            (
                "-i '/k e y' -i/b h cmd",
                Options { keys: vec!["/k e y".into(), "/b".into()], ..plain() },
            ),
            ("-C h cmd", Options { compress: true, ..plain() }),
            (
                "-TC6p 2222 h cmd",
                Options { compress: true, family: Family::V6, port: 2222, ..plain() },
            ),
            ("-o Compression=no -C h cmd", plain()),
            ("-T -x -o BatchMode=yes -F none h cmd", plain()),
            (
                "-6 fe80::1%eth0 cmd",
                Options { host: "fe80::1%eth0".into(), family: Family::V6, ..plain() },
            ),
            ("--ignore-known-hosts h cmd", Options { ignore_known_hosts: true, ..plain() }),
            ("-oStrictHostKeyChecking=no h cmd", Options { ignore_known_hosts: true, ..plain() }),
            ("--password-file /pw h cmd", Options { password_file: Some("/pw".into()), ..plain() }),
            ("-o connecttimeout=5 h cmd", Options { connect_timeout: seconds(5), ..plain() }),
            ("-o 'ServerAliveInterval 2' h cmd", Options { alive_interval: seconds(2), ..plain() }),
            ("-oServerAliveCountMax=1 h cmd", Options { alive_count: 1, ..plain() }),
            ("-o IdentitiesOnly=yes h cmd", Options { only_these_keys: true, ..plain() }),
            (
                "-o 'UserKnownHostsFile=/a \"/b c\"' -o GlobalKnownHostsFile=none h cmd",
                Options {
                    user_known_hosts: Some(vec!["/a".into(), "/b c".into()]),
                    global_known_hosts: Some(vec![]),
                    ..plain()
                },
            ),
        ] {
            assert_eq!(parse(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        for (line, named) in [
            ("-J jump h cmd", "-J"),
            ("-4vT h cmd", "'-v'"),
            ("-A h cmd", "'-A'"),
            ("-o ProxyCommand=nc h cmd", "ProxyCommand=nc"),
            ("-F /my/config h cmd", "-F /my/config"),
            ("-o BatchMode=no h cmd", "BatchMode"),
            ("-o Compression=maybe h cmd", "Compression=maybe"),
            ("-p 0 h cmd", "port=0"),
            ("-p x h cmd", "port=x"),
            ("-i", "-i needs a value"),
            ("--password-file", "--password-file needs a value"),
            ("-C", "no host"),
            ("'' cmd", "no host"),
            ("u@ cmd", "no host"),
            ("@h cmd", "no user"),
            ("u@-h cmd", "the host is not valid"),
            ("-l '' h cmd", "no user"),
            ("h -l '' cmd", "no user"),
            ("h", "no remote command"),
            ("h ''", "no remote command"),
            ("- h cmd", "'-'"),
            ("-o nonsense h cmd", "nonsense"),
        ] {
            let said = parse(line).unwrap_err();
            assert!(said.contains(named), "{line}: {said}");
        }
    }
}

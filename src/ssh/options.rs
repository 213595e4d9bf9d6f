//! The options of the remote shell, as plain words (spec 5, "The ssh command"). Pure.

use super::Use;
use crate::config::{Remote, SshLocation};
use crate::tree::path::escape;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// Seconds until a host that does not answer is given up.
const CONNECT_TIMEOUT: &str = "30";
/// A line that is dead for 15 × 4 seconds ends in an error.
const ALIVE_INTERVAL: &str = "15";
const ALIVE_COUNT: &str = "4";

/// A version of OpenSSH: major, minor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub u32, pub u32);

impl Version {
    /// What an ssh counts as that does not say which it is: an option that it does not know would
    /// end it.
    pub const OLDEST: Version = Version(7, 6);

    /// The version in what `ssh -V` says: `OpenSSH_9.2p1 Debian-2, OpenSSL 3.0`.
    pub fn parse(said: &str) -> Option<Version> {
        let (_, name) = said.lines().next()?.split_once("OpenSSH_")?;
        let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
        let (major, rest) = digits.split_once('.')?;
        let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        Some(Version(major.parse().ok()?, minor.parse().ok()?))
    }
}

/// What a user's ssh_config may ask for when somebody logs in by hand, and with which no command
/// would be started over there, or none could be spoken with; and the OpenSSH that first knew it.
const AGAINST_SSH_CONFIG: [(&str, &str, Version); 6] = [
    ("RemoteCommand", "none", Version(7, 6)),
    ("SessionType", "default", Version(8, 7)),
    ("ForkAfterAuthentication", "no", Version(8, 7)),
    ("StdinNull", "no", Version(8, 7)),
    // what it prints would stand among the answers of the other side
    ("PermitLocalCommand", "no", Version(4, 3)),
    // QUIET takes the cause out of every error
    ("LogLevel", "INFO", Version(2, 5)),
];

/// The OpenSSH client of this version with its options, without the destination. ssh takes the
/// first value it is given for an option; ours that are mere defaults are therefore left out
/// where SSH_OPTIONAL_ARGS, which come last, set the same one.
pub(super) fn openssh(
    version: Version,
    remote: &Remote,
    to: &SshLocation,
    for_what: Use,
    socket: Option<&Path>,
) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["ssh".into()];
    let mut option = |text: String| words.extend(["-o".into(), OsString::from(text)]);

    let batch = if remote.password_file.is_some() { "no" } else { "yes" };
    option(format!("BatchMode={batch}"));
    if remote.password_file.is_some() {
        // a wrong password stays wrong; asking again only risks a lock-out
        option("NumberOfPasswordPrompts=1".into());
    }
    for (name, value) in [
        ("ConnectTimeout", CONNECT_TIMEOUT),
        ("ServerAliveInterval", ALIVE_INTERVAL),
        ("ServerAliveCountMax", ALIVE_COUNT),
    ] {
        if !sets(&remote.optional_args, name) {
            option(format!("{name}={value}"));
        }
    }
    for (name, value, since) in AGAINST_SSH_CONFIG {
        if since <= version && !sets(&remote.optional_args, name) {
            option(format!("{name}={value}"));
        }
    }
    // The first connection holds the ports that a second one would ask for again, if nobody has
    // them yet: somebody may be logged in already.
    let (name, value) = match for_what {
        Use::Control => ("ExitOnForwardFailure", "no"),
        Use::Transfer => ("ClearAllForwardings", "yes"),
    };
    if !sets(&remote.optional_args, name) {
        option(format!("{name}={value}"));
    }
    if !remote.compression {
        option("Compression=no".into());
    }
    if remote.ignore_known_hosts {
        option("UserKnownHostsFile=/dev/null".into());
        option("StrictHostKeyChecking=no".into());
    }
    if let Some(socket) = socket {
        let master = if for_what == Use::Control { "yes" } else { "no" };
        option(format!("ControlMaster={master}"));
        words.extend(["-o".into(), file_option("ControlPath=", socket, "")]);
        let mut option = |text: String| words.extend(["-o".into(), OsString::from(text)]);
        option("ControlPersist=no".into());
    }
    if remote.compression {
        words.push("-C".into());
    }
    if remote.krb5 {
        words.push("-K".into());
    }
    if let Some(key) = &remote.key {
        if key.as_os_str().as_bytes().contains(&b'%') {
            // -i looks for the file as it stands, and expands tokens all the same
            words.extend(["-o".into(), file_option("IdentityFile=", key, "\"")]);
        } else {
            words.extend(["-i".into(), key.clone().into_os_string()]);
        }
    }
    if let Some(port) = to.port {
        words.extend(["-p".into(), port.to_string().into()]);
    }
    words.extend(remote.optional_args.iter().map(OsString::from));
    // the last of -t and -T counts
    words.push("-T".into());
    words
}

/// What keeps ssh from using the key at a path, if anything does.
pub(super) fn key_objection(key: &Path) -> Option<String> {
    let bytes = key.as_os_str().as_bytes();
    let has = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    let is_misread = has(b"${") || has(b"%") && (has(b"\"") || has(b"\\"));
    is_misread.then(|| {
        format!(
            "SSH_RSA_PRIVATE_KEY: ssh would look for another file than '{}', because '${{' or '%' \
             mean something to it; give the key another name, or put a link to it elsewhere",
            escape(bytes)
        )
    })
}

/// Our own binary as a remote shell; it understands the same few words.
pub(super) fn ours(binary: &Path, remote: &Remote, to: &SshLocation) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec![binary.into(), "rsh".into()];
    if remote.compression {
        words.push("-C".into());
    }
    if remote.ignore_known_hosts {
        words.push("--ignore-known-hosts".into());
    }
    if let Some(file) = &remote.password_file {
        words.extend(["--password-file".into(), file.clone().into_os_string()]);
    }
    if let Some(key) = &remote.key {
        words.extend(["-i".into(), key.clone().into_os_string()]);
    }
    if let Some(port) = to.port {
        words.extend(["-p".into(), port.to_string().into()]);
    }
    words.extend(remote.optional_args.iter().map(OsString::from));
    words
}

/// Whether the arguments set an option of ssh_config: `-oName=…`, `-o Name …`.
fn sets(args: &[String], name: &str) -> bool {
    OptionWords::new(args).filter_map(Result::ok).any(|(letter, value)| {
        let value = value.trim_ascii_start();
        let value = value.strip_prefix(b"\"").unwrap_or(value);
        let found = value.split(|b| matches!(b, b'=' | b' ' | b'\t' | b'"')).next();
        letter == b'o' && found.is_some_and(|found| found.eq_ignore_ascii_case(name.as_bytes()))
    })
}

/// Options with which ssh starts no command over there, or does not speak with it.
const WITHOUT_COMMAND: &[u8] = b"GNOQVWfns";

/// What keeps words from standing before the destination: with these ssh would go to another
/// host, take the destination for the value of an option, or run no command. `None` if nothing
/// does.
pub(super) fn objection(args: &[String]) -> Option<String> {
    OptionWords::new(args).find_map(|option| {
        let why = match option {
            Ok((letter, _)) if WITHOUT_COMMAND.contains(&letter) => format!(
                "with the option -{} ssh starts no command on the host, or does not speak with it",
                char::from(letter)
            ),
            Ok(_) => return None,
            Err(NoOption::Word(word)) => format!(
                "'{}' is not an option; ssh would take it, or what comes next, for the host",
                word.to_string_lossy()
            ),
            Err(NoOption::LacksValue(letter)) => {
                format!("the option -{} lacks its value", char::from(letter))
            }
        };
        Some(format!("SSH_OPTIONAL_ARGS: {why}"))
    })
}

/// The options of ssh that have a value.
const WITH_VALUE: &[u8] = b"BDEFIJLOPQRSWbceilmopw";

/// Why there is no further option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoOption<'w> {
    /// This word is not an option: it is the host, or one of ours that begins with `--`.
    Word(&'w OsStr),
    /// The last word is an option that wants a value.
    LacksValue(u8),
}

/// The options in ssh's arguments as getopt finds them: each letter and, where it has one, its
/// value. Whoever asks on behind a word that is no option is told of the words behind it.
#[derive(Debug, Clone)]
pub(super) struct OptionWords<'w, S> {
    words: std::slice::Iter<'w, S>,
    cluster: &'w [u8],
}

impl<'w, S: AsRef<OsStr>> OptionWords<'w, S> {
    pub(super) fn new(words: &'w [S]) -> Self {
        OptionWords { words: words.iter(), cluster: b"" }
    }

    /// The next word, whatever it is.
    pub(super) fn word(&mut self) -> Option<&'w OsStr> {
        self.words.next().map(AsRef::as_ref)
    }
}

impl<'w, S: AsRef<OsStr>> Iterator for OptionWords<'w, S> {
    type Item = Result<(u8, &'w [u8]), NoOption<'w>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.cluster.is_empty() {
            let word = self.word()?;
            match word.as_bytes().strip_prefix(b"-") {
                Some([]) | Some([b'-', ..]) | None => return Some(Err(NoOption::Word(word))),
                Some(letters) => self.cluster = letters,
            }
        }
        let (&letter, rest) = self.cluster.split_first()?;
        if !WITH_VALUE.contains(&letter) {
            self.cluster = rest;
            return Some(Ok((letter, b"")));
        }
        self.cluster = b"";
        if !rest.is_empty() {
            return Some(Ok((letter, rest)));
        }
        let value = self.word().map(OsStrExt::as_bytes);
        Some(value.map(|value| (letter, value)).ok_or(NoOption::LacksValue(letter)))
    }
}

/// An option of ssh_config whose value is a path: `%` begins a token there.
fn file_option(name: &str, path: &Path, quote: &str) -> OsString {
    let mut text = [name.as_bytes(), quote.as_bytes()].concat();
    for byte in path.as_os_str().as_bytes() {
        text.extend_from_slice(if *byte == b'%' { b"%%" } else { std::slice::from_ref(byte) });
    }
    text.extend_from_slice(quote.as_bytes());
    OsString::from_vec(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::ssh_tests::{plain, somewhere};

    const ALWAYS: &str = "ssh -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=15 \
                          -o ServerAliveCountMax=4 -o RemoteCommand=none \
                          -o PermitLocalCommand=no -o LogLevel=INFO -o ExitOnForwardFailure=no";

    fn line(remote: &Remote, to: &SshLocation) -> String {
        let words = openssh(Version::OLDEST, remote, to, Use::Control, None);
        let words: Vec<_> = words.iter().map(|w| w.to_string_lossy()).collect();
        words.join(" ")
    }

    #[test]
    fn each_setting_becomes_the_options_of_the_manual() {
        let to = somewhere();
        for (remote, expected) in [
            (plain(), format!("{ALWAYS} -C -T")),
            (Remote { compression: false, ..plain() }, format!("{ALWAYS} -o Compression=no -T")),
            (Remote { key: Some("/k e y".into()), ..plain() }, format!("{ALWAYS} -C -i /k e y -T")),
            (Remote { krb5: true, ..plain() }, format!("{ALWAYS} -C -K -T")),
            (
                Remote { ignore_known_hosts: true, ..plain() },
                format!(
                    "{ALWAYS} -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -C -T"
                ),
            ),
            (
                Remote { optional_args: vec!["-4".into(), "-J".into(), "jump".into()], ..plain() },
                format!("{ALWAYS} -C -4 -J jump -T"),
            ),
        ] {
            assert_eq!(line(&remote, &to), expected);
        }
        let with_port = SshLocation { port: Some(2222), ..to };
        assert_eq!(line(&plain(), &with_port), format!("{ALWAYS} -C -p 2222 -T"));
    }

    #[test]
    fn an_option_is_set_against_ssh_config_where_ssh_knows_it() {
        for (said, expected) in [
            ("OpenSSH_9.2p1 Debian-2+deb12u10, OpenSSL 3.0.22 25 Aug 2026", Some(Version(9, 2))),
            ("OpenSSH_for_Windows_8.1p1, LibreSSL 3.0.2", Some(Version(8, 1))),
            ("OpenSSH_10.0", Some(Version(10, 0))),
            ("Dropbear v2022.83", None),
            ("OpenSSH_x.y", None),
            ("", None),
        ] {
            assert_eq!(Version::parse(said), expected, "{said}");
        }
        for (version, known) in
            [(Version(7, 4), false), (Version(8, 6), false), (Version(8, 7), true)]
        {
            let words = openssh(version, &plain(), &somewhere(), Use::Control, None);
            let has = |word: &str| words.contains(&OsString::from(word));
            for word in ["ForkAfterAuthentication=no", "StdinNull=no", "SessionType=default"] {
                assert_eq!(has(word), known, "{word} of {version:?}");
            }
            assert_eq!(has("RemoteCommand=none"), version >= Version(7, 6));
        }
    }

    #[test]
    fn a_password_file_turns_prompts_on_and_is_not_named() {
        let remote = Remote { password_file: Some("/pw".into()), ..plain() };
        let line = line(&remote, &somewhere());
        assert!(line.contains("BatchMode=no") && line.contains("NumberOfPasswordPrompts=1"));
        assert!(!line.contains("/pw"));
    }

    #[test]
    fn the_users_own_options_outrank_our_defaults() {
        for args in [
            &["-oConnectTimeout=5"][..],
            &["-o", "connecttimeout=5"],
            &["-o", "ConnectTimeout 5"],
            &["-o ConnectTimeout=5"],
        ] {
            let optional_args = args.iter().map(|a| (*a).to_owned()).collect();
            let remote = Remote { optional_args, ..plain() };
            assert!(!line(&remote, &somewhere()).contains("ConnectTimeout=30"), "{args:?}");
        }
    }

    #[test]
    fn options_in_clusters_and_quotes_count_and_values_of_others_do_not() {
        for (args, ours) in [
            (&["-voConnectTimeout=5"][..], false),
            (&["-4vo", "ConnectTimeout=5"], false),
            (&["-o\"ConnectTimeout\" 5"], false),
            (&["-i", "ConnectTimeout=5"], true),
            (&["-lConnectTimeout"], true),
            (&["-o", "ConnectTimeoutX=5"], true),
        ] {
            let optional_args = args.iter().map(|a| (*a).to_owned()).collect();
            let remote = Remote { optional_args, ..plain() };
            let said = line(&remote, &somewhere());
            assert_eq!(said.contains("ConnectTimeout=30"), ours, "{args:?}: {said}");
        }
    }

    #[test]
    fn what_would_change_where_ssh_goes_is_refused() {
        for (args, word) in [
            (&["otherhost"][..], Some("'otherhost'")),
            (&["-4", "otherhost", "-v"], Some("'otherhost'")),
            (&["-v", "--"], Some("'--'")),
            (&["-"], Some("'-'")),
            (&[""], Some("''")),
            (&["-o"], Some("-o lacks")),
            (&["-vi"], Some("-i lacks")),
            (&["-4N"], Some("-N")),
            (&["-f", "-v"], Some("-f")),
            (&["-vn"], Some("-n")),
            (&["-l", "-N", "-F", "-f"], None),
            (&["-i", "-o", "-J", "jump", "-vp22", "-o", "a b"], None),
            (&["-\u{e9}o"], Some("-o lacks")),
            (&["-\u{e9}"], None), // ssh itself refuses that
            (&[], None),
        ] {
            let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
            match (objection(&args), word) {
                (Some(why), Some(word)) => assert!(why.contains(word), "{args:?}: {why}"),
                (why, word) => assert!(why.is_none() && word.is_none(), "{args:?}: {why:?}"),
            }
        }
    }

    #[test]
    fn a_key_is_found_whatever_its_name() {
        for (key, words) in [
            ("/k ey\"", Some(["-i", "/k ey\""])),
            ("/100% key", Some(["-o", "IdentityFile=\"/100%% key\""])),
            ("/%\"key", None),
            ("/${HOME}", None),
        ] {
            let remote = Remote { key: Some(key.into()), ..plain() };
            let said = openssh(Version::OLDEST, &remote, &somewhere(), Use::Control, None);
            match words {
                Some(words) => {
                    assert!(said.windows(2).any(|pair| pair == words), "{key}: {said:?}");
                    assert_eq!(key_objection(Path::new(key)), None);
                }
                None => assert!(key_objection(Path::new(key)).unwrap().contains(key), "{key}"),
            }
        }
    }

    #[test]
    fn a_shared_connection_has_one_master() {
        let socket = Path::new("/tmp/x%/s");
        for (for_what, master) in [(Use::Control, "yes"), (Use::Transfer, "no")] {
            let words = openssh(Version::OLDEST, &plain(), &somewhere(), for_what, Some(socket));
            assert!(words.contains(&OsString::from(format!("ControlMaster={master}"))));
            assert!(words.contains(&OsString::from("ControlPath=/tmp/x%%/s")));
        }
    }
}

//! The forced command on the other side: lets osync in, and nobody else (spec 7).
//!
//! What it decides is pure ([`decide`], [`rsync_args`]). This file is its edge: it reads
//! the environment that sshd made, and becomes what was allowed.

mod confine;
mod decision;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod rsync_args;

use crate::replica::peer::serve::{self, Limits, Watch};
use crate::system::{self, Cage};
pub use decision::{Decision, Policy, Reach, Refusal, Sudo, decide};
use rsync_args::Confinement;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// What the line in `authorized_keys` says.
#[derive(Clone)]
pub struct Options {
    /// TOKEN.
    pub token: OsString,
    /// `--no-sudo`.
    pub no_sudo: bool,
    /// `--restrict DIR`.
    pub restrict: Option<PathBuf>,
}

/// What sshd says of the session.
struct Session {
    original: Vec<u8>,
    home: Option<PathBuf>,
    /// The user's own; the client has no say in it.
    shell: PathBuf,
    path: OsString,
    from: String,
}

impl Session {
    fn from_environment() -> Self {
        let variable = |name| std::env::var_os(name);
        let connection = variable("SSH_CONNECTION").unwrap_or_default();
        let from = connection.to_string_lossy().split(' ').next().unwrap_or_default().to_owned();
        Session {
            original: variable("SSH_ORIGINAL_COMMAND").unwrap_or_default().into_vec(),
            home: variable("HOME").map(PathBuf::from).filter(|home| home.is_absolute()),
            shell: variable("SHELL")
                .map(PathBuf::from)
                .filter(|shell| shell.is_absolute())
                .unwrap_or_else(|| "/bin/sh".into()),
            path: variable("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()),
            from: if from.is_empty() { "an unknown host".to_owned() } else { from },
        }
    }
}

/// Runs what the client asked for, if it may; `watch` watches a directory for it. Returns an exit
/// status only when it may not..
#[must_use]
pub fn run(options: &Options, watch: &Watch<'_>) -> i32 {
    let session = Session::from_environment();
    let policy = Policy {
        token: options.token.as_bytes().to_vec(),
        sudo: if options.no_sudo { Sudo::Refused } else { Sudo::Allowed },
        reach: if options.restrict.is_some() { Reach::OneDirectory } else { Reach::Everything },
    };
    let refusal = match (decide(&session.original, &policy), &options.restrict) {
        (Decision::Shell { command }, None) => become_shell(&command, &session, policy.sudo),
        (Decision::Rsync { args }, Some(directory)) => {
            become_rsync(args, directory, &session).err().unwrap_or(Refusal::NotOurs)
        }
        (Decision::Peer, Some(directory)) => match serve(directory, &session, watch) {
            Ok(status) => return status,
            Err(refusal) => refusal,
        },
        (Decision::Refuse(refusal), _) => refusal,
        // The decision is for a free shell only without --restrict, and for the others only with
        // it.
        _ => Refusal::NotOurs,
    };
    refuse(&refusal, &session, &policy.token)
}

fn refuse(refusal: &Refusal, session: &Session, token: &[u8]) -> i32 {
    // standard error may be closed
    let _ = writeln!(std::io::stderr(), "ssh_filter: refused: {refusal}.");
    if let Some(home) = &session.home {
        let time = chrono::Local::now().format("%Y-%m-%d %H:%M:%S").to_string();
        let reason = refusal.to_string();
        let line = line(&time, &session.from, &reason, &session.original, token);
        append(home, &line);
    }
    1
}

/// What sshd would do with the command, had it no other to force: the user's shell runs
/// it. The token goes no further: neither into the arguments, where every user of the
/// machine could read it, nor into the environment.
fn become_shell(command: &[u8], session: &Session, sudo: Sudo) -> Refusal {
    if sudo == Sudo::Refused
        && let Err(refusal) = no_new_privileges()
    {
        return refusal;
    }
    let mut shell = Command::new(&session.shell);
    shell.arg("-c").arg(OsStr::from_bytes(command));
    shell.env_remove("SSH_ORIGINAL_COMMAND");
    Refusal::Setup(format!("cannot start {}: {}", session.shell.display(), shell.exec()))
}

/// From here on nothing that is started gains rights, however its name is hidden.
fn no_new_privileges() -> Result<(), Refusal> {
    system::no_new_privileges()
        .map_err(|cause| Refusal::Setup(format!("cannot give up sudo: {cause}")))
}

fn become_rsync(
    mut args: Vec<Vec<u8>>,
    directory: &Path,
    session: &Session,
) -> Result<(), Refusal> {
    let root = root_of(directory)?;
    confine::holds_no_login(&root, session.home.as_deref()).map_err(Refusal::Setup)?;
    let program = confine::find_program("rsync", &session.path, &root)
        .ok_or_else(|| Refusal::Setup("there is no rsync on this machine".to_owned()))?;
    if rsync_args::announces_more(&args) {
        args.extend(arguments_from_input().map_err(Refusal::Rsync)?);
    }
    let cage = confine::cage(&root, std::slice::from_ref(&program), &[]).map_err(Refusal::Setup)?;
    let confinement = if cage.is_some() { Confinement::Kernel } else { Confinement::ArgumentsOnly };
    let home = session.home.as_deref();
    let argv =
        rsync_args::check(&args, confinement, &|path| confine::resolve_inside(&root, home, path))?;
    if confinement == Confinement::ArgumentsOnly {
        keeps_inside(&program, &session.path)?;
    }
    // Started from inside: the place it was started from may be one it cannot read.
    let mut rsync = Command::new(&program);
    rsync.args(argv).current_dir(&root).env_clear().env("LC_ALL", "C").env("PATH", &session.path);
    rsync.envs(session.home.iter().map(|home| ("HOME", home)));
    cage.map_or(Ok(()), Cage::enter).map_err(Refusal::Setup)?;
    Err(Refusal::Setup(format!("cannot start {}: {}", program.display(), rsync.exec())))
}

fn root_of(directory: &Path) -> Result<PathBuf, Refusal> {
    directory
        .canonicalize()
        .map_err(|cause| Refusal::Setup(format!("--restrict {}: {cause}", directory.display())))
}

/// With `-s` the rest of the arguments comes first on standard input: each ended by a
/// NUL, an empty one at the end, the first being the program's name. Read byte by byte,
/// because what follows belongs to rsync.
fn arguments_from_input() -> Result<Vec<Vec<u8>>, String> {
    const MAX_BYTES: usize = 256 * 1024;
    let mut args: Vec<Vec<u8>> = Vec::new();
    let mut arg = Vec::new();
    let mut byte = [0];
    for _ in 0..MAX_BYTES {
        match rustix::io::read(rustix::stdio::stdin(), &mut byte) {
            Ok(0) => return Err("the connection ended before the arguments did".to_owned()),
            Ok(_) if byte[0] != 0 => arg.push(byte[0]),
            Ok(_) if arg.is_empty() => {
                return Ok(args.into_iter().skip(1).collect());
            }
            Ok(_) => args.push(std::mem::take(&mut arg)),
            Err(rustix::io::Errno::INTR) => {}
            Err(cause) => return Err(format!("cannot read the arguments: {cause}")),
        }
    }
    Err("too many arguments".to_owned())
}

/// What the kernel tells of this machine and its processes, for locks.
const KERNEL: [&str; 3] = ["/proc/stat", "/proc/sys/kernel/random/boot_id", "/proc/self/stat"];

const NO_HOOKS: &str = "a restricted key runs no commands";
const NO_FOLLOWING: &str = "this system has no Landlock, and without it a restricted key follows no links \
     (COPY_SYMLINKS, KEEP_DIRLINKS)";

/// Serves a client until it goes.
///
/// # Errors
/// It asks for another directory, or says what ours would not.
fn serve(directory: &Path, session: &Session, watch: &Watch<'_>) -> Result<i32, Refusal> {
    let root = root_of(directory)?;
    confine::holds_no_login(&root, session.home.as_deref()).map_err(Refusal::Setup)?;
    let getent: Vec<PathBuf> =
        confine::find_program("getent", &session.path, &root).into_iter().collect();
    let cage = confine::cage(&root, &getent, &KERNEL.map(PathBuf::from)).map_err(Refusal::Setup)?;
    // Shut behind the thread that serves and those it starts. The one that waits for it has to
    // write the log of refusals, which lies outside.
    let served = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("serve".into())
            .spawn_scoped(scope, || serve_confined(cage, &root, session, watch));
        let lost = |cause: &dyn std::fmt::Display| Refusal::Setup(format!("cannot serve: {cause}"));
        let joined = thread.map_err(|cause| lost(&cause))?.join();
        joined.map_err(|_| lost(&"it broke off"))?
    });
    served.map(|()| 0)
}

fn serve_confined(
    cage: Option<Cage>,
    root: &Path,
    session: &Session,
    watch: &Watch<'_>,
) -> Result<(), Refusal> {
    let setup = |cause: io::Error| Refusal::Setup(cause.to_string());
    let is_held = cage.is_some();
    cage.map_or(Ok(()), Cage::enter).map_err(Refusal::Setup)?;
    no_new_privileges()?;
    let own = |fd: io::Result<_>| fd.map(File::from).map_err(setup);
    let mut input = BufReader::new(own(io::stdin().as_fd().try_clone_to_owned())?);
    let mut output = own(io::stdout().as_fd().try_clone_to_owned())?;
    serve::greet_like_a_shell(&mut input, &mut output).map_err(|_| Refusal::NotOurs)?;
    let refused: Mutex<Option<Refusal>> = Mutex::new(None);
    let home = session.home.as_deref();
    let place = |path: &Path| {
        let inside = confine::resolve_inside(root, home, path).and_then(|place| {
            let is_made = is_held || place.exists();
            is_made.then_some(place).ok_or_else(|| {
                format!("{} is not there, and without Landlock none is made", path.display())
            })
        });
        inside.map_err(|why| {
            let refusal = Refusal::Setup(why);
            let said = format!("ssh_filter: refused: {refusal}");
            *refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
            said
        })
    };
    let limits = Limits {
        place: &place,
        no_hooks: Some(NO_HOOKS),
        no_following: (!is_held).then_some(NO_FOLLOWING),
        watch,
    };
    // anything but a message of our protocol ends the session
    let ended = serve::serve(input, output, &limits).map_err(Refusal::Protocol);
    match refused.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(refusal) => Err(refusal),
        None => ended,
    }
}

/// Whether this rsync keeps to its directory without help from the kernel.
///
/// # Errors
/// It does not, or that cannot be found out.
pub fn keeps_inside(program: &Path, path: &OsStr) -> Result<(), Refusal> {
    const NEEDED: (u32, u32) = (3, 5);
    let said = std::process::Command::new(program)
        .arg("--version")
        .env_clear()
        .env("PATH", path)
        .env("LC_ALL", "C")
        .output()
        .map_err(|cause| Refusal::Setup(format!("cannot start {}: {cause}", program.display())))?;
    let version = version_in(&String::from_utf8_lossy(&said.stdout));
    if version.is_some_and(|version| version >= NEEDED) {
        return Ok(());
    }
    Err(Refusal::Rsync(
        "this system has no Landlock, and its rsync is older than 3.5: links could lead it out of \
         the directory. Use a kernel with Landlock (Linux 5.19 or newer), or rsync 3.5"
            .to_owned(),
    ))
}

/// `rsync  version 3.5.0  protocol version 32`
fn version_in(said: &str) -> Option<(u32, u32)> {
    let line = said.lines().next()?.strip_prefix("rsync ")?;
    let number = line.trim_start().strip_prefix("version ")?.trim_start_matches('v');
    let mut parts = number.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Past this many bytes the log becomes `ssh_filter.log.1`: whoever has the key but not
/// the token must not be able to fill the disk.
const MAX_BYTES: u64 = 1024 * 1024;
/// How much of a command is shown.
const MAX_SHOWN: usize = 500;

/// One line, without any token: neither the right one nor the one that was tried.
#[must_use]
pub fn line(time: &str, from: &str, reason: &str, original: &[u8], token: &[u8]) -> String {
    let command = without_tokens(original, token);
    let shown = &command[..command.len().min(MAX_SHOWN)];
    let more = if command.len() > MAX_SHOWN { "…" } else { "" };
    format!("{time} - refused, {reason}; from {from}: {}{more}\n", shown.escape_ascii())
}

/// Replaces what stands behind `_REMOTE_TOKEN=`, and the token wherever else it stands.
fn without_tokens(original: &[u8], token: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b"_REMOTE_TOKEN=";
    let mut shown = Vec::with_capacity(original.len());
    let mut rest = original;
    while let Some(&byte) = rest.first() {
        if let Some(after) = rest.strip_prefix(NAME) {
            shown.extend_from_slice(NAME);
            shown.extend_from_slice(b"***");
            let end = after.iter().position(|byte| byte.is_ascii_whitespace());
            rest = &after[end.unwrap_or(after.len())..];
        } else if let Some(after) = rest.strip_prefix(token).filter(|_| !token.is_empty()) {
            shown.extend_from_slice(b"***");
            rest = after;
        } else {
            shown.push(byte);
            rest = &rest[1..];
        }
    }
    shown
}

/// Appends a line to `~/.ssh/ssh_filter.log`. A log that cannot be written changes
/// nothing about the refusal.
pub fn append(home: &Path, line: &str) {
    let log = home.join(".ssh/ssh_filter.log");
    if std::fs::symlink_metadata(&log).is_ok_and(|log| log.len() > MAX_BYTES) {
        let _ = std::fs::rename(&log, home.join(".ssh/ssh_filter.log.1"));
    }
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(no_follow)
        .open(log);
    if let Ok(mut file) = file {
        let _ = file.write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod served_tests {
    use super::*;

    #[test]
    fn versions_of_rsync_are_read() {
        for (said, version) in [
            ("rsync  version 3.5.0  protocol version 32\nCopyright", Some((3, 5))),
            ("rsync  version v3.2.7  protocol version 31", Some((3, 2))),
            ("rsync  version 4.0pre1  protocol version 33", Some((4, 0))),
            ("openrsync: protocol version 29", None),
            ("", None),
        ] {
            assert_eq!(version_in(said), version, "{said}");
        }
    }
}

#[cfg(test)]
mod refusals_tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_shows_the_command_but_no_token() {
        let cases: &[(&[u8], &str)] = &[
            (b"sh", "sh"),
            (b"env _REMOTE_TOKEN=wrong sh", "env _REMOTE_TOKEN=*** sh"),
            (b"env _REMOTE_TOKEN=Right9; id", "env _REMOTE_TOKEN=*** id"),
            (b"echo Right9 x", "echo *** x"),
            (b"_REMOTE_TOKEN=", "_REMOTE_TOKEN=***"),
            (b"a\nb\x1b[0m\xff", r"a\nb\x1b[0m\xff"),
        ];
        for (original, shown) in cases {
            let line = line("NOW", "192.0.2.1", "why", original, b"Right9");
            assert_eq!(line, format!("NOW - refused, why; from 192.0.2.1: {shown}\n"));
        }
    }

    #[test]
    fn the_log_is_private_follows_no_link_and_does_not_grow_for_ever() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let home = tempfile::tempdir().unwrap();
        append(home.path(), "no .ssh: nothing happens\n");
        std::fs::create_dir(home.path().join(".ssh")).unwrap();
        let log = home.path().join(".ssh/ssh_filter.log");
        append(home.path(), "one\n");
        append(home.path(), "two\n");
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&log, vec![b'x'; 2 * 1024 * 1024]).unwrap();
        append(home.path(), "three\n");
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "three\n");
        std::fs::remove_file(&log).unwrap();
        symlink(home.path().join("elsewhere"), &log).unwrap();
        append(home.path(), "four\n");
        assert!(!home.path().join("elsewhere").exists());
    }

    proptest! {
        #[test]
        fn no_command_brings_the_token_into_the_log(
            before in "[ -~]{0,40}", after in "[ -~]{0,40}"
        ) {
            let original = format!("{before}Tok3nOfSixteen99{after}");
            let line = line("NOW", "x", "why", original.as_bytes(), b"Tok3nOfSixteen99");
            prop_assert!(!line.contains("Tok3nOfSixteen99"));
            prop_assert_eq!(line.lines().count(), 1);
        }
    }
}

//! The forced command on the other side: lets osync in, and nobody else (spec 7).
//!
//! What it decides is pure ([`decide`], [`rsync_args`]). This file is its edge: it reads
//! the environment that sshd made, and becomes what was allowed.

use crate::replica::peer::serve::Watch;
use confine::{Cage, Openings};
use rsync_args::Confinement;
use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

mod confine;
mod decision;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod refusals;
pub mod rsync_args;
mod served;
pub mod words;

pub use decision::{Decision, Policy, Reach, Refusal, Sudo, decide};

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

/// Runs what the client asked for, if it may (`watch` watches a directory for it); returns an exit status only when it may not.
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
        (Decision::Peer, Some(directory)) => match served::serve(directory, &session, watch) {
            Ok(status) => return status,
            Err(refusal) => refusal,
        },
        (Decision::Refuse(refusal), _) => refusal,
        // A free shell is never decided for with --restrict, and the others never without.
        _ => Refusal::NotOurs,
    };
    refuse(&refusal, &session, &policy.token)
}

fn refuse(refusal: &Refusal, session: &Session, token: &[u8]) -> i32 {
    // nobody may be left to hear it
    let _ = writeln!(std::io::stderr(), "ssh_filter: refused: {refusal}.");
    if let Some(home) = &session.home {
        let time = chrono::Local::now().format("%Y-%m-%d %H:%M:%S").to_string();
        let reason = refusal.to_string();
        let line = refusals::line(&time, &session.from, &reason, &session.original, token);
        refusals::append(home, &line);
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
#[cfg(target_os = "linux")]
fn no_new_privileges() -> Result<(), Refusal> {
    rustix::thread::set_no_new_privs(true)
        .map_err(|cause| Refusal::Setup(format!("cannot give up sudo: {cause}")))
}

#[cfg(not(target_os = "linux"))]
fn no_new_privileges() -> Result<(), Refusal> {
    Ok(())
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
    let openings = Openings { programs: vec![program.clone()], readable: Vec::new() };
    let cage = Cage::around(&root, &openings).map_err(Refusal::Setup)?;
    let home = session.home.as_deref();
    let argv = rsync_args::check(&args, cage.confinement(), &|path| {
        confine::resolve_inside(&root, home, path)
    })?;
    if cage.confinement() == Confinement::ArgumentsOnly {
        served::keeps_inside(&program, &session.path)?;
    }
    // Started from inside: the place it was started from may be one it cannot read.
    let mut rsync = Command::new(&program);
    rsync.args(argv).current_dir(&root).env_clear().env("LC_ALL", "C").env("PATH", &session.path);
    rsync.envs(session.home.iter().map(|home| ("HOME", home)));
    cage.enter().map_err(Refusal::Setup)?;
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

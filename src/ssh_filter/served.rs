//! The replica of a restricted key: the filter itself is the other end of the client's osync,
//! confined to the directory (spec 5, "A peer, where there is one").

use super::confine::{self, Cage, Openings};
use super::rsync_args::Confinement;
use super::{Refusal, Session, no_new_privileges, root_of};
use crate::replica::peer::serve::{self, Limits, Watch};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What the kernel tells of this machine and its processes, for locks.
const KERNEL: &[&str] = &["/proc/stat", "/proc/sys/kernel/random/boot_id", "/proc/self/stat"];

const NO_HOOKS: &str = "a restricted key runs no commands";
const NO_FOLLOWING: &str = "this system has no Landlock, and without it a restricted key follows no links \
     (COPY_SYMLINKS, KEEP_DIRLINKS)";

/// Serves a client until it goes.
///
/// # Errors
/// It asks for another directory, or says what ours would not.
pub fn serve(directory: &Path, session: &Session, watch: &Watch<'_>) -> Result<i32, Refusal> {
    let root = root_of(directory)?;
    confine::holds_no_login(&root, session.home.as_deref()).map_err(Refusal::Setup)?;
    let openings = Openings {
        programs: confine::find_program("getent", &session.path, &root).into_iter().collect(),
        readable: KERNEL.iter().map(PathBuf::from).collect(),
    };
    let cage = Cage::around(&root, &openings).map_err(Refusal::Setup)?;
    // Shut behind the thread that serves and those it starts. The one that waits for it has to
    // write the log of refusals, which lies outside.
    let served = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("serve".into())
            .spawn_scoped(scope, || in_cage(cage, &root, session, watch));
        let lost = |cause: &dyn std::fmt::Display| Refusal::Setup(format!("cannot serve: {cause}"));
        let joined = thread.map_err(|cause| lost(&cause))?.join();
        joined.map_err(|_| lost(&"it broke off"))?
    });
    served.map(|()| 0)
}

fn in_cage(cage: Cage, root: &Path, session: &Session, watch: &Watch<'_>) -> Result<(), Refusal> {
    let setup = |cause: io::Error| Refusal::Setup(cause.to_string());
    let is_held = cage.confinement() == Confinement::Kernel;
    cage.enter().map_err(Refusal::Setup)?;
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
    // what is no message of ours ends it
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

#[cfg(test)]
mod tests {
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

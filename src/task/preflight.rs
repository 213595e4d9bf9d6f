//! What must be there before anything is touched (spec 7).

use super::Surroundings;
use super::outcome::Halt;
use crate::config::{Config, Location, SshLocation, Transport};
use crate::process::{self, Command, Input, ProcessError, Stop};
use crate::replica::{Prepared, Replica};
use crate::report::Level;
use crate::tree::{Pair, Side};
use std::ffi::OsString;
use std::time::Duration;

/// How long a ping may take.
const PING_LIMIT: Duration = Duration::from_secs(10);

/// rsync is installed here, and for a remote side ssh.
pub fn tools(config: &Config) -> Result<(), Halt> {
    if config.replicas.iter().any(|(_, place)| place.is_remote()) {
        let wants_ssh = config.remote.transport == Transport::OpenSsh;
        if wants_ssh && process::find_program("ssh").is_none() {
            return Err(Halt::fatal(
                "there is no program 'ssh' here; install the OpenSSH client (on Debian: apt-get \
                 install openssh-client), or set SSH_TRANSPORT=auto",
            ));
        }
    }
    let rsync = &config.transfer.executable;
    if process::find_program(rsync).is_some() {
        return Ok(());
    }
    Err(Halt::fatal(format!(
        "there is no program '{rsync}' here; install rsync (on Debian: apt-get install rsync), or \
         set RSYNC_EXECUTABLE"
    )))
}

/// REMOTE_HOST_PING and REMOTE_3RD_PARTY_HOSTS (spec 2).
pub fn connectivity(config: &Config, around: &Surroundings<'_>) -> Result<(), Halt> {
    let remote = config.replicas.iter().find_map(|(side, place)| match place {
        Location::Ssh(ssh) => Some((side, ssh)),
        Location::Local(_) => None,
    });
    let Some((side, ssh)) = remote else { return Ok(()) };
    let ping = |host: &str| {
        ping(host, around.stop).unwrap_or_else(|error| {
            around.reporter().problem(Level::Warn, None, None, &format!("cannot ping: {error}"));
            false
        })
    };
    if config.remote.ping && !ping(&ssh.host) {
        return Err(Halt::Fatal { side: Some(side), what: no_answer(ssh) });
    }
    let hosts = &config.remote.third_party_hosts;
    if !hosts.is_empty() && !hosts.iter().any(|host| ping(host)) {
        let text = format!(
            "none of the hosts of REMOTE_3RD_PARTY_HOSTS ({}) answers a ping; is this machine \
             connected?",
            hosts.join(" ")
        );
        around.reporter().problem(Level::Warn, None, None, &text);
    }
    Ok(())
}

fn no_answer(ssh: &SshLocation) -> String {
    format!(
        "the host {} does not answer a ping, and REMOTE_HOST_PING=yes; the task was not run",
        ssh.host
    )
}

/// Whether a host answers a ping.
///
/// # Errors
/// There is no ping, or it cannot be started.
pub fn ping(host: &str, stop: &Stop) -> Result<bool, ProcessError> {
    let args = ["-c", "2", "-W", "5", "--", host].map(OsString::from);
    let mut command = Command::new("ping").args(args);
    command.time_limit = Some(PING_LIMIT);
    Ok(process::output(&command, Input::Nothing, stop)?.exit.is_success())
}

/// MINIMUM_SPACE: a warning.
pub fn space(config: &Config, around: &Surroundings<'_>, side: Side, found: &Prepared) {
    let wanted = config.minimum_space;
    if wanted > 0 && found.free_kib < wanted {
        let text = format!(
            "only {} KiB are free on this replica, less than MINIMUM_SPACE={wanted}",
            found.free_kib
        );
        around.reporter().problem(Level::Warn, Some(side), None, &text);
    }
}

/// Now that both roots are resolved: neither is the other, nor inside it.
pub fn distinct(replicas: &Pair<Box<dyn Replica>>, config: &Config) -> Result<(), Halt> {
    if config.replicas.iter().any(|(_, place)| place.is_remote()) {
        return Ok(());
    }
    let (a, b) = (replicas.initiator.root(), replicas.target.root());
    if a.starts_with(b) || b.starts_with(a) {
        return Err(Halt::fatal(format!(
            "initiator {} and target {} are the same directory, or one lies inside the other; \
             nothing can be synchronised that way",
            replicas.initiator.location(),
            replicas.target.location()
        )));
    }
    Ok(())
}

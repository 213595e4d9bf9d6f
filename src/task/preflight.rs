//! What must be there before anything is touched, the time limits and the heartbeat of a run
//! (spec 7), and waiting while another run holds a lock (spec 10).

use super::RunContext;
use super::closing::Halt;
use crate::config::{Config, Location, SshLocation, Transport, WhenLocked};
use crate::process::{self, Command, Deadlines, Input, Limits, ProcessError, Stop};
use crate::replica::{Prepared, Replica, ReplicaError};
use crate::report::mail::mail_soft_limit;
use crate::report::words::counted;
use crate::report::{Event, Level, Reporter, spell};
use crate::tree::{Entry, Pair, RelPath, Side};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a ping may take.
const PING_LIMIT: Duration = Duration::from_secs(10);

/// rsync is installed here, and for a remote side ssh.
pub fn tools(config: &Config) -> Result<(), Halt> {
    if config.places().any(Location::is_remote) {
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

/// REMOTE_HOST_PING (spec 2).
pub fn answers(config: &Config, around: &RunContext<'_>) -> Result<(), Halt> {
    let remote = config.replicas.iter().find_map(|(side, place)| match place {
        Location::Ssh(ssh) => Some((side, ssh)),
        Location::Local(_) => None,
    });
    match remote {
        Some((side, ssh)) if config.remote.ping && !pings(&ssh.host, around) => {
            Err(Halt::Fatal { side: Some(side), what: no_answer(ssh) })
        }
        _ => Ok(()),
    }
}

fn pings(host: &str, around: &RunContext<'_>) -> bool {
    ping(host, around.stop).unwrap_or_else(|error| {
        around.reporter().problem(Level::Warn, None, None, &format!("cannot ping: {error}"));
        false
    })
}

/// REMOTE_3RD_PARTY_HOSTS (spec 2): a warning.
pub fn connectivity(config: &Config, around: &RunContext<'_>) {
    if !config.places().any(Location::is_remote) {
        return;
    }
    let hosts = &config.remote.third_party_hosts;
    if !hosts.is_empty() && !hosts.iter().any(|host| pings(host, around)) {
        let text = format!(
            "none of the hosts of REMOTE_3RD_PARTY_HOSTS ({}) answers a ping; is this machine \
             connected?",
            hosts.join(" ")
        );
        around.reporter().problem(Level::Warn, None, None, &text);
    }
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
pub fn space(config: &Config, around: &RunContext<'_>, side: Side, found: &Prepared) {
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
pub fn distinct(replicas: &mut Pair<Box<dyn Replica>>, config: &Config) -> Result<(), Halt> {
    let are_nested = if config.replicas.iter().any(|(_, place)| place.is_remote()) {
        nested(replicas.initiator.as_mut(), replicas.target.as_mut())?.is_some()
    } else {
        let (a, b) = (replicas.initiator.root(), replicas.target.root());
        a.starts_with(b) || b.starts_with(a)
    };
    if are_nested {
        return Err(Halt::fatal(format!(
            "initiator {} and target {} are the same directory, or one lies inside the other; \
             nothing can be synchronised that way",
            replicas.initiator.location(),
            replicas.target.location()
        )));
    }
    Ok(())
}

/// Which of two replicas lies inside the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inner {
    /// The first one.
    First,
    /// The second one.
    Second,
}

/// Whether one replica lies inside the other, when their machines may be one. Where their paths allow
/// it, both say what stands at that place: on one machine that is the same directory.
///
/// # Errors
/// A connection is lost.
pub fn nested<'a>(
    first: &'a mut dyn Replica,
    second: &'a mut dyn Replica,
) -> Result<Option<Inner>, ReplicaError> {
    let (a, b) = (first.root().to_owned(), second.root().to_owned());
    let (outer, inner, below, which) = match (a.strip_prefix(&b), b.strip_prefix(&a)) {
        (Ok(below), Err(_)) => (second, first, below, Inner::First),
        (Err(_), Ok(below)) => (first, second, below, Inner::Second),
        _ => return Ok(None),
    };
    let Ok(below) = RelPath::new(below.as_os_str().as_bytes()) else { return Ok(None) };
    let from_outside = outer.stat(&[below])?.pop();
    let from_inside = inner.stat(&[RelPath::root()])?.pop();
    let (Some(Ok(Some(one))), Some(Ok(Some(two)))) = (from_outside, from_inside) else {
        return Ok(None);
    };
    let place = |entry: &Entry| (entry.dev, entry.ino, entry.mtime, entry.ctime);
    Ok((one.ino != 0 && place(&one) == place(&two)).then_some(which))
}

/// The clock of a run. Dropping it stops the clock and waits for a mail under way.
pub struct Watch {
    clock: Option<Deadlines>,
    mail: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// Starts the clock of a run.
pub fn watch(config: &Config, around: &RunContext<'_>) -> Watch {
    let limits = config.limits;
    let limits =
        Limits::from_seconds(around.started, limits.soft, limits.hard, limits.keep_logging);
    let mail = Arc::new(Mutex::new(None));
    let (settings, log, slot) = (config.clone(), Arc::clone(around.log), Arc::clone(&mail));
    let on_soft = move || {
        let text = format!(
            "SOFT_MAX_EXEC_TIME ({}) has passed; the run goes on",
            counted(settings.limits.soft, "second")
        );
        log.problem(Level::Warn, None, None, &text);
        // A slow mail server must not hold up the clock.
        let (settings, log) = (settings.clone(), Arc::clone(&log));
        let letter = std::thread::spawn(move || mail_soft_limit(&settings, &log));
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(letter);
    };
    let log = Arc::clone(around.log);
    let on_heartbeat = move |passed| log.tell(Event::Heartbeat("the run", passed));
    let clock = match Deadlines::start(limits, around.stop, on_soft, on_heartbeat) {
        Ok(deadlines) => Some(deadlines),
        Err(error) => {
            let text = format!("the time limits are not watched: {error}");
            around.reporter().problem(Level::Warn, None, None, &text);
            None
        }
    };
    Watch { clock, mail }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.clock = None;
        let letter = self.mail.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(letter) = letter {
            // A panic there has been printed already.
            let _ = letter.join();
        }
    }
}

/// How long it takes at most until a lock that is given back is noticed.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The wait of one run.
pub struct Turn {
    when_locked: WhenLocked,
    since: Instant,
    tries: u32,
}

/// What is to be done now.
pub enum Wait {
    /// Try again after this time, and say this before.
    For {
        /// How long.
        pause: Duration,
        /// What is to be said, once.
        word: Option<String>,
    },
    /// No more of it.
    Over(Halt),
}

impl Turn {
    /// Begins now.
    pub fn new(when_locked: WhenLocked) -> Self {
        Turn { when_locked, since: Instant::now(), tries: 0 }
    }

    /// After a try that found a lock held.
    pub fn after(&mut self, busy: ReplicaError) -> Wait {
        let limit = match self.when_locked {
            WhenLocked::Fail => return Wait::Over(busy.into()),
            WhenLocked::Skip => {
                let text = format!("skipped, as another run is under way: {busy}");
                return Wait::Over(Halt::Skipped(text));
            }
            WhenLocked::Wait(limit) => limit,
        };
        let waited = self.since.elapsed();
        let left = limit.map(|limit| limit.saturating_sub(waited));
        if left == Some(Duration::ZERO) {
            let what = format!("{} (waited {})", busy.what, spell(waited));
            return Wait::Over(Halt::Replica(ReplicaError { what, ..busy }));
        }
        let word = (self.tries == 0).then(|| match limit {
            Some(limit) => format!("{busy}; waiting for its turn, {} at most", spell(limit)),
            None => format!("{busy}; waiting for its turn"),
        });
        self.tries += 1;
        let pause = Duration::from_millis(100 * u64::from(self.tries)).min(LONGEST_PAUSE);
        Wait::For { pause: left.map_or(pause, |left| pause.min(left)), word }
    }
}

//! Fault points: places where a test kills the run, or does something to its replicas
//! (docs/reliability.md). Only debug builds have them; in a release build [`point`] is
//! nothing.
//!
//! `OSYNC_FAULT=STEP:N` kills the run, and all it has started, when it comes to STEP for
//! the Nth time: without any clean-up, as when the power goes. `OSYNC_FAULT=STEP:N:COMMAND`
//! runs a shell command there instead, waits for it, and goes on: what somebody else may
//! do at just that moment. `OSYNC_FAULT_TRACE=FILE` appends each step that is reached.
//! `OSYNC_FAULT_HASTE=N` divides the limits that go through [`limit`] by N, so that a test of
//! what happens when time is up takes seconds.

/// A place where a test may want something to happen.
#[cfg(not(debug_assertions))]
#[inline]
pub const fn point(_step: &str) {}

/// A limit of time; a test may shorten it.
#[cfg(not(debug_assertions))]
#[inline]
pub const fn limit(usual: std::time::Duration) -> std::time::Duration {
    usual
}

#[cfg(debug_assertions)]
pub use armed::{limit, point};

#[cfg(debug_assertions)]
mod armed {
    use rustix::process::{Pid, Signal, kill_process};
    use std::collections::BTreeMap;
    use std::fs::{self, File};
    use std::io::Write;
    use std::process::{Command, Stdio};
    use std::sync::{Mutex, OnceLock, PoisonError};
    use std::time::Duration;

    /// What the environment asks for, and how often each step was reached. The one global
    /// of the program: a parameter for tests alone would run through every room.
    struct Faults {
        step: String,
        nth: u64,
        command: Option<String>,
        trace: Option<Mutex<File>>,
        reached: Mutex<BTreeMap<String, u64>>,
    }

    static FAULTS: OnceLock<Option<Faults>> = OnceLock::new();

    /// A place where a test may want something to happen.
    pub fn point(step: &str) {
        if let Some(faults) = FAULTS.get_or_init(Faults::from_environment) {
            faults.reach(step);
        }
    }

    /// A limit of time; a test may shorten it.
    pub fn limit(usual: Duration) -> Duration {
        let haste = std::env::var("OSYNC_FAULT_HASTE").ok().and_then(|text| text.parse().ok());
        usual / haste.filter(|haste| *haste > 0).unwrap_or(1)
    }

    impl Faults {
        fn from_environment() -> Option<Faults> {
            let trace = std::env::var_os("OSYNC_FAULT_TRACE")
                .and_then(|path| File::options().create(true).append(true).open(path).ok());
            let fault = std::env::var("OSYNC_FAULT").unwrap_or_default();
            if fault.is_empty() && trace.is_none() {
                return None;
            }
            let mut parts = fault.splitn(3, ':');
            let step = parts.next().unwrap_or_default().to_owned();
            let nth = parts.next().and_then(|nth| nth.parse().ok()).unwrap_or(1);
            let command = parts.next().map(str::to_owned);
            Some(Faults {
                step,
                nth,
                command,
                trace: trace.map(Mutex::new),
                reached: Mutex::default(),
            })
        }

        fn reach(&self, step: &str) {
            let count = {
                let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
                let count = reached.entry(step.to_owned()).or_default();
                *count += 1;
                *count
            };
            if let Some(trace) = &self.trace {
                let mut trace = trace.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = writeln!(trace, "{step}:{count}");
            }
            if step != self.step || count != self.nth {
                return;
            }
            match &self.command {
                Some(command) => {
                    let _ = Command::new("sh")
                        .args(["-c", command])
                        .stdin(Stdio::null())
                        .stdout(Stdio::null())
                        .status();
                }
                None => die(),
            }
        }
    }

    /// Ends every descendant and then this process, at once and without a word. All are
    /// stopped first, so that none sees another's end.
    fn die() -> ! {
        let mine = rustix::process::getpid();
        let mut stopped = Vec::new();
        loop {
            let fresh: Vec<Pid> =
                descendants(mine).into_iter().filter(|pid| !stopped.contains(pid)).collect();
            if fresh.is_empty() {
                break;
            }
            for pid in fresh {
                let _ = kill_process(pid, Signal::STOP);
                stopped.push(pid);
            }
        }
        for pid in stopped.into_iter().chain([mine]) {
            let _ = kill_process(pid, Signal::KILL);
        }
        // SIGKILL to oneself cannot be survived; this line is for the compiler.
        std::process::abort()
    }

    fn descendants(of: Pid) -> Vec<Pid> {
        let parents: Vec<(Pid, Pid)> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let pid = entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw)?;
                let stat = fs::read(entry.path().join("stat")).ok()?;
                // PID (NAME) STATE PARENT …; the name may hold anything, `)` too
                let end = stat.iter().rposition(|byte| *byte == b')')?;
                let rest = std::str::from_utf8(&stat[end + 1..]).ok()?;
                let parent =
                    rest.split_whitespace().nth(1)?.parse().ok().and_then(Pid::from_raw)?;
                Some((pid, parent))
            })
            .collect();
        let mut found = vec![of];
        let mut next = 0;
        while let Some(parent) = found.get(next).copied() {
            found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
            next += 1;
        }
        found.remove(0);
        found
    }
}

//! What becomes of a lock that is there already, for local and remote replicas
//! alike (spec 3, "Lock"); and what this machine says of itself and its processes for it.

use super::{LockRequest, Locked};
use crate::system;
use crate::tree::Stamp;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the file `lock` says: `PID@INSTANCE_ID`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The process that took the lock.
    pub pid: u32,
    /// The task it works for.
    pub instance_id: String,
}

/// What the file `lock.by` says beside that: whose process it is.
///
/// A few lines `name=value`, unknown ones ignored; `pid` and `instance` repeat the lock
/// that is meant, so that a left-over beside somebody else's lock is noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedBy {
    /// The lock this is about.
    pub holder: Holder,
    /// The machine whose process that is, and its boot.
    pub origin: Origin,
    /// When the process started, in the kernel's ticks since boot; tells a process from
    /// a later one of the same number.
    pub started: Option<u64>,
}

/// A machine, from one boot to the next.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// Its host name.
    pub host: String,
    /// Its boot: `id:UUID`, or `at:SECONDS` since the epoch where there is no id; empty
    /// if neither is known.
    pub boot: String,
}

/// Why the content of a lock is not to be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its content is not PID@INSTANCE_ID")]
pub struct Malformed;

/// What the content of a lock says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Nothing: the file was made, and its content never reached the disk (a power cut), or
    /// is being written right now. See [`PATIENCE_WITH_EMPTY`].
    Empty,
    /// A process of a task.
    Of(Holder),
    /// Something else.
    Malformed(Malformed),
}

/// A lock without content is looked at again after this time before it is judged: osync 1.3,
/// and our shell where there are no hard links, make the file first and fill it then.
pub const PATIENCE_WITH_EMPTY: Duration = Duration::from_secs(1);

/// A lock as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundLock {
    /// Who holds it.
    pub content: Content,
    /// What `lock.by` says, if there is one that can be read.
    pub by: Option<LockedBy>,
    /// Whether the lock file is older than the last boot of this machine. For a lock on
    /// a remote machine, whose clock is not ours: `false`.
    pub before_boot: bool,
}

/// What this machine knows of the process named in a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// There is none of that number.
    Gone,
    /// One of that number runs, and since when if that is known (see [`LockedBy`]).
    Runs(Option<u64>),
    /// It is the one that asks: it has locked this replica for another instance, by another way.
    Us,
}

/// Where the lock is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockPlace {
    /// On this machine.
    Here,
    /// On the machine of a remote target.
    Remote,
}

/// What becomes of the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockDecision {
    /// It does not count: take it over and say so.
    TakeOver(Locked),
    /// It counts, and will not go away by itself; why, and what to do about it.
    Stop(String),
    /// A run that lives holds it, or one of another host may; waiting may help.
    Busy(String),
}

impl Content {
    /// Reads the content of `lock`. A bare `PID`, as other tools write it, is a process of
    /// `instance_id`, the task of this run (spec 8, "On the disk").
    #[must_use]
    pub fn parse(content: &[u8], instance_id: &str) -> Self {
        // what a file holds whose size has reached the disk, and its content has not
        if content.iter().all(|byte| [0, b'\n'].contains(byte)) {
            return Content::Empty;
        }
        match Holder::parse(content) {
            Ok(holder) => Content::Of(holder),
            Err(malformed) => match Holder::pid(content) {
                Some(pid) => Content::Of(Holder { pid, instance_id: instance_id.to_owned() }),
                None => Content::Malformed(malformed),
            },
        }
    }
}

impl Holder {
    /// Reads the content of `lock`.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(content: &[u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(content).map_err(|_| Malformed)?;
        let line = text.strip_suffix('\n').unwrap_or(text);
        let (pid, instance_id) = line.split_once('@').ok_or(Malformed)?;
        let pid = Self::pid(pid.as_bytes()).ok_or(Malformed)?;
        if instance_id.is_empty() || instance_id.contains(char::is_control) {
            return Err(Malformed);
        }
        Ok(Holder { pid, instance_id: instance_id.to_owned() })
    }

    /// A process number in decimal, alone on its line.
    fn pid(text: &[u8]) -> Option<u32> {
        let text = text.trim_ascii_end();
        let plain = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        let pid: u32 = std::str::from_utf8(text).ok().filter(|_| plain)?.parse().ok()?;
        (pid > 0 && i32::try_from(pid).is_ok()).then_some(pid)
    }

    /// The content of `lock`.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}@{}\n", self.pid, self.instance_id)
    }
}

impl LockedBy {
    /// Reads `lock.by`; `None` if it is of no use.
    #[must_use]
    pub fn parse(content: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(content).ok()?;
        let value = |name: &str| {
            text.lines().find_map(|line| line.split_once('=').filter(|(key, _)| *key == name))
        };
        let value = |name| value(name).map(|(_, value)| value.to_owned());
        Some(LockedBy {
            holder: Holder { pid: value("pid")?.parse().ok()?, instance_id: value("instance")? },
            origin: Origin { host: value("host")?, boot: value("boot").unwrap_or_default() },
            started: value("started").and_then(|s| s.parse().ok()),
        })
    }

    /// The content of `lock.by`.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Holder { pid, instance_id } = &self.holder;
        let Origin { host, boot } = &self.origin;
        let mut text = format!("host={host}\nboot={boot}\npid={pid}\ninstance={instance_id}\n");
        if let Some(started) = self.started {
            text.push_str(&format!("started={started}\n"));
        }
        text
    }
}

impl Origin {
    /// Whether `self` is an earlier boot of the machine that is `now`. Boot times are
    /// worked out from two clocks, so they may be a little apart.
    fn is_earlier_boot(&self, now: &Origin) -> bool {
        let at = |boot: &str| boot.strip_prefix("at:").and_then(|s| s.parse::<i64>().ok());
        let id = |boot: &str| boot.strip_prefix("id:").map(str::to_owned);
        match (id(&self.boot), id(&now.boot), at(&self.boot), at(&now.boot)) {
            (Some(then), Some(now), _, _) => then != now,
            (_, _, Some(then), Some(now)) => then.saturating_add(120) < now,
            _ => false,
        }
    }
}

/// Judges a lock that was found. `process` is what this machine knows of the process
/// number in it, `here` is this machine.
#[must_use]
pub fn decide(
    found: &FoundLock,
    process: Process,
    here: &Origin,
    place: LockPlace,
    request: &LockRequest,
) -> LockDecision {
    let holder = match &found.content {
        Content::Of(holder) => holder,
        // No process can be named, so none holds it.
        Content::Empty => {
            return take_over("the lock is empty, as a power cut leaves it, and does not count");
        }
        Content::Malformed(malformed) if request.force => {
            return take_over(format!("there was a lock, but {malformed} (forced)"));
        }
        Content::Malformed(malformed) => {
            return LockDecision::Stop(format!(
                "there is a lock, but {malformed}; if no other run is active, remove it or use --force-unlock"
            ));
        }
    };
    let Holder { pid, instance_id } = holder;
    // A left-over of another lock says nothing about this one.
    let by = found.by.as_ref().filter(|by| by.holder == *holder);
    let dead = match by {
        Some(by) if by.origin.host != here.host => Err(format!(
            "locked by process {pid} of instance {instance_id} on another host, {}; \
             if no run is active there, use --force-unlock",
            by.origin.host
        )),
        Some(by) if by.origin.is_earlier_boot(here) => {
            Ok("was taken before the last boot of this machine")
        }
        None if found.before_boot => Ok("was taken before the last boot of this machine"),
        _ => match process {
            Process::Gone => Ok("is no longer running"),
            Process::Us => {
                let why = "this very run has locked it, by another way: it is the other replica, or \
                           another target of this task; take it out of the configuration";
                return LockDecision::Stop(why.to_owned());
            }
            Process::Runs(since) if is_another(since, by.and_then(|by| by.started)) => {
                Ok("is gone, its number belongs to another process now")
            }
            Process::Runs(_) => Err(format!(
                "already running: process {pid} of instance {instance_id} holds the lock"
            )),
        },
    };
    let stranger = place == LockPlace::Remote && *instance_id != request.instance_id;
    match dead {
        Ok(why) if !stranger => take_over(format!(
            "the lock of process {pid} of instance {instance_id} is dead: it {why}"
        )),
        Ok(why) if request.stranger_resume => LockDecision::TakeOver(Locked::TakenOver {
            why: format!(
                "the lock of another instance, process {pid} of {instance_id}, is dead: it {why}"
            ),
            warn: true,
        }),
        Ok(why) if !request.force => LockDecision::Stop(format!(
            "locked by another instance, {instance_id}; its process {pid} {why}, but it may have been \
             started elsewhere; set FORCE_STRANGER_LOCK_RESUME=yes or use --force-unlock if no run is active"
        )),
        Err(why) if !request.force => LockDecision::Busy(why),
        Ok(_) | Err(_) => take_over(format!(
            "the lock of process {pid} of instance {instance_id} was forced open"
        )),
    }
}

fn is_another(since: Option<u64>, started: Option<u64>) -> bool {
    matches!((since, started), (Some(since), Some(started)) if since != started)
}

/// A lock that nobody needs to be warned of: it is dead, or its taking over was asked for.
fn take_over(why: impl Into<String>) -> LockDecision {
    LockDecision::TakeOver(Locked::TakenOver { why: why.into(), warn: false })
}

/// This machine, in its present boot.
#[must_use]
pub fn origin() -> Origin {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let boot = match system::boot_id() {
        Some(id) => format!("id:{id}"),
        None => system::boot_time().map(|at| format!("at:{at}")).unwrap_or_default(),
    };
    Origin { host, boot }
}

/// What is known of a process of this machine.
#[must_use]
pub fn process(pid: u32) -> Process {
    let Some(id) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else {
        return Process::Gone;
    };
    match rustix::process::test_kill_process(id) {
        Err(rustix::io::Errno::SRCH) => Process::Gone,
        // It has ended, and only waits for its parent to take notice.
        Ok(()) | Err(_) if system::is_zombie(pid) => Process::Gone,
        // EPERM: it runs, as another user.
        Ok(()) | Err(_) => Process::Runs(system::started(pid)),
    }
}

/// Seconds since the epoch.
#[must_use]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// This moment by our clock.
#[must_use]
pub fn stamp() -> Stamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Stamp::new(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
}

#[cfg(test)]
mod lock_policy_tests {
    use super::*;

    fn origin(host: &str, boot: &str) -> Origin {
        Origin { host: host.into(), boot: boot.into() }
    }

    fn holder(pid: u32, instance_id: &str) -> Holder {
        Holder { pid, instance_id: instance_id.into() }
    }

    fn by(host: &str, boot: &str, started: Option<u64>) -> Option<LockedBy> {
        Some(LockedBy { holder: holder(42, "task"), origin: origin(host, boot), started })
    }

    #[derive(Debug, PartialEq, Clone, Copy)]
    enum Is {
        TakenOver,
        TakenOverWithWarning,
        Stopped,
    }
    use Is::{Stopped, TakenOver, TakenOverWithWarning};

    fn decide(found: &FoundLock, process: Process, place: LockPlace, request: &LockRequest) -> Is {
        match super::decide(found, process, &origin("here", "id:now"), place, request) {
            LockDecision::TakeOver(Locked::TakenOver { warn: false, .. }) => TakenOver,
            LockDecision::TakeOver(_) => TakenOverWithWarning,
            LockDecision::Stop(_) | LockDecision::Busy(_) => Stopped,
        }
    }

    #[test]
    fn who_may_take_over_which_lock() {
        let lives = Process::Runs(Some(1000));
        let gone = Process::Gone;
        let mine = "task";
        let other = "other";
        // what it is; lock.by; older than boot; process; this instance; here, remote, remote with
        // FORCE_STRANGER_LOCK_RESUME
        #[rustfmt::skip]
        let cases = [
            ("the process lives", None, false, lives, mine, [Stopped, Stopped, Stopped]),
            ("the process is gone", None, false, gone, mine, [TakenOver, TakenOver, TakenOver]),
            ("another instance's process lives", None, false, lives, other, [Stopped, Stopped, Stopped]),
            ("another instance's process is gone", None, false, gone, other, [TakenOver, Stopped, TakenOverWithWarning]),
            ("lock.by says it lives here", by("here", "id:now", Some(1000)), false, lives, mine, [Stopped, Stopped, Stopped]),
            ("the number was used again", by("here", "id:now", Some(999)), false, lives, mine, [TakenOver, TakenOver, TakenOver]),
            ("when the process started is not known", by("here", "id:now", None), false, lives, mine, [Stopped, Stopped, Stopped]),
            ("an earlier boot, its number used again", by("here", "id:then", Some(1000)), false, lives, mine, [TakenOver, TakenOver, TakenOver]),
            ("an earlier boot, another instance", by("here", "id:then", Some(1000)), false, lives, other, [TakenOver, Stopped, TakenOverWithWarning]),
            ("older than the boot, of the old tool", None, true, lives, mine, [TakenOver, TakenOver, TakenOver]),
            ("older than the boot, but lock.by says this boot", by("here", "id:now", Some(1000)), true, lives, mine, [Stopped, Stopped, Stopped]),
            ("another host, no such process here", by("there", "id:now", None), false, gone, mine, [Stopped, Stopped, Stopped]),
            ("another host, an earlier boot", by("there", "id:then", None), true, gone, mine, [Stopped, Stopped, Stopped]),
            ("boot known by time, long ago", by("here", "at:5", None), false, lives, mine, [Stopped, Stopped, Stopped]),
        ];
        for (what, by, before_boot, process, instance, [here, remote, resumed]) in cases {
            let found = FoundLock { content: Content::Of(holder(42, "task")), by, before_boot };
            let mut request =
                LockRequest { instance_id: instance.into(), force: false, stranger_resume: false };
            assert_eq!(decide(&found, process, LockPlace::Here, &request), here, "here: {what}");
            assert_eq!(
                decide(&found, process, LockPlace::Remote, &request),
                remote,
                "remote: {what}"
            );
            request.stranger_resume = true;
            assert_eq!(
                decide(&found, process, LockPlace::Remote, &request),
                resumed,
                "resume: {what}"
            );
            request.force = true;
            for stranger_resume in [true, false] {
                request.stranger_resume = stranger_resume;
                for place in [LockPlace::Here, LockPlace::Remote] {
                    let forced = decide(&found, process, place, &request);
                    assert_ne!(forced, Stopped, "force: {what}");
                    let is_strange = stranger_resume && resumed == TakenOverWithWarning;
                    assert!(is_strange || forced == TakenOver, "no warning when forced: {what}");
                }
            }
        }
    }

    #[test]
    fn lock_by_of_another_lock_is_ignored() {
        let mut left_over = by("there", "id:then", None).unwrap();
        left_over.holder.pid = 41;
        let content = Content::Of(holder(42, "task"));
        let found = FoundLock { content, by: Some(left_over), before_boot: false };
        let request =
            LockRequest { instance_id: "task".into(), force: false, stranger_resume: false };
        assert_eq!(decide(&found, Process::Gone, LockPlace::Here, &request), TakenOver);
    }

    #[test]
    fn a_malformed_lock_stops_until_it_is_forced() {
        for content in [
            "",
            "\n",
            "42",
            "@task",
            "42@",
            "x@task",
            "-1@task",
            "0@task",
            "42@a\nb",
            "99999999999@task",
            "+5@task",
        ] {
            assert_eq!(Holder::parse(content.as_bytes()), Err(Malformed), "{content:?}");
        }
        assert_eq!(Holder::parse(b"42@\xff"), Err(Malformed));
        for content in ["42@task", "42@task\n"] {
            assert_eq!(Holder::parse(content.as_bytes()), Ok(holder(42, "task")));
        }
        assert_eq!(Holder::parse(b"42@a@b\n"), Ok(holder(42, "a@b")));
        let content = Content::Malformed(Malformed);
        let found = FoundLock { content, by: None, before_boot: true };
        for (force, then) in [(false, Stopped), (true, TakenOver)] {
            let request = LockRequest { instance_id: "task".into(), force, stranger_resume: true };
            assert_eq!(decide(&found, Process::Gone, LockPlace::Here, &request), then);
        }
    }

    #[test]
    fn an_empty_lock_and_a_bare_number_are_of_this_task() {
        for content in [&b""[..], b"\n", b"\0\0\0\0\n", b"\0"] {
            assert_eq!(Content::parse(content, "task"), Content::Empty, "{content:?}");
        }
        for content in [&b"42"[..], b"42\n", b"42 \n", b"42@task\n"] {
            let of = Content::Of(holder(42, "task"));
            assert_eq!(Content::parse(content, "task"), of, "{content:?}");
        }
        for content in [&b"@task"[..], b"0", b"-5", b"x", b"4 2", b"42@", b"\xff", b"42@\0\0", b" "]
        {
            let malformed = Content::Malformed(Malformed);
            assert_eq!(Content::parse(content, "task"), malformed, "{content:?}");
        }
        let request =
            LockRequest { instance_id: "task".into(), force: false, stranger_resume: false };
        let found = FoundLock { content: Content::Empty, by: None, before_boot: false };
        for place in [LockPlace::Here, LockPlace::Remote] {
            assert_eq!(decide(&found, Process::Gone, place, &request), TakenOver);
        }
    }

    #[test]
    fn boots_known_by_time_may_be_a_little_apart() {
        for (then, now, earlier) in [
            ("at:1000", "at:1060", false),
            ("at:1060", "at:1000", false),
            ("at:1000", "at:1120", false),
            ("at:1000", "at:1121", true),
            ("at:9223372036854775807", "at:1000", false),
            ("id:a", "at:2000", false),
            ("", "id:a", false),
            ("id:a", "id:a", false),
            ("id:a", "id:b", true),
        ] {
            assert_eq!(
                origin("h", then).is_earlier_boot(&origin("h", now)),
                earlier,
                "{then} {now}"
            );
        }
    }

    #[test]
    fn what_is_written_can_be_read_again() {
        assert_eq!(holder(42, "task").to_text(), "42@task\n", "osync 1.3 reads it, too");
        for started in [None, Some(123)] {
            let by = by("here", "id:now", started).unwrap();
            assert_eq!(LockedBy::parse(by.to_text().as_bytes()), Some(by));
        }
        assert_eq!(LockedBy::parse(b"host=h\nnew=1\n"), None);
    }
}

#[cfg(test)]
mod host_tests {
    use super::*;

    #[test]
    fn this_process_runs_and_an_ended_child_does_not() {
        let Process::Runs(Some(since)) = process(std::process::id()) else { panic!() };
        assert_eq!(Some(since), system::started(std::process::id()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert_eq!(process(child.id()), Process::Gone);
        assert_eq!(process(0), Process::Gone);
        assert_eq!(process(u32::MAX), Process::Gone);
    }

    #[test]
    fn this_machine_has_a_name_and_a_boot() {
        let here = origin();
        assert!(!here.host.is_empty() && !here.boot.is_empty());
        assert_eq!(here, origin());
        assert!(system::boot_time().unwrap() <= now());
    }
}

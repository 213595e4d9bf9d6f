//! The control shell of a restricted key, served by the filter itself (spec 7).
//!
//! Between the client and the shell stands the [`gate`](super::gate). The shell gets its
//! script from us, and on its standard input only what the gate lets through; it lives in
//! a cage of the kernel's, where there is one.

use super::confine::{self, Cage, Openings};
use super::gate::{Gate, Scripts, Step};
use super::rsync_args::Confinement;
use super::{Refusal, Session, no_new_privileges, root_of, tell_if_open};
use crate::process::{self, Child, ChildInput, ChildOutput, Command, Exit, Stop};
use crate::replica::ControlScripts;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::mpsc::{self, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long the shell may take to clean up behind itself.
const PATIENCE: Duration = Duration::from_secs(15);
const GRACE: Duration = Duration::from_secs(2);
/// How many pieces of input may wait for a shell that does not read.
const MOST_WAITING: usize = 16;

/// What happens on the way.
enum Event {
    /// The client has said something.
    Said(Vec<u8>),
    /// It says no more.
    Silent,
    /// The shell has ended.
    Ended,
}

/// Serves a client until it goes; the shell's exit status.
///
/// # Errors
/// The client says what ours would not, or the shell cannot be had.
pub fn serve(directory: &Path, session: &Session) -> Result<i32, Refusal> {
    let root = root_of(directory)?;
    let scratch = tempfile::Builder::new()
        .prefix("osync-filter-")
        .tempdir()
        .map_err(|cause| setup("cannot make a temporary directory", &cause))?;
    let (search, tools) = confine::find_tools(&session.path, &root);
    let openings = Openings { programs: tools, scratch: Some(scratch.path().to_path_buf()) };
    let cage = Cage::around(&root, &openings).map_err(Refusal::Setup)?;
    tell_if_open(&cage);
    let follow = cage.confinement() == Confinement::Kernel;
    let shell = shell(&root, search, scratch.path(), session);
    let scripts = scripts();
    let home = session.home.as_deref();
    let resolve = |path: &Path| confine::resolve_inside(&root, home, path);
    converse(Gate::new(&scripts, follow, &resolve), cage, shell)
}

fn setup(what: &str, cause: &dyn std::fmt::Display) -> Refusal {
    Refusal::Setup(format!("{what}: {cause}"))
}

fn scripts() -> Scripts {
    let ControlScripts { first, loadable, hook } = ControlScripts::new();
    Scripts { first, loadable, hook }
}

/// A shell that takes its script from a variable. Not from its input: some shells read
/// that in blocks, and what a client sends behind the script would be part of it. And not
/// from its arguments: everybody on the machine can read those.
fn shell(root: &Path, search: OsString, scratch: &Path, session: &Session) -> Command {
    Command {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), "s=$OSYNC_SCRIPT; unset OSYNC_SCRIPT; eval \"$s\"".into()],
        env_remove: std::env::vars_os().map(|(name, _)| name).collect(),
        env: [("PATH", search), ("TMPDIR", scratch.into()), ("LC_ALL", "C".into())]
            .into_iter()
            .chain(session.home.iter().map(|home| ("HOME", home.clone().into())))
            .map(|(name, value)| (name.into(), value))
            .collect(),
        dir: Some(root.to_path_buf()),
        ..Command::default()
    }
}

/// Passes on what comes, both ways.
fn converse(mut gate: Gate<'_>, cage: Cage, shell: Command) -> Result<i32, Refusal> {
    let (events, coming) = mpsc::sync_channel(MOST_WAITING);
    let client = events.clone();
    // Ends with the process: nothing calls it back from its reading.
    thread(move || listen(&client))?;
    let mut not_yet = Some((cage, shell, events));
    let mut running: Option<Running> = None;
    let refusal = loop {
        match coming.recv() {
            Ok(Event::Said(bytes)) => {
                if let Err(refusal) = hear(&bytes, &mut gate, &mut not_yet, &mut running) {
                    break Some(refusal);
                }
            }
            Ok(Event::Silent | Event::Ended) | Err(_) => break None,
        }
    };
    let status = running.map_or(0, Running::finish);
    refusal.map_or(Ok(status), Err)
}

type NotYet = Option<(Cage, Command, SyncSender<Event>)>;

fn hear(
    mut bytes: &[u8],
    gate: &mut Gate<'_>,
    not_yet: &mut NotYet,
    running: &mut Option<Running>,
) -> Result<(), Refusal> {
    while !bytes.is_empty() {
        let (taken, step) = gate.take(bytes)?;
        bytes = &bytes[taken..];
        match step {
            Step::More => {}
            Step::Open(opening) => {
                let (cage, shell, events) = not_yet.take().ok_or(Refusal::NotOurs)?;
                let shell = shell.env("OSYNC_SCRIPT", OsString::from_vec(opening.script));
                *running = Some(Running::start(cage, shell, events)?);
            }
            Step::Pass(bytes) => {
                let shell = running.as_mut().ok_or(Refusal::NotOurs)?;
                // That it has ended is said apart.
                drop(shell.input.write_all(&bytes));
            }
        }
    }
    Ok(())
}

fn thread(work: impl FnOnce() + Send + 'static) -> Result<(), Refusal> {
    let started = std::thread::Builder::new().spawn(work);
    started.map(drop).map_err(|cause| setup("cannot start a thread", &cause))
}

/// What the client says, until it says no more or nobody listens.
fn listen(to: &SyncSender<Event>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let event = match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            Err(rustix::io::Errno::INTR) => continue,
            Ok(0) | Err(_) => Event::Silent,
            Ok(count) => Event::Said(buffer[..count].to_vec()),
        };
        let is_last = matches!(event, Event::Silent);
        if to.send(event).is_err() || is_last {
            return;
        }
    }
}

struct Running {
    input: ChildInput,
    child: Child,
    answers: JoinHandle<()>,
}

impl Running {
    /// The cage shuts behind the thread that starts the shell, and so behind the shell,
    /// but not behind the filter, which has to write its log and clean up.
    fn start(cage: Cage, shell: Command, events: SyncSender<Event>) -> Result<Self, Refusal> {
        let inside = std::thread::Builder::new().spawn(move || {
            cage.enter().map_err(Refusal::Setup)?;
            no_new_privileges()?;
            process::spawn(&shell, &Stop::new(), Box::new(say))
                .map_err(|cause| Refusal::Setup(cause.to_string()))
        });
        let lost = || Refusal::Setup("cannot start a shell".to_owned());
        let inside = inside.map_err(|cause| setup("cannot start a thread", &cause))?;
        let mut child = inside.join().map_err(|_| lost())??;
        let input = child.take_stdin().ok_or_else(lost)?;
        let output = child.take_stdout().ok_or_else(lost)?;
        let answers = std::thread::Builder::new()
            .spawn(move || {
                pass_on(output);
                // Whoever listened may have gone.
                let _ = events.send(Event::Ended);
            })
            .map_err(|cause| setup("cannot start a thread", &cause))?;
        Ok(Running { input, child, answers })
    }

    /// Lets it give back its lock and end, and its last words out.
    fn finish(mut self) -> i32 {
        drop(self.input);
        let exit = self.child.finish(PATIENCE, GRACE);
        let _ = self.answers.join();
        match exit {
            Exit::Code(status) => status,
            _ => 1,
        }
    }
}

fn say(line: &[u8]) {
    let mut out = std::io::stderr().lock();
    drop(out.write_all(line).and_then(|()| out.write_all(b"\n")));
}

fn pass_on(mut from: ChildOutput) {
    let mut to = std::io::stdout().lock();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(count) if count > 0 => {
                if to.write_all(&buffer[..count]).and_then(|()| to.flush()).is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}

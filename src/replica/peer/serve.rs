//! `osync serve`: the other end of a [`PeerReplica`](super::client::PeerReplica). Every
//! request is one call of a [`LocalReplica`] on this machine (docs/peer-protocol.md).

use super::listing::{self, BlockName, Known, Sum};
use super::protocol::{
    self, BadFrame, FULL_FRAME, HeldLock, Hook, Piece, Prepare, Ready, Request, Response, START,
};
use crate::config::RuleText;
use crate::filter::Filter;
use crate::process::SignalWatch;
use crate::process::{self, Stop, StopReason, fault};
use crate::replica::attributes::{self, Whose};
use crate::replica::local::work_dir::Durable;
use crate::replica::local::{Asked, Judge};
use crate::replica::{LocalReplica, Replica, ReplicaError, ScanRequest, Trouble, Watched};
use crate::tree::{Entry, RelPath, Side, Tree};
use serde::Serialize;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So many requests wait at most; then the client has to.
const MOST_WAITING: usize = 16;
/// How much may come before the client's first frame: a script.
const MOST_BEFORE: usize = 1 << 20;
/// How often a scan tells how far it is.
const BETWEEN_WORDS: Duration = Duration::from_millis(200);
/// What a client is told that asks for work before it has said on which replica.
const NOT_PREPARED: &str = "it has not been prepared";

/// What a client may do beside its work on a replica.
pub struct Limits<'a> {
    /// Which directory a path may lead to: where it leads, or why it may not.
    pub place: &'a (dyn Fn(&Path) -> Result<PathBuf, String> + Sync),
    /// Why no commands of the client's are run; `None`: they are.
    pub no_hooks: Option<&'static str>,
    /// Why no links are followed; `None`: they are, if the client wants that.
    pub no_following: Option<&'static str>,
    /// Watches a directory.
    pub watch: &'a Watch<'a>,
}

/// Watches a directory by these rules until it is to stop, and tells of changes.
pub type Watch<'a> =
    dyn Fn(&Path, &[RuleText], &mut dyn FnMut(Watched), &Stop) -> Result<(), String> + Sync + 'a;

/// The word that no reader is left for what is said.
struct Gone;

impl From<io::Error> for Gone {
    fn from(_: io::Error) -> Self {
        Gone
    }
}

/// Why a request has no answer of its own.
enum Failure {
    /// It failed, and the client is told: the words, and what it can do about it.
    Told(String, Trouble),
    /// There is no client any more.
    Gone,
}

impl From<ReplicaError> for Failure {
    fn from(error: ReplicaError) -> Self {
        Failure::Told(error.what, error.trouble)
    }
}

impl From<String> for Failure {
    fn from(what: String) -> Self {
        Failure::Told(what, Trouble::Other)
    }
}

impl From<&str> for Failure {
    fn from(what: &str) -> Self {
        what.to_owned().into()
    }
}

impl From<Gone> for Failure {
    fn from(_: Gone) -> Self {
        Failure::Gone
    }
}

/// Serves one client until it goes. The lock is given back then, however it goes.
///
/// # Errors
/// Threads or signal handlers cannot be had; the client speaks another language.
pub fn serve(
    input: impl Read + Send + 'static,
    output: impl Write + Send,
    limits: &Limits<'_>,
) -> Result<(), String> {
    let current = Arc::new(Current::default());
    let signals = Stop::new();
    let watch = SignalWatch::stopping(&signals)
        .map_err(|cause| format!("cannot listen to signals: {cause}"))?;
    let (queue, requests) = mpsc::sync_channel(MOST_WAITING);
    let thread = |name: &str, work: Box<dyn FnOnce() + Send>| {
        let started = std::thread::Builder::new().name(name.into()).spawn(work);
        started.map(drop).map_err(|cause| format!("cannot start a thread: {cause}"))
    };
    // Both end with the process: nothing calls them back from their waiting.
    let (heard, ends) = (Arc::clone(&current), queue.clone());
    thread("client", Box::new(move || listen(BufReader::new(input), &queue, &heard)))?;
    let heard = Arc::clone(&current);
    thread(
        "ends",
        Box::new(move || {
            let _ = signals.wait(Duration::MAX);
            heard.end();
            // the server may be gone before us
            let _ = ends.send(Heard::End(None));
        }),
    )?;
    let out = Mutex::new(BufWriter::with_capacity(FULL_FRAME * 2, output));
    let server = Server {
        out: &out,
        limits,
        replica: None,
        rules: Vec::new(),
        kept: String::new(),
        told: BTreeSet::new(),
    };
    let done = Stop::new();
    let ended = std::thread::scope(|scope| {
        let signs = std::thread::Builder::new().name("signs".into());
        signs
            .spawn_scoped(scope, || give_signs_of_life(&out, &current, &done))
            .map_err(|cause| format!("cannot start a thread: {cause}"))?;
        let ended = server.run(&requests, &current);
        done.request(StopReason::Signal(1));
        ended
    });
    drop(watch);
    ended
}

/// Says now and then that a request is being worked on, so that the client can tell long work
/// from a process that was stopped.
fn give_signs_of_life<W: Write>(out: &Mutex<BufWriter<W>>, current: &Current, done: &Stop) {
    let interval = fault::limit(protocol::BETWEEN_SIGNS);
    while done.wait(interval).is_none() {
        let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
        // INVARIANT: asked while nothing else is said, so that no sign follows the answer
        let Some(number) = current.working_on() else { continue };
        let Ok(frame) = protocol::encode(number, &Response::Alive) else { return };
        // that the client is gone is noticed by the answer
        if out.write_all(&frame).and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

/// Stands in for the shell that a client begins to teach: reads the mark of its connection, and
/// answers that an osync takes its place.
///
/// # Errors
/// The client speaks another language, or is gone.
pub fn greet_like_a_shell(input: &mut impl BufRead, output: &mut impl Write) -> io::Result<()> {
    const LONGEST: u64 = 256;
    let mut part = |begin: &str| {
        let mut line = Vec::new();
        input.take(LONGEST).read_until(b'\n', &mut line)?;
        let line = String::from_utf8(line).unwrap_or_default();
        let part = line.strip_prefix(begin).and_then(|line| line.strip_suffix('\n'));
        part.filter(|part| part.bytes().all(|byte| byte.is_ascii_alphanumeric()))
            .map(str::to_owned)
            .ok_or_else(|| io::Error::other("it does not begin like an osync"))
    };
    let mark = part("mark=")? + &part("mark=${mark}")?;
    write!(output, "\n{mark} 0 begin\npeer\n{mark} 0 end 100\n")?;
    output.flush()
}

/// What comes to the server.
enum Heard {
    Request(u32, Request),
    /// No more; and why, if that is not as it should be.
    End(Option<String>),
}

/// What is being worked on, for those who end it.
#[derive(Default)]
struct Current(Mutex<Work>);

#[derive(Default)]
struct Work {
    number: u32,
    stop: Stop,
    /// The last request that nobody waits for any more.
    given_up: Option<u32>,
    ended: bool,
    is_busy: bool,
}

impl Current {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Work on a request begins; what ends it early.
    fn begin(&self, number: u32) -> Stop {
        let mut work = self.lock();
        (work.number, work.stop, work.is_busy) = (number, Stop::new(), true);
        if work.ended || work.given_up.is_some_and(|given_up| given_up >= number) {
            work.stop.request(StopReason::Signal(15));
        }
        work.stop.clone()
    }

    /// The request is answered.
    fn rest(&self) {
        self.lock().is_busy = false;
    }

    /// The request that is not answered yet.
    fn working_on(&self) -> Option<u32> {
        let work = self.lock();
        work.is_busy.then_some(work.number)
    }

    fn give_up(&self, number: u32) {
        let mut work = self.lock();
        work.given_up = Some(number);
        if work.number <= number {
            work.stop.request(StopReason::Signal(15));
        }
    }

    fn end(&self) {
        let mut work = self.lock();
        work.ended = true;
        work.stop.request(StopReason::Signal(1));
    }

    fn has_ended(&self) -> bool {
        self.lock().ended
    }
}

/// Takes in what the client says, until it says no more.
fn listen(mut input: impl BufRead, queue: &SyncSender<Heard>, current: &Current) {
    let why = requests(&mut input, queue, current).err();
    current.end();
    // nobody listens any more: then nobody need know
    let _ = queue.send(Heard::End(why));
}

fn requests(
    input: &mut impl BufRead,
    queue: &SyncSender<Heard>,
    current: &Current,
) -> Result<(), String> {
    if !skip_to_start(input)? {
        return Ok(());
    }
    loop {
        let mut head = [0; 4];
        match input.read_exact(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read.map_err(|cause| format!("cannot read: {cause}"))?,
        }
        let length = protocol::length(head).map_err(|bad| bad.to_string())?;
        let mut frame = Vec::new();
        let read = input.take(length as u64).read_to_end(&mut frame);
        if read.is_err() || frame.len() < length {
            return Ok(()); // the line was cut
        }
        match protocol::decode(&frame).map_err(|bad| bad.to_string())? {
            (number, Request::GiveUp) => current.give_up(number),
            (number, request) => {
                if queue.send(Heard::Request(number, request)).is_err() {
                    return Ok(());
                }
            }
        }
    }
}

/// Passes over what is left of a script; `false`: nothing came behind it.
fn skip_to_start(input: &mut impl BufRead) -> Result<bool, String> {
    let (mut last, mut byte) = (Vec::new(), [0]);
    for _ in 0..MOST_BEFORE {
        if input.read_exact(&mut byte).is_err() {
            return Ok(false);
        }
        if last.len() == START.len() {
            last.remove(0);
        }
        last.push(byte[0]);
        if last == START {
            return Ok(true);
        }
    }
    Err("the client does not begin to speak".to_owned())
}

struct Server<'a, W: Write> {
    out: &'a Mutex<BufWriter<W>>,
    limits: &'a Limits<'a>,
    replica: Option<LocalReplica>,
    /// For the next scan.
    rules: Vec<RuleText>,
    /// The name of the file that holds the names of the last listing's blocks.
    kept: String,
    /// Owners whose names the client knows.
    told: BTreeSet<(Whose, u32)>,
}

impl<W: Write + Send> Server<'_, W> {
    fn run(mut self, requests: &Receiver<Heard>, current: &Current) -> Result<(), String> {
        loop {
            let (number, request) = match requests.recv() {
                Ok(Heard::Request(number, request)) => (number, request),
                Ok(Heard::End(Some(why))) => return Err(why),
                Ok(Heard::End(None)) | Err(_) => return Ok(()),
            };
            // INVARIANT: nothing is changed for a client that is not there any more
            if current.has_ended() {
                continue;
            }
            let stop = current.begin(number);
            if let Some(replica) = &mut self.replica {
                replica.set_stop(&stop);
            }
            let done = match self.answer(number, request, &stop) {
                Err(Failure::Told(what, trouble)) => {
                    self.say(number, &Response::Failed(what, trouble))
                }
                Err(Failure::Gone) => Err(Gone),
                Ok(()) => Ok(()),
            };
            let flushed = done.and_then(|()| self.flush());
            current.rest();
            if flushed.is_err() {
                return Ok(());
            }
        }
    }

    fn out(&self) -> MutexGuard<'_, BufWriter<W>> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, number: u32, response: &Response) -> Result<(), Gone> {
        let frame = match protocol::encode(number, response) {
            Ok(frame) => frame,
            Err(bad) => {
                let what = format!("an answer cannot be sent: {bad}");
                let failed = Response::Failed(what, Trouble::Other);
                protocol::encode(number, &failed).map_err(|_: BadFrame| Gone)?
            }
        };
        Ok(self.out().write_all(&frame)?)
    }

    fn say_all<T: Serialize + Clone>(
        &self,
        number: u32,
        list: &[T],
        response: impl Fn(Vec<T>) -> Response,
    ) -> Result<(), Failure> {
        for part in protocol::parts(list) {
            self.say(number, &response(part.to_vec()))?;
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), Gone> {
        Ok(self.out().flush()?)
    }

    fn replica(&mut self) -> Result<&mut LocalReplica, Failure> {
        Ok(self.replica.as_mut().ok_or(NOT_PREPARED)?)
    }

    fn answer(&mut self, number: u32, request: Request, stop: &Stop) -> Result<(), Failure> {
        let response = match request {
            Request::GiveUp => return Ok(()),
            Request::Prepare(prepare) => self.prepare(&prepare, stop)?,
            Request::Lock(request) => {
                locked(self.replica()?.lock_judged_by(Judge::Client(None), &request)?)
            }
            Request::LockOver(request, content) => {
                let judge = Judge::Client(Some(&content));
                locked(self.replica()?.lock_judged_by(judge, &request)?)
            }
            Request::Unlock => {
                self.replica()?.unlock()?;
                Response::Done
            }
            Request::Abilities => Response::Abilities(self.replica()?.abilities()?),
            Request::Identity => Response::Identity(self.replica()?.identity()?),
            Request::SetIdentity(identity) => {
                self.replica()?.set_identity(&identity)?;
                Response::Done
            }
            Request::Runs => Response::Runs(self.replica()?.runs()?),
            Request::SetRun(mark) => {
                self.replica()?.set_run(&mark)?;
                Response::Done
            }
            Request::Rules(rules) => {
                self.rules.extend(rules);
                Response::Done
            }
            Request::Scan(scan) => return self.scan(number, &scan),
            Request::LookBelow(paths) => return self.look_below(number, &paths),
            Request::Stat(paths) => {
                let found = self.replica()?.stat(&paths)?;
                self.tell_owners(number, found.iter().flatten().flatten())?;
                return self.say_all(number, &found, Response::Entries);
            }
            Request::Digest(kind, scanned) => {
                let found = self.replica()?.digest(kind, &scanned)?;
                return self.say_all(number, &found, Response::Digests);
            }
            Request::Attributes(paths) => {
                let found = self.replica()?.attributes(&paths)?;
                let lists = found.iter().flatten().flatten().flat_map(|a| [&a.access, &a.default]);
                let named = lists.flatten().flat_map(|list| list.named()).collect();
                self.tell_names(number, named)?;
                return self.say_all(number, &found, Response::Attributes);
            }
            Request::Apply(ops) => {
                let done = self.replica()?.apply(&ops)?;
                return self.say_all(number, &done, Response::Applied);
            }
            Request::ClosePrivatePlace => {
                self.replica()?.close_private_place()?;
                Response::Done
            }
            Request::Flush(what) => Response::Flushed(self.replica()?.flush(&what)?),
            Request::Clean(retention) => Response::Cleaned(self.replica()?.clean(retention)?),
            Request::Hook(hook) => self.hook(&hook)?,
            Request::Numbers(names) => {
                let number_of =
                    |(whose, name): &(Whose, String)| attributes::number_of(*whose, name);
                Response::Numbers(names.iter().map(number_of).collect())
            }
            Request::Watch => {
                let rules = std::mem::take(&mut self.rules);
                let root = self.replica()?.root().to_owned();
                let mut tell = |word| {
                    // a client that is gone ends it by other means
                    let _ = self.say(number, &Response::Watched(word));
                    let _ = self.flush();
                };
                (self.limits.watch)(&root, &rules, &mut tell, stop)?;
                return Err("it is not watched any more".into());
            }
            Request::Arrivals(keep) => {
                let lines = self.replica()?.arrivals(keep)?;
                self.say_all(number, &lines, Response::Arrivals)?;
                Response::Done
            }
            Request::GiveWay => {
                // as far as that can be done: it is a courtesy
                let _ = crate::process::lower_priority();
                Response::Done
            }
            Request::Wake(line) => {
                self.replica()?.wake(&line)?;
                Response::Done
            }
        };
        Ok(self.say(number, &response)?)
    }

    fn prepare(&mut self, prepare: &Prepare, stop: &Stop) -> Result<Response, Failure> {
        self.replica = None;
        let place = place_of(prepare);
        let place = (self.limits.place)(&place)?;
        if prepare.run.bytes().any(|byte| !byte.is_ascii_digit() && byte != b'.')
            || !prepare.run.starts_with(|first: char| first.is_ascii_digit())
        {
            return Err("the name of the run is not valid".into());
        }
        let mut replica = LocalReplica::new(Side::Target, &place)
            .with_stop(stop.clone())
            .with_private_name(&prepare.run);
        let prepared = replica.prepare(prepare.access)?;
        // what was opened may be another directory than the one that was looked at
        let opened = replica.opened()?;
        (self.limits.place)(&opened)?;
        let root = replica.root().as_os_str().as_bytes().to_vec();
        let has_left_overs = replica.has_left_overs();
        self.replica = Some(replica);
        let digest = blake3::hash(prepare.instance_id.as_bytes()).to_hex();
        self.kept = format!("listing.{}", &digest[..16]);
        let rsync = OsString::from_vec(prepare.rsync.clone());
        let has_rsync = process::find_program(&rsync).is_some();
        Ok(Response::Prepared(Ready { root, has_rsync, has_left_overs, prepared }))
    }

    fn scan(&mut self, number: u32, wanted: &protocol::Scan) -> Result<(), Failure> {
        if let Some(why) = self.limits.no_following.filter(|_| wanted.look.follows()) {
            return Err(why.into());
        }
        let filter = Filter::new(&std::mem::take(&mut self.rules));
        let mut replica = self.replica.take().ok_or(NOT_PREPARED)?;
        let told_at = Mutex::new(Instant::now());
        let scan = replica.scan(&ScanRequest {
            filter: &filter,
            look: wanted.look,
            seen: &|count| {
                let Ok(mut told_at) = told_at.try_lock() else { return };
                if told_at.elapsed() >= BETWEEN_WORDS {
                    // that nobody listens is noticed by the answer
                    let _ = self.say(number, &Response::Progress(count));
                    let _ = self.flush();
                    *told_at = Instant::now();
                }
            },
        });
        self.replica = Some(replica);
        let scan = scan?;
        let known = wanted.known.and_then(|name| {
            let work = self.replica.as_ref()?.open_work_dir().ok()??;
            listing::names_from_bytes(&work.read(&self.kept).ok()??, &name)
        });
        let was_known = known.is_some();
        let (whole, names) = self.tell_tree(number, &scan.tree, known.unwrap_or_default())?;
        self.say_all(number, &scan.problems, Response::Problems)?;
        self.say(number, &Response::Scanned(whole, scan.unread))?;
        self.flush()?;
        if !was_known || wanted.known != Some(whole.name) {
            self.keep(&listing::names_to_bytes(&whole.name, &names));
        }
        Ok(())
    }

    /// Keeps the names of the listing for the next run, if this one holds the lock.
    fn keep(&self, names: &[u8]) {
        let Some(replica) = self.replica.as_ref().filter(|replica| replica.is_locked()) else {
            return;
        };
        if let Ok(Some(work)) = replica.open_work_dir() {
            // without it the next listing travels whole
            let _ = work.replace(&self.kept, names, Durable::WithTheRun);
        }
    }

    /// Says a tree, but for what the client has of it.
    fn tell_tree(
        &mut self,
        number: u32,
        tree: &Tree,
        known: Vec<BlockName>,
    ) -> Result<(protocol::Whole, Vec<BlockName>), Failure> {
        let all = std::iter::once(Tree::ROOT).chain(tree.ids()).map(|id| tree.entry(id));
        self.tell_owners(number, all)?;
        let top = Response::Top(tree.standing(Tree::ROOT), tree.entry(Tree::ROOT).clone());
        self.say(number, &top)?;
        let (mut sum, mut names) = (Sum::default(), Vec::new());
        let mut known = Known::new(known);
        let (mut pieces, mut bytes) = (Vec::new(), 0);
        listing::blocks(tree, |block, entries| {
            let name = listing::name_of(block);
            sum.add(&name, entries);
            names.push(name);
            known.tell(block, &name, &mut pieces);
            if let Some(Piece::New(block)) = pieces.last() {
                bytes += block.len();
                if bytes >= FULL_FRAME {
                    bytes = 0;
                    return self.say(number, &Response::Pieces(std::mem::take(&mut pieces)));
                }
            }
            Ok(())
        })?;
        if !pieces.is_empty() {
            self.say(number, &Response::Pieces(pieces))?;
        }
        Ok((sum.whole(), names))
    }

    fn look_below(&mut self, number: u32, paths: &[RelPath]) -> Result<(), Failure> {
        for path in paths {
            let found = self.replica()?.look_below(std::slice::from_ref(path))?.pop();
            match found {
                Some(Ok(Some(tree))) => {
                    let (whole, _) = self.tell_tree(number, &tree, Vec::new())?;
                    self.say(number, &Response::Seen(whole))?;
                }
                Some(Ok(None)) => self.say(number, &Response::Nothing(None))?,
                Some(Err(why)) => self.say(number, &Response::Nothing(Some(why)))?,
                None => return Err("nothing was found out".into()),
            }
        }
        Ok(())
    }

    fn hook(&mut self, hook: &Hook) -> Result<Response, Failure> {
        if let Some(why) = self.limits.no_hooks {
            return Err(why.into());
        }
        let limit = hook.limit.map(Duration::from_millis);
        Ok(Response::Hook(self.replica()?.run_hook(&hook.command, &hook.env, limit)?))
    }

    fn tell_owners<'e>(
        &mut self,
        number: u32,
        entries: impl Iterator<Item = &'e Entry>,
    ) -> Result<(), Failure> {
        let mut found = BTreeSet::new();
        let mut last = None;
        for entry in entries {
            // neighbours mostly belong to the same
            if last.replace((entry.uid, entry.gid)) != Some((entry.uid, entry.gid)) {
                found.extend([(Whose::User, entry.uid), (Whose::Group, entry.gid)]);
            }
        }
        self.tell_names(number, found)
    }

    fn tell_names(&mut self, number: u32, whom: BTreeSet<(Whose, u32)>) -> Result<(), Failure> {
        let new = whom.into_iter().filter(|who| who.1 != 0 && !self.told.contains(who));
        let names: Vec<(Whose, u32, String)> = new
            .map(|(whose, id)| (whose, id, attributes::name_of(whose, id).unwrap_or_default()))
            .collect();
        self.told.extend(names.iter().map(|(whose, id, _)| (*whose, *id)));
        self.say_all(number, &names, Response::Names)
    }
}

fn locked(asked: Asked) -> Response {
    match asked {
        Asked::Locked(locked) => Response::Locked(locked),
        Asked::Held { content, by } => Response::Held(HeldLock { content, by }),
    }
}

/// The path of a location, from the login directory.
fn place_of(prepare: &Prepare) -> PathBuf {
    let path = Path::new(std::ffi::OsStr::from_bytes(&prepare.path));
    let here = || std::env::current_dir().unwrap_or_else(|_| "/".into());
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let home = if prepare.sudo { here() } else { home.unwrap_or_else(here) };
    home.join(path.strip_prefix("~").unwrap_or(path))
}

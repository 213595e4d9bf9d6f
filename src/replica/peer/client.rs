//! A replica behind ssh whose machine has an osync that speaks with ours.

use super::listing::{Keeper, Last};
use super::listing::{NoTree, TreeReader, holds_ours};
use super::protocol::{
    self, BadFrame, HeldLock, Hook, ListingName, Piece, Prepare, Request, Response,
};
use crate::config::RuleText;
use crate::filter::Filter;
use crate::process::{Stop, fault};
use crate::replica::attributes::{Owners, Whose};
use crate::replica::connection::{Connection, ConnectionError, OnStop, Silence, Wait};
use crate::replica::lock_policy::{Content, LockDecision, LockPlace, Process, decide};
use crate::replica::{
    Access, Arrived, Attributes, Cleaned, DigestKind, Flush, Flushed, HookResult, Keep,
    LockRequest, Op, OpResult, PathError, Prepared, REPLACED, Replica, ReplicaError, Retention,
    Scan, ScanRequest, TRIGGER, TakenLock, Trouble, WORK_DIR, Watched, in_work_dir, lock_policy,
    private_name,
};
use crate::report::Problem;
use crate::rsync::End;
use crate::state::{Identity, IdentityFound, RunMark};
use crate::tree::{Abilities, Entry, NodeId, RelPath, Side, Tree};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// So many requests of one list may be under way: the next is on its way while one is worked on.
const AT_ONCE: usize = 4;
/// Whoever tells more often than this how far it is does not mean to come to an end.
const MOST_WORDS: u32 = 100_000;

/// What is known of the replica before it is asked.
pub(in crate::replica) struct PeerSettings {
    pub side: Side,
    /// For people.
    pub location: String,
    /// The path in the location.
    pub path: Vec<u8>,
    /// Whether the other osync runs through sudo.
    pub sudo: bool,
    /// The rsync over there.
    pub rsync: Vec<u8>,
    pub instance_id: String,
    /// The end of an rsync call; its root is set by [`Replica::prepare`].
    pub end: End,
    /// Where the last listing lies.
    pub kept_in: Option<PathBuf>,
}

/// One side of a task, by the osync over there.
pub(in crate::replica) struct PeerReplica {
    settings: PeerSettings,
    root: PathBuf,
    line: Connection,
    /// The number of the last request.
    number: u32,
    owners: Owners,
    read_only: bool,
    locked: bool,
    /// What the scan was asked for, with its rules.
    scanned: Option<(protocol::Scan, Vec<RuleText>)>,
    /// The name of this run's private place.
    run: String,
    has_left_overs: bool,
}

/// Takes what an answer of one kind holds.
macro_rules! answer {
    ($kind:ident) => {
        |response| match response {
            Response::$kind(answer) => Some(answer),
            _ => None,
        }
    };
}

impl std::fmt::Debug for PeerReplica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerReplica").field("root", &self.root).finish_non_exhaustive()
    }
}

impl PeerReplica {
    /// Speaks over a connection on whose other end an osync of this version listens.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn new(settings: PeerSettings, mut line: Connection) -> Result<Self, ReplicaError> {
        line.speaks_to("osync");
        line.expects_signs_of_life(Some(Silence::Minute));
        let started = line.send(protocol::START);
        let root = PathBuf::from(OsString::from_vec(settings.path.clone()));
        let replica = PeerReplica {
            settings,
            root,
            line,
            number: 0,
            owners: Owners::default(),
            read_only: true,
            locked: false,
            scanned: None,
            run: private_name(),
            has_left_overs: false,
        };
        started.map_err(|cause| replica.error(cause.to_string()))?;
        Ok(replica)
    }

    /// Bytes that went over the control connection so far: out and back.
    pub fn travelled(&self) -> (u64, u64) {
        self.line.travelled
    }

    fn error(&self, what: impl Into<String>) -> ReplicaError {
        ReplicaError {
            side: self.settings.side,
            location: self.settings.location.clone(),
            what: what.into(),
            trouble: Trouble::Other,
        }
    }

    /// The other side says what ours never would.
    fn nonsense(&mut self, what: &str) -> ReplicaError {
        let error = self.line.given_up(&format!("answers with nonsense: {what}"));
        self.error(error.to_string())
    }

    fn answers_another_question(&mut self) -> ReplicaError {
        self.nonsense("an answer to another question")
    }

    fn send(&mut self, request: &Request) -> Result<u32, ReplicaError> {
        self.number = self.number.wrapping_add(1);
        let frame = protocol::encode(self.number, request)
            .map_err(|bad: BadFrame| self.error(format!("cannot ask the other osync: {bad}")))?;
        fault::point("asking");
        self.line.send(&frame).map_err(|cause| self.error(cause.to_string()))?;
        fault::point("asked");
        Ok(self.number)
    }

    /// The next response to request `number`; what it says beside that is taken in.
    fn hear(
        &mut self,
        number: u32,
        wait: &mut Wait,
        seen: &dyn Fn(u64),
    ) -> Result<Response, ReplicaError> {
        for _ in 0..MOST_WORDS {
            let (of, response) = self.frame(wait)?;
            match response {
                // the answer to a request that was given up
                _ if of != number && of.wrapping_sub(number) > u32::MAX / 2 => {}
                _ if of != number => return Err(self.nonsense("an answer to no question")),
                Response::Progress(count) => seen(count),
                Response::Alive => {}
                Response::Names(names) => {
                    for (whose, number, name) in names {
                        self.owners.learn_name(whose, number, &name);
                    }
                }
                Response::Failed(what, trouble) => {
                    return Err(ReplicaError { trouble, ..self.error(what) });
                }
                response => return Ok(response),
            }
        }
        Err(self.nonsense("it never comes to an end"))
    }

    fn frame(&mut self, wait: &mut Wait) -> Result<(u32, Response), ReplicaError> {
        let mut read = |line: &mut Connection, count| match line.exactly(count, wait) {
            Err(ConnectionError::Stopped(reason)) => {
                // it need not go on with what nobody waits for
                if let Ok(frame) = protocol::encode(self.number, &Request::GiveUp) {
                    let _ = line.send(&frame);
                }
                Err(ConnectionError::Stopped(reason))
            }
            read => read,
        };
        let lost = |cause: ConnectionError| ReplicaError {
            side: self.settings.side,
            location: self.settings.location.clone(),
            what: cause.to_string(),
            trouble: Trouble::Other,
        };
        let head = read(&mut self.line, 4).map_err(lost)?;
        let head = head.first_chunk().copied().unwrap_or([0xff; 4]);
        let frame = match protocol::length(head) {
            Ok(length) => read(&mut self.line, length).map_err(lost)?,
            Err(bad) => return Err(self.nonsense(&bad.to_string())),
        };
        protocol::decode(&frame).map_err(|bad| self.nonsense(&bad.to_string()))
    }

    /// One request and its answer.
    fn ask(&mut self, request: &Request, on_stop: OnStop) -> Result<Response, ReplicaError> {
        let number = self.send(request)?;
        let mut wait = self.line.patience(on_stop);
        let response = self.hear(number, &mut wait, &|_| ())?;
        fault::point("answered");
        Ok(response)
    }

    /// A long list in parts; the answers in the order of the list.
    fn ask_all<T: Serialize + Clone, R>(
        &mut self,
        list: &[T],
        on_stop: OnStop,
        request: impl Fn(Vec<T>) -> Request,
        answer: impl Fn(Response) -> Option<Vec<R>>,
    ) -> Result<Vec<R>, ReplicaError> {
        let mut wait = self.line.patience(on_stop);
        let mut results = Vec::with_capacity(list.len());
        let mut under_way: VecDeque<(u32, usize)> = VecDeque::new();
        let mut parts = protocol::parts(list);
        loop {
            while under_way.len() < AT_ONCE
                && let Some(part) = parts.next()
            {
                under_way.push_back((self.send(&request(part.to_vec()))?, part.len()));
            }
            let Some((number, mut missing)) = under_way.pop_front() else { break };
            while missing > 0 {
                let response = self.hear(number, &mut wait, &|_| ())?;
                match answer(response) {
                    Some(some) if !some.is_empty() && some.len() <= missing => {
                        missing -= some.len();
                        results.extend(some);
                    }
                    _ => return Err(self.answers_another_question()),
                }
            }
            fault::point("answered");
        }
        Ok(results)
    }

    /// One request and its answer, of the kind that this request has.
    fn ask_for<R>(
        &mut self,
        request: &Request,
        on_stop: OnStop,
        answer: impl FnOnce(Response) -> Option<R>,
    ) -> Result<R, ReplicaError> {
        let response = self.ask(request, on_stop)?;
        answer(response).ok_or_else(|| self.answers_another_question())
    }

    fn done(&mut self, request: &Request) -> Result<(), ReplicaError> {
        self.ask_for(request, OnStop::Finish, |response| (response == Response::Done).then_some(()))
    }

    /// Where our copy of the last listing is.
    fn kept(&self) -> Option<PathBuf> {
        let dir = self.settings.kept_in.as_ref()?;
        Some(dir.join(format!("listing-{}.peer", self.settings.instance_id)))
    }

    fn scan_with(
        &mut self,
        scan: protocol::Scan,
        rules: &[RuleText],
        last: Option<Last>,
        seen: &dyn Fn(u64),
    ) -> Result<Result<Scan, NoTree>, ReplicaError> {
        for part in protocol::parts(rules) {
            self.done(&Request::Rules(part.to_vec()))?;
        }
        let known: Option<ListingName> = last.as_ref().map(Last::name);
        let path = self.kept().filter(|_| !self.read_only);
        let mut keeper = Keeper::new(last, path);
        let number = self.send(&Request::Scan(protocol::Scan { known, ..scan }))?;
        let mut wait = self.line.patience(OnStop::GiveUp);
        let mut problems: Vec<Problem> = Vec::new();
        let mut tree = match self.hear(number, &mut wait, seen)? {
            Response::Top(standing, top) => TreeReader::new(standing, top),
            _ => return Err(self.answers_another_question()),
        };
        let (whole, unread) = loop {
            match self.hear(number, &mut wait, seen)? {
                Response::Pieces(pieces) => {
                    if let Err(no_tree) = read(pieces, &mut keeper, &mut tree) {
                        // what still comes of it is passed over
                        return Ok(Err(no_tree));
                    }
                    seen(tree.entries());
                }
                Response::Problems(some) => problems.extend(some),
                Response::Scanned(whole, unread) => break (whole, unread),
                _ => return Err(self.answers_another_question()),
            }
        };
        fault::point("answered");
        let tree = match tree.finish(&whole) {
            Ok(tree) => tree,
            Err(no_tree) => return Ok(Err(no_tree)),
        };
        if holds_ours(&tree, &[WORK_DIR, TRIGGER]) {
            return Err(self.nonsense("it lists its own work directory"));
        }
        keeper.keep(&whole.name);
        for problem in &mut problems {
            problem.side = Some(self.settings.side);
        }
        Ok(Ok(Scan { tree, problems, unread }))
    }

    /// Puts this machine's numbers for owners into a tree.
    fn translate(&self, tree: &mut Tree) {
        if self.owners.are_the_same() {
            return;
        }
        self.owners.translate(tree.entry_mut(Tree::ROOT));
        for id in tree.ids() {
            self.owners.translate(tree.entry_mut(id));
        }
    }

    /// Digests of lists hold numbers of users, and those of the other machine say nothing
    /// here. Each list is asked for once, wherever it was found.
    fn translate_lists(&mut self, tree: &mut Tree) -> Result<(), ReplicaError> {
        let mut places: BTreeMap<[u8; 16], NodeId> = BTreeMap::new();
        let all = || std::iter::once(Tree::ROOT).chain(tree.ids());
        for id in all() {
            if let Some(list) = tree.entry(id).extra().acl {
                places.entry(list).or_insert(id);
            }
        }
        if places.is_empty() {
            return Ok(());
        }
        let paths: Vec<RelPath> = places.values().map(|id| tree.path(*id)).collect();
        let found = self.attributes(&paths)?;
        let mut here: BTreeMap<[u8; 16], Option<[u8; 16]>> = BTreeMap::new();
        for ((there, id), found) in places.into_iter().zip(found) {
            // one that is gone or cannot be read now is another one for us
            let Ok(Some(attributes)) = found else { continue };
            let mut entry = Entry::new(tree.entry(id).kind);
            attributes.digest_into(&mut entry);
            here.insert(there, entry.extra().acl);
        }
        let ids: Vec<NodeId> = all().collect();
        for id in ids {
            let entry = tree.entry_mut(id);
            if let Some(there) = entry.extra().acl
                && let Some(list) = here.get(&there)
            {
                let mut extra = entry.extra().clone();
                extra.acl = *list;
                entry.set_extra(extra);
            }
        }
        Ok(())
    }

    /// The other machine's numbers of all whom these operations name.
    fn learn_numbers(&mut self, ops: &[Op]) -> Result<(), ReplicaError> {
        let ids: BTreeSet<(Whose, u32)> = ops.iter().flat_map(owners_in).collect();
        let asked = self.owners.names_to_ask(ids);
        let names: Vec<(Whose, String)> =
            asked.iter().map(|((whose, _), name)| (*whose, name.clone())).collect();
        let numbers = self.ask_all(&names, OnStop::Finish, Request::Numbers, answer!(Numbers))?;
        for ((who, _), number) in asked.into_iter().zip(numbers) {
            self.owners.learn_there(who, number);
        }
        Ok(())
    }

    /// An operation in the other machine's numbers.
    fn there(&self, op: &Op) -> Op {
        let mut op = op.clone();
        match &mut op {
            Op::SetMetadata { uid, gid, .. } => {
                *uid = uid.map(|id| self.owners.number_there(Whose::User, id));
                *gid = gid.map(|id| self.owners.number_there(Whose::Group, id));
            }
            Op::SetAttributes { change, .. } => {
                for list in [&mut change.access, &mut change.default] {
                    let there = |whom| self.owners.whom_there(whom);
                    *list = list.take().map(|list| list.renumbered(there));
                }
            }
            _ => {}
        }
        op
    }

    /// A lock over there whose process may be one of this machine.
    fn decide_here(&self, held: &HeldLock, request: &LockRequest) -> LockDecision {
        let found = held.read(&request.instance_id);
        let process = match &found.content {
            // our own number, but we hold no lock: its process is long gone
            Content::Of(holder) if holder.pid == std::process::id() => Process::Gone,
            Content::Of(holder) => lock_policy::process(holder.pid),
            Content::Empty | Content::Malformed(_) => Process::Gone,
        };
        decide(&found, process, &lock_policy::origin(), LockPlace::Remote, request)
    }

    fn take_lock(&mut self, request: &LockRequest) -> Result<TakenLock, ReplicaError> {
        let mut ask = Request::Lock(request.clone());
        let mut judged = None;
        // another try is needed only if somebody else takes over the same dead lock
        for _ in 0..5 {
            match self.ask(&ask, OnStop::Finish)? {
                Response::Locked(locked) => {
                    self.locked = true;
                    let how = judged.unwrap_or(locked.how);
                    return Ok(TakenLock { how, ..locked });
                }
                Response::Held(held) => {
                    let (why, trouble) = match self.decide_here(&held, request) {
                        LockDecision::TakeOver(locked) => {
                            judged = Some(locked);
                            ask = Request::LockOver(request.clone(), held.content);
                            continue;
                        }
                        LockDecision::Stop(why) => (why, Trouble::Other),
                        LockDecision::Busy(why) => (why, Trouble::Locked),
                    };
                    let lock = self.root.join(".osync_workdir/lock");
                    let text = format!("{why} ({})", lock.display());
                    return Err(ReplicaError { trouble, ..self.error(text) });
                }
                _ => return Err(self.answers_another_question()),
            }
        }
        Err(self.error("other runs keep taking its lock at the same moment"))
    }
}

fn read(pieces: Vec<Piece>, keeper: &mut Keeper, tree: &mut TreeReader) -> Result<(), NoTree> {
    pieces.into_iter().try_for_each(|piece| keeper.take(piece, &mut |block| tree.take(block)))
}

/// All users and groups that an operation gives something to.
fn owners_in(op: &Op) -> Vec<(Whose, u32)> {
    match op {
        Op::SetMetadata { uid, gid, .. } => {
            let user = uid.map(|id| (Whose::User, id));
            user.into_iter().chain(gid.map(|id| (Whose::Group, id))).collect()
        }
        Op::SetAttributes { change, .. } => {
            let lists = [&change.access, &change.default];
            lists.into_iter().flatten().flat_map(|list| list.named()).collect()
        }
        _ => Vec::new(),
    }
}

impl Replica for PeerReplica {
    fn side(&self) -> Side {
        self.settings.side
    }

    fn location(&self) -> String {
        self.settings.location.clone()
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn rsync_end(&self) -> End {
        match &self.settings.end {
            End::Remote(end) => {
                let mut end = end.clone();
                end.root.clone_from(&self.root);
                End::Remote(end)
            }
            End::Local { .. } => End::Local { root: self.root.clone() },
        }
    }

    fn keep_listing_in(&mut self, dir: &Path) {
        self.settings.kept_in = Some(dir.to_owned());
    }

    fn refresh_listing(&mut self) {
        let Some((wanted, rules)) = self.scanned.take() else { return };
        if self.read_only {
            return;
        }
        // a first run had no place for the listing of its scan yet
        let last = self.kept().and_then(|path| Last::open(&path));
        // whatever becomes of it: the run is over, and the next one looks for itself
        let _ = self.scan_with(wanted, &rules, last, &|_| ());
    }

    fn prepare(&mut self, access: Access) -> Result<Prepared, ReplicaError> {
        self.read_only = access == Access::ReadOnly;
        let request = Request::Prepare(Prepare {
            path: self.settings.path.clone(),
            sudo: self.settings.sudo,
            access,
            rsync: self.settings.rsync.clone(),
            instance_id: self.settings.instance_id.clone(),
            run: self.run.clone(),
        });
        let ready = self.ask_for(&request, OnStop::GiveUp, answer!(Prepared))?;
        self.has_left_overs = ready.has_left_overs;
        if !ready.root.starts_with(b"/") {
            return Err(self.nonsense("its root is no absolute path"));
        }
        if !ready.has_rsync {
            return Err(self.error(format!(
                "there is no {} on the host: install rsync there, or set RSYNC_REMOTE_PATH to \
                 the directory that holds it",
                String::from_utf8_lossy(&self.settings.rsync)
            )));
        }
        self.root = OsString::from_vec(ready.root).into();
        Ok(ready.prepared)
    }

    fn lock(&mut self, request: &LockRequest) -> Result<TakenLock, ReplicaError> {
        self.take_lock(request)
    }

    fn unlock(&mut self) -> Result<(), ReplicaError> {
        // one whose connection is gone has given back its lock itself
        if !std::mem::take(&mut self.locked) || !self.line.is_open() {
            return Ok(());
        }
        self.done(&Request::Unlock)
    }

    fn abilities(&mut self) -> Result<Abilities, ReplicaError> {
        self.ask_for(&Request::Abilities, OnStop::GiveUp, answer!(Abilities))
    }

    fn identity(&mut self) -> Result<IdentityFound, ReplicaError> {
        self.ask_for(&Request::Identity, OnStop::GiveUp, answer!(Identity))
    }

    fn runs(&mut self) -> Result<Vec<RunMark>, ReplicaError> {
        self.ask_for(&Request::Runs, OnStop::GiveUp, answer!(Runs))
    }

    fn set_run(&mut self, mark: &RunMark) -> Result<(), ReplicaError> {
        self.done(&Request::SetRun(mark.clone()))
    }

    fn set_identity(&mut self, identity: &Identity) -> Result<(), ReplicaError> {
        self.done(&Request::SetIdentity(identity.clone()))
    }

    fn scan(&mut self, request: &ScanRequest<'_>) -> Result<Scan, ReplicaError> {
        let wanted = protocol::Scan { look: request.look, known: None };
        let rules = request.filter.rule_texts();
        let seen = |count| (request.seen)(count);
        let last = self.kept().and_then(|path| Last::open(&path));
        let had_last = last.is_some();
        let mut scan = self.scan_with(wanted, &rules, last, &seen)?;
        if scan.is_err() && had_last {
            // our copy is not what it was: everything has to come
            scan = self.scan_with(wanted, &rules, None, &seen)?;
        }
        self.scanned = Some((wanted, rules));
        let mut scan = scan
            .map_err(|no_tree| self.nonsense(&format!("its listing makes no tree: {no_tree}")))?;
        self.translate(&mut scan.tree);
        if request.look.attributes.acl {
            self.translate_lists(&mut scan.tree)?;
        }
        (request.seen)(scan.tree.len() as u64);
        Ok(scan)
    }

    fn look_below(
        &mut self,
        paths: &[RelPath],
    ) -> Result<Vec<Result<Option<Tree>, PathError>>, ReplicaError> {
        let mut wait = self.line.patience(OnStop::Finish);
        let mut found = Vec::with_capacity(paths.len());
        for part in protocol::parts(paths) {
            let number = self.send(&Request::LookBelow(part.to_vec()))?;
            for _ in part {
                let mut tree = match self.hear(number, &mut wait, &|_| ())? {
                    Response::Nothing(why) => {
                        found.push(why.map_or(Ok(None), Err));
                        continue;
                    }
                    Response::Top(standing, top) => TreeReader::new(standing, top),
                    _ => return Err(self.answers_another_question()),
                };
                let mut keeper = Keeper::new(None, None);
                let whole = loop {
                    let read = match self.hear(number, &mut wait, &|_| ())? {
                        Response::Pieces(pieces) => read(pieces, &mut keeper, &mut tree),
                        Response::Seen(whole) => break whole,
                        _ => return Err(self.answers_another_question()),
                    };
                    read.map_err(|no_tree| self.nonsense(&no_tree.to_string()))?;
                };
                let mut tree =
                    tree.finish(&whole).map_err(|no_tree| self.nonsense(&no_tree.to_string()))?;
                self.translate(&mut tree);
                found.push(Ok(Some(tree)));
            }
            fault::point("answered");
        }
        Ok(found)
    }

    fn stat(
        &mut self,
        paths: &[RelPath],
    ) -> Result<Vec<Result<Option<Entry>, PathError>>, ReplicaError> {
        let mut found = self.ask_all(paths, OnStop::Finish, Request::Stat, answer!(Entries))?;
        for entry in found.iter_mut().flatten().flatten() {
            self.owners.translate(entry);
        }
        Ok(found)
    }

    fn digest(
        &mut self,
        kind: DigestKind,
        scanned: &[(RelPath, Entry)],
    ) -> Result<Vec<Result<[u8; 32], PathError>>, ReplicaError> {
        let request = |scanned| Request::Digest(kind, scanned);
        self.ask_all(scanned, OnStop::GiveUp, request, answer!(Digests))
    }

    fn lower_priority(&mut self) -> Result<(), ReplicaError> {
        self.done(&Request::GiveWay)
    }

    fn attributes(
        &mut self,
        paths: &[RelPath],
    ) -> Result<Vec<Result<Option<Attributes>, PathError>>, ReplicaError> {
        let mut found =
            self.ask_all(paths, OnStop::Finish, Request::Attributes, answer!(Attributes))?;
        for attributes in found.iter_mut().flatten().flatten() {
            for list in [&mut attributes.access, &mut attributes.default] {
                let here = |whom| self.owners.whom_here(whom);
                *list = list.take().map(|list| list.renumbered(here));
            }
        }
        Ok(found)
    }

    fn apply(&mut self, ops: &[Op]) -> Result<Vec<Result<OpResult, PathError>>, ReplicaError> {
        self.learn_numbers(ops)?;
        let ops: Vec<Op> = ops.iter().map(|op| self.there(op)).collect();
        self.ask_all(&ops, OnStop::Finish, Request::Apply, answer!(Applied))
    }

    fn private_place(&self) -> RelPath {
        in_work_dir(REPLACED, &RelPath::root().join(self.run.as_bytes()))
    }

    fn has_left_overs(&mut self) -> bool {
        self.has_left_overs
    }

    fn close_private_place(&mut self) -> Result<(), ReplicaError> {
        self.done(&Request::ClosePrivatePlace)
    }

    fn flush(&mut self, what: &Flush) -> Result<Flushed, ReplicaError> {
        // the file systems come first: those of the paths are flushed by then, or with them
        let file_systems = what.file_systems.clone();
        let paths = what.paths.as_ref().map(|_| Vec::new());
        let mut all = vec![Flush { paths, file_systems }];
        for part in what.paths.iter().flat_map(|paths| protocol::parts(paths)) {
            all.push(Flush { paths: Some(part.to_vec()), file_systems: Vec::new() });
        }
        let mut flushed = Flushed::Yes;
        for part in all {
            let done = self.ask_for(&Request::Flush(part), OnStop::Finish, answer!(Flushed))?;
            if done == Flushed::NoTool {
                flushed = done;
            }
        }
        Ok(flushed)
    }

    fn clean(&mut self, retention: Retention) -> Result<Cleaned, ReplicaError> {
        self.ask_for(&Request::Clean(retention), OnStop::GiveUp, answer!(Cleaned))
    }

    fn arrivals(&mut self, keep: Keep) -> Result<Vec<Arrived>, ReplicaError> {
        let mut wait = self.line.patience(OnStop::Finish);
        let number = self.send(&Request::Arrivals(keep))?;
        let mut lines = Vec::new();
        loop {
            match self.hear(number, &mut wait, &|_| ())? {
                Response::Arrivals(part) => lines.extend(part),
                Response::Done => return Ok(lines),
                _ => return Err(self.answers_another_question()),
            }
        }
    }

    fn wake(&mut self, line: &str) -> Result<(), ReplicaError> {
        self.done(&Request::Wake(line.to_owned()))
    }

    fn watch(
        &mut self,
        filter: &Filter,
        tell: &mut dyn FnMut(Watched),
    ) -> Result<(), ReplicaError> {
        for part in protocol::parts(&filter.rule_texts()) {
            self.done(&Request::Rules(part.to_vec()))?;
        }
        let number = self.send(&Request::Watch)?;
        let mut wait = self.line.patience(OnStop::GiveUp);
        loop {
            match self.hear(number, &mut wait, &|_| ())? {
                Response::Watched(word) => tell(word),
                _ => return Err(self.answers_another_question()),
            }
        }
    }

    fn set_stop(&mut self, stop: &Stop) {
        self.line.set_stop(stop);
    }

    fn run_hook(
        &mut self,
        command: &str,
        env: &[(String, String)],
        limit: Option<Duration>,
    ) -> Result<HookResult, ReplicaError> {
        let limit = limit.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        let request = Request::Hook(Hook { command: command.to_owned(), env: env.to_vec(), limit });
        self.ask_for(&request, OnStop::GiveUp, answer!(Hook))
    }
}

impl Drop for PeerReplica {
    fn drop(&mut self) {
        // the other osync gives back its lock when its input ends
        self.line.close();
    }
}

//! What a run looks at before it decides: both trees, the identities, and what an interrupted run
//! left behind: rsync's temporary files (spec 4, "Interruption"), and what it had replaced or
//! removed and not yet put anywhere (spec 8, "Kept versions").

use super::apply::versions::same_files;
use super::closing::Halt;
use super::{BATCH, Role, Task};
use crate::config::{Config, Preserve};
use crate::filter::Filter;
use crate::process::fault;
use crate::reconcile::guard::{self, Runs};
use crate::reconcile::{Writes, mounts};
use crate::replica::temp::{self, Suffix};
use crate::replica::{
    Agent, Fate, Keep, Keeping, LookRules, Op, REPLACED, Replica, ReplicaError, Scan, ScanRequest,
    Unread, WORK_DIR, Wanted, kept_path, lock_policy, new_identity,
};
use crate::report::words::counted;
use crate::report::{Event, Level};
use crate::state::journal::Journal;
use crate::state::{
    Baseline, Identity, IdentityFound, Inflight, InflightNote, InflightPath, Origin, Part, RunMark,
    StateStore, identity,
};
use crate::tree::{Abilities, Entry, Kind, NodeId, Pair, RelPath, Side, Standing, Tree};
use crate::{rsync, threads};
use std::collections::BTreeMap;
use std::thread::ScopedJoinHandle;

/// Why a target of a star takes no part.
pub(super) fn same_as(other: &str) -> String {
    format!(
        "it is the same replica as {other}, or a copy of it with its work directory. Remove it from \
         the list, or, if it is a copy, the file .osync_workdir/identity in it"
    )
}

/// What a run by these settings looks at.
pub(super) fn scan_request<'a>(
    config: &Config,
    filter: &'a Filter,
    attributes: Wanted,
    seen: &'a (dyn Fn(u64) + Sync),
) -> ScanRequest<'a> {
    let Preserve { copy_symlinks, keep_dirlinks, .. } = config.preserve;
    ScanRequest { filter, look: LookRules { copy_symlinks, keep_dirlinks, attributes }, seen }
}

/// A scan of the target.
enum Looked<'s> {
    /// It was made before.
    Before(Result<Scan, ReplicaError>),
    /// It is under way.
    Now(ScopedJoinHandle<'s, Result<Scan, ReplicaError>>),
}

impl Looked<'_> {
    fn wait(self) -> std::thread::Result<Result<Scan, ReplicaError>> {
        match self {
            Looked::Before(scan) => Ok(scan),
            Looked::Now(thread) => thread.join(),
        }
    }
}

/// Which ACLs and extended attributes are compared.
pub(super) fn wanted_attributes(preserve: &Preserve, can_chown: &Pair<bool>) -> Wanted {
    Wanted {
        acl: preserve.acl,
        xattr: preserve.xattr,
        all_spaces: can_chown.initiator && can_chown.target,
    }
}

impl Task<'_> {
    /// Scans both replicas at the same time, once.
    pub(super) fn scan(&mut self) -> Result<Pair<Tree>, Halt> {
        let filter = Filter::new(&self.config.selection.rules);
        self.tell_of_rules(&filter)?;
        let reporter = self.around.reporter();
        let attributes = wanted_attributes(&self.config.preserve, &self.can_chown);
        let look = |replica: &mut Box<dyn Replica>| -> Result<Scan, ReplicaError> {
            let side = replica.side();
            let seen = move |count: u64| reporter.tell(Event::Scanning(side, count));
            replica.scan(&scan_request(self.config, &filter, attributes, &seen))
        };
        let hub = self.lent.hub.take().filter(|(read, _)| *read == attributes);
        let ahead = self.lent.ahead.scan(attributes);
        let Pair { initiator, target } = self.replicas.as_mut();
        let (initiator, target) = std::thread::scope(|scope| {
            let other = match ahead {
                Some(scan) => Ok(Looked::Before(scan)),
                None => threads::start(scope, || look(target)).map(Looked::Now),
            };
            let initiator = match hub {
                Some((_, scan)) => Ok(scan),
                None => look(initiator),
            };
            (initiator, other.map(Looked::wait))
        });
        reporter.tell(Event::Quiet);
        self.check_stop()?;
        let no_thread =
            |error| Halt::fatal(format!("cannot start a thread to look at the target: {error}"));
        let broke_off = |_| Halt::fatal("the scan of the target broke off");
        let target = target.map_err(no_thread)?.map_err(broke_off)?;
        // A scan that was stopped is no scan that failed.
        self.check_stop()?;
        let scans = Pair::new(initiator?, target?);
        for (_, scan) in scans.iter() {
            for problem in &scan.problems {
                reporter.tell(Event::Problem(problem));
            }
        }
        if self.role == Role::Turn {
            self.lent.hub = Some((attributes, scans.initiator.clone()));
        }
        self.unread = Pair::from_fn(|side: Side| scans[side].unread);
        self.tell_unread_attributes();
        let mut trees = scans.map(|scan| scan.tree);
        if !self.config.selection.listing_args.is_empty() {
            for side in Side::BOTH {
                self.hide_what_rsync_hides(&filter, &mut trees[side], side)?;
            }
        }
        Ok(trees)
    }

    /// A machine without the tools for ACLs or extended attributes, or one where osync knows none:
    /// a warning in the run that meets it first, later a notice.
    fn tell_unread_attributes(&mut self) {
        for side in Side::BOTH {
            let Unread { acl, xattr } = self.unread[side];
            let tools = match (acl, xattr) {
                (false, false) => continue,
                (true, false) => "getfacl and setfacl (package acl)",
                (false, true) => "getfattr and setfattr (package attr)",
                (true, true) => {
                    "getfacl and setfacl (package acl) and no getfattr and setfattr (package attr)"
                }
            };
            let keys = match (acl, xattr) {
                (true, true) => "PRESERVE_ACL, PRESERVE_XATTR",
                (true, false) => "PRESERVE_ACL",
                (false, _) => "PRESERVE_XATTR",
            };
            let agent = self.lent.prepared[side].as_ref().map(|prepared| prepared.agent);
            let (lack, remedy) = match agent {
                Some(Agent::Here | Agent::Osync) => {
                    ("osync reads and sets these on Linux only".to_owned(), "")
                }
                _ => (
                    format!("that machine has no {tools}"),
                    ". Install them there, or osync itself",
                ),
            };
            let text = format!(
                "{keys}: {lack}. A change of nothing else is not seen; with contents they go over\
                 {remedy}"
            );
            if self.file_systems.told_unread(side) {
                self.say(Level::Notice, &format!("{side}: {text}"));
            } else {
                self.around.reporter().problem(Level::Warn, Some(side), None, &text);
            }
        }
    }

    /// RSYNC_OPTIONAL_ARGS that change what rsync lists: the visible set is what rsync
    /// itself lists with the rules of the keys and, behind them, those (spec 4, "Scanning").
    fn hide_what_rsync_hides(
        &self,
        filter: &Filter,
        tree: &mut Tree,
        side: Side,
    ) -> Result<(), Halt> {
        let end = self.replicas[side].rsync_end();
        let args = &self.config.selection.listing_args;
        let (transfer, stop) = (&self.config.transfer, self.around.stop);
        let visible = rsync::visible(transfer, filter.rsync_args(), args, &end, stop);
        self.check_stop()?;
        let visible = visible.map_err(|error| Halt::state(&error))?;
        let hidden: Vec<_> = tree
            .ids()
            .filter(|id| tree.standing(*id) == Standing::Present)
            .filter(|id| !visible.contains(&tree.path(*id)))
            .collect();
        for id in hidden {
            tree.exclude(id);
        }
        if rsync::options::stays_on_one_file_system(args) {
            // rsync lists a mount point, and nothing in it; what is beneath was not deleted.
            let device = tree.entry(Tree::ROOT).dev;
            let other = |id: &NodeId| tree.entry(*id).dev != device;
            let mounts: Vec<NodeId> = tree.mount_points().iter().copied().filter(other).collect();
            for id in mounts {
                tree.exclude(id);
            }
        }
        Ok(())
    }

    fn tell_of_rules(&self, filter: &Filter) -> Result<(), Halt> {
        let mut fatal = None;
        for problem in filter.problems() {
            if problem.is_error() {
                fatal.get_or_insert_with(|| problem.to_string());
            } else {
                self.around.reporter().problem(Level::Warn, None, None, &problem.to_string());
            }
        }
        fatal.map_or(Ok(()), |what| Err(Halt::fatal(what)))
    }

    /// The guards against strangers and old copies, and identities for replicas that have none yet.
    /// Without a baseline to compare with (`--initialize`) the replicas are taken as they are.
    pub(super) fn identities(
        &mut self,
        store: &StateStore,
        trees: &Pair<Tree>,
        baseline: Option<&Baseline>,
    ) -> Result<Pair<Option<Identity>>, Halt> {
        let mut found = Pair::default();
        for side in Side::BOTH {
            let ahead = if side == Side::Target { self.lent.ahead.identity.take() } else { None };
            let identity = match ahead {
                Some(identity) => identity,
                None => self.replicas[side].identity()?,
            };
            found[side] = match identity {
                IdentityFound::Known(identity) => Some(identity),
                IdentityFound::Missing => None,
                IdentityFound::Torn => self.mend_identity(trees, baseline, side)?,
            };
        }
        let is_theirs = |(other, _): &&(Identity, String)| found.target.as_ref() == Some(other);
        if let Some((_, name)) = self.lent.others.iter().find(is_theirs) {
            return Err(Halt::Fatal { side: Some(Side::Target), what: same_as(name) });
        }
        if let Some(baseline) = baseline
            && let Some(danger) = guard::stranger(&baseline.header().identities, &found)
        {
            return Err(Halt::Danger(danger));
        }
        let runs = self.runs(store, &found, baseline)?;
        if let Some(danger) = baseline.and_then(|_| guard::out_of_time(&runs)) {
            return Err(Halt::Danger(danger));
        }
        let numbers = [
            runs.last_recorded,
            runs.highest_given,
            runs.last_on_side.initiator,
            runs.last_on_side.target,
        ];
        self.last_run = numbers.into_iter().flatten().max().unwrap_or(0);
        if self.is_dry() {
            return Ok(found);
        }
        if found.initiator.is_some() && found.agree() {
            // A replica that began as a copy of the other, work directory included.
            found.target = None;
        }
        let is_new = found.as_ref().map(Option::is_none);
        for side in Side::BOTH {
            if is_new[side] {
                let identity = new_identity().map_err(|error| {
                    Halt::fatal(format!("cannot make an identity for the {side} replica: {error}"))
                })?;
                self.replicas[side].set_identity(&identity)?;
                found[side] = Some(identity);
            }
        }
        self.lent.identity.clone_from(&found.target);
        if is_new.target {
            self.two_places(&found)?;
        }
        Ok(found)
    }

    /// A target that gets an identity may be the initiator itself, reached by another way: then the
    /// initiator has that identity now.
    fn two_places(&mut self, found: &Pair<Option<Identity>>) -> Result<(), Halt> {
        let now = self.replicas.initiator.identity()?;
        if now.known() != found.target.as_ref() {
            return Ok(());
        }
        if let Some(before) = &found.initiator {
            self.replicas.initiator.set_identity(before)?;
        }
        let what = "it is the initiator itself, reached by another way; nothing can be synchronised \
                    that way";
        Err(Halt::Fatal { side: Some(Side::Target), what: what.to_owned() })
    }

    /// An identity file without an identity, as a power cut leaves it. If the replica is known
    /// all the same, it gets back what it had.
    fn mend_identity(
        &mut self,
        trees: &Pair<Tree>,
        baseline: Option<&Baseline>,
        side: Side,
    ) -> Result<Option<Identity>, Halt> {
        let Some(baseline) = baseline else { return Ok(None) };
        let header = baseline.header();
        let Some(known) = header.identities[side].clone() else { return Ok(None) };
        if !mounts::is_recognised(trees, baseline, side).map_err(|e| Halt::state(&e))? {
            return Ok(None);
        }
        let text = format!(
            "{side}: its identity file holds none, as after a power cut; the replica was \
             recognised by what it holds, and the file is written anew"
        );
        self.say(Level::Notice, &text);
        if self.is_dry() {
            return Ok(Some(known));
        }
        self.replicas[side].set_identity(&known)?;
        if let (Some(number), Some(peer)) = (header.run, &header.identities[side.other()]) {
            let mark = self.mark(peer, number);
            self.replicas[side].set_run(&mark)?;
        }
        Ok(Some(known))
    }

    /// What is known of the runs of this task.
    fn runs(
        &mut self,
        store: &StateStore,
        found: &Pair<Option<Identity>>,
        baseline: Option<&Baseline>,
    ) -> Result<Runs, Halt> {
        let mut last_on_side = Pair::default();
        let mut target_knows_place = None;
        for side in Side::BOTH {
            let ahead = if side == Side::Target { self.lent.ahead.runs.take() } else { None };
            let marks = match ahead {
                Some(marks) => marks,
                None => self.replicas[side].runs()?,
            };
            let like = self.mark(&Identity(String::new()), 0);
            let mine = || marks.iter().filter(|mark| mark.instance == like.instance);
            if let Some(peer) = &found[side.other()] {
                let of_peer = mine().find(|mark| mark.peer == peer.0);
                last_on_side[side] = of_peer.map(|mark| mark.number);
            } else if side == Side::Target {
                let of_place = mine().find(|mark| mark.place == like.place);
                target_knows_place = of_place.map(|mark| mark.number);
            }
        }
        let header = baseline.map(Baseline::header);
        Ok(Runs {
            origin: header.map_or(Origin::Nothing, |header| header.origin),
            last_recorded: header.and_then(|header| header.run),
            highest_given: store.run_given()?,
            first_unrecorded: store.first_run_given()?,
            last_on_side,
            target_knows_place,
        })
    }

    fn mark(&self, peer: &Identity, number: u64) -> RunMark {
        RunMark {
            peer: peer.0.clone(),
            instance: identity::instance_word(&self.config.instance_id),
            place: identity::place_word(
                &lock_policy::origin().host,
                self.replicas.initiator.root(),
            ),
            number,
        }
    }

    /// Gives this run its number, and writes it into both identities, so that a replica or a
    /// state that is put back from an old copy is known by it (spec 8). None: a replica is out of
    /// reach; then the number of before stands, which covers this one.
    pub(super) fn number_run(
        &mut self,
        store: &StateStore,
        before: Origin,
        identities: &Pair<Option<Identity>>,
    ) -> Result<Option<u64>, Halt> {
        // A run that was refused has a number in the journal only: that is no evidence of what
        // the replicas have been through, so it is looked up here and not among `runs`.
        let noted = Journal::read(store.dir(), store.instance())
            .and_then(|journal| journal.map_or(Ok(0), |journal| journal.last_number()));
        let noted = noted.unwrap_or_else(|error| {
            let text = format!(
                "{error}; this run has the number behind those that the replicas know, which a run \
                 that recorded nothing may have had"
            );
            self.say(Level::Notice, &text);
            0
        });
        let number = self.last_run.max(noted) + 1;
        self.outcome.number = Some(number);
        if before == Origin::Nothing {
            store.set_first_run_given(number)?;
        } else {
            store.set_run_given(number)?;
        }
        fault::point("run numbered");
        for side in Side::BOTH {
            let Some(peer) = &identities[side.other()] else { return Ok(None) };
            let mark = self.mark(peer, number);
            if let Err(error) = self.replicas[side].set_run(&mark) {
                let text = format!("{error}; the run before this one stands for it");
                self.around.reporter().problem(Level::Warn, Some(side), None, &text);
                return Ok(None);
            }
            fault::point("run noted");
        }
        Ok(Some(number))
    }

    /// Where a file system is missing, or another one has come, nothing is known of that side:
    /// nothing is touched there on either side. `--force-delete` takes what is there (spec 8,
    /// "Mount points").
    pub(super) fn leave_alone_what_is_not_mounted(
        &mut self,
        trees: &mut Pair<Tree>,
        baseline: &Baseline,
    ) -> Result<(), Halt> {
        if self.config.policy.force_delete {
            return Ok(());
        }
        let found = mounts::not_mounted(trees, baseline).map_err(|e| Halt::state(&e))?;
        for one in found {
            let reporter = self.around.reporter();
            reporter.problem(Level::Error, Some(one.side), Some(&one.path), &one.to_string());
            // Where not even the directory is left, the other side's stands for it.
            for side in [one.side, one.side.other()] {
                if let Some(id) = trees[side].find(&one.path) {
                    trees[side].mark_unknown(id);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Whether what a run wrote that was broken off is still there: both sides are in the same
    /// mount as then, and in no other one below it.
    fn writes_since(&self, trees: &Pair<Tree>, inflight: &Inflight) -> Writes {
        let preserve = &self.config.preserve;
        let is_one_mount = |side: Side| {
            let session = &self.mount_sessions[side];
            session.is_some()
                && *session == inflight.mount_sessions[side]
                && trees[side].mount_points().is_empty()
        };
        if !preserve.follows_links() && Side::BOTH.into_iter().all(is_one_mount) {
            Writes::Kept
        } else {
            Writes::MayBeLost
        }
    }

    /// Temporary files of a transfer that was broken off: they are removed, and in any case
    /// never synchronised (spec 4, "Interruption").
    pub(super) fn take_out_left_overs(
        &mut self,
        store: &StateStore,
        trees: &mut Pair<Tree>,
    ) -> Result<(), Halt> {
        let inflight = match store.inflight()? {
            InflightNote::Missing => return Ok(()),
            InflightNote::Whole(inflight) => inflight,
            InflightNote::Empty => {
                let text = "the note of what the last run was doing is empty, as a power cut \
                            leaves it: nothing had been begun";
                self.say(Level::Notice, text);
                return Ok(());
            }
            InflightNote::Torn => {
                let text = "the note of what the last run was doing is torn, as a power cut or a \
                            failing disk leaves it: what is missing on one side does not count as \
                            deleted in this run. Temporary files of rsync (.NAME.XXXXXX) may be \
                            left over";
                self.say(Level::Notice, text);
                self.interrupted = Some(Inflight::anything());
                return Ok(());
            }
        };
        let mut all_gone = true;
        for side in Side::BOTH {
            let abilities = &self.file_systems.abilities[side];
            let found = find_temporaries(trees, side, &inflight, abilities);
            let ops: Vec<Op> = found
                .iter()
                .map(|left| {
                    let path = trees[side].path(left.id);
                    let expect = trees[side].entry(left.id).clone();
                    match left.certainty {
                        Certainty::Ours => Op::Remove { path, expect },
                        Certainty::Doubtful => {
                            Op::SetAside { path, expect, keeping: Keeping::protected(Keep::Backup) }
                        }
                    }
                })
                .collect();
            for left in &found {
                trees[side].exclude(left.id);
            }
            if ops.is_empty() || self.is_dry() {
                continue;
            }
            let removed = found.iter().filter(|left| left.certainty == Certainty::Ours).count();
            if removed > 0 {
                let text = format!(
                    "{side}: removing {removed} temporary files of a transfer that was broken off"
                );
                self.say(Level::Notice, &text);
            }
            for (op, result) in ops.iter().zip(self.replicas[side].apply(&ops)?) {
                let text = match (op, result) {
                    (Op::SetAside { .. }, Ok(_)) => {
                        "may be a temporary file of a transfer that was broken off, or somebody's \
                         own: it was moved to .osync_workdir/backup. Move it back if it is yours"
                            .to_owned()
                    }
                    (_, Ok(_)) => continue,
                    (_, Err(error)) => {
                        all_gone = false;
                        format!("cannot remove this temporary file: {error}")
                    }
                };
                let reporter = self.around.reporter();
                reporter.problem(Level::Warn, Some(side), Some(op.path()), &text);
            }
        }
        self.temporaries_remain = !all_gone;
        self.interrupted_writes = self.writes_since(trees, &inflight);
        self.interrupted = Some(inflight);
        Ok(())
    }
}

/// What may be a temporary file of rsync's, and what becomes of it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftOver {
    /// Where it is in the tree of its side.
    pub id: NodeId,
    /// How sure it is.
    pub certainty: Certainty,
}

/// How sure it is that rsync left something behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Certainty {
    /// Its name is one that chance made, and it is no more than what was being brought over: it
    /// is removed.
    Ours,
    /// It may be somebody's own as well: it is kept in `backup/`.
    Doubtful,
}

/// Finds rsync's temporary files on a side: named after a path that was being brought there, in
/// its directory, and younger than the run that was broken off. What the other side has under
/// the same name is somebody's file.
pub fn find_temporaries(
    trees: &Pair<Tree>,
    side: Side,
    inflight: &Inflight,
    abilities: &Abilities,
) -> Vec<LeftOver> {
    let finder = Finder { trees, side, inflight, abilities };
    let mut found = Vec::new();
    let mut names: BTreeMap<RelPath, Vec<Vec<u8>>> = BTreeMap::new();
    let came = |flying: &&InflightPath| flying.to == side && brings(flying.part);
    for flying in inflight.paths.iter().filter(came) {
        if let Some(parent) = flying.path.parent() {
            names.entry(parent).or_default().push(flying.path.name().to_vec());
        }
        if flying.part == Part::Subtree {
            finder.below(&flying.path, &mut found);
        }
    }
    for (dir, names) in names {
        finder.in_dir(&dir, &names, &mut found);
    }
    // what was found twice counts by the better certainty
    found.sort_unstable();
    found.dedup_by_key(|left| left.id);
    found
}

fn brings(part: Part) -> bool {
    matches!(part, Part::Itself | Part::Subtree)
}

impl Task<'_> {
    /// What lies in the private places of runs that were broken off is kept in `backup/`:
    /// nobody knows any more whether a scan had seen it. Where the file has its own name
    /// still, nothing had been replaced yet.
    pub(super) fn rescue_replaced(&mut self) -> Result<(), Halt> {
        if self.is_dry() || self.config.flags.no_locks {
            return Ok(()); // it may be the work of a run that is going on
        }
        for side in Side::BOTH {
            if self.replicas[side].has_left_overs() {
                self.rescue_on(side)?;
            }
        }
        Ok(())
    }

    fn rescue_on(&mut self, side: Side) -> Result<(), Halt> {
        let replaced = RelPath::root().join(WORK_DIR).join(REPLACED.as_bytes());
        let found = self.replicas[side].look_below(std::slice::from_ref(&replaced))?.pop();
        let Some(Ok(Some(all))) = found else { return Ok(()) };
        let runs: Vec<RelPath> = all
            .children(Tree::ROOT)
            .filter(|run| all.entry(*run).kind.is_dir())
            .map(|run| replaced.join(all.name(run)))
            .collect();
        let mut kept = 0;
        for (run, tree) in runs.iter().zip(self.replicas[side].look_below(&runs)?) {
            let Ok(Some(tree)) = tree else { continue };
            let still_named = same_files(self.replicas[side].as_mut(), &tree)?;
            let (mut files, mut dirs) = (Vec::new(), Vec::new());
            for id in tree.ids() {
                let path = tree.path(id);
                let at = run.join_path(&path);
                let entry = tree.entry(id).clone();
                if entry.kind.is_dir() {
                    dirs.push(Op::Remove { path: at, expect: entry });
                    continue;
                }
                let fate = if still_named.contains(&path) {
                    Fate::Discard
                } else {
                    Fate::Keep { kept: kept_path(&path), keeping: Keeping::protected(Keep::Backup) }
                };
                files.push(Op::PutAway { replaced: at, found: entry, fate });
            }
            // Parents stand before what they hold.
            dirs.reverse();
            dirs.push(Op::Remove { path: run.clone(), expect: tree.entry(Tree::ROOT).clone() });
            for ops in files.chunks(BATCH).chain(dirs.chunks(BATCH)) {
                for (op, result) in ops.iter().zip(self.replicas[side].apply(ops)?) {
                    match (op, result) {
                        (Op::PutAway { fate: Fate::Keep { .. }, .. }, Ok(_)) => kept += 1,
                        (Op::PutAway { .. }, Err(error)) => {
                            let text = format!(
                                "an earlier run had moved this out of the way, and it cannot be put \
                                 into backup/: {error}"
                            );
                            let reporter = self.around.reporter();
                            reporter.problem(Level::Warn, Some(side), Some(op.path()), &text);
                        }
                        _ => {}
                    }
                }
                fault::point("rescued");
            }
        }
        if kept > 0 {
            let text = format!(
                "{side}: kept in .osync_workdir/backup: {} that an earlier run had moved out of the \
                 way",
                counted(kept, "version")
            );
            self.say(Level::Notice, &text);
        }
        self.replicas[side].close_private_place()?;
        Ok(())
    }
}

struct Finder<'a> {
    trees: &'a Pair<Tree>,
    side: Side,
    inflight: &'a Inflight,
    abilities: &'a Abilities,
}

impl Finder<'_> {
    fn in_dir(&self, dir: &RelPath, names: &[Vec<u8>], found: &mut Vec<LeftOver>) {
        let tree = &self.trees[self.side];
        let other = &self.trees[self.side.other()];
        let across = other.find(dir);
        let Some(here) = tree.find(dir) else { return };
        for child in tree.children(here) {
            let (name, entry) = (tree.name(child), tree.entry(child));
            let may_be_ours = name.first() == Some(&b'.')
                && tree.standing(child) == Standing::Present
                && entry.ctime > self.inflight.began[self.side]
                && across.is_none_or(|dir| other.child(dir, name).is_none());
            if !may_be_ours {
                continue;
            }
            let certainty = |flying: &Vec<u8>| {
                let suffix = temp::left_over(name, entry.kind, flying)?;
                let source = across.and_then(|dir| other.child(dir, flying));
                self.certainty(suffix, entry, source.map(|id| other.entry(id)))
            };
            if let Some(certainty) = names.iter().filter_map(certainty).min() {
                found.push(LeftOver { id: child, certainty });
            }
        }
    }

    /// What is known of something that has such a name, beside what it may be a copy of. A file
    /// on its way is never larger than its source, and open to its owner only until it is whole.
    fn certainty(&self, suffix: Suffix, left: &Entry, source: Option<&Entry>) -> Option<Certainty> {
        let source = source.filter(|source| source.kind == left.kind);
        match left.kind {
            Kind::File => {
                let is_like_source = source.is_some_and(|source| {
                    let is_closed = !self.abilities.modes || left.mode & 0o077 == 0;
                    left.size <= source.size && (is_closed || left.mode == source.mode)
                });
                match (suffix, is_like_source) {
                    (Suffix::Random, true) => Some(Certainty::Ours),
                    (Suffix::Random, false) | (Suffix::MaybeAWord, true) => {
                        Some(Certainty::Doubtful)
                    }
                    (Suffix::MaybeAWord, false) => None,
                }
            }
            // All that it says is at its source as well.
            Kind::Symlink => {
                let is_copy = source.is_some_and(|source| source.link() == left.link());
                is_copy.then_some(Certainty::Ours)
            }
            _ => source.map(|_| Certainty::Doubtful),
        }
    }

    /// A whole subtree was in flight: its names are those that the sending side has.
    fn below(&self, top: &RelPath, found: &mut Vec<LeftOver>) {
        let source = &self.trees[self.side.other()];
        let Some(top_id) = source.find(top) else { return };
        let mut dirs = vec![(top_id, top.clone())];
        while let Some((dir, path)) = dirs.pop() {
            let names: Vec<Vec<u8>> =
                source.children(dir).map(|id| source.name(id).to_vec()).collect();
            self.in_dir(&path, &names, found);
            for child in source.children(dir) {
                if source.entry(child).kind.is_dir() {
                    dirs.push((child, path.join(source.name(child))));
                }
            }
        }
    }
}

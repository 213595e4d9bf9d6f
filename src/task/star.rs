//! A star: one initiator, the hub, and many targets, in one run (spec 10, "A star in one task").
//!
//! Each target makes a pair with the hub, with a state of its own, and has its turn: a run of that
//! pair, in the order of the list. A turn may bring something to the hub; the targets that had
//! their turn before get it in a second one. What goes wrong in a turn is an error of that target,
//! and the others have theirs all the same.

mod undo;

use super::ahead::{self, Ahead};
use super::closing::{self, Ended, Halt, RunOutcome};
use super::intent::StarIntent;
use super::journal::millis;
use super::look::{self, same_as};
use super::preflight::Inner;
use super::undo::{Extent, RestoredPaths, UndoRequest, Undone};
use super::{
    Earlier, Intent, Role, RunContext, Task, hooks, lock_request, preflight, retention,
    takes_locks, tell_cleaned,
};
use crate::config::{Config, Notify, StarTarget, WhenLocked};
use crate::process::{Deadlines, Limits, Stop, StopReason, fault};
use crate::replica::{
    self, Access, Cleaned, Prepared, Replica, ReplicaError, Retention, Scan, Trouble, Wanted,
};
use crate::report::summary::Reach;
use crate::report::words::what_was_done;
use crate::report::{ConflictLine, Counts, Level, Problem, Reporter, RunReport, Tally, mail};
use crate::state::journal::Change;
use crate::state::ours::TooOpen;
use crate::state::targets::{
    Binding, KnownTarget, ListedTarget, Seen, bind, displaced, instance_at, note, still_displaced,
};
use crate::state::{Identity, NotePlaces, StateStore};
use crate::threads;
use crate::tree::{Pair, Side};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// The trees of so many entries may be held at a time, beside the hub's, but two in any case: about
/// 20 MiB.
const ENTRIES_AT_ONCE: u64 = 200_000;

/// Whoever has not answered after so long has its turn after the others.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs a star once.
#[must_use]
pub fn run(config: &Config, around: RunContext<'_>, intent: StarIntent<'_>) -> RunOutcome {
    let mut hub = config.clone();
    // those of the targets belong to the turns
    (hub.hooks.remote_before, hub.hooks.remote_after) = (None, None);
    mail::check(&hub.alerts, around.reporter());
    let deadlines = preflight::watch(&hub, &around);
    let leaves = hub.chosen_targets().map(|(index, target)| Leaf::new(config, index, target));
    let leaves = leaves.collect();
    let hub = Task { role: Role::Hub, ..Task::new(&hub, around, Intent::Synchronise) };
    let (known, lent, whole) = (Vec::new(), None, millis(hub.outcome.started));
    let put_back = RestoredPaths::default();
    let mut star =
        Star { config, around, intent, whole, hub, leaves, known, lent, changes: 0, put_back };
    let halted = star.stages().err();
    drop(deadlines);
    star.close(halted)
}

/// A target of a star during a run.
struct Leaf {
    /// Its place in the list, from 0.
    index: usize,
    /// As the list has it, for people.
    name: String,
    /// The settings of its pair.
    config: Config,
    /// The connection, while nobody uses it.
    met: Option<Met>,
    /// What cannot be, so that it has no turn.
    refused: Option<Halt>,
    /// Whether the name of its state is known.
    state: State,
    /// What its turns came to, once it had one.
    turns: Option<Turns>,
    /// What went wrong with it.
    tally: Tally,
    /// What its conflicts were, for mail.
    conflict_lines: Vec<String>,
    report: Option<RunReport>,
}

/// Whether it is known under which instance the state of a target is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It is that of its settings.
    Known,
    /// Not yet, or it has none.
    Unknown,
}

/// A target that was reached.
struct Met {
    replica: Box<dyn Replica>,
    /// None: a dry run that is to show what CREATE_DIRS would make.
    prepared: Option<Prepared>,
    seen: Seen,
}

/// Targets that are being connected.
struct Arriving {
    answers: mpsc::Receiver<(usize, Result<Met, Halt>)>,
    /// Those that have not answered.
    missing: BTreeSet<usize>,
    stop: Stop,
    /// Ends it when its share of the time is over.
    clock: Option<Deadlines>,
}

impl Drop for Arriving {
    fn drop(&mut self) {
        if !self.missing.is_empty() {
            self.stop.request(StopReason::HardLimit);
            // each of them lets its target go
            while self.answers.recv().is_ok() {}
        }
    }
}

/// What a target is asked before its turn.
struct Question {
    met: Met,
    request: ahead::Request,
    stop: Stop,
    /// Ends it when its share of the time is over.
    clock: Option<Deadlines>,
}

/// What came of that.
struct Answered {
    met: Met,
    ahead: Ahead,
    stopped: Option<StopReason>,
}

impl Question {
    fn ask(mut self) -> Answered {
        self.met.replica.set_stop(&self.stop);
        let ahead = Ahead::ask(self.met.replica.as_mut(), &self.request);
        drop(self.clock);
        Answered { met: self.met, ahead, stopped: self.stop.reason() }
    }
}

/// A target whose turn is over.
struct Parting {
    met: Met,
    /// None: what it keeps stays.
    retention: Option<Retention>,
}

/// What came of it.
struct Parted {
    met: Met,
    cleaned: Option<Result<Cleaned, ReplicaError>>,
    unlocked: Result<(), ReplicaError>,
}

impl Parting {
    fn clean_and_unlock(mut self) -> Parted {
        let replica = self.met.replica.as_mut();
        let cleaned = self.retention.map(|retention| replica.clean(retention));
        fault::point("cleaned");
        let unlocked = closing::unlock(replica);
        Parted { met: self.met, cleaned, unlocked }
    }
}

/// What the turns of a target came to.
struct Turns {
    /// How many changes of the hub it has taken in.
    hub_changes: u64,
    /// The last one came to its end.
    complete: bool,
    counts: Pair<Counts>,
    conflicts: Vec<ConflictLine>,
    files: u64,
    compared: u64,
    reach: Reach,
    earlier: Earlier,
}

/// Which turn of a target it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// The first. If the target is locked and there is time to wait, it is put off.
    First,
    /// The first again, after all others: now it waits.
    PutOff,
    /// The hub has news for it.
    Second,
}

/// What became of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turned {
    Done,
    /// Another run has locked the target.
    Busy,
}

/// The hub as the last turn has left it: it is scanned again only after a turn that changed it.
struct LentHub {
    replica: Box<dyn Replica>,
    prepared: Prepared,
    scanned: (Wanted, Scan),
}

struct Star<'a> {
    config: &'a Config,
    around: RunContext<'a>,
    intent: StarIntent<'a>,
    /// When it began, in milliseconds since the epoch: so the journals of its turns name it.
    whole: i64,
    hub: Task<'a>,
    leaves: Vec<Leaf>,
    known: Vec<KnownTarget>,
    lent: Option<LentHub>,
    /// How many turns have changed something on the hub.
    changes: u64,
    /// What an undo has put back on the hub.
    put_back: RestoredPaths,
}

impl Leaf {
    fn new(config: &Config, index: usize, target: &StarTarget) -> Self {
        let mut pair = config.for_target(target, config.instance_id.clone());
        (pair.hooks.local_before, pair.hooks.local_after) = (None, None);
        // what is told outside is told once, of the whole run
        pair.notify = Notify::default();
        Leaf {
            index,
            name: target.place.to_string(),
            config: pair,
            met: None,
            refused: None,
            state: State::Unknown,
            turns: None,
            tally: Tally::default(),
            conflict_lines: Vec::new(),
            report: None,
        }
    }

    /// The end of a turn, or of a run without one. None: it was skipped.
    fn end(&self, task: &mut Task<'_>, halted: Option<Halt>) -> Option<Ended> {
        match self.state {
            State::Known => task.end(halted),
            State::Unknown => Some(task.end_without_state(halted)),
        }
    }

    /// The settings of a turn.
    fn turn_config(&self, round: Round, share: Option<Duration>) -> Config {
        let mut config = self.config.clone();
        if round != Round::First {
            config.hooks.remote_before = None;
        }
        if round == Round::First && matches!(config.locking.when_locked, WhenLocked::Wait(_)) {
            config.locking.when_locked = WhenLocked::Fail;
        }
        // for the message only: the clock is that of the turn
        config.limits.hard = share.map_or(0, |share| share.as_secs());
        config
    }
}

/// Connects to a target and makes it ready.
fn meet(config: &Config, around: &RunContext<'_>, access: Access) -> Result<Met, Halt> {
    preflight::answers(config, around)?;
    let mut replica = replica::at(config, Side::Target, around.stop, around.reporter());
    let prepared = match replica.prepare(access) {
        Ok(prepared) => prepared,
        Err(error)
            if access == Access::ReadOnly
                && config.create_dirs
                && error.trouble == Trouble::Missing =>
        {
            return Ok(Met { replica, prepared: None, seen: Seen::Nameless });
        }
        Err(error) => return Err(error.into()),
    };
    let seen = Seen::of(&replica.identity()?);
    Ok(Met { replica, prepared: Some(prepared), seen })
}

/// The part of the time that is left for one of several turns: all that is left, shared among
/// those that are still to come.
fn fair_share(limit: u64, passed: Duration, turns_left: usize) -> Option<Duration> {
    let left = Duration::from_secs(limit).saturating_sub(passed);
    let turns = u32::try_from(turns_left.max(1)).unwrap_or(u32::MAX);
    (limit > 0).then(|| left / turns)
}

/// The targets that the hub has news for since their turn. `had` is how many changes of the hub
/// each has taken in; `None` if its turn did not come to its end.
fn wanting(had: impl IntoIterator<Item = Option<u64>>, changes: u64) -> Vec<usize> {
    let has_news = |had: &Option<u64>| had.is_some_and(|had| had < changes);
    let turns = had.into_iter().enumerate().filter(|(_, had)| has_news(had));
    turns.map(|(leaf, _)| leaf).collect()
}

/// Whether a turn has changed something on the hub, so that the others have to look again.
fn has_touched_hub(task: &Task<'_>) -> bool {
    let outcome = &task.outcome;
    if task.is_dry() || outcome.reach == Reach::Nothing {
        return false;
    }
    let is_on_hub = |change: &Change| change.side == Side::Initiator;
    outcome.done.as_ref().is_none_or(|done| done.changes.iter().any(is_on_hub))
        || outcome.counts.initiator != Counts::default()
        || task.interrupted.is_some()
}

impl<'a> Star<'a> {
    fn stages(&mut self) -> Result<(), Halt> {
        self.hub.begin()?;
        fault::point("hub locked");
        let mut arriving = self.connect();
        if let StarIntent::Undo(unless_whole) = self.intent {
            self.take_in(&mut arriving, Duration::MAX);
            let store = self.claim_store()?;
            self.bind(&store, &(0..self.leaves.len()).collect::<Vec<_>>())?;
            self.undo(unless_whole, &store)?;
            return self.hub.clean();
        }
        let (late, ready): (Vec<usize>, Vec<usize>) =
            (0..self.leaves.len()).partition(|at| arriving.missing.contains(at));
        let store = self.claim_store()?;
        let before = self.known.clone();
        let bound = self.bind(&store, &ready)?;
        if late.is_empty() {
            self.tell_displaced(&before, &bound);
        }
        for at in &late {
            let text = "it has not answered yet; the others have their turns first";
            self.say_of(&self.leaves[*at], Level::Notice, text);
        }
        let ready = self.with_a_turn(ready);
        let mut put_off = self.round(Round::First, &ready, &store)?;
        if !late.is_empty() {
            self.spread(&store)?;
            self.take_in(&mut arriving, Duration::MAX);
            let bound = self.bind(&store, &late)?;
            self.tell_displaced(&before, &bound);
            let late = self.with_a_turn(late);
            put_off.extend(self.round(Round::First, &late, &store)?);
        }
        drop(arriving);
        if !put_off.is_empty() {
            self.spread(&store)?;
            self.round(Round::PutOff, &put_off, &store)?;
        }
        self.tell_plans_without_target();
        self.spread(&store)?;
        if !self.spreads() {
            self.tell_what_follows();
        }
        self.hub.clean()
    }

    /// Gives a second turn to the targets that the hub has news for. It is called before a target is
    /// waited for, so that one that hangs keeps no news from the others.
    fn spread(&mut self, store: &StateStore) -> Result<(), Halt> {
        if self.spreads() {
            let again = self.with_news();
            self.round(Round::Second, &again, store)?;
        }
        Ok(())
    }

    fn spreads(&self) -> bool {
        matches!(self.intent, StarIntent::Synchronise) && !self.hub.is_dry()
    }

    /// The targets that the hub has news for since their turn.
    fn with_news(&self) -> Vec<usize> {
        let had = |leaf: &Leaf| {
            leaf.turns.as_ref().filter(|turns| turns.complete).map(|turns| turns.hub_changes)
        };
        wanting(self.leaves.iter().map(had), self.changes)
    }

    /// What the turn of a target is for; `None`: it has none.
    fn intent_of(&self, at: usize) -> Option<Intent<'a>> {
        match self.intent {
            StarIntent::Synchronise => Some(Intent::Synchronise),
            StarIntent::Plan(kept) => Some(Intent::Plan(kept)),
            StarIntent::Apply(plans) => {
                let instance = &self.leaves[at].config.instance_id;
                let of_it = plans.iter().find(|(_, origin)| origin.instance == *instance);
                of_it.map(|(plan, origin)| Intent::Apply { plan, origin })
            }
            // it has turns of its own
            StarIntent::Undo(_) => None,
        }
    }

    /// Those of these targets that have a turn.
    fn with_a_turn(&self, leaves: Vec<usize>) -> Vec<usize> {
        let (with, without): (Vec<usize>, Vec<usize>) =
            leaves.into_iter().partition(|at| self.intent_of(*at).is_some());
        for at in without {
            let text = "the plan is not about it; it is left as it is";
            self.say_of(&self.leaves[at], Level::Notice, text);
        }
        with
    }

    /// A saved plan of a target that is not in the list any more cannot be carried out.
    fn tell_plans_without_target(&self) {
        let StarIntent::Apply(plans) = self.intent else { return };
        for (_, origin) in plans {
            let is_it = |leaf: &Leaf| leaf.config.instance_id == origin.instance;
            if !self.leaves.iter().any(is_it) {
                let text = format!(
                    "the plan has steps for the target with the state {}, which is not in the list \
                     of targets; they are left",
                    origin.instance
                );
                self.around.reporter().problem(Level::Error, None, None, &text);
            }
        }
    }

    /// Reaches for all targets at the same time. Returns those that have not answered yet when the
    /// others have, or after [`PATIENCE`].
    fn connect(&mut self) -> Arriving {
        let stop = self.own_stop();
        let limit = self.config.limits.hard;
        let share = fair_share(limit, self.around.started.elapsed(), self.leaves.len() + 1);
        let clock = self.clock(share, &stop);
        let access = self.hub.access();
        let (tell, answers) = mpsc::channel();
        for (at, leaf) in self.leaves.iter().enumerate() {
            let (config, log) = (leaf.config.clone(), Arc::clone(self.around.log));
            let (stop, tell, started) = (stop.clone(), tell.clone(), self.around.started);
            std::thread::spawn(move || {
                let around = RunContext { log: &log, stop: &stop, started };
                // nobody hears it if the run has ended
                let _ = tell.send((at, meet(&config, &around, access)));
            });
        }
        let missing = (0..self.leaves.len()).collect();
        let mut arriving = Arriving { answers, missing, stop, clock };
        self.take_in(&mut arriving, PATIENCE);
        arriving
    }

    /// Takes targets in as they answer, until all have or the time is over.
    fn take_in(&mut self, arriving: &mut Arriving, at_most: Duration) {
        let until = Instant::now().checked_add(at_most);
        while !arriving.missing.is_empty() {
            let left =
                until.map_or(at_most, |until| until.saturating_duration_since(Instant::now()));
            let (at, met) = match arriving.answers.recv_timeout(left) {
                Ok(answer) => answer,
                Err(RecvTimeoutError::Timeout) => return self.refuse_nested(),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            arriving.missing.remove(&at);
            match met {
                Ok(met) => self.leaves[at].met = Some(met),
                Err(halt) => self.leaves[at].refused = Some(halt),
            }
        }
        for at in std::mem::take(&mut arriving.missing) {
            self.leaves[at].refused = Some(Halt::fatal("connecting to it broke off"));
        }
        arriving.clock = None;
        self.refuse_nested();
    }

    /// A stop that ends a part of the run alone; what ends the run ends it too.
    fn own_stop(&self) -> Stop {
        let stop = self.around.stop.following();
        if let Some(reason) = self.around.stop.reason() {
            stop.request(reason);
        }
        stop
    }

    /// Ends what a stop is for when its share of the time is over.
    fn clock(&self, share: Option<Duration>, stop: &Stop) -> Option<Deadlines> {
        let hard = Some(share?);
        let limits = Limits { started: Instant::now(), soft: None, hard, heartbeat: None };
        match Deadlines::start(limits, stop, || {}, |_| {}) {
            Ok(clock) => Some(clock),
            Err(error) => {
                let text = format!("the time limit of this target is not watched: {error}");
                self.around.reporter().problem(Level::Warn, None, None, &text);
                None
            }
        }
    }

    fn say_of(&self, leaf: &Leaf, level: Level, text: &str) {
        let log = self.around.log;
        log.set_label(&leaf.name);
        log.say(level, text);
        log.set_label("");
    }

    /// Two targets of which one lies in the other take no part: each would carry the other's content
    /// into itself. Behind ssh the names of their machines do not tell.
    fn refuse_nested(&mut self) {
        for at in 1..self.leaves.len() {
            let (before, rest) = self.leaves.split_at_mut(at);
            let leaf = &mut rest[0];
            for other in before {
                let (Some(one), Some(two)) = (&mut leaf.met, &mut other.met) else { continue };
                // who does not answer now, says so in its turn
                let nested = preflight::nested(one.replica.as_mut(), two.replica.as_mut());
                let Ok(Some(inner)) = nested else { continue };
                let (inner, outer) = match inner {
                    Inner::First => (&mut *leaf, other),
                    Inner::Second => (other, &mut *leaf),
                };
                let refuse = |what: String| {
                    let what = format!("{what}; remove one of the two from the list");
                    Halt::Fatal { side: Some(Side::Target), what }
                };
                let lies_in = refuse(format!("it lies inside the target {}", outer.name));
                let holds = refuse(format!("the target {} lies inside it", inner.name));
                inner.refused.get_or_insert(lies_in);
                outer.refused.get_or_insert(holds);
            }
        }
    }

    fn claim_store(&mut self) -> Result<StateStore, Halt> {
        let store = self.hub.open_store()?;
        store.claim(if self.hub.is_dry() { TooOpen::Leave } else { TooOpen::Close })?;
        self.known = store.known_targets()?;
        Ok(store)
    }

    /// Finds out which state belongs to each of these targets.
    fn bind(&mut self, store: &StateStore, leaves: &[usize]) -> Result<Vec<Binding>, Halt> {
        // A copy of the hub with its work directory gets an identity of its own in its turn.
        let of_hub = Seen::of(&self.hub.replicas.initiator.identity()?);
        let seen = |leaf: &Leaf| match &leaf.met {
            Some(met) if met.seen == of_hub => Seen::Nameless,
            Some(met) => met.seen.clone(),
            None => Seen::Nothing,
        };
        // all of the list count, also those that are not chosen: their states are not free
        let mut listed: Vec<ListedTarget> = self
            .config
            .listed_places()
            .into_iter()
            .map(|place| ListedTarget { place, seen: Seen::Nothing })
            .collect();
        for leaf in &self.leaves {
            listed[leaf.index].seen = seen(leaf);
        }
        let bound = bind(&self.config.instance_id, &self.known, &listed);
        for at in leaves {
            let leaf = &mut self.leaves[*at];
            match &bound[leaf.index] {
                Binding::Known(instance) | Binding::New(instance) => {
                    leaf.state = State::Known;
                    leaf.config.instance_id.clone_from(instance);
                    // which replica it is of, the turn notes: it may be a stranger in its place
                    note(&mut self.known, instance, None, &leaf.name);
                }
                Binding::Twin(other) => {
                    let what = same_as(&listed[*other].place);
                    leaf.refused.get_or_insert(Halt::Fatal { side: Some(Side::Target), what });
                }
            }
        }
        if !self.hub.is_dry() {
            store.set_known_targets(&self.known)?;
            fault::point("targets noted");
        }
        Ok(bound)
    }

    /// A target that was known and is at no place of the list is never passed over in silence:
    /// another one has come to its place. `before` is what was known when the run began.
    fn tell_displaced(&self, before: &[KnownTarget], bound: &[Binding]) {
        for known in displaced(before, &self.config.listed_places(), bound) {
            let place = known.place.as_deref().unwrap_or_default();
            let text = format!(
                "the target that was at {place} was not found: another one stands there, and it is \
                 at no other place of the list. Its state is kept as {}; it goes on when the target \
                 is in the list again",
                known.instance
            );
            self.around.reporter().problem(Level::Warn, Some(Side::Target), None, &text);
        }
        for known in still_displaced(before, bound) {
            let text = format!(
                "the target with the state {}, whose place another one has taken, is still at no \
                 place of the list",
                known.instance
            );
            self.around.reporter().say(Level::Notice, &text);
        }
    }

    /// A turn for each of these targets; those that are put off are returned.
    fn round(
        &mut self,
        round: Round,
        leaves: &[usize],
        store: &StateStore,
    ) -> Result<Vec<usize>, Halt> {
        let mut put_off = Vec::new();
        std::thread::scope(|scope| {
            let (mut asked, mut parting) = (BTreeMap::new(), Vec::new());
            let mut next = 0;
            for (done, leaf) in leaves.iter().enumerate() {
                let Some(intent) = self.intent_of(*leaf) else { continue };
                self.hub.check_stop()?;
                // the first one is scanned together with the hub
                next = next.max(done + usize::from(self.lent.is_none()));
                let end = leaves.len().min(done + self.at_once(store));
                for (place, leaf) in leaves.iter().enumerate().take(end).skip(next) {
                    if let Some(question) = self.question(*leaf, round, leaves.len() - place, store)
                    {
                        asked.insert(*leaf, scope.spawn(move || question.ask()));
                    }
                }
                next = next.max(end);
                let answered = asked.remove(leaf).map(threads::joined);
                let turns_left = leaves.len() - done;
                if self.turn(*leaf, intent, round, turns_left, answered) == Turned::Busy {
                    put_off.push(*leaf);
                    continue;
                }
                if let Some(part) = self.parting(*leaf) {
                    parting.push((*leaf, scope.spawn(move || part.clean_and_unlock())));
                }
                if !self.hub.is_dry() {
                    store.set_known_targets(&self.known)?;
                }
            }
            for (leaf, thread) in parting {
                self.parted(leaf, threads::joined(thread));
            }
            Ok(put_off)
        })
    }

    /// A target whose turn is over, with what is left to be done there.
    fn parting(&mut self, at: usize) -> Option<Parting> {
        let leaf = &mut self.leaves[at];
        let met = leaf.met.take()?;
        let is_complete = leaf.turns.as_ref().is_some_and(|turns| turns.complete);
        let retention = retention(&leaf.config).filter(|_| is_complete);
        Some(Parting { met, retention })
    }

    /// Tells what came of that, and takes the target back.
    fn parted(&mut self, at: usize, parted: Parted) {
        let Parted { met, cleaned, unlocked } = parted;
        self.leaves[at].met = Some(met);
        self.amend(at, |star, leaf| {
            let reporter = star.around.reporter();
            match cleaned {
                Some(Ok(cleaned)) => {
                    tell_cleaned(reporter, Side::Target, &cleaned);
                    if let Some(kept) = cleaned.kept {
                        star.note_kept(leaf, kept);
                    }
                }
                Some(Err(error)) if star.around.stop.reason().is_none() => {
                    reporter.problem(Level::Critical, Some(error.side), None, &error.what);
                }
                Some(Err(_)) | None => {}
            }
            if let Err(error) = unlocked {
                closing::tell_still_locked(reporter, &error);
            }
        });
    }

    fn note_kept(&self, leaf: &Leaf, kept: u64) {
        let own = self.hub.state_dir_in_place(Side::Initiator).ok();
        let own = own.map(|own| (own, leaf.config.instance_id.as_str()));
        let star = &self.config.instance_id;
        let places = NotePlaces::of_target(own, star, &leaf.config.replicas);
        if let Err(error) = places.set_kept(Side::Target, kept) {
            self.around.reporter().say(Level::Verbose, &error.to_string());
        }
    }

    /// Does something for a target whose turns are over; what goes wrong counts as its own.
    fn amend(&mut self, at: usize, act: impl FnOnce(&Self, &Leaf)) {
        let log = self.around.log;
        log.set_label(&self.leaves[at].name);
        let whole = log.swap_tally(std::mem::take(&mut self.leaves[at].tally));
        act(self, &self.leaves[at]);
        let leaf = &mut self.leaves[at];
        leaf.tally = log.swap_tally(whole);
        log.set_label("");
        let Some(report) = &mut leaf.report else { return };
        match closing::status(leaf.tally.worst(), None) {
            closing::SUCCESS => {}
            status => report.status = status,
        }
        report.tally = leaf.tally.clone();
    }

    /// How many targets are scanned at a time, the one whose turn it is counted in: each of their
    /// trees takes as much memory as the hub's.
    fn at_once(&self, store: &StateStore) -> usize {
        let of_hub = self.lent.as_ref().map(|lent| lent.scanned.1.tree.len() as u64);
        let expected = || store.last_run().ok().flatten().map(|last| last.compared);
        let entries = of_hub.or_else(expected).unwrap_or(ENTRIES_AT_ONCE);
        let fit = ENTRIES_AT_ONCE / entries.max(1);
        usize::try_from(fit).unwrap_or(usize::MAX).max(2)
    }

    /// What a target is asked before its turn; `None`: its turn has to ask.
    fn question(
        &mut self,
        at: usize,
        round: Round,
        turns_left: usize,
        store: &StateStore,
    ) -> Option<Question> {
        let leaf = &self.leaves[at];
        let is_remote = leaf.config.replicas.target.is_remote();
        // a command that runs there before may be what makes it ready
        let has_command = is_remote && leaf.config.hooks.remote_before.is_some();
        let comes_later = round == Round::PutOff || (has_command && round == Round::First);
        // one without an identity may be another one of the list
        let is_known = |met: &Met| met.prepared.is_some() && met.seen != Seen::Nameless;
        if comes_later || leaf.refused.is_some() || !leaf.met.as_ref().is_some_and(is_known) {
            return None;
        }
        let stop = self.own_stop();
        let share = fair_share(self.config.limits.hard, self.around.started.elapsed(), turns_left);
        let clock = self.clock(share, &stop);
        let leaf = &mut self.leaves[at];
        let config = leaf.turn_config(round, share);
        let met = leaf.met.take()?;
        let target = met.prepared.as_ref().is_some_and(|prepared| prepared.can_chown);
        let can_chown = Pair::new(self.hub.can_chown.initiator, target);
        let request = ahead::Request {
            lock: takes_locks(&config).then(|| lock_request(&config)),
            attributes: look::wanted_attributes(&config.preserve, &can_chown),
            state_dir: store.dir().path(),
            config,
        };
        Some(Question { met, request, stop, clock })
    }

    /// One turn of one target. All that goes wrong is told as its own.
    fn turn(
        &mut self,
        at: usize,
        intent: Intent<'_>,
        round: Round,
        turns_left: usize,
        answered: Option<Answered>,
    ) -> Turned {
        let log = self.around.log;
        let stop = self.own_stop();
        let limit = self.config.limits.hard;
        let share = fair_share(limit, self.around.started.elapsed(), turns_left);
        let leaf = &mut self.leaves[at];
        let mut config = leaf.turn_config(round, share);
        config.flags.dry |=
            matches!(intent, Intent::Undo(UndoRequest { extent: Extent::Check, .. }));
        log.set_label(&leaf.name);
        let whole = log.swap_tally(std::mem::take(&mut leaf.tally));
        let mut refused = leaf.refused.take();
        let mut met = leaf.met.take();
        let mut found = Ahead::default();
        if let Some(answered) = answered {
            (met, found) = (Some(answered.met), answered.ahead);
            if let Some(reason) = answered.stopped {
                stop.request(reason);
            }
        }
        let earlier = leaf.turns.as_ref().map(|turns| turns.earlier.clone());
        let clock = self.clock(share, &stop);
        let around = RunContext { log, stop: &stop, started: Instant::now() };
        let is_nameless = |met: &Met| met.seen == Seen::Nameless;
        if met.as_ref().is_some_and(is_nameless) && !self.hub.is_dry() && self.had_turns() {
            // It may have got an identity meanwhile, if it is in the list twice.
            drop(met.take());
            match meet(&config, &around, self.hub.access()) {
                Ok(again) => met = Some(again),
                Err(halt) => refused = Some(halt),
            }
        }
        let mut task = Task { role: Role::Turn, ..Task::new(&config, around, intent) };
        task.lent.star_began = Some(self.whole);
        task.lent.put_back = self.put_back.clone();
        task.lent.earlier = earlier;
        task.lent.locked_at = Some(self.hub.began.initiator).filter(|at| at.is_known());
        task.lent.others = self.others(at);
        task.lent.ahead = found;
        if let Some(lent) = self.lent.take() {
            task.replicas.initiator = lent.replica;
            task.lent.prepared.initiator = Some(lent.prepared);
            task.lent.hub = Some(lent.scanned);
        }
        let halted = match (refused, met) {
            (Some(halt), _) => Some(halt),
            (None, Some(met)) => {
                task.replicas.target = met.replica;
                task.lent.prepared.target = met.prepared;
                for side in Side::BOTH {
                    task.replicas[side].set_stop(&stop);
                }
                task.stages().err()
            }
            (None, None) => Some(Halt::fatal("its connection is gone")),
        };
        drop(clock);
        let is_busy = matches!(
            &halted,
            Some(Halt::Replica(error)) if error.trouble == Trouble::Locked
        );
        let may_wait = matches!(self.config.locking.when_locked, WhenLocked::Wait(_));
        let turned = if is_busy && may_wait && round == Round::First {
            log.say(Level::Notice, "locked by another run; it waits until the others are done");
            Turned::Busy
        } else {
            self.finish(at, &mut task, halted);
            Turned::Done
        };
        self.give_back(at, task);
        let leaf = &mut self.leaves[at];
        leaf.tally = log.swap_tally(whole);
        log.set_label("");
        turned
    }

    fn had_turns(&self) -> bool {
        self.leaves.iter().any(|leaf| leaf.turns.is_some())
    }

    /// The identities of all other targets of this run, with their names.
    fn others(&self, at: usize) -> Vec<(Identity, String)> {
        let others = self.leaves.iter().enumerate().filter(|(other, _)| *other != at);
        let identity = |leaf: &Leaf| {
            // of one that was not reached, nobody knows whether it still has that identity
            leaf.turns.as_ref().filter(|_| leaf.state == State::Known)?;
            let instance = &leaf.config.instance_id;
            let known = self.known.iter().find(|known| known.instance == *instance)?;
            Some((known.identity.clone()?, leaf.name.clone()))
        };
        others.filter_map(|(_, leaf)| identity(leaf)).collect()
    }

    /// The end of a turn: journal, report, and what it means for the others.
    fn finish(&mut self, at: usize, task: &mut Task<'_>, halted: Option<Halt>) {
        let has_touched = has_touched_hub(task);
        self.changes += u64::from(has_touched);
        if has_touched {
            task.lent.hub = None;
        }
        self.hub.outcome.work = self.hub.outcome.work.max(task.outcome.work);
        self.hub.outcome.plans.append(&mut task.outcome.plans);
        self.put_back.extend(std::mem::take(&mut task.lent.put_back));
        let name = &self.leaves[at].name;
        let undone = task.outcome.undone.drain(..);
        self.hub.outcome.undone.extend(undone.map(|of| Undone { target: name.clone(), ..of }));
        let ended = self.leaves[at].end(task, halted);
        let skipped = ended.is_none();
        let (summed_up, before) = match ended {
            Some(ended) => {
                self.around.log.say(Level::Notice, &task.turn_summed_up());
                (ended.summed_up, ended.noted.and_then(|noted| noted.before))
            }
            None => ("skipped".to_owned(), None),
        };
        let leaf = &mut self.leaves[at];
        if let Some(identity) = &task.lent.identity {
            note(&mut self.known, &leaf.config.instance_id, Some(identity), &leaf.name);
        }
        leaf.conflict_lines.extend(task.mailed_conflicts());
        let outcome = &task.outcome;
        let began = outcome.started;
        let turns = leaf.turns.get_or_insert_with(|| Turns {
            hub_changes: 0,
            complete: false,
            counts: Pair::default(),
            conflicts: Vec::new(),
            files: 0,
            compared: 0,
            reach: Reach::Nothing,
            earlier: Earlier { began, before, counts: Pair::default(), conflicts: 0 },
        });
        turns.hub_changes = self.changes;
        turns.complete = outcome.complete;
        turns.counts = Pair::from_fn(|side| turns.counts[side].plus(outcome.counts[side]));
        turns.conflicts.extend(outcome.conflicts.iter().cloned());
        turns.files = turns.files.max(outcome.files);
        turns.compared = turns.compared.max(outcome.compared);
        turns.reach = outcome.reach;
        turns.earlier.counts = turns.counts;
        turns.earlier.conflicts = turns.conflicts.len() as u64;
        let report = task.report(&summed_up);
        leaf.report = Some(RunReport {
            started: turns.earlier.began,
            status: if skipped { 0 } else { report.status },
            complete: skipped || report.complete,
            counts: turns.counts,
            conflicts: turns.conflicts.clone(),
            ..report
        });
    }

    /// Takes back what a turn was lent.
    fn give_back(&mut self, at: usize, mut task: Task<'_>) {
        let prepared = &mut task.lent.prepared;
        let (hub, target) = (prepared.initiator.take(), prepared.target.take());
        let scanned = task.lent.hub.take();
        let replicas = task.replicas;
        if let (Some(prepared), Some(scanned)) = (hub, scanned) {
            self.lent = Some(LentHub { replica: replicas.initiator, prepared, scanned });
        }
        if target.is_some() {
            let met = Met { replica: replicas.target, prepared: target, seen: Seen::Nothing };
            self.leaves[at].met = Some(met);
        }
    }

    /// A dry run shows each pair as it stands, and a saved plan has each as it stood: what a target
    /// brings goes on to the others later, and is told once, by its number.
    fn tell_what_follows(&self) {
        let what_becomes_of_it = match self.intent {
            StarIntent::Synchronise => {
                "goes on to the other targets in the same run, and is not shown with them"
            }
            StarIntent::Plan(_) | StarIntent::Apply(_) | StarIntent::Undo(_) => {
                "goes on to the other targets with the next run, and is not in this plan"
            }
        };
        for leaf in self.leaves.iter().filter(|_| self.leaves.len() > 1) {
            let initiator = leaf.turns.as_ref().map(|turns| turns.counts.initiator);
            let brought = Pair::new(initiator.unwrap_or_default(), Counts::default());
            if let Some(what) = what_was_done(&brought, 0) {
                self.say_of(leaf, Level::Always, &format!("{what}: this {what_becomes_of_it}"));
            }
        }
    }

    /// Everything that is told once, of all targets.
    fn close(mut self, halted: Option<Halt>) -> RunOutcome {
        let is_skipped = matches!(halted, Some(Halt::Skipped(_)));
        if !is_skipped {
            self.note_without_turn(halted.as_ref());
            self.after_hooks();
            self.sum_up();
        }
        self.disconnect();
        self.hub.close(halted)
    }

    /// A run that ended before a target had its turn has failed for it, too, and its state says
    /// so, as far as that is known.
    fn note_without_turn(&mut self, halted: Option<&Halt>) {
        let Some(halted) = halted else { return };
        let level = match halted {
            Halt::Stopped(_) => Level::Warn,
            _ => Level::Critical,
        };
        let problem = Problem { level, side: None, path: None, text: halted.words() };
        self.find_states();
        let log = self.around.log;
        for leaf in self.leaves.iter_mut().filter(|leaf| leaf.report.is_none()) {
            let config = leaf.config.clone();
            let new = Task::new(&config, self.around, Intent::Synchronise);
            let mut task = Task { role: Role::Turn, ..new };
            // it is told once, of the whole run
            let mut tally = Tally::default();
            tally.add(&problem);
            let whole = log.swap_tally(tally);
            if let Some(ended) = leaf.end(&mut task, Some(Halt::Told)) {
                leaf.report = Some(task.report(&ended.summed_up));
            }
            drop(log.swap_tally(whole));
        }
    }

    /// The states of the targets, where the run did not get so far as to ask them.
    fn find_states(&mut self) {
        let dir = self.hub.state_dir_in_place(Side::Initiator);
        let is_there = dir.is_ok_and(|dir| dir.is_there());
        let store = is_there.then(|| self.hub.open_store().ok()).flatten();
        let Some(known) = store.and_then(|store| store.known_targets().ok()) else { return };
        let places = self.config.listed_places();
        for leaf in self.leaves.iter_mut().filter(|leaf| leaf.state == State::Unknown) {
            let instance = instance_at(&self.config.instance_id, &known, &places, leaf.index);
            if let Some(instance) = instance {
                leaf.state = State::Known;
                leaf.config.instance_id = instance;
            }
        }
    }

    /// The remote commands, after the last turn of their target.
    fn after_hooks(&mut self) {
        let stop = self.around.stop.following();
        for at in 0..self.leaves.len() {
            let leaf = &mut self.leaves[at];
            let Some(report) = leaf.report.as_ref() else { continue };
            let result = hooks::ResultForHooks {
                status: report.status,
                counts: report.counts,
                conflicts: report.conflicts.len() as u64,
            };
            if !leaf.config.replicas.target.is_remote() {
                continue;
            }
            let Some(mut met) = leaf.met.take() else { continue };
            met.replica.set_stop(&stop);
            self.amend(at, |star, leaf| {
                let remote: &mut dyn Replica = met.replica.as_mut();
                let log = star.around.log.as_ref();
                hooks::after(&leaf.config, &result, Some(remote), log, &stop);
            });
            self.leaves[at].met = Some(met);
        }
    }

    /// Lets all targets go at the same time: closing a connection takes its time.
    fn disconnect(&mut self) {
        std::thread::scope(|scope| {
            for met in self.leaves.iter_mut().filter_map(|leaf| leaf.met.take()) {
                scope.spawn(move || drop(met));
            }
        });
    }

    /// What all targets came to.
    fn sum_up(&mut self) {
        let mut whole = self.around.log.swap_tally(Tally::default());
        let outcome = &mut self.hub.outcome;
        let mut reach = None;
        for leaf in &mut self.leaves {
            whole.add_of_target(&leaf.name, &leaf.tally);
            if let Some(turns) = &leaf.turns {
                outcome.counts =
                    Pair::from_fn(|side| outcome.counts[side].plus(turns.counts[side]));
                outcome.conflicts.extend(turns.conflicts.iter().cloned());
                outcome.files = outcome.files.max(turns.files);
                outcome.compared = outcome.compared.max(turns.compared);
                reach = Some(match reach {
                    None => turns.reach,
                    Some(reach) if reach == turns.reach => reach,
                    Some(_) => Reach::Part,
                });
            }
            self.hub
                .lent
                .conflict_lines
                .extend(leaf.conflict_lines.drain(..).map(|line| format!("{}: {line}", leaf.name)));
            self.hub.lent.reports.extend(leaf.report.take());
        }
        outcome.reach = reach.unwrap_or(Reach::Nothing);
        drop(self.around.log.swap_tally(whole));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_have_a_second_turn_that_the_hub_has_news_for_since_their_first() {
        for (what, had, changes, expected) in [
            ("nothing came to the hub", vec![Some(0), Some(0), Some(0)], 0, vec![]),
            ("the first brought something", vec![Some(1), Some(1), Some(1)], 1, vec![]),
            ("the last brought something", vec![Some(0), Some(0), Some(1)], 1, vec![0, 1]),
            ("two did", vec![Some(1), Some(1), Some(2)], 2, vec![0, 1]),
            ("one has failed", vec![None, Some(0), Some(1)], 1, vec![1]),
        ] {
            assert_eq!(wanting(had, changes), expected, "{what}");
        }
    }

    #[test]
    fn the_time_that_is_left_is_shared_among_those_to_come() {
        let seconds = Duration::from_secs;
        for (limit, passed, left, expected) in [
            (0, 5, 3, None),
            (90, 0, 3, Some(30)),
            (90, 30, 2, Some(30)),
            (90, 1, 1, Some(89)),
            (90, 100, 2, Some(0)),
            (90, 0, 0, Some(90)),
        ] {
            assert_eq!(fair_share(limit, seconds(passed), left), expected.map(seconds));
        }
    }
}

//! One run, start to end (spec 7, "A run, start to end").

mod ahead;
mod apply;
mod change_report;
pub mod closing;
mod contents;
pub mod file_systems;
pub mod hooks;
pub mod intent;
mod journal;
mod look;
pub mod preflight;
mod recording;
pub mod scrub;
mod star;
pub mod undo;
pub mod versions;

use crate::config::{Config, ConflictCopy, Location, Preserve, Watch, WhenLocked};
use crate::filter::Filter;
use crate::process::{Stop, fault};
use crate::reconcile::damaged::DamagedNodes;
use crate::reconcile::{Doubt, Plan, Rules, Writes, guard, reconcile};
use crate::replica::{
    self, Access, Agent, Cleaned, LockRequest, Locked, Prepared, Replica, ReplicaError, Retention,
    Scan, ToBeMade, Trouble, Unread, Wanted,
};
use crate::report::summary::Reach;
use crate::report::words::{counted, size};
use crate::report::{Counts, Event, Level, Log, Reporter, RunReport, mail};
use crate::state::journal::RunRecord;
use crate::state::last_run::LastRun;
use crate::state::ours::TooOpen;
use crate::state::{
    Baseline, Identity, Inflight, InflightPath, LastAction, Note, NoteLevel, NotePlaces, Part,
    StateDir, StateError, StateStore,
};
use crate::tree::path::LONGEST_PATH;
use crate::tree::{Kind, NodeId, Pair, RelPath, Side, Stamp, Standing, Tree};
use ahead::Ahead;
use closing::{Halt, RunOutcome};
use file_systems::FileSystems;
use intent::{Intent, StarIntent};
use preflight::{Turn, Wait};
use recording::History;
pub use star::run as run_star;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::thread::ScopedJoinHandle;
use std::time::{Instant, SystemTime};

/// How many operations go to a replica at once; between two batches the run may stop.
const BATCH: usize = 1000;

/// What a run needs beside its settings.
#[derive(Clone, Copy)]
pub struct RunContext<'a> {
    /// Where to speak; remembers what was said, for mail and the exit status.
    pub log: &'a Arc<Log>,
    /// When to stop.
    pub stop: &'a Stop,
    /// When the program, or in monitor mode this run, began.
    pub started: Instant,
}

impl<'a> RunContext<'a> {
    /// Where to speak.
    #[must_use]
    pub fn reporter(&self) -> &'a dyn Reporter {
        self.log.as_ref()
    }
}

/// A run under way.
struct Task<'a> {
    config: &'a Config,
    intent: Intent<'a>,
    around: RunContext<'a>,
    replicas: Pair<Box<dyn Replica>>,
    can_chown: Pair<bool>,
    /// What the file systems can do.
    file_systems: FileSystems,
    /// What is preserved: of what is asked for, all that both file systems keep.
    preserve: Preserve,
    /// Attributes that could not be read on a side.
    unread: Pair<Unread>,
    /// When the run began, by each side's own clock.
    began: Pair<Stamp>,
    /// In which mount each side is.
    mount_sessions: Pair<Option<String>>,
    /// What an earlier run was transferring when it was broken off.
    interrupted: Option<Inflight>,
    /// Whether all that it had written is still there.
    interrupted_writes: Writes,
    /// The highest number of a run of this task that anybody knows of.
    last_run: u64,
    /// Not all that it left behind could be removed.
    temporaries_remain: bool,
    /// What stands behind the names of what this run keeps.
    kept_suffix: String,
    /// The word that the run begins, on its way.
    start_ping: Option<closing::Under>,
    outcome: RunOutcome,
    role: Role,
    /// What a turn of a star has got from the star, and gives back.
    lent: Lent,
}

/// What a task is: a whole run, or which part of a star's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The whole run, of a pair of replicas.
    Whole,
    /// What a star does once: everything around its turns, and the work on the hub alone.
    Hub,
    /// The turn of one target of a star, whose hub is locked already.
    Turn,
}

impl Role {
    /// The sides that it locks, unlocks and cleans; a turn leaves the last two to the star.
    fn sides(self) -> &'static [Side] {
        match self {
            Role::Whole => &Side::BOTH,
            Role::Hub => &[Side::Initiator],
            Role::Turn => &[Side::Target],
        }
    }
}

/// What a star knows already when the turn of a target begins, and what is known after it.
#[derive(Default)]
struct Lent {
    /// When the whole run began, in milliseconds since the epoch.
    star_began: Option<i64>,
    /// Replicas that were prepared before.
    prepared: Pair<Option<Prepared>>,
    /// The hub as it was scanned, and which attributes were read.
    hub: Option<(Wanted, Scan)>,
    /// What the target was asked before.
    ahead: Ahead,
    /// When the hub was locked, by the clock of its file system.
    locked_at: Option<Stamp>,
    /// The identities of the other targets of this run, with their names.
    others: Vec<(Identity, String)>,
    /// The identity that the target was found with, or got.
    identity: Option<Identity>,
    /// An earlier turn of the same target in this run.
    earlier: Option<Earlier>,
    /// What an undo has put back on the hub.
    put_back: undo::RestoredPaths,
    /// What the targets of a star came to.
    reports: Vec<RunReport>,
    /// Their conflicts, for mail.
    conflict_lines: Vec<String>,
}

/// An earlier turn of the same target in the same run.
#[derive(Debug, Clone)]
struct Earlier {
    began: SystemTime,
    /// What was known of the last run before that.
    before: Option<LastRun>,
    counts: Pair<Counts>,
    conflicts: u64,
}

/// Runs a task once, to bring both sides in step.
#[must_use]
pub fn run(config: &Config, around: RunContext<'_>) -> RunOutcome {
    if config.is_star() {
        return run_star(config, around, StarIntent::Synchronise);
    }
    run_as(config, around, Intent::Synchronise)
}

/// Runs a pair once.
#[must_use]
pub fn run_as<'a>(config: &'a Config, around: RunContext<'a>, intent: Intent<'a>) -> RunOutcome {
    mail::check(&config.alerts, around.reporter());
    let deadlines = preflight::watch(config, &around);
    let mut task = Task::new(config, around, intent);
    let halted = task.stages().err();
    drop(deadlines);
    task.close(halted)
}

/// How many files a tree holds that take part.
fn files(tree: &Tree) -> u64 {
    let is_file =
        |id: &NodeId| tree.entry(*id).kind == Kind::File && tree.standing(*id) == Standing::Present;
    tree.ids().filter(is_file).count() as u64
}

/// The replica behind ssh, if there is one.
fn remote<'r>(
    replicas: &'r mut Pair<Box<dyn Replica>>,
    config: &Config,
) -> Option<&'r mut dyn Replica> {
    let side = config.replicas.iter().find(|(_, place)| place.is_remote())?.0;
    Some(replicas[side].as_mut())
}

impl<'a> Task<'a> {
    fn new(config: &'a Config, around: RunContext<'a>, intent: Intent<'a>) -> Self {
        let at = |side| replica::at(config, side, around.stop, around.reporter());
        Task {
            config,
            intent,
            around,
            replicas: Pair::from_fn(at),
            can_chown: Pair::new(false, false),
            file_systems: FileSystems::default(),
            preserve: config.preserve,
            unread: Pair::default(),
            began: Pair::new(Stamp::UNKNOWN, Stamp::UNKNOWN),
            mount_sessions: Pair::default(),
            interrupted: None,
            interrupted_writes: Writes::MayBeLost,
            last_run: 0,
            temporaries_remain: false,
            kept_suffix: chrono::Local::now().format(".%Y.%m.%d-%H.%M.%S").to_string(),
            start_ping: None,
            outcome: RunOutcome::new(SystemTime::now()),
            role: Role::Whole,
            lent: Lent::default(),
        }
    }
}

/// What a run by these settings removes of what is kept; `None`: it removes nothing.
fn retention(config: &Config) -> Option<Retention> {
    let (backup_days, deleted_days) = (config.policy.backup_days, config.policy.soft_delete_days);
    let is_meant = !config.flags.dry && !config.flags.initialize;
    is_meant.then_some(Retention { backup_days, deleted_days })
}

fn tell_cleaned(reporter: &dyn Reporter, side: Side, cleaned: &Cleaned) {
    if cleaned.entries > 0 {
        let text = format!(
            "{side}: removed {} from backup/ and deleted/, old enough to go ({})",
            counted(cleaned.entries, "entry"),
            size(cleaned.bytes)
        );
        reporter.say(Level::Notice, &text);
    }
}

/// Whether a run by these settings locks its replicas.
fn takes_locks(config: &Config) -> bool {
    !config.flags.dry && !config.flags.no_locks
}

fn lock_request(config: &Config) -> LockRequest {
    LockRequest {
        instance_id: config.instance_id.clone(),
        force: config.flags.force_unlock,
        stranger_resume: config.locking.stranger_resume,
    }
}

fn closed_for_others(place: &str, what: &str) -> String {
    format!("{place}: others could write to {what}; closed it for them (go-w)")
}

impl Task<'_> {
    /// What may end the run early; what must happen in any case is in `closing`.
    fn stages(&mut self) -> Result<(), Halt> {
        self.begin()?;
        self.rescue_replaced()?;
        self.synchronise()?;
        fault::point("recorded");
        match self.role {
            // the star cleans up on its target, when the next one has its turn already
            Role::Turn => Ok(()),
            Role::Whole | Role::Hub => self.clean(),
        }
    }

    /// Everything up to the locks.
    fn begin(&mut self) -> Result<(), Halt> {
        if self.config.locking.when_locked != WhenLocked::Skip {
            self.ping_start();
        }
        preflight::tools(self.config)?;
        if self.role == Role::Whole {
            preflight::answers(self.config, &self.around)?;
        }
        if self.role != Role::Turn {
            preflight::connectivity(self.config, &self.around);
        }
        self.prepare()?;
        fault::point("prepared");
        if self.config.locking.when_locked == WhenLocked::Skip {
            // before anything is said or run for a run that is not to be
            self.lock()?;
            self.around.log.release();
            self.ping_start();
            self.before_hooks()?;
        } else {
            self.before_hooks()?;
            self.lock()?;
        }
        Ok(())
    }

    /// Retention of backups and soft deletions.
    fn clean(&mut self) -> Result<(), Halt> {
        let Some(retention) = retention(self.config) else { return Ok(()) };
        for side in self.role.sides().iter().copied() {
            self.check_stop()?;
            let cleaned = self.replicas[side].clean(retention)?;
            fault::point("cleaned");
            self.outcome.kept[side] = cleaned.kept;
            tell_cleaned(self.around.reporter(), side, &cleaned);
        }
        Ok(())
    }

    fn before_hooks(&mut self) -> Result<(), Halt> {
        let (log, stop) = (self.around.log.as_ref(), self.around.stop);
        let remote = remote(&mut self.replicas, self.config);
        hooks::before(self.config, remote, log, stop).map_err(|failed| Halt::state(&failed))
    }

    fn say(&self, level: Level, text: &str) {
        self.around.reporter().say(level, text);
    }

    fn check_stop(&self) -> Result<(), Halt> {
        self.around.stop.reason().map_or(Ok(()), |reason| Err(Halt::Stopped(reason)))
    }

    fn is_dry(&self) -> bool {
        self.config.flags.dry
    }

    /// Both replicas are there, usable, and have space left.
    fn prepare(&mut self) -> Result<(), Halt> {
        let access = self.access();
        for side in Side::BOTH {
            if self.role == Role::Hub && side == Side::Target {
                continue;
            }
            let prepared = match self.lent.prepared[side].take() {
                Some(prepared) => prepared,
                None => self.prepare_side(side, access)?,
            };
            if self.role == Role::Turn {
                self.lent.prepared[side] = Some(prepared.clone());
            }
            self.can_chown[side] = prepared.can_chown;
            self.began[side] = prepared.now;
            self.file_systems.ids[side].clone_from(&prepared.file_system);
            self.mount_sessions[side].clone_from(&prepared.mount_session);
            if prepared.created {
                let place = self.replicas[side].location();
                let mut text = format!("made the {side} directory {place}");
                if let Location::Ssh(to) = &self.config.replicas[side]
                    && to.path.is_relative()
                    && !to.path.starts_with("~")
                {
                    text.push_str(
                        " in the login directory (a path from the root has two slashes behind the \
                         host)",
                    );
                }
                self.say(Level::Notice, &text);
            }
            if let Some(what) = &prepared.closed {
                let place = format!("{side} replica {}", self.replicas[side].location());
                self.say(Level::Notice, &closed_for_others(&place, what));
            }
            self.tell_agent(side, prepared.agent);
            if self.role.sides().contains(&side) {
                preflight::space(self.config, &self.around, side, &prepared);
            }
        }
        if let Some(at) = self.lent.locked_at {
            self.began.initiator = self.began.initiator.min(at);
        }
        if self.role == Role::Hub {
            return Ok(());
        }
        preflight::distinct(&mut self.replicas, self.config)
    }

    fn access(&self) -> Access {
        if self.is_dry() {
            Access::ReadOnly
        } else {
            Access::ReadWrite { create: self.config.create_dirs }
        }
    }

    /// Who does the work on a remote replica.
    fn tell_agent(&self, side: Side, agent: Agent) {
        let text = match agent {
            Agent::Here | Agent::Shell => return,
            Agent::Osync => format!("{side}: the osync on that machine does the work there"),
            Agent::ShellBesideOsync(version) => format!(
                "{side}: the osync on that machine speaks version {version} of the protocol, this \
                 one version {}; the shell does the work there",
                crate::replica::peer::protocol::VERSION
            ),
        };
        self.say(Level::Verbose, &text);
    }

    /// Makes one replica ready. In a dry run, one that CREATE_DIRS would make stands there
    /// as an empty one.
    fn prepare_side(&mut self, side: Side, access: Access) -> Result<Prepared, Halt> {
        let error = match self.replicas[side].prepare(access) {
            Ok(prepared) => return Ok(prepared),
            Err(error) => error,
        };
        let is_to_be_made =
            self.is_dry() && self.config.create_dirs && error.trouble == Trouble::Missing;
        if !is_to_be_made {
            return Err(error.into());
        }
        let text = format!(
            "{side} replica {}: it is not there; what follows is the plan for the empty directory \
             that CREATE_DIRS makes",
            error.location
        );
        self.say(Level::Notice, &text);
        let root = match &self.config.replicas[side] {
            Location::Local(path) => path.clone(),
            Location::Ssh(to) => to.path.clone(),
        };
        let stand_in = ToBeMade::new(side, error.location, root);
        let prepared = stand_in.prepared();
        self.replicas[side] = Box::new(stand_in);
        Ok(prepared)
    }

    /// Takes both locks. While another run has one, none is kept: two runs that wait for each
    /// other would wait for ever.
    fn lock(&mut self) -> Result<(), Halt> {
        if !takes_locks(self.config) {
            return Ok(());
        }
        let mut turn = Turn::new(self.config.locking.when_locked);
        loop {
            let busy = match self.try_lock() {
                Err(Halt::Replica(error)) if error.trouble == Trouble::Locked => error,
                done => return done,
            };
            self.replicas.initiator.unlock()?;
            match turn.after(busy) {
                Wait::Over(halt) => return Err(halt),
                Wait::For { pause, word } => {
                    if let Some(word) = word {
                        self.say(Level::Notice, &word);
                    }
                    if self.around.stop.wait(pause).is_some() {
                        self.check_stop()?;
                    }
                }
            }
        }
    }

    fn try_lock(&mut self) -> Result<(), Halt> {
        let request = lock_request(self.config);
        for side in self.role.sides().iter().copied() {
            let taken = match self.lent.ahead.locked.take() {
                Some(taken) => taken?,
                None => self.replicas[side].lock(&request)?,
            };
            fault::point("locked");
            // What this run makes has a ctime by the file system's clock, and that may be behind.
            if taken.at.is_known() {
                self.began[side] = self.began[side].min(taken.at);
            }
            if let Locked::TakenOver { why, warn } = taken.how {
                let level = if warn { Level::Warn } else { Level::Notice };
                if warn {
                    self.around.reporter().problem(level, Some(side), None, &why);
                } else {
                    self.say(level, &format!("{side}: {why}"));
                }
            }
        }
        Ok(())
    }

    /// Scan, load, reconcile, guard, apply, record (spec 4, "The idea").
    fn synchronise(&mut self) -> Result<(), Halt> {
        self.check_stop()?;
        let store = self.open_store()?;
        let too_open = if self.is_dry() { TooOpen::Leave } else { TooOpen::Close };
        for what in store.claim(too_open)? {
            self.say(Level::Notice, &closed_for_others("state directory", &what));
        }
        // from here on there is a place to write down how the run ended
        self.outcome.done = (!self.is_dry()).then(RunRecord::default);
        self.look_up_abilities(&store)?;
        let last_was_whole = self.count_resume(&store)?;
        for side in Side::BOTH {
            self.replicas[side].keep_listing_in(&store.dir().path());
        }
        let (trees, loaded) = std::thread::scope(|scope| {
            let is_wanted = !self.config.flags.initialize;
            let loading = is_wanted.then(|| scope.spawn(|| store.load()));
            (self.scan(), loading.map(ScopedJoinHandle::join))
        });
        let mut trees = trees?;
        self.outcome.reach = Reach::Part;
        self.outcome.files = files(&trees.initiator).max(files(&trees.target));
        fault::point("scanned");
        self.outcome.compared = trees.initiator.len().max(trees.target.len()) as u64;
        self.check_stop()?;
        let Some(loaded) = loaded else {
            self.take_out_left_overs(&store, &mut trees)?;
            let identities = self.identities(&store, &trees, None)?;
            let (mut trees, spelled) = self.agree_on_spelling(trees, &Baseline::empty())?;
            for problem in &spelled.problems {
                self.around.reporter().tell(Event::Problem(problem));
            }
            self.read_contents(&mut trees, &Baseline::empty(), &store)?;
            self.make_state_of_target()?;
            return self.initialize(&store, &trees, identities);
        };
        let mut loaded = loaded.map_err(|_| Halt::fatal("reading the baseline broke off"))??;
        self.tell_notes(&loaded.notes);
        let identities = self.identities(&store, &trees, Some(&loaded.baseline));
        let mut danger = None;
        let identities = match identities {
            // a dry run shows what is at stake
            Err(Halt::Danger(found)) if self.is_dry() => {
                danger = Some(found);
                Pair::default()
            }
            found => found?,
        };
        // Not before it is known that this is the right place for state files.
        if matches!(self.intent, Intent::Synchronise) {
            // a plan or an undo may yet be refused, and then nothing was begun
            self.note_action(&store, LastAction::ReplicaTree)?;
        }
        self.take_out_left_overs(&store, &mut trees)?;
        fault::point("left overs removed");
        let (mut trees, spelled) = self.agree_on_spelling(trees, &loaded.baseline)?;
        if let Some(baseline) = spelled.baseline {
            loaded.respell(baseline);
        }
        self.check_saved_plan(&loaded.baseline, &identities)?;
        self.leave_alone_what_is_not_mounted(&mut trees, &loaded.baseline)?;
        if !self.intent.is_maintenance() {
            self.read_contents(&mut trees, &loaded.baseline, &store)?;
        }
        let history = History { store: &store, loaded: &loaded, identities };
        match self.intent {
            Intent::Undo(request) => return self.undo(request, &history, &mut trees),
            Intent::Scrub(request) => return self.scrub(request, &history, &mut trees),
            Intent::Settle(settlement) => {
                return self.settle_damage(settlement, &history, &mut trees);
            }
            Intent::Synchronise | Intent::Plan(_) | Intent::Apply { .. } => {}
        }
        let mut plan = self.plan(&trees, &loaded.baseline, &store)?;
        plan.respellings = spelled.respellings;
        plan.problems.extend(spelled.problems);
        let danger = danger.or_else(|| guard::mass_deletion(&trees, &plan, &self.config.policy));
        if let Some(danger) = danger {
            if self.is_dry() {
                self.tell_of_plan(&plan);
                self.tell_dry(&trees, &plan);
            } else if last_was_whole {
                // A run that a guard stopped has begun nothing that the next one could resume.
                self.note_action(&store, LastAction::Synced)?;
            }
            return Err(Halt::Danger(danger));
        }
        self.tell_of_plan(&plan);
        self.tell_left(&plan);
        fault::point("planned");
        if self.is_dry() {
            self.tell_dry(&trees, &plan);
            self.put_down_plan(&plan, &trees, &loaded.baseline, &history.identities);
            return Ok(());
        }
        self.check_stop()?;
        self.make_state_of_target()?;
        self.forget_fresh_contents(&mut trees);
        self.apply_and_record(&history, &mut trees, &plan)?;
        if self.config.flags.watch() == Watch::Off && self.role == Role::Whole {
            // The program ends now, and the system takes all memory back at once. A million
            // entries given back one by one would take their time.
            std::mem::forget((trees, plan, loaded));
        }
        Ok(())
    }

    fn open_store(&self) -> Result<StateStore, Halt> {
        let dir = self.state_dir_in_place(Side::Initiator)?;
        Ok(StateStore::open(dir, &self.config.instance_id)?)
    }

    /// The instances of the other pairs of the star that this pair is a part of.
    fn other_pairs(&self, dir: &StateDir) -> Result<Vec<String>, StateError> {
        let Some(star) = &self.config.star else { return Ok(Vec::new()) };
        let mut instances = StateStore::open(dir.clone(), star)?.instances_of_star()?;
        instances.retain(|instance| *instance != self.config.instance_id);
        Ok(instances)
    }

    /// Where it is noted how the run ended and what was told of it.
    fn note_places(&self) -> NotePlaces {
        let own = self.state_dir_in_place(Side::Initiator).ok();
        let Config { instance_id, replicas, .. } = self.config;
        match &self.config.star {
            Some(star) => {
                let own = own.map(|own| (own, instance_id.as_str()));
                NotePlaces::of_target(own, star, replicas)
            }
            None => NotePlaces::new(own, instance_id, &replicas.initiator.to_string()),
        }
    }

    /// The state directory of a side. It is found by its path: a mount point that has lost its disk
    /// during the run must not get a state of its own (spec 8, "Absent").
    fn state_dir_in_place(&self, side: Side) -> Result<StateDir, ReplicaError> {
        if let Some(dir) = &self.config.state_dirs[side] {
            return Ok(StateDir::Custom(dir.clone()));
        }
        self.replicas[side].check_in_place()?;
        Ok(StateDir::InReplica(self.replicas[side].root().to_owned()))
    }

    /// A local target has a state directory too, empty as osync 1.3 leaves it (spec 3). It is not made
    /// before the guards have passed: a mount point without its disk stays as it is.
    fn make_state_of_target(&self) -> Result<(), Halt> {
        if !self.is_dry() && !self.config.replicas.target.is_remote() {
            self.state_dir_in_place(Side::Target)?.make_if_missing()?;
        }
        Ok(())
    }

    fn tell_notes(&self, notes: &[Note]) {
        for note in notes {
            match note.level {
                NoteLevel::Notice => self.say(Level::Notice, &note.text),
                NoteLevel::Warning => {
                    self.around.reporter().problem(Level::Warn, None, None, &note.text);
                }
            }
        }
    }

    /// Asks the pure room what should happen; where it must know whether two files hold
    /// the same, they are compared and it is asked again.
    fn plan(
        &mut self,
        trees: &Pair<Tree>,
        baseline: &Baseline,
        store: &StateStore,
    ) -> Result<Plan, Halt> {
        let decide = |rules: &Rules| reconcile(trees, baseline, rules);
        self.plan_by(trees, store, decide, |plan| &mut plan.doubts)
    }

    /// Asks until nothing is in doubt any more that can be settled.
    fn plan_by<P, E: std::error::Error>(
        &mut self,
        trees: &Pair<Tree>,
        store: &StateStore,
        decide: impl Fn(&Rules) -> Result<P, E>,
        doubts: impl Fn(&mut P) -> &mut Vec<Doubt>,
    ) -> Result<P, Halt> {
        let mut rules = self.rules(store)?;
        rules.damaged = DamagedNodes::find(trees, &self.never_transferred(store, trees)?);
        loop {
            let mut plan = decide(&rules).map_err(|e| Halt::state(&e))?;
            let mut open = std::mem::take(doubts(&mut plan));
            open.retain(|doubt| !rules.settled.contains_key(doubt));
            if open.is_empty() {
                return Ok(plan);
            }
            self.check_stop()?;
            open.sort_unstable_by_key(|doubt| (doubt.initiator, doubt.target));
            open.dedup();
            self.compare_contents(trees, open, &mut rules.settled, store)?;
        }
    }

    fn rules(&self, store: &StateStore) -> Result<Rules, Halt> {
        let mut policy = self.config.policy.clone();
        // what is not as recorded is told path by path there
        if matches!(self.intent, Intent::Undo(_)) {
            policy.detect_moves = false;
            policy.conflict_copy = ConflictCopy::Backup;
        }
        Ok(Rules {
            policy,
            preserve: self.compared(),
            first_compared: self.newly_compared(store)?,
            can_chown: self.can_chown,
            abilities: self.file_systems.abilities.clone(),
            longest_path: self.longest_path(),
            was_brought: self.paths_under_way(),
            explains_absence_at: self.paths_making_way(),
            writes: self.interrupted_writes,
            damaged: DamagedNodes::default(),
            settled: HashMap::new(),
            filter: Filter::new(&self.config.selection.rules),
            date: self.date(),
            saved: self.intent.saved().cloned(),
        })
    }

    /// What stands in the names of copies beside: a saved plan knows them by its own date.
    fn date(&self) -> String {
        match self.intent {
            Intent::Apply { origin, .. } if !origin.date.is_empty() => origin.date.clone(),
            _ => self.kept_suffix.trim_start_matches('.').to_owned(),
        }
    }

    fn paths_under_way(&self) -> BTreeMap<RelPath, InflightPath> {
        let paths = self.interrupted.iter().flat_map(|inflight| &inflight.paths);
        let flying = paths.filter(|noted| noted.part != Part::MakesWay);
        flying.map(|flying| (flying.path.clone(), flying.clone())).collect()
    }

    fn paths_making_way(&self) -> BTreeMap<RelPath, Vec<InflightPath>> {
        let mut noted: BTreeMap<RelPath, Vec<InflightPath>> = BTreeMap::new();
        for one in self.interrupted.iter().flat_map(|inflight| &inflight.paths) {
            if one.part != Part::Metadata {
                noted.entry(one.path.clone()).or_default().push(one.clone());
            }
        }
        noted
    }

    /// What is compared: of what is preserved, all that can be read on both sides.
    fn compared(&self) -> Preserve {
        let mut preserve = self.preserve;
        // rsync's -A brings the permissions along: a list holds them
        preserve.permissions |= preserve.acl;
        for (_, unread) in self.unread.iter() {
            preserve.acl &= !unread.acl;
            preserve.xattr &= !unread.xattr;
        }
        preserve
    }

    /// How long a path below both roots may be: rsync takes the root, a slash and the path together.
    fn longest_path(&self) -> usize {
        let root = |side: Side| self.replicas[side].root().as_os_str().len();
        LONGEST_PATH.saturating_sub(root(Side::Initiator).max(root(Side::Target)) + 1)
    }
}

//! `osync scrub`: reads what the last run recorded and holds it against digests (spec 9, "Scrub").
//!
//! Both sides are read at the same time, portion by portion. A copy that does not hold what it
//! should is read a second time before it is called damaged: what is being written meanwhile is left
//! for next time. Damaged files are noted at once and digests every now and then, so that a scrub
//! that is killed goes on where it was.

use super::Task;
use super::closing::Halt;
use super::contents::{BATCH_BYTES, Item, KEEP_EVERY, is_before, portions, sort};
use super::journal::millis;
use super::recording::History;
use crate::process::fault;
use crate::reconcile::damaged::DamagedNodes;
use crate::reconcile::record::Achieved;
use crate::reconcile::scrub::{
    Contents, Due, Finding, Percent, RecordedFile, RecordedFiles, Relation, Replacement, choose,
    judge, may_be_replaced, recorded_files, replace,
};
use crate::reconcile::{Act, PathId, Plan, Rules};
use crate::replica::{DigestKind, PathError, in_work_dir};
use crate::report::scrub::{Damage, DamagedPath, Remedy, Scrubbed};
use crate::report::{Event, Level};
use crate::state::journal::{DamageRow, Look};
use crate::state::{
    Baseline, ContentDigest, DamagedFile, Digests, FileDigests, Held, InflightPath, Integrity,
    Part, Seen, StateStore,
};
use crate::tree::same::{FileLook, Inodes, is_as_scanned, looks_alike};
use crate::tree::{Entry, Inode, Kind, NodeId, Pair, RelPath, Side, Stamp, Tree};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

/// What a scrub is to do.
#[derive(Debug, Clone, Copy)]
pub struct ScrubRequest {
    /// How much of all files it reads.
    pub share: Percent,
    /// After this time it begins nothing more; `None`: it takes what it takes.
    pub time: Option<Duration>,
    /// What is done about damaged files.
    pub cure: Cure,
    /// How many bytes a second it reads on each side, on average; `None`: as many as it can.
    pub rate: Option<u64>,
}

/// What a scrub does about damaged files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cure {
    /// It names them.
    NameOnly,
    /// It replaces them by sound copies.
    Heal,
}

/// Somebody's word which copy of a damaged path is right (`osync conflicts … take`).
#[derive(Debug, Clone, Copy)]
pub struct Settlement<'a> {
    /// The path.
    pub path: &'a RelPath,
    /// Whose copy the other side is to get.
    pub from: Side,
}

/// Reading at a limited rate pauses so many times a second.
const PAUSES: u64 = 4;

/// No more than this part of the time goes into keeping the digests.
const PART_FOR_KEEPING: u32 = 20;

/// A path with a damaged copy.
struct Found {
    path: RelPath,
    damage: Damage,
    kind: DigestKind,
    /// What the sound copy holds, if there is one.
    sound: Option<ContentDigest>,
    nodes: Pair<Option<NodeId>>,
}

impl Found {
    /// The row of the journal that tells of it.
    fn row(&self, trees: &Pair<Tree>) -> DamageRow {
        let look = |side: Side| self.nodes[side].map(|id| Look::of(trees[side].entry(id)));
        DamageRow {
            path: self.path.clone(),
            reason: self.damage.reason(),
            winner: self.damage.sides()[0].other(),
            looks: Pair::from_fn(look),
        }
    }
}

/// What stands at a path now, or why that cannot be told.
type Now = Result<Option<Entry>, PathError>;

/// What was replaced, and where the damaged copy is kept.
type Healed = BTreeMap<RelPath, Option<RelPath>>;

impl Task<'_> {
    /// The files that are known to be damaged.
    pub(super) fn damaged_files(&self, store: &StateStore) -> Result<Vec<DamagedFile>, Halt> {
        let (damaged, integrity) = store.damaged_files()?;
        if integrity == Integrity::Torn {
            let text = "the list of damaged files is torn, as a power cut or a failing disk leaves \
                        it: a damaged file may be transferred until 'osync scrub' finds it again";
            self.around.reporter().problem(Level::Warn, None, None, text);
        }
        Ok(damaged)
    }

    /// The files that no run transfers: those that are known to be damaged, and in a star those of
    /// the hub that the scrub of another target has found.
    pub(super) fn never_transferred(
        &self,
        store: &StateStore,
        trees: &Pair<Tree>,
    ) -> Result<Vec<DamagedFile>, Halt> {
        let mut damaged = self.damaged_files(store)?;
        let hub = &trees.initiator;
        // what was healed since is another file under the old name, and that list is not told of it
        let was_replaced = |one: &DamagedFile| {
            let now = hub.find(&one.seen.path).map(|id| hub.entry(id));
            now.is_some_and(|now| {
                one.seen.look.has_time_and_size_of(now) && one.seen.look.inode() != now.inode()
            })
        };
        for instance in self.other_pairs(store.dir())? {
            let found = self.damaged_files(&StateStore::open(store.dir().clone(), &instance)?)?;
            let is_of_hub = |one: &DamagedFile| one.side == Side::Initiator && !was_replaced(one);
            damaged.extend(found.into_iter().filter(is_of_hub));
        }
        Ok(damaged)
    }

    /// Forgets the damaged files that are no longer there, or were edited. Gives their paths.
    pub(super) fn forget_damage(
        &self,
        store: &StateStore,
        trees: &Pair<Tree>,
    ) -> Result<Vec<RelPath>, Halt> {
        let (damaged, integrity) = store.damaged_files()?;
        if damaged.is_empty() || integrity == Integrity::Torn {
            return Ok(Vec::new());
        }
        let count = damaged.len();
        let (left, gone) = still_damaged(trees, damaged);
        if left.len() < count {
            store.set_damaged_files(&left)?;
        }
        Ok(gone)
    }

    /// Reads files, names the damaged ones, and heals them if that is asked for.
    pub(super) fn scrub(
        &mut self,
        request: ScrubRequest,
        history: &History<'_>,
        trees: &mut Pair<Tree>,
    ) -> Result<(), Halt> {
        for side in Side::BOTH {
            self.replicas[side].lower_priority()?;
        }
        let (store, baseline) = (history.store, &history.loaded.baseline);
        if baseline.is_empty() {
            return Err(Halt::fatal(
                "no run of this task has recorded anything so far; let a run finish first, then scrub",
            ));
        }
        let rules = self.rules(store)?;
        let recorded =
            recorded_files(trees, baseline, &rules).map_err(|error| Halt::state(&error))?;
        let mut memory = self.remember_digests(store)?;
        memory.follow_renames(&recorded.files, trees);
        let scrubbed = Scrubbed {
            known: recorded.files.len() as u64 + recorded.unread_files,
            changed: recorded.changed,
            unread: recorded.unread_copies,
            ..Scrubbed::default()
        };
        let damaged = DamagedNodes::find(trees, &memory.damaged);
        let mut reading = Reading {
            task: self,
            trees,
            inodes: recorded.inodes,
            request,
            memory,
            damaged: Pair::from_fn(|side| damaged.names(side, trees)),
            scrubbed,
            found: Vec::new(),
            sound: Vec::new(),
        };
        let read = reading.all(&recorded.files);
        let unrecorded = reading.report_unrecorded(&recorded.files);
        // what was read by then counts, however the reading ended
        let Reading { mut memory, scrubbed, found, mut sound, .. } = reading;
        self.outcome.scrub = Some(scrubbed);
        sound.extend(memory.forget_vanished(baseline, trees)?);
        self.keep_noted(&mut memory)?;
        fault::point("scrubbed");
        let healed = match (&read, request.cure) {
            (Ok(()), Cure::Heal) => {
                self.heal(history, trees, &rules, &recorded, &mut memory, &found)
            }
            _ => Ok(Healed::new()),
        };
        self.tell_damage(request.cure, trees, found, healed.as_ref().ok());
        if let Some(done) = &mut self.outcome.done {
            done.sound = sound;
        }
        read.and(unrecorded).and(healed.map(drop))
    }

    fn remember_digests<'s>(&self, store: &'s StateStore) -> Result<Memory<'s>, Halt> {
        let (digests, integrity) = store.digests()?;
        if integrity == Integrity::Torn {
            let text = "the digests of contents are torn, as a power cut or a failing disk leaves \
                        them; those that are lost are begun anew";
            self.around.reporter().problem(Level::Warn, None, None, text);
        }
        Ok(Memory {
            store,
            digests,
            damaged: self.damaged_files(store)?,
            kept: Instant::now(),
            keeping: Duration::ZERO,
        })
    }

    /// Writes down all that the scrub has learned.
    fn keep_noted(&self, memory: &mut Memory<'_>) -> Result<(), Halt> {
        if self.is_dry() {
            return Ok(());
        }
        memory.keep_damaged()?;
        memory.keep_digests()
    }
}

/// What a scrub knows when it begins, and learns.
struct Memory<'s> {
    store: &'s StateStore,
    digests: Digests,
    damaged: Vec<DamagedFile>,
    /// When the digests were kept last.
    kept: Instant,
    /// How long that took.
    keeping: Duration,
}

impl Memory<'_> {
    /// What is known of a file goes along when it is renamed.
    fn follow_renames(&mut self, files: &[RecordedFile], trees: &Pair<Tree>) {
        let is_new = |file: &&RecordedFile| !self.digests.contains_key(&file.path);
        let new: Vec<&RecordedFile> = files.iter().filter(is_new).collect();
        if new.is_empty() {
            return;
        }
        let mut by_inode: HashMap<(Side, Inode), &FileDigests> = HashMap::new();
        for file in self.digests.values() {
            for (side, held) in file.held.iter() {
                let inode = held.as_ref().and_then(|held| held.look.inode());
                by_inode.extend(inode.map(|inode| ((side, inode), file)));
            }
        }
        let known = |file: &RecordedFile| {
            let of_side = |side: Side| {
                let inode = trees[side].entry(file.copies[side]?).inode()?;
                by_inode.get(&(side, inode)).copied()
            };
            match (of_side(Side::Initiator), of_side(Side::Target)) {
                (Some(one), Some(other)) if one == other => Some(one.clone()),
                _ => None,
            }
        };
        let renamed: Vec<(RelPath, FileDigests)> =
            new.iter().filter_map(|file| Some((file.path.clone(), known(file)?))).collect();
        self.digests.extend(renamed);
    }

    /// Forgets files that no longer exist: of digests, those that the baseline does not have; of
    /// damaged files, those that were edited or deleted. Gives the paths of the latter.
    fn forget_vanished(
        &mut self,
        baseline: &Baseline,
        trees: &Pair<Tree>,
    ) -> Result<Vec<RelPath>, Halt> {
        let mut recorded = BTreeSet::new();
        for item in baseline.records() {
            recorded.insert(item.map_err(|error| Halt::state(&error))?.0);
        }
        self.digests.retain(|path, _| recorded.contains(path));
        let (left, gone) = still_damaged(trees, std::mem::take(&mut self.damaged));
        self.damaged = left;
        Ok(gone)
    }

    fn keep_damaged(&self) -> Result<(), Halt> {
        let (noted, integrity) = self.store.damaged_files()?;
        if noted != self.damaged || integrity == Integrity::Torn {
            self.store.set_damaged_files(&self.damaged)?;
            fault::point("damage noted");
        }
        Ok(())
    }

    /// Keeps the digests if it was long ago.
    fn keep_digests_in_time(&mut self) -> Result<(), Halt> {
        let distance = KEEP_EVERY.max(self.keeping * PART_FOR_KEEPING);
        if self.kept.elapsed() < distance { Ok(()) } else { self.keep_digests() }
    }

    fn keep_digests(&mut self) -> Result<(), Halt> {
        let began = Instant::now();
        self.store.set_digests(&self.digests)?;
        fault::point("digests kept");
        (self.kept, self.keeping) = (Instant::now(), began.elapsed());
        Ok(())
    }

    /// What a copy held when it was sound, if it is still the file of then.
    fn known(&self, item: &Item<'_>, side: Side, inodes: Inodes) -> Option<ContentDigest> {
        let file = self.digests.get(item.path)?;
        let held = file.held[side].as_ref().filter(|_| file.algorithm == sort(item.kind))?;
        let now = item.entries[side].as_ref()?;
        held.look.claims_content_of(now, inodes).then_some(held.digest)
    }

    /// Notes what the sound copies of a path hold.
    fn learn(&mut self, item: &Item<'_>, sound: Pair<Option<Held>>) {
        let algorithm = sort(item.kind);
        let checked = millis_now();
        if sound == Pair::default() && !self.digests.contains_key(item.path) {
            return;
        }
        let file = self.digests.entry(item.path.clone()).or_insert_with(|| FileDigests {
            algorithm,
            checked,
            held: Pair::default(),
        });
        file.checked = checked;
        if file.algorithm != algorithm {
            (file.algorithm, file.held) = (algorithm, Pair::default());
        }
        for (side, held) in sound {
            if held.is_some() {
                file.held[side] = held;
            }
        }
    }

    /// Takes a file off the list of damaged ones, because what stands at the path is sound or was
    /// replaced. Says whether it was on it. If another of its names, as they are `now_named`, still
    /// holds what was damaged, it stays on the list under that one.
    fn lift(&mut self, side: Side, path: &RelPath, look: &Entry, now_named: &[Seen]) -> bool {
        let is_one = |one: &DamagedFile| one.side == side && one.is(path, look);
        if !self.damaged.iter().any(is_one) {
            return false;
        }
        let (lifted, mut left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.damaged).into_iter().partition(is_one);
        for one in &lifted {
            let inode = one.seen.look.inode();
            let mut names: Vec<&Seen> = now_named.iter().collect();
            names.retain(|name| inode.is_some() && name.look.inode() == inode);
            if names.iter().all(|name| name.path != *path) {
                let still = names.first().map(|name| (*name).clone());
                let is_known = |seen: &Seen| {
                    left.iter().any(|one| one.side == side && one.seen.path == seen.path)
                };
                let still = still.filter(|seen| !is_known(seen));
                left.extend(still.map(|seen| DamagedFile { side, seen }));
            }
        }
        self.damaged = left;
        true
    }

    fn mark(&mut self, side: Side, seen: Seen) {
        self.damaged.retain(|one| one.side != side || one.seen.path != seen.path);
        self.damaged.push(DamagedFile { side, seen });
    }
}

/// The files that are still damaged, and the paths of those that were edited or deleted, or are known
/// by their new names.
fn still_damaged(
    trees: &Pair<Tree>,
    damaged: Vec<DamagedFile>,
) -> (Vec<DamagedFile>, Vec<RelPath>) {
    let nodes = DamagedNodes::find(trees, &damaged);
    let stands =
        |one: &DamagedFile| nodes.is_damaged(one.side, trees[one.side].find(&one.seen.path));
    let named: HashSet<(Side, Inode)> = damaged
        .iter()
        .filter(|one| stands(one))
        .filter_map(|one| Some((one.side, one.seen.look.inode()?)))
        .collect();
    let is_renamed = |one: &DamagedFile| {
        let inode = one.seen.look.inode();
        !stands(one) && inode.is_some_and(|inode| named.contains(&(one.side, inode)))
    };
    let is_left = |one: &DamagedFile| nodes.has(trees, one) && !is_renamed(one);
    let (left, gone): (Vec<_>, Vec<_>) = damaged.iter().cloned().partition(is_left);
    let is_marked = |path: &RelPath| left.iter().any(|one| one.seen.path == *path);
    let mut paths: Vec<RelPath> = gone.into_iter().map(|one| one.seen.path).collect();
    paths.retain(|path| !is_marked(path));
    (left, paths)
}

fn millis_now() -> u64 {
    u64::try_from(millis(SystemTime::now())).unwrap_or_default()
}

/// The reading of files, under way.
struct Reading<'r, 'a, 's> {
    task: &'r mut Task<'a>,
    trees: &'r Pair<Tree>,
    inodes: Pair<Inodes>,
    request: ScrubRequest,
    memory: Memory<'s>,
    /// All names of the files that were known to be damaged when it began.
    damaged: Pair<Vec<Seen>>,
    scrubbed: Scrubbed,
    found: Vec<Found>,
    /// Paths that were known to be damaged, and are sound now.
    sound: Vec<RelPath>,
}

impl Reading<'_, '_, '_> {
    /// Reads those that are due.
    fn all(&mut self, files: &[RecordedFile]) -> Result<(), Halt> {
        let kinds: Vec<DigestKind> = self.task.common_digests().collect();
        let Some(best) = kinds.first().copied() else {
            return Err(Halt::fatal("both sides have no common program to make digests with"));
        };
        let damaged = DamagedNodes::find(self.trees, &self.memory.damaged);
        let due = |file: &RecordedFile| Due {
            is_damaged: damaged.any_copy_is_damaged(file.copies),
            checked: self.memory.digests.get(&file.path).map_or(0, |known| known.checked),
            bytes: self.bytes(file),
        };
        let due: Vec<Due> = files.iter().map(due).collect();
        let chosen = choose(&due, self.request.share);
        let most = match self.request.rate {
            Some(rate) => (rate / PAUSES).clamp(1, BATCH_BYTES),
            None => BATCH_BYTES,
        };
        let end = self.request.time.map(|time| Instant::now() + time);
        let mut done = 0;
        for portion in portions(&chosen, self.task.batch(), most, |at| due[*at].bytes) {
            if end.is_some_and(|end| Instant::now() >= end) {
                break;
            }
            self.task.check_stop()?;
            let began = Instant::now();
            let around = self.task.around;
            around.reporter().tell(Event::Comparing(done, chosen.len() as u64));
            let items = portion.iter().map(|at| self.item(&files[*at], &kinds, best)).collect();
            let read = self.portion(items);
            around.reporter().tell(Event::Quiet);
            read?;
            done += portion.len() as u64;
            self.pause(began, portion.iter().map(|at| due[*at].bytes).sum());
        }
        Ok(())
    }

    /// What is to be read of a file, on the side that has more of it.
    fn bytes(&self, file: &RecordedFile) -> u64 {
        let size = |side: Side| file.copies[side].map(|id| self.trees[side].entry(id).size);
        Side::BOTH.into_iter().filter_map(size).max().unwrap_or(0)
    }

    /// How a file is read: with the algorithm of the digests that are known of it, if both sides
    /// still have it.
    fn item<'f>(&self, file: &'f RecordedFile, kinds: &[DigestKind], best: DigestKind) -> Item<'f> {
        let known = self.memory.digests.get(&file.path).map(|known| known.algorithm);
        let kind = kinds.iter().find(|kind| Some(sort(**kind)) == known);
        let entry = |side: Side| file.copies[side].map(|id| self.trees[side].entry(id).clone());
        let kind = kind.copied().unwrap_or(best);
        Item { relation: file.relation, ..Item::new(&file.path, kind, Pair::from_fn(entry)) }
    }

    fn portion(&mut self, mut items: Vec<Item<'_>>) -> Result<(), Halt> {
        self.task.read_items(&mut items)?;
        self.read_again(&mut items)?;
        fault::point("read");
        for item in &items {
            self.judge(item)?;
        }
        if !self.task.is_dry() {
            self.memory.keep_damaged()?;
            self.memory.keep_digests_in_time()?;
        }
        Ok(())
    }

    fn finding(&self, item: &Item<'_>) -> Finding {
        let copies = Pair::from_fn(|side: Side| {
            let found = item.digest(side)?;
            Some(Contents { known: self.memory.known(item, side, self.inodes[side]), found })
        });
        judge(&copies, item.relation)
    }

    /// Looks again at what changed while it was read, and at what seems to be damaged: what is
    /// not as it was, or reads differently, is being written.
    fn read_again(&mut self, items: &mut [Item<'_>]) -> Result<(), Halt> {
        let is_doubtful = |at: &usize| {
            let item = &items[*at];
            let has_changed =
                |side: &Side| matches!(item.read[*side], Some(Err(PathError::Changed)));
            Side::BOTH.iter().any(has_changed) || !self.finding(item).suspects().is_empty()
        };
        let doubtful: Vec<usize> = (0..items.len()).filter(is_doubtful).collect();
        if doubtful.is_empty() {
            return Ok(());
        }
        let paths: Vec<RelPath> = doubtful.iter().map(|at| items[*at].path.clone()).collect();
        let mut again: Vec<Item<'_>> = Vec::new();
        for (at, now) in doubtful.iter().zip(self.task.now(&paths)?) {
            let item = &items[*at];
            let now = now.map(|now| now.ok().flatten());
            let steady = |side: Side| {
                let (scanned, now) = (item.entries[side].as_ref()?, now[side].as_ref()?);
                let was_read = matches!(item.read[side], Some(Ok(_)));
                let is_touched = was_read && now.ctime != scanned.ctime;
                (is_as_scanned(scanned, now) && !is_touched).then(|| now.clone())
            };
            let entries = Pair::from_fn(steady);
            again.push(Item { entries, read: Pair::default(), ..*item });
        }
        self.task.read_items(&mut again)?;
        for (at, again) in doubtful.iter().zip(again) {
            let item = &mut items[*at];
            for side in Side::BOTH {
                let is_same = match (&item.read[side], &again.read[side]) {
                    (Some(Ok(first)), Some(Ok(second))) => first == second,
                    (Some(Err(PathError::Changed)), Some(Ok(_))) => true,
                    (Some(Err(_)), _) | (None, _) => continue,
                    (Some(Ok(_)), _) => false,
                };
                item.read[side] = match is_same {
                    true => again.read[side].clone(),
                    false => Some(Err(PathError::Changed)),
                };
            }
        }
        Ok(())
    }

    /// Decides about a path, and notes what follows.
    fn judge(&mut self, item: &Item<'_>) -> Result<(), Halt> {
        let finding = self.finding(item);
        for side in Side::BOTH {
            let Some(entry) = &item.entries[side] else { continue };
            match &item.read[side] {
                Some(Ok(_)) => self.scrubbed.bytes += entry.size,
                Some(Err(PathError::Vanished | PathError::Changed)) | None => {
                    self.scrubbed.unread += 1;
                }
                Some(Err(error)) => {
                    self.scrubbed.unread += 1;
                    let reporter = self.task.around.reporter();
                    let text = format!("its content cannot be checked: {error}");
                    reporter.problem(Level::Error, Some(side), Some(item.path), &text);
                }
            }
        }
        if finding == Finding::NotJudged {
            return Ok(());
        }
        self.scrubbed.files += 1;
        self.scrubbed.new += u64::from(finding == Finding::New);
        let suspects = finding.suspects();
        // What was touched so lately that a further change might show no other time is no evidence.
        let held = |side: Side| {
            let entry = item.entries[side].as_ref().filter(|_| !suspects.contains(&side))?;
            let is_old = is_before(entry.ctime, self.task.began[side]);
            let digest = item.digest(side).filter(|_| is_old)?;
            Some(Held { digest, look: FileLook::of(entry) })
        };
        self.memory.learn(item, Pair::from_fn(held));
        let mut was_damaged = false;
        for side in Side::BOTH {
            let Some(entry) = &item.entries[side] else { continue };
            if suspects.contains(&side) {
                self.memory.mark(side, Seen::of(item.path.clone(), entry));
            } else if item.digest(side).is_some() {
                let now_named = &self.damaged[side];
                was_damaged |= self.memory.lift(side, item.path, entry, now_named);
            }
        }
        let damage = match finding {
            Finding::Damaged(damage) => damage,
            Finding::NotJudged | Finding::Sound | Finding::New => {
                if was_damaged {
                    self.sound.push(item.path.clone());
                }
                return Ok(());
            }
        };
        let (damage, sound) = match damage {
            Damage::One(on) => (damage, item.digest(on.other())),
            Damage::Alone(on) => match self.healed_since(item, on)? {
                Some(sound) => (Damage::One(on), Some(sound)),
                None => (damage, None),
            },
            Damage::Both | Damage::Either => (damage, None),
        };
        let nodes = Pair::from_fn(|side| self.trees[side].find(item.path));
        let (path, kind) = (item.path.clone(), item.kind);
        self.found.push(Found { path, damage, kind, sound, nodes });
        Ok(())
    }

    /// What the other side's copy of a damaged one holds, if that is what the damaged one held when
    /// it was sound: the turn of another target of a star has healed the hub's, which therefore is
    /// another file than the recorded one.
    fn healed_since(&mut self, item: &Item<'_>, on: Side) -> Result<Option<ContentDigest>, Halt> {
        let other = on.other();
        if item.relation != Relation::InStep || item.entries[other].is_some() {
            return Ok(None);
        }
        let now = self.trees[other].find(item.path).map(|id| self.trees[other].entry(id));
        let known = self.memory.known(item, on, self.inodes[on]);
        let (Some(known), Some(here), Some(now)) = (known, &item.entries[on], now) else {
            return Ok(None);
        };
        if now.kind != Kind::File || !looks_alike(here, now) {
            return Ok(None);
        }
        let file = [(item.path.clone(), now.clone())];
        let read = self.task.replicas[other].digest(item.kind, &file)?;
        Ok(matches!(read.as_slice(), [Ok(found)] if *found == known).then_some(known))
    }

    /// Reports the names of damaged files that are not as recorded, because no run transfers them.
    /// From now on the files are known by these names too.
    fn report_unrecorded(&mut self, files: &[RecordedFile]) -> Result<(), Halt> {
        let damaged = DamagedNodes::find(self.trees, &self.memory.damaged);
        let Some(kind) = self.task.common_digests().next().filter(|_| !damaged.is_empty()) else {
            return Ok(());
        };
        for side in Side::BOTH {
            let recorded: HashSet<NodeId> =
                files.iter().filter_map(|file| file.copies[side]).collect();
            let mut names = damaged.names(side, self.trees);
            names.retain(|name| {
                self.trees[side].find(&name.path).is_some_and(|id| !recorded.contains(&id))
            });
            names.sort_by(|a, b| a.path.cmp(&b.path));
            for name in names {
                let nodes = Pair::from_fn(|side| self.trees[side].find(&name.path));
                let (path, damage) = (name.path.clone(), Damage::Alone(side));
                let now = nodes[side].map(|id| self.trees[side].entry(id));
                if let Some(now) = now
                    && self.was_healed(side, &name, now)?
                {
                    self.memory.lift(side, &path, now, &self.damaged[side]);
                    self.sound.push(path);
                    continue;
                }
                self.memory.mark(side, name);
                self.found.push(Found { path, damage, kind, sound: None, nodes });
            }
        }
        Ok(())
    }

    /// Whether another file stands under the name of a damaged one, and holds what that held when it
    /// was sound: another task of this replica has healed it, the turn of another target of a star,
    /// say.
    fn was_healed(&mut self, side: Side, name: &Seen, now: &Entry) -> Result<bool, Halt> {
        let is_same = |one: &DamagedFile| one.side == side && one.seen.look.inode() == now.inode();
        let kind_of = |algorithm: u8| {
            let mut kinds = self.task.common_digests();
            kinds.find(|kind| sort(*kind) == algorithm)
        };
        let known =
            self.memory.digests.get(&name.path).and_then(|file| {
                Some((kind_of(file.algorithm)?, file.held[side].as_ref()?.digest))
            });
        let Some((kind, digest)) = known.filter(|_| !self.memory.damaged.iter().any(is_same))
        else {
            return Ok(false);
        };
        let file = [(name.path.clone(), now.clone())];
        let read = self.task.replicas[side].digest(kind, &file)?;
        Ok(matches!(read.as_slice(), [Ok(found)] if *found == digest))
    }

    /// Waits as long as so many bytes have to take at least.
    fn pause(&self, began: Instant, bytes: u64) {
        let Some(rate) = self.request.rate else { return };
        let least = Duration::from_millis(bytes.saturating_mul(1000) / rate.max(1));
        let left = least.saturating_sub(began.elapsed());
        if !left.is_zero() {
            // whether it is to stop is looked at before the next portion
            let _ = self.task.around.stop.wait(left);
        }
    }
}

// From here on: what a run notes of what it transferred (SCRUB).

impl Task<'_> {
    /// Notes the digests of the files that this run has brought over. They only save a scrub time,
    /// so a failure is no reason to stop.
    pub(super) fn note_transferred(
        &mut self,
        store: &StateStore,
        trees: &Pair<Tree>,
        plan: &Plan,
        achieved: &Achieved,
    ) -> Result<(), Halt> {
        let Some(kind) = self.common_digest().filter(|_| self.config.scrub) else { return Ok(()) };
        let brought = brought(trees, plan, achieved, self.began);
        let here = brought.iter().map(|(path, copies)| (path.clone(), copies.initiator.clone()));
        let here: Vec<(RelPath, Entry)> = here.collect();
        let mut digests = Digests::new();
        // both copies hold the same: rsync has proven it
        for portion in portions(&here, self.batch(), BATCH_BYTES, |(_, entry)| entry.size) {
            if self.around.stop.reason().is_some() {
                break;
            }
            let read = self.replicas.initiator.digest(kind, portion)?;
            for ((path, _), digest) in portion.iter().zip(read) {
                let (Ok(digest), Some(copies)) = (digest, brought.get(path)) else { continue };
                let held = |side: Side| Some(Held { digest, look: FileLook::of(&copies[side]) });
                let (algorithm, checked) = (sort(kind), millis_now());
                let file = FileDigests { algorithm, checked, held: Pair::from_fn(held) };
                digests.insert(path.clone(), file);
            }
        }
        if let Err(error) = store.add_digests(digests) {
            self.say(Level::Notice, &format!("{error}; 'osync scrub' reads these files anew"));
        }
        Ok(())
    }
}

/// The files that a run has brought over, as both sides have them now. Of a source that was touched
/// so lately that a further change might show no other time, nothing can be said.
fn brought(
    trees: &Pair<Tree>,
    plan: &Plan,
    achieved: &Achieved,
    began: Pair<Stamp>,
) -> BTreeMap<RelPath, Pair<Entry>> {
    let now = |path_id: PathId, side: Side| match achieved.reread[side].get(path_id) {
        Some(found) => found.clone(),
        None => plan.entry(trees, path_id, side).cloned(),
    };
    let one = |path_id: PathId| {
        let Act::Send { to } = plan.verdict(path_id).act else { return None };
        let copies = Pair::new(now(path_id, Side::Initiator)?, now(path_id, Side::Target)?);
        let is_settled = is_before(copies[to.other()].ctime, began[to.other()]);
        let is_file = copies.initiator.kind == Kind::File;
        let is_same = looks_alike(&copies.initiator, &copies.target);
        (achieved.succeeded(path_id) && is_settled && is_file && is_same)
            .then(|| (plan.path(path_id), copies))
    };
    plan.delta.path_ids().filter_map(one).collect()
}

// From here on: what is done about damaged files.

impl Task<'_> {
    /// What both sides have at some paths now.
    fn now(&mut self, paths: &[RelPath]) -> Result<Vec<Pair<Now>>, Halt> {
        let Pair { initiator, target } = self.replicas.as_mut();
        let (initiator, target) = (initiator.stat(paths)?, target.stat(paths)?);
        Ok(initiator.into_iter().zip(target).map(|(i, t)| Pair::new(i, t)).collect())
    }

    /// Replaces damaged copies by sound ones. Says which, once what came is proven to be sound.
    fn heal(
        &mut self,
        history: &History<'_>,
        trees: &mut Pair<Tree>,
        rules: &Rules,
        recorded: &RecordedFiles,
        memory: &mut Memory<'_>,
        found: &[Found],
    ) -> Result<Healed, Halt> {
        let curable: Vec<&Found> =
            found.iter().filter(|one| matches!(one.damage, Damage::One(_))).collect();
        if curable.is_empty() || self.is_dry() {
            return Ok(Healed::new());
        }
        if self.was_broken_off(recorded) {
            let text = "nothing was healed, because the last run did not come to its end; let a run \
                        finish first";
            self.around.reporter().problem(Level::Warn, None, None, text);
            return Ok(Healed::new());
        }
        let cures = self.cures(trees, &curable)?;
        if cures.is_empty() {
            return Ok(Healed::new());
        }
        let wanted: Vec<Replacement> =
            cures.iter().map(|(one, to)| Replacement { path: one.path.clone(), to: *to }).collect();
        let rows = found.iter().map(|one| one.row(trees)).collect();
        self.note_healing(history.store, rows);
        self.replace_copies(history, trees, rules, &memory.damaged, &wanted)?;
        fault::point("healed");
        let healed = self.proven(trees, memory, &cures)?;
        memory.keep_damaged()?;
        memory.keep_digests()?;
        Ok(healed)
    }

    /// The damaged copies that can be replaced now, each with its side: the sound one is read once
    /// more.
    fn cures<'f>(
        &mut self,
        trees: &Pair<Tree>,
        curable: &[&'f Found],
    ) -> Result<Vec<(&'f Found, Side)>, Halt> {
        let preserve = self.compared();
        let mut cures = Vec::new();
        let mut items = Vec::new();
        for one in curable {
            let (Damage::One(on), Some(i), Some(t)) =
                (one.damage, one.nodes.initiator, one.nodes.target)
            else {
                continue;
            };
            let copies = Pair::new(trees.initiator.entry(i), trees.target.entry(t));
            if !may_be_replaced(copies, &preserve) {
                let why = "its mode, owner or attributes were changed since the last run; let a run \
                           finish first";
                self.tell_not_healed(&one.path, on, why);
                continue;
            }
            let source = |side: Side| (side == on.other()).then(|| copies[side].clone());
            items.push(Item::new(&one.path, one.kind, Pair::from_fn(source)));
            cures.push((*one, on));
        }
        self.read_items(&mut items)?;
        let is_sound = |(one, on): &(&Found, Side), item: &Item<'_>| {
            let other = on.other();
            let why = match &item.read[other] {
                Some(Ok(digest)) if Some(*digest) == one.sound => return true,
                Some(Err(error)) => error.to_string(),
                Some(Ok(_)) | None => "it reads differently now".to_owned(),
            };
            self.tell_not_healed(&one.path, *on, &format!("the {other}'s copy: {why}"));
            false
        };
        let checked = cures.into_iter().zip(&items);
        Ok(checked.filter(|(cure, item)| is_sound(cure, item)).map(|(cure, _)| cure).collect())
    }

    fn tell_not_healed(&self, path: &RelPath, on: Side, why: &str) {
        let text = format!("it was not healed: {why}");
        self.around.reporter().problem(Level::Warn, Some(on), Some(path), &text);
    }

    /// Has the copies of the other side brought over, as a run brings an update.
    fn replace_copies(
        &mut self,
        history: &History<'_>,
        trees: &mut Pair<Tree>,
        rules: &Rules,
        damaged: &[DamagedFile],
        wanted: &[Replacement],
    ) -> Result<(), Halt> {
        let rules = Rules { damaged: DamagedNodes::find(trees, damaged), ..rules.clone() };
        let plan = replace(trees, &history.loaded.baseline, &rules, wanted)
            .map_err(|error| Halt::state(&error))?;
        self.apply_and_record(history, trees, &plan)
    }

    /// Reads what was brought over. What is sound is no longer listed as damaged.
    fn proven(
        &mut self,
        trees: &Pair<Tree>,
        memory: &mut Memory<'_>,
        cures: &[(&Found, Side)],
    ) -> Result<Healed, Halt> {
        let paths: Vec<RelPath> = cures.iter().map(|(one, _)| one.path.clone()).collect();
        let now = self.now(&paths)?;
        let mut items = Vec::new();
        for ((one, on), now) in cures.iter().zip(&now) {
            let copy = |side: Side| now[side].clone().ok().flatten().filter(|_| side == *on);
            items.push(Item::new(&one.path, one.kind, Pair::from_fn(copy)));
        }
        self.read_items(&mut items)?;
        let is_still_there = |one: &Found, on: Side, now: &Entry| {
            one.nodes[on].is_some_and(|id| is_as_scanned(trees[on].entry(id), now))
        };
        let now_named = self.damaged_names(trees, &memory.damaged)?;
        let mut healed = Healed::new();
        for (((one, on), now), item) in cures.iter().zip(&now).zip(&items) {
            let (digest, now) = match (&now[*on], &item.read[*on]) {
                (Ok(Some(now)), Some(Ok(digest))) if Some(*digest) == one.sound => (*digest, now),
                (Err(error), _) | (_, Some(Err(error))) => {
                    let why = format!("nobody can tell what came: {error}");
                    self.tell_not_healed(&one.path, *on, &why);
                    continue;
                }
                // the damaged copy, still: why it could not be replaced has been told
                (Ok(Some(now)), _) if is_still_there(one, *on, now) => continue,
                (Ok(_), Some(Ok(_)) | None) => {
                    let why = "what is there now is not the other side's copy";
                    self.tell_not_healed(&one.path, *on, why);
                    continue;
                }
            };
            memory.lift(*on, &one.path, now, &now_named[*on]);
            let held = Held { digest, look: FileLook::of(now) };
            memory.learn(item, Pair::from_fn(|side| (side == *on).then(|| held.clone())));
            healed.insert(one.path.clone(), self.kept_of(*on, &one.path));
        }
        Ok(healed)
    }

    /// All names of damaged files, as they are now.
    fn damaged_names(
        &mut self,
        trees: &Pair<Tree>,
        damaged: &[DamagedFile],
    ) -> Result<Pair<Vec<Seen>>, Halt> {
        let nodes = DamagedNodes::find(trees, damaged);
        let mut named = Pair::default();
        for side in Side::BOTH {
            let names = nodes.names(side, trees);
            let paths: Vec<RelPath> = names.iter().map(|name| name.path.clone()).collect();
            let now = self.replicas[side].stat(&paths)?;
            // what cannot be looked at may be what it was
            let seen = |(name, now): (Seen, Now)| match now {
                Ok(now) => now.map(|now| Seen::of(name.path, &now)),
                Err(_) => Some(name),
            };
            named[side] = names.into_iter().zip(now).filter_map(seen).collect();
        }
        Ok(named)
    }

    /// Whether a run was broken off that may have left something half done. All that is noted of a
    /// healing that came to its end, but failed for a file, are files that are as they are recorded.
    fn was_broken_off(&self, recorded: &RecordedFiles) -> bool {
        let Some(inflight) = &self.interrupted else { return false };
        let is_recorded: HashSet<&RelPath> = recorded.in_step().collect();
        let is_whole =
            |noted: &InflightPath| noted.part == Part::Itself && is_recorded.contains(&noted.path);
        !inflight.paths.iter().all(is_whole)
    }

    /// Where this run keeps what it replaced.
    fn kept_of(&self, side: Side, path: &RelPath) -> Option<RelPath> {
        let changes = &self.outcome.done.as_ref()?.changes;
        let kept =
            changes.iter().find(|row| row.side == side && row.path == *path)?.kept.as_ref()?;
        Some(in_work_dir(kept.keep.name(), &kept.place))
    }

    /// Tells of what is damaged, or was. `healed` is none if the healing broke off.
    fn tell_damage(
        &mut self,
        cure: Cure,
        trees: &Pair<Tree>,
        found: Vec<Found>,
        healed: Option<&Healed>,
    ) {
        let mut rows = Vec::new();
        let mut damaged = Vec::new();
        for one in found {
            let is_curable = matches!(one.damage, Damage::One(_));
            let remedy = match healed.and_then(|healed| healed.get(&one.path)) {
                Some(kept) => Remedy::Replaced { kept: kept.clone() },
                None if cure == Cure::Heal && is_curable && self.is_dry() => Remedy::Planned,
                None => Remedy::None,
            };
            self.tell_damaged(&one, &remedy);
            if !matches!(remedy, Remedy::Replaced { .. }) {
                rows.push(one.row(trees));
            }
            damaged.push(DamagedPath { path: one.path, damage: one.damage, remedy });
        }
        if let Some(scrubbed) = &mut self.outcome.scrub {
            scrubbed.damaged = damaged;
        }
        if let Some(done) = &mut self.outcome.done {
            done.damaged = rows;
        }
    }

    fn tell_damaged(&self, one: &Found, remedy: &Remedy) {
        let side = match one.damage {
            Damage::One(side) | Damage::Alone(side) => Some(side),
            Damage::Both | Damage::Either => None,
        };
        let mut text = one.damage.words();
        let level = match remedy {
            Remedy::Replaced { kept } => {
                text.push_str(", and has replaced this one");
                if let Some(kept) = kept {
                    text.push_str(&format!(", which is kept as {}", kept.shown()));
                }
                Level::Warn
            }
            Remedy::Planned => {
                text.push_str("; it would replace this one");
                Level::Error
            }
            Remedy::None if matches!(one.damage, Damage::One(_)) => {
                text.push_str("; 'osync scrub --heal' replaces this one by it");
                Level::Error
            }
            Remedy::None => Level::Error,
        };
        self.around.reporter().problem(level, side, Some(&one.path), &text);
    }

    /// Gives one side the other one's copy of a damaged path, because somebody says that it is
    /// right.
    pub(super) fn settle_damage(
        &mut self,
        settlement: Settlement<'_>,
        history: &History<'_>,
        trees: &mut Pair<Tree>,
    ) -> Result<(), Halt> {
        let Settlement { path, from } = settlement;
        let rules = self.rules(history.store)?;
        let recorded = recorded_files(trees, &history.loaded.baseline, &rules)
            .map_err(|error| Halt::state(&error))?;
        if self.was_broken_off(&recorded) {
            return Err(Halt::fatal(
                "the last run did not come to its end; let a run finish first",
            ));
        }
        let mut memory = self.remember_digests(history.store)?;
        let copy = |side: Side| {
            let id = trees[side].find(path)?;
            Some(trees[side].entry(id)).filter(|entry| entry.kind == Kind::File)
        };
        let copies = match (copy(Side::Initiator), copy(Side::Target)) {
            (Some(initiator), Some(target)) => Pair::new(initiator, target),
            _ => return Err(Halt::fatal(format!("{}: only one side has it", path.shown()))),
        };
        if !may_be_replaced(copies, &self.compared()) {
            return Err(Halt::fatal(format!(
                "{}: its mode, owner or attributes were changed since the last run; let a run finish \
                 first",
                path.shown()
            )));
        }
        let looks = copies.map(Entry::clone);
        let wanted = [Replacement { path: path.clone(), to: from.other() }];
        self.replace_copies(history, trees, &rules, &memory.damaged, &wanted)?;
        let now_named = self.damaged_names(trees, &memory.damaged)?;
        for side in Side::BOTH {
            memory.lift(side, path, &looks[side], &now_named[side]);
        }
        memory.digests.remove(path);
        self.keep_noted(&mut memory)
    }
}

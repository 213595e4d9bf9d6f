//! Reads contents: with CHECKSUM those that a run must compare (spec 4, "Deciding one path"), and
//! always those in doubt, in batches, on both sides at the same time (spec 8, "The same").

use super::Task;
use super::closing::Halt;
use crate::process::{Stop, fault};
use crate::reconcile::scrub::Relation;
use crate::reconcile::{Doubt, change};
use crate::replica::{Compared, Couple, DigestKind, PathError, Replica, ReplicaError, compare};
use crate::report::left_alone::LeftAlone;
use crate::report::words::counted;
use crate::report::{Event, Level};
use crate::state::{Baseline, ContentDigest, Digests, Integrity, Seen, Settled, StateStore};
use crate::threads;
use crate::tree::same::{Comparison, times_agree};
use crate::tree::{Entry, NodeId, Pair, RelPath, Side, Stamp, Tree};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// Between two batches the run may stop, and tells how far it is.
const BATCH: usize = 2000;
/// A remote side answers when a whole batch is done; each costs a round trip.
const REMOTE_BATCH: usize = 20_000;
/// Nor does a batch hold many more bytes than this.
pub(super) const BATCH_BYTES: u64 = 128 << 20;

/// What has been found out is written down so often.
pub(super) const KEEP_EVERY: Duration = Duration::from_secs(20);

/// The digest of a file, or why there is none.
pub(super) type Digest = Result<[u8; 32], PathError>;

/// What a run found out about contents.
pub(super) type Answers = HashMap<Doubt, Comparison>;

/// Why some files could not be compared.
#[derive(Default)]
struct Failures {
    count: u64,
    first: Option<(Side, RelPath, PathError)>,
}

impl Failures {
    fn add(&mut self, side: Side, path: &RelPath, error: PathError) {
        self.count += 1;
        self.first.get_or_insert_with(|| (side, path.clone(), error));
    }
}

/// A path to be read.
pub(super) struct Item<'f> {
    pub(super) path: &'f RelPath,
    pub(super) kind: DigestKind,
    /// How the copies belong together.
    pub(super) relation: Relation,
    /// The copies that are read, as they were looked at last.
    pub(super) entries: Pair<Option<Entry>>,
    pub(super) read: Pair<Option<Digest>>,
}

impl<'f> Item<'f> {
    /// Copies that are read for themselves.
    pub(super) fn new(path: &'f RelPath, kind: DigestKind, entries: Pair<Option<Entry>>) -> Self {
        Item { path, kind, relation: Relation::Independent, entries, read: Pair::default() }
    }

    pub(super) fn digest(&self, side: Side) -> Option<ContentDigest> {
        self.read[side].as_ref()?.as_ref().ok().copied()
    }
}

impl Task<'_> {
    /// Compares the files in doubt, and adds what is found to the answers. What an earlier run
    /// found out before it was cut off is not read again.
    pub(super) fn compare_contents(
        &mut self,
        trees: &Pair<Tree>,
        doubts: Vec<Doubt>,
        answers: &mut Answers,
        store: &StateStore,
    ) -> Result<(), Halt> {
        let mut kept = self.remembered(trees, &doubts, answers, store)?;
        let open: Vec<Doubt> = doubts.into_iter().filter(|d| !answers.contains_key(d)).collect();
        if open.is_empty() {
            return Ok(());
        }
        let all = open.len() as u64;
        let (mut done, mut differ, mut failures) = (0, 0, Failures::default());
        let mut kept_at = Instant::now();
        let recorded = self.recorded_digests(store);
        let around = self.around;
        let reporter = around.reporter();
        let bytes = |doubt: &Doubt| trees.initiator.entry(doubt.initiator).size;
        for batch in portions(&open, self.batch(), BATCH_BYTES, bytes) {
            reporter.tell(Event::Comparing(done, all));
            let mut settled = Answers::new();
            let found = self.compare(trees, batch, &recorded, &mut settled, &mut failures);
            fault::point("compared");
            // Of a batch that was stopped, what is there counts.
            for (doubt, answer) in settled {
                answers.insert(doubt, answer);
                differ += u64::from(answer == Comparison::Different);
                kept.extend(self.memo_of(trees, doubt, answer));
            }
            if found.is_err() || self.around.stop.reason().is_some() {
                reporter.tell(Event::Quiet);
                self.keep(store, &kept);
                self.check_stop()?;
                found?;
            }
            done += batch.len() as u64;
            if kept_at.elapsed() > KEEP_EVERY {
                self.keep(store, &kept);
                kept_at = Instant::now();
            }
        }
        reporter.tell(Event::Quiet);
        self.keep(store, &kept);
        let text =
            format!("compared the contents of {}; different: {differ}", counted(all, "file"));
        self.say(Level::Verbose, &text);
        self.tell_of_failures(&failures);
        Ok(())
    }

    /// How many files are read at once.
    pub(super) fn batch(&self) -> usize {
        let is_local = Side::BOTH.iter().all(|side| self.replicas[*side].local().is_some());
        if is_local { BATCH } else { REMOTE_BATCH }
    }

    /// What scrubs have recorded of contents. It only saves reading.
    fn recorded_digests(&self, store: &StateStore) -> Digests {
        match store.digests() {
            // of a torn file the rest counts, and the next scrub tells of it
            Ok((digests, Integrity::Whole | Integrity::Torn)) => digests,
            Err(error) => {
                self.say(Level::Notice, &format!("{error}; contents are read instead"));
                Digests::new()
            }
        }
    }

    /// Compares files in doubt, and adds what is found to the answers, also if it breaks off.
    fn compare(
        &mut self,
        trees: &Pair<Tree>,
        doubts: &[Doubt],
        recorded: &Digests,
        answers: &mut Answers,
        failures: &mut Failures,
    ) -> Result<(), Halt> {
        self.compare_with_recorded(trees, doubts, recorded, answers)?;
        let open: Vec<Doubt> =
            doubts.iter().copied().filter(|doubt| !answers.contains_key(doubt)).collect();
        let found = self.compare_both(trees, &open, failures)?;
        answers.extend(open.into_iter().zip(found));
        Ok(())
    }

    /// Compares files of which one is exactly as it was when a scrub read it: that one is taken to
    /// hold what it held then, and only the other one is read. What cannot be read is left to
    /// [`Task::compare_both`].
    fn compare_with_recorded(
        &mut self,
        trees: &Pair<Tree>,
        doubts: &[Doubt],
        recorded: &Digests,
        answers: &mut Answers,
    ) -> Result<(), Halt> {
        let kinds: Vec<DigestKind> = self.common_digests().collect();
        let mut items = Vec::new();
        let mut known = Vec::new();
        for doubt in doubts {
            let entries = Pair::from_fn(|side: Side| trees[side].entry(doubt[side]));
            let path = trees.initiator.path(doubt.initiator);
            let Some((path, file)) = recorded.get_key_value(&path) else { continue };
            let kind = kinds.iter().find(|kind| sort(**kind) == file.algorithm);
            // a CRC proves nothing
            let Some(kind) = kind.filter(|kind| **kind != DigestKind::Cksum) else { continue };
            if trees.target.find(path) != Some(doubt.target) {
                continue;
            }
            let held = Pair::from_fn(|side: Side| {
                let own_ctime = self.file_systems.abilities[side].own_ctime;
                file.held_by(side, entries[side]).filter(|_| own_ctime)
            });
            if held != Pair::default() {
                let unknown = |side: Side| held[side].is_none().then(|| entries[side].clone());
                items.push(Item::new(path, *kind, Pair::from_fn(unknown)));
                known.push((*doubt, held));
            }
        }
        self.read_items(&mut items)?;
        for ((doubt, held), item) in known.into_iter().zip(&items) {
            let contents = Pair::from_fn(|side| held[side].or_else(|| item.digest(side)));
            if let Pair { initiator: Some(initiator), target: Some(target) } = contents {
                let is_same = initiator == target;
                let answer = if is_same { Comparison::Same } else { Comparison::Different };
                answers.insert(doubt, answer);
            }
        }
        Ok(())
    }

    /// Compares files by reading both.
    fn compare_both(
        &mut self,
        trees: &Pair<Tree>,
        doubts: &[Doubt],
        failures: &mut Failures,
    ) -> Result<Vec<Comparison>, Halt> {
        let entry = |doubt: &Doubt, side: Side| trees[side].entry(doubt[side]);
        let couple = |doubt: &Doubt| Couple {
            paths: Pair::from_fn(|side| trees[side].path(doubt[side])),
            expect: Pair::from_fn(|side| trees[side].entry(doubt[side])),
        };
        let couples = threads::map(doubts, || |doubt: &Doubt| Some(couple(doubt)));
        let replicas = self.replicas.as_ref().map(|replica| replica.local());
        if let Pair { initiator: Some(initiator), target: Some(target) } = replicas {
            let found = compare(Pair::new(initiator, target), &couples, self.around.stop)?;
            return Ok(found
                .into_iter()
                .zip(&couples)
                .map(|(f, c)| answer(f, c, failures))
                .collect());
        }
        let Some(kind) = self.common_digest() else {
            return Ok(vec![Comparison::Unknown; doubts.len()]);
        };
        let mut answers = Vec::with_capacity(doubts.len());
        for ((doubt, couple), digests) in
            doubts.iter().zip(&couples).zip(self.digests(kind, &couples)?)
        {
            answers.push(match (digests.initiator, digests.target) {
                (Ok(a), Ok(b)) if a != b => Comparison::Different,
                // A CRC shows that contents differ; that they do not, only together with equal
                // times.
                (Ok(_), Ok(_))
                    if kind != DigestKind::Cksum
                        || times_agree(
                            entry(doubt, Side::Initiator),
                            entry(doubt, Side::Target),
                        ) =>
                {
                    Comparison::Same
                }
                (Ok(_), Ok(_)) => {
                    let action = "prove that both hold the same".into();
                    let cause = "there is no program for SHA-256 (sha256sum, shasum, sha256 or \
                                 openssl)"
                        .to_owned();
                    let error = PathError::Failed { action, cause };
                    failures.add(Side::Target, &couple.paths.target, error);
                    Comparison::Unknown
                }
                (Err(error), _) => refused(Side::Initiator, couple, error, failures),
                (_, Err(error)) => refused(Side::Target, couple, error, failures),
            });
        }
        Ok(answers)
    }

    /// The digests of both sides of some files.
    fn digests(
        &mut self,
        kind: DigestKind,
        couples: &[Couple<'_>],
    ) -> Result<Vec<Pair<Digest>>, Halt> {
        let scanned = Pair::from_fn(|side: Side| {
            let one =
                |couple: &Couple<'_>| (couple.paths[side].clone(), couple.expect[side].clone());
            couples.iter().map(one).collect::<Vec<_>>()
        });
        let Pair { initiator, target } = self.digests_of(kind, &scanned)?;
        Ok(initiator.into_iter().zip(target).map(|(a, b)| Pair::new(a, b)).collect())
    }

    /// The digests of some files of each side, made on both sides at the same time.
    pub(super) fn digests_of(
        &mut self,
        kind: DigestKind,
        scanned: &Pair<Vec<(RelPath, Entry)>>,
    ) -> Result<Pair<Vec<Digest>>, Halt> {
        let Pair { initiator, target } = self.replicas.as_mut();
        let (here, there) = std::thread::scope(|scope| {
            let there = scope.spawn(|| target.digest(kind, &scanned.target));
            (initiator.digest(kind, &scanned.initiator), there.join())
        });
        self.check_stop()?;
        let there = there.map_err(|_| Halt::fatal("the reading of contents broke off"))?;
        Ok(Pair::new(here?, there?))
    }

    /// The digests of some files, each made as its item says.
    pub(super) fn read_items(&mut self, items: &mut [Item<'_>]) -> Result<(), Halt> {
        let kinds: Vec<DigestKind> = self.common_digests().collect();
        for kind in kinds {
            let places = Pair::from_fn(|side: Side| {
                let is_wanted =
                    |at: &usize| items[*at].kind == kind && items[*at].entries[side].is_some();
                (0..items.len()).filter(is_wanted).collect::<Vec<usize>>()
            });
            let scanned = Pair::from_fn(|side: Side| {
                let one = |at: &usize| {
                    let item = &items[*at];
                    Some((item.path.clone(), item.entries[side].clone()?))
                };
                places[side].iter().filter_map(one).collect::<Vec<_>>()
            });
            if scanned.iter().all(|(_, scanned)| scanned.is_empty()) {
                continue;
            }
            for (side, digests) in self.digests_of(kind, &scanned)? {
                for (at, digest) in places[side].iter().zip(digests) {
                    items[*at].read[side] = Some(digest);
                }
            }
        }
        Ok(())
    }

    /// Takes over what an earlier run found out, as far as the files still look the same.
    fn remembered(
        &self,
        trees: &Pair<Tree>,
        doubts: &[Doubt],
        answers: &mut Answers,
        store: &StateStore,
    ) -> Result<Vec<Settled>, Halt> {
        let wanted: HashSet<&Doubt> = doubts.iter().collect();
        let mut kept = store.settled()?;
        kept.retain(|one| {
            let found = |side: Side| {
                let seen = &one.files[side];
                let id = trees[side].find(&seen.path)?;
                seen.matches(trees[side].entry(id)).then_some(id)
            };
            let (Some(i), Some(t)) = (found(Side::Initiator), found(Side::Target)) else {
                return false;
            };
            let doubt = Pair::new(i, t);
            if wanted.contains(&doubt) {
                let answer = if one.same { Comparison::Same } else { Comparison::Different };
                answers.insert(doubt, answer);
            }
            true
        });
        Ok(kept)
    }

    /// An answer that may be kept: not of a file that was touched so lately that a further
    /// change might show no other time.
    fn memo_of(&self, trees: &Pair<Tree>, doubt: Doubt, answer: Comparison) -> Option<Settled> {
        let entries = Pair::from_fn(|side: Side| trees[side].entry(doubt[side]));
        let is_old = |side: Side| is_before(entries[side].ctime, self.began[side]);
        let files = Pair::from_fn(|side| Seen::of(trees[side].path(doubt[side]), entries[side]));
        let same = match answer {
            Comparison::Same => true,
            Comparison::Different => false,
            Comparison::Unknown => return None,
        };
        Side::BOTH.into_iter().all(is_old).then_some(Settled { files, same })
    }

    /// Writes down what was found out. It only saves time, so a failure is no reason to stop.
    fn keep(&self, store: &StateStore, kept: &[Settled]) {
        if self.is_dry() || kept.is_empty() {
            return;
        }
        if let Err(error) = store.set_settled(kept) {
            let text = format!("{error}; if this run is broken off, the next one compares again");
            self.say(Level::Notice, &text);
        }
    }

    fn tell_of_failures(&self, failures: &Failures) {
        let Some((side, path, error)) = &failures.first else { return };
        let more = match failures.count - 1 {
            0 => String::new(),
            more => format!(", and {more} more files"),
        };
        let text = format!(
            "{side}: {}: its content could not be compared with the other side's{more}: {error}. \
             Where the times differ they decide; the others are left alone on both sides",
            path.shown()
        );
        self.say(Level::Notice, &text);
    }
}

/// Whether a time is so long before another that what happened later got a later time. Some file
/// systems count whole seconds, or two; the kernel's clock goes in steps of milliseconds.
pub(super) fn is_before(time: Stamp, began: Stamp) -> bool {
    let nanos = |stamp: Stamp| i128::from(stamp.secs()) * 1_000_000_000 + i128::from(stamp.nanos());
    let step = if time.nanos() == 0 { 2_000_000_000 } else { 20_000_000 };
    time.is_known() && began.is_known() && nanos(time) + step < nanos(began)
}

/// Items in portions that take about the same time: each has at most so many items, and ends with
/// the one that fills so many bytes.
pub(super) fn portions<T>(
    items: &[T],
    most: usize,
    most_bytes: u64,
    bytes_of: impl Fn(&T) -> u64,
) -> Vec<&[T]> {
    let mut portions = Vec::new();
    let mut rest = items;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |item: &&T| {
            let is_room = bytes < most_bytes;
            bytes += bytes_of(item);
            is_room
        };
        let count = rest.iter().take(most).take_while(fits).count().max(1);
        let (portion, others) = rest.split_at(count);
        portions.push(portion);
        rest = others;
    }
    portions
}

fn answer(found: Compared, couple: &Couple<'_>, failures: &mut Failures) -> Comparison {
    match found {
        Ok(true) => Comparison::Same,
        Ok(false) => Comparison::Different,
        Err(failed) => refused(failed.side, couple, failed.error, failures),
    }
}

fn refused(
    side: Side,
    couple: &Couple<'_>,
    error: PathError,
    failures: &mut Failures,
) -> Comparison {
    // What changed since the scan is looked at again before anything is done to it.
    if !matches!(error, PathError::Changed | PathError::Vanished) {
        failures.add(side, &couple.paths[side], error);
    }
    Comparison::Unknown
}

/// How many files are asked for at once; between two batches the run may stop.
const READ_BATCH: usize = 500;

type Read = Vec<(NodeId, Result<[u8; 32], PathError>)>;

impl Task<'_> {
    /// Gives the entries of files their digests, from the baseline or by reading. What
    /// cannot be read is unknown: it is left alone on both sides.
    pub(super) fn read_contents(
        &mut self,
        trees: &mut Pair<Tree>,
        baseline: &Baseline,
        store: &StateStore,
    ) -> Result<(), Halt> {
        if !self.config.preserve.checksum {
            return Ok(());
        }
        let Some(kind) = self.common_digest() else { return Ok(()) };
        if kind == DigestKind::Cksum {
            let text = "CHECKSUM: the remote machine has no program for SHA-256 (sha256sum, shasum, \
                        sha256 or openssl), so contents are compared by size and the CRC of cksum";
            self.say(Level::Notice, text);
        }
        let abilities = &self.file_systems.abilities;
        let mut wanted = change::recall_digests(trees, baseline, sort(kind), abilities)
            .map_err(|e| Halt::state(&e))?;
        if wanted != Pair::default() {
            let recorded = self.recorded_digests(store);
            change::recall_recorded(trees, &mut wanted, &recorded, sort(kind), abilities);
        }
        let stop = self.around.stop;
        let found = {
            let Pair { initiator, target } = self.replicas.as_mut();
            let ids = Pair::from_fn(|side| wanted[side].iter().copied().collect::<Vec<_>>());
            let trees = &*trees;
            std::thread::scope(|scope| {
                let there =
                    scope.spawn(|| read(target.as_mut(), kind, &trees.target, &ids.target, stop));
                let here = read(initiator.as_mut(), kind, &trees.initiator, &ids.initiator, stop);
                Pair::new(Ok(here), there.join())
            })
        };
        self.check_stop()?;
        for (side, result) in found {
            let read = result.map_err(|_| Halt::fatal("the reading of contents broke off"))??;
            let files = counted(read.len() as u64, "file");
            let text = format!("{side}: read {files} to compare contents");
            self.say(Level::Verbose, &text);
            for (id, digest) in read {
                self.take_digest(&mut trees[side], side, id, sort(kind), digest);
            }
        }
        Ok(())
    }

    fn take_digest(
        &self,
        tree: &mut Tree,
        side: Side,
        id: NodeId,
        sort: u8,
        digest: Result<[u8; 32], PathError>,
    ) {
        match digest {
            Ok(digest) => change::set_digest(tree.entry_mut(id), sort, digest),
            // It is looked at again before anything is done to it.
            Err(PathError::Vanished | PathError::Changed) => {}
            Err(error) => {
                let why = format!("its content cannot be compared (CHECKSUM): {error}");
                self.tell_left_path(Some(side), &tree.path(id), &LeftAlone::Unread(why));
                tree.mark_unknown(id);
            }
        }
    }

    /// Before the trees become the next baseline.
    pub(super) fn forget_fresh_contents(&self, trees: &mut Pair<Tree>) {
        if self.config.preserve.checksum {
            for side in Side::BOTH {
                change::forget_uncertain_digests(&mut trees[side], self.began[side]);
            }
        }
    }

    /// The best digest that both sides can make.
    pub(super) fn common_digest(&self) -> Option<DigestKind> {
        self.common_digests().next()
    }

    /// The digests that both sides can make, the best first.
    pub(super) fn common_digests(&self) -> impl Iterator<Item = DigestKind> + use<> {
        let kinds = Pair::from_fn(|side| self.replicas[side].digest_kinds());
        kinds.initiator.iter().copied().filter(move |kind| kinds.target.contains(kind))
    }
}

fn read(
    replica: &mut dyn Replica,
    kind: DigestKind,
    tree: &Tree,
    ids: &[NodeId],
    stop: &Stop,
) -> Result<Read, ReplicaError> {
    let mut found = Read::new();
    for ids in ids.chunks(READ_BATCH) {
        if stop.reason().is_some() {
            break;
        }
        let scanned = |id: &NodeId| (tree.path(*id), tree.entry(*id).clone());
        let scanned: Vec<(RelPath, Entry)> = ids.iter().map(scanned).collect();
        found.extend(ids.iter().copied().zip(replica.digest(kind, &scanned)?));
    }
    Ok(found)
}

/// The number of a sort of digest in the state.
pub(super) fn sort(kind: DigestKind) -> u8 {
    match kind {
        DigestKind::Blake3 => 1,
        DigestKind::Sha256 => 2,
        DigestKind::Cksum => 3,
    }
}

//! `history-ID.db`: what each run did, for people who look something up or take it back
//! (spec 9, "The journal"; docs/state-format.md, "The journal").
//!
//! The journal is never needed to synchronise. It is written after the snapshot, in one
//! transaction a run: a kill leaves it complete or one run behind, never ahead. A damaged one is
//! set aside and begun anew.
//!
//! A kept version is named by the directory that keeps it and its place there. A later run may
//! give it another name to make room, or replace it: the run that does so says it, and the rows
//! follow.

use super::error::Shown;
use super::files::StateDir;
use crate::tree::{Entry, Keep, Kind, Pair, RelPath, Side, Stamp};
use rusqlite::{Connection, OpenFlags, Row, ToSql, params};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The version of the schema. A newer one is read by nobody but a newer osync.
const VERSION: i64 = 4;

/// How long a command waits for a run that is just writing.
const BUSY: Duration = Duration::from_secs(10);

const SCHEMA: &str = "
CREATE TABLE runs (
    number INTEGER PRIMARY KEY,
    began INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    status INTEGER NOT NULL,
    cause TEXT NOT NULL,
    undoes INTEGER,
    counts TEXT NOT NULL,
    problems TEXT NOT NULL,
    star INTEGER
);
CREATE TABLE changes (
    run INTEGER NOT NULL,
    side INTEGER NOT NULL,
    path BLOB NOT NULL,
    action INTEGER NOT NULL,
    other BLOB,
    below INTEGER NOT NULL,
    before BLOB,
    after BLOB,
    keep INTEGER,
    place BLOB,
    attributes BLOB,
    damaged INTEGER
);
CREATE INDEX changes_by_path ON changes (path);
CREATE INDEX changes_by_run ON changes (run);
CREATE INDEX changes_by_place ON changes (place) WHERE place IS NOT NULL;
CREATE TABLE conflicts (
    run INTEGER NOT NULL,
    path BLOB NOT NULL,
    winner INTEGER NOT NULL,
    reason TEXT NOT NULL,
    won BLOB,
    lost BLOB,
    state INTEGER NOT NULL,
    closed INTEGER,
    keep INTEGER,
    place BLOB
);
CREATE INDEX conflicts_by_state ON conflicts (state);
";

/// The cause of a run that only looked after what is recorded: `osync scrub`, or the settling of
/// what it found.
pub const SCRUB: &str = "scrub";

/// The reason of a path that differs since an undo. Journals hold it, and it is what tells such a path
/// from a conflict: it must never change.
const SINCE_UNDO: &str = "differs since undo";

/// What brings a journal of version 1 to version 2, one of that to version 3, and so on.
const UPGRADES: [&str; 3] = [
    "
ALTER TABLE changes ADD COLUMN place BLOB;
ALTER TABLE changes ADD COLUMN attributes BLOB;
ALTER TABLE conflicts ADD COLUMN keep INTEGER;
ALTER TABLE conflicts ADD COLUMN place BLOB;
CREATE INDEX changes_by_place ON changes (place) WHERE place IS NOT NULL;
",
    "ALTER TABLE runs ADD COLUMN star INTEGER;",
    "ALTER TABLE changes ADD COLUMN damaged INTEGER;",
];

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A newer osync wrote it.
    #[error(
        "the journal {path} was written by a newer osync (schema {found}, this one knows {VERSION})"
    )]
    Newer {
        /// The file.
        path: Shown,
        /// The version it carries.
        found: i64,
    },
    /// SQLite cannot open, read or write it.
    #[error("the journal {path}: {cause}")]
    Database {
        /// The file.
        path: Shown,
        /// What SQLite says.
        cause: rusqlite::Error,
    },
    /// The state directory, or the damaged file in it, cannot be used.
    #[error("the journal {path}: {cause}")]
    File {
        /// The file.
        path: Shown,
        /// What the system says.
        cause: io::Error,
    },
}

/// What a run did to one path of one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Something came where nothing was.
    Created,
    /// Something else replaced what was there.
    Updated,
    /// It was deleted.
    Deleted,
    /// It was renamed; `other` is the old name.
    Moved,
    /// Only mode, owner, group, times or attributes were set.
    Metadata,
    /// Only the time of a directory was set, because of what happened in it.
    Times,
}

impl Action {
    const ALL: [Action; 6] = [
        Action::Created,
        Action::Updated,
        Action::Deleted,
        Action::Moved,
        Action::Metadata,
        Action::Times,
    ];

    /// The word for people and for JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Action::Created => "created",
            Action::Updated => "updated",
            Action::Deleted => "deleted",
            Action::Moved => "moved",
            Action::Metadata => "metadata",
            Action::Times => "time",
        }
    }
}

/// What tells one version of an entry from another, as far as a person wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// What it was.
    pub kind: Kind,
    /// Bytes of content.
    pub size: u64,
    /// Last change of content.
    pub mtime: Stamp,
    /// Permission bits.
    pub mode: u16,
    /// Owner, in the numbers of the machine that runs osync.
    pub uid: u32,
    /// Group, in the numbers of the machine that runs osync.
    pub gid: u32,
}

impl Look {
    /// Whether an entry may be what this tells of.
    #[must_use]
    pub fn is_of(&self, entry: &Entry) -> bool {
        self.kind == entry.kind
            && (self.kind.is_dir() || (self.size, self.mtime) == (entry.size, entry.mtime))
    }

    /// What the journal keeps of an entry.
    #[must_use]
    pub fn of(entry: &Entry) -> Self {
        let Entry { kind, size, mtime, mode, uid, gid, .. } = *entry;
        Look { kind, size, mtime, mode, uid, gid }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(31);
        out.push(self.kind as u8);
        out.extend_from_slice(&self.size.to_le_bytes());
        out.extend_from_slice(&self.mtime.secs().to_le_bytes());
        out.extend_from_slice(&self.mtime.nanos().to_le_bytes());
        out.extend_from_slice(&self.mode.to_le_bytes());
        out.extend_from_slice(&self.uid.to_le_bytes());
        out.extend_from_slice(&self.gid.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (size, rest) = rest.split_first_chunk()?;
        let (secs, rest) = rest.split_first_chunk()?;
        let (nanos, rest) = rest.split_first_chunk()?;
        let (mode, rest) = rest.split_first_chunk()?;
        let (uid, rest) = rest.split_first_chunk()?;
        let (gid, rest) = rest.split_first_chunk()?;
        rest.is_empty().then_some(())?;
        Some(Look {
            kind: *Kind::ALL.get(usize::from(*kind))?,
            size: u64::from_le_bytes(*size),
            mtime: Stamp::new(i64::from_le_bytes(*secs), u32::from_le_bytes(*nanos)),
            mode: u16::from_le_bytes(*mode),
            uid: u32::from_le_bytes(*uid),
            gid: u32::from_le_bytes(*gid),
        })
    }
}

/// Where a version is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeptPlace {
    /// The directory.
    pub keep: Keep,
    /// The path below it.
    pub place: RelPath,
}

/// A kept version that got another name, because the next one of its name came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renamed {
    /// Whose work directory.
    pub side: Side,
    /// Its old place.
    pub from: KeptPlace,
    /// The new path below the same directory.
    pub to: RelPath,
}

impl Renamed {
    /// Where something that was kept at a place, or below it, on that side lies since; `None` if
    /// it lies where it lay.
    #[must_use]
    pub fn now(&self, kept: &KeptPlace) -> Option<RelPath> {
        if kept.keep != self.from.keep {
            return None;
        }
        kept.place.rebased(&self.from.place, &self.to)
    }
}

/// What is written down of a run beside the run itself.
#[derive(Debug, Default)]
pub struct RunRecord {
    /// The number that the run was given in both replicas; `None`: it recorded nothing there.
    pub number: Option<u64>,
    /// One row for each change.
    pub changes: Vec<Change>,
    /// Conflicts that were decided.
    pub decided: Vec<Decided>,
    /// Kept versions of earlier runs that have another name now.
    pub renamed: Vec<Renamed>,
    /// Kept versions of earlier runs that came back.
    pub taken: Vec<(Side, KeptPlace)>,
    /// The entry that was written of this run before it was over: this one takes its place.
    pub replaces: Option<i64>,
    /// The run that it took back.
    pub undoes: Option<i64>,
    /// Where both sides are meant to differ since.
    pub differs: Vec<Differs>,
    /// What a scrub found damaged, and did not heal.
    pub damaged: Vec<DamageRow>,
    /// Paths that were damaged, and which a scrub found sound.
    pub sound: Vec<RelPath>,
}

impl RunRecord {
    /// Whether there is nothing in it that somebody would look up.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.changes.is_empty()
            && self.decided.is_empty()
            && self.damaged.is_empty()
            && self.sound.is_empty()
            && self.undoes.is_none()
            && self.replaces.is_none()
    }
}

/// A path with a damaged copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamageRow {
    /// The path.
    pub path: RelPath,
    /// The side with the better copy, if one is better.
    pub winner: Side,
    /// Which copy is damaged, in words.
    pub reason: String,
    /// What each side has.
    pub looks: Pair<Option<Look>>,
}

/// A path at which both sides have what they had before a run that was undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Differs {
    /// The path.
    pub path: RelPath,
    /// What each side has; `None`: nothing.
    pub looks: Pair<Option<Look>>,
}

impl Differs {
    /// Whether one side has nothing there.
    #[must_use]
    pub fn is_one_sided(&self) -> bool {
        self.looks.iter().any(|(_, look)| look.is_none())
    }
}

/// One row of what a run did. A whole new or deleted subtree is one row: its top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The side that was changed.
    pub side: Side,
    /// The path.
    pub path: RelPath,
    /// What was done.
    pub action: Action,
    /// The old name of something that was renamed.
    pub other: Option<RelPath>,
    /// How many entries below the path came, went or moved along.
    pub below: u64,
    /// What was there before.
    pub before: Option<Look>,
    /// What is there since.
    pub after: Option<Look>,
    /// Where the version from before is kept; `None` if it is not, or not any more.
    pub kept: Option<KeptPlace>,
    /// What was there before was known to be damaged ([`crate::state::DamagedFile`]).
    pub was_damaged: bool,
    /// ACLs and extended attributes from before, where they were changed alone; in the words of
    /// whoever changed them.
    pub attributes: Option<Vec<u8>>,
}

impl Change {
    /// A row without anything that only some rows have.
    #[must_use]
    pub fn new(side: Side, path: RelPath, action: Action) -> Self {
        Change {
            side,
            path,
            action,
            other: None,
            below: 0,
            before: None,
            after: None,
            kept: None,
            was_damaged: false,
            attributes: None,
        }
    }
}

/// A conflict that a run decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The path.
    pub path: RelPath,
    /// Whose version is on both sides since.
    pub winner: Side,
    /// Why, in words.
    pub reason: String,
    /// The version that won; `None`: a deletion lost against nothing of this side.
    pub won: Option<Look>,
    /// The version that lost; `None`: it had been deleted there.
    pub lost: Option<Look>,
    /// Where that is; `None` if it is not kept.
    pub lost_at: Option<LostAt>,
}

/// Where the version that lost a conflict is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LostAt {
    /// In the work directory of its own side.
    Kept(KeptPlace),
    /// Under this name on both sides, beside the winner (CONFLICT_COPY).
    Beside(RelPath),
}

/// Whether a conflict still waits for somebody's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConflictState {
    /// It does.
    Open,
    /// Somebody decided it, or the path is gone.
    Resolved,
    /// A later conflict of the same path stands in its place.
    Superseded,
    /// The kept copy is gone.
    Expired,
    /// Both sides have what they had before a run that was undone: they differ, and are meant to.
    /// `won` is what the initiator has, `lost` what the target has.
    Undone,
    /// A scrub found a copy damaged: no run transfers it. `won` is what the winner has, `lost` what
    /// the other side has.
    Damaged,
}

impl ConflictState {
    const ALL: [ConflictState; 6] = [
        ConflictState::Open,
        ConflictState::Resolved,
        ConflictState::Superseded,
        ConflictState::Expired,
        ConflictState::Undone,
        ConflictState::Damaged,
    ];

    /// Whether somebody may still decide it.
    #[must_use]
    pub fn waits(self) -> bool {
        matches!(self, ConflictState::Open | ConflictState::Undone | ConflictState::Damaged)
    }

    /// The word for people and for JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ConflictState::Open => "open",
            ConflictState::Resolved => "resolved",
            ConflictState::Superseded => "superseded",
            ConflictState::Expired => "expired",
            ConflictState::Undone => SINCE_UNDO,
            ConflictState::Damaged => "damaged",
        }
    }
}

/// How many of each kind a run did to one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Entries made or given new content.
    pub updates: u64,
    /// Entries of which only metadata was set.
    pub metadata: u64,
    /// Entries deleted.
    pub deletions: u64,
    /// Entries renamed.
    pub moves: u64,
    /// Bytes of content received.
    pub bytes: u64,
}

impl Counts {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Counts) -> Counts {
        Counts {
            updates: self.updates + other.updates,
            metadata: self.metadata + other.metadata,
            deletions: self.deletions + other.deletions,
            moves: self.moves + other.moves,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// A run, without its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// When it began, in milliseconds since the epoch.
    pub began: i64,
    /// When it was recorded, likewise.
    pub ended: i64,
    /// Its exit status as far as it was known then (spec 1).
    pub status: u8,
    /// Who and why: `cron`, `monitor`, `undo 12`.
    pub cause: String,
    /// The run that it took back.
    pub undoes: Option<i64>,
    /// What was done to each side.
    pub counts: Pair<Counts>,
    /// What went wrong, one line each.
    pub problems: Vec<String>,
    /// When the whole run began, in milliseconds since the epoch, of which this one is a turn;
    /// `None`: it is no turn of a star.
    pub star: Option<i64>,
}

/// A run as it stands in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedRun {
    /// Its number.
    pub number: i64,
    /// What is known of it.
    pub run: Run,
    /// How many conflicts it decided.
    pub conflicts: u64,
    /// At how many paths both sides differ since, because it was an undo.
    pub differs: u64,
    /// How many files it found damaged and did not heal, if it was a scrub.
    pub damaged: u64,
}

/// A run that `osync undo` of a star may take back, or that took one back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedTurn {
    /// The run's number.
    pub number: i64,
    /// When it began, in milliseconds since the epoch.
    pub began: i64,
    /// The run that it took back.
    pub undoes: Option<i64>,
    /// Whether it changed anything.
    pub has_changes: bool,
    /// When the whole run began, of which it is a turn.
    pub star: Option<i64>,
}

/// A change with the run that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedChange {
    /// The run's number.
    pub run: i64,
    /// When that run began, in milliseconds since the epoch.
    pub began: i64,
    /// When it was recorded, likewise.
    pub ended: i64,
    /// What it did.
    pub change: Change,
}

/// What waits for somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// Open conflicts.
    pub conflicts: u64,
    /// Paths that differ since an undo.
    pub differences: u64,
}

/// What a row of the conflicts is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matter {
    /// Both sides changed a path, and one of them won.
    Conflict,
    /// Both sides differ since an undo.
    Difference,
    /// A scrub found a copy damaged.
    Damage,
}

/// A conflict with the run that decided it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedConflict {
    /// Its number among all conflicts.
    pub id: i64,
    /// The run's number.
    pub run: i64,
    /// When that run began, in milliseconds since the epoch.
    pub began: i64,
    /// When it was recorded, likewise.
    pub ended: i64,
    /// What it is about.
    pub matter: Matter,
    /// What was decided. Only a conflict has a winner; of the other two `looks` tells all.
    pub decided: Decided,
    /// Whether it is still open.
    pub state: ConflictState,
}

impl RecordedConflict {
    /// What each side had.
    #[must_use]
    pub fn looks(&self) -> Pair<Option<&Look>> {
        let Decided { winner, won, lost, .. } = &self.decided;
        Pair::from_fn(|side| if side == *winner { won.as_ref() } else { lost.as_ref() })
    }
}

/// Which runs are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Only the run with this number.
    pub number: Option<i64>,
    /// Only those that ended at or after this moment (milliseconds since the epoch).
    pub since: Option<i64>,
    /// Only those that did not end with status 0.
    pub only: Only,
    /// At most so many, the newest.
    pub limit: Option<u64>,
}

/// Which runs by their result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Only {
    /// All of them.
    #[default]
    All,
    /// Those that did not end well.
    Failed,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    db: Connection,
    path: PathBuf,
}

impl Journal {
    /// The journal's file of a task.
    #[must_use]
    pub fn file(dir: &StateDir, instance_id: &str) -> PathBuf {
        dir.path().join(format!("history-{instance_id}.db"))
    }

    /// Opens the journal to read it; `None` if the task has none yet.
    ///
    /// # Errors
    /// It is damaged, newer, or cannot be read.
    pub fn read(dir: &StateDir, instance_id: &str) -> Result<Option<Self>, JournalError> {
        let path = Journal::file(dir, instance_id);
        // one that may not be looked for is not one that is missing
        let is_there = path
            .try_exists()
            .map_err(|cause| JournalError::File { path: Shown::new(path.clone()), cause })?;
        if !is_there {
            return Ok(None);
        }
        let journal = Journal::connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        if journal.check_version()? < VERSION {
            drop(journal);
            return Journal::open_sound(&path).map(Some);
        }
        Ok(Some(journal))
    }

    /// Opens the journal to write to it, makes a new one, or sets a damaged one aside and
    /// makes a new one; the second value says so, for the log.
    ///
    /// # Errors
    /// It is newer, or cannot be written.
    pub fn write(
        dir: &StateDir,
        instance_id: &str,
    ) -> Result<(Self, Option<String>), JournalError> {
        let path = Journal::file(dir, instance_id);
        match Journal::open_sound(&path) {
            Err(JournalError::Database { cause, .. }) if is_damage(&cause) => {
                let aside = path.with_extension("db.damaged");
                std::fs::rename(&path, &aside).map_err(|cause| JournalError::File {
                    path: Shown::new(path.clone()),
                    cause,
                })?;
                // what belongs to the damaged file must not be taken for the new one's
                for suffix in ["-journal", "-wal", "-shm"] {
                    let mut name = path.clone().into_os_string();
                    name.push(suffix);
                    let _ = std::fs::remove_file(name);
                }
                let note = format!(
                    "the journal {} is damaged ({cause}); it was kept as {} and begun anew",
                    Shown::new(path.clone()),
                    Shown::new(aside)
                );
                Ok((Journal::open_sound(&path)?, Some(note)))
            }
            result => Ok((result?, None)),
        }
    }

    fn open_sound(path: &Path) -> Result<Self, JournalError> {
        let journal = Journal::connect(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        )?;
        let found = journal.check_version()?;
        match usize::try_from(found) {
            Ok(0) => journal.bring_up(SCHEMA)?,
            Ok(found) if found <= UPGRADES.len() => {
                journal.bring_up(&UPGRADES[found - 1..].concat())?;
            }
            _ => {}
        }
        // a quick look at the last pages; a whole check would read all of a big file
        let word: String = journal
            .db
            .query_row("SELECT coalesce(max(number), 0) || '' FROM runs", [], |row| row.get(0))
            .map_err(|e| journal.error(e))?;
        drop(word);
        Ok(journal)
    }

    fn connect(path: &Path, flags: OpenFlags) -> Result<Self, JournalError> {
        let failed = |cause| JournalError::Database { path: Shown::new(path.to_owned()), cause };
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags).map_err(failed)?;
        db.busy_timeout(BUSY).map_err(failed)?;
        Ok(Journal { db, path: path.to_owned() })
    }

    fn bring_up(&self, statements: &str) -> Result<(), JournalError> {
        let make = format!("BEGIN; {statements} PRAGMA user_version = {VERSION}; COMMIT;");
        self.db.execute_batch(&make).map_err(|e| self.error(e))
    }

    fn check_version(&self) -> Result<i64, JournalError> {
        let found: i64 = self
            .db
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(|e| self.error(e))?;
        if found > VERSION {
            return Err(JournalError::Newer { path: Shown::new(self.path.clone()), found });
        }
        Ok(found)
    }

    fn error(&self, cause: rusqlite::Error) -> JournalError {
        JournalError::Database { path: Shown::new(self.path.clone()), cause }
    }

    /// Writes a run, all of it or nothing, and returns its number. Runs that ended before
    /// `forget_before` (milliseconds since the epoch) are forgotten, but for open conflicts.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn record(
        &mut self,
        run: &Run,
        done: &RunRecord,
        forget_before: Option<i64>,
    ) -> Result<i64, JournalError> {
        let path = self.path.clone();
        let failed = |cause| JournalError::Database { path: Shown::new(path.clone()), cause };
        let mut write = || -> rusqlite::Result<i64> {
            let tx = self.db.transaction()?;
            if let Some(number) = done.replaces {
                tx.execute(
                    "UPDATE conflicts SET state = ?1, closed = NULL WHERE closed = ?2",
                    params![ConflictState::Damaged as i64, number],
                )?;
                for (table, column) in
                    [("changes", "run"), ("conflicts", "run"), ("runs", "number")]
                {
                    tx.execute(&format!("DELETE FROM {table} WHERE {column} = ?1"), [number])?;
                }
            }
            tx.execute(
                "INSERT INTO runs
                 (number, began, ended, status, cause, undoes, counts, problems, star)
                 VALUES (max(?8, (SELECT coalesce(max(number), 0) + 1 FROM runs)),
                         ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?9)",
                params![
                    run.began,
                    run.ended,
                    run.status,
                    run.cause,
                    run.undoes,
                    json(&[run.counts.initiator, run.counts.target]),
                    json(&run.problems),
                    done.number.and_then(|number| i64::try_from(number).ok()).unwrap_or(1),
                    run.star,
                ],
            )?;
            let number = tx.last_insert_rowid();
            if let Some(undone) = run.undoes {
                reopen_conflicts(&tx, undone)?;
            }
            follow_conflicts(&tx, number, done)?;
            {
                for (side, kept) in &done.taken {
                    forget_taken(&tx, *side, kept)?;
                }
                follow_renamed(&tx, &done.renamed)?;
                // before any row of this run: two of them may tell of one version
                for change in &done.changes {
                    if let Some(kept) = &change.kept {
                        forget_replaced(&tx, change.side, kept)?;
                    }
                }
                let mut insert = tx.prepare(
                    "INSERT INTO changes
                     (run, side, path, action, other, below, before, after, keep, place, attributes,
                      damaged)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
                )?;
                for change in &done.changes {
                    let (keep, place) = kept_codes(change.kept.as_ref(), &change.path);
                    insert.execute(params![
                        number,
                        side_code(change.side),
                        change.path.as_bytes(),
                        change.action as i64,
                        change.other.as_ref().map(RelPath::as_bytes),
                        i64::try_from(change.below).unwrap_or(i64::MAX),
                        change.before.as_ref().map(Look::encode),
                        change.after.as_ref().map(Look::encode),
                        keep,
                        place,
                        change.attributes,
                        change.was_damaged.then_some(1),
                    ])?;
                }
                let mut supersede = tx.prepare(
                    "UPDATE conflicts SET state = ?1, closed = ?2 WHERE path = ?3 AND state = 0",
                )?;
                let mut insert = tx.prepare(
                    "INSERT INTO conflicts
                     (run, path, winner, reason, won, lost, state, keep, place)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, ?8)",
                )?;
                for decided in &done.decided {
                    let (keep, place) = lost_codes(decided.lost_at.as_ref(), &decided.path);
                    supersede.execute(params![
                        ConflictState::Superseded as i64,
                        number,
                        decided.path.as_bytes()
                    ])?;
                    insert.execute(params![
                        number,
                        decided.path.as_bytes(),
                        side_code(decided.winner),
                        decided.reason,
                        decided.won.as_ref().map(Look::encode),
                        decided.lost.as_ref().map(Look::encode),
                        keep,
                        place,
                    ])?;
                }
            }
            write_differences(&tx, number, &done.differs)?;
            write_damage(&tx, number, done)?;
            if let Some(before) = forget_before {
                let old = "(SELECT number FROM runs WHERE ended < ?1)";
                tx.execute(&format!("DELETE FROM changes WHERE run IN {old}"), [before])?;
                tx.execute(
                    &format!("DELETE FROM conflicts WHERE state NOT IN (0, 4, 5) AND run IN {old}"),
                    [before],
                )?;
                tx.execute(
                    "DELETE FROM runs WHERE ended < ?1
                     AND number NOT IN (SELECT run FROM conflicts) AND number <> ?2",
                    [before, number],
                )?;
            }
            tx.commit()?;
            Ok(number)
        };
        write().map_err(failed)
    }

    /// Follows kept versions that somebody put back: those that got another name to make room,
    /// and those that are kept no longer.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn follow(
        &mut self,
        renamed: &[Renamed],
        taken: &[(Side, KeptPlace)],
    ) -> Result<(), JournalError> {
        let path = self.path.clone();
        let mut write = || -> rusqlite::Result<()> {
            let tx = self.db.transaction()?;
            for (side, kept) in taken {
                forget_taken(&tx, *side, kept)?;
            }
            follow_renamed(&tx, renamed)?;
            tx.commit()
        };
        write().map_err(|cause| JournalError::Database { path: Shown::new(path), cause })
    }

    /// Runs, the newest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn runs(&self, wanted: &Wanted) -> Result<Vec<RecordedRun>, JournalError> {
        let limit = wanted.limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let failed = i64::from(wanted.only == Only::Failed);
        let query = "SELECT number, began, ended, status, cause, undoes, counts, problems,
                            (SELECT count(*) FROM conflicts
                             WHERE run = number AND reason <> 'differs since undo'
                               AND cause <> 'scrub'),
                            (SELECT count(*) FROM conflicts WHERE run = number AND state = 4),
                            star,
                            (SELECT count(*) FROM conflicts
                             WHERE run = number AND cause = 'scrub')
                     FROM runs
                     WHERE (?1 IS NULL OR number = ?1) AND (?2 IS NULL OR ended >= ?2)
                       AND (?3 = 0 OR status <> 0)
                     ORDER BY number DESC LIMIT ?4";
        self.rows(query, params![wanted.number, wanted.since, failed, limit], |row| {
            let counts: String = row.get(6)?;
            let [initiator, target] = serde_json::from_str(&counts).unwrap_or_default();
            let problems: String = row.get(7)?;
            Ok(RecordedRun {
                number: row.get(0)?,
                run: Run {
                    began: row.get(1)?,
                    ended: row.get(2)?,
                    status: row.get(3)?,
                    cause: row.get(4)?,
                    undoes: row.get(5)?,
                    counts: Pair::new(initiator, target),
                    problems: serde_json::from_str(&problems).unwrap_or_default(),
                    star: row.get(10)?,
                },
                conflicts: unsigned(row.get(8)?),
                differs: unsigned(row.get(9)?),
                damaged: unsigned(row.get(11)?),
            })
        })
    }

    /// When the first run that it remembers began, in milliseconds since the epoch.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn first_began(&self) -> Result<Option<i64>, JournalError> {
        self.db
            .query_row("SELECT min(began) FROM runs", [], |row| row.get(0))
            .map_err(|e| self.error(e))
    }

    /// The number of the last run; 0 if there is none.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn last_number(&self) -> Result<u64, JournalError> {
        self.db
            .query_row("SELECT coalesce(max(number), 0) FROM runs", [], |row| row.get(0))
            .map(unsigned)
            .map_err(|e| self.error(e))
    }

    /// Everything that one run changed, in the order of the paths.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn changes_of_run(&self, number: i64) -> Result<Vec<RecordedChange>, JournalError> {
        let query = format!("{CHANGES} WHERE run = ?1 ORDER BY path, side");
        self.rows(&query, params![number], recorded_change)
    }

    /// Everything that later runs changed.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn changes_after(&self, number: i64) -> Result<Vec<RecordedChange>, JournalError> {
        let query = format!("{CHANGES} WHERE run > ?1");
        self.rows(&query, params![number], recorded_change)
    }

    /// The last run that changed anything; what a scrub healed is no change of anybody's.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn last_with_changes(&self) -> Result<Option<i64>, JournalError> {
        let query = format!(
            "SELECT max(run) FROM changes
             WHERE run NOT IN (SELECT number FROM runs WHERE cause = '{SCRUB}')"
        );
        self.db.query_row(&query, [], |row| row.get(0)).map_err(|e| self.error(e))
    }

    /// When the last run that changed anything began, as a whole if it was a turn of a star.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn last_whole(&self) -> Result<Option<i64>, JournalError> {
        let query = format!(
            "SELECT max(coalesce(star, began)) FROM runs
             WHERE number IN (SELECT run FROM changes) AND cause <> '{SCRUB}'"
        );
        self.db.query_row(&query, [], |row| row.get(0)).map_err(|e| self.error(e))
    }

    /// The runs that changed or took back something, of the whole run that began then.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn turns(&self, whole: i64) -> Result<Vec<RecordedTurn>, JournalError> {
        let query = format!(
            "SELECT number, began, undoes, has_changes, star
             FROM (SELECT *, number IN (SELECT run FROM changes) AS has_changes FROM runs)
             WHERE coalesce(star, began) = ?1 AND (has_changes OR undoes IS NOT NULL)
               AND cause <> '{SCRUB}'"
        );
        self.rows(&query, params![whole], |row| {
            Ok(RecordedTurn {
                number: row.get(0)?,
                began: row.get(1)?,
                undoes: row.get(2)?,
                has_changes: row.get(3)?,
                star: row.get(4)?,
            })
        })
    }

    /// Everything that happened to a path, below it, or to a directory that held it, the
    /// newest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn changes_of_path(&self, path: &RelPath) -> Result<Vec<RecordedChange>, JournalError> {
        let mut found = Vec::new();
        // what came or went with a whole directory stands there only
        let mut at = path.parent();
        while let Some(above) = at {
            let query = format!("{CHANGES} WHERE path = ?1 AND below > 0");
            found.extend(self.rows(&query, params![above.as_bytes()], recorded_change)?);
            at = above.parent();
        }
        let (low, high) = below(path);
        let query = format!("{CHANGES} WHERE path = ?1 OR (path >= ?2 AND path < ?3)");
        found.extend(self.rows(&query, params![path.as_bytes(), low, high], recorded_change)?);
        let query = format!("{CHANGES} WHERE other = ?1 OR (other >= ?2 AND other < ?3)");
        found.extend(self.rows(&query, params![path.as_bytes(), low, high], recorded_change)?);
        found.sort_by(|a, b| (b.run, &a.change.path).cmp(&(a.run, &b.change.path)));
        found.dedup();
        Ok(found)
    }

    /// Paths that something happened to, new names and old ones, whose bytes begin so.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn paths_with(&self, begin: &[u8], limit: usize) -> Result<Vec<RelPath>, JournalError> {
        // no path is longer, and no byte higher
        let end = [begin, &[0xff; 4096]].concat();
        let query = "SELECT path FROM changes WHERE path >= ?1 AND path <= ?2
                     UNION SELECT other FROM changes WHERE other >= ?1 AND other <= ?2
                     LIMIT ?3";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let found = self.rows(query, params![begin, end, limit], |row| path_at(row, 0))?;
        Ok(found.into_iter().flatten().collect())
    }

    /// How much waits for a decision.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn waiting(&self) -> Result<Waiting, JournalError> {
        let query =
            "SELECT count(CASE state WHEN 0 THEN 1 END), count(CASE state WHEN 4 THEN 1 END)
                     FROM conflicts WHERE state IN (0, 4)";
        let counts = self.db.query_row(query, [], |row| {
            Ok(Waiting { conflicts: unsigned(row.get(0)?), differences: unsigned(row.get(1)?) })
        });
        counts.map_err(|e| self.error(e))
    }

    /// Conflicts in a state, or all of them, the newest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn conflicts(
        &self,
        state: Option<ConflictState>,
    ) -> Result<Vec<RecordedConflict>, JournalError> {
        let query =
            "SELECT conflicts.rowid, run, path, winner, reason, won, lost, state, began, ended,
                            keep, place, cause
                     FROM conflicts JOIN runs ON runs.number = run
                     WHERE ?1 IS NULL OR state = ?1 ORDER BY run DESC, path";
        self.rows(query, params![state.map(|state| state as i64)], |row| {
            let (reason, cause): (String, String) = (row.get(4)?, row.get(12)?);
            Ok(RecordedConflict {
                id: row.get(0)?,
                run: row.get(1)?,
                began: row.get(8)?,
                ended: row.get(9)?,
                matter: match cause.as_str() {
                    SCRUB => Matter::Damage,
                    _ if reason == SINCE_UNDO => Matter::Difference,
                    _ => Matter::Conflict,
                },
                decided: Decided {
                    path: path_at(row, 2)?.unwrap_or_default(),
                    winner: side_of(row.get(3)?),
                    reason,
                    won: look_at(row, 5)?,
                    lost: look_at(row, 6)?,
                    lost_at: lost_at(row, 10, 11, &path_at(row, 2)?.unwrap_or_default())?,
                },
                state: state_of(row.get(7)?),
            })
        })
    }

    /// Closes open conflicts whose kept copies are gone: those of runs that ended before a moment
    /// (milliseconds since the epoch). A copy beside is there until somebody deletes it. Says how
    /// many there were.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn expire_conflicts(&self, before: i64) -> Result<usize, JournalError> {
        let close = "UPDATE conflicts SET state = ?1
                     WHERE state = 0 AND NOT (keep IS NULL AND place IS NOT NULL) AND run IN (SELECT number FROM runs WHERE ended < ?2)";
        self.db
            .execute(close, params![ConflictState::Expired as i64, before])
            .map_err(|e| self.error(e))
    }

    /// Notes that a conflict is no longer open.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn close_conflict(&self, id: i64, state: ConflictState) -> Result<(), JournalError> {
        let close = "UPDATE conflicts SET state = ?1 WHERE rowid = ?2";
        self.db.execute(close, params![state as i64, id]).map_err(|e| self.error(e))?;
        Ok(())
    }

    fn rows<T>(
        &self,
        query: &str,
        params: &[&dyn ToSql],
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, JournalError> {
        let mut statement = self.db.prepare(query).map_err(|e| self.error(e))?;
        let rows = statement.query_map(params, read).map_err(|e| self.error(e))?;
        rows.collect::<rusqlite::Result<_>>().map_err(|e| self.error(e))
    }
}

const CHANGES: &str =
    "SELECT run, began, ended, side, path, action, other, below, before, after, keep, place,
                              attributes, damaged IS NOT NULL
                       FROM changes JOIN runs ON runs.number = run";

fn recorded_change(row: &Row<'_>) -> rusqlite::Result<RecordedChange> {
    let action: i64 = row.get(5)?;
    Ok(RecordedChange {
        run: row.get(0)?,
        began: row.get(1)?,
        ended: row.get(2)?,
        change: Change {
            side: side_of(row.get(3)?),
            path: path_at(row, 4)?.unwrap_or_default(),
            action: usize::try_from(action)
                .ok()
                .and_then(|at| Action::ALL.get(at).copied())
                .unwrap_or(Action::Metadata),
            other: path_at(row, 6)?,
            below: unsigned(row.get(7)?),
            before: look_at(row, 8)?,
            after: look_at(row, 9)?,
            kept: kept_at(row, 10, 11, path_at(row, 4)?)?,
            was_damaged: row.get(13)?,
            attributes: row.get(12)?,
        },
    })
}

fn is_damage(cause: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(cause.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
        || matches!(cause, rusqlite::Error::SqliteFailure(_, Some(text)) if text.contains("no such table"))
        || matches!(cause, rusqlite::Error::SqlInputError { msg, .. } if msg.contains("no such table"))
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn side_code(side: Side) -> i64 {
    match side {
        Side::Initiator => 0,
        Side::Target => 1,
    }
}

fn side_of(code: i64) -> Side {
    if code == 0 { Side::Initiator } else { Side::Target }
}

/// A state that only a newer osync knows waits for nobody here.
fn state_of(code: i64) -> ConflictState {
    let at = usize::try_from(code).ok();
    at.and_then(|at| ConflictState::ALL.get(at).copied()).unwrap_or(ConflictState::Resolved)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A path of a row. One that leads out of the replica is refused: no run writes such a path.
fn path_at(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<RelPath>> {
    let bytes: Option<Vec<u8>> = row.get(at)?;
    Ok(bytes.and_then(|bytes| RelPath::new(bytes).ok()))
}

fn look_at(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Look>> {
    let bytes: Option<Vec<u8>> = row.get(at)?;
    Ok(bytes.and_then(|bytes| Look::decode(&bytes)))
}

fn keep_code(keep: Keep) -> i64 {
    match keep {
        Keep::Backup => 0,
        Keep::Deleted => 1,
    }
}

/// How a kept place is written: most have the path itself for their place, and leave it out.
fn kept_codes<'k>(kept: Option<&'k KeptPlace>, path: &RelPath) -> (Option<i64>, Option<&'k [u8]>) {
    let place = kept.filter(|kept| kept.place != *path).map(|kept| kept.place.as_bytes());
    (kept.map(|kept| keep_code(kept.keep)), place)
}

/// How the place of a version that lost is written: beside is where nothing keeps it.
fn lost_codes<'k>(lost_at: Option<&'k LostAt>, path: &RelPath) -> (Option<i64>, Option<&'k [u8]>) {
    match lost_at {
        Some(LostAt::Kept(kept)) => kept_codes(Some(kept), path),
        Some(LostAt::Beside(copy)) => (None, Some(copy.as_bytes())),
        None => (None, None),
    }
}

fn lost_at(
    row: &Row<'_>,
    keep: usize,
    place: usize,
    path: &RelPath,
) -> rusqlite::Result<Option<LostAt>> {
    Ok(match kept_at(row, keep, place, Some(path.clone()))? {
        Some(kept) => Some(LostAt::Kept(kept)),
        None => path_at(row, place)?.map(LostAt::Beside),
    })
}

fn kept_at(
    row: &Row<'_>,
    keep: usize,
    place: usize,
    path: Option<RelPath>,
) -> rusqlite::Result<Option<KeptPlace>> {
    let keep: Option<i64> = row.get(keep)?;
    let keep = keep.map(|keep| if keep == 0 { Keep::Backup } else { Keep::Deleted });
    let place = path_at(row, place)?.or(path);
    Ok(keep.zip(place).map(|(keep, place)| KeptPlace { keep, place }))
}

/// What a run means for conflicts that wait: with its path a conflict is gone, and with the copy
/// beside it is decided; a difference that an undo left ends with a change of its path; and what
/// was renamed takes its conflict along.
fn follow_conflicts(tx: &Connection, run: i64, done: &RunRecord) -> rusqlite::Result<()> {
    let mut waiting = tx.prepare(
        "SELECT rowid, path, state, keep, place FROM conflicts WHERE state IN (0, 4, 5)",
    )?;
    let waiting = waiting.query_map([], |row| {
        let path = path_at(row, 1)?.unwrap_or_default();
        let lost_at = lost_at(row, 3, 4, &path)?;
        Ok((row.get(0)?, path, state_of(row.get(2)?), lost_at))
    })?;
    let waiting: Vec<(i64, RelPath, ConflictState, Option<LostAt>)> =
        waiting.collect::<Result<_, _>>()?;
    if waiting.is_empty() {
        return Ok(());
    }
    let fate = Fate::of(done);
    for (id, path, state, lost_at) in waiting {
        let is_over = match &lost_at {
            _ if state == ConflictState::Undone => fate.has_changed(&path),
            _ if state == ConflictState::Damaged => {
                fate.is_gone(&path) || fate.has_new_content(&path)
            }
            Some(LostAt::Beside(copy)) => fate.is_gone(&path) || fate.is_decided(copy),
            Some(LostAt::Kept(_)) | None => fate.is_gone(&path),
        };
        if is_over || fate.differs.contains(&path) {
            let state = if is_over { ConflictState::Resolved } else { ConflictState::Superseded };
            let close = "UPDATE conflicts SET state = ?1, closed = ?2 WHERE rowid = ?3";
            tx.execute(close, params![state as i64, run, id])?;
        } else if let Some(to) = fate.new_name(&path) {
            let lost_at = lost_at.map(|at| match at {
                LostAt::Beside(copy) => {
                    LostAt::Beside(fate.new_name(&copy).unwrap_or_else(|| copy.clone()))
                }
                kept @ LostAt::Kept(_) => kept,
            });
            let (keep, place) = lost_codes(lost_at.as_ref(), &to);
            let follow = "UPDATE conflicts SET path = ?1, keep = ?2, place = ?3 WHERE rowid = ?4";
            tx.execute(follow, params![to.as_bytes(), keep, place, id])?;
        }
    }
    Ok(())
}

/// What an undo closed waits again when it is undone itself.
fn reopen_conflicts(tx: &Connection, undo: i64) -> rusqlite::Result<()> {
    tx.execute(
        "UPDATE conflicts SET closed = NULL, state = CASE reason WHEN ?1 THEN ?2 ELSE ?3 END
         WHERE closed = ?4
           AND EXISTS (SELECT 1 FROM runs WHERE number = ?4 AND undoes IS NOT NULL)",
        params![SINCE_UNDO, ConflictState::Undone as i64, ConflictState::Open as i64, undo],
    )?;
    Ok(())
}

/// What a run did, as conflicts look at it.
struct Fate<'d> {
    deleted: BTreeSet<&'d RelPath>,
    /// New names by old ones.
    renamed: BTreeMap<&'d RelPath, &'d RelPath>,
    /// Paths with all below them.
    trees: BTreeSet<&'d RelPath>,
    changed: BTreeSet<&'d RelPath>,
    /// Paths that have another content.
    written: BTreeSet<&'d RelPath>,
    differs: BTreeSet<&'d RelPath>,
}

impl<'d> Fate<'d> {
    fn of(done: &'d RunRecord) -> Self {
        let mut fate = Fate {
            deleted: BTreeSet::new(),
            renamed: BTreeMap::new(),
            trees: BTreeSet::new(),
            changed: BTreeSet::new(),
            written: BTreeSet::new(),
            differs: done.differs.iter().map(|one| &one.path).collect(),
        };
        // what lost now has its new name from this run, and its conflict the old one
        let is_copy = |change: &Change| {
            done.decided.iter().any(|decided| match &decided.lost_at {
                Some(LostAt::Beside(copy)) => *copy == change.path,
                _ => false,
            })
        };
        for change in &done.changes {
            for path in std::iter::once(&change.path).chain(&change.other) {
                fate.changed.insert(path);
                if change.below > 0 || change.action == Action::Moved {
                    fate.trees.insert(path);
                }
            }
            match (change.action, &change.other) {
                (Action::Deleted, _) => drop(fate.deleted.insert(&change.path)),
                (Action::Created | Action::Updated, _) => drop(fate.written.insert(&change.path)),
                (Action::Moved, Some(old)) if !is_copy(change) => {
                    fate.renamed.insert(old, &change.path);
                }
                _ => {}
            }
        }
        fate
    }

    fn is_gone(&self, path: &RelPath) -> bool {
        path.ancestors().any(|above| self.deleted.contains(&above))
    }

    /// Somebody deleted a copy, or gave it another name, its original's perhaps.
    fn is_decided(&self, copy: &RelPath) -> bool {
        self.is_gone(copy) || self.renamed.contains_key(copy)
    }

    fn has_changed(&self, path: &RelPath) -> bool {
        self.changed.contains(path) || path.ancestors().any(|above| self.trees.contains(&above))
    }

    fn has_new_content(&self, path: &RelPath) -> bool {
        self.written.contains(path)
    }

    /// The name that a path has since, if it or a directory above it was renamed.
    fn new_name(&self, path: &RelPath) -> Option<RelPath> {
        path.ancestors().find_map(|above| path.rebased(&above, self.renamed.get(&above)?))
    }
}

/// Where both sides differ since an undo.
fn write_differences(tx: &Connection, run: i64, differs: &[Differs]) -> rusqlite::Result<()> {
    let mut insert = tx.prepare(
        "INSERT INTO conflicts (run, path, winner, reason, won, lost, state)
         VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6)",
    )?;
    for one in differs {
        let look = |side: Side| one.looks[side].as_ref().map(Look::encode);
        insert.execute(params![
            run,
            one.path.as_bytes(),
            SINCE_UNDO,
            look(Side::Initiator),
            look(Side::Target),
            ConflictState::Undone as i64,
        ])?;
    }
    Ok(())
}

/// What a scrub found damaged, and what it found sound again.
fn write_damage(tx: &Connection, run: i64, done: &RunRecord) -> rusqlite::Result<()> {
    let mut close =
        tx.prepare("UPDATE conflicts SET state = ?1, closed = ?2 WHERE path = ?3 AND state = ?4")?;
    let sound = done.sound.iter().map(|path| (path, ConflictState::Resolved));
    let again = done.damaged.iter().map(|row| (&row.path, ConflictState::Superseded));
    for (path, state) in sound.chain(again) {
        let damaged = ConflictState::Damaged as i64;
        close.execute(params![state as i64, run, path.as_bytes(), damaged])?;
    }
    let mut insert = tx.prepare(
        "INSERT INTO conflicts (run, path, winner, reason, won, lost, state)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for row in &done.damaged {
        let look = |side: Side| row.looks[side].as_ref().map(Look::encode);
        insert.execute(params![
            run,
            row.path.as_bytes(),
            side_code(row.winner),
            row.reason,
            look(row.winner),
            look(row.winner.other()),
            ConflictState::Damaged as i64,
        ])?;
    }
    Ok(())
}

/// Rows of earlier runs whose version has another name now.
fn follow_renamed(tx: &Connection, renamed: &[Renamed]) -> rusqlite::Result<()> {
    let mut changes = tx.prepare(
        "UPDATE changes SET place = ?1
         WHERE path = ?2 AND place IS NULL AND keep = ?3 AND side = ?4",
    )?;
    let mut conflicts = tx.prepare(
        "UPDATE conflicts SET place = ?1
         WHERE coalesce(place, path) = ?2 AND keep = ?3 AND winner <> ?4",
    )?;
    // what lies in a directory goes along with it
    let mut plain_below = tx.prepare(
        "UPDATE changes SET place = CAST(?1 || substr(path, ?2) AS BLOB)
         WHERE path >= ?3 AND path < ?4 AND place IS NULL AND keep = ?5 AND side = ?6",
    )?;
    let mut placed_below = tx.prepare(
        "UPDATE changes SET place = CAST(?1 || substr(place, ?2) AS BLOB)
         WHERE place >= ?3 AND place < ?4 AND place IS NOT NULL AND keep = ?5 AND side = ?6",
    )?;
    let mut conflicts_below = tx.prepare(
        "UPDATE conflicts SET place = CAST(?1 || substr(coalesce(place, path), ?2) AS BLOB)
         WHERE coalesce(place, path) >= ?3 AND coalesce(place, path) < ?4
           AND keep = ?5 AND winner <> ?6",
    )?;
    for Renamed { side, from, to } in renamed {
        let (low, high) = below(&from.place);
        let rest = i64::try_from(from.place.as_bytes().len() + 1).unwrap_or(i64::MAX);
        for statement in [&mut plain_below, &mut placed_below, &mut conflicts_below] {
            let (keep, side) = (keep_code(from.keep), side_code(*side));
            statement.execute(params![to.as_bytes(), rest, low, high, keep, side])?;
        }
        let (to, place) = (to.as_bytes(), from.place.as_bytes());
        let (keep, side) = (keep_code(from.keep), side_code(*side));
        changes.execute(params![to, place, keep, side])?;
        conflicts.execute(params![to, place, keep, side])?;
    }
    Ok(())
}

/// Rows of earlier runs whose version is replaced by another one of its name.
fn forget_replaced(tx: &Connection, side: Side, kept: &KeptPlace) -> rusqlite::Result<()> {
    let mut changes = tx.prepare_cached(
        "UPDATE changes SET keep = NULL
         WHERE path = ?1 AND place IS NULL AND keep = ?2 AND side = ?3",
    )?;
    changes.execute(params![kept.place.as_bytes(), keep_code(kept.keep), side_code(side)])?;
    Ok(())
}

/// Rows whose version was put back.
fn forget_taken(tx: &Connection, side: Side, kept: &KeptPlace) -> rusqlite::Result<()> {
    forget_replaced(tx, side, kept)?;
    let mut dated = tx.prepare_cached(
        "UPDATE changes SET keep = NULL, place = NULL
         WHERE place = ?1 AND keep = ?2 AND side = ?3",
    )?;
    dated.execute(params![kept.place.as_bytes(), keep_code(kept.keep), side_code(side)])?;
    Ok(())
}

/// The bounds, lower included and upper not, of all paths below a path.
fn below(path: &RelPath) -> (Vec<u8>, Vec<u8>) {
    if path.is_root() {
        return (Vec::new(), vec![0xff; 2]);
    }
    let with = |byte: u8| [path.as_bytes(), &[byte]].concat();
    (with(b'/'), with(b'/' + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).unwrap()
    }

    fn run(ended: i64) -> Run {
        Run {
            began: ended - 5,
            ended,
            status: 0,
            cause: "command".into(),
            undoes: None,
            counts: Pair::new(Counts { updates: 1, ..Counts::default() }, Counts::default()),
            problems: vec!["a \"quoted\" problem".into()],
            star: None,
        }
    }

    fn change(path: RelPath, action: Action) -> Change {
        let look = Look {
            kind: Kind::File,
            size: 7,
            mtime: Stamp::new(-3, 999),
            mode: 0o4755,
            uid: 1000,
            gid: u32::MAX,
        };
        Change {
            side: Side::Target,
            path,
            action,
            other: None,
            below: 0,
            before: Some(look),
            after: None,
            kept: None,
            was_damaged: false,
            attributes: None,
        }
    }

    fn done(changes: impl IntoIterator<Item = Change>, decided: &[Decided]) -> RunRecord {
        let changes = changes.into_iter().collect();
        RunRecord { changes, decided: decided.to_vec(), ..RunRecord::default() }
    }

    fn opened(dir: &Path) -> Journal {
        Journal::write(&StateDir::Custom(dir.to_owned()), "id").unwrap().0
    }

    #[test]
    fn a_run_comes_back_with_all_that_it_did_whatever_the_names() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = opened(dir.path());
        let hostile = RelPath::new(&b"d/\xff\n'; DROP TABLE runs; --"[..]).unwrap();
        let mut moved = change(path("new"), Action::Moved);
        moved.other = Some(hostile.clone());
        let changes = [change(hostile.clone(), Action::Deleted), moved];
        let decided = Decided {
            path: path("c"),
            winner: Side::Target,
            reason: "it is newer".into(),
            won: None,
            lost: changes[0].before.clone(),
            lost_at: Some(LostAt::Kept(KeptPlace { keep: Keep::Backup, place: path("c.2026") })),
        };
        let done = done(changes.clone(), std::slice::from_ref(&decided));
        let number = journal.record(&run(100), &done, None).unwrap();
        let runs = journal.runs(&Wanted::default()).unwrap();
        assert_eq!(
            runs,
            [RecordedRun { number, run: run(100), conflicts: 1, differs: 0, damaged: 0 }]
        );
        let of_run = journal.changes_of_run(number).unwrap();
        let found: Vec<Change> = of_run.into_iter().map(|recorded| recorded.change).collect();
        assert_eq!(found, changes);
        let of_path = journal.changes_of_path(&hostile).unwrap();
        assert_eq!(of_path.len(), 2, "by its own name and as the old name of a move");
        let open = journal.conflicts(Some(ConflictState::Open)).unwrap();
        assert_eq!(open.len(), 1);
        assert_eq!(open[0].decided, decided);
    }

    #[test]
    fn a_run_has_the_number_that_both_replicas_know_it_by_and_none_has_it_twice() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = opened(dir.path());
        let given =
            |number| RunRecord { number, ..done([change(path("a"), Action::Deleted)], &[]) };
        let mut record = |number| journal.record(&run(1), &given(number), None).unwrap();
        assert_eq!(
            [record(Some(7)), record(None), record(Some(8)), record(Some(20))],
            [7, 8, 9, 20]
        );
    }

    #[test]
    fn what_came_with_a_whole_directory_is_found_by_the_names_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = opened(dir.path());
        let mut top = change(path("a/b"), Action::Created);
        top.below = 5;
        let beside = change(path("a/b2"), Action::Created);
        journal.record(&run(1), &done([top, beside], &[]), None).unwrap();
        let found = |text: &str| {
            let changes = journal.changes_of_path(&path(text)).unwrap();
            changes.iter().map(|c| c.change.path.shown()).collect::<Vec<_>>()
        };
        assert_eq!(found("a/b/c/d"), ["a/b"]);
        assert_eq!(found("a"), ["a/b", "a/b2"]);
        assert_eq!(found("a/b2/x"), [""; 0]);
    }

    #[test]
    fn a_later_conflict_of_a_path_supersedes_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = opened(dir.path());
        let decided = Decided {
            path: path("c"),
            winner: Side::Initiator,
            reason: String::new(),
            won: None,
            lost: None,
            lost_at: None,
        };
        for ended in [1, 2] {
            let done = done([], std::slice::from_ref(&decided));
            journal.record(&run(ended), &done, None).unwrap();
        }
        let states: Vec<_> =
            journal.conflicts(None).unwrap().iter().map(|c| (c.run, c.state)).collect();
        assert_eq!(states, [(2, ConflictState::Open), (1, ConflictState::Superseded)]);
        let open = journal.conflicts(Some(ConflictState::Open)).unwrap();
        journal.close_conflict(open[0].id, ConflictState::Resolved).unwrap();
        assert!(journal.conflicts(Some(ConflictState::Open)).unwrap().is_empty());
    }

    fn open_at(journal: &Journal) -> Vec<(String, Option<String>)> {
        let open = journal.conflicts(Some(ConflictState::Open)).unwrap();
        let at = |lost_at: &Option<LostAt>| match lost_at {
            Some(LostAt::Kept(kept)) => Some(format!("{} {}", kept.keep.name(), kept.place)),
            Some(LostAt::Beside(copy)) => Some(format!("beside {copy}")),
            None => None,
        };
        open.iter().map(|one| (one.decided.path.shown(), at(&one.decided.lost_at))).collect()
    }

    fn conflict(name: &str, lost_at: Option<LostAt>) -> Decided {
        Decided {
            path: path(name),
            winner: Side::Initiator,
            reason: String::new(),
            won: None,
            lost: None,
            lost_at,
        }
    }

    #[test]
    fn a_conflict_goes_with_its_path_and_ends_with_it_or_with_the_copy_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = opened(dir.path());
        let beside = |name: &str| Some(LostAt::Beside(path(name)));
        let kept =
            |name: &str| Some(LostAt::Kept(KeptPlace { keep: Keep::Backup, place: path(name) }));
        let decided = [
            conflict("d/a", beside("d/a.copy")),
            conflict("d/b", kept("d/b")),
            conflict("e/a", beside("e/a.copy")),
            conflict("e/b", beside("e/b.copy")),
            conflict("e/c", beside("e/c.copy")),
            conflict("f", kept("f")),
        ];
        // what lost got its name in the same run
        let renaming =
            Change { other: Some(path("e/a")), ..change(path("e/a.copy"), Action::Moved) };
        journal.record(&run(1), &done([renaming], &decided), None).unwrap();
        let moved = |from: &str, to: &str| Change {
            other: Some(path(from)),
            ..change(path(to), Action::Moved)
        };
        let second = [
            moved("d", "dir/new"),
            change(path("e/a.copy"), Action::Deleted),
            moved("e/b.copy", "e/mine"),
            change(path("g"), Action::Deleted),
        ];
        journal.record(&run(2), &done(second, &[]), None).unwrap();
        let text = |one: &str, other: &str| (one.to_owned(), Some(other.to_owned()));
        assert_eq!(
            open_at(&journal),
            [
                text("dir/new/a", "beside dir/new/a.copy"),
                text("dir/new/b", "backup d/b"),
                text("e/c", "beside e/c.copy"),
                text("f", "backup f"),
            ]
        );
        // a kept copy makes room
        let renamed = Renamed {
            side: Side::Target,
            from: KeptPlace { keep: Keep::Backup, place: path("d/b") },
            to: path("d/b.2026"),
        };
        journal.follow(&[renamed], &[]).unwrap();
        // a directory goes with all in it
        let whole = Change { below: 4, ..change(path("e"), Action::Deleted) };
        journal.record(&run(3), &done([whole], &[]), None).unwrap();
        assert_eq!(
            open_at(&journal),
            [
                text("dir/new/a", "beside dir/new/a.copy"),
                text("dir/new/b", "backup d/b.2026"),
                text("f", "backup f"),
            ]
        );
        // what is beside does not expire
        assert_eq!(journal.expire_conflicts(i64::MAX).unwrap(), 2);
        assert_eq!(open_at(&journal), [text("dir/new/a", "beside dir/new/a.copy")]);
    }

    #[test]
    fn a_conflict_of_a_run_that_was_undone_is_no_longer_open() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = opened(dir.path());
        journal.record(&run(1), &done([], &[conflict("c", None)]), None).unwrap();
        let differs = vec![Differs { path: path("c"), looks: Pair::default() }];
        let undone = RunRecord { differs, ..done([change(path("c"), Action::Updated)], &[]) };
        let undo = Run { undoes: Some(1), ..run(2) };
        journal.record(&undo, &undone, None).unwrap();
        let states: Vec<_> =
            journal.conflicts(None).unwrap().iter().map(|c| (c.run, c.state)).collect();
        assert_eq!(states, [(2, ConflictState::Undone), (1, ConflictState::Superseded)]);
        let again = Run { undoes: Some(2), ..run(3) };
        let done = done([change(path("c"), Action::Updated)], &[]);
        journal.record(&again, &done, None).unwrap();
        let states: Vec<_> =
            journal.conflicts(None).unwrap().iter().map(|c| (c.run, c.state)).collect();
        assert_eq!(states, [(2, ConflictState::Resolved), (1, ConflictState::Open)]);
    }

    #[test]
    fn old_runs_are_forgotten_but_for_those_with_open_conflicts() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = opened(dir.path());
        let decided = Decided {
            path: path("c"),
            winner: Side::Initiator,
            reason: String::new(),
            won: None,
            lost: None,
            lost_at: None,
        };
        let changes = || [change(path("x"), Action::Deleted)];
        journal.record(&run(10), &done(changes(), &[]), None).unwrap();
        journal.record(&run(20), &done(changes(), &[decided]), None).unwrap();
        journal.record(&run(100), &done(changes(), &[]), Some(50)).unwrap();
        let numbers: Vec<i64> =
            journal.runs(&Wanted::default()).unwrap().iter().map(|run| run.number).collect();
        assert_eq!(numbers, [3, 2]);
        assert_eq!(journal.changes_of_path(&path("x")).unwrap().len(), 1);
    }

    #[test]
    fn rows_follow_a_kept_version_that_gets_another_name_and_forget_one_that_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = opened(dir.path());
        let at = |place: &str| Some(KeptPlace { keep: Keep::Backup, place: path(place) });
        let kept = |name: &str| Change { kept: at(name), ..change(path(name), Action::Updated) };
        let odd = RelPath::new(&b"a/\xff\n'"[..]).unwrap();
        let below = KeptPlace { keep: Keep::Backup, place: odd.clone() };
        let inside = Change { kept: Some(below), ..change(odd, Action::Updated) };
        journal.record(&run(1), &done([kept("a"), inside, kept("b")], &[]), None).unwrap();
        let to = path("a.2026.01.01-00.00.00");
        let from = at("a").unwrap();
        let renamed = vec![Renamed { side: Side::Target, from, to: to.clone() }];
        let second = RunRecord { renamed, ..done([kept("a"), kept("b")], &[]) };
        journal.record(&run(2), &second, None).unwrap();
        let places = |run: i64| -> Vec<Option<RelPath>> {
            let rows = journal.changes_of_run(run).unwrap();
            rows.into_iter().map(|row| row.change.kept.map(|kept| kept.place)).collect()
        };
        assert_eq!(places(1), [Some(to.clone()), Some(to.join(b"\xff\n'")), None]);
        assert_eq!(places(2), [Some(path("a")), Some(path("b"))]);
    }

    const TO_3: &str = "ALTER TABLE changes DROP COLUMN damaged; PRAGMA user_version = 3;";
    const TO_2: &str = "ALTER TABLE runs DROP COLUMN star; PRAGMA user_version = 2;";

    #[test]
    fn a_journal_of_an_earlier_version_is_read_and_goes_on() {
        const TO_1: &str = "
            DROP INDEX changes_by_place; ALTER TABLE changes DROP COLUMN place;
            ALTER TABLE changes DROP COLUMN attributes; ALTER TABLE conflicts DROP COLUMN keep;
            ALTER TABLE conflicts DROP COLUMN place; PRAGMA user_version = 1;";
        for back in [TO_3.to_owned(), format!("{TO_3}{TO_2}"), format!("{TO_3}{TO_2}{TO_1}")] {
            let dir = tempfile::tempdir().unwrap();
            let mut journal = opened(dir.path());
            let first = done([change(path("a"), Action::Deleted)], &[]);
            journal.record(&run(1), &first, None).unwrap();
            journal.db.execute_batch(&back).unwrap();
            drop(journal);
            let state = StateDir::Custom(dir.path().to_owned());
            let old = Journal::read(&state, "id").unwrap().unwrap();
            assert_eq!(old.changes_of_path(&path("a")).unwrap().len(), 1, "read as it is");
            drop(old);
            let mut journal = opened(dir.path());
            let damaged = Change { was_damaged: true, ..change(path("a"), Action::Created) };
            journal.record(&run(2), &done([damaged], &[]), None).unwrap();
            let found = journal.changes_of_path(&path("a")).unwrap();
            let found: Vec<bool> = found.iter().map(|found| found.change.was_damaged).collect();
            assert_eq!(found, [true, false]);
        }
    }

    #[test]
    fn the_turns_of_a_whole_run_are_found_also_in_a_journal_of_the_second_version() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = opened(dir.path());
        let changed = || done([change(path("a"), Action::Updated)], &[]);
        journal.record(&run(105), &changed(), None).unwrap();
        journal.db.execute_batch(&format!("{TO_3}{TO_2}")).unwrap();
        drop(journal);
        let mut journal = opened(dir.path());
        assert_eq!(journal.last_whole().unwrap(), Some(100), "a run of its own");
        let of_star = |ended| Run { star: Some(200), ..run(ended) };
        journal.record(&of_star(205), &changed(), None).unwrap();
        journal.record(&of_star(215), &changed(), None).unwrap();
        journal.record(&Run { star: Some(300), ..run(305) }, &done([], &[]), None).unwrap();
        assert_eq!(journal.last_whole().unwrap(), Some(200), "the last one changed nothing");
        let numbers = |whole| -> Vec<i64> {
            journal.turns(whole).unwrap().iter().map(|turn| turn.number).collect()
        };
        assert_eq!([numbers(100), numbers(200), numbers(300)], [vec![1], vec![2, 3], vec![]]);
    }

    #[test]
    fn a_damaged_journal_is_set_aside_and_a_newer_one_refused() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::Custom(dir.path().to_owned());
        let file = Journal::file(&state, "id");
        std::fs::write(&file, vec![b'x'; 5000]).unwrap();
        assert!(Journal::read(&state, "id").is_err(), "reading sets nothing aside");
        let (mut journal, note) = Journal::write(&state, "id").unwrap();
        assert!(note.is_some_and(|note| note.contains("damaged")));
        journal.record(&run(1), &RunRecord::default(), None).unwrap();
        assert_eq!(std::fs::read(file.with_extension("db.damaged")).unwrap(), vec![b'x'; 5000]);
        journal.db.execute_batch("PRAGMA user_version = 99").unwrap();
        drop(journal);
        assert!(matches!(Journal::write(&state, "id"), Err(JournalError::Newer { found: 99, .. })));
        assert!(file.exists(), "a newer one is left as it is");
    }

    #[test]
    fn a_hundred_changes_take_less_than_two_hundred_bytes_each() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = opened(dir.path());
        let size = |journal: &Journal| std::fs::metadata(&journal.path).unwrap().len();
        let empty = size(&journal);
        let changes = (0..10_000)
            .map(|i| change(path(&format!("some/dir/file-{i:06}")), Action::Updated))
            .map(|change| Change { after: change.before.clone(), ..change });
        journal.record(&run(1), &done(changes, &[]), None).unwrap();
        let each = (size(&journal) - empty) / 10_000;
        assert!(each <= 200, "{each} bytes a change");
    }
}

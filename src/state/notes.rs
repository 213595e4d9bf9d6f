//! What a run notes for the next one: how far it has come, what it has under way, which contents
//! it compared, and what it knows of the file systems (spec 3; spec 4, "Interruption").

use super::error::StateError;
use super::files::Durable;
use super::format::{ByteReader, DecodeError, put_number, put_string};
use super::store::StateStore;
use crate::tree::same::FileLook;
use crate::tree::{Abilities, Entry, Lack, Pair, RelPath, Side, Stamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// osync 1.3's names for the steps of a run, by which other tools see how far a side has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LastAction {
    /// Listing the replica.
    ReplicaTree,
    /// Finding what was deleted.
    DeletedList,
    /// Finding what was changed.
    TimestampList,
    /// Finding conflicts.
    ConflictList,
    /// Copying metadata.
    SyncAttributes,
    /// Updating the replica.
    UpdateReplica,
    /// Deleting.
    DeletePropagation,
    /// Listing the replica after the run.
    ReplicaTreeAfter,
    /// Listing its times after the run.
    TimestampListAfter,
    /// The run has ended.
    Synced,
}

impl LastAction {
    /// The word in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            LastAction::ReplicaTree => "replica-tree",
            LastAction::DeletedList => "deleted-list",
            LastAction::TimestampList => "timestampList-list",
            LastAction::ConflictList => "conflict-list",
            LastAction::SyncAttributes => "sync_attrs",
            LastAction::UpdateReplica => "update-replica",
            LastAction::DeletePropagation => "delete-propagation",
            LastAction::ReplicaTreeAfter => "replica-tree-after",
            LastAction::TimestampListAfter => "timestampList-after",
            LastAction::Synced => "synced",
        }
    }
}

/// What a run is about to transfer, to set aside or to rename.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inflight {
    /// When the run began, by each side's own clock: what it left has a later ctime.
    pub began: Pair<Stamp>,
    /// The mount in which each side was written to
    /// ([`Prepared::mount_session`](crate::replica::Prepared::mount_session)), if only one was.
    pub mount_sessions: Pair<Option<String>>,
    /// The paths.
    pub paths: Vec<InflightPath>,
}

impl Inflight {
    /// What is assumed if the note is damaged: anything on either side may have been set aside.
    #[must_use]
    pub fn anything() -> Self {
        let any = |to| InflightPath { path: RelPath::root(), part: Part::MakesWay, to };
        Inflight {
            began: Pair::new(Stamp::UNKNOWN, Stamp::UNKNOWN),
            mount_sessions: Pair::default(),
            paths: Side::BOTH.map(any).into(),
        }
    }
}

/// The note that an interrupted run left (spec 8, "On the disk").
#[derive(Debug, PartialEq, Eq)]
pub enum InflightNote {
    /// There is no note, so no run was interrupted.
    Missing,
    /// It is empty or all zeros, because the power failed while it was being written. A run
    /// flushes it before it changes anything, so nothing was changed.
    Empty,
    /// It is incomplete or damaged.
    Torn,
    /// What the run had under way.
    Whole(Inflight),
}

/// One path of the note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InflightPath {
    /// The path.
    pub path: RelPath,
    /// What of it.
    pub part: Part,
    /// The side that was being changed.
    pub to: Side,
}

/// What of a path is being changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The entry itself.
    Itself,
    /// The entry and all below it.
    Subtree,
    /// Only its metadata, so no temporary file can be left behind.
    Metadata,
    /// What was there, with all below it, is being set aside or renamed.
    MakesWay,
}

impl InflightPath {
    /// Whether the run may have taken away what is missing at a path on a side, or may not have
    /// brought it there yet: then it is not deleted (spec 8, "An interrupted run").
    #[must_use]
    pub fn explains_absence(&self, path: &RelPath, side: Side) -> bool {
        self.to == side
            && match self.part {
                Part::Metadata => false,
                Part::Itself => self.path == *path,
                Part::Subtree | Part::MakesWay => path.is_within(&self.path),
            }
    }
}

impl StateStore {
    /// Notes how far a side has come.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_last_action(&self, side: Side, action: LastAction) -> Result<(), StateError> {
        let line = format!("{}\n", action.name());
        self.files.overwrite(&self.side_name(side, "last-action"), line.as_bytes())
    }

    /// How far a side had come: the first line of the file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn last_action(&self, side: Side) -> Result<Option<String>, StateError> {
        let found = self.files.read(&self.side_name(side, "last-action"))?;
        let line = |bytes: &[u8]| bytes.split(|b| *b == b'\n').next().map(<[u8]>::to_owned);
        let line = found.and_then(|(bytes, _)| line(&bytes));
        Ok(line.map(|line| String::from_utf8_lossy(&line).trim().to_owned()))
    }

    /// How often an unfinished run was resumed; 0 if the file holds no number.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn resume_count(&self) -> Result<u32, StateError> {
        let found = self.files.read(&self.name("resume-count"))?;
        Ok(found.map_or(0, |(bytes, _)| count_of(&bytes)))
    }

    /// Notes how often an unfinished run was resumed.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_resume_count(&self, count: u32) -> Result<(), StateError> {
        self.files.update(&self.name("resume-count"), format!("{count}\n").as_bytes())
    }

    /// Notes what is about to be changed. The note is on the disk when this returns.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_inflight(&self, inflight: &Inflight) -> Result<(), StateError> {
        self.files.replace(&self.name("inflight"), Durable::Yes, &encode_inflight(inflight))
    }

    /// What a run that did not end had under way.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn inflight(&self) -> Result<InflightNote, StateError> {
        let found = self.files.read(&self.name("inflight"))?;
        let Some((bytes, _)) = found else { return Ok(InflightNote::Missing) };
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(InflightNote::Empty);
        }
        Ok(decode_inflight(&bytes).map_or(InflightNote::Torn, InflightNote::Whole))
    }

    /// Removes the note, because nothing is under way any more.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn clear_inflight(&self) -> Result<(), StateError> {
        self.files.remove(&self.name("inflight"))
    }

    /// The highest number that a run of this task was given; `None` before the first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn run_given(&self) -> Result<Option<u64>, StateError> {
        let found = self.files.read(&self.name("run"))?;
        let number = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes).ok()?.trim();
            text.strip_suffix(FIRST).unwrap_or(text).parse().ok()
        };
        Ok(found.and_then(|(bytes, _)| number(&bytes)))
    }

    /// That number, if it was given to a run before which nothing was recorded, and which has
    /// recorded nothing yet.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn first_run_given(&self) -> Result<Option<u64>, StateError> {
        let found = self.files.read(&self.name("run"))?;
        let is_first =
            found.is_some_and(|(bytes, _)| bytes.trim_ascii().ends_with(FIRST.as_bytes()));
        self.run_given().map(|number| number.filter(|_| is_first))
    }

    /// [`set_run_given`](Self::set_run_given) for a run before which nothing was recorded.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_first_run_given(&self, number: u64) -> Result<(), StateError> {
        self.files.replace(&self.name("run"), Durable::Yes, format!("{number}{FIRST}\n").as_bytes())
    }

    /// Notes the number that this run is given, before it is written to the replicas. A run that is
    /// killed in between leaves replicas with a number newer than the snapshot's, but never newer
    /// than this one. It is on the disk when this returns.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_run_given(&self, number: u64) -> Result<(), StateError> {
        self.files.replace(&self.name("run"), Durable::Yes, format!("{number}\n").as_bytes())
    }

    /// Keeps the last run's conflicts: complete lines, with their newlines.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_conflicts(&self, lines: &[u8]) -> Result<(), StateError> {
        self.files.update(&self.name("conflicts"), lines)
    }
}

/// Behind the number of a run before which nothing was recorded.
const FIRST: &str = " first";

pub(super) fn count_of(bytes: &[u8]) -> u32 {
    let text = std::str::from_utf8(bytes).ok();
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// A digest of the rest, both times, both mount sessions or `-`, then the paths, each followed by
/// NUL; before each `<` or
/// `>` for the side it goes to, the initiator or the target, or `[` or `]` if it is only
/// metadata, `(` or `)` if it makes way there, and `/` behind it for all below it. With the digest
/// because files are removed by it: a changed digit of a time, and somebody's own file is among
/// them.
pub(super) fn encode_inflight(inflight: &Inflight) -> Vec<u8> {
    let time = |time: Stamp| format!("{}.{:09}", time.secs(), time.nanos());
    let Pair { initiator, target } = inflight.began.map(time);
    let session = |side: Side| inflight.mount_sessions[side].as_deref().unwrap_or("-");
    let sessions = format!("{} {}", session(Side::Initiator), session(Side::Target));
    let mut out = format!("{initiator} {target} {sessions}\0").into_bytes();
    for InflightPath { path, part, to } in &inflight.paths {
        out.push(match (to, part) {
            (Side::Initiator, Part::Metadata) => b'[',
            (Side::Target, Part::Metadata) => b']',
            (Side::Initiator, Part::MakesWay) => b'(',
            (Side::Target, Part::MakesWay) => b')',
            (Side::Initiator, _) => b'<',
            (Side::Target, _) => b'>',
        });
        out.extend_from_slice(path.as_bytes());
        out.extend_from_slice(if *part == Part::Subtree { b"/\0" } else { b"\0" });
    }
    [digest(&out).as_bytes(), b"\0", &out].concat()
}

fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..32].to_owned()
}

pub(super) fn decode_inflight(bytes: &[u8]) -> Option<Inflight> {
    let (noted, bytes) = bytes.split_at_checked(bytes.iter().position(|byte| *byte == 0)? + 1)?;
    if noted != [digest(bytes).as_bytes(), b"\0"].concat() {
        return None;
    }
    let mut parts = bytes.strip_suffix(b"\0")?.split(|byte| *byte == 0);
    let words: Vec<&str> = std::str::from_utf8(parts.next()?).ok()?.split(' ').collect();
    let ([initiator, target], sessions) = words.split_first_chunk::<2>()?;
    let began = Pair::new(decode_time(initiator)?, decode_time(target)?);
    let session = |word: &str| Some(word.to_owned()).filter(|word| word != "-");
    let mount_sessions = match *sessions {
        // before mounts were noted
        [] => Pair::default(),
        [initiator, target] => Pair::new(session(initiator), session(target)),
        _ => return None,
    };
    let path = |part: &[u8]| {
        let (mark, path) = part.split_first()?;
        let to = match mark {
            b'<' | b'[' | b'(' => Side::Initiator,
            b'>' | b']' | b')' => Side::Target,
            _ => return None,
        };
        let (part, path) = match path.strip_suffix(b"/") {
            _ if b"[]".contains(mark) => (Part::Metadata, path),
            _ if b"()".contains(mark) => (Part::MakesWay, path),
            Some(path) => (Part::Subtree, path),
            None => (Part::Itself, path),
        };
        Some(InflightPath { path: RelPath::new(path).ok()?, part, to })
    };
    Some(Inflight { began, mount_sessions, paths: parts.map(path).collect::<Option<_>>()? })
}

fn decode_time(text: &str) -> Option<Stamp> {
    let (secs, nanos) = text.split_once('.')?;
    Some(Stamp::new(secs.parse().ok()?, nanos.parse().ok()?))
}

// From here on: contents that were compared. They are kept until the baseline records them, so
// that an interrupted first run need not compare them again (spec 8, "The same").

const MAGIC: &[u8] = b"osync settled 1\n";
const CHECKSUM_BYTES: usize = 32;

/// What a file looked like when it was compared. As long as it looks the same, the result holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its path.
    pub path: RelPath,
    /// What it looked like.
    pub look: FileLook,
}

impl Seen {
    /// A file as it was scanned.
    #[must_use]
    pub fn of(path: RelPath, entry: &Entry) -> Self {
        Seen { path, look: FileLook::of(entry) }
    }

    /// Whether a file still looks the same.
    #[must_use]
    pub fn matches(&self, entry: &Entry) -> bool {
        self.look.matches(entry)
    }
}

/// A file of each side, and whether their contents are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The files.
    pub files: Pair<Seen>,
    /// Whether their contents are the same.
    pub same: bool,
}

impl StateStore {
    /// Keeps the results of comparing contents.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_settled(&self, settled: &[Settled]) -> Result<(), StateError> {
        self.files.replace(&self.name("settled"), Durable::No, &encode(settled))
    }

    /// The results of a run that did not end. They only save time, so a damaged file counts as
    /// missing.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn settled(&self) -> Result<Vec<Settled>, StateError> {
        let found = self.files.read(&self.name("settled"))?;
        Ok(found.and_then(|(bytes, _)| decode(&bytes)).unwrap_or_default())
    }

    /// Removes the results, because the baseline records them now.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn clear_settled(&self) -> Result<(), StateError> {
        self.files.remove(&self.name("settled"))
    }
}

fn encode(settled: &[Settled]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    put_number(&mut out, settled.len() as u64);
    for one in settled {
        out.push(u8::from(one.same));
        let is_moved = one.files.initiator.path != one.files.target.path;
        for side in Side::BOTH {
            let Seen { path, look } = &one.files[side];
            if side == Side::Initiator || is_moved {
                put_string(&mut out, path.as_bytes());
            } else {
                put_string(&mut out, b"");
            }
            put_look(&mut out, look);
        }
    }
    seal(out)
}

pub(super) fn put_look(out: &mut Vec<u8>, look: &FileLook) {
    let FileLook { dev, ino, size, mtime, ctime } = look;
    put_number(out, u64::from(*dev));
    put_number(out, *ino);
    put_number(out, *size);
    for stamp in [mtime, ctime] {
        out.extend_from_slice(&stamp.secs().to_le_bytes());
        out.extend_from_slice(&stamp.nanos().to_le_bytes());
    }
}

/// Adds a checksum of the whole.
pub(super) fn seal(mut out: Vec<u8>) -> Vec<u8> {
    let sum = blake3::hash(&out);
    out.extend_from_slice(sum.as_bytes());
    out
}

/// What [`seal`] was given, behind the word that it begins with; `None` if it is torn or something
/// else.
pub(super) fn unseal<'a>(bytes: &'a [u8], magic: &[u8]) -> Option<ByteReader<'a>> {
    let (content, sum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM_BYTES)?)?;
    let is_sound = content.starts_with(magic) && blake3::hash(content).as_bytes() == sum;
    is_sound.then(|| ByteReader::new_at(content, magic.len()))
}

fn decode(bytes: &[u8]) -> Option<Vec<Settled>> {
    let mut reader = unseal(bytes, MAGIC)?;
    let count = reader.number().ok()?;
    let settled: Result<Vec<_>, DecodeError> = (0..count).map(|_| one(&mut reader)).collect();
    settled.ok().filter(|_| reader.is_done())
}

fn one(reader: &mut ByteReader<'_>) -> Result<Settled, DecodeError> {
    let same = reader.flag()?;
    let initiator = seen(reader, None)?;
    let target = seen(reader, Some(&initiator.path))?;
    Ok(Settled { files: Pair::new(initiator, target), same })
}

/// Reads a file; an empty path stands for the path of the other side's file.
fn seen(reader: &mut ByteReader<'_>, across: Option<&RelPath>) -> Result<Seen, DecodeError> {
    let path = match (reader.string()?, across) {
        (b"", Some(across)) => across.clone(),
        (bytes, _) => path_of(reader, bytes)?,
    };
    Ok(Seen { path, look: read_look(reader)? })
}

/// A path that was read.
pub(super) fn path_of(reader: &ByteReader<'_>, bytes: &[u8]) -> Result<RelPath, DecodeError> {
    RelPath::new(bytes).map_err(|_| reader.damaged("a path is not below the replica"))
}

/// What [`put_look`] wrote.
pub(super) fn read_look(reader: &mut ByteReader<'_>) -> Result<FileLook, DecodeError> {
    let (dev, ino, size) = (reader.small()?, reader.number()?, reader.number()?);
    let mut stamp = || -> Result<Stamp, DecodeError> {
        let secs = i64::from_le_bytes(reader.array()?);
        Ok(Stamp::new(secs, u32::from_le_bytes(reader.array()?)))
    };
    Ok(FileLook { dev, ino, size, mtime: stamp()?, ctime: stamp()? })
}

// From here on: what an earlier run found out about the file systems of both sides (spec 8).

/// The version of the trials. What an osync with other trials wrote is ignored and found out anew.
const TRIALS: u32 = 1;

/// One side's file system as an earlier run found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownFileSystem {
    /// What identifies the file system.
    pub file_system: String,
    /// What it can do.
    pub abilities: Abilities,
    /// How many entries it cannot store, as reported last.
    #[serde(default)]
    pub left_out: BTreeMap<Lack, u64>,
    /// Whether it was told that nothing there reads ACLs or extended attributes.
    #[serde(default)]
    pub unread_told: bool,
}

/// Which metadata a run compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// Permissions.
    pub permissions: bool,
    /// Executability; matters only without permissions.
    pub executability: bool,
    /// Owners.
    pub owner: bool,
    /// Groups.
    pub group: bool,
}

#[derive(Serialize, Deserialize)]
struct Written {
    trials: u32,
    initiator: Option<KnownFileSystem>,
    target: Option<KnownFileSystem>,
}

impl StateStore {
    /// What is known of the file systems. A damaged file, for example an empty one after a power
    /// failure, counts as missing: it is all found out again.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn file_systems(&self) -> Result<Pair<Option<KnownFileSystem>>, StateError> {
        let found = self.files.read(&self.name("file-systems"))?;
        let written = found.and_then(|(bytes, _)| serde_json::from_slice::<Written>(&bytes).ok());
        Ok(written
            .filter(|written| written.trials == TRIALS)
            .map(|written| Pair::new(written.initiator, written.target))
            .unwrap_or_default())
    }

    /// What the last run that ended compared; `None` if that is not known.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn compared(&self) -> Result<Option<Compared>, StateError> {
        let found = self.files.read(&self.name("compared"))?;
        Ok(found.and_then(|(bytes, _)| serde_json::from_slice(&bytes).ok()))
    }

    /// Keeps what this run compared.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_compared(&self, compared: Compared) -> Result<(), StateError> {
        let bytes = serde_json::to_vec(&compared).unwrap_or_default();
        self.files.update(&self.name("compared"), &bytes)
    }

    /// Keeps what is known of the file systems.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_file_systems(
        &self,
        known: &Pair<Option<KnownFileSystem>>,
    ) -> Result<(), StateError> {
        let Pair { initiator, target } = known.clone();
        let written = Written { trials: TRIALS, initiator, target };
        // Numbers, texts and maps of them can always be written as JSON.
        let bytes = serde_json::to_vec(&written).unwrap_or_default();
        self.files.update(&self.name("file-systems"), &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::testing::path;

    #[test]
    fn what_is_under_way_comes_back_with_any_name() {
        let inflight = Inflight {
            began: Pair::new(Stamp::new(1_700_000_000, 5), Stamp::UNKNOWN),
            mount_sessions: Pair::new(Some("4f-2.1a".into()), None),
            paths: [
                (path("a\nb c"), Part::Itself, Side::Target),
                (path("<dir"), Part::Subtree, Side::Initiator),
                (RelPath::root(), Part::Subtree, Side::Target),
                (path("]m"), Part::Metadata, Side::Initiator),
                (path("m/n"), Part::Metadata, Side::Target),
                (path(")w"), Part::MakesWay, Side::Initiator),
                (path("w/y"), Part::MakesWay, Side::Target),
            ]
            .map(|(path, part, to)| InflightPath { path, part, to })
            .to_vec(),
        };
        let bytes = encode_inflight(&inflight);
        assert!(bytes[33..].starts_with(b"1700000000.000000005 "));
        assert_eq!(decode_inflight(&bytes), Some(inflight));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(decode_inflight(&damaged), None, "byte {at}");
            assert_eq!(decode_inflight(&bytes[..at]), None, "cut at {at}");
        }
        let nothing = Inflight {
            began: Pair::new(Stamp::new(-1, 0), Stamp::new(1, 2)),
            mount_sessions: Pair::default(),
            paths: vec![],
        };
        assert_eq!(decode_inflight(&encode_inflight(&nothing)), Some(nothing.clone()));
        let older = &b"-1.000000000 1.000000002\0"[..];
        let older = [digest(older).as_bytes(), b"\0", older].concat();
        assert_eq!(decode_inflight(&older), Some(nothing));
    }

    #[test]
    fn what_a_run_was_about_to_move_or_bring_explains_why_it_is_missing() {
        let about = |part| InflightPath { path: path("d"), part, to: Side::Target };
        for (part, itself, below) in [
            (Part::Itself, true, false),
            (Part::Subtree, true, true),
            (Part::MakesWay, true, true),
            (Part::Metadata, false, false),
        ] {
            assert_eq!(about(part).explains_absence(&path("d"), Side::Target), itself);
            assert_eq!(about(part).explains_absence(&path("d/e"), Side::Target), below);
            for (other, side) in [("d", Side::Initiator), ("de", Side::Target)] {
                assert!(!about(part).explains_absence(&path(other), side), "{part:?}");
            }
        }
    }

    #[test]
    fn what_does_not_say_what_is_under_way_is_refused() {
        for bytes in [
            &b""[..],
            b"\0",
            b"nonsense\0",
            b"1.0 2.0",
            b"1.0 2.0\0a",
            b"1.0\0a\0",
            b"1.0 2.0\0>/etc\0",
            b"1.0 2.0\0<a/../b\0",
            b"1.0 2.0\0a\0",
            b"1.0 2.0\0\0",
            b"1.x 2.0\0",
            b"1.0 2.0 x\0",
            b"1.0 2.0 x y z\0",
        ] {
            assert_eq!(decode_inflight(bytes), None, "{bytes:?}");
            let signed = [digest(bytes).as_bytes(), b"\0", bytes].concat();
            assert_eq!(decode_inflight(&signed), None, "{bytes:?}");
        }
    }
}

#[cfg(test)]
mod settled_tests {
    use super::*;
    use crate::tree::Kind;

    fn sample() -> Vec<Settled> {
        let seen = |path: &str, size| {
            let mut entry = Entry::new(Kind::File);
            (entry.size, entry.ino, entry.dev) = (size, 1 << 40, 7);
            (entry.mtime, entry.ctime) = (Stamp::new(-5, 9), Stamp::new(1 << 33, 1));
            Seen::of(RelPath::new(path).unwrap(), &entry)
        };
        vec![
            Settled { files: Pair::new(seen("a/b", 3), seen("a/b", 3)), same: true },
            Settled { files: Pair::new(seen("new", 0), seen("old", 0)), same: false },
        ]
    }

    #[test]
    fn answers_come_back_and_damage_counts_as_none() {
        let bytes = encode(&sample());
        assert_eq!(decode(&bytes), Some(sample()));
        assert_eq!(decode(&encode(&[])), Some(Vec::new()));
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert_eq!(decode(&bytes), None, "{at}");
            assert_eq!(decode(&bytes[..at]), None, "{at}");
        }
    }

    #[test]
    fn an_answer_holds_only_as_long_as_the_file_looks_the_same() {
        let mut entry = Entry::new(Kind::File);
        (entry.size, entry.ino) = (5, 9);
        let seen = Seen::of(RelPath::new("a").unwrap(), &entry);
        entry.mode = 0o600;
        assert!(seen.matches(&entry));
        type Change = fn(&mut Entry);
        let changes: [Change; 5] = [
            |e| e.size = 6,
            |e| e.ino = 8,
            |e| e.dev = 1,
            |e| e.mtime = Stamp::new(1, 1),
            |e| e.ctime = Stamp::new(1, 1),
        ];
        for change in changes {
            let mut entry = entry.clone();
            change(&mut entry);
            assert!(!seen.matches(&entry), "{entry:?}");
        }
    }
}

#[cfg(test)]
mod file_systems_tests {
    use super::*;
    use crate::state::StateDir;

    #[test]
    fn what_is_known_comes_back_and_what_is_torn_is_not_known() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(StateDir::Custom(dir.path().to_owned()), "x").unwrap();
        assert_eq!(store.file_systems().unwrap(), Pair::default());
        let one = KnownFileSystem {
            file_system: "7".to_owned(),
            abilities: Abilities { symlinks: false, ..Abilities::default() },
            left_out: [(Lack::Symlinks, 3)].into(),
            unread_told: true,
        };
        let known = Pair::new(None, Some(one));
        store.set_file_systems(&known).unwrap();
        assert_eq!(store.file_systems().unwrap(), known);
        let at = dir.path().join("file-systems-x");
        let whole = std::fs::read(&at).unwrap();
        for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&at, &whole[..cut]).unwrap();
            assert_eq!(store.file_systems().unwrap(), Pair::default(), "{cut}");
        }
    }
}

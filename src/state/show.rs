//! `osync state show|verify`: the state for people and tools, one JSON object a line
//! (spec 3; docs/state-format.md, "Looking at it").

use super::error::{Shown, StateError};
use super::files::StateDir;
use super::store::{ListState, Loaded, StateStore};
use super::{Origin, Record, Was};
use crate::tree::{Entry, Pair, Side, Stamp, path::escape};
use serde::Serialize;
use std::io::{self, Write};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Print the baseline as the next run would load it.
    Show,
    /// Check the files: checksum, structure, digests of the lists.
    Verify,
}

/// What came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All that was looked at can be used.
    Sound,
    /// Something cannot; the lines say what.
    Unsound,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    /// The state cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// Nothing is there for that task.
    #[error(
        "there is no state of instance {instance:?} in {dir}; 'osync state verify' without an id lists the tasks that have one"
    )]
    Absent {
        /// INSTANCE_ID.
        instance: String,
        /// The state directory.
        dir: Shown,
    },
    /// Nothing is there at all.
    #[error(
        "there is no state of any task in {0}: either no task ran yet, or its state is elsewhere (INITIATOR_CUSTOM_STATE_DIR)"
    )]
    Empty(Shown),
    /// The lines cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// Answers for some tasks; without ids for all whose state lies in the directory.
///
/// # Errors
/// There is nothing to show, it cannot be read, or `out` cannot be written.
pub fn command(
    ask: Ask,
    dir: &StateDir,
    instance_ids: &[String],
    out: &mut dyn Write,
) -> Result<Verdict, ShowError> {
    let found = StateStore::instances(dir)?;
    let ids = if instance_ids.is_empty() { &found } else { instance_ids };
    if ids.is_empty() {
        return Err(ShowError::Empty(Shown::new(dir.path())));
    }
    let mut verdict = Verdict::Sound;
    for id in ids {
        let store = StateStore::open(dir.clone(), id)?;
        if !found.contains(id) {
            return Err(ShowError::Absent { instance: id.clone(), dir: Shown::new(dir.path()) });
        }
        match ask {
            Ask::Show => show(&store, out)?,
            Ask::Verify if verify(&store, out)? == Verdict::Unsound => verdict = Verdict::Unsound,
            Ask::Verify => {}
        }
    }
    Ok(verdict)
}

#[derive(Serialize)]
struct TaskLine<'a> {
    instance: &'a str,
    origin: &'static str,
    paths: u64,
    written_at: Option<String>,
    version: &'a str,
    identities: Sides<Option<&'a str>>,
    listed_at: Sides<Option<String>>,
    notes: Vec<&'a str>,
}

#[derive(Serialize)]
struct Sides<T> {
    initiator: T,
    target: T,
}

impl<T> From<Pair<T>> for Sides<T> {
    fn from(pair: Pair<T>) -> Self {
        Sides { initiator: pair.initiator, target: pair.target }
    }
}

#[derive(Serialize)]
struct PathLine<'a> {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    initiator: Option<WasLine<'a>>,
    target: Option<WasLine<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    skipped_deletion: Vec<&'static str>,
}

#[derive(Serialize)]
struct WasLine<'a> {
    was: &'static str,
    #[serde(flatten)]
    entry: Option<EntryLine<'a>>,
}

#[derive(Serialize)]
struct EntryLine<'a> {
    kind: &'a str,
    size: u64,
    mtime: Option<String>,
    ctime: Option<String>,
    btime: Option<String>,
    mode: String,
    uid: u32,
    gid: u32,
    dev: u32,
    ino: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    shared_inode: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_bytes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rdev: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acl: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    xattr: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

#[derive(Serialize)]
struct FileLine<'a> {
    instance: &'a str,
    file: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    paths: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

fn put(out: &mut dyn Write, line: &impl Serialize) -> Result<(), ShowError> {
    serde_json::to_writer(&mut *out, line).map_err(io::Error::from)?;
    Ok(out.write_all(b"\n")?)
}

fn show(store: &StateStore, out: &mut dyn Write) -> Result<(), ShowError> {
    let Loaded { baseline, notes, .. } = &store.load()?;
    let header = baseline.header();
    let identities = header.identities.as_ref().map(|id| id.as_ref().map(|id| id.0.as_str()));
    let origin = match header.origin {
        Origin::Nothing => "nothing",
        Origin::Snapshot => "snapshot",
        Origin::Lists => "lists",
    };
    put(
        out,
        &TaskLine {
            instance: store.instance(),
            origin,
            paths: baseline.len(),
            written_at: time(header.written_at),
            version: &header.version,
            identities: identities.into(),
            listed_at: header.listed_at.map(time).into(),
            notes: notes.iter().map(|note| note.text.as_str()).collect(),
        },
    )?;
    for item in baseline.records() {
        let (path, record) = item.map_err(|damage| damaged(store, damage))?;
        if !record.is_empty() {
            put(out, &path_line(path.as_bytes(), &record))?;
        }
    }
    Ok(())
}

fn damaged(store: &StateStore, damage: super::Damaged) -> StateError {
    let path = Shown::new(store.snapshot_path());
    StateError::Snapshot { path, why: damage.into() }
}

fn path_line<'a>(path: &[u8], record: &'a Record) -> PathLine<'a> {
    let (path, path_bytes) = text(path);
    let skipped = Side::BOTH.into_iter().filter(|side| record.skipped[*side]);
    PathLine {
        path,
        path_bytes,
        initiator: was_line(&record.was.initiator),
        target: was_line(&record.was.target),
        skipped_deletion: skipped.map(Side::name).collect(),
    }
}

fn was_line(was: &Was) -> Option<WasLine<'_>> {
    match was {
        Was::Absent => None,
        Was::Listed(entry) => {
            Some(WasLine { was: "listed", entry: entry.as_ref().map(entry_line) })
        }
        Was::Seen(entry) => Some(WasLine { was: "seen", entry: Some(entry_line(entry)) }),
    }
}

fn entry_line(entry: &Entry) -> EntryLine<'_> {
    let extra = entry.extra();
    let (link, link_bytes) = extra.link.as_deref().map(text).unzip();
    EntryLine {
        kind: entry.kind.name(),
        size: entry.size,
        mtime: time(entry.mtime),
        ctime: time(entry.ctime),
        btime: time(entry.btime),
        mode: format!("{:04o}", entry.mode),
        uid: entry.uid,
        gid: entry.gid,
        dev: entry.dev,
        ino: entry.ino,
        shared_inode: entry.shared_inode,
        link,
        link_bytes: link_bytes.flatten(),
        rdev: (extra.rdev != 0).then_some(extra.rdev),
        acl: extra.acl.as_ref().map(|digest| hex(digest)),
        xattr: extra.xattr.as_ref().map(|digest| hex(digest)),
        content: extra.content.as_ref().map(|digest| hex(digest)),
    }
}

/// A name as text; where it is no UTF-8 escaped, with its bytes beside it.
fn text(bytes: &[u8]) -> (String, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (escape(bytes), Some(hex(bytes))),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn time(time: Stamp) -> Option<String> {
    time.is_known().then(|| format!("{}.{:09}", time.secs(), time.nanos()))
}

fn verify(store: &StateStore, out: &mut dyn Write) -> Result<Verdict, ShowError> {
    let mut verdict = Verdict::Sound;
    let mut line = |path: std::path::PathBuf, status, paths, why: Option<String>| {
        let file = Shown::new(path).to_string();
        put(out, &FileLine { instance: store.instance(), file, status, paths, why })
    };
    let snapshot = store.verify_snapshot();
    match &snapshot {
        Ok(Some(paths)) => line(store.snapshot_path(), "ok", Some(*paths), None)?,
        Ok(None) => line(store.snapshot_path(), "missing", None, None)?,
        Err(why) => {
            verdict = Verdict::Unsound;
            line(store.snapshot_path(), "unusable", None, Some(why.to_string()))?;
        }
    }
    for side in Side::BOTH {
        let path = store.list_path(side);
        match store.verify_list(side) {
            Ok(ListState { status, paths, refused }) => {
                let why = refused.map(|count| format!("{count} line(s) are no paths"));
                if why.is_some() {
                    verdict = Verdict::Unsound;
                }
                line(path, status, paths, why)?;
            }
            Err(why) => {
                verdict = Verdict::Unsound;
                line(path, "unusable", None, Some(why.to_string()))?;
            }
        }
    }
    Ok(verdict)
}

//! The baseline as lines of JSON (docs/state-format.md, "Looking at it").

use super::show::ShowError;
use super::{Header, Origin, Record, Recorded};
use crate::tree::path::escape;
use crate::tree::{Entry, Pair, Side, Stamp};
use serde::Serialize;
use std::io::{self, Write};

/// The line in front of a task's paths.
pub(super) fn task(
    instance: &str,
    paths: u64,
    header: &Header,
    notes: &[&str],
    out: &mut dyn Write,
) -> Result<(), ShowError> {
    let identities = header.identities.as_ref().map(|id| id.as_ref().map(|id| id.0.as_str()));
    let line = TaskLine {
        instance,
        origin: match header.origin {
            Origin::Nothing => "nothing",
            Origin::Snapshot => "snapshot",
            Origin::Lists => "lists",
        },
        paths,
        written_at: time(header.written_at),
        version: &header.version,
        identities: identities.into(),
        listed_at: header.listed_at.map(time).into(),
        notes,
    };
    put(&line, out)
}

/// A path's line.
pub(super) fn path(path: &[u8], record: &Record, out: &mut dyn Write) -> Result<(), ShowError> {
    put(&path_line(path, record), out)
}

/// One line.
pub(super) fn put(line: &impl Serialize, out: &mut dyn Write) -> Result<(), ShowError> {
    serde_json::to_writer(&mut *out, line).map_err(io::Error::from)?;
    Ok(out.write_all(b"\n")?)
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
    notes: &'a [&'a str],
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

fn was_line(was: &Recorded) -> Option<WasLine<'_>> {
    match was {
        Recorded::Absent => None,
        Recorded::Listed(entry) => {
            Some(WasLine { was: "listed", entry: entry.as_ref().map(entry_line) })
        }
        Recorded::Seen(entry) => Some(WasLine { was: "seen", entry: Some(entry_line(entry)) }),
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

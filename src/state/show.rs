//! `osync state show` and `verify`: prints and checks the state files, as text for people or as
//! lines of JSON for tools (spec 3; docs/state-format.md, "Looking at it").

use super::error::{Shown, StateError};
use super::files::StateDir;
use super::store::{ListState, Loaded, StateStore};
use crate::tree::Side;
use crate::tree::path::escape;
use serde::Serialize;
use std::io::{self, Write};

/// The command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Print the baseline as the next run would load it.
    Show,
    /// Check the files: checksum, structure, digests of the lists.
    Verify,
}

/// The format of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Text for people.
    Text,
    /// One JSON object a line, for tools.
    Json,
}

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateHealth {
    /// All files that were checked are usable.
    Sound,
    /// Some are not; the output says which.
    Unsound,
}

/// Why the state cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    /// The state cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The task has no state.
    #[error(
        "there is no state of instance {instance:?} in {dir}; 'osync state verify' without an id lists the tasks that have one"
    )]
    Absent {
        /// INSTANCE_ID.
        instance: String,
        /// The state directory.
        dir: Shown,
    },
    /// The directory holds no state of any task.
    #[error(
        "there is no state of any task in {0}: either no task ran yet, or its state is elsewhere (INITIATOR_CUSTOM_STATE_DIR)"
    )]
    Empty(Shown),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// Shows or checks the state of these tasks, or of all tasks in the directory if no ids are given.
///
/// # Errors
/// There is nothing to show, it cannot be read, or `out` cannot be written.
pub fn command(
    ask: Ask,
    form: Form,
    dir: &StateDir,
    instance_ids: &[String],
    out: &mut dyn Write,
) -> Result<StateHealth, ShowError> {
    let found = StateStore::instances(dir)?;
    let ids = if instance_ids.is_empty() { &found } else { instance_ids };
    if ids.is_empty() {
        return Err(ShowError::Empty(Shown::new(dir.path())));
    }
    let mut verdict = StateHealth::Sound;
    for id in ids {
        let store = StateStore::open(dir.clone(), id)?;
        if !found.contains(id) {
            return Err(ShowError::Absent { instance: id.clone(), dir: Shown::new(dir.path()) });
        }
        match ask {
            Ask::Show => show(&store, form, out)?,
            Ask::Verify if verify(&store, form, out)? == StateHealth::Unsound => {
                verdict = StateHealth::Unsound
            }
            Ask::Verify => {}
        }
    }
    Ok(verdict)
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

fn show(store: &StateStore, form: Form, out: &mut dyn Write) -> Result<(), ShowError> {
    let Loaded { baseline, notes, .. } = &store.load()?;
    let notes: Vec<&str> = notes.iter().map(|note| note.text.as_str()).collect();
    let task = match form {
        Form::Text => text::task,
        Form::Json => json::task,
    };
    task(store.instance(), baseline.len(), baseline.header(), &notes, out)?;
    for item in baseline.records() {
        let (path, record) = item.map_err(|damage| damaged(store, damage))?;
        if record.is_empty() {
            continue;
        }
        match form {
            Form::Text => text::path(path.as_bytes(), &record, out)?,
            Form::Json => json::path(path.as_bytes(), &record, out)?,
        }
    }
    Ok(())
}

fn damaged(store: &StateStore, damage: super::BaselineDamaged) -> StateError {
    let path = Shown::new(store.snapshot_path());
    StateError::Snapshot { path, why: damage.into() }
}

fn verify(store: &StateStore, form: Form, out: &mut dyn Write) -> Result<StateHealth, ShowError> {
    let mut verdict = StateHealth::Sound;
    let mut line = |path: std::path::PathBuf, status, paths, why: Option<String>| {
        let file = Shown::new(path).to_string();
        let instance = store.instance();
        put_file(&FileLine { instance, file, status, paths, why }, form, out)
    };
    let snapshot = store.verify_snapshot();
    match &snapshot {
        Ok(Some(paths)) => line(store.snapshot_path(), "ok", Some(*paths), None)?,
        Ok(None) => line(store.snapshot_path(), "missing", None, None)?,
        Err(why) => {
            verdict = StateHealth::Unsound;
            line(store.snapshot_path(), "unusable", None, Some(why.to_string()))?;
        }
    }
    for side in Side::BOTH {
        let path = store.list_path(side);
        match store.verify_list(side) {
            Ok(ListState { status, paths, refused }) => {
                let why = refused.map(|count| format!("{count} line(s) are not paths"));
                if why.is_some() {
                    verdict = StateHealth::Unsound;
                }
                line(path, status, paths, why)?;
            }
            Err(why) => {
                verdict = StateHealth::Unsound;
                line(path, "unusable", None, Some(why.to_string()))?;
            }
        }
    }
    Ok(verdict)
}

fn put_file(line: &FileLine<'_>, form: Form, out: &mut dyn Write) -> Result<(), ShowError> {
    if form == Form::Json {
        return json::put(line, out);
    }
    let paths = line.paths.map(|count| format!(", {count} path(s)")).unwrap_or_default();
    let why = line.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let instance = escape(line.instance.as_bytes());
    Ok(writeln!(out, "task {instance}: {}: {}{paths}{why}", line.file, line.status)?)
}

/// The baseline as text for people.
mod text {
    use super::ShowError;
    use crate::state::{Header, Origin, Record, Recorded};
    use crate::tree::path::escape;
    use crate::tree::{Entry, Pair, Side, Stamp};
    use chrono::DateTime;
    use std::io::Write;

    /// Prints the line above a task's paths, and the notes.
    pub(super) fn task(
        instance: &str,
        paths: u64,
        header: &Header,
        notes: &[&str],
        out: &mut dyn Write,
    ) -> Result<(), ShowError> {
        let from = match header.origin {
            Origin::Nothing => "nothing was recorded yet".to_owned(),
            Origin::Snapshot => {
                format!("recorded {} by osync {}", time(header.written_at), header.version)
            }
            Origin::Lists => {
                let Pair { initiator, target } = header.listed_at.map(time);
                format!("from the lists of osync 1.3 (initiator {initiator}, target {target})")
            }
        };
        writeln!(out, "task {}: {paths} path(s), {from}", escape(instance.as_bytes()))?;
        for note in notes {
            writeln!(out, "  {note}")?;
        }
        Ok(())
    }

    /// Prints a path: side, kind, mode, size, time, path; one line if both sides agree, else one
    /// for each side.
    pub(super) fn path(path: &[u8], record: &Record, out: &mut dyn Write) -> Result<(), ShowError> {
        let shown = Side::BOTH.map(|side| about(&record.was[side]));
        let mark = |side: Side| if record.skipped[side] { " (skipped deletion)" } else { "" };
        let path = escape(path);
        if shown[0] == shown[1] && record.skipped.agree() {
            let about = shown[0].as_deref().unwrap_or_default();
            writeln!(out, "both       {about}  {path}{}", mark(Side::Initiator))?;
            return Ok(());
        }
        for (side, about) in Side::BOTH.into_iter().zip(shown) {
            if let Some(about) = about {
                writeln!(out, "{:<9}  {about}  {path}{}", side.name(), mark(side))?;
            }
        }
        Ok(())
    }

    fn about(was: &Recorded) -> Option<String> {
        match was {
            Recorded::Absent => None,
            Recorded::Listed(_) => {
                Some(format!("{:<16} {:>4} {:>12} {:<20}", "in the list", "", "", ""))
            }
            Recorded::Seen(entry) => Some(entry_about(entry)),
        }
    }

    fn entry_about(entry: &Entry) -> String {
        let Entry { kind, mode, size, .. } = entry;
        let link = entry.link().map(|to| format!("-> {}  ", escape(to))).unwrap_or_default();
        format!("{:<16} {mode:04o} {size:>12} {:<20}{link}", kind.name(), time(entry.mtime))
    }

    fn time(time: Stamp) -> String {
        match DateTime::from_timestamp(time.secs(), time.nanos()).filter(|_| time.is_known()) {
            Some(date) => date.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
            None => "at an unknown time".to_owned(),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use crate::tree::{Extra, Kind};

        fn lines(record: &Record) -> String {
            let mut out = Vec::new();
            path(b"a\nb", record, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        }

        #[test]
        fn sides_that_agree_share_a_line_and_others_have_their_own() {
            let mut file = Entry::new(Kind::File);
            (file.mode, file.size, file.mtime) = (0o640, 12, Stamp::new(1_700_000_000, 5));
            let mut record = Record::in_step(file.clone(), file.clone());
            let line =
                "both       file             0640           12 2023-11-14T22:13:20Z  a\\nb\n";
            assert_eq!(lines(&record), line);
            record.was.target = Recorded::Listed(None);
            assert_eq!(lines(&record).lines().count(), 2);
            record.was.target = Recorded::Absent;
            record.skipped.initiator = true;
            let line = lines(&record);
            assert!(
                line.starts_with("initiator  file") && line.ends_with("b (skipped deletion)\n")
            );
        }

        #[test]
        fn links_show_where_they_point_to() {
            let mut link = Entry::new(Kind::Symlink);
            link.set_extra(Extra { link: Some(b"x\xff".to_vec().into()), ..Extra::default() });
            assert!(lines(&Record::in_step(link.clone(), link)).contains("-> x\\xFF"));
        }
    }
}

/// The baseline as lines of JSON.
mod json {
    use super::ShowError;
    use crate::state::{Header, Origin, Record, Recorded};
    use crate::tree::path::escape;
    use crate::tree::{Entry, Pair, Side, Stamp};
    use serde::Serialize;
    use std::io::{self, Write};

    /// Prints the line before a task's paths.
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

    /// Prints a path.
    pub(super) fn path(path: &[u8], record: &Record, out: &mut dyn Write) -> Result<(), ShowError> {
        put(&path_line(path, record), out)
    }

    /// Prints one line.
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

    /// A name as text; if it is not UTF-8, escaped and with its bytes in hexadecimal.
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
}

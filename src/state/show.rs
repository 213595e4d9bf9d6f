//! `osync state show|verify`: the state for people and tools, as text or as lines of JSON
//! (spec 3; docs/state-format.md, "Looking at it").

use super::error::{Shown, StateError};
use super::files::StateDir;
use super::store::{ListState, Loaded, StateStore};
use super::{show_json, show_text};
use crate::tree::Side;
use crate::tree::path::escape;
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

/// For whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Text for people.
    Text,
    /// One JSON object a line, for tools.
    Json,
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
    form: Form,
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
            Ask::Show => show(&store, form, out)?,
            Ask::Verify if verify(&store, form, out)? == Verdict::Unsound => {
                verdict = Verdict::Unsound
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
        Form::Text => show_text::task,
        Form::Json => show_json::task,
    };
    task(store.instance(), baseline.len(), baseline.header(), &notes, out)?;
    for item in baseline.records() {
        let (path, record) = item.map_err(|damage| damaged(store, damage))?;
        if record.is_empty() {
            continue;
        }
        match form {
            Form::Text => show_text::path(path.as_bytes(), &record, out)?,
            Form::Json => show_json::path(path.as_bytes(), &record, out)?,
        }
    }
    Ok(())
}

fn damaged(store: &StateStore, damage: super::Damaged) -> StateError {
    let path = Shown::new(store.snapshot_path());
    StateError::Snapshot { path, why: damage.into() }
}

fn verify(store: &StateStore, form: Form, out: &mut dyn Write) -> Result<Verdict, ShowError> {
    let mut verdict = Verdict::Sound;
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

fn put_file(line: &FileLine<'_>, form: Form, out: &mut dyn Write) -> Result<(), ShowError> {
    if form == Form::Json {
        return show_json::put(line, out);
    }
    let paths = line.paths.map(|count| format!(", {count} path(s)")).unwrap_or_default();
    let why = line.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let instance = escape(line.instance.as_bytes());
    Ok(writeln!(out, "task {instance}: {}: {}{paths}{why}", line.file, line.status)?)
}

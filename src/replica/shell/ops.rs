//! Operations as data for `apply.sh`, and its answers. Pure.
//!
//! Operations of one kind in one directory become a group, which the other side carries
//! out with few commands; order is kept.

use super::attributes;
use super::encode::{datum, split};
use crate::replica::kept_name::{LONGEST_NAME, kept_path, short_kept_path, with_suffix};
use crate::replica::owners::{Owners, Whose};
use crate::replica::{Keep, Op, PathError};
use crate::tree::{Entry, Kind, RelPath, Stamp};
use chrono::{DateTime, Utc};

/// Operations as lines of data; one answer line comes back for each. `suffix` is the date
/// that what is kept already gets, `.YYYY.MM.DD-HH.MM.SS`.
pub(super) fn encode(ops: &[Op], owners: &mut Owners, suffix: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut here: Option<RelPath> = None;
    let mut group = Vec::new();
    for op in ops {
        let (parent, name) = place(op);
        if here.as_ref() != Some(&parent) {
            out.push(b'>');
            datum(&mut out, parent.as_bytes());
            here = Some(parent);
            group.clear();
        }
        let head = head(op, owners, suffix);
        if head != group {
            out.extend_from_slice(&head);
            group = head;
        }
        out.push(b':');
        out.extend_from_slice(expected(op).as_bytes());
        out.push(b'\n');
        out.push(b'@');
        datum(&mut out, &further(op, suffix));
        datum(&mut out, name);
    }
    out.extend_from_slice(b".\n");
    out
}

/// The lines that begin a group; equal ones go on with it.
fn head(op: &Op, owners: &mut Owners, suffix: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut words = |text: String| out.extend_from_slice(format!("*{text}\n").as_bytes());
    match op {
        Op::MakeDir { mode, .. } => words(format!("mkdir {mode:04o}")),
        Op::Rename { .. } => words("rename".into()),
        Op::SetAside { path, keep, replace_older, .. } => {
            let older = if *replace_older { "replace" } else { "keep" };
            words(format!("aside {} {older} {suffix}", keep.name()));
            kept_parent(&mut out, &kept_path(path));
        }
        Op::KeepCopy { path, .. } => {
            words(format!("copy {} keep {suffix}", Keep::Backup.name()));
            kept_parent(&mut out, &short_kept_path(path));
        }
        Op::MakeRoom { kept, comes, replace_older } => {
            let comes = if *comes == Kind::File { "file" } else { "other" };
            let older = if *replace_older { "replace" } else { "keep" };
            words(format!("room {} {older} {suffix} {comes}", Keep::Backup.name()));
            kept_parent(&mut out, kept);
        }
        Op::Remove { expect, .. } => {
            words(format!("remove {}", if expect.kind.is_dir() { "dir" } else { "file" }));
        }
        Op::SetMetadata { expect, mode, uid, gid, .. } => {
            let mode = mode
                .filter(|_| expect.kind != Kind::Symlink)
                .map_or_else(|| "-".into(), |m| format!("{m:04o}"));
            let number = |id: Option<u32>| id.map_or_else(|| "-".into(), |id| id.to_string());
            words(format!("meta {mode} {} {}", number(*uid), number(*gid)));
            for (letter, whose, id) in [(b'U', Whose::User, uid), (b'G', Whose::Group, gid)] {
                let name = id.map_or("", |id| owners.name(whose, id));
                if !name.is_empty() {
                    out.push(letter);
                    datum(&mut out, name.as_bytes());
                }
            }
        }
        Op::SetAttributes { change, .. } => {
            words("attr".into());
            attributes::head(change, &mut out, |whom| owners.whom_there(whom));
        }
        Op::SetMtime { .. } => words("mtime".into()),
    }
    out
}

/// The directory that an operation is carried out in, and the name there. What is only in
/// the work directory has its place in words of its own.
fn place(op: &Op) -> (RelPath, &[u8]) {
    match op {
        Op::MakeRoom { kept, .. } => (RelPath::root(), kept.name()),
        other => split(other.path()),
    }
}

fn kept_parent(out: &mut Vec<u8>, kept: &RelPath) {
    out.push(b'K');
    datum(out, kept.parent().unwrap_or_default().as_bytes());
}

/// What the entry must still look like, as the beginning of a line of `look`.
fn expected(op: &Op) -> String {
    match op {
        Op::MakeDir { .. } | Op::MakeRoom { .. } => String::new(),
        Op::SetMtime { expect, .. } => expect.as_ref().map(still).unwrap_or_default(),
        Op::SetMetadata { expect, .. } | Op::SetAttributes { expect, .. } => same_thing(expect),
        Op::Rename { expect, .. }
        | Op::SetAside { expect, .. }
        | Op::KeepCopy { expect, .. }
        | Op::Remove { expect, .. } => still(expect),
    }
}

fn same_thing(entry: &Entry) -> String {
    let kind = match entry.kind {
        Kind::File => 'f',
        Kind::Dir => 'd',
        Kind::Symlink => 'l',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
        Kind::CharDevice => 'c',
        Kind::BlockDevice => 'b',
    };
    format!("{kind} {} ", entry.ino)
}

/// Kind and inode; of everything but directories also size and time. A link cannot get
/// another target, nor a node another device, without getting another inode.
fn still(entry: &Entry) -> String {
    let thing = same_thing(entry);
    if entry.kind.is_dir() {
        return thing;
    }
    let size = if entry.kind == Kind::File { entry.size.to_string() } else { "-".into() };
    format!("{thing}{size} {}.{:09}", entry.mtime.secs(), entry.mtime.nanos())
}

/// The further name of an operation.
fn further(op: &Op, suffix: &str) -> Vec<u8> {
    match op {
        Op::Rename { to, .. } => to.as_bytes().to_vec(),
        Op::KeepCopy { path, .. } => short_kept_path(path).name().to_vec(),
        // the name that an older one of this name gets
        Op::SetAside { path, .. } => older_name(&kept_path(path), suffix),
        Op::MakeRoom { kept, .. } => older_name(kept, suffix),
        Op::SetAttributes { path, change, .. } => attributes::further(change, path.name()),
        Op::SetMtime { mtime, .. } => times(*mtime).into_bytes(),
        Op::MakeDir { .. } | Op::Remove { .. } | Op::SetMetadata { .. } => Vec::new(),
    }
}

fn older_name(kept: &RelPath, suffix: &str) -> Vec<u8> {
    with_suffix(kept.name(), suffix.as_bytes(), LONGEST_NAME - 4)
}

/// A time in the forms that different `touch`es take.
fn times(stamp: Stamp) -> String {
    let (secs, nanos) = (stamp.secs(), stamp.nanos());
    let date = DateTime::<Utc>::from_timestamp(secs, nanos).unwrap_or_default();
    format!(
        "@{secs}.{nanos:09} {} {}",
        date.format("%Y-%m-%dT%H:%M:%S.%fZ"),
        date.format("%Y%m%d%H%M.%S")
    )
}

/// The answer to one operation; none: it is no answer.
pub(super) fn answer(line: &str, op: &Op) -> Option<Result<(), PathError>> {
    Some(match line {
        "o" => Ok(()),
        "c" => Err(PathError::Changed),
        "v" => Err(PathError::Vanished),
        "n" => Err(PathError::NotEmpty),
        "b" => Err(PathError::Occupied(match op {
            Op::Rename { to, .. } => to.clone(),
            other => other.path().clone(),
        })),
        _ => {
            let (action, cause) = line.strip_prefix("f ")?.split_once(':')?;
            Err(failed(action, cause))
        }
    })
}

/// Actions as the scripts name them.
const ACTIONS: [&str; 13] = [
    "reach it",
    "change what a link points at",
    "enter its directory",
    "remove it",
    "remove the directory",
    "make the directory",
    "change the owner",
    "change the permissions",
    "set its time",
    "set its ACL or extended attributes",
    "rename it",
    "copy it to backup/",
    "make room for its backup",
];

/// A failure in the system's words.
pub(super) fn failed(action: &str, cause: &str) -> PathError {
    let known = ACTIONS.into_iter().find(|known| *known == action);
    PathError::Failed { action: known.unwrap_or("set it aside").into(), cause: cause.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).unwrap()
    }

    fn file() -> Entry {
        let mut entry = Entry::new(Kind::File);
        (entry.ino, entry.size, entry.mtime) = (7, 12, Stamp::new(1_700_000_000, 5));
        entry
    }

    fn text(ops: &[Op]) -> String {
        let out = encode(ops, &mut Owners::default(), ".2026.01.02-03.04.05");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn neighbours_of_one_kind_share_a_group() {
        let remove = |p| Op::Remove { path: path(p), expect: file() };
        let looks = ":f 7 12 1700000000.000000005\n@=\n";
        assert_eq!(
            text(&[remove("d/a"), remove("d/b"), remove("c")]),
            format!(">=d\n*remove file\n{looks}=a\n{looks}=b\n>=\n*remove file\n{looks}=c\n.\n")
        );
    }

    #[test]
    fn a_directory_is_known_by_its_inode_and_a_changed_mode_is_no_change() {
        let mut dir = file();
        dir.kind = Kind::Dir;
        let op = Op::Remove { path: path("d"), expect: dir };
        assert!(text(&[op]).contains(":d 7 \n"));
        let op = Op::SetMetadata {
            path: path("f"),
            expect: file(),
            mode: Some(0o640),
            uid: None,
            gid: Some(0),
        };
        assert_eq!(text(&[op]), ">=\n*meta 0640 - 0\n:f 7 \n@=\n=f\n.\n");
    }

    #[test]
    fn times_are_told_in_three_forms() {
        assert_eq!(
            times(Stamp::new(1_700_000_000, 5)),
            "@1700000000.000000005 2023-11-14T22:13:20.000000005Z 202311142213.20"
        );
    }

    #[test]
    fn answers_are_read() {
        let op = Op::Rename { from: path("a"), to: path("b"), expect: file() };
        for (line, expected) in [
            ("o", Some(Ok(()))),
            ("v", Some(Err(PathError::Vanished))),
            ("b", Some(Err(PathError::Occupied(path("b"))))),
            (
                "f rename it:No space left on device",
                Some(Err(PathError::Failed {
                    action: "rename it".into(),
                    cause: "No space left on device".into(),
                })),
            ),
            ("", None),
            ("what?", None),
        ] {
            assert_eq!(answer(line, &op), expected, "{line}");
        }
    }
}

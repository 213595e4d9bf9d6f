//! Operations as data for `apply.sh`, and its answers; and waiting until what was written is on the
//! disk over there (spec 8, "On the disk").
//!
//! Operations of one kind in one directory become a group, which the other side carries
//! out with few commands; order is kept.

use super::protocol::{datum, split};
use super::session::{OnStop, Piece};
use super::{ShellReplica, looking};
use crate::replica::attributes::{Owners, Whose};
use crate::replica::kept_versions::{Arrival, kept_path, short_kept_path};
use crate::replica::{
    Fate, Flush, Flushed, Keep, Keeping, KeptAt, Op, OpResult, PathError, ReplicaError, Version,
};
use crate::tree::{Entry, Kind, RelPath, Stamp};
use chrono::{DateTime, Utc};
use std::collections::HashMap;

/// What stands in the way of something that is to be kept, and how it makes room: the name
/// that it gets, with when it came and what it is. None: nothing is there, or a file that a
/// file replaces.
pub(super) type MakesRoom = Option<(Vec<u8>, Arrival)>;

/// What operations need to know beside themselves.
pub(super) struct Context<'a> {
    /// For each operation what makes room for what it keeps.
    pub makes_room: &'a [MakesRoom],
    /// The date for what stands unexpectedly in the way, `.YYYY.MM.DD-HH.MM.SS`.
    pub suffix: &'a str,
    /// The name of this run's private place.
    pub run: &'a str,
}

/// The order in which operations are sent, as indices. It is theirs, but that of changes of owner
/// and mode in one directory those of one kind stand together: of files whose modes take turns each
/// would be a group of its own. INVARIANT: what is asked for one path stays in its order.
pub(super) fn order(ops: &[Op]) -> Vec<usize> {
    let kind = |op: &Op| match op {
        Op::SetMetadata { path, mode, uid, gid, .. } => Some((path.parent(), (*mode, *uid, *gid))),
        _ => None,
    };
    let mut order = Vec::with_capacity(ops.len());
    let same_directory = |a: &Op, b: &Op| match (kind(a), kind(b)) {
        (Some((a, _)), Some((b, _))) => a == b,
        _ => false,
    };
    for siblings in ops.chunk_by(same_directory) {
        let mut asked_before: HashMap<&RelPath, usize> = HashMap::new();
        let mut indices: Vec<_> = siblings
            .iter()
            .zip(order.len()..)
            .map(|(op, index)| {
                let turn = asked_before.entry(op.path()).or_default();
                *turn += 1;
                (*turn, kind(op), index)
            })
            .collect();
        indices.sort();
        order.extend(indices.into_iter().map(|(_, _, index)| index));
    }
    order
}

/// Operations as lines of data, in this order; one answer line comes back for each.
pub(super) fn encode(
    ops: &[Op],
    order: &[usize],
    owners: &mut Owners,
    context: &Context<'_>,
) -> Vec<u8> {
    let mut out = Vec::new();
    let mut here: Option<RelPath> = None;
    let mut group = Vec::new();
    for n in order.iter().copied() {
        let op = &ops[n];
        let (parent, name) = split(op.path());
        if here.as_ref() != Some(&parent) {
            out.push(b'>');
            datum(&mut out, parent.as_bytes());
            here = Some(parent);
            group.clear();
        }
        let head = head(op, owners, context);
        if head != group {
            out.extend_from_slice(&head);
            group = head;
        }
        out.push(b':');
        out.extend_from_slice(expected(op).as_bytes());
        out.push(b'\n');
        out.push(b'@');
        let makes_room = context.makes_room.get(n).and_then(Option::as_ref);
        datum(&mut out, &further(op, makes_room));
        if let Some(kept) = kept(op) {
            out.push(b'+');
            datum(&mut out, kept.name());
        }
        datum(&mut out, name);
    }
    out.extend_from_slice(b".\n");
    out
}

/// The lines that begin a group; equal ones go on with it.
fn head(op: &Op, owners: &mut Owners, context: &Context<'_>) -> Vec<u8> {
    let Context { suffix, run, .. } = context;
    let mut out = Vec::new();
    let mut words = |text: String| out.extend_from_slice(format!("*{text}\n").as_bytes());
    match op {
        Op::MakeDir { mode, .. } => words(format!("mkdir {mode:04o}")),
        Op::Rename { .. } => words("rename".into()),
        Op::SetAside { path, keeping, .. } => {
            words(format!("aside {} {} {suffix}", keeping.keep.name(), version(*keeping)));
            kept_parent(&mut out, &kept_path(path));
        }
        Op::KeepCopy { path, .. } => {
            words(format!("copy {} o {suffix}", Keep::Backup.name()));
            kept_parent(&mut out, &short_kept_path(path));
        }
        Op::PutAway { fate: Fate::Discard, .. } => words("settle discard".into()),
        Op::PutAway { fate: Fate::Keep { kept, keeping }, .. } => {
            words(format!("settle {} {} {suffix}", keeping.keep.name(), version(*keeping)));
            kept_parent(&mut out, kept);
        }
        Op::Remove { expect, .. } => {
            words(format!("remove {} {run}", if expect.kind.is_dir() { "dir" } else { "file" }));
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
            looking::head(change, &mut out, |whom| owners.whom_there(whom));
        }
        Op::SetMtime { .. } => words("mtime".into()),
    }
    out
}

fn version(keeping: Keeping) -> char {
    match keeping.version {
        Version::Ordinary => 'o',
        Version::Protected => 'p',
    }
}

/// Where something is kept, where its name there may be another one.
fn kept(op: &Op) -> Option<RelPath> {
    match op {
        Op::PutAway { fate: Fate::Keep { kept, .. }, .. } => Some(kept.clone()),
        _ => None,
    }
}

fn kept_parent(out: &mut Vec<u8>, kept: &RelPath) {
    out.push(b'K');
    datum(out, kept.parent().unwrap_or_default().as_bytes());
}

/// What the entry must still look like, as the beginning of a line of `look`.
fn expected(op: &Op) -> String {
    match op {
        Op::MakeDir { .. } => String::new(),
        Op::SetMtime { expect, .. } => expect.as_ref().map(still).unwrap_or_default(),
        Op::SetMetadata { expect, .. } | Op::SetAttributes { expect, .. } => same_thing(expect),
        Op::Rename { expect, .. }
        | Op::SetAside { expect, .. }
        | Op::KeepCopy { expect, .. }
        | Op::PutAway { found: expect, .. }
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
fn further(op: &Op, makes_room: Option<&(Vec<u8>, Arrival)>) -> Vec<u8> {
    match op {
        Op::Rename { to, .. } => to.as_bytes().to_vec(),
        Op::KeepCopy { path, .. } => short_kept_path(path).name().to_vec(),
        Op::SetAside { .. } | Op::PutAway { .. } => makes_room.map_or_else(Vec::new, older),
        Op::SetAttributes { path, change, .. } => looking::further(change, path.name()),
        Op::SetMtime { mtime, .. } => times(*mtime).into_bytes(),
        Op::MakeDir { .. } | Op::Remove { .. } | Op::SetMetadata { .. } => Vec::new(),
    }
}

/// `SECONDS KIND NAME` of what makes room, as it will stand in the record.
fn older((name, arrival): &(Vec<u8>, Arrival)) -> Vec<u8> {
    let kind = match arrival.version {
        Version::Ordinary => 'O',
        Version::Protected => 'P',
    };
    [format!("{} {kind} ", arrival.at).as_bytes(), name].concat()
}

/// A time in the forms that different `touch`es take: seconds as a decimal number, as ISO 8601 has
/// it, and without a fraction.
fn times(stamp: Stamp) -> String {
    let (secs, nanos) = (stamp.secs(), stamp.nanos());
    let time = DateTime::<Utc>::from_timestamp(secs, nanos).unwrap_or_default();
    // nanoseconds are counted forwards, also before 1970
    let seconds = if secs < 0 && nanos > 0 {
        format!("@-{}.{:09}", (secs + 1).unsigned_abs(), 1_000_000_000 - nanos)
    } else {
        format!("@{secs}.{nanos:09}")
    };
    format!("{seconds} {} {}", time.format("%Y-%m-%dT%H:%M:%S.%fZ"), time.format("%Y%m%d%H%M.%S"))
}

/// The answer to one operation; `None`: it is no answer.
pub(super) fn answer(
    line: &str,
    op: &Op,
    makes_room: Option<&(Vec<u8>, Arrival)>,
) -> Option<Result<OpResult, PathError>> {
    Some(match line {
        "o" => Ok(OpResult::Plainly),
        "c" => Err(PathError::Changed),
        "v" => Err(PathError::Vanished),
        "n" => Err(PathError::NotEmpty),
        "b" => Err(PathError::Occupied(match op {
            Op::Rename { to, .. } => to.clone(),
            other => other.path().clone(),
        })),
        _ if line.starts_with(['k', 'u']) => Ok(OpResult::Kept(kept_at(line, op, makes_room)?)),
        _ => {
            let (action, cause) = line.strip_prefix("f ")?.split_once(':')?;
            Err(failed(action, cause))
        }
    })
}

fn kept_at(line: &str, op: &Op, makes_room: Option<&(Vec<u8>, Arrival)>) -> Option<KeptAt> {
    let (keep, kept) = match op {
        Op::SetAside { path, keeping, .. } => (keeping.keep, kept_path(path)),
        Op::KeepCopy { path, .. } => (Keep::Backup, short_kept_path(path)),
        Op::PutAway { fate: Fate::Keep { kept, keeping }, .. } => (keeping.keep, kept.clone()),
        Op::Remove { path, .. } => (Keep::Backup, path.clone()),
        _ => return None,
    };
    let number: Option<u32> = match line.get(1..)?.strip_prefix('+') {
        Some(number) => Some(number.parse().ok()?),
        None => None,
    };
    let older = number.zip(makes_room).map(|(number, (name, _))| {
        let number = if number == 0 { String::new() } else { format!(".{number}") };
        let name = [name.as_slice(), number.as_bytes()].concat();
        kept.parent().unwrap_or_default().join(&name)
    });
    Some(KeptAt { keep, kept, is_unseen: line.starts_with('u'), older })
}

/// Actions as the scripts name them.
const ACTIONS: [&str; 12] = [
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
];

/// A failure in the system's words.
pub(super) fn failed(action: &str, cause: &str) -> PathError {
    let known = ACTIONS.into_iter().find(|known| *known == action);
    PathError::Failed { action: known.unwrap_or("set it aside").into(), cause: cause.to_owned() }
}

impl ShellReplica {
    pub(super) fn flush_there(&mut self, what: &Flush) -> Result<Flushed, ReplicaError> {
        let mut data = Vec::new();
        let root = RelPath::root();
        for dir in std::iter::once(&root).chain(&what.file_systems) {
            datum(&mut data, dir.as_bytes());
        }
        data.extend_from_slice(b".\n");
        let words = self.asking("flush");
        let (status, answer) = self.ask(&[Piece::Flush], &words, &data, OnStop::Finish)?;
        match (status, &answer[..]) {
            (0, answer) if answer.ends_with(b"done\n") => Ok(Flushed::Yes),
            (0, answer) if answer.ends_with(b"missing\n") => Ok(Flushed::NoTool),
            _ => {
                let said = String::from_utf8_lossy(&answer);
                Err(self.error(format!(
                    "what was written cannot be flushed to the disk over there: {}",
                    said.trim()
                )))
            }
        }
    }
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
        let context = Context { makes_room: &[], suffix: ".2026.01.02-03.04.05", run: "1.2" };
        let out = encode(ops, &order(ops), &mut Owners::default(), &context);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn neighbours_of_one_kind_share_a_group() {
        let remove = |p| Op::Remove { path: path(p), expect: file() };
        let looks = ":f 7 12 1700000000.000000005\n@=\n";
        assert_eq!(
            text(&[remove("d/a"), remove("d/b"), remove("c")]),
            format!(
                ">=d\n*remove file 1.2\n{looks}=a\n{looks}=b\n>=\n*remove file 1.2\n{looks}=c\n.\n"
            )
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
    fn metadata_of_one_kind_goes_together_and_that_of_one_path_in_its_order() {
        let set = |p, mode, uid| {
            let (path, expect) = (path(p), file());
            Op::SetMetadata { path, expect, mode, uid, gid: None }
        };
        let remove = |p| Op::Remove { path: path(p), expect: file() };
        let ops = [
            set("d/a", None, Some(5)),
            set("d/a", Some(0o600), None),
            set("d/b", Some(0o640), None),
            set("d/c", None, Some(5)),
            set("d/c", Some(0o600), None),
            remove("d/x"),
            set("d/d", Some(0o640), None),
            set("e", None, Some(5)),
        ];
        assert_eq!(order(&ops), [0, 3, 2, 1, 4, 5, 6, 7]);
        let alternating: Vec<Op> = ["d/a", "d/b", "d/c"]
            .map(|p| set(p, Some(if p == "d/b" { 0o640 } else { 0o600 }), None))
            .into();
        let heads = text(&alternating).lines().filter(|line| line.starts_with('*')).count();
        assert_eq!(heads, 2);
    }

    #[test]
    fn times_are_told_in_three_forms() {
        assert_eq!(
            times(Stamp::new(1_700_000_000, 5)),
            "@1700000000.000000005 2023-11-14T22:13:20.000000005Z 202311142213.20"
        );
        // a tenth of a second before 1970
        assert_eq!(
            times(Stamp::new(-1, 900_000_000)),
            "@-0.100000000 1969-12-31T23:59:59.900000000Z 196912312359.59"
        );
    }

    #[test]
    fn answers_are_read() {
        let op = Op::Rename { from: path("a"), to: path("b"), expect: file() };
        for (line, expected) in [
            ("o", Some(Ok(OpResult::Plainly))),
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
            assert_eq!(answer(line, &op, None), expected, "{line}");
        }
    }
}

//! What two osyncs say to each other (docs/peer-protocol.md; spec 5, "A peer, where there
//! is one").
//!
//! A frame is its length (four bytes, the lowest first), and that many bytes: the number of
//! a request and one message, encoded with postcard. The client sends [`Request`]s, the
//! server answers each with the same number: some [`Response`]s that tell how far it is, and
//! those that are the answer. Nearly every request is one method of
//! [`Replica`](crate::replica::Replica), with the same words.

use crate::config::RuleText;
use crate::replica::attributes::Whose;
use crate::replica::lock_policy::{Content, FoundLock, LockedBy};
use crate::replica::{
    Access, Arrived, Attributes, Cleaned, DigestKind, Flush, Flushed, HookResult, Keep,
    LockRequest, LookRules, Op, OpResult, PathError, Prepared, Retention, TakenLock, Trouble,
    Unread, Watched,
};
use crate::report::Problem;
use crate::state::{Identity, IdentityFound, RunMark};
use crate::tree::{Abilities, Entry, RelPath, Standing};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::time::Duration;

/// How often the server gives a sign of life while it works on a request.
pub const BETWEEN_SIGNS: Duration = Duration::from_secs(5);

/// Two programs understand each other only if this number is the same: one more for every
/// change of a type that is part of a message.
pub const VERSION: u32 = 7;

/// What the client sends before its first frame. The server passes over all that comes before,
/// for that is the rest of the script with which the shell was to be taught.
pub const START: &[u8] = b"\n\0osync peer\0\n";

/// The longest frame, in bytes, without its length. Who announces a longer one is not listened
/// to any more.
pub const MOST_FRAME: usize = 1 << 20;

/// About so many bytes of a long list go into one frame.
pub const FULL_FRAME: usize = 1 << 16;

/// How a digest of a listing names it.
pub type ListingName = [u8; 32];

/// What the client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Give up the request that has this frame's number, and all before it. Not answered.
    GiveUp,
    /// `prepare`. Answered by [`Response::Prepared`].
    Prepare(Prepare),
    /// `lock`. Answered by [`Response::Locked`], or by [`Response::HeldLock`] where the client has to
    /// look whether a process of its own machine still runs.
    Lock(LockRequest),
    /// `lock`, after the client has found that the lock which was shown does not count.
    LockOver(LockRequest, Vec<u8>),
    /// `unlock`. [`Response::Done`].
    Unlock,
    /// `abilities`. [`Response::Abilities`].
    Abilities,
    /// `identity`. [`Response::Identity`].
    Identity,
    /// `set_identity`. [`Response::Done`].
    SetIdentity(Identity),
    /// `runs`. [`Response::Runs`].
    Runs,
    /// `set_run`. [`Response::Done`].
    SetRun(RunMark),
    /// Rules for the next scan, behind those already sent. [`Response::Done`].
    Rules(Vec<RuleText>),
    /// `scan`. [`Response::Top`], [`Response::Pieces`], [`Response::Problems`],
    /// [`Response::Scanned`].
    Scan(Scan),
    /// `look_below`. For each path [`Response::Nothing`], or [`Response::Top`],
    /// [`Response::Pieces`] and [`Response::Seen`].
    LookBelow(Vec<RelPath>),
    /// `stat`. [`Response::Entries`].
    Stat(Vec<RelPath>),
    /// `digest`. [`Response::Digests`].
    Digest(DigestKind, Vec<(RelPath, Entry)>),
    /// `attributes`. [`Response::Attributes`].
    Attributes(Vec<RelPath>),
    /// `apply`. [`Response::Applied`].
    Apply(Vec<Op>),
    /// `close_private_place`. [`Response::Done`].
    ClosePrivatePlace,
    /// `flush`. [`Response::Flushed`].
    Flush(Flush),
    /// `clean`. [`Response::Cleaned`].
    Clean(Retention),
    /// `run_hook`. [`Response::Hook`].
    Hook(Hook),
    /// The server's numbers of users and groups. [`Response::Numbers`].
    Numbers(Vec<(Whose, String)>),
    /// Add a line to the trigger file. [`Response::Done`].
    Wake(String),
    /// `watch`, by the rules already sent. [`Response::Watched`], again and again.
    Watch,
    /// `arrivals`. [`Response::Arrivals`] as often as it takes, and [`Response::Done`].
    Arrivals(Keep),
    /// `lower_priority`. [`Response::Done`].
    GiveWay,
}

/// What the server says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// The request failed as a whole: what a `ReplicaError` says, and what the client's run can do
    /// about it.
    Failed(String, Trouble),
    /// So many entries were seen so far. No answer yet.
    Progress(u64),
    /// Work goes on. No answer yet.
    Alive,
    /// The names of owners that what follows mentions; empty where there is none. No answer yet.
    Names(Vec<(Whose, u32, String)>),
    /// It is done.
    Done,
    #[allow(missing_docs)]
    Prepared(Ready),
    #[allow(missing_docs)]
    Locked(TakenLock),
    /// There is a lock of a process that this machine knows nothing of.
    Held(HeldLock),
    #[allow(missing_docs)]
    Abilities(Abilities),
    #[allow(missing_docs)]
    Identity(IdentityFound),
    #[allow(missing_docs)]
    Runs(Vec<RunMark>),
    /// The entry that a tree grows from.
    Top(Standing, Entry),
    /// The next pieces of a tree (see [`listing`](super::listing)).
    Pieces(Vec<Piece>),
    /// What a scan could not read.
    Problems(Vec<Problem>),
    /// The end of a scan.
    Scanned(Whole, Unread),
    /// The end of a tree.
    Seen(Whole),
    /// There is no tree: nothing is there, or why that cannot be told.
    Nothing(Option<PathError>),
    #[allow(missing_docs)]
    Entries(Vec<Result<Option<Entry>, PathError>>),
    #[allow(missing_docs)]
    Digests(Vec<Result<[u8; 32], PathError>>),
    #[allow(missing_docs)]
    Attributes(Vec<Result<Option<Attributes>, PathError>>),
    #[allow(missing_docs)]
    Applied(Vec<Result<OpResult, PathError>>),
    #[allow(missing_docs)]
    Flushed(Flushed),
    #[allow(missing_docs)]
    Cleaned(Cleaned),
    #[allow(missing_docs)]
    Hook(HookResult),
    /// In the order of the request; `None`: nobody there has that name.
    Numbers(Vec<Option<u32>>),
    #[allow(missing_docs)]
    Watched(Watched),
    #[allow(missing_docs)]
    Arrivals(Vec<Arrived>),
}

/// Which replica, and what for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepare {
    /// As written in the location: absolute, or from the login directory, or behind `~`.
    pub path: Vec<u8>,
    /// Whether `HOME` may be somebody else's (sudo).
    pub sudo: bool,
    /// What may be done.
    pub access: Access,
    /// The rsync that is to be there: a name or a path.
    pub rsync: Vec<u8>,
    /// INSTANCE_ID, for what is kept of the last listing.
    pub instance_id: String,
    /// The name of this run's private place: digits and dots.
    pub run: String,
}

/// The replica is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Its real path.
    pub root: Vec<u8>,
    /// Whether there is an rsync.
    pub has_rsync: bool,
    /// Whether an earlier run may have left something in its private place.
    pub has_left_overs: bool,
    /// What the trait tells.
    pub prepared: Prepared,
}

/// A lock that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLock {
    /// The file `lock`.
    pub content: Vec<u8>,
    /// The file `lock.by`; empty: there is none.
    pub by: Vec<u8>,
}

impl HeldLock {
    /// The lock as it is judged, for a run of this task.
    #[must_use]
    pub fn read(&self, instance_id: &str) -> FoundLock {
        FoundLock {
            content: Content::parse(&self.content, instance_id),
            by: LockedBy::parse(&self.by),
            before_boot: false,
        }
    }
}

/// What a scan is to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// What links count as, and which attributes are read into digests.
    pub look: LookRules,
    /// The last listing that the client has.
    pub known: Option<ListingName>,
}

/// A command of the user's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    #[allow(missing_docs)]
    pub command: String,
    #[allow(missing_docs)]
    pub env: Vec<(String, String)>,
    /// Milliseconds.
    pub limit: Option<u64>,
}

/// A part of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    /// So many blocks of the last listing, from this one on.
    Same {
        /// Its number in the last listing.
        from: u32,
        /// How many.
        count: u32,
    },
    /// A block.
    New(Vec<u8>),
}

/// What a whole tree amounts to. One that amounts to something else is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whole {
    /// How many entries there are below its top.
    pub entries: u64,
    /// The name of the listing: a digest of the digests of its blocks.
    pub name: ListingName,
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// It is longer than [`MOST_FRAME`].
    #[error("a message of {0} bytes, more than there can be")]
    TooLong(usize),
    /// It holds no message, or something behind it.
    #[error("a malformed message")]
    NoMessage,
}

/// A message as it travels.
///
/// # Errors
/// [`BadFrame::TooLong`].
pub fn encode<T: Serialize>(number: u32, message: &T) -> Result<Vec<u8>, BadFrame> {
    let frame =
        postcard::to_extend(&(number, message), vec![0; 4]).map_err(|_| BadFrame::NoMessage)?;
    let length = frame.len() - 4;
    if length > MOST_FRAME {
        return Err(BadFrame::TooLong(length));
    }
    let mut frame = frame;
    // no longer than `MOST_FRAME`
    frame[..4].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    Ok(frame)
}

/// The length that a frame announces.
///
/// # Errors
/// [`BadFrame::TooLong`].
pub fn length(head: [u8; 4]) -> Result<usize, BadFrame> {
    let length = usize::try_from(u32::from_le_bytes(head)).unwrap_or(usize::MAX);
    if length > MOST_FRAME { Err(BadFrame::TooLong(length)) } else { Ok(length) }
}

/// What stands in a frame behind its length.
///
/// # Errors
/// [`BadFrame::NoMessage`].
pub fn decode<T: DeserializeOwned>(frame: &[u8]) -> Result<(u32, T), BadFrame> {
    match postcard::take_from_bytes(frame) {
        Ok((message, [])) => Ok(message),
        _ => Err(BadFrame::NoMessage),
    }
}

/// A list in parts that fit into a frame each, in order. An element that alone is too long
/// makes a part of its own, and [`encode`] refuses it.
pub fn parts<T: Serialize>(list: &[T]) -> impl Iterator<Item = &[T]> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let mut size = 0;
        let count = rest
            .iter()
            .take_while(|element| {
                let is_first = size == 0;
                size += size_of_encoded(*element);
                is_first || size <= FULL_FRAME
            })
            .count();
        let (part, behind) = rest.split_at(count);
        rest = behind;
        Some(part).filter(|part| !part.is_empty())
    })
}

fn size_of_encoded<T: Serialize>(element: &T) -> usize {
    let size = postcard::ser_flavors::Size::default();
    // at least one, so that a part always ends
    postcard::serialize_with_flavor(element, size).unwrap_or(FULL_FRAME).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::Wanted;
    use crate::tree::Kind;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).unwrap()
    }

    #[test]
    fn messages_come_back_as_they_were() {
        let mut entry = Entry::new(Kind::Symlink);
        entry.mtime = crate::tree::Stamp::new(-5, 999_999_999);
        let refused = PathError::Failed { action: "open it".into(), cause: "no".into() };
        let requests = [
            Request::Stat(vec![path("a/b"), RelPath::root()]),
            Request::Apply(vec![Op::Remove { path: path("x"), expect: entry.clone() }]),
            Request::GiveUp,
        ];
        for request in requests {
            let frame = encode(7, &request).unwrap();
            let length = length(*frame.first_chunk().unwrap()).unwrap();
            assert_eq!(length, frame.len() - 4);
            assert_eq!(decode::<Request>(&frame[4..]), Ok((7, request)));
            assert_eq!(decode::<Request>(&[&frame[4..], b"x"].concat()), Err(BadFrame::NoMessage));
        }
        let response = Response::Entries(vec![
            Ok(Some(entry)),
            Ok(None),
            Err(refused),
            Err(PathError::Changed),
        ]);
        let frame = encode(u32::MAX, &response).unwrap();
        assert_eq!(decode::<Response>(&frame[4..]), Ok((u32::MAX, response)));
        for end in 4..frame.len() {
            assert_eq!(decode::<Response>(&frame[4..end]), Err(BadFrame::NoMessage), "{end}");
        }
    }

    #[test]
    fn a_request_for_a_scan_has_the_bytes_that_every_version_7_has() {
        let attributes = Wanted { acl: true, xattr: false, all_spaces: true };
        let look = LookRules { copy_symlinks: false, keep_dirlinks: true, attributes };
        let frame = encode(7, &Request::Scan(Scan { look, known: Some([5; 32]) })).unwrap();
        let expected = [&[40, 0, 0, 0, 7, 11, 0, 1, 1, 0, 1, 1][..], &[5; 32]].concat();
        assert_eq!(frame, expected);
    }

    #[test]
    fn no_message_holds_a_path_that_leads_elsewhere() {
        for bad in ["..", "a/../b", "/etc", "a//b", ".", "a\0b", "a/"] {
            let list = vec![bad.as_bytes().to_vec()];
            // a request for looking at some paths is the list of them behind its number
            let good = encode(1, &Request::Stat(vec![path("x")])).unwrap();
            let mut frame = good[4..good.len() - 3].to_vec();
            frame.extend(postcard::to_stdvec(&list).unwrap());
            assert_eq!(decode::<Request>(&frame), Err(BadFrame::NoMessage), "{bad:?}");
        }
    }

    #[test]
    fn a_length_is_no_reason_to_take_memory() {
        assert_eq!(length(u32::MAX.to_le_bytes()), Err(BadFrame::TooLong(u32::MAX as usize)));
        // a list that says that it has 2^60 elements
        let mut frame = encode(1, &Request::Stat(Vec::new())).unwrap()[4..].to_vec();
        frame.pop();
        frame.extend([0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10]);
        assert_eq!(decode::<Request>(&frame), Err(BadFrame::NoMessage));
    }

    #[test]
    fn long_lists_go_in_parts_that_fit() {
        let list: Vec<RelPath> =
            (0..5000).map(|n| path(&format!("{n}/{}", "x".repeat(200)))).collect();
        let parts: Vec<&[RelPath]> = parts(&list).collect();
        assert!(parts.len() > 10 && parts.concat() == list);
        for part in parts {
            assert!(encode(1, &Request::Stat(part.to_vec())).unwrap().len() < FULL_FRAME * 2);
        }
        let huge = [path(&"y".repeat(MOST_FRAME)), path("z")];
        let parts: Vec<&[RelPath]> = super::parts(&huge).collect();
        assert_eq!(parts.len(), 2);
        assert!(encode(1, &Request::Stat(parts[0].to_vec())).is_err());
    }
}

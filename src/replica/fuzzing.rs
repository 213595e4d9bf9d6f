//! What must hold of any bytes in the small files of a replica (docs/testing.md).

pub(crate) use super::peer::fuzzing as peer;
pub(crate) use super::shell::fuzzing as remote;

use super::kept_versions::Arrivals;
use super::local::work_dir::identity_of;
use super::lock_policy::{
    Content, FoundLock, Holder, LockDecision, LockPlace, LockedBy, Origin, Process, decide,
};
use super::temp::left_over;
use super::{Acl, LockRequest};
use crate::tree::Kind;

/// `lock`, a NUL, and `lock.by`: one that cannot be read, or whose process runs, is never
/// taken over without force. An empty one names no process.
pub(crate) fn lock(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let lock = parts.next().unwrap_or_default();
    if let Ok(holder) = &Holder::parse(lock) {
        assert_eq!(Holder::parse(holder.to_text().as_bytes()).as_ref(), Ok(holder));
    }
    let by = parts.next().and_then(LockedBy::parse);
    if let Some(by) = &by {
        assert_eq!(LockedBy::parse(by.to_text().as_bytes()).as_ref(), Some(by));
    }
    let here = Origin { host: "here".to_owned(), boot: "at:1700000000".to_owned() };
    let found = FoundLock { content: Content::parse(lock, "task"), by, before_boot: false };
    for place in [LockPlace::Here, LockPlace::Remote] {
        let request =
            LockRequest { instance_id: "task".into(), force: false, stranger_resume: false };
        let of = |process| decide(&found, process, &here, place, &request);
        let unheard = of(Process::Runs(None));
        let is_of_now = found.by.as_ref().is_none_or(|by| by.origin == here);
        if found.content == Content::Empty {
            assert!(matches!(unheard, LockDecision::TakeOver(_)), "{unheard:?} from {found:?}");
        } else if matches!(found.content, Content::Malformed(_)) || is_of_now {
            assert!(
                matches!(unheard, LockDecision::Stop(_) | LockDecision::Busy(_)),
                "{unheard:?} from {found:?}"
            );
        }
        let forced = LockRequest { force: true, ..request };
        let verdict = decide(&found, Process::Gone, &here, place, &forced);
        assert!(matches!(verdict, LockDecision::TakeOver(_)), "{verdict:?} from {found:?}");
    }
}

/// `identity`: one printable word, or none.
pub(crate) fn identity(bytes: &[u8]) {
    if let Some(identity) = identity_of(bytes) {
        assert!((1..=128).contains(&identity.0.len()) && bytes_hold(bytes, identity.0.as_bytes()));
        assert!(identity.0.bytes().all(|byte| byte.is_ascii_graphic()));
    }
}

/// A record of arrivals, of this version or an older one: what it names can be kept, and is
/// read again as it is written.
pub(crate) fn kept(bytes: &[u8]) {
    let mut arrivals = Arrivals::read(bytes);
    for keep in [super::Keep::Backup, super::Keep::Deleted] {
        arrivals.read_older(bytes, keep);
    }
    let again = Arrivals::read(&arrivals.to_text());
    assert!(again.iter().eq(arrivals.iter()));
}

fn bytes_hold(bytes: &[u8], part: &[u8]) -> bool {
    part.is_empty() || bytes.windows(part.len()).any(|window| window == part)
}

/// An access control list of Linux, or the lines of `getfacl -n`.
pub(crate) fn acl(bytes: &[u8]) {
    if let Some(acl) = Acl::from_bytes(bytes) {
        assert_eq!(Acl::from_bytes(&acl.to_bytes()), Some(acl));
    }
    let mut acl = Acl::default();
    for line in String::from_utf8_lossy(bytes).lines() {
        acl.learn(line);
    }
    assert_eq!(Acl::from_bytes(&acl.to_bytes()), Some(acl));
}

/// A name, a newline, and the name of an entry: what is taken for rsync's temporary file of
/// that name begins as such a file does.
pub(crate) fn temporary(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let name = parts.next().unwrap_or_default();
    let entry = parts.next().unwrap_or_default();
    for kind in Kind::ALL {
        if left_over(entry, kind, name).is_some() {
            assert!(entry.starts_with(b".") && entry != name && kind != Kind::Dir);
            let end = entry.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
            assert!((1..=7).contains(&end.len()) && end.iter().all(u8::is_ascii_alphanumeric));
        }
    }
}

//! Steps 4 and 6: metadata alone, without content (spec 4, "Metadata").

use super::{BATCH, Cut, Job, Steps};
use crate::config::Preserve;
use crate::reconcile::PathId;
use crate::replica::{AttributeChange, Attributes, Op, PathError};
use crate::task::Task;
use crate::tree::{Entry, Kind, RelPath, Side, Stamp};

impl Steps<'_, '_> {
    /// Step 4: metadata that flows against its file's content.
    pub(super) fn counter_metadata(&mut self) -> Result<(), Cut> {
        for side in Side::BOTH {
            let path_ids = self.plan.counter_metadata[side].clone();
            self.set_metadata(side, &path_ids)?;
        }
        Ok(())
    }

    /// Step 6: other metadata.
    pub(super) fn metadata(&mut self) -> Result<(), Cut> {
        for side in Side::BOTH {
            let path_ids = self.plan.metadata[side].clone();
            self.set_metadata(side, &path_ids)?;
        }
        Ok(())
    }

    /// Step 6: files of the same content get the time of the other side's.
    pub(super) fn file_times(&mut self) -> Result<(), Cut> {
        for side in Side::BOTH {
            let times = self.plan.file_times[side].iter();
            let job = |(path_id, mtime): &(PathId, Stamp)| {
                let expect = Some(self.scanned(*path_id, side)?.clone());
                let op = Op::SetMtime { path: self.path(*path_id), mtime: *mtime, expect };
                Some(Job { path_id: *path_id, op })
            };
            let jobs = times.filter(|(path_id, _)| !self.failed(*path_id)).filter_map(job);
            self.run_metadata(side, jobs.collect())?;
        }
        Ok(())
    }

    fn set_metadata(&mut self, side: Side, path_ids: &[PathId]) -> Result<(), Cut> {
        for path_ids in path_ids.chunks(BATCH) {
            self.check_stop()?;
            let mut jobs = self.attribute_jobs(side, path_ids)?;
            let preserve = self.task.compared();
            for path_id in path_ids.iter().filter(|path_id| !self.failed(**path_id)) {
                let (Some(mine), Some(other)) =
                    (self.scanned(*path_id, side), self.scanned(*path_id, side.other()))
                else {
                    continue;
                };
                let like = self.task.owner_like(side, (other.uid, other.gid), mine);
                let owner = Owner {
                    uid: like.uid.filter(|_| preserve.owner),
                    gid: like.gid.filter(|_| preserve.group),
                };
                let mode = wanted_mode(mine, other, &preserve);
                jobs.extend(metadata_jobs(*path_id, self.path(*path_id), mine, owner, mode));
            }
            self.run_metadata(side, jobs)?;
        }
        Ok(())
    }

    /// What this user may not do is told once for all, and taken as it is.
    pub(super) fn run_metadata(&mut self, side: Side, jobs: Vec<Job>) -> Result<(), Cut> {
        self.run(side, jobs, |steps, path_id, result| match result {
            Ok(()) => {}
            Err(error) if is_refused(&error) => {
                steps.applied.refused.insert(path_id);
            }
            Err(error) => steps.fail(side, path_id, "cannot carry its metadata over", &error),
        })
    }

    /// ACLs and extended attributes: the digests of the scan only tell that they differ, so
    /// both sides are asked for what they have.
    fn attribute_jobs(&mut self, side: Side, path_ids: &[PathId]) -> Result<Vec<Job>, Cut> {
        let preserve = self.task.compared();
        let path_ids: Vec<PathId> = path_ids
            .iter()
            .filter(|path_id| !self.failed(**path_id))
            .filter(|path_id| {
                let entries =
                    (self.scanned(**path_id, side), self.scanned(**path_id, side.other()));
                matches!(entries, (Some(a), Some(b)) if differ_in_attributes(a, b, &preserve))
            })
            .copied()
            .collect();
        if path_ids.is_empty() {
            return Ok(Vec::new());
        }
        let paths = self.paths(&path_ids);
        let theirs = self.task.replicas[side.other()].attributes(&paths)?;
        let mine = self.task.replicas[side].attributes(&paths)?;
        let mut jobs = Vec::new();
        for ((path_id, path), (mine, theirs)) in
            path_ids.into_iter().zip(paths).zip(mine.into_iter().zip(theirs))
        {
            let mut read = |side: Side, found: Result<Option<Attributes>, PathError>| {
                let found = found.and_then(|found| found.ok_or(PathError::Vanished));
                found
                    .map_err(|error| {
                        self.fail(side, path_id, "cannot carry its metadata over", &error)
                    })
                    .ok()
            };
            let (mine, theirs) = (read(side, mine), read(side.other(), theirs));
            let (Some(mut mine), Some(mut theirs)) = (mine, theirs) else { continue };
            let had = mine.clone();
            for attributes in [&mut mine, &mut theirs] {
                only_compared(attributes, &preserve);
            }
            let (Some(expect), Some(other)) =
                (self.scanned(path_id, side), self.scanned(path_id, side.other()))
            else {
                continue;
            };
            let change = AttributeChange::between(&mine, &theirs, other.mode);
            if !change.is_empty() {
                let op = Op::SetAttributes { path, expect: expect.clone(), change };
                jobs.push(Job { path_id, op });
                self.applied.attributes[side].insert(path_id, had);
            }
        }
        Ok(jobs)
    }

    /// Whoever replaces a file becomes its owner. Where owners or groups are not preserved,
    /// those that the receiver had are put back (spec 5, "rsync calls").
    pub(super) fn put_owners_back(&mut self, side: Side, path_ids: &[PathId]) -> Result<(), Cut> {
        let preserve = self.task.compared();
        if preserve.owner && preserve.group {
            return Ok(());
        }
        for path_ids in path_ids.chunks(BATCH) {
            let paths = self.paths(path_ids);
            let found = self.task.replicas[side].stat(&paths)?;
            let mut jobs = Vec::new();
            for ((path_id, path), found) in path_ids.iter().zip(paths).zip(found) {
                let (Some(before), Ok(Some(now))) = (self.scanned(*path_id, side), found) else {
                    continue;
                };
                let like = self.task.owner_like(side, (before.uid, before.gid), &now);
                let owner = Owner {
                    uid: like.uid.filter(|_| !preserve.owner),
                    gid: like.gid.filter(|_| !preserve.group),
                };
                jobs.extend(metadata_jobs(*path_id, path, &now, owner, None));
            }
            // A group that this user may not give is no news: nothing was asked for.
            self.run(side, jobs, |steps, path_id, result| match result {
                Err(error) if !is_refused(&error) => {
                    steps.fail(side, path_id, "cannot give it back its owner", &error);
                }
                _ => {}
            })?;
        }
        Ok(())
    }
}

/// Whom an entry is to belong to; what is none stays.
#[derive(Clone, Copy)]
pub(in crate::task) struct Owner {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

impl Task<'_> {
    /// Gives an entry the owner and group that another one has or had. Only root gives a file away;
    /// whether its owner may give it a group is for the system to say.
    pub(in crate::task) fn owner_like(
        &self,
        side: Side,
        (uid, gid): (u32, u32),
        now: &Entry,
    ) -> Owner {
        Owner {
            uid: (uid != now.uid && self.can_chown[side]).then_some(uid),
            gid: (gid != now.gid).then_some(gid),
        }
    }
}

/// Owner and mode one after the other, so that a refused owner stops no mode. A new owner
/// takes setuid and setgid away: with them the mode is set in any case.
fn metadata_jobs(
    path_id: PathId,
    path: RelPath,
    mine: &Entry,
    owner: Owner,
    mode: Option<u16>,
) -> Vec<Job> {
    let op = |uid, gid, mode| Job {
        path_id,
        op: Op::SetMetadata { path: path.clone(), expect: mine.clone(), mode, uid, gid },
    };
    let Owner { uid, gid } = owner;
    let mut jobs = Vec::new();
    let mut mode = mode.filter(|_| mine.kind != Kind::Symlink);
    // One by one: an ordinary user may give a group and no owner.
    if uid.is_some() {
        jobs.push(op(uid, None, None));
    }
    if gid.is_some() {
        jobs.push(op(None, gid, None));
    }
    if !jobs.is_empty() && mine.kind != Kind::Symlink && mine.mode & 0o6000 != 0 {
        mode = mode.or(Some(mine.mode));
    }
    if mode.is_some() {
        jobs.push(op(None, None, mode));
    }
    jobs
}

/// Refusals for good: trying again would not help, and a run is no worse for it.
fn is_refused(error: &PathError) -> bool {
    const FOR_GOOD: [&str; 2] = ["Operation not permitted", "Operation not supported"];
    let PathError::Failed { cause, .. } = error else { return false };
    FOR_GOOD.iter().any(|words| cause.starts_with(words))
}

pub(super) fn differ_in_attributes(a: &Entry, b: &Entry, preserve: &Preserve) -> bool {
    (preserve.acl && a.extra().acl != b.extra().acl)
        || (preserve.xattr && a.extra().xattr != b.extra().xattr)
}

fn only_compared(attributes: &mut Attributes, preserve: &Preserve) {
    if !preserve.acl {
        (attributes.access, attributes.default) = (None, None);
    }
    if !preserve.xattr {
        attributes.named.clear();
    }
}

/// The permission bits an entry gets from its counterpart; `None`: they stay.
fn wanted_mode(mine: &Entry, other: &Entry, preserve: &crate::config::Preserve) -> Option<u16> {
    if preserve.permissions {
        return (mine.mode != other.mode).then_some(other.mode);
    }
    let executable = other.mode & 0o111 != 0;
    if !preserve.executability || (mine.mode & 0o111 != 0) == executable {
        return None;
    }
    // As rsync's --executability: each x bit follows its r bit, or all go.
    let bits = if executable { mine.mode | ((mine.mode & 0o444) >> 2) } else { mine.mode & !0o111 };
    Some(bits)
}

//! ACLs and extended attributes on a side whose machine has no tools for them: there they are
//! read and set by rsync (docs/fidelity.md).
//!
//! rsync sets attributes of a file only where the contents are the same on both sides. Where
//! content comes from such a side and attributes go there, the content comes first, with the
//! attributes that it has there, and then those that were here before are put back and sent.

use super::metadata::differ_in_attributes;
use super::transfer_scheduler::{Call, Replaced, TransferScheduler};
use super::{Cut, Job, Steps};
use crate::reconcile::{Act, PathId};
use crate::replica::{AttributeChange, Attributes, Op, PathError};
use crate::rsync::Purpose;
use crate::tree::same::looks_alike;
use crate::tree::{Entry, Pair, RelPath, Side, Stamp};

const FAILED: &str = "cannot carry its metadata over";

type Read = Vec<Result<Option<Attributes>, PathError>>;

impl Steps<'_, '_> {
    /// What a side has at these places, as they were scanned.
    pub(super) fn attributes_of(&mut self, side: Side, path_ids: &[PathId]) -> Result<Read, Cut> {
        let entry = |path_id: &PathId| (self.path(*path_id), self.scanned(*path_id, side).cloned());
        let places: Vec<(RelPath, Option<Entry>)> = path_ids.iter().map(entry).collect();
        let Some(reader) = self.apply.readers[side].as_ref() else {
            let paths: Vec<RelPath> = places.into_iter().map(|(path, _)| path).collect();
            return Ok(self.apply.replicas[side].attributes(&paths)?);
        };
        let entries: Vec<(RelPath, Entry)> =
            places.into_iter().filter_map(|(path, entry)| Some((path, entry?))).collect();
        let failed = |cause: &str| PathError::Failed {
            action: "read its attributes".into(),
            cause: cause.to_owned(),
        };
        let answer = |found: Option<Attributes>| match found {
            Some(found) => Ok(Some(found)),
            None => Err(failed("rsync did not come to it")),
        };
        Ok(match reader.read(&self.apply.replicas[side].rsync_end(), &entries) {
            Ok(read) => read.into_iter().map(answer).collect(),
            Err(why) => path_ids.iter().map(|_| Err(failed(&why))).collect(),
        })
    }

    /// Notes what a side has before content comes, to give it back and over afterwards.
    pub(super) fn keep_attributes(&mut self, here: Side, path_ids: &[PathId]) -> Result<(), Cut> {
        let comes = |path_id: &PathId| self.plan().verdict(*path_id).act == Act::Send { to: here };
        let path_ids: Vec<PathId> = path_ids.iter().copied().filter(comes).collect();
        let read = self.attributes_of(here, &path_ids)?;
        for (path_id, found) in path_ids.into_iter().zip(read) {
            match found.and_then(|found| found.ok_or(PathError::Vanished)) {
                Ok(attributes) => {
                    self.kept.insert(path_id, attributes);
                }
                Err(error) => self.fail(here, path_id, FAILED, &error),
            }
        }
        Ok(())
    }

    /// Files and directories of the same content on both sides whose attributes go to a side
    /// by rsync. Both are looked at right before: what changed since the scan is left alone.
    pub(super) fn attributes_to_send(&mut self, to: Side) -> Result<Vec<PathId>, Cut> {
        if self.apply.readers[to].is_none() {
            return Ok(Vec::new());
        }
        let preserve = self.apply.compared;
        let goes = |path_id: &PathId| {
            let entries =
                (self.scanned(*path_id, Side::Initiator), self.scanned(*path_id, Side::Target));
            matches!(entries, (Some(a), Some(b)) if differ_in_attributes(a, b, &preserve)
                && looks_alike(a, b))
        };
        let planned = self.plan().metadata[to].iter().copied();
        let path_ids: Vec<PathId> =
            planned.filter(|path_id| !self.failed(*path_id)).filter(goes).collect();
        let scanned = Pair::from_fn(|side: Side| {
            path_ids.iter().map(|path_id| self.scanned(*path_id, side).cloned()).collect()
        });
        self.unchanged(to, path_ids, &scanned)
    }

    /// Those of the places where both sides still have what is expected; the others failed.
    fn unchanged(
        &mut self,
        to: Side,
        path_ids: Vec<PathId>,
        expected: &Pair<Vec<Option<Entry>>>,
    ) -> Result<Vec<PathId>, Cut> {
        let paths: Vec<RelPath> = path_ids.iter().map(|path_id| self.path(*path_id)).collect();
        let mut is_same = vec![true; path_ids.len()];
        for side in Side::BOTH {
            let found = self.apply.replicas[side].stat(&paths)?;
            for ((same, found), expected) in is_same.iter_mut().zip(found).zip(&expected[side]) {
                *same &= match (found, expected) {
                    (Ok(Some(found)), Some(expected)) => self.arrived(side, expected, &found),
                    _ => false,
                };
            }
        }
        let mut unchanged = Vec::new();
        for (path_id, same) in path_ids.into_iter().zip(is_same) {
            if same {
                unchanged.push(path_id);
            } else {
                self.fail(to, path_id, FAILED, &PathError::Changed);
            }
        }
        Ok(unchanged)
    }

    /// What [`Steps::keep_attributes`] noted is given back to where content came meanwhile,
    /// and from there to the other side.
    pub(super) fn give_kept_attributes(&mut self) -> Result<(), Cut> {
        let mut kept = std::mem::take(&mut self.kept);
        kept.retain(|path_id, _| !self.failed(*path_id));
        let Some(to) = Side::BOTH.into_iter().find(|side| self.apply.readers[*side].is_some())
        else {
            return Ok(());
        };
        let here = to.other();
        // content that came is what the other side had
        let path_ids: Vec<PathId> = kept.keys().copied().collect();
        let sent: Vec<Option<Entry>> =
            path_ids.iter().map(|path_id| self.scanned(*path_id, to).cloned()).collect();
        let path_ids = self.unchanged(to, path_ids, &Pair::new(sent.clone(), sent))?;
        if path_ids.is_empty() {
            return Ok(());
        }
        let paths: Vec<RelPath> = path_ids.iter().map(|path_id| self.path(*path_id)).collect();
        let found = self.apply.replicas[here].stat(&paths)?;
        let read = self.apply.replicas[here].attributes(&paths)?;
        let mut jobs = Vec::new();
        for ((path_id, path), (found, read)) in
            path_ids.iter().zip(paths).zip(found.into_iter().zip(read))
        {
            let (Ok(Some(expect)), Ok(Some(now))) = (found, read) else {
                self.fail(here, *path_id, FAILED, &PathError::Changed);
                continue;
            };
            let mode = self.scanned(*path_id, here).map_or(expect.mode, |entry| entry.mode);
            let change = kept.get(path_id).map(|kept| AttributeChange::between(&now, kept, mode));
            if let Some(change) = change.filter(|change| !change.is_empty()) {
                jobs.push(Job {
                    path_id: *path_id,
                    op: Op::SetAttributes { path, expect, change },
                });
            }
        }
        self.run_metadata(here, jobs)?;
        let path_ids: Vec<PathId> =
            path_ids.into_iter().filter(|path_id| !self.failed(*path_id)).collect();
        self.check_stop()?;
        let courier = TransferScheduler::new(self.apply);
        let mut calls: Pair<Vec<Call>> = Pair::default();
        self.touched[to].extend(&path_ids);
        calls[to].push(Call { purpose: Purpose::Metadata, path_ids, replaced: Replaced::Seen });
        self.deliver(&courier, &calls);
        self.settle_replaced(to)
    }

    /// Adds attributes to what was read again, where rsync has to tell them.
    pub(super) fn add_attributes(&mut self, side: Side) {
        let Some(reader) = self.apply.readers[side].as_ref() else { return };
        let fresh = &self.applied.achieved.fresh[side];
        let found = |path_id| Some((path_id, fresh.get(path_id)?.clone()?));
        let found: Vec<(PathId, Entry)> = self.delta().path_ids().filter_map(found).collect();
        if found.is_empty() {
            return;
        }
        let entries: Vec<(RelPath, Entry)> =
            found.iter().map(|(path_id, entry)| (self.path(*path_id), entry.clone())).collect();
        // what cannot be read is asked for by the next run, in any case
        let end = self.apply.replicas[side].rsync_end();
        let Ok(read) = reader.read(&end, &entries) else { return };
        for ((path_id, mut entry), read) in found.into_iter().zip(read) {
            if let Some(attributes) = read {
                attributes.digest_into(&mut entry);
                self.applied.achieved.fresh[side].insert(path_id, Some(entry));
            }
        }
    }

    /// What was touched just now may be touched again within the same tick of the clock: the
    /// next run asks for its attributes again.
    pub(super) fn doubt_attributes(&mut self, side: Side) {
        if self.apply.readers[side].is_none() {
            return;
        }
        for path_id in self.apply.plan.delta.path_ids() {
            let fresh = &mut self.applied.achieved.fresh[side];
            if let Some(Some(mut entry)) = fresh.get(path_id).cloned() {
                entry.ctime = Stamp::UNKNOWN;
                fresh.insert(path_id, Some(entry));
            }
        }
    }
}

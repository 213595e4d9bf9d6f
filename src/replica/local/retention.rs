//! Removes what `backup/` and `deleted/` have kept long enough (spec 4, "Then cleaning").

use super::arrivals::Arrivals;
use super::look::{self, Look};
use super::openat_root::Root;
use super::scan::everything;
use super::work_dir::WorkDir;
use super::writable::with_access;
use crate::process::fault;
use crate::replica::{Cleaned, Keep, Retention};
use crate::tree::same::is_still;
use crate::tree::{Entry, RelPath};
use rustix::fs::AtFlags;
use rustix::io::{Errno, Result};
use std::collections::HashMap;

const DAY: i64 = 86_400;

/// Whether something that came at `arrived` has been there for more than `days` days, as
/// `find -ctime +days` counts them: whole ones.
fn is_old(arrived: i64, now: i64, days: u32) -> bool {
    now.saturating_sub(arrived) / DAY > i64::from(days)
}

/// Cleans both directories. What cannot be removed does not stop the rest.
///
/// # Errors
/// The first thing that went wrong, for people.
pub(super) fn clean(
    work: &WorkDir,
    retention: Retention,
    now: i64,
) -> std::result::Result<Cleaned, String> {
    let arrivals = Arrivals::load(work).map_err(|e| format!("cannot read arrivals: {e}"))?;
    let mut cleaned = Cleaned::default();
    let mut trouble = None;
    for (keep, days) in
        [(Keep::Backup, retention.backup_days), (Keep::Deleted, retention.deleted_days)]
    {
        if days == 0 {
            continue;
        }
        let done = work
            .keep_if_there(keep)
            .map_err(|error| format!("cannot open {}: {error}", keep.name()))
            .and_then(|root| match root {
                Some(root) => clean_one(&root, keep, &arrivals, days, now, &mut cleaned),
                None => Ok(()),
            });
        trouble = trouble.or(done.err());
    }
    let is_there = |path: &RelPath| {
        let found = Root::below_of(work).and_then(|root| root.place(path));
        !matches!(
            found.and_then(|place| Look::default().at(&place.dir, place.name)),
            Err(Errno::NOENT | Errno::NOTDIR)
        )
    };
    let kept = arrivals.forget_unless(work, is_there);
    trouble = trouble.or(kept.err().map(|e| format!("cannot write arrivals: {e}")));
    trouble.map_or(Ok(cleaned), Err)
}

fn clean_one(
    root: &Root,
    keep: Keep,
    arrivals: &Arrivals,
    days: u32,
    now: i64,
    cleaned: &mut Cleaned,
) -> std::result::Result<(), String> {
    let top = look::of_open(root).map_err(|e| format!("cannot look at {}: {e}", keep.name()))?;
    let (tree, problems) = everything(root, top).map_err(|e| e.to_string())?;
    let shown = |path: &RelPath| format!("{}/{path}", keep.name());
    let mut trouble = problems.first().map(|problem| {
        format!("{}: {}", shown(&problem.path.clone().unwrap_or_default()), problem.text)
    });
    let noted: HashMap<_, _> =
        arrivals.of(keep).filter_map(|(path, at)| tree.find(&path).map(|id| (id, at))).collect();
    let ids: Vec<_> = tree.ids().collect();
    // Parents stand before their children: each knows when the directory above it came.
    let mut arrived = HashMap::new();
    for id in &ids {
        let above: Option<i64> = arrived.get(&tree.parent(*id)).copied();
        if let Some(at) = above.max(noted.get(id).copied()) {
            arrived.insert(*id, at);
        }
    }
    let mut removed_below: HashMap<_, usize> = HashMap::new();
    for id in ids.iter().rev() {
        let entry = tree.entry(*id);
        let came = entry.ctime.secs().max(arrived.get(id).copied().unwrap_or(i64::MIN));
        let children = tree.children(*id).len();
        let gone = if children > 0 {
            removed_below.get(id) == Some(&children)
        } else {
            is_old(came, now, days)
        };
        if !gone {
            continue;
        }
        let path = tree.path(*id);
        match remove(root, &path, entry) {
            Ok(()) => {
                *removed_below.entry(tree.parent(*id)).or_default() += 1;
                if !entry.kind.is_dir() {
                    cleaned.entries += 1;
                    cleaned.bytes += entry.size;
                }
            }
            Err(Errno::NOENT | Errno::NOTEMPTY) => {}
            Err(error) => {
                trouble =
                    trouble.or_else(|| Some(format!("cannot remove {}: {error}", shown(&path))));
            }
        }
    }
    trouble.map_or(Ok(()), Err)
}

fn remove(root: &Root, path: &RelPath, entry: &Entry) -> Result<()> {
    let place = root.place(path)?;
    let now = Look::default().at(&place.dir, place.name)?;
    // Somebody put something new there: it is not old enough.
    if !is_still(entry, &now) {
        return Err(Errno::NOENT);
    }
    fault::point("purging");
    let flags = if entry.kind.is_dir() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    with_access(&[rustix::fd::AsFd::as_fd(&place.dir)], || {
        rustix::fs::unlinkat(&place.dir, place.name, flags)
    })
}

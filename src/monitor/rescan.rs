//! Where there are too few watches: a replica as one number that changes with it.

use super::watcher::Root;
use crate::config::is_ours;
use crate::filter::{Filter, Verdict};
use crate::tree::RelPath;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

/// Looks at everything below the roots that takes part. Two results are the same only if
/// nothing that a run would look at has changed in between (not even back again).
#[must_use]
pub fn fingerprint(roots: &[Root], filter: &Filter) -> [u64; 2] {
    let mut sum = [0_u64; 2];
    for root in roots {
        let mut pending = vec![RelPath::root()];
        while let Some(directory) = pending.pop() {
            let full = root.path.join(directory.as_path());
            for entry in std::fs::read_dir(full).into_iter().flatten().flatten() {
                let path = directory.join(entry.file_name().as_bytes());
                let Ok(now) = entry.metadata() else { continue };
                if is_ours(&path)
                    || filter.verdict(path.as_bytes(), now.is_dir()) == Verdict::Excluded
                {
                    continue;
                }
                // The order in which a directory is read says nothing, so sums are taken.
                let digest = digest(root, &path, &now);
                for (sum, part) in sum.iter_mut().zip(digest) {
                    *sum = sum.wrapping_add(part);
                }
                if now.is_dir() {
                    pending.push(path);
                }
            }
        }
    }
    sum
}

fn digest(root: &Root, path: &RelPath, now: &std::fs::Metadata) -> [u64; 2] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[u8::from(root.side == crate::tree::Side::Target)]);
    for number in [now.ino(), now.size(), u64::from(now.mode())] {
        hasher.update(&number.to_le_bytes());
    }
    // The ctime moves with everything: content, mode, owner, attributes, links.
    for number in [now.ctime(), now.ctime_nsec()] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(path.as_bytes());
    let hash = hasher.finalize();
    let (first, rest) = hash.as_bytes().split_at(8);
    let number = |bytes: &[u8]| bytes.iter().take(8).fold(0, |n, b| n << 8 | u64::from(*b));
    [number(first), number(rest)]
}

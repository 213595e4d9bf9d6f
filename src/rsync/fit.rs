//! What rsync can take (spec 4, "Overwriting"). One path too long would end a whole call,
//! or be dropped without a word.

use super::Backup;
use crate::tree::RelPath;
use std::path::Path;

/// The longest path that system calls take, without the final NUL.
const PATH_MAX: usize = 4095;

/// Why a path cannot be given to rsync as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The path itself is too long on one of the sides: it cannot be transferred.
    #[error("its path is too long for rsync (more than 4095 bytes with the replica's own)")]
    Path,
    /// Only the path of its backup would be too long: it needs a backup of our own making
    /// and a call without `--backup`.
    #[error("the path of its backup would be too long for rsync")]
    Backup,
}

/// Whether rsync can transfer a path, with that backup.
///
/// # Errors
/// See [`Misfit`].
pub fn fits(path: &RelPath, roots: [&Path; 2], backup: Option<&Backup>) -> Result<(), Misfit> {
    let length = path.as_bytes().len();
    let below = |dir: &Path| dir.as_os_str().len() + 1 + length;
    // listed as "./path"
    if length + 2 > PATH_MAX || roots.iter().any(|root| below(root) > PATH_MAX) {
        return Err(Misfit::Path);
    }
    if backup.is_some_and(|backup| below(&backup.dir) > PATH_MAX) {
        return Err(Misfit::Backup);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_judged_to_the_byte() {
        let long = |length: usize| {
            let text: Vec<u8> = (1..=length)
                .map(|n| if n % 100 == 0 && n < length { b'/' } else { b'x' })
                .collect();
            RelPath::new(text).unwrap()
        };
        let plain = Backup { dir: "/backup".into() };
        for (path, root, backup, expected) in [
            (long(4093), "/", None, Ok(())),
            (long(4094), "/", None, Err(Misfit::Path)),
            (long(4090), "/dir", None, Ok(())),
            (long(4091), "/dir", None, Err(Misfit::Path)),
            (long(4087), "/dir", Some(&plain), Ok(())),
            (long(4088), "/dir", Some(&plain), Err(Misfit::Backup)),
        ] {
            let length = path.as_bytes().len();
            assert_eq!(
                fits(&path, [Path::new("/"), Path::new(root)], backup),
                expected,
                "{length}"
            );
            assert_eq!(
                fits(&path, [Path::new(root), Path::new("/")], backup),
                expected,
                "{length}"
            );
        }
    }
}

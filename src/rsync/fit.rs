//! What rsync can take (spec 4, "Overwriting"). One path too long would end a whole call,
//! or be dropped without a word.

use super::Backup;
use crate::tree::RelPath;
use std::path::Path;

/// The longest path that system calls take, without the final NUL.
const PATH_MAX: usize = 4095;
/// The longest file name.
const NAME_MAX: usize = 255;

/// Why a path cannot be given to rsync as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The path itself is too long on one of the sides: it cannot be transferred.
    #[error("its path is too long for rsync (more than 4095 bytes with the replica's own)")]
    Path,
    /// Only the name of its backup would be too long: it needs a backup of our own making
    /// and a call without `--backup`.
    #[error("the name of its backup would be too long for rsync")]
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
    if let Some(backup) = backup {
        let suffix = backup.suffix.as_ref().map_or(0, String::len);
        if path.name().len() + suffix > NAME_MAX || below(&backup.dir) + suffix > PATH_MAX {
            return Err(Misfit::Backup);
        }
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
        let named = |length| RelPath::new(vec![b'n'; length]).unwrap();
        let plain = Backup { dir: "/backup".into(), suffix: None };
        let dated = Backup { dir: "/backup".into(), suffix: Some(".2026.01.01-00.00.00".into()) };
        for (path, root, backup, expected) in [
            (long(4093), "/", None, Ok(())),
            (long(4094), "/", None, Err(Misfit::Path)),
            (long(4090), "/dir", None, Ok(())),
            (long(4091), "/dir", None, Err(Misfit::Path)),
            (long(4087), "/dir", Some(&plain), Ok(())),
            (long(4088), "/dir", Some(&plain), Err(Misfit::Backup)),
            (named(255), "/", Some(&plain), Ok(())),
            (named(235), "/", Some(&dated), Ok(())),
            (named(236), "/", Some(&dated), Err(Misfit::Backup)),
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

//! Where others find this very program: ssh starts it to ask for a password, rsync as its
//! remote shell, a batch for its tasks.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The image that runs, whatever stands at its path by now. Linux alone has it.
const RUNNING: &str = "/proc/self/exe";

/// A path at which another process finds this program. To be asked for anew right before
/// each use: whoever runs for weeks sees the file at its path replaced by an upgrade, or
/// removed. Then it is the image that goes on running, which the kernel keeps: what is
/// started is of the same version, and there as long as we are.
#[must_use]
pub fn own_program() -> PathBuf {
    let path = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("osync"));
    let kept = PathBuf::from(format!("/proc/{}/exe", std::process::id()));
    choose(path, kept, Path::new(RUNNING))
}

/// The path, unless something else than what runs stands there. It is preferred: what may
/// be run but not read cannot be reached by the pid.
fn choose(path: PathBuf, kept: PathBuf, running: &Path) -> PathBuf {
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|now| (now.dev(), now.ino()));
    match (identity(running), identity(&path)) {
        (Some(running), there) if there != Some(running) => kept,
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_taken_while_it_leads_to_what_runs() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        std::fs::write(at("image"), "1").unwrap();
        std::fs::hard_link(at("image"), at("path")).unwrap();
        let chosen = || choose(at("path"), at("kept"), &at("image"));
        assert_eq!(chosen(), at("path"));
        std::fs::write(at("new"), "2").unwrap();
        std::fs::rename(at("new"), at("path")).unwrap();
        assert_eq!(chosen(), at("kept"), "replaced");
        std::fs::remove_file(at("path")).unwrap();
        assert_eq!(chosen(), at("kept"), "removed");
        let nowhere = choose(at("path"), at("kept"), &at("no /proc"));
        assert_eq!(nowhere, at("path"), "a system that cannot tell");
    }

    #[test]
    fn this_program_is_found() {
        assert_eq!(own_program(), std::env::current_exe().unwrap());
    }
}

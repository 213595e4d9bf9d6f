//! Where a program is: the one look-up in PATH. And the shell that runs the user's commands.

use super::{Command, Excerpt, Exit, Input, ProcessError, Stop};
use crate::system;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The program that a name stands for: a path as it is, a bare name looked up in PATH. None if
/// nothing there can be run.
#[must_use]
pub fn find_program(name: impl AsRef<OsStr>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    programs(name.as_ref(), &path).next()
}

/// All that a name may stand for, in the order of these directories.
pub fn programs(name: &OsStr, path: &OsStr) -> impl Iterator<Item = PathBuf> {
    let candidates = match Path::new(name).components().count() {
        0 | 1 => std::env::split_paths(path).map(|dir| dir.join(name)).collect(),
        _ => vec![PathBuf::from(name)],
    };
    candidates.into_iter().filter(|file| {
        file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
    })
}

/// Which shell runs the commands of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookShell {
    /// As osync 1.3 has it: `[[ … ]]` works.
    Bash,
    /// Where there is no bash.
    Sh,
}

impl HookShell {
    /// The shell of this machine.
    #[must_use]
    pub fn of_this_machine() -> HookShell {
        match find_program("bash") {
            Some(_) => HookShell::Bash,
            None => HookShell::Sh,
        }
    }

    /// Runs a command; the limit ends it and its children. Tells how it ended, and what it said.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn run(
        self,
        command: &str,
        env: Vec<(OsString, OsString)>,
        limit: Option<Duration>,
        stop: &Stop,
    ) -> Result<(Exit, Vec<u8>), ProcessError> {
        let program = match self {
            HookShell::Bash => "bash",
            HookShell::Sh => "sh",
        };
        let mut shell = Command::new(program).args(["-c", command]);
        shell.env = env;
        shell.time_limit = limit;
        let mut said = Excerpt::default();
        let exit = super::run(&shell, Input::Nothing, stop, &mut |_, line| {
            said.push(line);
            said.push(b"\n");
        })?;
        Ok((exit, said.bytes()))
    }

    /// Whether a command uses what this shell may not know. A guess: it only decides whether
    /// something is said.
    #[must_use]
    pub fn may_not_understand(self, command: &str) -> bool {
        const BASH_ONLY: [&str; 9] =
            ["[[", " ((", "<(", ">(", "<<<", "&>", "$'", "function ", "declare "];
        self == HookShell::Sh && BASH_ONLY.iter().any(|word| command.contains(word))
    }
}

/// A path at which another process finds this program. To be asked for anew right before
/// each use: whoever runs for weeks sees the file at its path replaced by an upgrade, or
/// removed. Then it is the image that goes on running, which the kernel keeps (Linux): what is
/// started is of the same version, and there as long as we are.
#[must_use]
pub fn own_program() -> PathBuf {
    let path = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("osync"));
    match system::running_image() {
        Some((running, kept)) => choose(path, kept, &running),
        None => path,
    }
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
mod find_tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_path_or_by_name() {
        let path = OsStr::new("/nowhere:/bin:/usr/bin");
        let found = |name: &str| programs(OsStr::new(name), path).next().is_some();
        assert!(found("sh") && found("/bin/sh"));
        assert!(!found("no such program") && !found("/bin") && !found("/etc/passwd"));
        assert_eq!(programs(OsStr::new("sh"), OsStr::new("")).next(), None);
    }

    #[test]
    fn words_of_bash_are_known() {
        for command in ["[[ -d /x ]] && echo", "diff <(a) <(b)", "make &> log", ": && (( a++ ))"] {
            assert!(HookShell::Sh.may_not_understand(command), "{command}");
            assert!(!HookShell::Bash.may_not_understand(command));
        }
        for command in ["[ -d /x ] && echo $(date)", "a 2>&1 | b > c", "$((1 + 2))x"] {
            assert!(!HookShell::Sh.may_not_understand(command), "{command}");
        }
    }
}

#[cfg(test)]
mod own_tests {
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

//! A directory that a child cannot write out of, whatever links lead there.
//!
//! An rsync before 3.5 follows a link that was put in the place of a directory while it was
//! at work. Landlock (Linux 5.19 and later) holds what such an rsync makes, replaces and
//! removes inside its replica. It is an addition, never a condition: where the kernel has no
//! Landlock, and for users who may not fence without giving up the rights that programs bring
//! (file capabilities, sudo), the child starts without a fence.

use crate::system::Fence;
use crate::threads;
use std::io;
use std::path::Path;
use std::process::{Child, Command};

/// Starts a child that can make, replace and remove entries only below `dir`, as far as the
/// kernel can see to that. (Owners, modes and times it can set anywhere.)
///
/// # Errors
/// It cannot be started.
pub(super) fn spawn_inside(dir: &Path, child: &mut Command) -> io::Result<Child> {
    let Some(fence) = Fence::around(dir) else { return child.spawn() };
    // a fence is for good and for all that a thread starts: on a thread of its own
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("fence".into());
        let started = thread.spawn_scoped(scope, || {
            fence.shut();
            child.spawn()
        })?;
        threads::joined(started)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// Whether this process may restrict what it starts and leave it the rights that programs
    /// bring: CAP_SYS_ADMIN.
    fn may_fence() -> bool {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask & 1 << 21 != 0)
    }

    #[test]
    fn a_child_writes_inside_and_through_no_link_that_leads_out() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        for dir in ["inside/a", "inside/b", "outside/dir"] {
            fs::create_dir_all(at(dir)).unwrap();
        }
        fs::write(at("outside/file"), "outside").unwrap();
        symlink(at("outside"), at("inside/door")).unwrap();
        let works = |script: &str| {
            let mut shell = Command::new("sh");
            shell.args(["-c", script]).current_dir(at("inside")).env("LC_ALL", "C");
            shell.stderr(std::process::Stdio::null());
            spawn_inside(&at("inside"), &mut shell).unwrap().wait().unwrap().success()
        };
        for script in [
            "echo x >a/f && mv a/f b/g && ln b/g a/h && echo y >>b/g && rm b/g a/h",
            "mkdir a/d && rmdir a/d && ln -s x a/l && mkfifo a/p && rm a/l a/p",
            "cat door/file >a/copy && ls door >/dev/null",
            // programs keep the rights that they bring
            "! test -e /proc/self/status || grep -q '^NoNewPrivs:.0' /proc/self/status",
        ] {
            assert!(works(script), "{script}");
        }
        let is_held = Fence::around(&at("inside")).is_some() && may_fence();
        if !is_held {
            println!("not tried: no Landlock, or not for this user");
            return;
        }
        for script in [
            "echo x >door/new",
            "echo x >door/file",
            "rm door/file",
            "rmdir door/dir",
            "mkdir door/new",
            "mv a/copy door/",
            "mv door/file a/",
            "ln -s x door/new",
        ] {
            assert!(!works(script), "{script}");
        }
        assert_eq!(fs::read(at("outside/file")).unwrap(), b"outside");
        assert_eq!(fs::read_dir(at("outside")).unwrap().count(), 2);
        // whoever started it is not held
        fs::write(at("outside/new"), "").unwrap();
    }

    #[test]
    fn without_a_directory_to_hold_it_in_a_child_starts_all_the_same() {
        let temp = tempfile::tempdir().unwrap();
        let mut child = spawn_inside(&temp.path().join("none"), &mut Command::new("true")).unwrap();
        assert!(child.wait().unwrap().success());
    }
}

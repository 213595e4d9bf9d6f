//! Keeping a process inside one directory: where paths lead, and what the kernel
//! enforces from then on.

use crate::process;
use crate::system::Cage;
use crate::tree::path::with_home;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

/// Where a path leads once every link in it is followed, if that is inside `root` (which
/// is resolved itself). What does not exist yet is judged by what of it exists.
///
/// # Errors
/// It leads out of the directory, or cannot be followed.
pub fn resolve_inside(root: &Path, home: Option<&Path>, path: &Path) -> Result<PathBuf, String> {
    let wanted = with_home(path, home);
    let resolved =
        resolve(&wanted).map_err(|cause| format!("cannot follow {}: {cause}", path.display()))?;
    if resolved.starts_with(root) {
        Ok(resolved)
    } else {
        Err(format!("{} is outside of the directory this key is for", path.display()))
    }
}

/// As `realpath -m`, except that a link to nowhere is an error: whoever writes through it
/// would make what it points at.
fn resolve(path: &Path) -> std::io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    // `absolute` keeps `..`, and what follows a part that does not exist must hold none:
    // it could be made into a link between this look and the use.
    let mut existing = absolute.as_path();
    let mut missing: Vec<&OsStr> = Vec::new();
    while std::fs::symlink_metadata(existing).is_err() {
        match existing.components().next_back() {
            Some(Component::Normal(name)) => missing.push(name),
            _ => return Err(std::io::Error::other("it does not exist")),
        }
        existing = existing.parent().unwrap_or(Path::new("/"));
    }
    let mut resolved = existing.canonicalize()?;
    resolved.extend(missing.into_iter().rev());
    Ok(resolved)
}

/// Whoever may write to what gives a login, or to what runs with the rights of this user, is
/// not kept in a directory.
///
/// # Errors
/// The directory holds such a thing.
pub fn holds_no_login(root: &Path, home: Option<&Path>) -> Result<(), String> {
    let held = |what: &Path| what.canonicalize().is_ok_and(|what| what.starts_with(root));
    let refused = |what: &str| {
        Err(format!(
            "--restrict {}: it holds {what}, and whoever has the key could open a login with that; \
             name a directory that holds data only",
            root.display()
        ))
    };
    if let Some(home) = home {
        let keys = home.join(".ssh");
        if held(home) {
            return refused(&format!("the home directory {}", home.display()));
        }
        if held(&keys) || keys.canonicalize().is_ok_and(|keys| root.starts_with(keys)) {
            return refused(&format!("{}, or lies in it", keys.display()));
        }
    }
    let own = crate::process::own_program();
    if held(&own) {
        return refused(&format!("the filter's own program {}", own.display()));
    }
    Ok(())
}

/// What keeps a process in a directory, where the kernel has such a thing; not yet in force.
///
/// # Errors
/// The directory cannot be opened.
pub fn cage(
    root: &Path,
    programs: &[PathBuf],
    readable: &[PathBuf],
) -> Result<Option<Cage>, String> {
    Cage::around(root, programs, readable)
        .map_err(|cause| format!("cannot open {}: {cause}", root.display()))
}

/// The first program of this name in PATH that does not lie inside the directory, where the
/// client could have put it.
#[must_use]
pub fn find_program(name: &str, path_variable: &OsStr, root: &Path) -> Option<PathBuf> {
    process::programs(OsStr::new(name), path_variable)
        .filter(|program| program.is_absolute())
        .filter_map(|program| program.canonicalize().ok())
        .find(|program| !program.starts_with(root))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn paths_are_judged_by_where_they_lead() {
        let temp = tempfile::tempdir().unwrap();
        let base = temp.path().canonicalize().unwrap();
        let root = base.join("root");
        std::fs::create_dir_all(root.join("dir")).unwrap();
        std::fs::create_dir(base.join("outside")).unwrap();
        std::fs::write(base.join("outside/file"), "x").unwrap();
        symlink("dir", root.join("inner")).unwrap();
        symlink("../outside", root.join("relative")).unwrap();
        symlink(base.join("outside"), root.join("absolute")).unwrap();
        symlink("../outside/new", root.join("dangling")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let inside = [
            ("", ""),
            (".", ""),
            ("dir", "dir"),
            ("dir/../dir", "dir"),
            ("inner", "dir"),
            ("inner/new", "dir/new"),
            ("new/newer", "new/newer"),
            ("../root/dir", "dir"),
        ];
        for (path, expected) in inside {
            let resolved = resolve_inside(&root, None, &root.join(path));
            assert_eq!(resolved, Ok(root.join(expected).components().collect()), "{path}");
        }
        let outside = [
            "..",
            "../outside",
            "../outside/new",
            "dir/../../outside",
            "relative",
            "relative/file",
            "absolute",
            "absolute/new",
            "relative/..",
            "dangling",
            "dangling/x",
            "loop",
            "loop/x",
            "new/../../outside",
            "new/..",
            "../root2",
            "/",
            "/etc/passwd",
        ];
        for path in outside {
            let resolved = resolve_inside(&root, None, &root.join(path));
            assert!(resolved.is_err(), "{path} became {resolved:?}");
        }
        let home = resolve_inside(&root, Some(&root), Path::new("~/dir"));
        assert_eq!(home, Ok(root.join("dir")));
    }

    /// What a program may do under the rules; the part of the kernel alone.
    #[test]
    fn a_cage_holds_whatever_runs_in_it() {
        let temp = tempfile::tempdir().unwrap();
        let base = temp.path().canonicalize().unwrap();
        let (root, outside) = (base.join("root"), base.join("outside"));
        std::fs::write(base.join("readable"), "").unwrap();
        for dir in [&root, &outside] {
            std::fs::create_dir(dir).unwrap();
        }
        std::fs::write(outside.join("secret"), "secret").unwrap();
        std::fs::write(root.join("file"), "inside").unwrap();
        std::fs::copy("/bin/true", root.join("program")).unwrap();
        symlink(&outside, root.join("door")).unwrap();
        let programs = ["/bin", "/usr/bin"].map(PathBuf::from).to_vec();
        let Some(cage) = cage(&root, &programs, &[base.join("readable")]).unwrap() else {
            eprintln!("not tried: this kernel has no Landlock");
            return;
        };
        let base = base.display();
        let works = |script: &str| {
            let mut shell = std::process::Command::new("/bin/sh");
            shell.arg("-c").arg(script).current_dir(&root).env("LC_ALL", "C");
            shell.output().unwrap().status.success()
        };
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                cage.enter().unwrap();
                for script in [
                    "cat file && echo more >>file && mkdir d && mv file d/ && rm -r d",
                    "ls -la . && find . -name x && id -u && date && df -P -k . | cat",
                    &format!("cat '{base}/readable'"),
                    "getent passwd 0 || true",
                ] {
                    assert!(works(script), "{script}");
                }
                for script in [
                    "cat door/secret".to_owned(),
                    "ls door/".to_owned(),
                    "echo x >door/new".to_owned(),
                    "rm door/secret".to_owned(),
                    "mv door/secret .".to_owned(),
                    "ln door/secret hard".to_owned(),
                    "mkdir door/new".to_owned(),
                    format!("cat '{base}/outside/secret'"),
                    "cat ../outside/secret".to_owned(),
                    format!("echo x >'{base}/new'"),
                    format!("echo x >'{base}/readable'"),
                    "cat /etc/shadow".to_owned(),
                    "cat /proc/self/environ".to_owned(),
                    "ls /home /root".to_owned(),
                    "echo x >/tmp/osync-landlock-test".to_owned(),
                    "./program".to_owned(),
                    "cp /bin/true mine && ./mine".to_owned(),
                    "mknod device b 1 1".to_owned(),
                ] {
                    assert!(!works(&script), "{script}");
                }
            });
            inside.join().unwrap();
        });
        assert_eq!(std::fs::read_to_string(outside.join("secret")).unwrap(), "secret");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    }

    #[test]
    fn an_rsync_that_the_client_could_have_put_there_is_not_taken() {
        let temp = tempfile::tempdir().unwrap();
        let base = temp.path().canonicalize().unwrap();
        std::fs::create_dir_all(base.join("root/bin")).unwrap();
        std::fs::create_dir_all(base.join("bin")).unwrap();
        std::fs::create_dir_all(base.join("links")).unwrap();
        std::fs::write(base.join("root/bin/rsync"), "").unwrap();
        std::fs::write(base.join("bin/rsync"), "").unwrap();
        for program in ["root/bin/rsync", "bin/rsync"] {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(base.join(program), mode).unwrap();
        }
        symlink(base.join("root/bin/rsync"), base.join("links/rsync")).unwrap();
        let path = std::env::join_paths([
            base.join("root/bin"),
            base.join("links"),
            PathBuf::from("bin"),
            base.join("bin"),
        ])
        .unwrap();
        let found = find_program("rsync", &path, &base.join("root"));
        assert_eq!(found, Some(base.join("bin/rsync")));
    }
}

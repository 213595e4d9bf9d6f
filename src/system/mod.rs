//! What differs from Unix to Unix: the one place that asks which system this is.
//!
//! `portable` does with what every Unix has. `linux` has the same items, uses what Linux has
//! beyond that, and falls back to `portable` where an older kernel, a sandbox or a file system
//! lacks it. With the feature `portable`, osync on Linux is as on another Unix: so the fall-backs
//! are tested (docs/other-unixes.md says what they cannot promise).

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod landlock;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod linux;
#[cfg_attr(all(target_os = "linux", not(feature = "portable")), allow(dead_code))]
mod portable;
#[cfg(any(test, fuzzing, all(target_os = "linux", not(feature = "portable"))))]
mod proc;

#[cfg(all(target_os = "linux", not(feature = "portable")))]
pub use linux::*;
#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
pub use portable::*;

/// What the system tells of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Kind and permission bits.
    pub mode: u32,
    /// How many names it has.
    pub links: u64,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Major and minor number of the device that holds it.
    pub dev: (u32, u32),
    /// Its number there.
    pub ino: u64,
    /// Bytes of content.
    pub size: u64,
    /// When its content changed.
    pub mtime: Time,
    /// When anything about it changed.
    pub ctime: Time,
    /// When it was made; `None` where that is not kept.
    pub btime: Option<Time>,
    /// Of a device: the major and minor number that it stands for.
    pub rdev: (u32, u32),
    /// Whether something is mounted there.
    pub mount: Mount,
}

/// Seconds since the epoch, and nanoseconds.
pub type Time = (i64, u32);

/// Whether an entry is the root of something mounted there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mount {
    /// It is.
    Root,
    /// It is not, or this system does not tell.
    NotKnown,
}

/// What is meant where a name is that of a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtLink {
    /// What it points at.
    Follow,
    /// The link itself.
    Stay,
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;
    use rustix::fs::{AtFlags, Mode, OFlags};
    use rustix::io::{Errno, Result};
    use std::collections::BTreeSet;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn this_system_and_any_other_see_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("file"), "12345").unwrap();
        std::fs::hard_link(path("file"), path("twin")).unwrap();
        std::fs::create_dir(path("dir")).unwrap();
        symlink("nowhere", path("link")).unwrap();
        let top = rustix::fs::open(dir.path(), HANDLE, Mode::empty()).unwrap();
        for name in ["file", "twin", "dir", "link"] {
            let here = stat(top.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            let anywhere = portable::stat(top.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            assert_eq!(here, Stat { btime: here.btime, ..anywhere }, "{name}");
            let std = path(name).symlink_metadata().unwrap();
            assert_eq!((here.ino, here.uid, here.mtime.0), (std.ino(), std.uid(), std.mtime()));
        }
        let list = rustix::fs::open(dir.path(), OFlags::RDONLY, Mode::empty()).unwrap();
        let mut names = [BTreeSet::new(), BTreeSet::new()];
        let [here, anywhere] = &mut names;
        let mut buffer = Vec::with_capacity(4096);
        each_name(&list, &mut buffer, |name, ino, kind| {
            here.insert((name.to_owned(), ino, format!("{kind:?}")));
            Ok(())
        })
        .unwrap();
        portable::each_name(&list, &mut buffer, |name, ino, kind| {
            anywhere.insert((name.to_owned(), ino, format!("{kind:?}")));
            Ok(())
        })
        .unwrap();
        assert_eq!(names[0], names[1]);
        assert_eq!(names[0].len(), 6, "with . and ..");
    }

    #[test]
    fn a_rename_never_replaces() {
        type Rename<'r> = dyn Fn(&[u8], &[u8]) -> Result<()> + 'r;
        let dir = tempfile::tempdir().unwrap();
        let top = rustix::fs::open(dir.path(), HANDLE, Mode::empty()).unwrap();
        let here: &Rename<'_> = &|from, to| rename_to_free(&top, from, &top, to);
        let anywhere: &Rename<'_> = &|from, to| portable::rename_to_free(&top, from, &top, to);
        for (way, rename) in [here, anywhere].into_iter().enumerate() {
            for is_dir in [false, true] {
                let make = |name: &str| {
                    if is_dir {
                        std::fs::create_dir(dir.path().join(name)).unwrap();
                    } else {
                        std::fs::write(dir.path().join(name), name).unwrap();
                    }
                };
                let tag = format!("{way}{is_dir}");
                let (old, new) = (format!("old{tag}"), format!("new{tag}"));
                make(&old);
                make(&new);
                let refused = rename(old.as_bytes(), new.as_bytes());
                assert_eq!(refused, Err(Errno::EXIST));
                let free = format!("free{tag}");
                rename(old.as_bytes(), free.as_bytes()).unwrap();
                assert!(dir.path().join(free).exists() && !dir.path().join(old).exists());
            }
        }
    }

    #[test]
    fn what_is_pinned_is_changed_and_never_what_a_link_points_at() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let mode = |name: &str| path(name).symlink_metadata().unwrap().mode() & 0o777;
        for name in ["file", "aim"] {
            std::fs::write(path(name), "").unwrap();
            std::fs::set_permissions(path(name), PermissionsExt::from_mode(0o600)).unwrap();
        }
        symlink("aim", path("link")).unwrap();
        let top = rustix::fs::open(dir.path(), HANDLE, Mode::empty()).unwrap();
        let pinned = Pinned::open(top.as_fd(), b"file", AtLink::Stay).unwrap();
        pinned.set_mode(0o640).unwrap();
        let elsewhere = portable::Pinned::open(top.as_fd(), b"file", AtLink::Stay).unwrap();
        assert_eq!(mode("file"), 0o640);
        std::fs::rename(path("file"), path("renamed")).unwrap();
        std::fs::rename(path("aim"), path("file")).unwrap();
        pinned.set_mode(0o604).unwrap();
        assert_eq!((mode("renamed"), mode("file")), (0o604, 0o600));
        elsewhere.set_mode(0o644).unwrap();
        assert_eq!((mode("renamed"), mode("file")), (0o644, 0o600));
        symlink("file", path("to file")).unwrap();
        let _ = Pinned::open(top.as_fd(), b"to file", AtLink::Stay).unwrap().set_mode(0o666);
        let link = portable::Pinned::open(top.as_fd(), b"to file", AtLink::Stay).unwrap();
        let _ = link.set_mode(0o666);
        assert_eq!(mode("file"), 0o600);
    }

    #[test]
    fn this_boot_has_a_name_that_stays() {
        assert_eq!(boot_id(), boot_id());
        assert!(!is_zombie(std::process::id()));
        assert_eq!(started(std::process::id()), started(std::process::id()));
    }
}

use super::*;
use crate::tree::Kind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

#[test]
fn a_directory_is_made_with_its_very_mode() {
    let mut sandbox = Sandbox::new();
    for mode in [0o755, 0o700, 0o2777, 0o555, 0o1777] {
        let name = format!("d{mode:o}");
        sandbox.apply(Op::MakeDir { path: rel(&name), mode }).unwrap();
        assert_eq!(sandbox.entry(&name).mode, mode);
        sandbox.apply(Op::MakeDir { path: rel(&name), mode: 0o700 }).unwrap();
        assert_eq!(sandbox.entry(&name).mode, mode, "what is there stays as it is");
    }
    sandbox.write("file", "x");
    symlink(".", sandbox.path("link")).unwrap();
    for name in ["file", "link"] {
        let made = sandbox.apply(Op::MakeDir { path: rel(name), mode: 0o755 });
        assert_eq!(made, Err(PathError::Occupied(rel(name))));
    }
    assert!(sandbox.apply(Op::MakeDir { path: rel("no/d"), mode: 0o755 }).is_err());
}

#[test]
fn a_rename_moves_what_was_scanned_to_a_free_name() {
    let mut sandbox = Sandbox::new();
    sandbox.write("f", "file");
    sandbox.write("d/in", "inner");
    sandbox.write("taken", "stays");
    symlink("x", sandbox.path("l")).unwrap();
    sandbox.write("to/old", "");
    for name in ["f", "d", "l"] {
        let expect = sandbox.entry(name);
        let to = rel(format!("to/{name}"));
        let rename = |to| Op::Rename { from: rel(name), to, expect: expect.clone() };
        let taken = sandbox.apply(rename(rel("taken")));
        assert_eq!(taken, Err(PathError::Occupied(rel("taken"))));
        sandbox.apply(rename(to.clone())).unwrap();
        assert_eq!(sandbox.apply(rename(to)), Err(PathError::Vanished));
    }
    assert_eq!(sandbox.read("to/d/in"), "inner");
    assert_eq!(sandbox.read("taken"), "stays");
}

#[test]
fn nothing_is_done_to_what_is_no_longer_what_was_scanned() {
    type Change = fn(&Sandbox);
    let changes: [(&str, Change); 4] = [
        ("another size", |s| s.write("p", "longer than before")),
        ("another time", |s| {
            let times = openat_root::only_mtime(Stamp::new(1000, 0));
            let flags = rustix::fs::AtFlags::empty();
            rustix::fs::utimensat(rustix::fs::CWD, s.path("p"), &times, flags).unwrap();
        }),
        ("another file", |s| {
            std::fs::copy(s.path("p"), s.path("q")).unwrap();
            std::fs::rename(s.path("q"), s.path("p")).unwrap();
        }),
        ("a link", |s| {
            std::fs::remove_file(s.path("p")).unwrap();
            symlink("elsewhere", s.path("p")).unwrap();
        }),
    ];
    for (what, change) in changes {
        let mut sandbox = Sandbox::new();
        sandbox.write("p", "before");
        let expect = sandbox.entry("p");
        change(&sandbox);
        let path = rel("p");
        let e = || expect.clone();
        let keeping = Keeping::dated(Keep::Deleted);
        for op in [
            Op::Rename { from: path.clone(), to: rel("new"), expect: e() },
            Op::SetAside { path: path.clone(), expect: e(), keeping },
            Op::KeepCopy { path: path.clone(), expect: e() },
            Op::Remove { path: path.clone(), expect: e() },
        ] {
            assert_eq!(sandbox.apply(op.clone()), Err(PathError::Changed), "{what}: {op:?}");
        }
        assert!(sandbox.path("p").symlink_metadata().is_ok(), "{what}");
        std::fs::remove_file(sandbox.path("p")).unwrap();
        let gone = sandbox.apply(Op::Remove { path, expect: e() });
        assert_eq!(gone, Err(PathError::Vanished));
    }
}

#[test]
fn a_directory_with_something_in_it_is_not_removed() {
    let mut sandbox = Sandbox::new();
    sandbox.write("d/new", "x");
    let expect = sandbox.entry("d");
    let op = Op::Remove { path: rel("d"), expect };
    assert_eq!(sandbox.apply(op.clone()), Err(PathError::NotEmpty));
    std::fs::remove_file(sandbox.path("d/new")).unwrap();
    sandbox.apply(op).unwrap();
    assert!(!sandbox.path("d").exists());
}

#[test]
fn what_is_set_aside_keeps_its_full_path_whatever_its_name_is() {
    let mut sandbox = Sandbox::new();
    for name in HOSTILE {
        let inner = [name, b"/", name].concat();
        sandbox.write(&inner, "content");
        sandbox.set_aside(&inner, Keep::Backup).unwrap();
        assert_eq!(
            std::fs::read(sandbox.kept([b"backup/", inner.as_slice()].concat())).unwrap(),
            b"content"
        );
        sandbox.set_aside(name, Keep::Deleted).unwrap();
        let kept = sandbox.kept([b"deleted/", name].concat());
        assert!(kept.is_dir());
    }
    assert!(sandbox.scan().tree.is_empty());
}

#[test]
fn directories_where_things_are_kept_are_as_closed_as_the_original_ones() {
    let mut sandbox = Sandbox::new();
    sandbox.write("private/x", "secret");
    let private = PermissionsExt::from_mode(0o500);
    std::fs::set_permissions(sandbox.path("private"), private).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(sandbox.path("private"), Some(1234), Some(4321)).unwrap();
    }
    let like = sandbox.path("private").metadata().unwrap();
    let expect = sandbox.entry("private/x");
    let keeping = Keeping::dated(Keep::Deleted);
    let op = Op::SetAside { path: rel("private/x"), expect, keeping };
    sandbox.apply(op).unwrap();
    let kept = sandbox.kept("deleted/private").metadata().unwrap();
    assert_eq!(kept.mode() & 0o7777, 0o700);
    assert_eq!((kept.uid(), kept.gid()), (like.uid(), like.gid()));
    assert_eq!(sandbox.path("private").metadata().unwrap().mode() & 0o7777, 0o500);
}

#[test]
fn the_older_of_two_things_kept_under_one_name_gets_a_suffix() {
    let mut sandbox = Sandbox::new();
    for content in ["one", "two", "three"] {
        sandbox.write("d/f", content);
        sandbox.set_aside("d/f", Keep::Deleted).unwrap();
    }
    let names = sandbox.kept_names("deleted/d");
    assert_eq!(names.len(), 3, "{names:?}");
    assert_eq!(std::fs::read(sandbox.kept("deleted/d/f")).unwrap(), b"three");
    let moment = ".2026.01.02-03.04.05".len();
    assert!(names[1..].iter().all(|name| name.starts_with(b"f.") && name.len() > moment));
    // What stands in the way of a parent gets out of it as well.
    sandbox.write("d/f/below", "four");
    sandbox.set_aside("d/f/below", Keep::Deleted).unwrap();
    assert_eq!(std::fs::read(sandbox.kept("deleted/d/f/below")).unwrap(), b"four");
    assert_eq!(sandbox.kept_names("deleted/d").len(), 4);
}

#[test]
fn only_the_latest_backup_of_a_file_is_kept_when_that_is_asked_for() {
    let mut sandbox = Sandbox::new();
    let backup = |sandbox: &mut Sandbox| {
        let expect = sandbox.entry("f");
        let keeping = Keeping::replacing(Keep::Backup);
        sandbox.apply(Op::SetAside { path: rel("f"), expect, keeping }).unwrap();
    };
    for content in ["one", "two"] {
        sandbox.write("f", content);
        backup(&mut sandbox);
    }
    assert_eq!(sandbox.kept_names("backup"), [b"f"]);
    assert_eq!(std::fs::read(sandbox.kept("backup/f")).unwrap(), b"two");
    // Never something of another kind.
    sandbox.write("f/x", "a directory now");
    backup(&mut sandbox);
    assert_eq!(sandbox.kept_names("backup").len(), 2);
    sandbox.write("f", "and a file again");
    backup(&mut sandbox);
    assert_eq!(sandbox.kept_names("backup").len(), 3);
}

#[test]
fn long_names_and_paths_can_be_kept_more_than_once() {
    let mut sandbox = Sandbox::new();
    let name = "n".repeat(255);
    let deep = format!("{}{name}", format!("{}/", "d".repeat(240)).repeat(15));
    for path in [&name, &deep] {
        for round in ["one", "two", "three"] {
            let parent = std::path::Path::new(path).parent().unwrap();
            std::fs::create_dir_all(sandbox.path(parent.as_os_str().as_bytes())).unwrap();
            sandbox.write(path, round);
            sandbox.set_aside(path, Keep::Deleted).unwrap();
        }
    }
    let names = sandbox.kept_names("deleted");
    assert_eq!(names.len(), 4, "{names:?}");
    sandbox.write(&name, "copied");
    let expect = sandbox.entry(&name);
    sandbox.apply(Op::KeepCopy { path: rel(&name), expect }).unwrap();
    let names = sandbox.kept_names("backup");
    assert!(names.len() == 1 && names[0].len() < 235 && names[0].starts_with(b"nnn"));
    assert_eq!(sandbox.read(&name), "copied");
}

#[test]
fn a_copy_that_is_kept_is_like_the_file() {
    let mut sandbox = Sandbox::new();
    sandbox.write("d/f", "content");
    std::fs::set_permissions(sandbox.path("d/f"), PermissionsExt::from_mode(0o4640)).unwrap();
    let mtime = Stamp::new(1_000_000, 7);
    sandbox.apply(Op::SetMtime { path: rel("d/f"), mtime, expect: None }).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(sandbox.path("d/f"), "user.mark", b"x", flags).unwrap();
    for _ in 0..2 {
        let expect = sandbox.entry("d/f");
        sandbox.apply(Op::KeepCopy { path: rel("d/f"), expect }).unwrap();
    }
    let copy = sandbox.kept("backup/d/f");
    let seen = copy.metadata().unwrap();
    assert_eq!((seen.mode() & 0o7777, seen.mtime(), seen.mtime_nsec()), (0o4640, 1_000_000, 7));
    let mut value = [0; 8];
    assert_eq!(rustix::fs::getxattr(&copy, "user.mark", &mut value[..]), Ok(1));
    assert_eq!(std::fs::read(copy).unwrap(), b"content");
    assert_eq!(sandbox.kept_names("backup/d").len(), 2);
    assert_eq!(sandbox.kept_names("backup"), [b"d"], "no unfinished copy stays");
}

#[test]
fn metadata_is_set_on_the_entry_itself() {
    let mut sandbox = Sandbox::new();
    let outside = tempfile::NamedTempFile::new().unwrap();
    let before = outside.path().metadata().unwrap();
    symlink(outside.path(), sandbox.path("link")).unwrap();
    sandbox.write("f", "x");
    let as_root = rustix::process::geteuid().is_root();
    let (uid, gid) = if as_root { (Some(1234), Some(4321)) } else { (None, None) };
    for name in ["f", "link"] {
        let expect = sandbox.entry(name);
        let mode = Some(0o4751);
        let op = Op::SetMetadata { path: rel(name), expect, mode, uid, gid };
        sandbox.apply(op).unwrap();
        sandbox
            .apply(Op::SetMtime { path: rel(name), mtime: Stamp::new(77, 5), expect: None })
            .unwrap();
        let now = sandbox.entry(name);
        assert_eq!(now.mtime, Stamp::new(77, 5));
        if as_root {
            assert_eq!((now.uid, now.gid), (1234, 4321));
        }
    }
    assert_eq!(sandbox.entry("f").mode, 0o4751, "setuid survives the change of owner");
    let (expect, gid) = (sandbox.entry("f"), rustix::process::getegid().as_raw());
    let path = rel("f");
    let op = Op::SetMetadata { path, expect, mode: None, uid: None, gid: Some(gid) };
    sandbox.apply(op).unwrap();
    assert_eq!(sandbox.entry("f").mode, 0o4751, "also where the mode is not to be touched");
    let after = outside.path().metadata().unwrap();
    assert_eq!((before.mode(), before.uid()), (after.mode(), after.uid()));
    assert_eq!(
        (before.mtime_nsec(), before.ctime_nsec()),
        (after.mtime_nsec(), after.ctime_nsec())
    );
}

#[test]
fn the_root_of_the_replica_is_not_to_be_moved() {
    let mut sandbox = Sandbox::new();
    let expect = sandbox.entry("");
    assert_eq!(expect.kind, Kind::Dir);
    let op = Op::Remove { path: RelPath::root(), expect };
    assert!(matches!(sandbox.apply(op), Err(PathError::Failed { .. })));
    sandbox
        .apply(Op::SetMtime { path: RelPath::root(), mtime: Stamp::new(5, 0), expect: None })
        .unwrap();
    assert_eq!(sandbox.entry("").mtime, Stamp::new(5, 0));
}

#[test]
fn hostile_names_are_ordinary_in_every_operation() {
    let mut sandbox = Sandbox::new();
    for name in HOSTILE {
        let join = |tail: &[u8]| rel([name, b"/", tail].concat());
        let (file, moved) = (join(name), join(b"moved"));
        sandbox.apply(Op::MakeDir { path: rel(name), mode: 0o755 }).unwrap();
        std::fs::write(sandbox.path(file.as_bytes()), "text").unwrap();
        let expect = sandbox.entry(file.as_bytes());
        let e = || expect.clone();
        let back = || Op::Rename { from: moved.clone(), to: file.clone(), expect: e() };
        let ops = [
            Op::KeepCopy { path: file.clone(), expect: e() },
            Op::Rename { from: file.clone(), to: moved.clone(), expect: e() },
            back(),
            Op::SetMetadata {
                path: file.clone(),
                expect: e(),
                mode: Some(0o640),
                uid: None,
                gid: None,
            },
        ];
        for (op, done) in ops.iter().zip(sandbox.replica.apply(&ops).unwrap()) {
            assert!(done.is_ok(), "{op:?}: {done:?}");
        }
        assert_eq!(std::fs::read(sandbox.kept("backup").join(file.as_path())).unwrap(), b"text");
        let scanned = [(file.clone(), sandbox.entry(file.as_bytes()))];
        let digest = sandbox.replica.digest(DigestKind::Blake3, &scanned).unwrap().remove(0);
        assert_eq!(digest, Ok(*blake3::hash(b"text").as_bytes()));
        let below = sandbox.replica.look_below(&[rel(name)]).unwrap().remove(0).unwrap().unwrap();
        assert_eq!(listed(&below), [(rel(name).shown(), Standing::Present)]);
        sandbox
            .apply(Op::SetMtime { path: file.clone(), mtime: Stamp::new(9, 9), expect: None })
            .unwrap();
        let expect = sandbox.entry(file.as_bytes());
        assert_eq!((expect.mode, expect.mtime), (0o640, Stamp::new(9, 9)));
        sandbox.apply(Op::Remove { path: file, expect }).unwrap();
        let expect = sandbox.entry(name);
        sandbox.apply(Op::Remove { path: rel(name), expect }).unwrap();
    }
    assert!(sandbox.scan().tree.is_empty());
}

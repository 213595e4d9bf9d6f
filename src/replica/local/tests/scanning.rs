use super::*;
use crate::config::RuleText;
use crate::tree::{Kind, TreeBuilder};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::atomic::{AtomicU64, Ordering};

#[test]
fn everything_is_seen_once_but_what_belongs_to_osync() {
    let mut sandbox = Sandbox::new();
    sandbox.write("a/b/c", "1");
    sandbox.write("a/.osync_workdir/x", "of a task inside this replica");
    sandbox.write(".osync_workdir/state/x", "ours");
    sandbox.write(".osync-update.push", "ours");
    symlink("a", sandbox.path("link")).unwrap();
    let seen = AtomicU64::new(0);
    let count = |count| seen.store(count, Ordering::Relaxed);
    let scan = sandbox.replica.scan(&request(&Filter::default(), &count)).unwrap();
    assert!(scan.problems.is_empty());
    let names: Vec<_> = listed(&scan.tree).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "a/.osync_workdir", "a/b", "a/b/c", "link"]);
    let nested = scan.tree.find(&rel("a/.osync_workdir")).unwrap();
    assert_eq!(scan.tree.standing(nested), Standing::Excluded);
    assert_eq!(seen.into_inner(), 5);
    let std = sandbox.path("a/b/c").metadata().unwrap();
    let entry = scan.tree.entry(scan.tree.find(&rel("a/b/c")).unwrap());
    assert_eq!((entry.ino, entry.size, entry.kind), (std.ino(), 1, Kind::File));
    assert_eq!(i64::from(entry.mtime.nanos()), std.mtime_nsec());
    assert_eq!(scan.tree.entry(Tree::ROOT).ino, sandbox.path("").metadata().unwrap().ino());
}

#[test]
fn walks_that_help_each_other_see_everything_once() {
    let mut sandboxes: Vec<Sandbox> = (0..3).map(|_| Sandbox::new()).collect();
    let mut expected = Vec::new();
    for dir in 0..300 {
        let dir = format!("d{dir:03}");
        expected.extend([
            dir.clone(),
            format!("{dir}/e"),
            format!("{dir}/e/f"),
            format!("{dir}/g"),
        ]);
        for sandbox in &sandboxes {
            sandbox.write(format!("{dir}/e/f"), "x");
            sandbox.write(format!("{dir}/g"), "x");
        }
    }
    std::thread::scope(|scope| {
        let walks: Vec<_> =
            sandboxes.iter_mut().map(|sandbox| scope.spawn(|| sandbox.scan())).collect();
        for walk in walks {
            let scan = walk.join().unwrap();
            assert!(scan.problems.is_empty());
            let names: Vec<_> = listed(&scan.tree).into_iter().map(|(name, _)| name).collect();
            assert_eq!(names, expected);
        }
    });
}

#[test]
fn hostile_names_are_ordinary() {
    let mut sandbox = Sandbox::new();
    for name in HOSTILE {
        let inner = [name, b"/", name].concat();
        sandbox.write(&inner, "x");
    }
    let scan = sandbox.scan();
    assert_eq!((scan.tree.len(), scan.problems.len()), (2 * HOSTILE.len(), 0));
    for name in HOSTILE {
        assert!(scan.tree.find(&rel([name, b"/", name].concat())).is_some());
    }
}

#[test]
fn an_excluded_directory_appears_and_is_not_entered() {
    let mut sandbox = Sandbox::new();
    sandbox.write("keep/x.o", "");
    sandbox.write("keep/x.c", "");
    sandbox.write("skip/deep/y", "");
    let rule = |pattern: &str| RuleText {
        include: false,
        from_file: false,
        pattern: pattern.as_bytes().to_vec(),
    };
    let filter = Filter::new(&[rule("*.o"), rule("/skip/")]);
    let scan = sandbox.replica.scan(&request(&filter, &|_| ())).unwrap();
    let expected = [
        ("keep", Standing::Present),
        ("keep/x.c", Standing::Present),
        ("keep/x.o", Standing::Excluded),
        ("skip", Standing::Excluded),
    ];
    assert_eq!(listed(&scan.tree), expected.map(|(n, s)| (n.to_owned(), s)));
    assert!(scan.tree.entry(scan.tree.find(&rel("skip")).unwrap()).kind.is_dir());
}

#[test]
fn a_thousand_levels_cost_no_descriptors_and_no_stack() {
    let mut sandbox = Sandbox::new();
    let mut path = sandbox.dir.path().to_owned();
    for _ in 0..1000 {
        path.push("d");
        std::fs::create_dir(&path).unwrap();
    }
    let scan = sandbox.scan();
    assert_eq!((scan.tree.len(), scan.problems.len()), (1000, 0));
    let deepest = rel(["d"; 1000].join("/"));
    assert!(scan.tree.find(&deepest).is_some());
    let below = sandbox.replica.look_below(&[rel("d")]).unwrap().remove(0).unwrap().unwrap();
    assert_eq!(below.len(), 999);
    sandbox.set_aside("d", Keep::Deleted).unwrap();
    assert_eq!(sandbox.scan().tree.len(), 0);
}

#[test]
fn a_path_beyond_the_limit_is_a_problem_of_its_own() {
    let mut sandbox = Sandbox::new();
    sandbox.write("fine", "x");
    let name = [b'n'; 250];
    let flags = openat_root::HANDLE;
    let mode = rustix::fs::Mode::RWXU;
    let mut at = rustix::fs::open(sandbox.dir.path(), flags, mode).unwrap();
    for _ in 0..20 {
        rustix::fs::mkdirat(&at, &name[..], mode).unwrap();
        at = rustix::fs::openat(&at, &name[..], flags, mode).unwrap();
    }
    let scan = sandbox.scan();
    // 16 times 251 bytes still fit.
    assert_eq!(scan.tree.len(), 1 + 16 + 1);
    assert_eq!(scan.problems.len(), 1);
    assert!(scan.problems[0].text.contains("4,095"), "{}", scan.problems[0].text);
    let unknown = scan.tree.ids().filter(|id| scan.tree.standing(*id) == Standing::Unknown);
    assert_eq!(unknown.count(), 1);
}

#[test]
fn copied_links_are_what_they_point_at() {
    let mut sandbox = Sandbox::new();
    let outside = tempfile::tempdir().unwrap();
    std::fs::create_dir(outside.path().join("d")).unwrap();
    std::fs::write(outside.path().join("d/f"), "far").unwrap();
    sandbox.write("real/f", "near");
    symlink("real/f", sandbox.path("file")).unwrap();
    symlink(outside.path().join("d"), sandbox.path("dir")).unwrap();
    symlink("nowhere", sandbox.path("dangling")).unwrap();
    symlink("..", sandbox.path("real/up")).unwrap();
    symlink("me", sandbox.path("me")).unwrap();
    let scan = sandbox.scan_with(|request| request.look.copy_symlinks = true);
    use Standing::{Present, Unknown};
    let expected = [
        ("dangling", Unknown),
        ("dir", Present),
        ("dir/f", Present),
        ("file", Present),
        ("me", Unknown),
        ("real", Present),
        ("real/f", Present),
        ("real/up", Unknown),
    ];
    assert_eq!(listed(&scan.tree), expected.map(|(n, s)| (n.to_owned(), s)));
    assert_eq!(scan.problems.len(), 3, "{:?}", scan.problems);
    assert_eq!(scan.tree.entry(scan.tree.find(&rel("file")).unwrap()).size, 4);
    let scanned = ["file", "dir/f"].map(rel).map(|path| {
        let entry = scan.tree.entry(scan.tree.find(&path).unwrap()).clone();
        (path, entry)
    });
    let digests = sandbox.replica.digest(DigestKind::Blake3, &scanned).unwrap();
    assert_eq!(digests[0], Ok(*blake3::hash(b"near").as_bytes()));
    assert_eq!(digests[1], Ok(*blake3::hash(b"far").as_bytes()));
}

#[test]
fn a_kept_link_to_a_directory_counts_as_the_directory_and_others_as_links() {
    let mut sandbox = Sandbox::new();
    sandbox.write("real/f", "near");
    symlink("real", sandbox.path("dir")).unwrap();
    symlink("real/f", sandbox.path("file")).unwrap();
    symlink("nowhere", sandbox.path("dangling")).unwrap();
    let scan = sandbox.scan_with(|request| request.look.keep_dirlinks = true);
    assert!(scan.problems.is_empty());
    let kind = |name: &str| scan.tree.entry(scan.tree.find(&rel(name)).unwrap()).kind;
    assert_eq!(kind("dir"), Kind::Dir);
    assert_eq!(kind("dir/f"), Kind::File);
    assert_eq!(kind("file"), Kind::Symlink);
    assert_eq!(kind("dangling"), Kind::Symlink);
}

#[test]
fn attributes_change_their_digest_and_nothing_else_does() {
    let mut sandbox = Sandbox::new();
    for name in ["plain", "marked"] {
        sandbox.write(name, "x");
    }
    let set = |value: &[u8]| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(sandbox.dir.path().join("marked"), "user.mark", value, flags)
    };
    set(b"one").unwrap();
    let look = |sandbox: &mut Sandbox, name: &str| {
        let scan = sandbox.scan_with(|request| {
            request.look.attributes = Wanted { acl: true, xattr: true, all_spaces: false };
        });
        assert!(scan.problems.is_empty(), "{:?}", scan.problems);
        scan.tree.entry(scan.tree.find(&rel(name)).unwrap()).extra().clone()
    };
    let dir = sandbox.dir.path().to_owned();
    assert_eq!(look(&mut sandbox, "plain").xattr, None);
    let first = look(&mut sandbox, "marked").xattr;
    assert!(first.is_some() && look(&mut sandbox, "marked").acl.is_none());
    std::fs::set_permissions(dir.join("marked"), PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(look(&mut sandbox, "marked").xattr, first);
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(dir.join("marked"), "user.mark", b"two", flags).unwrap();
    let second = look(&mut sandbox, "marked").xattr;
    assert!(second.is_some() && second != first);
}

#[test]
fn looking_again_answers_in_order_and_says_what_is_gone() {
    let mut sandbox = Sandbox::new();
    sandbox.write("a/x", "1");
    sandbox.write("b", "22");
    symlink("a", sandbox.path("link")).unwrap();
    let paths = ["a/x", "a/gone", "gone/x", "b", "link/x", "b/x", "link"].map(rel);
    let found = sandbox.replica.stat(&paths).unwrap();
    let sizes: Vec<_> =
        found.into_iter().map(|f| f.unwrap().map(|entry| (entry.kind, entry.size))).collect();
    let file = |size| Some((Kind::File, size));
    let expected = [file(1), None, None, file(2), None, None, Some((Kind::Symlink, 0))];
    assert_eq!(sizes, expected);
    let below = sandbox.replica.look_below(&["a", "b", "gone", "link"].map(rel)).unwrap();
    let sizes: Vec<_> =
        below.into_iter().map(|tree| tree.unwrap().map(|tree| tree.len())).collect();
    assert_eq!(sizes, [Some(1), Some(0), None, Some(0)]);
}

#[test]
fn only_regular_files_have_digests() {
    let mut sandbox = Sandbox::new();
    sandbox.write("f", "text");
    sandbox.write("d/x", "");
    symlink("f", sandbox.path("link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        sandbox.path("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let paths = ["f", "d", "link", "pipe", "gone"].map(rel);
    let looks = sandbox.replica.stat(&paths).unwrap();
    let scanned: Vec<(RelPath, Entry)> = paths
        .into_iter()
        .zip(looks)
        .map(|(path, look)| (path, look.unwrap().unwrap_or(Entry::new(Kind::File))))
        .collect();
    let digests = sandbox.replica.digest(DigestKind::Blake3, &scanned).unwrap();
    assert_eq!(digests[0], Ok(*blake3::hash(b"text").as_bytes()));
    assert_eq!(digests[1], Err(PathError::Changed));
    assert_eq!(digests[2], Err(PathError::Changed));
    assert_eq!(digests[3], Err(PathError::Changed));
    assert_eq!(digests[4], Err(PathError::Vanished));
}

#[test]
fn a_tree_without_entries_is_a_tree() {
    let mut sandbox = Sandbox::new();
    assert!(sandbox.scan().tree.is_empty());
    let empty = TreeBuilder::new(Entry::new(Kind::Dir)).finish();
    assert_eq!(empty.len(), 0);
}

//! Other file systems inside a replica, and full ones.

use super::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

/// Runs a test body where it may mount: in a child with mounts of its own. `test` is the
/// full name of the test that calls this.
pub(crate) fn with_own_mounts(test: &str, body: fn()) {
    if std::env::var_os("OSYNC_TEST_OWN_MOUNTS").is_some() {
        return body();
    }
    let mut unshare = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.arg("--map-root-user");
    }
    unshare.arg("--mount");
    if !unshare.arg("true").output().is_ok_and(|output| output.status.success()) {
        eprintln!("NOT TESTED: {test}: mount namespaces are not allowed here");
        return;
    }
    let mut unshare = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.arg("--map-root-user");
    }
    let output = unshare
        .arg("--mount")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("OSYNC_TEST_OWN_MOUNTS", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let ran = text.contains("1 passed");
    assert!(output.status.success() && ran, "{text}{}", String::from_utf8_lossy(&output.stderr));
}

pub(crate) fn mount(at: &Path, size: &str) {
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at);
    assert!(mount.status().unwrap().success());
}

#[test]
fn a_mount_point_is_entered_and_what_goes_from_it_is_copied() {
    let name =
        "replica::local::tests::mounts::a_mount_point_is_entered_and_what_goes_from_it_is_copied";
    with_own_mounts(name, || {
        let mut sandbox = Sandbox::new();
        std::fs::create_dir(sandbox.path("m")).unwrap();
        mount(&sandbox.path("m"), "10m");
        sandbox.write("m/f", "file");
        sandbox.write("m/d/e/deep", "deep");
        sandbox.write("m/d/closed/x", "x");
        symlink("nowhere", sandbox.path("m/d/link")).unwrap();
        for name in HOSTILE {
            sandbox.write([b"m/d/", name].concat(), "hostile");
        }
        std::fs::set_permissions(sandbox.path("m/f"), PermissionsExt::from_mode(0o4711)).unwrap();
        let closed = PermissionsExt::from_mode(0o500);
        std::fs::set_permissions(sandbox.path("m/d/closed"), closed).unwrap();
        let mtime = Stamp::new(123_456, 789);
        for path in ["m/f", "m/d/link", "m/d/e", "m/d"] {
            sandbox.apply(Op::SetMtime { path: rel(path), mtime, expect: None }).unwrap();
        }
        let scan = sandbox.scan();
        let dev = |path: &str| scan.tree.entry(scan.tree.find(&rel(path)).unwrap()).dev;
        assert_ne!(dev("m"), scan.tree.entry(Tree::ROOT).dev);
        assert_eq!(dev("m"), dev("m/d/e/deep"));
        for _ in 0..2 {
            let expect = sandbox.entry("m/f");
            sandbox.apply(Op::KeepCopy { path: rel("m/f"), expect }).unwrap();
        }
        for path in ["m/f", "m/d"] {
            sandbox.set_aside(path, Keep::Deleted).unwrap();
            assert!(sandbox.path(path).symlink_metadata().is_err());
        }
        let file = sandbox.kept("deleted/m/f").metadata().unwrap();
        let seen = (file.mode() & 0o7777, file.mtime(), file.mtime_nsec());
        assert_eq!(seen, (0o4711, 123_456, 789));
        for path in ["deleted/m/d/link", "deleted/m/d/e", "deleted/m/d"] {
            let kept = sandbox.kept(path).symlink_metadata().unwrap();
            assert_eq!((kept.mtime(), kept.mtime_nsec()), (123_456, 789), "{path}");
        }
        let kept = sandbox.kept("deleted/m/d/closed").metadata().unwrap();
        assert_eq!(kept.mode() & 0o7777, 0o500);
        assert_eq!(std::fs::read(sandbox.kept("deleted/m/d/e/deep")).unwrap(), b"deep");
        for name in HOSTILE {
            let kept = sandbox.kept([b"deleted/m/d/", name].concat());
            assert_eq!(std::fs::read(kept).unwrap(), b"hostile");
        }
        assert_eq!(sandbox.kept_names("deleted"), [b"m"], "no unfinished copy stays");
        assert_eq!(sandbox.kept_names("backup/m").len(), 2);
    });
}

#[test]
fn a_move_to_another_file_system_is_a_copy_that_appears_complete() {
    let name = "replica::local::tests::mounts::a_move_to_another_file_system_is_a_copy_that_appears_complete";
    with_own_mounts(name, || {
        let mut sandbox = Sandbox::new();
        std::fs::create_dir(sandbox.path("m")).unwrap();
        mount(&sandbox.path("m"), "200k");
        sandbox.write("f", "file");
        sandbox.write("d/e/deep", "deep");
        sandbox.write("m/taken", "stays");
        symlink("nowhere", sandbox.path("l")).unwrap();
        for path in ["f", "d", "l"] {
            sandbox
                .apply(Op::SetMtime { path: rel(path), mtime: Stamp::new(77, 7), expect: None })
                .unwrap();
            let expect = sandbox.entry(path);
            let rename =
                |to: String| Op::Rename { from: rel(path), to: rel(to), expect: expect.clone() };
            let taken = sandbox.apply(rename("m/taken".into()));
            assert_eq!(taken, Err(PathError::Occupied(rel("m/taken"))));
            sandbox.apply(rename(format!("m/{path}"))).unwrap();
            assert!(sandbox.path(path).symlink_metadata().is_err());
            assert_eq!(sandbox.entry(format!("m/{path}")).mtime, Stamp::new(77, 7));
        }
        assert_eq!(sandbox.read("m/f"), "file");
        assert_eq!(sandbox.read("m/d/e/deep"), "deep");
        sandbox.write("big", &"x".repeat(300_000));
        let expect = sandbox.entry("big");
        let moved = sandbox.apply(Op::Rename { from: rel("big"), to: rel("m/big"), expect });
        assert!(matches!(moved, Err(PathError::Failed { .. })));
        assert_eq!(sandbox.read("big").len(), 300_000);
        assert!(!sandbox.path("m/big").exists());
        assert_eq!(sandbox.read("m/taken"), "stays");
    });
}

#[test]
fn a_full_disk_loses_nothing() {
    with_own_mounts("replica::local::tests::mounts::a_full_disk_loses_nothing", || {
        let dir = tempfile::tempdir().unwrap();
        mount(dir.path(), "200k");
        let mut sandbox = Sandbox::at(dir);
        std::fs::create_dir(sandbox.path("m")).unwrap();
        mount(&sandbox.path("m"), "10m");
        let big = "x".repeat(300_000);
        sandbox.write("m/d/first", "small");
        sandbox.write("m/d/second", &big);
        sandbox.write("m/big", &big);
        for path in ["m/big", "m/d"] {
            let PathError::Failed { cause, .. } =
                sandbox.set_aside(path, Keep::Deleted).unwrap_err()
            else {
                panic!()
            };
            assert!(cause.contains("No space left"), "{cause}");
        }
        let expect = sandbox.entry("m/big");
        assert!(sandbox.apply(Op::KeepCopy { path: rel("m/big"), expect }).is_err());
        assert_eq!(sandbox.read("m/big").len(), 300_000);
        assert_eq!(sandbox.read("m/d/second").len(), 300_000);
        assert_eq!(sandbox.read("m/d/first"), "small");
        for keep in ["deleted", "backup"] {
            assert_eq!(sandbox.kept_names(keep), [b"m"], "no unfinished copy stays");
            assert!(sandbox.kept_names(&format!("{keep}/m")).is_empty());
        }
        // Fill it to the brim: identity, lock and the record say so and leave nothing half.
        let mut filler = std::fs::File::create(sandbox.path("filler")).unwrap();
        while std::io::Write::write_all(&mut filler, &[0; 512]).is_ok() {}
        let identity = Identity("0123456789abcdef0123456789abcdef".into());
        let error = sandbox.replica.set_identity(&identity).unwrap_err().to_string();
        assert!(error.contains("No space left"), "{error}");
        assert_eq!(sandbox.replica.identity().unwrap().known(), None);
        let request = LockRequest { instance_id: "t".into(), force: false, stranger_resume: false };
        let error = sandbox.replica.lock(&request).unwrap_err().to_string();
        assert!(error.contains("No space left") && error.contains("lock"), "{error}");
        assert_eq!(sandbox.kept_names(""), [&b"backup"[..], b"deleted", b"deleted.arrivals"]);
        std::fs::create_dir(sandbox.path("e")).unwrap();
        sandbox.set_aside("filler", Keep::Backup).unwrap();
    });
}

#[test]
fn a_replica_on_a_read_only_file_system_can_be_looked_at() {
    let name =
        "replica::local::tests::mounts::a_replica_on_a_read_only_file_system_can_be_looked_at";
    with_own_mounts(name, || {
        let dir = tempfile::tempdir().unwrap();
        mount(dir.path(), "1m");
        std::fs::write(dir.path().join("f"), "x").unwrap();
        let mut remount = Command::new("mount");
        remount.args(["-o", "remount,ro"]).arg(dir.path());
        assert!(remount.status().unwrap().success());
        let mut replica = LocalReplica::new(Side::Target, dir.path());
        replica.prepare(Access::ReadOnly).unwrap();
        assert_eq!(replica.scan(&request(&Filter::default(), &|_| ())).unwrap().tree.len(), 1);
        let error = replica.prepare(Access::ReadWrite { create: true }).unwrap_err().to_string();
        assert!(error.contains("target") && error.contains("remount"), "{error}");
    });
}

//! Links put in the way, replicas that are not there.

use super::*;
use crate::process::{Stop, StopReason};
use std::os::unix::fs::symlink;

/// Every operation that changes something at `path`.
fn every_op(path: &str, expect: &Entry) -> Vec<Op> {
    let expect = || expect.clone();
    let (path, keeping) = (rel(path), Keeping::dated(Keep::Deleted));
    vec![
        Op::MakeDir { path: path.parent().unwrap().join(b"made"), mode: 0o700 },
        Op::Rename { from: path.clone(), to: rel("new"), expect: expect() },
        Op::Rename {
            from: rel("other"),
            to: path.parent().unwrap().join(b"renamed"),
            expect: expect(),
        },
        Op::SetAside { path: path.clone(), expect: expect(), keeping },
        Op::KeepCopy { path: path.clone(), expect: expect() },
        Op::Remove { path: path.clone(), expect: expect() },
        Op::SetMetadata {
            path: path.clone(),
            expect: expect(),
            mode: Some(0o600),
            uid: None,
            gid: None,
        },
        Op::SetMtime { path, mtime: Stamp::new(1, 1), expect: None },
    ]
}

#[test]
fn a_link_put_in_place_of_a_directory_leads_no_operation_out() {
    for target in ["outside", "inside"] {
        let mut sandbox = Sandbox::new();
        let outside = tempfile::tempdir().unwrap();
        sandbox.write("d/sub/f", "x");
        sandbox.write("other", "y");
        let mut expect = sandbox.entry("d/sub/f");
        expect.ino = 0;
        std::fs::rename(sandbox.path("d"), outside.path().join("d")).unwrap();
        if target == "outside" {
            symlink(outside.path().join("d"), sandbox.path("d")).unwrap();
        } else {
            std::fs::rename(outside.path().join("d"), sandbox.path("real")).unwrap();
            symlink("real", sandbox.path("d")).unwrap();
        }
        let there = sandbox.path("d/sub/f");
        let before = std::fs::metadata(&there).unwrap();
        for op in every_op("d/sub/f", &expect) {
            let done = sandbox.apply(op.clone());
            assert!(done.is_err(), "{op:?} through a link");
        }
        let after = std::fs::metadata(&there).unwrap();
        assert_eq!(format!("{before:?}"), format!("{after:?}"));
        assert_eq!(std::fs::read_dir(there.parent().unwrap()).unwrap().count(), 1);
    }
}

#[test]
fn links_in_what_is_kept_are_never_followed() {
    let mut sandbox = Sandbox::new();
    let outside = tempfile::tempdir().unwrap();
    sandbox.write(".osync_workdir/deleted/x", "");
    symlink(outside.path(), sandbox.kept("deleted/d")).unwrap();
    sandbox.write("d/f", "content");
    sandbox.set_aside("d/f", Keep::Deleted).unwrap();
    assert_eq!(std::fs::read(sandbox.kept("deleted/d/f")).unwrap(), b"content");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    // The directory that keeps things being a link is an error, early and late.
    symlink(outside.path(), sandbox.kept("backup")).unwrap();
    sandbox.write("g", "x");
    assert!(sandbox.set_aside("g", Keep::Backup).is_err());
    assert!(sandbox.path("g").exists());
    let request = LockRequest { instance_id: "t".into(), force: false, stranger_resume: false };
    let error = sandbox.replica.lock(&request).unwrap_err().to_string();
    assert!(error.contains("backup"), "{error}");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_replica_that_cannot_be_used_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("a/b");
    let dangling = dir.path().join("dangling");
    symlink("nowhere", &dangling).unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (read, keep) = (Access::ReadOnly, Access::ReadWrite { create: false });
    let make = Access::ReadWrite { create: true };
    for (path, access, words) in [
        (&missing, read, "CREATE_DIRS"),
        (&missing, keep, "CREATE_DIRS"),
        (&dangling, make, "leads nowhere"),
        (&file, make, "not a directory"),
    ] {
        let mut replica = LocalReplica::new(Side::Initiator, path);
        let error = replica.prepare(access).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("initiator"), "{error}");
        assert!(replica.stat(&[]).is_err(), "an unprepared replica does nothing");
    }
    assert!(!missing.exists());
    let mut replica = LocalReplica::new(Side::Initiator, &missing);
    let prepared = replica.prepare(make).unwrap();
    assert!(prepared.created && prepared.free_kib > 0 && missing.is_dir());
    assert!(!replica.prepare(make).unwrap().created);
    symlink(&missing, dir.path().join("l")).unwrap();
    let mut replica = LocalReplica::new(Side::Initiator, &dir.path().join("l"));
    replica.prepare(Access::ReadOnly).unwrap();
    assert_eq!(replica.root(), std::fs::canonicalize(&missing).unwrap());
    assert_eq!(std::fs::read_dir(&missing).unwrap().count(), 0, "nothing is made to look");
}

#[test]
fn a_stopped_run_looks_no_further_but_can_still_record() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), "x").unwrap();
    let stop = Stop::new();
    let mut replica = LocalReplica::new(Side::Initiator, dir.path()).with_stop(stop.clone());
    replica.prepare(Access::ReadOnly).unwrap();
    let entry = replica.stat(&[rel("f")]).unwrap().remove(0).unwrap().unwrap();
    let scanned = [(rel("f"), entry)];
    assert!(replica.digest(DigestKind::Blake3, &scanned).unwrap()[0].is_ok());
    stop.request(StopReason::HardLimit);
    let filter = Filter::default();
    let error = replica.scan(&request(&filter, &|_| ())).unwrap_err().to_string();
    assert!(error.contains("stopped"), "{error}");
    assert!(replica.digest(DigestKind::Blake3, &scanned).unwrap()[0].is_err());
    assert!(replica.run_hook("exit 0", &[], None).is_err());
    assert!(replica.stat(&[rel("f")]).unwrap()[0].as_ref().unwrap().is_some());
    let below = replica.look_below(&[RelPath::root()]).unwrap().remove(0).unwrap().unwrap();
    assert_eq!(below.len(), 1);
}

#[test]
fn a_command_is_run_with_its_variables_and_its_end_is_told() {
    let mut sandbox = Sandbox::new();
    let env = [("OSYNC_TEST".to_owned(), "a b'c".to_owned())];
    let mut run = |command: &str, limit| sandbox.replica.run_hook(command, &env, limit).unwrap();
    let ended = run("echo \"$OSYNC_TEST\"; echo oops >&2; exit 3", None);
    assert_eq!(ended.status, Some(3));
    let said = String::from_utf8(ended.output).unwrap();
    assert!(said.contains("a b'c\n") && said.contains("oops\n"), "{said}");
    assert_eq!(run("kill -9 $$", None).status, Some(137));
    let limit = Some(std::time::Duration::from_millis(50));
    assert_eq!(run("sleep 1000", limit).status, None);
}

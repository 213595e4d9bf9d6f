//! What only shows for somebody who may not do everything.

use super::*;
use std::os::unix::fs::PermissionsExt;

fn chmod(path: &std::path::Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn what_cannot_be_read_is_unknown_and_not_absent() {
    as_ordinary_user(
        "replica::local::tests::user::what_cannot_be_read_is_unknown_and_not_absent",
        || {
            let mut sandbox = Sandbox::new();
            for name in ["closed/x", "listed/x", "entered/x", "fine/x", "secret", "writeonly"] {
                sandbox.write(name, "x");
            }
            for (name, mode) in
                [("closed", 0o000), ("listed", 0o444), ("entered", 0o111), ("secret", 0o000)]
            {
                chmod(&sandbox.path(name), mode);
            }
            chmod(&sandbox.path("writeonly"), 0o244);
            let scan = sandbox.scan();
            use Standing::{Present, Unknown};
            let expected = [
                ("closed", Unknown),
                ("entered", Unknown),
                ("fine", Present),
                ("fine/x", Present),
                ("listed", Unknown),
                ("secret", Unknown),
                ("writeonly", Unknown),
            ];
            assert_eq!(listed(&scan.tree), expected.map(|(n, s)| (n.to_owned(), s)));
            let problems: Vec<_> =
                scan.problems.iter().map(|p| p.path.as_ref().unwrap().shown()).collect();
            assert_eq!(problems, ["closed", "entered", "listed", "secret", "writeonly"]);
            assert!(scan.problems.iter().all(|p| p.side == Some(Side::Target)));
            for name in ["closed", "listed", "entered"] {
                chmod(&sandbox.path(name), 0o755);
            }
        },
    );
}

#[test]
fn a_closed_directory_of_ours_is_opened_for_the_time_being() {
    as_ordinary_user(
        "replica::local::tests::user::a_closed_directory_of_ours_is_opened_for_the_time_being",
        || {
            let mut sandbox = Sandbox::new();
            for name in ["d/remove", "d/aside", "d/rename", "d/sub/x"] {
                sandbox.write(name, "x");
            }
            chmod(&sandbox.path("d/sub"), 0o555);
            let mtime = Stamp::new(1_000_000, 3);
            sandbox.apply(Op::SetMtime { path: rel("d"), mtime, expect: None }).unwrap();
            chmod(&sandbox.path("d"), 0o555);
            let e = |sandbox: &mut Sandbox, name: &str| sandbox.entry(name);
            let keeping = Keeping::dated(Keep::Deleted);
            let ops = [
                Op::Remove { path: rel("d/remove"), expect: e(&mut sandbox, "d/remove") },
                Op::SetAside { path: rel("d/aside"), expect: e(&mut sandbox, "d/aside"), keeping },
                Op::Rename {
                    from: rel("d/rename"),
                    to: rel("d/new"),
                    expect: e(&mut sandbox, "d/rename"),
                },
                Op::MakeDir { path: rel("d/made"), mode: 0o700 },
                Op::SetAside { path: rel("d/sub"), expect: e(&mut sandbox, "d/sub"), keeping },
            ];
            for op in ops {
                sandbox.apply(op.clone()).unwrap_or_else(|error| panic!("{op:?}: {error}"));
            }
            let dir = sandbox.entry("d");
            assert_eq!((dir.mode, dir.mtime), (0o555, mtime));
            assert_eq!(sandbox.kept("deleted/d/sub").metadata().unwrap().mode_bits(), 0o555);
            assert!(sandbox.kept("deleted/d/sub/x").exists());
            // And what is kept in closed directories can be cleaned.
            let root = openat_root::Root::open(sandbox.dir.path()).unwrap();
            let work = work_dir::WorkDir::open(&root, TooOpen::Close).unwrap();
            let days = Retention { backup_days: 1, deleted_days: 1 };
            versions::clean(&work, days, lock_policy::now() + 5 * 86_400).unwrap();
            assert_eq!(sandbox.kept_names("deleted").len(), 0);
            chmod(&sandbox.path("d"), 0o755);
        },
    );
}

trait ModeBits {
    fn mode_bits(&self) -> u32;
}

impl ModeBits for std::fs::Metadata {
    fn mode_bits(&self) -> u32 {
        self.permissions().mode() & 0o7777
    }
}

#[test]
fn what_the_system_refuses_is_said() {
    as_ordinary_user("replica::local::tests::user::what_the_system_refuses_is_said", || {
        let mut sandbox = Sandbox::new();
        sandbox.write("f", "x");
        let expect = sandbox.entry("f");
        let refused = sandbox.apply(Op::SetMetadata {
            path: rel("f"),
            expect,
            mode: None,
            uid: Some(0),
            gid: None,
        });
        let PathError::Failed { action, cause } = refused.unwrap_err() else { panic!() };
        assert!(action.contains("owner") && cause.contains("not permitted"), "{cause}");
        let closed = tempfile::tempdir().unwrap();
        chmod(closed.path(), 0o555);
        let mut replica = LocalReplica::new(Side::Initiator, closed.path());
        let error = replica.prepare(Access::ReadWrite { create: true }).unwrap_err().to_string();
        assert!(error.contains("initiator") && error.contains("cannot write"), "{error}");
        assert!(!replica.prepare(Access::ReadOnly).unwrap().can_chown);
        chmod(closed.path(), 0o311);
        let error = replica.prepare(Access::ReadOnly).unwrap_err().to_string();
        assert!(error.contains("cannot read"), "{error}");
    });
}

//! What rsync leaves behind when a run is killed, and what only looks like it (spec 4,
//! "Interruption"): the one goes, somebody's file never does.

use crate::support::couple::Couple;
use crate::support::kept::Kept;
use crate::support::replicas::Sort;
use crate::support::sandbox::{Outcome, Replica};
use osync::testing::state::{InflightNote, StateDir, StateStore};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

/// Kills a run that has noted what it is about to bring over.
fn kill_in_flight(couple: &Couple) -> Option<Outcome> {
    if !cfg!(debug_assertions) {
        println!("skipped: a release build has no fault points");
        return None;
    }
    let killed = couple.run("").env("OSYNC_FAULT", "in flight:1").run();
    assert_eq!(killed.signal, Some(9), "{killed}");
    Some(killed)
}

fn put(side: &Replica, name: &str, content: &str, mode: u32) {
    fs::write(side.at(name), content).unwrap();
    fs::set_permissions(side.at(name), fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_users_file_that_reads_like_a_temporary_name_of_rsync_is_never_destroyed() {
    for couple in Couple::both() {
        let [a, b] = [0, 1].map(|side| couple.side(side));
        a.make("f there x\nf .env secret=12345\nl link there");
        couple.sync("");
        a.make("f .env secret=1234567 1700000000\nf dir/new content\nf log 7777777");
        a.remove("link");
        a.make("l link elsewhere");
        let Some(_) = kill_in_flight(&couple) else { return };
        // as rsync leaves them, killed in the middle
        put(b, ".env.Xy12Zz", "secret=1", 0o600);
        put(b, ".log.aB3dE5", "7777777", 0o644);
        symlink("elsewhere", b.at(".link.4711")).unwrap();
        // a user's
        put(b, ".env.backup", "secret=12345", 0o600);
        put(b, ".log.000001", "older lines, and more of them than in the log", 0o644);
        put(b, ".log.Zz9yX8", "not of the log: longer than it is", 0o644);
        symlink("mine", b.at(".link.1")).unwrap();
        put(a, ".env.orig12", "of the sending side", 0o600);
        let next = couple.run("").run();
        // what may be either is kept, and said so
        assert_eq!(next.status, Some(2), "{}: {next}", couple.way);
        let kept = Kept::below([b.root.as_path()]);
        for name in [".env.backup", ".log.Zz9yX8"] {
            assert!(!a.has(name) && !b.has(name), "{}: {name} {next}", couple.way);
            assert!(b.has(format!(".osync_workdir/backup/{name}")), "{}: {next}", couple.way);
            assert!(next.to_string().contains(name), "{}: {next}", couple.way);
        }
        assert!(kept.holds(b"secret=12345"), "{}: {next}", couple.way);
        // what cannot be one is synchronised
        for name in [".log.000001", ".link.1", ".env.orig12"] {
            assert!(a.has(name) && b.has(name), "{}: {name} {next}", couple.way);
        }
        // and what is one has gone
        for name in [".env.Xy12Zz", ".log.aB3dE5", ".link.4711"] {
            let left = format!(".osync_workdir/backup/{name}");
            let gone = !a.has(name) && !b.has(name) && !b.has(left);
            assert!(gone, "{}: {name} {next}", couple.way);
        }
        assert_eq!(a.contents(), b.contents(), "{}", couple.way);
        couple.sync_twice("");
    }
}

#[test]
fn a_temporary_name_in_a_subtree_that_was_on_its_way_goes_only_if_its_file_was() {
    for couple in Couple::both() {
        let [a, b] = [0, 1].map(|side| couple.side(side));
        a.make("f there x");
        couple.sync("");
        a.make("f new/deep/one 1111111\nf new/two 2");
        let Some(_) = kill_in_flight(&couple) else { return };
        fs::create_dir_all(b.at("new/deep")).unwrap();
        put(b, "new/deep/.one.Xy12Zz", "111", 0o600);
        put(b, "new/deep/.two.Xy12Zz", "2", 0o600);
        let next = couple.sync("");
        assert!(!a.has("new/deep/.one.Xy12Zz") && !b.has("new/deep/.one.Xy12Zz"), "{next}");
        assert_eq!(a.read("new/deep/.two.Xy12Zz").unwrap(), b"2", "{next}");
        assert_eq!(a.contents(), b.contents(), "{}", couple.way);
    }
}

/// A kill takes nothing away of what was written; a power cut may, and comes with another mount.
#[test]
fn what_had_arrived_before_a_plain_kill_is_not_read_again() {
    let couple = Couple::reached_by(Sort::Local);
    let [a, b] = [0, 1].map(|side| couple.side(side));
    a.make("f there x");
    couple.sync("");
    a.make("f new/one 1111111\nf new/two 2\nf three 333");
    let kill = || couple.run("").env("OSYNC_FAULT", "delivered:1").run();
    if !cfg!(debug_assertions) {
        return println!("skipped: a release build has no fault points");
    }
    let killed = kill();
    assert_eq!(killed.signal, Some(9), "{killed}");
    assert!(b.has("new/one") && b.has("three"), "{killed}");
    let note = fs::read(a.at(".osync_workdir/state/inflight-test")).unwrap();
    let text = String::from_utf8_lossy(&note);
    if text.contains(" - -\0") {
        return println!("skipped: this kernel does not tell one mount from another");
    }
    let next = couple.run("").arg("--verbose").run();
    assert_eq!(next.status, Some(0), "{next}");
    assert!(!next.to_string().contains("compared the contents"), "{next}");
    // noted in another mount, it is read
    a.make("f four 4444");
    let killed = kill();
    assert_eq!(killed.signal, Some(9), "{killed}");
    let dir = StateDir::Custom(a.at(".osync_workdir/state"));
    let store = StateStore::open(dir, "test").unwrap();
    let InflightNote::Whole(mut noted) = store.inflight().unwrap() else { panic!("{killed}") };
    noted.mount_sessions.target = Some("another".to_owned());
    store.set_inflight(&noted).unwrap();
    let next = couple.run("").arg("--verbose").run();
    assert_eq!(next.status, Some(0), "{next}");
    assert!(next.to_string().contains("compared the contents"), "{next}");
    assert_eq!(a.contents(), b.contents());
}

//! A disk that fills up in the middle of a run, on either side (spec 4, "Interruption";
//! spec 5, exit code 11). On a small tmpfs, which only root can mount.

use crate::support::mounts::Mounted;
use crate::support::sandbox::{Replica, Sandbox};

/// A file system of 3 MiB.
const SMALL: &str = "size=3m";

fn names(replica: &Replica) -> Vec<String> {
    replica.tree().keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

#[test]
fn a_disk_that_fills_up_is_said_and_nothing_is_lost() {
    for full in ["target", "initiator"] {
        let sandbox = Sandbox::new();
        let (small, large) = match full {
            "target" => (&sandbox.b, &sandbox.a),
            _ => (&sandbox.a, &sandbox.b),
        };
        let Some(_mounted) = Mounted::tmpfs(&small.root, SMALL) else { return };
        large.write("changes", vec![1; 500_000], 1_600_000_000);
        large.write("stays", "as it is", 1_600_000_000);
        assert_eq!(sandbox.sync(&[]).status, Some(0));

        large.write("changes", vec![2; 2_000_000], 1_600_000_001);
        large.write("new", vec![3; 2_500_000], 1_600_000_001);
        large.write("small", "little", 1_600_000_001);
        let run = sandbox.sync(&[]);
        assert_eq!(run.status, Some(1), "{full}: {run}");
        assert!(run.stderr.to_lowercase().contains("no space left"), "{full}: {run}");
        assert!(run.stderr.contains(&format!("{full}: ")), "it says on which side: {run}");
        let changed = small.read("changes").unwrap();
        let is_whole = changed == vec![1; 500_000] || changed == vec![2; 2_000_000];
        assert!(is_whole, "{full}: {} bytes, a mixture", changed.len());
        assert!(small.read("new").is_none_or(|new| new == vec![3; 2_500_000]), "{full}");
        assert_eq!(small.read("stays").unwrap(), b"as it is");
        assert_eq!(large.read("changes").unwrap(), vec![2; 2_000_000], "{full}");
        for replica in [small, large] {
            assert!(!replica.has(".osync_workdir/lock"), "{full}");
        }

        // there is room again
        large.write("changes", vec![4; 1000], 1_600_000_002);
        large.write("new", vec![5; 1000], 1_600_000_002);
        let next = sandbox.quick().env("CONFLICT_BACKUP", "no").env("MINIMUM_SPACE", "0").run();
        assert_eq!(next.status, Some(0), "{full}: {next}");
        assert_eq!(names(small), ["changes", "new", "small", "stays"], "{full}");
        assert_eq!(sandbox.a.contents(), sandbox.b.contents(), "{full}");
        let quiet = sandbox.sync(&["--summary"]);
        assert!(quiet.stdout.contains("Target has 0 updates."), "{full}: {quiet}");
        assert!(quiet.stdout.contains("Initiator has 0 updates."), "{full}: {quiet}");
    }
}

#[test]
fn a_restore_onto_a_full_disk_is_refused_in_one_line_and_touches_nothing() {
    let sandbox = Sandbox::new();
    let Some(_mounted) = Mounted::tmpfs(&sandbox.a.root, SMALL) else { return };
    let (a, b) = (&sandbox.a, &sandbox.b);
    b.write("doc", vec![1; 1_500_000], 1_600_000_000);
    b.write("other", "as it is", 1_600_000_000);
    assert_eq!(sandbox.sync(&[]).status, Some(0));
    a.write("doc", "short", 1_600_000_100);
    assert_eq!(sandbox.sync(&[]).status, Some(0), "the target keeps the long one");
    a.write("filler", vec![2; 2_500_000], 1_600_000_000);
    let before = (a.contents(), b.contents());
    let restore = || {
        let run = sandbox.osync().arg("restore").arg("--initiator").arg(&a.root);
        run.arg("--target").arg(&b.root).arg("doc").env("MINIMUM_SPACE", "0").run()
    };
    let full = restore();
    assert_eq!(full.status, Some(1), "{full}");
    assert!(full.stderr.to_lowercase().contains("no space left"), "{full}");
    assert_eq!(full.stderr.lines().count(), 1, "{full}");
    assert_eq!(full.stdout, "", "{full}");
    assert_eq!((a.contents(), b.contents()), before, "{full}");
    assert_eq!(b.read(".osync_workdir/backup/doc"), Some(vec![1; 1_500_000]), "still kept");

    a.remove("filler");
    let back = restore();
    assert_eq!(back.status, Some(0), "there is room again: {back}");
    assert_eq!(a.read("doc"), Some(vec![1; 1_500_000]));
    assert_eq!(a.read(".osync_workdir/backup/doc"), Some(b"short".to_vec()));
}

#[test]
fn a_disk_too_full_for_the_state_is_said_and_the_next_run_knows_what_was() {
    let sandbox = Sandbox::new();
    let Some(_mounted) = Mounted::tmpfs(&sandbox.a.root, SMALL) else { return };
    sandbox.a.make("f one 1");
    assert_eq!(sandbox.sync(&[]).status, Some(0));
    sandbox.b.make("f two 2");
    // not a byte is left
    let mut filler = std::fs::File::create(sandbox.a.root.join("filler")).unwrap();
    while std::io::Write::write(&mut filler, &[0; 4096]).is_ok_and(|count| count > 0) {}
    drop(filler);
    let run = sandbox.quick().env("RSYNC_EXCLUDE_PATTERN", "filler").run();
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stderr.contains("No space left"), "{run}");
    assert!(sandbox.a.has("one") && sandbox.b.has("one") && sandbox.b.has("two"), "{run}");
    sandbox.a.remove("filler");
    sandbox.a.remove("one");
    let next = sandbox.quick().env("MINIMUM_SPACE", "0").arg("--force-delete").run();
    assert_eq!(next.status, Some(0), "{next}");
    assert!(!sandbox.b.has("one"), "what was recorded before still counts: {next}");
    assert_eq!(names(&sandbox.a), ["two"]);
}

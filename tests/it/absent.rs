//! What counts as deleted (spec 8, "Absent").

use crate::support::ways::each;

#[test]
fn the_work_directory_of_a_task_inside_the_replica_stays_where_it_is() {
    each("", |way| {
        let (here, there) = (way.here(), way.there());
        here.make("f job/f 1\nf job/.osync_workdir/identity abc\nf job/.osync_workdir/state/s 1");
        here.make("f job/.osync-update.push 1");
        there.make("f other 1");
        way.fine();
        assert!(there.has("job/f") && there.has("job/.osync-update.push"), "{}", way.name);
        assert!(!there.has("job/.osync_workdir"), "{}", way.name);
        // known to both, and changed: neither brought over nor deleted
        there.make("f job/.osync_workdir/identity other");
        here.write("job/.osync_workdir/identity", "changed", 1_700_000_000);
        here.write("job/f", "22", 1_700_000_000);
        way.fine();
        assert_eq!(there.read("job/.osync_workdir/identity").unwrap(), b"other", "{}", way.name);
        // the directory is deleted, but not what another task keeps there
        here.remove("job");
        way.fine();
        assert!(!there.has("job/f"), "{}", way.name);
        assert!(there.has("job/.osync_workdir/identity"), "{}", way.name);
        way.idle();
        assert!(!here.has("job"), "{}", way.name);
    });
}

/// Steps of the run between which a path of another kind makes way and its successor comes.
const MAKING_WAY: &[&str] = &[
    "before a batch",
    "setting aside",
    "an operation is done",
    "after a batch",
    "in flight",
    "rsync named an item",
    "delivered",
    "applied",
    "baseline saved",
];

#[test]
fn a_run_killed_while_a_directory_makes_way_deletes_nothing_of_what_won() {
    if !cfg!(debug_assertions) {
        return println!("skipped: a release build has no fault points");
    }
    each("SOFT_DELETE=no\nCONFLICT_BACKUP=no", |way| {
        let (here, there) = (way.here(), way.there());
        for (number, step) in MAKING_WAY.iter().enumerate() {
            let dir = format!("d{number}");
            here.make(&format!("f {dir}/k1 1\nf {dir}/k2 2\nf {dir}/deep/k3 3\nf {dir}/e old"));
            way.fine();
            here.write(format!("{dir}/e"), "edited", 1_700_000_000);
            there.remove(&dir);
            there.write(&dir, "a file", 1_700_000_000);
            let prevails = way.here_is();
            let killed = way
                .prepare(&[])
                .env("CONFLICT_PREVALANCE", prevails)
                .env("OSYNC_FAULT", format!("{step}:1"))
                .run();
            // what is done behind ssh has no fault points
            let is_met = killed.status.is_none() || (way.is_remote() && number < 4);
            assert!(is_met, "{} {step}: {killed}", way.name);
            for _ in 0..2 {
                let run = way.prepare(&[]).env("CONFLICT_PREVALANCE", prevails).run();
                assert_eq!(run.status, Some(0), "{} {step}: {run}", way.name);
                for side in [here, there] {
                    for (name, content) in
                        [("k1", "1"), ("k2", "2"), ("deep/k3", "3"), ("e", "edited")]
                    {
                        let found = side.read(format!("{dir}/{name}"));
                        assert_eq!(
                            found.as_deref(),
                            Some(content.as_bytes()),
                            "{} {step} {name}: {killed}{run}",
                            way.name
                        );
                    }
                }
            }
        }
    });
}

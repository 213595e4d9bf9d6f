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

//! The state files on a real file system: taken over from osync 1.3 and given back to it,
//! damaged, interrupted, and read by the next version.

use osync::testing::state::{
    Ask, Baseline, Form, Header, Identity, Inflight, InflightNote, InflightPath, LastAction,
    Loaded, Origin, Part, Record, Recorded, RunLists, Saved, StateDir, StateHealth, StateStore,
    command,
};
use osync::testing::tree::{Entry, Extra, Inode, Kind, Pair, RelPath, Side, Stamp};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A state directory of our own with a copy of what osync 1.3 left.
fn left_by_osync_1_3(name: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    for file in fs::read_dir(data("osync-1.3-state").join(name)).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }
    dir
}

fn store(dir: &Path, id: &str) -> StateStore {
    StateStore::open(StateDir::Custom(dir.to_owned()), id).unwrap()
}

fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

fn records(baseline: &Baseline) -> BTreeMap<RelPath, Record> {
    baseline.records().map(Result::unwrap).filter(|(_, record)| !record.is_empty()).collect()
}

fn in_step(kind: Kind, ino: u64) -> Record {
    let mut initiator = Entry::new(kind);
    (initiator.ino, initiator.mode, initiator.mtime) = (ino, 0o644, Stamp::new(1_600_000_000, 7));
    let mut target = initiator.clone();
    target.ino += 1000;
    Record::in_step(initiator, target)
}

/// The tree that the data of osync 1.3 belongs to, as a run of ours would record it.
fn the_tree() -> Vec<(RelPath, Record)> {
    let kinds = [
        ("a.txt", Kind::File),
        ("docs", Kind::Dir),
        ("docs/b (copy).txt", Kind::File),
        ("docs/old stuff", Kind::Dir),
        ("docs/old stuff/c", Kind::File),
        ("from target", Kind::File),
        ("link", Kind::Symlink),
        ("ünï", Kind::Dir),
        ("ünï/日本.txt", Kind::File),
    ];
    (1..).zip(kinds).map(|(ino, (name, kind))| (path(name), in_step(kind, ino))).collect()
}

fn baseline(records: Vec<(RelPath, Record)>) -> Baseline {
    let identities = Pair::new("one", "two").map(|id| Some(Identity(id.to_owned())));
    Baseline::from_records(Header { identities, ..Header::default() }, records)
}

fn with(extra: &str) -> Baseline {
    baseline(the_tree().into_iter().chain([(path(extra), in_step(Kind::File, 99))]).collect())
}

/// Every file of a directory: its bytes, its inode, its time.
fn files(dir: &Path) -> BTreeMap<String, (Vec<u8>, u64, SystemTime)> {
    use std::os::unix::fs::MetadataExt;
    fs::read_dir(dir)
        .unwrap()
        .map(|file| {
            let file = file.unwrap();
            let about = file.metadata().unwrap();
            let content = (fs::read(file.path()).unwrap(), about.ino(), about.modified().unwrap());
            (file.file_name().into_string().unwrap(), content)
        })
        .collect()
}

fn save(store: &StateStore, after: &Baseline) -> Saved {
    store.save(&store.load().unwrap(), after, &RunLists::default()).unwrap()
}

fn set_time(file: &Path, to: SystemTime) {
    fs::File::options().append(true).open(file).unwrap().set_modified(to).unwrap();
}

#[test]
fn lists_of_osync_1_3_say_what_existed() {
    for (name, id) in
        [("plain", "plain"), ("stopped-run", "stopped"), ("failed-deletion", "failed")]
    {
        let dir = left_by_osync_1_3(name);
        let written = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_650_000_000_000_000_123);
        set_time(&dir.path().join(format!("initiator-tree-after-{id}")), written);
        let before = files(dir.path());
        let Loaded { baseline, notes, .. } = store(dir.path(), id).load().unwrap();
        assert_eq!(baseline.header().origin, Origin::Lists);
        assert_eq!(baseline.header().listed_at[Side::Initiator], Stamp::new(1_650_000_000, 123));
        let listed = Record {
            was: Pair::new(Recorded::Listed(None), Recorded::Listed(None)),
            ..Record::default()
        };
        let expected = the_tree().into_iter().map(|(path, _)| (path, listed.clone())).collect();
        assert_eq!(records(&baseline), expected, "{name}");
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert_eq!(files(dir.path()), before, "loading changes nothing");
    }
}

#[test]
fn a_deletion_that_failed_under_osync_1_3_is_still_due() {
    let dir = left_by_osync_1_3("failed-deletion");
    // as if its lists had been written without the path after all
    for side in Side::BOTH {
        let list = dir.path().join(format!("{side}-tree-after-failed"));
        let text = fs::read_to_string(&list).unwrap();
        fs::write(&list, text.replace("docs/b (copy).txt\n", "")).unwrap();
    }
    let loaded = store(dir.path(), "failed").load().unwrap();
    let record = &records(&loaded.baseline)[&path("docs/b (copy).txt")];
    assert_eq!(record.was, Pair::new(Recorded::Listed(None), Recorded::Listed(None)));
}

#[test]
fn a_path_that_was_not_decided_keeps_the_word_of_the_list_and_its_time() {
    let dir = left_by_osync_1_3("plain");
    let store = store(dir.path(), "plain");
    let before = store.load().unwrap();
    let listed_at = before.baseline.header().listed_at;
    assert!(listed_at.initiator.is_known() && listed_at.target.is_known());
    let undecided = records(&before.baseline)[&path("a.txt")].clone();
    let rest = the_tree().into_iter().filter(|(known, _)| *known != path("a.txt"));
    let after = baseline(rest.chain([(path("a.txt"), undecided.clone())]).collect());
    for saved in [Saved::Written, Saved::Unchanged] {
        assert_eq!(save(&store, &after), saved);
        let loaded = store.load().unwrap().baseline;
        assert_eq!(loaded.header().origin, Origin::Snapshot);
        assert_eq!(loaded.header().listed_at, listed_at);
        assert_eq!(records(&loaded)[&path("a.txt")], undecided);
    }
}

#[test]
fn going_back_to_osync_1_3_finds_its_own_lists() {
    let dir = left_by_osync_1_3("plain");
    let theirs = files(dir.path());
    assert_eq!(save(&store(dir.path(), "plain"), &baseline(the_tree())), Saved::Written);
    let ours = files(dir.path());
    for (name, content) in &theirs {
        assert_eq!(content, &ours[name], "{name}");
    }
    assert_eq!(ours.len(), theirs.len() + 1, "only the snapshot is new");
    let loaded = store(dir.path(), "plain").load().unwrap();
    assert_eq!(loaded.baseline.header().origin, Origin::Snapshot);
    assert_eq!(records(&loaded.baseline), the_tree().into_iter().collect());
}

#[test]
fn a_run_that_changed_nothing_writes_nothing() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir.path().join("not/there/yet"), "x y");
    assert_eq!(store.load().unwrap().baseline.header().origin, Origin::Nothing);
    assert_eq!(save(&store, &baseline(the_tree())), Saved::Written);
    let before = files(&store.dir().path());
    let later = Header { written_at: Stamp::new(9, 9), ..baseline(vec![]).header().clone() };
    assert_eq!(save(&store, &Baseline::from_records(later, the_tree())), Saved::Unchanged);
    assert_eq!(files(&store.dir().path()), before);
    assert_eq!(save(&store, &with("new")), Saved::Written);
    assert_ne!(files(&store.dir().path()), before);
}

#[test]
fn after_a_run_of_osync_1_3_the_snapshot_only_adds_to_its_lists() {
    let dir = TempDir::new().unwrap();
    let store = store(dir.path(), "t");
    let fifo = (path("pipe"), in_step(Kind::Fifo, 50));
    let ours = the_tree().into_iter().chain([fifo.clone()]).collect();
    save(&store, &baseline(ours));
    for side in Side::BOTH {
        let list = dir.path().join(format!("{side}-tree-after-t"));
        let text = fs::read_to_string(&list).unwrap();
        fs::write(&list, text.replace("a.txt\n", "a new one.txt\n") + "../evil\n/etc/passwd\n")
            .unwrap();
    }
    let Loaded { baseline, notes, .. } = store.load().unwrap();
    assert_eq!(baseline.header().origin, Origin::Lists);
    assert_eq!(baseline.header().identities[Side::Target], Some(Identity("two".to_owned())));
    let found = records(&baseline);
    assert!(!found.contains_key(&path("a.txt")));
    assert_eq!(found[&path("a new one.txt")].was.initiator, Recorded::Listed(None));
    assert!(matches!(found[&path("docs")].was.target, Recorded::Listed(Some(_))));
    assert_eq!(found[&fifo.0], fifo.1, "a fifo stands in no list");
    let warnings: Vec<_> = notes.iter().filter(|note| note.text.contains("'../evil'")).collect();
    assert_eq!(warnings.len(), 2, "{notes:?}");
}

#[test]
fn a_snapshot_without_lists_counts() {
    let dir = TempDir::new().unwrap();
    let store = store(dir.path(), "t");
    save(&store, &baseline(the_tree()));
    for side in Side::BOTH {
        fs::remove_file(dir.path().join(format!("{side}-tree-after-t"))).unwrap();
    }
    let loaded = store.load().unwrap();
    assert_eq!(loaded.baseline.header().origin, Origin::Snapshot);
    assert_eq!(save(&store, &baseline(the_tree())), Saved::Written, "the lists come back");
    assert!(dir.path().join("target-tree-after-t").exists());
}

/// What lies there when a run is ended between two of its renames.
#[test]
fn a_run_ended_while_it_recorded_is_not_taken_for_osync_1_3() {
    let lists = ["initiator-tree-after-t", "target-tree-after-t"];
    for left_old in [&lists[..], &lists[..1], &lists[1..]] {
        let dir = TempDir::new().unwrap();
        let store = store(dir.path(), "t");
        save(&store, &baseline(the_tree()));
        let old: Vec<_> = left_old.iter().map(|name| dir.path().join(name)).collect();
        for file in &old {
            fs::rename(file, file.with_extension("kept")).unwrap();
            fs::copy(file.with_extension("kept"), file).unwrap();
        }
        save(&store, &with("new"));
        for file in &old {
            fs::rename(file.with_extension("kept"), file).unwrap();
        }
        let loaded = store.load().unwrap();
        assert_eq!(loaded.baseline.header().origin, Origin::Snapshot, "{left_old:?}");
        assert!(records(&loaded.baseline).contains_key(&path("new")));
        assert_eq!(save(&store, &with("new")), Saved::Written, "the lists are put right");
        assert!(fs::read_to_string(dir.path().join(left_old[0])).unwrap().contains("new\n"));
        assert_eq!(save(&store, &with("new")), Saved::Unchanged);
    }
}

#[test]
fn an_older_list_that_came_later_is_one_of_osync_1_3() {
    let dir = TempDir::new().unwrap();
    let store = store(dir.path(), "t");
    save(&store, &baseline(the_tree()));
    let list = dir.path().join("initiator-tree-after-t");
    let old = fs::read(&list).unwrap();
    save(&store, &with("new"));
    fs::write(&list, old).unwrap();
    set_time(&list, SystemTime::now() + Duration::from_secs(5));
    let loaded = store.load().unwrap();
    assert_eq!(loaded.baseline.header().origin, Origin::Lists);
}

#[test]
fn a_copied_state_directory_is_as_good_as_the_first() {
    let (dir, copy) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    save(&store(dir.path(), "t"), &baseline(the_tree()));
    for (name, (bytes, ..)) in files(dir.path()) {
        fs::write(copy.path().join(name), bytes).unwrap();
    }
    let loaded = store(copy.path(), "t").load().unwrap();
    assert_eq!(loaded.baseline.header().origin, Origin::Snapshot);
}

#[test]
fn a_snapshot_that_cannot_be_used_is_an_error_and_never_nothing() {
    let dir = TempDir::new().unwrap();
    let store = store(dir.path(), "t");
    save(&store, &baseline(the_tree()));
    let file = dir.path().join("snapshot-t");
    let whole = fs::read(&file).unwrap();
    let mut turned = whole.clone();
    turned[whole.len() / 2] ^= 4;
    for (what, bytes, expected) in [
        ("empty", Vec::new(), "cut short"),
        ("cut", whole[..whole.len() - 1].to_vec(), "checksum"),
        ("a bit turned", turned, "checksum"),
        ("longer", [&whole[..], b"\n"].concat(), "checksum"),
        ("another file", b"a.txt\ndocs\n".to_vec(), "not a snapshot"),
    ] {
        fs::write(&file, &bytes).unwrap();
        let before = files(dir.path());
        let error = store.load().unwrap_err().to_string();
        assert!(error.contains(expected), "{what}: {error}");
        assert!(error.contains("snapshot-t") && error.contains("--initialize"), "{what}: {error}");
        assert_eq!(files(dir.path()), before, "{what}");
    }
    let fresh = store.start_over().unwrap();
    assert!(fresh.baseline.is_empty());
    store.save(&fresh, &with("new"), &RunLists::default()).unwrap();
    assert_eq!(records(&store.load().unwrap().baseline).len(), 10);
}

#[test]
fn links_and_other_oddities_among_our_files_are_not_followed() {
    use std::os::unix::fs::symlink;
    let (root, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let inside = || StateStore::open(StateDir::InReplica(root.path().to_owned()), "t").unwrap();
    let work = root.path().join(".osync_workdir");
    let save = || inside().save(&inside().start_over().unwrap(), &with("x"), &RunLists::default());

    symlink(elsewhere.path(), &work).unwrap();
    assert!(inside().load().unwrap_err().to_string().contains("does not follow"));
    fs::remove_file(&work).unwrap();
    fs::create_dir(&work).unwrap();
    symlink(elsewhere.path(), work.join("state")).unwrap();
    assert!(inside().load().unwrap_err().to_string().contains("does not follow"));
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);

    fs::remove_file(work.join("state")).unwrap();
    save().unwrap();
    assert!(!inside().load().unwrap().baseline.is_empty());
    let victim = elsewhere.path().join("victim");
    fs::write(&victim, "mine").unwrap();
    fs::remove_file(work.join("state/snapshot-t")).unwrap();
    symlink(&victim, work.join("state/snapshot-t")).unwrap();
    assert!(inside().load().unwrap_err().to_string().contains("symbolic link"));
    let list = work.join("state/initiator-tree-after-t");
    fs::remove_file(&list).unwrap();
    fs::create_dir(&list).unwrap();
    assert!(inside().start_over().unwrap_err().to_string().contains("not a regular file"));
    fs::remove_dir(&list).unwrap();
    save().unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
    assert!(fs::symlink_metadata(work.join("state/snapshot-t")).unwrap().is_file());
}

#[test]
fn troubles_with_the_directory_name_it_and_what_to_do() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for (place, id, expected) in [
        (file.clone(), "t".to_owned(), "not a directory"),
        (file.join("below"), "t".to_owned(), "not a directory"),
        (dir.path().to_owned(), "x".repeat(250), "shorter INSTANCE_ID"),
    ] {
        let store = StateStore::open(StateDir::Custom(place.clone()), &id).unwrap();
        let error = store.load().map(|_| ()).unwrap_err().to_string();
        assert!(
            error.contains(expected) && error.contains(dir.path().to_str().unwrap()),
            "{error}"
        );
    }
    for id in ["", "a/b", "a\0b"] {
        assert!(StateStore::open(StateDir::Custom(file.clone()), id).is_err(), "{id:?}");
    }
}

#[test]
fn what_a_killed_run_left_half_written_is_swept_up() {
    let dir = TempDir::new().unwrap();
    let store = store(dir.path(), "t");
    save(&store, &baseline(the_tree()));
    // a temporary file bears the name of a pid and a digest of the file's name
    let ours = ["snapshot-t", "listing-t", "listing-t.peer"].map(|name| {
        let digest = blake3::hash(name.as_bytes()).to_hex();
        dir.path().join(format!(".tmp-4000000-{}", &digest[..16]))
    });
    let other = dir.path().join(".tmp-4000000-0123456789abcdef");
    for path in &ours {
        fs::write(path, "half").unwrap();
    }
    fs::write(&other, "of another task").unwrap();
    save(&store, &with("new"));
    assert!(ours.iter().all(|path| !path.exists()) && other.exists());
    assert_eq!(files(dir.path()).len(), 6, "{:?}", files(dir.path()).keys());
}

#[test]
fn two_tasks_in_one_directory_do_not_meet() {
    let dir = TempDir::new().unwrap();
    let ids = ["a", "a-b", "ü 日本", "..", "-rf"];
    for id in ids {
        save(&store(dir.path(), id), &with(&format!("of {id}")));
    }
    for id in ids {
        let found = records(&store(dir.path(), id).load().unwrap().baseline);
        assert!(found.contains_key(&path(&format!("of {id}"))), "{id}");
    }
    let place = StateDir::Custom(dir.path().to_owned());
    assert_eq!(StateStore::instances(&place).unwrap().len(), 5);
}

#[test]
fn the_small_files_are_those_of_osync_1_3() {
    let dir = left_by_osync_1_3("failed-deletion");
    let store = store(dir.path(), "failed");
    assert_eq!(store.last_action(Side::Initiator).unwrap().as_deref(), Some("replica-tree-after"));
    assert_eq!(store.resume_count().unwrap(), 0);
    store.set_last_action(Side::Target, LastAction::Synced).unwrap();
    store.set_resume_count(3).unwrap();
    assert_eq!(store.resume_count().unwrap(), 3);
    let run = RunLists {
        deleted: Pair::new(vec![path("docs/z"), path("docs/a b")], vec![]),
        failed_deletes: Pair::new(vec![path("x")], vec![]),
    };
    store.save(&store.load().unwrap(), &with("x"), &run).unwrap();
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).ok();
    assert_eq!(read("target-last-action-failed").as_deref(), Some("synced\n"));
    assert_eq!(read("resume-count-failed").as_deref(), Some("3\n"));
    assert_eq!(read("initiator-deleted-list-failed").as_deref(), Some("docs/a b\ndocs/z\n"));
    assert_eq!(read("target-deleted-list-failed").as_deref(), Some(""));
    assert_eq!(read("initiator-failed-delete-failed").as_deref(), Some("x\n"));
    assert_eq!(read("target-failed-delete-failed"), None);
    fs::write(dir.path().join("resume-count-failed"), "many").unwrap();
    assert_eq!(store.resume_count().unwrap(), 0);
}

#[test]
fn what_is_under_way_is_known_after_a_crash() {
    let dir = TempDir::new().unwrap();
    let store = store(dir.path(), "t");
    assert_eq!(store.inflight().unwrap(), InflightNote::Missing);
    store.clear_inflight().unwrap();
    let inflight = Inflight {
        began: Pair::new(Stamp::new(5, 6), Stamp::new(7, 0)),
        mount_sessions: Pair::default(),
        paths: vec![InflightPath { path: path("a\nb"), part: Part::Subtree, to: Side::Target }],
    };
    store.set_inflight(&inflight).unwrap();
    assert_eq!(store.inflight().unwrap(), InflightNote::Whole(inflight));
    let whole = fs::read(dir.path().join("inflight-t")).unwrap();
    let cases = [
        (&b""[..], InflightNote::Empty),
        (&[0; 40], InflightNote::Empty),
        (b"../x", InflightNote::Torn),
        (&whole[..whole.len() - 1], InflightNote::Torn),
    ];
    for (left, expected) in cases {
        fs::write(dir.path().join("inflight-t"), left).unwrap();
        assert_eq!(store.inflight().unwrap(), expected, "what a power cut leaves blocks no task");
    }
    store.clear_inflight().unwrap();
    assert_eq!(store.inflight().unwrap(), InflightNote::Missing);
}

const SAVE_IN: &str = "OSYNC_TEST_SAVE_IN";

/// Two baselines that differ in most paths.
fn one_or_the_other(which: usize) -> Baseline {
    let paths =
        (0..2000).map(|n| (path(&format!("d{}/{n}-{which}", n % 50)), in_step(Kind::File, n)));
    baseline(paths.collect())
}

/// Only for the next test: the process that is killed. Does nothing otherwise.
#[test]
fn saves_until_it_is_killed() {
    let Some(dir) = std::env::var_os(SAVE_IN) else { return };
    let store = store(Path::new(&dir), "t");
    for which in [0, 1].into_iter().cycle() {
        save(&store, &one_or_the_other(which));
        println!("saved");
    }
}

#[test]
fn a_run_killed_at_any_moment_leaves_one_baseline_or_the_other() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let dir = TempDir::new().unwrap();
    let known = [0, 1].map(|which| one_or_the_other(which).body().to_vec());
    for saves in 1..25 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "state::saves_until_it_is_killed"])
            .env(SAVE_IN, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let saved = lines.filter(|line| line.ends_with("saved")).take(saves % 4 + 1).count();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(saved, saves % 4 + 1);
        let loaded = store(dir.path(), "t").load().unwrap();
        assert_eq!(loaded.baseline.header().origin, Origin::Snapshot);
        assert!(known.iter().any(|body| body == loaded.baseline.body()));
    }
    save(&store(dir.path(), "t"), &with("done"));
    assert!(files(dir.path()).keys().all(|name| !name.starts_with('.')), "all is swept up");
}

fn asked(ask: Ask, dir: &Path, ids: &[&str]) -> (StateHealth, Vec<serde_json::Value>) {
    let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
    let mut out = Vec::new();
    let verdict =
        command(ask, Form::Json, &StateDir::Custom(dir.to_owned()), &ids, &mut out).unwrap();
    let lines = String::from_utf8(out).unwrap();
    (verdict, lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// Everything that format 1 can hold.
fn everything() -> Baseline {
    let mut link = Entry::new(Kind::Symlink);
    let to = Some(b"a\xff b".to_vec().into_boxed_slice());
    link.set_extra(Extra { link: to, ..Extra::default() });
    let mut device = Entry::new(Kind::CharDevice);
    device.set_extra(Extra { rdev: 5 << 32 | 1, ..Extra::default() });
    let mut rich = Entry::new(Kind::File);
    (rich.shared_inode, rich.mode, rich.uid, rich.gid) = (true, 0o4755, 1000, 100);
    (rich.dev, rich.ino, rich.size) = (64769, 1 << 40, 123_456_789_012);
    rich.mtime = Stamp::new(1_600_000_000, 123_456_789);
    (rich.ctime, rich.btime) = (Stamp::new(1_600_000_001, 1), Stamp::new(-5, 0));
    rich.set_extra(Extra {
        acl: Some([1; 16]),
        xattr: Some([2; 16]),
        content: Some([3; 32]),
        ..Extra::default()
    });
    let pair = |a: &Entry| Record::in_step(a.clone(), a.clone());
    let one_sided = Record {
        was: Pair::new(Recorded::Listed(Some(rich.clone())), Recorded::Absent),
        skipped: Pair::new(true, false),
    };
    let listed = Record {
        was: Pair::new(Recorded::Absent, Recorded::Listed(None)),
        skipped: Pair::new(false, true),
    };
    let odd = RelPath::new(b"dir/odd\n\xfe\\name".to_vec()).unwrap();
    let records = [
        (path("dir"), pair(&Entry::new(Kind::Dir))),
        (odd, pair(&rich)),
        (path("dir/device"), pair(&device)),
        (path("link"), pair(&link)),
        (path("one-sided"), one_sided),
        (path("unknown/listed"), listed),
        (path("pipe"), pair(&Entry::new(Kind::Fifo))),
        (path("socket"), pair(&Entry::new(Kind::Socket))),
        (path("disk"), pair(&Entry::new(Kind::BlockDevice))),
    ];
    let header = Header {
        origin: Origin::Snapshot,
        identities: Pair::new(Some(Identity("first".to_owned())), None),
        written_at: Stamp::new(1_700_000_000, 500),
        version: "2.0.0".to_owned(),
        listed_at: Pair::new(Stamp::new(1_650_000_000, 0), Stamp::UNKNOWN),
        ..Header::default()
    };
    Baseline::from_records(header, records)
}

/// The golden file: whatever later versions write, this they must read.
#[test]
fn format_1_stays_readable() {
    let golden = data("snapshot-format-1");
    let loaded = store(&golden, "golden").load().unwrap();
    assert_eq!(loaded.baseline.header(), everything().header());
    assert_eq!(records(&loaded.baseline), records(&everything()));
    assert_eq!(loaded.baseline.body(), everything().body(), "and is what this version writes");
}

#[test]
fn format_2_stays_readable() {
    let golden = data("snapshot-format-2");
    let roots = Pair::new(Some(Inode { dev: 0x80_0001, ino: 2 }), Some(Inode { dev: 7, ino: 1 }));
    let header = Header { roots, ..everything().header().clone() };
    let wanted = everything().with_header(header);
    if std::env::var_os("OSYNC_WRITE_GOLDEN").is_some() {
        fs::create_dir_all(&golden).unwrap();
        let store = store(&golden, "golden");
        store.save(&store.start_over().unwrap(), &wanted, &RunLists::default()).unwrap();
    }
    let loaded = store(&golden, "golden").load().unwrap();
    assert_eq!(loaded.baseline.header(), wanted.header());
    assert_eq!(loaded.baseline.body(), wanted.body());
}

#[test]
fn state_is_shown_as_lines_of_json() {
    let dir = TempDir::new().unwrap();
    save(&store(dir.path(), "t"), &everything());
    let (verdict, lines) = asked(Ask::Show, dir.path(), &["t"]);
    assert_eq!((verdict, lines.len()), (StateHealth::Sound, 10));
    assert_eq!(lines[0]["instance"], "t");
    assert_eq!(lines[0]["origin"], "snapshot");
    assert_eq!(lines[0]["paths"], 9);
    assert_eq!(lines[0]["written_at"], "1700000000.000000500");
    assert_eq!(lines[0]["identities"]["initiator"], "first");
    assert!(lines[0]["identities"]["target"].is_null());
    let of = |path: &str| lines.iter().find(|line| line["path"] == path).unwrap();
    let odd = of("dir/odd\\n\\xFE\\\\name");
    assert_eq!(odd["path_bytes"], "6469722f6f64640afe5c6e616d65");
    assert_eq!(odd["initiator"]["was"], "seen");
    assert_eq!(odd["initiator"]["mode"], "4755");
    assert_eq!(odd["target"]["mtime"], "1600000000.123456789");
    assert!(of("dir").get("path_bytes").is_none());
    assert_eq!(of("link")["initiator"]["link"], "a\\xFF b");
    assert_eq!(of("link")["initiator"]["link_bytes"], "61ff2062");
    assert_eq!(of("one-sided")["skipped_deletion"][0], "initiator");
    assert!(of("one-sided")["target"].is_null());
    assert_eq!(of("unknown/listed")["target"]["was"], "listed");
}

#[test]
fn verifying_finds_damage_and_tells_whose_the_lists_are() {
    let dir = TempDir::new().unwrap();
    for id in ["a", "b"] {
        save(&store(dir.path(), id), &baseline(the_tree()));
    }
    let status = |lines: &[serde_json::Value]| -> Vec<String> {
        lines.iter().map(|line| line["status"].as_str().unwrap().to_owned()).collect()
    };
    let (verdict, lines) = asked(Ask::Verify, dir.path(), &[]);
    assert_eq!((verdict, status(&lines)), (StateHealth::Sound, vec!["ok".to_owned(); 6]));
    assert_eq!(lines[0]["paths"], 9);
    let named = ["snapshot-a", "initiator-tree-after-a", "target-tree-after-a"];
    for (line, name) in lines.iter().zip(named) {
        assert_eq!(line["file"].as_str(), dir.path().join(name).to_str(), "{line}");
    }

    fs::write(dir.path().join("target-tree-after-a"), "a.txt\n").unwrap();
    fs::remove_file(dir.path().join("initiator-tree-after-a")).unwrap();
    let (verdict, lines) = asked(Ask::Verify, dir.path(), &["a"]);
    assert_eq!(
        (verdict, status(&lines)),
        (
            StateHealth::Sound,
            vec!["ok".to_owned(), "missing".to_owned(), "written by osync 1.3 since".to_owned()]
        )
    );

    let mut bytes = fs::read(dir.path().join("snapshot-b")).unwrap();
    bytes[100] ^= 1;
    fs::write(dir.path().join("snapshot-b"), bytes).unwrap();
    let (verdict, lines) = asked(Ask::Verify, dir.path(), &["a", "b"]);
    assert_eq!(verdict, StateHealth::Unsound);
    assert!(lines[3]["why"].as_str().unwrap().contains("checksum"), "{lines:?}");

    let place = StateDir::Custom(dir.path().to_owned());
    let mut out = Vec::new();
    let error = command(Ask::Show, Form::Text, &place, &["c".to_owned()], &mut out)
        .unwrap_err()
        .to_string();
    assert!(error.contains("\"c\""), "{error}");
    assert!(command(Ask::Show, Form::Text, &place, &["b".to_owned()], &mut out).is_err());
    let nowhere = StateDir::Custom(dir.path().join("nowhere"));
    assert!(command(Ask::Verify, Form::Text, &nowhere, &[], &mut out).is_err());
}

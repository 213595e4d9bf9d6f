//! What every replica does, wherever it is: the same tests for a local one and for remote
//! ones with different tools.

use crate::support::replicas::{Reached, Sort};
use crate::support::trees;
use osync::testing::config::RuleText;
use osync::testing::filter::Filter;
use osync::testing::replica::{
    Access, Cleaned, DigestKind, Keep, Keeping, LocalReplica, LockRequest, Locked, LookRules, Op,
    PathError, Replica, Retention, Scan, ScanRequest, Trouble,
};
use osync::testing::state::{Identity, RunMark};
use osync::testing::tree::{Entry, Kind, RelPath, Side, Stamp, Standing, Tree};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Of most file systems, in bytes.
const LONGEST_NAME: usize = 255;

const WRITE: Access = Access::ReadWrite { create: false };

/// A replica in a fresh directory.
struct Ground {
    _dir: tempfile::TempDir,
    root: PathBuf,
    reached: Reached,
}

impl Ground {
    fn new(sort: Sort) -> Self {
        let dir = tempfile::Builder::new().prefix("osync-suite-").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        // a root whose own name is awkward
        let root = dir.path().join("the $(root)'s \"dir\" *");
        fs::create_dir(&root).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).unwrap();
        let root = root.canonicalize().unwrap();
        Ground { reached: sort.reach(&root), _dir: dir, root }
    }

    fn prepared(sort: Sort) -> Self {
        let mut ground = Ground::new(sort);
        ground.replica().prepare(WRITE).unwrap();
        ground
    }

    fn locked(sort: Sort) -> Self {
        let mut ground = Ground::prepared(sort);
        ground.replica().lock(&request()).unwrap();
        ground
    }

    fn replica(&mut self) -> &mut dyn Replica {
        &mut *self.reached.replica
    }

    fn at(&self, path: impl AsRef<[u8]>) -> PathBuf {
        trees::at(&self.root, path.as_ref())
    }

    fn write(&self, path: &str, content: &str) {
        let at = self.at(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, content).unwrap();
    }

    fn entry(&mut self, path: &str) -> Entry {
        self.replica().stat(&[rel(path)]).unwrap().remove(0).unwrap().unwrap()
    }

    fn apply(&mut self, op: Op) -> Result<(), PathError> {
        self.replica().apply(&[op]).unwrap().remove(0).map(drop)
    }

    fn scan(&mut self, filter: &Filter) -> Scan {
        scan(self.replica(), filter)
    }
}

fn scan(replica: &mut dyn Replica, filter: &Filter) -> Scan {
    replica.scan(&ScanRequest { filter, look: LookRules::default(), seen: &|_| () }).unwrap()
}

fn rel(path: impl AsRef<[u8]>) -> RelPath {
    RelPath::new(path.as_ref()).unwrap()
}

fn request() -> LockRequest {
    LockRequest { instance_id: "test".into(), force: false, stranger_resume: false }
}

/// Names that a careless tool stumbles over.
fn awkward_names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        "plain",
        " lead",
        "trail ",
        "two  spaces",
        "new\nline",
        "end\n",
        "\n",
        "\t",
        "-rf",
        "--help",
        "~",
        "$(touch x)",
        "`id`",
        "'",
        "\"",
        "\\",
        "\\n",
        "%s",
        "a//",
        "*",
        "?",
        "[a]",
        "#",
        ";",
        "&",
        "|",
        "=x",
        ">x",
        ".",
        "..x",
        "a -> b",
        "\u{e4}",
        "\u{1}\u{7f}",
        "!x",
        "@",
        ":",
    ]
    .into_iter()
    .filter(|name| !name.contains('/') && *name != ".")
    .map(|name| name.as_bytes().to_vec())
    .collect();
    names.extend([b"\xff\xfe".to_vec(), b"\x81\x82\x88".to_vec(), vec![b'x'; 255]]);
    names
}

/// Everything about a tree that all ways of looking can tell.
fn told(tree: &Tree) -> Vec<String> {
    let mut lines: Vec<String> = tree
        .ids()
        .map(|id| {
            let e = tree.entry(id);
            format!(
                "{} {:?} {:?} {:o} {}:{} {} {:?} {:?} {} {} {:?} {}",
                tree.path(id),
                tree.standing(id),
                e.kind,
                e.mode,
                e.uid,
                e.gid,
                e.size,
                e.mtime,
                e.ctime,
                e.dev,
                e.ino,
                e.link().map(|l| String::from_utf8_lossy(l).into_owned()),
                e.shared_inode
            )
        })
        .collect();
    lines.sort();
    lines
}

pub fn a_scan_tells_the_same_as_a_local_one(sort: Sort) {
    let mut ground = Ground::prepared(sort);
    for (number, name) in awkward_names().iter().enumerate() {
        let dir =
            ground.at([b"dir-", name.as_slice()].concat().get(..250.min(4 + name.len())).unwrap());
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(std::ffi::OsStr::from_bytes(name)), vec![b'x'; number]).unwrap();
        symlink(std::ffi::OsStr::from_bytes(name), dir.join("link")).unwrap();
        fs::write(ground.at(name), "").unwrap();
    }
    symlink("/a//b\nc //", ground.at("odd link")).unwrap();
    fs::hard_link(ground.at("plain"), ground.at("twin")).unwrap();
    Command::new("mkfifo").arg(ground.at("fifo")).status().unwrap();
    fs::set_permissions(ground.at("plain"), fs::Permissions::from_mode(0o6751)).unwrap();
    ground.write("empty/a/b/c/d/e/deep", "deep");
    ground.write(".osync_workdir/state/x", "ours");
    ground.write(".osync-update.push", "ours");
    let mut local = LocalReplica::new(Side::Target, &ground.root);
    local.prepare(Access::ReadOnly).unwrap();
    let filter = Filter::new(&[]);
    let expected = told(&scan(&mut local, &filter).tree);
    let found = ground.scan(&filter);
    assert_eq!(found.problems, []);
    assert_eq!(told(&found.tree), expected);
    assert_eq!(found.tree.entry(Tree::ROOT).kind, Kind::Dir);
}

pub fn what_the_filter_excludes_is_listed_and_not_entered(sort: Sort) {
    let mut ground = Ground::prepared(sort);
    ground.write("keep/skip/x", "");
    ground.write("skip/y", "");
    ground.write("we[ir]d/z", "");
    ground.write("wexrxd/z", "");
    ground.write("keep/a.tmp", "");
    let rules = ["skip/", "/we[ir]d/", "*.tmp"].map(|pattern| RuleText {
        include: false,
        from_file: false,
        pattern: pattern.replace("[ir]", "\\[ir\\]").into(),
    });
    let filter = Filter::new(&rules);
    let scan = ground.scan(&filter);
    for (path, standing) in [
        ("keep", Some(Standing::Present)),
        ("keep/skip", Some(Standing::Excluded)),
        ("keep/skip/x", None),
        ("keep/a.tmp", Some(Standing::Excluded)),
        ("skip", Some(Standing::Excluded)),
        ("skip/y", None),
        ("we[ir]d", Some(Standing::Excluded)),
        ("wexrxd/z", Some(Standing::Present)),
    ] {
        let found = scan.tree.find(&rel(path)).map(|id| scan.tree.standing(id));
        assert_eq!(found, standing, "{path}");
    }
}

pub fn what_is_there_can_be_looked_at_again(sort: Sort) {
    let mut ground = Ground::prepared(sort);
    let names = awkward_names();
    for name in &names {
        fs::write(ground.at(name), "12345").unwrap();
    }
    ground.write("d/x", "1");
    symlink("d", ground.at("dirlink")).unwrap();
    let mut paths: Vec<RelPath> = names.iter().map(rel).collect();
    paths.extend(
        ["d/x", "", "missing", "missing/below", "d/x/below", "dirlink", "d/x", "dirlink/x"]
            .map(rel),
    );
    let looks = ground.replica().stat(&paths).unwrap();
    assert_eq!(looks.len(), paths.len());
    for (path, look) in paths.iter().zip(looks) {
        let look = look.unwrap();
        match path.as_bytes() {
            b"missing" | b"missing/below" | b"d/x/below" | b"dirlink/x" => {
                assert!(look.is_none(), "{path}");
            }
            b"" => assert_eq!(look.unwrap().kind, Kind::Dir),
            b"dirlink" => assert_eq!(look.unwrap().link(), Some(&b"d"[..])),
            b"d/x" => assert_eq!(look.unwrap().size, 1),
            _ => assert_eq!(look.unwrap().size, 5, "{path}"),
        }
    }
    assert_eq!(ground.replica().stat(&[]).unwrap().len(), 0);
}

pub fn whole_subtrees_can_be_looked_at(sort: Sort) {
    let mut ground = Ground::prepared(sort);
    ground.write("d/new\nline/x y", "1");
    ground.write("d/z", "12");
    ground.write("f", "123");
    let paths = ["d", "f", "missing", "d/new\nline"].map(rel);
    let mut trees = ground.replica().look_below(&paths).unwrap().into_iter();
    let mut next = || trees.next().unwrap().unwrap();
    let dir = next().unwrap();
    assert_eq!(dir.len(), 3);
    assert_eq!(dir.entry(dir.find(&rel("new\nline/x y")).unwrap()).size, 1);
    let file = next().unwrap();
    assert_eq!((file.len(), file.entry(Tree::ROOT).size), (0, 3));
    assert!(next().is_none());
    assert_eq!(next().unwrap().len(), 1);
}

pub fn entries_are_removed_unless_they_changed(sort: Sort) {
    let mut ground = Ground::locked(sort);
    let mut ops = Vec::new();
    let names = awkward_names();
    for name in &names {
        fs::write(ground.at(name), "x").unwrap();
    }
    let paths: Vec<RelPath> = names.iter().map(rel).collect();
    let looks = ground.replica().stat(&paths).unwrap();
    for (path, look) in paths.iter().zip(looks) {
        ops.push(Op::Remove { path: path.clone(), expect: look.unwrap().unwrap() });
    }
    ground.write("changed", "old");
    ground.write("full/x", "");
    fs::create_dir(ground.at("empty")).unwrap();
    symlink("nowhere", ground.at("link")).unwrap();
    ground.write("gone", "");
    for path in ["changed", "full", "empty", "link", "gone"] {
        ops.push(Op::Remove { path: rel(path), expect: ground.entry(path) });
    }
    fs::write(ground.at("changed"), "newer").unwrap();
    fs::remove_file(ground.at("gone")).unwrap();
    let results = ground.replica().apply(&ops).unwrap();
    for (op, result) in ops.iter().zip(results) {
        let expected = match op.path().as_bytes() {
            b"changed" => Err(PathError::Changed),
            b"full" => Err(PathError::NotEmpty),
            b"gone" => Err(PathError::Vanished),
            _ => Ok(()),
        };
        assert_eq!(result.map(drop), expected, "{}", op.path());
        let stays = matches!(op.path().as_bytes(), b"changed" | b"full");
        assert_eq!(ground.at(op.path().as_bytes()).symlink_metadata().is_ok(), stays);
    }
    assert_eq!(fs::read(ground.at("changed")).unwrap(), b"newer");
}

pub fn many_operations_come_back_in_order(sort: Sort) {
    let mut ground = Ground::locked(sort);
    let paths: Vec<RelPath> = (0..350).map(|n| rel(format!("d{}/f{n}", n / 170))).collect();
    for path in &paths {
        ground.write(&path.shown(), "x");
    }
    let looks = ground.replica().stat(&paths).unwrap();
    let ops: Vec<Op> = paths
        .iter()
        .zip(looks)
        .map(|(path, look)| Op::Remove { path: path.clone(), expect: look.unwrap().unwrap() })
        .collect();
    for n in [3, 120, 121, 349] {
        fs::remove_file(ground.at(paths[n].as_bytes())).unwrap();
    }
    for n in [5, 200] {
        fs::write(ground.at(paths[n].as_bytes()), "other").unwrap();
    }
    let results = ground.replica().apply(&ops).unwrap();
    for (n, result) in results.into_iter().enumerate() {
        let expected = match n {
            3 | 120 | 121 | 349 => Err(PathError::Vanished),
            5 | 200 => Err(PathError::Changed),
            _ => Ok(()),
        };
        assert_eq!(result.map(drop), expected, "{n}");
    }
}

pub fn many_files_move_into_another_directory(sort: Sort) {
    many_files_move(sort, "new/deep", "");
}

pub fn many_files_get_other_names(sort: Sort) {
    many_files_move(sort, "old", "to ");
    many_files_move(sort, "new/deep", "to ");
}

/// Files of a directory move to `to`, each under its name behind `prefix`; some cannot.
fn many_files_move(sort: Sort, to: &str, prefix: &str) {
    let mut ground = Ground::prepared(sort);
    fs::create_dir_all(ground.at("new/deep")).unwrap();
    let mut names = awkward_names();
    names.extend((0..250).map(|n| format!("file {n}").into_bytes()));
    names.retain(|name| prefix.len() + name.len() <= LONGEST_NAME);
    ground.write("old/x", "");
    let from = |name: &[u8]| rel([b"old/", name].concat());
    let to = |name: &[u8]| rel([to.as_bytes(), b"/", prefix.as_bytes(), name].concat());
    for name in &names {
        fs::write(ground.at(from(name).as_bytes()), name).unwrap();
    }
    let froms: Vec<RelPath> = names.iter().map(|name| from(name)).collect();
    let looks = ground.replica().stat(&froms).unwrap();
    ground.write(&to(b"file 7").shown(), "somebody's");
    fs::create_dir(ground.at(to(b"file 70").as_bytes())).unwrap();
    fs::remove_file(ground.at("old/file 8")).unwrap();
    ground.write("old/file 9", "edited meanwhile");
    let ops: Vec<Op> = names
        .iter()
        .zip(looks)
        .map(|(name, look)| Op::Rename {
            from: from(name),
            to: to(name),
            expect: look.unwrap().unwrap(),
        })
        .collect();
    let results = ground.replica().apply(&ops).unwrap();
    for (name, result) in names.iter().zip(results) {
        let expected = match name.as_slice() {
            b"file 7" | b"file 70" => Err(PathError::Occupied(to(name))),
            b"file 8" => Err(PathError::Vanished),
            b"file 9" => Err(PathError::Changed),
            _ => Ok(()),
        };
        assert_eq!(result.map(drop), expected, "{}", to(name));
        let (from, to) = (ground.at(from(name).as_bytes()), ground.at(to(name).as_bytes()));
        match expected {
            Ok(()) => {
                assert!(from.symlink_metadata().is_err());
                assert_eq!(fs::read(to).unwrap(), *name);
            }
            Err(PathError::Vanished) => assert!(to.symlink_metadata().is_err()),
            Err(_) => assert!(from.exists()),
        }
    }
    assert_eq!(fs::read(ground.at(to(b"file 7").as_bytes())).unwrap(), b"somebody's");
}

pub fn many_files_get_other_times(sort: Sort) {
    let mut ground = Ground::prepared(sort);
    let outside = tempfile::NamedTempFile::new().unwrap();
    let untouched = fs::metadata(outside.path()).unwrap().mtime();
    let mut names = awkward_names();
    names.extend((0..250).map(|n| format!("file {n}").into_bytes()));
    ground.write("d/x", "");
    let path = |name: &[u8]| rel([b"d/", name].concat());
    for name in &names {
        fs::write(ground.at(path(name).as_bytes()), name).unwrap();
    }
    fs::remove_file(ground.at("d/file 6")).unwrap();
    symlink(outside.path(), ground.at("d/file 6")).unwrap();
    let paths: Vec<RelPath> = names.iter().map(|name| path(name)).collect();
    let looks = ground.replica().stat(&paths).unwrap();
    let looks: Vec<Entry> = looks.into_iter().map(|look| look.unwrap().unwrap()).collect();
    fs::remove_file(ground.at("d/file 8")).unwrap();
    ground.write("d/file 9", "edited meanwhile");
    fs::remove_file(ground.at("d/file 10")).unwrap();
    symlink(outside.path(), ground.at("d/file 10")).unwrap();
    let time = |name: &[u8], n: usize| match name {
        b"file 70" => Stamp::new(-2, 500_000_000),
        b"file 71" => Stamp::new(-7, 0),
        _ => Stamp::new(1_600_000_000 + i64::try_from(n).unwrap(), 123_456_789),
    };
    let op = |(n, (path, look)): (usize, (&RelPath, &Entry))| Op::SetMtime {
        path: path.clone(),
        mtime: time(&names[n], n),
        expect: Some(look.clone()),
    };
    let ops: Vec<Op> = paths.iter().zip(&looks).enumerate().map(op).collect();
    let results = ground.replica().apply(&ops).unwrap();
    let after = ground.replica().stat(&paths).unwrap();
    for (n, (result, after)) in results.into_iter().zip(after).enumerate() {
        let expected = match names[n].as_slice() {
            b"file 8" => Err(PathError::Vanished),
            b"file 9" | b"file 10" => Err(PathError::Changed),
            _ => Ok(()),
        };
        assert_eq!(result.map(drop), expected, "{}", paths[n]);
        // whole seconds do for a touch that knows no others
        let is_before_1970 = names[n] == b"file 70";
        if expected.is_ok() && !(is_before_1970 && sort.has_plain_touch()) {
            let set = after.unwrap().unwrap().mtime;
            let is_set = set.compare_coarsely(time(&names[n], n)).is_eq();
            assert!(is_set, "{} {set:?}", paths[n]);
        }
    }
    assert!(ground.at("d/file 8").symlink_metadata().is_err());
    assert_eq!(fs::metadata(outside.path()).unwrap().mtime(), untouched);
    // a time before 1970 is no change of what it was given to
    for name in ["d/file 70", "d/file 71"] {
        let op = Op::Remove { path: rel(name), expect: ground.entry(name) };
        assert_eq!(ground.apply(op), Ok(()), "{name}");
        assert!(ground.at(name).symlink_metadata().is_err(), "{name}");
    }
}

/// Each frees the name that the next one takes.
pub fn renames_are_made_in_their_order(sort: Sort) {
    let mut ground = Ground::prepared(sort);
    let chain = [("x", "y"), ("w", "x"), ("v", "w")];
    ["old/v", "old/w", "old/x"].iter().for_each(|file| ground.write(file, file));
    let ops: Vec<Op> = chain
        .iter()
        .map(|(from, to)| {
            let [from, to] = [from, to].map(|name| rel(format!("old/{name}")));
            let expect = ground.entry(&from.shown());
            Op::Rename { from, to, expect }
        })
        .collect();
    for result in ground.replica().apply(&ops).unwrap() {
        result.unwrap();
    }
    assert_eq!(fs::read_to_string(ground.at("old/w")).unwrap(), "old/v");
}

pub fn renames_never_overwrite(sort: Sort) {
    let mut ground = Ground::locked(sort);
    ground.write("a", "a");
    ground.write("new\nline/b", "b");
    ground.write("-taken", "t");
    fs::create_dir(ground.at("dir")).unwrap();
    let rename = |ground: &mut Ground, from: &str, to: &str| {
        let expect = ground.entry(from);
        ground.apply(Op::Rename { from: rel(from), to: rel(to), expect })
    };
    for (from, to, expected) in [
        ("a", "-taken", Err(PathError::Occupied(rel("-taken")))),
        ("a", "dir", Err(PathError::Occupied(rel("dir")))),
        ("a", "dir/-a b", Ok(())),
        ("new\nline/b", "b\n", Ok(())),
        ("new\nline", "dir/moved", Ok(())),
    ] {
        assert_eq!(rename(&mut ground, from, to), expected, "{from} to {to}");
    }
    let missing = rename(&mut ground, "-taken", "no/such/dir");
    assert!(matches!(missing, Err(PathError::Failed { .. })), "{missing:?}");
    assert_eq!(fs::read(ground.at("dir/-a b")).unwrap(), b"a");
    assert_eq!(fs::read(ground.at("b\n")).unwrap(), b"b");
    assert!(ground.at("dir/moved").is_dir());
    assert_eq!(fs::read(ground.at("-taken")).unwrap(), b"t");
}

pub fn what_is_set_aside_keeps_its_path_and_what_was_kept(sort: Sort) {
    let mut ground = Ground::locked(sort);
    let aside = |ground: &mut Ground, path: &str, keeping| {
        let expect = ground.entry(path);
        ground.apply(Op::SetAside { path: rel(path), expect, keeping })
    };
    let dated = Keeping::dated(Keep::Deleted);
    let replacing = Keeping::replacing(Keep::Backup);
    let kept = |ground: &Ground, path: &str| fs::read(ground.at(format!(".osync_workdir/{path}")));
    for round in ["one", "two", "three"] {
        ground.write("d/new\nline", round);
        assert_eq!(aside(&mut ground, "d/new\nline", dated), Ok(()));
        assert_eq!(kept(&ground, "deleted/d/new\nline").unwrap(), round.as_bytes());
        ground.write("-f", round);
        assert_eq!(aside(&mut ground, "-f", replacing), Ok(()));
        assert_eq!(kept(&ground, "backup/-f").unwrap(), round.as_bytes());
    }
    assert_eq!(fs::read_dir(ground.at(".osync_workdir/deleted/d")).unwrap().count(), 3);
    assert_eq!(fs::read_dir(ground.at(".osync_workdir/backup")).unwrap().count(), 1);
    // a whole directory, where a file of its name and a file for its parent are kept
    ground.write("tree/sub/x", "x");
    ground.write(".osync_workdir/deleted/tree", "an older file");
    assert_eq!(aside(&mut ground, "tree/sub", dated), Ok(()));
    assert_eq!(kept(&ground, "deleted/tree/sub/x").unwrap(), b"x");
    let arrivals = fs::read(ground.at(".osync_workdir/deleted.arrivals")).unwrap();
    assert!(arrivals.ends_with(b" o tree/sub\n"), "{arrivals:?}");
    // a directory is never replaced by a backup, however often
    ground.write("-f", "four");
    fs::remove_file(ground.at(".osync_workdir/backup/-f")).unwrap();
    ground.write(".osync_workdir/backup/-f/inside", "inside");
    assert_eq!(aside(&mut ground, "-f", replacing), Ok(()));
    assert_eq!(kept(&ground, "backup/-f").unwrap(), b"four");
    assert_eq!(fs::read_dir(ground.at(".osync_workdir/backup")).unwrap().count(), 2);
}

pub fn long_names_can_be_set_aside_again_and_again(sort: Sort) {
    let mut ground = Ground::locked(sort);
    let name = "l".repeat(255);
    for round in ["one", "two", "three"] {
        ground.write(&name, round);
        let expect = ground.entry(&name);
        let keeping = Keeping::dated(Keep::Deleted);
        let op = Op::SetAside { path: rel(&name), expect, keeping };
        assert_eq!(ground.apply(op), Ok(()));
    }
    assert_eq!(fs::read_dir(ground.at(".osync_workdir/deleted")).unwrap().count(), 3);
    ground.write(&name, "four");
    let expect = ground.entry(&name);
    assert_eq!(ground.apply(Op::KeepCopy { path: rel(&name), expect }), Ok(()));
    assert!(ground.at(&name).exists());
    assert_eq!(fs::read_dir(ground.at(".osync_workdir/backup")).unwrap().count(), 1);
}

pub fn links_lead_nowhere_out_of_the_replica(sort: Sort) {
    let outside = tempfile::tempdir().unwrap();
    let mut ground = Ground::locked(sort);
    ground.write("d/f", "mine");
    ground.write("f", "mine");
    let expect = ground.entry("d/f");
    let top = ground.entry("f");
    fs::remove_dir_all(ground.at("d")).unwrap();
    fs::write(outside.path().join("f"), "precious").unwrap();
    symlink(outside.path(), ground.at("d")).unwrap();
    let before = fs::metadata(outside.path().join("f")).unwrap();
    for op in [
        Op::Remove { path: rel("d/f"), expect: expect.clone() },
        Op::Rename { from: rel("d/f"), to: rel("g"), expect: expect.clone() },
        Op::Rename { from: rel("f"), to: rel("d/g"), expect: top.clone() },
        Op::SetAside {
            path: rel("d/f"),
            expect: expect.clone(),
            keeping: Keeping::dated(Keep::Deleted),
        },
        Op::MakeDir { path: rel("d/new"), mode: 0o755 },
        Op::SetMtime { path: rel("d/f"), mtime: Stamp::new(5, 0), expect: None },
        Op::SetMetadata {
            path: rel("d/f"),
            expect: expect.clone(),
            mode: Some(0o777),
            uid: None,
            gid: None,
        },
    ] {
        assert!(ground.apply(op.clone()).is_err(), "{op:?}");
    }
    for keep in [Keep::Backup, Keep::Deleted] {
        let at = ground.at(format!(".osync_workdir/{}", keep.name()));
        let _ = fs::remove_dir_all(&at);
        symlink(outside.path(), &at).unwrap();
        let keeping = Keeping::replacing(keep);
        let op = Op::SetAside { path: rel("f"), expect: top.clone(), keeping };
        assert!(ground.apply(op).is_err());
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    let after = fs::metadata(outside.path().join("f")).unwrap();
    assert_eq!((before.mode(), before.mtime()), (after.mode(), after.mtime()));
    assert!(ground.at("f").exists());
}

pub fn directories_modes_and_times_are_set(sort: Sort) {
    let mut ground = Ground::locked(sort);
    ground.write("file", "");
    ground.write("in the way", "");
    symlink("file", ground.at("link")).unwrap();
    for (path, expected) in [
        ("new\ndir", Ok(())),
        ("new\ndir/below", Ok(())),
        ("new\ndir", Ok(())),
        ("in the way", Err(PathError::Occupied(rel("in the way")))),
        ("link", Err(PathError::Occupied(rel("link")))),
    ] {
        assert_eq!(ground.apply(Op::MakeDir { path: rel(path), mode: 0o750 }), expected, "{path}");
    }
    assert_eq!(ground.entry("new\ndir").mode, 0o750);
    for path in ["file", "link"] {
        let expect = ground.entry(path);
        let op =
            Op::SetMetadata { path: rel(path), expect, mode: Some(0o640), uid: None, gid: None };
        assert_eq!(ground.apply(op), Ok(()), "{path}");
    }
    assert_eq!(ground.entry("file").mode, 0o640);
    for path in ["new\ndir", "link", "file"] {
        let mtime = Stamp::new(1_600_000_000, 123_456_789);
        assert_eq!(
            ground.apply(Op::SetMtime { path: rel(path), mtime, expect: None }),
            Ok(()),
            "{path}"
        );
        let set = ground.entry(path).mtime;
        assert_eq!(set.compare_coarsely(mtime), std::cmp::Ordering::Equal, "{path} {set:?}");
    }
}

pub fn owners_are_set_by_whoever_may(sort: Sort) {
    let mut ground = Ground::locked(sort);
    ground.write("file", "");
    symlink("file", ground.at("link")).unwrap();
    let may = rustix::process::geteuid().is_root() && sort != Sort::Nobody;
    for path in ["file", "link"] {
        let expect = ground.entry(path);
        let op = Op::SetMetadata {
            path: rel(path),
            expect,
            mode: Some(0o4711),
            uid: Some(4242),
            gid: Some(1),
        };
        let done = ground.apply(op);
        if may {
            assert_eq!(done, Ok(()), "{path}");
            let now = ground.entry(path);
            assert_eq!((now.uid, now.gid), (4242, 1), "{path}");
            assert!(path == "link" || now.mode == 0o4711);
        } else {
            assert!(matches!(done, Err(PathError::Failed { .. })), "{done:?}");
        }
    }
}

pub fn a_replica_is_found_or_made_or_refused(sort: Sort) {
    let ground = Ground::new(sort);
    let missing = ground.at("not/there");
    for (access, expected) in [
        (Access::ReadOnly, false),
        (Access::ReadWrite { create: false }, false),
        (Access::ReadWrite { create: true }, true),
    ] {
        let mut reached = sort.reach(&missing);
        let prepared = reached.replica.prepare(access);
        assert_eq!(prepared.as_ref().is_ok_and(|p| p.created), expected, "{prepared:?}");
        if let Err(error) = prepared {
            assert_eq!(error.trouble, Trouble::Missing);
            let text = error.to_string();
            assert!(text.contains("no such directory") && text.contains("not/there"), "{text}");
        }
        assert_eq!(missing.exists(), expected);
    }
    ground.write("file", "");
    let text = sort.reach(&ground.at("file")).replica.prepare(WRITE).unwrap_err().to_string();
    assert!(text.contains("not a directory"), "{text}");
    let mut again = sort.reach(&missing);
    let prepared = again.replica.prepare(WRITE).unwrap();
    assert!(!prepared.created && prepared.free_kib > 0);
    assert_eq!(again.replica.root(), missing.canonicalize().unwrap());
}

pub fn a_lock_is_taken_once_and_given_back(sort: Sort) {
    let mut ground = Ground::prepared(sort);
    let lock = ground.at(".osync_workdir/lock");
    let taken = ground.replica().lock(&request()).unwrap();
    assert_eq!(taken.how, Locked::Free);
    // what time it is by the clock that its files get their ctimes from
    let made = fs::metadata(ground.at(".osync_workdir/lock")).unwrap().ctime();
    assert_eq!(taken.at.secs(), made);
    let content = fs::read_to_string(&lock).unwrap();
    let pid: u32 = content.strip_suffix("@test\n").unwrap().parse().unwrap();
    // a peer's lock is that of a process of its own machine
    let is_ours = pid == std::process::id();
    assert_eq!(is_ours, !matches!(sort, Sort::Peer | Sort::PeerLibssh2));
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    let by = fs::read_to_string(ground.at(".osync_workdir/lock.by")).unwrap();
    assert!(by.contains(&format!("pid={pid}")) && by.contains("host="), "{by}");
    ground.replica().unlock().unwrap();
    // nothing is left in the work directory, which goes too where the lock has made it
    assert_eq!(fs::read_dir(ground.at(".osync_workdir")).map_or(0, Iterator::count), 0);
    // somebody else's lock stays
    ground.replica().lock(&request()).unwrap();
    fs::write(&lock, "1@other\n").unwrap();
    ground.replica().unlock().unwrap();
    assert_eq!(fs::read_to_string(&lock).unwrap(), "1@other\n");
}

pub fn a_lock_that_is_there_counts_or_is_taken_over(sort: Sort) {
    let mut living = Command::new("sleep").arg("600").spawn().unwrap();
    let mut dead = Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let (alive, dead) = (living.id(), dead.id());
    // content, same instance; with --force-unlock
    for (content, taken, forced) in [
        (format!("{alive}@test\n"), false, true),
        (format!("{dead}@test\n"), true, true),
        // bare numbers, as other tools write them
        (format!("{alive}\n"), false, true),
        (format!("{dead}\n"), true, true),
        // what a power cut leaves
        (String::new(), true, true),
        ("\0\0\0\0\0\0\0\0".to_owned(), true, true),
        ("rubbish\n".to_owned(), false, true),
    ] {
        for force in [false, true] {
            let mut ground = Ground::prepared(sort);
            fs::create_dir(ground.at(".osync_workdir")).unwrap();
            fs::set_permissions(ground.at(".osync_workdir"), fs::Permissions::from_mode(0o777))
                .unwrap();
            let lock = ground.at(".osync_workdir/lock");
            fs::write(&lock, &content).unwrap();
            let got = ground.replica().lock(&LockRequest { force, ..request() });
            let expected = if force { forced } else { taken };
            assert_eq!(got.is_ok(), expected, "{content:?} force {force}: {got:?}");
            match got {
                Ok(locked) => {
                    assert!(matches!(locked.how, Locked::TakenOver { .. }), "{locked:?}");
                    ground.replica().unlock().unwrap();
                    assert!(!lock.exists());
                }
                Err(error) => {
                    assert_eq!(fs::read_to_string(&lock).unwrap(), content);
                    let may_be_given_back = content.starts_with(&alive.to_string());
                    assert_eq!(error.trouble == Trouble::Locked, may_be_given_back, "{error}");
                }
            }
        }
    }
    living.kill().unwrap();
    living.wait().unwrap();
}

pub fn an_identity_is_given_and_read_again(sort: Sort) {
    let mut ground = Ground::prepared(sort);
    assert_eq!(ground.replica().identity().unwrap().known(), None);
    ground.replica().lock(&request()).unwrap();
    let identity = Identity("0123abcd".into());
    ground.replica().set_identity(&identity).unwrap();
    assert_eq!(ground.replica().identity().unwrap().known(), Some(&identity));
    // two tasks, and the later run of one of them
    let mark = |instance: &str, number| RunMark {
        peer: "across".to_owned(),
        instance: instance.to_owned(),
        place: "place".to_owned(),
        number,
    };
    for (instance, number) in [("one", 1), ("*", 7), ("one", 2)] {
        ground.replica().set_run(&mark(instance, number)).unwrap();
    }
    ground.replica().unlock().unwrap();
    let mut again = sort.reach(&ground.root);
    again.replica.prepare(Access::ReadOnly).unwrap();
    assert_eq!(again.replica.identity().unwrap().known(), Some(&identity));
    assert_eq!(again.replica.runs().unwrap(), [mark("*", 7), mark("one", 2)]);
}

pub fn hooks_run_with_their_variables_and_within_their_time(sort: Sort) {
    let mut ground = Ground::prepared(sort);
    let env = [("OSYNC_X".to_owned(), "a 'b'\n$c".to_owned())];
    let mut run = |command: &str, limit| ground.replica().run_hook(command, &env, limit).unwrap();
    let done = run("printf '%s|\\n' \"$OSYNC_X\"; echo err >&2; exit 3", None);
    assert_eq!(done.status, Some(3));
    // of two streams, either may come first
    let mut lines: Vec<_> = done.output.split_inclusive(|b| *b == b'\n').collect();
    lines.sort();
    assert_eq!(lines, [&b"$c|\n"[..], b"a 'b'\n", b"err\n"]);
    let done = run("cat; echo done", Some(Duration::from_secs(100)));
    assert_eq!((done.status, &done.output[..]), (Some(0), &b"done\n"[..]));
    let marker = ground.at("alive");
    let command =
        format!("(trap '' TERM; while :; do touch '{}'; sleep 0.1; done) & sleep 100", "alive");
    let command = format!("cd {} && {command}", shell_words::quote(&ground.root.to_string_lossy()));
    let started = std::time::Instant::now();
    let done = ground.replica().run_hook(&command, &[], Some(Duration::from_secs(1))).unwrap();
    assert_eq!(done.status, None);
    assert!(started.elapsed() < Duration::from_secs(60));
    // its child that does not obey TERM is gone as well
    let end = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        let _ = fs::remove_file(&marker);
        std::thread::sleep(Duration::from_millis(300));
        if !marker.exists() {
            break;
        }
        assert!(std::time::Instant::now() < end, "a child of the hook lives on");
    }
}

pub fn cleaning_leaves_what_is_fresh(sort: Sort) {
    let ground = Ground::prepared(sort);
    let big = "x".repeat(1_234_567);
    ground.write(".osync_workdir/deleted/d/new\nline", &big);
    ground.write(".osync_workdir/deleted/d/x", "x");
    ground.write(".osync_workdir/backup/y", "y");
    let mut reached = sort.reach(&ground.root);
    reached.replica.prepare(WRITE).unwrap();
    let retention = Retention { backup_days: 1, deleted_days: 1 };
    let nothing = Cleaned { kept: Some(1_234_569), ..Cleaned::default() };
    assert_eq!(reached.replica.clean(retention).unwrap(), nothing);
    assert!(ground.at(".osync_workdir/deleted/d/x").exists());
    assert!(ground.at(".osync_workdir/backup/y").exists());
    let for_ever = Retention { backup_days: 0, deleted_days: 0 };
    assert_eq!(reached.replica.clean(for_ever).unwrap(), nothing);
}

fn what_cannot_be_read_is_unknown(sort: Sort) {
    let mut ground = Ground::prepared(sort);
    ground.write("closed/x", "");
    ground.write("unsearchable/x", "");
    ground.write("secret", "");
    ground.write("new\nline closed/x", "");
    ground.write("open", "");
    for (path, mode) in
        [("closed", 0o000), ("unsearchable", 0o444), ("secret", 0o000), ("new\nline closed", 0)]
    {
        fs::set_permissions(ground.at(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let scan = ground.scan(&Filter::new(&[]));
    for (path, standing) in [
        ("closed", Standing::Unknown),
        ("unsearchable", Standing::Unknown),
        ("secret", Standing::Unknown),
        ("new\nline closed", Standing::Unknown),
        ("open", Standing::Present),
    ] {
        let id = scan.tree.find(&rel(path)).unwrap();
        assert_eq!(scan.tree.standing(id), standing, "{path}");
    }
    let mut paths: Vec<String> =
        scan.problems.iter().map(|p| p.path.clone().unwrap().shown()).collect();
    paths.sort();
    assert_eq!(paths, ["closed", "new\\nline closed", "secret", "unsearchable"]);
    for path in ["closed", "unsearchable", "new\nline closed"] {
        fs::set_permissions(ground.at(path), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn what_a_user_cannot_read_is_unknown_and_a_problem() {
    what_cannot_be_read_is_unknown(Sort::Nobody);
    what_cannot_be_read_is_unknown(Sort::PeerNobody);
}

/// Where `find -printf` does not know them, `stat` does.
#[test]
fn directories_over_there_tell_when_they_were_made() {
    let mut ground = Ground::prepared(Sort::Ssh);
    ground.write("dir\nname/below/x", "");
    let mut local = LocalReplica::new(Side::Target, &ground.root);
    local.prepare(Access::ReadOnly).unwrap();
    let paths = [rel(""), rel("dir\nname"), rel("dir\nname/below")];
    let expected: Vec<Stamp> =
        local.stat(&paths).unwrap().into_iter().map(|e| e.unwrap().unwrap().btime).collect();
    let looks = ground.replica().stat(&paths).unwrap();
    let again: Vec<Stamp> = looks.into_iter().map(|e| e.unwrap().unwrap().btime).collect();
    assert_eq!(again, expected);
    let tree = ground.scan(&Filter::new(&[])).tree;
    let scanned = paths.each_ref().map(|path| tree.entry(tree.find(path).unwrap()).btime);
    assert_eq!(scanned.as_slice(), expected);
}

#[test]
fn digests_are_sha_256() {
    for sort in [Sort::Local, Sort::Ssh, Sort::BusyBox, Sort::Bsd, Sort::Peer] {
        let mut ground = Ground::prepared(sort);
        ground.write("a\\b\nc", "osync\n");
        ground.write("d/x", "");
        let paths = ["a\\b\nc", "d", "missing", "missing/x"].map(rel);
        let look = |look: Result<Option<Entry>, PathError>| {
            look.ok().flatten().unwrap_or(Entry::new(Kind::File))
        };
        let looks = ground.replica().stat(&paths).unwrap().into_iter().map(look);
        let mut scanned: Vec<(RelPath, Entry)> = paths.into_iter().zip(looks).collect();
        let sums = ground.replica().digest(DigestKind::Sha256, &scanned).unwrap();
        let mut known = Command::new("sha256sum");
        let said = known.stdin(fs::File::open(ground.at("a\\b\nc")).unwrap()).output().unwrap();
        let hex: String = sums[0].as_ref().unwrap().iter().map(|b| format!("{b:02x}")).collect();
        assert!(String::from_utf8(said.stdout).unwrap().starts_with(&hex), "{sort:?}");
        assert_eq!(sums[1], Err(PathError::Changed));
        assert_eq!(sums[2], Err(PathError::Vanished));
        assert!(sums[3].is_err());
        // another file stands there by now
        scanned.truncate(1);
        let time = scanned[0].1.mtime;
        let change: [fn(&mut Entry); 2] = [|e| e.ino += 1, |e| e.size += 1];
        for change in change {
            let mut other = scanned.clone();
            change(&mut other[0].1);
            let sums = ground.replica().digest(DigestKind::Sha256, &other).unwrap();
            assert_eq!(sums, [Err(PathError::Changed)], "{sort:?}");
        }
        scanned[0].1.mtime = Stamp::new(time.secs() - 1, time.nanos());
        let sums = ground.replica().digest(DigestKind::Sha256, &scanned).unwrap();
        assert_eq!(sums, [Err(PathError::Changed)], "{sort:?}");
    }
}

/// Tests with names that are no ASCII text. yash reads text of its locale only; what else it is
/// asked for ends with an error (docs/remote.md).
const OF_ANY_BYTES: [&str; 7] = [
    "entries_are_removed_unless_they_changed",
    "what_is_there_can_be_looked_at_again",
    "whole_subtrees_can_be_looked_at",
    "many_operations_come_back_in_order",
    "many_files_move_into_another_directory",
    "many_files_get_other_names",
    "many_files_get_other_times",
];

/// All that every replica does, one test after the other behind one server.
fn everything(sort: Sort) {
    if let Some(missing) = sort.lacks() {
        eprintln!("skipped: there is no {missing}");
        return;
    }
    for (name, test) in SUITE {
        if sort == Sort::Sh("yash") && OF_ANY_BYTES.contains(name) {
            continue;
        }
        eprintln!("{sort:?}: {name}");
        test(sort);
    }
    // yash does not end a hook in time
    if sort != Sort::Sh("yash") {
        hooks_run_with_their_variables_and_within_their_time(sort);
    }
}

#[test]
fn toybox_does_all_that_a_replica_needs() {
    everything(Sort::Toybox);
}

/// Those of OpenBSD and of FreeBSD, ported to Linux.
#[test]
fn userlands_of_the_bsds_do_all_that_a_replica_needs() {
    everything(Sort::Userland("lobase"));
    everything(Sort::Userland("chimerautils"));
}

#[test]
fn bash_as_sh_does_all_that_a_replica_needs() {
    everything(Sort::Sh("bash"));
}

#[test]
fn mksh_as_sh_does_all_that_a_replica_needs() {
    everything(Sort::Sh("mksh"));
}

#[test]
fn yash_as_sh_does_all_that_a_replica_needs() {
    everything(Sort::Sh("yash"));
}

#[test]
fn a_chroot_without_proc_and_devices_does_all_that_a_replica_needs() {
    everything(Sort::Chroot);
}

/// The login shell only starts the `sh` that does the work.
#[test]
fn any_login_shell_leads_to_the_shell_that_does_the_work() {
    for shell in ["bash", "dash", "mksh", "yash", "tcsh", "fish", "zsh"] {
        let sort = Sort::Login(shell);
        if let Some(missing) = sort.lacks() {
            eprintln!("skipped: there is no {missing}");
            continue;
        }
        eprintln!("{shell}");
        what_is_there_can_be_looked_at_again(sort);
        a_lock_is_taken_once_and_given_back(sort);
        hooks_run_with_their_variables_and_within_their_time(sort);
    }
}

macro_rules! suite {
    ($module:ident, $sort:expr, [$($test:ident),* $(,)?]) => {
        mod $module {
            use super::Sort;
            $(#[test] fn $test() { super::$test($sort); })*
        }
    };
}

macro_rules! suites {
    ([$($test:ident),* $(,)?] $sorts:tt) => {
        const SUITE: &[(&str, fn(Sort))] = &[$((stringify!($test), $test)),*];
        suites!(@each [$($test),*] $sorts);
    };
    (@each $tests:tt {$($module:ident: $sort:expr),* $(,)?}) => {
        $(suite!($module, $sort, $tests);)*
    };
}

suites! {
    [
            a_scan_tells_the_same_as_a_local_one,
            what_the_filter_excludes_is_listed_and_not_entered,
            what_is_there_can_be_looked_at_again,
            whole_subtrees_can_be_looked_at,
            entries_are_removed_unless_they_changed,
            many_operations_come_back_in_order,
            many_files_move_into_another_directory,
            many_files_get_other_names,
            many_files_get_other_times,
            renames_are_made_in_their_order,
            renames_never_overwrite,
            what_is_set_aside_keeps_its_path_and_what_was_kept,
            long_names_can_be_set_aside_again_and_again,
            links_lead_nowhere_out_of_the_replica,
            directories_modes_and_times_are_set,
            owners_are_set_by_whoever_may,
            a_replica_is_found_or_made_or_refused,
            a_lock_is_taken_once_and_given_back,
            a_lock_that_is_there_counts_or_is_taken_over,
            an_identity_is_given_and_read_again,
            cleaning_leaves_what_is_fresh,
    ]
    {
    local: Sort::Local,
    ssh: Sort::Ssh,
    libssh2: Sort::Libssh2,
    busybox: Sort::BusyBox,
    bsd: Sort::Bsd,
    peer: Sort::Peer,
    peer_libssh2: Sort::PeerLibssh2,
    }
}

macro_rules! remote_suites {
    ($($module:ident: $sort:expr),* $(,)?) => {
        $(suite!($module, $sort, [
            hooks_run_with_their_variables_and_within_their_time,
        ]);)*
    };
}

remote_suites! {
    ssh_only: Sort::Ssh,
    libssh2_only: Sort::Libssh2,
    busybox_only: Sort::BusyBox,
    bsd_only: Sort::Bsd,
    peer_only: Sort::Peer,
}

/// For tests elsewhere that need the path type.
#[allow(dead_code)]
fn _path(_: &Path) {}

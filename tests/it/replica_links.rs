//! Links that count as what they point at (COPY_SYMLINKS, KEEP_DIRLINKS): a remote replica,
//! whatever its tools, sees and does what a local one does.

use crate::support::replicas::{Reached, Sort};
use crate::support::trees;
use osync::testing::filter::Filter;
use osync::testing::replica::{
    Access, DigestKind, Keep, Keeping, LocalReplica, LookRules, Op, OpResult, PathError, Replica,
    Scan, ScanRequest, Wanted,
};
use osync::testing::tree::{Entry, Kind, RelPath, Side, Stamp, Tree};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;

const WRITE: Access = Access::ReadWrite { create: false };
const REMOTE: [Sort; 5] = [Sort::Ssh, Sort::BusyBox, Sort::Bsd, Sort::Libssh2, Sort::Peer];

/// A replica, and beside it a local one of the same directory.
struct Ground {
    dir: tempfile::TempDir,
    root: PathBuf,
    reached: Reached,
    local: LocalReplica,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Copy,
    Keep,
}

impl Ground {
    fn new(sort: Sort) -> Self {
        let dir = tempfile::Builder::new().prefix("osync-links-").tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap().join("root");
        fs::create_dir(&root).unwrap();
        let local = LocalReplica::new(Side::Target, &root);
        let mut ground = Ground { reached: sort.reach(&root), dir, root, local };
        ground.local.prepare(WRITE).unwrap();
        ground.reached.replica.prepare(WRITE).unwrap();
        ground
    }

    fn at(&self, path: &str) -> PathBuf {
        trees::at(&self.root, path.as_bytes())
    }

    /// Links of every sort: near and far, one behind another, in circles, to nothing.
    fn furnish(&self) {
        trees::make(
            &self.root,
            "f real/f one\nf real/sub/g two\nd real/empty\nf own three\nf real/new\\nline x",
        );
        let outside = self.dir.path().join("outside");
        trees::make(&outside, "f far/x far\nf far/y\\n y\nf skipped/z z");
        for (to, at) in [
            ("real", "near"),
            ("real/f", "file"),
            ("nowhere", "dangling"),
            ("../outside/far", "out"),
            ("../sub", "real/empty/side"),
            (".", "here"),
            ("..", "real/up"),
            ("../near", "real/sub/again"),
            ("two", "one"),
            ("one", "two"),
            ("../outside/skipped", "skip"),
            ("real", "odd\nlink"),
        ] {
            symlink(to, self.at(at)).unwrap();
        }
        symlink("../../root/real/sub", outside.join("far/back")).unwrap();
    }

    fn scan(&mut self, mode: Mode) -> [Scan; 2] {
        let rule = osync::testing::config::RuleText {
            include: false,
            from_file: false,
            pattern: b"/skip".to_vec(),
        };
        let filter = Filter::new(&[rule]);
        let request = ScanRequest {
            filter: &filter,
            look: LookRules {
                copy_symlinks: mode == Mode::Copy,
                keep_dirlinks: mode == Mode::Keep,
                attributes: Wanted { acl: false, xattr: true, all_spaces: false },
            },
            seen: &|_| (),
        };
        [self.local.scan(&request).unwrap(), self.reached.replica.scan(&request).unwrap()]
    }
}

fn rel(path: &str) -> RelPath {
    RelPath::new(path).unwrap()
}

/// All that matters of a tree, as lines.
fn told(tree: &Tree) -> Vec<String> {
    let mut lines: Vec<String> = tree
        .ids()
        .map(|id| {
            let e = tree.entry(id);
            let standing = tree.standing(id);
            let path = tree.path(id).shown();
            if standing != osync::testing::tree::Standing::Present {
                return format!("{path} {standing:?}");
            }
            let link = e.link().map(<[u8]>::to_vec);
            let xattr = e.extra().xattr.is_some();
            format!(
                "{path} {:?} {:?} {} {:?} {} {xattr} {:o}",
                e.kind, link, e.size, e.mtime, e.ino, e.mode
            )
        })
        .collect();
    lines.sort();
    lines
}

fn problems(scan: &Scan) -> Vec<String> {
    let mut all: Vec<String> =
        scan.problems.iter().map(|p| p.path.as_ref().unwrap().shown()).collect();
    all.sort();
    all
}

#[test]
fn a_remote_replica_sees_behind_links_what_a_local_one_sees() {
    for sort in REMOTE {
        for mode in [Mode::Keep, Mode::Copy] {
            let mut ground = Ground::new(sort);
            ground.furnish();
            let has_tools = matches!(sort, Sort::Ssh | Sort::Libssh2 | Sort::Peer);
            for path in ["real", "real/f", "near/sub"].into_iter().filter(|_| has_tools) {
                let mut set = Command::new("setfattr");
                set.args(["-n", "user.x", "-v", "1"]).arg(ground.at(path));
                assert!(set.status().unwrap().success());
            }
            let [local, remote] = ground.scan(mode);
            assert_eq!(told(&local.tree), told(&remote.tree), "{sort:?} {mode:?}");
            assert_eq!(problems(&local), problems(&remote), "{sort:?} {mode:?}");
            let kind = |path: &str| local.tree.find(&rel(path)).map(|id| local.tree.entry(id).kind);
            assert_eq!(kind("near/sub/g"), Some(Kind::File), "{mode:?}");
            assert_eq!(kind("out/x"), Some(Kind::File), "{mode:?}");
            assert_eq!(kind("near/up/near"), None, "{mode:?}: a circle ends");
            let expected = if mode == Mode::Copy { Kind::File } else { Kind::Symlink };
            assert_eq!(kind("file"), Some(expected));
            assert_eq!(kind("skip/z"), None);
            // the second time with a cached listing, where there is one
            let [_, again] = ground.scan(mode);
            assert_eq!(told(&remote.tree), told(&again.tree), "{sort:?} {mode:?}: again");
        }
    }
}

#[test]
fn single_looks_and_digests_agree_with_the_scan() {
    for sort in REMOTE {
        for mode in [Mode::Keep, Mode::Copy] {
            let mut ground = Ground::new(sort);
            ground.furnish();
            ground.scan(mode);
            let paths = [
                "near",
                "near/f",
                "near/sub/g",
                "file",
                "out",
                "out/x",
                "out/back/g",
                "dangling",
                "own",
                "gone",
                "near/gone",
                "file/x",
                "one",
            ]
            .map(rel);
            let far = &mut ground.reached.replica;
            let here = ground.local.stat(&paths).unwrap();
            let there = far.stat(&paths).unwrap();
            for (path, (here, there)) in paths.iter().zip(here.into_iter().zip(there)) {
                let leads_nowhere = matches!(path.shown().as_str(), "dangling" | "one");
                if leads_nowhere && mode == Mode::Copy {
                    continue; // either answer means that it is not what was scanned
                }
                let short = |look: Result<Option<Entry>, PathError>| {
                    look.ok().flatten().map(|e| (e.kind, e.size, e.ino))
                };
                assert_eq!(short(here), short(there), "{sort:?} {mode:?} {path}");
            }
            let files = ["near/f", "out/x", "file", "own"].map(rel);
            let kind = DigestKind::Sha256;
            let looks = ground.local.stat(&files).unwrap();
            let look = |look: Result<Option<Entry>, PathError>| {
                look.ok().flatten().unwrap_or(Entry::new(Kind::File))
            };
            let files: Vec<(RelPath, Entry)> =
                files.into_iter().zip(looks.into_iter().map(look)).collect();
            let here = ground.local.digest(kind, &files).unwrap();
            assert_eq!(here, far.digest(kind, &files).unwrap(), "{sort:?} {mode:?}");
            assert_eq!(here[2].is_ok(), mode == Mode::Copy);
            let tops = ["near/sub", "out", "real/empty", "own", "gone"].map(rel);
            let here = ground.local.look_below(&tops).unwrap();
            let there = far.look_below(&tops).unwrap();
            for (path, (here, there)) in tops.iter().zip(here.into_iter().zip(there)) {
                let told = |tree: Result<Option<Tree>, PathError>| tree.unwrap().map(|t| told(&t));
                assert_eq!(told(here), told(there), "{sort:?} {mode:?} {path}");
            }
        }
    }
}

#[test]
fn nothing_behind_a_link_is_deleted_or_renamed_and_its_own_name_may_go() {
    for sort in [Sort::Local, Sort::Ssh, Sort::BusyBox, Sort::Bsd, Sort::Peer] {
        for mode in [Mode::Keep, Mode::Copy] {
            let mut ground = Ground::new(sort);
            ground.furnish();
            ground
                .reached
                .replica
                .lock(&osync::testing::replica::LockRequest {
                    instance_id: "test".into(),
                    force: false,
                    stranger_resume: false,
                })
                .unwrap();
            let [_, scan] = ground.scan(mode);
            let entry = |path: &str| scan.tree.entry(scan.tree.find(&rel(path)).unwrap()).clone();
            let outside = ground.dir.path().join("outside/far");
            let (path, expect) = (rel("out/x"), entry("out/x"));
            let aside = |path: RelPath, expect| Op::SetAside {
                path,
                expect,
                keeping: Keeping::dated(Keep::Deleted),
            };
            let ops = [
                Op::Remove { path: path.clone(), expect: expect.clone() },
                aside(path.clone(), expect.clone()),
                Op::Rename { from: path, to: rel("moved"), expect: expect.clone() },
                Op::Rename { from: rel("own"), to: rel("out/own"), expect: entry("own") },
                Op::Remove { path: rel("out"), expect: entry("out") },
            ];
            for (op, done) in ops.iter().zip(ground.reached.replica.apply(&ops).unwrap()) {
                assert!(done.is_err(), "{sort:?} {mode:?} {op:?}");
                let text = done.unwrap_err().to_string();
                let is_said = text.contains("symbolic link") || *op == ops[3] || *op == ops[4];
                assert!(is_said, "{sort:?} {mode:?} {text}");
            }
            assert_eq!(fs::read(outside.join("x")).unwrap(), b"far");
            assert!(ground.at("own").exists() && ground.at("out").is_symlink());
            // the link itself is renamed into deleted/, and what it leads to stays
            let done = ground.reached.replica.apply(&[aside(rel("out"), entry("out"))]).unwrap();
            assert!(matches!(done[..], [Ok(OpResult::Kept(_))]), "{sort:?} {mode:?} {done:?}");
            assert!(ground.at(".osync_workdir/deleted/out").is_symlink(), "{sort:?} {mode:?}");
            assert_eq!(fs::read(outside.join("x")).unwrap(), b"far");
        }
    }
}

#[test]
fn metadata_of_a_kept_link_is_that_of_the_directory_and_of_a_copied_one_stays() {
    for sort in [Sort::Local, Sort::Ssh, Sort::BusyBox, Sort::Bsd, Sort::Peer] {
        for mode in [Mode::Keep, Mode::Copy] {
            let mut ground = Ground::new(sort);
            ground.furnish();
            let [_, scan] = ground.scan(mode);
            let entry = |path: &str| scan.tree.entry(scan.tree.find(&rel(path)).unwrap()).clone();
            let outside = ground.dir.path().join("outside/far");
            let before = fs::metadata(&outside).unwrap();
            let mode_op = Op::SetMetadata {
                path: rel("out"),
                expect: entry("out"),
                mode: Some(0o750),
                uid: None,
                gid: None,
            };
            let ops = [
                mode_op,
                Op::SetMtime {
                    path: rel("out"),
                    mtime: Stamp::new(1_234_567_890, 0),
                    expect: None,
                },
            ];
            let done = ground.reached.replica.apply(&ops).unwrap();
            let after = fs::metadata(&outside).unwrap();
            let now = (after.permissions().mode() & 0o777, after.mtime());
            if mode == Mode::Keep {
                assert_eq!(done, [Ok(OpResult::Plainly), Ok(OpResult::Plainly)], "{sort:?}");
                assert_eq!(now, (0o750, 1_234_567_890), "{sort:?}");
            } else {
                assert!(
                    matches!(&done[0], Err(PathError::Failed { cause, .. })
                    if cause.starts_with("Operation not supported")),
                    "{sort:?} {done:?}"
                );
                assert_eq!(now, (before.permissions().mode() & 0o777, before.mtime()), "{sort:?}");
            }
            assert!(ground.at("out").is_symlink());
        }
    }
}

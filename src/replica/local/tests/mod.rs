//! The local replica on real directories: what unit tests beside the parts cannot show.

mod apply;
mod bad_day;
mod cleaning;
pub(crate) mod mounts;
mod scanning;
mod speed;
mod user;

use super::*;
use crate::filter::Filter;
use crate::replica::*;
use crate::tree::{Stamp, Standing, Tree};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A replica in a temporary directory, prepared for writing.
struct Sandbox {
    dir: tempfile::TempDir,
    replica: LocalReplica,
}

/// Names that somebody will one day have.
const HOSTILE: [&[u8]; 14] = [
    b"new\nline",
    b"tab\there",
    b" space ",
    b"-rf",
    b"'quote\"s",
    b"back\\slash",
    b"\\#012",
    b"[ab]*?",
    b"a -> b",
    b"$(touch x)`y`",
    b"\xff\xfe",
    b"\x1b[31m",
    b"...",
    b"~",
];

impl Sandbox {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::at(dir)
    }

    fn at(dir: tempfile::TempDir) -> Self {
        let mut replica = LocalReplica::new(Side::Target, dir.path());
        replica.prepare(Access::ReadWrite { create: false }).unwrap();
        Sandbox { dir, replica }
    }

    fn path(&self, name: impl AsRef<[u8]>) -> PathBuf {
        self.dir.path().join(OsStr::from_bytes(name.as_ref()))
    }

    /// A path below `deleted/` or `backup/`.
    fn kept(&self, name: impl AsRef<[u8]>) -> PathBuf {
        self.path(b".osync_workdir").join(OsStr::from_bytes(name.as_ref()))
    }

    /// Writes a file, and makes the directories it needs.
    fn write(&self, name: impl AsRef<[u8]>, content: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn read(&self, name: impl AsRef<[u8]>) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// What the replica says of a path that is there.
    fn entry(&mut self, name: impl AsRef<[u8]>) -> Entry {
        self.replica.stat(&[rel(name)]).unwrap().remove(0).unwrap().unwrap()
    }

    fn apply(&mut self, op: Op) -> Result<(), PathError> {
        self.apply_and_tell(op).map(drop)
    }

    fn apply_and_tell(&mut self, op: Op) -> Result<OpResult, PathError> {
        self.replica.apply(&[op]).unwrap().remove(0)
    }

    fn set_aside(&mut self, name: impl AsRef<[u8]>, keep: Keep) -> Result<(), PathError> {
        let expect = self.entry(&name);
        self.apply(Op::SetAside { path: rel(name), expect, keeping: Keeping::dated(keep) })
    }

    fn scan(&mut self) -> Scan {
        self.scan_with(|_| ())
    }

    fn scan_with(&mut self, change: impl FnOnce(&mut ScanRequest<'_>)) -> Scan {
        let filter = Filter::default();
        let mut request = request(&filter, &|_| ());
        change(&mut request);
        self.replica.scan(&request).unwrap()
    }

    /// Names in a directory of the work directory, sorted.
    fn kept_names(&self, dir: &str) -> Vec<Vec<u8>> {
        let mut names: Vec<_> = std::fs::read_dir(self.kept(dir))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().as_bytes().to_vec())
            .collect();
        names.sort();
        names
    }
}

/// A scan that follows no link and reads no attributes.
fn request<'a>(filter: &'a Filter, seen: &'a (dyn Fn(u64) + Sync)) -> ScanRequest<'a> {
    ScanRequest { filter, look: LookRules::default(), seen }
}

fn rel(name: impl AsRef<[u8]>) -> RelPath {
    RelPath::new(name.as_ref()).unwrap()
}

/// Paths of a tree with their standing.
fn listed(tree: &Tree) -> Vec<(String, Standing)> {
    let mut all: Vec<_> = tree.ids().map(|id| (tree.path(id).shown(), tree.standing(id))).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// Runs a test body as an ordinary user: here if we are one, else in a child of our own
/// that is `nobody`. `test` is the full name of the test that calls this.
fn as_ordinary_user(test: &str, body: fn()) {
    if !rustix::process::geteuid().is_root() {
        return body();
    }
    let dir = tempfile::tempdir().unwrap();
    let open = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o777);
    std::fs::set_permissions(dir.path(), open).unwrap();
    let program = dir.path().join("tests");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let output = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(&program)
        .args(["--exact", test, "--nocapture"])
        .env("TMPDIR", dir.path())
        .current_dir("/")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let ran = text.contains("1 passed");
    assert!(output.status.success() && ran, "{text}{}", String::from_utf8_lossy(&output.stderr));
}

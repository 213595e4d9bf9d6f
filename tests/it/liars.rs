//! An rsync that lies, breaks or hangs, on either end of the line (spec 5, "rsync calls":
//! the success of a path is judged only by reading it again).

use crate::support::bad_day::BadDay;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How a run with such an rsync may end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Something is not done, and that is an error.
    Failed,
    /// The work was done all the same: it is for rsync to say so, for us to look.
    Any,
    /// It never ends: HARD_MAX_EXEC_TIME does.
    Limited,
}

/// What it does instead, as shell text; `$real` is the real one.
const LOCAL: &[(&str, End)] = &[
    ("exit 0", End::Failed),
    ("cat > /dev/null; exit 0", End::Failed),
    // tells of every file as if it had been brought over
    ("exec \"$real\" --dry-run \"$@\"", End::Failed),
    // half of the list, cut in the middle of a name
    ("head -c 17 | \"$real\" \"$@\"", End::Failed),
    ("kill -9 $$", End::Failed),
    ("kill -SEGV $$", End::Failed),
    // as the kernel does when memory is short: half of a file stays behind
    (
        "for dest; do :; done; case $dest in */a|*/a/) name=b;; *) name=a;; esac; \
         printf half > \"$dest/.edited-$name.Ab12Cd\"; kill -9 $$",
        End::Failed,
    ),
    ("\"$real\" \"$@\"; kill -TERM $$", End::Any),
    ("\"$real\" \"$@\"; exit 1", End::Any),
    ("\"$real\" \"$@\"; exit 11", End::Any),
    ("\"$real\" \"$@\"; exit 12", End::Any),
    ("\"$real\" \"$@\"; exit 23", End::Any),
    ("\"$real\" \"$@\"; exit 24", End::Any),
    ("\"$real\" \"$@\"; exit 99", End::Any),
    ("\"$real\" \"$@\" > /dev/null 2>&1", End::Any),
    ("\"$real\" \"$@\"; head -c 3000000 /dev/urandom; head -c 3000000 /dev/urandom >&2", End::Any),
    ("head -c 3000000 /dev/zero; exit 0", End::Failed),
    ("yes 'rsync: nonsense'", End::Limited),
    ("yes 'rsync: nonsense' >&2", End::Limited),
    ("tr '\\0' x < /dev/zero", End::Limited),
    ("exec sleep 100", End::Limited),
    ("trap '' TERM; while :; do sleep 1; done", End::Limited),
    ("exec > /dev/null 2>&1; exec >&- 2>&-; exec sleep 100", End::Limited),
];

/// The same for the one behind the line.
const REMOTE: &[(&str, End)] = &[
    ("exit 0", End::Failed),
    // says nothing, and waits for us to say more
    ("cat > /dev/null; exit 0", End::Limited),
    ("kill -9 $$", End::Failed),
    ("\"$real\" \"$@\"; exit 1", End::Any),
    ("\"$real\" \"$@\" | head -c 60", End::Limited),
    ("\"$real\" \"$@\" | { head -c 60; echo nonsense; cat; }", End::Limited),
    ("echo Welcome; exec \"$real\" \"$@\"", End::Failed),
    ("cat /dev/urandom", End::Failed),
    ("exec sleep 100", End::Limited),
    ("exec cat", End::Failed),
];

fn real_rsync() -> PathBuf {
    std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|dir| dir.join("rsync"))
        .find(|path| path.exists())
        .expect("these tests need rsync")
}

/// Another rsync of this name in a directory.
fn write_liar(dir: &Path, does: &str) -> PathBuf {
    fs::create_dir_all(dir).unwrap();
    let path = dir.join("rsync");
    let real = real_rsync();
    let text = format!(
        "#!/bin/sh\nreal='{}'\ncase \" $* \" in *' --version '*) exec \"$real\" \"$@\";; esac\n\
         {does}\n",
        real.display()
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn play(day: &BadDay, does: &str, end: End, name: &str, value: &Path) {
    let limit = if end == End::Limited { "1" } else { "100" };
    let started = Instant::now();
    // what is left to a process that is to end, and to the other side for giving back its lock
    let haste = if end == End::Limited { "4" } else { "1" };
    let run = day.run().env(name, value).env("HARD_MAX_EXEC_TIME", limit);
    let run = run.env("OSYNC_FAULT_HASTE", haste).run();
    day.check(&run, does);
    match end {
        End::Failed => assert_eq!(run.status, Some(1), "{does}: {run}"),
        End::Any => {}
        End::Limited => {
            assert_eq!(run.status, Some(1), "{does}: {run}");
            assert!(run.stderr.contains("HARD_MAX_EXEC_TIME"), "{does}: {run}");
        }
    }
    assert!(started.elapsed() < Duration::from_secs(80), "{does}: {run}");
    assert!(run.stderr.len() < 300_000, "{does}: {} bytes", run.stderr.len());
    day.check_heals(&format!("{does}\n{run}"));
}

#[test]
fn an_rsync_that_lies_breaks_or_hangs_costs_nothing() {
    for (does, end) in LOCAL {
        let day = BadDay::local();
        let liar = write_liar(&day.sandbox.path("tools"), does);
        play(&day, does, *end, "RSYNC_EXECUTABLE", &liar);
    }
}

#[test]
fn an_rsync_on_the_other_end_that_lies_breaks_or_hangs_costs_nothing() {
    for (does, end) in REMOTE {
        let day = BadDay::over_ssh();
        let tools = day.sandbox.path("tools");
        write_liar(&tools, does);
        play(&day, does, *end, "RSYNC_REMOTE_PATH", &tools);
    }
}

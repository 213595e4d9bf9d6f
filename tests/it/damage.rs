//! What we keep for ourselves, damaged (spec 3): a snapshot with any byte changed or any
//! part missing is an error, never another past; with lists, locks and notes of any bytes a
//! run comes to its end, and nothing is lost.

use crate::support::bad_day::BadDay;
use crate::support::sandbox::Sandbox;
use crate::support::trees::{self, DEFAULT_MTIME};
use osync::testing::state::{Record, StateDir, StateStore};
use osync::testing::tree::RelPath;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const ID: &str = "quicksync_task";

fn state(sandbox: &Sandbox) -> PathBuf {
    sandbox.a.root.join(".osync_workdir/state")
}

/// What a snapshot says, if it says anything.
fn told(store: &StateStore) -> Result<Vec<(RelPath, Record)>, String> {
    let loaded = store.load().map_err(|error| error.to_string())?;
    let records: Result<Vec<_>, _> = loaded.baseline.records().collect();
    records.map_err(|error| error.to_string())
}

#[test]
fn a_snapshot_damaged_at_any_byte_is_an_error_and_never_another_past() {
    let day = BadDay::local();
    let dir = state(&day.sandbox);
    let store = StateStore::open(StateDir::Custom(dir.clone()), ID).unwrap();
    let file = dir.join(format!("snapshot-{ID}"));
    let whole = fs::read(&file).unwrap();
    let past = told(&store).unwrap();
    assert!(past.len() > 10);
    let check = |what: String, bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let error = told(&store).expect_err(&what);
        assert!(error.contains("snapshot-") && error.contains("--initialize"), "{what}: {error}");
    };
    for at in 0..whole.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= change;
            check(format!("byte {at} ^ {change:#x}"), &bytes);
        }
        check(format!("cut at {at}"), &whole[..at]);
        let without = [&whole[..at], &whole[at + 1..]].concat();
        check(format!("without byte {at}"), &without);
        check(format!("a byte more at {at}"), &[&whole[..at], b"x", &whole[at..]].concat());
    }
    fs::write(&file, &whole).unwrap();
    assert_eq!(told(&store).unwrap().len(), past.len());
}

/// The whole program at some of the places: it says so, touches nothing, and goes on when
/// the right file is back.
#[test]
fn a_run_with_a_damaged_snapshot_stops_and_touches_nothing() {
    let day = BadDay::local();
    let file = state(&day.sandbox).join(format!("snapshot-{ID}"));
    let whole = fs::read(&file).unwrap();
    let before = (day.sandbox.a.details(), day.sandbox.b.details());
    for number in 0..16 {
        let at = whole.len() * number / 16;
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        let damaged = if number % 2 == 0 { &bytes[..] } else { &whole[..at] };
        fs::write(&file, damaged).unwrap();
        let run = day.run().run();
        let context = format!("byte {at}");
        day.check(&run, &context);
        assert_eq!(run.status, Some(1), "{context}: {run}");
        assert!(run.stderr.contains("snapshot-"), "{context}: {run}");
        assert_eq!((day.sandbox.a.details(), day.sandbox.b.details()), before, "{context}");
    }
    fs::write(&file, &whole).unwrap();
    day.check_heals("all of them");
}

/// Any change of one byte of the lists of osync 1.3. They then count as written by it: a
/// deletion may be forgotten, and the file comes back, but nothing is lost.
#[test]
fn a_list_damaged_anywhere_loses_nothing() {
    let lists = ["initiator-tree-after", "target-tree-after"];
    let length = fs::metadata(state(&BadDay::local().sandbox).join(format!("{}-{ID}", lists[0])));
    let length = length.unwrap().len() as usize;
    let all = std::env::var_os("OSYNC_FAULT_ROUNDS").is_some();
    for at in (0..length).step_by(if all { 1 } else { 11 }) {
        let day = BadDay::local();
        let file = state(&day.sandbox).join(format!("{}-{ID}", lists[at % 2]));
        let whole = fs::read(&file).unwrap();
        let mut bytes = whole.clone();
        match at % 3 {
            0 => bytes[at] ^= 0x04,
            1 => bytes.truncate(at),
            _ => bytes[at] = 0,
        }
        fs::write(&file, bytes).unwrap();
        let context = format!("byte {at} of {}", file.display());
        let run = day.run().run();
        day.check(&run, &context);
        let next = day.run().run();
        day.check(&next, &context);
        if run.status == Some(1) {
            // refused: it says which file, and heals when that is as it was
            assert!(run.stderr.contains("tree-after"), "{context}: {run}");
            fs::write(&file, whole).unwrap();
            day.check_heals(&context);
        }
        let (a, b) = (day.sandbox.a.contents(), day.sandbox.b.contents());
        assert_eq!(a, b, "{context}: {run}{next}");
        for line in BadDay::END.lines() {
            let name = line.split(' ').nth(1).unwrap();
            assert!(day.sandbox.a.has(name), "{name} is not there. {context}: {run}{next}\n{a}");
        }
    }
}

/// What a note of ours may hold after somebody or something was at it.
fn any_bytes() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [
        &b""[..],
        b"\n",
        b"\0",
        b"\0\0\0\n\0",
        b"/\n",
        b"..\n",
        b"../../etc/passwd\n",
        b"anchor-0\n",
        b"anchor-0\nanchor-1\nanchor-2\nnew\ndir\n",
        b"99999999999999999999999999\n",
        b"-1\n",
        b"0@quicksync_task\n",
        b"1@\n",
        b"1@quicksync_task\n",
        b"4294967295@quicksync_task\n99999999999999999999@x",
        b"0.0 0.0\0anchor-0\0",
        b"-5.0 -5.0\0/\0",
        b"\xff\xfe\xff\n\xc3",
        b"%s%n$(touch x)`touch y`\x1b[2J",
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    all.push(vec![b'x'; 300_000]);
    all.push(b"a/".repeat(3000));
    all.push(vec![0xff; 100_000]);
    all
}

/// All notes of ours but the lists, and where they lie.
const NOTES: &[&str] = &[
    "a/.osync_workdir/lock",
    "b/.osync_workdir/lock",
    "b/.osync_workdir/lock.by",
    "a/.osync_workdir/identity",
    "b/.osync_workdir/identity",
    "a/.osync_workdir/arrivals",
    "b/.osync_workdir/arrivals",
    "a/.osync-update.push",
    "state/resume-count",
    "state/inflight",
    "state/initiator-last-action",
    "state/conflicts",
    "state/initiator-failed-delete",
    "state/target-failed-delete",
    "state/target-deleted-list",
    "state/snapshot",
];

fn place(sandbox: &Sandbox, note: &str) -> PathBuf {
    match note.strip_prefix("state/") {
        Some(name) => state(sandbox).join(format!("{name}-{ID}")),
        None => sandbox.path(note),
    }
}

/// Puts something in the place of a file, runs, takes it away again, runs.
fn disturb(day: &BadDay, file: &Path, put: impl FnOnce(&Path), context: &str) {
    let saved = fs::read(file).ok();
    let _ = fs::remove_file(file);
    put(file);
    let started = Instant::now();
    let run = day.run().env("HARD_MAX_EXEC_TIME", "60").run();
    day.check(&run, context);
    assert!(started.elapsed() < Duration::from_secs(50), "{context}: {run}");
    assert!(run.stderr.len() < 50_000, "{context}: {} bytes", run.stderr.len());
    // the cause goes; what the run itself has put there stays
    let is_as_put = run.status == Some(1) || file.symlink_metadata().is_ok_and(|m| !m.is_file());
    if is_as_put {
        let _ = fs::remove_file(file);
        let _ = fs::remove_dir_all(file);
        if let Some(saved) = saved {
            fs::write(file, saved).unwrap();
        }
    }
    let next = day.run().run();
    assert!(matches!(next.status, Some(0 | 2)), "{context}: {run}{next}");
    let last = day.run().run();
    assert_eq!(last.status, Some(0), "{context}: {run}{next}{last}");
    day.check(&last, context);
    assert_eq!(day.sandbox.a.contents(), day.sandbox.b.contents(), "{context}: {run}{next}{last}");
}

#[test]
fn notes_of_any_bytes_end_no_run_badly_and_lose_nothing() {
    let all = std::env::var_os("OSYNC_FAULT_ROUNDS").is_some();
    for (number, note) in NOTES.iter().enumerate() {
        for (which, bytes) in any_bytes().iter().enumerate() {
            if !all && (which + number) % 17 != 0 {
                continue;
            }
            let day = BadDay::local();
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
            let context = format!("{note} holds {shown:?} (number {which})");
            let file = place(&day.sandbox, note);
            disturb(&day, &file, |file| fs::write(file, bytes).unwrap(), &context);
        }
    }
}

#[test]
fn notes_that_are_no_files_end_no_run_badly_and_lose_nothing() {
    let all = std::env::var_os("OSYNC_FAULT_ROUNDS").is_some();
    for (number, note) in NOTES.iter().enumerate() {
        for kind in ["directory", "link", "dangling link", "fifo"] {
            let turn = ["directory", "link", "dangling link", "fifo"][number % 4];
            if !all && kind != turn && (kind != "fifo" || number % 2 == 1) {
                continue;
            }
            let day = BadDay::local();
            let outside = day.sandbox.path("outside");
            fs::write(&outside, "precious").unwrap();
            let context = format!("{note} is a {kind}");
            let file = place(&day.sandbox, note);
            let put = |file: &Path| match kind {
                "directory" => {
                    fs::create_dir(file).unwrap();
                    fs::write(file.join("in it"), "x").unwrap();
                }
                "link" => symlink(&outside, file).unwrap(),
                "dangling link" => symlink("nowhere", file).unwrap(),
                _ => {
                    use rustix::fs::{CWD, FileType, Mode, mknodat};
                    mknodat(CWD, file, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
                }
            };
            disturb(&day, &file, put, &context);
            assert_eq!(fs::read(&outside).unwrap(), b"precious", "{context}");
        }
    }
}

/// The clock was set back: all we have noted, and much of what is in the replicas, is from
/// the future.
#[test]
fn a_clock_that_was_set_back_loses_nothing() {
    const FUTURE: i64 = 2_500_000_000;
    let day = BadDay::local();
    let (a, b) = (&day.sandbox.a, &day.sandbox.b);
    // both are in step about files of the future
    a.write("anchor-0", "from the future", FUTURE);
    b.write("anchor-1", "from the future", FUTURE + 1);
    assert!(matches!(day.run().run().status, Some(0 | 2)));
    for side in [a, b] {
        for name in ["lock", "identity", "arrivals"] {
            let file = side.at(format!(".osync_workdir/{name}"));
            if file.exists() {
                let time = std::time::UNIX_EPOCH + Duration::from_secs(FUTURE as u64);
                fs::File::options().append(true).open(file).unwrap().set_modified(time).unwrap();
            }
        }
    }
    for entry in fs::read_dir(state(&day.sandbox)).unwrap() {
        let time = std::time::UNIX_EPOCH + Duration::from_secs(FUTURE as u64);
        let file = fs::File::options().append(true).open(entry.unwrap().path()).unwrap();
        file.set_modified(time).unwrap();
    }
    // edits with the clock of now are older than what they replace
    a.write("anchor-0", "edited now", 1_700_000_000);
    b.write("anchor-1", "edited now", DEFAULT_MTIME.secs - 1);
    a.write("fresh", "made now", 1_700_000_000);
    b.remove("anchor-2");
    let run = day.run().run();
    assert_eq!(run.status, Some(0), "{run}");
    for side in [a, b] {
        assert_eq!(side.read("anchor-0").unwrap(), b"edited now", "{run}");
        assert_eq!(side.read("anchor-1").unwrap(), b"edited now", "{run}");
        assert_eq!(side.read("fresh").unwrap(), b"made now", "{run}");
        assert!(!side.has("anchor-2"), "{run}");
    }
    assert!(a.deleted().contains("anchor-2") && b.backup().contains("anchor-0"), "{run}");
    let quiet = day.run().arg("--summary").run();
    assert_eq!(quiet.status, Some(0), "{quiet}");
    assert!(quiet.stdout.contains("Target has 0 updates."), "{quiet}");
}

/// Bytes that are the same for the same seed, and look like text now and then.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 24
    };
    let often = b"*?[]!\\/+-#;\n\n\"'$(){}=.:\0\xff\xc3 %~ab";
    (0..length)
        .map(|_| if next() % 3 == 0 { next() as u8 } else { often[next() as usize % often.len()] })
        .collect()
}

fn rounds(ordinarily: u64) -> u64 {
    let wanted = std::env::var("OSYNC_FAULT_ROUNDS").ok();
    wanted.map_or(ordinarily, |number| number.parse().expect("OSYNC_FAULT_ROUNDS is a number"))
}

/// Whatever is excluded by it, nothing is deleted for it.
#[test]
fn pattern_files_of_any_bytes_lose_nothing() {
    for seed in 0..rounds(12) {
        let day = BadDay::local();
        let patterns = day.sandbox.path("patterns");
        let bytes = noise(seed + 1, 10 + seed as usize % 10 * 30);
        fs::write(&patterns, &bytes).unwrap();
        let key = ["RSYNC_EXCLUDE_FROM", "RSYNC_INCLUDE_FROM"][seed as usize % 2];
        let context = format!("{key} holds {}", trees::escape(&bytes));
        let run = day.run().env(key, &patterns).run();
        day.check(&run, &context);
        // what was excluded is not known any more, and a deletion of it not either
        let next = day.run().run();
        assert!(matches!(next.status, Some(0 | 2)), "{context}: {run}{next}");
        day.check(&next, &context);
        let (a, b) = (day.sandbox.a.contents(), day.sandbox.b.contents());
        assert_eq!(a, b, "{context}: {run}{next}");
    }
}

/// A task file with any byte changed, missing or added is read or refused, in words.
#[test]
fn a_configuration_file_damaged_anywhere_is_read_or_refused_in_words() {
    let sandbox = Sandbox::new();
    let sample = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/sync.conf.example"));
    let sample = sample.unwrap();
    let of_its_own = ["INSTANCE_ID=", "INITIATOR_SYNC_DIR=", "TARGET_SYNC_DIR="];
    let lines: Vec<&str> =
        sample.lines().filter(|line| !of_its_own.iter().any(|key| line.starts_with(key))).collect();
    let file = sandbox.config("task.conf", &lines.join("\n"));
    let whole = fs::read(&file).unwrap();
    for seed in 1..=rounds(40) {
        let at = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) as usize % whole.len();
        let mut bytes = whole.clone();
        match seed % 4 {
            0 => bytes[at] = noise(seed, 1)[0],
            1 => bytes.truncate(at),
            2 => drop(bytes.splice(at..at, noise(seed, 40))),
            _ => drop(bytes.drain(at..(at + 20).min(whole.len()))),
        }
        fs::write(&file, &bytes).unwrap();
        let run = sandbox.osync().arg("check").arg(&file).run();
        let context = format!("seed {seed}, byte {at}");
        assert!(matches!(run.status, Some(0..=2)), "{context}: {run}");
        for debris in ["panicked", "RUST_BACKTRACE", "Err("] {
            assert!(!run.stderr.contains(debris), "{context}: {run}");
        }
        let said = format!("{}{}", run.stdout, run.stderr).to_lowercase();
        let is_told = said.contains("error") || said.contains("warning");
        assert!(run.status == Some(0) || is_told, "{context}: {run}");
        assert!(run.stderr.len() < 20_000, "{context}: {run}");
    }
}

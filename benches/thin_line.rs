//! What a run over a thin line costs, every piece on the line 20 ms on its way (40 ms a round
//! trip): through the bare shell over there, and through an osync over there.
//!
//! ```text
//! cargo bench --bench thin_line
//! cargo bench --bench thin_line -- renamed    # only cases with this word in their name
//! ```
//! Round trips are worked out from the time that the delay adds to the same run without
//! it, so they hold ssh's own handshake too. Bytes are those of TCP's payload, both
//! directions together.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../tests/support/mod.rs"]
#[allow(dead_code)]
mod support;

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};
use support::over_ssh::OverSsh;
use support::sshd::Proxy;

const ROUND_TRIP: Duration = Duration::from_millis(40);

/// What happens to the replicas before each run: the number of the turn is another one each time.
type Change = fn(&OverSsh, usize);

struct Case {
    name: &'static str,
    /// How many files the tree holds.
    files: usize,
    /// How many of them lie in one directory.
    in_a_directory: usize,
    /// The median of so many runs counts.
    turns: usize,
    change: Change,
}

const CASES: [Case; 8] = [
    Case {
        name: "nothing changed",
        files: 10_000,
        in_a_directory: 100,
        turns: 5,
        change: |_, _| {},
    },
    Case {
        name: "one file changed on each side",
        files: 10_000,
        in_a_directory: 100,
        turns: 5,
        change: |task, turn| {
            let time = 1_600_000_000 + turn as i64;
            let content = format!("content {turn}");
            task.sandbox.a.write("dir-001/some-file-00100", &content, time);
            task.sandbox.b.write("dir-002/some-file-00200", &content, time);
        },
    },
    Case {
        name: "directory of 400 renamed there",
        files: 400,
        in_a_directory: 400,
        turns: 3,
        change: |task, turn| rename_directory(&task.sandbox.b, turn),
    },
    Case {
        name: "directory of 10,000 renamed there",
        files: 10_000,
        in_a_directory: 10_000,
        turns: 3,
        change: |task, turn| rename_directory(&task.sandbox.b, turn),
    },
    Case {
        name: "directory of 10,000 renamed here",
        files: 10_000,
        in_a_directory: 10_000,
        turns: 3,
        change: |task, turn| rename_directory(&task.sandbox.a, turn),
    },
    Case {
        name: "10,000 files renamed here",
        files: 10_000,
        in_a_directory: 1000,
        turns: 1,
        change: |task, turn| {
            each_file(task, |file| {
                let name = file.file_name().unwrap().to_str().unwrap();
                let new = format!("{turn}-{}", name.rsplit('-').next().unwrap());
                fs::rename(file, file.with_file_name(new)).unwrap();
            });
        },
    },
    Case {
        name: "10,000 modes changed here",
        files: 10_000,
        in_a_directory: 1000,
        turns: 1,
        change: |task, turn| {
            use std::os::unix::fs::PermissionsExt;
            let mut count = turn as u32;
            each_file(task, |file| {
                count += 1;
                let mode = 0o600 | (count % 3) << 3;
                fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
            });
        },
    },
    Case {
        name: "10,000 files deleted here",
        files: 10_000,
        in_a_directory: 1000,
        turns: 1,
        change: |task, _| each_file(task, |file| fs::remove_file(file).unwrap()),
    },
];

fn rename_directory(side: &support::sandbox::Replica, turn: usize) {
    let [from, to] = [turn - 1, turn].map(|turn| match turn {
        0 => "dir-000".to_owned(),
        turn => format!("renamed-{turn}"),
    });
    fs::rename(side.at(from), side.at(to)).unwrap();
}

/// All files of the initiator.
fn each_file(task: &OverSsh, mut change: impl FnMut(&std::path::Path)) {
    for dir in fs::read_dir(&task.sandbox.a.root).unwrap().map(|dir| dir.unwrap()) {
        if dir.file_name() == ".osync_workdir" {
            continue;
        }
        let files: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        files.into_iter().for_each(|file| change(&file.unwrap().path()));
    }
}

struct Cost {
    time: Duration,
    bytes: u64,
    connections: u64,
}

fn main() {
    println!("40 ms a round trip; median of the runs of a case");
    println!(
        "{:34} {:6} {:>9} {:>9} {:>6} {:>4} {:>8}",
        "", "", "no delay", "40 ms", "trips", "TCP", "bytes"
    );
    let word = std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default();
    for case in CASES.iter().filter(|case| case.name.contains(&word)) {
        for (way, osync) in [("shell", "no"), ("osync", env!("CARGO_BIN_EXE_osync"))] {
            report(case, way, osync);
        }
    }
}

fn report(case: &Case, way: &str, osync: &str) {
    let [near, far] = [Duration::ZERO, ROUND_TRIP / 2].map(|delay| {
        let task = OverSsh::new();
        let mut text = String::new();
        for n in 0..case.files {
            let dir = n / case.in_a_directory;
            writeln!(text, "f dir-{dir:03}/some-file-{n:05} {n}").unwrap();
        }
        task.sandbox.a.make(&text);
        let line = task.proxy(delay);
        for _ in 0..2 {
            cost(&task, &line, osync);
        }
        let mut costs: Vec<Cost> = (1..=case.turns)
            .map(|turn| {
                (case.change)(&task, turn);
                cost(&task, &line, osync)
            })
            .collect();
        task.assert_in_step();
        costs.sort_by_key(|cost| cost.time);
        costs.swap_remove(case.turns / 2)
    });
    let trips = far.time.saturating_sub(near.time).as_secs_f64() / ROUND_TRIP.as_secs_f64();
    println!(
        "{:34} {way:6} {:>7.2} s {:>7.2} s {trips:>6.1} {:>4} {:>8}",
        case.name,
        near.time.as_secs_f64(),
        far.time.as_secs_f64(),
        far.connections,
        far.bytes
    );
}

fn cost(task: &OverSsh, line: &Proxy, osync: &str) -> Cost {
    let (bytes, connections) = (line.bytes(), line.connections());
    // all files of a directory may be deleted at once
    let run = task.by(line.port).env("REMOTE_OSYNC", osync).arg("--force-delete");
    let start = Instant::now();
    task.fine(run);
    Cost {
        time: start.elapsed(),
        bytes: line.bytes() - bytes,
        connections: line.connections() - connections,
    }
}

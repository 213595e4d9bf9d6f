//! What a star costs where nothing changed: ten targets, each behind a line and an osync over there,
//! beside one such pair alone.
//!
//! ```text
//! TMPDIR=/dev/shm cargo bench --bench star
//! FILES=10000 cargo bench --bench star       # a smaller tree; 100,000 files otherwise
//! ```
//! All targets are on this machine, which looks at eleven trees where a real hub looks at one: the
//! time is at best what the lines allow, and `CPU` is that of the hub's osync alone. `TURNS` (5) says
//! how often each is run.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../tests/support/mod.rs"]
#[allow(dead_code)]
mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::sandbox::Sandbox;
use support::sshd::{Proxy, Sshd};

const TARGETS: usize = 10;
/// Round trips of the lines.
const ROUND_TRIPS: [u64; 3] = [0, 40, 100];
/// How often a run is looked at.
const LOOK: Duration = Duration::from_millis(2);

struct Cost {
    time: Duration,
    cpu: Duration,
    peak_kib: u64,
}

fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().map_or(usual, |text| text.parse().unwrap())
}

fn main() {
    let sandbox = Sandbox::new();
    let server = Sshd::start("");
    let files = number("FILES", 100_000);
    let leaves = make_trees(&sandbox, files);
    println!("{files} files in each of {} trees", TARGETS + 1);
    println!("{:8} {:12} {:>9} {:>9} {:>9} {:>6}", "line", "", "time", "CPU", "peak", "ratio");
    for round_trip in ROUND_TRIPS {
        let line = Proxy::start(server.port, Duration::from_millis(round_trip) / 2);
        server.trust(line.port);
        let uris: Vec<String> = leaves.iter().map(|leaf| server.uri_by(line.port, leaf)).collect();
        // the pair has the state of the star's first target
        let pair = conf(&sandbox, "pair", &format!("TARGET_SYNC_DIR=\"{}\"", uris[0]));
        let star = conf(&sandbox, "star", &format!("TARGET_SYNC_DIRS=\"{}\"", uris.join(";")));
        // where they meet, and what the first runs after that write down
        for conf in [&star, &pair, &star] {
            run(&sandbox, &server, conf);
        }
        let (mut pairs, mut stars) = (Vec::new(), Vec::new());
        for _ in 0..number("TURNS", 5) {
            pairs.push(run(&sandbox, &server, &pair));
            stars.push(run(&sandbox, &server, &star));
        }
        let (pair, star) = (median(pairs), median(stars));
        let ratio = star.time.as_secs_f64() / pair.time.as_secs_f64();
        tell(round_trip, "a pair", &pair, "");
        tell(round_trip, "ten targets", &star, &format!("{ratio:.2}"));
    }
}

/// A hub with so many files, and targets that hold the same.
fn make_trees(sandbox: &Sandbox, files: usize) -> Vec<PathBuf> {
    let mut text = String::new();
    for n in 0..files {
        writeln!(text, "f dir-{:03}/some-file-{n:06} x", n / 100).unwrap();
    }
    sandbox.a.make(&text);
    let leaves = (1..=TARGETS).map(|leaf| {
        let root = sandbox.path(format!("leaf-{leaf}"));
        let copied = Command::new("cp").arg("-a").arg(&sandbox.a.root).arg(&root).status();
        assert!(copied.unwrap().success());
        root
    });
    leaves.collect()
}

fn conf(sandbox: &Sandbox, name: &str, targets: &str) -> PathBuf {
    let file = sandbox.path(format!("etc/{name}.conf"));
    let hub = sandbox.a.root.display();
    let text = format!("INSTANCE_ID=star\nINITIATOR_SYNC_DIR=\"{hub}\"\n{targets}\n");
    fs::write(&file, text).unwrap();
    file
}

fn run(sandbox: &Sandbox, server: &Sshd, conf: &Path) -> Cost {
    let run = sandbox.osync().arg(conf);
    let run = run.env("REMOTE_OSYNC", env!("CARGO_BIN_EXE_osync"));
    let run = run.env("SSH_RSA_PRIVATE_KEY", server.key());
    let run = run.env("SSH_OPTIONAL_ARGS", server.options().join(" "));
    let mut command = run.into_command();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    let start = Instant::now();
    let mut child = command.spawn().unwrap();
    let (mut cpu, mut peak_kib) = (Duration::ZERO, 0);
    let status = loop {
        let about = format!("/proc/{}", child.id());
        cpu = cpu.max(cpu_of(&about).unwrap_or_default());
        peak_kib = peak_kib.max(peak_of(&about).unwrap_or_default());
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(LOOK);
    };
    assert!(status.success(), "{}: {status}", conf.display());
    Cost { time: start.elapsed(), cpu, peak_kib }
}

/// What a process has used, in the hundredths of a second that Linux counts in.
fn cpu_of(about: &str) -> Option<Duration> {
    let stat = fs::read_to_string(format!("{about}/stat")).ok()?;
    let fields = stat.rsplit_once(')')?.1.split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Some(Duration::from_millis(ticks * 10))
}

fn peak_of(about: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("{about}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

fn median(mut costs: Vec<Cost>) -> Cost {
    costs.sort_by_key(|cost| cost.time);
    let middle = costs.len() / 2;
    costs.swap_remove(middle)
}

fn tell(round_trip: u64, name: &str, cost: &Cost, ratio: &str) {
    println!(
        "{round_trip:>5} ms {name:12} {:>7.2} s {:>7.2} s {:>5} MiB {ratio:>6}",
        cost.time.as_secs_f64(),
        cost.cpu.as_secs_f64(),
        cost.peak_kib / 1024
    );
}

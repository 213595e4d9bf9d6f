//! What a run over a thin line costs: 10,000 files behind ssh, every piece on the line
//! 20 ms on its way (40 ms a round trip).
//!
//! ```text
//! cargo bench --bench thin_line
//! ```
//! Round trips are worked out from the time that the delay adds to the same run without
//! it, so they hold ssh's own handshake too. Bytes are those of TCP's payload, both
//! directions together.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../tests/support/mod.rs"]
#[allow(dead_code)]
mod support;

use std::fmt::Write as _;
use std::time::{Duration, Instant};
use support::over_ssh::OverSsh;
use support::sshd::Proxy;

const FILES: usize = 10_000;
const ROUND_TRIP: Duration = Duration::from_millis(40);
const ROUNDS: usize = 5;

struct Cost {
    time: Duration,
    bytes: u64,
    connections: u64,
}

fn main() {
    let task = OverSsh::new();
    let mut text = String::new();
    for n in 0..FILES {
        writeln!(text, "f dir-{:03}/some-file-{n:05} x", n % 100).unwrap();
    }
    task.sandbox.a.make(&text);
    task.sync();
    task.sync();
    let near = task.proxy(Duration::ZERO);
    let far = task.proxy(ROUND_TRIP / 2);
    println!("{FILES} files, 40 ms a round trip, median of {ROUNDS} runs");
    println!(
        "{:28} {:>9} {:>9} {:>6} {:>6} {:>7}",
        "", "no delay", "40 ms", "trips", "TCP", "bytes"
    );
    report("nothing changed", &task, [&near, &far], &mut |_| {});
    report("one file changed each side", &task, [&near, &far], &mut |round| {
        let time = 1_600_000_000 + round as i64;
        let content = format!("content {round}");
        task.sandbox.a.write("dir-001/some-file-00001", &content, time);
        task.sandbox.b.write("dir-002/some-file-00002", &content, time);
    });
    task.assert_in_step();
}

fn report(name: &str, task: &OverSsh, lines: [&Proxy; 2], before: &mut dyn FnMut(usize)) {
    let mut round = 0;
    let [near, far] = lines.map(|proxy| {
        let mut costs: Vec<Cost> = (0..ROUNDS)
            .map(|_| {
                round += 1;
                before(round);
                cost(task, proxy)
            })
            .collect();
        costs.sort_by_key(|cost| cost.time);
        costs.swap_remove(ROUNDS / 2)
    });
    let trips = far.time.saturating_sub(near.time).as_secs_f64() / ROUND_TRIP.as_secs_f64();
    println!(
        "{name:28} {:>7.2} s {:>7.2} s {trips:>6.1} {:>6} {:>7}",
        near.time.as_secs_f64(),
        far.time.as_secs_f64(),
        far.connections,
        far.bytes
    );
}

fn cost(task: &OverSsh, proxy: &Proxy) -> Cost {
    let (bytes, connections) = (proxy.bytes(), proxy.connections());
    let run = task.by(proxy.port);
    let start = Instant::now();
    task.fine(run);
    Cost {
        time: start.elapsed(),
        bytes: proxy.bytes() - bytes,
        connections: proxy.connections() - connections,
    }
}

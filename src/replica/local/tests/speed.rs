//! A measurement by hand, not a test: how long looking takes, beside `find`.

use super::*;
use std::time::{Duration, Instant};

fn median(mut turns: Vec<Duration>) -> Duration {
    turns.sort();
    turns[turns.len() / 2]
}

#[test]
#[ignore = "measures; OSYNC_SPEED_TREE names the directory, use an optimised build"]
fn scanning_beside_find() {
    let tree = std::env::var_os("OSYNC_SPEED_TREE").unwrap();
    let mut replica = LocalReplica::new(Side::Initiator, Path::new(&tree));
    replica.prepare(Access::ReadOnly).unwrap();
    let filter = Filter::default();
    let (mut ours, mut theirs, mut entries) = (Vec::new(), Vec::new(), 0);
    for _ in 0..11 {
        let start = Instant::now();
        let scan = replica.scan(&request(&filter, &|_| ())).unwrap();
        ours.push(start.elapsed());
        entries = scan.tree.len();
        drop(scan);
        let start = Instant::now();
        let format = r"%y %s %T@ %m %U %G %i %p\n";
        let mut find = std::process::Command::new("find");
        find.arg(&tree).args(["-printf", format]).stdout(std::process::Stdio::null());
        assert!(find.status().unwrap().success());
        theirs.push(start.elapsed());
    }
    let (ours, theirs) = (median(ours), median(theirs));
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    println!("{entries} entries: scan {ours:?}, find {theirs:?}, ratio {ratio:.2}");
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let ticks: Vec<_> = stat.split(' ').skip(13).take(4).collect();
    println!("ticks of user and system, ours: {:?}, of find: {:?}", &ticks[..2], &ticks[2..]);
}

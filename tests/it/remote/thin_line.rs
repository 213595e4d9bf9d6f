//! What a run costs on the line (spec 5): bytes and connections are counted here, the time
//! is measured by `benches/thin_line.rs`. And: the copies of the last listing make a run
//! cheaper, never wrong.

use crate::support::over_ssh::OverSsh;
use crate::support::replicas::Sort;
use crate::support::sshd::Proxy;
use crate::support::trees::{Mtime, set_mtime};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

fn many_files(count: usize) -> String {
    let mut text = String::new();
    for n in 0..count {
        writeln!(text, "f dir-{:03}/some-file-{n:05} x", n % 100).unwrap();
    }
    text
}

/// Bytes and connections of a run through the proxy.
fn cost(task: &OverSsh, proxy: &Proxy) -> (u64, u64) {
    let before = (proxy.bytes(), proxy.connections());
    task.fine(task.by(proxy.port));
    (proxy.bytes() - before.0, proxy.connections() - before.1)
}

#[test]
fn ten_thousand_files_and_no_change_are_one_connection_and_few_bytes() {
    let task = OverSsh::new();
    let proxy = task.proxy(Duration::ZERO);
    task.sandbox.a.make(&many_files(10_000));
    task.sync();
    let (bytes, connections) = cost(&task, &proxy);
    assert!(bytes <= 20_000, "{bytes} bytes: the run that copied told what it made");
    assert_eq!(connections, 1);

    task.sandbox.a.write("dir-007/some-file-00007", "longer", 1_600_000_000);
    task.sandbox.b.write("dir-008/some-file-00008", "changed", 1_600_000_000);
    let (bytes, connections) = cost(&task, &proxy);
    assert!(bytes <= 60_000, "{bytes} bytes");
    assert_eq!(connections, 1, "rsync goes over the same connection");
    task.assert_in_step();
    let (bytes, _) = cost(&task, &proxy);
    assert!(bytes <= 20_000, "{bytes} bytes after a change");
}

#[test]
fn nothing_to_do_costs_few_bytes_from_the_second_run_on_where_both_sides_were_alike() {
    for osync in ["no", crate::support::osync()] {
        let task = OverSsh::new();
        let proxy = task.proxy(Duration::ZERO);
        for side in [&task.sandbox.a, &task.sandbox.b] {
            side.make(&many_files(2000).replace(" x\n", " x 1600000000\n"));
            for n in 0..100 {
                set_mtime(&side.at(format!("dir-{n:03}")), Mtime::secs(1_600_000_000));
            }
        }
        task.fine(task.by(proxy.port).env("REMOTE_OSYNC", osync));
        let before = proxy.bytes();
        task.fine(task.by(proxy.port).env("REMOTE_OSYNC", osync));
        let bytes = proxy.bytes() - before;
        assert!(bytes <= 20_000, "{osync}: {bytes} bytes");
    }
}

/// What following a renamed directory of so many files costs in round trips.
fn turns_to_follow(task: &OverSsh, osync: &str, files: usize) -> u64 {
    let proxy = task.proxy(Duration::ZERO);
    let dir = format!("dir-of-{files}");
    let mut text = String::new();
    for n in 0..files {
        writeln!(text, "f {dir}/some-file-{n:05} {n}").unwrap();
    }
    let run = |port| task.fine(task.by(port).env("REMOTE_OSYNC", osync).arg("--summary"));
    task.sandbox.a.make(&text);
    run(task.server.port);
    run(task.server.port);
    let b = &task.sandbox.b;
    fs::rename(b.at(&dir), b.at(format!("new-{dir}"))).unwrap();
    let before = proxy.turns();
    run(proxy.port);
    task.assert_in_step();
    proxy.turns() - before
}

#[test]
fn a_renamed_directory_costs_no_round_trip_for_each_file() {
    let (tools, _busybox) = Sort::BusyBox.login();
    let peer = crate::support::osync();
    for (what, lines, osync) in
        [("shell", "", "no"), ("BusyBox", tools.as_str(), "no"), ("peer", "", peer)]
    {
        let task = OverSsh::with(lines);
        let few = turns_to_follow(&task, osync, 10);
        let many = turns_to_follow(&task, osync, 1200);
        assert!(many <= few + 10, "{what}: {few} round trips for 10 files, {many} for 1200");
    }
}

type Damage<'a> = Box<dyn Fn() + 'a>;

/// The copies of the last listing: here, and over there.
fn copies(task: &OverSsh) -> [PathBuf; 2] {
    [&task.sandbox.a, &task.sandbox.b]
        .map(|side| side.at(".osync_workdir/state/listing-quicksync_task"))
}

#[test]
fn a_listing_that_is_missing_foreign_or_damaged_costs_bytes_and_nothing_else() {
    let task = OverSsh::new();
    let proxy = task.proxy(Duration::ZERO);
    task.sandbox.a.make(&many_files(2000));
    task.sync();
    task.sync();
    let files = copies(&task);
    let [here, there] = &files;
    let foreign = b"f 644 0 0 1 2 1 3 1.0 1.0 1.0/dir-001/never-there//\n".to_vec();
    let damages: Vec<(&str, Damage<'_>)> = vec![
        ("missing here", Box::new(|| fs::remove_file(here).unwrap())),
        ("missing there", Box::new(|| fs::remove_file(there).unwrap())),
        ("foreign here", Box::new(|| fs::write(here, &foreign).unwrap())),
        ("foreign there", Box::new(|| fs::write(there, &foreign).unwrap())),
        ("the same foreign one on both sides", {
            Box::new(|| files.iter().for_each(|file| fs::write(file, &foreign).unwrap()))
        }),
        ("cut off here", Box::new(|| cut_in_half(here))),
        ("cut off there", Box::new(|| cut_in_half(there))),
        ("both cut off", Box::new(|| files.iter().for_each(cut_in_half))),
        ("a byte changed here", Box::new(|| change_a_byte(here))),
        ("a byte changed on both sides", Box::new(|| files.iter().for_each(change_a_byte))),
        ("no text here", Box::new(|| fs::write(here, [0xff, 0, b'\n', 7].repeat(999)).unwrap())),
        ("no text on both sides", {
            Box::new(|| {
                files.iter().for_each(|f| fs::write(f, [0xff, 0, b'\n', 7].repeat(999)).unwrap());
            })
        }),
    ];
    for (number, (what, damage)) in damages.iter().enumerate() {
        let number = number as i64;
        damage();
        let b = &task.sandbox.b;
        b.write(format!("dir-001/new-{number}"), what, 1_600_000_000);
        b.write("dir-002/some-file-00002", what, 1_600_000_000 + number);
        b.remove(format!("dir-003/some-file-{:05}", 3 + 100 * number));
        let run = task.fine(task.by(proxy.port).arg("--summary"));
        assert!(run.stdout.contains("Initiator has 2 updates."), "{what}: {run}");
        assert!(run.stdout.contains("Initiator has 1 deletions."), "{what}: {run}");
        assert!(run.stdout.contains("Target has 0 updates."), "{what}: {run}");
        assert!(run.stdout.contains("Target has 0 deletions."), "{what}: {run}");
        task.assert_in_step();
    }
    let (bytes, _) = cost(&task, &proxy);
    let (again, _) = cost(&task, &proxy);
    assert!(bytes.max(again) <= 20_000, "all is well again: {bytes}, {again}");
}

fn cut_in_half(file: &PathBuf) {
    let text = fs::read(file).unwrap();
    fs::write(file, &text[..text.len() / 2]).unwrap();
}

fn change_a_byte(file: &PathBuf) {
    let mut text = fs::read(file).unwrap();
    let at = text.windows(4).position(|part| part == b"/dir").unwrap();
    text[at + 2] = b'x';
    fs::write(file, text).unwrap();
}

/// Where the other side cannot keep a listing, all of it travels each time.
#[test]
fn a_listing_that_cannot_be_kept_is_no_error() {
    let task = OverSsh::new();
    task.sandbox.a.make(&many_files(50));
    task.sync();
    let [here, there] = copies(&task);
    for file in [here, there] {
        let _ = fs::remove_file(&file);
        fs::create_dir(&file).unwrap();
    }
    task.sandbox.b.make("f new here");
    task.sync();
    task.assert_in_step();
    task.sandbox.b.remove("new");
    task.sync();
    task.assert_in_step();
    assert!(!task.sandbox.a.has("new"));
}

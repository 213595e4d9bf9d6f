//! Trees that are hard on every tool (spec 4): crowded directories, huge and sparse files,
//! files that grow while they are read, farms of links. (Depth and names: `local.rs`,
//! `properties.rs`.)

use crate::support::couple::Couple;
use crate::support::kept::Kept;
use crate::support::sandbox::Sandbox;
use crate::support::trees::{self, Mtime};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Over ssh as many in a longer trial only; `thin_line.rs` lists as many there.
#[test]
fn ten_thousand_entries_in_one_directory_are_made_renamed_and_deleted() {
    let all = std::env::var_os("OSYNC_FAULT_ROUNDS").is_some();
    for couple in Couple::both() {
        let (a, b) = (couple.side(0), couple.side(1));
        let (count, some) = if all || !couple.is_remote() { (10_000, 300) } else { (1000, 100) };
        fs::create_dir(a.at("crowd")).unwrap();
        for number in 0..count {
            File::create(a.at(format!("crowd/{number:05}"))).unwrap();
        }
        couple.sync("");
        let names = |side: usize, dir: &str| -> usize {
            fs::read_dir(couple.side(side).at(dir)).unwrap().count()
        };
        assert_eq!((names(0, "crowd"), names(1, "crowd")), (count, count), "{}", couple.way);
        for number in 0..some {
            a.remove(format!("crowd/{number:05}"));
            b.rename(format!("crowd/{:05}", count / 2 + number), format!("crowd/new {number}"));
        }
        couple.sync("");
        b.rename("crowd", "another place");
        couple.sync("");
        assert_eq!(a.contents(), b.contents(), "{}", couple.way);
        assert!(a.has("another place/new 99") && !b.has("another place/00000"), "{}", couple.way);
        assert_eq!(names(0, "another place"), count - some, "{}", couple.way);
    }
}

/// Holes stay holes in every way that a file takes: new in a new directory, as an update, back to
/// the initiator, as a conflict's loser, into the kept versions.
#[test]
fn files_with_holes_take_no_more_room_on_the_other_side() {
    const SIZE: u64 = 4 << 20;
    let write = |file: PathBuf, word: &[u8]| {
        let file = File::create(file).unwrap();
        file.set_len(SIZE).unwrap();
        file.write_all_at(word, SIZE / 2).unwrap();
    };
    for couple in Couple::both() {
        let (a, b) = (couple.side(0), couple.side(1));
        a.make("d dir");
        let everywhere = || {
            for root in [&a.root, &b.root] {
                let du = Command::new("du").args(["-sk"]).arg(root).output().unwrap();
                let text = String::from_utf8(du.stdout).unwrap();
                let kib: u64 = text.split_whitespace().next().unwrap().parse().unwrap();
                assert!(kib < 1500, "{}: {text}", couple.way);
            }
            for (at, name) in [(a, "dir/new"), (b, "dir/new"), (a, "top"), (b, "top")] {
                assert_eq!(fs::metadata(at.at(name)).unwrap().size(), SIZE, "{name}");
            }
        };
        write(a.at("dir/new"), b"one");
        write(b.at("top"), b"two");
        couple.sync("");
        everywhere();
        write(a.at("dir/new"), b"three");
        write(b.at("top"), b"four");
        couple.sync("");
        everywhere();
        write(a.at("top"), b"five");
        write(b.at("top"), b"six");
        couple.sync("");
        everywhere();
        assert_eq!(a.contents(), b.contents(), "{}", couple.way);
        b.remove("top");
        write(a.at("other"), b"x");
        couple.sync("");
        assert!(!a.has("top"), "{}", couple.way);
    }
}

/// Hundreds of megabytes of which a few bytes are on the disk: the holes stay holes, and a second
/// run does nothing. In a longer trial five gigabytes: sizes do not
/// wrap.
#[test]
fn a_sparse_file_of_gigabytes_is_carried_over() {
    let sandbox = Sandbox::new();
    let (a, b) = (&sandbox.a, &sandbox.b);
    let file = File::create(a.at("huge")).unwrap();
    let all = std::env::var_os("OSYNC_FAULT_ROUNDS").is_some();
    let size = (1 << if all { 32 } else { 28 }) + 4097_u64;
    file.set_len(size).unwrap();
    file.write_all_at(b"start", 0).unwrap();
    file.write_all_at(b"end", size - 3).unwrap();
    drop(file);
    let run = || sandbox.quick().arg("--summary").run();
    let first = run();
    assert_eq!(first.status, Some(0), "{first}");
    let seen = fs::metadata(b.at("huge")).unwrap();
    assert_eq!(seen.size(), size, "{first}");
    assert!(seen.blocks() * 512 < 1 << 20, "{} blocks", seen.blocks());
    let there = File::open(b.at("huge")).unwrap();
    let mut end = [0; 4];
    there.read_exact_at(&mut end, size - 4).unwrap();
    assert_eq!(&end, b"\0end");
    let quiet = run();
    assert!(quiet.stdout.contains("Target has 0 updates."), "{quiet}");
    // shorter by a power of two: only the size tells
    let seen = fs::metadata(a.at("huge")).unwrap();
    File::options().write(true).open(a.at("huge")).unwrap().set_len(4097).unwrap();
    trees::set_mtime(&a.at("huge"), Mtime { secs: seen.mtime(), nanos: seen.mtime_nsec() as u32 });
    assert_eq!(run().status, Some(0));
    assert_eq!(fs::metadata(b.at("huge")).unwrap().size(), 4097);
}

/// Logs grow all the time: what arrives is a beginning of the file, never anything else, and
/// when it has stopped growing all of it is there.
#[test]
fn a_file_that_grows_while_it_is_read_arrives_as_a_beginning_and_then_whole() {
    for couple in Couple::both() {
        let (a, b) = (couple.side(0), couple.side(1));
        let line = |number: usize| format!("{number:08} of a log that grows and grows\n");
        let grown = |lines: usize| (0..lines).map(line).collect::<String>().into_bytes();
        fs::write(a.at("log"), grown(20_000)).unwrap();
        fs::write(b.at("there"), grown(20_000)).unwrap();
        let stop = AtomicBool::new(false);
        let lines = std::thread::scope(|scope| {
            let writers = [a.at("log"), b.at("there")].map(|path| {
                let stop = &stop;
                scope.spawn(move || {
                    let mut log = File::options().append(true).open(path).unwrap();
                    let mut number = 20_000;
                    while !stop.load(Ordering::Relaxed) {
                        log.write_all(line(number).as_bytes()).unwrap();
                        number += 1;
                        if number % 100 == 0 {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                    }
                    number
                })
            });
            for _ in 0..3 {
                let run = couple.run("").run();
                assert!(matches!(run.status, Some(0..=2)), "{}: {run}", couple.way);
            }
            stop.store(true, Ordering::Relaxed);
            writers.map(|writer| writer.join().unwrap())
        });
        for (path, from, to, lines) in [("log", a, b, lines[0]), ("there", b, a, lines[1])] {
            let whole = grown(lines);
            assert!(from.read(path).unwrap() == whole, "{}: {path} was touched", couple.way);
            let arrived = to.read(path).unwrap_or_default();
            assert!(whole.starts_with(&arrived), "{}: {path} is no beginning", couple.way);
        }
        couple.sync("");
        couple.sync("");
        assert!(b.read("log").unwrap() == grown(lines[0]), "{}", couple.way);
        assert!(a.read("there").unwrap() == grown(lines[1]), "{}", couple.way);
    }
}

/// Links to everything: to each other in a ring, upwards, out of the replica, to nothing;
/// and one file with a thousand names.
#[test]
fn a_farm_of_links_is_carried_over_as_it_is() {
    for couple in Couple::both() {
        let (a, b) = (couple.side(0), couple.side(1));
        let outside = couple.sandbox.path("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), "x").unwrap();
        a.make("d farm/a/b/c\nd names\nf names/0 content");
        for number in 0..1000 {
            fs::hard_link(a.at("names/0"), a.at(format!("names/{}", number + 1))).unwrap();
            let target = match number % 5 {
                0 => format!("{}", (number + 5) % 1000),
                1 => "..".to_owned(),
                2 => outside.display().to_string(),
                3 => "nowhere/at/all".to_owned(),
                _ => "a/b/c/../../../0".to_owned(),
            };
            symlink(target, a.at(format!("farm/{number}"))).unwrap();
        }
        let settings = "PRESERVE_HARDLINKS=yes";
        couple.sync_twice(settings);
        assert_eq!(a.contents(), b.contents(), "{}", couple.way);
        assert_eq!(fs::metadata(b.at("names/0")).unwrap().nlink(), 1001, "{}", couple.way);
        // half of it goes, some of it over there
        for number in 0..500 {
            a.remove(format!("farm/{number}"));
            b.remove(format!("names/{}", number + 1));
        }
        b.write("names/0", "new content", 1_600_000_000);
        couple.sync(settings);
        couple.sync_twice(settings);
        assert_eq!(a.contents(), b.contents(), "{}", couple.way);
        assert_eq!(a.read("names/1000").unwrap(), b"new content", "{}", couple.way);
        assert!(Kept::by(&couple.sandbox).holds(b"nowhere/at/all"), "{}", couple.way);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{}", couple.way);
    }
}

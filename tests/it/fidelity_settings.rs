//! Settings of [MISC_OPTIONS] and [RESUME_OPTIONS] that say what is preserved and how rsync
//! transfers: each on and off, here and over ssh (docs/fidelity.md).

use crate::support::couple::Couple;
use crate::support::installed_rsync::assert_went_on;
use crate::support::replicas::{NOBODY, Sort};
use crate::support::running::Running;
use crate::support::sandbox::Replica;
use rustix::process::Signal;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::time::{Duration, Instant};

fn mode(replica: &Replica, name: &str) -> u32 {
    replica.at(name).metadata().unwrap().mode() & 0o7777
}

fn chmod(replica: &Replica, name: &str, mode: u32) {
    std::fs::set_permissions(replica.at(name), Permissions::from_mode(mode)).unwrap();
}

fn owner(replica: &Replica, name: &str) -> (u32, u32) {
    let seen = replica.at(name).metadata().unwrap();
    (seen.uid(), seen.gid())
}

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut reader = blake3::Hasher::new().update(b"noise").finalize_xof();
    reader.fill(&mut bytes);
    bytes
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("left out: only root can give files away");
    }
    is_root
}

#[test]
fn permissions_and_executability_go_over_as_far_as_they_are_preserved() {
    // mode before, mode after on one side, what the other side has then
    type Modes = (u32, u32, u32);
    let cases: [(&str, &[Modes]); 4] = [
        ("", &[(0o644, 0o4750, 0o4750)]),
        ("PRESERVE_EXECUTABILITY=no", &[(0o644, 0o750, 0o750)]),
        (
            "PRESERVE_PERMISSIONS=no",
            &[(0o644, 0o640, 0o644), (0o644, 0o700, 0o755), (0o755, 0o600, 0o644)],
        ),
        ("PRESERVE_PERMISSIONS=no\nPRESERVE_EXECUTABILITY=no", &[(0o644, 0o777, 0o644)]),
    ];
    for couple in Couple::both() {
        for (number, (settings, modes)) in cases.into_iter().enumerate() {
            let each = |check: &dyn Fn(&Replica, &Replica, &str, Modes)| {
                for (from, to) in [(0, 1), (1, 0)] {
                    for modes in modes {
                        let name = format!("{number}-{from}-{:o}-{:o}", modes.0, modes.1);
                        check(couple.side(from), couple.side(to), &name, *modes);
                    }
                }
            };
            let context = |name: &str| format!("{} {settings} {name}", couple.way);
            each(&|from, _, name, (before, _, _)| {
                from.write(name, "text", 1_000_000_000);
                chmod(from, name, before);
            });
            couple.sync("");
            each(&|from, to, name, (before, after, _)| {
                assert_eq!(mode(to, name), before, "{}", context(name));
                chmod(from, name, after);
            });
            couple.sync_twice(settings);
            each(&|from, to, name, (_, after, expected)| {
                assert_eq!(mode(to, name), expected, "{}", context(name));
                assert_eq!(mode(from, name), after, "{}: it is left alone", context(name));
                from.write(name, "new text", 1_100_000_000);
            });
            couple.sync_twice(settings);
            each(&|_, to, name, (_, _, expected)| {
                assert_eq!(to.read(name).unwrap(), b"new text", "{}", context(name));
                assert_eq!(mode(to, name), expected, "{}, with content", context(name));
            });
        }
    }
}

#[test]
fn owners_and_groups_go_over_as_far_as_they_are_preserved() {
    if !is_root() {
        return;
    }
    let cases = [
        ("", (12, 34)),
        ("PRESERVE_OWNER=no", (5, 34)),
        ("PRESERVE_GROUP=no", (12, 6)),
        ("PRESERVE_OWNER=no\nPRESERVE_GROUP=no", (5, 6)),
    ];
    for couple in Couple::both() {
        for (number, (settings, expected)) in cases.into_iter().enumerate() {
            let each = |check: &dyn Fn(&Replica, &Replica, &str)| {
                for (from, to) in [(0, 1), (1, 0)] {
                    check(couple.side(from), couple.side(to), &format!("{number}-{from}"));
                }
            };
            let what = format!("{} {settings}", couple.way);
            each(&|from, _, name| {
                from.write(name, "text", 1_000_000_000);
                chmod(from, name, 0o755);
                chown(from.at(name), Some(5), Some(6)).unwrap();
            });
            couple.sync("");
            each(&|from, to, name| {
                assert_eq!(owner(to, name), (5, 6), "{what}");
                chown(from.at(name), Some(12), Some(34)).unwrap();
            });
            couple.sync_twice(settings);
            each(&|from, to, name| {
                assert_eq!(owner(to, name), expected, "{what}");
                from.write(name, "new text", 1_100_000_000);
            });
            couple.sync_twice(settings);
            each(&|from, to, name| {
                assert_eq!(to.read(name).unwrap(), b"new text", "{what}");
                assert_eq!(owner(to, name), expected, "{what}, with content");
                assert_eq!(owner(from, name), (12, 34), "{what}");
            });
        }
    }
}

#[test]
fn owners_that_a_user_cannot_set_are_one_warning_once() {
    if !is_root() {
        return;
    }
    const USER: u32 = NOBODY;
    for sync_type in ["", "SYNC_TYPE=initiator2target"] {
        let couple = Couple::both().into_iter().next().unwrap();
        let sandbox = &couple.sandbox;
        let mut mine = vec![sandbox.root().to_owned()];
        mine.extend(["a", "b", "home", "tmp", "etc"].map(|name| sandbox.path(name)));
        for path in mine {
            chown(&path, Some(USER), Some(USER)).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        }
        for name in ["owner", "group", "new"] {
            let sides = if name == "new" { &[0][..] } else { &[0, 1] };
            for side in sides {
                let replica = couple.side(*side);
                replica.write(name, "text", 1_000_000_000);
                chmod(replica, name, 0o644);
                chown(replica.at(name), Some(USER), Some(USER)).unwrap();
            }
        }
        chown(sandbox.a.at("owner"), Some(0), None).unwrap();
        chown(sandbox.a.at("group"), None, Some(0)).unwrap();
        chown(sandbox.a.at("new"), Some(0), Some(0)).unwrap();
        let run = || couple.run(sync_type).user(USER).run();
        let first = run();
        // the last line says that there were warnings
        let warnings = first.stderr.matches("(WARN)").count() - 1;
        assert_eq!((first.status, warnings), (Some(2), 1), "{first}");
        assert!(first.stderr.contains("2 entries keep other metadata"), "{first}");
        assert_eq!(sandbox.b.read("new").unwrap(), b"text");
        assert_eq!(owner(&sandbox.b, "new"), (USER, USER));
        let second = run();
        assert_eq!((second.status, second.stderr.as_str()), (Some(0), ""), "{sync_type} {second}");
    }
}

#[test]
fn owners_that_a_user_over_there_cannot_set_are_one_warning_once() {
    if !is_root() {
        return;
    }
    let couple = Couple::reached_by(Sort::Nobody);
    let [a, b] = [couple.side(0), couple.side(1)];
    let settings = "PRESERVE_OWNER=yes";
    for name in ["one", "two", "new"] {
        a.write(name, "text", 1_000_000_000);
        chown(a.at(name), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    couple.sync(settings);
    for name in ["one", "two"] {
        chown(a.at(name), Some(0), Some(0)).unwrap();
    }
    let run = couple.run(settings).run();
    let warnings = run.stderr.matches("(WARN)").count() - 1;
    assert_eq!((run.status, warnings), (Some(2), 1), "{run}");
    assert!(run.stderr.contains("2 entries keep other metadata"), "{run}");
    for _ in 0..2 {
        let run = couple.run(settings).run();
        assert_eq!((run.status, run.stderr.as_str()), (Some(0), ""), "{run}");
    }
    assert_eq!([owner(a, "one"), owner(b, "one")], [(0, 0), (NOBODY, NOBODY)]);
    // its mode and its content go on, and what the user over there makes comes here as theirs
    chmod(b, "one", 0o600);
    b.write("two", "edited there", 1_100_000_000);
    b.write("theirs", "new", 1_100_000_000);
    couple.run(settings).run();
    assert_eq!(mode(a, "one"), 0o600);
    assert_eq!(a.read("two").unwrap(), b"edited there");
    assert_eq!(owner(a, "theirs"), (NOBODY, NOBODY));
    let run = couple.run(settings).run();
    assert_eq!((run.status, run.stderr.as_str()), (Some(0), ""), "{run}");
}

/// A number that rsync's statistics of the last run tell.
fn statistic(couple: &Couple, before: usize, name: &str) -> u64 {
    let log = couple.sandbox.log();
    let at = log[before..].find(name).unwrap_or_else(|| panic!("no {name} in {log}"));
    let rest = &log[before + at + name.len()..];
    let digits: String =
        rest.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

fn sync_with_stats(couple: &Couple, lines: &str, name: &str) -> u64 {
    let before = couple.sandbox.log().len();
    let run = couple.run(lines).arg("--stats").run();
    assert_eq!(run.status, Some(0), "{run}");
    statistic(couple, before, name)
}

/// A second run, which does nothing and calls no rsync.
fn idle(couple: &Couple, lines: &str) {
    let (before, log) = (couple.stamps(), couple.sandbox.log().len());
    let run = couple.run(lines).arg("--stats").run();
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(couple.stamps(), before, "{} {lines}: the second run changed something", couple.way);
    assert!(!couple.sandbox.log()[log..].contains("Literal data"), "{} {lines}", couple.way);
}

#[test]
fn delta_copies_send_only_what_changed_over_ssh() {
    const SIZE: usize = 1 << 20;
    for couple in Couple::both() {
        let mut bytes = noise(SIZE);
        couple.side(0).write("big", &bytes, 1_000_000_000);
        couple.sync_twice("");
        let mut time = 1_100_000_000;
        for settings in ["", "DELTA_COPIES=yes", "DELTA_COPIES=no"] {
            for from in [0, 1] {
                bytes[SIZE / 2] ^= 1;
                time += 1;
                couple.side(from).write("big", &bytes, time);
                let literal = sync_with_stats(&couple, settings, "Literal data");
                let what = format!("{} {settings} from {from}: {literal}", couple.way);
                // on this machine writing all costs less than reading what is there, unless
                // it is asked for
                let whole = settings.ends_with("no") || settings.is_empty() && !couple.is_remote();
                assert_eq!(literal == SIZE as u64, whole, "{what}");
                assert!(whole || literal < SIZE as u64 / 10, "{what}");
                assert_eq!(couple.side(1 - from).read("big").unwrap(), bytes, "{what}");
                idle(&couple, settings);
            }
        }
    }
}

#[test]
fn compression_is_for_transfers_over_ssh_alone() {
    const SIZE: u64 = 1 << 20;
    for couple in Couple::both() {
        for (name, settings, packs) in [("on", "", true), ("off", "RSYNC_COMPRESS=no", false)] {
            for (from, to) in [(0, 1), (1, 0)] {
                let name = format!("{name}-{from}");
                couple.side(from).write(&name, vec![b'x'; SIZE as usize], 1_000_000_000);
                // as the rsync of this machine counts them
                let comes = couple.is_remote() && from == 1;
                let counted = if comes { "Total bytes received" } else { "Total bytes sent" };
                let sent = sync_with_stats(&couple, settings, counted);
                let packs = packs && couple.is_remote();
                assert_eq!(sent < SIZE / 10, packs, "{} {name}: {sent}", couple.way);
                assert!(couple.side(to).has(&name));
                idle(&couple, settings);
            }
        }
    }
}

#[test]
fn bandwidth_holds_back_transfers() {
    for couple in Couple::both() {
        for (from, to) in [(0, 1), (1, 0)] {
            let name = format!("big-{from}");
            couple.side(from).write(&name, noise(300 * 1024), 1_000_000_000);
            let start = Instant::now();
            couple.sync("BANDWIDTH=150");
            // no machine is fast enough to make this shorter but for the last burst
            let what = format!("{} from {from}: {:?}", couple.way, start.elapsed());
            assert!(start.elapsed() > Duration::from_secs(1), "{what}");
            assert_eq!(couple.side(to).read(&name).unwrap(), noise(300 * 1024), "{what}");
            idle(&couple, "BANDWIDTH=150");
        }
    }
}

#[test]
fn a_partial_file_goes_on_where_it_stopped() {
    const SIZE: usize = 4 << 20;
    for couple in Couple::both() {
        for (from, to) in [(0, 1), (1, 0)] {
            let (from, to) = (couple.side(from), couple.side(to));
            let name = format!("big-{}", from.root.file_name().unwrap().display());
            from.write(&name, noise(SIZE), 1_000_000_000);
            let mut run = Running::start(&couple.sandbox, couple.run("PARTIAL=yes\nBANDWIDTH=700"));
            let temporary = format!(".{name}.");
            let arriving = || {
                let entries = std::fs::read_dir(&to.root).unwrap().flatten();
                let mut named = entries.filter(|entry| {
                    entry.file_name().as_encoded_bytes().starts_with(temporary.as_bytes())
                });
                named.next().and_then(|entry| entry.metadata().ok()).map_or(0, |seen| seen.len())
            };
            run.until("the transfer", || arriving() > 500_000);
            run.signal(Signal::TERM);
            let status = run.end();
            assert_eq!(status, Some(2), "{}: {}", couple.way, couple.sandbox.log());
            assert!(!to.has(&name), "{}: no half file has the name", couple.way);
            let partial = to.at(format!(".osync_workdir/_partial/{name}"));
            let kept = partial.metadata().unwrap().len();
            assert!(kept > 100_000 && kept < SIZE as u64, "{}: {kept}", couple.way);
            let before = couple.sandbox.log().len();
            let matched = sync_with_stats(&couple, "PARTIAL=yes", "Matched data");
            assert_went_on(&couple.sandbox.log()[before..], kept, matched, &partial);
            assert_eq!(to.read(&name).unwrap(), noise(SIZE));
            idle(&couple, "PARTIAL=yes");
        }
    }
}

#[test]
fn optional_arguments_reach_rsync() {
    for couple in Couple::both() {
        for (from, to) in [(0, 1), (1, 0)] {
            let log = couple.sandbox.path(format!("rsync log {from}"));
            let name = format!("f{from}");
            couple.side(from).write(&name, "text", 1_000_000_000);
            let line =
                format!("RSYNC_OPTIONAL_ARGS=\"'--log-file={}' --no-whole-file\"", log.display());
            couple.sync_twice(&line);
            let said = std::fs::read_to_string(&log).unwrap();
            assert!(said.contains(&format!(" {name}")), "{}: {said}", couple.way);
            assert!(couple.side(to).has(&name));
        }
    }
}

//! Runs that are killed anywhere (spec 4, "Interruption"; docs/reliability.md).
//!
//! A history is played, its last run is killed, and then it is checked that every path is
//! old or new, that nothing is lost, and that one plain run completes the work as if
//! nothing had happened. The program itself offers the places to kill it at (fault points,
//! debug builds only); others are met by chance.
//!
//! The ordinary suite tries a few dozen places. More:
//!
//! ```sh
//! OSYNC_FAULT_ROUNDS=500 OSYNC_FAULT_SEED=7 cargo test --test it faults:: -- --nocapture
//! ```

mod places;
pub mod trial;
mod verdict;

use crate::support::sandbox::{Replica, Sandbox};
use crate::support::sshd::Sshd;
use std::fs;
use std::time::{Duration, Instant};
use trial::{Kill, Line, Story, Trial};

/// How many random places each test tries.
fn rounds(ordinarily: usize) -> usize {
    let wanted = std::env::var("OSYNC_FAULT_ROUNDS").ok();
    wanted.map_or(ordinarily, |number| number.parse().expect("OSYNC_FAULT_ROUNDS is a number"))
}

/// Where the random histories begin.
fn first_seed() -> u64 {
    let wanted = std::env::var("OSYNC_FAULT_SEED").ok();
    wanted.map_or(1, |number| number.parse().expect("OSYNC_FAULT_SEED is a number"))
}

/// Only a debug build has fault points.
fn has_fault_points() -> bool {
    if cfg!(debug_assertions) {
        return true;
    }
    println!("skipped: a release build has no fault points");
    false
}

#[test]
fn a_run_killed_at_any_step_leaves_old_or_new_and_the_next_completes_it() {
    if !has_fault_points() {
        return;
    }
    let story = Story::Every;
    let steps = Trial::prepare(&story, &Line::Local).trace();
    let missing: Vec<_> = places::ALL.iter().filter(|step| !steps.contains_key(**step)).collect();
    assert!(missing.is_empty(), "steps the story does not come to: {missing:?}");
    let unknown: Vec<_> = steps.keys().filter(|step| !places::is_known(step)).collect();
    assert!(unknown.is_empty(), "steps that are not in the list: {unknown:?}");
    let all = std::env::var_os("OSYNC_FAULT_ROUNDS").is_some();
    let mut killed = 0;
    for (step, times) in steps {
        // the first time and one in the middle, or each
        let nth: Vec<u64> = if all { (1..=times).collect() } else { vec![1 + times / 2] };
        for nth in nth {
            let trial = Trial::prepare(&story, &Line::Local);
            killed += u32::from(trial.check(&Kill::At { step: step.clone(), nth }));
        }
    }
    println!("killed at {killed} places of one story");
    assert!(killed > 20, "{killed}");
}

#[test]
fn a_run_that_keeps_nothing_killed_at_any_step_loses_nothing_that_was_to_stay() {
    if !has_fault_points() {
        return;
    }
    let story = Story::EveryUnkept;
    let all = std::env::var_os("OSYNC_FAULT_ROUNDS").is_some();
    let mut killed = 0;
    let steps = Trial::prepare(&story, &Line::Local).trace();
    for (number, (step, times)) in steps.into_iter().enumerate() {
        // every third step at one moment, or each at each
        let nth: Vec<u64> = match all {
            true => (1..=times).collect(),
            false if number % 3 == 0 => vec![1 + times / 3],
            false => Vec::new(),
        };
        for nth in nth {
            let trial = Trial::prepare(&story, &Line::Local);
            killed += u32::from(trial.check(&Kill::At { step: step.clone(), nth }));
        }
    }
    println!("killed at {killed} places of a story that keeps nothing");
    assert!(killed > 5, "{killed}");
}

#[test]
fn random_histories_survive_a_kill_at_random_steps() {
    if !has_fault_points() {
        return;
    }
    let (first, rounds) = (first_seed(), rounds(8) as u64);
    let mut killed = 0;
    for seed in first..first + rounds {
        let story = Story::Random(seed);
        let steps: Vec<(String, u64)> =
            Trial::prepare(&story, &Line::Local).trace().into_iter().collect();
        let number = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        let (step, times) = &steps[number as usize % steps.len()];
        let nth = 1 + (number >> 16) % times;
        let trial = Trial::prepare(&story, &Line::Local);
        killed += u64::from(trial.check(&Kill::At { step: step.clone(), nth }));
    }
    println!("killed {killed} of {rounds} random histories");
    assert!(killed * 2 > rounds, "{killed} of {rounds}");
}

#[test]
fn runs_killed_at_random_times_survive() {
    let (first, rounds) = (first_seed(), rounds(8) as u64);
    let mut killed = 0;
    for seed in first..first + rounds {
        let story = if seed % 2 == 0 { Story::Every } else { Story::Random(seed) };
        let usual = Trial::prepare(&story, &Line::Local).duration();
        let part = (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / (1 << 24) as f64;
        let trial = Trial::prepare(&story, &Line::Local);
        killed += u64::from(trial.check(&Kill::After(usual.mul_f64(part))));
    }
    println!("killed {killed} of {rounds} runs at random times");
    assert!(killed > 0);
}

/// The steps of a run that does everything, and how often it comes to each.
fn steps_of_everything(line: &Line<'_>) -> Vec<(String, u64)> {
    Trial::prepare(&Story::Every, line).trace().into_iter().collect()
}

#[test]
fn a_run_over_ssh_killed_at_random_steps_survives() {
    let server = Sshd::start("SetEnv HOME=/nonexistent");
    kill_at_random_steps(&Line::Ssh(&server));
}

#[test]
fn a_run_by_an_osync_over_there_killed_at_random_steps_survives() {
    let server = Sshd::start("SetEnv HOME=/nonexistent");
    kill_at_random_steps(&Line::Peer(&server));
}

fn kill_at_random_steps(line: &Line<'_>) {
    if !has_fault_points() {
        return;
    }
    let steps = steps_of_everything(line);
    let (first, rounds) = (first_seed() as usize, rounds(3));
    let mut killed = 0;
    for number in first..first + rounds {
        let (step, times) = &steps[(number * 7) % steps.len()];
        let nth = 1 + (number as u64).wrapping_mul(0x9E37_79B9) % times;
        let trial = Trial::prepare(&Story::Every, line);
        killed += usize::from(trial.check(&Kill::At { step: step.clone(), nth }));
    }
    println!("killed {killed} of {rounds} runs over ssh");
    assert!(killed * 2 > rounds, "{killed} of {rounds}");
}

/// The replicas know its number by then, and no baseline does.
#[test]
fn a_first_run_killed_before_it_had_recorded_anything_does_not_block_the_task() {
    if !has_fault_points() {
        return;
    }
    let trace = Sandbox::new();
    trace.a.make("f one 1");
    let steps = trace.quick().env("OSYNC_FAULT_TRACE", trace.path("trace")).run();
    assert_eq!(steps.status, Some(0), "{steps}");
    let trace = fs::read_to_string(trace.path("trace")).unwrap();
    let steps: Vec<&str> = trace.lines().collect();
    let of = |step: &str| steps.iter().position(|line| line.starts_with(step)).unwrap();
    let mut killed = 0;
    for step in &steps[of("run numbered")..of("baseline saved")] {
        let sandbox = Sandbox::new();
        sandbox.a.make("f one 1");
        let run = sandbox.quick().env("OSYNC_FAULT", step).run();
        killed += u32::from(run.signal == Some(9));
        sandbox.b.make("f two 2");
        sandbox.sync(&[]);
        assert!(sandbox.a.has("two") && sandbox.b.has("one"), "{step}");
        // from now on, no baseline is one that was lost
        let state = sandbox.a.at(".osync_workdir/state");
        for file in fs::read_dir(&state).unwrap().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            if name.starts_with("snapshot-") || name.contains("-list-") || name.contains("-tree-") {
                fs::remove_file(file.path()).unwrap();
            }
        }
        let lost = sandbox.quick().run();
        assert_eq!(lost.status, Some(1), "{step}: {lost}");
    }
    assert!(killed > 4, "{killed}");
}

/// rsync (3.5) makes directories closed to others and sets their modes later: the next run
/// finds them on both sides, and knows by the note of what was on its way which are meant.
#[test]
fn a_run_killed_before_rsync_set_the_modes_of_directories_does_not_spread_the_wrong_ones() {
    use std::os::unix::fs::PermissionsExt;
    for sender in [0, 1] {
        let sandbox = Sandbox::new();
        let sides = [&sandbox.a, &sandbox.b];
        let (from, to) = (sides[sender], sides[1 - sender]);
        from.make("d new - 755\nd new/sub - 750\nd new/sub/deep - 1777\nf new/sub/deep/f x");
        to.make("f there y");
        sandbox.sync(&[]);
        from.make("d more - 755\nd more/sub - 750\nd more/sub/deep - 1777\nf more/sub/deep/f x");
        // it came so far
        let wrapper = sandbox.path("wrapper");
        let text = "#!/bin/sh\ncase \" $* \" in *' --version '*) exec rsync \"$@\" ;; esac\n\
            rsync \"$@\"\nfor to; do :; done\nchmod 700 \"$to\"more/sub \"$to\"more/sub/deep\n\
            kill -9 $PPID\nexit 1\n";
        std::fs::write(&wrapper, text).unwrap();
        std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
        let killed = sandbox.quick().env("RSYNC_EXECUTABLE", &wrapper).run();
        assert_eq!(killed.status, None, "{killed}");
        let mode = |side: &Replica, name: &str| {
            side.at(name).metadata().unwrap().permissions().mode() & 0o7777
        };
        assert_eq!(mode(to, "more/sub"), 0o700, "{killed}");
        // and is killed once more, before it has done anything about that
        let again = sandbox.quick().env("OSYNC_FAULT", "planned:1").run();
        assert!(again.status.is_none() || !has_fault_points(), "{again}");
        for _ in 0..2 {
            sandbox.sync(&[]);
            for side in sides {
                let modes = ["more", "more/sub", "more/sub/deep"].map(|name| mode(side, name));
                assert_eq!(modes, [0o755, 0o750, 0o1777], "from {sender}");
            }
        }
    }
}

/// Group and mode are set one after the other. What has one of them only is younger than what
/// the user changed, and must not win over it.
#[test]
fn a_run_killed_with_half_of_the_metadata_set_does_not_spread_that_half() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    if !has_fault_points() || !rustix::process::geteuid().is_root() {
        return println!("skipped: this needs fault points, and a user who may give groups");
    }
    for sender in [0, 1] {
        let sandbox = Sandbox::new();
        let sides = [&sandbox.a, &sandbox.b];
        sandbox.a.make("f f x 1500000000 600");
        sandbox.sync(&[]);
        let from = sides[sender].at("f");
        chown(&from, None, Some(12)).unwrap();
        std::fs::set_permissions(&from, std::fs::Permissions::from_mode(0o640)).unwrap();
        let told = |side: &Replica| {
            let seen = side.at("f").metadata().unwrap();
            (seen.gid(), seen.mode() & 0o7777)
        };
        let killed = sandbox.quick().env("OSYNC_FAULT", "setting metadata:2").run();
        assert_eq!(killed.status, None, "{killed}");
        assert_eq!(told(sides[1 - sender]), (12, 0o600), "half of it: {killed}");
        for _ in 0..2 {
            sandbox.sync(&[]);
            assert_eq!(sides.map(told), [(12, 0o640); 2], "from {sender}");
        }
    }
}

#[test]
fn a_server_whose_processes_are_killed_at_random_times_loses_nothing() {
    let (first, rounds) = (first_seed(), rounds(2) as u64);
    let server = Sshd::start("SetEnv HOME=/nonexistent");
    let line = Line::Ssh(&server);
    let started = Instant::now();
    let usual = Trial::prepare(&Story::Every, &line).duration();
    for seed in first..first + rounds {
        let part = (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / (1 << 24) as f64;
        let trial = Trial::prepare(&Story::Every, &line);
        trial.check(&Kill::ServerAfter(usual.mul_f64(part)));
    }
    assert!(started.elapsed() < Duration::from_secs(60) * (rounds as u32 + 1));
}

/// One kind of process over there at a time: the control shell, rsync, the server of a
/// connection; or the line freezes, and ssh gives it up.
#[test]
fn a_server_that_loses_one_of_its_processes_at_a_step_loses_nothing() {
    let server = Sshd::start("SetEnv HOME=/nonexistent");
    let kinds = [("sh", false), ("rsync", false), ("sshd", false), ("sshd", true)];
    kill_over_there(&Line::Ssh(&server), &kinds, rounds(4));
}

/// The same with an osync instead of the shell.
#[test]
fn a_server_that_loses_its_osync_at_a_step_loses_nothing() {
    let server = Sshd::start("SetEnv HOME=/nonexistent");
    let kinds = [("osync", false), ("rsync", false), ("osync", false), ("sshd", false)];
    kill_over_there(&Line::Peer(&server), &kinds, rounds(4));
}

fn kill_over_there(line: &Line<'_>, kinds: &[(&'static str, bool)], rounds: usize) {
    if !has_fault_points() {
        return;
    }
    let steps = steps_of_everything(line);
    let first = first_seed() as usize;
    let mut hit = 0;
    for number in first..first + rounds {
        let (name, frozen) = kinds[number % kinds.len()];
        let (step, times) = &steps[(number * 11) % steps.len()];
        // there is an rsync over there while files are brought over only
        let step = if name == "rsync" { "rsync named an item" } else { step };
        let nth = 1 + (number as u64).wrapping_mul(0x9E37_79B9) % times;
        let nth = if name == "rsync" { 1 + number as u64 % 8 } else { nth };
        let trial = Trial::prepare(&Story::Every, line);
        let kill = Kill::Server { step: step.to_owned(), nth, name, frozen };
        hit += usize::from(trial.check(&kill));
    }
    println!("{hit} of {rounds} runs lost a process over there");
    assert!(hit * 3 >= rounds, "{hit} of {rounds}");
}

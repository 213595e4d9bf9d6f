//! A login that answers garbage, too much, too slowly, nothing, or almost what was
//! asked for (spec 5, "No agent"): the run ends with a clear error, nothing is lost, and
//! with an honest login the next run completes the work.

use crate::support::bad_day::BadDay;
use crate::support::sandbox::Outcome;
use crate::support::trees::set_mode;
use std::fs;
use std::time::{Duration, Instant};

/// What keeps rsync's own connections honest.
const RSYNC_AS_USUAL: &str =
    "case $SSH_ORIGINAL_COMMAND in *--server*) exec sh -c \"$SSH_ORIGINAL_COMMAND\";; esac\n";

/// The run ends soon, whatever comes of it; nothing is lost then or later.
fn play(day: &BadDay, login: &str, limit: &str) -> Outcome {
    day.login(&format!("{RSYNC_AS_USUAL}{login}"));
    let started = Instant::now();
    let run = day.run().env("HARD_MAX_EXEC_TIME", limit).run();
    day.check(&run, login);
    assert!(started.elapsed() < Duration::from_secs(90), "{login}: {run}");
    assert!(run.stderr.len() < 100_000, "{login}: {} bytes", run.stderr.len());
    run
}

/// Logins with which no work can be done.
const HOPELESS: &[&str] = &[
    "exit 0",
    "exit 1",
    "kill -9 $$",
    "echo 'This account is closed.'; exit 1",
    "head -c 2000000 /dev/urandom",
    "tr '\\0' x < /dev/zero | head -c 3000000",
    "yes nonsense",
    "cat /dev/urandom",
    // answers of the right shape with another status or content
    "sh -c \"$SSH_ORIGINAL_COMMAND\" | sed -u 's/ 0 end 0$/ 0 end 99999999999999999999/'",
    "sh -c \"$SSH_ORIGINAL_COMMAND\" | sed -u 's/ 0 end 0$/ 0 end -1/'",
    "sh -c \"$SSH_ORIGINAL_COMMAND\" | sed -u 's/ 0 end 0$/ 0 end 7/'",
    "sh -c \"$SSH_ORIGINAL_COMMAND\" | sed -u 's/^root$/toor/'",
    "sh -c \"$SSH_ORIGINAL_COMMAND\" | sed -u 's/^uid .*/uid nobody/'",
    "sh -c \"$SSH_ORIGINAL_COMMAND\" | sed -u 's/^style .*/style odd/'",
];

#[test]
fn a_login_that_answers_garbage_or_nothing_is_told_and_costs_nothing() {
    let day = BadDay::over_ssh();
    for login in HOPELESS {
        let run = play(&day, login, "60");
        assert_eq!(run.status, Some(1), "{login}: {run}");
        assert!(run.stderr.contains("127.0.0.1"), "{login}: {run}");
        assert!(!run.stderr.contains("HARD_MAX"), "{login}: {run}");
    }
    day.check_heals("after all of them");
}

/// Logins that never come to an end.
const ENDLESS: &[&str] = &[
    "exec sleep 100",
    // what we send comes back, once or twice
    "exec cat",
    "exec awk '{print; print}'",
    // almost an answer
    "sh -c \"$SSH_ORIGINAL_COMMAND\" | sed -u 's/ begin$/ began/'",
    // honest at first
    "sh -c \"$SSH_ORIGINAL_COMMAND\" | { dd bs=1 count=300 2>/dev/null; yes; }",
    "sh -c \"$SSH_ORIGINAL_COMMAND\" | { dd bs=1 count=600 2>/dev/null; yes; }",
    "sh -c \"$SSH_ORIGINAL_COMMAND\" | { dd bs=1 count=600 2>/dev/null; exec sleep 100; }",
    "sh -c \"$SSH_ORIGINAL_COMMAND\" | { dd bs=1 count=2500 2>/dev/null; exec sleep 100; }",
    "sh -c \"$SSH_ORIGINAL_COMMAND\" | sed -u '/ 4 begin$/,$d'",
];

#[test]
fn the_hard_limit_ends_a_run_whose_peer_never_comes_to_an_end() {
    // they wait more than they work
    std::thread::scope(|scope| {
        for login in ENDLESS {
            scope.spawn(move || {
                let day = BadDay::over_ssh();
                let run = play(&day, login, "2");
                assert_eq!(run.status, Some(1), "{login}: {run}");
                let told =
                    ["HARD_MAX_EXEC_TIME", "without end", "nonsense", "longer than it can be"];
                assert!(told.iter().any(|why| run.stderr.contains(why)), "{login}: {run}");
                day.check_heals(&format!("{login}\n{run}"));
            });
        }
    });
}

#[test]
fn an_answer_that_does_not_tell_what_was_done_is_taken_for_neither_done_nor_undone() {
    let tools = tempfile::tempdir().unwrap();
    set_mode(tools.path(), 0o755);
    let path = std::env::var("PATH").unwrap();
    for name in ["mv", "perl"] {
        let text = format!(
            "#!/bin/sh\nPATH='{path}'\ncase $* in */taken*) exit 1;; esac\nexec {name} \"$@\"\n"
        );
        fs::write(tools.path().join(name), text).unwrap();
        set_mode(&tools.path().join(name), 0o755);
    }
    let failing = format!("PATH='{}:{path}' ", tools.path().display());
    for (way, garbled) in [("", "s/^o$/oo/"), (failing.as_str(), "s/^f [a-z].*/oo/")] {
        let day = BadDay::over_ssh();
        let login = format!("{way}sh -c \"$SSH_ORIGINAL_COMMAND\" | sed -u '{garbled}'");
        let run = play(&day, &login, "60");
        assert_eq!(run.status, Some(1), "{login}: {run}");
        assert!(run.stderr.contains("not understood"), "{login}: {run}");
        for untrue in ["moved on the target", "conflict on fought"] {
            assert!(!run.stdout.contains(untrue), "{login}: {run}");
        }
        day.check_heals(&format!("{login}\n{run}"));
    }
}

/// What becomes of the answers from a byte on.
const DAMAGES: &[&str] = &[
    "printf X; cat",
    "dd bs=1 count=1 of=/dev/null 2>/dev/null; cat",
    "dd bs=1 count=1 of=/dev/null 2>/dev/null; printf '\\377'; cat",
    "dd bs=1 count=1 of=/dev/null 2>/dev/null; printf '\\n'; cat",
    "dd bs=1 count=1 of=/dev/null 2>/dev/null; printf 0; cat",
    "true",
];

#[test]
fn an_answer_damaged_at_any_byte_costs_nothing() {
    let day = BadDay::over_ssh();
    let answers = day.sandbox.path("answers");
    let honest = "sh -c \"$SSH_ORIGINAL_COMMAND\"";
    day.login(&format!("{RSYNC_AS_USUAL}{honest} | tee '{}'", answers.display()));
    assert_eq!(day.run().run().status, Some(0));
    let length = fs::metadata(&answers).unwrap().len();
    assert!(length > 1000, "{length}");
    let wanted = std::env::var("OSYNC_FAULT_ROUNDS").ok();
    let places = wanted.map_or(12, |number| number.parse().expect("a number")).min(length);
    let places: Vec<u64> = (0..places).map(|number| length * number / places).collect();
    let damaged = |number: usize, at: u64| {
        let damage = DAMAGES[number % DAMAGES.len()];
        let day = BadDay::over_ssh();
        let login = format!("{honest} | {{ dd bs=1 count={at} 2>/dev/null; {damage}; }}");
        // what leaves the other side waiting for the rest is ended here
        let run = play(&day, &login, "3");
        day.check_heals(&format!("{login}\n{run}"));
    };
    // they wait more than they work
    for (first, some) in (0..).step_by(6).zip(places.chunks(6)) {
        std::thread::scope(|scope| {
            for (number, at) in some.iter().enumerate() {
                let damaged = &damaged;
                scope.spawn(move || damaged(first + number, *at));
            }
        });
    }
}

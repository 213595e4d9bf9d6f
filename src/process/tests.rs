//! Real children.

use super::*;
use std::io::{BufRead, BufReader, Read, Write};
use std::time::Instant;

fn sh(script: &str) -> Command {
    Command { grace: Some(Duration::from_millis(200)), ..Command::new("sh").arg("-c").arg(script) }
}

fn is_alive(pid: &str) -> bool {
    let pid = pid.trim().parse().unwrap();
    rustix::process::test_kill_process(rustix::process::Pid::from_raw(pid).unwrap()).is_ok()
}

/// Waits until processes are gone (orphans are reaped by somebody else, in their own time).
fn assert_dead(pids: &[&str]) {
    let until = Instant::now() + Duration::from_secs(10);
    while pids.iter().any(|pid| is_alive(pid)) {
        assert!(Instant::now() < until, "{pids:?} survived");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn both_streams_arrive_line_by_line() {
    let mut seen = Vec::new();
    let exit = run(
        &sh("echo one; printf 'two\\rthree'; echo bad >&2; exit 3"),
        Input::Nothing,
        &Stop::new(),
        &mut |stream, line| seen.push((stream, String::from_utf8_lossy(line).into_owned())),
    );
    assert_eq!(exit.unwrap(), Exit::Code(3));
    seen.sort_by_key(|(stream, _)| *stream == Stream::Err);
    let expected =
        [(Stream::Out, "one"), (Stream::Out, "two"), (Stream::Out, "three"), (Stream::Err, "bad")];
    assert_eq!(seen, expected.map(|(stream, line)| (stream, line.to_owned())));
}

#[test]
fn more_input_and_output_than_a_pipe_holds_does_not_block() {
    let many = vec![b'x'; 1_000_000];
    let result = output(&sh("tee /dev/stderr"), Input::Bytes(&many), &Stop::new()).unwrap();
    assert_eq!(result.exit, Exit::Code(0));
    assert_eq!(result.stdout, many);
    assert!(result.stderr.len() < 100_000);
}

#[test]
fn a_writer_feeds_the_child_while_it_runs() {
    let lines = Input::Writer(Box::new(|to| {
        for n in 0..50_000 {
            writeln!(to, "{n}")?;
        }
        Ok(())
    }));
    let result = output(&sh("wc -l"), lines, &Stop::new()).unwrap();
    assert_eq!(String::from_utf8_lossy(&result.stdout).trim(), "50000");
}

#[test]
fn a_child_that_does_not_read_its_input_is_no_failure() {
    let many = vec![b'x'; 1_000_000];
    let result = output(&sh("exit 4"), Input::Bytes(&many), &Stop::new()).unwrap();
    assert_eq!(result.exit, Exit::Code(4));
}

#[test]
fn an_input_that_cannot_be_made_is_a_failure() {
    let broken = Input::Writer(Box::new(|_| Err(io::Error::other("no list"))));
    let error = output(&sh("cat"), broken, &Stop::new()).unwrap_err();
    assert_eq!(error.to_string(), "cannot make the input of sh: no list");
}

#[test]
fn a_missing_program_is_named_with_a_remedy() {
    let error = output(&Command::new("/nowhere/rsync"), Input::Nothing, &Stop::new()).unwrap_err();
    assert!(matches!(error, ProcessError::Missing { .. }));
    let text = error.to_string();
    assert!(text.contains("/nowhere/rsync") && text.contains("install"), "{text}");
}

#[test]
fn a_missing_directory_is_not_taken_for_a_missing_program() {
    let command = Command { dir: Some("/nowhere".into()), ..sh("true") };
    let text = output(&command, Input::Nothing, &Stop::new()).unwrap_err().to_string();
    assert!(text.starts_with("cannot run sh in /nowhere:"), "{text}");
}

#[test]
fn a_stop_ends_the_child_and_all_it_started_even_if_they_ignore_term() {
    let stop = Stop::new();
    let asked = stop.clone();
    let mut pids = Vec::new();
    let script = "trap '' TERM; sleep 1000 & echo $! $$; while :; do sleep 1000; done";
    let exit = run(&sh(script), Input::Nothing, &stop, &mut |_, line| {
        pids.extend(String::from_utf8_lossy(line).split(' ').map(str::to_owned));
        asked.request(StopReason::Signal(15));
    });
    assert_eq!(exit.unwrap(), Exit::Stopped(StopReason::Signal(15)));
    assert_eq!(pids.len(), 2);
    assert_dead(&[&pids[0], &pids[1]]);
}

#[test]
fn a_child_may_tidy_up_when_it_is_stopped() {
    let stop = Stop::new();
    let asked = stop.clone();
    let mut said = Vec::new();
    let script = "sleep 1000 & trap 'echo tidied; exit 0' TERM; echo go; wait";
    let command = Command { grace: None, ..sh(script) };
    let exit = run(&command, Input::Nothing, &stop, &mut |_, line| {
        said.push(String::from_utf8_lossy(line).into_owned());
        asked.request(StopReason::HardLimit);
    });
    assert_eq!(exit.unwrap(), Exit::Stopped(StopReason::HardLimit));
    assert_eq!(said, ["go", "tidied"]);
}

#[test]
fn a_stopped_run_starts_nothing() {
    let stop = Stop::new();
    stop.request(StopReason::HardLimit);
    let result = output(&sh("echo ran"), Input::Nothing, &stop).unwrap();
    assert_eq!(result.exit, Exit::Stopped(StopReason::HardLimit));
    assert!(result.stdout.is_empty());
}

#[test]
fn a_child_has_its_own_time_limit() {
    let command = Command { time_limit: Some(Duration::from_millis(50)), ..sh("sleep 1000") };
    let result = output(&command, Input::Nothing, &Stop::new()).unwrap();
    assert_eq!(result.exit, Exit::TimedOut);
}

#[test]
fn what_a_child_leaves_in_the_background_is_ended_soon_after_it() {
    let result = output(&sh("sleep 1000 & echo $!"), Input::Nothing, &Stop::new()).unwrap();
    assert_eq!(result.exit, Exit::Code(0));
    assert_dead(&[&String::from_utf8_lossy(&result.stdout)]);
}

#[test]
fn a_daemon_outside_the_group_that_holds_our_pipes_is_not_waited_for() {
    let script = "setsid sh -c 'echo $$; exec sleep 1000' & wait $!.none 2>/dev/null; sleep 0.2";
    let started = Instant::now();
    let result = output(&sh(script), Input::Nothing, &Stop::new()).unwrap();
    assert!(started.elapsed() < Duration::from_secs(60));
    let pid = String::from_utf8_lossy(&result.stdout).trim().to_owned();
    assert!(is_alive(&pid), "{result:?}");
    let daemon = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
    rustix::process::kill_process(daemon, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_sink_that_panics_leaves_no_child_behind() {
    let pid = std::sync::Mutex::new(String::new());
    let result = std::panic::catch_unwind(|| {
        let big = vec![0; 1_000_000];
        let _ =
            run(&sh("echo $$; sleep 1000"), Input::Bytes(&big), &Stop::new(), &mut |_, line| {
                *pid.lock().unwrap() = String::from_utf8_lossy(line).into_owned();
                std::panic::resume_unwind(Box::new("enough"));
            });
    });
    assert!(result.is_err());
    let pid = pid.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    assert_dead(&[&pid]);
}

#[test]
fn a_long_lived_child_answers_and_ends_when_its_input_closes() {
    let stop = Stop::new();
    let mut child = spawn(&sh("echo hello >&2; cat"), &stop, Box::new(|_| ())).unwrap();
    let mut to = child.take_stdin().unwrap();
    let mut from = BufReader::new(child.take_stdout().unwrap());
    for question in ["one\n", "two\n"] {
        to.write_all(question.as_bytes()).unwrap();
        let mut answer = String::new();
        from.read_line(&mut answer).unwrap();
        assert_eq!(answer, question);
    }
    assert_eq!(child.wait(Duration::ZERO), None);
    drop(to);
    assert_eq!(child.finish(Duration::from_secs(30), Duration::ZERO), Exit::Code(0));
    assert_eq!(child.stderr(), b"hello\n");
    assert_eq!(from.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_long_lived_child_is_ended_on_demand_on_drop_and_by_a_stop() {
    let stop = Stop::new();
    let begin = || {
        let mut child = spawn(&sh("echo $$; sleep 1000"), &stop, Box::new(|_| ())).unwrap();
        let mut out = BufReader::new(child.take_stdout().unwrap());
        let mut pid = String::new();
        out.read_line(&mut pid).unwrap();
        (child, out, pid)
    };
    let (mut ended, _, first) = begin();
    assert_eq!(ended.end(Duration::from_millis(100)), Exit::Signal(15));
    let (dropped, _, second) = begin();
    drop(dropped);
    let (stopped, mut out, third) = begin();
    stop.request(StopReason::HardLimit);
    assert_eq!(out.read(&mut [0]).unwrap(), 0, "its output ends");
    let exit = stopped.wait(Duration::from_secs(30));
    assert_eq!(exit, Some(Exit::Stopped(StopReason::HardLimit)));
    assert_dead(&[&first, &second, &third]);
}

#[test]
fn writing_to_a_long_lived_child_that_has_ended_fails_instead_of_blocking() {
    let mut child = spawn(&sh("exit 5"), &Stop::new(), Box::new(|_| ())).unwrap();
    let mut to = child.take_stdin().unwrap();
    let big = vec![0; 1_000_000];
    assert_eq!(to.write_all(&big).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(child.wait(Duration::from_secs(30)), Some(Exit::Code(5)));
}

#[test]
fn a_child_that_says_little_all_the_time_is_read_in_large_pieces_and_loses_nothing() {
    let script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; echo last >&2";
    let mut expected = 0;
    let mut said = Vec::new();
    let command = Command::new("sh").args(["-c", script]);
    let exit = run(&command, Input::Nothing, &Stop::new(), &mut |stream, line| match stream {
        Stream::Out => {
            assert_eq!(line, format!("line {expected}").as_bytes());
            expected += 1;
        }
        Stream::Err => said.push(line.to_vec()),
    });
    assert!(exit.unwrap().is_success());
    assert_eq!((expected, said), (20_000, vec![b"last".to_vec()]));
}

use super::*;
use crate::config::{Environment, Flags, ThisMachine, resolve};
use crate::report::testing::Ear;
use std::path::Path;
use std::time::Instant;

/// A task between two directories with these further keys.
fn config(dir: &Path, keys: &[(&str, &str)]) -> Config {
    let place = |name: &str| dir.join(name).into_os_string();
    let mut env: Vec<(&str, OsString)> = vec![
        ("INSTANCE_ID", "hooked".into()),
        ("INITIATOR_SYNC_DIR", place("a")),
        ("TARGET_SYNC_DIR", place("b b")),
    ];
    env.extend(keys.iter().map(|(key, value)| (*key, OsString::from(value))));
    let env: Environment = env.into_iter().collect();
    let resolution = resolve(None, &Flags::default(), &env, &ThisMachine);
    resolution.config.unwrap_or_else(|| panic!("{:?}", resolution.errors))
}

/// Runs the before-commands with a remote side that does what `there` says.
fn before_with(config: &Config, ear: &Ear, there: &mut RunThere<'_>) -> RoundResult {
    let round = Round {
        when: "before",
        local: config.hooks.local_before.as_deref(),
        remote: config.hooks.remote_before.as_deref(),
        limit: limit(config.hooks.max_before),
        env: variables(config, None),
    };
    round.run(Some(There { side: Side::Target, run: there }), ear, &Stop::new())
}

#[test]
fn commands_get_variables_about_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let list = "env | grep ^OSYNC_ | sort";
    let keys = [("LOCAL_RUN_BEFORE_CMD", list), ("LOCAL_RUN_AFTER_CMD", list)];
    let config = config(dir.path(), &keys);
    let (a, b) = (dir.path().join("a"), dir.path().join("b b"));
    let common = format!("OSYNC_INITIATOR={}\nOSYNC_INSTANCE_ID=hooked\n", a.display());

    let ear = Ear::default();
    before(&config, None, &ear, &Stop::new()).unwrap();
    let said = ear.said(Level::Verbose);
    assert!(said.contains(&format!("{common}OSYNC_TARGET={}\n", b.display())), "{said}");
    assert!(!said.contains("OSYNC_STATUS"), "{said}");

    let ear = Ear::default();
    let mut result = ResultForHooks { conflicts: 3, ..ResultForHooks::default() };
    result.counts.target.updates = 7;
    result.counts.initiator.bytes = 99;
    after(&config, &result, None, &ear, &Stop::new());
    let said = ear.said(Level::Verbose);
    for line in [
        "OSYNC_STATUS=0",
        "OSYNC_UPDATES_TARGET=7",
        "OSYNC_UPDATES_INITIATOR=0",
        "OSYNC_BYTES_INITIATOR=99",
        "OSYNC_DELETIONS_TARGET=0",
        "OSYNC_CONFLICTS=3",
    ] {
        assert!(said.lines().any(|l| l == line), "no {line} in {said}");
    }
}

#[test]
fn a_failing_command_is_an_error_and_stops_the_run_if_asked() {
    let dir = tempfile::tempdir().unwrap();
    for (stop_on_error, command, stopped, error) in [
        (
            "no",
            "echo out; echo err >&2; exit 3",
            false,
            "before the run ended with status 3; it said:\n",
        ),
        ("yes", "exit 3", true, "before the run ended with status 3\n"),
        ("yes", "kill -9 $$", true, "was ended by signal 9"),
        ("yes", "true", false, ""),
    ] {
        let keys = [("LOCAL_RUN_BEFORE_CMD", command), ("STOP_ON_CMD_ERROR", stop_on_error)];
        let ear = Ear::default();
        let end = before(&config(dir.path(), &keys), None, &ear, &Stop::new());
        assert_eq!(end.is_err(), stopped, "{command}");
        let said = ear.said(Level::Error);
        assert!(said.contains(error) && said.is_empty() == error.is_empty(), "{command}: {said}");
        if command.contains("echo") {
            assert!(said.contains("out\n") && said.contains("err\n"), "{said}");
        }
    }
}

#[test]
fn a_command_that_takes_too_long_is_ended_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let keys = [
        ("LOCAL_RUN_BEFORE_CMD", "echo begun; sleep 100 & wait"),
        ("MAX_EXEC_TIME_PER_CMD_BEFORE", "1"),
        ("STOP_ON_CMD_ERROR", "yes"),
    ];
    let (ear, start) = (Ear::default(), Instant::now());
    assert!(before(&config(dir.path(), &keys), None, &ear, &Stop::new()).is_err());
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    let said = ear.said(Level::Error);
    assert!(said.contains("longer than 1 s") && said.contains("begun"), "{said}");
}

#[test]
fn local_and_remote_commands_run_at_the_same_time() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    // each waits for the other
    let here = format!("mkfifo '{0}'; echo from here > '{0}'", fifo.display());
    let keys = [("LOCAL_RUN_BEFORE_CMD", here.as_str()), ("REMOTE_RUN_BEFORE_CMD", "there")];
    let ear = Ear::default();
    let verdict = before_with(&config(dir.path(), &keys), &ear, &mut |command, env, limit| {
        assert_eq!((command, limit), ("there", None));
        assert!(env.contains(&("OSYNC_INSTANCE_ID".to_owned(), "hooked".to_owned())));
        while !fifo.exists() {
            std::thread::yield_now();
        }
        Ok(HookResult { status: Some(0), output: std::fs::read(&fifo).unwrap() })
    });
    assert_eq!(verdict, RoundResult::Fine);
    assert!(
        ear.said(Level::Verbose)
            .contains("Done: the remote command before the run; it said:\nfrom here")
    );
}

#[test]
fn a_remote_command_that_fails_or_cannot_be_run_is_an_error_with_its_side() {
    let dir = tempfile::tempdir().unwrap();
    let keys = [("REMOTE_RUN_BEFORE_CMD", "there"), ("MAX_EXEC_TIME_PER_CMD_BEFORE", "60")];
    let config = config(dir.path(), &keys);
    let lost = || {
        Err(ReplicaError {
            side: Side::Target,
            location: "h".into(),
            what: "it is gone".into(),
            trouble: crate::replica::Trouble::Other,
        })
    };
    let ended = |status| Ok(HookResult { status, output: b"words\xff\n".to_vec() });
    for (result, error) in [
        (
            ended(Some(4)),
            "target: the remote command before the run ended with status 4; it said:\nwords",
        ),
        (
            ended(None),
            "target: the remote command before the run was ended, because it took longer than 1 min 0 s (MAX_EXEC_TIME_PER_CMD_BEFORE); it said:\nwords",
        ),
        (lost(), "target: cannot run the remote command before the run: it is gone"),
    ] {
        let (ear, mut result) = (Ear::default(), Some(result));
        let verdict = before_with(&config, &ear, &mut |_, _, _| result.take().unwrap());
        assert_eq!(verdict, RoundResult::Failed);
        assert!(ear.said(Level::Error).contains(error), "{}", ear.said(Level::Error));
    }
}

#[test]
fn after_commands_run_after_errors_only_if_asked() {
    let dir = tempfile::tempdir().unwrap();
    for (on_error, status, runs) in
        [("no", 0, true), ("no", 1, false), ("no", 2, false), ("yes", 1, true), ("yes", 2, true)]
    {
        let keys = [("LOCAL_RUN_AFTER_CMD", "echo ran"), ("RUN_AFTER_CMD_ON_ERROR", on_error)];
        let ear = Ear::default();
        let result = ResultForHooks { status, ..ResultForHooks::default() };
        after(&config(dir.path(), &keys), &result, None, &ear, &Stop::new());
        assert_eq!(ear.said(Level::Verbose).contains("ran"), runs, "{on_error} {status}");
        assert_eq!(ear.said(Level::Notice).contains("are not run"), !runs, "{on_error} {status}");
    }
}

#[test]
fn a_dry_run_says_that_commands_are_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let keys = [("LOCAL_RUN_BEFORE_CMD", "false"), ("STOP_ON_CMD_ERROR", "yes")];
    let mut config = config(dir.path(), &keys);
    config.flags.dry = true;
    let ear = Ear::default();
    before(&config, None, &ear, &Stop::new()).unwrap();
    after(&config, &ResultForHooks::default(), None, &ear, &Stop::new());
    assert_eq!(
        ear.said(Level::Notice),
        "The commands before and after the run are not run in a dry run.\n"
    );
}

#[test]
fn what_a_command_holds_is_shown_to_the_verbose_only() {
    let dir = tempfile::tempdir().unwrap();
    let keys = [("LOCAL_RUN_BEFORE_CMD", "dump --password=geheim; exit 1")];
    let ear = Ear::default();
    before(&config(dir.path(), &keys), None, &ear, &Stop::new()).unwrap();
    for level in [Level::Notice, Level::Error] {
        assert!(!ear.said(level).contains("geheim"), "{level:?}");
    }
    assert!(ear.said(Level::Verbose).contains("geheim"));
}

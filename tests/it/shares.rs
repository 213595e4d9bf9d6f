//! Many new files go over in two rsyncs at the same time.

use crate::support::sandbox::{Outcome, Run, Sandbox};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// An rsync that notes each transfer in `calls`, and of two makes only the first (`spoil`).
const WRAPPER: &str = r#"#!/bin/sh
case " $* " in *" --files-from=- "*) ;; *) exec rsync "$@" ;; esac
echo "$*" >>"$CALLS"
[ -z "$SPOIL" ] || mkdir "$SPOIL" 2>/dev/null || exit 12
exec rsync "$@"
"#;

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    for dir in ["one", "two", "three"] {
        for part in 0..7 {
            fs::create_dir_all(sandbox.a.root.join(format!("{dir}/{part}"))).unwrap();
        }
        for number in 0..700 {
            sandbox.a.write(format!("{dir}/{}/{number}", number % 7), dir, 1_500_000_000);
        }
    }
    let wrapper = sandbox.path("wrapper");
    fs::write(&wrapper, WRAPPER).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    sandbox
}

fn run(sandbox: &Sandbox, spoil: &str, settings: &[(&str, &str)]) -> (Outcome, usize) {
    let _ = fs::remove_file(sandbox.path("calls"));
    let run: Run = sandbox
        .quick()
        .env("RSYNC_EXECUTABLE", sandbox.path("wrapper"))
        .env("CALLS", sandbox.path("calls"))
        .env("SPOIL", spoil);
    let run = settings.iter().fold(run, |run, (key, value)| run.env(key, value)).run();
    let calls = fs::read_to_string(sandbox.path("calls")).unwrap_or_default();
    (run, calls.lines().count())
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[test]
fn all_arrives_whether_in_one_share_or_two() {
    for (settings, shares) in [
        (&[][..], 2.min(processors())),
        (&[("BANDWIDTH", "1000000")], 1),
        (&[("PARTIAL", "yes")], 1),
        (&[("PRESERVE_HARDLINKS", "yes")], 1),
    ] {
        let sandbox = sandbox();
        let (first, calls) = run(&sandbox, "", settings);
        assert_eq!((first.status, calls), (Some(0), shares), "{settings:?}\n{first}");
        assert_eq!(sandbox.a.details(), sandbox.b.details());
        let (second, calls) = run(&sandbox, "", settings);
        assert_eq!((second.status, calls), (Some(0), 0), "{settings:?}\n{second}");
    }
}

#[test]
fn a_share_that_fails_is_made_up_for_by_the_next_run() {
    if processors() < 2 {
        eprintln!("skipped: this machine has one processor, and all goes in one share");
        return;
    }
    let sandbox = sandbox();
    let before = sandbox.a.details();
    let spoil = sandbox.path("spoil");
    let (first, calls) = run(&sandbox, spoil.to_str().unwrap(), &[]);
    assert_eq!((first.status, calls), (Some(1), 2), "{first}");
    assert!(first.stderr.contains("rsync"), "{first}");
    let arrived =
        ["one", "two", "three"].iter().filter(|dir| sandbox.b.has(format!("{dir}/0/0"))).count();
    assert!((1..3).contains(&arrived), "{arrived} of three");
    let (second, _) = run(&sandbox, "", &[]);
    assert_eq!(second.status, Some(0), "{second}");
    assert_eq!(sandbox.a.details(), before);
    assert_eq!(sandbox.b.details(), before);
}

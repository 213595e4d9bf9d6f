//! What can be typed, and what comes back (spec 1).

use crate::support::sandbox::Sandbox;
use std::os::unix::ffi::OsStrExt;

#[test]
fn help_and_version_go_to_standard_output() {
    let sandbox = Sandbox::new();
    for args in [["--help"], ["-h"], ["help"], ["--version"], ["-v"], ["-V"]] {
        let run = sandbox.osync().args(args).run();
        assert_eq!(run.status, Some(0), "{args:?} {run}");
        assert_eq!(run.stderr, "", "{args:?}");
        assert!(
            run.stdout.contains(if args[0].contains('h') { "Usage" } else { "osync 2." }),
            "{run}"
        );
    }
}

#[test]
fn every_command_tells_the_version() {
    let sandbox = Sandbox::new();
    for command in ["sync", "batch", "check", "upgrade", "state", "ssh-filter", "man"] {
        for flag in ["--version", "-v"] {
            let run = sandbox.osync().args([command, flag]).run();
            assert_eq!(run.status, Some(0), "{command} {flag} {run}");
            assert!(run.stdout.contains(env!("CARGO_PKG_VERSION")), "{command} {flag} {run}");
        }
    }
}

#[test]
fn every_help_fits_80_columns() {
    let sandbox = Sandbox::new();
    for command in
        ["", "sync", "batch", "check", "upgrade", "state", "ssh-filter", "completions", "man"]
    {
        let args: Vec<_> = [command, "--help"].into_iter().filter(|arg| !arg.is_empty()).collect();
        let run = sandbox.osync().args(args).run();
        assert_eq!(run.status, Some(0), "{command} {run}");
        let long: Vec<_> = run.stdout.lines().filter(|line| line.chars().count() > 80).collect();
        assert_eq!(long, [""; 0], "{command}");
    }
}

#[test]
fn help_is_grouped_and_shows_every_flag_of_the_manual() {
    let help = Sandbox::new().osync().arg("--help").run().stdout;
    for part in ["What a run does", "What is shown", "Monitor mode", "Quicksync", "Examples:"] {
        assert!(help.contains(part), "{part}");
    }
    for flag in [
        "dry",
        "silent",
        "verbose",
        "errors-only",
        "no-prefix",
        "non-interactive",
        "summary",
        "stats",
        "partial",
        "no-maxtime",
        "force-unlock",
        "no-locks",
        "no-resume",
        "initialize",
        "log-conflicts",
        "alert-conflicts",
        "on-changes",
        "on-changes-target",
        "report",
        "force-delete",
        "initiator",
        "target",
        "rsakey",
        "password-file",
        "krb5",
        "ssh-controlmaster",
        "remote-token",
        "instance-id",
        "skip-deletion",
        "sync-type",
        "destination-mails",
        "initiator-state-dir",
        "target-state-dir",
    ] {
        assert!(help.contains(&format!("--{flag}")), "{flag}");
    }
}

#[test]
fn bad_usage_is_one_line_and_128() {
    let sandbox = Sandbox::new();
    for (args, part) in [
        ("--drry", "did you mean '--dry'?"),
        ("a.conf --sumary", "did you mean '--summary'?"),
        ("-errors-only", "did you mean '--errors-only'?"),
        ("--errors_only", "did you mean '--errors-only'?"),
        ("--what-is-this", "unknown option '--what-is-this'"),
        ("--thingamajig=secret", "unknown option '--thingamajig' "),
        ("--master=a --slave=b", "it is --initiator now"),
        ("", "nothing to do"),
        ("--dry", "nothing to do"),
        ("--initiator=a", "--target=DIR is missing"),
        ("--target=a", "--initiator=DIR is missing"),
        ("--report", "--report needs a value"),
        ("--krb5=yes", "--krb5 takes no value"),
        ("--sync-type=both", "bad value 'both'"),
        ("--skip-deletion=both", "it is initiator, target, or initiator,target"),
        ("a.conf b.conf", "unexpected argument 'b.conf'"),
        ("chekc a.conf", "did you mean 'check'?"),
        ("upgarde", "did you mean 'upgrade'?"),
        ("--dry batch", "the command 'batch' comes first"),
        ("--on-changes --on-changes-target", "cannot be used with"),
        ("batch --path", "--path needs a value"),
        ("batch --max-runs=x", "whole number"),
        ("batch --sumary", "did you mean '--summary'?"),
        ("batch --to-toml", "is of another command"),
        ("help bacth", "unknown command 'bacth'; did you mean 'batch'?"),
        ("help nothing-like-it", "unknown command 'nothing-like-it'"),
        ("upgrade", "name a configuration file"),
        ("state", "a command is missing"),
        ("state show", "name a configuration file"),
        ("check", "nothing to do"),
        ("completions", "<SHELL> is missing"),
        ("completions bahs", "did you mean 'bash'?"),
        ("ssh-filter", "<TOKEN> is missing"),
    ] {
        let run = sandbox.osync().args(args.split_whitespace()).run();
        assert_eq!(run.status, Some(128), "{args}: {run}");
        assert_eq!(run.stdout, "", "{args}");
        assert_eq!(run.stderr.lines().count(), 1, "{args}: {run}");
        assert!(run.stderr.contains(part), "{args}: {run}");
    }
}

#[test]
fn programs_of_osync_1_answer_under_their_old_names() {
    let sandbox = Sandbox::new();
    for (name, part) in [
        ("/usr/local/bin/osync.sh", "osync CONFIG_FILE"),
        ("osync-batch.sh", "--max-exec-time"),
        ("osync-batch", "--max-exec-time"),
        ("ssh_filter.sh", "--no-sudo"),
        ("upgrade-v1.0x-v1.3x.sh", "--to-toml"),
        ("upgrade-v1.0x-v1.2x.sh", "--to-toml"),
    ] {
        let run = sandbox.osync().called(name).arg("--help").run();
        assert_eq!(run.status, Some(0), "{name} {run}");
        assert!(run.stdout.contains(part), "{name} {run}");
    }
}

#[test]
fn values_may_stand_behind_a_sign_or_a_blank_and_hold_any_bytes() {
    let sandbox = Sandbox::new();
    let name = std::ffi::OsStr::from_bytes(b"b=\xff \n'\"$x");
    std::fs::create_dir(sandbox.path(name)).unwrap();
    sandbox.a.make("f hello world");
    let mut target = std::ffi::OsString::from("--target=");
    target.push(sandbox.path(name));
    let run = sandbox.osync().args(["--initiator", "a"]).arg(target).run();
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(std::fs::read(sandbox.path(name).join("hello")).unwrap(), b"world");
}

#[test]
fn sync_is_the_same_as_no_command_and_a_repeated_flag_counts_once() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f x y");
    let file = sandbox.config("t.conf", "");
    let run = sandbox.osync().arg("sync").arg(&file).args(["--dry", "--dry"]).run();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(!sandbox.b.has("x"));
    let run =
        sandbox.osync().arg("sync").args(["--instance-id=a", "--instance-id=b"]).arg(&file).run();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(sandbox.a.has(".osync_workdir/state/initiator-tree-after-b"));
}

#[test]
fn a_file_named_like_a_command_is_reached_by_its_path() {
    let sandbox = Sandbox::new();
    let run = sandbox.osync().arg("./batch").run();
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stderr.contains("ends in .conf or .toml"), "{run}");
}

#[test]
fn man_page_and_completions_name_every_flag() {
    let sandbox = Sandbox::new();
    for args in
        [&["man"][..], &["completions", "bash"], &["completions", "zsh"], &["completions", "fish"]]
    {
        let run = sandbox.osync().args(args).run();
        assert_eq!(run.status, Some(0), "{run}");
        for flag in ["force-unlock", "on-changes-target", "skip-deletion"] {
            let text = run.stdout.replace('\\', "");
            assert!(text.contains(flag), "{args:?} {flag}");
        }
    }
    let bash = sandbox.osync().args(["completions", "bash"]).run().stdout;
    std::fs::write(sandbox.path("c.bash"), bash).unwrap();
    let checked = sandbox.program("bash").args(["-n", "c.bash"]).run();
    assert_eq!(checked.status, Some(0), "{checked}");
}

#[test]
fn the_silent_run_says_nothing_even_of_bad_settings() {
    let sandbox = Sandbox::new();
    let file = sandbox.config("t.conf", "KRB5=perhaps");
    let run = sandbox.osync().arg(&file).arg("--silent").run();
    assert_eq!(run.status, Some(1), "{run}");
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
    assert!(sandbox.log().contains("KRB5: 'perhaps' is not yes"), "{}", sandbox.log());
}

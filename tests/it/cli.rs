//! What can be typed, and what comes back (spec 1).

use crate::support::sandbox::{Sandbox, fine};
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
    for command in ["sync", "batch", "init", "check", "upgrade", "state", "ssh-filter", "man"] {
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
    for command in [
        "",
        "sync",
        "batch",
        "init",
        "check",
        "upgrade",
        "state",
        "ssh-filter",
        "completions",
        "man",
    ] {
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
        ("a.conf --dry-run", "did you mean '--dry'?"),
        ("--dryrun", "did you mean '--dry'?"),
        ("--errors", "did you mean '--errors-only'?"),
        ("frobnicate", "neither a command nor a configuration file"),
        ("frobnicate x", "neither a command nor a configuration file"),
        ("--initiator=a --target=x --summary --instance x", "did you mean '--instance-id'?"),
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
        ("--initiator=a --target=b --wait x", "LOCK_WAIT"),
        ("--initiator=a --target=ftp://x/y", "TARGET_SYNC_DIR"),
        ("--initiator=a --target=a", "are the same directory"),
        ("--initiator=a --target=b --only 9", "--only"),
        ("history --initiator=a --target=a", "are the same directory"),
        ("scrub a.conf b", "unexpected argument 'b'"),
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
        ("ssh-filter", "command=\"/usr/local/bin/ssh_filter.sh TOKEN\""),
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
    let unknown = sandbox.osync().args(["man", "serve"]).run();
    assert_eq!(unknown.status, Some(128), "{unknown}");
    let bash = sandbox.osync().args(["completions", "bash"]).run().stdout;
    std::fs::write(sandbox.path("c.bash"), bash).unwrap();
    let checked = sandbox.program("bash").args(["-n", "c.bash"]).run();
    assert_eq!(checked.status, Some(0), "{checked}");
}

#[test]
fn every_page_is_a_sound_one_that_the_installer_installs() {
    let sandbox = Sandbox::new();
    let cli = <osync::testing::cli::Cli as clap::CommandFactory>::command();
    let shown = cli.get_subcommands().filter(|command| !command.is_hide_set());
    let mut commands: Vec<&str> = shown.map(clap::Command::get_name).collect();
    let has_mandoc = std::process::Command::new("mandoc").arg("-V").output().is_ok();
    if !has_mandoc {
        eprintln!("skipped: there is no mandoc to check the pages with");
    }
    let titles = commands.iter().map(|name| (vec!["man", *name], format!("osync-{name}")));
    let others =
        [(vec!["man"], "osync".to_owned()), (vec!["man", "conf"], "osync.conf".to_owned())];
    for (args, title) in titles.chain(others) {
        let page = sandbox.osync().args(&args).run();
        fine(&page);
        let head = format!(".TH \"{}\" ", title.to_uppercase().replace('-', "\\-"));
        assert!(page.stdout.starts_with(&head), "{page}");
        if has_mandoc {
            std::fs::write(sandbox.path("page"), &page.stdout).unwrap();
            let lint = sandbox.program("mandoc").args(["-T", "lint", "page"]).run();
            assert_eq!(lint.stdout, "", "{title}: {lint}");
        }
    }
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = std::fs::read_to_string(root.join("install.sh")).unwrap();
    let list = script.split("\ncommands=\"").nth(1).unwrap().split('"').next().unwrap();
    let mut installed: Vec<&str> = list.split_whitespace().collect();
    installed.sort_unstable();
    commands.sort_unstable();
    assert_eq!(installed, commands);
}

#[test]
fn the_shells_complete_paths_and_runs_from_the_journal() {
    let sandbox = Sandbox::new();
    let (a, b) = (&sandbox.a, &sandbox.b);
    a.make("d let\nf let/bank.odt 1\nf let/my\\sletter 1\nf gone 1\nf x x");
    let config = sandbox.config("t.conf", "");
    let config = config.to_str().unwrap();
    let run = || assert_eq!(sandbox.osync().arg(config).run().status, Some(0));
    run();
    a.remove("gone");
    b.write("let/bank.odt", "22", 1_600_000_000);
    a.write("x", "1", 1_600_000_000);
    b.write("x", "22", 1_600_000_001);
    run();
    let offered = |words: &[&str]| offered_by_bash(&sandbox, &[&["osync"], words].concat());
    let listed = |words: &[&str]| offered(words).join(" ");
    assert_eq!(listed(&["history", config, "l"]), "let/");
    assert_eq!(listed(&["restore", config, "let/"]), "let/bank.odt let/my letter");
    assert_eq!(listed(&["restore", config, "let/my\\ l"]), "let/my letter");
    assert_eq!(listed(&["restore", config, "g"]), "gone");
    assert_eq!(listed(&["undo", config, ""]), "1 2");
    assert_eq!(listed(&["history", config, "--run", ""]), "1 2");
    assert_eq!(listed(&["conflicts", config, "t"]), "take");
    assert_eq!(listed(&["conflicts", config, "take", ""]), "x");
    assert_eq!(listed(&["conflicts", config, "take", "x", "b"]), "both");
    let root = a.root.to_str().unwrap();
    let quick = ["history", "--initiator", root, "--target", b.root.to_str().unwrap()];
    assert_eq!(listed(&[&quick[..], &["--f"]].concat()), "--failed", "flags as ever");
    if std::process::Command::new("fish").arg("--version").output().is_ok() {
        let text = sandbox.osync().args(["completions", "fish"]).run().stdout;
        std::fs::write(sandbox.path("s"), text).unwrap();
        let bin = std::path::Path::new(crate::support::osync()).parent().unwrap();
        let script = format!(
            "set -x PATH {} $PATH; source ./s; complete -C 'osync history {config} l'",
            bin.display()
        );
        let run = sandbox.program("fish").args(["-c", &script]).run();
        assert!(run.stdout.lines().any(|line| line.starts_with("let/")), "{run}");
    }
}

/// What bash offers for a command line, word by word as bash splits it.
fn offered_by_bash(sandbox: &Sandbox, words: &[&str]) -> Vec<String> {
    let script = r#"
        PATH="${OSYNC%/*}:$PATH"
        source <("$OSYNC" completions bash)
        how=$(complete -p "$1")
        function=${how#*-F } function=${function%% *}
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        "$function" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    let run = sandbox
        .program("bash")
        .args(["-c", script, "bash"])
        .args(words)
        .env("OSYNC", crate::support::osync())
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    run.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_what_people_type_under_both_names() {
    let sandbox = Sandbox::new();
    let sides = ["initiator", "target", "initiator,target"];
    let ways = ["initiator2target", "target2initiator"];
    for program in ["osync", "osync.sh"] {
        let offered = |words: &[&str]| offered_by_bash(&sandbox, &[&[program], words].concat());
        let all = offered(&[""]);
        for wanted in ["batch", "history", "check", "--dry", "--on-changes"] {
            assert!(all.iter().any(|word| word == wanted), "{wanted}: {all:?}");
        }
        for hidden in ["serve", "rsh", "--dated-prefix", "--batch-report", "--hold-alert"] {
            assert!(!all.iter().any(|word| word == hidden), "{hidden}: {all:?}");
        }
        for before in [&[][..], &["check"], &["batch"], &["sync"]] {
            let with = |words: &[&str]| offered(&[before, words].concat());
            assert_eq!(with(&["--skip-deletion", ""]), sides, "{before:?}");
            assert_eq!(with(&["--skip-deletion", "="]), sides, "{before:?}");
            assert_eq!(with(&["--skip-deletion", "=", "tar"]), ["target"], "{before:?}");
            assert_eq!(with(&["--sync-type", "="]), ways, "{before:?}");
        }
        assert_eq!(offered(&["completions", "z"]), ["zsh"]);
    }
    // where these shells are, they read theirs
    for (shell, script) in [
        ("zsh", "autoload -Uz compinit; compinit -u -D; source ./s"),
        ("fish", "source ./s; complete -C 'osync.sh --skip-deletion='"),
        ("fish", "source ./s; complete -C 'osync --skip-deletion '"),
        ("fish", "source ./s; complete -C 'osync batch --skip-deletion '"),
        ("fish", "source ./s; complete -C 'osync task.conf --skip-deletion '"),
    ] {
        let text = sandbox.osync().args(["completions", shell]).run().stdout;
        assert!(!text.contains("serve") && !text.contains("dated-prefix"), "{text}");
        assert!(text.contains("osync.sh"), "{text}");
        std::fs::write(sandbox.path("s"), text).unwrap();
        if std::process::Command::new(shell).arg("--version").output().is_ok() {
            let run = sandbox.program(shell).args(["-c", script]).run();
            assert_eq!((run.status, run.stderr.as_str()), (Some(0), ""), "{run}");
            assert!(shell != "fish" || run.stdout.contains("initiator,target"), "{run}");
        }
    }
}

#[test]
fn no_example_of_the_help_is_broken_into_two_lines() {
    let sandbox = Sandbox::new();
    let help = sandbox.osync().arg("--help").run().stdout;
    let commands = help.split_once("Other commands:\n").unwrap().1.split("\n\n").next().unwrap();
    let commands =
        commands.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let commands: Vec<&str> = commands.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.contains(&"batch") && commands.contains(&"history"), "{commands:?}");
    for command in [&[""][..], &commands].concat() {
        let args: Vec<&str> =
            [command, "--help"].into_iter().filter(|arg| !arg.is_empty()).collect();
        let help = sandbox.osync().args(args).run().stdout;
        let examples = help.split_once("Examples:\n").map_or("", |(_, after)| after);
        let examples = examples.split("\n\n").next().unwrap_or_default();
        assert!(!command.is_empty() || examples.lines().count() >= 5, "{help}");
        for line in examples.lines() {
            let words = line.split_whitespace();
            let mut commands =
                words.skip_while(|word| word.contains('=') && !word.starts_with('-'));
            assert_eq!(commands.next(), Some("osync"), "{line:?} in {help}");
        }
    }
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

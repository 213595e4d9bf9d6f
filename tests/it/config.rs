//! Configuration files as people have them, and `osync check` (spec 1, spec 2).

use crate::support::sandbox::Sandbox;
use crate::support::sshd::Sshd;
use osync::testing::config::KEYS;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What `osync check --json` says.
fn check(sandbox: &Sandbox, args: &[&str]) -> Value {
    let run = sandbox.osync().args(["check", "--json"]).args(args).run();
    let said: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|e| panic!("{e} {run}"));
    assert_eq!(said["status"], run.status.unwrap(), "{run}");
    said
}

fn setting<'a>(said: &'a Value, key: &str) -> &'a Value {
    let settings = said["settings"].as_array().unwrap();
    settings.iter().find(|one| one["key"] == key).unwrap()
}

fn access<'a>(said: &'a Value, what: &str) -> &'a Value {
    let findings = said["access"].as_array().unwrap();
    findings.iter().find(|one| one["what"] == what).unwrap()
}

#[test]
fn a_shell_file_runs_as_its_author_means_it() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f keep x\nf skip.tmp y");
    fs::write(sandbox.path("etc/exclude.list"), "# mine\r\n*.tmp\r\n").unwrap();
    let text = format!(
        "\u{feff}#!/usr/bin/env bash\r\n[GENERAL]\r\n\
         BASE={}\r\nexport INSTANCE_ID=\"sync_$(echo one)_${{NONE:-two}}\"\r\n\
         INITIATOR_SYNC_DIR=\"$BASE/a\"   # the first\r\nTARGET_SYNC_DIR='{}/b'\r\n\
         RSYNC_EXCLUDE_FROM=exclude.list\r\n",
        sandbox.root().display(),
        sandbox.root().display()
    );
    let file = sandbox.path("etc/t.conf");
    fs::write(&file, text).unwrap();
    let run = sandbox.osync().arg(&file).run();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(sandbox.b.has("keep") && !sandbox.b.has("skip.tmp"));
    assert!(sandbox.a.has(".osync_workdir/state/initiator-tree-after-sync_one_two"));
}

#[test]
fn the_same_task_runs_from_toml() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f keep x\nf stay x\nf a;b y\nf c z");
    let text = format!(
        "instance_id = \"toml\"\n[general]\ninitiator_sync_dir = \"{}\"\nTARGET_SYNC_DIR = \"{}\"\n\
         rsync_exclude_pattern = [\"a;b\", \"c\"]\n[backup_delete_options]\nsoft_delete = false\n",
        sandbox.a.root.display(),
        sandbox.b.root.display()
    );
    let file = sandbox.path("etc/t.toml");
    fs::write(&file, text).unwrap();
    let run = sandbox.osync().arg(&file).run();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(sandbox.b.has("keep") && !sandbox.b.has("a;b") && !sandbox.b.has("c"));
    sandbox.a.remove("keep");
    let run = sandbox.osync().arg(&file).run();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(!sandbox.b.has("keep") && !sandbox.b.has(".osync_workdir/deleted/keep"));
}

#[test]
fn all_problems_of_a_file_are_told_at_once_and_nothing_is_done() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f x y");
    let file = sandbox.config("t.conf", "KRB5=perhaps\nX=(1 2)\nBANDWIDTH=fast\nSOFT_DELET=no");
    let run = sandbox.osync().arg(&file).run();
    assert_eq!(run.status, Some(1), "{run}");
    for part in [
        "t.conf:4: KRB5: 'perhaps'",
        "t.conf:5: X: arrays",
        "t.conf:6: BANDWIDTH: 'fast'",
        "t.conf:7: SOFT_DELET: unknown setting, without effect; SOFT_DELETE may be meant",
    ] {
        assert!(run.stderr.contains(part), "{part} {run}");
    }
    assert!(!sandbox.a.has(".osync_workdir") && !sandbox.b.has("x"));
}

#[test]
fn an_unknown_setting_is_a_warning() {
    let sandbox = Sandbox::new();
    let file = sandbox.config("t.conf", "SOFT_DELET=no");
    let run = sandbox.osync().arg(&file).run();
    assert_eq!(run.status, Some(2), "{run}");
    assert!(run.stderr.contains("SOFT_DELETE may be meant"), "{run}");
}

#[test]
fn files_that_are_no_tasks_are_refused() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("etc/x.txt"), "INSTANCE_ID=x").unwrap();
    fs::create_dir(sandbox.path("etc/d.conf")).unwrap();
    for (name, part) in [
        ("etc/x.txt", "ends in .conf or .toml"),
        ("etc/none.conf", "cannot read the configuration file"),
        ("etc/d.conf", "directory"),
    ] {
        let run = sandbox.osync().arg(name).run();
        assert_eq!(run.status, Some(1), "{run}");
        assert!(run.stderr.contains(part), "{run}");
    }
}

#[test]
fn awful_files_are_refused_at_once_and_in_few_words() {
    let sandbox = Sandbox::new();
    let etc = sandbox.path("etc");
    let made = sandbox.program("mkfifo").arg(etc.join("pipe.conf")).run();
    assert_eq!(made.status, Some(0), "{made}");
    std::os::unix::fs::symlink("/dev/zero", etc.join("zero.conf")).unwrap();
    std::os::unix::fs::symlink("loop.conf", etc.join("loop.conf")).unwrap();
    fs::write(etc.join("nul.conf"), b"INSTANCE_ID=\0x\n").unwrap();
    fs::write(etc.join("utf16.conf"), b"\xff\xfeI\0N\0").unwrap();
    fs::write(etc.join("huge.conf"), "A=b\n".repeat(300_000)).unwrap();
    fs::write(etc.join("huge.toml"), "a='b'\n".repeat(200_000)).unwrap();
    fs::write(etc.join("latin.toml"), b"instance_id = '\xe9'\n").unwrap();
    fs::write(etc.join("broken.toml"), "instance_id =\n").unwrap();
    fs::write(etc.join("code.conf"), "if [ -d /data ]; then\n").unwrap();
    for (name, part) in [
        ("pipe.conf", "it is not a regular file"),
        ("zero.conf", "it is not a regular file"),
        ("loop.conf", "cannot read the configuration file"),
        ("nul.conf", "nul.conf:1: the file holds NUL bytes"),
        ("utf16.conf", "save it as UTF-8"),
        ("huge.conf", "longer than 1 MiB"),
        ("huge.toml", "longer than 1 MiB"),
        ("latin.toml", "latin.toml:1: TOML is UTF-8"),
        ("broken.toml", "broken.toml:1: no TOML"),
        ("code.conf", "code.conf:1: this is neither a setting"),
    ] {
        let run = sandbox.osync().arg(etc.join(name)).run();
        assert_eq!(run.status, Some(1), "{name} {run}");
        assert!(run.stderr.contains(part), "{name} {run}");
        // no complaints about settings that could not be seen
        assert_eq!(run.stderr.lines().count(), 1, "{name} {run}");
    }
    let empty = etc.join("empty.conf");
    fs::write(&empty, "").unwrap();
    let run = sandbox.osync().arg(&empty).run();
    for key in ["INSTANCE_ID", "INITIATOR_SYNC_DIR", "TARGET_SYNC_DIR"] {
        assert!(run.status == Some(1) && run.stderr.contains(key), "{key} {run}");
    }
}

#[test]
fn commands_in_a_file_are_bounded_and_say_why_they_failed() {
    let sandbox = Sandbox::new();
    let file = sandbox.config(
        "t.conf",
        "export A=$(yes)\nexport B=$(exit 3)\nexport C=\"$(no-such-program)\"\nexport D=$(kill -9 $$)",
    );
    let run = sandbox.osync().arg(&file).run();
    assert_eq!(run.status, Some(2), "{run}");
    for part in [
        "t.conf:4: A: $(yes): ended, because it printed more than 65536 bytes",
        "t.conf:5: B: $(exit 3): the command ended with status 3",
        "t.conf:6: C: $(no-such-program): the command ended with status 127 (",
        "t.conf:7: D: $(kill -9 $$): the command was ended by signal 9",
    ] {
        assert!(run.stderr.contains(part), "{part} {run}");
    }
}

#[test]
fn files_of_every_old_version_are_refused_naming_the_upgrade_or_run() {
    let sandbox = Sandbox::new();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/old-configurations");
    for (name, refused) in [("v1.0.conf", true), ("v1.1.conf", true), ("v1.2.conf", false)] {
        let run = sandbox.osync().arg("check").arg(data.join(name)).run();
        assert_eq!(run.status, Some(1), "its directories are not here: {run}");
        assert_eq!(run.stdout.contains("osync upgrade"), refused, "{name} {run}");
        assert!(!run.stdout.contains("no directory is given"), "{name} {run}");
    }
}

#[test]
fn a_place_as_other_programs_write_it_is_answered_with_ours() {
    let sandbox = Sandbox::new();
    for (target, status, part) in [
        ("rsync://host/data", 128, "'rsync://' is not supported"),
        ("host.example:/data", 1, "write ssh://host.example//data"),
        ("me@host.example:/data", 1, "write ssh://me@host.example//data"),
    ] {
        let run = sandbox.osync().args(["--initiator=a", "--target", target]).run();
        assert_eq!(run.status, Some(status), "{target} {run}");
        assert!(run.stderr.contains(part), "{target} {run}");
    }
}

#[test]
fn a_file_that_all_may_write_is_a_warning_for_root_only() {
    let sandbox = Sandbox::new();
    let file = sandbox.config("t.conf", "");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let run = sandbox.osync().arg(&file).run();
    let root = rustix::process::geteuid().is_root();
    assert_eq!(run.status, Some(if root { 2 } else { 0 }), "{run}");
    assert_eq!(run.stderr.contains("everyone may write"), root, "{run}");
}

#[test]
fn root_runs_no_command_of_a_file_that_somebody_else_may_write() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for (owner, mode) in [(65534, 0o600), (0, 0o666)] {
        let sandbox = Sandbox::new();
        let marker = sandbox.path("ran");
        let file = sandbox.config("t.conf", &format!("INSTANCE_ID=x$(touch {})", marker.display()));
        std::os::unix::fs::chown(&file, Some(owner), Some(owner)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        sandbox.a.write("f", "1", 1_600_000_000);
        let upgrade = sandbox.osync().arg("upgrade").arg(&file);
        for run in [
            sandbox.osync().arg(&file).run(),
            sandbox.osync().arg("check").arg(&file).run(),
            upgrade.run(),
        ] {
            assert!(
                run.stderr.contains("root does not run the commands")
                    || run.stdout.contains("root does not run the commands"),
                "{run}"
            );
            assert!(!marker.exists(), "{run}");
            assert_eq!(run.status, Some(1), "{run}");
        }
        assert!(!sandbox.b.has("f"), "no run under another name");
        // what is root's alone runs
        std::os::unix::fs::chown(&file, Some(0), Some(0)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let run = sandbox.osync().arg(&file).run();
        assert_eq!(run.status, Some(0), "{run}");
        assert!(marker.exists() && sandbox.b.has("f"), "{run}");
    }
}

#[test]
fn a_secret_that_all_may_read_is_a_warning() {
    let sandbox = Sandbox::new();
    let file = sandbox.config("t.conf", "SMTP_PASSWORD=hidden1");
    for (mode, status, told) in [(0o644, 2, true), (0o600, 0, false)] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let run = sandbox.osync().arg(&file).run();
        assert_eq!(run.status, Some(status), "{mode:o} {run}");
        assert_eq!(run.stderr.contains("SMTP_PASSWORD is secret; 'chmod 600'"), told, "{run}");
        assert!(!run.stderr.contains("hidden1"), "{run}");
    }
}

#[test]
fn directories_that_meet_are_refused_through_links_too() {
    let sandbox = Sandbox::new();
    std::os::unix::fs::symlink("a", sandbox.path("link")).unwrap();
    for target in ["a", "./b/../a", "link", "link/sub", "."] {
        let run = sandbox.osync().args(["--initiator=a", "--target", target]).run();
        assert_eq!(run.status, Some(128), "{target} {run}");
        assert!(run.stderr.contains("TARGET_SYNC_DIR"), "{target} {run}");
    }
}

#[test]
fn check_tells_every_setting_with_its_origin_and_changes_nothing() {
    let sandbox = Sandbox::new();
    let file = sandbox.config("t.conf", "BANDWIDTH=5\n_REMOTE_TOKEN=topsecret");
    let run = sandbox
        .osync()
        .args(["check", "--json", "--sync-type=initiator2target"])
        .arg(&file)
        .env("CHECKSUM", "yes")
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(!run.stdout.contains("topsecret"), "{run}");
    let said: Value = serde_json::from_str(&run.stdout).unwrap();
    let origin = |key| {
        let one = setting(&said, key);
        (one["value"].clone(), one["origin"].clone(), one["place"].clone())
    };
    assert_eq!(origin("BANDWIDTH"), ("5".into(), "file".into(), 4.into()));
    assert_eq!(origin("CHECKSUM"), ("yes".into(), "environment".into(), Value::Null));
    assert_eq!(
        origin("SYNC_TYPE"),
        ("initiator2target".into(), "flag".into(), "--sync-type".into())
    );
    assert_eq!(origin("MIN_WAIT"), ("60".into(), "default".into(), Value::Null));
    assert_eq!(said["settings"].as_array().unwrap().len(), KEYS.len());
    for what in ["rsync", "initiator", "target", "mail"] {
        assert_eq!(access(&said, what)["verdict"], "ok", "{said:#}");
    }
    assert!(!sandbox.a.has(".osync_workdir") && !sandbox.b.has(".osync_workdir"));
    assert!(!sandbox.path("osync.log").exists());

    let text = sandbox.osync().arg("check").arg(&file).run().stdout;
    assert!(text.contains("[GENERAL]") && text.contains("Everything is fine."), "{text}");
    let line = text.lines().find(|line| line.starts_with("BANDWIDTH = 5")).unwrap();
    assert!(line.ends_with("t.conf:4"), "{line}");
}

#[test]
fn check_ends_as_a_run_would() {
    let sandbox = Sandbox::new();
    for (lines, status, what, verdict) in [
        ("", 0, "target", "ok"),
        ("RSYNC_EXECUTABLE=/no/rsync", 1, "rsync", "error"),
        ("TARGET_SYNC_DIR=/no/such/dir", 1, "target", "error"),
        ("TARGET_SYNC_DIR=$TMPDIR/new\nCREATE_DIRS=yes", 0, "target", "ok"),
        ("MINIMUM_SPACE=999999999999999", 2, "initiator", "warning"),
        ("DESTINATION_MAILS=a@b\nSMTP_SERVER=127.0.0.1\nSMTP_PORT=1", 2, "mail", "warning"),
    ] {
        let file = sandbox.config("t.conf", lines);
        let said = check(&sandbox, &[file.to_str().unwrap()]);
        assert_eq!(said["status"], status, "{lines}: {said:#}");
        assert_eq!(access(&said, what)["verdict"], verdict, "{lines}: {said:#}");
    }
    assert!(!sandbox.path("tmp/new").exists());
    let file = sandbox.config("t.conf", "KRB5=x");
    let said = check(&sandbox, &[file.to_str().unwrap()]);
    assert_eq!((said["status"].clone(), said["errors"][0]["line"].clone()), (1.into(), 4.into()));
    let file = sandbox.config("t.conf", "KRB=yes");
    assert_eq!(check(&sandbox, &[file.to_str().unwrap()])["status"], 2);
}

#[test]
fn check_reaches_for_a_remote_target_as_a_run_would() {
    let sandbox = Sandbox::new();
    let sshd = Sshd::start("");
    let task = |key: &Path, more: &str| {
        let lines = format!(
            "SSH_RSA_PRIVATE_KEY='{}'\nSSH_OPTIONAL_ARGS='{}'\nTARGET_SYNC_DIR='{}{more}'",
            key.display(),
            sshd.options().join(" "),
            sshd.uri(&sandbox.b.root)
        );
        let file = sandbox.config("t.conf", &lines);
        check(&sandbox, &[file.to_str().unwrap()])
    };
    let said = task(&sshd.key(), "");
    assert_eq!(access(&said, "target")["verdict"], "ok", "{said:#}");
    assert!(!sandbox.b.has(".osync_workdir"));
    let said = task(&sshd.key(), "/missing");
    assert_eq!(access(&said, "target")["verdict"], "error", "{said:#}");
    let said = task(&sshd.key(), "/missing'\nCREATE_DIRS='yes");
    assert_eq!(access(&said, "target")["verdict"], "ok", "{said:#}");
    assert!(!sandbox.b.has("missing"));
    let said = task(&sshd.strange_key(), "");
    assert_eq!(
        (said["status"].clone(), access(&said, "target")["verdict"].clone()),
        (1.into(), "error".into())
    );
}

#[test]
fn the_sample_file_is_right_but_for_its_directories() {
    let sandbox = Sandbox::new();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("sync.conf.example");
    let text = fs::read_to_string(sample).unwrap();
    let file = sandbox.path("etc/sync.conf");
    let text = text
        .replace("/home/syncuser/initiator", sandbox.a.root.to_str().unwrap())
        .replace("/home/syncuser/target", sandbox.b.root.to_str().unwrap())
        .replace("your@alert.tld", "")
        .replace("MINIMUM_SPACE=10240", "MINIMUM_SPACE=0");
    fs::write(&file, text).unwrap();
    sandbox.a.make("f x y");
    let run = sandbox.osync().arg(&file).run();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(sandbox.b.has("x"));
}

/// `tests/data/key-effects.txt` names for every setting a test that shows its effect.
#[test]
fn every_setting_has_a_test_that_shows_its_effect() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let registry = fs::read_to_string(root.join("tests/data/key-effects.txt")).unwrap();
    let mut named = std::collections::BTreeSet::new();
    for line in registry.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (key, test) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
        let (file, name) = test.trim().rsplit_once("::").unwrap_or_else(|| panic!("{line}"));
        let source = fs::read_to_string(root.join(file)).unwrap_or_else(|e| panic!("{line}: {e}"));
        let function = source.find(&format!("fn {name}(")).unwrap_or_else(|| panic!("{line}"));
        assert!(KEYS.iter().any(|known| known.name == key), "{line}: no such setting");
        // The test speaks of the key, or the table that it goes through does.
        assert!(source.contains(key), "{file} does not speak of {key}");
        assert!(source[..function].trim_end().ends_with(']'), "{line}: is it a test?");
        named.insert(key.to_owned());
    }
    let missing: Vec<_> =
        KEYS.iter().map(|key| key.name).filter(|key| !named.contains(*key)).collect();
    assert_eq!(missing, [""; 0], "settings without a test of their effect");
}

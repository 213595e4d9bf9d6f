//! `osync upgrade`, as someone uses it who comes from an older version (spec 7).

use crate::support::sandbox::Sandbox;
use crate::support::sshd::Sshd;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// A task of v1.0 in the sandbox, with the state that it left on both replicas.
fn old_task(sandbox: &Sandbox) -> std::path::PathBuf {
    let file = sandbox.path("etc/old.conf");
    let text = format!(
        "#!/bin/bash\n## mine\nSYNC_ID=\"old\"\nMASTER_SYNC_DIR=\"{}\"\nSLAVE_SYNC_DIR='{}'\n\
         CREATE_DIRS=no\nCONFLICT_PREVALANCE=master\n",
        sandbox.a.root.display(),
        sandbox.b.root.display()
    );
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    for replica in [&sandbox.a, &sandbox.b] {
        let state = replica.at(".osync_workdir/state");
        fs::create_dir_all(&state).unwrap();
        for name in ["master-tree-after-old", "slave-tree-after-old", "slave-tree-after-other"] {
            fs::write(state.join(name), name).unwrap();
        }
    }
    file
}

fn names(dir: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_v1_0_task_becomes_one_of_today_and_only_once() {
    let sandbox = Sandbox::new();
    let file = old_task(&sandbox);
    let before = fs::read(&file).unwrap();
    let refused = sandbox.osync().arg(&file).run();
    assert_eq!(refused.status, Some(1), "{refused}");
    assert!(refused.stderr.contains("osync upgrade"), "{refused}");

    let run = sandbox.osync().arg("upgrade").arg(&file).run();
    assert_eq!(run.status, Some(0), "{run}");
    let text = fs::read_to_string(&file).unwrap();
    for line in
        ["## mine", "INSTANCE_ID=\"old\"", "CREATE_DIRS=false", "CONFLICT_PREVALANCE=initiator"]
    {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(fs::read(sandbox.path("etc/old.conf.save")).unwrap(), before);
    for replica in [&sandbox.a, &sandbox.b] {
        assert_eq!(
            names(&replica.at(".osync_workdir/state")),
            ["initiator-tree-after-old", "slave-tree-after-other", "target-tree-after-old"]
        );
    }

    let again = sandbox.osync().arg("upgrade").arg(&file).run();
    assert_eq!(again.status, Some(0), "{again}");
    assert!(again.stdout.contains("is up to date"), "{again}");
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    assert_eq!(names(&sandbox.path("etc")), ["old.conf", "old.conf.save"]);
}

#[test]
fn the_old_name_of_the_upgrade_program_still_works() {
    let sandbox = Sandbox::new();
    let file = old_task(&sandbox);
    for name in ["upgrade-v1.0x-v1.2x.sh", "upgrade-v1.0x-v1.3x.sh"] {
        let run = sandbox.osync().called(name).arg(&file).run();
        assert_eq!(run.status, Some(0), "{run}");
    }
    assert!(fs::read_to_string(&file).unwrap().contains("INSTANCE_ID=\"old\""));
}

#[test]
fn a_dry_upgrade_changes_nothing() {
    let sandbox = Sandbox::new();
    let file = old_task(&sandbox);
    let before = fs::read(&file).unwrap();
    let run = sandbox.osync().arg("upgrade").arg(&file).arg("--dry").run();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(run.stdout.contains("SYNC_ID is INSTANCE_ID now"), "{run}");
    assert!(run.stdout.contains("master-tree-after-old is initiator-tree-after-old now"), "{run}");
    assert_eq!(fs::read(&file).unwrap(), before);
    assert_eq!(names(&sandbox.path("etc")), ["old.conf"]);
    assert!(sandbox.a.has(".osync_workdir/state/master-tree-after-old"));
}

#[test]
fn quicksync_tasks_are_upgraded_by_flags_of_any_age() {
    let sandbox = Sandbox::new();
    old_task(&sandbox);
    let (a, b) = (sandbox.a.root.display(), sandbox.b.root.display());
    let run = sandbox
        .osync()
        .args(["upgrade", &format!("--master={a}"), &format!("--slave={b}"), "--sync-id=old"])
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(sandbox.a.has(".osync_workdir/state/initiator-tree-after-old"));
    assert!(sandbox.b.has(".osync_workdir/state/target-tree-after-old"));
    let run = sandbox.osync().args(["upgrade", "--master=x"]).run();
    assert_eq!(run.status, Some(128), "{run}");
}

#[test]
fn a_new_state_file_is_never_overwritten() {
    let sandbox = Sandbox::new();
    let file = old_task(&sandbox);
    let new = sandbox.a.at(".osync_workdir/state/initiator-tree-after-old");
    fs::write(&new, "newer").unwrap();
    let run = sandbox.osync().arg("upgrade").arg(&file).run();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(run.stdout.contains("stays"), "{run}");
    assert_eq!(fs::read_to_string(&new).unwrap(), "newer");
    assert!(sandbox.a.has(".osync_workdir/state/master-tree-after-old"));
}

#[test]
fn an_older_copy_is_never_overwritten() {
    let sandbox = Sandbox::new();
    let file = old_task(&sandbox);
    let before = fs::read(&file).unwrap();
    fs::write(sandbox.path("etc/old.conf.save"), "precious").unwrap();
    let run = sandbox.osync().arg("upgrade").arg(&file).run();
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(fs::read_to_string(sandbox.path("etc/old.conf.save")).unwrap(), "precious");
    assert_eq!(fs::read(sandbox.path("etc/old.conf.save.1")).unwrap(), before);
}

#[test]
fn what_cannot_be_upgraded_is_left_alone() {
    let sandbox = Sandbox::new();
    for (name, text, part) in [
        ("x.conf", "SYNC_ID=a\nif true; then\n", "x.conf:2: "),
        ("x.toml", "sync_id = 1\n", "SYNC_ID"),
    ] {
        let file = sandbox.path("etc").join(name);
        fs::write(&file, text).unwrap();
        let run = sandbox.osync().arg("upgrade").arg(&file).run();
        assert_eq!(run.status, Some(1), "{run}");
        assert!(run.stderr.contains(part), "{run}");
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
    let run = sandbox.osync().args(["upgrade", "none.conf"]).run();
    assert_eq!(run.status, Some(1), "{run}");
    let run = sandbox.osync().arg("upgrade").run();
    assert_eq!(run.status, Some(128), "{run}");
}

#[test]
fn an_old_file_becomes_toml_that_means_the_same() {
    let sandbox = Sandbox::new();
    let file = old_task(&sandbox);
    let toml = sandbox.path("etc/old.toml");
    let run = sandbox.osync().args(["upgrade", "--to-toml"]).arg(&file).run();
    assert_eq!(run.status, Some(0), "{run}");
    let text = fs::read_to_string(&toml).unwrap();
    assert!(text.contains("instance_id = \"old\""), "{text}");
    assert!(text.contains("create_dirs = false"), "{text}");
    let again = sandbox.osync().args(["upgrade", "--to-toml"]).arg(&file).run();
    assert_eq!(again.status, Some(0), "{again}");
    fs::write(&toml, "other = 1").unwrap();
    let refused = sandbox.osync().args(["upgrade", "--to-toml"]).arg(&file).run();
    assert_eq!(refused.status, Some(1), "{refused}");
    assert_eq!(fs::read_to_string(&toml).unwrap(), "other = 1");
}

#[test]
fn state_files_are_renamed_behind_ssh_too() {
    let sandbox = Sandbox::new();
    let sshd = Sshd::start("");
    old_task(&sandbox);
    let odd = sandbox.b.at("o'd d \n-$(x)");
    fs::create_dir(&odd).unwrap();
    fs::rename(sandbox.b.at(".osync_workdir"), odd.join(".osync_workdir")).unwrap();
    let file = sandbox.path("etc/far.conf");
    let text = format!(
        "SYNC_ID='old'\nMASTER_SYNC_DIR='{}'\nSLAVE_SYNC_DIR=\"{}\"\nSSH_RSA_PRIVATE_KEY='{}'\n\
         SSH_OPTIONAL_ARGS=\"{}\"\n",
        sandbox.a.root.display(),
        sshd.uri(&odd).replace('$', "\\$"),
        sshd.key().display(),
        sshd.options().join(" ")
    );
    fs::write(&file, text).unwrap();
    let dry = sandbox.osync().arg("upgrade").arg(&file).arg("--dry").run();
    assert_eq!(dry.status, Some(0), "{dry}");
    assert!(
        dry.stdout.contains("target: slave-tree-after-old is target-tree-after-old now"),
        "{dry}"
    );
    assert!(odd.join(".osync_workdir/state/slave-tree-after-old").exists());
    let run = sandbox.osync().arg("upgrade").arg(&file).run();
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(
        names(&odd.join(".osync_workdir/state")),
        ["initiator-tree-after-old", "slave-tree-after-other", "target-tree-after-old"]
    );
    let again = sandbox.osync().arg("upgrade").arg(&file).run();
    assert_eq!(again.status, Some(0), "{again}");
    assert!(!again.stdout.contains("tree-after"), "{again}");
    assert!(again.stdout.contains("target: no state files to rename in /"), "{again}");
    drop(sshd);
    let gone = sandbox.osync().arg("upgrade").arg(&file).run();
    assert_eq!(gone.status, Some(1), "{gone}");
    assert!(gone.stderr.contains("target: "), "{gone}");
}

//! The forced command with real shells and the real rsync; what the filter decides is
//! tested beside it.

use crate::support::no_landlock::without_landlock;
use crate::support::sandbox::{Outcome, Sandbox};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const TOKEN: &str = "SomeAlphaNumericToken9";

/// A machine with a forced command: a directory `data` that the key is for, and things
/// `outside` that it is not for.
struct Machine {
    sandbox: Sandbox,
    options: Vec<String>,
}

impl Machine {
    fn new(options: &[&str]) -> Self {
        let sandbox = Sandbox::new();
        for dir in ["data/dir", "outside", "home/.ssh", "here"] {
            fs::create_dir_all(sandbox.path(dir)).unwrap();
        }
        fs::write(sandbox.path("data/dir/file"), "inside").unwrap();
        fs::write(sandbox.path("outside/secret"), "secret").unwrap();
        let options = options.iter().map(|&option| option.to_owned()).collect();
        Machine { sandbox, options }
    }

    /// Restricted to its directory.
    fn restricted() -> Self {
        let mut machine = Machine::new(&[]);
        machine.options = vec![format!("--restrict={}", machine.data().display())];
        machine
    }

    fn data(&self) -> PathBuf {
        self.sandbox.path("data").canonicalize().unwrap()
    }

    /// What happens to a command that comes over ssh.
    fn ssh(&self, command: &str) -> Outcome {
        self.sandbox
            .osync()
            .dir(self.sandbox.path("home"))
            .args(["ssh-filter", TOKEN])
            .args(&self.options)
            .env("SSH_ORIGINAL_COMMAND", command)
            .env("SSH_CONNECTION", "192.0.2.7 50000 192.0.2.1 22")
            .run()
    }

    /// rsync with a remote shell that leads to the filter.
    fn rsync(&self, args: &[&str]) -> Outcome {
        let shell = self.sandbox.path("rsh");
        let script = format!(
            "#!/bin/sh\nshift\ncd '{}' || exit\nSSH_ORIGINAL_COMMAND=\"$*\" exec '{}' ssh-filter {TOKEN} {}\n",
            self.sandbox.path("home").display(),
            crate::support::osync(),
            self.options.join(" "),
        );
        fs::write(&shell, script).unwrap();
        fs::set_permissions(&shell, PermissionsExt::from_mode(0o755)).unwrap();
        self.sandbox
            .program("rsync")
            .arg("-e")
            .arg(shell)
            .arg(format!("--rsync-path=env LC_ALL=C env _REMOTE_TOKEN={TOKEN} rsync"))
            .args(args)
            .run()
    }

    fn at(&self, path: &str) -> String {
        self.sandbox.path(path).canonicalize().unwrap().to_str().unwrap().to_owned()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.sandbox.path("home/.ssh/ssh_filter.log")).unwrap_or_default()
    }

    /// Nothing outside was read into `here` or `data`, written, made or removed.
    #[track_caller]
    fn assert_nothing_left_the_directory(&self, what: &str) {
        let secret = fs::read_to_string(self.sandbox.path("outside/secret")).unwrap();
        assert_eq!(secret, "secret", "{what}: it was written");
        let outside = fs::read_dir(self.sandbox.path("outside")).unwrap().count();
        assert_eq!(outside, 1, "{what}: something was made outside");
        assert!(!holds_secret(&self.sandbox.path("here")), "{what}: the secret was read");
        let mut pending = vec![self.sandbox.path("home")];
        while let Some(dir) = pending.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                assert!(!path.ends_with("stolen"), "{what}: {} was made", path.display());
                if path.is_dir() && !path.is_symlink() {
                    pending.push(path);
                }
            }
        }
    }
}

fn holds_secret(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            false
        } else if path.is_dir() {
            holds_secret(&path)
        } else {
            fs::read(&path).unwrap().windows(6).any(|window| window == b"secret")
        }
    })
}

fn with_token(command: &str) -> String {
    format!("env _REMOTE_TOKEN={TOKEN} {command}")
}

#[test]
fn commands_of_osync_run_and_never_see_the_token() {
    let machine = Machine::new(&[]);
    let run = machine.ssh(&with_token("env A=b sh -c 'echo $A; exit 3'"));
    assert_eq!((run.status, run.stdout.as_str()), (Some(3), "b\n"), "{run}");
    let run = machine.ssh(&format!("env LC_ALL=C env _REMOTE_TOKEN={TOKEN} env"));
    assert!(run.stdout.contains("LC_ALL=C\n"), "{run}");
    assert!(!run.stdout.contains(TOKEN), "{run}");
    let run = machine.ssh(&with_token("cat /proc/self/cmdline /proc/$PPID/cmdline"));
    assert!(!run.stdout.contains(TOKEN), "{run}");
    let run = machine.ssh(&with_token("cat > \"./osync.pushed\"; echo chained | tr a-z A-Z"));
    assert_eq!(run.stdout, "CHAINED\n", "{run}");
    assert!(machine.sandbox.path("home/osync.pushed").exists());
    assert_eq!(machine.log(), "");
}

#[test]
fn refusals_are_said_logged_and_end_with_one() {
    let machine = Machine::new(&[]);
    for command in [
        "",
        "id",
        "env _REMOTE_TOKEN=guess touch stolen",
        &format!("touch stolen; {}", with_token("sh")),
        &format!("{};touch stolen", with_token("")),
        &format!("env _REMOTE_TOKEN={TOKEN}\ntouch stolen"),
        &format!("touch stolen # _REMOTE_TOKEN={TOKEN}"),
        &format!("/usr/lib/openssh/sftp-server {TOKEN}"),
    ] {
        let run = machine.ssh(command);
        assert_eq!((run.status, run.stdout.as_str()), (Some(1), ""), "{command:?} {run}");
        assert!(run.stderr.starts_with("ssh_filter: refused: "), "{run}");
        assert!(!run.stderr.contains(TOKEN), "{run}");
    }
    machine.assert_nothing_left_the_directory("refused commands");
    let log = machine.log();
    assert_eq!(log.lines().count(), 8, "{log}");
    assert!(log.contains("from 192.0.2.7: touch stolen"), "{log}");
    assert!(!log.contains(TOKEN) && !log.contains("guess"), "{log}");
    let mode = fs::metadata(machine.sandbox.path("home/.ssh/ssh_filter.log")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
}

#[test]
fn without_sudo_nothing_gains_rights_whatever_its_name() {
    let machine = Machine::new(&["--no-sudo"]);
    let run = machine.ssh(&with_token("sudo -E sh"));
    assert_eq!(run.status, Some(1), "{run}");
    let run = machine.ssh(&with_token("grep NoNewPrivs /proc/self/status"));
    assert_eq!(run.stdout, "NoNewPrivs:\t1\n", "{run}");
    let run = Machine::new(&[]).ssh(&with_token("grep NoNewPrivs /proc/self/status"));
    assert_eq!(run.stdout, "NoNewPrivs:\t0\n", "{run}");
}

#[test]
fn rsync_works_through_the_filter_as_both_sides_of_osync_1_3_call_it() {
    let machine = Machine::new(&[]);
    let (data, here) = (machine.at("data/"), machine.at("here"));
    let run = machine.rsync(&["-a", &format!("host:{data}/"), &here]);
    assert_eq!(run.status, Some(0), "{run}");
    assert!(machine.sandbox.path("here/dir/file").exists());
    let run = machine.rsync(&["-a", "-s", &format!("{here}/"), &format!("host:{data}/copy here")]);
    assert_eq!(run.status, Some(0), "{run}");
    assert!(machine.sandbox.path("data/copy here/dir/file").exists());
}

#[test]
fn a_restricted_key_transfers_in_its_directory() {
    let machine = Machine::restricted();
    let (data, here) = (machine.at("data"), machine.at("here"));
    // to it, as our client does: exactly the listed paths, backups, partial files
    fs::create_dir(machine.sandbox.path("here/dir")).unwrap();
    fs::write(machine.sandbox.path("here/dir/file"), "newer content").unwrap();
    fs::write(machine.sandbox.path("here/ dirfile$(x)"), "odd").unwrap();
    fs::write(machine.sandbox.path("list"), "./dir/file\0./ dirfile$(x)\0").unwrap();
    let run = machine.rsync(&[
        "-s",
        "-lptgoD",
        "-8",
        "--from0",
        &format!("--files-from={}", machine.at("list")),
        "--no-implied-dirs",
        "--ignore-missing-args",
        "--ignore-times",
        "--backup",
        &format!("--backup-dir={data}/.osync_workdir/backup"),
        "--partial",
        &format!("--partial-dir={data}/.osync_workdir/_partial"),
        "--stats",
        "-z",
        "--skip-compress=gz/zip",
        "-i",
        &format!("{here}/"),
        &format!("host:{data}/"),
    ]);
    assert_eq!(run.status, Some(0), "{run}");
    let read = |path: &str| fs::read_to_string(machine.sandbox.path(path)).unwrap();
    assert_eq!(read("data/dir/file"), "newer content");
    assert_eq!(read("data/ dirfile$(x)"), "odd");
    assert_eq!(read("data/.osync_workdir/backup/dir/file"), "inside");
    // and back
    fs::remove_dir_all(machine.sandbox.path("here")).unwrap();
    let run = machine.rsync(&[
        "-s",
        "-lptgoDAX",
        "--from0",
        &format!("--files-from={}", machine.at("list")),
        "--no-implied-dirs",
        &format!("host:{data}/"),
        &format!("{here}/"),
    ]);
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(read("here/dir/file"), "newer content");
    assert_eq!(machine.log(), "");
}

#[test]
fn a_restricted_key_opens_no_shell() {
    let machine = Machine::restricted();
    for command in [
        "id",
        "sh -c 'touch stolen'",
        "bash -s",
        "cat ../outside/secret",
        "env A=b sh",
        "sudo -E sh",
        "sudo rsync --server -s",
        "rsync --server -s; touch stolen",
        "rsync --daemon --server .",
        "rsync --server --daemon .",
        "rsync --server --sender -lt . $(touch stolen)",
        "touch stolen",
    ] {
        let run = machine.ssh(&with_token(command));
        assert_eq!((run.status, run.stdout.as_str()), (Some(1), ""), "{command:?} {run}");
    }
    machine.assert_nothing_left_the_directory("commands");
}

#[test]
fn rsync_of_a_restricted_key_does_not_leave_the_directory() {
    attack_by_rsync();
}

#[test]
fn nor_does_it_without_landlock_by_its_arguments() {
    without_landlock(attack_by_rsync);
}

fn attack_by_rsync() {
    let machine = Machine::restricted();
    let (data, here, outside) = (machine.at("data"), machine.at("here"), machine.at("outside"));
    let link = |name: &str, to: &str| symlink(to, machine.sandbox.path("data").join(name)).unwrap();
    link("absolute", &outside);
    link("relative", "../outside");
    link("file", &format!("{outside}/secret"));
    link("dangling", &format!("{outside}/stolen"));
    fs::create_dir(machine.sandbox.path("bait")).unwrap();
    fs::write(machine.sandbox.path("bait/stolen"), "x").unwrap();
    fs::write(machine.sandbox.path("bait/secret"), "overwritten").unwrap();
    let bait = machine.at("bait");
    let from = |path: &str| format!("host:{path}");
    let attacks: Vec<(&str, Vec<String>)> = vec![
        ("read an absolute path", vec![from(&outside), here.clone()]),
        ("read a file", vec![from(&format!("{outside}/secret")), here.clone()]),
        ("read by ..", vec![from(&format!("{data}/../outside/")), here.clone()]),
        ("read a relative path", vec![from("../outside/"), here.clone()]),
        ("read /", vec![from("/"), here.clone()]),
        ("read through a link", vec![from(&format!("{data}/absolute/")), here.clone()]),
        ("read through a relative link", vec![from(&format!("{data}/relative/")), here.clone()]),
        ("read a linked file", vec!["-L".into(), from(&format!("{data}/file")), here.clone()]),
        ("read what links point at", vec!["-L".into(), from(&format!("{data}/")), here.clone()]),
        (
            "read unsafe links",
            vec!["--copy-unsafe-links".into(), from(&format!("{data}/")), here.clone()],
        ),
        ("read linked directories", vec!["-k".into(), from(&format!("{data}/")), here.clone()]),
        ("write an absolute path", vec![format!("{bait}/"), from(&outside)]),
        ("write by ..", vec![format!("{bait}/"), from(&format!("{data}/../outside"))]),
        ("write through a link", vec![format!("{bait}/"), from(&format!("{data}/absolute"))]),
        (
            "write through a dangling link",
            vec![format!("{bait}/"), from(&format!("{data}/dangling"))],
        ),
        (
            "keep directory links",
            vec!["-K".into(), format!("{bait}/"), from(&format!("{data}/absolute/"))],
        ),
        (
            "back up outside",
            vec!["-b".into(), format!("--backup-dir={outside}"), format!("{bait}/"), from(&data)],
        ),
        (
            "back up by ..",
            vec!["-b".into(), "--backup-dir=../outside".into(), format!("{bait}/"), from(&data)],
        ),
        (
            "back up through a link",
            vec![
                "-b".into(),
                format!("--backup-dir={data}/absolute"),
                format!("{bait}/"),
                from(&data),
            ],
        ),
        (
            "partial files outside",
            vec![format!("--partial-dir={outside}"), format!("{bait}/"), from(&data)],
        ),
        (
            "temporary files outside",
            vec![format!("--temp-dir={outside}"), format!("{bait}/"), from(&data)],
        ),
        (
            "compare with outside",
            vec![format!("--copy-dest={outside}"), format!("{bait}/"), from(&data)],
        ),
        (
            "link from outside",
            vec![format!("--link-dest={outside}"), format!("{bait}/"), from(&data)],
        ),
        (
            "a log outside",
            vec![
                format!("--remote-option=--log-file={outside}/stolen"),
                format!("{bait}/"),
                from(&data),
            ],
        ),
        (
            "a list from outside",
            vec![format!("--files-from=:{outside}/secret"), from(&data), here.clone()],
        ),
        (
            "a merge file",
            vec![
                format!("--filter=merge_{outside}/secret"),
                from(&format!("{data}/")),
                here.clone(),
            ],
        ),
        ("delete", vec!["--delete".into(), format!("{bait}/"), from(&data)]),
        (
            "devices",
            vec!["--remote-option=--write-devices".into(), format!("{bait}/"), from(&data)],
        ),
        ("a daemon", vec!["--remote-option=--daemon".into(), format!("{bait}/"), from(&data)]),
        (
            "another program",
            vec![
                format!("--rsync-path=env _REMOTE_TOKEN={TOKEN} {data}/rsync"),
                format!("{bait}/"),
                from(&outside),
            ],
        ),
    ];
    for (name, args) in &attacks {
        for protection in [&["-s"][..], &["--old-args"], &[]] {
            let mut all = vec!["-lrt"];
            all.extend(protection);
            all.extend(args.iter().map(String::as_str));
            let run = machine.rsync(&all);
            machine.assert_nothing_left_the_directory(&format!("{name} {protection:?} {run}"));
        }
    }
    for entry in fs::read_dir(machine.data()).unwrap() {
        let path = entry.unwrap().path();
        assert!(path.is_symlink() || !holds(&path, b"secret"), "{} came in", path.display());
    }
}

fn holds(path: &Path, word: &[u8]) -> bool {
    path.is_file() && fs::read(path).unwrap().windows(word.len()).any(|window| window == word)
}

/// The listed paths go through a link that an earlier call made: nothing in the arguments
/// tells.
#[test]
fn listed_paths_do_not_lead_out_through_links() {
    let machine = Machine::restricted();
    let (data, here, outside) = (machine.at("data"), machine.at("here"), machine.at("outside"));
    symlink(&outside, machine.sandbox.path("data/door")).unwrap();
    fs::create_dir_all(machine.sandbox.path("bait/door")).unwrap();
    fs::write(machine.sandbox.path("bait/door/secret"), "overwritten").unwrap();
    fs::write(machine.sandbox.path("bait/door/stolen"), "x").unwrap();
    fs::write(machine.sandbox.path("list"), "door/secret\ndoor/stolen\n").unwrap();
    let list = format!("--files-from={}", machine.at("list"));
    let (bait, there) = (format!("{}/", machine.at("bait")), format!("host:{data}/"));
    let run = machine.rsync(&["-s", "-t", "--no-implied-dirs", &list, &bait, &there]);
    machine.assert_nothing_left_the_directory(&format!("written {run}"));
    let run = machine.rsync(&["-s", "-t", "--no-implied-dirs", &list, &there, &here]);
    machine.assert_nothing_left_the_directory(&format!("read {run}"));
}

#[test]
fn an_ordinary_user_is_confined_as_well() {
    let machine = Machine::restricted();
    if rustix::process::geteuid().is_root() {
        let root = machine.sandbox.root().to_str().unwrap();
        let run = machine.sandbox.program("chown").args(["-R", "65534:65534", root]).run();
        assert_eq!(run.status, Some(0), "{run}");
    }
    let (data, outside) = (machine.at("data"), machine.at("outside"));
    symlink(&outside, machine.sandbox.path("data/door")).unwrap();
    let run_as = |command: &str| {
        let run = machine
            .sandbox
            .osync()
            .args(["ssh-filter", TOKEN])
            .args(&machine.options)
            .env("SSH_ORIGINAL_COMMAND", with_token(command));
        if rustix::process::geteuid().is_root() { run.user(65534).run() } else { run.run() }
    };
    let inside = run_as(&format!("rsync --server --sender -lte.LsfxCIvu . {data}/"));
    assert!(!inside.stderr.contains("refused"), "{inside}");
    for path in [format!("{data}/door/"), outside] {
        let run = run_as(&format!("rsync --server --sender -lte.LsfxCIvu . {path}"));
        assert!(run.stderr.contains("is outside"), "{run}");
    }
}

//! One user's way through all of it: install, a restricted key, a run over ssh, a batch, a
//! monitor, and away again.

use crate::support::sandbox::{Outcome, PATIENCE, Sandbox};
use crate::support::sshd::Sshd;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");
const TOKEN: &str = "SomeAlphaNumericToken9";

fn program(sandbox: &Sandbox, name: &str) -> PathBuf {
    sandbox.path("prefix/usr/local/bin").join(name)
}

/// The installer beside a binary that is built already.
fn installer(sandbox: &Sandbox, args: &[&str]) -> Outcome {
    let source = sandbox.path("source");
    if !source.exists() {
        fs::create_dir(&source).unwrap();
        for name in ["examples", "exclude.list.example", "sync.conf.example"] {
            symlink(Path::new(REPOSITORY).join(name), source.join(name)).unwrap();
        }
        fs::copy(Path::new(REPOSITORY).join("install.sh"), source.join("install.sh")).unwrap();
        symlink(crate::support::osync(), source.join("osync")).unwrap();
    }
    let prefix = format!("--prefix={}", sandbox.path("prefix").display());
    sandbox.program(source.join("install.sh")).arg(prefix).args(args).run()
}

/// A key in authorized_keys that leads to the installed filter.
fn restrict_key(sandbox: &Sandbox, server: &Sshd, directory: &Path) {
    let file = server.path("authorized_keys");
    let key = fs::read_to_string(server.path("user.pub")).unwrap();
    let filter = program(sandbox, "ssh_filter.sh");
    let line = format!(
        "restrict,command=\"{} {TOKEN} --restrict {}\" {key}",
        filter.display(),
        directory.display()
    );
    fs::write(file, line).unwrap();
}

fn task(sandbox: &Sandbox, server: &Sshd, name: &str, target: &Path, lines: &str) {
    let initiator = sandbox.path(format!("{name}-a"));
    fs::create_dir(&initiator).unwrap();
    fs::create_dir(target).unwrap();
    fs::write(initiator.join("file"), name).unwrap();
    let text = format!(
        "INSTANCE_ID={name}\nINITIATOR_SYNC_DIR=\"{}\"\nTARGET_SYNC_DIR=\"{}\"\n\
         SSH_RSA_PRIVATE_KEY=\"{}\"\nSSH_OPTIONAL_ARGS=\"{}\"\n_REMOTE_TOKEN={TOKEN}\n\
         REMOTE_HOST_PING=no\nREMOTE_OSYNC=auto\nLOGFILE=\"{}\"\n{lines}\n",
        initiator.display(),
        server.uri(target),
        server.key().display(),
        server.options().join(" "),
        sandbox.path(format!("{name}.log")).display(),
    );
    fs::write(sandbox.path("etc").join(format!("{name}.conf")), text).unwrap();
}

struct Service(Child);

impl Service {
    #[track_caller]
    fn until(&mut self, what: &str, is_so: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(self.0.try_wait().unwrap().is_none(), "the monitor ended before {what}");
            assert!(begun.elapsed() < PATIENCE, "{what} did not happen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn from_the_installation_to_the_removal() {
    let sandbox = Sandbox::new();
    let installed = installer(&sandbox, &["--init=systemd"]);
    assert_eq!(installed.status, Some(0), "{installed}");
    let server = Sshd::start("");
    let data = sandbox.path("data");
    fs::create_dir(&data).unwrap();
    restrict_key(&sandbox, &server, &data);

    // the key opens nothing else
    let mut ssh = sandbox.program("ssh").args(server.options()).arg("-i").arg(server.key());
    ssh = ssh.args(["-p", &server.port.to_string(), "-o", "BatchMode=yes", "127.0.0.1", "id"]);
    let refused = ssh.run();
    assert_eq!(refused.status, Some(1), "{refused}");
    assert!(!refused.stdout.contains("uid="), "{refused}");

    // quicksync, twice
    fs::create_dir(data.join("quick")).unwrap();
    sandbox.a.make("f dir/file one");
    let quick = || {
        let run = sandbox
            .program(program(&sandbox, "osync.sh"))
            .arg(format!("--initiator={}", sandbox.a.root.display()))
            .arg(format!("--target={}", server.uri(&data.join("quick"))))
            .arg(format!("--rsakey={}", server.key().display()))
            .args([&format!("--remote-token={TOKEN}"), "--summary"])
            .env("SSH_OPTIONAL_ARGS", server.options().join(" "))
            .env("REMOTE_HOST_PING", "no")
            // a key that is confined to a directory serves an osync, and no shell
            .env("REMOTE_OSYNC", "auto");
        run.run()
    };
    let run = quick();
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(fs::read_to_string(data.join("quick/dir/file")).unwrap(), "one");
    let run = quick();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(run.stdout.contains("Target has 0 updates."), "{run}");

    // a batch of three, one of which fails at first
    let marker = sandbox.path("marker");
    let hook = format!("[ -e '{0}' ] || {{ touch '{0}'; exit 1; }}", marker.display());
    let fails = format!("STOP_ON_CMD_ERROR=yes\nLOCAL_RUN_BEFORE_CMD=\"{hook}\"");
    for (name, lines) in [("one", ""), ("two", fails.as_str()), ("three", "")] {
        task(&sandbox, &server, name, &data.join(name), lines);
    }
    let batch = sandbox
        .program(program(&sandbox, "osync-batch.sh"))
        .arg(format!("--path={}", sandbox.path("etc").display()))
        .run();
    assert_eq!(batch.status, Some(0), "{batch}");
    for (name, begun) in [("one", 1), ("two", 2), ("three", 1)] {
        assert_eq!(fs::read_to_string(data.join(name).join("file")).unwrap(), name);
        let log = fs::read_to_string(sandbox.path(format!("{name}.log"))).unwrap();
        assert_eq!(log.matches(" starts.").count(), begun, "{name} {batch}");
    }

    // a monitor picks up a change
    let mut command = sandbox.program(program(&sandbox, "osync")).into_command();
    command.arg(sandbox.path("etc/one.conf")).arg("--on-changes");
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let config = sandbox.path("etc/one.conf");
    let lines = fs::read_to_string(&config).unwrap() + "MIN_WAIT=0\n";
    fs::write(&config, lines).unwrap();
    let mut monitor = Service(command.spawn().unwrap());
    let log = || fs::read_to_string(sandbox.path("one.log")).unwrap_or_default();
    monitor.until("its first run", || log().matches("osync finished.").count() == 2);
    fs::write(sandbox.path("one-a/changed"), "while watched").unwrap();
    monitor.until("the change", || {
        fs::read_to_string(data.join("one/changed")).is_ok_and(|text| text == "while watched")
    });
    kill_process(Pid::from_child(&monitor.0), Signal::TERM).unwrap();
    assert_eq!(monitor.0.wait().unwrap().code(), Some(0), "{}", log());

    // away again: the tasks and their data stay
    let removed = installer(&sandbox, &["--remove"]);
    assert_eq!(removed.status, Some(0), "{removed}");
    assert!(!program(&sandbox, "osync").exists() && !program(&sandbox, "osync.sh").is_symlink());
    assert!(data.join("one/changed").exists() && sandbox.path("etc/one.conf").exists());
    for name in ["quick", "one", "two", "three"] {
        assert!(!data.join(name).join(".osync_workdir/lock").exists(), "{name} is locked");
    }
}

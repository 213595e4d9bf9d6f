//! An installation of osync 1.x whose program is exchanged: everything that starts it goes on
//! working as it stands (tests/data/old-installation).

use crate::support::sandbox::{Outcome, PATIENCE, Sandbox};
use crate::support::trees::{Mtime, set_mtime};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// The old installation with the new program in it.
struct Machine {
    sandbox: Sandbox,
}

impl Machine {
    /// The old installation, as it was.
    fn old() -> Machine {
        let machine = Machine { sandbox: Sandbox::new() };
        let data = Path::new(REPOSITORY).join("tests/data");
        machine.fill(&data.join("old-installation"), "");
        for dir in ["log", "srv", "mnt"] {
            fs::create_dir(machine.at(dir)).unwrap();
        }
        for task in ["documents", "photos", "music", "legacy", "quick"] {
            fs::create_dir(machine.at(&format!("srv/{task}"))).unwrap();
            fs::create_dir(machine.at(&format!("mnt/{task}"))).unwrap();
            fs::write(machine.at(&format!("srv/{task}/new in {task}")), task).unwrap();
        }
        // what osync 1.3 knew of the documents, and what has happened to them since
        let state = machine.at("srv/documents/.osync_workdir/state");
        fs::create_dir_all(&state).unwrap();
        for file in fs::read_dir(data.join("osync-1.3-state/plain")).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), state.join(file.file_name())).unwrap();
        }
        for side in ["srv", "mnt"] {
            for name in ["a.txt", "docs/b (copy).txt", "docs/old stuff/c", "ünï/日本.txt"] {
                let path = machine.at(&format!("{side}/documents/{name}"));
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, name).unwrap();
                set_mtime(&path, Mtime::secs(1_600_000_000));
            }
            symlink("a.txt", machine.at(&format!("{side}/documents/link"))).unwrap();
        }
        let gone = machine.at("mnt/documents/from target");
        fs::write(&gone, "deleted on the initiator since").unwrap();
        set_mtime(&gone, Mtime::secs(1_600_000_000));
        machine
    }

    /// A copy of the data, with the place of it all put in.
    fn fill(&self, data: &Path, below: &str) {
        for entry in fs::read_dir(data.join(below)).unwrap() {
            let entry = entry.unwrap();
            let name = Path::new(below).join(entry.file_name());
            let to = self.at(name.to_str().unwrap());
            if entry.path().is_dir() {
                fs::create_dir_all(&to).unwrap();
                self.fill(data, name.to_str().unwrap());
            } else {
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                let text = fs::read_to_string(entry.path()).unwrap();
                fs::write(&to, text.replace("@ROOT@", self.at("").to_str().unwrap())).unwrap();
                fs::set_permissions(&to, entry.metadata().unwrap().permissions()).unwrap();
            }
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        // without the slash that an empty name would bring
        let root = self.sandbox.path("machine");
        if path.is_empty() { root } else { root.join(path) }
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_default()
    }

    /// `install.sh` with the program of these tests.
    fn install(&self, args: &[&str]) {
        let source = self.sandbox.path("source");
        if !source.exists() {
            fs::create_dir(&source).unwrap();
            for name in ["install.sh", "examples", "sync.conf.example", "exclude.list.example"] {
                symlink(Path::new(REPOSITORY).join(name), source.join(name)).unwrap();
            }
            symlink(crate::support::osync(), source.join("osync")).unwrap();
        }
        let prefix = format!("--prefix={}", self.at("").display());
        let run = self.sandbox.program("sh").dir(&source).arg("./install.sh");
        let run = run.arg(prefix).args(args).run();
        assert_eq!(run.status, Some(0), "{run}");
    }

    /// Runs a line of shell as cron does.
    fn shell(&self, line: &str) -> Outcome {
        let home = self.at("home");
        self.sandbox
            .program("sh")
            .args(["-c", line])
            .env("HOME", home)
            .env("LOGFILE", self.at("log/others.log"))
            .run()
    }

    /// What stands behind the five times and the user in lines of the crontab.
    fn cron_lines(&self) -> Vec<String> {
        let is_comment = |line: &&str| !line.starts_with('#');
        let command = |line: &str| line.splitn(7, ' ').last().unwrap().to_owned();
        self.text("crontab").lines().filter(is_comment).map(command).collect()
    }

    /// A unit's command for a task, with the paths of this machine. In the first moments the
    /// monitor runs once; then it is ended as systemd does.
    fn serve(&self, command: &str, came: &str) {
        let at = |path: &str| self.at(path).display().to_string();
        let command = command
            .replace("%i", "documents.conf")
            .replace("%E", &at("home/.config"))
            .replace("$$", "$")
            .replace("/usr/local/bin", &at("usr/local/bin"))
            .replace("/etc/osync", &at("etc/osync"));
        let mut run = self.sandbox.program("sh").args(["-c", &format!("exec {command}")]);
        run = run.env("HOME", self.at("home"));
        let mut command = run.into_command();
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while !self.at(came).exists() {
            assert!(begun.elapsed() < PATIENCE, "{}", self.text("log/documents.log"));
            assert!(child.try_wait().unwrap().is_none(), "{}", self.text("log/documents.log"));
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let status = child.wait().unwrap().code();
        assert!(matches!(status, Some(0 | 2)), "{status:?}: {}", self.text("log/documents.log"));
    }
}

/// `ExecStart=` of a unit.
fn exec_start(unit: &str) -> &str {
    unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap()
}

#[test]
fn everything_that_started_osync_1_x_goes_on_when_the_program_is_exchanged() {
    let machine = Machine::old();
    assert!(machine.shell(&machine.cron_lines()[0]).stdout.contains("osync 1.3"));
    let old_unit = machine.text("usr/lib/systemd/system/osync-srv@.service");
    machine.install(&["--init=systemd"]);

    // crontab
    let lines = machine.cron_lines();
    let documents = machine.shell(&lines[0]);
    assert_eq!(documents.status, Some(0), "{documents}{}", machine.text("log/documents.log"));
    assert_eq!((documents.stdout.as_str(), documents.stderr.as_str()), ("", ""));
    assert!(machine.at("mnt/documents/new in documents").exists());
    assert!(!machine.at("mnt/documents/from target").exists(), "its deletion is remembered");
    assert!(machine.at("mnt/documents/.osync_workdir/deleted/from target").exists());
    assert!(machine.at("srv/documents/ünï/日本.txt").exists());
    let photos = machine.shell(&lines[1]);
    assert_eq!(photos.status, Some(0), "{photos}{}", machine.text("log/photos.log"));
    assert!(machine.at("mnt/photos/new in photos").exists());
    assert_eq!(machine.text("log/hook"), "ran\n", "a hook of bash");
    assert!(
        machine.at("srv/photos/.osync_workdir/state/initiator-tree-after-photos_here").exists()
    );
    let quick = machine.shell(&lines[2]);
    assert_eq!(quick.status, Some(0), "{quick}");
    assert!(machine.at("mnt/quick/new in quick").exists());

    // a batch runs what it can, and says what is to be upgraded
    let batch = machine.shell(&lines[3]);
    assert_eq!(batch.status, Some(1), "{batch}");
    let log = machine.text("log/others.log");
    let refused = "legacy.conf: has not succeeded in 1 run: ";
    let line = log.lines().find(|line| line.contains(refused)).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("osync upgrade") && line.contains("(its log is "), "{line}");
    assert!(
        log.contains("target-helper-documents.conf: for a target helper, and no task"),
        "{log}"
    );
    for (task, program) in
        [("music", "upgrade-v1.0x-v1.3x.sh"), ("legacy", "upgrade-v1.0x-v1.2x.sh")]
    {
        let line = format!("@/usr/local/bin/{program} @/etc/osync/{task}.conf");
        let upgrade = machine.shell(&line.replace('@', machine.at("").to_str().unwrap()));
        assert_eq!(upgrade.status, Some(0), "{upgrade}");
        assert!(machine.at(&format!("etc/osync/{task}.conf.save")).exists(), "{upgrade}");
    }
    let batch = machine.shell(&lines[3]);
    assert_eq!(batch.status, Some(0), "{batch}{}", machine.text("log/others.log"));
    for task in ["music", "legacy"] {
        assert!(machine.at(&format!("mnt/{task}/new in {task}")).exists(), "{task}");
    }

    // services: the unit that was edited is kept, and both the old and the new one work
    fs::write(machine.at("srv/documents/one"), "1").unwrap();
    machine.serve(exec_start(&old_unit), "mnt/documents/one");
    assert_eq!(machine.text("usr/lib/systemd/system/osync-srv@.service.save"), old_unit);
    for (number, unit) in
        ["usr/lib/systemd/system/osync-srv@.service", "etc/systemd/user/osync-srv@.service"]
            .into_iter()
            .enumerate()
    {
        fs::write(machine.at(&format!("srv/documents/by unit {number}")), "1").unwrap();
        let text = machine.text(unit);
        machine.serve(exec_start(&text), &format!("mnt/documents/by unit {number}"));
    }

    // the forced command: what osync 1.3 sends is let in, but sudo was and stays refused
    let entry = machine.text("home/.ssh/authorized_keys");
    let forced = entry.split("command=\"").nth(1).unwrap().split('"').next().unwrap();
    let by_key = |sent: &str| {
        let line = format!("SSH_ORIGINAL_COMMAND='{sent}' {forced}");
        machine.shell(&line)
    };
    let token = "env _REMOTE_TOKEN=SomeAlphaNumericToken9";
    assert_eq!(by_key(&format!("{token} env LC_ALL=C echo in")).stdout, "in\n");
    let sudo = by_key(&format!("{token} sudo -n env LC_ALL=C echo in"));
    assert!(sudo.stderr.contains("sudo is not allowed"), "{sudo}");
    assert_eq!(by_key("env _REMOTE_TOKEN=wrong echo in").status, Some(1));

    // and back
    machine.install(&["--remove"]);
    for line in &lines[..2] {
        let run = machine.shell(line);
        assert!(run.stdout.contains("osync 1.3"), "{run}");
    }
    assert_eq!(machine.text("usr/lib/systemd/system/osync-srv@.service"), old_unit);
    assert!(machine.text("usr/local/bin/ssh_filter.sh").contains("SUDO_EXEC=false"));
    let lists = machine.text("srv/documents/.osync_workdir/state/initiator-tree-after-plain");
    assert!(lists.contains("by unit 1\n") && !lists.contains("from target"), "{lists}");
}

#[test]
fn the_init_script_of_today_starts_the_old_tasks() {
    let machine = Machine::old();
    machine.install(&["--init=sysv"]);
    let at = |path: &str| machine.at(path).display().to_string();
    let script = machine
        .text("etc/init.d/osync-srv")
        .replace("OSYNC=/usr/local/bin", &format!("OSYNC={}", at("usr/local/bin")))
        .replace("CONF_DIR=/etc/osync", &format!("CONF_DIR={}", at("etc/osync")))
        .replace("PID_DIR=/var/run", &format!("PID_DIR={}", at("log")));
    fs::write(machine.at("etc/init.d/here"), script).unwrap();
    for task in ["music.conf", "legacy.conf"] {
        fs::remove_file(machine.at("etc/osync").join(task)).unwrap();
    }
    let service = |action: &str| machine.shell(&format!("sh {} {action}", at("etc/init.d/here")));
    let start = service("start");
    assert_eq!(start.status, Some(0), "{start}");
    let begun = Instant::now();
    let came = ["mnt/documents/new in documents", "mnt/photos/new in photos"];
    while !came.iter().all(|path| machine.at(path).exists()) {
        assert!(begun.elapsed() < PATIENCE, "{start}{}", machine.text("log/photos.log"));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let status = service("status");
    let stop = service("stop");
    assert_eq!((status.status, stop.status), (Some(0), Some(0)), "{status}{stop}");
    assert!(!stop.stdout.contains("target-helper"), "{stop}");
}

#[test]
fn the_openrc_instances_of_old_run_the_script_of_today() {
    let machine = Machine::old();
    let instances = ["documents", "photos.conf"];
    for instance in instances {
        let link = machine.at(&format!("etc/init.d/osync-srv.{instance}"));
        symlink("osync-srv", link).unwrap();
    }
    let old = machine.text("etc/init.d/osync-srv");
    machine.install(&["--init=openrc"]);
    for instance in instances {
        // what openrc-run does with a script: it sets the name of the service, reads the script,
        // and starts the command with arguments that a shell takes apart
        let service = machine.at(&format!("etc/init.d/osync-srv.{instance}"));
        let start = format!(
            "env RC_SVCNAME=osync-srv.{instance} OSYNC_CONF_DIR=/etc/osync \
             OSYNC=/usr/local/bin/osync sh -c '. {}; start_pre && \
             eval \"exec $command $command_args\"'",
            service.display()
        );
        let task = instance.trim_end_matches(".conf");
        machine.serve(&start, &format!("mnt/{task}/new in {task}"));
    }
    machine.install(&["--remove"]);
    for instance in instances {
        assert_eq!(machine.text(&format!("etc/init.d/osync-srv.{instance}")), old, "{instance}");
    }
}

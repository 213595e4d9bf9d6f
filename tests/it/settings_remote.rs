//! What each setting of a remote task does to the commands that a run starts (spec 2,
//! "Keys"; spec 5, "The ssh command"). The ssh, ping and sudo of these tests write down
//! what they are called with; their ssh runs the command on this machine. Whole runs
//! over a real ssh are tested elsewhere. `tests/data/key-effects.txt` names these tests.

use crate::support::fake_ssh::SKIP_SSH_OPTIONS;
use crate::support::sandbox::{Outcome, Sandbox};
use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// What the ssh of these tests writes down first.
const NOTE_SSH: &str = "echo \"ssh $* ASKPASS=${SSH_ASKPASS:+set}\" >>\"$NOTES\"\n";
const SUDO: &str = "echo \"sudo $*\" >>\"$NOTES\"\nwhile [ \"$1\" = -E ] || [ \"$1\" = -n ]; do shift; done\nexec \"$@\"\n";
const PING: &str = "echo \"ping $*\" >>\"$NOTES\"\ncase $* in *silent*) exit 1 ;; esac\nexit 0\n";

/// Two replicas, the target behind the ssh above.
struct Far {
    sandbox: Sandbox,
    runs: Cell<i64>,
}

impl Far {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        fs::create_dir(sandbox.path("bin")).unwrap();
        let far = Far { sandbox, runs: Cell::new(0) };
        // runs the command behind the options and the host on this machine
        let ssh = format!("{NOTE_SSH}{SKIP_SSH_OPTIONS}shift\nexec sh -c \"$*\"\n");
        for (name, text) in [("ssh", ssh.as_str()), ("sudo", SUDO), ("ping", PING)] {
            far.program(&format!("bin/{name}"), text);
        }
        far.sandbox.a.make("f first 1");
        far
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.sandbox.path(name);
        fs::write(&path, format!("#!/bin/sh\n{text}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A run with these settings, in which something is transferred, and all that was
    /// started for it.
    fn run(&self, settings: &[(&str, &str)], status: i32) -> (Outcome, String) {
        let notes = self.sandbox.path("notes");
        drop(fs::remove_file(&notes));
        self.runs.set(self.runs.get() + 1);
        self.sandbox.a.write("first", format!("{settings:?}"), 1_600_000_000 + self.runs.get());
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", self.sandbox.path("bin").display());
        let run = self.sandbox.osync().env("PATH", path).env("NOTES", &notes);
        let run = run
            .args(["--initiator", self.sandbox.a.root.to_str().unwrap()])
            .arg(format!("--target=ssh://me@silent.example:2222/{}", self.sandbox.b.root.display()))
            .env("SSH_CONTROLMASTER", "no");
        let run = settings.iter().fold(run, |run, (key, value)| run.env(key, value)).run();
        assert_eq!(run.status, Some(status), "{settings:?} {run}");
        (run, fs::read_to_string(&notes).unwrap_or_default())
    }
}

#[test]
fn settings_of_ssh_reach_its_command_line() {
    let far = Far::new();
    let (key, password) = (far.sandbox.path("my key"), far.sandbox.path("password"));
    fs::write(&key, "").unwrap();
    fs::write(&password, "Geheim-55\n").unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    let with_key = format!(" -i {} ", key.display());
    let (_, plain) = far.run(&[], 0);
    for word in [" -p 2222 ", " me@silent.example ", "BatchMode=yes", "ServerAliveInterval="] {
        assert!(plain.contains(word), "{word}: {plain}");
    }
    for (setting, value, words) in [
        ("SSH_RSA_PRIVATE_KEY", key.to_str().unwrap(), with_key.as_str()),
        ("SSH_PASSWORD_FILE", password.to_str().unwrap(), "BatchMode=no"),
        ("SSH_PASSWORD_FILE", password.to_str().unwrap(), "ASKPASS=set"),
        ("KRB5", "yes", " -K "),
        ("SSH_COMPRESSION", "no", "Compression=no"),
        ("SSH_OPTIONAL_ARGS", "-o 'LogLevel=ERROR' -4", " -o LogLevel=ERROR -4 "),
        ("SSH_IGNORE_KNOWN_HOSTS", "yes", "StrictHostKeyChecking=no"),
        ("SSH_CONTROLMASTER", "yes", "ControlPath="),
        ("_REMOTE_TOKEN", "Tok9", "env _REMOTE_TOKEN=Tok9 sh"),
        ("_REMOTE_TOKEN", "Tok9", "env LC_ALL=C env _REMOTE_TOKEN=Tok9 rsync"),
        ("SUDO_EXEC", "yes", "sudo -n -E sh"),
        ("SUDO_EXEC", "yes", "sudo rsync --server"),
    ] {
        let (run, notes) = far.run(&[(setting, value)], 0);
        assert!(notes.contains(words), "{setting}={value}: {notes}");
        assert!(!plain.contains(words), "without {setting}: {plain}");
        assert!(!notes.contains("Geheim-55"), "{notes}");
        assert_eq!(far.sandbox.b.read("first"), far.sandbox.a.read("first"), "{run}");
    }
    assert!(plain.contains(" -C "), "{plain}");
}

#[test]
fn settings_of_transfers_reach_the_rsync_over_there() {
    let far = Far::new();
    fs::create_dir(far.sandbox.path("far bin")).unwrap();
    far.program("far bin/rsync", "echo \"far rsync $*\" >>\"$NOTES\"\nexec rsync \"$@\"\n");
    far.program("near-rsync", "echo \"near rsync $*\" >>\"$NOTES\"\nexec rsync \"$@\"\n");
    let near = far.sandbox.path("near-rsync");
    let calls = |settings: &[(&str, &str)]| {
        let near = ("RSYNC_EXECUTABLE", near.to_str().unwrap());
        far.program("bin/near-rsync", "exec rsync \"$@\"\n");
        far.run(&[settings, &[near]].concat(), 0).1
    };
    let plain = calls(&[]);
    assert!(plain.contains(" --no-whole-file ") && plain.contains(" -zz "), "{plain}");
    for (key, value, gone) in
        [("DELTA_COPIES", "no", " --no-whole-file "), ("RSYNC_COMPRESS", "no", " -zz ")]
    {
        assert!(!calls(&[(key, value)]).contains(gone), "{key}");
    }
    let dir = far.sandbox.path("far bin");
    let (_, notes) = far.run(&[("RSYNC_REMOTE_PATH", dir.to_str().unwrap())], 0);
    assert!(notes.contains("far rsync --server"), "{notes}");
}

#[test]
fn hosts_are_pinged_if_wanted() {
    let far = Far::new();
    let (_, notes) = far.run(&[], 0);
    assert!(!notes.contains("ping"), "{notes}");
    let (run, notes) = far.run(&[("REMOTE_HOST_PING", "yes")], 1);
    assert!(run.stderr.contains("silent.example does not answer a ping"), "{run}");
    assert!(!notes.contains("ssh "), "the task is not run: {notes}");
    let two = [("REMOTE_3RD_PARTY_HOSTS", "silent.one silent.two")];
    let (run, notes) = far.run(&two, 2);
    assert!(run.stderr.contains("none of the hosts"), "{run}");
    assert!(notes.contains("silent.one") && notes.contains("silent.two"), "{notes}");
    far.run(&[("REMOTE_3RD_PARTY_HOSTS", "silent.one, here")], 0);
    far.run(&[("REMOTE_3RD_PARTY_HOST", "silent.one")], 2);
}

#[test]
fn commands_run_over_there_too() {
    let far = Far::new();
    let (before, after) = (far.sandbox.path("before"), far.sandbox.path("after"));
    let note = |file: &std::path::Path| format!("echo $OSYNC_INSTANCE_ID >'{}'", file.display());
    far.run(
        &[
            ("REMOTE_RUN_BEFORE_CMD", note(&before).as_str()),
            ("REMOTE_RUN_AFTER_CMD", note(&after).as_str()),
        ],
        0,
    );
    for file in [before, after] {
        assert_eq!(fs::read_to_string(file).unwrap(), "quicksync_task\n");
    }
}

#[test]
fn a_lock_of_a_stranger_is_taken_over_only_if_allowed() {
    let far = Far::new();
    far.run(&[], 0);
    // as osync 1.3 leaves it when it is killed; the number is above those of processes
    fs::write(far.sandbox.b.at(".osync_workdir/lock"), "99999999@another\n").unwrap();
    let (run, _) = far.run(&[("FORCE_STRANGER_LOCK_RESUME", "no")], 1);
    assert!(run.stderr.contains("FORCE_STRANGER_LOCK_RESUME"), "{run}");
    let (run, _) = far.run(&[("FORCE_STRANGER_LOCK_RESUME", "yes")], 2);
    assert!(run.stderr.contains("another"), "{run}");
    assert_eq!(far.sandbox.b.read("first"), far.sandbox.a.read("first"));
}

#[test]
fn the_listing_of_the_other_side_is_kept_in_its_state_directory() {
    let far = Far::new();
    let state = far.sandbox.path("far state");
    far.run(&[("TARGET_CUSTOM_STATE_DIR", state.to_str().unwrap())], 0);
    assert!(state.join("listing-quicksync_task").exists());
    assert!(!far.sandbox.b.has(".osync_workdir/state/listing-quicksync_task"));
}

#[test]
fn the_transport_is_chosen_by_its_setting() {
    let far = Far::new();
    let (_, notes) = far.run(&[("SSH_TRANSPORT", "openssh")], 0);
    assert!(notes.contains("ssh -o "), "{notes}");
    let (run, notes) = far.run(&[("SSH_TRANSPORT", "libssh2")], 1);
    assert!(!notes.contains("ssh -"), "the ssh client is not asked: {notes} {run}");
}

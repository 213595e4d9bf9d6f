//! What can be wrong on the way to a remote target, or over there: each is an error that
//! names the host and the path and says what to do, nothing is lost, no lock is left, and
//! once it is put right the next run completes.

use crate::support::over_ssh::OverSsh;
use crate::support::replicas::script;
use crate::support::sandbox::{Outcome, Run};
use crate::support::sshd::{Proxy, user};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The run failed, said so with these words, and left everything as it was.
fn assert_refused(task: &OverSsh, failed: &Outcome, words: &[&str]) {
    assert_eq!(failed.status, Some(1), "{failed}");
    let root = task.sandbox.b.root.to_str().unwrap();
    for word in words.iter().chain(&["127.0.0.1", root]) {
        assert!(failed.stderr.contains(word), "no '{word}' in\n{failed}");
    }
    for debris in ["panicked", "RUST_BACKTRACE", "Some(", "Err("] {
        assert!(!failed.stderr.contains(debris), "{failed}");
    }
    assert!(task.sandbox.log().contains(words[0]), "{}", task.sandbox.log());
    task.assert_unlocked();
    assert_eq!(task.sandbox.a.contents(), "f mine here\n");
    assert_eq!(task.sandbox.b.contents(), "f yours there\n");
}

/// A task in which both sides have something for the other.
fn task(lines: &str) -> OverSsh {
    let task = OverSsh::with(lines);
    fill(&task);
    task
}

fn fill(task: &OverSsh) {
    task.sandbox.a.make("f mine here");
    task.sandbox.b.make("f yours there");
}

fn assert_completes(task: &OverSsh, run: Run) {
    let done = task.fine(run);
    assert_eq!(task.sandbox.a.contents(), "f mine here\nf yours there\n", "{done}");
    task.assert_in_step();
    task.assert_unlocked();
}

#[test]
fn a_key_that_is_not_known_there_is_told_with_what_to_check() {
    let task = task("");
    let failed = task.run().env("SSH_RSA_PRIVATE_KEY", task.server.strange_key()).run();
    assert_refused(
        &task,
        &failed,
        &["Permission denied", "authorized_keys", "SSH_RSA_PRIVATE_KEY"],
    );
    assert_completes(&task, task.run());
}

#[test]
fn a_host_that_is_not_known_is_not_trusted() {
    let task = task("");
    let known = task.server.path("known_hosts");
    let saved = fs::read(&known).unwrap();
    fs::write(&known, "").unwrap();
    let failed = task.run().run();
    assert_refused(
        &task,
        &failed,
        &["Host key verification failed", "not known yet", "Connect once"],
    );
    fs::write(&known, saved).unwrap();
    assert_completes(&task, task.run());
}

#[test]
fn a_host_with_another_key_than_before_is_refused() {
    let task = task("");
    let known = task.server.path("known_hosts");
    let saved = fs::read_to_string(&known).unwrap();
    let foreign = fs::read_to_string(task.server.path("stranger.pub")).unwrap();
    fs::write(&known, format!("[127.0.0.1]:{} {foreign}", task.server.port)).unwrap();
    let failed = task.run().run();
    let forget = format!("ssh-keygen -R '[127.0.0.1]:{}'", task.server.port);
    assert_refused(&task, &failed, &["Host key verification failed", &forget, "listening in"]);
    fs::write(&known, saved).unwrap();
    assert_completes(&task, task.run());
}

#[test]
fn a_host_that_is_down_is_told_soon() {
    let task = task("");
    // nobody listens where a proxy was a moment ago
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let failed = task.by(port).patience(Duration::from_secs(60)).run();
    assert_refused(&task, &failed, &["Connection refused", "no ssh server answers"]);
    assert_completes(&task, task.run());
}

#[test]
fn a_host_that_takes_the_call_and_says_nothing_is_given_up() {
    let task = task("");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let options = format!("{} -o ConnectTimeout=2", task.server.options().join(" "));
    let failed = task.by(port).env("SSH_OPTIONAL_ARGS", options).run();
    assert_refused(&task, &failed, &["timed out", "does not answer"]);
    assert_completes(&task, task.run());
}

#[test]
fn a_login_without_a_shell_is_told() {
    let task = task("");
    let forced = OverSsh::forced("echo This account is not available");
    forced.sandbox.a.make("f mine here");
    forced.sandbox.b.make("f yours there");
    let failed = forced.run().run();
    assert_refused(&forced, &failed, &["cannot connect", "not available"]);
    assert_completes(&task, task.run());
}

/// So does a filter of osync 1.x that is not told its token.
#[test]
fn a_login_that_is_refused_in_silence_is_told() {
    let forced = OverSsh::forced("exit 3");
    forced.sandbox.a.make("f mine here");
    forced.sandbox.b.make("f yours there");
    let failed = forced.run().run();
    assert_refused(&forced, &failed, &["cannot connect", "status 3", "_REMOTE_TOKEN"]);
}

#[test]
fn a_missing_remote_rsync_is_told_with_the_setting_that_helps() {
    let task = task("");
    let failed = task.run().env("RSYNC_REMOTE_PATH", "/nowhere/at all").run();
    assert_refused(
        &task,
        &failed,
        &["/nowhere/at all/rsync", "RSYNC_REMOTE_PATH", "install rsync"],
    );
    assert_completes(&task, task.run());
}

/// rsync is there when asked for, and is gone when it is needed.
#[test]
fn a_remote_rsync_that_cannot_be_run_costs_no_file() {
    let task = task("");
    let tools = task.sandbox.path("tools");
    fs::create_dir(&tools).unwrap();
    fs::write(tools.join("rsync"), "#!/nowhere/sh\n").unwrap();
    fs::set_permissions(tools.join("rsync"), fs::Permissions::from_mode(0o755)).unwrap();
    let failed = task.run().env("RSYNC_REMOTE_PATH", &tools).run();
    assert_refused(&task, &failed, &["rsync"]);
    assert_completes(&task, task.run());
}

/// Stopped as by SIGSTOP over there, once the lock is taken, while ssh goes on answering.
#[test]
fn a_listing_over_there_that_hangs_is_given_up() {
    let tools = tempfile::tempdir().unwrap();
    let at = tools.path().display();
    let path = std::env::var("PATH").unwrap();
    let task =
        task(&format!("ForceCommand PATH='{at}:{path}' exec sh -c \"$SSH_ORIGINAL_COMMAND\""));
    let hangs = format!(
        "#!/bin/sh\nif [ ! -e '{at}/pid' ] && [ -e '{}' ]; then echo $$ >'{at}/new'; mv '{at}/new' '{at}/pid'; \
         kill -STOP $$; fi\nPATH='{path}'\nexec find \"$@\"\n",
        task.sandbox.b.at(".osync_workdir/lock").display()
    );
    fs::write(tools.path().join("find"), hangs).unwrap();
    fs::set_permissions(tools.path().join("find"), fs::Permissions::from_mode(0o755)).unwrap();
    // an hour, divided
    let failed = task.run().env("OSYNC_FAULT_HASTE", "900").run();
    let pid = fs::read_to_string(tools.path().join("pid")).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert_refused(&task, &failed, &["no sign of life for an hour"]);
    assert_completes(&task, task.run());
}

#[test]
fn a_remote_directory_that_is_not_there_is_told_and_made_when_asked() {
    let task = task("");
    let missing = task.sandbox.b.root.join("not/there");
    let uri = task.server.uri(&missing);
    let failed = task.to(&uri).env("CREATE_DIRS", "no").run();
    assert_refused(&task, &failed, &["no such directory", "CREATE_DIRS", "not/there"]);
    task.fine(task.to(&uri).env("CREATE_DIRS", "yes"));
    assert_eq!(fs::read(missing.join("mine")).unwrap(), b"here");
}

/// Logged in as a user who is not root, by whoever runs the tests.
fn as_nobody() -> &'static str {
    if rustix::process::geteuid().is_root() {
        "ForceCommand setpriv --reuid 65534 --regid 65534 --clear-groups \
         sh -c \"$SSH_ORIGINAL_COMMAND\""
    } else {
        ""
    }
}

fn open_to_all(path: &Path) {
    let mode = if path.is_dir() { 0o777 } else { 0o666 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_remote_directory_that_cannot_be_written_is_told() {
    let task = task(as_nobody());
    open_to_all(task.sandbox.root());
    let root = &task.sandbox.b.root;
    fs::set_permissions(root, fs::Permissions::from_mode(0o555)).unwrap();
    let failed = task.run().run();
    assert_refused(&task, &failed, &["cannot write the directory", "SUDO_EXEC"]);
    open_to_all(root);
    open_to_all(&root.join("yours"));
    task.fine(task.run());
    assert_eq!(task.sandbox.b.read("mine").as_deref(), Some(&b"here"[..]));
}

#[test]
fn a_directory_below_that_cannot_be_written_costs_only_what_is_in_it() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tried: only root can make a directory that belongs to somebody else");
        return;
    }
    let task = task(as_nobody());
    fs::set_permissions(task.sandbox.root(), fs::Permissions::from_mode(0o755)).unwrap();
    task.sandbox.b.make("d closed\nd open");
    task.sandbox.a.make("f closed/new x\nf open/new y\nd open\nd closed");
    let give = |path: &str| {
        std::os::unix::fs::chown(task.sandbox.b.at(path), Some(65534), Some(65534)).unwrap();
    };
    ["", "yours", "open"].into_iter().for_each(give);
    let run = || task.run().env("PRESERVE_OWNER", "no").env("PRESERVE_GROUP", "no");
    let failed = run().run();
    assert_eq!(failed.status, Some(1), "{failed}");
    assert!(failed.stderr.contains("closed/new") && failed.stderr.contains("denied"), "{failed}");
    assert_eq!(task.sandbox.b.read("open/new").as_deref(), Some(&b"y"[..]), "{failed}");
    assert_eq!(task.sandbox.a.read("closed/new").as_deref(), Some(&b"x"[..]));
    task.assert_unlocked();
    give("closed");
    task.fine(run());
    task.assert_in_step();
}

#[test]
fn a_lock_of_another_machine_holds() {
    let task = task("");
    let there = task.sandbox.b.root.join(".osync_workdir");
    fs::create_dir(&there).unwrap();
    fs::write(there.join("lock"), "4711@elsewhere\n").unwrap();
    fs::write(
        there.join("lock.by"),
        "4711@elsewhere\nother-host 00000000-0000-0000-0000-000000000000\n",
    )
    .unwrap();
    let failed = task.run().run();
    assert_eq!(failed.status, Some(1), "{failed}");
    for word in ["127.0.0.1", "elsewhere", ".osync_workdir/lock", "--force-unlock"] {
        assert!(failed.stderr.contains(word), "no '{word}' in\n{failed}");
    }
    assert_eq!(fs::read_to_string(there.join("lock")).unwrap(), "4711@elsewhere\n");
    assert!(!task.sandbox.a.has(".osync_workdir/lock"), "our own lock is given back");
    assert_eq!(task.sandbox.b.contents(), "f yours there\n");
    let forced = task.run().arg("--force-unlock").run();
    assert_eq!(forced.status, Some(0), "just what was asked for: {forced}");
    assert!(format!("{forced}").contains("forced open"), "{forced}");
    assert_completes(&task, task.run());
}

#[test]
fn a_run_that_goes_on_keeps_the_others_out_and_a_dead_one_is_taken_over() {
    let task = task("");
    let mut sleeper = Command::new("sleep").arg("1000").spawn().unwrap();
    let there = task.sandbox.b.root.join(".osync_workdir");
    fs::create_dir(&there).unwrap();
    fs::write(there.join("lock"), format!("{}@quicksync_task\n", sleeper.id())).unwrap();
    let failed = task.run().run();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    assert_eq!(failed.status, Some(1), "{failed}");
    let pid = sleeper.id().to_string();
    for word in ["127.0.0.1", "running", pid.as_str()] {
        assert!(failed.stderr.contains(word), "no '{word}' in\n{failed}");
    }
    assert_eq!(task.sandbox.b.contents(), "f yours there\n");
    assert_completes(&task, task.run());
}

/// A small file system of its own; none: this user may not mount.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn mount(at: &'a Path, size: &str) -> Option<Self> {
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "osync-test"])
            .arg(at)
            .status()
            .is_ok_and(|status| status.success());
        mounted.then_some(Small(at))
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn a_remote_disk_that_fills_up_costs_nothing_that_was_there() {
    let task = OverSsh::new();
    let Some(_mounted) = Small::mount(&task.sandbox.b.root, "2m") else {
        eprintln!("not tried: only root may mount a small file system");
        return;
    };
    task.sandbox.a.make("f kept old\nf small x");
    task.sync();
    task.sandbox.a.write("kept", vec![b'n'; 3 << 20], 1_600_000_000);
    task.sandbox.a.write("another", "y", 1_600_000_000);
    let failed = task.run().run();
    assert_eq!(failed.status, Some(1), "{failed}");
    // rsync may end before the other machine's words have come
    let is_named = ["No space left", "the disk of the receiving side is full"];
    assert!(is_named.iter().any(|words| failed.stderr.contains(words)), "{failed}");
    assert!(failed.stderr.contains("kept"), "{failed}");
    assert_eq!(task.sandbox.b.read("kept").as_deref(), Some(&b"old"[..]), "the old one stays");
    task.assert_unlocked();
    task.sandbox.a.write("kept", "smaller", 1_600_000_001);
    task.sync();
    task.assert_in_step();
    assert_eq!(task.sandbox.b.read("kept").as_deref(), Some(&b"smaller"[..]));
}

/// The disk is so full that not even the lock or the listing can be written.
#[test]
fn a_remote_disk_without_any_room_stops_the_run_and_costs_nothing() {
    let task = OverSsh::new();
    let Some(_mounted) = Small::mount(&task.sandbox.b.root, "1m") else {
        eprintln!("not tried: only root may mount a small file system");
        return;
    };
    task.sandbox.a.make("f kept old");
    task.fine(task.run().env("MINIMUM_SPACE", "0"));
    let run = || task.run().env("MINIMUM_SPACE", "0");
    let filler = task.sandbox.b.root.join(".osync_workdir/filler");
    let _ = fs::write(&filler, vec![b'x'; 2 << 20]);
    task.sandbox.a.write("kept", "new version", 1_600_000_000);
    let failed = run().run();
    assert_eq!(failed.status, Some(1), "{failed}");
    assert!(failed.stderr.contains("is full"), "{failed}");
    assert_eq!(task.sandbox.b.read("kept").as_deref(), Some(&b"old"[..]));
    task.assert_unlocked();
    fs::remove_file(filler).unwrap();
    task.fine(run());
    task.assert_in_step();
}

/// A listing that the full disk has cut off is none: what is missing in it is not deleted.
#[test]
fn a_disk_too_full_for_the_listing_makes_no_deletions() {
    let task = OverSsh::new();
    let Some(_mounted) = Small::mount(&task.sandbox.b.root, "4m") else {
        eprintln!("not tried: only root may mount a small file system");
        return;
    };
    let (a, b) = (&task.sandbox.a, &task.sandbox.b);
    (0..400).for_each(|n| a.write(format!("file {n}"), "x", 1_600_000_000));
    let run = || task.run().env("MINIMUM_SPACE", "0");
    task.fine(run());
    (0..1500).for_each(|n| b.write(format!("new name {n}"), "", 1_600_000_000));
    let filler = b.at(".osync_workdir/filler");
    let _ = fs::write(&filler, vec![b'x'; 4 << 20]);
    let full = fs::metadata(&filler).unwrap().len();
    fs::File::options().write(true).open(&filler).unwrap().set_len(full - (24 << 10)).unwrap();
    let failed = run().run();
    assert_eq!(failed.status, Some(1), "{failed}");
    assert!(failed.stderr.contains("No space left"), "{failed}");
    assert_eq!(a.contents().lines().count(), 400, "{failed}");
    task.assert_unlocked();
    fs::remove_file(filler).unwrap();
    task.fine(run());
    task.assert_in_step();
    assert_eq!(a.contents().lines().count(), 1900);
}

/// What the programs that list the replica do, in the place of the real ones.
const HALF_WORK: [(&str, &str); 10] = [
    ("sort", "/usr/bin/sort \"$@\" | head -n 20\nkill -KILL $$"),
    ("sort", "/usr/bin/sort \"$@\" | head -n 20"),
    ("sort", "exit 0"),
    (
        "find",
        "case $* in *'-prune -o '*) /usr/bin/find \"$@\" | head -n 20; kill -KILL $$ ;; esac\nexec /usr/bin/find \"$@\"",
    ),
    (
        "find",
        "case $* in *'-prune -o '*) /usr/bin/find \"$@\" | head -n 20; exit 1 ;; esac\nexec /usr/bin/find \"$@\"",
    ),
    ("comm", "exit 0"),
    ("comm", "/usr/bin/comm \"$@\" | head -n 1\nkill -KILL $$"),
    ("cksum", "kill -KILL $$"),
    ("wc", "echo 1"),
    ("cat", "/usr/bin/cat \"$@\" | head -n 20\nkill -KILL $$"),
];

#[test]
fn programs_that_do_half_of_their_work_make_no_deletions() {
    let (task, tools) = OverSsh::with_programs(&[]);
    let (a, b) = (&task.sandbox.a, &task.sandbox.b);
    (0..60).for_each(|n| a.write(format!("file {n}"), "x", 1_600_000_000));
    task.sync();
    for ((program, does), time) in HALF_WORK.into_iter().zip(1_600_000_000..) {
        b.write("changed", "x", time);
        script(tools.path(), program, does);
        let run = task.run().run();
        if run.status != Some(0) {
            assert_eq!(run.status, Some(1), "{program}: {does}: {run}");
            assert!(run.stderr.contains("127.0.0.1"), "{program}: {does}: {run}");
        }
        for side in [a, b] {
            let names = (0..60).filter(|n| side.has(format!("file {n}"))).count();
            assert_eq!(names, 60, "{program}: {does}: {run}");
        }
        fs::remove_file(tools.path().join(program)).unwrap();
        task.sync();
        task.assert_in_step();
    }
}

/// Names with line ends, and what find complains of, once went through a temporary file.
#[test]
fn a_full_directory_for_temporary_files_over_there_makes_no_deletions() {
    let full = tempfile::tempdir().unwrap();
    let Some(_mounted) = Small::mount(full.path(), "16k") else {
        eprintln!("not tried: only root may mount a small file system");
        return;
    };
    let _ = fs::write(full.path().join("filler"), vec![b'x'; 1 << 20]);
    let shell = format!("TMPDIR={} sh -c \"$SSH_ORIGINAL_COMMAND\"", full.path().display());
    let task = OverSsh::forced(&shell);
    let names = ["plain", "line\nend", "\n", "d\n/f\n"];
    fs::create_dir(task.sandbox.a.at("d\n")).unwrap();
    names.iter().for_each(|name| task.sandbox.a.write(name, "x", 1_600_000_000));
    for _ in 0..2 {
        task.sync();
        task.assert_in_step();
        names.iter().for_each(|name| assert!(task.sandbox.a.has(name), "{name:?}"));
    }
}

/// sudo that asks for a password: an error with the line that helps.
#[test]
fn a_sudo_that_wants_a_password_is_told_with_the_sudoers_line() {
    let (task, _tools) =
        OverSsh::with_programs(&[("sudo", "echo 'sudo: a password is required' >&2\nexit 1\n")]);
    fill(&task);
    let failed = task.run().env("SUDO_EXEC", "yes").run();
    let line = format!("{} ALL=(root) NOPASSWD:SETENV: /usr/bin/rsync, /usr/bin/bash", user());
    assert_refused(&task, &failed, &["a password is required", &line]);
    assert_completes(&task, task.run());
}

/// The line of osync 1.3's manual names bash and not sh.
#[test]
fn a_sudo_that_allows_bash_and_not_sh_serves_too() {
    let tools = tempfile::tempdir().unwrap();
    let sudo = tools.path().join("sudo");
    let script = "#!/bin/sh\nwhile :; do case $1 in -n|-E) shift;; *) break;; esac; done\n\
                  case $1 in bash|rsync) exec \"$@\";; esac\n\
                  echo 'sudo: a password is required' >&2\nexit 1\n";
    fs::write(&sudo, script).unwrap();
    fs::set_permissions(&sudo, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", tools.path().display());
    let task = task(&format!("ForceCommand PATH={path} sh -c \"$SSH_ORIGINAL_COMMAND\""));
    task.fine(task.run().env("SUDO_EXEC", "yes"));
    task.assert_in_step();
}

/// A proxy that forwards nothing is a host whose network is gone.
#[test]
fn a_line_that_breaks_during_the_login_is_told() {
    for bytes in [1, 600, 2500] {
        let task = task("");
        let proxy: Proxy = task.proxy(Duration::ZERO);
        proxy.cut_after(bytes);
        let failed = task.by(proxy.port).run();
        assert_refused(&task, &failed, &["cannot connect to 127.0.0.1"]);
        proxy.mend();
        assert_completes(&task, task.by(proxy.port));
    }
}

//! `osync init`: what it asks, what it writes, and what it leaves when it is broken off.

use crate::support::replicas::script;
use crate::support::sandbox::{Outcome, Run, Sandbox, fine};
use crate::support::sshd::Sshd;
use crate::support::terminal::Talk;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// `osync init --yes` for the two replicas, and the file that it is to write.
fn quick(sandbox: &Sandbox, file: &Path) -> Run {
    sandbox.osync().arg("init").arg(file).args(flags(&sandbox.a.root, &sandbox.b.root))
}

fn flags(a: &Path, b: &Path) -> [OsString; 3] {
    [flag("--initiator=", a), flag("--target=", b), "--yes".into()]
}

fn flag(name: &str, value: impl AsRef<OsStr>) -> OsString {
    let mut flag = OsString::from(name);
    flag.push(value);
    flag
}

/// The line of a crontab that was shown, as cron hands it to a shell.
fn from_cron(shown: &str) -> String {
    let line = shown.lines().rev().find_map(|line| line.trim().strip_prefix("*/10 * * * * "));
    line.unwrap_or_else(|| panic!("no line for cron: {shown}")).replace("\\%", "%")
}

/// The names in a directory.
fn listing(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// It ended without a file, and said why in one line.
#[track_caller]
fn refused(run: &Outcome, status: i32, why: &str) {
    assert_eq!(run.status, Some(status), "{run}");
    assert_eq!(run.stderr.lines().count(), 1, "{run}");
    assert!(run.stderr.contains(why), "{run}");
}

#[test]
fn what_it_writes_is_a_task_that_runs_and_the_line_for_cron_runs_it() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f hello world\nf junk.swp x");
    let file = sandbox.path("etc/docs.conf");
    let run = quick(&sandbox, &file).args(["--exclude=*.swp", "--exclude=/cache/"]).run();
    fine(&run);
    assert!(run.stdout.contains("1 update to the target, 5 bytes in"), "{run}");
    assert!(!sandbox.b.has("hello"), "nothing is synchronised yet");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("\nINSTANCE_ID=\"docs\"\n"), "{text}");
    assert!(text.contains("\nRSYNC_EXCLUDE_PATTERN=\"*.swp;/cache/\"\n"), "{text}");
    fine(&sandbox.osync().args(["check", "--errors-only"]).arg(&file).run());
    fine(&sandbox.program("sh").args(["-c", &from_cron(&run.stdout)]).run());
    assert_eq!(sandbox.b.contents(), "f hello world\n");
}

#[test]
fn any_name_comes_right_in_the_file_and_in_the_line_for_cron() {
    for name in [
        &b"blank and 'quotes' \"both\""[..],
        b"$HOME `id` $(id) 5% \\n",
        b"latin \xe9 and\x1b[31m",
        b"two\nlines",
        b" begins and ends with blanks ",
        b"~",
        b"-rf",
        b"a;b#c",
    ] {
        let sandbox = Sandbox::new();
        let name = OsStr::from_bytes(name);
        let (a, b) = (sandbox.a.root.join(name), sandbox.b.root.join(name));
        let etc = sandbox.path("etc").join(name);
        [&a, &b, &etc].into_iter().for_each(|dir| fs::create_dir(dir).unwrap());
        fs::write(a.join("file"), "text").unwrap();
        let file = etc.join(["x ", "%"].concat()).with_extension("conf");
        let run = sandbox.osync().arg("init").args(flags(&a, &b)).arg("--").arg(&file).run();
        fine(&run);
        fine(&sandbox.program("sh").args(["-c", &from_cron(&run.stdout)]).run());
        assert_eq!(fs::read(b.join("file")).unwrap(), b"text", "{name:?}");
        assert!(!run.stdout.contains('\x1b'), "{run}");
    }
}

#[test]
fn without_a_terminal_it_asks_nothing_and_says_what_is_missing() {
    let sandbox = Sandbox::new();
    let file = sandbox.path("etc/docs.conf");
    let init = || sandbox.osync().arg("init").arg(&file);
    refused(&init().run(), 128, "--yes");
    refused(&init().arg("--yes").run(), 128, "--initiator=DIR is missing");
    let a = flag("--initiator=", &sandbox.a.root);
    refused(&init().arg(a).arg("--yes").run(), 128, "--target=DIR|SSH_URI is missing");
    refused(&quick(&sandbox, &sandbox.path("etc/docs.toml")).run(), 1, "end in .conf");
    refused(&quick(&sandbox, &file).arg("--new-key").run(), 128, "--new-key");
    refused(&quick(&sandbox, &file).arg("--exclude=a;b").run(), 128, "';'");
    refused(&quick(&sandbox, &file).arg("--instance-id=a/b").run(), 1, "file name");
    let inside = sandbox.a.at("inside");
    fs::create_dir(&inside).unwrap();
    let nested = |a: &Path, b: &Path| init().args(flags(a, b)).run();
    refused(&nested(&sandbox.a.root, &inside), 1, "inside the initiator");
    refused(&nested(&sandbox.a.root, Path::new("ssh://h")), 1, "no path");
    refused(&nested(Path::new("ssh://h//d"), &sandbox.b.root), 1, "this machine");
    refused(&nested(&sandbox.a.root, &sandbox.path("gone")), 1, "--create-dirs");
    assert_eq!(listing(&sandbox.path("etc")), [""; 0]);
    assert!(!sandbox.a.has(".osync_workdir") && !sandbox.b.has(".osync_workdir"));
}

#[test]
fn a_file_that_is_there_is_never_overwritten() {
    let sandbox = Sandbox::new();
    let file = sandbox.path("etc/docs.conf");
    fs::write(&file, "mine").unwrap();
    refused(&quick(&sandbox, &file).run(), 1, "is there already");
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    let link = sandbox.path("etc/link.conf");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    refused(&quick(&sandbox, &link).run(), 1, "is there already");
    assert_eq!(listing(&sandbox.path("etc")), ["docs.conf", "link.conf"]);
}

#[test]
fn a_directory_that_is_not_there_is_made_by_the_first_run_if_that_is_wanted() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f hello world");
    let (file, gone) = (sandbox.path("etc/docs.conf"), sandbox.path("new/b"));
    let run = sandbox.osync().arg("init").arg(&file).args(flags(&sandbox.a.root, &gone));
    let run = run.arg("--create-dirs").run();
    fine(&run);
    assert!(!gone.exists() && run.stdout.contains("1 update to the target"), "{run}");
    fine(&sandbox.osync().arg(&file).run());
    assert!(gone.join("hello").exists());
}

#[test]
fn somebody_at_a_terminal_is_asked_again_until_it_can_be_done() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f hello world\nf draft.swp x");
    fs::create_dir_all(sandbox.path("home/my docs")).unwrap();
    fs::write(sandbox.path("etc/taken.conf"), "mine").unwrap();
    let b = sandbox.b.root.to_str().unwrap();
    let mut talk = Talk::start(&sandbox, |run| run.arg("init"));
    talk.answers("First directory", "ssh://h//d");
    talk.sees("one of this machine");
    talk.answers("First directory", sandbox.a.root.as_os_str().as_bytes());
    talk.answers("Second one", format!("{}/in", sandbox.a.root.display()));
    talk.sees("lies inside");
    talk.answers("Second one", sandbox.path("gone").as_os_str().as_bytes());
    talk.answers("Configuration file", sandbox.path("etc/taken.conf").as_os_str().as_bytes());
    talk.sees("is there already");
    talk.answers("Configuration file", sandbox.path("etc/docs.conf").as_os_str().as_bytes());
    talk.sees("gone is not there");
    talk.answers("Shall the first run make it?", "n");
    talk.answers("or another directory", b);
    talk.sees("ok       target: ");
    talk.answers("Leave out", "usual");
    talk.answers("When shall it run?", "sometimes");
    talk.answers("When shall it run?", "");
    talk.answers("Write it?", "");
    assert_eq!(talk.ends(), Some(0), "{}", talk.shown());
    let shown = talk.shown();
    assert!(shown.contains("1 update to the target, 5 bytes"), "{shown}");
    fine(&sandbox.program("sh").args(["-c", &from_cron(&shown)]).run());
    assert_eq!(sandbox.b.contents(), "f hello world\n");
    assert_eq!(fs::read(sandbox.path("etc/taken.conf")).unwrap(), b"mine");
}

#[test]
fn what_an_option_says_is_not_asked_for_and_a_tilde_is_the_home_directory() {
    let sandbox = Sandbox::new();
    fs::create_dir_all(sandbox.path("home/my docs")).unwrap();
    let file = sandbox.path("etc/docs.conf");
    let mut talk = Talk::start(&sandbox, |run| {
        let target = flag("--target=", &sandbox.b.root);
        run.arg("init").arg(&file).arg(target).args(["--schedule=never", "--exclude=x"])
    });
    talk.answers("First directory", "~/my docs");
    talk.answers("Write it?", "yes");
    assert_eq!(talk.ends(), Some(0), "{}", talk.shown());
    let text = fs::read_to_string(&file).unwrap();
    let line = format!("INITIATOR_SYNC_DIR=\"{}\"\n", sandbox.path("home/my docs").display());
    assert!(text.contains(&line), "{text}");
    assert!(!talk.shown().contains("cron"), "{}", talk.shown());
}

/// Answers questions one after the other.
const QUESTIONS: [&str; 6] = [
    "First directory",
    "Second one",
    "Configuration file",
    "Leave out",
    "When shall it run?",
    "Write it?",
];

#[test]
fn ctrl_c_and_the_end_of_input_leave_nothing_at_any_question() {
    for (stopped_at, last) in QUESTIONS.iter().enumerate() {
        for key in ["\x03", "\x04"] {
            let sandbox = Sandbox::new();
            let file = sandbox.path("etc/docs.conf");
            let answers = [sandbox.a.root.clone(), sandbox.b.root.clone(), file];
            let mut talk = Talk::start(&sandbox, |run| run.arg("init"));
            for (index, question) in QUESTIONS.iter().take(stopped_at).enumerate() {
                let answer = answers.get(index).map_or(OsStr::new(""), |path| path.as_os_str());
                talk.answers(question, answer.as_bytes());
            }
            talk.sees(last);
            talk.types(key);
            assert_ne!(talk.ends(), Some(0), "{}", talk.shown());
            for dir in ["etc", "a", "b", "home", "tmp"] {
                assert_eq!(listing(&sandbox.path(dir)), [""; 0], "{}", talk.shown());
            }
        }
    }
}

/// A server with an osync in PATH, which lets in what its file says.
struct Nas {
    sandbox: Sandbox,
    server: Sshd,
}

impl Nas {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        for dir in ["bin", "far", "far/.ssh", "far home"] {
            fs::create_dir(sandbox.path(dir)).unwrap();
        }
        std::os::unix::fs::symlink(crate::support::osync(), sandbox.path("bin/osync")).unwrap();
        let root = sandbox.root().display();
        let server = Sshd::start(&format!(
            "SetEnv PATH={root}/bin:/usr/bin:/bin HOME={root}/far SHLVL=2\n\
             AuthorizedKeysFile {root}/authorized_keys"
        ));
        fs::write(sandbox.path("authorized_keys"), "").unwrap();
        let config = format!(
            "UserKnownHostsFile {}\nGlobalKnownHostsFile /dev/null\nIdentityFile none\n",
            server.path("known_hosts").display()
        );
        fs::write(sandbox.path("ssh_config"), config).unwrap();
        script(
            &sandbox.path("bin"),
            "ssh",
            &format!("exec /usr/bin/ssh -F {root}/ssh_config \"$@\"\n"),
        );
        Nas { sandbox, server }
    }

    /// With the ssh of this server.
    fn by(&self, run: Run) -> Run {
        let path = format!("{}/bin:/usr/bin:/bin:/usr/sbin", self.sandbox.root().display());
        run.env("PATH", path).env("REMOTE_OSYNC", "auto")
    }

    fn osync(&self) -> Run {
        self.by(self.sandbox.osync())
    }

    fn target(&self) -> String {
        self.server.uri(&self.sandbox.b.root)
    }

    /// Puts the line that was shown where sshd finds it.
    fn let_in(&self, shown: &str) {
        let line = shown.lines().find(|line| line.starts_with("restrict")).unwrap();
        fs::write(self.sandbox.path("authorized_keys"), format!("{line}\n")).unwrap();
    }

    /// What the new key gets when it asks for a command.
    fn asks(&self, command: &str) -> Outcome {
        let ssh = self.by(self.sandbox.program(self.sandbox.path("bin/ssh")));
        ssh.args(["-o", "BatchMode=yes", "-i"])
            .arg(self.sandbox.path("home/.ssh/osync_docs"))
            .args(["-p", &self.server.port.to_string(), "127.0.0.1", command])
            .run()
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_new_key_with_the_filter_lets_in_this_task_and_nothing_else() {
    let nas = Nas::new();
    nas.sandbox.a.make("f hello world");
    let file = nas.sandbox.path("etc/docs.conf");
    let target = nas.target();
    let run = nas.osync().arg("init").arg(&file);
    let run = run.args(flags(&nas.sandbox.a.root, Path::new(&target)));
    let run = run.args(["--new-key", "--ssh-filter"]).run();
    assert_eq!(run.status, Some(1), "nobody has put the line there yet: {run}");
    let key = nas.sandbox.path("home/.ssh/osync_docs");
    assert_eq!((mode(&key), mode(&file)), (0o600, 0o600));
    assert_eq!(mode(key.parent().unwrap()), 0o700);
    assert_eq!(listing(key.parent().unwrap()), ["osync_docs", "osync_docs.pub"]);
    assert!(run.stdout.contains("authorized_keys' <<'END'\nrestrict,command=\"osync ssh-filter "));
    let check = || nas.osync().arg("check").arg(&file).arg("--errors-only").run();
    assert_eq!(check().status, Some(1));
    nas.let_in(&run.stdout);
    fine(&check());
    fine(&nas.osync().arg(&file).run());
    assert_eq!(nas.sandbox.b.contents(), "f hello world\n");
    let asked = nas.asks("cat /etc/passwd");
    assert_eq!((asked.status, &*asked.stdout), (Some(1), ""), "{asked}");
}

#[test]
fn without_a_key_that_works_it_says_so_and_writes_nothing() {
    let nas = Nas::new();
    let file = nas.sandbox.path("etc/docs.conf");
    let target = nas.target();
    let run = nas.osync().arg("init").arg(&file);
    let run = run.args(flags(&nas.sandbox.a.root, Path::new(&target))).run();
    refused(&run, 1, "Permission denied");
    assert!(!file.exists() && listing(&nas.sandbox.path("home")) == [""; 0]);
}

#[test]
fn a_key_that_is_there_is_used_and_not_made_anew() {
    let nas = Nas::new();
    let (file, target) = (nas.sandbox.path("etc/docs.conf"), nas.target());
    let init = || {
        let run = nas.osync().arg("init").arg(&file).arg("--new-key");
        run.args(flags(&nas.sandbox.a.root, Path::new(&target))).run()
    };
    let first = init();
    let key = fs::read(nas.sandbox.path("home/.ssh/osync_docs")).unwrap();
    fs::remove_file(&file).unwrap();
    nas.let_in(&first.stdout);
    fine(&init());
    assert_eq!(fs::read(nas.sandbox.path("home/.ssh/osync_docs")).unwrap(), key);
}

#[test]
fn somebody_whose_keys_do_not_work_is_offered_one_that_does() {
    let nas = Nas::new();
    nas.sandbox.a.make("f hello world");
    let file = nas.sandbox.path("etc/docs.conf");
    let mut talk = Talk::start(&nas.sandbox, |run| nas.by(run).arg("init").arg(&file));
    talk.answers("First directory", nas.sandbox.a.root.as_os_str().as_bytes());
    talk.answers("Second one", nas.target());
    talk.sees("Permission denied");
    talk.answers("Make a key for this task alone?", "");
    talk.answers("installed over there, too?", "y");
    talk.answers("tries it again", "");
    talk.sees("Permission denied");
    talk.sees("tries it again");
    nas.let_in(&talk.shown());
    talk.types("\n");
    talk.sees("with an osync over there");
    talk.answers("Leave out", "");
    talk.answers("When shall it run?", "daily");
    talk.answers("Write it?", "");
    assert_eq!(talk.ends(), Some(0), "{}", talk.shown());
    assert!(talk.shown().contains("1 update to the target, 5 bytes"), "{}", talk.shown());
    fine(&nas.osync().arg(&file).run());
    assert_eq!(nas.sandbox.b.contents(), "f hello world\n");
    assert_eq!(nas.asks("true").status, Some(1), "the key opens a shell");
}

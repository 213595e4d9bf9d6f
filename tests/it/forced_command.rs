//! The forced command behind a real sshd, with the commands that osync 1.3 sends: they
//! fare as they would without the filter, and nothing else gets by.

use crate::support::sandbox::{Outcome, PATIENCE, Sandbox};
use crate::support::sshd::{Sshd, user};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const TOKEN: &str = "SomeAlphaNumericToken9";

/// A server with two keys, each for a directory of its own that stands in for the login
/// directory: one leads to the filter, the other to what sshd itself would do.
struct Machine {
    sandbox: Sandbox,
    server: Sshd,
    /// The connections that all commands go over: one for each key.
    masters: Vec<Child>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Filtered,
    Plain,
}

impl Machine {
    fn new(options: &str) -> Self {
        let sandbox = Sandbox::new();
        let server = Sshd::start("");
        for way in [Way::Filtered, Way::Plain] {
            fs::create_dir_all(sandbox.path(way.home()).join(".ssh")).unwrap();
        }
        let key = |name: &str| fs::read_to_string(server.path(name)).unwrap();
        let line = |way: Way, command: &str, key: &str| {
            let home = sandbox.path(way.home());
            format!("restrict,command=\"cd {0} && HOME={0} {command}\" {key}", home.display())
        };
        let program = crate::support::osync();
        let filter = format!("exec {program} ssh-filter {TOKEN} {options}");
        // what sshd does with a command where none is forced
        let plain = r#"exec \"$SHELL\" -c \"$SSH_ORIGINAL_COMMAND\""#;
        let lines = line(Way::Filtered, &filter, &key("user.pub"))
            + &line(Way::Plain, plain, &key("stranger.pub"));
        fs::write(server.path("authorized_keys"), lines).unwrap();
        let mut machine = Machine { sandbox, server, masters: Vec::new() };
        machine.masters = [Way::Filtered, Way::Plain].map(|way| machine.connect(way)).into();
        machine
    }

    fn connect(&self, way: Way) -> Child {
        let words = self.ssh_words(way);
        let mut ssh = self.sandbox.program(&words[0]).args(&words[1..]).into_command();
        ssh.args(["-M", "-N", &format!("{}@127.0.0.1", user())]);
        let mut child = ssh.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while !self.socket(way).exists() {
            assert_eq!(child.try_wait().unwrap(), None, "no connection: {}", self.server.log());
            assert!(begun.elapsed() < PATIENCE, "no connection: {}", self.server.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        child
    }

    fn socket(&self, way: Way) -> PathBuf {
        self.sandbox.path(format!("{}-ssh", way.home()))
    }

    fn home(&self, way: Way) -> PathBuf {
        self.sandbox.path(way.home())
    }

    fn key(&self, way: Way) -> PathBuf {
        if way == Way::Filtered { self.server.key() } else { self.server.strange_key() }
    }

    fn ssh_words(&self, way: Way) -> Vec<String> {
        let port = self.server.port.to_string();
        let mut words = vec!["ssh".to_owned()];
        words.extend(self.server.options());
        words.extend(
            ["-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-p", &port].map(str::to_owned),
        );
        words.extend(["-i".to_owned(), self.key(way).display().to_string()]);
        words.extend(["-S".to_owned(), self.socket(way).display().to_string()]);
        words
    }

    /// Sends a command with something on its standard input.
    fn ssh(&self, way: Way, command: &str, input: &[u8]) -> Outcome {
        let stdin = self.sandbox.path("stdin");
        fs::write(&stdin, input).unwrap();
        let words = self.ssh_words(way);
        let mut ssh = self.sandbox.program(&words[0]).args(&words[1..]).into_command();
        ssh.arg(format!("{}@127.0.0.1", user())).arg(command);
        let output = ssh
            .stdin(fs::File::open(stdin).unwrap())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(way.home(), "HOME");
        Outcome {
            status: output.status.code(),
            signal: None,
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home(Way::Filtered).join(".ssh/ssh_filter.log")).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for master in &mut self.masters {
            let _ = master.kill();
            let _ = master.wait();
        }
    }
}

impl Way {
    fn home(self) -> &'static str {
        if self == Way::Filtered { "filtered" } else { "unfiltered" }
    }
}

/// What is in a home directory, with the contents.
fn files(home: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(home).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            found.push((name, fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

const BINARY: &[u8] = b"\0\x01\xff two\r\nlines \x80\xfe $(touch stolen) `id`";

#[test]
fn the_commands_of_osync_1_3_fare_as_without_the_filter() {
    let machine = Machine::new("");
    for way in [Way::Filtered, Way::Plain] {
        let hook = machine.home(way).join("hook.sh");
        fs::write(&hook, "#!/bin/sh\necho \"$LC_ALL $# <$1>\"; cat; echo warn >&2; exit 5\n")
            .unwrap();
        fs::set_permissions(&hook, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let script = "set -u\necho \"$RUN_DIR $_DEBUG ${LC_ALL-none}\"\n\
                  while read -r line; do echo \"got $line\"; done << END\none\n  two\nEND\n\
                  trap 'echo bye' EXIT\n[[ $RUN_DIR == /* ]] && exit 7\n";
    // SUDO stands for nothing and for `sudo -E `
    let commands: &[(&str, &[u8], Option<i32>)] = &[
        ("env @SUDOenv _DEBUG='no' RUN_DIR='/tmp/a b' bash -s", script.as_bytes(), Some(7)),
        ("env @SUDOenv _DEBUG=\"no\" RUN_DIR=/tmp bash -s", b"kill -TERM $$", None),
        ("env @SUDObash -s", b"", Some(0)),
        ("env LC_ALL=C env @SUDOcat > \"./osync.pushed.1234\"", BINARY, Some(0)),
        ("env LC_ALL=C env @SUDOcat > \"./no such directory/osync.x\"", BINARY, None),
        ("env LC_ALL=C env @SUDOcat \"./osync.pushed.1234\"", b"", Some(0)),
        ("env LC_ALL=C env @SUDO./hook.sh 'a  b'", BINARY, Some(5)),
        ("env LC_ALL=C env @SUDO\"./hook.sh\" $HOME/x; echo done $?", b"in", Some(0)),
        ("env LC_ALL=C env @SUDO./hook.sh 2>/dev/null | tr a-z A-Z && exit 9", b"in", Some(9)),
        ("env LC_ALL=C env @SUDO./hook.sh `echo a` \"$(echo b)\" || touch made", b"", Some(0)),
        ("env LC_ALL=C env @SUDOno-such-command-at-all", b"", None),
        ("env LC_ALL=C env @SUDOtrue\nenv LC_ALL=C cat\nfalse", b"lines", Some(1)),
        ("env LC_ALL=C env @SUDOsh -c 'echo $LC_ALL'; echo ${LC_ALL-none}", b"", Some(0)),
    ];
    for (command, input, status) in commands {
        for sudo in ["", "sudo -E "] {
            let token = format!("_REMOTE_TOKEN={TOKEN} ");
            let sent = command.replace('@', &token).replace("SUDO", sudo);
            let [filtered, plain] =
                [Way::Filtered, Way::Plain].map(|way| machine.ssh(way, &sent, input));
            let said = format!("{sent}\nfiltered: {filtered}\nplain: {plain}");
            assert_eq!(filtered.status, plain.status, "{said}");
            assert_eq!(filtered.stdout, plain.stdout, "{said}");
            assert_eq!(filtered.stderr, plain.stderr, "{said}");
            // an ordinary user may have no sudo, and then both fail alike
            let known = sudo.is_empty() || rustix::process::geteuid().is_root();
            if known && status.is_some() {
                assert_eq!(filtered.status, *status, "{said}");
            }
            let [one, other] = [Way::Filtered, Way::Plain].map(|way| files(&machine.home(way)));
            assert_eq!(one, other, "{said}");
        }
    }
    let pushed = fs::read(machine.home(Way::Filtered).join("osync.pushed.1234")).unwrap();
    assert_eq!(pushed, BINARY);
    assert!(machine.home(Way::Filtered).join("made").exists());
    assert_eq!(machine.log(), "");
}

#[test]
fn rsync_of_osync_1_3_works_both_ways_with_and_without_sudo() {
    let machine = Machine::new("");
    machine.sandbox.a.make("f dir/file one\nf other two");
    let home = machine.home(Way::Filtered);
    for sudo in ["", "sudo -E "] {
        if !sudo.is_empty() && !rustix::process::geteuid().is_root() {
            continue;
        }
        let there = format!("{}@127.0.0.1:{}/copy{}", user(), home.display(), sudo.len());
        let back = machine.sandbox.path(format!("back{}", sudo.len()));
        let a = machine.sandbox.a.root.display().to_string();
        for (from, to) in [(a, there.clone()), (there, back.display().to_string())] {
            let run = machine
                .sandbox
                .program("rsync")
                .args(["-rlptgoD", "--stats", "-8", "-e"])
                .arg(machine.ssh_words(Way::Filtered).join(" "))
                .arg(format!("--rsync-path=env LC_ALL=C env _REMOTE_TOKEN={TOKEN} {sudo}rsync"))
                .args([format!("{from}/"), format!("{to}/")])
                .run();
            assert_eq!(run.status, Some(0), "{run}");
        }
        assert_eq!(fs::read(back.join("dir/file")).unwrap(), b"one");
    }
    assert_eq!(machine.log(), "");
}

/// Each would leave a file `stolen` behind if any part of it were run.
#[test]
fn everything_else_is_refused() {
    for options in ["", "--no-sudo"] {
        let machine = Machine::new(options);
        let commands = [
            // no token, a wrong one, the right one in another place
            "touch stolen",
            "env touch stolen",
            "env _REMOTE_TOKEN=Guess touch stolen",
            "env _REMOTE_TOKEN=@9 touch stolen",
            "env LC_ALL=C env _REMOTE_TOKEN= touch stolen",
            "_REMOTE_TOKEN=@ touch stolen",
            "env LC_ALL=C _REMOTE_TOKEN=@ touch stolen",
            "env A=b env _REMOTE_TOKEN=@ touch stolen",
            "sudo -E env _REMOTE_TOKEN=@ touch stolen",
            "touch stolen _REMOTE_TOKEN=@",
            "touch stolen # env _REMOTE_TOKEN=@",
            "env touch stolen _REMOTE_TOKEN=@",
            " env _REMOTE_TOKEN=@ touch stolen",
            "env '_REMOTE_TOKEN=@' touch stolen",
            // chained before it
            "touch stolen; env _REMOTE_TOKEN=@ true",
            "touch stolen && env _REMOTE_TOKEN=@ true",
            "touch stolen | env _REMOTE_TOKEN=@ true",
            "touch stolen & env _REMOTE_TOKEN=@ true",
            "touch stolen\nenv _REMOTE_TOKEN=@ true",
            "`touch stolen` env _REMOTE_TOKEN=@ true",
            "$(touch stolen) env _REMOTE_TOKEN=@ true",
            "env `touch stolen` _REMOTE_TOKEN=@ true",
            "env LC_ALL=C;touch stolen; env _REMOTE_TOKEN=@ true",
            "env LC_ALL=$(touch stolen) env _REMOTE_TOKEN=@ true",
            "env LC_ALL=C env $(touch stolen)_REMOTE_TOKEN=@ true",
            // chained instead of a command
            "env _REMOTE_TOKEN=@; touch stolen",
            "env _REMOTE_TOKEN=@ ; touch stolen",
            "env _REMOTE_TOKEN=@&& touch stolen",
            "env _REMOTE_TOKEN=@ && touch stolen",
            "env _REMOTE_TOKEN=@ || touch stolen",
            "env _REMOTE_TOKEN=@ | touch stolen",
            "env _REMOTE_TOKEN=@ & touch stolen",
            "env _REMOTE_TOKEN=@\ntouch stolen",
            "env _REMOTE_TOKEN=@ \n touch stolen",
            "env _REMOTE_TOKEN=@`touch stolen` true",
            "env _REMOTE_TOKEN=@$(touch stolen) true",
            "env _REMOTE_TOKEN=@ `touch stolen`",
            "env _REMOTE_TOKEN=@ $(touch stolen)",
            "env _REMOTE_TOKEN=@ > stolen",
            "env _REMOTE_TOKEN=@ -S 'touch stolen'",
            "env _REMOTE_TOKEN=@ (touch stolen)",
            "env _REMOTE_TOKEN=@ { touch stolen; }",
        ];
        for command in commands {
            let sent = command.replace('@', TOKEN);
            let run = machine.ssh(Way::Filtered, &sent, b"touch stolen\n");
            assert_eq!((run.status, run.stdout.as_str()), (Some(1), ""), "{sent} {run}");
            assert!(run.stderr.contains("ssh_filter: refused: "), "{sent} {run}");
            assert!(!run.stderr.contains(TOKEN), "{run}");
            assert_eq!(files(&machine.home(Way::Filtered)), [], "{sent}");
        }
        let log = machine.log();
        assert_eq!(log.lines().count(), commands.len(), "{log}");
        assert!(!log.contains(TOKEN) && !log.contains("Guess"), "{log}");
    }
}

#[test]
fn without_sudo_the_forms_with_sudo_are_refused_and_the_others_work() {
    let machine = Machine::new("--no-sudo");
    for sudo in ["", "sudo -E "] {
        for (command, input) in [
            (format!("env _REMOTE_TOKEN={TOKEN} {sudo}env A=b bash -s"), "echo $A >>made\n"),
            (format!("env LC_ALL=C env _REMOTE_TOKEN={TOKEN} {sudo}cat > ./osync.x"), ""),
            (format!("env LC_ALL=C env _REMOTE_TOKEN={TOKEN} {sudo}touch made"), ""),
            (format!("env LC_ALL=C env _REMOTE_TOKEN={TOKEN} {sudo}rsync --version"), ""),
        ] {
            let run = machine.ssh(Way::Filtered, &command, input.as_bytes());
            let expected = if sudo.is_empty() { 0 } else { 1 };
            assert_eq!(run.status, Some(expected), "{command} {run}");
            let refused = run.stderr.contains("sudo is not allowed with this key");
            assert_eq!(refused, !sudo.is_empty(), "{command} {run}");
        }
        if sudo.is_empty() {
            assert_eq!(files(&machine.home(Way::Filtered)).len(), 2);
            fs::remove_file(machine.home(Way::Filtered).join("made")).unwrap();
        }
    }
    assert!(!machine.home(Way::Filtered).join("made").exists());
    assert_eq!(machine.log().lines().count(), 4, "{}", machine.log());
    assert!(!machine.log().contains(TOKEN), "{}", machine.log());
}

//! Runs over our own ssh transport (SSH_TRANSPORT=libssh2), with a real sshd.

use crate::support::sandbox::{Outcome, Run, Sandbox};
use crate::support::ssh_agent::Agent;
use crate::support::sshd::{Proxy, Sshd, user};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Two replicas, the second behind a server whose key stands in the sandbox's known_hosts.
struct Ground {
    sandbox: Sandbox,
    server: Sshd,
}

impl Ground {
    fn new(lines: &str) -> Self {
        Self::before(Sshd::start(lines))
    }

    fn before(server: Sshd) -> Self {
        let ground = Ground { sandbox: Sandbox::new(), server };
        let dot_ssh = ground.sandbox.path("home/.ssh");
        fs::create_dir(&dot_ssh).unwrap();
        fs::copy(ground.server.path("known_hosts"), dot_ssh.join("known_hosts")).unwrap();
        ground
    }

    /// A run without a key.
    fn keyless(&self, port: u16) -> Run {
        self.sandbox
            .osync()
            .env("SSH_TRANSPORT", "libssh2")
            .arg(format!("--initiator={}", self.sandbox.a.root.display()))
            .arg(format!("--target={}", self.server.uri_by(port, &self.sandbox.b.root)))
    }

    fn by(&self, port: u16) -> Run {
        self.keyless(port).arg(format!("--rsakey={}", self.server.key().display()))
    }

    fn sync(&self) -> Outcome {
        self.by(self.server.port).run()
    }

    /// `osync rsh` for one remote command.
    fn rsh(&self, options: &[&str], command: &str) -> Command {
        let port = self.server.port.to_string();
        let key = self.server.key();
        let rsh = self.sandbox.osync().args(["rsh", "-p", &port, "-i"]).arg(key);
        let host = format!("{}@127.0.0.1", user());
        rsh.args(options).args([&host, command]).into_command()
    }

    /// How many logins there were; the log names keys that would do as well.
    fn logins(&self) -> usize {
        self.server.log().matches("Accepted publickey").count()
    }

    fn known_hosts(&self) -> std::path::PathBuf {
        self.sandbox.path("home/.ssh/known_hosts")
    }
}

#[test]
fn both_sides_end_up_the_same_and_a_second_run_does_nothing() {
    let ground = Ground::new("");
    let (a, b) = (&ground.sandbox.a, &ground.sandbox.b);
    a.make("f one first\nf dir/new$(id)'s\\x22 second");
    b.write(b"three\n'$x", "third", 1_600_000_000);
    let run = ground.sync();
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(a.contents(), b.contents());
    assert_eq!(a.read(b"three\n'$x").unwrap(), b"third");
    let logins = ground.logins();
    let run = ground.sync();
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(ground.logins(), logins + 1, "a run with nothing to do takes one login");
    a.remove("one");
    let run = ground.sync();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(!b.has("one"));
    let run = ground.by(ground.server.port).arg("--dry").run();
    assert_eq!(run.status, Some(0), "{run}");
}

#[test]
fn check_reaches_the_target() {
    let ground = Ground::new("");
    let lines = format!(
        "SSH_TRANSPORT=libssh2\nSSH_RSA_PRIVATE_KEY=\"{}\"\nTARGET_SYNC_DIR=\"{}\"\n\
         MINIMUM_SPACE=0",
        ground.server.key().display(),
        ground.server.uri(&ground.sandbox.b.root)
    );
    let file = ground.sandbox.config("t.conf", &lines);
    let run = ground.sandbox.osync().arg("check").arg(file).run();
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(ground.logins(), 1);
}

#[test]
fn a_large_file_arrives_whole_in_both_directions() {
    // new keys are agreed on again and again on the way
    let ground = Ground::new("RekeyLimit 8M");
    let (a, b) = (&ground.sandbox.a, &ground.sandbox.b);
    let block = noise(1_000_003);
    for replica in [a, b] {
        let name = if std::ptr::eq(replica, a) { "there" } else { "back" };
        let mut file = fs::File::create(replica.at(name)).unwrap();
        for _ in 0..100 {
            file.write_all(&block).unwrap();
        }
    }
    let run = ground.sync();
    assert_eq!(run.status, Some(0), "{run}");
    for name in ["there", "back"] {
        let (here, there) = (a.read(name).unwrap(), b.read(name).unwrap());
        assert_eq!(here.len(), 100 * block.len());
        assert!(here == there, "{name} differs");
    }
}

#[test]
fn what_goes_in_comes_out_while_both_directions_are_full() {
    let ground = Ground::new("RekeyLimit 4M");
    let data = noise(20_000_000);
    for options in [&[][..], &["-C"]] {
        let mut child = ground
            .rsh(options, "cat; exit 7")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut got = Vec::new();
        std::thread::scope(|scope| {
            // closing the input ends cat, and its status comes back
            scope.spawn(|| {
                input.write_all(&data).unwrap();
                drop(input);
            });
            child.stdout.take().unwrap().read_to_end(&mut got).unwrap();
        });
        assert!(got == data, "{options:?}: {} bytes came back", got.len());
        assert_eq!(child.wait().unwrap().code(), Some(7));
    }
}

#[test]
fn every_answer_is_passed_on_at_once() {
    let ground = Ground::new("");
    // with nothing to wake it, a stuck answer would stay stuck for ever
    let mut child = ground
        .rsh(&["-o", "ServerAliveInterval=0"], "cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = child.stdout.take().unwrap();
    let (answers, heard) = mpsc::channel();
    let listener = thread::spawn(move || {
        let mut answer = [0; 4];
        while output.read_exact(&mut answer).is_ok() && answers.send(answer).is_ok() {}
    });
    let missed = (0..2000_u32).map(u32::to_be_bytes).find(|question| {
        input.write_all(question).unwrap();
        heard.recv_timeout(Duration::from_secs(20)) != Ok(*question)
    });
    drop(input);
    if missed.is_some() {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    listener.join().unwrap();
    assert_eq!(missed, None, "an answer did not come through");
    assert!(status.success());
}

#[test]
fn complaints_and_output_stay_apart() {
    let ground = Ground::new("");
    let said = ground.rsh(&[], "echo out; echo err >&2; exit 3").output().unwrap();
    assert_eq!(said.stdout, b"out\n");
    assert_eq!(said.stderr, b"err\n");
    assert_eq!(said.status.code(), Some(3));
    let said = ground.rsh(&[], "kill -KILL $$").output().unwrap();
    assert_eq!(said.status.code(), Some(255));
    assert!(String::from_utf8_lossy(&said.stderr).contains("SIGKILL"));
}

#[test]
fn hosts_are_known_by_hashed_names_too() {
    let ground = Ground::new("");
    let hashed = Command::new("ssh-keygen")
        .args(["-q", "-H", "-f"])
        .arg(ground.known_hosts())
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(hashed.success());
    assert!(fs::read_to_string(ground.known_hosts()).unwrap().starts_with("|1|"));
    let run = ground.sync();
    assert_eq!(run.status, Some(0), "{run}");
}

#[test]
fn strange_hosts_are_refused_before_a_login() {
    let ground = Ground::new("");
    let other = fs::read_to_string(ground.server.path("stranger.pub")).unwrap();
    let port = ground.server.port;
    for (known, words) in [
        (String::new(), &["No ED25519 host key is known", "SHA256:", "add this line"][..]),
        (format!("[127.0.0.1]:{port} {other}"), &["IDENTIFICATION HAS CHANGED", "known_hosts:1"]),
        (
            format!("@revoked * {}", fs::read_to_string(ground.server.path("host.pub")).unwrap()),
            &["revoked"],
        ),
    ] {
        fs::write(ground.known_hosts(), &known).unwrap();
        let run = ground.sync();
        assert_eq!(run.status, Some(1), "{known}: {run}");
        for word in words {
            assert!(run.to_string().contains(word), "{word}: {run}");
        }
        assert_eq!(ground.logins(), 0);
        let run = ground.by(port).env("SSH_IGNORE_KNOWN_HOSTS", "yes").run();
        assert_eq!(run.status, Some(0), "{run}");
        assert_eq!(fs::read_to_string(ground.known_hosts()).unwrap(), known, "nothing is added");
        return_to_no_logins(&ground);
    }
}

/// Forgets the logins so far.
fn return_to_no_logins(ground: &Ground) {
    let log = fs::OpenOptions::new().write(true).open(ground.server.path("log")).unwrap();
    log.set_len(0).unwrap();
}

#[test]
fn logins_that_cannot_work_say_why() {
    let ground = Ground::new("");
    let port = ground.server.port;
    let locked = ground.sandbox.path("locked");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "secret words", "-f"])
        .arg(&locked)
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
    let open = ground.sandbox.path("open");
    fs::copy(ground.server.key(), &open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let nobody = ground.sandbox.path("none");
    for (key, words) in [
        (ground.server.strange_key(), &["Permission denied (publickey)", "authorized_keys"][..]),
        (locked, &["has a passphrase", "load the key into an ssh agent"]),
        (open, &["UNPROTECTED PRIVATE KEY FILE"]),
        (nobody, &["cannot read the private key"]),
    ] {
        let run = ground.keyless(port).arg(format!("--rsakey={}", key.display())).run();
        assert_eq!(run.status, Some(1), "{run}");
        for word in words {
            assert!(run.to_string().contains(word), "{word}: {run}");
        }
    }
    assert_eq!(ground.logins(), 0);
    let run = ground.by(1).run();
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.to_string().contains("Connection refused"), "{run}");
}

#[test]
fn a_wrong_password_is_refused_and_named_nowhere() {
    let ground = Ground::new("PasswordAuthentication yes");
    let file = ground.sandbox.path("pw");
    fs::write(&file, "not the right one\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let run =
        ground.keyless(ground.server.port).arg(format!("--password-file={}", file.display())).run();
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.to_string().contains("Permission denied (publickey,password)"), "{run}");
    assert!(ground.server.log().contains("Failed password"), "{}", ground.server.log());
    assert!(!run.to_string().contains("not the right one"));
    assert!(!ground.sandbox.log().contains("not the right one"));
}

#[test]
fn the_password_of_a_file_opens_the_door_and_is_named_nowhere() {
    const PASSWORD: &str = "Str4nge & 'quoted' $ecret";
    let Some(server) = Sshd::with_password(PASSWORD) else {
        eprintln!("not tried: only root can run a server that knows a password");
        return;
    };
    let ground = Ground::before(server);
    let file = ground.sandbox.path("pw");
    fs::write(&file, format!("{PASSWORD}\nnot this line\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    ground.sandbox.a.make("f mine here");
    ground.sandbox.b.make("f yours there");
    let run = ground
        .keyless(ground.server.port)
        .arg(format!("--password-file={}", file.display()))
        .arg("--verbose")
        .env("_DEBUG", "yes")
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(ground.sandbox.a.contents(), "f mine here\nf yours there\n");
    assert_eq!(ground.sandbox.a.contents(), ground.sandbox.b.contents());
    assert!(ground.server.log().contains("Accepted password"), "{}", ground.server.log());
    assert!(!format!("{run}{}", ground.sandbox.log()).contains(PASSWORD), "{run}");
}

#[test]
fn an_address_of_ipv6_stands_in_brackets() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("not tried: this machine has no IPv6");
        return;
    }
    let ground = Ground::new("ListenAddress ::1");
    ground.server.trust_at("::1", ground.server.port);
    fs::copy(ground.server.path("known_hosts"), ground.known_hosts()).unwrap();
    ground.sandbox.a.make("f mine here");
    let root = ground.sandbox.b.root.display();
    let run = ground
        .sandbox
        .osync()
        .env("SSH_TRANSPORT", "libssh2")
        .arg(format!("--initiator={}", ground.sandbox.a.root.display()))
        .arg(format!("--target=ssh://{}@[::1]:{}/{root}", user(), ground.server.port))
        .arg(format!("--rsakey={}", ground.server.key().display()))
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(ground.sandbox.b.contents(), "f mine here\n");
}

/// Bytes that nothing can compress: always the same ones.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

#[test]
fn an_agent_opens_the_door() {
    let ground = Ground::new("");
    let agent = Agent::start();
    let port = ground.server.port;
    let run = ground.keyless(port).env("SSH_AUTH_SOCK", &agent.socket).run();
    assert_eq!(run.status, Some(1), "an empty agent: {run}");
    for key in [ground.server.strange_key(), ground.server.key()] {
        agent.add(&key);
    }
    let run = ground.keyless(port).env("SSH_AUTH_SOCK", &agent.socket).run();
    assert_eq!(run.status, Some(0), "{run}");
}

#[test]
fn without_an_ssh_program_auto_means_libssh2() {
    let ground = Ground::new("");
    let tools = ground.sandbox.path("tools");
    fs::create_dir(&tools).unwrap();
    for dir in ["/bin", "/usr/bin"] {
        for name in ["rsync", "sh"] {
            let program = Path::new(dir).join(name);
            if program.exists() && !tools.join(name).exists() {
                symlink(program, tools.join(name)).unwrap();
            }
        }
    }
    ground.sandbox.a.make("f one first");
    let run = ground.by(ground.server.port).env("SSH_TRANSPORT", "auto").env("PATH", &tools).run();
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(ground.sandbox.b.contents(), ground.sandbox.a.contents());
    let run =
        ground.by(ground.server.port).env("SSH_TRANSPORT", "openssh").env("PATH", &tools).run();
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.to_string().contains("no program 'ssh'"), "{run}");
}

#[test]
fn settings_that_need_openssh_are_refused_by_name() {
    let ground = Ground::new("");
    for (key, value, words) in [
        ("SSH_OPTIONAL_ARGS", "-J jump", "'-J'"),
        ("SSH_OPTIONAL_ARGS", "-o ProxyCommand=x", "ProxyCommand"),
        ("KRB5", "yes", "KRB5"),
    ] {
        let run = ground.by(ground.server.port).env(key, value).run();
        assert_eq!(run.status, Some(1), "{run}");
        assert!(run.to_string().contains(words), "{run}");
    }
    let log = ground.server.log();
    assert!(!log.contains("Connection from"), "refused before a connection is made: {log}");
}

#[test]
fn a_line_that_is_cut_loses_nothing_and_the_next_run_completes() {
    let ground = Ground::new("");
    let (a, b) = (&ground.sandbox.a, &ground.sandbox.b);
    let proxy = Proxy::start(ground.server.port, Duration::ZERO);
    let mut known = fs::OpenOptions::new().append(true).open(ground.known_hosts()).unwrap();
    let key = fs::read_to_string(ground.server.path("host.pub")).unwrap();
    writeln!(known, "[127.0.0.1]:{} {key}", proxy.port).unwrap();
    a.make("f kept one");
    assert_eq!(ground.by(proxy.port).run().status, Some(0));
    fs::write(a.at("big"), vec![7; 6_000_000]).unwrap();
    let noise = noise(6_000_000);
    fs::write(a.at("noise"), &noise).unwrap();
    for bytes in [500, 6_000, 60_000, 600_000] {
        proxy.cut_after(bytes);
        let run = ground.by(proxy.port).run();
        assert_eq!(run.status, Some(1), "after {bytes}: {run}");
        assert_eq!(a.read("kept"), b.read("kept"));
        assert!(b.read("noise").is_none_or(|got| got == noise), "half a file after {bytes}");
        proxy.mend();
    }
    let run = ground.by(proxy.port).run();
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(a.contents(), b.contents());
}

#[test]
fn a_line_that_falls_silent_ends_in_an_error() {
    let ground = Ground::new("");
    let started = ground
        .rsh(&["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=2"], "echo pid $PPID; cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = started;
    let mut first = [0; 64];
    let count = child.stdout.as_mut().unwrap().read(&mut first).unwrap();
    let text = String::from_utf8_lossy(&first[..count]).into_owned();
    let pid: i32 = text.trim().rsplit(' ').next().unwrap().parse().unwrap();
    let server = rustix::process::Pid::from_raw(pid).unwrap();
    // the process of the server that has this connection
    rustix::process::kill_process(server, rustix::process::Signal::STOP).unwrap();
    let input = child.stdin.take();
    let ended = child.wait_with_output().unwrap();
    rustix::process::kill_process(server, rustix::process::Signal::KILL).unwrap();
    drop(input);
    assert_eq!(ended.status.code(), Some(255));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("not responding"));
}

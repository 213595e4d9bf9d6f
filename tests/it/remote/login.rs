//! Ways to log in: agent, password file, ssh_config, known hosts, addresses.

use crate::support::over_ssh::OverSsh;
use crate::support::sandbox::{Run, Sandbox};
use crate::support::ssh_agent::Agent;
use crate::support::sshd::{Sshd, user};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// One file on each side for the other.
fn fill(task: &OverSsh) {
    task.sandbox.a.make("f mine here");
    task.sandbox.b.make("f yours there");
}

fn assert_works(task: &OverSsh, run: Run) {
    task.fine(run);
    assert_eq!(task.sandbox.a.contents(), "f mine here\nf yours there\n");
    task.assert_in_step();
}

/// A run that is given neither a key nor options of ours.
fn bare(task: &OverSsh, uri: &str, options: &str) -> Run {
    task.to(uri).env("SSH_RSA_PRIVATE_KEY", "").env("SSH_OPTIONAL_ARGS", options)
}

#[test]
fn an_agent_is_asked_where_no_key_is_given() {
    let task = OverSsh::new();
    fill(&task);
    let options = format!(
        "-F none -o UserKnownHostsFile={} -o IdentityFile=none",
        task.server.path("known_hosts").display()
    );
    let uri = task.server.uri(&task.sandbox.b.root);
    let refused = bare(&task, &uri, &options).run();
    assert_eq!(refused.status, Some(1), "without the agent there is no way in: {refused}");
    let agent = Agent::start();
    agent.add(&task.server.key());
    assert_works(&task, bare(&task, &uri, &options).env("SSH_AUTH_SOCK", &agent.socket));
}

#[test]
fn a_password_file_is_used_and_its_password_never_shown() {
    const PASSWORD: &str = "Str4nge & 'quoted' $ecret";
    let Some(server) = Sshd::with_password(PASSWORD) else {
        eprintln!("not tried: only root can run a server that knows a password");
        return;
    };
    let task = OverSsh { sandbox: Sandbox::new(), server };
    fill(&task);
    let file = task.sandbox.path("etc/password");
    let options = format!("{} -o PubkeyAuthentication=no", task.server.options().join(" "));
    let run = |options: &str| {
        bare(&task, &task.server.uri(&task.sandbox.b.root), options)
            .env("SSH_PASSWORD_FILE", &file)
            .env("_DEBUG", "yes")
            .arg("--verbose")
    };
    let write = |text: &str, mode: u32| {
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    };
    write("wrong one\n", 0o600);
    let refused = run(&options).run();
    assert_eq!(refused.status, Some(1), "{refused}");
    assert!(refused.stderr.contains("SSH_PASSWORD_FILE"), "{refused}");
    assert!(refused.stderr.contains("127.0.0.1"), "{refused}");
    task.assert_unlocked();

    write(&format!("{PASSWORD}\nnot this line\n"), 0o600);
    let hook = format!("echo the password is \"{}\"", PASSWORD.replace('$', "\\$"));
    let done = run(&options).env("REMOTE_RUN_BEFORE_CMD", hook).run();
    assert_eq!(done.status, Some(0), "{done}");
    task.assert_in_step();
    let written = format!("{}{}{}", done.stdout, done.stderr, task.sandbox.log());
    assert!(written.contains("the password is"), "the hook's words are logged: {written}");
    assert!(!written.contains(PASSWORD), "{written}");

    write(&format!("{PASSWORD}\n"), 0o644);
    let warned = run(&options).run();
    assert_eq!(warned.status, Some(2), "{warned}");
    assert!(warned.stderr.contains("can be read by others"), "{warned}");

    fs::remove_file(&file).unwrap();
    let missing = run(&options).run();
    assert_eq!(missing.status, Some(1), "{missing}");
    assert!(missing.stderr.contains("cannot read the password file"), "{missing}");
}

/// A run to an alias that an ssh_config of our own explains, with further lines in it.
fn by_alias(task: &OverSsh, key: &Path, lines: &str) -> Run {
    let config = task.sandbox.path("etc/ssh config");
    let text = format!(
        "Host my-alias\nHostName 127.0.0.1\nPort {}\nUser {}\nIdentityFile {}\n\
         IdentitiesOnly yes\nUserKnownHostsFile {}\n{lines}\n",
        task.server.port,
        user(),
        key.display(),
        task.server.path("known_hosts").display()
    );
    fs::write(&config, text).unwrap();
    let uri = format!("ssh://my-alias/{}", task.sandbox.b.root.display());
    bare(task, &uri, &format!("-F '{}'", config.display()))
}

#[test]
fn an_alias_of_ssh_config_says_all_that_is_needed() {
    let task = OverSsh::new();
    fill(&task);
    assert_works(&task, by_alias(&task, &task.server.key(), ""));
}

#[test]
fn what_ssh_config_asks_for_by_hand_keeps_no_run_from_its_work() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let [taken_port, free_port] = [&taken, &free].map(|it| it.local_addr().unwrap().port());
    drop(free);
    let forward =
        |port| format!("ExitOnForwardFailure yes\nLocalForward 127.0.0.1:{port} 127.0.0.1:9");
    for lines in [
        "RemoteCommand echo by hand\nRequestTTY force",
        "IgnoreUnknown ForkAfterAuthentication\nForkAfterAuthentication yes",
        "IgnoreUnknown StdinNull\nStdinNull yes",
        "IgnoreUnknown SessionType\nSessionType none",
        "IgnoreUnknown SessionType\nSessionType subsystem",
        "PermitLocalCommand yes\nLocalCommand echo noise",
        &forward(taken_port),
        &forward(free_port),
        "ControlMaster auto\nControlPath ${HOME}/%C\nControlPersist 1",
    ] {
        for shared in ["yes", "no"] {
            eprintln!("--- SSH_CONTROLMASTER={shared}\n{lines}");
            let task = OverSsh::new();
            fill(&task);
            let run = by_alias(&task, &task.server.key(), lines);
            assert_works(&task, run.env("SSH_CONTROLMASTER", shared));
        }
    }
}

#[test]
fn an_ssh_config_that_is_quiet_takes_no_cause_out_of_an_error() {
    let task = OverSsh::new();
    let refused = by_alias(&task, &task.server.strange_key(), "LogLevel QUIET").run();
    assert_eq!(refused.status, Some(1), "{refused}");
    assert!(refused.stderr.contains("Permission denied"), "{refused}");
}

#[test]
fn an_option_with_which_ssh_runs_no_command_is_named() {
    let task = OverSsh::new();
    for option in ["-N", "-f", "-vn"] {
        let options = format!("{} {option}", task.server.options().join(" "));
        let refused = task.run().env("SSH_OPTIONAL_ARGS", options).run();
        assert_eq!(refused.status, Some(1), "{refused}");
        let named = format!("-{}", option.chars().last().unwrap());
        assert!(refused.stderr.contains(&format!("the option {named} ")), "{refused}");
    }
}

#[test]
fn unknown_and_changed_hosts_are_taken_when_told_to() {
    let task = OverSsh::new();
    fill(&task);
    let foreign = fs::read_to_string(task.server.path("stranger.pub")).unwrap();
    let known = task.server.path("known_hosts");
    fs::write(&known, format!("[127.0.0.1]:{} {foreign}", task.server.port)).unwrap();
    for shared in ["yes", "no"] {
        let run =
            || task.run().env("SSH_IGNORE_KNOWN_HOSTS", "yes").env("SSH_CONTROLMASTER", shared);
        assert_works(&task, run());
        task.sandbox.a.remove("yours");
        task.fine(run());
        task.sandbox.b.make("f yours there");
        assert_works(&task, run());
    }
}

#[test]
fn an_address_of_ipv6_stands_in_brackets() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("not tried: this machine has no IPv6");
        return;
    }
    let task = OverSsh::with("ListenAddress ::1");
    fill(&task);
    task.server.trust_at("::1", task.server.port);
    let uri =
        format!("ssh://{}@[::1]:{}/{}", user(), task.server.port, task.sandbox.b.root.display());
    assert_works(&task, task.to(&uri));
}

#[test]
fn a_path_without_a_second_slash_lies_in_the_login_directory() {
    let home = std::env::temp_dir();
    let dir = tempfile::Builder::new().prefix("osync-home-").tempdir_in(home).unwrap();
    let command = format!("HOME={} sh -c \"cd; $SSH_ORIGINAL_COMMAND\"", dir.path().display());
    let task = OverSsh::forced(&command);
    task.sandbox.a.make("f mine here");
    fs::create_dir_all(dir.path().join("some dir")).unwrap();
    for path in ["some dir", "~/some dir"] {
        let uri = format!("ssh://{}@127.0.0.1:{}/{path}", user(), task.server.port);
        task.fine(task.to(&uri));
        assert_eq!(fs::read(dir.path().join("some dir/mine")).unwrap(), b"here", "{path}");
    }
}

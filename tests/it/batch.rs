//! Batches with the real program.

use crate::support::sandbox::{Outcome, Sandbox};
use crate::support::smtp::{Behaviour, SmtpServer};
use crate::support::sshd::Sshd;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A directory of tasks, each with two replicas of its own.
struct Tasks {
    sandbox: Sandbox,
}

impl Tasks {
    fn new(names: &[&str]) -> Self {
        let tasks = Tasks { sandbox: Sandbox::new() };
        for name in names {
            tasks.add(name, "");
        }
        tasks
    }

    fn add(&self, name: &str, lines: &str) {
        for side in ["a", "b"] {
            fs::create_dir_all(self.replica(name, side)).unwrap();
        }
        fs::write(self.replica(name, "a").join("file"), name).unwrap();
        let text = format!(
            "INSTANCE_ID={name}\nINITIATOR_SYNC_DIR=\"{}\"\nTARGET_SYNC_DIR=\"{}\"\nLOGFILE=\"{}\"\n{lines}\n",
            self.replica(name, "a").display(),
            self.replica(name, "b").display(),
            self.sandbox.path(format!("{name}.log")).display(),
        );
        fs::write(self.sandbox.path("etc").join(format!("{name}.conf")), text).unwrap();
    }

    fn replica(&self, name: &str, side: &str) -> PathBuf {
        self.sandbox.path(format!("{name}-{side}"))
    }

    fn run(&self, args: &[&str]) -> Outcome {
        let path = format!("--path={}", self.sandbox.path("etc").display());
        let run = self.sandbox.osync().arg("batch").arg(path).arg("--retry-delay=0");
        run.args(args).run()
    }

    fn is_done(&self, name: &str) -> bool {
        fs::read_to_string(self.replica(name, "b").join("file")).is_ok_and(|text| text == name)
    }

    /// How often a task has begun.
    fn begun(&self, name: &str) -> usize {
        let log = fs::read_to_string(self.sandbox.path(format!("{name}.log")));
        log.unwrap_or_default().matches(" starts.").count()
    }
}

#[test]
fn all_tasks_run_one_after_the_other() {
    let tasks = Tasks::new(&["one", "three", "two"]);
    let run = tasks.run(&[]);
    assert_eq!(run.status, Some(0), "{run}");
    for name in ["one", "two", "three"] {
        assert!(tasks.is_done(name), "{name} {run}");
        assert_eq!(tasks.begun(name), 1);
    }
    let position = |text: &str| run.stdout.find(text).unwrap_or_else(|| panic!("{text} {run}"));
    assert!(position("one.conf: has succeeded") < position("three.conf: run 1"));
    assert!(position("three.conf: has succeeded") < position("two.conf: run 1"));
    assert_eq!(run.stdout.matches("osync finished.").count(), 3, "as without a batch: {run}");
    assert!(run.stdout.contains("1 update to the target"), "{run}");
}

#[test]
fn a_task_that_fails_at_first_is_run_again_at_the_end() {
    let tasks = Tasks::new(&["b", "c"]);
    let marker = tasks.sandbox.path("marker");
    let hook = format!("[ -e '{0}' ] || {{ touch '{0}'; exit 1; }}", marker.display());
    tasks.add("a", &format!("STOP_ON_CMD_ERROR=yes\nLOCAL_RUN_BEFORE_CMD=\"{hook}\""));
    let run = tasks.run(&["--max-runs=2"]);
    assert_eq!(run.status, Some(0), "{run}");
    assert!(tasks.is_done("a"));
    assert_eq!([tasks.begun("a"), tasks.begun("b"), tasks.begun("c")], [2, 1, 1]);
    let position = |text: &str| run.stdout.find(text).unwrap_or_else(|| panic!("{text} {run}"));
    assert!(position("c.conf: has succeeded") < position("a.conf: run 2"));
}

#[test]
fn the_worst_task_decides_the_exit_status() {
    let tasks = Tasks::new(&["good"]);
    fs::write(tasks.sandbox.path("etc/bad.conf"), "INSTANCE_ID=bad\n").unwrap();
    let run = tasks.run(&["--max-retries=2"]);
    assert_eq!(run.status, Some(1), "{run}");
    assert!(tasks.is_done("good"));
    assert_eq!(run.stdout.matches("bad.conf: run ").count(), 2, "{run}");
    let why = "bad.conf: has not succeeded in 2 runs: ";
    assert!(run.stderr.contains(why) && run.stderr.contains("INITIATOR_SYNC_DIR"), "{run}");
}

#[test]
fn silence_is_for_the_screen_and_the_log_gets_everything() {
    let tasks = Tasks::new(&["one"]);
    let run = tasks.run(&["--silent"]);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""), "{run}");
    assert_eq!(run.status, Some(0));
    assert!(tasks.is_done("one"));
    assert!(tasks.sandbox.log().contains("one.conf: has succeeded"), "{}", tasks.sandbox.log());
}

#[test]
fn options_are_passed_on_to_every_task() {
    let tasks = Tasks::new(&["one", "two"]);
    let run = tasks.run(&["--dry", "--summary"]);
    assert_eq!(run.status, Some(0), "{run}");
    assert!(!tasks.is_done("one") && !tasks.is_done("two"));
    let run = tasks.run(&["--frobnicate"]);
    assert_eq!(run.status, Some(128), "{run}");
    let run = tasks.run(&["--on-changes"]);
    assert_eq!(run.status, Some(128), "{run}");
}

#[test]
fn tasks_that_share_nothing_run_at_the_same_time() {
    let tasks = Tasks::new(&[]);
    // each waits for the other
    for (own, other) in [("a", "b"), ("b", "a")] {
        let marker = |name: &str| tasks.sandbox.path(format!("began-{name}")).display().to_string();
        let hook = format!(
            "touch '{}'; until [ -e '{}' ]; do sleep 0.1; done",
            marker(own),
            marker(other)
        );
        tasks.add(own, &format!("LOCAL_RUN_BEFORE_CMD=\"{hook}\""));
    }
    let run = tasks.run(&["--parallel=2"]);
    assert_eq!(run.status, Some(0), "{run}");
    assert!(tasks.is_done("a") && tasks.is_done("b"));
}

/// A task of two replicas with the same content, `a` being the first.
fn add_pair(tasks: &Tasks, name: &str, a: &str, b: &str, lines: &str) {
    let log = tasks.sandbox.path(format!("{name}.log"));
    let text = format!(
        "INSTANCE_ID={name}\nINITIATOR_SYNC_DIR=\"{a}\"\nTARGET_SYNC_DIR=\"{b}\"\nCREATE_DIRS=yes\n\
         LOGFILE=\"{}\"\n{lines}\n",
        log.display()
    );
    fs::write(tasks.sandbox.path("etc").join(format!("{name}.conf")), text).unwrap();
}

#[test]
fn tasks_that_share_a_directory_do_not_run_at_the_same_time() {
    let server = Sshd::start("");
    let way = format!(
        "SSH_RSA_PRIVATE_KEY=\"{}\"\nSSH_OPTIONAL_ARGS=\"{}\"\nREMOTE_HOST_PING=no",
        server.key().display(),
        server.options().join(" ")
    );
    // ROOT is the sandbox, HERE the same over ssh
    for (what, one, other) in [
        ("the same", ["ROOT/x", "ROOT/1"], ["ROOT/x", "ROOT/2"]),
        ("one in the other", ["ROOT/x", "ROOT/1"], ["ROOT/2", "ROOT/x/below"]),
        ("through a link", ["ROOT/x", "ROOT/1"], ["ROOT/link", "ROOT/2"]),
        ("below a link, not there yet", ["ROOT/x/below", "ROOT/1"], ["ROOT/link/below", "ROOT/2"]),
        ("by ..", ["ROOT/x", "ROOT/1"], ["ROOT/1/../x", "ROOT/2"]),
        ("on the same host", ["ROOT/1", "HERE/x"], ["ROOT/2", "HERE/x"]),
        ("on the same host, one in the other", ["ROOT/1", "HERE/x"], ["ROOT/2", "HERE/x/below"]),
        ("here and by way of ssh", ["ROOT/1", "ROOT/x"], ["ROOT/2", "HERE/x"]),
    ] {
        let tasks = Tasks::new(&[]);
        for dir in ["x", "1", "2"] {
            fs::create_dir(tasks.sandbox.path(dir)).unwrap();
        }
        symlink("x", tasks.sandbox.path("link")).unwrap();
        let root = tasks.sandbox.root().display().to_string();
        let here = server.uri(tasks.sandbox.root());
        for (name, [a, b]) in [("a", one), ("b", other)] {
            let of = |text: &str| text.replace("ROOT", &root).replace("HERE", &here);
            add_pair(&tasks, name, &of(a), &of(b), &way);
        }
        let run = tasks.run(&["--parallel=4", "--max-runs=1"]);
        assert_eq!(run.status, Some(0), "{what} {run}");
        let position =
            |text: &str| run.stdout.find(text).unwrap_or_else(|| panic!("{what} {text} {run}"));
        assert!(position("a.conf: has succeeded") < position("b.conf: run 1"), "{what} {run}");
    }
}

#[test]
fn when_the_time_is_up_what_runs_goes_on_and_nothing_else_begins() {
    let tasks = Tasks::new(&["c"]);
    tasks.add("a", "LOCAL_RUN_BEFORE_CMD=\"sleep 2\"");
    let fails = "STOP_ON_CMD_ERROR=yes\nLOCAL_RUN_BEFORE_CMD=\"sleep 2; exit 1\"";
    tasks.add("b", fails);
    let run = tasks.run(&["--max-exec-time=1"]);
    assert_eq!(run.status, Some(1), "{run}");
    assert!(tasks.is_done("a"), "{run}");
    assert_eq!([tasks.begun("a"), tasks.begun("b"), tasks.begun("c")], [1, 0, 0]);
    for text in ["b.conf: has not been run", "c.conf: has not been run", "no run begins after 1 s"]
    {
        assert!(run.stderr.contains(text), "{text} {run}");
    }
    // nor is what has failed run again
    fs::remove_file(tasks.sandbox.path("etc/a.conf")).unwrap();
    fs::remove_file(tasks.sandbox.path("etc/c.conf")).unwrap();
    let run = tasks.run(&["--max-exec-time=1"]);
    assert_eq!((run.status, tasks.begun("b")), (Some(1), 1), "{run}");
    let (why, log) = ("the local command before the run", tasks.sandbox.path("b.log"));
    let text = format!("b.conf: has not succeeded in 1 run: {why}");
    assert!(run.stderr.contains(&text), "{run}");
    assert!(run.stderr.contains(&format!("(its log is {})", log.display())), "{run}");
    // and no limit is none
    let run = tasks.run(&["--max-exec-time=0", "--max-runs=2"]);
    assert_eq!((run.status, tasks.begun("b")), (Some(1), 3), "{run}");
}

#[test]
fn a_task_that_hangs_is_ended_by_its_own_limit_and_the_others_have_their_turn() {
    let tasks = Tasks::new(&["b"]);
    tasks.add("a", "HARD_MAX_EXEC_TIME=1\nLOCAL_RUN_BEFORE_CMD=\"sleep 600\"");
    let run = tasks.run(&["--max-runs=2"]);
    assert_eq!(run.status, Some(1), "{run}");
    assert!(tasks.is_done("b"));
    assert_eq!([tasks.begun("a"), tasks.begun("b")], [2, 1], "{run}");
    assert!(!tasks.replica("a", "a").join(".osync_workdir/lock").exists());
}

#[test]
fn only_warnings_are_two() {
    let tasks = Tasks::new(&["a"]);
    tasks.add("b", "NO_SUCH_KEY=yes");
    let run = tasks.run(&[]);
    assert_eq!(run.status, Some(2), "{run}");
    assert!(run.stderr.contains("b.conf: done, with warnings"), "{run}");
    assert_eq!(tasks.begun("b"), 1, "a warning is no failure");
}

/// LOGFILE of the environment would name the batch's log.
#[test]
fn its_log_is_in_the_home_directory_of_who_may_not_write_to_var_log() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let tasks = Tasks::new(&["a"]);
    let root = tasks.sandbox.root();
    let own = tasks.sandbox.program("chown").args(["-R", "65534:65534"]).arg(root).run();
    assert_eq!(own.status, Some(0), "{own}");
    let path = format!("--path={}", tasks.sandbox.path("etc").display());
    let run = tasks.sandbox.osync().args(["batch", &path, "--silent"]).env("LOGFILE", "");
    let run = run.user(65534).run();
    assert_eq!(run.status, Some(0), "{run}");
    let log = fs::read_to_string(tasks.sandbox.path("home/osync-batch.log")).unwrap();
    assert!(log.contains("a.conf: has succeeded"), "{log}");
}

#[test]
fn one_file_is_a_batch_and_a_configuration_may_be_named_batch() {
    let tasks = Tasks::new(&["one", "batch"]);
    let file = tasks.sandbox.path("etc/one.conf");
    let run = tasks.sandbox.osync().arg("batch").arg("--path").arg(file).run();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(tasks.is_done("one") && !tasks.is_done("batch"));
    let run = tasks.sandbox.osync().dir(tasks.sandbox.path("etc")).arg("batch.conf").run();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(tasks.is_done("batch"));
}

#[test]
fn a_task_that_fails_again_and_again_sends_one_mail() {
    let server = SmtpServer::start(Behaviour::default());
    let tasks = Tasks::new(&[]);
    let mail = format!(
        "DESTINATION_MAILS=me@example.org\nSMTP_SERVER=localhost\nSMTP_PORT={}\n",
        server.port()
    );
    tasks.add("a", &format!("{mail}STOP_ON_CMD_ERROR=yes\nLOCAL_RUN_BEFORE_CMD=\"exit 1\""));
    let run = tasks.run(&["--max-runs=3"]);
    assert_eq!((run.status, tasks.begun("a")), (Some(1), 3), "{run}");
    let mails = server.wait_for(1);
    assert_eq!(mails.len(), 1);
    assert!(mails[0].subject().starts_with("Finished run - Error alert for a on "));
    // a batch whose time is up sends what the run was to hold back
    let run = tasks.run(&["--max-runs=3", "--retry-delay=600", "--max-exec-time=1", "--silent"]);
    assert_eq!(run.status, Some(1), "{run}");
    let mails = server.wait_for(2);
    assert_eq!(mails.len(), 2);
    let log = mails[1].attached_log().unwrap();
    assert!(log.contains("the local command before the run"), "{log}");
}

#[test]
fn the_mail_of_a_batch_whose_time_is_up_is_not_sent_again_before_its_time() {
    let tasks = Tasks::new(&[]);
    let server = SmtpServer::start(Behaviour::default());
    let mail = |repeat: &str| {
        format!(
            "DESTINATION_MAILS=me@example.org\nSMTP_SERVER=localhost\nSMTP_PORT={}\n\
             ALERT_REPEAT={repeat}\nSTOP_ON_CMD_ERROR=yes\nLOCAL_RUN_BEFORE_CMD=\"exit 1\"",
            server.port()
        )
    };
    tasks.add("a", &mail("3600"));
    let out_of_time = ["--max-runs=3", "--retry-delay=600", "--max-exec-time=1"];
    let one_run = ["--max-runs=1"];
    let mut mails = 0;
    for (what, args, sent) in [
        ("a first failure", &out_of_time[..], 1),
        ("the same", &out_of_time[..], 0),
        ("the same, told by the run itself", &one_run[..], 0),
    ] {
        let run = tasks.run(args);
        assert_eq!(run.status, Some(1), "{what}: {run}");
        assert_eq!(run.stdout.contains("No mail: one about the same failure"), sent == 0, "{run}");
        mails += sent;
        assert_eq!(server.wait_for(mails).len(), mails, "{what}");
    }
    tasks.add("a", &mail("0"));
    let run = tasks.run(&out_of_time);
    let last = server.wait_for(mails + 1).pop().unwrap();
    let text = last.text();
    assert!(text.contains("What went wrong:") && text.contains("ended with status 1"), "{run}");
}

#[test]
fn the_report_of_a_batch_is_a_list() {
    let tasks = Tasks::new(&["one", "two"]);
    let file = tasks.sandbox.path("report.json");
    let run = tasks.run(&["--report", file.to_str().unwrap(), "--dry"]);
    assert_eq!(run.status, Some(0), "{run}");
    let list: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let names: Vec<_> = list.as_array().unwrap().iter().map(|of| of["task"].clone()).collect();
    assert_eq!(names, ["one", "two"]);
    list.as_array().unwrap().iter().for_each(crate::support::schema::check_report);
    assert!(list[0]["summary"].as_str().unwrap().starts_with("1 update to the target"), "{list}");
    assert!(run.stdout.contains("(dry run) UPDATE >> "), "the plan is shown: {run}");
}

#[test]
fn the_log_of_the_batch_is_not_the_log_of_its_tasks() {
    let tasks = Tasks::new(&["one"]);
    let own = tasks.sandbox.path("etc/one.conf");
    let text = fs::read_to_string(&own).unwrap().replace("LOGFILE=", "#");
    fs::write(&own, text).unwrap();
    let home = tasks.sandbox.path("home");
    let run = tasks.run(&[]);
    assert_eq!(run.status, Some(0), "{run}");
    assert!(!tasks.sandbox.log().contains(" starts."), "{}", tasks.sandbox.log());
    for place in [Path::new("/var/log/osync.one.log"), &home.join("osync.one.log")] {
        let _ = fs::remove_file(place);
    }
}

#[test]
fn a_batch_that_tries_again_notifies_and_pings_only_how_a_task_ended() {
    use crate::support::https::{Answer, HttpsServer};
    for (heals, pings, notes) in
        [(true, vec!["/start", "/start", ""], 0), (false, vec!["/start", "/start", "/fail"], 1)]
    {
        let tasks = Tasks::new(&[]);
        let sandbox = &tasks.sandbox;
        let server = HttpsServer::start(Answer::Status(200));
        server.write_certificate(&sandbox.path("ca.pem"));
        let tried = sandbox.path("tried");
        let heal = if heals {
            format!("test -e '{0}' || {{ touch '{0}'; exit 1; }}", tried.display())
        } else {
            "exit 1".to_owned()
        };
        tasks.add(
            "one",
            &format!(
                "LOCAL_RUN_BEFORE_CMD=\"{heal}\"\nSTOP_ON_CMD_ERROR=yes\nPING_URL=\"{}\"\nNOTIFY_URL=\"{}\"",
                server.url("/ping"),
                server.url("/note")
            ),
        );
        // a URL that reports for the task is a secret
        let owner_only = fs::Permissions::from_mode(0o600);
        fs::set_permissions(sandbox.path("etc/one.conf"), owner_only).unwrap();
        let path = format!("--path={}", sandbox.path("etc").display());
        let run = sandbox
            .osync()
            .args(["batch", "--retry-delay=0", "--max-runs=2"])
            .arg(path)
            .env("SSL_CERT_FILE", sandbox.path("ca.pem"))
            .run();
        assert_eq!(run.status, Some(i32::from(!heals)), "{run}");
        let got = server.requests();
        let of = |what: &str| -> Vec<String> {
            let lines = got.iter().filter_map(|got| got.line.strip_prefix(&format!("POST {what}")));
            lines.map(str::to_owned).collect()
        };
        assert_eq!(of("/ping"), pings, "{run}");
        assert_eq!(of("/note").len(), notes, "{run}");
    }
}

//! Alert mails through real servers and a real `sendmail` (spec 6, "Mail").

use crate::support::ear::Ear;
use crate::support::sandbox::{Run, Sandbox};
use crate::support::smtp::{Behaviour, Protection, SmtpServer};
use osync::testing::config::{Alerts, Secret, SmtpEncryption};
use osync::testing::report::Tally;
use osync::testing::report::mail::{Letter, Occasion, Patience, send_within};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

fn alerts(server: &SmtpServer) -> Alerts {
    Alerts {
        recipients: vec!["a@example.org,b@example.org".into()],
        sender: Some("osync@example.org".into()),
        smtp_server: Some("127.0.0.1".into()),
        smtp_port: server.port(),
        ..Alerts::default()
    }
}

fn post(alerts: &Alerts, patience: Patience) -> Ear {
    let ear = Ear::default();
    let lines = [".a line that begins with a dot".to_owned()];
    let letter = Letter {
        task: "t",
        occasion: Occasion::Finished(None),
        dry: false,
        summed_up: "",
        tally: &Tally::default(),
        conflicts: &[],
        lines: &lines,
        transcript: b"the whole log\n",
    };
    send_within(alerts, &letter, &ear, patience);
    ear
}

fn login() -> Option<(String, String)> {
    Some(("me".into(), "pass'word 1".into()))
}

#[test]
fn a_mail_arrives_with_body_and_gzipped_log() {
    let server = SmtpServer::start(Behaviour::default());
    let ear = post(&alerts(&server), Patience::default());
    assert_eq!(ear.errors(), [""; 0]);
    let mail = server.wait_for(1).remove(0);
    assert_eq!(mail.from, "osync@example.org");
    assert_eq!(mail.to, ["a@example.org", "b@example.org"]);
    assert_eq!(mail.subject(), on_this_host("Finished run - Alert for t"));
    assert!(mail.text().contains("\r\n.a line that begins with a dot\r\n"), "{}", mail.text());
    assert_eq!(mail.attached_log().as_deref(), Some("the whole log\n"));
}

#[test]
fn logins_work_in_both_ways_and_a_wrong_password_is_never_shown() {
    for login_only in [false, true] {
        let server =
            SmtpServer::start(Behaviour { login: login(), login_only, ..Behaviour::default() });
        let good = Alerts {
            smtp_user: Some("me".into()),
            smtp_password: Some(Secret::new("pass'word 1")),
            ..alerts(&server)
        };
        assert_eq!(post(&good, Patience::default()).errors(), [""; 0]);
        assert_eq!(server.wait_for(1)[0].login, login());

        let wrong = Alerts { smtp_password: Some(Secret::new("geheim-77")), ..good };
        let errors = post(&wrong, Patience::default()).errors();
        assert!(errors[0].contains("535") && !errors[0].contains("geheim"), "{errors:?}");
    }
}

#[test]
fn a_refused_recipient_does_not_keep_others_from_their_mail() {
    let refuse = vec!["a@example.org".to_owned()];
    let server = SmtpServer::start(Behaviour { refuse, ..Behaviour::default() });
    let errors = post(&alerts(&server), Patience::default()).errors();
    assert!(errors.len() == 1 && errors[0].contains("a@example.org"), "{errors:?}");
    assert_eq!(server.wait_for(1)[0].to, ["b@example.org"]);

    let server = SmtpServer::start(Behaviour { refuse_all: true, ..Behaviour::default() });
    let errors = post(&alerts(&server), Patience::default()).errors();
    assert!(errors[0].contains("550"), "{errors:?}");
}

#[test]
fn a_server_that_hangs_or_is_not_there_costs_no_more_than_the_patience() {
    let patience = Patience { step: Duration::from_millis(300), total: Duration::from_secs(5) };
    for behaviour in [
        Behaviour { hang: true, ..Behaviour::default() },
        Behaviour { hang_after_data: true, ..Behaviour::default() },
    ] {
        let server = SmtpServer::start(behaviour);
        let start = Instant::now();
        let errors = post(&alerts(&server), patience).errors();
        assert!(errors[0].contains("no answer within"), "{errors:?}");
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    }

    let server = SmtpServer::start(Behaviour { hang: true, ..Behaviour::default() });
    let patience = Patience { step: Duration::from_secs(600), total: Duration::from_millis(300) };
    let errors = post(&alerts(&server), patience).errors();
    assert!(errors[0].contains("not done after"), "{errors:?}");

    let settings = alerts(&server);
    drop(server);
    let errors = post(&settings, Patience::default()).errors();
    assert!(errors[0].contains("refused"), "{errors:?}");
}

#[test]
fn encryption_that_a_server_does_not_have_is_not_given_up() {
    let server = SmtpServer::start(Behaviour::default());
    let settings = Alerts { smtp_encryption: SmtpEncryption::Tls, ..alerts(&server) };
    let errors = post(&settings, Patience::default()).errors();
    assert!(errors[0].contains("STARTTLS"), "{errors:?}");
    assert!(server.mails().is_empty());
}

/// A run of a sandbox that sends mail to this server.
fn quick(sandbox: &Sandbox, server: &SmtpServer) -> Run {
    sandbox
        .quick()
        .env("DESTINATION_MAILS", "a@example.org, b@example.org")
        .env("SMTP_SERVER", "localhost")
        .env("SMTP_PORT", server.port().to_string())
        .arg("--instance-id=mailed")
}

/// A subject, with the host in it.
fn on_this_host(subject: &str) -> String {
    format!("{subject} on {}", rustix::system::uname().nodename().to_string_lossy())
}

#[test]
fn runs_send_the_mail_that_their_end_deserves() {
    let server = SmtpServer::start(Behaviour::default());
    let sandbox = Sandbox::new();
    let run = |name: &str, env: &[(&str, &str)], status: i32, subject: Option<&str>| {
        let before = server.mails().len();
        let run = env.iter().fold(quick(&sandbox, &server), |run, (k, v)| run.env(k, v)).run();
        assert_eq!(run.status, Some(status), "{name}: {run}");
        let mails = server.mails();
        let subjects: Vec<String> = mails[before..].iter().map(|mail| mail.subject()).collect();
        let wanted: Vec<String> = subject.into_iter().map(on_this_host).collect();
        assert_eq!(subjects, wanted, "{name}: {run}");
        mails.last().cloned()
    };
    run("all is well", &[], 0, None);
    run("always", &[("ALWAYS_SEND_MAILS", "yes")], 0, Some("Finished run - Alert for mailed"));
    let odd = ("MAIL_BODY_CHARSET", "klingon");
    run("a warning", &[odd], 2, Some("Finished run - Warning alert for mailed"));
    let failing = ("LOCAL_RUN_BEFORE_CMD", "echo the cause; exit 1");
    let mail =
        run("an error", &[failing], 1, Some("Finished run - Error alert for mailed")).unwrap();
    run("an error while debugging", &[failing, ("_DEBUG", "yes")], 1, None);
    run("nobody to send to", &[failing, ("DESTINATION_MAILS", "")], 1, None);

    assert_eq!(mail.to, ["a@example.org", "b@example.org"]);
    let text = mail.text();
    let (first, then) = (text.find("(ERROR):the local command"), text.find("TIME: 0 - "));
    assert!(first.unwrap() < then.unwrap() && text.contains("the cause"), "{text}");
    let log = mail.attached_log().unwrap();
    assert!(log.contains("(ERROR):the local command"), "{log}");
    assert!(
        sandbox.log().contains(&log) && sandbox.log().len() > log.len(),
        "only this run's part"
    );
}

#[test]
fn the_same_failure_is_mailed_once_until_it_changes_is_over_or_its_time_has_come() {
    let server = SmtpServer::start(Behaviour::default());
    let sandbox = Sandbox::new();
    sandbox.a.make("f x y");
    let run = |what: &str, command: &str, repeat: &str, status: i32, mails: usize| {
        let before = server.mails().len();
        let run = quick(&sandbox, &server)
            .env("LOCAL_RUN_BEFORE_CMD", command)
            .env("ALERT_REPEAT", repeat)
            .run();
        assert_eq!(run.status, Some(status), "{what}: {run}");
        assert_eq!(server.mails().len() - before, mails, "{what}: {run}");
        run
    };
    run("all is well", "true", "3600", 0, 0);
    run("it begins", "exit 3", "3600", 1, 1);
    let quiet = run("it goes on", "exit 3", "3600", 1, 0);
    assert!(quiet.stdout.contains("No mail: one about the same failure was sent"), "{quiet}");
    run("another one", "echo other words; exit 3", "3600", 1, 1);
    run("each time, as ever", "echo other words; exit 3", "0", 1, 1);
    run("it is over", "true", "3600", 0, 0);
    run("it begins again", "echo other words; exit 3", "3600", 1, 1);
    run("its numbers do not matter", "echo other words; exit 3", "3600", 1, 0);
    // what was told lies long back
    let told = sandbox.a.at(".osync_workdir/state/told-mail-mailed");
    let text = std::fs::read_to_string(&told).unwrap();
    let at = text.split_once("\"at\":").unwrap().1.trim_end_matches('}').to_owned();
    std::fs::write(&told, text.replace(&at, "1000")).unwrap();
    run("its time has come", "echo other words; exit 3", "3600", 1, 1);
    // a mail that nobody got is not counted
    run("it is over", "true", "3600", 0, 0);
    let dead = quick(&sandbox, &server)
        .env("LOCAL_RUN_BEFORE_CMD", "exit 4")
        .env("ALERT_REPEAT", "3600")
        .env("DESTINATION_MAILS", "no address");
    assert_eq!(dead.run().status, Some(1));
    run("nobody was told", "exit 4", "3600", 1, 1);
}

#[test]
fn a_failed_start_sends_mail_too() {
    let server = SmtpServer::start(Behaviour::default());
    let sandbox = Sandbox::new();
    std::fs::remove_dir(&sandbox.b.root).unwrap();
    let run = quick(&sandbox, &server).run();
    assert_eq!(run.status, Some(1), "{run}");
    let subject = server.wait_for(1)[0].subject();
    assert_eq!(subject, on_this_host("Finished run - Error alert for mailed"));
}

#[test]
fn conflicts_are_mailed_if_asked_for() {
    let server = SmtpServer::start(Behaviour::default());
    let sandbox = Sandbox::new();
    sandbox.a.make("f both 1");
    assert_eq!(sandbox.quick().arg("--instance-id=mailed").run().status, Some(0));
    sandbox.a.write("both", "one", 1_600_000_001);
    sandbox.b.write("both", "other", 1_600_000_002);
    let run = quick(&sandbox, &server).arg("--alert-conflicts").run();
    assert_eq!(run.status, Some(0), "{run}");
    let mail = server.wait_for(1).remove(0);
    assert!(mail.text().contains("There is 1 conflict."), "{}", mail.text());
    let run = quick(&sandbox, &server).arg("--alert-conflicts").run();
    assert_eq!((run.status, server.mails().len()), (Some(0), 1), "no conflict, no mail: {run}");
}

#[test]
fn encrypted_mail_goes_only_to_a_server_whose_certificate_is_known() {
    for (protection, key) in [(Protection::StartTls, "tls"), (Protection::Implicit, "ssl")] {
        let behaviour = Behaviour { protection, login: login(), ..Behaviour::default() };
        let server = SmtpServer::start(behaviour);
        let sandbox = Sandbox::new();
        let known = sandbox.path("known.pem");
        std::fs::write(&known, server.certificate()).unwrap();
        let other = sandbox.path("other.pem");
        let stranger = SmtpServer::start(Behaviour::default());
        std::fs::write(&other, stranger.certificate()).unwrap();
        let run = |authorities: &std::path::Path| {
            quick(&sandbox, &server)
                .env("SMTP_ENCRYPTION", key)
                .env("SMTP_USER", "me")
                .env("SMTP_PASSWORD", "pass'word 1")
                .env("ALWAYS_SEND_MAILS", "yes")
                .env("SSL_CERT_FILE", authorities)
                .env("SSL_CERT_DIR", sandbox.path("etc"))
                .run()
        };
        let good = run(&known);
        assert_eq!((good.status, good.stderr.as_str()), (Some(0), ""), "{key}: {good}");
        let mail = server.wait_for(1).remove(0);
        assert!(mail.encrypted && mail.login == login(), "{key}: {mail:?}");

        let bad = run(&other);
        assert_eq!(bad.status, Some(0), "a mail that cannot be sent changes no status: {bad}");
        assert!(
            bad.stderr.contains("(ERROR):cannot send mail") && bad.stderr.contains("certificate"),
            "{key}: {bad}"
        );
        assert_eq!(server.mails().len(), 1);
    }
}

#[test]
fn a_run_outlives_a_mail_server_that_hangs() {
    let server = SmtpServer::start(Behaviour { hang: true, ..Behaviour::default() });
    let sandbox = Sandbox::new();
    sandbox.a.make("f one x");
    let start = Instant::now();
    // of the 15 seconds
    let run =
        quick(&sandbox, &server).env("ALWAYS_SEND_MAILS", "yes").env("OSYNC_FAULT_HASTE", "5");
    let run = run.run();
    assert_eq!(run.status, Some(0), "{run}");
    let limit = if cfg!(debug_assertions) { 3 } else { 15 };
    assert!(run.stderr.contains(&format!("no answer within {limit} s")), "{run}");
    assert!(start.elapsed() < Duration::from_secs(35), "{:?}", start.elapsed());
    assert!(sandbox.b.has("one"));
}

#[test]
fn without_a_server_the_mail_goes_to_sendmail() {
    let sandbox = Sandbox::new();
    let bin = sandbox.path("bin");
    std::fs::create_dir(&bin).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let run = |script: &str| {
        let program = bin.join("sendmail");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let run = sandbox.quick().env("PATH", &path).env("ALWAYS_SEND_MAILS", "yes");
        run.env("DESTINATION_MAILS", "a@example.org nonsense")
            .env("SENDER_MAIL", "me@example.org")
            .run()
    };
    let (args, mail) = (sandbox.path("args"), sandbox.path("mail"));
    let good = run(&format!("echo \"$@\" > '{}'; cat > '{}'", args.display(), mail.display()));
    assert_eq!(good.status, Some(2), "a malformed address is a warning: {good}");
    assert!(good.stderr.contains("(WARN):DESTINATION_MAILS: nonsense"), "{good}");
    let args = std::fs::read_to_string(args).unwrap();
    assert_eq!(args, "-oi -f me@example.org -- a@example.org\n");
    let mail = std::fs::read_to_string(mail).unwrap();
    assert!(
        mail.contains("\nSubject: Finished run - Warning alert for quicksync_task on "),
        "{mail}"
    );
    assert!(!mail.contains('\r'), "line ends of this system");

    let bad = run("echo no such thing >&2; exit 67");
    assert!(bad.stderr.contains("status 67: no such thing"), "{bad}");
}

#[test]
fn the_body_is_in_the_charset_asked_for() {
    let server = SmtpServer::start(Behaviour::default());
    let sandbox = Sandbox::new();
    let mail = |charset: &str, status: i32| {
        let count = server.mails().len() + 1;
        let hook = "echo 'Gr\u{fc}\u{df}e \u{65e5}'; exit 1";
        let run = quick(&sandbox, &server)
            .env("MAIL_BODY_CHARSET", charset)
            .env("LOCAL_RUN_BEFORE_CMD", hook)
            .run();
        assert_eq!(run.status, Some(status), "{run}");
        (run, server.wait_for(count).remove(count - 1).text())
    };
    let (_, text) = mail("ISO-8859-1", 1);
    assert!(text.contains("charset=iso-8859-1") && text.contains("Gr=FC=DFe ?"), "{text}");
    let (run, text) = mail("klingon", 1);
    assert!(run.stderr.contains("(WARN):MAIL_BODY_CHARSET: klingon is not known"), "{run}");
    assert!(text.contains("charset=utf-8") && text.contains("Gr=C3=BC=C3=9Fe"), "{text}");
}

#[test]
fn passing_the_soft_limit_sends_a_mail_while_the_run_goes_on() {
    let server = SmtpServer::start(Behaviour::default());
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.a.at("big"), vec![7; 600_000]).unwrap();
    let run = quick(&sandbox, &server).env("BANDWIDTH", "200").env("SOFT_MAX_EXEC_TIME", "1").run();
    assert_eq!(run.status, Some(2), "{run}");
    let subjects: Vec<_> = server.wait_for(2).iter().map(|mail| mail.subject()).collect();
    let wanted =
        ["Currently running - Warning alert for mailed", "Finished run - Warning alert for mailed"];
    assert_eq!(subjects, wanted.map(on_this_host));
    assert_eq!(run.stderr.matches("SOFT_MAX_EXEC_TIME").count(), 1, "{run}");
    assert!(sandbox.b.has("big"), "{run}");
}

#[test]
fn no_secret_is_in_a_mail_or_reaches_a_command() {
    let server = SmtpServer::start(Behaviour { login: login(), ..Behaviour::default() });
    let sandbox = Sandbox::new();
    let seen = sandbox.path("seen");
    let lines = format!(
        "_REMOTE_TOKEN=TokenSecret91\nSMTP_SERVER=localhost\nSMTP_PORT={}\nSMTP_USER=me\n\
         SMTP_PASSWORD=\"pass'word 1\"\nDESTINATION_MAILS=a@example.org\n\
         LOCAL_RUN_BEFORE_CMD='tr \"\\0\" \" \" </proc/$PPID/cmdline >{seen}; env >>{seen}; \
         echo \"TokenSecret91 pass'\\''word 1\"; exit 1'\n",
        server.port(),
        seen = seen.display(),
    );
    let run = sandbox.osync().arg(sandbox.config("secret.conf", &lines)).arg("--verbose").run();
    assert_eq!(run.status, Some(1), "{run}");
    let mail = server.wait_for(1).remove(0);
    let log = mail.attached_log().unwrap();
    assert!(log.contains("*** ***") && mail.text().contains("*** ***"), "{log}");
    let seen = std::fs::read_to_string(seen).unwrap();
    assert!(seen.contains("OSYNC_INSTANCE_ID=test"), "{seen}");
    for (place, text) in [("body", mail.text()), ("log", log), ("command", seen)] {
        for secret in ["TokenSecret91", "pass'word", "pass=27word"] {
            assert!(!text.contains(secret), "{secret} in the {place}:\n{text}");
        }
    }
}

/// A PATH in which these programs write what they are called with, and what they read, to a
/// file of their name in the sandbox; of the system's own, there are those a run needs.
fn mailers(sandbox: &Sandbox, names: &[&str]) -> String {
    let bin = sandbox.path("mailers");
    std::fs::create_dir_all(&bin).unwrap();
    for name in names {
        let file = sandbox.path(name);
        let text = format!(
            "#!/bin/sh\nprintf '%s|' \"$@\" > '{0}'\n[ \"$5\" != -a ] && cat >> '{0}' || \
             {{ ls \"$6\" >> '{0}'; cat >> '{0}'; }}\n",
            file.display()
        );
        std::fs::write(bin.join(name), text).unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(bin.join(name), mode).unwrap();
    }
    let needed = sandbox.path("needed");
    std::fs::create_dir_all(&needed).unwrap();
    for name in ["rsync", "sh", "cat", "ls"] {
        let system = std::env::var("PATH").unwrap();
        let mut dirs = std::env::split_paths(&system).map(|dir| dir.join(name));
        let program = dirs.find(|program| program.exists()).unwrap();
        let _ = std::os::unix::fs::symlink(program, needed.join(name));
    }
    format!("{}:{}", bin.display(), needed.display())
}

/// Whether this machine has a sendmail where it is always looked for.
fn has_sendmail() -> bool {
    ["/usr/sbin/sendmail", "/usr/lib/sendmail"].iter().any(|p| std::path::Path::new(p).exists())
}

#[test]
fn a_placeholder_of_the_sample_does_not_swallow_the_alerts() {
    let sandbox = Sandbox::new();
    let path = mailers(&sandbox, &["sendmail"]);
    let run = |mails: &str| {
        let run = sandbox.quick().env("PATH", &path).env("ALWAYS_SEND_MAILS", "yes");
        let run = run.env("SMTP_SERVER", "smtp.your.isp.tld").env("DESTINATION_MAILS", mails);
        run.env("SENDER_MAIL", "alert@your.system.tld").run()
    };
    let sent = run("me@example.org");
    assert_eq!(sent.status, Some(0), "what the sample holds is no fault of the run: {sent}");
    assert!(sent.stderr.contains("(WARN):SMTP_SERVER: smtp.your.isp.tld is only"), "{sent}");
    let mail = std::fs::read_to_string(sandbox.path("sendmail")).unwrap();
    assert!(mail.contains("|me@example.org|") && mail.contains("Subject: Finished"), "{mail}");
    let head = &mail[..mail.find("\n\n").unwrap()];
    assert!(!head.contains("your.system.tld"), "{mail}");
    std::fs::remove_file(sandbox.path("sendmail")).unwrap();

    let nobody = run("your@alert.tld,infrastructure@example.com");
    assert!(!sandbox.path("sendmail").exists(), "{nobody}");
    assert_eq!(nobody.status, Some(0), "{nobody}");
    assert!(nobody.stderr.contains("DESTINATION_MAILS: your@alert.tld is only"), "{nobody}");
    assert!(!nobody.stderr.contains("SMTP_SERVER"), "nobody needs it then: {nobody}");
}

#[test]
fn a_server_that_cannot_be_reached_is_passed_by() {
    let sandbox = Sandbox::new();
    let path = mailers(&sandbox, &["sendmail"]);
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let run = sandbox.quick().env("PATH", &path).env("ALWAYS_SEND_MAILS", "yes");
    let run = run.env("SMTP_SERVER", "127.0.0.1").env("SMTP_PORT", closed.to_string());
    let run = run.env("DESTINATION_MAILS", "me@example.org").run();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(run.stderr.contains("sending the mail through"), "{run}");
    let mail = std::fs::read_to_string(sandbox.path("sendmail")).unwrap();
    assert!(mail.contains("Subject: Finished run - Alert for quicksync_task on "), "{mail}");
}

#[test]
fn without_sendmail_mutt_or_mail_send_the_alert() {
    if has_sendmail() {
        println!("skipped: this machine has a sendmail");
        return;
    }
    for (name, wanted) in [
        ("mutt", "-n|-F|/dev/null|-s|"),
        ("mail", "-s|Finished run - Alert for quicksync_task on "),
    ] {
        let sandbox = Sandbox::new();
        let path = mailers(&sandbox, &[name]);
        let run = sandbox.quick().env("PATH", &path).env("ALWAYS_SEND_MAILS", "yes");
        let run = run.env("DESTINATION_MAILS", "me@example.org").run();
        assert_eq!((run.status, run.stderr.as_str()), (Some(0), ""), "{run}");
        let said = std::fs::read_to_string(sandbox.path(name)).unwrap();
        assert!(said.starts_with(wanted) && said.contains("|me@example.org|"), "{said}");
        assert!(said.contains("finished."), "the text: {said}");
        let attached = said.contains("osync.quicksync_task.log.gz");
        assert_eq!(attached, name == "mutt", "{said}");
    }
}

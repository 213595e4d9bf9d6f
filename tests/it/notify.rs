//! PING_URL and NOTIFY_URL, against a real HTTPS server whose certificate only the test knows
//! (spec 10, "Being told").

use crate::support::https::{Answer, Got, HttpsServer};
use crate::support::sandbox::{Outcome, Run, Sandbox};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

const SECRET: &str = "/hidden-3c8f1d";

struct Service {
    sandbox: Sandbox,
    server: HttpsServer,
}

impl Service {
    fn new(answer: Answer) -> Self {
        let (sandbox, server) = (Sandbox::new(), HttpsServer::start(answer));
        server.write_certificate(&sandbox.path("ca.pem"));
        sandbox.a.make("f one x");
        Service { sandbox, server }
    }

    fn run(&self, settings: &[(&str, &str)]) -> Outcome {
        let run = self.sandbox.quick().env("SSL_CERT_FILE", self.sandbox.path("ca.pem"));
        settings.iter().fold(run, |run: Run, (key, value)| run.env(key, value)).run()
    }

    fn url(&self) -> String {
        self.server.url(SECRET)
    }

    /// Runs with NOTIFY_URL and tells what arrived.
    fn notified(&self, settings: &[(&str, &str)]) -> Vec<Got> {
        let url = self.url();
        let run = self.run(&[&[("NOTIFY_URL", url.as_str())], settings].concat());
        self.assert_no_secret(&run);
        assert!(!run.stderr.contains("cannot notify"), "{run}");
        self.server.requests()
    }

    fn assert_no_secret(&self, run: &Outcome) {
        for text in [&run.stdout, &run.stderr, &self.sandbox.log()] {
            assert!(!text.contains(&SECRET[1..]), "{text}");
        }
    }
}

const FAILS: &[(&str, &str)] = &[("LOCAL_RUN_BEFORE_CMD", "exit 1"), ("STOP_ON_CMD_ERROR", "yes")];
const FAILS_OTHERWISE: &[(&str, &str)] =
    &[("LOCAL_RUN_BEFORE_CMD", "nonsuch"), ("STOP_ON_CMD_ERROR", "yes")];

#[test]
fn a_service_hears_when_a_run_begins_and_how_it_ends() {
    let service = Service::new(Answer::Status(200));
    let url = format!("{}?create=1", service.url());
    let mut lines = Vec::new();
    for settings in [&[][..], FAILS] {
        let run = service.run(&[&[("PING_URL", url.as_str())], settings].concat());
        service.assert_no_secret(&run);
        assert_eq!(run.status, Some(i32::from(!settings.is_empty())), "{run}");
        lines.extend(service.server.requests());
    }
    let told: Vec<&str> = lines.iter().map(|got| got.line.as_str()).collect();
    assert_eq!(
        told,
        ["/start", "", "/start", "/fail"]
            .map(|end| format!("POST {SECRET}{end}?create=1"))
            .each_ref()
    );
    assert!(lines[1].body.starts_with("1 update to the target, 1 byte in "), "{lines:?}");
    assert!(lines[3].body.contains("ended with status 1"), "{lines:?}");
    let dry = service.sandbox.quick().arg("--dry").env("PING_URL", &url).run();
    assert_eq!((dry.status, service.server.requests()), (Some(0), vec![]), "{dry}");
}

#[test]
fn a_failure_is_told_once_until_it_changes_or_is_over() {
    let service = Service::new(Answer::Status(200));
    let events = |settings: &[(&str, &str)]| -> Vec<String> {
        let got = service.notified(settings);
        got.iter().map(|got| got.json()["event"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(events(&[]), [""; 0], "all is well");
    assert_eq!(events(FAILS), ["failure"]);
    assert_eq!(events(FAILS), [""; 0], "the same again");
    assert_eq!(events(FAILS_OTHERWISE), ["failure"], "another one");
    assert_eq!(events(&[]), ["works_again"]);
    assert_eq!(events(&[]), [""; 0]);
    assert_eq!(events(FAILS), ["failure"], "it begins anew");
    // what could not be told is told the next time
    service.server.answer(Answer::Status(500));
    service.run(&[("NOTIFY_URL", &service.url())]);
    service.server.requests();
    service.server.answer(Answer::Status(204));
    assert_eq!(events(&[]), ["works_again"]);
}

#[test]
fn a_failure_is_told_once_also_where_the_initiator_is_gone() {
    let service = Service::new(Answer::Status(200));
    service.notified(&[]);
    let away = service.sandbox.path("away");
    fs::rename(&service.sandbox.a.root, &away).unwrap();
    assert_eq!(service.notified(&[]).len(), 1);
    assert_eq!(service.notified(&[]).len(), 0, "there is no state directory to remember it in");
    fs::rename(&away, &service.sandbox.a.root).unwrap();
    let got = service.notified(&[]);
    assert_eq!(got[0].json()["event"], "works_again", "{got:?}");
    assert_eq!(service.notified(&[]).len(), 0);
}

#[test]
fn warnings_conflicts_and_every_run_are_told_to_who_asks_for_them() {
    let service = Service::new(Answer::Status(200));
    let warns = ("MINIMUM_SPACE", "9999999999999");
    assert_eq!(service.notified(&[warns]).len(), 0);
    let got = service.notified(&[warns, ("NOTIFY_ON", "warning")]);
    assert_eq!(got[0].json()["event"], "warning", "{got:?}");
    assert_eq!(service.notified(&[("NOTIFY_ON", "warning")]).len(), 1, "works again");

    let hostile = "it's <both>";
    let conflict = |on: &str| {
        service.sandbox.a.write(hostile, on, 1_700_000_001);
        service.sandbox.b.write(hostile, format!("{on} x"), 1_700_000_002);
        service.notified(&[("NOTIFY_ON", on)])
    };
    assert_eq!(conflict("warning").len(), 0);
    let got = conflict("conflict");
    let told = &got[0].json()["conflicts"][0];
    assert_eq!(told["path"], hostile);
    let command = told["command"].as_str().unwrap();
    assert!(command.ends_with(r#"done 'it'\''s <both>'"#), "{command}");
    assert_eq!(service.notified(&[("NOTIFY_ON", "conflict")]).len(), 0);
    let got = service.notified(&[("NOTIFY_ON", "always")]);
    assert_eq!(got[0].json()["event"], "done");
}

#[test]
fn each_service_gets_what_it_takes() {
    for (format, line) in [
        ("json", format!("POST {SECRET}")),
        ("ntfy", format!("POST {SECRET}?title=osync%3A%20quicksync%5Ftask%20on%20")),
        ("slack", format!("POST {SECRET}")),
        ("matrix", format!("PUT {SECRET}/osync%2D")),
    ] {
        let service = Service::new(Answer::Status(200));
        let with_login = service.url().replace("https://", "https://:to%2Fken@");
        let settings = [("NOTIFY_URL", with_login.as_str()), ("NOTIFY_FORMAT", format)];
        let run = service.run(&[&settings, FAILS].concat());
        service.assert_no_secret(&run);
        let got = service.server.requests();
        assert_eq!(got.len(), 1, "{format}: {run}");
        assert!(got[0].line.starts_with(&line), "{format}: {got:?}");
        assert!(got[0].has_header("authorization: Bearer to/ken"), "{got:?}");
        assert!(got[0].body.contains("ended with status 1"), "{got:?}");
    }
}

#[test]
fn a_notification_that_cannot_be_sent_is_a_warning_and_leaves_the_status() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let service = Service::new(Answer::Status(500));
    let refused = format!("https://localhost:{closed}{SECRET}");
    let url = service.url();
    let plain = url.replace("https:", "http:");
    for (answer, url, words) in [
        (Answer::Status(500), &url, "it answers 500"),
        (Answer::Status(404), &url, "it answers 404"),
        (Answer::Status(302), &url, "it answers 302, which points somewhere else"),
        (Answer::Status(307), &url, "it answers 307, which points somewhere else"),
        (Answer::Close, &url, ""),
        (Answer::Noise, &url, "its answer is not HTTP"),
        (Answer::Status(200), &plain, ""),
        (Answer::Status(200), &refused, "refused"),
    ] {
        service.server.answer(answer);
        let run = service.run(&[("NOTIFY_URL", url.as_str()), ("NOTIFY_ON", "always")]);
        assert_eq!(run.status, Some(0), "{answer:?}: {run}");
        let line = run.stderr.lines().find(|line| line.contains("(WARN):cannot notify http"));
        let line = line.unwrap_or_else(|| panic!("{answer:?}: {run}"));
        assert!(line.contains(words) && line.contains("://localhost:"), "{answer:?}: {line}");
        assert!(run.stdout.ends_with("osync finished.\n"), "{run}");
        service.assert_no_secret(&run);
    }
}

#[test]
fn check_reaches_for_the_services_and_tells_them_nothing() {
    let service = Service::new(Answer::Status(404));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = service.url().replace("://", "://:to-ken@");
    let check = |ping: &str, notify: &str| {
        let lines = format!("PING_URL={ping}\nNOTIFY_URL={notify}\n");
        let file = service.sandbox.config("task.conf", &lines);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let ca = service.sandbox.path("ca.pem");
        let run = service.sandbox.osync().arg("check").arg(file).env("SSL_CERT_FILE", ca).run();
        service.assert_no_secret(&run);
        assert!(!run.stdout.contains("to-ken"), "{run}");
        run
    };
    let run = check(&url, &url);
    assert_eq!(run.status, Some(0), "{run}");
    for key in ["PING_URL", "NOTIFY_URL"] {
        assert!(run.stdout.contains(&format!("{key}: https://localhost:")), "{run}");
    }
    for got in service.server.requests() {
        assert_eq!((got.line.as_str(), got.body.as_str()), ("HEAD /", ""), "{got:?}");
        assert!(!format!("{got:?}").contains("authorization"), "{got:?}");
    }
    let run = check(&format!("https://localhost:{closed}{SECRET}"), &url);
    assert_eq!(run.status, Some(2), "{run}");
    assert!(run.stdout.contains("warning  PING_URL: cannot reach https://localhost:"), "{run}");
    service.server.answer(Answer::Noise);
    assert_eq!(check(&url, &url).status, Some(2));
}

#[test]
fn a_service_that_hangs_is_not_waited_for_long() {
    let service = Service::new(Answer::Hang);
    let begun = Instant::now();
    let run = service.run(&[("NOTIFY_URL", service.url().as_str()), ("NOTIFY_ON", "always")]);
    assert_eq!(run.status, Some(0), "{run}");
    assert!(run.stderr.contains("no answer within 5 seconds"), "{run}");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[test]
fn a_server_that_cannot_prove_who_it_is_gets_nothing() {
    let service = Service::new(Answer::Status(200));
    let other = HttpsServer::start(Answer::Status(200));
    other.write_certificate(&service.sandbox.path("ca.pem"));
    let run = service.run(&[("NOTIFY_URL", service.url().as_str()), ("NOTIFY_ON", "always")]);
    assert!(run.stderr.contains("invalid peer certificate"), "{run}");
    assert_eq!(service.server.requests(), []);
}

#[test]
fn proxies_of_the_environment_are_used_and_left_out_as_it_says() {
    let service = Service::new(Answer::Status(200));
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = format!("http://user:s3cretword@{}", proxy.local_addr().unwrap());
    let (send, asked) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        use std::io::{BufRead, BufReader, Write};
        for stream in proxy.incoming().flatten() {
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let lines: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let _ = send.send(lines.first().cloned().unwrap_or_default());
            let _ = (&stream).write_all(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let url = service.url();
    let settings = [("NOTIFY_URL", url.as_str()), ("NOTIFY_ON", "always"), ("HTTPS_PROXY", &at)];
    let run = service.run(&settings);
    assert_eq!(run.status, Some(0), "{run}");
    assert!(asked.try_recv().unwrap().starts_with("CONNECT localhost:"), "{run}");
    assert!(run.stderr.contains("the proxy of the environment"), "{run}");
    assert!(!run.stderr.contains("s3cretword"), "{run}");
    let run = service.run(&[&settings[..], &[("NO_PROXY", "localhost")]].concat());
    assert_eq!(service.server.requests().len(), 1, "{run}");
}

#[test]
fn a_url_that_is_none_is_refused_and_not_shown() {
    let sandbox = Sandbox::new();
    for key in ["PING_URL", "NOTIFY_URL"] {
        let run = sandbox.quick().env(key, "ftp://host/s3cretword").run();
        assert_eq!(run.status, Some(1), "{run}");
        assert!(run.stderr.contains(key) && run.stderr.contains("https://"), "{run}");
        assert!(!run.stderr.contains("s3cretword"), "{run}");
    }
}

//! Alert mails through real servers and a real `sendmail` (spec 6, "Mail").

use crate::support::smtp::{Behaviour, SmtpServer};
use osync::config::{Alerts, Secret, SmtpEncryption};
use osync::report::mail::{Letter, Occasion, Patience, send_within};
use osync::report::{Event, Level, Reporter, Tally};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Keeps what is said.
#[derive(Default)]
struct Ear(Mutex<Vec<(Level, String)>>);

impl Ear {
    fn errors(&self) -> Vec<String> {
        let said = self.0.lock().unwrap();
        said.iter().filter(|(level, _)| *level == Level::Error).map(|(_, t)| t.clone()).collect()
    }
}

impl Reporter for Ear {
    fn tell(&self, event: Event<'_>) {
        if let Event::Message(level, text) | Event::Remark(level, text) = event {
            self.0.lock().unwrap().push((level, text.to_owned()));
        }
    }
}

fn alerts(server: &SmtpServer) -> Alerts {
    Alerts {
        recipients: vec!["a@example.org,b@example.org".into()],
        always: false,
        conflicts: false,
        charset: String::new(),
        sender: Some("osync@example.org".into()),
        smtp_server: Some("127.0.0.1".into()),
        smtp_port: server.port(),
        smtp_encryption: SmtpEncryption::None,
        smtp_user: None,
        smtp_password: None,
        metrics_file: None,
    }
}

fn post(alerts: &Alerts, patience: Patience) -> Ear {
    let ear = Ear::default();
    let lines = [".a line that begins with a dot".to_owned()];
    let letter = Letter {
        task: "t",
        occasion: Occasion::Finished(None),
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
    assert_eq!(mail.subject(), "Finished run - Alert for t");
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

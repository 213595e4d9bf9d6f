use super::*;
use crate::report::Problem;
use crate::report::testing::Ear;

pub(super) fn alerts() -> Alerts {
    Alerts {
        recipients: vec!["a@example.org, b@example.org".into()],
        smtp_port: 25,
        ..Alerts::default()
    }
}

fn tally(levels: &[Level]) -> Tally {
    let mut tally = Tally::default();
    for (n, level) in levels.iter().enumerate() {
        tally.add(&Problem { level: *level, side: None, path: None, text: format!("trouble {n}") });
    }
    tally
}

#[test]
fn mails_are_sent_for_trouble_or_always_and_never_while_debugging() {
    let plain = alerts();
    let always = Alerts { always: true, ..alerts() };
    let conflicts = Alerts { conflicts: true, ..alerts() };
    let nobody = Alerts { recipients: vec![], always: true, ..alerts() };
    let (warn, error) = (Some(Level::Warn), Some(Level::Error));
    let muted = |alerts: &Alerts, debug| Alerts { muted: debug, ..alerts.clone() };
    for (name, alerts, debug, worst, conflicts_met, wanted) in [
        ("all is well", &plain, false, None, 1, false),
        ("a warning", &plain, false, warn, 0, true),
        ("an error", &plain, false, error, 0, true),
        ("an error while debugging", &plain, true, error, 0, false),
        ("always", &always, false, None, 0, true),
        ("always, while debugging", &always, true, None, 0, false),
        ("a conflict", &conflicts, false, None, 1, true),
        ("no conflict", &conflicts, false, None, 0, false),
        ("nobody to send to", &nobody, false, error, 0, false),
    ] {
        assert_eq!(is_wanted(&muted(alerts, debug), worst, conflicts_met), wanted, "{name}");
    }
}

#[test]
fn subjects_begin_as_mail_filters_know_them_and_name_the_host() {
    let (nothing, lines) = (Tally::default(), []);
    for (occasion, dry, text) in [
        (Occasion::Finished(None), false, "Finished run - Alert for t on h"),
        (Occasion::Finished(Some(Level::Warn)), false, "Finished run - Warning alert for t on h"),
        (Occasion::Finished(Some(Level::Error)), false, "Finished run - Error alert for t on h"),
        (
            Occasion::Finished(Some(Level::Critical)),
            true,
            "Finished run - Error alert for t on h (dry run)",
        ),
        (Occasion::Running, false, "Currently running - Warning alert for t on h"),
    ] {
        let letter = Letter {
            task: "t",
            occasion,
            dry,
            summed_up: "",
            tally: &nothing,
            conflicts: &[],
            lines: &lines,
            transcript: b"",
        };
        assert_eq!(subject(&letter, "h"), text);
    }
}

#[test]
fn settings_with_which_mails_would_go_astray_are_warned_of() {
    let ear = Ear::default();
    check(&alerts(), &ear);
    assert!(ear.all().is_empty(), "good settings are silent");
    let bad = Alerts {
        recipients: vec!["a@b.org nonsense,x@".into()],
        sender: Some("me".into()),
        charset: "klingon".into(),
        ..alerts()
    };
    check(&bad, &ear);
    let said = ear.all();
    for (n, word) in ["nonsense", "x@", "SENDER_MAIL: me", "klingon"].iter().enumerate() {
        assert!(said[n].0 == Level::Warn && said[n].1.contains(word), "{:?}", said[n]);
    }
}

#[test]
fn the_body_says_first_what_went_wrong() {
    let tally = tally(&[Level::Warn; 250]);
    let lines = ["TIME: 0 - one".to_owned(), "TIME: 1 - (WARN):two".to_owned()];
    let letter = Letter {
        task: "t",
        occasion: Occasion::Finished(Some(Level::Warn)),
        dry: false,
        summed_up: "",
        tally: &tally,
        conflicts: &["/a/x << >> /b/x".to_owned()],
        lines: &lines,
        transcript: b"",
    };
    let who = Who { user: "u".into(), host: "h".into(), pid: 1 };
    let text = body(&letter, &who);
    let at = |word: &str| text.find(word).unwrap_or_else(|| panic!("no {word} in {text}"));
    let order = [
        "task t on h",
        "(WARN):trouble 0\n",
        "trouble 199\n",
        "and 50 more",
        "/a/x <<",
        "(2 lines)",
        "TIME: 0 - one\n",
    ];
    assert!(order.windows(2).all(|pair| at(pair[0]) < at(pair[1])), "{text}");
    assert!(!text.contains("trouble 200"));
}

#[test]
fn the_sender_is_our_user_at_this_host_unless_set() {
    let who = Who { user: "u".into(), host: "h".into(), pid: 1 };
    let odd = Who { user: "a b".into(), host: "h_".into(), pid: 1 };
    assert_eq!(sender(Some("x@example.org"), &who).to_string(), "x@example.org");
    assert_eq!(sender(Some("nonsense"), &who).to_string(), "u@h");
    assert_eq!(sender(None, &who).to_string(), "u@h");
    assert_eq!(sender(None, &odd).to_string(), "osync@localhost");
}

#[test]
fn a_mail_is_ascii_whatever_it_says() {
    let tally = tally(&[Level::Error]);
    let lines = ["ä".repeat(2000), "é€".to_owned()];
    let plain = ["x".repeat(800), "y".repeat(500), "z".repeat(2000)];
    let letter = Letter {
        task: "tä\nsk",
        occasion: Occasion::Finished(Some(Level::Error)),
        dry: false,
        summed_up: "",
        tally: &tally,
        conflicts: &[],
        lines: &lines,
        transcript: b"the log",
    };
    let address: Address = "a@example.org".parse().unwrap();
    for (charset, header, encoded) in [
        ("", "charset=UTF-8", "=C3=A9=E2=82=AC"),
        ("ISO-8859-1", "charset=ISO-8859-1", "=E9?"),
        ("ISO-8859-15", "charset=ISO-8859-15", "=E9=A4"),
    ] {
        let charset = Charset::named(charset).unwrap();
        let mail =
            message::build(&letter, &address, std::slice::from_ref(&address), charset).unwrap();
        let text = String::from_utf8(mail).unwrap();
        assert!(text.is_ascii() && text.lines().all(|line| line.len() < 998));
        let said = text.to_ascii_lowercase().contains(&header.to_ascii_lowercase());
        assert!(said && text.contains(encoded), "{header}: {}", &text[..800]);
        assert!(text.contains("filename=\"osync.t__sk.log.gz\""), "{text}");
    }
    for lines in [&plain[..1], &plain[..2], &plain[..]] {
        let letter = Letter { lines, ..letter.clone() };
        let to = std::slice::from_ref(&address);
        let mail = message::build(&letter, &address, to, Charset::default()).unwrap();
        assert!(mail.split(|b| *b == b'\n').all(|line| line.len() < 998));
    }
}

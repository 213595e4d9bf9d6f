//! What must hold whatever stands in a mail and in the settings for it (docs/testing.md).

use super::message::build;
use super::{Charset, Letter, Occasion, Tally, sender, split};
use crate::report::{Level, Problem, Who};
use lettre::Address;

/// Recipients in the first line, a charset in the second, and behind them what a run is called
/// and says: no text becomes a header, and the whole is ASCII if the addresses are.
pub(crate) fn mail(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.splitn(3, '\n');
    let recipients = [lines.next().unwrap_or_default().to_owned()];
    let to: Vec<Address> = split(&recipients).filter_map(|text| text.parse().ok()).collect();
    for address in split(&recipients) {
        assert!(!address.is_empty() && !address.contains([' ', ',', ';', '\t', '\r']));
    }
    let charset = Charset::named(lines.next().unwrap_or_default()).unwrap_or_default();
    let said = lines.next().unwrap_or_default();
    let who = Who { user: said.to_owned(), host: said.to_owned(), pid: 1 };
    let from = sender(Some(said), &who);
    if to.is_empty() {
        return;
    }
    let mut tally = Tally::default();
    let text = said.to_owned();
    tally.add(&Problem { level: Level::Error, side: None, path: None, text });
    let lines: Vec<String> = said.lines().map(str::to_owned).collect();
    let letter = Letter {
        task: said,
        occasion: Occasion::Running,
        dry: false,
        summed_up: "",
        tally: &tally,
        conflicts: &[],
        lines: &lines,
        transcript: b"",
    };
    let Ok(mail) = build(&letter, &from, &to, charset) else { return };
    // a name of a mailbox or a domain may be anything in Unicode, and then the mail is
    let is_plain = to.iter().chain([&from]).all(|address| address.to_string().is_ascii());
    assert!(mail.is_ascii() || !is_plain);
    let end = mail.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(mail.len());
    for line in mail[..end].split(|byte| *byte == b'\n') {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        let known: [&[u8]; 9] = [
            b"From",
            b"To",
            b"Subject",
            b"Date",
            b"Message-ID",
            b"MIME-Version",
            b"Content-Type",
            b"Content-Transfer-Encoding",
            b"Auto-Submitted",
        ];
        let is_header = known.contains(&name) || line.starts_with(b" ");
        assert!(is_header, "{}", mail[..end].escape_ascii());
    }
}

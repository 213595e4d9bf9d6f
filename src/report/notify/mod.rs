//! PING_URL and NOTIFY_URL: what is told over the network (spec 10, "Being told").
//!
//! When a notification is due is decided in [`due`], what it says in [`message`], and
//! [`http`] sends it. A notification that cannot be sent is a warning in the log and leaves the
//! exit status as it is.

mod http;
mod message;

pub use message::{Happened, Note, ping_text};

use super::failure::News;
use crate::config::{NotifyFormat, NotifyOn, Secret};
use message::Request;

/// The state of a run that a ping tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ping {
    /// It begins.
    Start,
    /// It did what it is for.
    Success,
    /// It did not.
    Fail,
}

/// Tells the service at PING_URL how a run does; `text` is what it shows.
///
/// # Errors
/// Why it could not be told, without the secret parts of the URL.
pub fn ping(url: &Secret, ping: Ping, text: &str) -> Result<(), String> {
    let suffix = match ping {
        Ping::Start => "/start",
        Ping::Success => "",
        Ping::Fail => "/fail",
    };
    let request = Request::post(message::below(url.reveal(), suffix), text.to_owned());
    http::send(&request).map_err(|why| format!("cannot ping {}: {why}", message::host(url)))
}

/// Sends a notification to NOTIFY_URL.
///
/// # Errors
/// As [`ping`].
pub fn notify(url: &Secret, format: NotifyFormat, note: &Note) -> Result<(), String> {
    let request = message::request(url.reveal(), format, note);
    http::send(&request).map_err(|why| format!("cannot notify {}: {why}", message::host(url)))
}

/// Whether a run is worth a notification, and which. Pure.
#[must_use]
pub fn due(on: NotifyOn, news: News, status: u8, conflicts: usize) -> Option<Happened> {
    let conflicts_count = conflicts > 0 && matches!(on, NotifyOn::Conflict | NotifyOn::Always);
    match news {
        News::Failure if counts_as_failure(NotifyOn::Error, status) => Some(Happened::Failed),
        News::Failure => Some(Happened::Warned),
        News::WorksAgain => Some(Happened::WorksAgain),
        News::None if conflicts_count => Some(Happened::Conflicts),
        News::None if on == NotifyOn::Always && status == 0 => Some(Happened::Done),
        News::None => None,
    }
}

/// Whether a run with this exit status is a failure to whoever wants to hear of that.
#[must_use]
pub fn counts_as_failure(on: NotifyOn, status: u8) -> bool {
    match status {
        0 => false,
        2 => on != NotifyOn::Error,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_told_if_somebody_wants_to_hear_of_it() {
        use NotifyOn::{Always, Conflict, Error, Warning};
        for (on, news, status, conflicts, expected) in [
            (Error, News::None, 0, 0, None),
            (Error, News::Failure, 1, 0, Some(Happened::Failed)),
            (Error, News::None, 1, 0, None),
            (Error, News::WorksAgain, 0, 0, Some(Happened::WorksAgain)),
            (Error, News::None, 0, 3, None),
            (Warning, News::Failure, 2, 0, Some(Happened::Warned)),
            (Warning, News::None, 2, 3, None),
            (Conflict, News::None, 0, 3, Some(Happened::Conflicts)),
            (Conflict, News::None, 0, 0, None),
            (Always, News::None, 0, 0, Some(Happened::Done)),
            (Always, News::None, 0, 3, Some(Happened::Conflicts)),
            // it was told before
            (Always, News::None, 1, 0, None),
        ] {
            assert_eq!(due(on, news, status, conflicts), expected, "{on:?} {news:?} {status}");
        }
        let failures = |on| [0, 1, 2, 128].map(|status| counts_as_failure(on, status));
        assert_eq!(failures(Error), [false, true, false, true]);
        assert_eq!(failures(Warning), [false, true, true, true]);
    }
}

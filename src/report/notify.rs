//! PING_URL and NOTIFY_URL: what is told over the network (spec 10, "Being told").
//!
//! When a notification is due, what it says in each format, and the one HTTP request that sends
//! it: TLS is verified against the certificates of this machine (SSL_CERT_FILE, SSL_CERT_DIR),
//! and proxies come from the environment. A notification that cannot be sent is a warning in the
//! log and leaves the exit status as it is.

use super::failure::News;
use super::words::counted;
use crate::config::{NotifyFormat, NotifyOn, Secret};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Error};

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
    let request = Request::post(below(url.reveal(), suffix), text.to_owned());
    send(&request).map_err(|why| format!("cannot ping {}: {why}", host(url)))
}

/// Sends a notification to NOTIFY_URL.
///
/// # Errors
/// As [`ping`].
pub fn notify(url: &Secret, format: NotifyFormat, note: &Note) -> Result<(), String> {
    let request = request(url.reveal(), format, note);
    send(&request).map_err(|why| format!("cannot notify {}: {why}", host(url)))
}

/// Whether the host of PING_URL or NOTIFY_URL can be reached and proves who it is, without telling
/// it anything: it is asked for its front page, and the URL itself stays unused
/// (`osync check`).
///
/// # Errors
/// As [`ping`].
pub fn reach(url: &Secret) -> Result<String, String> {
    let host = host(url);
    let front = format!("{host}/");
    match agent(&front).head(&front).call() {
        Ok(_) => Ok(format!("{host} answers")),
        Err(error) => Err(format!("cannot reach {host}: {}", words(&error))),
    }
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

/// So many problems and conflicts are listed.
const LISTED: usize = 10;
/// Services take some kilobytes.
const LONGEST: usize = 4000;

/// Why somebody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// A run failed.
    Failed,
    /// A run was done, with warnings.
    Warned,
    /// What was told before is over.
    WorksAgain,
    /// A run had to decide conflicts.
    Conflicts,
    /// A run is done.
    Done,
}

/// What is to be told of a run.
#[derive(Debug, Clone)]
pub struct Note {
    /// Why.
    pub happened: Happened,
    /// INSTANCE_ID.
    pub task: String,
    /// This machine.
    pub host: String,
    /// The exit status.
    pub status: u8,
    /// What the run did, in a line.
    pub summed_up: String,
    /// What went wrong, the first lines.
    pub problems: Vec<String>,
    /// How much went wrong in all.
    pub problem_count: u64,
    /// Paths of conflicts, each with the command that settles it.
    pub conflicts: Vec<(String, String)>,
    /// Something for the service to tell one message from another.
    pub id: String,
}

impl Note {
    fn title(&self) -> String {
        let Note { task, host, .. } = self;
        let what = match self.happened {
            Happened::Failed => "failed".to_owned(),
            Happened::Warned => "has warnings".to_owned(),
            Happened::WorksAgain => "works again".to_owned(),
            Happened::Conflicts if self.conflicts.len() == 1 => "has a conflict".to_owned(),
            Happened::Conflicts => format!("has {} conflicts", self.conflicts.len()),
            Happened::Done => "is done".to_owned(),
        };
        format!("osync: {task} on {host} {what}")
    }

    fn word(&self) -> &'static str {
        match self.happened {
            Happened::Failed => "failure",
            Happened::Warned => "warning",
            Happened::WorksAgain => "works_again",
            Happened::Conflicts => "conflict",
            Happened::Done => "done",
        }
    }

    /// The text under the title: what was done, what went wrong, which conflicts wait and how
    /// each is settled.
    fn text(&self) -> String {
        let mut lines = vec![self.summed_up.clone()];
        lines.extend(self.problems.iter().take(LISTED).cloned());
        let more = self.problem_count.saturating_sub(self.problems.len().min(LISTED) as u64);
        if more > 0 {
            lines.push(format!("… and {}", counted(more, "more problem")));
        }
        for (path, command) in self.conflicts.iter().take(LISTED) {
            lines.push(format!("conflict on {path}; once it is settled: {command}"));
        }
        let more = self.conflicts.len().saturating_sub(LISTED);
        if more > 0 {
            lines.push(format!("… and {}", counted(more as u64, "more conflict")));
        }
        lines.retain(|line| !line.is_empty());
        shortened(lines.join("\n"))
    }
}

/// The body of a ping: the line that sums the run up, and what went wrong.
#[must_use]
pub fn ping_text(summed_up: &str, problems: &[String]) -> String {
    let mut text = summed_up.to_owned();
    for problem in problems {
        text.push('\n');
        text.push_str(problem);
    }
    shortened(text)
}

fn shortened(mut text: String) -> String {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// How a request is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Post,
    Put,
}

/// A request as it goes out. Has no `Debug`: it holds secrets.
pub(super) struct Request {
    pub method: Method,
    pub url: String,
    pub authorization: Option<String>,
    pub content_type: &'static str,
    pub body: String,
}

impl Request {
    /// A text for a URL. What stands before an `@` in it is for a header.
    pub(super) fn post(url: String, body: String) -> Self {
        let (url, authorization) = without_login(&url);
        let content_type = "text/plain; charset=utf-8";
        Request { method: Method::Post, url, authorization, content_type, body }
    }

    fn json(url: String, value: &Value) -> Self {
        let content_type = "application/json";
        Request { content_type, ..Request::post(url, value.to_string()) }
    }
}

/// A notification in the format of a service.
pub(super) fn request(url: &str, format: NotifyFormat, note: &Note) -> Request {
    let (title, text) = (note.title(), note.text());
    match format {
        NotifyFormat::Json => Request::json(
            url.to_owned(),
            &json!({
                "title": title,
                "text": text,
                "event": note.word(),
                "task": note.task,
                "host": note.host,
                "status": note.status,
                "summary": note.summed_up,
                "problem_count": note.problem_count,
                "problems": note.problems,
                "conflicts": note.conflicts.iter().map(|(path, command)| {
                    json!({ "path": path, "command": command })
                }).collect::<Vec<_>>(),
            }),
        ),
        // in the query: a header takes no umlauts
        NotifyFormat::Ntfy => {
            let priority = if note.happened == Happened::Failed { "high" } else { "default" };
            let title = utf8_percent_encode(&title, NON_ALPHANUMERIC);
            let query = format!("title={title}&priority={priority}");
            Request::post(with_query(url, &query), text)
        }
        NotifyFormat::Slack => {
            let escaped =
                |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            let text = format!("*{}*\n{}", escaped(&title), escaped(&text));
            let value = json!({ "text": text, "unfurl_links": false, "unfurl_media": false });
            Request::json(url.to_owned(), &value)
        }
        NotifyFormat::Matrix => {
            const SEGMENT: &AsciiSet = NON_ALPHANUMERIC;
            let id = utf8_percent_encode(&note.id, SEGMENT);
            let value = json!({ "msgtype": "m.text", "body": format!("{title}\n{text}") });
            let request = Request::json(below(url, &format!("/{id}")), &value);
            Request { method: Method::Put, ..request }
        }
    }
}

/// A URL with more behind its path.
pub(super) fn below(url: &str, suffix: &str) -> String {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let path = if suffix.is_empty() { path } else { path.trim_end_matches('/') };
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    format!("{path}{suffix}{query}")
}

fn with_query(url: &str, query: &str) -> String {
    let sign = if url.contains('?') { '&' } else { '?' };
    format!("{url}{sign}{query}")
}

/// Where a URL's host begins and ends.
fn authority(url: &str) -> (usize, usize) {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    (start, end)
}

/// The URL without `user:password@` or `:token@`, and the header that stands for it.
fn without_login(url: &str) -> (String, Option<String>) {
    let (start, end) = authority(url);
    let Some((login, host)) = url[start..end].rsplit_once('@') else {
        return (url.to_owned(), None);
    };
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let header = match login.split_once(':') {
        Some(("", token)) => format!("Bearer {}", decoded(token)),
        Some((user, password)) => {
            let both = format!("{}:{}", decoded(user), decoded(password));
            format!("Basic {}", STANDARD.encode(both))
        }
        None => format!("Basic {}", STANDARD.encode(format!("{}:", decoded(login)))),
    };
    (format!("{}{host}{}", &url[..start], &url[end..]), Some(header))
}

/// The part of a URL that is no secret: its scheme and host.
pub(super) fn host(url: &Secret) -> String {
    let (url, _) = without_login(url.reveal());
    let (_, end) = authority(&url);
    url[..end].to_owned()
}

/// For the connection.
const CONNECTING: Duration = Duration::from_secs(3);
/// For everything.
const TOTAL: Duration = Duration::from_secs(5);

/// Sends a request; any answer that begins with 2 is a good one.
pub(super) fn send(request: &Request) -> Result<(), String> {
    let agent = agent(&request.url);
    let builder = match request.method {
        Method::Post => agent.post(&request.url),
        Method::Put => agent.put(&request.url),
    };
    let mut builder = builder.header("Content-Type", request.content_type);
    if let Some(authorization) = &request.authorization {
        builder = builder.header("Authorization", authorization);
    }
    let answer = builder.send(request.body.as_str()).map_err(|error| words(&error))?;
    match answer.status().as_u16() {
        200..300 => Ok(()),
        // to follow it would hand the secret of the URL on to somebody else
        number @ 300..400 => Err(format!(
            "it answers {number}, which points somewhere else; set the URL that it points at"
        )),
        number => Err(format!("it answers {number}")),
    }
}

fn agent(url: &str) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_connect(Some(CONNECTING))
        .timeout_resolve(Some(CONNECTING))
        .timeout_global(Some(TOTAL))
        .user_agent(concat!("osync/", env!("CARGO_PKG_VERSION")));
    let config = if url.starts_with("https:") { config.tls_config(tls()) } else { config };
    config.build().new_agent()
}

/// Reading the machine's certificates takes some milliseconds, so only who needs them does.
fn tls() -> TlsConfig {
    let found = rustls_native_certs::load_native_certs();
    let certificates: Vec<Certificate<'static>> =
        found.certs.iter().map(|found| Certificate::from_der(found).to_owned()).collect();
    TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::from(certificates))
        .build()
}

/// What went wrong. The library's own words may hold the URL.
fn words(error: &Error) -> String {
    match error {
        Error::Timeout(_) => format!("no answer within {} seconds", TOTAL.as_secs()),
        Error::HostNotFound => "there is no such host".to_owned(),
        Error::Io(cause) => format!("{cause}"),
        Error::Rustls(cause) => format!("{cause}"),
        Error::Tls(what) => (*what).to_owned(),
        Error::ConnectProxyFailed(_) | Error::InvalidProxyUrl => {
            "the proxy of the environment cannot be used".to_owned()
        }
        Error::BadUri(_) | Error::Http(_) => "the URL is not valid".to_owned(),
        Error::Protocol(_) => "its answer is not HTTP".to_owned(),
        _ => "the connection failed".to_owned(),
    }
}

#[cfg(test)]
mod due_tests {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn note() -> Note {
        Note {
            happened: Happened::Conflicts,
            task: "päper <1>".into(),
            host: "box".into(),
            status: 0,
            summed_up: "1 conflict in 0.1 s".into(),
            problems: vec!["target: a & b".into()],
            problem_count: 3,
            conflicts: vec![("a b".into(), "osync conflicts t.conf done 'a b'".into())],
            id: "run/7".into(),
        }
    }

    const TITLE: &str = "osync: päper <1> on box has a conflict";
    const TEXT: &str = "1 conflict in 0.1 s\ntarget: a & b\n… and 2 more problems\n\
                        conflict on a b; once it is settled: osync conflicts t.conf done 'a b'";

    #[test]
    fn each_format_is_what_its_service_takes() {
        let url = "https://u%40x:p@h:8/room?k=v";
        let of = |format| request(url, format, &note());
        let value = |request: &Request| serde_json::from_str::<Value>(&request.body).unwrap();

        let json = of(NotifyFormat::Json);
        assert_eq!(json.url, "https://h:8/room?k=v");
        assert_eq!(json.authorization.as_deref(), Some("Basic dUB4OnA="));
        assert_eq!((&value(&json)["title"], &value(&json)["text"]), (&TITLE.into(), &TEXT.into()));
        assert_eq!(value(&json)["conflicts"][0]["path"], "a b");

        let ntfy = of(NotifyFormat::Ntfy);
        let title = "osync%3A%20p%C3%A4per%20%3C1%3E%20on%20box%20has%20a%20conflict";
        assert_eq!(ntfy.url, format!("https://h:8/room?k=v&title={title}&priority=default"));
        assert_eq!(ntfy.body, TEXT);

        let slack = value(&of(NotifyFormat::Slack));
        let expected = format!("*{TITLE}*\n{TEXT}").replace('&', "&amp;");
        let expected = expected.replace('<', "&lt;").replace('>', "&gt;");
        assert_eq!(slack["text"], expected);

        let matrix = of(NotifyFormat::Matrix);
        assert_eq!(
            (matrix.method, matrix.url.as_str()),
            (Method::Put, "https://h:8/room/run%2F7?k=v")
        );
        assert_eq!(value(&matrix)["body"], format!("{TITLE}\n{TEXT}"));
    }

    #[test]
    fn urls_are_taken_apart_and_tell_only_their_host() {
        for (url, start, shown) in [
            ("https://hc/uuid", "https://hc/uuid/start", "https://hc"),
            ("https://hc/uuid/?a=b", "https://hc/uuid/start?a=b", "https://hc"),
            ("http://:tok@[::1]:80/x", "http://:tok@[::1]:80/x/start", "http://[::1]:80"),
            ("http://user@h?q=@x", "http://user@h/start?q=@x", "http://h"),
        ] {
            assert_eq!(below(url, "/start"), start);
            assert_eq!(host(&Secret::new(url)), shown);
        }
        assert_eq!(below("https://hc/uuid/", ""), "https://hc/uuid/");
        let bearer = Request::post("http://:tok@h/x".into(), String::new());
        assert_eq!(bearer.authorization.as_deref(), Some("Bearer tok"));
    }

    #[test]
    fn long_texts_are_cut() {
        let long = Note { summed_up: "ä".repeat(5000), ..note() };
        assert!(long.text().len() <= LONGEST + 3 && long.text().ends_with('…'));
    }
}

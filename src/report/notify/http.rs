//! One request over HTTP: TLS is verified against the certificates of this machine
//! (SSL_CERT_FILE, SSL_CERT_DIR), proxies come from the environment, nothing is waited for long.

use super::message::{Method, Request};
use std::sync::Arc;
use std::time::Duration;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Error};

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
        Error::BadUri(_) | Error::Http(_) => "the URL is none".to_owned(),
        Error::Protocol(_) => "its answer is no HTTP".to_owned(),
        _ => "the connection failed".to_owned(),
    }
}

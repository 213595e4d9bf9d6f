//! Mail through an SMTP server.

use super::Patience;
use crate::config::{Alerts, Secret, SmtpEncryption};
use lettre::Address;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{SmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use std::error::Error as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// How to reach a server; lives on its own thread.
struct Server {
    host: String,
    port: u16,
    encryption: SmtpEncryption,
    user: Option<String>,
    password: Option<Secret>,
    step: Duration,
    /// From here on the server may have the mail.
    is_reached: Arc<AtomicBool>,
}

/// Why a mail was not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nothing was handed over: no connection, no encryption as asked for, no login.
    NotReached(String),
    /// The server would not take it, or it is not known whether it did.
    Refused(String),
}

impl Failure {
    fn with(self, place: &str) -> Failure {
        match self {
            Failure::NotReached(why) => Failure::NotReached(format!("mail server {place}: {why}")),
            Failure::Refused(why) => Failure::Refused(format!("mail server {place}: {why}")),
        }
    }
}

/// Sends a mail and says which recipients were refused, and why, while others were not.
pub(super) fn send(
    host: &str,
    alerts: &Alerts,
    from: &Address,
    to: &[Address],
    mail: Vec<u8>,
    patience: Patience,
) -> Result<Vec<String>, Failure> {
    let (from, to) = (from.clone(), to.to_vec());
    within(host, alerts, patience, move |server| server.deliver(&from, &to, &mail))
}

/// Connects and logs in as for a mail, and sends none.
pub(super) fn reach(host: &str, alerts: &Alerts, patience: Patience) -> Result<(), String> {
    let reached = within(host, alerts, patience, |server| {
        server.reached().map(|mut connection| connection.abort())
    });
    reached.map_err(|(Failure::NotReached(why) | Failure::Refused(why))| why)
}

/// The work is done on a thread that is left alone when the total time is up: name
/// resolution and a server that dribbles obey no time limit of a socket.
fn within<T: Send + 'static>(
    host: &str,
    alerts: &Alerts,
    patience: Patience,
    work: impl FnOnce(&Server) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let server = Server {
        host: host.to_owned(),
        port: alerts.smtp_port,
        encryption: alerts.smtp_encryption,
        user: alerts.smtp_user.clone(),
        password: alerts.smtp_password.clone(),
        step: patience.step,
        is_reached: Arc::default(),
    };
    let is_reached = Arc::clone(&server.is_reached);
    let (done, result) = mpsc::channel();
    let place = format!("{host}:{}", alerts.smtp_port);
    let deliver = move || {
        let _ = done.send(work(&server));
    };
    std::thread::Builder::new()
        .name("mail".into())
        .spawn(deliver)
        .map_err(|e| Failure::NotReached(format!("cannot start a thread: {e}")))?;
    let done = result.recv_timeout(patience.total).unwrap_or_else(|_| {
        let why = format!("not done after {} s", patience.total.as_secs());
        match is_reached.load(Ordering::SeqCst) {
            true => Err(Failure::Refused(why)),
            false => Err(Failure::NotReached(why)),
        }
    });
    done.map_err(|failure| failure.with(&place))
}

impl Server {
    fn deliver(&self, from: &Address, to: &[Address], mail: &[u8]) -> Result<Vec<String>, Failure> {
        let mut connection = self.reached()?;
        self.is_reached.store(true, Ordering::SeqCst);
        let refused = self.hand_over(&mut connection, from, to, mail);
        connection.abort();
        refused.map_err(Failure::Refused)
    }

    fn reached(&self) -> Result<SmtpConnection, Failure> {
        self.connect().map_err(|e| Failure::NotReached(self.explain(&e)))
    }

    /// A connection that is encrypted and logged in as the settings say.
    fn connect(&self) -> Result<SmtpConnection, Error> {
        let hello = ClientId::default();
        let tls = || TlsParameters::new(self.host.clone());
        let implicit = match self.encryption {
            SmtpEncryption::Ssl => Some(tls()?),
            SmtpEncryption::None | SmtpEncryption::Tls => None,
        };
        let address = (self.host.as_str(), self.port);
        let mut connection =
            SmtpConnection::connect(address, Some(self.step), &hello, implicit.as_ref(), None)?;
        if self.encryption == SmtpEncryption::Tls {
            connection.starttls(&tls()?, &hello)?;
        }
        if let Some(user) = &self.user {
            let password = self.password.as_ref().map_or("", Secret::reveal);
            let credentials = Credentials::new(user.clone(), password.to_owned());
            connection.auth(DEFAULT_MECHANISMS, &credentials)?;
        }
        Ok(connection)
    }

    /// One refused recipient must not keep the others from their mail.
    fn hand_over(
        &self,
        connection: &mut SmtpConnection,
        from: &Address,
        to: &[Address],
        mail: &[u8],
    ) -> Result<Vec<String>, String> {
        let explain = |e: Error| self.explain(&e);
        connection.command(Mail::new(Some(from.clone()), vec![])).map_err(explain)?;
        let mut refused = Vec::new();
        for address in to {
            match connection.command(Rcpt::new(address.clone(), vec![])) {
                Ok(_) => {}
                Err(e) if e.status().is_some() => {
                    refused.push(format!("{address}: {}", self.explain(&e)));
                }
                Err(e) => return Err(self.explain(&e)),
            }
        }
        if refused.len() == to.len() {
            return Err(refused.join("; "));
        }
        connection.command(Data).map_err(explain)?;
        connection.message(mail).map_err(explain)?;
        Ok(refused)
    }

    /// What an error means, with what to do about it where that is known.
    fn explain(&self, error: &Error) -> String {
        if error.is_timeout() || blocked(error) {
            return format!("no answer within {} s", self.step.as_secs());
        }
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            let more = inner.to_string();
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            cause = inner.source();
        }
        if text.contains("STARTTLS is not supported") {
            text.push_str("; set SMTP_ENCRYPTION to none or ssl, as the server has it");
        } else if text.contains("certificate") {
            text.push_str(
                "; its certificate must be signed by an authority this machine knows \
                 (or that is in the file SSL_CERT_FILE names) and hold the name SMTP_SERVER",
            );
        }
        text
    }
}

/// A read that timed out shows as "would block".
fn blocked(error: &Error) -> bool {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind::{TimedOut, WouldBlock};
            if matches!(io.kind(), WouldBlock | TimedOut) {
                return true;
            }
        }
        cause = inner.source();
    }
    false
}

//! The two ways that a mail takes: an SMTP server, or a program of this machine (`sendmail`, else
//! `mutt`, else `mail`).

use super::Patience;
use crate::config::{Alerts, Secret, SmtpEncryption};
use crate::process::{self, Command, Exit, Input, Stop};
use lettre::Address;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{SmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use std::error::Error as _;
use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// How to reach a server.
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

/// Works on a thread that is abandoned when the total time is up: no time limit of a socket
/// holds for name resolution, or for a server that sends a byte now and then.
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

/// A mail in the forms that local programs take it.
pub(super) struct LocalMail<'a> {
    /// Who it is from.
    pub from: &'a Address,
    /// Who it is for.
    pub to: &'a [Address],
    /// The subject, one line.
    pub subject: &'a str,
    /// The text alone.
    pub text: &'a str,
    /// The attached log, gzipped, and its name.
    pub attachment: Option<(&'a str, &'a [u8])>,
    /// All of it, with headers and attachment.
    pub whole: &'a [u8],
}

/// A program that sends mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mailer {
    kind: MailProgram,
    /// Where it is.
    pub program: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MailProgram {
    Sendmail,
    Mutt,
    Mail,
}

impl MailProgram {
    /// In the order of what each can carry: `mail` knows no attachments.
    const ALL: [(MailProgram, &'static str); 3] = [
        (MailProgram::Sendmail, "sendmail"),
        (MailProgram::Mutt, "mutt"),
        (MailProgram::Mail, "mail"),
    ];
}

impl Mailer {
    /// The best of this machine.
    pub(super) fn of_this_machine() -> Option<Mailer> {
        Mailer::find(&std::env::var_os("PATH").unwrap_or_default())
    }

    /// The best in these directories, or where `sendmail` often is out of PATH.
    fn find(path: &OsStr) -> Option<Mailer> {
        MailProgram::ALL.into_iter().find_map(|(kind, name)| {
            let usual = if kind == MailProgram::Sendmail { "/usr/sbin:/usr/lib" } else { "" };
            let mut found = [path, OsStr::new(usual)].into_iter().flat_map(|path| {
                process::programs(OsStr::new(name), path).filter(|program| program.is_absolute())
            });
            Some(Mailer { kind, program: found.next()? })
        })
    }

    /// Sends a mail.
    ///
    /// # Errors
    /// Why it was not taken.
    pub(super) fn send(&self, mail: &LocalMail<'_>, patience: Patience) -> Result<(), String> {
        let command = Command::new(&self.program);
        match self.kind {
            MailProgram::Sendmail => {
                let command = command.args(["-oi", "-f", mail.from.as_ref(), "--"]);
                let command = command.args(mail.to.iter().map(Address::to_string));
                // local programs take plain line ends
                let text: Vec<u8> = mail.whole.iter().copied().filter(|b| *b != b'\r').collect();
                self.run(command, &text, patience)
            }
            MailProgram::Mutt => {
                let held = mail
                    .attachment
                    .map(|(name, bytes)| Attached::new(name, bytes))
                    .transpose()
                    .map_err(|e| format!("{}: cannot write the attachment: {e}", self.shown()))?;
                // -n, -F: without the user's own settings of mutt
                let mut command = command.args(["-n", "-F", "/dev/null", "-s", mail.subject]);
                command = command.env("EMAIL", mail.from.to_string());
                if let Some(attached) = &held {
                    command = command.arg("-a").arg(&attached.file);
                }
                let command = command.arg("--").args(mail.to.iter().map(Address::to_string));
                self.run(command, mail.text.as_bytes(), patience)
            }
            MailProgram::Mail => {
                // no "--": some take what follows it for options of sendmail
                let plain =
                    mail.to.iter().map(Address::to_string).filter(|to| !to.starts_with('-'));
                let command = command.args(["-s", mail.subject]).args(plain);
                self.run(command, mail.text.as_bytes(), patience)
            }
        }
    }

    fn run(&self, mut command: Command, input: &[u8], patience: Patience) -> Result<(), String> {
        command.time_limit = Some(patience.total);
        command.grace = Some(Duration::from_secs(2));
        let name = self.shown();
        let output = process::output(&command, Input::Bytes(input), &Stop::new())
            .map_err(|e| e.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr);
        let said = match said.trim() {
            "" => String::new(),
            words => format!(": {words}"),
        };
        match output.exit {
            Exit::Code(0) => Ok(()),
            Exit::Code(status) => Err(format!("{name} ended with status {status}{said}")),
            Exit::TimedOut => {
                Err(format!("{name}: not done after {} s{said}", patience.total.as_secs()))
            }
            Exit::Signal(signal) => Err(format!("{name} was ended by signal {signal}{said}")),
            Exit::Stopped(_) => Err(format!("{name} was stopped")),
        }
    }

    fn shown(&self) -> String {
        self.program.display().to_string()
    }
}

/// A file that `mutt` attaches under its name; gone when this is dropped.
struct Attached {
    _dir: tempfile::TempDir,
    file: PathBuf,
}

impl Attached {
    fn new(name: &str, bytes: &[u8]) -> io::Result<Attached> {
        let dir = tempfile::Builder::new().prefix("osync-mail-").tempdir()?;
        let file = dir.path().join(name);
        std::fs::write(&file, bytes)?;
        Ok(Attached { _dir: dir, file })
    }
}

#[cfg(test)]
mod local_tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    #[test]
    fn the_program_that_can_carry_most_is_found_where_it_can_be_run() {
        let dir = tempfile::tempdir().unwrap();
        let put = |place: &str, name: &str, mode: u32| {
            let file = dir.path().join(place).join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "#!/bin/sh\n").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            file
        };
        let search = ["plain", "good"].map(|place| dir.path().join(place));
        let find = || {
            // the machine of the test may have a sendmail of its own out of PATH
            Mailer::find(&std::env::join_paths(&search).unwrap())
                .filter(|found| found.program.starts_with(dir.path()))
                .map(|found| found.program)
        };
        let own =
            Path::new("/usr/sbin/sendmail").exists() || Path::new("/usr/lib/sendmail").exists();
        put("plain", "sendmail", 0o644);
        let mail = put("good", "mail", 0o755);
        assert!(own || find() == Some(mail));
        let mutt = put("plain", "mutt", 0o755);
        assert!(own || find() == Some(mutt));
        let sendmail = put("good", "sendmail", 0o755);
        assert_eq!(find(), Some(sendmail));
    }
}

//! `osync rsh`: a remote shell of our own for machines without an ssh client (spec 5,
//! "Second transport"). It stands where `ssh` stands: the control shell and rsync run it
//! as a child and talk to the other side through its standard input and output.
//!
//! It speaks like ssh, too: the remote command's exit status is its own, 255 means that
//! the connection failed, and the reason stands on standard error in ssh's words.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod host_key;
mod login;
mod options;
mod pump;

use crate::tree::path::with_home;
use host_key::Trust;
use login::login;
use options::{Family, Options};
use rustix::net::sockopt;
use ssh2::{Channel, MethodType, Session};
use std::ffi::{OsStr, OsString};
use std::io;
use std::io::Write;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What a failed connection exits with, as ssh does.
const FAILED: u8 = 255;

/// Why there is no connection, or none any more; the text may have several lines.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failure(String);

/// Connects, runs the remote command and returns the exit status. `words` are what stands
/// behind `osync rsh`.
#[must_use]
pub fn main(words: &[OsString]) -> u8 {
    match run(words) {
        Ok(status) => status,
        Err(failure) => {
            // standard error may be closed
            let _ = writeln!(std::io::stderr().lock(), "{failure}");
            FAILED
        }
    }
}

fn run(words: &[OsString]) -> Result<u8, Failure> {
    let options = Options::parse(words).map_err(|why| Failure(format!("osync rsh: {why}")))?;
    let account = Account::ours();
    let user = options.user.clone().or_else(|| account.name.clone()).ok_or_else(|| {
        Failure("osync rsh: this user has no name; write ssh://user@host/…".to_owned())
    })?;
    let line = connect(&options)?;
    let trust = Trust::load(&options, &account);
    let session = handshake(&options, &line, &trust)?;
    trust.verify(&session)?;
    login(&session, &user, &options, &account)?;
    let channel = start(&session, &options)?;
    pump::Pump::new(session, channel, line, &options)?.run()
}

/// What keeps these settings from working over this transport, if anything does. For whoever
/// wants to know before a connection is tried.
pub(super) fn objection(words: &[OsString]) -> Option<String> {
    let mut whole = words.to_vec();
    whole.extend(["host".into(), "command".into()]);
    match Options::parse(&whole) {
        Ok(options) if options.host == "host" && options.command == "command" => None,
        Ok(options) => Some(format!("SSH_OPTIONAL_ARGS: '{}' is not an option", options.host)),
        Err(why) => Some(why),
    }
}

/// Connects to the first address of the host that answers.
fn connect(options: &Options) -> Result<Line, Failure> {
    let (host, port) = (options.host.as_str(), options.port);
    let found = (host, port).to_socket_addrs().map_err(|cause| {
        Failure(format!(
            "osync rsh: Could not resolve hostname {host}: {} (aliases of ssh_config are not \
             known to libssh2)",
            plain(&cause)
        ))
    })?;
    let addresses = found.filter(|address| fits(address, options.family));
    let mut last = "it has no address of the wanted family".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, options.connect_timeout) {
            Ok(socket) => {
                // a request and its answer each are one small packet
                let _ = socket.set_nodelay(true);
                let _ = sockopt::set_socket_keepalive(&socket, true);
                return Ok(Line { socket, host: host.to_owned(), port });
            }
            Err(cause) => last = plain(&cause),
        }
    }
    Err(Failure(format!("osync rsh: connect to host {host} port {port}: {last}")))
}

fn fits(address: &SocketAddr, family: Family) -> bool {
    match family {
        Family::Any => true,
        Family::V4 => address.is_ipv4(),
        Family::V6 => address.is_ipv6(),
    }
}

/// The system's words without its number.
fn plain(cause: &io::Error) -> String {
    if cause.kind() == io::ErrorKind::TimedOut {
        return "Connection timed out".to_owned();
    }
    let text = cause.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.strip_prefix("failed to lookup address information: ").unwrap_or(text).to_owned()
}

/// Agrees with the server on keys and ciphers.
fn handshake(options: &Options, line: &Line, trust: &Trust) -> Result<Session, Failure> {
    let failed = |cause: &ssh2::Error| line.closed(cause);
    let mut session = Session::new().map_err(|cause| failed(&cause))?;
    let socket = line.socket.try_clone().map_err(|cause| Failure(format!("osync rsh: {cause}")))?;
    session.set_tcp_stream(socket);
    session.set_blocking(true);
    session.set_timeout(u32::try_from(options.connect_timeout.as_millis()).unwrap_or(u32::MAX));
    session.set_compress(options.compress);
    let kinds = trust.wanted_kinds(&session);
    session.method_pref(MethodType::HostKey, &kinds).map_err(|cause| failed(&cause))?;
    session.handshake().map_err(|cause| failed(&cause))?;
    Ok(session)
}

/// Starts the remote command.
fn start(session: &Session, options: &Options) -> Result<Channel, Failure> {
    let refused = |cause: ssh2::Error| {
        Failure(format!(
            "osync rsh: {} does not start the remote command: {}",
            options.host,
            cause.message()
        ))
    };
    let mut channel = session.channel_session().map_err(refused)?;
    channel.exec(&options.command).map_err(refused)?;
    Ok(channel)
}

/// An established connection.
#[derive(Debug)]
pub(super) struct Line {
    /// Its socket; libssh2 holds another handle to it.
    pub socket: TcpStream,
    /// Where it leads, as the user named it.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Line {
    /// The connection ended before the command ran.
    fn closed(&self, cause: &ssh2::Error) -> Failure {
        let (host, port) = (&self.host, self.port);
        Failure(match code(cause) {
            TIMEOUT => {
                format!("Connection timed out during banner exchange with {host} port {port}")
            }
            _ if is_gone(cause) => format!("Connection closed by {host} port {port}"),
            _ => format!("osync rsh: {host} port {port}: {}", cause.message()),
        })
    }

    /// The connection ended while the command ran.
    fn broken(&self, why: &str) -> Failure {
        Failure(format!("Connection reset by {} port {}: {why}", self.host, self.port))
    }

    /// The other side has been silent for too long.
    fn silent(&self) -> Failure {
        Failure(format!("Timeout, server {} not responding.", self.host))
    }
}

/// `LIBSSH2_ERROR_TIMEOUT`
pub(super) const TIMEOUT: i32 = -9;
/// `LIBSSH2_ERROR_EAGAIN`
pub(super) const AGAIN: i32 = -37;

/// libssh2's number of an error.
pub(super) fn code(error: &ssh2::Error) -> i32 {
    match error.code() {
        ssh2::ErrorCode::Session(code) | ssh2::ErrorCode::SFTP(code) => code,
    }
}

/// Whether the socket is of no use any more: `SOCKET_SEND`, `SOCKET_DISCONNECT`,
/// `SOCKET_RECV`, `BAD_SOCKET`, or no answer within the time.
pub(super) fn is_gone(error: &ssh2::Error) -> bool {
    matches!(code(error), -7 | -13 | -43 | -45 | TIMEOUT)
}

/// The user this process belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Account {
    /// The login name.
    pub name: Option<String>,
    /// The home directory.
    pub home: Option<PathBuf>,
}

impl Account {
    /// Ourselves: by the passwd file, and by the environment where that does not know us.
    pub fn ours() -> Self {
        let uid = rustix::process::getuid().as_raw();
        let passwd = std::fs::read("/etc/passwd").unwrap_or_default();
        let listed = listed(&passwd, uid);
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let from_environment = || {
            let name = variable("LOGNAME").or_else(|| variable("USER"))?;
            name.into_string().ok()
        };
        Account {
            name: listed.name.or_else(from_environment),
            home: variable("HOME").map(PathBuf::from).or(listed.home),
        }
    }

    /// A file of `~/.ssh`.
    pub fn dot_ssh(&self, name: &str) -> Option<PathBuf> {
        self.home.as_ref().map(|home| home.join(".ssh").join(name))
    }

    /// The path with `~/` replaced by the home directory.
    pub fn expand(&self, path: &Path) -> PathBuf {
        with_home(path, self.home.as_deref())
    }
}

/// What a passwd file says about a user.
fn listed(passwd: &[u8], uid: u32) -> Account {
    let wanted = uid.to_string();
    for line in passwd.split(|b| *b == b'\n') {
        let fields: Vec<&[u8]> = line.split(|b| *b == b':').collect();
        if let [name, _, number, _, _, home, ..] = fields[..]
            && number == wanted.as_bytes()
        {
            let home = Path::new(OsStr::from_bytes(home));
            return Account {
                name: std::str::from_utf8(name).ok().filter(|n| !n.is_empty()).map(str::to_owned),
                home: home.is_absolute().then(|| home.to_owned()),
            };
        }
    }
    Account::default()
}

#[cfg(test)]
mod connect_tests {
    use super::*;

    #[test]
    fn system_errors_are_put_as_ssh_puts_them() {
        for (cause, expected) in [
            (io::Error::from_raw_os_error(111), "Connection refused"),
            (
                io::Error::new(io::ErrorKind::TimedOut, "connection timed out"),
                "Connection timed out",
            ),
            (
                io::Error::other("failed to lookup address information: Name or service not known"),
                "Name or service not known",
            ),
        ] {
            assert_eq!(plain(&cause), expected);
        }
    }
}

#[cfg(test)]
mod account_tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_number() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\nbad:x:7\n\
                       :x:9:9::home:/bin/sh\n";
        for (uid, name, home) in [
            (0, Some("root"), Some("/root")),
            (1000, Some("me"), Some("/home/me")),
            (7, None, None),
            (8, None, None),
            (9, None, None), // neither a name nor a place
        ] {
            let found = listed(passwd, uid);
            assert_eq!(found.name.as_deref(), name, "{uid}");
            assert_eq!(found.home.as_deref(), home.map(Path::new), "{uid}");
        }
    }

    #[test]
    fn a_tilde_is_the_home_directory() {
        let account = Account { name: None, home: Some("/h".into()) };
        for (path, expected) in [("~/k", "/h/k"), ("/k", "/k"), ("k", "k"), ("~x/k", "~x/k")] {
            assert_eq!(account.expand(Path::new(path)), Path::new(expected));
        }
        assert_eq!(account.dot_ssh("id_rsa").as_deref(), Some(Path::new("/h/.ssh/id_rsa")));
    }
}

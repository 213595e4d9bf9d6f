//! From a host name to a started remote command.

use super::Failure;
use super::host_key::Trust;
use super::line::Line;
use super::options::{Family, Options};
use rustix::net::sockopt;
use ssh2::{Channel, MethodType, Session};
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};

/// Connects to the first address of the host that answers.
pub(super) fn connect(options: &Options) -> Result<Line, Failure> {
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
pub(super) fn handshake(options: &Options, line: &Line, trust: &Trust) -> Result<Session, Failure> {
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
pub(super) fn start(session: &Session, options: &Options) -> Result<Channel, Failure> {
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

#[cfg(test)]
mod tests {
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

//! The line: the TCP connection and whom it leads to, for messages.

use super::Failure;
use std::net::TcpStream;

/// A connection that stands.
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
    pub fn closed(&self, cause: &ssh2::Error) -> Failure {
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
    pub fn broken(&self, why: &str) -> Failure {
        Failure(format!("Connection reset by {} port {}: {why}", self.host, self.port))
    }

    /// The other side has not said a word for too long.
    pub fn silent(&self) -> Failure {
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

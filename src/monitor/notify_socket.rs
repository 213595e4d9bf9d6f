//! Tells systemd how we are (`Type=notify`): what `sd_notify` does, without the library.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The socket named by `NOTIFY_SOCKET`, if there is any. That nobody listens is no
/// trouble of ours: every call does its best and no more.
#[derive(Debug)]
pub struct NotifySocket {
    to: Option<(UnixDatagram, SocketAddr)>,
}

impl NotifySocket {
    /// Nobody to tell.
    #[must_use]
    pub fn none() -> Self {
        NotifySocket { to: None }
    }

    /// From the value of `NOTIFY_SOCKET`: a path, or `@` and a name in the abstract
    /// namespace.
    #[must_use]
    pub fn new(address: Option<&OsStr>) -> Self {
        let connect = |address| Ok::<_, io::Error>((UnixDatagram::unbound()?, parse(address)?));
        NotifySocket { to: address.and_then(|address| connect(address).ok()) }
    }

    /// From the environment.
    #[must_use]
    pub fn from_environment() -> Self {
        let address: Option<OsString> = std::env::var_os("NOTIFY_SOCKET");
        NotifySocket::new(address.as_deref())
    }

    /// The service is up.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}\n", one_line(status)));
    }

    /// What it is doing.
    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={}\n", one_line(status)));
    }

    /// It is about to end.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=Stopping\n");
    }

    fn send(&self, text: &str) {
        if let Some((socket, address)) = &self.to {
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }
}

/// A line break would begin another assignment.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

fn parse(address: &OsStr) -> io::Result<SocketAddr> {
    match address.as_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => {
            use std::os::linux::net::SocketAddrExt;
            SocketAddr::from_abstract_name(name)
        }
        [b'/', ..] => SocketAddr::from_pathname(address),
        _ => Err(io::Error::from(io::ErrorKind::Unsupported)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    fn says_all(socket: &NotifySocket, listener: &UnixDatagram) {
        socket.ready("Waiting\nREADY=0");
        assert_eq!(received(listener), "READY=1\nSTATUS=Waiting READY=0\n");
        socket.status("Running");
        assert_eq!(received(listener), "STATUS=Running\n");
        socket.stopping();
        assert_eq!(received(listener), "STOPPING=1\nSTATUS=Stopping\n");
    }

    #[test]
    fn a_socket_with_a_path_hears_it() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        says_all(&NotifySocket::new(Some(path.as_os_str())), &listener);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_abstract_socket_hears_it() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("osync-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        says_all(&NotifySocket::new(Some(OsStr::new(&format!("@{name}")))), &listener);
    }

    #[test]
    fn nobody_listening_is_no_trouble() {
        for address in [None, Some(""), Some("nonsense"), Some("/does/not/exist"), Some("@nobody")]
        {
            NotifySocket::new(address.map(OsStr::new)).ready("x");
        }
    }
}

//! Tells systemd how we are (`Type=notify`): what `sd_notify` does, without the library.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The socket named by `NOTIFY_SOCKET`, if there is any. That nobody listens is no
/// trouble of ours: every call does its best and no more.
#[derive(Debug)]
pub struct NotifySocket {
    to: Option<(UnixDatagram, SocketAddr)>,
}

impl NotifySocket {
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

    /// Where the service manager wants to hear from us now and then (`WatchdogSec=`), it
    /// does, until this process ends. That a run gets on is not told by this: its limits
    /// see to that.
    pub fn keep_alive(&self) {
        let Some((socket, address)) = &self.to else { return };
        let variable = |name| std::env::var(name).ok();
        let wanted = watchdog(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"));
        let (Some(limit), Ok(socket)) = (wanted, socket.try_clone()) else { return };
        let own = NotifySocket { to: Some((socket, address.clone())) };
        std::thread::spawn(move || {
            loop {
                own.send("WATCHDOG=1\n");
                std::thread::sleep(limit / 2);
            }
        });
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

/// After how long without a word the manager takes us for dead; none: it does not ask, or
/// asks another process.
fn watchdog(microseconds: Option<String>, pid: Option<String>) -> Option<Duration> {
    let microseconds: u64 = microseconds?.parse().ok().filter(|number| *number > 0)?;
    let ours = pid.is_none_or(|pid| pid == std::process::id().to_string());
    ours.then(|| Duration::from_micros(microseconds))
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
    fn a_watchdog_is_answered_when_it_asks_this_process() {
        let own = std::process::id().to_string();
        let cases = [
            (None, None, None),
            (Some("2000000"), None, Some(2)),
            (Some("2000000"), Some(own.as_str()), Some(2)),
            (Some("2000000"), Some("1"), None),
            (Some("0"), None, None),
            (Some("soon"), None, None),
            (None, Some(own.as_str()), None),
        ];
        for (time, pid, seconds) in cases {
            let limit = watchdog(time.map(str::to_owned), pid.map(str::to_owned));
            assert_eq!(limit, seconds.map(Duration::from_secs), "{time:?} {pid:?}");
        }
    }

    #[test]
    fn nobody_listening_is_no_trouble() {
        for address in [None, Some(""), Some("nonsense"), Some("/does/not/exist"), Some("@nobody")]
        {
            NotifySocket::new(address.map(OsStr::new)).ready("x");
        }
    }
}

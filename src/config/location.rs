//! Where a replica is: a local directory or an ssh URI (spec 5).

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// A replica's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A directory of this machine.
    Local(PathBuf),
    /// A directory behind ssh.
    Ssh(SshLocation),
}

/// `ssh://[user@]host[:port]/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshLocation {
    /// The login name. Without one ssh takes that of ssh_config or of the local user.
    pub user: Option<String>,
    /// Host name or address, without brackets.
    pub host: String,
    /// The port, where it is not ssh's default.
    pub port: Option<u16>,
    /// Everything after the first `/` behind the host: absolute, `~/…`, or relative to
    /// the login directory.
    pub path: PathBuf,
}

/// Why a location cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// Nothing is given.
    #[error("no directory is given")]
    Empty,
    /// A URI of another kind.
    #[error("'{0}://' is not supported; a directory elsewhere is ssh://host//absolute/path")]
    BadScheme(String),
    /// The URI holds no path.
    #[error("the URI has no path; write ssh://host//absolute/path or ssh://host/path/in/home")]
    NoPath,
    /// The URI holds no host, or the host begins with a dash.
    #[error("the URI has no valid host name")]
    BadHost,
    /// The user name is empty or begins with a dash.
    #[error("the URI has no valid user name before the '@'")]
    BadUser,
    /// An IPv6 address without brackets: where it ends and a port begins cannot be told.
    #[error(
        "an IPv6 address stands in brackets: ssh://[{0}]//absolute/path, or with a port \
         ssh://[{0}]:22//absolute/path"
    )]
    NoBrackets(String),
    /// The port is no number between 1 and 65535.
    #[error("'{0}' is not a port number")]
    BadPort(String),
}

impl Location {
    /// Reads a directory or an ssh URI.
    ///
    /// # Errors
    /// What is wrong with the URI; see [`LocationError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, LocationError> {
        if bytes.is_empty() {
            return Err(LocationError::Empty);
        }
        let Some(rest) = bytes.strip_prefix(b"ssh://") else {
            return match scheme(bytes) {
                Some(other) => Err(LocationError::BadScheme(other)),
                None => Ok(Location::Local(path_from(bytes))),
            };
        };
        let slash = rest.iter().position(|b| *b == b'/').ok_or(LocationError::NoPath)?;
        let (authority, path) = (&rest[..slash], &rest[slash + 1..]);
        if path.is_empty() {
            return Err(LocationError::NoPath);
        }
        let authority = std::str::from_utf8(authority).map_err(|_| LocationError::BadHost)?;
        let (user, host_port) = match authority.rsplit_once('@') {
            Some((user, rest)) => (Some(user.to_owned()), rest),
            None => (None, authority),
        };
        if user.as_deref().is_some_and(|u| u.is_empty() || u.starts_with('-')) {
            return Err(LocationError::BadUser);
        }
        let (host, port) = split_port(host_port)?;
        if host.is_empty() || host.starts_with('-') {
            return Err(LocationError::BadHost);
        }
        Ok(Location::Ssh(SshLocation { user, host: host.to_owned(), port, path: path_from(path) }))
    }

    /// Whether the replica is behind ssh.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        matches!(self, Location::Ssh(_))
    }
}

impl SshLocation {
    /// `user@host` or `host`, as the ssh command takes it.
    #[must_use]
    pub fn destination(&self) -> String {
        match &self.user {
            Some(user) => format!("{user}@{}", self.host),
            None => self.host.clone(),
        }
    }
}

/// What stands before a `://`, if it is a word as URIs begin with.
fn scheme(bytes: &[u8]) -> Option<String> {
    let end = bytes.windows(3).position(|here| here == b"://")?;
    let word = std::str::from_utf8(&bytes[..end]).ok()?;
    let is_word = !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+');
    is_word.then(|| word.to_owned())
}

fn path_from(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

fn is_ipv6(text: &str) -> bool {
    text.parse::<std::net::Ipv6Addr>().is_ok()
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), LocationError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(LocationError::BadHost)?;
            match rest.strip_prefix(':') {
                Some(port) => (host, port),
                None if rest.is_empty() => (host, ""),
                None => return Err(LocationError::BadHost),
            }
        }
        None if text.matches(':').count() > 1 => {
            // the shorter reading of `::1:22` is the likelier one
            let address = text.rsplit_once(':').filter(|(host, _)| is_ipv6(host));
            let address = address.map_or(text, |(host, _)| host);
            return Err(LocationError::NoBrackets(address.to_owned()));
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    if port.is_empty() {
        return Ok((host, None));
    }
    match port.parse::<u16>() {
        Ok(number) if number > 0 => Ok((host, Some(number))),
        _ => Err(LocationError::BadPort(port.to_owned())),
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::tree::path::escape;
        use std::os::unix::ffi::OsStrExt;
        match self {
            Location::Local(path) => f.write_str(&escape(path.as_os_str().as_bytes())),
            Location::Ssh(ssh) => {
                let user = ssh.user.as_ref().map(|u| format!("{u}@")).unwrap_or_default();
                let host = if ssh.host.contains(':') {
                    format!("[{}]", ssh.host)
                } else {
                    ssh.host.clone()
                };
                let port = ssh.port.map(|p| format!(":{p}")).unwrap_or_default();
                write!(f, "ssh://{user}{host}{port}/{}", escape(ssh.path.as_os_str().as_bytes()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ssh(user: Option<&str>, host: &str, port: Option<u16>, path: &str) -> Location {
        Location::Ssh(SshLocation {
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port,
            path: path.into(),
        })
    }

    #[test]
    fn locations_are_read_as_the_manual_says() {
        for (text, expected) in [
            ("/data", Location::Local("/data".into())),
            ("./rsync://x", Location::Local("./rsync://x".into())),
            ("a b://x", Location::Local("a b://x".into())),
            ("ssh://h//data", ssh(None, "h", None, "/data")),
            ("ssh://h/data", ssh(None, "h", None, "data")),
            ("ssh://h/~/data", ssh(None, "h", None, "~/data")),
            ("ssh://u@h:2222//a b", ssh(Some("u"), "h", Some(2222), "/a b")),
            ("ssh://u@[::1]:22//d", ssh(Some("u"), "::1", Some(22), "/d")),
            ("ssh://[fe80::1]//d", ssh(None, "fe80::1", None, "/d")),
        ] {
            assert_eq!(Location::parse(text.as_bytes()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn bad_locations_are_refused() {
        for (text, why) in [
            ("", LocationError::Empty),
            ("ssh://host", LocationError::NoPath),
            ("ssh://host/", LocationError::NoPath),
            ("ssh:////data", LocationError::BadHost),
            ("ssh://-oProxyCommand=x//data", LocationError::BadHost),
            ("ssh://-l@h//data", LocationError::BadUser),
            ("rsync://h/data", LocationError::BadScheme("rsync".into())),
            ("SSH://h//data", LocationError::BadScheme("SSH".into())),
            ("ssh://h:0//d", LocationError::BadPort("0".into())),
            ("ssh://root@::1:22//d", LocationError::NoBrackets("::1".into())),
            ("ssh://fe80::1//d", LocationError::NoBrackets("fe80::1".into())),
            ("ssh://2001:db8::7:5//d", LocationError::NoBrackets("2001:db8::7".into())),
            ("ssh://h:ssh//d", LocationError::BadPort("ssh".into())),
        ] {
            assert_eq!(Location::parse(text.as_bytes()), Err(why), "{text}");
        }
    }
}

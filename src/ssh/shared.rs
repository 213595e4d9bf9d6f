//! One connection for all ssh calls (SSH_CONTROLMASTER).
//!
//! The control shell's ssh is the master; rsync's ssh looks for its socket and makes a
//! connection of its own where that is of no use, so a server that allows one session
//! only is no obstacle. The master ends with the control shell.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A socket's path must fit `sun_path` (104 bytes on BSD), and ssh adds 17 bytes to it
/// while it makes the socket.
const LONGEST: usize = 80;

/// A private directory for the socket, removed when dropped.
#[derive(Debug)]
pub struct SharedConnection {
    socket: PathBuf,
    /// Only held for its end.
    _dir: tempfile::TempDir,
}

impl SharedConnection {
    /// Makes the directory, readable by this user only.
    ///
    /// # Errors
    /// There is no temporary directory that can be written and whose path is short enough,
    /// and means itself to ssh.
    pub fn new() -> io::Result<Self> {
        Self::in_one_of([tempfile::env::temp_dir(), PathBuf::from("/tmp")])
    }

    fn in_one_of(bases: [PathBuf; 2]) -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for base in bases {
            if !is_plain(&base) {
                last = io::ErrorKind::InvalidFilename.into();
                continue;
            }
            let made = tempfile::Builder::new()
                .prefix("osync-")
                .permissions(std::fs::Permissions::from_mode(0o700))
                .tempdir_in(base);
            match made {
                Ok(dir) if dir.path().as_os_str().as_bytes().len() + 2 <= LONGEST => {
                    return Ok(SharedConnection { socket: dir.path().join("s"), _dir: dir });
                }
                Ok(_) => last = io::ErrorKind::InvalidFilename.into(),
                Err(cause) => last = cause,
            }
        }
        Err(last)
    }

    /// Where the master listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

/// Whether ssh takes a path for what it is: spaces, quotes, backslashes and `$` mean something
/// in its options, each version with its own rules. (A `%` can be doubled.)
fn is_plain(path: &Path) -> bool {
    let mut bytes = path.as_os_str().as_bytes().iter();
    bytes.all(|byte| byte.is_ascii_alphanumeric() || b"/._-+,:=@~%".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn the_socket_lies_where_ssh_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("a%b-c");
        std::fs::create_dir(&plain).unwrap();
        for odd in [&b"a b"[..], b"a\"b", b"a'b", b"a\\b", b"${HOME}", b"a#b", b"\xff", b"a\nb"] {
            let odd = dir.path().join(OsStr::from_bytes(odd));
            std::fs::create_dir(&odd).unwrap();
            let shared = SharedConnection::in_one_of([odd.clone(), plain.clone()]).unwrap();
            assert!(shared.socket().starts_with(&plain), "{odd:?}");
            assert!(SharedConnection::in_one_of([odd.clone(), odd]).is_err());
        }
    }

    #[test]
    fn the_socket_lives_in_a_private_directory_that_goes_away() {
        let shared = SharedConnection::new().unwrap();
        let dir = shared.socket().parent().unwrap().to_path_buf();
        assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        drop(shared);
        assert!(!dir.exists());
    }
}

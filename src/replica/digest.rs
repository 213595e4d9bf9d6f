//! Digests of file contents.

use super::PathError;
use super::look;
use crate::process::Stop;
use crate::tree::Kind;
use rustix::fd::OwnedFd;
use std::fs::File;
use std::io::Read as _;

/// How much is read at once, in bytes.
pub(super) const BUFFER: usize = 128 * 1024;

/// The BLAKE3 digest of an open regular file.
///
/// # Errors
/// [`PathError::Changed`] if it is no regular file; what the system says; a stopped run.
pub(super) fn of_open(fd: OwnedFd, buffer: &mut [u8], stop: &Stop) -> Result<[u8; 32], PathError> {
    let failed = |cause: String| PathError::Failed { action: "read it", cause };
    let seen = look::of_open(&fd).map_err(|error| failed(error.to_string()))?;
    if seen.kind != Kind::File {
        return Err(PathError::Changed);
    }
    let mut file = File::from(fd);
    let mut hasher = blake3::Hasher::new();
    loop {
        if stop.reason().is_some() {
            return Err(failed("the run is being stopped".to_owned()));
        }
        match file.read(buffer) {
            Ok(0) => return Ok(*hasher.finalize().as_bytes()),
            Ok(len) => hasher.update(&buffer[..len]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error.to_string())),
        };
    }
}

//! Digests of file contents.

use super::cksum::{self, Cksum};
use super::local::look;
use super::{DigestKind, PathError};
use crate::process::Stop;
use crate::tree::same::{is_as_scanned, stamps_agree};
use crate::tree::{Entry, Kind};
use rustix::fd::OwnedFd;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Read as _;

/// How much is read at once, in bytes.
pub(super) const BUFFER: usize = 128 * 1024;

enum Hasher {
    Blake3(Box<blake3::Hasher>),
    Sha256(Sha256),
    Cksum(Cksum),
}

impl Hasher {
    fn new(kind: DigestKind) -> Self {
        match kind {
            DigestKind::Blake3 => Hasher::Blake3(Box::default()),
            DigestKind::Sha256 => Hasher::Sha256(Sha256::new()),
            DigestKind::Cksum => Hasher::Cksum(Cksum::default()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Blake3(hasher) => drop(hasher.update(bytes)),
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Cksum(hasher) => hasher.update(bytes),
        }
    }

    fn finish(self) -> [u8; 32] {
        match self {
            Hasher::Blake3(hasher) => *hasher.finalize().as_bytes(),
            Hasher::Sha256(hasher) => hasher.finalize().into(),
            Hasher::Cksum(hasher) => cksum::digest(hasher.finish()),
        }
    }
}

/// The digest of an open regular file.
///
/// # Errors
/// [`PathError::Changed`] if it is not the file that was scanned, before it is read and after;
/// what the system says; a stopped run.
pub(super) fn of_open(
    fd: OwnedFd,
    scanned: &Entry,
    kind: DigestKind,
    buffer: &mut [u8],
    stop: &Stop,
) -> Result<[u8; 32], PathError> {
    let failed = |cause: String| PathError::Failed { action: "read it".into(), cause };
    let seen = look::of_open(&fd).map_err(|error| failed(error.to_string()))?;
    if seen.kind != Kind::File || !is_as_scanned(scanned, &seen) {
        return Err(PathError::Changed);
    }
    let mut file = File::from(fd);
    let mut hasher = Hasher::new(kind);
    loop {
        if stop.reason().is_some() {
            return Err(failed("the run is being stopped".to_owned()));
        }
        match file.read(buffer) {
            Ok(0) => break,
            Ok(len) => hasher.update(&buffer[..len]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error.to_string())),
        };
    }
    let now = look::of_open(&file).map_err(|error| failed(error.to_string()))?;
    if stamps_agree(&now, &seen) { Ok(hasher.finish()) } else { Err(PathError::Changed) }
}

//! Digests of file contents: BLAKE3 or SHA-256, or where the other side has no better tool, the
//! checksum and length of POSIX `cksum`.

use super::local::look;
use super::{DigestKind, PathError};
use crate::process::Stop;
use crate::system;
use crate::tree::same::{is_as_scanned, stamps_agree};
use crate::tree::{Entry, Kind};
use rustix::fd::OwnedFd;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Read as _;

/// A checksum in the making.
#[derive(Debug, Default)]
pub(super) struct Cksum {
    crc: u32,
    length: u64,
}

impl Cksum {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.crc = bytes.iter().fold(self.crc, |crc, byte| step(crc, *byte));
        self.length += bytes.len() as u64;
    }

    /// Checksum and length, in bytes.
    pub(super) fn finish(self) -> (u32, u64) {
        let mut crc = self.crc;
        let mut length = self.length;
        while length > 0 {
            #[allow(clippy::cast_possible_truncation)] // the lowest byte is meant
            let byte = length as u8;
            crc = step(crc, byte);
            length >>= 8;
        }
        (!crc, self.length)
    }
}

/// The two as a digest; its first byte is for the sort of digest.
pub(super) fn digest((crc, length): (u32, u64)) -> [u8; 32] {
    let mut digest = [0; 32];
    digest[1..5].copy_from_slice(&crc.to_be_bytes());
    digest[5..13].copy_from_slice(&length.to_be_bytes());
    digest
}

/// What `cksum` prints of these bytes on standard input: checksum and length.
pub(super) fn cksum(bytes: &[u8]) -> String {
    let mut sum = Cksum::default();
    sum.update(bytes);
    let (crc, length) = sum.finish();
    format!("{crc} {length}")
}

fn step(crc: u32, byte: u8) -> u32 {
    crc << 8 ^ TABLE[usize::from((crc >> 24) as u8 ^ byte)]
}

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        #[allow(clippy::cast_possible_truncation)] // at most 255
        let mut crc = (at as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000_0000 == 0 { crc << 1 } else { crc << 1 ^ 0x04c1_1db7 };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
}

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
            Hasher::Cksum(hasher) => digest(hasher.finish()),
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
    let mut digested = 0;
    loop {
        if stop.reason().is_some() {
            return Err(failed("the run is being stopped".to_owned()));
        }
        match file.read(buffer) {
            Ok(0) => break,
            Ok(len) => {
                digested += len as u64;
                // the disk reads on while this is digested
                system::expect_to_read(&file, digested);
                hasher.update(&buffer[..len]);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error.to_string())),
        };
    }
    let now = look::of_open(&file).map_err(|error| failed(error.to_string()))?;
    if stamps_agree(&now, &seen) { Ok(hasher.finish()) } else { Err(PathError::Changed) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Command, Input, Stop, output};

    #[test]
    fn the_sum_is_that_of_the_program() {
        for content in [&b""[..], b"\n", b"osync\n", &[0xff; 70_000]] {
            let said = output(&Command::new("cksum"), Input::Bytes(content), &Stop::new()).unwrap();
            assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), cksum(content));
        }
    }
}

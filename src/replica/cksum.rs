//! The checksum of POSIX `cksum`, which every machine has.

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

//! The checksum of POSIX `cksum`, which every machine has.

/// What `cksum` prints of these bytes on standard input: checksum and length.
pub(super) fn cksum(bytes: &[u8]) -> String {
    let mut crc = 0;
    for byte in bytes {
        crc = step(crc, *byte);
    }
    let mut length = bytes.len();
    while length > 0 {
        #[allow(clippy::cast_possible_truncation)] // the lowest byte is meant
        let byte = length as u8;
        crc = step(crc, byte);
        length >>= 8;
    }
    format!("{} {}", !crc, bytes.len())
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

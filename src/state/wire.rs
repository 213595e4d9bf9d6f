//! Numbers and byte strings as they stand in a baseline (docs/state-format.md).
//! Reading is checked at every step: no bytes, however damaged, make it panic.

/// A baseline whose bytes make no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the baseline is damaged at byte {at}: {what}")]
pub struct Damaged {
    /// Where, counted from the first byte of what was read.
    pub at: usize,
    /// What is wrong there.
    pub what: &'static str,
}

/// Reads from a slice, front to back.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    /// Reads on from some position.
    pub(crate) fn new_at(bytes: &'a [u8], at: usize) -> Self {
        Reader { bytes, at }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn is_done(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub(crate) fn damaged(&self, what: &'static str) -> Damaged {
        Damaged { at: self.at, what }
    }

    #[inline]
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Damaged> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.get(..count).ok_or_else(|| self.damaged("it ends too early"))?;
        self.at += count;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Result<u8, Damaged> {
        let byte = *self.bytes.get(self.at).ok_or_else(|| self.damaged("it ends too early"))?;
        self.at += 1;
        Ok(byte)
    }

    /// Yes or no.
    pub(crate) fn flag(&mut self) -> Result<bool, Damaged> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.damaged("a mark is neither yes nor no")),
        }
    }

    /// Seven bits a byte, the lowest first, the high bit saying that more follow.
    #[inline]
    pub(crate) fn number(&mut self) -> Result<u64, Damaged> {
        let first = self.byte()?;
        if first < 0x80 { Ok(u64::from(first)) } else { self.long_number(first) }
    }

    fn long_number(&mut self, first: u8) -> Result<u64, Damaged> {
        let mut value = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.damaged("a number is too large"))
    }

    /// A number that has to fit a smaller type.
    #[inline]
    pub(crate) fn small<T: TryFrom<u64>>(&mut self) -> Result<T, Damaged> {
        T::try_from(self.number()?).map_err(|_| self.damaged("a number is too large"))
    }

    /// A number near another one: the difference, zigzag so that small ones stay short.
    #[inline]
    pub(crate) fn near(&mut self, base: u64) -> Result<u64, Damaged> {
        let coded = self.number()?;
        Ok(base.wrapping_add((coded >> 1) ^ (coded & 1).wrapping_neg()))
    }

    /// A length and that many bytes.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<&'a [u8], Damaged> {
        let length = self.small()?;
        self.take(length)
    }
}

pub(crate) fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        #[allow(clippy::cast_possible_truncation)] // the low seven bits are what is meant
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    #[allow(clippy::cast_possible_truncation)] // below 0x80
    out.push(value as u8);
}

pub(crate) fn put_near(out: &mut Vec<u8>, value: u64, base: u64) {
    let difference = value.wrapping_sub(base);
    let sign = if difference >> 63 == 1 { u64::MAX } else { 0 };
    put_number(out, (difference << 1) ^ sign);
}

pub(crate) fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_whatever_they_are_near() {
        let values = [0, 1, 127, 128, 300, u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) - 1];
        for value in values {
            for base in values {
                let mut out = Vec::new();
                put_number(&mut out, value);
                put_near(&mut out, value, base);
                put_string(&mut out, b"x");
                let mut reader = Reader::new(&out);
                assert_eq!(reader.number(), Ok(value));
                assert_eq!(reader.near(base), Ok(value));
                assert_eq!(reader.string(), Ok(&b"x"[..]));
                assert!(reader.is_done());
            }
        }
    }

    #[test]
    fn numbers_that_end_too_early_or_are_too_large_are_damage() {
        for bytes in [
            &b""[..],
            b"\x80",
            &[0xff; 10],
            &[0xff; 11],
            b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02",
        ] {
            assert!(Reader::new(bytes).number().is_err(), "{bytes:?}");
        }
        assert!(Reader::new(b"\x05abc").string().is_err());
        assert!(
            Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1])
                .string()
                .is_err()
        );
        assert!(Reader::new(b"\x80\x02").small::<u8>().is_err());
    }
}

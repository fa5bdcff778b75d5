//! Numbers as bytes: little-endian where the place is fixed, variable length elsewhere.
//!
//! **Invariant:** what is written is read back for every 64-bit value, and reading takes no byte that is not there.

use crate::error::Broken;

/// Appends seven bits a byte, the lowest first, with the top bit set in all bytes but the last.
#[inline]
pub(crate) fn put_unsigned(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_text(text: &str, out: &mut Vec<u8>) {
    put_unsigned(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

/// Small magnitudes of either sign as small numbers: 0, -1, 1, -2, 2 are 0 to 4.
#[inline]
pub(crate) const fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

#[inline]
pub(crate) const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Bytes being read from the front.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

const SHORT: Broken = Broken("it ends too early");

impl<'a> Input<'a> {
    pub(crate) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], Broken> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Broken> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Broken> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Broken> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Broken> {
        self.array().map(u64::from_le_bytes)
    }

    #[inline]
    pub(crate) fn unsigned(&mut self) -> Result<u64, Broken> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Broken("a number has more than 64 bits"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Broken("a number has more than 64 bits"))
    }

    /// A number that has to fit into a smaller type.
    pub(crate) fn small<T: TryFrom<u64>>(&mut self) -> Result<T, Broken> {
        T::try_from(self.unsigned()?).map_err(|_| Broken("a number is too large for its place"))
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Broken> {
        let length = self.small::<usize>()?;
        std::str::from_utf8(self.take(length)?).map_err(|_| Broken("a text is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_back() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::MAX >> 1, u64::MAX] {
            let mut out = Vec::new();
            put_unsigned(value, &mut out);
            let mut input = Input(&out);
            assert_eq!((input.unsigned(), input.is_empty()), (Ok(value), true));
            assert_eq!(zigzag(unzigzag(value)), value);
            assert_eq!(Input(&out[..out.len() - 1]).unsigned(), Err(SHORT));
        }
        for value in [i64::MIN, -1, 0, 1, i64::MAX] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
        assert!(Input(&[0xff; 10]).unsigned().is_err());
        assert!(Input(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).unsigned().is_err());
    }
}

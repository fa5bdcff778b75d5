//! A place in a MessagePack message, and the handful of forms that are read there.
//!
//! **Invariant:** no allocation, and no recursion: nested values are skipped with a counter, so that no input can
//! exhaust the stack.
//!
//! Not here: what the values mean (`outline`, `packed`).

/// The message is not what the protocol says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// It ends before it is whole
    #[error("the message ends early")]
    Short,
    /// Another type
    #[error("{found:#04x} stands where {wanted} belongs")]
    Unexpected {
        /// What belongs there
        wanted: &'static str,
        /// The first byte of what is there
        found: u8,
    },
    /// A number that stands for no kind of element
    #[error("{0} is no element kind")]
    UnknownKind(u64),
    /// An element of a channel that is not known
    #[error("no channel has the name, interval or depth of an element")]
    UnknownChannel,
    /// The marker counts wrong
    #[error("the snapshot marker says {said} elements and {are} follow")]
    SnapshotCount {
        /// What the marker says
        said: u64,
        /// What follows
        are: u32,
    },
    /// More than the head says
    #[error("bytes follow the last element")]
    Surplus,
}

/// In [`SCALAR_BYTES`]: what follows is not said by the first byte alone.
const NOT_SCALAR: u8 = 0xFF;

/// How many bytes follow the first byte of a number, a boolean or nil. Nearly all values are one of these, so the
/// lookup is what skipping costs.
const SCALAR_BYTES: [u8; 256] = {
    let mut table = [NOT_SCALAR; 256];
    let mut first = 0;
    while first < 256 {
        table[first] = match first {
            0x00..=0x7F | 0xC0 | 0xC2 | 0xC3 | 0xE0..=0xFF => 0,
            0xCC | 0xD0 => 1,
            0xCD | 0xD1 => 2,
            0xCE | 0xD2 | 0xCA => 4,
            0xCF | 0xD3 | 0xCB => 8,
            _ => NOT_SCALAR,
        };
        first += 1;
    }
    table
};

/// A place in a message.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    /// At the begin of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// A signed or unsigned integer.
    ///
    /// # Errors
    /// Something else is there.
    pub fn integer(&mut self) -> Result<i64, DataError> {
        match self.0.first().copied().ok_or(DataError::Short)? {
            fix @ 0xE0..=0xFF => {
                self.byte()?;
                Ok(i64::from(fix as i8))
            }
            0xD0 => {
                self.byte()?;
                Ok(i64::from(self.byte()? as i8))
            }
            0xD1 => {
                self.byte()?;
                Ok(i64::from(i16::from_be_bytes(self.take()?)))
            }
            0xD2 => {
                self.byte()?;
                Ok(i64::from(i32::from_be_bytes(self.take()?)))
            }
            0xD3 => {
                self.byte()?;
                Ok(i64::from_be_bytes(self.take()?))
            }
            _ => self.unsigned().map(|number| number as i64),
        }
    }

    /// An unsigned integer, or none for nil.
    ///
    /// # Errors
    /// Something else is there.
    pub fn unsigned_or_nil(&mut self) -> Result<Option<u64>, DataError> {
        if self.0.first() == Some(&0xC0) {
            self.byte()?;
            return Ok(None);
        }
        self.unsigned().map(Some)
    }

    /// Whether nothing follows.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes follow.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes a nil, if one is there.
    pub(super) fn nil(&mut self) -> bool {
        let nil = self.0.first() == Some(&0xC0);
        if nil {
            self.0 = &self.0[1..];
        }
        nil
    }

    pub(super) fn boolean(&mut self) -> Result<bool, DataError> {
        match self.byte()? {
            0xC2 => Ok(false),
            0xC3 => Ok(true),
            found => Err(DataError::Unexpected { wanted: "a boolean", found }),
        }
    }

    /// A float of either width; an integer too, as other writers shorten them.
    pub(super) fn float(&mut self) -> Result<f64, DataError> {
        match self.0.first() {
            Some(0xCB) => {
                self.byte()?;
                self.take().map(f64::from_be_bytes)
            }
            Some(0xCA) => {
                self.byte()?;
                self.take().map(|bytes| f32::from_be_bytes(bytes).into())
            }
            _ => self.integer().map(|value| value as f64),
        }
    }

    /// The length of an array, whose items follow.
    ///
    /// # Errors
    /// Something else is there.
    pub fn array(&mut self) -> Result<u32, DataError> {
        match self.byte()? {
            fix @ 0x90..=0x9F => Ok(u32::from(fix & 0x0F)),
            0xDC => Ok(u32::from(u16::from_be_bytes(self.take()?))),
            0xDD => Ok(u32::from_be_bytes(self.take()?)),
            found => Err(DataError::Unexpected { wanted: "an array", found }),
        }
    }

    /// An unsigned integer.
    ///
    /// # Errors
    /// Something else is there.
    pub fn unsigned(&mut self) -> Result<u64, DataError> {
        match self.byte()? {
            fix @ 0x00..=0x7F => Ok(u64::from(fix)),
            0xCC => Ok(u64::from(self.byte()?)),
            0xCD => Ok(u64::from(u16::from_be_bytes(self.take()?))),
            0xCE => Ok(u64::from(u32::from_be_bytes(self.take()?))),
            0xCF => Ok(u64::from_be_bytes(self.take()?)),
            found => Err(DataError::Unexpected { wanted: "an unsigned integer", found }),
        }
    }

    pub(super) fn text(&mut self) -> Result<&'a [u8], DataError> {
        let length = match self.byte()? {
            fix @ 0xA0..=0xBF => usize::from(fix & 0x1F),
            0xD9 => usize::from(self.byte()?),
            0xDA => usize::from(u16::from_be_bytes(self.take()?)),
            found => return Err(DataError::Unexpected { wanted: "a short text", found }),
        };
        self.advance(length)
    }

    /// Skips `count` values, whatever is nested in them.
    pub(super) fn skip(&mut self, count: u64) -> Result<(), DataError> {
        let mut left = count;
        while left > 0 {
            left -= 1;
            let first = self.byte()?;
            let bytes = match SCALAR_BYTES[usize::from(first)] {
                NOT_SCALAR => self.nested(first, &mut left)?,
                bytes => usize::from(bytes),
            };
            self.advance(bytes)?;
        }
        Ok(())
    }

    /// What lies behind the first byte of a value that is no number: its bytes, and more values in `left`.
    fn nested(&mut self, first: u8, left: &mut u64) -> Result<usize, DataError> {
        let more = match first {
            fix @ 0x80..=0x8F => 2 * u64::from(fix & 0x0F),
            fix @ 0x90..=0x9F => u64::from(fix & 0x0F),
            0xDC => u64::from(u16::from_be_bytes(self.take()?)),
            0xDD => u64::from(u32::from_be_bytes(self.take()?)),
            fix @ 0xA0..=0xBF => return Ok(usize::from(fix & 0x1F)),
            0xC4 | 0xD9 => return Ok(usize::from(self.byte()?)),
            0xC5 | 0xDA => return Ok(usize::from(u16::from_be_bytes(self.take()?))),
            0xC6 | 0xDB => return Ok(u32::from_be_bytes(self.take()?) as usize),
            found => return Err(DataError::Unexpected { wanted: "a value of the protocol", found }),
        };
        *left += more;
        Ok(0)
    }

    pub(super) fn byte(&mut self) -> Result<u8, DataError> {
        let (first, rest) = self.0.split_first().ok_or(DataError::Short)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], DataError> {
        let (first, rest) = self.0.split_first_chunk().ok_or(DataError::Short)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn advance(&mut self, bytes: usize) -> Result<&'a [u8], DataError> {
        let (first, rest) = self.0.split_at_checked(bytes).ok_or(DataError::Short)?;
        self.0 = rest;
        Ok(first)
    }
}

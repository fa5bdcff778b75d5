//! MessagePack, reading: a command into a [`Value`] tree.
//!
//! **Invariant:** a length that the input claims is never believed: memory follows the bytes that are there. Depth is
//! bounded by [`NESTING_MAX`]. By hand because the generic readers at hand either pre-allocate by the claimed length or
//! do not keep what was read before an error, from which the command's `id` is recovered.

use std::borrow::Cow;

use crate::value::{Entries, NESTING_MAX, Value, too_deep};

/// Reads a message whose top level is a map. What could be read before an error stands in `entries`.
pub(crate) fn read_message_pack<'a>(payload: &'a [u8], entries: &mut Entries<'a>) -> Result<(), String> {
    let mut reader = Reader { payload, at: 0 };
    let marker = reader.byte()?;
    let Some(length) = reader.map_length(marker)? else {
        return Err(match reader.value_of(marker, NESTING_MAX - 1) {
            Ok(value) => format!("{} instead of a map with the key op", value.describe()),
            Err(error) => error,
        });
    };
    reader.entries(length, NESTING_MAX - 1, entries)?;
    match payload.len() - reader.at {
        0 => Ok(()),
        more => Err(format!("{more} bytes follow the map that ends at byte {}", reader.at)),
    }
}

struct Reader<'a> {
    payload: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, below: usize) -> Result<Value<'a>, String> {
        let marker = self.byte()?;
        self.value_of(marker, below)
    }

    /// The value that begins with `marker`, with at most `below` levels in it.
    fn value_of(&mut self, marker: u8, below: usize) -> Result<Value<'a>, String> {
        if let Some(length) = self.map_length(marker)? {
            let below = below.checked_sub(1).ok_or_else(too_deep)?;
            let mut entries = Vec::new();
            self.entries(length, below, &mut entries)?;
            return Ok(Value::Map(entries));
        }
        if let Some(length) = self.array_length(marker)? {
            let below = below.checked_sub(1).ok_or_else(too_deep)?;
            let mut items = Vec::new();
            for _ in 0..length {
                items.push(self.value(below)?);
            }
            return Ok(Value::Array(items));
        }
        Ok(match marker {
            0x00..=0x7f => Value::Unsigned(marker.into()),
            0xe0..=0xff => Value::Negative(i64::from(marker as i8)),
            0xa0..=0xbf => self.text(usize::from(marker & 0x1f))?,
            0xc0 => Value::Nil,
            0xc2 | 0xc3 => Value::Bool(marker == 0xc3),
            0xc4..=0xc6 => {
                let length = self.unsigned(1 << (marker - 0xc4))?;
                self.opaque(length)?
            }
            0xc7..=0xc9 => {
                let length = self.unsigned(1 << (marker - 0xc7))?;
                self.opaque(length.saturating_add(1))?
            }
            0xca => {
                self.take(4)?;
                Value::Float
            }
            0xcb => {
                self.take(8)?;
                Value::Float
            }
            0xcc..=0xcf => Value::Unsigned(self.unsigned(1 << (marker - 0xcc))?),
            0xd0..=0xd3 => {
                let bytes = 1 << (marker - 0xd0);
                let unused = 64 - 8 * bytes as u32;
                let value = (self.unsigned(bytes)? << unused) as i64 >> unused;
                u64::try_from(value).map_or(Value::Negative(value), Value::Unsigned)
            }
            0xd4..=0xd8 => self.opaque((1 << (marker - 0xd4)) + 1)?,
            0xd9..=0xdb => {
                let length = self.unsigned(1 << (marker - 0xd9))?;
                self.text(usize::try_from(length).unwrap_or(usize::MAX))?
            }
            // Maps and arrays were read above; 0xc1 is never used.
            _ => return Err(format!("byte 0x{marker:02x} at {} is not MessagePack", self.at - 1)),
        })
    }

    fn entries(&mut self, length: u64, below: usize, entries: &mut Entries<'a>) -> Result<(), String> {
        for _ in 0..length {
            let key = self.value(0)?;
            let value = self.value(below)?;
            if let Value::Text(key) = key {
                entries.push((key, value));
            }
        }
        Ok(())
    }

    fn map_length(&mut self, marker: u8) -> Result<Option<u64>, String> {
        match marker {
            0x80..=0x8f => Ok(Some(u64::from(marker & 0x0f))),
            0xde => self.unsigned(2).map(Some),
            0xdf => self.unsigned(4).map(Some),
            _ => Ok(None),
        }
    }

    fn array_length(&mut self, marker: u8) -> Result<Option<u64>, String> {
        match marker {
            0x90..=0x9f => Ok(Some(u64::from(marker & 0x0f))),
            0xdc => self.unsigned(2).map(Some),
            0xdd => self.unsigned(4).map(Some),
            _ => Ok(None),
        }
    }

    fn text(&mut self, length: usize) -> Result<Value<'a>, String> {
        let at = self.at;
        let text = std::str::from_utf8(self.take(length)?);
        text.map(|text| Value::Text(Cow::Borrowed(text))).map_err(|_| format!("the string at byte {at} is not UTF-8"))
    }

    fn opaque(&mut self, length: u64) -> Result<Value<'a>, String> {
        self.take(usize::try_from(length).unwrap_or(usize::MAX)).map(|_| Value::Bytes)
    }

    /// A big-endian integer of 1, 2, 4 or 8 bytes.
    fn unsigned(&mut self, bytes: usize) -> Result<u64, String> {
        Ok(self.take(bytes)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let rest = &self.payload[self.at..];
        let Some(bytes) = rest.get(..length) else {
            return Err(format!("the message ends at byte {}, in the middle of a value", self.payload.len()));
        };
        self.at += length;
        Ok(bytes)
    }
}

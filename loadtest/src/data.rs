//! Reads a MessagePack data message just far enough: kind, instrument, sequence number, time.
//!
//! **Invariant:** no allocation, and no recursion: nested values are skipped with a counter, so that no input can
//! exhaust the stack.
//!
//! Not here: what the numbers mean for loss (`sequence`), control messages (`swarm`).

use market::{BarInterval, BookDepth, Channel};

/// What one element says about its sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) channel: Channel,
    pub(crate) instrument: u32,
    pub(crate) seq: u64,
    /// Nanoseconds since the Unix epoch
    pub(crate) time: u64,
    pub(crate) what: What,
}

/// A value, or the declaration that values are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Value,
    BookSnapshot,
    BookDelta,
    Gap { from_seq: u64, to_seq: u64 },
}

/// The begin of a data message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Nanoseconds since the Unix epoch
    pub(crate) sent_at: u64,
    /// How many elements follow, the snapshot marker not counted
    pub(crate) elements: u32,
    pub(crate) kind: Kind,
}

/// Events or state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Live,
    Snapshot,
}

/// The message is not what the protocol says.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DataError {
    #[error("the message ends early")]
    Short,
    #[error("{found:#04x} stands where {wanted} belongs")]
    Unexpected { wanted: &'static str, found: u8 },
    #[error("{0} is no element kind")]
    UnknownKind(u64),
    #[error("no channel has the name, interval or depth of an element")]
    UnknownChannel,
    #[error("the snapshot marker says {said} elements and {are} follow")]
    SnapshotCount { said: u64, are: u32 },
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
pub(crate) struct Cursor<'a>(&'a [u8]);

/// Reads the begin of a data message; the cursor then stands at the first element.
///
/// # Errors
/// The message does not begin like one.
pub(crate) fn begin(message: &[u8]) -> Result<(Head, Cursor<'_>), DataError> {
    let mut cursor = Cursor(message);
    let length = cursor.array()?;
    let sent_at = cursor.unsigned()?;
    let elements = length.saturating_sub(1);
    // A marker is `[0, n]`: an array of two whose first is 0.
    if let [0x92, 0x00, ..] = cursor.0 {
        cursor.0 = &cursor.0[2..];
        let said = cursor.unsigned()?;
        let are = elements - 1;
        if said != u64::from(are) {
            return Err(DataError::SnapshotCount { said, are });
        }
        return Ok((Head { sent_at, elements: are, kind: Kind::Snapshot }, cursor));
    }
    Ok((Head { sent_at, elements, kind: Kind::Live }, cursor))
}

/// Calls `on` for each of `count` elements, with what follows its head (of a book: bids, asks, checksum), and makes sure that nothing follows them.
///
/// # Errors
/// An element is malformed; those before it have been handed out.
pub(crate) fn elements<'a>(
    mut cursor: Cursor<'a>,
    count: u32,
    mut on: impl FnMut(Element, Cursor<'a>) -> Result<(), DataError>,
) -> Result<(), DataError> {
    for _ in 0..count {
        let (element, body) = cursor.element()?;
        on(element, body)?;
    }
    if cursor.0.is_empty() { Ok(()) } else { Err(DataError::Surplus) }
}

/// The time of the first element, which waited longest of all in the message; none when it says nothing of the way: a bar's
/// time is its opening, and a gap has none of its own.
///
/// # Errors
/// The element is malformed.
pub(crate) fn oldest_time(mut cursor: Cursor<'_>) -> Result<Option<u64>, DataError> {
    cursor.array()?;
    let kind = cursor.unsigned()?;
    cursor.unsigned()?;
    cursor.unsigned()?;
    let time = cursor.unsigned()?;
    Ok((kind != 3 && kind != 8).then_some(time))
}

/// How many values the array has that `message` is.
pub(crate) fn array_length(message: &[u8]) -> Option<u32> {
    Cursor(message).array().ok()
}

/// The value of the first key of the map that `message` is, when that is `type`: a control message's type.
pub(crate) fn type_of_map(message: &[u8]) -> Option<&str> {
    let mut cursor = Cursor(message);
    match cursor.byte().ok()? {
        0x80..=0x8F => {}
        0xDE => drop(cursor.take::<2>().ok()?),
        _ => return None,
    }
    if cursor.text().ok()? != b"type" {
        return None;
    }
    std::str::from_utf8(cursor.text().ok()?).ok()
}

/// The unsigned integer that begins at `at`.
pub(crate) fn unsigned_at(message: &[u8], at: usize) -> Option<u64> {
    Cursor(message.get(at..)?).unsigned().ok()
}

/// The unsigned integer at `index` of the array that `message` is.
pub(crate) fn unsigned_of_array(message: &[u8], index: usize) -> Option<u64> {
    let mut cursor = Cursor(message);
    let length = cursor.array().ok()?;
    if index >= length as usize {
        return None;
    }
    cursor.skip(index as u64).ok()?;
    cursor.unsigned().ok()
}

impl<'a> Cursor<'a> {
    fn element(&mut self) -> Result<(Element, Self), DataError> {
        let length = self.array()?;
        if length < 5 {
            return Err(DataError::Short);
        }
        let kind = self.unsigned()?;
        let instrument = self.unsigned()? as u32;
        let seq = self.unsigned()?;
        let time = self.unsigned()?;
        let mut rest = u64::from(length) - 4;
        let mut what = What::Value;
        let channel = match kind {
            1 => Channel::Trades,
            2 => Channel::Quotes,
            3 => {
                rest -= 1;
                let seconds = self.unsigned()?;
                let interval = BarInterval::ALL.into_iter().find(|i| u64::from(i.seconds()) == seconds);
                Channel::Bars(interval.ok_or(DataError::UnknownChannel)?)
            }
            4 | 5 => {
                rest -= 1;
                what = if kind == 4 { What::BookSnapshot } else { What::BookDelta };
                Channel::Book(match self.unsigned()? {
                    0 => BookDepth::Full,
                    10 => BookDepth::Top10,
                    50 => BookDepth::Top50,
                    _ => return Err(DataError::UnknownChannel),
                })
            }
            6 => Channel::Ticker,
            7 => Channel::Status,
            8 => {
                rest = rest.checked_sub(3).ok_or(DataError::Short)?;
                let name = self.text()?;
                what = What::Gap { from_seq: self.unsigned()?, to_seq: self.unsigned()? };
                let name = std::str::from_utf8(name).map_err(|_| DataError::UnknownChannel)?;
                name.parse().map_err(|_| DataError::UnknownChannel)?
            }
            other => return Err(DataError::UnknownKind(other)),
        };
        let body = *self;
        self.skip(rest)?;
        Ok((Element { channel, instrument, seq, time, what }, body))
    }

    #[cfg(test)]
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// A signed or unsigned integer.
    pub(crate) fn integer(&mut self) -> Result<i64, DataError> {
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
    pub(crate) fn unsigned_or_nil(&mut self) -> Result<Option<u64>, DataError> {
        if self.0.first() == Some(&0xC0) {
            self.byte()?;
            return Ok(None);
        }
        self.unsigned().map(Some)
    }

    pub(crate) fn array(&mut self) -> Result<u32, DataError> {
        match self.byte()? {
            fix @ 0x90..=0x9F => Ok(u32::from(fix & 0x0F)),
            0xDC => Ok(u32::from(u16::from_be_bytes(self.take()?))),
            0xDD => Ok(u32::from_be_bytes(self.take()?)),
            found => Err(DataError::Unexpected { wanted: "an array", found }),
        }
    }

    pub(crate) fn unsigned(&mut self) -> Result<u64, DataError> {
        match self.byte()? {
            fix @ 0x00..=0x7F => Ok(u64::from(fix)),
            0xCC => Ok(u64::from(self.byte()?)),
            0xCD => Ok(u64::from(u16::from_be_bytes(self.take()?))),
            0xCE => Ok(u64::from(u32::from_be_bytes(self.take()?))),
            0xCF => Ok(u64::from_be_bytes(self.take()?)),
            found => Err(DataError::Unexpected { wanted: "an unsigned integer", found }),
        }
    }

    fn text(&mut self) -> Result<&'a [u8], DataError> {
        let length = match self.byte()? {
            fix @ 0xA0..=0xBF => usize::from(fix & 0x1F),
            0xD9 => usize::from(self.byte()?),
            found => return Err(DataError::Unexpected { wanted: "a short text", found }),
        };
        self.advance(length)
    }

    /// Skips `count` values, whatever is nested in them.
    fn skip(&mut self, count: u64) -> Result<(), DataError> {
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

    fn byte(&mut self) -> Result<u8, DataError> {
        let (first, rest) = self.0.split_first().ok_or(DataError::Short)?;
        self.0 = rest;
        Ok(*first)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], DataError> {
        let (first, rest) = self.0.split_first_chunk().ok_or(DataError::Short)?;
        self.0 = rest;
        Ok(*first)
    }

    fn advance(&mut self, bytes: usize) -> Result<&'a [u8], DataError> {
        let (first, rest) = self.0.split_at_checked(bytes).ok_or(DataError::Short)?;
        self.0 = rest;
        Ok(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packed(value: &serde_json::Value) -> Vec<u8> {
        rmp_serde::to_vec(value).unwrap()
    }

    fn read(message: &[u8]) -> Result<(Head, Vec<Element>), DataError> {
        let (head, cursor) = begin(message)?;
        let mut all = Vec::new();
        elements(cursor, head.elements, |element, _| {
            all.push(element);
            Ok(())
        })?;
        Ok((head, all))
    }

    #[test]
    fn every_kind_is_understood() {
        let message = packed(&serde_json::json!([
            1_700_000_000_000_000_000_u64,
            [1, 300, 7, 5, 968_219, 1, 2, 0],
            [2, 0, 70_000, 6, -25, 1, null, null],
            [3, 1, 1, 7, 60, 1, 2, 3, 4, 5, 6, false],
            [5, 1, 2, 8, 0, [[1, 2], [3, 4]], [], 99],
            [6, 1, 3, 9, 1, 2, 3, 4, 5, 6.5, 7],
            [7, 1, 4, 10, 2, "halted for news"],
            [8, 1, 9, 11, "trades", 5, 9, "conflated"],
        ]));
        let (head, all) = read(&message).unwrap();
        assert_eq!(head, Head { sent_at: 1_700_000_000_000_000_000, elements: 7, kind: Kind::Live });
        let names: Vec<_> = all.iter().map(|e| (e.channel.name(), e.instrument, e.seq, e.time)).collect();
        let want = [
            ("trades", 300, 7, 5),
            ("quotes", 0, 70_000, 6),
            ("bars.1m", 1, 1, 7),
            ("book.full", 1, 2, 8),
            ("ticker", 1, 3, 9),
            ("status", 1, 4, 10),
            ("trades", 1, 9, 11),
        ];
        assert_eq!(names, want);
        assert_eq!(all[6].what, What::Gap { from_seq: 5, to_seq: 9 });
    }

    #[test]
    fn a_snapshot_is_known_by_its_marker() {
        let (head, all) = read(&packed(&serde_json::json!([9, [0, 1], [1, 0, 7, 5, 1, 1, 1, 0]]))).unwrap();
        assert_eq!((head.kind, head.elements, all.len()), (Kind::Snapshot, 1, 1));
        assert_eq!(
            read(&packed(&serde_json::json!([9, [0, 2], [1, 0, 7, 5, 1, 1, 1, 0]]))),
            Err(DataError::SnapshotCount { said: 2, are: 1 })
        );
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }

        #[test]
        fn no_cut_message_is_taken_for_whole(cut in 1usize..30) {
            let message = packed(&serde_json::json!([9, [1, 300, 7, 5, 968_219, 1, 2, 0], [1, 300, 8, 5, 1, 1, 2, 0]]));
            prop_assert!(read(&message[..message.len() - cut.min(message.len() - 1)]).is_err());
        }
    }
}

//! Reads a MessagePack data message just far enough: kind, instrument, sequence number, time.
//!
//! **Invariant:** no allocation; what a caller does not look at costs its skipping and nothing else.
//!
//! Not here: the values (`packed`), control messages (`control`), what the numbers mean for loss.

use market::{BarInterval, BookDepth, Channel};

use super::cursor::{Cursor, DataError};
use crate::FrameKind;

/// What one element says about its sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElementHead {
    /// Of which channel
    pub channel: Channel,
    /// The instrument's number
    pub instrument: u32,
    /// Its number in its stream
    pub seq: u64,
    /// Nanoseconds since the Unix epoch
    pub time: u64,
    /// What it is
    pub what: What,
}

/// A value, or the declaration that values are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A value
    Value,
    /// A whole book
    BookSnapshot,
    /// Levels of a book
    BookDelta,
    /// A declared loss
    Gap {
        /// The first one missing
        from_seq: u64,
        /// The last one missing
        to_seq: u64,
    },
}

/// The begin of a data message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Nanoseconds since the Unix epoch
    pub sent_at: u64,
    /// How many elements follow, the snapshot marker not counted
    pub elements: u32,
    /// Events or state
    pub kind: FrameKind,
}

/// Reads the begin of a data message; the cursor then stands at the first element.
///
/// # Errors
/// The message does not begin like one.
pub fn begin(message: &[u8]) -> Result<(Head, Cursor<'_>), DataError> {
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
        return Ok((Head { sent_at, elements: are, kind: FrameKind::Snapshot }, cursor));
    }
    Ok((Head { sent_at, elements, kind: FrameKind::Live }, cursor))
}

/// Calls `on` for each of `count` elements, with what follows its head (of a book: bids, asks, checksum), and makes sure
/// that nothing follows them.
///
/// # Errors
/// An element is malformed; those before it have been handed out.
pub fn elements<'a>(
    mut cursor: Cursor<'a>,
    count: u32,
    mut on: impl FnMut(ElementHead, Cursor<'a>) -> Result<(), DataError>,
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
pub fn oldest_time(mut cursor: Cursor<'_>) -> Result<Option<u64>, DataError> {
    cursor.array()?;
    let kind = cursor.unsigned()?;
    cursor.unsigned()?;
    cursor.unsigned()?;
    let time = cursor.unsigned()?;
    Ok((kind != 3 && kind != 8).then_some(time))
}

/// How many values the array has that `message` is.
pub fn array_length(message: &[u8]) -> Option<u32> {
    Cursor(message).array().ok()
}

/// The value of the first key of the map that `message` is, when that is `type`: a control message's type.
pub fn type_of_map(message: &[u8]) -> Option<&str> {
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
pub fn unsigned_at(message: &[u8], at: usize) -> Option<u64> {
    Cursor(message.get(at..)?).unsigned().ok()
}

/// The unsigned integer at `index` of the array that `message` is.
pub fn unsigned_of_array(message: &[u8], index: usize) -> Option<u64> {
    let mut cursor = Cursor(message);
    let length = cursor.array().ok()?;
    if index >= length as usize {
        return None;
    }
    cursor.skip(index as u64).ok()?;
    cursor.unsigned().ok()
}

impl Cursor<'_> {
    fn element(&mut self) -> Result<(ElementHead, Self), DataError> {
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
        Ok((ElementHead { channel, instrument, seq, time, what }, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packed(value: &serde_json::Value) -> Vec<u8> {
        rmp_serde::to_vec(value).unwrap()
    }

    fn read(message: &[u8]) -> Result<(Head, Vec<ElementHead>), DataError> {
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
        assert_eq!(head, Head { sent_at: 1_700_000_000_000_000_000, elements: 7, kind: FrameKind::Live });
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
        assert_eq!((head.kind, head.elements, all.len()), (FrameKind::Snapshot, 1, 1));
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

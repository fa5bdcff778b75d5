//! In which order the elements of all streams were sequenced.
//!
//! One number, an element's *ordinal*, says how far a client has come in everything at once, where sequence numbers say it
//! for one stream each. What has been sequenced since an ordinal is a list of streams; counting a stream in it tells its
//! sequence number back then, also when the elements themselves are not kept any more.
//!
//! **Invariant:** ordinals are 1, 2, 3, ... without a hole, over all streams, whether or not somebody listens.
//!
//! What is *not* here: the elements, which are in `replay`.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use crate::StreamKey;

/// A point in what was sequenced: everything up to it has been seen. Written `EPOCH-ORDINAL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The epoch of the numbers
    pub epoch: String,
    /// The last element's number over all streams; 0 before the first
    pub ordinal: u64,
}

/// The text is no [`Position`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a position is an epoch, a hyphen and a number, as it came with an event")]
pub struct InvalidPosition;

/// The longest epoch that is read: ours have 16 characters.
const EPOCH_LENGTH_MAX: usize = 64;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.ordinal)
    }
}

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let (epoch, ordinal) = text.rsplit_once('-').ok_or(InvalidPosition)?;
        let known = (1..=EPOCH_LENGTH_MAX).contains(&epoch.len()) && epoch.bytes().all(|b| b.is_ascii_alphanumeric());
        // `parse` alone would take a plus sign.
        let digits = !ordinal.is_empty() && ordinal.bytes().all(|b| b.is_ascii_digit());
        if !known || !digits {
            return Err(InvalidPosition);
        }
        Ok(Self { epoch: epoch.to_owned(), ordinal: ordinal.parse().map_err(|_| InvalidPosition)? })
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Order {
    /// The streams of the newest elements, oldest first: 4 bytes each.
    streams: VecDeque<StreamKey>,
    streams_max: usize,
    last: u64,
}

impl Order {
    /// Remembers the streams of the newest `streams_max` elements.
    pub(crate) fn new(streams_max: usize) -> Self {
        Self { streams: VecDeque::new(), streams_max, last: 0 }
    }

    /// The same, where the ordinals are to differ from those of other runs of the same epoch: they begin behind `last`.
    pub(crate) fn behind(last: u64, streams_max: usize) -> Self {
        Self { last, ..Self::new(streams_max) }
    }

    /// Forgets the past: nobody can go on from there, because streams have jumped.
    pub(crate) fn forget(&mut self) {
        self.streams.clear();
        self.last += 1;
    }

    /// Notes another element; returns its ordinal.
    pub(crate) fn push(&mut self, key: StreamKey) -> u64 {
        if self.streams.len() >= self.streams_max {
            self.streams.pop_front();
        }
        if self.streams_max > 0 {
            self.streams.push_back(key);
        }
        self.last += 1;
        self.last
    }

    /// The ordinal of the newest element; 0 before the first.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// The ordinals and streams of everything after `ordinal`; none when that is ahead of the newest, or so long ago that
    /// it is not remembered.
    pub(crate) fn after(&self, ordinal: u64) -> Option<impl Iterator<Item = (u64, StreamKey)>> {
        let count = usize::try_from(self.last.checked_sub(ordinal)?).ok()?;
        let skip = self.streams.len().checked_sub(count)?;
        Some((ordinal + 1..).zip(self.streams.iter().skip(skip).copied()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use market::{Channel, InstrumentId};
    use proptest::prelude::*;

    fn key(n: u32) -> StreamKey {
        StreamKey::new(InstrumentId(n), Channel::Trades)
    }

    proptest! {
        #[test]
        fn agrees_with_a_list_of_all(streams in prop::collection::vec(0u32..5, 0..60), max in 0usize..40, at in 0u64..70) {
            let mut order = Order::new(max);
            for (index, &n) in streams.iter().enumerate() {
                prop_assert_eq!(order.push(key(n)), index as u64 + 1);
            }
            prop_assert_eq!(order.last(), streams.len() as u64);
            let kept_from = streams.len().saturating_sub(max) as u64;
            let want = (at >= kept_from && at <= streams.len() as u64).then(|| {
                streams.iter().enumerate().skip(at as usize).map(|(i, &n)| (i as u64 + 1, key(n))).collect::<Vec<_>>()
            });
            prop_assert_eq!(order.after(at).map(Iterator::collect::<Vec<_>>), want);
        }

        #[test]
        fn a_position_is_read_as_it_is_written(epoch in "[0-9a-f]{1,16}", ordinal: u64) {
            let position = Position { epoch, ordinal };
            prop_assert_eq!(position.to_string().parse(), Ok(position));
        }

        #[test]
        fn no_text_is_misread(text in "\\PC{0,40}") {
            if let Ok(position) = text.parse::<Position>() {
                // Leading zeros are all that may differ.
                let again: Result<Position, _> = position.to_string().parse();
                prop_assert_eq!(again, Ok(position));
            }
        }
    }

    #[test]
    fn what_is_no_position_is_refused() {
        for text in ["", "-", "e-", "-1", "e-+1", "e--1", "e 1-1", "e", "e-18446744073709551616", "1-1\n"] {
            assert_eq!(text.parse::<Position>(), Err(InvalidPosition), "{text:?}");
        }
    }
}

//! The name of one sequence: an instrument and a channel, packed into 32 bits.
//!
//! **Invariant:** the keys of one instrument are neighbours, so tables indexed by key are dense.

use std::fmt;

use market::{Channel, InstrumentId};

/// An (instrument, channel) pair: what has a sequence of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey(u32);

/// Bits that hold the channel; [`Channel::COUNT`] fits.
const CHANNEL_BITS: u32 = 4;
const _: () = assert!(Channel::COUNT <= 1 << CHANNEL_BITS);

impl StreamKey {
    /// How many keys an instrument takes in a dense table.
    pub const PER_INSTRUMENT: usize = 1 << CHANNEL_BITS;

    /// The key of `instrument`'s `channel`. Ids stay below 2^28: feeds number instruments densely from 0.
    pub const fn new(instrument: InstrumentId, channel: Channel) -> Self {
        Self(instrument.0 << CHANNEL_BITS | channel.index() as u32)
    }

    /// Whose sequence it is.
    pub const fn instrument(self) -> InstrumentId {
        InstrumentId(self.0 >> CHANNEL_BITS)
    }

    /// What the sequence is about.
    pub const fn channel(self) -> Channel {
        Channel::ALL[(self.0 as usize) & (Self::PER_INSTRUMENT - 1)]
    }

    /// The key as an index into a dense table.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.channel(), self.instrument().0)
    }
}

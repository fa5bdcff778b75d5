//! The channels a client can subscribe to, small enough to index arrays and to fit into a bit set.
//!
//! **Invariant:** every channel has an index below [`Channel::COUNT`], so a table per (instrument, channel) is dense.
//! The sets of bar intervals and book depths are closed for that reason.

use std::fmt;
use std::str::FromStr;

/// What one sequence of elements of an instrument is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// `trades`
    Trades,
    /// `quotes`: best bid and offer
    Quotes,
    /// `ticker`: the day's statistics
    Ticker,
    /// `status`: halts, auctions
    Status,
    /// `bars.<interval>`
    Bars(BarInterval),
    /// `book.<depth>`; each depth has its own sequence
    Book(BookDepth),
}

/// The length of a bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
#[repr(u8)]
pub enum BarInterval {
    S1,
    S5,
    S10,
    M1,
    M5,
    M15,
    H1,
    D1,
}

/// How many levels a side of a book channel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
#[repr(u8)]
pub enum BookDepth {
    Top10,
    Top50,
    Full,
}

/// No channel has that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a channel; known are trades, quotes, ticker, status, bars.<1s|5s|10s|1m|5m|15m|1h|1d>, book.<10|50|full>"
)]
pub struct UnknownChannel(pub String);

const NAMES: [&str; Channel::COUNT] = [
    "trades",
    "quotes",
    "ticker",
    "status",
    "bars.1s",
    "bars.5s",
    "bars.10s",
    "bars.1m",
    "bars.5m",
    "bars.15m",
    "bars.1h",
    "bars.1d",
    "book.10",
    "book.50",
    "book.full",
];

impl Channel {
    /// How many channels there are; every [`Channel::index`] is below it.
    pub const COUNT: usize = 15;

    /// All channels, in the order of their indices.
    pub const ALL: [Self; Self::COUNT] = {
        use BarInterval as I;
        use BookDepth as D;
        [
            Self::Trades,
            Self::Quotes,
            Self::Ticker,
            Self::Status,
            Self::Bars(I::S1),
            Self::Bars(I::S5),
            Self::Bars(I::S10),
            Self::Bars(I::M1),
            Self::Bars(I::M5),
            Self::Bars(I::M15),
            Self::Bars(I::H1),
            Self::Bars(I::D1),
            Self::Book(D::Top10),
            Self::Book(D::Top50),
            Self::Book(D::Full),
        ]
    };

    /// A dense number below [`Channel::COUNT`]; stable within a process only, never on the wire.
    pub const fn index(self) -> usize {
        match self {
            Self::Trades => 0,
            Self::Quotes => 1,
            Self::Ticker => 2,
            Self::Status => 3,
            Self::Bars(interval) => 4 + interval as usize,
            Self::Book(depth) => 12 + depth as usize,
        }
    }

    /// The name on the wire, such as `trades` or `bars.1m`.
    pub const fn name(self) -> &'static str {
        NAMES[self.index()]
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Channel {
    type Err = UnknownChannel;
    fn from_str(text: &str) -> Result<Self, UnknownChannel> {
        NAMES
            .iter()
            .position(|name| *name == text)
            .map(|index| Self::ALL[index])
            .ok_or_else(|| UnknownChannel(text.chars().take(64).collect()))
    }
}

impl BarInterval {
    /// All intervals, shortest first.
    pub const ALL: [Self; 8] = [Self::S1, Self::S5, Self::S10, Self::M1, Self::M5, Self::M15, Self::H1, Self::D1];

    /// The length in seconds.
    pub const fn seconds(self) -> u32 {
        [1, 5, 10, 60, 300, 900, 3600, 86_400][self as usize]
    }
}

impl BookDepth {
    /// The number on the wire: levels a side, 0 for a full book.
    pub const fn wire_depth(self) -> u32 {
        [10, 50, 0][self as usize]
    }
}

/// A set of channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ChannelSet(u16);

impl ChannelSet {
    /// The set without members.
    pub const EMPTY: Self = Self(0);

    /// Whether no channel is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `channel` is in it.
    pub const fn contains(self, channel: Channel) -> bool {
        self.0 & (1 << channel.index()) != 0
    }

    /// Adds `channel`.
    pub const fn insert(&mut self, channel: Channel) {
        self.0 |= 1 << channel.index();
    }

    /// Takes `channel` out.
    pub const fn remove(&mut self, channel: Channel) {
        self.0 &= !(1 << channel.index());
    }

    /// Everything that is in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every channel of `other` is in it.
    pub const fn covers(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// The members, in index order.
    pub fn iter(self) -> impl Iterator<Item = Channel> {
        Channel::ALL.into_iter().filter(move |channel| self.contains(*channel))
    }

    /// The set as bits, bit `i` for the channel of index `i`.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The set of those bits; bits at or above [`Channel::COUNT`] are dropped.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits & ((1 << Channel::COUNT) - 1))
    }
}

impl FromIterator<Channel> for ChannelSet {
    fn from_iter<I: IntoIterator<Item = Channel>>(channels: I) -> Self {
        let mut set = Self::EMPTY;
        for channel in channels {
            set.insert(channel);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_indices_agree() {
        for (index, channel) in Channel::ALL.into_iter().enumerate() {
            assert_eq!(channel.index(), index);
            assert_eq!(channel.name().parse(), Ok(channel));
        }
        assert!("bars.2m".parse::<Channel>().is_err());
        assert!("".parse::<Channel>().is_err());
    }

    #[test]
    fn a_set_holds_what_was_put_in() {
        let mut set: ChannelSet = [Channel::Trades, Channel::Book(BookDepth::Full)].into_iter().collect();
        assert!(set.contains(Channel::Trades) && !set.contains(Channel::Quotes));
        assert_eq!(set.iter().count(), 2);
        set.remove(Channel::Trades);
        assert!(set.covers(ChannelSet::EMPTY) && !set.is_empty());
        assert_eq!(ChannelSet::from_bits(u16::MAX).iter().count(), Channel::COUNT);
    }
}

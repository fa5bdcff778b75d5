//! Ticks: normalised events of an instrument, before they have a sequence number.

use std::sync::Arc;

use crate::{BarInterval, BookUpdate, Channel, InstrumentId, Price, Size, Timestamp};

/// One event of one instrument.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// Whose event
    pub instrument: InstrumentId,
    /// The exchange's time of the event
    pub time: Timestamp,
    /// What happened
    pub event: Event,
}

impl Tick {
    /// The channel whose sequence the tick belongs to.
    pub fn channel(&self) -> Channel {
        self.event.channel()
    }
}

/// A tick with its number in the sequence of its instrument and channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbered {
    /// Counted from 1 for each instrument and channel; for state the number up to which it is true
    pub seq: u64,
    /// What has the number
    pub tick: Tick,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A trade was made
    Trade(Trade),
    /// The best bid or offer changed
    Quote(Quote),
    /// A bar opened, changed or closed; the tick's time is the bar's opening time
    Bar(Bar),
    /// The day's statistics changed
    Ticker(Ticker),
    /// The trading status changed
    Status(Status),
    /// The book is this now, whatever it was before. A feed hands over [`crate::BookDepth::Full`] only; the other depths
    /// are cut out of it ([`crate::BookViews`]).
    BookSnapshot(BookUpdate),
    /// Levels of the book changed
    BookDelta(BookUpdate),
}

impl Event {
    /// The channel whose sequence the event belongs to.
    pub fn channel(&self) -> Channel {
        match self {
            Self::Trade(_) => Channel::Trades,
            Self::Quote(_) => Channel::Quotes,
            Self::Bar(bar) => Channel::Bars(bar.interval),
            Self::Ticker(_) => Channel::Ticker,
            Self::Status(_) => Channel::Status,
            Self::BookSnapshot(update) | Self::BookDelta(update) => Channel::Book(update.depth()),
        }
    }
}

/// The aggressor of a trade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Side {
    /// The venue does not say
    #[default]
    Unknown = 0,
    /// A buyer took the offer
    Buy = 1,
    /// A seller hit the bid
    Sell = 2,
}

/// A trade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trade {
    /// At what price
    pub price: Price,
    /// How much
    pub size: Size,
    /// Who was the aggressor
    pub side: Side,
    /// The venue's number of the trade; 0 when it has none
    pub trade_id: u64,
}

/// One side of the best bid and offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// At what price
    pub price: Price,
    /// How much in all
    pub size: Size,
}

/// The best bid and offer (BBO).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quote {
    /// The best bid; none when nobody bids
    pub bid: Option<Level>,
    /// The best offer; none when nobody offers
    pub ask: Option<Level>,
}

/// Open, high, low and close of an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    /// How long the bar is
    pub interval: BarInterval,
    /// The first price
    pub open: Price,
    /// The highest price
    pub high: Price,
    /// The lowest price
    pub low: Price,
    /// The last price
    pub close: Price,
    /// The sum of the sizes
    pub volume: Size,
    /// The number of trades
    pub trade_count: u64,
    /// Whether the interval is over
    pub closed: bool,
}

/// Statistics of the day.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ticker {
    /// The last price
    pub last: Price,
    /// The first price
    pub open: Price,
    /// The highest price
    pub high: Price,
    /// The lowest price
    pub low: Price,
    /// The sum of the sizes
    pub volume: Size,
    /// The sum of price x size in the instrument's currency; approximate
    pub turnover: f64,
    /// The number of trades
    pub trade_count: u64,
}

/// A trading status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum StatusCode {
    /// Before the session
    PreOpen = 0,
    /// Continuous trading
    Trading = 1,
    /// Halted
    Halted = 2,
    /// In an auction
    Auction = 3,
    /// After the session
    Closed = 4,
}

impl StatusCode {
    /// The name for people and for the JSON encoding.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreOpen => "pre_open",
            Self::Trading => "trading",
            Self::Halted => "halted",
            Self::Auction => "auction",
            Self::Closed => "closed",
        }
    }
}

/// A change of the trading status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The status from now on
    pub code: StatusCode,
    /// Why, in the venue's words; may be empty
    pub reason: Arc<str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_do_not_make_ticks_larger() {
        // A bar is the largest event; a tick is copied into the replay ring.
        assert!(size_of::<BookUpdate>() <= size_of::<Bar>());
        assert_eq!((size_of::<Event>(), size_of::<Tick>()), (64, 80));
    }
}

//! What a client hands to its program.
//!
//! **Invariant:** events of a stream come in the order of their numbers; what is missing between two of them stands as a
//! [`GapEvent`] before the second.

use std::sync::Arc;
use std::time::Duration;

use market::{Bar, BookUpdate, Channel, Level, Quote, Status, Ticker, Timestamp, Trade};
use wire::decode::{InstrumentDetails, InstrumentTerms};
use wire::{ErrorCode, GapReason, Mode, NoticeCode, Recovered};

use crate::engine::Transport;
use crate::{BookProblem, Decimal, Lost};

/// What happened.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A trade
    Trade(Update<Trade>),
    /// The best bid and offer
    Quote(Update<Quote>),
    /// A bar; `time` is its opening time, and the newest one with a time counts
    Bar(Update<Bar>),
    /// Statistics of the last 24 hours
    Ticker(Update<Ticker>),
    /// A halt, an auction
    Status(Update<Status>),
    /// The book is this now
    BookSnapshot(Update<BookUpdate>),
    /// Levels of the book are new; [`crate::Client::book`] has them applied already
    BookDelta(Update<BookUpdate>),
    /// Elements are missing
    Gap(GapEvent),
    /// A frame of state follows, with so many elements
    SnapshotBegin {
        /// How many elements follow until [`Event::SnapshotEnd`], those left out as known aside
        elements: usize,
    },
    /// The frame of state is over
    SnapshotEnd,
    /// The connection was made, lost, or given up
    Connection(Connection),
    /// A subscription, or a part of a large one, is in effect; also said of each part when it is made again after the
    /// connection was lost
    Subscribed {
        /// The request; none when it was made again
        ticket: Option<Ticket>,
        /// What is subscribed
        instruments: Vec<Arc<InstrumentTerms>>,
        /// Of these channels
        channels: Vec<Channel>,
        /// How it is delivered
        mode: Mode,
        /// How each resumed stream goes on
        recovered: Vec<(String, Channel, Recovered)>,
    },
    /// A subscription ended as asked
    Unsubscribed {
        /// The request
        ticket: Option<Ticket>,
    },
    /// A request, or a part of it, was refused; for unknown symbols the rest of it is in effect
    Refused {
        /// The request, if it was one
        ticket: Option<Ticket>,
        /// Which kind of mistake; none when this library does not know it
        code: Option<ErrorCode>,
        /// The mistake in words
        message: String,
        /// Which symbols it is about
        symbols: Vec<String>,
    },
    /// The answer to [`crate::Client::request_instruments`], or without a ticket the announcement of new instruments
    Instruments {
        /// The request
        ticket: Option<Ticket>,
        /// All about them
        instruments: Vec<InstrumentDetails>,
    },
    /// The server has something to say
    Notice {
        /// About what; none when this library does not know it
        code: Option<NoticeCode>,
        /// In words
        message: String,
    },
    /// A book was wrong and has been asked for anew; until its snapshot comes there is none
    BookProblem(BookProblem),
}

/// Marks a request and its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(crate) u64);

/// Whether a value happened or is how things stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// It happened
    Live,
    /// It is the state at the begin of a subscription, or after a gap
    Snapshot,
}

/// A value of an instrument.
#[derive(Debug, Clone, PartialEq)]
pub struct Update<T> {
    /// Of which instrument, with the exponents of its integers
    pub instrument: Arc<InstrumentTerms>,
    /// Its number in its stream
    pub seq: u64,
    /// The exchange's time
    pub time: Timestamp,
    /// When the server sent it, by the server's clock; [`crate::Client::clock`] translates
    pub sent_at: Timestamp,
    /// Whether it happened or is how things stand
    pub origin: Origin,
    /// What it says
    pub value: T,
}

impl<T> Update<T> {
    /// The instrument's name.
    pub fn symbol(&self) -> &str {
        self.instrument.symbol.as_str()
    }

    /// A price of this instrument, to show.
    pub fn decimal_price(&self, price: market::Price) -> Decimal {
        Decimal::price(price, &self.instrument)
    }

    /// A size of this instrument, to show.
    pub fn decimal_size(&self, size: market::Size) -> Decimal {
        Decimal::size(size, &self.instrument)
    }
}

impl Update<Trade> {
    /// At what price.
    pub fn price(&self) -> Decimal {
        self.decimal_price(self.value.price)
    }

    /// How much.
    pub fn size(&self) -> Decimal {
        self.decimal_size(self.value.size)
    }
}

impl Update<Quote> {
    /// Price and size of the best bid.
    pub fn bid(&self) -> Option<(Decimal, Decimal)> {
        self.value.bid.map(|level| self.level(level))
    }

    /// Price and size of the best offer.
    pub fn ask(&self) -> Option<(Decimal, Decimal)> {
        self.value.ask.map(|level| self.level(level))
    }

    fn level(&self, level: Level) -> (Decimal, Decimal) {
        (self.decimal_price(level.price), self.decimal_size(level.size))
    }
}

/// Elements of a stream that do not come: `from_seq` to `to_seq`, both included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GapEvent {
    /// Of which instrument
    pub instrument: Arc<InstrumentTerms>,
    /// Of which channel
    pub channel: Channel,
    /// The first one missing
    pub from_seq: u64,
    /// The last one missing
    pub to_seq: u64,
    /// Why
    pub cause: GapCause,
}

impl GapEvent {
    /// How many elements are missing.
    pub fn count(&self) -> u64 {
        (self.to_seq - self.from_seq).saturating_add(1)
    }
}

/// Who says that elements are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GapCause {
    /// The server declared it; the reason is none when this library does not know it
    Declared(Option<GapReason>),
    /// The connection was lost, and this stream could not be resumed
    NotResumed,
    /// The numbers jumped without a word; a fault of the server or of something in between
    Undeclared,
}

impl GapCause {
    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Declared(Some(reason)) => reason.name(),
            Self::Declared(None) => "declared",
            Self::NotResumed => "not_resumed",
            Self::Undeclared => "undeclared",
        }
    }
}

/// What became of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connection {
    /// It is there, and what was subscribed is being subscribed again
    Connected {
        /// The server's name for the session
        session: String,
        /// The run of sequence numbers
        epoch: String,
        /// Whether it is another run than before: the server was started anew, numbers begin anew, and what was in between
        /// is unknown
        epoch_changed: bool,
        /// Which way it goes
        transport: Transport,
    },
    /// It was lost, or could not be made; it is tried again
    Lost {
        /// Why
        reason: Lost,
        /// When it is tried again
        retry_in: Duration,
    },
    /// It was lost and is given up; no event follows
    Ended {
        /// Why
        reason: Lost,
    },
}

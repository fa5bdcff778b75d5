//! The vocabulary of the market: instruments, fixed-point prices and sizes, timestamps, channels and ticks; and what is
//! made of ticks by rules alone: order books, bars and statistics.
//!
//! **Invariant:** prices and sizes are integers scaled by their instrument's exponent; no value here passes through
//! floating point on its way, apart from a ticker's turnover, which is approximate by definition.
//!
//! What is *not* here: how a tick is written to a wire (`wire`), where it comes from (`feed`), and who gets it (`hub`).

mod bars;
mod book;
mod channel;
mod fixed;
mod instrument;
mod rolling;
mod tick;
mod timestamp;

pub use bars::Bars;
pub use book::{
    Book, BookConflation, BookError, BookSide, BookSource, BookUpdate, BookViews, Crossing, LevelChange, OrderBook,
};
pub use channel::{BarInterval, BookDepth, Channel, ChannelSet, UnknownChannel};
pub use fixed::{DecimalError, Price, Size, decimal_digits, format_decimal, parse_decimal};
pub use instrument::{AssetClass, Instrument, InstrumentId, InvalidSymbol, Symbol};
pub use rolling::{RollingTicker, RollingWindow, Statistics};
pub use tick::{Bar, Event, Level, Numbered, Quote, Side, Status, StatusCode, Tick, Ticker, Trade};
pub use timestamp::{ParseTimestampError, Timestamp};

//! The Rust SDK of Tickerplant: a server's market data as a stream of typed events, in order, with every loss declared.
//!
//! ```no_run
//! use tickerplant_client::{Channel, Client, Event, Subscription};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mut client = Client::connect("ws://127.0.0.1:8080/ws").await?;
//! client.subscribe(Subscription::to([Channel::Trades], ["BTC-USD", "ETH-USD"]))?;
//! while let Some(event) = client.next().await {
//!     match event {
//!         Event::Trade(trade) => println!("{} {} x {}", trade.symbol(), trade.price(), trade.size()),
//!         Event::Gap(gap) => println!("{} {} to {} are missing", gap.channel, gap.from_seq, gap.to_seq),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A connection that is lost is made again, by itself, and goes on where it was: what was missed in between comes in
//! order, or a [`Event::Gap`] says which numbers are missing. Books are kept by the client ([`Client::book`]), their
//! checksums are compared, and a book that is wrong is asked for anew.
//!
//! | part | what it is |
//! | --- | --- |
//! | [`Client`] | a connection and its events, on tokio; also a [`futures_util::Stream`] |
//! | [`Event`] | what a server says, typed |
//! | [`engine`] | what decides: bytes and the time in, events and bytes out; no socket, no clock |
//! | [`Books`] | books and their checksums |
//!
//! **Invariant:** no price passes through floating point; every number of a stream in mode `every` is delivered once, in
//! order, or named by a gap.
//!
//! What is *not* here: how bytes are read and written (`wire`), and the server.

mod books;
mod builder;
mod client;
mod decimal;
mod driver;
pub mod engine;
mod error;
mod event;
mod event_stream;
mod socket;
mod subscription;

pub use books::{BookProblem, BookState, Books};
pub use builder::Builder;
pub use client::{Client, Handle};
pub use decimal::Decimal;
pub use engine::{Backoff, Clock, Counters, Transport, Transports};
pub use error::{ConnectError, Lost, RequestError};
pub use event::{Connection, Event, GapCause, GapEvent, Origin, Ticket, Update};
pub use market::{
    Bar, BarInterval, Book, BookDepth, BookSide, BookUpdate, Channel, ChannelSet, InstrumentId, Level, Price, Quote,
    Side, Size, Status, StatusCode, Symbol, Ticker, Timestamp, Trade,
};
pub use subscription::{Subscription, SymbolList};
pub use wire::decode::{InstrumentDetails, InstrumentTerms};
pub use wire::{Encoding, ErrorCode, GapReason, Mode, NoticeCode, Recovered, SlowPolicy};

/// The examples of the README are compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

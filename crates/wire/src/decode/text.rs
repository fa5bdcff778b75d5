//! JSON elements in full.
//!
//! **Invariant:** prices and sizes go from decimal text to integers of the instrument's exponent, exactly or not at all.
//!
//! Not here: MessagePack (`packed`).

use market::{
    Bar, BarInterval, BookUpdate, Channel, DecimalError, Event, Level, Price, Quote, Side, Size, Status, StatusCode,
    Ticker, Timestamp, Trade, parse_decimal,
};
use serde::Deserialize;

use super::packed::depth_of;
use super::{Content, Element, InstrumentTerms};
use crate::{FrameKind, GapReason};

/// The message is not what the protocol says.
#[derive(Debug, thiserror::Error)]
pub enum TextDataError {
    /// No JSON, or a key is missing or of another type
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// A time that is none
    #[error(transparent)]
    Time(#[from] market::ParseTimestampError),
    /// A price or size that is none
    #[error("{key} is {text:?}: {source}")]
    Decimal {
        /// Of which key
        key: &'static str,
        /// What is there
        text: String,
        /// What is wrong with it
        source: DecimalError,
    },
    /// A key that an element of this type has
    #[error("an element has no {0}")]
    Missing(&'static str),
}

/// Whether the message is a data message; what is not is a control message.
pub fn is_text_data(message: &[u8]) -> bool {
    message.starts_with(b"{\"sent_at\"")
}

/// Reads a data message: calls `on` for each element, with `terms` for the symbols; elements of other symbols are left
/// out. Gives when the message was sent, and whether it was a snapshot, to `head` first.
///
/// # Errors
/// The message is not what the protocol says; elements before the place have been handed out.
pub fn decode_text_data<'t>(
    message: &[u8],
    terms: impl Fn(&str) -> Option<&'t InstrumentTerms>,
    head: impl FnOnce(Timestamp, FrameKind, usize),
    mut on: impl FnMut(Element),
) -> Result<(), TextDataError> {
    let message: Message<'_> = serde_json::from_slice(message)?;
    let kind = if message.snapshot { FrameKind::Snapshot } else { FrameKind::Live };
    head(Timestamp::parse_rfc3339(message.sent_at)?, kind, message.data.len());
    for object in &message.data {
        let Some(terms) = terms(object.symbol) else { continue };
        let time = Timestamp::parse_rfc3339(object.time)?;
        on(Element { instrument: terms.id, seq: object.seq, time, content: object.content(terms)? });
    }
    Ok(())
}

#[derive(Deserialize)]
struct Message<'a> {
    sent_at: &'a str,
    #[serde(default)]
    snapshot: bool,
    #[serde(borrow)]
    data: Vec<Object<'a>>,
}

/// The keys of all types of elements. The escapes of JSON are needed by `reason` alone.
#[derive(Deserialize)]
struct Object<'a> {
    r#type: &'a str,
    symbol: &'a str,
    seq: u64,
    time: &'a str,
    price: Option<&'a str>,
    size: Option<&'a str>,
    side: Option<&'a str>,
    trade_id: Option<u64>,
    bid: Option<&'a str>,
    bid_size: Option<&'a str>,
    ask: Option<&'a str>,
    ask_size: Option<&'a str>,
    interval_s: Option<u64>,
    open: Option<&'a str>,
    high: Option<&'a str>,
    low: Option<&'a str>,
    close: Option<&'a str>,
    last: Option<&'a str>,
    volume: Option<&'a str>,
    turnover: Option<f64>,
    trade_count: Option<u64>,
    closed: Option<bool>,
    depth: Option<u64>,
    #[serde(borrow)]
    bids: Option<Vec<(&'a str, &'a str)>>,
    #[serde(borrow)]
    asks: Option<Vec<(&'a str, &'a str)>>,
    checksum: Option<u32>,
    code: Option<&'a str>,
    reason: Option<String>,
    channel: Option<&'a str>,
    from_seq: Option<u64>,
    to_seq: Option<u64>,
}

impl Object<'_> {
    fn content(&self, terms: &InstrumentTerms) -> Result<Content, TextDataError> {
        let price = |key, text: Option<&str>| price(key, text, terms);
        let size = |key, text: Option<&str>| size(key, text, terms);
        let number = |key, number: Option<u64>| number.ok_or(TextDataError::Missing(key));
        Ok(Content::Event(match self.r#type {
            "trade" => Event::Trade(Trade {
                price: price("price", self.price)?,
                size: size("size", self.size)?,
                side: match self.side {
                    Some("buy") => Side::Buy,
                    Some("sell") => Side::Sell,
                    _ => Side::Unknown,
                },
                trade_id: number("trade_id", self.trade_id)?,
            }),
            "quote" => {
                let half = |at: Option<&str>, much: Option<&str>| match at {
                    None => Ok(None),
                    at => {
                        Ok::<_, TextDataError>(Some(Level { price: price("bid", at)?, size: size("bid_size", much)? }))
                    }
                };
                Event::Quote(Quote { bid: half(self.bid, self.bid_size)?, ask: half(self.ask, self.ask_size)? })
            }
            "bar" => {
                let seconds = number("interval_s", self.interval_s)?;
                let interval = BarInterval::ALL.into_iter().find(|interval| u64::from(interval.seconds()) == seconds);
                let Some(interval) = interval else { return Ok(Content::Unknown(None)) };
                Event::Bar(Bar {
                    interval,
                    open: price("open", self.open)?,
                    high: price("high", self.high)?,
                    low: price("low", self.low)?,
                    close: price("close", self.close)?,
                    volume: size("volume", self.volume)?,
                    trade_count: number("trade_count", self.trade_count)?,
                    closed: self.closed.ok_or(TextDataError::Missing("closed"))?,
                })
            }
            "ticker" => Event::Ticker(Ticker {
                last: price("last", self.last)?,
                open: price("open", self.open)?,
                high: price("high", self.high)?,
                low: price("low", self.low)?,
                volume: size("volume", self.volume)?,
                // JSON has no number for what is not finite; the protocol writes null.
                turnover: self.turnover.unwrap_or(f64::NAN),
                trade_count: number("trade_count", self.trade_count)?,
            }),
            "status" => {
                let code = match self.code {
                    Some("pre_open") => StatusCode::PreOpen,
                    Some("trading") => StatusCode::Trading,
                    Some("halted") => StatusCode::Halted,
                    Some("auction") => StatusCode::Auction,
                    Some("closed") => StatusCode::Closed,
                    _ => return Ok(Content::Unknown(Some(Channel::Status))),
                };
                Event::Status(Status { code, reason: self.reason.as_deref().unwrap_or_default().into() })
            }
            "book_snapshot" | "book_delta" => return self.book(terms),
            "gap" => {
                let channel = self.channel.and_then(|name| name.parse().ok());
                let Some(channel) = channel else { return Ok(Content::Unknown(None)) };
                let (from_seq, to_seq) = (number("from_seq", self.from_seq)?, number("to_seq", self.to_seq)?);
                let reason = self.reason.as_deref().and_then(GapReason::from_name);
                return Ok(Content::Gap { channel, from_seq, to_seq, reason });
            }
            _ => return Ok(Content::Unknown(None)),
        }))
    }

    fn book(&self, terms: &InstrumentTerms) -> Result<Content, TextDataError> {
        let depth = self.depth.ok_or(TextDataError::Missing("depth"))?;
        let Some(depth) = depth_of(depth) else { return Ok(Content::Unknown(None)) };
        let mut levels = Vec::new();
        let mut side = |key, pairs: Option<&Vec<(&str, &str)>>| {
            for (at, much) in pairs.ok_or(TextDataError::Missing(key))? {
                levels.push(Level { price: price(key, Some(at), terms)?, size: size(key, Some(much), terms)? });
            }
            Ok::<_, TextDataError>(levels.len())
        };
        let bid_count = side("bids", self.bids.as_ref())?;
        side("asks", self.asks.as_ref())?;
        let (bids, asks) = levels.split_at(bid_count);
        let update = BookUpdate::new(depth, bids, asks, self.checksum.ok_or(TextDataError::Missing("checksum"))?);
        let whole = self.r#type == "book_snapshot";
        Ok(Content::Event(if whole { Event::BookSnapshot(update) } else { Event::BookDelta(update) }))
    }
}

fn price(key: &'static str, text: Option<&str>, terms: &InstrumentTerms) -> Result<Price, TextDataError> {
    let text = text.ok_or(TextDataError::Missing(key))?;
    let value = parse_decimal(text, terms.price_exponent);
    value.map(Price).map_err(|source| TextDataError::Decimal { key, text: text.to_owned(), source })
}

fn size(key: &'static str, text: Option<&str>, terms: &InstrumentTerms) -> Result<Size, TextDataError> {
    let text = text.ok_or(TextDataError::Missing(key))?;
    parse_size(text, terms.size_exponent).map_err(|source| TextDataError::Decimal {
        key,
        text: text.to_owned(),
        source,
    })
}

/// A size has all of 64 bits, one more than [`parse_decimal`] reads.
pub(super) fn parse_size(text: &str, exponent: i8) -> Result<Size, DecimalError> {
    match parse_decimal(text, exponent) {
        Ok(value) => u64::try_from(value).map(Size).map_err(|_| DecimalError::OutOfRange),
        Err(DecimalError::OutOfRange) => large_size(text, exponent).map(Size),
        Err(error) => Err(error),
    }
}

/// Sizes of 2^63 and more, as the server writes them: exactly `-exponent` places.
fn large_size(text: &str, exponent: i8) -> Result<u64, DecimalError> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let zeros = usize::from(exponent.max(0).unsigned_abs());
    let whole =
        whole.len().checked_sub(zeros).and_then(|length| whole.get(..length)).ok_or(DecimalError::OutOfRange)?;
    if fraction.len() != usize::from(exponent.min(0).unsigned_abs()) {
        return Err(DecimalError::OutOfRange);
    }
    let digits = whole.bytes().chain(fraction.bytes());
    digits
        .map(|digit| if digit.is_ascii_digit() { Ok(u64::from(digit - b'0')) } else { Err(DecimalError::Malformed) })
        .try_fold(0_u64, |value, digit| {
            value.checked_mul(10).and_then(|value| value.checked_add(digit.ok()?)).ok_or(DecimalError::OutOfRange)
        })
}

//! Reads the native protocol's JSON: data messages and their elements, and control messages of both encodings.
//!
//! **Invariant:** a data message that is only counted is scanned and not parsed.
//!
//! Not here: MessagePack elements (`data`).

use market::{BarInterval, BookDepth, Channel, Timestamp};
use memchr::memmem;
use serde::Deserialize;

use wire::FrameKind as Kind;
use wire::decode::{ElementHead as Element, What};

/// The message is not what the protocol says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TextError {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("{0:?} is no time")]
    Time(String),
    #[error("{0:?} is no element type")]
    UnknownType(String),
    #[error("an element has no or an unknown channel, interval or depth")]
    UnknownChannel,
}

/// What all data messages begin with, and no control message.
const DATA_BEGIN: &[u8] = b"{\"sent_at\":\"";

/// Every element has exactly one of these. No value can hold it: quotes inside of a text are escaped.
const ELEMENT_MARK: &[u8] = b"{\"type\":\"";

/// A data message as far as scanning shows it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    pub(crate) kind: Kind,
    pub(crate) elements: u64,
}

/// Whether the message carries elements.
pub(crate) fn is_data(message: &[u8]) -> bool {
    message.starts_with(DATA_BEGIN)
}

/// Counts the elements of a data message.
pub(crate) fn scan(message: &[u8]) -> Scan {
    let head = &message[..message.len().min(96)];
    let kind = match memmem::find(head, b"\"data\":") {
        Some(at) if memmem::find(&head[..at], b"\"snapshot\":true").is_some() => Kind::Snapshot,
        _ => Kind::Live,
    };
    Scan { kind, elements: memmem::find_iter(message, ELEMENT_MARK).count() as u64 }
}

/// When a data message was sent, in nanoseconds since the Unix epoch.
pub(crate) fn sent_at(message: &[u8]) -> Option<u64> {
    time_at(message, DATA_BEGIN.len())
}

/// The time of the first element; as `decode::oldest_time`.
pub(crate) fn oldest_time(message: &[u8]) -> Option<u64> {
    let first = memmem::find(message, ELEMENT_MARK)? + ELEMENT_MARK.len();
    let element = &message[first..];
    if element.starts_with(b"bar\"") || element.starts_with(b"gap\"") {
        return None;
    }
    let key = b"\"time\":\"";
    time_at(element, memmem::find(element, key)? + key.len())
}

fn time_at(message: &[u8], begin: usize) -> Option<u64> {
    let text = message.get(begin..)?;
    let text = &text[..memchr::memchr(b'"', text)?];
    parse_time(std::str::from_utf8(text).ok()?).ok()
}

fn parse_time(text: &str) -> Result<u64, TextError> {
    Timestamp::parse_rfc3339(text).map(|time| time.0).map_err(|_| TextError::Time(text.to_owned()))
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(default)]
    snapshot: bool,
    #[serde(borrow)]
    data: Vec<Object<'a>>,
}

#[derive(Deserialize)]
struct Object<'a> {
    r#type: &'a str,
    symbol: &'a str,
    seq: u64,
    time: &'a str,
    interval_s: Option<u64>,
    depth: Option<u64>,
    channel: Option<&'a str>,
    #[serde(default)]
    from_seq: u64,
    #[serde(default)]
    to_seq: u64,
}

/// Parses a data message and calls `on` for each element; `number` gives a symbol a number.
///
/// # Errors
/// The message is not what the protocol says; elements before the place have been handed out.
pub(crate) fn elements(
    message: &[u8],
    mut number: impl FnMut(&str) -> u32,
    mut on: impl FnMut(Kind, Element),
) -> Result<(), TextError> {
    let message: Message<'_> = serde_json::from_slice(message)?;
    let kind = if message.snapshot { Kind::Snapshot } else { Kind::Live };
    for object in &message.data {
        let mut what = What::Value;
        let channel = match object.r#type {
            "trade" => Channel::Trades,
            "quote" => Channel::Quotes,
            "bar" => {
                let interval =
                    BarInterval::ALL.into_iter().find(|interval| object.interval_s == Some(interval.seconds().into()));
                Channel::Bars(interval.ok_or(TextError::UnknownChannel)?)
            }
            "book_snapshot" | "book_delta" => Channel::Book(match object.depth {
                Some(0) => BookDepth::Full,
                Some(10) => BookDepth::Top10,
                Some(50) => BookDepth::Top50,
                _ => return Err(TextError::UnknownChannel),
            }),
            "ticker" => Channel::Ticker,
            "status" => Channel::Status,
            "gap" => {
                what = What::Gap { from_seq: object.from_seq, to_seq: object.to_seq };
                let name = object.channel.ok_or(TextError::UnknownChannel)?;
                name.parse().map_err(|_| TextError::UnknownChannel)?
            }
            other => return Err(TextError::UnknownType(other.to_owned())),
        };
        let (instrument, time) = (number(object.symbol), parse_time(object.time)?);
        on(kind, Element { channel, instrument, seq: object.seq, time, what });
    }
    Ok(())
}

/// The keys of control messages that are looked at, in either encoding.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Control {
    pub(crate) r#type: String,
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) dropped: u64,
    pub(crate) reconnect_after_ms: Option<u64>,
}

/// The instruments of a `subscribed` message: symbol, number, and the two exponents.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Subscribed {
    pub(crate) instruments: Vec<(String, u32, i8, i8)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] = br#"{"sent_at":"2026-01-02T03:04:05.000000006Z","data":[{"type":"trade","symbol":"A","seq":7,"time":"1970-01-01T00:00:01.000000002Z","price":"1.5","size":"2","side":"buy","trade_id":0},{"type":"gap","symbol":"B","seq":9,"time":"1970-01-01T00:00:01.000000003Z","channel":"quotes","from_seq":5,"to_seq":9,"reason":"slow"},{"type":"bar","symbol":"A","seq":1,"time":"1970-01-01T00:00:00.000000000Z","interval_s":60,"open":"1"}]}"#;

    #[test]
    fn scanning_and_parsing_agree() {
        assert!(is_data(MESSAGE));
        assert_eq!(scan(MESSAGE), Scan { kind: Kind::Live, elements: 3 });
        assert_eq!(oldest_time(MESSAGE), Some(1_000_000_002));
        assert_eq!(sent_at(MESSAGE).map(|ns| ns % 1_000_000_000), Some(6));
        let mut seen = Vec::new();
        let number = |symbol: &str| u32::from(symbol.as_bytes()[0] - b'A');
        elements(MESSAGE, number, |kind, e| seen.push((kind, e.channel.name(), e.instrument, e.seq, e.what))).unwrap();
        assert_eq!(
            seen,
            [
                (Kind::Live, "trades", 0, 7, What::Value),
                (Kind::Live, "quotes", 1, 9, What::Gap { from_seq: 5, to_seq: 9 }),
                (Kind::Live, "bars.1m", 0, 1, What::Value),
            ]
        );
    }

    #[test]
    fn a_snapshot_and_a_control_message_are_told_apart() {
        let snapshot = br#"{"sent_at":"2026-01-02T03:04:05.000000006Z","snapshot":true,"data":[]}"#;
        assert_eq!(scan(snapshot), Scan { kind: Kind::Snapshot, elements: 0 });
        assert!(!is_data(br#"{"type":"welcome","version":"1"}"#));
        assert!(elements(b"{}", |_| 0, |_, _| ()).is_err());
    }
}

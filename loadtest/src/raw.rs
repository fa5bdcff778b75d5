//! Any WebSocket server: where a message has its time, and how many elements it counts for.
//!
//! **Invariant:** a message without a readable time is counted and not timed; nothing that a server sends is an error.
//!
//! Not here: the subscribe message (`plan`).

use std::str::FromStr;

use memchr::memmem;
use serde::{Deserialize, Serialize};

use wire::decode;

/// How far into a message a key is looked for. Beyond it a message is not worth the search.
pub(crate) const SEARCH_BYTES: usize = 4096;

/// Where a message has its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TimePlace {
    /// Eight bytes at an offset
    Offset { offset: usize, order: ByteOrder },
    /// The value behind a key of a JSON text
    JsonKey(String),
    /// The value behind a key of a MessagePack map, at any depth
    MessagePackKey(String),
    /// The integer at an index of the MessagePack array that the message is
    MessagePackIndex(usize),
}

/// How eight bytes make a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ByteOrder {
    Big,
    Little,
}

/// The text names no place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a time's place is be:OFFSET, le:OFFSET (8 bytes), json:KEY, msgpack:KEY, or msgpack-index:N (of an array)")]
pub(crate) struct NoPlace;

impl FromStr for TimePlace {
    type Err = NoPlace;
    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let (kind, rest) = text.split_once(':').ok_or(NoPlace)?;
        let offset = || rest.parse().map_err(|_| NoPlace);
        match kind {
            "be" => Ok(Self::Offset { offset: offset()?, order: ByteOrder::Big }),
            "le" => Ok(Self::Offset { offset: offset()?, order: ByteOrder::Little }),
            "json" if !rest.is_empty() => Ok(Self::JsonKey(rest.to_owned())),
            "msgpack" if !rest.is_empty() => Ok(Self::MessagePackKey(rest.to_owned())),
            "msgpack-index" => Ok(Self::MessagePackIndex(offset()?)),
            _ => Err(NoPlace),
        }
    }
}

/// What a number of a time counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub(crate) enum TimeUnit {
    Ns,
    Us,
    Ms,
    S,
}

impl TimeUnit {
    fn ns(self) -> u64 {
        match self {
            Self::Ns => 1,
            Self::Us => 1_000,
            Self::Ms => 1_000_000,
            Self::S => 1_000_000_000,
        }
    }
}

/// How many elements a message counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub(crate) enum CountBy {
    /// Each message is one
    Message,
    /// As many as the array has that the message is, in MessagePack
    MessagePackArray,
    /// As many as there are lines
    Line,
}

/// How messages of a raw server are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawPlan {
    pub(crate) time: Option<TimePlace>,
    pub(crate) unit: TimeUnit,
    pub(crate) count_by: CountBy,
}

impl RawPlan {
    /// How much of each message has to be seen.
    pub(crate) fn keep_bytes(&self) -> usize {
        let time = match &self.time {
            None => 0,
            Some(TimePlace::Offset { offset, .. }) => offset.saturating_add(8),
            Some(_) => SEARCH_BYTES,
        };
        match self.count_by {
            CountBy::Message => time,
            CountBy::MessagePackArray => time.max(5),
            CountBy::Line => usize::MAX,
        }
    }

    /// How many elements the message counts for.
    pub(crate) fn elements(&self, message: &[u8]) -> u64 {
        match self.count_by {
            CountBy::Message => 1,
            CountBy::MessagePackArray => decode::array_length(message).map_or(1, u64::from),
            CountBy::Line => {
                let lines = memchr::memchr_iter(b'\n', message).count() as u64;
                lines + u64::from(!message.ends_with(b"\n"))
            }
        }
    }

    /// The message's time in nanoseconds since the Unix epoch.
    pub(crate) fn time_ns(&self, message: &[u8]) -> Option<u64> {
        let unit = self.unit.ns();
        match self.time.as_ref()? {
            TimePlace::Offset { offset, order } => {
                let bytes = *message.get(*offset..)?.first_chunk()?;
                let number = match order {
                    ByteOrder::Big => u64::from_be_bytes(bytes),
                    ByteOrder::Little => u64::from_le_bytes(bytes),
                };
                scaled(number, unit)
            }
            TimePlace::JsonKey(key) => json_time(message, key, unit),
            TimePlace::MessagePackKey(key) => {
                let at = packed_key(message, key)?;
                scaled(decode::unsigned_at(message, at)?, unit)
            }
            TimePlace::MessagePackIndex(index) => scaled(decode::unsigned_of_array(message, *index)?, unit),
        }
    }
}

fn scaled(number: u64, unit_ns: u64) -> Option<u64> {
    number.checked_mul(unit_ns)
}

/// The number or RFC 3339 text behind `"key":`.
fn json_time(message: &[u8], key: &str, unit_ns: u64) -> Option<u64> {
    let quoted = format!("\"{key}\"");
    let at = memmem::find(message, quoted.as_bytes())? + quoted.len();
    let rest = message[at..].trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    if let Some(text) = rest.strip_prefix(b"\"") {
        let text = std::str::from_utf8(&text[..memchr::memchr(b'"', text)?]).ok()?;
        return market::Timestamp::parse_rfc3339(text).ok().map(|time| time.0);
    }
    let end =
        rest.iter().position(|byte| !matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+')).unwrap_or(rest.len());
    let text = std::str::from_utf8(&rest[..end]).ok()?;
    match text.parse::<u64>() {
        Ok(number) => scaled(number, unit_ns),
        Err(_) => text.parse::<f64>().ok().map(|number| (number * unit_ns as f64) as u64),
    }
}

/// Where the value of a MessagePack key begins: behind the key as a short text.
fn packed_key(message: &[u8], key: &str) -> Option<usize> {
    let mut packed = Vec::with_capacity(key.len() + 2);
    match u8::try_from(key.len()).ok()? {
        length @ 0..=31 => packed.push(0xA0 | length),
        length => packed.extend_from_slice(&[0xD9, length]),
    }
    packed.extend_from_slice(key.as_bytes());
    memmem::find(message, &packed).map(|at| at + packed.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(place: &str, unit: TimeUnit, message: &[u8], want: Option<u64>) {
        let plan = RawPlan { time: Some(place.parse().unwrap()), unit, count_by: CountBy::Message };
        assert_eq!(plan.time_ns(message), want, "{place}");
    }

    #[test]
    fn times_are_found_where_they_are() {
        check("be:1", TimeUnit::Ns, &[9, 0, 0, 0, 0, 0, 0, 1, 2], Some(258));
        check("le:0", TimeUnit::Us, &[3, 0, 0, 0, 0, 0, 0, 0], Some(3000));
        check("be:1", TimeUnit::Ns, &[0; 8], None);
        check("json:ts", TimeUnit::Ms, br#"{"a":1, "ts": 1700000000123}"#, Some(1_700_000_000_123_000_000));
        check("json:t", TimeUnit::S, br#"{"t":1.5}"#, Some(1_500_000_000));
        check("json:t", TimeUnit::S, br#"{"t":"1970-01-01T00:00:02.000000001Z"}"#, Some(2_000_000_001));
        check("json:t", TimeUnit::S, br#"{"u":1}"#, None);
        let packed = rmp_serde::to_vec_named(&serde_json::json!({"a": {"time": 77_000}})).unwrap();
        check("msgpack:time", TimeUnit::Ns, &packed, Some(77_000));
        let packed = rmp_serde::to_vec(&serde_json::json!([5, "x", 9])).unwrap();
        check("msgpack-index:2", TimeUnit::Ns, &packed, Some(9));
        assert_eq!("x".parse::<TimePlace>(), Err(NoPlace));
        assert_eq!("be:x".parse::<TimePlace>(), Err(NoPlace));
    }

    #[test]
    fn elements_are_counted_as_told() {
        let plan = |count_by| RawPlan { time: None, unit: TimeUnit::Ns, count_by };
        assert_eq!(plan(CountBy::Message).elements(b"a\nb"), 1);
        assert_eq!(plan(CountBy::Line).elements(b"a\nb"), 2);
        assert_eq!(plan(CountBy::Line).elements(b"a\nb\n"), 2);
        assert_eq!(plan(CountBy::MessagePackArray).elements(&[0x93, 1, 2, 3]), 3);
    }
}

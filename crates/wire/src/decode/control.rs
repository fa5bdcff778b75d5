//! Control messages of a server, in either encoding.
//!
//! **Invariant:** unknown keys, types, codes and channels are passed over; what is known has the type that the protocol
//! says, or the message is an error.

use std::collections::BTreeMap;
use std::fmt;

use market::{Channel, ChannelSet, InstrumentId, Price, Size, Symbol, Timestamp};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::text::parse_size;
use crate::{CommandId, Encoding, ErrorCode, Limits, Mode, NoticeCode, Recovered};

/// A control message.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the protocol's document has the keys")]
pub enum ControlMessage {
    Welcome {
        version: String,
        session: String,
        epoch: String,
        time: Timestamp,
        heartbeat_ms: u64,
        limits: Limits,
    },
    Subscribed {
        id: Option<CommandId>,
        instruments: Vec<InstrumentTerms>,
        channels: ChannelSet,
        mode: Mode,
        recovered: Vec<(String, Channel, Recovered)>,
    },
    /// `code` is none when it is not known here
    Error {
        id: Option<CommandId>,
        code: Option<ErrorCode>,
        message: String,
        symbols: Vec<String>,
    },
    Heartbeat {
        time: Timestamp,
        delivered: u64,
        dropped: u64,
    },
    /// `code` is none when it is not known here
    Notice {
        code: Option<NoticeCode>,
        reconnect_after_ms: Option<u64>,
        message: String,
    },
    /// `sent_bytes` is none when the server does not count
    Pong {
        id: Option<CommandId>,
        time: Timestamp,
        sent_bytes: Option<u64>,
    },
    Unsubscribed {
        id: Option<CommandId>,
        channels: ChannelSet,
        symbols: Vec<String>,
    },
    Subscriptions {
        id: Option<CommandId>,
    },
    Instruments {
        id: Option<CommandId>,
        instruments: Vec<InstrumentDetails>,
    },
    Authenticated {
        expires: Option<Timestamp>,
    },
    /// The end of a stream of events, in the place of a close frame
    Closed {
        code: u16,
        message: String,
    },
    /// A type that is not known here
    Unknown,
}

/// What is needed to read an instrument's elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstrumentTerms {
    /// Its number in MessagePack elements, good for the epoch
    pub id: InstrumentId,
    /// Its name
    pub symbol: Symbol,
    /// Prices are integers of 10^`price_exponent`
    pub price_exponent: i8,
    /// Sizes are integers of 10^`size_exponent`
    pub size_exponent: i8,
}

/// All that a server says about an instrument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstrumentDetails {
    /// What is needed to read its elements
    pub terms: InstrumentTerms,
    /// The smallest step of its price, in integers of the price's exponent
    pub tick_size: Price,
    /// The smallest step of its size, in integers of the size's exponent
    pub lot_size: Size,
    /// `crypto`, `equity`, `future`, or what a later server knows
    pub class: String,
    /// The currency of its price, such as `USD`
    pub currency: String,
    /// A name for people
    pub description: String,
}

/// The message is not what the protocol says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MalformedControl(String);

/// Reads a control message.
///
/// # Errors
/// [`MalformedControl`] says what is wrong.
pub fn decode_control(encoding: Encoding, payload: &[u8]) -> Result<ControlMessage, MalformedControl> {
    let body = match encoding {
        Encoding::MessagePack => rmp_serde::from_slice(payload).map_err(malformed),
        Encoding::Json => serde_json::from_slice(payload).map_err(malformed),
    };
    message(body?)
}

fn malformed(error: impl fmt::Display) -> MalformedControl {
    MalformedControl(error.to_string())
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Body {
    Welcome {
        version: String,
        session: String,
        epoch: String,
        time: Time,
        heartbeat_ms: u64,
        #[serde(default)]
        limits: Limits,
    },
    Subscribed {
        id: Option<CommandId>,
        instruments: Vec<(String, u32, i8, i8)>,
        channels: Vec<String>,
        mode: String,
        #[serde(default)]
        interval_ms: u32,
        #[serde(default)]
        recovered: BTreeMap<String, BTreeMap<String, String>>,
    },
    Error {
        id: Option<CommandId>,
        code: String,
        #[serde(default)]
        message: String,
        #[serde(default)]
        symbols: Vec<String>,
    },
    Heartbeat {
        time: Time,
        delivered: u64,
        dropped: u64,
    },
    Notice {
        code: String,
        reconnect_after_ms: Option<u64>,
        #[serde(default)]
        message: String,
    },
    Pong {
        id: Option<CommandId>,
        time: Time,
        sent_bytes: Option<u64>,
    },
    Unsubscribed {
        id: Option<CommandId>,
        channels: Vec<String>,
        symbols: Vec<String>,
    },
    Subscriptions {
        id: Option<CommandId>,
    },
    Instruments {
        id: Option<CommandId>,
        instruments: Vec<InstrumentBody>,
    },
    Authenticated {
        expires: Option<Time>,
    },
    Closed {
        code: u16,
        #[serde(default)]
        message: String,
    },
    #[serde(other)]
    Unknown,
}

#[derive(Deserialize)]
struct InstrumentBody {
    symbol: String,
    instrument_id: u32,
    price_exponent: i8,
    size_exponent: i8,
    tick_size: Step,
    lot_size: Step,
    #[serde(default)]
    class: String,
    #[serde(default)]
    currency: String,
    #[serde(default)]
    description: String,
}

/// An integer for programs, decimal text for people.
#[derive(Deserialize)]
#[serde(untagged)]
enum Step {
    Integer(u64),
    Text(String),
}

fn message(body: Body) -> Result<ControlMessage, MalformedControl> {
    Ok(match body {
        Body::Welcome { version, session, epoch, time, heartbeat_ms, limits } => {
            ControlMessage::Welcome { version, session, epoch, time: time.0, heartbeat_ms, limits }
        }
        Body::Subscribed { id, instruments, channels, mode, interval_ms, recovered } => ControlMessage::Subscribed {
            id,
            instruments: instruments.into_iter().map(row).collect::<Result<_, _>>()?,
            channels: known(&channels),
            mode: if mode == "latest" { Mode::Latest { interval_ms } } else { Mode::Every },
            recovered: flat(recovered),
        },
        Body::Error { id, code, message, symbols } => {
            ControlMessage::Error { id, code: ErrorCode::from_name(&code), message, symbols }
        }
        Body::Heartbeat { time, delivered, dropped } => ControlMessage::Heartbeat { time: time.0, delivered, dropped },
        Body::Notice { code, reconnect_after_ms, message } => {
            ControlMessage::Notice { code: NoticeCode::from_name(&code), reconnect_after_ms, message }
        }
        Body::Pong { id, time, sent_bytes } => ControlMessage::Pong { id, time: time.0, sent_bytes },
        Body::Unsubscribed { id, channels, symbols } => {
            ControlMessage::Unsubscribed { id, channels: known(&channels), symbols }
        }
        Body::Subscriptions { id } => ControlMessage::Subscriptions { id },
        Body::Instruments { id, instruments } => ControlMessage::Instruments {
            id,
            instruments: instruments.into_iter().map(InstrumentBody::details).collect::<Result<_, _>>()?,
        },
        Body::Authenticated { expires } => ControlMessage::Authenticated { expires: expires.map(|time| time.0) },
        Body::Closed { code, message } => ControlMessage::Closed { code, message },
        Body::Unknown => ControlMessage::Unknown,
    })
}

impl InstrumentBody {
    fn details(self) -> Result<InstrumentDetails, MalformedControl> {
        let terms = row((self.symbol, self.instrument_id, self.price_exponent, self.size_exponent))?;
        let step = |step: Step, exponent| match step {
            Step::Integer(value) => Ok(value),
            Step::Text(text) => parse_size(&text, exponent).map(|size| size.0).map_err(malformed),
        };
        let tick_size = i64::try_from(step(self.tick_size, terms.price_exponent)?).map_err(malformed)?;
        Ok(InstrumentDetails {
            tick_size: Price(tick_size),
            lot_size: Size(step(self.lot_size, terms.size_exponent)?),
            class: self.class,
            currency: self.currency,
            description: self.description,
            terms,
        })
    }
}

fn row(
    (symbol, id, price_exponent, size_exponent): (String, u32, i8, i8),
) -> Result<InstrumentTerms, MalformedControl> {
    let symbol = Symbol::new(&symbol).map_err(malformed)?;
    Ok(InstrumentTerms { id: InstrumentId(id), symbol, price_exponent, size_exponent })
}

fn known(names: &[String]) -> ChannelSet {
    names.iter().filter_map(|name| name.parse::<Channel>().ok()).collect()
}

fn flat(recovered: BTreeMap<String, BTreeMap<String, String>>) -> Vec<(String, Channel, Recovered)> {
    let streams = recovered.into_iter().flat_map(|(symbol, channels)| {
        channels.into_iter().filter_map(move |(name, how)| {
            let how = serde_json::from_value(how.into()).ok()?;
            Some((symbol.clone(), name.parse().ok()?, how))
        })
    });
    streams.collect()
}

/// A time: an integer for programs, text for people.
struct Time(Timestamp);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("nanoseconds or an RFC 3339 time")
            }

            fn visit_u64<E>(self, nanos: u64) -> Result<Time, E> {
                Ok(Time(Timestamp(nanos)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Time, E> {
                Timestamp::parse_rfc3339(text).map(Time).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

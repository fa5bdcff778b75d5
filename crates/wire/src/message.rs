//! Control messages, server to client: maps with `type`, in either dialect.
//!
//! **Invariant:** both dialects have the same keys in the same order; only times (integers of nanoseconds, or RFC 3339
//! text) and steps (integers, or decimal text) differ. Keys that may be missing are `id`, `symbols` of an error,
//! `reconnect_after_ms` and `expires`; all others are always there.
//!
//! What is *not* here: data frames (`element`). Control messages are rare, so this goes through serde.

use std::collections::BTreeMap;

use market::{Channel, ChannelSet, Instrument, Timestamp};
use serde::{Deserialize, Serialize, Serializer};

use crate::{CommandError, CommandId, Dialect, Limits, Mode, decimal};

/// A control message.
#[derive(Debug, Clone)]
pub enum ServerMessage<'a> {
    /// `welcome`, the first message of a session
    Welcome {
        /// Of the server
        version: &'a str,
        /// The session's name, for logs
        session: &'a str,
        /// The epoch of the sequence numbers
        epoch: &'a str,
        /// The server's clock
        time: Timestamp,
        /// How often a `heartbeat` comes
        heartbeat_ms: u64,
        /// What the session may do
        limits: &'a Limits,
    },
    /// `subscribed`, before any data of the subscription
    Subscribed {
        /// Of the command
        id: Option<&'a CommandId>,
        /// What the numbers in the elements mean
        instruments: &'a [&'a Instrument],
        /// Of the subscription
        channels: ChannelSet,
        /// How it is delivered
        mode: Mode,
        /// How each resumed sequence goes on
        recovered: &'a [(&'a str, Channel, Recovered)],
    },
    /// `error`
    Error(&'a CommandError),
    /// `heartbeat`
    Heartbeat {
        /// The server's clock
        time: Timestamp,
        /// Elements sent to this session
        delivered: u64,
        /// Elements it was owed and did not get
        dropped: u64,
    },
    /// `notice`: something a person or a program should know
    Notice {
        /// What
        code: NoticeCode,
        /// When to come back, if to come back
        reconnect_after_ms: Option<u64>,
        /// In words
        message: &'a str,
    },
    /// `pong`, the answer to the command `ping`
    Pong {
        /// Of the command
        id: Option<&'a CommandId>,
        /// The server's clock
        time: Timestamp,
        /// Bytes of the frames made for this session so far, compressed if they are
        sent_bytes: u64,
    },
    /// `unsubscribed`
    Unsubscribed {
        /// Of the command
        id: Option<&'a CommandId>,
        /// Which channels
        channels: ChannelSet,
        /// Which symbols
        symbols: &'a [&'a str],
    },
    /// `subscriptions`, the whole current set
    Subscriptions {
        /// Of the command
        id: Option<&'a CommandId>,
        /// The set
        subscriptions: &'a [SubscriptionInfo<'a>],
    },
    /// `instruments`: an answer, or without `id` an announcement
    Instruments {
        /// Of the command
        id: Option<&'a CommandId>,
        /// Everything about them
        instruments: &'a [&'a Instrument],
    },
    /// `authenticated`
    Authenticated {
        /// Until when
        expires: Option<Timestamp>,
    },
    /// `closed`, the last event of an event stream; a WebSocket has its close frame for that
    Closed {
        /// Why, as the metrics count it
        reason: &'a str,
        /// What the close frame of a WebSocket would have said
        code: u16,
        /// Whether the client does right to come back by itself
        may_reconnect: bool,
        /// In words
        message: &'a str,
    },
}

/// A part of a session's subscriptions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionInfo<'a> {
    /// Which channel
    pub channel: Channel,
    /// Which symbols; `["*"]` for all
    pub symbols: Vec<&'a str>,
    /// How it is delivered
    pub mode: Mode,
}

/// How a sequence goes on that a client wanted to resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recovered {
    /// Everything since then follows
    Recovered,
    /// The state follows
    Snapshot,
    /// A gap is declared and the state follows
    Gap,
}

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeCode {
    /// The server is about to close this connection
    Draining,
    /// The client does not keep up
    Slow,
    /// The client sends too many commands
    RateLimited,
    /// The feed has come to its end
    FeedEnded,
    /// The feed is broken
    FeedFailed,
    /// The client's token will soon be worthless
    TokenExpires,
}

impl NoticeCode {
    /// The code of a name on the wire.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "draining" => Self::Draining,
            "slow" => Self::Slow,
            "rate_limited" => Self::RateLimited,
            "feed_ended" => Self::FeedEnded,
            "feed_failed" => Self::FeedFailed,
            "token_expires" => Self::TokenExpires,
            _ => return None,
        })
    }
}

/// Appends a control message.
pub fn encode_message(dialect: Dialect, message: &ServerMessage<'_>, out: &mut Vec<u8>) {
    let body = Body::of(message);
    // Neither can fail: the writer is a `Vec`, and no map here has keys other than strings.
    match dialect {
        Dialect::NativeMessagePack => {
            let _ = body.serialize(&mut rmp_serde::Serializer::new(out).with_struct_map());
        }
        Dialect::NativeJson => {
            let _ = serde_json::to_writer(out, &body);
        }
    }
}

/// The message as it is written: the order and the names of the keys.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Body<'a> {
    Welcome {
        version: &'a str,
        session: &'a str,
        epoch: &'a str,
        time: Time,
        heartbeat_ms: u64,
        limits: &'a Limits,
    },
    Subscribed {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a CommandId>,
        instruments: Vec<(&'a str, u32, i8, i8)>,
        channels: Vec<&'static str>,
        mode: &'static str,
        interval_ms: u32,
        recovered: BTreeMap<&'a str, BTreeMap<&'static str, Recovered>>,
    },
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a CommandId>,
        code: &'static str,
        message: &'a str,
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        symbols: &'a [String],
    },
    Heartbeat {
        time: Time,
        delivered: u64,
        dropped: u64,
    },
    Notice {
        code: NoticeCode,
        #[serde(skip_serializing_if = "Option::is_none")]
        reconnect_after_ms: Option<u64>,
        message: &'a str,
    },
    Pong {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a CommandId>,
        time: Time,
        sent_bytes: u64,
    },
    Unsubscribed {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a CommandId>,
        channels: Vec<&'static str>,
        symbols: &'a [&'a str],
    },
    Subscriptions {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a CommandId>,
        subscriptions: Vec<SubscriptionBody<'a>>,
    },
    Instruments {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a CommandId>,
        instruments: Vec<InstrumentBody<'a>>,
    },
    Authenticated {
        #[serde(skip_serializing_if = "Option::is_none")]
        expires: Option<Time>,
    },
    Closed {
        reason: &'a str,
        code: u16,
        may_reconnect: bool,
        message: &'a str,
    },
}

#[derive(Serialize)]
struct SubscriptionBody<'a> {
    channel: &'static str,
    symbols: &'a [&'a str],
    mode: &'static str,
    interval_ms: u32,
}

#[derive(Serialize)]
struct InstrumentBody<'a> {
    symbol: &'a str,
    instrument_id: u32,
    price_exponent: i8,
    size_exponent: i8,
    tick_size: Step,
    lot_size: Step,
    class: &'static str,
    currency: &'a str,
    description: &'a str,
}

impl<'a> Body<'a> {
    fn of(message: &'a ServerMessage<'a>) -> Self {
        match *message {
            ServerMessage::Welcome { version, session, epoch, time, heartbeat_ms, limits } => {
                Self::Welcome { version, session, epoch, time: Time(time), heartbeat_ms, limits }
            }
            ServerMessage::Subscribed { id, instruments, channels, mode, recovered } => Self::Subscribed {
                id,
                instruments: instruments.iter().map(|instrument| row(instrument)).collect(),
                channels: names(channels),
                mode: mode.name(),
                interval_ms: mode.interval_ms(),
                recovered: nested(recovered),
            },
            ServerMessage::Error(CommandError { id, code, message, symbols }) => {
                Self::Error { id: id.as_ref(), code: code.name(), message, symbols }
            }
            ServerMessage::Heartbeat { time, delivered, dropped } => {
                Self::Heartbeat { time: Time(time), delivered, dropped }
            }
            ServerMessage::Notice { code, reconnect_after_ms, message } => {
                Self::Notice { code, reconnect_after_ms, message }
            }
            ServerMessage::Pong { id, time, sent_bytes } => Self::Pong { id, time: Time(time), sent_bytes },
            ServerMessage::Unsubscribed { id, channels, symbols } => {
                Self::Unsubscribed { id, channels: names(channels), symbols }
            }
            ServerMessage::Subscriptions { id, subscriptions } => {
                Self::Subscriptions { id, subscriptions: subscriptions.iter().map(SubscriptionBody::of).collect() }
            }
            ServerMessage::Instruments { id, instruments } => Self::Instruments {
                id,
                instruments: instruments.iter().map(|instrument| InstrumentBody::of(instrument)).collect(),
            },
            ServerMessage::Authenticated { expires } => Self::Authenticated { expires: expires.map(Time) },
            ServerMessage::Closed { reason, code, may_reconnect, message } => {
                Self::Closed { reason, code, may_reconnect, message }
            }
        }
    }
}

impl<'a> SubscriptionBody<'a> {
    fn of(info: &'a SubscriptionInfo<'a>) -> Self {
        Self {
            channel: info.channel.name(),
            symbols: &info.symbols,
            mode: info.mode.name(),
            interval_ms: info.mode.interval_ms(),
        }
    }
}

impl<'a> InstrumentBody<'a> {
    fn of(instrument: &'a Instrument) -> Self {
        let (symbol, instrument_id, price_exponent, size_exponent) = row(instrument);
        Self {
            symbol,
            instrument_id,
            price_exponent,
            size_exponent,
            // A step is never negative.
            tick_size: Step { value: instrument.tick_size.0.unsigned_abs(), exponent: price_exponent },
            lot_size: Step { value: instrument.lot_size.0, exponent: size_exponent },
            class: instrument.class.name(),
            currency: &instrument.currency,
            description: &instrument.description,
        }
    }
}

fn row(instrument: &Instrument) -> (&str, u32, i8, i8) {
    (instrument.symbol.as_str(), instrument.id.0, instrument.price_exponent, instrument.size_exponent)
}

fn names(channels: ChannelSet) -> Vec<&'static str> {
    channels.iter().map(Channel::name).collect()
}

fn nested<'a>(recovered: &[(&'a str, Channel, Recovered)]) -> BTreeMap<&'a str, BTreeMap<&'static str, Recovered>> {
    let mut by_symbol: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for (symbol, channel, how) in recovered {
        by_symbol.entry(*symbol).or_default().insert(channel.name(), *how);
    }
    by_symbol
}

/// A time: an integer for programs, text for people.
struct Time(Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(&self.0)
        } else {
            serializer.serialize_u64(self.0.0)
        }
    }
}

/// A tick or lot size: an integer for programs, decimal text for people.
struct Step {
    value: u64,
    exponent: i8,
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return serializer.serialize_u64(self.value);
        }
        let mut text = Vec::new();
        decimal::size(market::Size(self.value), self.exponent, &mut text);
        serializer.serialize_str(&String::from_utf8_lossy(&text))
    }
}

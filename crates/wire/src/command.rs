//! Commands of clients: bytes in, a checked [`Command`] or a [`CommandError`] out.
//!
//! **Invariant:** whatever the bytes, the result is one of the two; the error carries the command's `id` whenever it
//! could be read, names the key, says what it was and what would be right.
//!
//! What is *not* here: whether a symbol exists and whether the client may have it, which `hub` knows.

use std::borrow::Cow;
use std::fmt;

use market::{Channel, ChannelSet};
use serde::{Deserialize, Serialize};

use crate::Encoding;
use crate::unpack::read_message_pack;
use crate::value::{Entries, Value, read_json};

/// The interval of mode `latest` when a command does not say, in milliseconds.
pub const INTERVAL_MS_DEFAULT: u32 = 100;

/// How much of a peer's text an error message repeats, in characters.
const QUOTED_MAX: usize = 64;

/// The client's own mark on a command, echoed in the answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CommandId {
    /// An integer that fits into `i64`
    Integer(i64),
    /// A larger integer
    Unsigned(u64),
    /// A string
    Text(Box<str>),
}

/// A command and its `id`.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// The client's own mark
    pub id: Option<CommandId>,
    /// What it wants
    pub command: Command,
}

/// What a client can want.
#[derive(Clone, PartialEq)]
pub enum Command {
    /// `auth`
    Auth {
        /// An API key or a JWT; left out of the `Debug` text, which ends up in logs
        token: String,
    },
    /// `subscribe`
    Subscribe(Subscribe),
    /// `update`: changes the mode of what is subscribed already
    Update(Subscribe),
    /// `unsubscribe`
    Unsubscribe {
        /// Of which channels; all when not given
        channels: Option<ChannelSet>,
        /// Of which symbols; all when not given
        symbols: Option<Symbols>,
    },
    /// `subscriptions`
    Subscriptions,
    /// `instruments`
    Instruments {
        /// Only symbols that begin so
        prefix: Option<String>,
    },
    /// `ping`
    Ping,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auth { .. } => f.write_str("Auth"),
            Self::Subscribe(subscribe) => f.debug_tuple("Subscribe").field(subscribe).finish(),
            Self::Update(subscribe) => f.debug_tuple("Update").field(subscribe).finish(),
            Self::Unsubscribe { channels, symbols } => {
                f.debug_struct("Unsubscribe").field("channels", channels).field("symbols", symbols).finish()
            }
            Self::Subscriptions => f.write_str("Subscriptions"),
            Self::Instruments { prefix } => f.debug_struct("Instruments").field("prefix", prefix).finish(),
            Self::Ping => f.write_str("Ping"),
        }
    }
}

/// What is to be subscribed and how it is to be delivered.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscribe {
    /// Which channels; never empty
    pub channels: ChannelSet,
    /// Which symbols; never empty
    pub symbols: Symbols,
    /// How often
    pub mode: Mode,
    /// Whether the current state is wanted first
    pub snapshot: bool,
    /// What happens when the client does not keep up
    pub slow: SlowPolicy,
    /// Where to go on
    pub since: Option<Since>,
}

/// Which symbols a command is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Symbols {
    /// `*`, alone or among others
    All,
    /// The names as the client wrote them; they need not exist, nor be possible
    Named(Vec<String>),
}

/// How often values are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Every element
    Every,
    /// The newest element per instrument and channel
    Latest {
        /// How often, in milliseconds; 0 = as fast as the socket is drained
        interval_ms: u32,
    },
}

impl Mode {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Every => "every",
            Self::Latest { .. } => "latest",
        }
    }

    /// The interval on the wire; 0 in mode `every`, which does not wait either.
    pub const fn interval_ms(self) -> u32 {
        match self {
            Self::Every => 0,
            Self::Latest { interval_ms } => interval_ms,
        }
    }
}

/// What happens to a client that does not keep up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlowPolicy {
    /// It gets the newest values and a gap
    Conflate,
    /// It is disconnected
    Disconnect,
}

/// Where a client left off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Since {
    /// The epoch of the numbers
    pub epoch: String,
    /// The last number seen, per symbol and channel
    pub seqs: Vec<(String, Channel, u64)>,
}

/// What is wrong with a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ErrorCode {
    NotSubscribed,
    BadCommand,
    UnknownOp,
    UnknownChannel,
    UnknownSymbol,
    TooManySubscriptions,
    RateLimited,
    AuthRequired,
    AuthFailed,
    AuthTimeout,
    NotEntitled,
    MessageTooBig,
    Internal,
}

impl ErrorCode {
    /// The code on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotSubscribed => "not_subscribed",
            Self::BadCommand => "bad_command",
            Self::UnknownOp => "unknown_op",
            Self::UnknownChannel => "unknown_channel",
            Self::UnknownSymbol => "unknown_symbol",
            Self::TooManySubscriptions => "too_many_subscriptions",
            Self::RateLimited => "rate_limited",
            Self::AuthRequired => "auth_required",
            Self::AuthFailed => "auth_failed",
            Self::AuthTimeout => "auth_timeout",
            Self::NotEntitled => "not_entitled",
            Self::MessageTooBig => "message_too_big",
            Self::Internal => "internal",
        }
    }

    /// The code of a name on the wire.
    pub fn from_name(name: &str) -> Option<Self> {
        const ALL: [ErrorCode; 13] = {
            use ErrorCode as E;
            [
                E::NotSubscribed,
                E::BadCommand,
                E::UnknownOp,
                E::UnknownChannel,
                E::UnknownSymbol,
                E::TooManySubscriptions,
                E::RateLimited,
                E::AuthRequired,
                E::AuthFailed,
                E::AuthTimeout,
                E::NotEntitled,
                E::MessageTooBig,
                E::Internal,
            ]
        };
        ALL.into_iter().find(|code| code.name() == name)
    }
}

/// A command that is refused; it becomes an `error` message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.name())]
pub struct CommandError {
    /// The command's mark, when it could be read
    pub id: Option<CommandId>,
    /// What kind of mistake
    pub code: ErrorCode,
    /// The mistake in words: where, what it was, what would be right
    pub message: String,
    /// The symbols it is about, if it is about symbols
    pub symbols: Vec<String>,
}

/// Reads one command.
///
/// Keys that are not known are ignored, `nil` counts as left out, and of a key given twice the last one counts. The
/// caller bounds the payload; nesting is bounded here.
///
/// # Errors
/// [`CommandError`], ready to be sent, for anything that is not a command.
pub fn parse_command(encoding: Encoding, payload: &[u8]) -> Result<Envelope, CommandError> {
    let mut entries = Vec::new();
    let read = match encoding {
        Encoding::MessagePack => {
            read_message_pack(payload, &mut entries).map_err(|e| format!("not a command in MessagePack: {e}"))
        }
        Encoding::Json => read_json(payload, &mut entries).map_err(|e| format!("not a command in JSON: {e}")),
    };
    let keys = Keys { entries };
    let id = keys.id();
    let command = match (read, &id) {
        (Err(message), _) => Err(bad(message)),
        (Ok(()), Err(mistake)) => Err(mistake.clone()),
        (Ok(()), Ok(_)) => keys.command(),
    };
    let id = id.unwrap_or_default();
    match command {
        Ok(command) => Ok(Envelope { id, command }),
        Err(Mistake { code, message }) => Err(CommandError { id, code, message, symbols: Vec::new() }),
    }
}

/// An error before the command's `id` is put to it.
#[derive(Debug, Clone)]
struct Mistake {
    code: ErrorCode,
    message: String,
}

fn bad(message: String) -> Mistake {
    Mistake { code: ErrorCode::BadCommand, message }
}

fn wrong(key: &str, value: &Value<'_>, right: &str) -> Mistake {
    bad(format!("{key} is {}; it should be {right}", value.describe()))
}

fn quoted(text: &str) -> String {
    if text.chars().count() <= QUOTED_MAX {
        format!("{text:?}")
    } else {
        format!("{:?}...", text.chars().take(QUOTED_MAX).collect::<String>())
    }
}

const CHANNELS_RIGHT: &str = "a list of channel names such as [\"trades\", \"quotes\"]";
const SYMBOLS_RIGHT: &str = "a list of symbols, or [\"*\"] for all";
const SEQS_RIGHT: &str = "a map of symbols to maps of channels to the last seq seen";

/// The keys of a command.
struct Keys<'a> {
    entries: Entries<'a>,
}

impl<'a> Keys<'a> {
    fn command(&self) -> Result<Command, Mistake> {
        let op = self.required("op", "the name of a command")?;
        let Value::Text(op) = op else { return Err(wrong("op", op, "the name of a command")) };
        Ok(match op.as_ref() {
            "auth" => {
                let token = self.required("token", "an API key or a JWT")?;
                let Value::Text(token) = token else { return Err(wrong("token", token, "a string")) };
                Command::Auth { token: token.clone().into_owned() }
            }
            "subscribe" => Command::Subscribe(self.subscribe(self.mode()?.unwrap_or(Mode::Every))?),
            "update" => {
                let mode = self.mode_of_update()?;
                Command::Update(self.subscribe(mode)?)
            }
            "unsubscribe" => Command::Unsubscribe {
                channels: self.find("channels").map(channels).transpose()?,
                symbols: self.find("symbols").map(symbols).transpose()?,
            },
            "subscriptions" => Command::Subscriptions,
            "instruments" => Command::Instruments { prefix: self.text("prefix")?.map(Cow::into_owned) },
            "ping" => Command::Ping,
            unknown => {
                return Err(Mistake {
                    code: ErrorCode::UnknownOp,
                    message: format!(
                        "{} is not a command; known are auth, subscribe, unsubscribe, update, subscriptions, \
                         instruments, ping",
                        quoted(unknown)
                    ),
                });
            }
        })
    }

    fn subscribe(&self, mode: Mode) -> Result<Subscribe, Mistake> {
        Ok(Subscribe {
            channels: channels(self.required("channels", CHANNELS_RIGHT)?)?,
            symbols: symbols(self.required("symbols", SYMBOLS_RIGHT)?)?,
            mode,
            snapshot: self.snapshot()?,
            slow: self.slow()?,
            since: self.find("since").map(since).transpose()?,
        })
    }

    /// The mode, if the command names one; an interval alone does not make a `subscribe` lose values.
    fn mode(&self) -> Result<Option<Mode>, Mistake> {
        let interval_ms = self.interval_ms()?;
        Ok(match self.text("mode")?.as_deref() {
            None => None,
            Some("every") => Some(Mode::Every),
            Some("latest") => Some(Mode::Latest { interval_ms: interval_ms.unwrap_or(INTERVAL_MS_DEFAULT) }),
            Some(other) => return Err(bad(format!("mode is {}; it should be every or latest", quoted(other)))),
        })
    }

    fn mode_of_update(&self) -> Result<Mode, Mistake> {
        match (self.mode()?, self.interval_ms()?) {
            (Some(mode), _) => Ok(mode),
            (None, Some(interval_ms)) => Ok(Mode::Latest { interval_ms }),
            (None, None) => Err(bad("mode and interval_ms are missing; an update needs one of them".into())),
        }
    }

    fn interval_ms(&self) -> Result<Option<u32>, Mistake> {
        let right = "an integer of milliseconds, 0 to 4294967295";
        match self.find("interval_ms") {
            None => Ok(None),
            Some(Value::Unsigned(value)) => u32::try_from(*value)
                .map(Some)
                .map_err(|_| bad(format!("interval_ms is {value}; it should be {right}"))),
            Some(other) => Err(wrong("interval_ms", other, right)),
        }
    }

    fn snapshot(&self) -> Result<bool, Mistake> {
        match self.find("snapshot") {
            None => Ok(true),
            Some(Value::Bool(snapshot)) => Ok(*snapshot),
            Some(other) => Err(wrong("snapshot", other, "true or false")),
        }
    }

    fn slow(&self) -> Result<SlowPolicy, Mistake> {
        match self.text("slow")?.as_deref() {
            None | Some("conflate") => Ok(SlowPolicy::Conflate),
            Some("disconnect") => Ok(SlowPolicy::Disconnect),
            Some(other) => Err(bad(format!("slow is {}; it should be conflate or disconnect", quoted(other)))),
        }
    }

    fn id(&self) -> Result<Option<CommandId>, Mistake> {
        Ok(match self.find("id") {
            None => None,
            Some(Value::Unsigned(id)) => Some(i64::try_from(*id).map_or(CommandId::Unsigned(*id), CommandId::Integer)),
            Some(Value::Negative(id)) => Some(CommandId::Integer(*id)),
            Some(Value::Text(id)) => Some(CommandId::Text(id.as_ref().into())),
            Some(other) => return Err(wrong("id", other, "a 64-bit integer or a string")),
        })
    }

    fn text(&self, key: &str) -> Result<Option<Cow<'a, str>>, Mistake> {
        match self.find(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text.clone())),
            Some(other) => Err(wrong(key, other, "a string")),
        }
    }

    fn required(&self, key: &str, right: &str) -> Result<&Value<'a>, Mistake> {
        self.find(key).ok_or_else(|| bad(format!("{key} is missing; it should be {right}")))
    }

    fn find(&self, key: &str) -> Option<&Value<'a>> {
        let entry = self.entries.iter().rev().find(|(name, _)| name == key);
        entry.map(|(_, value)| value).filter(|value| !matches!(value, Value::Nil))
    }
}

fn channels(value: &Value<'_>) -> Result<ChannelSet, Mistake> {
    let Value::Array(items) = value else { return Err(wrong("channels", value, CHANNELS_RIGHT)) };
    if items.is_empty() {
        return Err(bad(format!("channels is empty; it should be {CHANNELS_RIGHT}")));
    }
    items
        .iter()
        .enumerate()
        .map(|(index, item)| match item {
            Value::Text(name) => channel(name),
            other => Err(wrong(&format!("channels[{index}]"), other, "the name of a channel")),
        })
        .collect()
}

fn channel(name: &str) -> Result<Channel, Mistake> {
    name.parse().map_err(|unknown: market::UnknownChannel| Mistake {
        code: ErrorCode::UnknownChannel,
        message: unknown.to_string(),
    })
}

fn symbols(value: &Value<'_>) -> Result<Symbols, Mistake> {
    let Value::Array(items) = value else { return Err(wrong("symbols", value, SYMBOLS_RIGHT)) };
    if items.is_empty() {
        return Err(bad(format!("symbols is empty; it should be {SYMBOLS_RIGHT}")));
    }
    let mut names = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let Value::Text(name) = item else {
            return Err(wrong(&format!("symbols[{index}]"), item, "a string"));
        };
        names.push(name.as_ref());
    }
    // After the loop, so that a wrong type behind the `*` is still an error.
    if names.contains(&"*") {
        return Ok(Symbols::All);
    }
    Ok(Symbols::Named(names.into_iter().map(str::to_owned).collect()))
}

fn since(value: &Value<'_>) -> Result<Since, Mistake> {
    let right = "a map with epoch and seqs";
    let Value::Map(entries) = value else { return Err(wrong("since", value, right)) };
    let find = |key| entries.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value);
    let epoch = match find("epoch") {
        Some(Value::Text(epoch)) => epoch.clone().into_owned(),
        Some(other) => return Err(wrong("since.epoch", other, "the epoch of a welcome, a string")),
        None => return Err(bad(format!("since.epoch is missing; since should be {right}"))),
    };
    let by_symbol = match find("seqs") {
        Some(Value::Map(by_symbol)) => by_symbol,
        Some(other) => return Err(wrong("since.seqs", other, SEQS_RIGHT)),
        None => return Err(bad(format!("since.seqs is missing; it should be {SEQS_RIGHT}"))),
    };
    let mut seqs = Vec::new();
    for (symbol, by_channel) in by_symbol {
        let Value::Map(by_channel) = by_channel else {
            return Err(wrong(&format!("since.seqs of {}", quoted(symbol)), by_channel, "a map of channels to seqs"));
        };
        for (name, seq) in by_channel {
            let Value::Unsigned(seq) = seq else {
                return Err(wrong(
                    &format!("since.seqs of {}, {}", quoted(symbol), quoted(name)),
                    seq,
                    "a seq, 0 or more",
                ));
            };
            seqs.push((symbol.clone().into_owned(), channel(name)?, *seq));
        }
    }
    Ok(Since { epoch, seqs })
}

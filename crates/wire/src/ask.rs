//! Commands as a client writes them: the counterpart of [`crate::parse_command`].
//!
//! **Invariant:** what is written here is read back as the same command, in either encoding.

use std::collections::BTreeMap;

use market::{Channel, ChannelSet};
use serde::Serialize;

use crate::{Command, CommandId, Encoding, Envelope, Mode, Since, SlowPolicy, Subscribe, Symbols};

/// Appends a command.
pub fn encode_command(encoding: Encoding, envelope: &Envelope, out: &mut Vec<u8>) {
    let body = Body::of(envelope);
    // Neither can fail: the writer is a `Vec`, and no map here has keys other than strings.
    match encoding {
        Encoding::MessagePack => {
            let _ = body.serialize(&mut rmp_serde::Serializer::new(out).with_struct_map());
        }
        Encoding::Json => {
            let _ = serde_json::to_writer(out, &body);
        }
    }
}

/// The keys of all commands; those that are none are left out.
#[derive(Serialize, Default)]
struct Body<'a> {
    op: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a CommandId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<Vec<&'static str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    symbols: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval_ms: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slow: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<SinceBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<&'a str>,
}

#[derive(Serialize)]
struct SinceBody<'a> {
    epoch: &'a str,
    seqs: BTreeMap<&'a str, BTreeMap<&'static str, u64>>,
}

impl<'a> Body<'a> {
    fn of(Envelope { id, command }: &'a Envelope) -> Self {
        let body = match command {
            Command::Auth { token } => Self { op: "auth", token: Some(token), ..Self::default() },
            Command::Subscribe(subscribe) => Self::subscribe("subscribe", subscribe),
            Command::Update(subscribe) => Self::subscribe("update", subscribe),
            Command::Unsubscribe { channels, symbols } => Self {
                op: "unsubscribe",
                channels: channels.map(names),
                symbols: symbols.as_ref().map(texts),
                ..Self::default()
            },
            Command::Subscriptions => Self { op: "subscriptions", ..Self::default() },
            Command::Instruments { prefix } => Self { op: "instruments", prefix: prefix.as_deref(), ..Self::default() },
            Command::Ping => Self { op: "ping", ..Self::default() },
        };
        Self { id: id.as_ref(), ..body }
    }

    fn subscribe(op: &'static str, subscribe: &'a Subscribe) -> Self {
        Self {
            op,
            channels: Some(names(subscribe.channels)),
            symbols: Some(texts(&subscribe.symbols)),
            mode: Some(subscribe.mode.name()),
            interval_ms: matches!(subscribe.mode, Mode::Latest { .. }).then(|| subscribe.mode.interval_ms()),
            snapshot: (!subscribe.snapshot).then_some(false),
            slow: (subscribe.slow == SlowPolicy::Disconnect).then_some("disconnect"),
            since: subscribe.since.as_ref().map(since),
            ..Self::default()
        }
    }
}

fn names(channels: ChannelSet) -> Vec<&'static str> {
    channels.iter().map(Channel::name).collect()
}

fn texts(symbols: &Symbols) -> Vec<&str> {
    match symbols {
        Symbols::All => vec!["*"],
        Symbols::Named(names) => names.iter().map(String::as_str).collect(),
    }
}

fn since(since: &Since) -> SinceBody<'_> {
    let mut seqs: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for (symbol, channel, seq) in &since.seqs {
        seqs.entry(symbol.as_str()).or_default().insert(channel.name(), *seq);
    }
    SinceBody { epoch: &since.epoch, seqs }
}

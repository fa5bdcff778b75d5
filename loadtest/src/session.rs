//! One client of the native protocol: upgrade, subscribe, check what comes, answer pings.
//!
//! **Invariant:** no I/O; bytes that were read come in, bytes to write are appended to a buffer of the caller.
//!
//! Not here: the sockets (`swarm`), the totals' meaning (`report`).

use serde::Deserialize;

use crate::data::{self, DataError, Kind, What};
use crate::frames::{FrameError, FrameReader, Incoming};
use crate::sequence::{Expectation, Sequences};
use crate::tally::Tally;
use crate::upgrade::{Entropy, Target, Upgrade, UpgradeError, masked_frame};

/// The subprotocol that is offered, the only one that is understood.
const SUBPROTOCOL: &str = "ticker.v1.msgpack";

/// One in so many messages has the latency of its elements recorded; the histogram costs more than the check.
const LATENCY_SAMPLE: u64 = 8;

/// What every session of a run does.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) target: Target,
    /// The `subscribe` command, packed
    pub(crate) subscribe: Vec<u8>,
    pub(crate) expectation: Expectation,
    pub(crate) channels: market::ChannelSet,
}

/// How closely a session looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scrutiny {
    /// Every element is read and its number checked
    Verify,
    /// Elements are counted from the array's header
    Count,
}

/// The instant of a read, on the clock that the server stamps with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadAt {
    /// Nanoseconds since the Unix epoch
    pub(crate) wall_ns: u64,
    /// Whether the measured window is open
    pub(crate) measured: bool,
}

/// Why a session is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Over {
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
    #[error("broken framing: {0}")]
    Frame(#[from] FrameError),
    #[error("broken data message: {0}")]
    Data(#[from] DataError),
    #[error("broken control message: {0}")]
    Control(#[from] rmp_serde::decode::Error),
    #[error("a text message on a MessagePack session")]
    Text,
    #[error("the server refused the subscription: {0}")]
    Refused(String),
    #[error("the server closed with {}{reason}", .code.map(|code| format!("{code} ")).unwrap_or_default())]
    Closed { code: Option<u16>, reason: String },
}

/// The keys of control messages that are looked at.
#[derive(Debug, Deserialize)]
struct Control {
    r#type: String,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    dropped: u64,
}

#[derive(Debug)]
enum Stage {
    Upgrading(Upgrade),
    /// Upgraded; the subscription has been sent and not been answered.
    Subscribing(FrameReader),
    Subscribed(FrameReader),
}

/// One client.
#[derive(Debug)]
pub(crate) struct Session {
    stage: Stage,
    checks: Checks,
}

/// What the messages of one client are checked against; apart from the stage so that a reader can be fed while it runs.
#[derive(Debug)]
struct Checks {
    sequences: Option<Sequences>,
    /// What the last heartbeat said, so that only its growth is added to the totals
    dropped_said: u64,
    messages: u64,
}

impl Session {
    /// Begins: appends the upgrade request to `out`.
    pub(crate) fn begin(plan: &Plan, scrutiny: Scrutiny, entropy: &mut Entropy, out: &mut Vec<u8>) -> Self {
        let (upgrade, request) = Upgrade::begin(&plan.target, SUBPROTOCOL, entropy.nonce());
        out.extend_from_slice(&request);
        let sequences = (scrutiny == Scrutiny::Verify).then(|| Sequences::new(plan.expectation, plan.channels));
        Self { stage: Stage::Upgrading(upgrade), checks: Checks { sequences, dropped_said: 0, messages: 0 } }
    }

    /// Whether the server has accepted the subscription.
    pub(crate) fn is_subscribed(&self) -> bool {
        matches!(self.stage, Stage::Subscribed(_))
    }

    /// Takes bytes as they were read; answers are appended to `out`.
    ///
    /// # Errors
    /// The session is over; `out` may still hold an answer that is to be written.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        at: ReadAt,
        plan: &Plan,
        entropy: &mut Entropy,
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) -> Result<(), Over> {
        tally.bytes += bytes.len() as u64;
        if let Stage::Upgrading(upgrade) = &mut self.stage {
            let Some(early) = upgrade.feed(bytes)? else { return Ok(()) };
            self.stage = Stage::Subscribing(FrameReader::default());
            masked_frame(0x2, &plan.subscribe, entropy.mask(), out);
            return self.read(&early, at, entropy, tally, out);
        }
        self.read(bytes, at, entropy, tally, out)
    }

    fn read(
        &mut self,
        bytes: &[u8],
        at: ReadAt,
        entropy: &mut Entropy,
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) -> Result<(), Over> {
        let Self { stage, checks } = self;
        let (Stage::Subscribing(reader) | Stage::Subscribed(reader)) = stage else { return Ok(()) };
        let (mut result, mut subscribed) = (Ok(()), false);
        let framing = reader.feed(bytes, &mut |incoming| {
            if result.is_ok() {
                result = checks
                    .message(incoming, at, entropy, tally, out)
                    .map(|news| subscribed |= news == News::Subscribed);
            }
        });
        if subscribed && let Stage::Subscribing(reader) = stage {
            *stage = Stage::Subscribed(std::mem::take(reader));
        }
        result?;
        Ok(framing?)
    }
}

#[derive(PartialEq, Eq)]
enum News {
    None,
    Subscribed,
}

impl Checks {
    fn message(
        &mut self,
        incoming: Incoming<'_>,
        at: ReadAt,
        entropy: &mut Entropy,
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) -> Result<News, Over> {
        tally.frames += 1;
        match incoming {
            Incoming::Binary(message) if is_array(message) => self.data(message, at, tally).map(|()| News::None),
            Incoming::Binary(message) => self.control(message, tally),
            Incoming::Text(_) => Err(Over::Text),
            Incoming::Pong => Ok(News::None),
            Incoming::Ping(payload) => {
                masked_frame(0xA, payload, entropy.mask(), out);
                Ok(News::None)
            }
            Incoming::Close { code, reason } => {
                let payload = code.map(u16::to_be_bytes);
                masked_frame(0x8, payload.as_ref().map_or(&[], |code| &code[..]), entropy.mask(), out);
                Err(Over::Closed { code, reason: String::from_utf8_lossy(reason).into_owned() })
            }
        }
    }

    fn data(&mut self, message: &[u8], at: ReadAt, tally: &mut Tally) -> Result<(), Over> {
        let (head, cursor) = data::begin(message)?;
        tally.data_messages += 1;
        self.messages += 1;
        let sampled = at.measured && head.kind == Kind::Live && self.messages.is_multiple_of(LATENCY_SAMPLE);
        if sampled {
            tally.latency_sent.record(at.wall_ns, head.sent_at);
        }
        let Some(sequences) = &mut self.sequences else {
            match head.kind {
                Kind::Live => tally.elements += u64::from(head.elements),
                Kind::Snapshot => tally.snapshot_elements += u64::from(head.elements),
            }
            return Ok(());
        };
        data::elements(cursor, head.elements, |element| {
            sequences.take(head.kind, element, &mut tally.findings);
            match (head.kind, element.what) {
                (_, What::Gap { .. }) => {}
                (Kind::Snapshot, What::Value) => tally.snapshot_elements += 1,
                (Kind::Live, What::Value) => {
                    tally.elements += 1;
                    if sampled {
                        tally.latency_exchange.record(at.wall_ns, element.time);
                    }
                }
            }
        })?;
        Ok(())
    }

    fn control(&mut self, message: &[u8], tally: &mut Tally) -> Result<News, Over> {
        let control: Control = rmp_serde::from_slice(message)?;
        match control.r#type.as_str() {
            "subscribed" => return Ok(News::Subscribed),
            "error" => {
                let (code, message) = (control.code.unwrap_or_default(), control.message.unwrap_or_default());
                return Err(Over::Refused(format!("{code}: {message}")));
            }
            "heartbeat" => {
                tally.dropped_said += control.dropped.saturating_sub(self.dropped_said);
                self.dropped_said = control.dropped;
            }
            "notice" => *tally.notices.entry(control.code.unwrap_or_default()).or_default() += 1,
            _ => {}
        }
        Ok(News::None)
    }
}

/// Data messages are arrays, control messages are maps.
fn is_array(message: &[u8]) -> bool {
    matches!(message.first(), Some(0x90..=0x9F | 0xDC | 0xDD))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence::Findings;

    const ANSWER: &[u8] =
        b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    fn binary(value: &serde_json::Value) -> Vec<u8> {
        let payload = rmp_serde::to_vec(value).unwrap();
        [&[0x82, payload.len() as u8], &payload[..]].concat()
    }

    fn plan() -> Plan {
        Plan {
            target: "ws://h/ws".parse().unwrap(),
            subscribe: b"S".to_vec(),
            expectation: Expectation::Every,
            channels: [market::Channel::Trades].into_iter().collect(),
        }
    }

    /// Runs one session over `messages`, all in one read behind the answer to the upgrade.
    fn run(scrutiny: Scrutiny, messages: &[Vec<u8>]) -> (Result<(), Over>, Session, Tally, Vec<u8>) {
        let (mut entropy, mut out, mut tally) = (Entropy::new(1), Vec::new(), Tally::default());
        let mut session = Session::begin(&plan(), scrutiny, &mut entropy, &mut out);
        session.stage = Stage::Upgrading(Upgrade::begin(&plan().target, SUBPROTOCOL, *b"the sample nonce").0);
        out.clear();
        let bytes = [ANSWER.to_vec(), messages.concat()].concat();
        let at = ReadAt { wall_ns: 100, measured: true };
        let result = session.feed(&bytes, at, &plan(), &mut entropy, &mut tally, &mut out);
        (result, session, tally, out)
    }

    fn trade(seq: u64) -> serde_json::Value {
        serde_json::json!([1, 0, seq, 5, 100, 1, 1, 0])
    }

    #[test]
    fn a_session_subscribes_counts_and_checks() {
        let messages = [
            binary(&serde_json::json!({"type": "welcome", "version": "1"})),
            binary(&serde_json::json!({"type": "subscribed", "id": 1})),
            binary(&serde_json::json!([9, [0, 1], trade(7)])),
            binary(&serde_json::json!([9, trade(8), trade(10)])),
            binary(&serde_json::json!({"type": "heartbeat", "delivered": 2, "dropped": 3})),
            binary(&serde_json::json!({"type": "heartbeat", "delivered": 2, "dropped": 4})),
            vec![0x89, 1, b'p'],
        ];
        let (result, session, tally, out) = run(Scrutiny::Verify, &messages);
        result.unwrap();
        assert!(session.is_subscribed());
        assert_eq!((tally.elements, tally.snapshot_elements, tally.dropped_said), (2, 1, 4));
        assert_eq!(tally.findings, Findings { missing: 1, ..Findings::default() });
        assert_eq!((out[0], out[1]), (0x82, 0x81), "the subscription");
        assert_eq!((out[7], out[8]), (0x8A, 0x81), "the pong");

        let (result, _, tally, _) = run(Scrutiny::Count, &messages);
        result.unwrap();
        assert_eq!((tally.elements, tally.snapshot_elements, tally.findings), (2, 1, Findings::default()));
    }

    #[test]
    fn the_end_of_a_session_says_why() {
        let error = serde_json::json!({"type": "error", "code": "unknown_symbol", "message": "no X"});
        for (message, want) in [
            (binary(&error), "the server refused the subscription: unknown_symbol: no X"),
            (vec![0x88, 5, 0x03, 0xF4, b'b', b'y', b'e'], "the server closed with 1012 bye"),
            (vec![0x81, 1, b'x'], "a text message on a MessagePack session"),
            (vec![0x83, 0], "broken framing: opcode 0x3 is reserved"),
            (vec![0x82, 2, 0x91, 0xC0], "broken data message: 0xc0 stands where an unsigned integer belongs"),
        ] {
            assert_eq!(run(Scrutiny::Verify, &[message]).0.unwrap_err().to_string(), want);
        }
    }
}

//! What the server says: messages in, events out.
//!
//! **Invariant:** a message that cannot be read ends the connection, with the events before it told; none panics.
//!
//! What is *not* here: the numbers of streams (`tape`), and what was asked (`requests`).

use std::time::Duration;

use market::{Channel, Timestamp};
use wire::decode::{
    ControlMessage, begin, decode_control, decode_elements, decode_text_data, is_packed_data, is_text_data,
};
use wire::{CommandId, Encoding, ErrorCode, FrameKind, Limits, NoticeCode, Symbols};

use super::pace::Pace;
use super::requests::Asked;
use super::{Engine, Now, Phase, SILENCE_MAX};
use crate::subscription::SymbolList;
use crate::{Connection, Event, Lost};

/// Silence of so many heartbeats is a dead connection, in halves.
const HEARTBEAT_HALVES_MAX: u32 = 5;
/// The shortest silence that counts, whatever a server announces.
const SILENCE_MIN: Duration = Duration::from_secs(1);
/// How long commands wait after the server has refused one for its rate.
const RATE_LIMITED_PAUSE: Duration = Duration::from_secs(2);
/// What is waited for between the welcome and the first command.
pub(super) const AUTHENTICATE: &str = "answer the authentication";

impl Engine {
    /// A message of the server came: the payload of a text or binary frame.
    pub fn message(&mut self, payload: &[u8], now: Now) {
        if !matches!(self.phase, Phase::Opening { .. } | Phase::Ready { .. }) {
            return;
        }
        self.heard_at = now.monotonic;
        self.counters.messages += 1;
        self.counters.bytes += payload.len() as u64;
        let encoding = if self.route.is_stream() { Encoding::Json } else { self.config.encoding };
        let read = match encoding {
            Encoding::MessagePack if is_packed_data(payload) => self.packed(payload),
            Encoding::Json if is_text_data(payload) => self.text(payload),
            encoding => match decode_control(encoding, payload) {
                Ok(message) => {
                    self.control(message, now);
                    Ok(())
                }
                Err(error) => Err(error.to_string()),
            },
        };
        if let Err(error) = read {
            self.drop_connection(Lost::Malformed(error), now);
        }
    }

    fn packed(&mut self, payload: &[u8]) -> Result<(), String> {
        let (head, cursor) = begin(payload).map_err(|error| error.to_string())?;
        let frame = (head.kind, Timestamp(head.sent_at));
        self.begin_frame(head.kind, head.elements as usize);
        let Self { tape, wishes, events, counters, .. } = self;
        let read =
            decode_elements(cursor, head.elements, |element| tape.take(element, frame, wishes, events, counters));
        self.end_frame(head.kind);
        read.map_err(|error| error.to_string())
    }

    fn text(&mut self, payload: &[u8]) -> Result<(), String> {
        let mut frame = (FrameKind::Live, Timestamp(0), 0);
        let mut elements = Vec::new();
        let terms = |symbol: &str| self.tape.terms(symbol).map(|terms| &**terms);
        let head = |sent_at, kind, count| frame = (kind, sent_at, count);
        let read = decode_text_data(payload, terms, head, |element| elements.push(element));
        let (kind, sent_at, count) = frame;
        if read.is_ok() {
            self.begin_frame(kind, count);
        }
        let Self { tape, wishes, events, counters, .. } = self;
        for element in elements {
            tape.take(element, (kind, sent_at), wishes, events, counters);
        }
        self.end_frame(kind);
        read.map_err(|error| error.to_string())
    }

    fn begin_frame(&mut self, kind: FrameKind, elements: usize) {
        if kind == FrameKind::Snapshot {
            self.events.push(Event::SnapshotBegin { elements });
        }
    }

    fn end_frame(&mut self, kind: FrameKind) {
        if kind == FrameKind::Snapshot {
            self.events.push(Event::SnapshotEnd);
        }
    }

    fn control(&mut self, message: ControlMessage, now: Now) {
        match message {
            ControlMessage::Welcome { session, epoch, heartbeat_ms, limits, .. } => {
                self.welcome(session, epoch, Duration::from_millis(heartbeat_ms), limits, now);
            }
            ControlMessage::Authenticated { .. } => {
                if matches!(self.phase, Phase::Opening { stage: AUTHENTICATE, .. }) {
                    self.asked.retain(|_, asked| !matches!(asked, Asked::Auth));
                    self.ready(now);
                }
            }
            ControlMessage::Subscribed { instruments, channels, recovered, .. } if self.route.is_stream() => {
                self.stream_began(&instruments, channels, &recovered);
            }
            ControlMessage::Closed { code, message } if self.route.is_stream() => {
                self.drop_connection(Lost::Closed { code: Some(code), reason: message }, now);
            }
            ControlMessage::Subscribed { id, instruments, channels, mode, recovered } => {
                let asked = self.answered(id.as_ref());
                let snapshot = matches!(&asked, Some(Asked::Subscribe { command, .. }) if command.snapshot);
                let ticket = asked.and_then(|asked| asked.ticket());
                let mut known = Vec::with_capacity(instruments.len());
                for terms in &instruments {
                    let Some(shared) = self.tape.learn(terms) else { continue };
                    let wanted = |channel: &Channel| self.wishes.mode(*channel, terms.symbol.as_str()).is_some();
                    let wanted = channels.iter().filter(wanted).collect();
                    self.tape.subscribed(terms.id, wanted, mode, snapshot);
                    known.push(shared);
                }
                for (symbol, channel, how) in &recovered {
                    self.tape.recovered(symbol, *channel, *how);
                }
                let channels = channels.iter().collect();
                self.events.push(Event::Subscribed { ticket, instruments: known, channels, mode, recovered });
            }
            ControlMessage::Unsubscribed { id, channels, symbols } => {
                let all = symbols.iter().any(|symbol| symbol == "*");
                self.tape.unsubscribed(channels, (!all).then_some(&symbols));
                let ticket = self.answered(id.as_ref()).and_then(|asked| asked.ticket());
                self.events.push(Event::Unsubscribed { ticket });
            }
            ControlMessage::Instruments { id, instruments } => {
                let ticket = self.answered(id.as_ref()).and_then(|asked| asked.ticket());
                if id.is_none() {
                    let channels = self.wishes.every_of_all();
                    for details in &instruments {
                        self.tape.learn(&details.terms);
                        self.tape.announced(details.terms.id, channels);
                    }
                }
                self.events.push(Event::Instruments { ticket, instruments });
            }
            ControlMessage::Error { id, code, message, symbols } => {
                self.refused(id.as_ref(), code, message, symbols, now);
            }
            ControlMessage::Pong { id, time, .. } => {
                if let Some(Asked::Ping { sent }) = self.answered(id.as_ref()) {
                    let round_trip = now.monotonic.saturating_sub(sent.monotonic);
                    self.clock.sample(sent.wall, now.wall, round_trip, time);
                }
            }
            ControlMessage::Heartbeat { delivered, dropped, .. } => {
                self.tape.settle();
                let agrees = (delivered, dropped) == (self.tape.delivered, self.tape.dropped);
                self.counters.heartbeats_wrong += u64::from(!agrees);
            }
            ControlMessage::Notice { code, reconnect_after_ms, message } => {
                if code == Some(NoticeCode::Draining) {
                    self.asked_back = reconnect_after_ms.map(Duration::from_millis);
                }
                self.events.push(Event::Notice { code, message });
            }
            ControlMessage::Subscriptions { .. } | ControlMessage::Closed { .. } | ControlMessage::Unknown => {}
        }
    }

    fn welcome(&mut self, session: String, epoch: String, heartbeat: Duration, limits: Limits, now: Now) {
        let Phase::Opening { until, .. } = self.phase else { return };
        let epoch_changed = self.epoch.as_ref().is_some_and(|old| *old != epoch);
        if epoch_changed {
            self.tape.begin_epoch();
        }
        self.tape.begin_session();
        self.epoch = Some(epoch.clone());
        self.limits = limits;
        self.pace = Pace::new(&limits, now.monotonic);
        self.asked_back = None;
        let derived = if heartbeat.is_zero() { SILENCE_MAX } else { heartbeat * HEARTBEAT_HALVES_MAX / 2 };
        self.silence_max = self.config.silence_max.unwrap_or(derived.max(SILENCE_MIN));
        self.counters.connections += 1;
        let transport = self.route.transport;
        self.opened = Some(Connection::Connected { session, epoch, epoch_changed, transport });
        if self.route.is_stream() {
            if self.stream.changing && !epoch_changed {
                self.opened = None;
            }
            return self.ready(now);
        }
        if self.config.auth_command.is_some() {
            self.phase = Phase::Opening { stage: AUTHENTICATE, until };
            let id = self.next_id;
            self.next_id += 1;
            self.say(id, &Asked::Auth);
            self.asked.insert(id, Asked::Auth);
        } else {
            self.ready(now);
        }
    }

    fn refused(
        &mut self,
        id: Option<&CommandId>,
        code: Option<ErrorCode>,
        message: String,
        symbols: Vec<String>,
        now: Now,
    ) {
        match code {
            Some(ErrorCode::RateLimited) => {
                self.again_due = Some(now.monotonic + RATE_LIMITED_PAUSE);
                return;
            }
            Some(ErrorCode::AuthFailed | ErrorCode::AuthTimeout) => return self.end(Lost::Unauthenticated(message)),
            _ => {}
        }
        let asked = match id {
            Some(CommandId::Integer(id)) => match &self.last_subscribed {
                Some((last, asked)) if last == id => Some(asked.clone()),
                _ => self.asked.get(id).cloned(),
            },
            _ => None,
        };
        if let Some(Asked::Subscribe { command, .. }) = &asked {
            let of_some = match code {
                Some(ErrorCode::UnknownSymbol) => true,
                // Without symbols it is about the channels, and nothing was applied.
                Some(ErrorCode::NotEntitled) => !symbols.is_empty(),
                _ => false,
            };
            let (listed, whole) = match &command.symbols {
                _ if !of_some => (client_symbols(&command.symbols), true),
                Symbols::Named(names) => {
                    let whole = names.iter().all(|name| symbols.contains(name));
                    (SymbolList::Named(symbols.clone()), whole)
                }
                Symbols::All => (SymbolList::Named(symbols.clone()), false),
            };
            self.wishes.remove(Some(command.channels), Some(&listed));
            if whole {
                self.answered(id);
            }
        } else {
            self.answered(id);
        }
        let ticket = asked.and_then(|asked| asked.ticket());
        self.events.push(Event::Refused { ticket, code, message, symbols });
    }
}

pub(super) fn client_symbols(symbols: &Symbols) -> SymbolList {
    match symbols {
        Symbols::All => SymbolList::All,
        Symbols::Named(names) => SymbolList::Named(names.clone()),
    }
}

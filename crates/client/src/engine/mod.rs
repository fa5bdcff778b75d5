//! What decides: a machine without sockets and without a clock. What happened and the time go in, events and wishes for the
//! socket come out.
//!
//! ```text
//!            connected, message, lost, timeout               Event (for the program)
//!  shell ------------------------------------------> Engine ------------------------->
//!        <------------------------------------------
//!            Action: connect, send, close; due()
//! ```
//!
//! **Invariant:** whatever the server and the network do, the events of a stream in mode `every` are each number once, in
//! order, or a gap that names what is missing; the simulation in `tests/simulation.rs` holds it over thousands of cuts.
//!
//! What is *not* here: WebSocket frames, sockets, tasks (`driver`); books (`Books`), which are kept where events are read.

mod backoff;
mod clock;
mod pace;
mod tape;
mod wishes;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use market::{Channel, Timestamp};
use wire::decode::{
    ControlMessage, begin, decode_control, decode_elements, decode_text_data, is_packed_data, is_text_data,
};
use wire::{
    Command, CommandId, Encoding, Envelope, ErrorCode, FrameKind, Limits, NoticeCode, Subscribe, Symbols,
    encode_command,
};

pub use backoff::Backoff;
use backoff::Lots;
pub use clock::Clock;
use clock::Estimate;
use pace::Pace;
use tape::Tape;
use wishes::{Positions, Wishes};

use crate::subscription::{Subscription, SymbolList};
use crate::{Connection, Event, Lost, RequestError, Ticket};

/// Silence of so many heartbeats is a dead connection, in halves.
const HEARTBEAT_HALVES_MAX: u32 = 5;
/// How long nothing may come from a server that sends no heartbeats; pings are answered in between.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// The shortest silence that counts, whatever a server announces.
const SILENCE_MIN: Duration = Duration::from_secs(1);
/// A command is at most so long when the server has no limit.
const COMMAND_BYTES_MAX: usize = 1 << 20;
/// How long commands wait after the server has refused one for its rate.
const RATE_LIMITED_PAUSE: Duration = Duration::from_secs(2);

/// How an [`Engine`] behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// What the server writes
    pub encoding: Encoding,
    /// A token that is sent as the command `auth`, before anything else
    pub auth_command: Option<String>,
    /// Whether and how a lost connection is made again
    pub reconnect: Option<Backoff>,
    /// How long a connection may take until it can be used
    pub connect_timeout: Duration,
    /// How often the clocks are compared
    pub ping_interval: Duration,
    /// How long nothing may come; none takes two and a half heartbeats
    pub silence_max: Option<Duration>,
    /// For the jitter
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            encoding: Encoding::MessagePack,
            auth_command: None,
            reconnect: Some(Backoff::default()),
            connect_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(10),
            silence_max: None,
            seed: 0,
        }
    }
}

/// The time, as the shell reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since some moment before, never going back
    pub monotonic: Duration,
    /// The clock on the wall, for comparing it with the server's
    pub wall: Timestamp,
}

/// What the shell is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Connect, and tell [`Engine::connected`] or [`Engine::lost`]
    Connect,
    /// Send a message, in a text frame if the encoding is JSON
    Send(Vec<u8>),
    /// Let go of the connection; nothing is to be told
    Close,
}

/// What has been counted since the client began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Messages of the server
    pub messages: u64,
    /// Their bytes
    pub bytes: u64,
    /// Elements in them
    pub elements: u64,
    /// Elements that were known already, and dropped
    pub duplicates: u64,
    /// Gaps, declared or found
    pub gaps: u64,
    /// Elements that gaps name
    pub missing: u64,
    /// Elements that meant nothing here
    pub unknown: u64,
    /// Connections that were made
    pub connections: u64,
    /// Heartbeats whose counts were not ours
    pub heartbeats_wrong: u64,
    /// The server's clock; none before the first answer to a ping
    pub clock: Option<Clock>,
}

/// A connection and what is subscribed on it, decided.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    phase: Phase,
    wishes: Wishes,
    tape: Tape,
    epoch: Option<String>,
    limits: Limits,
    pace: Pace,
    asked: BTreeMap<i64, Asked>,
    next_id: i64,
    last_subscribed: Option<(i64, Asked)>,
    /// What is told when the session can be used
    opened: Option<Connection>,
    actions: VecDeque<Action>,
    events: Vec<Event>,
    counters: Counters,
    clock: Estimate,
    lots: Lots,
    failures: u32,
    /// When the server wants us back after this connection
    asked_back: Option<Duration>,
    heard_at: Duration,
    silence_max: Duration,
    ping_due: Duration,
    /// When refused commands are said again
    again_due: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Until the next attempt
    Pausing {
        until: Duration,
    },
    /// The hand-shake, then the welcome, then the answer to `auth`
    Opening {
        stage: &'static str,
        until: Duration,
    },
    Ready {
        since: Duration,
    },
    Ended,
}

/// What a command without an answer yet is about.
#[derive(Debug, Clone)]
enum Asked {
    Subscribe { ticket: Option<Ticket>, command: Subscribe },
    Update { ticket: Ticket, command: Subscribe },
    Unsubscribe { ticket: Ticket, command: Command },
    Instruments { ticket: Ticket, prefix: Option<String> },
    Ping { sent: Now },
    Auth,
}

struct Resumable<'a> {
    epoch: Option<&'a str>,
    tape: &'a Tape,
}

impl Positions for Resumable<'_> {
    fn epoch(&self) -> Option<&str> {
        self.epoch
    }

    fn of(&self, symbol: &str, channel: Channel) -> Option<u64> {
        self.tape.position(symbol, channel)
    }

    fn of_channel(&self, channel: Channel) -> Vec<(String, u64)> {
        let mut all: Vec<_> = self.tape.positions(channel).map(|(symbol, seq)| (symbol.to_owned(), seq)).collect();
        all.sort_by_key(|(_, seq)| *seq == 0);
        all
    }
}

/// Nothing is resumed: a new wish begins with the state.
struct Anew;

impl Positions for Anew {
    fn epoch(&self) -> Option<&str> {
        None
    }

    fn of(&self, _: &str, _: Channel) -> Option<u64> {
        None
    }

    fn of_channel(&self, _: Channel) -> Vec<(String, u64)> {
        Vec::new()
    }
}

impl Engine {
    /// A machine that wants to connect at once.
    pub fn new(config: Config, now: Now) -> Self {
        let mut engine = Self {
            phase: Phase::Pausing { until: now.monotonic },
            wishes: Wishes::default(),
            tape: Tape::default(),
            epoch: None,
            limits: Limits::default(),
            pace: Pace::new(&Limits::default(), now.monotonic),
            asked: BTreeMap::new(),
            next_id: 1,
            last_subscribed: None,
            opened: None,
            actions: VecDeque::new(),
            events: Vec::new(),
            counters: Counters::default(),
            clock: Estimate::default(),
            lots: Lots(config.seed),
            failures: 0,
            asked_back: None,
            heard_at: now.monotonic,
            silence_max: SILENCE_MAX,
            ping_due: now.monotonic,
            again_due: None,
            config,
        };
        engine.connect(now);
        engine
    }

    /// What the shell is to do next.
    pub fn action(&mut self, now: Now) -> Option<Action> {
        if matches!(self.phase, Phase::Ready { .. })
            && self.again_due.is_none()
            && let Some(command) = self.pace.pop(now.monotonic)
        {
            self.actions.push_back(Action::Send(command));
        }
        self.actions.pop_front()
    }

    /// What the program is to be told, in order.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// When [`Engine::timeout`] is to be called, if nothing comes before.
    pub fn due(&self) -> Option<Duration> {
        match self.phase {
            Phase::Pausing { until } | Phase::Opening { until, .. } => Some(until),
            Phase::Ready { .. } => {
                let commands = self.again_due.or_else(|| self.pace.due());
                let silence = self.heard_at + self.silence_max;
                [Some(silence), Some(self.ping_due), commands].into_iter().flatten().min()
            }
            Phase::Ended => None,
        }
    }

    /// Whether it is over for good.
    pub fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// What has been counted.
    pub fn counters(&self) -> Counters {
        Counters { clock: self.clock.best(), ..self.counters }
    }

    /// Wants something to be subscribed, with a ticket of its own; for who drives the engine without a [`crate::Client`].
    ///
    /// # Errors
    /// It names nothing, or what no instrument can be called.
    pub fn request(&mut self, subscription: Subscription) -> Result<Ticket, RequestError> {
        let ticket = Ticket(u64::MAX - self.next_id as u64);
        self.subscribe(ticket, &subscription.checked()?);
        Ok(ticket)
    }

    /// Wants something to be subscribed; the subscription has been checked.
    pub(crate) fn subscribe(&mut self, ticket: Ticket, subscription: &Subscription) {
        self.wishes.add(subscription);
        let Subscription { channels, symbols, setting } = subscription;
        let commands = match symbols {
            SymbolList::All => {
                let (mode, snapshot, slow) = (setting.mode, setting.snapshot, setting.slow);
                let symbols = Symbols::All;
                vec![Subscribe { channels: *channels, symbols, mode, snapshot, slow, since: None }]
            }
            SymbolList::Named(names) => {
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                wishes::parts(*channels, &names, *setting, self.command_bytes_max(), &Anew)
            }
        };
        for command in commands {
            self.ask(Asked::Subscribe { ticket: Some(ticket), command });
        }
    }

    /// Changes the mode of what is subscribed.
    pub(crate) fn update(&mut self, ticket: Ticket, subscription: &Subscription) {
        let Subscription { channels, symbols, setting } = subscription;
        self.wishes.update(*channels, symbols, setting.mode);
        let symbols = wire_symbols(symbols);
        let (mode, snapshot, slow) = (setting.mode, setting.snapshot, setting.slow);
        let command = Subscribe { channels: *channels, symbols, mode, snapshot, slow, since: None };
        self.ask(Asked::Update { ticket, command });
    }

    /// Ends subscriptions; nothing named is everything.
    pub(crate) fn unsubscribe(&mut self, ticket: Ticket, channels: &[Channel], symbols: Option<&SymbolList>) {
        let channels = (!channels.is_empty()).then(|| channels.iter().copied().collect());
        self.wishes.remove(channels, symbols);
        let command = Command::Unsubscribe { channels, symbols: symbols.map(wire_symbols) };
        self.ask(Asked::Unsubscribe { ticket, command });
    }

    /// Asks for what there is.
    pub(crate) fn request_instruments(&mut self, ticket: Ticket, prefix: Option<String>) {
        self.ask(Asked::Instruments { ticket, prefix });
    }

    /// Asks for the state of a book that is wrong.
    pub(crate) fn repair(&mut self, symbol: &str, channel: Channel) {
        // A connection that is being made brings it anyway, or resumes: then it is asked for behind that.
        if let Some(setting) = self.wishes.setting(channel, symbol) {
            let channels = [channel].into_iter().collect();
            for command in wishes::parts(channels, &[symbol], setting, self.command_bytes_max(), &Anew) {
                let command = Subscribe { snapshot: true, ..command };
                self.ask(Asked::Subscribe { ticket: None, command });
            }
        }
    }

    /// The program wants no more.
    pub fn close(&mut self) {
        self.end(Lost::ByCaller);
    }

    /// The hand-shake is done.
    pub fn connected(&mut self, now: Now) {
        if let Phase::Opening { until, .. } = self.phase {
            self.phase = Phase::Opening { stage: "open the session", until };
            self.heard_at = now.monotonic;
        }
    }

    /// The connection is gone, or was not made.
    pub fn lost(&mut self, reason: Lost, now: Now) {
        if self.is_ended() || matches!(self.phase, Phase::Pausing { .. }) {
            return;
        }
        let Some(backoff) = self.config.reconnect.filter(|_| reason.may_reconnect()) else {
            return self.end(reason);
        };
        match self.phase {
            Phase::Ready { since } if now.monotonic.saturating_sub(since) >= backoff.forgiven_after => {
                self.failures = 0;
            }
            _ => {}
        }
        let asked_back = match &reason {
            Lost::Refused { retry_after: Some(after), .. } => Some(*after),
            _ => self.asked_back.take(),
        };
        let drawn = backoff.pause(self.failures, self.lots.draw());
        // The server draws the pauses of those that it sends away; ours comes on top only where it knows just the least.
        let retry_in = match (asked_back, &reason) {
            (Some(after), Lost::Refused { .. }) => after + drawn,
            (Some(after), _) => after,
            (None, _) => drawn,
        };
        self.failures = self.failures.saturating_add(1);
        self.forget_session();
        self.phase = Phase::Pausing { until: now.monotonic + retry_in };
        self.events.push(Event::Connection(Connection::Lost { reason, retry_in }));
    }

    /// A message of the server came: the payload of a text or binary frame.
    pub fn message(&mut self, payload: &[u8], now: Now) {
        if !matches!(self.phase, Phase::Opening { .. } | Phase::Ready { .. }) {
            return;
        }
        self.heard_at = now.monotonic;
        self.counters.messages += 1;
        self.counters.bytes += payload.len() as u64;
        let read = match self.config.encoding {
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

    /// Something else came that shows that the server lives: a ping of WebSocket, or part of a message.
    pub fn heard(&mut self, now: Now) {
        self.heard_at = now.monotonic;
    }

    /// The time that [`Engine::due`] said has come.
    pub fn timeout(&mut self, now: Now) {
        match self.phase {
            Phase::Pausing { until } if now.monotonic >= until => self.connect(now),
            Phase::Opening { stage, until } if now.monotonic >= until => {
                let after = self.config.connect_timeout;
                self.drop_connection(Lost::TimedOut { what: stage, after }, now);
            }
            Phase::Ready { .. } => {
                if now.monotonic >= self.heard_at + self.silence_max {
                    return self.drop_connection(Lost::Silent(self.silence_max), now);
                }
                if self.again_due.is_some_and(|due| now.monotonic >= due) {
                    self.again_due = None;
                    self.ask_again();
                }
                if now.monotonic >= self.ping_due {
                    self.ping(now);
                }
            }
            _ => {}
        }
    }

    fn connect(&mut self, now: Now) {
        let until = now.monotonic + self.config.connect_timeout;
        self.phase = Phase::Opening { stage: "answer", until };
        self.actions.push_back(Action::Connect);
    }

    fn drop_connection(&mut self, reason: Lost, now: Now) {
        self.actions.clear();
        self.actions.push_back(Action::Close);
        self.lost(reason, now);
    }

    fn end(&mut self, reason: Lost) {
        if !self.is_ended() {
            self.phase = Phase::Ended;
            self.actions.clear();
            self.actions.push_back(Action::Close);
            self.events.push(Event::Connection(Connection::Ended { reason }));
        }
    }

    /// What was asked of the server is said again on the next connection, or has come true by the end of this one.
    fn forget_session(&mut self) {
        self.again_due = None;
        let asked = std::mem::take(&mut self.asked);
        for (id, asked) in asked {
            match asked {
                Asked::Instruments { .. } | Asked::Subscribe { ticket: Some(_), .. } => {
                    self.asked.insert(id, asked);
                }
                Asked::Unsubscribe { ticket, .. } => {
                    self.events.push(Event::Unsubscribed { ticket: Some(ticket) });
                }
                // Wishes hold them.
                Asked::Update { .. } | Asked::Subscribe { ticket: None, .. } | Asked::Ping { .. } | Asked::Auth => {}
            }
        }
    }

    fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready { .. })
    }

    fn command_bytes_max(&self) -> usize {
        match self.limits.message_bytes_max {
            0 => COMMAND_BYTES_MAX,
            bytes => bytes as usize,
        }
    }

    /// A request of the program.
    fn ask(&mut self, asked: Asked) {
        if self.is_ended() {
            return;
        }
        let id = self.next_id;
        self.next_id += 1;
        if self.is_ready() {
            self.say(id, &asked);
        }
        self.asked.insert(id, asked);
    }

    fn say(&mut self, id: i64, asked: &Asked) {
        let command = match asked {
            Asked::Subscribe { command, .. } => Command::Subscribe(command.clone()),
            Asked::Update { command, .. } => Command::Update(command.clone()),
            Asked::Unsubscribe { command, .. } => command.clone(),
            Asked::Instruments { prefix, .. } => Command::Instruments { prefix: prefix.clone() },
            Asked::Ping { .. } => Command::Ping,
            Asked::Auth => Command::Auth { token: self.config.auth_command.clone().unwrap_or_default() },
        };
        let mut bytes = Vec::new();
        encode_command(self.config.encoding, &Envelope { id: Some(CommandId::Integer(id)), command }, &mut bytes);
        match asked {
            // Before anything else, and before the limit is of interest.
            Asked::Auth => self.actions.push_back(Action::Send(bytes)),
            _ => self.pace.push(bytes),
        }
    }

    /// The server refused commands without looking at them: everything without an answer is said once more.
    fn ask_again(&mut self) {
        self.asked.retain(|_, asked| !matches!(asked, Asked::Ping { .. }));
        let all: Vec<_> = self.asked.iter().map(|(id, asked)| (*id, asked.clone())).collect();
        for (id, asked) in all {
            self.say(id, &asked);
        }
    }

    fn ping(&mut self, now: Now) {
        self.ping_due = now.monotonic + self.config.ping_interval;
        // Commands that wait would make the way look long.
        if self.pace.is_idle() {
            self.ask(Asked::Ping { sent: now });
        }
    }

    /// The session is open: everything that is wanted is said.
    fn ready(&mut self, now: Now) {
        self.phase = Phase::Ready { since: now.monotonic };
        self.events.extend(self.opened.take().map(Event::Connection));
        let unanswered = std::mem::take(&mut self.asked);
        self.ping(now);
        let resumable = Resumable { epoch: self.epoch.as_deref(), tape: &self.tape };
        for command in self.wishes.commands(self.command_bytes_max(), &resumable) {
            for (symbol, channel, _) in command.since.iter().flat_map(|since| &since.seqs) {
                self.tape.list(symbol, *channel);
            }
            self.ask(Asked::Subscribe { ticket: None, command });
        }
        // Requests without an answer are said again behind that, so that each gets one; of what the wishes have brought
        // already, that repeats the state and nothing else.
        for (id, asked) in unanswered {
            self.say(id, &asked);
            self.asked.insert(id, asked);
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
            ControlMessage::Pong { id, time } => {
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
            ControlMessage::Subscriptions { .. } | ControlMessage::Unknown => {}
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
        self.opened = Some(Connection::Connected { session, epoch, epoch_changed });
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

    /// The command that was answered.
    fn answered(&mut self, id: Option<&CommandId>) -> Option<Asked> {
        let Some(CommandId::Integer(id)) = id else { return None };
        let asked = self.asked.remove(id)?;
        if let Asked::Subscribe { .. } = asked {
            // Its unknown symbols are told behind its answer.
            self.last_subscribed = Some((*id, asked.clone()));
        }
        Some(asked)
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
            let (listed, whole) = match &command.symbols {
                _ if code != Some(ErrorCode::UnknownSymbol) => (client_symbols(&command.symbols), true),
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

/// What is waited for between the welcome and the first command.
const AUTHENTICATE: &str = "answer the authentication";

impl Asked {
    fn ticket(&self) -> Option<Ticket> {
        match self {
            Self::Subscribe { ticket, .. } => *ticket,
            Self::Update { ticket, .. } | Self::Unsubscribe { ticket, .. } | Self::Instruments { ticket, .. } => {
                Some(*ticket)
            }
            Self::Ping { .. } | Self::Auth => None,
        }
    }
}

fn wire_symbols(symbols: &SymbolList) -> Symbols {
    match symbols {
        SymbolList::All => Symbols::All,
        SymbolList::Named(names) => Symbols::Named(names.clone()),
    }
}

fn client_symbols(symbols: &Symbols) -> SymbolList {
    match symbols {
        Symbols::All => SymbolList::All,
        Symbols::Named(names) => SymbolList::Named(names.clone()),
    }
}

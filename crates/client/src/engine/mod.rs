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
//! Here is the connection: its phases, its clock, its end. What the program asks for is in `requests`, what the server says
//! in `messages`.
//!
//! What is *not* here: WebSocket frames, sockets, tasks (`driver`); books (`Books`), which are kept where events are read.

mod backoff;
mod clock;
mod messages;
mod pace;
mod positions;
mod requests;
mod route;
mod server_events;
mod stream;
mod tape;
mod wishes;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use market::Timestamp;
use wire::{Encoding, Limits};

pub use backoff::Backoff;
use backoff::Lots;
pub use clock::Clock;
use clock::Estimate;
use pace::Pace;
use positions::Resumable;
use requests::Asked;
use route::Route;
pub use route::{Transport, Transports};
pub(crate) use server_events::EventParser;
pub use server_events::ServerEvent;
use stream::Stream;
pub use stream::StreamRequest;
use tape::Tape;
use wishes::Wishes;

use crate::{Connection, Event, Lost};

/// How long nothing may come from a server that sends no heartbeats; pings are answered in between.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Until the server has answered at all.
const ANSWER: &str = "answer";

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
    /// The ways to the server
    pub transports: Transports,
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
            transports: Transports::default(),
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
    /// Ask for a stream of events, and tell the same, or [`Engine::stream_refused`]; an earlier one is let go of
    Open(StreamRequest),
    /// Ask for the list of instruments over plain HTTP, and tell [`Engine::fetched`] with this number
    FetchInstruments(i64),
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
    route: Route,
    stream: Stream,
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

impl Engine {
    /// A machine that wants to connect at once.
    pub fn new(config: Config, now: Now) -> Self {
        let mut engine = Self {
            phase: Phase::Pausing { until: now.monotonic },
            wishes: Wishes::default(),
            tape: Tape::default(),
            route: Route::new(config.transports),
            stream: Stream::default(),
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
            && !self.route.is_stream()
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
            Phase::Ready { .. } if self.route.is_stream() => self.stream_due(),
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

    /// The program wants no more.
    pub fn close(&mut self) {
        self.end(Lost::ByCaller);
    }

    /// The hand-shake is done.
    pub fn connected(&mut self, now: Now) {
        if let Phase::Opening { until, .. } = self.phase {
            self.phase = Phase::Opening { stage: "open the session", until };
            self.heard_at = now.monotonic;
            if self.route.is_stream() {
                self.stream_opened(now);
            }
        }
    }

    /// The connection is gone, or was not made.
    pub fn lost(&mut self, reason: Lost, now: Now) {
        if self.is_ended() || matches!(self.phase, Phase::Pausing { .. }) {
            return;
        }
        let was_ready = self.is_ready() || std::mem::take(&mut self.stream.changing);
        let authenticating = matches!(self.phase, Phase::Opening { stage: messages::AUTHENTICATE, .. });
        let reason = if was_ready || authenticating {
            reason
        } else {
            match self.route.failed(reason) {
                Some(reason) => reason,
                None => return self.connect(now),
            }
        };
        let Some(backoff) = self.config.reconnect.filter(|_| reason.may_reconnect()) else {
            return self.end(reason);
        };
        match self.phase {
            Phase::Ready { since } if now.monotonic.saturating_sub(since) >= backoff.forgiven_after => {
                self.failures = 0;
            }
            // It was reached at least: worth asking again soon, however often it was lost.
            Phase::Ready { .. } => self.failures = self.failures.min(Backoff::FAILURES_AFTER_SESSION_MAX),
            _ => {}
        }
        let asked_back = self.asked_back.take();
        let drawn = backoff.pause(self.failures, self.lots.draw());
        // The server draws the pauses of those that it sends away; ours comes on top only where it knows just the least.
        let retry_in = match (reason.retry_after(), asked_back) {
            (Some(after), _) => after + drawn,
            (None, Some(after)) => after,
            (None, None) => drawn,
        };
        self.failures = self.failures.saturating_add(1);
        self.forget_session();
        self.phase = Phase::Pausing { until: now.monotonic + retry_in };
        self.events.push(Event::Connection(Connection::Lost { reason, retry_in }));
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
            Phase::Ready { .. } if self.route.is_stream() => self.stream_timeout(now),
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
        self.phase = Phase::Opening { stage: ANSWER, until };
        let action = if self.route.is_stream() { Action::Open(self.open_stream(now)) } else { Action::Connect };
        self.actions.push_back(action);
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

    fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready { .. })
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
        self.route.opened();
        self.events.extend(self.opened.take().map(Event::Connection));
        if self.route.is_stream() {
            return self.stream_ready();
        }
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
}

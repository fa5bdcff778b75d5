//! A shard's loop: turns of bounded work, and the wait between them.
//!
//! **Invariant:** each turn takes in everything of the feed that was waiting, then at most [`SOCKETS_PER_TURN`] sockets with
//! one read each, so neither can starve the other. The loop sleeps only when nothing is left to do.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use hub::{Compression, DeflateConfig, Disconnect, Now, SessionKey, Shard, ShardConfig};
use metrics::Histogram;
use websocket::{Incoming, Inflater, Reader, ReaderConfig, Violation};
use wire::Encoding;

use super::alarm::Alarm;
use super::export::Exporter;
use super::pipe::ReaderSide;
use super::queue::{Item, Queue};
use super::ready::{ReadyList, Token};
use super::socket::{Inflates, Read, Socket};
use super::sockets::Sockets;
use super::{Inbox, NewSession, NewStream, Order};
use crate::metrics as names;
use crate::state::Shared;
use crate::traces;

/// The buffer that all sockets of a shard are read into.
const READ_BYTES: usize = 64 * 1024;
/// Sockets looked at in one turn, at about 10 us each: the feed waits a few milliseconds for a crowd of talkers.
const SOCKETS_PER_TURN: usize = 256;
/// A message as large as this is refused even when the configured limit is off.
const MESSAGE_BYTES_HARD_MAX: usize = 16 << 20;
/// When to look again at sockets that were left alone because too many requests wait.
const BUSY_PAUSE: Duration = Duration::from_millis(1);
/// How long the reactor may be left out; letting it in costs a microsecond or two.
const REACTOR_INTERVAL: Duration = Duration::from_millis(1);
/// How often counters are written to the metrics.
const EXPORT_INTERVAL: Duration = Duration::from_secs(1);
/// How long closing hand-shakes may take when the server stops at once.
const SHUT_DOWN_MAX: Duration = Duration::from_secs(1);

/// Whether there is more to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Left,
    Done,
}

/// Whether the shard is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Sessions are being closed; at that time whatever is left is closed at once.
    Draining(Duration),
    /// Everything was told to close; at that time the sockets are dropped.
    ShuttingDown(Duration),
}

/// Runs shard `index` on this thread's reactor until it was ordered to end and has.
pub(crate) async fn run(shared: Arc<Shared>, index: usize) {
    let mut turns = Turns::new(shared, index);
    let signal = Arc::clone(&turns.shared.shards[index].signal);
    let mut alarm = Alarm::new();
    // The loop has bounds of its own, so tokio's budget would only add idle turns.
    tokio::task::unconstrained(async {
        loop {
            let work = turns.turn();
            if !turns.phase_goes_on() {
                break;
            }
            // Lets the reactor look at the sockets and come back at once. A wait that is over before it begins does not:
            // under a load that never lets this thread sleep, nothing that clients send would be noticed.
            if work == Work::Left || turns.is_reactor_due() {
                tokio::task::yield_now().await;
            }
            match work {
                Work::Left => {}
                Work::Done => {
                    turns.set_alarm(&mut alarm);
                    turns.rest();
                    // Both only end the wait, in whatever order. A signal that comes while the other branch wins is kept
                    // by `Notify` for the next wait.
                    tokio::select! {
                        () = signal.notified() => {}
                        () = alarm.rings() => {}
                    }
                    turns.end_rest();
                }
            }
        }
    })
    .await;
    turns.export();
}

struct Turns {
    shared: Arc<Shared>,
    index: usize,
    hub: Shard,
    sockets: Sockets,
    /// By session index, beside the sockets so that a reader can run while the hub writes. None for a session without a
    /// socket and for one that has broken a rule: what it sends from then on is read and forgotten.
    readers: Vec<Option<Reader>>,
    reader_config: ReaderConfig,
    inflater: Inflater,
    buffer: Box<[u8]>,
    ready: Arc<ReadyList>,
    tokens: Vec<Token>,
    items: VecDeque<Item>,
    phase: Phase,
    close_timeout: Duration,
    /// When the oldest ticks were taken from the feed that the round of flushes will have sent when it is over.
    oldest: Option<Duration>,
    /// The same for those that have come since it began.
    oldest_of_next: Option<Duration>,
    feed_to_flush: Histogram,
    exporter: Exporter,
    export_due: Duration,
    bytes_received: u64,
    busy: bool,
    /// When the reactor was last let in for sure.
    reactor_at: Duration,
}

impl Turns {
    fn new(shared: Arc<Shared>, index: usize) -> Self {
        let deflate = shared.config.deflate.clone().unwrap_or_default();
        let config = ShardConfig {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            epoch: shared.epoch.clone(),
            index,
            limits: shared.tuned().limits,
            served: shared.config.served(),
            heartbeat_ms: shared.config.heartbeat_ms,
            write_stall_timeout: shared.config.stall_timeout,
            flush_interval: shared.config.flush_interval,
            flush_duty_percent: shared.config.flush_duty_percent,
            flush_rest_max: shared.config.flush_rest_max,
            deflate: DeflateConfig {
                memory_bytes_max: deflate.memory_bytes_max / shared.shards.len().max(1),
                ..deflate
            },
            seed: shared.config.seed,
            ..ShardConfig::default()
        };
        let ready = Arc::new(ReadyList::new(Arc::clone(&shared.shards[index].signal)));
        Self {
            close_timeout: config.close_timeout,
            reader_config: reader_config(&config.limits),
            hub: Shard::new(config),
            sockets: Sockets::new(Arc::clone(&shared), index, Arc::clone(&ready)),
            readers: Vec::new(),
            inflater: Inflater::new(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            ready,
            tokens: Vec::new(),
            items: VecDeque::new(),
            phase: Phase::Serving,
            oldest: None,
            oldest_of_next: None,
            feed_to_flush: shared.metrics.histogram(names::FEED_TO_FLUSH),
            exporter: Exporter::new(&shared.metrics),
            export_due: Duration::ZERO,
            bytes_received: 0,
            busy: false,
            reactor_at: Duration::ZERO,
            shared,
            index,
        }
    }

    fn now(&mut self) -> Now {
        let now = self.shared.clock.now();
        self.sockets.now = now.monotonic;
        now
    }

    /// Whether the reactor has not been let in for a while.
    fn is_reactor_due(&mut self) -> bool {
        let now = self.shared.clock.now().monotonic;
        let due = now >= self.reactor_at + REACTOR_INTERVAL;
        if due {
            self.reactor_at = now;
        }
        due
    }

    fn turn(&mut self) -> Work {
        let order = self.take_inbox();
        self.take_items();
        // What was there before the order was given, such as the word that the feed is broken, has been taken in by now.
        self.follow(order);
        self.keep_time();
        self.serve_sockets()
    }

    /// Installs new sessions.
    fn take_inbox(&mut self) -> Option<Order> {
        let shard = &self.shared.shards[self.index];
        let (Inbox { sessions, streams, order, reconsider, limits, .. }, ask) = {
            let mut inbox = shard.inbox.lock().unwrap_or_else(PoisonError::into_inner);
            let mut taken = std::mem::take(&mut *inbox);
            let ask = taken.asks.pop_front();
            inbox.asks = std::mem::take(&mut taken.asks);
            if !inbox.asks.is_empty() {
                // The others have turns of their own.
                shard.signal.notify_one();
            }
            (taken, ask)
        };
        if let Some(limits) = limits {
            self.hub.set_limits(limits);
            self.reader_config = reader_config(&limits);
        }
        for stream in streams {
            self.open_stream(stream);
        }
        for session in sessions {
            self.open(session);
        }
        if reconsider {
            self.reconsider();
        }
        if let Some(ask) = ask {
            let now = self.now();
            ask.answer(now, &mut self.hub, &mut self.sockets);
        }
        order
    }

    /// Holds the sessions to what their keys are worth now.
    fn reconsider(&mut self) {
        let (now, shared) = (self.now(), Arc::clone(&self.shared));
        self.hub.reconsider(now, &mut |grant| shared.auth.reconsider(grant), &mut self.sockets);
    }

    fn follow(&mut self, order: Option<Order>) {
        let now = self.now();
        match order {
            Some(Order::Drain(over)) if self.phase == Phase::Serving => {
                self.hub.drain(now, over, &mut self.sockets);
                self.phase = Phase::Draining(now.monotonic + over + self.close_timeout);
            }
            Some(Order::ShutDown) => self.shut_down(now),
            Some(Order::Drain(_)) | None => {}
        }
    }

    fn shut_down(&mut self, now: Now) {
        self.hub.shut_down(now, &mut self.sockets);
        self.phase = Phase::ShuttingDown(now.monotonic + SHUT_DOWN_MAX);
    }

    fn open(&mut self, session: NewSession) {
        let NewSession { carrier, early, dialect, deflate, permit, access, holding } = session;
        let now = self.now();
        let key = self.hub.next_key();
        let inflates = if deflate.is_some() { Inflates::Yes } else { Inflates::No };
        let socket = match Socket::new(carrier, self.sockets.waker(key.index), inflates, permit, holding) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, "a socket could not be registered");
                self.shared.shards[self.index].session_ended();
                return;
            }
        };
        self.sockets.install(key, socket);
        let index = key.index as usize;
        if index >= self.readers.len() {
            self.readers.resize_with(index + 1, || None);
        }
        self.readers[index] = Some(Reader::new(self.reader_config, deflate));
        let compression = deflate.map_or(Compression::Off, Compression::from);
        let opened = self.hub.open(now, dialect, compression, access, &mut self.sockets);
        debug_assert_eq!(opened, key, "the hub keeps to the key that it announced");
        tracing::debug!(session = %self.hub.session_id(key), ip = ?self.sockets.ip(key), "a session has opened");
        self.close_the_door(now, key);
        if !early.is_empty() {
            self.received(key, &early);
        }
        if let Some(socket) = self.sockets.get(key) {
            socket.watch_readable();
        }
    }

    fn open_stream(&mut self, stream: NewStream) {
        let NewStream { writer, request, permit, access, holding } = stream;
        let now = self.now();
        let key = self.hub.next_key();
        self.sockets.install_stream(key, writer, permit, holding);
        let opened = self.hub.open_stream(now, request, access, &mut self.sockets);
        debug_assert_eq!(opened, key, "the hub keeps to the key that it announced");
        tracing::debug!(session = %self.hub.session_id(key), ip = ?self.sockets.ip(key), "a session has opened");
        self.close_the_door(now, key);
    }

    /// Ends a session that came through the door while that was being closed.
    fn close_the_door(&mut self, now: Now, key: SessionKey) {
        match self.phase {
            Phase::Serving => {}
            Phase::Draining(_) => self.hub.fail(now, key, Disconnect::Draining, &mut self.sockets),
            Phase::ShuttingDown(_) => self.hub.fail(now, key, Disconnect::ShuttingDown, &mut self.sockets),
        }
    }

    /// Takes in everything that the sequencer has sent, then flushes.
    fn take_items(&mut self) {
        let shared = Arc::clone(&self.shared);
        let queue = &shared.shards[self.index].queue;
        queue.take(&mut self.items);
        if self.items.is_empty() {
            return;
        }
        let mut items = std::mem::take(&mut self.items);
        let now = self.now();
        self.note_oldest(items.front().map(|item| item.taken), now.monotonic);
        for Item { upstream, .. } in items.drain(..) {
            // The size is asked for before the hub takes the item, and given back only when it is worked off.
            let charge = Queue::charge(&upstream);
            self.hub.upstream(now, upstream, &mut self.sockets);
            queue.done(charge);
        }
        self.items = items;
        shared.sequencer.room();
        let now = self.now();
        self.hub.flush(now, &mut self.sockets);
        self.note_flush();
    }

    /// Ticks that wait longer than a flush may be held back were not wanted by anyone.
    fn note_oldest(&mut self, taken: Option<Duration>, now: Duration) {
        let held_max = (self.shared.config.flush_interval + self.shared.config.flush_rest_max) * 2;
        let amid_round = self.hub.is_amid_round();
        let oldest = if amid_round { &mut self.oldest_of_next } else { &mut self.oldest };
        *oldest = oldest.filter(|oldest| amid_round || now.saturating_sub(*oldest) < held_max).or(taken);
    }

    fn note_flush(&mut self) {
        if !std::mem::take(&mut self.sockets.flushed) {
            return;
        }
        let now = self.now();
        self.hub.flushed(now);
        if self.hub.is_amid_round() {
            return;
        }
        if let Some(oldest) = std::mem::replace(&mut self.oldest, self.oldest_of_next.take()) {
            let lag = now.monotonic.saturating_sub(oldest);
            self.feed_to_flush.record(lag);
            self.shared.shards[self.index].note_lag(lag);
        }
    }

    /// Does what is due by the clock.
    fn keep_time(&mut self) {
        let now = self.now();
        if self.hub.deadline().is_some_and(|deadline| deadline <= now.monotonic) {
            self.hub.advance(now, &mut self.sockets);
            self.note_flush();
        }
        for key in self.sockets.unthrottled() {
            self.hub.writable(now, key, &mut self.sockets);
            self.end_broken(key);
        }
        if now.monotonic >= self.export_due {
            self.export_due = now.monotonic + EXPORT_INTERVAL;
            self.export();
        }
        if let Phase::Draining(until) = self.phase
            && until <= now.monotonic
        {
            self.shut_down(now);
        }
    }

    fn export(&mut self) {
        let now = self.now();
        self.sockets.debugged.report(now, &self.hub);
        self.exporter.export(self.hub.stats(), self.bytes_received);
    }

    /// Looks at sockets that were woken.
    fn serve_sockets(&mut self) -> Work {
        self.sockets.end_lingering();
        self.busy = self.shared.sequencer.busy();
        if self.busy {
            return Work::Done;
        }
        let mut tokens = std::mem::take(&mut self.tokens);
        self.ready.take(&mut tokens);
        let looked_at = tokens.len().min(SOCKETS_PER_TURN);
        for token in tokens.drain(..looked_at) {
            match token {
                Token::Session(index) => self.serve_session(index),
                Token::Lingering(number) => self.sockets.serve_lingering(number, &mut self.buffer),
            }
        }
        if !tokens.is_empty() {
            self.ready.put_back(&mut tokens);
        }
        self.tokens = tokens;
        if self.ready.is_empty() { Work::Done } else { Work::Left }
    }

    fn serve_session(&mut self, index: u32) {
        if let Some((key, reader)) = self.sockets.look_at_stream(index) {
            let now = self.now();
            return match reader {
                ReaderSide::Gone => self.hub.lost(now, key, &mut self.sockets),
                ReaderSide::Unblocked => self.hub.writable(now, key, &mut self.sockets),
                ReaderSide::Same => {}
            };
        }
        let Some((key, socket)) = self.sockets.at(index) else { return };
        socket.waker().unlisted();
        if socket.unblocked() {
            let now = self.now();
            self.hub.writable(now, key, &mut self.sockets);
            self.end_broken(key);
        }
        // The write may have ended the session.
        let Some(socket) = self.sockets.get(key) else { return };
        let mut buffer = std::mem::take(&mut self.buffer);
        match socket.read(&mut buffer) {
            Read::Bytes(n) => {
                self.received(key, &buffer[..n]);
                if let Some(socket) = self.sockets.get(key) {
                    socket.watch_readable();
                }
            }
            Read::Nothing => {}
            Read::End => {
                let now = self.now();
                self.hub.lost(now, key, &mut self.sockets);
            }
        }
        self.buffer = buffer;
    }

    /// Passes on what a client has sent.
    fn received(&mut self, key: SessionKey, bytes: &[u8]) {
        self.bytes_received += bytes.len() as u64;
        let now = self.now();
        let Self { hub, sockets, readers, inflater, .. } = self;
        sockets.debugged.received(key, bytes.len());
        let Some(Some(reader)) = readers.get_mut(key.index as usize) else { return };
        // The hub ignores a key that it has forgotten, so events behind the one that ended the session are harmless.
        let result = reader.feed(bytes, inflater, &mut |incoming| match incoming {
            Incoming::Text(text) => message(hub, now, key, Encoding::Json, text.as_bytes(), sockets),
            Incoming::Binary(payload) => message(hub, now, key, Encoding::MessagePack, payload, sockets),
            Incoming::Ping(payload) => hub.ping_received(now, key, payload, sockets),
            Incoming::Pong(_) => hub.pong_received(now, key),
            Incoming::Close { code, .. } => {
                sockets.peer_closes(key);
                hub.close_received(now, key, code, sockets);
            }
        });
        if let Err(violation) = result {
            readers[key.index as usize] = None;
            hub.fail(now, key, disconnect(violation), sockets);
            self.end_broken(key);
        }
    }

    /// Ends a session that has broken a rule once its close frame is out. Whether the client answers it cannot be known:
    /// its frames are not read any more (RFC 6455, section 7.1.7).
    fn end_broken(&mut self, key: SessionKey) {
        let broken = matches!(self.readers.get(key.index as usize), Some(None));
        if broken && self.sockets.get(key).is_some_and(|socket| !socket.is_blocked()) {
            let now = self.now();
            self.hub.lost(now, key, &mut self.sockets);
        }
    }

    fn phase_goes_on(&self) -> bool {
        let served = self.hub.session_count() > 0 || self.sockets.lingering() > 0;
        match self.phase {
            Phase::Serving => true,
            Phase::Draining(_) => served,
            Phase::ShuttingDown(until) => served && self.shared.clock.now().monotonic < until,
        }
    }

    /// Says that more ticks need not wake this thread, if the alarm will, to flush those that are there.
    fn rest(&self) {
        if self.hub.flush_due().is_some() {
            self.shared.shards[self.index].resting.store(true, Ordering::Release);
        }
    }

    fn end_rest(&self) {
        self.shared.shards[self.index].resting.store(false, Ordering::Release);
    }

    /// Sets the alarm to the next instant at which there is something to do by the clock.
    fn set_alarm(&mut self, alarm: &mut Alarm) {
        let phase = match self.phase {
            Phase::Serving => None,
            Phase::Draining(until) | Phase::ShuttingDown(until) => Some(until),
        };
        let busy = self.busy.then(|| self.sockets.now + BUSY_PAUSE);
        let others = [self.hub.deadline(), self.sockets.deadline(), self.sockets.throttled_until(), phase, busy];
        let due = others.into_iter().flatten().fold(self.export_due, Duration::min);
        alarm.set(due, &self.shared.clock);
    }
}

fn reader_config(limits: &wire::Limits) -> ReaderConfig {
    let message_bytes_max = match limits.message_bytes_max as usize {
        0 => MESSAGE_BYTES_HARD_MAX,
        limit => limit.min(MESSAGE_BYTES_HARD_MAX),
    };
    ReaderConfig { message_bytes_max, ..ReaderConfig::default() }
}

/// Passes a message on, and answers what the hub asks of it before the next.
fn message(hub: &mut Shard, now: Now, key: SessionKey, encoding: Encoding, payload: &[u8], sockets: &mut Sockets) {
    let _span = traces::command(|| sockets.debugged.id(key), encoding, payload).entered();
    sockets.debugged.command(key, encoding, payload);
    hub.message(now, key, encoding, payload, sockets);
    if let Some(attempt) = sockets.attempt.take() {
        let outcome = sockets.authenticate_now(&attempt, now);
        hub.authenticated(now, attempt.session, attempt.id, outcome, sockets);
    }
}

fn disconnect(violation: Violation) -> Disconnect {
    if violation.code == websocket::close_code::TOO_BIG {
        return Disconnect::MessageTooBig;
    }
    Disconnect::Protocol { code: violation.code, reason: violation.reason }
}

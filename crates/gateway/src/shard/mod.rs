//! Shards: a thread each, with a reactor, one task, and the hub's state machine for its sessions.
//!
//! **Invariant:** a session's socket is touched by its shard's thread alone. What comes from outside (new sockets, orders,
//! the sequencer's items) comes through a [`ShardHandle`], whose locks are held for a push or a swap.
//!
//! What is *not* here: a task per session. Readiness is a list of numbers, see [`ready`].

mod alarm;
mod ask;
mod debugged;
mod export;
mod pipe;
mod queue;
mod ready;
mod socket;
mod sockets;
mod transport;
mod turn;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hub::{Access, StreamRequest, Upstream};
use tokio::sync::Notify;
use websocket::deflate::Params;
use wire::Dialect;

use crate::admission::Permit;
use crate::auth::Holding;
use crate::tls::Carrier;
pub(crate) use ask::{Ask, Seen, Which};
pub(crate) use pipe::{PipeReader, PipeWriter, pipe};
pub(crate) use queue::Pushed;
use queue::{Item, Queue};
pub(crate) use turn::run;

/// A socket on which the hand-shake is done.
#[derive(Debug)]
pub(crate) struct NewSession {
    pub(crate) carrier: Carrier,
    /// What the client sent together with its request
    pub(crate) early: Vec<u8>,
    pub(crate) dialect: Dialect,
    /// What was agreed of permessage-deflate
    pub(crate) deflate: Option<Params>,
    pub(crate) permit: Permit,
    /// What the client has authenticated as, and whether it has to
    pub(crate) access: Access,
    /// Its place among the connections of its key
    pub(crate) holding: Option<Holding>,
}

/// A response that a session is to fill.
#[derive(Debug)]
pub(crate) struct NewStream {
    pub(crate) writer: PipeWriter,
    pub(crate) request: StreamRequest,
    pub(crate) permit: Permit,
    pub(crate) access: Access,
    pub(crate) holding: Option<Holding>,
}

/// What a shard is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Close all sessions, spread over that time, and end
    Drain(Duration),
    /// Close all sessions at once and end
    ShutDown,
}

/// Questions of operators that may wait for a shard; more are refused.
const ASKS_MAX: usize = 16;

/// A shard has too many questions to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooManyAsks;

/// How others reach a shard.
#[derive(Debug)]
pub(crate) struct ShardHandle {
    pub(crate) queue: Queue,
    inbox: Mutex<Inbox>,
    signal: Arc<Notify>,
    /// Whether the shard rests until a time that it has set the alarm to, and has something to flush then: more ticks can
    /// wait for that, and wake nobody.
    resting: AtomicBool,
    sessions: AtomicUsize,
    lag_us: AtomicU64,
}

/// Bounded by the hand-shakes that complete within a turn of the shard.
#[derive(Debug, Default)]
struct Inbox {
    sessions: Vec<NewSession>,
    streams: Vec<NewStream>,
    order: Option<Order>,
    /// Whether the keys have changed.
    reconsider: bool,
    /// Other limits than before.
    limits: Option<wire::Limits>,
    /// Of operators, at most [`ASKS_MAX`]; one is answered in a turn.
    asks: VecDeque<Ask>,
}

impl ShardHandle {
    pub(crate) fn new(queue_bytes_max: usize) -> Self {
        Self {
            queue: Queue::new(queue_bytes_max),
            inbox: Mutex::default(),
            signal: Arc::default(),
            resting: AtomicBool::new(false),
            sessions: AtomicUsize::new(0),
            lag_us: AtomicU64::new(0),
        }
    }

    /// Hands over an item of the sequencer; `taken` is when its ticks were taken from the feed.
    pub(crate) fn push(&self, upstream: Upstream, taken: Duration) -> Pushed {
        let can_wait = matches!(upstream, Upstream::Batch(_));
        let pushed = self.queue.push(Item { upstream, taken });
        // Asked after the push: a shard that has stopped resting takes the queue afterwards.
        if !(can_wait && self.resting.load(Ordering::Acquire)) {
            self.signal.notify_one();
        }
        pushed
    }

    /// Gives the shard a socket.
    pub(crate) fn hand_over(&self, session: NewSession) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).sessions.push(session);
        self.signal.notify_one();
    }

    /// Gives the shard a response to fill.
    pub(crate) fn hand_over_stream(&self, stream: NewStream) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).streams.push(stream);
        self.signal.notify_one();
    }

    /// Tells the shard to end; of several orders the last one counts.
    pub(crate) fn order(&self, order: Order) {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).order = Some(order);
        self.signal.notify_one();
    }

    /// Has the shard's sessions go by other limits.
    pub(crate) fn tune(&self, limits: wire::Limits) {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).limits = Some(limits);
        self.signal.notify_one();
    }

    /// Has the shard look at its sessions' grants again.
    pub(crate) fn reconsider(&self) {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).reconsider = true;
        self.signal.notify_one();
    }

    /// Has the shard answer an operator, or do what it wants.
    ///
    /// # Errors
    /// [`TooManyAsks`] when so many wait already; nothing is done then.
    pub(crate) fn ask(&self, ask: Ask) -> Result<(), TooManyAsks> {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        if inbox.asks.len() >= ASKS_MAX {
            return Err(TooManyAsks);
        }
        inbox.asks.push_back(ask);
        drop(inbox);
        self.signal.notify_one();
        Ok(())
    }

    /// How late data leaves the shard: the worst since this was last asked, and not less than what waits now.
    pub(crate) fn lag(&self, now: Duration) -> Duration {
        let flushed = Duration::from_micros(self.lag_us.swap(0, Ordering::Relaxed));
        flushed.max(self.queue.oldest().map_or(Duration::ZERO, |taken| now.saturating_sub(taken)))
    }

    fn note_lag(&self, lag: Duration) {
        self.lag_us.fetch_max(lag.as_micros() as u64, Ordering::Relaxed);
    }

    /// Sessions that the shard has or is about to get.
    pub(crate) fn load(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    fn session_ended(&self) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

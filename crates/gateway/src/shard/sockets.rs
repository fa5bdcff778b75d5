//! The sockets of a shard: the hub's [`Io`].
//!
//! **Invariant:** a socket is reachable by a key exactly as long as the hub knows the session. What is closed lingers
//! apart from the sessions, for at most [`LINGER`], and there are at most [`LINGERING_MAX`] of those.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hub::{AuthAttempt, AuthRefusal, Disconnect, Grant, Io, Now, OverKeyLimit, Request, SessionKey, Written};
use metrics::{Counter, Histogram};

use super::debugged::Debugged;
use super::pipe::{PipeWriter, ReaderSide};
use super::ready::{ReadyList, SocketWaker, Token};
use super::socket::{Inflates, Peer, Quota, Read, Socket};
use crate::admission::Permit;
use crate::auth::Holding;
use crate::metrics as names;
use crate::state::Shared;

/// How long a closed socket is kept so that the peer can read our last bytes: closing with bytes unread resets the
/// connection, and a reset throws away what the peer has not read yet.
const LINGER: Duration = Duration::from_secs(2);
/// How long a socket is kept after both close frames when messages were compressed: clients that inflate beside their event
/// loop (undici, in Node) take an end of the stream that overtakes their inflating for an abnormal closure, 1006.
const INFLATING: Duration = Duration::from_millis(100);
/// Closed sockets kept at a time; at more the oldest is dropped. A drain closes sessions over seconds, so thousands suffice.
const LINGERING_MAX: usize = 4096;
/// Bytes that a closed socket may still send us.
const LINGERING_BYTES_MAX: usize = 1 << 20;
/// How long a session waits whose key has been sent its bytes: a fiftieth of what may be sent at once.
const THROTTLED_PAUSE: Duration = Duration::from_millis(20);
/// One frame in so many is put into the histograms; each observation is kept until the next second.
const OBSERVE_EVERY: u32 = 16;

/// See the module.
pub(super) struct Sockets {
    shared: Arc<Shared>,
    shard: usize,
    ready: Arc<ReadyList>,
    open: Vec<Slot>,
    /// Responses that sessions fill, by the index of the session.
    streams: HashMap<u32, Stream>,
    lingering: HashMap<u32, Lingering>,
    /// Numbers of lingering sockets with their deadlines, the next one first; some may be gone already.
    deadlines: BinaryHeap<Reverse<(Duration, u32)>>,
    lingering_next: u32,
    /// The time of the turn, for deadlines of sockets that are closed in it.
    pub(super) now: Duration,
    /// Whether a lane was flushed since this was last cleared.
    pub(super) flushed: bool,
    /// A token that a client has sent, until it is looked at; that is before its next message.
    pub(super) attempt: Option<AuthAttempt>,
    /// Sessions whose keys have been sent their bytes for now, and when to look at them again.
    throttled: Vec<SessionKey>,
    throttled_until: Duration,
    throttles: Counter,
    /// Sessions that operators look at closely
    pub(super) debugged: Debugged,
    flushes: u32,
    observers: Observers,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    socket: Option<Socket>,
}

#[derive(Debug)]
struct Stream {
    generation: u32,
    writer: PipeWriter,
    waker: Arc<SocketWaker>,
    quota: Quota,
    permit: Permit,
}

#[derive(Debug)]
struct Lingering {
    socket: Socket,
    bytes: usize,
}

struct Observers {
    members: Histogram,
    elements: Histogram,
    bytes: Histogram,
}

impl Sockets {
    pub(super) fn new(shared: Arc<Shared>, shard: usize, ready: Arc<ReadyList>) -> Self {
        let observers = Observers {
            members: shared.metrics.histogram(names::LANE_MEMBERS),
            elements: shared.metrics.histogram(names::FLUSH_ELEMENTS),
            bytes: shared.metrics.histogram(names::FLUSH_BYTES),
        };
        let throttles = shared.metrics.counter(names::THROTTLED);
        Self {
            shared,
            shard,
            ready,
            open: Vec::new(),
            streams: HashMap::new(),
            lingering: HashMap::new(),
            deadlines: BinaryHeap::new(),
            lingering_next: 0,
            now: Duration::ZERO,
            flushed: false,
            attempt: None,
            throttled: Vec::new(),
            throttled_until: Duration::ZERO,
            throttles,
            debugged: Debugged::new(shard),
            flushes: 0,
            observers,
        }
    }

    /// Puts a socket where the session of that key will find it.
    pub(super) fn install(&mut self, key: SessionKey, socket: Socket) {
        let index = key.index as usize;
        if index >= self.open.len() {
            self.open.resize_with(index + 1, Slot::default);
        }
        self.open[index] = Slot { generation: key.generation, socket: Some(socket) };
    }

    /// As [`Sockets::install`], for a response.
    pub(super) fn install_stream(
        &mut self,
        key: SessionKey,
        writer: PipeWriter,
        permit: Permit,
        holding: Option<Holding>,
    ) {
        let waker = self.waker(key.index);
        writer.set_waker(waker.waker());
        self.streams.insert(
            key.index,
            Stream { generation: key.generation, writer, waker, quota: Quota::new(holding), permit },
        );
    }

    /// What has become of the response of the session at that index, if it has one.
    pub(super) fn look_at_stream(&mut self, index: u32) -> Option<(SessionKey, ReaderSide)> {
        let stream = self.streams.get(&index)?;
        stream.waker.unlisted();
        Some((SessionKey { index, generation: stream.generation }, stream.writer.reader_side()))
    }

    /// A waker for the session at that index.
    pub(super) fn waker(&self, index: u32) -> Arc<SocketWaker> {
        SocketWaker::new(Token::Session(index), &self.ready)
    }

    /// The key and the socket at an index, unless the session is gone.
    pub(super) fn at(&mut self, index: u32) -> Option<(SessionKey, &mut Socket)> {
        let slot = self.open.get_mut(index as usize)?;
        let key = SessionKey { index, generation: slot.generation };
        slot.socket.as_mut().map(|socket| (key, socket))
    }

    /// The socket of a session, unless it is gone.
    pub(super) fn get(&mut self, key: SessionKey) -> Option<&mut Socket> {
        let slot = self.open.get_mut(key.index as usize)?;
        if slot.generation == key.generation { slot.socket.as_mut() } else { None }
    }

    /// The address of a session's client, unless it is gone.
    pub(super) fn ip(&mut self, key: SessionKey) -> Option<IpAddr> {
        if let Some(socket) = self.get(key) {
            return Some(socket.ip());
        }
        let stream = self.streams.get(&key.index)?;
        (stream.generation == key.generation).then(|| stream.permit.ip())
    }

    /// Looks at a token, and counts what a limit refuses.
    pub(super) fn authenticate_now(&mut self, attempt: &AuthAttempt, now: Now) -> Result<Arc<Grant>, AuthRefusal> {
        let outcome = self.look_at(attempt, now);
        if let Err(refusal) = &outcome {
            crate::auth::count(&self.shared, refusal);
        }
        outcome
    }

    fn look_at(&mut self, attempt: &AuthAttempt, now: Now) -> Result<Arc<Grant>, AuthRefusal> {
        let shared = Arc::clone(&self.shared);
        let gone = || AuthRefusal::Failed("the connection is gone".to_owned());
        let socket = self.get(attempt.session).ok_or_else(gone)?;
        let grant = shared.auth.authenticate(&attempt.token, socket.ip(), &shared.admission, now)?;
        let holders = &shared.auth.holders;
        match &mut socket.quota.holding {
            Some(holding) => holders.change(holding, &grant),
            none @ None => holders.connect(&grant).map(|holding| *none = Some(Box::new(holding))),
        }
        .map_err(AuthRefusal::TooManyConnections)?;
        Ok(grant)
    }

    /// What a session takes of what its key may have, unless it is gone.
    fn quota(&mut self, key: SessionKey) -> Option<&mut Quota> {
        let slot = self.open.get_mut(key.index as usize)?;
        if slot.generation == key.generation
            && let Some(socket) = &mut slot.socket
        {
            return Some(&mut socket.quota);
        }
        let stream = self.streams.get_mut(&key.index)?;
        if stream.generation == key.generation { Some(&mut stream.quota) } else { None }
    }

    /// Takes the sessions whose keys may be sent bytes again.
    pub(super) fn unthrottled(&mut self) -> Vec<SessionKey> {
        if self.throttled.is_empty() || self.now < self.throttled_until {
            return Vec::new();
        }
        let keys = std::mem::take(&mut self.throttled);
        for key in &keys {
            if let Some(quota) = self.quota(*key) {
                quota.throttled = false;
            }
        }
        keys
    }

    /// When [`Sockets::unthrottled`] has some.
    pub(super) fn throttled_until(&self) -> Option<Duration> {
        (!self.throttled.is_empty()).then_some(self.throttled_until)
    }

    /// Puts off what is to be written to a session.
    fn throttle(&mut self, key: SessionKey) -> Written {
        if self.throttled.is_empty() {
            self.throttled_until = self.now + THROTTLED_PAUSE;
        }
        self.throttles.increment(1);
        self.throttled.push(key);
        Written::Throttled
    }

    /// Notes that the session's peer has sent its close frame.
    pub(super) fn peer_closes(&mut self, key: SessionKey) {
        if let Some(socket) = self.get(key) {
            socket.peer = Peer::Closed;
        }
    }

    /// Reads and forgets what a closed socket still sends; ends it when the peer has closed too.
    pub(super) fn serve_lingering(&mut self, number: u32, buffer: &mut [u8]) {
        let Some(lingering) = self.lingering.get_mut(&number) else { return };
        lingering.socket.waker().unlisted();
        lingering.socket.unblocked();
        match lingering.socket.read(buffer) {
            Read::Bytes(n) if lingering.bytes + n <= LINGERING_BYTES_MAX => {
                lingering.bytes += n;
                lingering.socket.watch_readable();
            }
            Read::Nothing => {}
            Read::Bytes(_) | Read::End => {
                self.lingering.remove(&number);
            }
        }
    }

    /// Drops closed sockets whose time is over.
    pub(super) fn end_lingering(&mut self) {
        while let Some(&Reverse((deadline, number))) = self.deadlines.peek() {
            let gone = !self.lingering.contains_key(&number);
            if !gone && deadline > self.now && self.lingering.len() <= LINGERING_MAX {
                break;
            }
            self.deadlines.pop();
            self.lingering.remove(&number);
        }
    }

    /// When [`Sockets::end_lingering`] has something to do.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.deadlines.peek().map(|Reverse((deadline, _))| *deadline)
    }

    pub(super) fn lingering(&self) -> usize {
        self.lingering.len()
    }

    fn linger(&mut self, mut socket: Socket, duration: Duration) {
        let number = self.lingering_next;
        self.lingering_next = self.lingering_next.wrapping_add(1);
        socket.set_waker(SocketWaker::new(Token::Lingering(number), &self.ready));
        socket.watch_readable();
        if !socket.is_flushed() {
            // The reactor knows the waker from before.
            socket.waker().waker().wake();
        }
        self.lingering.insert(number, Lingering { socket, bytes: 0 });
        self.deadlines.push(Reverse((self.now + duration, number)));
    }
}

impl Io for Sockets {
    fn write(&mut self, session: SessionKey, bytes: &[u8]) -> Written {
        let now = self.now;
        if let Some(quota) = self.quota(session) {
            if quota.throttled {
                return Written::Throttled;
            }
            if quota.holding.as_ref().is_some_and(|holding| !holding.may_send(bytes.len(), now)) {
                quota.throttled = true;
                return self.throttle(session);
            }
        }
        match self.get(session) {
            Some(socket) => socket.write(bytes),
            None => match self.streams.get(&session.index) {
                Some(stream) if stream.generation == session.generation => stream.writer.write(bytes),
                _ => Written::Broken,
            },
        }
    }

    fn authenticate(&mut self, attempt: AuthAttempt) {
        self.attempt = Some(attempt);
    }

    fn hold_subscriptions(&mut self, session: SessionKey, count: usize) -> Result<(), OverKeyLimit> {
        let holding = self.quota(session).and_then(|quota| quota.holding.as_deref_mut());
        holding.map_or(Ok(()), |holding| holding.subscribe(count))
    }

    fn request(&mut self, request: Request) {
        self.shared.sequencer.request(self.shard, request);
    }

    fn disconnect(&mut self, session: SessionKey, reason: Disconnect) {
        self.debugged.ended(session, &reason);
        if self.streams.get(&session.index).is_some_and(|stream| stream.generation == session.generation) {
            self.shared.metrics.reason(names::DISCONNECTS, reason.label()).increment(1);
            if let Some(shard) = self.shared.shards.get(self.shard) {
                shard.session_ended();
            }
            // The response ends once it has sent what is in the pipe.
            self.streams.remove(&session.index);
            return;
        }
        let Some(slot) = self.open.get_mut(session.index as usize) else { return };
        if slot.generation != session.generation {
            return;
        }
        if let Some(mut socket) = slot.socket.take() {
            self.shared.metrics.reason(names::DISCONNECTS, reason.label()).increment(1);
            if let Some(shard) = self.shared.shards.get(self.shard) {
                shard.session_ended();
            }
            match socket.peer {
                Peer::Talking if reason != Disconnect::Lost => {
                    socket.shut_down_write();
                    self.linger(socket, LINGER);
                }
                // TLS holds bytes back that the kernel has not taken yet.
                Peer::Closed if !socket.is_flushed() => {
                    socket.shut_down_write();
                    self.linger(socket, LINGER);
                }
                Peer::Closed if socket.inflates == Inflates::Yes => self.linger(socket, INFLATING),
                // Nothing can be unread, so to close is not to reset; the kernel sends what it has taken.
                Peer::Talking | Peer::Closed => drop(socket),
            }
        }
    }

    fn observe_flush(&mut self, members: usize, elements: usize, bytes: usize) {
        self.flushed = true;
        self.flushes = self.flushes.wrapping_add(1);
        if self.flushes.is_multiple_of(OBSERVE_EVERY) {
            self.observers.members.record(members as f64);
            self.observers.elements.record(elements as f64);
            self.observers.bytes.record(bytes as f64);
        }
    }
}

//! The sockets of a shard: the hub's [`Io`].
//!
//! **Invariant:** a socket is reachable by a key exactly as long as the hub knows the session. What is closed lingers
//! apart from the sessions, for at most [`LINGER`], and there are at most [`LINGERING_MAX`] of those.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use hub::{Disconnect, Io, Request, SessionKey, Written};
use metrics::Histogram;

use super::pipe::{PipeWriter, ReaderSide};
use super::ready::{ReadyList, SocketWaker, Token};
use super::socket::{Inflates, Peer, Read, Socket};
use crate::admission::Permit;
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
    _permit: Permit,
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
    pub(super) fn install_stream(&mut self, key: SessionKey, writer: PipeWriter, permit: Permit) {
        let waker = self.waker(key.index);
        writer.set_waker(waker.waker());
        self.streams.insert(key.index, Stream { generation: key.generation, writer, waker, _permit: permit });
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
        self.lingering.insert(number, Lingering { socket, bytes: 0 });
        self.deadlines.push(Reverse((self.now + duration, number)));
    }
}

impl Io for Sockets {
    fn write(&mut self, session: SessionKey, bytes: &[u8]) -> Written {
        match self.get(session) {
            Some(socket) => socket.write(bytes),
            None => match self.streams.get(&session.index) {
                Some(stream) if stream.generation == session.generation => stream.writer.write(bytes),
                _ => Written::Broken,
            },
        }
    }

    fn request(&mut self, request: Request) {
        self.shared.sequencer.request(self.shard, request);
    }

    fn disconnect(&mut self, session: SessionKey, reason: Disconnect) {
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
        if let Some(socket) = slot.socket.take() {
            self.shared.metrics.reason(names::DISCONNECTS, reason.label()).increment(1);
            if let Some(shard) = self.shared.shards.get(self.shard) {
                shard.session_ended();
            }
            match socket.peer {
                Peer::Talking if reason != Disconnect::Lost => {
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

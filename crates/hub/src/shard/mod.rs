//! A shard: the sessions of one thread, their lanes, and what flows from batches to frames.
//!
//! **Invariant:** whatever happens to one session (it stalls, vanishes, floods) changes nothing that another one is sent.
//! Loss is declared: a session in mode `every` sees each number of a stream, or a gap that names the missing ones.
//!
//! What is *not* here: threads, sockets and clocks; see [`crate::Io`] and [`crate::Now`].

mod auth;
mod changed;
mod command;
mod deflate;
mod flush;
mod frames;
mod inspect;
mod lane;
mod life;
mod outbox;
mod scope;
mod selection;
mod session;
mod stall;
mod stream;
mod subscribe;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use market::ChannelSet;
use rustc_hash::FxHashMap;
use wire::{Dialect, Limits, NoticeCode, ServerMessage};

use crate::{Batch, Catalog, DeflateConfig, FeedOutcome, Io, Now, SessionKey, Stats, StreamKey, Upstream};
use command::Operation;
pub use command::Targets;
use flush::Rounds;
use frames::{EventFields, FrameBuffer};
pub use inspect::{SessionId, SessionPage, SessionReport, SessionSubscription, Transport};
use lane::{LaneId, Lanes};
use life::{Draining, Sweep};
use outbox::Class;
use scope::Scopes;
use session::{Aftermath, Sessions};
pub use stream::StreamRequest;

/// How a shard is set up.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    /// The server's version, for the welcome
    pub version: String,
    /// The epoch of the sequence numbers, for the welcome
    pub epoch: String,
    /// Distinguishes the shards of a process in the names of sessions
    pub index: usize,
    /// What a session may do
    pub limits: Limits,
    /// The channels that can be subscribed to
    pub served: ChannelSet,
    /// How often a session gets a heartbeat
    pub heartbeat_ms: u64,
    /// The longest data frame, in bytes of elements. No element is split, so the longest element may exceed it.
    pub frame_bytes_max: usize,
    /// Bytes that may wait in all outboxes of the shard together
    pub outbox_total_bytes_max: usize,
    /// How long a client has to answer our close frame, and our own to leave the outbox
    pub close_timeout: Duration,
    /// Tokens that are not good before a session is closed
    pub auth_tries_max: u8,
    /// How long an outbox may wait without a byte leaving it before the session is closed as a slow consumer
    pub write_stall_timeout: Duration,
    /// The least time between the begins of two flushes; zero sets none
    pub flush_interval: Duration,
    /// The largest share of the time that is to go into flushing, in percent. Beyond it, writing for a millisecond is
    /// followed by a millisecond of rest at 50, in which batches grow: the more a flush costs, the fewer and fuller the
    /// frames are. 100 never rests.
    pub flush_duty_percent: u32,
    /// The longest such rest, and how much time without flushes counts in advance
    pub flush_rest_max: Duration,
    /// What compression may cost
    pub deflate: DeflateConfig,
    /// For what is spread at random: reconnect times while draining
    pub seed: u64,
}

impl Default for ShardConfig {
    fn default() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            epoch: "0".to_owned(),
            index: 0,
            limits: Limits::default(),
            served: ChannelSet::from_bits(u16::MAX),
            heartbeat_ms: 10_000,
            // 128 KiB is what a loopback socket takes in one write; a client parses it within a few milliseconds.
            frame_bytes_max: 128 << 10,
            outbox_total_bytes_max: 1 << 30,
            close_timeout: Duration::from_secs(5),
            auth_tries_max: 3,
            write_stall_timeout: Duration::from_secs(30),
            flush_interval: Duration::ZERO,
            flush_duty_percent: 70,
            flush_rest_max: Duration::from_millis(20),
            deflate: DeflateConfig::default(),
            seed: 0,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Shard {
    config: ShardConfig,
    catalog: Arc<Catalog>,
    sessions: Sessions,
    lanes: Lanes,
    scopes: Scopes,
    /// The newest element of each stream that a lane in mode `latest` wants, for each dialect.
    newest: [FxHashMap<StreamKey, Newest>; Dialect::COUNT],
    /// The last number of each stream that went past here.
    last_seq: Vec<u64>,
    /// Counts batches, to tell newest values from before a session joined from those after.
    position: u64,
    /// Everything that any session here wants up to this ordinal has been taken in.
    ordinal: u64,
    /// Requests on their way, oldest first; replies come back in this order.
    in_flight: VecDeque<(SessionKey, Operation)>,
    rounds: Rounds,
    /// When lanes in mode `latest` are due. An entry counts only if the lane still says so.
    timers: BinaryHeap<Reverse<(Duration, LaneId)>>,
    sweep: Sweep,
    draining: Option<Draining>,
    outcome: Option<FeedOutcome>,
    frames: FrameBuffer,
    rng: u64,
    stats: Stats,
}

/// The newest element of a stream.
#[derive(Debug)]
struct Newest {
    seq: u64,
    position: u64,
    element: Vec<u8>,
}

impl Shard {
    /// A shard without sessions.
    pub fn new(config: ShardConfig) -> Self {
        Self {
            sessions: Sessions::new(config.limits.outbox_bytes_max as usize, config.outbox_total_bytes_max),
            sweep: Sweep::new(&config),
            frames: FrameBuffer::new(&config.epoch),
            rng: config.seed ^ 0x9e37_79b9_7f4a_7c15 ^ (config.index as u64) << 48,
            lanes: Lanes::new(config.deflate.clone()),
            config,
            catalog: Arc::default(),
            scopes: Scopes::default(),
            newest: Default::default(),
            last_seq: Vec::new(),
            position: 0,
            ordinal: 0,
            in_flight: VecDeque::new(),
            rounds: Rounds::default(),
            timers: BinaryHeap::new(),
            draining: None,
            outcome: None,
            stats: Stats::default(),
        }
    }

    /// Goes by other limits from now on. What a session has already stays: subscriptions, tokens of commands, what waits.
    pub fn set_limits(&mut self, limits: Limits) {
        self.config.limits = limits;
        self.sessions.set_outbox_bytes_max(limits.outbox_bytes_max as usize);
        self.sweep.retime(&self.config);
    }

    /// The number of sessions that are not forgotten yet.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// What has been done so far and what is there now.
    pub fn stats(&mut self) -> &Stats {
        self.stats.sessions = self.sessions.len() as u64;
        self.stats.lanes = self.lanes.len() as u64;
        self.stats.compressors = self.lanes.compressors.live() as u64;
        self.stats.outbox_bytes = self.sessions.outbox_bytes() as u64;
        &self.stats
    }

    /// Takes in what the sequencer's side sent.
    pub fn upstream(&mut self, now: Now, message: Upstream, io: &mut impl Io) {
        match message {
            Upstream::Catalog(catalog) => self.grow(now, catalog, io),
            Upstream::Batch(batch) => self.take_in(now, &batch, io),
            Upstream::Reply(reply) => self.apply(now, &reply, io),
            Upstream::Feed(outcome) => self.feed_over(now, outcome, io),
            Upstream::Lagged => self.lagged(now, io),
        }
        self.settle(now, io);
    }

    /// Writes on to a session whose socket takes bytes again.
    pub fn writable(&mut self, now: Now, key: SessionKey, io: &mut impl Io) {
        if self.sessions.by_key(key).is_some() && self.sessions.drain(now, key, io) {
            self.drained(now, key, io);
        }
        self.settle(now, io);
    }

    fn grow(&mut self, now: Now, catalog: Arc<Catalog>, io: &mut impl Io) {
        let known = self.catalog.len();
        self.last_seq.resize(catalog.len() * StreamKey::PER_INSTRUMENT, 0);
        self.lanes.grow(catalog.len());
        self.catalog = catalog;
        let catalog = Arc::clone(&self.catalog);
        self.scopes.grow(&catalog);
        self.lanes.renew_scopes(&mut self.scopes, &catalog);
        let added: Vec<_> = catalog.iter().skip(known).collect();
        if added.is_empty() {
            return;
        }
        for key in self.sessions.keys().collect::<Vec<_>>() {
            if self.wants_stars(key) {
                self.announce(now, key, &added, io);
            }
        }
    }

    fn wants_stars(&mut self, key: SessionKey) -> bool {
        let lanes = &self.lanes;
        let wants = |lane: LaneId| lanes.lane(lane).is_some_and(|lane| !lane.selection.stars().is_empty());
        self.sessions.by_key(key).is_some_and(|session| session.memberships.iter().any(|m| wants(m.lane)))
    }

    fn feed_over(&mut self, now: Now, outcome: FeedOutcome, io: &mut impl Io) {
        // Everything that the feed has brought goes out before the word that it is over.
        self.flush_all(now, io);
        self.outcome = Some(outcome);
        for key in self.sessions.keys().collect::<Vec<_>>() {
            self.say_outcome(now, key, outcome, io);
        }
    }

    fn say_outcome(&mut self, now: Now, key: SessionKey, outcome: FeedOutcome, io: &mut impl Io) {
        let (code, message) = match outcome {
            FeedOutcome::Ended => (NoticeCode::FeedEnded, "the feed has come to its end; snapshots are still served"),
            FeedOutcome::Failed => (NoticeCode::FeedFailed, "the feed is broken; the server stops"),
        };
        self.say(now, key, &ServerMessage::Notice { code, reconnect_after_ms: None, message }, Class::Kept, io);
    }

    /// Hands a batch to the lanes that want something of it.
    fn take_in(&mut self, now: Now, batch: &Batch, io: &mut impl Io) {
        self.position += 1;
        self.ordinal = self.ordinal.max(batch.last_ordinal());
        for item in batch.items() {
            if let Some(last) = self.last_seq.get_mut(item.key.index()) {
                *last = item.seq;
            }
        }
        for at in 0..self.lanes.star_lanes().len() {
            self.take_in_star(now, self.lanes.star_lanes()[at], batch, io);
        }
        for (index, item) in batch.items().iter().enumerate() {
            for at in 0..self.lanes.interested(item.key).len() {
                let lane = self.lanes.interested(item.key)[at];
                self.append(now, lane, batch, index, io);
            }
        }
    }

    fn take_in_star(&mut self, now: Now, id: LaneId, batch: &Batch, io: &mut impl Io) {
        let Some(lane) = self.lanes.lane(id) else { return };
        if lane.mode == wire::Mode::Every && lane.selection.takes_all_of(batch.channels()) {
            let bytes = batch.all(lane.dialect);
            if bytes.len() <= self.config.frame_bytes_max {
                self.make_room(now, id, bytes.len(), io);
                if let Some(lane) = self.lanes.lane_mut(id) {
                    lane.ordinal = batch.last_ordinal();
                    lane.pending.items.extend_from_slice(batch.items());
                    lane.pending.bytes.extend_from_slice(bytes);
                }
                return;
            }
        }
        for (index, item) in batch.items().iter().enumerate() {
            let Some(lane) = self.lanes.lane(id) else { return };
            // A stream that the lane names as well comes by the index.
            if lane.selection.covers_by_star(item.key) && !lane.selection.has_pair(item.key) {
                self.append(now, id, batch, index, io);
            }
        }
    }

    /// Notes one element of a batch for one lane.
    fn append(&mut self, now: Now, id: LaneId, batch: &Batch, index: usize, io: &mut impl Io) {
        let item = batch.items()[index];
        let Some(lane) = self.lanes.lane_mut(id) else { return };
        let dialect = lane.dialect;
        let element = batch.element(dialect, index);
        match lane.mode {
            wire::Mode::Every => {
                if lane.pending.is_empty() || lane.pending.bytes.len() + element.len() > self.config.frame_bytes_max {
                    self.make_room(now, id, element.len(), io);
                }
                if let Some(lane) = self.lanes.lane_mut(id) {
                    lane.ordinal = batch.ordinal(index);
                    lane.pending.push(item.key, item.seq, element);
                }
            }
            wire::Mode::Latest { interval_ms } => {
                let first = lane.changed.is_empty();
                if first {
                    self.lanes.prepare_changed(id);
                    self.schedule(now, id, interval_ms);
                }
                let Some(lane) = self.lanes.lane_mut(id) else { return };
                if let Some((time, event)) = batch.book(index) {
                    lane.changed.merge(item, time, event, self.position);
                    return;
                }
                let newest = self.newest[dialect.index()].entry(item.key).or_insert_with(|| Newest {
                    seq: 0,
                    position: 0,
                    element: Vec::new(),
                });
                if newest.seq != item.seq {
                    newest.seq = item.seq;
                    newest.position = self.position;
                    newest.element.clear();
                    newest.element.extend_from_slice(element);
                }
                lane.changed.insert(item.key);
            }
        }
    }

    /// Sees to it that a lane in mode `every` has a buffer with room for `bytes` more, and is on the list to be flushed.
    fn make_room(&mut self, now: Now, id: LaneId, bytes: usize, io: &mut impl Io) {
        let Some(lane) = self.lanes.lane(id) else { return };
        if !lane.pending.is_empty() && lane.pending.bytes.len() + bytes > self.config.frame_bytes_max {
            // It keeps its place among those that wait.
            self.flush_lane(now, id, io);
            self.lanes.prepare(id);
        } else if lane.pending.is_empty() {
            self.lanes.prepare(id);
            self.rounds.waiting.push_back(id);
        }
    }

    /// Says when a lane in mode `latest` is to be flushed: at the next point of its own grid. Where the grid begins
    /// follows from the lane's number, so that lanes of one interval do not all wake at once.
    fn schedule(&mut self, now: Now, id: LaneId, interval_ms: u32) {
        let Some(lane) = self.lanes.lane_mut(id) else { return };
        if interval_ms == 0 {
            self.rounds.waiting.push_back(id);
            return;
        }
        let interval = u64::from(interval_ms) * 1_000_000;
        // The fraction of the interval, so that the spread does not depend on how the interval divides 2^64.
        let phase = ((u128::from(lane.phase()) * u128::from(interval)) >> 64) as u64;
        let now = now.monotonic.as_nanos() as u64;
        let since_point = (now + interval - phase) % interval;
        let due = Duration::from_nanos(now - since_point.min(now) + interval);
        lane.due = Some(due);
        self.timers.push(Reverse((due, id)));
    }

    /// Sends a control message to one session.
    fn say(&mut self, now: Now, key: SessionKey, message: &ServerMessage<'_>, class: Class, io: &mut impl Io) {
        let Some(session) = self.sessions.by_key(key) else { return };
        if session.state != session::State::Open {
            return;
        }
        let fields = EventFields { retry_ms: stream::retry_ms(message), ..EventFields::default() };
        self.frames.message(session.form(), message, fields);
        self.send_frame(now, key.index, &[], class, io);
    }

    /// Deals with what writes have brought about, until there is nothing left to deal with.
    fn settle(&mut self, now: Now, io: &mut impl Io) {
        while let Some((key, aftermath)) = self.sessions.next_aftermath() {
            match aftermath {
                Aftermath::Lost => self.forget(key, crate::Disconnect::Lost, io),
                Aftermath::Overflow => self.overflow(now, key, io),
                Aftermath::Glut => self.begin_close(now, key, crate::Disconnect::SlowConsumer, io),
            }
        }
    }

    /// The next of a fixed sequence of numbers (splitmix64).
    fn random(&mut self) -> u64 {
        self.rng = self.rng.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.rng;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
}

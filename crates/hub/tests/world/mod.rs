//! The simulated world: ticks, queues, sockets, and clients that check what they receive.

mod book;
mod client;
mod decode;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use client::{Client, Socket};
use hub::{
    Access, Compression, DeflateConfig, Disconnect, FeedOutcome, Io, Now, Request, Sequencer, SequencerConfig,
    SessionKey, Shard, ShardConfig, StreamKey, Upstream, Written,
};
use market::{
    AssetClass, Book, BookDepth, BookSide, BookUpdate, Channel, Event, Instrument, InstrumentId, Level, Price, Quote,
    Side, Size, Symbol, Tick, Timestamp, Trade,
};
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use websocket::deflate::Compressor;
use wire::{Dialect, Limits};

const INSTRUMENTS: u32 = 12;
const SHARDS: usize = 2;
pub(crate) const OUTBOX_MAX: u32 = 6_000;

/// Every value that was ever sequenced, by stream and number.
pub(crate) type Log = BTreeMap<StreamKey, Vec<(Timestamp, Event)>>;

/// What is true at the end.
#[derive(Default)]
pub(crate) struct Truth {
    /// The last number of each stream
    pub(crate) newest: BTreeMap<StreamKey, u64>,
    /// The books, and whether the feed has to send a snapshot next
    pub(crate) books: BTreeMap<InstrumentId, (Book, NextUpdate)>,
}

/// What a feed may say next of a book.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextUpdate {
    Any,
    /// It has contradicted itself: nothing before a snapshot means anything.
    Snapshot,
}

pub(crate) struct World {
    seed: u64,
    /// For each shard.
    clients_max: usize,
    rng: ChaCha8Rng,
    time: Duration,
    sequencer: Sequencer,
    log: Log,
    truth: Truth,
    next_trade_id: u64,
    lanes: Vec<ShardSide>,
    requests: VecDeque<(usize, Request)>,
    digest: u64,
}

struct ShardSide {
    shard: Shard,
    queue: VecDeque<Upstream>,
    /// What waits for the shard before batches are left out.
    queue_max: usize,
    lagging: bool,
    io: Sockets,
}

/// The sockets of a shard and what it asked for.
#[derive(Default)]
struct Sockets {
    clients: BTreeMap<u32, (u32, Client)>,
    requests: Vec<Request>,
    gone: Vec<(SessionKey, Disconnect)>,
}

impl Io for Sockets {
    fn write(&mut self, session: SessionKey, bytes: &[u8]) -> Written {
        match self.clients.get_mut(&session.index) {
            Some((generation, client)) if *generation == session.generation => client.socket.write(bytes),
            _ => panic!("write to a session that is not there: {session:?}"),
        }
    }

    fn request(&mut self, request: Request) {
        self.requests.push(request);
    }

    fn disconnect(&mut self, session: SessionKey, reason: Disconnect) {
        self.gone.push((session, reason));
    }
}

fn instrument(id: u32) -> Instrument {
    Instrument {
        id: InstrumentId(id),
        symbol: Symbol::new(&format!("S{id}")).unwrap(),
        price_exponent: -2,
        size_exponent: -3,
        tick_size: Price(1),
        lot_size: Size(1),
        class: AssetClass::Crypto,
        currency: "USD".into(),
        description: String::new(),
    }
}

impl World {
    pub(crate) fn new(seed: u64, clients_max: usize) -> Self {
        let mut sequencer = Sequencer::new(SequencerConfig {
            epoch: "sim".into(),
            replay_bytes_max: 64 << 10,
            ..SequencerConfig::default()
        });
        // The last instruments appear in the course of the run.
        let known: Vec<_> = (0..INSTRUMENTS - 3).map(instrument).collect();
        let catalog = sequencer.add_instruments(&known);
        let config = |index| ShardConfig {
            index,
            seed,
            epoch: "sim".into(),
            heartbeat_ms: 200,
            frame_bytes_max: 1_500,
            limits: Limits {
                outbox_bytes_max: OUTBOX_MAX,
                commands_per_s: 0,
                ping_interval_ms: 400,
                pings_unanswered_max: 3,
                ..Limits::default()
            },
            close_timeout: Duration::from_millis(300),
            write_stall_timeout: Duration::from_secs(2),
            flush_interval: Duration::from_millis(seed % 3 * 4),
            deflate: DeflateConfig {
                threshold_bytes: 64,
                // Far fewer than there are lanes, so that they are fought over.
                memory_bytes_max: 5 * Compressor::BYTES,
                epoch_interval: Duration::from_millis(40),
                idle_max: Duration::from_millis(60),
                ..DeflateConfig::default()
            },
            ..ShardConfig::default()
        };
        let side = |index| ShardSide {
            shard: Shard::new(config(index)),
            queue: VecDeque::from([catalog.clone()]),
            queue_max: clients_max / 10,
            lagging: false,
            io: Sockets::default(),
        };
        Self {
            seed,
            clients_max,
            rng: ChaCha8Rng::seed_from_u64(seed),
            time: Duration::from_secs(1),
            sequencer,
            log: Log::new(),
            truth: Truth::default(),
            next_trade_id: 1,
            lanes: (0..SHARDS).map(side).collect(),
            requests: VecDeque::new(),
            digest: 0,
        }
    }

    fn now(&self) -> Now {
        Now { monotonic: self.time, wall: Timestamp(1_700_000_000_000_000_000) + self.time }
    }

    pub(crate) fn step(&mut self) {
        self.time += Duration::from_millis(self.rng.random_range(1..=10));
        if self.rng.random_ratio(1, 60) {
            self.list_instruments();
        }
        if self.rng.random_ratio(2, 3) {
            self.tick();
        }
        for index in 0..SHARDS {
            self.arrivals(index);
            self.commands(index);
            self.turn(index);
        }
        self.serve();
        self.check();
    }

    /// Another instrument appears.
    fn list_instruments(&mut self) {
        let known = self.sequencer.catalog().len() as u32;
        if known < INSTRUMENTS {
            let all: Vec<_> = (0..=known).map(instrument).collect();
            let catalog = self.sequencer.add_instruments(&all);
            self.broadcast(&catalog);
        }
    }

    /// A burst of ticks of some instruments.
    fn tick(&mut self) {
        let count = if self.rng.random_ratio(1, 12) { 200 } else { self.rng.random_range(1..20) };
        let known = self.sequencer.catalog().len() as u32;
        let ticks: Vec<Tick> = (0..count).map(|_| self.random_tick(known)).collect();
        let of_a_log = |tick: &&Tick| matches!(tick.channel(), Channel::Trades | Channel::Quotes);
        for tick in ticks.iter().filter(of_a_log) {
            let key = StreamKey::new(tick.instrument, tick.channel());
            self.log.entry(key).or_default().push((tick.time, tick.event.clone()));
        }
        if let Some(batch) = self.sequencer.ingest(&ticks) {
            self.broadcast(&batch);
        }
    }

    fn random_tick(&mut self, known: u32) -> Tick {
        // Low numbers are much busier.
        let instrument = InstrumentId(self.rng.random_range(0..known).min(self.rng.random_range(0..known)));
        let time = Timestamp(self.now().wall.0 + u64::from(self.rng.next_u32() % 1000));
        let price = Price(self.rng.random_range(9_000..11_000));
        let size = Size(self.rng.random_range(1..100_000));
        let event = if instrument.0.is_multiple_of(3) && self.rng.random_bool(0.4) {
            self.random_book(instrument)
        } else if self.rng.random_bool(0.5) {
            self.next_trade_id += 1;
            Event::Trade(Trade { price, size, side: Side::Sell, trade_id: self.next_trade_id })
        } else {
            let ask = self.rng.random_bool(0.9).then_some(Level { price: Price(price.0 + 1), size });
            Event::Quote(Quote { bid: Some(Level { price, size }), ask })
        };
        Tick { instrument, time, event }
    }

    /// A change of a book, or now and then all of it, or nonsense.
    fn random_book(&mut self, instrument: InstrumentId) -> Event {
        let rng = &mut self.rng;
        let (book, next) = self.truth.books.entry(instrument).or_insert((Book::default(), NextUpdate::Snapshot));
        if *next == NextUpdate::Any && rng.random_ratio(1, 150) {
            *next = NextUpdate::Snapshot;
            book.clear();
            let level = Level { price: Price(1), size: Size(1) };
            return Event::BookSnapshot(BookUpdate::new(BookDepth::Full, &[level, level], &[], 1));
        }
        let whole = *next == NextUpdate::Snapshot || rng.random_ratio(1, 100);
        if whole {
            book.clear();
            *next = NextUpdate::Any;
        }
        let mut sides = [Vec::new(), Vec::new()];
        let count = if whole { rng.random_range(0..120) } else { *[1, 1, 1, 2, 5].choose(rng).unwrap() };
        for _ in 0..count {
            let side = *BookSide::ALL.choose(rng).unwrap();
            let price =
                Price(if side == BookSide::Bid { rng.random_range(-20..60) } else { rng.random_range(61..140) });
            let levels: &mut Vec<Level> = &mut sides[side as usize];
            if levels.iter().any(|level| level.price == price) {
                continue;
            }
            let there = book.levels(side).any(|level| level.price == price);
            let size = Size(if there && rng.random_bool(0.6) { 0 } else { rng.random_range(1..5_000) });
            book.set(side, price, size);
            levels.push(Level { price, size });
        }
        let [bids, asks] = &mut sides;
        bids.sort_by_key(|level| std::cmp::Reverse(level.price));
        asks.sort_by_key(|level| level.price);
        let update = BookUpdate::new(BookDepth::Full, bids, asks, book.checksum());
        if whole { Event::BookSnapshot(update) } else { Event::BookDelta(update) }
    }

    fn broadcast(&mut self, message: &Upstream) {
        for side in &mut self.lanes {
            side.push(message.clone());
        }
    }

    fn serve(&mut self) {
        for _ in 0..self.rng.random_range(0..self.clients_max / 4) {
            let Some((index, request)) = self.requests.pop_front() else { return };
            let reply = self.sequencer.serve(&request);
            self.lanes[index].push(reply);
        }
    }

    fn arrivals(&mut self, index: usize) {
        let now = self.now();
        let side = &mut self.lanes[index];
        // They are all there after the first half of a run or so.
        let arrivals = self.rng.random_range(0..=self.clients_max / 60);
        for _ in 0..arrivals.min(self.clients_max - side.io.clients.len()) {
            let dialect = if self.rng.random_bool(0.7) { Dialect::NativeMessagePack } else { Dialect::NativeJson };
            let window_bits = *[9, 11, 15].choose(&mut self.rng).unwrap();
            let shared = Compression::Shared { window_bits: 15 };
            let other = [Compression::Off, Compression::Stateless { window_bits }, Compression::Shared { window_bits }];
            let compression = if self.rng.random_bool(0.5) { shared } else { *other.choose(&mut self.rng).unwrap() };
            let key = side.shard.next_key();
            let socket = Socket::random(&mut self.rng);
            side.io.clients.insert(key.index, (key.generation, Client::new(key, dialect, compression, socket)));
            assert_eq!(side.shard.open(now, dialect, compression, Access::Open, &mut side.io), key);
        }
        // Some vanish without a word, some close.
        let keys: Vec<SessionKey> = side.io.clients.values().map(|(_, client)| client.key).collect();
        for key in keys {
            match self.rng.random_range(0..1500) {
                0 => side.shard.lost(now, key, &mut side.io),
                1 => side.shard.close_received(now, key, Some(1000), &mut side.io),
                2 => side.shard.ping_received(now, key, b"hello", &mut side.io),
                _ => {}
            }
        }
        side.bury();
    }

    fn commands(&mut self, index: usize) {
        let now = self.now();
        let side = &mut self.lanes[index];
        let keys: Vec<SessionKey> = side.io.clients.values().map(|(_, client)| client.key).collect();
        for key in keys {
            let Some((_, client)) = side.io.clients.get_mut(&key.index) else { continue };
            let rate = if client.commands_sent < 2 { 4 } else { 60 };
            if self.rng.random_ratio(1, rate) {
                let command = client.random_command(&mut self.rng, INSTRUMENTS);
                side.shard.message(now, key, wire::Encoding::Json, command.as_bytes(), &mut side.io);
            }
            if self.rng.random_ratio(1, 900) {
                side.shard.message(now, key, wire::Encoding::MessagePack, b"\xc1garbage", &mut side.io);
            }
        }
        side.bury();
    }

    /// One turn of a shard: some of its queue, a flush, sockets, timers; then clients read.
    fn turn(&mut self, index: usize) {
        let now = self.now();
        let side = &mut self.lanes[index];
        let most = if self.rng.random_ratio(1, 10) { 0 } else { self.clients_max / 6 };
        for _ in 0..most {
            let Some(message) = side.pop() else { break };
            side.shard.upstream(now, message, &mut side.io);
        }
        side.shard.flush(now, &mut side.io);
        let took = Duration::from_micros(self.rng.random_range(0..5_000));
        side.shard.flushed(Now { monotonic: now.monotonic + took, ..now });
        if side.shard.deadline().is_some_and(|due| due <= now.monotonic) {
            side.shard.advance(now, &mut side.io);
        }
        side.bury();
        let keys: Vec<SessionKey> = side.io.clients.values().map(|(_, client)| client.key).collect();
        for key in keys {
            let Some((_, client)) = side.io.clients.get_mut(&key.index) else { continue };
            let writable = client.read(&mut self.rng, &self.log, self.seed, &mut self.digest);
            for _ in 0..std::mem::take(&mut client.pings) {
                if !client.silent {
                    side.shard.pong_received(now, key);
                }
            }
            let close = std::mem::take(&mut client.answer_close);
            if writable {
                side.shard.writable(now, key, &mut side.io);
            }
            if close {
                side.shard.close_received(now, key, Some(1000), &mut side.io);
            }
        }
        side.bury();
        self.requests.extend(side.io.requests.drain(..).map(|request| (index, request)));
    }

    fn check(&mut self) {
        for side in &mut self.lanes {
            let open = side.io.clients.len();
            assert_eq!(side.shard.session_count(), open, "seed {}", self.seed);
            // Per session: its bound, one frame beyond it, and snapshots and answers, of which a client that does not
            // read has asked for a bounded number here.
            let bound = open as u64 * (u64::from(OUTBOX_MAX) + 200_000);
            let stats = side.shard.stats();
            assert!(stats.outbox_bytes <= bound, "seed {}: outboxes hold {}", self.seed, stats.outbox_bytes);
        }
    }

    /// Ticks cease, all sockets read freely: everybody must come to the newest values.
    pub(crate) fn settle(&mut self) {
        let ended = self.sequencer.ended(FeedOutcome::Ended);
        self.broadcast(&ended);
        for side in &mut self.lanes {
            for (_, client) in side.io.clients.values_mut() {
                client.socket.open_wide();
                client.silent = false;
            }
        }
        for _ in 0..600 {
            self.time += Duration::from_millis(7);
            for index in 0..SHARDS {
                self.turn(index);
            }
            self.serve();
        }
        let catalog = self.sequencer.catalog();
        for instrument in catalog.iter() {
            for channel in Channel::ALL {
                let key = StreamKey::new(instrument.id, channel);
                self.truth.newest.extend(self.sequencer.recent(key, 1).first().map(|newest| (key, newest.seq)));
            }
        }
        let mut books = 0;
        for side in &mut self.lanes {
            assert!(side.queue.is_empty() && self.requests.is_empty(), "seed {}", self.seed);
            for (_, client) in side.io.clients.values() {
                books += client.check_complete(&self.truth, &catalog, self.seed);
            }
        }
        assert!(books > 50, "seed {}: hardly any client has kept a book: {books}", self.seed);
    }

    pub(crate) fn close_all(&mut self) {
        let now = self.now();
        for side in &mut self.lanes {
            side.shard.drain(now, Duration::from_millis(100), &mut side.io);
        }
        for _ in 0..150 {
            self.time += Duration::from_millis(10);
            for index in 0..SHARDS {
                self.turn(index);
            }
        }
        for side in &mut self.lanes {
            let stats = side.shard.stats();
            let left = (stats.sessions, stats.lanes, stats.outbox_bytes, stats.compressors);
            assert_eq!(left, (0, 0, 0, 0), "seed {}: sessions, lanes, outbox bytes, compressors are left", self.seed);
            assert!(stats.deflated_messages > 100 && stats.deflate_epochs > 2, "seed {}: {stats:?}", self.seed);
            assert!(side.io.clients.is_empty());
        }
    }

    /// A number that stands for all bytes that all clients have received.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }
}

impl ShardSide {
    /// Queues a message; leaves batches out when the queue is full, and says so before whatever comes next.
    fn push(&mut self, message: Upstream) {
        if matches!(message, Upstream::Batch(_)) && self.queue.len() >= self.queue_max {
            self.lagging = true;
            return;
        }
        if std::mem::take(&mut self.lagging) {
            self.queue.push_back(Upstream::Lagged);
        }
        self.queue.push_back(message);
    }

    fn pop(&mut self) -> Option<Upstream> {
        self.queue.pop_front().or_else(|| std::mem::take(&mut self.lagging).then_some(Upstream::Lagged))
    }

    /// Takes away the sockets of sessions that the hub has forgotten.
    fn bury(&mut self) {
        for (key, _reason) in std::mem::take(&mut self.io.gone) {
            let gone = self.io.clients.remove(&key.index);
            assert!(gone.is_some_and(|(generation, _)| generation == key.generation), "disconnected twice: {key:?}");
        }
    }
}

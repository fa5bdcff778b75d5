//! Whoever joins at any moment has the book that those have who were there from the start.
//!
//! **Invariant** that is checked at thousands of joins, in every depth, both modes and both encodings: a client that applies
//! the snapshot and what follows comes to each checksum, and where it stands at the same number as the client that was
//! there from the start, it has the same levels; and those are the levels of the feed. A client that was cut off goes on
//! with the book that it had and `since`, and is told whether what it missed follows or a gap and a snapshot.
//!
//! The market is simulated, or that of a recording; `HUB_JOINS_SEED=7` takes other moments. What is *not* here: sockets that
//! do not take everything, see `simulation`.

#[path = "world/book.rs"]
mod book;
#[path = "world/decode.rs"]
mod decode;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use book::ClientBook;
use decode::{Element, Message};
use feed::{Feed, Progress, ReplayOptions, Speed};
use hub::{
    Access, Compression, Disconnect, Io, Now, Request, Sequencer, SequencerConfig, SessionKey, Shard, ShardConfig,
    StreamKey, Upstream, Written,
};
use market::{
    AssetClass, Book, BookDepth, BookSide, BookUpdate, Channel, Event, Instrument, InstrumentId, Level, Price, Size,
    Symbol, Tick, Timestamp,
};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use simulator::{Config, Scenario, Simulator};
use wire::{Dialect, Encoding, Limits};

const DEPTHS: [BookDepth; 3] = [BookDepth::Top10, BookDepth::Top50, BookDepth::Full];
/// What the ring holds is a few hundred deltas, so that some who come back find what they missed and some do not.
const REPLAY_BYTES_MAX: usize = 200 << 10;

/// Sockets that take everything.
#[derive(Default)]
struct Sockets {
    received: BTreeMap<u32, Vec<u8>>,
    requests: Vec<Request>,
}

impl Io for Sockets {
    fn write(&mut self, session: SessionKey, bytes: &[u8]) -> Written {
        self.received.entry(session.index).or_default().extend_from_slice(bytes);
        Written::Bytes(bytes.len())
    }

    fn request(&mut self, request: Request) {
        self.requests.push(request);
    }

    fn disconnect(&mut self, _session: SessionKey, _reason: Disconnect) {}
}

/// A client of one stream, or of all of them for the one who is there from the start.
struct Client {
    session: SessionKey,
    dialect: Dialect,
    mode: &'static str,
    books: BTreeMap<StreamKey, ClientBook>,
    /// What was last seen of a stream when it was cut off, and what `subscribed` said of it since
    resumed: Option<(u64, Option<String>)>,
    /// Of a gap, up to where
    gap: Option<u64>,
    steps_left: u32,
    compared: u32,
}

/// What a client does that is cut off.
struct Cut {
    key: StreamKey,
    book: ClientBook,
    steps_left: u32,
}

/// How often what happened.
#[derive(Debug, Default)]
struct Counts {
    joins: u32,
    comparisons: u32,
    recovered: u32,
    gaps: u32,
    withdrawn: u32,
}

struct Room {
    rng: ChaCha8Rng,
    time: Duration,
    sequencer: Sequencer,
    shard: Shard,
    io: Sockets,
    upstream: Vec<Upstream>,
    first: Client,
    clients: Vec<Client>,
    cut: Vec<Cut>,
    /// The feed's books
    truth: Vec<Book>,
    counts: Counts,
}

/// Everything is called `S` and its number here, with the same exponents, so that both encodings can be read alike.
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

impl Room {
    fn new(seed: u64, instruments: u32) -> Self {
        let mut sequencer = Sequencer::new(SequencerConfig {
            epoch: "joins".into(),
            replay_bytes_max: REPLAY_BYTES_MAX,
            ..SequencerConfig::default()
        });
        let all: Vec<_> = (0..instruments).map(instrument).collect();
        let catalog = sequencer.add_instruments(&all);
        let limits = Limits { commands_per_s: 0, ping_interval_ms: 0, outbox_bytes_max: 0, ..Limits::default() };
        let shard = Shard::new(ShardConfig {
            epoch: "joins".into(),
            heartbeat_ms: 0,
            flush_duty_percent: 100,
            limits,
            ..ShardConfig::default()
        });
        let nobody = SessionKey { index: 0, generation: 0 };
        let mut room = Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            time: Duration::from_secs(1),
            sequencer,
            shard,
            io: Sockets::default(),
            upstream: vec![catalog],
            first: Client::new(nobody, Dialect::NativeMessagePack, "every"),
            clients: Vec::new(),
            cut: Vec::new(),
            truth: vec![Book::new(); instruments as usize],
            counts: Counts::default(),
        };
        room.turn();
        let channels = DEPTHS.map(|depth| Channel::Book(depth).name());
        room.first.session = room.open(
            Dialect::NativeMessagePack,
            &json!({"op": "subscribe", "channels": channels, "symbols": ["*"], "mode": "every"}),
        );
        room.first.steps_left = u32::MAX;
        room.serve();
        room.turn();
        room
    }

    fn now(&self) -> Now {
        Now { monotonic: self.time, wall: Timestamp(1_700_000_000_000_000_000) + self.time }
    }

    fn open(&mut self, dialect: Dialect, subscribe: &Value) -> SessionKey {
        let now = self.now();
        let session = self.shard.open(now, dialect, Compression::Off, Access::Open, &mut self.io);
        let command = subscribe.to_string();
        self.shard.message(now, session, Encoding::Json, command.as_bytes(), &mut self.io);
        session
    }

    /// Somebody comes, for the first time or again.
    fn join(&mut self, key: StreamKey, before: Option<ClientBook>) {
        let dialect = *[Dialect::NativeMessagePack, Dialect::NativeMessagePack, Dialect::NativeJson]
            .choose(&mut self.rng)
            .unwrap();
        let mode = if self.rng.random_bool(0.5) { "every" } else { "latest" };
        let symbol = format!("S{}", key.instrument().0);
        let mut command = json!({
            "op": "subscribe", "id": 1, "channels": [key.channel().name()], "symbols": [symbol], "mode": mode,
        });
        if mode == "latest" {
            command["interval_ms"] = (*[0, 5, 40].choose(&mut self.rng).unwrap()).into();
        }
        if let Some(book) = &before {
            let mut seqs = serde_json::Map::new();
            seqs.insert(symbol, json!({key.channel().name(): book.reached()}));
            command["since"] = json!({"epoch": "joins", "seqs": seqs});
        }
        let mut client = Client::new(self.open(dialect, &command), dialect, mode);
        client.resumed = before.as_ref().map(|book| (book.reached(), None));
        client.books.insert(key, before.unwrap_or_default());
        client.steps_left = self.rng.random_range(2..10);
        self.clients.push(client);
        self.counts.joins += 1;
    }

    /// Ticks come, and sessions before, between and after them.
    fn step(&mut self, ticks: &[Tick]) {
        self.time += Duration::from_millis(self.rng.random_range(0..20));
        let some = self.rng.random_range(0..=ticks.len());
        let (before, after) = ticks.split_at(some);
        self.arrivals();
        self.ingest(before);
        // Either the requests are served between the two parts, or they wait.
        if self.rng.random_bool(0.5) {
            self.serve();
        }
        self.ingest(after);
        self.serve();
        self.turn();
        self.compare();
        self.departures();
    }

    fn arrivals(&mut self) {
        for at in (0..self.cut.len()).rev() {
            self.cut[at].steps_left = self.cut[at].steps_left.saturating_sub(1);
            if self.cut[at].steps_left == 0 {
                let Cut { key, book, .. } = self.cut.swap_remove(at);
                self.join(key, Some(book));
            }
        }
        if self.rng.random_bool(0.6) {
            let instrument = InstrumentId(self.rng.random_range(0..self.truth.len() as u32));
            let depth = *DEPTHS.choose(&mut self.rng).unwrap();
            self.join(StreamKey::new(instrument, Channel::Book(depth)), None);
        }
    }

    fn ingest(&mut self, ticks: &[Tick]) {
        for tick in ticks {
            self.truth[tick.instrument.index()].apply(&tick.event);
        }
        self.upstream.extend(self.sequencer.ingest(ticks));
        if self.rng.random_ratio(1, 200)
            && let Some(tick) = ticks.iter().find(|tick| matches!(tick.event, Event::BookDelta(_)))
        {
            self.contradict(tick);
        }
    }

    /// The feed says something impossible, and soon all of the book again.
    fn contradict(&mut self, Tick { instrument, time, .. }: &Tick) {
        let level = Level { price: Price(1), size: Size(1) };
        let event = Event::BookSnapshot(BookUpdate::new(BookDepth::Full, &[level, level], &[], 1));
        let refused = self.sequencer.stats().books_refused;
        self.upstream.extend(self.sequencer.ingest(&[Tick { instrument: *instrument, time: *time, event }]));
        assert_eq!(self.sequencer.stats().books_refused, refused + 1);
        self.turn();
        for depth in DEPTHS {
            let key = StreamKey::new(*instrument, Channel::Book(depth));
            self.first.books[&key].check(&Book::new(), depth, "a book that nothing is known of");
        }
        let truth = &self.truth[instrument.index()];
        let [bids, asks] = BookSide::ALL.map(|side| truth.levels(side).collect::<Vec<_>>());
        let event = Event::BookSnapshot(BookUpdate::new(BookDepth::Full, &bids, &asks, truth.checksum()));
        self.upstream.extend(self.sequencer.ingest(&[Tick { instrument: *instrument, time: *time, event }]));
        self.counts.withdrawn += 1;
    }

    fn serve(&mut self) {
        for request in std::mem::take(&mut self.io.requests) {
            self.upstream.push(self.sequencer.serve(&request));
        }
    }

    /// The shard takes in what has come, and everybody reads.
    fn turn(&mut self) {
        let now = self.now();
        for message in std::mem::take(&mut self.upstream) {
            self.shard.upstream(now, message, &mut self.io);
        }
        self.shard.flush(now, &mut self.io);
        self.shard.flushed(now);
        if self.shard.deadline().is_some_and(|due| due <= now.monotonic) {
            self.shard.advance(now, &mut self.io);
        }
        for client in self.clients.iter_mut().chain([&mut self.first]) {
            if let Some(bytes) = self.io.received.get_mut(&client.session.index) {
                while let Some(frame) = decode::take_frame(bytes) {
                    assert!(matches!(frame.opcode, 1 | 2) && !frame.deflated, "neither text nor binary");
                    client.read(&frame.payload);
                }
            }
        }
    }

    /// Who stands at the number of the first client has its book; and that is the feed's.
    fn compare(&mut self) {
        // Checksums are compared at each element; all levels right after the join, at the end and now and then between.
        for client in &mut self.clients {
            if client.compared > 0 && client.steps_left > 1 && self.rng.random_ratio(3, 4) {
                continue;
            }
            for (key, book) in &client.books {
                let first = self.first.books.get(key).filter(|first| first.reached() == book.reached());
                if let Some(first) = first {
                    assert_eq!(book, first, "{key:?} of {:?}, mode {}", client.session, client.mode);
                    client.compared += 1;
                    self.counts.comparisons += 1;
                }
            }
        }
        let instrument = InstrumentId(self.rng.random_range(0..self.truth.len() as u32));
        let depth = *DEPTHS.choose(&mut self.rng).unwrap();
        let key = StreamKey::new(instrument, Channel::Book(depth));
        if let Some(book) = self.first.books.get(&key) {
            book.check(&self.truth[instrument.index()], depth, &format!("{key:?} of the first"));
        }
    }

    /// Some leave, some are cut off and come back.
    fn departures(&mut self) {
        let now = self.now();
        for at in (0..self.clients.len()).rev() {
            let client = &mut self.clients[at];
            client.steps_left = client.steps_left.saturating_sub(1);
            if client.steps_left > 0 {
                continue;
            }
            let client = self.clients.swap_remove(at);
            self.shard.lost(now, client.session, &mut self.io);
            self.io.received.remove(&client.session.index);
            self.check_resume(&client);
            let is_known = client.books.values().any(ClientBook::is_known);
            let was_up_to_date = client.mode == "latest" || client.compared > 0 || !is_known;
            assert!(was_up_to_date, "{:?} was never up to date", client.session);
            if let Some((key, book)) = client.books.into_iter().next().filter(|(_, book)| book.is_known())
                && self.rng.random_bool(0.5)
            {
                let steps_left = if self.rng.random_bool(0.8) { 1 } else { self.rng.random_range(2..200) };
                self.cut.push(Cut { key, book, steps_left });
            }
        }
    }

    fn check_resume(&mut self, client: &Client) {
        let Some((seen, outcome)) = &client.resumed else { return };
        match outcome.as_deref() {
            Some("recovered") => {
                assert_eq!(client.gap, None);
                self.counts.recovered += 1;
            }
            Some("gap") => {
                assert!(client.gap.is_some_and(|to| to > *seen), "{:?} after {seen}", client.gap);
                self.counts.gaps += 1;
            }
            other => panic!("{:?} was told {other:?}", client.session),
        }
    }

    /// Ticks cease; everybody comes to the end, whatever the mode.
    fn settle(mut self) -> Counts {
        self.serve();
        for _ in 0..5 {
            self.time += Duration::from_millis(50);
            self.turn();
        }
        let clients = self.clients.len();
        for client in &mut self.clients {
            client.compared = 0;
        }
        self.compare();
        let is_right = |client: &&Client| client.compared > 0 || !client.books.values().any(ClientBook::is_known);
        assert_eq!(self.clients.iter().filter(is_right).count(), clients);
        self.counts
    }
}

impl Client {
    fn new(session: SessionKey, dialect: Dialect, mode: &'static str) -> Self {
        let (books, resumed) = (BTreeMap::new(), None);
        Self { session, dialect, mode, books, resumed, gap: None, steps_left: 0, compared: 0 }
    }

    fn read(&mut self, payload: &[u8]) {
        let message = match self.dialect {
            Dialect::NativeMessagePack => decode::message_pack(payload),
            Dialect::NativeJson => decode::json(payload),
        };
        match message {
            Message::Control(value) if value["type"] == "subscribed" => self.subscribed(&value),
            Message::Control(value) => assert_ne!(value["type"], "error", "{value}"),
            Message::Data { snapshot, elements } => {
                for element in elements {
                    self.take(element, snapshot);
                }
            }
        }
    }

    fn subscribed(&mut self, answer: &Value) {
        if let (Some((_, outcome)), Some(&key)) = (&mut self.resumed, self.books.keys().next()) {
            let symbol = format!("S{}", key.instrument().0);
            *outcome = answer["recovered"][&symbol][key.channel().name()].as_str().map(str::to_owned);
        }
    }

    fn take(&mut self, element: Element, snapshot: bool) {
        match element {
            Element::Book { key, seq, whole, sides, checksum } => {
                let book = self.books.entry(key).or_default();
                let context = format!("{:?}, {key:?} {seq}, mode {}", self.session, self.mode);
                let before = book.reached();
                let gap = self.gap.filter(|to| *to >= before);
                let recovered = matches!(&self.resumed, Some((_, Some(outcome))) if outcome == "recovered");
                if snapshot {
                    assert!(before == 0 || gap == Some(seq), "{context}: state after {before} and {gap:?}");
                } else if self.mode == "every" {
                    assert!(seq == before + 1 || before == 0, "{context}: after {before}");
                } else {
                    assert!(seq > before || recovered, "{context}: after {before}");
                }
                book.apply(seq, whole, &sides, checksum, &context);
            }
            Element::Gap { from, to, .. } => {
                assert!(self.resumed.as_ref().is_some_and(|(seen, _)| from == seen + 1), "a gap {from} to {to}");
                self.gap = Some(to);
            }
            Element::Value { key, .. } => panic!("{key:?} was not asked for"),
        }
    }
}

fn seed() -> u64 {
    std::env::var("HUB_JOINS_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Feeds all in pieces of random size.
fn run(seed: u64, instruments: u32, ticks: &[Tick], at_once_max: usize) -> Counts {
    let mut room = Room::new(seed, instruments);
    let mut rest = ticks;
    while !rest.is_empty() {
        let count = room.rng.random_range(1..=at_once_max).min(rest.len());
        let (now, later) = rest.split_at(count);
        room.step(now);
        rest = later;
    }
    room.settle()
}

#[test]
fn books_of_simulated_markets() {
    for (scenario, seed) in Scenario::ALL.into_iter().zip(seed()..) {
        if matches!(scenario, Scenario::Market | Scenario::Uniform) {
            continue;
        }
        let mut simulator = Simulator::new(Config { seed, symbols: 3, rate: 300.0, scenario }).unwrap();
        let mut ticks = Vec::new();
        simulator.advance(Duration::MAX, 6_000, &mut ticks);
        let counts = run(seed, 3, &ticks, 12);
        assert!(counts.joins > 500 && counts.comparisons > 1_500, "{scenario}, seed {seed}: {counts:?}");
        println!("{scenario}: {counts:?}");
        let happened = counts.recovered.min(counts.gaps).min(counts.withdrawn);
        assert!(happened > 0, "{scenario}, seed {seed}: {counts:?}");
    }
}

#[test]
fn the_book_of_a_recording() {
    let Some(folder) = std::env::var_os("TICKER_RECORDINGS").map(PathBuf::from) else {
        println!("not run: TICKER_RECORDINGS is not set");
        return;
    };
    let options = ReplayOptions { speed: Speed::Max, ..ReplayOptions::default() };
    let mut feed = feed::open_recordings(&[folder.join("esh4_mbo_2023-12-25.dbn.zst")], options).unwrap();
    let mut ticks = Vec::new();
    while feed.poll(Timestamp(0), 4096, &mut ticks).unwrap() != Progress::Ended {}
    assert!(ticks.len() > 40_000);
    let counts = run(seed(), 1, &ticks, 32);
    println!("{counts:?}");
    assert!(counts.joins > 4_000 && counts.comparisons > 8_000, "{counts:?}");
    assert!(counts.recovered.min(counts.gaps) > 100, "{counts:?}");
}

//! A seeded simulation of event streams: clients that are cut at any byte, at any time, and go on from the last id they saw.
//!
//! **Invariant** that is checked at each event: a client in mode `every` has seen each number of a stream in order, over all
//! of its connections, or a gap that names exactly the missing ones; nothing comes twice, unless the connection was cut
//! within a state or what makes up for a loss, before the id that follows it; in mode `latest` numbers never go back; every element is the one
//! that was sequenced. At the end everybody has the newest value of all.
//!
//! `HUB_SIMULATION_SEED=7 cargo test -p hub --test streams` runs one seed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use hub::{
    Access, Disconnect, Io, Now, Request, Sequencer, SequencerConfig, SessionKey, Shard, ShardConfig, StreamRequest,
    Targets, Upstream, Written,
};
use market::{
    AssetClass, Channel, Event, Instrument, InstrumentId, Level, Price, Quote, Side, Size, Symbol, Tick, Timestamp,
    Trade,
};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use wire::{Limits, Mode};

const INSTRUMENTS: u32 = 6;
const CLIENTS: usize = 24;

fn instrument(id: u32) -> Instrument {
    Instrument {
        id: InstrumentId(id),
        symbol: Symbol::new(&format!("S{id}")).unwrap(),
        price_exponent: 0,
        size_exponent: 0,
        tick_size: Price(1),
        lot_size: Size(1),
        class: AssetClass::Crypto,
        currency: "USD".into(),
        description: String::new(),
    }
}

/// A stream as a client names it.
type Name = (String, &'static str);

/// One who reads a stream again and again.
struct Reader {
    request: StreamRequest,
    /// None while it is not connected.
    connected: Option<SessionKey>,
    /// How many bytes it reads in a turn.
    pace: usize,
    blocked: bool,
    buffer: VecDeque<u8>,
    text: Vec<u8>,
    last_id: Option<String>,
    last: BTreeMap<Name, u64>,
    /// The number that the value after a gap has to have, or up to which the snapshot has to be true.
    declared: BTreeMap<Name, u64>,
    /// Whether there were elements since the last id: parts of a state or of what makes up for a loss.
    unsettled: bool,
    /// Up to which numbers streams may come again: the last connection ended amid such parts.
    repeatable: BTreeMap<Name, u64>,
    ended: bool,
    seen: Counts,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    elements: usize,
    recovered: usize,
    gaps: usize,
    snapshots: usize,
    repeats: usize,
}

#[derive(Default)]
struct Sockets {
    readers: Vec<Reader>,
    by_key: HashMap<SessionKey, usize>,
    requests: Vec<Request>,
    gone: Vec<(SessionKey, Disconnect)>,
}

impl Io for Sockets {
    fn write(&mut self, session: SessionKey, bytes: &[u8]) -> Written {
        let reader = &mut self.readers[self.by_key[&session]];
        let room = 3_000_usize.saturating_sub(reader.buffer.len()).min(bytes.len());
        reader.buffer.extend(&bytes[..room]);
        reader.blocked |= room < bytes.len();
        Written::Bytes(room)
    }

    fn request(&mut self, request: Request) {
        self.requests.push(request);
    }

    fn disconnect(&mut self, session: SessionKey, reason: Disconnect) {
        self.gone.push((session, reason));
    }
}

impl Reader {
    fn new(rng: &mut ChaCha8Rng) -> Self {
        let channels =
            if rng.random_bool(0.5) { vec![Channel::Trades] } else { vec![Channel::Trades, Channel::Quotes] };
        let all = rng.random_bool(0.4);
        let some = [0, 3, rng.random_range(0..INSTRUMENTS)].map(InstrumentId).to_vec();
        let mode = if rng.random_bool(0.75) { Mode::Every } else { Mode::Latest { interval_ms: 20 } };
        let targets = if all { Targets::All } else { Targets::Named(some) };
        Self {
            request: StreamRequest { channels: channels.into_iter().collect(), targets, mode, after: None },
            connected: None,
            pace: *[usize::MAX, usize::MAX, 4_000, 300].choose(rng).unwrap(),
            blocked: false,
            buffer: VecDeque::new(),
            text: Vec::new(),
            last_id: None,
            last: BTreeMap::new(),
            declared: BTreeMap::new(),
            unsettled: false,
            repeatable: BTreeMap::new(),
            ended: false,
            seen: Counts::default(),
        }
    }

    /// The connection is gone with everything that was under way.
    fn cut(&mut self) {
        self.connected = None;
        self.blocked = false;
        self.buffer.clear();
        self.text.clear();
        self.declared.clear();
        if std::mem::take(&mut self.unsettled) {
            self.repeatable = self.last.clone();
        }
        self.ended = false;
        if self.last_id.is_none() {
            // It begins anew, and knows nothing.
            self.last.clear();
        }
    }

    /// Reads some bytes and looks at every whole event. Whether there is room again.
    fn read(&mut self, log: &Log, context: &str) -> bool {
        let count = self.buffer.len().min(self.pace);
        self.text.extend(self.buffer.drain(..count));
        while let Some(end) = self.text.windows(2).position(|two| two == b"\n\n") {
            let event: Vec<u8> = self.text.drain(..end + 2).collect();
            self.event(std::str::from_utf8(&event).unwrap(), log, context);
        }
        count > 0 && std::mem::take(&mut self.blocked)
    }

    fn event(&mut self, text: &str, log: &Log, context: &str) {
        assert!(!self.ended, "{context}: an event after the last: {text}");
        let (mut id, mut data) = (None, None);
        for line in text.lines().filter(|line| !line.is_empty() && *line != ":") {
            match line.split_once(": ") {
                Some(("id", value)) => id = Some(value.to_owned()),
                Some(("data", value)) => data = Some(serde_json::from_str::<Value>(value).unwrap()),
                Some(("retry", value)) => assert!(value.parse::<u64>().is_ok(), "{context}: {line}"),
                _ => panic!("{context}: a line of no event: {line}"),
            }
        }
        let data = data.unwrap_or_else(|| panic!("{context}: no data: {text}"));
        if let Some(elements) = data["data"].as_array() {
            let snapshot = data["snapshot"] == true;
            self.unsettled |= id.is_none();
            for element in elements {
                self.element(element, snapshot, log, context);
            }
        } else {
            self.control(&data, context);
        }
        if let Some(id) = id {
            assert!(self.declared.is_empty(), "{context}: an id between a gap and its value");
            self.last_id = Some(id);
            self.unsettled = false;
        }
    }

    fn control(&mut self, message: &Value, context: &str) {
        match message["type"].as_str().unwrap() {
            "subscribed" => {
                for how in
                    message["recovered"].as_object().unwrap().values().flat_map(|by| by.as_object().unwrap().values())
                {
                    match how.as_str().unwrap() {
                        "recovered" => self.seen.recovered += 1,
                        "snapshot" => self.seen.snapshots += 1,
                        "gap" => self.seen.gaps += 1,
                        other => panic!("{context}: {other}"),
                    }
                }
            }
            "closed" => self.ended = true,
            "error" => panic!("{context}: {message}"),
            _ => {}
        }
    }

    fn element(&mut self, element: &Value, snapshot: bool, log: &Log, context: &str) {
        let symbol = element["symbol"].as_str().unwrap().to_owned();
        let number = |key: &str| element[key].as_u64().unwrap();
        if element["type"] == "gap" {
            let channel: Channel = element["channel"].as_str().unwrap().parse().unwrap();
            let name = (symbol, channel.name());
            // What was declared before may have been withdrawn with its value, and go on in this gap.
            let last = self.declared.get(&name).or(self.last.get(&name)).copied().unwrap_or(0);
            let repeats = number("from_seq") <= self.repeatable.get(&name).copied().unwrap_or(0);
            assert!(repeats || number("from_seq") == last + 1, "{context}: {name:?}: {element} after {last}");
            self.declared.insert(name, number("to_seq"));
            return;
        }
        let kind = element["type"].as_str().unwrap();
        let name = (symbol, if kind == "trade" { "trades" } else { "quotes" });
        let seq = number("seq");
        assert_eq!(
            element[if kind == "trade" { "price" } else { "bid" }],
            log[&name][seq as usize - 1],
            "{context}: {name:?}"
        );
        let last = self.last.get(&name).copied();
        let declared = self.declared.remove(&name);
        self.seen.elements += 1;
        let every = self.request.mode == Mode::Every;
        let right = match (last, declared) {
            (_, Some(to)) if snapshot => seq == to,
            (_, Some(to)) => seq == to + 1,
            (Some(last), None) if seq <= last && self.repeatable.get(&name).is_some_and(|to| seq <= *to) => {
                self.seen.repeats += 1;
                return;
            }
            // The state of a stream that was recovered by it may be the one that is known.
            (Some(last), None) if snapshot => seq >= last,
            (Some(last), None) if every => seq == last + 1,
            (Some(last), None) => seq > last,
            (None, None) => snapshot || !every || seq == 1,
        };
        assert!(right, "{context}: {name:?}: {seq} after {last:?}, declared {declared:?}, snapshot {snapshot}");
        self.last.insert(name, seq);
    }
}

/// The prices of every stream, in order.
type Log = BTreeMap<Name, Vec<String>>;

fn random_ticks(rng: &mut ChaCha8Rng, log: &mut Log, time: Timestamp) -> Vec<Tick> {
    let count = if rng.random_ratio(1, 15) { 150 } else { rng.random_range(1..12) };
    let mut tick = || {
        // The last one is hardly ever traded.
        let id = if rng.random_ratio(1, 400) { INSTRUMENTS - 1 } else { rng.random_range(0..INSTRUMENTS - 1) };
        let price = Price(rng.random_range(1_000..9_999));
        let (channel, event) = if rng.random_bool(0.5) {
            ("trades", Event::Trade(Trade { price, size: Size(1), side: Side::Buy, trade_id: 0 }))
        } else {
            ("quotes", Event::Quote(Quote { bid: Some(Level { price, size: Size(1) }), ask: None }))
        };
        log.entry((format!("S{id}"), channel)).or_default().push(price.0.to_string());
        Tick { instrument: InstrumentId(id), time, event }
    };
    (0..count).map(|_| tick()).collect()
}

fn run(seed: u64, steps: usize) -> Counts {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut sequencer = Sequencer::new(SequencerConfig {
        epoch: "e5".into(),
        replay_bytes_max: 96 << 10,
        ..SequencerConfig::default()
    });
    let catalog = sequencer.add_instruments(&(0..INSTRUMENTS).map(instrument).collect::<Vec<_>>());
    let limits = Limits { outbox_bytes_max: 6_000, ping_interval_ms: 70, ..Limits::default() };
    let mut shard = Shard::new(ShardConfig {
        epoch: "e5".into(),
        heartbeat_ms: 50,
        frame_bytes_max: 900,
        limits,
        close_timeout: Duration::from_millis(60),
        write_stall_timeout: Duration::from_millis(400),
        seed,
        ..ShardConfig::default()
    });
    let mut io = Sockets { readers: (0..CLIENTS).map(|_| Reader::new(&mut rng)).collect(), ..Sockets::default() };
    let mut queue = VecDeque::from([catalog]);
    let mut log = Log::new();
    let mut requests: VecDeque<Request> = VecDeque::new();
    let mut time = Duration::from_secs(1);
    let mut lagging = false;
    for step in 0..steps + 400 {
        let running = step < steps;
        time += Duration::from_millis(rng.random_range(1..8));
        let now = Now { monotonic: time, wall: Timestamp(1_700_000_000_000_000_000) + time };
        if running && rng.random_bool(0.7) {
            let ticks = random_ticks(&mut rng, &mut log, now.wall);
            if let Some(batch) = sequencer.ingest(&ticks) {
                // A queue that is full leaves batches out, and says where.
                if queue.len() > 12 {
                    if !std::mem::replace(&mut lagging, true) {
                        queue.push_back(Upstream::Lagged);
                    }
                } else {
                    lagging = false;
                    queue.push_back(batch);
                }
            }
        }
        for index in 0..CLIENTS {
            let reader = &mut io.readers[index];
            match reader.connected {
                None if !running || rng.random_ratio(1, 6) => {
                    reader.request.after = reader.last_id.as_ref().map(|id| id.parse().unwrap());
                    let request = reader.request.clone();
                    let key = shard.next_key();
                    reader.connected = Some(key);
                    io.by_key.insert(key, index);
                    assert_eq!(shard.open_stream(now, request, Access::Open, &mut io), key);
                }
                Some(key) if running && rng.random_ratio(1, 40) => shard.lost(now, key, &mut io),
                _ => {}
            }
        }
        bury(&mut io);
        for _ in 0..if rng.random_ratio(1, 12) { 0 } else { 6 } {
            let Some(message) = queue.pop_front() else { break };
            shard.upstream(now, message, &mut io);
        }
        shard.flush(now, &mut io);
        if shard.deadline().is_some_and(|due| due <= now.monotonic) {
            shard.advance(now, &mut io);
        }
        bury(&mut io);
        for index in 0..CLIENTS {
            let reader = &mut io.readers[index];
            if !running {
                reader.pace = usize::MAX;
            }
            let Some(key) = reader.connected else { continue };
            if reader.read(&log, &format!("seed {seed}, step {step}, client {index}")) {
                shard.writable(now, key, &mut io);
            }
        }
        bury(&mut io);
        requests.extend(io.requests.drain(..));
        for _ in 0..rng.random_range(0..8) {
            let Some(request) = requests.pop_front() else { break };
            queue.push_back(sequencer.serve(&request));
        }
    }
    sum_up(&io.readers, &log, seed)
}

/// Everybody has the newest value of all; what has happened.
fn sum_up(readers: &[Reader], log: &Log, seed: u64) -> Counts {
    let mut total = Counts::default();
    for (index, reader) in readers.iter().enumerate() {
        for (name, values) in log {
            let channel: Channel = name.1.parse().unwrap();
            let named = match &reader.request.targets {
                Targets::All => true,
                Targets::Named(ids) => ids.iter().any(|id| name.0 == format!("S{}", id.0)),
            };
            if named && reader.request.channels.contains(channel) {
                let context = format!("seed {seed}, client {index}: the end of {name:?}");
                assert_eq!(reader.last.get(name).copied(), Some(values.len() as u64), "{context}");
            }
        }
        let Counts { elements, recovered, gaps, snapshots, repeats } = reader.seen;
        total.elements += elements;
        total.recovered += recovered;
        total.gaps += gaps;
        total.snapshots += snapshots;
        total.repeats += repeats;
    }
    total
}

fn bury(io: &mut Sockets) {
    for (key, _) in std::mem::take(&mut io.gone) {
        if let Some(index) = io.by_key.remove(&key) {
            io.readers[index].cut();
        }
    }
}

#[test]
fn readers_that_are_cut_at_any_time_miss_nothing_undeclared() {
    let one: Option<u64> = std::env::var("HUB_SIMULATION_SEED").ok().and_then(|text| text.parse().ok());
    let mut total = Counts::default();
    for seed in one.map_or((1..=5).collect::<Vec<_>>(), |seed| vec![seed]) {
        let counts = run(seed, 900);
        total.elements += counts.elements;
        total.recovered += counts.recovered;
        total.gaps += counts.gaps;
        total.snapshots += counts.snapshots;
        total.repeats += counts.repeats;
    }
    println!("{total:?}");
    if one.is_none() {
        let all = [total.recovered, total.gaps, total.snapshots];
        assert!(all.iter().all(|count| *count > 20), "something did not happen: {total:?}");
    }
}

/// A socket that takes everything.
#[derive(Default)]
struct Sink {
    text: String,
    requests: Vec<Request>,
    gone: Vec<Disconnect>,
}

impl Io for Sink {
    fn write(&mut self, _: SessionKey, bytes: &[u8]) -> Written {
        self.text.push_str(std::str::from_utf8(bytes).unwrap());
        Written::Bytes(bytes.len())
    }

    fn request(&mut self, request: Request) {
        self.requests.push(request);
    }

    fn disconnect(&mut self, _: SessionKey, reason: Disconnect) {
        self.gone.push(reason);
    }
}

#[test]
fn a_stream_is_kept_alive_by_comments_and_ends_with_why() {
    let limits = Limits { ping_interval_ms: 100, pings_unanswered_max: 1, ..Limits::default() };
    let mut shard = Shard::new(ShardConfig { limits, heartbeat_ms: 0, ..ShardConfig::default() });
    let mut io = Sink::default();
    let at = |ms| Now { monotonic: Duration::from_millis(ms), wall: Timestamp(0) };
    let request = StreamRequest {
        channels: [Channel::Trades].into_iter().collect(),
        targets: Targets::All,
        mode: Mode::Every,
        after: None,
    };
    shard.open_stream(at(0), request, Access::Open, &mut io);
    assert_eq!(io.requests.len(), 1);
    assert!(io.text.starts_with("retry: ") && io.text.contains(r#"{"type":"welcome""#), "{}", io.text);
    io.text.clear();
    for ms in 0..500 {
        shard.advance(at(ms), &mut io);
    }
    // Nobody can answer them, and nobody has to.
    assert!(io.text.len() > 4 && io.text.replace(":\n", "").is_empty(), "{:?}", io.text);
    io.text.clear();
    shard.drain(at(500), Duration::from_millis(100), &mut io);
    assert!(io.text.starts_with("retry: ") && io.text.contains(r#""code":"draining""#), "{}", io.text);
    let wait = io.text[7..].lines().next().unwrap();
    assert!(io.text.contains(&format!(r#""reconnect_after_ms":{wait}"#)), "{}", io.text);
    for ms in 500..700 {
        shard.advance(at(ms), &mut io);
    }
    assert!(io.text.contains(r#"data: {"type":"closed","reason":"draining","code":1012,"may_reconnect":true"#));
    assert_eq!((io.gone.as_slice(), shard.session_count()), ([Disconnect::Draining].as_slice(), 0));
}

//! A sequencer and a shard with sockets that take everything: what benchmarks of the hub run on, and tests of its pace.

#![allow(dead_code, reason = "each user needs a part")]

use std::time::{Duration, Instant};

use hub::{
    Access, Compression, Disconnect, Io, Now, Request, Sequencer, SequencerConfig, SessionKey, Shard, ShardConfig,
    Upstream, Written,
};
use market::{
    AssetClass, Event, Instrument, InstrumentId, Level, Price, Quote, Side, Size, Symbol, Tick, Timestamp, Trade,
};
use wire::{Dialect, Encoding};

/// Sockets that take everything, and count it.
#[derive(Default)]
pub(crate) struct Sink {
    requests: Vec<Request>,
    pub(crate) frames: u64,
    bytes: u64,
}

impl Io for Sink {
    fn write(&mut self, _session: SessionKey, bytes: &[u8]) -> Written {
        self.frames += 1;
        self.bytes += bytes.len() as u64;
        Written::Bytes(bytes.len())
    }

    fn request(&mut self, request: Request) {
        self.requests.push(request);
    }

    fn disconnect(&mut self, _session: SessionKey, _reason: Disconnect) {}
}

pub(crate) struct Plant {
    pub(crate) sequencer: Sequencer,
    pub(crate) shard: Shard,
    pub(crate) sink: Sink,
    sessions: Vec<SessionKey>,
    symbols: u32,
    time: Duration,
    random: u64,
}

impl Plant {
    pub(crate) fn new(symbols: u32) -> Self {
        let mut sequencer = Sequencer::new(SequencerConfig::default());
        let instruments: Vec<Instrument> = (0..symbols).map(instrument).collect();
        let mut plant = Self {
            shard: Shard::new(ShardConfig { heartbeat_ms: 0, ..ShardConfig::default() }),
            sink: Sink::default(),
            sessions: Vec::new(),
            symbols,
            time: Duration::from_secs(1),
            random: 1,
            sequencer: Sequencer::new(SequencerConfig::default()),
        };
        let catalog = sequencer.add_instruments(&instruments);
        plant.sequencer = sequencer;
        plant.shard.upstream(plant.now(), catalog, &mut plant.sink);
        plant
    }

    pub(crate) fn now(&self) -> Now {
        Now { monotonic: self.time, wall: Timestamp(1_700_000_000_000_000_000) + self.time }
    }

    pub(crate) fn random(&mut self, below: u32) -> u32 {
        self.random = self.random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        ((self.random >> 33) % u64::from(below)) as u32
    }

    pub(crate) fn open(&mut self) -> SessionKey {
        let now = self.now();
        let key = self.shard.open(now, Dialect::NativeMessagePack, Compression::Off, Access::Open, &mut self.sink);
        self.sessions.push(key);
        key
    }

    pub(crate) fn command(&mut self, key: SessionKey, text: &str) {
        let now = self.now();
        self.shard.message(now, key, Encoding::Json, text.as_bytes(), &mut self.sink);
        for request in std::mem::take(&mut self.sink.requests) {
            let reply = self.sequencer.serve(&request);
            self.shard.upstream(now, reply, &mut self.sink);
        }
        // A second later the rate limit has forgotten the command.
        self.time += Duration::from_secs(1);
    }

    pub(crate) fn subscribe(&mut self, key: SessionKey, symbols: &[String]) {
        let symbols = symbols.join("\",\"");
        self.command(
            key,
            &format!(r#"{{"op":"subscribe","channels":["trades","quotes"],"symbols":["{symbols}"],"snapshot":false}}"#),
        );
    }

    pub(crate) fn subscribe_latest(&mut self, key: SessionKey, symbols: &[String]) {
        let symbols = symbols.join("\",\"");
        self.command(key, &format!(r#"{{"op":"subscribe","channels":["trades","quotes"],"symbols":["{symbols}"],"snapshot":false,"mode":"latest","interval_ms":100}}"#));
    }

    pub(crate) fn some_symbols(&mut self, count: u32) -> Vec<String> {
        (0..count).map(|_| format!("S{}", self.random(self.symbols))).collect()
    }

    /// A batch of so many ticks, spread over all symbols.
    pub(crate) fn batch(&mut self, ticks: u32) -> Upstream {
        let ticks: Vec<Tick> = (0..ticks).map(|n| tick(InstrumentId(self.random(self.symbols)), n)).collect();
        self.sequencer.ingest(&ticks).expect("a session wants trades and quotes")
    }

    /// Takes batches in and flushes; how long one took, and how many elements were delivered by it.
    pub(crate) fn fan_out(&mut self, ticks: u32, batches: u32) -> (Duration, f64) {
        let upstreams: Vec<Upstream> = (0..batches).map(|_| self.batch(ticks)).collect();
        let before = self.shard.stats().deliveries;
        let now = self.now();
        let begin = Instant::now();
        for upstream in upstreams {
            self.shard.upstream(now, upstream, &mut self.sink);
            self.shard.flush(now, &mut self.sink);
            while self.shard.is_amid_round() {
                self.shard.flush(now, &mut self.sink);
            }
        }
        (begin.elapsed(), (self.shard.stats().deliveries - before) as f64)
    }

    /// Takes batches in and lets the interval of mode `latest` pass after each; how long all took, and how many elements
    /// were delivered.
    pub(crate) fn conflate(&mut self, ticks: u32, batches: u32) -> (Duration, f64) {
        let before = self.shard.stats().deliveries;
        let mut took = Duration::ZERO;
        for _ in 0..batches {
            let upstream = self.batch(ticks);
            let now = self.now();
            self.time += Duration::from_millis(100);
            let later = self.now();
            let begin = Instant::now();
            self.shard.upstream(now, upstream, &mut self.sink);
            self.shard.advance(later, &mut self.sink);
            took += begin.elapsed();
        }
        (took, (self.shard.stats().deliveries - before) as f64)
    }
}

fn instrument(id: u32) -> Instrument {
    Instrument {
        id: InstrumentId(id),
        symbol: Symbol::new(&format!("S{id}")).expect("a symbol"),
        price_exponent: -2,
        size_exponent: -3,
        tick_size: Price(1),
        lot_size: Size(1),
        class: AssetClass::Crypto,
        currency: "USD".into(),
        description: String::new(),
    }
}

pub(crate) fn tick(instrument: InstrumentId, n: u32) -> Tick {
    let (price, size) = (Price(1_000_000 + i64::from(n)), Size(5_000));
    let event = if n.is_multiple_of(2) {
        Event::Trade(Trade { price, size, side: Side::Buy, trade_id: u64::from(n) })
    } else {
        let level = |price| Some(Level { price: Price(price), size });
        Event::Quote(Quote { bid: level(price.0 - 1), ask: level(price.0 + 1) })
    };
    Tick { instrument, time: Timestamp(1_700_000_000_000_000_000), event }
}

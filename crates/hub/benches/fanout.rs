//! What the hub itself costs, without sockets: per delivery as clients and symbols grow, per change of a subscription, per
//! tick that nobody wants. The columns should be flat.
//!
//! `cargo bench --package hub --bench fanout`

use std::time::{Duration, Instant};

use hub::{
    Compression, Disconnect, Io, Now, Request, Sequencer, SequencerConfig, SessionKey, Shard, ShardConfig, Upstream,
    Written,
};
use market::{
    AssetClass, Event, Instrument, InstrumentId, Level, Price, Quote, Side, Size, Symbol, Tick, Timestamp, Trade,
};
use wire::{Dialect, Encoding};

const RUNS: usize = 5;

/// Sockets that take everything, and count it.
#[derive(Default)]
struct Sink {
    requests: Vec<Request>,
    frames: u64,
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

struct Plant {
    sequencer: Sequencer,
    shard: Shard,
    sink: Sink,
    sessions: Vec<SessionKey>,
    symbols: u32,
    time: Duration,
    random: u64,
}

impl Plant {
    fn new(symbols: u32) -> Self {
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

    fn now(&self) -> Now {
        Now { monotonic: self.time, wall: Timestamp(1_700_000_000_000_000_000) + self.time }
    }

    fn random(&mut self, below: u32) -> u32 {
        self.random = self.random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        ((self.random >> 33) % u64::from(below)) as u32
    }

    fn open(&mut self) -> SessionKey {
        let now = self.now();
        let key = self.shard.open(now, Dialect::NativeMessagePack, Compression::Off, &mut self.sink);
        self.sessions.push(key);
        key
    }

    fn command(&mut self, key: SessionKey, text: &str) {
        let now = self.now();
        self.shard.message(now, key, Encoding::Json, text.as_bytes(), &mut self.sink);
        for request in std::mem::take(&mut self.sink.requests) {
            let reply = self.sequencer.serve(&request);
            self.shard.upstream(now, reply, &mut self.sink);
        }
        // A second later the rate limit has forgotten the command.
        self.time += Duration::from_secs(1);
    }

    fn subscribe(&mut self, key: SessionKey, symbols: &[String]) {
        let symbols = symbols.join("\",\"");
        self.command(
            key,
            &format!(r#"{{"op":"subscribe","channels":["trades","quotes"],"symbols":["{symbols}"],"snapshot":false}}"#),
        );
    }

    fn some_symbols(&mut self, count: u32) -> Vec<String> {
        (0..count).map(|_| format!("S{}", self.random(self.symbols))).collect()
    }

    /// A batch of so many ticks, spread over all symbols.
    fn batch(&mut self, ticks: u32) -> Upstream {
        let ticks: Vec<Tick> = (0..ticks).map(|n| tick(InstrumentId(self.random(self.symbols)), n)).collect();
        self.sequencer.ingest(&ticks).expect("a session wants trades and quotes")
    }

    /// Takes batches in and flushes; how long one took, and how many elements were delivered by it.
    fn fan_out(&mut self, ticks: u32, batches: u32) -> (Duration, f64) {
        let upstreams: Vec<Upstream> = (0..batches).map(|_| self.batch(ticks)).collect();
        let before = self.shard.stats().deliveries;
        let now = self.now();
        let begin = Instant::now();
        for upstream in upstreams {
            self.shard.upstream(now, upstream, &mut self.sink);
            self.shard.flush(now, &mut self.sink);
        }
        (begin.elapsed(), (self.shard.stats().deliveries - before) as f64)
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

fn tick(instrument: InstrumentId, n: u32) -> Tick {
    let (price, size) = (Price(1_000_000 + i64::from(n)), Size(5_000));
    let event = if n.is_multiple_of(2) {
        Event::Trade(Trade { price, size, side: Side::Buy, trade_id: u64::from(n) })
    } else {
        let level = |price| Some(Level { price: Price(price), size });
        Event::Quote(Quote { bid: level(price.0 - 1), ask: level(price.0 + 1) })
    };
    Tick { instrument, time: Timestamp(1_700_000_000_000_000_000), event }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    println!("clients on one lane of everything, batches of 100 ticks");
    println!("  clients   ns per frame   ns per delivery");
    for clients in [10, 100, 1_000, 10_000, 100_000] {
        let mut plant = Plant::new(1_000);
        for _ in 0..clients {
            let key = plant.open();
            plant.subscribe(key, &["*".to_owned()]);
        }
        let batches = (1_000_000 / clients).clamp(3, 10_000);
        let run = |_| {
            let (took, deliveries) = plant.fan_out(100, batches);
            let frames = f64::from(batches) * f64::from(clients);
            (took.as_nanos() as f64 / frames, took.as_nanos() as f64 / deliveries)
        };
        let (frame, delivery): (Vec<f64>, Vec<f64>) = (0..RUNS).map(run).unzip();
        println!("  {clients:>7} {:>14.1} {:>17.2}", median(frame), median(delivery));
    }

    println!("1,000 clients, each with 20 symbols of its own, batches of 100 ticks");
    println!("  symbols   ns per delivery   ns per tick");
    for symbols in [20, 100, 1_000, 10_000] {
        let mut plant = Plant::new(symbols);
        for _ in 0..1_000 {
            let key = plant.open();
            let wanted = plant.some_symbols(20);
            plant.subscribe(key, &wanted);
        }
        let run = |_| {
            let (took, deliveries) = plant.fan_out(100, 200);
            (took.as_nanos() as f64 / deliveries, took.as_nanos() as f64 / 20_000.0)
        };
        let (delivery, tick): (Vec<f64>, Vec<f64>) = (0..RUNS).map(run).unzip();
        println!("  {symbols:>7} {:>17.1} {:>13.0}", median(delivery), median(tick));
    }

    println!("so many sessions, each with 20 of 10,000 symbols: what one more change costs, in ns");
    println!("  sessions   subscribe 20   one more symbol   one less   leave   a tick that nobody wants");
    for sessions in [100, 1_000, 10_000, 100_000] {
        let mut plant = Plant::new(10_000);
        for _ in 0..sessions {
            let key = plant.open();
            let wanted = plant.some_symbols(20);
            plant.subscribe(key, &wanted);
        }
        let mut costs: [Vec<f64>; 4] = Default::default();
        for _ in 0..200 {
            let key = plant.open();
            let mut timed = |plant: &mut Plant, which: usize, act: &mut dyn FnMut(&mut Plant)| {
                let begin = Instant::now();
                act(plant);
                costs[which].push(begin.elapsed().as_nanos() as f64);
            };
            let wanted = plant.some_symbols(20);
            timed(&mut plant, 0, &mut |plant| plant.subscribe(key, &wanted));
            let other = plant.some_symbols(1);
            timed(&mut plant, 1, &mut |plant| plant.subscribe(key, &other));
            let less = format!(r#"{{"op":"unsubscribe","channels":["trades","quotes"],"symbols":["{}"]}}"#, other[0]);
            timed(&mut plant, 2, &mut |plant| plant.command(key, &less));
            let now = plant.now();
            timed(&mut plant, 3, &mut |plant| plant.shard.lost(now, key, &mut plant.sink));
        }
        // Quotes of the last symbol are cancelled by all who had them, so its ticks are looked up and dropped.
        let mut lonely = Plant::new(10_000);
        let key = lonely.open();
        lonely.subscribe(key, &["S0".to_owned()]);
        let ticks: Vec<Tick> = (0..10_000).map(|n| tick(InstrumentId(1 + n % 9_999), n)).collect();
        let batch = lonely.sequencer.ingest(&ticks).expect("trades and quotes are wanted");
        let now = lonely.now();
        let begin = Instant::now();
        lonely.shard.upstream(now, batch, &mut lonely.sink);
        lonely.shard.flush(now, &mut lonely.sink);
        let unwanted = begin.elapsed().as_nanos() as f64 / 10_000.0;
        let [subscribe, more, less, leave] = costs.map(median);
        println!("  {sessions:>8} {subscribe:>14.0} {more:>17.0} {less:>10.0} {leave:>7.0} {unwanted:>26.1}");
    }
}

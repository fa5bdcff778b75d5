//! Messages and elements per second through the engine, from the payload of a frame to typed events in order, of both
//! encodings: `cargo bench -p tickerplant-client`.
//!
//! Each figure is the best of several rounds, in processor time. A message has 20 elements, trades and quotes in turn, as a
//! lively market's frames do; then the same with one element, which is what an idle market sends.

use std::hint::black_box;
use std::time::Duration;

use market::{
    AssetClass, ChannelSet, Event, Instrument, InstrumentId, Level, Price, Quote, Side, Size, Symbol, Timestamp, Trade,
};
use rustix::time::{ClockId, clock_gettime};
use tickerplant_client::engine::{Config, Engine, Now};
use tickerplant_client::{Channel, Subscription};
use wire::{
    Dialect, Encoding, FrameKind, Limits, Mode, ServerMessage, begin_data, encode_element, encode_message, end_data,
};

const ROUNDS: u64 = 15;
const ELEMENTS: u64 = 200_000;
const NOW: Now = Now { monotonic: Duration::ZERO, wall: Timestamp(0) };

/// Of this thread, so that what else runs on the machine does not count.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

fn main() {
    for per_message in [20, 1] {
        for (dialect, encoding) in
            [(Dialect::NativeMessagePack, Encoding::MessagePack), (Dialect::NativeJson, Encoding::Json)]
        {
            measure(dialect, encoding, per_message);
        }
    }
}

fn instrument() -> Instrument {
    Instrument {
        id: InstrumentId(7),
        symbol: Symbol::new("BTC-USD").expect("a symbol"),
        price_exponent: -2,
        size_exponent: -4,
        tick_size: Price(1),
        lot_size: Size(1),
        class: AssetClass::Crypto,
        currency: "USD".into(),
        description: String::new(),
    }
}

fn measure(dialect: Dialect, encoding: Encoding, per_message: u64) {
    let mut best = Duration::MAX;
    let (mut engine, mut bytes, mut seq) = (subscribed(dialect, encoding), 0, 1);
    for _ in 0..ROUNDS {
        // A number a pair, or with one element a message a number each.
        let step = per_message.div_ceil(2);
        let count = ELEMENTS / per_message;
        let messages: Vec<_> = (0..count).map(|n| message(dialect, seq + n * step, per_message)).collect();
        seq += count * step;
        bytes = messages.iter().map(Vec::len).sum::<usize>();
        let begin = processor_time();
        for message in &messages {
            engine.message(black_box(message), NOW);
            black_box(engine.take_events());
        }
        best = best.min(processor_time().saturating_sub(begin));
    }
    let counters = engine.counters();
    let per_second = |count: u64| count as f64 / best.as_secs_f64() / 1e6;
    println!(
        "{:18} {per_message:3} elements a message: {:7.3} M messages/s {:7.2} M elements/s {:6.1} ns and {:5.1} B an element{}",
        dialect.subprotocol(),
        per_second(ELEMENTS / per_message),
        per_second(ELEMENTS),
        best.as_nanos() as f64 / ELEMENTS as f64,
        bytes as f64 / ELEMENTS as f64,
        if counters.duplicates + counters.gaps > 0 { "  (NOT IN ORDER)" } else { "" },
    );
}

/// An engine that has subscribed.
fn subscribed(dialect: Dialect, encoding: Encoding) -> Engine {
    let mut engine = Engine::new(Config { encoding, ..Config::default() }, NOW);
    engine.connected(NOW);
    let _ = engine.request(Subscription::to([Channel::Trades, Channel::Quotes], ["BTC-USD"]));
    let control = |message: &ServerMessage<'_>, engine: &mut Engine| {
        let mut out = Vec::new();
        encode_message(dialect, message, &mut out);
        engine.message(&out, NOW);
    };
    let (time, limits) = (Timestamp(0), Limits::default());
    control(
        &ServerMessage::Welcome { version: "1", session: "s", epoch: "e", time, heartbeat_ms: 0, limits: &limits },
        &mut engine,
    );
    let channels: ChannelSet = [Channel::Trades, Channel::Quotes].into_iter().collect();
    let instrument = instrument();
    control(
        &ServerMessage::Subscribed {
            id: None,
            instruments: &[&instrument],
            channels,
            mode: Mode::Every,
            recovered: &[],
        },
        &mut engine,
    );
    engine.take_events();
    engine
}

/// A frame of trades and quotes in turn, numbered from `seq` on.
fn message(dialect: Dialect, seq: u64, count: u64) -> Vec<u8> {
    let instrument = instrument();
    let (price, size) = (Price(968_219), Size(12_345));
    let level = Some(Level { price, size });
    let trade = Event::Trade(Trade { price, size, side: Side::Buy, trade_id: 123_456_789 });
    let quote = Event::Quote(Quote { bid: level, ask: level });
    let mut out = Vec::new();
    let time = Timestamp(1_719_840_600_000_000_000 + seq);
    begin_data(dialect, FrameKind::Live, time, count as usize, &mut out);
    for n in 0..count {
        let (event, seq) = ([&trade, &quote][n as usize % 2], seq + n / 2);
        encode_element(dialect, &instrument, seq, time, event, &mut out);
    }
    end_data(dialect, &mut out);
    out
}
